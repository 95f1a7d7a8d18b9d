"""What is known of an object before all of its record can be read.

Where an object stands in a set, or is the key of a dict, that it refers to itself, its hash is asked for while its record is
being read: the object must have its name, say, before it has its set of friends. So the record is read once more, with a
stub in place of each reference, and the object gets the attributes that lead to none. What a hash takes from them is right;
what it takes from the others isn't there yet, and raises. This module reads one stream; it knows nothing of sessions.
"""

from __future__ import annotations

import dataclasses
import gc
import types
from typing import TYPE_CHECKING, Any, Final

from pstore.classes import MISSING, find
from pstore.pickle import Unpickler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NOT_INLINE: Final = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


class _Stub:
    """Stands for a reference."""

    __slots__ = ("key",)

    def __init__(self, key: object) -> None:
        self.key = key


def early_attributes(
    cls: type,
    data: memoryview,
    buffers: Sequence[bytearray | memoryview] | None,
    find_global: Callable[[str, str], object],
    known: Callable[[object], object],
) -> dict[str, object]:
    """Return the attributes of an object that lead to no other record but, at the most, by being a reference to one.

    Args:
        cls: The object's class.
        data: The stream of its state.
        buffers: The buffers that belong to it.
        find_global: Answers a name in the stream.
        known: Answers a reference with its object; None where that can't be had.

    Returns:
        The attributes; none where only code of the class knows what its state means.
    """

    def refer(key: object) -> object:
        obj = known(key)
        return obj if issubclass(type(obj), type) else _Stub(key)

    unpickler = Unpickler(persistent_load=refer, find_global=find_global)
    unpickler.feed(data, buffers=buffers)
    found: dict[str, object] = {}
    for name, value in _attributes(cls, unpickler.load()).items():
        if type(value) is _Stub:
            obj = known(value.key)
            if obj is not None:
                found[name] = obj
        elif not _leads_to_stub(value):
            found[name] = value
    return found


def _attributes(cls: type, state: Any) -> dict[str, object]:
    setstate = find(cls, "__setstate__")
    if setstate is not MISSING:
        if setstate is not getattr(dataclasses, "_dataclass_setstate", None) or not isinstance(state, list):
            return {}
        return dict(zip((field.name for field in dataclasses.fields(cls)), state, strict=False))
    parts = state if isinstance(state, tuple) else (state,)
    return {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}


def _leads_to_stub(value: object) -> bool:
    waiting: list[object] = [value]
    seen: set[int] = set()
    while waiting:
        obj = waiting.pop()
        if type(obj) is _Stub:
            return True
        if id(obj) not in seen and not issubclass(type(obj), _NOT_INLINE):
            seen.add(id(obj))
            waiting += gc.get_referents(obj)
    return False
