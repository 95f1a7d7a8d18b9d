"""What a stream may name: the classes and functions that reading it may reach.

A name is looked up, never walked to: a class that is at hand is answered from a table, and a module is imported only
where the application has named it. Everything else is refused before anything is imported or built.
This module knows names, classes and functions; it knows nothing of records or stores.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from pickle import UnpicklingError
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final

from ._errors import Unpicklable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Refused(UnpicklingError):
    """A stream names what the policy doesn't allow.

    Args:
        module: The module of what was named.
        qualname: Its qualified name there.
    """

    def __init__(self, module: str, qualname: str) -> None:
        super().__init__(module, qualname)
        self.module = module
        self.qualname = qualname

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname} isn't allowed here"


class Unnameable(Unpicklable):
    """An object to be written needs a name that the policy doesn't allow, so it couldn't be read again.

    Args:
        found: The class or function.
    """

    def __init__(self, found: object) -> None:
        self.module = str(getattr(found, "__module__", None) or type(found).__module__)
        self.qualname = str(getattr(found, "__qualname__", None) or type(found).__qualname__)
        super().__init__(f"{self.module}.{self.qualname} isn't allowed here")


class _Anything:
    """The type of `ANYTHING`."""

    def __repr__(self) -> str:
        return "pstore.ANYTHING"


#: As `allow=`: everything that can be imported may be named and called. A store that someone else could have written
#: then runs what its writer wants.
ANYTHING: Final = _Anything()

#: Module -> names in it whose constructors and states do nothing but hold data.
HARMLESS: Final[dict[str, tuple[str, ...]]] = {
    "builtins": (
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range"),
        *("set", "slice", "str", "tuple", "Ellipsis", "NotImplemented"),
        *(
            name
            for name, value in vars(builtins).items()
            if isinstance(value, type) and issubclass(value, BaseException)
        ),
    ),
    "array": ("array", "_array_reconstructor"),
    "collections": ("ChainMap", "Counter", "OrderedDict", "UserDict", "UserList", "UserString", "defaultdict", "deque"),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "ipaddress": (*("IPv4Address", "IPv4Interface", "IPv4Network", "IPv6Address", "IPv6Interface", "IPv6Network"),),
    "pathlib": ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "pathlib._local": ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "re": ("_compile",),
    "time": ("struct_time",),
    "types": ("GenericAlias", "SimpleNamespace"),
    "uuid": ("SafeUUID", "UUID"),
    "zoneinfo": ("ZoneInfo",),
}


class Policy:
    """What may be named: a list of harmless types, what was declared, and what the application allows.

    Args:
        allow: Classes and functions; modules; and strings: `"package.module.Class"`, `"package.module"` (the classes
            defined in it) and `"package.*"` (the classes defined in the package and all below it). Or `ANYTHING`.
        declared: Answers (module, qualified name) with a class that the application has declared, or None.

    Raises:
        TypeError: An entry of `allow` is none of these.
    """

    def __init__(
        self,
        allow: Iterable[object] | _Anything = (),
        *,
        declared: Callable[[str, str], type | None] | None = None,
    ) -> None:
        self.anything = allow is ANYTHING or isinstance(allow, _Anything)
        self._declared = declared
        self._known: dict[tuple[str, str], object] = {}
        self._names: set[tuple[str, str]] = {(module, name) for module, names in HARMLESS.items() for name in names}
        self._modules: set[str] = set()
        self._packages: tuple[str, ...] = ()
        if isinstance(allow, (str, type, ModuleType)):
            message = f"allow takes a list: allow=[{allow!r}]"
            raise TypeError(message)
        if not isinstance(allow, _Anything):
            for entry in allow:
                self._add(entry)

    def find(self, module: str, qualname: str) -> object:
        """Return the class or function of this name; import its module only where that was allowed by name.

        Raises:
            Refused: The name isn't allowed, or isn't that of a class or function defined in its module.
            ImportError: The module was allowed but can't be imported, or has no such name.
        """
        name = module, qualname
        if name in self._known:
            return self._known[name]
        if self._declared and (cls := self._declared(module, qualname)) is not None:
            return cls
        found: object
        if self.anything:
            found = _walk(_import(module), qualname)
        elif name in self._names:
            found = _defined(module, qualname, functions=True)
        elif module in self._modules or module.startswith(self._packages):
            found = _defined(module, qualname, functions=False)
        else:
            raise Refused(module, qualname)
        self._known[name] = found
        return found

    def permits(self, found: object) -> bool:
        """Return whether this very class or function may be named, so that what is written can be read."""
        if self.anything or found is Ellipsis or found is NotImplemented:
            return True
        module, qualname = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
        if not isinstance(module, str) or not isinstance(qualname, str):
            return False
        try:
            return self.find(module, qualname) is found
        except Refused:
            return False

    def _add(self, entry: object) -> None:
        if isinstance(entry, ModuleType):
            self._modules.add(entry.__name__)
        elif isinstance(entry, (type, FunctionType, BuiltinFunctionType)):
            self._known[entry.__module__, entry.__qualname__] = entry
        elif isinstance(entry, str) and entry.endswith(".*"):
            self._modules.add(entry[:-2])
            self._packages += (entry[:-1],)
        elif isinstance(entry, str) and all(part.isidentifier() for part in entry.split(".")):
            self._modules.add(entry)
            parts = entry.split(".")
            # Where the module's name ends isn't said; a name is compared whole, so every cut is the same entry.
            self._names.update((".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(1, len(parts)))
        else:
            message = f"allow takes classes, functions, modules and names like 'package.module.Class' or 'package.*', not {entry!r}"
            raise TypeError(message)


def _import(module: str) -> ModuleType:
    return sys.modules.get(module) or importlib.import_module(module)


def _walk(found: object, qualname: str) -> object:
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _defined(module: str, qualname: str, *, functions: bool) -> object:
    """Look a name up in the namespaces of its module and classes, and take only what was defined there."""
    found: object = _import(module)
    for part in qualname.split("."):
        if not isinstance(found, (ModuleType, type)) or part not in vars(found):
            message = f"there is no {qualname} in {module} (any more)"
            raise ImportError(message, name=module)
        found = vars(found)[part]
    if found in (Ellipsis, NotImplemented):
        return found
    kinds = (type, FunctionType, BuiltinFunctionType) if functions else (type,)
    if not isinstance(found, kinds) or getattr(found, "__qualname__", None) != qualname:
        raise Refused(module, qualname)
    if not functions and found.__module__ != module:
        raise Refused(module, qualname)
    return found
