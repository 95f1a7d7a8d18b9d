"""Records put aside: what a transaction has written at its savepoints, and nobody else sees.

They stand in a temporary database of their own, in memory while they are few and in a file that nobody can find when they
are many, so that a transaction may write more than fits in memory. Each row is kept with the number of the savepoint that
wrote it; going back to one takes away what later ones wrote. This module knows keys and bytes.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from pstore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CREATE: Final = "CREATE TABLE aside (key BLOB, mark INTEGER, row BLOB, PRIMARY KEY (key, mark)) WITHOUT ROWID"
PUT: Final = "INSERT INTO aside VALUES (?, ?, ?)"
GET: Final = "SELECT row FROM aside WHERE key = ? ORDER BY mark DESC LIMIT 1"
SINCE: Final = "SELECT DISTINCT key FROM aside WHERE mark > ?"
NEWEST: Final = (
    "SELECT key, row FROM aside AS a WHERE mark = (SELECT max(mark) FROM aside WHERE key = a.key) ORDER BY key"
)
BACK: Final = "DELETE FROM aside WHERE mark > ?"


class Aside:
    """The records that one session has put aside.

    Attributes:
        mark: The number of the newest savepoint; none is used twice.
        count: How many rows there are, older ones of a key included.
    """

    def __init__(self) -> None:
        self.mark = 0
        self._database: sqlite3.Connection | None = None
        self.count = 0

    def __bool__(self) -> bool:
        """Return whether there are any records."""
        return self.count > 0

    def put(self, rows: Iterable[tuple[int, bytes]]) -> int:
        """Keep rows by key as what a new savepoint has written, and return its number.

        Raises:
            StorageError: There is no room for them; nothing was kept.
        """
        count = self.count
        try:
            self._put(rows, self.mark + 1)
        except BaseException as error:
            # The rows of earlier savepoints are whole again: the database has a journal for that.
            self.count = count
            if self._database is not None and self._database.in_transaction:
                self._database.rollback()
            if not isinstance(error, sqlite3.Error):
                raise
            message = (
                f"the savepoint can't be kept in a temporary file (the variable SQLITE_TMPDIR says where): {error}"
            )
            raise StorageError(message) from error
        self.mark += 1
        return self.mark

    def _put(self, rows: Iterable[tuple[int, bytes]], mark: int) -> None:
        database = None
        for key, row in rows:
            if database is None:
                database = self._begin()
            database.execute(PUT, (_packed(key), mark, row))
            self.count += 1
        if database is not None:
            database.commit()

    def _begin(self) -> sqlite3.Connection:
        if self._database is None:
            # A name that is empty: SQLite makes a file of its own where the pages don't fit its cache any more.
            database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            database.execute(CREATE)
            self._database = database
        self._database.execute("BEGIN")
        return self._database

    def get(self, key: int) -> bytes | None:
        """Return the newest row of a key, or None."""
        if self._database is None:
            return None
        found = self._database.execute(GET, (_packed(key),)).fetchone()
        return None if found is None else found[0]

    def since(self, mark: int) -> list[int]:
        """Return the keys of the rows that were written after the savepoint of this number."""
        if self._database is None:
            return []
        return [_unpacked(key) for (key,) in self._database.execute(SINCE, (mark,))]

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Yield the newest row of each key, in the order of keys."""
        if self._database is not None:
            for key, row in self._database.execute(NEWEST):
                yield _unpacked(key), row

    def back_to(self, mark: int) -> None:
        """Take away what was written after the savepoint of this number."""
        if self._database is not None:
            self.count -= self._database.execute(BACK, (mark,)).rowcount

    def clear(self) -> None:
        """Take away everything."""
        database, self._database, self.count = self._database, None, 0
        if database is not None:
            database.close()


def _packed(key: int) -> bytes:
    return key.to_bytes(8, "big")  # ordered as the numbers are


def _unpacked(key: bytes) -> int:
    return int.from_bytes(key, "big")
