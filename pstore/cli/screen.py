"""What commands print with: headings, lines, facts, and progress bars where a person is watching.

All output is plain text of ASCII characters; a line is wrapped by the terminal, never by us, so that paths can be copied.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


def duration(seconds: float) -> str:
    """Return a time as a person reads it."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


class Screen:
    """Standard output, as commands use it."""

    def __init__(self) -> None:
        # Text is data: no brackets, colons or numbers in it mean anything.
        self._console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        """Print a heading, with an empty line before it."""
        self._console.print(f"\n{text}", style="bold")

    def line(self, text: str = "") -> None:
        """Print a line."""
        self._console.print(f"  {text}" if text else "")

    def facts(self, facts: dict[str, object]) -> None:
        """Print facts, one a line, numbers with their thousands apart."""
        width = max(map(len, facts), default=0)
        for name, value in facts.items():
            text = f"{value:,}" if isinstance(value, int) else str(value)
            self.line(f"{name:<{width}}  {text}")

    def track(self, items: Sequence[T], what: str) -> Iterator[T]:
        """Yield the items, while a progress bar shows how far they are used up."""
        if not self._console.is_terminal:
            yield from items
            return
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with self._progress(*columns) as progress:
            yield from progress.track(items, description=what)

    @contextlib.contextmanager
    def wait(self, what: str) -> Iterator[None]:
        """Show that something goes on of which nobody knows how long it takes."""
        if not self._console.is_terminal:
            yield
            return
        with self._progress(TextColumn("  {task.description}"), SpinnerColumn("line"), TimeElapsedColumn()) as progress:
            progress.add_task(what, total=None)
            yield

    def _progress(
        self, *columns: TextColumn | BarColumn | MofNCompleteColumn | TimeElapsedColumn | SpinnerColumn
    ) -> Progress:
        return Progress(*columns, console=self._console, transient=True)
