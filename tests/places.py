"""The kinds of backends that tests run over: how each makes a store in a directory, and what it takes.

The tests of the contract and of isolation run over all kinds that the machine has; those of the store run over the kinds
that `--backends` names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import postgres_server

from pstore.backends import LmdbBackend, MemoryBackend, PostgresqlBackend, SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pstore.backends import Backend


@dataclass(frozen=True)
class Kind:
    """A kind of backend.

    Attributes:
        make: Opens the backend of a directory: called with the directory, and with `flag`, `durable` and `timeout` by
            keyword, as backends take them.
        url: Returns the URL by which another process opens it; None where no other can.
        missing: What the machine lacks for it and how to get that; empty where it has everything.
    """

    make: Callable[..., Backend]
    url: Callable[[Path], str] | None = None
    missing: str = ""


def _memory(_directory: Path, *, flag: str = "c", durable: bool = True, timeout: float = 5.0) -> Backend:
    del flag, durable
    return MemoryBackend(timeout=timeout)


def _sqlite(directory: Path, **options: Any) -> Backend:
    return SqliteBackend(directory / "store.db", **options)


def postgresql_url(directory: Path) -> str:
    """The URL of the store that a directory stands for, on this process's own server."""
    return postgres_server.server().url("t" + hashlib.sha256(str(directory).encode()).hexdigest()[:20])


def _postgresql(directory: Path, **options: Any) -> Backend:
    return PostgresqlBackend(postgresql_url(directory), **options)


def _lmdb(directory: Path, **options: Any) -> Backend:
    return LmdbBackend(directory / "store.lmdb", **options)


def _package(name: str) -> str:
    """What `Kind.missing` says for a kind that needs a package."""
    return "" if find_spec(name) else f"the package {name}: python -m pip install 'pstore-db[{name}]'"


#: By name, as `--backends` takes it.
KINDS: dict[str, Kind] = {
    "sqlite": Kind(_sqlite, lambda directory: f"sqlite:///{directory / 'store.db'}"),
    "lmdb": Kind(_lmdb, lambda directory: f"lmdb:///{directory / 'store.lmdb'}", _package("lmdb")),
    "memory": Kind(_memory),
    "postgresql": Kind(_postgresql, postgresql_url, postgres_server.missing()),
}
