"""What a serializable transaction has read and the identity map doesn't tell: names, ranges, states that were dropped.

This module knows keys and names only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pstore.states import States


class Reads:
    """What one transaction has read, beside the objects that it has touched.

    Attributes:
        records: The keys of records whose states aren't in memory any more, or that were found missing, with the
            revisions that were read; 0 for one that is missing.
        names: The names that were looked up, whether they were there or not.
        all_names: Whether the names were counted or iterated over.
        classes: The classes whose instances were listed.
    """

    def __init__(self) -> None:
        self.records: dict[int, int] = {}
        self.names: set[str] = set()
        self.all_names = False
        self.classes: set[type] = set()

    def take_down(self, keys: Iterable[int], states: States) -> None:
        """Take down that records were read, in the revisions that are in memory; those that aren't were found missing."""
        for key in keys:
            baseline = states.baselines.get(key)
            self.records[key] = 0 if baseline is None else baseline.revision

    def clear(self) -> None:
        """A transaction has ended."""
        self.records.clear()
        self.names.clear()
        self.all_names = False
        self.classes.clear()
