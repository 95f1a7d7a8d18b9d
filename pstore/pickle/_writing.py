"""What both picklers check, refuse and convert in one way, so that their bytes, errors and messages are the same.

It must never know how an engine keeps its memo or its output.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import index
from pickle import DEFAULT_PROTOCOL, PicklingError
from typing import Any, Final, Protocol

from ._errors import Unpicklable, UnpicklableType, UnpicklableValue, WrongProtocol
from ._names import to_python2

HIGHEST_PROTOCOL: Final = 5

BATCH: Final = 1000  # items between two APPENDS, SETITEMS or ADDITEMS
FRAME_TARGET: Final = 64 * 1024  # a frame is closed before the first object that begins behind so many bytes
FRAME_LEAST: Final = 4  # fewer bytes than this aren't worth a frame
MOST_OPEN: Final = 1000  # so often an object may be begun before it is first finished
IDS_IN_IDS: Final = 1000  # an object's id may contain an object that has an id, and so on; but not for ever
IDS_OF_IDS: Final = 100  # ... and an id that is a class may have an id itself

BUSY: Final = "this pickler is in the middle of a dump"
NO_FILE: Final = "this pickler has no file: call dumps(), or make it with a file"

_SET_REDUCES: tuple[Any, ...] = (set.__reduce__, frozenset.__reduce__)
# What the codec "raw-unicode-escape" leaves alone and a line of text can't hold (the last is the end of a file on DOS).
_UNSAFE = re.compile("[\\\\\0\n\r\x1a]")


class Writable(Protocol):
    """What a pickler needs of a file."""

    def write(self, data: bytes, /) -> object:
        """Write all of `data`."""


# --------------------------------------------------------------------------------------------------------- arguments


def protocol_number(protocol: int | None, *, buffers: bool, canonical: bool) -> int:
    """Return the protocol that a pickler is to write.

    Args:
        protocol: What its user says.
        buffers: Whether there is a ``buffer_callback``.
        canonical: Whether the bytes are to be canonical.

    Raises:
        TypeError: It isn't an int.
        ValueError: There is no such protocol, or it can't do what is asked for.
    """
    number = DEFAULT_PROTOCOL if protocol is None else index(protocol)
    if number < 0:
        number = HIGHEST_PROTOCOL
    elif number > HIGHEST_PROTOCOL:
        message = f"pickle protocol must be <= {HIGHEST_PROTOCOL}"
        raise ValueError(message)
    if buffers and number < 5:
        message = "buffer_callback needs protocol >= 5"
        raise ValueError(message)
    if canonical and number < 1:
        message = "canonical needs protocol >= 1"
        raise ValueError(message)
    return number


def write_method(file: Writable | None) -> Callable[[bytes], object] | None:
    """Return the method that writes to a file; None where there is no file.

    Raises:
        TypeError: It has no such method.
    """
    if file is None:
        return None
    try:
        return file.write
    except AttributeError:
        message = "file must have a 'write' attribute"
        raise TypeError(message) from None


def memo_entries(memo: Any) -> list[tuple[int, Any]]:
    """Return the (index, object) of a memo that is to be set, in the order of the indices.

    Raises:
        TypeError: It doesn't map ``id(obj)`` to such pairs.
        ValueError: An index is none.
    """
    if not isinstance(memo, Mapping):
        message = f"memo must be a mapping, not {type(memo).__name__}"
        raise TypeError(message)
    for entry in memo.values():
        if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], int):
            message = "memo must map id(obj) to (index, obj)"
            raise TypeError(message)
        if not 0 <= entry[0] <= 0xFFFFFFFF:
            message = "memo indices must be from 0 to 2**32 - 1"
            raise ValueError(message)
    return sorted(memo.values(), key=lambda entry: entry[0])


def not_initialised(pickler: object) -> PicklingError:
    """Return what is said of a pickler whose class has left out the call of its base's ``__init__``."""
    return PicklingError(f"Pickler.__init__() was not called by {type(pickler).__name__}.__init__()")


# --------------------------------------------------------------------------------------------------------- conversions


def line_of(text: str) -> bytes:
    """Return a text as a line of protocol 0, without its newline."""
    escaped = _UNSAFE.sub(_escape, text) if _UNSAFE.search(text) else text
    return escaped.encode("raw-unicode-escape")


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def bytes_of_int(number: int) -> bytes:
    """Return an int in two's complement, lowest byte first, in as few bytes as hold it and its sign (one for 0)."""
    data = number.to_bytes((number.bit_length() >> 3) + 1, "little", signed=True)
    if number < 0 and len(data) > 1 and data[-1] == 0xFF and data[-2] & 0x80:
        return data[:-1]  # -128, -32768, ...: the last byte tells nothing that the one before doesn't
    return data


def line_of_id(pid: Any) -> bytes:
    """Return a persistent id as a line of protocol 0, without its newline.

    Raises:
        WrongProtocol: It isn't a str of printable ASCII characters.
    """
    if type(pid) is not str or not pid.isascii() or not pid.isprintable():
        # The standard's words; it writes the str() of any other object here, which doesn't come back.
        raise WrongProtocol("persistent IDs in protocol 0 must be ASCII strings")
    return pid.encode("ascii")


def lines_of_global(module: str, name: str, protocol: int, *, fix_imports: bool) -> bytes:
    """Return a module and a name in it as the two lines of the opcodes GLOBAL and INST.

    Args:
        module: Name of the module.
        name: The name there.
        protocol: The protocol, below 4.
        fix_imports: Whether it is to be found by the names of Python 2.

    Raises:
        WrongProtocol: They hold characters for which this protocol has no bytes.
    """
    encoding = "utf-8" if protocol >= 3 else "ascii"
    if fix_imports:
        module, name = to_python2(module, name)
    try:
        return b"%b\n%b\n" % (module.encode(encoding), name.encode(encoding))
    except UnicodeEncodeError as error:
        raise WrongProtocol(
            f"can't pickle global identifier '{module}.{name}' using pickle protocol {protocol}"
        ) from error


# ------------------------------------------------------------------------------------------- what a reduction must hold


def is_reduced_as_set(cls: Any) -> bool:
    """Tell whether a subclass of set or frozenset is written as a call with the list of its elements."""
    return cls.__reduce__ in _SET_REDUCES and cls.__reduce_ex__ is object.__reduce_ex__


def class_of_newobj(obj: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the class that ``copyreg.__newobj__`` is to be called with.

    Raises:
        Unpicklable: It isn't a class, or isn't the object's.
    """
    if not arguments:
        raise Unpicklable("__newobj__ arglist is empty")
    cls: Any = arguments[0]
    if not isinstance(cls, type):
        raise Unpicklable(f"args[0] from __newobj__ args is a {type(cls).__name__}, not a class")
    if cls is not obj.__class__:
        raise Unpicklable("args[0] from __newobj__ args has the wrong class")
    return cls


def parts_of_newobj_ex(obj: Any, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return class, arguments and keyword arguments that ``copyreg.__newobj_ex__`` is to be called with.

    Raises:
        Unpicklable: They aren't such, or the class isn't the object's.
    """
    if len(arguments) != 3:
        raise Unpicklable(f"__newobj_ex__ needs 3 arguments, not {len(arguments)}")
    cls, positional, keywords = arguments
    if not isinstance(cls, type):
        raise Unpicklable(f"args[0] from __newobj_ex__ args is a {type(cls).__name__}, not a class")
    if cls is not obj.__class__:
        raise Unpicklable("args[0] from __newobj_ex__ args has the wrong class")
    if not isinstance(positional, tuple):
        raise Unpicklable(f"args[1] from __newobj_ex__ args is a {type(positional).__name__}, not a tuple")
    if not isinstance(keywords, dict):
        raise Unpicklable(f"args[2] from __newobj_ex__ args is a {type(keywords).__name__}, not a dict")
    return cls, positional, keywords


def checked_pair(pair: Any) -> tuple[Any, Any]:
    """Return what an iterator of dict items has given.

    Raises:
        Unpicklable: It is no pair.
    """
    if not isinstance(pair, tuple) or tuple.__len__(pair) != 2:
        raise UnpicklableType("dict items iterator must return 2-tuples")
    return tuple.__getitem__(pair, 0), tuple.__getitem__(pair, 1)


def too_many_ids(depth: int) -> Unpicklable:
    """Return what is said where ids lead to ids without end."""
    return Unpicklable(f"persistent ids contain what has a persistent id, {depth} deep and on")


def check_endless(unfinished: Iterable[Any], *, fast: bool) -> None:
    """Refuse an object that is a part of itself, over and over.

    Without a memo (fast mode) that is any object which is begun twice. With one it is an object whose reduction leads to
    it again each time; that happens a few times where the objects between, once written, are found in the memo.

    Args:
        unfinished: The objects that are begun and not finished, outermost first.
        fast: Whether there is no memo.

    Raises:
        Unpicklable: There is such an object.
    """
    objects = list(unfinished)
    open_ids = Counter(map(id, objects))
    most = 1 if fast else MOST_OPEN
    for obj in objects:
        if open_ids[id(obj)] > most:
            kind = type(obj).__name__
            if fast:
                raise UnpicklableValue(f"fast mode: can't pickle cyclic objects including object type {kind}")
            raise Unpicklable(f"reducing a {kind!r} object leads to the same object without end")
