"""Cases of several that use a store at once: threads, processes that open it by its URL, and processes that were forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pstore.errors import Error, StoreClosed, StoreLocked
from pstore.testing.binding import HASTY, PATIENT, Binding, content, look, put, rows_of
from pstore.testing.rows import fetch
from pstore.testing.transactions import USES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pstore.backends.base import Backend, Transaction
    from pstore.testing.binding import Opening

#: What other processes run: they are given the URL and further arguments, and print what they see.
PROLOGUE = """
import os, signal, sys
from pstore.backends import open_backend
from pstore.errors import StoreLocked
url, *arguments = sys.argv[1:]
def begin_patiently():
    while True:
        try:
            return backend.begin(write=True)
        except StoreLocked:  # after this kind's usual wait: the machine is busy
            pass
"""
SEE = """
backend = open_backend(url, arguments[0], durable=False)
reader = backend.begin()
print(sorted((key, bytes(row)) for key, row in reader.scan("records")))
reader.rollback()
backend.close()
"""
COMMIT = """
backend = open_backend(url, "w", durable=False)
writer = begin_patiently()
writer.put_many("records", [(int(key), b"theirs") for key in arguments])
writer.commit()
backend.close()
"""
COUNT = """
backend = open_backend(url, "w", durable=False)
for _ in range(int(arguments[0])):
    writer = begin_patiently()
    (row,) = writer.get_many("records", [0])
    writer.put_many("records", [(0, b"%d" % (int(bytes(row)) + 1))])
    writer.commit()
backend.close()
"""
HOLD = """
backend = open_backend(url, "w", durable=False)
writer = begin_patiently()
writer.put_many("records", [(1, b"never committed"), (2, b"never committed")])
print("holding", flush=True)
sys.stdin.read()
backend.close()
"""
DIE = """
backend = open_backend(url, "w", durable=True)
writer = backend.begin(write=True)
writer.put_many("records", [(2, b"committed")])
writer.commit()
reader = backend.begin()
next(iter(reader.scan("records")))
writer = backend.begin(write=True)
writer.put_many("records", ((n, b"not committed" * 100) for n in range(1, 1000)))
writer.delete_many("records", [0])
os._exit(7) if arguments[0] == "exit" else os.kill(os.getpid(), signal.SIGKILL)
"""
REFUSED = """
try:
    open_backend(url, "c", durable=False)
except StoreLocked:
    print("locked")
"""


def start(program: str, url: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process that runs one of the programs above."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROLOGUE + program, url, *arguments]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str], *, expect: int = 0) -> str:
    """Wait for the end of a process; return what it printed."""
    try:
        out, errors = process.communicate(timeout=PATIENT)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == expect, errors
    return out


def run(program: str, url: str, *arguments: str, expect: int = 0) -> str:
    """Run one of the programs above; return what it printed."""
    return finish(start(program, url, *arguments), expect=expect)


def in_threads(*jobs: Callable[[], Any]) -> None:
    """Run the jobs at once, each in a thread of its own, and raise what the first that failed has raised."""
    errors: list[BaseException] = []

    def work(job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001  # it is raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=[job], daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread doesn't end"


class ConcurrencyCases(Binding):
    """Threads and processes: one writer at a time, whole snapshots, and nothing lost with a process that dies."""

    # ---------------------------------------------------------------------------------------------------- threads

    def test_one_writer_at_a_time(self, backend: Backend, opening: Opening) -> None:
        """A second writer waits as long as it may, and then says that the store is locked; the first isn't disturbed."""
        backend.close()
        backend = opening(timeout=HASTY)
        writer = backend.begin(write=True)
        writer.put_many("records", [(1, b"row")])
        for _ in range(2):
            with pytest.raises(StoreLocked, match="writer"):
                backend.begin(write=True)
        assert look(backend)["records"] == {}
        writer.commit()
        backend.begin(write=True).rollback()
        assert rows_of(backend, "records") == {1: b"row"}

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_a_writer_waits_for_the_other(self, backend: Backend, end: str) -> None:
        """A writer in another thread begins when the first has ended, and sees what that has left."""
        writer = backend.begin(write=True)
        writer.put_many("records", [(1, b"first")])
        begun = threading.Event()
        seen: list[Any] = []

        def second() -> None:
            writer = backend.begin(write=True)
            begun.set()
            seen.extend(fetch(writer, "records", [1]))
            writer.put_many("records", [(2, b"second")])
            writer.commit()

        def first() -> None:
            assert not begun.wait(0.05)
            getattr(writer, end)()

        thread = threading.Thread(target=in_threads, args=[second], daemon=True)
        thread.start()
        first()
        thread.join(PATIENT)
        assert seen == [b"first" if end == "commit" else None]
        assert rows_of(backend, "records") == ({1: b"first"} if end == "commit" else {}) | {2: b"second"}

    def test_threads_that_write(self, backend: Backend) -> None:
        """Of what several threads add to the same row, nothing is lost."""
        put(backend, "records", {0: b"0"})

        def count() -> None:
            for _ in range(50):
                writer = backend.begin(write=True)
                (row,) = fetch(writer, "records", [0])
                writer.put_many("records", [(0, b"%d" % (int(row or b"") + 1))])
                writer.commit()

        in_threads(*[count] * 4)
        assert rows_of(backend, "records") == {0: b"200"}

    def test_threads_that_read_beside_a_writer(self, backend: Backend) -> None:
        """Each snapshot is whole while another thread commits: all rows are of one commit, and never of an older one."""
        put(backend, "records", dict.fromkeys(range(20), b"0"))
        stop = threading.Event()

        def read() -> None:
            newest = 0
            while not stop.is_set():
                reader = backend.begin()
                (first,) = fetch(reader, "records", [0])
                assert {bytes(row) for _, row in reader.scan("records")} == {first}
                assert fetch(reader, "records", [19]) == [first]
                assert int(first or b"") >= newest
                newest = int(first or b"")
                reader.rollback()

        def write() -> None:
            try:
                for number in range(100):
                    put(backend, "records", dict.fromkeys(range(20), b"%d" % number))
            finally:
                stop.set()

        in_threads(write, read, read)

    # -------------------------------------------------------------------------------------------------- processes

    def test_another_process(self, shared: Backend, address: str) -> None:
        """Processes see each other's commits; a snapshot here isn't changed by a commit there."""
        put(shared, "records", {1: b"ours"})
        reader = shared.begin()
        assert run(SEE, address, "r") == "[(1, b'ours')]\n"
        run(COMMIT, address, "2", "3")
        assert content(reader)["records"] == {1: b"ours"}
        reader.rollback()
        expected = {1: b"ours", 2: b"theirs", 3: b"theirs"}
        writer = shared.begin(write=True)
        assert fetch(writer, "records", [1, 2, 3]) == list(expected.values())
        writer.rollback()
        assert rows_of(shared, "records") == expected
        put(shared, "records", {4: b"ours"})
        assert run(SEE, address, "w") == f"{[*expected.items(), (4, b'ours')]}\n"

    def test_processes_that_write(self, shared: Backend, address: str) -> None:
        """Of what several processes add to the same row, nothing is lost."""
        put(shared, "records", {0: b"0"})
        processes = [start(COUNT, address, "40") for _ in range(3)]
        for process in processes:
            finish(process)
        assert rows_of(shared, "records") == {0: b"120"}

    def test_a_writer_in_another_process(self, shared: Backend, address: str, opening: Opening) -> None:
        """A writer of another process keeps ours out, not our readers; with its process it is gone, and its changes."""
        put(shared, "records", {1: b"old"})
        hasty = opening("w", timeout=HASTY)
        for end in ("closed", "killed"):
            process = start(HOLD, address)
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "holding\n"
                assert rows_of(shared, "records") == {1: b"old"}
                with pytest.raises(StoreLocked):
                    hasty.begin(write=True)
                if end == "killed":
                    process.kill()
            finally:
                finish(process, expect=-signal.SIGKILL if end == "killed" else 0)
            assert rows_of(hasty, "records") == {1: b"old"}
            writer = shared.begin(write=True)
            assert fetch(writer, "records", [1, 2]) == [b"old", None]
            writer.rollback()

    @pytest.mark.parametrize("way", ["exit", "killed"])
    def test_a_process_that_dies(self, lasting: Backend, address: str, opening: Opening, way: str) -> None:
        """What a process has committed outlives it, though it closed nothing; what it hadn't committed is gone."""
        put(lasting, "records", {0: b"old", 1: b"old"})
        lasting.close()
        run(DIE, address, way, expect=7 if way == "exit" else -signal.SIGKILL)
        for flag in ("w", "r"):
            backend = opening(flag)
            assert rows_of(backend, "records") == {0: b"old", 1: b"old", 2: b"committed"}
            backend.close()
        backend = opening("c")
        put(backend, "records", {3: b"new"})
        assert list(rows_of(backend, "records")) == [0, 1, 2, 3]

    def test_a_second_process_is_refused(self, lasting: Backend, address: str) -> None:
        """A store that isn't shared isn't opened by a second process, and can be when the first has closed it."""
        if lasting.capabilities.shared:
            pytest.skip(f"a {lasting.scheme} store may be open in several processes")
        put(lasting, "records", {1: b"ours"})
        assert run(REFUSED, address) == "locked\n"
        put(lasting, "records", {2: b"ours"})
        lasting.close()
        assert run(SEE, address, "w") == "[(1, b'ours'), (2, b'ours')]\n"

    # ------------------------------------------------------------------------------------------------------- forks

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
    def test_a_fork(self, backend: Backend, opening: Opening) -> None:
        """In a forked child the parent's backend is refused, or works; it never disturbs the parent or harms the store."""
        put(backend, "records", {1: b"old", 2: b"old"})
        reader, writer = backend.begin(), backend.begin(write=True)
        writer.put_many("records", [(1, b"new"), (3, b"new")])

        def child() -> None:
            for transaction in (reader, writer):
                for use in USES.values():
                    _refused_or_done(use, transaction, lasting=backend.capabilities.lasting)
                transaction.rollback()
            _refused_or_done(lambda backend: content(backend.begin()), backend, lasting=False)
            backend.close()

        _in_a_fork(child)
        assert content(reader)["records"] == {1: b"old", 2: b"old"}
        reader.rollback()
        assert fetch(writer, "records", [1, 2, 3]) == [b"new", b"old", b"new"]
        _in_a_fork(child)
        writer.commit()
        expected = {1: b"new", 2: b"old", 3: b"new"}
        assert rows_of(backend, "records") == expected
        _in_a_fork(child)
        put(backend, "records", {4: b"newer"})
        if backend.capabilities.lasting:
            backend.close()
            backend = opening("w")
        assert rows_of(backend, "records") == expected | {4: b"newer"}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
    def test_a_fork_opens_its_own(self, shared: Backend, tmp_path: Path) -> None:
        """A forked child may open the store again, and both use it."""
        put(shared, "records", {1: b"parent"})

        def child() -> None:
            own = self.open_backend(tmp_path, "w", durable=False, timeout=PATIENT)
            put(own, "records", {2: b"child"})
            assert rows_of(own, "records") == {1: b"parent", 2: b"child"}
            own.close()

        _in_a_fork(child)
        assert rows_of(shared, "records") == {1: b"parent", 2: b"child"}
        put(shared, "records", {3: b"parent"})
        assert list(rows_of(shared, "records")) == [1, 2, 3]


def _refused_or_done(use: Callable[[Any], Any], used: Backend | Transaction, *, lasting: bool) -> None:
    """A transaction of a store that outlives the process can't be gone on with in a copy of it."""
    try:
        use(used)
    except StoreClosed as error:
        assert str(error)  # noqa: PT017  # any text, but a text
    except Error as error:  # such as ReadOnlyError, of a copy in memory
        assert not lasting, error  # noqa: PT017  # as above
    else:
        assert not lasting, "a transaction of the parent's was used"


def _in_a_fork(child: Callable[[], None]) -> None:
    """Run a function in a forked process, and fail with what it raises, or if it doesn't end."""
    source, target = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are threads
        pid = os.fork()
    if not pid:
        try:
            os.close(source)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang ends there, and shows as a signal
            signal.alarm(int(PATIENT) // 2)
            child()
        except BaseException:  # noqa: BLE001  # it is told to the parent
            os.write(target, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(target)
    with os.fdopen(source) as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert not told, told
    assert status == 0, f"the forked child ended with {status}"
