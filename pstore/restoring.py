"""Making the objects in memory what the store says: after a rollback, and when others have changed it.

An object is restored *in place*: an instance becomes a ghost, a container is filled again. What a constructor has made
can't be filled again; it is forgotten, and whatever refers to it is restored too, so that it finds the new one. This
module also puts objects that haven't changed back behind the barrier. It knows nothing of transactions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pstore.holding import held_outside, is_held_by_parts
from pstore.pickle import has_held_dict, set_class
from pstore.records import is_immutable_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pstore.changes import Changes, Draft
    from pstore.ghosts import Ghosts
    from pstore.identity import IdentityMap
    from pstore.loader import Loader
    from pstore.states import States


class Restorer:
    """Restores the objects of one session.

    Args:
        identity: The session's identity map.
        states: Which states are in memory.
        loader: Fills objects.
        ghosts: The session's generated classes.
        changes: Compares objects with their baselines.
    """

    def __init__(self, identity: IdentityMap, states: States, loader: Loader, ghosts: Ghosts, changes: Changes) -> None:
        self._identity = identity
        self._states = states
        self._loader = loader
        self._ghosts = ghosts
        self._changes = changes

    def unchanged(self, key: int) -> Draft | None:
        """Return the draft of an object's record if it is that of its baseline, else None."""
        return self._changes.compare(key, self._states.baselines[key])

    def rest(self, key: int, draft: Draft) -> None:
        """Put an object behind the barrier, unless one of its containers is, or may be, held by anything outside."""
        if key in self._states.touched and self.is_alone(key, draft):
            obj = self._states.touched.pop(key)
            if self._loader.settle(key, obj):
                self._ghosts.put_asleep(obj)

    def rest_idle(self, keys: Iterable[int]) -> None:
        """Put objects behind the barrier that have nothing in them that can change, unless something holds a `__dict__`."""
        touched, asleep = self._states.touched, self._ghosts.of
        for key in keys:
            obj = touched.get(key, self)
            if obj is not self and not has_held_dict(obj):
                generated = asleep(type(obj))
                if generated is not None:
                    set_class(obj, generated)
                    del touched[key]

    def is_alone(self, key: int, draft: Draft) -> bool:
        """Return whether it is certain that nothing outside an object holds any of the containers in it."""
        if draft.transparent:
            return not (
                has_held_dict(self._identity.objects[key]) or held_outside(draft.inline) or held_outside(draft.holders)
            )
        return not is_held_by_parts(self._identity.objects[key], (draft.inline, draft.holders), self._is_part)

    def _is_part(self, obj: object) -> bool:
        return self._identity.key_of(obj) is None and (
            not is_immutable_type(type(obj)) or isinstance(obj, (tuple, frozenset))
        )

    def restore(self, key: int, *, anew: bool = False) -> bool:
        """Make an object what its record says, or a ghost.

        Args:
            key: The object's key.
            anew: Whether the record is another one than the baseline, so that it has to be read.

        Returns:
            Whether that is possible in place; if not, nothing was done, and `replace` is to be called.
        """
        if key in self._states.loose:
            return self._loader.refill(key, anew=anew)
        self._states.touched.pop(key, None)
        self._loader.make_ghost(key, self._identity.objects[key])
        return True

    def replace(self, replaced: Iterable[int]) -> None:
        """Forget objects that can't be restored in place, and restore whatever refers to them."""
        waiting = list(replaced)
        if not waiting:
            return
        gone, affected = set(waiting), set()
        referring = self._loader.referring()
        while waiting:
            for key in referring.get(waiting.pop(), ()):
                if self._loader.can_refill(key):
                    affected.add(key)
                elif key not in gone:
                    gone.add(key)
                    waiting.append(key)
        for key in gone:
            self._loader.forget(key)
        for key in affected:
            self.restore(key)

    def let_go(self, key: int) -> bool:
        """Give an object that has lost its record back to the application; return whether it has its state."""
        obj = self._identity.objects[key]
        self._identity.remove(key)
        has_state = self._states.baselines.get(key) is not None
        if self._ghosts.asleep(obj) and has_state:
            self._ghosts.wake_resident(obj)
        self._states.forget(key)
        return has_state
