"""The first process: an object graph goes into a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pstore
from pstore.cli.demo.model import ALLOWED, Function
from pstore.cli.demo.text_reader import TextReader

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.cli.demo.library import Library
    from pstore.cli.demo.model import Outside

#: Stands in each of our stores under the name "about", so that no other one is ever overwritten.
ABOUT: Final = "made by the demonstration of pstore"


def prepare(path: Path) -> None:
    """Make an empty store; one that the demonstration has made before is emptied.

    Raises:
        pstore.FormatError: There is something else; it is left as it is.
        pstore.Error: The store can't be made.
    """
    if path.exists() and not is_ours(path):
        message = f"{path} isn't a store that the demonstration has made, so it is left as it is: give another path"
        raise pstore.FormatError(message)
    with pstore.open(path, "n") as db:
        db["about"] = ABOUT


def is_ours(path: Path) -> bool:
    """Return whether what is there is a store of the demonstration."""
    try:
        with pstore.open(path, "r") as db:
            return bool(db.get("about") == ABOUT)
    except (pstore.FormatError, pstore.CorruptRecord):
        return False


def keep(path: Path, library: Library, outside: dict[str, Outside]) -> pstore.Commit:
    """Put the graph under a few names. All that can be reached from them goes with it.

    Returns:
        What the commit has written.
    """
    with pstore.open(path, allow=ALLOWED) as db:
        db["library"] = library.package
        db["modules"] = {name: source.module for name, source in library.sources.items()}
        db["outside"] = outside
        return db.commit("the library as it was read")


def count_promoted(path: Path) -> int:
    """Return how many functions, whose class isn't declared, have become records because two records refer to them."""
    with pstore.open(path, "r", allow=ALLOWED) as db:
        return sum(1 for _ in db.instances(Function))


def begin_reading(path: Path, text: str, count: int) -> list[str]:
    """Read the first lines of a text file, and store the reader where it stands.

    Args:
        path: The store.
        text: The file.
        count: How many lines to read.

    Returns:
        The lines.
    """
    with pstore.open(path, allow=ALLOWED) as db:
        reader = db["reader"] = TextReader(text)
        lines = [reader.readline() for _ in range(count)]
        db.commit("a reader in the middle of a file")
        reader.close()
    return lines
