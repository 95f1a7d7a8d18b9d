"""No update is lost, and nobody waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import counting
import pytest
from counting import Doctor
from teams import SCALE, Job, in_processes, in_threads

import pstore

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends import Backend

TIMES = int(1000 * SCALE)


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
@pytest.mark.parametrize("writers", [2, 4])
def test_processes(path: Path, writers: int, isolation: str) -> None:
    """Processes that count the same counters up, 1,000 commits each, have counted all of it in the end."""
    with pstore.open(path) as db:
        counting.create(db)
    jobs = [
        Job("counting.count_alone", path=str(path), isolation=isolation, times=TIMES, seed=n) for n in range(writers)
    ]
    in_processes(*jobs)
    with pstore.open(path, "w") as db:
        assert counting.total(db) == writers * TIMES
        assert db.revision == writers * TIMES + 1


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_threads(any_backend: Backend, isolation: str) -> None:
    """So have threads."""
    db = pstore.open(any_backend)
    counting.create(db)

    def job(seed: int) -> None:
        with db.session(isolation=isolation) as session:
            counting.count_often(session, times=TIMES // 2, seed=seed)

    in_threads(lambda: job(1), lambda: job(2))
    db.rollback()
    assert counting.total(db) == TIMES // 2 * 2
    db.close()


def go_home(db: pstore.Store, who: str) -> None:
    """A doctor goes home if another one stays; nobody else is written."""
    if sum(db[name].on_call for name in db) > 1:
        db[who].on_call = False


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_two_doctors(any_backend: Backend, isolation: str) -> None:
    """Of two doctors who go home at once because the other stays, one is refused if and only if sessions are serializable."""
    db = pstore.open(any_backend, isolation=isolation)
    db["alice"], db["bob"] = Doctor("alice"), Doctor("bob")
    db.commit()
    with db.session() as one, db.session() as two:
        go_home(one, "alice")
        go_home(two, "bob")
        one.commit()
        if isolation == "snapshot":
            two.commit()
        else:
            with pytest.raises(pstore.ConflictError, match="alice") as raised:
                two.commit()
            (conflict,) = raised.value.conflicts
            assert conflict.read
            assert conflict.name == "alice"
            assert conflict.key == db.key_of(db["alice"])
            two.rollback()
            go_home(two, "bob")
            two.commit()
    db.rollback()
    assert db["alice"].on_call + db["bob"].on_call == (isolation == "serializable")
    db.close()


def test_two_doctors_who_run(backend: Backend) -> None:
    """With `run`, the one that is refused looks again, and stays."""
    db = pstore.open(backend, isolation="serializable")
    db["alice"], db["bob"] = Doctor("alice"), Doctor("bob")
    db.commit()
    with db.session() as one, db.session() as two:
        interrupted = []

        def leave(store: pstore.Store) -> None:
            go_home(store, "bob")
            if not interrupted:
                interrupted.append(one.run(lambda store: go_home(store, "alice")))

        two.run(leave)
        assert interrupted
    db.rollback()
    assert db["bob"].on_call
    assert not db["alice"].on_call
    db.close()


def test_doctors_of_two_isolations(backend: Backend) -> None:
    """A session has its own isolation: one with snapshots isn't held to what it has read because another one is."""
    with pstore.open(backend, isolation="serializable") as db:
        db["alice"], db["bob"] = Doctor("alice"), Doctor("bob")
    with pstore.open(backend) as db, db.session() as one, db.session(isolation="serializable") as two:
        for first, second in ((one, two), (two, one)):
            for doctor in ("alice", "bob"):
                db[doctor].on_call = True
            db.commit()
            first.rollback(), second.rollback()
            go_home(first, "alice")
            go_home(second, "bob")
            first.commit()
            if second is two:
                with pytest.raises(pstore.ConflictError):
                    second.commit()
                second.rollback()
            else:
                second.commit()
            db.rollback()


def test_what_was_overtaken_and_changed_back(backend: Backend) -> None:
    """A list that was changed between two transactions, and back, is the newest one when the next begins."""
    with pstore.open(backend) as db, db.session() as other:
        held = db["list"] = [1]
        db["atom"] = 0
        db.commit()
        other["list"].append(2)
        other.commit()
        held.append(9)
        assert db["atom"] == 0
        held.pop()
        db["atom"] = 1
        db.commit()
        assert db["list"] == [1, 2]
        db["list"].append(3)
        db.commit()
        other.rollback()
        assert other["list"] == [1, 2, 3]


def test_what_was_overtaken_and_dropped(backend: Backend) -> None:
    """A rollback succeeds where a list that others have changed too is dropped from memory in the middle of it."""
    with pstore.open(backend, cache_size=1) as db, pstore.open(backend) as other:
        db["list"], db["more"] = [1], [[n] for n in range(5)]
        db.commit()
        held = db["list"]
        db.commit()
        other["list"].append(2)
        other.commit()
        held.append(9)
        assert len(db) == 2
        del held
        db.rollback()
        assert db["list"] == [1, 2]
