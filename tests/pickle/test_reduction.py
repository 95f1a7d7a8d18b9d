"""How instances are taken apart and put together: every method and registry that has a say in it."""

from __future__ import annotations

import copyreg
import io
import pickle
import pickletools
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from pstore.pickle import apply_state, reduce_value

from . import zoo
from .engines import PROTOCOLS, standard_dumps
from .zoo import (
    GLOBAL,
    ZOO,
    FalseState,
    Key,
    List,
    NewArgs,
    NewArgsEx,
    Old,
    Plain,
    Reduced,
    Registered,
    Slotted,
    SlottedWithDict,
    State,
    assert_alike,
    function,
    set_state,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .engines import Engine

NEW = range(2, 6)


def opcodes(data: bytes) -> list[str]:
    """Names of a stream's opcodes."""
    return [opcode.name for opcode, _, _ in pickletools.genops(data)]


class Reduces:
    """Reduces itself to what it is told."""

    def __init__(self, reduction: Any) -> None:
        self.reduction = reduction

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.reduction


def setter_that_is_an_instance(obj: Any, state: Any) -> None:
    """Sets the state with a mark."""
    obj.built.append(("marked", state))


class TestReduceTuples:
    """`__reduce__` and `__reduce_ex__`."""

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize(
        "make, built",
        [
            (lambda: (Reduced, ("a",)), ["init", "a"]),
            (lambda: (Reduced, (), None), ["init"]),
            (lambda: (Reduced, (), {"k": 1}), ["init", ("setstate", {"k": 1})]),
            (lambda: (Reduced, (), 0), ["init", ("setstate", 0)]),
            (lambda: (Reduced, (), (), None), ["init", ("setstate", ())]),
            (lambda: (Reduced, (), None, iter("ab")), ["init", ("append", "a"), ("append", "b")]),
            (lambda: (Reduced, (), None, None, iter([("k", 1)])), ["init", ("setitem", "k", 1)]),
            (
                lambda: (Reduced, (), "s", iter("a"), iter([("k", 1)])),
                ["init", ("append", "a"), ("setitem", "k", 1), ("setstate", "s")],
            ),
            (lambda: (Reduced, (), "s", None, None, set_state), ["init", ("set_state", "s")]),
            (
                lambda: (Reduced, (), [], iter("a"), None, setter_that_is_an_instance),
                ["init", ("append", "a"), ("marked", [])],
            ),
            (lambda: (Reduced, (), "s", None, None, None), ["init", ("setstate", "s")]),
            (lambda: (Reduced, (), None, None, None, set_state), ["init"]),
            (lambda: (Reduced, (), None, iter([]), iter([])), ["init"]),
        ],
    )
    def test_tuples_of_two_to_six(self, engine: Engine, protocol: int, make: Any, built: list[Any]) -> None:
        """Function and arguments, state, items, pairs and setter count in this order, and are written as by the standard."""
        data = engine.dumps(Reduces(make()), protocol)
        assert data == standard_dumps(Reduces(make()), protocol)
        assert engine.loads(data).built == built

    @pytest.mark.parametrize("size", [0, 1, 2, 999, 1000, 1001, 2001])
    def test_items_in_batches(self, engine: Engine, size: int) -> None:
        """Many items and pairs of a reduction are written in the standard's batches, and come back in order."""
        for protocol in PROTOCOLS:
            for make in (
                lambda: (Reduced, (), None, iter(range(size))),
                lambda: (Reduced, (), None, None, iter([(i, i) for i in range(size)])),
            ):
                data = engine.dumps(Reduces(make()), protocol)
                assert data == standard_dumps(Reduces(make()), protocol)
                assert len(engine.loads(data).built) == 1 + size

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize(
        "reduction",
        [
            None, 5, [Reduced, ()], (), (Reduced,), (Reduced, (), 1, 2, 3, 4, 5), ("not callable", ()), (Reduced, []),
            (Reduced, None), (Reduced, (), None, 5), (Reduced, (), None, None, 5), (Reduced, (), None, [1]),
            (Reduced, (), None, None, {}), (Reduced, (), "s", None, None, "not callable"), b"bytes",
        ],
        ids=repr,
    )  # fmt: skip
    def test_what_is_no_reduction(self, engine: Engine, protocol: int, reduction: Any) -> None:
        """Anything else is a PicklingError with the way to the object; what the standard takes ours takes."""
        with pytest.raises(pickle.PicklingError, match=r"^root\[1\]\['key'\]"):
            engine.dumps([0, {"key": Reduces(reduction)}], protocol)
        with pytest.raises((pickle.PicklingError, TypeError)):
            standard_dumps([0, {"key": Reduces(reduction)}], protocol)

    @pytest.mark.parametrize("pairs", [[1], [(1,)], [(1, 2, 3)], ["ab"], [None]], ids=repr)
    def test_pairs_that_are_none(self, engine: Engine, pairs: list[Any]) -> None:
        """Pairs must be pairs, and tuples, as for the standard's C pickler."""
        for protocol in PROTOCOLS:
            with pytest.raises((pickle.PicklingError, TypeError, ValueError)):
                engine.dumps(Reduces((dict, (), None, None, iter(pairs))), protocol)

    def test_string(self, engine: Engine) -> None:
        """A string names a global of the object's module."""
        for protocol in PROTOCOLS:
            data = engine.dumps([GLOBAL, GLOBAL], protocol)
            assert data == standard_dumps([GLOBAL, GLOBAL], protocol)
            assert engine.loads(data) == [GLOBAL, GLOBAL]
            assert engine.globals(data) == [("tests.pickle.zoo", "GLOBAL")]

    @pytest.mark.parametrize("name", ["no_such_name", "Plain", "Outer.no", "", "GLOBAL.x"])
    def test_string_that_names_something_else(self, engine: Engine, name: str) -> None:
        """A string that doesn't lead to the very object is a PicklingError."""
        one = Reduces(name)
        one.__module__ = zoo.__name__
        for protocol in PROTOCOLS:
            with pytest.raises(pickle.PicklingError, match=r"^root\[0\]: "):
                engine.dumps([one], protocol)

    def test_protocol_given_to_reduce_ex(self, engine: Engine) -> None:
        """`__reduce_ex__` is told the protocol; `__reduce__` is called where only it is overridden."""
        for protocol in PROTOCOLS:
            loaded = engine.loads(engine.dumps(zoo.ReduceEx(), protocol))
            assert loaded.built == ["init", protocol]
            assert engine.loads(engine.dumps(zoo.Reduce2(), protocol)).built == ["init", "two"]

    def test_reduce_on_the_instance_or_metaclass_is_ignored(self, engine: Engine) -> None:
        """Bytes are the standard's for a `__reduce_ex__` that only the instance has."""
        one = Plain()
        one.__reduce_ex__ = lambda protocol: (Reduced, ("instance",))
        try:
            expected = standard_dumps(one, 4)
        except Exception as error:  # noqa: BLE001 - whichever it is
            with pytest.raises((type(error), pickle.PicklingError)):
                engine.dumps(one, 4)
        else:
            assert engine.dumps(one, 4) == expected

    def test_object_reached_through_its_own_arguments(self, engine: Engine) -> None:
        """A reduction whose arguments lead back to the object loads once, with its items once."""
        for protocol in PROTOCOLS:
            items: list[Any] = []

            class Circular:
                def __reduce__(self, items: Any = items) -> Any:
                    return List, (items,), None, iter([1, 2])

            one = Circular()
            items.append(one)
            data = engine.dumps(one, protocol)
            assert data == standard_dumps(one, protocol)
            assert_alike(pickle.loads(data), engine.loads(data))

    def test_reduction_without_end(self, engine: Engine) -> None:
        """A reduction that leads to the same object for ever is an error and doesn't fill the memory."""
        calls = [0]

        def reduce(obj: Any) -> Any:
            calls[0] += 1
            assert calls[0] < 200_000, "asked for ever"
            return Plain, (obj,)

        for protocol in PROTOCOLS:
            calls[0] = 0
            pickler = engine.Pickler(None, protocol)
            pickler.dispatch_table = {State: reduce}
            with pytest.raises((RecursionError, pickle.PicklingError)):
                pickler.dumps(State(1))

    @pytest.mark.parametrize("maker", [lambda one: (one, 1, 2, 3), Key])
    def test_cycles_through_arguments(self, engine: Engine, maker: Any) -> None:
        """Tuples and rebuilt objects in a cycle through a mutable object are the standard's, byte for byte."""
        for protocol in PROTOCOLS:
            for inner in [], {}, Plain():
                one = maker(inner)
                if isinstance(inner, list):
                    inner.append(one)
                else:
                    (inner if isinstance(inner, dict) else vars(inner))["back"] = one
                for root in one, inner:
                    data = engine.dumps(root, protocol)
                    assert data == standard_dumps(root, protocol)
                    assert_alike(root, engine.loads(data))


class TestNewArguments:
    """`__getnewargs__` and `__getnewargs_ex__`."""

    def test_opcodes(self, engine: Engine) -> None:
        """NEWOBJ from protocol 2 on, NEWOBJ_EX from 4 on."""
        for protocol in NEW:
            assert "NEWOBJ" in opcodes(engine.dumps(NewArgs(1), protocol))
            assert ("NEWOBJ_EX" in opcodes(engine.dumps(NewArgsEx(1, keyword=2), protocol))) == (protocol >= 4)
            assert "NEWOBJ" in opcodes(engine.dumps(Plain(), protocol))

    def test_values(self, engine: Engine) -> None:
        """`__new__` gets them back, `__init__` isn't called."""
        for protocol in NEW:
            one = engine.loads(engine.dumps(NewArgs(1, [2]), protocol))
            assert one.values == (1, [2])
            two = engine.loads(engine.dumps(NewArgsEx([1], keyword=2), protocol))
            assert (two.positional, two.keyword) == ([1], 2)

    @pytest.mark.parametrize("bad", [None, [1], 5, "text"], ids=repr)
    def test_bad_newargs(self, engine: Engine, bad: Any) -> None:
        """Anything but a tuple is a TypeError that is a PicklingError too, with the way to the object."""

        class Bad(NewArgs):
            def __getnewargs__(self) -> Any:
                return bad

        for protocol in NEW:
            with pytest.raises(TypeError) as caught:
                engine.dumps([Bad()], protocol)
            assert isinstance(caught.value, pickle.PicklingError)
            assert str(caught.value).startswith("root[0]: ")

    @pytest.mark.parametrize("bad", [None, (), ((),), ([], {}), ((), []), ((), {}, 1), ((), None)], ids=repr)
    def test_bad_newargs_ex(self, engine: Engine, bad: Any) -> None:
        """Anything but a tuple and a dict is refused."""

        class Bad(NewArgsEx):
            def __getnewargs_ex__(self) -> Any:
                return bad

        for protocol in NEW:
            with pytest.raises((TypeError, ValueError)) as caught:
                engine.dumps([Bad(1, keyword=2)], protocol)
            assert isinstance(caught.value, pickle.PicklingError)

    def test_newobj_of_another_class(self, engine: Engine) -> None:
        """A reduction with `__newobj__` must name the class of the object."""
        for arguments in (str,), (Plain, 1), (), ("text",):
            for protocol in NEW:
                one = Reduces((copyreg.__newobj__, arguments))
                with pytest.raises(pickle.PicklingError, match=r"^root"):
                    engine.dumps(one, protocol)

    def test_newobj_ex_of_another_class(self, engine: Engine) -> None:
        """So must one with `__newobj_ex__`."""
        for arguments in (str, (), {}), (Reduces, [], {}), (Reduces, (), []), (Reduces, ()), (), 5:
            for protocol in NEW:
                one = Reduces((copyreg.__newobj_ex__, arguments))
                with pytest.raises(pickle.PicklingError, match=r"^root"):
                    engine.dumps(one, protocol)


class OldEmpty:
    """Its `__init__` wants no argument, and says so."""

    def __init__(self) -> None:
        self.called = True

    def __getinitargs__(self) -> tuple[()]:
        return ()

    def __getstate__(self) -> dict[str, Any]:
        return {}


class OldWithReduce(Old):
    def __reduce__(self) -> Any:
        return Old, ("reduced", 1)


class OldWithReduceEx(Old):
    def __reduce_ex__(self, protocol: Any) -> Any:
        return Old, ("reduced", 2)


class OldRegistered(Old):
    pass


class OldSet(Old):
    def __getstate__(self) -> Any:
        return ["state"]

    def __setstate__(self, state: Any) -> None:
        self.state = state


class TestInitArguments:
    """`__getinitargs__`, the way of old-style instances."""

    def test_old_protocols(self, engine: Engine) -> None:
        """Protocol 0 writes INST and protocol 1 OBJ, with arguments and state; loading calls the class."""
        for protocol, opcode in enumerate(["INST", "OBJ"]):
            data = engine.dumps([Old(1, ["two"])], protocol)
            assert opcode in opcodes(data)
            assert "BUILD" in opcodes(data)
            for loads in engine.loads, pickle.loads, pickle._loads:
                (loaded,) = loads(data)
                assert vars(loaded) == {"first": 1, "second": ["two"]}

    def test_init_is_called_with_them(self, engine: Engine) -> None:
        """The class is called on load, also where there are no arguments but the class says so."""
        for protocol in 0, 1:
            loaded = engine.loads(engine.dumps(OldEmpty(), protocol))
            assert vars(loaded) == {"called": True}

    def test_class_without_them_is_not_called(self, engine: Engine) -> None:
        """INST and OBJ without arguments make an instance of a class without `__getinitargs__`, uncalled."""
        for data in b"(itests.pickle.zoo\nOld\n.", b"(ctests.pickle.zoo\nOld\no.":
            with pytest.raises(TypeError):
                engine.loads(data)  # has __getinitargs__, so it is called, and wants arguments
        for data in b"(itests.pickle.zoo\nState\n.", b"(ctests.pickle.zoo\nState\no.":
            assert vars(engine.loads(data)) == {}
        for data in b"(I1\nitests.pickle.zoo\nState\n.", b"(ctests.pickle.zoo\nState\nI1\no.":
            assert vars(engine.loads(data)) == {"value": 1}

    def test_not_a_class(self, engine: Engine) -> None:
        """INST and OBJ call what isn't a class, as the standard does."""
        for data in b"(I1\nitests.pickle.zoo\nfunction\n.", b"(ctests.pickle.zoo\nfunction\nI1\no.":
            assert engine.loads(data) == pickle.loads(data) == 1

    def test_new_protocols(self, engine: Engine) -> None:
        """From protocol 2 on `__getinitargs__` doesn't count, as for the standard."""
        for protocol in NEW:
            assert engine.dumps(Old(1, 2), protocol) == standard_dumps(Old(1, 2), protocol)

    @pytest.mark.parametrize("kind", [OldWithReduce, OldWithReduceEx])
    def test_overridden_reduction_wins(self, engine: Engine, kind: type) -> None:
        """A class that reduces itself isn't written the old way."""
        for protocol in PROTOCOLS:
            data = engine.dumps(kind(1, 2), protocol)
            assert data == standard_dumps(kind(1, 2), protocol)
            assert engine.loads(data).first == "reduced"

    def test_registered_reduction_wins(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor one that `copyreg` or a `dispatch_table` knows, or that `reducer_override` reduces."""
        reduce = lambda obj: (Plain, ())  # noqa: E731
        for protocol in PROTOCOLS:
            pickler = engine.Pickler(None, protocol)
            pickler.dispatch_table = {OldRegistered: reduce}
            assert type(engine.loads(pickler.dumps(OldRegistered(1, 2)))) is Plain
            pickler = engine.Pickler(None, protocol)
            pickler.reducer_override = lambda obj: (Plain, ()) if type(obj) is OldRegistered else NotImplemented
            assert type(engine.loads(pickler.dumps(OldRegistered(1, 2)))) is Plain
        monkeypatch.setitem(copyreg.dispatch_table, OldRegistered, reduce)
        for protocol in PROTOCOLS:
            assert type(engine.loads(engine.dumps(OldRegistered(1, 2), protocol))) is Plain

    def test_state(self, engine: Engine) -> None:
        """`__getstate__` and `__setstate__` count beside the arguments."""
        for protocol in 0, 1:
            loaded = engine.loads(engine.dumps(OldSet(1, 2), protocol))
            assert vars(loaded) == {"first": 1, "second": 2, "state": ["state"]}

    def test_cycles_and_sharing(self, engine: Engine) -> None:
        """An instance written the old way is memoised, and may refer to itself in its state."""
        for protocol in 0, 1:
            one = Old(1, 2)
            one.me, one.items = one, [one]
            loaded = engine.loads(engine.dumps([one, one], protocol))
            assert loaded[0] is loaded[1] is loaded[0].me is loaded[0].items[0]

    def test_cycle_through_the_arguments(self, engine: Engine) -> None:
        """One that is reached through its own arguments can't be built by a call: an error, or a right result."""
        for protocol in 0, 1:
            items: list[Any] = []
            one = Old(items, 2)
            items.append(one)
            try:
                data = engine.dumps(one, protocol)
            except (pickle.PicklingError, RecursionError):
                continue
            loaded = engine.loads(data)
            assert loaded.first[0] is loaded

    @pytest.mark.parametrize("bad", [None, 5, {1: 2}], ids=repr)
    def test_bad_arguments(self, engine: Engine, bad: Any) -> None:
        """Arguments that are no sequence are a PicklingError."""

        class Bad(Old):
            def __getinitargs__(self) -> Any:
                return bad

        Bad.__qualname__ = "Bad"
        setattr(sys.modules[__name__], "Bad", Bad)  # noqa: B010
        try:
            for protocol in 0, 1:
                with pytest.raises(pickle.PicklingError, match=r"^root\[0\]: "):
                    engine.dumps([Bad(1, 2)], protocol)
        finally:
            delattr(sys.modules[__name__], "Bad")


class StateNoDict:
    __slots__ = ("a",)

    def __getstate__(self) -> Any:
        return None, {"a": 1}


class TestState:
    """`__getstate__`, `__setstate__`, `__dict__` and slots."""

    @pytest.mark.parametrize("value", [1, 0, "", [], {}, False, (), None], ids=repr)
    def test_setstate_called_for_any_state(self, engine: Engine, value: Any) -> None:
        """`__setstate__` is called with whatever `__getstate__` gave, false or not, but not for None."""
        for protocol in NEW:
            data = engine.dumps(FalseState(value), protocol)
            assert data == standard_dumps(FalseState(value), protocol)
            loaded = engine.loads(data)
            assert vars(loaded) == ({} if value is None else {"value": ("set", value)})

    def test_setstate_on_the_instance(self, engine: Engine) -> None:
        """`__setstate__` may be reached by `__getattr__` or the metaclass; the result is the standard's."""

        def states(loads: Any) -> Any:
            data = b"\x80\x02ctests.pickle.zoo\nSlottedWithDict\n)\x81N}U\x04freeK\x01s\x86b."
            return loads(data).free

        assert states(engine.loads) == states(pickle.loads) == 1

    def test_slots(self, engine: Engine) -> None:
        """Slots, private ones by their mangled name, and the `__dict__` beside them come back; unset ones stay unset."""
        for protocol in NEW:
            one = engine.loads(engine.dumps(Slotted([1]), protocol))
            assert one.left == [1]
            assert one._Slotted__private == 1
            assert not hasattr(one, "right")
            both = SlottedWithDict(1, 2)
            both.free = both
            loaded = engine.loads(engine.dumps(both, protocol))
            assert (loaded.left, loaded.right) == (1, 2)
            assert loaded.free is loaded

    def test_slots_in_old_protocols(self, engine: Engine) -> None:
        """Slots without `__getstate__` are refused in protocols 0 and 1: a TypeError that is a PicklingError."""
        for protocol in 0, 1:
            with pytest.raises(TypeError, match=r"^root\[0\]: ") as caught:
                engine.dumps([Slotted(1)], protocol)
            assert isinstance(caught.value, pickle.PicklingError)

    def test_pair_with_none(self, engine: Engine) -> None:
        """A state (None, slots) leaves `__dict__` alone."""
        for protocol in NEW:
            assert engine.loads(engine.dumps(StateNoDict(), protocol)).a == 1

    def test_attribute_names_are_interned(self, engine: Engine) -> None:
        """Names of attributes are the interpreter's own strings, whatever the protocol."""
        name = "".join(list("attribute_of_this_test"))
        one = Plain()
        one.__dict__ = {name: 1}  # not into its own, where the class's instances share the strings of names
        for protocol in PROTOCOLS:
            (loaded_name,) = vars(engine.loads(engine.dumps(one, protocol)))
            assert loaded_name is sys.intern(name)

    def test_names_that_are_no_str(self, engine: Engine) -> None:
        """Other keys in a state are taken as the standard takes them."""
        for data in (
            b"\x80\x02ctests.pickle.zoo\nPlain\n)\x81}K\x01K\x02sb.",
            b"\x80\x03ctests.pickle.zoo\nPlain\n)\x81}C\x01aK\x02sb.",
            b"\x80\x02ctests.pickle.zoo\nPlain\n)\x81}K\x01\x85K\x02sb.",
        ):
            assert vars(engine.loads(data)) == vars(pickle.loads(data))

    @pytest.mark.parametrize("state", [b"K\x01", b"]K\x01a", b"U\x01x", b"K\x01K\x02\x86", b"K\x01K\x02K\x03\x87"])
    def test_state_of_a_strange_type(self, engine: Engine, state: bytes) -> None:
        """A state that neither `__setstate__` nor `__dict__` can take is an UnpicklingError."""
        data = b"\x80\x02ctests.pickle.zoo\nPlain\n)\x81" + state + b"b."
        with pytest.raises(pickle.UnpicklingError):
            engine.loads(data)

    def test_frozen(self, engine: Engine) -> None:
        """Attributes go past a `__setattr__` that refuses; slots go through it, as in the standard."""
        one = zoo.FrozenData("n", 3)
        for protocol in PROTOCOLS:
            assert engine.loads(engine.dumps(one, protocol)) == one
        data = b"\x80\x02ctests.pickle.zoo\nFrozenData\n)\x81N}U\x04nameK\x01s\x86b."
        for loads in engine.loads, pickle.loads:
            with pytest.raises(AttributeError):
                loads(data)

    def test_classes_changed_after_use(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """A `__setstate__`, `__getstate__` or `__reduce__` that a class gets later counts from then on."""
        one = Plain(a=1)
        data = engine.dumps(one, 4)
        assert vars(engine.loads(data)) == {"a": 1}
        monkeypatch.setattr(Plain, "__setstate__", lambda self, state: setattr(self, "seen", state), raising=False)
        assert vars(engine.loads(data)) == {"seen": {"a": 1}}
        monkeypatch.setattr(Plain, "__getstate__", lambda self: {"b": 2}, raising=False)
        assert vars(engine.loads(engine.dumps(one, 4))) == {"seen": {"b": 2}}
        monkeypatch.setattr(Plain, "__reduce__", lambda self: (Reduced, ()), raising=False)
        assert type(engine.loads(engine.dumps(one, 4))) is Reduced
        monkeypatch.undo()
        assert engine.dumps(one, 4) == data
        assert vars(engine.loads(data)) == {"a": 1}


class TestCopyreg:
    def test_pickle(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """`copyreg.pickle` tells how a class is reduced; its answer counts before `__reduce_ex__`."""
        for protocol in PROTOCOLS:
            assert engine.loads(engine.dumps(Registered([1]), protocol)).value == [1]
        monkeypatch.setitem(copyreg.dispatch_table, zoo.ReduceEx, lambda obj: (Plain, ()))
        for protocol in PROTOCOLS:
            assert type(engine.loads(engine.dumps(zoo.ReduceEx(), protocol))) is Plain

    def test_exact_class(self, engine: Engine) -> None:
        """What is registered for a class isn't its subclasses'."""

        class Sub(Registered):
            pass

        Sub.__qualname__ = "Sub"
        with pytest.raises(pickle.PicklingError):
            engine.dumps(Sub(1))  # by the default way, and so by its name, under which it can't be found

    def test_constructor(self, engine: Engine) -> None:
        """`copyreg.constructor` accepts what `copyreg.pickle` is given, and what isn't callable is refused."""
        copyreg.constructor(function)
        with pytest.raises(TypeError):
            copyreg.constructor("not callable")
        copyreg.pickle(Calls, reduce_calls, make_calls)
        try:
            for protocol in PROTOCOLS:
                assert engine.loads(engine.dumps(Calls(3), protocol)).number == 4
        finally:
            del copyreg.dispatch_table[Calls]

    def test_builtin_types_are_not_asked_for(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Registering a builtin container changes nothing, as for the standard."""
        value = [[1], {"k": (2,)}, {3}, "s", b"b", function]
        expected = [standard_dumps(value, protocol) for protocol in PROTOCOLS]
        for kind in list, dict, tuple, set, str, bytes, int, types.FunctionType:
            monkeypatch.setitem(copyreg.dispatch_table, kind, lambda obj: (Plain, ()))
        assert [engine.dumps(value, protocol) for protocol in PROTOCOLS] == expected

    def test_classes_by_their_metaclass(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Classes of a registered metaclass are reduced and not named."""
        monkeypatch.setitem(copyreg.dispatch_table, zoo.Meta, lambda obj: (str, ("a class",)))
        for protocol in PROTOCOLS:
            data = engine.dumps([zoo.WithMeta, zoo.Meta], protocol)
            assert data == standard_dumps([zoo.WithMeta, zoo.Meta], protocol)
            assert engine.loads(data) == ["a class", zoo.Meta]


class Calls:
    def __init__(self, number: int) -> None:
        self.number = number


def make_calls(number: int) -> Calls:
    """Constructor of Calls, which counts."""
    return Calls(number + 1)


def reduce_calls(obj: Calls) -> Any:
    """Reduction of Calls."""
    return make_calls, (obj.number,)


@pytest.fixture
def extensions() -> Iterator[dict[int, tuple[str, str]]]:
    """Codes of each size, registered."""
    names = {1: "Plain", 0xFF: "State", 0x100: "Slotted", 0xFFFF: "List", 0x10000: "Key", 0x7FFFFFFF: "function"}
    for code, name in names.items():
        copyreg.add_extension(zoo.__name__, name, code)
    yield {code: (zoo.__name__, name) for code, name in names.items()}
    for code, name in names.items():
        copyreg.remove_extension(zoo.__name__, name, code)


class TestExtensions:
    """EXT1, EXT2, EXT4."""

    def test_written_and_loaded(self, engine: Engine, extensions: dict[int, tuple[str, str]]) -> None:
        """From protocol 2 on a registered class or function is its code, in the fewest bytes; before, its name."""
        for code, (module, name) in extensions.items():
            obj = getattr(zoo, name)
            for protocol in PROTOCOLS:
                data = engine.dumps([obj, obj], protocol)
                assert data == standard_dumps([obj, obj], protocol)
                found = set(opcodes(data)) & {"EXT1", "EXT2", "EXT4"}
                size = 1 if code < 0x100 else 2 if code < 0x10000 else 4
                assert found == (set() if protocol < 2 else {f"EXT{size}"})
                assert set(engine.globals(data)) == {(module, name)}
                for _ in range(2):  # by the registry, and then by copyreg's cache
                    assert engine.loads(data) == [obj, obj]
                copyreg.clear_extension_cache()
                assert pickle.loads(data) == [obj, obj]

    def test_instances(self, engine: Engine, extensions: Any) -> None:
        """Instances of a registered class name it by its code."""
        value = [Plain(a=1), State(2), Slotted(3), List([4]), Key(5)]
        for protocol in NEW:
            data = engine.dumps(value, protocol)
            assert data == standard_dumps(value, protocol)
            assert zoo.__name__.encode() not in data
            loaded = engine.loads(data)
            assert [type(one) for one in loaded] == [type(one) for one in value]

    def test_unregistered(self, engine: Engine) -> None:
        """A code that nobody registered is an UnpicklingError that tells it; one of 0 or less too."""
        for data in b"\x82\x05.", b"\x83\x05\x01.", b"\x84\x05\x01\x01\x01.":
            with pytest.raises(pickle.UnpicklingError, match=r"5|261|16843013"):
                engine.loads(data)
        for data in b"\x82\x00.", b"\x83\x00\x00.", b"\x84\x00\x00\x00\x00.", b"\x84\xff\xff\xff\xff.":
            with pytest.raises(pickle.UnpicklingError):
                engine.loads(data)


class TestTables:
    """`dispatch_table` and `reducer_override`."""

    def test_dispatch_table_replaces_copyreg(self, engine: Engine) -> None:
        """A pickler's own table is asked in place of copyreg's, on the class or on the instance."""
        table = {Plain: lambda obj: (str, ("by the table",))}
        for protocol in PROTOCOLS:
            pickler = engine.Pickler(None, protocol)
            pickler.dispatch_table = table
            assert engine.loads(pickler.dumps(Plain())) == "by the table"
            pickler.clear_memo()
            data = type("P", (engine.Pickler,), {"dispatch_table": table})(None, protocol).dumps(Plain())
            assert engine.loads(data) == "by the table"
            assert type(engine.loads(pickler.dumps(Key(1)))) is Key
            pickler.clear_memo()
            # Registered with copyreg, which this pickler doesn't ask.
            assert vars(engine.loads(pickler.dumps(Registered(1)))) == {"value": 1}
        assert engine.loads(engine.dumps(Plain())).__class__ is Plain

    def test_any_mapping_as_table(self, engine: Engine) -> None:
        """Anything with `get` or item access serves as the table, as for the standard."""
        table = types.MappingProxyType({Plain: lambda obj: (Reduced, ())})
        for protocol in PROTOCOLS:
            pickler = engine.Pickler(None, protocol)
            pickler.dispatch_table = table
            file = io.BytesIO()
            standard = pickle.Pickler(file, protocol)
            standard.dispatch_table = table
            standard.dump([Plain(), State(1)])
            assert pickler.dumps([Plain(), State(1)]) == file.getvalue()

    def test_reducer_override(self, engine: Engine) -> None:
        """`reducer_override` is asked for functions, classes and instances before any other way; NotImplemented declines."""
        asked: list[Any] = []

        class Pickler(engine.Pickler):
            def reducer_override(self, obj: Any) -> Any:
                asked.append(obj)
                if obj is function:
                    return str, ("a function",)
                if type(obj) is Registered:
                    return str, ("an instance",)
                return NotImplemented

        class Standard(pickle.Pickler):
            reducer_override = Pickler.reducer_override

        value = [function, Registered(1), State, Plain(), len, [1], "text"]
        for protocol in PROTOCOLS:
            data = Pickler(None, protocol).dumps(value)
            ours = asked.copy()
            asked.clear()
            file = io.BytesIO()
            Standard(file, protocol).dump(value)
            assert ours == asked
            asked.clear()
            assert data == file.getvalue()
            loaded = engine.loads(data)
            assert loaded[:3] == ["a function", "an instance", State]

    @pytest.mark.parametrize("bad", [None, 5, [], (), (str,), False], ids=repr)
    def test_bad_answers(self, engine: Engine, bad: Any) -> None:
        """What is no reduction is a PicklingError, whoever gave it."""
        for protocol in PROTOCOLS:
            pickler = engine.Pickler(None, protocol)
            pickler.reducer_override = lambda obj: bad
            with pytest.raises(pickle.PicklingError, match=r"^root"):
                pickler.dumps([Plain()])
            pickler = engine.Pickler(None, protocol)
            pickler.dispatch_table = {Plain: lambda obj: bad}
            with pytest.raises(pickle.PicklingError, match=r"^root"):
                pickler.dumps([Plain()])


class TestReduceValue:
    """`pstore.pickle.reduce_value` and `apply_state`, the two halves for those who store state themselves."""

    @pytest.mark.parametrize(
        "name", ["plain", "slotted_with_dict", "states", "new_args", "dataclasses", "named_tuples"]
    )
    @pytest.mark.parametrize("protocol", NEW)
    def test_reduction_rebuilds(self, name: str, protocol: int) -> None:
        """Calling what an object is reduced to and applying its state gives a copy."""
        made = ZOO[name]()
        for obj in made if isinstance(made, list) else [made]:
            if isinstance(obj, dict):
                continue
            reduction = reduce_value(obj, protocol)
            function, arguments, *rest = tuple(reduction)[:3]
            copy = function(*arguments)
            if rest and rest[0] is not None:
                apply_state(copy, rest[0])
            expected = pickle.loads(pickle.dumps(obj, protocol))
            assert_alike(expected, copy)


class OddPair(tuple):
    __slots__ = ()

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 2


def test_odd_pairs(engine: Engine) -> None:
    """Of a pair of a mapping what counts is what it holds, whatever a subclass of tuple says of itself."""

    class Mapping:
        def __init__(self, pair: Any) -> None:
            self.pair = pair

        def __reduce__(self) -> Any:
            return dict, (), None, None, iter([self.pair])

    for protocol in PROTOCOLS:
        assert engine.loads(engine.dumps(Mapping(OddPair((1, 2))), protocol)) == {1: 2}
        for wrong in OddPair((1,)), OddPair((1, 2, 3)):
            with pytest.raises(pickle.PicklingError, match="2-tuples"):
                engine.dumps(Mapping(wrong), protocol)


class Slots:
    __slots__ = ("one", "two")


class Shadowed(Slots):
    __slots__ = ()

    @property
    def one(self) -> int:
        type(self).__slotnames__.clear()
        return 1


def test_code_in_place_of_a_slot(engine: Engine) -> None:
    """A property that shadows a slot may change what is known of its class; the interpreter's own error comes out."""
    obj = Shadowed()
    obj.two = 2
    for _ in range(3):
        Shadowed.__slotnames__ = ["one", "two"]
        with pytest.raises(RuntimeError, match="changed size"):
            engine.dumps([obj, obj], 4)
