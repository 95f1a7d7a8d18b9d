"""Values whose canonical streams must be the same in every process; run as a program, it prints their digests.

python canonical_values.py ENGINE_MODULE
"""

from __future__ import annotations

import hashlib
import importlib
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Point:
    """Hashed by its values, one of which may be a text: its hash changes with the seed."""

    x: Any
    y: Any = None


class Member:
    """Hashed by its address, which changes with everything."""

    def __init__(self, name: Any) -> None:
        self.name = name


class TextSet(set):
    """Is written by the reduction that it inherits: a list that it makes of itself, in its own order."""


class FrozenTextSet(frozenset):
    """The same for one that doesn't change."""


def shuffled(items: list[Any], kind: type = set) -> Any:
    """A set of the items with a history of its own."""
    random.shuffle(items)
    if kind is frozenset:
        return frozenset(items)
    made = kind()
    for item in items:
        made.add(item)
        made.add(("gone", item))
    for item in items:
        made.discard(("gone", item))
    return made


WORDS = [f"word {number * number}" for number in range(200)]


def again(text: str) -> str:
    """An equal text that is another object."""
    return "".join(list(text))


def shared_members(word: str, pair: tuple[str, str]) -> Any:
    """A set with a member that stands outside of it too, and inside of another."""
    return [pair, shuffled([word, pair, Point(pair)])]


def reached_twice(inner: Any) -> Any:
    """A set that is a member of one and stands beside it."""
    return [inner, {inner}, [inner]]


VALUES: dict[str, Callable[[], Any]] = {
    "texts": lambda: shuffled(WORDS[:]),
    "bytes": lambda: shuffled([word.encode() for word in WORDS]),
    "ints": lambda: shuffled([number * 1001 - 50_000 for number in range(200)] + [2**70, -(2**70)]),
    "frozenset of texts": lambda: shuffled(WORDS[:], frozenset),
    "floats": lambda: shuffled([1.5, -2.5, 1e300, float("inf")]),
    "mixed": lambda: shuffled([1, "1", b"1", 1.5, None, ..., (1, "a"), (1, 2), frozenset(["b", "a"]), "a", b"a", ()]),
    "tuples": lambda: shuffled([(word, number) for number, word in enumerate(WORDS)]),
    "nested": lambda: shuffled([frozenset(WORDS[i : i + 5]) for i in range(50)]),
    "nested deeper": lambda: shuffled([frozenset([frozenset([frozenset(WORDS[i : i + 3]), i])]) for i in range(20)]),
    "in tuples": lambda: shuffled([(frozenset(WORDS[i : i + 4]), word) for i, word in enumerate(WORDS[:40])]),
    "instances by value": lambda: shuffled([Point(word, (i, word)) for i, word in enumerate(WORDS[:50])]),
    "instances of several classes": lambda: shuffled([Point(1), Point("1"), "Point", Point(frozenset(WORDS[:9]))]),
    "members": lambda: shuffled([Member(word) for word in WORDS[:50]]),
    "classes and functions": lambda: shuffled([Point, Member, again, len, int, str]),
    "sets in instances": lambda: [Member(shuffled(WORDS[:20])), Point(shuffled(WORDS[:20], frozenset))],
    "large": lambda: shuffled([*range(2500)]),
    "subclasses": lambda: [shuffled(WORDS[:50], TextSet), FrozenTextSet(shuffled(WORDS[:50], frozenset))],
    "empty": lambda: [set(), frozenset(), {frozenset()}],
    "equal texts": lambda: ["text", again("text"), {again("text"): again("key"), "key": {again("text"), again("key")}}],
    "shared members": lambda: shared_members("word", ("a", "b")),
    "keys": lambda: {frozenset(WORDS[:8]): 1, Point(frozenset(WORDS[:8])): 2},
    "reached twice": lambda: reached_twice(shuffled(WORDS[:30], frozenset)),
}


def main(engine_name: str) -> None:
    """Print a digest for each value and binary protocol."""
    engine = importlib.import_module(engine_name)
    random.seed()
    for name, make in VALUES.items():
        for protocol in range(1, 6):
            data = engine.dumps(make(), protocol, canonical=True)
            print(name, protocol, hashlib.sha256(data).hexdigest()[:16])
            ids = engine.dumps(
                make(), protocol, canonical=True, inst_persistent_id=lambda o: o.name if type(o) is Member else None
            )
            print(name, protocol, "ids", hashlib.sha256(ids).hexdigest()[:16])


if __name__ == "__main__":
    # Under its own name, not as __main__: that is what the streams say.
    sys.path.insert(0, str(Path(__file__).parent))
    importlib.import_module("canonical_values").main(*sys.argv[1:])
