"""Which SQLite files this process has open, as nobody else in it may open and close them meanwhile.

POSIX gives up all locks that a process has on a file when it closes any descriptor of it. So whoever reads the beginning of
a file that SQLite has open here would take SQLite's locks away, and another process could delete the log that it works with
("How To Corrupt An SQLite Database File", section 2.2).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

#: The device and the number of a file.
Identity: TypeAlias = tuple[int, int]

#: The first bytes of every SQLite file.
MAGIC: Final = b"SQLite format 3\0"
#: What stands beside an SQLite file while it is changed, and belongs to it; gone when all is in the file.
SIDES: Final = ("-wal", "-shm", "-journal")
#: Held while a file is opened, and while one is read past SQLite.
guard = threading.RLock()
_open: Final[Counter[Identity]] = Counter()


def identify(path: Path) -> Identity | None:
    """Return which file stands at a path; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  # a third of the time, and asked at each transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino


def enter(identity: Identity | None) -> None:
    """A file was opened."""
    if identity is not None:
        with guard:
            _open[identity] += 1


def leave(identity: Identity | None) -> None:
    """A file was closed."""
    if identity is not None:
        with guard:
            _open[identity] -= 1
            if _open[identity] <= 0:
                del _open[identity]


def is_open(path: Path) -> bool:
    """Return whether SQLite has the file at a path open here. The answer holds as long as `guard` is held."""
    return identify(path) in _open


def forget() -> None:
    """This process was forked: it has none of the locks, and nothing open that it may use."""
    global guard  # noqa: PLW0603
    guard = threading.RLock()  # which another thread may have held
    _open.clear()
