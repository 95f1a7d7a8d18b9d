"""Stand-ins: what takes the place of an object that can't be had, so that its neighbours load.

The class of the object isn't allowed, or isn't there any more, or is too old for it; or its record holds an object of such a
class. Every touch of a stand-in raises the error that says which. It can be held, compared, put under a name, and is
written as the reference that it is; its record stays as it is. This module knows errors and labels, nothing of records.
"""

from __future__ import annotations

import copy
from typing import Any, Final, NoReturn

from pstore.ghosts import Barrier

#: What would need the object. Those that `object` has and that aren't here (`==`, `hash`, `repr`) work on a stand-in.
_TOUCHES: Final = (
    *("__setattr__", "__delattr__", "__reduce_ex__", "__reduce__", "__copy__", "__deepcopy__", "__dir__"),
    *("__len__", "__iter__", "__next__", "__reversed__", "__contains__", "__getitem__", "__setitem__", "__delitem__"),
    *(
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__enter__",
        "__exit__",
        "__int__",
        "__float__",
        "__index__",
        "__bytes__",
    ),
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__and__", "__or__", "__xor__"),
)


class StandIns:
    """The stand-ins of one session."""

    def __init__(self) -> None:
        self._shared: dict[int, type] = {}  # class code -> the class of the stand-ins of all its objects
        self._errors: dict[type, Exception] = {}

    def make(self, label: str, error: Exception, code: int | None = None) -> object:
        """Return a stand-in.

        Args:
            label: What to call the object.
            error: What a touch raises; each time a new one, as far as it pickles.
            code: The class code, where that is why the object can't be had; None where it is in the object's record.
        """
        cls = None if code is None else self._shared.get(code)
        if cls is None:
            cls = _make_class(label.partition("#")[0], error)
            self._errors[cls] = error
            if code is not None:
                self._shared[code] = cls
        obj: object = object.__new__(cls)
        _label_of(cls).__set__(obj, label)
        return obj

    def error_of(self, obj: object) -> Exception | None:
        """Return the error that a touch of the object raises if it is a stand-in, else None."""
        error = self._errors.get(type(obj))
        return None if error is None else _anew(error)

    def forget(self, code: int) -> None:
        """A class code has another name now: what is made for it from now on may have another error."""
        self._shared.pop(code, None)


def _make_class(name: str, error: Exception) -> type:
    def refuse(*_: object) -> NoReturn:
        raise _anew(error)

    def get(_: object, attribute: str) -> object:
        if attribute == "__class__":  # asked by isinstance
            return cls
        raise _anew(error)

    namespace: dict[str, object] = {
        "__slots__": ("__weakref__", "_label"),
        "__doc__": "Stands in for objects that can't be had.",
        "__getattribute__": get,
        **dict.fromkeys(_TOUCHES, refuse),
        "__repr__": lambda obj: f"<unavailable {_label_of(cls).__get__(obj)}>",
    }
    cls: type = type(name, (Barrier,), namespace)
    return cls


def _label_of(cls: type) -> Any:
    return vars(cls)["_label"]


def _anew(error: Exception) -> Exception:
    """Return a copy, so that the tracebacks of many touches don't pile up on one error."""
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again
