"""The table of backends in docs/backends.md, as their classes tell it.

python tests/backends/capabilities_table.py            prints the table
python tests/backends/capabilities_table.py --write    puts it into the document
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pstore.backends
from pstore.backends import Backend

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "backends.md"
BEGIN, END = "<!-- capabilities -->", "<!-- end of capabilities -->"
COLUMNS = ("lasting", "shared", "remote", "backup", "longest_name", "largest_row")


def classes() -> list[type[Backend]]:
    """Return the backends of this distribution that have a scheme, by its name."""
    modules = [
        importlib.import_module(f"pstore.backends.{m.name}") for m in pkgutil.iter_modules(pstore.backends.__path__)
    ]
    values = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return sorted(
        (v for v in values if issubclass(v, Backend) and v.__module__.startswith("pstore.") and "scheme" in vars(v)),
        key=lambda cls: cls.scheme,
    )


def cell(value: object) -> str:
    """Write one capability."""
    return {True: "yes", False: "no", None: "any"}[value] if value in (True, False, None) else f"{value:,}"


def table() -> str:
    """Return the table, in Markdown."""
    head = f"| {' | '.join(['backend', *(name.replace('_', ' ') for name in COLUMNS)])} |"
    rows = [[c.scheme, *(cell(getattr(c.capabilities, name)) for name in COLUMNS)] for c in classes()]
    return "\n".join([head, "|---" * (len(COLUMNS) + 1) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def written() -> str:
    """Return the table that the document has."""
    return DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}", "utf-8")
    else:
        print(table())
