"""The connections of one process to one SQLite file: opened when they are needed, kept for the next transaction.

Here it stands how SQLite is set, how long somebody waits for others, and what its errors mean. This module knows
nothing of tables.

SQLite's own wait asks again at growing distances, of 100 ms in the end. Where several processes commit all the time, the
store is free for far shorter than that between two of them, and who has waited long has the worst chances. So SQLite is
told not to wait at all, and asked again here after a few milliseconds, always the same and by chance: everybody who waits
has the same chances, however long ago they came.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final, TypeVar

from pstore.backends import _sqlite_files, _sqlite_log
from pstore.errors import (
    CorruptRecord,
    Error,
    FormatError,
    ReadOnlyError,
    StorageError,
    StoreClosed,
    StoreLocked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

SETTINGS: Final = (
    "PRAGMA synchronous = {synchronous}",
    "PRAGMA temp_store = MEMORY",
    # The file may come from anywhere: what its schema defines runs no function, and a damaged page is noticed.
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)

#: The bounds between which a pause lies before the store is asked for again, in seconds.
_PAUSE: Final = (0.0005, 0.005)
#: What SQLite says where somebody else has the lock; texts, as Python 3.10 tells no error code (SQLite's `sqlite3ErrStr`).
_BUSY: Final = ("locked", "busy", "locking protocol")
#: ... and where the file can't be what we have written, though it is SQLite's.
_DAMAGED: Final = (
    "malformed",
    "no such table",
    "no such column",
    "has no column",
    "columns but",
    "constraint failed",
    "unsupported file format",
    "decode to UTF-8",
    "cannot open value",
)


class Pool:
    """The connections to a file.

    Args:
        path: The file; absolute.
        readonly: Whether they may only read.
        durable: Whether a commit waits until the disk has it.
        timeout: How long to wait for others, in seconds.

    Attributes:
        forked: Whether this process was forked from the one that has opened them.
    """

    def __init__(self, path: Path, *, readonly: bool, durable: bool, timeout: float) -> None:
        self.path = path
        self.readonly = readonly
        self.durable = durable
        self.timeout = timeout
        self.forked = False
        self._guard = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._open: set[sqlite3.Connection] = set()
        self._closed = False
        self._file: _sqlite_files.Identity | None = None
        _pools.add(self)

    def create(self) -> sqlite3.Connection:
        """Open the first connection, which makes the file where there is none; no other file is taken for it from now on.

        Raises:
            CorruptRecord: The log has lost commits.
        """
        with _sqlite_files.guard:
            # Who doesn't wait for the disk has agreed to lose the last commits when the machine crashes.
            if self.durable and not _sqlite_files.is_open(self.path):
                _sqlite_log.check(self.path)
            connection = self._connect("ro" if self.readonly else "rwc")
            self._file = _sqlite_files.identify(self.path)
            _sqlite_files.enter(self._file)
        return connection

    def take(self) -> sqlite3.Connection:
        """Return a connection of one's own, for a transaction.

        Raises:
            StoreClosed: They were closed, or belong to another process.
            StorageError: The file isn't there any more, or it is another one.
        """
        self.check_process()
        if self._closed:
            raise StoreClosed(f"{self.path} is closed")
        self._check_file()
        with self._guard:
            if self._idle:
                return self._idle.pop()
        with self.translated():
            return self._connect("ro" if self.readonly else "rw")

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Take back a connection whose transaction has ended."""
        with self._guard:
            if self._closed and not self.forked:
                connection.close()
            elif not self.forked:
                self._idle.append(connection)

    def close(self) -> None:
        """Close every connection; the last one of all processes folds the log into the file."""
        with self._guard:
            if self._closed or self.forked:
                self._closed = True
                return
            self._closed = True
            connections, self._open, self._idle = list(self._open), set(), []
        try:
            if _sqlite_files.identify(self.path) not in (self._file, None):
                # SQLite would delete the log by its name, and that is the other file's.
                _abandoned.extend(connections)
                return
            with self.translated():
                for connection in connections:
                    connection.close()
        finally:
            _sqlite_files.leave(self._file)

    def abandon(self) -> None:
        """Leave the connections to the process that this one was forked from: SQLite allows not even to close them."""
        self.forked = True
        self._guard = threading.Lock()  # which another thread may have held
        _abandoned.extend(self._open)
        self._open, self._idle = set(), []

    def check_process(self) -> None:
        """Raise StoreClosed in a process that was forked since the store was opened."""
        if self.forked:
            raise StoreClosed(f"{self.path} was opened before this process was forked; open it again in this process")

    def patiently(self, connection: sqlite3.Connection, action: Callable[[], T]) -> T:
        """Call a function that may meet others, until they are out of its way or the time is over; return its result.

        What it has begun on the connection is rolled back before it is called again, and where it fails.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return action()
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                busy = isinstance(error, sqlite3.Error) and any(text in str(error) for text in _BUSY)
                if not busy or time.monotonic() >= deadline:
                    raise
            time.sleep(random.uniform(*_PAUSE))  # noqa: S311  # no secret

    @contextlib.contextmanager
    def translated(self, where: str = "") -> Iterator[None]:
        """Turn errors of SQLite and of the system into ours.

        Args:
            where: What failed, to begin a message with; the path where nothing is given.
        """
        try:
            yield
        except sqlite3.Error as error:
            raise self._translate(str(error), where or str(self.path)) from error
        except UnicodeDecodeError as error:  # the module can't make a text of SQLite's message, which quotes the file
            raise self._translate("malformed", where or str(self.path)) from error
        except OSError as error:
            if isinstance(error, Error):
                raise
            raise StorageError(f"{where or self.path}: {error.strerror}") from error

    def log_size(self) -> int:
        """Return the size of the write-ahead log, 0 where there is none."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            return 0

    def _translate(self, text: str, where: str) -> Error:
        if any(part in text for part in _BUSY):
            return StoreLocked(
                f"{where}: another writer held the store for more than {self.timeout:g} s; try again later, or open it with a"
                " longer timeout"
            )
        if "not a database" in text:
            return FormatError(f"{where} is not a pstore store, or its beginning is damaged: {text}")
        if any(part in text for part in _DAMAGED):
            return CorruptRecord(f"{where} is damaged: {text}; restore it from a backup")
        if "readonly" in text:
            return ReadOnlyError(f"{where} can't be written: {text}; see who may write the file and its directory")
        if "unable to open" in text:
            return StorageError(
                f"{where} can't be opened: SQLite needs to read it, and to write it and beside it ({text}); see who may do so"
            )
        if "full" in text:
            return StorageError(
                f"{where}: there is no room on the disk, so nothing was stored ({text}); make room and try again"
            )
        if "I/O" in text:
            return StorageError(
                f"{where} can't be read or written: {text}; nothing of the transaction was stored; see whether the disk is"
                " failing (the system's log tells), and try again"
            )
        if "too big" in text or "string longer" in text:
            return StorageError(f"{where}: a row is larger than SQLite takes (1 GB): {text}; keep it in parts")
        if "closed" in text:
            return StoreClosed(f"{where} is closed")
        return StorageError(f"{where}: SQLite says: {text}")

    def _check_file(self) -> None:
        """Raise StorageError where the file isn't there any more, or another is: what was written now would be lost."""
        found = _sqlite_files.identify(self.path)
        if found != self._file:
            what = "isn't there any more" if found is None else "was replaced by another file"
            raise StorageError(f"{self.path} {what} since it was opened here; close the store and open it again")

    def _is_at_rest(self) -> bool:
        """Return whether nobody can be writing: the directory is read-only, and there is no log with commits in it.

        SQLite needs a file beside the store to share the log; where it can't make one, it has to be told so.
        """
        return not os.access(self.path.parent, os.W_OK) and not self.log_size()

    def _connect(self, mode: str) -> sqlite3.Connection:
        if self.readonly and self._is_at_rest():
            mode += "&immutable=1"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=0,  # who waits, waits in `patiently`
            isolation_level=None,  # BEGIN and COMMIT are ours
            check_same_thread=False,  # a transaction is used by one thread at a time; the pool is guarded
        )
        try:
            for template in SETTINGS:
                statement = template.format(synchronous="FULL" if self.durable else "NORMAL")
                self.patiently(connection, lambda statement=statement: connection.execute(statement))  # type: ignore[misc]
        except BaseException:
            connection.close()
            raise
        with self._guard:
            self._open.add(connection)
            if not self._closed:
                return connection
        connection.close()  # closed by another thread meanwhile
        raise StoreClosed(f"{self.path} is closed")


_pools: Final[weakref.WeakSet[Pool]] = weakref.WeakSet()
_abandoned: Final[list[sqlite3.Connection]] = []


def _after_fork() -> None:
    _sqlite_files.forget()
    for pool in list(_pools):
        pool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
