"""Any mapping from str or bytes to bytes as a backend: with a journal a durable one, without as durable as the mapping.

How rows stand in the mapping is in `_mapping_tables`, what a journal changes in `_journaled_tables`. This module says whose the
mapping is, and that it is one store's at a time.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pstore.backends._journaled_tables import JournaledTables
from pstore.backends._mapping_tables import MappingTables
from pstore.backends.base import Capabilities, check_flag
from pstore.backends.journal import Journal
from pstore.backends.versions import VersionedBackend
from pstore.errors import StoreLocked

if TYPE_CHECKING:
    import os
    from collections.abc import MutableMapping


class MappingBackend(VersionedBackend):
    """A store in a mapping of the caller's.

    The mapping belongs to the store while that is open: nobody else may change it. It must be usable by several threads, one
    at a time.

    Without a journal, a commit is made in the mapping itself: all of it or, where the mapping raises, none, as far as the
    process lives; then its `sync` is called, if it has one. It is as durable as the mapping is. With a journal, a
    commit is durable when it returns, and atomic, and the mapping is written later; the mapping must be opened together
    with its journal until the backend has been closed.

    The first scan of a table without narrow bounds lists all keys of the mapping, which are kept in memory from then on.

    Args:
        mapping: From str or bytes to bytes: existing keys tell which, else bytes are tried first. It isn't closed with the
            backend.
        flag: "r" opens for reading, "w" for reading and writing, "c" also where the mapping is empty, "n" removes what
            the store in it has.
        journal: The path of the journal, which is locked while the backend is open; None for none.
        durable: Whether a commit waits until the disk has the journal.
        timeout: How long a writer waits for another, and for the journal's lock, in seconds.

    Raises:
        FormatError: The mapping has something else than a store in it.
        StoreNotFound: The mapping is empty, and the flag says not to make a store.
        StoreLocked: The mapping is open as a store already, or the journal is in use elsewhere.
        CorruptRecord: The journal is damaged.
        StorageError: The mapping or the journal fails.
    """

    scheme: ClassVar[str] = "mapping"
    capabilities: ClassVar[Capabilities] = Capabilities(shared=False)

    def __init__(
        self,
        mapping: MutableMapping[Any, Any],
        flag: str = "c",
        *,
        journal: str | os.PathLike[str] | None = None,
        durable: bool = True,
        timeout: float = 5.0,
    ) -> None:
        check_flag(flag)
        _take(mapping, readonly=flag == "r")
        try:
            self._start(mapping, flag, journal, durable=durable, timeout=timeout)
        except BaseException:
            _give_back(mapping)
            raise
        self._mapping: MutableMapping[Any, Any] | None = mapping

    def _start(
        self,
        mapping: MutableMapping[Any, Any],
        flag: str,
        journal: str | os.PathLike[str] | None,
        *,
        durable: bool,
        timeout: float,
    ) -> None:
        tables: MappingTables
        if journal is None:
            self._name = f"a {type(mapping).__name__}"
            tables = MappingTables(mapping, self._name)
        else:
            path = Path(journal).absolute()
            self._name = f"a {type(mapping).__name__} with the journal {path}"
            opened = Journal(path, self.scheme, readonly=flag == "r", durable=durable, timeout=timeout)
            tables = JournaledTables(mapping, self._name, opened)
        try:
            tables.start(flag)
        except BaseException:
            tables.release()
            raise
        super().__init__(tables, readonly=flag == "r", timeout=timeout)

    def close(self) -> None:
        """Let go of the mapping, which is the caller's."""
        super().close()
        if not self.forked and self._mapping is not None:
            mapping, self._mapping = self._mapping, None
            _give_back(mapping)

    def __str__(self) -> str:
        return self._name


def _take(mapping: object, *, readonly: bool) -> None:
    """Note that a mapping is open; raise StoreLocked where it is already, unless all only read."""
    with _in_use_guard:
        _, readers = _in_use.get(id(mapping), (mapping, 0))
        if readers < 0 or (readers and not readonly):
            message = f"this {type(mapping).__name__} is open as a store already; close that, or use the same backend"
            raise StoreLocked(message)
        _in_use[id(mapping)] = mapping, readers + 1 if readonly else -1


def _give_back(mapping: object) -> None:
    with _in_use_guard:
        _, readers = _in_use.pop(id(mapping))
        if readers > 1:
            _in_use[id(mapping)] = mapping, readers - 1


#: By id: a mapping that is open as a store, and how many read it, or -1 for one that writes.
_in_use: Final[dict[int, tuple[object, int]]] = {}
_in_use_guard: Final = threading.Lock()
