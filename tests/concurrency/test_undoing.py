"""Savepoints, rollbacks and what others do meanwhile: what is undone is undone, and nothing else is."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import merging
import pytest
from merging import Part, Tally

import pstore
from pstore import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pstore.backends import Backend

# An interruption behind the making of a connection leaves it to the garbage collector, of which Python 3.13 warns.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What an interruption has left is collected here, and in no other test."""
    yield
    gc.collect()


@pytest.fixture
def db(backend: Backend) -> Iterator[pstore.Store]:
    """A store with what a constructor makes (`ann`), a list, and what merges."""
    db = pstore.open(backend, allow=["types"])
    db["ann"], db["list"], db["tally"] = SimpleNamespace(age=1), [1], Tally()
    db["part"] = db["tally"].part = Part([1])  # type: ignore[attr-defined]
    db.commit()
    yield db
    merging.WHEN_MERGED.clear()
    db.rollback()
    db.close()


@pytest.mark.parametrize("stored", [True, False])
def test_back_to_where_a_name_was_set(stored: bool, db: pstore.Store) -> None:
    """A name that was set before a savepoint leads to what the object was there, also where that has to be made anew."""
    db["x"] = db["ann"] if stored else SimpleNamespace(age=1)
    first = db.savepoint()
    second = db.savepoint()
    for savepoint in (second, first):
        db["x"].age = 2
        savepoint.rollback()
        assert db["x"].age == 1
        assert (db["x"] is db["ann"]) == stored
    db.commit()
    assert db["x"].age == 1
    assert (db["x"] is db["ann"]) == stored
    with db.session() as fresh:
        assert fresh["x"].age == 1
        assert (fresh["x"] is fresh["ann"]) == stored


def test_name_set_to_what_another_session_has_changed(db: pstore.Store, other: pstore.Store) -> None:
    """An object that is put under a name before the transaction begins is the store's, as others have left it."""
    ann = db["ann"]
    db.commit()
    other["ann"].age = 5
    other.commit()
    db["x"] = ann
    assert db["ann"].age == 5
    assert db["x"] is db["ann"]
    done = db.commit()
    assert (done.keys, done.names) == ((), ("x",))
    other.rollback()
    assert other["x"] is other["ann"]


def test_change_that_was_taken_back(db: pstore.Store, other: pstore.Store) -> None:
    """What both sessions have changed, and this one back again, is as the other one has left it after a commit."""
    held = db["list"]
    db.commit()
    other["list"].append(2)
    other.commit()
    held.append(9)
    db["tally"].count = 1
    assert held.pop() == 9
    db.commit()
    assert db["list"] is held
    assert held == [1, 2]
    held.append(3)
    db.commit()
    other.rollback()
    assert other["list"] == [1, 2, 3]


@pytest.mark.parametrize("then", ["nothing", "look", "evict", "forget"])
def test_merge_of_what_was_put_aside(then: str, db: pstore.Store, other: pstore.Store) -> None:
    """What a savepoint has put aside and nothing has changed since is merged, and memory has what was merged."""
    db["tally"].count += 1
    db.savepoint()
    tally = None if then == "forget" else db["tally"]
    if then == "look":
        assert db["tally"].count == 1
    elif then != "nothing":
        db.evict()
    other["tally"].count += 10
    other.commit()
    db.commit()
    assert tally in {None, db["tally"]}
    assert db["tally"].count == 11
    db["tally"].count += 1
    assert len(db.commit().keys) == 1
    other.rollback()
    assert other["tally"].count == 12


@pytest.mark.parametrize("change", [True, False])
def test_merge_that_shares(change: bool, db: pstore.Store, other: pstore.Store) -> None:
    """A list that a merge puts into its object as well stays one list: both records are written."""
    merging.WHEN_MERGED.append(lambda base, theirs, mine: setattr(mine, "shared", mine.part.name))
    db["tally"].count += 1
    if change:
        db["part"].name.append(2)
    other["tally"].count += 10
    other.commit()
    assert {db.key_of(db["tally"]), db.key_of(db["part"])} < set(db.commit().keys)
    db["part"].name.append(3)
    db.commit()
    other.rollback()
    for store in (db, other):
        assert store["tally"].shared is store["part"].name
        assert store["part"].name == ([1, 2, 3] if change else [1, 3])


def test_two_merges_that_share(db: pstore.Store, other: pstore.Store) -> None:
    """Merges of two objects may give both one new list."""
    db["second"] = Tally()
    db.commit()
    other.rollback()
    new: list[int] = []
    merging.WHEN_MERGED.append(lambda base, theirs, mine: setattr(mine, "shared", new))
    for store in (db, other):
        store["tally"].count += 1
        store["second"].count += 1
    other.commit()
    db.commit()
    other.rollback()
    for store in (db, other):
        assert store["tally"].shared is store["second"].shared


def test_merge_that_changes_another_object(db: pstore.Store, other: pstore.Store) -> None:
    """What a merge changes elsewhere is written by the same commit, or refused where others have changed it too."""
    merging.WHEN_MERGED.append(lambda base, theirs, mine: mine.part.name.append("merged"))
    for theirs_too in (False, True):
        db["tally"].count += 1
        other["tally"].count += 1
        if theirs_too:
            other["part"].name.append("theirs")
        other.commit()
        if theirs_too:
            with pytest.raises(pstore.ConflictError, match="Part"):
                db.commit()
            db.rollback()
        else:
            db.commit()
        other.rollback()
        assert other["part"].name == db["part"].name == [1, "merged", *(["theirs"] if theirs_too else [])]


def test_serializable_merge_that_reads(backend: Backend, db: pstore.Store, other: pstore.Store) -> None:
    """What a merge reads counts as read."""
    with pstore.open(backend, allow=["types"], isolation="serializable") as mine:
        mine["tally"].count += 1
        other["tally"].count += 1
        other["part"].name.append("theirs")
        other.commit()
        merging.WHEN_MERGED.append(lambda base, theirs, mine: mine.log.append(str(mine.part.name)))
        with pytest.raises(pstore.ConflictError, match=r"Part#.*read here"):
            mine.commit()
        mine.rollback()


@pytest.mark.parametrize("then", ["rollback", "commit"])
def test_savepoint_without_room(then: str, db: pstore.Store, other: pstore.Store) -> None:
    """A savepoint for which the disk has no room fails, and the earlier ones are whole."""
    db["parts"] = [Part(str(number) * 50) for number in range(100)]
    savepoint = db.savepoint()
    database = db._session._aside._database
    assert database is not None
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages + 20}")
    db["parts"] += [Part("z" * 3000) for _ in range(100)]
    for part in db["parts"]:
        part.name += "changed"
    with pytest.raises(pstore.errors.StorageError, match="SQLITE_TMPDIR"):
        db.savepoint()
    if then == "rollback":
        savepoint.rollback()
    db.commit()
    other.rollback()
    expected = [str(number) * 50 for number in range(100)]
    if then == "commit":
        expected = [name + "changed" for name in [*expected, *["z" * 3000] * 100]]
    for store in (db, other):
        assert [part.name for part in store["parts"]] == expected


def test_interrupted_savepoint(db: pstore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A savepoint that is interrupted has put nothing aside."""
    pack, calls = aside._packed, []

    def interrupt(key: int) -> bytes:
        calls.append(key)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return pack(key)

    db["parts"] = [Part(number) for number in range(5)]
    with monkeypatch.context() as patch:
        patch.setattr(aside, "_packed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            db.savepoint()
    del db["parts"]
    assert db.commit().keys == ()


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("again", ["rollback", "savepoint", "commit", "close"])
def test_interrupted_rollback(again: str, at: int, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback that is interrupted is done to its end by the next one, and before anything is written."""
    db = pstore.open(backend)
    db["a"] = Part(["old"])
    db.commit()
    new = [Part(number) for number in range(3)]
    db["a"].name.append(new)
    db.savepoint()
    restorer, left = db._session._restorer, [at]

    def interrupted(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return method(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(restorer, "let_go", interrupted(restorer.let_go))
        patch.setattr(restorer, "restore", interrupted(restorer.restore))
        with pytest.raises(KeyboardInterrupt):
            db.rollback()
    if again == "savepoint":
        db.savepoint()
        db.rollback()
    else:
        getattr(db, again)()
    with pstore.open(backend) as fresh:
        assert fresh["a"].name == ["old"]
        fresh["a"].name.append(Part("newer"))
    if again != "close":
        assert [db.key_of(part) for part in new] == [None] * 3
        db.rollback()
        db["new"] = new
        db.commit()
        db.close()
        with pstore.open(backend) as fresh:
            assert [part.name for part in fresh["new"]] == [0, 1, 2]


SESSION = str(Path(pstore.__file__).parent)


def interrupted(function: Callable[[], object], at: int) -> bool:
    """Call a function; interrupt it before the line of this number that it comes to in the session. Return whether it was."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(SESSION):
            return None
        if event == "line":
            lines += 1
            # What begins and ends the work is left out: an interruption there is before or behind it.
            if lines >= at and Path(frame.f_code.co_filename).stem in {"aside", "changes", "committer", "restoring"}:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
    return False


@pytest.mark.parametrize("work", ["commit", "savepoint", "rollback", "back"])
def test_interrupted_anywhere(work: str) -> None:
    """Wherever a work on a transaction is interrupted, memory and store agree once it is rolled back or done again."""
    for at in range(1, 10_000, 29):
        db = pstore.open("memory:", allow=["types"])
        db["a"], db["ann"] = Part(["old"]), SimpleNamespace(age=1)
        db["list"] = [db["a"]]
        db.commit()
        db["a"].name.append(Part("first"))
        savepoint = db.savepoint()
        db["a"].name.append(shared := [Part("second")])
        db["list"] += [Part("third"), shared]
        db["ann"].age = 2
        works = {"commit": db.commit, "savepoint": db.savepoint, "rollback": db.rollback, "back": savepoint.rollback}
        was_interrupted = interrupted(works[work], at)
        with db.session() as fresh:
            stored = fresh["ann"].age
        if work == "back":
            savepoint.rollback()
        elif work != "commit" or was_interrupted:
            db.rollback()
        done = work == "commit" and stored == 2
        expected = {"commit": done and 3, "back": 2}.get(work) or 1
        db["a"].name.append("more")
        db.commit()
        with db.session() as fresh:
            for store in (db, fresh):
                assert len(store["a"].name) == expected + 1, at
                assert [store["ann"].age, len(store["list"])] == ([2, 3] if done else [1, 1]), at
                assert not done or store["list"][2] is store["a"].name[2]
        db.close()
        if not was_interrupted:
            break
