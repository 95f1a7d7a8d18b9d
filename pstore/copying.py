"""`pstore.copy`: the rows of a whole store, from any backend to any other, as one snapshot has them.

Rows are copied as they are, in transactions of bounded size, and read back when all are there. The counters come last, so
the target is no store before it is whole; until then a row of its own (`rows.COPY`) says of which store it is a copy.
What was interrupted is gone on with by comparing: what is there and equal to the source is left, what isn't is written,
and what the source doesn't have (any more) is removed. So it doesn't matter where it was interrupted, nor what others
have committed to the source since: the copy is that of the last snapshot.

This module knows rows and their seals, and where they stand; it knows nothing of objects.
"""

from __future__ import annotations

import os
import struct
from collections.abc import MutableMapping
from contextlib import ExitStack
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from pstore import rows
from pstore.backends import Backend, MappingBackend, open_backend
from pstore.backends.base import STR_TABLES
from pstore.errors import CommitUncertain, CorruptRecord, FormatError, StorageError
from pstore.keys import MAX_KEY, code_of, make_key, serial_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pstore.backends.base import Key, Row, Table, Transaction

#: The least first, so that a name that the target doesn't take is met early.
_ORDER: Final[tuple[Table, ...]] = ("names", "meta", "log", "records")
_PLACES: Final[dict[Table, Callable[[Any], bytes]]] = {
    "names": rows.name_place,
    "meta": rows.meta_place,
    "log": rows.log_place,
    "records": rows.record_place,
}
#: The rows of the table `meta` that belong to one store and aren't copied with the rest.
_OWN: Final = ("head", "id", rows.COPY)

#: The most rows of a transaction, and the bytes with which it is full.
_MOST_ROWS: Final = 1000
_MOST_BYTES: Final = 4 * 1024 * 1024


#: The row `copy`: the id of the store that is copied, and 16 bytes by which a call knows that no other has begun since.
_MARK: Final = struct.Struct("<16s16s")


class Progress(NamedTuple):
    """How far a copy is.

    Attributes:
        rows: How many rows of the source are in the target.
        bytes: How many bytes they have.
        verified: How many were read back from the target.
        total: How many there are; None until all are in the target.
    """

    rows: int
    bytes: int
    verified: int
    total: int | None


class Copied(NamedTuple):
    """What a copy is.

    Attributes:
        revision: The number of the newest commit in it.
        rows: How many rows it has, those of all tables.
        bytes: How many bytes they have.
        written: How many of them had to be written; fewer, where an unfinished copy had others already.
    """

    revision: int
    rows: int
    bytes: int
    written: int


class OpenStore(Protocol):
    """What is open on a backend, as a `Store` is."""

    @property
    def backend(self) -> Backend:
        """Where the rows are."""


def copy(
    source: str | os.PathLike[str] | Backend | OpenStore | MutableMapping[str, bytes] | MutableMapping[bytes, bytes],
    target: str | os.PathLike[str] | Backend | MutableMapping[str, bytes] | MutableMapping[bytes, bytes],
    *,
    progress: Callable[[Progress], object] | None = None,
    durable: bool = True,
) -> Copied:
    """Copy a whole store to another place, on any backend: objects with their keys, names, and the log.

    The copy has what was committed when this was called; others may read and write the source meanwhile. Every row is
    checked when it is read, and compared with the source when all are written. Only then does the target become a store:
    one of its own, to which a session that was open on the source, or on what was there before, doesn't take itself.

    Where it was interrupted, by whatever, the same call goes on: rows that are there already aren't written again. What has
    changed in the source meanwhile is in the copy, too.

    Args:
        source: A path, a URL, a backend, a mapping as `pstore.open` takes it, or an open store (of which uncommitted changes aren't copied).
        target: A path, a URL, a backend or a mapping, with no store in it.
        progress: Called from time to time with a `Progress`. What it raises stops the copy.
        durable: Whether the target's disk has every row when this returns; see `pstore.open`.

    Returns:
        What was copied.

    Raises:
        StoreNotFound: There is no source.
        FormatError: The source is no store, or itself an unfinished copy.
        CorruptRecord: A row of the source is damaged, or one of the target isn't what was written.
        StorageError: The target holds something already, or doesn't take a name or record of this size, or has no room.
        StoreLocked: The target has another writer.
        TypeError: The source or target is of no type that is taken.
    """
    with ExitStack() as stack:
        origin = _opened(
            source if isinstance(source, (str, os.PathLike)) else getattr(source, "backend", source), "r", stack
        )
        reader = origin.begin()
        stack.callback(reader.rollback)
        snapshot = _Snapshot(origin, reader)
        return _Copy(snapshot, _opened(target, "c", stack, durable=durable), progress).run()


def _opened(place: object, flag: str, stack: ExitStack, *, durable: bool = True) -> Backend:
    """Return the backend of a place; one that is opened for it is closed with the stack."""
    if isinstance(place, Backend):
        return place
    backend: Backend
    if isinstance(place, MutableMapping):
        backend = MappingBackend(place, flag)
    elif isinstance(place, (str, os.PathLike)):
        backend = open_backend(place, flag, durable=durable)
    else:
        message = f"a store is copied from and to a path, URL, backend or mapping, not {place!r}"
        raise TypeError(message)
    stack.callback(backend.close)
    return backend


class _Snapshot:
    """The source, as it was when the copy began.

    Attributes:
        head: The row of the counters, which is written last.
        revision: The newest commit.
        id: The source's id.
    """

    def __init__(self, backend: Backend, reader: Transaction) -> None:
        self._backend = backend
        self._reader = reader
        head, identity, unfinished = reader.get_many("meta", _OWN)
        if head is None:
            what = (
                "there is no store" if unfinished is None else "there is an unfinished copy of a store, and no store,"
            )
            message = f"{what} at {backend}"
            raise FormatError(message)
        self.head = bytes(head)
        self.revision = rows.unpack_head(self._unsealed("meta", "head", head)).revision
        self.id = bytes(16) if identity is None else bytes(self._unsealed("meta", "id", identity))

    def rows(self, table: Table) -> Iterator[tuple[Key, bytes]]:
        """Yield the rows of a table that are copied, each of them whole.

        Raises:
            CorruptRecord: One is damaged.
        """
        for key, row in _copied(self._reader, table):
            self._unsealed(table, key, row)
            yield key, bytes(row)

    def label(self, table: Table, key: Key) -> str:
        """Return what a row is, as a person reads it."""
        if table != "records":
            return {"names": f"the name {key!r}", "log": f"row {key} of the log", "meta": f"the meta row {key!r}"}[
                table
            ]
        number = int(key)
        if not (code_of(number) and serial_of(number)):
            return f"the record of class {code_of(number)}"
        at = make_key(code_of(number), 0)
        (row,) = self._reader.get_many("records", [at])
        try:
            name = rows.unpack_class(rows.unseal(rows.record_place(at), row or b"").body).qualname
        except ValueError:
            name = f"class {code_of(number)}"
        return f"the record of {name}#{serial_of(number)}"

    def _unsealed(self, table: Table, key: Key, row: Row) -> memoryview:
        try:
            return rows.unseal(_PLACES[table](key), row).body
        except ValueError as error:
            what = f"{self.label(table, key)} in {self._backend}"
            raise rows.unreadable(error, what, **_named(table, key)) from error


class _Copy:
    """One copy under way.

    Args:
        source: What is copied.
        target: Where to.
        progress: Told how far it is.
    """

    def __init__(self, source: _Snapshot, target: Backend, progress: Callable[[Progress], object] | None) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._claim = b""  # the row that says that this copy, and no other, is under way
        self._fresh = True
        self._rows = self._bytes = self._written = 0

    def run(self) -> Copied:
        """Do it."""
        self._begin()
        for table in _ORDER:
            for start, stop, batch in _batches(self._checked(table)):
                self._put(table, start, stop, batch)
                self._rows += len(batch)
                self._bytes += sum(len(row) for _, row in batch)
                self._tell(0, None)
        self._verify()
        self._end()
        return Copied(self._source.revision, self._rows, self._bytes, self._written)

    def _begin(self) -> None:
        """Say in the target that a copy is under way; find out whether one was before."""
        with _Writing(self._target) as writer:
            head, unfinished = writer.get_many("meta", ["head", rows.COPY])
            if head is not None:
                message = (
                    f"there is a store at {self._target} already; copy to another place, or empty it with flag 'n'"
                )
                raise StorageError(message)
            self._fresh = unfinished is None
            if unfinished is not None:
                self._check_same(unfinished)
            elif any(next(iter(writer.scan(table)), None) is not None for table in _ORDER):
                message = f"at {self._target} there are rows of something else; copy to another place, or empty it with flag 'n'"
                raise StorageError(message)
            mark = _MARK.pack(self._source.id, os.urandom(16))
            self._claim = rows.seal(rows.meta_place(rows.COPY), mark)
            writer.put_many("meta", [(rows.COPY, self._claim)])
            writer.commit()

    def _check_same(self, unfinished: Row) -> None:
        try:
            before, _ = _MARK.unpack(rows.unseal(rows.meta_place(rows.COPY), unfinished).body)
        except (ValueError, struct.error) as error:
            raise rows.unreadable(
                ValueError(str(error)), f"what says which copy is under way at {self._target}", name=rows.COPY
            ) from error
        if before != self._source.id:
            message = (
                f"at {self._target} there is an unfinished copy of another store (or of this one before it was emptied);"
                " copy to another place, or empty it with flag 'n'"
            )
            raise StorageError(message)

    def _checked(self, table: Table) -> Iterator[tuple[Key, bytes]]:
        """Yield the rows of a table; raise an error for one that the target doesn't take."""
        most = self._target.capabilities
        for key, row in self._source.rows(table):
            size = len(str(key).encode()) if table in STR_TABLES else 0
            if most.longest_name is not None and size > most.longest_name:
                self._refuse(table, key, f"takes {size} bytes in UTF-8", most.longest_name)
            if most.largest_row is not None and len(row) > most.largest_row:
                self._refuse(table, key, f"has {len(row)} bytes", most.largest_row)
            yield key, row

    def _refuse(self, table: Table, key: Key, what: str, most: int) -> None:
        label = self._source.label(table, key)
        message = f"{label} {what}, and {self._target} takes {most} at the most; copy to a backend that takes more"
        raise StorageError(message)

    def _put(self, table: Table, start: Key | None, stop: Key | None, batch: list[tuple[Key, bytes]]) -> None:
        """Make a range of keys in the target what the source has."""
        with _Writing(self._target) as writer:
            self._check_claim(writer)
            wanted, surplus = dict(batch), []
            for key, row in () if self._fresh else _copied(writer, table, start, stop):
                if key not in wanted:
                    surplus.append(key)
                elif wanted[key] == row:
                    del wanted[key]
            if wanted or surplus:
                writer.put_many(table, wanted.items())
                writer.delete_many(table, surplus)
                writer.commit()
        self._written += len(wanted)

    def _verify(self) -> None:
        """Read the target and compare it with the source."""
        reader = self._target.begin()
        verified = 0
        try:
            for table in _ORDER:
                for ours, theirs in zip_longest(self._source.rows(table), _copied(reader, table)):
                    if ours is None or theirs is None or ours[0] != theirs[0] or ours[1] != theirs[1]:
                        self._refuse_read(table, min(row[0] for row in (ours, theirs) if row is not None))
                    verified += 1
                    if verified % _MOST_ROWS == 0 and verified < self._rows:
                        self._tell(verified, self._rows)
        finally:
            reader.rollback()
        self._tell(verified, self._rows)

    def _refuse_read(self, table: Table, key: Any) -> None:
        message = (
            f"{self._source.label(table, key)} isn't in {self._target} as it was written there, so the copy isn't finished;"
            " see whether the disk is sound, and copy again"
        )
        raise CorruptRecord(message, **_named(table, key))

    def _end(self) -> None:
        """Make the target a store."""
        identity = rows.seal(rows.meta_place("id"), os.urandom(16))
        try:
            with _Writing(self._target) as writer:
                self._check_claim(writer)
                writer.put_many("meta", [("id", identity), ("head", self._source.head)])
                writer.delete_many("meta", [rows.COPY])
                writer.commit()
        except CommitUncertain:
            with _Writing(self._target) as writer:
                if writer.get_many("meta", ["id"]) != [identity]:
                    raise

    def _check_claim(self, writer: Transaction) -> None:
        if writer.get_many("meta", [rows.COPY]) != [self._claim]:
            message = f"another copy to {self._target} has begun since this one did; let one of them end"
            raise StorageError(message)

    def _tell(self, verified: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(Progress(self._rows, self._bytes, verified, total))


class _Writing:
    """A write transaction as a context; what the block doesn't commit is rolled back."""

    def __init__(self, backend: Backend) -> None:
        self._writer = backend.begin(write=True)

    def __enter__(self) -> Transaction:
        return self._writer

    def __exit__(self, *_: object) -> None:
        self._writer.rollback()


def _copied(
    transaction: Transaction, table: Table, start: Key | None = None, stop: Key | None = None
) -> Iterator[tuple[Key, Row]]:
    """Yield the rows of a range that are copied with the rest."""
    for key, row in transaction.scan(table, start, stop):
        if table != "meta" or key not in _OWN:
            yield key, row


def _batches(
    found: Iterator[tuple[Key, bytes]],
) -> Iterator[tuple[Key | None, Key | None, list[tuple[Key, bytes]]]]:
    """Part rows into batches, each with the range of keys that it stands for; the ranges have no gaps between them."""
    start: Key | None = None
    batch: list[tuple[Key, bytes]] = []
    size = 0
    for key, row in found:
        batch.append((key, row))
        size += len(row)
        if (len(batch) >= _MOST_ROWS or size >= _MOST_BYTES) and key != MAX_KEY:
            # The least key that is greater.
            stop: Key = key + 1 if isinstance(key, int) else key + "\0"
            yield start, stop, batch
            start, batch, size = stop, [], 0
    yield start, None, batch


def _named(table: Table, key: Any) -> dict[str, Any]:
    """Return the arguments of an error that name a row."""
    return {"records": {"key": key}, "log": {}}.get(table, {"name": key})
