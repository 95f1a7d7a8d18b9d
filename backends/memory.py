"""The memory backend: four dicts, with snapshots; for tests and for data that needn't last.

A commit keeps, for as long as an older snapshot is open, what it replaced; a snapshot answers from the oldest such
remnant that is newer than itself, or else from the tables. Readers so copy nothing and never wait for the writer.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from pstore.backends.base import TABLES, Backend, Capabilities, Key, Row, Table, Transaction
from pstore.errors import ReadOnlyError, StoreClosed, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: For each table: key -> row, or None where there is no row.
_Delta = dict[Table, dict[Key, bytes | None]]


def _empty() -> _Delta:
    return {table: {} for table in TABLES}


class MemoryBackend(Backend):
    """A store in this process's memory, gone with it.

    Args:
        timeout: How long a writer waits for another, in seconds.
    """

    scheme: ClassVar[str] = "memory"
    capabilities: ClassVar[Capabilities] = Capabilities(lasting=False, shared=False)

    def __init__(self, *, timeout: float = 5.0) -> None:
        self.readonly = False
        self.timeout = timeout
        self.closed = False
        self.writing = threading.Lock()
        self._guard = threading.Lock()
        self._tables: dict[Table, dict[Key, bytes]] = {table: {} for table in TABLES}
        self._moment = 0
        #: Moment of a commit -> the rows it replaced; kept while a snapshot older than it is open.
        self._replaced: dict[int, _Delta] = {}
        #: Moment -> number of open snapshots of it.
        self._snapshots: dict[int, int] = {}

    def begin(self, *, write: bool = False) -> MemoryTransaction:
        """Begin a transaction; see `Backend.begin`."""
        self.check()
        if write and not self.writing.acquire(timeout=self.timeout):
            message = f"another writer held the memory store for more than {self.timeout} s; try again later"
            raise StoreLocked(message)
        try:
            with self._guard:
                moment = self._moment
                self._snapshots[moment] = self._snapshots.get(moment, 0) + 1
            return MemoryTransaction(self, moment, write=write)
        except BaseException:  # interrupted
            if write:
                self.writing.release()
            raise

    def close(self) -> None:
        """Drop everything."""
        self.closed = True
        self._tables = {table: {} for table in TABLES}
        self._replaced.clear()

    def stats(self) -> dict[str, int | str]:
        """Return the number of rows a table, and the bytes of all rows."""
        with self._guard:
            sizes: dict[str, int | str] = {table: len(rows) for table, rows in self._tables.items()}
            total = sum(len(row) for rows in self._tables.values() for row in rows.values())
        return {"backend": self.scheme, "bytes": total, **sizes}

    def check(self) -> None:
        """Raise StoreClosed when the backend was closed."""
        if self.closed:
            message = "the memory store is closed"
            raise StoreClosed(message)

    def lookup(self, table: Table, key: Key, moment: int) -> bytes | None:
        """Return the row as it was at the moment, or None."""
        with self._guard:
            for replaced_at in self._later(moment):
                replaced = self._replaced[replaced_at][table]
                if key in replaced:
                    return replaced[key]
            return self._tables[table].get(key)

    def table_at(self, table: Table, moment: int) -> dict[Key, bytes]:
        """Return a copy of a whole table as it was at the moment."""
        with self._guard:
            rows = dict(self._tables[table])
            for replaced_at in reversed(self._later(moment)):
                _apply(rows, self._replaced[replaced_at][table])
            return rows

    def publish(self, changes: _Delta) -> None:
        """Make the changes of a write transaction the newest state."""
        with self._guard:
            moment, replaced = self._moment + 1, _empty()
            for table, delta in changes.items():
                rows = self._tables[table]
                replaced[table] = {key: rows.get(key) for key in delta}
            try:
                self._publish_as(moment, changes, replaced)
            except BaseException:  # interrupted: a commit is whole
                self._publish_as(moment, changes, replaced)
                raise

    def _publish_as(self, moment: int, changes: _Delta, replaced: _Delta) -> None:
        for table, delta in changes.items():
            _apply(self._tables[table], delta)
        self._replaced[moment] = replaced
        self._moment = moment

    def release(self, moment: int) -> None:
        """Forget a snapshot, and what only it still needed."""
        with self._guard:
            self._snapshots[moment] -= 1
            if not self._snapshots[moment]:
                del self._snapshots[moment]
            oldest = min(self._snapshots, default=self._moment)
            for replaced_at in [at for at in self._replaced if at <= oldest]:
                del self._replaced[replaced_at]

    def _later(self, moment: int) -> list[int]:
        if moment == self._moment:
            return []
        return [at for at in self._replaced if at > moment]  # a dict keeps the order of commits


def _apply(rows: dict[Key, bytes], delta: dict[Key, bytes | None]) -> None:
    for key, row in delta.items():
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = row


class MemoryTransaction(Transaction):
    """A snapshot of a `MemoryBackend`, with the changes made on top of it."""

    def __init__(self, backend: MemoryBackend, moment: int, *, write: bool) -> None:
        self._backend = backend
        self._moment = moment
        self._write = write
        self._changes = _empty()
        self._ended = False

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys; see `Transaction.get_many`."""
        self._check()
        changes, lookup = self._changes[table], self._backend.lookup
        return [changes[key] if key in changes else lookup(table, key, self._moment) for key in keys]

    def scan(self, table: Table, start: Key | None = None, stop: Key | None = None) -> Iterator[tuple[Key, Row]]:
        """Yield (key, row) in key order; see `Transaction.scan`."""
        self._check()
        rows = self._backend.table_at(table, self._moment)
        _apply(rows, self._changes[table])
        keys: list[Key] = sorted(key for key in rows if _within(key, start, stop))
        for key in keys:
            self._check()
            yield key, rows[key]

    def put_many(self, table: Table, items: Iterable[tuple[Key, bytes]]) -> None:
        """Store rows; see `Transaction.put_many`."""
        self._check_write()
        self._changes[table].update((key, bytes(row)) for key, row in items)

    def delete_many(self, table: Table, keys: Iterable[Key]) -> None:
        """Remove rows; see `Transaction.delete_many`."""
        self._check_write()
        self._changes[table].update(dict.fromkeys(keys))

    def commit(self) -> None:
        """Publish the changes."""
        self._check()
        if self._write and any(self._changes.values()):
            self._backend.publish(self._changes)
        self._end()

    def rollback(self) -> None:
        """Drop the changes."""
        if not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._backend.release(self._moment)
        if self._write:
            self._backend.writing.release()

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
