"""The examples of Python 2's documentation of `pickle` and `cPickle`, in Python 3 terms."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .engines import PROTOCOLS
from .processes import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .engines import Engine

HERE = Path(__file__).parent


class Integer:
    """Lives outside of the stream, which holds an id in its place."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __str__(self) -> str:
        return f"plain {self.value}"


class FancyInteger(Integer):
    """What the loading side makes of the id."""

    def __str__(self) -> str:
        return f"fancy {self.value}"


def persistent_id(obj: Any) -> str | None:
    """An id that tells the value, for what has one."""
    return f"integer {obj.value}" if hasattr(obj, "value") else None


def persistent_load(pid: str) -> FancyInteger:
    """The object that the id stands for."""
    kind, _, value = pid.partition(" ")
    if kind != "integer":
        raise pickle.UnpicklingError(f"no such object: {pid!r}")
    return FancyInteger(int(value))


class Stranger(Integer):
    pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestIntegers:
    def test_hooks_set_on_instances(self, engine: Engine, protocol: int) -> None:
        """Functions assigned to a pickler and an unpickler take an object out of the stream and put another in."""
        pickler, file = engine.pickler(protocol)
        pickler.persistent_id = persistent_id
        pickler.dump([Integer(7), "text", Integer(8)])
        data = file.getvalue()
        assert b"Integer" not in data
        assert b"integer 7" in data

        unpickler = engine.unpickler(data)
        unpickler.persistent_load = persistent_load
        first, text, second = unpickler.load()
        assert [str(first), text, str(second)] == ["fancy 7", "text", "fancy 8"]
        assert type(first) is FancyInteger

    def test_root_may_be_external(self, engine: Engine, protocol: int) -> None:
        """A stream may be nothing but an id."""
        data = engine.dumps(Integer(7), protocol, persistent_id=persistent_id)
        assert str(engine.loads(data, persistent_load=persistent_load)) == "fancy 7"

    def test_refusal_of_an_id(self, engine: Engine, protocol: int) -> None:
        """An UnpicklingError that `persistent_load` raises comes to the caller as it is."""
        data = engine.dumps(Integer(7), protocol, persistent_id=lambda obj: "thing 1")
        with pytest.raises(pickle.UnpicklingError, match=r"^no such object: 'thing 1'$"):
            engine.loads(data, persistent_load=persistent_load)

    def test_without_persistent_load(self, engine: Engine, protocol: int) -> None:
        """A stream with ids isn't loaded by who doesn't say what they mean."""
        data = engine.dumps([Integer(7)], protocol, persistent_id=persistent_id)
        with pytest.raises(pickle.UnpicklingError, match="persistent"):
            engine.loads(data)

    def test_sniffing(self, engine: Engine, protocol: int) -> None:
        """A list as `persistent_load` collects the ids, in a load, where they stand for themselves, and in `noload`."""
        data = engine.dumps([Integer(7), {"k": (Integer(8), Integer(7))}], protocol, persistent_id=persistent_id)
        sniffed: list[str] = []
        unpickler = engine.unpickler(data)
        unpickler.persistent_load = sniffed
        assert unpickler.load() == ["integer 7", {"k": ("integer 8", "integer 7")}]
        assert sniffed == ["integer 7", "integer 8", "integer 7"]

        skimmed: list[str] = []
        unpickler = engine.unpickler(data)
        unpickler.persistent_load = skimmed
        unpickler.noload()
        assert skimmed == sniffed

    def test_inst_persistent_id(self, engine: Engine, protocol: int) -> None:
        """The hook that is asked for instances alone doesn't meet text, numbers and containers."""
        asked: list[Any] = []

        def inst_persistent_id(obj: Any) -> str | None:
            asked.append(obj)
            return persistent_id(obj)

        pickler, file = engine.pickler(protocol)
        pickler.inst_persistent_id = inst_persistent_id
        one = Integer(7)
        pickler.dump([one, "text", {1: 2.5}, (None, b"bytes")])
        assert asked == [one]
        loaded = engine.loads(file.getvalue(), persistent_load=persistent_load)
        assert str(loaded[0]) == "fancy 7"
        assert loaded[1:] == ["text", {1: 2.5}, (None, b"bytes")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestSafety:
    def test_find_global_refuses_all(self, engine: Engine, protocol: int) -> None:
        """`find_global = None`: no class or function comes into the process by name."""
        unpickler = engine.unpickler(engine.dumps([1, Integer(7)], protocol))
        unpickler.find_global = None
        with pytest.raises(pickle.UnpicklingError, match=r"Integer|_reconstructor"):
            unpickler.load()
        unpickler = engine.unpickler(engine.dumps([1, ("text", 2.5, None)], protocol))
        unpickler.find_global = None
        assert unpickler.load() == [1, ("text", 2.5, None)]

    def test_find_global_chooses(self, engine: Engine, protocol: int) -> None:
        """`find_global` is a function of module and name, and what it gives is used."""
        asked = []

        def find_global(module: str, name: str) -> Any:
            asked.append((module, name))
            if name == "Integer":
                return FancyInteger
            raise pickle.UnpicklingError(f"refused: {module}.{name}")

        one = engine.dumps(Integer(7), max(protocol, 2))
        unpickler = engine.unpickler(one)
        unpickler.find_global = find_global
        assert str(unpickler.load()) == "fancy 7"
        assert asked == [(Integer.__module__, "Integer")]
        unpickler = engine.unpickler(engine.dumps(Stranger(7), max(protocol, 2)))
        unpickler.find_global = find_global
        with pytest.raises(pickle.UnpicklingError, match=r"^refused: .*Stranger"):
            unpickler.load()


def test_load_global_overridden(engine: Engine) -> None:
    """A subclass's `load_global` reads the two lines itself and pushes what it likes."""
    if not engine.overridable:
        pytest.skip("this engine's opcode methods can't be overridden, as documented")

    class Careful(engine.Unpickler):
        def load_global(self) -> None:
            module = self.readline()[:-1].decode()
            name = self.readline()[:-1].decode()
            if name != "Integer":
                raise pickle.UnpicklingError(f"refused: {module}.{name}")
            self.append(FancyInteger)

    data = engine.dumps([Integer(7)], 2)
    (loaded,) = Careful(io.BytesIO(data)).load()
    assert str(loaded) == "fancy 7"
    with pytest.raises(pickle.UnpicklingError, match=r"^refused: .*Stranger"):
        Careful(io.BytesIO(engine.dumps([Stranger(7)], 2))).load()
    # Protocol 4 has other opcodes for names: what isn't GLOBAL doesn't come by here.
    assert type(Careful(io.BytesIO(engine.dumps(Integer(7), 4))).load()) is Integer


@pytest.fixture
def reader_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the TextReader under the name by which a program knows it."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("text_reader")
    del sys.modules["text_reader"]


def test_text_reader(engine: Engine, reader_module: Any, tmp_path: Path) -> None:
    """A TextReader goes on in another process at the line where it was, and in a third; and one by persistent id."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {chr(0x3B1 + i)}\n" for i in range(8)), encoding="utf-8")
    reader = reader_module.TextReader(str(text))
    assert reader.readline() == "1: line \u03b1"
    assert reader.readline() == "2: line \u03b2"
    paths = []
    for protocol in PROTOCOLS:
        paths.append(tmp_path / f"reader-{protocol}.pickle")
        with paths[-1].open("wb") as file:
            engine.dump(reader, file, protocol)
    reader.close()
    for expected in "3: line \u03b3", "4: line \u03b4":
        printed = run("text_reader.py", engine.module_name, *map(str, paths)).stdout
        assert printed.splitlines() == [expected] * len(paths)
    with paths[0].open("rb") as file:
        reader = engine.load(file)
    assert reader.readline() == "5: line \u03b5"
    reader.close()
