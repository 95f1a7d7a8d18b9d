"""Streams that Python 2.7's `pickle` and `cPickle` wrote, made by `golden/make.py` and committed."""

from __future__ import annotations

import copyreg
import importlib
import io
import json
import pickletools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .engines import Engine

GOLDEN = Path(__file__).parent / "golden"
STREAMS = sorted(GOLDEN.glob("*/*.pickle"))
PERSISTENT = [path for path in STREAMS if path.with_suffix(".ids").exists()]
each_stream = pytest.mark.parametrize("path", STREAMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
each_persistent = pytest.mark.parametrize("path", PERSISTENT, ids=lambda path: f"{path.parent.name}/{path.stem}")


@pytest.fixture
def codes() -> Iterator[None]:
    """The extension codes of some streams, registered for names that nobody has imported."""
    extensions = [("Extended1", 0xF0), ("Extended2", 0xF0F0), ("Extended4", 0x0F0F0F0F)]
    for name, code in extensions:
        copyreg.add_extension("golden_material", name, code)
    yield
    for name, code in extensions:
        copyreg.remove_extension("golden_material", name, code)


@pytest.fixture
def material(monkeypatch: pytest.MonkeyPatch, codes: None) -> Iterator[Any]:
    """The module whose classes the streams name."""
    monkeypatch.syspath_prepend(GOLDEN)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("golden_material")
    del sys.modules["golden_material"]


def load_all(engine: Engine, data: bytes, **hooks: Any) -> Any:
    """The value of the stream, or the list of the values of several; Python 2's str as text, byte for character."""
    file = io.BytesIO(data)
    unpickler = engine.Unpickler(file, encoding="latin-1", **hooks)
    values = []
    while file.tell() < len(data):
        values.append(unpickler.load())
    return values if len(values) > 1 else values[0]


def test_the_set_is_complete() -> None:
    """Every case is there from both modules and in the protocols that can hold it, each beside its disassembly."""
    assert len(STREAMS) >= 160
    names = {path.stem for path in STREAMS}
    assert names == {f"{module}-{protocol}" for module in ("pickle", "cPickle") for protocol in range(3)}
    for path in STREAMS:
        assert path.with_suffix(".dis").exists()
        assert (path.parent / "expected.txt").exists()
    assert len(PERSISTENT) >= 19


@each_stream
def test_disassembly_is_of_this_stream(path: Path) -> None:
    """The text beside a stream tells the opcodes of this stream, and no other's."""
    text = path.with_suffix(".dis").read_bytes().decode("latin-1")
    told = [(int(at), name) for at, name in re.findall(r"^ *(\d+): .{1,4}? +\(*([A-Z_0-9]{2,})\b", text, re.MULTILINE)]
    file = io.BytesIO(path.read_bytes())
    found: list[tuple[int | None, str]] = []
    try:
        while file.tell() < len(path.read_bytes()):
            found.extend((position, opcode.name) for opcode, _, position in pickletools.genops(file))
    except UnicodeDecodeError:
        # Python 3's pickletools can't read a str with bytes over 127; what it has read so far must be the same.
        told = told[: len(found)]
        assert len(found) > 5
    assert told == found


@each_stream
def test_load(engine: Engine, material: Any, path: Path) -> None:
    """We load what Python 2 wrote as what Python 2 loaded: values, and which objects are the same."""
    expected = (path.parent / "expected.txt").read_text(encoding="ascii").rstrip("\n")
    value = load_all(engine, path.read_bytes(), persistent_load=material.Persistent)
    assert material.describe(value) == expected


@each_persistent
def test_ids_of_a_load(engine: Engine, material: Any, path: Path) -> None:
    """`persistent_load` is called with what cPickle called it with, and a list as hook fills as cPickle's did."""
    data = path.read_bytes()
    known = json.loads(path.with_suffix(".ids").read_text(encoding="ascii"))
    called: list[Any] = []

    def persistent_load(pid: Any) -> Any:
        called.append(pid)
        return material.Persistent(pid)

    load_all(engine, data, persistent_load=persistent_load)
    assert [material.describe(pid) for pid in called] == known["called"]
    listed: list[Any] = []
    load_all(engine, data, persistent_load=listed)
    assert [material.describe(pid) for pid in listed] == known["load"]


@each_persistent
def test_ids_of_noload(engine: Engine, material: Any, path: Path) -> None:
    """`noload` with a list finds what cPickle's finds, and `references` the same."""
    data = path.read_bytes()
    known = json.loads(path.with_suffix(".ids").read_text(encoding="ascii"))
    skimmed: list[Any] = []
    engine.unpickler(data, encoding="latin-1", persistent_load=skimmed).noload()
    assert [material.describe(pid) for pid in skimmed] == known["noload"] == known["load"]
    assert [material.describe(pid) for pid in engine.references(data)] == known["noload"]


@each_stream
def test_noload_builds_nothing(engine: Engine, codes: None, path: Path) -> None:
    """`noload` gets to the end of each stream without the classes that it names being there to be imported."""
    assert "golden_material" not in sys.modules
    file = io.BytesIO(path.read_bytes())
    unpickler = engine.Unpickler(file, encoding="latin-1", persistent_load=[])
    while file.tell() < len(path.read_bytes()):
        unpickler.noload()
    with pytest.raises(EOFError):
        unpickler.noload()
    assert "golden_material" not in sys.modules


@pytest.mark.parametrize("name", ["cPickle-0", "cPickle-1", "cPickle-2", "pickle-0", "pickle-1", "pickle-2"])
def test_encodings_of_python_2_strings(engine: Engine, name: str) -> None:
    """Python 2's str comes as the encoding says: text, or with "bytes" as it was; not to be decoded, it is an error."""
    data = (GOLDEN / "strings" / f"{name}.pickle").read_bytes()
    text = engine.loads(data, encoding="latin-1")
    assert text[6] == "\x00\x7f\x80\xff\x1a"
    assert engine.loads(data, encoding="bytes") == [item.encode("latin-1") for item in text]
    assert engine.loads(data, encoding="ascii", errors="replace")[6] == "\x00\x7f\ufffd\ufffd\x1a"
    assert engine.loads(data, errors="surrogateescape")[6] == "\x00\x7f\udc80\udcff\x1a"
    with pytest.raises(UnicodeDecodeError):
        engine.loads(data)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("old_instances/*.pickle")), ids=lambda path: path.stem)
def test_attribute_names_under_encoding_bytes(engine: Engine, material: Any, path: Path) -> None:
    """With encoding "bytes" attribute names are bytes too, as the standard leaves them; no text is made up."""
    first = engine.loads(path.read_bytes(), encoding="bytes")[0]
    assert vars(first) == {b"a": 1, b"b": [b"x"]}
