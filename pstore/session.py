"""A session: one thread's view of a store, from snapshot to commit.

It ties the parts together: the identity map, the loader that fills it, the changes that a commit finds, the names, and
the backend's transactions. The life of a transaction::

    first read          a read transaction of the backend is begun: the snapshot
    touch               an object wakes, and is compared at the commit
    savepoint           gather the changes; put them aside
    commit              gather the changes; begin a write transaction; check what others have written since; put; publish
    rollback            what changed becomes what the store says, or what a savepoint has put aside
    either one          the snapshot ends; touched objects go back behind the barrier, their states kept or dropped

The barrier tells of every access to an object, but not of one to a container that was taken out of it before. So an
object stays in the compared set while anything outside it holds one of its containers (`pstore.holding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, NamedTuple

from pstore import names as naming
from pstore import renaming, rows
from pstore.aside import Aside
from pstore.cache import Cache, Limits
from pstore.catalog import Catalog, refusal
from pstore.changes import Changes, Draft
from pstore.conflicts import Conflicts, Work
from pstore.declare import is_declared
from pstore.errors import (
    ClassNotAllowed,
    MissingRecord,
    ReadOnlyError,
    SavepointEnded,
    StoreClosed,
    Uncommitted,
)
from pstore.ghosts import Ghosts
from pstore.guard import Guard
from pstore.identity import IdentityMap
from pstore.keys import code_of, is_key, key_range, serial_of
from pstore.loader import Loader
from pstore.names import Content, Names
from pstore.pickle import set_class
from pstore.reads import Reads
from pstore.records import is_atom
from pstore.renaming import Renames, changes_since
from pstore.restoring import Restorer
from pstore.rows import REFERENCE, Head
from pstore.states import Baseline, States
from pstore.transactions import Transactions, class_rows, create, put_head

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


class Options(NamedTuple):
    """How a session behaves.

    Attributes:
        serializable: Whether a commit also validates what was read.
        limits: How much stays in memory between transactions.
    """

    serializable: bool
    limits: Limits


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
        options: How it behaves.
        thread: The thread that it belongs to; None for the one that uses it first.

    Attributes:
        names: What stands under the names.
        identity: Which object is which key.
        loads: How many records were read.
        guard: Says who may use it, and when.

    Raises:
        FormatError: There is no store in the backend and it can't be written.
    """

    def __init__(self, backend: Backend, policy: Policy, options: Options, thread: int | None) -> None:
        self.backend = backend
        self.loads = 0
        self.identity = IdentityMap()
        self._ghosts = Ghosts(self.wake)
        self._lost = Ghosts(_refuse_lost)
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
            made_otherwise=self._take_in,
        )
        self._changes = Changes(self.identity, self._catalog, self._ghosts, self._allocator, self._root_label)
        self._restorer = Restorer(
            self.identity, self._states, self._loader, self._ghosts, self._changes, catalog=self._catalog
        )
        self._renames = Renames(self.identity, self._states, self._catalog, self._loader, self._restorer)
        self._reads = Reads() if options.serializable else None
        self._cache = Cache(
            self.identity, self._states, self._loader, self._restorer, limits=options.limits, dropped=self._note_read
        )
        self.names = Names(self._snapshot, self._loader, self._reads)
        self._aside = Aside()
        self._conflicts = Conflicts(
            self._catalog,
            self._states,
            self.names,
            self._loader,
            self._changes,
            aside=self._aside,
            reads=self._reads,
        )
        self._savepoints: dict[int, dict[str, object]] = {}  # mark -> the names that were pending
        self._attempt: _Attempt | None = None
        self._current_to: int | None = None  # the revision up to which what others have changed is known
        self.guard = Guard(backend, thread, lambda: self._loader.busy)
        create(backend)

    # ---------------------------------------------------------------- objects

    def wake(self, obj: object) -> None:
        """Make a touched object awake, and compare it at the commit."""
        if self.guard.closed:
            message = (
                f"an object of {self._ghosts.real_class(obj).__qualname__} wasn't loaded before its store was closed"
            )
            raise StoreClosed(message)
        if self._transactions.reader is None or get_ident() != self.guard.thread:
            self._snapshot()
        states = self._states
        key = self.identity.keys[id(obj)]
        if key in states.baselines:
            self._ghosts.wake_resident(obj)
            states.use(key)
        else:
            self._loader.wake(key, obj)
        states.touched[key] = obj
        if not self.guard.work and not self._loader.busy:
            self._cache.relieve()

    def object_at(self, key: int) -> object:
        """Return the object of a key; see `Store.object_at`."""
        self._snapshot()
        if not is_key(key) or not serial_of(key):
            message = f"{key!r} is no key of an object"
            raise ValueError(message)
        if key not in self.identity.objects and self._read_record(key) is None:
            self._note_read(key)
            raise self._loader.missing(key)
        return self._loader.follow(key)

    def instances(self, cls: type) -> Iterator[object]:
        """Yield the objects of a class that have records of their own, in the order of their serial numbers."""
        reader = self._snapshot()
        codes = self._catalog.codes_of(cls)
        if self._reads is not None:
            self._reads.codes.update(codes)
        found = [int(key) for code in codes for key, _ in reader.scan("records", *key_range(code))]
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
        with self.guard.working("compare"):
            self._snapshot()
            keys = {key for key in self._states.compared() if self._restorer.unchanged(key) is None}
            keys.update(key for key, row in self._aside.rows() if _revision(key, row))
            return [
                self._loader.follow(key)
                for key in sorted(keys)
                if key not in self._states.baselines or self._states.baselines[key].revision
            ]

    def has_uncommitted(self) -> bool:
        """Return whether closing now would lose anything."""
        if self.backend.readonly:
            return False
        with self.guard.working("compare"):
            return (
                bool(self.names.pending)
                or bool(self._aside)
                or any(self._restorer.unchanged(key) is None for key in self._states.compared())
            )

    def evict(self, objs: Iterable[object] | None) -> int:
        """Drop states; see `Store.evict`."""
        with self.guard.working("evict"):
            self._snapshot()
            if objs is None:
                return self._cache.evict(list(self._states.baselines))
            return self._cache.evict([key for obj in objs if (key := self.identity.key_of(obj)) is not None])

    # ----------------------------------------------------------- transactions

    @property
    def head(self) -> Head:
        """The counters of the state that this session sees."""
        self._snapshot()
        return self._allocator.head

    def begin(self, *, exclusive: bool = False) -> None:
        """Begin a transaction where none has begun.

        Args:
            exclusive: Whether to keep other writers out from now on until it ends.

        Raises:
            StoreLocked: Another writer doesn't end.
        """
        self.guard.check()
        if exclusive:
            self._transactions.write()
        self._snapshot()

    def commit(self, note: str = "") -> Commit:
        """Write what has changed; see `Store.commit`."""
        with self.guard.working("commit"):
            self._snapshot()
            return self._commit(note)

    def _commit(self, note: str) -> Commit:
        if self._conflicts.refused is not None:
            raise self._conflicts.refused
        self._allocator.save()
        self._attempt = None
        work = Work()
        try:
            self._gather(work)
            done = Commit(self._allocator.head.revision)
            if work.changed or work.names or self._aside:
                done = self._write(work, note)
        except BaseException:
            if self._attempt is not None and self._was_committed(self._attempt):
                # Interrupted behind the point of no return: the store has it, so the objects in memory must know.
                self._publish(work, self._attempt.revision)
                raise
            self._withdraw()
            raise
        try:
            self._publish(work, done.revision)
        except BaseException:
            self._publish(work, done.revision)
            raise
        if work.mine:
            self._snapshot()  # what was merged becomes what the store has now
        return done

    def _gather(self, work: Work) -> None:
        """Pickle what may have changed and what is new."""
        work.names = self.names.changes(self._content_of)
        work.drafts = self._changes.gather(self._states.compared(), self._states.baselines)
        work.idle = self._changes.idle()
        work.changed = self._restorer.changed(work.drafts)
        work.drafts.update(work.changed)

    def _withdraw(self) -> None:
        """A commit or savepoint has failed: all is as it was before it."""
        self._changes.withdraw()
        self._catalog.withdraw()
        self._allocator.restore()
        self._transactions.end_writing()

    def rename_class(self, old: object, new: object) -> Commit:
        """Give a class of the store another name; see `Store.rename_class`."""
        self.check_writable("to rename a class")
        if self.has_uncommitted():
            message = (
                "rename_class is a commit of its own, and there are uncommitted changes: commit or roll back first"
            )
            raise Uncommitted(message)
        with self.guard.working("rename_class"):
            self._snapshot()  # so that what others have written is known up to here
            self._end_transaction()
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

    def savepoint(self) -> int:
        """Put what has changed aside; return the number of the savepoint."""
        with self.guard.working("savepoint"):
            self._snapshot()
            self._allocator.save()
            work = Work()
            try:
                self._gather(work)
                if work.changed:
                    self.check_writable(self._what_changed(work.changed, ()))
                revisions = {
                    key: self._states.baselines[key].revision if key in self._states.baselines else 0
                    for key in work.changed
                }
                self._transactions.keep_numbers()
                self._catalog.settle()
                mark = self._aside.put((key, _seal(key, draft, revisions[key])) for key, draft in work.changed.items())
            except BaseException:
                self._withdraw()
                raise
            self._note_touched()
            self._settle(work, revisions)
            self._savepoints[mark] = dict(self.names.pending)
            self._cache.shrink()
            return mark

    def back_to(self, mark: int) -> None:
        """Go back to a savepoint.

        Raises:
            SavepointEnded: It is over.
        """
        self.guard.check()
        if mark not in self._savepoints:
            message = "the savepoint has ended: its transaction is over, or an earlier savepoint was gone back to; make another"
            raise SavepointEnded(message)
        with self.guard.working("rollback"):
            self._snapshot()
            self._note_touched()
            self._restore_since(mark)
            self.names.pending = dict(self._savepoints[mark])
            self._savepoints = {known: names for known, names in self._savepoints.items() if known <= mark}

    def rollback(self) -> None:
        """Make the objects in memory what the store says; see `Store.rollback`."""
        self.guard.check()
        with self.guard.working("rollback"):
            self._rollback()

    def _rollback(self) -> None:
        self.names.pending.clear()
        self._restore_since(0)
        self._end_transaction()
        overtaken, self._conflicts.overtaken = self._conflicts.overtaken & self._states.baselines.keys(), set()
        self._conflicts.refused = None
        self._cache.shrink()
        if overtaken:
            self._snapshot()
            self._restorer.replace({key for key in overtaken if not self._restorer.restore(key, anew=True)})

    def _restore_since(self, mark: int) -> None:
        """Undo what was changed after a savepoint; 0 for all."""
        undone = set(self._aside.since(mark))
        self._aside.back_to(mark)
        replaced: set[int] = set()
        for key in [*self._states.compared(), *undone]:
            if key not in self.identity.objects:
                continue  # undone already, or nothing in memory
            baseline = self._states.baselines.get(key)
            if key in undone and self._is_new(key):
                obj = self.identity.objects[key]
                if not self._restorer.let_go(key):
                    self._lose(obj)
            elif baseline is not None:
                draft = None if key in undone else self._restorer.unchanged(key)
                if draft is not None:
                    self._restorer.rest(key, draft)
                elif not self._restorer.restore(key, anew=key in undone):
                    replaced.add(key)
        self._restorer.replace(replaced)

    def close(self) -> None:
        """End the session without a commit. Objects whose state is in memory stay as they are, plain objects."""
        if self.guard.closed:
            return
        self.guard.check_idle("close")
        self.guard.close()
        self.identity.close()
        if not self.guard.forked:
            self._transactions.end()
            self._aside.clear()
        for key in self._states.baselines:
            if self._ghosts.asleep(self.identity.objects[key]):
                self._ghosts.wake_resident(self.identity.objects[key])
        self._states.touched.clear()
        self.names.pending.clear()

    def check_writable(self, what: str) -> None:
        """Raise ReadOnlyError, too, where the store can't be changed."""
        self.guard.check()
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

    def _write(self, work: Work, note: str) -> Commit:
        self.check_writable(self._what_changed(work.changed, work.names))
        writer = self._transactions.write()
        since = self._allocator.saved.revision
        overtaken = self._allocator.head.revision != since
        if overtaken or self._conflicts.overtaken:
            self._conflicts.resolve(work, self._snapshot(), writer, since)
        revision = self._allocator.head.revision + 1
        writer.put_many("records", class_rows(self._catalog, revision))
        writer.put_many("records", ((key, _seal(key, draft, revision)) for key, draft in work.changed.items()))
        keys = set(work.changed)
        if self._aside:
            writer.put_many("records", self._put_aside(revision, keys))
        added = naming.write(writer, work.names, revision)
        entry = rows.new_log_entry(note, sorted(keys), work.names)
        log_row = rows.seal(rows.log_place(revision), rows.pack_log(entry), revision=revision)
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
        if not overtaken and not work.mine:
            self._current_to = revision
        return Commit(revision, entry.keys, tuple(work.names))

    def _put_aside(self, revision: int, written: set[int]) -> Iterator[tuple[Key, bytes]]:
        """Yield the rows that were put aside and aren't written yet, as those of this revision; enter their keys."""
        for key, row in self._aside.rows():
            if key not in written:
                written.add(key)
                sealed = rows.unseal(rows.record_place(key), row)
                yield (
                    key,
                    rows.seal(
                        rows.record_place(key),
                        bytes(sealed.body),
                        flags=sealed.flags,
                        code=sealed.code,
                        revision=revision,
                    ),
                )

    def _publish(self, work: Work, revision: int) -> None:
        """After a commit: remember what was written, and put everything behind the barrier that can go there."""
        self.names.pending.clear()
        self._catalog.settle()
        for key, draft in work.mine.items():
            work.drafts[key] = draft
        merged = {key: self._states.baselines[key].revision for key in work.mine if key in self._states.baselines}
        self._settle(work, dict.fromkeys(work.changed, revision) | merged)
        for key, _ in self._aside.rows():
            if key in self._states.baselines and key not in work.changed:
                self._states.put(key, self._states.baselines[key]._replace(revision=revision))
        self._end_transaction()
        self._cache.shrink()

    def _settle(self, work: Work, revisions: dict[int, int]) -> None:
        """Take what was written for the new baselines, and put everything behind the barrier that can go there.

        Args:
            work: What was written.
            revisions: The revision that each of the records has now.
        """
        self._states.touched.update(
            {key: obj for key, obj in self._changes.new.items() if self._loader.settle(key, obj)}
        )
        for key in work.changed:
            if key in self.identity.objects:  # else it was merged from what was put aside
                draft = work.drafts[key]
                self._states.put(key, Baseline(draft.flags, draft.code, revisions[key], draft.body))
        self._changes.settle()
        self._restorer.rest_idle(work.idle)
        for key, draft in work.drafts.items():
            self._restorer.rest(key, draft)

    def _end_transaction(self) -> None:
        self._transactions.end()
        self._aside.clear()
        self._savepoints.clear()
        if self._reads is not None:
            self._reads.clear()

    def _is_new(self, key: int) -> bool:
        """Return whether a record has come to be in this transaction, and isn't put aside either."""
        baseline = self._states.baselines.get(key)
        if baseline is not None and baseline.revision:
            return False
        return self._read_record(key) is None

    def _lose(self, obj: object) -> None:
        """Let an object say that its state is gone: it was put aside, dropped from memory, and rolled back."""
        generated = self._lost.of(self._ghosts.real_class(obj))
        if generated is not None:
            set_class(obj, generated)

    def _note_read(self, key: int) -> None:
        if self._reads is not None:
            self._reads.records.add(key)

    def _note_touched(self) -> None:
        """Take down what was read, before objects go behind the barrier in the middle of a transaction."""
        if self._reads is not None:
            self._reads.records.update(self._states.touched)

    # ------------------------------------------------------------- for errors

    def _root_label(self, key: int) -> str:
        for name, value in self.names.pending.items():
            if value is self.identity.objects.get(key, self):
                return f"db[{name!r}]"
        return self._catalog.label(key)

    def _take_in(self, keys: list[int]) -> None:
        self._restorer.take_in(keys)

    def _find_names(self, key: int) -> list[str]:
        return [] if self.guard.closed else self.names.leading_to(key)

    def _what_changed(self, changed: Iterable[int], names: Iterable[str]) -> str:
        what = [*(f"db[{name!r}]" for name in names), *map(self._catalog.label, changed)]
        return "to write " + ", ".join(what[:5]) + (", ..." if what[5:] else "")

    # ---------------------------------------------------------------- backend

    def _snapshot(self) -> Transaction:
        """Return the snapshot, beginning it if there is none."""
        transactions = self._transactions
        if transactions.reader is None or get_ident() != self.guard.thread or self.guard.closed:
            self.guard.check()
            if transactions.reader is not None:  # and the thread is the first that uses this session
                return transactions.reader
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
        self._conflicts.overtaken |= changed
        if renamed:
            self._renames.take_in(reader, renamed, affected - changed)
        stale &= baselines.keys()
        self._restorer.replace({key for key in stale - changed if not self._restorer.restore(key, anew=True)})
        self._current_to = self._allocator.head.revision

    def _read_record(self, key: int) -> Row | None:
        self.loads += 1
        reader, row = self._transactions.reader, None
        if reader is None or get_ident() != self.guard.thread or self.guard.closed:
            reader = self._snapshot()
        if self._aside.count:
            row = self._aside.get(key)
        if row is None:
            (found,) = reader.get_many("records", [key])
            if found is None and self._transactions.writer is not None:
                # While versions are merged, the newest one may refer to what is newer than the snapshot.
                (found,) = self._transactions.writer.get_many("records", [key])
            return found
        return row


def _seal(key: int, draft: Draft, revision: int) -> bytes:
    return rows.seal(rows.record_place(key), draft.body, flags=draft.flags, code=draft.code, revision=revision)


def _revision(key: int, row: Row) -> int:
    return rows.unseal(rows.record_place(key), row).revision


def _refuse_lost(obj: object) -> None:
    message = (
        f"the state of this object of {obj.__class__.__qualname__} is gone: it was put aside by a savepoint, never"
        " committed, and the transaction was rolled back"
    )
    raise MissingRecord(message)
