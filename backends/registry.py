"""From a target (a path or a URL) to an open backend.

A URL names its backend by its scheme; a plain path is recognised by what stands there, and is SQLite where nothing does.
Schemes of other distributions are found through the entry-point group `pstore.backends`: an entry point's name is the
scheme and its object is called as `factory(url, flag, durable=...)`.
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from pstore.backends import dbm
from pstore.backends.base import Backend, check_flag
from pstore.backends.generations import beside
from pstore.backends.journal import peek
from pstore.backends.memory import MemoryBackend
from pstore.backends.sqlite import MAGIC, SqliteBackend
from pstore.backends.sqlitedict import TABLE, SqlitedictBackend
from pstore.errors import FormatError, StorageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

ENTRY_POINTS: Final = "pstore.backends"
# One letter before the colon is a drive, not a scheme.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def open_backend(target: str | os.PathLike[str], flag: str = "c", *, durable: bool = True) -> Backend:
    """Open the backend that a path or URL names.

    Args:
        target: A path, or a URL: `sqlite:///path`, `dbm:///path` (or `dbm.gnu:`, `dbm.ndbm:`, `dbm.dumb:`, `dbm.sqlite3:`),
            `sqlitedict:///path`, `memory:`, or one that an installed backend registers.
        flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing store, "n" starts empty.
        durable: Whether a commit waits until the disk has it.

    Returns:
        The open backend; the caller closes it.

    Raises:
        ValueError: The flag or the URL's scheme is unknown.
        FormatError: The target is something else than a store.
        StoreNotFound: There is no store and the flag says not to make one.
        StorageError: The file can't be read.
    """
    check_flag(flag)
    if not str(target) or str(target) == ":memory:":
        message = f"a store is opened by a path or URL, not by {str(target)!r}; one in memory is 'memory:'"
        raise ValueError(message)
    if isinstance(target, str) and (match := _SCHEME.match(target)):
        return _by_scheme(match[1].lower())(target, flag, durable=durable)
    return _by_content(Path(target))(target, flag, durable=durable)


def open_overlay(base: str | os.PathLike[str] | Backend, flag: str = "c") -> Backend:
    """Open a store in memory that reads through to another.

    Args:
        base: A path or URL, which is opened for reading and closed with the overlay, or an open backend.
        flag: "c"; or "n", with which nothing of the base would be seen, and which is refused with the others.

    Returns:
        The open backend; the caller closes it.

    Raises:
        ValueError: The flag isn't "c".
        Error: As opening the base raises it.
    """
    if flag != "c":
        message = f"a memory store over a base is opened with flag 'c', not {flag!r}: it begins as what the base is"
        raise ValueError(message)
    if isinstance(base, Backend):
        return MemoryBackend(base=base)
    opened = open_backend(base, "r")
    try:
        return MemoryBackend(base=opened, owns_base=True)
    except BaseException:
        opened.close()
        raise


def _by_scheme(scheme: str) -> Callable[..., Backend]:
    if scheme in _BUILTIN:
        return _BUILTIN[scheme]
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if scheme in found:
        factory: Callable[..., Backend] = found[scheme].load()
        return factory
    known = ", ".join(sorted({*_BUILTIN, *found}))
    message = (
        f"no backend is called {scheme!r}; known are {known} (a file whose name has a colon: write ./{scheme}:...)"
    )
    raise ValueError(message)


def _by_content(path: Path) -> Callable[..., Backend]:
    try:
        for recognise in _RECOGNISERS:
            if (factory := recognise(path)) is not None:
                return factory
        if path.is_dir():
            message = f"{path} is a directory; a store is a file"
            raise FormatError(message)
        if path.is_file() and path.stat().st_size:
            message = f"{path} is not a pstore store; choose another path"
            raise FormatError(message)
    except OSError as error:
        message = f"{path} can't be read: {error.strerror}"
        raise StorageError(message) from error
    return SqliteBackend


def _recognise_file_backend(path: Path) -> Callable[..., Backend] | None:
    """A store of the dbm family or of sqlitedict; each is some files beside a path, or an SQLite file with its table."""
    header = peek(beside(path, ".journal"))
    if header is not None and header.kind == SqlitedictBackend.scheme:
        return SqlitedictBackend
    if dbm.recognise(path) is not None:
        return dbm.open_dbm
    return SqlitedictBackend if dbm.has_sqlite_table(path, TABLE) else None


def _recognise_sqlite(path: Path) -> Callable[..., Backend] | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return SqliteBackend if file.read(len(MAGIC)) == MAGIC else None


#: Each returns what opens the store at a path, or None where it isn't of its kind; asked in this order.
_RECOGNISERS: Final[tuple[Callable[[Path], Callable[..., Backend] | None], ...]] = (
    _recognise_file_backend,
    _recognise_sqlite,
)


def _path_of(url: str) -> str:
    """Return the path of a URL that names a file."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        kind = parts.scheme
        message = f"such a URL is {kind}:///relative/path or {kind}:////absolute/path, not {url!r}"
        raise ValueError(message)
    return unquote(parts.path.removeprefix("/"))


def _sqlite(url: str, flag: str, *, durable: bool) -> Backend:
    return SqliteBackend(_path_of(url), flag, durable=durable)


def _dbm(url: str, flag: str, *, durable: bool) -> Backend:
    return dbm.open_dbm(_path_of(url), flag, scheme=urlsplit(url).scheme, durable=durable)


def _sqlitedict(url: str, flag: str, *, durable: bool) -> Backend:
    return SqlitedictBackend(_path_of(url), flag, durable=durable)


def _memory(url: str, flag: str, *, durable: bool) -> Backend:
    del durable  # nothing here lasts
    if url.partition(":")[2].strip("/") or flag in "rw":
        message = f"a memory store is opened as 'memory:' with flag 'c' or 'n': it is always new ({url!r}, {flag!r})"
        raise ValueError(message)
    return MemoryBackend()


_BUILTIN: Final[dict[str, Callable[..., Backend]]] = {
    "sqlite": _sqlite,
    "memory": _memory,
    "sqlitedict": _sqlitedict,
    "dbm": _dbm,
    **dict.fromkeys(dbm.BACKENDS, _dbm),
}
