"""The proof that the graph came back whole: each way that should lead to an object leads to that very object.

Not to one that is equal: `is` is asked, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pstore
from pstore.cli.demo.model import Class, Function, Module, full_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pstore.cli.demo.model import Package


class DemonstrationFailed(pstore.Error):
    """What the demonstration claims isn't so: a fault of pstore."""


def prove(module: Module, library: Package, modules: dict[str, Module]) -> int:
    """Follow each link of a module and of all that it defines, and the link that should lead back.

    Args:
        module: The module.
        library: The package that holds all: one way to the module.
        modules: The modules by their names: another way.

    Returns:
        How many references were checked.

    Raises:
        DemonstrationFailed: One of them leads to another object than it should.
    """
    count = 0
    for what, same in (*_of_module(module, library, modules), *_of_members(module)):
        count += 1
        if not same:
            message = f"{what}: not the same object"
            raise DemonstrationFailed(message)
    return count


def _of_module(module: Module, library: Package, modules: dict[str, Module]) -> Iterator[tuple[str, bool]]:
    package, stem = library, module.name
    while stem.partition(".")[0] in package.packages:
        first, _, stem = stem.partition(".")
        package = package.packages[first]
    yield f"{module.name} by its name and through its package", package.modules[stem or "__init__"] is module
    yield f"the package of {module.name}", module.package is package
    for other in module.imports:
        yield f"{other.name} by its name and from {module.name}, which imports it", modules[other.name] is other
        yield f"{module.name} from {other.name}, which it imports", _is_among(module, other.imported_by)


def _of_members(owner: Module | Class) -> Iterator[tuple[str, bool]]:
    for cls in owner.classes.values():
        yield f"the owner of {full_name(cls)}", cls.owner is owner
        for base in cls.bases:
            yield f"{full_name(cls)} from its base {full_name(base)}", _is_among(cls, base.subclasses)
        yield from _of_decorators(cls)
        yield from _of_members(cls)
    for function in owner.functions.values():
        yield f"the owner of {full_name(function)}", function.owner is owner
        yield from _of_decorators(function)


def _of_decorators(item: Class | Function) -> Iterator[tuple[str, bool]]:
    for decorator in item.decorators:
        yield f"{full_name(item)} from its decorator {full_name(decorator)}", _is_among(item, decorator.decorates)


def _is_among(item: object, links: Iterable[object]) -> bool:
    return any(link is item for link in links)
