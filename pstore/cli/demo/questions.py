"""Questions to the graph: plain Python over plain objects. That they come from a store can't be seen here."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

from pstore.cli.demo.model import Class, Function, Module, Outside, full_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pstore.cli.demo.model import Package

T = TypeVar("T", Class, Class | Function | Outside)


def most(items: Iterable[T], count: Callable[[T], int], places: int = 3) -> list[tuple[str, int]]:
    """Return those that have the most of something: their names and how many, the most first; none that has nothing."""
    counted = [(full_name(item), number) for item in items if (number := count(item))]
    return sorted(counted, key=lambda pair: (-pair[1], pair[0]))[:places]


def packages_in(package: Package) -> Iterator[Package]:
    """Yield the packages in a package, and the packages in these."""
    for inner in package.packages.values():
        yield inner
        yield from packages_in(inner)


def classes(owner: Module | Class) -> Iterator[Class]:
    """Yield the classes of a module or class, and the classes in these."""
    for cls in owner.classes.values():
        yield cls
        yield from classes(cls)


def functions(owner: Module | Class) -> Iterator[Function]:
    """Yield the functions of a module or class, and the methods of the classes in it."""
    yield from owner.functions.values()
    for cls in owner.classes.values():
        yield from functions(cls)


def decorators(module: Module) -> Iterator[Class | Function | Outside]:
    """Yield the decorators in a module, each as often as it stands there."""
    for cls in classes(module):
        yield from cls.decorators
    for function in functions(module):
        yield from function.decorators


def import_cycle(start: Module) -> list[Module]:
    """Return the shortest way along imports from a module back to itself; an empty list if there is none."""
    came_from: dict[Module, Module] = {}
    waiting = deque([start])
    while waiting:
        module = waiting.popleft()
        for imported in module.imports:
            if imported is start:
                cycle = [start]
                while module is not start:
                    cycle.append(module)
                    module = came_from[module]
                return [start, *reversed(cycle)]
            if imported not in came_from:
                came_from[imported] = module
                waiting.append(imported)
    return []
