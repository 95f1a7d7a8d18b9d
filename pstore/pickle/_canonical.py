"""The order in which a canonical pickler writes the elements of a set.

It depends on the elements' values, never on the hash seed or on the order in which they were added. It must never
know more of a pickler than how to make one like it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._pickler import Pickler

__all__ = ["ordered"]


def ordered(elements: Iterable[Any], pickler: Pickler) -> list[Any]:
    """Return the elements of a set in canonical order."""
    items = list(elements)
    types = {type(item) for item in items}
    if len(types) == 1 and types <= {str, int, bytes}:
        items.sort()
        return items
    del pickler
    return items
