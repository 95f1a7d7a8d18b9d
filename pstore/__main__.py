"""`python -m pstore`: the `pstore` command."""

from __future__ import annotations

from pstore.cli import main

main()
