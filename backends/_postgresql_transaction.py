"""A transaction of the PostgreSQL backend.

Changes are gathered here and sent with the commit, so the write lock is held for a few round trips only. PostgreSQL's integers
are signed: 2**63 is taken off a key, which keeps the order. Texts are stored as bytes, because PostgreSQL's have no NUL and an
order of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pstore.backends.base import INT_TABLES, TABLES, Key, Row, Table, Transaction
from pstore.errors import ReadOnlyError, StorageError, StoreClosed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pstore.backends._postgresql_pool import Connection, Statement
    from pstore.backends.postgresql import PostgresqlBackend

#: The most bytes of a key that PostgreSQL's index takes: a third of a page.
LONGEST_NAME: Final = 2600
#: PostgreSQL takes a value, and a message, of less than 2**30 bytes.
LARGEST_ROW: Final = 10**9

GET: Final = "SELECT value FROM {schema}.{table} WHERE key = %b"
GET_MANY: Final = "SELECT key, value FROM {schema}.{table} WHERE key = ANY (%b::{type}[])"
#: A page of a scan ends after so many rows, or so many bytes: the row that gets there is the last one.
SCAN: Final = (
    "SELECT key, value FROM (SELECT key, value, sum(octet_length(value)) OVER (ORDER BY key) - octet_length(value)"
    " AS before FROM (SELECT key, value FROM {schema}.{table} WHERE {where} ORDER BY key LIMIT {rows}) AS found) AS page"
    " WHERE before < {bytes} ORDER BY key"
)
PUT: Final = (
    "INSERT INTO {schema}.{table} (key, value) VALUES (%b, %b) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
PUT_MANY: Final = (
    "INSERT INTO {schema}.{table} (key, value) SELECT * FROM unnest(%b::{type}[], %b::bytea[])"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
DELETE_MANY: Final = "DELETE FROM {schema}.{table} WHERE key = ANY (%b::{type}[])"
EMPTY: Final = "DELETE FROM {schema}.{table}"
COMMIT: Final = "COMMIT"

_PAGE_ROWS: Final = 2000
_PAGE_BYTES: Final = 4 << 20
#: Changes are sent before the commit when there are more bytes of them.
_MOST_PENDING: Final = 16 << 20
_OFFSET: Final = 1 << 63


class PostgresqlTransaction(Transaction):
    """A transaction of a `PostgresqlBackend` on a connection of its own.

    Changes are gathered and sent with the commit; what is read meanwhile is read through them.
    """

    def __init__(self, backend: PostgresqlBackend, connection: Connection, *, write: bool) -> None:
        self._backend = backend
        self._pool = backend.pool
        self._connection: Connection | None = connection
        self._write = write
        self._pending: dict[Table, dict[Key, bytes | None]] = {table: {} for table in TABLES}  # None: to be deleted
        self._pending_bytes = 0

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys; see `Transaction.get_many`."""
        connection = self._check()
        found: dict[Key, bytes | None] = {}
        pending = self._pending[table]
        asked = [key for key in keys if key not in pending] if pending else keys
        if len(asked) == 1:
            rows = self._pool.ask(connection, self._backend.sql(GET, table), _column(table, asked[0]))
            found[asked[0]] = rows[0][0] if rows else None
        elif asked:
            columns = [_column(table, key) for key in asked]
            rows = self._pool.ask(connection, self._backend.sql(GET_MANY, table), columns)
            found = {_key(table, column): row for column, row in rows}
        return [pending[key] if key in pending else found.get(key) for key in keys]

    def scan(self, table: Table, start: Key | None = None, stop: Key | None = None) -> Iterator[tuple[Key, Row]]:
        """Yield (key, row) in key order; see `Transaction.scan`."""
        self._send()
        # A key of int is bounded by those that there can be: one more wouldn't fit the column.
        last = stop
        if table in INT_TABLES:
            start, last = max(0, int(start or 0)), min((1 << 64 if stop is None else int(stop)) - 1, (1 << 64) - 1)
            if int(start) > int(last):
                return
        upper = {"key <= %b" if table in INT_TABLES else "key < %b": last}
        lower: dict[str, Key | None] = {"key >= %b": start}
        while True:
            bounds = {what: _column(table, key) for what, key in {**lower, **upper}.items() if key is not None}
            where = " AND ".join(bounds) or "true"
            statement = self._backend.sql(SCAN, table, where=where, rows=_PAGE_ROWS, bytes=_PAGE_BYTES)
            page = self._pool.ask(self._check(), statement, *bounds.values())
            if not page:
                return
            for column, row in page:
                self._check()  # it may have ended since the page came
                yield _key(table, column), row
            if len(page) < _PAGE_ROWS and sum(len(row) for _, row in page) < _PAGE_BYTES:
                return
            lower = {"key > %b": _key(table, page[-1][0])}

    def put_many(self, table: Table, items: Iterable[tuple[Key, bytes]]) -> None:
        """Store rows; see `Transaction.put_many`."""
        self._check_write()
        pending = self._pending[table]
        for key, row in items:
            if len(row) > LARGEST_ROW:
                message = f"{self._backend}: a row of {len(row)} bytes is larger than PostgreSQL takes (1 GB); keep it in parts"
                raise StorageError(message)
            if isinstance(key, str) and len(key.encode()) > LONGEST_NAME:
                message = (
                    f"{self._backend}: a key of {len(key.encode())} bytes in UTF-8 is longer than PostgreSQL's index takes"
                    f" ({LONGEST_NAME}): {key[:50]!r}...; use a shorter name"
                )
                raise StorageError(message)
            pending[key] = bytes(row)
            self._pending_bytes += len(row) + 50
            if self._pending_bytes > _MOST_PENDING:
                self._send()

    def delete_many(self, table: Table, keys: Iterable[Key]) -> None:
        """Remove rows; see `Transaction.delete_many`."""
        self._check_write()
        for key in keys:
            self._pending[table][key] = None
            self._pending_bytes += 50
        if self._pending_bytes > _MOST_PENDING:
            self._send()

    def empty(self, table: Table) -> None:
        """Remove all rows of a table."""
        self._pending[table].clear()
        self._pool.ask(self._check_write(), self._backend.sql(EMPTY, table))

    def commit(self) -> None:
        """Commit; see `Transaction.commit`."""
        connection = self._check()
        try:
            if self._write:
                self._pool.tell(connection, [*self._changes(), (COMMIT.encode(), ())], commit=True)
        finally:
            self.rollback()

    def rollback(self) -> None:
        """Drop the changes; see `Transaction.rollback`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection)

    def _send(self) -> None:
        """Send the changes gathered so far to the server."""
        changes = self._changes()
        if changes:
            self._pool.tell(self._check(), changes, commit=False)
            for pending in self._pending.values():
                pending.clear()
            self._pending_bytes = 0

    def _changes(self) -> list[Statement]:
        """Return the statements that make the changes gathered so far."""
        sql = self._backend.sql
        changes: list[Statement] = []
        for table, pending in self._pending.items():
            deleted = [_column(table, key) for key, row in pending.items() if row is None]
            if deleted:
                changes.append((sql(DELETE_MANY, table), (deleted,)))
            columns = {_column(table, key): row for key, row in pending.items() if row is not None}
            if len(columns) == 1:  # without the copies that an array takes: it may be a large one
                changes += [(sql(PUT, table), item) for item in columns.items()]
            elif columns:
                changes.append((sql(PUT_MANY, table), (list(columns), list(columns.values()))))
        return changes

    def _check(self) -> Connection:
        self._pool.check()
        if self._connection is None:
            message = "the transaction has ended; begin another"
            raise StoreClosed(message)
        return self._connection

    def _check_write(self) -> Connection:
        connection = self._check()
        if not self._write:
            message = "a read transaction can't change anything; begin it with write=True"
            raise ReadOnlyError(message)
        return connection


def _column(table: Table, key: Key) -> Any:
    return int(key) - _OFFSET if table in INT_TABLES else str(key).encode()


def _key(table: Table, column: Any) -> Key:
    return int(column) + _OFFSET if table in INT_TABLES else str(column, "utf-8")
