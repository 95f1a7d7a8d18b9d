"""The package `sqlitedict` as a backend: rows as they are, in a table of its own in an SQLite file.

The package runs its connection in a thread, which reports an error with the next call; and it switches off waiting for the
disk (`PRAGMA synchronous = OFF`). Neither matters to a commit: that is the journal's. What the package writes is a copy
of the file, which is waited for, and compared, before it takes the file's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pstore.backends._file_module import FileModule
from pstore.backends._sqlite_files import SIDES
from pstore.backends.base import Capabilities
from pstore.backends.dbm import has_sqlite_table
from pstore.backends.generations import FileBackend
from pstore.errors import FormatError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: The table in the file; the package would call it `unnamed`.
TABLE: Final = "pstore"


class SqlitedictModule(FileModule):
    """The package, by what it does to a file."""

    name = "sqlitedict"
    textual = True
    litter = tuple("*" + side for side in SIDES)
    changing = SIDES

    def open(self, path: Path, flag: str) -> Any:
        """Return the mapping of the file; see `FileModule.open`.

        Raises:
            StorageError: The package isn't installed.
        """
        try:
            import sqlitedict
        except ImportError as error:
            message = f"{path} needs the package sqlitedict: pip install 'pstore-db[sqlitedict]'"
            raise StorageError(message) from error
        if flag != "n" and not has_sqlite_table(path, TABLE):  # the package would make the table in whatever it is
            message = f"{path} is no file of sqlitedict's with a store in it; choose another path"
            raise FormatError(message)
        return sqlitedict.SqliteDict(
            str(path),
            tablename=TABLE,
            flag="n" if flag == "n" else "c",  # its "w" empties the table, and its "r" leaves a connection open
            autocommit=False,
            journal_mode="MEMORY",  # as `SqliteMapping` says
            encode=bytes,
            decode=bytes,
            outer_stack=False,
        )

    def update(self, mapping: Any, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Store rows; see `FileModule.update`."""
        mapping.conn.select_one("BEGIN")
        put: dict[str, bytes] = {}
        for key, row in changes:
            if row is not None:
                put[key.decode()] = row
            elif key.decode() in mapping:
                del mapping[key.decode()]
        mapping.update(put)
        # The package's own `commit` would wait for ever where SQLite can't commit: its thread would have ended.
        mapping.conn.select_one("COMMIT")


class SqlitedictBackend(FileBackend):
    """A store in a file of `sqlitedict`; see `FileBackend`."""

    scheme: ClassVar[str] = "sqlitedict"
    capabilities: ClassVar[Capabilities] = Capabilities(shared=False, largest_row=10**9)
    module: ClassVar[FileModule] = SqlitedictModule()
