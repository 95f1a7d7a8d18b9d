"""A session: one thread's view of a store, from snapshot to commit.

It ties the parts together: the identity map, the loader that fills it, the changes that a commit finds, and the
backend's transactions. The life of a transaction::

    first read          a read transaction of the backend is begun: the snapshot
    touch               an object wakes, and is compared at the commit
    commit              gather the changes; begin a write transaction; check that nobody else wrote the same; put; publish
    rollback            what changed becomes what the store says
    either one          the snapshot ends; touched objects go back behind the barrier, their states kept

The barrier tells of every access to an object, but not of one to a container that was taken out of it before. So an
object stays in the compared set while anything outside it holds one of its containers; reference counts tell.
"""

from __future__ import annotations

import sys
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pstore import rows
from pstore.catalog import Catalog, refusal
from pstore.changes import Changes, Draft
from pstore.declare import is_declared
from pstore.errors import (
    ClassNotAllowed,
    ConflictError,
    CorruptRecord,
    FormatError,
    MissingRecord,
    ReadOnlyError,
    StoreClosed,
    WrongThread,
)
from pstore.ghosts import Ghosts
from pstore.identity import IdentityMap
from pstore.keys import code_of, is_key, key_range, make_key, serial_of
from pstore.loader import Baseline, Loader
from pstore.records import is_atom, references, split_body
from pstore.rows import CONSTRUCTED, REFERENCE, Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pstore.backends.base import Backend, Row, Transaction
    from pstore.pickle.policy import Policy

#: How many serial numbers a commit takes beyond its need, so that the next one needn't begin by writing.
_LEASE: Final = 256
#: How many names are read at once while iterating.
_NAMES: Final = 1000


@dataclass(frozen=True)
class Commit:
    """What a commit has written.

    Attributes:
        revision: The number of the commit; where there was nothing to write, that of the newest before it.
        keys: The keys of the records that were written, ascending.
        names: The names that were written or removed, in order.
    """

    revision: int
    keys: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


class Deleted:
    """Stands in the pending names for one that was removed."""


class Session:
    """One thread's view of a store.

    Args:
        backend: Where the rows are.
        policy: What records may name.

    Raises:
        FormatError: There is no store in the backend and it can't be written.
    """

    def __init__(self, backend: Backend, policy: Policy) -> None:
        self.backend = backend
        self.closed = False
        self.loads = 0
        self.identity = IdentityMap()
        self._ghosts = Ghosts(self.wake)
        self._catalog = Catalog(policy)
        self._loader = Loader(self.identity, self._catalog, self._ghosts, self._read_record, self._find_name)
        self._changes = Changes(
            self.identity,
            self._catalog,
            self._ghosts,
            new_serial=self._new_serial,
            code_for=self._code_for,
            root_label=self._root_label,
        )
        self._touched: dict[int, object] = {}
        self._pending: dict[str, object] = {}
        self._reader: Transaction | None = None
        self._writer: Transaction | None = None
        self._newest_before_write = 0
        self._head = Head()  # of the snapshot; within a commit, of the newest state
        self._lease = range(0)
        self._thread = threading.get_ident()
        self._create()

    # ------------------------------------------------------------------ names

    def get(self, name: str) -> object:
        """Return what stands under a name.

        Raises:
            KeyError: Nothing does.
        """
        reader = self._read()
        if name in self._pending:
            value = self._pending[name]
            if value is Deleted:
                raise KeyError(name)
            return value
        (row,) = reader.get_many("names", [name])
        if row is None:
            raise KeyError(name)
        flags, body = self._unseal_name(name, row)
        if not flags & REFERENCE:
            return self._loader.value(body, name)
        try:
            return self._loader.follow(rows.unpack_key(body))
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            message = f"the row of the name {name!r} is damaged: {error}"
            raise CorruptRecord(message, name=name) from error

    def set(self, name: str, value: object) -> None:
        """Put a value under a name, at the next commit."""
        self._check_writable(f"to store {name!r}")
        self._pending[name] = value

    def delete(self, name: str) -> None:
        """Remove a name, at the next commit.

        Raises:
            KeyError: There is no such name.
        """
        self._check_writable(f"to delete {name!r}")
        if not self.has(name):
            raise KeyError(name)
        self._pending[name] = Deleted

    def has(self, name: str) -> bool:
        """Return whether something stands under a name."""
        reader = self._read()
        if name in self._pending:
            return self._pending[name] is not Deleted
        return reader.get_many("names", [name])[0] is not None

    def count(self) -> int:
        """Return how many names there are."""
        reader = self._read()
        pending = list(self._pending)
        known = {name for name, row in zip(pending, reader.get_many("names", pending), strict=True) if row is not None}
        added = sum(value is not Deleted and name not in known for name, value in self._pending.items())
        removed = sum(value is Deleted and name in known for name, value in self._pending.items())
        return self._head.names + added - removed

    def names(self) -> Iterator[str]:
        """Yield the names in order. What is set or removed meanwhile is seen or not, as it comes."""
        last: str | None = None
        while True:
            batch = self._names_after(last)
            yield from batch
            if not batch:
                return
            last = batch[-1]

    def _names_after(self, last: str | None) -> list[str]:
        # The least string that is greater than `last` is `last` with the least character behind it.
        start = None if last is None else last + "\0"
        stored: list[str] = []
        for name, _ in self._read().scan("names", start):
            stored.append(str(name))
            if len(stored) == _NAMES:
                break
        end = stored[-1] if len(stored) == _NAMES else None
        pending = {
            name
            for name, value in self._pending.items()
            if value is not Deleted and (start is None or name >= start) and (end is None or name <= end)
        }
        removed = {name for name, value in self._pending.items() if value is Deleted}
        batch = sorted(pending.union(stored) - removed)
        # All of a full batch may have been removed: go on behind it.
        return batch or (self._names_after(end) if end is not None else [])

    # ---------------------------------------------------------------- objects

    def wake(self, obj: object) -> None:
        """Make a touched object awake, and compare it at the commit."""
        if self.closed:
            message = f"an object of {self._ghosts.real_class(obj).__qualname__} wasn't loaded before its store was closed"
            raise StoreClosed(message)
        self._read()
        key = self.identity.keys[id(obj)]
        if key in self._loader.baselines:
            self._ghosts.wake_resident(obj)
        else:
            self._loader.wake(key, obj)
        self._touched[key] = obj

    def object_at(self, key: int) -> object:
        """Return the object of a key."""
        self._read()
        if not is_key(key) or not serial_of(key):
            message = f"{key!r} is no key of an object"
            raise ValueError(message)
        obj = self._loader.follow(key)
        if key not in self._loader.baselines and self._read_record(key, counted=False) is None:
            self._loader.forget(key)
            message = f"{self._catalog.label(key)} isn't in the store"
            raise MissingRecord(message, key=key)
        return obj

    def instances(self, cls: type) -> Iterator[object]:
        """Yield the objects of a class that have records of their own, in the order of their serial numbers."""
        reader = self._read()
        if not self._catalog.knows(cls):
            return
        start, stop = key_range(self._catalog.code_of(cls, 0))
        keys = [int(key) for key, _ in reader.scan("records", start, stop)]
        for key in keys:
            yield self._loader.follow(key)

    def label(self, key: int) -> str:
        """Return a key as a person reads it."""
        return self._catalog.label(key)

    def changed(self) -> list[object]:
        """Return the stored objects that a commit would write, as far as they differ from what was loaded."""
        self._read()
        try:
            return [self.identity.objects[key] for key in self._compared() if self._unchanged(key) is None]
        finally:
            self._changes.withdraw()

    def has_uncommitted(self) -> bool:
        """Return whether closing now would lose anything."""
        return bool(self._pending) or any(self._unchanged(key) is None for key in self._compared())

    # ----------------------------------------------------------- transactions

    @property
    def revision(self) -> int:
        """The number of the last commit that this session sees."""
        self._read()
        return self._head.revision

    def commit(self, note: str = "") -> Commit:
        """Write what has changed; see `Store.commit`."""
        self._read()
        before = self._head, self._lease
        try:
            drafts, names = self._gather()
            changed = {key: drafts[key] for key in sorted(drafts) if drafts[key].differs(self._loader.baselines.get(key))}
            done = self._write(changed, names, note) if changed or names else Commit(self._head.revision)
        except BaseException:
            self._changes.withdraw()
            self._catalog.withdraw()
            self._end_transactions()
            self._head, self._lease = before
            raise
        self._publish(drafts, changed, done.revision)
        return done

    def rollback(self) -> None:
        """Make the objects in memory what the store says; see `Store.rollback`."""
        self._check()
        self._pending.clear()
        replaced: set[int] = set()
        for key in self._compared():
            draft = self._unchanged(key)
            if draft is not None:
                self._rest(key, draft.inline)
            elif key in self._loader.loose:
                if not self._loader.refill(key):
                    replaced.add(key)
            else:
                self._loader.make_ghost(key, self.identity.objects[key])
                self._touched.pop(key, None)
        self._changes.withdraw()
        self._replace(replaced)
        self._end_transactions()

    def close(self) -> None:
        """End the session without a commit. Objects whose state is in memory stay as they are, plain objects."""
        if self.closed:
            return
        self.closed = True
        self._end_transactions()
        for key in self._loader.baselines:
            obj = self.identity.objects.get(key)
            if obj is not None and self._ghosts.asleep(obj):
                self._ghosts.wake_resident(obj)
        self._touched.clear()
        self._pending.clear()

    def _gather(self) -> tuple[dict[int, Draft], dict[str, tuple[int, bytes] | None]]:
        """Return the draft of every record that may have changed, and of every name that has: (flags, body) or None."""
        reader = self._read()
        names: dict[str, tuple[int, bytes] | None] = {}
        pending = list(self._pending)
        for name, row in zip(pending, reader.get_many("names", pending), strict=True):
            value = self._pending[name]
            new: tuple[int, bytes] | None = None
            if value is Deleted:
                if row is None:
                    continue
            elif is_atom(value) and not is_declared(type(value)):
                new = 0, self._changes.encode_value(value, f"db[{name!r}]")
            else:
                new = REFERENCE, rows.pack_key(self._adopt(name, value))
            if row is None or new is None or new != self._old_name(name, row):
                names[name] = new
        return self._changes.gather(self._compared()), names

    def _adopt(self, name: str, value: object) -> int:
        try:
            return self._changes.adopt(value)
        except ClassNotAllowed as error:
            raise refusal(error.module, error.qualname, where=f"db[{name!r}]") from None

    def _old_name(self, name: str, row: Row) -> tuple[int, bytes] | None:
        try:
            sealed = rows.unseal(rows.name_place(name), row)
        except ValueError:
            return None  # damaged, and about to be replaced
        return sealed.flags, bytes(sealed.body)

    def _write(self, changed: dict[int, Draft], names: dict[str, tuple[int, bytes] | None], note: str) -> Commit:
        self._check_writable(self._what_changed(changed, names))
        snapshot = self._head.revision
        writer = self._begin_write()
        if self._newest_before_write != snapshot:
            self._refuse_conflicts(writer, changed, names)
        revision = self._head.revision + 1
        records: list[tuple[int | str, bytes]] = [
            (key, rows.seal(rows.record_place(key), body, code=code_of(key), revision=revision))
            for key, body in self._catalog.pending().items()
        ]
        records += (
            (key, rows.seal(rows.record_place(key), draft.body, flags=draft.flags, code=draft.code, revision=revision))
            for key, draft in changed.items()
        )
        writer.put_many("records", records)
        self._write_names(writer, names, revision)
        entry = rows.new_log_entry(note, changed, sorted(names))
        writer.put_many("log", [(revision, rows.seal(rows.log_place(revision), rows.pack_log(entry), revision=revision))])
        self._top_up_lease()
        self._head = self._head._replace(revision=revision)
        writer.put_many("meta", [("head", rows.seal(rows.meta_place("head"), rows.pack_head(self._head)))])
        writer.commit()
        self._writer = None
        return Commit(revision, tuple(changed), tuple(sorted(names)))

    def _write_names(self, writer: Transaction, names: dict[str, tuple[int, bytes] | None], revision: int) -> None:
        ordered = sorted(names)
        before = dict(zip(ordered, writer.get_many("names", ordered), strict=True))
        put = {name: new for name, new in names.items() if new is not None}
        writer.put_many(
            "names",
            [
                (name, rows.seal(rows.name_place(name), body, flags=flags, revision=revision))
                for name, (flags, body) in sorted(put.items())
            ],
        )
        gone = [name for name in ordered if name not in put]
        writer.delete_many("names", gone)
        added = sum(before[name] is None for name in put) - sum(before[name] is not None for name in gone)
        self._head = self._head._replace(names=self._head.names + added)

    def _refuse_conflicts(self, writer: Transaction, changed: Iterable[int], names: Iterable[str]) -> None:
        """Raise ConflictError where somebody else has written since the snapshot what is about to be written."""
        old = [key for key in changed if key in self._loader.baselines]
        keys = tuple(
            key
            for key, row in zip(old, writer.get_many("records", old), strict=True)
            if row is None or rows.unseal(rows.record_place(key), row).revision != self._loader.baselines[key].revision
        )
        listed = sorted(names)
        now, then = writer.get_many("names", listed), self._read().get_many("names", listed)
        both = tuple(name for name, a, b in zip(listed, now, then, strict=True) if a != b)
        if keys or both:
            what = ", ".join([*map(self._catalog.label, keys[:10]), *(f"the name {name!r}" for name in both[:10])])
            message = f"another session has committed to {what} since this one began its transaction; roll back and try again"
            raise ConflictError(message, keys=keys, names=both)

    def _publish(self, drafts: dict[int, Draft], changed: dict[int, Draft], revision: int) -> None:
        """After a commit: remember what was written, and put everything behind the barrier that can go there."""
        self._touched.update({key: obj for key, obj in self._changes.new.items() if self._loader.settle(key, obj)})
        self._pending.clear()
        self._catalog.settle()
        for key, draft in changed.items():
            self._loader.baselines[key] = Baseline(draft.flags, draft.code, revision, draft.body)
        self._changes.settle()
        self._end_transactions()
        for key, draft in drafts.items():
            self._rest(key, draft.inline)

    def _rest(self, key: int, inline: list[object]) -> None:
        """Put an object behind the barrier, unless one of its containers is held by anything outside."""
        if key in self._touched and _most_references(inline) <= _ALONE:
            obj = self._touched.pop(key)
            if self._loader.settle(key, obj):
                self._ghosts.put_asleep(obj)

    def _replace(self, replaced: set[int]) -> None:
        """After a rollback: forget objects that can't be restored in place, and reload whatever refers to them."""
        while replaced:
            for key in replaced:
                self._loader.forget(key)
            referring = [key for key in self._loader.baselines if not replaced.isdisjoint(self._references(key))]
            replaced = set()
            for key in referring:
                if key in self._loader.loose:
                    if not self._loader.refill(key):
                        replaced.add(key)
                else:
                    self._touched.pop(key, None)
                    self._loader.make_ghost(key, self.identity.objects[key])

    def _references(self, key: int) -> set[object]:
        flags, body = self._loader.baselines[key].flags, self._loader.baselines[key].body
        found = references(split_body(memoryview(body), flags), 2 if flags & CONSTRUCTED else 1)
        return {reference for stream in found for reference in stream}

    def _compared(self) -> list[int]:
        """Return the keys of all objects that may have changed."""
        return [*self._touched, *self._loader.loose]

    def _unchanged(self, key: int) -> Draft | None:
        return self._changes.compare(key, self._loader.baselines[key])

    # -------------------------------------------------------- keys and labels

    def _new_serial(self) -> int:
        if not self._lease:
            self._begin_write()
            start = self._head.next_serial
            size = max(_LEASE, len(self._changes.new))
            self._lease = range(start, start + size)
            self._head = self._head._replace(next_serial=start + size)
        serial, self._lease = self._lease[0], self._lease[1:]
        return serial

    def _top_up_lease(self) -> None:
        """Take serial numbers for the next commit, so that it needn't hold the write lock while it pickles."""
        if self._changes.new and len(self._lease) < _LEASE // 2:
            start = self._head.next_serial
            begin = self._lease.start if self._lease and self._lease.stop == start else start
            self._lease = range(begin, start + _LEASE)
            self._head = self._head._replace(next_serial=start + _LEASE)

    def _code_for(self, cls: type) -> int:
        if self._catalog.knows(cls):
            return self._catalog.code_of(cls, 0)
        self._check_writable(f"to store an object of {cls.__qualname__}")
        self._begin_write()
        code = self._catalog.code_of(cls, self._head.next_code)
        self._head = self._head._replace(next_code=max(self._head.next_code, code + 1))
        return code

    def _root_label(self, key: int) -> str:
        for name, value in self._pending.items():
            if value is self.identity.objects[key]:
                return f"db[{name!r}]"
        return self._catalog.label(key)

    def _find_name(self, key: int) -> str | None:
        """Return a name that leads straight to a record, for an error that has to tell of it."""
        if self.closed:
            return None
        body = rows.pack_key(key)
        for name, row in self._read().scan("names"):
            try:
                sealed = rows.unseal(rows.name_place(str(name)), row)
            except ValueError:
                continue
            if sealed.flags & REFERENCE and sealed.body == body:
                return str(name)
        return None

    def _what_changed(self, changed: Iterable[int], names: Iterable[str]) -> str:
        what = [*(f"db[{name!r}]" for name in names), *map(self._catalog.label, changed)]
        return "to write " + ", ".join(what[:5]) + (", ..." if len(what) > 5 else "")  # noqa: PLR2004

    # ---------------------------------------------------------------- backend

    def _read(self) -> Transaction:
        """Return the snapshot, beginning it if there is none."""
        if self._reader is None or threading.get_ident() != self._thread or self.closed:
            self._check()
            self._reader = self.backend.begin()
            seen = self._head.revision
            try:
                self._take_head(self._reader)
                if self._head.revision != seen:
                    self._catch_up(self._reader, seen)
            except BaseException:
                self._end_transactions()
                self._head = self._head._replace(revision=seen)
                raise
        return self._reader

    def _catch_up(self, reader: Transaction, seen: int) -> None:
        """Drop the states of what others have changed since the last snapshot.

        An object that this session has changed too, unseen by the barrier, stays: its commit will conflict.
        """
        written: set[int] = set()
        for revision, row in reader.scan("log", seen + 1, self._head.revision + 1):
            written.update(rows.unpack_log(rows.unseal(rows.log_place(int(revision)), row).body).keys)
        replaced: set[int] = set()
        for key in written.intersection(self._loader.baselines):
            if self._loader.baselines[key].revision >= self._head.revision:
                continue
            if key in self._loader.loose:
                if self._unchanged(key) is not None and not self._loader.refill(key, anew=True):
                    replaced.add(key)
            elif key not in self._touched or self._unchanged(key) is not None:
                self._touched.pop(key, None)
                self._loader.make_ghost(key, self.identity.objects[key])
        self._changes.withdraw()
        self._replace(replaced)

    def _take_head(self, transaction: Transaction) -> None:
        """Read the counters of a transaction's state, and the classes and changes that this session doesn't know."""
        (row,) = transaction.get_many("meta", ["head"])
        if row is None:
            message = "there is no pstore store in this backend"
            raise FormatError(message)
        try:
            head = rows.unpack_head(rows.unseal(rows.meta_place("head"), row).body)
        except ValueError as error:
            message = f"the store's counters (meta row 'head') are damaged: {error}"
            raise CorruptRecord(message, name="head") from error
        known = len(self._catalog) + 1
        if head.next_code > known:
            codes = range(known, head.next_code)
            found = transaction.get_many("records", [make_key(code, 0) for code in codes])
            self._catalog.read(zip(codes, found, strict=True))
        self._head = head

    def _begin_write(self) -> Transaction:
        """Return the commit's write transaction, beginning it if there is none."""
        if self._writer is None:
            writer = self.backend.begin(write=True)
            self._writer = writer
            self._take_head(writer)
            self._newest_before_write = self._head.revision
        return self._writer

    def _end_transactions(self) -> None:
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        for transaction in (writer, reader):
            if transaction is not None:
                transaction.rollback()

    def _read_record(self, key: int, *, counted: bool = True) -> Row | None:
        self.loads += counted
        (row,) = self._read().get_many("records", [key])
        return row

    def _unseal_name(self, name: str, row: Row) -> tuple[int, memoryview]:
        try:
            sealed = rows.unseal(rows.name_place(name), row)
        except ValueError as error:
            message = f"the row of the name {name!r} is damaged: {error}"
            raise CorruptRecord(message, name=name) from error
        return sealed.flags, sealed.body

    def _create(self) -> None:
        """Write the counters of a new store."""
        reader = self.backend.begin()
        try:
            exists = reader.get_many("meta", ["head"])[0] is not None
            empty = exists or next(reader.scan("meta"), None) is None
        finally:
            reader.rollback()
        if exists:
            return
        if self.backend.readonly or not empty:
            message = "there is no pstore store in this backend"
            raise FormatError(message)
        writer = self.backend.begin(write=True)
        try:
            if writer.get_many("meta", ["head"])[0] is None:  # nobody was faster
                writer.put_many("meta", [("head", rows.seal(rows.meta_place("head"), rows.pack_head(Head())))])
            writer.commit()
        except BaseException:
            writer.rollback()
            raise

    def _check(self) -> None:
        if self.closed:
            message = "the store is closed; open it again"
            raise StoreClosed(message)
        if threading.get_ident() != self._thread:
            message = "a store belongs to the thread that opened it; open it in this thread too"
            raise WrongThread(message)

    def _check_writable(self, what: str) -> None:
        self._check()
        if self.backend.readonly:
            message = f"the store was opened for reading only: it isn't possible {what}; open it with flag 'w'"
            raise ReadOnlyError(message)


def _most_references(objects: list[object]) -> int:
    """Return the greatest reference count among the objects, and more than any where one has a weak reference."""
    most = 0
    for obj in objects:
        most = max(most, sys.getrefcount(obj), weakref.getweakrefcount(obj) and sys.maxsize)
    return most


#: What `_most_references` says of an object that one owner holds, and the list that is asked about.
_owners: Final[list[object]] = [[]]
_ALONE: Final = _most_references([_owners[0]])
