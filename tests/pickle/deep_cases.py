"""Structures a million levels deep, run as a program so that time and memory can be measured.

    python deep_cases.py ENGINE_MODULE CASE DEPTH PROTOCOLS

makes the structure, dumps, loads and skims it under the default recursion limit, checks what was loaded, and prints a
line of JSON: seconds of each step, the peak of memory in bytes, and the size of the stream.
"""

from __future__ import annotations

import importlib
import io
import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Node:
    """A link of a chain."""

    def __init__(self, following: Any = None) -> None:
        self.next = following


class Slotted:
    """A link without a `__dict__`."""

    __slots__ = ("next",)

    def __init__(self, following: Any = None) -> None:
        self.next = following


class Built:
    """A link that is rebuilt by its arguments: each is complete before the one around it."""

    def __init__(self, following: Any = None) -> None:
        self.next = following

    def __reduce__(self) -> Any:
        return Built, (self.next,)


class State:
    """A link that takes its state itself."""

    def __init__(self, following: Any = None) -> None:
        self.next = following

    def __getstate__(self) -> Any:
        return (self.next,)

    def __setstate__(self, state: Any) -> None:
        (self.next,) = state


class Initialised:
    """A link that old protocols call with its arguments."""

    def __init__(self, following: Any) -> None:
        self.next = following

    def __getinitargs__(self) -> Any:
        return (self.next,)

    def __getstate__(self) -> dict[str, Any]:
        return {"marked": True}


class Double:
    """A link of a list that is linked both ways."""

    def __init__(self) -> None:
        self.before: Any = None
        self.next: Any = None


def chain(wrap: Callable[[Any], Any], depth: int, core: Any = None) -> Any:
    """Wrap the core so many times."""
    value = core
    for _ in range(depth):
        value = wrap(value)
    return value


def double(depth: int) -> Any:
    """The first of so many links, each of which knows both neighbours."""
    first = last = Double()
    for _ in range(depth - 1):
        link = Double()
        link.before, last.next = last, link
        last = link
    return first


def closed(depth: int) -> Any:
    """A chain that ends in a list which holds its beginning."""
    core: list[Any] = []
    core.append(chain(Node, depth, core))
    return core[0]


# case -> (maker, the way one level further in)
CASES: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "list": (lambda depth: chain(lambda value: [value], depth), lambda value: value[0]),
    "tuple": (lambda depth: chain(lambda value: (value,), depth), lambda value: value[0]),
    "dict": (lambda depth: chain(lambda value: {"k": value}, depth), lambda value: value["k"]),
    "mixed": (lambda depth: chain(lambda value: {"k": ([value],)}, depth // 3), lambda value: value["k"][0][0]),
    "instances": (lambda depth: chain(Node, depth), lambda value: value.next),
    "slotted": (lambda depth: chain(Slotted, depth), lambda value: value.next),
    "built": (lambda depth: chain(Built, depth), lambda value: value.next),
    "state": (lambda depth: chain(State, depth), lambda value: value.next),
    "initialised": (lambda depth: chain(Initialised, depth), lambda value: value.next),
    "double": (double, lambda value: value.next),
    "cycle": (closed, lambda value: value.next),
}


def dismantle(value: Any, step: Callable[[Any], Any]) -> int:
    """Take a chain apart from the outside, so that no destructor recurses; return how long it was."""
    count = 0
    seen_core = False
    while value is not None and not seen_core:
        inner = step(value)
        seen_core = type(inner) is list and type(value) is Node  # the list that closes the cycle
        if type(value) is Double and inner is not None:
            assert inner.before is value
            inner.before = None
        if isinstance(value, (Node, Slotted, Double)):
            value.next = None
        value = inner
        count += 1
    return count


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds of processor time, and the result."""
    start = time.process_time()
    result = call(*arguments)
    return time.process_time() - start, result


def peak_memory() -> int:
    """The most memory this process has used, in bytes."""
    status = Path("/proc/self/status")
    if (
        status.exists()
    ):  # what getrusage tells on Linux goes back to before the program was started, to its parent's copy
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(engine_name: str, case: str, depth: str, protocols: str) -> None:
    """Run one case and print what it took."""
    engine = importlib.import_module(engine_name)
    make, step = CASES[case]
    took: dict[str, float] = {}
    value = make(int(depth))
    limit = sys.getrecursionlimit()
    size = 0
    for protocol in map(int, protocols):
        file = io.BytesIO()
        pickler = engine.Pickler(file, protocol)
        took[f"dump {protocol}"], _ = timed(pickler.dump, value)
        size = len(file.getvalue())
        file.seek(0)
        took[f"load {protocol}"], loaded = timed(engine.Unpickler(file).load)
        assert dismantle(loaded, step) == (int(depth) // 3 if case == "mixed" else int(depth))
        ids: list[Any] = []
        file.seek(0)
        took[f"noload {protocol}"], _ = timed(engine.Unpickler(file, persistent_load=ids).noload)
        assert ids == []
        assert file.tell() == size
    assert sys.getrecursionlimit() == limit
    dismantle(value, step)
    print(json.dumps({"took": took, "memory": peak_memory(), "size": size}))


if __name__ == "__main__":
    # Under its own name, not as __main__: that is what the streams say.
    sys.path.insert(0, str(Path(__file__).parent))
    importlib.import_module("deep_cases").main(*sys.argv[1:])
