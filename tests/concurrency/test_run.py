"""`Store.run`: calls a function in a transaction of its own until it is committed."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from counting import Counter, Doctor, Patient

import pstore
from pstore.backends import MemoryBackend, SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pstore.backends import Backend


@pytest.fixture(params=["sqlite", "memory"])
def impatient(request: pytest.FixtureRequest, path: Path) -> Iterator[Backend]:
    """A backend on which a writer doesn't wait for another one."""
    made = (
        SqliteBackend(path, durable=False, timeout=0.05) if request.param == "sqlite" else MemoryBackend(timeout=0.05)
    )
    yield made
    made.close()


@pytest.fixture(params=["snapshot", "serializable"])
def db(request: pytest.FixtureRequest, impatient: Backend) -> Iterator[pstore.Store]:
    """A store with a counter, of each isolation."""
    db = pstore.open(impatient, isolation=request.param)
    db["counter"], db["atom"], db["list"] = Counter(), 0, []
    db.commit()
    yield db
    db.rollback()
    db.close()


def add(store: pstore.Store, amount: int = 1) -> int:
    """Count up."""
    store["counter"].value += amount
    return store["counter"].value


def test_result(db: pstore.Store) -> None:
    """What the function returns is returned, once it is stored; a note goes with the commit; nothing is left open."""
    before = db.revision
    assert db.run(add, note="one more") == 1
    assert db.revision == before + 1
    assert db.run(lambda store: store["counter"]) is db["counter"]
    assert db.run(lambda store: None) is None
    assert db.revision == before + 1, "nothing was changed, so nothing is written"
    with db.session() as other:
        assert other["counter"].value == 1
        assert other.run(add, 1) == 2
    db.rollback()
    assert db["counter"].value == 2


def test_retries(db: pstore.Store) -> None:
    """After each conflict it begins anew, from the newest state; what an attempt has made or changed is undone."""
    seen: list[Any] = []

    def work(store: pstore.Store) -> int:
        seen.append((store["counter"].value, store["atom"], list(store["list"]), "new" in store))
        store["counter"].value += 1
        store["atom"] += 1
        store["list"].append("mine")
        store["new"] = Counter()
        if len(seen) < 5:
            with db.session() as other:
                other.run(lambda store: [add(store, 10), store["list"].append("theirs")])
        return len(seen)

    assert db.run(work) == 5
    assert seen == [(10 * n, 0, ["theirs"] * n, False) for n in range(5)]
    assert (db["counter"].value, db["atom"]) == (41, 1)
    assert db["list"] == ["theirs"] * 4 + ["mine"]


def test_the_last_attempt_keeps_others_out(db: pstore.Store) -> None:
    """It holds the store's write lock from its beginning, so it can't conflict; afterwards others may write again."""
    for attempts in (1, 2, 4):
        with db.session() as other:
            calls, kept_out = [], []

            def work(store: pstore.Store, other=other, calls=calls, kept_out=kept_out) -> None:
                calls.append(add(store))
                try:
                    other.run(lambda store: add(store, 10), attempts=2)
                except pstore.StoreLocked:
                    kept_out.append(len(calls))

            db.run(work, attempts)
            assert kept_out == [attempts] == [len(calls)]
            assert other.run(add) == db.run(lambda store: store["counter"].value)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, pstore.StorageError, GeneratorExit])
def test_other_errors_pass_through(db: pstore.Store, error: type[BaseException]) -> None:
    """The function isn't called again, everything is as before, and the store is free for others."""
    for attempts in (1, 10):
        calls: list[int] = []

        def work(store: pstore.Store, calls=calls) -> None:
            calls.append(add(store))
            store["list"].append(1)
            store["new"] = 1
            raise error

        with pytest.raises(error):
            db.run(work, attempts)
        assert calls == [1]
        assert (db["counter"].value, db["list"], "new" in db, db.changed()) == (0, [], False, [])
        with db.session() as other:
            other["free"] = attempts
            other.commit()
        db.rollback()
    assert db.run(add) == 1


def test_a_commit_in_doubt_is_not_tried_again(db: pstore.Store) -> None:
    """It may have been made: the error is raised at once, whatever attempts are left."""
    calls: list[int] = []

    def work(store: pstore.Store) -> None:
        calls.append(add(store))
        raise pstore.CommitUncertain

    with pytest.raises(pstore.CommitUncertain):
        db.run(work)
    assert calls == [1]


def test_error_of_the_commit(db: pstore.Store) -> None:
    """What can't be stored is told as by a commit, and undone."""
    with pytest.raises((TypeError, pickle.PicklingError)):
        db.run(lambda store: store["list"].append(lambda: 0))
    assert db["list"] == []
    assert db.run(add) == 1


@pytest.mark.parametrize("error", [pstore.ConflictError, pstore.StoreLocked, pstore.ConnectionLost])
def test_attempts_are_exhausted(db: pstore.Store, error: type[pstore.Error]) -> None:
    """A function that fails for the sake of others, whatever is done, is called so many times; the last error is raised."""
    for attempts in (1, 3):
        calls: list[int] = []

        def work(store: pstore.Store, calls=calls) -> None:
            calls.append(add(store))
            raise error("never")

        with pytest.raises(error, match="never"):
            db.run(work, attempts)
        assert calls == [1] * attempts
        assert db["counter"].value == 0
    with pytest.raises(ValueError, match="attempts"):
        db.run(add, attempts=0)


@pytest.mark.parametrize("change", ["name", "object", "list", "savepoint"])
def test_uncommitted_changes_are_not_lost(db: pstore.Store, change: str) -> None:
    """It refuses to begin where there are any, says so, and leaves them alone."""
    if change == "name":
        db["new"] = 1
    elif change == "list":
        db["list"].append(1)
    else:
        add(db)
    if change == "savepoint":
        db.savepoint()
    with pytest.raises(pstore.Error, match="commit or roll back"):
        db.run(lambda store: pytest.fail("it is called"))
    assert db["counter"].value + len(db["list"]) + len(db) == 4
    db.commit()
    assert db.run(lambda store: store["counter"].value + len(store["list"]) + len(store)) == 4


def test_nesting_is_refused(db: pstore.Store) -> None:
    """Within a run none begins, nor is the transaction ended; the outer one isn't disturbed by the attempt."""

    def work(store: pstore.Store) -> int:
        add(store)
        for nested in (lambda: store.run(add), store.commit, store.rollback, store.sync, store.close):
            with pytest.raises(pstore.Error, match="run"):
                nested()
        return add(store)

    assert db.run(work) == 2
    assert db["counter"].value == 2
    assert db.run(add) == 3


def test_savepoints_within(db: pstore.Store) -> None:
    """The function may make savepoints and go back to them; none of them lasts longer than its attempt."""
    marks: list[Any] = []

    def work(store: pstore.Store) -> None:
        add(store)
        marks.append(store.savepoint())
        add(store)
        store["list"].append(Counter())
        store.savepoint()
        marks[-1].rollback()
        if len(marks) < 3:
            with db.session() as other:
                other.run(add, 1)

    db.run(work)
    assert (db["counter"].value, db["list"]) == (3, [])
    for mark in marks:
        with pytest.raises(pstore.SavepointEnded):
            mark.rollback()


@pytest.mark.parametrize("change", [Counter, lambda: lambda: 0], ids=["savepoint", "savepoint that fails"])
def test_savepoints_in_the_last_attempt(db: pstore.Store, change: Any) -> None:
    """A savepoint doesn't let others in, whether it can be made or not."""

    def work(store: pstore.Store) -> None:
        add(store)
        store["list"].append(change())
        with contextlib.suppress(TypeError, pickle.PicklingError):
            store.savepoint()
        with db.session() as other:
            other["counter"].value += 10
            with pytest.raises(pstore.StoreLocked):
                other.commit()
            other.rollback()
        store["list"].clear()

    db.run(work, attempts=1)
    assert db["counter"].value == 1


def test_numbers_of_an_attempt_that_fails(db: pstore.Store) -> None:
    """What a savepoint of the last attempt has handed out is given back: no key and no class code is ever given twice."""

    def fail(store: pstore.Store) -> None:
        store["new"] = [Doctor(str(number)) for number in range(300)]
        store.savepoint()
        store["more"] = Counter()
        store.savepoint()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.run(fail, attempts=1)
    with db.session() as other:
        other["late"] = [Patient() for _ in range(300)]
    db.rollback()
    db["numbered"] = [Doctor(str(number)) for number in range(300)]
    db.commit()
    with db.session() as other:
        for name, cls in {"late": Patient, "numbered": Doctor}.items():
            assert {*other[name]} == {*other.instances(cls)}
            assert {each.__class__ for each in other[name]} == {cls}
            assert len(other[name]) == 300
        assert [doctor.name for doctor in other["numbered"]] == [str(number) for number in range(300)]


def test_store_that_is_only_read(path: Path) -> None:
    """A function that only reads is called; one that changes something is refused, and the change undone."""
    with pstore.open(path) as db:
        db["counter"] = Counter()
    with pstore.open(path, "r") as db:
        for attempts in (1, 10):
            assert db.run(lambda store: store["counter"].value, attempts) == 0
            with pytest.raises(pstore.ReadOnlyError):
                db.run(add, attempts)
            assert db["counter"].value == 0


def test_closed_store(db: pstore.Store) -> None:
    """It says so."""
    other = db.session()
    other.close()
    with pytest.raises(pstore.StoreClosed):
        other.run(add)
