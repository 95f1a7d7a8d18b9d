"""Who may use a session, and when: its own thread, in its own process, while it is open and not in the middle of something.

This module knows threads and processes; it knows nothing of what a session does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Final

from pstore.errors import ReadOnlyError, StoreBusy, StoreClosed, WrongThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Guard:
    """Guards one session.

    Args:
        what: What the store is called in errors.
        thread: The thread that the session belongs to; None for the one that uses it first.
        loading: Returns whether a load is under way.
        readonly: Whether the store was opened for reading only.

    Attributes:
        closed: Whether the session was closed.
        forked: Whether this is a copy, in a process that was forked from the session's own.
        thread: The thread that it belongs to.
        work: What is being done, when objects' own code may run in the middle of it; "" when nothing is.
    """

    def __init__(self, what: object, thread: int | None, loading: Callable[[], bool], *, readonly: bool) -> None:
        self.closed = False
        self.forked = False
        self.thread = thread
        self.work = ""
        self._what = what
        self._loading = loading
        self._readonly = readonly
        _open.add(self)

    def check_open(self) -> None:
        """Raise StoreClosed where the session was closed, or belongs to the process that this one was forked from."""
        if self.closed:
            message = "the store is closed; open it again"
            raise StoreClosed(message)
        if self.forked:
            message = f"{self._what} was opened before this process was forked; open it again in this process"
            raise StoreClosed(message)

    def check(self) -> None:
        """Raise WrongThread, too, where the session belongs to another thread."""
        self.check_open()
        if self.thread is None:
            self.thread = threading.get_ident()
        elif threading.get_ident() != self.thread:
            message = (
                "a store belongs to one thread, and this is another one; use `session()` to get one for this thread"
            )
            raise WrongThread(message)

    def check_writable(self, what: str) -> None:
        """Raise ReadOnlyError, too, where the store can't be changed.

        Args:
            what: What was to be done, as an infinitive.
        """
        self.check()
        if self._readonly:
            message = f"the store was opened for reading only: it isn't possible {what}; open it with flag 'w'"
            raise ReadOnlyError(message)

    def check_idle(self, what: str, *, loading: bool = True) -> None:
        """Raise StoreBusy where objects' own code asks for something that would disturb what it was called by.

        Args:
            what: What it asks for.
            loading: Whether it would disturb a load.
        """
        work = self.work or ("load" if loading and self._loading() else "")
        if work:
            message = (
                f"{what} was called by an object's own code (a __setstate__, __getstate__, __reduce__ or the like) in the"
                f" middle of a {work}; call it when that is over"
            )
            raise StoreBusy(message)

    @contextlib.contextmanager
    def working(self, work: str) -> Iterator[None]:
        """Do something that must not be disturbed.

        Raises:
            StoreBusy: Something else is being done.
            StoreClosed, WrongThread: As `check` does.
        """
        self.check()  # first, as another thread's work is neither in the way nor to be taken for over
        self.check_idle(work)
        try:
            self.work = work
            yield
        finally:
            self.work = ""

    def close(self) -> None:
        """Let nobody use the session any more."""
        self.closed = True
        _open.discard(self)


#: The guards of the sessions that are open in this process.
_open: Final[weakref.WeakSet[Guard]] = weakref.WeakSet()


def _after_fork() -> None:
    for guard in list(_open):
        guard.forked = True
        guard.thread = -1  # no thread has this number, so every use looks twice


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
