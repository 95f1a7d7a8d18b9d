"""pstore: a persistent object store for Python. Open one with `pstore.open`."""

from __future__ import annotations

from pstore import pickle
from pstore._open import ANYTHING, open  # noqa: A004  # the standard's name for it, as in shelve and dbm
from pstore._version import __version__
from pstore.copying import Copied, Progress, copy
from pstore.declare import persistent
from pstore.errors import (
    ClassNotAllowed,
    ClassNotFound,
    CommitUncertain,
    Conflict,
    ConflictError,
    ConnectionLost,
    CorruptRecord,
    Error,
    ForeignObject,
    FormatError,
    MissingRecord,
    NewerVersion,
    ReadOnlyError,
    SavepointEnded,
    StorageError,
    StoreBusy,
    StoreClosed,
    StoreLocked,
    StoreNotFound,
    Uncommitted,
    WrongThread,
)
from pstore.store import Commit, Savepoint, Store

__all__ = [
    "ANYTHING",
    "ClassNotAllowed",
    "ClassNotFound",
    "Commit",
    "CommitUncertain",
    "Conflict",
    "ConflictError",
    "ConnectionLost",
    "Copied",
    "CorruptRecord",
    "Error",
    "ForeignObject",
    "FormatError",
    "MissingRecord",
    "NewerVersion",
    "Progress",
    "ReadOnlyError",
    "Savepoint",
    "SavepointEnded",
    "StorageError",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreLocked",
    "StoreNotFound",
    "Uncommitted",
    "WrongThread",
    "__version__",
    "copy",
    "open",
    "persistent",
    "pickle",
]
