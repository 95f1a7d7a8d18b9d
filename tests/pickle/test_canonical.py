"""Canonical mode: the bytes depend on the value alone."""

from __future__ import annotations

import copyreg
import pickle
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .canonical_values import VALUES, Member, Point, again, shuffled
from .engines import PROTOCOLS
from .processes import run
from .zoo import ZOO, Plain, Str, assert_alike

if TYPE_CHECKING:
    from .engines import Engine

BINARY = PROTOCOLS[1:]


def test_same_bytes_in_every_process(engine: Engine) -> None:
    """Processes with other hash seeds, other addresses and other histories of their sets write the same bytes."""
    printed = set()
    for seed in "0", "1", "2718", "random":
        printed.add(run("canonical_values.py", engine.module_name, PYTHONHASHSEED=seed).stdout)
    assert len(printed.pop().splitlines()) == len(VALUES) * 5 * 2
    assert printed == set(), "two processes differ"


@pytest.mark.parametrize("name", VALUES)
class TestEachValue:
    def test_any_history(self, engine: Engine, name: str) -> None:
        """Sets that were filled in another order are written the same."""
        for protocol in BINARY:
            streams = {engine.dumps(VALUES[name](), protocol, canonical=True) for _ in range(5)}
            assert len(streams) == 1

    def test_fixpoint(self, engine: Engine, name: str) -> None:
        """What is loaded is written as it was, again and again: an unchanged object has unchanged bytes."""
        for protocol in BINARY:
            data = engine.dumps(VALUES[name](), protocol, canonical=True)
            for _ in range(3):
                assert engine.dumps(engine.loads(data), protocol, canonical=True) == data
            assert engine.dumps(pickle.loads(data), protocol, canonical=True) == data

    def test_loads_as_the_value(self, engine: Engine, name: str) -> None:
        """The stream is an ordinary one: ours and the standard load the value from it."""
        for protocol in BINARY:
            data = engine.dumps(VALUES[name](), protocol, canonical=True)
            ordinary = engine.dumps(VALUES[name](), protocol)
            for loads in engine.loads, pickle.loads:
                if name not in ("members", "sets in instances"):
                    assert loads(data) == loads(ordinary)
                assert len(pickle.dumps(loads(data))) > 3


@pytest.mark.parametrize("name", [name for name in ZOO if not name.startswith(("atom", "int", "float"))])
def test_zoo(engine: Engine, name: str) -> None:
    """Every kind of object keeps what it is in canonical mode, and its canonical bytes are a fixpoint."""
    obj = ZOO[name]()
    for protocol in 2, 5:
        try:
            ordinary = engine.dumps(obj, protocol)
        except TypeError:
            continue
        data = engine.dumps(ZOO[name](), protocol, canonical=True)
        loaded = engine.loads(data)
        if name not in ("reductions", "iterators", "states"):  # whose loading changes them
            assert engine.dumps(loaded, protocol, canonical=True) == data
        if name not in ("same_strings", "random_state"):
            assert_alike(engine.loads(ordinary), loaded)


class TestTexts:
    def test_equal_texts_are_one(self, engine: Engine) -> None:
        """Texts that are equal are written once, and are one object when loaded."""
        for protocol in BINARY:
            value = ["some text", again("some text"), {again("some text"): (again("some text"),)}]
            data = engine.dumps(value, protocol, canonical=True)
            assert data.count(b"some text") == 1
            one = "some text"
            assert data == engine.dumps([one, one, {one: (one,)}], protocol, canonical=True)
            loaded = engine.loads(data)
            assert loaded[0] is loaded[1] is next(iter(loaded[2]))

    def test_attribute_names_and_values(self, engine: Engine) -> None:
        """Whether a text is interned or not makes no difference."""
        one, two = Plain(name="name"), Plain(name="name")
        vars(two).clear()
        vars(two)[again("name")] = again("name")
        for protocol in BINARY:
            assert engine.dumps(one, protocol, canonical=True) == engine.dumps(two, protocol, canonical=True)

    def test_different_things_stay_different(self, engine: Engine) -> None:
        """Subclasses of str, bytes, and texts that only look the same aren't merged."""
        value = ["a", Str("a"), b"a", "\u00e9", "e\u0301", "A", Str("a")]
        for protocol in BINARY:
            loaded = engine.loads(engine.dumps(value, protocol, canonical=True))
            assert_alike(value, loaded)
            assert [type(item) for item in loaded] == [type(item) for item in value]

    def test_mutable_equals_stay_apart(self, engine: Engine) -> None:
        """Only texts are merged: equal lists, dicts, instances and tuples keep their identities."""
        value: list[Any] = [[1], [1], {}, {}, Point(1), Point(1), bytearray(b"x"), bytearray(b"x"), {1}, {1}]
        loaded = engine.loads(engine.dumps(value, 4, canonical=True))
        assert len(set(map(id, loaded))) == len(value)

    def test_over_several_dumps(self, engine: Engine) -> None:
        """The memo by value is kept over dumps and emptied with the rest; it comes along with `memo`."""
        pickler = engine.Pickler(None, 4, canonical=True)
        first = pickler.dumps(["some text"])
        second = pickler.dumps([again("some text")])
        assert b"some text" not in second
        unpickler = engine.Unpickler()
        unpickler.feed(first + second)
        assert unpickler.load()[0] is unpickler.load()[0]
        pickler.clear_memo()
        assert pickler.dumps(["some text"]) == first
        other = engine.Pickler(None, 4, canonical=True)
        other.memo = pickler.memo
        assert other.dumps([again("some text")]) == second

    def test_after_a_failed_dump(self, engine: Engine) -> None:
        """Texts that a failed dump has seen aren't referred to once the memo is cleared."""
        pickler = engine.Pickler(None, 4, canonical=True)
        with pytest.raises(pickle.PicklingError):
            pickler.dumps(["some text", {"elem", 5}, lambda: 0])
        pickler.clear_memo()
        data = pickler.dumps([again("some text"), {again("elem"), 5}])
        assert engine.loads(data) == ["some text", {"elem", 5}]


class TestSets:
    def test_order_is_sorted_for_plain_types(self, engine: Engine) -> None:
        """Sets of texts, of ints and of bytes are written in their natural order."""
        for items in ["b", "a", "c", "aa"], [3, -1, 2**70, 0, 10], [b"b", b"a", b""]:
            data = engine.dumps(set(items), 4, canonical=True)
            asked: list[Any] = []
            engine.dumps(set(items), 4, canonical=True, persistent_id=asked.append)
            assert asked[1:] == sorted(items)
            assert engine.loads(data) == set(items)

    def test_members_with_ids(self, engine: Engine) -> None:
        """Members that are written as ids come in an order that depends on the ids alone."""
        for hook in "persistent_id", "inst_persistent_id", "persistent_ids":
            streams = set()
            for _ in range(5):
                members = [Member(number) for number in range(60)]
                value = shuffled(members[:])
                ids: Any = {id(member): member.name for member in members}
                keywords: dict[str, Any] = {
                    hook: ids if hook == "persistent_ids" else lambda obj, ids=ids: ids.get(id(obj))
                }
                streams.add(engine.dumps(value, 4, canonical=True, **keywords))
            assert len(streams) == 1, hook
            assert sorted(engine.references(streams.pop())) == [*range(60)]

    def test_members_in_members_with_ids(self, engine: Engine) -> None:
        """Also where what has the ids is inside of the members."""
        streams = set()
        for _ in range(5):
            members = [Member(number) for number in range(30)]
            value = shuffled([(member, "x") for member in members] + [frozenset([member]) for member in members])
            ids = {id(member): member.name for member in members}
            streams.add(engine.dumps(value, 4, canonical=True, persistent_ids=ids))
        assert len(streams) == 1

    def test_hooks_are_asked_once(self, engine: Engine) -> None:
        """Finding the order of a set doesn't tell a hook of an object that isn't about to be written: ids are stable."""
        members = [Member(number) for number in range(5)]
        data = engine.dumps({*members}, 4, canonical=True, inst_persistent_id=lambda obj: obj.name)
        assert sorted(engine.references(data)) == [0, 1, 2, 3, 4]

    def test_cycles_through_a_set(self, engine: Engine) -> None:
        """A member that leads back to its set is no endless task, and comes back right."""
        for size in 1, 2, 10:
            members = [Member(f"member {number}") for number in range(size)]
            value = set(members)
            for member in members:
                member.all = value
            for protocol in BINARY:
                loaded = engine.loads(engine.dumps(value, protocol, canonical=True))
                assert len(loaded) == size
                assert all(member.all is loaded for member in loaded)
                assert {member.name for member in loaded} == {member.name for member in members}

    def test_nesting_is_bounded(self, engine: Engine) -> None:
        """Deeply nested frozensets are no task that doubles with each level."""
        value: Any = frozenset(["core"])
        for level in range(200):
            value = frozenset([value, level])
        data = engine.dumps(value, 4, canonical=True)
        assert engine.loads(data) == value

    def test_members_that_refer_to_each_other(self, engine: Engine) -> None:
        """Members with large common parts are no task that grows with the square of the set."""
        members = [Member(number) for number in range(300)]
        common = [f"text {number}" for number in range(100)]
        for member in members:
            member.common = common
        data = engine.dumps({*members}, 4, canonical=True)
        assert len({id(member.common) for member in engine.loads(data)}) == 1

    def test_subclasses_of_set(self, engine: Engine) -> None:
        """A subclass keeps its class, and whatever its reduction says."""
        value = ZOO["subclasses"]()
        assert_alike(value, engine.loads(engine.dumps(value, 4, canonical=True)))

    def test_error_in_a_set(self, engine: Engine) -> None:
        """A member that can't be pickled is the usual error, with the way to it."""
        for members in {1, "a", (lambda: 0)}, {(1, (lambda: 0)), 5}:
            with pytest.raises(pickle.PicklingError, match=r"^root\['k'\]\{\.\.\.\}.*(lambda|function)"):
                engine.dumps({"k": members}, 4, canonical=True)

    def test_set_is_as_it_was(self, engine: Engine) -> None:
        """Dumping changes nothing in the set, and what a member's `__reduce__` does to it is seen as in a plain dump."""
        value = {1, "a", (2, 3)}
        order = list(value)
        engine.dumps(value, 4, canonical=True)
        assert list(value) == order


class TestOrderStays:
    def test_dicts_and_attributes(self, engine: Engine) -> None:
        """The order of a dict and of attributes is part of the value: it stays."""
        value = {"b": 1, "a": 2, "c": {"z": 1, "y": 2}}
        loaded = engine.loads(engine.dumps(value, 4, canonical=True))
        assert list(loaded) == ["b", "a", "c"]
        assert list(loaded["c"]) == ["z", "y"]
        assert engine.dumps({"a": 1, "b": 2}, 4, canonical=True) != engine.dumps({"b": 2, "a": 1}, 4, canonical=True)
        assert list(vars(engine.loads(engine.dumps(Plain(z=1, a=2), 4, canonical=True)))) == ["z", "a"]

    @pytest.mark.parametrize("name", ["plain", "nested", "large_between_small", "dict of 1001", "list_in_itself"])
    def test_without_sets_and_equal_texts(self, engine: Engine, name: str) -> None:
        """A value without sets, in which no text occurs twice, is written as in the ordinary mode."""
        for protocol in BINARY:
            assert engine.dumps(ZOO[name](), protocol, canonical=True) == engine.dumps(ZOO[name](), protocol)


def test_protocol_0_is_refused(engine: Engine) -> None:
    """Protocol 0 has no canonical form: a ValueError when the pickler is made."""
    with pytest.raises(ValueError, match="canonical"):
        engine.Pickler(None, 0, canonical=True)
    with pytest.raises(ValueError, match="canonical"):
        engine.dumps(1, 0, canonical=True)


ELEMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4) | st.builds(Point, inner, inner),
    max_leaves=8,
)


@given(elements=st.lists(ELEMENTS, max_size=12), seed=st.integers(0, 1000), protocol=st.sampled_from([2, 4, 5]))
def test_any_set(engine: Engine, elements: list[Any], seed: int, protocol: int) -> None:
    """Of any elements in any order a set has one canonical stream, and that loads as the set."""
    value = set(elements)
    data = engine.dumps(value, protocol, canonical=True)
    assert engine.loads(data) == value
    # From one list of representatives: of two equal elements (1, 1.0, True) a set keeps whichever came first.
    other = list(value)
    random.Random(seed).shuffle(other)
    assert engine.dumps(set(other), protocol, canonical=True) == data
    assert engine.dumps(engine.loads(data), protocol, canonical=True) == data


def test_no_extension_codes(engine: Engine) -> None:
    """A name is written as a name, whatever number this process has registered for it."""
    plain = engine.dumps(Plain, 4, canonical=True)
    copyreg.add_extension(Plain.__module__, Plain.__name__, 0x7E57)
    try:
        assert engine.dumps(Plain, 4, canonical=True) == plain
        assert engine.dumps(Plain, 4) != plain
    finally:
        copyreg.remove_extension(Plain.__module__, Plain.__name__, 0x7E57)
