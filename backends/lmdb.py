"""The LMDB backend: one memory-mapped file, read without locks and, where rows are large, without copying them.

Beside the file stand `-lock` (LMDB's table of readers) and `-writer` (locks of this backend). What is looked at before a file
is mapped is in `_lmdb_file`; what LMDB asks of a process, in `_lmdb_registry` and `_lmdb_environment`; how the map grows under
those who read, in `_lmdb_snapshots`. This module never meets LMDB itself.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pstore.backends import _sqlite_files
from pstore.backends._disk import sync
from pstore.backends._lmdb_file import check_file
from pstore.backends._lmdb_map import MAP_SIZE
from pstore.backends._lmdb_registry import compact_environment, open_environment, release_environment
from pstore.backends._lmdb_transaction import LARGEST_ROW, LONGEST_NAME, LmdbTransaction
from pstore.backends.base import Backend, Capabilities
from pstore.errors import Error, FormatError, ReadOnlyError, StorageError, StoreClosed, StoreNotFound

if TYPE_CHECKING:
    from pstore.backends._lmdb_environment import Environment


class LmdbBackend(Backend):
    """A store in an LMDB file.

    Backends of one file in one process share LMDB's environment, whatever their flags.

    Who reads needs the right to write beside the file, as LMDB has it note there what it reads. Without, no writer is let in
    as long as it is open. Where `-writer` is missing too (a copy that was never opened for writing), a writer that comes
    meanwhile isn't noticed, and what is read may be wrong.

    Args:
        path: The file.
        flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing file, "n" starts empty.
        durable: Whether a commit waits until the disk has it. Without (LMDB's `MDB_NOMETASYNC`), a crash of the machine, not
            of the process, may lose the last commit, never half of one. Where one in this process asks for it, all get it.
        timeout: How long a writer waits for another, and whoever needs a larger map for those who read, in seconds.
        map_size: The size of the map to begin with, in bytes: of addresses, not of memory nor of the disk. It grows.
        check: Whether to follow all pages of the file before it is mapped; None does so for small files. LMDB trusts what
            it reads, so that a damaged file that wasn't checked may end the process.

    Raises:
        StoreNotFound: The file is missing and the flag says not to make one.
        FormatError: The file is something else than a store.
        CorruptRecord: The file is damaged.
        StorageError: The package `lmdb` is missing, or the file can't be opened.
    """

    scheme: ClassVar[str] = "lmdb"
    capabilities: ClassVar[Capabilities] = Capabilities(backup=True, longest_name=LONGEST_NAME, largest_row=LARGEST_ROW)

    def __init__(
        self,
        path: str | os.PathLike[str],
        flag: str = "c",
        *,
        durable: bool = True,
        timeout: float = 5.0,
        map_size: int = MAP_SIZE,
        check: bool | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.readonly = flag == "r"
        self.timeout = min(timeout, threading.TIMEOUT_MAX)
        self._guard = threading.Lock()
        self._transactions: set[LmdbTransaction] = set()
        self._closed = True
        _look_for(self.path, flag)
        self.environment: Environment = open_environment(
            Path(os.path.realpath(self.path)),
            readonly=self.readonly,
            durable=durable,
            map_size=map_size,
            timeout=self.timeout,
            walk=check,
        )
        self._closed = False
        try:
            if not self.readonly:
                self.environment.prepare(empty=flag == "n", timeout=self.timeout)
            elif not self.environment.is_store:
                message = f"{self.path} is empty: there is no store to read"
                raise FormatError(message)
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.path)

    def begin(self, *, write: bool = False) -> LmdbTransaction:
        """Begin a transaction; see `Backend.begin`."""
        self.check()
        if write and self.readonly:
            message = f"{self.path} was opened for reading only; open it with flag 'w' to change it"
            raise ReadOnlyError(message)
        if write:
            self.environment.lock_writer(self.timeout)
        try:
            transaction = LmdbTransaction(self, self.environment.snapshot(self.timeout), write=write)
            with self._guard:
                self._transactions.add(transaction)
        except BaseException:
            if write:
                self.environment.unlock_writer()
            raise
        return transaction

    def close(self) -> None:
        """End every transaction; the last one in this process unmaps the file."""
        with self._guard:
            closed, self._closed = self._closed, True
            transactions = list(self._transactions)
        if closed or self.environment.forked:
            return
        for transaction in transactions:
            transaction.rollback()
        release_environment(self.environment)

    def compact(self) -> None:
        """Replace the file by one without free pages.

        Raises:
            StoreLocked: Another process has the store open, or a transaction of this one is open.
        """
        self.check()
        if self.readonly:
            message = f"{self.path} was opened for reading only; open it with flag 'w' to compact it"
            raise ReadOnlyError(message)
        compact_environment(self.environment, self.timeout)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write the newest state to a new file, without free pages; see `Backend.backup`."""
        self.check()
        target = Path(path).absolute()
        temporary = target.with_name(f"{target.name}.{os.getpid()}-partial")
        if os.path.lexists(target):
            message = f"{target} exists; a backup goes to a new file"
            raise StorageError(message)
        linked = False
        try:
            self.environment.copy(os.fspath(temporary))
            os.link(temporary, target)  # unlike a rename this replaces nothing
            linked = True
            sync(target.parent)
        except OSError as error:
            if linked:
                with contextlib.suppress(OSError):
                    target.unlink()
            if isinstance(error, Error):
                raise
            message = f"the backup {target} can't be written: {error.strerror}"
            raise StorageError(message) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def stats(self) -> dict[str, int | str]:
        """Return the file's name, the bytes of the file, of what is in use of it and of its map, and the rows and readers."""
        self.check()
        return {"backend": self.scheme, "path": str(self.path), **self.environment.facts()}

    def check(self) -> None:
        """Raise StoreClosed when this was closed, or the process was forked since."""
        if self.environment.forked:
            message = f"{self.path} was opened before this process was forked; open it again in this process"
            raise StoreClosed(message)
        if self._closed:
            message = f"{self.path} is closed"
            raise StoreClosed(message)

    def forget(self, transaction: LmdbTransaction) -> None:
        """A transaction has ended."""
        with self._guard:
            self._transactions.discard(transaction)


def _look_for(path: Path, flag: str) -> None:
    """Find out that there can be a store at a path, before anything is made there."""
    try:
        exists, is_directory = path.exists(), path.is_dir()
    except OSError as error:
        message = f"{path} can't be reached: {error.strerror}"
        raise StorageError(message) from error
    if is_directory:
        message = f"{path} is a directory; a store is a file"
        raise FormatError(message)
    if exists:
        with _sqlite_files.guard:  # reading the beginning of a file that SQLite has open takes its locks away
            if _sqlite_files.is_open(path):
                message = f"{path} is open as an SQLite store; choose another path"
                raise FormatError(message)
            check_file(path, walk=False)
    elif flag in "rw":
        message = f"there is no store at {path}; check the path, or make one with pstore.open(path, 'c')"
        raise StoreNotFound(message)
    elif not path.parent.is_dir():
        message = f"there is no directory {path.parent} to make a store in"
        raise StoreNotFound(message)
