"""The second process, `python -m pstore.cli.demo.reopen PATH`: it finds the graph, asks it and changes it.

Nothing but the file connects it with the process that stored the graph.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

import pstore
from pstore.cli.demo.model import ALLOWED, Class, full_name
from pstore.cli.demo.proof import DemonstrationFailed, prove
from pstore.cli.demo.questions import decorators, import_cycle, most
from pstore.cli.failure import run_script
from pstore.cli.screen import Screen, duration

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.cli.demo.model import Module


def main(path: Path) -> None:
    """Do the second part of the demonstration."""
    screen = Screen()
    screen.heading(f"3. Open it in another process ({os.getpid()})")
    with pstore.open(path, allow=ALLOWED) as db:
        look(db, screen)
        prove_identity(db, screen)
        ask(db, screen)
        change(db, screen)


def look(db: pstore.Store, screen: Screen) -> None:
    """Follow one path. What isn't on it isn't loaded."""
    screen.line(f"Opened: {len(db)} names, {loads(db):,} records loaded.")
    decoder = db["library"].packages["json"].modules["decoder"].classes["JSONDecoder"]
    screen.line(f"Six references on, {full_name(decoder)}, line {decoder.line}: {loads(db):,} records loaded.")


def prove_identity(db: pstore.Store, screen: Screen) -> None:
    """Check that all references that should lead to the same object do."""
    began = perf_counter()
    library, modules = db["library"], db["modules"]
    checks = sum(
        prove(module, library, modules) for module in screen.track([*modules.values()], "following references")
    )
    took = perf_counter() - began
    screen.line(f"Every reference followed: {checks:,} times the same object, as it should be.")
    screen.line(f"That took {duration(took)}; {loads(db):,} records loaded.")


def ask(db: pstore.Store, screen: Screen) -> None:
    """Ask a few questions."""
    screen.line()
    modules: list[Module] = [*db["modules"].values()]
    ranking = most(db.instances(Class), lambda cls: len(cls.subclasses))
    tell(screen, "The classes of the library that most others inherit from:", ranking)
    ranking = most(db["outside"].values(), lambda item: len(item.subclasses))
    tell(screen, "Those from outside, builtin or written in C:", ranking)
    used = {decorator for module in modules for decorator in decorators(module)}
    tell(screen, "The decorators that are used most:", most(used, lambda item: len(item.decorates)))
    cycles = [cycle for cycle in map(import_cycle, modules) if cycle]
    screen.line(f"Modules on an import cycle: {len(cycles):,}")
    if cycles:
        longest = max(cycles, key=len)
        screen.line(f"    {' -> '.join(module.name for module in longest)}")


def tell(screen: Screen, question: str, ranking: list[tuple[str, int]]) -> None:
    """Print a question and its answers."""
    screen.line(question if ranking else f"{question} none")
    for name, number in ranking:
        screen.line(f"  {number:5,}  {name}")


def change(db: pstore.Store, screen: Screen) -> None:
    """Change something deep in the graph, and commit.

    Raises:
        DemonstrationFailed: Not exactly one record was written.
    """
    began = perf_counter()
    db["library"].packages["json"].modules["decoder"].classes["JSONDecoder"].functions["decode"].arguments.append("new")
    done = db.commit("an argument more")
    took = perf_counter() - began
    if len(done.keys) != 1 or done.names:
        message = f"one record should have been written, not {len(done.keys)}"
        raise DemonstrationFailed(message)
    (key,) = done.keys
    screen.line()
    screen.line("Changed, in place:")
    screen.line('  db["library"].packages["json"].modules["decoder"]')
    screen.line('    .classes["JSONDecoder"].functions["decode"].arguments.append("new")')
    screen.line(f"Committed in {duration(took)}, all {loads(db):,} loaded records compared:")
    screen.line(f"1 record written, {db.label(key)}.")
    if db.commit().keys:
        message = "a commit with nothing changed has written something"
        raise DemonstrationFailed(message)
    screen.line("Committed again, with nothing changed: 0 records written.")


def loads(db: pstore.Store) -> int:
    """Return how many records this process has loaded."""
    return int(db.stats()["loads"])


if __name__ == "__main__":
    run_script(main)
