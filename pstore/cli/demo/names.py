"""Looking names up: from what the sources name to the objects that are meant, and the links between these.

As Python itself does it, as far as that can be told without running anything: through imports under other names,
through modules that hand on what they import, through `import *`. This module knows the model; it knows nothing of stores.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, TypeAlias

from pstore.cli.demo.model import Class, Function, Module, Outside

if TYPE_CHECKING:
    from pstore.cli.demo.library import Source

Found: TypeAlias = "Module | Class | Function | Outside"


class Linker:
    """Makes the links between modules, classes and functions.

    Args:
        sources: All modules, by their full names.

    Attributes:
        outside: What isn't defined in any of them, by its full name.
        links: How many links were made.
        unknown: How many names can't be told from the source alone.
    """

    def __init__(self, sources: dict[str, Source]) -> None:
        self.outside: dict[str, Outside] = {}
        self.links = 0
        self.unknown = 0
        self._sources = sources

    def link(self, source: Source) -> None:
        """Make the links of one module: what it imports, and the bases and decorators in it."""
        for name in source.imports:
            module = self._imported(name)
            # A module that imports itself is a package that names its parts.
            if module and module is not source.module and module not in source.module.imports:
                source.module.imports.append(module)
                module.imported_by.append(source.module)
                self.links += 1
        for cls, name in source.bases:
            base = self._named(source, cls.owner, name)
            if isinstance(base, (Class, Outside)):
                cls.bases.append(base)
                base.subclasses.append(cls)
                self.links += 1
        for item, name in source.decorators:
            decorator = self._named(source, item.owner, name)
            if isinstance(decorator, (Class, Function, Outside)):
                item.decorators.append(decorator)
                decorator.decorates.append(item)
                self.links += 1

    def _imported(self, name: str) -> Module | None:
        """Return the module of this name, or that which the name's last part is imported from."""
        for module in (name, name.rpartition(".")[0]):
            if module in self._sources:
                return self._sources[module].module
        return None

    def _named(self, source: Source, scope: Module | Class, name: str) -> Found | None:
        """Return what a dotted name means within a class or module."""
        first, *rest = name.split(".")
        found: Found | None = scope.classes.get(first) or scope.functions.get(first)
        found = found or self._in_module(source, first, set())
        if found is None and hasattr(builtins, first):
            found = self._outside(f"builtins.{first}")
        found = self._attributes(found, rest)
        self.unknown += found is None
        return found

    def _in_module(self, source: Source, name: str, seen: set[tuple[str, str]]) -> Found | None:
        """Return what a module has under a name, wherever it imports it from."""
        place = source.module.name, name
        if place in seen:
            return None
        seen.add(place)
        module = source.module
        found: Found | None = module.classes.get(name) or module.functions.get(name)
        if found is None and name in source.bindings:
            found = self._absolute(source.bindings[name], seen)
        for star in source.stars:
            if found is None and star in self._sources:
                found = self._in_module(self._sources[star], name, seen)
        return found

    def _absolute(self, name: str, seen: set[tuple[str, str]]) -> Found | None:
        """Return what a full name such as `json.decoder.JSONDecoder` means."""
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            source = self._sources.get(".".join(parts[:count]))
            if source is not None:
                if count == len(parts):
                    return source.module
                return self._attributes(self._in_module(source, parts[count], seen), parts[count + 1 :])
        return self._outside(name)

    def _attributes(self, found: Found | None, names: list[str]) -> Found | None:
        for name in names:
            if isinstance(found, Module):
                found = self._absolute(f"{found.name}.{name}", set())
            elif isinstance(found, Class):
                found = found.classes.get(name)
            elif isinstance(found, Outside):
                found = self._outside(f"{found.name}.{name}")
            else:
                return None
        return found

    def _outside(self, name: str) -> Outside:
        if name not in self.outside:
            self.outside[name] = Outside(name)
        return self.outside[name]
