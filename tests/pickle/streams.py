"""Streams to be cut, mutated and mixed, and the parts that made-up streams are made of. Knows no engine."""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import TYPE_CHECKING, Any

from .zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import Iterator


class Anything:
    """Can be called with whatever a stream says, and takes whatever it is given, so that no error is its own."""

    def __new__(cls, *args: Any, **keywords: Any) -> Anything:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        return super().__new__(cls)

    def __init__(self, *args: Any, **keywords: Any) -> None:
        pass

    def __call__(self, *args: Any, **keywords: Any) -> Anything:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    @staticmethod
    def append(*items: Any) -> None:
        """Take an item; the class itself does so too, for a stream may take it for an instance."""

    extend = add = append


class Simple:
    """Has a `__dict__` and lets the engine apply its state."""

    def __new__(cls, *args: Any, **keywords: Any) -> Simple:  # noqa: PYI034 - as above
        return super().__new__(cls)

    def __init__(self, *args: Any, **keywords: Any) -> None:
        pass


#: What `find` finds. The functions by which old protocols make sets and bytes are made harmless too.
ALLOWED = dict.fromkeys(["Anything", "set", "frozenset", "bytes", "bytearray", "encode"], Anything) | {"Simple": Simple}


def find(module: str, name: str) -> Any:
    """Find none but the harmless classes: what a mutation makes of a name must not be run."""
    if name in ALLOWED:
        return ALLOWED[name]
    raise pickle.UnpicklingError(f"not for a test: {module}.{name}")


def load_harmless(engine: Any, source: Any) -> Any:
    """Load what may be nonsense."""
    return engine.Unpickler(
        source,
        find_global=find,
        encoding="latin-1",
        buffers=iter([b"buffer"] * 3),
        persistent_load=lambda pid: ("id", pid),
    ).load()


def outcome(call: Any) -> tuple[str, str]:
    """What a call gives, or raises, as text; an error that isn't one of an unpickler goes on."""
    try:
        result = call()
    except (pickle.UnpicklingError, EOFError) as error:
        return type(error).__name__, str(error)
    return "value", shape(result)


def shape(obj: Any) -> str:
    """A value as text that tells its types and sharing, however deep, and no addresses."""
    out: list[str] = []
    numbers: dict[int, int] = {}
    kept = []
    todo: list[Any] = [obj]
    while todo and len(out) < 5000:
        one = todo.pop()
        if type(one) in (int, float, str, bytes, bool, type(None), complex):
            out.append(f"{one!r:.300}" if type(one) is not int or one.bit_length() < 1000 else f"int {hash(one)}")
            continue
        if id(one) in numbers:
            out.append(f"#{numbers[id(one)]}")
            continue
        numbers[id(one)] = len(numbers)
        kept.append(one)
        out.append(type(one).__name__ if not isinstance(one, type) else f"class {one.__name__}")
        if isinstance(one, (list, tuple)):
            out.append(str(len(one)))
            todo += list(one)[::-1]
        elif isinstance(one, dict):
            out.append(str(len(one)))
            todo += [part for item in list(one.items())[::-1] for part in item[::-1]]
        elif isinstance(one, (set, frozenset)):
            out.append(str(sorted(map(repr, map(type, one)))))
        elif isinstance(one, (Anything, Simple)):
            todo.append(vars(one))
        elif isinstance(one, bytearray):
            out.append(repr(bytes(one))[:300])
    return " ".join(out)


def arguments(opcode: Any) -> list[bytes]:
    """Some good arguments for an opcode of `pickletools`."""
    if opcode.arg is None:
        return [b""]
    name = opcode.arg.name
    if opcode.name == "PROTO":
        return [b"\x04"]
    if opcode.name == "FRAME":
        return [b"\x00" * 8, b"\x02" + b"\x00" * 7]
    if opcode.name in ("LONG", "PERSID", "GLOBAL", "INST"):
        return {
            "LONG": [b"12L\n"],
            "PERSID": [b"an id\n"],
            "GLOBAL": [b"streams\nAnything\n", b"streams\nSimple\n"],
            "INST": [b"streams\nAnything\n"],
        }[opcode.name]
    return {
        "uint1": [b"\x00", b"\x01"],
        "uint2": [b"\x01\x02"],
        "int4": [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"],
        "uint4": [b"\x01\x00\x00\x00"],
        "uint8": [b"\x00" * 8],
        "stringnl": [b"'text'\n"],
        "stringnl_noescape": [b"text\n"],
        "stringnl_noescape_pair": [b"module\nname\n"],
        "unicodestringnl": [b"text\n"],
        "decimalnl_short": [b"1\n", b"01\n"],
        "decimalnl_long": [b"12L\n"],
        "floatnl": [b"1.5\n"],
        "float8": [b"\x3f\xf8" + b"\x00" * 6],
        "long1": [b"\x01\x05", b"\x00"],
        "long4": [b"\x01\x00\x00\x00\x05"],
        "string1": [b"\x02ab"],
        "string4": [b"\x02\x00\x00\x00ab"],
        "bytes1": [b"\x02ab"],
        "bytes4": [b"\x02\x00\x00\x00ab"],
        "bytes8": [b"\x02" + b"\x00" * 7 + b"ab"],
        "bytearray8": [b"\x02" + b"\x00" * 7 + b"ab"],
        "unicodestring1": [b"\x02ab"],
        "unicodestring4": [b"\x02\x00\x00\x00ab"],
        "unicodestring8": [b"\x02" + b"\x00" * 7 + b"ab"],
    }[name]


#: Every opcode but STOP, each with every good argument: name -> bytes.
OPCODES = {
    f"{opcode.name} {number}".removesuffix(" 0"): opcode.code.encode("latin-1") + argument
    for opcode in pickletools.opcodes
    if opcode.name != "STOP"
    for number, argument in enumerate(arguments(opcode))
}


def dumped() -> Iterator[tuple[str, bytes]]:
    """Small streams by the standard in every protocol."""
    names = "same_strings", "shared_containers", "list_in_itself", "dict_in_itself", "tuple_in_itself", "list of 5"
    for name in [*names, "str escapes", "bytes high", "int 65536", "int of 2048 bits", "float 1.5", "bytearray ascii"]:
        for protocol in range(6):
            yield f"{name} {protocol}", pickle.dumps(ZOO[name](), protocol)
    anything = Anything()
    simple = Simple()
    vars(simple).update(a=[1], b={"k": (simple, anything)})
    for protocol in range(2, 6):
        yield f"instances {protocol}", pickle.dumps([anything, simple, Anything, (simple,)], protocol)
        file = io.BytesIO()
        pickler = type("P", (pickle.Pickler,), {"persistent_id": lambda self, obj: 7 if obj is anything else None})
        pickler(file, protocol).dump([anything, (anything,), {"k": anything}])
        yield f"ids {protocol}", file.getvalue()
    buffers = [pickle.PickleBuffer(b"x"), pickle.PickleBuffer(bytearray(b"y"))]
    yield "buffers in band", pickle.dumps(buffers, 5)
    yield "buffers out of band", pickle.dumps(buffers, 5, buffer_callback=lambda buffer: None)
    yield "old text", b"(lp0\n(istreams\nSimple\np1\n(dp2\nS'a'\nI1\nsbaPid\nag1\naL5L\naF1.5\naVu\\u20ac\na."
    yield "old binary", b"(]q\x00(cstreams\nSimple\nq\x01oq\x02}q\x03U\x01aK\x01sbT\x02\x00\x00\x00xyI01\nth\x02\x86."
    yield "marks", b"(K\x01(K\x02K\x031(N0l2t."


STREAMS = dict(dumped())
