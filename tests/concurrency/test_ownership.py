"""Which thread a session belongs to, how sessions are closed, and what a forked process may do."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import counting
import forking
import pytest
from counting import Counter
from teams import Job, in_processes, in_threads

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pstore.backends import Backend


def elsewhere(work: Callable[[], Any]) -> Any:
    """Run something in another thread; return what it returns, raise what it raises."""
    (result,) = in_threads(work)
    return result


#: Every use of a store that isn't its thread's, with an object of it that isn't loaded.
USES: dict[str, Callable[[pstore.Store, Any], Any]] = {
    "get": lambda db, ghost: db["counter"],
    "set": lambda db, ghost: db.__setitem__("x", 1),
    "delete": lambda db, ghost: db.__delitem__("counter"),
    "contains": lambda db, ghost: "counter" in db,
    "iterate": lambda db, ghost: list(db),
    "len": lambda db, ghost: len(db),
    "clear": lambda db, ghost: db.clear(),
    "commit": lambda db, ghost: db.commit(),
    "sync": lambda db, ghost: db.sync(),
    "rollback": lambda db, ghost: db.rollback(),
    "savepoint": lambda db, ghost: db.savepoint(),
    "run": lambda db, ghost: db.run(lambda db: None),
    "evict": lambda db, ghost: db.evict(),
    "close": lambda db, ghost: db.close(),
    "object_at": lambda db, ghost: db.object_at(db.key_of(ghost)),
    "instances": lambda db, ghost: list(db.instances(Counter)),
    "changed": lambda db, ghost: db.changed(),
    "revision": lambda db, ghost: db.revision,
    "classes": lambda db, ghost: db.classes(),
    "stats": lambda db, ghost: db.stats(),
    "touch": lambda db, ghost: ghost.value,
    "change": lambda db, ghost: setattr(ghost, "value", 9),
}


@pytest.mark.parametrize("use", USES)
def test_wrong_thread(backend: Backend, use: str) -> None:
    """A session that is used by another thread than its own refuses, and nothing is lost by it."""
    with pstore.open(backend) as db:
        db["counter"] = Counter(5)
    db = pstore.open(backend)
    session = db.session()
    for store in (db, session):
        ghost, store["mine"] = store["counter"], 1
        with pytest.raises(pstore.WrongThread, match="thread"):
            elsewhere(lambda store=store, ghost=ghost: USES[use](store, ghost))
        assert store["counter"] is ghost
        assert ghost.value == 5
        assert store.commit().names == ("mine",)
        assert sorted(store) == ["counter", "mine"]
        del store["mine"]
        store.commit()
    session.close()
    db.close()


def test_a_session_belongs_to_the_thread_that_first_uses_it(backend: Backend) -> None:
    """It may be made in one thread and given to another; from then on it is that one's."""
    db = pstore.open(backend)
    db["counter"] = Counter(5)
    db.commit()
    session = db.session()

    used, tried = threading.Event(), threading.Event()

    def use() -> None:
        session["counter"].value += 1
        session.commit()
        used.set()
        assert tried.wait(30)
        session.close()

    def try_it() -> None:
        with pytest.raises(pstore.WrongThread):
            session["counter"]
        with pytest.raises(pstore.WrongThread):
            session.close()

    def try_it_too() -> None:
        assert used.wait(30)
        try_it()
        tried.set()

    in_threads(use, try_it_too)
    db.rollback()
    assert db["counter"].value == 6
    db.close()


def test_any_thread_makes_sessions(backend: Backend) -> None:
    """`session` may be called by any thread, by many at once, and while the store's own thread is in a transaction."""
    db = pstore.open(backend)
    counting.create(db)
    db["atom"] = 100  # not committed

    def job() -> None:
        for _ in range(20):
            with db.session() as session, session.session() as another:
                assert session["atom"] < 100
                another.run(lambda store: counting.count(store, "record"))

    in_threads(job, job, job)
    assert db["atom"] == 100
    db.commit()
    assert db["record"].value == 60
    db.close()


def test_a_session_has_the_isolation_of_its_maker(backend: Backend) -> None:
    """Unless it is told another one; what isn't one is refused."""
    for given, asked in itertools.product(["snapshot", "serializable"], [None, "snapshot", "serializable"]):
        with pstore.open(backend, isolation=given) as db:
            db["a"] = db["b"] = 0
            db.commit()
            with db.session(isolation=asked) as one, db.session() as two:
                assert one["a"] == 0
                two["a"] = 1
                two.commit()
                one["b"] = 1
                if (asked or given) == "serializable":
                    with pytest.raises(pstore.ConflictError):
                        one.commit()
                    one.rollback()
                else:
                    one.commit()
    with pytest.raises(ValueError, match="serialisable"):
        pstore.open(backend, isolation="serialisable")
    with pstore.open(backend) as db, pytest.raises(ValueError, match="snapshots"):
        db.session(isolation="snapshots")


@pytest.mark.parametrize("target", ["path", "memory:", "backend"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_closing_in_any_order(target: str, order: tuple[int, ...], backend: Backend, path: Path) -> None:
    """Whichever session is closed first, the one that was opened too, the others go on; the last one closes the file."""
    where: Any = {"path": path, "memory:": "memory:", "backend": backend}[target]
    first = pstore.open(where)
    first["counter"] = Counter()
    first.commit()
    stores = [first, first.session()]
    stores.append(stores[1].session())
    expected = 0
    for number in order:
        for store in stores:
            if not store.closed:
                store.run(lambda db: setattr(db["counter"], "value", db["counter"].value + 1))
                expected += 1
        stores[number]["counter"].value += 1  # committed by closing
        expected += 1
        stores[number].close()
        with pytest.raises(pstore.StoreClosed):
            len(stores[number])
        for store in stores:
            if not store.closed:
                store.rollback()
                assert store["counter"].value == expected
    for store in stores:
        store.close()
    with pytest.raises(pstore.StoreClosed):
        first.session()
    if target == "path":
        assert [file.name for file in path.parent.glob(f"{path.name}*")] == [path.name]
        with pstore.open(path) as db:
            assert db["counter"].value == expected


def test_closing_while_others_work(backend: Backend) -> None:
    """Threads that open and close sessions all the time don't disturb others that work, nor lose their own work."""
    db = pstore.open(backend)
    counting.create(db)
    last = db.session()
    db.close()  # while the others begin

    def steady(session: pstore.Store) -> None:
        with session:
            for _ in range(150):
                session.run(lambda store: counting.count(store, "record"))

    def fickle(seed: int) -> None:
        for at in range(50):
            with session_of(seed) as session:
                session.run(lambda store: counting.count(store, "list"))
                if at % 3:
                    assert session["list"][0]  # closed in the middle of a transaction

    def session_of(seed: int) -> pstore.Store:
        return pstore.open(backend) if seed else base.session()

    base = last.session()
    in_threads(lambda: steady(last), lambda: fickle(0), lambda: fickle(1))
    base.close()
    with pstore.open(backend) as db:
        assert db["record"].value == 150
        assert db["list"] == [100]


def test_a_block_of_a_session_commits_or_rolls_back(backend: Backend) -> None:
    """As that of a store does."""
    with pstore.open(backend) as db:
        with db.session() as session:
            session["a"] = 1
        with pytest.raises(ZeroDivisionError), db.session() as session:
            assert [session.update(b=1), 1 / 0]
        db.rollback()
        assert dict(db) == {"a": 1}


def test_a_session_that_is_dropped_with_work_warns(backend: Backend) -> None:
    """As a store does; one without work is silent, and the store goes on."""
    with pstore.open(backend) as db:
        session = db.session()
        assert len(session) == 0
        del session
        session = db.session()
        session["a"] = 1
        with pytest.warns(ResourceWarning, match="weren't committed"):
            del session
        db["b"] = 1
        db.commit()
        assert list(db) == ["b"]


def test_objects_of_two_sessions_do_not_mix(backend: Backend) -> None:
    """An object of one session isn't taken by another one of the same store; its key is."""
    with pstore.open(backend) as db:
        db["counter"] = Counter(1)
        db.commit()
        with db.session() as session:
            assert session["counter"] is not db["counter"]
            assert session.key_of(session["counter"]) == db.key_of(db["counter"])
            assert session.object_at(db.key_of(db["counter"])) is session["counter"]
            session["mine"] = db["counter"]
            with pytest.raises(pstore.ForeignObject):
                session.commit()
            session.rollback()


def test_threads_wait_for_each_other(backend: Backend) -> None:
    """A session that reads isn't held up by one that commits, nor the other way; both see what they have to."""
    db = pstore.open(backend)
    counting.create(db)
    go_on, looked = threading.Event(), threading.Event()

    def reader() -> None:
        with db.session() as session:
            assert session["atom"] == 0
            looked.set()
            assert go_on.wait(30)
            assert session["atom"] == session["record"].value == session["list"][0] == 0
            session.rollback()
            assert session["atom"] == session["record"].value == session["list"][0] == 50

    def writer() -> None:
        assert looked.wait(30)
        with db.session() as session:
            for _ in range(50):
                for where in ("atom", "record", "list"):
                    session.run(lambda store, where=where: counting.count(store, where))
        go_on.set()

    in_threads(reader, writer)
    db.close()


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
@pytest.mark.parametrize("way", ["fork", "multiprocessing", "fork and exit"])
@pytest.mark.parametrize("moment", forking.MOMENTS)
def test_fork(kind: str, way: str, moment: str, path: Path) -> None:
    """A child refuses what it has inherited, or works on a copy; it opens the store anew; the parent's isn't damaged."""
    in_processes(Job("forking.fork", path=str(path), kind=kind, way=way, moment=moment))
