"""A store against a model: whatever is done to the objects in it, they are what plain objects would be."""

from __future__ import annotations

import copy
from typing import Any

import shop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pstore
from pstore.backends import MemoryBackend

NAMES = st.sampled_from("abcd")
ATOMS = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.binary(max_size=5), st.floats(allow_nan=False))
KINDS = st.sampled_from(["plain", "person", "slotted", "list", "dict", "stack", "reduced"])


def new(kind: str, atom: Any) -> Any:
    """A new node."""
    match kind:
        case "plain":
            return shop.Plain(children=[], atom=atom)
        case "person":
            return shop.Person(children=[], atom=atom)
        case "slotted":
            return shop.Slotted(atom, [])
        case "list":
            return [atom]
        case "dict":
            return {"atom": atom}
        case "stack":
            return shop.Stack([atom])
        case _:
            made = shop.Reduced(atom, (atom,))
            made.extra = []
            return made


def children(obj: Any) -> Any:
    """Where an object keeps others: a list or a dict."""
    if isinstance(obj, (list, dict)):
        return obj
    if isinstance(obj, shop.Slotted):
        return obj.friend
    return obj.extra if isinstance(obj, shop.Reduced) else obj.children


def walk(root: Any) -> list[Any]:
    """All nodes that are reachable from a mapping of names, in a fixed order, each once."""
    seen: dict[int, Any] = {}
    waiting = [root[name] for name in sorted(root, reverse=True)]
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, (list, dict, shop.Plain, shop.Slotted, shop.Reduced)):
            continue
        seen[id(node)] = node
        inner = children(node)
        waiting.extend(reversed(list(inner.values()) if isinstance(inner, dict) else list(inner)))
    return list(seen.values())


def shape(root: Any) -> Any:
    """A description of a graph that is equal for two graphs just when they are isomorphic, identities included."""
    nodes = walk(root)
    number = {id(node): n for n, node in enumerate(nodes)}

    def tell(value: Any) -> Any:
        return ("node", number[id(value)]) if id(value) in number else (type(value).__name__, value)

    description: list[Any] = [(name, tell(root[name])) for name in sorted(root)]
    for node in nodes:
        inner = children(node)
        content = [(k, tell(v)) for k, v in inner.items()] if isinstance(inner, dict) else [tell(v) for v in inner]
        atoms = [tell(getattr(node, name, None)) for name in ("atom", "name", "parts")]
        description.append((node.__class__.__name__, atoms, content))
    return description


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to plain objects, which are the model."""

    @initialize()
    def begin(self) -> None:
        self.backend = MemoryBackend()
        self.db = pstore.open(self.backend, allow=["shop"])
        self.model: dict[str, Any] = {}
        self.committed: dict[str, Any] = {}
        self.held: list[tuple[Any, Any]] = []

    def pick(self, choice: int) -> tuple[Any, Any] | None:
        """The same node of both graphs."""
        real, modelled = walk(self.db), walk(self.model)
        assert len(real) == len(modelled)
        return (real[choice % len(real)], modelled[choice % len(real)]) if real else None

    @rule(name=NAMES, kind=KINDS, atom=ATOMS)
    def put_new(self, name: str, kind: str, atom: Any) -> None:
        self.db[name], self.model[name] = new(kind, atom), new(kind, atom)

    @rule(name=NAMES, atom=ATOMS)
    def put_atom(self, name: str, atom: Any) -> None:
        self.db[name] = self.model[name] = atom

    @rule(name=NAMES, choice=st.integers(0, 50))
    def put_known(self, name: str, choice: int) -> None:
        if picked := self.pick(choice):
            self.db[name], self.model[name] = picked

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        assert (name in self.db) == (name in self.model)
        if name in self.model:
            del self.db[name], self.model[name]

    @rule(owner=st.integers(0, 50), child=st.integers(0, 50))
    def link(self, owner: int, child: int) -> None:
        one, other = self.pick(owner), self.pick(child)
        if one and other:
            for parent, kid in zip(one, other, strict=True):
                inner = children(parent)
                inner.__setitem__(f"k{len(inner)}", kid) if isinstance(inner, dict) else inner.append(kid)

    @rule(owner=st.integers(0, 50), kind=KINDS, atom=ATOMS)
    def link_new(self, owner: int, kind: str, atom: Any) -> None:
        if picked := self.pick(owner):
            for parent in picked:
                inner = children(parent)
                inner.__setitem__(f"k{len(inner)}", new(kind, atom)) if isinstance(inner, dict) else inner.append(
                    new(kind, atom)
                )

    @rule(owner=st.integers(0, 50), at=st.integers(0, 5))
    def unlink(self, owner: int, at: int) -> None:
        if picked := self.pick(owner):
            for parent in picked:
                inner = children(parent)
                if inner:
                    del inner[list(inner)[at % len(inner)] if isinstance(inner, dict) else at % len(inner)]

    @rule(owner=st.integers(0, 50), atom=ATOMS)
    def set_attribute(self, owner: int, atom: Any) -> None:
        if picked := self.pick(owner):
            for node in picked:
                if isinstance(node, shop.Plain):
                    node.atom = atom
                elif isinstance(node, shop.Slotted):
                    node.name = atom
                elif isinstance(node, shop.Reduced):
                    node.parts = (atom,)

    @rule(owner=st.integers(0, 50))
    def hold(self, owner: int) -> None:
        """Take a container out, to change it later."""
        if picked := self.pick(owner):
            self.held.append((children(picked[0]), children(picked[1])))

    @precondition(lambda self: self.held)
    @rule(atom=ATOMS, which=st.integers(0, 10))
    def change_held(self, atom: Any, which: int) -> None:
        for inner in self.held[which % len(self.held)]:
            inner.__setitem__("held", atom) if isinstance(inner, dict) else inner.append(atom)

    @rule()
    def commit(self) -> None:
        self.db.commit()
        assert self.db.commit().keys == ()
        self.committed = copy.deepcopy(self.model)

    @rule()
    def rollback(self) -> None:
        self.db.rollback()
        self.model = copy.deepcopy(self.committed)
        self.held.clear()

    @rule(close=st.booleans())
    def reopen(self, close: bool) -> None:
        if close:
            self.db.close()
            self.committed = copy.deepcopy(self.model)
        else:
            self.db.rollback()
            self.db.close()
            self.model = copy.deepcopy(self.committed)
        self.held.clear()
        self.db = pstore.open(self.backend, allow=["shop"])

    @rule()
    def compare_with_another_session(self) -> None:
        with pstore.open(self.backend, allow=["shop"]) as other:
            assert shape(other) == shape(self.committed)

    @invariant()
    def same_graph(self) -> None:
        if hasattr(self, "db"):
            assert shape(self.db) == shape(self.model)

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.rollback()
            self.db.close()


class LazyStoreMachine(StoreMachine):
    """The same, but nothing is looked at between the steps, so that much is changed while other objects are ghosts."""

    same_graph = None  # type: ignore[assignment]

    @rule()
    def look(self) -> None:
        assert shape(self.db) == shape(self.model)


TestStore = StoreMachine.TestCase
TestLazyStore = LazyStoreMachine.TestCase
TestStore.settings = TestLazyStore.settings = settings(max_examples=200, stateful_step_count=50)
