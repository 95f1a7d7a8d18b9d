"""Backends with a fault each, for `test_suite.py`: pytest runs this file only when that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import Phase, settings

from pstore.backends.memory import MemoryBackend
from pstore.backends.versions import VersionedTransaction
from pstore.testing import BackendSuite

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends import Backend


class DropsDeletes(VersionedTransaction):
    """Forgets the second of the keys that it is to delete."""

    def delete_many(self, table: Any, keys: Any) -> None:
        super().delete_many(table, [key for at, key in enumerate(keys) if at != 1])


class IncludesStop(VersionedTransaction):
    """Yields the row at the end of a scan, which is to be left out."""

    def scan(self, table: Any, start: Any = None, stop: Any = None) -> Any:
        yield from super().scan(table, start, stop)
        if stop is not None and (start is None or start < stop) and isinstance(stop, str):
            yield from ((key, row) for key, row in super().scan(table, stop) if key == stop)


class KeepsTheLog(VersionedTransaction):
    """Rolls back all tables but the log."""

    def rollback(self) -> None:
        if not self._ended and self._write and self._changes["log"]:
            self._changes = {table: rows if table == "log" else {} for table, rows in self._changes.items()}
            self._backend.publish(self._changes)
        super().rollback()


class ShowsTheNewest(VersionedTransaction):
    """Lets a reader see what others commit."""

    def get_many(self, table: Any, keys: Any) -> Any:
        self._check()
        moment, self.moment = self.moment, self._backend._moment
        try:
            return super().get_many(table, keys)
        finally:
            self.moment = moment


FAULTS = {cls.__name__: cls for cls in (DropsDeletes, IncludesStop, KeepsTheLog, ShowsTheNewest)}


class Mutant(MemoryBackend):
    """The memory backend with a transaction that has a fault."""

    def __init__(self, fault: type[VersionedTransaction], **options: Any) -> None:
        super().__init__(**options)
        self.fault = fault

    def begin(self, *, write: bool = False) -> VersionedTransaction:
        transaction = super().begin(write=write)
        transaction.__class__ = self.fault
        return transaction


class Faulty(BackendSuite):
    """The suite over a mutant. A fault is to be found, not to be made small."""

    # More examples than the suite's own: chance must not decide, and the first failure ends the search.
    machine_settings = settings(BackendSuite.machine_settings, max_examples=500, phases=[Phase.generate], database=None)

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        return Mutant(FAULTS[type(self).__name__.removeprefix("Test")], timeout=timeout)


globals().update({f"Test{name}": type(f"Test{name}", (Faulty,), {"__module__": __name__}) for name in FAULTS})
