"""Making the objects in memory what the store says: after a rollback, and when others have changed it.

An object is restored *in place*: an instance becomes a ghost, a container is filled again. What a constructor has made
can't be filled again; it is forgotten, and whatever refers to it is restored too, so that it finds the new one. This
module also puts objects that haven't changed back behind the barrier. It knows nothing of transactions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pstore.catalog import UNAVAILABLE
from pstore.ghosts import own_dict
from pstore.holding import held_outside, is_held_by_parts
from pstore.keys import serial_of
from pstore.pickle import has_held_dict, set_class
from pstore.records import is_immutable_type, loads_as_written, named_in
from pstore.states import Baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pstore.catalog import Catalog
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
        catalog: The store's classes.
        replaced: Told the objects that were forgotten because they can't be restored in place, by key.
    """

    def __init__(
        self,
        identity: IdentityMap,
        states: States,
        loader: Loader,
        ghosts: Ghosts,
        changes: Changes,
        *,
        catalog: Catalog,
        replaced: Callable[[dict[int, object]], None],
    ) -> None:
        self._identity = identity
        self._states = states
        self._loader = loader
        self._ghosts = ghosts
        self._changes = changes
        self._catalog = catalog
        self._tell_replaced = replaced
        self._unfinished: set[int] = set()  # keys of objects whose restoring was interrupted, or has failed

    def unchanged(self, key: int) -> Draft | None:
        """Return the draft of an object's record if it hasn't changed since it was loaded or committed, else None."""
        draft = self._changes.look(key)
        return None if draft is None or self._has_changed(key, draft) else draft

    def changed(self, drafts: Mapping[int, Draft]) -> dict[int, Draft]:
        """Return those drafts, in the order of their keys, that have to be written, with the codes of their classes."""
        changed = {key: drafts[key] for key in sorted(drafts) if self._has_changed(key, drafts[key])}
        return {key: self._changes.with_code(key, draft) for key, draft in changed.items()}

    def take_in(self, keys: Iterable[int]) -> None:
        """Take objects as they are now, just made of their records by code of their classes, for what the records hold."""
        if self._changes.busy:
            return  # by code that is being pickled; they are looked at when they are compared
        for key in keys:
            baseline = self._states.baselines.get(key)
            draft = None if baseline is None else self._changes.look(key)
            if baseline is not None and draft is not None:
                self._states.put(key, Baseline(draft.flags, draft.code, baseline.revision, draft.body))

    def _has_changed(self, key: int, draft: Draft) -> bool:
        """Return whether an object differs from its record by more than what loading has made of that.

        For objects of their own records that is known since `take_in`. Objects inside a record may have a `__setstate__` or a
        constructor, too, and classes may have other codes now; then the record is made into a copy, to compare with.
        """
        baseline = self._states.baselines.get(key)
        if baseline is None:
            return True
        if baseline.code < 0:  # a commit may have given the class its code meanwhile; it isn't kept, as that may fail
            baseline = baseline._replace(code=self._catalog.expected_code(self._catalog.resolve(baseline.code)))
        if not draft.differs(baseline):
            return False
        if key not in self._states.as_read or not self._may_load_otherwise(key, baseline, draft):
            return True
        self._states.as_read.discard(key)
        try:
            copy = self._loader.copy_of(key, baseline)
        except Exception:  # noqa: BLE001  # the object's own code; then it can't be told
            return True
        loaded = self._changes.look_at_copy(key, copy)
        if loaded is None or not _is_of_record(loaded, baseline, draft):
            return True
        self._states.put(key, Baseline(loaded.flags, loaded.code, baseline.revision, loaded.body))
        return draft.differs(self._states.baselines[key])

    def _may_load_otherwise(self, key: int, baseline: Baseline, draft: Draft) -> bool:
        """Return whether loading may have made something else of a record than what was written."""
        if (draft.code, draft.flags) != (baseline.code, baseline.flags) or self._catalog.has_other_names:
            return True
        classes = {self._ghosts.real_class(self._identity.objects[key]), *map(type, draft.inline)}
        return not all(map(loads_as_written, classes))

    def rest(self, key: int, draft: Draft) -> None:
        """Put an object behind the barrier, unless one of its containers is, or may be, held by anything outside."""
        if key in self._states.touched and self.is_alone(key, draft):
            obj = self._states.touched[key]
            # In this order, as an interruption in between must not leave an awake object that isn't compared.
            if not self._ghosts.asleep(obj) and self._loader.settle(key, obj):
                self._ghosts.put_asleep(obj)
            del self._states.touched[key]

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
        obj = self._identity.objects[key]
        if not draft.transparent:
            return not is_held_by_parts(obj, (draft.inline, draft.holders), self._is_part)
        # The object's own `__dict__` is seldom among what was pickled; where it is, the draft holds it, too.
        if has_held_dict(obj) and all(item is not own_dict(obj) for item in draft.inline):
            return False
        return not held_outside(draft.inline) and not held_outside(draft.holders)

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
            # Where this raises, the object is forgotten, and may be empty: what refers to it has yet to be restored.
            self._unfinished.add(key)
            done = self._loader.refill(key, anew=anew)
            self._unfinished.discard(key)
            return done
        try:
            self._loader.make_ghost(key, self._identity.objects[key])
        except (TypeError, *UNAVAILABLE):  # it can't be of its stored class any more
            return False
        self._states.touched.pop(key, None)
        return True

    def try_to_restore(self, key: int, *, anew: bool = False) -> bool:
        """Do as `restore` does. What can't be loaded any more is forgotten, and raises its error when it is reached again."""
        try:
            return self.restore(key, anew=anew)
        except Exception:  # noqa: BLE001  # of the record, or of the object's own code
            return False

    def replace(self, replaced: Iterable[int]) -> None:
        """Forget objects that can't be restored in place, and restore whatever refers to them."""
        waiting = list({*replaced, *self._unfinished})
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
        self._tell_replaced({key: self._identity.objects[key] for key in gone if key in self._identity.objects})
        self._unfinished |= gone
        for key in gone:
            self._loader.forget(key)
        failed = [key for key in affected - gone if not self.try_to_restore(key)]
        self._unfinished -= gone
        self.replace(failed)

    def let_go(self, key: int) -> bool:
        """Give an object that has lost its record back to the application; return whether it has its state."""
        obj = self._identity.objects[key]
        has_state = self._states.baselines.get(key) is not None
        if self._ghosts.asleep(obj) and has_state:
            self._ghosts.wake_resident(obj)
        self._identity.remove(key)
        self._states.forget(key)
        return has_state


def _is_of_record(loaded: Draft, baseline: Baseline, draft: Draft) -> bool:
    """Return whether what was loaded of a record is from there alone.

    A `__setstate__` may hand out what the program has anyway, such as a list of its module. That may have changed since,
    or have got a record, and nothing but a record that holds or names it would bring it back.
    """
    if {*map(id, loaded.inline)} & {*map(id, draft.inline)}:
        return False
    return {*filter(serial_of, named_in(loaded.body, loaded.flags))} <= {
        *filter(serial_of, named_in(baseline.body, baseline.flags))
    }
