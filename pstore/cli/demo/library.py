"""Reading a library's sources: from files to packages, modules, classes and functions.

What is defined at the top level of a module or class counts, also within `if`, `try` and `with`; what a function defines
doesn't. Where a name is defined twice, the first one counts. This module knows the syntax of Python and the model; it
knows nothing of stores.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pstore.cli.demo.model import Class, Function, Module, Package

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

#: Directories that hold no part of the library itself.
LEFT_OUT: Final = frozenset({"__pycache__", "dist-packages", "idle_test", "site-packages", "test", "tests"})


@dataclass
class Source:
    """A module, and what its text names, not yet looked up.

    Attributes:
        module: The module, with its classes and functions.
        bindings: What a name that the module imports stands for: `"od"` for `"collections.OrderedDict"`.
        stars: The modules from which it imports `*`.
        imports: The modules that it imports, and what it imports from modules: either may be a module.
        bases: (class, the name of a base as it stands in the source).
        decorators: (class or function, the name of a decorator as it stands in the source).
    """

    module: Module
    bindings: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    bases: list[tuple[Class, str]] = field(default_factory=list)
    decorators: list[tuple[Class | Function, str]] = field(default_factory=list)


class Library:
    """The modules below a directory.

    Args:
        directory: The directory.

    Attributes:
        package: The package with the empty name, which holds all others.
        sources: The modules that were read, by their full names.
        skipped: The files that couldn't be read or parsed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.package = Package("")
        self.sources: dict[str, Source] = {}
        self.skipped: list[Path] = []

    def read(self, file: Path) -> None:
        """Read a file; one that can't be parsed is skipped."""
        try:
            text = file.read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError):
            self.skipped.append(file)
            return
        *parents, stem = file.relative_to(self.directory).with_suffix("").parts
        package = self._package(parents)
        name = ".".join(parents if stem == "__init__" else [*parents, stem])
        module = package.modules[stem] = Module(name, str(file), text.count(b"\n"), package)
        source = self.sources[name] = Source(module)
        _Reader(source).read(tree.body, module)

    def _package(self, names: list[str]) -> Package:
        package = self.package
        for number, name in enumerate(names, 1):
            if name not in package.packages:
                package.packages[name] = Package(".".join(names[:number]), package)
            package = package.packages[name]
        return package


def source_files(root: Path, top: Collection[str] = ()) -> list[Path]:
    """Return the files below a directory that can be imported as modules, in order; tests are left out.

    Args:
        root: The directory.
        top: The packages and modules directly in it that are wanted; none for all.
    """

    def walk(directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if directory == root and top and path.stem not in top:
                continue
            if path.is_dir() and path.name.isidentifier() and path.name not in LEFT_OUT:
                yield from walk(path)
            elif path.suffix == ".py" and path.stem.isidentifier():
                yield path

    return list(walk(root))


class _Reader:
    """Fills the classes and functions of one module.

    Args:
        source: The module, and where to put the names that are to be looked up.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, body: Iterable[ast.stmt], owner: Module | Class) -> None:
        """Read the statements of a module or class."""
        for statement in _flatten(body):
            if isinstance(statement, ast.ClassDef):
                self._read_class(statement, owner)
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self._read_function(statement, owner)
            elif isinstance(statement, ast.Import) and owner is self._source.module:
                self._read_import(statement)
            elif isinstance(statement, ast.ImportFrom) and owner is self._source.module:
                self._read_import_from(statement)

    def _read_class(self, node: ast.ClassDef, owner: Module | Class) -> None:
        if node.name in owner.classes:
            return
        cls = owner.classes[node.name] = Class(node.name, node.lineno, owner)
        self._source.bases += [(cls, name) for name in map(_dotted, node.bases) if name]
        self._source.decorators += [(cls, name) for name in map(_dotted, node.decorator_list) if name]
        self.read(node.body, cls)

    def _read_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: Module | Class) -> None:
        if node.name in owner.functions:
            return
        every = (*node.args.posonlyargs, *node.args.args, node.args.vararg, *node.args.kwonlyargs, node.args.kwarg)
        arguments = [argument.arg for argument in every if argument]
        function = owner.functions[node.name] = Function(node.name, node.lineno, owner, arguments)
        self._source.decorators += [(function, name) for name in map(_dotted, node.decorator_list) if name]

    def _read_import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._source.imports.append(alias.name)
            # `import a.b` binds `a`; `import a.b as c` binds `c` to the whole.
            name = alias.asname or alias.name.partition(".")[0]
            self._source.bindings.setdefault(name, alias.name if alias.asname else name)

    def _read_import_from(self, node: ast.ImportFrom) -> None:
        origin = self._absolute(node)
        for alias in node.names:
            if alias.name == "*":
                self._source.imports.append(origin)
                self._source.stars.append(origin)
            else:
                self._source.imports.append(f"{origin}.{alias.name}")
                self._source.bindings.setdefault(alias.asname or alias.name, f"{origin}.{alias.name}")

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self._source.module.package.name.split(".")
        return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def _flatten(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, and those within `if`, `try`, `with` and loops in place of them."""
    for statement in body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement
            continue
        if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
            continue  # what a module does when it is run as a program is no part of it
        parts = [getattr(statement, name, ()) for name in ("body", "orelse", "finalbody")]
        handlers = [handler.body for handler in getattr(statement, "handlers", ())]
        yield statement
        for part in (*parts, *handlers):
            yield from _flatten(part)


def _dotted(node: ast.expr) -> str | None:
    """Return the dotted name that an expression is, calls, or subscripts; None for any other."""
    while isinstance(node, (ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None
