"""The store that an application uses: a mapping of names to objects, with transactions."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import warnings
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeVar

from pstore.backends.registry import scheme_of
from pstore.cache import Limits
from pstore.committer import Commit
from pstore.copying import copy
from pstore.errors import (
    CommitUncertain,
    ConflictError,
    ConnectionLost,
    Error,
    StoreBusy,
    StoreLocked,
    Uncommitted,
)
from pstore.savepoint import Savepoint
from pstore.session import Options, Session

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from typing_extensions import Self

    from pstore.backends.base import Backend
    from pstore.copying import Progress
    from pstore.pickle.policy import Policy

T = TypeVar("T")

__all__ = ["Commit", "Savepoint", "Store"]

_ISOLATIONS: Final = ("snapshot", "serializable")


class Store(MutableMapping[str, Any]):
    """An open store; made by `pstore.open`.

    A mapping from names (str) to objects. What is put under a name, and everything reachable from it, is written by
    `commit()`; so is every change to an object that came from the store. As a context manager it commits at the end of
    the block, rolls back when an exception leaves it, and closes either way.

    A store belongs to the thread that opened it; `session` makes one on the same database for another thread.
    """

    def __init__(self, opened: Opened, options: Options, *, thread: int | None = None) -> None:
        self._session = Session(opened.backend, opened.policy, options, thread)
        self._opened = opened
        self._options = options
        self._running = False
        opened.take()

    # ------------------------------------------------------------- the mapping

    def __getitem__(self, name: str) -> Any:
        """Return the object under a name: the same one each time.

        Raises:
            KeyError: There is no such name.
            ClassNotAllowed: Its class isn't allowed.
            ClassNotFound: Its class isn't where it was.
            CorruptRecord: A row that has to be read is damaged.
            NewerVersion: It was written by a newer version of its class.
        """
        return self._session.names.get(_checked(name))

    def __setitem__(self, name: str, value: object) -> None:
        """Put an object under a name, at the next commit.

        Raises:
            TypeError: The name is no str.
            ReadOnlyError: The store was opened for reading.
        """
        self._check_change(f"to store {_checked(name)!r}")
        self._session.names.pending[name] = value

    def __delitem__(self, name: str) -> None:
        """Remove a name, at the next commit. The object stays while something else refers to it.

        Raises:
            KeyError: There is no such name.
        """
        self._check_change(f"to delete {_checked(name)!r}")
        self._session.names.remove(name)

    def clear(self) -> None:
        """Remove every name, at the next commit.

        Raises:
            ReadOnlyError: The store was opened for reading.
        """
        self._check_change("to clear the store")
        self._session.names.clear()

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a name; nothing is loaded."""
        return _checked(name) in self._session.names

    def __iter__(self) -> Iterator[str]:
        """Yield the names in the order of their code points."""
        return iter(self._session.names)

    def __len__(self) -> int:
        """Return how many names there are."""
        return self._session.head.names + self._session.names.added()

    # ------------------------------------------------------------ transactions

    def session(self, *, isolation: Literal["snapshot", "serializable"] | None = None) -> Store:
        """Return another session on the same database: a store of its own, with its own transactions and objects.

        May be called from any thread. The session belongs to the thread that uses it first. The database is closed when the
        last of its sessions is.

        Args:
            isolation: As in `pstore.open`; None for that of this store.

        Raises:
            StoreClosed: This store was closed.
            ValueError: The isolation is unknown.
        """
        self._session.guard.check_open()
        options = self._options
        if isolation is not None:
            options = session_options(isolation, *options.limits)
        return Store(self._opened, options)

    def commit(self, note: str | None = None) -> Commit:
        """Write all that has changed, atomically and (unless opened with `durable=False`) durably.

        Args:
            note: A text for the log.

        Returns:
            What was written; nothing, where nothing has changed.

        Raises:
            ClassNotAllowed: An object's class isn't allowed, so it couldn't be read again.
            pickle.PicklingError: Something can't be pickled; the message has the path to it.
            ConflictError: Another session has changed the same record or name since this one's transaction began.
            ReadOnlyError: Something has changed in a store that was opened for reading.
            StoreLocked: Another writer held the store for too long.
            ConnectionLost: The server can't be reached, or this transaction's snapshot was lost with its connection.
            CommitUncertain: The connection broke in the middle, and whether the commit was made can't be found out yet.

        Whatever is raised but `CommitUncertain`, nothing of the commit was written, and the objects in memory are as they were.
        """
        self._check_not_running("commit")
        return self._session.commit(_checked_note(note))

    def sync(self) -> None:
        """Commit, as `shelve.Shelf.sync` does."""
        self.commit()

    def rollback(self) -> None:
        """Make the objects in memory what the store says, and begin a new transaction.

        An object that has changed gets its stored state again in place (those that are made by a constructor and hold
        no content that can be replaced are made anew). What was never committed is no part of the store any more.
        """
        self._check_not_running("rollback")
        self._session.rollback()

    def savepoint(self) -> Savepoint:
        """Put what has changed aside, so that the transaction can come back to this moment.

        It may also be used to write more than fits in memory: what was put aside needn't stay there. Nothing is stored,
        nor seen by others, before the commit.

        Raises:
            ClassNotAllowed: As `commit` does.
            pickle.PicklingError: The same.
            ReadOnlyError: Something has changed in a store that was opened for reading.
            StorageError: There is no room for a temporary file.
        """
        return Savepoint(self._session, self._session.savepoint())

    def run(self, function: Callable[[Self], T], attempts: int = 10, *, note: str | None = None) -> T:
        """Call a function in a transaction of its own, commit, and do both again where another session was faster.

        After a conflict, a wait for another writer that was too long, or a lost connection, it rolls back, waits a moment, and
        tries again from the newest state. The last attempt keeps other writers out from its beginning, so it can't
        conflict; so does the only one, with `attempts=1`.

        Args:
            function: Called with this store. It may be called several times, so it should do nothing that can't be done again.
            attempts: How often at most.
            note: A text for the log.

        Returns:
            What the function has returned.

        Raises:
            Uncommitted: There are changes that aren't committed, which a new attempt would lose.
            StoreBusy: It was called within `run`.
            ConflictError: The last attempt, too, has met a conflict.
            StoreLocked: Another writer doesn't end.
            ConnectionLost: The server can't be reached.
            CommitUncertain: Nor can it be found out whether the commit was made: it isn't tried again. The session's next
                `commit()` or `rollback()` finds out.

        Whatever else the function or the commit raises passes through, after a rollback.
        """
        if attempts < 1:
            message = f"attempts are at least 1, not {attempts}"
            raise ValueError(message)
        self._check_not_running("run")
        session = self._session
        session.guard.check()
        if session.has_uncommitted():
            message = "run begins with nothing changed, as each attempt begins anew: commit or roll back first"
            raise Uncommitted(message)
        for left in reversed(range(attempts)):
            self._running = True
            try:
                session.rollback()
                session.begin(exclusive=not left and not self.readonly)
                result = function(self)
                session.commit(_checked_note(note))
                return result
            except CommitUncertain:
                raise
            except BaseException as error:
                if not self.closed:
                    with contextlib.suppress(ConnectionLost):  # the rest of it is done before anything else
                        session.rollback()
                if not left or not isinstance(error, (ConflictError, ConnectionLost, StoreLocked)):
                    raise
            finally:
                self._running = False
            # Twice as long each time, and by chance, so that those who have met don't meet again.
            time.sleep(random.uniform(0, min(0.1, 0.001 * 2 ** (attempts - left))))  # noqa: S311  # no secret
        raise AssertionError  # the last attempt returns or raises

    def evict(self, objects: Iterable[object] | None = None) -> int:
        """Drop the states of objects from memory; the next touch loads them again.

        What has changed stays, and so does an object of which something else holds a container. Ghosts that nothing
        refers to are forgotten.

        Args:
            objects: The objects; None for all.

        Returns:
            How many states were dropped.
        """
        return self._session.evict(objects)

    def prefetch(self, objects: Iterable[object]) -> int:
        """Read the records of objects that are going to be used, in as few calls of the backend as possible.

        The objects stay asleep; touching one of them in this transaction reads nothing more. What isn't touched isn't kept
        longer than the transaction, and doesn't count as read where what was read is validated. Where the backend is a
        server, records are read ahead by themselves, too; this is for what is about to be used and no record has led to.

        Args:
            objects: The objects, or keys of objects. What is in memory, and what is no object of this store, is passed over.

        Returns:
            How many records were read.

        Raises:
            ValueError: An int among them can't be a key.
        """
        return self._session.prefetch(objects)

    def close(self) -> None:
        """Commit, as `shelve` does, and close. Objects in memory stay usable; what wasn't loaded can't be any more.

        When the commit fails, the store is closed all the same and the error is raised. Calling it again does nothing.
        """
        if self.closed:
            return
        self._session.guard.check()
        self._check_not_running("close")
        self._session.guard.check_idle("close")
        try:
            if not self.readonly:
                self.commit()
        finally:
            self._close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back when there is an exception; close."""
        if kind is None:
            self.close()
        else:
            self._close()

    def __del__(self) -> None:
        """Warn when work that wasn't committed is lost."""
        session = getattr(self, "_session", None)  # not there when opening has failed
        if session is None or session.guard.closed:
            return
        if session.guard.forked:  # the other process has it
            self._close()
            return
        session.guard.thread = None  # nobody else can be using it
        try:
            uncommitted = session.has_uncommitted()
        except Error:
            uncommitted = True  # it can't be told any more
        if uncommitted:
            message = f"{self!r} was dropped with changes that weren't committed; use it in a with block, or close it"
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)
        self._close()

    # ----------------------------------------------------------------- objects

    def key_of(self, obj: object) -> int | None:
        """Return the key of the record that an object has in this store, None where it has none (yet)."""
        return self._session.identity.key_of(obj)

    def object_at(self, key: int) -> Any:
        """Return the object whose record has this key.

        Raises:
            MissingRecord: There is no such record.
            ValueError: It can't be a key.
        """
        return self._session.object_at(key)

    def label(self, key: int) -> str:
        """Return a key as a person reads it, such as `Person#12`.

        Raises:
            ValueError: It can't be a key.
        """
        return self._session.label(key)

    def classes(self) -> list[str]:
        """Return the names (`module.Class`) of all classes that records of this store name; none is imported."""
        return self._session.classes()

    def rename_class(self, old: str | type, new: str | type) -> Commit:
        """Say which class the objects of a class are of from now on, where that was renamed or moved.

        It is a commit of its own, and changes the record of the class, not those of its objects. The old class needn't be
        there any more; there may be objects of the new class already. Objects in memory become objects of the new class;
        those that can't, because the two are laid out differently, are replaced by new ones wherever the store refers to
        them. Other sessions do the same when their next transaction begins.

        Args:
            old: The name of the class as `classes` shows it, or the class.
            new: The class that its objects are to be of, or its dotted name. It has to be allowed here.

        Returns:
            What was written: the keys of the class, one for each version of it that the store has objects of.

        Raises:
            Uncommitted: There are changes that aren't committed.
            ClassNotAllowed: The new class isn't allowed.
            ClassNotFound: There is no class of the new name.
            CommitUncertain: As for `commit`; nor is it known whether the class was renamed.
            ConnectionLost: The server can't be reached, and nothing was written.
            NewerVersion: The store has objects of a newer version than the new class is declared with.
            ReadOnlyError: The store was opened for reading.
            TypeError: One of the two is neither a name nor a class, or is a builtin type.
            ValueError: The store has no class of the old name, or both are one.
        """
        self._check_not_running("rename_class")
        return self._session.rename_class(old, new)

    def instances(self, cls: type[T]) -> Iterator[T]:
        """Yield the committed objects of a class that have records of their own; subclasses are classes of their own.

        They come in the order in which they got their records, whatever version of the class they were made with. Where one
        can't be had, as a newer version of its class has made it, something stands in for it that says so when touched.
        """
        return self._session.instances(cls)  # type: ignore[return-value]  # the class code says so

    def changed(self) -> list[object]:
        """Return the objects of the store that differ from what it holds. New objects are not among them."""
        return self._session.changed()

    # ------------------------------------------------------------- maintenance

    def compact(self) -> None:
        """Give the space that deleted and replaced rows have left back to the system, as far as the backend can.

        It ends this session's transaction, as a rollback with nothing changed does. What it takes meanwhile depends on the
        backend; with SQLite it is as much room again as the store has.

        Raises:
            Uncommitted: There are changes that aren't committed.
            StoreLocked: Another session or process has a transaction open, which is in the way.
            ReadOnlyError: The store was opened for reading.
            StorageError: There is no room.
        """
        self._check_not_running("compact")
        self._session.compact()

    def backup(self, target: str | os.PathLike[str], *, progress: Callable[[Progress], object] | None = None) -> None:
        """Copy the newest committed state to a new store, while this and other sessions and processes read and write.

        Where the backend has means of its own for it (`Capabilities.backup`) and the target is a path, the copy is a store of
        the same kind. Else it is a `pstore.copy`: to a URL of whatever kind, or to an SQLite store at the path. Either way it
        is consistent, and whole when this returns. What isn't committed isn't in it.

        Args:
            target: A path where nothing is yet, or a URL.
            progress: Called from time to time with a `Progress`, where it is a `pstore.copy`.

        Raises:
            StorageError: There is something already, or the copy can't be written.
            CorruptRecord: The store is damaged.
        """
        self._check_not_running("backup")
        self._session.guard.check()
        self._session.guard.check_idle("backup")
        backend = self._opened.backend
        if backend.capabilities.backup and not scheme_of(target):
            backend.backup(target)
        else:
            copy(backend, target, progress=progress)

    # ------------------------------------------------------------------- facts

    @property
    def revision(self) -> int:
        """The number of the newest commit that this session sees; 0 in a new store."""
        return self._session.head.revision

    @property
    def backend(self) -> Backend:
        """Where the rows are, for tools such as `pstore.copy`; it isn't to be written but through sessions."""
        return self._opened.backend

    @property
    def readonly(self) -> bool:
        """Whether the store was opened for reading only."""
        return self._opened.backend.readonly

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._session.guard.closed

    def stats(self) -> dict[str, int | str]:
        """Return facts by name: those of the backend (sizes in bytes), `revision`, and `loads`, the records needed so far."""
        return {**self._opened.backend.stats(), "revision": self.revision, "loads": self._session.loads}

    def __repr__(self) -> str:
        """Return where the store is, and whether it is open."""
        state = "closed " if self.closed else "read-only " if self.readonly else ""
        return f"<{state}pstore.Store on {self._opened.backend}>"

    def __reduce__(self) -> NoReturn:
        """Refuse: a store isn't stored in itself or another, nor sent to another process."""
        message = "cannot pickle a pstore.Store: keep what it was opened with, and open it again"
        raise TypeError(message)

    def _check_change(self, what: str) -> None:
        self._session.guard.check_writable(what)
        self._session.guard.check_idle(what.removeprefix("to "), loading=False)

    def _check_not_running(self, what: str) -> None:
        if self._running:
            message = (
                f"{what} was called within run, which commits when its function returns and rolls back when it raises"
            )
            raise StoreBusy(message)

    def _close(self) -> None:
        if not self.closed:
            self._session.close()
            self._opened.leave(forked=self._session.guard.forked)


class Opened:
    """An open database, which several sessions may share; closed with the last of them.

    Args:
        backend: Where the rows are.
        policy: What records may name.
        owned: Whether the backend is to be closed at all; not, if it was opened by the application.
    """

    def __init__(self, backend: Backend, policy: Policy, *, owned: bool) -> None:
        self.backend = backend
        self.policy = policy
        self._owned = owned
        self._sessions = 0
        self._guard = threading.Lock()

    def take(self) -> None:
        """There is one session more."""
        with self._guard:
            self._sessions += 1

    def leave(self, *, forked: bool) -> None:
        """A session was closed; nothing happens to what belongs to another process."""
        if forked:
            return
        with self._guard:
            self._sessions -= 1
            last = self._owned and not self._sessions
        if last:
            self.backend.close()


def session_options(isolation: str, cache_size: int, cache_bytes: int) -> Options:
    """Return how a session is to behave.

    Raises:
        ValueError: The isolation is unknown, or a size is negative.
        TypeError: A size is no int.
    """
    if isolation not in _ISOLATIONS:
        message = f"isolation is one of {', '.join(map(repr, _ISOLATIONS))}, not {isolation!r}"
        raise ValueError(message)
    for name, size in {"cache_size": cache_size, "cache_bytes": cache_bytes}.items():
        if not isinstance(size, int):
            message = f"{name} is an int, not {type(size).__name__}: {size!r}"
            raise TypeError(message)
        if size < 0:
            message = f"{name} can't be negative: {size}"
            raise ValueError(message)
    return Options(isolation == "serializable", Limits(cache_size, cache_bytes))


def _checked(name: object) -> str:
    if not isinstance(name, str):
        message = f"names are str, not {type(name).__name__}: {name!r}"
        raise TypeError(message)
    return _encodable(name, "a name")


def _checked_note(note: object) -> str:
    if note is None:
        return ""
    if not isinstance(note, str):
        message = f"a note is a str, not {type(note).__name__}: {note!r}"
        raise TypeError(message)
    return _encodable(note, "a note")


def _encodable(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"{what} must be encodable as UTF-8, and {text!r} isn't: it holds half of a surrogate pair"
        raise ValueError(message) from None
    return text
