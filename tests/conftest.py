"""What all tests share: a header that says what is being tested, and how Hypothesis is run."""

from __future__ import annotations

import importlib
import platform
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # for `places`

# Two loaded cores make any single example slow now and then; `timeout` in pyproject.toml is what catches a hang. The
# rest is Hypothesis's own choice, which on CI is the same examples each time.
settings.register_profile("pstore", settings(), deadline=None)
settings.load_profile("pstore")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of the store run over other backends."""
    parser.addoption(
        "--backends",
        default="sqlite,memory",
        help="the kinds of backends that the tests of the store run over (tests/places.py has them), or 'all'",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `chosen_kind` over the kinds of backends that were asked for; `any_kind`, over all."""
    from places import KINDS

    asked = metafunc.config.getoption("--backends").split(",")
    chosen = list(KINDS) if asked == ["all"] else asked
    if unknown := set(chosen) - set(KINDS):
        message = f"--backends: there is no {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}"
        raise pytest.UsageError(message)
    for argument, names in {"chosen_kind": chosen, "any_kind": list(KINDS)}.items():
        if argument in metafunc.fixturenames:
            marks = {name: [pytest.mark.skip(KINDS[name].missing)] if KINDS[name].missing else [] for name in names}
            metafunc.parametrize(argument, [pytest.param(KINDS[name], marks=marks[name], id=name) for name in names])


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
