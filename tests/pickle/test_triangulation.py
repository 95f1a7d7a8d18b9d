"""Every kind of object, each protocol: ours to the standard, the standard to ours, ours to ours, and the bytes."""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import pytest

from .engines import PROTOCOLS, Engine, standard_dumps
from .zoo import OLD_STYLE, TRANSFORMED, ZOO, assert_alike


def standard_answer(obj: Any, protocol: int) -> bytes | None:
    """The standard C pickler's bytes, or None where it can't pickle the object in this protocol."""
    try:
        return standard_dumps(obj, protocol)
    except TypeError:
        return None


@pytest.mark.parametrize("name", ZOO)
class TestEachKind:
    def test_bytes_are_the_standards(self, engine: Engine, name: str) -> None:
        """Our pickler writes byte for byte what the standard C pickler writes, or refuses what that refuses."""
        obj = ZOO[name]()
        for protocol in PROTOCOLS:
            expected = standard_answer(obj, protocol)
            if expected is None:
                with pytest.raises(TypeError):
                    engine.dumps(obj, protocol)
                continue
            ours = engine.dumps(obj, protocol)
            if name in OLD_STYLE and protocol < 2:
                assert_alike(obj, pickle.loads(ours))
                continue
            if ours != expected:
                assert disassembled(ours) == disassembled(expected), protocol
            assert ours == expected, protocol
            pickler, file = engine.pickler(protocol)
            pickler.dump(obj)
            assert file.getvalue() == expected, protocol

    def test_ours_to_ours(self, engine: Engine, name: str) -> None:
        """What we dump we load, as a faithful copy, from memory and from a file."""
        obj = ZOO[name]()
        for protocol in PROTOCOLS:
            if standard_answer(obj, protocol) is None:
                continue
            data = engine.dumps(obj, protocol)
            expected = pickle.loads(data)  # some kinds lose something in old protocols, in every implementation
            assert_alike(expected, engine.loads(data), f"protocol {protocol}")
            assert_alike(expected, engine.load(io.BytesIO(data)), f"protocol {protocol}")
            if protocol >= 3 and name not in TRANSFORMED:
                assert_alike(obj, engine.loads(data), f"protocol {protocol}")

    def test_standard_to_ours(self, engine: Engine, name: str) -> None:
        """What the standard dumps, by its C engine and by its Python engine, we load."""
        obj = ZOO[name]()
        for protocol in PROTOCOLS:
            expected = standard_answer(obj, protocol)
            if expected is None:
                continue
            for data in expected, pickle._dumps(obj, protocol):
                assert_alike(pickle.loads(data), engine.loads(data), f"protocol {protocol}")

    def test_ours_to_standard(self, engine: Engine, name: str) -> None:
        """What we dump the standard loads, by its C engine and by its Python engine."""
        obj = ZOO[name]()
        for protocol in PROTOCOLS:
            if standard_answer(obj, protocol) is None:
                continue
            data = engine.dumps(obj, protocol)
            for loads in pickle.loads, pickle._loads:
                if protocol >= 3 and name not in TRANSFORMED:
                    assert_alike(obj, loads(data), f"protocol {protocol}")
                else:
                    assert_alike(engine.loads(data), loads(data), f"protocol {protocol}")

    def test_optimized_streams(self, engine: Engine, name: str) -> None:
        """A stream without the PUTs that nothing reads is loaded as well."""
        obj = ZOO[name]()
        for protocol in PROTOCOLS:
            data = standard_answer(obj, protocol)
            if data is not None and len(data) < 20_000:
                optimized = pickletools.optimize(data)
                assert_alike(pickle.loads(optimized), engine.loads(optimized), f"protocol {protocol}")

    def test_noload_reads_any_stream(self, engine: Engine, name: str) -> None:
        """A stream without persistent ids has none, and reading it for them raises nothing and moves to its end."""
        obj = ZOO[name]()
        for protocol in PROTOCOLS:
            data = standard_answer(obj, protocol)
            if data is not None:
                file = io.BytesIO(data + b"rest")
                ids: list[Any] = []
                engine.Unpickler(file, persistent_load=ids).noload()
                assert ids == []
                assert file.read() == b"rest"

    def test_globals_are_those_that_a_load_asks_for(self, engine: Engine, name: str) -> None:
        """`globals` lists what `find_class` would be asked for, in that order."""
        obj = ZOO[name]()
        for protocol in PROTOCOLS:
            data = standard_answer(obj, protocol)
            if data is not None:
                asked: list[tuple[str, str]] = []

                class Unpickler(pickle.Unpickler):
                    def find_class(self, module: str, name: str, asked: list[Any] = asked) -> Any:
                        asked.append((module, name))
                        return super().find_class(module, name)

                Unpickler(io.BytesIO(data)).load()
                assert engine.globals(data) == asked


def disassembled(data: bytes) -> list[str]:
    """A stream's opcodes with their arguments, to be compared by pytest line by line."""
    return [f"{op.name} {str(arg)[:80]}" for op, arg, _ in pickletools.genops(data)]


@pytest.mark.parametrize("size", [1, 7, 40, 300, 5000])
def test_frames(engine: Engine, size: int) -> None:
    """Streams of many frames begin and end each of them where the standard does."""
    for items in (
        [f"{i:0{size}d}".encode() for i in range(400_000 // (size + 20))],
        [{"key": f"{i:0{size}d}", i: [bytearray(size)]} for i in range(200_000 // (size + 20))],
    ):
        for protocol in 4, 5:
            data = engine.dumps(items, protocol)
            assert data == standard_dumps(items, protocol)
            assert engine.loads(data) == engine.load(io.BytesIO(data)) == items


def test_unbatched_form_of_old_protocols(engine: Engine) -> None:
    """The `fast` mode, which memoises nothing, writes the standard's bytes too."""
    for name in "many_small", "plains", "dict of 1001", "list of 1001", "set of 1001", "tuple of 5", "nested", "dates":
        obj = ZOO[name]()
        for protocol in PROTOCOLS:
            file, expected = io.BytesIO(), io.BytesIO()
            standard = pickle.Pickler(expected, protocol)
            standard.fast = True
            standard.dump(obj)
            pickler = engine.Pickler(file, protocol)
            pickler.fast = True
            pickler.dump(obj)
            assert file.getvalue() == expected.getvalue(), (name, protocol)


@pytest.mark.parametrize("fix_imports", [True, False])
def test_names_of_python_2(engine: Engine, fix_imports: bool) -> None:
    """Protocols below 3 write the old names of what was renamed, and loading maps them back; unless told not to."""
    obj = ZOO["renamed_since_python_2"]()
    for protocol in PROTOCOLS:
        data = engine.dumps(obj, protocol, fix_imports=fix_imports)
        assert data == standard_dumps(obj, protocol, fix_imports=fix_imports)
        if fix_imports or protocol >= 3:
            assert_alike(pickle.loads(data), engine.loads(data))
        else:
            loaded = engine.loads(data, fix_imports=False)
            assert_alike(pickle.loads(data, fix_imports=False), loaded)
    with pytest.raises(ImportError):
        engine.loads(b"c__builtin__\nxrange\n.", fix_imports=False)
