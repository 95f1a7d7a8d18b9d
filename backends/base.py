"""The contract of a backend: four ordered tables of bytes, in transactions.

A backend stores rows and knows nothing of what they mean. It sees integers, strings and bytes, never an object.

========= ======================== ==========================================
table     key                      row
========= ======================== ==========================================
records   int, 0 to 2**64 - 1      an object's record
names     str (encodable as UTF-8) what stands under a name
log       int, 0 to 2**64 - 1      what a commit changed
meta      str                      the store's own facts
========= ======================== ==========================================

A backend that keeps this contract passes the shipped suite; what each method promises and raises stands in its docstring.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

from pstore.errors import StorageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

Table: TypeAlias = Literal["records", "names", "log", "meta"]
Key: TypeAlias = int | str
Row: TypeAlias = bytes | memoryview

#: How a store is opened: for reading; for reading and writing; the same, and made where it is missing; anew and empty.
FLAGS: Final = ("r", "w", "c", "n")
INT_TABLES: Final[tuple[Table, ...]] = ("records", "log")
STR_TABLES: Final[tuple[Table, ...]] = ("names", "meta")
TABLES: Final[tuple[Table, ...]] = (*INT_TABLES, *STR_TABLES)


@dataclass(frozen=True)
class Capabilities:
    """Where engines differ, as far as whoever uses one has to know.

    Attributes:
        lasting: Whether what is committed outlives the process.
        shared: Whether several processes may have the store open at a time. Where not, a second one is refused with `StoreLocked`.
        remote: Whether each call is a round trip to another process, so that it pays to ask for many rows at once.
        backup: Whether the engine has means of its own for `Backend.backup`.
        longest_name: The most bytes that a key of a table of texts may have in UTF-8, None for no bound.
        largest_row: The most bytes that a row may have, None for no bound but memory.
    """

    lasting: bool = True
    shared: bool = True
    remote: bool = False
    backup: bool = False
    longest_name: int | None = None
    largest_row: int | None = None


class Transaction(ABC):
    """One consistent view of the four tables, and, when begun for writing, the changes made to it.

    A read transaction sees the state of the moment it was begun, whatever others commit meanwhile, until `rollback` or
    `commit` ends it. At most one write transaction of a store is open at a time; it sees its own changes. After it has
    ended, every method raises `StoreClosed`; in a read transaction the changing methods raise `ReadOnlyError`.

    Any method may raise what `Backend.begin` raises, `StorageError` where the storage fails, and `CorruptRecord` where it is
    found damaged. A write transaction in which a changing method has raised is good for `rollback` only: whoever uses it has to
    end it so, and a backend needn't look after that.
    """

    @abstractmethod
    def get_many(self, table: Table, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of these keys in their order, None for a key that has no row.

        A key may be asked for twice. One that is longer than the engine takes has no row. A row may be a memoryview that is
        valid until the transaction ends.
        """

    @abstractmethod
    def scan(self, table: Table, start: Key | None = None, stop: Key | None = None) -> Iterator[tuple[Key, Row]]:
        """Yield (key, row) in ascending key order from `start` (included) to `stop` (left out).

        Strings are ordered by code point. None for a bound means no bound; for integers it is 0 to 2**64, and where `start`
        isn't below `stop` there is nothing. What this raises may come with the first row. Several scans may run at once; one
        that is left halfway holds nothing up, and going on with it after the transaction has ended raises `StoreClosed`.
        The order and content of a scan over a table that is changed meanwhile in the same transaction is not defined.
        """

    @abstractmethod
    def put_many(self, table: Table, items: Iterable[tuple[Key, bytes]]) -> None:
        """Store each row under its key, in place of what is there; of two rows for one key the last one is kept.

        What the iterable itself raises comes through as it is.

        Raises:
            StorageError: A key or row is larger than the engine takes (`Capabilities`), or there is no room.
        """

    @abstractmethod
    def delete_many(self, table: Table, keys: Iterable[Key]) -> None:
        """Remove the rows of these keys; a key that has none is passed over."""

    @abstractmethod
    def commit(self) -> None:
        """End the transaction and make all of its changes visible and, in a durable store, lasting, or none of them.

        When it returns, the changes are acknowledged: they survive the death of the process and, in a durable store,
        of the machine. When it raises, none of them has been made. In a read transaction it is `rollback`.

        Raises:
            CommitUncertain: The connection broke while the commit was under way. It may have been made, or be made yet; the
                next write transaction that begins sees which.
        """

    @abstractmethod
    def rollback(self) -> None:
        """End the transaction and drop its changes. Calling it on an ended transaction does nothing."""


class Backend(ABC):
    """An open store of bytes. May be shared by the threads of one process; a transaction belongs to one thread at a time."""

    #: The name of the kind, as its URL scheme writes it.
    scheme: ClassVar[str]
    #: What the engine can do.
    capabilities: ClassVar[Capabilities] = Capabilities()
    #: Whether write transactions are refused.
    readonly: bool

    @abstractmethod
    def begin(self, *, write: bool = False) -> Transaction:
        """Begin a transaction.

        Args:
            write: Whether it may change anything. A write transaction sees the newest state and excludes other writers.

        Raises:
            ReadOnlyError: `write` was asked of a backend opened for reading.
            StoreLocked: Another writer held the store for longer than the wait allows.
            StoreClosed: The backend was closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything; open transactions are rolled back, and say `StoreClosed`. Calling it again does nothing.

        In a process that was forked since the opening, it leaves to the parent what is the parent's. Everything else is
        refused there with `StoreClosed`, but for a store that doesn't last, of which the child has a copy.
        """

    def __str__(self) -> str:
        """Return what a person knows the store by: its path, or its URL without secrets."""
        return f"{self.scheme}:"

    def compact(self) -> None:
        """Give space that deleted rows have left back to the system, as far as the engine can. Does nothing by default.

        Raises:
            StoreLocked: Another transaction is in the way.
        """

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write the newest state to a new store of the same kind, with the engine's own means, while others read and write.

        The copy is whole when this returns; where it raises there is no copy.

        Args:
            path: Where the copy goes; there must be nothing yet.

        Raises:
            StorageError: The engine has no such means (`Capabilities.backup`), or the copy can't be written.
        """
        message = f"a {self.scheme} store has no backup of its own; pstore.copy copies it to any store ({path})"
        raise StorageError(message)

    def stats(self) -> dict[str, int | str]:
        """Return facts about the storage by name: at least `backend`, and what the engine knows (sizes in bytes)."""
        return {"backend": self.scheme}


def check_flag(flag: str) -> None:
    """Raise ValueError for a flag that there isn't."""
    if flag not in FLAGS:
        message = f"flag must be one of {', '.join(map(repr, FLAGS))}, not {flag!r}"
        raise ValueError(message)
