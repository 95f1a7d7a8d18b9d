"""Files of a store cut and changed at random: what comes out is an error of ours, or the right data.

A case looks at a damaged copy in a process of its own: at each name that must be there, at a name that never was, at the
list of names, and at their number. Each of them counts by itself: an error at one name is no excuse for another that is
missing without one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import processes
import workload

import pstore

if TYPE_CHECKING:
    from places import Kind

#: How many transactions the store has.
_LAST = 90


def begin(kind: Kind, directory: Path) -> dict[str, Path]:
    """Make the stores that are damaged: one that was closed, and one whose process was killed."""
    assert kind.url is not None
    states = {"closed": directory / "closed", "killed": directory / "killed"}
    for path in states.values():
        path.mkdir()

    def closed(_tell: Any) -> None:
        with pstore.open(kind.url(states["closed"])) as db:
            workload.grow(db, _LAST)

    def killed(_tell: Any) -> None:
        db = pstore.open(kind.url(states["killed"]))
        workload.grow(db, _LAST - 10)
        db.close()
        db = pstore.open(kind.url(states["killed"]))
        workload.grow(db, _LAST)
        os._exit(0)  # with nothing closed

    for job in (closed, killed):
        ended = processes.run(job)
        assert not ended.failure, ended.failure
    return states


def harm(directory: Path, rng: random.Random) -> str:
    """Damage one of the files in a directory; return what was done."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    at = rng.randrange(min(len(data), 4096)) if rng.random() < 0.25 else rng.randrange(len(data))
    how = rng.choice(["cut", "bit", "byte", "byte", "bytes", "zeros", "block"])
    if how == "cut":
        size = rng.choice([rng.randrange(len(data)), len(data) // 4096 * rng.randrange(4096) // 4096 * 4096])
        del data[size:]
        at = size
    elif how == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "byte":
        data[at] ^= rng.randrange(1, 256)
    elif how == "bytes":
        for _ in range(rng.randrange(2, 30)):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    elif how == "zeros":
        count = min(rng.choice([16, 512, 4096]), len(data) - at)
        data[at : at + count] = bytes(count)
    else:  # a block stands where another belongs
        size = min(4096, len(data))
        blocks = len(data) // size
        one, other = rng.randrange(blocks), rng.randrange(blocks)
        data[one * size : (one + 1) * size] = data[other * size : (other + 1) * size]
        at = one * size
    path.write_bytes(data)
    return f"{how} at {at} of {len(data)} bytes of {path.name}"


def examine(url: str, flag: str, expected: workload.Content, tell: Any, rng: random.Random) -> None:
    """The child's job: read everything, and tell how it went."""
    findings: Counter[str] = Counter()
    errors: list[str] = []
    try:
        db = pstore.open(url, flag)
    except pstore.Error as error:
        tell({"opening": f"{type(error).__name__}: {error}"})
        return
    asks: list[Any] = [*expected, None, list, len]
    rng.shuffle(asks)
    for what in asks:
        try:
            if what is list:
                right = list(db) == sorted(expected)
            elif what is len:
                right = len(db) == len(expected)
            elif what is None:
                right = "never there" not in db and db.get("never there") is None
            else:
                right = workload.look(db[what]) == expected[what]
        except pstore.Error as error:
            findings["error"] += 1
            errors.append(f"{type(error).__name__}: {error}")
            continue
        except KeyError:
            right = False
        findings["right" if right else "wrong"] += 1
        if not right:
            errors.append(f"WRONG at {getattr(what, '__name__', what)!r}")
    wrong_last = False
    with contextlib.suppress(pstore.Error, KeyError):
        wrong_last = db["last"] != expected["last"]
    db.rollback()
    try:
        db.close()
    except pstore.Error as error:
        errors.append(f"closing: {error}")
    tell({"findings": findings, "errors": errors, "older": wrong_last})


def run(kind: Kind, directory: Path, count: int, seed: int, *, stop: bool = True) -> Counter[str]:
    """Damage a store so many times; return how often what came out.

    Args:
        kind: The kind of the store.
        directory: Where to make it.
        count: How many cases.
        seed: What they depend on.
        stop: Whether to stop at the first that isn't as it must be; or else to print and count them.

    Raises:
        AssertionError: What came out was wrong, or no error of ours, or a crash, or nothing at all.
    """
    outcome: Counter[str] = Counter()
    states = begin(kind, directory)
    expected = workload.Model().after(_LAST)
    assert kind.url is not None
    for case in range(count):
        rng = random.Random(f"{seed}:{case}")
        where = directory / "case"
        shutil.rmtree(where, ignore_errors=True)
        state = rng.choice(sorted(states))
        shutil.copytree(states[state], where)
        done, flag = harm(where, rng), rng.choice("rw")
        url = kind.url(where)
        ended = processes.run(lambda tell, url=url, flag=flag, rng=rng: examine(url, flag, expected, tell, rng))
        told = f"seed {seed}, case {case} (a store that was {state}: {done}; flag {flag!r})"
        facts: dict[str, Any] = ended.told[-1] if ended.told else {}
        findings = facts.get("findings", {})
        if ended.failure:
            result = "CRASHED, HUNG OR RAISED SOMETHING ELSE"
        elif facts.get("older"):
            result = "WRONG: the last commits are missing"
        elif findings.get("wrong"):
            result = "WRONG or missing data"
        elif "opening" in facts:
            result = "refused to open"
        elif findings.get("error"):
            result = "errors for some, right data for the rest"
        else:
            result = "all data right"
        outcome[result] += 1
        if result.isupper() or result.startswith("WRONG"):
            message = f"{told}: {result}\n{ended.failure or facts}"
            assert not stop, message
            print(message)
    return outcome
