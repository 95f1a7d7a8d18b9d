"""Every exception that pstore raises of its own, in one tree.

The pickle engines raise the standard `pickle.PicklingError` and `pickle.UnpicklingError`; a missing name is a plain
`KeyError`. Everything else that is ours::

    Error
     ├── ClassNotAllowed   (pickle.PickleError)  a class or function that the store may not name
     ├── ClassNotFound     (ImportError)         the class of stored objects isn't there any more
     ├── ConflictError                           another session committed to the same record or name
     ├── CorruptRecord     (ValueError)          a row whose checksum, key or content is wrong
     ├── FormatError       (ValueError)          not a pstore store, or one of an unknown format
     ├── ForeignObject     (ValueError)          an object of another session or store
     ├── MissingRecord     (KeyError)            a reference to a record that isn't there
     ├── NewerVersion      (ValueError)          a state that a newer version of its class has written
     ├── ReadOnlyError     (PermissionError)     a change in a store that was opened for reading
     ├── SavepointEnded    (ValueError)          going back to a savepoint whose transaction, or which itself, is over
     ├── StorageError      (OSError)             the backend failed: disk full, input/output error
     │    └── ConnectionLost    (ConnectionError)  the server has gone; nothing was stored
     │         └── CommitUncertain                 ... in the middle of a commit, which may be made
     ├── StoreBusy         (RuntimeError)        called by an object's own code, in the middle of a commit or load
     ├── StoreClosed       (ValueError)          the store was closed, as a closed file says it
     ├── StoreLocked       (TimeoutError)        another process held the store for too long
     ├── StoreNotFound     (FileNotFoundError)   flag "r" or "w" and nothing there
     ├── Uncommitted       (RuntimeError)        asked for what takes a commit or rollback first
     └── WrongThread       (RuntimeError)        a session used outside the thread or process that opened it

The class in brackets is the builtin that a caller who doesn't know pstore would catch. Each message says what happened,
to which key or name, and what to do. All of them pickle.
"""

from __future__ import annotations

from pickle import PickleError
from typing import NamedTuple


class Error(Exception):
    """The root of every exception of pstore.

    Args:
        message: What happened, to what, and what to do about it.
    """

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a message is to be read.
        return str(self.args[0]) if self.args else ""


class ClassNotAllowed(Error, PickleError):
    """A class or function isn't among those that the store may name.

    Raised at commit for an object that couldn't be read back, and at load before anything is imported or built.

    Args:
        message: The whole message.
        module: The module of the class or function.
        qualname: Its qualified name in that module.
        reason: Why allowing it wouldn't help, as a clause; empty where it might.
        key: The key of the record that names it and can't be loaded for that; None where there is no such record, or the
            class is the record's own.
    """

    def __init__(
        self, message: str, *, module: str = "", qualname: str = "", reason: str = "", key: int | None = None
    ) -> None:
        super().__init__(message)
        self.module = module
        self.qualname = qualname
        self.reason = reason
        self.key = key


class ClassNotFound(Error, ImportError):
    """The class of stored objects isn't where it was: its module can't be imported, or has no such class any more.

    The objects stay in the store as they are, and everything else can be loaded.

    Args:
        message: The whole message.
        module: The module that the class was stored with.
        qualname: Its qualified name there.
        key: The key of the record that names it and can't be loaded for that; None where there is no such record, or the
            class is the record's own.
    """

    def __init__(self, message: str, *, module: str = "", qualname: str = "", key: int | None = None) -> None:
        super().__init__(message)
        self.module = module
        self.qualname = qualname
        self.key = key


class Conflict(NamedTuple):
    """What two sessions have come to differ about.

    Attributes:
        key: The key of the record; None where it is the row of a name.
        class_name: The qualified name of the record's class; None for a name.
        name: The name; for a record, one that this session has reached it by, or None.
        ours: The revision that this session has: the commit that wrote it, 0 where there was nothing.
        theirs: The revision in the store; 0 where there is nothing any more.
        read: Whether this session has only read it, in a serializable transaction.
    """

    key: int | None
    class_name: str | None
    name: str | None
    ours: int
    theirs: int
    read: bool


class ConflictError(Error):
    """Another session has committed to a record or name that this commit would write; nothing of it was stored.

    In a serializable transaction also one that this session has only read.

    Args:
        message: The whole message.
        conflicts: What both have written, or this one has read and the other written: records by key, then names.
    """

    def __init__(self, message: str, *, conflicts: tuple[Conflict, ...] = ()) -> None:
        super().__init__(message)
        self.conflicts = conflicts

    @property
    def keys(self) -> tuple[int, ...]:
        """The keys of the records among the conflicts."""
        return tuple(conflict.key for conflict in self.conflicts if conflict.key is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names among the conflicts: those whose own rows differ."""
        return tuple(conflict.name or "" for conflict in self.conflicts if conflict.key is None)


class CorruptRecord(Error, ValueError):
    """A row of the store isn't what was written: its checksum, its key or its content is wrong.

    Args:
        message: The whole message.
        key: The key of the record, or None where the row isn't a record.
        name: The name of the row, or a name that leads to the record, where one is known.
    """

    def __init__(self, message: str, *, key: int | None = None, name: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.name = name


class FormatError(Error, ValueError):
    """The target isn't a pstore store, or was written in a format that this version can't read."""


class ForeignObject(Error, ValueError):
    """An object that another session or store holds was to be stored here; an object belongs to one session."""


class MissingRecord(Error, KeyError):
    """A reference leads to a record that isn't in the store.

    Args:
        message: The whole message.
        key: The key that has no record.
        referrers: What refers to it, as far as this session knows: names as `db['a']`, and labels of objects in memory.
    """

    def __init__(self, message: str, *, key: int | None = None, referrers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.key = key
        self.referrers = referrers


class NewerVersion(Error, ValueError):
    """A state was written by a newer version of its class than the one that is declared here.

    The object stays in the store as it is, and everything else can be loaded.

    Args:
        message: The whole message.
        module: The module that the class was stored with.
        qualname: Its qualified name there.
        stored: The version of the state.
        declared: The version of the class here.
        key: The key of the record that has the state, where it isn't that of every object of the record's class.
    """

    def __init__(
        self,
        message: str,
        *,
        module: str = "",
        qualname: str = "",
        stored: int = 0,
        declared: int = 0,
        key: int | None = None,
    ) -> None:
        super().__init__(message)
        self.module = module
        self.qualname = qualname
        self.stored = stored
        self.declared = declared
        self.key = key


class ReadOnlyError(Error, PermissionError):
    """Something was changed in a store that was opened for reading only."""


class SavepointEnded(Error, ValueError):
    """A savepoint was gone back to after its transaction had ended, or one before it had been gone back to."""


class StorageError(Error, OSError):
    """The backend failed to read or write: a full disk, an input/output error."""


class ConnectionLost(StorageError, ConnectionError):
    """The connection to the server broke, or can't be made; nothing of the transaction is stored.

    What was changed is still pending. `rollback()` begins anew, with a new connection; `commit()` may be called again, and passes
    where no other session has committed since. `Store.run` does the former.
    """


class CommitUncertain(ConnectionLost):
    """The connection broke while a commit was under way, and whether it was made couldn't be found out yet.

    What the session is asked for next, be it `commit()`, `rollback()` or an object, finds out first, or raises this again. So
    calling `commit()` until it returns stores the changes once.
    """


class StoreBusy(Error, RuntimeError):
    """An object's own code, such as its `__setstate__`, called for what can't be done while a commit or a load runs."""


class StoreClosed(Error, ValueError):
    """The store was closed before this was asked of it."""


class StoreLocked(Error, TimeoutError):
    """Another session or process held the store for longer than the wait allows."""


class StoreNotFound(Error, FileNotFoundError):
    """There is no store at the target, and the flag says not to make one."""


class Uncommitted(Error, RuntimeError):
    """Something was asked for that can't be done while there are changes that aren't committed."""


class WrongThread(Error, RuntimeError):
    """A session was used outside the thread or the process that opened it."""
