"""Counters that many sessions count up."""

from __future__ import annotations

import random
import time

import pstore


@pstore.persistent
class Counter:
    """Counts in a record of its own."""

    def __init__(self, value: int = 0) -> None:
        self.value = value


@pstore.persistent
class Doctor:
    """Is on call, or not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.on_call = True


@pstore.persistent
class Patient:
    """Has no attributes."""


def create(db: pstore.Store) -> None:
    """Put counters into an empty store: a record, an inline value, a named list, an atom."""
    db["record"], db["inline"], db["list"], db["atom"] = Counter(), {"counter": [0]}, [0], 0
    db.commit()


def count(db: pstore.Store, where: str) -> None:
    """Count one of them up."""
    if where == "record":
        db["record"].value += 1
    elif where == "inline":
        db["inline"]["counter"][0] += 1
    elif where == "list":
        db["list"][0] += 1
    else:
        db["atom"] += 1


def total(db: pstore.Store) -> int:
    """Return what all have come to."""
    return db["record"].value + db["inline"]["counter"][0] + db["list"][0] + db["atom"]


def count_often(db: pstore.Store, *, times: int, seed: int) -> int:
    """Count up so many times, each in a commit of its own; return the longest that one took, in milliseconds."""
    rng, longest = random.Random(seed), 0.0
    for _ in range(times):
        where, began = rng.choice(["record", "inline", "list", "atom"]), time.monotonic()
        db.run(lambda db, where=where: count(db, where))
        longest = max(longest, time.monotonic() - began)
    return round(longest * 1000)


def count_alone(path: str, *, isolation: str, times: int, seed: int) -> int:
    """The job of a process."""
    with pstore.open(path, isolation=isolation, durable=False) as db:
        return count_often(db, times=times, seed=seed)
