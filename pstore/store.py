"""The store that an application uses: a mapping of names to objects, with transactions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pstore.errors import Error
from pstore.session import Commit, Session

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pstore.backends.base import Backend
    from pstore.pickle.policy import Policy

T = TypeVar("T")

__all__ = ["Commit", "Store"]


class Store(MutableMapping[str, Any]):
    """An open store; made by `pstore.open`.

    A mapping from names (str) to objects. What is put under a name, and everything reachable from it, is written by
    `commit()`; so is every change to an object that came from the store. As a context manager it commits at the end of
    the block, rolls back when an exception leaves it, and closes either way.

    A store belongs to the thread that opened it.
    """

    def __init__(self, backend: Backend, policy: Policy, *, owns_backend: bool) -> None:
        self._session = Session(backend, policy)
        self._backend = backend
        self._owns_backend = owns_backend

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

        Whatever is raised, nothing of the commit was written, and the objects in memory are as they were.
        """
        return self._session.commit(_checked_note(note))

    def sync(self) -> None:
        """Commit, as `shelve.Shelf.sync` does."""
        self.commit()

    def rollback(self) -> None:
        """Make the objects in memory what the store says, and begin a new transaction.

        An object that has changed gets its stored state again in place (those that are made by a constructor and hold
        no content that can be replaced are made anew). What was never committed is no part of the store any more.
        """
        self._session.rollback()

    def close(self) -> None:
        """Commit, as `shelve` does, and close. Objects in memory stay usable; what wasn't loaded can't be any more.

        When the commit fails, the store is closed all the same and the error is raised. Calling it again does nothing.
        """
        if self.closed:
            return
        self._session.check()
        self._session.check_idle("close")
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
        if session is None or session.closed:
            return
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
            NewerVersion: The store has objects of a newer version than the new class is declared with.
            ReadOnlyError: The store was opened for reading.
            TypeError: One of the two is neither a name nor a class, or is a builtin type.
            ValueError: The store has no class of the old name, or both are one.
        """
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

    # ------------------------------------------------------------------- facts

    @property
    def revision(self) -> int:
        """The number of the newest commit that this session sees; 0 in a new store."""
        return self._session.head.revision

    @property
    def readonly(self) -> bool:
        """Whether the store was opened for reading only."""
        return self._backend.readonly

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._session.closed

    def stats(self) -> dict[str, int | str]:
        """Return facts by name: those of the backend (sizes in bytes), `revision`, and `loads`, the records read so far."""
        return {**self._backend.stats(), "revision": self.revision, "loads": self._session.loads}

    def __repr__(self) -> str:
        """Return where the store is, and whether it is open."""
        state = "closed " if self.closed else "read-only " if self.readonly else ""
        return f"<{state}pstore.Store on {self._backend}>"

    def __reduce__(self) -> NoReturn:
        """Refuse: a store isn't stored in itself or another, nor sent to another process."""
        message = "cannot pickle a pstore.Store: keep what it was opened with, and open it again"
        raise TypeError(message)

    def _check_change(self, what: str) -> None:
        self._session.check_writable(what)
        self._session.check_idle(what.removeprefix("to "), loading=False)

    def _close(self) -> None:
        self._session.close()
        if self._owns_backend:
            self._backend.close()


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
