"""What is known of an object before all of its record can be read.

Where an object stands in a set, or is the key of a dict, that it refers to itself, its hash is asked for while its record is
being read: the object must have its name, say, before it has its set of friends. So the record is read once more, with a
stub in place of each reference, and the object gets the attributes that lead to none. What a hash takes from them is right;
what it takes from the others isn't there yet, and raises.

Only an object with a record of its own can be helped so. Inside of another record its state follows the set in one stream.
So such objects are found when they are written, and get a record each. This module looks at the objects of one record and
reads one stream; it knows nothing of sessions.
"""

from __future__ import annotations

import dataclasses
import gc
import types
from typing import TYPE_CHECKING, Any, Final

from pstore.classes import MISSING, find, remembered
from pstore.pickle import Unpickler

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

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


def in_sets_of_their_own(objects: Sequence[object], records: Container[int]) -> list[object]:
    """Return those objects that are hashed by their state, and stand in a set, or as a key of a dict, that they lead to.

    Args:
        objects: What stands in a record: all that can change, and the tuples and frozensets that lead to such.
        records: The ids of the objects with records of their own; what they lead to is another matter.
    """
    classes = list(map(type, objects))  # of which there are few; by id, as a class's own hash may be anything
    if not any(map(_is_hashed_by_state, dict(zip(map(id, classes), classes, strict=True)).values())):
        return []
    here = {id(obj): obj for obj in objects if id(obj) not in records}
    sets = [obj for obj in here.values() if issubclass(type(obj), (set, frozenset, dict))]
    leading_to = _referrers(here) if sets else {}
    found: dict[int, object] = {}
    for container in sets:
        keys = {id(key): key for key in _members(container) if id(key) in here and _is_hashed_by_state(type(key))}
        if keys:
            reaching = _all_reaching(id(container), leading_to)
            found.update((key, obj) for key, obj in keys.items() if key in reaching)
    return [*found.values()]


_HASHED_BY_VALUE: Final = (tuple, frozenset, str, bytes, int, float, complex)


@remembered
def _is_hashed_by_state(cls: type) -> bool:
    hashing = find(cls, "__hash__")
    return hashing is not None and hashing is not object.__dict__["__hash__"] and not issubclass(cls, _HASHED_BY_VALUE)


def _members(container: Any) -> Iterator[object]:
    """Yield what is hashed when a set or dict is filled: its elements or keys, and what is in tuples among them."""
    waiting = [*container]
    while waiting:
        member = waiting.pop()
        yield member
        if issubclass(type(member), (tuple, frozenset)):
            waiting += member


def _referrers(here: dict[int, object]) -> dict[int, list[int]]:
    """Return, for each object, those that lead to it, by way of what isn't among the objects, too."""
    leading_to: dict[int, list[int]] = {}
    for start, obj in here.items():
        waiting = [obj]
        seen = {start}
        while waiting:
            for part in gc.get_referents(waiting.pop()):
                if id(part) in seen:
                    continue
                seen.add(id(part))
                if id(part) in here:
                    leading_to.setdefault(id(part), []).append(start)
                elif type(part) in (dict, tuple):  # of attributes, say
                    waiting.append(part)
    return leading_to


def _all_reaching(goal: int, leading_to: dict[int, list[int]]) -> set[int]:
    reaching: set[int] = set()
    waiting = [goal]
    while waiting:
        for referrer in leading_to.get(waiting.pop(), ()):
            if referrer not in reaching:
                reaching.add(referrer)
                waiting.append(referrer)
    return reaching
