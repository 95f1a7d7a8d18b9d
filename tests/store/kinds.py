"""Every kind of class that users write: material for the tests, and for the table in docs/architecture.md.

Each class keeps the name it was made with and, where it can, a list: `make` gives an object, always the same; `change`
changes the list or, where there is none, something else in place. A kind that needs a newer Python is left out on older ones.
"""

from __future__ import annotations

import abc
import array
import collections
import copy
import copyreg
import dataclasses
import enum
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import attrs
import pydantic
import pydantic.dataclasses

T = TypeVar("T")

#: What code of a class, or of a metaclass, has told: a test empties it, does something, and looks.
RAN: list[str] = []


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of class.

    Attributes:
        name: What the table calls it.
        make: Returns a new object.
        change: Changes such an object in place, deep within it where it can.
    """

    name: str
    make: Callable[[], Any]
    change: Callable[[Any], object]


KINDS: dict[str, Kind] = {}


def add_to_tags(obj: Any) -> None:
    """The usual change: the list that an object holds grows."""
    obj.tags.append("changed")


def kind(
    label: str, /, *arguments: Any, change: Callable[[Any], object] = add_to_tags, **keywords: Any
) -> Callable[[type[T]], type[T]]:
    """Enter a class as a kind, with the arguments that an object of it is made with."""

    def enter(cls: type[T]) -> type[T]:
        def make() -> Any:
            return cls(*copy.deepcopy(arguments), **copy.deepcopy(keywords))

        KINDS[label] = Kind(label, make, change)
        return cls

    return enter


# ------------------------------------------------------------------------------------------------------- plain classes


class Named:
    """What most kinds derive from."""

    def __init__(self, name: str = "n", tags: Any = None) -> None:
        self.name = name
        self.tags = ["t"] if tags is None else tags


@kind("plain class")
class Plain(Named):
    pass


@kind("`typing.final` class")
@typing.final
class Final(Named):
    pass


@kind("`Generic[T]`")
class Box(Named, Generic[T]):
    pass


def rename(obj: Any) -> Any:
    """A function that changes an object of any kind past its class."""
    object.__setattr__(obj, "name", "renamed")
    return obj


KINDS["`Generic[T]`, made by `Box[int]()`"] = Kind("`Generic[T]`, made by `Box[int]()`", Box[int], add_to_tags)

if sys.version_info >= (3, 12):
    exec("class Newer[T](Named): pass")
    kind("generic class of PEP 695")(Newer)  # type: ignore[name-defined]  # noqa: F821


class HasName(Protocol):
    name: str

    def tagged(self) -> int:
        return 5


@kind("subclass of a `Protocol`")
class Conforming(Named, HasName):
    pass


# ------------------------------------------------------------------------------------------------------------ __slots__


@kind("`__slots__`", "n", ["t"])
class Slots:
    __slots__ = ("name", "tags")

    def __init__(self, name: str, tags: list[str]) -> None:
        self.name = name
        self.tags = tags


@kind("`__slots__`, inherited", "n", ["t"], 3)
class MoreSlots(Slots):
    __slots__ = ("more", "unset")

    def __init__(self, name: str, tags: list[str], more: int) -> None:
        super().__init__(name, tags)
        self.more = more


class PrivateSlots:
    __slots__ = ("__tags",)

    def __init__(self, tags: list[str]) -> None:
        self.__tags = tags

    @property
    def tags(self) -> list[str]:
        return self.__tags


@kind("`__slots__`, private (`__x`) in base and subclass", ["t"], ["other"])
class MorePrivateSlots(PrivateSlots):
    __slots__ = ("__tags",)

    def __init__(self, tags: list[str], other: list[str]) -> None:
        super().__init__(tags)
        self.__tags = other

    @property
    def other(self) -> list[str]:
        return self.__tags


@kind("`__slots__` with `__dict__`", "n", ["t"])
class SlotsAndDict:
    __slots__ = ("__dict__", "name")

    def __init__(self, name: str, tags: list[str]) -> None:
        self.name = name
        self.tags = tags


@kind("subclass with `__dict__` of a class with `__slots__`", "n", ["t"])
class DictOverSlots(Slots):
    def __init__(self, name: str, tags: list[str]) -> None:
        super().__init__(name, tags)
        self.extra = 1


@kind("`__slots__` with `__weakref__`", "n", ["t"])
class SlotsWeakref:
    __slots__ = ("__weakref__", "name", "tags")

    def __init__(self, name: str, tags: list[str]) -> None:
        self.name = name
        self.tags = tags


# ---------------------------------------------------------------------------------------------------------- dataclasses


@kind("dataclass", "n", ["t"])
@dataclasses.dataclass
class Data:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)


@kind("dataclass, `frozen`", "n", ["t"])
@dataclasses.dataclass(frozen=True)
class FrozenData:
    name: str
    tags: list[str]


@kind("dataclass, `slots`", "n", ["t"])
@dataclasses.dataclass(slots=True)
class SlotsData:
    name: str
    tags: list[str]


@kind("dataclass, `frozen`, `slots`", "n", ["t"])
@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotsData:
    name: str
    tags: list[str]


@kind("dataclass, `order`, `unsafe_hash`", "n", ["t"])
@dataclasses.dataclass(order=True, unsafe_hash=True)
class OrderedData:
    name: str
    tags: list[str] = dataclasses.field(hash=False, compare=False)


@kind("dataclass, `eq=False`", "n", ["t"])
@dataclasses.dataclass(eq=False)
class IdentityData:
    name: str
    tags: list[str]


@kind("dataclass, `kw_only`", name="n")
@dataclasses.dataclass(kw_only=True)
class KeywordData:
    tags: list[str] = dataclasses.field(default_factory=list)
    name: str


@kind("dataclass with `InitVar` and `field(init=False)`", "n")
@dataclasses.dataclass
class InitData:
    word: dataclasses.InitVar[str]
    name: str = dataclasses.field(init=False)
    tags: list[str] = dataclasses.field(init=False)

    def __post_init__(self, word: str) -> None:
        RAN.append("__post_init__")
        self.name = word
        self.tags = [word]


if sys.version_info >= (3, 11):

    @kind("dataclass, `slots`, `weakref_slot`", "n", ["t"])
    @dataclasses.dataclass(slots=True, weakref_slot=True)
    class WeakrefData:
        name: str
        tags: list[str]


# ---------------------------------------------------------------------------------------------------------- metaclasses


class Area(abc.ABC):
    @abc.abstractmethod
    def area(self) -> int: ...


@kind("ABC's subclass")
class Square(Named, Area):
    def area(self) -> int:
        return len(self.tags)


class CallMeta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        RAN.append("metaclass __call__")
        obj = super().__call__(*args, **kwargs)
        obj.by = "the metaclass"
        return obj


@kind("metaclass with `__call__`")
class CallMade(Named, metaclass=CallMeta):
    pass


class GetattrMeta(type):
    def __getattr__(cls, name: str) -> Any:
        RAN.append(f"metaclass __getattr__ {name}")
        return f"{name} of the metaclass"


@kind("metaclass with `__getattr__` that has an answer to everything")
class GetattrMade(Named, metaclass=GetattrMeta):
    pass


class GetattributeMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        RAN.append(f"metaclass __getattribute__ {name}")
        return super().__getattribute__(name)


@kind("metaclass with `__getattribute__`")
class GetattributeMade(Named, metaclass=GetattributeMeta):
    pass


class CheckMeta(type):
    def __instancecheck__(cls, obj: object) -> bool:
        RAN.append("metaclass __instancecheck__")
        return hasattr(obj, "tags")

    def __subclasscheck__(cls, other: type) -> bool:
        RAN.append("metaclass __subclasscheck__")
        return True


@kind("metaclass with `__instancecheck__`, `__subclasscheck__`")
class Checked(Named, metaclass=CheckMeta):
    pass


class PrepareMeta(type):
    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], **keywords: Any) -> dict[str, Any]:
        RAN.append("metaclass __prepare__")
        return {"prepared": True}


@kind("metaclass with `__prepare__`")
class Prepared(Named, metaclass=PrepareMeta):
    pass


class NewMeta(type):
    registered: ClassVar[list[str]] = []

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, table: str) -> Any:
        RAN.append("metaclass __new__")
        cls.registered.append(table)
        return super().__new__(cls, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, table: str) -> None:
        RAN.append("metaclass __init__")
        super().__init__(name, bases, namespace)
        cls.table = table


@kind("metaclass with `__new__` and `__init__` that need a keyword, and registers")
class Tabled(Named, metaclass=NewMeta, table="tabled"):
    pass


class SetattrMeta(type):
    def __setattr__(cls, name: str, value: Any) -> None:
        RAN.append(f"metaclass __setattr__ {name}")
        message = f"{name} of {cls} can't be set"
        raise TypeError(message)

    __delattr__ = __setattr__  # type: ignore[assignment]


@kind("metaclass whose `__setattr__` refuses")
class Sealed(Named, metaclass=SetattrMeta):
    pass


class EqualMeta(type):
    """All classes of it are equal."""

    def __eq__(cls, other: object) -> bool:
        RAN.append("metaclass __eq__")
        return isinstance(other, EqualMeta)

    def __hash__(cls) -> int:
        RAN.append("metaclass __hash__")
        return 5


@kind("metaclass with `__eq__` and `__hash__`")
class OneOfEqual(Named, metaclass=EqualMeta):
    pass


@kind("metaclass with `__eq__` and `__hash__`, an equal class")
class OtherOfEqual(Named, metaclass=EqualMeta):
    pass


class MroMeta(type):
    def mro(cls) -> list[type]:
        RAN.append("metaclass mro")
        return super().mro()


@kind("metaclass with `mro`")
class Ordering(Named, metaclass=MroMeta):
    pass


class InheritedMeta(NewMeta, abc.ABCMeta):
    pass


@kind("metaclass of a metaclass that is an `ABCMeta`, too")
class Inherited(Named, metaclass=InheritedMeta, table="inherited"):
    pass


# ----------------------------------------------------------------------------------------------------- attribute access


@kind("`__getattr__`")
class Getattr(Named):
    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return name.upper()


@kind("`__getattribute__`")
class Getattribute(Named):
    def __getattribute__(self, name: str) -> Any:
        RAN.append(f"__getattribute__ {name}")
        if name == "answer":
            return 42
        return super().__getattribute__(name)


@kind("`__getattribute__` and `__getattr__`")
class GetBoth(Getattribute):
    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return name.upper()


@kind("`__setattr__` by `object.__setattr__`, `__delattr__` by `super()`")
class Setattr(Named):
    def __setattr__(self, name: str, value: object) -> None:
        RAN.append(f"__setattr__ {name}")
        object.__setattr__(self, name, value)
        object.__setattr__(self, "last", name)

    def __delattr__(self, name: str) -> None:
        RAN.append(f"__delattr__ {name}")
        super().__delattr__(name)


@kind("`__setattr__` that refuses")
class Refusing(Named):
    def __init__(self) -> None:
        object.__setattr__(self, "name", "n")
        object.__setattr__(self, "tags", ["t"])

    def __setattr__(self, name: str, value: object) -> None:
        message = f"{name} can't be set"
        raise AttributeError(message)

    __delattr__ = __setattr__  # type: ignore[assignment]


@kind("`property`, `functools.cached_property`")
class Properties(Named):
    @property
    def first(self) -> str:
        return self.tags[0]

    @first.setter
    def first(self, value: str) -> None:
        self.tags[0] = value

    @first.deleter
    def first(self) -> None:
        del self.tags[0]

    @functools.cached_property
    def count(self) -> int:
        return len(self.tags)


class Upper:
    """A data descriptor that knows its name."""

    def __set_name__(self, owner: type, name: str) -> None:
        RAN.append(f"__set_name__ {name}")
        self.name = "_" + name

    def __get__(self, obj: Any, owner: type) -> Any:
        return self if obj is None else getattr(obj, self.name)

    def __set__(self, obj: Any, value: str) -> None:
        setattr(obj, self.name, value.upper())


@kind("descriptor with `__set_name__`")
class Described(Named):
    title = Upper()

    def __init__(self) -> None:
        super().__init__()
        self.title = "title"


# ------------------------------------------------------------------------------------------------ hooks of class making


class Registry:
    subclasses: ClassVar[list[type]] = []

    def __init_subclass__(cls, *, code: str, **keywords: Any) -> None:
        RAN.append("__init_subclass__")
        super().__init_subclass__(**keywords)
        Registry.subclasses.append(cls)
        cls.code = code


@kind("`__init_subclass__` with a keyword that must be given")
class Member(Named, Registry, code="member"):
    pass


@kind("`__class_getitem__`")
class Getitem(Named):
    def __class_getitem__(cls, item: Any) -> Any:
        return cls, item


@kind("`__del__`")
class Finalised(Named):
    def __del__(self) -> None:
        RAN.append("__del__")


# ------------------------------------------------------------------------------------------------------ special methods


@kind("`__eq__` and `__hash__` over the state")
class Valued(Named):
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (self.name, self.tags) == (other.name, other.tags)

    def __hash__(self) -> int:
        return hash(self.name)


@kind("`__eq__` without `__hash__`")
class Unhashable(Named):  # noqa: PLW1641  # that is what it is for
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable) and self.name == other.name


@kind("`__lt__` alone")
class Less(Named):
    def __lt__(self, other: Any) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.name < other.name


@kind("`functools.total_ordering`")
@functools.total_ordering
class Total(Named):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Total) and self.name == other.name

    def __lt__(self, other: Any) -> bool:
        return self.name < other.name

    __hash__ = None  # type: ignore[assignment]


def _binary(symbol: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if type(other) is not type(self) and not isinstance(other, int):
            return NotImplemented
        return f"{self.name} {symbol} {other.name if type(other) is type(self) else other}"

    return method


def _reflected(symbol: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return f"{other} {symbol} {self.name}, reflected" if isinstance(other, int) else NotImplemented

    return method


def _in_place(symbol: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        self.tags.append(f"{symbol}= {other if isinstance(other, int) else other.name}")
        return self

    return method


#: operator -> name of its special method; each has a reflected and an in-place one as well.
OPERATORS = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "@": "matmul",
    "/": "truediv",
    "//": "floordiv",
    "%": "mod",
    "**": "pow",
    "<<": "lshift",
    ">>": "rshift",
    "&": "and",
    "^": "xor",
    "|": "or",
}


@kind("all operators, reflected and in place")
class Number(Named):
    for _symbol, _name in OPERATORS.items():
        vars()[f"__{_name}__"] = _binary(_symbol)
        vars()[f"__r{_name}__"] = _reflected(_symbol)
        vars()[f"__i{_name}__"] = _in_place(_symbol)
    __divmod__ = _binary("divmod")
    __rdivmod__ = _reflected("divmod")

    def __neg__(self) -> str:
        return f"-{self.name}"

    def __pos__(self) -> str:
        return f"+{self.name}"

    def __invert__(self) -> str:
        return f"~{self.name}"

    def __abs__(self) -> str:
        return f"abs {self.name}"

    def __round__(self, digits: int = 0) -> str:
        return f"round {self.name} {digits}"

    def __int__(self) -> int:
        return len(self.tags)

    def __float__(self) -> float:
        return float(len(self.tags))

    def __complex__(self) -> complex:
        return complex(len(self.tags))

    def __index__(self) -> int:
        return len(self.tags)


@kind("`__add__` alone, which asks `type(other)`")
class Adding(Named):
    def __add__(self, other: Any) -> Any:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self.name + other.name, self.tags + other.tags)


@kind("container's methods")
class Container(Named):
    def __len__(self) -> int:
        return len(self.tags)

    def __contains__(self, item: object) -> bool:
        return item in self.tags

    def __iter__(self) -> Iterator[str]:
        return iter(self.tags)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.tags)

    def __getitem__(self, index: int) -> str:
        return self.tags[index]

    def __setitem__(self, index: int, value: str) -> None:
        self.tags[index] = value

    def __delitem__(self, index: int) -> None:
        del self.tags[index]

    def __length_hint__(self) -> int:
        return len(self.tags)


@kind("`__getitem__` alone, an iterable of the old kind")
class OldIterable(Named):
    def __getitem__(self, index: int) -> str:
        return self.tags[index]


@kind("iterator")
class Counting(Named):
    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self.tags:
            raise StopIteration
        return self.tags.pop()


@kind("`__call__`")
class Callee(Named):
    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.name, args, keywords


@kind("context manager")
class Context(Named):
    def __enter__(self) -> Any:
        self.tags.append("entered")
        return self

    def __exit__(self, *error: object) -> bool:
        self.tags.append("left")
        return True


@kind("`__await__`, `__aiter__`, `__aenter__` and other async methods")
class Async(Named):
    def __await__(self) -> Any:
        yield from ()
        return self.name

    async def __aenter__(self) -> Any:
        self.tags.append("entered")
        return self

    async def __aexit__(self, *error: object) -> None:
        self.tags.append("left")

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> str:
        if not self.tags:
            raise StopAsyncIteration
        return self.tags.pop()

    async def method(self) -> str:
        return self.name


@kind("`__str__`, `__repr__`, `__format__`, `__bytes__`, `__fspath__`, `__bool__`")
class Text(Named):
    def __str__(self) -> str:
        return f"str {self.name}"

    def __repr__(self) -> str:
        return f"repr {self.name}"

    def __format__(self, spec: str) -> str:
        return f"format {self.name} {spec}"

    def __bytes__(self) -> bytes:
        return self.name.encode()

    def __fspath__(self) -> str:
        return f"/{self.name}"

    def __bool__(self) -> bool:
        return len(self.tags) > 1


if sys.version_info >= (3, 12):

    @kind("`__buffer__`", "n", change=lambda obj: obj.content.append(1))
    class Buffered(Named):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.content = bytearray(b"content")

        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(self.content)

        def __release_buffer__(self, view: memoryview) -> None:
            RAN.append("__release_buffer__")
            view.release()


@kind("`__match_args__`")
class Matched(Named):
    __match_args__ = ("name", "tags")


@kind("`__copy__`, `__deepcopy__`")
class Copied(Named):
    def __copy__(self) -> Any:
        return type(self)(f"copy of {self.name}", self.tags)

    def __deepcopy__(self, memo: Any) -> Any:
        return type(self)(f"deep copy of {self.name}", list(self.tags))


@kind("`__sizeof__`, `__dir__`")
class Told(Named):
    def __sizeof__(self) -> int:
        return 1000 + len(self.tags)

    def __dir__(self) -> list[str]:
        return ["name", *self.tags]


@kind("`__getstate__`, `__setstate__`")
class Stateful(Named):
    def __getstate__(self) -> Any:
        return self.name, self.tags

    def __setstate__(self, state: Any) -> None:
        self.name, self.tags = state


# ---------------------------------------------------------------------------------------------------------------- attrs


@kind("`attrs.define`", "n", ["t"])
@attrs.define
class AttrsDefine:
    name: str
    tags: list[str]


@kind("`attrs.frozen`", "n", ["t"])
@attrs.frozen
class AttrsFrozen:
    name: str
    tags: list[str] = attrs.field(hash=False)


@kind("`attrs.define(slots=False)`", "n", ["t"])
@attrs.define(slots=False)
class AttrsDict:
    name: str
    tags: list[str]


@kind("`attrs.frozen(slots=False)`", "n", ["t"])
@attrs.frozen(slots=False)
class AttrsFrozenDict:
    name: str
    tags: list[str] = attrs.field(hash=False)


@kind("`attrs.define` with validator, converter, `cached_property`", "n", ["t"])
@attrs.define(on_setattr=[attrs.setters.convert, attrs.setters.validate])
class AttrsMore:
    name: str = attrs.field(validator=attrs.validators.instance_of(str))
    tags: list[str] = attrs.field(converter=list)

    @functools.cached_property
    def count(self) -> int:
        return len(self.tags)


# ------------------------------------------------------------------------------------------------------------- pydantic


@kind("pydantic model", name="n")
class Model(pydantic.BaseModel):
    name: str
    tags: list[str] = ["t"]


@kind("pydantic model, frozen", name="n")
class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    name: str
    tags: list[str] = ["t"]


@kind("pydantic model with private attributes", name="n")
class PrivateModel(pydantic.BaseModel):
    name: str
    _tags: list[str] = pydantic.PrivateAttr(default_factory=lambda: ["t"])

    @property
    def tags(self) -> list[str]:
        return self._tags


@kind("pydantic model, `extra='allow'`", name="n", change=lambda obj: obj.more.append(1), more=[1])
class ExtraModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str


class Outer(pydantic.BaseModel):
    """Holds any model."""

    inner: pydantic.SerializeAsAny[pydantic.BaseModel]


@kind("pydantic dataclass", "n")
@pydantic.dataclasses.dataclass
class PydanticData:
    name: str
    tags: list[str] = dataclasses.field(default_factory=lambda: ["t"])


# ------------------------------------------------------------------------------------------------------- not as a ghost


@kind("own `__new__`", "n")
class OwnNew(Named):
    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls)


@kind("`__getnewargs__`", "n")
class NewArgs(Named):
    def __new__(cls, name: str) -> Any:
        obj = super().__new__(cls)
        obj.made = name
        return obj

    def __getnewargs__(self) -> tuple[str]:
        return (self.name,)


@kind("`__reduce__`")
class Reduced(Named):
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (self.name, self.tags)


@kind("function registered in `copyreg`")
class Registered(Named):
    pass


def _reduce_registered(obj: Registered) -> tuple[Any, ...]:
    return Registered, (obj.name, obj.tags)


copyreg.pickle(Registered, _reduce_registered)


@kind("subclass of `list`", ["a"], change=lambda obj: obj.append(1))
class ListOf(list):  # type: ignore[type-arg]
    pass


@kind("subclass of `dict`", change=lambda obj: obj.update(b=1), a=1)
class DictOf(dict):  # type: ignore[type-arg]
    pass


@kind("subclass of `set`", ["a"], change=lambda obj: obj.add(1))
class SetOf(set):  # type: ignore[type-arg]
    pass


@kind("subclass of `str`, `int`, ... with attributes", "text")
class StrOf(str):  # noqa: SLOT000  # its attributes are what it is for
    def __init__(self, *_: Any) -> None:
        self.tags = ["t"]


@kind("exception", "what", 5)
class Failure(Exception):
    def __init__(self, what: str, code: int) -> None:
        super().__init__(what, code)
        self.tags = [what]


class Pair(NamedTuple):
    name: str
    tags: list[str]


KINDS["named tuple with a container"] = Kind("named tuple with a container", lambda: Pair("n", ["t"]), add_to_tags)


#: What is no class of the user's, for the table.
BUILTIN: dict[str, Kind] = {
    entry.name: entry
    for entry in (
        Kind("`list`", lambda: ["t"], lambda obj: obj.append("changed")),
        Kind("`dict`", lambda: {"t": 1}, lambda obj: obj.update(changed=1)),
        Kind("`set`", lambda: {"t"}, lambda obj: obj.add("changed")),
        Kind("`bytearray`", lambda: bytearray(b"t"), lambda obj: obj.append(5)),
        Kind("`tuple` that holds a list", lambda: (["t"], 1), lambda obj: obj[0].append("changed")),
        Kind("`collections.deque`", lambda: collections.deque(["t"]), lambda obj: obj.append("changed")),
        Kind("`collections.OrderedDict`", lambda: collections.OrderedDict(t=1), lambda obj: obj.update(changed=1)),
        Kind("`collections.defaultdict`", lambda: collections.defaultdict(int), lambda obj: obj["changed"]),
        Kind("`collections.Counter`", lambda: collections.Counter("t"), lambda obj: obj.update(["changed"])),
        Kind("`array.array`", lambda: array.array("i", [1]), lambda obj: obj.append(5)),
        Kind("`types.SimpleNamespace`", lambda: types.SimpleNamespace(tags=["t"]), add_to_tags),
    )
}


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Level(str, enum.Enum):
    LOW = "low"


class Planet(enum.Enum):
    EARTH = (5.9, 6.3)

    def __init__(self, mass: float, radius: float) -> None:
        self.mass = mass
        self.radius = radius


#: Never promoted and never records: there is one of each.
MEMBERS = [Permission.READ, Permission.READ | Permission.WRITE, Permission(0), Level.LOW, Planet.EARTH]


# ------------------------------------------------------------------------------------------- for what stands in sets


@dataclasses.dataclass(frozen=True)
class Friend:
    name: str
    tags: set[Any] = dataclasses.field(default_factory=set, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedFriend:
    name: str
    tags: set[Any] = dataclasses.field(default_factory=set, compare=False, repr=False)


class Follower:
    """Its hash asks for another object's, which may be another record."""

    def __init__(self, name: str, other: Any) -> None:
        self.tags: set[Any] = set()
        self.other = other
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Follower) and self.name == other.name

    def __hash__(self) -> int:
        return hash((self.name, self.other))


# -------------------------------------------------------------------------------------------------- for tests of their own


class Delegate:
    """Answers what it hasn't by a part, which a copy has no more than anything else when it is asked for `__setstate__`."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)


class Pretender:
    """Gives itself out for a list."""

    def __init__(self) -> None:
        self.items = [1]

    @property
    def __class__(self) -> type:
        return list


class Partial:
    """Its special methods are no functions."""

    def __init__(self) -> None:
        self.name = "n"

    def operate(self, operator: str, other: Any) -> Any:
        return type(self).__name__, type(self) is Partial, operator, other, self.name

    __add__ = functools.partialmethod(operate, "+")
    __call__ = functools.singledispatchmethod(lambda self, other: ("any", type(self) is Partial, other))


class Base(Named):
    """Its subclass's operators go first."""

    def __sub__(self, other: Any) -> Any:
        return "Base - other"

    def __lt__(self, other: Any) -> Any:
        return "Base < other"

    def __gt__(self, other: Any) -> Any:
        return "Base > other"


class Derived(Base):
    def __rsub__(self, other: Any) -> Any:
        return "other - Derived"

    def __gt__(self, other: Any) -> Any:
        return "Derived > other"


class Failing(Named):
    """Doesn't take its state, and has a `__getattr__`."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __setstate__(self, state: Any) -> None:
        message = "no state is good enough"
        raise AttributeError(message)
