"""Imports run one way, and stand where a reader looks for them."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Imports inside a function: (file, name imported) -> why it can't stand at the top of the module.
LATE_IMPORTS: dict[tuple[str, str], str] = {}

# What a backend may import inside a function, as it is there only where the user installed it.
DRIVERS = {"dbm", "lmdb", "psycopg", "psycopg_pool", "sqlitedict"}


def sources(root: Path) -> list[Path]:
    """The Python files of the distribution."""
    return sorted(file for package in ("pstore", "backends") for file in (root / package).rglob("*.py"))


def imported(node: ast.AST) -> list[str]:
    """The modules that an import statement names; a relative one begins with its dots."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []


def late_imports(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported inside a function, at any depth, or through a call."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                yield from imported(node)


def contracts(tree: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of pyproject.toml over the source as it is laid out in this directory."""
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    options = ["--config", str(root / "pyproject.toml"), "--no-cache", "--no-logo"]
    # -W: what a linter's own dependencies are deprecated for is none of this project's business.
    command = [sys.executable, "-W", "ignore", "-c", script, *options]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> Path:
    """The source as it is installed, with backends/ inside pstore/."""
    subprocess.run([sys.executable, str(root / ".ci" / "source_tree.py"), str(tmp_path)], check=True)
    return tmp_path


def test_layers_hold(tree: Path, root: Path) -> None:
    """No module imports one of a layer above its own, and every module has a layer."""
    result = contracts(tree, root)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "place, line, told",
    [
        ("pstore/errors.py", "import pstore.keys", "pstore.errors is not allowed to import pstore.keys"),
        (
            "pstore/backends/base.py",
            "from pstore import store",
            "pstore.backends is not allowed to import pstore.store",
        ),
        ("pstore/pickle/opcodes.py", "import pstore.errors", "pstore.pickle is not allowed to import pstore.errors"),
        ("pstore/records.py", "from pstore.pickle import _native", "- pstore.records -> pstore.pickle._native ("),
        ("pstore/rows.py", "import pstore.pickle._pickler", "- pstore.rows -> pstore.pickle._pickler ("),
        ("pstore/backends/base.py", "import pickle", "pstore.backends is not allowed to import pickle"),
        ("pstore/keys.py", "import pstore", "pstore.keys is not allowed to import pstore"),
        ("pstore/unheard_of.py", "", "unheard_of"),
    ],
)
def test_an_import_up_a_layer_is_found(tree: Path, root: Path, place: str, line: str, told: str) -> None:
    """An import that breaks a contract, and a module that has no layer, are reported by name."""
    file = tree / place
    text = file.read_text("utf-8") if file.exists() else ""
    file.unlink(missing_ok=True)  # a link: the original stays as it is
    file.write_text(f"{text}\n{line}\n", "utf-8")
    result = contracts(tree, root)
    assert result.returncode == 1
    assert told in " ".join((result.stdout + result.stderr).split())


def test_what_a_cython_module_imports_is_seen(root: Path, tmp_path: Path) -> None:
    """Of a module in Cython the tree has the import statements, on their lines; the contracts hold for those too."""
    script = tmp_path / "copy" / ".ci" / "source_tree.py"
    shutil.copytree(root / ".ci", script.parent)
    for package in "pstore", "backends":
        shutil.copytree(root / package, tmp_path / "copy" / package)
    source = """# cython: language_level=3
from libc.string cimport memcpy
import pstore.keys
from . import (
    opcodes,  # imported
)
cdef int function():
    from pstore import rows
    return 1
"""
    (tmp_path / "copy" / "pstore" / "pickle" / "_native_cow.pyx").write_text(source, "utf-8")
    tree = tmp_path / "tree"
    subprocess.run([sys.executable, str(script), str(tree)], check=True)
    seen = (tree / "pstore" / "pickle" / "_native_cow.py").read_text("utf-8").splitlines()
    assert seen == [
        "",
        "",
        "import pstore.keys",
        "from . import (",
        "    opcodes,  # imported",
        ")",
        "",
        "from pstore import rows",
    ]
    told = contracts(tree, root).stdout
    assert "pstore.pickle is not allowed to import pstore.keys: - pstore.pickle._native_cow -> pstore.keys (l.3)" in (
        " ".join(told.split())
    )
    assert "pstore.pickle._native_cow -> pstore.rows (l.8)" in told


def test_nothing_is_imported_inside_a_function(root: Path) -> None:
    """Imports stand at the top of their module, but for a backend's optional driver and what is listed above."""
    found = {
        (file.relative_to(root).as_posix(), name)
        for file in sources(root)
        for name in late_imports(ast.parse(file.read_text("utf-8")))
    }
    drivers = {(file, name) for file, name in found if file.startswith("backends/") and name.split(".")[0] in DRIVERS}
    assert sorted(found - drivers) == sorted(LATE_IMPORTS)


def test_an_import_inside_a_function_is_found() -> None:
    """Statements in functions, methods and nested functions count; those at the top and in a class body don't."""
    source = """
import top
class C:
    import body
    def method(self):
        import a.b
        def inner():
            from ..c import d
async def f():
    if True:
        from . import e
"""
    assert sorted(set(late_imports(ast.parse(source)))) == [".", "..c", "a.b"]


def test_backends_has_one_name(root: Path) -> None:
    """The directory backends/ is `pstore.backends` alone: importing it by its own name is refused, and nobody does."""
    command = [sys.executable, "-c", "import backends"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "ImportError" in result.stderr
    assert "pstore.backends" in result.stderr.splitlines()[-1]

    folders = [root / name for name in ("pstore", "backends", "tests", "benchmarks", "docs")]
    wrong = [
        f"{file.relative_to(root)}: {name}"
        for folder in folders
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        for name in imported(node)
        if name.split(".")[0] == "backends"
    ]
    assert wrong == []


def test_backends_is_found_from_anywhere(root: Path, tmp_path: Path) -> None:
    """`import pstore.backends` gives the same module inside and outside the project's directory."""
    command = [sys.executable, "-c", "import pstore.backends; print(pstore.backends.__file__)"]
    places = {
        subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout for cwd in (root, tmp_path)
    }
    assert len(places) == 1
