"""The backends behind a journal, and memory over a base, keep the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from places import KINDS

from pstore.backends import MappingBackend, MemoryBackend, SqliteBackend
from pstore.testing import BackendSuite

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends import Backend


class OfKind(BackendSuite):
    """As `tests/places.py` opens a kind."""

    kind: ClassVar[str]

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        return KINDS[self.kind].make(directory, flag=flag, durable=durable, timeout=timeout)


class TestDumb(OfKind):
    """`dbm.dumb`, which every Python has."""

    kind = "dbm.dumb"


class TestSqlite3(OfKind):
    """`dbm.sqlite3`, by its files."""

    kind = "dbm.sqlite3"


@pytest.mark.skipif(bool(KINDS["dbm.gnu"].missing), reason=KINDS["dbm.gnu"].missing)
class TestGnu(OfKind):
    """`dbm.gnu`."""

    kind = "dbm.gnu"


@pytest.mark.skipif(bool(KINDS["dbm.ndbm"].missing), reason=KINDS["dbm.ndbm"].missing)
class TestNdbm(OfKind):
    """`dbm.ndbm`."""

    kind = "dbm.ndbm"


@pytest.mark.skipif(bool(KINDS["sqlitedict"].missing), reason=KINDS["sqlitedict"].missing)
class TestSqlitedict(OfKind):
    """`sqlitedict`."""

    kind = "sqlitedict"


class TestMapping(BackendSuite):
    """A plain dict for each directory."""

    mappings: ClassVar[dict[Path, dict[Any, Any]]] = {}

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        mapping = self.mappings.setdefault(directory, {})
        return MappingBackend(mapping, flag, durable=durable, timeout=timeout)


class TestOverlay(BackendSuite):
    """Memory over an empty base."""

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        base = SqliteBackend(directory / "base.db", durable=durable)
        return MemoryBackend(timeout=timeout, base=base, owns_base=True)
