"""PostgreSQL stopped as by a crash and started again, while processes and threads commit: what becomes of the commits.

    python tests/faults/postgresql_restarts.py --restarts 20

Each worker appends its numbers to a list of its own and counts in an object that all share, in one commit. It notes a number
as acknowledged when the commit has returned. In the end the numbers in the store are those acknowledged, each once and in
order, and the shared count is their number.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import postgres_server

import pstore


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
                    counts["uncertain"] += 1
            counts["acknowledged"] += 1
            number += 1
        except pstore.ConflictError:
            counts["conflicts"] += 1
        except (pstore.ConnectionLost, pstore.StoreLocked):
            counts["lost connections"] += 1
    db.rollback()
    db.close()


def process(url: str, name: str, threads: int, ready: Any, stop: Any, results: Any) -> None:  # noqa: PLR0917
    """Run the threads of one process; report (name, counts) of each."""
    kinds = ("acknowledged", "conflicts", "lost connections", "uncertain")
    counts = {f"{name}-{thread}": dict.fromkeys(kinds, 0) for thread in range(threads)}
    running = [threading.Thread(target=work, args=(url, one, ready, stop, counts[one])) for one in counts]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    results.put(counts)


def main() -> int:
    """Do it, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    context = multiprocessing.get_context("spawn")
    server = postgres_server.Server()
    try:
        url = server.url("restarts", timeout=20)
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
        for _ in range(options.restarts):
            time.sleep(chance.uniform(0.05, 0.5))
            server.stop("immediate")
            time.sleep(chance.choice([0, 0.2]))
            server.start()
        time.sleep(0.5)
        stop.set()
        counts: dict[str, dict[str, int]] = {}
        for _ in processes:
            counts.update(results.get(timeout=60))
        for one in processes:
            one.join()
        return report(url, counts, options.restarts)
    finally:
        server.close()


def report(url: str, counts: dict[str, dict[str, int]], restarts: int) -> int:
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
    print(f"{lost} lost, {half} half, {twice} twice, {unacknowledged} stored and not acknowledged")
    return 1 if lost or half or twice or unacknowledged or not total["acknowledged"] else 0


if __name__ == "__main__":
    sys.exit(main())
