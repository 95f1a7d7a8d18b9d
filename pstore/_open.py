"""`pstore.open`: the one place that wires the layers together."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Literal

from pstore.backends import Backend, open_backend
from pstore.declare import declared
from pstore.pickle.policy import ANYTHING, Policy
from pstore.store import Opened, Store, session_options

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ANYTHING", "open"]


def open(  # noqa: A001  # the standard's name for it, as in shelve and dbm
    target: str | os.PathLike[str] | Backend,
    flag: str = "c",
    *,
    allow: Iterable[object] = (),
    isolation: Literal["snapshot", "serializable"] = "snapshot",
    cache_size: int = 100_000,
    cache_bytes: int = 256 * 1024 * 1024,
    durable: bool = True,
) -> Store:
    """Open a store.

    Args:
        target: A path (SQLite; an existing file is recognised by its content), a URL (`sqlite:///path`, `memory:`, or
            one that an installed backend registers), or an open backend, which stays open when the store is closed.
        flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing store, "n" starts empty.
        allow: What the store may hold beside harmless types and declared classes: classes and functions; modules; names
            such as "package.module.Class", "package.module" and "package.*". `pstore.ANYTHING` allows all.
        isolation: "snapshot": a commit is refused where another session has written the same record or name since this one's
            snapshot. "serializable": also where it has written what this one has only read.
        cache_size: How many records may keep their states in memory between transactions; what was used least recently
            becomes a ghost.
        cache_bytes: How many bytes these records may have, as they are stored.
        durable: Whether a commit waits until the disk has it. Without, a crash of the machine may lose the last commits.

    Returns:
        The open store.

    Raises:
        StoreNotFound: There is no store and the flag says not to make one.
        FormatError: The target is something else than a store, or of a newer format.
        ValueError: The flag, the URL's scheme or the isolation is unknown, or a size is negative.
        TypeError: The target or an entry of `allow` is of no type that is taken.
    """
    policy = Policy(allow, declared=declared)
    options = session_options(isolation, cache_size, cache_bytes)
    if isinstance(target, Backend):
        return Store(Opened(target, policy, owned=False), options, thread=threading.get_ident())
    if not isinstance(target, (str, os.PathLike)):
        message = f"a store is opened by path, URL or backend, not by {target!r}"
        raise TypeError(message)
    backend = open_backend(target, flag, durable=durable)
    try:
        return Store(Opened(backend, policy, owned=True), options, thread=threading.get_ident())
    except BaseException:
        backend.close()
        raise
