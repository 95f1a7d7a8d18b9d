"""What the tests of concurrency stand on: backends that several sessions share, threads and processes that end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for modules that other processes import by the same names

import pstore  # noqa: E402
from pstore.backends import MemoryBackend, SqliteBackend  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pstore.backends import Backend


@pytest.fixture(params=["sqlite", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty backend of each kind; writers wait long, as the machine may be busy."""
    made = (
        SqliteBackend(tmp_path / "store.db", durable=False, timeout=60)
        if request.param == "sqlite"
        else MemoryBackend(timeout=60)
    )
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path to keep a store at."""
    return tmp_path / "store.db"


@pytest.fixture
def other(db: pstore.Store) -> Iterator[pstore.Store]:
    """Another session of the module's `db`."""
    other = db.session()
    yield other
    other.rollback()
    other.close()
