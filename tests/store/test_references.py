"""References and sharing survive between records, and between processes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import shop

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Place


def test_object_shared_by_two_names_is_one_in_another_process(path: Path, elsewhere: Callable[..., str]) -> None:
    """A plain undeclared object that two records reach is the same object in both, after reopening."""
    with pstore.open(path, allow=[shop.Plain]) as db:
        bob = shop.Plain(name="Bob")
        db["a"] = {"owner": bob}
        db["b"] = {"owner": bob}
    out = elsewhere("print(db['a']['owner'] is db['b']['owner'], db['b']['owner'].name)")
    assert out == "True Bob\n"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: [1, 2], id="list"),
        pytest.param(lambda: {"k": 1}, id="dict"),
        pytest.param(lambda: {1, 2}, id="set"),
        pytest.param(lambda: bytearray(b"ab"), id="bytearray"),
        pytest.param(lambda: shop.Plain(x=1), id="instance"),
        pytest.param(lambda: shop.Slotted("s"), id="slotted"),
        pytest.param(lambda: shop.Stack([1]), id="list subclass"),
        pytest.param(lambda: shop.Reduced(1, [2]), id="reduced"),
    ],
)
def test_every_mutable_thing_is_shared(make: Callable[[], Any], place: Place) -> None:
    """Whatever can change and stands in two records gets one of its own."""
    with place.open() as db:
        thing = make()
        db["a"] = [thing]
        db["b"] = shop.Plain(deep={"x": (thing,)})
    with place.open() as db:
        assert db["a"][0] is db["b"].deep["x"][0]
        assert type(db["a"][0]) is type(make()) or isinstance(db["a"][0], type(make()))
        assert db.key_of(db["a"][0]) is not None


def test_named_lists_in_a_cycle(place: Place) -> None:
    """Two named lists that hold each other come back so."""
    with place.open() as db:
        a: list[Any] = ["a"]
        b: list[Any] = ["b", a]
        a.append(b)
        db["a"], db["b"] = a, b
    with place.open() as db:
        assert db["a"][1] is db["b"]
        assert db["b"][1] is db["a"]


def test_one_object_under_two_names(place: Place) -> None:
    """An object may have several names."""
    with place.open() as db:
        db["first"] = db["second"] = shop.Plain(n=1)
    with place.open() as db:
        assert db["first"] is db["second"]


def test_self_reference(place: Place) -> None:
    """An object may refer to itself, and a container may hold itself."""
    with place.open() as db:
        me = shop.Plain()
        me.me = me
        ring: list[Any] = []
        ring.append(ring)
        keyed = shop.Stack()
        keyed.append(keyed)
        db["me"], db["ring"], db["keyed"] = me, ring, keyed
    with place.open() as db:
        assert db["me"].me is db["me"]
        assert db["ring"][0] is db["ring"]
        assert db["keyed"][0] is db["keyed"]


def test_tuple_in_a_cycle(place: Place) -> None:
    """A tuple that reaches itself through a list comes back so."""
    with place.open() as db:
        inner: list[Any] = []
        outer = (inner,)
        inner.append(outer)
        db["t"] = outer
        db["l"] = inner
    with place.open() as db:
        assert db["t"][0] is db["l"]
        assert db["l"][0] is db["t"]


def test_only_the_outermost_of_what_is_shared_gets_a_record(place: Place) -> None:
    """What is reached through one shared object alone stays inside of it."""
    with place.open() as db:
        inner = shop.Plain(deepest=[1])
        outer = shop.Plain(inner=inner)
        db["a"], db["b"] = [outer], [outer]
        commit = db.commit()
        assert len(commit.keys) == 3
        assert db.key_of(outer) is not None
        assert db.key_of(inner) is None


def test_an_undeclared_hub_costs_no_more_the_more_lead_to_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of records that reach one knot of objects are pickled a few times each, however they come upon it."""
    encoded = []
    encode = pstore.records.Encoder.encode
    monkeypatch.setattr(pstore.records.Encoder, "encode", lambda self, obj: encoded.append(obj) or encode(self, obj))
    for hub_first in (False, True):
        with place.open() as db:
            hub = shop.Plain(items=[])
            hub.items += [shop.Plain(hub=hub) for _ in range(300)]
            if hub_first:
                db["a hub"] = hub
            db["owners"] = [shop.Person(item=item) for item in hub.items]
            encoded.clear()
            assert len(db.commit().keys) == 602
            assert len(encoded) < 6 * 602
        with place.open() as db:
            assert all(owner.item.hub.items[n] is owner.item for n, owner in enumerate(db["owners"]))
            db.clear()


def test_only_what_has_a_record_gets_a_class_code(place: Place) -> None:
    """What stays inline after all leaves nothing in the catalog."""
    with place.open() as db:
        item = shop.Plain(content=[{}])
        db["a"], db["b"] = shop.Person(item=item), shop.Person(item=item)
        db.commit()
        assert sorted(db.classes()) == ["shop.Person", "shop.Plain"]


def test_promotion_when_the_second_record_comes_later(place: Place) -> None:
    """What was inline in a record that nobody changed gets its own when a second record reaches it."""
    with place.open() as db:
        db["a"] = shop.Plain(tags=["x"])
    with place.open() as db:
        db["b"] = shop.Plain(tags=db["a"].tags)
        assert len(db.commit().keys) == 3
        db["a"].tags.append("y")
    with place.open() as db:
        assert db["a"].tags is db["b"].tags
        assert db["b"].tags == ["x", "y"]


def test_an_inline_object_gets_a_name(place: Place) -> None:
    """An object inside another's record may be named later."""
    with place.open() as db:
        db["a"] = {"inner": shop.Plain(n=1)}
    with place.open() as db:
        db["inner"] = db["a"]["inner"]
    with place.open() as db:
        assert db["inner"] is db["a"]["inner"]


def test_immutable_values_are_not_promoted(place: Place) -> None:
    """Atoms, enum members, named tuples and classes are written where they stand."""
    with place.open() as db:
        values = ("text", 10**30, shop.Colour.RED, shop.Point(1, 2), shop.Plain, (1, (2,)), frozenset({3}))
        db["a"], db["b"] = [values], [values]
        assert len(db.commit().keys) == 2
    with place.open() as db:
        assert db["a"] == db["b"] == [values]
        assert db["a"][0][2] is shop.Colour.RED
        assert db["a"][0][4] is shop.Plain


@pytest.mark.parametrize(
    "value", [None, True, 3, 2.5, 1j, "t", b"b", (1, ("x",)), frozenset({1}), shop.Colour.BLUE, int, ...]
)
def test_atoms_stand_in_the_row_of_their_name(value: object, place: Place) -> None:
    """An atom under a name needs no record."""
    with place.open() as db:
        db["atom"] = value
        assert db.commit().keys == ()
    with place.open() as db:
        assert db["atom"] == value
        assert type(db["atom"]) is type(value)


def test_declared_objects_are_records_wherever_they_are(place: Place) -> None:
    """Each instance of a declared class has a key, however deep it stands."""
    with place.open() as db:
        db["all"] = [shop.Person(name=name) for name in "abc"]
        assert len(db.commit().keys) == 4
        assert [db.label(db.key_of(person)) for person in db["all"]] == ["Person#2", "Person#3", "Person#4"]
    with place.open() as db:
        assert [person.name for person in db.instances(shop.Person)] == ["a", "b", "c"]


def test_chain_of_constructed_objects(place: Place) -> None:
    """Objects whose constructors take each other as arguments are made in the right order, whatever the depth."""
    pstore.persistent(shop.Reduced)
    try:
        with place.open() as db:
            link = shop.Reduced(0)
            for number in range(1, 3000):
                link = shop.Reduced(number, link)
            db["chain"] = link
        with place.open() as db:
            link = db["chain"]
            for number in range(2999, 0, -1):
                assert link.parts[0] == number
                link = link.parts[1]
            assert link.parts == (0,)
    finally:
        from pstore import declare

        declare.withdraw(shop.Reduced)


def test_constructor_that_takes_its_own_object_is_refused(place: Place) -> None:
    """Objects that are made from each other couldn't be made again: the commit says so and writes nothing."""
    with place.open() as db:
        one, other = shop.Reduced([]), shop.Reduced([])
        one.parts[0].append(other)
        db["one"], db["other"] = one, other
        db.commit()
        other.parts[0].append(one)
        with pytest.raises(pstore.pickle.PicklingError, match=r"Reduced#.* constructor"):
            db.commit()
        other.parts[0].clear()
        other.extra = one
        db.commit()
        one.parts[0].append(one)
        with pytest.raises(pstore.pickle.PicklingError, match="constructor"):
            db.commit()
        db.rollback()
    with place.open() as db:
        assert db["one"].parts[0] == [db["other"]]
        assert db["other"].extra is db["one"]


def test_long_chain_across_records(place: Place) -> None:
    """A chain of records is stored and walked without recursion."""
    with place.open() as db:
        node = None
        for number in range(20_000):
            node = shop.Node(number, node)
        db["chain"] = node
    with place.open() as db:
        node = db["chain"]
        for number in range(19_999, -1, -1):
            assert node.number == number
            node = node.following
        assert node is None


def test_chain_of_lists_across_records(place: Place) -> None:
    """Containers come loaded, and a long chain of them doesn't recurse."""
    with place.open() as db:
        link: list[Any] = []
        for number in range(5000):
            db[f"{number:05}"] = link
            link = [link]
    with place.open() as db:
        depth = 0
        link = db["04999"]
        while link:
            link, depth = link[0], depth + 1
        assert depth == 4999


def test_graph_isomorphism_over_all_small_sharings(place: Place) -> None:
    """Every way in which three named objects can share two inner ones comes back the same."""
    for number, choice in enumerate(itertools.product(range(4), repeat=3)):
        with place.open() as db:
            inner = [shop.Plain(n=0), [1]]
            for name, which in zip("abc", choice, strict=True):
                db[f"{number}{name}"] = [thing for bit, thing in enumerate(inner) if which >> bit & 1]
        with place.open() as db:
            found = [{type(thing): thing for thing in db[f"{number}{name}"]} for name in "abc"]
            for one, other in itertools.combinations(range(3), 2):
                common = found[one].keys() & found[other].keys()
                assert len(common) == (choice[one] & choice[other]).bit_count()
                assert all(found[one][kind] is found[other][kind] for kind in common)
