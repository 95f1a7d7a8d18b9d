"""A ghost is the object in every way but that its state isn't there yet."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import kinds
import pytest
import shop

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Place

KINDS: dict[str, Callable[[], Any]] = {
    "plain": lambda: shop.Plain(name="n"),
    "slots": lambda: shop.Slotted("n"),
    "dataclass": lambda: shop.Data("n", ["t"]),
    "frozen dataclass": lambda: shop.Frozen("n", ["t"]),
    "frozen slotted dataclass": lambda: shop.FrozenSlotted("n", ["t"]),
    "abc": lambda: shop.Square(2),
    "generic": lambda: shop.Box("n"),
    "eq and hash": lambda: shop.Valued("n"),
    "__getattr__": shop.Answering,
    "__init_subclass__": lambda: shop.Member("n"),
}


def state(obj: Any) -> dict[str, Any]:
    """All attributes of an object, those in slots too."""
    slots = {name: getattr(obj, name) for name in getattr(obj.__class__, "__slots__", ()) if hasattr(obj, name)}
    return {**getattr(obj, "__dict__", {}), **slots}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, place: Place) -> tuple[Any, Any]:
    """A ghost of each kind of class, and an object as it should be."""
    make = KINDS[request.param]
    with place.open() as db:
        db["x"] = make()
    db = place.open()
    return db["x"], make()


def test_reference_loads_nothing(kind: tuple[Any, Any], place: Place) -> None:
    """A name is followed without its record being read, and the first attribute reads it."""
    ghost, expected = kind
    db = place.opened[-1]
    assert db.stats()["loads"] == 0
    assert isinstance(ghost, type(expected))
    assert ghost.__class__ is type(expected)
    assert db.stats()["loads"] == 0
    assert state(ghost) == state(expected)
    assert db.stats()["loads"] == 1
    assert type(ghost) is type(expected)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(lambda obj: pickle.loads(pickle.dumps(obj)), id="pickle"),
        pytest.param(lambda obj: pstore.pickle.loads(pstore.pickle.dumps(obj)), id="pstore.pickle"),
    ],
)
def test_copies_of_a_ghost_are_whole(kind: tuple[Any, Any], use: Callable[[Any], Any]) -> None:
    """Copying and pickling see the object, not the ghost."""
    ghost, expected = kind
    copied = use(ghost)
    assert type(copied) is type(expected)
    assert state(copied) == state(expected)


def test_repr_eq_hash(place: Place) -> None:
    """Special methods see the state; those of `object` need none."""
    with place.open() as db:
        db["data"], db["valued"], db["plain"] = shop.Data("n", ["t"]), shop.Valued("v"), shop.Plain()
        db["set"] = {db["valued"]}
        db["keyed"] = {db["valued"]: 1}
    with place.open() as db:
        assert repr(db["data"]) == "Data(name='n', tags=['t'])"
        assert db["data"] == shop.Data("n", ["t"])
        assert db["valued"] == shop.Valued("v")
        assert hash(db["valued"]) == hash(shop.Valued("v"))
        assert repr(db["plain"]).startswith("<shop.Plain object at ")
        assert db.stats()["loads"] == 2
    with place.open() as db:
        assert shop.Valued("v") in db["set"]
        assert db["keyed"][shop.Valued("v")] == 1
        assert next(iter(db["set"])) is db["valued"]


def test_making_a_ghost_runs_no_code_of_the_class(place: Place) -> None:
    """`__init_subclass__` isn't told of the generated class."""
    with place.open() as db:
        db["m"] = shop.Member("n")
    before = list(shop.Registered.subclasses)
    with place.open() as db:
        assert db["m"].name == "n"
    assert shop.Registered.subclasses == before


def test_getattr_of_the_class_is_asked_once(place: Place) -> None:
    """A class's own `__getattr__` answers for what isn't there, once."""
    with place.open() as db:
        db["a"] = shop.Answering()
    with place.open() as db:
        assert db["a"].missing == "MISSING"
        assert db["a"].asked == ["missing"]
        with pytest.raises(AttributeError):
            db["a"]._missing  # noqa: B018
        db.rollback()
        with pytest.raises(AttributeError):
            db["a"]._missing  # noqa: B018


def test_setting_and_deleting_wake(place: Place) -> None:
    """An attribute that is set or deleted on a ghost is one of the whole object."""
    with place.open() as db:
        db["a"], db["b"] = shop.Plain(x=1, y=2), shop.Plain(x=1, y=2)
    with place.open() as db:
        db["a"].x = 5
        del db["b"].x
    with place.open() as db:
        assert vars(db["a"]) == {"x": 5, "y": 2}
        assert vars(db["b"]) == {"y": 2}


def test_setstate_and_getstate(place: Place) -> None:
    """A class's own state methods are what makes and takes the state."""
    with place.open() as db:
        db["s"] = shop.Stateful("n")
    with place.open() as db:
        assert (db["s"].name, db["s"].cache) == ("n", "anew")


def test_touching_one_of_100_000_loads_one(tmp_path: Path) -> None:
    """Opening a large store and touching one object reads one record; counted where the backend is asked."""
    asked: list[int] = []

    class Counting(pstore.backends.SqliteBackend):
        def begin(self, *, write: bool = False) -> Any:
            transaction = super().begin(write=write)
            get_many = transaction.get_many

            def counted(table: Any, keys: Any) -> Any:
                if table == "records":
                    asked.extend(key for key in keys if pstore.keys.serial_of(key))
                return get_many(table, keys)

            transaction.get_many = counted  # type: ignore[method-assign]
            return transaction

    with pstore.open(tmp_path / "db") as db:
        people = [shop.Person(number=number) for number in range(100_000)]
        for number in range(0, 100_000, 1000):
            people[number].friends = people[number : number + 1000]
        db["first"], db["last"] = people[0], people[99_000]
    backend = Counting(tmp_path / "db")
    with pstore.open(backend) as db:
        assert asked == []
        assert db["last"].friends[0] is db["last"]
        assert asked == [db.key_of(db["last"])]
        assert db["last"].friends[999].number == 99_999
        assert len(asked) == 2
    backend.close()


def test_ghost_after_close(place: Place) -> None:
    """What was loaded stays usable after closing; what wasn't says so."""
    with place.open() as db:
        db["a"], db["b"] = shop.Plain(x=1), shop.Plain(x=2)
        first, second = db["a"], db["b"]
        db.commit()
    assert (first.x, second.x) == (1, 2)
    with place.open() as db:
        first = db["a"]
    with pytest.raises(pstore.StoreClosed, match="Plain"):
        first.x  # noqa: B018


def test_getattr_that_delegates(place: Place) -> None:
    """A class that looks for everything in a part of itself isn't asked for `__setstate__` before it has the part."""
    with place.open(allow=["kinds"]) as db:
        db["d"] = kinds.Delegate([1])
    with place.open(allow=["kinds"]) as db:
        db["d"].append(2)
        assert len(db.commit().keys) == 1
    with place.open(allow=["kinds"]) as db:
        assert db["d"].part == [1, 2]


def test_class_that_gives_itself_out_for_another(place: Place) -> None:
    """An object's own `__class__` is what is answered, asleep and awake."""
    with place.open(allow=["kinds"]) as db:
        db["p"] = kinds.Pretender()
    with place.open(allow=["kinds"]) as db:
        assert isinstance(db["p"], list)
        assert db["p"].items == [1]
        assert isinstance(db["p"], list)
        assert db.commit().keys == ()


def test_special_methods_that_are_no_functions(place: Place) -> None:
    """A `partialmethod` or `singledispatchmethod` of the class sees an object that is awake."""
    with place.open(allow=["kinds"]) as db:
        db["a"], db["b"] = kinds.Partial(), kinds.Partial()
    with place.open(allow=["kinds"]) as db:
        assert db["a"] + 1 == ("Partial", True, "+", 1, "n")
        assert db["b"](2) == ("any", True, 2)


@pytest.mark.parametrize("asleep", ["one", "other", "both"])
def test_operators_of_a_subclass_go_first(asleep: str, place: Place) -> None:
    """Which operand is asked first doesn't depend on which one is asleep."""
    with place.open(allow=["kinds"]) as db:
        for number in range(3):
            db[f"base {number}"], db[f"derived {number}"] = kinds.Base(), kinds.Derived()
    with place.open(allow=["kinds"]) as db:
        for number, use in enumerate((lambda a, b: a - b, lambda a, b: a < b, lambda a, b: b - a)):
            one = kinds.Base() if asleep == "other" else db[f"base {number}"]
            other = kinds.Derived() if asleep == "one" else db[f"derived {number}"]
            assert use(one, other) == use(kinds.Base(), kinds.Derived())


def test_state_that_is_refused(place: Place) -> None:
    """An AttributeError of the class's own `__setstate__` comes through, each time, whatever the class has for attributes."""
    with place.open(allow=["kinds"]) as db:
        db["f"] = kinds.Failing()
    db = place.open(allow=["kinds"])
    for _ in range(2):
        with pytest.raises(AttributeError, match="no state is good enough"):
            db["f"].name  # noqa: B018


def test_methods_that_were_fetched_before_it_woke(place: Place) -> None:
    """A method that something has fetched from a ghost's class goes on working when the ghost has woken."""
    with place.open(allow=["kinds"]) as db:
        db["c"] = kinds.Container()
    with place.open(allow=["kinds"]) as db:
        ghost = db["c"]
        length, item = type(ghost).__len__, type(ghost).__getitem__
        get, put = type(ghost).__getattribute__, type(ghost).__setattr__
        assert length(ghost) == 1
        assert item(ghost, 0) == "t"
        put(ghost, "name", "new")
        assert get(ghost, "name") == "new"
        assert len(db.commit().keys) == 1


def test_rollback_with_a_memoryview(place: Place) -> None:
    """A bytearray that something has a memoryview of is rolled back, as long as its size stays."""
    with place.open() as db:
        db["bytes"] = bytearray(b"abc")
        db.commit()
        view = memoryview(db["bytes"])
        view[0] = 0
        db.rollback()
        assert view.tobytes() == b"abc"


def test_classes_that_say_to_be_equal(place: Place) -> None:
    """Two classes that their metaclass calls equal are two classes to a store."""
    with place.open(allow=["kinds"]) as db:
        db["one"], db["other"] = kinds.OneOfEqual(), kinds.OtherOfEqual()
        db["list"] = [kinds.OneOfEqual(), kinds.OtherOfEqual()]
    with place.open(allow=["kinds"]) as db:
        objects = [db["one"], db["other"], *db["list"]]
        assert [obj.name for obj in objects] == ["n"] * 4
        assert [type(obj).__name__ for obj in objects] == ["OneOfEqual", "OtherOfEqual"] * 2
