"""The group of all commands, and what they have in common. A command stands in a module of its own."""

from __future__ import annotations

import click

import pstore
from pstore.cli.demo.command import demo
from pstore.cli.failure import one_line_errors
from pstore.cli.info import info


class Commands(click.Group):
    """A group whose commands tell the library's errors in one line."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that the arguments name."""
        with one_line_errors():
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(pstore.__version__, prog_name="pstore")
def commands() -> None:
    """Keep Python objects in a database, with every reference intact.

    To see what that is, run `pstore demo`.
    """


commands.add_command(demo)
commands.add_command(info)
