"""Looking at classes without running code of theirs: what is found is what stands in the dicts of a class and its bases.

An attribute access would ask the metaclass, which may have a `__getattribute__` or `__getattr__` with answers of its own,
and a look-up in a dict its `__hash__` and `__eq__`. This module knows classes only.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

MISSING: Final[Any] = object()
_MOST_REMEMBERED: Final = 4096

_mro: Final = type.__dict__["__mro__"].__get__
_namespace: Final = type.__dict__["__dict__"].__get__


def remembered(verdict: Callable[[type], T]) -> Callable[[type], T]:
    """Return a function that answers as another one does, and asks it once for each class."""
    known: dict[int, tuple[T, type]] = {}  # by the id of a class, which is entered with what was found

    @functools.wraps(verdict)
    def ask(cls: type) -> T:
        try:
            return known[id(cls)][0]
        except KeyError:
            pass
        if len(known) >= _MOST_REMEMBERED:  # classes that are made and dropped aren't kept for good
            known.clear()
        found = verdict(cls)
        known[id(cls)] = found, cls
        return found

    return ask


def bases(cls: type) -> tuple[type, ...]:
    """Return a class and all that it inherits from, in the order in which an attribute is looked for."""
    order: tuple[type, ...] = _mro(cls)
    return order


def namespace(cls: type) -> Mapping[str, Any]:
    """Return what stands in a class itself."""
    found: Mapping[str, Any] = _namespace(cls)
    return found


def find(cls: type, name: str) -> Any:
    """Return what stands under a name in a class or its bases, unbound; `MISSING` if there is nothing."""
    for base in _mro(cls):
        found = _namespace(base).get(name, MISSING)
        if found is not MISSING:
            return found
    return MISSING


def own(cls: type, name: str) -> Any:
    """Return what `type` itself answers for an attribute of every class: `__name__`, `__qualname__`, `__module__`, ..."""
    return type.__dict__[name].__get__(cls)


def bound(obj: object, name: str) -> Any:
    """Return a special method as the interpreter looks it up, on the class and past `__getattribute__`.

    Raises:
        AttributeError: The class has none.
    """
    cls = type(obj)
    found = find(cls, name)
    if found is MISSING:
        message = f"{own(cls, '__name__')!r} object has no attribute {name!r}"
        raise AttributeError(message)
    get = find(type(found), "__get__")
    return found if get is MISSING else get(found, obj, cls)
