"""The checker of isolation finds every anomaly in a history that has it, and none in one that doesn't."""

from __future__ import annotations

import itertools
import random
from typing import Any

import elle
import pytest
from elle import Append, Read, Transaction

NEVER = float("inf")


def txn(text: str, outcome: str = "ok", *, invoked: float = 0, completed: float = NEVER, name: str = "") -> Transaction:
    """A transaction: "r x 12; a x 3" reads x as (1, 2) and appends 3 to it."""
    ops: list[Read | Append] = []
    for part in text.split("; "):
        kind, key, *values = part.split()
        digits = [int(digit) for value in values for digit in value]
        ops.append(Read(key, tuple(digits)) if kind == "r" else Append(key, digits[0]))
    return Transaction(tuple(ops), outcome, invoked, completed, name)


def kinds(*history: Transaction) -> set[str]:
    """The names of all anomalies of a history."""
    return {anomaly.kind for anomaly in elle.check(history)}


# Each: the anomaly; a history that has it and no other; one that is close to it and has none.
ANOMALIES: dict[str, tuple[list[Transaction], list[Transaction]]] = {
    "own append isn't read": (
        [txn("r x; a x 1; r x")],
        [txn("r x; a x 1; r x 1")],
    ),
    "two reads differ": (
        [txn("a x 1"), txn("r x; r x 1")],
        [txn("a x 1"), txn("r x 1; r x 1")],
    ),
    "read before it was appended": (
        [txn("r x 1; a x 1")],
        [txn("r x; a x 1"), txn("r x 1")],
    ),
    "garbage": (
        [txn("r x 7")],
        [txn("a x 7", "info"), txn("r x 7")],
    ),
    "aborted read": (
        [txn("a x 1", "fail"), txn("r x 1")],
        [txn("a x 1", "fail"), txn("r x")],
    ),
    "intermediate read": (
        [txn("a x 1; a x 2"), txn("r x 1"), txn("r x 12")],
        [txn("a x 1; a x 2"), txn("r x"), txn("r x 12")],
    ),
    "duplicate": (
        [txn("a x 1"), txn("r x 11")],
        [txn("a x 1"), txn("a y 1"), txn("r x 1; r y 1")],
    ),
    "incompatible orders": (
        [txn("a x 1"), txn("a x 2"), txn("r x 12"), txn("r x 21")],
        [txn("a x 1"), txn("a x 2"), txn("r x 12"), txn("r x 1")],
    ),
    "lost update": (
        [txn("r x; a x 1"), txn("r x; a x 2"), txn("r x 1")],
        [txn("r x; a x 1"), txn("r x 1; a x 2"), txn("r x 1")],
    ),
    "lost update of an info": (
        [txn("r x; a x 1", "info"), txn("r x; a x 2"), txn("r x 21")],
        [txn("r x; a x 1", "info"), txn("r x; a x 2"), txn("r x 2")],
    ),
    "dirty write": (
        [txn("a x 1; a y 1"), txn("a x 2; a y 2"), txn("r x 12; r y 21")],
        [txn("a x 1; a y 1"), txn("a x 2; a y 2"), txn("r x 12; r y 12")],
    ),
    "circular flow": (
        [txn("a x 1; r y 1"), txn("a y 1; r x 1")],
        [txn("a x 1; r y"), txn("a y 1; r x 1")],
    ),
    "read skew": (
        [txn("a x 1; a y 1"), txn("r x 1; r y")],
        [txn("a x 1; a y 1"), txn("r x; r y"), txn("r x 1; r y 1")],
    ),
    "read skew over two": (
        [txn("a x 1"), txn("r x 1; a y 1"), txn("r x; r y 1")],
        [txn("a x 1"), txn("r x 1; a y 1"), txn("r x 1; r y")],
    ),
    "long fork": (
        [txn("a x 1"), txn("a y 1"), txn("r x 1; r y"), txn("r x; r y 1")],
        [txn("a x 1"), txn("a y 1"), txn("r x 1; r y"), txn("r x 1; r y 1")],
    ),
    "write skew": (
        [txn("r x; r y; a x 1"), txn("r x; r y; a y 1"), txn("r x 1; r y 1")],
        [txn("r x; r y; a x 1"), txn("r x 1; r y; a y 1"), txn("r x 1; r y 1")],
    ),
    "write skew that nobody reads": (
        [txn("r y; a x 1"), txn("r x; a y 1")],
        [txn("r y 1; a x 1"), txn("r x; a y 1")],
    ),
    "read-only anomaly": (  # Fekete, O'Neil and O'Neil, 2004
        [txn("r x; r y; a x 1"), txn("r y; a y 1"), txn("r x; r y 1"), txn("r x 1; r y 1")],
        [txn("r x; r y; a x 1"), txn("r y; a y 1"), txn("r x; r y"), txn("r x 1; r y 1")],
    ),
    "stale read": (
        [txn("a x 1", invoked=1, completed=2), txn("r x", invoked=3, completed=4), txn("r x 1", invoked=5)],
        [txn("a x 1", invoked=1, completed=4), txn("r x", invoked=3, completed=4), txn("r x 1", invoked=5)],
    ),
    "lost append": (
        [txn("a x 1", invoked=1, completed=2), txn("r x", invoked=3, completed=4)],
        [txn("a x 1", "info", invoked=1), txn("r x", invoked=3, completed=4)],
    ),
    "read of the future": (
        [txn("r x 1", invoked=1, completed=2), txn("a x 1", invoked=3, completed=4)],
        [txn("r x 1", invoked=1, completed=3), txn("a x 1", invoked=2, completed=4)],
    ),
    "order against time": (
        [
            txn("a x 1", invoked=1, completed=2),
            txn("a x 2", invoked=3, completed=4),
            txn("r x 21", invoked=1, completed=9),
        ],
        [
            txn("a x 1", invoked=1, completed=3),
            txn("a x 2", invoked=2, completed=4),
            txn("r x 21", invoked=1, completed=9),
        ],
    ),
    "write skew over time": (
        [
            txn("r x; a y 1", invoked=1, completed=6),
            txn("a x 1", invoked=1, completed=2),
            txn("r y; a z 1", invoked=3, completed=4),
            txn("r x 1; r y 1; r z 1", invoked=7),
        ],
        [
            txn("r x; a y 1", invoked=1, completed=6),
            txn("a x 1", invoked=1, completed=4),
            txn("r y; a z 1", invoked=3, completed=4),
            txn("r x 1; r y 1; r z 1", invoked=7),
        ],
    ),
}
KINDS = {
    "own append isn't read": {"internal"},
    "two reads differ": {"internal"},
    "read before it was appended": {"internal"},
    "garbage": {"garbage read"},
    "aborted read": {"G1a"},
    "intermediate read": {"G1b", "G-single"},  # half a transaction is also a skew
    "duplicate": {"duplicate"},
    "incompatible orders": {"incompatible order"},
    "lost update": {"lost update", "G-single"},
    "lost update of an info": {"lost update", "G-single"},
    "dirty write": {"G0"},
    "circular flow": {"G1c"},
    "read skew": {"G-single"},
    "read skew over two": {"G-single"},
    "long fork": {"G-nonadjacent"},
    "write skew": {"G2"},
    "write skew that nobody reads": {"G2"},
    "read-only anomaly": {"G2"},
    "stale read": {"G-single-time"},
    "lost append": {"G-single-time"},
    "read of the future": {"G1c-time"},
    "order against time": {"G0-time"},
    "write skew over time": {"G2-time"},
}
ALLOWED_BY_SNAPSHOTS = {"write skew", "write skew that nobody reads", "read-only anomaly", "write skew over time"}


@pytest.mark.parametrize("anomaly", ANOMALIES)
def test_anomaly_is_found(anomaly: str) -> None:
    """It is reported by its name, in whatever order the transactions are listed, and forbidden where it has to be."""
    history = ANOMALIES[anomaly][0]
    for listed in itertools.permutations(history):
        assert kinds(*listed) == KINDS[anomaly]
    assert elle.forbidden(history, "serializable")
    assert bool(elle.forbidden(history, "snapshot")) == (anomaly not in ALLOWED_BY_SNAPSHOTS)


@pytest.mark.parametrize("anomaly", ANOMALIES)
def test_no_anomaly_is_found_where_there_is_none(anomaly: str) -> None:
    """A history that is nearly the same, and sound, gives no report."""
    assert elle.check(ANOMALIES[anomaly][1]) == []


def test_every_kind_is_tested() -> None:
    """There is a history for each anomaly that is ever forbidden, but for those that time adds to a long fork."""
    assert set().union(*KINDS.values()) == elle.FORBIDDEN["serializable"] - {"G-nonadjacent-time"}


def test_what_is_told() -> None:
    """A report names the transactions, the keys and the values."""
    (found,) = elle.check([txn("a x 1; a y 2", name="writer"), txn("r x 1; r y", name="reader")])
    assert found.kind == "G-single"
    assert found.told == "reader -rw (y: not what writer appended)-> writer -wr (x: 1)-> reader"


def test_values_are_appended_once() -> None:
    """A history that appends a value twice is refused."""
    with pytest.raises(ValueError, match="1 is appended to x twice"):
        elle.check([txn("a x 1"), txn("a x 1")])


def test_what_the_failed_read_counts_when_asked_for() -> None:
    """A transaction that failed may be held to its snapshot, too; what it read behind its own appends is left out."""
    history = [txn("a x 1; a y 1"), txn("r x 1; a x 2; r x 12; r y", "fail"), txn("r x 1; r y 1")]
    assert elle.check(history) == []
    history = elle.with_what_the_failed_read(history)
    assert len(history) == 4
    assert kinds(*history) == {"G-single"}


def test_long_histories_are_checked() -> None:
    """A thousand transactions in a row need no recursion, and an anomaly among them is found."""
    history = [
        txn(f"r {key}; a {key} 1", invoked=at, completed=at + 1) for at, key in enumerate(map(str, range(0, 3000, 3)))
    ]
    history += [Transaction((Read(str(at), (1,)), Append(f"y{at}", at)), "ok", 5000 + at) for at in range(0, 3000, 3)]
    assert elle.check(history) == []
    history.append(txn("r 2700", invoked=6000))
    assert kinds(*history) == {"G-single-time"}


# ------------------------------------------------------------------------------------------------- databases with faults


class Database:
    """A database of lists, one step of one transaction at a time, with the faults that it is told to have.

    Args:
        faults: "lost": a commit doesn't look for others' commits to the same key. "committed": reads see the newest
            commits. "uncommitted": and what isn't committed. "stale": a snapshot may be an older one.
        validating: Whether a commit compares what was read as well, as for serializable isolation.
    """

    def __init__(self, faults: set[str], *, validating: bool) -> None:
        self.faults, self.validating = faults, validating
        self.states: list[dict[str, tuple[int, ...]]] = [{}]
        self.running: list[Running] = []


class Running:
    """A transaction of such a database."""

    def __init__(self, database: Database, rng: random.Random, now: float) -> None:
        self.database, self.invoked = database, now
        newest = len(database.states) - 1
        self.began = max(0, newest - rng.randint(0, 20)) if "stale" in database.faults else newest
        self.wrote: dict[str, tuple[int, ...]] = {}
        self.read: set[str] = set()
        self.ops: list[Any] = []
        database.running.append(self)

    def get(self, key: str) -> tuple[int, ...]:
        self.read.add(key)
        if "uncommitted" in self.database.faults:
            for other in self.database.running:
                if other is not self and key in other.wrote:
                    return other.wrote[key]
        if key in self.wrote:
            return self.wrote[key]
        at = -1 if "committed" in self.database.faults else self.began
        return self.database.states[at].get(key, ())

    def do(self, key: str, value: int | None) -> None:
        current = self.get(key)
        self.ops.append(Read(key, current))
        if value is not None:
            self.ops.append(Append(key, value))
            self.wrote[key] = (*current, value)

    def commit(self, now: float) -> Transaction:
        newest, began = self.database.states[-1], self.database.states[self.began]
        compared = self.read if self.database.validating and self.wrote else set(self.wrote)
        conflict = "lost" not in self.database.faults and any(newest.get(k) != began.get(k) for k in compared)
        if self.wrote and not conflict:
            self.database.states.append({**newest, **self.wrote})
        self.database.running.remove(self)
        return Transaction(tuple(self.ops), "fail" if conflict else "ok", self.invoked, now)


def run(faults: set[str], seed: int, *, validating: bool = False) -> list[Transaction]:
    """A history of a database."""
    rng, database = random.Random(seed), Database(faults, validating=validating)
    history: list[Transaction] = []
    values = itertools.count()
    for now in range(1000):
        if len(database.running) < 4:
            Running(database, rng, now)
        one = rng.choice(database.running)
        if len(one.ops) >= 4:
            history.append(one.commit(now))
        else:
            one.do(rng.choice("xyz"), next(values) if rng.random() < 0.5 else None)
    return history


@pytest.mark.parametrize("seed", range(10))
def test_sound_databases_pass(seed: int) -> None:
    """A database with snapshots shows no more than write skew, one that validates what was read shows nothing at all."""
    snapshots = elle.with_what_the_failed_read(run(set(), seed))
    assert elle.forbidden(snapshots, "snapshot") == []
    assert {found.kind for found in elle.check(snapshots)} <= {"G2", "G2-time"}
    assert elle.check(elle.with_what_the_failed_read(run(set(), seed, validating=True))) == []


def test_faulty_databases_are_caught() -> None:
    """Each fault shows in most of ten short histories; write skew does where only snapshots are promised."""
    for fault, expected in {
        "lost": "lost update",
        "committed": "internal",
        "uncommitted": "G1a",
        "stale": "G-single-time",
    }.items():
        found = [{a.kind for a in elle.forbidden(run({fault}, seed), "snapshot")} for seed in range(10)]
        assert sum(map(bool, found)) > 5, fault
        assert any(expected in kinds for kinds in found), (fault, found)
    skewed = ["G2" in {a.kind for a in elle.forbidden(run(set(), seed), "serializable")} for seed in range(10)]
    assert sum(skewed) > 5
