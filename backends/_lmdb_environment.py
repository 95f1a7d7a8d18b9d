"""One LMDB file in one process: who opens, writes and compacts it, and when its map is replaced.

A write transaction isn't LMDB's until it commits: it reads from a snapshot that nobody can outdate, and `Environment.commit`
puts all rows at once. So it may be ended by any thread, and is simply repeated when the map was full.

This module knows keys and rows as bytes. It has no list of environments; `_lmdb_registry` sees to it that there is one a file.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from pstore.backends._disk import sync
from pstore.backends._lmdb_driver import driver, translated
from pstore.backends._lmdb_file import check_file
from pstore.backends._lmdb_lock import USING, WRITING, FileLocks
from pstore.backends._lmdb_map import Map
from pstore.backends._lmdb_snapshots import Snapshots
from pstore.errors import FormatError, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pstore.backends._lmdb_map import Changes
    from pstore.backends._lmdb_snapshots import Snapshot


class Environment:
    """The map of one file, with those of this process who read and write it. Use `open_environment`.

    Args:
        path: The data file.
        readonly: Whether all who use it read only.
        durable: Whether a commit waits until the disk has it.
        map_size: The least size of the map, in bytes.
        timeout: How long to wait for others, in seconds.
        walk: As `check_file` takes it.

    Attributes:
        path: As above.
        users: How many have opened it.
        forked: Whether this is a child of the process that opened it.
    """

    def __init__(
        self, path: Path, *, readonly: bool, durable: bool, map_size: int, timeout: float, walk: bool | None
    ) -> None:
        self.path = path
        self.users = 0
        self.forked = False
        self._map = Map(path, map_size)
        self._map.readonly, self._map.durable = readonly, durable
        self._snapshots = Snapshots(self._map)
        self._writer = threading.Lock()
        self._lmdb = driver()
        self._locks = FileLocks(path.with_name(path.name + "-writer"), readonly=readonly)
        try:
            self._join(timeout)
            if check_file(path, walk=walk) is None:
                self._begin_anew(timeout)
            else:
                self._map.open()
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_store(self) -> bool:
        """Whether the file has a store's tables."""
        return bool(self._map.trees)

    # ------------------------------------------------------------------------------------------------------- opening

    def _join(self, timeout: float) -> None:
        """Tell other processes that the file is in use, so that none replaces it."""
        if not self._locks.take(USING, shared=True, wait=timeout):
            message = f"{self.path}: another process is compacting the store; try again later"
            raise StoreLocked(message)
        if not self._locks.writable and not self._locks.take(WRITING, shared=True, wait=timeout):
            # LMDB keeps what a reader needs only if the reader can say so, in a file that can't be written here.
            message = f"{self.path} is being written, and can't be read meanwhile without the right to write beside it"
            raise StoreLocked(message)
        self._map.lock = self._locks.writable

    def _begin_anew(self, timeout: float) -> None:
        """The file has no headers yet: let LMDB make them, and take away what it has left of them when it was interrupted."""
        if self._map.readonly:
            message = f"{self.path} is empty: there is no store to read"
            raise FormatError(message)
        self.lock_writer(timeout)
        try:
            with translated(self.path):
                if self.path.exists() and check_file(self.path, walk=False) is None:
                    os.truncate(self.path, 0)
            self._map.open()
        finally:
            self.unlock_writer()

    def prepare(self, *, empty: bool, timeout: float) -> None:
        """Make the tables where there are none, or empty them.

        Raises:
            StoreLocked: Another writer doesn't end.
        """
        if self.is_store and not empty:
            return
        self.lock_writer(timeout)
        try:
            with translated(self.path), self._snapshots.guard:
                self._map.make_tables(empty=empty)
        finally:
            self.unlock_writer()

    def share(self, *, readonly: bool, durable: bool, map_size: int, timeout: float) -> None:
        """Another one opens the same file in this process: be as the most demanding of all needs it.

        Raises:
            StoreLocked: That takes opening it anew, and transactions are in the way.
        """
        mapped = self._map
        mapped.size = max(mapped.size, map_size)
        if (readonly or not mapped.readonly) and (mapped.durable or not durable):
            return
        with self._snapshots.guard:
            deadline = time.monotonic() + timeout
            self._snapshots.wait_until_idle(deadline, "to be opened for writing, or durable,")
            locks = self._locks
            if not locks.writable and not readonly:
                self._locks = FileLocks(locks.path, readonly=False)
                locks.close()
                self._join(timeout)
            before = mapped.readonly, mapped.durable
            mapped.readonly, mapped.durable = mapped.readonly and readonly, mapped.durable or durable
            try:
                mapped.open()
            except BaseException:
                mapped.readonly, mapped.durable = before
                mapped.open()
                raise

    # ------------------------------------------------------------------------------------------------------- reading

    def snapshot(self, timeout: float) -> Snapshot:
        """Begin to read the newest state.

        Raises:
            StoreLocked: All places for readers are taken; or another process has made the file larger than the map, and
                snapshots of this process are in the way of a larger one.
        """
        lmdb, deadline = self._lmdb, time.monotonic() + timeout
        with translated(self.path), self._snapshots.guard:
            while True:
                try:
                    return self._snapshots.begin()
                except (lmdb.MapResizedError, lmdb.PanicError):  # noqa: PERF203  # each time round is another try
                    self._snapshots.wait_until_idle(
                        deadline, "to be mapped anew, as another process has made it larger,"
                    )
                    self._map.open()

    def end(self, snapshot: Snapshot) -> None:
        """End a snapshot, once nobody uses a view of it any more."""
        if not self.forked:
            with self._snapshots.guard:
                self._snapshots.end(snapshot)

    # ------------------------------------------------------------------------------------------------------- writing

    def lock_writer(self, timeout: float) -> None:
        """Keep all other writers out.

        Raises:
            StoreLocked: Another one doesn't end.
        """
        deadline = time.monotonic() + timeout
        taken = self._writer.acquire(timeout=timeout)
        try:
            if not taken or not self._locks.take(WRITING, wait=max(0.0, deadline - time.monotonic())):
                message = f"{self.path}: another writer held the store for more than {timeout:g} s; try again later"
                raise StoreLocked(message)
            with translated(self.path), self._snapshots.guard:
                if self._map.is_open:
                    self._map.recover()
        except BaseException:
            if taken:
                self._locks.give(WRITING)
                self._writer.release()
            raise

    def unlock_writer(self) -> None:
        """Let other writers in."""
        if not self.forked:
            self._locks.give(WRITING)
            self._writer.release()

    def commit(self, snapshot: Snapshot, changes: Changes, timeout: float) -> None:
        """Put the rows of a write transaction, all or none; `lock_writer` has been called.

        Args:
            snapshot: What the transaction has read; it ends.
            changes: The rows.
            timeout: How long to wait for older snapshots when the map is full, in seconds.

        Raises:
            StorageError: There is no room, or something else has failed: nothing was changed.
        """
        self.end(snapshot)
        deadline = time.monotonic() + timeout
        lmdb, snapshots = self._lmdb, self._snapshots
        with translated(self.path):
            while True:
                try:
                    with self._committing():
                        self._map.put(snapshot.number, changes)
                    return
                except lmdb.MapFullError:  # noqa: PERF203  # each time round is another try
                    with snapshots.guard:
                        why = "to be mapped anew, as its map is full,"
                        snapshots.wait_to_move(self._map.grow, deadline, why)
                except (lmdb.PanicError, lmdb.MapResizedError):
                    with snapshots.guard:
                        snapshots.wait_until_idle(deadline, "to be opened anew")
                        self._map.open()

    @contextlib.contextmanager
    def _committing(self) -> Iterator[None]:
        """Keep the map where it is, and let snapshots begin and end meanwhile."""
        with self._snapshots.guard:
            self._map.check()
            self._snapshots.committing = True
        try:
            yield
        finally:
            with self._snapshots.guard:
                self._snapshots.committing = False
                self._snapshots.guard.notify_all()

    # --------------------------------------------------------------------------------------------------- maintenance

    def copy(self, target: str) -> None:
        """Write the newest state to a new file, without free pages, and wait until the disk has it."""
        with translated(self.path):
            with self._snapshots.guard:
                snapshot = self._snapshots.begin(moves=False)  # so that the map stays where it is
            try:
                self._map.copy(target)
            finally:
                self.end(snapshot)

    def compact(self, timeout: float) -> None:
        """Replace the file by a copy without free pages; `lock_writer` has been called.

        Raises:
            StoreLocked: Somebody else has it open, or a transaction of this process is open.
        """
        temporary = self.path.with_name(self.path.name + "-compact")
        with translated(self.path), self._snapshots.guard:
            self._map.check()
            self._snapshots.wait_until_idle(0.0, "to be compacted,")
            if not self._locks.take(USING, wait=timeout):
                message = f"{self.path} is open in another process: it can be compacted when nobody else has it open"
                raise StoreLocked(message)
            try:
                self._map.reap()
                if self._map.count_readers():
                    message = f"{self.path} is being read by another process: compact it when nobody else has it open"
                    raise StoreLocked(message)
                temporary.unlink(missing_ok=True)
                self._map.copy(os.fspath(temporary))
                temporary.chmod(self.path.stat().st_mode & 0o777)
                self._map.close()
                try:
                    temporary.replace(self.path)
                    sync(self.path.parent)
                finally:
                    self._map.open()
            finally:
                with contextlib.suppress(OSError):  # the next one removes it
                    temporary.unlink(missing_ok=True)
                self._locks.take(USING, shared=True)

    def facts(self) -> dict[str, int | str]:
        """Return sizes in bytes, and counts."""
        with translated(self.path), self._snapshots.guard:
            self._map.check()
            return self._map.facts()

    # -------------------------------------------------------------------------------------------------------- ending

    def close(self) -> bool:
        """Close it, unless views are in use; return whether it is closed."""
        with self._snapshots.guard:
            if not self._snapshots.sweep():
                return False
            self._map.close()
            self._locks.close()
            return True

    def abandon(self) -> None:
        """This is a forked child: leave everything to the parent, and end or close nothing that LMDB has here."""
        self.forked = True
        self._snapshots.forget()
        self._map.forget()
        self._locks.close()
