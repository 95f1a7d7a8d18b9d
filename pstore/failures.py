"""The errors of a load: of which record they speak, under which name it is known, and what refers to one that is missing.

Where a record can't be read, or code of its class fails, somebody has to know which record that was. This module makes
errors, and asks what it needs to tell them only when there is one; it loads nothing.
"""

from __future__ import annotations

import contextlib
import copy
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from pstore import rows
from pstore.catalog import UNAVAILABLE
from pstore.errors import Error, MissingRecord
from pstore.records import named_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pstore.catalog import Catalog
    from pstore.states import Baseline


class Failures:
    """Tells what has failed in the loads of one session.

    Args:
        catalog: The store's classes.
        names_of: Answers a key with the names that lead to it.
        records: The records that may refer to others: those in memory, and those that are being loaded.
        signal: The class of what isn't an error of a record, and passes.
    """

    def __init__(
        self,
        catalog: Catalog,
        names_of: Callable[[int], list[str]],
        records: tuple[Mapping[int, Baseline], ...],
        signal: type[Exception],
    ) -> None:
        self._catalog = catalog
        self._names_of = names_of
        self._records = records
        self._signal = signal

    def missing(self, key: int) -> MissingRecord:
        """Return the error for a record that isn't in the store, with what is known to refer to it."""
        names = self._names_of(key)
        known = {holder: record for records in self._records for holder, record in records.items()}
        holders = sorted(holder for holder, record in known.items() if key in named_in(record.body, record.flags))
        referrers = (*(f"db[{name!r}]" for name in names), *map(self._catalog.label, holders))
        message = f"{self._catalog.label(key)} isn't in the store"
        if referrers:
            shown = ", ".join((*referrers[:10], *(["..."] if referrers[10:] else [])))
            message += f", though {shown} refer{'' if referrers[1:] else 's'} to it"
        return MissingRecord(message, key=key, referrers=referrers)

    @contextlib.contextmanager
    def telling(self, key: int) -> Iterator[None]:
        """Say of which record it is that an error of its stream, or of an object's own code, speaks."""
        try:
            yield
        except (UnpicklingError, EOFError) as error:
            raise self.corrupt(key, error) from error
        except UNAVAILABLE as error:
            if error.key is not None:
                raise
            raise self.told(key, error) from error.__cause__
        except (Error, self._signal):
            raise
        except Exception as error:
            if hasattr(error, "add_note"):  # from Python 3.11 on
                error.add_note(f"This came up while pstore loaded the record of {self.label(key)}.")
            raise

    def corrupt(self, key: int, error: Exception | str) -> Error:
        """Return the error for a record that can't be read, and why."""
        cause = error if isinstance(error, ValueError) else ValueError(str(error))
        name = next(iter(self._names_of(key)), None)
        return rows.unreadable(cause, f"the record of {self.label(key)}", key=key, name=name)

    def told(self, key: int, error: Error) -> Error:
        """Return an error about a class that says which record can't be loaded for it."""
        return retold(error, f"{self._catalog.label(key)} can't be loaded", key)

    def label(self, key: int) -> str:
        """Return what a record is, and a name that leads to it."""
        names = self._names_of(key)
        return self._catalog.label(key) + (f" (under the name {names[0]!r})" if names else "")


def retold(error: Error, what: str, key: int | None = None) -> Error:
    """Return an error about a class that says what can't be loaded for it, and sets its `key`."""
    again = copy.copy(error)
    again.args = (f"{what}: {error}",)
    vars(again)["key"] = key
    return again
