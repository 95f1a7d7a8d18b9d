"""The SQLite backend keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pstore.backends import SqliteBackend
from pstore.testing import BackendSuite

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends import Backend


class TestSqlite(BackendSuite):
    """In a file."""

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        return SqliteBackend(directory / "store.db", flag, durable=durable, timeout=timeout)

    def url(self, directory: Path) -> str:
        return f"sqlite:///{directory / 'store.db'}"

    def store_path(self, directory: Path) -> Path:
        return directory / "store.db"
