"""Processes for tests that end badly: forked with everything loaded and nothing open, so that a case takes milliseconds.

What a child has to tell it writes as lines of JSON into a pipe, each at once, so that what was told is known whatever
becomes of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Tells the parent something.
Tell = "Callable[[Any], None]"


class Ended:
    """How a child has ended.

    Attributes:
        told: All that it has told.
        failure: Why it hasn't come to its end: a traceback, a signal, or that it took too long; empty where it has.
    """

    def __init__(self, told: list[Any], failure: str) -> None:
        self.told = told
        self.failure = failure


def run(job: Callable[[Any], None], *, seconds: float = 60.0, kill_after: float | None = None) -> Ended:
    """Do a job in a child process.

    Args:
        job: Called with a function that tells the parent something.
        seconds: How long it may take; then it is killed, and that is a failure.
        kill_after: After how many seconds it is killed on purpose.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(job, writing)
    os.close(writing)
    deadline = time.monotonic() + (seconds if kill_after is None else kill_after)
    data, hung = b"", False
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            hung = kill_after is None
            os.kill(child, signal.SIGKILL)
            deadline = time.monotonic() + 60
            kill_after = None if hung else 0.0
        elif part := os.read(reading, 1 << 16):
            data += part
        else:
            break
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = []
    for line in data.split(b"\n"):
        with contextlib.suppress(ValueError):  # cut off
            told.append(json.loads(line))
    crashes = [what["crash"] for what in told if isinstance(what, dict) and "crash" in what]
    failure = crashes[0] if crashes else ""
    if hung:
        failure = f"it hung: more than {seconds} s"
    elif not failure and status and not (status == -signal.SIGKILL and kill_after is not None):
        failure = f"it ended with status {status}"
    return Ended(told, failure)


def _child(job: Callable[[Any], None], writing: int) -> None:
    def tell(what: Any) -> None:
        os.write(writing, json.dumps(what).encode() + b"\n")

    try:
        job(tell)
    except BaseException:  # noqa: BLE001  # whatever it is, the parent reports it
        tell({"crash": traceback.format_exc()})
        os._exit(1)
    os._exit(0)
