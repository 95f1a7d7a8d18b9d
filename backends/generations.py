"""Tables in files that some module reads and writes as a mapping, and that a crash must not catch half written.

Nothing is ever written to the files that are in force. A fold copies them beside (`path.new`), writes to the copies, waits for
the disk, notes in the journal what they are (that is the moment from which they are in force), and renames them. A crash
before the note leaves copies, which are dropped at the next open; one after it leaves renames, which are finished. The note
has length and checksum of each file, which are compared when the store is opened: no module gets to read a damaged file.

This module knows nothing of the modules but what `FileModule` in `_file_module` says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pstore.backends._disk import sync
from pstore.backends._file_module import FileModule, beside
from pstore.backends._journal_format import FileState
from pstore.backends._journaled_tables import FOLD_AT, FOLD_SHARE, JournaledTables
from pstore.backends.base import check_flag
from pstore.backends.journal import Journal, NoJournal
from pstore.backends.versions import VersionedBackend
from pstore.errors import CorruptRecord, Error, FormatError, StorageError, StoreNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CHUNK: Final = 1 << 20  # bytes read at a time


class FileBackend(VersionedBackend):
    """A store in the files of a module, with a journal beside them (`path.journal`).

    One process has it open for writing, or many for reading (flag "r"). When it has been closed, the files alone have
    everything. Opening reads them as a whole, to compare their checksums, where the journal is there to tell those.

    Args:
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

    #: What reads and writes the files.
    module: ClassVar[FileModule]

    def __init__(
        self, path: str | os.PathLike[str], flag: str = "c", *, durable: bool = True, timeout: float = 5.0
    ) -> None:
        check_flag(flag)
        self.path = Path(path).absolute()
        tables = _open(self.module, self.path, flag, durable=durable, timeout=timeout)
        super().__init__(tables, readonly=flag == "r", timeout=timeout)

    def __str__(self) -> str:
        return str(self.path)


class FileTables(JournaledTables):
    """The four tables in the files of a module.

    Args:
        module: What reads and writes the files.
        path: The store's path.
        journal: The journal, open; closed with the tables.
    """

    def __init__(self, module: FileModule, path: Path, journal: Journal) -> None:
        super().__init__({}, str(path), journal)
        self.module = module
        self.path = path

    def start(self, flag: str) -> None:
        """Finish what a crash has cut off, compare the files with the journal, and go on as any journaled tables."""
        with self.translated():
            self._finish_switch(readonly=flag == "r")
            self._refuse_changing()
            there = self._compare()
            if there:
                self.mapping = self.module.open(self.path, "r")
            super().start(flag)
        if flag == "n" or (not there and flag != "r"):
            self.fold(anew=True)
        self._fold_at = max(FOLD_AT, self.size() // FOLD_SHARE)

    def size(self) -> int:
        """Return the bytes of the files."""
        return sum(beside(self.path, suffix).stat().st_size for suffix in self.module.files(self.path))

    def compact(self) -> None:
        """Write files anew that have nothing but the rows."""
        self.fold(anew=True)

    def fold(self, *, anew: bool = False) -> None:
        """Put files in force that have what is pending, and empty the journal.

        Args:
            anew: Whether to write all rows to new files, instead of what is pending to copies.

        Raises:
            StorageError: There is no room, or the disk fails. All is as before, or, from where the new files are in force, whoever
                needs them next finishes this.
        """
        self.journal.check()
        if isinstance(self.mapping, _Unfinished):
            with self.guard, self.translated():
                self.mapping.finish()
        if self.module.slow_to_delete and sum(row is None for row in self.pending.values()) > 10:
            anew = True
        new, generation = beside(self.path, ".new"), self.journal.header.generation
        try:
            with self.translated():
                self._drop(new)
                states = self._write(new, anew=anew)
                unfinished = _Unfinished(lambda: self._exchange(states))
            self.journal.mark(generation + 1, states, switching=True)
        except BaseException:
            # Else the copies are in force, or the disk may say so.
            if not self.journal.in_doubt and self.journal.header.generation == generation:
                with contextlib.suppress(OSError):
                    self._drop(new)
            raise
        with self.guard:  # nothing is called here: an interruption finds both as they were, or neither
            former = self.mapping
            self.mapping, self.pending = unfinished, {}
        with self.guard, self.translated():
            self._close(former)
            unfinished.finish()
        self.journal.mark(self.journal.header.generation, states, switching=False)
        self.journal.empty()

    def release(self) -> None:
        """Close the files and the journal."""
        former, self.mapping = self.mapping, {}
        self._close(former)
        super().release()

    def stats(self) -> dict[str, int | str]:
        """Return the module, the path, and the bytes of the files and of the journal."""
        return {
            "module": self.module.name,
            "path": str(self.path),
            "bytes": self.size() + self.journal.end,
            "journal_bytes": self.journal.end,
        }

    def translate(self, error: Exception) -> Error:
        """Return our error for one that the module has raised."""
        if isinstance(error, OSError) and error.strerror and error.errno:
            return StorageError(f"{self.name} can't be read or written: {error.strerror}")
        if isinstance(error, (ValueError, SyntaxError)):  # as dbm.dumb says it
            return _damaged(self.path, f"{self.module.name} can't read it ({error})")
        return StorageError(f"{self.name}: {self.module.name} says: {error}")

    def _takes_text(self) -> bool:
        return self.module.textual

    def _write(self, new: Path, *, anew: bool) -> tuple[FileState, ...]:
        """Write the next generation's files, until the disk has them."""
        changes: Iterable[tuple[bytes, bytes | None]] = self.pending.items()
        layout = self.module.files(self.path)
        if anew:
            changes = ((key, self.get(key)) for key in self.keys())
        else:
            for suffix in layout:
                shutil.copyfile(beside(self.path, suffix), beside(new, suffix))
        mapping = self.module.open(new, "n" if anew else "w")
        try:
            self.module.update(mapping, changes)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                self.module.close(mapping)
            raise
        self.module.close(mapping)
        self.module.remove_litter(new)
        states = []
        for suffix in self.module.files(new):
            file = beside(new, suffix)
            if suffix in layout:
                shutil.copymode(beside(self.path, suffix), file)
            states.append(_state(file, suffix, sync=True))
        sync(self.path.parent)
        return tuple(states)

    def _finish_switch(self, *, readonly: bool) -> None:
        if readonly and self.journal.header.switching:
            self.journal.lock_alone()  # nobody else is in the middle of it
        header = self.journal.header
        if header.switching:
            self._rename(header.files)
            self.journal.mark(header.generation, header.files, switching=False)
        if readonly:
            self.journal.lock_shared()
        else:
            self._drop(beside(self.path, ".new"))

    def _exchange(self, states: Iterable[FileState]) -> Any:
        """Give the files in force their names, and return their mapping; where this fails, their next use tries again."""
        self._rename(states)
        self.mapping = self.module.open(self.path, "r")
        return self.mapping

    def _rename(self, states: Iterable[FileState]) -> None:
        for state in states:
            new = beside(beside(self.path, ".new"), state.suffix)
            if new.exists():  # or else it was renamed before a crash
                new.replace(beside(self.path, state.suffix))
        sync(self.path.parent)

    def _compare(self) -> bool:
        """Return whether there are files; raise CorruptRecord where they aren't what the journal says."""
        header = self.journal.header
        for state in header.files:
            file = beside(self.path, state.suffix)
            if not file.exists():
                raise _damaged(file, "it is missing")
            if file.stat().st_size != state.size or _state(file, state.suffix) != state:
                message = f"it isn't what was written ({file.stat().st_size} bytes; there were {state.size})"
                raise _damaged(file, message)
        return bool(header.files or self.module.files(self.path))

    def _refuse_changing(self) -> None:
        for suffix in self.module.changing:
            file = beside(self.path, suffix)
            if file.exists() and file.stat().st_size:
                message = (
                    f"{file} says that another program changes {self.path}, or has died at that; close it there, or open and"
                    " close it with that program"
                )
                raise StorageError(message)

    def adopt(self) -> None:
        """Note what the files are, which came without a journal."""
        states = tuple(_state(beside(self.path, suffix), suffix) for suffix in self.module.files(self.path))
        self.journal.mark(self.journal.header.generation, states, switching=False)

    def _drop(self, new: Path) -> None:
        self.module.remove_litter(new)
        for suffix in {suffix for layout in self.module.layouts for suffix in layout}:
            beside(new, suffix).unlink(missing_ok=True)

    def _close(self, mapping: Any) -> None:
        if not isinstance(mapping, dict):
            with contextlib.suppress(Exception):  # nothing was written to it
                self.module.close(mapping)


class _Unfinished(dict[Any, Any]):
    """Stands for files of which not all have their names yet.

    Args:
        finish: Gives them their names, and returns their mapping.
    """

    def __init__(self, finish: Callable[[], Any]) -> None:
        super().__init__()
        self.finish = finish

    def get(self, key: object, default: object = None) -> Any:
        return self.finish().get(key, default)

    def keys(self) -> Any:
        return self.finish().keys()


def _open(module: FileModule, path: Path, flag: str, *, durable: bool, timeout: float) -> FileTables:
    journal_path = beside(path, ".journal")
    readonly = flag == "r"
    try:
        files, had_journal = module.files(path), journal_path.exists()
    except OSError as error:
        message = f"{path} can't be reached: {error.strerror}"
        raise StorageError(message) from error
    if not files and not had_journal:
        if flag in "rw":
            message = f"there is no store at {path}; check the path, or make one with flag 'c'"
            raise StoreNotFound(message)
        if not path.parent.is_dir():
            message = f"there is no directory {path.parent} to make a store in"
            raise StoreNotFound(message)
    if readonly and not had_journal:
        journal: Journal = NoJournal(journal_path, module.name)
    else:
        journal = Journal(journal_path, module.name, readonly=readonly, durable=durable, timeout=timeout)
    tables = FileTables(module, path, journal)
    try:
        if journal.header.kind != module.name:
            message = f"{journal_path} is the journal of a {journal.header.kind} store, not of a {module.name} one"
            raise FormatError(message)
        tables.start(flag)
        if journal.header.generation == 0 and not journal.header.files and not readonly:
            tables.adopt()
    except BaseException:
        if not had_journal and not readonly and journal.untouched:
            # What is there belongs to somebody else, or nothing was made.
            with contextlib.suppress(OSError):
                journal_path.unlink()
        tables.release()
        raise
    return tables


def _state(file: Path, suffix: str, *, sync: bool = False) -> FileState:
    """Return what a file is, after waiting until the disk has it where that is asked for."""
    size = crc = 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        if sync:
            os.fsync(opened.fileno())
    return FileState(suffix, size, crc)


def _damaged(file: Path, what: str) -> CorruptRecord:
    return CorruptRecord(
        f"{file} is damaged: {what}; restore the store's files, the journal too, from a backup"
        " (if another program has written to it, remove the journal, and it is taken as it is)"
    )
