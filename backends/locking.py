"""A file's lock between processes: shared by readers, or exclusive, waited for no longer than is allowed.

The lock is the operating system's (`flock`): it ends with the process however that ends. A process that is forked shares it,
and must not release it, only close the file.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from pstore.errors import StorageError, StoreLocked

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCKS: Final = Path("/proc/locks")  # Linux
_PAUSE: Final = 0.01  # seconds between two tries


def lock(file: int, path: Path, *, exclusive: bool, timeout: float) -> None:
    """Lock an open file, in place of the lock that it may have through this descriptor.

    Args:
        file: The descriptor; closing it, and all copies of it, ends the lock.
        path: What to name in an error.
        exclusive: Whether nobody else may have a lock.
        timeout: How long to wait, in seconds.

    Raises:
        StoreLocked: Somebody else has it for longer than that.
        StorageError: The system or the file system has no such locks.
    """
    if fcntl is None:
        message = f"{path}: stores of this kind need flock, which this system doesn't have; use SQLite (a plain path)"
        raise StorageError(message)
    operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    until = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, operation)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(_PAUSE)
                continue
            message = (
                f"{path} is locked by {_holders(file)} for more than {timeout} s; a store of this kind is open"
                " in one place for writing, or in many for reading (flag 'r'): close it there, or use the same backend"
            )
            raise StoreLocked(message) from None
        except OSError as error:
            message = f"{path} can't be locked: {error.strerror}; put the store on a local disk"
            raise StorageError(message) from error
        return


def _holders(file: int) -> str:
    """Return who has a lock on the file, as far as the system tells."""
    status = os.fstat(file)
    here = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = [line.split() for line in _LOCKS.read_text("ascii").splitlines()]
    except OSError:
        lines = []
    # A line is like this one: `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
    owners = sorted({int(words[4]) for words in lines if words[1:2] == ["FLOCK"] and words[5:6] == [here]})
    if not owners:
        return "another process"
    return " and ".join("this process itself" if owner == os.getpid() else f"process {owner}" for owner in owners)
