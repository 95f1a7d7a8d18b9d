"""The SQLite backend: one file, write-ahead logging, a commit is one durable transaction.

Each transaction has a connection of its own from a small pool, so a reader keeps its snapshot while the same process
writes; readers never wait for the writer nor the writer for readers (SQLite's WAL mode). The file carries an
`application_id`, by which it is recognised as a store.

SQLite's integers are signed: keys from 2**63 on are stored as their two's complement.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from pstore.backends.base import INT_TABLES, Backend, Capabilities, Key, Row, Table, Transaction
from pstore.errors import (
    CorruptRecord,
    Error,
    FormatError,
    ReadOnlyError,
    StorageError,
    StoreClosed,
    StoreLocked,
    StoreNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: "pstr", big-endian, in SQLite's header at offset 68: says that the file is a store.
APPLICATION_ID: Final = 0x70737472
#: The layout of the tables, in SQLite's `user_version`.
LAYOUT: Final = 1
#: The first bytes of every SQLite file.
MAGIC: Final = b"SQLite format 3\0"

CREATE: Final = (
    "CREATE TABLE records (key INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE names (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE log (key INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {LAYOUT}",
)
COUNT_TABLES: Final = "SELECT count(*) FROM sqlite_master"
PIN_SNAPSHOT: Final = "SELECT 1 FROM meta LIMIT 1"
GET: Final = "SELECT value FROM {table} WHERE key = ?"
GET_MANY: Final = "SELECT key, value FROM {table} WHERE key IN ({marks})"
PUT: Final = "INSERT INTO {table} VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
DELETE: Final = "DELETE FROM {table} WHERE key = ?"
SCAN: Final = "SELECT key, value FROM {table} WHERE {where} ORDER BY key"
EMPTY: Final = "DELETE FROM {table}"

_BATCH: Final = 500  # parameters a statement; SQLite before 3.32 takes 999 at the most
_SIGN: Final = 1 << 63


class SqliteBackend(Backend):
    """A store in an SQLite file.

    Args:
        path: The file.
        flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing file, "n" starts empty.
        durable: Whether a commit waits until the disk has it (SQLite's `synchronous = FULL`). Without (`NORMAL`), a crash of
            the machine, not of the process, may lose the last commits, never half of one.
        timeout: How long a writer waits for another, in seconds.

    Raises:
        StoreNotFound: The file is missing and the flag says not to make one.
        FormatError: The file is something else than a store.
    """

    scheme: ClassVar[str] = "sqlite"
    capabilities: ClassVar[Capabilities] = Capabilities(largest_row=10**9)

    def __init__(
        self, path: str | os.PathLike[str], flag: str = "c", *, durable: bool = True, timeout: float = 5.0
    ) -> None:
        self.path = Path(path).absolute()
        self.readonly = flag == "r"
        self._durable = durable
        self._timeout = timeout
        self.forked = False
        _backends.add(self)
        self._guard = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._open: set[sqlite3.Connection] = set()
        self._closed = False
        try:
            exists = self.path.exists()
        except OSError as error:
            message = f"{self.path} can't be reached: {error.strerror}"
            raise StorageError(message) from error
        if not exists and flag in "rw":
            message = f"there is no store at {self.path}; check the path, or make one with pstore.open(path, 'c')"
            raise StoreNotFound(message)
        if not exists and not self.path.parent.is_dir():
            message = f"there is no directory {self.path.parent} to make a store in"
            raise StoreNotFound(message)
        try:
            with self.translated():
                self._prepare(start_empty=flag == "n")
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.path)

    def begin(self, *, write: bool = False) -> SqliteTransaction:
        """Begin a transaction; see `Backend.begin`."""
        if write and self.readonly:
            message = f"{self.path} was opened for reading only; open it with flag 'w' to change it"
            raise ReadOnlyError(message)
        connection = self._take()
        try:
            with self.translated():
                if write:
                    connection.execute("BEGIN IMMEDIATE")
                else:
                    connection.execute("BEGIN")
                    connection.execute(PIN_SNAPSHOT).fetchone()  # BEGIN alone doesn't fix what is seen
        except BaseException:
            self.give_back(connection)
            raise
        return SqliteTransaction(self, connection, write=write)

    def close(self) -> None:
        """Close every connection; the last one of all processes folds the log into the file."""
        with self._guard:
            self._closed = True
            connections, self._open, self._idle = list(self._open), set(), []
        for connection in connections:
            connection.close()

    def compact(self) -> None:
        """Rewrite the file without free pages and empty its log.

        Raises:
            StoreLocked: Another transaction is open.
        """
        connection = self._take()
        try:
            with self.translated():
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self.give_back(connection)

    def stats(self) -> dict[str, int | str]:
        """Return the file's name, and the bytes of the file and of its log."""
        return {
            "backend": self.scheme,
            "path": str(self.path),
            "bytes": self.path.stat().st_size,
            "log_bytes": self._log_size(),
        }

    def check_process(self) -> None:
        """Raise StoreClosed in a process that was forked since the store was opened."""
        if self.forked:
            message = f"{self.path} was opened before this process was forked; open it again in this process"
            raise StoreClosed(message)

    def abandon(self) -> None:
        """Leave the connections to the process that this one was forked from: SQLite allows not even to close them."""
        self.forked = True
        self._guard = threading.Lock()  # which another thread may have held
        _abandoned.extend(self._open)
        self._open, self._idle = set(), []

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Take back a connection whose transaction has ended."""
        with self._guard:
            if self._closed and not self.forked:
                connection.close()
            elif not self.forked:
                self._idle.append(connection)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: sqlite3.Error) -> Error:
        # Python 3.10 tells no error code: the texts are those of SQLite's sqlite3ErrStr.
        text = str(error)
        if "locked" in text or "busy" in text:
            return StoreLocked(
                f"{self.path}: another writer held the store for more than {self._timeout} s; try again later"
            )
        if "not a database" in text:
            return FormatError(f"{self.path} is not a pstore store: {text}")
        if "malformed" in text:
            return CorruptRecord(f"{self.path} is damaged: {text}; restore it from a backup")
        if "readonly" in text:
            return ReadOnlyError(f"{self.path} can't be written: {text}")
        if "unable to open" in text:
            return StorageError(
                f"{self.path} can't be opened: SQLite needs to read it, and to write beside it ({text})"
            )
        if "too big" in text or "string longer" in text:
            return StorageError(f"{self.path}: a record is larger than SQLite takes (1 GB): {text}; keep it in parts")
        if "closed" in text:
            return StoreClosed(f"{self.path} is closed")
        return StorageError(f"{self.path}: SQLite says: {text}")

    def _prepare(self, *, start_empty: bool) -> None:
        connection = self._connect()
        try:
            self._recognise(connection, start_empty=start_empty)
        finally:
            self.give_back(connection)

    def _recognise(self, connection: sqlite3.Connection, *, start_empty: bool) -> None:
        """Make the tables in an empty file; refuse a file that holds something else."""
        if not self.readonly:
            connection.execute("BEGIN IMMEDIATE")  # of two that make the same store at once, one waits
        (count,) = connection.execute(COUNT_TABLES).fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        fresh = count == 0 and application_id == 0
        if not fresh and application_id != APPLICATION_ID:
            message = f"{self.path} is an SQLite file, but not a pstore store; choose another path"
            raise FormatError(message)
        if fresh and self.readonly:
            message = f"{self.path} is empty: there is no store to read"
            raise FormatError(message)
        if not fresh and layout != LAYOUT:
            message = f"{self.path} has layout {layout}; this version of pstore reads layout {LAYOUT}: use a newer one"
            raise FormatError(message)
        if self.readonly:
            return
        if fresh:
            for statement in CREATE:
                connection.execute(statement)
        elif start_empty:
            for table in ("records", "names", "log", "meta"):
                connection.execute(EMPTY.format(table=table))
        connection.execute("COMMIT")
        # The mode is a property of the file, and can't be changed within a transaction. It is set again at each opening,
        # because a process may have been killed between the commit above and this.
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            message = f"{self.path}: SQLite can't keep a write-ahead log here; put the store on a local disk"
            raise StorageError(message)

    def _take(self) -> sqlite3.Connection:
        self.check_process()
        with self._guard:
            if self._closed:
                message = f"{self.path} is closed"
                raise StoreClosed(message)
            if self._idle:
                return self._idle.pop()
        with self.translated():
            return self._connect()

    def _is_at_rest(self) -> bool:
        """Return whether nobody can be writing: the directory is read-only, and there is no log with commits in it.

        SQLite needs a file beside the store to share the log; where it can't make one, it has to be told so.
        """
        return not os.access(self.path.parent, os.W_OK) and not self._log_size()

    def _log_size(self) -> int:
        log = self.path.with_name(self.path.name + "-wal")
        return log.stat().st_size if log.exists() else 0

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self.readonly else "rwc"
        if self.readonly and self._is_at_rest():
            mode += "&immutable=1"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,  # BEGIN and COMMIT are ours
            check_same_thread=False,  # a transaction is used by one thread at a time; the pool is guarded
        )
        with self._guard:
            self._open.add(connection)
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        connection.execute("PRAGMA temp_store = MEMORY")
        # The file may come from anywhere: what its schema defines runs no function, and a damaged page is noticed.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        return connection


class SqliteTransaction(Transaction):
    """A transaction of a `SqliteBackend` on a connection of its own."""

    def __init__(self, backend: SqliteBackend, connection: sqlite3.Connection, *, write: bool) -> None:
        self._backend = backend
        self._connection: sqlite3.Connection | None = connection
        self._write = write
        self._scans: set[sqlite3.Cursor] = set()

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys; see `Transaction.get_many`."""
        connection = self._check()
        columns = _to_columns(table, keys)
        with self._backend.translated():
            if len(columns) == 1:
                row = connection.execute(GET.format(table=table), columns).fetchone()
                return [row[0] if row else None]
            found: dict[Key, bytes] = {}
            for at in range(0, len(columns), _BATCH):
                batch = columns[at : at + _BATCH]
                found.update(connection.execute(GET_MANY.format(table=table, marks=",".join("?" * len(batch))), batch))
        return [found.get(column) for column in columns]

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
        if table in INT_TABLES:
            items = ((_signed(key), row) for key, row in items)
        with self._backend.translated():
            connection.executemany(PUT.format(table=table), items)

    def delete_many(self, table: Table, keys: Iterable[Key]) -> None:
        """Remove rows; see `Transaction.delete_many`."""
        connection = self._check_write()
        with self._backend.translated():
            connection.executemany(DELETE.format(table=table), [(column,) for column in _to_columns(table, keys)])

    def commit(self) -> None:
        """Commit; see `Transaction.commit`."""
        connection = self._check()
        try:
            with self._backend.translated():
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
            if not self._backend.forked and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._end()

    def _scan_part(
        self, table: Table, start: Key | None, stop: Key | None, *, last_included: bool = False
    ) -> Iterator[tuple[Key, Row]]:
        connection = self._check()
        conditions = {"key >= ?": start, f"key {'<=' if last_included else '<'} ?": stop}
        conditions = {condition: bound for condition, bound in conditions.items() if bound is not None}
        where = " AND ".join(conditions) or "1"
        with self._backend.translated():
            cursor = connection.execute(SCAN.format(table=table, where=where), list(conditions.values()))
            self._scans.add(cursor)
            for row in cursor:
                yield row
                self._check()
            self._scans.discard(cursor)

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not self._backend.forked:
            with contextlib.suppress(sqlite3.Error):  # the connection was closed
                for cursor in self._scans:  # one that was left halfway would keep its snapshot beyond the COMMIT
                    cursor.close()
        self._backend.give_back(connection)

    def _check(self) -> sqlite3.Connection:
        self._backend.check_process()
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


_backends: Final[weakref.WeakSet[SqliteBackend]] = weakref.WeakSet()
_abandoned: Final[list[sqlite3.Connection]] = []


def _after_fork() -> None:
    for backend in list(_backends):
        backend.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
