"""Cases of a store's life: flags, closing, opening again, compacting, copying, and what a backend tells of itself."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from pstore.backends.base import TABLES, Backend
from pstore.errors import ReadOnlyError, StorageError, StoreClosed, StoreLocked, StoreNotFound
from pstore.testing.binding import HASTY, Binding, content, look, put, rows_of
from pstore.testing.rows import fetch, keys_of
from pstore.testing.transactions import USES, WRITES

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends.base import Key, Table
    from pstore.testing.binding import Opening


def fill(backend: Backend) -> dict[Table, dict[Key, bytes]]:
    """Put rows into all tables; return what the store holds then."""
    for table in TABLES:
        put(backend, table, {key: repr((table, key)).encode() for key in keys_of(table)})
    return look(backend)


class LifetimeCases(Binding):
    """From the opening of a store to its closing, and to the next opening."""

    # ---------------------------------------------------------------------------------------------------- closing

    def test_a_closed_backend_says_so(self, backend: Backend) -> None:
        """After closing, which may be done twice, nothing can be begun."""
        backend.begin(write=True).commit()
        backend.close()
        backend.close()
        for write in (False, True):
            with pytest.raises(StoreClosed):
                backend.begin(write=write)

    def test_closing_ends_what_is_open(self, backend: Backend) -> None:
        """Transactions that are open when the backend is closed are over: each use is refused, a rollback does nothing."""
        fill(backend)
        reader, writer, scanning = backend.begin(), backend.begin(write=True), backend.begin()
        writer.put_many("records", [(1, b"new")])
        scan = iter(scanning.scan("records"))
        next(scan)
        backend.close()
        for transaction in (reader, writer, scanning):
            for name, use in USES.items():
                # A reader may look at what it is before it looks at whether it is open.
                refused = (StoreClosed, ReadOnlyError) if name in WRITES and transaction is not writer else StoreClosed
                with pytest.raises(refused):
                    use(transaction)
            transaction.rollback()
        with pytest.raises(StoreClosed):
            next(scan)
        backend.close()

    # ---------------------------------------------------------------------------------------------------- opening

    @pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])
    def test_commits_are_there_when_it_is_opened_again(self, lasting: Backend, opening: Opening, durable: bool) -> None:
        """What was committed is there in all tables; what was rolled back, or open when the store was closed, isn't."""
        lasting.close()
        backend = opening("w", durable=durable)
        expected = fill(backend)
        writer = backend.begin(write=True)
        writer.put_many("records", [(2, b"rolled back")])
        writer.rollback()
        writer = backend.begin(write=True)
        writer.put_many("records", [(3, b"open")])
        writer.delete_many("names", [""])
        reader = backend.begin()
        backend.close()
        backend = opening("w", durable=durable)
        assert look(backend) == expected
        writer.rollback()
        reader.rollback()
        put(backend, "records", {2: b"committed"})
        writer = backend.begin(write=True)
        writer.delete_many("records", [0])
        writer.commit()
        backend.close()
        found = rows_of(opening("c", durable=durable), "records")
        assert found == dict(sorted({**expected["records"], 2: b"committed"}.items())[1:])

    def test_opening_again_and_again(self, lasting: Backend, opening: Opening) -> None:
        """Each of many openings has what the ones before have committed."""
        lasting.close()
        for n in range(20):
            backend = opening("w")
            put(backend, "log", {n: b"%d" % n})
            assert rows_of(backend, "log") == {k: b"%d" % k for k in range(n + 1)}
            backend.close()

    @pytest.mark.parametrize("flag", ["r", "w"])
    def test_what_is_not_there_is_not_found(
        self, lasting: Backend, opening: Opening, tmp_path: Path, flag: str
    ) -> None:
        """With "r" and "w" a missing store is an error, and isn't made."""
        assert lasting.capabilities.lasting
        empty = tmp_path / "empty"
        empty.mkdir()
        for _ in range(2):
            with pytest.raises(StoreNotFound):
                opening(flag, directory=empty)
        assert look(opening("c", directory=empty)) == {table: {} for table in TABLES}

    def test_flags(self, lasting: Backend, opening: Opening) -> None:
        """What is there is kept with "c" and "w", and gone with "n"; all three can write."""
        expected = fill(lasting)
        assert not lasting.readonly
        for flag in "cw":
            lasting.close()
            lasting = opening(flag)
            assert look(lasting) == expected
            assert not lasting.readonly
        for _ in range(2):
            lasting.close()
            lasting = opening("n")
            assert look(lasting) == {table: {} for table in TABLES}
            put(lasting, "names", {"new": b"row"})
            lasting.close()
            lasting = opening("w")
            assert rows_of(lasting, "names") == {"new": b"row"}

    def test_new_where_nothing_is(self, opening: Opening, tmp_path: Path) -> None:
        """A missing store is made with "n", too."""
        empty = tmp_path / "empty"
        empty.mkdir()
        backend = opening("n", directory=empty)
        put(backend, "names", {"new": b"row"})
        assert rows_of(backend, "names") == {"new": b"row"}

    def test_opened_for_reading(self, lasting: Backend, opening: Opening) -> None:
        """With "r" everything is there to be read, and nothing to be changed."""
        expected = fill(lasting)
        lasting.close()
        backend = opening("r")
        assert backend.readonly
        assert look(backend) == expected
        with pytest.raises(ReadOnlyError):
            backend.begin(write=True)
        reader = backend.begin()
        with pytest.raises(ReadOnlyError):
            reader.put_many("records", [(1, b"new")])
        with pytest.raises(ReadOnlyError):
            reader.delete_many("records", [1])
        reader.commit()
        backend.close()
        assert look(opening("w")) == expected

    def test_two_openings(self, lasting: Backend, opening: Opening) -> None:
        """A shared store may be open twice: both see all commits, and exclude each other's writers. Another is refused."""
        put(lasting, "records", {1: b"first"})
        if not lasting.capabilities.shared:
            for flag in "cwrn":
                with pytest.raises(StoreLocked):
                    opening(flag, timeout=HASTY)
            assert rows_of(lasting, "records") == {1: b"first"}
            lasting.close()
            assert rows_of(opening("w"), "records") == {1: b"first"}
            return
        second = opening("w", timeout=HASTY)
        old = second.begin()
        put(lasting, "records", {2: b"second"})
        assert rows_of(second, "records") == {1: b"first", 2: b"second"}
        put(second, "records", {3: b"third"})
        assert content(old)["records"] == {1: b"first"}
        writer = lasting.begin(write=True)
        assert fetch(writer, "records", [3]) == [b"third"]
        with pytest.raises(StoreLocked):
            second.begin(write=True)
        writer.commit()
        lasting.close()
        assert content(old)["records"] == {1: b"first"}
        put(second, "records", {4: b"fourth"})
        old.rollback()
        second.close()
        assert list(rows_of(opening("r"), "records")) == [1, 2, 3, 4]

    # ------------------------------------------------------------------------------------------- compacting, copying

    def test_compact(self, backend: Backend) -> None:
        """Compacting loses nothing, and takes no more room than before; the store can be used after it."""
        put(backend, "records", dict.fromkeys(range(1000), b"x" * 1000))
        put(backend, "names", {"a": b"row"})
        writer = backend.begin(write=True)
        writer.delete_many("records", range(1, 1000))
        writer.commit()
        before = backend.stats()
        backend.compact()
        sizes = [
            sum(v for k, v in told.items() if "bytes" in k and isinstance(v, int)) for told in (before, backend.stats())
        ]
        assert sizes[1] <= sizes[0]
        assert look(backend) == {"records": {0: b"x" * 1000}, "names": {"a": b"row"}, "log": {}, "meta": {}}
        put(backend, "records", {5: b"new"})
        backend.compact()
        assert list(rows_of(backend, "records")) == [0, 5]

    @pytest.mark.parametrize("write", [False, True], ids=["reader", "writer"])
    def test_compact_meanwhile(self, backend: Backend, opening: Opening, write: bool) -> None:
        """Beside an open transaction compacting works, or says that the transaction is in the way; it disturbs nothing."""
        if backend.capabilities.lasting:
            backend.close()
            backend = opening(timeout=HASTY)
        expected = fill(backend)
        transaction = backend.begin(write=write)
        if write:
            transaction.put_many("records", [(5, b"new")])
        with suppress(StoreLocked):
            backend.compact()
        assert fetch(transaction, "records", [0, 5]) == [expected["records"][0], b"new" if write else None]
        transaction.commit()
        backend.compact()
        assert look(backend)["names"] == expected["names"]
        assert rows_of(backend, "records").get(5) == (b"new" if write else None)

    def test_compact_of_what_is_closed(self, backend: Backend, opening: Opening) -> None:
        """A closed backend compacts nothing, and one for reading loses nothing by being asked."""
        expected = fill(backend)
        backend.close()
        if type(backend).compact is not Backend.compact:
            with pytest.raises(StoreClosed):
                backend.compact()
        if backend.capabilities.lasting:
            backend = opening("r")
            with suppress(ReadOnlyError):
                backend.compact()
            assert look(backend) == expected

    def test_backup(self, backend: Backend, opening: Opening, tmp_path: Path) -> None:
        """A copy is a store of its own with the newest commits, and nothing that isn't committed."""
        expected = fill(backend)
        target = self._target(backend, tmp_path)
        old = backend.begin()
        put(backend, "records", {5: b"newest"})
        writer = backend.begin(write=True)
        writer.put_many("records", [(6, b"not committed")])
        backend.backup(target)
        writer.rollback()
        assert content(old) == expected
        old.rollback()
        put(backend, "records", {7: b"later"})
        copy = opening("w", directory=tmp_path / "copy")
        expected["records"][5] = b"newest"
        assert look(copy) == expected
        put(copy, "names", {"of the copy": b""})
        assert "of the copy" not in rows_of(backend, "names")
        assert 7 not in rows_of(copy, "records")

    def test_backup_to_where_something_is(self, backend: Backend, opening: Opening, tmp_path: Path) -> None:
        """An existing target is refused and stays as it is; so is one that can't be written, and then there is no copy."""
        fill(backend)
        target = self._target(backend, tmp_path)
        copy = opening("c", directory=tmp_path / "copy")
        put(copy, "names", {"a": b"copy"})
        copy.close()
        with pytest.raises(StorageError):
            backend.backup(target)
        assert rows_of(opening("w", directory=tmp_path / "copy"), "names") == {"a": b"copy"}
        missing = tmp_path / "missing" / "deeper" / target.name
        with pytest.raises(StorageError):
            backend.backup(missing)
        assert not missing.parent.exists()

    def test_no_backup(self, backend: Backend, tmp_path: Path) -> None:
        """A backend with no means for a copy says so, and makes nothing."""
        if backend.capabilities.backup:
            pytest.skip(f"a {backend.scheme} store can be copied by its own means")
        with pytest.raises(StorageError, match=backend.scheme):
            backend.backup(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def _target(self, backend: Backend, directory: Path) -> Path:
        if not backend.capabilities.backup:
            pytest.skip(f"a {backend.scheme} store has no means of its own for a copy")
        (directory / "copy").mkdir()
        target = self.store_path(directory / "copy")
        if target is None:
            pytest.fail("a backend that claims `Capabilities.backup` needs `Binding.store_path` for its tests")
        return target

    # ----------------------------------------------------------------------------------------- what it tells of itself

    def test_stats(self, backend: Backend) -> None:
        """What a backend tells of itself has its kind, and else numbers and texts by name; also of an empty store."""
        for _ in range(2):
            told = backend.stats()
            assert told["backend"] == backend.scheme
            assert all(type(name) is str and type(value) in {int, str} for name, value in told.items())
            assert all(value >= 0 for value in told.values() if isinstance(value, int))
            fill(backend)

    def test_its_name(self, backend: Backend, tmp_path: Path) -> None:
        """A backend shows as what a person knows it by, without the secrets of its URL, open and closed."""
        secret = unquote(urlsplit(self.url(tmp_path) or "").password or "")
        for _ in range(2):
            assert str(backend)
            assert "object at 0x" not in str(backend)
            if secret:
                shown = f"{backend} {backend!r} {backend.stats() if not _ else ''}"
                assert secret not in shown
            backend.close()

    def test_what_it_claims(self, backend: Backend) -> None:
        """A backend's scheme could stand in a URL, and its bounds leave room for what a store writes."""
        capabilities: Any = backend.capabilities
        assert backend.scheme == backend.scheme.lower()
        assert urlsplit(f"{backend.scheme}:").scheme == backend.scheme
        assert capabilities.longest_name is None or capabilities.longest_name >= 100
        assert capabilities.largest_row is None or capabilities.largest_row >= 2**16
