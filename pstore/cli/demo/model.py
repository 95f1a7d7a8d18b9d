"""What the demonstration stores: the packages, modules, classes and functions of a library, and how they are linked.

Nothing here derives from a class of pstore or calls it, but for the declarations. The classes stand in a module of their
own because each process that opens the store has to find them by name: `pstore.cli.demo.model.Class`.

Every link is a plain attribute and has its way back: a module knows who imports it, a class who inherits from it, a
decorator what it decorates. So the graph is one knot of cycles, and most objects in it are reached from many places.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pstore

# Compared by identity (eq=False), as things are that exist once; and without the repr of a dataclass, which would follow
# the links through the whole graph.


@pstore.persistent
@dataclass(eq=False, repr=False)
class Package:
    """A directory of modules. The library itself is the package with the empty name.

    Declared, so each instance is a record of its own, loaded at the first touch.
    """

    name: str
    parent: Package | None = None
    packages: dict[str, Package] = field(default_factory=dict)
    modules: dict[str, Module] = field(default_factory=dict)


@pstore.persistent
@dataclass(eq=False, repr=False)
class Module:
    """A source file: what it defines at its top level, and the modules that it imports there."""

    name: str
    path: str
    lines: int
    package: Package
    classes: dict[str, Class] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    imports: list[Module] = field(default_factory=list)
    imported_by: list[Module] = field(default_factory=list)


@pstore.persistent
@dataclass(eq=False, repr=False)
class Class:
    """A class of a module, or one inside another class."""

    name: str
    line: int
    owner: Module | Class
    classes: dict[str, Class] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    bases: list[Class | Outside] = field(default_factory=list)
    subclasses: list[Class] = field(default_factory=list)
    decorators: list[Class | Function | Outside] = field(default_factory=list)
    decorates: list[Class | Function] = field(default_factory=list)


@dataclass(slots=True, eq=False, repr=False)
class Function:
    """A function of a module or a method of a class.

    A slotted dataclass that nobody declared. Most functions stand inside the record of what owns them; one that a second
    record refers to, because it is decorated or a decorator, is given a record of its own by the store.
    """

    name: str
    line: int
    owner: Module | Class
    arguments: list[str] = field(default_factory=list)
    decorators: list[Class | Function | Outside] = field(default_factory=list)
    decorates: list[Class | Function] = field(default_factory=list)


class Outside:
    """What the sources name without defining it: a builtin, or something of a module that is written in C.

    An ordinary class, undeclared.

    Args:
        name: Its module and name, such as `builtins.ValueError`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.subclasses: list[Class] = []
        self.decorates: list[Class | Function] = []


#: What a store may build is declared, or allowed by name where it is opened. These aren't declared.
ALLOWED: Final = [Function, Outside]


def full_name(item: Package | Module | Class | Function | Outside) -> str:
    """Return the name that a person would import it by."""
    if isinstance(item, (Class, Function)):
        return f"{full_name(item.owner)}.{item.name}"
    return item.name
