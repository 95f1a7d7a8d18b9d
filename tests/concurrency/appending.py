"""A workload for the checker of isolation: transactions that read lists in a store, and append to them.

The lists are kept in every way that a store has: several in one record, each in a record of its own, as a named list, as
a tuple in the row of a name, and in records and names that appear only when somebody appends to them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from elle import Append, Read, Transaction

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: The lists that are there from the beginning. "late N" and "later N" come to be.
KEYS = ("bundle a", "bundle b", "record a", "record b", "shelf a", "list a", "list b", "atom a", "atom b")


@pstore.persistent
class Bundle:
    """Several lists in one record."""

    def __init__(self) -> None:
        self.lists: dict[str, list[int]] = {"a": [], "b": []}


@pstore.persistent
class Register:
    """A list in a record of its own."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.values: list[int] = []


@pstore.persistent
class Late(Register):
    """One that is made when it is needed."""


def create(db: pstore.Store) -> None:
    """Put the lists into an empty store."""
    db["bundle"] = Bundle()
    db["shelf"] = [Register("shelf a")]
    for key in KEYS:
        if key.startswith("record"):
            db[key] = Register(key)
        elif key.startswith("list"):
            db[key] = []
    db.commit()


class Lists:
    """The lists of one session.

    Args:
        db: The session.
        holding: Whether objects are held from one transaction to the next, or looked up by name each time.
    """

    def __init__(self, db: pstore.Store, *, holding: bool) -> None:
        self.db = db
        self.holding = holding
        self.held: dict[str, Any] = {}

    def read(self, key: str) -> tuple[int, ...]:
        """Return what stands in a list."""
        kind, _, which = key.partition(" ")
        if kind == "atom":
            return tuple(self.db.get(key, ()))
        if kind in {"late", "later"}:
            return tuple(self.db[key].values) if key in self.db else ()
        return tuple(self.list_of(kind, key, which))

    def append(self, key: str, value: int) -> None:
        """Append to a list."""
        kind, _, which = key.partition(" ")
        if kind == "atom":
            self.db[key] = (*self.db.get(key, ()), value)
        elif kind in {"late", "later"}:
            if key not in self.db:
                self.db[key] = Late(key)
            self.db[key].values.append(value)
        else:
            self.list_of(kind, key, which).append(value)

    def list_of(self, kind: str, key: str, which: str) -> list[int]:
        """Return the list itself."""
        if kind == "bundle":
            return self.get(kind).lists[which]
        if kind == "shelf":
            return self.get(kind)[0].values
        return self.get(key).values if kind == "record" else self.get(key)

    def get(self, name: str) -> Any:
        """Return the object under a name."""
        if not self.holding:
            return self.db[name]
        if name not in self.held:
            self.held[name] = self.db[name]
        return self.held[name]

    def scan(self, keys: Iterable[str], rng: random.Random) -> Iterator[Read]:
        """Yield what stands in each list, found by looking for all names, or for all instances."""
        if rng.random() < 0.5:
            names = set(self.db)
            for key in keys:
                yield Read(key, tuple(self.db[key].values) if key in names else ())
        else:
            found = {late.key: late for late in self.db.instances(Late)}
            for key in keys:
                yield Read(key, tuple(found[key].values) if key in found else ())


def work(
    db: pstore.Store,
    log: Callable[[str], Any],
    *,
    number: int,
    count: int,
    pause: float = 0.001,
    before_commit: Callable[[int], Any] = lambda at: None,
) -> None:
    """Run transactions, and log each one before and after its commit.

    Args:
        db: The session.
        log: Takes lines.
        number: Of this worker; each has one of its own.
        count: How many transactions.
        pause: At most this many seconds pass between two operations, now and then.
        before_commit: Called with the number of the transaction.
    """
    rng = random.Random(number)
    lists = Lists(db, holding=bool(number % 2))
    value = number * 1_000_000
    for at in range(count):
        invoked = time.monotonic()
        db.rollback()
        assert db.revision >= 0  # the snapshot begins here: an access to a list that is held tells the store nothing
        if not rng.randrange(20):
            db.evict()
        ops: list[Read | Append] = []
        appends = rng.random() < 0.8
        keys = [*rng.choices(KEYS, k=3), *(f"{kind} {at // 25 + rng.randint(-1, 1)}" for kind in ("late", "later"))]
        for _ in range(rng.randint(1, 5)):
            if rng.random() < pause * 300:
                time.sleep(rng.random() * pause)
            key = rng.choice(keys)
            appended = {op.key for op in ops if isinstance(op, Append)}
            late = [f"later {at // 25 + n}" for n in range(-2, 3)]
            if rng.random() < 0.15 and appended.isdisjoint(late):
                ops += lists.scan(late, rng)
                continue
            if rng.random() < 0.8:
                ops.append(Read(key, lists.read(key)))
            if appends and rng.random() < 0.5:
                value += 1
                lists.append(key, value)
                ops.append(Append(key, value))
        log(json.dumps({"at": at, "invoked": invoked, "ops": ops}))
        before_commit(at)
        outcome = "fail"
        if rng.random() < 0.95:
            try:
                db.commit()
                outcome = "ok"
            except pstore.ConflictError:
                pass
        log(json.dumps({"at": at, "outcome": outcome, "completed": time.monotonic()}))
    db.rollback()


def work_alone(target: str, log: str, *, isolation: str, killed_at: int | None = None, **options: Any) -> None:
    """The job of a process: open the store of a path or URL, and work; the log is a file, and a line is written at once.

    With `killed_at` it is killed a moment after it has begun that commit.
    """
    file = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    db = pstore.open(target, isolation=isolation, durable=False)
    moment = random.Random(log).random() * 0.002

    def kill(at: int) -> None:
        if at == killed_at:
            threading.Timer(moment, os.kill, [os.getpid(), signal.SIGKILL]).start()

    work(db, lambda line: os.write(file, line.encode() + b"\n"), before_commit=kill, **options)
    db.close()


def read_log(lines: Iterable[str], name: str) -> list[Transaction]:
    """Return the transactions of a log. What was begun and not ended may have been committed, or not."""
    begun: dict[int, dict[str, Any]] = {}
    for line in lines:
        entry = json.loads(line)
        begun.setdefault(entry["at"], {}).update(entry)
    return [
        Transaction(
            tuple(Read(op[0], tuple(op[1])) if isinstance(op[1], list) else Append(*op) for op in entry["ops"]),
            entry.get("outcome", "info"),
            entry["invoked"],
            entry.get("completed", float("inf")),
            f"{name}.{at}",
        )
        for at, entry in begun.items()
    ]


def last_look(db: pstore.Store, history: list[Transaction]) -> Transaction:
    """Return a transaction that reads all lists of a history, when all others have ended."""
    invoked = time.monotonic()
    lists = Lists(db, holding=False)
    keys = sorted({op.key for transaction in history for op in transaction.ops})
    return Transaction(tuple(Read(key, lists.read(key)) for key in keys), "ok", invoked, time.monotonic(), "last look")
