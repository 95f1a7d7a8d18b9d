"""What the suite has to be told about a backend, and what its tests share: opening it, and looking at all of its rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest

from pstore.backends.base import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pstore.backends.base import Backend, Key, Table, Transaction

#: Seconds that a writer waits where it is to succeed; the machine may be busy.
PATIENT = 60.0
#: ... and where it isn't.
HASTY = 0.1


class Opening(Protocol):
    """Opens the backend under test; what it opened is closed when the test ends."""

    def __call__(
        self, flag: str = "c", *, directory: Path | None = None, durable: bool = False, timeout: float = PATIENT
    ) -> Backend:
        """Open the store of a directory: the test's own, where none is given."""


class Binding(ABC):
    """How the suite opens a backend; a subclass supplies `open_backend` and what else applies to it."""

    #: How many readers are open at once. One that a server limits to fewer may say so.
    readers: ClassVar[int] = 200
    #: How many transactions are run one after another.
    transactions: ClassVar[int] = 2000

    @abstractmethod
    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        """Open the one store that belongs to a directory.

        Args:
            directory: An existing directory, in which the store may have its files. The same directory is the same store.
            flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing store, "n" starts empty.
            durable: Whether a commit waits until the disk has it.
            timeout: How long a writer waits for another, in seconds.
        """

    def url(self, directory: Path) -> str | None:  # noqa: ARG002  # for a subclass
        """Return the URL by which another process opens the store of a directory; None where no other can."""
        return None

    def store_path(self, directory: Path) -> Path | None:  # noqa: ARG002  # for a subclass
        """Return the path of the store of a directory, to which `Backend.backup` can write one; None where it has none."""
        return None

    @pytest.fixture
    def opening(self, tmp_path: Path) -> Iterator[Opening]:
        """Opens the backend as often as a test asks, and closes what was opened."""
        with ExitStack() as opened:

            def open_it(
                flag: str = "c", *, directory: Path | None = None, durable: bool = False, timeout: float = PATIENT
            ) -> Backend:
                backend = self.open_backend(directory or tmp_path, flag, durable=durable, timeout=timeout)
                opened.callback(backend.close)
                return backend

            yield open_it

    @pytest.fixture
    def backend(self, opening: Opening) -> Backend:
        """An empty backend."""
        return opening()

    @pytest.fixture
    def lasting(self, backend: Backend) -> Backend:
        """An empty backend of a kind whose stores outlive it."""
        if not backend.capabilities.lasting:
            pytest.skip(f"a {backend.scheme} store doesn't outlive its backend")
        return backend

    @pytest.fixture
    def shared(self, lasting: Backend) -> Backend:
        """An empty backend of a kind whose stores may be open several times."""
        if not lasting.capabilities.shared:
            pytest.skip(f"a {lasting.scheme} store is open once at a time")
        return lasting

    @pytest.fixture
    def address(self, lasting: Backend, tmp_path: Path) -> str:
        """The URL of the store of `lasting`, for other processes."""
        url = self.url(tmp_path)
        if url is None:
            pytest.skip(f"no URL of a {lasting.scheme} store was given (`Binding.url`)")
        return url


def put(backend: Backend, table: Table, rows: Mapping[Any, bytes]) -> None:
    """Store rows in a transaction of their own."""
    writer = backend.begin(write=True)
    writer.put_many(table, rows.items())
    writer.commit()


def content(transaction: Transaction) -> dict[Table, dict[Key, bytes]]:
    """Return all rows that a transaction sees, of each table in the order of the scan."""
    return {table: {key: bytes(row) for key, row in transaction.scan(table)} for table in TABLES}


def look(backend: Backend) -> dict[Table, dict[Key, bytes]]:
    """Return the newest state of all tables."""
    reader = backend.begin()
    try:
        return content(reader)
    finally:
        reader.rollback()


def rows_of(backend: Backend, table: Table) -> dict[Any, bytes]:
    """Return the newest state of a table."""
    return look(backend)[table]
