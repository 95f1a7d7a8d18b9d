"""How many states stay in memory: at the end of a transaction, and when asked, the least recently used are dropped.

An object whose state is dropped is a ghost again. A ghost that nothing refers to is forgotten, and so is, in the middle
of a transaction too, an unchanged object that nothing refers to: nobody can tell. Never dropped are changes, and objects
of which something outside holds a container: that could be changed unseen. This module knows nothing of transactions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pstore.holding import references_to
from pstore.keys import serial_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pstore.identity import IdentityMap
    from pstore.loader import Loader
    from pstore.restoring import Restorer
    from pstore.states import States


#: How many of a session's tables refer to an object that is touched or loose, all others to one.
_OURS: Final = 2


class Limits(NamedTuple):
    """How much may stay in memory between transactions.

    Attributes:
        records: The number of records whose states may.
        size: The bytes of these records, as they are stored.
    """

    records: int
    size: int


class Cache:
    """Keeps the states of one session within limits.

    Args:
        identity: The session's identity map.
        states: Which states are in memory.
        loader: Makes ghosts of objects.
        restorer: Compares objects, and puts them behind the barrier.
        limits: What may stay.
        dropped: Called with the key of each object that this transaction has touched and that is forgotten.
    """

    def __init__(
        self,
        identity: IdentityMap,
        states: States,
        loader: Loader,
        restorer: Restorer,
        *,
        limits: Limits,
        dropped: Callable[[int], object],
    ) -> None:
        self._identity = identity
        self._states = states
        self._loader = loader
        self._restorer = restorer
        self._limits = limits
        self._dropped = dropped
        # Each is looked at again only when there is notably more than the last look has left.
        self._shrink_above = limits
        self._relieve_above = Limits(2 * limits.records, 2 * limits.size)
        self._sweep_above = limits.records * 5 // 4

    def shrink(self) -> None:
        """Between transactions: drop the states that were used least recently, down to the limits."""
        if self._exceeds(self._shrink_above):
            # Somewhat below, so that not each transaction has to look for something to drop.
            goal = Limits(self._limits.records * 9 // 10, self._limits.size * 9 // 10)
            records, size = len(self._states.baselines) - goal.records, self._states.size - goal.size
            chosen = []
            for key, baseline in self._states.baselines.items():
                if records <= 0 and size <= 0:
                    break
                if key not in self._states.touched:
                    chosen.append(key)
                    records -= 1
                    size -= len(baseline.body)
            for key in chosen:
                self._drop(key)
            self._shrink_above = self._above(self._limits, 1.25)
        if len(self._identity.objects) > self._sweep_above:
            self._sweep()

    def relieve(self) -> None:
        """In the middle of a transaction: forget objects that nothing refers to, if there are many states."""
        states, (records, size) = self._states, self._relieve_above
        if len(states.baselines) <= records and states.size <= size:
            return
        oldest = list(self._states.touched)[: -max(1, self._limits.records // 2)]
        for key in oldest:
            self._forget_touched(key)
        if len(self._identity.objects) > self._sweep_above:
            self._sweep()
        self._relieve_above = self._above(Limits(2 * self._limits.records, 2 * self._limits.size), 1.5)

    def evict(self, keys: Iterable[int]) -> int:
        """Drop the states of these objects, as far as they are unchanged and can be had again; return how many."""
        dropped = 0
        for key in keys:
            if key in self._states.baselines:
                if key in self._states.touched or key in self._states.loose:
                    draft = self._restorer.unchanged(key)
                    if draft is None:
                        continue
                    self._dropped(key)
                    self._restorer.rest(key, draft)
                dropped += self._drop(key)
        self._sweep()
        return dropped

    def _exceeds(self, limits: Limits) -> bool:
        return len(self._states.baselines) > limits.records or self._states.size > limits.size

    def _above(self, limits: Limits, factor: float) -> Limits:
        """Return these limits, or more where that much is left that can't be dropped."""
        return Limits(
            max(limits.records, int(factor * len(self._states.baselines))),
            max(limits.size, int(factor * self._states.size)),
        )

    def _drop(self, key: int) -> bool:
        """Make a resting object a ghost, or forget a loose one that nothing refers to; return whether it was done."""
        if key in self._states.touched:
            return False
        if key in self._states.loose:
            return self._forget_loose(key)
        self._loader.make_ghost(key, self._identity.objects[key])
        return True

    def _forget_loose(self, key: int) -> bool:
        if references_to(self._states.loose, key) > _OURS:
            return False
        draft = self._restorer.unchanged(key)
        if draft is None or not self._restorer.is_alone(key, draft):
            return False
        self._dropped(key)
        self._loader.forget(key)
        return True

    def _forget_touched(self, key: int) -> None:
        states = self._states
        if key not in states.baselines or key in states.loose or references_to(states.touched, key) > _OURS:
            return
        draft = self._restorer.unchanged(key)
        if draft is not None and self._restorer.is_alone(key, draft):
            self._dropped(key)
            self._loader.forget(key)

    def _sweep(self) -> None:
        """Forget what nothing refers to: ghosts, and loose objects that haven't changed."""
        states = self._states
        for key in [*states.loose]:
            self._forget_loose(key)
        for key in [*self._identity.objects]:
            if key not in states.baselines and serial_of(key) and references_to(self._identity.objects, key) == 1:
                self._identity.remove(key)
        self._sweep_above = max(self._limits.records, len(self._identity.objects)) * 5 // 4
