"""PostgreSQL stopped as by a crash and started again, and connections cut at a COMMIT: what becomes of the commits.

    python tests/faults/postgresql_restarts.py --restarts 40 --doubts 200

Processes and threads commit through a proxy, which cuts a connection before the server gets a COMMIT, or before the client
gets the answer; now and then it takes no new connections for a moment, so that the commit can't be looked up at once. The
backend then says that the commit is in doubt, and the session looks up whether it was made. Each worker appends its numbers to a list of its own and counts in an object that all share, in one commit. It notes a number
as acknowledged when the commit has returned. In the end the numbers in the store are those acknowledged, each once and in
order, and the shared count is their number, and each commit that was in doubt was found out.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import postgres_server
from proxy import Proxy

import pstore
from pstore.backends._postgresql_transaction import PostgresqlTransaction
from pstore.transactions import Transactions


class Doubts:
    """Counts the commits that the backend left in doubt in this process, and what the look-ups have found."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("in doubt", "found made", "found not made"), 0)
        self._lock = threading.Lock()
        commit, look_up = PostgresqlTransaction.commit, Transactions.has_logged

        def counted_commit(transaction: PostgresqlTransaction) -> None:
            try:
                commit(transaction)
            except pstore.CommitUncertain:
                self._count("in doubt")
                raise

        def counted_look_up(transactions: Transactions, revision: int, row: bytes) -> bool:
            made = look_up(transactions, revision, row)
            self._count("found made" if made else "found not made")
            return made

        PostgresqlTransaction.commit = counted_commit  # type: ignore[method-assign]
        Transactions.has_logged = counted_look_up  # type: ignore[method-assign]

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


class Cuts(threading.Thread):
    """Has the proxy cut connections at COMMITs until it is told to stop."""

    def __init__(self, proxy: Proxy, seed: int) -> None:
        super().__init__(daemon=True)
        self.made = 0
        self._proxy, self._chance, self._ended = proxy, random.Random(seed), threading.Event()

    def run(self) -> None:
        """Cut again and again."""
        proxy, chance = self._proxy, self._chance
        while not self._ended.wait(chance.uniform(0.01, 0.1)):
            proxy.down_after_cut = chance.random() < 0.25
            proxy.cut = chance.choice(["before", "after"])
            while proxy.cut and not self._ended.wait(0.005):
                pass
            self.made += not proxy.cut
            if proxy.down_after_cut:
                time.sleep(chance.uniform(0, 1.5))
                proxy.down = False
        proxy.cut, proxy.down_after_cut, proxy.down = "", False, False

    def end(self) -> None:
        """Stop it."""
        self._ended.set()
        self.join()


def work(url: str, name: str, ready: Any, stop: Any, counts: dict[str, int]) -> None:
    """Commit until told to stop; count what was acknowledged and what went wrong."""
    db, number = pstore.open(url), 0
    db.run(lambda db: db.__setitem__(name, []))
    ready.release()
    while not stop.is_set():
        try:
            db.rollback()
            db[name].append(number)
            db["count"] = db["count"] + 1
            while True:
                try:
                    db.commit()
                    break
                except pstore.CommitUncertain:
                    counts["looked up later"] += 1
            counts["acknowledged"] += 1
            number += 1
        except pstore.ConflictError:
            counts["conflicts"] += 1
        except (pstore.ConnectionLost, pstore.StoreLocked):
            counts["lost connections"] += 1
    while True:
        try:
            db.rollback()
            break
        except (pstore.ConnectionLost, pstore.StoreLocked):
            counts["lost connections"] += 1
    db.close()


def process(url: str, name: str, threads: int, ready: Any, stop: Any, results: Any) -> None:  # noqa: PLR0917
    """Run the threads of one process; report (name, counts) of each."""
    kinds = ("acknowledged", "conflicts", "lost connections", "looked up later")
    doubts = Doubts()
    counts = {f"{name}-{thread}": dict.fromkeys(kinds, 0) for thread in range(threads)}
    running = [threading.Thread(target=work, args=(url, one, ready, stop, counts[one])) for one in counts]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    results.put((counts, doubts.counts))


def main() -> int:
    """Do it, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--doubts", type=int, default=0, help="go on until at least so many COMMITs were cut")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    context = multiprocessing.get_context("spawn")
    server = postgres_server.Server()
    try:
        proxy = Proxy(server.port)
        url = server.url("restarts", port=proxy.port, timeout=1)
        with pstore.open(url) as db:
            db["count"] = 0
        ready, stop, results = context.Semaphore(0), context.Event(), context.Queue()
        processes = [
            context.Process(target=process, args=(url, f"p{number}", options.threads, ready, stop, results))
            for number in range(options.processes)
        ]
        for one in processes:
            one.start()
        for _ in range(options.processes * options.threads):
            assert ready.acquire(timeout=60)
        cuts = Cuts(proxy, options.seed)
        cuts.start()
        restarts = 0
        while restarts < options.restarts or cuts.made < options.doubts:
            restarts += 1
            time.sleep(chance.uniform(0.05, 1.5))
            server.stop("immediate")
            time.sleep(chance.choice([0, 0.2]))
            server.start()
        time.sleep(0.5)
        cuts.end()
        stop.set()
        counts: dict[str, dict[str, int]] = {}
        doubts: collections.Counter[str] = collections.Counter()
        for _ in processes:
            told, found = results.get(timeout=120)
            counts.update(told)
            doubts.update(found)
        for one in processes:
            one.join()
        return report(server.url("restarts"), counts, doubts, restarts)
    finally:
        server.close()


def report(url: str, counts: dict[str, dict[str, int]], doubts: collections.Counter[str], restarts: int) -> int:
    """Compare the store with what was acknowledged; print it, and return the status to exit with."""
    lost = half = twice = 0
    with pstore.open(url, "r") as db:
        for name, told in counts.items():
            numbers = list(db[name])
            lost += len(set(range(told["acknowledged"])) - set(numbers))
            twice += len(numbers) - len(set(numbers))
            half += numbers != sorted(numbers)
        half += abs(db["count"] - sum(len(db[name]) for name in counts))
        unacknowledged = db["count"] - sum(told["acknowledged"] for told in counts.values())
    total = {kind: sum(told[kind] for told in counts.values()) for kind in next(iter(counts.values()))}
    print(f"{restarts} restarts, {len(counts)} writers: {', '.join(f'{total[kind]} {kind}' for kind in total)}")
    print(", ".join(f"{doubts[kind]} {kind}" for kind in ("in doubt", "found made", "found not made")))
    print(f"{lost} lost, {half} half, {twice} twice, {unacknowledged} stored and not acknowledged")
    open_doubts = doubts["in doubt"] - doubts["found made"] - doubts["found not made"]
    wrong = lost or half or twice or unacknowledged or open_doubts
    return 1 if wrong or not total["acknowledged"] or not doubts["in doubt"] else 0


if __name__ == "__main__":
    sys.exit(main())
