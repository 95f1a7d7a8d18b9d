"""Storage backends: the contract, the URL registry, and one module a backend.

Nothing here knows of objects, records or pickles: rows are bytes under integers or strings.
"""

from __future__ import annotations

if __name__ != "pstore.backends":
    # From the project's root it could be imported as `backends` too: a second, unequal module.
    raise ImportError("this directory is the package pstore.backends: import it by that name")

from pstore.backends.base import Backend, Capabilities, Transaction
from pstore.backends.dbm import DumbBackend, GnuBackend, NdbmBackend, Sqlite3Backend, open_dbm
from pstore.backends.lmdb import LmdbBackend
from pstore.backends.mapping import MappingBackend
from pstore.backends.memory import MemoryBackend
from pstore.backends.postgresql import PostgresqlBackend
from pstore.backends.registry import open_backend, open_overlay
from pstore.backends.sqlite import SqliteBackend
from pstore.backends.sqlitedict import SqlitedictBackend

__all__ = [
    "Backend",
    "Capabilities",
    "DumbBackend",
    "GnuBackend",
    "LmdbBackend",
    "MappingBackend",
    "MemoryBackend",
    "NdbmBackend",
    "PostgresqlBackend",
    "Sqlite3Backend",
    "SqliteBackend",
    "SqlitedictBackend",
    "Transaction",
    "open_backend",
    "open_dbm",
    "open_overlay",
]
