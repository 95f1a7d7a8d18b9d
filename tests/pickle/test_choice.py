"""Which engine `pstore.pickle` uses, with and without the native one: never another than was asked for, never silently."""

from __future__ import annotations

import shutil
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import pstore.backends

from .engines import ENGINES, Engine
from .processes import run

(NATIVE,) = [engine for engine in ENGINES if engine.id == "native"]
SHOW = "import pstore.pickle as p; print(p.engine, p.Pickler.__module__, p.engine_reason, sep='|')"
REMEDY = "PSTORE_REQUIRE_NATIVE=1"
FIRST = "_native_layout"  # of the extension modules, in the order in which they are imported


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A directory with a copy of pstore in which nothing is compiled."""
    compiled = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
    (package,), (backends,) = pstore.__path__, pstore.backends.__path__
    shutil.copytree(package, tmp_path / "pstore", ignore=compiled)
    shutil.copytree(backends, tmp_path / "pstore" / "backends", ignore=compiled, dirs_exist_ok=True)
    return tmp_path


def show(tree: Path, wanted: str | None = None) -> tuple[str, str, str]:
    """Name of the engine that is used in this copy, the module of its pickler, and the reason that is given."""
    # -S: an editable install of pstore would find what the copy lacks.
    engine, module, reason = run("-S", "-c", SHOW, PYTHONPATH=str(tree), PSTORE_ENGINE=wanted).stdout.strip().split("|")
    return engine, module, reason


def refused(tree: Path, wanted: str) -> str:
    """What importing pstore in this copy raises, its causes before it."""
    done = run("-S", "-c", SHOW, check=False, PYTHONPATH=str(tree), PSTORE_ENGINE=wanted)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: PSTORE_ENGINE={wanted}: ")
    return done.stderr


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.id)
def test_asked_for(engine: Engine) -> None:
    """`PSTORE_ENGINE` gives the engine of that name, and nothing else."""
    engine.demand()
    name, module, _ = run("-c", SHOW, PSTORE_ENGINE=engine.id).stdout.strip().split("|")
    assert name == engine.id
    assert module == engine.Pickler.__module__


@pytest.mark.parametrize("value", [None, ""])
def test_not_asked_for(value: str | None) -> None:
    """Where nobody asks, the native engine is used if it is there, and there is nothing to explain."""
    NATIVE.demand()
    assert run("-c", SHOW, PSTORE_ENGINE=value).stdout == f"native|{NATIVE.Pickler.__module__}|\n"


def test_reference_asked_for() -> None:
    """The reason for the reference engine is then that it was asked for."""
    assert run("-c", SHOW, PSTORE_ENGINE="python").stdout.startswith(
        "python|pstore.pickle._pickler|PSTORE_ENGINE=python"
    )


@pytest.mark.parametrize("value", ["fast", "Python", "standard", " native", "NATIVE"])
def test_unheard_of(bare: Path, value: str) -> None:
    """An engine that nobody knows is an ImportError that names it and those that there are."""
    told = refused(bare, value)
    assert "'native' or 'python'" in told


class TestNotBuilt:
    def test_not_asked_for(self, bare: Path) -> None:
        """The reference engine is used, and the reason names what is missing, and what to do."""
        engine, module, reason = show(bare)
        assert (engine, module) == ("python", "pstore.pickle._pickler")
        assert "aren't built" in reason
        assert f"pstore.pickle.{FIRST}" in reason
        assert REMEDY in reason

    def test_asked_for(self, bare: Path) -> None:
        """Asking for it is an ImportError that says the same, with the attempt that failed as its cause."""
        told = refused(bare, "native")
        assert told.splitlines()[-1] == f"ImportError: PSTORE_ENGINE=native: {show(bare)[2]}"
        assert f"ModuleNotFoundError: No module named 'pstore.pickle.{FIRST}'" in told

    def test_reference_asked_for(self, bare: Path) -> None:
        """The reference engine can be asked for by its name, and the native one isn't even looked for."""
        assert show(bare, "python")[0] == "python"
        assert "PSTORE_ENGINE=python" in show(bare, "python")[2]

    def test_imported_by_name(self, bare: Path) -> None:
        """Importing the engine's own module is an ImportError that says the same."""
        done = run("-S", "-c", "import pstore.pickle._native", check=False, PYTHONPATH=str(bare), PSTORE_ENGINE=None)
        assert done.stderr.splitlines()[-1] == f"ImportError: {show(bare)[2]}"


class TestBroken:
    def test_of_another_python(self, bare: Path) -> None:
        """Extension modules that were compiled for another Python are named as such."""
        (bare / "pstore" / "pickle" / "_native_pickler.cpython-27-x86_64-linux-gnu.so").write_bytes(b"")
        engine, _, reason = show(bare)
        assert engine == "python"
        assert "another Python: _native_pickler.cpython-27-x86_64-linux-gnu.so" in reason
        assert EXTENSION_SUFFIXES[0] in reason
        assert reason in refused(bare, "native")

    def test_no_library(self, bare: Path) -> None:
        """An extension module that can't be loaded is reported with the loader's own message."""
        (bare / "pstore" / "pickle" / f"{FIRST}{EXTENSION_SUFFIXES[0]}").write_bytes(b"nothing of the kind")
        engine, _, reason = show(bare)
        assert engine == "python"
        assert "can't be used" in reason
        assert f"{FIRST}{EXTENSION_SUFFIXES[0]}" in reason
        assert reason in refused(bare, "native")

    def test_half_built(self, bare: Path) -> None:
        """Some of the modules without the others aren't an engine."""
        names = {
            "_native_layout": "clear_attributes = has_held_dict = new_instance = set_class = share_layout = None",
            "_native_pickler": "Pickler = dump = dumps = IdentityTable = None",
        }
        for module, source in names.items():
            (bare / "pstore" / "pickle" / f"{module}.py").write_text(source, "utf-8")
        engine, module, reason = show(bare)
        assert (engine, module) == ("python", "pstore.pickle._pickler")
        assert "pstore.pickle._native_unpickler" in reason

    @pytest.mark.parametrize("error", ["ImportError", "SystemError", "AttributeError", "ValueError"])
    def test_raises(self, bare: Path, error: str) -> None:
        """Whatever an extension module raises is reported, and the reference engine works."""
        (bare / "pstore" / "pickle" / f"{FIRST}.py").write_text(f"raise {error}('it is cold')", "utf-8")
        engine, _, reason = show(bare)
        assert engine == "python"
        assert "it is cold" in reason
        assert error in reason or error == "ImportError"
        told = refused(bare, "native")
        assert reason in told
        assert f"\n{error}: it is cold\n" in told
