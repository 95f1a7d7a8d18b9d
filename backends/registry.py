"""From a target (a path or a URL) to an open backend.

A URL names its backend by its scheme; a plain path is recognised by the file's content, and is SQLite where the file
is new. Schemes of other distributions are found through the entry-point group `pstore.backends`: an entry point's name
is the scheme and its object is called as `factory(url, flag, durable=...)`.
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from pstore.backends.memory import MemoryBackend
from pstore.backends.postgresql import PostgresqlBackend
from pstore.backends.sqlite import MAGIC, SqliteBackend
from pstore.errors import FormatError, StorageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from pstore.backends.base import Backend

ENTRY_POINTS: Final = "pstore.backends"
_FLAGS: Final = ("r", "w", "c", "n")
# One letter before the colon is a drive, not a scheme.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def open_backend(target: str | os.PathLike[str], flag: str = "c", *, durable: bool = True) -> Backend:
    """Open the backend that a path or URL names.

    Args:
        target: A path, or a URL: `sqlite:///path`, `memory:`, `postgresql://...`, or one that an installed backend registers.
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
    if flag not in _FLAGS:
        message = f"flag must be one of {', '.join(map(repr, _FLAGS))}, not {flag!r}"
        raise ValueError(message)
    if not str(target) or str(target) == ":memory:":
        message = f"a store is opened by a path or URL, not by {str(target)!r}; one in memory is 'memory:'"
        raise ValueError(message)
    if isinstance(target, str) and (match := _SCHEME.match(target)):
        return _by_scheme(match[1].lower())(target, flag, durable=durable)
    return _by_content(Path(target))(target, flag, durable=durable)


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
    if path.is_dir():
        message = f"{path} is a directory; a store is a file"
        raise FormatError(message)
    if path.is_file():
        try:
            with path.open("rb") as file:
                start = file.read(len(MAGIC))
        except OSError as error:
            message = f"{path} can't be read: {error.strerror}"
            raise StorageError(message) from error
        if start and start != MAGIC:
            message = f"{path} is not a pstore store; choose another path"
            raise FormatError(message)
    return SqliteBackend


def _sqlite(url: str, flag: str, *, durable: bool) -> Backend:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        message = f"an SQLite URL is sqlite:///relative/path or sqlite:////absolute/path, not {url!r}"
        raise ValueError(message)
    return SqliteBackend(unquote(parts.path.removeprefix("/")), flag, durable=durable)


def _memory(url: str, flag: str, *, durable: bool) -> Backend:
    del durable  # nothing here lasts
    if url.partition(":")[2].strip("/") or flag in "rw":
        message = f"a memory store is opened as 'memory:' with flag 'c' or 'n': it is always new ({url!r}, {flag!r})"
        raise ValueError(message)
    return MemoryBackend()


_BUILTIN: Final[dict[str, Callable[..., Backend]]] = {
    "sqlite": _sqlite,
    "memory": _memory,
    "postgresql": PostgresqlBackend,
    "postgres": PostgresqlBackend,
}
