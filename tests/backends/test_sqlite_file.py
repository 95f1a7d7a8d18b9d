"""What SQLite's backend promises beyond the contract: waits, backups, compacting, and what happens to its file."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import pstore
from pstore.backends import SqliteBackend, open_backend


def put(backend: SqliteBackend, rows: dict[int, bytes]) -> None:
    """Store rows in a transaction of their own."""
    writer = backend.begin(write=True)
    writer.put_many("records", rows.items())
    writer.commit()


def records(path: Path) -> dict[Any, Any]:
    """What a store has."""
    with contextlib.closing(SqliteBackend(path, "r")) as backend:
        reader = backend.begin()
        found = dict(reader.scan("records"))
        reader.rollback()
    return found


def commit_often(path: Path, count: int, waits: Any) -> None:
    """The job of a process: commit again and again, and tell the longest wait."""
    longest = 0.0
    with contextlib.closing(SqliteBackend(path, timeout=20)) as backend:
        for number in range(count):
            began = time.monotonic()
            writer = backend.begin(write=True)
            longest = max(longest, time.monotonic() - began)
            writer.put_many("records", [(number, bytes(1000))])
            writer.commit()
    waits.put(longest)


def test_writers_in_processes_get_their_turn(tmp_path: Path) -> None:
    """Four processes that do nothing but commit all come to their end, and nobody is told that the store is locked."""
    SqliteBackend(tmp_path / "s.db").close()
    context = multiprocessing.get_context("spawn")
    waits = context.Queue()
    team = [context.Process(target=commit_often, args=(tmp_path / "s.db", 60, waits)) for _ in range(4)]
    for process in team:
        process.start()
    for process in team:
        process.join()
    assert [process.exitcode for process in team] == [0] * 4
    waits.close()


def test_timeout_by_url(tmp_path: Path) -> None:
    """A URL says how long a writer waits; nothing else can be said there, and nothing that is no number of seconds."""
    url = f"sqlite:///{tmp_path / 's.db'}"
    with contextlib.closing(open_backend(url)) as first, contextlib.closing(open_backend(url + "?timeout=0")) as second:
        writer = first.begin(write=True)
        with pytest.raises(pstore.StoreLocked, match="more than 0 s"):
            second.begin(write=True)
        writer.rollback()
    for wrong in (
        "timeout=soon",
        "timeout=-1",
        "timeout=nan",
        "timeout=inf",
        "timeout=",
        "wait=1",
        "timeout=1&timeout=2",
    ):
        with pytest.raises(ValueError, match="timeout"):
            open_backend(f"{url}?{wrong}")


def test_backup_while_others_write(tmp_path: Path) -> None:
    """A backup is the state of one moment, though another transaction is open; it opens as a store of its own."""
    with contextlib.closing(SqliteBackend(tmp_path / "s.db")) as backend:
        put(backend, dict.fromkeys(range(100), b"old"))
        writer = backend.begin(write=True)
        writer.put_many("records", [(1, b"new")])
        backend.backup(tmp_path / "copy.db")
        writer.commit()
    assert list(tmp_path.glob("copy*")) == [tmp_path / "copy.db"]
    assert records(tmp_path / "copy.db") == dict.fromkeys(range(100), b"old")


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_backup_replaces_nothing(tmp_path: Path, suffix: str) -> None:
    """Where something is already, even only the log of another file, there is no backup, and what is there stays."""
    there = tmp_path / f"copy.db{suffix}"
    there.write_bytes(b"precious")
    backend = SqliteBackend(tmp_path / "s.db")
    with contextlib.closing(backend), pytest.raises(pstore.StorageError, match="is there already"):
        backend.backup(tmp_path / "copy.db")
    assert there.read_bytes() == b"precious"
    assert list(tmp_path.glob("copy*")) == [there]


def test_backup_to_nowhere(tmp_path: Path) -> None:
    """Where the copy can't be made the error names both, and nothing is left."""
    backend = SqliteBackend(tmp_path / "s.db")
    with contextlib.closing(backend), pytest.raises(pstore.StorageError, match=r"s\.db, being copied to .*copy\.db"):
        backend.backup(tmp_path / "none" / "copy.db")


def test_backup_that_finds_no_room(tmp_path: Path) -> None:
    """Where the copy can't be written to its end there is none, and nothing beside it; with room again there is."""
    code = (
        "import pstore, resource, sys\nbackend = pstore.backends.SqliteBackend(sys.argv[1] + '/s.db')\n"
        "writer = backend.begin(write=True)\nwriter.put_many('records', [(1, bytes(10**6))])\nwriter.commit()\n"
        "_, most = resource.getrlimit(resource.RLIMIT_FSIZE)\nresource.setrlimit(resource.RLIMIT_FSIZE, (500_000, most))\n"
        "try:\n    backend.backup(sys.argv[1] + '/copy.db')\nexcept pstore.StorageError as error:\n    print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))\nbackend.backup(sys.argv[1] + '/second.db')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "being copied to" in done.stdout
    assert list(tmp_path.glob("copy*")) == []
    assert records(tmp_path / "second.db") == {1: bytes(10**6)}


def test_backup_of_a_store(tmp_path: Path) -> None:
    """A store's backup has what is committed; where the engine has no means of its own, or for a URL, it is a copy."""
    with pstore.open(tmp_path / "s.db") as db:
        db["a"] = [1]
        db.commit()
        db["b"] = 2
        db.backup(tmp_path / "copy.db")
        assert db["b"] == 2
    with pstore.open(tmp_path / "copy.db", "r") as copy:
        assert dict(copy) == {"a": [1]}
    with pstore.open("memory:") as db:
        db["a"] = [1]
        db.commit()
        db.backup(tmp_path / "other.db")
        db.backup(f"lmdb:///{tmp_path / 'other.lmdb'}")
        with pytest.raises(pstore.StorageError, match="already"):
            db.backup(tmp_path / "other.db")
    for name in "other.db", "other.lmdb":
        with pstore.open(tmp_path / name, "r") as copy:
            assert dict(copy) == {"a": [1]}


def test_compact_gives_space_back(tmp_path: Path) -> None:
    """Compacting makes the file smaller and empties its log; a transaction that is open, even for reading, is in the way."""
    with pstore.open(f"sqlite:///{tmp_path / 's.db'}?timeout=0.05") as db:
        db["large"] = bytes(10**6)
        db.commit()
        del db["large"]
        with pytest.raises(pstore.Uncommitted):
            db.compact()
        db.commit()
        with contextlib.closing(db.session()) as other:
            assert "large" not in other
            with pytest.raises(pstore.StoreLocked, match="can't be compacted while another transaction is open"):
                db.compact()
        db.compact()
        assert db.stats()["bytes"] < 10**5
        assert db.stats()["log_bytes"] == 0
    with pstore.open(tmp_path / "s.db", "r") as db, pytest.raises(pstore.ReadOnlyError):
        db.compact()


def test_a_row_that_is_too_large(tmp_path: Path) -> None:
    """A row larger than SQLite takes is refused before anything of it is stored."""

    class Huge(bytes):
        def __len__(self) -> int:
            return 10**9 + 1

    with contextlib.closing(SqliteBackend(tmp_path / "s.db")) as backend:
        writer = backend.begin(write=True)
        with pytest.raises(pstore.StorageError, match=r"1000000001 bytes is larger than SQLite takes.*row 7 "):
            writer.put_many("records", [(7, Huge())])
        writer.rollback()
    assert records(tmp_path / "s.db") == {}


def test_a_file_that_is_gone_or_another(tmp_path: Path) -> None:
    """A store whose file was removed or replaced says so at the next transaction, and leaves the new file's log alone."""
    path = tmp_path / "s.db"
    with contextlib.closing(SqliteBackend(path)) as backend:
        put(backend, {1: b"old"})
        backend.backup(tmp_path / "other.db")
        path.unlink()
        with pytest.raises(pstore.StorageError, match="isn't there any more"):
            backend.begin()
        (tmp_path / "other.db").rename(path)
        (tmp_path / "s.db-wal").write_bytes(b"the other's")
        for write in (False, True):
            with pytest.raises(pstore.StorageError, match="was replaced by another file"):
                backend.begin(write=write)
    assert (tmp_path / "s.db-wal").read_bytes() == b"the other's"


def test_an_empty_file_is_no_store(tmp_path: Path) -> None:
    """A store that was cut to nothing isn't taken for a new one, unless a new one was asked for."""
    (tmp_path / "s.db").touch()
    for flag in "rw":
        with pytest.raises(pstore.FormatError, match="is empty"):
            SqliteBackend(tmp_path / "s.db", flag)
    SqliteBackend(tmp_path / "s.db", "c").close()
    assert records(tmp_path / "s.db") == {}


def test_opening_twice_keeps_the_locks(tmp_path: Path) -> None:
    """A file that is open here isn't opened past SQLite, which would lose its locks: another process doesn't take the log away."""
    path = tmp_path / "s.db"
    with pstore.open(path) as db:
        db["a"] = 1
        db.commit()
        with pstore.open(path) as other:
            assert other["a"] == 1
            code = "import pstore, sys; db = pstore.open(sys.argv[1]); db['b'] = 2; db.close()"
            subprocess.run([sys.executable, "-c", code, str(path)], check=True)
            assert (tmp_path / "s.db-wal").exists()
        db.rollback()
        assert db["b"] == 2


def test_a_log_that_has_lost_commits(tmp_path: Path) -> None:
    """A log that was damaged behind a crash is refused, with what helps; a whole one, and one without its index, is read."""
    code = (
        "import os, pstore, sys\nbackend = pstore.backends.SqliteBackend(sys.argv[1])\n"
        "for number in range(20):\n    writer = backend.begin(write=True)\n"
        "    writer.put_many('records', [(number, bytes(5000))])\n    writer.commit()\nos._exit(0)"
    )
    (tmp_path / "crashed").mkdir()
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "crashed" / "s.db")], check=True)
    for damage in ("none", "cut", "changed", "none"):
        shutil.rmtree(tmp_path / "case", ignore_errors=True)
        shutil.copytree(tmp_path / "crashed", tmp_path / "case")
        log, path = tmp_path / "case" / "s.db-wal", tmp_path / "case" / "s.db"
        data = bytearray(log.read_bytes())
        data[len(data) // 2] ^= damage == "changed"
        log.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
        if damage == "none":
            assert len(records(path)) == 20
            continue
        before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        for flag in "rw":
            with pytest.raises(pstore.CorruptRecord, match=r"s\.db-wal is damaged: .* remove .*s\.db-shm"):
                SqliteBackend(path, flag)
        assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
        path.with_name("s.db-shm").unlink()
        assert 0 < len(records(path)) < 20


def test_a_name_that_a_changed_byte_hides(tmp_path: Path) -> None:
    """A name that isn't found because its row is damaged isn't said to be missing, nor left out of the list."""
    with pstore.open(tmp_path / "s.db") as db:
        db.update(alice=1, bob=2)
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("UPDATE names SET key = 'alicf' WHERE key = 'alice'")
    connection.commit()
    connection.close()
    for ask in (lambda db: db["alice"], lambda db: "alice" in db, list):
        with pstore.open(tmp_path / "s.db", "r") as db, pytest.raises(pstore.CorruptRecord, match="alicf"):
            ask(db)
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("DELETE FROM names WHERE key = 'alicf'")
    connection.commit()
    connection.close()
    for ask in (lambda db: db["alice"], lambda db: "alice" in db, list):
        with pstore.open(tmp_path / "s.db", "r") as db, pytest.raises(pstore.CorruptRecord, match="1 names, and had 2"):
            ask(db)
