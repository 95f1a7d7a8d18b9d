"""`pstore.pickle` as a module: a drop-in for the standard one, and the choice of its engine."""

from __future__ import annotations

import contextlib
import inspect
import io
import pickle
import pickletools
import re
from typing import TYPE_CHECKING, Any

import pytest

import pstore.pickle
from pstore.pickle import opcodes

from .engines import ENGINES, PROTOCOLS
from .processes import run
from .zoo import Plain

if TYPE_CHECKING:
    from pathlib import Path

    from .engines import Engine

ADDED = {"IdentityTable", "references", "globals", "engine", "engine_reason", "reduce_value", "apply_state"}


#: What an engine's module holds.
NAMES = (
    *("IdentityTable", "Pickler", "Unpickler", "dump", "dumps", "globals", "load", "loads", "references"),
    *("clear_attributes", "has_held_dict", "new_instance", "set_class", "share_layout"),
)


class TestDropIn:
    def test_every_public_name(self) -> None:
        """Whatever the standard module exports ours exports, and what ours adds beside it."""
        missing = [name for name in pickle.__all__ if not hasattr(pstore.pickle, name)]
        assert missing == []
        assert set(pickle.__all__) | ADDED <= set(pstore.pickle.__all__)

    def test_star_import(self) -> None:
        """`from pstore.pickle import *` gives what the standard's gives, and hides no more builtins than `globals`."""
        namespace: dict[str, Any] = {}
        exec("from pstore.pickle import *", namespace)
        assert set(pickle.__all__) <= set(namespace)

    def test_values(self) -> None:
        """Constants are the standard's, and the exceptions are the very classes."""
        for name in pickle.__all__:
            standard, ours = getattr(pickle, name), getattr(pstore.pickle, name)
            if isinstance(standard, (int, bytes, str)):
                assert ours == standard, name
        for name in "PickleError", "PicklingError", "UnpicklingError", "PickleBuffer":
            assert getattr(pstore.pickle, name) is getattr(pickle, name)
        assert pstore.pickle.HIGHEST_PROTOCOL == 5
        assert pstore.pickle.DEFAULT_PROTOCOL == pickle.DEFAULT_PROTOCOL
        assert pstore.pickle.format_version == pickle.format_version
        assert pstore.pickle.compatible_formats == pickle.compatible_formats

    @pytest.mark.parametrize("name", ["dump", "dumps", "load", "loads", "Pickler", "Unpickler"])
    def test_signatures(self, engine: Engine, name: str) -> None:
        """Each argument of the standard's can be given as there, by position or by keyword; ours come behind them."""
        standard = {
            "dump": ["obj", "file", "protocol", "*fix_imports", "*buffer_callback"],
            "dumps": ["obj", "protocol", "*fix_imports", "*buffer_callback"],
            "load": ["file", "*fix_imports", "*encoding", "*errors", "*buffers"],
            "loads": ["/data", "*fix_imports", "*encoding", "*errors", "*buffers"],
            "Pickler": ["file", "protocol", "fix_imports", "buffer_callback"],
            "Unpickler": ["file", "*fix_imports", "*encoding", "*errors", "*buffers"],
        }[name]
        marks = {
            inspect.Parameter.KEYWORD_ONLY: "*",
            inspect.Parameter.POSITIONAL_ONLY: "/",
            inspect.Parameter.POSITIONAL_OR_KEYWORD: "",
        }
        for function in getattr(engine.module, name), getattr(pstore.pickle, name):
            parameters = inspect.signature(function).parameters.values()
            ours = [marks[parameter.kind] + parameter.name for parameter in parameters]
            assert ours[: len(standard)] == standard
            assert all(extra.startswith("*") for extra in ours[len(standard) :])

    def test_positions(self, engine: Engine) -> None:
        """The calls that programs make of the standard module work as they stand."""
        value = [1, "text"]
        assert engine.loads(engine.dumps(value, 2)) == value
        assert engine.loads(engine.dumps(value, protocol=2)) == value
        assert engine.loads(engine.dumps(obj=value, protocol=-1)) == value
        file = io.BytesIO()
        engine.dump(value, file, 0)
        engine.dump(value, file=file, protocol=None, fix_imports=True)
        engine.Pickler(file, 4, True, None).dump(value)
        file.seek(0)
        assert engine.load(file, fix_imports=True, encoding="ASCII", errors="strict", buffers=None) == value
        assert engine.load(file=file) == value
        assert engine.Unpickler(file, fix_imports=False).load() == value
        assert engine.dumps(value) == pickle.dumps(value)

    def test_hooks_of_the_functions(self, engine: Engine) -> None:
        """The functions take each hook of the classes as a keyword."""
        one = Plain()
        file = io.BytesIO()
        for keywords in (
            {"persistent_id": lambda obj: "id" if obj is one else None},
            {"inst_persistent_id": lambda obj: "id"},
            {"persistent_ids": {id(one): "id"}},
        ):
            data = engine.dumps([one], **keywords)
            engine.dump([one], file, **keywords)
            for hooks in {"persistent_load": lambda pid: one}, {"persistent_objects": {"id": one}}:
                assert engine.loads(data, **hooks) == [one]
                assert engine.load(io.BytesIO(data), **hooks) == [one]
        assert file.getvalue() == data * 3
        data = engine.dumps(Plain, global_persistent_id=lambda obj: 7)
        assert engine.loads(data, persistent_load=lambda pid: pid) == 7
        assert engine.dumps({"b", "a"}, 4, canonical=True) == engine.dumps({"a", "b"}, 4, canonical=True)
        with pytest.raises(pickle.UnpicklingError):
            engine.loads(engine.dumps(Plain), find_global=None)

    def test_subclasses(self, engine: Engine) -> None:
        """Picklers and unpicklers can be subclassed with attributes and an `__init__` of their own."""

        class Pickler(engine.Pickler):
            def __init__(self, file: Any, prefix: str, **keywords: Any) -> None:
                super().__init__(file, **keywords)
                self.prefix = prefix

            def persistent_id(self, obj: Any) -> Any:
                return self.prefix + obj.name if type(obj) is Plain else None

        class Unpickler(engine.Unpickler):
            def persistent_load(self, pid: str) -> Any:
                return Plain(name=pid.removeprefix("id "))

        for protocol in PROTOCOLS:
            file = io.BytesIO()
            Pickler(file, "id ", protocol=protocol).dump([Plain(name="one")])
            file.seek(0)
            assert Unpickler(file).load()[0].name == "one"

    def test_picklers_are_no_values(self, engine: Engine) -> None:
        """A pickler or unpickler that a value holds by mistake isn't a crash."""
        for bad in engine.Pickler(None), engine.Unpickler():
            for protocol in PROTOCOLS:
                with contextlib.suppress(pickle.PicklingError, TypeError):
                    engine.dumps([bad], protocol)


class TestEngines:
    def test_name(self) -> None:
        """`engine` tells which one is in use, and its classes are those of the module."""
        (used,) = [engine for engine in ENGINES if engine.id == pstore.pickle.engine]
        assert set(used.module.__all__) == set(NAMES)
        for name in NAMES:
            assert getattr(pstore.pickle, name) is getattr(used.module, name)

    def test_stands_alone(self) -> None:
        """`pstore.pickle` loads nothing of pstore's other layers but the package itself."""
        program = """
import sys, importlib.util, types
spec = importlib.util.find_spec("pstore")
package = types.ModuleType("pstore")
package.__path__ = spec.submodule_search_locations
sys.modules["pstore"] = package
import pstore.pickle
print(*sorted(name for name in sys.modules if name.startswith("pstore") and not name.startswith("pstore.pickle")))
"""
        assert run("-c", program).stdout.split() == ["pstore"]


class TestOpcodes:
    def test_against_pickletools(self) -> None:
        """The opcode table has each opcode of `pickletools`, and no other, with its byte and protocol."""
        known = {opcode.name: (opcode.code.encode("latin-1"), opcode.proto) for opcode in pickletools.opcodes}
        ours = {opcode.name: (opcode.code, opcode.protocol) for opcode in opcodes.OPCODES}
        assert ours == known

    def test_names(self) -> None:
        """Each opcode's name is a constant with its byte, in `pstore.pickle` as in the standard module."""
        for opcode in opcodes.OPCODES:
            assert getattr(pstore.pickle, opcode.name) == opcode.code
            assert getattr(pickle, opcode.name) == opcode.code


def test_readable_by_every_python(engine: Engine) -> None:
    """A stream of each protocol says which protocol it is, and uses no opcode of a later one."""
    value = [
        1,
        2**70,
        1.5,
        "text",
        b"bytes",
        bytearray(b"ba"),
        (1, 2),
        {1},
        frozenset([2]),
        {"k": Plain(a=1)},
        len,
        None,
        True,
    ]
    for protocol in PROTOCOLS:
        data = engine.dumps(value, protocol)
        assert max(opcode.proto for opcode, _, _ in pickletools.genops(data)) <= protocol
        assert data.startswith(b"\x80" + bytes([protocol])) == (protocol >= 2)


def test_opcodes_of_the_native_engine(root: Path) -> None:
    """The constants that the native engine is compiled with are the opcodes of the table, all of them."""
    text = (root / "pstore" / "pickle" / "_native_opcodes.pxd").read_text("utf-8")
    found = {name: int(code, 16) for name, code in re.findall(r"^    (\w+) = (0x\w+)$", text, re.MULTILINE)}
    assert found == {opcode.name: opcode.code[0] for opcode in opcodes.OPCODES}
