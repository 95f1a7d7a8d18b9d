"""Nothing is left behind: no memory, object or reference, by what succeeds and by what fails, however often it is done."""

from __future__ import annotations

import gc
import io
import json
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from .leak_cases import ENVIRONMENT, cases
from .processes import run
from .zoo import Plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engines import Engine


_told: dict[str, Any] = {}


def left_by(engine: Engine) -> dict[str, dict[str, list[float]]]:
    """What each case leaves, found out once for an engine."""
    if engine.id not in _told:
        # The reference engine allocates nothing by itself, and takes ten times as long.
        rounds = "1" if engine.id == "python" else "15"
        done = run("-m", "tests.pickle.leak_cases", engine.module_name, rounds, timeout=110, **ENVIRONMENT)
        _told[engine.id] = json.loads(done.stdout)
    return _told[engine.id]


class TestRounds:
    def test_nothing_is_left(self, engine: Engine) -> None:
        """After some rounds a further one leaves nothing: no block of memory, no object, no reference."""
        leaks = {}
        for name, left in left_by(engine).items():
            for what, spans in left.items():
                # What the interpreter keeps now and then for itself isn't there in every span; a leak is.
                if min(spans) > (20.0 if what == "bytes" else 0.5):
                    leaks[name, what] = spans
        assert not leaks

    def test_a_leak_is_found(self) -> None:
        """The measure tells a leak of one small object in each round, and no other."""
        program = (
            "import json; from tests.pickle import leak_cases as m; kept = [];"
            "m.cases = lambda engine: {'leak': lambda: kept.append([kept]), 'none': list};"
            "m.main('pstore.pickle._python', '20')"
        )
        told = json.loads(run("-c", program, **ENVIRONMENT).stdout)
        assert sorted(told["leak"]["objects"])[1] > 0.5
        assert sorted(told["leak"]["bytes"])[1] > 20
        assert min(told["none"]["objects"]) < 0.5
        assert min(told["none"]["bytes"]) < 20


class Hook:
    """A hook that holds whoever asks it."""

    def __init__(self) -> None:
        self.asker: Any = None

    def __call__(self, obj: Any) -> None:
        return None

    write = read = readline = get = __call__


WAYS: dict[str, Callable[[Any, Engine, Hook], None]] = {
    "an attribute": lambda one, engine, hook: setattr(one, "itself", one),
    "a hook": lambda one, engine, hook: setattr(one, "persistent_id", hook),
    "a hook of loads": lambda one, engine, hook: setattr(one, "persistent_load", hook),
    "a lambda": lambda one, engine, hook: setattr(one, "persistent_id", lambda obj: one and None),
    "dispatch_table": lambda one, engine, hook: setattr(one, "dispatch_table", {Plain: hook}),
    "reducer_override": lambda one, engine, hook: setattr(one, "reducer_override", one.dumps),
    "persistent_ids": lambda one, engine, hook: setattr(one, "persistent_ids", {1: hook}),
    "persistent_objects": lambda one, engine, hook: setattr(one, "persistent_objects", {1: hook}),
    "find_global": lambda one, engine, hook: setattr(one, "find_global", hook),
}

MORE_WAYS = "file", "memo", "what was dumped or loaded", "keywords"
OF_PICKLERS = "a hook", "a lambda", "dispatch_table", "reducer_override", "persistent_ids"
OF_UNPICKLERS = "a hook of loads", "find_global", "persistent_objects"


def holding(engine: Engine, kind: str, way: str, sub: bool) -> Any:
    """A pickler or unpickler that something holds which it holds itself, in a class of its own or not."""
    hook = Hook()
    cls: Any = getattr(engine, kind)
    if sub:
        cls = type("Sub", (cls,), {})
    if way in WAYS:
        one = cls(None)
        WAYS[way](one, engine, hook)
    elif way == "file":
        one = cls(hook)
    elif way == "memo" and kind == "Pickler":
        one = cls(None)
        one.memo = {id(hook): (0, hook)}
    elif way == "memo":
        one = cls(None)
        one.memo = {0: hook}
    elif way == "what was dumped or loaded":
        one = cls(None)
        if kind == "Pickler":
            one.inst_persistent_id = lambda obj: "id"
            holder = [hook]
            one.dumps(holder)
            hook.holder = holder  # type: ignore[attr-defined]
        else:
            one.persistent_load = lambda pid: hook
            one.feed(b"(K\x01Qq\x00t.")
            one.load()
    elif way == "keywords" and kind == "Pickler":
        one = cls(
            None,
            5,
            True,
            hook,
            persistent_id=hook,
            inst_persistent_id=hook,
            global_persistent_id=hook,
            persistent_ids={1: hook},
        )
    else:
        one = cls(None, persistent_load=hook, find_global=hook, persistent_objects={1: hook}, buffers=iter([hook]))
    hook.asker = one
    return one


@pytest.mark.parametrize("sub", [False, True], ids=["itself", "subclass"])
@pytest.mark.parametrize(
    "kind, way",
    [("Pickler", way) for way in [*WAYS, *MORE_WAYS] if way not in OF_UNPICKLERS]
    + [("Unpickler", way) for way in [*WAYS, *MORE_WAYS] if way not in OF_PICKLERS],
)
def test_cycles_are_collected(engine: Engine, kind: str, way: str, sub: bool) -> None:
    """A pickler or unpickler in a cycle of references, through whatever it holds, is found by the garbage collector."""
    one = holding(engine, kind, way, sub)
    gone: list[str] = []
    witness = Plain()
    weakref.finalize(witness, gone.append, "gone")
    hook = next((obj for obj in gc.get_referrers(one) if type(obj) is dict or type(obj) is Hook), None)
    target = hook if type(hook) is Hook else one
    vars(target)["witness"] = witness
    del one, hook, target, witness
    gc.collect()
    assert gone == ["gone"]


def test_identity_table_in_a_cycle(engine: Engine) -> None:
    """An identity table that holds itself is collected."""
    make = getattr(engine.module, "IdentityTable", dict)
    table = make()
    gone: list[str] = []
    witness = Plain()
    weakref.finalize(witness, gone.append, "gone")
    table[1], table[2] = table, witness
    del table, witness
    gc.collect()
    assert gone == ["gone"]


def test_values_are_freed_at_once(engine: Engine) -> None:
    """What was loaded, and what was written by a pickler whose memo was cleared, is freed without the collector."""
    gone: list[str] = []
    gc.disable()
    try:
        pickler = engine.Pickler(io.BytesIO(), 4)
        one = Plain(a=[1])
        weakref.finalize(one, gone.append, "dumped")
        pickler.dump([one])
        del one
        assert gone == []  # the memo holds it
        pickler.clear_memo()
        assert gone == ["dumped"]
        data = engine.dumps([Plain(a=1)], 4)
        unpickler = engine.Unpickler()
        unpickler.feed(data)
        loaded = unpickler.load()
        weakref.finalize(loaded[0], gone.append, "loaded")
        del loaded
        unpickler.feed(data)
        assert gone == ["dumped", "loaded"]
        one = Plain()
        weakref.finalize(one, gone.append, "in a dump that failed")
        with pytest.raises(ZeroDivisionError):
            engine.Pickler(None, 4, inst_persistent_id=lambda obj: 1 / 0).dumps([one])
        del one
        assert gone[2:] == ["in a dump that failed"]
    finally:
        gc.enable()


def test_references_of_arguments(engine: Engine) -> None:
    """What is given to a pickler or unpickler has as many references afterwards as before."""
    hook, key, value = (lambda obj: None), "a key" * 3, Plain(a="a value" * 3)
    data = engine.dumps({key: value}, 4)
    watched = [hook, key, value, data, Plain, dict, type(value), vars(value)]
    before = list(map(sys.getrefcount, watched))
    for _ in range(100):
        engine.dumps({key: value}, 4, persistent_id=hook, inst_persistent_id=hook, global_persistent_id=hook)
        engine.loads(data, persistent_load=hook)
        engine.references(data)
    after = list(map(sys.getrefcount, watched))
    assert all(two - one < 20 for one, two in zip(before, after, strict=True)), (before, after)


def test_cases_are_run(engine: Engine) -> None:
    """Each case of the program runs here, too, so that one which fails at once is seen."""
    for run_case in cases(engine.module).values():
        run_case()
