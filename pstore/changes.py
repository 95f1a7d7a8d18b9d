"""What a commit has to write: pickling what was touched, finding what is new, promoting what two records share.

A work list, no recursion: each record is pickled on its own, and every object that turns out to need a record of its
own joins the list. An object that can change and stands inline in two records is *promoted*: it gets a key, and both
records are pickled again with a reference in its place. Of shared objects within shared objects only the outermost are
promoted; that is found by pickling with a provisional id for each and looking which of them the stream then names.

This module compares bodies with what was loaded. It knows nothing of backends; keys are given to it.
"""

from __future__ import annotations

import graphlib
import re
from collections import deque
from pickle import PicklingError
from typing import TYPE_CHECKING, Final, NamedTuple

from pstore.catalog import refusal
from pstore.declare import is_declared
from pstore.early import in_sets_of_their_own
from pstore.errors import ForeignObject
from pstore.ghosts import Barrier, is_any_ghost, own_dict
from pstore.identity import is_elsewhere
from pstore.keys import make_key
from pstore.pickle import Unpicklable, has_held_dict, reduce_value
from pstore.pickle.policy import Unnameable
from pstore.records import PROTOCOL, Encoded, Encoder, is_plain, named_in, references, split_body
from pstore.rows import CONSTRUCTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pickle import PickleError

    from pstore.allocation import Allocator
    from pstore.catalog import Catalog
    from pstore.ghosts import Ghosts
    from pstore.identity import IdentityMap
    from pstore.states import Baseline

#: How the pickler's path to an attribute begins where a stream holds a dict of attributes, or a pair with those in slots.
_ATTRIBUTE: Final = re.compile(r"^(?:\[[01]\])?\['([^\W\d]\w*)'\]")


class Draft(NamedTuple):
    """A record that may be written.

    Attributes:
        flags: The flags of its row.
        code: The code of the object's class.
        body: The body of its row.
        inline: The objects in it that can change.
        holders: The tuples and frozensets in it that lead to such objects.
        transparent: Whether these are all; not where a class's own `__getstate__` may have given copies.
    """

    flags: int
    code: int
    body: bytes
    inline: list[object]
    holders: list[object]
    transparent: bool

    def differs(self, baseline: Baseline | None) -> bool:
        """Return whether this isn't what was loaded."""
        return baseline is None or (self.body, self.flags, self.code) != (baseline.body, baseline.flags, baseline.code)


_NO_BASELINES: Final[Mapping[int, Baseline]] = {}


class _NewFound(Exception):
    """While only comparing: there is something that has no record or code yet, so this record has changed."""


class Changes:
    """Finds the changes of one session.

    Args:
        identity: The session's identity map; what gets a record is entered, and `withdraw` takes it out again.
        catalog: The store's classes.
        ghosts: The session's generated classes.
        allocator: Hands out serial numbers and class codes.
        root_label: Returns what an error calls the object of a key.

    Attributes:
        new: The objects that have got a record since the last `settle`, by key.
    """

    def __init__(
        self,
        identity: IdentityMap,
        catalog: Catalog,
        ghosts: Ghosts,
        allocator: Allocator,
        root_label: Callable[[int], str],
    ) -> None:
        self.new: dict[int, object] = {}
        self._identity = identity
        self._catalog = catalog
        self._ghosts = ghosts
        self._allocator = allocator
        self._root_label = root_label
        self._encoder = Encoder(identity.keys, self._key_of_instance, self._key_of_named)
        self._waiting: deque[int] = deque()
        self._drafts: dict[int, Draft] = {}
        self._owner: dict[int, int] = {}  # id of an inline object -> the record it stands in
        self._disowned: set[int] = set()  # records that have lost an inline object before
        self._instead: dict[int, object] = {}  # key -> what is pickled in place of the object that has the key
        self._classes: list[int] = []  # keys of classes that joined the identity map
        self._comparing = False
        #: Records that `gather` has found unchanged, with nothing in them that can change: they need no draft.
        self._idle: list[int] = []
        #: By the ids of classes whose objects may be such: their codes, in one `gather`.
        self._code_of_plain: dict[int, int] = {}

    def adopt(self, obj: object) -> int:
        """Return the key of an object, a new one if it has none; its record then belongs to the next `gather`.

        Raises:
            ClassNotAllowed: The policy refuses its class.
            ForeignObject: It belongs to another session.
        """
        key = self._identity.key_of(obj)
        if key is None:
            self._refuse_foreign(obj)
            key = self._enter(obj)
            self._waiting.append(key)
        return key

    def encode_value(self, obj: object, label: str) -> bytes:
        """Return the stream of an atom.

        Raises:
            PickleError: It can't be pickled, or names what isn't allowed.
        """
        try:
            return self._encoder.encode_value(obj)
        except Unpicklable as error:
            raise self._tell(error, label) from None

    def check_picklable(self, obj: object, label: str) -> None:
        """Raise PickleError where an object can't be pickled by anybody, whatever a policy says."""
        try:
            reduce_value(obj, PROTOCOL)
        except Unpicklable as error:
            raise self._tell(error, label) from None
        except Exception:  # noqa: BLE001, S110  # the object's own, which would come up again when it is pickled
            pass

    def gather(self, keys: Iterable[int], baselines: Mapping[int, Baseline] = _NO_BASELINES) -> dict[int, Draft]:
        """Pickle these records and all new ones.

        Args:
            keys: The records to compare, beside those that were adopted.
            baselines: What to compare them with, as far as that is known.

        Returns:
            A draft of each, by key; but none of the `idle` ones.

        Raises:
            PickleError: An object can't be pickled or isn't allowed; call `withdraw`.
        """
        waiting, drafts = self._waiting, self._drafts
        waiting.extend(keys)
        self._code_of_plain.clear()
        self._comparing = False
        objects, instead, codes = self._identity.objects, self._instead, self._code_of_plain
        encode_changed, idle = self._encoder.encode_changed, self._idle.append
        # Most objects haven't changed. This loop is where a commit spends its time.
        while waiting:
            key = waiting.popleft()
            if key in drafts:
                continue
            baseline = baselines.get(key)
            if baseline is None or key in instead:
                self._process(key)
                continue
            flags, code, _, body = baseline
            obj = objects[key]
            known = codes.get(id(type(obj)))
            if known is None:
                known = codes[id(type(obj))] = self._code_if_plain(type(obj))
            if flags or known != code:
                self._process(key)
                continue
            try:
                encoded = encode_changed(obj, body)
            except Unpicklable as error:
                raise self._tell(error, self._root_label(key), attributes=True) from None
            if encoded is None:
                idle(key)
            else:
                self._process(key, encoded)
        self._refuse_circular_construction()
        return drafts

    def gather_again(self, keys: Iterable[int], baselines: Mapping[int, Baseline]) -> dict[int, Draft]:
        """Do as `gather` does, for all that it has pickled before too, but for what was pickled in place of other objects."""
        for key in [key for key in self._drafts if key not in self._instead]:
            for obj in self._drafts.pop(key).inline:
                if self._owner.get(id(obj)) == key:
                    del self._owner[id(obj)]
            self._waiting.append(key)
        self._idle.clear()
        return self.gather(keys, baselines)

    def idle(self) -> list[int]:
        """Return the keys of the records that need no draft: unchanged, and with nothing in them that can change.

        An object's own `__dict__` is left out of that.
        """
        return [key for key in self._idle if key not in self._drafts]

    def encode_instead(self, key: int, obj: object) -> Draft:
        """Pickle another object as the record of a key; what is new in it belongs to the next `gather`.

        Raises:
            PickleError: As `gather` does.
        """
        self._instead[key] = obj
        self._identity.keys[id(obj)] = key  # it may refer to itself
        self._drafts.pop(key, None)
        self._process(key)
        self._drafts[key] = self.with_code(key, self._drafts[key])
        return self._drafts[key]

    @property
    def busy(self) -> bool:
        """Whether something is being pickled, so that what is running now is code of an object's own."""
        return self._encoder.busy

    def look(self, key: int) -> Draft | None:
        """Return the draft of a record; None where it can't be told, as it holds what is new. Gives no keys."""
        return self._look(self._identity.objects[key])

    def _look(self, obj: object) -> Draft | None:
        cls = self._ghosts.real_class(obj)
        try:
            self._comparing = True
            encoded = self._encoder.encode(obj)
            return Draft(encoded.flags, self._catalog.expected_code(cls), encoded.body, *encoded[2:])
        except Exception:  # noqa: BLE001  # _NewFound, or what can't be pickled: it is not what was stored
            return None
        finally:
            self._comparing = False
            self._forget_classes()

    def look_at_copy(self, key: int, copy: object) -> Draft | None:
        """Return the draft of a record as `look` does, from an object that isn't the one that has the key."""
        if self._identity.key_of(copy) is not None:
            return None
        self._identity.keys[id(copy)] = key  # it may refer to itself
        try:
            return self._look(copy)
        finally:
            del self._identity.keys[id(copy)]

    def with_code(self, key: int, draft: Draft) -> Draft:
        """Return the draft of a record that is to be written with the code that its class has, a new one if it has none."""
        if draft.code > 0:
            return draft
        return draft._replace(code=self._allocator.code(self._ghosts.real_class(self._object(key))))

    def _forget_classes(self) -> None:
        for key in self._classes:
            self._identity.remove(key)
        self._classes.clear()

    def settle(self) -> None:
        """The commit is done: what was new stays."""
        self.new.clear()
        self._classes.clear()
        self._forget_work()

    def withdraw(self) -> None:
        """The commit has failed: nothing is new any more."""
        for key in self.new:
            self._identity.remove(key)
        self.new.clear()
        self._forget_classes()
        self._forget_work()

    def _forget_work(self) -> None:
        for obj in self._instead.values():
            self._identity.keys.pop(id(obj), None)
        self._instead.clear()
        self._waiting.clear()
        self._idle = []
        self._drafts = {}
        self._owner.clear()
        self._disowned.clear()

    def _code_if_plain(self, cls: type) -> int:
        """Return the code of a class whose objects can be put behind the barrier; 0 for another class."""
        if is_plain(cls) and self._catalog.knows(cls) and self._ghosts.of(cls) is not None:
            return self._catalog.code_of(cls, 0)
        return 0

    def _process(self, key: int, encoded: Encoded | None = None) -> None:
        if encoded is None:
            encoded = self._encode(key)
        for inline in encoded.inline:
            self._refuse_foreign(inline)
        shared = [obj for obj in encoded.inline if self._owner.get(id(obj), key) != key]
        if shared:
            encoded = self._promote(key, shared)
        circular = in_sets_of_their_own([*encoded.inline, *encoded.holders], self._identity.keys)
        if circular:
            for inline in circular:
                self._give_record(inline)
            encoded = self._encode(key)
        obj = self._object(key)
        cls = self._ghosts.real_class(obj)
        # What isn't new may turn out to be unchanged, and then needs no code though it has been read with a newer class.
        code = self._allocator.code(cls) if key in self.new else self._catalog.expected_code(cls)
        # The draft holds the inline objects, so that no id is used twice while owners are known by it.
        self._drafts[key] = Draft(encoded.flags, code, encoded.body, *encoded[2:])
        self._owner.update(dict.fromkeys(map(id, encoded.inline), key))
        # No record for a `__dict__` that several objects have: each keeps the attributes, as with a plain pickle.
        if encoded.inline and has_held_dict(obj):
            self._owner.pop(id(own_dict(obj)), None)

    def _object(self, key: int) -> object:
        """Return what is pickled as the record of a key."""
        return self._instead[key] if key in self._instead else self._identity.objects[key]

    def _promote(self, key: int, shared: list[object]) -> Encoded:
        """Give records of their own to the outermost of the objects that this record shares with others."""
        for number, obj in enumerate(shared):
            self._identity.add(-1 - number, obj)
        try:
            encoded = self._encode(key)
            named = set(named_in(encoded.body, encoded.flags))
        finally:
            for number in range(len(shared)):
                self._identity.remove(-1 - number)
        outermost = [obj for number, obj in enumerate(shared) if -1 - number in named]
        for owner in {self._owner[id(obj)] for obj in outermost}:
            self._disown(owner)
        for obj in outermost:
            self._give_record(obj)
        return self._encode(key)

    def _give_record(self, obj: object) -> None:
        self._waiting.appendleft(self._enter(obj))

    def _refuse_circular_construction(self) -> None:
        """Refuse objects that are made from each other by their constructors' arguments: they couldn't be made again."""
        made_from: dict[int, list[int]] = {}
        for key, draft in self._drafts.items():
            if draft.flags & CONSTRUCTED:
                (arguments,) = references(split_body(memoryview(draft.body), draft.flags), 1)
                made_from[key] = [found for found in arguments if isinstance(found, int)]
        try:
            graphlib.TopologicalSorter(made_from).prepare()
        except graphlib.CycleError as error:
            circle = " <- ".join(map(self._root_label, error.args[1]))
            message = (
                f"{circle}: can't be made again, because the constructor's arguments lead back to the object itself"
            )
            raise PicklingError(message) from None

    def _disown(self, key: int) -> None:
        """Take a record's inline objects from it and pickle it again: one of them has got a record of its own.

        The first time it is pickled again at once, so that what it still shares is soon found; after that it waits until
        all others are done. A hub that thousands of records lead to is so pickled a few times, not thousands of times.
        """
        draft = self._drafts.pop(key, None)
        if draft is None:
            return
        for obj in draft.inline:
            if self._owner.get(id(obj)) == key:
                del self._owner[id(obj)]
        if key in self._disowned:
            self._waiting.append(key)
        else:
            self._disowned.add(key)
            self._waiting.appendleft(key)

    def _encode(self, key: int) -> Encoded:
        obj = self._object(key)
        try:
            return self._encoder.encode(obj)
        except Unpicklable as error:
            raise self._tell(error, self._root_label(key), attributes=is_plain(type(obj))) from None

    def _tell(self, error: Unpicklable, root: str, *, attributes: bool = False) -> PickleError:
        """Return an error that says where in the store it is, in place of where in the stream.

        Args:
            error: The pickler's error.
            root: What to call the object that was pickled.
            attributes: Whether the stream holds the object's attributes, so that the path begins with one.
        """
        path = (error.path or "root").removeprefix("root")
        error.path = root + (_ATTRIBUTE.sub(r".\1", path, count=1) if attributes else path)
        if isinstance(error, Unnameable):
            return refusal(error.module, error.qualname, where=error.path, reason=error.why)
        return error

    def _key_of_instance(self, obj: object) -> int | None:
        """Asked by the pickler for every instance that has no key."""
        self._refuse_foreign(obj)
        if not is_declared(type(obj)):
            return None
        if self._comparing:
            raise _NewFound
        return self.adopt(obj)

    def _key_of_named(self, found: object) -> int | None:
        """Asked by the pickler for every class and function that has no key."""
        if isinstance(found, type):
            cls = found.__bases__[0] if issubclass(found, Barrier) else found
            if self._comparing and self._catalog.reference_code(cls) is None:
                raise _NewFound
            if not self._catalog.permits(cls):
                if "<locals>" in cls.__qualname__:
                    return None  # the pickler says better why it can't be named
                raise Unnameable(cls, self._catalog.why_not(cls))
            key = make_key(self._allocator.reference(cls), 0)
            if key not in self._identity.objects or self._identity.key_of(cls) is None:
                self._identity.add(key, cls)
                self._classes.append(key)
            return key
        if not self._catalog.permits(found) and "<" not in getattr(found, "__qualname__", ""):
            raise Unnameable(found, self._catalog.why_not(found))
        return None

    def _refuse_foreign(self, obj: object) -> None:
        if is_any_ghost(obj) or is_elsewhere(obj, self._identity):
            message = (
                f"an object of {obj.__class__.__qualname__} belongs to another session or store: store a copy of it"
                " (copy.deepcopy), or use the object that this session has"
            )
            raise ForeignObject(message)

    def _enter(self, obj: object) -> int:
        code = self._allocator.code(type(obj))
        key = make_key(code, self._allocator.serial())
        self.new[key] = obj  # first, so that `withdraw` finds it whatever comes in between
        self._identity.add(key, obj)
        return key
