"""What all tests share: a header that says what is being tested, and how Hypothesis is run."""

from __future__ import annotations

import importlib
import platform
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Two loaded cores make any single example slow now and then; `timeout` in pyproject.toml is what catches a hang. The
# rest is Hypothesis's own choice, which on CI is the same examples each time.
settings.register_profile("pstore", settings(), deadline=None)
settings.load_profile("pstore")


def pytest_report_header() -> list[str]:
    """Say which pstore, Python and pickle engine run, and which engines there are."""
    try:
        import pstore
        import pstore.pickle

        tested = f"{Path(pstore.__file__).parent}, its pickle engine is {pstore.pickle.engine}"
    except Exception as error:  # noqa: BLE001  # whatever it is, the tests are to report it; this line only says it first
        tested = f"can't be imported: {error}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [f"pstore: {tested}; {python}", *(f"{name} engine: {tell_engine(name)}" for name in ("python", "native"))]


def tell_engine(name: str) -> str:
    """Whether there is this pickle engine, and if it was compiled, whether that was after its source has changed."""
    try:
        engine = importlib.import_module(f"pstore.pickle._{name}")
    except Exception as error:  # noqa: BLE001  # as above
        return f"NONE: {error}"
    compiled = [Path(importlib.import_module(cls.__module__).__file__) for cls in (engine.Pickler, engine.Unpickler)]
    for file in compiled:
        source = ROOT / "pstore" / "pickle" / f"{file.name.split('.')[0]}.pyx"
        if source.exists() and source.stat().st_mtime > file.stat().st_mtime:
            return f"OLDER THAN {source.name}: compile it again (CONTRIBUTING.md says how)"
    return "there"


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's directory."""
    return ROOT
