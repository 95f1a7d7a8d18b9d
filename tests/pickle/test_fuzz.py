"""The fuzzer in a short form, with the same cases each time: `python -m tests.pickle.fuzz` goes on from there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .engines import Engine
from .processes import run

if TYPE_CHECKING:
    from pathlib import Path

#: A few of each; `.ci/fuzz` goes on for as long as one likes.
COUNTS = {"dump": 400, "load": 800, "table": 60}


@pytest.mark.parametrize("kind", COUNTS)
def test_fuzz(pair: tuple[Engine, Engine], kind: str, tmp_path: Path) -> None:
    """Hostile values and hooks, made-up and mutated streams: no crash, and the same as by the reference."""
    program = ["-m", "tests.pickle.fuzz", "--engine", pair[1].id, "--seed", "0", "--kind", kind, "--failures", "3"]
    done = run(*program, "--count", str(COUNTS[kind]), "--directory", str(tmp_path), timeout=110, check=False)
    current = (tmp_path / "current.json").read_text()
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-3000:]}\nthe last case: {current}"


def test_a_case_can_be_run_again(pair: tuple[Engine, Engine], tmp_path: Path) -> None:
    """The case at work is in a file, from which it is run again."""
    program = ["-m", "tests.pickle.fuzz", "--engine", pair[0].id]
    run(*program, "--count", "3", "--seed", "1", "--directory", str(tmp_path))
    case = tmp_path / "current.json"
    assert json.loads(case.read_text())["seed"] == 3
    assert "no difference" in run(*program, "--case", str(case)).stdout
