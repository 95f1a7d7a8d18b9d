"""The LMDB environments of this process, one a file: LMDB forbids a process to open a file twice.

It knows files by device and inode, so that a file is the same by whatever name. This module knows nothing of what an
environment does, but that it is opened, shared, closed, and left alone in a forked child.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from pstore.backends import _sqlite_files
from pstore.backends._lmdb_environment import Environment

if TYPE_CHECKING:
    from pathlib import Path

_environments: Final[dict[_sqlite_files.Identity | None, Environment]] = {}
_opening = threading.RLock()


def open_environment(
    path: Path, *, readonly: bool, durable: bool, map_size: int, timeout: float, walk: bool | None
) -> Environment:
    """Return the environment of a file: the one that this process has already, or a new one.

    Args:
        path: The data file.
        readonly: Whether to read only.
        durable: Whether commits must last.
        map_size: The least size of the map, in bytes.
        timeout: How long to wait for others, in seconds.
        walk: As `check_file` takes it; a file that is open here already isn't looked at again.

    Raises:
        CorruptRecord: The file is damaged.
        FormatError: It is something else than a store.
        StoreLocked: Others are in the way.
        StorageError: It can't be opened.
    """
    with _opening:
        _close_unused()
        found = _environments.get(_sqlite_files.identify(path))
        if found is not None:
            found.share(readonly=readonly, durable=durable, map_size=map_size, timeout=timeout)
        else:
            found = Environment(path, readonly=readonly, durable=durable, map_size=map_size, timeout=timeout, walk=walk)
            _environments[_sqlite_files.identify(path)] = found
        found.users += 1
        return found


def release_environment(environment: Environment) -> None:
    """One who had opened an environment needs it no more."""
    with _opening:
        environment.users -= 1
        _close_unused()


def compact_environment(environment: Environment, timeout: float) -> None:
    """Replace the file by a copy without free pages, which is another file to the system.

    Args:
        environment: That of the file.
        timeout: How long to wait for others, in seconds.

    Raises:
        StoreLocked: Somebody else writes or has it open, or a transaction of this process is open.
    """
    environment.lock_writer(timeout)
    try:
        with _opening:
            (before,) = (identity for identity, other in _environments.items() if other is environment)
            try:
                environment.compact(timeout)
            finally:
                _environments[_sqlite_files.identify(environment.path)] = _environments.pop(before)
    finally:
        environment.unlock_writer()


def _close_unused() -> None:
    for identity, environment in list(_environments.items()):
        if not environment.users and environment.close():
            del _environments[identity]


def _after_fork() -> None:
    global _opening  # noqa: PLW0603  # another thread may have held it
    _opening = threading.RLock()
    for environment in _environments.values():
        environment.abandon()
    _environments.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
