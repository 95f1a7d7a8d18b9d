"""Ghosts: objects that are there before their state is, and wake at the first touch.

A ghost of class C is an object whose `__class__` is a generated subclass of C. The generated class intercepts every
access that could see the state, wakes the object (its `__class__` becomes C again, its state is loaded), and repeats
the access. The same generated class is the barrier behind which an object with its state is put after a commit, so that
the next touch is noticed. The states of an object::

    ghost       generated class, no state          --touch-->     awake (the state is loaded)
    awake       class C, state                     --commit-->    resident
    resident    generated class, state kept        --touch-->     awake (nothing is loaded)
    awake, resident                                --rollback, evict--> ghost

Making the generated class runs no code of C's: no metaclass call, no `__init_subclass__`. This module knows classes and
one callable that wakes an object; it never knows where a state comes from.
"""

from __future__ import annotations

import contextlib
import opcode
import types
from typing import TYPE_CHECKING, Any, Final

from pstore.pickle import clear_attributes, set_class, share_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Special methods that the generated class inherits or defines itself; all others of C are made to wake first.
_NOT_FORWARDED: Final = frozenset(
    {
        *("__new__", "__init__", "__init_subclass__", "__subclasshook__", "__class_getitem__", "__class__", "__del__"),
        *("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__set_name__", "__prepare__", "__hash__"),
        *("__annotate__", "__annotate_func__"),
    }
)
#: `copy` and `pickle` call these on the class of the object; object's own would see no state.
_ALWAYS_FORWARDED: Final = ("__reduce_ex__", "__reduce__", "__getstate__", "__sizeof__", "__dir__")


class Barrier:
    """Stands before C in the order of a generated class's bases, so that C's `__init_subclass__` isn't run."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Do nothing, and ask nobody else."""


class Ghosts:
    """The generated classes of one session.

    Args:
        wake: Called with a ghost or resident object that is touched; makes it awake or raises.
    """

    def __init__(self, wake: Callable[[Any], None]) -> None:
        self._wake = wake
        self._generated: dict[type, type | None] = {}
        self._real: dict[type, type] = {}

    def of(self, cls: type) -> type | None:
        """Return the generated class for a class, or None where its objects can't be ghosts."""
        try:
            return self._generated[cls]
        except KeyError:
            generated = self._generated[cls] = _try_generate(cls, self._wake)
            if generated is not None:
                self._real[generated] = cls
            return generated

    def asleep(self, obj: object) -> bool:
        """Return whether an object is a ghost or resident one of this session."""
        return type(obj) in self._real

    def real_class(self, obj: object) -> type:
        """Return the class that the object has when it is awake."""
        cls = type(obj)
        return self._real.get(cls, cls)

    def wake_resident(self, obj: object) -> None:
        """Let an object out from behind the barrier; its state is there."""
        set_class(obj, self._real[type(obj)])

    def put_asleep(self, obj: object) -> None:
        """Put an awake object behind the barrier, its state kept.

        Raises:
            TypeError: Its class was set to one whose objects can't be ghosts.
        """
        generated = self.of(type(obj))
        if generated is None:
            message = f"an object of {type(obj).__qualname__} can't be a ghost"
            raise TypeError(message)
        set_class(obj, generated)


def is_any_ghost(obj: object) -> bool:
    """Return whether an object is asleep in any session at all."""
    return issubclass(type(obj), Barrier)


def own_dict(obj: object) -> dict[str, object]:
    """Return the `__dict__` of an object that is awake, running no code of its class's.

    Raises:
        AttributeError: It has none.
    """
    attributes: dict[str, object] = object.__getattribute__(obj, "__dict__")
    return attributes


def drop_state(obj: object, cls: type) -> None:
    """Remove every attribute of an object of class `cls`, those in slots too, running no code of its class's."""
    clear_attributes(obj)  # another object's `__dict__`, or one that the application has, stays as it is
    for base in cls.__mro__:
        for member in vars(base).values():
            if type(member) is types.MemberDescriptorType:
                with contextlib.suppress(AttributeError):  # not set
                    member.__delete__(obj)


def _try_generate(cls: type, wake: Callable[[Any], None]) -> type | None:
    """Generate the class and try it on an object; a class with a layout of its own doesn't let its class be set."""
    try:
        generated = _generate(cls, wake)
        # So that waking leaves an object as the class itself makes it.
        share_layout(generated, cls, _likely_attributes(cls))
        trial: object = object.__new__(generated)
        set_class(trial, cls)
        set_class(trial, generated)  # again, so that no `__del__` of C's runs
    except TypeError:
        return None
    return generated


def _likely_attributes(cls: type) -> Iterator[str]:
    """Yield names that instances of a class are likely to have as attributes, running no code of its."""
    for base in reversed(cls.__mro__):
        namespace = vars(base)
        for declared in ("__annotations__", "__static_attributes__"):  # the latter from Python 3.13 on
            found = namespace.get(declared)
            if isinstance(found, (dict, tuple)):
                yield from found
        init = namespace.get("__init__")
        if isinstance(init, types.FunctionType):
            code = init.__code__.co_code
            for at in range(0, len(code), 2):
                if code[at] == _STORE_ATTR and code[at + 1] < len(init.__code__.co_names):
                    yield init.__code__.co_names[code[at + 1]]


_STORE_ATTR: Final = opcode.opmap["STORE_ATTR"]


def _generate(cls: type, wake: Callable[[Any], None]) -> type:
    namespace: dict[str, object] = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        **_attribute_access(cls, wake),
    }
    for name in {*_special_methods(cls), *_ALWAYS_FORWARDED}:
        if getattr(cls, name, None) is not None:
            namespace[name] = _forward(name, wake)
    hashing: object = cls.__hash__  # a class that defines __eq__ must say it, or loses it
    namespace["__hash__"] = hashing if hashing is None or hashing is object.__hash__ else _forward("__hash__", wake)
    if hasattr(cls, "__del__"):
        namespace["__del__"] = _no_finalizer
    meta = type(cls)
    # Called by its base, `type`, so that a metaclass of the user's doesn't run.
    generated: type = type.__new__(_meta_with_barrier(meta), cls.__name__, (cls,), namespace)
    return generated


_metaclasses: dict[type, type] = {}


def _meta_with_barrier(meta: type) -> type:
    """Return a subclass of a metaclass whose classes have `Barrier` right behind themselves in their `__mro__`."""
    if meta not in _metaclasses:

        def mro(cls: type) -> list[type]:
            first, *rest = type.mro(cls)
            return [first, Barrier, *rest]

        namespace = {"__slots__": (), "mro": mro, "__module__": meta.__module__, "__qualname__": meta.__qualname__}
        _metaclasses[meta] = type.__new__(type(meta), meta.__name__, (meta,), namespace)
    return _metaclasses[meta]


def _attribute_access(cls: type, wake: Callable[[Any], None]) -> dict[str, object]:
    def get(self: object, name: str) -> object:
        if name == "__class__":
            return cls
        wake(self)
        return getattr(self, name)

    def wake_only(self: object, name: str) -> object:
        if name == "__class__":
            return cls
        wake(self)
        raise AttributeError(name)

    def get_awake(self: object, name: str) -> object:
        return getattr(self, name)

    def set_(self: object, name: str, value: object) -> None:
        wake(self)
        setattr(self, name, value)

    def delete(self: object, name: str) -> None:
        wake(self)
        delattr(self, name)

    changing = {"__setattr__": set_, "__delattr__": delete}
    if hasattr(cls, "__getattr__"):
        # Where both are defined, the interpreter calls __getattr__ after __getattribute__ has raised AttributeError.
        # C's own __getattr__ must run once only, so the access is repeated there.
        return {"__getattribute__": wake_only, "__getattr__": get_awake, **changing}
    return {"__getattribute__": get, **changing}


def _special_methods(cls: type) -> set[str]:
    names = {
        name for base in cls.__mro__ if base is not object for name, value in vars(base).items() if callable(value)
    }
    return {name for name in names if name.startswith("__") and name.endswith("__")} - _NOT_FORWARDED


def _forward(name: str, wake: Callable[[Any], None]) -> Callable[..., object]:
    def method(self: object, *args: object, **kwargs: object) -> object:
        wake(self)
        return getattr(type(self), name)(self, *args, **kwargs)

    method.__name__ = name
    return method


def _no_finalizer(self: object) -> None:
    """Don't finalise what was never awake, or is still in the store."""
