"""Changes are found, however deep, and nothing else is written."""

from __future__ import annotations

import array
import collections
import functools
import gc
import itertools
import operator
import types
import weakref
from typing import TYPE_CHECKING, Any

import kinds
import pytest
import shop

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Place


def nested() -> Any:
    """An object with every kind of container inline."""
    return shop.Plain(x={"y": [0], "t": ([1], {2})}, inner=shop.Plain(deep=[{"k": bytearray(b"v")}]), s={1})


MUTATIONS = {
    "attribute": lambda a: setattr(a, "new", 1),
    "deleted attribute": lambda a: delattr(a, "s"),
    "list in dict": lambda a: a.x["y"].append(1),
    "list in tuple": lambda a: a.x["t"][0].append(1),
    "set in tuple": lambda a: a.x["t"][1].add(9),
    "inline instance": lambda a: setattr(a.inner, "z", 1),
    "bytearray, deep": lambda a: a.inner.deep[0]["k"].extend(b"!"),
    "set": lambda a: a.s.discard(1),
    "through __dict__": lambda a: vars(a).update(w=1),
    "object.__setattr__": lambda a: object.__setattr__(a, "z", (a.x, 3)),
}


@pytest.mark.parametrize("mutate", [pytest.param(mutate, id=name) for name, mutate in MUTATIONS.items()])
def test_each_mutation_writes_one_record(mutate: Callable[[Any], object], place: Place) -> None:
    """A mutation at any depth is found, and only the record it is in is written; then there is nothing left to write."""
    with place.open() as db:
        db["a"], db["other"] = nested(), shop.Plain(x=[1])
    with place.open() as db:
        assert db["other"].x == [1]
        mutate(db["a"])
        assert db.changed() == [db["a"]]
        commit = db.commit()
        assert commit.keys == (db.key_of(db["a"]),)
        assert db.commit().keys == ()
        mutated = repr(vars(db["a"])["x"])
    with place.open() as db:
        assert repr(vars(db["a"])["x"]) == mutated
        assert db.commit() == pstore.Commit(commit.revision)


def test_container_taken_out_before_a_commit_and_changed_after_it(place: Place) -> None:
    """A commit doesn't lose sight of a container that the application still holds."""
    with place.open() as db:
        db["a"] = nested()
        db.commit()
        held = db["a"].x["y"]
        inner = db["a"].inner
        db.commit()
        db.commit()
        held.append("late")
        assert len(db.commit().keys) == 1
        inner.later = True
        assert len(db.commit().keys) == 1
        attributes = vars(db["a"])
        db.commit()
        attributes["through"] = "__dict__"
        assert len(db.commit().keys) == 1
        walking = iter(db["a"].x["y"])
        db.commit()
        append = db["a"].x["y"].append
        db.commit()
        append("bound method")
        assert len(db.commit().keys) == 1
        del walking
    with place.open() as db:
        assert db["a"].x["y"] == [0, "late", "bound method"]
        assert db["a"].inner.later
        assert db["a"].through == "__dict__"


def test_container_held_through_a_tuple(place: Place) -> None:
    """Nor of one that is held through something that can't change itself."""
    with place.open() as db:
        db["a"] = shop.Plain(pair=([1], 2), point=shop.Point([], 0), keyed={(1, frozenset({2})): [3]})
        db.commit()
        pair, point = db["a"].pair, db["a"].point
        db.commit()
        pair[0].append("late")
        assert len(db.commit().keys) == 1
        point.x.append("late")
        assert len(db.commit().keys) == 1
    with place.open() as db:
        assert (db["a"].pair, db["a"].point.x) == (([1, "late"], 2), ["late"])


def test_getstate_that_gives_copies(place: Place) -> None:
    """Where a class gives copies of its containers as its state, they are compared all the same."""
    with place.open() as db:
        db["a"] = shop.Copying()
        db["b"] = shop.Person(inner=shop.Copying())
        db.commit()
        one, other = db["a"].items, db["b"].inner.items
        db.commit()
        one.append(1)
        other.append(2)
        assert len(db.commit().keys) == 2
    with place.open() as db:
        assert (db["a"].items, db["b"].inner.items) == ([1], [2])


def test_subclass_of_an_immutable_type_with_slots(place: Place) -> None:
    """What has somewhere to keep things can change, whatever it is a subclass of."""
    with place.open() as db:
        db["tag"] = tag = shop.Tag("t")
        tag.notes = []
        db.commit()
        assert db["tag"] is tag
        tag.notes.append(1)
        assert len(db.commit().keys) == 1
    with place.open() as db:
        assert (db["tag"], db["tag"].notes) == ("t", [1])


def test_after_a_commit_only_touched_objects_are_compared(place: Place) -> None:
    """Objects go back behind the barrier with their states; reading one wakes that one alone and loads nothing."""
    with place.open() as db:
        db["all"] = [shop.Person(n=n) for n in range(10)]
        db.commit()
        gc.collect()
        assert not db._session._states.touched
        loads = db.stats()["loads"]
        assert db["all"][3].n == 3
        assert list(db._session._states.touched.values()) == [db["all"][3]]
        assert db.stats()["loads"] == loads


def test_named_containers(place: Place) -> None:
    """A list, dict, set or bytearray under a name is compared as well."""
    with place.open() as db:
        db["list"], db["dict"], db["set"], db["bytes"] = [1], {1: 2}, {1}, bytearray(b"1")
        db.commit()
        for name, mutate in {
            "list": lambda: db["list"].append(2),
            "dict": lambda: db["dict"].update(x=[]),
            "set": lambda: db["set"].add(5),
            "bytes": lambda: db["bytes"].append(50),
        }.items():
            mutate()
            assert db.commit().keys == (db.key_of(db[name]),)
    with place.open() as db:
        assert (db["list"], db["dict"], db["set"], db["bytes"]) == ([1, 2], {1: 2, "x": []}, {1, 5}, bytearray(b"12"))


def test_reading_writes_nothing_in_any_process(path: Path, elsewhere: Callable[..., str]) -> None:
    """A commit with nothing changed writes nothing, here and under other hash seeds."""
    with pstore.open(path, allow=["shop"]) as db:
        words = [f"word{n}" for n in range(50)]
        db["a"] = shop.Plain(
            words=set(words), frozen=frozenset(map(str.upper, words)), mixed={1, "a", (2, "b"), None, 2.5}
        )
        db["b"] = {"".join(word): [word, word.upper(), shop.Colour.RED, shop.Point(1, 2)] for word in words}
        db["stack"] = shop.Stack(words)
        revision = db.commit().revision
    touch = "repr((vars(db['a']), db['b'], list(db['stack'])))\nprint(db.commit())"
    for seed in (1, 2):
        assert elsewhere(touch, seed=seed) == f"Commit(revision={revision}, keys=(), names=())\n"


def test_putting_the_same_object_under_its_name_again_writes_nothing(place: Place) -> None:
    """`db[name] = db[name]` is no change."""
    with place.open() as db:
        db["a"], db["n"] = shop.Plain(), 5
        revision = db.commit().revision
        db["a"], db["n"] = db["a"], 5
        assert db.commit() == pstore.Commit(revision)


def test_equal_text_is_not_a_change(place: Place) -> None:
    """What counts is the value of a text, not which object it is."""
    with place.open() as db:
        db["a"] = shop.Plain(one=str(b"text", "ascii"), two="text")
        db.commit()
        db["a"].one = str(bytearray(b"text"), "ascii")
        assert db.commit().keys == ()


def test_rollback_in_place(place: Place) -> None:
    """After a rollback the objects in memory are what the store says, the same objects as before."""
    with place.open() as db:
        db["a"], db["l"], db["d"], db["s"] = nested(), [1, [2]], {"k": 1}, {1}
        db["stack"] = shop.Stack([1])
        db["slot"] = shop.Slotted("x", shop.Plain(y=1))
        db.commit()
        objects = {name: db[name] for name in db}
        for name in sorted(MUTATIONS, key="deleted attribute".__eq__):
            MUTATIONS[name](db["a"])
        db["l"].append(3)
        db["l"][1].append(3)
        db["d"].clear()
        db["s"].add(2)
        db["slot"].name = "y"
        db["slot"].friend.y = 2
        db["new"] = shop.Person()
        del db["d"]
        db["stack"].append(2)
        db.rollback()
        assert repr(vars(db["a"])["x"]) == repr(nested().x)
        assert not hasattr(db["a"], "new")
        assert (db["l"], db["d"], db["s"], list(db["stack"])) == ([1, [2]], {"k": 1}, {1}, [1])
        assert (db["slot"].name, db["slot"].friend.y) == ("x", 1)
        assert "new" not in db
        assert all(db[name] is obj for name, obj in objects.items() if name != "stack")
        assert db.commit().keys == ()


def test_rollback_of_what_a_constructor_made(place: Place) -> None:
    """Where an object has to be made anew, whoever refers to it refers to the new one."""
    with place.open() as db:
        db["made"] = shop.Reduced(1, [2])
        db["holder"] = shop.Plain(made=db["made"])
        db["list"] = [db["made"]]
        db.commit()
        db["made"].extra = "changed"
        db["made"].parts[1].append(3)
        db.rollback()
        assert (db["made"].extra, db["made"].parts) == (None, (1, [2]))
        assert db["holder"].made is db["made"]
        assert db["list"][0] is db["made"]


def test_a_failed_commit_leaves_everything_as_it_was(place: Place) -> None:
    """What can't be pickled is refused with its path; mended, the next commit writes it all."""
    with place.open() as db:
        db["a"] = shop.Plain(n=1)
        db.commit()
        db["a"].n = 2
        db["b"] = shop.Plain(accounts=[0, shop.Plain(callback=lambda: None)])
        with pytest.raises(pstore.pickle.PicklingError, match=r"db\['b'\]\.accounts\[1\]\.callback"):
            db.commit()
        assert db.key_of(db["b"]) is None
        assert len(db) == 2
        db["b"].accounts.clear()
        assert len(db.commit().keys) == 2
    with place.open() as db:
        assert (db["a"].n, db["b"].accounts) == (2, [])


def test_changed_class_of_an_object(place: Place) -> None:
    """An object whose `__class__` was set comes back as that class, under its old key."""
    with place.open() as db:
        db["a"] = shop.Plain(n=1)
        db.commit()
        key = db.key_of(db["a"])
        db["a"].__class__ = shop.Person
        assert db.commit().keys == (key,)
    with place.open() as db:
        assert db["a"].n == 1
        assert type(db["a"]) is shop.Person
        assert db.key_of(db["a"]) == key


def test_large_buffers_stand_beside_the_stream(place: Place) -> None:
    """A large buffer survives, and one that could be written still can be."""
    with place.open() as db:
        db["a"] = shop.Plain(buffer=pstore.pickle.PickleBuffer(bytearray(b"x" * 100_000)), small=bytearray(b"y" * 10))
    with place.open() as db:
        db["a"].buffer[0] = 0
        assert bytes(db["a"].buffer) == b"\0" + b"x" * 99_999


# ------------------------------------------------------------------------------- held over a commit, in every way there is


def generator(items: list[Any]) -> Any:
    """Changes a list when it is asked for more."""
    while True:
        yield
        items.append("from a generator")


#: What an object holds, what the application keeps of it over a commit, and how that changes it afterwards.
HELD: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], object]]] = {
    "list": (list, lambda part: part, lambda held: held.append(1)),
    "dict": (dict, lambda part: part, lambda held: held.update(a=1)),
    "set": (set, lambda part: part, lambda held: held.add(1)),
    "bytearray": (bytearray, lambda part: part, lambda held: held.append(1)),
    "deque": (collections.deque, lambda part: part, lambda held: held.append(1)),
    "OrderedDict": (collections.OrderedDict, lambda part: part, lambda held: held.update(a=1)),
    "defaultdict": (lambda: collections.defaultdict(list), lambda part: part, lambda held: held["a"]),
    "Counter": (collections.Counter, lambda part: part, lambda held: held.update("a")),
    "ChainMap": (collections.ChainMap, lambda part: part, lambda held: held.update(a=1)),
    "UserList": (collections.UserList, lambda part: part, lambda held: held.append(1)),
    "array": (lambda: array.array("i"), lambda part: part, lambda held: held.append(1)),
    "SimpleNamespace": (types.SimpleNamespace, lambda part: part, lambda held: setattr(held, "a", 1)),
    "instance": (shop.Plain, lambda part: part, lambda held: setattr(held, "a", 1)),
    "instance with slots": (lambda: shop.Slotted("n"), lambda part: part, lambda held: setattr(held, "name", "new")),
    "frozen dataclass": (lambda: shop.Frozen("n"), lambda part: part, lambda held: held.tags.append(1)),
    "attrs": (lambda: kinds.AttrsDefine("n", []), lambda part: part, lambda held: setattr(held, "name", "new")),
    "pydantic": (lambda: kinds.Model(name="n"), lambda part: part, lambda held: setattr(held, "name", "new")),
    "list's subclass": (shop.Stack, lambda part: part, lambda held: held.append(1)),
    "list in an instance": (lambda: shop.Plain(x=[]), lambda part: part.x, lambda held: held.append(1)),
    "list in slots": (lambda: shop.Slotted("n", []), lambda part: part.friend, lambda held: held.append(1)),
    "list in a tuple": (lambda: (1, ([],)), lambda part: part, lambda held: held[1][0].append(1)),
    "list in a named tuple": (lambda: shop.Point([], 1), lambda part: part, lambda held: held.x.append(1)),
    "instance in a frozenset": (
        lambda: frozenset([shop.Plain()]),
        lambda part: part,
        lambda held: setattr(*held, "a", 1),
    ),
    "instance as a key": (lambda: {shop.Plain(): 1}, lambda part: [*part], lambda held: setattr(held[0], "a", 1)),
    "instance as a key of a tuple": (
        lambda: {(1, shop.Plain()): 1},
        lambda part: [*part],
        lambda held: setattr(held[0][1], "a", 1),
    ),
    "list in a deque": (lambda: collections.deque([[]]), lambda part: part[0], lambda held: held.append(1)),
    "list in a defaultdict": (
        lambda: collections.defaultdict(list, a=[]),
        lambda part: part["a"],
        lambda held: held.append(1),
    ),
    "vars of an instance": (shop.Plain, vars, lambda held: held.update(a=1)),
    "bound method of a list": (list, lambda part: part.append, lambda held: held(1)),
    "bound method of an instance": (kinds.Container, lambda part: part.__delitem__, lambda held: held(0)),
    "bound method of vars": (shop.Plain, lambda part: vars(part).setdefault, lambda held: held("a", 1)),
    "method wrapper": (list, lambda part: part.__iadd__, lambda held: held([1])),
    "partial": (list, lambda part: functools.partial(operator.iadd, part), lambda held: held([1])),
    "closure": (list, lambda part: lambda: part.append(1), lambda held: held()),
    "generator": (list, lambda part: [gen := generator(part), next(gen)], lambda held: next(held[0])),
    "iterator": (lambda: [[]], iter, lambda held: next(held).append(1)),
    "reversed iterator": (lambda: [[]], reversed, lambda held: next(held).append(1)),
    "iterator of a dict": (lambda: {"a": []}, lambda part: iter(part.values()), lambda held: next(held).append(1)),
    "iterator of a deque": (lambda: collections.deque([[]]), iter, lambda held: next(held).append(1)),
    "map": (lambda: [[]], lambda part: map(list.append, part, [1]), next),
    "zip": (lambda: [[]], zip, lambda held: next(held)[0].append(1)),
    "chain": (lambda: [[]], itertools.chain, lambda held: next(held).append(1)),
    "keys of a dict": (dict, lambda part: part.keys(), lambda held: gc.get_referents(held)[0].update(a=1)),
    "values of a dict": (lambda: {"a": []}, lambda part: part.values(), lambda held: next(iter(held)).append(1)),
    "items of a dict": (lambda: {"a": []}, lambda part: part.items(), lambda held: next(iter(held))[1].append(1)),
    "memoryview": (lambda: bytearray(b"a"), memoryview, lambda held: operator.setitem(held, 0, 1)),
    "cast memoryview": (
        lambda: bytearray(b"abcd"),
        lambda part: memoryview(part)[1:3].cast("B"),
        lambda held: operator.setitem(held, 0, 1),
    ),
    "memoryview of an array": (lambda: array.array("i", [5]), memoryview, lambda held: operator.setitem(held, 0, 1)),
    "weak reference": (shop.Plain, weakref.ref, lambda held: setattr(held(), "a", 1)),
    "weak reference to a set": (set, weakref.ref, lambda held: held().add(1)),
    "weak proxy": (shop.Plain, weakref.proxy, lambda held: setattr(held, "a", 1)),
    "weak value": (
        shop.Plain,
        lambda part: weakref.WeakValueDictionary(a=part),
        lambda held: setattr(held["a"], "a", 1),
    ),
    "weak method": (kinds.Container, lambda part: weakref.WeakMethod(part.__delitem__), lambda held: held()(0)),
    "super": (kinds.Setattr, lambda part: super(kinds.Setattr, part), lambda held: held.__setattr__("a", 1)),
    "mapping proxy": (lambda: {"a": []}, types.MappingProxyType, lambda held: held["a"].append(1)),
    "traceback": (list, None, lambda held: held.tb_next.tb_frame.f_locals["part"].append(1)),
}


def kept_by_an_exception(part: list[Any]) -> Any:
    """What a debugger has: a traceback whose frame holds the part."""

    def fail(part: list[Any]) -> float:
        return len(part) / 0

    try:
        fail(part)
    except ZeroDivisionError as error:
        return error.__traceback__


@pytest.mark.parametrize("deep", [False, True], ids=["attribute", "deep"])
@pytest.mark.parametrize("how", HELD)
def test_held_over_a_commit(how: str, deep: bool, place: Place) -> None:
    """Whatever the application keeps of an object over a commit, a change by it is found, and only the one record written."""
    make, keep, change = HELD[how]
    keep = keep or kept_by_an_exception

    def part_of(db: pstore.Store) -> Any:
        return db["a"].parts[0]["part"].x if deep else db["a"].part

    with place.open(allow=["shop", "kinds"]) as db:
        if deep:
            db["a"] = shop.Plain(parts=[{"part": shop.Slotted("s", None)}])
            db["a"].parts[0]["part"] = shop.Plain(x=make())
        else:
            db["a"] = shop.Plain(part=make())
        db["b"] = shop.Plain(part=make())
    with place.open(allow=["shop", "kinds"]) as db:
        repr(vars(db["b"]))
        held = keep(part_of(db))
        for _ in range(2):
            assert db.commit().keys == ()
        before = pstore.pickle.dumps(db["a"], canonical=True)
        for _ in range(2):
            assert db.commit().keys == ()
        change(held)  # and nothing else touches the object
        assert len(db.commit().keys) == 1
        changed = pstore.pickle.dumps(db["a"], canonical=True)
        assert changed != before
        assert db.commit().keys == ()
    with place.open(allow=["shop", "kinds"]) as db:
        assert pstore.pickle.dumps(db["a"], canonical=True) == changed
