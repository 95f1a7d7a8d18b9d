"""What each isolation promises, checked over histories of transactions that threads and processes have run at once."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import appending
import elle
import pytest
from teams import SCALE, Job, in_processes, in_threads

import pstore

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends import Backend

ISOLATIONS = ("snapshot", "serializable")


def judge(history: list[elle.Transaction], isolation: str) -> dict[str, int]:
    """Assert that there is nothing that the isolation forbids; return how many transactions had each outcome."""
    counts = {outcome: sum(t.outcome == outcome for t in history) for outcome in ("ok", "fail", "info")}
    found = elle.forbidden(elle.with_what_the_failed_read(history), isolation)
    assert found == [], f"{len(found)} of {counts}: " + "\n".join(f"{a.kind}: {a.told}" for a in found[:5])
    return counts


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_threads(backend: Backend, isolation: str) -> None:
    """Sessions in threads see no more of each other than their isolation allows, on each backend."""
    db = pstore.open(backend, isolation=isolation)
    appending.create(db)
    logs: list[list[str]] = [[] for _ in range(3)]

    def job(number: int) -> None:
        with db.session() as session:
            appending.work(session, logs[number].append, number=number, count=int(150 * SCALE))

    in_threads(*(lambda n=number: job(n) for number in range(3)))
    history = [t for number, log in enumerate(logs) for t in appending.read_log(log, str(number))]
    history.append(appending.last_look(db, history))
    counts = judge(history, isolation)
    assert counts["ok"] > 150
    assert counts["fail"] > 20
    db.close()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_processes(path: Path, isolation: str) -> None:
    """Nor do sessions in processes."""
    with pstore.open(path) as db:
        appending.create(db)
    logs = [path.with_name(f"log {number}") for number in range(3)]
    options = {"path": str(path), "isolation": isolation, "count": int(250 * SCALE)}
    in_processes(*(Job("appending.work_alone", log=str(log), number=n, **options) for n, log in enumerate(logs)))
    history = [t for log in logs for t in appending.read_log(log.read_text().splitlines(), log.name)]
    with pstore.open(path, "w") as db:
        history.append(appending.last_look(db, history))
    counts = judge(history, isolation)
    assert counts["ok"] > 250
    assert counts["fail"] > 20


def test_snapshot_and_serializable_together(path: Path) -> None:
    """A store takes sessions of both isolations at once; what those that are serializable see isn't spoilt for snapshots."""
    with pstore.open(path) as db:
        appending.create(db)
    logs = [path.with_name(f"log {number}") for number in range(2)]
    options = {"path": str(path), "count": int(150 * SCALE)}
    in_processes(
        *(
            Job("appending.work_alone", log=str(log), number=n, isolation=ISOLATIONS[n], **options)
            for n, log in enumerate(logs)
        )
    )
    history = [t for log in logs for t in appending.read_log(log.read_text().splitlines(), log.name)]
    with pstore.open(path, "w") as db:
        history.append(appending.last_look(db, history))
    judge(history, "snapshot")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_killed_processes(path: Path, isolation: str) -> None:
    """Processes that are killed while they commit leave all of a transaction or nothing, and nothing that isn't allowed."""
    with pstore.open(path) as db:
        appending.create(db)
    rng = random.Random(3)
    logs = [path.with_name(f"log {number}") for number in range(int(15 * SCALE))]
    options = {"path": str(path), "isolation": isolation, "count": 10**6, "pause": 0.0002}
    running: list[Job] = []
    try:
        for number, log in enumerate(logs):
            killed_at = rng.randint(20, 60)
            running.append(Job("appending.work_alone", log=str(log), number=number, killed_at=killed_at, **options))
            if len(running) > 2:
                assert running.pop(0).killed() == signal.SIGKILL
        for job in running:
            assert job.killed() == signal.SIGKILL
    finally:
        for job in running:
            job.kill()
    history = [t for log in logs for t in appending.read_log(log.read_text().splitlines(), log.name)]
    with pstore.open(path, "w") as db:
        history.append(appending.last_look(db, history))
    counts = judge(history, isolation)
    assert counts["info"] > 3, "nobody was killed in a commit"
    assert counts["ok"] > 100
