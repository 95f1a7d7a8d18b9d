"""Random graphs of every kind of object, shared and circular: what comes back is the same graph."""

from __future__ import annotations

import pickle
import random
import re
from typing import Any

import pytest
from looking import Asking, LookingRecord, Made
from shop import Person, Plain, Reduced, Stack

import pstore
from pstore.backends import MemoryBackend

KINDS: tuple[Any, ...] = (list, dict, Plain, Person, Reduced, Stack, lambda: LookingRecord(None), Asking, Made)
ALLOW = ["shop", "looking"]


def link(obj: Any, part: Any, number: int) -> None:
    """Make an object hold another one, in a way of its kind."""
    if isinstance(obj, list):
        obj.append(part)
    elif isinstance(obj, dict):
        obj[number] = part
    elif isinstance(obj, Made) or (isinstance(obj, Reduced) and number % 2):
        obj.parts += (part,)
    elif isinstance(obj, Reduced):
        obj.extra = part
    elif isinstance(obj, (LookingRecord, Asking)):
        obj.part = part
    else:
        setattr(obj, f"part{number}", part)


def spoil(obj: Any) -> None:
    """Change an object."""
    if not isinstance(obj, Made):  # whose parts are its constructor's
        link(obj, "spoilt", 0)


def parts(obj: Any) -> list[Any]:
    """What an object holds, in order."""
    if isinstance(obj, list):
        return [*obj]
    return [*(obj if isinstance(obj, dict) else vars(obj)).values()]


def shape(roots: list[Any]) -> list[Any]:
    """The graph, with a number for each object: equal for isomorphic graphs."""
    numbers: dict[int, int] = {}
    objects: list[Any] = []

    def number(obj: Any) -> Any:
        if obj is None or isinstance(obj, str):
            return repr(obj)
        if isinstance(obj, tuple):
            return tuple(map(number, obj))
        if id(obj) not in numbers:
            numbers[id(obj)] = len(objects)
            objects.append(obj)
        return numbers[id(obj)]

    found: list[Any] = [[number(root) for root in roots]]
    for obj in objects:  # which grows
        held = parts(obj)
        found.append((obj.__class__.__name__, [number(part) for part in held]))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs(seed: int) -> None:
    """A graph is the same after it was stored and loaded from any side, and after changes that were rolled back.

    Storing it again writes nothing. What is refused is only what is made from itself.
    """
    chance = random.Random(seed)
    refused: list[str] = []
    for _ in range(60):
        objects = [chance.choice(KINDS)() for _ in range(chance.randint(2, 9))]
        for number in range(chance.randint(1, 3) * len(objects)):
            link(chance.choice(objects), chance.choice(objects), number)
        roots = chance.sample(objects, chance.randint(1, len(objects)))
        names = [f"root{number}" for number in range(len(roots))]
        wanted = shape(roots)
        backend = MemoryBackend()
        db = pstore.open(backend, allow=ALLOW)
        db.update(zip(names, roots, strict=True))
        try:
            db.commit()
        except pickle.PicklingError as error:
            refused.append(str(error))
            db.rollback()
            db.close()
            continue
        assert shape(roots) == wanted
        assert db.commit().keys == ()
        db.close()
        db = pstore.open(backend, allow=ALLOW)
        for name in chance.sample(names, len(names)):
            _ = db[name]
        assert shape([db[name] for name in names]) == wanted
        assert db.commit().keys == ()
        for name in names:
            spoil(db[name])
        db.rollback()
        assert shape([db[name] for name in names]) == wanted
        assert db.commit().keys == ()
        db.close()
    assert len(refused) < 30
    assert all(re.search("leads? (back )?to the (object itself|same object)", message) for message in refused)
