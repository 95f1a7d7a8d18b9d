"""Any order of operations against a model: four dicts. Hypothesis chooses the order, and shrinks one that goes wrong."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from pstore.backends.base import INT_TABLES, STR_TABLES, TABLES
from pstore.errors import StoreLocked
from pstore.testing.binding import Binding, content

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pstore.backends.base import Backend, Key, Table, Transaction

    Model = dict[Table, dict[Key, bytes]]

#: Few, so that operations meet on the same keys.
INTS = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
TEXTS = ["", "a", "a\0", "aa", "\uffff", "\U00010000"]
#: A table, and two keys of it.
PLACES = st.one_of(
    st.tuples(st.sampled_from(INT_TABLES), st.sampled_from(INTS), st.sampled_from(INTS)),
    st.tuples(st.sampled_from(STR_TABLES), st.sampled_from(TEXTS), st.sampled_from(TEXTS)),
)
ROWS = st.one_of(st.binary(max_size=3), st.integers(0, 255).map(lambda n: bytes([n]) * 5000))


class BackendMachine(RuleBasedStateMachine):
    """One writer and several readers of a backend, beside a model of what each of them has to see.

    Args:
        opens: Opens the backend: called with flag "n" at the beginning, and with "w" where it is opened again.
    """

    def __init__(self, opens: Callable[[str], Backend]) -> None:
        super().__init__()
        self._opens = opens
        self.backend = opens("n")
        self.committed: Model = {table: {} for table in TABLES}
        self.writer: Transaction | None = None
        self.pending: Model = {}
        self.readers: list[tuple[Transaction, Model]] = []

    def writing(self) -> bool:
        """Whether a write transaction is open."""
        return self.writer is not None

    def reading(self) -> bool:
        """Whether a snapshot is open."""
        return bool(self.readers)

    def lasts(self) -> bool:
        """Whether the backend can be opened again."""
        return self.backend.capabilities.lasting

    @rule()
    def read(self) -> None:
        """Begin a reader."""
        if len(self.readers) < 5:
            self.readers.append((self.backend.begin(), deepcopy(self.committed)))

    @precondition(lambda self: not self.writing())
    @rule(places=st.lists(st.tuples(PLACES, ROWS), min_size=1, max_size=4))
    def write(self, places: list[tuple[tuple[Table, Key, Key], bytes]]) -> None:
        """Begin the writer, with something to commit or to roll back."""
        self.writer = self.backend.begin(write=True)
        self.pending = deepcopy(self.committed)
        self._put(self.writer, places)

    @precondition(writing)
    @rule(places=st.lists(st.tuples(PLACES, ROWS), min_size=1, max_size=4))
    def put(self, places: list[tuple[tuple[Table, Key, Key], bytes]]) -> None:
        """Put one row or a few."""
        assert self.writer is not None
        self._put(self.writer, places)

    @precondition(writing)
    @rule(places=st.lists(PLACES, min_size=1, max_size=4))
    def delete(self, places: list[tuple[Table, Key, Key]]) -> None:
        """Delete rows, there or not."""
        assert self.writer is not None
        for table, *keys in places:
            self.writer.delete_many(table, keys)
            for key in keys:
                self.pending[table].pop(key, None)
        self._compare(self.writer, self.pending)

    @precondition(writing)
    @rule()
    def commit(self) -> None:
        """Commit, and see that it is there for those who begin now."""
        assert self.writer is not None
        self.writer.commit()
        self.writer, self.committed = None, self.pending
        self._look()

    @precondition(writing)
    @rule()
    def rollback(self) -> None:
        """Roll back, and see that nothing has changed for those who begin now."""
        assert self.writer is not None
        self.writer.rollback()
        self.writer = None
        self._look()

    @precondition(reading)
    @rule(which=st.integers(0, 4))
    def end_reader(self, which: int) -> None:
        """End a reader, which has seen one state from its beginning to its end."""
        reader, model = self.readers.pop(which % len(self.readers))
        self._compare(reader, model)
        reader.rollback()

    @precondition(lambda self: self.reading() or self.writing())
    @rule(which=st.integers(0, 4), place=PLACES)
    def get(self, which: int, place: tuple[Table, Key, Key]) -> None:
        """Ask for rows, in any transaction."""
        transaction, model = self._one(which)
        table, *keys = place
        found = [None if row is None else bytes(row) for row in transaction.get_many(table, keys)]
        assert found == [model[table].get(key) for key in keys]

    @precondition(lambda self: self.reading() or self.writing())
    @rule(which=st.integers(0, 4), place=PLACES, bounds=st.integers(0, 3), most=st.integers(1, 100))
    def scan(self, which: int, place: tuple[Table, Key, Key], bounds: int, most: int) -> None:
        """Scan with both bounds, one or none, to the end or not, in any transaction."""
        transaction, model = self._one(which)
        table, start, stop = place
        limits: list[Any] = [start if bounds & 1 else None, stop if bounds & 2 else None]
        expected = [
            (key, row)
            for key, row in sorted(model[table].items())
            if (limits[0] is None or key >= limits[0]) and (limits[1] is None or key < limits[1])
        ]
        scan = iter(transaction.scan(table, *limits))
        found = [(key, bytes(row)) for key, row in (step for _, step in zip(range(most), scan, strict=False))]
        assert found == expected[:most]

    @rule()
    def compact(self) -> None:
        """Compact, which may be refused while transactions are open, and changes nothing."""
        with suppress(StoreLocked):
            self.backend.compact()

    @precondition(lasts)
    @rule()
    def reopen(self) -> None:
        """Close, whatever is open, and open again: what was committed is there."""
        self.backend.close()
        self.writer, self.readers = None, []
        self.backend = self._opens("w")
        self._look()

    def teardown(self) -> None:
        """Compare what is still open with its model, and close."""
        try:
            for transaction, model in self.readers:
                self._compare(transaction, model)
            if self.writer is not None:
                self._compare(self.writer, self.pending)
        finally:
            self.backend.close()

    def _one(self, which: int) -> tuple[Transaction, Model]:
        """The writer, or one of the readers."""
        if self.writer is not None and (not which or not self.readers):
            return self.writer, self.pending
        return self.readers[which % len(self.readers)]

    def _put(self, writer: Transaction, places: list[tuple[tuple[Table, Key, Key], bytes]]) -> None:
        for (table, key, other), row in places:
            writer.put_many(table, [(key, row), (other, row[::-1])])
            self.pending[table].update({key: row, other: row[::-1]} if key != other else {key: row[::-1]})

    def _look(self) -> None:
        """Compare what everybody sees who has a snapshot, or begins one now."""
        newest = self.backend.begin()
        self._compare(newest, self.committed)
        newest.rollback()
        for reader, model in self.readers:
            self._compare(reader, model)

    def _compare(self, transaction: Transaction, model: Model) -> None:
        """Compare all that a transaction sees, in each way of looking at it."""
        found = content(transaction)
        assert found == model
        assert [list(rows) for rows in found.values()] == [sorted(rows) for rows in model.values()]
        for table in TABLES:
            keys: list[Any] = INTS if table in INT_TABLES else TEXTS
            rows = [None if row is None else bytes(row) for row in transaction.get_many(table, keys)]
            assert rows == [model[table].get(key) for key in keys]
            if bounds := sorted(model[table]):
                middle: Any = bounds[len(bounds) // 2]
                assert [key for key, _ in transaction.scan(table, None, middle)] == bounds[: len(bounds) // 2]
                assert [key for key, _ in transaction.scan(table, middle)] == bounds[len(bounds) // 2 :]


class StatefulCases(Binding):
    """The backend beside a model."""

    #: How long Hypothesis tries; a subclass may give other settings.
    machine_settings: ClassVar[settings] = settings(
        max_examples=50,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[phase for phase in Phase if phase is not Phase.explain],
    )

    def test_any_order_of_operations(self, tmp_path: Path) -> None:
        """Whatever is done in whatever order, each transaction sees what the model says."""

        def opens(flag: str) -> Backend:
            return self.open_backend(tmp_path, flag, durable=False, timeout=0.02)

        run_state_machine_as_test(
            lambda: BackendMachine(opens),  # type: ignore[arg-type]  # its documentation takes a function, too
            settings=self.machine_settings,
        )
