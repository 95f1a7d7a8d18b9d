"""System calls that fail: each call that writes fails once, or all from it on, until a workload meets none any more.

The calls are made to fail by `failing.c`, which is compiled here and loaded with LD_PRELOAD. A case is a process that was
forked; it goes through the workload, in which call number N fails. What fails must fail with an error of ours and change
nothing; when the fault is over, the same process must be able to go on, if need be after it has opened the store again;
and a new process must find all that was acknowledged.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import processes
import workload

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable

    from places import Kind

_SOURCE = Path(__file__).with_name("failing.c")
_ONCE, _FROM, _SHORT, _SHORT_THEN_FROM = range(4)


class Fault(NamedTuple):
    """What happens to a call.

    Attributes:
        name: For people.
        mode: How it fails, as `failing.c` has it.
        error: Its `errno`.
        crashes: Whether the process is gone at its first error.
    """

    name: str
    mode: int
    error: int = 0
    crashes: bool = False


FAULTS = (
    Fault("one call fails with EIO", _ONCE, errno.EIO),
    Fault("one call fails with EIO, and the process dies", _ONCE, errno.EIO, crashes=True),
    Fault("the disk is full, until there is room again", _FROM, errno.ENOSPC),
    Fault("the disk is full, and the process dies", _FROM, errno.ENOSPC, crashes=True),
    Fault("one write is short", _SHORT),
    Fault("a write is short, then the disk is full", _SHORT_THEN_FROM, errno.ENOSPC),
)


def compile_library(directory: Path) -> tuple[Path | None, str]:
    """Compile the library that makes calls fail; return it, or None and why there is none."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None, "a C compiler is needed to make system calls fail: install gcc, or name one in CC"
    library = directory / "failing.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (None, f"failing.c can't be compiled: {done.stderr}") if done.returncode else (library, "")


class Case:
    """One run of the workload, in the child.

    Args:
        url: The store.
        tell: Tells the parent.
        shim: The library.
        fault: What happens to the call.
    """

    def __init__(self, url: str, tell: Any, shim: Any, fault: Fault) -> None:
        self.url = url
        self.tell = tell
        self.shim = shim
        self.fault = fault
        self.db: pstore.Store | None = None
        self.model = workload.Model()
        self.number = 0
        self.attempted = 0

    def run(self) -> None:
        """Open, commit, compact, close, open again, commit, close."""
        self.go(self.open)
        for at in range(6):
            self.go(self.commit)
            if at == 3:
                self.go(self.compact)
            if at == 4:
                self.go(self.close)
                self.go(self.open)
        self.go(self.close)

    def go(self, action: Callable[[], None]) -> None:
        """Take a step of the workload, and if it fails, take it again: at once, when the fault is over, and anew."""
        for attempt in ("at once", "with room again", "after opening again"):
            try:
                action()
            except pstore.Error as error:
                self.tell({"error": type(error).__name__, "step": action.__name__, "message": str(error)})
                if not self.shim.faults_failed():
                    raise  # it isn't the fault's
                if self.fault.crashes:
                    os._exit(0)
            else:
                return
            if attempt == "with room again":
                self.tell({"reopened": action.__name__})
                if self.db is not None:
                    with contextlib.suppress(pstore.Error):
                        self.db.rollback()
                    self.db.close()
                self.db = None
                self.open()
                continue
            self.look_after_error()
            if attempt == "at once" and self.fault.mode in (_FROM, _SHORT_THEN_FROM):
                self.shim.faults_disarm()
        raise AssertionError(f"{action.__name__} fails though the fault is over")

    def look_after_error(self) -> None:
        """Nothing of what has failed is there."""
        if self.db is not None and not self.db.closed:
            try:
                self.db.rollback()
                content = {name: workload.look(self.db[name]) for name in self.db}
            except pstore.Error as error:
                self.tell({"error": type(error).__name__, "step": "rollback", "message": str(error)})
            else:
                number = content.get("last", 0)
                assert number == self.number, f"{self.number} were acknowledged, {number} are seen"
                assert content == self.model.after(number)

    def open(self) -> None:
        if self.db is None or self.db.closed:
            self.db = pstore.open(self.url)
            self.number = max(self.number, self.db.get("last", 0))

    def commit(self) -> None:
        assert self.db is not None
        workload.step(self.db, self.number + 1)
        self.attempted = self.number + 1
        self.tell({"attempted": self.attempted})
        self.db.commit()
        self.number += 1
        self.tell({"acknowledged": self.number})

    def compact(self) -> None:
        assert self.db is not None
        self.db.compact()

    def close(self) -> None:
        if self.db is not None:
            self.db.close()


def run(kind: Kind, directory: Path, *, stride: int = 1, offset: int = 0) -> Counter[str]:
    """Let each call fail, or each `stride`-th from the `offset`-th on; return counts. Runs under LD_PRELOAD.

    Raises:
        AssertionError: An error wasn't ours, something was lost, half there or unreadable, or the process couldn't go on.
    """
    outcome: Counter[str] = Counter()
    assert kind.url is not None
    begun = directory / "begun"
    begun.mkdir()

    def begin(_tell: Any) -> None:
        with pstore.open(kind.url(begun)) as db:
            workload.grow(db, 18)

    ended = processes.run(begin)
    assert not ended.failure, ended.failure
    shim: Any = ctypes.CDLL(None)
    shim.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    for start, base in {"a new store": 0, "an old store": 18}.items():
        for fault in FAULTS:
            number, came_up = 1 + offset % stride, True
            while came_up:
                where = directory / "case"
                shutil.rmtree(where, ignore_errors=True)
                if base:
                    shutil.copytree(begun, where)
                else:
                    where.mkdir()
                told = f"{start}, {fault.name}, call {number}"
                came_up = _try(told, kind.url(where), shim, (fault, where, number, base), outcome)
                outcome[f"{start}: {fault.name}"] += came_up
                number += stride
    return outcome


def _try(told: str, url: str, shim: Any, case: tuple[Fault, Path, int, int], outcome: Counter[str]) -> bool:
    """Run one case: (fault, directory, number of the call, transactions there); return whether the fault has come up."""
    fault, where, number, base = case

    def job(tell: Any) -> None:
        run = Case(url, tell, shim, fault)
        shim.faults_arm(os.fsencode(str(where)), number, fault.mode, fault.error)
        run.run()
        shim.faults_disarm()
        tell({"failed": shim.faults_failed()})

    ended = processes.run(job)
    assert not ended.failure, f"{told}: {ended.failure}\n{ended.told}"
    facts: dict[str, Any] = {}
    for what in ended.told:
        facts.update(what)
        if "error" in what:
            outcome[f"errors: {what['error']}"] += 1
        if "reopened" in what:
            outcome["went on after opening again"] += 1
    acknowledged = facts.get("acknowledged", base)
    uncertain = max(0, facts.get("attempted", acknowledged) - acknowledged) if fault.crashes else 0

    def verify(tell: Any) -> None:
        with pstore.open(url):
            pass
        tell(workload.check(url, workload.Model(), acknowledged, uncertain=uncertain))

    ended = processes.run(verify)
    assert not ended.failure, f"{told}: {ended.failure}\n{facts}"
    return "failed" not in facts or bool(facts["failed"])
