"""The main job: the demonstration tells what is true, in three processes, and harms no file that isn't its own."""

from __future__ import annotations

import importlib
import itertools
import linecache
import modulefinder
import os
import pickle
import pkgutil
import re
import sqlite3
import subprocess
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import pstore
from pstore.cli.app import commands
from pstore.cli.demo.command import run as run_part
from pstore.cli.demo.library import Library, source_files
from pstore.cli.demo.model import ALLOWED, Class, Function, Module, full_name
from pstore.cli.demo.names import Linker
from pstore.cli.demo.proof import DemonstrationFailed, prove
from pstore.cli.demo.questions import import_cycle
from pstore.cli.demo.text_reader import TextReader

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A small part of the library: two packages, and modules that import each other in a circle.
PARTS = ("email", "genericpath", "json", "ntpath", "os", "posixpath")


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m pstore` with these arguments."""
    command = [sys.executable, "-m", "pstore", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=100, **options)


@dataclass
class Demo:
    """What a run of the demonstration has left."""

    path: Path
    output: str

    def number(self, pattern: str) -> int:
        """The number in the output that stands in the pattern's group."""
        found = re.search(pattern, self.output)
        assert found, f"{pattern} isn't in\n{self.output}"
        return int(found[1].replace(",", ""))

    def ranking(self, question: str) -> list[tuple[str, int]]:
        """The answers under a question: names and numbers."""
        _, _, below = self.output.partition(f"{question}\n")
        answers = re.match(r"(?:\s+[\d,]+  \S+\n)*", below)[0].split()
        return list(zip(answers[1::2], map(int, answers[::2]), strict=True))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demonstration, run on a part of the library."""
    path = tmp_path_factory.mktemp("demo") / "library.pstore"
    done = run("demo", str(path), "--packages", ",".join(PARTS))
    assert (done.returncode, done.stderr) == (0, "")
    return Demo(path, done.stdout)


@pytest.fixture
def store(demo: Demo) -> Iterator[pstore.Store]:
    """The store that the demonstration has left, open for reading."""
    with pstore.open(demo.path, "r", allow=ALLOWED) as db:
        yield db


# ------------------------------------------------- what is really in the library, found by importing it


@pytest.fixture(scope="module")
def real_modules() -> dict[str, ModuleType]:
    """The modules of the part, imported."""
    found = {}
    for part in PARTS:
        module = found[part] = importlib.import_module(part)
        for info in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{part}."):
            found[info.name] = importlib.import_module(info.name)
    return found


@pytest.fixture(scope="module")
def real_classes(real_modules: dict[str, ModuleType]) -> set[type]:
    """The classes that are defined in Python at the top level of these modules, and in their classes."""
    found: set[type] = set()
    waiting: list[tuple[str, object]] = list(real_modules.items())
    while waiting:
        module, owner = waiting.pop()
        for value in vars(owner).values():
            ours = isinstance(value, type) and value.__module__ == module and not hasattr(value, "n_sequence_fields")
            if ours and value not in found:
                found.add(value)
                waiting.append((module, value))
    return found


def name_of(cls: type) -> str:
    """The full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def real_imports(real_modules: dict[str, ModuleType]) -> dict[str, set[str]]:
    """Which of the modules each of them imports at its top level, as its bytecode says."""
    found: dict[str, set[str]] = {}
    for name, module in real_modules.items():
        code = compile(Path(module.__file__).read_bytes(), name, "exec")
        found[name] = set()
        for kind, args in modulefinder.ModuleFinder().scan_opcodes(code):
            if kind == "store":
                continue
            *level, fromlist, origin = args
            if level and level[0]:
                origin = importlib.util.resolve_name("." * level[0] + origin, module.__package__)
            for wanted in fromlist or [None]:
                full = f"{origin}.{wanted}"
                found[name].add(full if full in real_modules else origin)
        found[name] &= real_modules.keys() - {name}
    return found


def test_counts(demo: Demo, store: pstore.Store, real_modules: dict[str, ModuleType], real_classes: set[type]) -> None:
    """The modules are those that can be imported, the classes those that they define (or would, on another system)."""
    assert set(store["modules"]) == set(real_modules)
    assert demo.number(r"modules +([\d,]+)\n") == len(real_modules)
    lines = sum(Path(module.__file__).read_bytes().count(b"\n") for module in real_modules.values())
    assert demo.number(r"lines +([\d,]+)\n") == lines
    named = {full_name(cls) for cls in store.instances(Class)}
    elsewhere = {"os._AddedDllDirectory"} if os.name != "nt" else set()
    assert named - {name_of(cls) for cls in real_classes} <= elsewhere
    assert {name_of(cls) for cls in real_classes} <= named
    assert demo.number(r"classes +([\d,]+)\n") == len(named)


def test_most_inherited_class(demo: Demo, store: pstore.Store, real_classes: set[type]) -> None:
    """The second process's answer is what the classes themselves say; so is each single number behind it."""
    inherited = Counter(base for cls in real_classes for base in cls.__bases__)
    ours = sorted(((name_of(cls), inherited[cls]) for cls in real_classes), key=lambda pair: (-pair[1], pair[0]))
    answer = demo.ranking("The classes of the library that most others inherit from:")
    assert answer == ours[:3]
    assert answer[0][1] > 10
    builtin = {name: item for name, item in store["outside"].items() if name.startswith("builtins.")}
    for name in builtin.keys() - {"builtins.object"}:  # which is a base without being named
        cls = getattr(importlib.import_module("builtins"), name.removeprefix("builtins."))
        if isinstance(cls, type):
            assert len(builtin[name].subclasses) == inherited[cls], name


def test_most_used_decorator(demo: Demo, real_classes: set[type]) -> None:
    """Likewise, counted in the namespaces of the classes."""
    values = [item for cls in real_classes for item in vars(cls).items()]
    answer = dict(demo.ranking("The decorators that are used most:"))
    # `x = property(get)` uses no decorator: its function has another name.
    properties = [name for name, value in values if type(value) is property and value.fget.__name__ == name]
    assert answer["builtins.property"] == len(properties) > 50
    methods = [name for name, value in values if type(value) is classmethod and value.__func__.__name__ == name]
    assert answer["builtins.classmethod"] == len(methods) > 10


def test_import_cycle(demo: Demo, store: pstore.Store, real_modules: dict[str, ModuleType]) -> None:
    """The modules that lead back to themselves are those that do so by their bytecode, and the cycle is one."""
    imports = real_imports(real_modules)
    assert {module.name: {other.name for other in module.imports} for module in store["modules"].values()} == imports
    reached = {name: set(direct) for name, direct in imports.items()}
    for middle in imports:
        for name in imports:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    assert demo.number(r"Modules on an import cycle: ([\d,]+)\n") == sum(name in reached[name] for name in reached) > 2
    cycle = re.search(r"import cycle: .*\n +(.*)\n", demo.output)[1].split(" -> ")
    assert cycle[0] == cycle[-1]
    assert len(cycle) == 4
    assert all(after in imports[before] for before, after in itertools.pairwise(cycle))


def test_the_graph_is_one(demo: Demo, store: pstore.Store) -> None:
    """Every way to an object leads to it, here as in the second process, which has counted each."""
    modules, library = store["modules"], store["library"]
    checks = sum(prove(module, library, modules) for module in modules.values())
    assert demo.number(r"([\d,]+) times the same object") == checks > 1000
    decoder = modules["json.decoder"]
    assert library.packages["json"].modules["decoder"] is decoder
    assert decoder.classes["JSONDecoder"].owner is decoder
    assert decoder in modules["json"].imports
    assert decoder.imported_by[0].classes is modules[decoder.imported_by[0].name].classes
    # A slotted dataclass and an ordinary class, neither declared: shared between records all the same.
    getter = modules["email._header_value_parser"].classes["TokenList"].functions["value"]
    assert type(getter) is Function
    assert getter in store["outside"]["builtins.property"].decorates


def test_records(demo: Demo) -> None:
    """The numbers of records are those of the file's rows; a path through the graph loads what is on it."""
    written = demo.number(r"([\d,]+) records under 3 names")
    with sqlite3.connect(demo.path) as connection:
        (serials,) = connection.execute(f"SELECT count(*) FROM records WHERE key & {(1 << 44) - 1}").fetchone()
    connection.close()
    assert serials == written + 1  # the reader came later
    assert demo.number(r"Opened: 4 names, ([\d,]+) records loaded") == 0
    assert demo.number(r"json.decoder.JSONDecoder, line \d+: ([\d,]+) records loaded") == 4
    assert written - 5 <= demo.number(r"That took .*; ([\d,]+) records loaded") <= written
    with pstore.open(demo.path, "r", allow=ALLOWED) as db:
        promoted = sum(1 for _ in db.instances(Function))
    assert demo.number(r"([\d,]+) functions, which nobody declared") == promoted > 50


def test_one_record_written(demo: Demo, store: pstore.Store) -> None:
    """The deep change is one record, and is there afterwards."""
    label = re.search(r"\n  1 record written, (Class#\d+)\.\n", demo.output)[1]
    assert demo.number(r"all ([\d,]+) loaded records compared") == demo.number(r"([\d,]+) records under 3 names")
    cls = store["modules"]["json.decoder"].classes["JSONDecoder"]
    assert store.label(store.key_of(cls)) == label
    assert cls.functions["decode"].arguments == ["self", "s", "_w", "new"]
    assert "with nothing changed: 0 records written" in demo.output
    assert "The change is there: decode(self, s, _w, new)." in demo.output
    # prepared, stored, changed, the reader, the reader again
    assert store.revision == 5


def test_reader_goes_on(demo: Demo, store: pstore.Store) -> None:
    """The third process shows the lines that follow those that the first has shown, and the store knows it."""
    file = str(Path(sysconfig.get_path("stdlib")) / "pickle.py")
    _, _, output = demo.output.partition("\n4. ")
    shown = re.findall(r"^ {6}(\d)  (.*)$", output, re.MULTILINE)
    assert shown == [(str(number), linecache.getline(file, number).rstrip("\n")) for number in range(1, 7)]
    assert f"lines of {file}:" in output
    reader = store["reader"]
    assert (reader.line, reader.readline()) == (6, linecache.getline(file, 7).rstrip("\n"))
    reader.line = 6  # as it was: this store was opened for reading
    reader.close()


def test_three_processes(demo: Demo) -> None:
    """Each part says which process it is; the second and third are others than the first."""
    processes = re.findall(r"^\d\. .*?(\d+)\)$", demo.output, re.MULTILINE)
    first, second, again, third = processes
    assert first == again
    assert len({first, second, third}) == 3


def test_output_is_plain(demo: Demo) -> None:
    """Where nobody watches there is no bar and no colour; lines fit 80 columns, but for those with a path."""
    assert demo.output.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", demo.output)
    assert [line for line in demo.output.splitlines() if len(line) > 80 and os.sep not in line] == []


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_bars_in_a_terminal(tmp_path: Path) -> None:
    """In a terminal a bar shows how far it is."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-m", "pstore", "demo", str(tmp_path / "new"), "--packages", "json"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end was closed
                break
            if not part:
                break
            seen += part
    os.close(ours)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert re.search(r"reading \S+ 5/5", text)
    assert re.search(r"following references \S+ 5/5", text)


# ------------------------------------------------------------------------------------- other files


def other_store(path: Path) -> None:
    """Make a store with something else in it."""
    with pstore.open(path) as db:
        db["mine"] = ["precious"]


def other_database(path: Path) -> None:
    """Make a database that isn't a store."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (precious)")
    connection.close()


@pytest.mark.parametrize(
    "make",
    [
        other_store,
        other_database,
        lambda path: path.write_text("precious"),
        lambda path: path.write_bytes(b"SQLite format 3\0" + b"precious" * 1000),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
    ],
    ids=["store", "database", "text", "damaged", "empty", "directory"],
)
def test_nothing_else_is_overwritten(make: object, tmp_path: Path) -> None:
    """A path where something else is: one clear line, status 1, and it is as it was."""
    path = tmp_path / "something"
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    done = run("demo", str(path), "--packages", "json")
    assert (done.returncode, done.stdout) == (1, "")
    told = f"Error: {path} isn't a store that the demonstration has made, so it is left as it is: give another path\n"
    assert done.stderr == told
    assert path.is_dir() if before is None else path.read_bytes() == before


def test_made_anew(tmp_path: Path) -> None:
    """A store of the demonstration is made anew, also one where it was interrupted."""
    path = tmp_path / "store"
    with pstore.open(path) as db:
        db["about"] = "made by the demonstration of pstore"
        db["modules"] = {"old": 1}
    done = run("demo", str(path), "--packages", "json")
    assert done.returncode == 0, done.stderr
    with pstore.open(path, "r", allow=ALLOWED) as db:
        assert sorted(db["modules"]) == ["json", "json.decoder", "json.encoder", "json.scanner", "json.tool"]
        assert list(db) == ["about", "library", "modules", "outside", "reader"]


def test_a_new_file_by_itself(tmp_path: Path) -> None:
    """Without a path the store is a new file in the directory for temporary files, and the output names it."""
    done = run("demo", "--packages", "json", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*/*.pstore")
    assert f"The store stays at {path}\n" in done.stdout
    assert f"\n    python -m pstore info {path}\n" in done.stdout
    assert run("info", str(path)).returncode == 0


@pytest.mark.parametrize(
    "arguments, status, told",
    [
        (["demo", "{}/no/where"], 1, "Error: there is no directory {}/no to make a store in"),
        (["demo", "{}/new", "--packages", "json,nonsense"], 2, "source in .*nonsense"),
        (["info", "{}/nothing"], 1, "Error: there is no store at {}/nothing"),
        (["info", "{}"], 1, "Error: {} is a directory"),
        (["info", "memory:"], 2, "it is always new"),
        (["info", "nonsense:x"], 2, "no backend is called 'nonsense'"),
        (["info"], 2, "Missing argument 'TARGET'"),
    ],
)
def test_clear_errors(arguments: list[str], status: int, told: str, tmp_path: Path) -> None:
    """What the user gave wrong is told in one line; there is no traceback, and nothing is made."""
    done = run(*(argument.format(tmp_path) for argument in arguments))
    assert (done.returncode, done.stdout) == (status, "")
    assert re.search(told.format(re.escape(str(tmp_path))), done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if status == 1 else 4)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where the second or third process fails, so does the demonstration, with that one's line."""
    with pytest.raises(SystemExit) as caught:
        run_part("pstore.cli.demo.resume", tmp_path)
    assert caught.value.code == 1
    assert capfd.readouterr().err == f"Error: {tmp_path} is a directory; a store is a file\n"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra(missing: str) -> None:
    """Without click or rich the command says in one line how to get them; the library works."""
    script = (
        f"import runpy, sys; sys.modules[{missing!r}] = None; import pstore.cli.demo.model; sys.argv = ['pstore', 'demo'];"
        " runpy.run_module('pstore', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    told = f"pstore: the command needs {missing}: python -m pip install 'pstore-db[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)


def test_other_missing_modules_are_told() -> None:
    """A module of our own that is missing isn't mistaken for the extra."""
    script = "import sys; sys.modules['pstore.keys'] = None; import pstore.cli"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr.splitlines()[-1]


# ----------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize("name", sorted(commands.commands))
def test_help(name: str) -> None:
    """Each command says what it does and gives an example, within 80 columns."""
    done = run(name, "--help", env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: python -m pstore {name}")
    assert f"Example:  pstore {name} " in done.stdout
    assert commands.commands[name].get_short_help_str()
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_info(demo: Demo) -> None:
    """`info` tells of a store without importing its classes, and changes nothing."""
    before = demo.path.read_bytes()
    script = (
        "import runpy, sys; import pstore; pstore.persistent = lambda cls: cls; sys.argv = ['pstore', 'info', sys.argv[1]];"
        "runpy.run_module('pstore', run_name='__main__')"
    )
    command = [sys.executable, "-c", script, str(demo.path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    facts = dict(re.findall(r"^  (\S+(?: \S+)*) {2,}(.*)$", done.stdout, re.MULTILINE))
    assert facts["backend"] == "sqlite"
    assert facts["path"] == str(demo.path)
    assert facts["bytes"] == f"{len(before):,}"
    assert facts["revision"] == "5"
    assert facts["names"] == "5"
    assert facts["pickle engine"] == pstore.pickle.engine
    assert facts.get("why not native", "") == pstore.pickle.engine_reason
    assert facts["pstore"] == pstore.__version__
    for line in ("reader", "outside", "pstore.cli.demo.model.Class", "pstore.cli.demo.text_reader.TextReader"):
        assert f"    {line}\n" in done.stdout
    assert demo.path.read_bytes() == before


def test_info_tells_why(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the native engine isn't in use, `info` tells why."""
    monkeypatch.setenv("PSTORE_ENGINE", "python")
    lines = run("info", str(demo.path)).stdout.splitlines()
    (engine,) = [number for number, line in enumerate(lines) if line.split() == ["pickle", "engine", "python"]]
    assert lines[engine + 1].startswith("  why not native ")
    assert "PSTORE_ENGINE=python" in lines[engine + 1]


def test_info_is_short(tmp_path: Path) -> None:
    """Of many names the first are listed."""
    with pstore.open(tmp_path / "many") as db:
        db.update({f"n{number:04}": number for number in range(1234)})
    lines = run("info", str(tmp_path / "many")).stdout.splitlines()
    assert "  names          1,234" in lines
    assert "    n0019" in lines
    assert "    n0020" not in lines
    assert "    ... and 1,214 more" in lines
    assert "  classes        0" in lines


# ---------------------------------------------------------------------------------- reading sources

SOURCES = {
    "top/__init__.py": "from .inner import Base as Handed, decorate\nimport other\n",
    "top/inner.py": (
        "import abc\nimport top\n"
        "def decorate(function): return function\n"
        "class Base(abc.ABC):\n"
        "    class Inside: pass\n"
        "    @property\n    def value(self): ...\n    @value.setter\n    def value(self, new): ...\n"
    ),
    "top/deep/__init__.py": "",
    "top/deep/leaf.py": (
        "from ... import nothing\nfrom .. import inner, Handed as H\nfrom ..inner import *\n"
        "class One(H): pass\n"
        "class Two(inner.Base, Exception): pass\n"
        "class Three(Base.Inside): pass\n"
        "class Four(unknown.Base, make()): pass\n"
        "class Five(other.Thing[int]): pass\n"
        "import other\n"
        "def outer():\n    import random\n    class Hidden: pass\n"
        "if True:\n    @decorate\n    def chosen(a, /, b, *c, d, **e): ...\nelse:\n    def chosen(): ...\n"
        "try:\n    import fast\nexcept ImportError:\n    class Slow: pass\n"
        "else:\n    class Fast: pass\nfinally:\n    class Always: pass\n"
        "class Many:\n    @decorate(1)\n    async def wait(self): ...\n"
        "if __name__ == '__main__':\n    import top.deep\n    class Program: pass\n"
    ),
    "other.py": "from top import Handed\nfrom loop import ring\n",
    "loop.py": "from ring import ring\n",
    "ring.py": "from loop import ring\nclass Bad(ring): pass\n",
    "bad.py": "def (:\n",
    "nul.py": "a = '\0'\n",
    "latin.py": b"x = '\xff'\n",
    "test/ignored.py": "",
    "top/tests/ignored.py": "",
    "site-packages/ignored.py": "",
    "not-a-name.py": "",
    "data.txt": "",
}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """A small library with all that can be odd, read and linked."""
    for name, text in SOURCES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    library = Library(tmp_path)
    for file in source_files(tmp_path):
        library.read(file)
    linker = Linker(library.sources)
    for source in library.sources.values():
        linker.link(source)
    return library


def module(library: Library, name: str) -> Module:
    """A module by its name."""
    return library.sources[name].module


def test_what_is_read(library: Library) -> None:
    """All modules but tests and other people's; what can't be parsed is skipped and counted."""
    assert sorted(library.sources) == ["loop", "other", "ring", "top", "top.deep", "top.deep.leaf", "top.inner"]
    assert [file.name for file in library.skipped] == ["bad.py", "latin.py", "nul.py"]
    assert library.package.packages["top"].packages["deep"].modules["leaf"] is module(library, "top.deep.leaf")
    assert library.package.modules["loop"] is module(library, "loop")


def test_what_is_defined(library: Library) -> None:
    """What a module defines wherever it stands, but in functions and programs; of two, the first."""
    leaf = module(library, "top.deep.leaf")
    names = ["One", "Two", "Three", "Four", "Five", "Slow", "Fast", "Always", "Many"]
    assert sorted(leaf.classes) == sorted(names)
    assert list(leaf.functions) == ["outer", "chosen"]
    assert leaf.functions["chosen"].arguments == ["a", "b", "c", "d", "e"]
    assert [full_name(function) for function in leaf.classes["Many"].functions.values()] == ["top.deep.leaf.Many.wait"]
    assert leaf.lines == SOURCES["top/deep/leaf.py"].count("\n")


def test_what_is_linked(library: Library) -> None:
    """Names are followed through aliases, handing on, relative imports and stars; each link has its way back."""
    leaf, inner = module(library, "top.deep.leaf"), module(library, "top.inner")
    base, decorate = inner.classes["Base"], inner.functions["decorate"]
    bases = {name: [full_name(base) for base in cls.bases] for name, cls in leaf.classes.items() if cls.bases}
    assert bases == {
        "One": ["top.inner.Base"],
        "Two": ["top.inner.Base", "builtins.Exception"],
        "Three": ["top.inner.Base.Inside"],
    }
    assert base.subclasses == [leaf.classes["One"], leaf.classes["Two"]]
    assert leaf.classes["One"].bases[0] is base
    assert [full_name(base) for base in base.bases] == ["abc.ABC"]
    assert decorate.decorates == [leaf.functions["chosen"], leaf.classes["Many"].functions["wait"]]
    assert [full_name(decorator) for decorator in base.functions["value"].decorators] == ["builtins.property"]
    assert [other.name for other in leaf.imports] == ["top.inner", "top", "other"]
    assert [other.name for other in inner.imports] == ["top"]
    assert leaf in inner.imported_by
    assert module(library, "ring").classes["Bad"].bases == []
    assert [item.name for item in import_cycle(inner)] == ["top.inner", "top", "top.inner"]
    assert [item.name for item in import_cycle(leaf)] == []


def test_the_proof_can_fail(library: Library) -> None:
    """A reference to an equal object that isn't the same is found, whichever link it is."""
    modules = {name: source.module for name, source in library.sources.items()}
    assert sum(prove(module, library.package, modules) for module in modules.values()) > 20
    leaf, inner = modules["top.deep.leaf"], modules["top.inner"]

    def copy_of(item: object) -> object:
        return pickle.loads(pickle.dumps(item))

    for holder, where, what in (
        (leaf.imports, 0, r"top.inner by its name and from top.deep.leaf"),
        (inner.imported_by, -1, r"from top.inner, which it imports"),
        (inner.classes["Base"].subclasses, 0, r"top.deep.leaf.One from its base"),
        (inner.functions["decorate"].decorates, 1, r"wait from its decorator top.inner.decorate"),
        (leaf.classes, "Two", r"the owner of top.deep.leaf.Two"),
        (library.package.packages["top"].modules, "inner", r"through its package"),
    ):
        right = holder[where]
        holder[where] = copy_of(right)
        with pytest.raises(DemonstrationFailed, match=what):
            sum(prove(module, library.package, modules) for module in modules.values())
        holder[where] = right


def test_text_reader(tmp_path: Path) -> None:
    """It comes back without its file handle, opens the file again and goes on, also at the end."""
    file = tmp_path / "text"
    file.write_text("one\n\nthree", "utf-8")
    reader = TextReader(str(file))
    assert [reader.readline(), reader.readline()] == ["one", ""]
    other = pstore.pickle.loads(pstore.pickle.dumps(reader))
    assert [reader.readline(), other.readline()] == ["three", "three"]
    last = pstore.pickle.loads(pstore.pickle.dumps(other))
    assert [last.readline(), last.line, other.line] == ["", 3, 3]
    for each in (reader, other, last):
        each.close()
