"""Classes whose objects merge what two sessions have made of them."""

from __future__ import annotations

from typing import Any

import pstore

#: What a test does in the middle of a merge.
WHEN_MERGED: list[Any] = []


@pstore.persistent
class Tally:
    """Counts, and collects; both go together."""

    def __init__(self) -> None:
        self.count = 0
        self.members: set[Any] = set()
        self.log: list[str] = []

    @staticmethod
    def __merge__(base: Tally, theirs: Tally, mine: Tally) -> Any:
        for ask in WHEN_MERGED:
            answer = ask(base, theirs, mine)
            if answer is not None:
                return answer
        mine.count += theirs.count - base.count
        mine.members = theirs.members | (mine.members - base.members)
        mine.log.append("merged")
        return None


@pstore.persistent
class Returning(Tally):
    """Returns another object, of its class."""

    @staticmethod
    def __merge__(base: Returning, theirs: Returning, mine: Returning) -> Returning:
        merged = Returning()
        merged.count = theirs.count + mine.count - base.count
        merged.members = theirs.members | mine.members
        return merged


@pstore.persistent
class Theirs(Tally):
    """The other one wins."""

    @staticmethod
    def __merge__(base: Theirs, theirs: Theirs, mine: Theirs) -> Theirs:
        return theirs


@pstore.persistent
class Part:
    """Something that a tally refers to; doesn't merge."""

    def __init__(self, name: str) -> None:
        self.name = name


@pstore.persistent
class Slotted:
    """Has no `__dict__`."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    @staticmethod
    def __merge__(base: Slotted, theirs: Slotted, mine: Slotted) -> None:
        mine.count += theirs.count - base.count


@pstore.persistent
class Bag(list):  # type: ignore[type-arg]
    """A list whose additions go together."""

    @staticmethod
    def __merge__(base: Bag, theirs: Bag, mine: Bag) -> None:
        mine[:] = [*theirs, *mine[len(base) :]]


@pstore.persistent
class Money:
    """Made by its constructor from what can't change."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __reduce__(self) -> Any:
        return Money, (self.amount,)

    @staticmethod
    def __merge__(base: Money, theirs: Money, mine: Money) -> Money:
        return Money(theirs.amount + mine.amount - base.amount)
