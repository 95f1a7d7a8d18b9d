"""What the harness of this directory looks for, in small numbers; `python tests/faults/run.py` takes large ones."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from places import KINDS

#: Where stores are made that needn't be on a disk: what the calls do is the same, and takes far less time.
_MEMORY = "/dev/shm"
_KINDS = [
    pytest.param(name, marks=[pytest.mark.skip(kind.missing)] if kind.missing else [], id=name)
    for name, kind in KINDS.items()
    if kind.url is not None and kind.files
]


def run(name: str, tmp_path: Path, *arguments: str) -> None:
    """Run the harness in a process of its own, which forks; a failure prints the seed that repeats it."""
    directory = _MEMORY if os.access(_MEMORY, os.W_OK) else str(tmp_path)
    seed = str(random.randrange(10**6))
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--backend", name, "--seed", seed]
    done = subprocess.run([*command, "--directory", directory, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 2 and "compile" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, f"{' '.join(command[1:])} {' '.join(arguments)}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", _KINDS)
def test_killed_at_any_moment(name: str, tmp_path: Path) -> None:
    """Of a process that is killed, every acknowledged commit is there whole, and of the one under way all or nothing."""
    run(name, tmp_path, "--kills", "4")


@pytest.mark.parametrize("name", _KINDS)
def test_each_call_may_fail(name: str, tmp_path: Path) -> None:
    """When a call fails or the disk is full, an error of ours says so, nothing is lost, and the same process can go on."""
    run(name, tmp_path, "--faults", "--stride", "250")


@pytest.mark.parametrize("name", _KINDS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    """Whatever has become of a store's bytes, what comes out is an error of ours or the right data."""
    run(name, tmp_path, "--flips", "12")
