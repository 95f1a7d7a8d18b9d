"""`pstore.open`: the one place that wires the layers together."""

from __future__ import annotations

import os
import threading
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Literal

from pstore.backends import Backend, MappingBackend, open_backend, open_overlay
from pstore.declare import declared
from pstore.pickle.policy import ANYTHING, Policy
from pstore.store import Opened, Store, session_options

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ANYTHING", "open"]


def open(  # noqa: A001  # the standard's name for it, as in shelve and dbm
    target: str | os.PathLike[str] | Backend | MutableMapping[str, bytes] | MutableMapping[bytes, bytes],
    flag: str = "c",
    *,
    allow: Iterable[object] = (),
    isolation: Literal["snapshot", "serializable"] = "snapshot",
    cache_size: int = 100_000,
    cache_bytes: int = 256 * 1024 * 1024,
    durable: bool = True,
    base: str | os.PathLike[str] | Backend | None = None,
) -> Store:
    """Open a store.

    Args:
        target: A path (SQLite; an existing store is recognised by what stands there); a URL (`sqlite:///path`, `dbm:///path`,
            `sqlitedict:///path`, `memory:`, or one that an installed backend registers); an open backend, which stays open when
            the store is closed; or a mapping from str or bytes to bytes, in which a commit is whole as long as the process
            lives, and as durable as the mapping (`pstore.backends.MappingBackend`, which also takes a journal).
        flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing store, "n" starts empty.
        allow: What the store may hold beside harmless types and declared classes: classes and functions; modules; names
            such as "package.module.Class", "package.module" and "package.*". `pstore.ANYTHING` allows all.
        isolation: "snapshot": a commit is refused where another session has written the same record or name since this one's
            snapshot. "serializable": also where it has written what this one has only read.
        cache_size: How many records may keep their states in memory between transactions; what was used least recently
            becomes a ghost.
        cache_bytes: How many bytes these records may have, as they are stored.
        durable: Whether a commit waits until the disk has it. Without, a crash of the machine may lose the last commits.
        base: For "memory:" alone: a path, URL or open backend to read through to. What is committed is kept in memory; the base
            stays as it is, and is seen as it was when this was opened. A path or URL is opened for reading, and closed with
            the store; an open backend has to stay open for as long.

    Returns:
        The open store.

    Raises:
        StoreNotFound: There is no store and the flag says not to make one.
        FormatError: The target is something else than a store, or of a newer format.
        ValueError: The flag, the URL's scheme or the isolation is unknown, a size is negative, or `base` isn't for this target.
        TypeError: The target or an entry of `allow` is of no type that is taken.
    """
    policy = Policy(allow, declared=declared)
    options = session_options(isolation, cache_size, cache_bytes)
    if base is not None and (not isinstance(target, str) or target.lower() != "memory:"):
        message = f"base is for a store in memory, pstore.open('memory:', base=...), not for {target!r}"
        raise ValueError(message)
    if isinstance(target, Backend):
        return Store(Opened(target, policy, owned=False), options, thread=threading.get_ident())
    backend = _backend(target, flag, base, durable=durable)
    try:
        return Store(Opened(backend, policy, owned=True), options, thread=threading.get_ident())
    except BaseException:
        backend.close()
        raise


def _backend(target: object, flag: str, base: str | os.PathLike[str] | Backend | None, *, durable: bool) -> Backend:
    """Open the backend of a target that isn't one itself."""
    if isinstance(target, MutableMapping):
        return MappingBackend(target, flag)
    if not isinstance(target, (str, os.PathLike)):
        message = f"a store is opened by path, URL, backend or mapping, not by {target!r}"
        raise TypeError(message)
    if base is None:
        return open_backend(target, flag, durable=durable)
    return open_overlay(base, flag)
