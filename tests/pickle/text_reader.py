"""A reader of a text file that is pickled in the middle and goes on where it was; run as a program, it goes on.

    python text_reader.py ENGINE_MODULE PICKLE...

loads a reader from each file with the engine, prints its next line, and puts the reader back.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import IO, Any


class TextReader:
    """Lines of a file, numbered. The open file isn't pickled: the name and the number of the line are enough."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.line_number = 0
        self._file: IO[str] = Path(path).open(encoding="utf-8")  # noqa: SIM115 - closed by `close`

    def readline(self) -> str | None:
        """The next line with its number, or None at the end."""
        line = self._file.readline()
        if not line:
            return None
        self.line_number += 1
        return f"{self.line_number}: {line.rstrip()}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        del state["_file"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._file = Path(self.path).open(encoding="utf-8")  # noqa: SIM115 - as above
        for _ in range(self.line_number):
            self._file.readline()


def main(engine_name: str, *paths: str) -> None:
    """Go on with each reader by one line."""
    engine = importlib.import_module(engine_name)
    for path in map(Path, paths):
        with path.open("rb") as file:
            reader = engine.load(file)
        print(reader.readline())
        reader.close()
        with path.open("wb") as file:
            engine.dump(reader, file, 2)


if __name__ == "__main__":
    # Under its own name, not as __main__: that is where the stream says that the class is.
    sys.path.insert(0, str(Path(__file__).parent))
    importlib.import_module("text_reader").main(*sys.argv[1:])
