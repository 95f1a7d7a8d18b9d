"""Where an unpickler reads from: a file, one stream at a time.

It must never know opcodes. What it promises: no byte behind the stream is taken from the file, and memory is asked for
only as bytes arrive, whatever a length in the stream claims.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FileSource", "Readable"]

_STEP = 1 << 20  # bytes asked of a file at once; more only when as much has come


class Readable(Protocol):
    """What an unpickler needs of a file; ``readinto(buffer)`` is used where there is one."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, or fewer at the end."""

    def readline(self) -> bytes:
        """Return the bytes up to and including the next newline."""


class FileSource:
    """Reads a stream from a file.

    Attributes:
        opcode_at: Offset of the opcode read last, from the beginning of the stream.
        failed: Whether the file has raised.
    """

    def __init__(self, file: Readable) -> None:
        self._file_readline = file.readline
        self._file_read = file.read
        self._file_readinto: Callable[[memoryview], int] | None = getattr(file, "readinto", None)
        self._frame = BytesIO()
        self._offset = 0
        self.opcode_at = 0
        self.failed = False

    def begin(self) -> None:
        """Count offsets from here."""
        self._offset = 0
        self.failed = False

    def read_opcode(self) -> bytes:
        """Read one byte, and remember where."""
        self.opcode_at = self._offset
        return self.read(1)

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end of the file."""
        data = self._frame.read(size)
        if len(data) < size:
            data += self._from_file(size - len(data))
        self._offset += len(data)
        return data

    def readline(self) -> bytes:
        """Return the bytes up to and including the next newline, or fewer at the end of the file."""
        line = self._frame.readline()
        if not line.endswith(b"\n"):
            line += self._call(self._file_readline)
        self._offset += len(line)
        return line

    def read_bytearray(self, size: int) -> bytearray:
        """Return `size` bytes in a new bytearray, or fewer at the end of the file."""
        data = bytearray(self._frame.read(size))
        if self._file_readinto is None:
            data += self._from_file(size - len(data))
        else:
            while (missing := size - len(data)) > 0:
                begin = len(data)
                data += bytes(min(missing, max(_STEP, begin)))
                with memoryview(data) as whole, whole[begin:] as rest:
                    count = self._call(self._file_readinto, rest)
                del data[begin + (count or 0) :]
                if not count:
                    break
        self._offset += len(data)
        return data

    def has(self, size: int) -> bool:
        """Fetch the next `size` bytes from the file, so that they are read at once; tell whether they are there."""
        data = self._frame.read()
        data += self._from_file(size - len(data))
        self._frame = BytesIO(data)
        return len(data) >= size

    def _from_file(self, size: int) -> bytes:
        pieces: list[bytes] = []
        count = 0
        while count < size:
            piece = self._call(self._file_read, min(size - count, max(_STEP, count)))
            if not piece:
                break
            pieces.append(piece)
            count += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            data = method(*arguments)
            if not isinstance(data, (bytes, int, type(None))):
                message = f"the file must give bytes, not {type(data).__name__}: was it opened in binary mode?"
                raise TypeError(message)
            return data
        except BaseException:
            self.failed = True
            raise
