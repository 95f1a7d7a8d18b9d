"""The engines, next to each other: whatever they are given, they write, load and raise the same. The reference is right.

What is compared is the outcome as a picture: see `pictures`. `test_patches` has the same for classes that change between two
dumps or loads, and `test_fuzz` for code that does what it mustn't in the middle of one.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from .engines import PROTOCOLS, Engine
from .graphs import graphs
from .hostile import FillingSource, Given, PeekingSource, Sink, Source
from .leak_cases import LARGE
from .pictures import outcome, picture
from .processes import run
from .programs import Program, mutated
from .streams import ALLOWED, OPCODES, STREAMS, find
from .zoo import ZOO, Dict, List, Plain, Slotted, SlottedWithDict, State, assert_alike

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pair = tuple[Engine, Engine]


def same(pair: Pair, told: Callable[[Engine], list[Any]], what: Any = None) -> list[Any]:
    """Assert that both engines tell the same, step by step; return it."""
    expected, got = (told(engine) for engine in pair)
    for number, (one, two) in enumerate(zip(expected, got, strict=False)):
        assert two == one, (what, f"step {number}")
    assert len(got) == len(expected), what
    return expected


# --------------------------------------------------------------------------------------------------------------- dumps


def memo_of(pickler: Any) -> list[Any]:
    """What a pickler has in its memo, object by object."""
    entries = sorted(pickler.memo.values(), key=lambda entry: entry[0])
    assert list(pickler.memo) == [id(obj) for _, obj in pickler.memo.values()]
    assert [id(obj) for _, obj in entries] == [*map(id, pickler.memoized())]
    return [(index, type(obj)) for index, obj in entries]


def told_of_dumps(
    engine: Engine, obj: Any, protocol: int, *, times: int = 1, fast: bool = False, **keywords: Any
) -> list[Any]:
    """What a pickler does with an object: outcome, each write, memo; with a hook, also what it was asked for."""
    asked: list[str] = []
    buffers: list[Any] = []
    if (verdict := keywords.pop("buffers", None)) is not None and protocol == 5:
        keywords["buffer_callback"] = lambda buffer: buffers.append(buffer) or verdict
    for name in HOOKS:
        if name in keywords:
            hook = keywords[name]
            keywords[name] = lambda obj, hook=hook, name=name: (
                asked.append(f"{name} {type(obj).__name__}"),
                hook(obj),
            )[1]
    table = keywords.get("persistent_ids")
    if table == "native":
        keywords["persistent_ids"] = getattr(engine.module, "IdentityTable", dict)(keywords.pop("table"))
    attributes = {name: keywords.pop(name) for name in ("reducer_override", "dispatch_table") if name in keywords}
    sink = Sink()
    pickler = engine.Pickler(sink, protocol, **keywords)
    for name, value in attributes.items():
        setattr(pickler, name, value)
    pickler.fast = fast
    told: list[Any] = []
    for number in range(times):
        if number == 2:
            pickler.clear_memo()
        told += [outcome(lambda: pickler.dump(obj)), outcome(lambda: pickler.dumps(obj)), memo_of(pickler)]
    told += [*sink.writes, len(buffers), asked]
    return told


HOOKS = "persistent_id", "inst_persistent_id", "global_persistent_id"
KINDS = (Plain, Slotted, SlottedWithDict, State, List, Dict)


def no_id(obj: Any) -> None:
    """A hook that has no id for anything."""


def some_ids(obj: Any) -> Any:
    """A hook that has ids, of several types, for a part of the instances and classes."""
    if type(obj) in KINDS:
        return [("oid", KINDS.index(type(obj))), "an id", 7, None, b"id", None][KINDS.index(type(obj))]
    return "class" if obj is State else None


def text_ids(obj: Any) -> Any:
    """A hook of which the ids fit into protocol 0."""
    return "id" if type(obj) in KINDS[:3] else None


def override(obj: Any) -> Any:
    """A reducer for a part of the classes."""
    return {Plain: (list, ()), Slotted: "GLOBAL", State: (Plain, (), {"a": 1})}.get(type(obj), NotImplemented)


def reduced(obj: Any) -> Any:
    """A reduction function."""
    return list, ([1, type(obj).__name__],), None, iter("ab")


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "canonical": {"canonical": True},
    "without fix_imports": {"fix_imports": False},
    "fast": {"fast": True},
    "fast and canonical": {"fast": True, "canonical": True},
    "three times": {"times": 3},
    "three times canonical": {"times": 3, "canonical": True},
    "persistent_id None": {"persistent_id": no_id},
    "persistent_id": {"persistent_id": some_ids, "times": 2},
    "persistent_id, text": {"persistent_id": text_ids},
    "inst_persistent_id": {"inst_persistent_id": some_ids, "times": 2},
    "inst_persistent_id, text": {"inst_persistent_id": text_ids},
    "global_persistent_id": {"global_persistent_id": some_ids},
    "all hooks canonical": dict.fromkeys(HOOKS, text_ids) | {"canonical": True},
    "reducer_override": {"reducer_override": override},
    "dispatch_table": {"dispatch_table": {Plain: reduced, Slotted: reduced, type: reduced, int: reduced}},
    "dispatch_table that isn't a dict": {"dispatch_table": Given({Plain: reduced, List: reduced})},
    "buffers in band": {"buffers": True},
    "buffers out of band": {"buffers": False},
}


def of_protocol(configuration: dict[str, Any], protocol: int) -> bool:
    """Whether a configuration can be had in this protocol."""
    return bool(protocol) or not configuration.get("canonical")


class TestDumps:
    @pytest.mark.parametrize("configuration", CONFIGURATIONS)
    def test_zoo(self, pair: Pair, configuration: str) -> None:
        """Objects of every kind, in every protocol, with every hook: the same bytes in the same writes, or errors."""
        keywords = CONFIGURATIONS[configuration]
        for name, make in ZOO.items():
            obj = make()
            if keywords.get("fast") and "in_itself" in name:
                continue  # it is found when 64 KiB are written: tested once, below
            if name in LARGE and configuration != "plain":
                continue  # it takes long, and shows no more
            for protocol in PROTOCOLS:
                if of_protocol(keywords, protocol):
                    same(pair, lambda e, o=obj, p=protocol: told_of_dumps(e, o, p, **keywords), (name, protocol))

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def test_graphs(self, pair: Pair, data: st.DataObject) -> None:
        """Random graphs with sharing and cycles, with a table of ids too: dict, identity table, or a mapping of any type."""
        protocol = data.draw(st.sampled_from(PROTOCOLS))
        obj = data.draw(graphs(old=protocol < 2))
        name = data.draw(st.sampled_from([name for name, one in CONFIGURATIONS.items() if not one.get("fast")]))
        keywords = dict(CONFIGURATIONS[name])
        if not of_protocol(keywords, protocol):
            del keywords["canonical"]
        form = data.draw(st.sampled_from(["none", "dict", "native", "other"]))
        if form != "none":
            nodes = obj if isinstance(obj, list) else [obj]
            table = {
                id(node): f"id {number}" for number, node in enumerate(nodes) if data.draw(st.booleans()) and node != ()
            }
            keywords["persistent_ids"] = {"dict": table, "native": "native", "other": Given(table)}[form]
            if form == "native":
                keywords["table"] = table
        same(pair, lambda engine: told_of_dumps(engine, obj, protocol, **keywords), (name, form, protocol))

    def test_cycles_in_fast_mode(self, pair: Pair) -> None:
        """Without a memo a cycle is found at the same point, and told in the same words."""
        cycle: list[Any] = ["x" * 200]
        cycle.append({"k": (Plain(cycle=cycle),)})
        for protocol in PROTOCOLS:
            told = same(pair, lambda engine, p=protocol: told_of_dumps(engine, cycle, p, fast=True), protocol)
            assert "cyclic" in told[0][1]

    def test_large(self, pair: Pair) -> None:
        """Frames and large data come in the same writes."""
        value = ["a" * 100, b"b" * 65_535, b"c" * 65_536, "d" * 65_535, "e" * 70_000, bytearray(70_000), 1 << 600_000]
        value += [[number] for number in range(20_000)]
        value += [value[:5], {str(number): number for number in range(3000)}, set(range(3000)), "\u20ac" * 30_000]
        for protocol in PROTOCOLS:
            told = same(pair, lambda engine, p=protocol: told_of_dumps(engine, value, p, times=2), protocol)
            assert len([one for one in told if isinstance(one, bytes)]) > 10 or protocol < 4

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 999, 1000, 1001, 1002, 1999, 2000, 2001, 3000])
    def test_batches(self, pair: Pair, size: int) -> None:
        """Containers of every size, and reductions with as many items, end their batches in the same places."""

        class Items:
            def __reduce__(self) -> Any:
                return list, (), None, iter(range(size)), None

        class Pairs:
            def __reduce__(self) -> Any:
                return dict, (), None, None, iter(zip(range(size), "a" * size, strict=True))

        values = [[0] * size, tuple(range(size)), dict.fromkeys(range(size)), set(range(size)), frozenset(range(size))]
        for obj in [*values, List(range(size)), Dict.fromkeys(range(size)), Items(), Pairs()]:
            for protocol in PROTOCOLS:
                same(pair, lambda engine, o=obj, p=protocol: told_of_dumps(engine, o, p), protocol)

    @settings(max_examples=300)
    @given(
        value=st.integers()
        | st.floats()
        | st.text()
        | st.binary()
        | st.text(alphabet="\\\n\r\0\x1aa\udc80\u20ac\U0001f600")
    )
    def test_atoms(self, pair: Pair, value: Any) -> None:
        """Any number and text."""
        for protocol in PROTOCOLS:
            same(pair, lambda engine, p=protocol: told_of_dumps(engine, [value, value], p))

    def test_integers_at_their_limits(self, pair: Pair) -> None:
        """Around every power of two."""
        values = [
            sign * (1 << bits) + off
            for bits in [*range(70), 1000, 2039, 2040, 2047]
            for sign in (1, -1)
            for off in (-1, 0, 1)
        ]
        for protocol in PROTOCOLS:
            same(pair, lambda engine, p=protocol: told_of_dumps(engine, values, p))

    def test_memo_that_is_set(self, pair: Pair) -> None:
        """A memo may be set: what is in it is referred to; what is no memo is refused in the same words."""
        one, two = ["one"], "two"
        for memo in [
            {id(one): (0, one), id(two): (1, two)}, {id(one): (7, one)}, {id(one): (300, one), id(two): (2, two)}, {},
            {1: 2}, {1: (1,)}, {1: ("a", one)}, [], None, 5, {id(one): (-1, one)}, {5: (0, one), 6: (0, two)},
        ]:  # fmt: skip
            for canonical in False, True:

                def told(engine: Engine, memo: Any = memo, canonical: bool = canonical) -> list[Any]:
                    pickler = engine.Pickler(None, 4, canonical=canonical)
                    got = [outcome(lambda: setattr(pickler, "memo", memo))]
                    got += [outcome(lambda: pickler.dumps([one, two, str(b"two", "ascii"), ["new"]]))]
                    return [*got, [(index, type(obj)) for index, obj in pickler.memo.values()], len(pickler.memoized())]

                same(pair, told, memo)

    @pytest.mark.parametrize(
        "arguments",
        [
            ((None, 6), {}), ((None, -1), {}), ((None, -7), {}), ((None, "4"), {}), ((None, 2.0), {}), ((None, True), {}),
            ((None, None), {}), ((5,), {}), (("file",), {}), ((None, 0), {"canonical": True}), ((None, 4), {"buffer_callback": len}),
            ((None, 4, True, None, 5), {}), ((), {"nonsense": 1}), ((None, 2**70), {}), ((None, 4), {"persistent_ids": 5}),
            ((None, 4), {"persistent_id": 5}), ((None, 4), {"inst_persistent_id": "x"}), ((None, 4), {"persistent_ids": []}),
        ],
    )  # fmt: skip
    def test_arguments(self, pair: Pair, arguments: Any) -> None:
        """What is no good argument is refused alike, when the pickler is made or when it is used."""
        positional, keywords = arguments

        def told(engine: Engine) -> list[Any]:
            kind, text = outcome(lambda: engine.Pickler(*positional, **keywords) and None)
            # The words for a wrong number or name of arguments are the interpreter's, which names what it calls.
            got = [kind, text if "argument" not in text else text.partition(":")[0]]
            if kind == "gave":
                pickler = engine.Pickler(*positional, **keywords)
                got += [outcome(lambda: pickler.dumps([1, Plain(), Plain])), outcome(lambda: pickler.dump(1))]
            return got

        same(pair, told)


# --------------------------------------------------------------------------------------------------------------- loads

SOURCES: dict[str, Callable[[bytes], Any]] = {
    "memory": io.BytesIO,
    "buffered": lambda data: io.BufferedReader(io.BytesIO(data), buffer_size=16),
    "minimal": Source,
    "a few bytes at a time": lambda data: Source(data, 3),
    "filling": lambda data: FillingSource(data, 5),
    "peeking": lambda data: PeekingSource(data, 7),
}


def told_of_loads(engine: Engine, data: bytes, source: str = "memory", **keywords: Any) -> list[Any]:
    """What an unpickler does with a stream, and a skimming one; where the file is left, and what is in the memo."""
    told: list[Any] = []
    for way in "load", "noload", "load":
        file = SOURCES[source](data)
        ids: list[Any] = []
        unpickler = engine.Unpickler(
            file,
            **{
                "encoding": "latin-1",
                "find_global": find,
                "persistent_load": ids,
                "buffers": [b"buffer", bytearray(b"b")],
                **keywords,
            },
        )
        told += [
            (way, outcome(getattr(unpickler, way))),
            file.tell(),
            picture(ids),
            picture(dict(sorted(unpickler.memo.items()))),
        ]
        if told[-4][1][0] == "gave":
            told += [outcome(getattr(unpickler, way)), file.tell()]  # the stream behind it
    return told


def told_of_tools(engine: Engine, data: bytes) -> list[Any]:
    """What the functions tell of a stream that build nothing."""
    return [outcome(lambda: engine.references(data)), outcome(lambda: engine.globals(data))]


class TestLoads:
    @pytest.mark.parametrize("source", SOURCES)
    def test_zoo(self, pair: Pair, source: str) -> None:
        """Streams of every kind of object come out alike, and leave the file in the same place."""
        for name, make in ZOO.items():
            for protocol in PROTOCOLS:
                try:
                    data = pair[0].dumps(make(), protocol)
                except (TypeError, pickle.PicklingError):
                    continue
                if len(data) > 3_000 and source not in ("memory", "buffered"):
                    continue  # it takes long, and shows no more
                results, files = [], []
                for engine in pair:
                    files.append(SOURCES[source](data + b"rest"))
                    results.append(engine.Unpickler(files[-1]).load())
                assert_alike(*results, f"{name}, protocol {protocol}")
                assert files[0].tell() == files[1].tell() == len(data)

    @pytest.mark.parametrize("source", SOURCES)
    def test_cut(self, pair: Pair, source: str) -> None:
        """A stream that is cut is the same error at the same place."""
        for name, data in STREAMS.items():
            for end in range(0, len(data), 1 if source == "memory" else 5):
                same(pair, lambda engine, cut=data[:end]: told_of_loads(engine, cut, source), (name, end))
            same(pair, lambda engine, whole=data + data: told_of_loads(engine, whole, source), name)
            same(pair, lambda engine, whole=data: told_of_tools(engine, whole), name)

    @pytest.mark.parametrize("name", OPCODES)
    def test_two_opcodes(self, pair: Pair, name: str) -> None:
        """Any opcode after any other, on a stack with something on it, of which the argument may be cut."""
        first = OPCODES[name]
        for second in OPCODES.values():
            for before in b"", b"(", b"N](", b"}(K\x01)", b"cstreams\nSimple\n)\x81}":
                data = before + first + second
                same(pair, lambda engine, data=data: [outcome(lambda: harmless(engine, data + b"."))], data)
                same(pair, lambda engine, data=data: [outcome(lambda: skimmed(engine, data + b"."))], data)
            same(
                pair,
                lambda engine, data=first + second[:-1]: [outcome(lambda: harmless(engine, data))],
                (first, second),
            )

    @settings(max_examples=300)
    @given(data=st.binary(max_size=60), source=st.sampled_from(sorted(SOURCES)))
    def test_any_bytes(self, pair: Pair, data: bytes, source: str) -> None:
        """Any bytes at all."""
        same(pair, lambda engine: told_of_loads(engine, data, source) + told_of_tools(engine, data), data)

    @settings(max_examples=300)
    @given(
        parts=st.lists(st.sampled_from(sorted(OPCODES.values())), max_size=25), source=st.sampled_from(sorted(SOURCES))
    )
    def test_any_opcodes(self, pair: Pair, parts: list[bytes], source: str) -> None:
        """Any opcodes in any order."""
        data = b"".join(parts) + b"."
        same(pair, lambda engine: told_of_loads(engine, data, source) + told_of_tools(engine, data), data)

    @settings(max_examples=300)
    @given(
        random=st.randoms(use_true_random=False),
        source=st.sampled_from(sorted(SOURCES)),
        encoding=st.sampled_from(["ASCII", "bytes", "utf-8"]),
    )
    def test_any_program(self, pair: Pair, random: Any, source: str, encoding: str) -> None:
        """Streams that mean something, and such with something changed."""
        data = Program(random, sorted(ALLOWED)).stream(15)
        data = mutated(random, data, STREAMS["instances 4"]) if random.random() < 0.5 else data
        told = told_of_loads
        same(pair, lambda engine: told(engine, data, source, encoding=encoding) + told_of_tools(engine, data), data)

    @settings(max_examples=100)
    @given(data=st.data())
    def test_graphs(self, pair: Pair, data: st.DataObject) -> None:
        """Random graphs: either engine loads what either has dumped; and what is done with ids is the same."""
        protocol = data.draw(st.sampled_from(PROTOCOLS))
        obj = data.draw(graphs(old=protocol < 2))
        try:
            stream = pair[1].dumps(obj, protocol)
        except pickle.PicklingError:
            assume(False)  # old protocols can't hold some cycles
        for engine in pair:
            assert_alike(obj, engine.loads(stream))
        stream = pair[0].dumps(obj, protocol, persistent_id=text_ids)
        table = {"id": Plain(name="found")}
        for load in [], [].append, table.get:
            for objects in None, table, Given(table), {}:
                results = [engine.loads(stream, persistent_load=load, persistent_objects=objects) for engine in pair]
                assert_alike(*results)
        assert pair[0].references(stream) == pair[1].references(stream)
        assert pair[0].globals(stream) == pair[1].globals(stream)

    def test_memo_between_streams(self, pair: Pair) -> None:
        """A memo that is kept, set and emptied between streams is the same memo."""
        first = pickle.dumps([["a"], {"b": 1}], 2)

        def told(engine: Engine) -> list[Any]:
            unpickler = engine.unpickler(first + b"h\x01.h\x00." + first)
            got: list[Any] = []
            for _ in range(4):
                got += [outcome(unpickler.load), picture(dict(sorted(unpickler.memo.items())))]
            for memo in {0: "set", 300: []}, {}, {-1: 1}, {"a": 1}, [], None, {2**32: 1}, {2**70: 1}:
                unpickler = engine.unpickler(b"h\x00.j\x2c\x01\x00\x00.h\x01.g-1\n.")
                got.append(outcome(lambda u=unpickler, memo=memo: setattr(u, "memo", memo)))
                got += [outcome(unpickler.load) for _ in range(4)]
                got.append(picture(dict(sorted(unpickler.memo.items()))))
            unpickler.feed(first)
            got += [
                outcome(unpickler.load),
                outcome(unpickler.load),
                unpickler.clear_memo(),
                picture(dict(sorted(unpickler.memo.items()))),
            ]
            return got

        same(pair, told)

    @pytest.mark.parametrize(
        "keywords",
        [
            {"encoding": "nonsense"}, {"encoding": 5}, {"errors": "nonsense"}, {"errors": 5}, {"buffers": 5}, {"buffers": []},
            {"buffers": iter([])}, {"persistent_load": 5}, {"persistent_load": ()}, {"persistent_load": None}, {"find_global": 5},
            {"find_global": None}, {"persistent_objects": 5}, {"persistent_objects": []}, {"persistent_objects": {}},
            {"fix_imports": 0}, {"encoding": "utf-16"}, {"encoding": "base64"}, {"encoding": "\udc80"}, {"encoding": "a\0b"},
        ],
        ids=repr,
    )  # fmt: skip
    def test_arguments(self, pair: Pair, keywords: dict[str, Any]) -> None:
        """What is no good argument is refused alike, when the unpickler is made or when it is used."""
        for data in (
            STREAMS["ids 4"],
            STREAMS["old binary"],
            STREAMS["old text"],
            STREAMS["buffers out of band"],
            b"N.",
            b"U\x02\xff\xfe.",
        ):

            def told(engine: Engine, data: bytes = data) -> list[Any]:
                made = outcome(lambda: engine.Unpickler(**keywords) and None)
                if made[0] == "raised":
                    return [made[0], made[1]]
                return [
                    made,
                    outcome(lambda: engine.loads(data, **keywords)),
                    outcome(lambda: engine.loads(data, **keywords)),
                ]

            same(pair, told)

    def test_no_file_and_no_data(self, pair: Pair) -> None:
        """What can't be read from is refused alike."""

        class Nothing:
            read = None

        class Text:
            def read(self, size: int) -> Any:
                return "N."[:size]

            def readline(self) -> Any:
                return "N."

        class TooMuch(Text):
            def read(self, size: int) -> Any:
                return b"N" * (size + 1)

        class Blocked(Text):
            def read(self, size: int) -> Any:
                return None

        for file in None, 5, Nothing(), Text(), TooMuch(), Blocked(), io.StringIO("N."), io.BytesIO(b""):
            same(pair, lambda engine, file=file: [outcome(lambda: engine.Unpickler(file).load())], file)
            same(pair, lambda engine, file=file: [outcome(lambda: engine.Unpickler(file).noload())], file)
        for data in 5, "N.", None, [78], bytearray(b"N."), memoryview(b"N.x"[::2]), memoryview(b"N."), b"":
            same(pair, lambda engine, data=data: [outcome(lambda: engine.loads(data))], data)
            same(pair, lambda engine, data=data: told_of_tools(engine, data), data)


def harmless(engine: Engine, data: bytes) -> Any:
    """What a stream gives that may name nothing but what is harmless."""
    return engine.loads(
        data, find_global=find, encoding="latin-1", buffers=[b"buffer"] * 3, persistent_load=lambda pid: ("id", pid)
    )


def skimmed(engine: Engine, data: bytes) -> Any:
    """The ids in a stream."""
    ids: list[Any] = []
    unpickler = engine.Unpickler(encoding="latin-1", persistent_load=ids)
    unpickler.feed(data)
    unpickler.noload()
    return ids


NAMELESS = next(iter([lambda: None]))


def test_deep_errors(pair: Pair) -> None:
    """An error at the bottom of a deep structure has the same path, cut in its middle."""
    for wrap in (lambda v: [v]), (lambda v: (v,)), (lambda v: {"k": v}), (lambda v: Plain(a=v)), (lambda v: State([v])):
        for depth in 1, 5, 23, 24, 25, 26, 100:
            value: Any = NAMELESS
            for _ in range(depth):
                value = wrap(value)
            for protocol in 0, 1, 2, 4:
                same(pair, lambda engine, v=value, p=protocol: told_of_dumps(engine, v, p), (depth, protocol))


def iterate(*values: Any) -> Iterator[Any]:
    """An iterator that is a generator."""
    yield from values


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None, "int": lambda: 5, "list": list, "empty": lambda: (), "one": lambda: (list,),
    "seven": lambda: (list, (), None, None, None, None, None), "not callable": lambda: (5, ()), "no tuple": lambda: (list, []),
    "items": lambda: (list, (), None, [1]), "pairs": lambda: (dict, (), None, None, {}), "setter": lambda: (list, (), 1, None, None, 5),
    "pair of one": lambda: (dict, (), None, None, iterate((1,))), "no pair": lambda: (dict, (), None, None, iterate((1, 2), 5)),
    "list as pair": lambda: (dict, (), None, None, iterate((1, 2), (3, 4), [5, 6])), "name": lambda: "no such name",
    "dotted name": lambda: "no.such.name", "empty name": lambda: "", "str subclass": lambda: type("S", (str,), {})("Plain"),
    "tuple subclass": lambda: type("T", (tuple,), {})((list, ([],))), "local": lambda: (lambda: None, ()),
    "lambda in arguments": lambda: (list, ([lambda: None],)), "lambda in state": lambda: (list, (), {"a": lambda: None}),
    "lambda in items": lambda: (list, (), None, iterate(1, 2, lambda: None)),
    "lambda in pairs": lambda: (dict, (), None, None, iterate(("k", 1), ("l", lambda: None))),
    "lambda in setter": lambda: (list, (), 5, None, None, lambda: None),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_reductions(pair: Pair, wrong: str) -> None:
    """What is no reduction is refused in the same words, with the same path; from a method, a table and an override."""

    class Odd:
        def __reduce_ex__(self, protocol: Any) -> Any:
            return WRONG[wrong]()

    Odd.__qualname__ = "Odd"
    value = {"k": [1, Odd(), (Plain(a=Plain(b=Odd())),)]}
    for protocol in PROTOCOLS:
        same(pair, lambda engine, p=protocol: told_of_dumps(engine, value, p), protocol)
        for keywords in (
            {"dispatch_table": {Plain: lambda obj: WRONG[wrong]()}},
            {"reducer_override": lambda obj: WRONG[wrong]() if type(obj) is Plain else NotImplemented},
        ):
            same(
                pair,
                lambda engine, k=keywords, p=protocol: told_of_dumps(engine, [1, {"k": Plain()}], p, **k),
                protocol,
            )


ENDLESS = """
import importlib, sys
engine = importlib.import_module(sys.argv[1])

class Named:
    def __reduce_ex__(self, protocol):
        return "NAMED"

NAMED = Named()
for obj, hook in [(int, lambda obj: obj), (NAMED, lambda obj: NAMED), ([len], lambda obj: obj), (NAMED, lambda obj: int)]:
    for name in "global_persistent_id", "inst_persistent_id", "persistent_id":
        for protocol in 1, 4:
            try:
                engine.dumps(obj, protocol, **{name: hook})
                print(name, "gave")
            except Exception as error:
                print(name, type(error).__name__)
"""


def test_ids_that_lead_to_themselves(pair: Pair) -> None:
    """A class that is its own id, or a name of which the id is that name, is an exception where it never ends, no crash."""
    expected, got = (run("-c", ENDLESS, engine.module_name).stdout for engine in pair)
    assert got == expected
