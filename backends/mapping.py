"""Any mapping from str or bytes to bytes as a backend: with a journal a durable one, without as durable as the mapping.

Each row stands in the mapping under a key made of its table and its own key, as text (`r:` and 16 hexadecimal digits, `l:`
and the same, `n:` and the name, `m:` and the name), in UTF-8 where the mapping's keys are bytes. The key `pstore` says
that the mapping is a store. Keys that are none of these belong to somebody else, and are let be.

With a journal, a commit goes there, and stays in memory (*pending*) until it is folded into the mapping: when the journal
has grown, when the backend is compacted, and when it is closed. A fold that a crash cuts off is done again at the next open.

This module knows nothing of files: what folds by exchanging files is in `pstore.backends.generations`.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pstore.backends.base import INT_TABLES, TABLES, Capabilities, Key, Row, Table, check_flag
from pstore.backends.journal import Journal
from pstore.backends.ordering import SortedKeys
from pstore.backends.versions import Changes, Replaced, Tables, VersionedBackend
from pstore.errors import Error, FormatError, StorageError, StoreLocked, StoreNotFound

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

#: The key that says that a mapping is a store, and its row: the layout of the keys.
MARK: Final = b"pstore"
LAYOUT: Final = b"1"

#: The journal is folded in when it is larger than this (bytes), and than this share of what it is folded into.
FOLD_AT: Final = 4 * 1024 * 1024
FOLD_SHARE: Final = 4

_PREFIXES: Final[dict[Table, bytes]] = {"records": b"r:", "names": b"n:", "log": b"l:", "meta": b"m:"}
_TABLES: Final = {prefix: table for table, prefix in _PREFIXES.items()}
_INT_KEY: Final = 2 + 16
_PROBED: Final = 256  # so many numbers in a row are looked up rather than ordered


class MappingBackend(VersionedBackend):
    """A store in a mapping of the caller's.

    The mapping belongs to the store while that is open: nobody else may change it. It must be usable by several threads, one
    at a time.

    Without a journal, a commit is made in the mapping itself: all of it or, where the mapping raises, none, as far as the
    process lives; then its `sync` is called, if it has one. It is as durable as the mapping is. With a journal, a
    commit is durable when it returns, and atomic, and the mapping is written later; the mapping must be opened together
    with its journal until the backend has been closed.

    The first scan of a table without narrow bounds lists all keys of the mapping, which are kept in memory from then on.

    Args:
        mapping: From str or bytes to bytes: existing keys tell which, else bytes are tried first. It isn't closed with the
            backend.
        flag: "r" opens for reading, "w" for reading and writing, "c" also where the mapping is empty, "n" removes what
            the store in it has.
        journal: The path of the journal, which is locked while the backend is open; None for none.
        durable: Whether a commit waits until the disk has the journal.
        timeout: How long a writer waits for another, and for the journal's lock, in seconds.

    Raises:
        FormatError: The mapping has something else than a store in it.
        StoreNotFound: The mapping is empty, and the flag says not to make a store.
        StoreLocked: The mapping is open as a store already, or the journal is in use elsewhere.
        CorruptRecord: The journal is damaged.
        StorageError: The mapping or the journal fails.
    """

    scheme: ClassVar[str] = "mapping"
    capabilities: ClassVar[Capabilities] = Capabilities(shared=False)

    def __init__(
        self,
        mapping: MutableMapping[Any, Any],
        flag: str = "c",
        *,
        journal: str | os.PathLike[str] | None = None,
        durable: bool = True,
        timeout: float = 5.0,
    ) -> None:
        check_flag(flag)
        _take(mapping, readonly=flag == "r")
        try:
            self._start(mapping, flag, journal, durable=durable, timeout=timeout)
        except BaseException:
            _give_back(mapping)
            raise
        self._mapping: MutableMapping[Any, Any] | None = mapping

    def _start(
        self,
        mapping: MutableMapping[Any, Any],
        flag: str,
        journal: str | os.PathLike[str] | None,
        *,
        durable: bool,
        timeout: float,
    ) -> None:
        tables: MappingTables
        if journal is None:
            self._name = f"a {type(mapping).__name__}"
            tables = MappingTables(mapping, self._name)
        else:
            path = Path(journal).absolute()
            self._name = f"a {type(mapping).__name__} with the journal {path}"
            opened = Journal(path, self.scheme, readonly=flag == "r", durable=durable, timeout=timeout)
            tables = JournaledTables(mapping, self._name, opened)
        try:
            tables.start(flag)
        except BaseException:
            tables.release()
            raise
        super().__init__(tables, readonly=flag == "r", timeout=timeout)

    def close(self) -> None:
        """Let go of the mapping, which is the caller's."""
        super().close()
        if not self.forked and self._mapping is not None:
            mapping, self._mapping = self._mapping, None
            _give_back(mapping)

    def __str__(self) -> str:
        return self._name


class MappingTables(Tables):
    """The four tables in a mapping.

    Args:
        mapping: Where the rows are.
        name: What to name in errors.
    """

    def __init__(self, mapping: MutableMapping[Any, Any], name: str) -> None:
        super().__init__()
        self.name = name
        self.mapping = mapping
        self.textual = False  # whether the mapping's keys are strings
        self._orders: dict[Table, SortedKeys] = {}

    def start(self, flag: str) -> None:
        """Look whether there is a store, and make one as the flag says; raises as `MappingBackend` does."""
        with self.translated():
            self.textual = self._takes_text()
            mark = self.get(MARK)
            fresh = mark is None and next(self.keys(), None) is None
        if fresh and flag in "rw":
            message = f"{self.name} is empty: there is no store; make one with flag 'c'"
            raise StoreNotFound(message)
        if mark is None and not fresh:
            message = f"{self.name} has something else than a pstore store in it; choose another"
            raise FormatError(message)
        if mark is not None and mark != LAYOUT:
            message = f"{self.name} has layout {mark!r}; this version of pstore reads {LAYOUT!r}: use a newer one"
            raise FormatError(message)
        if flag == "n" and not fresh:
            with self.translated():
                stored = [key for key in self.keys() if key == MARK or split(key) is not None]
            self.put(dict.fromkeys(stored))
        if flag in "cn" and self.get(MARK) is None:
            self.put({MARK: LAYOUT})

    def get(self, key: bytes) -> bytes | None:
        """Return what stands under a key, None where nothing does."""
        row = self.mapping.get(key.decode() if self.textual else key)
        if row is None or isinstance(row, bytes):
            return row
        message = f"{self.name} has {type(row).__name__} under {key!r}, where a store has bytes"
        raise FormatError(message)

    def keys(self) -> Iterator[bytes]:
        """Yield the keys of the mapping, in any order."""
        for key in self.mapping.keys():  # noqa: SIM118  # dbm.gnu's have keys, and can't be iterated
            if isinstance(key, (bytes, str)):
                yield key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key

    def put(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Store rows under their keys, and remove those that are None: all or, where the mapping raises, none."""
        with self.guard, self.translated():
            before = {key: self.get(key) for key in changes}
            try:
                update(self.mapping, changes.items(), textual=self.textual)
                sync(self.mapping)
            except BaseException:
                self._undo(before)
                raise

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys; see `Tables.get_many`."""
        with self.translated():
            return [self.get(join(table, key)) for key in keys]

    def first(self, table: Table, start: Key | None, stop: Key | None, limit: int) -> list[tuple[Key, Row]]:
        """Return the lowest rows of a range; see `Tables.first`."""
        found: list[tuple[Key, Row]] = []
        for key in self._range(table, start, stop):
            with self.translated():
                row = self.get(join(table, key))
            if row is not None:
                found.append((key, row))
                if len(found) == limit:
                    break
        return found

    def commit(self, changes: Changes, replaced: Replaced) -> None:
        """Make the changes; see `Tables.commit`."""
        try:
            with self.guard:
                self._reorder(changes)
            self.put(flat(changes))
        except BaseException:
            with self.guard:
                self._reorder(replaced)
            raise

    def close(self) -> None:
        """Let go of the mapping, which is the caller's."""
        self._orders.clear()
        self.release()

    def release(self) -> None:
        """Release what was opened, and write nothing."""

    def stats(self) -> dict[str, int | str]:
        """Return the number of keys, and the bytes of all rows, which are read for that."""
        with self.translated():
            rows = [self.get(key) or b"" for key in self.keys() if split(key) is not None]
        return {"module": type(self.mapping).__name__, "bytes": sum(map(len, rows)), "rows": len(rows)}

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the mapping raises into our errors."""
        try:
            yield
        except Error:
            raise
        except Exception as error:
            raise self.translate(error) from error

    def translate(self, error: Exception) -> Error:
        """Return our error for one that the mapping has raised."""
        return StorageError(f"{self.name} says: {type(error).__name__}: {error}")

    def _takes_text(self) -> bool:
        first = next(iter(self.mapping.keys()), None)  # as in `keys`
        if first is not None:
            return isinstance(first, str)
        try:
            self.mapping.get(MARK)
        except (TypeError, AttributeError):  # as a shelf does, which encodes its keys
            return True
        return False

    def _range(self, table: Table, start: Key | None, stop: Key | None) -> Iterable[Any]:
        if isinstance(start, int) and isinstance(stop, int) and stop - start <= _PROBED:
            return range(start, stop)
        if table not in self._orders:
            found: dict[Table, list[Key]] = {each: [] for each in TABLES}
            with self.translated():
                for key in self.keys():
                    if (parts := split(key)) is not None:
                        found[parts[0]].append(parts[1])
            self._orders = {each: SortedKeys(keys) for each, keys in found.items()}
        return self._orders[table].between(start, stop)

    def _reorder(self, changes: Mapping[Table, Mapping[Key, object | None]]) -> None:
        for table, order in self._orders.items():
            order.update(changes.get(table, {}))

    def _undo(self, before: Mapping[bytes, bytes | None]) -> None:
        """Put back what stood there, each on its own: what fails now failed before, or the mapping is beyond help."""
        for key, row in before.items():
            with contextlib.suppress(Exception):
                if self.get(key) != row:
                    update(self.mapping, [(key, row)], textual=self.textual)


class JournaledTables(MappingTables):
    """The four tables in a mapping behind a journal.

    Args:
        mapping: Where the rows are.
        name: What to name in errors.
        journal: Where commits go first; closed with the tables.
    """

    def __init__(self, mapping: MutableMapping[Any, Any], name: str, journal: Journal) -> None:
        super().__init__(mapping, name)
        self.journal = journal
        self.readonly = False
        #: What the journal has and the mapping hasn't: row by key, None for one that is removed.
        self.pending: dict[bytes, bytes | None] = {}
        self._fold_at = FOLD_AT

    def start(self, flag: str) -> None:
        """Replay the journal, and go on as without one."""
        self.readonly = flag == "r"
        self.pending = self.journal.replay()
        super().start(flag)

    def get(self, key: bytes) -> bytes | None:
        """Return what stands under a key, None where nothing does."""
        return self.pending[key] if key in self.pending else super().get(key)

    def keys(self) -> Iterator[bytes]:
        """Yield the keys that have rows, in any order."""
        yield from (key for key, row in self.pending.items() if row is not None)
        yield from filter(lambda key: key not in self.pending, super().keys())

    def put(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Store rows in the journal: all or, where it raises, none."""
        end, pending = self.journal.end, self.pending
        before = {key: pending[key] for key in changes if key in pending}
        try:
            # Nobody sees this before the commit is made: snapshots are older.
            with self.guard:
                pending.update(changes)
            self.journal.append([changes])
        except BaseException:
            with self.guard:
                for key in changes:
                    pending.pop(key, None)
                pending.update(before)
            self.journal.take_back(end)
            raise

    def settle(self) -> None:
        """Fold the journal in when it has grown enough."""
        if self.journal.end > self._fold_at:
            try:
                self.fold()
            except Error:  # no room, say: what was committed is in the journal, and another time will do
                self._fold_at = 2 * self.journal.end
            else:
                self._fold_at = max(FOLD_AT, self.size() // FOLD_SHARE)

    def size(self) -> int:
        """Return the bytes of what the journal is folded into, 0 where that isn't known."""
        return 0

    def compact(self) -> None:
        """Fold the journal in."""
        self.fold()

    def fold(self) -> None:
        """Write into the mapping what is pending, and empty the journal.

        Raises:
            StorageError: That can't be done; all is in the journal as before.
        """
        with self.guard:
            with self.translated():
                update(self.mapping, self.pending.items(), textual=self.textual)
                sync(self.mapping)
            self.journal.mark(self.journal.header.generation + 1, (), switching=False)
            self.pending = {}
        self.journal.empty()

    def close(self) -> None:
        """Fold the journal in, and close it. Where that fails nothing is lost: the journal has it for the next time."""
        try:
            if self.pending and not self.readonly:
                with contextlib.suppress(Error):
                    self.fold()
        finally:
            super().close()

    def release(self) -> None:
        """Close the journal."""
        self.journal.close()

    def abandon(self) -> None:
        """Close this process's copy of the journal: the lock stays with the process that opened it."""
        self.journal.close()

    def stats(self) -> dict[str, int | str]:
        """Return what the mapping has, and the bytes of the journal."""
        return {**super().stats(), "journal_bytes": self.journal.end}


def _take(mapping: object, *, readonly: bool) -> None:
    """Note that a mapping is open; raise StoreLocked where it is already, unless all only read."""
    with _in_use_guard:
        _, readers = _in_use.get(id(mapping), (mapping, 0))
        if readers < 0 or (readers and not readonly):
            message = f"this {type(mapping).__name__} is open as a store already; close that, or use the same backend"
            raise StoreLocked(message)
        _in_use[id(mapping)] = mapping, readers + 1 if readonly else -1


def _give_back(mapping: object) -> None:
    with _in_use_guard:
        _, readers = _in_use.pop(id(mapping))
        if readers > 1:
            _in_use[id(mapping)] = mapping, readers - 1


#: By id: a mapping that is open as a store, and how many read it, or -1 for one that writes.
_in_use: Final[dict[int, tuple[object, int]]] = {}
_in_use_guard: Final = threading.Lock()


def join(table: Table, key: Key) -> bytes:
    """Return the key in the mapping of a table's row."""
    return _PREFIXES[table] + (key.encode() if isinstance(key, str) else b"%016x" % key)


def split(key: bytes) -> tuple[Table, Key] | None:
    """Return the table and the key of what stands under a key in the mapping, None where that isn't a row."""
    table = _TABLES.get(key[:2])
    try:
        if table is None or (table in INT_TABLES and len(key) != _INT_KEY):
            return None
        return table, _number(key) if table in INT_TABLES else key[2:].decode()
    except ValueError:
        return None


def _number(key: bytes) -> int:
    return int.from_bytes(bytes.fromhex(key[2:].decode()), "big")


def flat(changes: Changes) -> dict[bytes, bytes | None]:
    """Return changes by their keys in the mapping."""
    return {join(table, key): row for table, delta in changes.items() for key, row in delta.items()}


def update(
    mapping: MutableMapping[Any, Any], changes: Iterable[tuple[bytes, bytes | None]], *, textual: bool = False
) -> None:
    """Store rows in a mapping, and remove those that are None."""
    for key, row in changes:
        place = key.decode() if textual else key
        if row is not None:
            mapping[place] = row
        elif place in mapping:
            del mapping[place]


def sync(mapping: object) -> None:
    """Call the mapping's `sync`, where it has one."""
    method = getattr(mapping, "sync", None)
    if callable(method):
        method()
