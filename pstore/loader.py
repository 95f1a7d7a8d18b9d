"""From keys to objects: making them, waking them, filling them.

A reference makes an object and reads nothing where the class is enough: a ghost for a plain instance, an empty builtin
container that is filled before the application sees it. An object that a constructor makes has to be read; what the
constructor's arguments refer to is made first, from an explicit stack. Nothing recurses, however long a chain is.

An operation (waking one object, following one reference) is whole: where a record of it can't be read, all that the
operation made is undone, and the next touch tries again. This module reads rows through one callable and knows
nothing of transactions or changes.
"""

from __future__ import annotations

import contextlib
from collections import deque
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, NamedTuple

from pstore import rows
from pstore.errors import ClassNotAllowed, CorruptRecord, MissingRecord
from pstore.ghosts import drop_state, make_unavailable, set_class
from pstore.keys import code_of, is_key, serial_of
from pstore.pickle import Unpickler, reduce_value
from pstore.records import PROTOCOL, fill, is_made_by_class, is_plain, make_empty, references, split_body
from pstore.rows import CONSTRUCTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pstore.backends.base import Row
    from pstore.catalog import Catalog
    from pstore.ghosts import Ghosts
    from pstore.identity import IdentityMap
    from pstore.records import Streams


class Baseline(NamedTuple):
    """A record as it was read or written, to compare with.

    Attributes:
        flags: The flags of its row.
        code: The class code in its header.
        revision: The commit that wrote it.
        body: Its body.
    """

    flags: int
    code: int
    revision: int
    body: bytes


class _Needed(Exception):
    """A record refers to an object that its constructor has to make first."""


class _Unfilled(NamedTuple):
    key: int
    obj: object
    unpickler: Unpickler | None  # it has read the constructor and stands before the state
    needed: list[int]  # what has to be made before the state can be read


class Loader:
    """Makes and fills the objects of one session.

    Args:
        identity: The session's identity map.
        catalog: The store's classes.
        ghosts: The session's generated classes.
        read: Answers a key with its row, or None.
        names_of: Answers a key with a name that leads to it, or None; asked when there is an error to tell.

    Attributes:
        baselines: The record of every object whose state is in memory.
        loose: Objects that can't be put behind a barrier and so may change unseen, by key.
    """

    def __init__(
        self,
        identity: IdentityMap,
        catalog: Catalog,
        ghosts: Ghosts,
        read: Callable[[int], Row | None],
        names_of: Callable[[int], str | None],
    ) -> None:
        self.baselines: dict[int, Baseline] = {}
        self.loose: dict[int, object] = {}
        self._identity = identity
        self._catalog = catalog
        self._ghosts = ghosts
        self._read_row = read
        self._names_of = names_of
        self._idle: list[Unpickler] = []
        self._unfilled: deque[_Unfilled] = deque()
        self._depth = 0
        self._made: list[int] = []  # in this operation: keys of objects that were made or filled
        self._unavailable: dict[int, type] = {}  # class code -> class of the stand-ins
        self._stand_ins: set[type] = set()

    def follow(self, key: int) -> object:
        """Return the object of a key.

        Raises:
            ClassNotAllowed: Its class isn't allowed.
            CorruptRecord: Its record, or one that has to be loaded with it, is damaged.
            MissingRecord: The same, missing.
        """
        found = self._identity.objects.get(key)
        if found is None or type(found) in self._stand_ins:
            with self._operation():
                found = self._refer(key, inside=False)
        return found

    def wake(self, key: int, obj: object) -> None:
        """Load the state of a ghost. Raises as `follow` does."""
        with self._operation():
            self._fill(_Unfilled(key, obj, None, []))

    def refill(self, key: int, *, anew: bool = False) -> bool:
        """Give a loose object the state of its record again.

        Args:
            key: The object's key.
            anew: Whether the record is to be read again; otherwise the baseline is taken.

        Returns:
            Whether that can be done in place; if not, nothing was done.
        """
        obj = self._identity.objects[key]
        baseline = self._read(key)[0] if anew else self.baselines[key]
        if baseline.flags & CONSTRUCTED:
            return False
        with self._operation():
            if isinstance(obj, (bytearray, dict, list, set)):
                obj.clear()
            else:
                drop_state(obj, type(obj))
            self._fill_from(key, obj, baseline)
        return True

    def value(self, stream: memoryview, name: str) -> object:
        """Return the value of an atom's stream, from the row of a name.

        Raises:
            CorruptRecord: The stream is damaged.
        """
        with self._operation(), self._unpickler() as unpickler:
            try:
                unpickler.feed(stream)
                return unpickler.load()
            except (UnpicklingError, EOFError) as error:
                message = f"the value under {name!r} is damaged: {error}"
                raise CorruptRecord(message, name=name) from error

    def settle(self, key: int, obj: object) -> bool:
        """Take in an object that has got its record; return whether a barrier can guard it."""
        guarded = is_plain(type(obj)) and self._ghosts.of(type(obj)) is not None
        if not guarded:
            self.loose[key] = obj
        return guarded

    def referring_to(self, keys: set[int]) -> list[int]:
        """Return the keys of those objects in memory whose records refer to any of these."""
        found = []
        for key, baseline in self.baselines.items():
            streams = split_body(memoryview(baseline.body), baseline.flags)
            named = references(streams, 2 if baseline.flags & CONSTRUCTED else 1)
            if any(not keys.isdisjoint(stream) for stream in named):
                found.append(key)
        return found

    def forget(self, key: int) -> None:
        """Forget an object altogether; whoever refers to it goes on with the old one."""
        self._identity.remove(key)
        self.baselines.pop(key, None)
        self.loose.pop(key, None)

    def make_ghost(self, key: int, obj: object) -> None:
        """Drop the state of an object, so that the next touch loads it anew."""
        cls = self._ghosts.real_class(obj)
        generated = self._ghosts.of(cls)
        if generated is None:
            message = f"an object of {cls} can't be a ghost"
            raise TypeError(message)
        drop_state(obj, cls)
        set_class(obj, generated)
        self.baselines.pop(key, None)

    @contextlib.contextmanager
    def _operation(self) -> Iterator[None]:
        """Fill all that the block made; undo everything when that fails."""
        self._depth += 1
        try:
            yield
            while self._unfilled:
                self._fill(self._unfilled.popleft())
        except BaseException:
            if self._depth == 1:
                self._undo()
            raise
        finally:
            self._depth -= 1
            if not self._depth:
                self._made.clear()

    def _undo(self) -> None:
        self._unfilled.clear()
        for key in self._made:
            obj = self._identity.objects.get(key)
            if obj is not None and is_plain(self._ghosts.real_class(obj)) and key not in self.loose:
                self.make_ghost(key, obj)
            else:
                self.forget(key)

    @contextlib.contextmanager
    def _unpickler(self) -> Iterator[Unpickler]:
        """Lend an unpickler; a second one where user code, such as a `__hash__`, loads while another load runs."""
        unpickler = self._idle.pop() if self._idle else self._new_unpickler()
        try:
            yield unpickler
        finally:
            unpickler.feed(b"")
            self._idle.append(unpickler)

    def _new_unpickler(self) -> Unpickler:
        return Unpickler(
            persistent_load=self._refer_inside,
            find_global=self._catalog.find,
            persistent_objects=self._identity.objects,
        )

    def _refer_inside(self, key: object) -> object:
        return self._refer(key, inside=True)

    def _refer(self, key: object, *, inside: bool) -> object:
        """Make the object of a key that isn't in memory."""
        if not is_key(key) or not isinstance(key, int):
            message = f"a reference is no key but {key!r}"
            raise UnpicklingError(message)
        try:
            cls = self._catalog.resolve(code_of(key))
        except (ClassNotAllowed, ImportError, AttributeError) as error:
            if not inside or not serial_of(key):
                raise
            return self._stand_in(key, error)
        if not serial_of(key):
            self._identity.add(key, cls)
            return cls
        if not is_made_by_class(cls):
            if inside:
                raise _Needed
            self._construct([key])
            return self._identity.objects[key]
        return self._make(key, cls)

    def _make(self, key: int, cls: type) -> object:
        generated = self._ghosts.of(cls) if is_plain(cls) else None
        if generated is not None:
            ghost: object = object.__new__(generated)
            self._identity.add(key, ghost)
            return ghost
        obj = make_empty(cls)
        self._enter_loose(key, obj)
        self._unfilled.append(_Unfilled(key, obj, None, []))
        return obj

    def _enter_loose(self, key: int, obj: object) -> None:
        self._identity.add(key, obj)
        self._made.append(key)
        self.loose[key] = obj

    def _stand_in(self, key: int, error: Exception) -> object:
        """Return an object that raises the error when it is touched; its neighbours load, and its record stays as it is."""
        code = code_of(key)
        if code not in self._unavailable:
            kind, text = type(error), str(error)
            make_error = (lambda: ClassNotAllowed(text)) if kind is ClassNotAllowed else (lambda: kind(text))
            self._unavailable[code] = make_unavailable(self._catalog.label(key).partition("#")[0], make_error)
            self._stand_ins.add(self._unavailable[code])
        obj: object = object.__new__(self._unavailable[code])
        self._identity.add(key, obj)
        return obj

    def _construct(self, keys: list[int]) -> None:
        """Make objects by their records' constructors, those first that another one's arguments refer to."""
        waiting = [key for key in keys if key not in self._identity.objects]
        started: set[int] = set()
        while waiting:
            key = waiting[-1]
            if key in self._identity.objects:
                waiting.pop()
                continue
            baseline, streams = self._read(key)
            if not baseline.flags & CONSTRUCTED:  # its class has got a constructor since
                self._make_bare(key, baseline)
                continue
            with self._telling(key):
                arguments, state = (self._to_construct(found) for found in references(streams, 2))
                missing = [needed for needed in arguments if needed not in self._identity.objects]
                if missing:
                    if key in started:
                        message = "its constructor's arguments lead back to itself"
                        raise UnpicklingError(message)
                    started.add(key)
                    waiting += missing
                    continue
                unpickler = self._new_unpickler()
                unpickler.feed(streams.data, buffers=streams.buffers)
                obj = unpickler.load()
            self._enter_loose(key, obj)
            self.baselines[key] = baseline
            self._unfilled.append(_Unfilled(key, obj, unpickler, state))

    def _make_bare(self, key: int, baseline: Baseline) -> None:
        cls: Any = self._catalog.resolve(baseline.code)
        obj = cls.__new__(cls)
        self._enter_loose(key, obj)
        self._unfilled.append(_Unfilled(key, obj, None, []))

    def _to_construct(self, found: list[object]) -> list[int]:
        """Return those of a stream's references whose objects a constructor has to make."""
        keys = [key for key in found if is_key(key) and isinstance(key, int) and serial_of(key)]
        return [key for key in keys if key not in self._identity.objects and self._is_constructed(key)]

    def _is_constructed(self, key: int) -> bool:
        try:
            return not is_made_by_class(self._catalog.resolve(code_of(key)))
        except (ClassNotAllowed, ImportError, AttributeError):
            return False  # a stand-in takes its place

    def _fill(self, unfilled: _Unfilled) -> None:
        key, obj, unpickler, needed = unfilled
        if unpickler is None:
            baseline, streams = self._read(key)
            self._made.append(key)
            self._fill_plain(key, obj, baseline, streams)
            return
        self._construct(needed)
        with self._telling(key):
            state = unpickler.load()
        fill(obj, state, constructed=True)

    def _fill_from(self, key: int, obj: object, baseline: Baseline) -> None:
        self._made.append(key)
        self._fill_plain(key, obj, baseline, split_body(memoryview(baseline.body), baseline.flags))

    def _fill_plain(self, key: int, obj: object, baseline: Baseline, streams: Streams) -> None:
        state = self._load_state(key, baseline, streams)
        if self._ghosts.asleep(obj):
            set_class(obj, self._catalog.resolve(baseline.code))
        fill(obj, state, constructed=False)
        self.baselines[key] = baseline

    def _load_state(self, key: int, baseline: Baseline, streams: Streams) -> object:
        while True:
            with self._unpickler() as unpickler, self._telling(key):
                try:
                    unpickler.feed(streams.data, buffers=streams.buffers)
                    if not baseline.flags & CONSTRUCTED:
                        return unpickler.load()
                    # Written when the class still had a constructor: take the state that the whole object has.
                    whole: Any = unpickler.load()
                    fill(whole, unpickler.load(), constructed=True)
                    return reduce_value(whole, PROTOCOL)[2]
                except _Needed:
                    pass
            with self._telling(key):
                (*_, needed) = references(streams, 1)
                needed_keys = self._to_construct(needed)
            self._construct(needed_keys)

    def _read(self, key: int) -> tuple[Baseline, Streams]:
        row = self._read_row(key)
        if row is None:
            message = f"{self._label(key)} isn't in the store, though something refers to it; `verify` finds what does"
            raise MissingRecord(message, key=key)
        try:
            sealed = rows.unseal(rows.record_place(key), row)
            body = bytes(sealed.body)
            streams = split_body(memoryview(body), sealed.flags)
        except ValueError as error:
            raise self._corrupt(key, error) from error
        return Baseline(sealed.flags, sealed.code, sealed.revision, body), streams

    @contextlib.contextmanager
    def _telling(self, key: int) -> Iterator[None]:
        """Say of which record it is that an error of its stream speaks."""
        try:
            yield
        except (UnpicklingError, EOFError) as error:
            raise self._corrupt(key, error) from error

    def _corrupt(self, key: int, error: Exception) -> CorruptRecord:
        name = self._names_of(key)
        message = f"the record of {self._label(key)} is damaged: {error}"
        return CorruptRecord(message, key=key, name=name)

    def _label(self, key: int) -> str:
        name = self._names_of(key)
        return self._catalog.label(key) + (f" (under the name {name!r})" if name is not None else "")
