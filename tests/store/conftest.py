"""What the store's tests stand on: a store that can be opened again and again, on each backend, and other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `shop`, which other processes import by the same name

import pstore  # noqa: E402
from pstore import declare  # noqa: E402
from pstore.backends import MemoryBackend  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from places import Kind

    from pstore.backends import Backend


@dataclass
class Place:
    """A store that can be opened again and again."""

    backend: Backend
    opened: list[pstore.Store] = field(default_factory=list)

    def open(self, **options: Any) -> pstore.Store:
        """Open it; what the test doesn't close is closed without a commit."""
        options.setdefault("allow", ["shop"])
        store = pstore.open(self.backend, **options)
        self.opened.append(store)
        return store

    def records(self) -> dict[int, bytes]:
        """Return the row of every record, by key."""
        reader = self.backend.begin()
        found = {int(key): bytes(row) for key, row in reader.scan("records")}
        reader.rollback()
        return found


def _kept(backend: Backend) -> Iterator[Place]:
    place = Place(backend)
    yield place
    for store in place.opened:
        store._close()
    backend.close()


@pytest.fixture
def place(chosen_kind: Kind, tmp_path: Path) -> Iterator[Place]:
    """A store on each backend that the tests were asked to run over."""
    yield from _kept(chosen_kind.make(tmp_path))


@pytest.fixture
def memory() -> Iterator[Place]:
    """A store in memory, for tests of what a backend has no part in."""
    yield from _kept(MemoryBackend())


@pytest.fixture
def program() -> Iterator[Callable[..., ModuleType]]:
    """Define a module as one version of a program has it, in place of what an earlier version had: `program(source)`."""
    defined: set[str] = set()

    def drop(name: str) -> None:
        del sys.modules[name]
        for declaration in list(declare._BY_ID.values()):
            if declaration.cls.__module__ == name:
                declare.withdraw(declaration.cls)

    def define(source: str, name: str = "models") -> ModuleType:
        if name in defined:
            drop(name)
        module = sys.modules[name] = ModuleType(name)
        defined.add(name)
        exec(textwrap.dedent(source), vars(module))
        return module

    yield define
    for name in defined:
        drop(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path to keep a store at."""
    return tmp_path / "store.db"


@pytest.fixture
def elsewhere(path: Path) -> Callable[..., str]:
    """Run code in a new process, where `db` is the store at `path` and `shop` is imported; return what it prints."""

    def run(code: str, *, seed: int = 7, allow: str = "['shop']") -> str:
        program = f"import pstore, shop\ndb = pstore.open({str(path)!r}, allow={allow})\n{code}\n"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(HERE), "PYTHONHASHSEED": str(seed)},
            cwd=path.parent,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def declaring() -> Iterator[Callable[[type], None]]:
    """Declare classes for the time of the test."""
    declared: list[type] = []

    def add(cls: type) -> None:
        if not declare.is_declared(cls):
            declared.append(pstore.persistent(cls))

    yield add
    for cls in declared:
        declare.withdraw(cls)
