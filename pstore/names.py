"""The names of a store: what stands under each, and what this transaction has set or removed.

A name's row holds an atom's stream, or the key of a record. This module reads and writes rows of the table `names`; how
a key becomes an object, and an object a key, is asked of others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakSet

from pstore import rows
from pstore.errors import CorruptRecord
from pstore.rows import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pstore.backends.base import Backend, Row, Transaction
    from pstore.loader import Loader
    from pstore.reads import Reads

#: How many names are read at once while iterating.
_BATCH: Final = 1000
#: How many keys are remembered with a name that leads to them.
_MOST_KNOWN: Final = 10_000
#: The open databases of which it is known that no name has got lost.
_whole: Final[WeakSet[Backend]] = WeakSet()


class Content(NamedTuple):
    """What the row of a name holds.

    Attributes:
        flags: REFERENCE, or 0 for an atom.
        body: The key, or the atom's stream.
    """

    flags: int
    body: bytes


class Stored(NamedTuple):
    """Stands among the pending values for an object of the store that was made anew in place of the one that was set.

    Attributes:
        key: Its key.
    """

    key: int


class Removed:
    """Stands among the pending values for a name that was removed."""


class Names:
    """The names of one session.

    Args:
        read: Returns the session's snapshot.
        loader: Makes objects of keys and streams.
        reads: Takes down what is read; None where nobody asks.
        backend: Where the names are.

    Attributes:
        pending: What this transaction has put under each name; `Removed` where it took the name away, `Stored` where the
            object was made anew since.
    """

    def __init__(self, read: Callable[[], Transaction], loader: Loader, reads: Reads | None, backend: Backend) -> None:
        self.pending: dict[str, object] = {}
        self._read = read
        self._loader = loader
        self._reads = reads
        self._backend = backend
        self._known: dict[int, str] = {}

    def get(self, name: str) -> object:
        """Return what stands under a name.

        Raises:
            KeyError: Nothing does.
            CorruptRecord: Its row is damaged.
        """
        reader = self._read()
        if name in self.pending:
            value = self.pending[name]
            if value is Removed:
                raise KeyError(name)
            return self._loader.follow(value.key) if type(value) is Stored else value
        if self._reads is not None:
            self._reads.names.add(name)
        (row,) = reader.get_many("names", [name])
        if row is None:
            self._check_whole(reader)
            raise KeyError(name)
        try:
            sealed = rows.unseal(rows.name_place(name), row)
            key = rows.unpack_key(sealed.body) if sealed.flags & REFERENCE else None
        except ValueError as error:
            raise rows.unreadable(error, f"the row of the name {name!r}", name=name) from error
        if key is None:
            return self._loader.value(sealed.body, name)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = name
        return self._loader.follow(key)

    def replaced(self, gone: dict[int, object]) -> None:
        """Objects were forgotten, and are made anew: the names that were set to them lead to the new ones.

        Args:
            gone: Those that were forgotten, by key.
        """
        self.pending = with_replaced(self.pending, gone)

    def known(self, key: int) -> str | None:
        """Return a name by which this session has reached a record lately, or None; nothing is read."""
        return self._known.get(key)

    def revision_of(self, name: str) -> int:
        """Return the number of the commit that wrote a name's row; 0 where there is none."""
        (row,) = self._read().get_many("names", [name])
        return 0 if row is None else rows.unseal(rows.name_place(name), row).revision

    def remove(self, name: str) -> None:
        """Remove a name.

        Raises:
            KeyError: There is no such name.
        """
        if name not in self:
            raise KeyError(name)
        self.pending[name] = Removed

    def clear(self) -> None:
        """Remove every name."""
        self.pending = dict.fromkeys([*self], Removed)

    def __contains__(self, name: str) -> bool:
        reader = self._read()
        if name in self.pending:
            return self.pending[name] is not Removed
        if self._reads is not None:
            self._reads.names.add(name)
        if reader.get_many("names", [name])[0] is not None:
            return True
        self._check_whole(reader)
        return False

    def __iter__(self) -> Iterator[str]:
        """Yield the names in order. What is set or removed meanwhile is seen or not, as it comes."""
        if self._reads is not None:
            self._reads.all_names = True
        reader, last, count = self._read(), None, 0
        while True:
            # The least text that is greater than another is that one with the least character behind it.
            stored = self._stored(None if last is None else last + "\0")
            count += len(stored)
            if len(stored) < _BATCH and self._read() is reader:
                _check_count(reader, count)
            end = stored[-1] if len(stored) == _BATCH else None
            removed = {name for name, value in self.pending.items() if value is Removed}
            added = {name for name in self.pending if (last is None or name > last) and (end is None or name <= end)}
            yield from sorted(added.union(stored) - removed)
            if end is None:
                return
            last = end

    def added(self) -> int:
        """Return how many names more there are than in the snapshot."""
        if self._reads is not None:
            self._reads.all_names = True
        pending = list(self.pending)
        stored = self._read().get_many("names", pending)
        return sum(
            (self.pending[name] is not Removed) - (row is not None) for name, row in zip(pending, stored, strict=True)
        )

    def leading_to(self, key: int) -> list[str]:
        """Return the names whose rows refer to a record, in order."""
        body = rows.pack_key(key)
        found = []
        for name, row in self._read().scan("names"):
            content = _content(str(name), row)
            if content is not None and content.flags & REFERENCE and content.body == body:
                found.append(str(name))
        return found

    def changes(self, content_of: Callable[[str, object], Content]) -> dict[str, Content | None]:
        """Return the names that a commit has to write, with their content; None for those that it has to remove.

        Args:
            content_of: Returns what is to be stored for (name, value).
        """
        pending = sorted(self.pending)
        changes: dict[str, Content | None] = {}
        for name, row in zip(pending, self._read().get_many("names", pending), strict=True):
            if self.pending[name] is not Removed:
                content = content_of(name, self.pending[name])
                if row is None or _content(name, row) != content:
                    changes[name] = content
            elif row is not None:
                changes[name] = None
        return changes

    def _check_whole(self, reader: Transaction) -> None:
        """Raise CorruptRecord where names have got lost: a name that isn't found may be one of them.

        An engine that keeps no checksums of its own doesn't notice that a changed byte hides a row. The name that is found
        costs nothing; the first one that isn't makes all be counted and looked at, once as long as the database is open.
        """
        if self._backend in _whole or not self._backend.capabilities.lasting or self._backend.capabilities.remote:
            return
        count = 0
        for name, row in reader.scan("names"):
            _checked(str(name), row)
            count += 1
        _check_count(reader, count)
        _whole.add(self._backend)

    def _stored(self, start: str | None) -> list[str]:
        stored: list[str] = []
        for name, row in self._read().scan("names", start):
            stored.append(_checked(str(name), row))
            if len(stored) == _BATCH:
                break
        return stored


def _checked(name: str, row: Row) -> str:
    """Return a name, after a look whether its row was written under it."""
    place = rows.name_place(name)
    if not rows.is_whole(place, row):
        try:
            rows.unseal(place, row)
        except ValueError as error:
            raise rows.unreadable(error, f"the row of the name {name!r}", name=name) from error
    return name


def _check_count(reader: Transaction, count: int) -> None:
    """Raise CorruptRecord unless a snapshot has as many names as were found in it."""
    (row,) = reader.get_many("meta", ["head"])
    if row is None:
        return  # which is for others to tell
    expected = rows.read_head(row).names
    if count != expected:
        message = (
            f"the store is damaged: it has {count} names, and had {expected} when it was written; restore it from a backup,"
            " or read what is left by name"
        )
        raise CorruptRecord(message)


def with_replaced(pending: dict[str, object], gone: dict[int, object]) -> dict[str, object]:
    """Return pending values with `Stored` in place of each object that was forgotten."""
    keys = {id(obj): key for key, obj in gone.items()}
    return {name: Stored(keys[id(value)]) if id(value) in keys else value for name, value in pending.items()}


def write(writer: Transaction, changes: dict[str, Content | None], revision: int) -> int:
    """Write the rows of names; return how many names more there are."""
    listed = list(changes)
    added = sum(
        (changes[name] is not None) - (row is not None)
        for name, row in zip(listed, writer.get_many("names", listed), strict=True)
    )
    writer.put_many(
        "names",
        [
            (name, rows.seal(rows.name_place(name), content.body, flags=content.flags, revision=revision))
            for name, content in changes.items()
            if content is not None
        ],
    )
    writer.delete_many("names", [name for name, content in changes.items() if content is None])
    return added


def _content(name: str, row: Row) -> Content | None:
    try:
        sealed = rows.unseal(rows.name_place(name), row)
    except ValueError:
        return None  # damaged
    return Content(sealed.flags, bytes(sealed.body))
