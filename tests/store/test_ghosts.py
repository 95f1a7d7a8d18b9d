"""A ghost is the object in every way but that its state isn't there yet."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

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
