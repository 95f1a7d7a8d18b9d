"""The memory backend: four dicts, for tests, for data that needn't last, and for changes over a store that stays as it is.

Over a base it reads through: what it has no row for is read from a snapshot of the base, pinned when it was opened. A
row that was removed here is remembered as removed. The base is never written.
"""

from __future__ import annotations

from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pstore.backends.base import TABLES, Backend, Capabilities, Key, Row, Table
from pstore.backends.ordering import SortedKeys
from pstore.backends.versions import Changes, Replaced, Tables, VersionedBackend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class MemoryBackend(VersionedBackend):
    """A store in this process's memory, gone with it.

    Args:
        timeout: How long a writer waits for another, in seconds.
        base: An open backend to read through to. It must stay open for as long as this one is. Its state of now is what is
            read; what is committed there later isn't seen.
        owns_base: Whether the base is closed with this one.
    """

    scheme: ClassVar[str] = "memory"
    capabilities: ClassVar[Capabilities] = Capabilities(lasting=False, shared=False)

    def __init__(self, *, timeout: float = 5.0, base: Backend | None = None, owns_base: bool = False) -> None:
        self._name = "memory:" if base is None else f"memory: over {base}"
        super().__init__(_MemoryTables(base, owned=owns_base), timeout=timeout)

    def __str__(self) -> str:
        return self._name

    def compact(self) -> None:
        """Do nothing, whoever is at work: removed rows leave no space here."""
        self.check()


class _MemoryTables(Tables):
    def __init__(self, base: Backend | None, *, owned: bool) -> None:
        super().__init__()
        self._base = base
        self._owned = owned
        self._snapshot = None if base is None else base.begin()
        #: For each table: key -> row; None for a row of the base that was removed here.
        self._rows: dict[Table, dict[Key, bytes | None]] = {table: {} for table in TABLES}
        self._orders: dict[Table, SortedKeys] = {}

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        rows = self._rows[table]
        if self._snapshot is None:
            return [rows.get(key) for key in keys]
        others = [key for key in keys if key not in rows]
        found = dict(zip(others, self._snapshot.get_many(table, others), strict=True)) if others else {}
        return [rows[key] if key in rows else found[key] for key in keys]

    def first(self, table: Table, start: Key | None, stop: Key | None, limit: int) -> list[tuple[Key, Row]]:
        rows = self._rows[table]
        if table not in self._orders:
            self._orders[table] = SortedKeys(key for key, row in rows.items() if row is not None)
        found: Iterator[tuple[Any, Any]] = ((key, rows[key]) for key in self._orders[table].between(start, stop))
        if self._snapshot is not None:
            below = ((key, row) for key, row in self._snapshot.scan(table, start, stop) if key not in rows)
            found = merge(found, below, key=itemgetter(0))
        return list(islice(found, limit))

    def commit(self, changes: Changes, replaced: Replaced) -> None:
        del replaced  # of a row of the base, this would make a copy
        before = {
            table: {key: self._rows[table].get(key, _ABSENT) for key in delta} for table, delta in changes.items()
        }
        with self.guard:
            try:
                self._apply(changes)
            except BaseException:  # interrupted
                self._apply(before)
                raise

    def close(self) -> None:
        self._rows = {table: {} for table in TABLES}
        self._orders.clear()
        if self._snapshot is not None:
            self._snapshot.rollback()
        if self._base is not None and self._owned:
            self._base.close()

    def stats(self) -> dict[str, int | str]:
        rows = {table: [row for row in self._rows[table].values() if row is not None] for table in TABLES}
        sizes: dict[str, int | str] = {table: len(rows[table]) for table in TABLES}
        base: dict[str, int | str] = {} if self._base is None else {"base": str(self._base)}
        return {"bytes": sum(len(row) for table in TABLES for row in rows[table]), **sizes, **base}

    def _apply(self, changes: Mapping[Table, Mapping[Key, Any]]) -> None:
        for table, delta in changes.items():
            rows = self._rows[table]
            for key, row in delta.items():
                if row is _ABSENT or (row is None and self._base is None):
                    rows.pop(key, None)
                else:
                    rows[key] = row
            if table in self._orders:
                self._orders[table].update({key: rows.get(key) for key in delta})


_ABSENT: Final = object()
