"""A store on a PostgreSQL server at a distance: commits a second, round trips, and a walk over many objects.

    python benchmarks/remote.py

It starts a server of its own on this machine. The distance is made by a proxy that delays each direction, so a round
trip takes twice that and what the machine needs besides.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import postgres_server
from proxy import Proxy

import pstore
from pstore.backends import open_backend


class Node:
    """A node of a tree."""

    def __init__(self, children: list[Node]) -> None:
        self.children = children


pstore.persistent(Node)


def tree(width: int, levels: int) -> Node:
    return Node([tree(width, levels - 1) for _ in range(width)] if levels else [])


def walk(node: Node) -> int:
    """Visit level by level, as read-ahead likes it best; return how many there are."""
    level, seen = [node], 0
    while level:
        seen += len(level)
        level = [child for node in level for child in node.children]
    return seen


def write(url: str, name: str, seconds: float, start: Any, results: Any) -> None:
    """Commit to a name of one's own for so long; report how many commits."""
    with pstore.open(url) as db:
        db[name] = 0
        db.commit()
        start.wait()
        done, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            db.run(lambda db: db.__setitem__(name, db[name] + 1))
            done += 1
    results.put(done)


def rate(url: str, writers: int, seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(writers), context.Queue()
    processes = [
        context.Process(target=write, args=(url, f"w{writers}-{number}", seconds, start, results))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    done = sum(results.get() for _ in processes)
    for process in processes:
        process.join()
    return done / seconds


def trips(backend: Any) -> int:
    return int(backend.pool.round_trips)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", type=float, nargs="*", default=[0, 1], help="of each direction, in milliseconds")
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    server = postgres_server.Server()
    with pstore.open(server.url("bench")) as db:
        db["tree"] = tree(21, 3)
        count = walk(db["tree"])
    bulk(server.url("bulk"))
    for delay in options.delays:
        proxy = Proxy(server.port, delay / 1000)
        url = server.url("bench", port=proxy.port, timeout=60)
        backend = open_backend(url)
        began, before = time.perf_counter(), trips(backend)
        for _ in range(50):
            backend.begin().rollback()
        print(
            f"\ndelay {delay} ms each way: {(time.perf_counter() - began) / (trips(backend) - before) * 1000:.2f} ms a trip"
        )
        db = pstore.open(backend)
        db["own"] = 0
        db.commit()
        before = trips(backend)
        for _ in range(10):
            db["own"] += 1
            db.commit()
        print(f"round trips of a commit that reads and writes one name: {(trips(backend) - before) / 10}")
        before, began = trips(backend), time.perf_counter()
        assert walk(db["tree"]) == count
        print(f"walk over {count} objects: {trips(backend) - before} round trips, {time.perf_counter() - began:.2f} s")
        db.close()
        backend.close()
        for writers in options.writers:
            print(f"{writers} writers: {rate(url, writers, options.seconds):.0f} commits a second")
        proxy.close()
    server.close()


def bulk(url: str) -> None:
    """Print how fast rows are written in one transaction: by `unnest`, as the backend does, and by COPY."""
    rows = [(key, bytes(200)) for key in range(200_000)]
    backend = open_backend(url)
    began = time.perf_counter()
    writer = backend.begin(write=True)
    writer.put_many("records", rows)
    writer.commit()
    print(f"{len(rows)} rows of 200 bytes: {len(rows) / (time.perf_counter() - began):.0f} rows a second")
    connection = backend.pool.lease()  # type: ignore[attr-defined]
    began = time.perf_counter()
    connection.execute("BEGIN; CREATE TEMPORARY TABLE copied (key bigint, value bytea) ON COMMIT DROP")
    with connection.cursor().copy("COPY copied FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int8", "bytea"])
        for key, row in rows:
            copy.write_row((key + 10**9, row))
    connection.execute(
        "INSERT INTO bulk.log SELECT * FROM copied ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    connection.execute("COMMIT")
    print(f"the same by COPY into a temporary table: {len(rows) / (time.perf_counter() - began):.0f} rows a second")
    backend.pool.give_back(connection)  # type: ignore[attr-defined]
    backend.close()


if __name__ == "__main__":
    main()
