"""No recursion limit: structures a million levels deep, dumped, loaded and skimmed, in bounded time and memory."""

from __future__ import annotations

import json
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .deep_cases import CASES, Node, chain, dismantle
from .engines import PROTOCOLS
from .processes import run
from .zoo import Key, Plain

if TYPE_CHECKING:
    from .engines import Engine

GIB = 2**30


def measured(engine: Engine, case: str, depth: int, protocols: str) -> dict[str, Any]:
    """What a process of its own says of one case."""
    return json.loads(run("deep_cases.py", engine.module_name, case, str(depth), protocols, timeout=110).stdout)


@pytest.mark.deep
@pytest.mark.parametrize("case", ["list", "instances", "double"])
def test_a_million_levels(engine: Engine, case: str) -> None:
    """A nested list, a chain of instances and a list linked both ways are dumped, loaded and skimmed, a million deep.

    Each in some seconds and in less than one and a half GiB, the objects themselves and the stream included. What the
    reference engine takes most time for is as deep as a fifth of that: what breaks with depth has broken long before.
    """
    depth = 200_000 if engine.id == "python" and case != "list" else 1_000_000
    told = measured(engine, case, depth, "4")
    assert told["size"] > depth
    assert told["memory"] < 1.5 * GIB
    # Fifteen on an ordinary machine; twice that on one which is busy.
    assert max(told["took"].values()) < 30, told


@pytest.mark.deep
@pytest.mark.parametrize("case", CASES)
def test_every_sort_of_nesting(engine: Engine, case: str) -> None:
    """Whatever can hold another object can hold it tens of thousands deep, in text and in binary."""
    told = measured(engine, case, 30_000, {"initialised": "01", "slotted": "2"}.get(case, "04"))
    assert told["memory"] < GIB / 4


@pytest.fixture(scope="module")
def deep() -> Any:
    """A list fifty thousand deep, around a core that some tests replace."""
    core: list[Any] = []
    return core, chain(lambda value: [value], 50_000, core)


def test_error_at_the_bottom(engine: Engine, deep: Any) -> None:
    """What can't be pickled at the bottom is an error with a path that is cut in its middle, not a page of it."""
    core, value = deep
    core.append(lambda: None)
    try:
        with pytest.raises(pickle.PicklingError, match=r"^root\[0\]\[0\].*\[0\].*(lambda|function)") as caught:
            engine.dumps(value)
        assert len(str(caught.value)) < 1000
    finally:
        core.clear()


def test_hooks_at_the_bottom(engine: Engine, deep: Any) -> None:
    """Hooks are asked at any depth, and ids are found there."""
    core, value = deep
    core.append(Plain())
    try:
        for protocol in PROTOCOLS:
            data = engine.dumps(value, protocol, inst_persistent_id=lambda obj: "bottom")
            assert engine.references(data) == ["bottom"]
            assert engine.globals(data) == []
        assert engine.globals(engine.dumps(value, 4)) == [("tests.pickle.zoo", "Plain")]
    finally:
        core.clear()


def test_deep_id(engine: Engine) -> None:
    """An id may itself be deep."""
    pid = chain(lambda value: (value,), 50_000, "core")
    data = engine.dumps(Plain(), 4, inst_persistent_id=lambda obj: pid)
    assert data == engine.dumps(Plain(), 4, persistent_id=lambda obj: pid if type(obj) is Plain else None)
    (found,) = engine.references(data)
    for _ in range(50_000):
        (found,) = found
    assert found == "core"


def test_deep_and_canonical(engine: Engine, deep: Any) -> None:
    """The canonical mode has no limit of depth either, with a set at the bottom or one at every level."""
    core, value = deep
    core.append({"b", "a"})
    try:
        data = engine.dumps(value, 4, canonical=True)
        loaded = engine.loads(data)
        for _ in range(50_000):
            (loaded,) = loaded
        assert loaded == [{"a", "b"}]
    finally:
        core.clear()
    for wrap in (
        lambda value: frozenset([value]),
        lambda value: frozenset([value, 1]),
        lambda value: Key(frozenset([value])),
    ):
        nested = chain(wrap, 3000, "core")
        assert engine.dumps(engine.loads(engine.dumps(nested, 4, canonical=True)), 4, canonical=True)


def test_deep_state_of_a_failing_object(engine: Engine) -> None:
    """What an object at the bottom raises when it is dumped or loaded comes out as it is."""

    class Bad:
        def __getstate__(self) -> Any:
            raise KeyError("mine")

    value = chain(Node, 50_000, Bad())
    with pytest.raises(KeyError, match="mine"):
        engine.dumps(value, 4)
    unwind(value)
    value = chain(Node, 50_000, Plain())
    data = engine.dumps(value, 4, inst_persistent_id=lambda obj: 1 if type(obj) is Plain else None)

    def persistent_load(pid: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        engine.loads(data, persistent_load=persistent_load)
    unwind(value)


def unwind(value: Any) -> None:
    """Take a chain of nodes apart."""
    while type(value) is Node:
        value.next, value = None, value.next


def test_recursion_limit_is_left_alone(engine: Engine) -> None:
    """A low limit makes no difference, and stays as it was: under it deep structures are dumped and loaded."""
    value = chain(Node, 5000)
    before = sys.getrecursionlimit()
    frames = 0
    frame = sys._getframe()
    while frame is not None:
        frame, frames = frame.f_back, frames + 1
    sys.setrecursionlimit(frames + 60)
    try:
        for protocol in PROTOCOLS:
            assert dismantle(engine.loads(engine.dumps(value, protocol)), lambda node: node.next) == 5000
        assert sys.getrecursionlimit() == frames + 60
    finally:
        sys.setrecursionlimit(before)
    unwind(value)


def test_objects_that_recurse_by_themselves(engine: Engine) -> None:
    """A `__reduce__` that calls itself without end is a RecursionError, as it would be anywhere."""

    class Endless:
        def __reduce__(self) -> Any:
            return self.__reduce__()

    with pytest.raises(RecursionError):
        engine.dumps([Endless()])
