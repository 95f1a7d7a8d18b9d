"""LMDB environments: one a process and file, shared by all who open it; its map grows while it is in use.

LMDB forbids a process to open a file twice, and to replace the map while a transaction reads from it. Both are kept
here. A map is replaced by closing the environment and opening it again; that is done when nobody reads, or by the writer:
nobody commits then, so a snapshot of the newest state is ended before and begun again after, and sees the same. Where an
older snapshot is in the way, the writer waits for it, and says so when that takes too long.

Rows larger than `PINNED` are handed out as views of the map. A view keeps its snapshot alive, even past its end: LMDB's
pages then stay where they are, so that using it late is slow at worst (LMDB can't reuse pages) and never a crash.

A write transaction isn't LMDB's until it commits: it reads from a snapshot that nobody can outdate, and `Environment.commit`
puts all rows at once. So it may be ended by any thread, and is simply repeated when the map was full.

This module knows keys and rows as bytes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pickle import PickleBuffer  # the one thing in the standard library that passes on a buffer and counts who uses it
from typing import TYPE_CHECKING, Any, Final

from pstore.backends._lmdb_file import check_file, damaged
from pstore.backends._lmdb_lock import USING, WRITING, FileLocks
from pstore.backends.base import TABLES, Table
from pstore.errors import Error, FormatError, ReadOnlyError, StorageError, StoreClosed, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pstore.backends.base import Row

#: For each table: encoded key -> row, or None where it is removed.
Changes = dict[Table, dict[bytes, "bytes | None"]]

#: Where the tree of tables says that this is a store: key, and value with the layout's number.
MARK: Final = b"pstore"
LAYOUT: Final = b"\x00\x00\x00\x01"
#: The size of a new map, in bytes: of addresses, not of memory nor of the disk.
MAP_SIZE: Final = 1 << 38 if sys.maxsize > 1 << 32 else 1 << 28
#: How many snapshots all processes together may have open; 64 bytes each in the file `-lock`.
READERS: Final = 16384
#: From this size on a row is handed out as a view; below, copying it takes less.
PINNED: Final = 1 << 15

_LEAST_GROWTH: Final = 1 << 26
_SMALLEST_MAP: Final = 1 << 20
_BATCH_BYTES: Final = 1 << 20
_FIRST_PRUNING: Final = 64


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


class Snapshot:
    """A read transaction of LMDB that can be moved to another map. Its methods may be called from any thread.

    Args:
        environment: What it reads.
        transaction: LMDB's.

    Attributes:
        lock: Held while anything is read, and while it is moved.
        number: The number of the commit that it sees, as LMDB counts.
        thread: Who began it.
    """

    def __init__(self, environment: Environment, transaction: Any) -> None:
        self.lock = threading.Lock()
        self.transaction: Any = transaction
        self.number: int = transaction.id()
        self.thread = threading.get_ident()
        self._environment = environment
        self._views: list[memoryview] = []
        self._prune_at = _FIRST_PRUNING

    def get_many(self, table: Table, keys: Iterable[bytes]) -> list[Row | None]:
        """Return the rows of encoded keys."""
        with self._environment.translated(), self.lock:
            get, tree = self._reading().get, self._environment.trees[table]
            rows = [get(key, None, tree) for key in keys]
            return [None if row is None else self._hand_out(row) for row in rows]

    def page(self, table: Table, start: bytes, stop: bytes | None, count: int) -> list[tuple[bytes, Row]]:
        """Return the first rows from `start` on: `count` at the most, and fewer where they are large."""
        found: list[tuple[bytes, Row]] = []
        with self._environment.translated(), self.lock:
            cursor = self._reading().cursor(self._environment.trees[table])
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
            message = f"{self._environment} was closed, or the transaction has ended; begin another"
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


class Environment:
    """LMDB's environment of one file. Use `open_environment`.

    Args:
        path: The data file.
        readonly: Whether all who use it read only.
        durable: Whether a commit waits until the disk has it.
        map_size: The least size of the map, in bytes.
        timeout: How long to wait for others, in seconds.
        walk: As `check_file` takes it.

    Attributes:
        users: How many have opened it.
        forked: Whether this is a child of the process that opened it.
        readonly: As above; and
        durable: as above: what the most demanding of its users asked for.
        trees: LMDB's handles of the tables.
    """

    def __init__(
        self, path: Path, *, readonly: bool, durable: bool, map_size: int, timeout: float, walk: bool | None
    ) -> None:
        self.path = path
        self.users = 0
        self.forked = False
        self.readonly = readonly
        self.durable = durable
        self.trees: dict[Table, Any] = {}
        self._lmdb = driver()
        self._map_size = map_size
        self._environment: Any = None
        self._guard = threading.Condition(threading.RLock())
        self._snapshots: set[Snapshot] = set()
        self._lingering: list[Snapshot] = []  # ended, but a view is in use
        self._committing = False
        self._grow_soon = False
        self._writer = threading.Lock()
        self._locks = FileLocks(path.with_name(path.name + "-writer"), readonly=readonly)
        try:
            self._join(timeout)
            with self.translated():
                if check_file(path, walk=walk) is None:
                    self._begin_anew(timeout)
                self._open()
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.path)

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

    def _begin_anew(self, timeout: float) -> None:
        """The file has no headers yet: take away what LMDB has left of them when it was interrupted."""
        if self.readonly:
            message = f"{self.path} is empty: there is no store to read"
            raise FormatError(message)
        if self.path.exists() and self.path.stat().st_size:
            self.lock_writer(timeout)
            try:
                if check_file(self.path, walk=False) is None:
                    os.truncate(self.path, 0)
            finally:
                self.unlock_writer()

    def _open(self) -> None:
        """Open LMDB's environment and the tables."""
        while True:
            self._map()
            try:
                self._environment.reader_check()
                self._find_trees()
                return
            except self._lmdb.MapResizedError:  # another process has just made the file more than twice as large
                self._environment.close()

    def _map(self) -> None:
        """Open LMDB's environment, with room for as much again as there is."""
        meta = check_file(self.path, walk=False)
        used = 0 if meta is None else meta.bytes
        size = wanted = max(self._map_size, 2 * used, _SMALLEST_MAP)
        lmdb = self._lmdb
        while True:
            try:
                self._environment = lmdb.open(
                    os.fspath(self.path),
                    subdir=False,
                    map_size=size,
                    max_dbs=len(TABLES),
                    max_readers=READERS,
                    readonly=self.readonly,
                    create=not self.readonly,
                    lock=self._locks.writable,
                    metasync=self.durable,
                    mode=0o644,
                )
                break
            except lmdb.MemoryError:  # there aren't as many addresses to be had
                size //= 2
                if size < max(used, _SMALLEST_MAP):
                    message = f"{self.path}: the system gives no {size} bytes of addresses to map the store into"
                    raise StorageError(message) from None
        self._map_size = size if size < wanted else self._map_size

    def _find_trees(self) -> None:
        """Look up the tables, if this is a store; it has none before `prepare`."""
        self.trees = {}
        with self._environment.begin() as reader:
            mark, count = reader.get(MARK), reader.stat()["entries"]
        if mark is None and not count:
            return
        if mark is None:
            message = f"{self.path} is an LMDB file, but not a pstore store; choose another path"
            raise FormatError(message)
        if mark != LAYOUT:
            number = int.from_bytes(mark, "big")
            message = f"{self.path} has layout {number}; this version of pstore reads layout 1: use a newer one"
            raise FormatError(message)
        try:
            trees = {table: self._environment.open_db(table.encode(), create=False) for table in TABLES}
        except (self._lmdb.NotFoundError, self._lmdb.IncompatibleError):
            raise damaged(self.path, "it has lost a table") from None
        if any(any(tree.flags().values()) for tree in trees.values()):
            raise damaged(self.path, "a table is of another kind")
        self.trees = trees

    def prepare(self, *, empty: bool, timeout: float) -> None:
        """Make the tables where there are none, or empty them.

        Raises:
            StoreLocked: Another writer doesn't end.
        """
        if self.trees and not empty:
            return
        self.lock_writer(timeout)
        try:
            with self.translated(), self._guard, self._environment.begin(write=True) as writer:
                trees = {table: self._environment.open_db(table.encode(), writer) for table in TABLES}
                if empty:
                    for tree in trees.values():
                        writer.drop(tree, delete=False)
                writer.put(MARK, LAYOUT)
            self.trees = trees
        finally:
            self.unlock_writer()

    def share(self, *, readonly: bool, durable: bool, map_size: int, timeout: float) -> None:
        """Another one opens the same file in this process: be as it needs it.

        Raises:
            StoreLocked: That takes opening it anew, and transactions are in the way.
        """
        self._map_size = max(self._map_size, map_size)
        if (readonly or not self.readonly) and (self.durable or not durable):
            return
        with self._guard:
            self._wait_until_idle(timeout, "to be opened for writing, or durable,")
            old = self.readonly, self.durable, self._locks
            self.readonly, self.durable = self.readonly and readonly, self.durable or durable
            if not self._locks.writable and not self.readonly:
                self._locks.close()
                self._locks = FileLocks(self._locks.path, readonly=False)
                self._join(timeout)
            try:
                self._reopen()
            except BaseException:
                self.readonly, self.durable, self._locks = old
                raise

    def _reopen(self) -> None:
        self._environment.close()
        with self.translated():
            self._open()

    # ----------------------------------------------------------------------------------------------------- snapshots

    def snapshot(self, timeout: float) -> Snapshot:
        """Begin to read the newest state.

        Raises:
            StoreLocked: All places for readers are taken; or another process has made the file larger than the map, and
                snapshots of this process are in the way of a larger one.
        """
        with self.translated(), self._guard:
            self._check()
            if self._grow_soon and self._is_idle():
                self._reopen()
            snapshot = Snapshot(self, self._begin(timeout))
            self._snapshots.add(snapshot)
            return snapshot

    def end(self, snapshot: Snapshot) -> None:
        """End a snapshot, once nobody uses a view of it any more."""
        if self.forked:
            return
        with self._guard:
            if snapshot in self._snapshots:
                self._snapshots.remove(snapshot)
                self._lingering.append(snapshot)
                self._sweep()
            self._guard.notify_all()

    def _sweep(self) -> None:
        still = []
        for snapshot in self._lingering:
            with snapshot.lock:
                if snapshot.unpin():
                    transaction = snapshot.transaction
                    snapshot.forget()
                    transaction.abort()
                else:
                    still.append(snapshot)
        self._lingering = still

    def _begin(self, timeout: float) -> Any:
        lmdb, checked = self._lmdb, False
        while True:
            try:
                return self._environment.begin(buffers=True)
            except (lmdb.MapResizedError, lmdb.PanicError):  # noqa: PERF203  # each time round is another try
                self._wait_until_idle(timeout, "to be mapped anew, as another process has made it larger,")
                self._reopen()
            except lmdb.ReadersFullError:
                if checked or not self._environment.reader_check():  # which gives back the places of dead processes
                    most = self._environment.info()["max_readers"]
                    message = (
                        f"{self.path}: all {most} places for readers are taken; end transactions, or close sessions"
                    )
                    raise StoreLocked(message) from None
                checked = True

    def _is_idle(self) -> bool:
        self._sweep()
        return not (self._snapshots or self._lingering or self._committing)

    def _wait_until_idle(self, timeout: float, why: str) -> None:
        deadline = time.monotonic() + timeout
        while not self._is_idle():
            self._wait(deadline, why, StoreLocked)

    def _wait(self, deadline: float, why: str, error: type[Error]) -> None:
        """Wait until a transaction ends; raise where that can't help: it is this thread's own, or it takes too long."""
        in_way = [*self._snapshots, *self._lingering]
        own = any(snapshot.thread == threading.get_ident() for snapshot in in_way)
        left = deadline - time.monotonic()
        if own or left <= 0:
            views = ", and let go of what was read in them" if self._lingering else ""
            message = (
                f"{self.path} has {why} and {len(in_way)} open transactions of this process are in the way; "
                f"end them (rollback, commit){views}, and try again"
            )
            raise error(message)
        self._guard.wait(left)
        self._check()

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
                message = f"{self.path}: another writer held the store for more than {timeout} s; try again later"
                raise StoreLocked(message)
        except BaseException:
            if taken:
                self._writer.release()
            raise
        with self._guard:
            if self._environment is not None and self._is_half_full():
                self._grow_soon = not self._move(self._reopen)

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
        with self.translated():
            while True:
                try:
                    self._put(snapshot.number, changes)
                    return
                except self._lmdb.MapFullError:  # noqa: PERF203  # each time round is another try
                    self._grow(deadline)
                except (self._lmdb.PanicError, self._lmdb.MapResizedError):
                    with self._guard:
                        self._wait_until_idle(timeout, "to be opened anew")
                        self._reopen()

    def _put(self, newest: int, changes: Changes) -> None:
        with self._guard:
            self._check()
            environment, self._committing = self._environment, True
        try:
            writer = environment.begin(write=True)
            try:
                if writer.id() != newest + 1:
                    message = f"{self.path} was changed by a program that isn't pstore; roll back and try again"
                    raise StorageError(message)
                for table, rows in changes.items():
                    ordered = sorted(rows)
                    puts = [(key, row) for key in ordered if (row := rows[key]) is not None]
                    with writer.cursor(self.trees[table]) as cursor:
                        cursor.putmulti(puts)
                    for key in ordered:
                        if rows[key] is None:
                            writer.delete(key, b"", self.trees[table])
                writer.commit()
            except BaseException:
                writer.abort()
                raise
        finally:
            with self._guard:
                self._committing = False
                self._guard.notify_all()

    def _grow(self, deadline: float) -> None:
        with self._guard:
            size = self._environment.info()["map_size"]
            self._map_size = max(self._map_size, size + max(size, _LEAST_GROWTH))
            self._grow_soon = True
            while not self._move(self._reopen):
                self._wait(deadline, "to be mapped anew, as its map is full,", StorageError)
            self._grow_soon = False

    def _is_half_full(self) -> bool:
        info = self._environment.info()
        used = (info["last_pgno"] + 1) * self._environment.stat()["psize"]
        if 2 * used < info["map_size"]:
            return False
        self._map_size = max(self._map_size, 2 * int(info["map_size"]))
        return True

    def _move(self, action: Callable[[], None]) -> bool:
        """Do what must not be done while anybody reads; end all snapshots before, and begin them again after it.

        The caller keeps writers out, so those of the newest state see the same again. Returns False where others, or views
        in use, are in the way.
        """
        self._sweep()
        if self._lingering or self._committing:
            return False
        newest = self._environment.info()["last_txnid"]
        with contextlib.ExitStack() as stack:
            for snapshot in self._snapshots:
                stack.enter_context(snapshot.lock)
            if any(snapshot.number != newest or not snapshot.unpin() for snapshot in self._snapshots):
                return False
            for snapshot in self._snapshots:
                snapshot.transaction.abort()
                snapshot.transaction = None
            action()
            for snapshot in self._snapshots:
                transaction = self._environment.begin(buffers=True)
                if transaction.id() == newest:
                    snapshot.transaction = transaction
                else:  # a program that isn't pstore has written: what it saw is lost
                    transaction.abort()
        return True

    # --------------------------------------------------------------------------------------------------- maintenance

    def copy(self, target: str) -> None:
        """Write the newest state to a new file, without free pages, and wait until the disk has it."""
        with self.translated():
            with self._guard:
                self._check()
                snapshot = Snapshot(self, self._environment.begin(buffers=True))
                # Never moved, so that the environment stays open: counted as older than any.
                snapshot.number = -1
                environment = self._environment
                self._snapshots.add(snapshot)
            try:
                environment.copy(target, compact=True)
                sync_file(target)
            finally:
                self.end(snapshot)

    def compact(self, timeout: float) -> None:
        """Replace the file by a copy without free pages.

        Raises:
            StoreLocked: Somebody else writes or has it open, or a transaction of this process is open.
        """
        temporary = self.path.with_name(self.path.name + "-compact")
        self.lock_writer(timeout)
        try:
            with self.translated(), _opening, self._guard:
                self._check()
                self._wait_until_idle(0.0, "to be compacted,")
                if not self._locks.take(USING, wait=timeout):
                    message = (
                        f"{self.path} is open in another process: it can be compacted when nobody else has it open"
                    )
                    raise StoreLocked(message)
                try:
                    self._environment.reader_check()
                    if self._count_readers():
                        message = (
                            f"{self.path} is being read by another process: compact it when nobody else has it open"
                        )
                        raise StoreLocked(message)
                    self._replace(temporary)
                finally:
                    self._locks.take(USING, shared=True)
        finally:
            with contextlib.suppress(OSError):  # the next one removes it
                temporary.unlink(missing_ok=True)
            self.unlock_writer()

    def _replace(self, temporary: Path) -> None:
        temporary.unlink(missing_ok=True)
        self._environment.copy(os.fspath(temporary), compact=True)
        temporary.chmod(self.path.stat().st_mode & 0o777)
        sync_file(temporary)
        self._environment.close()
        try:
            temporary.replace(self.path)
            sync_file(self.path.parent)
        finally:
            self._open()
            _enter(self)  # the new file has another inode

    def facts(self) -> dict[str, int | str]:
        """Return sizes in bytes, and counts."""
        with self.translated(), self._guard:
            self._check()
            info, page = self._environment.info(), self._environment.stat()["psize"]
            with self._environment.begin() as reader:
                entries = sum(reader.stat(tree)["entries"] for tree in self.trees.values())
            readers = self._count_readers()
        return {
            "bytes": self.path.stat().st_size,
            "used_bytes": (info["last_pgno"] + 1) * page,
            "map_size": info["map_size"],
            "entries": entries,
            "readers": readers,
        }

    def _count_readers(self) -> int:
        """Return how many snapshots all processes have open."""
        places = [line.split() for line in self._environment.readers().splitlines()]  # process, thread, commit
        return sum(len(place) == 3 and place[2].isdigit() for place in places)

    # -------------------------------------------------------------------------------------------------------- ending

    def close(self) -> bool:
        """Close it, unless views are in use; return whether it is closed."""
        with self._guard:
            self._sweep()
            if self._lingering:
                return False
            environment, self._environment = self._environment, None
            self.trees = {}
            if environment is not None:
                environment.close()
            self._locks.close()
            return True

    def abandon(self) -> None:
        """This is a forked child: leave everything to the parent.

        What LMDB has here is neither ended nor closed, which would take the parent's places for readers away; dropping the
        last reference does neither in a child.
        """
        self.forked = True
        self._guard = threading.Condition(threading.RLock())  # another thread may have held it
        for snapshot in [*self._snapshots, *self._lingering]:
            snapshot.forget()
        self._snapshots, self._lingering = set(), []
        self.trees = {}
        self._environment = None
        self._locks.close()

    def _check(self) -> None:
        if self._environment is None:
            message = f"{self.path} is closed"
            raise StoreClosed(message)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn LMDB's errors into ours."""
        try:
            yield
        except self._lmdb.Error as error:
            raise self._translate(error) from error
        except OSError as error:
            if isinstance(error, Error):
                raise
            message = f"{self.path}: {error.strerror or error}"
            raise StorageError(message) from error

    def _translate(self, error: Any) -> Error:
        lmdb = self._lmdb
        if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)):
            return damaged(self.path, str(error))
        if isinstance(error, (lmdb.VersionMismatchError, lmdb.IncompatibleError)):
            return FormatError(f"{self.path} is of another version or kind of LMDB: {error}")
        if isinstance(error, lmdb.LockError):
            return StoreLocked(f"{self.path} is locked by another process: {error}; try again later")
        if isinstance(error, lmdb.ReadonlyError):
            return ReadOnlyError(f"{self.path} can't be written, or nothing beside it: {error}")
        if isinstance(error, lmdb.DiskError):
            return StorageError(f"{self.path}: there is no room on the disk; make some, and try again ({error})")
        if "already open" in str(error):
            return StorageError(
                f"{self.path} is open in this process by other means than pstore, or was replaced: {error}"
            )
        return StorageError(f"{self.path}: LMDB says: {error}")


def sync_file(path: str | os.PathLike[str]) -> None:
    """Wait until the disk has a file, or the names in a directory."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


#: By device and inode of the data file.
_environments: Final[dict[tuple[int, int], Environment]] = {}
_NOWHERE: Final = (0, 0)  # what a missing file has
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
        found = _environments.get(_identity(path) or _NOWHERE)
        if found is not None:
            found.share(readonly=readonly, durable=durable, map_size=map_size, timeout=timeout)
        else:
            found = Environment(path, readonly=readonly, durable=durable, map_size=map_size, timeout=timeout, walk=walk)
            _enter(found)
        found.users += 1
        return found


def release_environment(environment: Environment) -> None:
    """One who had opened an environment needs it no more."""
    with _opening:
        environment.users -= 1
        _close_unused()


def _close_unused() -> None:
    for key, environment in list(_environments.items()):
        if not environment.users and environment.close():
            del _environments[key]


def _enter(environment: Environment) -> None:
    for key in [key for key, other in _environments.items() if other is environment]:
        del _environments[key]
    _environments[_identity(environment.path) or _NOWHERE] = environment


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _after_fork() -> None:
    global _opening  # noqa: PLW0603  # another thread may have held it
    _opening = threading.RLock()
    for environment in _environments.values():
        environment.abandon()
    _environments.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
