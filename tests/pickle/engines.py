"""The engines that the pickle suite runs over: one line an engine. It must never choose between them: all run.

Where the native engine isn't built its tests are skipped, and say so; with ``PSTORE_REQUIRE_NATIVE=1`` they fail.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import unittest
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

REQUIRE_NATIVE = os.environ.get("PSTORE_REQUIRE_NATIVE", "0") not in {"", "0"}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@dataclass(frozen=True)
class Engine:
    """One implementation of the pickle interface, with the few shapes in which the tests use it.

    Args:
        id: how test reports and `PSTORE_ENGINE` name it.
        module_name: the module that holds its `Pickler`, `Unpickler`, `dump`, `dumps`, `load`, `loads`,
            `references`, `globals` and `IdentityTable`.
        overridable: whether a subclass of its unpickler may override `load_global` and the other opcodes' methods.
    """

    id: str
    module_name: str
    overridable: bool = False

    @property
    def module(self) -> ModuleType:
        """The engine's module; imported late, so that a broken engine fails its tests and not the collection."""
        return importlib.import_module(self.module_name)

    @property
    def missing(self) -> str:
        """Why the engine can't be imported; the empty string where it can."""
        try:
            self.module  # noqa: B018  # importing it is what is asked for
        except Exception as error:  # noqa: BLE001  # whatever it is, it is to be told
            return f"no {self.id} engine: {error}"
        return ""

    def demand(self) -> None:
        """Leave out the test that runs where there is no such engine, or fail it where there must be one."""
        if why := self.missing:
            if self.id == "native" and not REQUIRE_NATIVE:
                pytest.skip("NO NATIVE ENGINE; the first lines of this run say why")
            pytest.fail(why, pytrace=False)

    @property
    def Pickler(self) -> type[Any]:
        return self.module.Pickler

    @property
    def Unpickler(self) -> type[Any]:
        return self.module.Unpickler

    @property
    def dump(self) -> Callable[..., None]:
        return self.module.dump

    @property
    def dumps(self) -> Callable[..., bytes]:
        return self.module.dumps

    @property
    def load(self) -> Callable[..., Any]:
        return self.module.load

    @property
    def loads(self) -> Callable[..., Any]:
        return self.module.loads

    @property
    def references(self) -> Callable[[bytes], list[Any]]:
        return self.module.references

    @property
    def globals(self) -> Callable[[bytes], list[tuple[str, str]]]:
        return self.module.globals

    def pickler(self, protocol: int | None = None, **keywords: Any) -> tuple[Any, io.BytesIO]:
        """A pickler and the file in memory that it writes to."""
        file = io.BytesIO()
        return self.Pickler(file, protocol, **keywords), file

    def unpickler(self, data: bytes, **keywords: Any) -> Any:
        """An unpickler that reads `data` from a file in memory."""
        return self.Unpickler(io.BytesIO(data), **keywords)

    def noload(self, data: bytes) -> list[Any]:
        """The persistent ids that `noload` meets in one stream."""
        ids: list[Any] = []
        self.unpickler(data, persistent_load=ids).noload()
        return ids


ENGINES = (
    Engine("python", "pstore.pickle._python", overridable=True),
    Engine("native", "pstore.pickle._native"),
)


def standard_dumps(obj: object, protocol: int | None = None, **keywords: Any) -> bytes:
    """What the standard C pickler writes through a file, which is what our bytes are compared with."""
    file = io.BytesIO()
    pickle.Pickler(file, protocol, **keywords).dump(obj)
    return file.getvalue()


def each_engine(make: Callable[[Engine], Iterable[type[Any]]]) -> dict[str, type[Any]]:
    """Names and classes of what `make` binds for each engine, to be put into a test module's namespace."""
    return {
        f"{engine.id.capitalize()}{cls.__name__}": cls
        for engine in ENGINES
        for cls in ([_absent(engine)] if engine.missing else make(engine))
    }


def _absent(engine: Engine) -> type[unittest.TestCase]:
    """What stands for all the tests of an engine that isn't there: a case that says so."""
    return type("Absent", (unittest.TestCase,), {"test_is_there": lambda self: engine.demand()})


#: Each engine but the reference, beside it.
PAIRS = [(ENGINES[0], engine) for engine in ENGINES[1:]]
