"""What the tests of concurrency stand on: backends that several sessions share, threads and processes that end."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for modules that other processes import by the same names

import pstore  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from places import Kind

    from pstore.backends import Backend


def _kept(kind: Kind, directory: Path) -> Iterator[Backend]:
    made = kind.make(directory, durable=False, timeout=60)  # writers wait long, as the machine may be busy
    yield made
    made.close()


@pytest.fixture
def backend(chosen_kind: Kind, tmp_path: Path) -> Iterator[Backend]:
    """An empty backend of each kind that the tests were asked to run over."""
    yield from _kept(chosen_kind, tmp_path)


@pytest.fixture
def any_backend(any_kind: Kind, tmp_path: Path) -> Iterator[Backend]:
    """An empty backend of each kind that there is."""
    yield from _kept(any_kind, tmp_path)


@pytest.fixture
def shared_url(any_kind: Kind, tmp_path: Path) -> str:
    """The URL of a store that isn't there yet, of each kind that several processes can share."""
    if any_kind.url is None:
        pytest.skip("no other process can open it")
    with contextlib.closing(any_kind.make(tmp_path)) as backend:
        if not backend.capabilities.shared:
            pytest.skip(f"a {backend.scheme} store is open in one process at a time")
    url = any_kind.url(tmp_path)
    return f"{url}{'&' if '?' in url else '?'}timeout=60"  # the machine may be busy, as above


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path to keep a store at, which is no backend's."""
    return tmp_path / "another.db"


@pytest.fixture
def other(db: pstore.Store) -> Iterator[pstore.Store]:
    """Another session of the module's `db`."""
    other = db.session()
    yield other
    other.rollback()
    other.close()
