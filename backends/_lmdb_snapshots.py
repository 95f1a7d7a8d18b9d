"""What a process reads in an LMDB file: its snapshots, which can be ended and begun again when the map is replaced.

LMDB forbids to replace the map while a transaction reads from it. A snapshot of the newest state, where nobody commits, is
ended before and begun again after, and sees the same. An older one is in the way; whoever needs the map replaced waits for
it, and says so when that takes too long.

Rows larger than `PINNED` are handed out as views of the map. A view keeps its snapshot alive, even past its end: LMDB's
pages then stay where they are, so that using it late is slow at worst (LMDB can't reuse pages) and never a crash.

This module knows keys and rows as bytes. It knows neither why a map is replaced nor who writes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pickle import PickleBuffer  # the one thing in the standard library that passes on a buffer and counts who uses it
from typing import TYPE_CHECKING, Any, Final

from pstore.backends._lmdb_driver import translated
from pstore.errors import Error, StorageError, StoreClosed, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pstore.backends._lmdb_map import Map
    from pstore.backends.base import Row, Table

#: From this size on a row is handed out as a view; below, copying it takes less.
PINNED: Final = 1 << 15

_BATCH_BYTES: Final = 1 << 20
_FIRST_PRUNING: Final = 64
_COURTESY: Final = 1.0  # seconds


class Snapshot:
    """A read transaction of LMDB that can be moved to another map. Its methods may be called from any thread.

    Args:
        mapped: What it reads.
        transaction: LMDB's.

    Attributes:
        lock: Held while anything is read, and while it is moved.
        transaction: LMDB's; None when it has ended.
        number: The number of the commit that it sees, as LMDB counts.
        thread: Who began it.
    """

    def __init__(self, mapped: Map, transaction: Any) -> None:
        self.lock = threading.Lock()
        self.transaction: Any = transaction
        self.number: int = transaction.id()
        self.thread = threading.get_ident()
        self._map = mapped
        self._views: list[memoryview] = []
        self._prune_at = _FIRST_PRUNING

    def get_many(self, table: Table, keys: Iterable[bytes]) -> list[Row | None]:
        """Return the rows of encoded keys."""
        with translated(self._map.path), self.lock:
            get, tree = self._reading().get, self._map.trees[table]
            rows = [get(key, None, tree) for key in keys]
            return [None if row is None else self._hand_out(row) for row in rows]

    def page(self, table: Table, start: bytes, stop: bytes | None, count: int) -> list[tuple[bytes, Row]]:
        """Return the first rows from `start` on: `count` at the most, and fewer where they are large."""
        found: list[tuple[bytes, Row]] = []
        with translated(self._map.path), self.lock:
            cursor = self._reading().cursor(self._map.trees[table])
            room = _BATCH_BYTES
            for key, row in cursor.iternext() if cursor.set_range(start) else ():
                name = bytes(key)
                if (stop is not None and name >= stop) or len(found) == count or room < 0:
                    break
                found.append((name, self._hand_out(row)))
                room -= len(row)
            cursor.close()
        return found

    def unpin(self) -> bool:
        """Give back the views that nobody uses any more; return whether that was all of them. Takes `lock` to be held."""
        self._views = [view for view in self._views if not _released(view)]
        return not self._views

    def forget(self) -> None:
        """Read no more."""
        self.transaction = None
        self._views = []

    def _reading(self) -> Any:
        if self.transaction is None:
            message = f"{self._map.path} was closed, or the transaction has ended; begin another"
            raise StoreClosed(message)
        return self.transaction

    def _hand_out(self, row: memoryview) -> Row:
        if len(row) < PINNED:
            return bytes(row)
        if len(self._views) >= self._prune_at:
            self.unpin()
            self._prune_at = max(_FIRST_PRUNING, 2 * len(self._views))
        self._views.append(row)
        # Whoever has the view returned, or a part of it, holds an export of `row`.
        return memoryview(PickleBuffer(row))


def _released(view: memoryview) -> bool:
    try:
        view.release()
    except BufferError:
        return False
    return True


class Snapshots:
    """The snapshots of a map. The caller holds `guard` for every method.

    Args:
        mapped: The map.

    Attributes:
        guard: Held while a snapshot begins or ends, and while the map is replaced; notified when one ends.
        committing: Whether somebody commits just now, in the map.
    """

    def __init__(self, mapped: Map) -> None:
        self.guard = threading.Condition(threading.RLock())
        self.committing = False
        self._map = mapped
        self._waits_to_move = False
        self._open: set[Snapshot] = set()
        self._lingering: list[Snapshot] = []  # ended, but a view is in use

    def begin(self, *, moves: bool = True) -> Snapshot:
        """Begin to read the newest state.

        Args:
            moves: Whether the map may be replaced meanwhile.
        """
        # Else there might always be somebody in the way. Not for long, as whoever is in the way may need another one first.
        self.guard.wait_for(lambda: not self._waits_to_move, _COURTESY)
        snapshot = Snapshot(self._map, self._map.begin())
        if not moves:
            snapshot.number = -1  # counted as older than any
        self._open.add(snapshot)
        return snapshot

    def end(self, snapshot: Snapshot) -> None:
        """End a snapshot, once nobody uses a view of it any more."""
        if snapshot in self._open:
            self._open.remove(snapshot)
            self._lingering.append(snapshot)
            self.sweep()
        self.guard.notify_all()

    def sweep(self) -> bool:
        """End what has ended and of which no view is in use any more; return whether that is all that has ended."""
        still = []
        for snapshot in self._lingering:
            with snapshot.lock:
                if snapshot.unpin():
                    if snapshot.transaction is not None:  # else an interruption came between the two
                        snapshot.transaction.abort()
                    snapshot.forget()
                else:
                    still.append(snapshot)
        self._lingering = still
        return not still

    def forget(self) -> None:
        """Leave them all to the process that this one was forked from: neither end them nor close what they read."""
        for snapshot in [*self._open, *self._lingering]:
            snapshot.forget()
        self._open, self._lingering, self._waits_to_move = set(), [], False
        self.guard = threading.Condition(threading.RLock())  # another thread may have held it

    def wait_until_idle(self, deadline: float, why: str) -> None:
        """Wait until nobody reads or commits.

        Args:
            deadline: Until when, by `time.monotonic`.
            why: What the file "has", for the message.

        Raises:
            StoreLocked: That took too long, or it is this thread itself that reads.
        """
        while not self.sweep() or self._open or self.committing:
            self._wait(deadline, why, StoreLocked)

    def wait_to_move(self, action: Callable[[], None], deadline: float, why: str) -> None:
        """Do what must not be done while anybody reads, and move the snapshots of the newest state past it.

        The caller keeps writers out, so they see the same again.

        Args:
            action: What is to be done.
            deadline: As `wait_until_idle` takes it; and
            why: as there.

        Raises:
            StorageError: Older snapshots, or views in use, were in the way for too long, or are this thread's own.
        """
        self._waits_to_move = True
        try:
            while not self._move(action):
                self._wait(deadline, why, StorageError)
        finally:
            self._waits_to_move = False
            self.guard.notify_all()

    def _move(self, action: Callable[[], None]) -> bool:
        if not self.sweep() or self.committing:
            return False
        newest = self._map.newest
        with contextlib.ExitStack() as stack:
            for snapshot in self._open:
                stack.enter_context(snapshot.lock)
            if any(snapshot.number != newest or not snapshot.unpin() for snapshot in self._open):
                return False
            for snapshot in self._open:
                snapshot.transaction.abort()
                snapshot.transaction = None
            action()
            for snapshot in self._open:
                transaction = self._map.begin()
                if transaction.id() == newest:
                    snapshot.transaction = transaction
                else:  # a program that isn't pstore has written: what it saw is lost
                    transaction.abort()
        return True

    def _wait(self, deadline: float, why: str, error: type[Error]) -> None:
        """Wait until a transaction ends; raise where that can't help: it is this thread's own, or it takes too long."""
        in_way = [*self._open, *self._lingering]
        own = any(snapshot.thread == threading.get_ident() for snapshot in in_way)
        left = deadline - time.monotonic()
        if own or left <= 0:
            views = ", and let go of what was read in them" if self._lingering else ""
            message = (
                f"{self._map.path} has {why} and {len(in_way)} open transactions of this process are in the way; "
                f"end them (rollback, commit){views}, and try again"
            )
            raise error(message)
        self.guard.wait(left)
        self._map.check()
