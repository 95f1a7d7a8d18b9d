"""The four tables in one mapping from str or bytes to bytes.

Each row stands in the mapping under a key made of its table and its own key, as text (`r:` and 16 hexadecimal digits, `l:`
and the same, `n:` and the name, `m:` and the name), in UTF-8 where the mapping's keys are bytes. The key `pstore` says
that the mapping is a store. Keys that are none of these belong to somebody else, and are let be.

This module knows nothing of journals and files.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from pstore.backends.base import INT_TABLES, TABLES, Key, Row, Table
from pstore.backends.ordering import SortedKeys
from pstore.backends.versions import Changes, Replaced, Tables
from pstore.errors import Error, FormatError, StorageError, StoreNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

#: The key that says that a mapping is a store, and its row: the layout of the keys.
MARK: Final = b"pstore"
LAYOUT: Final = b"1"

_PREFIXES: Final[dict[Table, bytes]] = {"records": b"r:", "names": b"n:", "log": b"l:", "meta": b"m:"}
_TABLES: Final = {prefix: table for table, prefix in _PREFIXES.items()}
_INT_KEY: Final = 2 + 16
_PROBED: Final = 256  # so many numbers in a row are looked up rather than ordered


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
