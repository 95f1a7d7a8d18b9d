"""`pstore.open`: the one place that wires the layers together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pstore.backends import Backend, open_backend
from pstore.declare import declared
from pstore.pickle.policy import ANYTHING, Policy
from pstore.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ANYTHING", "open"]


def open(  # noqa: A001  # the standard's name for it, as in shelve and dbm
    target: str | os.PathLike[str] | Backend,
    flag: str = "c",
    *,
    allow: Iterable[object] = (),
    durable: bool = True,
) -> Store:
    """Open a store.

    Args:
        target: A path (SQLite; an existing file is recognised by its content), a URL (`sqlite:///path`, `memory:`, or
            one that an installed backend registers), or an open backend, which stays open when the store is closed.
        flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing store, "n" starts empty.
        allow: What the store may hold beside harmless types and declared classes: classes and functions; modules; names
            such as "package.module.Class", "package.module" and "package.*". `pstore.ANYTHING` allows all.
        durable: Whether a commit waits until the disk has it. Without, a crash of the machine may lose the last commits.

    Returns:
        The open store.

    Raises:
        StoreNotFound: There is no store and the flag says not to make one.
        FormatError: The target is something else than a store, or of a newer format.
        ValueError: The flag or the URL's scheme is unknown.
        TypeError: The target or an entry of `allow` is of no type that is taken.
    """
    policy = Policy(allow, declared=declared)
    if isinstance(target, Backend):
        return Store(target, policy, owns_backend=False)
    if not isinstance(target, (str, os.PathLike)):
        message = f"a store is opened by path, URL or backend, not by {target!r}"
        raise TypeError(message)
    backend = open_backend(target, flag, durable=durable)
    try:
        return Store(backend, policy, owns_backend=True)
    except BaseException:
        backend.close()
        raise
