"""A session's transactions with its backend: the snapshot that it reads, and the one in which a commit writes.

Either one begins with the store's counters and with the classes that this session doesn't know yet. This module knows
the rows that a store is made of; it knows nothing of objects.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pstore import rows
from pstore.allocation import Allocator, Taken
from pstore.errors import CommitUncertain, ConnectionLost, CorruptRecord, FormatError, StoreClosed
from pstore.keys import code_of, make_key
from pstore.readahead import ReadAhead
from pstore.rows import Head, LogEntry

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from pstore.backends.base import Backend, Row, Transaction
    from pstore.catalog import Catalog


class Transactions:
    """The transactions of one session.

    Args:
        backend: Where the rows are.
        catalog: The store's classes; new ones are entered when a transaction begins.
        held: The keys of the records whose states are in memory.
        ahead: How many bytes a snapshot may read ahead of what is asked for, where reading is a round trip.

    Attributes:
        allocator: Has the counters with which the newest transaction began, and hands out numbers from them.
        reader: The snapshot, None where none has begun.
        writer: A commit's transaction, None where none has begun.
        current_to: The revision up to which the session knows what others have changed; None where it knows nothing yet.
        lost: The revision of a snapshot that was lost with its connection, in a transaction that hasn't ended.
    """

    def __init__(self, backend: Backend, catalog: Catalog, held: Container[int], ahead: int) -> None:
        self.allocator = Allocator(catalog, self.write)
        self.reader: Transaction | None = None
        self.writer: Transaction | None = None
        self.current_to: int | None = None
        self.lost: int | None = None
        self._backend = backend
        self._catalog = catalog
        self._held_states = held
        self._ahead = ahead if backend.capabilities.remote else 0
        self._store_id: bytes | None = None
        self._held: Taken | None = None  # what was handed out when `hold` was called

    def read(self) -> Transaction:
        """Begin a snapshot, and return it.

        Raises:
            ConnectionLost: The transaction's snapshot was lost with its connection, and the store has changed since.
            CorruptRecord: The counters or a class can't be read.
            FormatError: There is no store.
            StoreClosed: The store was emptied since the session began.
        """
        self.reader = self._backend.begin()
        if self._ahead:
            self.reader = ReadAhead(self.reader, self._held_states, self._ahead)
        self._take_head(self.reader)
        if self.lost not in (None, self.allocator.head.revision):
            message = (
                "this transaction's snapshot was lost (its connection broke, or its commit was interrupted), and other"
                " sessions have committed since: roll back and try again, or let `run` do so"
            )
            raise ConnectionLost(message)
        return self.reader

    def fetching(self) -> ReadAhead:
        """Return the snapshot, which has begun, as one that can be told what will be read."""
        assert self.reader is not None  # noqa: S101
        if not isinstance(self.reader, ReadAhead):
            self.reader = ReadAhead(self.reader, self._held_states)
        return self.reader

    def write(self) -> Transaction:
        """Return the commit's transaction, beginning it if there is none. Raises as `read` does.

        Raises:
            ReadOnlyError: The store was opened for reading.
            StoreLocked: Another writer doesn't end.
        """
        if self.writer is None:
            self.writer = self._backend.begin(write=True)
            self._take_head(self.writer)
        return self.writer

    def hold(self) -> None:
        """Begin the commit's transaction now, and keep it through savepoints until `end`. Raises as `write` does."""
        self.write()
        self._held = self.allocator.taken()

    def end(self) -> None:
        """End both, dropping what was written and not committed."""
        self.end_writing()
        self._held = None
        self._end_reading()
        self.lost = None

    def lose_snapshot(self) -> None:
        """End the snapshot of a commit that has failed. The transaction goes on with another one, if that shows the same."""
        self._end_reading()
        self.lost = self.allocator.saved.revision

    def _end_reading(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.rollback()

    def end_writing(self) -> None:
        """End the commit's transaction alone, dropping what was written."""
        writer, self.writer = self.writer, None
        if writer is None:
            return
        writer.rollback()
        self.withdraw()

    def withdraw(self) -> None:
        """What was written isn't committed, nor are the numbers of the savepoints before it."""
        if self._held is not None:
            self.allocator.give_back(self._held)
            self._catalog.forget(self._held.head.next_code)

    def end_savepoint(self) -> None:
        """A savepoint has failed: end the commit's transaction, unless it is held."""
        if self._held is None:
            self.end_writing()

    def keep_numbers(self) -> None:
        """Commit the numbers that were handed out, and the classes that have got codes, and nothing else.

        A savepoint does so, in order not to hold the write lock for as long as its transaction lasts. The snapshot stays.
        Where the lock is held anyway, the numbers are committed with the rest.
        """
        if self.writer is None:
            return
        head = self.allocator.head
        put_classes(self.writer, self._catalog.pending(), head.revision)
        if self._held is None:
            put_head(self.writer, head)
            try:
                self.writer.commit()
            except CommitUncertain as error:  # numbers that were taken for nothing do no harm
                message = "the connection to the server was lost: the savepoint isn't made; make it again, or roll back"
                raise ConnectionLost(message) from error
            self.writer = None
            self.allocator.keep()

    def has_logged(self, revision: int, row: bytes) -> bool:
        """Return whether the newest state has this row in its log: whether that commit was made. The commit's transaction is ended.

        The answer is final: it is read under the write lock, which the lost transaction holds for as long as the server may
        yet make the commit.
        """
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.rollback()
        looking = self._backend.begin(write=True)
        try:
            (found,) = looking.get_many("log", [revision])
            return found is not None and bytes(found) == row
        finally:
            looking.rollback()

    def _take_head(self, transaction: Transaction) -> None:
        row, store_id = transaction.get_many("meta", ["head", "id"])
        if row is None:
            message = "there is no pstore store in this backend"
            raise FormatError(message)
        head = rows.read_head(row)
        if self._store_id is None:
            self._store_id = None if store_id is None else bytes(store_id)
        elif store_id != self._store_id:
            self.end()  # nothing of the old one is shown any more
            message = f"the store at {self._backend} was emptied (flag 'n') since it was opened here; open it again"
            raise StoreClosed(message)
        codes = range(len(self._catalog) + 1, head.next_code)
        if codes:
            found = transaction.get_many("records", [make_key(code, 0) for code in codes])
            self._catalog.read(zip(codes, found, strict=True))
        self.allocator.head = head


def logged(reader: Transaction, start: int, stop: int) -> Iterator[tuple[int, LogEntry]]:
    """Yield (revision, what it has changed) of the commits from `start` (included) to `stop` (left out).

    With both bounds, an engine that keeps no order can look up each in between.

    Raises:
        CorruptRecord: A row of the log can't be read.
    """
    for revision, row in reader.scan("log", start, stop):
        yield int(revision), _unpack_log(int(revision), row)


def changes_since(reader: Transaction, revision: int) -> tuple[dict[int, int], dict[str, int]]:
    """Return the keys of records (those of classes, too) and the names that later commits have written.

    Returns:
        Each key with the number of the last commit that has written it, and each name.

    Raises:
        CorruptRecord: A row of the log can't be read, or is missing.
    """
    keys: dict[int, int] = {}
    names: dict[str, int] = {}
    (row,) = reader.get_many("meta", ["head"])
    newest = revision if row is None else rows.read_head(row).revision
    found = 0
    for number, entry in logged(reader, revision + 1, newest + 1):
        found += 1
        keys.update(dict.fromkeys(entry.keys, number))
        names.update(dict.fromkeys(entry.names, number))
    if found != newest - revision:  # a change that goes unseen would be overwritten
        message = f"the store is damaged: rows of the log are missing, between {revision + 1} and {newest}; restore it from a backup"
        raise CorruptRecord(message)
    return keys, names


def _unpack_log(revision: int, row: Row) -> LogEntry:
    try:
        return rows.unpack_log(rows.unseal(rows.log_place(revision), row).body)
    except ValueError as error:
        raise rows.unreadable(error, f"row {revision} of the log") from error


def put_classes(writer: Transaction, bodies: dict[int, bytes], revision: int) -> None:
    """Write the rows of classes, of which the bodies are given by key."""
    writer.put_many(
        "records",
        [
            (key, rows.seal(rows.record_place(key), body, code=code_of(key), revision=revision))
            for key, body in bodies.items()
        ],
    )


def put_log(writer: Transaction, revision: int, entry: LogEntry) -> bytes:
    """Write what a commit has changed; return the row."""
    row = rows.seal(rows.log_place(revision), rows.pack_log(entry), revision=revision)
    writer.put_many("log", [(revision, row)])
    return row


def put_head(writer: Transaction, head: Head) -> None:
    """Write the store's counters."""
    writer.put_many("meta", [("head", rows.seal(rows.meta_place("head"), rows.pack_head(head)))])


def create(backend: Backend) -> None:
    """Write the counters and the id of a new store, where there is none.

    It is tried once more where the connection breaks in the middle: what came of it is seen then.

    Raises:
        ConnectionLost: The server can't be reached.
        FormatError: There is none and it can't be written, or there is one that is being copied to here.
    """
    try:
        _create(backend)
    except ConnectionLost:
        _create(backend)


def _create(backend: Backend) -> None:
    reader = backend.begin()
    try:
        exists = _has_store(reader, backend)
    finally:
        reader.rollback()
    if exists:
        return
    if backend.readonly:
        message = "there is no pstore store in this backend"
        raise FormatError(message)
    writer = backend.begin(write=True)
    try:
        if not _has_store(writer, backend):  # nobody was faster
            put_head(writer, Head())
            writer.put_many("meta", [("id", rows.seal(rows.meta_place("id"), os.urandom(16)))])
        writer.commit()
    except BaseException:
        writer.rollback()
        raise


def _has_store(transaction: Transaction, backend: Backend) -> bool:
    head, copied = transaction.get_many("meta", ["head", rows.COPY])
    if head is None and copied is not None:
        message = (
            f"the copy of a store to {backend} isn't finished: call pstore.copy again as it was called, or open it with"
            " flag 'n' to begin with an empty store"
        )
        raise FormatError(message)
    return head is not None
