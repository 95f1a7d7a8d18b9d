"""How fast the pickle engines are, next to the standard library's C pickle.

    python benchmarks/engines.py

It is one run. Each round times everything that does the same work, one right after the other and in an order that changes, so
that what else the machine does meets all of them alike. What is shown is the ratio to the standard module within a round:
median, least and most over the rounds. The time is that of the processor (`time.process_time_ns`), with the cyclic garbage
collector on, as programs have it, and run before each timing. It looks only at what a run makes: all that was there before is
frozen (`gc.freeze`), else this program's own data would be looked through again and again, and whoever builds the most objects
would seem slower than it is. `--gc off` tells what the collector has to do with a result.

Memory is how far the kernel's record of a process (VmHWM on Linux) rises above what it had before, in a process of its own
that does the work once: the result is in it.

What is timed is checked: a stream must load as what was dumped, whoever loads it, and hold the ids that were given.
"""

# ruff: noqa: ARG001, ARG005, S311 - checks and hooks have a given signature, and chance only makes data here.

from __future__ import annotations

import argparse
import array
import ctypes
import gc
import importlib
import io
import json
import os
import pickle
import platform
import random
import re
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROTOCOL = 5
STANDARD = "standard"
SLOW = "python"  # the reference engine: timed in a few rounds only

# ------------------------------------------------------------------------------------------------------------- engines


def optional(name: str) -> Any:
    """A module, or None where it isn't there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        MISSING[name] = str(error)
        return None


MISSING: dict[str, str] = {}
ENGINES: dict[str, Any] = {
    engine: module
    for engine, module in {
        "native": optional("pstore.pickle._native"),
        SLOW: optional("pstore.pickle._python"),
    }.items()
    if module is not None
}
ZODB = optional("zodbpickle.fastpickle")
NUMPY = optional("numpy")
ZODB_PROTOCOL = 3  # its highest


# ---------------------------------------------------------------------------------------------------------------- data


class Plain:
    """An instance as most are."""

    def __init__(self, name: str, number: int, tags: list[str]) -> None:
        self.name = name
        self.number = number
        self.tags = tags

    def __eq__(self, other: object) -> bool:
        return type(other) is Plain and vars(self) == vars(other)

    __hash__ = object.__hash__


@dataclass(slots=True)
class Slotted:
    """An instance of a dataclass with slots."""

    name: str
    number: int
    price: float


def ints(count: int) -> list[int]:
    choose = random.Random(1)
    return [
        choose.randrange(256) if i % 3 else choose.randrange(-(2**31), 2 ** choose.choice([16, 31, 62]))
        for i in range(count)
    ]


def strings(count: int) -> list[str]:
    return [f"text number {i}" if i % 10 else f"t\xe4xt n\xfcmber {i} \u20ac" for i in range(count)]


def instances(count: int) -> list[Plain]:
    return [Plain(f"name {i}", i, ["tag", f"tag {i % 50}"]) for i in range(count)]


def records(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": i,
            "name": f"name {i}",
            "address": {"street": f"street {i % 100}", "number": i % 200, "position": (i * 0.5, i * 0.25)},
            "orders": [{"article": f"article {j}", "count": j, "paid": j % 2 == 0} for j in range(i % 4)],
            "note": None,
        }
        for i in range(count)
    ]


def slotted(count: int) -> list[Slotted]:
    return [Slotted(f"name {i}", i, i * 1.5) for i in range(count)]


def arrays(size: int) -> list[Any]:
    if NUMPY is not None:
        return [NUMPY.arange(size // 16, dtype="f8"), *(NUMPY.arange(1000) for _ in range(20))]
    return [
        pickle.PickleBuffer(array.array("d", bytes(size))),
        *(pickle.PickleBuffer(bytearray(8000)) for _ in range(20)),
    ]


def same(one: Any, two: Any) -> bool:
    """Whether two values are equal, arrays among them."""
    if isinstance(one, list) and one and (type(one[0]) is pickle.PickleBuffer or hasattr(one[0], "tobytes")):
        return len(one) == len(two) and all(
            memoryview(a).cast("B") == memoryview(b).cast("B") for a, b in zip(one, two, strict=True)
        )
    return one == two


# --------------------------------------------------------------------------------------------------------------- works


@dataclass
class Work:
    """Something that several can do.

    Args:
        name: What is done.
        runs: Who does it, and how: ``"engine"`` or ``"engine, with what"`` -> function. What the ratios refer to is the
            one named `STANDARD`.
        check: Told the name of a run and its result; raises an AssertionError where that is wrong.
    """

    name: str
    runs: dict[str, Callable[[], Any]] = field(default_factory=dict)
    check: Callable[[str, Any], None] = lambda run, result: None


@dataclass
class Goal:
    """What has to be shown: that a run takes no more than a part of another one's time.

    Args:
        what: As the table says it.
        work: The work.
        run: The run.
        most: The highest ratio allowed.
        against: The run that it is compared with.
    """

    what: str
    work: str
    run: str
    most: float
    against: str = STANDARD


def with_hook(pickler: Any, hook: Callable[[Any], Any]) -> Any:
    """A standard pickler's class with a method `persistent_id`: the standard's only way to have one."""
    return type("WithHook", (pickler,), {"persistent_id": lambda self, obj: hook(obj)})


def loader_class(unpickler: Any, load: Callable[[Any], Any]) -> Any:
    """A standard unpickler's class with a method `persistent_load`."""
    return type("WithLoad", (unpickler,), {"persistent_load": lambda self, pid: load(pid)})


def standard_dumps(cls: Any, obj: Any, protocol: int = PROTOCOL) -> bytes:
    file = io.BytesIO()
    cls(file, protocol).dump(obj)
    return file.getvalue()


def none(obj: Any) -> None:
    """A hook that has no id for anything."""


def dumping(name: str, obj: list[Any], kind: type | None) -> Work:
    """Dump a value, with and without hooks.

    Args:
        name: That of the data set.
        obj: The value.
        kind: The class of its instances; None where it has none.
    """
    chosen = {id(one): f"id {number}" for number, one in enumerate(obj[::10])} if kind else {}
    others = [Plain("other", i, []) for i in range(10_000)]
    elsewhere = {id(one): f"id {number}" for number, one in enumerate(others)}
    by_id = {f"id {number}": one for number, one in enumerate(obj[::10])} if kind else {}

    def tenth(one: Any) -> Any:
        return chosen.get(id(one)) if type(one) is kind else None

    runs: dict[str, Callable[[], Any]] = {STANDARD: lambda: pickle.dumps(obj, PROTOCOL)}
    no_id = with_hook(pickle.Pickler, none)
    runs["standard, persistent_id: None"] = lambda: standard_dumps(no_id, obj)
    if kind:
        some_ids = with_hook(pickle.Pickler, tenth)
        runs["standard, persistent_id: a tenth"] = lambda: standard_dumps(some_ids, obj)
    for engine, module in ENGINES.items():
        dumps = module.dumps
        table = getattr(module, "IdentityTable", dict)
        unused, used = table(elsewhere), table(chosen)
        more: dict[str, Callable[[], Any]] = {
            engine: lambda dumps=dumps: dumps(obj, PROTOCOL),
            f"{engine}, persistent_id: None": lambda dumps=dumps: dumps(obj, PROTOCOL, persistent_id=none),
            f"{engine}, inst_persistent_id: None": lambda dumps=dumps: dumps(obj, PROTOCOL, inst_persistent_id=none),
            f"{engine}, table: others": lambda dumps=dumps, ids=unused: dumps(obj, PROTOCOL, persistent_ids=ids),
        }
        if kind:
            more |= {
                f"{engine}, persistent_id: a tenth": lambda dumps=dumps: dumps(obj, PROTOCOL, persistent_id=tenth),
                f"{engine}, inst_persistent_id: a tenth": lambda dumps=dumps: dumps(
                    obj, PROTOCOL, inst_persistent_id=tenth
                ),
                f"{engine}, table: a tenth": lambda dumps=dumps, ids=used: dumps(obj, PROTOCOL, persistent_ids=ids),
            }
        runs |= more
    if ZODB is not None:
        runs["zodbpickle"] = lambda: ZODB.dumps(obj, ZODB_PROTOCOL)
        if kind:
            runs["zodbpickle, persistent_id: a tenth"] = lambda: zodb_dumps(obj, tenth)

    def check(run: str, result: bytes) -> None:
        asked: list[str] = []
        cls = loader_class(pickle.Unpickler, lambda pid: (asked.append(pid), by_id[pid])[1])
        assert same(obj, cls(io.BytesIO(result)).load())
        assert asked == (list(by_id) if "tenth" in run else []), "the ids are wrong"

    # The objects of the tables must live as long as the tables.
    check.__dict__["alive"] = others
    return Work(f"dump {name}", runs, check)


def zodb_dumps(obj: Any, hook: Callable[[Any], Any]) -> bytes:
    file = io.BytesIO()
    pickler = ZODB.Pickler(file, ZODB_PROTOCOL)
    pickler.persistent_id = hook
    pickler.dump(obj)
    return file.getvalue()


def loading(name: str, obj: Any) -> Work:
    """Load a value that the standard has dumped."""
    data = pickle.dumps(obj, PROTOCOL)
    runs: dict[str, Callable[[], Any]] = {STANDARD: lambda: pickle.loads(data)}
    for engine, module in ENGINES.items():
        runs[engine] = lambda module=module: module.loads(data)
    if ZODB is not None:
        older = pickle.dumps(obj, ZODB_PROTOCOL)
        runs["zodbpickle"] = lambda: ZODB.loads(older)
    return Work(f"load {name}", runs, lambda run, result: _assert_same(obj, result))


def _assert_same(expected: Any, result: Any) -> None:
    assert same(expected, result), "the result is wrong"


def loading_ids(name: str, obj: list[Any]) -> Work:
    """Load a value of which a tenth stands elsewhere, under ids."""
    ids = {id(one): number for number, one in enumerate(obj[::10])}
    table = dict(enumerate(obj[::10]))
    data = standard_dumps(with_hook(pickle.Pickler, lambda one: ids.get(id(one))), obj)
    cls = loader_class(pickle.Unpickler, table.__getitem__)
    sniffed: list[Any] = []
    lister = loader_class(pickle.Unpickler, lambda pid: (sniffed.append(pid), pid)[1])
    runs: dict[str, Callable[[], Any]] = {
        STANDARD: lambda: cls(io.BytesIO(data)).load(),
        "standard, ids to a list": lambda: (sniffed.clear(), lister(io.BytesIO(data)).load())[1],
    }
    for engine, module in ENGINES.items():
        loads = module.loads
        runs |= {
            f"{engine}, callable": lambda loads=loads: loads(data, persistent_load=table.__getitem__),
            f"{engine}, list": lambda loads=loads: loads(data, persistent_load=[]),
            f"{engine}, table": lambda loads=loads: loads(data, persistent_objects=table),
        }
    if ZODB is not None:
        older = standard_dumps(with_hook(pickle.Pickler, lambda one: ids.get(id(one))), obj, ZODB_PROTOCOL)

        def zodb() -> Any:
            unpickler = ZODB.Unpickler(io.BytesIO(older))
            unpickler.persistent_load = table.__getitem__
            return unpickler.load()

        runs["zodbpickle, callable"] = zodb
    with_numbers = [number // 10 if number % 10 == 0 else one for number, one in enumerate(obj)]
    return Work(
        f"load {name}, ids for a tenth",
        runs,
        lambda run, result: _assert_same(with_numbers if "list" in run else obj, result),
    )


def skimming(name: str, obj: list[Any]) -> Work:
    """Find the ids in a stream; next to loading it, which is the standard's way to find them."""
    ids = {id(one): number for number, one in enumerate(obj[::10])}
    data = standard_dumps(with_hook(pickle.Pickler, lambda one: ids.get(id(one))), obj)
    expected = list(range(len(ids)))

    def load_all() -> list[Any]:
        found: list[Any] = []
        loader_class(pickle.Unpickler, found.append)(io.BytesIO(data)).load()
        return found

    runs: dict[str, Callable[[], Any]] = {STANDARD: load_all}
    for engine, module in ENGINES.items():

        def noload(module: Any = module) -> list[Any]:
            found: list[Any] = []
            unpickler = module.Unpickler(persistent_load=found)
            unpickler.feed(data)
            unpickler.noload()
            return found

        runs[f"{engine}, references"] = lambda module=module: module.references(data)
        runs[f"{engine}, noload"] = noload
    if ZODB is not None:
        older = standard_dumps(with_hook(pickle.Pickler, lambda one: ids.get(id(one))), obj, ZODB_PROTOCOL)

        def zodb() -> list[Any]:
            found: list[Any] = []
            unpickler = ZODB.Unpickler(io.BytesIO(older))
            unpickler.persistent_load = found.append
            unpickler.noload()
            return found

        runs["zodbpickle, noload"] = zodb
    return Work(f"ids in {name}", runs, lambda run, result: _assert_same(expected, result))


def skimming_without_ids(name: str, obj: list[Any]) -> Work:
    """Find that a stream has no ids, next to loading it."""
    data = pickle.dumps(obj, PROTOCOL)
    runs: dict[str, Callable[[], Any]] = {STANDARD: lambda: pickle.loads(data) and []}
    for engine, module in ENGINES.items():
        runs[f"{engine}, references"] = lambda module=module: module.references(data)
    return Work(f"no ids in {name}", runs, lambda run, result: _assert_same([], result))


def small_dumps(objects: list[Plain]) -> Work:
    """Dump each of many small objects as a stream of its own."""
    ids = {id(one): f"id {number}" for number, one in enumerate([Plain("other", i, []) for i in range(100)])}

    def reused(cls: Any, protocol: int = PROTOCOL) -> list[bytes]:
        file = io.BytesIO()
        pickler = cls(file, protocol)
        dump, clear_memo, getvalue, seek, truncate = (
            pickler.dump,
            pickler.clear_memo,
            file.getvalue,
            file.seek,
            file.truncate,
        )
        out = []
        for one in objects:
            dump(one)
            out.append(getvalue())
            seek(0)
            truncate()
            clear_memo()
        return out

    def ours(module: Any, **keywords: Any) -> list[bytes]:
        pickler = module.Pickler(None, PROTOCOL, **keywords)
        dumps, clear_memo = pickler.dumps, pickler.clear_memo
        out = []
        for one in objects:
            out.append(dumps(one))
            clear_memo()
        return out

    no_id = with_hook(pickle.Pickler, none)
    dumps = pickle.dumps
    runs: dict[str, Callable[[], Any]] = {
        STANDARD: lambda: reused(pickle.Pickler),
        "standard, pickle.dumps": lambda: [dumps(one, PROTOCOL) for one in objects],
        "standard, persistent_id: None": lambda: reused(no_id),
    }
    for engine, module in ENGINES.items():
        table = getattr(module, "IdentityTable", dict)(ids)
        runs[engine] = lambda module=module: ours(module)
        runs[f"{engine}, table: others"] = lambda module=module, table=table: ours(module, persistent_ids=table)
        runs[f"{engine}, persistent_id: None"] = lambda module=module: ours(module, persistent_id=none)
    if ZODB is not None:
        runs["zodbpickle"] = lambda: reused(ZODB.Pickler, ZODB_PROTOCOL)

    def check(run: str, result: list[bytes]) -> None:
        assert [pickle.loads(data) for data in result] == objects

    return Work("dump small instances, a stream each", runs, check)


def small_loads(objects: list[Plain]) -> Work:
    """Load many small streams."""
    streams = [pickle.dumps(one, PROTOCOL) for one in objects]
    whole = b"".join(streams)
    loads = pickle.loads

    def one_file() -> list[Any]:
        load = pickle.Unpickler(io.BytesIO(whole)).load
        return [load() for _ in objects]

    def fed(module: Any) -> list[Any]:
        unpickler = module.Unpickler()
        feed, load = unpickler.feed, unpickler.load
        out = []
        for data in streams:
            feed(data)
            out.append(load())
        return out

    runs: dict[str, Callable[[], Any]] = {
        STANDARD: lambda: [loads(data) for data in streams],
        "standard, one Unpickler over all in one file": one_file,
    }
    for engine, module in ENGINES.items():
        runs[f"{engine}, feed"] = lambda module=module: fed(module)
        runs[f"{engine}, loads"] = lambda module=module: [module.loads(data) for data in streams]
    if ZODB is not None:
        older = [pickle.dumps(one, ZODB_PROTOCOL) for one in objects]
        runs["zodbpickle"] = lambda: [ZODB.loads(data) for data in older]
    return Work("load small instances, a stream each", runs, lambda run, result: _assert_same(objects, result))


class Nowhere:
    """A file that takes what is written and keeps its length."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> None:
        self.size += len(data)


def large_bytes(size: int) -> list[Work]:
    """One large bytes object, as a stream and to a file."""
    data = os.urandom(1 << 16) * (size >> 16)
    stream = pickle.dumps(data, PROTOCOL)

    def to_file(cls: Any) -> int:
        file = Nowhere()
        cls(file, PROTOCOL).dump(data)
        return file.size

    dump = Work(
        "dump large bytes", {STANDARD: lambda: pickle.dumps(data, PROTOCOL)}, lambda run, got: _assert_same(stream, got)
    )
    file = Work(
        "dump large bytes to a file",
        {STANDARD: lambda: to_file(pickle.Pickler)},
        lambda run, got: _assert_same(len(stream), got),
    )
    load = Work("load large bytes", {STANDARD: lambda: pickle.loads(stream)}, lambda run, got: _assert_same(data, got))
    load_file = Work(
        "load large bytes from a file",
        {STANDARD: lambda: pickle.load(io.BufferedReader(io.BytesIO(stream)))},
        lambda run, got: _assert_same(data, got),
    )
    for engine, module in ENGINES.items():
        dump.runs[engine] = lambda module=module: module.dumps(data, PROTOCOL)
        file.runs[engine] = lambda module=module: to_file(module.Pickler)
        load.runs[engine] = lambda module=module: module.loads(stream)
        load_file.runs[engine] = lambda module=module: module.load(io.BufferedReader(io.BytesIO(stream)))
    return [dump, file, load, load_file]


def out_of_band(size: int) -> list[Work]:
    """Arrays that aren't in the stream, many times over: once is nothing."""
    data, times = arrays(size), 100
    buffers: list[Any] = []
    stream = pickle.dumps(data, PROTOCOL, buffer_callback=buffers.append)

    def dump(dumps: Any) -> tuple[bytes, list[Any]]:
        for _ in range(times):
            got: list[Any] = []
            result = dumps(data, PROTOCOL, buffer_callback=got.append)
        return result, got

    def load(loads: Any) -> Any:
        for _ in range(times):
            result = loads(stream, buffers=buffers)
        return result

    dumping_them = Work("dump arrays out of band", {STANDARD: lambda: dump(pickle.dumps)})
    dumping_them.check = lambda run, got: _assert_same(data, pickle.loads(got[0], buffers=got[1]))
    loading_them = Work("load arrays out of band", {STANDARD: lambda: load(pickle.loads)})
    loading_them.check = lambda run, got: _assert_same(data, got)
    for engine, module in ENGINES.items():
        dumping_them.runs[engine] = lambda module=module: dump(module.dumps)
        loading_them.runs[engine] = lambda module=module: load(module.loads)
    return [dumping_them, loading_them]


def works(scale: float) -> list[Work]:
    """Everything there is to do, on data of this scale."""
    data: dict[str, tuple[list[Any], type | None]] = {
        "ints": (ints(int(200_000 * scale)), None),
        "strings": (strings(int(100_000 * scale)), None),
        "instances": (instances(int(30_000 * scale)), Plain),
        "nested records": (records(int(10_000 * scale)), None),
        "slotted dataclasses": (slotted(int(40_000 * scale)), Slotted),
    }
    found = [dumping(name, obj, kind) for name, (obj, kind) in data.items()]
    small = instances(int(50_000 * scale))
    size = int(20 * 2**20 * scale)
    found += [small_dumps(small)]
    found += [loading(name, obj) for name, (obj, _) in data.items()]
    found += [loading_ids(name, obj) for name, (obj, kind) in data.items() if kind]
    found += [small_loads(small)]
    found += [skimming(name, obj) for name, (obj, kind) in data.items() if kind]
    found += [skimming_without_ids(name, obj) for name, (obj, kind) in data.items() if kind]
    return [*found, *large_bytes(size), *out_of_band(size)]


_SETS = ["ints", "strings", "instances", "nested records", "slotted dataclasses"]
_SMALL_DUMP, _SMALL_LOAD = "dump small instances, a stream each", "load small instances, a stream each"

#: What the native engine must show.
GOALS = [
    *(Goal(f"dump, no hook: {name}", f"dump {name}", "native", 0.35 if name == "instances" else 0.6) for name in _SETS[:4]),
    *(
        Goal(f"dump {name}: inst_persistent_id that can't apply, to our dump without", f"dump {name}",
             "native, inst_persistent_id: None", 1.05, "native")
        for name in ("ints", "strings", "nested records")
    ),
    *(
        Goal(f"dump {name}: table that doesn't apply, to our dump without", f"dump {name}", "native, table: others", 1.05, "native")
        for name in _SETS
    ),
    Goal("small instances, a stream each, table on; the standard's Pickler reused", _SMALL_DUMP, "native, table: others", 0.25),
    Goal("... the standard's pickle.dumps", _SMALL_DUMP, "native, table: others", 0.25, "standard, pickle.dumps"),
    Goal("... the standard's with a persistent_id", _SMALL_DUMP, "native, table: others", 0.15, "standard, persistent_id: None"),
    *(Goal(f"load {name}", f"load {name}", "native", 0.8 if name == "instances" else 1.0) for name in _SETS),
    Goal("load large bytes", "load large bytes", "native", 1.0),
    Goal("load arrays out of band", "load arrays out of band", "native", 1.0),
    Goal("load small streams, reused unpickler; the standard's pickle.loads", _SMALL_LOAD, "native, feed", 0.45),
    Goal("... the standard's Unpickler over one file", _SMALL_LOAD, "native, feed", 0.45,
         "standard, one Unpickler over all in one file"),
    *(
        Goal(f"{way} of instances, to a full load", "ids in instances", f"native, {way}", 0.35) for way in ("references", "noload")
    ),
    Goal("references of instances without ids, to a full load", "no ids in instances", "native, references", 0.35),
]  # fmt: skip

#: Where no copy more than the standard's may be made.
NO_COPY = [
    "dump large bytes", "dump large bytes to a file", "load large bytes", "load large bytes from a file",
    "dump arrays out of band", "load arrays out of band",
]  # fmt: skip
_SLACK = 4.0  # MiB that memory may differ by without there being a copy of 20


# -------------------------------------------------------------------------------------------------------------- timing


def timed(run: Callable[[], Any]) -> int:
    """Nanoseconds of the processor's time. What the result takes to be freed isn't in it."""
    gc.collect()
    start = time.process_time_ns()
    result = run()
    took = time.process_time_ns() - start
    del result
    return took


def measure(work: Work, rounds: int) -> dict[str, list[int | None]]:
    """Nanoseconds of each run in each round; None where it wasn't timed in that round."""
    for name, run in work.runs.items():  # which also warms up
        work.check(name, run())
    took: dict[str, list[int | None]] = {name: [] for name in work.runs}
    order = list(work.runs)
    choose = random.Random(0)
    for number in range(rounds):
        choose.shuffle(order)
        for name in order:
            skipped = name.split(",")[0] == SLOW and number >= max(1, rounds // 5)
            took[name].append(None if skipped else timed(work.runs[name]))
    return took


def status(field_name: str) -> float:
    """A number of kB in the kernel's report on this process, in MiB; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field_name)), 0.0)


def give_back() -> None:
    """Give memory that is allocated and free back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak(run: Callable[[], Any]) -> float | None:
    """MiB by which a process grows that does it once; None where that can't be told."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    gc.collect()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            give_back()  # else what lies free from before takes in what the run needs
            before = status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the record of the peak begins anew
            kept = run()
            os.write(writing, f"{max(0.0, status('VmHWM') - before)}".encode())
            del kept
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        answer = told.read()
    os.waitpid(child, 0)
    return float(answer) if answer else None


def ratios(took: dict[str, list[int | None]], run: str, against: str = STANDARD) -> list[float]:
    """One run's time divided by another one's, round by round."""
    pairs = zip(took.get(run, ()), took.get(against, ()), strict=True) if run in took and against in took else ()
    return [one / two for one, two in pairs if one is not None and two]


def spread(values: Iterable[float]) -> str:
    """Median, least and most."""
    found = sorted(values)
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})" if found else "-"


# -------------------------------------------------------------------------------------------------------------- report


def report(results: dict[str, Any], memory: dict[str, dict[str, float | None]]) -> None:
    """Print the tables, as Markdown."""
    for work, took in results.items():
        print(f"\n### {work}\n")
        print("| run | ms | to the standard: median (least to most) | peak MiB |")
        print("|---|---|---|---|")
        for run, rounds in took.items():
            times = [one for one in rounds if one is not None]
            used = memory.get(work, {}).get(run)
            print(
                f"| {run} | {statistics.median(times) / 1e6:.2f} | {spread(ratios(took, run))} |"
                f" {'-' if used is None else f'{used:.1f}'} |"
            )


def goals(results: dict[str, Any], memory: dict[str, dict[str, float | None]]) -> tuple[list[dict[str, Any]], bool]:
    """Print what must be shown and what was; return that, and whether all that was measured is met."""
    rows = []
    for goal in GOALS:
        found = ratios(results.get(goal.work, {}), goal.run, goal.against)
        median = statistics.median(found) if found else None
        rows.append(
            {
                "goal": goal.what,
                "most": f"{goal.most:.2f}",
                "measured": spread(found),
                "met": median is not None and round(median, 2) <= goal.most,
                "known": bool(found),
            }
        )
    for work in NO_COPY:
        used, allowed = memory.get(work, {}).get("native"), memory.get(work, {}).get(STANDARD)
        known = used is not None and allowed is not None
        rows.append(
            {
                "goal": f"{work}: no copy more",
                "most": f"{allowed:.1f} MiB" if allowed is not None else "-",
                "measured": f"{used:.1f} MiB" if used is not None else "-",
                "met": used is not None and allowed is not None and used <= allowed + _SLACK,
                "known": known,
            }
        )
    print("\n### Must show (native engine; median of the ratio)\n")
    print("| goal | at most | measured | met |")
    print("|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['goal']} | {row['most']} | {row['measured']} | {('yes' if row['met'] else 'NO') if row['known'] else 'not measured'} |"
        )
    return rows, all(row["met"] for row in rows if row["known"])


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="small data and two rounds: whether it works, not how fast it is"
    )
    parser.add_argument("--rounds", type=int, help="how often each run is timed (default: 11)")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only works of which the name matches")
    parser.add_argument(
        "--without", default=None, metavar="PATTERN", help="leave out runs of which the name matches (`^python`)"
    )
    parser.add_argument(
        "--gc", choices=["on", "off"], default="on", help="whether the cyclic garbage collector runs (default: on)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there, too")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a goal isn't met")
    options = parser.parse_args()

    rounds = options.rounds or (2 if options.quick else 11)
    chosen = [work for work in works(0.01 if options.quick else 1) if re.search(options.only, work.name)]
    if options.without:
        for work in chosen:
            work.runs = {
                name: run for name, run in work.runs.items() if name == STANDARD or not re.search(options.without, name)
            }
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "gc": options.gc,
        "rounds": rounds,
        "engines": [*ENGINES, *(["zodbpickle"] if ZODB is not None else [])],
        "arrays": "numpy" if NUMPY is not None else "PickleBuffer over array",
    }
    print(f"## pstore.pickle on Python {machine['python']}, {machine['system']}\n")
    print(f"{rounds} rounds, processor time, cyclic garbage collector {options.gc}; arrays: {machine['arrays']}.")
    for name, why in MISSING.items():
        print(f"Not measured: {name} ({why}).")
    if options.quick:
        print("Small data: the times say nothing.")
    if options.gc == "off":
        gc.disable()
    gc.collect()
    gc.freeze()
    memory = {work.name: {run: peak(call) for run, call in work.runs.items()} for work in chosen}
    results = {}
    for work in chosen:
        print(f"... {work.name}", file=sys.stderr, flush=True)
        results[work.name] = measure(work, rounds)
    report(results, memory)
    rows, met = goals(results, memory)
    if options.json:
        told = {"machine": machine, "missing": MISSING, "nanoseconds": results, "memory": memory, "goals": rows}
        options.json.write_text(json.dumps(told, indent=1))
    return int(options.check and not met)


if __name__ == "__main__":
    sys.exit(main())
