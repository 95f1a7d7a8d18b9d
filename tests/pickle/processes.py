"""Programs that run in a process of their own, with the same pstore as the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(
    *arguments: str, timeout: float = 60, check: bool = True, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter.

    Args:
        arguments: `-c` and a program, or the name of a file that stands beside this one; and what it is given.
        timeout: Seconds.
        check: Fail, with what it said, where the program does.
        environment: Variables to set, or with None to leave out.

    Returns:
        What it printed, as UTF-8, and how it ended.
    """
    # The program finds what the tests find; and not by where it runs, so that an installed pstore isn't passed by.
    whole = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONIOENCODING": "utf-8",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-B", *arguments],
        capture_output=True,
        check=False,
        cwd=HERE,
        encoding="utf-8",
        env={name: value for name, value in whole.items() if value is not None},
        timeout=timeout,
    )
    assert not check or done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    return done
