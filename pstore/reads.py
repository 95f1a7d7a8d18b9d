"""What a serializable transaction has read and the identity map doesn't tell: names, ranges, states that were dropped.

This module knows keys and names only.
"""

from __future__ import annotations


class Reads:
    """What one transaction has read, beside the objects that it has touched.

    Attributes:
        records: The keys of records whose states aren't in memory any more, or that were found missing.
        names: The names that were looked up, whether they were there or not.
        all_names: Whether the names were counted or iterated over.
        codes: The codes of classes whose instances were listed.
    """

    def __init__(self) -> None:
        self.records: set[int] = set()
        self.names: set[str] = set()
        self.all_names = False
        self.codes: set[int] = set()

    def clear(self) -> None:
        """A transaction has ended."""
        self.records.clear()
        self.names.clear()
        self.all_names = False
        self.codes.clear()
