"""Lay out the source as it is installed: backends/ inside pstore/, for tools that can't see setuptools' mapping.

    python .ci/source_tree.py DIRECTORY

makes DIRECTORY/pstore of symbolic links to the files here, so that what a tool says of a file is true of the original.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAPPED = {ROOT / "pstore": Path("pstore"), ROOT / "backends": Path("pstore/backends")}


def lay_out(target: Path) -> None:
    """Make the tree in this directory; what is there already stays.

    Raises:
        OSError: A link can't be made.
    """
    for source, place in MAPPED.items():
        for file in sorted(source.rglob("*")):
            if file.suffix in {".py", ".pyi", ".typed"}:
                link = target / place / file.relative_to(source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python .ci/source_tree.py DIRECTORY")
    lay_out(Path(sys.argv[1]))
