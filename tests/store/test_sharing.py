"""An object that two records reach is one object: it gets a record of its own, whatever was done to the two before."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import ipaddress
import pathlib
import re
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any, Optional

import kinds
import pytest
from shop import Colour, Data, Frozen, Person, Plain, Point, Reduced, Slotted, Stack

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Place

ALLOW = ["shop", "kinds"]

#: What can change, and how it is changed.
ITEMS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "list": (lambda: [1], lambda item: item.append(2)),
    "dict": (lambda: {1: 1}, lambda item: item.update({2: 2})),
    "set": (lambda: {1}, lambda item: item.add(2)),
    "bytearray": (lambda: bytearray(b"1"), lambda item: item.append(2)),
    "deque": (lambda: collections.deque([1]), lambda item: item.append(2)),
    "OrderedDict": (lambda: collections.OrderedDict({1: 1}), lambda item: item.move_to_end(item.setdefault(2, 1))),
    "defaultdict": (lambda: collections.defaultdict(int, {1: 1}), lambda item: item[2]),
    "Counter": (lambda: collections.Counter([1]), lambda item: item.update([2])),
    "array": (lambda: array.array("i", [1]), lambda item: item.append(2)),
    "instance": (lambda: Plain(x=1), lambda item: setattr(item, "x", 2)),
    "instance with slots": (lambda: Slotted("s"), lambda item: setattr(item, "name", "t")),
    "dataclass": (lambda: Data("d"), lambda item: item.tags.append("t")),
    "frozen dataclass": (lambda: Frozen("d"), lambda item: item.tags.append("t")),
    "list's subclass": (lambda: Stack([1]), lambda item: item.append(2)),
    "reduced": (lambda: Reduced(1, [2]), lambda item: item.parts[1].append(3)),
    "attrs": (lambda: kinds.AttrsDefine("n", []), lambda item: item.tags.append("t")),
    "pydantic": (lambda: kinds.Model(name="n"), lambda item: item.tags.append("t")),
}

#: How the first record has come to hold the item; `None` for a record that is made in the same commit.
FIRST: dict[str, Callable[[pstore.Store], Any]] = {
    "new": lambda db: db["one"].parts["x"],
    "untouched": lambda db: db["one"].parts["x"],
    "read": lambda db: (repr(vars(db["one"])), db.changed(), db["one"].parts["x"])[-1],
    "changed": lambda db: (setattr(db["one"], "more", 1), db["one"].parts["x"])[-1],
    "at rest": lambda db: (repr(vars(db["one"])), db.commit(), db["one"].parts["x"])[-1],
    "held over a commit": lambda db: (db["one"].parts["x"], db.commit())[0],
    "held over two commits": lambda db: (db["one"].parts["x"], db.commit(), db.commit())[0],
    "its container held over a commit": lambda db: (vars(db["one"])["parts"], db.commit())[0]["x"],
    "an iterator held over a commit": lambda db: next((iter(db["one"].parts.values()), db.commit())[0]),
    "after a rollback": lambda db: (setattr(db["one"], "more", 1), db.rollback(), db["one"].parts["x"])[-1],
    "rolled back at rest": lambda db: (db["one"].parts, db.rollback(), db["one"].parts["x"])[-1],
    "reached through another": lambda db: db["to one"].parts["one"].parts["x"],
    "found among instances": lambda db: next(db.instances(Person)).parts["x"],
}

#: How the second record takes it.
SECOND: dict[str, Callable[[pstore.Store, Any], object]] = {
    "new instance": lambda db, item: db.update(two=Plain(parts={"x": item})),
    "new list": lambda db, item: db.update(two=[item]),
    "new tuple": lambda db, item: db.update(two=((item, 1),)),
    "new, declared": lambda db, item: db.update(list=[Person(part=item)]),
    "ghost": lambda db, item: setattr(db["old"], "part", item),
    "changed": lambda db, item: (setattr(db["old"], "more", 1), setattr(db["old"], "part", item)),
    "at rest": lambda db, item: (repr(vars(db["old"])), db.commit(), setattr(db["old"], "part", item)),
    "its container": lambda db, item: db["old"].parts.append(item),
    "its container, held over a commit": lambda db, item: (db["old"].parts, db.commit())[0].append(item),
    "old list": lambda db, item: db["old list"].append(item),
    "old dict": lambda db, item: db["old dict"].update(x=item),
    "the name": lambda db, item: db.update(two=item),
}


@pytest.fixture
def place(memory: Place) -> Place:
    """One backend: it has the same bytes to keep, whatever they are of."""
    return memory


def item_of(db: pstore.Store) -> Any:
    """The item, where a second record holds it."""
    for name in ("two", "list", "old", "old list", "old dict"):
        waiting = [db[name]] if name in db else []
        for obj in waiting:
            if isinstance(obj, (Plain, Person)):
                waiting += [value for key, value in vars(obj).items() if key in ("part", "parts")]
            elif type(obj) is dict:
                waiting += obj.values()
            elif type(obj) in (list, tuple):
                waiting += obj
            if obj is db["one"].parts["x"]:
                return obj
    return None


def prepare(place: Place, item: Any, *, new: bool) -> pstore.Store:
    """A store with records that could hold an item, and one that does; not committed if it is to be new."""
    db = place.open(allow=ALLOW)
    db["old"], db["old list"], db["old dict"] = Plain(parts=[], part=None), [], {}
    if new:
        db.commit()
    db["one"] = Person(parts={"x": item, "y": [item]})
    db["to one"] = Plain(parts={"one": db["one"]})
    if not new:
        db.close()
        db = place.open(allow=ALLOW)
    return db


def check(db: pstore.Store, place: Place, change: Callable[[Any], object], item: Any) -> None:
    """Commit, and see that the item is one object with a record, here and after reopening, and changes as one."""
    db.commit()
    assert db.commit().keys == ()
    assert item_of(db) is db["one"].parts["x"] is db["one"].parts["y"][0] is item
    assert db.key_of(item) is not None
    before = pstore.pickle.dumps(item, canonical=True)
    change(item)
    changed = pstore.pickle.dumps(item, canonical=True)
    assert changed != before
    written = db.commit().keys
    assert len(written) == 1
    assert db.commit().keys == ()
    db.close()
    db = place.open(allow=ALLOW)
    item = item_of(db)
    assert item is db["one"].parts["y"][0]
    assert pstore.pickle.dumps(item, canonical=True) == changed
    assert db.commit().keys == ()


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("first", FIRST)
def test_shared_whatever_was_done_before(first: str, second: str, place: Place) -> None:
    """A list that one record holds, and another takes, is one list: whichever of them is new, old, read or changed."""
    db = prepare(place, [1], new=first == "new")
    item = FIRST[first](db)
    SECOND[second](db, item)
    check(db, place, lambda item: item.append(2), item)


@pytest.mark.parametrize("second", ["new instance", "ghost", "the name"])
@pytest.mark.parametrize("first", ["new", "untouched", "at rest", "held over a commit"])
@pytest.mark.parametrize("kind", ITEMS)
def test_everything_that_changes_is_shared(kind: str, first: str, second: str, place: Place) -> None:
    """Whatever can change is shared, whichever kind it is of."""
    make, change = ITEMS[kind]
    db = prepare(place, make(), new=first == "new")
    item = FIRST[first](db)
    SECOND[second](db, item)
    check(db, place, change, item)


@pytest.mark.parametrize("kind", ITEMS)
def test_moved_is_not_shared(kind: str, place: Place) -> None:
    """What moves from one record to another stays inline: only one record reaches it."""
    with place.open(allow=ALLOW) as db:
        db["one"], db["two"] = Plain(part=ITEMS[kind][0]()), Plain()
    with place.open(allow=ALLOW) as db:
        db["two"].part = db["one"].part
        del db["one"].part
        assert len(db.commit().keys) == 2
        assert db.key_of(db["two"].part) is None
        ITEMS[kind][1](db["two"].part)
        assert db.commit().keys == (db.key_of(db["two"]),)


def test_three_records_in_one_commit(place: Place) -> None:
    """However many records reach an object, it gets one record, and each of them is written once."""
    with place.open(allow=ALLOW) as db:
        item = {"deep": [1]}
        for name in "abcde":
            db[name] = Plain(item=item, own=[name], same=(item, item["deep"]))
        assert len(db.commit().keys) == 7
    with place.open(allow=ALLOW) as db:
        assert len({id(db[name].item) for name in "abcde"}) == 1
        assert len({id(db[name].same[1]) for name in "abcde"}) == 1
        assert db["a"].item["deep"] is db["b"].same[1]
        assert db.commit().keys == ()


def test_what_stops_being_shared_keeps_its_record(place: Place) -> None:
    """An object that has a record keeps it, and its key, when only one other record is left that reaches it."""
    with place.open(allow=ALLOW) as db:
        item = [1]
        db["one"], db["two"] = Plain(item=item), Plain(item=item)
        db.commit()
        key = db.key_of(item)
        del db["two"].item
        assert len(db.commit().keys) == 1
    with place.open(allow=ALLOW) as db:
        assert db.key_of(db["one"].item) == key


def test_shared_in_a_commit_that_fails(place: Place) -> None:
    """After a commit that fails what it would have shared is shared by the next one."""
    with place.open(allow=ALLOW) as db:
        db["one"] = Plain(item=[1])
    with place.open(allow=ALLOW) as db:
        db["two"] = Plain(item=db["one"].item, bad=lambda: None)
        with pytest.raises(pstore.pickle.PicklingError):
            db.commit()
        assert db.key_of(db["one"].item) is None
        del db["two"].bad
        assert len(db.commit().keys) == 3
    with place.open(allow=ALLOW) as db:
        assert db["one"].item is db["two"].item


def test_shared_and_rolled_back(place: Place) -> None:
    """A rollback takes the sharing back; what was never committed isn't shared with what is."""
    with place.open(allow=ALLOW) as db:
        db["one"], db["two"] = Plain(item=[1]), Plain()
        db.commit()
        item = db["two"].item = db["one"].item
        db.rollback()
        assert not hasattr(db["two"], "item")
        assert db["one"].item == [1]
        assert db.commit().keys == ()
        db["two"].item = db["one"].item
        assert len(db.commit().keys) == 3
        assert db["one"].item is db["two"].item
        item.append("no more of the store")
        assert db["one"].item == [1] or db["one"].item is item
    with place.open(allow=ALLOW) as db:
        assert db["one"].item is db["two"].item


def function() -> None:
    """Can be named."""


IMMUTABLE: dict[str, Any] = {
    "int": 10**40,
    "text": "text" * 100,
    "bytes": b"bytes" * 100,
    "float": 2.5,
    "complex": 1j,
    "None": None,
    "tuple": (1, ("a", b"b")),
    "frozenset": frozenset({1, "a"}),
    "range": range(5),
    "named tuple": Point(1, 2),
    "enum": Colour.RED,
    "flag": kinds.Permission.READ | kinds.Permission.WRITE,
    "enum with state": kinds.Planet.EARTH,
    "date": datetime.date(2020, 1, 1),
    "datetime": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
    "timedelta": datetime.timedelta(5),
    "zone": zoneinfo.ZoneInfo("UTC"),
    "Decimal": decimal.Decimal("1.5"),
    "Fraction": fractions.Fraction(1, 3),
    "UUID": uuid.UUID(int=5),
    "path": pathlib.Path("/a/b"),
    "pure path": pathlib.PureWindowsPath("c:/a"),
    "address": ipaddress.ip_address("::1"),
    "network": ipaddress.ip_network("10.0.0.0/8"),
    "interface": ipaddress.ip_interface("10.0.0.1/8"),
    "pattern": re.compile("a+"),
    "class": Plain,
    "builtin class": dict,
    "exception class": KeyError,
    "generic alias": list[int],
    "alias of typing": kinds.Box[int],
    "optional": Optional[kinds.Box[str]],  # noqa: UP045  # in Python 3.10 another type than what follows
    "union": int | None,
    "function": function,
    "builtin function": len,
    "Ellipsis": ...,
}


@pytest.mark.parametrize("value", IMMUTABLE.values(), ids=IMMUTABLE)
def test_what_cannot_change_is_not_promoted(value: Any, place: Place) -> None:
    """Values, enum members, classes and functions are written where they stand, and come back equal; a copy is as good."""
    allow = ["shop", "kinds", function, len]
    with place.open(allow=allow) as db:
        db["one"], db["two"] = Plain(part=value), [value]
        assert len(db.commit().keys) == 2
        db["three"] = value
        assert db.commit().keys == ()
    with place.open(allow=allow) as db:
        found = db["one"].part, db["two"][0], db["three"]
        assert found == (value, value, value)
        assert {type(one) for one in found} == {type(value)}
        db["two"].append(db["one"].part)
        assert len(db.commit().keys) == 1


def test_content_of_what_cannot_change(place: Place) -> None:
    """A tuple or frozenset in two records is written twice, and what can change in it is one object in both."""
    with place.open(allow=ALLOW) as db:
        inner = [1]
        db["one"], db["two"] = Plain(part=(inner, 1)), [kinds.Pair("n", inner)]
        db["three"], db["four"] = [frozenset({kinds.Valued("v")})], None
        db["five"] = [*db["three"][0]]
        db.commit()
    with place.open(allow=ALLOW) as db:
        assert db["one"].part[0] is db["two"][0].tags
        assert next(iter(db["three"][0])) is db["five"][0]


def test_modules_are_refused(place: Place) -> None:
    """A module is no data."""
    with place.open(allow=ALLOW) as db:
        db["one"] = [re]
        with pytest.raises(TypeError, match="module"):
            db.commit()
        db.rollback()
