"""Transactions with snapshots, over tables that have only a newest state.

A commit keeps, for as long as an older snapshot is open, the rows that it replaces; a snapshot answers from the oldest such
remnant that is newer than itself, or else from the tables. Readers so copy nothing, and never wait for the writer. The
remnant is there before the tables change, so that nobody sees half a commit.

This module knows nothing of where the tables are kept: `Tables` is all that it asks of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from abc import ABC, abstractmethod
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pstore.backends.base import TABLES, Backend, Key, Row, Table, Transaction
from pstore.errors import ReadOnlyError, StorageError, StoreClosed, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: For each table: key -> row, or None where there is no row.
Changes: TypeAlias = dict[Table, dict[Key, bytes | None]]
Replaced: TypeAlias = dict[Table, dict[Key, Row | None]]

_BATCH: Final = 500  # rows that a scan takes at a time


class Tables(ABC):
    """The newest state of the four tables.

    Attributes:
        guard: Held by whoever reads the tables or changes what is read.
    """

    def __init__(self) -> None:
        self.guard = threading.Lock()

    @abstractmethod
    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys in their order, None for a key that has no row. Called with the guard held."""

    @abstractmethod
    def first(self, table: Table, start: Key | None, stop: Key | None, limit: int) -> list[tuple[Key, Row]]:
        """Return at most `limit` rows from `start` (included) to `stop` (left out), the lowest. Called with the guard held."""

    @abstractmethod
    def commit(self, changes: Changes, replaced: Replaced) -> None:
        """Make the changes, all of them or, where it raises, none. Called without the guard, by one thread at a time.

        Args:
            changes: The rows to store, and None for those to remove.
            replaced: The rows that are there now, for the same keys.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything. Called once, by one thread, with no commit under way."""

    @abstractmethod
    def stats(self) -> dict[str, int | str]:
        """Return facts about the storage by name; at least `bytes`. Called with the guard held."""

    def settle(self) -> None:
        """Do what is due after a commit, which has been acknowledged: this raises nothing that would deny it."""

    def compact(self) -> None:
        """Give back space; called without the guard, as `commit` is."""

    def abandon(self) -> None:
        """Leave everything to the process that this one was forked from."""


class VersionedBackend(Backend):
    """A backend of one process, over tables that have only a newest state.

    Args:
        tables: Where the rows are; closed with the backend.
        readonly: Whether write transactions are refused.
        timeout: How long a writer waits for another, in seconds.
    """

    def __init__(self, tables: Tables, *, readonly: bool = False, timeout: float = 5.0) -> None:
        self.readonly = readonly
        self.timeout = timeout
        self.forked = False
        self._tables = tables
        self._closed = False
        self._writing = threading.Lock()  # held by a write transaction
        self._committing = threading.Lock()  # held by what must see the tables at rest
        self._moment = 0
        #: Moment of a commit -> the rows it replaced; kept while a snapshot older than it is open.
        self._replaced: dict[int, Replaced] = {}
        #: Moment -> number of open snapshots of it.
        self._snapshots: dict[int, int] = {}
        _backends.add(self)

    def begin(self, *, write: bool = False) -> VersionedTransaction:
        """Begin a transaction; see `Backend.begin`."""
        self.check()
        if write and self.readonly:
            message = f"{self} was opened for reading only; open it with flag 'w' to change it"
            raise ReadOnlyError(message)
        if write:
            self._acquire_writing()
        try:
            self.check()  # it may have been closed meanwhile
            with self._tables.guard:
                moment = self._moment
                self._snapshots[moment] = self._snapshots.get(moment, 0) + 1
            return VersionedTransaction(self, moment, write=write)
        except BaseException:  # interrupted, or closed
            if write:
                self._writing.release()
            raise

    def close(self) -> None:
        """Release everything; a commit under way is finished first."""
        if self.forked:
            return
        with self._committing:
            closed, self._closed = self._closed, True
            if not closed:
                self._replaced.clear()
                self._tables.close()

    def compact(self) -> None:
        """Give back space; see `Backend.compact`."""
        self.check()
        if self.readonly:
            message = f"{self} was opened for reading only; open it with flag 'w' to compact it"
            raise ReadOnlyError(message)
        self._acquire_writing()
        try:
            with self._committing:
                self.check()
                self._tables.compact()
        finally:
            self._writing.release()

    def stats(self) -> dict[str, int | str]:
        """Return facts about the storage; see `Backend.stats`."""
        self.check()
        with self._tables.guard:
            return {"backend": self.scheme, **self._tables.stats()}

    def check(self) -> None:
        """Raise StoreClosed where the backend was closed, or this process forked since it was opened."""
        if self.forked:
            message = f"{self} was opened before this process was forked; open it again in this process"
            raise StoreClosed(message)
        if self._closed:
            message = f"{self} is closed"
            raise StoreClosed(message)

    def check_rows(self, items: Iterable[tuple[Key, bytes]]) -> list[tuple[Key, bytes]]:
        """Return rows that are to be stored; raise StorageError for what is larger than the engine takes."""
        checked = [(key, bytes(row)) for key, row in items]
        limits = self.capabilities
        for key, row in checked:
            if limits.largest_row is not None and len(row) > limits.largest_row:
                message = (
                    f"the row of {key!r} has {len(row)} bytes; a {self.scheme} store takes {limits.largest_row} at the most:"
                    " keep it in parts, or copy the store to another kind with pstore.copy"
                )
                raise StorageError(message)
            if limits.longest_name is not None and isinstance(key, str) and len(key.encode()) > limits.longest_name:
                message = (
                    f"the name {key[:40]!r}... has {len(key.encode())} bytes;"
                    f" a {self.scheme} store takes {limits.longest_name} at the most"
                )
                raise StorageError(message)
        return checked

    def read(self, table: Table, keys: Sequence[Key], moment: int) -> list[Row | None]:
        """Return the rows of these keys as they were at the moment."""
        with self._tables.guard:
            later = [at for at in self._replaced if at > moment]  # a dict keeps the order of commits
            if not later:
                return self._tables.get_many(table, keys)
            found: dict[Key, Row | None] = {}
            for at in reversed(later):
                replaced = self._replaced[at][table]
                found.update((key, replaced[key]) for key in keys if key in replaced)
            others = [key for key in keys if key not in found]
            found.update(zip(others, self._tables.get_many(table, others), strict=True))
            return [found[key] for key in keys]

    def read_first(
        self, table: Table, start: Key | None, stop: Key | None, moment: int
    ) -> tuple[dict[Key, Row | None], Key | None]:
        """Return the lowest rows of a range as they were at the moment, and from where on there may be more.

        Returns:
            The rows by key, in no order, None for a key that has none; and where the range goes on, None at its end.
        """
        with self._tables.guard:
            newest = self._tables.first(table, start, stop, _BATCH)
            rows: dict[Key, Row | None] = dict(newest)
            rest = None
            if len(newest) == _BATCH:
                rest = stop = _next(newest[-1][0])
            for at in sorted((at for at in self._replaced if at > moment), reverse=True):
                replaced = self._replaced[at][table]
                rows.update((key, row) for key, row in replaced.items() if _within(key, start, stop))
            return rows, rest

    def publish(self, changes: Changes) -> None:
        """Make the changes of a write transaction the newest state."""
        with self._committing:
            self.check()
            moment = self._moment + 1
            with self._tables.guard:
                replaced: Replaced = {
                    table: dict(zip(delta, self._tables.get_many(table, list(delta)), strict=True))
                    for table, delta in changes.items()
                }
                self._replaced[moment] = replaced
            try:
                self._tables.commit(changes, replaced)
            finally:
                # Where that has failed too: what was replaced is what there is, and where it was interrupted when the
                # changes were made, older snapshots need it.
                with self._tables.guard:
                    self._moment = moment
            self._tables.settle()

    def release(self, transaction: VersionedTransaction) -> None:
        """Forget a snapshot, and what only it still needed, and let the next writer begin.

        It may be called again: what an interruption has left undone is done then, and the rest not twice.
        """
        if self.forked:
            return
        try:
            with self._tables.guard:
                if transaction.pins:
                    transaction.pins = False
                    self._unpin(transaction.moment)
        finally:
            if transaction.excludes:
                transaction.excludes = False
                self._writing.release()

    def _unpin(self, moment: int) -> None:
        self._snapshots[moment] -= 1
        if not self._snapshots[moment]:
            del self._snapshots[moment]
        oldest = min(self._snapshots, default=self._moment)
        for replaced_at in [at for at in self._replaced if at <= min(oldest, self._moment)]:
            del self._replaced[replaced_at]

    def abandon(self) -> None:
        """Leave everything to the process that this one was forked from."""
        self.forked = True
        self._tables.abandon()
        _abandoned.append(self._tables)  # nothing is closed by being forgotten

    def _acquire_writing(self) -> None:
        if not self._writing.acquire(timeout=self.timeout):
            message = f"another writer held {self} for more than {self.timeout} s; try again later"
            raise StoreLocked(message)


class VersionedTransaction(Transaction):
    """A snapshot of a `VersionedBackend`, with the changes made on top of it.

    Attributes:
        moment: That of the newest commit that it sees.
        pins: Whether what it sees is kept.
        excludes: Whether it has the write lock.
    """

    def __init__(self, backend: VersionedBackend, moment: int, *, write: bool) -> None:
        self._backend = backend
        self.moment = moment
        self.pins = True  # its moment among the snapshots
        self.excludes = write  # other writers
        self._write = write
        self._changes: Changes = {table: {} for table in TABLES}
        self._ended = False

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys; see `Transaction.get_many`."""
        self._check()
        changes = self._changes[table]
        if not changes:
            return self._backend.read(table, keys, self.moment)
        stored = [key for key in keys if key not in changes]
        found = dict(zip(stored, self._backend.read(table, stored, self.moment), strict=True))
        return [changes[key] if key in changes else found[key] for key in keys]

    def scan(self, table: Table, start: Key | None = None, stop: Key | None = None) -> Iterator[tuple[Key, Row]]:
        """Yield (key, row) in key order; see `Transaction.scan`."""
        changes = self._changes[table]
        changed: list[Any] = sorted(changes)
        low = 0 if start is None else bisect_left(changed, start)
        rest: Key | None
        while True:
            self._check()
            rows, rest = self._backend.read_first(table, start, stop, self.moment)
            end = stop if rest is None else rest
            high = len(changed) if end is None else max(low, bisect_left(changed, end))
            rows.update((key, changes[key]) for key in changed[low:high])
            low = high
            for key in sorted(rows):
                row = rows[key]
                if row is not None:
                    yield key, row
                    self._check()
            if rest is None:
                return
            start = rest

    def put_many(self, table: Table, items: Iterable[tuple[Key, bytes]]) -> None:
        """Store rows; see `Transaction.put_many`."""
        self._check_write()
        self._changes[table].update(self._backend.check_rows(items))

    def delete_many(self, table: Table, keys: Iterable[Key]) -> None:
        """Remove rows; see `Transaction.delete_many`."""
        self._check_write()
        self._changes[table].update(dict.fromkeys(keys))

    def commit(self) -> None:
        """Make the changes the newest state; see `Transaction.commit`."""
        self._check()
        try:
            if self._write and any(self._changes.values()):
                self._backend.publish(self._changes)
        finally:
            self.rollback()

    def rollback(self) -> None:
        """Drop the changes; see `Transaction.rollback`."""
        self._ended = True
        self._backend.release(self)

    def _check(self) -> None:
        self._backend.check()
        if self._ended:
            message = "the transaction has ended; begin another"
            raise StoreClosed(message)

    def _check_write(self) -> None:
        self._check()
        if not self._write:
            message = "a read transaction can't change anything; begin it with write=True"
            raise ReadOnlyError(message)


def _within(key: Any, start: Any, stop: Any) -> bool:
    return (start is None or key >= start) and (stop is None or key < stop)


def _next(key: Key) -> Key:
    """Return the lowest key above this one."""
    return key + "\0" if isinstance(key, str) else key + 1


_backends: Final[weakref.WeakSet[VersionedBackend]] = weakref.WeakSet()
_abandoned: Final[list[Tables]] = []


def _after_fork() -> None:
    for backend in list(_backends):
        with contextlib.suppress(OSError):
            backend.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
