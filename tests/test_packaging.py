"""What is built is whole: the sdist holds the project, the wheel holds the package, and both install and run.

The native engine is compiled where it can be. Where it can't, what is built is as good but for that, and tells so.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

EXTENSIONS = ("_native_layout", "_native_pickler", "_native_unpickler")
# A place that isn't made to compile, and hasn't compiled what is tested here, may be unable to.
NATIVE = os.environ.get("PSTORE_REQUIRE_NATIVE", "0") not in {"", "0"} or all(
    importlib.util.find_spec(f"pstore.pickle.{name}") for name in EXTENSIONS
)
needs_compiler = pytest.mark.skipif(not NATIVE, reason="the native engine isn't built, so perhaps can't be, here")

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

# Run in an environment where nothing but the distribution is installed, in an empty directory.
PROGRAM = """
import importlib.metadata, importlib.resources, importlib.util, sys
import pstore, pstore.backends, pstore.pickle

assert pstore.__file__.startswith(sys.prefix), pstore.__file__
assert importlib.metadata.version("pstore-db") == pstore.__version__
assert importlib.resources.files("pstore").joinpath("py.typed").is_file()
assert importlib.util.find_spec("backends") is None
assert [d for d in importlib.metadata.requires("pstore-db") if "extra ==" not in d] == []

class Person:
    pass

bob = Person()
with pstore.open("people.db", allow=[Person]) as db:
    db["a"] = {"owner": bob}
    db["b"] = {"owner": bob}
with pstore.open("people.db", "r", allow=[Person]) as db:
    assert db["a"]["owner"] is db["b"]["owner"]
    assert isinstance(db["a"]["owner"], Person)
print(pstore.pickle.engine, pstore.pickle.engine_reason)
"""


def run(*command: str | Path, cwd: Path, fails: bool = False, **changes: str | None) -> str:
    """Run a command with no way to the source but what it is told; what it printed.

    Args:
        command: The command.
        cwd: Where it runs.
        fails: Whether it is to fail.
        changes: Variables of its environment to set, or with None to leave out.
    """
    # What an environment may tell Python, pstore and pip, and isn't meant for what is tested here.
    changes = dict.fromkeys(["PYTHONPATH", "PYTHONHOME", "PSTORE_ENGINE", "PIP_QUIET"]) | changes
    environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def source(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with nothing that building, testing or versioning left in it."""
    left = [
        "build",
        "dist",
        "*.egg-info",
        "__pycache__",
        "*.py[cod]",
        "*.so",
        "*.pyd",
        "_native_*.c",
        "_native_*.html",
        ".?*_cache",
        ".hypothesis",
        ".git",
        "*venv*",
    ]
    copy = tmp_path_factory.mktemp("source") / "pstore"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*left))
    return copy


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the built distribution: an sdist, and the wheel made from that sdist, native where it can be."""
    out = tmp_path_factory.mktemp("built")
    require = "1" if NATIVE else "0"
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=out, PSTORE_REQUIRE_NATIVE=require)
    return out


@pytest.fixture(scope="module")
def no_compiler(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine where nothing can be compiled."""
    compiler = tmp_path_factory.mktemp("compiler") / "cc"
    compiler.write_text("#!/bin/sh\necho 'this compiler is on holiday' >&2\nexit 1\n", "utf-8")
    compiler.chmod(0o755)
    return {"CC": str(compiler), "PSTORE_REQUIRE_NATIVE": "0"}


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a new environment."""
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    return tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"


def files(folder: Path) -> set[str]:
    """The files under a directory, relative to it."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def compiled_in(names: set[str]) -> set[str]:
    """Those of the files that are extension modules."""
    return {name for name in names if name.endswith((".so", ".pyd"))}


def test_sdist_holds_the_project(source: Path, built: Path) -> None:
    """Every file of the project is in the sdist: code, tests, documents, benchmarks, and the checks themselves."""
    (sdist,) = built.glob("pstore_db-*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    # Building leaves its metadata in the copy; what git alone needs stays out.
    wanted = {name for name in files(source) if ".egg-info/" not in name and not name.startswith((".git", "build/"))}
    assert {"tests/test_packaging.py", "README.md", "backends/base.py", ".ci/run"} <= wanted
    assert {f"pstore/pickle/{name}{suffix}" for name in EXTENSIONS for suffix in (".pyx", ".pyi")} <= wanted
    assert sorted(wanted - held) == []
    made = (".c", ".so", ".pyd")  # by the build; a test has C of its own
    assert [name for name in held if name.endswith(made) and not name.startswith("tests/")] == []


def test_wheel_holds_the_package_and_nothing_else(source: Path, built: Path) -> None:
    """The wheel has each module of pstore/ and, as `pstore.backends`, of backends/, and is marked as typed."""
    (wheel,) = built.glob("pstore_db-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        scripts = archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt"))).decode()
    modules = {f"pstore/{name}" for name in files(source / "pstore") if Path(name).suffix in {".py", ".pyi", ".typed"}}
    modules |= {
        f"pstore/backends/{name}" for name in files(source / "backends") if Path(name).suffix in {".py", ".pyi"}
    }
    assert "pstore/py.typed" in modules
    assert held - compiled_in(held) == modules
    assert {name.partition(".")[0] for name in compiled_in(held)} == {
        f"pstore/pickle/{name}" for name in EXTENSIONS if NATIVE
    }
    # It says for which Python it is, if that matters.
    assert wheel.name.endswith("-py3-none-any.whl") != NATIVE
    assert "pstore = pstore.cli:main" in scripts


def test_wheel_installs_and_runs(built: Path, python: Path, tmp_path: Path) -> None:
    """In a new environment the wheel alone is enough to store objects and read them back."""
    (wheel,) = built.glob("pstore_db-*.whl")
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    (tmp_path / "empty").mkdir()
    told = run(python, "-W", "error", "-c", PROGRAM, cwd=tmp_path / "empty")
    assert told.startswith("native " if NATIVE else "python ")


def test_without_a_compiler(source: Path, python: Path, tmp_path: Path, no_compiler: dict[str, str]) -> None:
    """Where nothing can be compiled the build says so, and makes a whole package that says so too; or fails if it must."""
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, source]
    said = run(*build, cwd=tmp_path, **no_compiler)
    assert "this compiler is on holiday" in said
    assert "WITHOUT its native pickle engine" in said
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert compiled_in(set(archive.namelist())) == set()

    run(python, "-m", "pip", "install", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    printed = run(python, "-W", "error", "-c", PROGRAM, cwd=empty)
    assert printed.startswith("python ")
    assert "aren't built" in printed
    told = run(python, "-c", "import pstore", cwd=empty, fails=True, PSTORE_ENGINE="native")
    assert "ImportError: PSTORE_ENGINE=native: " in told

    wheel.unlink()
    assert "this compiler is on holiday" in run(
        *build, cwd=tmp_path, fails=True, **{**no_compiler, "PSTORE_REQUIRE_NATIVE": "1"}
    )
    assert list(tmp_path.glob("*.whl")) == []


def test_without_cython(source: Path, python: Path, tmp_path: Path) -> None:
    """A build in an environment that lacks Cython says so, too, and makes a whole package; or fails if it must."""
    run(python, "-m", "pip", "install", "setuptools>=77", cwd=tmp_path)
    build = [python, "-m", "pip", "wheel", "-v", "--no-build-isolation", "--no-deps", "-w", tmp_path, source]
    said = run(*build, cwd=tmp_path, PSTORE_REQUIRE_NATIVE=None)
    assert "No module named 'Cython'" in said
    assert "WITHOUT its native pickle engine" in said
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "No module named 'Cython'" in run(*build, cwd=tmp_path, fails=True, PSTORE_REQUIRE_NATIVE="1")


def test_editable_install(source: Path, python: Path, tmp_path: Path) -> None:
    """An editable install runs the source as it stands, the mapped directory too, from any directory."""
    # A machine's own options replace ours: here those that compile fast.
    run(python, "-m", "pip", "install", "-e", source, cwd=tmp_path, CFLAGS="-O0 -g0")
    show = "import pstore.backends; print(pstore.__file__); print(pstore.backends.__file__)"
    wanted = [str(source / "pstore" / "__init__.py"), str(source / "backends" / "__init__.py")]
    assert run(python, "-c", show, cwd=tmp_path).splitlines() == wanted
    assert run(python, "-c", show, cwd=source).splitlines() == wanted
    program = "import pstore.pickle as p; print(p.engine, p.engine_reason)"
    built = {name.partition(".")[0] for name in compiled_in(files(source / "pstore" / "pickle"))}
    assert built == {name for name in EXTENSIONS if NATIVE}
    assert run(python, "-c", program, cwd=tmp_path).startswith("native " if NATIVE else "python ")


@needs_compiler
def test_no_extension_module_outlives_a_failed_build(
    source: Path, python: Path, tmp_path: Path, no_compiler: dict[str, str]
) -> None:
    """Where an editable install can't compile any more, modules that it compiled before don't pass for the new ones."""
    folder = source / "pstore" / "pickle"
    old = [folder / f"{name}{EXTENSION_SUFFIXES[0]}" for name in EXTENSIONS]
    for file in old:
        file.write_bytes(b"compiled from what isn't there any more")
    said = run(python, "-m", "pip", "install", "-v", "-e", source, cwd=tmp_path, **no_compiler)
    assert "WITHOUT its native pickle engine" in said
    assert [file.name for file in old if file.exists()] == []
    for file in old:
        file.write_bytes(b"compiled from what isn't there any more")
    required = {**no_compiler, "PSTORE_REQUIRE_NATIVE": "1"}
    assert "this compiler is on holiday" in run(
        python, "-m", "pip", "install", "-e", source, cwd=tmp_path, fails=True, **required
    )
    assert [file.name for file in old if file.exists()] == []
