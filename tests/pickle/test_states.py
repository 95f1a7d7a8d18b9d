"""How the opcode BUILD puts a state into an instance, where an engine may take a shorter way than by `apply_state`."""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .engines import PROTOCOLS

if TYPE_CHECKING:
    from .engines import Engine

BINARY = PROTOCOLS[2:]


class Thing:
    """Has nothing but a `__dict__`."""


class Slots:
    __slots__ = ("a", "b")


class SlotsAndDict(Slots):
    pass


class Final:
    """Refuses attributes, which its state doesn't care about."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(name)


class Recording:
    """A data descriptor."""

    seen: list[Any] = []

    def __get__(self, obj: Any, cls: type) -> Any:
        return "of the descriptor"

    def __set__(self, obj: Any, value: Any) -> None:
        self.seen.append(value)


class Described:
    a = Recording()
    b = 1


CLASSES = {cls.__name__: cls for cls in (Thing, Slots, SlotsAndDict, Final, Described)}


def load(engine: Engine, data: bytes, **keywords: Any) -> Any:
    """Load a stream that names the classes above."""
    return engine.loads(b"\x80\x04" + data, find_global=lambda module, name: CLASSES[name], **keywords)


def new(name: str) -> bytes:
    """The opcodes for a new instance."""
    return b"cm\n%s\n)\x81" % name.encode()


A1 = b"\x8c\x01aK\x01"
B2 = b"\x8c\x01bK\x02"


class TestStateSeenElsewhere:
    """A state is an object like any other: whoever else refers to it gets it whole, whenever it asks."""

    @pytest.mark.parametrize("put", [b"\x94", b"q\x00", b"r\x00\x00\x00\x00", b"p0\n"], ids=repr)
    @pytest.mark.parametrize("fill", [b"(" + A1 + B2 + b"u", A1 + b"s" + B2 + b"s"], ids=["at once", "one by one"])
    def test_by_the_memo(self, engine: Engine, put: bytes, fill: bytes) -> None:
        """A state that is referred to again, in this stream or a later one, is the dict that it was, once."""
        data = b"(" + new("Thing") + b"}" + put + fill + b"b" + b"h\x00h\x00t."
        thing, state, same = load(engine, data)
        assert state is same
        assert state == vars(thing) == {"a": 1, "b": 2}
        assert state is not vars(thing)
        unpickler = engine.Unpickler(find_global=lambda module, name: Thing)
        unpickler.feed(b"\x80\x04" + new("Thing") + b"}" + put + fill + b"b.h\x00.")
        thing = unpickler.load()
        assert unpickler.memo == {0: {"a": 1, "b": 2}}
        vars(thing)["a"] = "changed"
        state = unpickler.load()
        assert state == {"a": 1, "b": 2}
        assert unpickler.memo[0] is state

    def test_below_on_the_stack(self, engine: Engine) -> None:
        """A state that lies on the stack twice is filled in both places."""
        data = b"}q\x00" + new("Thing") + b"h\x00(" + A1 + b"ub\x86."
        state, thing = load(engine, data)
        assert state == vars(thing) == {"a": 1}

    def test_within_itself(self, engine: Engine) -> None:
        """A state may hold itself, and the instance whose state it is."""
        data = b"(" + new("Thing") + b"q\x01}q\x00(\x8c\x01ah\x00\x8c\x01bh\x01ub" + b"h\x00t."
        thing, state = load(engine, data)
        assert thing.a is state is state["a"]
        assert thing.b is thing

    def test_filled_after_it_was_put(self, engine: Engine) -> None:
        """What comes into a state after BUILD doesn't come into the instance."""
        data = b"(" + new("Thing") + b"}q\x00(" + A1 + b"ub" + b"h\x00(" + B2 + b"ut."
        thing, state = load(engine, data)
        assert vars(thing) == {"a": 1}
        assert state == {"a": 1, "b": 2}

    def test_index_used_again(self, engine: Engine) -> None:
        """An index of the memo that was a state's may become something else's."""
        data = b"(" + new("Thing") + b"}q\x00(" + A1 + B2 + b"ub" + b"K\x07K\x08\x86q\x00" + b"h\x00t."
        assert load(engine, data)[1:] == ((7, 8), (7, 8))

    def test_seen_by_a_hook(self, engine: Engine) -> None:
        """A hook sees the states in the memo, as dicts."""
        seen: list[Any] = []
        unpickler = engine.Unpickler(find_global=lambda module, name: Thing)
        unpickler.persistent_load = lambda pid: seen.append(dict(unpickler.memo))
        unpickler.feed(b"\x80\x04" + new("Thing") + b"}\x94(" + A1 + B2 + b"ubK\x01Q.")
        unpickler.load()
        assert seen == [{0: {"a": 1, "b": 2}}]

    def test_as_an_id(self, engine: Engine) -> None:
        """A reader of ids finds a state that is an id as well."""
        data = b"\x80\x04(" + new("Thing") + b"}\x94(" + A1 + B2 + b"ub" + b"h\x00Qh\x00\x85Qt."
        assert engine.references(data) == [{"a": 1, "b": 2}, ({"a": 1, "b": 2},)]
        assert engine.noload(data) == engine.references(data)

    def test_many(self, engine: Engine) -> None:
        """All of many states can be had."""
        one = new("Thing") + b"}\x94(" + A1 + B2 + b"ub"
        data = b"(" + one * 300 + b"".join(b"j" + index.to_bytes(4, "little") for index in range(300)) + b"t."
        loaded = load(engine, data)
        assert [vars(thing) for thing in loaded[:300]] == list(loaded[300:]) == [{"a": 1, "b": 2}] * 300


class TestWhereItGoes:
    def test_twice_the_same_key(self, engine: Engine) -> None:
        """The last value of a key counts."""
        for memo in b"\x94", b"":
            thing = load(engine, new("Thing") + b"}" + memo + b"(" + A1 + B2 + b"\x8c\x01aK\x03ub.")
            assert vars(thing) == {"a": 3, "b": 2}
            assert list(vars(thing)) == ["a", "b"]

    def test_keys_of_other_types(self, engine: Engine) -> None:
        """A key that is no str comes into the `__dict__` as it is."""
        thing = load(engine, new("Thing") + b"}\x94(" + A1 + b"K\x05K\x06ub.")
        assert vars(thing) == {"a": 1, 5: 6}

    def test_past_descriptors(self, engine: Engine) -> None:
        """Neither a data descriptor nor `__setattr__` is asked: a state goes into the `__dict__`."""
        for state in b"}\x94(" + A1 + B2 + b"u", b"}" + A1 + b"s" + B2 + b"s", b"}(" + A1 + B2 + b"uN\x86":
            for name in "Described", "Final":
                for _ in range(2):
                    assert vars(load(engine, new(name) + state + b"b.")) == {"a": 1, "b": 2}
        assert Recording.seen == []

    def test_slots(self, engine: Engine) -> None:
        """Slots are set, beside attributes or without; what is no slot is refused where there is no `__dict__`."""
        for _ in range(2):
            slotted = load(engine, new("Slots") + b"N}\x94(" + A1 + B2 + b"u\x86b.")
            assert (slotted.a, slotted.b) == (1, 2)
            both = load(engine, new("SlotsAndDict") + b"}(\x8c\x01cK\x03u}(" + A1 + b"\x8c\x01dK\x04" + B2 + b"u\x86b.")
            assert (both.a, both.b, vars(both)) == (1, 2, {"c": 3, "d": 4})
            both = load(engine, new("SlotsAndDict") + b"}(" + A1 + b"uN\x86b.")
            assert not hasattr(both, "a")  # it is a slot, which isn't set
            assert vars(both) == {"a": 1}
        with pytest.raises(pickle.UnpicklingError, match="'Slots' object has no attribute 'c'"):
            load(engine, new("Slots") + b"N}(" + A1 + b"\x8c\x01cK\x03u\x86b.")
        with pytest.raises(pickle.UnpicklingError, match="no __dict__"):
            load(engine, new("Slots") + b"}(" + A1 + b"ub.")

    def test_names_are_interned(self, engine: Engine) -> None:
        """Attributes' names are interned, whichever way they come."""
        name = b"a_name_that_nothing_else_has"
        for state in b"}\x94(\x8c%c%bK\x01u", b"}\x8c%c%bK\x01s", b"}\x8c%c%bK\x01sN\x86":
            thing = load(engine, new("Thing") + state % (len(name), name) + b"b.")
            assert next(iter(vars(thing))) is sys.intern(name.decode())

    def test_order_and_number(self, engine: Engine) -> None:
        """Instances of one class may have other attributes, in another order, more than fit anywhere."""
        for names in ["ab", "ba", "a", "", "cab", "abc", [f"n{i}" for i in range(50)], "ab"]:
            thing = Thing()
            vars(thing).update((name, index) for index, name in enumerate(names))
            for protocol in BINARY:
                loaded = engine.loads(engine.dumps([thing, thing, Thing()], protocol))[0]
                assert list(vars(loaded).items()) == list(vars(thing).items())


class TestChanges:
    """What is known of a class is forgotten when the class changes."""

    def test_setstate(self, engine: Engine) -> None:
        """A `__setstate__` is called from the moment on that the class, a base class or the instance has one."""

        class Base:
            pass

        class Derived(Base):
            pass

        def loaded() -> Any:
            data = b"\x80\x04" + new("x") + b"}\x94(" + A1 + b"ub."
            return vars(engine.loads(data, find_global=lambda module, name: Derived))

        def setstate(self: Any, state: Any) -> None:
            self.by_setstate = state

        for cls in Base, Derived:
            assert loaded() == {"a": 1}
            cls.__setstate__ = setstate
            assert loaded() == {"by_setstate": {"a": 1}}
            del cls.__setstate__
        assert loaded() == {"a": 1}

    def test_setstate_of_the_instance(self, engine: Engine) -> None:
        """An attribute `__setstate__` of the instance itself counts too."""
        called: list[Any] = []
        data = new("Thing") + b"}\x8c\x0c__setstate__K\x01Qsb" + b"}\x94(" + A1 + b"ub."
        load(engine, data, persistent_load=lambda pid: called.append)
        assert called == [{"a": 1}]

    def test_descriptor(self, engine: Engine) -> None:
        """A name that becomes a descriptor's or a slot's still goes into the `__dict__`."""

        class Changing:
            pass

        def loaded() -> Any:
            data = b"\x80\x04" + new("x") + b"}\x94(" + A1 + B2 + b"ub."
            return vars(engine.loads(data, find_global=lambda module, name: Changing))

        for value in 1, Recording(), property(), Slots.a:
            assert loaded() == {"a": 1, "b": 2}
            Changing.a = value
        assert loaded() == {"a": 1, "b": 2}

    def test_class_that_changes_its_new(self, engine: Engine) -> None:
        """A `__new__` is called from the moment on that there is one."""

        class Changing:
            pass

        def loaded() -> Any:
            return engine.loads(b"\x80\x04" + new("x") + b".", find_global=lambda module, name: Changing)

        assert type(loaded()) is Changing
        Changing.__new__ = lambda cls: "by __new__"
        assert loaded() == "by __new__"
        del Changing.__new__
        Changing.__new__ = object.__new__
        assert type(loaded()) is Changing

    def test_in_the_middle(self, engine: Engine) -> None:
        """What replaces an attribute may run code, which changes the class: the rest of the state arrives all the same."""

        class Changing:
            pass

        class Dying:
            def __del__(self) -> None:
                Changing.b = property(lambda self: "of the property")
                Changing.other = 1
                gc.collect()

        unpickler = engine.Unpickler(find_global=lambda module, name: {"x": Changing, "dying": Dying}[name])
        state = b"}\x94(" + A1 + B2 + b"\x8c\x01cK\x03ub"
        unpickler.feed(b"\x80\x04" + new("x") + b"}\x8c\x01a" + new("dying") + b"sb" + state + b".")
        assert vars(unpickler.load()) == {"a": 1, "b": 2, "c": 3}


def test_weak_memory(engine: Engine) -> None:
    """What a stream made is freed with the memo, though it was never asked for."""
    unpickler = engine.Unpickler(find_global=lambda module, name: Thing)
    value = object()
    unpickler.persistent_load = lambda pid: value
    before = sys.getrefcount(value)
    for _ in range(50):
        unpickler.feed(b"\x80\x04(" + (new("Thing") + b"}\x94(" + A1 + b"\x8c\x01bK\x01Qub") * 20 + b"t.")
        unpickler.load()
        unpickler.feed(b"\x80\x04" + new("Thing") + b"}\x94(" + A1 + b"\x8c\x01bK\x01Qub\x93.")
        with pytest.raises(pickle.UnpicklingError):
            unpickler.load()
    unpickler.clear_memo()
    assert sys.getrefcount(value) == before


class TestLargeFromFiles:
    """A large bytes object is read from a file without more memory than it takes, whatever the file does."""

    SIZE = 5_000_000

    class File:
        def __init__(self, data: bytes, most: int, kept: list[Any]) -> None:
            self.file = io.BytesIO(data)
            self.most = most
            self.kept = kept

        def read(self, size: int) -> bytes:
            return self.file.read(size)

        def readline(self) -> bytes:
            return self.file.readline()

        def readinto(self, buffer: memoryview) -> int:
            self.kept.append(buffer[:10])
            return self.file.readinto(buffer[: self.most])

    @pytest.mark.parametrize("most", [70_000, 3_000_000, 2**40])
    def test_that_keeps_what_it_fills(self, engine: Engine, most: int) -> None:
        """A file that keeps a view of what it filled can't change what was loaded by it, nor can it crash anything."""
        value = [b"x" * self.SIZE, bytearray(b"y" * self.SIZE)]
        for protocol in BINARY:
            kept: list[Any] = []
            data = engine.dumps(value, protocol)
            try:
                loaded = engine.load(self.File(data, most, kept))
            except BufferError:  # a bytearray can't grow while somebody has a view of it
                continue
            for view in kept:
                if not view.readonly:
                    view[:] = b"!" * len(view)
            assert loaded == value

    def test_that_ends(self, engine: Engine) -> None:
        """A file that ends in the middle is an EOFError."""
        data = engine.dumps(b"x" * self.SIZE, 4)
        for end in 100, 1_500_000, self.SIZE - 5:
            with pytest.raises(EOFError):
                engine.load(self.File(data[:end], 2**40, []))
            with pytest.raises(EOFError):
                engine.load(io.BufferedReader(io.BytesIO(data[:end])))

    @pytest.mark.parametrize("result", [None, 0, -5, 2**40, "text"])
    def test_that_says_nonsense(self, engine: Engine, result: Any) -> None:
        """A file that says nonsense about how much it has filled is an error, or is made the best of."""
        file = self.File(engine.dumps(b"x" * self.SIZE, 4), 0, [])
        file.readinto = lambda buffer: result
        with contextlib.suppress(EOFError, TypeError, pickle.UnpicklingError):
            engine.load(file)

    def test_that_raises(self, engine: Engine) -> None:
        """What the file raises comes out as it is."""

        def readinto(buffer: Any) -> int:
            raise ValueError("mine")

        for value in bytearray(self.SIZE), bytes(self.SIZE):
            file = self.File(engine.dumps(value, 5), 0, [])
            file.file = io.BytesIO(engine.dumps(value, 5)[:20])
            file.readinto = readinto
            file.read = lambda size, file=file: file.file.read(size) or readinto(None)
            with pytest.raises(ValueError, match=r"^mine$"):
                engine.load(file)
