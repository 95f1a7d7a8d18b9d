"""Processes that fork while a store is open. Each function runs in a process of its own, where nothing else is."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import counting
from counting import Counter

import pstore
from pstore.backends import MemoryBackend, SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Callable

#: What the parent is doing when it forks.
MOMENTS = ("at rest", "reading", "changing", "in another thread's commit")

USES: dict[str, Callable[[pstore.Store, Any], Any]] = {
    "get": lambda db, ghost: db["atom"],
    "touch": lambda db, ghost: ghost.value,
    "iterate": lambda db, ghost: list(db),
    "session": lambda db, ghost: db.session()["atom"],
    "set": lambda db, ghost: db.__setitem__("atom", 666),
    "commit": lambda db, ghost: db.commit(),
    "run": lambda db, ghost: db.run(lambda db: db.__setitem__("atom", 666)),
    "evict": lambda db, ghost: db.evict(),
    "rollback": lambda db, ghost: db.rollback(),
    "close": lambda db, ghost: db.close(),
}


def try_it(use: Callable[[], Any]) -> None:
    """Use a store that was inherited: it works, or is refused, and the refusal says why."""
    try:
        use()
    except (pstore.StoreClosed, pstore.WrongThread) as error:
        if not ("process" in str(error) or "closed" in str(error)):
            raise


def child(db: pstore.Store, ghost: Any, path: str, kind: str) -> None:
    """Use what was inherited: each use works (on a copy) or is refused clearly; nothing hangs."""
    signal.alarm(20)
    for use in USES.values():
        try_it(lambda use=use: use(db, ghost))
    if kind == "sqlite":
        with pstore.open(path) as own:
            own.run(lambda db: counting.count(db, "list"))


def fork(path: str, *, kind: str, way: str, moment: str) -> None:
    """Fork, and look at what the parent's store is afterwards."""
    faulthandler.cancel_dump_traceback_later()  # it hangs in a process that was forked: a signal does its work
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(40)
    backend = SqliteBackend(path, durable=False, timeout=3) if kind == "sqlite" else MemoryBackend(timeout=3)
    db = pstore.open(backend)
    counting.create(db)
    db["second"] = Counter(7)
    db.commit()
    other = db.session()
    ghost = other["second"]
    other.rollback()
    lock, locked = threading.Event(), threading.Event()
    if moment != "at rest":
        assert other["atom"] == 0
    if moment == "changing":
        other["list"].append(1)
        db["record"].value += 1
    if moment == "in another thread's commit":
        thread = threading.Thread(target=hold_the_write_lock, args=[backend, locked, lock], daemon=True)
        thread.start()
        assert locked.wait(10)
        if kind == "sqlite":
            kind = "sqlite, held"  # the child's own commit would wait for the parent
    if way != "multiprocessing":
        pid = os.fork()
        if not pid:
            status = 1
            try:
                child(other, ghost, path, kind)
                if way == "fork and exit":
                    sys.exit(0)  # the interpreter ends as usual, and drops what was inherited
                status = 0
            except SystemExit:
                raise
            except BaseException:  # noqa: BLE001  # it is printed, and told by the status
                traceback.print_exc()
            os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    else:
        process = multiprocessing.get_context("fork").Process(target=child, args=[other, ghost, path, kind])
        process.start()
        process.join(30)
        code = process.exitcode
    assert code == 0, code
    lock.set()
    if moment == "in another thread's commit":
        thread.join(10)
    # The parent goes on where it was.
    assert ghost.value == 7
    assert other["atom"] == 0
    other.rollback()
    assert other["list"] == ([1] if kind == "sqlite" else [0])
    other.run(lambda db: counting.count(db, "list"))
    other.close()
    db.run(lambda db: counting.count(db, "atom")) if moment != "changing" else db.commit()
    assert db["record"].value == (moment == "changing")
    db.rollback()
    assert db["list"] == ([2] if kind == "sqlite" else [1])
    db.close()
    backend.close()


def hold_the_write_lock(backend: Any, locked: threading.Event, lock: threading.Event) -> None:
    """Be in the middle of a commit for as long as it is asked for."""
    writer = backend.begin(write=True)
    locked.set()
    assert lock.wait(30)
    writer.rollback()
