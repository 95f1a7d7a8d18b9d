"""Interrupted (Ctrl-C) at any moment, a transaction leaves no lock behind, and no snapshot changes."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from places import KINDS

from pstore.backends import open_backend
from pstore.backends.base import TABLES
from pstore.backends.generations import FileTables
from pstore.errors import StoreLocked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pstore.backends import Backend, Transaction

BACKENDS = str(Path(sys.modules[open_backend.__module__].__file__ or "").parent)
#: Where an interruption can't be told from one before the lock was taken.
UNKNOWABLE = ("_acquire_writing", "acquire")

# An interruption behind the making of a connection leaves it to the garbage collector, of which Python 3.13 warns.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What an interruption has left is collected here, and in no other test."""
    yield
    gc.collect()


class Interruption:
    """Raises KeyboardInterrupt where a signal's handler would run: when a function begins, or one in C has returned.

    Args:
        number: At which of these moments.
    """

    def __init__(self, number: int) -> None:
        self.left = number
        self.where: tuple[str, str] | None = None

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        """Called by the interpreter."""
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(BACKENDS):
            self.left -= 1
            if not self.left:
                sys.setprofile(None)
                self.where = frame.f_code.co_name, getattr(arg, "__name__", "")
                raise KeyboardInterrupt


def content(reader: Transaction) -> dict[str, dict[Any, bytes]]:
    """All that a transaction sees."""
    return {table: {key: bytes(row) for key, row in reader.scan(table)} for table in TABLES}


def write(backend: Backend, started: list[Transaction]) -> None:
    """A commit that adds, changes and removes."""
    writer = backend.begin(write=True)
    started.append(writer)
    writer.put_many("records", [(1, b"new"), (3, b"new")])
    writer.delete_many("records", [2])
    writer.put_many("log", [(2, b"new")])
    writer.commit()


@pytest.mark.parametrize("kind", ["memory", "mapping", "journaled", "dbm.dumb", "dbm.dumb, folding", "sqlite"])
def test_an_interrupted_commit_is_whole_or_none_and_leaves_no_lock(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each moment in turn: older snapshots stay as they were, a newer one has all or nothing, another can write."""
    number, ended = 0, False
    while not ended:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        backend = KINDS[kind.removesuffix(", folding")].make(directory, durable=False, timeout=0.01)
        first = backend.begin(write=True)
        first.put_many("records", [(1, b"old"), (2, b"old")])
        first.commit()
        older, before = backend.begin(), {**{key: {} for key in TABLES}, "records": {1: b"old", 2: b"old"}}
        after = {**before, "records": {1: b"new", 3: b"new"}, "log": {2: b"new"}}
        if kind.endswith("folding"):
            monkeypatch.setattr(backend._tables, "_fold_at", 1)  # type: ignore[attr-defined]
        started: list[Transaction] = []
        interruption = Interruption(number)
        sys.setprofile(interruption)
        try:
            write(backend, started)
        except KeyboardInterrupt:
            for writer in started:
                writer.rollback()
        finally:
            sys.setprofile(None)
        ended = interruption.where is None
        assert content(older) == before, interruption.where
        older.rollback()
        newer = backend.begin()
        assert content(newer) in ([after] if ended else [before, after]), interruption.where
        newer.rollback()
        if interruption.where != UNKNOWABLE:
            write(backend, [])
        backend.close()
    assert number > 50


def test_a_journal_that_was_removed_while_it_was_waited_for_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed goes to the file that has the name, and nobody else can open the store meanwhile.

    Who makes a store and is interrupted removes the journal that it has locked, and for which others may wait.
    """
    url = f"dbm.dumb:///{tmp_path / 'store'}?timeout=0.01"
    real = FileTables.start

    def start(tables: FileTables, flag: str) -> None:
        real(tables, flag)
        monkeypatch.setattr(FileTables, "start", real)
        raise KeyboardInterrupt

    found = []

    def lock(file: int, path: Path, *, exclusive: bool, timeout: float) -> None:
        if not found:  # it is open, and before it is locked the other one gives up
            found.append(path)
            path.unlink()
        locked(file, path, exclusive=exclusive, timeout=timeout)

    monkeypatch.setattr(FileTables, "start", start)
    with pytest.raises(KeyboardInterrupt):
        open_backend(url)
    assert not (tmp_path / "store.journal").exists()
    locked = sys.modules["pstore.backends.journal"].lock  # type: ignore[attr-defined]
    monkeypatch.setattr("pstore.backends.journal.lock", lock)
    backend = open_backend(url)
    write(backend, [])
    with pytest.raises(StoreLocked):
        open_backend(url)
    monkeypatch.setattr(backend, "close", lambda: None)
    backend._tables.release()  # type: ignore[attr-defined]  # as if the process had been killed
    again = open_backend(url)
    assert content(again.begin())["log"] == {2: b"new"}
    again.close()


def test_a_journal_with_commits_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens a new store, waits for another that makes it too, and is interrupted, leaves what the other has committed."""
    url = f"dbm.dumb:///{tmp_path / 'store'}"
    real, exists = FileTables.start, Path.exists

    def start(_tables: FileTables, _flag: str) -> None:
        raise KeyboardInterrupt

    other = open_backend(url)
    write(other, [])
    other._tables.release()  # type: ignore[attr-defined]  # as if the process had been killed
    with monkeypatch.context() as patch:
        patch.setattr(FileTables, "start", start)
        # When this one looked there was nothing yet.
        looks = iter([False])
        patch.setattr(Path, "exists", lambda path: next(looks, True) if path.suffix == ".journal" else exists(path))
        with pytest.raises(KeyboardInterrupt):
            open_backend(url)
    assert FileTables.start is real
    again = open_backend(url)
    assert content(again.begin())["log"] == {2: b"new"}
    again.close()
