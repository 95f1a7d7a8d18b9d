"""A session keeps no more states in memory than it may, and loses nothing by that."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import TYPE_CHECKING

import pytest
import shop

import pstore

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Place


def in_memory(db: pstore.Store) -> int:
    """How many objects have their states in memory."""
    return len(db._session._states.baselines)


def known(db: pstore.Store) -> int:
    """How many objects the session holds, ghosts included."""
    return len(db._session.identity.objects)


def grove(place: Place, trees: int, leaves: int) -> None:
    """Store trees of leaves."""
    with place.open() as db:
        db["grove"] = shop.Person(
            trees=[shop.Person(leaves=[shop.Person(n=n, tags=[n]) for n in range(leaves)]) for _ in range(trees)]
        )


def walk(db: pstore.Store, *, rest: bool) -> int:
    """Touch everything in the grove."""
    total = 0
    for tree in db["grove"].trees:
        total += sum(leaf.n + len(leaf.tags) for leaf in tree.leaves)
        if rest:
            db.commit()
    return total


def test_states_are_dropped_at_the_end_of_a_transaction(place: Place) -> None:
    """At most as many as `cache_size` says stay, those that were used last; ghosts that nobody holds are forgotten."""
    grove(place, 20, 50)
    db = place.open(cache_size=100)
    assert walk(db, rest=True) == 20 * (49 * 25 + 50)
    assert in_memory(db) <= 100
    assert known(db) < 300
    assert walk(db, rest=False) == 20 * (49 * 25 + 50)
    last = db["grove"].trees[19].leaves[49]
    db.rollback()
    assert in_memory(db) <= 100
    loads = db.stats()["loads"]
    assert last.n == 49
    assert db.stats()["loads"] == loads
    assert db.commit().keys == ()


def test_bytes_are_limited_too(place: Place) -> None:
    """`cache_bytes` counts the records as they are stored."""
    with place.open() as db:
        db.update((str(n), shop.Plain(data=bytes([n]) * 10_000)) for n in range(50))
    db = place.open(cache_bytes=100_000)
    assert [db[str(n)].data[0] for n in range(50)] == [*range(50)]
    db.commit()
    assert in_memory(db) < 10


def test_a_chain_is_walked_in_one_transaction(place: Place) -> None:
    """What nothing refers to any more is forgotten in the middle of a transaction as well."""
    with place.open() as db:
        node = None
        for number in range(2000):
            node = shop.Node(number, node)
        db["last"] = node
    db = place.open(cache_size=100)
    node, seen, most = db["last"], [], 0
    while node is not None:
        seen.append(node.number)
        node = node.following
        most = max(most, known(db))
    assert seen == [*reversed(range(2000))]
    assert most < 500


def test_what_was_changed_or_is_held_stays(place: Place) -> None:
    """Neither a change nor a container that somebody holds is lost, however small the cache is."""
    grove(place, 10, 10)
    with place.open(cache_size=0, cache_bytes=0) as db:
        held = [tree.leaves[0].tags for tree in db["grove"].trees]
        watched = weakref.ref(db["grove"].trees[3])
        for tree in db["grove"].trees:
            tree.leaves[1].n = 100
            assert sum(leaf.n for leaf in tree.leaves) == 144
        db.evict()
        assert watched() is db["grove"].trees[3]
        assert len(db.changed()) == 10
        assert len(db.commit().keys) == 10
        for tags in held:
            tags.append("late")
        db.evict()
        assert len(db.commit().keys) == 10
    with place.open() as db:
        for tree in db["grove"].trees:
            assert tree.leaves[0].tags == [0, "late"]
            assert tree.leaves[1].n == 100


def test_loose_objects_are_forgotten_when_nobody_refers_to_them(place: Place) -> None:
    """Lists that are records, and what a constructor makes; unless they have changed."""
    with place.open() as db:
        shared = [[n] for n in range(100)]
        db.update((f"{half}{n}", shop.Person(items=shared[n])) for half in "ab" for n in range(100))
        db.update((f"r{n}", shop.Reduced(n)) for n in range(100))
    with place.open(cache_size=10) as db:
        for n in range(100):
            assert db[f"a{n}"].items is db[f"b{n}"].items
            assert db[f"r{n}"].parts == (n,)
            if n == 50:
                db[f"r{n}"].extra = "changed"
                db[f"a{n}"].items.append("changed")
            db.evict()
        assert in_memory(db) < 10
        assert len(db.commit().keys) == 2
    with place.open() as db:
        assert db["r50"].extra == "changed"
        assert db["b50"].items == [50, "changed"]


def test_evict(place: Place) -> None:
    """It drops what is unchanged, answers how much, and takes single objects too."""
    with place.open() as db:
        db["a"], db["b"] = shop.Plain(x=1), shop.Plain(x=2)
    db = place.open()
    a, b = db["a"], db["b"]
    assert (a.x, b.x) == (1, 2)
    assert db.evict([a, "no object of the store"]) == 1
    assert in_memory(db) == 1
    b.x = 3
    assert db.evict() == 0
    assert (a.x, b.x) == (1, 3)
    db.rollback()
    assert db.evict() == 1
    assert (a.x, b.x) == (1, 2)
    del a, b
    gc.collect()
    db.evict()
    assert known(db) == 0


def test_more_is_written_than_stays_in_memory(place: Place) -> None:
    """Savepoints put new objects aside, and the commit writes them all."""
    with place.open(cache_size=200) as db:
        db["people"] = people = shop.Person(all=[])
        most = 0
        for block in range(20):
            people.all.append(shop.Person(part=[shop.Person(n=block * 100 + n) for n in range(100)]))
            db.savepoint()
            most = max(most, known(db))
        assert most < 1000
        commit = db.commit("all")
        assert len(commit.keys) == 20 * 101 + 1
        assert db.commit().keys == ()
    with place.open() as db:
        assert [p.n for part in db["people"].all for p in part.part] == [*range(2000)]
        assert len(list(db.instances(shop.Person))) == 2021


def peak_of_a_walk(path: Path, cache_size: int) -> float:
    """The most memory that walking the whole grove takes, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        with pstore.open(path, allow=["shop"], cache_size=cache_size) as db:
            walk(db, rest=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_a_walk(tmp_path: Path) -> None:
    """A graph of many more objects than the cache holds is walked in at most three times the memory of the small one."""
    peaks = []
    for trees in (10, 100):
        path = tmp_path / str(trees)
        with pstore.open(path, allow=["shop"], cache_size=1000) as db:
            db["grove"] = owner = shop.Person(trees=[])
            for _ in range(trees):
                owner.trees.append(shop.Person(leaves=[shop.Person(n=n, tags=[n]) for n in range(99)]))
                db.savepoint()
        peaks.append(peak_of_a_walk(path, 1000))
    assert peaks[1] < 3 * peaks[0]


def test_sizes_are_checked() -> None:
    """What can't be a size is refused."""
    for options, kind in (({"cache_size": -1}, ValueError), ({"cache_bytes": 1.5}, TypeError)):
        with pytest.raises(kind, match=next(iter(options))):
            pstore.open("memory:", **options)
    with pytest.raises(ValueError, match="'snapshot', 'serializable'"):
        pstore.open("memory:", isolation="none")  # type: ignore[arg-type]
