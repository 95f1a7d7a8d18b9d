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


def read_log(log: Path) -> list[elle.Transaction]:
    """Return the transactions that a process has logged.

    A process that was killed may have written a part of a line: what it was about to commit, and then it hasn't begun to; or
    how a commit has ended, and then that is unknown.
    """
    whole, _, _ = log.read_text().rpartition("\n")
    return appending.read_log(whole.splitlines(), log.name)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_threads(any_backend: Backend, isolation: str) -> None:
    """Sessions in threads see no more of each other than their isolation allows, on each backend."""
    db = pstore.open(any_backend, isolation=isolation)
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
def test_processes(shared_url: str, tmp_path: Path, isolation: str) -> None:
    """Nor do sessions in processes, on each backend that processes can share."""
    with pstore.open(shared_url) as db:
        appending.create(db)
    logs = [tmp_path / f"log {number}" for number in range(3)]
    options = {"target": shared_url, "isolation": isolation, "count": int(250 * SCALE)}
    in_processes(*(Job("appending.work_alone", log=str(log), number=n, **options) for n, log in enumerate(logs)))
    history = [t for log in logs for t in read_log(log)]
    with pstore.open(shared_url, "w") as db:
        history.append(appending.last_look(db, history))
    counts = judge(history, isolation)
    assert counts["ok"] > 250
    assert counts["fail"] > 20


def test_snapshot_and_serializable_together(path: Path) -> None:
    """A store takes sessions of both isolations at once; what those that are serializable see isn't spoilt for snapshots."""
    with pstore.open(path) as db:
        appending.create(db)
    logs = [path.with_name(f"log {number}") for number in range(2)]
    options = {"target": str(path), "count": int(150 * SCALE)}
    in_processes(
        *(
            Job("appending.work_alone", log=str(log), number=n, isolation=ISOLATIONS[n], **options)
            for n, log in enumerate(logs)
        )
    )
    history = [t for log in logs for t in read_log(log)]
    with pstore.open(path, "w") as db:
        history.append(appending.last_look(db, history))
    judge(history, "snapshot")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_killed_processes(shared_url: str, tmp_path: Path, isolation: str) -> None:
    """Processes that are killed while they commit leave all of a transaction or nothing, and nothing that isn't allowed."""
    with pstore.open(shared_url) as db:
        appending.create(db)
    rng = random.Random(3)
    logs: list[Path] = []
    options = {"target": shared_url, "isolation": isolation, "count": 10**6, "pause": 0.0002}

    def killed_in_commits() -> int:
        return sum(t.outcome == "info" for log in logs for t in read_log(log))

    # How many of a number of processes are caught within a commit is chance, and the machine's speed.
    while len(logs) < 15 * SCALE or (killed_in_commits() <= 3 and len(logs) < 150):
        team: list[Job] = []
        try:
            for _ in range(3):
                logs.append(tmp_path / f"log {len(logs)}")
                killing = {"number": len(logs), "killed_at": rng.randint(20, 60)}
                team.append(Job("appending.work_alone", log=str(logs[-1]), **killing, **options))
            for job in team:
                assert job.killed() == signal.SIGKILL
        finally:
            for job in team:
                job.kill()
    history = [t for log in logs for t in read_log(log)]
    with pstore.open(shared_url, "w") as db:
        history.append(appending.last_look(db, history))
    counts = judge(history, isolation)
    assert counts["info"] > 3, "nobody was killed in a commit"
    assert counts["ok"] > 100
