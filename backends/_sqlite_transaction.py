"""A transaction on an SQLite connection: the four tables, read and written.

SQLite's integers are signed: keys from 2**63 on are stored as their two's complement. SQLite checks neither what a damaged
page holds nor which type a column has, so what comes out as something else than it was put in as is refused here.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from pstore.backends.base import INT_TABLES, Key, Row, Table, Transaction
from pstore.errors import CorruptRecord, Error, ReadOnlyError, StorageError, StoreClosed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pstore.backends._sqlite_pool import Pool

GET: Final = "SELECT value FROM {table} WHERE key = ?"
GET_MANY: Final = "SELECT key, value FROM {table} WHERE key IN ({marks})"
PUT: Final = "INSERT INTO {table} VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
DELETE: Final = "DELETE FROM {table} WHERE key = ?"
SCAN: Final = "SELECT key, value FROM {table} WHERE {where} ORDER BY key"

#: The most bytes of a row. SQLite takes 10**9 in all, its own header and a key of text included.
LARGEST_ROW: Final = 10**9 - 2**16

_BATCH: Final = 500  # parameters a statement; SQLite before 3.32 takes 999 at the most
_SIGN: Final = 1 << 63


class SqliteTransaction(Transaction):
    """A transaction on a connection of its own, which goes back to the pool when it ends."""

    def __init__(self, pool: Pool, connection: sqlite3.Connection, *, write: bool) -> None:
        self._pool = pool
        self._connection: sqlite3.Connection | None = connection
        self._write = write
        self._scans: set[sqlite3.Cursor] = set()

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys; see `Transaction.get_many`."""
        connection = self._check()
        columns = _to_columns(table, keys)
        with self._pool.translated():
            if len(columns) == 1:
                found = connection.execute(GET.format(table=table), columns).fetchone()
                if found is None:
                    return [None]
                row = found[0]
                return [row if type(row) is bytes else self._refuse(table, keys[0])]
            rows: dict[Key, bytes] = {}
            for at in range(0, len(columns), _BATCH):
                batch = columns[at : at + _BATCH]
                rows.update(connection.execute(GET_MANY.format(table=table, marks=",".join("?" * len(batch))), batch))
        result = [rows.get(column) for column in columns]
        for key, answer in zip(keys, result, strict=True):
            if answer is not None and type(answer) is not bytes:
                self._refuse(table, key)
        return [*result]

    def scan(self, table: Table, start: Key | None = None, stop: Key | None = None) -> Iterator[tuple[Key, Row]]:
        """Yield (key, row) in key order; see `Transaction.scan`."""
        if table not in INT_TABLES:
            yield from self._scan_part(table, start, stop)
            return
        low, high = 0 if start is None else int(start), (1 << 64) if stop is None else int(stop)
        # Stored as signed integers, the upper half of the keys stands before the lower one.
        if low < _SIGN:
            yield from self._scan_part(table, low, min(high, _SIGN) - 1, last_included=True)
        if high > _SIGN:
            for key, row in self._scan_part(
                table, max(low, _SIGN) - (1 << 64), high - (1 << 64) - 1, last_included=True
            ):
                yield int(key) + (1 << 64), row

    def put_many(self, table: Table, items: Iterable[tuple[Key, bytes]]) -> None:
        """Store rows; see `Transaction.put_many`."""
        connection = self._check_write()
        with self._pool.translated():
            connection.executemany(PUT.format(table=table), self._to_store(table, items))

    def delete_many(self, table: Table, keys: Iterable[Key]) -> None:
        """Remove rows; see `Transaction.delete_many`."""
        connection = self._check_write()
        with self._pool.translated():
            connection.executemany(DELETE.format(table=table), [(column,) for column in _to_columns(table, keys)])

    def commit(self) -> None:
        """Commit; see `Transaction.commit`."""
        connection = self._check()
        try:
            with self._pool.translated():
                connection.execute("COMMIT")
        except Error:
            self.rollback()
            raise
        self._end()

    def rollback(self) -> None:
        """Drop the changes; see `Transaction.rollback`."""
        if self._connection is None:
            return
        # A failed statement may have rolled back already; a connection that was closed has nothing to drop.
        with contextlib.suppress(sqlite3.Error):
            if not self._pool.forked and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._end()

    def _to_store(self, table: Table, items: Iterable[tuple[Key, bytes]]) -> Iterator[tuple[Key, bytes]]:
        signed = table in INT_TABLES
        for key, row in items:
            if len(row) > LARGEST_ROW:
                message = (
                    f"{self._pool.path}: a row of {len(row)} bytes is larger than SQLite takes ({LARGEST_ROW} bytes): row"
                    f" {key!r} of the table {table}; keep what it holds in parts, in objects with records of their own"
                )
                raise StorageError(message)
            yield _signed(key) if signed else key, row

    def _scan_part(
        self, table: Table, start: Key | None, stop: Key | None, *, last_included: bool = False
    ) -> Iterator[tuple[Key, Row]]:
        connection = self._check()
        conditions = {"key >= ?": start, f"key {'<=' if last_included else '<'} ?": stop}
        conditions = {condition: bound for condition, bound in conditions.items() if bound is not None}
        where = " AND ".join(conditions) or "1"
        kind: type = int if table in INT_TABLES else str
        with self._pool.translated():
            last: Any = None
            cursor = connection.execute(SCAN.format(table=table, where=where), list(conditions.values()))
            self._scans.add(cursor)
            for key, row in cursor:
                if type(row) is not bytes or type(key) is not kind or (last is not None and key <= last):
                    self._refuse(table, key)
                last = key
                yield key, row
                self._check()
            self._scans.discard(cursor)

    def _refuse(self, table: Table, key: object) -> bytes:
        message = f"{self._pool.path} is damaged at row {key!r} of the table {table}; restore it from a backup"
        raise CorruptRecord(message)

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not self._pool.forked:
            with contextlib.suppress(sqlite3.Error):  # the connection was closed
                for cursor in self._scans:  # one that was left halfway would keep its snapshot beyond the COMMIT
                    cursor.close()
        self._pool.give_back(connection)

    def _check(self) -> sqlite3.Connection:
        self._pool.check_process()
        if self._connection is None:
            message = "the transaction has ended; begin another"
            raise StoreClosed(message)
        return self._connection

    def _check_write(self) -> sqlite3.Connection:
        connection = self._check()
        if not self._write:
            message = "a read transaction can't change anything; begin it with write=True"
            raise ReadOnlyError(message)
        return connection


def _signed(key: Key) -> int:
    key = int(key)
    return key if key < _SIGN else key - (1 << 64)


def _to_columns(table: Table, keys: Iterable[Key]) -> list[Key]:
    return [_signed(key) for key in keys] if table in INT_TABLES else list(keys)
