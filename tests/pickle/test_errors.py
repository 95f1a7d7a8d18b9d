"""What can't be pickled: the error tells the way to it, and is of the types that callers catch."""

from __future__ import annotations

import copy
import io
import pickle
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from .engines import PROTOCOLS
from .zoo import Data, Dict, Error, Key, List, NewArgs, NewArgsEx, Old, Plain, Reduced, Set, Slotted, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engines import Engine

BAD = lambda: None  # noqa: E731 - a function that has no name to be found by


class Account(Plain):
    pass


class WithSlots:
    __slots__ = ("callback", "other")

    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self.other = 1


class SlotsAndDict(WithSlots):
    pass


#: path -> what makes an object in which BAD is to be found there.
PATHS: dict[str, Callable[[], Any]] = {
    "root": lambda: BAD,
    "root[0]": lambda: [BAD],
    "root[3]": lambda: (1, 2, 3, BAD),
    "root[1][0]": lambda: [1, (BAD, 2)],
    "root['key']": lambda: {"key": BAD},
    "root[5]": lambda: {4: 1, 5: BAD},
    "root[(1, 2)]|root[<tuple>]": lambda: {(1, 2): BAD},
    "root[b'b']": lambda: {b"b": BAD},
    "root[None]": lambda: {None: BAD},
    "root{...}": lambda: {BAD},
    "root[0]{...}": lambda: [frozenset([BAD])],
    "root{...}[1]": lambda: {(1, BAD)},
    "root.callback": lambda: Plain(a=1, callback=BAD),
    "root.accounts[3].callback": lambda: Plain(accounts=[1, 2, 3, Account(name="x", callback=BAD)]),
    "root.a.b.c['d']": lambda: Plain(a=Plain(b=Plain(c={"d": BAD}))),
    "root.callback ": lambda: WithSlots(BAD),
    "root.callback  ": lambda: SlotsAndDict(BAD),
    "root.tags[0]": lambda: Data("x", [BAD]),
    "root[1]": lambda: List([1, BAD]),
    "root['k']": lambda: Dict(k=BAD),
    "root['a'][1].b[0]['c']": lambda: {"a": [0, Plain(b=({"c": BAD},))]},
}


def named(path: str) -> str:
    """The paths that will do, as a pattern."""
    return "|".join(re.escape(one.strip()) for one in path.split("|"))


@pytest.mark.parametrize("path", PATHS)
def test_path(engine: Engine, path: str) -> None:
    """The message begins with the way from the root to what can't be pickled, in the terms of Python."""
    for protocol in PROTOCOLS:
        if isinstance(PATHS[path](), (WithSlots, List, Dict)) and protocol < 2:
            continue  # refused as a whole, or written as a copy that is an argument
        with pytest.raises(pickle.PicklingError, match=rf"^({named(path)}): .*(lambda|function|BAD)") as caught:
            engine.dumps(PATHS[path](), protocol)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: {BAD: 1},
        lambda: Set([BAD]),
        lambda: State(BAD),
        lambda: NewArgs(1, BAD),
        lambda: NewArgsEx(1, keyword=BAD),
        lambda: Key(BAD),
        lambda: Key((1, BAD)),
        lambda: Old(1, BAD),
        lambda: Error("m", BAD),
        lambda: Dict({BAD: 1}),
        lambda: Slotted(BAD),
    ],
)
def test_other_ways(engine: Engine, make: Any) -> None:
    """Keys, states, arguments and items of reductions have no word in Python; the path still leads to the holder."""
    for protocol in range(2, 6):
        with pytest.raises(pickle.PicklingError, match=r"^root\.holder\[1\]"):
            engine.dumps(Plain(holder=[0, make()]), protocol)


def test_first_way_is_told(engine: Engine) -> None:
    """The way is the one by which the pickler came, where an object can be reached by several."""
    shared = [1, BAD]
    with pytest.raises(pickle.PicklingError, match=r"^root\['first'\]\[1\]: "):
        engine.dumps({"first": shared, "second": shared})


def test_keys_are_abbreviated(engine: Engine) -> None:
    """Long keys don't make a long message, and a key's own `__repr__` isn't run where it could do harm."""
    with pytest.raises(pickle.PicklingError) as caught:
        engine.dumps({"k" * 10_000: [BAD]})
    assert len(str(caught.value)) < 400

    with pytest.raises(pickle.PicklingError) as caught:
        engine.dumps({10**6000: [BAD]})
    assert len(str(caught.value)) < 400

    class Hostile:
        def __repr__(self) -> str:
            raise AssertionError("repr was called")

        __str__ = __repr__

        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = object.__hash__

        def __reduce__(self) -> Any:
            return Reduced, ()

    with pytest.raises(pickle.PicklingError):
        engine.dumps({Hostile(): [Hostile(), [Hostile(), BAD]]})


def test_finding_the_way_touches_nothing(engine: Engine) -> None:
    """The error is made without calling properties, `__getattr__`, `__eq__` or `__iter__` of the objects on the way."""
    touched = []

    class Touchy(Plain):
        @property
        def prop(self) -> Any:
            touched.append("prop")

        def __eq__(self, other: object) -> bool:
            touched.append("eq")
            return False

        __hash__ = object.__hash__

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("__"):
                touched.append(name)
            raise AttributeError(name)

    Touchy.__qualname__ = "Touchy"
    setattr(sys.modules[__name__], "Touchy", Touchy)  # noqa: B010
    try:
        with pytest.raises(pickle.PicklingError, match=r"^root\.a\.b\[1\]: "):
            engine.dumps(Touchy(a=Touchy(b=[Touchy(), BAD])), 4)
    finally:
        delattr(sys.modules[__name__], "Touchy")
    assert touched == []


class TestWhatAndWhy:
    def test_the_example_of_the_documentation(self, engine: Engine) -> None:
        """`root.accounts[3].callback: cannot pickle a lambda ...`."""
        value = Plain(accounts=[1, 2, 3, Plain(callback=lambda: 1)])
        with pytest.raises(pickle.PicklingError, match=r"^root\.accounts\[3\]\.callback: cannot pickle a lambda"):
            engine.dumps(value)

    def test_local_things(self, engine: Engine) -> None:
        """Functions and classes of a function, and what a module no longer has, are told by their names."""

        def local() -> None:
            pass

        class Local:
            pass

        for bad, name in (local, "local"), (Local, "Local"), (Local(), "Local"), (Local().__init__, "Local"):
            with pytest.raises(pickle.PicklingError, match=rf"^root\[0\].*\b{name}\b"):
                engine.dumps([bad])

    def test_a_name_that_means_something_else(self, engine: Engine) -> None:
        """A class or function whose name leads to something else, or nowhere, is refused with that name."""
        twin = type("Plain", (), {"__module__": Plain.__module__})
        lost = type("Lost", (), {"__module__": Plain.__module__})
        nowhere = type("Nowhere", (), {"__module__": "no_such_module"})
        for bad in twin, lost, nowhere:
            for protocol in PROTOCOLS:
                with pytest.raises(pickle.PicklingError, match=rf"^root\[0\]: .*{bad.__name__}"):
                    engine.dumps([bad], protocol)

    @pytest.mark.parametrize(
        "make",
        [threading.Lock, lambda: (i for i in ()), lambda: sys, sys._getframe, lambda: memoryview(b"x")],
    )
    def test_type_errors(self, engine: Engine, make: Any) -> None:
        """What is a TypeError by the standard is a TypeError and a PicklingError, with the way and the reason."""
        bad = make()
        for protocol in PROTOCOLS:
            with pytest.raises((TypeError, pickle.PicklingError)) as standard:
                pickle.dumps(bad, protocol)
            with pytest.raises(pickle.PicklingError, match=r"^root\[0\].*pickle") as caught:
                engine.dumps([bad], protocol)
            if isinstance(standard.value, TypeError):  # in old protocols not for all of them
                assert isinstance(caught.value, TypeError)
            assert type(bad).__name__ in str(caught.value)

    def test_names_that_an_old_protocol_can_not_hold(self, engine: Engine) -> None:
        """A name that isn't ASCII is refused in protocols 0 to 2, or before 4 if it has a lone surrogate."""
        module = sys.modules[__name__]
        for name, protocols in ("n\xe4me", range(3)), ("n\udc80me", range(4)):
            kind = type("Kind", (), {"__module__": __name__})
            kind.__qualname__ = name
            setattr(module, name, kind)
            try:
                for protocol in protocols:
                    with pytest.raises(pickle.PicklingError, match=r"^root\[0\]: "):
                        engine.dumps([kind], protocol)
            finally:
                delattr(module, name)

    def test_errors_can_be_pickled_and_copied(self, engine: Engine) -> None:
        """Our errors are pickled, by us and the standard, with their message and type."""
        errors: list[BaseException] = []
        for bad in [BAD], [threading.Lock()], sys:
            with pytest.raises(pickle.PicklingError) as caught:
                engine.dumps({"k": bad})
            errors.append(caught.value)
        for data in b"\xff.", b"R", b"\x82\x05.", b"X\xff", b"S'\\'\n.", b"c\xff\xff\n\n.", b"h\x05.":
            with pytest.raises(pickle.UnpicklingError) as refused:
                engine.loads(data)
            errors.append(refused.value)
        for error in errors:
            for twin in copy.copy(error), pickle.loads(pickle.dumps(error)), engine.loads(engine.dumps(error)):
                assert type(twin) is type(error)
                assert str(twin) == str(error)


class TestCodeOfOthers:
    def test_exceptions_pass_through(self, engine: Engine) -> None:
        """What `__reduce__`, `__getstate__` and the like raise comes out as the object that was raised."""
        error = KeyError("mine")

        class Raises:
            def __reduce__(self) -> Any:
                raise error

        class RaisesInState(Plain):
            def __getstate__(self) -> Any:
                raise error

        class RaisesInItems:
            def __reduce__(self) -> Any:
                def items() -> Any:
                    yield 1
                    raise error

                return list, (), None, items()

        for kind in Raises, RaisesInState, RaisesInItems:
            for protocol in PROTOCOLS:
                with pytest.raises(KeyError) as caught:
                    engine.dumps({"k": [kind()]}, protocol)
                assert caught.value is error

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes before Python 3.11")
    def test_note_with_the_way(self, engine: Engine) -> None:
        """Such an exception gets a note that tells the way to the object."""

        class Raises:
            def __reduce__(self) -> Any:
                raise KeyError("mine")

        with pytest.raises(KeyError) as caught:
            engine.dumps({"k": [1, Raises()]})
        assert any("root['k'][1]" in note for note in caught.value.__notes__)

    def test_pickling_errors_of_others(self, engine: Engine) -> None:
        """A PicklingError that somebody's `__reduce__` raises comes out as it is, without a path put before its text."""

        class Raises:
            def __reduce__(self) -> Any:
                raise pickle.PicklingError("my words")

        with pytest.raises(pickle.PicklingError) as caught:
            engine.dumps([Raises()])
        assert str(caught.value) == "my words"

    def test_load(self, engine: Engine) -> None:
        """What `__setstate__`, `__new__`, an import or an `append` raises on load comes out as it is."""
        for data, error in (
            (b"cbuiltins\nint\n(S'x'\ntR.", ValueError),
            (b"\x80\x02cbuiltins\nint\n(S'x'\nt\x81.", ValueError),
            (b"cbuiltins\nlen\n(I1\ntR.", TypeError),
            (b"cno_such_module\nx\n.", ModuleNotFoundError),
            (b"cbuiltins\nno_such\n.", AttributeError),
            (b"(I1\nibuiltins\nlen\n.", TypeError),
        ):
            with pytest.raises(error) as caught:
                engine.loads(data)
            assert not isinstance(caught.value, pickle.UnpicklingError)


class TestLoadMessages:
    @pytest.mark.parametrize(
        "data, offset, opcode",
        [
            (b"\x80\x02K\x01a.", 4, "APPEND"),
            (b"K\x01K\x02\x93.", 4, "STACK_GLOBAL"),
            (b"(K\x01h\x09.", 3, "BINGET"),
            (b"K\x01t.", 2, "TUPLE"),
            (b"(K\x01X\x02\x00\x00\x00\xff\xff.", 3, "BINUNICODE"),
            (b"\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00K\x01K\x02a.", 15, "APPEND"),
            (b"K\x01\x82\x05.", 2, "EXT1"),
            (b"Ix\n.", 0, "INT"),
        ],
    )
    def test_where(self, engine: Engine, data: bytes, offset: int, opcode: str) -> None:
        """The message tells which opcode it was, and at which byte of its stream."""
        for load in (
            lambda: engine.loads(data),
            lambda: engine.load(io.BytesIO(data)),
            lambda: engine.load(io.BufferedReader(io.BytesIO(data))),
            lambda: engine.references(data) and engine.loads(data),
        ):
            with pytest.raises(pickle.UnpicklingError, match=rf"\b{offset}\b.*\b{opcode}\b|\b{opcode}\b.*\b{offset}\b"):
                load()
        # In a file with something before it the stream still begins with byte 0.
        file = io.BytesIO(b"before" + data)
        file.seek(6)
        with pytest.raises(pickle.UnpicklingError, match=rf"\b{offset}\b"):
            engine.load(file)

    def test_unknown_opcode(self, engine: Engine) -> None:
        """A byte that is no opcode is told, with its place."""
        with pytest.raises(pickle.UnpicklingError, match=r"\b2\b"):
            engine.loads(b"K\x01\xff.")

    def test_protocol_of_the_future(self, engine: Engine) -> None:
        """A protocol that we don't know is an UnpicklingError and a ValueError that names it."""
        for protocol in 6, 7, 255:
            with pytest.raises(ValueError, match=str(protocol)) as caught:
                engine.loads(b"\x80" + bytes([protocol]) + b"N.")
            assert isinstance(caught.value, pickle.UnpicklingError)


def test_arguments_of_the_constructors(engine: Engine) -> None:
    """Protocols that don't exist are a ValueError, and other nonsense a TypeError, before anything is written."""
    for protocol in 6, 100:
        with pytest.raises(ValueError, match="protocol"):
            engine.Pickler(io.BytesIO(), protocol)
    for protocol in -1, -5:
        assert engine.dumps(1, protocol) == engine.dumps(1, 5)
    for protocol in "2", [], 1.5:
        with pytest.raises(TypeError):
            engine.dumps([1], protocol)
    with pytest.raises(TypeError):
        engine.dumps(1, no_such_keyword=1)
    with pytest.raises(TypeError):
        engine.loads(b"N.", no_such_keyword=1)
    with pytest.raises(TypeError):
        engine.Unpickler(io.BytesIO(), True)  # keywords only, as in the standard
