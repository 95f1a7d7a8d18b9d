"""`pstore info`: what a store is and holds, at a glance. No class of the application is imported."""

from __future__ import annotations

import click

import pstore
from pstore.cli.failure import open_store
from pstore.cli.screen import Screen


@click.command(epilog="Example:  pstore info library.pstore")
@click.argument("target")
def info(target: str) -> None:
    """Tell what a store is and what it holds.

    TARGET is the path or URL of a store. It is opened for reading, and none of its objects is loaded.
    """
    screen = Screen()
    with open_store(target, "r") as db:
        facts = {name.replace("_", " "): value for name, value in db.stats().items() if name != "loads"}
        names, classes = list(db), db.classes()
    facts["names"] = listed(names)
    facts["classes"] = listed(classes)
    facts["pickle engine"] = pstore.pickle.engine
    if pstore.pickle.engine_reason:
        facts["why not native"] = pstore.pickle.engine_reason
    facts["pstore"] = pstore.__version__
    screen.facts(dict(facts))


def listed(items: list[str], most: int = 20) -> str:
    """Return how many items there are, and the first of them, a line each."""
    rest = [f"... and {len(items) - most:,} more"] if len(items) > most else []
    return "\n".join([f"{len(items):,}", *(f"    {item}" for item in [*items[:most], *rest])])
