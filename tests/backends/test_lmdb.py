"""The LMDB backend keeps the contract, and does what is LMDB's own to do."""

from __future__ import annotations

import gc
import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pstore
from pstore.backends import LmdbBackend, _lmdb_file
from pstore.backends._lmdb_snapshots import PINNED
from pstore.testing import BackendSuite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import RawIOBase

    from pstore.backends import Backend

pytest.importorskip("lmdb", reason="the package lmdb: python -m pip install 'pstore-db[lmdb]'")

SMALL = 1 << 20
LARGE = bytes(range(256)) * 1024
assert len(LARGE) > PINNED


class TestLmdb(BackendSuite):
    """In a file."""

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        return LmdbBackend(directory / "store.lmdb", flag, durable=durable, timeout=timeout)

    def url(self, directory: Path) -> str:
        return f"lmdb:///{directory / 'store.lmdb'}"

    def store_path(self, directory: Path) -> Path:
        return directory / "store.lmdb"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store.lmdb"


@pytest.fixture
def backend(path: Path) -> Iterator[LmdbBackend]:
    """An empty store whose map is as small as can be."""
    backend = LmdbBackend(path, map_size=SMALL, timeout=0.2)
    yield backend
    backend.close()


def put(backend: LmdbBackend, rows: dict[int, bytes]) -> None:
    """Store records in a transaction of their own."""
    writer = backend.begin(write=True)
    writer.put_many("records", rows.items())
    writer.commit()


def records(backend: LmdbBackend) -> dict[int, bytes]:
    """Return all records."""
    reader = backend.begin()
    found = {int(key): bytes(row) for key, row in reader.scan("records")}
    reader.rollback()
    return found


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another Python."""
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> str:
    """Wait for it, and return what it has printed."""
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


# ------------------------------------------------------------------------------------------------------------ the map


def test_the_map_grows_in_one_transaction(backend: LmdbBackend) -> None:
    """A commit of many times the map's size succeeds while a snapshot of the newest state is open, which sees no change."""
    put(backend, {1: b"old", 2: LARGE})
    reader = backend.begin()
    put(backend, dict.fromkeys(range(2, 200), LARGE))
    assert reader.get_many("records", [1, 2, 3]) == [b"old", LARGE, None]
    reader.rollback()
    assert records(backend) == {1: b"old", **dict.fromkeys(range(2, 200), LARGE)}
    assert int(backend.stats()["map_size"]) > 200 * len(LARGE)


def test_an_older_snapshot_in_the_way_of_growth_is_told(backend: LmdbBackend) -> None:
    """Where a snapshot can't be moved the commit says so and changes nothing; a retry after its end succeeds."""
    reader = backend.begin()
    put(backend, {1: b"newer than the reader"})
    with pytest.raises(pstore.StorageError, match="transactions of this process are in the way"):
        put(backend, dict.fromkeys(range(2, 600), LARGE))
    assert reader.get_many("records", [1, 2]) == [None, None]
    reader.rollback()
    assert records(backend) == {1: b"newer than the reader"}
    put(backend, dict.fromkeys(range(2, 600), LARGE))
    assert len(records(backend)) == 599


def test_the_map_grows_in_several_processes(path: Path) -> None:
    """Processes that load 200 MB at once into a map of 1 MB lose nothing; one killed meanwhile leaves whole commits."""
    program = """
        import os, sys
        from pstore.backends import open_backend
        backend = open_backend(sys.argv[1], durable=False)
        for number in range(int(sys.argv[2]), int(sys.argv[3])):
            writer = backend.begin(write=True)
            writer.put_many("records", [(number * 10 + part, bytes([number % 251]) * 100_000) for part in range(10)])
            writer.commit()
            print(number, flush=True)
        backend.close()
    """
    url = f"lmdb:///{path}?map_size={SMALL}&timeout=60"
    processes = [start(program, url, first, first + 70) for first in (0, 70, 140)]
    victim = start(program, url, 1000, 5000)
    acknowledged = [int(victim.stdout.readline()) for _ in range(5)]
    victim.kill()
    acknowledged += [int(line) for line in victim.communicate()[0].split("\n") if line]
    for process in processes:
        end(process)
    backend = LmdbBackend(path)
    found = records(backend)
    backend.close()
    numbers = {key // 10 for key in found}
    assert set(range(210)) <= numbers
    assert set(acknowledged) <= numbers
    assert all(found[n * 10 + part] == bytes([n % 251]) * 100_000 for n in numbers for part in range(10))


def test_threads_read_while_the_map_grows(backend: LmdbBackend) -> None:
    """Readers in other threads see whole snapshots, through views too, while the map is replaced again and again."""
    backend.timeout = 60.0
    put(backend, dict.fromkeys(range(4), LARGE))
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            reader = backend.begin()
            rows = reader.get_many("records", range(4))
            if len({bytes(row) for row in rows}) != 1:
                wrong.append(rows)
            del rows
            reader.rollback()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 40):
        put(backend, {**dict.fromkeys(range(4), bytes([number]) * len(LARGE)), number + 10: bytes(5_000_000)})
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# -------------------------------------------------------------------------------------------------- rows without copies


def test_a_view_outlives_its_transaction(path: Path) -> None:
    """A large row, or a part of it, still has its bytes after the transaction's end, other commits and closing."""
    backend = LmdbBackend(path)
    put(backend, {1: LARGE})
    reader = backend.begin()
    (row,) = reader.get_many("records", [1])
    assert type(row) is memoryview
    part = memoryview(row)[5:-5]
    reader.rollback()
    del reader, row
    gc.collect()
    for number in range(20):
        put(backend, {1: bytes([number]) * len(LARGE)})
    backend.close()
    assert part == LARGE[5:-5]
    again = LmdbBackend(path)
    assert len(records(again)) == 1
    again.close()
    assert part == LARGE[5:-5]


def test_a_view_in_the_way_of_growth_is_told(backend: LmdbBackend) -> None:
    """A commit that needs a larger map says that a row is still in use; when it isn't, the retry succeeds."""
    put(backend, {1: LARGE})
    reader = backend.begin()
    (row,) = reader.get_many("records", [1])
    reader.rollback()
    with pytest.raises(pstore.StorageError, match="let go of what was read"):
        put(backend, dict.fromkeys(range(2, 600), LARGE))
    assert row == LARGE
    del row
    put(backend, dict.fromkeys(range(2, 600), LARGE))
    assert len(records(backend)) == 599


def test_what_a_store_keeps_is_its_own(path: Path) -> None:
    """Objects that were loaded from large rows stay right when the transaction has ended and the pages were used again."""
    with pstore.open(f"lmdb:///{path}") as db:
        db["large"] = LARGE
        db["list"] = [LARGE, bytearray(LARGE)]
        db.commit()
        with pstore.open(path) as other:
            large, listed = other["large"], other["list"]
            kept = [large, *listed]
            other.rollback()
            assert other._opened.backend.environment._snapshots._lingering == []
        for number in range(10):
            db["large"] = bytes([number]) * len(LARGE)
            db["list"] = [number] * 1000
            db.commit()
    assert kept == [LARGE] * 3


# ----------------------------------------------------------------------------------------------- one environment a file


def test_backends_of_one_file_share(backend: LmdbBackend, path: Path, tmp_path: Path) -> None:
    """A file is opened twice in a process, for reading too, and through another name; each keeps to its own flag."""
    put(backend, {1: b"row"})
    link = tmp_path / "link.lmdb"
    link.symlink_to(path)
    reading, second = LmdbBackend(path, "r"), LmdbBackend(link, durable=False)
    with pytest.raises(pstore.ReadOnlyError):
        reading.begin(write=True)
    put(second, {2: b"row"})
    second.close()
    assert records(reading) == records(backend) == {1: b"row", 2: b"row"}
    reading.close()


def test_the_one_who_writes_comes_second(path: Path) -> None:
    """Where a file was first opened for reading or without durability, opening it otherwise works when nobody reads."""
    LmdbBackend(path).close()
    first = LmdbBackend(path, "r")
    reader = first.begin()
    with pytest.raises(pstore.StoreLocked, match="in the way"):
        LmdbBackend(path, timeout=0.1)
    reader.rollback()
    second = LmdbBackend(path)
    put(second, {1: b"row"})
    assert records(first) == {1: b"row"}
    second.close()
    first.close()


def test_a_forked_child_opens_anew(path: Path) -> None:
    """A child is refused the parent's backend, can open its own, and its exit takes nothing from the parent's snapshot."""
    backend = LmdbBackend(path)
    put(backend, {1: b"old", 2: LARGE})
    reader, writer = backend.begin(), backend.begin(write=True)
    writer.put_many("records", [(1, b"new")])
    child = os.fork()
    if not child:
        code = 1
        try:
            with pytest.raises(pstore.StoreClosed, match="forked"):
                reader.get_many("records", [1])
            reader.rollback()
            writer.rollback()
            backend.close()
            own = LmdbBackend(path, timeout=0.1)
            with pytest.raises(pstore.StoreLocked):  # the parent still writes
                own.begin(write=True)
            assert records(own) == {1: b"old", 2: LARGE}
            own.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert backend.stats()["readers"] == 2
    writer.commit()
    for number in range(20):  # would use the old pages, if the reader had lost its place
        put(backend, {2: bytes([number]) * len(LARGE)})
    assert reader.get_many("records", [1, 2]) == [b"old", LARGE]
    backend.close()


def test_a_dead_process_leaves_nothing_behind(path: Path) -> None:
    """The lock and the places of a killed process that read and wrote are free again at once."""
    program = """
        import sys, time
        from pstore.backends import LmdbBackend
        backend = LmdbBackend(sys.argv[1])
        readers = [backend.begin() for _ in range(50)]
        writer = backend.begin(write=True)
        writer.put_many("records", [(1, b"lost")])
        print("ready", flush=True)
        time.sleep(100)
    """
    process = start(program, path)
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(pstore.StoreLocked, match="another writer"):
        LmdbBackend(path, timeout=0.05).begin(write=True)
    process.kill()
    process.communicate()
    backend = LmdbBackend(path, timeout=0.05)
    put(backend, {2: b"kept"})
    assert records(backend) == {2: b"kept"}
    backend.close()


def test_a_writer_that_dies_behind_its_commit(backend: LmdbBackend, path: Path) -> None:
    """A process killed between LMDB's header page and LMDB's own count of commits has committed, and stops no writer."""
    program = """
        import os, signal, struct, sys
        import lmdb
        environment = lmdb.open(sys.argv[1], subdir=False, max_dbs=4, max_readers=16384)
        with environment.begin(write=True) as writer:
            writer.put((2).to_bytes(8, "big"), b"dead", db=environment.open_db(b"records", writer))
            number = writer.id()
        holding = environment.begin(write=True)  # the lock of LMDB's that tells the next writer of the death
        with open(sys.argv[1] + "-lock", "r+b") as counts:
            at = counts.read(256).index(struct.pack("=Q", number))
            counts.seek(at)
            counts.write(struct.pack("=Q", number - 1))
            counts.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    put(backend, {1: b"before"})
    start(program, path).communicate()
    assert records(backend) == {1: b"before"}  # LMDB hasn't noticed
    put(backend, {3: b"after"})
    assert records(backend) == {1: b"before", 2: b"dead", 3: b"after"}


def test_places_for_readers_are_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all places for readers are taken, beginning, copying and opening say so; an end, and a death, gives them back."""
    monkeypatch.setattr("pstore.backends._lmdb_map.READERS", 4)
    backend = LmdbBackend(path)
    readers = [backend.begin() for _ in range(4)]
    program = "import sys; from pstore.backends import LmdbBackend; LmdbBackend(sys.argv[1])"
    for use in (backend.begin, lambda: backend.backup(path.with_name("copy"))):
        with pytest.raises(pstore.StoreLocked, match="all places for readers are taken"):
            use()
    assert "all places for readers are taken" in start(program, path).communicate()[1]
    readers.pop().rollback()
    backend.begin().rollback()
    program += "; b = LmdbBackend(sys.argv[1]); r = b.begin(); print(flush=True); sys.stdin.read()"
    process = start(program, path)
    process.stdout.readline()
    with pytest.raises(pstore.StoreLocked, match="all places for readers are taken"):
        backend.begin()
    process.kill()
    process.communicate()
    backend.begin().rollback()
    backend.close()


def test_who_may_only_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Who can't write the directory reads, though not while somebody writes nor the other way round; writing is refused."""
    program = """
        import os, sys, tempfile
        from pstore.backends import LmdbBackend
        import pstore
        with tempfile.TemporaryDirectory() as made:  # imports everything, as long as whoever this is may read it
            for flag in "cr":
                backend = LmdbBackend(os.path.join(made, "store.lmdb"), flag)
                backend.begin().rollback()
                backend.close()
        if not os.geteuid():
            os.setuid(65534)  # the rights of root aren't asked for
        def attempt(flag):
            try:
                backend = LmdbBackend(sys.argv[1], flag, timeout=0.1)
                reader = backend.begin()
                print(flag, *(bytes(row) for _, row in reader.scan("records")), flush=True)
                return backend
            except pstore.Error as error:
                print(flag, type(error).__name__, flush=True)
        for line in sys.stdin:
            attempt(line.strip())
    """
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        backend = LmdbBackend(directory / "store.lmdb", timeout=0.1)
        put(backend, {1: b"row"})
        directory.chmod(0o555)
        process = start(program, directory / "store.lmdb")

        def attempt(flag: str) -> str:
            process.stdin.write(flag + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        try:
            assert attempt("w") == "w ReadOnlyError"
            writer = backend.begin(write=True)
            assert attempt("r") == "r StoreLocked"
            writer.rollback()
            assert attempt("r") == "r b'row'"
            with pytest.raises(pstore.StoreLocked):
                backend.begin(write=True)
            process.communicate("")
            put(backend, {2: b"row"})
            backend.close()
        finally:
            process.kill()
            process.communicate()
            directory.chmod(0o755)


# -------------------------------------------------------------------------------------------------- names, URLs, files


def test_a_long_name_is_refused_by_its_length(backend: LmdbBackend) -> None:
    """A name of more bytes than LMDB takes is an error that tells both; to look for one, or remove it, finds nothing."""
    most = backend.capabilities.longest_name
    writer = backend.begin(write=True)
    writer.put_many("names", [("ä" * (most // 2), b"row")])
    with pytest.raises(
        pstore.StorageError, match=rf"{most + 2} bytes in UTF-8, and LMDB takes {most}; choose a shorter"
    ):
        writer.put_many("names", [("ä" * (most // 2 + 1), b"row")])
    writer.rollback()
    writer = backend.begin(write=True)
    writer.put_many("names", [("ä" * (most // 2), b"row")])
    writer.delete_many("names", ["x" * 1000])
    assert writer.get_many("names", ["x" * 1000, "ä" * (most // 2)]) == [None, b"row"]
    assert list(writer.scan("names", "x" * 1000)) == [("ä" * (most // 2), b"row")]
    writer.commit()


def test_urls(path: Path) -> None:
    """A URL takes a wait, a size and whether to check; what it doesn't know is refused; a path is known by its content."""
    pstore.open(f"lmdb:///{path}?timeout=1.5&map_size=4000000&check=1").close()
    with pstore.open(path) as db:
        db["a"] = 1
    for wrong in ("size=3", "timeout=-1", "timeout=x", "map_size=1.5", "check=yes", "timeout=1&timeout=2"):
        with pytest.raises(ValueError, match=wrong.partition("=")[0]):
            pstore.open(f"lmdb:///{path}?{wrong}")
    with pytest.raises(ValueError, match="lmdb:///relative/path"):
        pstore.open("lmdb://host/path")


def test_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    """Another program's LMDB file, any other file and a directory are no stores, and stay as they are."""
    import lmdb

    with lmdb.open(str(path), subdir=False) as other, other.begin(write=True) as writer:
        writer.put(b"key", b"value")
    text = tmp_path / "text"
    text.write_text("no store " * 100)
    for wrong in (path, text, tmp_path):
        with pytest.raises(pstore.FormatError):
            LmdbBackend(wrong)
    assert not text.with_name("text-writer").exists()
    with lmdb.open(str(path), subdir=False) as other, other.begin() as reader:
        assert reader.get(b"key") == b"value"


def test_a_backup_replaces_nothing(backend: LmdbBackend, tmp_path: Path) -> None:
    """A backup has the newest state, also while a writer is at work; an existing file stays."""
    put(backend, {1: b"row", 2: LARGE})
    writer = backend.begin(write=True)
    writer.put_many("records", [(3, b"not yet")])
    backend.backup(tmp_path / "copy")
    with pytest.raises(pstore.StorageError, match="exists"):
        backend.backup(tmp_path / "copy")
    writer.rollback()
    copy = LmdbBackend(tmp_path / "copy", "r")
    assert records(copy) == {1: b"row", 2: LARGE}
    copy.close()
    assert list(tmp_path.glob("*partial*")) == []


def test_compact_waits_for_no_other_process(backend: LmdbBackend, path: Path) -> None:
    """Compacting is refused while a snapshot is open here or another process has the file open; else it shrinks it."""
    put(backend, dict.fromkeys(range(100), LARGE))
    writer = backend.begin(write=True)
    writer.delete_many("records", range(1, 100))
    writer.commit()
    before = path.stat().st_size
    reader = backend.begin()
    with pytest.raises(pstore.StoreLocked, match="in the way"):
        backend.compact()
    reader.rollback()
    program = "import sys; from pstore.backends import LmdbBackend; b = LmdbBackend(sys.argv[1]); print(1, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "1\n"
    with pytest.raises(pstore.StoreLocked, match="another process"):
        backend.compact()
    other.communicate("\n")
    backend.compact()
    assert path.stat().st_size < before / 10
    put(backend, {5: b"after"})
    assert records(backend) == {0: LARGE, 5: b"after"}


def test_a_damaged_file_never_ends_the_process(tmp_path: Path) -> None:
    """A file that was cut or had bits flipped gives an error of ours, or rows; and what it gives is in its place."""
    whole = LmdbBackend(tmp_path / "whole")
    expected = {number: random.Random(number).randbytes(40) for number in range(2000)}
    for part in range(4):
        put(whole, {key: row for key, row in expected.items() if key % 4 == part})
    whole.close()
    program = """
        import sys
        import pstore
        from pstore.backends import LmdbBackend
        for path in sys.argv[1:]:
            try:
                backend = LmdbBackend(path)
                reader = backend.begin()
                count = len(list(reader.scan("records")))
                reader.rollback()
                writer = backend.begin(write=True)
                writer.put_many("records", [(10**6, bytes(9000))])
                writer.delete_many("records", range(0, 2000, 3))
                writer.commit()
                backend.close()
                print(count)
            except pstore.Error as error:
                print(type(error).__name__)
    """
    data, chance, paths = (tmp_path / "whole").read_bytes(), random.Random(5), []
    for number in range(60):
        damaged = bytearray(data)
        if number % 3 == 0:
            del damaged[chance.randrange(len(data)) :]
        else:
            damaged[chance.randrange(len(data) if number % 3 == 1 else 8192)] ^= 1 << chance.randrange(8)
        paths.append(tmp_path / f"damaged{number}")
        paths[-1].write_bytes(damaged)
    told = end(start(program, *paths)).split()
    assert len(told) == 60
    assert set(told) <= {"2000", "CorruptRecord", "FormatError"}
    assert "CorruptRecord" in told
    shutil.rmtree(tmp_path)


def test_commits_while_a_file_is_opened_are_no_damage(
    backend: LmdbBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits between looking at one header of the file and at the other don't make it look damaged."""
    put(backend, {1: b"row"})
    read = _lmdb_file._read_at
    commits = iter(range(2, 5))

    def slowly(file: RawIOBase, at: int) -> bytes:
        data = read(file, at)
        for number in commits:
            put(backend, {number: b"row"})
        return data

    monkeypatch.setattr(_lmdb_file, "_read_at", slowly)
    other = LmdbBackend(path)
    assert len(records(other)) == 4
    other.close()


@pytest.mark.parametrize("change", ["missing", "renamed", "other"])
def test_other_versions_of_the_driver(path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Without a verifier in `lmdb`, or with another one, a whole file is opened, and one that is too short is refused."""
    import lmdb.verify

    whole = LmdbBackend(path)
    put(whole, {key: bytes(1000) for key in range(100)})
    whole.close()
    if change == "missing":
        monkeypatch.delattr(lmdb, "verify")
        monkeypatch.setitem(sys.modules, "lmdb.verify", None)
    elif change == "renamed":
        monkeypatch.delattr(lmdb.verify, "_Verifier")
        monkeypatch.delattr(lmdb.verify, "verify")
    else:
        monkeypatch.setattr(lmdb.verify, "_Verifier", lambda file: file)
        monkeypatch.setattr(lmdb.verify, "verify", lambda path: path)
    whole = LmdbBackend(path)
    assert len(records(whole)) == 100
    whole.close()
    path.write_bytes(path.read_bytes()[:-8192])
    with pytest.raises(pstore.CorruptRecord, match="fewer than its header tells of"):
        LmdbBackend(path)
