"""What a stream may name: the classes and functions that reading it may reach.

A name is looked up, never walked to: a class that is at hand is answered from a table, and a module is imported only
where the application has named it. Everything else is refused before anything is imported or built.
This module knows names, classes and functions; it knows nothing of records or stores.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterable
from pickle import UnpicklingError
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final

from ._errors import Unpicklable

if TYPE_CHECKING:
    from collections.abc import Callable


class Refused(UnpicklingError):
    """A stream names what the policy doesn't allow.

    Args:
        module: The module of what was named; where the name leads to what another module defines, that one.
        qualname: Its qualified name there.
        reason: What else is wrong with the name, as a clause; empty where it just isn't allowed.
    """

    def __init__(self, module: str, qualname: str, reason: str = "") -> None:
        super().__init__(module, qualname, reason)
        self.module = module
        self.qualname = qualname
        self.reason = reason

    def __str__(self) -> str:
        name = f"{self.module}.{self.qualname}"
        return f"{name}: {self.reason}" if self.reason else f"{name} isn't allowed here"


class Unnameable(Unpicklable):
    """An object to be written needs a name that the policy doesn't allow, so it couldn't be read again.

    Args:
        found: The class or function.
        why: Why its name doesn't lead to it, as a clause; found out where it isn't given.

    Attributes:
        module: The module that it says to be of.
        qualname: The qualified name that it says to have there.
        why: Why it can't be found by these, as a clause; empty where the policy just doesn't allow it.
    """

    def __init__(self, found: object, why: str | None = None) -> None:
        self.module = str(getattr(found, "__module__", None) or type(found).__module__)
        self.qualname = str(getattr(found, "__qualname__", None) or type(found).__qualname__)
        self.why = unfindable(found) if why is None else why
        name = f"{self.module}.{self.qualname}"
        super().__init__(f"{name}: {self.why}" if self.why else f"{name} isn't allowed here")


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
    "pstore.pickle.reduction": ("parametrized", "union"),
    "re": ("_compile",),
    "time": ("struct_time",),
    "types": ("GenericAlias", "SimpleNamespace"),
    "uuid": ("SafeUUID", "UUID"),
    "zoneinfo": ("ZoneInfo",),
}


#: What a name can lead to that is worth allowing.
_NAMEABLE: Final = (type, FunctionType, BuiltinFunctionType)


class Policy:
    """What may be named: a list of harmless types, what was declared, and what the application allows.

    A name vouches for what it says and no more. A class or function that is given, or named in full, is allowed. A
    module stands for the classes defined in it, a package with `.*` for those defined in its modules as well: not for
    functions, and not for what these modules have imported from elsewhere. Reading may import what is vouched for, so
    a wildcard lets a stream import any module of the package (but none such as `package.__main__`).

    Args:
        allow: Classes and functions; modules; and strings: `"package.module.Class"`, `"package.module"` (the classes
            defined in it) and `"package.*"` (the classes defined in the package and all below it). Or `ANYTHING`.
        declared: Answers (module, qualified name) with a class that the application has declared, or None.

    Raises:
        TypeError: `allow` is no collection of these.
    """

    def __init__(
        self,
        allow: Iterable[object] | _Anything = (),
        *,
        declared: Callable[[str, str], type | None] | None = None,
    ) -> None:
        self.anything = isinstance(allow, _Anything)
        self._declared = declared
        self._given: dict[tuple[str, str], object] = {}
        self._found: dict[tuple[str, str], object] = {}
        self._names: set[tuple[str, str]] = {(module, name) for module, names in HARMLESS.items() for name in names}
        self._modules: dict[str, ModuleType | None] = {}
        self._packages: tuple[str, ...] = ()
        if isinstance(allow, _Anything):
            return
        if isinstance(allow, (str, bytes, ModuleType)) or not isinstance(allow, Iterable):
            message = f"allow takes a list, or pstore.ANYTHING: allow=[{_shown(allow)}]"
            raise TypeError(message)
        for entry in allow:
            self._add(entry)

    def find(self, module: str, qualname: str) -> object:
        """Return the class or function of this name; import its module only where that was allowed by name.

        Raises:
            Refused: The name isn't allowed, or leads to something else than what was allowed.
            ImportError: The module was allowed but can't be imported, or has no such name, or nothing there that can be named.
        """
        name = module, qualname
        if name in self._given:
            return self._given[name]
        if self._declared and (cls := self._declared(module, qualname)) is not None:
            return cls
        if name not in self._found:
            self._found[name] = self._look_up(module, qualname)
        return self._found[name]

    def permits(self, found: object) -> bool:
        """Return whether this very class or function may be named, so that what is written can be read."""
        if found is Ellipsis or found is NotImplemented:
            return True
        module, qualname = _name_of(found)
        if module is None or qualname is None:
            return False
        if self._found.get((module, qualname), found) is not found:
            del self._found[module, qualname]  # it was defined anew
        try:
            return self.find(module, qualname) is found
        except (Refused, ImportError, AttributeError):
            return False

    def why_not(self, found: object) -> str:
        """Return why what isn't permitted couldn't be found by its name, as a clause; "" where it just isn't allowed."""
        module, qualname = _name_of(found)
        if module is not None and qualname is not None and self._given.get((module, qualname), found) is not found:
            return "allow has another object of the same name: open the store with this one in its place"
        return unfindable(found)

    def _look_up(self, module: str, qualname: str) -> object:
        if self.anything:
            return _walk(_import(module), qualname)
        if (module, qualname) in self._names:
            found = self._stands_at(module, qualname)
            if _is(found, *_NAMEABLE) or found is Ellipsis or found is NotImplemented:
                return found
        elif self._covers(module):
            found = self._stands_at(module, qualname)
            home = _name_of(found)
            if _is(found, type) and (home == (module, qualname) or self._allows_at_home(found, *home)):
                return found
            if _is(found, *_NAMEABLE) and home[0] is not None and home[1] is not None:
                raise Refused(home[0], home[1])
        else:
            raise Refused(module, qualname)
        if not _is(found, *_NAMEABLE):
            message = f"{qualname} in {module} is no class or function (any more) but of type {type(found).__name__}"
            raise ImportError(message, name=module)
        raise Refused(module, qualname)

    def _allows_at_home(self, found: object, module: str | None, qualname: str | None) -> bool:
        """Return whether a class that stands here, but says to be defined elsewhere, is allowed there."""
        if module is None or qualname is None:
            return False
        if self._given.get((module, qualname)) is found:
            return True
        if self._declared and self._declared(module, qualname) is found:
            return True
        if (module, qualname) not in self._names and not self._covers(module):
            return False
        try:
            return self._stands_at(module, qualname) is found
        except (Refused, ImportError):
            return False

    def _covers(self, module: str) -> bool:
        """Return whether the classes of this module are allowed, so that it may be imported."""
        if module in self._modules:
            return True
        return any(
            module.startswith(package) and all(map(_is_submodule, module[len(package) :].split(".")))
            for package in self._packages
        )

    def _stands_at(self, module: str, qualname: str) -> object:
        """Return what stands under a name, looked up in the namespaces of the module and of classes in it."""
        root = self._modules.get(module) or _import(module)
        found: object = root
        for part in qualname.split("."):
            if _is(found, ModuleType) and found is not root:
                raise Refused(module, qualname, "it leads through another module: name it where it is defined")
            if not _is(found, ModuleType, type) or part not in vars(found):
                message = f"there is no {qualname} in {module} (any more)"
                raise ImportError(message, name=module)
            found = vars(found)[part]
        return found

    def _add(self, entry: object) -> None:
        if isinstance(entry, ModuleType):
            self._modules[entry.__name__] = entry
        elif isinstance(entry, (type, FunctionType, BuiltinFunctionType)) and None not in _name_of(entry):
            self._given[entry.__module__, entry.__qualname__] = entry
        elif isinstance(entry, str) and _is_dotted(entry.removesuffix(".*")):
            name = entry.removesuffix(".*")
            self._modules.setdefault(name, None)
            if name != entry:
                self._packages += (f"{name}.",)
                return
            parts = name.split(".")
            # Where the module's name ends isn't said; a name is compared whole, so every cut is the same entry.
            self._names.update((".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(1, len(parts)))
        elif isinstance(entry, _Anything):
            message = "allow=pstore.ANYTHING stands alone, in no list"
            raise TypeError(message)
        else:
            message = (
                "allow takes classes, functions, modules and names like 'package.module.Class' or 'package.*', not"
                f" {entry!r}"
            )
            raise TypeError(message)


def unfindable(found: object) -> str:
    """Return why a class or function couldn't be found by its name, whatever is allowed; "" where it could.

    Nothing is imported.
    """
    module, qualname = _name_of(found)
    if module is None or qualname is None:
        return "it doesn't say of which module it is, so it couldn't be found again"
    if "<locals>" in qualname:
        return (
            "it is defined within a function, so another process couldn't find it: move it to the top level of its"
            " module"
        )
    try:
        at = _walk(sys.modules.get(module), qualname)
    except AttributeError:
        return f"there is no {qualname} in {module}, so it couldn't be found again"
    if at is not found:
        return (
            "another object has this name by now, so it couldn't be found again (was it defined anew? Make its objects"
            " anew, too)"
        )
    return ""


def _name_of(found: object) -> tuple[str | None, str | None]:
    module, qualname = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    return module if isinstance(module, str) else None, qualname if isinstance(qualname, str) else None


def _is(found: object, *kinds: type) -> bool:
    """Return whether an object is an instance of one of these types, and doesn't just say so by its `__class__`."""
    return issubclass(type(found), kinds)


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_submodule(part: str) -> bool:
    """Return whether a part of a module's name may come from a stream: `__main__` is run, `__init__` run once more."""
    return part.isidentifier() and not (part.startswith("__") and part.endswith("__"))


def _shown(found: object) -> str:
    return found.__qualname__ if isinstance(found, (type, FunctionType)) else repr(found)


def _import(module: str) -> ModuleType:
    if "" in module.split(".") or "\0" in module:
        message = f"{module!r} can't be the name of a module"
        raise ImportError(message, name=module)
    return importlib.import_module(module)


def _walk(found: object, qualname: str) -> object:
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
