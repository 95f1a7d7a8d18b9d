"""What a backend says of a module that keeps a mapping in files: how they are called, opened, written and closed.

It knows nothing of when they are written, nor of what for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from pstore.backends._mapping_tables import update

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class FileModule(ABC):
    """What makes a mapping of files.

    Attributes:
        name: What it is called, in the journal too.
        layouts: What the names of its files may have behind the store's path: one of these sets, of which all are there.
        litter: The names of files that it leaves and nobody needs; "*" stands for the store's.
        changing: What files have behind the store's path that are there while another program changes a store's, or has died at that.
        textual: Whether its keys are strings.
        slow_to_delete: Whether it is quicker to make new files than to remove more than a few rows.
    """

    name: str
    layouts: tuple[tuple[str, ...], ...] = (("",),)
    litter: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()
    textual: bool = False
    slow_to_delete: bool = False

    @abstractmethod
    def open(self, path: Path, flag: str) -> Any:
        """Return the mapping of the files: flag "r" for reading, "w" for writing too, "n" for new ones."""

    def close(self, mapping: Any) -> None:
        """Finish writing, and close; the files are whole then, though the disk may not have them yet."""
        mapping.close()

    def update(self, mapping: Any, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Store rows in a mapping that was opened for writing, and remove those that are None."""
        update(mapping, changes, textual=self.textual)

    def remove_litter(self, path: Path) -> None:
        """Remove what the module has left beside the files of a path."""
        for name in self.litter:
            path.with_name(name.replace("*", path.name)).unlink(missing_ok=True)

    def files(self, path: Path) -> tuple[str, ...]:
        """Return what the names of the files of a store have behind its path; nothing where there are none."""
        for layout in self.layouts:
            if all(beside(path, suffix).exists() for suffix in layout):
                return layout
        return ()


def beside(path: Path, suffix: str) -> Path:
    """Return the path with something behind its name."""
    return path.with_name(path.name + suffix)
