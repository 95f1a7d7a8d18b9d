"""Rows that are fetched before they are asked for: a snapshot that answers from them.

Where each call of the backend is a round trip, what costs is how often it is asked. So when a record has to be read, those
that the records read so far refer to come along in the same call, nearest first: a walk over a tree takes about one round
trip a level. What was fetched and isn't used is bounded in bytes. How many come along grows as long as they are used, and
shrinks where they aren't. On any backend, `fetch` gets the rows that the application says it is about to use.

Nobody can tell but by the time it takes: all rows are of one snapshot, a row that is damaged is an error when it is used,
and one that isn't used counts as not read. This module knows rows and the keys that they refer to, never an object.
"""

from __future__ import annotations

import contextlib
from array import array
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Final

from pstore import rows
from pstore.backends.base import Transaction
from pstore.keys import is_key, serial_of
from pstore.records import named_in
from pstore.rows import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from pstore.backends.base import Key, Row, Table

#: How many rows come along with one that is needed: at first, while nothing is known of their sizes; and at the most.
_FIRST: Final = 8
_MOST: Final = 2000
#: By how much that changes in one step.
_STEP: Final = 8
#: After how many reads one by one it is tried again whether more would be used.
_TRIED_AGAIN: Final = 16
#: How many references are remembered that weren't followed.
_MOST_KNOWN: Final = 4_000_000


class ReadAhead(Transaction):
    """A read transaction that answers from what was fetched before.

    Args:
        reader: The transaction that it asks.
        held: The keys of the records that needn't be fetched, as their states are in memory.
        most: How many bytes of rows that weren't used yet may be fetched unasked; 0 for nothing but what `fetch` gets.
    """

    def __init__(self, reader: Transaction, held: Container[int], most: int = 0) -> None:
        self._reader = reader
        self._held = held
        self._most = most
        #: Rows of names and records that were fetched and not used yet, with their size. None: there is no such row.
        self._rows: dict[Key, Row | None] = {}
        self._size = 0
        #: Records that were fetched, and whose references aren't in `_known` yet.
        self._unread: list[tuple[int, Row]] = []
        self._known = array("Q")  # references that weren't followed yet, in the order in which they were met
        self._window = 0  # how many may come along
        self._came = self._used = 0  # how many did the last time, and how many rows were used since
        self._single = _TRIED_AGAIN  # how many reads were made alone since
        self._fetched = self._fetched_size = 0  # in all, to know the size of a row

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys; see `Transaction.get_many`. What comes along is decided where it is one record."""
        if len(keys) != 1 or table not in ("records", "names"):
            return self._reader.get_many(table, keys)
        (key,) = keys
        if key in self._rows:
            row = self._rows.pop(key)
            self._size -= 0 if row is None else len(row)
            self._used += 1
            return [row]
        if not self._most or not isinstance(key, int):
            return self._reader.get_many(table, keys)
        return [self._need(key)]

    def has(self, key: int) -> bool:
        """Return whether there is a record; its row is kept for who needs it next."""
        if key not in self._rows:
            if self._most:
                row = self._need(key)
            else:
                (row,) = self._reader.get_many("records", [key])
            if row is None or self._size + len(row) <= self._most:
                self._keep(key, row)
            return row is not None
        return self._rows[key] is not None

    def fetch(self, keys: Iterable[int]) -> dict[int, Row | None]:
        """Read records that are going to be used, in one call; return the rows of those that weren't fetched before."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._rows]
        if not wanted:
            return {}
        found = dict(zip(wanted, self._reader.get_many("records", wanted), strict=True))
        for key, row in found.items():
            self._take_in(key, row)
            self._keep(key, row)
        return found

    def scan(self, table: Table, start: Key | None = None, stop: Key | None = None) -> Iterator[tuple[Key, Row]]:
        """Yield (key, row); see `Transaction.scan`. Whoever lists objects or names is likely to look at them next."""
        for key, row in self._reader.scan(table, start, stop):
            if self._most and table == "records":
                self._note([int(key)])
            elif self._most and table == "names":
                self._note_name(str(key), row)
            yield key, row

    def put_many(self, table: Table, items: Iterable[tuple[Key, bytes]]) -> None:
        """Refused, as in every read transaction."""
        self._reader.put_many(table, items)

    def delete_many(self, table: Table, keys: Iterable[Key]) -> None:
        """Refused, as in every read transaction."""
        self._reader.delete_many(table, keys)

    def commit(self) -> None:
        """End the transaction."""
        self.rollback()

    def rollback(self) -> None:
        """End the transaction, and drop what was fetched."""
        self._rows.clear()
        self._unread.clear()
        del self._known[:]
        self._size = 0
        self._reader.rollback()

    def _need(self, key: int) -> Row | None:
        """Read a record that isn't here, and what is likely to be needed after it."""
        along = self._along(key)
        self._came = len(along)
        row, *others = self._reader.get_many("records", [key, *along])
        self._take_in(key, row)
        for other, found in zip(along, others, strict=True):
            self._take_in(other, found)
            self._keep(other, found)
        self._used = 0
        return row

    def _keep(self, key: Key, row: Row | None) -> None:
        self._rows[key] = row
        self._size += 0 if row is None else len(row)

    def _take_in(self, key: int, row: Row | None) -> None:
        if row is not None and self._most:
            self._fetched += 1
            self._fetched_size += len(row)
            self._unread.append((key, row))

    def _along(self, key: int) -> list[int]:
        """Return the keys of what comes along with a record: those next to it among the references."""
        older = len(self._known)
        for holder, row in self._unread:
            self._note(_references(holder, row))
        self._unread.clear()
        self._single += 1
        if not self._window and self._single < _TRIED_AGAIN:
            return []
        at = self._find(key, older)
        if at is None:  # nothing that was read refers to it
            if self._known:
                self._window, self._single = self._window // _STEP, 0
            return []
        self._single = 0
        # That it was known and didn't come along, though few of those that did were used, tells that they are wanted in
        # no order that could be foreseen. Where it wasn't known, the walk has only gone on to the next level.
        if at < older and self._came > _STEP * self._used:
            self._window //= _STEP
        else:
            self._window = min(_STEP * self._window, _MOST) or _FIRST
        room = (self._most - self._size) * self._fetched // max(self._fetched_size, 1)
        return [near for near in self._cut(at, min(self._window, room)) if near != key]

    def _find(self, key: int, older: int) -> int | None:
        """Return where a key stands among the references, looking through the newest ones first."""
        for start, stop in ((older, len(self._known)), (0, older)):
            with contextlib.suppress(ValueError):
                return self._known.index(key, start, stop)
        return None

    def _cut(self, at: int, count: int) -> list[int]:
        """Take out up to so many of the references on both sides of a place, the nearest first."""
        known, start, stop = self._known, at, at
        found: dict[int, None] = {}
        while len(found) < count and (start or stop < len(known)):
            near = []
            if stop < len(known):
                near.append(known[stop])
                stop += 1
            if start:
                start -= 1
                near.append(known[start])
            found.update((key, None) for key in near if key not in self._rows and key not in self._held)
        del known[start:stop]
        return list(found)

    def _note(self, keys: Iterable[int]) -> None:
        self._known.extend(key for key in keys if key not in self._rows and key not in self._held)
        if len(self._known) > _MOST_KNOWN:
            del self._known[: _MOST_KNOWN // 2]

    def _note_name(self, name: str, row: Row) -> None:
        if self._size + len(row) <= self._most and name not in self._rows:
            self._keep(name, row)
        with contextlib.suppress(ValueError):  # damaged
            sealed = rows.unseal(rows.name_place(name), row)
            if sealed.flags & REFERENCE:
                self._note([rows.unpack_key(sealed.body)])


def _references(key: int, row: Row) -> list[int]:
    """Return the keys of the objects that a record refers to; none, where it can't be read."""
    found = rows.unseal_record(key, row)
    if found is None or not serial_of(key):
        return []
    try:
        named = named_in(found[3], found[0])
        return [other for other in dict.fromkeys(named) if is_key(other) and serial_of(other)]
    except (UnpicklingError, EOFError, ValueError):
        return []
