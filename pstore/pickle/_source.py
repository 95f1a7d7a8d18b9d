"""Where an unpickler reads from: a file, one stream at a time.

It must never know opcodes. What it promises: the file is left standing right behind the stream, and memory is asked for
only as bytes arrive, whatever a length in the stream claims.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FileSource", "Readable"]

STEP = 1 << 20  # bytes asked of a file at once; more only when as much has come
_PEEK = 1 << 16


class Readable(Protocol):
    """What an unpickler needs of a file; ``peek(size)`` and ``readinto(buffer)`` are used where there are such."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, or fewer at the end."""

    def readline(self) -> bytes:
        """Return the bytes up to and including the next newline."""


class FileSource:
    """Reads a stream from a file.

    What can be is read from memory, the `window`: a frame, which is fetched at once, or else what the file shows by
    ``peek`` without giving it up. What is left is read from the file as each opcode asks for it.

    Attributes:
        window: The bytes of the window used last; it begins with an opcode.
        window_at: Its offset from the beginning of the stream.
        opcode_at: Offset of the opcode read last, or None where it came from the window.
        failed: Whether the file has raised.
        fills: Whether the file can fill a buffer: see `read_into`.
    """

    def __init__(self, file: Readable) -> None:
        self._file_readline = file.readline
        self._file_read = file.read
        self._file_readinto: Any = getattr(file, "readinto", None)
        self.fills = self._file_readinto is not None
        self._file_peek: Callable[[int], bytes] | None = getattr(file, "peek", None)
        self._offset = 0  # of what the file gives next
        self.failed = False
        self._open(b"", 0)

    def _open(self, window: bytes, at: int, *, shown: bool = False) -> None:
        self.window = window
        self.window_at = at
        self._stream = BytesIO(window)
        self._window_read = self._stream.read
        self._shown = shown  # the file hasn't given it up, and will give it once more
        self.opcode_at: int | None = None

    def begin(self) -> None:
        """Count offsets from here."""
        rest = self._stream.read()  # what a frame held behind the end of the stream before
        self._open(rest, 0)
        self._offset = len(rest)
        self.failed = False

    def end(self) -> None:
        """Let the file stand where reading has come to."""
        if self._shown:
            self._give_up()

    def tell(self) -> int:
        """Return how much of the stream is read, a frame being read at once."""
        return self._offset

    def tell_window(self) -> int:
        """Return how much of the window is read."""
        return self._stream.tell()

    def seek_window(self, at: int) -> None:
        """Say how much of the window is read, having looked at it without asking."""
        self._stream.seek(at)

    def read_opcode(self) -> bytes:
        """Read one byte, and remember where."""
        opcode = self._window_read(1)
        if opcode:
            return opcode
        if self._shown:
            self._give_up()
        if self._file_peek is not None and (window := self._peek()):
            self._open(window, self._offset, shown=True)
            return self._window_read(1)
        self.opcode_at = self._offset
        return self._ask_file(1)

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end of the file."""
        data = self._window_read(size)
        if len(data) == size:
            return data
        if self._shown:
            self._give_up()
        return data + self._from_file(size - len(data))

    def readline(self) -> bytes:
        """Return the bytes up to and including the next newline, or fewer at the end of the file."""
        line = self._stream.readline()
        if line[-1:] == b"\n":
            return line
        if self._shown:
            self._give_up()
        try:
            rest = _as_bytes(self._file_readline())
        except BaseException:
            self.failed = True
            raise
        self._offset += len(rest)
        return line + rest

    def read_bytearray(self, size: int) -> bytearray:
        """Return `size` bytes in a new bytearray, or fewer at the end of the file."""
        data = bytearray(self._window_read(size))
        if self._shown and len(data) < size:
            self._give_up()
        if not self.fills:
            data += self._from_file(size - len(data))
            return data
        while (missing := size - len(data)) > 0:
            begin = len(data)
            data += bytes(min(missing, max(STEP, begin)))
            with memoryview(data) as whole, whole[begin:] as rest:
                count = self.read_into(rest)
            del data[begin + count :]
            if not count:
                break
        return data

    def read_window(self) -> bytes:
        """Return what is left of the window, behind which the file stands then."""
        data = self._stream.read()
        if self._shown:
            self._give_up()
        return data

    def read_into(self, target: memoryview) -> int:
        """Have the file itself fill a buffer, as far as it likes; return how many bytes that were, 0 at its end."""
        try:
            count = max(0, min(self._file_readinto(target) or 0, len(target)))
        except BaseException:
            self.failed = True
            raise
        self._offset += count
        return count

    def fetch(self, size: int) -> bool:
        """Make the next `size` bytes the window; tell whether they are there."""
        begin = self._stream.tell()
        if self._shown:
            self._give_up()
        at = self._offset - (len(self.window) - self._stream.tell())
        data = self._stream.read()
        data += self._from_file(size - len(data))
        if len(data) < size:
            self._stream.seek(begin)  # where the opcode that asks for them ends
            return False
        self._open(data, at)
        return True

    def _from_file(self, size: int) -> bytes:
        data = self._ask_file(min(size, STEP)) if size > 0 else b""
        count = len(data)
        if count == size or not count:
            return data
        pieces = [data]  # the file gives bytes as they arrive, or so many are wanted that they may not exist
        while count < size and (data := self._ask_file(min(size - count, max(STEP, count)))):
            pieces.append(data)
            count += len(data)
        return b"".join(pieces)

    def _ask_file(self, size: int) -> bytes:
        try:
            data = self._file_read(size)
            if type(data) is not bytes:
                data = _as_bytes(data)
            if len(data) > size:
                message = f"the file gave {len(data)} bytes where {size} were asked for"
                raise ValueError(message)
        except BaseException:
            self.failed = True
            raise
        self._offset += len(data)
        return data

    def _peek(self) -> bytes:
        if self._file_peek is None:
            return b""
        try:
            return _as_bytes(self._file_peek(_PEEK))
        except NotImplementedError:  # a method in name only
            self._file_peek = None
            return b""
        except BaseException:
            self.failed = True
            raise

    def _give_up(self) -> None:
        """Have the file give up what was read of the window that it has shown."""
        used = self._stream.tell()
        self._stream.seek(0, 2)
        self._shown = False
        while used > 0 and (data := self._ask_file(used)):
            used -= len(data)


def _as_bytes(data: Any) -> bytes:
    """Return what a file gave, or say that it isn't what a binary file gives."""
    if data is None:  # a file that doesn't block, and has nothing yet
        return b""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    message = f"the file must give bytes, not {type(data).__name__}: was it opened in binary mode?"
    raise TypeError(message)
