"""The LMDB backend: one memory-mapped file, read without locks and, where rows are large, without copying them.

Each table is a named tree of its own. Integers are stored as eight bytes, most significant first; a text as its UTF-8 after
one byte, because LMDB takes no empty key. Beside the file stand `-lock` (LMDB's table of readers) and `-writer` (locks of
this backend). What LMDB asks of a process, and how the map grows, is in `_lmdb_environment`; what is looked at before a file is
mapped, in `_lmdb_file`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from pstore.backends import _sqlite_files
from pstore.backends._lmdb_environment import MAP_SIZE, Changes, open_environment, release_environment, sync_file
from pstore.backends._lmdb_file import check_file
from pstore.backends.base import INT_TABLES, TABLES, Backend, Capabilities, Key, Row, Table, Transaction
from pstore.errors import FormatError, ReadOnlyError, StorageError, StoreClosed, StoreNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pstore.backends._lmdb_environment import Environment, Snapshot

_LONGEST_KEY: Final = 511  # LMDB's, unless compiled otherwise
_TEXT: Final = b"="  # what stands before each text
_PAST_LAST: Final = 1 << 64
_FIRST_PAGE, _LARGEST_PAGE = 16, 1024  # rows that a scan reads ahead


class LmdbBackend(Backend):
    """A store in an LMDB file.

    Backends of one file in one process share LMDB's environment, whatever their flags.

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
    capabilities: ClassVar[Capabilities] = Capabilities(
        backup=True, longest_name=_LONGEST_KEY - len(_TEXT), largest_row=2**32 - 1
    )

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
            elif not self.environment.trees:
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
        self.environment.compact(self.timeout)

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
            sync_file(target.parent)
        except OSError as error:
            if linked:
                with contextlib.suppress(OSError):
                    target.unlink()
            if isinstance(error, StorageError):
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


class LmdbTransaction(Transaction):
    """A snapshot of an `LmdbBackend`, with the changes that a commit is to make to it."""

    def __init__(self, backend: LmdbBackend, snapshot: Snapshot, *, write: bool) -> None:
        self._backend = backend
        self._snapshot = snapshot
        self._write = write
        self._changes: Changes = {table: {} for table in TABLES}
        self._ending = threading.RLock()
        self._ended = False

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys; see `Transaction.get_many`. Large rows are views."""
        self._check()
        encoded = _encode_all(table, keys)
        if table not in INT_TABLES and any(len(key) > _LONGEST_KEY for key in encoded):
            short = [key for key in encoded if len(key) <= _LONGEST_KEY]
            rows = dict(zip(short, self._snapshot.get_many(table, short), strict=True))
            found = [rows.get(key) for key in encoded]
        else:
            found = self._snapshot.get_many(table, encoded)
        changes = self._changes[table]
        if not changes:
            return found
        return [changes.get(key, row) for key, row in zip(encoded, found, strict=True)]

    def scan(self, table: Table, start: Key | None = None, stop: Key | None = None) -> Iterator[tuple[Key, Row]]:
        """Yield (key, row) in key order; see `Transaction.scan`."""
        self._check()
        low = b"" if start is None else _bound(table, start)
        high = None if stop is None else _bound(table, stop)
        changes = self._changes[table]
        changed = sorted(key for key in changes if low <= key and (high is None or key < high)) if changes else []
        at, size = 0, _FIRST_PAGE
        decode = _DECODE[table]
        for key, row in self._rows(table, low, high, size):
            while at < len(changed) and changed[at] < key:
                if (new := changes[changed[at]]) is not None:
                    yield decode(changed[at]), new
                at += 1
            if key in changes:
                continue  # it comes, or goes, with the changes
            yield decode(key), row
        for key in changed[at:]:
            if (new := changes[key]) is not None:
                yield decode(key), new

    def put_many(self, table: Table, items: Iterable[tuple[Key, bytes]]) -> None:
        """Store rows; see `Transaction.put_many`."""
        self._check_write()
        changes, most = self._changes[table], self._backend.capabilities.largest_row or 0
        for key, row in items:
            encoded = _encode(table, key)
            if len(encoded) > _LONGEST_KEY:
                size = len(encoded) - len(_TEXT)
                message = (
                    f"{self._backend}: the name {str(key)[:40]!r}... has {size} bytes in UTF-8, and LMDB takes "
                    f"{self._backend.capabilities.longest_name}; choose a shorter one, or keep the object in a dict"
                )
                raise StorageError(message)
            if len(row) > most:
                message = (
                    f"{self._backend}: a row of {len(row)} bytes is more than LMDB takes ({most}); keep it in parts"
                )
                raise StorageError(message)
            changes[encoded] = bytes(row)

    def delete_many(self, table: Table, keys: Iterable[Key]) -> None:
        """Remove rows; see `Transaction.delete_many`."""
        self._check_write()
        self._changes[table].update((key, None) for key in _encode_all(table, keys) if len(key) <= _LONGEST_KEY)

    def commit(self) -> None:
        """Commit; see `Transaction.commit`."""
        self._check()
        with self._ending:
            self._check()
            try:
                if any(self._changes.values()):
                    self._backend.environment.commit(self._snapshot, self._changes, self._backend.timeout)
            finally:
                self.rollback()

    def rollback(self) -> None:
        """Drop the changes; see `Transaction.rollback`."""
        with self._ending:
            if self._ended:
                return
            self._ended = True
            environment = self._backend.environment
            environment.end(self._snapshot)
            if self._write:
                environment.unlock_writer()
            self._changes = {table: {} for table in TABLES}
            self._backend.forget(self)

    def _rows(self, table: Table, low: bytes, high: bytes | None, size: int) -> Iterator[tuple[bytes, Row]]:
        while True:
            self._check()
            page = self._snapshot.page(table, low, high, size)
            for item in page:
                yield item
                if self._ended or self._backend.environment.forked:
                    self._check()
            if not page:
                return
            low, size = page[-1][0] + b"\0", min(4 * size, _LARGEST_PAGE)

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


def _encode(table: Table, key: Key) -> bytes:
    return int(key).to_bytes(8, "big") if table in INT_TABLES else _TEXT + str(key).encode()


def _bound(table: Table, key: Key) -> bytes:
    """Return where a bound stands among the encoded keys, one past the last key included."""
    if table in INT_TABLES and int(key) >= _PAST_LAST:
        return b"\xff" * 9
    return _encode(table, key)


def _encode_all(table: Table, keys: Iterable[Key]) -> list[bytes]:
    if table in INT_TABLES:
        return [int(key).to_bytes(8, "big") for key in keys]
    return [_TEXT + str(key).encode() for key in keys]


def _decode_int(key: bytes) -> Key:
    return int.from_bytes(key, "big")


def _decode_text(key: bytes) -> Key:
    return key[len(_TEXT) :].decode()


_DECODE: Final = {table: _decode_int if table in INT_TABLES else _decode_text for table in TABLES}
