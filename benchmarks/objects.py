"""What objects of a store cost, next to what they would cost anyway.

    python benchmarks/objects.py [--rounds 9] [--objects 20000]

It is one run. In each round everything is timed once, one right after the other, each with what it is compared with; shown
are medians over the rounds, with the least and the most. The time is that of the processor (`time.process_time_ns`); the
cyclic garbage collector is run before each timing and rests meanwhile.

- **comparing**: a commit when every object was touched and none has changed, per object; what remains of the commit when
  nothing was touched is taken off. It includes putting the objects back behind the barrier.
- **waking**: a ghost's first touch, per object, to *loading*: its row read from the same backend, unsealed, unpickled with a
  reused unpickler, and its state applied to an instance of the class.
- **an attribute** of an object that was loaded, committed and touched, to that of an equal object that has never seen a store.
"""

# ruff: noqa: B018 - attributes are read for the time that it takes

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from typing import TYPE_CHECKING, Any

import pstore
import pstore.pickle
from pstore import rows
from pstore.backends import MemoryBackend
from pstore.pickle import Unpickler

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is promised, in microseconds and as a ratio; measured on Python 3.11 with the native engine.
GOALS = {"comparing": 1.0, "waking, over loading": 2.0, "an attribute, to one without a store": 1.03}


@pstore.persistent
class Small:
    """An object as many are."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"name {number}"
        self.share = number / 7


@pstore.persistent
class Linked:
    """An object that refers to another one, and has a list of its own."""

    def __init__(self, number: int, other: Any) -> None:
        self.number = number
        self.other = other
        self.tags = ["tag", number]


@pstore.persistent
class Slotted:
    """An object with slots."""

    __slots__ = ("name", "number", "share")

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"name {number}"
        self.share = number / 7


KINDS: dict[str, Callable[[int, Any], Any]] = {
    "small": lambda number, _: Small(number),
    "with slots": lambda number, _: Slotted(number),
    "linked, with a list": Linked,
}


def timed(run: Callable[[], Any]) -> float:
    """Nanoseconds of the processor's time."""
    gc.collect()
    gc.disable()
    start = time.process_time_ns()
    run()
    took = time.process_time_ns() - start
    gc.enable()
    return took


def touch(objs: list[Any]) -> None:
    for obj in objs:
        obj.number


def read_attribute(obj: Any, times: int) -> None:
    for _ in range(times):
        obj.number, obj.number, obj.number, obj.number, obj.number, obj.number, obj.number, obj.number


def fresh(function: Any) -> Any:
    """A copy of a function that the interpreter hasn't adapted to any object yet."""
    return type(function)(function.__code__.replace(), function.__globals__)


class Bench:
    """A store with objects of one kind, ready to be opened again and again."""

    def __init__(self, kind: str, objects: int) -> None:
        self.make = KINDS[kind]
        self.backend = MemoryBackend()
        other = Small(0)
        with pstore.open(self.backend, allow=["__main__"]) as db:
            db["other"] = other
            db["all"] = [self.make(number, other) for number in range(objects)]
        self.objects = objects

    def round(self, took: dict[str, list[float]]) -> None:
        with pstore.open(self.backend, allow=["__main__"], cache_size=4 * self.objects) as db:
            objs = list(db["all"])
            keys = [db.key_of(obj) for obj in objs]
            waking = timed(lambda: touch(objs)) / self.objects
            first = timed(db.commit) / self.objects
            nothing = timed(db.commit) / self.objects
            resident = timed(lambda: touch(objs)) / self.objects
            second = timed(db.commit) / self.objects
            touch(objs)
            obj = objs[self.objects // 2]
            plain = self.make(self.objects // 2, objs[0])
            attribute, without = self.attribute(obj, plain)
            loading = self.loading(keys, type(obj), db)
        took["comparing"].append(second - nothing)
        took["comparing, the first time"].append(first - nothing)
        took["touching again"].append(resident)
        took["waking"].append(waking)
        took["loading"].append(loading)
        took["waking, over loading"].append(waking - loading)
        took["an attribute"].append(attribute)
        took["an attribute without a store"].append(without)
        took["an attribute, to one without a store"].append(attribute / without)

    @staticmethod
    def attribute(obj: Any, plain: Any) -> tuple[float, float]:
        """Nanoseconds of an attribute's access, of either; the least of some, in turn."""
        times = 30_000
        found: list[list[float]] = [[], []]
        ways = [fresh(read_attribute), fresh(read_attribute)]
        for _ in range(7):
            for at, one in enumerate((obj, plain)):
                found[at].append(timed(lambda at=at, one=one: ways[at](one, times)) / times / 8)
        return min(found[0]), min(found[1])

    def loading(self, keys: list[Any], cls: type, db: Any) -> float:
        """Nanoseconds that reading each record and putting its state into an instance takes."""
        reader = self.backend.begin()
        objects = {key: db.object_at(key) for key in [db.key_of(db["other"])]}
        unpickler = Unpickler(persistent_objects=objects)
        get_many, unseal, place, new = reader.get_many, rows.unseal, rows.record_place, object.__new__
        made = []

        def run() -> None:
            for key in keys:
                (row,) = get_many("records", [key])
                unpickler.feed(unseal(place(key), row).body)
                obj = new(cls)
                unpickler.load_state(obj)
                made.append(obj)

        took = timed(run) / self.objects
        reader.rollback()
        assert made[-1].number == self.objects - 1
        return took


def shown(values: list[float], what: str) -> str:
    """Median, least and most."""
    scale = 1.0 if "to one" in what else 1000.0 if not what.startswith("an attribute") else 1.0
    unit = "" if "to one" in what else " ns" if what.startswith("an attribute") else " us"
    least, middle, most = min(values) / scale, statistics.median(values) / scale, max(values) / scale
    return f"{middle:.2f}{unit} | {least:.2f} to {most:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--json", help="a file to write what was measured to")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, engine {pstore.pickle.engine}, {arguments.objects:,} objects")
    results: dict[str, dict[str, list[float]]] = {}
    for kind in KINDS:
        bench = Bench(kind, arguments.objects)
        names = [
            *("comparing", "comparing, the first time", "touching again", "waking", "loading", "waking, over loading"),
            *("an attribute", "an attribute without a store", "an attribute, to one without a store"),
        ]
        results[kind] = {name: [] for name in names}
        for _ in range(arguments.rounds):
            bench.round(results[kind])
        print(f"\n### {kind}\n\n| what | median | least to most |\n|---|---|---|")
        for name, values in results[kind].items():
            print(f"| {name} | {shown(values, name)} |")
    print("\n### promised of small objects\n\n| what | at most | measured | |\n|---|---|---|---|")
    met = True
    for name, most in GOALS.items():
        median = statistics.median(results["small"][name])
        found = median if "to one" in name else median / 1000
        met = met and found <= most
        print(f"| {name} | {most} | {found:.2f} | {'met' if found <= most else 'NOT MET'} |")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:  # noqa: PTH123  # a path from the command line
            json.dump(results, file, indent=1)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
