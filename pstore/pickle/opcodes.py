"""The opcodes of the pickle format: one line each, with argument, stack effect and protocol; every name is derived from it.

The table is data. It must never know how an object is built or written: the engines, the tools that read without
building, and the error messages look here and nowhere else.

Source: PEP 3154, PEP 574, and the documentation of the standard library's ``pickletools``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BY_CODE", "OPCODES", "Opcode", "scan"]


class Opcode(NamedTuple):
    """One opcode.

    Attributes:
        name: Its name, as the standard module exports it.
        code: Its byte.
        argument: Format of the bytes that follow it, one of the keys of `ARGUMENTS` below.
        effect: What it takes from the stack and what it leaves, as ``"before -- after"``, the top on the right;
            ``mark`` is the topmost mark and ``x*`` everything above it.
        protocol: The first protocol that has it.
    """

    name: str
    code: bytes
    argument: str
    effect: str
    protocol: int


#: Argument formats. A number is the fixed size in bytes; a pair is (size of the length field, is it signed), the length
#: being that of the bytes that follow; "line" and "lines" are one and two texts that end in a newline each.
ARGUMENTS: dict[str, int | tuple[int, bool] | str] = {
    "none": 0,
    "u1": 1,
    "u2": 2,
    "u4": 4,
    "i4": 4,
    "u8": 8,
    "f8": 8,
    "line": "line",
    "lines": "lines",
    "bytes1": (1, False),
    "bytes4": (4, False),
    "bytes4s": (4, True),
    "bytes8": (8, False),
}

#: Every opcode by its byte.
BY_CODE: dict[bytes, Opcode] = {}


def _op(name: str, code: bytes, argument: str, effect: str, protocol: int) -> bytes:
    BY_CODE[code] = Opcode(name, code, argument, effect, protocol)
    return code


# fmt: off
#                           name                byte      argument   stack effect                       protocol
MARK             = _op("MARK",              b"(",     "none",    "-- mark",                         0)
STOP             = _op("STOP",              b".",     "none",    "value --",                        0)
POP              = _op("POP",               b"0",     "none",    "any --",                          0)
POP_MARK         = _op("POP_MARK",          b"1",     "none",    "mark x* --",                      1)
DUP              = _op("DUP",               b"2",     "none",    "any -- any any",                  0)
FLOAT            = _op("FLOAT",             b"F",     "line",    "-- float",                        0)
INT              = _op("INT",               b"I",     "line",    "-- int_or_bool",                  0)
BININT           = _op("BININT",            b"J",     "i4",      "-- int",                          1)
BININT1          = _op("BININT1",           b"K",     "u1",      "-- int",                          1)
LONG             = _op("LONG",              b"L",     "line",    "-- int",                          0)
BININT2          = _op("BININT2",           b"M",     "u2",      "-- int",                          1)
NONE             = _op("NONE",              b"N",     "none",    "-- None",                         0)
PERSID           = _op("PERSID",            b"P",     "line",    "-- any",                          0)
BINPERSID        = _op("BINPERSID",         b"Q",     "none",    "id -- any",                       1)
REDUCE           = _op("REDUCE",            b"R",     "none",    "callable args -- any",            0)
STRING           = _op("STRING",            b"S",     "line",    "-- str_or_bytes",                 0)
BINSTRING        = _op("BINSTRING",         b"T",     "bytes4s", "-- str_or_bytes",                 1)
SHORT_BINSTRING  = _op("SHORT_BINSTRING",   b"U",     "bytes1",  "-- str_or_bytes",                 1)
UNICODE          = _op("UNICODE",           b"V",     "line",    "-- str",                          0)
BINUNICODE       = _op("BINUNICODE",        b"X",     "bytes4",  "-- str",                          1)
APPEND           = _op("APPEND",            b"a",     "none",    "list item -- list",               0)
BUILD            = _op("BUILD",             b"b",     "none",    "any state -- any",                0)
GLOBAL           = _op("GLOBAL",            b"c",     "lines",   "-- any",                          0)
DICT             = _op("DICT",              b"d",     "none",    "mark x* -- dict",                 0)
EMPTY_DICT       = _op("EMPTY_DICT",        b"}",     "none",    "-- dict",                         1)
APPENDS          = _op("APPENDS",           b"e",     "none",    "list mark x* -- list",            1)
GET              = _op("GET",               b"g",     "line",    "-- any",                          0)
BINGET           = _op("BINGET",            b"h",     "u1",      "-- any",                          1)
INST             = _op("INST",              b"i",     "lines",   "mark x* -- any",                  0)
LONG_BINGET      = _op("LONG_BINGET",       b"j",     "u4",      "-- any",                          1)
LIST             = _op("LIST",              b"l",     "none",    "mark x* -- list",                 0)
EMPTY_LIST       = _op("EMPTY_LIST",        b"]",     "none",    "-- list",                         1)
OBJ              = _op("OBJ",               b"o",     "none",    "mark class x* -- any",            1)
PUT              = _op("PUT",               b"p",     "line",    "any -- any",                      0)
BINPUT           = _op("BINPUT",            b"q",     "u1",      "any -- any",                      1)
LONG_BINPUT      = _op("LONG_BINPUT",       b"r",     "u4",      "any -- any",                      1)
SETITEM          = _op("SETITEM",           b"s",     "none",    "dict key value -- dict",          0)
TUPLE            = _op("TUPLE",             b"t",     "none",    "mark x* -- tuple",                0)
EMPTY_TUPLE      = _op("EMPTY_TUPLE",       b")",     "none",    "-- tuple",                        1)
SETITEMS         = _op("SETITEMS",          b"u",     "none",    "dict mark x* -- dict",            1)
BINFLOAT         = _op("BINFLOAT",          b"G",     "f8",      "-- float",                        1)
PROTO            = _op("PROTO",             b"\x80",  "u1",      "--",                              2)
NEWOBJ           = _op("NEWOBJ",            b"\x81",  "none",    "class args -- any",               2)
EXT1             = _op("EXT1",              b"\x82",  "u1",      "-- any",                          2)
EXT2             = _op("EXT2",              b"\x83",  "u2",      "-- any",                          2)
EXT4             = _op("EXT4",              b"\x84",  "i4",      "-- any",                          2)
TUPLE1           = _op("TUPLE1",            b"\x85",  "none",    "any -- tuple",                    2)
TUPLE2           = _op("TUPLE2",            b"\x86",  "none",    "any any -- tuple",                2)
TUPLE3           = _op("TUPLE3",            b"\x87",  "none",    "any any any -- tuple",            2)
NEWTRUE          = _op("NEWTRUE",           b"\x88",  "none",    "-- bool",                         2)
NEWFALSE         = _op("NEWFALSE",          b"\x89",  "none",    "-- bool",                         2)
LONG1            = _op("LONG1",             b"\x8a",  "bytes1",  "-- int",                          2)
LONG4            = _op("LONG4",             b"\x8b",  "bytes4s", "-- int",                          2)
BINBYTES         = _op("BINBYTES",          b"B",     "bytes4",  "-- bytes",                        3)
SHORT_BINBYTES   = _op("SHORT_BINBYTES",    b"C",     "bytes1",  "-- bytes",                        3)
SHORT_BINUNICODE = _op("SHORT_BINUNICODE",  b"\x8c",  "bytes1",  "-- str",                          4)
BINUNICODE8      = _op("BINUNICODE8",       b"\x8d",  "bytes8",  "-- str",                          4)
BINBYTES8        = _op("BINBYTES8",         b"\x8e",  "bytes8",  "-- bytes",                        4)
EMPTY_SET        = _op("EMPTY_SET",         b"\x8f",  "none",    "-- set",                          4)
ADDITEMS         = _op("ADDITEMS",          b"\x90",  "none",    "set mark x* -- set",              4)
FROZENSET        = _op("FROZENSET",         b"\x91",  "none",    "mark x* -- frozenset",            4)
NEWOBJ_EX        = _op("NEWOBJ_EX",         b"\x92",  "none",    "class args kwargs -- any",        4)
STACK_GLOBAL     = _op("STACK_GLOBAL",      b"\x93",  "none",    "module name -- any",              4)
MEMOIZE          = _op("MEMOIZE",           b"\x94",  "none",    "any -- any",                      4)
FRAME            = _op("FRAME",             b"\x95",  "u8",      "--",                              4)
BYTEARRAY8       = _op("BYTEARRAY8",        b"\x96",  "bytes8",  "-- bytearray",                    5)
NEXT_BUFFER      = _op("NEXT_BUFFER",       b"\x97",  "none",    "-- buffer",                       5)
READONLY_BUFFER  = _op("READONLY_BUFFER",   b"\x98",  "none",    "buffer -- buffer",                5)
# fmt: on

#: Every opcode, in the order of the table.
OPCODES: tuple[Opcode, ...] = tuple(BY_CODE.values())

# Not opcodes: the two lines that stand for a bool where there is no opcode for it (protocols 0 and 1).
TRUE = b"I01\n"
FALSE = b"I00\n"

__all__ += [opcode.name for opcode in OPCODES]
__all__ += ["FALSE", "TRUE"]


def scan(data: bytes, start: int = 0) -> Iterator[tuple[int, Opcode, int, int]]:
    """Walk over the opcodes of one stream without running them.

    Args:
        data: The bytes that hold the stream.
        start: Where the stream begins in them.

    Yields:
        ``(offset, opcode, begin, end)`` up to and including STOP: where the opcode stands, and between which offsets its
        argument (length fields included). It ends early, and raises nothing, at a byte that is no opcode and where
        the data is cut.
    """
    position = start
    while (opcode := BY_CODE.get(data[position : position + 1])) is not None:
        begin = position + 1
        end = _end_of_argument(data, begin, ARGUMENTS[opcode.argument])
        if end is None or end > len(data):
            return
        yield position, opcode, begin, end
        if opcode.code == STOP:
            return
        position = end


def _end_of_argument(data: bytes, begin: int, form: int | tuple[int, bool] | str) -> int | None:
    """Return the offset behind an argument, or None where it has no end."""
    if isinstance(form, int):
        return begin + form
    if isinstance(form, tuple):
        size, signed = form
        length = int.from_bytes(data[begin : begin + size], "little", signed=signed)
        return None if length < 0 else begin + size + length
    for _ in range(2 if form == "lines" else 1):
        begin = data.find(b"\n", begin) + 1
        if begin == 0:
            return None
    return begin
