"""Cases of rows: which keys and rows there may be, and what get, scan, put and delete do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pstore.backends.base import INT_TABLES, STR_TABLES, TABLES
from pstore.errors import StorageError
from pstore.testing.binding import Binding, look, put, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pstore.backends.base import Backend, Key, Table, Transaction

#: Where integers of one size or sign end.
INTS = [0, 1, 255, 256, 2**31, 2**32 - 1, 2**44, 2**63 - 1, 2**63, 2**64 - 1]
#: By code point, which is their order in UTF-8, and neither in UTF-16 nor in any language.
TEXTS = [
    "",
    "\0",
    "\0\0",
    "A",
    "Z",
    "a",
    "a\0",
    "a\0b",
    "aa",
    "z",
    "é",
    "ä\u0308",
    "\ud7ff",
    "\uffff",
    "\U00010000",
    "\U0001f600",
]
TEXTS.sort()
#: Bytes of the largest row that is tried; a backend may take larger ones.
LARGE = 64 * 2**20


class Whim(Exception):
    """What an iterable of the caller's raises."""


def keys_of(table: Table) -> list[Any]:
    """Return keys at the edges of what a table takes, in order."""
    return list(INTS if table in INT_TABLES else TEXTS)


def failing(item: Any) -> Iterator[Any]:
    """Yield the item, and then fail."""
    yield item
    raise Whim


def fetch(transaction: Transaction, table: Table, keys: Any) -> list[bytes | None]:
    """Return the rows of these keys as bytes."""
    return [None if row is None else bytes(row) for row in transaction.get_many(table, keys)]


class RowCases(Binding):
    """What stands in the four tables, and how it is asked for."""

    @pytest.mark.parametrize("table", TABLES)
    def test_rows_come_back_in_the_order_asked_for(self, backend: Backend, table: Table) -> None:
        """Each key from edge to edge has its row; a key that has none gives None; a key may be asked for twice."""
        keys = keys_of(table)
        put(backend, table, {key: repr(key).encode() for key in keys})
        missing = 77 if table in INT_TABLES else "none"
        asked = [*reversed(keys), missing, keys[1], keys[1], keys[-1], missing]
        reader = backend.begin()
        assert fetch(reader, table, asked) == [None if key == missing else repr(key).encode() for key in asked]
        assert fetch(reader, table, [missing]) == [None]
        assert reader.get_many(table, []) == []
        reader.rollback()

    @pytest.mark.parametrize("table", TABLES)
    def test_an_empty_row_is_a_row(self, backend: Backend, table: Table) -> None:
        """A row of no bytes isn't the same as no row."""
        first, second, *_ = keys_of(table)
        put(backend, table, {first: b""})
        reader = backend.begin()
        assert fetch(reader, table, [first, second]) == [b"", None]
        assert [(key, bytes(row)) for key, row in reader.scan(table)] == [(first, b"")]
        reader.rollback()

    def test_rows_are_bytes_or_memoryviews(self, backend: Backend) -> None:
        """A row comes back as bytes or a memoryview of bytes; a key as the int or str that it is."""
        for table in TABLES:
            put(backend, table, dict.fromkeys(keys_of(table), b"\x00\xff"))
        reader = backend.begin()
        for table in TABLES:
            for key, row in reader.scan(table):
                assert type(key) is (int if table in INT_TABLES else str)
                assert type(row) in {bytes, memoryview}
                assert len(row) == 2
            assert all(type(row) in {bytes, memoryview} for row in reader.get_many(table, keys_of(table)))
        reader.rollback()

    def test_the_tables_are_apart(self, backend: Backend) -> None:
        """The same key in two tables is two rows."""
        for table in TABLES:
            put(backend, table, {keys_of(table)[1]: table.encode()})
        assert look(backend) == {table: {keys_of(table)[1]: table.encode()} for table in TABLES}
        writer = backend.begin(write=True)
        writer.delete_many("records", [1])
        writer.delete_many("meta", [TEXTS[1]])
        writer.commit()
        assert {table for table, rows in look(backend).items() if rows} == {"names", "log"}

    def test_thousands_of_rows(self, backend: Backend) -> None:
        """Many rows are put, asked for, scanned and deleted in one call each."""
        keys = [(n * 2_654_435_761) % 2**64 for n in range(20_000)]  # spread, and in no order
        put(backend, "records", {key: str(key).encode() for key in keys})
        put(backend, "names", {str(key): b"n" for key in keys[:5000]})
        reader = backend.begin()
        assert fetch(reader, "records", keys) == [str(key).encode() for key in keys]
        assert fetch(reader, "records", range(2000)) == [b"0"] + [None] * 1999
        assert [(key, bytes(row)) for key, row in reader.scan("records")] == [
            (k, str(k).encode()) for k in sorted(keys)
        ]
        assert fetch(reader, "names", [str(key) for key in keys]) == [b"n"] * 5000 + [None] * 15_000
        reader.rollback()
        writer = backend.begin(write=True)
        writer.delete_many("records", iter(keys[1:]))
        writer.commit()
        assert rows_of(backend, "records") == {0: b"0"}

    @pytest.mark.parametrize("table", TABLES)
    def test_scan_is_ordered_and_bounded(self, backend: Backend, table: Table) -> None:
        """Integers are unsigned, texts ordered by code point; the start is included, the stop left out; bounds may cross."""
        keys = keys_of(table)
        put(backend, table, {key: repr(key).encode() for key in reversed(keys)})
        bounds: list[Any] = [*keys, *([3, 2**63 + 1, 2**64] if table in INT_TABLES else ["B", "a\0a", "\U0010ffff"])]
        reader = backend.begin()
        for start in (None, *bounds):
            for stop in (None, *bounds):
                expected = [k for k in keys if (start is None or start <= k) and (stop is None or k < stop)]
                found = list(reader.scan(table, start, stop))
                assert [key for key, _ in found] == expected
                assert all(bytes(row) == repr(key).encode() for key, row in found)
        reader.rollback()

    def test_a_scan_of_nothing(self, backend: Backend) -> None:
        """A table that is empty, always or again, has nothing to yield."""
        reader = backend.begin()
        assert [list(reader.scan(table)) for table in TABLES] == [[]] * 4
        reader.rollback()
        put(backend, "log", {5: b"row"})
        writer = backend.begin(write=True)
        writer.delete_many("log", [5])
        assert list(writer.scan("log")) == []
        writer.commit()
        assert look(backend)["log"] == {}

    def test_scans_side_by_side(self, backend: Backend) -> None:
        """Scans of one transaction, of one table or several, don't disturb each other, nor do rows that are asked for."""
        put(backend, "records", dict.fromkeys(range(1000), b"r"))
        put(backend, "names", {f"{n:04}": b"n" for n in range(1000)})
        reader = backend.begin()
        scans = zip(reader.scan("records"), reader.scan("records", 0, 1000), reader.scan("names"), strict=True)
        for n, ((one, _), (two, _), (name, _)) in enumerate(scans):
            assert (one, two, name) == (n, n, f"{n:04}")
            if not n % 100:
                assert fetch(reader, "records", [999 - n, 1000]) == [b"r", None]
                assert next(iter(reader.scan("records", n)))[0] == n
        reader.rollback()

    def test_put_replaces(self, backend: Backend) -> None:
        """The last row that is put under a key is the one that is there, also within one call."""
        put(backend, "names", {"key": b"a row that is longer than the next"})
        put(backend, "names", {"key": b"short"})
        assert rows_of(backend, "names") == {"key": b"short"}
        writer = backend.begin(write=True)
        writer.put_many("names", [("key", b"1"), ("other", b"2"), ("key", b"3")])
        writer.put_many("names", [])
        assert fetch(writer, "names", ["key", "other"]) == [b"3", b"2"]
        writer.commit()
        assert rows_of(backend, "names") == {"key": b"3", "other": b"2"}

    def test_delete_passes_over_what_is_not_there(self, backend: Backend) -> None:
        """Deleting a key that has no row, or twice, or nothing, does nothing; what was deleted can be put again."""
        put(backend, "records", {1: b"1", 2: b"2"})
        writer = backend.begin(write=True)
        writer.delete_many("records", [7, 1, 1, 2**64 - 1])
        writer.delete_many("records", [])
        writer.delete_many("names", ["none", ""])
        assert fetch(writer, "records", [1, 2]) == [None, b"2"]
        writer.commit()
        assert rows_of(backend, "records") == {2: b"2"}
        writer = backend.begin(write=True)
        writer.delete_many("records", [2])
        writer.put_many("records", [(2, b"again"), (1, b"again")])
        writer.delete_many("records", [1])
        writer.commit()
        assert rows_of(backend, "records") == {2: b"again"}

    def test_items_may_come_from_a_generator(self, backend: Backend) -> None:
        """Rows and keys are given by any iterable, which is gone through once."""
        writer = backend.begin(write=True)
        writer.put_many("log", ((n, b"%d" % n) for n in range(10)))
        writer.delete_many("log", (n for n in range(0, 10, 2)))
        writer.commit()
        assert rows_of(backend, "log") == {n: b"%d" % n for n in range(1, 10, 2)}

    def test_an_iterable_that_fails(self, backend: Backend) -> None:
        """What the caller's own iterable raises comes through as it is, and the rollback leaves the store as it was."""
        put(backend, "records", {1: b"old", 2: b"old"})
        fails: list[Callable[[Transaction], None]] = [
            lambda writer: writer.put_many("records", failing((1, b"new"))),
            lambda writer: writer.delete_many("records", failing(2)),
        ]
        for fail in fails:
            writer = backend.begin(write=True)
            writer.put_many("names", [("before", b"")])
            with pytest.raises(Whim):
                fail(writer)
            writer.rollback()
        assert look(backend) == {"records": {1: b"old", 2: b"old"}, "log": {}, "names": {}, "meta": {}}
        put(backend, "records", {3: b"new"})
        assert rows_of(backend, "records") == {1: b"old", 2: b"old", 3: b"new"}

    def test_large_rows(self, backend: Backend) -> None:
        """A row of 64 MB, or the largest that the engine takes, comes back, beside small ones."""
        size = min(LARGE, backend.capabilities.largest_row or LARGE)
        row = (bytes(range(256)) * (size // 256 + 1))[:size]
        put(backend, "records", {1: b"small", 2: row, 3: b"small"})
        reader = backend.begin()
        assert fetch(reader, "records", [3, 2, 1]) == [b"small", row, b"small"]
        assert [len(found) for _, found in reader.scan("records")] == [5, size, 5]
        reader.rollback()
        put(backend, "records", {2: b"small"})
        assert set(rows_of(backend, "records").values()) == {b"small"}

    def test_a_row_that_is_too_large(self, backend: Backend) -> None:
        """A row of more bytes than the engine takes is refused, and the store is as it was."""
        largest = backend.capabilities.largest_row
        if largest is None:
            pytest.skip(f"a {backend.scheme} store has no bound for rows")
        put(backend, "records", {1: b"old"})
        self._refused(backend, "records", 1, bytes(largest + 1))
        assert rows_of(backend, "records") == {1: b"old"}

    @pytest.mark.parametrize("table", STR_TABLES)
    def test_long_keys(self, backend: Backend, table: Table) -> None:
        """A key of 1,000 characters, or the longest that the engine takes, is a key like any other."""
        longest = min(4000, backend.capabilities.longest_name or 4000)
        key = "\U0001f600" * (longest // 4) + "x" * (longest % 4)
        assert len(key.encode()) == longest
        put(backend, table, {key: b"long", key[:-1]: b"shorter", key[:-1] + "\0": b"before"})
        before = key[:-1] + "\0"
        assert list(rows_of(backend, table).items()) == [(key[:-1], b"shorter"), (before, b"before"), (key, b"long")]
        writer = backend.begin(write=True)
        assert fetch(writer, table, [key, before]) == [b"long", b"before"]
        writer.delete_many(table, [key, before])
        writer.commit()
        assert rows_of(backend, table) == {key[:-1]: b"shorter"}

    @pytest.mark.parametrize("table", STR_TABLES)
    def test_a_key_that_is_too_long(self, backend: Backend, table: Table) -> None:
        """A key of more bytes than the engine takes can't be put, has no row, and may bound a scan."""
        longest = backend.capabilities.longest_name
        if longest is None:
            pytest.skip(f"a {backend.scheme} store has no bound for keys")
        put(backend, table, {"a": b"old", "z": b"old"})
        too_long: Key = "é" * (longest // 2) + "x" * (1 + longest % 2)
        self._refused(backend, table, too_long, b"new")
        writer = backend.begin(write=True)
        assert fetch(writer, table, ["a", too_long]) == [b"old", None]
        writer.delete_many(table, [too_long])
        assert [key for key, _ in writer.scan(table, "m" * (longest + 1))] == ["z"]
        assert [key for key, _ in writer.scan(table, None, "m" * (longest + 1))] == ["a"]
        writer.rollback()
        assert rows_of(backend, table) == {"a": b"old", "z": b"old"}

    def _refused(self, backend: Backend, table: Table, key: Key, row: bytes) -> None:
        """Putting the row is refused, and the transaction is rolled back."""
        writer = backend.begin(write=True)
        writer.put_many(table, [(keys_of(table)[3], b"new")])
        with pytest.raises(StorageError):
            writer.put_many(table, [(key, row)])
        writer.rollback()
