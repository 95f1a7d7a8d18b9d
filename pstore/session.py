"""A session: one thread's view of a store, from snapshot to commit.

It ties the parts together: the identity map, the loader that fills it, the changes that a commit finds, the names, and
the backend's transactions. The life of a transaction::

    first read          a read transaction of the backend is begun: the snapshot
    touch               an object wakes, and is compared at the commit
    savepoint           gather the changes; put them aside
    commit              gather the changes; begin a write transaction; check what others have written since; put; publish
    rollback            what changed becomes what the store says, or what a savepoint has put aside
    either one          the snapshot ends; touched objects go back behind the barrier, their states kept or dropped

The barrier tells of every access to an object, but not of one to a container that was taken out of it before. So an
object stays in the compared set while anything outside it holds one of its containers (`pstore.holding`).
"""

from __future__ import annotations

from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Final, NamedTuple

from pstore.aside import Aside
from pstore.cache import Cache, Limits
from pstore.catalog import Catalog
from pstore.changes import Changes
from pstore.committer import Commit, Committer, Parts
from pstore.conflicts import Conflicts
from pstore.errors import ConnectionLost, MissingRecord, StoreClosed, Uncommitted
from pstore.ghosts import Ghosts
from pstore.guard import Guard
from pstore.identity import IdentityMap
from pstore.keys import code_of, is_key, key_range, serial_of
from pstore.loader import Loader
from pstore.names import Names
from pstore.readahead import ReadAhead
from pstore.reads import Reads
from pstore.renaming import Renames
from pstore.restoring import Restorer
from pstore.states import States
from pstore.transactions import Transactions, changes_since, create

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pstore.backends.base import Backend, Row, Transaction
    from pstore.pickle.policy import Policy
    from pstore.rows import Head


#: How many bytes of rows may be read unasked and not used yet, where reading is a round trip.
_READ_AHEAD: Final = 16 * 1024 * 1024


class Options(NamedTuple):
    """How a session behaves.

    Attributes:
        serializable: Whether a commit also validates what was read.
        limits: How much stays in memory between transactions.
    """

    serializable: bool
    limits: Limits


class Session:
    """One thread's view of a store.

    Args:
        backend: Where the rows are.
        policy: What records may name.
        options: How it behaves.
        thread: The thread that it belongs to; None for the one that uses it first.

    Attributes:
        names: What stands under the names.
        identity: Which object is which key.
        loads: How many records were needed and not in memory, however they were read.
        guard: Says who may use it, and when.

    Raises:
        FormatError: There is no store in the backend and it can't be written.
    """

    def __init__(self, backend: Backend, policy: Policy, options: Options, thread: int | None) -> None:
        self.backend = backend
        self.loads = 0
        self.guard = Guard(backend, thread, lambda: self._loader.busy, readonly=backend.readonly)
        self.identity = IdentityMap()
        self._ghosts = Ghosts(self.wake)
        self._catalog = Catalog(policy)
        self._states = States()
        self._transactions = Transactions(
            backend, self._catalog, self._states.baselines, min(_READ_AHEAD, options.limits.size)
        )
        self._allocator = self._transactions.allocator
        self._loader = Loader(
            self.identity,
            self._states,
            self._catalog,
            self._ghosts,
            read=self._read_record,
            names_of=self._find_names,
            made_otherwise=self._take_in,
        )
        self._changes = Changes(self.identity, self._catalog, self._ghosts, self._allocator, self._root_label)
        self._restorer = Restorer(
            self.identity,
            self._states,
            self._loader,
            self._ghosts,
            self._changes,
            catalog=self._catalog,
            replaced=self._note_replaced,
        )
        self._renames = Renames(self.identity, self._states, self._catalog, self._loader, self._restorer)
        self._reads = Reads() if options.serializable else None
        self._cache = Cache(
            self.identity, self._states, self._loader, self._restorer, limits=options.limits, dropped=self._note_read
        )
        self.names = Names(self._snapshot, self._loader, self._reads, backend)
        self._aside = Aside()
        self._conflicts = Conflicts(
            self._catalog,
            self._states,
            self.names,
            self._loader,
            self._changes,
            restorer=self._restorer,
            aside=self._aside,
            reads=self._reads,
        )
        self._committer = Committer(
            Parts(
                guard=self.guard,
                identity=self.identity,
                ghosts=self._ghosts,
                catalog=self._catalog,
                transactions=self._transactions,
                states=self._states,
                loader=self._loader,
                changes=self._changes,
                restorer=self._restorer,
                names=self.names,
                aside=self._aside,
                conflicts=self._conflicts,
                cache=self._cache,
                reads=self._reads,
            ),
            self._snapshot,
            self._read_record,
        )
        create(backend)

    # ---------------------------------------------------------------- objects

    def wake(self, obj: object) -> None:
        """Make a touched object awake, and compare it at the commit."""
        if self.guard.closed:
            message = (
                f"an object of {self._ghosts.real_class(obj).__qualname__} wasn't loaded before its store was closed"
            )
            raise StoreClosed(message)
        if self._transactions.reader is None or get_ident() != self.guard.thread:
            self._snapshot()
        states = self._states
        try:
            key = self.identity.keys[id(obj)]
        except KeyError:
            message = (
                f"this object of {self._ghosts.real_class(obj).__qualname__} was made anew when its class changed in the"
                " store; get it from the store again"
            )
            raise MissingRecord(message) from None
        if key in states.baselines:
            self._ghosts.wake_resident(obj)
            states.use(key)
        else:
            self._loader.wake(key, obj)
        states.touched[key] = obj
        if not self.guard.work and not self._loader.busy:
            self._cache.relieve()

    def object_at(self, key: int) -> object:
        """Return the object of a key; see `Store.object_at`."""
        self._snapshot()
        if not is_key(key) or not serial_of(key):
            message = f"{key!r} is no key of an object"
            raise ValueError(message)
        if key not in self.identity.objects and not self._has_record(key):
            self._note_read(key)
            raise self._loader.failures.missing(key)
        return self._loader.follow(key)

    def instances(self, cls: type) -> Iterator[object]:
        """Yield the objects of a class that have records of their own, in the order of their serial numbers."""
        reader = self._snapshot()
        if self._reads is not None:
            self._reads.classes.add(cls)
        found = [
            int(key) for code in self._catalog.codes_of(cls) for key, _ in reader.scan("records", *key_range(code))
        ]
        for key in sorted(found, key=serial_of):
            yield self._loader.meet(key)

    def classes(self) -> list[str]:
        """Return the names of the classes in the store, in the order in which it met them."""
        self._snapshot()
        return list(dict.fromkeys(str(name) for _, name in sorted(self._catalog.names().items())))

    def label(self, key: int) -> str:
        """Return a key as a person reads it."""
        if not is_key(key):
            message = f"{key!r} is no key"
            raise ValueError(message)
        return self._catalog.label(key)

    def changed(self) -> list[object]:
        """Return the stored objects that a commit would write, as far as they differ from what was loaded."""
        with self.guard.working("compare"):
            self._snapshot()
            keys = {key for key in self._states.compared() if self._restorer.unchanged(key) is None}
            keys.update(key for key, row in self._aside.rows() if self._loader.baseline_of(key, row).revision)
            return [
                self._loader.follow(key)
                for key in sorted(keys)
                if key not in self._states.baselines or self._states.baselines[key].revision
            ]

    def has_uncommitted(self) -> bool:
        """Return whether closing now would lose anything."""
        if self.backend.readonly:
            return False
        with self.guard.working("compare"):
            return (
                self._committer.in_doubt
                or bool(self.names.pending)
                or bool(self._aside)
                or any(self._restorer.unchanged(key) is None for key in self._states.compared())
            )

    def evict(self, objs: Iterable[object] | None) -> int:
        """Drop states; see `Store.evict`."""
        with self.guard.working("evict"):
            self._snapshot()
            if objs is None:
                return self._cache.evict(list(self._states.baselines))
            return self._cache.evict([key for obj in objs if (key := self.identity.key_of(obj)) is not None])

    def prefetch(self, wanted: Iterable[object]) -> int:
        """Read records ahead; see `Store.prefetch`."""
        wanted = list(wanted)  # which may touch objects
        with self.guard.working("prefetch"):
            self._snapshot()
            ahead, states = self._transactions.fetching(), self._states.baselines
            keys = [key for obj in wanted if (key := self._key_of_wanted(obj)) is not None and key not in states]
            count = 0
            while keys:
                fetched = ahead.fetch(keys)
                count += sum(row is not None for row in fetched.values())
                # A loose object comes with what refers to it.
                keys = [
                    found
                    for key, row in fetched.items()
                    if row is not None
                    for found in self._loader.needed_for(key, row)
                ]
            return count

    def _key_of_wanted(self, wanted: object) -> int | None:
        if type(wanted) is not int:
            return self.identity.key_of(wanted)
        if not is_key(wanted) or not serial_of(wanted):
            message = f"{wanted!r} is no key of an object"
            raise ValueError(message)
        return wanted

    # ----------------------------------------------------------- transactions

    @property
    def head(self) -> Head:
        """The counters of the state that this session sees."""
        self._snapshot()
        return self._allocator.head

    def begin(self, *, exclusive: bool = False) -> None:
        """Begin a transaction where none has begun.

        Args:
            exclusive: Whether to keep other writers out from now on until it ends.

        Raises:
            StoreLocked: Another writer doesn't end.
        """
        self.guard.check()
        if exclusive:
            self._transactions.end()  # a snapshot from before the lock could be overtaken unseen
            self._transactions.hold()
        self._snapshot()

    def commit(self, note: str = "") -> Commit:
        """Write what has changed; see `Store.commit`."""
        with self.guard.working("commit"):
            found = self._committer.find_out()
            self._snapshot()
            done = self._committer.commit(note)
            return done if found is None or done.keys or done.names else found

    def rename_class(self, old: object, new: object) -> Commit:
        """Give a class of the store another name; see `Store.rename_class`."""
        self.guard.check_writable("to rename a class")
        if self.has_uncommitted():
            message = (
                "rename_class is a commit of its own, and there are uncommitted changes: commit or roll back first"
            )
            raise Uncommitted(message)
        with self.guard.working("rename_class"):
            self._snapshot()  # so that what others have written is known up to here
            self._committer.end()
            try:
                done = self._committer.rename(old, new)
                with suppress(ConnectionLost):  # it is made; the next transaction does this, else
                    self._snapshot()  # finds the rename in the log, as other sessions do
                return done
            finally:
                self._transactions.end()

    def savepoint(self) -> int:
        """Put what has changed aside; return the number of the savepoint."""
        with self.guard.working("savepoint"):
            self._snapshot()
            return self._committer.savepoint()

    def back_to(self, mark: int) -> None:
        """Go back to a savepoint; see `Savepoint.rollback`."""
        with self.guard.working("rollback"):
            self._committer.back_to(mark)

    def rollback(self) -> None:
        """Make the objects in memory what the store says; see `Store.rollback`."""
        with self.guard.working("rollback"):
            self._committer.rollback()

    def compact(self) -> None:
        """Give space back; see `Store.compact`."""
        self.guard.check_writable("to compact the store")
        if self.has_uncommitted():
            message = "compact ends the transaction, and there are uncommitted changes: commit or roll back first"
            raise Uncommitted(message)
        with self.guard.working("compact"):
            self._committer.rollback()
            self._transactions.end()
            self.backend.compact()

    def close(self) -> None:
        """End the session without a commit. Objects whose state is in memory stay as they are, plain objects."""
        if self.guard.closed:
            return
        self.guard.check_idle("close")
        self.guard.close()
        self.identity.close()
        if not self.guard.forked:
            self._transactions.end()
            self._aside.clear()
        for key in self._states.baselines:
            if self._ghosts.asleep(self.identity.objects[key]):
                self._ghosts.wake_resident(self.identity.objects[key])
        self._states.touched.clear()
        self.names.pending.clear()

    def _note_read(self, key: int) -> None:
        if self._reads is not None:
            self._reads.take_down((key,), self._states)

    def _note_replaced(self, gone: dict[int, object]) -> None:
        self.names.replaced(gone)
        self._committer.replaced(gone)

    # ------------------------------------------------------------- for errors

    def _root_label(self, key: int) -> str:
        for name, value in self.names.pending.items():
            if value is self.identity.objects.get(key, self):
                return f"db[{name!r}]"
        return self._catalog.label(key)

    def _take_in(self, keys: list[int]) -> None:
        self._restorer.take_in(keys)

    def _find_names(self, key: int) -> list[str]:
        return [] if self.guard.closed else self.names.leading_to(key)

    # ---------------------------------------------------------------- backend

    def _snapshot(self) -> Transaction:
        """Return the snapshot, beginning it if there is none."""
        transactions = self._transactions
        if transactions.reader is None or get_ident() != self.guard.thread or self.guard.closed:
            self.guard.check()
            if transactions.reader is not None:  # and the thread is the first that uses this session
                return transactions.reader
            self._committer.find_out()
            try:
                reader = transactions.read()
                if self._transactions.current_to is None:
                    self._transactions.current_to = self._allocator.head.revision
                elif self._allocator.head.revision != self._transactions.current_to or self._conflicts.overtaken:
                    self._catch_up(reader, self._transactions.current_to)
            except BaseException:
                lost = transactions.lost
                transactions.end()
                transactions.lost = lost  # until the application ends the transaction
                raise
            transactions.lost = None
            return reader
        return transactions.reader

    def _catch_up(self, reader: Transaction, since: int) -> None:
        """Drop the states of what others have changed since this session last looked, and learn new names of classes.

        An object that this session has changed too, unseen by the barrier, stays: its commit will conflict.
        """
        newest, _ = changes_since(reader, since)
        baselines, compared = self._states.baselines, set(self._states.compared())
        stale = {key for key in newest.keys() & baselines.keys() if baselines[key].revision < newest[key]}
        stale |= self._conflicts.overtaken & baselines.keys()  # those that have been changed back are dropped, too
        renamed = {code_of(key) for key in newest if not serial_of(key)}
        affected = self._renames.affected(renamed) - stale if renamed else set()
        changed = {key for key in compared & (stale | affected) if self._restorer.unchanged(key) is None}
        self._conflicts.overtaken = changed
        if renamed:
            self._renames.take_in(reader, renamed, affected - changed)
        stale &= baselines.keys()
        if isinstance(reader, ReadAhead):
            reader.fetch((stale - changed) & self._states.loose.keys())  # these are read again at once
        self._restorer.replace({key for key in stale - changed if not self._restorer.restore(key, anew=True)})
        self._transactions.current_to = self._allocator.head.revision

    def _has_record(self, key: int) -> bool:
        reader = self._snapshot()
        if isinstance(reader, ReadAhead) and reader.has(key):
            self.loads += 1
            return True
        return self._read_record(key) is not None

    def _read_record(self, key: int) -> Row | None:
        self.loads += 1
        reader, row = self._transactions.reader, None
        if reader is None or get_ident() != self.guard.thread or self.guard.closed:
            reader = self._snapshot()
        if self._aside.count:
            row = self._aside.get(key)
        if row is None:
            (found,) = reader.get_many("records", [key])
            if found is None and self._transactions.writer is not None:
                # While versions are merged, the newest one may refer to what is newer than the snapshot.
                (found,) = self._transactions.writer.get_many("records", [key])
            return found
        return row
