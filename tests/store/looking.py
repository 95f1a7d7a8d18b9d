"""Classes whose own code looks at what they refer to while they are loaded."""

from __future__ import annotations

from typing import Any

import pstore

#: What was seen: one entry for each time code of a class below has run while it was loaded.
SEEN: list[Any] = []
#: Set by a test to make a class's code fail, or look on.
WHEN_SET: list[Any] = []


class Looking:
    """Looks into its parts when it gets its state."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        SEEN.append(contents(getattr(self, "part", None)))


@pstore.persistent
class LookingRecord(Looking):
    """The same, always a record."""


class Made:
    """Looks at the arguments of its constructor."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        SEEN.append([contents(part) for part in parts])

    def __reduce__(self) -> tuple[Any, ...]:
        return Made, self.parts


class Hashed:
    """Made by its own `__new__`; its hash is that of its state."""

    def __new__(cls, *args: Any) -> Any:
        del args
        return super().__new__(cls)

    def __init__(self, *parts: Any) -> None:
        self.parts = list(parts)

    def __hash__(self) -> int:
        return hash(tuple(self.parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed) and self.parts == other.parts


class Borg:
    """All instances have one `__dict__`."""

    shared: dict[str, Any] = {}

    def __init__(self) -> None:
        self.__dict__ = self.shared


class OneState:
    """All instances give one dict as their state."""

    given: dict[str, Any] = {"common": [1]}

    def __getstate__(self) -> dict[str, Any]:
        return self.given


class Asking:
    """Asks what the test has set when it gets its state."""

    def __init__(self, part: Any = None) -> None:
        self.part = part

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for ask in WHEN_SET:
            ask(self)


@pstore.persistent
class AskingRecord(Asking):
    """The same, always a record."""


class Finalised:
    """Tells what it held when it was finalised."""

    def __del__(self) -> None:
        SEEN.append(vars(self).copy())


class Old:
    """A plain class that a test gives another shape."""


class OldList(list):  # type: ignore[type-arg]
    """A list that a test gives another shape."""


def contents(part: Any) -> Any:
    """What an object holds, one level deep, in a form that doesn't change any more."""
    if isinstance(part, (list, set, dict, bytearray)):
        return list(part)
    if isinstance(part, Hashed):
        return tuple(part.parts)
    if isinstance(part, Made) and "parts" in vars(part):
        return len(part.parts)
    return vars(part).copy() if hasattr(part, "__dict__") else part
