"""From a target (a path or a URL) to an open backend.

A URL names its backend by its scheme; a plain path is recognised by the file's content, and is SQLite where the file
is new. Schemes of other distributions are found through the entry-point group `pstore.backends`: an entry point's name
is the scheme and its object is called as `factory(url, flag, durable=...)`.
"""

from __future__ import annotations

import math
import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pstore.backends.base import Backend
from pstore.backends.memory import MemoryBackend
from pstore.backends.sqlite import MAGIC, SqliteBackend
from pstore.errors import FormatError, StorageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

ENTRY_POINTS: Final = "pstore.backends"
_FLAGS: Final = ("r", "w", "c", "n")
# One letter before the colon is a drive, not a scheme.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def open_backend(target: str | os.PathLike[str], flag: str = "c", *, durable: bool = True) -> Backend:
    """Open the backend that a path or URL names.

    Args:
        target: A path, or a URL: `sqlite:///path` (`?timeout=30` is how long a writer waits for others, in seconds; 5 where
            it isn't said), `memory:`, or one that an installed backend registers.
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
    options = {"timeout": seconds} if (seconds := _timeout(parts.query, url)) is not None else {}
    return SqliteBackend(unquote(parts.path.removeprefix("/")), flag, durable=durable, **options)


def _timeout(query: str, url: str) -> float | None:
    """Return the one parameter that a URL of a file may have: how long a writer waits for another, in seconds."""
    parameters = parse_qsl(query, keep_blank_values=True)
    if not parameters:
        return None
    if [name for name, _ in parameters] != ["timeout"]:
        unknown = ", ".join(repr(name) for name, _ in parameters if name != "timeout") or "'timeout' twice"
        message = f"the URL of a store takes one parameter, timeout=SECONDS, and not {unknown}: {url!r}"
        raise ValueError(message)
    try:
        seconds = float(parameters[0][1])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        message = f"timeout is a number of seconds, 0 or more, not {parameters[0][1]!r}: {url!r}"
        raise ValueError(message)
    return seconds


def _memory(url: str, flag: str, *, durable: bool) -> Backend:
    del durable  # nothing here lasts
    if url.partition(":")[2].strip("/") or flag in "rw":
        message = f"a memory store is opened as 'memory:' with flag 'c' or 'n': it is always new ({url!r}, {flag!r})"
        raise ValueError(message)
    return MemoryBackend()


_BUILTIN: Final[dict[str, Callable[..., Backend]]] = {"sqlite": _sqlite, "memory": _memory}
