"""Who holds an object; reference counts tell.

For records: whether anything outside one holds one of the containers in it.

Such a container can be changed behind the barrier's back, so its record has to stay among those that a commit compares.
What is held more than once within its record is taken for held outside: that costs a comparison, never a change.
"""

from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING, Final

from pstore.pickle import has_held_dict

if TYPE_CHECKING:
    from collections.abc import Callable

#: More parts than this are taken for held outside, rather than looked through at each commit.
_MOST_PARTS: Final = 1000


def most_references(objects: list[object]) -> int:
    """Return the greatest reference count among the objects, and more than any where one has a weak reference."""
    most = 0
    for obj in objects:
        most = max(most, sys.getrefcount(obj), weakref.getweakrefcount(obj) and sys.maxsize)
    return most


# Measured, because how many references a call itself adds depends on the interpreter.
_owners: Final[list[object]] = [[]]
#: What `most_references` says of an object that one owner holds, and the list that is asked about.
ALONE: Final = most_references([_owners[0]])


def held_outside(objects: list[object]) -> bool:
    """Return whether more than one owner, and this list, hold any of the objects."""
    return most_references(objects) > ALONE


def is_held_by_parts(obj: object, given: tuple[list[object], ...], is_part: Callable[[object], bool]) -> bool:
    """Return whether anything outside an object holds one of its parts, where its class gives others when it is pickled.

    The parts are found as the garbage collector finds them; each reference to one must come from another.

    Args:
        obj: The object.
        given: Lists of what was pickled in its place: parts of it, or copies that nobody else may hold either.
        is_part: Whether what the object, or a part of it, refers to is a part; not, where it can't change or is a record.
    """
    parts = {id(obj): obj}
    for pickled in given:
        parts.update((id(part), part) for part in pickled)
    inside = dict.fromkeys(parts, 1)  # by the list
    waiting = list(parts.values())
    part = None
    while waiting:
        for part in gc.get_referents(waiting.pop()):
            if is_part(part):
                if id(part) not in parts:
                    if len(parts) >= _MOST_PARTS:
                        return True
                    parts[id(part)], inside[id(part)] = part, 0
                    waiting.append(part)
                inside[id(part)] += 1
    for part in [*parts.values()]:
        # From Python 3.13 on the collector may see the attributes of an instance, and not the `__dict__` that they are in.
        if has_held_dict(part) and (own := id(object.__getattribute__(part, "__dict__"))) in inside:
            inside[own] += all(id(found) != own for found in gc.get_referents(part))
    del parts[id(obj)], part
    # Beside the table of parts.
    return any(references_to(parts, number) > inside[number] + 1 for number in parts)


def references_to(table: dict[int, object], key: int) -> int:
    """Return how often the object that a table has under a key is referred to, the table included, weakly or not."""
    obj = table[key]
    return sys.getrefcount(obj) - _OWN + weakref.getweakrefcount(obj)


_OWN = 0  # how many references the function itself has; measured too
_OWN = references_to({0: []}, 0) - 1
