"""A stream of a state alone: `dumps_state`, `memoized(without)` and `load_state`, where an engine may take shorter ways."""

from __future__ import annotations

import collections
import enum
import gc
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pstore.pickle import apply_state  # there is one for both engines

from .processes import run

if TYPE_CHECKING:
    from .engines import Engine


class Thing:
    """Has nothing but a `__dict__`."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Straight:
    """Its attributes are set one by one, so that it needn't have a `__dict__`."""

    def __init__(self, *values: Any) -> None:
        for name, value in zip("abcdefghij", values, strict=False):
            setattr(self, name, value)


class Slots:
    __slots__ = ("a", "b")


class SlotsAndDict(Slots):
    pass


class Derived(Straight):
    """Has a base."""


class Meta(type):
    """Changes nothing."""


class WithMeta(metaclass=Meta):
    pass


class Getstate:
    def __getstate__(self) -> Any:
        return {"a": 1}


class Reduces:
    def __reduce__(self) -> Any:
        return Reduces, ()


class ReducesEx:
    def __reduce_ex__(self, protocol: object) -> Any:
        return ReducesEx, ()


class NewArguments:
    def __getnewargs__(self) -> tuple[Any, ...]:
        return ()


class Answers:
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Intercepts:
    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name)


class OwnDict:
    __slots__ = ()

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"a": 1}


class HiddenSlot(Slots):
    a = property(lambda self: pytest.fail("it was asked"))  # type: ignore[assignment]


class ListOf(list[Any]):
    pass


class Color(enum.Enum):
    RED = 1


class MetaReduces(type):
    def __reduce__(cls) -> Any:
        raise AssertionError


class OfMetaReduces(metaclass=MetaReduces):
    pass


def set_slots(cls: type, **attributes: Any) -> Any:
    """Make an instance without its constructor's help."""
    obj = cls()
    for name, value in attributes.items():
        setattr(obj, name, value)
    return obj


shared = [1]
PLAIN: dict[str, Any] = {
    "no attributes": Straight,
    "one": lambda: Straight(1),
    "atoms": lambda: Straight(1, "text", 2.5, None, True, b"bytes", 2**40),
    "a container": lambda: Straight(1, [2], "three"),
    "a container first": lambda: Straight([1], 2),
    "a container last": lambda: Straight(1, 2, {"k": [3]}),
    "shared parts": lambda: Straight(shared, 5, shared, (shared, "t"), "t"),
    "an instance": lambda: Straight(Straight(1), Thing(a=2)),
    "a base": lambda: Derived(1, "b"),
    "a metaclass": lambda: set_slots(WithMeta, a=1, b=[]),
    "a __dict__": lambda: Thing(a=1, b=[2], c="three"),
    "an empty __dict__": Thing,
    "names that are no text": lambda: with_dict({1: 2, "a": [1], None: ()}),
    "many attributes": lambda: set_slots(Straight, **{f"name{i}": i for i in range(200)}),
    "very many attributes": lambda: with_dict({f"name{i}": i for i in range(2500)}),
    "an attribute removed": lambda: removed(Straight(1, 2, 3, [4])),
    "attributes in another order": lambda: set_slots(Straight, j=1, c=[2], a=3),
    "slots": lambda: set_slots(Slots, b=[1]),
    "no slots set": Slots,
    "slots and __dict__": lambda: set_slots(SlotsAndDict, a=1, c=[2]),
    "slots, no __dict__ yet": lambda: set_slots(SlotsAndDict, a=1),
}


def with_dict(attributes: dict[Any, Any]) -> Any:
    """Make an instance with these in its `__dict__`."""
    obj = Thing()
    vars(obj).update(attributes)
    return obj


def removed(obj: Any) -> Any:
    """Remove attributes, and set one of them again."""
    del obj.b
    obj.b = 5
    del obj.a
    return obj


def with_instance_method(name: str) -> Any:
    """Make an instance with a method of its own."""
    obj = Straight(1)
    setattr(obj, name, lambda *_: (Straight, ()))
    return obj


OTHERS: dict[str, Any] = {
    **{
        cls.__name__: cls
        for cls in (Getstate, Reduces, ReducesEx, NewArguments, Answers, Intercepts, OwnDict, OfMetaReduces, ListOf)
    },
    "HiddenSlot": HiddenSlot,
    "an instance's own __reduce_ex__": lambda: with_instance_method("__reduce_ex__"),
    "an instance's own __getstate__": lambda: with_instance_method("__getstate__"),
    **{repr(value): (lambda value=value: value) for value in (None, 5, "text", (), [], {}, len, Straight, Color.RED)},
    "a deque": collections.deque,
    "an object": object,
    "a module": lambda: pickle,
    "an iterator": lambda: iter([1]),
}


def picklers(engine: Engine, protocol: int = 5) -> list[Any]:
    """One with nothing, one as a store has it, and those with hooks that answer nothing."""
    nothing = {"inst_persistent_id": lambda obj: None, "global_persistent_id": lambda obj: None}
    return [
        engine.Pickler(None, protocol),
        engine.Pickler(None, protocol, canonical=True, persistent_ids={}, **nothing),
        engine.Pickler(None, protocol, persistent_ids=engine.module.IdentityTable(), **nothing),
        engine.Pickler(None, protocol, persistent_id=lambda obj: None),
    ]


def state_of(obj: Any) -> Any:
    """The state in an ordinary reduction; a copy, as its own can't be told from another's."""
    state = (*obj.__reduce_ex__(4), None)[2]
    if type(state) is tuple:
        return state[0] and dict(state[0]), state[1]
    return state and dict(state)


class TestDumpsState:
    @pytest.mark.parametrize("name", PLAIN)
    @pytest.mark.parametrize("protocol", range(2, 6))
    def test_as_the_state_itself(self, engine: Engine, name: str, protocol: int) -> None:
        """The stream is what `dumps` makes of the state."""
        for way, plain in zip(picklers(engine, protocol), picklers(engine, protocol), strict=True):
            obj = PLAIN[name]()
            data = way.dumps_state(obj)
            again = PLAIN[name]()
            for _ in range(2):  # with what is known of the class by then, and with its __dict__
                way.clear_memo()
                assert way.dumps_state(again) == data
                vars(again) if hasattr(again, "__dict__") else None
            assert data == plain.dumps(state_of(obj))

    @pytest.mark.parametrize("name", PLAIN)
    def test_same_bytes(self, pair: tuple[Engine, Engine], name: str) -> None:
        """The engines write the same, and have the same in their memos."""
        one, two = ([self._told(pickler, PLAIN[name]()) for pickler in picklers(engine)] for engine in pair)
        assert one == two

    @staticmethod
    def _told(pickler: Any, obj: Any) -> Any:
        data = pickler.dumps_state(obj)
        memo = sorted((index, type(held).__name__) for index, held in pickler.memo.values())
        return data, memo, [type(held).__name__ for held in pickler.memoized({str, int})]

    @pytest.mark.parametrize("name", OTHERS)
    def test_anything_else(self, engine: Engine, name: str) -> None:
        """Where somebody else has a say, or there is more than a state, there is no stream, and nothing is run."""
        for pickler in picklers(engine):
            for _ in range(2):
                assert pickler.dumps_state(OTHERS[name]()) is None
            assert pickler.memoized() == []

    @pytest.mark.parametrize("protocol", [0, 1])
    def test_old_protocols(self, engine: Engine, protocol: int) -> None:
        """They know no such reduction."""
        assert engine.Pickler(None, protocol).dumps_state(Straight(1)) is None

    def test_the_state_is_nobodys(self, engine: Engine) -> None:
        """The memo has the parts of a state, and not what the pickler made to write it."""
        for pickler in picklers(engine):
            for obj in Straight(1, shared, "t"), Thing(a=1, b=shared, c="t"), set_slots(SlotsAndDict, a=shared, c="t"):
                pickler.dumps_state(obj)
                assert pickler.memoized({str}) == [shared]
                assert {id(part) for _, part in pickler.memo.values()} == set(map(id, pickler.memoized()))
                pickler.clear_memo()

    def test_later_streams_refer_to_its_parts(self, engine: Engine) -> None:
        """As after any dump, what was written is referred to."""
        for pickler in picklers(engine):
            obj = Straight(shared, "text")
            streams = pickler.dumps_state(obj) + pickler.dumps_state(obj) + pickler.dumps([shared])
            unpickler = engine.Unpickler()
            unpickler.feed(streams)
            one, two, three = (unpickler.load() for _ in range(3))
            assert one == two == {"a": [1], "b": "text"}
            assert one is not two
            assert one["a"] is two["a"] is three[0]

    def test_an_instance_gets_no_dict(self, engine: Engine) -> None:
        """The native engine doesn't have the interpreter make one, which would stay."""
        if engine.id != "native" or sys.version_info < (3, 11):
            pytest.skip("only where attributes stand in the instance, and the engine can tell")
        for obj in Straight(1, "b", 2.5), Straight([1], Straight(1)), Derived(1), Straight():
            for pickler in picklers(engine):
                pickler.dumps_state(obj)
                pickler.memoized()
                assert dict not in map(type, gc.get_referents(obj))

    def test_registered_reductions_are_not_asked(self, engine: Engine) -> None:
        """Neither `copyreg`, nor a table, nor `reducer_override` is asked about the instance; about its parts they are."""
        asked: list[Any] = []
        pickler = engine.Pickler(None, 5)
        pickler.dispatch_table = {Straight: lambda obj: asked.append(obj) or (list, ())}
        pickler.reducer_override = lambda obj: asked.append(obj) or NotImplemented
        inner = Straight(1)
        assert pickler.dumps_state(Straight(inner, 2)) is not None
        assert [part for part in asked if part is not list] == [inner, inner]

    def test_persistent_ids(self, engine: Engine) -> None:
        """The parts of a state are asked about, atoms by `persistent_id` only; the instance itself isn't."""
        inner, other = Straight(1), Straight(2)
        asked: list[Any] = []
        for ids in {id(inner): 7}, engine.module.IdentityTable({id(inner): 7}):
            obj = Straight(5, inner, "text", other)
            ids[id(obj)] = 9
            pickler = engine.Pickler(None, 5, persistent_ids=ids, inst_persistent_id=asked.append)
            state = engine.loads(pickler.dumps_state(obj), persistent_load=lambda pid: ("id", pid))
            assert state["b"] == ("id", 7)
            assert asked.pop() is other
            assert not asked
        pickler = engine.Pickler(None, 5, persistent_id=lambda part: 3 if type(part) is int else None)
        assert engine.loads(pickler.dumps_state(Straight(1, "a")), persistent_load=str) == {"a": "3", "b": "a"}

    def test_the_instance_in_its_own_state(self, engine: Engine) -> None:
        """It is a part like any other, and written whole."""
        obj = Straight()
        obj.a = obj  # type: ignore[attr-defined]
        state = engine.loads(engine.Pickler(None, 5).dumps_state(obj))
        assert type(state["a"]) is Straight
        assert state["a"].a is state["a"]

    def test_its_own_dict_in_its_state(self, engine: Engine) -> None:
        """It is a dict like any other: the state that is written is a copy."""
        obj = Straight(1)
        obj.b = vars(obj)  # type: ignore[attr-defined]
        pickler = engine.Pickler(None, 5)
        state = engine.loads(pickler.dumps_state(obj))
        assert state["a"] == 1
        assert state["b"]["b"] is state["b"] is not state
        assert pickler.memoized({str}) == [vars(obj)]

    def test_changes_while_it_is_written(self, engine: Engine) -> None:
        """The state is that of the beginning, whatever a hook does to the instance."""
        for obj in Straight(1, Straight(), 3), with_dict({"a": 1, "b": Straight(), "c": 3}):

            def change(_: Any, obj: Any = obj) -> None:
                obj.c, obj.d = 30, 40
                del obj.a
                vars(obj).clear()

            state = engine.loads(engine.Pickler(None, 5, inst_persistent_id=change).dumps_state(obj))
            assert list(state) == ["a", "b", "c"]
            assert (state["a"], state["c"]) == (1, 3)

    def test_patches_are_seen(self, engine: Engine) -> None:
        """What a class is given later has its say from then on."""

        class Local(Straight):
            pass

        pickler = engine.Pickler(None, 5)
        for name, value in {
            "__reduce_ex__": lambda self, protocol: (list, ()),
            "__getstate__": lambda self: {},
            "__getnewargs__": lambda self: (),
            "__getattr__": lambda self, name: 1,
            "a": property(lambda self: 5),
        }.items():
            assert pickler.dumps_state(Local(*([1, 2] if name != "a" else []))) is not None
            setattr(Local, name, value)
            assert (pickler.dumps_state(Local()) is None) == (name != "a")
            delattr(Local, name)

    def test_errors_name_the_attribute(self, pair: tuple[Engine, Engine]) -> None:
        """The path begins at the state, as that of a dump of it does."""
        for make in (
            lambda: Straight(1, lambda: None),
            lambda: Straight([lambda: None], 2),
            lambda: Thing(a=1, b={"k": lambda: None}),
            lambda: set_slots(SlotsAndDict, a=[lambda: None], c=1),
            lambda: set_slots(Slots, b=lambda: None),
        ):
            told = []
            for engine in pair:
                pickler = engine.Pickler(None, 5)
                with pytest.raises(pickle.PicklingError) as caught:
                    pickler.dumps_state(make())
                assert pickler.memoized() == []
                told.append(str(caught.value).partition(" at 0x")[0])
                assert pickler.dumps_state(Straight(1)) == engine.Pickler(None, 5).dumps({"a": 1})
            assert told[0] == told[1]

    def test_while_it_is_writing(self, engine: Engine) -> None:
        """A hook can't call it."""
        pickler = engine.Pickler(None, 5, persistent_id=lambda obj: pickler.dumps_state(Straight()))
        with pytest.raises(RuntimeError):
            pickler.dumps_state(Straight(1))

    def test_large_states(self, engine: Engine) -> None:
        """What fills frames of the stream is written as by `dumps`."""
        obj = Straight("x" * 100_000, ["y" * 70_000], "z" * 20_000, *range(5))
        for way, plain in zip(picklers(engine), picklers(engine), strict=True):
            assert way.dumps_state(obj) == plain.dumps(dict(vars(obj)))

    def test_what_was_shared_by_layout(self, engine: Engine) -> None:
        """An instance whose class was exchanged has the attributes that it had."""
        other = type("Other", (Straight,), {"__slots__": (), "__module__": __name__})
        engine.module.share_layout(other, Straight)
        obj = Straight(1, "text")
        engine.module.set_class(obj, other)
        assert engine.Pickler(None, 5).dumps_state(obj) == engine.Pickler(None, 5).dumps({"a": 1, "b": "text"})


class TestMemoized:
    def test_without_types(self, engine: Engine) -> None:
        """Objects of exactly the types that are named are left out, whatever kind of collection names them."""
        value = ["text", b"bytes", (1, "t"), {2}, ListOf([3]), Straight(4)]
        pickler = engine.Pickler(None, 5)
        pickler.dumps(value)
        everything = pickler.memoized()
        for without in {str, list}, frozenset([str, list]), [str, list], iter([str, list]), ():
            wanted = {str, list} if without != () else set()
            assert list(map(id, pickler.memoized(without))) == [
                id(obj) for obj in everything if type(obj) not in wanted
            ]

    def test_no_collection(self, engine: Engine) -> None:
        """What names no types is refused."""
        with pytest.raises(TypeError):
            engine.Pickler(None, 5).memoized(5)


class Setstate:
    def __setstate__(self, state: Any) -> None:
        self.got = state


STATES: dict[str, Any] = {
    "None": None,
    "empty": {},
    "one": {"a": 1},
    "some": {"a": 1, "b": [2], "c": "three"},
    "many": {f"name{i}": i for i in range(100)},
    "batches": {f"name{i}": i for i in range(2500)},
    "no text": {1: 2, "a": 3},
    "pair": ({"a": 1, "b": 2}, None),
    "slots": (None, {"a": 1, "b": 2}),
    "both": ({"c": 1, "d": 2}, {"a": 1, "b": 2}),
    "a list": [1],
    "a number": 5,
    "a triple": (1, 2, 3),
    "a method": {"__setstate__": len, "a": 2},
}
TARGETS: dict[str, Any] = {
    **{cls.__name__: cls for cls in (Thing, Straight, Slots, SlotsAndDict, Derived, WithMeta, Setstate, ListOf)},
    **{cls.__name__: cls for cls in (Answers, Intercepts, OwnDict)},
    "with attributes": lambda: Straight(5, 6, 7, 8),
    "with a __dict__": lambda: Thing(c=5, a=6),
    "with its own __setstate__": lambda: set_slots(Straight, __setstate__=lambda state: None),
    "a number": lambda: 5,
}


class TestLoadState:
    @pytest.mark.parametrize("protocol", range(6))
    @pytest.mark.parametrize("target", TARGETS)
    def test_as_build(self, engine: Engine, target: str, protocol: int) -> None:
        """An instance has afterwards what BUILD would have given it; errors are those of `apply_state`."""
        for state in STATES.values():
            told = []
            for way in "load_state", "apply_state":
                obj = TARGETS[target]()
                unpickler = engine.Unpickler()
                unpickler.feed(engine.dumps(state, protocol))
                try:
                    if way == "load_state":
                        assert unpickler.load_state(obj) is None
                    elif (loaded := unpickler.load()) is not None:
                        apply_state(obj, loaded)
                except Exception as error:  # noqa: BLE001  # whatever it is
                    told.append((type(error), str(error)))
                else:
                    slots = {name: getattr(obj, name, None) for name in ("a", "b", "got")}
                    told.append((slots, repr(getattr(obj, "__dict__", None)).partition(" at 0x")[0]))
                told.append(dict(unpickler.memo))
            assert told[:2] == told[2:]

    def test_names_are_interned(self, engine: Engine) -> None:
        """As those of any attribute."""
        obj = Thing()
        unpickler = engine.Unpickler()
        unpickler.feed(engine.dumps({"some_name_" + str(i): i for i in range(3)}))
        unpickler.load_state(obj)
        assert all(name is sys.intern(name) for name in vars(obj))

    def test_no_dict_is_made(self, engine: Engine) -> None:
        """The native engine leaves the instance without one."""
        if engine.id != "native" or sys.version_info < (3, 11):
            pytest.skip("only where attributes stand in the instance")
        for pickler in picklers(engine):
            obj = Derived()
            unpickler = engine.Unpickler()
            unpickler.feed(pickler.dumps_state(Straight(1, [2], Straight(3))))
            unpickler.load_state(obj)
            assert (obj.a, obj.b, obj.c.a) == (1, [2], 3)  # type: ignore[attr-defined]
            assert dict not in map(type, gc.get_referents(obj))

    def test_the_state_has_a_place_in_the_memo(self, engine: Engine) -> None:
        """A later stream may refer to it, though it never was an object."""
        unpickler = engine.Unpickler()
        unpickler.feed(engine.dumps({"a": 1, "b": 2}, 4) + b"h\x00.")
        obj = Thing()
        unpickler.load_state(obj)
        state = unpickler.load()
        assert state == {"a": 1, "b": 2}
        assert state is not vars(obj)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"}",
            b"}.",
            b"}(.",
            b"(K\x01K\x02u.",
            b"}(K\x01u.",
            b"}(X\x01\x00\x00\x00aK\x01u.",
            b"}\x94(X\x01\x00\x00\x00aK\x01u.",
            b"}\x94(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00bK\x01uu.",
            b"K\x01}\x94(X\x01\x00\x00\x00aK\x01u.",
            b"(}\x94(X\x01\x00\x00\x00aK\x01u.",
            b"(}\x94(X\x01\x00\x00\x00aK\x01u1N.",
            b"}\x94h\x00(X\x01\x00\x00\x00aK\x01u.",
            b"}\x94(X\x01\x00\x00\x00aK\x01u0.",
            b"}\x94(X\x01\x00\x00\x00a]K\x01u.",
            b"}\x94(]K\x01u.",
            b"}b.",
            b"b.",
            b"0.",
            b"0N.",
        ],
    )
    def test_hostile_streams(self, pair: tuple[Engine, Engine], data: bytes) -> None:
        """The instance is no part of the stream: it can't be reached, and what goes wrong is told as by `load`."""
        told = []
        for engine in pair:
            for way in "load", "load_state":
                obj = Straight()
                unpickler = engine.Unpickler()
                unpickler.feed(data)
                try:
                    getattr(unpickler, way)(*([obj] if way == "load_state" else []))
                    told.append("loaded")
                except Exception as error:  # noqa: BLE001  # whatever it is
                    told.append(f"{type(error).__name__}: {error}")
                    assert not vars(obj)
        assert len(set(told)) == 1

    def test_nothing_is_done_where_it_fails(self, engine: Engine) -> None:
        """The stream is read to its end before the instance is touched."""
        data = engine.dumps({"a": 1, "b": 2}, 4)
        for end in range(len(data)):
            obj = Straight()
            unpickler = engine.Unpickler()
            unpickler.feed(data[:end])
            with pytest.raises((EOFError, pickle.UnpicklingError)):
                unpickler.load_state(obj)
            assert not vars(obj)

    def test_a_finalizer_may_use_the_unpickler(self, engine: Engine) -> None:
        """What an attribute is replaced by may have code run, when the load is over."""
        unpickler = engine.Unpickler()
        got: list[Any] = []

        class Finalized:
            def __del__(self) -> None:
                unpickler.feed(b"K\x07.")
                got.append(unpickler.load())

        obj = Straight(Finalized(), 2)
        unpickler.feed(engine.dumps({"a": 1, "b": 3}, 4))
        unpickler.load_state(obj)
        assert got == [7]
        assert vars(obj) == {"a": 1, "b": 3}

    def test_while_it_is_loading(self, engine: Engine) -> None:
        """A hook can't call it."""
        unpickler = engine.Unpickler(persistent_load=lambda pid: unpickler.load_state(Straight()))
        unpickler.feed(b"K\x01Q.")
        with pytest.raises(RuntimeError):
            unpickler.load_state(Straight())

    def test_several_streams(self, engine: Engine) -> None:
        """They are read one behind the other, as by `load`."""
        pickler = engine.Pickler(None, 5)
        unpickler = engine.Unpickler()
        unpickler.feed(b"".join(pickler.dumps_state(Straight(i, shared)) for i in range(5)))
        objs = [Straight() for _ in range(5)]
        for obj in objs:
            unpickler.load_state(obj)
        assert [obj.a for obj in objs] == list(range(5))  # type: ignore[attr-defined]
        assert len({id(obj.b) for obj in objs}) == 1  # type: ignore[attr-defined]
        with pytest.raises(EOFError):
            unpickler.load_state(Straight())

    def test_find_global(self, engine: Engine) -> None:
        """Hooks are asked as by `load`."""
        unpickler = engine.Unpickler(find_global=None)
        unpickler.feed(engine.dumps({"a": Straight(), "b": 1}))
        with pytest.raises(pickle.UnpicklingError):
            unpickler.load_state(Straight())

    def test_without_init(self, engine: Engine) -> None:
        """An unpickler that was never made says so."""
        with pytest.raises(pickle.UnpicklingError):
            engine.Unpickler.__new__(engine.Unpickler).load_state(Straight())


def test_in_a_new_process() -> None:
    """The first state that a process writes and reads is like any other."""
    program = (
        "import pstore.pickle as p\nclass A: pass\na = A(); a.x = 1; a.y = 'z'\n"
        "d = p.Pickler(None, 5).dumps_state(a); u = p.Unpickler(); u.feed(d); b = A(); u.load_state(b); print(vars(b))"
    )
    assert run("-c", program).stdout.strip() == "{'x': 1, 'y': 'z'}"
