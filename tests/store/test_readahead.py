"""Reading ahead: on backends where each call is a round trip by itself, and where it is asked for on all."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import Node, Plain
from wrapping import Wrapper

import pstore
from pstore import rows
from pstore.backends import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Place


@pstore.persistent
class Tree:
    """A record with records below it."""

    def __init__(self, number: int, below: Any = ()) -> None:
        self.number = number
        self.below = list(below)


@pstore.persistent
class Blob:
    """A large record."""

    def __init__(self, size: int) -> None:
        self.data = b"x" * size


def far(backend: Any = None, *, remote: bool = True) -> Wrapper:
    """A backend that counts its calls, and says that each is a round trip."""
    inner = MemoryBackend() if backend is None else backend
    return Wrapper(inner, replace(inner.capabilities, remote=remote))


def opened(backend: Any, **options: Any) -> pstore.Store:
    """A new session that has read nothing."""
    db = pstore.open(backend, allow=["shop", "test_readahead", __name__], **options)
    len(db)
    if isinstance(backend, Wrapper):
        backend.forget()
    return db


@pytest.fixture
def remote() -> Iterator[Wrapper]:
    """An empty backend to which each call is a round trip."""
    backend = far()
    yield backend
    backend.close()


def grow(fan: int, levels: int) -> tuple[Tree, int]:
    """A tree and the number of its nodes."""
    level = [Tree(number) for number in range(fan**levels)]
    count = len(level)
    while len(level) > 1:
        level = [Tree(len(level) + at, level[at : at + fan]) for at in range(0, len(level), fan)]
        count += len(level)
    return level[0], count


def breadth_first(root: Tree) -> list[int]:
    """The numbers in a tree."""
    found, queue, seen = [], deque([root]), {id(root)}
    while queue:
        node = queue.popleft()
        found.append(node.number)
        new = [below for below in node.below if id(below) not in seen]
        seen.update(map(id, new))
        queue.extend(new)
    return found


def depth_first(root: Tree) -> list[int]:
    """The numbers in a tree."""
    found, stack, seen = [], [root], {id(root)}
    while stack:
        node = stack.pop()
        found.append(node.number)
        new = [below for below in reversed(node.below) if id(below) not in seen]
        seen.update(map(id, new))
        stack.extend(new)
    return found


def backwards(root: Tree) -> list[int]:
    """The numbers in a tree, each level from its end."""
    found, queue = [], deque([root])
    while queue:
        node = queue.popleft()
        found.append(node.number)
        queue.extend(reversed(node.below))
    return found


@pytest.mark.parametrize("walk", [breadth_first, depth_first, backwards])
def test_a_walk_over_a_tree(remote: Wrapper, walk: Callable[[Tree], list[int]]) -> None:
    """A cold walk over 11,111 objects takes some round trips a level, whichever way it goes, and reads each record once."""
    with opened(remote) as db:
        db["tree"], count = grow(10, 4)
        expected = walk(db["tree"])
        assert count == len(expected) == 11_111
    with opened(remote) as db:
        root = db["tree"]
        assert walk(root) == expected
        assert remote.trips("records", "names") <= 25
        assert remote.rows() <= count * 1.01
        assert db.stats()["loads"] == count


@pytest.mark.parametrize("limit", [1, 20_000])
def test_within_the_limit_of_memory(remote: Wrapper, limit: int) -> None:
    """What was read and isn't used stays below what a session may keep; the walk takes more round trips then."""
    with opened(remote) as db:
        db["tree"], count = grow(10, 3)
        db.commit()
        reader = remote.begin()
        least = min(len(row) for key, row in reader.scan("records") if key % 2**44)
        reader.rollback()
    with opened(remote, cache_bytes=limit) as db:
        for number, _ in enumerate(walking(db["tree"]), 1):
            assert (remote.rows() - number) * least <= 1.5 * limit
        assert number == count
        trips = remote.trips("records")
        assert trips == count if limit == 1 else trips < count / 20


def walking(root: Tree) -> Iterator[Tree]:
    """Each node of a tree, when it was read."""
    queue = deque([root])
    while queue:
        node = queue.popleft()
        queue.extend(node.below)
        yield node


def test_chains_and_cycles(remote: Wrapper) -> None:
    """A chain has one reference a level and takes a trip for each; a circle and a web end."""
    with opened(remote) as db:
        first = None
        for number in range(3000):
            first = Node(number, first)
        db["chain"] = first
        web = [Tree(number) for number in range(500)]
        for node in web:
            node.below = [web[node.number * 7 % 500], web[(node.number * 3 + 1) % 500], web[0], node]
        db["web"] = web[1]
        expected = breadth_first(web[1])
    with opened(remote) as db:
        node, count = db["chain"], 0
        while node is not None:
            node, count = node.following, count + 1
        assert count == 3000
        assert remote.trips("records") == remote.rows() == 3000
    with opened(remote) as db:
        assert breadth_first(db["web"]) == expected
        assert remote.trips("records") <= 25
        assert remote.rows() == len(expected) > 400


def test_nothing_wanted_in_no_order(remote: Wrapper) -> None:
    """Where objects are used at random, hardly more is read than is used; a walk after that is quick again."""
    with opened(remote) as db:
        db["hub"] = Tree(0, [Tree(number) for number in range(20_000)])
    with opened(remote) as db:
        hub, chance = db["hub"], random.Random(1)
        chosen = chance.sample(range(20_000), 300)
        for number in chosen:
            assert hub.below[number].number == number
        assert remote.rows() < 3 * len(chosen)
        remote.forget()
        assert [node.number for node in hub.below] == list(range(20_000))
        assert remote.trips("records") < 60


def test_large_records(remote: Wrapper) -> None:
    """Few large records are read unasked: their size is known as soon as some were read."""
    size = 3_000_000
    with opened(remote) as db:
        db["blobs"] = Tree(0, [Blob(size) for _ in range(40)])
    with opened(remote) as db:
        blobs = db["blobs"].below
        assert len(blobs[0].data) == size
        assert remote.read < 11 * size
        for number, blob in enumerate(blobs, 1):
            assert len(blob.data) == size
            assert remote.read < (number + 10) * size
        assert remote.trips("records") < 25


def test_lists_and_names(remote: Wrapper) -> None:
    """Going through all names, or all objects of a class, takes few round trips."""
    with opened(remote) as db:
        for number in range(1500):
            db[f"{number:04}"] = Tree(number)
            db[f"a{number:04}"] = number
    with opened(remote) as db:
        assert [value if isinstance(value, int) else value.number for value in db.values()] == [*range(1500)] * 2
        assert remote.trips("records", "names") < 30
    with opened(remote) as db:
        assert [tree.number for tree in db.instances(Tree)] == [*range(1500)]
        assert remote.trips("records", "names") < 20


def test_prefetch(place: Place) -> None:
    """After a prefetch, touching the objects asks the backend for no record more; they are asleep until then."""
    backend = far(place.backend, remote=False)
    with opened(backend) as db:
        shared = ["loaded with what refers to it", Plain(deep=["also"])]
        db["shared"] = shared
        db["trees"] = Tree(0, [Tree(number, [shared, {number: shared}]) for number in range(1, 2001)])
    with opened(backend) as db:
        trees = db["trees"].below
        trees[0].number  # noqa: B018
        backend.forget()
        loads = db.stats()["loads"]
        ghost = type(trees[1])
        assert db.prefetch(tree for tree in trees) == 1999
        assert backend.trips("records") == 1
        assert {type(tree) for tree in trees[1:]} == {ghost}
        assert db.stats()["loads"] == loads
        backend.forget()
        assert [tree.number for tree in trees] == [*range(1, 2001)]
        assert backend.trips("records") == 0
        assert db.stats()["loads"] == loads + 1999
        assert db.prefetch(trees) == db.prefetch([]) == 0


def test_prefetch_by_key(place: Place) -> None:
    """Keys are taken as well; what is no object of the store is passed over, what can't be a key is refused."""
    backend = far(place.backend, remote=False)
    with opened(backend) as db:
        db["trees"] = trees = Tree(0, [Tree(number) for number in range(100)])
        db["list"] = listed = [1, [2, trees]]
        db["nested"] = [listed]
        db.commit()
        keys = [db.key_of(tree) for tree in trees.below]
        nested = db.key_of(db["nested"])
    with opened(backend) as db:
        assert db.prefetch([*keys, "a text", None, Tree(5), object()]) == 100
        assert db.prefetch(keys) == 0
        found = [db.object_at(key) for key in keys]
        assert [tree.number for tree in found] == [*range(100)]
        assert backend.trips("records") == 1
        for bad in (0, 5, -1, 2**64, 1 << 44):
            with pytest.raises(ValueError, match="is no key of an object"):
                db.prefetch([keys[0], bad])
        backend.forget()
        assert db.prefetch([nested]) == 2  # the list, and the one in it
        backend.forget()
        assert db.object_at(nested)[0][0] == 1
        assert backend.trips("records") == 0
    with pytest.raises(pstore.StoreClosed):
        db.prefetch([])


def test_only_what_is_used_counts_as_read(remote: Wrapper) -> None:
    """A serializable transaction isn't refused for what was read ahead and never looked at."""
    with opened(remote) as db:
        db["tree"] = Tree(0, [Tree(1), Tree(2), Tree(3)])
        db["out"] = Tree(9)
    mine = opened(remote, isolation="serializable")
    first, second, third = mine["tree"].below
    assert first.number == 1
    mine.prefetch([second, third])
    assert mine.object_at(mine.key_of(third)) is third
    with opened(remote) as other:
        other["tree"].below[1].number = 20
    mine["out"].number = 10
    mine.commit()
    assert (first.number, second.number) == (1, 20)
    with opened(remote) as other:
        other["tree"].below[1].number = 30
    mine["out"].number = 11
    with pytest.raises(pstore.ConflictError):
        mine.commit()
    mine.rollback()
    mine.close()


def test_one_snapshot(remote: Wrapper) -> None:
    """What was read ahead is of the transaction's snapshot, and isn't used in the next transaction."""
    with opened(remote) as db:
        db["tree"] = Tree(0, [Tree(1), Tree(2), Tree(3)])
    mine = opened(remote)
    first, second, third = mine["tree"].below
    mine.prefetch([second])
    with opened(remote) as other:
        for tree in other["tree"].below:
            tree.number += 10
    assert (first.number, second.number) == (1, 2)
    mine.rollback()
    assert (first.number, second.number, third.number) == (11, 12, 13)
    mine.close()


def test_damaged_and_missing(remote: Wrapper) -> None:
    """A record that is damaged or missing is an error when it is touched, not when it was read ahead of that."""
    with opened(remote) as db:
        db["tree"] = tree = Tree(0, [Tree(1), Tree(2, [Tree(5)]), Tree(3), Tree(4)])
        db.commit()
        keys = [db.key_of(below) for below in tree.below]
    writer = remote.begin(write=True)
    (row,) = writer.get_many("records", [keys[1]])
    writer.put_many("records", [(keys[1], bytes(row[:-3]) + b"bad")])
    sealed = rows.unseal_record(keys[3], *writer.get_many("records", [keys[3]]))
    bad = rows.seal(rows.record_place(keys[3]), b"\x80\x05no pickle", code=sealed[1], revision=sealed[2])
    writer.put_many("records", [(keys[3], bad)])
    writer.delete_many("records", [keys[2]])
    writer.commit()
    for again in (False, True):
        with opened(remote) as db:
            below = db["tree"].below
            if again:
                assert db.prefetch(below) == 3
            assert below[0].number == 1
            for _ in range(2):
                with pytest.raises(pstore.CorruptRecord, match="Tree#"):
                    below[1].number  # noqa: B018
                with pytest.raises(pstore.MissingRecord, match="Tree#"):
                    below[2].number  # noqa: B018
                with pytest.raises(pstore.CorruptRecord, match="Tree#"):
                    below[3].number  # noqa: B018
            with pytest.raises(pstore.MissingRecord):
                db.object_at(keys[2] + 50)


def test_the_connection_breaks(remote: Wrapper) -> None:
    """An error of the backend passes through, and the next touch reads again."""
    with opened(remote) as db:
        db["tree"], count = grow(10, 2)
    with opened(remote) as db:
        root = db["tree"]

        def lose(verb: str) -> None:
            if verb == "get":
                raise pstore.ConnectionLost("gone")

        remote.before = lose
        with pytest.raises(pstore.ConnectionLost):
            root.number  # noqa: B018
        remote.before = lambda verb: None
        assert len(breadth_first(root)) == count


#: Two sessions take turns.
STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["read", "read", "walk", "change", "link", "new", "commit", "rollback", "savepoint", "back",
                         "evict", "prefetch", "name", "at"]),
        st.integers(0, 11),
        st.integers(0, 11),
    ),
    max_size=40,
)  # fmt: skip


def play(backend: Any, isolation: Any, steps: list[tuple[int, str, int, int]]) -> list[Any]:
    """What the steps give, and what the store holds in the end."""
    with opened(backend) as db:
        trees = [Tree(number) for number in range(12)]
        for number, tree in enumerate(trees):
            tree.below = [trees[number * 5 % 12], trees[(number + 1) % 12], [trees[(number + 7) % 12]]]
        for number in range(0, 12, 4):
            db[f"{number}"] = trees[number]
        db["list"] = shared = [trees[3], {}]
        trees[5].below.append(shared)
        db.commit()
        keys = [db.key_of(tree) for tree in trees]
    sessions = [opened(backend, isolation=isolation) for _ in range(2)]
    marks: list[list[pstore.Savepoint]] = [[], []]
    told: list[Any] = []
    for who, step, first, second in steps:
        db = sessions[who]
        try:
            tree = db.object_at(keys[first])
            if step in ("commit", "rollback"):
                marks[who].clear()
                told.append(getattr(db, step)() if step == "rollback" else db.commit().keys)
            elif step == "savepoint":
                marks[who].append(db.savepoint())
            elif step == "back" and marks[who]:
                marks[who][first % len(marks[who])].rollback()
            elif step == "read":
                told.append((tree.number, len(tree.below)))
            elif step == "walk":
                told.append([found.number for found in tree.below if isinstance(found, Tree)])
            elif step == "change":
                tree.number += 100
            elif step == "link":
                tree.below[-1] = db.object_at(keys[second])
            elif step == "new":
                tree.below.append(Tree(first * 1000 + second))
            elif step == "evict":
                told.append(db.evict() >= 0)
            elif step == "prefetch":
                told.append(db.prefetch([tree, keys[second]]) >= 0)
            elif step == "name":
                db[f"{second}"] = tree
                told.append(list(db))
            elif step == "at":
                told.append(db.object_at(keys[second]) in tree.below)
        except (pstore.ConflictError, pstore.SavepointEnded) as error:
            told.append(type(error))
            if isinstance(error, pstore.ConflictError):
                marks[who].clear()
                told.append(error.conflicts)
                db.rollback()
    for db in sessions:
        db.rollback()
        db.close()
    with opened(backend) as db:
        told.append([(db.object_at(key).number, len(db.object_at(key).below)) for key in keys])
        told.append({name: db.key_of(value) for name, value in db.items()})
    return told


@settings(max_examples=150)
@given(st.sampled_from(["snapshot", "serializable"]), STEPS)
def test_same_answers(isolation: str, steps: list[tuple[int, str, int, int]]) -> None:
    """Whatever two sessions do, they see, write and are refused the same as where nothing is read ahead."""
    assert play(far(), isolation, steps) == play(MemoryBackend(), isolation, steps)
