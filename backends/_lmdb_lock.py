"""Locks of several processes on one small file: who may write, and who uses the store at all.

LMDB's own write lock is waited for without end, and may be given back only by the thread that took it; this one has a
bounded wait and belongs to the process. The system takes it away from a process that dies (POSIX record locks, see
`fcntl(2)`), and a forked child doesn't inherit it. Such a lock is lost when the process closes *any* descriptor of the
file: so nobody else may open it, and within a process there is one object a file.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Final

from pstore.errors import Error, ReadOnlyError, StorageError

try:
    import fcntl
except ImportError:  # Windows: LMDB's own lock is all there is
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes of the file, by what a lock on them means.
WRITING: Final = 0
USING: Final = 1

_BUSY: Final = (errno.EACCES, errno.EAGAIN)
_NOT_ALLOWED: Final = (errno.EACCES, errno.EROFS, errno.EPERM)
_LONGEST_NAP: Final = 0.01  # seconds


class FileLocks:
    """This process's locks on one file, which is made where it is missing.

    Args:
        path: The file.
        readonly: Whether to make do with reading it, or without it, where it can't be written.

    Raises:
        ReadOnlyError: The file can't be written, or made.
        StorageError: It can't be opened.

    Attributes:
        writable: Whether exclusive locks can be had.
    """

    def __init__(self, path: Path, *, readonly: bool) -> None:
        self.path = path
        self.writable = True
        self._file: int | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if not readonly or error.errno not in _NOT_ALLOWED:
                raise self._cannot_open(error) from error
            self.writable = False
            self._open_to_read()

    def take(self, byte: int, *, shared: bool = False, wait: float = 0.0) -> bool:
        """Take a lock; return whether it was to be had.

        A lock on the same byte that this process has already is turned into the new kind.

        Args:
            byte: `WRITING` or `USING`.
            shared: Whether others may have it too, shared.
            wait: For how long to try, in seconds.
        """
        if self._file is None or fcntl is None:
            return True
        deadline, nap = time.monotonic() + wait, 0.0002
        while True:
            try:
                fcntl.lockf(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, 1, byte)
            except OSError as error:  # noqa: PERF203  # each time round is another try
                if error.errno not in _BUSY:
                    message = f"{self.path} can't be locked: {error.strerror}; put the store on a local disk"
                    raise StorageError(message) from error
                if time.monotonic() >= deadline:
                    return False
                time.sleep(nap)
                nap = min(2 * nap, _LONGEST_NAP)
            else:
                return True

    def give(self, byte: int) -> None:
        """Give a lock back."""
        if self._file is not None and fcntl is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    def close(self) -> None:
        """Give all locks back. In a forked child this gives nothing back: it has none."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _open_to_read(self) -> None:
        try:
            self._file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            self._file = None  # nobody has written here yet; who does later doesn't see this one
        except OSError as error:
            raise self._cannot_open(error) from error

    def _cannot_open(self, error: OSError) -> Error:
        message = f"{self.path} can't be opened, which keeps writers apart: {error.strerror}"
        if error.errno in _NOT_ALLOWED:
            message += "; see who may write it and its directory, or open the store with flag 'r'"
            return ReadOnlyError(message)
        return StorageError(message)
