"""From a target (a path or a URL) to an open backend.

A URL names its backend by its scheme; a plain path is recognised by what stands there, and is SQLite where nothing
does. Schemes of other distributions are found through the entry-point group `pstore.backends`: an entry point's name
is the scheme and its object is called as `factory(url, flag, durable=...)`.
"""

from __future__ import annotations

import math
import os
import re
import threading
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pstore.backends import _lmdb_file, _sqlite_files, dbm
from pstore.backends._file_module import beside
from pstore.backends.base import Backend, check_flag
from pstore.backends.journal import peek
from pstore.backends.lmdb import LmdbBackend
from pstore.backends.memory import MemoryBackend
from pstore.backends.postgresql import PostgresqlBackend
from pstore.backends.sqlite import SqliteBackend
from pstore.backends.sqlitedict import TABLE, SqlitedictBackend
from pstore.errors import Error, FormatError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY_POINTS: Final = "pstore.backends"
# One letter before the colon is a drive, not a scheme.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def open_backend(target: str | os.PathLike[str], flag: str = "c", *, durable: bool = True) -> Backend:
    """Open the backend that a path or URL names.

    Args:
        target: A path, or a URL: `sqlite:///path` (`?timeout=30` is how long a writer waits for others, in seconds; 5 where
            it isn't said), `lmdb:///path` (with `timeout`, too, `map_size` and `check`; see `LmdbBackend`), `dbm:///path` (or
            `dbm.gnu:`, `dbm.ndbm:`, `dbm.dumb:`, `dbm.sqlite3:`), `sqlitedict:///path` (both with `timeout`), `postgresql://...` (see
            `PostgresqlBackend`), `memory:`, or one that an installed backend registers.
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
    if not isinstance(target, (str, os.PathLike)):
        message = f"a store is opened by a path or URL, not by a {type(target).__name__}"
        raise TypeError(message)
    if not str(target) or str(target) == ":memory:":
        message = f"a store is opened by a path or URL, not by {str(target)!r}; one in memory is 'memory:'"
        raise ValueError(message)
    scheme = scheme_of(target)
    if "\0" in (unquote(str(target)) if scheme else str(target)):
        message = f"no file's name has a NUL in it, as {str(target)!r} has; choose another path"
        raise ValueError(message)
    try:
        factory = _by_scheme(scheme) if scheme else _by_content(Path(target))
        return factory(target, flag, durable=durable)
    except OSError as error:
        if isinstance(error, Error):
            raise
        place = f"the {scheme} store" if "@" in str(target) else target  # a URL may have a password
        message = f"{place} can't be opened: {error.strerror or error}; choose another path, or see who may use it"
        raise StorageError(message) from error


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


def scheme_of(target: str | os.PathLike[str]) -> str:
    """Return the scheme of a URL in lower case; "" for a path."""
    match = _SCHEME.match(target) if isinstance(target, str) else None
    return match[1].lower() if match else ""


def _by_scheme(scheme: str) -> Callable[..., Backend]:
    if scheme in _BUILTIN:
        return _BUILTIN[scheme]
    found = entry_points(group=ENTRY_POINTS)
    entries = {(entry.value, _package(entry)): entry for entry in found if entry.name == scheme}
    if len(entries) > 1:
        packages = " and ".join(sorted(package for _, package in entries))
        message = f"{scheme!r} is registered as a backend by more than one package, {packages}; remove all but one"
        raise ValueError(message)
    for entry in entries.values():
        return _registered(entry)
    known = ", ".join(sorted({*_BUILTIN, *(entry.name for entry in found)}))
    message = (
        f"no backend is called {scheme!r}; known are {known} (a file whose name has a colon: write ./{scheme}:...)"
    )
    raise ValueError(message)


def _registered(entry: EntryPoint) -> Callable[..., Backend]:
    """Return the factory of an entry point, which tells whose it is where it is no good."""
    told = f"the backend {entry.name!r} of the package {_package(entry)}"
    remedy = "reinstall the package, or ask its authors"
    try:
        factory = entry.load()
    except Exception as error:  # whatever its module does when it is imported
        message = f"{told} can't be loaded: {entry.value}: {type(error).__name__}: {error}; {remedy}"
        raise StorageError(message) from error
    if not callable(factory):
        message = f"{told} can't be opened: {entry.value} isn't a function, but {factory!r}; {remedy}"
        raise StorageError(message)

    def checked(url: str, flag: str, *, durable: bool) -> Backend:
        backend = factory(url, flag, durable=durable)
        if not isinstance(backend, Backend):
            message = f"{told} can't be opened: {entry.value} returned no backend, but {backend!r}; {remedy}"
            raise StorageError(message)
        return backend

    return checked


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "?"


def _by_content(path: Path) -> Callable[..., Backend]:
    if path.is_dir():
        message = f"{path} is a directory; a store is a file"
        raise FormatError(message)
    with _sqlite_files.guard:
        if path.is_file() and _sqlite_files.is_open(path):
            return SqliteBackend
        if (factory := _beside_a_journal(path)) is not None:
            return factory
    if path.is_file():
        with _sqlite_files.guard:
            start = _start_of(path)
        if not start:
            return SqliteBackend
        for at, magic, backend in _BY_CONTENT:
            if start[at : at + len(magic)] == magic:
                return backend
        message = f"{path} is not a pstore store; choose another path"
        raise FormatError(message)
    return SqliteBackend


def _beside_a_journal(path: Path) -> Callable[..., Backend] | None:
    """A store of the dbm family or of sqlitedict; each is some files beside a path, or an SQLite file with its table."""
    header = peek(beside(path, ".journal"))
    if header is not None and header.kind == SqlitedictBackend.scheme:
        return SqlitedictBackend
    if dbm.recognise(path) is not None:
        return dbm.open_dbm
    return SqlitedictBackend if dbm.has_sqlite_table(path, TABLE) else None


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_START)
    except OSError as error:
        message = f"{path} can't be read: {error.strerror}"
        raise StorageError(message) from error


def file_and_options(url: str, **types: Callable[[str], object]) -> tuple[str, dict[str, object]]:
    """Take the URL of a file apart: `scheme:///relative/path` or `scheme:////absolute/path`, and `?option=value&...`.

    Args:
        url: The URL.
        types: The options that there are, each with what makes its value of a string (and raises ValueError).

    Returns:
        The path, and the options that the URL has.

    Raises:
        ValueError: The URL names no file, or has an option that there isn't, or one with a wrong value.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        message = f"the URL of a file is scheme:///relative/path or scheme:////absolute/path, not {url!r} ({error})"
        raise ValueError(message) from None
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/") or parts.fragment:
        scheme = parts.scheme
        message = f"the URL of a file is {scheme}:///relative/path or {scheme}:////absolute/path, not {url!r}"
        raise ValueError(message)
    options: dict[str, object] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in types or name in options:
            twice = " twice" if name in options else ""
            message = f"the URL of a {parts.scheme} store takes {', '.join(types)}, and not {name!r}{twice}: {url!r}"
            raise ValueError(message)
        try:
            options[name] = types[name](value)
        except ValueError as error:
            message = f"{name} is {error}, not {value!r}: {url!r}"
            raise ValueError(message) from None
    return unquote(parts.path.removeprefix("/")), options


def _sqlite(url: str, flag: str, *, durable: bool) -> Backend:
    path, options = file_and_options(url, timeout=_seconds)
    return SqliteBackend(path, flag, durable=durable, **options)  # type: ignore[arg-type]  # each has its type


def _lmdb(url: str, flag: str, *, durable: bool) -> Backend:
    path, options = file_and_options(url, timeout=_seconds, map_size=_bytes, check=_yes_or_no)
    return LmdbBackend(path, flag, durable=durable, **options)  # type: ignore[arg-type]  # each has its type


def _dbm(url: str, flag: str, *, durable: bool) -> Backend:
    path, options = file_and_options(url, timeout=_seconds)
    scheme = urlsplit(url).scheme
    return dbm.open_dbm(path, flag, scheme=scheme, durable=durable, **options)  # type: ignore[arg-type]  # as above


def _sqlitedict(url: str, flag: str, *, durable: bool) -> Backend:
    path, options = file_and_options(url, timeout=_seconds)
    return SqlitedictBackend(path, flag, durable=durable, **options)  # type: ignore[arg-type]  # as above


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        message = "a number of seconds, 0 or more"
        raise ValueError(message)
    return min(seconds, threading.TIMEOUT_MAX)


def _bytes(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        message = "a number of bytes"
        raise ValueError(message)
    return int(value)


def _yes_or_no(value: str) -> bool:
    if value not in ("0", "1"):
        message = "0 or 1"
        raise ValueError(message)
    return value == "1"


def _memory(url: str, flag: str, *, durable: bool) -> Backend:
    del durable  # nothing here lasts
    if url.partition(":")[2].strip("/") or flag in "rw":
        message = f"a memory store is opened as 'memory:' with flag 'c' or 'n': it is always new ({url!r}, {flag!r})"
        raise ValueError(message)
    return MemoryBackend()


_BUILTIN: Final[dict[str, Callable[..., Backend]]] = {
    "sqlite": _sqlite,
    "lmdb": _lmdb,
    "memory": _memory,
    "sqlitedict": _sqlitedict,
    "dbm": _dbm,
    **dict.fromkeys(dbm.BACKENDS, _dbm),
    "postgresql": PostgresqlBackend,
    "postgres": PostgresqlBackend,
}
#: How a file is recognised: (where, what stands there, whose it is).
_BY_CONTENT: Final[tuple[tuple[int, bytes, Callable[..., Backend]], ...]] = (
    (0, _sqlite_files.MAGIC, SqliteBackend),
    (_lmdb_file.MAGIC_AT, _lmdb_file.MAGIC, LmdbBackend),
)
_START: Final = max(at + len(magic) for at, magic, _ in _BY_CONTENT)
