"""Threads and processes that work at the same time, and end: what hangs fails loudly, with the stacks of all threads.

A job of a process is a function of a module in this directory, called by name, with arguments that JSON can carry.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
#: How long the races run; more finds more. CONTRIBUTING.md shows how.
SCALE = float(os.environ.get("PSTORE_RACES", "1"))
#: A job that takes longer than this many seconds is taken for a deadlock.
TIMEOUT = 60 * max(SCALE, 1)


def in_threads(*jobs: Callable[[], Any]) -> list[Any]:
    """Run each job in a thread of its own, all at once; return what they return.

    Raises:
        BaseException: What the first job that failed has raised.
        TimeoutError: A job doesn't end; the stacks of all threads were printed.
    """
    together = threading.Barrier(len(jobs))
    results: list[Any] = [None] * len(jobs)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            together.wait(TIMEOUT)
            results[number] = jobs[number]()
        except BaseException as error:  # noqa: BLE001  # it is raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=[n], daemon=True) for n in range(len(jobs))]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + TIMEOUT
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        faulthandler.dump_traceback(all_threads=True)
        message = f"a thread doesn't end within {TIMEOUT} s: a deadlock?"
        raise TimeoutError(message)
    return results


class Job:
    """A process that calls a function of a module in this directory.

    Args:
        function: As "module.function".
        arguments: Its keyword arguments.
    """

    def __init__(self, function: str, **arguments: Any) -> None:
        self.function = function
        # Files and no pipes: a process that it has forked may hold on to them.
        self.printed = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115  # closed by `kill`
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import teams; teams.main()", function, json.dumps(arguments)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
            },
            stdout=self.printed[0],
            stderr=self.printed[1],
            start_new_session=True,
        )

    def kill(self) -> None:
        """Kill it and what it has forked, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for file in self.printed:
            file.close()

    def killed(self) -> int:
        """Wait for its end by a signal; return the signal's number.

        Raises:
            AssertionError: It has ended in another way; with what it printed.
        """
        self.process.wait(TIMEOUT)
        if self.process.returncode >= 0:
            self.result()
        self.kill()
        return -self.process.returncode

    def result(self) -> Any:
        """Wait for its end; return what the function returned.

        Raises:
            AssertionError: It failed, or didn't end; with what it printed.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(TIMEOUT + 10)
        for file in self.printed:
            file.seek(0)
        out, errors = (file.read() for file in self.printed)
        assert self.process.returncode == 0, f"{self.function}: {self.process.returncode}\n{errors}"
        return json.loads(out.splitlines()[-1])


def in_processes(*jobs: Job) -> list[Any]:
    """Wait for the end of all jobs; return what they return."""
    try:
        return [job.result() for job in jobs]
    finally:
        for job in jobs:
            job.kill()


def main() -> None:
    """What runs in a job's process."""
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    module, _, function = sys.argv[1].rpartition(".")
    result = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    print(json.dumps(result))
