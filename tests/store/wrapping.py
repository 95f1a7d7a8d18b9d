"""A backend around another: it counts, fails, or changes what it is given, as a test tells it to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pstore.backends import Backend
from pstore.backends.base import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from pstore.backends.base import Capabilities


class Wrapper(Backend):
    """A backend around another one.

    Attributes:
        before: Called with the name of each method but `scan` and `rollback`, "get", "put", ..., before it does anything; what
            it raises is raised.
        stored: Returns what is stored in place of a row, called with table, key and row.
        asked: The tables that were read, each with the number of rows that were asked for, or None for a scan.
        read: How many bytes of records came back.
    """

    scheme = "wrapper"

    def __init__(self, inner: Backend, capabilities: Capabilities | None = None) -> None:
        self.inner = inner
        self.readonly = inner.readonly
        self.capabilities = inner.capabilities if capabilities is None else capabilities
        self.before: Callable[[str], object] = lambda verb: None
        self.stored: Callable[[Any, Any, bytes], bytes] = lambda table, key, row: row
        self.asked: list[tuple[Any, int | None]] = []
        self.read = 0

    def begin(self, *, write: bool = False) -> Transaction:
        return Wrapped(self, self.inner.begin(write=write))

    def close(self) -> None:
        self.inner.close()

    def trips(self, *tables: str) -> int:
        """How often one of these tables was read."""
        return sum(table in tables for table, _ in self.asked)

    def rows(self) -> int:
        """How many records were asked for by key."""
        return sum(count or 0 for table, count in self.asked if table == "records")

    def forget(self) -> None:
        """Count from 0 again."""
        self.asked.clear()
        self.read = 0


class Wrapped(Transaction):
    """Its transactions."""

    def __init__(self, backend: Wrapper, inner: Transaction) -> None:
        self.backend, self.inner = backend, inner

    def get_many(self, table: Any, keys: Any) -> Any:
        self.backend.before("get")
        self.backend.asked.append((table, len(keys)))
        found = self.inner.get_many(table, keys)
        self.backend.read += sum(len(row) for row in found if row is not None) if table == "records" else 0
        return found

    def scan(self, table: Any, start: Any = None, stop: Any = None) -> Any:
        self.backend.asked.append((table, None))
        return self.inner.scan(table, start, stop)

    def put_many(self, table: Any, items: Any) -> None:
        self.backend.before("put")
        self.inner.put_many(table, [(key, self.backend.stored(table, key, row)) for key, row in items])

    def delete_many(self, table: Any, keys: Any) -> None:
        self.backend.before("delete")
        self.inner.delete_many(table, keys)

    def commit(self) -> None:
        self.backend.before("commit")
        self.inner.commit()

    def rollback(self) -> None:
        self.inner.rollback()
