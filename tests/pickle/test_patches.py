"""Classes that change between two dumps or loads: what an engine has learned of a class must not outlive the change.

Each case makes a module anew, dumps and loads some instances often enough that an engine may learn what they are like, changes
something, and does it again. The engines must tell the same of each step; the reference learns nothing.
"""

# ruff: noqa: B023, D103 - what is made in a loop is called before it goes on; a change is named for what it does

from __future__ import annotations

import copyreg
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from .engines import Engine
from .pictures import outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "patched_module"

SOURCE = """
import abc, dataclasses, enum

class Root:
    pass

class Base(Root):
    pass

class Plain(Base):
    def __init__(self, a=1, b=2):
        self.a, self.b = a, b

class Slots:
    __slots__ = ("a", "b", "__private")

class Both(Slots):
    __slots__ = ("c", "__dict__")

class Meta(type):
    pass

class WithMeta(Plain, metaclass=Meta):
    pass

class Abstract(Base, abc.ABC):
    pass

class Items(list):
    pass

class Pairs(dict):
    pass

class Members(set):
    pass

class Number(int):
    pass

@dataclasses.dataclass
class Data(Base):
    a: object = 1

class Colour(enum.Enum):
    RED = 1

class Other(Root):
    def __init__(self):
        self.other = True

class Outer:
    class Inner(Plain):
        pass

def function():
    pass

log = []
"""


def new_module() -> Any:
    """The module, made anew, under its name."""
    module = types.ModuleType(NAME)
    sys.modules[NAME] = module
    exec(SOURCE, vars(module))
    return module


_REGISTRIES = copyreg.dispatch_table, copyreg._extension_registry, copyreg._inverted_registry
_BEFORE: list[dict[Any, Any]] = []  # what they held when the test began


def registered_before() -> None:
    """Let nothing be registered that wasn't before."""
    for registry, before in zip(_REGISTRIES, _BEFORE, strict=True):
        registry.clear()
        registry.update(before)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Nothing stays."""
    _BEFORE[:] = [dict(registry) for registry in _REGISTRIES]
    yield
    registered_before()
    for name in NAME, "patched_elsewhere":
        sys.modules.pop(name, None)


def objects(m: Any) -> dict[str, Any]:
    """An object of each class."""
    slots, both = m.Slots(), m.Both()
    slots.a, both.a, both.c, both.d = 1, 2, [3], 4
    items, pairs, members = m.Items([1]), m.Pairs(k=1), m.Members([1])
    items.a = pairs.a = members.a = "attribute"
    abstract = m.Abstract()
    abstract.a = 1
    made = [
        m.Plain(),
        slots,
        both,
        m.WithMeta(),
        abstract,
        items,
        pairs,
        members,
        m.Number(5),
        m.Data(),
        m.Outer.Inner(),
        m.Base(),
    ]
    return {type(one).__name__: one for one in made} | {
        "Plain class": m.Plain,
        "function": m.function,
        "RED": m.Colour.RED,
    }


# ------------------------------------------------------------------------------------------------------------- changes


def in_instance(name: str, value: Any) -> Callable[[Any, dict[str, Any]], None]:
    """A change that gives instances an attribute of a name that means something in a class."""

    def change(m: Any, made: dict[str, Any]) -> None:
        for key in "Plain", "Both", "WithMeta", "Items", "Pairs", "Data", "Inner", "Base", "Number":
            vars(made[key])[name] = value

    return change


def setstate(self: Any, state: Any) -> None:
    """A `__setstate__` that leaves its mark."""
    object.__setattr__(self, "marked", state) if hasattr(self, "__dict__") else None


def getattribute(self: Any, name: str) -> Any:
    """Answers other than what is there."""
    found = object.__getattribute__(self, name)
    return {"odd": 1} if name == "__dict__" else found


def missing(self: Any, name: str) -> Any:
    """A `__getattr__`."""
    if name in ("__setstate__", "__getstate__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__"):
        raise AttributeError(name)
    return None


def found_setstate(self: Any, name: str) -> Any:
    """A `__getattr__` that has a `__setstate__`."""
    if name == "__setstate__":
        return lambda state: setstate(self, state)
    raise AttributeError(name)


def delete_name(m: Any, made: dict[str, Any]) -> None:
    del m.Plain, m.function, m.Slots


def replace_name(m: Any, made: dict[str, Any]) -> None:
    m.Plain, m.function, m.Slots = m.Other, m.Other, m.Base


def delete_module(m: Any, made: dict[str, Any]) -> None:
    del sys.modules[NAME]


def replace_module(m: Any, made: dict[str, Any]) -> None:
    sys.modules[NAME] = types.SimpleNamespace(Plain=m.Plain, Slots=m.Other, function=m.function)


def none_module(m: Any, made: dict[str, Any]) -> None:
    sys.modules[NAME] = None  # type: ignore[assignment]


def rename(m: Any, made: dict[str, Any]) -> None:
    m.Renamed, m.Plain.__qualname__ = m.Plain, "Renamed"
    m.Slots.__qualname__ = "Outer.Slots"
    m.Outer.Slots = m.Slots
    m.Base.__name__ = "Nobody"


def move(m: Any, made: dict[str, Any]) -> None:
    sys.modules["patched_elsewhere"] = types.SimpleNamespace(Plain=m.Plain)  # type: ignore[assignment]
    m.Plain.__module__ = "patched_elsewhere"
    m.Slots.__module__ = None
    m.Data.__module__ = 5


def odd_names(m: Any, made: dict[str, Any]) -> None:
    class Text(str):
        __slots__ = ()

    m.Plain.__module__ = Text(NAME)
    m.Slots.__qualname__ = Text("Slots")
    m.Data.__qualname__ = "<locals>.Data"
    m.Base.__qualname__ = "<lambda>"


def register(m: Any, made: dict[str, Any]) -> None:
    for cls in m.Plain, m.Slots, m.Items, m.Number, m.Meta:
        copyreg.pickle(cls, lambda obj: "function")


def register_and_forget(m: Any, made: dict[str, Any]) -> None:
    register(m, made)
    for cls in m.Plain, m.Slots, m.Items, m.Number, m.Meta:
        del copyreg.dispatch_table[cls]


def extension(m: Any, made: dict[str, Any]) -> None:
    copyreg.add_extension(NAME, "Plain", 0xF1)
    copyreg.add_extension(NAME, "Slots", 0xF1F1)
    copyreg.add_extension(NAME, "function", 0xF1F1F1)


def wrong_extension(m: Any, made: dict[str, Any]) -> None:
    copyreg._extension_registry[NAME, "Plain"] = -5
    copyreg._extension_registry[NAME, "Slots"] = "code"
    copyreg._extension_registry[NAME, "function"] = 2**40


def other_class(m: Any, made: dict[str, Any]) -> None:
    for key in "Plain", "WithMeta", "Data", "Inner":
        made[key].__class__ = m.Other


def other_bases(m: Any, made: dict[str, Any]) -> None:
    class Reducing:
        def __reduce_ex__(self, protocol: Any) -> Any:
            return m.Other, ()

    class Setting:
        def __setstate__(self, state: Any) -> None:
            setstate(self, state)

    m.Plain.__bases__ = (Reducing,)
    m.Data.__bases__ = (Setting, m.Base)


def other_dict(m: Any, made: dict[str, Any]) -> None:
    class Attributes(dict):
        pass

    made["Plain"].__dict__ = Attributes(a=1, z=2)
    made["Data"].__dict__ = {"z": 1, 5: 2, (1, 2): 3}
    made["Both"].__dict__ = {}
    made["Inner"].__dict__ = {type("Text", (str,), {})("name"): 1}


def no_attributes(m: Any, made: dict[str, Any]) -> None:
    for key in "Plain", "WithMeta", "Data", "Inner", "Abstract", "Both":
        vars(made[key]).clear()
    del made["Slots"].a


def own_slotnames(m: Any, made: dict[str, Any]) -> None:
    m.Slots.__slotnames__ = ["a"]
    m.Both.__slotnames__ = []
    m.Plain.__slotnames__ = ["a", "nothing"]
    m.Data.__slotnames__ = 5


def no_slots(m: Any, made: dict[str, Any]) -> None:
    del m.Slots.a
    m.Both.c = 5


def shadowing_property(m: Any, made: dict[str, Any]) -> None:
    for cls in m.Plain, m.Slots, m.Both, m.Data:
        cls.a = property(lambda self: "shadow", lambda self, value: m.log.append(value))


def read_only_property(m: Any, made: dict[str, Any]) -> None:
    for cls in m.Plain, m.Slots, m.Both, m.Data:
        cls.a = property(lambda self: "shadow")


class Descriptor:
    """A data descriptor that stands before what an instance has."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return "from the descriptor"

    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError("not to be set")


def patch_base(m: Any, made: dict[str, Any]) -> None:
    m.Base.__getstate__ = lambda self: {"from": "base"}
    m.Base.__setstate__ = setstate


def patch_meta(m: Any, made: dict[str, Any]) -> None:
    m.Meta.__call__ = lambda cls, *arguments: m.log.append("called")
    m.Meta.__reduce_ex__ = lambda cls, protocol: "function"
    m.Meta.__getattribute__ = lambda cls, name: (m.log.append(name), type.__getattribute__(cls, name))[1]


def unhashable_meta(m: Any, made: dict[str, Any]) -> None:
    m.Meta.__hash__ = None
    m.Meta.__eq__ = lambda cls, other: cls is other


def raising_meta(m: Any, made: dict[str, Any]) -> None:
    def raising(cls: Any) -> int:
        raise LookupError("hash of a class")

    m.Meta.__hash__ = raising


def frozen(m: Any, made: dict[str, Any]) -> None:
    def refuse(self: Any, name: str, value: Any) -> None:
        raise AttributeError(f"{name} is frozen")

    for cls in m.Plain, m.Slots, m.Both, m.Data, m.Items:
        cls.__setattr__ = refuse


def marking(m: Any, made: dict[str, Any]) -> None:
    def mark(self: Any, name: str, value: Any) -> None:
        object.__setattr__(self, name, ("set", value))

    for cls in m.Plain, m.Slots, m.Both, m.Data, m.Items:
        cls.__setattr__ = mark


def raising(error: type[BaseException], message: str) -> Callable[..., Any]:
    """A function that raises, each time another exception."""

    def function(*arguments: Any) -> Any:
        raise error(message)

    return function


def base_with(name: str, value: Any) -> Callable[[Any, dict[str, Any]], None]:
    """A change that puts another base under the classes, with what can't be set in a class that is there already."""

    def change(m: Any, made: dict[str, Any]) -> None:
        m.Base.__bases__ = (type("Mixin", (), {name: value}),)

    return change


def every(*names_and_value: Any) -> Callable[[Any, dict[str, Any]], None]:
    """A change of all classes with state: names, and what to set under them."""
    *names, value = names_and_value

    def change(m: Any, made: dict[str, Any]) -> None:
        for cls in m.Plain, m.Slots, m.Both, m.Items, m.Pairs, m.Data, m.Number, m.WithMeta:
            for name in names:
                setattr(cls, name, value)

    return change


CHANGES: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    function.__name__: function
    for function in [
        delete_name, replace_name, delete_module, replace_module, none_module, rename, move, odd_names, register,
        register_and_forget, extension, wrong_extension, other_class, other_bases, other_dict, no_attributes, own_slotnames,
        no_slots, shadowing_property, read_only_property, patch_base, patch_meta, unhashable_meta, raising_meta, frozen, marking,
    ]
} | {
    "__getstate__": every("__getstate__", lambda self: {"got": 1}),
    "__getstate__ gives None": every("__getstate__", lambda self: None),
    "__getstate__ gives a pair": every("__getstate__", lambda self: ({"a": 1}, {"b": 2})),
    "__getstate__ is None": every("__getstate__", None),
    "__getstate__ raises": every("__getstate__", raising(LookupError, "state")),
    "__getstate__ raises TypeError": every("__getstate__", raising(TypeError, "state")),
    "__getstate__ of a static method": every("__getstate__", staticmethod(lambda: {"static": 1})),
    "__reduce_ex__": every("__reduce_ex__", lambda self, protocol: (list, ([1],))),
    "__reduce_ex__ is None": every("__reduce_ex__", None),
    "__reduce_ex__ raises": every("__reduce_ex__", raising(ValueError, "reduce")),
    "__reduce__": every("__reduce__", lambda self: (list, ([1],))),
    "__reduce__ gives a name": every("__reduce__", lambda self: "function"),
    "__reduce__ of object": every("__reduce__", object.__reduce__),
    "__reduce_ex__ is a property": every("__reduce_ex__", property(lambda self: lambda protocol: (list, ()))),
    "__getnewargs__": every("__getnewargs__", lambda self: (5,)),
    "__getnewargs__ gives a list": every("__getnewargs__", lambda self: [5]),
    "__getnewargs_ex__": every("__getnewargs_ex__", lambda self: ((5,), {"x": 1})),
    "__getinitargs__": every("__getinitargs__", lambda self: (1, 2)),
    "__getinitargs__ gives a list": every("__getinitargs__", lambda self: [1, 2]),
    "__getattr__": every("__getattr__", missing),
    "__getattr__ raises": every("__getattr__", raising(LookupError, "attribute")),
    "__getattr__ has __setstate__": every("__getattr__", found_setstate),
    "__getattribute__": every("__getattribute__", getattribute),
    "__getattribute__ raises": every("__getattribute__", raising(LookupError, "attribute")),
    "__class__ is a property": base_with("__class__", property(lambda self: int)),
    "__class__ raises": base_with("__class__", property(raising(LookupError, "class"))),
    "__dict__ is a property": base_with("__dict__", property(lambda self: {"from": "property"})),
    "__dict__ raises": base_with("__dict__", property(raising(AttributeError, "no dict"))),
    "__dict__ is None": base_with("__dict__", None),
    "__slots__": every("__slots__", ("a", "x")),
    "__setstate__": every("__setstate__", setstate),
    "__setstate__ is None": every("__setstate__", None),
    "__setstate__ raises": every("__setstate__", raising(LookupError, "state")),
    "__new__": every("__new__", staticmethod(lambda cls, *arguments: object.__new__(cls) if cls.__mro__[-2:-1] == () else 5)),
    "__new__ raises": every("__new__", staticmethod(raising(LookupError, "new"))),
    "__init__": every("__init__", raising(LookupError, "never called")),
    "__eq__": every("__eq__", raising(LookupError, "never called")),
    "__hash__": every("__hash__", raising(LookupError, "never called")),
    "__bool__": every("__bool__", raising(LookupError, "never called")),
    "__len__": every("__len__", raising(LookupError, "length")),
    "__iter__": every("__iter__", lambda self: iter("ab")),
    "append": every("append", "extend", "__setitem__", raising(LookupError, "filled")),
    "items": every("items", lambda self: iter([("from", "items")])),
    "descriptor": every("a", Descriptor()),
    "in the instance: __reduce_ex__": in_instance("__reduce_ex__", lambda protocol: (list, ())),
    "in the instance: __reduce__": in_instance("__reduce__", lambda: (list, ())),
    "in the instance: __getstate__": in_instance("__getstate__", lambda: {"own": 1}),
    "in the instance: __setstate__": in_instance("__setstate__", 5),
    "in the instance: __class__": in_instance("__class__", int),
    "in the instance: __dict__": in_instance("__dict__", {"own": 1}),
    "in the instance: __getnewargs__": in_instance("__getnewargs__", lambda: (1,)),
    "in the instance: __getinitargs__": in_instance("__getinitargs__", lambda: (1,)),
    "in the instance: __slots__": in_instance("__slots__", ("a",)),
    "in the instance: a lambda": in_instance("lambda", lambda: 1),
}  # fmt: skip


def told(engine: Engine, change: Callable[[Any, dict[str, Any]], None], protocol: int, **keywords: Any) -> list[Any]:
    """What is written and loaded before the change and after it."""
    m = new_module()
    made = objects(m)
    pickler, unpickler = engine.Pickler(None, protocol, **keywords), engine.Unpickler()

    def dumps(obj: Any) -> bytes:
        pickler.clear_memo()
        return pickler.dumps(obj)

    def loads(data: bytes) -> Any:
        unpickler.feed(data)
        return unpickler.load()

    streams = {}
    for name, obj in made.items():
        for _ in range(3):
            if outcome(lambda obj=obj: dumps(obj))[0] == "gave":
                streams[name] = dumps(obj)
                loads(streams[name])
    change(m, made)
    got: list[Any] = []
    for _ in range(3):
        for name, obj in made.items():
            kind, text = outcome(lambda obj=[obj, obj]: dumps(obj))
            got.append((name, kind, text))
            if name in streams:
                got.append((name, *outcome(lambda data=streams[name]: loads(data))))
            if kind == "gave":
                got.append((name, *outcome(lambda obj=obj: loads(dumps(obj)))))
        got.append(len(got))
    return [*got, [one if isinstance(one, str) else type(one).__name__ for one in m.log if one not in LOOKED_UP]]


#: Which attributes of a class an engine looks at, and how often, is nobody's promise.
LOOKED_UP = {
    "__reduce_ex__",
    "__reduce__",
    "__getinitargs__",
    "__module__",
    "__qualname__",
    "__new__",
    "__name__",
    "__mro__",
    "__dict__",
}


@pytest.mark.parametrize("change", CHANGES)
def test_change(pair: tuple[Engine, Engine], change: str) -> None:
    """After any change of a class the engines write and load what it is now, or say the same about it."""
    no_id: dict[str, Any] = {"inst_persistent_id": lambda obj: None}
    for protocol, keywords in [(0, {}), (2, {}), (4, {}), (4, no_id), (4, {"canonical": True})]:
        expected, got = (told(engine, CHANGES[change], protocol, **keywords) for engine in pair)
        for one, two in zip(expected, got, strict=True):
            assert two == one, (protocol, keywords)


def test_change_within_a_dump(pair: tuple[Engine, Engine]) -> None:
    """A change by a hook counts from the next object on, if it is one that the reference sees so."""
    for name, change in CHANGES.items():
        results = []
        for engine in pair:
            m = new_module()
            made = objects(m)
            data = engine.dumps(list(made.values()), 4)
            calls = [0]

            def hook(obj: Any, calls: list[int] = calls, m: Any = m, made: Any = made, change: Any = change) -> None:
                calls[0] += 1
                if calls[0] == 3:
                    change(m, made)

            result = [outcome(lambda: engine.dumps([*made.values(), *made.values()], 4, inst_persistent_id=hook))]
            registered_before()
            m = new_module()
            made = objects(m)
            value = [m.Plain(), m.Other(), m.Plain(), m.Both(), m.Data(), m.Items([1])]
            data = engine.dumps(value, 4, inst_persistent_id=lambda obj: 5 if type(obj).__name__ == "Other" else None)
            result.append(outcome(lambda: engine.loads(data, persistent_load=lambda pid: change(m, made))))
            results.append(result)
            registered_before()
        assert results[1] == results[0], name


def test_many_classes(pair: tuple[Engine, Engine]) -> None:
    """Classes that come and go, some of them where another one was in memory, are each written as what they are."""
    for number in range(400):
        m = new_module()
        if number % 3 == 1:
            m.Plain.__getstate__ = lambda self: ["state"]
        elif number % 3 == 2:
            m.Plain.__reduce_ex__ = lambda self, protocol: (list, ())
        value = [m.Plain(), m.Slots(), m.Data(number)]
        expected, got = (outcome(lambda engine=engine: engine.dumps(value, 4)) for engine in pair)
        assert got == expected
        if number % 3 == 0:
            assert outcome(lambda: pair[1].loads(pair[1].dumps(value, 4))) == outcome(
                lambda: pair[0].loads(pair[0].dumps(value, 4))
            )


def test_version_tags_used_up(pair: tuple[Engine, Engine]) -> None:
    """A class that was changed thousands of times, for which the interpreter may keep no version any more, is still seen."""
    m = new_module()
    one = m.Plain()
    for number in range(3000):
        m.Plain.changed = number
        if number % 100 == 0:
            assert pair[1].dumps(one, 4) == pair[0].dumps(one, 4)
    m.Plain.__getstate__ = lambda self: ["state"]
    assert pair[1].dumps(one, 4) == pair[0].dumps(one, 4)
    del m.Plain.__getstate__
    assert pair[1].dumps(one, 4) == pair[0].dumps(one, 4)


@pytest.mark.parametrize("hook", ["persistent_id", "inst_persistent_id", "reducer_override", "persistent_ids"])
def test_class_changed_by_the_hook_that_is_asked(pair: tuple[Engine, Engine], hook: str) -> None:
    """An object that a hook makes an instance of another class is written as what it is then."""
    results = []
    for engine in pair:
        m = new_module()
        for _ in range(3):  # both classes are known
            engine.dumps([m.Plain(), m.WithMeta(), m.Data(), m.Other()], 4)
        told = []
        for cls in m.Other, m.WithMeta, m.Data:
            one = m.Plain()

            def swap(obj: Any, one: Any = one, cls: Any = cls) -> Any:
                if obj is one:
                    one.__class__ = cls
                return NotImplemented if hook == "reducer_override" else None

            class Table(dict):
                def get(self, key: Any, default: Any = None, one: Any = one, swap: Any = swap) -> Any:
                    return swap(one) if key == id(one) else None

            pickler = engine.Pickler(None, 4)
            setattr(pickler, hook, Table() if hook == "persistent_ids" else swap)
            told.append(outcome(lambda: pickler.dumps([one, one])))
        results.append(told)
    assert results[1] == results[0]
