"""An LMDB file as it is mapped: how large, with which tables.

The map is replaced by closing LMDB's environment and opening it again. This module knows the file by what `_lmdb_file` says of it, and keys and rows as bytes. It neither locks nor waits, and knows
nothing of who reads: its caller sees to it that nobody does when the map is replaced, and that one at a time writes.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from pstore.backends._disk import sync
from pstore.backends._lmdb_driver import driver, translated
from pstore.backends._lmdb_file import check_file, damaged
from pstore.backends.base import TABLES, Table
from pstore.errors import FormatError, StorageError, StoreClosed

if TYPE_CHECKING:
    from pathlib import Path

#: For each table: encoded key -> row, or None where it is removed.
Changes = dict[Table, dict[bytes, "bytes | None"]]

#: Where the tree of tables says that this is a store: key, and value with the layout's number.
MARK: Final = b"pstore"
LAYOUT: Final = b"\x00\x00\x00\x01"
#: The size of a new map, in bytes: of addresses, not of memory nor of the disk.
MAP_SIZE: Final = 1 << 38 if sys.maxsize > 1 << 32 else 1 << 28
#: How many snapshots all processes together may have open; 64 bytes each in the file `-lock`.
READERS: Final = 16384

_LEAST_GROWTH: Final = 1 << 26
_SMALLEST_MAP: Final = 1 << 20


class Map:
    """LMDB's environment of one file, as long as it is open.

    Args:
        path: The data file.
        size: The least size of the map, in bytes.

    Attributes:
        size: As above.
        trees: LMDB's handles of the tables; none before `make_tables` has made them.
        readonly: Whether it is opened for reading only, from the next `open` on; and
        durable: whether a commit waits until the disk has it; and
        lock: whether readers tell others that they read.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.trees: dict[Table, Any] = {}
        self.readonly = self.durable = self.lock = True
        self._lmdb = driver()
        self._environment: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the file is mapped."""
        return self._environment is not None

    @property
    def newest(self) -> int:
        """The number of the newest commit."""
        return int(self._environment.info()["last_txnid"])

    def check(self) -> None:
        """Raise StoreClosed where it isn't open."""
        if self._environment is None:
            message = f"{self.path} is closed"
            raise StoreClosed(message)

    def open(self) -> None:
        """Map the file, with room for as much again as there is, anew where it is mapped already."""
        with translated(self.path):
            while True:
                self.close()
                self._map()
                # Otherwise another process has just made the file more than twice as large.
                with contextlib.suppress(self._lmdb.MapResizedError):
                    self.reap()
                    self._find_trees()
                    return

    def close(self) -> None:
        """Unmap the file."""
        environment, self._environment = self._environment, None
        self.trees = {}
        if environment is not None:
            environment.close()

    def forget(self) -> None:
        """Leave it to the process that this one was forked from.

        Closing would take the parent's places for readers away; dropping the last reference doesn't, in a child.
        """
        self._environment = None
        self.trees = {}

    def grow(self) -> None:
        """Map the file anew, at least twice as large."""
        size = int(self._environment.info()["map_size"])
        self.size = max(self.size, size + max(size, _LEAST_GROWTH))
        self.open()

    def begin(self) -> Any:
        """Begin a transaction of LMDB's that reads."""
        self.check()
        try:
            return self._environment.begin(buffers=True)
        except self._lmdb.ReadersFullError:
            if not self.reap():
                raise
            return self._environment.begin(buffers=True)

    def recover(self) -> None:
        """Bring to an end what a writer has left that died in its commit, just behind the header page.

        Its commit is made, but LMDB notices when the next writer begins; whoever reads before sees the state before it.
        """
        # Where the map has become too small, or LMDB has failed, whoever uses it next meets the same and handles it.
        with contextlib.suppress(self._lmdb.MapResizedError, self._lmdb.PanicError):
            self._environment.begin(write=True).abort()

    def make_tables(self, *, empty: bool) -> None:
        """Make the tables where there are none, and empty them if asked."""
        with self._environment.begin(write=True) as writer:
            trees = {table: self._environment.open_db(table.encode(), writer) for table in TABLES}
            if empty:
                for tree in trees.values():
                    writer.drop(tree, delete=False)
            writer.put(MARK, LAYOUT)
        self.trees = trees

    def put(self, newest: int, changes: Changes) -> None:
        """Commit rows, all or none.

        Args:
            newest: The number of the newest commit, which the changes were made to.
            changes: The rows.

        Raises:
            StorageError: There is a newer one.
        """
        writer = self._environment.begin(write=True)
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

    def copy(self, target: str) -> None:
        """Write the newest state to a new file, without free pages, and wait until the disk has it."""
        self._environment.copy(target, compact=True)
        sync(target)

    def reap(self) -> int:
        """Give back the places of readers whose process has died; return how many there were."""
        return int(self._environment.reader_check())

    def count_readers(self) -> int:
        """Return how many snapshots all processes have open."""
        places = [line.split() for line in self._environment.readers().splitlines()]  # process, thread, commit
        return sum(len(place) == 3 and place[2].isdigit() for place in places)

    def facts(self) -> dict[str, int | str]:
        """Return sizes in bytes, and counts."""
        info, page = self._environment.info(), self._environment.stat()["psize"]
        with self.begin() as reader:
            entries = sum(reader.stat(tree)["entries"] for tree in self.trees.values())
        return {
            "bytes": self.path.stat().st_size,
            "used_bytes": (info["last_pgno"] + 1) * page,
            "map_size": info["map_size"],
            "entries": entries,
            "readers": self.count_readers(),
        }

    def _map(self) -> None:
        meta = check_file(self.path, walk=False)
        used = 0 if meta is None else meta.bytes
        size = wanted = max(self.size, 2 * used, _SMALLEST_MAP)
        while True:
            try:
                self._environment = self._lmdb.open(
                    os.fspath(self.path),
                    subdir=False,
                    map_size=size,
                    max_dbs=len(TABLES),
                    max_readers=READERS,
                    readonly=self.readonly,
                    create=not self.readonly,
                    lock=self.lock,
                    metasync=self.durable,
                    mode=0o644,
                )
                break
            except self._lmdb.MemoryError:  # there aren't as many addresses to be had
                size //= 2
                if size < max(used, _SMALLEST_MAP):
                    message = f"{self.path}: the system gives no {size} bytes of addresses to map the store into"
                    raise StorageError(message) from None
        self.size = size if size < wanted else self.size

    def _find_trees(self) -> None:
        """Look up the tables, if this is a store."""
        with self.begin() as reader:
            mark, count = reader.get(MARK), reader.stat()["entries"]
            mark = None if mark is None else bytes(mark)
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
