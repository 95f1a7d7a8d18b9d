"""A fuzzer: hostile values and hooks to dump, made-up and mutated streams to load, on an engine and on the reference.

    python -m tests.pickle.fuzz --seconds 60 --engine native

Both engines must write the same bytes in the same writes, ask the same hooks in the same order, load the same values, and
raise the same errors. Each case is written to a file before it is run, so that it is known which one has crashed
the interpreter; `--case FILE` runs it again. A case is made anew from its number, so a failure is reported in one line.
The exit status is 1 where the engines differ.
"""

# ruff: noqa: B023 - what is made in a loop here is called before the loop goes on

from __future__ import annotations

import argparse
import copyreg
import faulthandler
import importlib
import io
import json
import pickle
import random
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hostile
from .hostile import Given, Maker, Plain, Sink, Source, World
from .pictures import outcome, picture, picture_of_error
from .programs import Program, mutated

if TYPE_CHECKING:
    from types import ModuleType

ENGINES = {"python": "pstore.pickle._python", "native": "pstore.pickle._native"}
REFERENCE = ENGINES["python"]
_DEED_NAMES = [*hostile.DEEDS]
_ALWAYS = [
    "__getattr__",
    "__getattribute__",
    "__class__",
    "hash of class",
    "== of class",
    "attribute of class",
    "__hash__",
    "__eq__",
    "get",
    "getitem",
]
_HANG = 60  # seconds
_EMPTY = ()  # there is one, and it may be written without asking for its id
_STOPPED = re.compile(r"builtins\.(RuntimeError: generator raised StopIteration|StopIteration: deed \d+)")
_CHANGED = re.compile(r"(dictionary (?:changed size|keys changed) during iteration; note while pickling ).*")
_TOO_DEEP = "builtins.RecursionError: maximum recursion depth exceeded"

for _code, _name in {0xE0: "Plain", 0xE1: "function", 0xE2: "Nobody"}.items():
    if ("hostile", _name) not in copyreg._extension_registry:
        copyreg.add_extension("hostile", _name, _code)


#: Whether two engines do the same cases: then nothing is done in one of which the other needn't know.
compared = True


def draw_world(choose: random.Random, events: int) -> World:
    """What will happen: nothing, or up to three deeds at some of the first events."""
    plan = {}
    if choose.random() < 0.7:
        for _ in range(choose.choice([1, 1, 2, 3])):
            at = int(events ** choose.random()) - 1 if choose.random() < 0.8 else choose.randrange(events)
            plan[at] = (
                choose.choice([*_DEED_NAMES, "raise", "raise", "clear", "call", "call"]),
                choose.randrange(1000),
            )
    always = {}
    if choose.random() < 0.15:
        name = choose.choice(_ALWAYS)
        # How often a class is hashed or asked for an attribute, and whether at all, is nobody's promise.
        told = compared and name.endswith("of class")
        always[name] = (
            choose.choice(["call", "collect"] if told else ["raise", "clear", "call", "collect"]),
            choose.randrange(64 if told else 1000),
        )
    return World(plan, always)


# ---------------------------------------------------------------------------------------------------------------- dumps


class DumpCase:
    """A graph of hostile objects, dumped once or several times by one pickler.

    Args:
        seed: The number of the case: what it is follows from it.
    """

    kind = "dump"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def run(self, engine: ModuleType) -> list[str]:
        """Do it; return what happened, step by step."""
        choose = random.Random(self.seed)
        world = hostile.enter(draw_world(choose, 60))
        maker = Maker(choose, world, large=choose.random() < 0.1)
        hostile.restore()
        value = maker.graph(choose.choice([1, 2, 3, 5, 8, 13]))
        told: list[str] = []
        try:
            self._run(engine, maker, value, told)
        finally:
            world.awake = False
            hostile.restore()
            hostile.enter(World())
        return told + world.log

    def _run(self, engine: ModuleType, maker: Maker, value: Any, told: list[str]) -> None:
        choose, world = maker.random, maker.world
        world.awake = True
        sink = Sink()
        keywords: dict[str, Any] = {}
        protocol = choose.choice([0, 1, 2, 3, 4, 4, 5, 5, 5])
        canonical = protocol >= 1 and choose.random() < 0.25
        buffers: list[Any] = []
        if protocol == 5 and choose.random() < 0.5:
            verdict = choose.choice([True, False, None])
            keywords["buffer_callback"] = lambda buffer: (
                hostile.event("buffer", buffer) or buffers.append(buffer) or verdict
            )
        table: dict[int, Any] = {}
        table_form = choose.choice(["none", "none", "none", "dict", "native", "given", "empty"])
        if table_form in ("dict", "native", "given"):
            for number, node in enumerate(maker.nodes):
                if choose.random() < 0.2 and node is not _EMPTY:
                    table[id(node)] = self._id(choose, maker, number)
        if table_form != "none":
            make = {"dict": dict, "native": getattr(engine, "IdentityTable", dict), "given": Given, "empty": dict}[
                table_form
            ]
            keywords["persistent_ids"] = make(table)
        hooks: dict[str, Any] = {}
        for name in "persistent_id", "inst_persistent_id", "global_persistent_id":
            if choose.random() < 0.25:
                hooks[name] = self._hook(choose, maker, name)
        if choose.random() < 0.15:
            hooks["reducer_override"] = self._override(choose, maker)
        if choose.random() < 0.15:
            dispatch = dict.fromkeys((hostile.Registered,), hostile.reduce_registered)
            if choose.random() < 0.5:
                dispatch[choose.choice([Plain, hostile.Meta, int, hostile.Slots])] = lambda obj: (list, ())
            hooks["dispatch_table"] = choose.choice([dict, Given])(dispatch)
        form = choose.choice(["keyword", "attribute", "method"])
        cls = engine.Pickler
        for name in list(hooks):
            if form == "keyword" and name.endswith("persistent_id"):
                keywords[name] = hooks.pop(name)
        if form == "method" and hooks:
            cls = type("Derived", (cls,), {
                name: (lambda self, *arguments, hook=hook: hook(*arguments)) if name != "dispatch_table" else hook
                for name, hook in hooks.items()
            })  # fmt: skip
            hooks = {}
        pickler = cls(sink, protocol, choose.random() < 0.8, canonical=canonical, **keywords)
        for name, hook in hooks.items():
            setattr(pickler, name, hook)
        pickler.fast = not maker.large and choose.random() < 0.15  # a cycle is found when much of it is written
        world.worker = pickler
        world.calls = [
            lambda: pickler.dump([1]),
            lambda: pickler.dumps([1]),
            pickler.clear_memo,
            lambda: setattr(pickler, "memo", {}),
            lambda: pickler.__init__(sink, 1),
            lambda: len(pickler.memoized({str, type(())})),
            lambda: pickler.dumps_state(Plain(a=2)),
            lambda: sorted(index for index, _ in pickler.memo.values()),
            lambda: engine.dumps([1, Plain(a=2)], protocol),
            lambda: pickler.persistent_id(5),
        ]
        for number in range(choose.choice([1, 1, 2, 3])):
            if number:
                told.append(f"between {outcome(lambda: self._between(choose, pickler, world, maker.large))}")
            way = choose.choice([pickler.dump, pickler.dumps, pickler.dumps_state])
            what = choose.choice(maker.nodes) if way == pickler.dumps_state and maker.nodes else value
            told.append(str(outcome(lambda way=way, what=what: way(what))))
            told.append("memo " + self._memo(pickler))
            told.append(f"{len(buffers)} buffers")
        told += [f"write {len(data)} {data[:3000]!r} {hash(data)}" for data in sink.writes]
        hostile.now.log.append(f"deeds {sorted(world.plan.items())}")

    @staticmethod
    def _memo(pickler: Any) -> str:
        memo = sorted(pickler.memo.values(), key=lambda entry: entry[0])
        kept = pickler.memoized()
        same = len(kept) == len(memo) and all(one is two for (_, one), two in zip(memo, kept, strict=True))
        return f"{same} {[(index, type(obj).__name__) for index, obj in memo]}"[:4000]

    @staticmethod
    def _id(choose: random.Random, maker: Maker, number: int) -> Any:
        return choose.choice([f"id {number}", number, ("oid", number), maker.any(), "", 0, b"id"])

    def _hook(self, choose: random.Random, maker: Maker, name: str) -> Any:
        if choose.random() < 0.3:
            return lambda obj: hostile.event(name, obj)
        ids = {
            id(node): self._id(choose, maker, number)
            for number, node in enumerate(maker.nodes)
            if choose.random() < 0.3
        }
        kinds = {Plain: "Plain", int: 7} if choose.random() < 0.2 else {}

        def hook(obj: Any) -> Any:
            hostile.event(name, obj)
            return ids.get(id(obj), kinds.get(obj) if type(obj) is type else None)

        return hook

    @staticmethod
    def _override(choose: random.Random, maker: Maker) -> Any:
        wanted = choose.choice([Plain, hostile.Slots, type, type(len), hostile.Dict])
        answers = [NotImplemented, "GLOBAL", None, (hostile.function, ())]
        answer = choose.choice(
            answers if wanted is type else [*answers, (list, ())]
        )  # a class made by itself never ends

        def override(obj: Any) -> Any:
            hostile.event("reducer_override", obj)
            return answer if type(obj) is wanted else NotImplemented

        return override

    @staticmethod
    def _between(choose: random.Random, pickler: Any, world: World, large: bool) -> None:
        """Something that happens between two dumps."""
        what = choose.randrange(8)
        if what < 3:
            pickler.clear_memo()
        elif what == 3:
            hostile.do_patch(world, choose.randrange(1000))
        elif what == 4:
            pickler.fast = not pickler.fast and not large
        elif what == 5:
            pickler.memo = pickler.memo
        elif what == 6:
            hostile.do_grow(world, choose.randrange(1000))


# ---------------------------------------------------------------------------------------------------------------- loads


SOURCES = {
    "memory": lambda data, deeds: io.BytesIO(data),
    "buffered": lambda data, deeds: io.BufferedReader(io.BytesIO(data), buffer_size=16),
    "minimal": lambda data, deeds: Source(data, deeds=deeds),
    "slow": lambda data, deeds: Source(data, 3, deeds),
    "filling": lambda data, deeds: hostile.FillingSource(data, 5, deeds),
    "peeking": lambda data, deeds: hostile.PeekingSource(data, 7, deeds),
    "feed": lambda data, deeds: None,
}


class LoadCase:
    """A stream, or several in a row, loaded by one unpickler with some hooks.

    Args:
        seed: The number of the case: what it is follows from it.
        data: The streams, where they aren't those that follow from the number.
    """

    kind = "load"

    def __init__(self, seed: int, data: bytes | None = None) -> None:
        self.seed = seed
        self.data = self._stream(random.Random(seed ^ 0x5EED)) if data is None else data

    @staticmethod
    def _stream(choose: random.Random) -> bytes:
        streams = []
        for _ in range(choose.choice([1, 1, 1, 2])):
            if choose.random() < 0.6:
                streams.append(Program(choose, sorted(hostile.NAMES)).stream(choose.choice([3, 5, 8, 13, 20, 40])))
            else:
                streams.append(_dumped(choose))
        data = b"".join(streams)
        if choose.random() < 0.5:
            data = mutated(choose, data, _dumped(choose))
        return data

    def run(self, engine: ModuleType) -> list[str]:
        """Do it; return what happened, step by step."""
        choose = random.Random(self.seed)
        hostile.restore()
        world = hostile.enter(draw_world(choose, 40))
        told: list[str] = []
        try:
            self._run(engine, choose, world, told)
        finally:
            world.awake = False
            hostile.restore()
            hostile.enter(World())
        return told + world.log

    def _run(self, engine: ModuleType, choose: random.Random, world: World, told: list[str]) -> None:
        world.awake = True
        form = choose.choice(list(SOURCES))
        file = SOURCES[form](self.data, choose.random() < 0.3)
        keywords: dict[str, Any] = {
            "encoding": choose.choice(
                ["ASCII", "latin-1", "bytes", "utf-8", "nonsense"] if choose.random() < 0.5 else ["latin-1"]
            ),
            "errors": choose.choice(["strict", "strict", "replace", "surrogateescape", "nonsense"]),
            "fix_imports": choose.random() < 0.7,
        }
        held: list[Any] = world.containers  # what hooks give and can change
        buffers = [
            b"buffer",
            bytearray(b"buffer"),
            pickle.PickleBuffer(b"b"),
            memoryview(b"view"),
            hostile.Owner.strided,
            5,
        ]
        given = choose.choice([None, "list", "iterator"])
        if given == "list":
            keywords["buffers"] = buffers
        elif given == "iterator":
            keywords["buffers"] = (hostile.event("buffer", buffer) or buffer for buffer in buffers)
        ids: list[Any] = []
        hooks: dict[str, Any] = {}
        loader = choose.choice(["none", "list", "function", "function", "containers"])
        if loader == "list":
            hooks["persistent_load"] = ids
        elif loader != "none":

            def persistent_load(pid: Any) -> Any:
                hostile.event("persistent_load", pid)
                ids.append(pid)
                if loader == "containers":
                    held.append([[], {}, Plain(), set(), hostile.List()][len(ids) % 5])
                    return held[-1]
                return ("loaded", pid)

            hooks["persistent_load"] = persistent_load
        if choose.random() < 0.3:
            keywords["persistent_objects"] = choose.choice([dict, Given])({1: [], "a": {}, "text": Plain(), 0: 1})
        finder = choose.choice(["find_global", "find_global", "find_class", "find_class", "None"])
        hooks["find_class" if finder == "find_class" else "find_global"] = (
            None if finder == "None" else self._find(held)
        )
        how = choose.choice(["keyword", "attribute", "method"])
        cls = engine.Unpickler
        if how == "method":
            cls = type("Derived", (cls,), {
                name: (lambda self, *arguments, hook=hook: hook(*arguments)) if callable(hook) else hook
                for name, hook in hooks.items()
            })  # fmt: skip
            hooks = {}
        elif how == "keyword":
            keywords |= {name: hooks.pop(name) for name in list(hooks) if name != "find_class"}
        unpickler = cls(file, **keywords)
        for name, hook in hooks.items():
            setattr(unpickler, name, hook)
        world.worker = unpickler
        world.calls = [
            unpickler.load,
            unpickler.noload,
            lambda: unpickler.load_state(Plain()),
            lambda: unpickler.feed(b"N."),
            unpickler.clear_memo,
            lambda: setattr(unpickler, "memo", {}),
            lambda: unpickler.__init__(io.BytesIO(b"N.")),
            lambda: sorted(unpickler.memo),
            lambda: engine.loads(b"(K\x01K\x02t."),
        ]
        if form == "feed":
            unpickler.feed(choose.choice([bytes, bytearray, memoryview])(self.data))
        for number in range(choose.choice([1, 2, 3])):
            if number and choose.random() < 0.3:
                between = choose.choice(
                    [
                        unpickler.clear_memo,
                        lambda: hostile.do_patch(world, choose.randrange(1000)),
                        lambda: unpickler.feed(self.data),
                        lambda: setattr(unpickler, "memo", {0: [], 5: Plain()}),
                    ]
                )
                told.append(f"between {outcome(between)}")
            way = choose.choice([unpickler.load, unpickler.load, unpickler.noload, unpickler.load_state])
            if way == unpickler.load_state:
                target = choose.choice([Plain, Plain, Plain, hostile.Slots, hostile.List])()
                told.append(f"load_state {outcome(lambda way=way, target=target: way(target))} {picture(target, 500)}")
            else:
                told.append(f"{way.__name__} {outcome(way)}")
            told.append(f"at {file.tell() if file is not None else None}")
            told.append("memo " + picture(dict(sorted(unpickler.memo.items())), 500))
        told.append("rest " + repr(file.read(100)) if form in ("memory", "buffered") else "")
        told.append("ids " + picture(ids, 500))
        told += [f"references {outcome(lambda: engine.references(self.data))}"]
        told += [f"globals {outcome(lambda: engine.globals(self.data))}"]
        hostile.now.log.append(f"deeds {sorted(world.plan.items())}")

    @staticmethod
    def _find(held: list[Any]) -> Any:
        def find(module: str, name: str) -> Any:
            found = hostile.find(module, name)
            if type(found) is hostile.Added:
                held.append(found.elements)
            return found

        return find


_reference: Any = None


def _dumped(choose: random.Random) -> bytes:
    """What the reference engine writes of a graph of objects that do nothing bad."""
    hostile.restore()
    maker = Maker(choose, hostile.enter(World()))
    value = maker.graph(choose.choice([1, 2, 3, 5, 8]))
    protocol = choose.randrange(6)
    wanted = {id(node): number for number, node in enumerate(maker.nodes) if choose.random() < 0.2}
    try:
        return importlib.import_module(REFERENCE).dumps(value, protocol, persistent_ids=wanted)
    except Exception:  # noqa: BLE001 - a graph may hold what can't be pickled
        return Program(choose, sorted(hostile.NAMES)).stream(10)
    finally:
        hostile.enter(World())


# --------------------------------------------------------------------------------------------------------------- tables


class TableCase:
    """An identity table, next to a dict: the same calls must give the same.

    Args:
        seed: The number of the case: what it is follows from it.
    """

    kind = "table"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def run(self, engine: ModuleType) -> list[str]:
        """Do it; return what happened, step by step."""
        choose = random.Random(self.seed)
        table = getattr(engine, "IdentityTable", dict)()
        objects = [[number] for number in range(choose.choice([2, 10, 100]))]
        # Not the addresses, which differ; what they stand for.
        keys = {id(obj): number for number, obj in enumerate(objects)}
        told = []
        for _ in range(choose.choice([10, 100, 400])):
            obj = choose.choice(objects)
            key, value = id(obj), choose.randrange(100)
            step = choose.choice(
                [
                    lambda: table.__setitem__(key, value),
                    lambda: table.__setitem__(key, [value]),
                    lambda: table.get(key),
                    lambda: table.get(key, value),
                    lambda: table[key],
                    lambda: table.__delitem__(key),
                    lambda: table.pop(key, None),
                    lambda: table.setdefault(key, value),
                    lambda: key in table,
                    lambda: len(table),
                    lambda: sorted(keys[one] for one in table),
                    lambda: sorted((keys[one], str(pid)) for one, pid in table.items()),
                    lambda: table.clear() if value < 5 else None,
                    lambda: table.update({id(one): value for one in objects[: value % 30]}),
                    lambda: engine.references(engine.dumps(objects, 4, persistent_ids=table)),
                    lambda: table == dict(table.items()),
                ]
            )
            kind, text = outcome(step)
            told.append(f"{kind} {text.replace(str(key), 'the key')}")
        return told


# ------------------------------------------------------------------------------------------------------------- the runs

CASES = {case.kind: case for case in (DumpCase, LoadCase, TableCase)}


def alike(step: str) -> str:
    """A step without what is an engine's own affair."""
    step = _STOPPED.sub("StopIteration", step)  # it turns into a RuntimeError where the reference has a generator
    if _CHANGED.search(step):  # which item a dict was at when it changed under the pickler
        step = _CHANGED.sub(r"\1", step).replace('"', "'")
    return step


def differences(case: Any, engine: ModuleType, reference: ModuleType) -> str | None:
    """Where the engines differ in a case; None where they don't."""
    expected, got = ([alike(step) for step in case.run(module)] for module in (reference, engine))
    if got == expected:
        return None
    if any(_TOO_DEEP in step for step in expected) and any(_TOO_DEEP in step for step in got):
        return None  # how deep code that calls itself gets is nobody's promise
    for number, (one, two) in enumerate(zip(expected, got, strict=False)):
        if one != two:
            begin = next(
                (at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
            )
            begin = 0 if begin < 300 else begin - 200
            return f"step {number}\n  reference: {one[begin : begin + 1500]}\n  engine:    {two[begin : begin + 1500]}"
    return f"{len(expected)} steps of the reference, {len(got)} of the engine: {(expected + got)[min(len(expected), len(got))]}"


def smaller(case: LoadCase, engine: ModuleType, reference: ModuleType) -> LoadCase:
    """The case with all bytes taken out that the difference doesn't need."""
    data, size = case.data, max(1, len(case.data) // 2)
    while size:
        at = 0
        while at < len(data):
            shorter = LoadCase(case.seed, data[:at] + data[at + size :])
            if differences(shorter, engine, reference) is not None:
                data = shorter.data
            else:
                at += size
        size //= 2
    return LoadCase(case.seed, data)


def main(arguments: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to go on (default: 60)")
    parser.add_argument("--count", type=int, help="how many cases to run, whatever time it takes")
    parser.add_argument("--seed", type=int, default=None, help="number of the first case (default: another each time)")
    parser.add_argument("--engine", default="native", choices=ENGINES, help="the engine under test (default: native)")
    parser.add_argument("--kind", choices=CASES, help="only this kind of case")
    parser.add_argument(
        "--alone", action="store_true", help="don't compare with the reference: faster, finds crashes only"
    )
    parser.add_argument("--failures", type=int, default=10, help="stop after so many differences (default: 10)")
    parser.add_argument("--case", type=Path, help="run the case in this file, and no other")
    parser.add_argument("--directory", type=Path, help="where cases are written (default: a temporary directory)")
    options = parser.parse_args(arguments)

    warnings.simplefilter("ignore")
    faulthandler.enable()
    engine, reference = importlib.import_module(ENGINES[options.engine]), importlib.import_module(REFERENCE)
    global compared
    compared = not options.alone
    if options.case is not None:
        told = json.loads(options.case.read_text())
        cls = CASES[told["kind"]]
        case = cls(told["seed"], bytes.fromhex(told["data"])) if "data" in told else cls(told["seed"])
        # More than once: what an engine has learned of a class may be what it gets wrong.
        difference = next(filter(None, (differences(case, engine, reference) for _ in range(3))), None)
        print(difference or "no difference")
        return int(difference is not None)

    directory = options.directory or Path(tempfile.mkdtemp(prefix="pstore-fuzz-"))
    directory.mkdir(parents=True, exist_ok=True)
    current = directory / "current.json"
    seed = random.randrange(10**9) if options.seed is None else options.seed
    print(f"cases from {seed} on; the one at work is written to {current}", flush=True)
    end = time.monotonic() + options.seconds
    failures = count = 0
    while (time.monotonic() < end) if options.count is None else (count < options.count):
        kind = options.kind or ("dump", "load", "load", "dump", "load", "table")[seed % 6]
        current.write_text(json.dumps({"kind": kind, "seed": seed}))
        case = CASES[kind](seed)
        if isinstance(case, LoadCase):
            current.write_text(json.dumps({"kind": kind, "seed": seed, "data": case.data.hex()}))
        faulthandler.dump_traceback_later(_HANG, exit=True)
        try:
            if options.alone:
                case.run(engine)
                difference = None
            else:
                difference = differences(case, engine, reference)
        except BaseException as error:
            print(f"{kind} {seed}: the fuzzer itself failed: {picture_of_error(error)}", flush=True)
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
        if difference is not None:
            failures += 1
            told = {"kind": kind, "seed": seed}
            if isinstance(case, LoadCase):
                case = smaller(case, engine, reference)
                told["data"] = case.data.hex()
                difference = f"{case.data!r}\n{differences(case, engine, reference)}"
            file = directory / f"{kind}-{seed}.json"
            file.write_text(json.dumps(told))
            print(f"{kind} {seed}: {file}\n{difference}\n", flush=True)
            if failures >= options.failures:
                break
        seed += 1
        count += 1
    print(f"{count} cases, {failures} differences", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
