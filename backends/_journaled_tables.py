"""The four tables in a mapping behind a journal.

A commit goes into the journal, and stays in memory (*pending*) until it is folded into the mapping: when the journal
has grown, when the backend is compacted, and when it is closed. A fold that a crash cuts off is done again at the next open.

This module knows nothing of files: what folds by exchanging files is in `pstore.backends.generations`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from pstore.backends._mapping_tables import MappingTables, sync, update
from pstore.errors import Error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    from pstore.backends.journal import Journal

#: The journal is folded in when it is larger than this (bytes), and than this share of what it is folded into.
FOLD_AT: Final = 4 * 1024 * 1024
FOLD_SHARE: Final = 4


class JournaledTables(MappingTables):
    """The four tables in a mapping behind a journal.

    Args:
        mapping: Where the rows are.
        name: What to name in errors.
        journal: Where commits go first; closed with the tables.
    """

    def __init__(self, mapping: MutableMapping[Any, Any], name: str, journal: Journal) -> None:
        super().__init__(mapping, name)
        self.journal = journal
        self.readonly = False
        #: What the journal has and the mapping hasn't: row by key, None for one that is removed.
        self.pending: dict[bytes, bytes | None] = {}
        self._fold_at = FOLD_AT

    def start(self, flag: str) -> None:
        """Replay the journal, and go on as without one."""
        self.readonly = flag == "r"
        self.pending = self.journal.replay()
        super().start(flag)

    def get(self, key: bytes) -> bytes | None:
        """Return what stands under a key, None where nothing does."""
        return self.pending[key] if key in self.pending else super().get(key)

    def keys(self) -> Iterator[bytes]:
        """Yield the keys that have rows, in any order."""
        yield from (key for key, row in self.pending.items() if row is not None)
        yield from filter(lambda key: key not in self.pending, super().keys())

    def put(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Store rows in the journal: all or, where it raises, none."""
        end, pending = self.journal.end, self.pending
        before = {key: pending[key] for key in changes if key in pending}
        try:
            # Nobody sees this before the commit is made: snapshots are older.
            with self.guard:
                pending.update(changes)
            self.journal.append([changes])
        except BaseException:
            with self.guard:
                for key in changes:
                    pending.pop(key, None)
                pending.update(before)
            self.journal.take_back(end)
            raise

    def settle(self) -> None:
        """Fold the journal in when it has grown enough."""
        if self.journal.end > self._fold_at:
            try:
                self.fold()
            except Error:  # no room, say: what was committed is in the journal, and another time will do
                self._fold_at = 2 * self.journal.end
            else:
                self._fold_at = max(FOLD_AT, self.size() // FOLD_SHARE)

    def size(self) -> int:
        """Return the bytes of what the journal is folded into, 0 where that isn't known."""
        return 0

    def compact(self) -> None:
        """Fold the journal in."""
        self.fold()

    def fold(self) -> None:
        """Write into the mapping what is pending, and empty the journal.

        Raises:
            StorageError: That can't be done; all is in the journal as before.
        """
        with self.guard:
            with self.translated():
                update(self.mapping, self.pending.items(), textual=self.textual)
                sync(self.mapping)
            self.journal.mark(self.journal.header.generation + 1, (), switching=False)
            self.pending = {}
        self.journal.empty()

    def close(self) -> None:
        """Fold the journal in, and close it. Where that fails nothing is lost: the journal has it for the next time."""
        try:
            if self.pending and not self.readonly:
                with contextlib.suppress(Error):
                    self.fold()
        finally:
            super().close()

    def release(self) -> None:
        """Close the journal."""
        self.journal.close()

    def abandon(self) -> None:
        """Close this process's copy of the journal: the lock stays with the process that opened it."""
        self.journal.close()

    def stats(self) -> dict[str, int | str]:
        """Return what the mapping has, and the bytes of the journal."""
        return {**super().stats(), "journal_bytes": self.journal.end}
