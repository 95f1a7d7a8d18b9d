"""The order in which a canonical pickler writes the elements of a set.

It depends on what the elements are pickled to, each alone: never on the hash seed, on addresses, or on the order in
which they were added. It must never know how a key is made, nor the element's type (which may be a stand-in that is
pickled as something else).
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["LEVELS", "Enough", "ordered"]

#: Levels of keys that are tried. A key of a higher level is longer, and sees through more sets within sets.
LEVELS = 5

_SORTABLE = (str, int, bytes)


class Enough(Exception):  # not an error: it ends work that would lead too far
    """The work allowed for an order is used up."""


def ordered(
    elements: Iterable[Any], key_of: Callable[[Any, int], tuple[bytes, bool]], levels: int = LEVELS
) -> list[Any] | None:
    """Return the elements of a set in canonical order.

    Strings alone, ints alone and bytes alone are sorted by value. Any other elements are sorted by their keys. Keys are
    cut short, so that a set of objects that reach a large graph stays affordable; where two that were cut are equal,
    these elements are compared by the keys of the next level. What is equal at the last level, or when `key_of` has
    had enough, keeps the order in which the set has it.

    Args:
        elements: The elements.
        key_of: Returns the key of an element at a level, and whether it was complete.
        levels: How many levels there are.

    Returns:
        The elements; None where there are elements to compare and no level to do it at.
    """
    items = list(elements)
    if len(items) < 2:
        return items
    first = type(items[0])
    if first in _SORTABLE and all(type(item) is first for item in items):
        items.sort()
        return items
    if not levels:
        return None
    groups = [(items, False)]
    try:
        for level in range(levels):
            if all(settled for _, settled in groups):
                break
            groups = [
                part
                for group, settled in groups
                for part in ([(group, True)] if settled else _split(group, key_of, level))
            ]
    except Enough:
        pass
    return [item for group, _ in groups for item in group]


def _split(
    items: list[Any], key_of: Callable[[Any, int], tuple[bytes, bool]], level: int
) -> list[tuple[list[Any], bool]]:
    """Sort elements by their keys; return groups of the same key, and whether looking closer would change nothing."""
    keyed = sorted(((*key_of(item, level), item) for item in items), key=itemgetter(0))
    groups = []
    for _, same in groupby(keyed, key=itemgetter(0)):
        members = list(same)
        groups.append(([item for _, _, item in members], len(members) == 1 or all(whole for _, whole, _ in members)))
    return groups
