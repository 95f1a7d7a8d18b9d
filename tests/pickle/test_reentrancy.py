"""A hook, or the code of an object, that calls back into the pickler or unpickler that is at work."""

from __future__ import annotations

import io
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from .zoo import Plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engines import Engine

DUMP_CALLS: dict[str, Callable[[Any], Any]] = {
    "dump": lambda pickler: pickler.dump([1, 2]),
    "dumps": lambda pickler: pickler.dumps([1, 2]),
    "clear_memo": lambda pickler: pickler.clear_memo(),
    "__init__": lambda pickler: pickler.__init__(io.BytesIO(), 0),
    "memo": lambda pickler: setattr(pickler, "memo", {}),
}


class Calling:
    """Calls back at a moment of its reduction; otherwise reduced by default."""

    def __init__(self, moment: str, call: Callable[[], None]) -> None:
        vars(self).update({moment: call}, value=7)

    def __getstate__(self) -> dict[str, Any]:
        vars(self).get("getstate", bool)()
        return {"value": 7}

    def __reduce_ex__(self, protocol: Any) -> Any:
        vars(self).get("reduce", bool)()
        items = vars(self).get("items")
        if items is None:
            return super().__reduce_ex__(protocol)
        return list, (), None, (items() or item for item in [1, 2])


MOMENTS = [
    "persistent_id", "inst_persistent_id", "global_persistent_id", "reducer_override", "getstate", "reduce", "items",
    "write", "buffer_callback", "dispatch_table", "persistent_ids",
]  # fmt: skip


class File:
    """Calls back when it is written to."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.chunks: list[bytes] = []
        self.call = call

    def write(self, data: Any) -> None:
        self.chunks.append(bytes(data))
        self.call()


@pytest.mark.parametrize("name", DUMP_CALLS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_pickler(engine: Engine, moment: str, name: str) -> None:
    """Called back in the middle of a dump a pickler raises a RuntimeError, and finishes what it was doing."""
    called: list[Any] = []
    pickler: Any = None

    def call(*_: Any) -> None:
        if pickler is not None:
            with pytest.raises(RuntimeError) as caught:
                DUMP_CALLS[name](pickler)
            called.append(caught.value)

    class Table(dict):
        def get(self, key: Any, default: Any = None) -> Any:
            call()
            return default

        def __getitem__(self, key: Any) -> Any:
            call()
            raise KeyError(key)

    def value() -> Any:
        inner = Calling(moment, call) if moment in ("getstate", "reduce", "items") else Plain(value=7)
        return ["a", inner, "b", inner, Plain, pickle.PickleBuffer(b"buffer"), "x" * 100_000, "b"]

    obj = value()
    keywords: dict[str, Any] = {"persistent_ids": Table()} if moment == "persistent_ids" else {}
    if moment == "buffer_callback":
        keywords["buffer_callback"] = lambda buffer: call() or True
    file = File(call if moment == "write" else bool)
    made = engine.Pickler(file, 5, **keywords)
    if moment.endswith("persistent_id"):
        setattr(made, moment, call)
    elif moment == "reducer_override":
        made.reducer_override = lambda obj: call() or NotImplemented
    elif moment == "dispatch_table":
        made.dispatch_table = Table()
    expected = pickle.dumps(obj, 5)
    pickler = made
    pickler.dump(obj)
    assert called
    assert b"".join(file.chunks) == expected
    # It isn't left as if it were at work.
    used, pickler = pickler, None
    used.clear_memo()
    assert used.dumps(["after"]) == pickle.dumps(["after"], 5)


def test_pickler_made_busy_by_an_uncaught_error(engine: Engine) -> None:
    """The RuntimeError of a call back may end the outer dump too; the pickler can be used again."""
    pickler = engine.Pickler(None, 4)
    pickler.persistent_id = pickler.dumps
    with pytest.raises(RuntimeError):
        pickler.dumps([1])
    del pickler.persistent_id
    pickler.clear_memo()
    assert pickler.dumps([1]) == pickle.dumps([1], 4)


def test_another_pickler_in_a_hook(engine: Engine) -> None:
    """A hook may use other picklers and unpicklers, of any engine, down to some depth."""

    def hook(obj: Any) -> Any:
        if isinstance(obj, Plain):
            data = engine.dumps(vars(obj), 4, persistent_id=hook)
            assert pickle.loads(pickle.dumps(1)) == engine.loads(engine.dumps(1))
            return data
        return None

    value = Plain(inner=Plain(inner=Plain(inner="core")))
    data = engine.dumps(value, 4, persistent_id=hook)

    def load(pid: Any) -> Any:
        return Plain(**engine.loads(pid, persistent_load=load))

    assert engine.loads(data, persistent_load=load).inner.inner.inner == "core"


LOAD_CALLS: dict[str, Callable[[Any], Any]] = {
    "load": lambda unpickler: unpickler.load(),
    "noload": lambda unpickler: unpickler.noload(),
    "feed": lambda unpickler: unpickler.feed(b"N."),
    "clear_memo": lambda unpickler: unpickler.clear_memo(),
    "__init__": lambda unpickler: unpickler.__init__(io.BytesIO(b"N.")),
    "memo": lambda unpickler: setattr(unpickler, "memo", {}),
}

loading: Any = None  # what the classes below call when they are loaded


class CallingSetState:
    def __setstate__(self, state: Any) -> None:
        loading()
        vars(self).update(state)


class CallingNew:
    def __new__(cls) -> CallingNew:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        loading and loading()
        return super().__new__(cls)


class CallingAppend(list):
    def append(self, item: Any) -> None:
        loading()
        super().append(item)

    def extend(self, items: Any) -> None:
        for item in items:
            self.append(item)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return CallingAppend, (), None, iter(list(self))


class CallingHash:
    def __hash__(self) -> int:
        if loading is not None:
            loading()
        return 1

    def __eq__(self, other: object) -> bool:
        return type(other) is CallingHash


class CallingFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        loading()
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        loading()
        return super().readinto(buffer)

    def readline(self, size: int | None = -1) -> bytes:
        loading()
        return super().readline(size)


LOAD_MOMENTS: dict[str, Callable[[], Any]] = {
    "persistent_load": lambda: "a persistent object",
    "find_class": Plain,
    "find_global": Plain,
    "setstate": lambda: vars(state := CallingSetState()).update(v=1) or state,
    "new": CallingNew,
    "append": lambda: CallingAppend([1, 2]),
    "hash": lambda: {CallingHash(): 1},
    "set": lambda: {CallingHash()},
    "file": lambda: "x" * 10,
    "buffers": lambda: pickle.PickleBuffer(b"x"),
}


@pytest.mark.parametrize("name", LOAD_CALLS)
@pytest.mark.parametrize("moment", LOAD_MOMENTS)
def test_unpickler(engine: Engine, moment: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called back in the middle of a load an unpickler raises a RuntimeError, and finishes what it was doing."""
    special = LOAD_MOMENTS[moment]()
    obj = ["a", special, ("b", ["b"]), special]
    out: list[Any] = []
    data = engine.dumps(
        obj,
        5,
        persistent_id=lambda one: 1 if one is special and moment == "persistent_load" else None,
        buffer_callback=lambda buffer: out.append(buffer) if moment == "buffers" else True,
    )
    called: list[Any] = []

    def call(*_: Any) -> None:
        with pytest.raises(RuntimeError) as caught:
            LOAD_CALLS[name](unpickler)
        called.append(caught.value)

    def buffers() -> Any:
        call()
        yield from out

    file = CallingFile(data + b"rest") if moment == "file" else io.BytesIO(data + b"rest")
    unpickler = engine.Unpickler(file, buffers=buffers())
    if moment == "persistent_load":
        unpickler.persistent_load = lambda pid: call() or special
    elif moment == "find_global":
        unpickler.find_global = lambda module, name: call() or Plain
    elif moment == "find_class":
        unpickler.find_class = lambda module, name: call() or Plain
    monkeypatch.setitem(globals(), "loading", call)
    loaded = unpickler.load()
    monkeypatch.undo()
    assert called
    assert loaded[0] == "a"
    assert loaded[2] == ("b", ["b"])
    assert loaded[1] is loaded[3]
    if moment != "buffers":
        assert type(loaded[1]) is type(special)
    assert file.getvalue()[file.tell() :] == b"rest"
    unpickler.feed(b"N.")
    assert unpickler.load() is None


def test_memo_seen_by_a_hook(engine: Engine) -> None:
    """A hook may look at the memo and at the stack's objects; what it does to a loaded container stays."""
    unpickler = engine.Unpickler()

    def persistent_load(pid: Any) -> Any:
        unpickler.memo[0].append("by the hook")
        return pid

    unpickler.persistent_load = persistent_load
    unpickler.feed(b"(]q\x00I2\nQh\x00t.")
    assert unpickler.load() == (["by the hook"], 2, ["by the hook"])


def test_memo_emptied_by_a_hook(engine: Engine) -> None:
    """A hook that empties the memo under the load is an error for what the stream refers to afterwards, no crash."""
    unpickler = engine.Unpickler()
    unpickler.persistent_load = lambda pid: unpickler.memo.clear()
    unpickler.feed(b"(]q\x00I2\nQh\x00t.")
    try:
        loaded = unpickler.load()
    except pickle.UnpicklingError:
        pass
    else:
        assert loaded == ([], None, [])  # an engine whose `memo` is a copy


def test_threads(engine: Engine) -> None:
    """Picklers and unpicklers of different threads don't meet."""
    value = [Plain(number=i, items=[i]) for i in range(200)]
    expected = engine.dumps(value, 4)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                assert engine.dumps(value, 4) == expected
                assert [one.number for one in engine.loads(expected)] == [*range(200)]
        except BaseException as error:  # noqa: BLE001 - told to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
