"""Several sessions on one store, and what a transaction is."""

from __future__ import annotations

import contextlib
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
import shop

import pstore

if TYPE_CHECKING:
    from conftest import Place


def test_session_for_another_thread(place: Place) -> None:
    """A session that one thread makes belongs to the thread that uses it first; each has its own objects."""
    db = place.open()
    db["a"] = shop.Plain(x=1)
    db.commit()
    session = db.session()
    seen: list[Any] = []

    def work() -> None:
        with session:
            session["a"].x += 1
            seen.append(session["a"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with pytest.raises(pstore.StoreClosed):
        session["a"]
    db.rollback()
    assert db["a"].x == 2
    assert db["a"] is not seen[0]


def test_database_is_closed_with_its_last_session(path: Any) -> None:
    """Sessions may be closed in any order."""
    db = pstore.open(path, allow=["shop"])
    session = db.session()
    db["a"] = 1
    db.close()
    with pytest.raises(pstore.StoreClosed, match="open it again"):
        db.session()
    assert session["a"] == 1
    session["b"] = 2
    session.close()
    with pstore.open(path, allow=["shop"]) as db:
        assert dict(db) == {"a": 1, "b": 2}


def test_write_skew(place: Place) -> None:
    """Two doctors are on call, and each leaves seeing the other: allowed under snapshots, refused when serializable."""
    db = place.open()
    for isolation in ("snapshot", "serializable"):
        db["one"], db["two"] = shop.Person(on_call=True), shop.Person(on_call=True)
        db.commit()
        first, second = (db.session(isolation=isolation) for _ in range(2))
        for session, mine, other in ((first, "one", "two"), (second, "two", "one")):
            assert session[other].on_call
            session[mine].on_call = False
        first.commit()
        if isolation == "snapshot":
            second.commit()
        else:
            with pytest.raises(pstore.ConflictError, match=r"Person#\d+ \(db\['one'\]\), read here") as caught:
                second.commit()
            (conflict,) = caught.value.conflicts
            assert conflict == (second.key_of(second["one"]), "Person", "one", conflict.ours, conflict.theirs, True)
            assert 0 < conflict.ours < conflict.theirs
            with pytest.raises(pstore.ConflictError):
                second.commit()
            second.rollback()
            assert not second["one"].on_call
        for session in (first, second):
            session.close()
        db.rollback()
        assert (db["one"].on_call, db["two"].on_call) == (False, isolation == "serializable")


READS = {
    "name": lambda db: db["a"],
    "missing name": lambda db: db.get("new"),
    "asked for": lambda db: "new" in db,
    "iteration": list,
    "number": len,
    "instances": lambda db: [person.x for person in db.instances(shop.Person)],
    "list": lambda db: db["list"][0],
    "evicted": lambda db: (db["p"].x, db.evict()),
    "savepoint": lambda db: (db["p"].x, db.savepoint()),
}


@pytest.mark.parametrize("read", [pytest.param(read, id=name) for name, read in READS.items()])
def test_what_counts_as_read(read: Any, place: Place) -> None:
    """Whatever was read and isn't so any more refuses a serializable commit; a transaction that only reads never fails."""
    db = place.open()
    db.update(a=1, list=[1], p=shop.Person(x=1), other=shop.Person(x=1), mine=0)
    db.commit()
    session, reader = db.session(isolation="serializable"), db.session(isolation="serializable")
    read(session)
    read(reader)
    session["mine"] = 1
    db["a"], db["new"] = 2, 3
    db["list"][0] = 2
    db["p"].x = 2
    db["q"] = shop.Person(x=5)
    db.commit()
    with pytest.raises(pstore.ConflictError):
        session.commit()
    assert not reader.commit().names
    session.rollback()
    read(session)
    session["mine"] = 1
    session.commit()
    session.close()
    reader.close()


def test_run_tries_again(place: Place) -> None:
    """After a conflict the function is called again, in a transaction that has the new state."""
    db = place.open()
    other = db.session()
    db["n"] = shop.Plain(value=0)
    db.commit()
    seen: list[int] = []

    def add(store: pstore.Store) -> str:
        assert store is db
        seen.append(store["n"].value)
        store["n"].value += 1
        if len(seen) < 3:
            other.rollback()
            other["n"].value += 10
            other.commit()
        return "done"

    assert db.run(add, note="added") == "done"
    assert seen == [0, 10, 20]
    assert db["n"].value == 21
    other.close()


def test_last_attempt_keeps_others_out(path: Any) -> None:
    """It holds the write lock, so that a store that is always written to can't keep it from committing."""
    with (
        contextlib.closing(pstore.backends.SqliteBackend(path, timeout=0.1)) as impatient,
        pstore.open(path, allow=["shop"]) as db,
        pstore.open(impatient) as other,
    ):
        db["n"] = 0

        def add(store: pstore.Store) -> None:
            store["n"] += 1
            other.rollback()
            other["n"] = 100
            with pytest.raises(pstore.StoreLocked):
                other.commit()
            other.rollback()

        db.commit()
        db.run(add, attempts=1)
        assert db["n"] == 1


def test_run_begins_with_nothing_changed(place: Place) -> None:
    """Work that isn't committed isn't lost to a new attempt; an error rolls back; run isn't called within run."""
    db = place.open()
    db["a"] = 1
    with pytest.raises(pstore.Uncommitted, match="commit or roll back first"):
        db.run(lambda _: None)
    db.commit()
    with pytest.raises(ZeroDivisionError):
        db.run(lambda store: [store.update(a=2), 1 / 0])
    assert db["a"] == 1
    for call in (db.commit, db.rollback, db.close, lambda: db.run(lambda _: None)):
        with pytest.raises(pstore.StoreBusy, match="within run"):
            db.run(lambda _, call=call: call())


class Tally:
    """Merges."""

    def __init__(self) -> None:
        self.count = 0
        self.members: set[Any] = set()

    @staticmethod
    def __merge__(base: Tally, theirs: Tally, mine: Tally) -> None:
        if theirs.count < 0:
            message = "it was closed"
            raise pstore.ConflictError(message)
        mine.count += theirs.count - base.count
        mine.members |= theirs.members


shop.Tally = Tally  # type: ignore[attr-defined]
Tally.__module__, Tally.__qualname__ = "shop", "Tally"


def test_merge(place: Place) -> None:
    """A class that says how to merge takes the work of both; what it gets refers to this session's objects."""
    db = place.open()
    db["t"] = Tally()
    db["p"] = shop.Person(x=1)
    db.commit()
    other = db.session()
    other["t"].count += 5
    other["t"].members.update({1, other["p"], shop.Person(x=2)})
    db["t"].count += 2
    db["t"].members.update({3, db["p"], shop.Person(x=3)})
    other.commit()
    done = db.commit()
    assert db.key_of(db["t"]) in done.keys
    for session in (db, other):
        session.rollback()
        tally = session["t"]
        assert tally.count == 7
        assert session["p"] in tally.members
        assert sorted(member.x for member in tally.members if isinstance(member, shop.Person)) == [1, 2, 3]
        assert {1, 3} < tally.members
        assert session.commit().keys == ()
    db["t"].count += 1
    other["t"].count = -1
    other.commit()
    with pytest.raises(pstore.ConflictError, match="it was closed"):
        db.commit()
    db.rollback()
    assert db["t"].count == -1
    other.close()


def test_merge_with_a_savepoint(place: Place) -> None:
    """What was put aside is merged as well."""
    db = place.open()
    db["t"] = Tally()
    db.commit()
    other = db.session()
    db["t"].count += 2
    db.savepoint()
    db.evict()
    other["t"].count += 5
    other.commit()
    db.commit()
    assert db["t"].count == 7
    other.close()


def test_savepoints(place: Place) -> None:
    """Names and objects are again what they were; later savepoints end, and so do all with the transaction."""
    db = place.open()
    db["a"], db["list"], db["stack"] = shop.Plain(x=0), [0], shop.Stack([0])
    db["made"] = shop.Reduced(0)
    db.commit()
    kept = db["a"]
    assert db["made"].parts == (0,)

    def change(value: int) -> None:
        db["a"].x = value
        db["list"].append(value)
        db["stack"].append(value)
        db["made"].extra = value
        db[f"new{value}"] = shop.Person(x=value)

    def state() -> Any:
        return (
            *(db["a"].x, list(db["list"]), list(db["stack"]), db["made"].extra),
            {name: db[name].x for name in db if name.startswith("new")},
        )

    wanted, points = [state()], [db.savepoint()]
    for value in (1, 2, 3):
        change(value)
        wanted.append(state())
        points.append(db.savepoint())
        if value == 2:
            db.evict()
    change(4)
    person = db["new4"]
    points[3].rollback()
    assert state() == wanted[3]
    assert person.x == 4
    assert db.key_of(person) is None
    points[1].rollback()
    assert state() == wanted[1]
    with pytest.raises(pstore.SavepointEnded):
        points[2].rollback()
    change(7)
    seven = state()
    with contextlib.suppress(ZeroDivisionError), db.savepoint():
        change(8)
        raise ZeroDivisionError
    assert state() == seven
    points[1].rollback()
    assert state() == wanted[1]
    change(7)
    assert state() == seven
    db.savepoint()
    assert db.session().get("new7") is None
    assert kept in db.changed()
    db.commit()
    assert state() == seven
    assert db.commit().keys == ()
    with pytest.raises(pstore.SavepointEnded):
        points[1].rollback()
    with place.open() as other:
        assert other["a"].x == 7
        assert other["new1"].x == 1
        assert set(other) == set(db)
    db["a"].x = 9
    db.savepoint()
    db.rollback()
    assert state() == seven


def test_rolled_back_savepoint_whose_state_is_gone(place: Place) -> None:
    """A new object whose state was put aside and dropped says so after a rollback; it can't be stored either."""
    db = place.open()
    kept, dropped = shop.Person(x=1), shop.Person(x=2)
    db["kept"], db["dropped"] = kept, dropped
    db.savepoint()
    assert kept.x == 1
    assert db.evict([dropped]) == 1
    db.rollback()
    assert kept.x == 1
    with pytest.raises(pstore.MissingRecord, match="rolled back"):
        dropped.x  # noqa: B018
    db["kept"] = kept
    db.commit()
    db["dropped"] = dropped
    with pytest.raises(pstore.ForeignObject):
        db.commit()
    db.rollback()


def test_conflict_error_pickles() -> None:
    """With all it knows."""
    conflicts = (pstore.Conflict(5 << 44 | 1, "Person", "a", 3, 4, False), pstore.Conflict(None, None, "b", 0, 4, True))
    error = pickle.loads(pickle.dumps(pstore.ConflictError("text", conflicts=conflicts)))
    assert (str(error), error.conflicts, error.keys, error.names) == ("text", conflicts, (5 << 44 | 1,), ("b",))
