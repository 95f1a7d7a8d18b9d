"""Cases of transactions in one thread: what each sees, what its end makes of it, and what is refused in which phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pstore.backends.base import TABLES
from pstore.errors import ReadOnlyError, StoreClosed
from pstore.testing.binding import Binding, content, look, put, rows_of
from pstore.testing.rows import Whim, failing, fetch, keys_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pstore.backends.base import Backend, Transaction

#: Every use of a transaction but `rollback`.
READS: dict[str, Callable[[Transaction], Any]] = {
    "get_many": lambda transaction: transaction.get_many("records", [1]),
    "scan": lambda transaction: list(transaction.scan("records")),
    "scan of texts": lambda transaction: list(transaction.scan("names", "a", "b")),
}
WRITES: dict[str, Callable[[Transaction], Any]] = {
    "put_many": lambda transaction: transaction.put_many("records", [(1, b"wrong phase")]),
    "delete_many": lambda transaction: transaction.delete_many("records", [1]),
}
USES: dict[str, Callable[[Transaction], Any]] = {
    **READS,
    **WRITES,
    "commit": lambda transaction: transaction.commit(),
}


def _scan_halfway(writer: Transaction) -> None:
    next(iter(writer.scan("records")))


def _fail(writer: Transaction) -> None:
    with pytest.raises(Whim):
        writer.put_many("records", failing((5, b"new")))


#: What a transaction may have done when it is rolled back.
STEPS: dict[str, Callable[[Transaction], Any]] = {
    "nothing": lambda _: None,
    "a put": lambda writer: writer.put_many("records", [(1, b"new"), (9, b"new")]),
    "puts in all tables": lambda writer: [writer.put_many(table, [(keys_of(table)[2], b"new")]) for table in TABLES],
    "a delete": lambda writer: writer.delete_many("records", [1, 2]),
    "a delete of all": lambda writer: writer.delete_many("records", range(10)),
    "many puts": lambda writer: writer.put_many("records", ((n, b"x" * 1000) for n in range(5000))),
    "a look": lambda writer: writer.get_many("records", [1, 2, 3]),
    "a scan": lambda writer: list(writer.scan("records")),
    "half a scan": _scan_halfway,
    "a put that fails": _fail,
}
OLD: dict[Any, bytes] = dict.fromkeys(range(5), b"old")


class TransactionCases(Binding):
    """Snapshots, atomic commits, rollbacks, and operations in the wrong phase."""

    def test_a_writer_sees_its_changes_and_nobody_else(self, backend: Backend) -> None:
        """Until its commit a writer's changes are its own: readers begun before and meanwhile see nothing of them."""
        put(backend, "records", OLD)
        put(backend, "names", {"a": b"old"})
        before = backend.begin()
        writer = backend.begin(write=True)
        writer.put_many("records", [(1, b"new"), (7, b"new")])
        writer.delete_many("records", [2, 99])
        writer.delete_many("names", ["a"])
        writer.put_many("names", [("b", b"new")])
        meanwhile = backend.begin()
        expected = {0: b"old", 1: b"new", 3: b"old", 4: b"old", 7: b"new"}
        assert fetch(writer, "records", [1, 2, 7, 3]) == [b"new", None, b"new", b"old"]
        assert [(key, bytes(row)) for key, row in writer.scan("records")] == list(expected.items())
        assert [(key, bytes(row)) for key, row in writer.scan("records", 1, 4)] == [(1, b"new"), (3, b"old")]
        for reader in (before, meanwhile):
            assert content(reader) == {"records": OLD, "names": {"a": b"old"}, "log": {}, "meta": {}}
            assert fetch(reader, "records", [1, 2, 7]) == [b"old", b"old", None]
        writer.commit()
        for reader in (before, meanwhile):
            assert content(reader) == {"records": OLD, "names": {"a": b"old"}, "log": {}, "meta": {}}
            assert fetch(reader, "records", [1, 2, 7]) == [b"old", b"old", None]
            reader.rollback()
        assert look(backend) == {"records": expected, "names": {"b": b"new"}, "log": {}, "meta": {}}

    def test_a_snapshot_is_of_the_moment_of_its_beginning(self, backend: Backend) -> None:
        """What is committed between the beginning of a reader and its first look isn't seen by it."""
        put(backend, "records", {1: b"old"})
        readers = [backend.begin() for _ in range(2)]
        put(backend, "records", {1: b"new", 2: b"new"})
        assert fetch(readers[0], "records", [1, 2]) == [b"old", None]
        assert content(readers[1])["records"] == {1: b"old"}
        for reader in readers:
            reader.rollback()

    def test_a_writer_begins_with_the_newest_state(self, backend: Backend) -> None:
        """A write transaction sees all that was committed before it, whatever older snapshots are open."""
        put(backend, "records", {1: b"old"})
        reader = backend.begin()
        put(backend, "records", {1: b"new"})
        writer = backend.begin(write=True)
        assert fetch(writer, "records", [1]) == [b"new"]
        assert fetch(reader, "records", [1]) == [b"old"]
        writer.rollback()
        reader.rollback()

    def test_snapshots_of_different_ages(self, backend: Backend) -> None:
        """Many snapshots stay as they were, each with the state of its moment, in whatever order they are ended."""
        states: list[tuple[Transaction, dict[Any, bytes]]] = []
        for n in range(12):
            writer = backend.begin(write=True)
            writer.put_many("records", [(0, b"%d" % n), (n, b"new")])
            writer.delete_many("records", [max(n - 3, 1)])
            writer.commit()
            states.append((backend.begin(), rows_of(backend, "records")))
        assert len({tuple(state.items()) for _, state in states}) == 12
        while states:
            for reader, state in states:
                assert content(reader)["records"] == state
                assert fetch(reader, "records", range(12)) == [state.get(n) for n in range(12)]
            reader, _ = states.pop(len(states) // 3)
            reader.rollback()

    def test_rows_stay_valid_until_the_end(self, backend: Backend) -> None:
        """Rows that a reader was given hold what they held, until it ends, though others replace and delete them."""
        put(backend, "records", {n: b"%d" % n * 500 for n in range(200)})
        reader = backend.begin()
        given = reader.get_many("records", range(100)) + [row for _, row in reader.scan("records", 100)]
        for n in range(3):
            put(backend, "records", dict.fromkeys(range(n, 200, 2), b"replaced" * 200))
        writer = backend.begin(write=True)
        writer.delete_many("records", range(200))
        writer.commit()
        put(backend, "log", dict.fromkeys(range(200), b"in their place" * 100))
        assert [bytes(row or b"none") for row in given] == [b"%d" % n * 500 for n in range(200)]
        del given
        reader.rollback()

    def test_a_scan_while_others_write(self, backend: Backend) -> None:
        """A reader's scan yields the rows of its snapshot, though others change what it hasn't come to yet."""
        put(backend, "records", dict.fromkeys(range(0, 1000, 2), b"old"))
        reader = backend.begin()
        found = []
        for key, row in reader.scan("records"):
            found.append((key, bytes(row)))
            if not int(key) % 200:
                writer = backend.begin(write=True)
                writer.delete_many("records", range(int(key), int(key) + 50))
                writer.put_many("records", dict.fromkeys(range(int(key) + 51, 1000, 3), b"new").items())
                writer.commit()
        assert found == [(n, b"old") for n in range(0, 1000, 2)]
        reader.rollback()

    @pytest.mark.parametrize("write", [False, True], ids=["reader", "writer"])
    def test_a_scan_that_is_left_halfway(self, backend: Backend, write: bool) -> None:
        """A scan that nobody goes on with holds nothing up: its transaction ends, and the next one sees the newest state."""
        put(backend, "records", dict.fromkeys(range(3000), b"old"))
        left = []  # not even forgotten
        for end in ("commit", "rollback"):
            writer = None if write else backend.begin(write=True)
            transaction = backend.begin(write=write)
            scan = iter(transaction.scan("records", 10))
            assert next(scan)[0] == 10
            left.append(scan)
            getattr(transaction, end)()
            writer = writer or backend.begin(write=True)
            writer.put_many("records", [(10, end.encode())])
            writer.commit()
            readers = [backend.begin() for _ in range(3)]
            for reader in readers:
                assert fetch(reader, "records", [10, 2999]) == [end.encode(), b"old"]
                reader.rollback()
        for scan in left:
            with pytest.raises(StoreClosed):
                next(scan)

    @pytest.mark.parametrize("step", list(STEPS))
    def test_rollback_after(self, backend: Backend, step: str) -> None:
        """Nothing of a transaction that is rolled back is there, whatever it had done; rolling back twice is fine."""
        put(backend, "records", OLD)
        reader = backend.begin()
        writer = backend.begin(write=True)
        STEPS[step](writer)
        writer.rollback()
        writer.rollback()
        assert content(reader)["records"] == OLD
        reader.rollback()
        reader.rollback()
        assert look(backend) == {"records": OLD, "names": {}, "log": {}, "meta": {}}
        put(backend, "records", {1: b"newer"})
        assert rows_of(backend, "records") == {**OLD, 1: b"newer"}

    def test_rollback_after_rollback(self, backend: Backend) -> None:
        """Rolling back an ended transaction touches no other: the writer that came after it still has its changes."""
        first = backend.begin(write=True)
        first.put_many("records", [(1, b"first")])
        first.rollback()
        second = backend.begin(write=True)
        second.put_many("records", [(2, b"second")])
        first.rollback()
        assert fetch(second, "records", [1, 2]) == [None, b"second"]
        second.commit()
        first.rollback()
        second.rollback()
        assert rows_of(backend, "records") == {2: b"second"}

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    @pytest.mark.parametrize("write", [False, True], ids=["reader", "writer"])
    def test_an_ended_transaction_says_so(self, backend: Backend, write: bool, end: str) -> None:
        """Every use of a transaction after its end is refused, and changes nothing."""
        put(backend, "records", OLD)
        transaction = backend.begin(write=write)
        getattr(transaction, end)()
        for use in USES.values():
            with pytest.raises(StoreClosed):
                use(transaction)
        other = backend.begin(write=True)  # which mustn't be mistaken for it
        for use in USES.values():
            with pytest.raises(StoreClosed):
                use(transaction)
        transaction.rollback()
        other.commit()
        assert rows_of(backend, "records") == OLD

    @pytest.mark.parametrize("use", list(WRITES))
    def test_a_reader_changes_nothing(self, backend: Backend, use: str) -> None:
        """A change in a read transaction is refused, and the transaction is as good as before."""
        put(backend, "records", OLD)
        reader = backend.begin()
        with pytest.raises(ReadOnlyError):
            WRITES[use](reader)
        assert content(reader)["records"] == OLD
        reader.commit()
        assert rows_of(backend, "records") == OLD

    def test_a_commit_of_nothing(self, backend: Backend) -> None:
        """A write transaction that has changed nothing, or changed it back, can be committed."""
        put(backend, "records", OLD)
        backend.begin(write=True).commit()
        writer = backend.begin(write=True)
        writer.put_many("records", [(9, b"new")])
        writer.delete_many("records", [9])
        writer.commit()
        assert look(backend) == {"records": OLD, "names": {}, "log": {}, "meta": {}}

    def test_thousands_of_transactions(self, backend: Backend) -> None:
        """Transactions by the thousand, one after another, leave nothing behind that the next ones suffer from."""
        for n in range(self.transactions):
            writer = backend.begin(write=True)
            writer.put_many("log", [(n % 100, b"%d" % n)])
            getattr(writer, "commit" if n % 4 else "rollback")()
            reader = backend.begin()
            assert fetch(reader, "log", [n % 100]) != [None] or not n % 4
            getattr(reader, "commit" if n % 2 else "rollback")()
        last = {n % 100: b"%d" % n for n in range(self.transactions) if n % 4}
        assert rows_of(backend, "log") == dict(sorted(last.items()))

    def test_many_readers_at_once(self, backend: Backend) -> None:
        """Hundreds of snapshots may be open, each with the state of its moment, while the writer goes on."""
        readers = []
        for n in range(self.readers):
            if not n % 10:
                put(backend, "log", {n: b"there"})
                put(backend, "records", {0: b"%d" % n})
            readers.append(backend.begin())
        for n, reader in enumerate(readers):
            newest = n // 10 * 10
            assert fetch(reader, "records", [0]) == [b"%d" % newest]
            assert fetch(reader, "log", [newest, newest + 10]) == [b"there", None]
        for reader in [*readers[::2], *readers[1::2]]:
            reader.rollback()
        assert len(rows_of(backend, "log")) == (self.readers + 9) // 10
