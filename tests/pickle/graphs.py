"""Random object graphs with sharing and cycles, for Hypothesis. Knows no engine."""

from __future__ import annotations

import collections
from typing import Any

from hypothesis import strategies as st

from .zoo import Dict, FrozenData, Key, List, Plain, Set, SlottedWithDict, State, Tuple

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.sampled_from([2**31, -(2**63), 2**2040, "", b"", 0.0, "shared text", Plain, len])
)


class Slots:
    """A node with slots and no `__dict__`."""

    __slots__ = ("first", "rest")


def empty(kind: str, number: int) -> Any:
    """A new mutable node; instances get a `name`, by which members of sets are told apart."""
    return {
        "list": list,
        "dict": dict,
        "set": set,
        "bytearray": lambda: bytearray(b"%d" % number),
        "Plain": lambda: Plain(name=f"node {number}"),
        "Slots": Slots,
        "SlottedWithDict": lambda: SlottedWithDict(number, f"right {number}"),
        "State": lambda: State(number),
        "List": List,
        "Dict": Dict,
        "Set": Set,
        "deque": collections.deque,
        "OrderedDict": collections.OrderedDict,
    }[kind]()


MUTABLE = [
    "list", "dict", "set", "bytearray", "Plain", "Slots", "SlottedWithDict", "State", "List", "Dict", "Set", "deque",
    "OrderedDict",
]  # fmt: skip
FROZEN = ["tuple", "Tuple", "Key", "FrozenData", "frozenset"]


def connect(node: Any, targets: list[Any], atom: Any) -> None:
    """Make a node refer to others."""
    if isinstance(node, (list, collections.deque)):
        node.extend(targets)
        node.append(atom)
    elif isinstance(node, dict):
        for number, target in enumerate(targets):
            node[f"key {number}"] = target
            if isinstance(target, Plain):
                node[target] = atom
    elif isinstance(node, set):
        # Of members that are equal (1 and True) one would be left; names and texts are not.
        node.update(target for target in targets if isinstance(target, Plain))
        node.update(f"member {number}" for number in range(len(targets)))
    elif isinstance(node, Slots):
        node.rest = list(targets)
        if targets:
            node.first = targets[0]
    elif isinstance(node, State):
        node.value = [*targets, atom]
    elif isinstance(node, (Plain, SlottedWithDict)):
        for number, target in enumerate(targets):
            setattr(node, f"attribute_{number}", target)
        node.atom = atom


def freeze(kind: str, targets: list[Any], atom: Any) -> Any:
    """An immutable node, which can only refer to what was there before it."""
    if kind == "tuple":
        return (*targets, atom)
    if kind == "Tuple":
        return Tuple([*targets, atom])
    if kind == "frozenset":
        return frozenset([target for target in targets if isinstance(target, Plain)] + ["a member"])
    if kind == "Key":
        return Key([atom, *targets])
    return FrozenData(repr(atom), targets)


@st.composite
def graphs(draw: Any, old: bool = False) -> Any:
    """A root from which up to thirty nodes can be reached, linked at random, many of them in cycles.

    Args:
        draw: Hypothesis's.
        old: Leave out what protocols 0 and 1 can't hold.
    """
    count = draw(st.integers(1, 15))
    kinds = [kind for kind in MUTABLE if not (old and "Slot" in kind)]
    nodes = [empty(draw(st.sampled_from(kinds)), number) for number in range(count)]
    mutable = list(nodes)
    for _ in range(draw(st.integers(0, 10))):
        targets = draw(st.lists(st.sampled_from(nodes), max_size=4))
        nodes.append(freeze(draw(st.sampled_from(FROZEN)), targets, draw(ATOMS)))
    for node in mutable:
        connect(node, draw(st.lists(st.sampled_from(nodes), max_size=4)), draw(ATOMS))
    return draw(st.sampled_from(nodes)) if draw(st.booleans()) else nodes
