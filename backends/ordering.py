"""The keys of one table in ascending order, for engines that find a key but keep none in order.

It knows keys, never rows.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pstore.backends.base import Key

#: From so many changed keys on, sorting once is quicker than moving the rest of the list for each.
_MANY = 200


class SortedKeys:
    """A set of keys, all integers or all strings, that gives those within bounds in order.

    Args:
        keys: What it holds at first, in any order.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: list[Any] = sorted(keys)

    def update(self, changes: Mapping[Key, object | None]) -> None:
        """Take in the keys of changed rows, and take out those whose row is None."""
        if len(changes) > _MANY:
            keys = {*self._keys, *changes}
            keys.difference_update([key for key, row in changes.items() if row is None])
            self._keys = sorted(keys)
            return
        for key, row in changes.items():
            at = bisect_left(self._keys, key)
            there = at < len(self._keys) and self._keys[at] == key
            if row is None and there:
                del self._keys[at]
            elif row is not None and not there:
                self._keys.insert(at, key)

    def between(self, start: Key | None, stop: Key | None) -> Iterator[Any]:
        """Yield the keys from `start` (included) to `stop` (left out) in order; the set must not change meanwhile."""
        low = 0 if start is None else bisect_left(self._keys, start)
        high = len(self._keys) if stop is None else bisect_left(self._keys, stop)
        for at in range(low, high):
            yield self._keys[at]
