"""Models to race for: what is in a store, an invariant of it, and a next step that keeps the invariant.

Drivers in many sessions take steps at once. Each looks at the start of every transaction whether the invariant holds, in
its own snapshot and through the objects that it has held in memory all the time, so that a state which should have been
dropped would show. (After the race tests of ZODB; the idea only.)
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING, Any

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable

Held = dict[str, Any]


@pstore.persistent
class Twin:
    """Holds a number, alone and in containers of its own, and leads to another one."""

    def __init__(self, number: int, other: Twin | None = None) -> None:
        self.number = number
        self.inside = {"list": [number], "nested": {"number": number}}
        self.other = other


@pstore.persistent
class Cell:
    """Holds a part of what the board's cells hold together."""

    def __init__(self, number: int, amount: int) -> None:
        self.number = number
        self.amount = amount
        self.gone = False


@pstore.persistent
class Board:
    """Lists its cells."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.next = 0


class Twins:
    """Everything in the store is the same number, wherever and however it is kept; a step makes it the next."""

    #: Whether each step changes everything, so that of two at once one fails.
    exclusive = True

    def create(self, db: pstore.Store) -> None:
        """Put it into an empty store."""
        shared = {"number": 0}
        db["one"], db["two"] = Twin(0, Twin(0)), Twin(0)
        db["one"].shared = db["two"].shared = shared
        db["list"], db["atom"], db["past"] = [0], 0, [0]

    def look(self, db: pstore.Store, held: Held, rng: random.Random) -> int:
        """Return the number; every place is looked at, in any order."""
        if not held:
            held.update(one=db["one"], two=db["two"], list=db["list"], past=db["past"])
            held.update(other=held["one"].other, shared=held["one"].shared)
        numbers: dict[str, int] = {}
        places: dict[str, Callable[[], int]] = {
            "one": lambda: held["one"].number,
            "one's list": lambda: held["one"].inside["list"][0],
            "two": lambda: held["two"].number,
            "two's dict": lambda: held["two"].inside["nested"]["number"],
            "other": lambda: held["other"].number,
            "other's list": lambda: held["other"].inside["list"][0],
            "list": lambda: held["list"][0],
            "atom": lambda: db["atom"],
            "past": lambda: held["past"][-1],
            "shared": lambda: held["shared"]["number"],
            "one by name": lambda: db["one"].number,
            "other by name": lambda: db["one"].other.inside["nested"]["number"],
            "list by name": lambda: db["list"][0],
            "shared by one": lambda: db["one"].shared["number"],
        }
        for place in rng.sample(list(places), len(places)):
            numbers[place] = places[place]()
        assert len(set(numbers.values())) == 1, numbers
        number = numbers["one"]
        assert held["past"] == list(range(max(0, number - 20), number + 1))
        assert db["one"] is held["one"]
        assert db["one"].other is held["other"]
        assert db["one"].shared is db["two"].shared is held["shared"]
        assert len(db) == 5
        return number

    def step(self, db: pstore.Store, held: Held, rng: random.Random) -> None:
        """Make it the next number."""
        number = held["one"].number + 1
        for twin in rng.sample([held["one"], held["two"], held["other"]], 3):
            twin.number = twin.inside["list"][0] = twin.inside["nested"]["number"] = number
        held["list"][0] = held["shared"]["number"] = db["atom"] = number
        held["past"].append(number)
        del held["past"][:-21]


class Ledger:
    """The amounts of all cells have one sum. Cells come and go; those on the board are those that have names.

    Steps touch few cells, so that many succeed at once.
    """

    exclusive = False
    total = 1000

    def create(self, db: pstore.Store) -> None:
        """Put it into an empty store."""
        db["board"] = Board()
        self._add(db, db["board"], self.total)

    def look(self, db: pstore.Store, held: Held, rng: random.Random) -> list[list[int]]:
        """Return the cells' numbers and amounts."""
        board = held.setdefault("board", db["board"])
        assert db["board"] is board
        for name in [name for name, obj in held.items() if db.key_of(obj) is None]:
            del held[name]  # made in a transaction that failed, or in this one
        cells = {f"cell {cell.number}": cell for cell in board.cells}
        assert sorted(cells) == sorted(set(db) - {"board"})
        for name in rng.sample(list(cells), len(cells)):
            assert held.setdefault(name, cells[name]) is cells[name] is db[name]
            assert not cells[name].gone
        assert sum(cell.amount for cell in cells.values()) == self.total
        assert len(db) == len(cells) + 1
        for name in held.keys() - cells.keys() - {"board"}:
            assert held.pop(name).gone
        return sorted([cell.number, cell.amount] for cell in cells.values())

    def step(self, db: pstore.Store, held: Held, rng: random.Random) -> None:
        """Move an amount from one cell to another, that is there already or new; or move all of it, and drop the cell."""
        board, kind = held["board"], rng.random()
        one = rng.choice(board.cells)
        if len(board.cells) < 4 or (kind < 0.1 and len(board.cells) < 12):
            part = rng.randint(0, one.amount)
            one.amount -= part
            self._add(db, board, part)
            return
        other = rng.choice([cell for cell in board.cells if cell is not one])
        part = one.amount if kind < 0.2 else rng.randint(0, one.amount)
        one.amount -= part
        other.amount += part
        if kind < 0.2:
            one.gone = True
            board.cells.remove(one)
            del db[f"cell {one.number}"]

    def _add(self, db: pstore.Store, board: Board, amount: int) -> None:
        cell = Cell(board.next, amount)
        board.next += 1
        board.cells.append(cell)
        db[f"cell {cell.number}"] = cell


MODELS: dict[str, Any] = {"twins": Twins(), "ledger": Ledger()}
#: Takes what a session has seen: the revision, and the state in it.
Log = "Callable[[int, Any], Any]"


def drive(db: pstore.Store, model: Any, log: Log, *, number: int, rounds: int) -> int:
    """Take steps, and look all the time; return how many were committed."""
    rng, held, newest, committed = random.Random(number), {}, 0, 0
    for _ in range(rounds):
        revision = db.revision
        assert revision >= newest, f"revision {revision} is seen after {newest}"
        newest, state = revision, model.look(db, held, rng)
        log(revision, state)
        if rng.random() < 0.3:
            time.sleep(rng.random() * 0.003)
            assert model.look(db, held, rng) == state, "what was seen in this snapshot has changed"
            assert db.revision == revision
        if not rng.randrange(15):
            db.evict()
            assert model.look(db, held, rng) == state
        if not rng.randrange(10):
            db.rollback()
            continue
        model.step(db, held, rng)
        mine = model.look(db, held, rng)
        if not rng.randrange(10):
            db.rollback()
            continue
        try:
            newest = db.commit().revision
        except pstore.ConflictError:
            assert model.look(db, held, rng) == mine, "a commit that has failed has changed objects"
            db.rollback()
        else:
            committed += 1
            if model.exclusive:
                log(newest, mine)
    return committed


def compare(db: pstore.Store, fresh: Callable[[], pstore.Store], model: Any, log: Log, *, rounds: int) -> int:
    """Compare what a session sees that lasts with what new ones see; return how often both saw the same revision."""
    rng, held, same = random.Random(0), {}, 0
    for _ in range(rounds):
        revision, state = db.revision, model.look(db, held, rng)
        log(revision, state)
        with fresh() as other:
            if other.revision == revision:
                same += 1
                assert model.look(other, {}, rng) == state
            else:
                assert other.revision > revision
                log(other.revision, model.look(other, {}, rng))
        db.rollback()
        time.sleep(0.0005)
    return same


def drive_alone(path: str, log: str, *, model: str, number: int, rounds: int, **options: Any) -> int:
    """The job of a process: the same in a store of its own; the log is a file."""
    file = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def write(revision: int, state: Any) -> None:
        os.write(file, json.dumps([revision, state]).encode() + b"\n")

    db = pstore.open(path, durable=False, **options)
    if number:
        done = drive(db, MODELS[model], write, number=number, rounds=rounds)
    else:
        done = compare(db, lambda: pstore.open(path, "r"), MODELS[model], write, rounds=rounds)
    db.rollback()
    db.close()
    return done
