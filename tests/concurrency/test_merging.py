"""`__merge__`: a class says what becomes of an object that two sessions have changed."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import merging
import pytest
from merging import Bag, Money, Part, Returning, Slotted, Tally, Theirs
from teams import SCALE, in_threads

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pstore.backends import Backend


@pytest.fixture(params=["snapshot", "serializable"])
def db(request: pytest.FixtureRequest, backend: Backend) -> Iterator[pstore.Store]:
    """A store with what merges, and what doesn't."""
    db = pstore.open(backend, isolation=request.param)
    db["tally"], db["second"], db["part"], db["plain"], db["atom"] = Tally(), Tally(), Part("p"), [0], 0
    db.commit()
    yield db
    merging.WHEN_MERGED.clear()
    db.rollback()
    db.close()


def seen_by_all(db: pstore.Store, look: Callable[[pstore.Store], Any]) -> Any:
    """What a session sees, which is the same in its next transaction, and in a new session; nothing is left to write."""
    found = look(db)
    assert db.changed() == []
    assert db.commit().keys == ()
    assert look(db) == found
    with db.session() as fresh:
        assert look(fresh) == found
    return found


def test_counter_and_set(db: pstore.Store, other: pstore.Store) -> None:
    """What both have done is there, in the store and in memory, and the object is the one it was."""
    tally, part = db["tally"], db["part"]
    members = tally.members
    tally.count += 2
    tally.members |= {"mine", part}
    other["tally"].count += 5
    other["tally"].members |= {"theirs", other["part"]}
    theirs = other.commit()
    done = db.commit()
    assert done.revision == theirs.revision + 1
    assert done.keys == (db.key_of(tally),)
    assert db["tally"] is tally
    assert (tally.count, tally.log) == (7, ["merged"])
    assert tally.members == {"mine", "theirs", part}
    assert members is tally.members or members == {"mine", part}, "what was held is the old one, or the new"
    assert seen_by_all(db, lambda db: (db["tally"].count, len(db["tally"].members), db["part"] in db["tally"].members))
    tally.count += 1
    assert db.commit().keys == (db.key_of(tally),)
    other.rollback()
    assert other["tally"].count == 8


def test_what_is_given(db: pstore.Store, other: pstore.Store) -> None:
    """Three different objects of the class, none of them the one in the store; what they refer to is this session's."""
    db["tally"].members.add(db["part"])
    db.commit()
    other.rollback()
    db["tally"].count = 2
    other["tally"].count = 5
    other.commit()
    given: list[Any] = []
    merging.WHEN_MERGED.append(lambda *objs: given.extend((type(o), o.count, o.members) for o in objs))
    merging.WHEN_MERGED.append(lambda *objs: given.append(len({id(o) for o in (*objs, db["tally"])})))
    db.commit()
    assert given == [*((Tally, count, {db["part"]}) for count in (0, 5, 2)), 4]


@pytest.mark.parametrize("cls", [Tally, Returning, Slotted])
def test_ways_to_merge(db: pstore.Store, other: pstore.Store, cls: Any) -> None:
    """`mine` may be changed, or an object returned; classes with slots can do it too."""
    made = db["x"] = cls()
    db.commit()
    other.rollback()
    made.count += 1
    other["x"].count += 10
    other.commit()
    db.commit()
    assert db["x"] is made
    assert seen_by_all(db, lambda db: db["x"].count) == 11


def test_theirs_may_win(db: pstore.Store, other: pstore.Store) -> None:
    """What a merge returns may be what the other session has stored; `mine` is gone then, in memory too."""
    made = db["x"] = Theirs()
    db.commit()
    other.rollback()
    made.count, made.members = 1, {db["part"]}
    other["x"].count = 10
    other.commit()
    db.commit()
    assert db["x"] is made
    assert seen_by_all(db, lambda db: (db["x"].count, db["x"].members)) == (10, set())


def test_list_and_constructed(db: pstore.Store, other: pstore.Store) -> None:
    """So can subclasses of builtin types, and objects that a constructor makes."""
    db["bag"], db["money"] = Bag([1]), Money(100)
    db.commit()
    other.rollback()
    db["bag"].append("mine")
    db["money"].amount += 5
    other["bag"].append("theirs")
    other["money"].amount += 20
    other.commit()
    db.commit()
    assert seen_by_all(db, lambda db: (list(db["bag"]), db["money"].amount)) == ([1, "theirs", "mine"], 125)


def test_objects_of_the_other_session(db: pstore.Store, other: pstore.Store) -> None:
    """What is merged may refer to records that the other session has made, and to new ones of this."""
    part, nested = Part("new, theirs"), Tally()
    nested.members.add(Part("deep"))
    other["tally"].members |= {part, nested}
    other["theirs"] = [part]
    db["tally"].members.add(Part("new, mine"))
    other.commit()
    db.commit()
    for store in (db, other, db.session()):
        store.rollback()
        members = store["tally"].members
        assert sorted(m.name for m in members if isinstance(m, Part)) == ["new, mine", "new, theirs"]
        (inner,) = (m for m in members if isinstance(m, Tally))
        assert [m.name for m in inner.members] == ["deep"]
        assert store["theirs"][0] in members


def test_what_a_merge_makes_is_stored(db: pstore.Store, other: pstore.Store) -> None:
    """A merge may make objects; declared ones get records, and are stored with it."""
    merging.WHEN_MERGED.append(lambda base, theirs, mine: mine.members.add(Part("made by the merge")))
    merging.WHEN_MERGED.append(lambda base, theirs, mine: theirs.members.update(mine.members))
    db["tally"].count += 1
    other["tally"].count += 1
    other.commit()
    keys = db.commit().keys
    assert len(keys) == 2
    assert seen_by_all(db, lambda db: [m.name for m in db["tally"].members]) == ["made by the merge"]
    assert sorted(p.name for p in db.instances(Part)) == ["made by the merge", "p"]


def test_several_in_one_commit(db: pstore.Store, other: pstore.Store) -> None:
    """Each that both have changed is merged; what only one has changed is as that one left it."""
    db["third"] = Tally()
    db.commit()
    other.rollback()
    for session, amount, names in ((db, 1, ["tally", "second"]), (other, 10, ["second", "tally", "third"])):
        for name in names:
            session[name].count += amount
            session[name].members.add(amount)
    db["atom"] = 1
    other["part"].name = "q"
    other.commit()
    done = db.commit()
    assert set(done.keys) == {db.key_of(db["tally"]), db.key_of(db["second"])}
    look = ["tally", "second", "third"]
    assert seen_by_all(db, lambda db: [db[name].count for name in look]) == [11, 11, 10]
    assert seen_by_all(db, lambda db: (db["atom"], db["part"].name)) == (1, "q")


def test_several_commits_of_others(db: pstore.Store, other: pstore.Store) -> None:
    """What all of them have done since this transaction began is merged at once."""
    calls: list[int] = []
    merging.WHEN_MERGED.append(lambda base, theirs, mine: calls.append(theirs.count))
    db["tally"].count += 1
    for _ in range(3):
        other["tally"].count += 10
        other.commit()
    db.commit()
    assert calls == [30]
    assert db["tally"].count == 31
    db["tally"].count += 1  # and nobody has changed it since
    db.commit()
    assert calls == [30]


def fails_with_nothing_stored(db: pstore.Store, other: pstore.Store, error: Any, match: str) -> BaseException:
    """Assert that a commit raises, that nothing of it is stored, and that objects are as they were."""
    tally, second = db["tally"], db["second"]
    tally.count, second.count = 2, 3
    tally.members.add(db["part"])
    db["new"] = Part("not stored")
    other["tally"].count = other["second"].count = 100
    before = other.commit().revision
    with pytest.raises(error, match=match) as raised:
        db.commit()
    assert db["tally"] is tally
    assert (tally.count, second.count, tally.log, tally.members) == (2, 3, [], {db["part"]})
    assert db["new"].name == "not stored"
    assert {id(tally), id(second)} <= {id(obj) for obj in db.changed()}
    with db.session() as fresh:
        assert fresh.revision == before
        assert (fresh["tally"].count, fresh["second"].count, "new" in fresh) == (100, 100, False)
        assert len(list(fresh.instances(Part))) == 1
    return raised.value


def test_refusal(db: pstore.Store, other: pstore.Store) -> None:
    """A merge that raises ConflictError refuses: the commit has conflicted, and tells why."""

    def refuse(base: Any, theirs: Any, mine: Any) -> None:
        if mine.count == 3:
            raise pstore.ConflictError("these don't go together")

    merging.WHEN_MERGED.append(refuse)
    error = fails_with_nothing_stored(db, other, pstore.ConflictError, "these don't go together")
    assert db.key_of(db["second"]) in error.keys
    db.rollback()
    assert (db["tally"].count, db["second"].count, db["tally"].log) == (100, 100, [])
    db["tally"].count += 1
    db.commit()
    assert seen_by_all(db, lambda db: db["tally"].count) == 101


def test_error_in_a_merge(db: pstore.Store, other: pstore.Store) -> None:
    """It passes through, and nothing is stored; another try calls it again."""

    def fail(base: Any, theirs: Any, mine: Any) -> None:
        mine.count, mine.log = 999, ["half"]
        mine.members.clear()
        if mine.members is not None and theirs.count == 100 and len(calls) == 1:
            raise ZeroDivisionError("in the merge")
        mine.count = 2

    calls: list[int] = []
    merging.WHEN_MERGED.append(lambda base, theirs, mine: calls.append(mine.count))
    merging.WHEN_MERGED.append(lambda base, theirs, mine: fail(base, theirs, mine) if len(calls) == 1 else None)
    fails_with_nothing_stored(db, other, ZeroDivisionError, "in the merge")
    db.commit()
    assert len(calls) == 3
    assert seen_by_all(db, lambda db: (db["tally"].count, db["second"].count, db["new"].name)) == (
        102,
        103,
        "not stored",
    )


@pytest.mark.parametrize("answer", [5, "text", [], Part("x"), Returning])
def test_what_is_no_answer(db: pstore.Store, other: pstore.Store, answer: Any) -> None:
    """A merge that returns something of another class is an error, and nothing is stored."""
    merging.WHEN_MERGED.append(lambda base, theirs, mine: answer() if isinstance(answer, type) else answer)
    fails_with_nothing_stored(db, other, TypeError, "__merge__")
    merging.WHEN_MERGED.clear()
    db.rollback()
    assert db["tally"].count == 100


def test_what_can_not_be_stored(db: pstore.Store, other: pstore.Store) -> None:
    """A merge whose result can't be pickled is an error as for any object, and nothing is stored."""
    merging.WHEN_MERGED.append(lambda base, theirs, mine: mine.members.add(lambda: 0))
    fails_with_nothing_stored(db, other, (TypeError, pickle.PicklingError), "pickle|lambda")
    merging.WHEN_MERGED.clear()
    db.commit()
    assert db["tally"].count == 102


@pytest.mark.parametrize("real", ["plain", "atom", "part"])
def test_merged_beside_a_real_conflict(db: pstore.Store, other: pstore.Store, real: str) -> None:
    """Where something else of the commit can't be merged, nothing is stored, and objects are as they were."""

    def change(session: pstore.Store, what: Any) -> None:
        if real == "plain":
            session["plain"].append(what)
        elif real == "part":
            session["part"].name = str(what)
        else:
            session["atom"] = what

    change(db, "mine")
    change(other, "theirs")
    error = fails_with_nothing_stored(db, other, pstore.ConflictError, "another session")
    assert isinstance(error, pstore.ConflictError)
    assert [conflict.name for conflict in error.conflicts] == [real], "what could be merged is no conflict"
    db.rollback()
    assert db["tally"].count == db["second"].count == 100
    assert "new" not in db


def test_merge_of_what_is_evicted_and_rolled_back(backend: Backend) -> None:
    """Savepoints and evictions before the commit change nothing about a merge; nor does what was rolled back count."""
    with pstore.open(backend) as db, db.session() as other:
        db["tally"], db["second"] = Tally(), Tally()
        db.commit()
        evict_and_merge(db, other)


def evict_and_merge(db: pstore.Store, other: pstore.Store) -> None:
    """Count in two sessions."""
    db["tally"].count += 1
    mark = db.savepoint()
    db["tally"].count += 1000
    db["second"].count += 1000
    mark.rollback()
    db["tally"].count += 1
    db.savepoint()
    db.evict()
    for name in ("tally", "second"):
        other[name].count += 10
    other.commit()
    assert db.commit().keys == (db.key_of(db["tally"]),)
    assert seen_by_all(db, lambda db: (db["tally"].count, db["second"].count)) == (12, 10)


def test_rollback_after_a_merge(db: pstore.Store, other: pstore.Store) -> None:
    """What was merged is the state that a rollback goes back to."""
    db["tally"].count += 1
    other["tally"].count += 10
    other.commit()
    db.commit()
    db["tally"].count = 999
    db["tally"].members.add(1)
    db.rollback()
    assert (db["tally"].count, db["tally"].members) == (11, set())
    db["tally"].count = 999
    mark = db.savepoint()
    db["tally"].count = 1000
    mark.rollback()
    assert db["tally"].count == 999
    db.rollback()
    assert db["tally"].count == 11


def test_deleted_names_and_merges(db: pstore.Store, other: pstore.Store) -> None:
    """A name that the other session has removed doesn't keep its object from being merged, if the name wasn't read."""
    tally = db["tally"]
    db.rollback()
    tally.count += 1
    other["tally"].count += 10
    del other["tally"]
    other.commit()
    db["kept"] = tally
    db.commit()
    assert "tally" not in db
    assert seen_by_all(db, lambda db: db["kept"].count) == 11


def test_reading_what_merges(db: pstore.Store, other: pstore.Store) -> None:
    """An object that is only read isn't merged: that its class could do it doesn't make a read valid."""
    serializable = db.session(isolation="serializable")
    assert serializable["tally"].count == 0
    serializable["atom"] = 5
    other["tally"].count += 1
    other.commit()
    with pytest.raises(pstore.ConflictError) as raised:
        serializable.commit()
    assert [conflict.read for conflict in raised.value.conflicts] == [True]
    serializable.rollback()
    serializable.close()


def test_many_merges_at_once(backend: Backend) -> None:
    """Threads that count up and collect never conflict, and nothing is lost."""
    db = pstore.open(backend)
    db["tally"], db["bag"] = Tally(), Bag()
    db.commit()
    times = int(100 * SCALE)

    def job(number: int) -> None:
        with db.session() as session:
            for at in range(times):
                session["tally"].count += 1
                session["bag"].append((number, at))
                if at % 3 == 0:
                    session["tally"].members.add(Part(f"{number}.{at}"))
                session.commit()

    in_threads(*(lambda n=n: job(n) for n in range(3)))
    db.rollback()
    assert db["tally"].count == 3 * times
    assert sorted(db["bag"]) == [(number, at) for number in range(3) for at in range(times)]
    assert len({part.name for part in db["tally"].members}) == len(db["tally"].members) == 3 * len(range(0, times, 3))
    db.close()


# ------------------------------------------------------------------------------------------------------ ConflictError


def test_what_a_conflict_tells(db: pstore.Store, other: pstore.Store) -> None:
    """Each record and name that both have written, with its class, a name, and both revisions; it pickles."""
    first = db.revision
    db["new"] = 1
    db["part"].name, db["plain"][0], db["atom"] = "mine", 1, 1
    other["new"] = 2
    other["part"].name, other["plain"][0], other["atom"] = "theirs", 2, 2
    second = other.commit().revision
    with pytest.raises(pstore.ConflictError, match="part") as raised:
        db.commit()
    for error in (raised.value, pickle.loads(pickle.dumps(raised.value))):
        records = {c.name: c for c in error.conflicts if c.key is not None}
        names = {c.name: c for c in error.conflicts if c.key is None}
        assert records == {
            "part": pstore.Conflict(db.key_of(db["part"]), "Part", "part", first, second, read=False),
            "plain": pstore.Conflict(db.key_of(db["plain"]), "list", "plain", first, second, read=False),
        }
        assert names == {
            "atom": pstore.Conflict(None, None, "atom", first, second, read=False),
            "new": pstore.Conflict(None, None, "new", 0, second, read=False),
        }
        assert set(error.keys) == {c.key for c in records.values()}
        assert set(error.names) == {"atom", "new"}
        assert isinstance(error.conflicts, tuple)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    with pytest.raises(pstore.ConflictError):
        db.commit()  # until it is rolled back
    db.rollback()
    db["part"].name = "mine"
    db.commit()


def test_a_name_that_was_removed(db: pstore.Store, other: pstore.Store) -> None:
    """Removing and setting a name conflict, whoever was first; its newest revision is none then."""
    first = db.revision
    db["atom"] = 1
    del other["atom"]
    other.commit()
    with pytest.raises(pstore.ConflictError) as raised:
        db.commit()
    (conflict,) = raised.value.conflicts
    assert (conflict.name, conflict.key, conflict.ours, conflict.read) == ("atom", None, first, False)
    db.rollback()
    db["atom"] = 1
    db.commit()
    del db["atom"]
    other.rollback()
    other["atom"] = 2
    other.commit()
    with pytest.raises(pstore.ConflictError, match="atom"):
        db.commit()
    db.rollback()
    assert db["atom"] == 2


def test_what_was_read_and_dropped_has_its_revision(backend: Backend) -> None:
    """A conflict tells which revision was read, also when the state isn't in memory any more."""
    with pstore.open(backend, isolation="serializable") as db:
        db["part"], db["atom"] = Part("p"), 0
        first = db.commit().revision
        with db.session() as other:
            assert other["part"].name == "p"
            other.evict()
            db["part"].name = "q"
            second = db.commit().revision
            other["atom"] = 1
            with pytest.raises(pstore.ConflictError) as raised:
                other.commit()
            (conflict,) = raised.value.conflicts
            assert (conflict.name, conflict.ours, conflict.theirs, conflict.read) == ("part", first, second, True)
            other.rollback()
