"""Lay out the source as it is installed: backends/ inside pstore/, for tools that can't see setuptools' mapping.

    python .ci/source_tree.py DIRECTORY

makes DIRECTORY/pstore of symbolic links to the files here, so that what a tool says of a file is true of the original.
Of a module in Cython, which no such tool can read, there is a Python file with its import statements, each on its line.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAPPED = {ROOT / "pstore": Path("pstore"), ROOT / "backends": Path("pstore/backends")}
IMPORT = re.compile(r"^[ \t]*((?:from\s+[\w.]+\s+)?import\s+(?:\([^)]*\)|[^\n(]+))", re.MULTILINE)


def imports_of(source: str) -> str:
    """Return the import statements of a Cython module, on the lines where they stand. Those for C aren't Python's."""
    kept, end = "", 0
    for statement in IMPORT.finditer(source):
        kept += "\n" * source.count("\n", end, statement.start(1)) + statement[1]
        end = statement.end()
    return f"{kept}\n"


def lay_out(target: Path) -> None:
    """Make the tree in this directory; what is there already stays.

    Raises:
        OSError: A link can't be made.
    """
    for source, place in MAPPED.items():
        for file in sorted(source.rglob("*")):
            if file.suffix not in {".py", ".pyi", ".pyx", ".typed"}:
                continue
            laid = target / place / file.relative_to(source)
            laid.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".pyx":
                laid.with_suffix(".py").write_text(imports_of(file.read_text("utf-8")), "utf-8")
            else:
                laid.symlink_to(file)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python .ci/source_tree.py DIRECTORY")
    lay_out(Path(sys.argv[1]))
