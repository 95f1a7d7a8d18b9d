"""What both unpicklers check, refuse and convert in one way, so that their results, errors and messages are the same.

It must never know how an engine keeps its stack and memo, or where it reads from.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Final

from . import opcodes as op
from ._errors import (
    Malformed,
    MalformedAttribute,
    MalformedText,
    MalformedType,
    MalformedValue,
    Truncated,
)
from ._names import extension_name

if TYPE_CHECKING:
    from collections.abc import Callable

HIGHEST_PROTOCOL: Final = 5

UNSET: Any = object()


class Opaque:
    """The type of `OPAQUE`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<not built>"


#: Stands for whatever `Unpickler.noload` doesn't build.
OPAQUE = Opaque()

# ---------------------------------------------------------------------------------------------------------- messages

BUSY: Final = "this unpickler is in the middle of a load"
NO_INPUT: Final = "this unpickler has no input: call feed(), or make it with a file"
NO_FILE: Final = "file must have 'read' and 'readline' attributes"
NO_STREAM: Final = "there is no further stream"
MEMO_TYPE: Final = "memo must map indices to objects"
MEMO_NEGATIVE: Final = "memo indices must not be negative"

CUT: Final = "the data ends in the middle of the stream"
UNKNOWN: Final = "there is no such opcode"
UNDERFLOW: Final = "the stack is empty"
NO_MARK: Final = "there is no mark on the stack"
NO_MEMO: Final = "there is nothing in the memo at index %d"
PUT_NEGATIVE: Final = "negative PUT argument"
NEGATIVE: Final = "a negative length"
ODD: Final = "a key without a value"
NOT_ASCII: Final = "persistent IDs in protocol 0 must be ASCII strings"
NO_LOADER: Final = "the stream holds a persistent id, but no persistent_load was given"
ID_NOT_PLAIN: Final = "a persistent id can't be told without building what it contains"
ID_TOO_LONG: Final = "the persistent ids are containers that take too long to look through"
GLOBAL_EMPTY: Final = "the module or the name of a global is empty"
GLOBAL_NOT_TEXT: Final = "STACK_GLOBAL requires str"
NO_BUFFERS: Final = "the stream refers to a buffer out of band, but no buffers were given"
FEW_BUFFERS: Final = "the stream refers to more buffers out of band than were given"


def wrong_protocol(proto: int) -> MalformedValue:
    return MalformedValue(f"unsupported pickle protocol: {proto}")


def refused(module: str, name: str) -> Malformed:
    return Malformed(f"{module}.{name} is refused: find_global is None")


def not_initialised(cls: type) -> str:
    return f"Unpickler.__init__() was not called by {cls.__name__}.__init__()"


def unhashable(kind: type) -> MalformedType:
    return MalformedType(f"unhashable type: {kind.__name__!r}")


def too_deep_to_hash() -> Malformed:
    return Malformed(f"a key is a tuple of tuples more than {KEY_DEPTH} deep")


def too_long_to_hash() -> Malformed:
    return Malformed("the keys are tuples of tuples that take too long to hash")


# ------------------------------------------------------------------------------------------------------------ limits

KEY_DEPTH: Final = 500  # of tuples in tuples
# Items of tuples that all keys of a stream may have, those of a shared tuple counted each time; and for each byte of it.
HASH_WORK: Final = 1_000_000
HASH_WORK_PER_BYTE: Final = 100
# Items of containers in ids that `noload` looks through; and for each byte of the stream.
ID_WORK: Final = 1_000_000
ID_WORK_PER_BYTE: Final = 100

# ----------------------------------------------------------------------------------------------------- whose fault

# Types whose methods aren't somebody's code.
_BUILTIN = frozenset({bytearray, bytes, dict, float, frozenset, int, list, set, str, tuple, type})

#: Opcodes that run somebody's code, whose exceptions pass through.
CALLING = frozenset(
    {
        *(op.PERSID, op.BINPERSID, op.GLOBAL, op.STACK_GLOBAL, op.INST, op.OBJ, op.NEWOBJ, op.NEWOBJ_EX, op.REDUCE),
        *(op.BUILD, op.EXT1, op.EXT2, op.EXT4, op.APPEND, op.APPENDS, op.SETITEM, op.SETITEMS, op.ADDITEMS, op.DICT),
        *(op.FROZENSET, op.NEXT_BUFFER, op.READONLY_BUFFER, op.STRING, op.BINSTRING, op.SHORT_BINSTRING),
    }
)

#: The only ones that do when nothing is built.
SNIFFING = frozenset({op.PERSID, op.BINPERSID, op.STRING, op.BINSTRING, op.SHORT_BINSTRING})


def explain(error: Exception, opcode: bytes) -> Malformed:
    """Say what is wrong with a stream on which a handler failed that runs nobody's code."""
    if isinstance(error, UnicodeDecodeError):
        return MalformedText(str(error), error)
    if opcode in CALLING:  # when nothing is built: a builtin container doesn't take what it should hold
        return MalformedType(str(error))
    if isinstance(error, IndexError):
        return Malformed(UNDERFLOW)
    if isinstance(error, (TypeError, struct.error)):  # ord() or unpack() of fewer bytes than there should be
        return Truncated(CUT)
    return MalformedValue(str(error))


def opcode_name(opcode: bytes) -> str | None:
    """Return how an error names an opcode; None where there is none."""
    known = op.BY_CODE.get(opcode)
    return known.name if known is not None else repr(opcode) if opcode else None


# ------------------------------------------------------------------------------------------------------------- text

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.?))", re.DOTALL)
_ESCAPED = dict(
    zip((b"a", b"b", b"f", b"n", b"r", b"t", b"v"), (b"\a", b"\b", b"\f", b"\n", b"\r", b"\t", b"\v"), strict=True)
)
_ESCAPED |= {b"\\": b"\\", b"'": b"'", b'"': b'"', b"\n": b""}


def unquoted(line: bytes) -> bytes:
    """Return what a string literal of Python 2 stands for.

    Raises:
        Malformed: It isn't one.
    """
    if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
        raise Malformed("the STRING opcode argument must be quoted")
    line = line[1:-1]
    return _ESCAPE.sub(_unescape, line) if b"\\" in line else line


def _unescape(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, other = match.groups()
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if other == b"x":
        raise MalformedValue("invalid \\x escape")
    if not other:
        raise MalformedValue("a backslash at the end of a string")
    return _ESCAPED.get(other, b"\\" + other)


def python2_text(data: bytes, encoding: str, errors: str) -> str | bytes:
    """Return Python 2's str as its reader wants it."""
    if encoding == "bytes":
        return data
    return text_of(data, encoding, errors)


def text_of(data: bytes, encoding: str, errors: str = "strict") -> str:
    """Decode text.

    Raises:
        MalformedText: It isn't text in this encoding.
    """
    try:
        return data.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise MalformedText(str(error), error) from error


def id_of_line(line: bytes) -> str:
    """Return the persistent id that stands on a line."""
    try:
        return line.decode("ascii")
    except UnicodeDecodeError as error:
        raise Malformed(NOT_ASCII) from error


# ------------------------------------------------------------------------------------- other than the plain containers


def method_of(obj: Any, name: str) -> Callable[..., Any]:
    """Return a method, or say that there is none."""
    method: Callable[..., Any] | None = getattr(obj, name, None)
    if method is None:
        raise MalformedAttribute(f"a {type(obj).__name__} has no {name}()")
    return method


def fill(target: Any, method: Callable[..., Any], *arguments: Any) -> None:
    """Call a method of what isn't the plain container that its opcode is for."""
    try:
        method(*arguments)
    except (IndexError, TypeError, ValueError) as error:
        if type(target) in _BUILTIN:
            raise MalformedType(str(error)) from error
        raise


def append_item(target: Any, item: Any) -> None:
    """Append to what isn't a plain list."""
    fill(target, method_of(target, "append"), item)


def extend_with(target: Any, items: list[Any]) -> None:
    """Extend what isn't a plain list."""
    extend = getattr(target, "extend", None)
    if extend is not None:
        fill(target, extend, items)
        return
    append = method_of(target, "append")  # PEP 307 asks for either
    for item in items:
        fill(target, append, item)


def set_items(target: Any, items: list[Any]) -> None:
    """Put keys and values, one behind the other, into what isn't a plain dict."""
    if not hasattr(type(target), "__setitem__"):
        raise MalformedType(f"a {type(target).__name__} can't have items")
    for key, value in zip(items[::2], items[1::2], strict=True):
        fill(target, target.__setitem__, key, value)


def add_items(target: Any, items: list[Any]) -> None:
    """Add elements to what isn't a set."""
    add = method_of(target, "add")
    for item in items:
        fill(target, add, item)


def readonly_view(buffer: Any) -> Any:
    """Return a buffer as one that can't be written to; itself, if it is such a one."""
    try:
        view = memoryview(buffer)
    except TypeError as error:
        raise MalformedType(f"a {type(buffer).__name__} isn't a buffer") from error
    with view:
        return buffer if view.readonly else view.toreadonly()


# --------------------------------------------------------------------------------------------------------- instances


def extension(code: int) -> tuple[str, str]:
    """Return (module, name) for an extension code."""
    try:
        place = extension_name(code)
    except ValueError as error:
        raise MalformedValue(str(error)) from error
    if place is not None:
        return place
    if code <= 0:
        raise Malformed("EXT specifies code <= 0")
    raise MalformedValue(f"unregistered extension code {code}")


def check_call(function: Any, arguments: Any) -> None:
    """Refuse what REDUCE can't call."""
    if not isinstance(arguments, tuple):
        raise MalformedType(f"the arguments of REDUCE are a {type(arguments).__name__}, not a tuple")
    if not callable(function):
        raise MalformedType(f"a {type(function).__name__} can't be called")


def instantiate(cls: Any, arguments: list[Any]) -> Any:
    """Make an instance as Python 2 did for its old-style classes."""
    if not callable(cls):
        raise MalformedType(f"a {type(cls).__name__} can't be called")
    if arguments or not isinstance(cls, type) or hasattr(cls, "__getinitargs__"):
        return cls(*arguments)
    new: Callable[..., Any] = cls.__new__
    return new(cls)


def new_object(cls: Any, arguments: Any, keywords: Any) -> Any:
    """Make an instance by ``cls.__new__``."""
    if not isinstance(cls, type):
        raise MalformedType(f"NEWOBJ needs a class, not a {type(cls).__name__}")
    if not isinstance(arguments, tuple):
        raise MalformedType(f"the arguments of NEWOBJ are a {type(arguments).__name__}, not a tuple")
    if not isinstance(keywords, dict):
        raise MalformedType(f"the keyword arguments of NEWOBJ_EX are a {type(keywords).__name__}, not a dict")
    new: Callable[..., Any] = cls.__new__
    return new(cls, *arguments, **keywords)
