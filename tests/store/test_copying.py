"""Copying a store from any backend to any other."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import kinds
import pytest
from places import KINDS
from shop import Node, Plain
from wrapping import Wrapper

import pstore
from pstore import rows
from pstore.backends import MemoryBackend, SqliteBackend
from pstore.backends.base import TABLES, Capabilities
from pstore.keys import make_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from places import Kind

    from pstore.backends import Backend


class Failing:
    """Fails at the n-th call that changes anything."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, verb: str) -> None:
        if verb not in {"put", "commit"}:
            return
        self.left -= 1
        if not self.left:
            raise pstore.StorageError(f"no room left for this {verb}")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[pstore.Store]:
    """A store with a few commits in it, in a file."""
    with pstore.open(tmp_path / "source.db", allow=["shop"], durable=False) as db:
        db["chain"] = first = Node(0)
        for number in range(1, 40):
            first.following = Node(number)
            first = first.following
        db.commit("a chain")
        for number in range(30):
            db[f"name {number}"] = Plain(number=number, text="x" * number)
        db.commit("names")
        db["name 7"].text = "changed"
        del db["name 8"]
        db.commit("a change")
        yield db


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions of few rows, so that a small store takes many of them."""
    monkeypatch.setattr("pstore.copying._MOST_ROWS", 7)


def content(backend: Backend) -> dict[str, dict[Any, bytes]]:
    """Every row of a store, but for its id."""
    reader = backend.begin()
    try:
        found = {table: {key: bytes(row) for key, row in reader.scan(table)} for table in TABLES}
    finally:
        reader.rollback()
    found["meta"].pop("id", None)
    return found


def picture(db: pstore.Store) -> dict[str, tuple[int | None, bytes]]:
    """The key and the whole value of what stands under each name."""
    return {name: (db.key_of(db[name]), pstore.pickle.dumps(db[name], canonical=True)) for name in db}


def test_round_all_kinds_and_back(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A store that is copied round all kinds of backends and back is equal, object by object, keys included."""
    allowed = ["kinds", "shop"]
    start = tmp_path / "start.db"
    with pstore.open(start, allow=allowed) as db:
        db["kinds"] = {name: kind.make() for name, kind in kinds.KINDS.items()}
        for name, kind in kinds.KINDS.items():
            db[name] = kind.make()
        db["shared"] = shared = [1, [2]]
        db["again"] = {"shared": shared, "cycle": db["kinds"]}
        db["large"] = bytes(range(256)) * 40_000
        db["buffer"] = Plain(buffer=bytearray(300_000))
        db["ä" * 100 + "\U0001f600"] = ("a", 2**100, None, 1.5)
        db.commit("all kinds")
        db["node"] = Node(1, Node(2))
        db.commit("more")
        expected = picture(db)
    with pstore.open(start, "r", allow=allowed) as db:
        assert picture(db) == expected
        before, last = content(db.backend), db.backend
        for name, kind in KINDS.items():
            if kind.missing:
                continue
            directory = tmp_path / name
            directory.mkdir()
            backend = kind.make(directory)
            request.addfinalizer(backend.close)
            report = pstore.copy(last, backend)
            assert content(backend) == before, name
            assert (report.revision, report.written) == (2, report.rows)
            last = backend
        pstore.copy(last, tmp_path / "end.db")
    with pstore.open(tmp_path / "end.db", "r", allow=allowed) as db:
        assert picture(db) == expected
        assert content(db.backend) == before


def test_every_key_and_row(any_kind: Kind, tmp_path: Path) -> None:
    """The least and the greatest keys, empty bodies and long texts are copied as any other row."""
    backend = MemoryBackend()
    with pstore.open(backend) as db:
        db["n"] = 1
    keys = [0, 1, 2**44, 2**63 - 1, 2**63, 2**64 - 1]
    (tmp_path / "copy").mkdir()
    target = any_kind.make(tmp_path / "copy")
    longest = target.capabilities.longest_name or 2000
    with_names = ["", "\0", "a", "a\0", "ä" * (longest // 2), "\uffff", "\U00010000"]
    writer = backend.begin(write=True)
    writer.put_many("records", [(key, rows.seal(rows.record_place(key), b"")) for key in keys])
    writer.put_many("log", [(key, rows.seal(rows.log_place(key), b"l")) for key in keys])
    writer.put_many("names", [(name, rows.seal(rows.name_place(name), b"n")) for name in with_names])
    writer.commit()
    try:
        pstore.copy(backend, target)
        assert content(target) == content(backend)
    finally:
        target.close()


def test_by_path_url_store_and_backend(source: pstore.Store, tmp_path: Path) -> None:
    """Source and target may be a path, a URL, a backend or a mapping, the source also an open store.

    What isn't committed stays out.
    """
    source["uncommitted"] = 1
    expected = content(source.backend)
    first = pstore.copy(source, tmp_path / "1.db")
    pstore.copy(tmp_path / "1.db", f"sqlite:///{tmp_path / '2.db'}")
    pstore.copy(f"sqlite:///{tmp_path / '2.db'}", str(tmp_path / "3.db"), durable=False)
    backend = MemoryBackend()
    assert pstore.copy(str(tmp_path / "3.db"), backend) == first
    assert content(backend) == expected
    mapping: dict[bytes, bytes] = {}
    assert pstore.copy(tmp_path / "3.db", mapping) == first
    assert pstore.copy(mapping, tmp_path / "5.db") == first
    assert first.revision == source.revision == 3
    assert first.rows == sum(len(found) for found in expected.values()) - 1  # the counters aren't counted
    del source["uncommitted"]
    for bad in (5, None, source.session):
        with pytest.raises(TypeError, match="path, URL, backend or mapping"):
            pstore.copy(bad, tmp_path / "4.db")
        with pytest.raises(TypeError, match="path, URL, backend or mapping"):
            pstore.copy(source, bad)


def test_a_copy_is_a_store_of_its_own(source: pstore.Store, tmp_path: Path) -> None:
    """Both go on by themselves, and a session that was open on what was there before the copy says so."""
    target = MemoryBackend()
    other = pstore.open(target, allow=["shop"])
    assert len(other) == 0
    other.rollback()
    writer = target.begin(write=True)
    for table in TABLES:
        writer.delete_many(table, [key for key, _ in list(writer.scan(table))])
    writer.commit()
    pstore.copy(source, target)
    with pytest.raises(pstore.StoreClosed, match="emptied"):
        len(other)
    other._close()
    with pstore.open(target, allow=["shop"]) as db:
        new = db["new"] = Node(1)
        db["name 7"].text = "changed again"
        db.commit()
        assert db.revision == 4
        assert db.key_of(new) not in content(source.backend)["records"]
    assert "new" not in source
    assert source["name 7"].text == "changed"


def test_refused_targets(source: pstore.Store, tmp_path: Path) -> None:
    """A place that holds a store or other rows isn't written to, nor is one made where there is no source."""
    with pstore.open(tmp_path / "other.db") as db:
        db["kept"] = 1
    with pytest.raises(pstore.StorageError, match=r"a store at .*other.db already"):
        pstore.copy(source, tmp_path / "other.db")
    with pytest.raises(pstore.StorageError, match=r"a store at .*source.db already"):
        pstore.copy(source, tmp_path / "source.db")
    with pstore.open(tmp_path / "other.db", "r") as db:
        assert db["kept"] == 1
    with pytest.raises(pstore.StoreNotFound):
        pstore.copy(tmp_path / "none.db", tmp_path / "new.db")
    with pytest.raises(pstore.FormatError, match="there is no store"):
        pstore.copy(MemoryBackend(), tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    lost = MemoryBackend()
    writer = lost.begin(write=True)
    writer.put_many("records", [(1, b"of a store whose counters are gone")])
    writer.commit()
    with pytest.raises(pstore.StorageError, match="rows of something else"):
        pstore.copy(source, lost)
    assert content(lost)["records"] == {1: b"of a store whose counters are gone"}
    reading = SqliteBackend(tmp_path / "other.db", "r")
    with pytest.raises(pstore.ReadOnlyError):
        pstore.copy(source, reading)
    reading.close()


def test_unfinished_is_no_store(source: pstore.Store, tmp_path: Path, small_batches: None) -> None:
    """Until a copy is whole its target can't be opened nor copied, and takes no copy of another store."""
    target = Wrapper(MemoryBackend())
    target.before = Failing(8)
    with pytest.raises(pstore.StorageError, match="no room left"):
        pstore.copy(source, target)
    for flag in ("r", "c"):
        target.readonly = flag == "r"
        with pytest.raises(pstore.FormatError, match=r"isn't finished: call pstore\.copy again"):
            pstore.open(target)
    target.readonly = False
    with pytest.raises(pstore.FormatError, match="unfinished copy"):
        pstore.copy(target, tmp_path / "new.db")
    with pstore.open(tmp_path / "other.db") as other:
        other["a"] = 1
        other.commit()
        with pytest.raises(pstore.StorageError, match="unfinished copy of another store"):
            pstore.copy(other, target)
    report = pstore.copy(source, target)
    assert report.written < report.rows
    assert content(target) == content(source.backend)


def test_no_room_at_any_write(source: pstore.Store, small_batches: None) -> None:
    """Whichever write or commit of the target fails, the target is no store, and the same call finishes it."""
    at = 0
    whole = False
    while not whole:
        at += 1
        target = Wrapper(MemoryBackend())
        target.before = Failing(at)
        try:
            pstore.copy(source, target)
            whole = True
        except pstore.StorageError:
            there = content(target)
            assert at <= 2 or there["meta"]
            if there["meta"]:
                with pytest.raises(pstore.FormatError, match="isn't finished"):
                    pstore.open(target)
            report = pstore.copy(source, target)
            assert report.rows - report.written == sum(len(there[table]) for table in ("records", "names", "log"))
        assert content(target) == content(source.backend)
    assert at > 30


def test_source_changed_between(source: pstore.Store, small_batches: None) -> None:
    """A copy that is gone on with after commits to the source is that of the newest state, whole."""
    for at in range(3, 40, 4):
        target = Wrapper(MemoryBackend())
        target.before = Failing(at)
        with pytest.raises(pstore.StorageError):
            pstore.copy(source, target)
        node = source["chain"]
        while node.following is not None:
            node.number += 1
            node = node.following
        node.following = Node(at)
        source[f"added {at}"] = [at]
        source[f"name {at % 7}"] = at
        source[f"of no record {at}"] = at
        source.pop(f"of no record {at - 4}", None)
        source.commit(f"change {at}")
        report = pstore.copy(source, target)
        assert report.revision == source.revision
        assert content(target) == content(source.backend)
        with pstore.open(target, allow=["shop"]) as db:
            assert picture(db) == picture(source)


def test_what_the_source_has_no_more(source: pstore.Store, small_batches: None) -> None:
    """Rows that were removed from the source since are removed from the target, at the ends of tables too."""
    target = Wrapper(MemoryBackend())
    target.before = Failing(28)
    with pytest.raises(pstore.StorageError):
        pstore.copy(source, target)
    records = sorted(content(target)["records"])
    assert len(records) > 10
    writer = source.backend.begin(write=True)
    writer.delete_many("records", [records[0], records[5], *sorted(content(source.backend)["records"])[20:]])
    writer.delete_many("names", ["chain", "name 9"])
    writer.commit()
    pstore.copy(source, target)
    assert content(target) == content(source.backend)


PROGRAM = """
import sys, pstore
pstore.copying._MOST_ROWS = 50
def tell(progress):
    print(progress.rows, progress.verified, flush=True)
print(pstore.copy(sys.argv[1], sys.argv[2], progress=tell).written)
"""


def test_killed_at_random(tmp_path: Path) -> None:
    """Killed in the middle again and again, a copy gets on, is no store before it is whole, and is equal in the end."""
    with pstore.open(tmp_path / "source.db", allow=["shop"], durable=False) as db:
        for number in range(3000):
            db[f"{number}"] = Node(number)
        db.commit()
        expected = content(db.backend)
    chance, written, killed = random.Random(5), [], 0
    target = tmp_path / "target.db"
    while True:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "source.db"), str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(chance.randrange(1, 20) if killed < 8 else 10_000):
                line = process.stdout.readline()
                if not line:
                    break
                written.append(line)
            time.sleep(chance.random() * 0.005)
            if process.poll() is None and killed < 8:
                process.send_signal(signal.SIGKILL)
                killed += 1
                process.wait()
                with pytest.raises(pstore.FormatError, match="isn't finished"):
                    pstore.open(target, "r")
                continue
        assert process.returncode == 0
        break
    assert killed == 8
    assert 0 < int(written[-1]) < 6000
    backend = SqliteBackend(target, "r")
    assert content(backend) == expected
    backend.close()


def test_damage_in_the_source(source: pstore.Store) -> None:
    """A damaged row isn't copied: the error names it, and the target doesn't become a store."""
    for table, key, what in (
        ("records", max(content(source.backend)["records"]), r"the record of .*Plain#\d+ in .*source.db is damaged"),
        ("names", "name 9", r"the name 'name 9' in .*source.db is damaged"),
        ("log", 2, "row 2 of the log in .*source.db is damaged"),
        ("meta", "head", "the meta row 'head' in .* is damaged"),
    ):
        good = content(source.backend)[table][key]
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        put(source.backend, table, key, bytes(bad))
        target = MemoryBackend()
        with pytest.raises(pstore.CorruptRecord, match=what) as caught:
            pstore.copy(source.backend, target)
        assert caught.value.key == (key if table == "records" else None)
        assert caught.value.name == (key if table in ("names", "meta") else None)
        assert "head" not in content(target)["meta"]
        put(source.backend, table, key, good)
        pstore.copy(source.backend, target)
        assert content(target) == content(source.backend)


def put(backend: Backend, table: Any, key: Any, row: bytes) -> None:
    """Write one row."""
    writer = backend.begin(write=True)
    writer.put_many(table, [(key, row)])
    writer.commit()


def test_the_target_is_read_back(source: pstore.Store) -> None:
    """A target that keeps something else than it was given is found out, for every row, and is no store."""
    for table in ("records", "names", "log"):
        for key in list(content(source.backend)[table])[::9]:
            target = Wrapper(MemoryBackend())
            target.stored = lambda into, at, row: row[:-1] + b"?" if (into, at) == (table, key) else row  # noqa: B023
            with pytest.raises(pstore.CorruptRecord, match="isn't in wrapper: as it was written"):
                pstore.copy(source, target)
            with pytest.raises(pstore.FormatError):
                pstore.open(target)
            target.stored = lambda into, at, row: row
            assert pstore.copy(source, target).written == 1
            assert content(target) == content(source.backend)


def test_limits_of_the_target(source: pstore.Store) -> None:
    """A name or a record that is too large for the target is told with its size and the target's, before it is tried."""
    source["n" * 300] = Plain(data=b"x" * 5000)
    source.commit()
    target = Wrapper(MemoryBackend(), Capabilities(longest_name=255))
    with pytest.raises(pstore.StorageError, match=r"the name 'n+' takes 300 bytes in UTF-8, and wrapper: takes 255"):
        pstore.copy(source, target)
    target = Wrapper(MemoryBackend(), Capabilities(largest_row=4000))
    with pytest.raises(pstore.StorageError, match=r"record of Plain#\d+ has 5\d\d\d bytes, and wrapper: takes 4000"):
        pstore.copy(source, target)
    assert "head" not in content(target)["meta"]
    with pytest.raises(pstore.StorageError, match="takes 4000"):
        pstore.copy(source, target)


def test_two_at_once(source: pstore.Store, small_batches: None) -> None:
    """Of two copies to one target the earlier one gives up; what the later one makes is whole."""
    target = MemoryBackend()

    def overtake(progress: pstore.Progress) -> None:
        if progress.rows > 20:
            pstore.copy(source, target)

    with pytest.raises(pstore.StorageError, match="another copy to memory: has begun"):
        pstore.copy(source, target, progress=overtake)
    assert content(target) == content(source.backend)


def test_progress(source: pstore.Store, small_batches: None) -> None:
    """What is told never goes back, ends with all rows written and verified, and may stop the copy."""
    told: list[pstore.Progress] = []
    target = MemoryBackend()

    def stop(progress: pstore.Progress) -> None:
        told.append(progress)
        if progress.rows > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pstore.copy(source, target, progress=stop)
    told.clear()
    report = pstore.copy(source, target, progress=told.append)
    assert report.written < report.rows
    for before, after in itertools.pairwise(told):
        assert before.rows <= after.rows
        assert before.bytes <= after.bytes
        assert before.verified <= after.verified
    assert told[-1] == (report.rows, report.bytes, report.rows, report.rows)
    assert {progress.total for progress in told} == {None, report.rows}
    assert len(told) > 2 * report.rows // 7


def test_bounded_memory(tmp_path: Path) -> None:
    """A store is copied through memory a batch at a time."""
    size, count = 50_000, 600
    source = SqliteBackend(tmp_path / "source.db", durable=False)
    with pstore.open(source):
        pass
    for part in range(0, count, 100):
        writer = source.begin(write=True)
        writer.put_many(
            "records",
            [
                (key, rows.seal(rows.record_place(key), bytes([number % 251]) * size))
                for number in range(part, part + 100)
                for key in [make_key(1, number + 1)]
            ],
        )
        writer.commit()
    tracemalloc.start()
    try:
        report = pstore.copy(source, tmp_path / "target.db", durable=False)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        source.close()
    assert report.bytes > count * size
    assert most < 12 * 1024 * 1024
