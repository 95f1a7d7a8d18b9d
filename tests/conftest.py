"""What all tests share: a header that says what is being tested, and how Hypothesis is run."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Two loaded cores make any single example slow now and then; `timeout` in pyproject.toml is what catches a hang. The
# rest is Hypothesis's own choice, which on CI is the same examples each time.
settings.register_profile("pstore", settings(), deadline=None)
settings.load_profile("pstore")


def pytest_report_header() -> str:
    """Say which pickle engine, Python and pstore run."""
    try:
        import pstore
        import pstore.pickle

        tested = f"{pstore.pickle.engine} pickle engine, {Path(pstore.__file__).parent}"
    except Exception as error:  # noqa: BLE001  # whatever it is, the tests are to report it; this line only says it first
        tested = f"can't be imported: {error}"
    return f"pstore: {tested}; {platform.python_implementation()} {platform.python_version()}"


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's directory."""
    return ROOT
