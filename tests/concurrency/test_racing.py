"""Sessions race to change a store, and none ever sees an old state of a record beside a new one of another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import racing
from teams import SCALE, Job, in_processes, in_threads

import pstore

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends import Backend

#: What the drivers' sessions are opened with: one forgets nearly everything between two transactions.
OPTIONS: list[dict[str, Any]] = [
    {},
    {"isolation": "snapshot"},
    {"isolation": "serializable"},
    {"isolation": "snapshot", "cache_size": 2},
]


def agree(seen: list[tuple[int, Any]]) -> None:
    """Assert that whoever has seen a revision has seen the same state in it."""
    states: dict[int, Any] = {}
    for revision, state in seen:
        assert states.setdefault(revision, state) == state, f"revision {revision} was seen in two ways"


@pytest.mark.parametrize("model", racing.MODELS)
@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_threads(any_backend: Backend, model: str, isolation: str) -> None:
    """Threads that step at once keep the invariant, and all of them and new sessions see the same in each revision."""
    db = pstore.open(any_backend)
    racing.MODELS[model].create(db)
    db.commit()
    seen: list[tuple[int, Any]] = []

    def log(revision: int, state: Any) -> None:
        seen.append((revision, state))

    def driver(number: int) -> int:
        with db.session(isolation=isolation) as session:
            done = racing.drive(session, racing.MODELS[model], log, number=number, rounds=int(60 * SCALE))
            session.rollback()
        return done

    def comparer() -> int:
        with db.session() as session:
            return racing.compare(session, db.session, racing.MODELS[model], log, rounds=int(60 * SCALE))

    *committed, same = in_threads(lambda: driver(1), lambda: driver(2), lambda: driver(3), comparer)
    assert all(committed)
    assert same
    agree(seen)
    racing.MODELS[model].look(db, {}, racing.random.Random(0))
    db.close()


@pytest.mark.parametrize("model", racing.MODELS)
def test_processes(path: Path, model: str) -> None:
    """The same for processes."""
    with pstore.open(path) as db:
        racing.MODELS[model].create(db)
    logs = [path.with_name(f"log {number}") for number in range(4)]
    options = {"path": str(path), "model": model, "rounds": int(150 * SCALE)}
    jobs = [
        Job("racing.drive_alone", log=str(log), number=number, **options, **OPTIONS[number])
        for number, log in enumerate(logs)
    ]
    same, *committed = in_processes(*jobs)
    assert all(committed)
    assert same
    seen = [(*json.loads(line),) for log in logs for line in log.read_text().splitlines()]
    assert len(seen) > 4 * 100 * SCALE
    agree(seen)
    with pstore.open(path, "w") as db:
        racing.MODELS[model].look(db, {}, racing.random.Random(0))
