"""The package `lmdb`: how it is had, and what its errors mean.

This module opens nothing, and knows nothing of what is stored.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pstore.backends._lmdb_file import damaged
from pstore.errors import Error, FormatError, ReadOnlyError, StorageError, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def driver() -> Any:
    """Return the package `lmdb`.

    Raises:
        StorageError: It isn't installed.
    """
    try:
        import lmdb
    except ImportError as error:
        message = f"an LMDB store needs the package lmdb ({error}): python -m pip install 'pstore-db[lmdb]'"
        raise StorageError(message) from error
    return lmdb


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of LMDB and of the system about a file into ours."""
    try:
        yield
    except driver().Error as error:
        raise _translate(path, error) from error
    except OSError as error:
        if isinstance(error, Error):
            raise
        message = f"{path}: {error.strerror or error}"
        raise StorageError(message) from error


def _translate(path: Path, error: Any) -> Error:
    lmdb = driver()
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)):
        return damaged(path, str(error))
    if isinstance(error, (lmdb.VersionMismatchError, lmdb.IncompatibleError)):
        return FormatError(f"{path} is of another version or kind of LMDB: {error}")
    if isinstance(error, lmdb.ReadersFullError):
        return StoreLocked(f"{path}: all places for readers are taken; end transactions, or close sessions")
    if isinstance(error, lmdb.LockError):
        return StoreLocked(f"{path} is locked by another process: {error}; try again later")
    if isinstance(error, lmdb.ReadonlyError):
        return ReadOnlyError(f"{path} can't be written, or nothing beside it: {error}")
    if isinstance(error, lmdb.DiskError):
        return StorageError(f"{path}: there is no room on the disk; make some, and try again ({error})")
    if "already open" in str(error):
        return StorageError(f"{path} is open in this process by other means than pstore, or was replaced: {error}")
    return StorageError(f"{path}: LMDB says: {error}")
