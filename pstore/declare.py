"""`@pstore.persistent`: which classes have declared that their instances are records, and how they are stored.

The declaration is a row in a table of this process; the class itself isn't changed, so it costs nothing and works for
classes of other people's modules. This module knows classes only, never a store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, overload

from pstore.pickle.policy import HARMLESS

C = TypeVar("C", bound=type)

#: Takes a state as it was stored, and the version of its class that it was stored with; returns the state of today.
Migration = Callable[[Any, int], Any]

#: The greatest version that the record of a class has room for.
MAX_VERSION: Final = 2**32 - 1


class Declaration(NamedTuple):
    """What was declared of a class.

    Attributes:
        cls: The class.
        module: The module that its stored name says.
        qualname: The qualified name that its stored name says.
        version: The version of the states that its objects have now.
        migrate: Makes a state of that version from one of an older version; None leaves it to the class.
    """

    cls: type
    module: str
    qualname: str
    version: int
    migrate: Migration | None


#: By the id of the class, which the declaration keeps alive: asked for every instance that a commit pickles.
_BY_ID: Final[dict[int, Declaration]] = {}
#: By the dotted name under which records of the class are stored.
_BY_NAME: Final[dict[str, Declaration]] = {}
#: By the class's own dotted name. A class that is defined anew takes its name's place.
_BY_OWN_NAME: Final[dict[str, Declaration]] = {}


@overload
def persistent(
    cls: None = None, *, version: int = 1, migrate: Migration | None = None, name: str | None = None
) -> Callable[[C], C]: ...
@overload
def persistent(cls: C, *, version: int = 1, migrate: Migration | None = None, name: str | None = None) -> C: ...
def persistent(
    cls: C | None = None, *, version: int = 1, migrate: Migration | None = None, name: str | None = None
) -> C | Callable[[C], C]:
    """Declare that every instance of a class gets a record of its own, and that stores may hold and build it.

    Works as a decorator, plain or with arguments, and as a call (`pstore.persistent(module.TheirClass, version=2)`); adds
    no base class. Subclasses are declared on their own.

    A record says with which version of its class its state was written. One of an older version is migrated each time it
    is loaded, and written in the new version when the object has changed, not by being read. A record of a newer version
    isn't loaded (`NewerVersion`). Declare a class before a store that has its objects is opened.

    Args:
        cls: A class that can be found again by its module and qualified name.
        version: The version of the states that its objects have now, 1 to 2**32 - 1. Raise it with each change of the
            class that takes a migration.
        migrate: Called as `migrate(state, version)` with a state of an older version as it was stored (what
            `__getstate__` returned; without one a dict of the attributes, a pair of that dict or None and a dict of the
            attributes in slots, or None where there were none), and that version. Returns the state for the class as it is
            now, which goes to `__setstate__` or becomes the attributes. Without it, older states go there as they are.
        name: The dotted name under which the objects are stored, where that isn't the class's own: the name that it had
            before it was renamed or moved (`"shop.models.Customer"`).

    Returns:
        The same class, unchanged; without a class, a decorator.

    Raises:
        TypeError: The class isn't one, or is a builtin one, or one that was defined within a function; or the name is
            taken by another class; or an argument is of another type.
        ValueError: The version or the name can't be one.
    """
    _check_version(version)
    if migrate is not None and not callable(migrate):
        message = f"migrate is a function that takes a state and its version, not {migrate!r}"
        raise TypeError(message)
    if name is not None:
        _check_name(name)
    if cls is None:
        return lambda cls: _declare(cls, version, migrate, name)
    return _declare(cls, version, migrate, name)


def declaration(cls: type) -> Declaration | None:
    """Return what was declared of this very class, or None."""
    return _BY_ID.get(id(cls))


def is_declared(cls: type) -> bool:
    """Return whether this very class was declared."""
    return id(cls) in _BY_ID


def withdraw(cls: type) -> None:
    """Take back what was declared of a class. Stores that are open may have taken it in already."""
    old = _BY_ID.pop(id(cls), None)
    for table in (_BY_NAME, _BY_OWN_NAME):
        for name in [name for name, found in table.items() if found is old]:
            del table[name]


def claimed(name: str) -> Declaration | None:
    """Return the declaration of the class whose records are stored under a dotted name, or None."""
    return _BY_NAME.get(name)


def declared(module: str, qualname: str) -> type | None:
    """Return the declared class that records under this name belong to, or None.

    That is the class that is stored under the name. Where there is none, it is the one that has the name itself though its
    records are stored under another: it may have been stored before that was declared.
    """
    name = dotted(module, qualname)
    found = _BY_NAME.get(name) or _BY_OWN_NAME.get(name)
    return None if found is None else found.cls


def dotted(module: str, qualname: str) -> str:
    """Return the dotted name of a class. Where the module's name ends isn't said."""
    return f"{module}.{qualname}" if module else qualname


def split_name(name: str) -> tuple[str, str]:
    """Return a dotted name as the names of a module and of a class in it."""
    module, _, qualname = name.rpartition(".")
    return module, qualname


def is_dotted(name: str) -> bool:
    """Return whether a text is a path of identifiers."""
    return all(part.isidentifier() for part in name.split("."))


def _declare(cls: C, version: int, migrate: Migration | None, name: str | None) -> C:
    _check_class(cls)
    own = cls.__module__, cls.__qualname__
    own_name = dotted(*own)
    new = Declaration(cls, *(own if name is None or name == own_name else split_name(name)), version, migrate)
    stored = dotted(new.module, new.qualname)
    if stored != own_name and (new.module == "builtins" or new.qualname in HARMLESS.get(new.module, ())):
        message = f"{own_name} can't be stored as {stored}: that name is taken by a type of Python's own"
        raise TypeError(message)
    taken = _BY_NAME.get(stored)
    if taken is not None and taken.cls is not cls and (taken.cls.__module__, taken.cls.__qualname__) != own:
        message = (
            f"{own_name} can't be stored as {stored}: {dotted(taken.cls.__module__, taken.cls.__qualname__)} is declared"
            f" under that name; give one of the two another, as in @pstore.persistent(name={stored + '2'!r})"
        )
        raise TypeError(message)
    for old in (_BY_ID.get(id(cls)), _BY_OWN_NAME.get(own_name), taken):
        if old is not None:
            withdraw(old.cls)
    _BY_ID[id(cls)] = _BY_NAME[stored] = _BY_OWN_NAME[own_name] = new
    return cls


def _check_class(cls: object) -> None:
    if not isinstance(cls, type):
        message = f"@pstore.persistent declares a class, not {cls!r}"
        raise TypeError(message)
    if cls.__module__ == "builtins":
        message = (
            f"{cls.__qualname__} is a builtin type: its objects need no declaration, and a subclass can be declared"
        )
        raise TypeError(message)
    if "<locals>" in cls.__qualname__:
        message = (
            f"{cls.__module__}.{cls.__qualname__} is defined within a function, so another process couldn't find it by its"
            " name; move the class to the top level of its module"
        )
        raise TypeError(message)


def _check_version(version: object) -> None:
    if type(version) is not int:
        message = f"version is a whole number, not {version!r}"
        raise TypeError(message)
    if not 1 <= version <= MAX_VERSION:
        message = f"version is a number from 1 to {MAX_VERSION}, not {version}"
        raise ValueError(message)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        message = (
            f"name is the dotted name under which the class is stored, such as 'shop.models.Customer', not {name!r}"
        )
        raise TypeError(message)
    if not is_dotted(name):
        message = f"name is a path of identifiers such as 'shop.models.Customer', not {name!r}"
        raise ValueError(message)
