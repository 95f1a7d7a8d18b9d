"""What a session has done since its snapshot: gathering it, putting it aside, writing it, and undoing it.

A commit, in order: gather the changes; begin the backend's write transaction; look at what others have written since the
snapshot; put records, names, the log entry and the counters; commit; take what was written for the new baselines. A
savepoint gathers in the same way, and puts records aside instead. Whatever fails leaves everything as it was.

This module changes the store and the objects; when that may be done is for the session to say.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pstore import names as naming
from pstore import renaming, rows
from pstore.catalog import refusal
from pstore.conflicts import Conflicts, Work
from pstore.declare import is_declared
from pstore.errors import ClassNotAllowed, CommitUncertain, ConnectionLost, Error, MissingRecord, SavepointEnded
from pstore.ghosts import Ghosts
from pstore.names import Content, Names, Stored
from pstore.pickle import set_class
from pstore.records import is_atom
from pstore.rows import REFERENCE, Head
from pstore.states import Baseline, States
from pstore.transactions import Transactions, put_classes, put_head, put_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pstore.aside import Aside
    from pstore.backends.base import Key, Row, Transaction
    from pstore.cache import Cache
    from pstore.catalog import Catalog
    from pstore.changes import Changes, Draft
    from pstore.guard import Guard
    from pstore.identity import IdentityMap
    from pstore.loader import Loader
    from pstore.reads import Reads
    from pstore.restoring import Restorer


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


@dataclass(frozen=True)
class Parts:
    """The parts of one session."""

    guard: Guard
    identity: IdentityMap
    ghosts: Ghosts
    catalog: Catalog
    transactions: Transactions
    states: States
    loader: Loader
    changes: Changes
    restorer: Restorer
    names: Names
    aside: Aside
    conflicts: Conflicts
    cache: Cache
    reads: Reads | None


class _Attempt(NamedTuple):
    """A commit that the backend was asked to make.

    Attributes:
        work: What it writes.
        done: What it has written, if it was made.
        log_row: Its row in the log.
        head: The counters that it leaves.
        names: What this transaction had put under names.
    """

    work: Work
    done: Commit
    log_row: bytes
    head: Head
    names: dict[str, object]


class Committer:
    """Writes and undoes the changes of one session.

    Args:
        parts: The session's.
        snapshot: Returns its snapshot, beginning it if there is none.
        read: Answers a key with its row, as the session sees it, or None.
    """

    def __init__(self, parts: Parts, snapshot: Callable[[], Transaction], read: Callable[[int], Row | None]) -> None:
        self._guard = parts.guard
        self._identity = parts.identity
        self._ghosts = parts.ghosts
        self._catalog = parts.catalog
        self._transactions = parts.transactions
        self._allocator = parts.transactions.allocator
        self._states = parts.states
        self._loader = parts.loader
        self._changes = parts.changes
        self._restorer = parts.restorer
        self._names = parts.names
        self._aside = parts.aside
        self._conflicts = parts.conflicts
        self._cache = parts.cache
        self._reads = parts.reads
        self._snapshot = snapshot
        self._read_record = read
        self._lost = Ghosts(_refuse_lost)
        self._savepoints: dict[int, dict[str, object]] = {}  # mark -> the names that were pending
        self._attempt: _Attempt | None = None
        #: The savepoint to which a rollback is under way, 0 for the beginning, and the keys of what it has taken away.
        self._undoing: int | None = None
        self._undone: set[int] = set()

    def commit(self, note: str) -> Commit:
        """Write what has changed.

        Args:
            note: A text for the log.
        """
        self._finish_undoing()
        if self._conflicts.refused is not None:
            raise self._conflicts.refused
        work = Work()
        return self._make(work, lambda: self._gather_and_write(work, note))

    def rename(self, old: object, new: object) -> Commit:
        """Write that a class has another name, where nothing else has changed; see `renaming.write`."""
        return self._make(Work(), lambda: self._write_rename(old, new))

    def _make(self, work: Work, write: Callable[[], Commit]) -> Commit:
        """Make a commit, or leave everything as it was; where it isn't known whether it was made, find out.

        Args:
            work: What it writes; filled in by `write`.
            write: Writes and commits.
        """
        self._allocator.save()
        try:
            done = write()
        except BaseException as error:
            if isinstance(error, Error) and not isinstance(error, CommitUncertain):
                self._attempt = None  # the backend says that nothing was written
            if self._attempt is None:
                self._withdraw()
                self._transactions.end_writing()
                if isinstance(error, ConnectionLost):
                    self._transactions.lose_snapshot()
                raise
            return self._after_interruption(error)
        try:
            self._attempt = None
            self._publish(work, done.revision)
        except BaseException:
            self._publish(work, done.revision)
            raise
        if work.mine:
            with suppress(ConnectionLost):  # it is made; the next transaction does this, else
                self._snapshot()  # what was merged becomes what the store has now
        return done

    def _after_interruption(self, error: BaseException) -> Commit:
        """The backend was interrupted when it was asked to commit; return what was committed, or raise."""
        uncertain = isinstance(error, CommitUncertain)
        if uncertain:
            self._transactions.lose_snapshot()
        try:
            done = self.find_out(late=False)
        except CommitUncertain:
            if uncertain:
                raise
            raise error from None
        if not uncertain:
            raise error
        if done is None:
            message = "the connection was lost, and nothing of the commit is stored: commit again, or roll back"
            raise ConnectionLost(message) from error
        return done

    @property
    def in_doubt(self) -> bool:
        """Whether it isn't known whether the last commit was made. Then there is no snapshot."""
        return self._attempt is not None

    def find_out(self, *, late: bool = True) -> Commit | None:
        """Where it isn't known whether the last commit was made, look it up: then it counts as made, or was never tried.

        Args:
            late: Whether the application may have changed objects since.

        Returns:
            What was committed; None where it wasn't, or there is nothing to look up.

        Raises:
            CommitUncertain: It can't be looked up now.
        """
        attempt = self._attempt
        if attempt is None:
            return None
        try:
            made = self._transactions.has_logged(attempt.done.revision, attempt.log_row)
        except Error as error:
            self._transactions.lose_snapshot()  # so that nothing is read before it is known
            message = (
                "the connection was lost in the middle of a commit, and whether it was made can't be found out yet: the next"
                f" commit or rollback of this session finds out first ({error})"
            )
            raise CommitUncertain(message) from error
        if not made:
            self._withdraw()
            self._transactions.withdraw()
            self._attempt = None
            return None
        self._allocator.head = attempt.head
        since = {
            name: value for name, value in self._names.pending.items() if value is not attempt.names.get(name, self)
        }
        self._publish(attempt.work, attempt.done.revision, rest=not late)
        self._names.pending.update(since)
        self._attempt = None
        return attempt.done

    def _gather(self, work: Work) -> None:
        """Pickle what may have changed and what is new."""
        work.names = self._names.changes(self._content_of)
        work.drafts = self._changes.gather(self._states.compared(), self._states.baselines)
        work.idle = self._changes.idle()
        work.changed = self._restorer.changed(work.drafts)
        work.drafts.update(work.changed)

    def _withdraw(self) -> None:
        """A commit or savepoint has failed: all is as it was before it."""
        self._changes.withdraw()
        self._catalog.withdraw()
        self._allocator.restore()

    def savepoint(self) -> int:
        """Put what has changed aside; return the number of the savepoint."""
        self._finish_undoing()
        self._allocator.save()
        work, before = Work(), self._aside.mark
        revisions: dict[int, int] = {}
        try:
            self._gather(work)
            if work.changed:
                self._guard.check_writable(self._what_changed(work.changed, ()))
            revisions = {
                key: self._states.baselines[key].revision if key in self._states.baselines else 0
                for key in work.changed
            }
            self._transactions.keep_numbers()
            self._catalog.settle()
            self._aside.put((key, _seal(key, draft, revisions[key])) for key, draft in work.changed.items())
            self._publish_savepoint(work, revisions)
        except BaseException:
            if self._aside.mark != before:  # interrupted behind the point of no return
                self._publish_savepoint(work, revisions)
                raise
            self._withdraw()
            self._transactions.end_savepoint()
            raise
        return self._aside.mark

    def _publish_savepoint(self, work: Work, revisions: dict[int, int]) -> None:
        """After a savepoint: remember what was put aside."""
        self._note_touched()
        self._settle(work, revisions)
        self._savepoints[self._aside.mark] = dict(self._names.pending)
        self._cache.shrink()

    def back_to(self, mark: int) -> None:
        """Go back to a savepoint.

        Raises:
            SavepointEnded: It is over.
        """
        self.find_out()
        if mark not in self._savepoints:
            message = "the savepoint has ended: its transaction is over, or an earlier savepoint was gone back to; make another"
            raise SavepointEnded(message)
        self._snapshot()
        self._note_touched()
        self._undoing = mark
        self._restore_since(mark)
        self._names.pending = dict(self._savepoints[mark])
        self._savepoints = {known: names for known, names in self._savepoints.items() if known <= mark}
        self._undoing = None

    def rollback(self) -> None:
        """Make the objects in memory what the store says, and end the transaction."""
        self.find_out()
        self._undoing = 0
        self._names.pending.clear()
        self._restore_since(0)
        self.end()
        self._undoing = None
        self._conflicts.refused = None
        self._cache.shrink()
        self._conflicts.overtaken &= self._states.baselines.keys()
        if self._conflicts.overtaken:
            self._snapshot()  # they become what others have made of them

    def _finish_undoing(self) -> None:
        """Where a rollback was interrupted, or has failed: do the rest of it, before anything is written."""
        if self._undoing == 0:
            self.rollback()
        elif self._undoing is not None:
            self.back_to(self._undoing)

    def _restore_since(self, mark: int) -> None:
        """Undo what was changed after a savepoint; 0 for all."""
        undone = self._undone
        undone.update(self._aside.since(mark))
        self._aside.back_to(mark)
        replaced: set[int] = set()
        for key in [*self._states.compared(), *undone]:
            if key not in self._identity.objects:
                self._states.forget(key)  # undone already, or nothing in memory
                continue
            baseline = self._states.baselines.get(key)
            if key in undone and self._is_new(key):
                obj = self._identity.objects[key]
                if not self._restorer.let_go(key):
                    self._lose(obj)
            elif baseline is not None:
                draft = None if key in undone else self._restorer.unchanged(key)
                if draft is not None:
                    self._restorer.rest(key, draft)
                elif not self._restorer.restore(key, anew=key in undone):
                    replaced.add(key)
        self._restorer.replace(replaced)
        undone.clear()

    def replaced(self, gone: dict[int, object]) -> None:
        """Objects were forgotten, and are made anew: going back to a savepoint leads to the new ones."""
        self._savepoints = {mark: naming.with_replaced(names, gone) for mark, names in self._savepoints.items()}

    def _content_of(self, name: str, value: object) -> Content:
        if type(value) is Stored:
            return Content(REFERENCE, rows.pack_key(value.key))
        if is_atom(value) and not is_declared(type(value)):
            return Content(0, self._changes.encode_value(value, f"db[{name!r}]"))
        try:
            return Content(REFERENCE, rows.pack_key(self._changes.adopt(value)))
        except ClassNotAllowed as error:
            self._changes.check_picklable(value, f"db[{name!r}]")  # allowing a lock or a file would be no remedy
            raise refusal(error.module, error.qualname, where=f"db[{name!r}]", reason=error.reason) from None

    def _gather_and_write(self, work: Work, note: str) -> Commit:
        self._gather(work)
        if work.changed or work.names or self._aside:
            return self._write(work, note)
        return Commit(self._allocator.head.revision)

    def _write(self, work: Work, note: str) -> Commit:
        self._guard.check_writable(self._what_changed(work.changed, work.names))
        writer = self._transactions.write()
        since = self._allocator.saved.revision
        overtaken = self._allocator.head.revision != since
        if overtaken or self._conflicts.overtaken:
            self._conflicts.resolve(work, self._snapshot(), writer, since)
        revision = self._allocator.head.revision + 1
        put_classes(writer, self._catalog.pending(), revision)
        writer.put_many("records", ((key, _seal(key, draft, revision)) for key, draft in work.changed.items()))
        keys = set(work.changed)
        if self._aside:
            writer.put_many("records", self._put_aside(revision, keys))
        added = naming.write(writer, work.names, revision)
        entry = rows.new_log_entry(note, sorted(keys), work.names)
        log_row = put_log(writer, revision, entry)
        if self._changes.new:
            self._allocator.top_up()
        head = self._allocator.head
        head = head._replace(revision=revision, names=head.names + added)
        put_head(writer, head)
        done = Commit(revision, entry.keys, tuple(work.names))
        self._end_writing(writer, _Attempt(work, done, log_row, head, dict(self._names.pending)))
        if not overtaken and not work.mine:
            self._transactions.current_to = revision
        return done

    def _write_rename(self, old: object, new: object) -> Commit:
        writer = self._transactions.write()
        renamed = renaming.write(writer, self._catalog, self._allocator.head, old, new)
        done = Commit(renamed.head.revision, renamed.keys)
        self._end_writing(writer, _Attempt(Work(), done, renamed.log_row, renamed.head, {}))
        return done

    def _end_writing(self, writer: Transaction, attempt: _Attempt) -> None:
        """Have the backend commit."""
        self._attempt = attempt
        writer.commit()
        self._transactions.writer = None
        self._allocator.head = attempt.head

    def _put_aside(self, revision: int, written: set[int]) -> Iterator[tuple[Key, bytes]]:
        """Yield the rows that were put aside and aren't written yet, as those of this revision; enter their keys."""
        for key, row in self._aside.rows():
            if key not in written:
                written.add(key)
                yield key, _seal(key, self._loader.baseline_of(key, row), revision)

    def _publish(self, work: Work, revision: int, *, rest: bool = True) -> None:
        """After a commit: remember what was written, and put everything behind the barrier that can go there."""
        self._names.pending.clear()
        self._catalog.settle()
        for key, draft in work.mine.items():
            if draft is None:  # in memory, if at all, is what was put aside; it is stale now
                work.drafts.pop(key, None)
            else:
                work.drafts[key] = draft
        merged = {key: self._states.baselines[key].revision for key in work.mine if key in self._states.baselines}
        self._settle(work, dict.fromkeys(work.changed, revision) | merged, rest=rest)
        for key, _ in self._aside.rows():
            if key in self._states.baselines and key not in work.changed:
                self._states.put(key, self._states.baselines[key]._replace(revision=revision))
        self.end()
        self._cache.shrink()

    def _settle(self, work: Work, revisions: dict[int, int], *, rest: bool = True) -> None:
        """Take what was written for the new baselines, and put everything behind the barrier that can go there.

        Args:
            work: What was written.
            revisions: The revision that each of the records has now.
            rest: Whether to put anything behind the barrier; what isn't is compared by the next commit.
        """
        self._states.touched.update(
            {key: obj for key, obj in self._changes.new.items() if self._loader.settle(key, obj)}
        )
        for key in work.changed:
            draft = work.drafts.get(key)
            if draft is not None:  # else it was merged from what was put aside
                self._states.put(key, Baseline(draft.flags, draft.code, revisions[key], draft.body))
        self._changes.settle()
        if not rest:
            return
        self._restorer.rest_idle(work.idle)
        for key, draft in work.drafts.items():
            self._restorer.rest(key, draft)

    def end(self) -> None:
        """End the transaction, whatever becomes of the objects."""
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

    def _note_touched(self) -> None:
        """Take down what was read, before objects go behind the barrier in the middle of a transaction."""
        if self._reads is not None:
            self._reads.take_down(self._states.touched, self._states)

    def _what_changed(self, changed: Iterable[int], names: Iterable[str]) -> str:
        what = [*(f"db[{name!r}]" for name in names), *map(self._catalog.label, changed)]
        return "to write " + ", ".join(what[:5]) + (", ..." if what[5:] else "")


def _seal(key: int, record: Draft | Baseline, revision: int) -> bytes:
    return rows.seal(rows.record_place(key), record.body, flags=record.flags, code=record.code, revision=revision)


def _refuse_lost(obj: object) -> None:
    message = (
        f"the state of this object of {obj.__class__.__qualname__} is gone: it was put aside by a savepoint, never"
        " committed, and the transaction was rolled back"
    )
    raise MissingRecord(message)
