"""Malformed and hostile streams: UnpicklingError or EOFError, soon, and in little memory."""

from __future__ import annotations

import copyreg
import io
import itertools
import pickle
import random
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .processes import run
from .streams import OPCODES, STREAMS, find, load_harmless, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .engines import Engine

REFUSED = (pickle.UnpicklingError, EOFError)


class Minimal:
    """Two methods over memory."""

    def __init__(self, data: bytes) -> None:
        file = io.BytesIO(data)
        self.read, self.readline = file.read, file.readline


SOURCES: dict[str, Callable[[bytes], Any]] = {
    "memory": io.BytesIO,
    "minimal": Minimal,
    "buffered": lambda data: io.BufferedReader(io.BytesIO(data), buffer_size=16),
}


def check(engine: Engine, data: bytes) -> tuple[str, str]:
    """Feed the data to everything that reads streams; return what a load gave. All ways of reading must agree."""
    results = {name: outcome(lambda make=make: load_harmless(engine, make(data))) for name, make in SOURCES.items()}
    first = results["memory"]
    for name, result in results.items():
        assert result == first, (name, data)
    ids: list[Any] = []
    skimmed = outcome(lambda: engine.Unpickler(io.BytesIO(data), encoding="latin-1", persistent_load=ids).noload())
    names = outcome(lambda: engine.globals(data))
    outcome(lambda: engine.references(data))
    if first[0] == "value":
        # What a load takes, the readers that build nothing take, but for ids that they can't tell.
        assert skimmed[0] == "value" or "persistent id" in skimmed[1], data
        assert names[0] == "value" or "decode" in names[1], data
    return first


class TestTruncation:
    @pytest.mark.parametrize("name", STREAMS)
    def test_at_every_byte(self, engine: Engine, name: str) -> None:
        """A stream cut anywhere is an EOFError, from wherever it is read; from memory an UnpicklingError doesn't do."""
        data = STREAMS[name]
        for end in range(len(data)):
            for make in SOURCES.values():
                with pytest.raises(EOFError):
                    load_harmless(engine, make(data[:end]))
            if end < len(data) - 1:
                with pytest.raises(EOFError):
                    engine.Unpickler(io.BytesIO(data[:end]), encoding="latin-1", persistent_load=[]).noload()
                for tool in engine.references, engine.globals:
                    with pytest.raises(REFUSED):
                        tool(data[:end])

    def test_whole(self, engine: Engine) -> None:
        """The same streams are good when they are whole."""
        for name, data in STREAMS.items():
            assert check(engine, data)[0] == "value", name

    def test_cut_streams_of_the_standard_with_our_error(self, engine: Engine) -> None:
        """A stream cut within an opcode's argument is an EOFError and an UnpicklingError; nothing at all an EOFError."""
        for data in (
            b"X\x05\x00\x00\x00ab",
            b"\x8c\x05ab",
            b"cmath\nsi",
            b"I12",
            b"\x80",
            b"\x8a\x05ab",
            b"J\x00",
            b"(lp0",
        ):
            with pytest.raises(EOFError) as caught:
                engine.loads(data)
            assert isinstance(caught.value, pickle.UnpicklingError)
        with pytest.raises(EOFError):
            engine.loads(b"")


#: What may lie on the stack before an opcode.
BEFORE = {
    "None": b"N",
    "mark": b"(",
    "int": b"K\x01",
    "text": b"\x8c\x02ab",
    "list": b"]",
    "dict": b"}",
    "tuple": b")",
    "set": b"\x8f",
    "class": b"cstreams\nAnything\n",
    "instance": b"cstreams\nSimple\n)\x81",
}


class TestShortPrograms:
    """Every opcode on every stack of up to three things."""

    @pytest.mark.parametrize("name", OPCODES)
    def test_opcode(self, engine: Engine, name: str) -> None:
        """Whatever lies on the stack, an opcode does its work or is refused; too few things are an UnpicklingError."""
        opcode = OPCODES[name]
        for count in range(3):
            for before in itertools.product(BEFORE.values(), repeat=count):
                data = b"".join(before) + opcode + b"."
                outcome(lambda data=data: load_harmless(engine, io.BytesIO(data)))
                outcome(lambda data=data: engine.Unpickler(io.BytesIO(data), persistent_load=[]).noload())

    @pytest.mark.parametrize("name", [name for name in OPCODES if not name.startswith(("PROTO", "FRAME"))])
    def test_as_the_standard(self, engine: Engine, name: str) -> None:
        """What the standard's C engine loads we load, to the same; what it refuses we refuse."""
        opcode = OPCODES[name]
        for count in range(4):
            for before in itertools.product([b"N", b"(", b"K\x01", b"]", b"}", b")"], repeat=count):
                data = b"".join(before) + opcode + b"."

                class Standard(pickle.Unpickler):
                    persistent_load = staticmethod(lambda pid: ("id", pid))
                    find_class = staticmethod(find)

                try:
                    buffers = iter([b"buffer"] * 3)
                    standard = Standard(io.BytesIO(data), encoding="latin-1", buffers=buffers)
                    expected = outcome(standard.load)
                except Exception:  # noqa: BLE001 - the standard raises whatever it likes
                    expected = ("error", "")
                got = outcome(lambda data=data: load_harmless(engine, io.BytesIO(data)))
                if name in ("APPENDS", "SETITEMS", "ADDITEMS") and before[-1:] == (b"(",) and got[0] != "value":
                    continue  # no items for what can't have any: the standard doesn't look
                assert (got[0] == "value") == (expected[0] == "value"), (data, expected, got)
                if got[0] == "value":
                    assert got == expected, data

    @pytest.mark.parametrize("name", OPCODES)
    def test_two_opcodes(self, engine: Engine, name: str) -> None:
        """Any opcode after any other, on a stack with something on it."""
        first = OPCODES[name]
        for second in OPCODES.values():
            for before in b"", b"(", b"N](", b"}(K\x01)":
                data = before + first + second + b"."
                outcome(lambda data=data: load_harmless(engine, io.BytesIO(data)))

    def test_stack_left_over(self, engine: Engine) -> None:
        """STOP takes the top; what lies below is forgotten, and a mark in the place of a value is refused."""
        assert engine.loads(b"K\x01K\x02.") == 2
        for data in b".", b"(.", b"N(.", b"((.":
            with pytest.raises(pickle.UnpicklingError):
                engine.loads(data)

    def test_unknown_opcodes(self, engine: Engine) -> None:
        """Each byte that is no opcode is refused, wherever it stands."""
        known = {opcode[0] for opcode in OPCODES.values()} | {ord(".")}
        assert len(known) == 68
        for code in set(range(256)) - known:
            for data in bytes([code]), b"N" + bytes([code]) + b".", b"(" + bytes([code]):
                with pytest.raises(pickle.UnpicklingError):
                    engine.loads(data)
                with pytest.raises(pickle.UnpicklingError):
                    engine.unpickler(data).noload()


class TestArguments:
    @pytest.mark.parametrize(
        "data",
        [
            b"I\n.", b"Ix\n.", b"I1.5\n.", b"I 1x\n.", b"I--1\n.", b"I1\x00\n.", b"I\xff\n.", b"L\n.", b"LL\n.",
            b"L1x\n.", b"L5LL\n.", b"F\n.", b"Fx\n.", b"F1.5.5\n.", b"F\xff\n.", b"S\n.", b"Sx\n.", b"S'\n.", b"S'a\"\n.",
            b"S'\\x1'\n.", b"S'\\'\n.", b"V\\u12\n.", b"V\\U00110000\n.", b"V\\udc\n.", b"g\n.", b"gx\n.", b"g-1\n.",
            b"g1\n.", b"Np\n.", b"Npx\n.", b"Np-1\n.", b"h\x05.", b"j\x05\x00\x00\x00.", b"P\xff\n.",
            b"X\x01\x00\x00\x00\xff.", b"\x8c\x01\xff.", b"\x8d\x01" + b"\x00" * 7 + b"\x80.", b"X\x02\x00\x00\x00\xc0\x80.",
            b"T\xff\xff\xff\xff.", b"T\x00\x00\x00\x80.", b"\x8b\xff\xff\xff\xff.", b"\x8b\x00\x00\x00\x80.",
            b"\x80\x06N.", b"\x80\xffN.", b"\x80", b"\x82\x00.", b"\x83\x00\x00.", b"\x84\x00\x00\x00\x00.",
            b"\x84\x00\x00\x00\x80.", b"\x82\x77.", b"\x83\x77\x77.", b"c\xff\nx\n.", b"i\n\n.",
            b"N\x8c\x01a\x93.", b"\x8c\x01aN\x93.", b"C\x01a\x8c\x01a\x93.",
            b"\x95\x05\x00\x00\x00\x00\x00\x00\x00N.",
        ],
        ids=repr,
    )  # fmt: skip
    def test_bad(self, engine: Engine, data: bytes) -> None:
        """Arguments that are no number, text or length, in any of the forms, are refused."""
        for make in SOURCES.values():
            with pytest.raises(REFUSED):
                engine.load(make(data))

    @pytest.mark.parametrize(
        "data, value",
        [
            (b"I 5 \n.", 5), (b"I+5\n.", 5), (b"I0x10\n.", 16), (b"I-0\n.", 0), (b"L5\n.", 5), (b"L-5L\n.", -5),
            (b"Finf\n.", float("inf")), (b"F1e3\n.", 1000.0), (b"I00\n.", False), (b"I01\n.", True), (b"\x8a\x00.", 0),
            (b"\x8b\x00\x00\x00\x00.", 0), (b"\x8a\x02\x00\x80.", -32768), (b"V\n.", ""), (b"Va\\u0041\n.", "aA"),
            (b"\x80\x00\x80\x05N.", None), (b"S'a\\x41\\101\\n'\n.", "aAA\n"), (b"U\x00.", ""), (b"g00000\n.", None),
        ],
    )  # fmt: skip
    def test_good(self, engine: Engine, data: bytes, value: Any) -> None:
        """Unusual forms that the standard takes are taken, for the same value."""
        if data[:1] == b"g":
            data, value = b"(lp0\n0" + data, []
        loaded = engine.loads(data)
        assert loaded == pickle.loads(data) == value
        assert type(loaded) is type(value)

    def test_digits_without_end(self, engine: Engine) -> None:
        """Numbers of more digits than Python converts are refused in no time, or loaded."""
        for opcode in b"I", b"L":
            data = opcode + b"9" * 500_000 + b"\n."
            outcome(lambda data=data: engine.loads(data))

    @pytest.mark.parametrize(
        "data",
        [
            b"N}b.", b"K\x01}K\x01K\x02sb.", b"]}\x8c\x01aK\x01sb.", b"]N}\x8c\x01aK\x01s\x86b.", b")K\x01b.",
            b"]K\x01K\x02s.", b"]K\x01N(u.", b"NK\x01a.", b"}K\x01a.", b")K\x01a.", b"](K\x01\x90.", b"}(K\x01\x90.",
            b"N(K\x01K\x02u.", b"N(K\x01e.", b"}]K\x01s.", b"(]K\x01d.", b"}(]K\x01u.", b"\x8f(]\x90.", b"(]\x91.",
            b"})]K\x01\x86\x85K\x01s.", b"(K\x01d.", b"}(K\x01u.", b"NNR.", b"N)R.", b"K\x01)R.", b"N)\x81.", b"N)}\x92.",
            b"(o.", b"(No.", b"\x98.", b"N\x98.", b"\x97.",
        ],
        ids=repr,
    )  # fmt: skip
    def test_bad_targets(self, engine: Engine, data: bytes) -> None:
        """Items, state, keys and calls for what can't take them are the stream's fault: an UnpicklingError."""
        with pytest.raises(pickle.UnpicklingError):
            engine.loads(data)

    def test_bad_registry(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is registered for a code may be wrong without a crash."""
        for wrong in (), ("module",), ("a", "b", "c"), (1, 2), "ab", None, 5:
            monkeypatch.setitem(copyreg._inverted_registry, 0x77, wrong)
            with pytest.raises((pickle.UnpicklingError, TypeError, ValueError, ImportError)):
                engine.loads(b"\x82\x77.")


class TestFrames:
    def frame(self, data: bytes, size: int | None = None) -> bytes:
        """The data in a frame that says it is so long."""
        return b"\x95" + (len(data) if size is None else size).to_bytes(8, "little") + data

    def test_good(self, engine: Engine) -> None:
        """Frames may be empty, many, and begin at any opcode."""
        for data in (
            self.frame(b"(") + self.frame(b"") + self.frame(b"K\x01") + b"K\x02" + self.frame(b"t."),
            self.frame(b"") * 100 + b"(K\x01K\x02t.",
            self.frame(b"(K\x01K\x02t."),
        ):
            for make in SOURCES.values():
                assert engine.load(make(b"\x80\x04" + data)) == (1, 2)

    def test_bad(self, engine: Engine) -> None:
        """A frame that reaches beyond the data is refused."""
        for data in (
            self.frame(b"N", 100) + b".",
            self.frame(b"(" + self.frame(b"K\x01", 50)) + b"t.",
            self.frame(b"N.", 2**63),
            self.frame(b"N.", 2**64 - 1),
        ):
            for make in SOURCES.values():
                with pytest.raises(REFUSED):
                    engine.load(make(b"\x80\x04" + data))
                with pytest.raises(REFUSED):
                    engine.Unpickler(make(b"\x80\x04" + data), persistent_load=[]).noload()

    def test_frames_that_part_an_opcode(self, engine: Engine) -> None:
        """A frame that ends within an opcode or another frame is refused, or read as if it weren't there; alike from all."""
        for data in (
            self.frame(b"(K") + b"\x01t.",
            self.frame(b"\x8c\x05ab") + b"cde.",
            self.frame(b"(" + self.frame(b"K\x01"), 5) + b"K\x01t.",
            self.frame(b"I1") + b"2\n.",
            self.frame(b"cstreams\nAny") + b"thing\n.",
        ):
            check(engine, b"\x80\x04" + data)


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Streams with bytes changed, taken out, put in, doubled, and halves of two put together."""
    choose = random.Random(seed)
    streams = [data for data in STREAMS.values() if len(data) < 2000]
    codes = [opcode[:1] for opcode in OPCODES.values()]
    for _ in range(count):
        data = bytearray(choose.choice(streams))
        for _ in range(choose.choice([1, 1, 1, 2, 3, 8])):
            at = choose.randrange(len(data) + 1)
            kind = choose.randrange(8)
            if kind == 0:
                data[at : at + 1] = bytes([choose.randrange(256)])
            elif kind == 1:
                del data[at : at + choose.randrange(1, 5)]
            elif kind == 2:
                data[at:at] = bytes(choose.randrange(256) for _ in range(choose.randrange(1, 4)))
            elif kind == 3:
                end = at + choose.randrange(1, 20)
                data[at:at] = data[at:end]
            elif kind == 4:
                data[at : at + 1] = choose.choice(codes)
            elif kind == 5:
                data[at:at] = choose.choice(list(OPCODES.values()))
            elif kind == 6:
                data[at:] = choose.choice(streams)[choose.randrange(20) :]
            elif data:
                at = min(at, len(data) - 1)
                data[at] ^= 1 << choose.randrange(8)
        yield bytes(data)


class TestMutations:
    @pytest.mark.parametrize("seed", range(8))
    def test_seeded(self, engine: Engine, seed: int) -> None:
        """Some thousands of mutated streams load or are refused, alike from memory and from files."""
        loaded = 0
        for data in mutations(seed, 500):
            loaded += check(engine, data)[0] == "value"
        assert 10 < loaded < 490  # else the mutations are too weak or too strong to tell anything

    @given(data=st.binary(max_size=60))
    def test_any_bytes(self, engine: Engine, data: bytes) -> None:
        """Any bytes at all."""
        check(engine, data)

    @settings(max_examples=300)
    @given(
        parts=st.lists(st.sampled_from(sorted(OPCODES.values())), max_size=25), end=st.sampled_from([b".", b"", b"t."])
    )
    def test_any_opcodes(self, engine: Engine, parts: list[bytes], end: bytes) -> None:
        """Any good opcodes in any order."""
        check(engine, b"".join(parts) + end)

    @settings(max_examples=200)
    @given(data=st.data())
    def test_any_change(self, engine: Engine, data: st.DataObject) -> None:
        """A good stream in which some bytes are something else."""
        stream = bytearray(data.draw(st.sampled_from(sorted(STREAMS.values(), key=len)[:60])))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(stream) - 1))
            stream[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
            if not stream:
                break
        check(engine, bytes(stream))


HUGE = """
import importlib, io, pickle, resource, sys, tempfile
engine = importlib.import_module(sys.argv[1])
limit = 200 * 2**20 + int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

class Minimal:
    def __init__(self, data):
        file = io.BytesIO(data)
        self.read, self.readline = file.read, file.readline

def real(data):
    file = tempfile.TemporaryFile()
    file.write(data)
    file.seek(0)
    return file

def raw(data):
    return io.BufferedReader(io.BytesIO(data))

streams = []
for size in 10**9, 2**31 - 1, 2**31, 2**32 - 1:
    four = size.to_bytes(4, "little")
    streams += [opcode + four + b"abc" for opcode in (b"T", b"X", b"B", b"\\x8b")]
    streams += [b"\\x80\\x04(]r" + four + b"j" + four + b"t.", b"]p%d\\n." % size, b"(p%d\\n" % size]
for size in 10**9, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1:
    eight = size.to_bytes(8, "little")
    streams += [opcode + eight + b"abc" for opcode in (b"\\x8d", b"\\x8e", b"\\x96", b"\\x95")]
    streams += [b"\\x80\\x05\\x95" + eight + b"\\x8e" + eight + b"abc", b"\\x80\\x05(\\x96" + eight + b"x" * 5000]
for data in streams:
    for make in io.BytesIO, Minimal, real, raw:
        for call in ("load", "noload"):
            source = make(data)
            try:
                getattr(engine.Unpickler(source, persistent_load=[]), call)()
            except (pickle.UnpicklingError, EOFError):
                pass
            getattr(source, "close", bool)()
    for tool in engine.loads, engine.references, engine.globals:
        try:
            tool(data)
        except (pickle.UnpicklingError, EOFError):
            pass
# What getrusage tells is never less than the parent had when it forked.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit of memory is set by way of /proc")
def test_lengths_that_the_data_does_not_justify(engine: Engine) -> None:
    """A length of gigabytes in front of a few bytes takes no memory, whatever is read from; nor do memo indices."""
    peak = int(run("-c", HUGE, engine.module_name).stdout) * 1024
    assert peak < 150 * 2**20
    assert resource.getpagesize() > 0


KEYS = """
import importlib, pickle, sys
engine = importlib.import_module(sys.argv[1])
key = {
    "depth": b")" + b"\\x85" * 200_000,
    "breadth": b")" + b"2\\x86" * 60,
    "breadth beside a list": b"]" + b")" + b"2\\x86" * 60 + b"\\x86",
    "depth in a frozenset": b"(" + b")" + b"\\x85" * 200_000 + b"\\x91",
}[sys.argv[2]]
places = {
    "SETITEM": (b"}", b"Ns."), "SETITEMS": (b"}(", b"Nu."), "DICT": (b"(", b"Nd."), "ADDITEMS": (b"\\x8f(", b"\\x90."),
    "FROZENSET": (b"(", b"\\x91."),
}
for opcode, place in places.items():
    data = b"\\x80\\x04" + key.join(place)
    for name in "loads", "references", "globals":
        print(opcode, name, file=sys.stderr, flush=True)
        try:
            getattr(engine, name)(data)
        except (pickle.UnpicklingError, RecursionError):
            pass
"""


@pytest.mark.parametrize("key", ["depth", "breadth", "breadth beside a list", "depth in a frozenset"])
def test_keys_that_can_not_be_hashed_in_time(engine: Engine, key: str) -> None:
    """A key so many tuples deep that hashing it ends the interpreter, or with 2**60 leaves, is no crash and no hang."""
    run("-c", KEYS, engine.module_name, key, timeout=30)


def test_large_ids_again_and_again(engine: Engine) -> None:
    """Reading the ids of a stream takes time in proportion to it, though one large container be the id of many."""
    size = 20_000
    data = b"\x80\x04]q\x00(" + b"K\x01" * size + b"e0(" + b"h\x00Q" * size + b"t."
    start = time.process_time()
    ids = engine.references(data)
    assert time.process_time() - start < 5  # which is far more than it takes, and far less than size ** 2 steps do
    assert len(ids) == size
    assert ids[0] is ids[-1]


def test_ids_that_take_too_long(engine: Engine) -> None:
    """A large id that changes each time it is used is refused, once looking through it has taken far too long."""
    size = 20_000
    data = b"\x80\x04]q\x00(" + b"K\x01" * size + b"e0(" + b"h\x00K\x01ah\x00Q" * size + b"t."
    with pytest.raises(pickle.UnpicklingError, match="too long to look through"):
        engine.references(data)
