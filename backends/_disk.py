"""Waiting until the disk has what was written. It knows paths, and nothing of what stands there."""

from __future__ import annotations

import os


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until the disk has a file, or the names in a directory, of which only POSIX can wait for those."""
    if os.name != "posix" and os.path.isdir(path):  # noqa: PTH112  # it may be a string
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
