"""What a call gave or raised, as text that is the same whichever engine did it. Knows no engine, runs no object's code.

Two outcomes are the same if their pictures are equal: types, values, which objects are one object, the order of dicts and
attributes; of an exception its class, message and notes, and whatever it has of path, offset and opcode.
"""

from __future__ import annotations

import re
import types
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 4000  # parts of one value that are looked at
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
# By address: comparing classes may be somebody's code.
_ATOMS = {id(kind) for kind in (float, complex, type(None), bool, type(...), type(NotImplemented))}
_MEMBER: Any = types.MemberDescriptorType
_END = object()  # stands behind the parts of an object


def outcome(call: Callable[[], Any]) -> tuple[str, str]:
    """What a call gives, or raises. A failed assertion is a test's own, and goes on."""
    try:
        value = call()
    except AssertionError:
        raise
    except BaseException as error:  # noqa: BLE001 - hooks raise what they like
        return "raised", picture_of_error(error)
    return "gave", picture(value)


def picture_of_error(error: BaseException) -> str:
    """An exception as text, with what it tells about the place."""
    told = [f"{type(error).__module__}.{type(error).__qualname__}: {_shown(str(error))}"]
    told += [f"note {_shown(note)}" for note in getattr(error, "__notes__", ())]
    told += [
        _shown(f"{name}={getattr(error, name)!r}") for name in ("path", "offset", "opcode") if hasattr(error, name)
    ]
    return "; ".join(told)


def picture(obj: Any, longest: int = _LONGEST) -> str:
    """A value as text, however deep it is and whatever its classes do."""
    out: list[str] = []
    numbers: dict[int, int] = {}
    kept = []  # an address stands for its object only as long as the object lives
    todo: list[Any] = [obj]
    while todo and len(out) < longest:
        one = todo.pop()
        kind = type(one)
        if one is _END:
            out.append(">")
        elif kind is int:
            out.append(str(one) if one.bit_length() < 1000 else f"int {hash(one)}")
        elif id(kind) in _ATOMS:
            out.append(repr(one))
        elif (
            kind is str or kind is bytes
        ):  # which texts are one object isn't told: names are interned, and may be already
            out.append(_shown(repr(one)))
        elif id(one) in numbers:
            out.append(f"#{numbers[id(one)]}")
        else:
            numbers[id(one)] = len(numbers)
            kept.append(one)
            text, parts = _taken_apart(one, kind)
            out.append(text)
            if parts is not None:
                kept.append(parts)
                todo += [_END, *parts[::-1]]
    return " ".join(out) + ("" if not todo else f" and {len(todo)} more")


def _shown(text: str) -> str:
    """A text that may be long, with addresses that stand for themselves and no more."""
    text = _ADDRESS.sub("0x...", text)
    return text if len(text) <= 1000 else f"{text[:500]}... {len(text)} {hash(text)}"


def _taken_apart(one: Any, kind: type) -> tuple[str, list[Any] | None]:
    """What an object is, and its parts."""
    if issubclass(kind, type):
        return f"<class {type.__dict__['__qualname__'].__get__(one)}>", None
    if issubclass(kind, (types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
        return f"<{kind.__name__} {one.__name__}>", None
    parts: list[Any] = []
    if issubclass(kind, types.MethodType):
        parts = [one.__func__, one.__self__]
    for basis in (int, float, complex, str, bytes, bytearray):
        if issubclass(kind, basis):
            parts.append(basis.__repr__(one))
    if issubclass(kind, (list, tuple)):
        basis = list if issubclass(kind, list) else tuple
        parts += [basis.__len__(one), *basis.__iter__(one)]
    elif issubclass(kind, dict):
        parts += [dict.__len__(one), *(part for item in dict.items(one) for part in item)]
    elif issubclass(kind, (set, frozenset)):
        basis = set if issubclass(kind, set) else frozenset
        parts += sorted(_rank(element) for element in basis.__iter__(one))
    elif issubclass(kind, BaseException):
        parts += BaseException.__dict__["args"].__get__(one)
    elif kind is PickleBuffer or kind is memoryview:
        view = one.raw() if kind is PickleBuffer else one
        parts += [view.readonly, bytes(view)]
    elif kind is range:
        parts.append(repr(one))
    parts += _attributes(one, kind)
    return f"<{type.__dict__['__qualname__'].__get__(kind)}", parts


def _attributes(one: Any, kind: type) -> list[Any]:
    """Names and values of what an instance has in its `__dict__` and slots."""
    found: list[Any] = []
    for cls in type.__dict__["__mro__"].__get__(kind):
        for name, member in list(type.__dict__["__dict__"].__get__(cls).items()):
            if name == "__dict__" and isinstance(member, types.GetSetDescriptorType):
                found += [part for item in dict.items(member.__get__(one)) for part in item]
            elif isinstance(member, _MEMBER) and cls.__flags__ & 1 << 9:
                try:
                    found += [name, member.__get__(one)]
                except AttributeError:
                    found += [name, "<empty>"]
    return found


def _rank(element: Any) -> str:
    """An element of a set, by something that doesn't depend on where it stands in memory."""
    kind = type(element)
    name: str = type.__dict__["__name__"].__get__(kind)
    plain = id(kind) in _ATOMS or kind is int or kind is str or kind is bytes
    return f"{name} {_shown(repr(element))}" if plain else f"<{name}"
