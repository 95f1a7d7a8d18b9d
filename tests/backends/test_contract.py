"""The contract of `pstore.backends.base`, on each backend."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import KINDS

import pstore
from pstore.backends.base import INT_TABLES, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pstore.backends import Backend

EDGES = [0, 1, 2**31, 2**44, 2**63 - 1, 2**63, 2**64 - 1]
MAKE: dict[str, Callable[[Path], Backend]] = {
    name: lambda directory, kind=kind: kind.make(directory, timeout=0.1)
    for name, kind in KINDS.items()
    if not kind.missing
}


@pytest.fixture(params=MAKE)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty backend of each kind."""
    backend = MAKE[request.param](tmp_path)
    yield backend
    backend.close()


def put(backend: Backend, table: Any, rows: dict[Any, bytes]) -> None:
    """Store rows in a transaction of their own."""
    writer = backend.begin(write=True)
    writer.put_many(table, rows.items())
    writer.commit()


def test_rows_come_back_in_the_order_asked_for(backend: Backend) -> None:
    """A key that has no row gives None; an empty row is a row; many keys at once are fine."""
    for table in TABLES:
        keys: list[Any] = EDGES if table in INT_TABLES else ["", "a", "ä", "\U0001f600", "a\0b", "x" * 1000]
        put(backend, table, {key: repr(key).encode() for key in keys})
        put(backend, table, {keys[0]: b""})
        reader = backend.begin()
        asked = [*reversed(keys), 77 if table in INT_TABLES else "none", keys[1]]
        expected = [b"" if key == keys[0] else repr(key).encode() if key in keys else None for key in asked]
        assert reader.get_many(table, asked) == expected
        assert reader.get_many(table, []) == []
        reader.rollback()
    put(backend, "records", dict.fromkeys(range(5000), b"x"))
    reader = backend.begin()
    assert reader.get_many("records", range(4999, -1, -1)) == [b"x"] * 5000
    reader.rollback()


def test_scan_is_ordered_and_bounded(backend: Backend) -> None:
    """Integers are unsigned, texts ordered by code point; the start is included and the stop left out."""
    put(backend, "records", dict.fromkeys(EDGES, b"r"))
    names = ["", "\0", "A", "a", "a\0", "aa", "ä", "\uffff", "\U00010000"]
    put(backend, "names", dict.fromkeys(names, b"n"))
    reader = backend.begin()
    assert [key for key, _ in reader.scan("records")] == EDGES
    for start in EDGES:
        for stop in [*EDGES, 2**64]:
            assert [key for key, _ in reader.scan("records", start, stop)] == [k for k in EDGES if start <= k < stop]
    assert [key for key, _ in reader.scan("names")] == sorted(names) == names
    assert [key for key, _ in reader.scan("names", "a", "aa")] == ["a", "a\0"]
    assert list(reader.scan("log")) == []
    reader.rollback()


def test_a_snapshot_stays(backend: Backend) -> None:
    """A reader sees the state of its beginning, however much is committed meanwhile; the writer isn't held up."""
    put(backend, "records", {1: b"old", 2: b"old"})
    reader = backend.begin()
    writer = backend.begin(write=True)
    writer.put_many("records", [(1, b"new"), (3, b"new")])
    writer.delete_many("records", [2, 99])
    assert writer.get_many("records", [1, 2, 3]) == [b"new", None, b"new"]
    assert [key for key, _ in writer.scan("records")] == [1, 3]
    assert reader.get_many("records", [1, 2, 3]) == [b"old", b"old", None]
    writer.commit()
    assert reader.get_many("records", [1, 2, 3]) == [b"old", b"old", None]
    assert dict(reader.scan("records")) == {1: b"old", 2: b"old"}
    reader.rollback()
    reader = backend.begin()
    assert dict(reader.scan("records")) == {1: b"new", 3: b"new"}
    reader.rollback()


def test_rollback_drops_everything(backend: Backend) -> None:
    """Nothing of a transaction that is rolled back is there; rolling back twice is fine."""
    put(backend, "records", {1: b"old"})
    writer = backend.begin(write=True)
    writer.put_many("records", [(1, b"new")])
    writer.put_many("names", [("n", b"new")])
    writer.rollback()
    writer.rollback()
    reader = backend.begin()
    assert reader.get_many("records", [1]) == [b"old"]
    assert reader.get_many("names", ["n"]) == [None]
    reader.rollback()


def test_an_ended_transaction_says_so(backend: Backend) -> None:
    """Every use of a transaction after its end, and every change in a reader, is refused."""
    for end in ("commit", "rollback"):
        transaction = backend.begin(write=True)
        getattr(transaction, end)()
        for use in (
            lambda: transaction.get_many("records", [1]),  # noqa: B023
            lambda: list(transaction.scan("records")),  # noqa: B023
            lambda: transaction.put_many("records", [(1, b"")]),  # noqa: B023
            lambda: transaction.delete_many("records", [1]),  # noqa: B023
            transaction.commit,
        ):
            with pytest.raises(pstore.StoreClosed):
                use()
    reader = backend.begin()
    with pytest.raises(pstore.ReadOnlyError):
        reader.put_many("records", [(1, b"")])
    with pytest.raises(pstore.ReadOnlyError):
        reader.delete_many("records", [1])
    reader.commit()


def test_one_writer_at_a_time(backend: Backend) -> None:
    """A second writer waits, and says so when that takes too long."""
    writer = backend.begin(write=True)
    with pytest.raises(pstore.StoreLocked, match="another writer"):
        backend.begin(write=True)
    writer.rollback()
    backend.begin(write=True).rollback()


def test_readers_and_a_writer_in_threads(backend: Backend) -> None:
    """Each snapshot is whole while another thread commits: all rows are of one commit."""
    put(backend, "records", dict.fromkeys(range(20), b"0"))
    stop = threading.Event()
    torn: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            reader = backend.begin()
            first = reader.get_many("records", [0])[0]
            if {row for _, row in reader.scan("records")} != {first} or reader.get_many("records", [19]) != [first]:
                torn.append(first)
            reader.rollback()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(100):
        put(backend, "records", dict.fromkeys(range(20), str(number).encode()))
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_closed_backend_says_so(backend: Backend) -> None:
    """After closing, which may be done twice, nothing can be begun."""
    backend.close()
    backend.close()
    with pytest.raises(pstore.StoreClosed):
        backend.begin()


def test_large_row(backend: Backend) -> None:
    """A row of 64 MB comes back."""
    row = bytes(range(256)) * (64 * 4096)
    put(backend, "records", {1: row})
    reader = backend.begin()
    assert reader.get_many("records", [1]) == [row]
    reader.rollback()


def test_stats_and_compact(backend: Backend) -> None:
    """What a backend tells of itself has its kind; compacting loses nothing."""
    put(backend, "records", dict.fromkeys(range(1000), b"x" * 1000))
    writer = backend.begin(write=True)
    writer.delete_many("records", range(1, 1000))
    writer.commit()
    before = backend.stats()
    backend.compact()
    assert backend.stats()["backend"] == backend.scheme
    assert int(backend.stats()["bytes"]) <= int(before["bytes"])
    reader = backend.begin()
    assert [key for key, _ in reader.scan("records")] == [0]
    reader.rollback()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "commit", "rollback", "scan"]),
        st.integers(0, 20).map(lambda n: EDGES[n] if n < len(EDGES) else n),
        st.binary(max_size=3),
    ),
    max_size=40,
)


@settings(max_examples=50)
@given(STEPS)
@pytest.mark.parametrize("kind", MAKE)
def test_against_a_dict(
    kind: str, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bytes]]
) -> None:
    """Any order of operations leaves what it would leave in a dict."""
    backend = MAKE[kind](tmp_path_factory.mktemp("model"))
    committed: dict[Any, bytes] = {}
    pending: dict[Any, bytes] = {}
    writer = backend.begin(write=True)
    for step, key, row in steps:
        if step == "put":
            writer.put_many("records", [(key, row)])
            pending[key] = row
        elif step == "delete":
            writer.delete_many("records", [key])
            pending.pop(key, None)
        elif step == "scan":
            assert list(writer.scan("records", key)) == sorted((k, r) for k, r in pending.items() if k >= key)
        else:
            getattr(writer, step)()
            committed = dict(pending) if step == "commit" else committed
            pending = dict(committed)
            writer = backend.begin(write=True)
            reader = backend.begin()
            assert dict(reader.scan("records")) == committed
            reader.rollback()
    writer.rollback()
    backend.close()
