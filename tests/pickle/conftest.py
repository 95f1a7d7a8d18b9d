"""What every pickle test is given: the engine under test."""

from __future__ import annotations

import pytest

from .engines import ENGINES, PAIRS, Engine


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of the cases that take seconds, for `-m "not deep"` while one works on something else."""
    config.addinivalue_line("markers", "deep: a million levels deep; takes seconds, runs by default")


@pytest.fixture(scope="session", params=ENGINES, ids=lambda engine: engine.id)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn: a test that takes this fixture runs once for each."""
    request.param.demand()
    return request.param


@pytest.fixture(scope="session", params=PAIRS, ids=lambda pair: f"{pair[1].id} as {pair[0].id}")
def pair(request: pytest.FixtureRequest) -> tuple[Engine, Engine]:
    """The reference engine, and each other engine in turn, which has to do the same."""
    for engine in request.param:
        engine.demand()
    return request.param
