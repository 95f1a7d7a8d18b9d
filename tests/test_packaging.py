"""What is built is whole: the sdist holds the project, the wheel holds the package, and both install and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

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
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command with no way to the source but what it is told; what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
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
    """The directory of the built distribution: an sdist, and the wheel made from that sdist."""
    out = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    return out


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a new environment."""
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    return tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"


def files(folder: Path) -> set[str]:
    """The files under a directory, relative to it."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_sdist_holds_the_project(source: Path, built: Path) -> None:
    """Every file of the project is in the sdist: code, tests, documents, benchmarks, and the checks themselves."""
    (sdist,) = built.glob("pstore_db-*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    # Building leaves its metadata in the copy; what git alone needs stays out.
    wanted = {name for name in files(source) if ".egg-info/" not in name and not name.startswith((".git", "build/"))}
    assert {"tests/test_packaging.py", "README.md", "backends/base.py", ".ci/run"} <= wanted
    assert sorted(wanted - held) == []


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
    compiled = {name for name in held if Path(name).suffix in {".so", ".pyd"}}
    assert held - compiled == modules
    assert "pstore = pstore.cli:main" in scripts


def test_wheel_installs_and_runs(built: Path, python: Path, tmp_path: Path) -> None:
    """In a new environment the wheel alone is enough to store objects and read them back."""
    (wheel,) = built.glob("pstore_db-*.whl")
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    (tmp_path / "empty").mkdir()
    run(python, "-W", "error", "-c", PROGRAM, cwd=tmp_path / "empty")


def test_editable_install(source: Path, python: Path, tmp_path: Path) -> None:
    """An editable install runs the source as it stands, the mapped directory too, from any directory."""
    run(python, "-m", "pip", "install", "-e", source, cwd=tmp_path)
    show = "import pstore.backends; print(pstore.__file__); print(pstore.backends.__file__)"
    wanted = [str(source / "pstore" / "__init__.py"), str(source / "backends" / "__init__.py")]
    assert run(python, "-c", show, cwd=tmp_path).splitlines() == wanted
    assert run(python, "-c", show, cwd=source).splitlines() == wanted
