"""`@pstore.persistent`: which classes have declared that their instances are records.

The declaration is a row in a table of this process; the class itself isn't changed, so it costs nothing and works for
classes of other people's modules. This module knows classes only, never a store.
"""

from __future__ import annotations

from typing import TypeVar

C = TypeVar("C", bound=type)

#: (module, qualified name) -> the declared class; a class that is defined anew takes its name's place.
_DECLARED: dict[tuple[str, str], type] = {}


def persistent(cls: C) -> C:
    """Declare that every instance of a class gets a record of its own, and that stores may hold and build it.

    Works as a decorator and as a call (`pstore.persistent(module.TheirClass)`); adds no base class. Subclasses are
    declared on their own.

    Args:
        cls: A class that can be found again by its module and qualified name.

    Returns:
        The same class, unchanged.

    Raises:
        TypeError: The argument isn't a class, or is a builtin one, or one that was defined within a function.
    """
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
    _DECLARED[cls.__module__, cls.__qualname__] = cls
    return cls


def declared(module: str, qualname: str) -> type | None:
    """Return the class that was declared under this name, or None."""
    return _DECLARED.get((module, qualname))


def is_declared(cls: type) -> bool:
    """Return whether this very class was declared."""
    return _DECLARED.get((cls.__module__, cls.__qualname__)) is cls
