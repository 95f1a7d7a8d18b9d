"""How a command fails: one clear line and an exit status, no traceback, for what isn't a fault of pstore itself."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error of the library or the operating system into a line on standard error and exit status 1.

    Raises:
        SystemExit: There was such an error.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # click knows: whoever read the output has seen enough
    except (pstore.Error, OSError) as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)


def run_script(main: Callable[[Path], None]) -> None:
    """Run a part of a command that is a process of its own, with the path that is its argument.

    Raises:
        SystemExit: It has failed, or was interrupted; whoever has started it says the latter.
    """
    try:
        with one_line_errors():
            main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)


def open_store(target: str, flag: str) -> pstore.Store:
    """Open the store that an argument of a command names.

    Raises:
        click.UsageError: It can't name a store.
        pstore.Error: It names none, or one that can't be opened.
    """
    try:
        return pstore.open(target, flag)
    except ValueError as error:
        if isinstance(error, pstore.Error):
            raise
        raise click.UsageError(str(error)) from error
