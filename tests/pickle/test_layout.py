"""Setting the class of an object, between classes that share the layout of their instances and others.

Where a layout is shared the interpreter's own structures are touched, so these tests do what else touches them: attributes
set, removed, and more of them than there is room for; a `__dict__` made, taken, replaced; the cyclic garbage collector;
weak references; subclasses; and the end of objects and classes.
"""

from __future__ import annotations

import abc
import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .engines import Engine

#: Where the native engine knows the layout.
KNOWN = (3, 11) <= sys.version_info < (3, 14) and sys.implementation.name == "cpython"


class Slots:
    __slots__ = ("s", "t")


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self) -> None: ...


def make_class(*bases: type, **names: Any) -> type:
    """Make a class as a `class` statement does."""
    return type("Made", bases, names)


def make_pair(engine: Engine, *bases: type, **names: Any) -> tuple[Any, Any]:
    """A new class, and a subclass that shares its layout where that can be."""
    cls = make_class(*bases, **names)
    sub = make_class(cls, __slots__=())
    assert engine.module.share_layout(sub, cls) is (engine.id == "native" and KNOWN and bool(cls.__dictoffset__))
    return cls, sub


class TestSetClass:
    def test_there_and_back(self, engine: Engine) -> None:
        """The object has the class, its attributes and its identity."""
        cls, sub = make_pair(engine)
        obj = cls()
        obj.a, obj.b = 1, [2]
        for _ in range(100):
            engine.module.set_class(obj, sub)
            assert type(obj) is sub
            assert vars(obj) == {"a": 1, "b": [2]}
            engine.module.set_class(obj, cls)
            assert type(obj) is cls
            assert (obj.a, obj.b) == (1, [2])

    def test_other_classes(self, engine: Engine) -> None:
        """Between classes that share nothing it is the ordinary assignment, with its errors."""
        one, other = make_class(), make_class()
        obj: Any = one()
        obj.a = 1
        engine.module.set_class(obj, other)
        assert type(obj) is other
        assert obj.a == 1
        for cls in Slots, list, int:
            with pytest.raises(TypeError):
                engine.module.set_class(obj, cls)
        for value in 5, None, "text":
            with pytest.raises(TypeError):
                engine.module.set_class(obj, value)
        with pytest.raises(TypeError):
            engine.module.set_class(5, one)

    def test_a_class_that_refuses(self, engine: Engine) -> None:
        """What a class defines for `__class__` or attributes isn't asked."""

        def refuse(*_: object) -> None:
            raise AssertionError

        cls, sub = make_pair(engine, __setattr__=refuse, __class__=property(refuse))
        obj = cls()
        engine.module.set_class(obj, sub)
        assert type(obj) is sub

    def test_references_to_classes(self, engine: Engine) -> None:
        """A class is referred to by as many instances as it has."""
        cls, sub = make_pair(engine)
        objs = [cls() for _ in range(100)]
        before = sys.getrefcount(cls), sys.getrefcount(sub)
        for to in sub, cls, sub, cls:
            for obj in objs:
                engine.module.set_class(obj, to)
        del to
        assert (sys.getrefcount(cls), sys.getrefcount(sub)) == before

    def test_no_dict_is_made(self, engine: Engine) -> None:
        """With a shared layout the instance is left as it was."""
        if engine.id != "native" or not KNOWN:
            pytest.skip("no layout is shared")
        cls, sub = make_pair(engine)
        for first in cls, sub:
            obj = first()
            obj.a, obj.b = 1, [2]
            for to in sub, cls, sub, cls:
                engine.module.set_class(obj, to)
                obj.c = to
                assert dict not in map(type, gc.get_referents(obj))
            assert (obj.a, obj.b) == (1, [2])


class TestSharing:
    def test_what_shares(self, engine: Engine) -> None:
        """A class just made, with nothing of its own; asked again it still does."""
        cls, sub = make_pair(engine)
        assert engine.module.share_layout(sub, cls) is (engine.id == "native" and KNOWN)
        another = make_class(cls, __slots__=())
        assert engine.module.share_layout(another, cls) is (engine.id == "native" and KNOWN)
        obj = cls()
        obj.a = 1
        for to in sub, another, cls:
            engine.module.set_class(obj, to)
            assert vars(obj) == {"a": 1}

    @pytest.mark.parametrize(
        "make",
        [
            lambda: (make_class(object, a=1), object),
            lambda: (make_class(list, __slots__=()), list),
            lambda: (make_class(Slots, __slots__=()), Slots),
            lambda: (make_class(Slots), Slots),
            lambda: (make_class(make_class(), __slots__=("a",)), make_class()),
            lambda: (make_class(Abstract, __slots__=()), Abstract),
            lambda: (int, object),
            lambda: (5, object),
            lambda: (make_class(), 5),
            lambda: (make_class(), make_class()),
        ],
    )
    def test_what_does_not(self, engine: Engine, make: Any) -> None:
        """Classes that have, or may have, their attributes elsewhere, and what is no class."""
        assert engine.module.share_layout(*make()) is False

    def test_a_class_with_slots_of_its_own(self, engine: Engine) -> None:
        """It has its instances' attributes elsewhere than its base."""
        base = make_class()
        assert engine.module.share_layout(make_class(base, __slots__=("a",)), base) is False

    def test_a_class_that_had_instances(self, engine: Engine) -> None:
        """They are laid out by what the class had then."""
        base = make_class()
        sub: Any = make_class(base, __slots__=())
        obj = sub()
        obj.a = 1
        assert engine.module.share_layout(sub, base) is False
        engine.module.set_class(obj, base)
        assert vars(obj) == {"a": 1}

    def test_a_base_further_up(self, engine: Engine) -> None:
        """The base is the class's own."""
        base = make_class()
        between = make_class(base)
        assert engine.module.share_layout(make_class(between, __slots__=()), base) is False

    def test_a_finalizer_of_the_base(self, engine: Engine) -> None:
        """Trying it runs no `__del__` of the base's."""
        run: list[Any] = []
        base = make_class(__del__=run.append)
        sub = make_class(base, __slots__=(), __del__=lambda self: None)
        engine.module.share_layout(sub, base)
        gc.collect()
        assert run == []


@pytest.mark.parametrize("weak", [True, False], ids=["weak references", "none"])
@pytest.mark.parametrize("bases", [(), (Slots,), (Exception,)], ids=["plain", "slots", "exception"])
class TestWhatHappensToInstances:
    """Instances made as either class, in whatever state, go through everything under both."""

    def do(self, engine: Engine, bases: tuple[type, ...], weak: bool) -> tuple[Any, Any]:
        names = {} if weak or bases else {"__slots__": ("__dict__",)}
        cls = make_class(*bases, **names)
        sub = make_class(cls, __slots__=())
        engine.module.share_layout(sub, cls)
        return cls, sub

    def test_attributes(self, engine: Engine, bases: tuple[type, ...], weak: bool) -> None:
        """Setting, removing, and more names than there is room for, in turn under each class."""
        cls, sub = self.do(engine, bases, weak)
        for first in cls, sub:
            objs = [first() for _ in range(20)]
            for number in range(60):
                for at, obj in enumerate(objs):
                    engine.module.set_class(obj, (cls, sub)[number % 2])
                    if number % (at + 1) == 0:
                        setattr(obj, f"name{(number * 7 + at) % 45}", [number, at])
                    elif number % 5 == 0 and vars(obj):
                        delattr(obj, next(iter(vars(obj))))
            for obj in objs:
                engine.module.set_class(obj, cls)
                expected = dict(vars(obj))
                engine.module.set_class(obj, sub)
                assert vars(obj) == expected == {name: getattr(obj, name) for name in expected}

    def test_dicts(self, engine: Engine, bases: tuple[type, ...], weak: bool) -> None:
        """A `__dict__` that is made, held, replaced, cleared or removed under one class is the same under the other."""
        cls, sub = self.do(engine, bases, weak)
        for first, other in (cls, sub), (sub, cls):
            obj = first()
            obj.a = 1
            held = vars(obj)
            engine.module.set_class(obj, other)
            assert vars(obj) is held
            held["b"] = 2
            obj.c = 3
            assert (obj.b, held) == (2, {"a": 1, "b": 2, "c": 3})
            obj.__dict__ = replaced = {"d": 4}
            engine.module.set_class(obj, first)
            assert vars(obj) is replaced
            assert held == {"a": 1, "b": 2, "c": 3}
            vars(obj).clear()
            vars(obj)[5] = 6
            engine.module.set_class(obj, other)
            assert vars(obj) == {5: 6}
            del obj
            assert replaced == {5: 6}
            obj = first()
            obj.a = 1
            engine.module.set_class(obj, other)
            held = vars(obj)
            del obj
            assert held == {"a": 1}

    def test_garbage(self, engine: Engine, bases: tuple[type, ...], weak: bool) -> None:
        """Circles are found by the collector, and finalised once, whatever the class and state of their parts."""
        cls, sub = self.do(engine, bases, weak)

        class Told:
            def __init__(self, told: list[int]) -> None:
                self.told = told

            def __del__(self) -> None:
                self.told.append(1)

        told: list[int] = []
        count = 0
        for first in cls, sub:
            for last in cls, sub:
                for how in range(4):
                    one, two = first(), first()
                    one.other, two.other = two, [one]
                    one.told = Told(told)
                    engine.module.set_class(one, last)
                    if how == 1:
                        vars(one)
                    elif how == 2:
                        one.__dict__ = dict(vars(one))
                    elif how == 3:
                        vars(two)[0] = one
                    count += 1
                    del one, two
        gc.collect()
        assert len(told) == count

    def test_references(self, engine: Engine, bases: tuple[type, ...], weak: bool) -> None:
        """Attributes are let go when their object is, one reference each; weak references to it end."""
        cls, sub = self.do(engine, bases, weak)
        value = object()
        before = sys.getrefcount(value)
        for first in cls, sub:
            for last in cls, sub:
                objs = [first() for _ in range(50)]
                for obj in objs:
                    obj.a = obj.b = value
                    engine.module.set_class(obj, last)
                    obj.c = value
                assert sys.getrefcount(value) == before + 150
                for obj in objs[::2]:
                    vars(obj)
                ends = [weakref.ref(obj) for obj in objs] if weak and bases != (Slots,) else []
                del objs, obj
                assert sys.getrefcount(value) == before
                assert all(end() is None for end in ends)

    def test_the_end_of_a_class(self, engine: Engine, bases: tuple[type, ...], weak: bool) -> None:
        """Either may outlive the other's instances; when all are gone, so are the classes."""
        for survivor in 0, 1:
            pair = self.do(engine, bases, weak)
            ends = [weakref.ref(cls) for cls in pair]
            obj = pair[1]()
            obj.a = 1
            engine.module.set_class(obj, pair[0])
            if survivor:
                engine.module.set_class(obj, pair[1])
            del pair
            gc.collect()
            obj.b = 2
            assert vars(obj) == {"a": 1, "b": 2}
            assert ends[survivor]() is type(obj)
            if not survivor:
                assert ends[1]() is None
                another: Any = make_class(type(obj), __slots__=())
                engine.module.share_layout(another, type(obj))
                engine.module.set_class(obj, another)
                assert vars(obj) == {"a": 1, "b": 2}
                del another
            del obj
            gc.collect()
            assert [end() for end in ends] == [None, None]

    def test_subclasses(self, engine: Engine, bases: tuple[type, ...], weak: bool) -> None:
        """A further subclass has its own places for attributes, and its instances change class as ever."""
        cls, sub = self.do(engine, bases, weak)
        further: Any = make_class(sub)
        obj = further()
        obj.z, obj.a = 1, 2
        other = cls()
        other.a, other.z = 3, 4
        if not bases and weak:
            engine.module.set_class(obj, cls)
            engine.module.set_class(other, further)
        assert (obj.z, obj.a, other.a, other.z) == (1, 2, 3, 4)
        if type(obj) is cls:
            engine.module.set_class(obj, sub)
        assert vars(obj) == {"z": 1, "a": 2}


class TestRoomForNames:
    @pytest.mark.parametrize("names", [(), ("a", "b", "c")], ids=["none", "some"])
    def test_many_instances_before_the_first_attribute(self, engine: Engine, names: tuple[str, ...]) -> None:
        """They get attributes, and with a shared layout no `__dict__` for that, though the class has never met the names."""
        cls = make_class()
        sub = make_class(cls, __slots__=())
        shares = engine.module.share_layout(sub, cls, names)
        objs = [engine.module.new_instance(sub) for _ in range(500)]
        for obj in objs:
            engine.module.set_class(obj, cls)
            obj.a, obj.b, obj.c = 1, [2], obj
        assert all((obj.a, obj.b, obj.c) == (1, [2], obj) for obj in objs)
        if shares:
            assert not any(dict in map(type, gc.get_referents(obj)) for obj in objs)
        for number in range(60):  # more than any has room for
            for obj in objs[::7]:
                setattr(obj, f"name{number}", number)
        assert all(len(vars(obj)) == 63 for obj in objs[::7])

    def test_names_are_only_told(self, engine: Engine) -> None:
        """No instance has them, nothing of the class is asked, and what can't be a name is passed over."""
        cls = make_class(a=property(lambda self: pytest.fail("it was asked")), __del__=lambda self: pytest.fail("run"))
        sub = make_class(cls, __slots__=(), __del__=lambda self: None)
        engine.module.share_layout(sub, cls, ["a", "b", 5, None, *map(str, range(100))])
        assert vars(engine.module.new_instance(sub)) == {}

    def test_any_class(self, engine: Engine) -> None:
        """Instances are made as by `object.__new__`, with its errors."""
        for cls in make_class(), Slots, object:
            assert type(engine.module.new_instance(cls)) is cls
        for wrong in list, Abstract, 5:
            with pytest.raises(TypeError):
                engine.module.new_instance(wrong)


class TestClearAttributes:
    def test_all_are_gone(self, engine: Engine) -> None:
        """Whatever the class, and whether there is a `__dict__`; descriptors of classes aren't asked."""

        class Refusing:
            def __get__(self, obj: Any, cls: Any = None) -> Any:
                return "of the descriptor"

            def __set__(self, obj: Any, value: Any) -> None:
                raise AssertionError

            __delete__ = __set__  # type: ignore[assignment]

        for how in range(3):
            for at in range(2):
                cls = make_class()
                sub = make_class(cls, __slots__=(), a=Refusing())
                engine.module.share_layout(sub, cls)
                last = (cls, sub)[at]
                obj: Any = cls()
                obj.a, obj.b, obj.c = 1, [2], obj
                if how == 1:
                    vars(obj)
                elif how == 2:
                    cls.b = Refusing()  # type: ignore[attr-defined]
                engine.module.set_class(obj, last)
                engine.module.clear_attributes(obj)
                assert type(obj) is last
                assert vars(obj) == {}

    def test_a_held_dict_stays(self, engine: Engine) -> None:
        """The object gets another one."""
        obj: Any = make_class()()
        obj.a = 1
        held = vars(obj)
        engine.module.clear_attributes(obj)
        assert held == {"a": 1}
        assert vars(obj) == {}

    def test_finalizers_may_set_attributes(self, engine: Engine) -> None:
        """What goes may run code that uses the object."""

        class Setting:
            def __init__(self, obj: Any) -> None:
                self.obj = obj

            def __del__(self) -> None:
                if not hasattr(self.obj, "late"):
                    self.obj.late = 1

        obj: Any = make_class()()
        obj.a, obj.b = 1, Setting(obj)
        engine.module.clear_attributes(obj)
        assert "b" not in vars(obj)

    def test_none_at_all(self, engine: Engine) -> None:
        """What has no `__dict__` is passed over."""
        for obj in 5, Slots(), object():
            engine.module.clear_attributes(obj)


class TestHeldDict:
    def test_who_holds_it(self, engine: Engine) -> None:
        """One reference, the object's own, is none; each further one is."""
        cls, sub = make_pair(engine)
        obj = cls()
        assert not engine.module.has_held_dict(obj)
        obj.a = 1
        assert not engine.module.has_held_dict(obj)
        held = vars(obj)
        assert engine.module.has_held_dict(obj)
        del held
        assert not engine.module.has_held_dict(obj)
        other = sub()
        other.__dict__ = vars(obj)
        assert engine.module.has_held_dict(obj)
        assert engine.module.has_held_dict(other)
        other.__dict__ = {}
        assert not engine.module.has_held_dict(obj)

    @pytest.mark.parametrize("obj", [5, [], Slots(), object(), None], ids=repr)
    def test_none_at_all(self, engine: Engine, obj: Any) -> None:
        """What has no `__dict__` has none that is held."""
        assert not engine.module.has_held_dict(obj)

    def test_no_code_is_run(self, engine: Engine) -> None:
        """The class isn't asked."""

        def refuse(*_: object) -> None:
            raise AssertionError

        obj: Any = make_class(__getattribute__=refuse)()
        assert not engine.module.has_held_dict(obj)
