"""A transaction of the LMDB backend: a snapshot, and over it the changes that a commit is to make.

Each table is a named tree of its own. Integers are stored as eight bytes, most significant first; a text as its UTF-8 after
one byte, because LMDB takes no empty key. This module knows nothing of LMDB itself but the length of its keys and rows.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pstore.backends.base import INT_TABLES, TABLES, Key, Row, Table, Transaction
from pstore.errors import ReadOnlyError, StorageError, StoreClosed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pstore.backends._lmdb_map import Changes
    from pstore.backends._lmdb_snapshots import Snapshot
    from pstore.backends.lmdb import LmdbBackend

_TEXT: Final = b"="  # what stands before each text
_LONGEST_KEY: Final = 511  # LMDB's, unless compiled otherwise
#: The most bytes of a name in UTF-8, and of a row.
LONGEST_NAME: Final = _LONGEST_KEY - len(_TEXT)
LARGEST_ROW: Final = 2**32 - 1

_PAST_LAST: Final = 1 << 64
_FIRST_PAGE, _LARGEST_PAGE = 16, 1024  # rows that a scan reads ahead


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
        changes = self._changes[table]
        for key, row in items:
            encoded = _encode(table, key)
            if len(encoded) > _LONGEST_KEY:
                size = len(encoded) - len(_TEXT)
                message = (
                    f"{self._backend}: the name {str(key)[:40]!r}... has {size} bytes in UTF-8, and LMDB takes "
                    f"{LONGEST_NAME}; choose a shorter one, or keep the object in a dict"
                )
                raise StorageError(message)
            if len(row) > LARGEST_ROW:
                message = f"{self._backend}: a row of {len(row)} bytes is more than LMDB takes ({LARGEST_ROW}); keep it in parts"
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
