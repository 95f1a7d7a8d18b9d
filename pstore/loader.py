"""From keys to objects: making them, waking them, filling them.

A reference to a plain instance makes a ghost and reads nothing. All other objects are *loose*: nothing can stand in for a
list or for what a constructor makes, so it has to be whole before anybody sees it. Before a record is loaded, the loose
objects that it refers to are made and filled, from an explicit stack: nothing recurses, however long a chain is. Only
where objects lead back to one another may code of theirs, such as a `__setstate__`, meet one that isn't filled yet.

An operation (waking one object, following one reference) is whole: where a record of it can't be read, all that the
operation made is undone, and the next touch tries again. This module reads rows through one callable and knows
nothing of transactions or changes.
"""

from __future__ import annotations

import contextlib
from functools import partial
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeVar

from pstore import rows
from pstore.catalog import UNAVAILABLE
from pstore.early import early_attributes
from pstore.errors import ClassNotAllowed, CorruptRecord, Error
from pstore.failures import Failures, retold
from pstore.ghosts import drop_state, own_dict
from pstore.keys import code_of, is_key, serial_of
from pstore.pickle import Unpickler, has_held_dict, new_instance, reduce_value, set_class
from pstore.records import (
    PROTOCOL,
    Streams,
    fill,
    is_made_by_class,
    is_plain,
    loads_as_written,
    make_empty,
    named_in,
    references,
    split_body,
)
from pstore.rows import CONSTRUCTED
from pstore.standins import StandIns
from pstore.states import Baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pstore.backends.base import Row
    from pstore.catalog import Catalog
    from pstore.ghosts import Ghosts
    from pstore.identity import IdentityMap
    from pstore.states import States


T = TypeVar("T")


class _Needed(Exception):
    """A record refers to a loose object that isn't there yet."""


class _Deep(BaseException):
    """While a record is read, code of the objects' own has woken so many others, one within the other, that this one waits.

    No Exception, because that code mustn't catch it.
    """

    def __init__(self, key: int) -> None:
        super().__init__(key)
        self.key = key


#: How many loads may run one within the other before the outermost takes over.
_NESTED = 20


class _Task:
    """An object that is being made and filled.

    Attributes:
        key: Its key.
        obj: The object, None until it is made.
        baseline: Its record, None until it is read.
        streams: What the record holds.
        unpickler: Where a constructor made the object: it stands before the state.
        arguments: The loose objects that the constructor's arguments refer to.
        state: Those that the state refers to, behind a constructor.
    """

    __slots__ = ("arguments", "baseline", "key", "obj", "state", "streams", "unpickler")

    def __init__(self, key: int, obj: object | None = None, baseline: Baseline | None = None) -> None:
        self.key = key
        self.obj = obj
        self.baseline = baseline
        self.streams = _NO_STREAMS if baseline is None else split_body(memoryview(baseline.body), baseline.flags)
        self.unpickler: Unpickler | None = None
        self.arguments: list[int] = []
        self.state: list[int] = []


#: `Baseline._make` in a third of the time.
_make_baseline: Callable[[tuple[int, int, int, bytes]], Baseline] = partial(tuple.__new__, Baseline)

_NO_STREAMS = Streams(memoryview(b""), None)


class Loader:
    """Makes and fills the objects of one session.

    Args:
        identity: The session's identity map.
        states: Which states are in memory; what is loaded is entered.
        catalog: The store's classes.
        ghosts: The session's generated classes.
        read: Answers a key with its row, or None.
        names_of: Answers a key with the names that lead to it; asked when there is an error to tell.
        made_otherwise: Told the keys of the objects that code of their classes has made of their records, when they are whole.

    Attributes:
        failures: Tells what has failed.
    """

    def __init__(
        self,
        identity: IdentityMap,
        states: States,
        catalog: Catalog,
        ghosts: Ghosts,
        *,
        read: Callable[[int], Row | None],
        names_of: Callable[[int], list[str]],
        made_otherwise: Callable[[list[int]], None],
    ) -> None:
        self._identity = identity
        self._states = states
        self._catalog = catalog
        self._ghosts = ghosts
        self._read_row = read
        self._tell_made_otherwise = made_otherwise
        self._idle: list[Unpickler] = []
        self._depth = 0
        self._made: list[int] = []  # in this operation: keys of objects that were made or filled
        #: Objects that a constructor is about to make, and those whose states wait for them to be there.
        self._constructing: dict[int, list[_Task]] = {}
        self._at_hand: dict[int, Row | None] = {}  # rows that were read for this operation, and not used yet
        self._begun: dict[int, Baseline] = {}  # the records that this operation has read
        self._made_otherwise: list[int] = []  # in this operation
        # What an operation is loading has no baseline yet.
        self.failures = Failures(catalog, names_of, (self._begun, states.baselines), _Needed)
        self._stand_ins = StandIns()
        #: Instances that their class has made and that are being filled; those that had attributes early.
        self._filling: dict[int, _Task] = {}
        self._early: set[int] = set()
        self._once = 0  # how many loads are under way that can't be begun again

    def follow(self, key: int) -> object:
        """Return the object of a key.

        Raises:
            ClassNotAllowed: Its class isn't allowed.
            ClassNotFound: Its class isn't there any more.
            CorruptRecord: Its record, or one that has to be loaded with it, is damaged.
            MissingRecord: The same, missing.
            NewerVersion: It was written by a newer version of its class.
        """
        found = self._identity.objects.get(key)
        if found is None:
            with self._operation():
                return self._refer(key)
        error = self._stand_ins.error_of(found)
        if error is not None:
            self._catalog.resolve(
                code_of(key)
            )  # raises what it raised before, unless it is the record that is to blame
            if getattr(error, "key", None) is not None:
                raise error
            message = (
                f"{self._catalog.label(key)} was met when its class couldn't be had; open the store again to load it"
            )
            raise ClassNotAllowed(message)
        return found

    def meet(self, key: int) -> object:
        """Return the object of a key, or a stand-in where its class can't be had. Raises as `follow` does otherwise."""
        try:
            return self.follow(key)
        except UNAVAILABLE as error:
            found = self._identity.objects.get(key)
            return self._stand_in(key, error) if found is None else found

    @property
    def busy(self) -> bool:
        """Whether a load is under way, so that what is running now is code of a loaded class."""
        return self._depth > 0

    def wake(self, key: int, obj: object) -> None:
        """Load the state of a ghost. Raises as `follow` does."""
        if self._depth >= _NESTED and not self._once:
            raise _Deep(key)
        if not self._depth:
            row = self._read_row(key)
            found = None if row is None else rows.unseal_record(key, row)
            if found is not None and self._wake_at_once(key, obj, found):
                return
            self._at_hand[key] = row
        with self._operation():
            self._bring(_Task(key, obj))

    def _wake_at_once(self, key: int, obj: object, found: tuple[int, int, int, bytes]) -> bool:
        """Do what most ghosts need, without tasks; return False, having undone it, where there is more to do or to tell.

        Not within another load: each would be tried twice, and those within it four times.
        """
        flags, code, _, body = found
        cls = self._catalog.simple.get(code)
        if cls is None:
            cls = self._find_simple(code)
        if flags or cls is None:
            return False
        baseline = _make_baseline(found)
        unpickler = self._idle.pop() if self._idle else self._new_unpickler()
        self._depth = 1
        try:
            self._begun[key] = baseline
            self._made.append(key)
            set_class(obj, cls)
            unpickler.feed(body)
            unpickler.load_state(obj)
            if self._constructing:
                raise self._leads_back(next(iter(self._constructing)))
            self._states.put(key, baseline, as_read=True)
        except (Exception, _Deep):  # noqa: BLE001  # the objects' own, too: it may go well when others are filled first
            self._undo(0)
            return False
        except BaseException:
            self._undo(0)
            raise
        finally:
            unpickler.feed(b"")
            self._idle.append(unpickler)
            self._depth = 0
            otherwise, self._made_otherwise = self._made_otherwise, []
            self._forget_operation()
        if otherwise:
            self._tell_made_otherwise(otherwise)
        return True

    def _forget_operation(self) -> None:
        self._made.clear()
        self._begun.clear()
        if self._constructing or self._filling or self._early or self._at_hand:
            self._constructing.clear()
            self._filling.clear()
            self._early.clear()
            self._at_hand.clear()

    def _find_simple(self, code: int) -> type | None:
        """Return the class of a code, if a state that was written with it is simply put into an object; else None."""
        try:
            cls = self._catalog.resolve(code)
        except Error:
            return None
        if not loads_as_written(cls) or self._catalog.migration(code) is not None:
            return None
        self._catalog.simple[code] = cls
        return cls

    def refill(self, key: int, *, anew: bool = False) -> bool:
        """Give a loose object the state of its record again.

        Args:
            key: The object's key.
            anew: Whether the record is to be read again; otherwise the baseline is taken.

        Returns:
            Whether that can be done in place; if not, nothing was done.
        """
        obj = self._identity.objects[key]
        baseline = self._read(key)[0] if anew else self._states.baselines[key]
        if baseline.flags & CONSTRUCTED or not self._give_class(obj, baseline.code):
            return False
        if self._catalog.unavailable:
            try:
                self._check_classes(key, baseline)
            except UNAVAILABLE:
                return False
        with self._operation():
            if isinstance(obj, (dict, list, set)):
                obj.clear()
            elif not isinstance(obj, bytearray):  # whose content is replaced at once, so that a memoryview may be there
                drop_state(obj, type(obj))
            self._made.append(key)
            self._bring(_Task(key, obj, baseline))
        return True

    def baseline_of(self, key: int, row: Row) -> Baseline:
        """Return what the row of a record holds.

        Raises:
            CorruptRecord: The row is damaged.
        """
        try:
            sealed = rows.unseal(rows.record_place(key), row)
        except ValueError as error:
            raise self.failures.corrupt(key, error) from error
        return Baseline(sealed.flags, sealed.code, sealed.revision, bytes(sealed.body))

    def needed_for(self, key: int, row: Row) -> list[int]:
        """Return the keys of what has to be read together with a record: the loose objects in it that aren't in memory."""
        found = rows.unseal_record(key, row)
        if found is None:
            return []  # damaged; who loads it is told so
        try:
            return self._missing(self._loose_among([*named_in(found[3], found[0])]))
        except (UnpicklingError, EOFError, ValueError):
            return []

    def copy_of(self, key: int, baseline: Baseline) -> object:
        """Return an object made of a record, beside the one that has its key: in no identity map, and nobody's.

        What the record refers to are this session's objects. Raises as `follow` does.
        """
        streams = split_body(memoryview(baseline.body), baseline.flags)
        constructed = bool(baseline.flags & CONSTRUCTED)
        cls: Any = self._catalog.resolve(baseline.code)
        with self._operation(), self.failures.telling(key):
            named = references(streams, 2 if constructed else 1)
            for missing in self._missing(self._loose_among([found for stream in named for found in stream])):
                self._bring(_Task(missing))
            with self._unpickler() as unpickler:
                unpickler.feed(streams.data, buffers=streams.buffers)
                if constructed:
                    obj = unpickler.load()
                else:
                    obj = make_empty(cls) if is_made_by_class(cls) else cls.__new__(cls)
                self._refuse_shared(key, obj)
                fill(obj, self._migrated(baseline, unpickler.load()), constructed=constructed)
        return obj

    def _refuse_shared(self, key: int, made: object) -> None:
        """Refuse to fill what is no new object, or has its attributes in common with the one that has the key."""
        shared = self._identity.key_of(made) is not None
        with contextlib.suppress(AttributeError, KeyError):
            shared = shared or (has_held_dict(made) and own_dict(made) is own_dict(self._identity.objects[key]))
        if shared:
            message = f"{self.failures.label(key)} can't be copied: its class answers with what is there already"
            raise TypeError(message)

    def value(self, stream: memoryview, name: str) -> object:
        """Return the value of an atom's stream, from the row of a name.

        Raises:
            CorruptRecord: The stream is damaged.
        """
        with self._operation(), self._unpickler() as unpickler:
            try:
                unpickler.feed(stream)
                return unpickler.load()
            except _Needed:
                message = f"the value under {name!r} is damaged: it refers to a record"
                raise CorruptRecord(message, name=name) from None
            except (UnpicklingError, EOFError) as error:
                message = f"the value under {name!r} is damaged: {error}"
                raise CorruptRecord(message, name=name) from error
            except UNAVAILABLE as error:
                raise retold(error, f"the value under {name!r} can't be loaded") from error.__cause__

    def settle(self, key: int, obj: object) -> bool:
        """Take in an object that has got its record; return whether a barrier can guard it."""
        guarded = is_plain(type(obj)) and self._ghosts.of(type(obj)) is not None
        if not guarded:
            self._states.loose[key] = obj
        return guarded

    def can_refill(self, key: int) -> bool:
        """Return whether an object can get the state of its baseline again, being the same object."""
        return key not in self._states.loose or not self._states.baselines[key].flags & CONSTRUCTED

    def referring(self) -> dict[int, list[int]]:
        """Return, for each key that records of objects in memory refer to, the keys of those objects."""
        found: dict[int, list[int]] = {}
        for key, baseline in self._states.baselines.items():
            for named in named_in(baseline.body, baseline.flags):
                found.setdefault(named, []).append(key)
        return found

    def rename(self, codes: Iterable[int]) -> None:
        """Class codes have other names now: forget what was known of their classes. Their objects are left to the caller."""
        for key in [key for key in self._identity.objects if not serial_of(key)]:
            self._identity.remove(key)  # any class may have another key by which it is written
        for code in codes:
            self._stand_ins.forget(code)
            with contextlib.suppress(*UNAVAILABLE):
                self._catalog.class_of(code)  # so that it is known if it can't be had

    def is_stand_in(self, obj: object) -> bool:
        """Return whether an object stands in for one that couldn't be had."""
        return self._stand_ins.error_of(obj) is not None

    def forget(self, key: int) -> None:
        """Forget an object altogether; whoever refers to it goes on with the old one."""
        self._identity.remove(key)
        self._states.forget(key)

    def make_ghost(self, key: int, obj: object) -> None:
        """Drop the state of an object, so that the next touch loads it anew; it is of its stored class again.

        Raises:
            TypeError: It can't be a ghost, or not one of that class: the two are laid out differently. Nothing was done.
            ClassNotAllowed, ClassNotFound, NewerVersion: The same, as that class can't be had.
        """
        baseline = self._states.baselines.get(key)
        # A negative code isn't the record's: the class that the object was made with is as good until that is read.
        stored = self._catalog.resolve(code_of(key) if baseline is None or baseline.code < 0 else baseline.code)
        generated = self._ghosts.of(stored)
        if generated is None:
            message = f"an object of {stored} can't be a ghost"
            raise TypeError(message)
        real = self._ghosts.real_class(obj)
        if real is not stored:  # see whether it can be of that class before its state is gone
            now = type(obj)
            set_class(obj, generated)
            set_class(obj, now)
        try:
            self._drop_state(key, obj, real, generated)
        except BaseException:  # interrupted, and there is no way back
            self._drop_state(key, obj, real, generated)
            raise

    def _drop_state(self, key: int, obj: object, real: type, generated: type) -> None:
        self._states.drop(key)
        drop_state(obj, real)
        set_class(obj, generated)

    @contextlib.contextmanager
    def _operation(self) -> Iterator[None]:
        """Undo all that the block made when it fails."""
        start, depth = len(self._made), self._depth
        try:
            self._depth = depth + 1
            yield
            if self._depth == 1 and self._constructing:  # they wait for one another
                raise self._leads_back(next(iter(self._constructing)))
        except BaseException:
            self._undo(start)
            raise
        finally:
            self._depth = depth
            otherwise: list[int] = []
            if not self._depth:
                self._forget_operation()
                otherwise, self._made_otherwise = self._made_otherwise, []
        if otherwise:
            self._tell_made_otherwise(otherwise)

    def _undo(self, start: int) -> None:
        for key in self._made[start:]:
            self._constructing.pop(key, None)
            self._filling.pop(key, None)
            self._early.discard(key)
            obj = self._identity.objects.get(key)
            if obj is not None and is_plain(self._ghosts.real_class(obj)) and key not in self._states.loose:
                self.make_ghost(key, obj)
            else:
                self.forget(key)
        del self._made[start:]

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
        """Return the object of a key that a stream names and that isn't in memory."""
        if not is_key(key) or not isinstance(key, int):
            message = f"a reference is no key but {key!r}"
            raise UnpicklingError(message)
        if not serial_of(key):
            return self._class(key)
        try:
            cls = self._catalog.resolve(code_of(key))
        except UNAVAILABLE as error:
            return self._stand_in(key, error)
        generated = self._ghost_class(cls)
        if generated is None:
            raise _Needed
        return self._make_ghost(key, generated)

    def _refer(self, key: int) -> object:
        """Return the object of a key that isn't in memory."""
        if not serial_of(key):
            return self._class(key)
        generated = self._ghost_class(self._catalog.resolve(code_of(key)))
        if generated is not None:
            return self._make_ghost(key, generated)
        self._bring(_Task(key))
        return self._identity.objects[key]

    def _make_ghost(self, key: int, generated: type) -> object:
        obj: object = new_instance(generated)
        self._identity.add(key, obj)
        return obj

    def _class(self, key: int) -> type:
        """Return the class itself that a key stands for."""
        cls = self._catalog.class_of(code_of(key))
        if code_of(key) == self._catalog.reference_code(cls):
            self._identity.add(key, cls)
        else:  # not the key by which it is written
            self._identity.objects[key] = cls
        return cls

    def _ghost_class(self, cls: type) -> type | None:
        return self._ghosts.of(cls) if is_plain(cls) else None

    def _stand_in(self, key: int, error: Exception) -> object:
        """Return an object that raises the error when it is touched; its neighbours load, and its record stays as it is."""
        own = getattr(error, "key", None) is not None
        obj = self._stand_ins.make(self._catalog.label(key), error, None if own else code_of(key))
        self._identity.add(key, obj)
        return obj

    def _give_class(self, obj: object, code: int) -> bool:
        """Make a loose object one of the class of a code, if it isn't; return whether that is possible."""
        try:
            cls = self._catalog.resolve(code)
            if type(obj) is not cls:
                set_class(obj, cls)
        except (TypeError, *UNAVAILABLE):
            return False
        return True

    # ---------------------------------------------------------- making and filling

    def _bring(self, wanted: _Task) -> None:
        """Make and fill an object, and before it all loose objects that it refers to and that aren't in memory.

        Where a class can't be had, a stand-in takes the place of a loose object that holds one of its objects. That has to
        be known before the object is made, so when a class turns out to be such a one, all begins anew.
        """
        start, given = len(self._made), (wanted.key, wanted.obj, wanted.baseline)
        while True:
            known = len(self._catalog.unavailable)
            try:
                self._bring_all(wanted)
                return
            except UNAVAILABLE:
                if len(self._catalog.unavailable) == known:
                    raise
            self._undo(start)
            wanted = _Task(*given)

    def _bring_all(self, wanted: _Task) -> None:
        tasks = [wanted]
        while tasks:
            deep = self._advance(tasks)
            if deep is not None:
                tasks.append(_Task(deep, self._identity.objects[deep]))
        if wanted.key not in self._identity.objects:
            raise self._leads_back(wanted.key)

    def _advance(self, tasks: list[_Task]) -> int | None:
        """Do the next step of the last task, and take it from the list when there is nothing left to do.

        Returns:
            The key of an object that has to be woken before the step can be done; it is then tried again.
        """
        task = tasks[-1]
        if task.baseline is None and not self._start(task, wanted=len(tasks) == 1 or task.obj is not None):
            tasks.pop()
            return None
        try:
            if task.obj is None:
                missing = self._missing(task.arguments)
            else:
                missing = self._missing(task.state) if task.unpickler else self._hashing(self._fill_plain, task)
            waiting = next((self._constructing[key] for key in missing if key in self._constructing), None)
            if waiting is not None:  # what is being constructed may need this one, as far as it is, and comes first
                waiting.append(task)
                tasks.pop()
            elif missing:
                tasks += map(_Task, missing)
            elif task.obj is None:
                self._hashing(self._construct, task)
                tasks += self._constructing.pop(task.key)
            else:
                if task.unpickler:
                    self._fill_constructed(task, task.unpickler)
                tasks.pop()
        except _Deep as deep:
            if self._depth > 1:
                raise
            return deep.key
        return None

    def _leads_back(self, key: int) -> Error:
        return self.failures.corrupt(key, "its constructor's arguments lead back to itself")

    def _start(self, task: _Task, *, wanted: bool) -> bool:
        """Read a record, and make the object if that takes no constructor; return whether there is anything to do."""
        key = task.key
        if task.obj is None and (key in self._identity.objects or key in self._constructing):
            return False
        baseline, streams = self._read(key)
        cls: Any
        try:
            cls = self._catalog.resolve(baseline.code)
            if not wanted and self._catalog.unavailable:
                self._check_classes(key, baseline)
        except UNAVAILABLE as error:
            # Its own record is to blame, as the class of its key could be had.
            told = error if error.key is not None else self.failures.told(key, error)
            if wanted:
                raise told from error.__cause__
            self._stand_in(key, told)
            self._made.append(key)
            return False
        self._begun[key] = baseline
        task.baseline, task.streams = baseline, streams
        self._made.append(key)
        if task.obj is not None:
            # Awake already, so that code which comes back to it while its state is read doesn't begin anew.
            set_class(task.obj, cls)
            if not baseline.flags & CONSTRUCTED:
                self._filling[key] = task
        elif is_made_by_class(cls):
            self._enter_loose(task, make_empty(cls))
        elif baseline.flags & CONSTRUCTED:
            with self.failures.telling(key):
                task.arguments, task.state = map(self._loose_among, references(task.streams, 2))
            self._constructing[key] = []
        else:  # its class has got a constructor since
            self._enter_loose(task, cls.__new__(cls))
        return True

    def _check_classes(self, key: int, baseline: Baseline) -> None:
        """Raise an error where a class that a record names can't be had, as loading it would."""
        with self.failures.telling(key):
            for named in named_in(baseline.body, baseline.flags):
                if not serial_of(named):
                    self._catalog.class_of(code_of(named))

    def _migrated(self, baseline: Baseline, loaded: Any) -> Any:
        """Return what the stream of a state has held, migrated to the version that the class has now."""
        migration = self._catalog.migration(baseline.code)
        if migration is None:
            return loaded
        migrate, version = migration
        parts = loaded or (None, None, None) if baseline.flags & CONSTRUCTED else (loaded,)
        state = migrate(parts[0], version)
        if state is None and parts[0] is not None:
            message = (
                f"{getattr(migrate, '__qualname__', migrate)} returned None for a state of version {version}: a migration"
                " returns the state of today, {} for one without attributes"
            )
            raise TypeError(message)
        return (state, *parts[1:]) if baseline.flags & CONSTRUCTED else state

    def _hashing(self, step: Callable[[_Task], T], task: _Task) -> T:
        """Do a step of a load. Where it fails, for want of a state that isn't loaded yet, do it again with what is known.

        An object that stands in a set of its own is asked for its hash before it has its attributes.
        """
        try:
            return step(task)
        except (Error, UnpicklingError):
            raise
        except Exception:
            if not [key for key in list(self._filling) if self._fill_early(key)]:
                raise
            return step(task)

    def _fill_early(self, key: int) -> bool:
        """Give an object that is being filled the attributes that need no other record; return whether there are any."""
        if key in self._early:
            return False
        self._early.add(key)
        task = self._filling[key]
        try:
            attributes = early_attributes(type(task.obj), *task.streams, self._catalog.find, self._if_at_hand)
            for name, value in attributes.items():
                object.__setattr__(task.obj, name, value)
        except Exception:  # noqa: BLE001  # it can't be had early
            return False
        return bool(attributes)

    def _if_at_hand(self, key: object) -> object:
        """Return the object of a key where no record has to be read for that, else None."""
        found = self._identity.objects.get(key) if isinstance(key, int) else None
        try:
            return self._refer_inside(key) if found is None else found
        except (_Needed, UnpicklingError):
            return None

    def _enter_loose(self, task: _Task, obj: object) -> None:
        task.obj = obj
        self._identity.add(task.key, obj)
        self._states.loose[task.key] = obj

    def _loose_among(self, found: list[object]) -> list[int]:
        """Return those of a stream's references that lead to loose objects."""
        keys = [key for key in found if is_key(key) and isinstance(key, int) and serial_of(key)]
        return [key for key in dict.fromkeys(keys) if self._is_loose(key)]

    def _is_loose(self, key: int) -> bool:
        try:
            return self._ghost_class(self._catalog.resolve(code_of(key))) is None
        except UNAVAILABLE:
            return False  # a stand-in takes its place

    def _missing(self, keys: list[int]) -> list[int]:
        return [key for key in keys if key not in self._identity.objects]

    def _construct(self, task: _Task) -> None:
        unpickler = self._new_unpickler()
        with self.failures.telling(task.key):
            unpickler.feed(task.streams.data, buffers=task.streams.buffers)
            obj = unpickler.load()
        task.unpickler = unpickler
        self._enter_loose(task, obj)

    def _fill_constructed(self, task: _Task, unpickler: Unpickler) -> None:
        assert task.baseline is not None  # noqa: S101
        self._once += 1
        try:
            with self.failures.telling(task.key):
                self._fill(task, self._migrated(task.baseline, unpickler.load()), constructed=True)
        finally:
            self._once -= 1
        self._enter_state(task, task.baseline)

    def _fill_plain(self, task: _Task) -> list[int]:
        """Fill an object that its class made; return the keys of the loose objects that are missing for that."""
        baseline, streams = task.baseline, task.streams
        assert baseline is not None  # noqa: S101
        constructed = bool(baseline.flags & CONSTRUCTED)
        with self.failures.telling(task.key):
            try:
                with self._unpickler() as unpickler:
                    unpickler.feed(streams.data, buffers=streams.buffers)
                    state = unpickler.load()
                    filling = unpickler.load() if constructed else None
            except _Needed:
                named = references(streams, 2 if constructed else 1)
                missing = self._missing(self._loose_among([key for stream in named for key in stream]))
                if not missing:
                    message = "it asks for an object that isn't among its references"
                    raise UnpicklingError(message) from None
                return missing
            if constructed:
                # Written when the class still had a constructor: take the state that the whole object has.
                fill(state, self._migrated(baseline, filling), constructed=True)
                state = reduce_value(state, PROTOCOL)[2]
            else:
                state = self._migrated(baseline, state)
            self._fill(task, state, constructed=False)
        self._enter_state(task, baseline)
        return []

    def _enter_state(self, task: _Task, baseline: Baseline) -> None:
        self._states.put(task.key, baseline, as_read=True)
        if not loads_as_written(type(task.obj)) or self._catalog.migration(baseline.code) is not None:
            self._made_otherwise.append(task.key)

    def _fill(self, task: _Task, state: object, *, constructed: bool) -> None:
        if self._filling.pop(task.key, None) and task.key in self._early:
            drop_state(task.obj, type(task.obj))
        try:
            fill(task.obj, state, constructed=constructed)
        except UnpicklingError as error:
            message = (
                f"the record of {self.failures.label(task.key)} doesn't fit its class as it is now: {error}."
                " A __setstate__ can take what an older version of the class has stored"
            )
            raise CorruptRecord(message, key=task.key) from error

    def _read(self, key: int) -> tuple[Baseline, Streams]:
        row = self._at_hand.pop(key, None) or self._read_row(key)
        if row is None:
            raise self.failures.missing(key)
        baseline = self.baseline_of(key, row)
        try:
            return baseline, split_body(memoryview(baseline.body), baseline.flags)
        except ValueError as error:
            raise self.failures.corrupt(key, error) from error
