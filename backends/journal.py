"""The journal: a file of commits that are not yet folded into what they are for, and the facts that a crash must not lose.

It makes a commit atomic and durable whatever happens to the rest. It knows keys and rows as bytes, and nothing else of
them; what is folded, and into what, is the caller's. The bytes are in `_journal_format`.

A frame is of one generation, and stands for nothing in the next. The frames of a generation are numbered. A frame that isn't
whole is the end of what was being written in a crash, and is dropped, where no acknowledged end lies behind it and no
frame follows it that was written after it was on the disk; otherwise it is damage.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pstore.backends._disk import sync
from pstore.backends._journal_format import (
    ACKNOWLEDGED_AT,
    ACKNOWLEDGED_SIZE,
    DURABLE,
    FRAME_MAGIC,
    FRAME_SIZE,
    FRAMES_AT,
    SLOT_SIZE,
    SLOTS,
    FileState,
    Frame,
    Header,
    pack_acknowledged,
    pack_changes,
    pack_frame,
    pack_header,
    unpack_acknowledged,
    unpack_changes,
    unpack_frame,
    unpack_header,
)
from pstore.backends.locking import lock
from pstore.errors import CorruptRecord, StorageError, StoreNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


class Journal:
    """An open journal, locked.

    Args:
        path: The file; made where there is none, unless `readonly`.
        kind: What it belongs to, for a new one.
        readonly: Whether nothing will be written: the lock is then shared with other readers.
        durable: Whether a commit waits until the disk has it.
        timeout: How long to wait for the lock, in seconds.

    Attributes:
        header: The facts in force.
        end: Where the next frame begins, in bytes; known after `replay`.
        untouched: Whether nobody had written anything to it when it was locked.

    Raises:
        StoreNotFound: There is none, and `readonly`.
        StoreLocked: It is open elsewhere.
        CorruptRecord: It is damaged.
        StorageError: It can't be made, read or locked.
    """

    def __init__(
        self, path: Path, kind: str, *, readonly: bool = False, durable: bool = True, timeout: float = 5.0
    ) -> None:
        self.path = path
        self.durable = durable
        self.end = FRAMES_AT
        self._readonly = readonly
        self._timeout = timeout
        self._number = 0
        self._broken = False
        while not self._take(kind):
            self.close()

    def _take(self, kind: str) -> bool:
        """Open, lock and read the file; return False where it was removed before it was locked, by who made it for nothing."""
        with self._telling("opened"):
            self._file = self._open(kind)
        try:
            lock(self._file, self.path, exclusive=not self._readonly, timeout=self._timeout)
            with self._telling("read"):
                if not self._is_in_place():
                    return False
                self.header = self._read_header()
                self.untouched = not self.header.sequence and os.fstat(self._file).st_size == FRAMES_AT
        except BaseException:
            self.close()
            raise
        return True

    def _is_in_place(self) -> bool:
        """Return whether the file that is open has its name: what is written to another one is lost."""
        try:
            return os.path.samestat(os.fstat(self._file), self.path.stat())
        except FileNotFoundError:
            return False

    def replay(self) -> dict[bytes, bytes | None]:
        """Return what the commits of this generation have changed; drop a last one that a crash has cut off.

        Raises:
            CorruptRecord: A commit that was acknowledged is damaged.
        """
        changes: dict[bytes, bytes | None] = {}
        with self._telling("read"):
            size = os.fstat(self._file).st_size
            self.end, self._number = FRAMES_AT, 0
            for body in self._frames(size):
                changes.update(unpack_changes(body))
            if self.end < size:
                self._judge_rest(size)
            if self._acknowledged() > self.end:
                raise self._damaged(f"the commit at byte {self.end} is not what was written, or is cut off")
        if not self._readonly and self.end < size:
            with self._telling("written"):
                os.ftruncate(self._file, self.end)
                os.fsync(self._file)
        elif not self._readonly and self.durable and changes:
            with self._telling("written"):  # whoever wrote them may not have waited for the disk
                os.fsync(self._file)
                self._acknowledge()
        return changes

    def append(self, changes: Iterable[Mapping[bytes, bytes | None]]) -> None:
        """Add a commit. When this returns it is made; when it raises, it isn't.

        Raises:
            StorageError: The disk is full or fails.
        """
        self.check()
        body = b"".join(pack_changes(changes))
        frame = pack_frame(DURABLE if self.durable else 0, self.header.generation, self._number, body)
        try:
            with self._telling("written"):
                self._write(frame, self.end)
                if self.durable:
                    os.fsync(self._file)
        except BaseException:
            self._cut_back()
            raise
        self.end += len(frame)
        self._number += 1
        if self.durable:
            with contextlib.suppress(OSError):  # the commit is made: this only helps to tell damage from a crash
                self._acknowledge()

    def take_back(self, end: int) -> None:
        """Undo the last `append`, of which nobody was told, and before which the journal ended at `end`."""
        if self.end != end:
            self.end, self._number = end, self._number - 1
            try:
                self._acknowledge()
            except BaseException:
                self._broken = True
                raise
        self._cut_back()

    def mark(self, generation: int, files: tuple[FileState, ...], *, switching: bool) -> None:
        """Write the header, and wait until the disk has it. A new generation drops all frames.

        Raises:
            StorageError: It can't be written; the facts of before are in force.
        """
        self.check()
        before = self.header
        new = replace(before, generation=generation, files=files, switching=switching, sequence=before.sequence + 1)
        try:
            with self._telling("written"):
                self._write_header(new)
        except BaseException:
            self._broken = True
            # The new one may have reached the disk: write the old one anew, as a newer one yet.
            old = replace(before, sequence=new.sequence + 1)
            with contextlib.suppress(OSError):
                self._write_header(old)
                self.header, self._broken = old, False
            raise
        self.header = new
        if generation != before.generation:
            self.end, self._number = FRAMES_AT, 0

    def empty(self) -> None:
        """Give the space of frames of former generations back to the system.

        Raises:
            StorageError: That can't be done.
        """
        self.check()
        with self._telling("written"):
            os.ftruncate(self._file, self.end)
            os.fsync(self._file)

    def lock_alone(self) -> None:
        """Make the lock of a reader exclusive, and read the header anew. Raises as opening does."""
        lock(self._file, self.path, exclusive=True, timeout=self._timeout)
        self.header = self._read_header()

    def lock_shared(self) -> None:
        """Make the lock one that readers share."""
        lock(self._file, self.path, exclusive=False, timeout=self._timeout)

    def close(self) -> None:
        """Close the file, which ends the lock, unless a process that was forked from another closes its copy."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    @property
    def in_doubt(self) -> bool:
        """Whether an earlier failure has left open what the file says: nothing can be written until it is opened anew."""
        return self._broken

    def check(self) -> None:
        """Raise StorageError where nothing can be written any more, as an earlier failure has left it in doubt."""
        if self._broken:
            message = f"{self.path} couldn't be written, and is in doubt; open the store again: no commit is lost"
            raise StorageError(message)

    def _open(self, kind: str) -> int:
        flags = os.O_CLOEXEC | getattr(os, "O_BINARY", 0)
        self._file = -1
        if not self._readonly and not self.path.exists():
            self._create(kind)
        try:
            return os.open(self.path, flags | os.O_RDWR)
        except FileNotFoundError:
            message = f"there is no journal at {self.path}"
            raise StoreNotFound(message) from None
        except PermissionError:
            if not self._readonly:
                raise
            return os.open(self.path, flags | os.O_RDONLY)

    def _create(self, kind: str) -> None:
        """Make the file, whole or not at all; somebody else may be faster."""
        new = self.path.with_name(f"{self.path.name}.{os.urandom(4).hex()}.new")
        self._file = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(self._file, FRAMES_AT)
            self._write_header(Header(kind))
            with contextlib.suppress(FileExistsError):
                os.link(new, self.path)
            sync(self.path.parent)
        finally:
            self.close()
            new.unlink()

    def _read_header(self) -> Header:
        if os.fstat(self._file).st_size < FRAMES_AT:
            raise self._damaged("it was cut off")
        slots = [os.pread(self._file, SLOT_SIZE, at) for at in SLOTS]
        headers = [header for header in map(unpack_header, slots) if header is not None]
        if not headers:
            raise self._damaged("its header is not what was written")
        return max(headers, key=lambda header: header.sequence)

    def _write_header(self, header: Header) -> None:
        self._write(pack_header(header), SLOTS[header.sequence % 2])
        os.fsync(self._file)

    def _acknowledge(self) -> None:
        self._write(pack_acknowledged(self.header.generation, self.end), ACKNOWLEDGED_AT)

    def _acknowledged(self) -> int:
        found = unpack_acknowledged(os.pread(self._file, ACKNOWLEDGED_SIZE, ACKNOWLEDGED_AT))
        return found[1] if found is not None and found[0] == self.header.generation else FRAMES_AT

    def _frames(self, size: int) -> Iterator[bytes]:
        """Yield the bodies of the frames that are whole, one behind the other, and move on to where they end."""
        while (found := self._frame_at(self.end, size)) is not None:
            frame, body = found
            if frame.generation != self.header.generation or frame.number != self._number:
                return
            self.end += FRAME_SIZE + frame.length
            self._number += 1
            yield body

    def _frame_at(self, at: int, size: int) -> tuple[Frame, bytes] | None:
        """Return the frame that stands here, and its body; None where none stands whole."""
        frame = unpack_frame(os.pread(self._file, FRAME_SIZE, at))
        if frame is None or at + FRAME_SIZE + frame.length > size:
            return None
        body = self._read(frame.length, at + FRAME_SIZE)
        return None if zlib.crc32(body) != frame.crc else (frame, body)

    def _judge_rest(self, size: int) -> None:
        """Raise CorruptRecord unless what stands behind the last whole frame may be what a crash has left."""
        rest = self._read(size - self.end, self.end)
        at = rest.find(FRAME_MAGIC)
        while at >= 0:
            found = self._frame_at(self.end + at, size)
            if found is not None and found[0].generation == self.header.generation and found[0].flags & DURABLE:
                raise self._damaged(f"the commit at byte {self.end} is not what was written, and others follow it")
            if found is not None and found[0].generation > self.header.generation:
                raise self._damaged("its header is older than its commits")
            at = rest.find(FRAME_MAGIC, at + 1)

    def _cut_back(self) -> None:
        """Drop what was written behind the last commit; where that fails, nothing more is written."""
        broken, self._broken = self._broken, True
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self.end)
            if self.durable:
                os.fsync(self._file)
            self._broken = broken

    def _read(self, length: int, at: int) -> bytes:
        parts = []
        while length and (part := os.pread(self._file, min(length, 1 << 30), at)):
            parts.append(part)
            length, at = length - len(part), at + len(part)
        return b"".join(parts)

    def _write(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written

    def _damaged(self, what: str) -> CorruptRecord:
        return CorruptRecord(
            f"the journal {self.path} is damaged: {what}; restore it and the store's other files from a backup"
        )

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except StoreNotFound:
            raise
        except OSError as error:
            message = f"the journal {self.path} can't be {what}: {error.strerror}"
            raise StorageError(message) from error


class NoJournal(Journal):
    """Stands for the journal of a reader where there is none: no commits, no facts, and no lock.

    Args:
        path: Where it would be.
        kind: What it would belong to.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.header = Header(kind)
        self.end = 0
        self._file = -1
        self._broken = True

    def replay(self) -> dict[bytes, bytes | None]:
        """Return nothing."""
        return {}

    def lock_shared(self) -> None:
        """Do nothing."""


def peek(path: Path) -> Header | None:
    """Return the facts that a journal keeps, without locking it; None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            start = file.read(ACKNOWLEDGED_AT)
    except OSError:
        return None
    headers = [header for at in SLOTS if (header := unpack_header(start[at : at + SLOT_SIZE])) is not None]
    return max(headers, key=lambda header: header.sequence, default=None)
