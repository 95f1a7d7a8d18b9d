"""Random object graphs with sharing and cycles: isomorphic copies, the standard's bytes, ids anywhere."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from .engines import PROTOCOLS, standard_dumps
from .graphs import ATOMS, graphs
from .zoo import Key, Plain, Slotted, assert_alike

if TYPE_CHECKING:
    from .engines import Engine

NEW = st.sampled_from(PROTOCOLS[2:])
OLD = st.sampled_from(PROTOCOLS[:2])


def check(engine: Engine, graph: Any, protocol: int) -> None:
    """Triangulate."""
    data = engine.dumps(graph, protocol)
    assert data == standard_dumps(graph, protocol)
    ours, standard = engine.loads(data), pickle.loads(data)
    assert_alike(standard, ours)
    if protocol >= 2:  # in older ones some kinds are copies of their base's value, apart from the cycle
        assert_alike(graph, ours)
    assert_alike(ours, pickle.loads(engine.dumps(ours, protocol)))
    engine.unpickler(data).noload()


@settings(max_examples=300)
@given(graph=graphs(), protocol=NEW)
def test_new_protocols(engine: Engine, graph: Any, protocol: int) -> None:
    """A graph comes back isomorphic, and its bytes are the standard's."""
    check(engine, graph, protocol)


@settings(max_examples=100)
@given(graph=graphs(old=True), protocol=OLD)
def test_old_protocols(engine: Engine, graph: Any, protocol: int) -> None:
    """In protocols 0 and 1 the result is the standard's, where that has one."""
    try:
        standard_dumps(graph, protocol)
    except RecursionError:
        return  # subclasses of containers in cycles: their value is an argument of their making
    try:
        pickle.loads(standard_dumps(graph, protocol))
    except TypeError:
        return
    check(engine, graph, protocol)


@given(graph=graphs(), protocol=NEW)
def test_canonical(engine: Engine, graph: Any, protocol: int) -> None:
    """In canonical mode the copy is as good, and what it is written as again is the same."""
    data = engine.dumps(graph, protocol, canonical=True)
    loaded = engine.loads(data)
    assert_alike(graph, loaded)  # which allows that two equal texts become one
    assert engine.dumps(loaded, protocol, canonical=True) == data


@given(graph=graphs(), protocol=NEW, data=st.data())
def test_ids(engine: Engine, graph: Any, protocol: int, data: st.DataObject) -> None:
    """Some instances go by id: what is loaded has them in their places, and noload finds what a load is asked for."""
    nodes = [node for node in reachable(graph) if type(node) in (Plain, Key, list)]
    chosen = data.draw(st.lists(st.sampled_from(nodes), max_size=5, unique_by=id)) if nodes else []
    ids = {id(node): ("id", number) for number, node in enumerate(chosen)}
    stream = engine.dumps(graph, protocol, persistent_ids=ids)
    assert stream == with_method(graph, protocol, ids)
    asked: list[Any] = []

    def persistent_load(pid: Any) -> Any:
        asked.append(pid)
        return chosen[pid[1]]

    loaded = engine.loads(stream, persistent_load=persistent_load)
    assert engine.references(stream) == asked
    found = set(map(id, reachable(loaded)))
    assert all(id(chosen[number]) in found for _, number in asked)


def with_method(graph: Any, protocol: int, ids: dict[int, Any]) -> bytes:
    """What the standard writes with a method that gives the same ids."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ids.get(id(obj))

    file = io.BytesIO()
    Pickler(file, protocol).dump(graph)
    return file.getvalue()


def reachable(root: Any) -> list[Any]:
    """All objects that can be reached, each once."""
    found: dict[int, Any] = {}
    todo = [root]
    while todo:
        one = todo.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        if isinstance(one, (list, tuple, set, frozenset)):
            todo += one
        elif isinstance(one, dict):
            todo += [*one, *one.values()]
        if hasattr(one, "__dict__") and not isinstance(one, type):
            todo += vars(one).values()
        todo += [
            getattr(one, name) for name in ("first", "rest") if type(one).__name__ == "Slots" and hasattr(one, name)
        ]
    return list(found.values())


@settings(max_examples=50)
@given(values=st.lists(graphs(), min_size=1, max_size=4), protocol=NEW, clear=st.booleans())
def test_several_streams(engine: Engine, values: list[Any], protocol: int, clear: bool) -> None:
    """Graphs dumped one after another by one pickler, one of them twice, are loaded by one unpickler."""
    values = [*values, values[0]]
    pickler, file = engine.pickler(protocol)
    expected = io.BytesIO()
    standard = pickle.Pickler(expected, protocol)
    for value in values:
        if clear:
            pickler.clear_memo()
            standard.clear_memo()
        pickler.dump(value)
        standard.dump(value)
    assert file.getvalue() == expected.getvalue()
    unpickler = engine.Unpickler()
    unpickler.feed(file.getvalue())
    loaded = []
    for _ in values:
        if clear:
            unpickler.clear_memo()
        loaded.append(unpickler.load())
    if clear:
        for value, copy in zip(values, loaded, strict=True):
            assert_alike(value, copy)
    else:
        assert_alike(values, loaded)


@given(
    value=st.recursive(
        ATOMS,
        lambda inner: (
            st.lists(inner, max_size=6)
            | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=6)
            | st.tuples(inner, inner, inner)
            | st.builds(Slotted, inner, inner)
        ),
        max_leaves=40,
    ),
    protocol=st.sampled_from(PROTOCOLS[2:]),
)
def test_trees(engine: Engine, value: Any, protocol: int) -> None:
    """Trees of ordinary data."""
    check(engine, value, protocol)
