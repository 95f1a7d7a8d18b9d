"""Tables in files that some module reads and writes as a mapping, and that a crash must not catch half written.

Nothing is ever written to the files that are in force. A fold copies them beside (`path.new`), writes to the copies, waits for
the disk, notes in the journal what they are (that is the moment from which they are in force), and renames them. A crash
before the note leaves copies, which are dropped at the next open; one after it leaves renames, which are finished. The note
has length and checksum of each file, which are compared when the store is opened: no module gets to read a damaged file.

This module knows nothing of the modules but what `FileModule` says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pstore.backends.journal import FileState, Journal, sync_directory
from pstore.backends.mapping import JournaledTables, damaged, update
from pstore.backends.versions import VersionedBackend
from pstore.errors import CorruptRecord, Error, FormatError, StorageError, StoreNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

_CHUNK = 1 << 20  # bytes read at a time


class FileModule(ABC):
    """What makes a mapping of files.

    Attributes:
        scheme: The name of the kind, in URLs and in the journal.
        layouts: What the names of its files may have behind the store's path: one of these sets, of which all are there.
        textual: Whether its keys are strings.
    """

    scheme: str
    layouts: tuple[tuple[str, ...], ...] = (("",),)
    textual: bool = False

    @abstractmethod
    def open(self, path: Path, flag: str) -> Any:
        """Return the mapping of the files: flag "r" for reading, "w" for writing too, "n" for new ones."""

    def close(self, mapping: Any) -> None:
        """Finish writing, and close; the files are whole then, though the disk may not have them yet."""
        mapping.close()

    def keys(self, mapping: Any) -> Iterator[bytes]:
        """Yield the keys of a mapping, in any order."""
        for key in mapping:
            yield key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key

    def update(self, mapping: Any, changes: Mapping[bytes, bytes | None]) -> None:
        """Store rows in a mapping that was opened for writing, and remove those that are None."""
        update(mapping, changes, textual=self.textual)

    def files(self, path: Path) -> tuple[str, ...]:
        """Return what the names of the files of a store have behind its path; nothing where there are none."""
        for layout in self.layouts:
            if all(beside(path, suffix).exists() for suffix in layout):
                return layout
        return ()


class FileBackend(VersionedBackend):
    """A store in the files of a module, with a journal beside them (`path.journal`).

    One process has it open for writing, or many for reading (flag "r"). When it has been closed, the files alone have
    everything. Opening reads them as a whole, to compare their checksums, where the journal is there to tell those.

    Args:
        module: What reads and writes the files.
        path: The store's path, as the module takes it.
        flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing store, "n" starts empty.
        durable: Whether a commit waits until the disk has it. Without, a crash of the machine, not of the process, may lose the
            last commits, never half of one.
        timeout: How long a writer waits for another, and whoever opens for the lock, in seconds.

    Raises:
        StoreNotFound: There is no store and the flag says not to make one.
        FormatError: The files are something else than a store.
        StoreLocked: The store is open elsewhere.
        CorruptRecord: The files or the journal are damaged.
        StorageError: The files can't be read or made.
    """

    def __init__(
        self,
        module: FileModule,
        path: str | os.PathLike[str],
        flag: str = "c",
        *,
        durable: bool = True,
        timeout: float = 5.0,
    ) -> None:
        self.path = Path(path).absolute()
        tables = _open(module, self.path, flag, durable=durable, timeout=timeout)
        super().__init__(tables, readonly=flag == "r", timeout=timeout)

    def __str__(self) -> str:
        return str(self.path)


class FileTables(JournaledTables):
    """The four tables in the files of a module.

    Args:
        module: What reads and writes the files.
        path: The store's path.
        journal: The journal, open; closed with the tables. None for a reader that has none: it sees what the files have.
    """

    def __init__(self, module: FileModule, path: Path, journal: Journal | None) -> None:
        self.module = module
        self.path = path
        self._files: Any = None
        self._broken = False
        super().__init__({}, str(path), journal)

    def start(self, flag: str) -> None:
        """Finish what a crash has cut off, look at the files, and go on as any journaled tables."""
        with self.translated():
            self._settle_files(readonly=flag == "r")
        super().start(flag)
        if flag == "n" or not self.module.files(self.path):
            self.fold(anew=True)
        self._fold_at = max(self._fold_at, self.size() // 4)
