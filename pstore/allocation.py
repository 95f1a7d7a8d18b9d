"""The store's counters, and the numbers that a session hands out from them: serial numbers and class codes.

Serial numbers are leased in blocks: a commit takes more than it needs, so that the next one has some at hand and needn't
hold the write lock while it pickles. A class code is taken under the write lock, because no two sessions may give the
same class two codes. What a commit that fails has taken is given back by `restore`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pstore.rows import Head

if TYPE_CHECKING:
    from collections.abc import Callable

    from pstore.catalog import Catalog

#: How many serial numbers are leased at once.
LEASE: Final = 256


class Taken(NamedTuple):
    """Which numbers were handed out at one moment.

    Attributes:
        head: The counters.
        lease: The serial numbers at hand.
    """

    head: Head
    lease: range


class Allocator:
    """Hands out the numbers of one session.

    Args:
        catalog: The classes that have codes.
        begin_write: Begins the commit's write transaction unless it has begun, and sets `head` to its counters.

    Attributes:
        head: The counters: of the session's snapshot, and while a commit writes, those that it will leave.
    """

    def __init__(self, catalog: Catalog, begin_write: Callable[[], object]) -> None:
        self.head = Head()
        self._catalog = catalog
        self._begin_write = begin_write
        self._lease = range(0)
        self._saved = self.taken()

    @property
    def saved(self) -> Head:
        """The counters of the snapshot in which the commit began."""
        return self._saved.head

    def save(self) -> None:
        """A commit begins: remember what `restore` goes back to."""
        self._saved = self.taken()

    def restore(self) -> None:
        """The commit has failed: what it took was never taken."""
        self.give_back(self._saved)

    def keep(self) -> None:
        """What was taken is in the store: the counters are the snapshot's again, but for the numbers that are gone."""
        self.head = self.saved._replace(next_serial=self.head.next_serial, next_code=self.head.next_code)
        self._saved = self.taken()

    def taken(self) -> Taken:
        """Return which numbers are handed out now, for `give_back`."""
        return Taken(self.head, self._lease)

    def give_back(self, taken: Taken) -> None:
        """What was handed out since that moment was never taken."""
        self.head, self._lease = taken

    def serial(self) -> int:
        """Return a serial number that nobody else has or gets."""
        if not self._lease:
            self._begin_write()
            self._take(LEASE)
        serial, self._lease = self._lease[0], self._lease[1:]
        return serial

    def code(self, cls: type) -> int:
        """Return the code of a class, a new one if it has none.

        Raises:
            ClassNotAllowed: The policy refuses the class.
        """
        if not self._catalog.knows(cls):
            self._begin_write()
        code = self._catalog.code_of(cls, self.head.next_code)
        if code >= self.head.next_code:
            self.head = self.head._replace(next_code=code + 1)
        return code

    def reference(self, cls: type) -> int:
        """Return the code by which records refer to a class itself. Raises as `code` does."""
        code = self._catalog.reference_code(cls)
        return self.code(cls) if code is None else code

    def top_up(self) -> None:
        """Lease serial numbers for the next commit, within the write transaction of this one."""
        if len(self._lease) < LEASE // 2:
            self._take(LEASE)

    def _take(self, count: int) -> None:
        start = self.head.next_serial
        # What is left of the lease is kept where the new block follows it.
        begin = self._lease.start if self._lease and self._lease.stop == start else start
        self._lease = range(begin, start + count)
        self.head = self.head._replace(next_serial=start + count)
