"""How much memory large graphs take: `python benchmarks/graph.py [--objects 1000000] [--cache 10000]`.

Stores a graph of that many objects, and one as large as the cache, both through savepoints, walks each in a new process,
and compares the most memory that the walks have taken. Then stores a chain of that many objects and walks it in one
transaction, under the interpreter's own recursion limit. Memory is what the process had resident at most (`VmHWM`), and
what Python's allocators had handed out at most (`tracemalloc`, in a second process, as it is slow).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pstore

BRANCH = 1000  # objects a branch, itself included


@pstore.persistent
class Node:
    """An object of either graph."""

    def __init__(self, number: int, following: Any = None) -> None:
        self.number = number
        self.following = following


Node.__module__ = "__main__"
pstore.persistent(Node)


def store_graph(path: Path, objects: int, cache: int) -> None:
    with pstore.open(path, "n", cache_size=cache) as db:
        root = db["root"] = Node(0, [])
        for first in range(0, objects, BRANCH):
            root.following.append(Node(first, [Node(first + number) for number in range(1, BRANCH)]))
            db.savepoint()


def store_chain(path: Path, objects: int, cache: int) -> None:
    with pstore.open(path, "n", cache_size=cache) as db:
        node = None
        for number in range(objects):
            node = Node(number, node)
        db["root"] = node


def walk_graph(path: Path, cache: int) -> int:
    count = 0
    with pstore.open(path, cache_size=cache) as db:
        for branch in db["root"].following:
            count += 1 + sum(leaf.number > 0 for leaf in branch.following)
            db.rollback()
    return count


def walk_chain(path: Path, cache: int) -> int:
    count = 0
    with pstore.open(path, cache_size=cache) as db:
        node = db["root"]
        while node is not None:
            count += 1
            node = node.following
    return count


def peak() -> int:
    """The most memory that this process has had, in KiB."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def measured(function: str, traced: str, path: Path, cache: int) -> None:
    """In a process of its own: walk, and print what it took."""
    before = peak()
    if traced == "traced":
        tracemalloc.start()
    start = time.process_time()
    count = {"graph": walk_graph, "chain": walk_chain}[function](path, cache)
    seconds = time.process_time() - start
    taken = tracemalloc.get_traced_memory()[1] // 1024 if traced == "traced" else peak() - before
    print(count, seconds, taken)


def walk(function: str, path: Path, cache: int) -> tuple[int, int]:
    """Walk in new processes; return the peaks of resident memory above that of the interpreter, and of what was traced."""
    peaks = []
    for traced in ("resident", "traced"):
        command = [sys.executable, __file__, "--measure", function, traced, str(path), str(cache)]
        count, seconds, taken = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        peaks.append(int(taken))
        if traced == "resident":
            micro = float(seconds) * 1e6 / int(count)
            print(f"  {int(count):,} objects walked in {float(seconds):.1f} s, {micro:.1f} us each")
    print(f"  at most {peaks[0] / 1024:.1f} MiB resident above the interpreter's, {peaks[1] / 1024:.1f} MiB traced")
    return peaks[0], peaks[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--cache", type=int, default=10_000)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        function, traced, path, cache = options.measure
        measured(function, traced, Path(path), int(cache))
        return
    with tempfile.TemporaryDirectory() as directory:
        peaks = []
        for objects in (options.cache, options.objects):
            path = Path(directory, "graph.db")
            start = time.process_time()
            store_graph(path, objects, options.cache)
            print(f"graph of {objects:,} objects: stored in {time.process_time() - start:.1f} s")
            peaks.append(walk("graph", path, options.cache))
        resident, traced = (large / small for small, large in zip(*peaks, strict=True))
        print(f"  {resident:.2f} times the resident memory of the small graph, {traced:.2f} times the traced")
        path = Path(directory, "chain.db")
        start = time.process_time()
        store_chain(path, options.objects, options.cache)
        print(f"chain of {options.objects:,} objects: stored in {time.process_time() - start:.1f} s")
        walk("chain", path, options.cache)


main()
