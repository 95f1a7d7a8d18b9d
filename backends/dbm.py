"""The modules of the standard `dbm` family as backends: which there are, what their files look like, what they take.

`dbm.sqlite3` is spoken to as what it is, an SQLite file with one table: the standard module commits each row by itself, works
in one thread only, and is there from Python 3.13 on. Its files are the same: the standard module reads ours, key by key as blobs,
and copies that it has written are opened here. When it opens one for writing, it changes the file's header (`journal_mode = wal`);
the checksum no longer holds then, and the journal has to be removed.
"""

from __future__ import annotations

import dbm
import os
import sqlite3
from collections.abc import MutableMapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pstore.backends import _sqlite_files
from pstore.backends._file_module import FileModule, beside
from pstore.backends.base import Capabilities
from pstore.backends.generations import FileBackend
from pstore.backends.journal import peek
from pstore.errors import FormatError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CREATE: Final = "CREATE TABLE Dict (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)"
GET: Final = "SELECT value FROM Dict WHERE key = ?"
PUT: Final = "REPLACE INTO Dict (key, value) VALUES (?, ?)"
DELETE: Final = "DELETE FROM Dict WHERE key = ?"
KEYS: Final = "SELECT key FROM Dict"
COUNT: Final = "SELECT count(*) FROM Dict"
FIND_TABLE: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"

_LITTER: Final[dict[str, tuple[str, ...]]] = {
    "dbm.dumb": ("*.bak",),
    "dbm.ndbm": (
        "__db.*.db",
    ),  # Berkeley DB's, where making a file has failed; the next attempt would wait for it for ever
}
_REMEDIES: Final = {
    "dbm.gnu": "install it (on Debian and Ubuntu: apt install python3-gdbm, for the system's own Python), or compile Python"
    " where gdbm's headers are (libgdbm-dev)",
    "dbm.ndbm": "compile Python where the headers of Berkeley DB or of gdbm are (libdb-dev, or libgdbm-compat-dev); Debian's own"
    " Python has it",
}


class StandardModule(FileModule):
    """A module of the standard library's.

    Args:
        name: Its name, as `dbm.gnu`.
        layouts: See `FileModule`.
    """

    def __init__(self, name: str, *layouts: tuple[str, ...]) -> None:
        self.name = name
        self.layouts = layouts
        self.slow_to_delete = name == "dbm.dumb"  # which writes its whole index for each
        self.litter = _LITTER.get(name, ())

    def open(self, path: Path, flag: str) -> Any:
        """Return the mapping of the files; see `FileModule.open`."""
        module = self.load()
        try:
            return module.open(str(path), flag)
        except module.error as error:
            message = f"{path} can't be opened: {self.name} says: {error}"
            raise StorageError(message) from error

    def load(self) -> Any:
        """Import the module.

        Raises:
            StorageError: The interpreter has no such module.
        """
        try:
            return import_module(self.name)
        except ImportError as error:
            message = f"this Python has no {self.name} ({error}); to get it, {_REMEDIES.get(self.name, 'use another')}"
            raise StorageError(message) from error


class NdbmModule(StandardModule):
    """`dbm.ndbm`, which takes an empty row for none: each has one byte more in the files."""

    def open(self, path: Path, flag: str) -> LongerRows:
        """Return the mapping of the files; see `FileModule.open`."""
        return LongerRows(super().open(path, flag))


class LongerRows(MutableMapping[bytes, bytes]):
    """A mapping whose rows have one byte more where they are kept.

    Args:
        mapping: Where they are kept.
    """

    def __init__(self, mapping: Any) -> None:
        self._mapping = mapping

    def __getitem__(self, key: bytes) -> bytes:
        row: bytes = self._mapping[key]
        return row[:-1]

    def __setitem__(self, key: bytes, row: bytes) -> None:
        self._mapping[key] = row + b"."

    def __delitem__(self, key: bytes) -> None:
        del self._mapping[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._mapping.keys())

    def __len__(self) -> int:
        return len(self._mapping)

    def close(self) -> None:
        """Close the files."""
        self._mapping.close()


class SqliteModule(FileModule):
    """`dbm.sqlite3`, by its files."""

    name = "dbm.sqlite3"
    litter = tuple("*" + side for side in _sqlite_files.SIDES)
    changing = _sqlite_files.SIDES

    def open(self, path: Path, flag: str) -> SqliteMapping:
        """Return the mapping of the file; see `FileModule.open`."""
        return SqliteMapping(path, flag)

    def update(self, mapping: SqliteMapping, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Store rows in one transaction; see `FileModule.update`."""
        mapping.connection.execute("BEGIN")
        super().update(mapping, changes)
        mapping.connection.execute("COMMIT")


class SqliteMapping(MutableMapping[bytes, bytes]):
    """The mapping that a file of `dbm.sqlite3` is.

    Args:
        path: The file.
        flag: "r" for reading a file that nobody writes, "w" for writing, "n" for a new one.
    """

    def __init__(self, path: Path, flag: str) -> None:
        mode = "ro&immutable=1" if flag == "r" else "rwc" if flag == "n" else "rw"
        # Threads take turns. BEGIN and COMMIT are the caller's.
        self.connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            self.connection.execute("PRAGMA trusted_schema = OFF")
            self.connection.execute("PRAGMA cell_size_check = ON")
            if flag != "r":
                # What is written is a copy, which is thrown away after a crash, and synced by whoever made it. A file
                # with the changes to undo would outlive a copy that failed, and be applied to the next one.
                self.connection.execute("PRAGMA journal_mode = MEMORY")
                self.connection.execute("PRAGMA synchronous = OFF")
            if flag == "n":
                self.connection.execute(CREATE)
        except BaseException:
            self.connection.close()
            raise

    def __getitem__(self, key: bytes) -> bytes:
        found = self.connection.execute(GET, (key,)).fetchone()
        if found is None:
            raise KeyError(key)
        row: bytes = found[0]
        return row

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.connection.execute(PUT, (key, value))

    def __delitem__(self, key: bytes) -> None:
        if not self.connection.execute(DELETE, (key,)).rowcount:
            raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        for (key,) in self.connection.execute(KEYS):
            yield key

    def __len__(self) -> int:
        return int(self.connection.execute(COUNT).fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


class GnuBackend(FileBackend):
    """A store in a file of `dbm.gnu`; see `FileBackend`."""

    scheme: ClassVar[str] = "dbm.gnu"
    capabilities: ClassVar[Capabilities] = Capabilities(shared=False, largest_row=2**31 - 2**16)
    module: ClassVar[FileModule] = StandardModule("dbm.gnu", ("",))


class NdbmBackend(FileBackend):
    """A store in the files of `dbm.ndbm`, where that stands on Berkeley DB or gdbm; see `FileBackend`."""

    scheme: ClassVar[str] = "dbm.ndbm"
    capabilities: ClassVar[Capabilities] = Capabilities(shared=False, largest_row=2**31 - 2**16)
    module: ClassVar[FileModule] = NdbmModule("dbm.ndbm", (".db",), (".pag", ".dir"))


class ClassicNdbmBackend(NdbmBackend):
    """A store in the files of `dbm.ndbm`, where that is a classic one: key and row must fit into a block of 1 KiB."""

    capabilities: ClassVar[Capabilities] = Capabilities(shared=False, largest_row=700, longest_name=250)


class DumbBackend(FileBackend):
    """A store in the files of `dbm.dumb`, which every Python has; see `FileBackend`."""

    scheme: ClassVar[str] = "dbm.dumb"
    capabilities: ClassVar[Capabilities] = Capabilities(shared=False)
    module: ClassVar[FileModule] = StandardModule("dbm.dumb", (".dat", ".dir"))


class Sqlite3Backend(FileBackend):
    """A store in a file of `dbm.sqlite3`; see `FileBackend`."""

    scheme: ClassVar[str] = "dbm.sqlite3"
    capabilities: ClassVar[Capabilities] = Capabilities(shared=False, largest_row=10**9)
    module: ClassVar[FileModule] = SqliteModule()


#: In the order in which the standard library takes one for a new file.
BACKENDS: Final[dict[str, type[FileBackend]]] = {
    backend.scheme: backend for backend in (Sqlite3Backend, GnuBackend, NdbmBackend, DumbBackend)
}


def open_dbm(
    path: str | os.PathLike[str],
    flag: str = "c",
    *,
    scheme: str = "dbm",
    durable: bool = True,
    timeout: float = 5.0,
) -> FileBackend:
    """Open a store in the files of a module of the `dbm` family.

    Args:
        path: The path, as the module takes it: without the suffixes that some add.
        flag: See `FileBackend`.
        scheme: The module, as `dbm.gnu`; "dbm" recognises what is there, and takes for a new store what the standard library
            would take.
        durable: See `FileBackend`.
        timeout: See `FileBackend`.

    Returns:
        The open backend.

    Raises:
        StorageError: The interpreter has no such module; and as `FileBackend` does.
        FormatError: What is there is of no module of the family, or of another than `scheme`.
    """
    path = Path(path).absolute()
    with _sqlite_files.guard:
        taken = path.is_file() and _sqlite_files.is_open(path)
        found = None if taken else recognise(path)
    if scheme == "dbm":
        scheme = found or _standard_choice()
    if found not in (None, scheme):
        message = f"{path} is a store of {found}, not of {scheme}: open it as {found}, or with dbm:///"
        raise FormatError(message)
    if found is None and path.is_file() and not os.access(path, os.R_OK):
        message = f"{path} can't be read: Permission denied; see who may read it"
        raise StorageError(message)
    if found is None and path.exists() and path.stat().st_size:
        message = f"{path} is no file of the dbm family; choose another path"
        raise FormatError(message)
    backend = BACKENDS[scheme]
    if isinstance(backend.module, StandardModule):
        module = backend.module.load()
        if scheme == "dbm.ndbm" and module.library not in ("Berkeley DB", "GNU gdbm"):
            backend = ClassicNdbmBackend
    return backend(path, flag, durable=durable, timeout=timeout)


def recognise(path: Path) -> str | None:
    """Return the module of the family whose files stand at this path, by their content; None where none does."""
    header = peek(beside(path, ".journal"))
    if header is not None and header.kind in BACKENDS:
        return header.kind
    found = dbm.whichdb(str(path))
    if found in BACKENDS and found != "dbm.sqlite3":
        return found
    if beside(path, ".db").is_file() and not path.exists() and not found:
        with beside(path, ".db").open("rb") as file:
            if file.read(16)[12:] in (b"\x61\x15\x06\x00", b"\x00\x06\x15\x61"):  # Berkeley DB, a hash
                return "dbm.ndbm"
    return "dbm.sqlite3" if has_sqlite_table(path, "Dict") else None


def has_sqlite_table(path: Path, table: str) -> bool:
    """Return whether this is an SQLite file with such a table."""
    with _sqlite_files.guard:
        if path.is_file() and _sqlite_files.is_open(path):  # by ours, whose locks would end with our closing it here
            return False
    try:
        with path.open("rb") as file:
            if file.read(len(_sqlite_files.MAGIC)) != _sqlite_files.MAGIC:
                return False
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except (OSError, sqlite3.Error):
        return False
    try:
        return connection.execute(FIND_TABLE, (table,)).fetchone() is not None
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def _standard_choice() -> str:
    for scheme in BACKENDS:
        try:
            import_module(scheme)
        except ImportError:
            continue
        return scheme
    return "dbm.dumb"
