"""Classes that the store's tests keep, importable by name in other processes too."""

from __future__ import annotations

import abc
import dataclasses
import enum
from typing import Any, Generic, NamedTuple, TypeVar

import pstore

T = TypeVar("T")


class Plain:
    """Undeclared; a store takes it when it is opened with `allow`."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Secret(Plain):
    """Undeclared, and never allowed."""


@pstore.persistent
class Person(Plain):
    """Declared: every instance is a record."""


@pstore.persistent
class Node:
    """One link of a chain."""

    def __init__(self, number: int, following: Node | None = None) -> None:
        self.number = number
        self.following = following


class Slotted:
    __slots__ = ("friend", "name")

    def __init__(self, name: str, friend: object = None) -> None:
        self.name = name
        self.friend = friend


@dataclasses.dataclass
class Data:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)


class Abstract(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


class Square(Abstract):
    def __init__(self, side: float) -> None:
        self.side = side

    def area(self) -> float:
        return self.side**2


class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content


class Valued:
    """Equal and hashed by its state."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Valued) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Answering:
    """Has `__getattr__`, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> str:
        if name.startswith("_") or name == "asked":
            raise AttributeError(name)
        self.asked.append(name)
        return name.upper()


class Registered:
    """Its subclasses must say a keyword, and are listed."""

    subclasses: list[type] = []

    def __init_subclass__(cls, *, kind: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Registered.subclasses.append(cls)
        cls.kind = kind


class Member(Registered, kind="member"):
    def __init__(self, name: str) -> None:
        self.name = name


class Stateful:
    """Keeps one attribute out of its state."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cache = object()

    def __getstate__(self) -> dict[str, str]:
        return {"name": self.name}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.name = state["name"]
        self.cache = "anew"


class Reduced:
    """Made by a call with arguments."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.extra: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, self.parts, {"extra": self.extra}


class Copying:
    """Gives copies as its state."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"items": list(self.items)}


class Tag(str):
    """Text with a slot."""

    __slots__ = ("notes",)


class Stack(list):  # type: ignore[type-arg]
    """A list with attributes."""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int
