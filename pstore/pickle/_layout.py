"""What a class may have to do with the memory of its instances: setting an object's class, and sharing a layout.

The attributes of an ordinary instance stand in it as an array, and which name has which place in that is told by the
class. So setting ``__class__`` has the interpreter (from Python 3.11 on) make the instance's ``__dict__`` first, for good:
it takes memory, and each access to an attribute takes longer. A subclass that adds nothing can *share* its class's
names and places. Then setting the class leaves the instance as it is.

This is the reference: the ordinary assignment, and nothing shared.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["clear_attributes", "has_held_dict", "new_instance", "set_class", "share_layout"]

_set_class = object.__dict__["__class__"].__set__


def set_class(obj: object, cls: type) -> None:
    """Set the class of an object, past anything that its class or the new one defines.

    Raises:
        TypeError: The two classes have their instances' attributes in different places.
    """
    _set_class(obj, cls)


def share_layout(cls: type, base: type, names: Iterable[str] = ()) -> bool:
    """Let a class share the layout of its base's instances, so that `set_class` between them changes nothing else.

    Args:
        cls: A class that was just made, by no more than a ``class`` statement with ``__slots__ = ()``, and of which
            there has been no instance.
        base: Its base.
        names: The attributes that instances are likely to have, in order. The interpreter learns them from the first
            instances, and gives later ones room for no more; they are told where it has learned none yet.

    Returns:
        Whether it does; the reference engine, and Pythons whose layout isn't known, share none. `set_class` works all
        the same.
    """
    del cls, base, names
    return False


def new_instance(cls: type) -> Any:
    """Make an instance of a class that shares a layout, without attributes; as ``object.__new__`` does.

    Many such may be made before the first one gets its attributes, so it isn't taken for one that has none.

    Raises:
        TypeError: `object` can't make it.
    """
    return object.__new__(cls)


def has_held_dict(obj: object) -> bool:
    """Return whether anything but the object itself refers to its ``__dict__``, so that it may change unseen.

    Of an object with no ``__dict__``, or with one that its own class gives it, that can't be said: False.
    """
    try:
        return _references(obj) > _ALONE
    except AttributeError:
        return False


class _Probe:
    pass


def clear_attributes(obj: object) -> None:
    """Remove every attribute that is in the ``__dict__`` of an object, running no code of its class's.

    A ``__dict__`` that anything but the object refers to is left as it is, and the object gets another one.

    Args:
        obj: The object; one that has no ``__dict__`` is passed over.
    """
    try:
        attributes: Any = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return
    if sys.getrefcount(attributes) > _ALONE:
        object.__setattr__(obj, "__dict__", {})
    else:
        attributes.clear()


def _references(obj: object) -> int:
    attributes: Any = object.__getattribute__(obj, "__dict__")
    return sys.getrefcount(attributes)


_ALONE = _references(_Probe())  # measured, because how many references a call itself adds depends on the interpreter
