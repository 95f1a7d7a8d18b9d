"""The mapping, the transactions, and what is refused."""

from __future__ import annotations

import gc
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shop

import pstore
from pstore import rows
from pstore.backends import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Place


def test_mapping(place: Place) -> None:
    """A store is a MutableMapping in name order, whose uncommitted changes are seen."""
    with place.open() as db:
        assert isinstance(db, MutableMapping)
        assert len(db) == 0
        db["b"], db["a"], db["ä"], db[""], db["c\0d"] = 1, 2, 3, 4, 5
        assert list(db) == ["", "a", "b", "c\0d", "ä"]
        assert len(db) == 5
        db.commit()
        del db["a"]
        db["aa"] = 6
        assert list(db) == ["", "aa", "b", "c\0d", "ä"]
        assert "a" not in db
        assert len(db) == 5
        assert db.pop("aa") == 6
        assert db.setdefault("z", []) is db["z"]
        db.update(x=1, y=2)
        assert dict(db) == {"": 4, "b": 1, "c\0d": 5, "ä": 3, "x": 1, "y": 2, "z": []}
    with place.open() as db:
        assert dict(db.items()) == {"": 4, "b": 1, "c\0d": 5, "ä": 3, "x": 1, "y": 2, "z": []}
        db.clear()
    with place.open() as db:
        assert list(db) == []


def test_many_names(place: Place) -> None:
    """Iteration goes in batches, and sees removals and additions that aren't committed."""
    with place.open() as db:
        db.update({f"{n:05}": n for n in range(3500)})
        db.commit()
        for n in range(900, 2600):
            del db[f"{n:05}"]
        db["01500x"] = 1
        assert list(db) == [f"{n:05}" for n in range(900)] + ["01500x"] + [f"{n:05}" for n in range(2600, 3500)]
        assert len(db) == 1801


@pytest.mark.parametrize("name", [1, None, b"a", ("a",)])
def test_names_are_text(name: Any, place: Place) -> None:
    """Anything else is a TypeError."""
    db = place.open()
    for use in (db.__getitem__, db.__contains__, db.__delitem__, lambda n: db.__setitem__(n, 1)):
        with pytest.raises(TypeError, match="names are str"):
            use(name)
    with pytest.raises(ValueError, match="UTF-8"):
        db["\ud800"] = 1


def test_missing_name_is_a_key_error(place: Place) -> None:
    """As in any mapping."""
    db = place.open()
    for use in (db.__getitem__, db.__delitem__):
        with pytest.raises(KeyError) as caught:
            use("nothing")
        assert type(caught.value) is KeyError


def test_with_commits_or_rolls_back(place: Place) -> None:
    """The block's end commits; an exception that leaves it drops everything."""
    with place.open() as db:
        db["kept"] = 1
    with pytest.raises(ZeroDivisionError), place.open() as db:
        db["kept"] = 1 / 0
    assert db.closed
    with place.open() as db:
        assert dict(db) == {"kept": 1}
        other = place.open()
        other["lost"] = 1
        other.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
        assert "lost" not in db


def test_closed_store_says_so(place: Place) -> None:
    """Every use of a closed store raises StoreClosed; closing again doesn't."""
    db = place.open()
    db["a"] = 1
    db.close()
    db.close()
    for use in (
        lambda: db["a"],
        db.commit,
        db.rollback,
        lambda: len(db),
        lambda: list(db),
        lambda: db.revision,
    ):
        with pytest.raises(pstore.StoreClosed):
            use()
    with place.open() as db:
        assert db["a"] == 1


def test_flags(path: Path) -> None:
    """R and w need a store, c makes one, n empties it; r refuses every change."""
    for flag in "rw":
        with pytest.raises(pstore.StoreNotFound, match="no store at"):
            pstore.open(path, flag)
        assert not path.exists()
    with pytest.raises(ValueError, match="flag"):
        pstore.open(path, "x")
    with pstore.open(path) as db:
        db["a"], db["b"] = [1], shop.Person(n=1)
    with pstore.open(path, "r") as db:
        assert db.readonly
        with pytest.raises(pstore.ReadOnlyError, match="'a'"):
            db["a"] = 2
        with pytest.raises(pstore.ReadOnlyError):
            del db["a"]
        db["b"].n = 2
        with pytest.raises(PermissionError, match="Person#"):
            db.commit()
        db.rollback()
        assert db["b"].n == 1
    with pstore.open(path, "w") as db:
        db["a"].append(2)
    with pstore.open(path, "n") as db:
        assert len(db) == 0
        assert db.revision == 0


@pytest.mark.parametrize("content", [b"just a text, and none of ours", b"SQLite format 3\0 but broken" + b"\0" * 100])
@pytest.mark.parametrize("flag", "rwcn")
def test_other_files_are_left_alone(content: bytes, flag: str, path: Path) -> None:
    """A file that is no store is refused with any flag, and not changed."""
    path.write_bytes(content)
    with pytest.raises(pstore.FormatError):
        pstore.open(path, flag)
    assert path.read_bytes() == content


@pytest.mark.parametrize("flag", "rwcn")
def test_other_databases_are_left_alone(flag: str, path: Path) -> None:
    """So is an SQLite database of another application."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (42)")
    connection.commit()
    connection.close()
    with pytest.raises(pstore.FormatError, match="not a pstore store"):
        pstore.open(path, flag)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT x FROM t").fetchall() == [(42,)]
    connection.close()


def test_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, URLs and backends open; other things say what is taken."""
    monkeypatch.chdir(tmp_path)
    for target in ("a.db", tmp_path / "a.db", "sqlite:///a.db", f"sqlite:///{tmp_path}/a.db"):
        with pstore.open(target) as db:
            db["n"] = db.get("n", 0) + 1
    with pstore.open("a.db") as db:
        assert db["n"] == 4
    with pstore.open("memory:") as db:
        db["x"] = 1
    with pytest.raises(ValueError, match="nosuch"):
        pstore.open("nosuch:///x")
    with pytest.raises(TypeError, match="path, URL, backend or mapping"):
        pstore.open(5)  # type: ignore[arg-type]
    with pytest.raises(pstore.FormatError, match="directory"):
        pstore.open(tmp_path)
    with pytest.raises(pstore.StoreNotFound, match="no directory"):
        pstore.open(tmp_path / "no" / "such")


def test_class_that_is_not_allowed(place: Place) -> None:
    """It is refused at commit, with the path and the line to paste; nothing is written."""
    db = place.open(allow=[shop.Plain])
    db["ok"] = 1
    db["a"] = {"owner": [shop.Secret(x=1)]}
    with pytest.raises(pstore.ClassNotAllowed) as caught:
        db.commit()
    assert "db['a']['owner'][0]" in str(caught.value)
    assert "allow=['shop.Secret']" in str(caught.value)
    assert (caught.value.module, caught.value.qualname) == ("shop", "Secret")
    db.rollback()
    assert len(db) == 0


def test_function_is_refused_unless_allowed(place: Place) -> None:
    """Functions are written by their names, which must be allowed too."""
    with place.open(allow=[]) as db:
        db["f"] = [os.system]
        with pytest.raises(pstore.ClassNotAllowed, match="system"):
            db.commit()
        db["f"] = os.system
        with pytest.raises(pstore.ClassNotAllowed, match="system"):
            db.commit()
        db.rollback()


def test_refusal_names_a_remedy_that_helps(place: Place) -> None:
    """Allowing what could run anything, or what can't be found again, is never proposed."""

    class Local:
        pass

    with place.open() as db:
        for value, remedy in ((shop.Plain(f=[].append), "__getstate__"), ([Local()], "move it"), (Local(), "move it")):
            db["x"] = value
            with pytest.raises(pstore.pickle.PickleError, match=r"db\['x'\]") as caught:
                db.commit()
            assert "allow=" not in str(caught.value)
            assert remedy in str(caught.value) or "local class" in str(caught.value)
        del db["x"]
    for cls in (Local, int, 3):
        with pytest.raises(TypeError):
            pstore.persistent(cls)  # type: ignore[arg-type]


def test_stored_class_that_is_not_allowed_here(place: Place) -> None:
    """A store is read with less allowed: the object is refused when it is touched, its neighbours load, and it stays."""
    with place.open() as db:
        db["a"] = shop.Person(secret=shop.Plain(x=1), n=1)
        db["secret"] = db["a"].secret
    with place.open(allow=[]) as db:
        assert db["a"].n == 1
        with pytest.raises(pstore.ClassNotAllowed, match=r"allow=\['shop.Plain'\]"):
            db["a"].secret.x  # noqa: B018
        with pytest.raises(pstore.ClassNotAllowed):
            db["secret"]
        db["a"].n = 2
    with place.open() as db:
        assert (db["a"].n, db["a"].secret.x) == (2, 1)


def test_hostile_stream_runs_nothing(place: Place, tmp_path: Path) -> None:
    """A record or a name that names `os.system` raises, and nothing is run."""
    with place.open() as db:
        db["a"], db["l"], db["n"] = shop.Person(x=1), [1], 5
        db.commit()
        keys = {name: db.key_of(db[name]) for name in "al"}
    ran = tmp_path / "ran"
    stream = pickle.dumps([1], 0)[:-1] + f"cos\nsystem\n(Vtouch {ran}\ntR.".encode()
    transaction = place.backend.begin(write=True)
    for key in keys.values():
        transaction.put_many("records", [(key, rows.seal(rows.record_place(key), stream, code=key >> 44, revision=1))])
    transaction.put_many("names", [("n", rows.seal(rows.name_place("n"), stream))])
    transaction.commit()
    with place.open() as db:
        for use in (lambda: db["a"].x, lambda: db["l"], lambda: db["n"]):
            with pytest.raises(pstore.ClassNotAllowed, match="system"):
                use()
        db.rollback()
    assert not ran.exists()


def test_flipped_byte(place: Place) -> None:
    """Every flipped byte of a record is found, with its key and name; the others still load."""
    with place.open() as db:
        db["good"], db["bad"] = shop.Person(x=1), shop.Person(x=2)
        db.commit()
        key = db.key_of(db["bad"])
    reader = place.backend.begin()
    (row,) = reader.get_many("records", [key])
    reader.rollback()
    for at in range(len(row)):
        damaged = bytearray(row)
        damaged[at] ^= 1 << random.Random(at).randrange(8)
        writer = place.backend.begin(write=True)
        writer.put_many("records", [(key, bytes(damaged))])
        writer.commit()
        with place.open() as db:
            assert db["good"].x == 1
            with pytest.raises(pstore.CorruptRecord, match="'bad'") as caught:
                db["bad"].x  # noqa: B018
            assert (caught.value.key, caught.value.name) == (key, "bad")
            assert "Person#" in str(caught.value)


@pytest.mark.parametrize("part", ["name", "head", "class", "gone"])
def test_other_damage(part: str, place: Place) -> None:
    """A damaged name, counter or class, and a record that is gone, are errors of ours too."""
    with place.open() as db:
        db["a"], db["b"] = shop.Person(x=1), shop.Person(x=2)
        db.commit()
        key = db.key_of(db["a"])
    table, where = {
        "name": ("names", "a"),
        "head": ("meta", "head"),
        "class": ("records", key >> 44 << 44),
        "gone": ("records", key),
    }[part]
    writer = place.backend.begin(write=True)
    (row,) = writer.get_many(table, [where])  # type: ignore[arg-type, list-item]
    if part == "gone":
        writer.delete_many(table, [where])  # type: ignore[arg-type, list-item]
    else:
        writer.put_many(table, [(where, bytes(row)[:-1] + bytes([row[-1] ^ 1]))])  # type: ignore[arg-type, list-item, index]
    writer.commit()
    error = pstore.MissingRecord if part == "gone" else pstore.CorruptRecord
    db = None
    with pytest.raises(error):
        (db := place.open())["a"].x  # noqa: B018
    assert part in ("head", "class") or db["b"].x == 2


def test_damaged_container_leaves_nothing_half(place: Place) -> None:
    """Where a container that has to be loaded is damaged, nothing of the operation stays."""
    with place.open() as db:
        shared = [1]
        db["l"], db["a"] = shared, shop.Person(x=shared, y=2)
        db.commit()
        key = db.key_of(shared)
    writer = place.backend.begin(write=True)
    (row,) = writer.get_many("records", [key])
    writer.put_many("records", [(key, bytes(row)[:-1])])
    writer.commit()
    with place.open() as db:
        for _ in range(2):
            with pytest.raises(pstore.CorruptRecord):
                db["a"].y  # noqa: B018
            with pytest.raises(pstore.CorruptRecord):
                db["l"]
        writer = place.backend.begin(write=True)
        writer.put_many("records", [(key, bytes(row))])
        writer.commit()
        db.rollback()
        assert db["a"].x is db["l"]
        assert db["l"] == [1]


def test_conflict(place: Place) -> None:
    """Two sessions that write the same record or name: the second is told, and nothing of its commit is stored."""
    with place.open() as db:
        db["a"], db["b"], db["n"] = shop.Person(x=1), shop.Person(x=1), 1
    one, two = place.open(), place.open()
    one["a"].x, two["a"].x, two["b"].x = 2, 3, 3
    one.commit()
    with pytest.raises(pstore.ConflictError, match="Person#1") as caught:
        two.commit()
    assert caught.value.keys == (one.key_of(one["a"]),)
    two.rollback()
    assert (two["a"].x, two["b"].x) == (2, 1)
    one["n"], two["n"] = 2, 3
    one.commit()
    assert two["n"] == 3
    with pytest.raises(pstore.ConflictError, match="'n'"):
        two.commit()
    two.rollback()
    assert two["n"] == 2


def test_sessions_that_do_not_conflict(place: Place) -> None:
    """Two sessions that write different objects both commit; each sees the other's work in its next transaction."""
    one, two = place.open(), place.open()
    for turn in range(5):
        one[f"one{turn}"], two[f"two{turn}"] = shop.Person(turn=turn), shop.Member(str(turn))
        one.commit()
        two.commit()
        one.rollback()
        assert one[f"two{turn}"].name == str(turn)
        one[f"two{turn}"].name = "changed"
        one.commit()
        two.rollback()
        assert two[f"two{turn}"].name == "changed"
        assert two[f"one{turn}"].turn == turn
    assert len(one) == len(two) == 10
    keys = [db.key_of(db[name]) for db in (one,) for name in db]
    assert len({key & (1 << 44) - 1 for key in keys}) == 10


def test_commit_between_two_of_another_session(place: Place) -> None:
    """A session that commits after another one still sees what that one has changed."""
    one, two = place.open(), place.open()
    one["a"], one["b"] = shop.Person(x=1), shop.Person(x=1)
    one.commit()
    assert (two["a"].x, two["b"].x) == (1, 1)
    one["a"].x = 2
    one.commit()
    two["b"].x = 3
    two.commit()
    assert (two["a"].x, two["b"].x) == (2, 3)
    one.rollback()
    assert (one["a"].x, one["b"].x) == (2, 3)


def test_container_changed_by_another_session(place: Place) -> None:
    """A named list that another session has changed is the new one, in place, at the next transaction."""
    one, two = place.open(), place.open()
    one["l"] = [1]
    one.commit()
    assert two["l"] == [1]
    mine = two["l"]
    one["l"].append(2)
    one.commit()
    assert two["l"] == [1]
    two.rollback()
    assert two["l"] is mine
    assert mine == [1, 2]


def test_a_conflict_lasts_until_the_rollback(place: Place) -> None:
    """Asking again doesn't pass a conflict, nor does a change that the barrier didn't see; a rollback shows the new state."""
    one, two = place.open(), place.open()
    one["l"], one["a"], one["n"] = [0], shop.Person(x=0), 0
    one.commit()
    assert (two["l"], two["a"].x, two["n"]) == ([0], 0, 0)
    mine = one["l"]
    two["l"].append("two")
    two["a"].x, two["n"] = 2, 2
    mine.append("one")
    one["a"].x, one["n"] = 1, 1
    two.commit()
    for _ in range(3):
        with pytest.raises(pstore.ConflictError):
            one.commit()
    one.rollback()
    assert (one["l"], one["a"].x, one["n"]) == ([0, "two"], 2, 2)
    mine = one["l"]
    one.commit()
    two["l"].append("again")
    two.commit()
    mine.append("unseen")
    assert one["n"] == 2
    for _ in range(2):
        with pytest.raises(pstore.ConflictError):
            one.commit()
    one.rollback()
    assert one["l"] == [0, "two", "again"]
    one["l"].append("at last")
    one.commit()


def test_interrupted_behind_the_commit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that was made though an exception came out of it is known to be made: no key is given twice."""
    db = place.open()
    db["zero"] = shop.Person(x=0)
    db.commit()
    db["a"] = shop.Person(x="a")
    begin = place.backend.begin

    def interrupting(*, write: bool = False) -> Any:
        transaction = begin(write=write)
        commit = transaction.commit

        def interrupted() -> None:
            commit()
            raise KeyboardInterrupt

        if write:
            transaction.commit = interrupted  # type: ignore[method-assign]
        return transaction

    monkeypatch.setattr(place.backend, "begin", interrupting)
    with pytest.raises(KeyboardInterrupt):
        db.commit()
    monkeypatch.undo()
    db["a"].x = "A"
    db["b"] = shop.Person(x="b")
    assert len(db.commit().keys) == 2
    with place.open() as other:
        assert [other[name].x for name in other] == ["A", "b", 0]


def test_store_that_was_killed_while_it_was_made(path: Path) -> None:
    """A store whose file isn't in write-ahead mode yet is put into it, and can be written."""
    pstore.open(path).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    connection.close()
    with pstore.open(path) as db:
        db["a"] = [1]
    with pstore.open(path) as db:
        assert db["a"] == [1]


def test_object_of_another_session(place: Place) -> None:
    """An object belongs to one session; to store it in another is refused clearly."""
    with place.open() as db:
        db["a"] = shop.Plain(x=1)
    one, two = place.open(), place.open()
    two["b"] = [one["a"]]
    with pytest.raises(pstore.ForeignObject, match="another session"):
        two.commit()
    two.rollback()


@pytest.mark.parametrize(
    "make", [lambda: shop.Plain(x=1), lambda: shop.Person(x=1), lambda: [1], lambda: shop.Reduced(1)]
)
@pytest.mark.parametrize("inline", [True, False])
def test_awake_object_of_another_session(make: Callable[[], Any], inline: bool, place: Place) -> None:
    """The same for one that is loaded and in use there; once that session is closed it may go anywhere."""
    with place.open() as db:
        db["a"] = make()
    one, two = place.open(), place.open()
    used = one["a"]
    getattr(used, "x", None)
    two["b"] = {"in": [used]} if inline else used
    with pytest.raises(pstore.ForeignObject, match=r"another session.*copy\.deepcopy"):
        two.commit()
    one.close()
    two.commit()
    two.close()


@pytest.mark.parametrize(
    "make",
    [threading.Lock, lambda: (number for number in [1]), lambda: memoryview(b""), lambda: open(os.devnull)],  # noqa: SIM115, PTH123
    ids=["lock", "generator", "memoryview", "file"],
)
def test_what_nobody_can_pickle(make: Callable[[], Any], place: Place) -> None:
    """It is refused for what it is, and no advice is given to allow its class."""
    value = make()
    with place.open() as db:
        for held in value, [value], shop.Plain(held=value):
            db["a"] = held
            with pytest.raises(pickle.PicklingError, match="cannot pickle") as caught:
                db.commit()
            assert "db['a']" in str(caught.value)
            assert "allow" not in str(caught.value)
        del db["a"]
    getattr(value, "close", lambda: None)()


def test_rollback_of_another_class(place: Place) -> None:
    """An object whose class was set is of its stored class again after a rollback, before it is touched too."""
    with place.open() as db:
        db["a"] = shop.Plain(x=1)
        db.commit()
        used = db["a"]
        used.__class__ = shop.Person
        used.x = 2
        db.rollback()
        assert isinstance(used, shop.Plain)
        assert type(used.__class__) is type
        assert not isinstance(used, shop.Person)
        assert used.x == 1
        assert type(used) is shop.Plain


def test_rollback_of_a_long_chain_of_constructed_objects(place: Place) -> None:
    """It takes time in proportion to the chain."""
    with place.open() as db:
        link = shop.Reduced(None)
        for _ in range(1500):
            link = shop.Reduced(link)
            db[f"link {_}"] = link
        db.commit()
        deepest = link
        while deepest.parts[0] is not None:
            deepest = deepest.parts[0]
        deepest.extra = "changed"
        start = time.process_time()
        db.rollback()
        assert time.process_time() - start < 10  # which is far more than it takes
        link = db["link 1499"]
        while link.parts[0] is not None:
            link = link.parts[0]
        assert link.extra is None


def test_reading_may_change_objects_of_a_read_only_store(path: Path) -> None:
    """A store that is only read closes without a word, though reading has filled caches in its objects."""
    with pstore.open(path, allow=["shop"]) as db:
        db["a"] = shop.Plain(x=1)
        db["b"] = [1]
    with pstore.open(path, "r", allow=["shop"]) as db:
        db["a"].cache = 2
        db["b"].append(2)
    db = pstore.open(path, "r", allow=["shop"])
    db["a"].cache = 2
    with pytest.raises(pstore.ReadOnlyError, match="flag 'w'"):
        db.commit()
    db.close()
    with pstore.open(path, allow=["shop"]) as db:
        assert not hasattr(db["a"], "cache")
        assert db["b"] == [1]


def test_notes_are_text(place: Place) -> None:
    """What can't be a note is refused before anything is done."""
    with place.open() as db:
        db["a"] = 1
        with pytest.raises(TypeError, match="a note is a str, not int"):
            db.commit(note=5)
        with pytest.raises(ValueError, match="surrogate"):
            db.commit(note="\ud800")
        db.commit(note="a note")


def test_stand_in_stays_one_object(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that was met when its class couldn't be had isn't replaced in this session by another one."""
    with place.open() as db:
        db["secret"] = secret = shop.Plain(x=1)
        db["holder"] = [secret]
    with monkeypatch.context() as patch:
        patch.delattr(shop, "Plain")
        db = place.open()
        stand_in = db["holder"][0]
        with pytest.raises(ImportError, match="no Plain in shop"):
            _ = stand_in.x
    with pytest.raises(pstore.ClassNotAllowed, match="open the store again"):
        _ = db["secret"]
    assert db["holder"][0] is stand_in
    db.close()
    with place.open() as db:
        assert db["holder"][0] is db["secret"]


def test_close_in_another_thread(place: Place) -> None:
    """It is refused, and nothing is lost by that."""
    db = place.open()
    db["a"] = 1
    errors: list[BaseException] = []

    def close() -> None:
        try:
            db.close()
        except pstore.WrongThread as error:
            errors.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert not db.closed
    db.close()
    with place.open() as db:
        assert db["a"] == 1


def test_emptied_while_open(path: Path) -> None:
    """A store that flag "n" has emptied under an open session says so there; nothing of the two is mixed."""
    old = pstore.open(path, allow=["shop"])
    old["a"] = shop.Plain(x=1)
    old.commit()
    kept = old["a"]
    with pstore.open(path, "n", allow=["shop"]) as new:
        new["b"] = shop.Person(x=2)
    kept.x = 3
    assert old["a"] is kept  # the snapshot that the transaction began with
    for use in (old.commit, lambda: old["a"], lambda: old["b"], lambda: list(old)):
        with pytest.raises(pstore.StoreClosed, match=r"emptied .*open it again"):
            use()
    with pytest.raises(pstore.StoreClosed):
        old.close()
    assert old.closed
    with pstore.open(path, allow=["shop"]) as new:
        assert list(new) == ["b"]
        assert new["b"].x == 2


def test_clearing_many_names(place: Place) -> None:
    """It takes time in proportion to the names."""
    with place.open() as db:
        db.update({f"name {number}": number for number in range(20_000)})
        db.commit()
        start = time.process_time()
        db["new"] = 1
        db.clear()
        assert len(db) == 0
        assert list(db) == []
        assert "new" not in db
        db.commit()
        assert time.process_time() - start < 10  # which is far more than it takes
        assert list(db) == []


@pytest.mark.parametrize("part", ["next_serial", "next_code"])
def test_counters_out_of_range(part: str, place: Place) -> None:
    """Counters that no store has reached are damage, and nothing is read or written by them."""
    with place.open() as db:
        db["a"] = shop.Plain(x=1)
    body = rows.pack_head(rows.Head(revision=1)._replace(**{part: 1 << 62}))
    writer = place.backend.begin(write=True)
    writer.put_many("meta", [("head", rows.seal(rows.meta_place("head"), body))])
    writer.commit()
    with pytest.raises(pstore.CorruptRecord, match="counters"):
        _ = place.open()["a"]


@pytest.mark.parametrize("table, key", [("names", "a"), ("meta", "head")])
def test_row_of_a_newer_format(table: Any, key: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't damaged: the error says that a newer version has written it."""
    with place.open() as db:
        db["a"] = shop.Plain(x=1)
    reader = place.backend.begin()
    (row,) = reader.get_many(table, [key])
    reader.rollback()
    where = {"names": rows.name_place, "meta": rows.meta_place}[table](key)
    sealed = rows.unseal(where, row)
    with monkeypatch.context() as patch:
        patch.setattr(rows, "FORMAT", 2)
        newer = rows.seal(where, bytes(sealed.body), flags=sealed.flags, code=sealed.code, revision=sealed.revision)
    writer = place.backend.begin(write=True)
    writer.put_many(table, [(key, newer)])
    writer.commit()
    with pytest.raises(pstore.FormatError, match="newer version of pstore"):
        _ = place.open()["a"]


def test_other_thread(place: Place) -> None:
    """A store belongs to its thread, and says so."""
    with place.open() as db:
        db["a"] = shop.Plain(x=1)
    db = place.open()
    ghost = db["a"]
    errors: list[BaseException] = []

    def use() -> None:
        for action in (lambda: db["a"], lambda: ghost.x, db.commit):
            try:
                action()
            except pstore.WrongThread as error:  # noqa: PERF203
                errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(errors) == 3
    assert ghost.x == 1


def test_losing_work_warns(place: Place) -> None:
    """A store that is dropped with uncommitted work says so; one without is silent."""
    db = pstore.open(place.backend, allow=["shop"])
    db["a"] = shop.Person(x=1)
    db.commit()
    assert db["a"].x == 1
    del db
    gc.collect()
    db = pstore.open(place.backend, allow=["shop"])
    db["a"].x = 2
    with pytest.warns(ResourceWarning, match="weren't committed"):
        db = gc.collect()


def test_object_at_and_labels(place: Place) -> None:
    """Keys lead to objects and back."""
    with place.open() as db:
        db["a"] = shop.Person(x=1)
        assert db.key_of(db["a"]) is None
        db.commit()
        key = db.key_of(db["a"])
        assert db.object_at(key) is db["a"]
        assert db.label(key) == "Person#1"
        for wrong in (0, -1, 1 << 70, "x", True):
            with pytest.raises(ValueError, match="no key"):
                db.object_at(wrong)
        with pytest.raises(pstore.MissingRecord, match="Person#77"):
            db.object_at((key >> 44 << 44) + 77)
        with pytest.raises(pstore.MissingRecord):
            db.object_at(99 << 44 | 1)


@pytest.mark.parametrize("key", [-1, 0, 1, 1 << 64, "1", None, 1.5])
def test_what_is_no_key(key: Any, place: Place) -> None:
    """It is refused as such."""
    with place.open() as db:
        for ask in db.label, db.object_at:
            with pytest.raises(ValueError, match="no key"):
                ask(key)


def test_log_and_revision(place: Place) -> None:
    """Each commit that writes something is one revision, with a note in the log."""
    with place.open() as db:
        assert db.revision == 0
        db["a"] = [1]
        assert db.commit("first").revision == 1
        assert db.commit().revision == 1
        assert db.revision == 1
    reader = place.backend.begin()
    ((revision, row),) = reader.scan("log")
    entry = rows.unpack_log(rows.unseal(rows.log_place(revision), row).body)
    reader.rollback()
    assert (entry.note, entry.names, len(entry.keys)) == ("first", ("a",), 1)
    assert abs(entry.time / 1e6 - time.time()) < 100


def test_errors_pickle() -> None:
    """Every error survives a pickle, with what it knows."""
    error = pstore.CorruptRecord("it is damaged", key=5, name="n")
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.key, copied.name, type(copied)) == ("it is damaged", 5, "n", pstore.CorruptRecord)
    assert str(pstore.MissingRecord("gone", key=5)) == "gone"
    for name in pstore.__all__:
        kind = getattr(pstore, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert str(pickle.loads(pickle.dumps(kind("text")))) == "text"
            assert issubclass(kind, pstore.Error)


def test_a_forked_process_is_refused(path: Path) -> None:
    """A store opened before a fork doesn't serve the child: it says to open it again."""
    with pstore.open(path) as db:
        db["a"] = 1
    db = pstore.open(path)
    pid = os.fork()
    if not pid:
        try:
            db["a"]
        except pstore.StoreClosed:
            os._exit(42)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    assert db["a"] == 1
    db.close()


KILLED = """
import sys, pstore, shop
db = pstore.open(sys.argv[1], allow=["shop"])
n = db.get("n", 0)
while True:
    n += 1
    db["n"] = n
    db["people"] = [shop.Person(n=n, text="x" * 2000) for _ in range(20)]
    if "shared" in db:
        db["shared"].n = n
    else:
        db["shared"] = shop.Person(n=n)
    db.commit()
    print(n, flush=True)
"""


def test_killed_while_committing(path: Path) -> None:
    """Killed at random moments 50 times, the store opens with every acknowledged commit and none by half."""
    chance = random.Random(5)
    environment = {**os.environ, "PYTHONPATH": str(Path(shop.__file__).parent)}
    acknowledged = 0
    for _ in range(50):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=environment, text=True
        )
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 6)):
            acknowledged = int(process.stdout.readline() or acknowledged)
        time.sleep(chance.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        for line in process.stdout.read().splitlines():
            acknowledged = int(line)
        process.wait()
        process.stdout.close()
        with pstore.open(path, "w", allow=["shop"]) as db:
            n = db["n"]
            assert n in (acknowledged, acknowledged + 1)
            assert db["shared"].n == n
            assert [person.n for person in db["people"]] == [n] * 20
            acknowledged = n
    assert acknowledged > 100


def test_memory_backend_keeps_snapshots() -> None:
    """A reader sees the state of its beginning whatever is committed, and memory doesn't keep what nobody sees."""
    backend = MemoryBackend()
    readers = []
    for n in range(5):
        readers.append(backend.begin())
        writer = backend.begin(write=True)
        writer.put_many("records", [(1, bytes([n])), (10 + n, b"x")])
        writer.delete_many("records", [9 + n])
        writer.commit()
    for n, reader in enumerate(readers):
        assert reader.get_many("records", [1]) == [bytes([n - 1]) if n else None]
        assert list(reader.scan("records")) == ([(1, bytes([n - 1])), (9 + n, b"x")] if n else [])
        reader.rollback()
    assert backend._replaced == {}
