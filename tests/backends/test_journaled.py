"""Backends behind a journal: what a crash leaves, what damage is told, who has the lock, and how files are recognised."""

from __future__ import annotations

import dbm.dumb
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import KINDS

import pstore
from pstore.backends import MappingBackend, MemoryBackend, SqliteBackend, open_backend, open_dbm
from pstore.backends.dbm import ClassicNdbmBackend

FILED = [
    pytest.param(name, marks=[pytest.mark.skip(KINDS[name].missing)] if KINDS[name].missing else [])
    for name in ("dbm.dumb", "dbm.sqlite3", "dbm.gnu", "dbm.ndbm", "sqlitedict")
]
#: What a store's file system sees of it, by the names in `os`.
CALLS = ("pwrite", "fsync", "ftruncate", "replace", "rename", "link", "unlink")


def put(backend: Any, rows: dict[int, bytes | None], table: Any = "records") -> None:
    """Commit rows; remove those that are None."""
    writer = backend.begin(write=True)
    writer.put_many(table, [(key, row) for key, row in rows.items() if row is not None])
    writer.delete_many(table, [key for key, row in rows.items() if row is None])
    writer.commit()


def rows_of(backend: Any) -> dict[Any, bytes]:
    """The records of the newest state."""
    reader = backend.begin()
    try:
        return {key: bytes(row) for key, row in reader.scan("records")}
    finally:
        reader.rollback()


def interrupted_at(monkeypatch: pytest.MonkeyPatch, number: int, what: Any, *, lasting: bool = False) -> list[str]:
    """Do something in place of the n-th call that changes files, or of all from it on; return the list of these calls."""
    calls: list[str] = []

    def counted(name: str, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == number or (lasting and len(calls) > number):
                return what(real, args)
            return real(*args, **options)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return calls


def die(real: Any, args: Any) -> None:
    """Leave half of what is being written, and die."""
    if real.__name__ == "pwrite":
        real(args[0], bytes(args[1])[: len(args[1]) // 2], args[2])
    os._exit(9)


def fail(_real: Any, _args: Any) -> None:
    """Fail as a broken disk does."""
    raise OSError(5, "Input/output error")


def work(backend: Any, acknowledge: Any) -> None:
    """Some commits, with folds between them; tell of each that was made."""
    for number in range(1, 4):
        put(backend, {0: b"%d" % number, number: b"x" * 100, number - 1 or 99: None if number > 1 else b"y"})
        acknowledge(number)
        if number == 2:
            backend.compact()
    backend.close()
    acknowledge(4)


def check_work(rows: dict[int, bytes], acknowledged: int) -> None:
    """The state is that of one commit, and of none before the last that was acknowledged."""
    number = int(rows.get(0, b"0"))
    assert min(acknowledged, 3) <= number <= min(acknowledged + 1, 3)
    expected = {0: b"%d" % number, number: b"x" * 100, 99: b"y"}
    assert rows == (expected if number else {})


@pytest.mark.parametrize("kind", FILED)
def test_a_crash_between_any_two_writes_leaves_a_commit_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in each call that changes a file in turn, halfway through it: what was acknowledged is there, nothing is half."""
    number = done = 0
    while not done:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        receive, send = os.pipe()
        pid = os.fork()
        if not pid:
            with monkeypatch.context() as patch:
                interrupted_at(patch, number, die)
                work(KINDS[kind].make(directory), lambda n, to=send: os.write(to, b"%d" % n))
                os._exit(0)
        os.close(send)
        done = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        with os.fdopen(receive, "rb") as pipe:
            acknowledged = int(pipe.read()[-1:] or b"0")
        backend = KINDS[kind].make(directory)
        check_work(rows_of(backend), acknowledged)
        put(backend, {7: b"on"})
        backend.close()
        backend = KINDS[kind].make(directory, flag="r")
        assert rows_of(backend)[7] == b"on"
        backend.close()
        # One that dies while it makes the journal leaves that beside it.
        assert not [file for file in directory.iterdir() if ".new" in file.name and ".journal." not in file.name]
    assert number > 25


@pytest.mark.parametrize("kind", FILED)
def test_a_call_that_fails_loses_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call that changes a file fails once in turn: the commit is refused, or made; opened again, all is there."""
    number = 0
    while True:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        acknowledged = [0]
        with monkeypatch.context() as patch:
            calls = interrupted_at(patch, number, fail)
            backend = None
            try:
                backend = KINDS[kind].make(directory)
                work(backend, acknowledged.append)
            except pstore.StorageError:
                pass
            failed = len(calls) >= number
            if backend is not None:
                backend.close()
        backend = KINDS[kind].make(directory)
        rows = rows_of(backend)
        backend.close()
        assert int(rows.get(0, b"0")) == min(acknowledged[-1], 3)
        check_work(rows, min(acknowledged[-1], 3))
        if not failed:
            break
    assert number > 25


@pytest.mark.parametrize("kind", FILED)
def test_a_disk_that_fails_for_good_loses_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one call on, each call that changes a file fails: opened again when they work, all that was acknowledged is there."""
    number, failed = 0, True
    while failed:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        acknowledged = [0]
        with monkeypatch.context() as patch:
            calls = interrupted_at(patch, number, fail, lasting=True)
            backend = None
            try:
                backend = KINDS[kind].make(directory)
                work(backend, acknowledged.append)
            except pstore.StorageError:
                pass
            failed = len(calls) >= number
            if backend is not None:
                backend.close()
        backend = KINDS[kind].make(directory)
        check_work(rows_of(backend), acknowledged[-1])
        backend.close()
    assert number > 25


@pytest.mark.parametrize("kind", ["dbm.sqlite3", "sqlitedict"])
def test_what_sqlite_leaves_of_a_copy_is_no_part_of_the_next(kind: str, tmp_path: Path) -> None:
    """A file of changes to undo, beside a copy that is no more, isn't applied to the next copy."""
    backend = KINDS[kind].make(tmp_path)
    put(backend, {1: b"one"})
    (store,) = (file for file in tmp_path.iterdir() if file.suffix != ".journal")
    backend.compact()
    other = sqlite3.connect(tmp_path / "other", isolation_level=None)
    other.execute("PRAGMA cache_size = 1")  # so that the file of changes to undo isn't held back
    other.execute("CREATE TABLE filler (row)")
    other.executemany("INSERT INTO filler VALUES (zeroblob(2000))", [()] * 40)
    other.execute("BEGIN")
    other.execute("PRAGMA user_version = 1")  # so that the first page is in it, too
    other.execute("UPDATE filler SET row = randomblob(2000)")
    undo = (tmp_path / "other-journal").read_bytes()
    other.rollback()
    other.close()
    assert undo.startswith(bytes.fromhex("d9d505f9"))  # that it is in force
    (tmp_path / f"{store.name}.new-journal").write_bytes(undo)
    put(backend, {2: b"two"})
    backend.close()
    assert not list(tmp_path.glob("*.new*"))
    backend = KINDS[kind].make(tmp_path, flag="r")
    assert rows_of(backend) == {1: b"one", 2: b"two"}
    backend.close()


@pytest.mark.parametrize("kind", ["dbm.sqlite3", "sqlitedict"])
def test_a_file_that_another_program_has_open_is_refused(kind: str, tmp_path: Path) -> None:
    """Changes that another program has not yet brought into the file aren't overlooked: the error says where they are."""
    KINDS[kind].make(tmp_path).close()
    (store,) = (file for file in tmp_path.iterdir() if file.suffix != ".journal")
    (tmp_path / f"{store.name}.journal").unlink()
    other = sqlite3.connect(store, isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE another (row)")
    with pytest.raises(pstore.StorageError, match=f"{store.name}-wal says that another program"):
        KINDS[kind].make(tmp_path)
    other.close()
    KINDS[kind].make(tmp_path).close()


@pytest.mark.parametrize("kind", FILED)
def test_damage_is_told(kind: str, tmp_path: Path) -> None:
    """A byte flipped or an end cut off anywhere, in the files or the journal: an error that names the file, or the right rows."""
    backend = KINDS[kind].make(tmp_path)
    put(backend, {number: os.urandom(50) for number in range(100)})
    backend.compact()
    put(backend, {5: b"five"})
    put(backend, {6: b"six"})
    expected = rows_of(backend)
    backend._tables.release()  # as a process that was killed leaves it
    backend.forked = True
    contents = {file: file.read_bytes() for file in tmp_path.iterdir()}
    generator = random.Random(7)
    told, named = 0, []
    for _ in range(150):
        file = generator.choice(sorted(contents))
        content = bytearray(contents[file])
        at = generator.randrange(len(content))
        if generator.random() < 0.5:
            content[at] ^= 1 << generator.randrange(8)
        else:
            del content[at:]
        for each, good in contents.items():
            each.write_bytes(content if each == file else good)
        try:
            opened = KINDS[kind].make(tmp_path, flag=generator.choice("rw"))
        except (pstore.CorruptRecord, pstore.FormatError) as error:
            told += 1
            named.append(str(tmp_path) in str(error))
        else:
            assert rows_of(opened) == expected
            opened.close()
    assert told > 75
    assert all(named)


@pytest.mark.parametrize("kind", FILED)
def test_what_was_never_acknowledged_is_dropped(kind: str, tmp_path: Path) -> None:
    """A last commit that a crash has cut off is no damage, wherever it was cut."""
    backend = KINDS[kind].make(tmp_path)
    put(backend, {1: b"one"})
    (journal,) = tmp_path.glob("*.journal")
    end = journal.stat().st_size
    acknowledged = journal.read_bytes()[1024:1044]
    put(backend, {1: b"two", 2: b"two"})
    backend._tables.release()
    backend.forked = True
    contents = {file: file.read_bytes() for file in tmp_path.iterdir()}
    whole = contents[journal]
    for cut in range(end, len(whole)):
        for file, content in contents.items():
            file.write_bytes(content)
        journal.write_bytes(whole[:1024] + acknowledged + whole[1044:cut])
        opened = KINDS[kind].make(tmp_path)
        assert rows_of(opened) == {1: b"one"}
        opened.close()


@pytest.mark.parametrize("kind", FILED)
def test_the_files_alone_have_everything_after_closing(kind: str, tmp_path: Path) -> None:
    """Moved without its journal, a closed store opens, for reading and for writing; it is recognised by what it is."""
    backend = KINDS[kind].make(tmp_path)
    put(backend, {1: b"one"})
    backend.close()
    (journal,) = tmp_path.glob("*.journal")
    path = str(journal).removesuffix(".journal")
    journal.unlink()
    for flag in "rwc":
        opened = open_backend(path, flag)
        assert opened.stats()["module"] == kind
        assert rows_of(opened) == {1: b"one"}
        opened.close()
        assert journal.exists() == (flag != "r")
        journal.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", FILED)
def test_flags(kind: str, tmp_path: Path) -> None:
    """With "r" and "w" there must be a store, "r" changes nothing, "n" empties it."""
    for flag in "rw":
        with pytest.raises(pstore.StoreNotFound):
            KINDS[kind].make(tmp_path, flag=flag)
    assert list(tmp_path.iterdir()) == []
    backend = KINDS[kind].make(tmp_path, flag="n")
    put(backend, {1: b"one"})
    backend.close()
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    readers = [KINDS[kind].make(tmp_path, flag="r") for _ in range(2)]
    for reader in readers:
        assert rows_of(reader) == {1: b"one"}
        with pytest.raises(pstore.ReadOnlyError):
            reader.begin(write=True)
        with pytest.raises(pstore.ReadOnlyError):
            reader.compact()
        with pytest.raises(pstore.StoreLocked, match="this process itself"):
            KINDS[kind].make(tmp_path, flag="w", timeout=0.05)
    for reader in readers:
        reader.close()
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    backend = KINDS[kind].make(tmp_path, flag="n")
    assert rows_of(backend) == {}
    backend.close()


def test_a_second_process_is_told_who_is_in_the_way(tmp_path: Path) -> None:
    """While a store is open for writing, another process gets StoreLocked with the number of the first one."""
    backend = open_dbm(tmp_path / "store", scheme="dbm.dumb")
    program = (
        "import sys; from pstore.backends import open_dbm\n"
        "try: open_dbm(sys.argv[1], sys.argv[2], timeout=0.05)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    for flag in "rw":
        told = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "store"), flag], capture_output=True, text=True, check=True
        ).stdout
        assert told.startswith("StoreLocked")
        assert f"process {os.getpid()}" in told
    backend.close()


def test_a_forked_child_is_refused_and_its_end_leaves_the_lock(tmp_path: Path) -> None:
    """In a child the backend says that it was inherited; when the child has ended, the parent still has the lock."""
    backend = open_dbm(tmp_path / "store", scheme="dbm.dumb")
    pid = os.fork()
    if not pid:
        try:
            backend.begin()
        except pstore.StoreClosed as error:
            backend.close()
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(pstore.StoreLocked):
        open_dbm(tmp_path / "store", timeout=0.05)
    put(backend, {1: b"on"})
    backend.close()


def test_the_journal_is_folded_in_when_it_has_grown(tmp_path: Path) -> None:
    """Past a bound the journal begins anew, with the store open; an old snapshot goes on seeing what it saw."""
    backend = open_dbm(tmp_path / "store", scheme="dbm.dumb")
    put(backend, {1: b"old"})
    reader = backend.begin()
    sizes = []
    for number in range(7):
        put(backend, {1: b"%d" % number, number + 2: b"x" * 1_000_000})
        sizes.append(int(backend.stats()["journal_bytes"]))
    assert max(sizes) < 6_000_000
    assert min(sizes[1:]) < 10_000
    assert reader.get_many("records", [1, 2]) == [b"old", None]
    assert [key for key, _ in reader.scan("records")] == [1]
    reader.rollback()
    assert len(rows_of(backend)) == 8
    backend.close()


def test_files_of_others_are_refused_and_left_alone(tmp_path: Path) -> None:
    """What isn't a store of ours stays as it is, with nothing beside it."""
    with dbm.dumb.open(str(tmp_path / "theirs"), "n") as theirs:
        theirs[b"a"] = b"b"
    (tmp_path / "text").write_text("no store", "utf-8")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for target in (tmp_path / "theirs", f"dbm:///{tmp_path / 'theirs'}", f"dbm:///{tmp_path / 'text'}"):
        for flag in "rwcn":
            with pytest.raises(pstore.FormatError):
                open_backend(target, flag)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_urls(tmp_path: Path) -> None:
    """`dbm:///` takes a module and says which; `dbm.dumb:///` is that; another module's name is refused."""
    with pstore.open(f"dbm:///{tmp_path / 'any'}") as db:
        db["a"] = [1]
        db.commit()
    opened = open_backend(tmp_path / "any")
    module = str(opened.stats()["module"])
    assert module in dbm._names
    opened.close()
    other = next(name for name in ("dbm.dumb", "dbm.sqlite3") if name != module)
    with pytest.raises(pstore.FormatError, match=module):
        open_backend(f"{other}:///{tmp_path / 'any'}")
    opened = open_backend(f"dbm.dumb:///{tmp_path / 'dumb'}")
    assert opened.scheme == "dbm.dumb"
    opened.close()
    with pytest.raises(ValueError, match="dbm:///relative/path"):
        open_backend("dbm:")


def test_a_missing_module_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the interpreter has no such module, the error tells what to install, and nothing is made."""
    for name in ("dbm.gnu", "dbm.ndbm", "sqlitedict"):
        monkeypatch.setitem(sys.modules, name, None)
    for scheme, remedy in {"dbm.gnu": "python3-gdbm", "dbm.ndbm": "libdb-dev", "sqlitedict": "pip install"}.items():
        with pytest.raises(pstore.StorageError, match=remedy):
            open_backend(f"{scheme}:///{tmp_path / 'store'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(KINDS["dbm.ndbm"].missing), reason=KINDS["dbm.ndbm"].missing)
def test_what_is_too_large_is_refused_at_once(tmp_path: Path) -> None:
    """Where the engine takes small rows only, a larger one is refused when it is put; nothing is stored."""
    backend = ClassicNdbmBackend(tmp_path / "store")
    writer = backend.begin(write=True)
    with pytest.raises(pstore.StorageError, match="keep it in parts"):
        writer.put_many("records", [(1, b"x" * 701)])
    with pytest.raises(pstore.StorageError, match="at the most"):
        writer.put_many("names", [("ä" * 200, b"x")])
    writer.rollback()
    backend.close()


class Failing(dict[Any, Any]):
    """A dict in which the n-th change fails, as a mapping of any kind may."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.left = -1
        self.synced = 0

    def step(self) -> None:
        """Count a change."""
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("the mapping fails")

    def __setitem__(self, key: Any, value: Any) -> None:
        self.step()
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self.step()
        super().__delitem__(key)

    def sync(self) -> None:
        """Count, too."""
        self.step()
        self.synced += 1


def test_a_mapping_that_fails_midway_is_as_it_was() -> None:
    """Without a journal a commit is undone where the mapping raises, at whichever change that is."""
    mapping = Failing()
    backend = MappingBackend(mapping)
    put(backend, {1: b"one", 2: b"two"})
    before = dict(mapping)
    for number in range(1, 5):
        mapping.left = number
        with pytest.raises(pstore.StorageError, match="the mapping fails"):
            put(backend, {1: b"new", 2: None, 3: b"new"})
        assert dict(mapping) == before
        assert rows_of(backend) == {1: b"one", 2: b"two"}
    put(backend, {1: b"new", 2: None, 3: b"new"})
    assert rows_of(backend) == {1: b"new", 3: b"new"}
    assert mapping.synced
    backend.close()


def test_a_fold_into_a_mapping_that_fails_is_done_again(tmp_path: Path) -> None:
    """With a journal, a fold that fails or is cut off anywhere loses nothing, and is done at the next opening."""
    for number in range(1, 12):
        mapping = Failing()
        journal = tmp_path / str(number)
        backend = MappingBackend(mapping, journal=journal)
        put(backend, {key: b"%d" % key for key in range(9)})
        mapping.left = number
        backend.close()  # which folds
        mapping.left = -1
        backend = MappingBackend(mapping, journal=journal)
        assert rows_of(backend) == {key: b"%d" % key for key in range(9)}
        backend.close()
        backend = MappingBackend(mapping)
        assert rows_of(backend) == {key: b"%d" % key for key in range(9)}
        backend.close()


def test_mappings_are_told_apart_by_their_keys() -> None:
    """Keys are str or bytes as those that are there; other things in a mapping are refused; `pstore.open` takes one."""
    for mapping in ({}, Failing(), {"pstore": b"1", "theirs": b"x"}):
        with pstore.open(mapping) as db:
            db["a"] = {"b": [1]}
            db.commit()
        with pstore.open(mapping, "r") as db:
            assert db["a"] == {"b": [1]}
        with pstore.open(mapping, "n") as db:
            assert list(db) == []
        assert len({type(key) for key in mapping}) == 1
    assert mapping["theirs"] == b"x"
    for other in ({"a": b"b"}, {b"a": b"b"}):
        with pytest.raises(pstore.FormatError, match="something else"):
            pstore.open(other)
    for flag in "rw":
        with pytest.raises(pstore.StoreNotFound):
            pstore.open({}, flag)


def test_an_overlay_reads_through_and_never_writes(tmp_path: Path) -> None:
    """Over a base all is there; what is changed or removed here stays so, and the base is as it was."""
    path = tmp_path / "base.db"
    with pstore.open(path) as db:
        db.update({"kept": [1], "changed": [1], "removed": [1]})
        db.commit()
    with pstore.open("memory:", base=path) as over:
        over["changed"].append(2)
        del over["removed"]
        over["new"] = [3]
        over.commit()
        assert sorted(over) == ["changed", "kept", "new"]
        assert "removed" not in over
        assert over["changed"] == [1, 2]
        with pstore.open(path) as db:  # it isn't locked, and what is committed there isn't seen here
            assert sorted(db) == ["changed", "kept", "removed"]
            db["later"] = 1
            db.commit()
        with over.session() as other:
            assert sorted(other) == ["changed", "kept", "new"]
    with pstore.open(path) as db:
        assert db["changed"] == [1]


def test_an_overlay_belongs_to_memory(tmp_path: Path) -> None:
    """A base is for "memory:" alone; an open backend as a base stays open; one that is missing is told."""
    for target in (tmp_path / "store.db", {}, MemoryBackend()):
        with pytest.raises(ValueError, match="base"):
            pstore.open(target, base=MemoryBackend())
    with pytest.raises(ValueError, match="flag"):
        pstore.open("memory:", "n", base=MemoryBackend())
    with pytest.raises(pstore.StoreNotFound):
        pstore.open("memory:", base=tmp_path / "none.db")
    base = SqliteBackend(tmp_path / "store.db")
    with pstore.open(base) as db:
        db["a"] = 1
        db.commit()
    with pstore.open("memory:", base=base) as over:
        assert over["a"] == 1
    base.begin().rollback()
    base.close()
