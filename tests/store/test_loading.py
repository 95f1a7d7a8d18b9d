"""Code of the objects' own that runs while they are loaded: what it sees, and what it may not do."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import looking
import pytest
from looking import SEEN, WHEN_SET, Asking, AskingRecord, Borg, Hashed, Looking, LookingRecord, Made, OneState
from shop import Person, Plain

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Place

ALLOW = ["shop", "looking"]


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    SEEN.clear()
    WHEN_SET.clear()
    yield
    SEEN.clear()
    WHEN_SET.clear()
    Borg.shared.clear()


PARTS: dict[str, tuple[Callable[[], Any], Any]] = {
    "list": (lambda: [1, 2], [1, 2]),
    "dict": (lambda: {"a": [], "b": 2}, ["a", "b"]),
    "set": (lambda: {1, 2}, [1, 2]),
    "bytearray": (lambda: bytearray(b"ab"), [97, 98]),
    "constructed": (lambda: Made([3], [4]), 2),
    "own __new__": (lambda: Hashed(5, 6), (5, 6)),
    "plain": (lambda: Plain(a=1), {"a": 1}),
    "declared": (lambda: Person(a=1), {"a": 1}),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("cls", [Looking, LookingRecord, Made])
@pytest.mark.parametrize("inline", [True, False])
def test_code_sees_whole_parts(cls: type[Any], part: tuple[Callable[[], Any], Any], inline: bool, place: Place) -> None:
    """A `__setstate__` or a constructor that looks at what its object refers to finds it filled."""
    make, contents = part
    with place.open(allow=ALLOW) as db:
        shared = make()
        looking_at = cls(shared)
        db["one"] = [looking_at] if inline else looking_at
        db["other"] = [shared]
    SEEN.clear()
    with place.open(allow=ALLOW) as db:
        found = db["one"][0] if inline else db["one"]
        assert (found.parts[0] if cls is Made else found.part) is db["other"][0]
        assert ([contents] if cls is Made else contents) in SEEN


def test_parts_of_parts_are_whole(place: Place) -> None:
    """What is reached through containers which are records themselves is filled as well, in whatever order they are met."""
    with place.open(allow=ALLOW) as db:
        lists: list[list[Any]] = [[number] for number in range(6)]
        for number, one in enumerate(lists):
            one.extend(lists[number + 1 :])
        db["root"] = Looking(Made(*lists))
        db["lists"] = lists
    SEEN.clear()
    with place.open(allow=ALLOW) as db:
        whole = db["root"].part
        assert [len(one) for one in whole.parts] == [6, 5, 4, 3, 2, 1]
        assert all(one is other for one, other in zip(whole.parts, db["lists"], strict=True))


@pytest.mark.parametrize("make", [set, frozenset, dict.fromkeys])
def test_keys_are_whole(make: Callable[[Any], Any], place: Place) -> None:
    """An object whose hash depends on its state is whole when it becomes an element or a key."""
    with place.open(allow=ALLOW) as db:
        keys = [Hashed(number, [number].count(number)) for number in range(5)]
        db["held"] = {"in": make(keys)}
        db["keys"] = keys
    with place.open(allow=ALLOW) as db:
        held = db["held"]["in"]
        assert all(key in held for key in db["keys"])
        assert all(Hashed(number, 1) in held for number in range(5))


def test_objects_that_lead_back(place: Place) -> None:
    """In a circle somebody has to be first; everything is whole in the end, wherever the load begins."""
    with place.open(allow=ALLOW) as db:
        circle: list[Any] = []
        one = Looking(circle)
        circle.extend([one, Made(circle), {"circle": circle}])
        db["circle"], db["one"], db["made"], db["dict"] = circle, *circle
    for first in "circle", "one", "made", "dict":
        with place.open(allow=ALLOW) as db:
            _ = db[first]
            vars(db["one"])
            circle = db["circle"]
            assert len(circle) == 3
            assert circle[0] is db["one"]
            assert circle[0].part is circle
            assert circle[1] is db["made"]
            assert circle[1].parts[0] is circle
            assert circle[2] is db["dict"]
            assert circle[2]["circle"] is circle


def test_object_that_touches_its_owner_while_that_is_loaded(place: Place) -> None:
    """It finds the owner without its attributes, as with a plain pickle, and doesn't load it for ever."""
    with place.open(allow=ALLOW) as db:
        owner = Person(name="Ann")
        owner.inline = Asking(owner)
        db["owner"] = owner
    found: list[Any] = []
    WHEN_SET.append(lambda asking: found.append(getattr(asking.part, "name", None)))
    with place.open(allow=ALLOW) as db:
        assert db["owner"].name == "Ann"
        assert db["owner"].inline.part is db["owner"]
    assert found == [None]


def test_one_dict_for_many_instances(place: Place) -> None:
    """Instances that share their `__dict__` keep their attributes, through a rollback too."""
    with place.open(allow=ALLOW) as db:
        db["a"], db["b"] = Borg(), Borg()
        db["a"].items = [1]
        db.commit()
        assert db.commit().keys == ()
        db["a"].items = "changed"
        db.rollback()
        assert db["a"].items == [1]
        db.commit()
    with place.open(allow=ALLOW) as db:
        assert db["a"].items == db["b"].items == [1]
        assert "builtins.dict" not in db.classes()


def test_one_state_for_many_instances(place: Place) -> None:
    """Objects whose `__getstate__` gives one dict to all are whole when they are loaded."""
    with place.open(allow=ALLOW) as db:
        db["a"], db["b"] = OneState(), OneState()
    with place.open(allow=ALLOW) as db:
        assert db["a"].common == db["b"].common == [1]
        assert db["a"].common is db["b"].common


def test_code_that_fails_says_where(place: Place) -> None:
    """An error of a class's own comes through, with a note of which record it was; the next touch tries again."""

    def fail(asking: Asking) -> None:
        raise LookupError("mine")

    with place.open(allow=ALLOW) as db:
        db["a"] = AskingRecord([1])
    with place.open(allow=ALLOW) as db:
        WHEN_SET.append(fail)
        with pytest.raises(LookupError, match="mine") as caught:
            _ = db["a"].part
        if sys.version_info >= (3, 11):
            assert "AskingRecord#1" in str(caught.value.__notes__)
        WHEN_SET.clear()
        assert db["a"].part == [1]


def test_code_that_survives_a_failing_load(place: Place) -> None:
    """What a `__setstate__` couldn't load, and went on without, is no half object afterwards."""
    with place.open(allow=ALLOW) as db:
        shared = [1]
        db["shared"] = shared
        db["broken"] = AskingRecord(shared)
        db["whole"] = AskingRecord(db["broken"])

    def fail_for_broken(asking: Any) -> None:
        if type(asking.part) is list:
            raise LookupError
        try:
            _ = asking.part.part
        except LookupError:
            asking.seen = "nothing"

    with place.open(allow=ALLOW) as db:
        WHEN_SET.append(fail_for_broken)
        assert db["whole"].seen == "nothing"
        WHEN_SET.clear()
        assert db["shared"] == [1]
        assert db["broken"].part is db["shared"]
        assert db["whole"].part is db["broken"]


@pytest.mark.parametrize("what", ["commit", "rollback", "close"])
def test_no_transaction_ends_while_objects_are_loaded(what: str, place: Place) -> None:
    """A `__setstate__` can't commit, roll back or close: what is half loaded would be taken for changed."""
    with place.open(allow=ALLOW) as db:
        db["a"] = AskingRecord([1])
        db["b"] = [1]
    refused: list[str] = []
    with place.open(allow=ALLOW) as db:

        def end(asking: Asking) -> None:
            with pytest.raises(pstore.Error) as caught:
                getattr(db, what)()
            refused.append(str(caught.value))

        WHEN_SET.append(end)
        db["b"].append(2)
        assert db["a"].part == [1]
        (text,) = refused
        assert what in text
        assert "__setstate__" in text
        assert not db.closed
    with place.open(allow=ALLOW) as db:
        assert db["b"] == [1, 2]


class Meddling:
    """Does what the test wants while it is pickled."""

    do: Callable[[], Any] | None = None

    def __getstate__(self) -> dict[str, int]:
        if Meddling.do is not None:
            Meddling.do()
        return {"a": 1}


@pytest.mark.parametrize("what", ["set", "delete", "clear", "commit", "rollback", "close"])
def test_nothing_changes_under_a_commit(what: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that runs while a commit pickles can't change names nor end the transaction; the commit goes on."""
    monkeypatch.setattr(looking, "Meddling", Meddling, raising=False)
    monkeypatch.setattr(Meddling, "__module__", "looking")
    db = place.open(allow=ALLOW)
    db["old"] = 1
    db.commit()
    actions: dict[str, Callable[[], Any]] = {
        "set": lambda: db.__setitem__("new", 1),
        "delete": lambda: db.__delitem__("old"),
        "clear": db.clear,
        "commit": db.commit,
        "rollback": db.rollback,
        "close": db.close,
    }
    refused: list[str] = []

    def do() -> None:
        with pytest.raises(pstore.Error) as caught:
            actions[what]()
        refused.append(str(caught.value))

    db["meddling"] = Meddling()
    monkeypatch.setattr(Meddling, "do", do)
    db.commit()
    monkeypatch.setattr(Meddling, "do", None)
    assert refused
    assert sorted(db) == ["meddling", "old"]
    db["later"] = 1
    db.commit()
    db.close()
    with place.open(allow=ALLOW) as again:
        assert sorted(again) == ["later", "meddling", "old"]


def test_making_generated_classes_finalises_nothing(place: Place) -> None:
    """A class's `__del__` runs for its own objects only, never for one that pstore made to try something."""
    with place.open(allow=ALLOW) as db:
        db["a"] = looking.Finalised()
        db["a"].name = "Ann"
    with place.open(allow=ALLOW) as db:
        assert db["a"].name == "Ann"
    del db
    gc.collect()
    assert {} not in SEEN


def test_class_that_got_another_shape(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that its class can't take any more is an error that says so, and the record stays."""

    class Slots:
        __slots__ = ("other",)
        __module__ = "looking"
        __qualname__ = "Old"

    with place.open(allow=ALLOW) as db:
        db["a"] = looking.Old()
        db["a"].name = "Ann"
    with monkeypatch.context() as patch:
        patch.setattr(looking, "Old", Slots)
        with (
            place.open(allow=ALLOW) as db,
            pytest.raises(pstore.CorruptRecord, match=r"Old#1.* doesn't fit its class as it is now"),
        ):
            _ = db["a"].name
    with place.open(allow=ALLOW) as db:
        assert db["a"].name == "Ann"
