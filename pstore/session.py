"""A session: one thread's view of a store, from snapshot to commit.

It ties the parts together: the identity map, the loader that fills it, the changes that a commit finds, the names, and
the backend's transactions. The life of a transaction::

    first read          a read transaction of the backend is begun: the snapshot
    touch               an object wakes, and is compared at the commit
    commit              gather the changes; begin a write transaction; check that nobody else wrote the same; put; publish
    rollback            what changed becomes what the store says
    either one          the snapshot ends; touched objects go back behind the barrier, their states kept

The barrier tells of every access to an object, but not of one to a container that was taken out of it before. So an
object stays in the compared set while anything outside it holds one of its containers (`pstore.holding`).
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pstore import names as naming
from pstore import renaming, rows
from pstore.catalog import Catalog, refusal
from pstore.changes import Changes, Draft
from pstore.declare import is_declared
from pstore.errors import (
    ClassNotAllowed,
    ConflictError,
    ReadOnlyError,
    StoreBusy,
    StoreClosed,
    Uncommitted,
    WrongThread,
)
from pstore.ghosts import Ghosts
from pstore.identity import IdentityMap
from pstore.keys import code_of, is_key, key_range, serial_of
from pstore.loader import Loader
from pstore.names import Content, Names
from pstore.records import is_atom
from pstore.renaming import Renames, changes_since
from pstore.restoring import Restorer
from pstore.rows import REFERENCE, Head
from pstore.states import Baseline, States
from pstore.transactions import Transactions, create, put_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pstore.backends.base import Backend, Key, Row, Transaction
    from pstore.pickle.policy import Policy


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


class _Attempt(NamedTuple):
    """A commit that the backend was asked to make."""

    revision: int
    log_row: bytes
    head: Head


class Session:
    """One thread's view of a store.

    Args:
        backend: Where the rows are.
        policy: What records may name.

    Attributes:
        names: What stands under the names.
        identity: Which object is which key.
        loads: How many records were read.

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
        self._transactions = Transactions(backend, self._catalog)
        self._allocator = self._transactions.allocator
        self._states = States()
        self._loader = Loader(
            self.identity,
            self._states,
            self._catalog,
            self._ghosts,
            read=self._read_record,
            names_of=self._find_names,
            migrated=self._take_in,
        )
        self._changes = Changes(self.identity, self._catalog, self._ghosts, self._allocator, self._root_label)
        self._restorer = Restorer(
            self.identity, self._states, self._loader, self._ghosts, self._changes, catalog=self._catalog
        )
        self._renames = Renames(self.identity, self._states, self._catalog, self._loader, self._restorer)
        self.names = Names(self._snapshot, self._loader)
        self._attempt: _Attempt | None = None
        # What others have changed as well: keys and names that can't be committed before a rollback.
        self._overtaken: set[int] = set()
        self._overtaken_names: set[str] = set()
        self._current_to: int | None = None  # the revision up to which what others have changed is known
        self._work = ""  # what is being done, when objects' own code may run in the middle of it
        self._thread = threading.get_ident()
        create(backend)

    # ---------------------------------------------------------------- objects

    def wake(self, obj: object) -> None:
        """Make a touched object awake, and compare it at the commit."""
        if self.closed:
            message = (
                f"an object of {self._ghosts.real_class(obj).__qualname__} wasn't loaded before its store was closed"
            )
            raise StoreClosed(message)
        self._snapshot()
        key = self.identity.keys[id(obj)]
        if key in self._states.baselines:
            self._ghosts.wake_resident(obj)
        else:
            self._loader.wake(key, obj)
        self._states.touched[key] = obj

    def object_at(self, key: int) -> object:
        """Return the object of a key; see `Store.object_at`."""
        self._snapshot()
        if not is_key(key) or not serial_of(key):
            message = f"{key!r} is no key of an object"
            raise ValueError(message)
        if key not in self.identity.objects and self._read_record(key) is None:
            raise self._loader.missing(key)
        return self._loader.follow(key)

    def instances(self, cls: type) -> Iterator[object]:
        """Yield the objects of a class that have records of their own, in the order of their serial numbers."""
        reader = self._snapshot()
        ranges = map(key_range, self._catalog.codes_of(cls))
        found = [int(key) for start, stop in ranges for key, _ in reader.scan("records", start, stop)]
        for key in sorted(found, key=serial_of):
            yield self._loader.meet(key)

    def classes(self) -> list[str]:
        """Return the names of the classes in the store, in the order in which it met them."""
        self._snapshot()
        return list(dict.fromkeys(str(name) for _, name in sorted(self._catalog.names().items())))

    def label(self, key: int) -> str:
        """Return a key as a person reads it."""
        if not is_key(key):
            message = f"{key!r} is no key"
            raise ValueError(message)
        return self._catalog.label(key)

    def changed(self) -> list[object]:
        """Return the stored objects that a commit would write, as far as they differ from what was loaded."""
        with self._working("compare"):
            self._snapshot()
            return [
                self.identity.objects[key] for key in self._states.compared() if self._restorer.unchanged(key) is None
            ]

    def has_uncommitted(self) -> bool:
        """Return whether closing now would lose anything."""
        if self.backend.readonly:
            return False
        with self._working("compare"):
            return bool(self.names.pending) or any(
                self._restorer.unchanged(key) is None for key in self._states.compared()
            )

    # ----------------------------------------------------------- transactions

    @property
    def head(self) -> Head:
        """The counters of the state that this session sees."""
        self._snapshot()
        return self._allocator.head

    def commit(self, note: str = "") -> Commit:
        """Write what has changed; see `Store.commit`."""
        with self._working("commit"):
            self._snapshot()
            return self._commit(note)

    def _commit(self, note: str) -> Commit:
        self._allocator.save()
        self._attempt = None
        drafts: dict[int, Draft] = {}
        changed: dict[int, Draft] = {}
        try:
            names = self.names.changes(self._content_of)
            drafts = self._changes.gather(self._states.compared())
            changed = self._restorer.changed(drafts)
            done = self._write(changed, names, note) if changed or names else Commit(self._allocator.head.revision)
        except BaseException:
            if self._attempt is not None and self._was_committed(self._attempt):
                # Interrupted behind the point of no return: the store has it, so the objects in memory must know.
                self._publish(drafts, changed, self._attempt.revision)
                raise
            self._changes.withdraw()
            self._catalog.withdraw()
            self._allocator.restore()
            self._transactions.end()
            raise
        try:
            self._publish(drafts, changed, done.revision)
        except BaseException:
            self._publish(drafts, changed, done.revision)
            raise
        return done

    def rename_class(self, old: object, new: object) -> Commit:
        """Give a class of the store another name; see `Store.rename_class`."""
        self.check_writable("to rename a class")
        if self.has_uncommitted():
            message = (
                "rename_class is a commit of its own, and there are uncommitted changes: commit or roll back first"
            )
            raise Uncommitted(message)
        with self._working("rename_class"):
            self._snapshot()  # so that what others have written is known up to here
            self._transactions.end()
            try:
                done = renaming.write(self._transactions.write(), self._catalog, self._allocator.head, old, new)
                self._transactions.end()
                self._snapshot()  # finds the rename in the log, as other sessions do
            finally:
                self._transactions.end()
            return Commit(done.revision, done.keys)

    def _was_committed(self, attempt: _Attempt) -> bool:
        """Return whether a commit that was interrupted is in the store all the same."""
        self._transactions.end()
        reader = self.backend.begin()
        try:
            (row,) = reader.get_many("log", [attempt.revision])
        finally:
            reader.rollback()
        if row is None or bytes(row) != attempt.log_row:
            return False
        self._allocator.head = attempt.head
        return True

    def rollback(self) -> None:
        """Make the objects in memory what the store says; see `Store.rollback`."""
        self.check()
        with self._working("rollback"):
            self._rollback()

    def _rollback(self) -> None:
        self.names.pending.clear()
        replaced: set[int] = set()
        for key in self._states.compared():
            draft = self._restorer.unchanged(key)
            if draft is not None:
                self._restorer.rest(key, draft)
            elif not self._restorer.restore(key):
                replaced.add(key)
        self._restorer.replace(replaced)
        self._transactions.end()
        overtaken, self._overtaken = self._overtaken & self._states.baselines.keys(), set()
        self._overtaken_names.clear()
        if overtaken:
            self._snapshot()
            self._restorer.replace({key for key in overtaken if not self._restorer.restore(key, anew=True)})

    def close(self) -> None:
        """End the session without a commit. Objects whose state is in memory stay as they are, plain objects."""
        if self.closed:
            return
        self.check_idle("close")
        self.closed = True
        self.identity.close()
        self._transactions.end()
        for key in self._states.baselines:
            if self._ghosts.asleep(self.identity.objects[key]):
                self._ghosts.wake_resident(self.identity.objects[key])
        self._states.touched.clear()
        self.names.pending.clear()

    def check(self) -> None:
        """Raise StoreClosed or WrongThread where this session can't be used."""
        if self.closed:
            message = "the store is closed; open it again"
            raise StoreClosed(message)
        if threading.get_ident() != self._thread:
            message = "a store belongs to the thread that opened it; open it in this thread too"
            raise WrongThread(message)

    def check_idle(self, what: str, *, loading: bool = True) -> None:
        """Raise StoreBusy where objects' own code asks for something that would disturb what it was called by.

        Args:
            what: What it asks for.
            loading: Whether it would disturb a load.
        """
        work = self._work or ("load" if loading and self._loader.busy else "")
        if work:
            message = (
                f"{what} was called by an object's own code (a __setstate__, __getstate__, __reduce__ or the like) in the"
                f" middle of a {work}; call it when that is over"
            )
            raise StoreBusy(message)

    @contextlib.contextmanager
    def _working(self, work: str) -> Iterator[None]:
        self.check_idle(work)
        self._work = work
        try:
            yield
        finally:
            self._work = ""

    def check_writable(self, what: str) -> None:
        """Raise ReadOnlyError, too, where the store can't be changed."""
        self.check()
        if self.backend.readonly:
            message = f"the store was opened for reading only: it isn't possible {what}; open it with flag 'w'"
            raise ReadOnlyError(message)

    def _content_of(self, name: str, value: object) -> Content:
        if is_atom(value) and not is_declared(type(value)):
            return Content(0, self._changes.encode_value(value, f"db[{name!r}]"))
        try:
            return Content(REFERENCE, rows.pack_key(self._changes.adopt(value)))
        except ClassNotAllowed as error:
            self._changes.check_picklable(value, f"db[{name!r}]")  # allowing a lock or a file would be no remedy
            raise refusal(error.module, error.qualname, where=f"db[{name!r}]", reason=error.reason) from None

    def _write(self, changed: dict[int, Draft], names: dict[str, Content | None], note: str) -> Commit:
        self.check_writable(self._what_changed(changed, names))
        writer = self._transactions.write()
        overtaken = self._allocator.head.revision != self._allocator.saved.revision
        if overtaken or self._overtaken or self._overtaken_names:
            self._refuse_conflicts(writer, changed, names)
        revision = self._allocator.head.revision + 1
        records: list[tuple[Key, bytes]] = [
            (key, rows.seal(rows.record_place(key), body, code=code_of(key), revision=revision))
            for key, body in self._catalog.pending().items()
        ]
        records += (
            (key, rows.seal(rows.record_place(key), draft.body, flags=draft.flags, code=draft.code, revision=revision))
            for key, draft in changed.items()
        )
        writer.put_many("records", records)
        added = naming.write(writer, names, revision)
        entry = rows.pack_log(rows.new_log_entry(note, changed, names))
        log_row = rows.seal(rows.log_place(revision), entry, revision=revision)
        writer.put_many("log", [(revision, log_row)])
        if self._changes.new:
            self._allocator.top_up()
        head = self._allocator.head
        head = head._replace(revision=revision, names=head.names + added)
        put_head(writer, head)
        self._attempt = _Attempt(revision, log_row, head)
        writer.commit()
        self._transactions.writer = None
        self._allocator.head = head
        if not overtaken:
            self._current_to = revision
        return Commit(revision, tuple(changed), tuple(names))

    def _refuse_conflicts(self, writer: Transaction, changed: Iterable[int], names: Iterable[str]) -> None:
        """Raise ConflictError where somebody else has written since the snapshot what is about to be written."""
        old = [key for key in changed if key in self._states.baselines]
        keys = tuple(
            key
            for key, row in zip(old, writer.get_many("records", old), strict=True)
            if key in self._overtaken
            or row is None
            or rows.unseal(rows.record_place(key), row).revision != self._states.baselines[key].revision
        )
        both = tuple(sorted({*self.names.conflicts(writer, names), *self._overtaken_names.intersection(names)}))
        if keys or both:
            self._overtaken.update(keys)
            self._overtaken_names.update(both)
            what = ", ".join([*map(self._catalog.label, keys[:10]), *(f"the name {name!r}" for name in both[:10])])
            message = (
                f"another session has committed to {what} since this one began its transaction; roll back and try again"
            )
            raise ConflictError(message, keys=keys, names=both)

    def _publish(self, drafts: dict[int, Draft], changed: dict[int, Draft], revision: int) -> None:
        """After a commit: remember what was written, and put everything behind the barrier that can go there."""
        self._states.touched.update(
            {key: obj for key, obj in self._changes.new.items() if self._loader.settle(key, obj)}
        )
        self.names.pending.clear()
        self._catalog.settle()
        for key, draft in changed.items():
            self._states.put(key, Baseline(draft.flags, draft.code, revision, draft.body))
        self._changes.settle()
        self._transactions.end()
        for key, draft in drafts.items():
            self._restorer.rest(key, draft)

    # ------------------------------------------------------------- for errors

    def _root_label(self, key: int) -> str:
        for name, value in self.names.pending.items():
            if value is self.identity.objects[key]:
                return f"db[{name!r}]"
        return self._catalog.label(key)

    def _take_in(self, migrated: list[int]) -> None:
        if not self._work:  # else the pickler is in use; what differs is looked at again
            self._restorer.take_in(migrated)

    def _find_names(self, key: int) -> list[str]:
        return [] if self.closed else self.names.leading_to(key)

    def _what_changed(self, changed: Iterable[int], names: Iterable[str]) -> str:
        what = [*(f"db[{name!r}]" for name in names), *map(self._catalog.label, changed)]
        return "to write " + ", ".join(what[:5]) + (", ..." if what[5:] else "")

    # ---------------------------------------------------------------- backend

    def _snapshot(self) -> Transaction:
        """Return the snapshot, beginning it if there is none."""
        transactions = self._transactions
        if transactions.reader is None or threading.get_ident() != self._thread or self.closed:
            self.check()
            try:
                reader = transactions.read()
                if self._current_to is None:
                    self._current_to = self._allocator.head.revision
                elif self._allocator.head.revision != self._current_to:
                    self._catch_up(reader, self._current_to)
            except BaseException:
                transactions.end()
                raise
            return reader
        return transactions.reader

    def _catch_up(self, reader: Transaction, since: int) -> None:
        """Drop the states of what others have changed since this session last looked, and learn new names of classes.

        An object that this session has changed too, unseen by the barrier, stays: its commit will conflict.
        """
        newest = changes_since(reader, since)
        baselines, compared = self._states.baselines, set(self._states.compared())
        stale = {key for key in newest.keys() & baselines.keys() if baselines[key].revision < newest[key]}
        renamed = {code_of(key) for key in newest if not serial_of(key)}
        affected = self._renames.affected(renamed) - stale if renamed else set()
        changed = {key for key in compared & (stale | affected) if self._restorer.unchanged(key) is None}
        self._overtaken |= changed
        if renamed:
            self._renames.take_in(reader, renamed, affected - changed)
        stale &= baselines.keys()
        self._restorer.replace({key for key in stale - changed if not self._restorer.restore(key, anew=True)})
        self._current_to = self._allocator.head.revision

    def _read_record(self, key: int) -> Row | None:
        self.loads += 1
        (row,) = self._snapshot().get_many("records", [key])
        return row
