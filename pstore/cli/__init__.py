"""The `pstore` command, a thin layer over the library: `app` has the commands, `screen` what they print with.

It needs click and rich, which the library itself doesn't: the extra `cli`. Without them `main` says how to get them.
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["main"]

#: What the command line is made with.
_REQUIRED: Final = ("click", "rich")

_missing: str | None = None
try:
    from pstore.cli.app import commands
except ModuleNotFoundError as error:
    _missing = (error.name or "").partition(".")[0]
    if _missing not in _REQUIRED:
        raise


def main() -> None:
    """Run the command that the process's arguments name.

    Raises:
        SystemExit: Always, with the exit status.
    """
    if _missing is None:
        commands()
    sys.stderr.write(f"pstore: the command needs {_missing}: python -m pip install 'pstore-db[cli]'\n")
    sys.exit(2)
