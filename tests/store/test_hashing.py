"""Objects that are hashed by their state, in sets and as keys: of others, of their own, and in circles."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import kinds
import pytest
from shop import Plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Place

ALLOW = ["shop", "kinds"]

#: Makes an object of this name, with a set that can be filled later and isn't part of the hash.
HASHED: dict[str, Callable[[str], Any]] = {
    "plain": lambda name: kinds.Valued(name, set()),
    "dataclass": lambda name: kinds.OrderedData(name, set()),
    "frozen dataclass": kinds.Friend,
    "frozen slotted dataclass": kinds.SlottedFriend,
    "hashed by the other's name": lambda name: kinds.Follower(name, kinds.Valued(name)),
}


def named(make: Callable[[str], Any]) -> dict[str, Any]:
    """Two objects, in sets, frozensets and as keys of others' records."""
    one, two = make("one"), make("two")
    return {
        "one": one,
        "two": two,
        "set": {one, two},
        "frozen": frozenset([one, two]),
        "keys": {one: 1, two: 2},
        "tuples": {(one, two): 1},
        "inline": Plain(x={one, make("inline")}, y=[frozenset({two})], z={two: two}),
    }


def own_set(make: Callable[[str], Any]) -> dict[str, Any]:
    """One in its own set."""
    one = make("one")
    one.tags.add(one)
    return {"one": one}


def each_others(make: Callable[[str], Any]) -> dict[str, Any]:
    """Two, each in the other's set."""
    one, two = make("one"), make("two")
    one.tags.add(two)
    two.tags.add(one)
    return {"one": one, "two": two}


def clique(make: Callable[[str], Any]) -> dict[str, Any]:
    """Many, in each other's sets."""
    everybody = {name: make(name) for name in map(str, range(12))}
    for obj in everybody.values():
        obj.tags.update(everybody.values())
    return everybody


def own_tuple(make: Callable[[str], Any]) -> dict[str, Any]:
    """One in a tuple in its own set."""
    one = make("one")
    one.tags.add((one, 1))
    return {"one": one}


def through_a_named_set(make: Callable[[str], Any]) -> dict[str, Any]:
    """One whose set is a record."""
    one = make("one")
    one.tags.add(one)
    return {"one": one, "set": one.tags}


def through_a_named_dict(make: Callable[[str], Any]) -> dict[str, Any]:
    """One that is a key of a record that it holds."""
    one = make("one")
    keys = {one: [one]}
    holder = Plain(keys=keys)
    one.tags.add(holder)
    return {"one": one, "keys": keys, "holder": holder}


def through_a_frozenset(make: Callable[[str], Any]) -> dict[str, Any]:
    """One in a frozenset of what it holds."""
    one = make("one")
    holder = Plain(part=frozenset([one, (one,)]))
    one.tags.add(holder)
    return {"one": one, "holder": holder}


GRAPHS = [
    named,
    own_set,
    each_others,
    clique,
    own_tuple,
    through_a_named_set,
    through_a_named_dict,
    through_a_frozenset,
]


def members(value: Any) -> Any:
    """What a value holds: an object by its name, a container by its members in order; and that it finds them."""
    if isinstance(value, (set, frozenset, dict)):
        assert all(member in value for member in list(value))
        found = sorted(repr(members(member)) for member in value)
        return (found, [members(part) for part in value.values()]) if isinstance(value, dict) else found
    if isinstance(value, (tuple, list)):
        return [members(part) for part in value]
    return getattr(value, "name", type(value).__name__)


def compare(found: Any, wanted: Any) -> None:
    """Compare what two objects hold, and what the parts of a list hold."""
    assert members(found) == members(wanted)
    for part in ("tags", "x", "y", "z", "keys", "part"):
        if hasattr(wanted, part) and not isinstance(wanted, dict):
            compare(getattr(found, part), getattr(wanted, part))
    if isinstance(wanted, list):
        for one, other in zip(found, wanted, strict=True):
            compare(one, other)


@pytest.mark.parametrize("declared", [False, True], ids=["undeclared", "declared"])
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kind", HASHED)
def test_found_in_sets(kind: str, graph: Callable[..., Any], declared: bool, place: Place, declaring: Any) -> None:
    """Sets and dicts that hold objects hashed by their state find them, from whichever name the loading begins."""
    make = HASHED[kind]
    if declared:
        cls = type(make(""))
        declaring(cls)
    objects = graph(make)
    with place.open(allow=ALLOW) as db:
        db.update(objects)
    for first in objects:
        db = place.open(allow=ALLOW)
        order = [first, *(name for name in objects if name != first)]
        for name in order:
            compare(db[name], objects[name])
        assert all(db[name] in db["set"] for name in ("one", "two") if name in objects and "set" in objects)
        assert db.commit().keys == ()
        db._close()


def test_hash_that_cannot_be_had(place: Place) -> None:
    """Where a hash asks for what leads back to itself, the error says what was missing, and nothing is half loaded."""
    with place.open(allow=ALLOW) as db:
        one, two = kinds.Follower("one", kinds.Valued("v")), kinds.Follower("two", kinds.Valued("v"))
        one.tags = {two}
        two.tags = {one}
        db["one"], db["two"] = one, two
        db.commit()
        one.other, two.other = two, one  # so that the hash of each asks for that of the other, without end
        db.commit()
    db = place.open(allow=ALLOW)
    one = db["one"]
    with pytest.raises(RecursionError):
        hash(one)
    with pytest.raises(RecursionError):
        hash(one)
    del one


@pytest.mark.parametrize("ring", [False, True], ids=["chain", "ring"])
def test_long_chain_of_sets(ring: bool, place: Place, declaring: Any) -> None:
    """However long a chain of sets is whose members are hashed by their state, it is loaded."""
    declaring(kinds.Friend)
    with place.open(allow=ALLOW) as db:
        chain = [kinds.Friend(str(number)) for number in range(2000)]
        for one, following in itertools.pairwise(chain):
            one.tags.add(following)
        if ring:
            chain[-1].tags.add(chain[0])
        db["first"] = chain[0]
    with place.open(allow=ALLOW) as db:
        one = db["first"]
        for number in range(2000):
            assert one.name == str(number)
            if one.tags:
                (one,) = one.tags
        assert (one is db["first"]) == ring
        assert db.commit().keys == ()
