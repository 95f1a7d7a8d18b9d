"""The SQLite backend: one file, write-ahead logging, a commit is one durable transaction.

Each transaction has a connection of its own from a small pool, so a reader keeps its snapshot while the same process
writes; readers never wait for the writer nor the writer for readers (SQLite's WAL mode). The file carries an
`application_id`, by which it is recognised as a store.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import ClassVar, Final

from pstore.backends._disk import sync
from pstore.backends._sqlite_files import SIDES
from pstore.backends._sqlite_pool import Pool
from pstore.backends._sqlite_transaction import LARGEST_ROW, SqliteTransaction
from pstore.backends.base import TABLES, Backend, Capabilities
from pstore.errors import FormatError, ReadOnlyError, StorageError, StoreLocked, StoreNotFound

#: "pstr", big-endian, in SQLite's header at offset 68: says that the file is a store.
APPLICATION_ID: Final = 0x70737472
#: The layout of the tables, in SQLite's `user_version`.
LAYOUT: Final = 1

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
EMPTY: Final = "DELETE FROM {table}"
LOG_MODE: Final = "PRAGMA journal_mode = WAL"
EMPTY_LOG: Final = "PRAGMA wal_checkpoint(TRUNCATE)"
REWRITE: Final = ("PRAGMA temp_store = FILE", "VACUUM", "PRAGMA temp_store = MEMORY")
COPY: Final = "VACUUM INTO ?"


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
        StoreLocked: Another writer doesn't end.
        StorageError: The file can't be reached, or not as the flag says.
    """

    scheme: ClassVar[str] = "sqlite"
    capabilities: ClassVar[Capabilities] = Capabilities(backup=True, largest_row=LARGEST_ROW)

    def __init__(
        self, path: str | os.PathLike[str], flag: str = "c", *, durable: bool = True, timeout: float = 5.0
    ) -> None:
        self.path = Path(path).absolute()
        self.readonly = flag == "r"
        self._pool = Pool(self.path, readonly=self.readonly, durable=durable, timeout=timeout)
        with self._pool.translated():
            exists = self.path.exists()
            in_directory = self.path.parent.is_dir()
        if not exists and flag in "rw":
            message = f"there is no store at {self.path}; check the path, or make one with pstore.open(path, 'c')"
            raise StoreNotFound(message)
        if not in_directory:
            message = f"there is no directory {self.path.parent} to make a store in"
            raise StoreNotFound(message)
        try:
            with self._pool.translated():
                self._prepare(flag)
        except BaseException:
            self._pool.close()
            raise

    def __str__(self) -> str:
        return str(self.path)

    def begin(self, *, write: bool = False) -> SqliteTransaction:
        """Begin a transaction; see `Backend.begin`."""
        if write and self.readonly:
            message = f"{self.path} was opened for reading only; open it with flag 'w' to change it"
            raise ReadOnlyError(message)
        connection = self._pool.take()
        try:
            with self._pool.translated():
                self._pool.patiently(connection, lambda: _begin(connection, write=write))
            return SqliteTransaction(self._pool, connection, write=write)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:  # interrupted when it had begun
                    connection.execute("ROLLBACK")
            self._pool.give_back(connection)
            raise

    def close(self) -> None:
        """Close every connection; the last one of all processes folds the log into the file."""
        self._pool.close()

    def compact(self) -> None:
        """Rewrite the file without free pages and empty its log.

        That takes as much room again as the store has, for a while, and beside it.

        Raises:
            StoreLocked: Another transaction, even one that only reads, is open.
            ReadOnlyError: The store was opened for reading.
        """
        if self.readonly:
            message = f"{self.path} was opened for reading only; open it with flag 'w' to compact it"
            raise ReadOnlyError(message)
        connection = self._pool.take()
        try:
            with self._pool.translated():
                # First of all, as an old snapshot would keep the whole new file in the log, beside the old one.
                self._empty_log(connection)
                for statement in REWRITE:
                    self._pool.patiently(connection, lambda statement=statement: connection.execute(statement))  # type: ignore[misc]
                self._empty_log(connection)
        finally:
            self._pool.give_back(connection)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write the newest state to a new store, while others read and write.

        SQLite has two means. `VACUUM INTO` reads one snapshot row by row, so that damage in the store makes it fail, and
        leaves free pages out. The backup interface copies pages, damaged and free ones too, and begins anew when another
        process writes. So it is the first.

        Args:
            path: Where the copy goes; there must be nothing yet.

        Raises:
            StorageError: There is something already, or the copy can't be written.
            CorruptRecord: The store is damaged.
        """
        target = Path(path).absolute()
        # A log that was left behind there would be taken for the copy's.
        self._check_free(target)
        part = target.with_name(f"{target.name}.{os.urandom(4).hex()}.part")
        connection = self._pool.take()
        try:
            with self._pool.translated(f"{self.path}, being copied to {target},"):
                self._pool.patiently(connection, lambda: connection.execute(COPY, [str(part)]))
                _finish(part)
                self._check_free(target)
                part.rename(target)
                sync(target.parent)
        finally:
            self._pool.give_back(connection)
            for suffix in ("", *SIDES):
                with contextlib.suppress(OSError):
                    part.with_name(part.name + suffix).unlink()

    def stats(self) -> dict[str, int | str]:
        """Return the file's name, and the bytes of the file and of its log."""
        with self._pool.translated():
            size = self.path.stat().st_size
        return {"backend": self.scheme, "path": str(self.path), "bytes": size, "log_bytes": self._pool.log_size()}

    def _prepare(self, flag: str) -> None:
        connection = self._pool.create()
        try:
            self._pool.patiently(connection, lambda: self._recognise(connection, flag))
            if not self.readonly:
                # The mode is a property of the file, and can't be changed within a transaction. It is set again at each
                # opening, because a process may have been killed between the first commit and this.
                (mode,) = self._pool.patiently(connection, lambda: connection.execute(LOG_MODE).fetchone())
                if mode != "wal":
                    message = f"{self.path}: SQLite can't keep a write-ahead log here; put the store on a local disk"
                    raise StorageError(message)
        finally:
            self._pool.give_back(connection)

    def _recognise(self, connection: sqlite3.Connection, flag: str) -> None:
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
        if fresh and flag in "rw":
            message = f"{self.path} is empty: there is no store; make one with flag 'c', or restore it from a backup"
            raise FormatError(message)
        if not fresh and layout != LAYOUT:
            message = f"{self.path} has layout {layout}; this version of pstore reads layout {LAYOUT}: use a newer one"
            raise FormatError(message)
        if self.readonly:
            return
        if fresh:
            for statement in CREATE:
                connection.execute(statement)
        elif flag == "n":
            for table in TABLES:
                connection.execute(EMPTY.format(table=table))
        connection.execute("COMMIT")

    def _empty_log(self, connection: sqlite3.Connection) -> None:
        """Write what the log holds into the file."""

        def empty() -> None:
            (busy, _, _) = connection.execute(EMPTY_LOG).fetchone()
            if busy:  # which isn't an error to SQLite
                raise sqlite3.OperationalError("database is locked")

        try:
            self._pool.patiently(connection, empty)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            message = f"{self.path} can't be compacted while another transaction is open; end it, and try again"
            raise StoreLocked(message) from error

    def _check_free(self, target: Path) -> None:
        for suffix in ("", *SIDES):
            there = target.with_name(target.name + suffix)
            if os.path.lexists(there):
                message = (
                    f"{there} is there already; a backup goes to a path where nothing is: choose another, or remove it"
                )
                raise StorageError(message)


def _begin(connection: sqlite3.Connection, *, write: bool) -> None:
    if write:
        connection.execute("BEGIN IMMEDIATE")
    else:
        connection.execute("BEGIN")
        connection.execute(PIN_SNAPSHOT).fetchone()  # BEGIN alone doesn't fix what is seen


def _finish(part: Path) -> None:
    """Let a copy keep its log as the store does, so that its first readers don't stop its first writer; put it to disk."""
    connection = sqlite3.connect(part, isolation_level=None)
    try:
        connection.execute(LOG_MODE)
    finally:
        connection.close()
    with part.open("rb+") as file:
        os.fsync(file.fileno())
