"""Which objects have their states in memory, and which of them may have changed.

The *baseline* of an object is its record as it was read or written, to compare with. An object has one exactly as long
as its state is in memory. Baselines stand in the order of use, the least recently used first. This module knows keys,
objects and bytes; it changes no object.
"""

from __future__ import annotations

from typing import NamedTuple


class Baseline(NamedTuple):
    """A record as it was read or written, to compare with.

    Attributes:
        flags: The flags of its row.
        code: The class code in its header.
        revision: The commit that wrote it; 0 for what only this transaction has, in a savepoint.
        body: Its body.
    """

    flags: int
    code: int
    revision: int
    body: bytes


class States:
    """The states of one session's objects.

    Attributes:
        baselines: The record of every object whose state is in memory, the least recently used first.
        loose: Objects that can't be put behind a barrier and so may change unseen, by key.
        touched: Objects that have come out from behind the barrier and may have changed since, by key.
        as_read: Keys of those whose baseline is the record that they were loaded from. Pickled anew they may differ from it
            though nobody has changed them.
        size: The bytes of all baselines.
    """

    def __init__(self) -> None:
        self.baselines: dict[int, Baseline] = {}
        self.loose: dict[int, object] = {}
        self.touched: dict[int, object] = {}
        self.as_read: set[int] = set()
        self.size = 0

    def put(self, key: int, baseline: Baseline, *, as_read: bool = False) -> None:
        """Enter the record of a state that is in memory now, as the one used last.

        Args:
            key: The object's key.
            baseline: Its record.
            as_read: Whether the object was loaded from it, and not pickled to it.
        """
        if key in self.baselines:
            self.drop(key)
        self.baselines[key] = baseline
        self.size += len(baseline.body)
        if as_read:
            self.as_read.add(key)

    def use(self, key: int) -> None:
        """Note that a state is being used."""
        self.baselines[key] = self.baselines.pop(key)

    def drop(self, key: int) -> Baseline | None:
        """Take out the record of a state that isn't in memory any more, and return it."""
        baseline = self.baselines.pop(key, None)
        self.as_read.discard(key)
        if baseline is not None:
            self.size -= len(baseline.body)
        return baseline

    def forget(self, key: int) -> None:
        """Take out all that is known of an object."""
        self.drop(key)
        self.loose.pop(key, None)
        self.touched.pop(key, None)

    def compared(self) -> list[int]:
        """Return the keys of all objects that may have changed."""
        # What isn't in memory any more was touched by code of a load that has failed.
        return [key for key in (*self.touched, *self.loose) if key in self.baselines]
