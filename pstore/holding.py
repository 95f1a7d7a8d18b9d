"""Who holds an object; reference counts tell.

For records: whether anything outside one holds one of the containers in it.

Such a container can be changed behind the barrier's back, so its record has to stay among those that a commit compares.
What is held more than once within its record is taken for held outside: that costs a comparison, never a change.
"""

from __future__ import annotations

import sys
import weakref
from typing import Final


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


def references_to(table: dict[int, object], key: int) -> int:
    """Return how often the object that a table has under a key is referred to, the table included, weakly or not."""
    obj = table[key]
    return sys.getrefcount(obj) - _OWN + weakref.getweakrefcount(obj)


_OWN = 0  # how many references the function itself has; measured too
_OWN = references_to({0: []}, 0) - 1
