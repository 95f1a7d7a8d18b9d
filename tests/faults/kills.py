"""Processes killed (`kill -9`) at random moments of opening, committing, compacting and closing a store.

The next process finds every acknowledged transaction, and of the one that was under way all or nothing. The store of one
case is where the next goes on, so what one has left is what another has to recover.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import processes
import workload

import pstore

if TYPE_CHECKING:
    from pathlib import Path

    from places import Kind

#: After so many cases a new store is begun.
_CASES_A_STORE = 25


def work(url: str, tell: Any, rng: random.Random) -> None:
    """The child's job: commit until killed; tell what is being done, and which transaction was acknowledged."""
    patience = rng.choice([2, 5, 1000])
    while True:
        tell("open")
        db = pstore.open(url)
        tell("commit")
        number = db.get("last", 0)
        for _ in range(rng.randint(1, patience)):
            number += 1
            workload.step(db, number)
            db.commit()
            tell(number)
        if rng.random() < 0.3:
            tell("compact")
            db.compact()
        tell("close")
        db.close()


def run(kind: Kind, directory: Path, count: int, seed: int) -> Counter[str]:
    """Kill so many times; return how often each was under way.

    Raises:
        AssertionError: Something was lost, half there, or unreadable.
    """
    outcome: Counter[str] = Counter()
    model, acknowledged = workload.Model(), 0
    assert kind.url is not None
    for case in range(count):
        rng = random.Random(f"{seed}:{case}")
        where = directory / f"kills {case // _CASES_A_STORE}"
        if case % _CASES_A_STORE == 0:
            shutil.rmtree(directory / f"kills {case // _CASES_A_STORE - 1}", ignore_errors=True)
            where.mkdir()
            acknowledged = 0
        url = kind.url(where)
        delay = rng.uniform(0, 0.25) if rng.random() < 0.8 else rng.uniform(0, 0.02)
        ended = processes.run(lambda tell, url=url, rng=rng: work(url, tell, rng), kill_after=delay)
        told = f"seed {seed}, kill {case}, after {delay:.4f} s"
        assert not ended.failure, f"{told}: {ended.failure}"
        commits = [what for what in ended.told if isinstance(what, int)]
        outcome["acknowledged commits"] += len(commits)
        acknowledged = max([acknowledged, *commits])
        doing = next((what for what in reversed(ended.told) if isinstance(what, str)), "start")

        def verify(tell: Any, url: str = url, acknowledged: int = acknowledged) -> None:
            with pstore.open(url):  # there may be no store yet
                pass
            tell(workload.check(url, model, acknowledged, uncertain=1))

        ended = processes.run(verify)
        assert not ended.failure, f"{told}, while it was at {doing!r}: {ended.failure}"
        outcome[f"killed at {doing}"] += 1
        (last,) = ended.told
        if last > acknowledged:
            outcome["commits not acknowledged, and there whole"] += 1
        acknowledged = last
    return outcome
