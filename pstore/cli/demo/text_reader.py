"""An object that holds what can't be stored: an open file. The example is as old as Python's pickle module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pstore


@pstore.persistent
class TextReader:
    """Reads a text file line by line, and goes on behind its line when it comes out of a store.

    Args:
        path: The file, in UTF-8.

    Attributes:
        path: The same.
        line: The number of the last line that was read, from 1.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.line = 0
        self._open()

    def readline(self) -> str:
        """Return the next line without its end; the empty string at the end of the file."""
        text = self._file.readline()
        self.line += bool(text)
        return text.rstrip("\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is stored: all but the open file."""
        state = self.__dict__.copy()
        del state["_file"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was stored, open the file again, and go on where it was."""
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._file = Path(self.path).open(encoding="utf-8")  # noqa: SIM115  # open as long as the reader is in use
        for _ in range(self.line):
            self._file.readline()
