"""Ghosts: objects that are there before their state is, and wake at the first touch.

A ghost of class C is an object whose `__class__` is a generated subclass of C. The generated class intercepts every
access that could see the state, wakes the object (its `__class__` becomes C again, its state is loaded), and repeats
the access. The same generated class is the barrier behind which an object with its state is put after a commit, so that
the next touch is noticed. The states of an object::

    ghost       generated class, no state          --touch-->     awake (the state is loaded)
    awake       class C, state                     --commit-->    resident
    resident    generated class, state kept        --touch-->     awake (nothing is loaded)
    awake, resident                                --rollback, evict--> ghost

Making the generated class runs no code of C's: no metaclass call, no `__init_subclass__`, no `__getattr__` of a metaclass.
This module knows classes and one callable that wakes an object; it never knows where a state comes from.
"""

from __future__ import annotations

import contextlib
import functools
import opcode
import operator
import types
from typing import TYPE_CHECKING, Any, Final

from pstore.classes import MISSING, bases, bound, find, namespace, own
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
_ORDERINGS: Final = {name: getattr(operator, name) for name in ("__lt__", "__le__", "__gt__", "__ge__")}
_EQUALITIES: Final = {name: getattr(operator, name) for name in ("__eq__", "__ne__")}
#: The name of a binary operator's special method, between the underscores -> the operation.
_OPERATORS: Final[dict[str, Callable[..., object]]] = {
    **{
        name: getattr(operator, f"__{name}__") for name in ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod")
    },
    **{name: getattr(operator, f"__{name}__") for name in ("lshift", "rshift", "and", "xor", "or")},
    "pow": pow,
    "divmod": divmod,
}
#: What can't be called where it stands in a class, but is a method of its objects.
_BECOME_METHODS: Final = (functools.partialmethod, functools.singledispatchmethod)
_HAVE_CODE: Final = (types.FunctionType, property)
#: In a generated class: the callable that wakes its objects.
_WAKE: Final = "_pstore_wake"

_object_hash: Final = object.__dict__["__hash__"]


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
        # By the id of a class, as a metaclass may say that two classes are equal. What is entered holds the class.
        self._generated: dict[int, tuple[type, type | None]] = {}
        self._real: dict[int, type] = {}

    def of(self, cls: type) -> type | None:
        """Return the generated class for a class, or None where its objects can't be ghosts."""
        try:
            return self._generated[id(cls)][1]
        except KeyError:
            generated = _try_generate(cls, self._wake)
            self._generated[id(cls)] = cls, generated
            if generated is not None:
                self._real[id(generated)] = cls
            return generated

    def asleep(self, obj: object) -> bool:
        """Return whether an object is a ghost or resident one of this session."""
        return id(type(obj)) in self._real

    def real_class(self, obj: object) -> type:
        """Return the class that the object has when it is awake."""
        cls = type(obj)
        return self._real.get(id(cls), cls)

    def wake_resident(self, obj: object) -> None:
        """Let an object out from behind the barrier; its state is there."""
        set_class(obj, self._real[id(type(obj))])

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
    for _, slot in _slots(cls):
        with contextlib.suppress(AttributeError):  # not set
            slot.__delete__(obj)


def _slots(cls: type) -> Iterator[tuple[str, types.MemberDescriptorType]]:
    for base in bases(cls):
        for name, member in namespace(base).items():
            if type(member) is types.MemberDescriptorType:
                yield name, member


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
    """Yield names that instances of a class are likely to have as attributes, in the order in which they get them."""
    for base in reversed(bases(cls)):
        members = namespace(base)
        for declared in ("__annotations__", "__static_attributes__"):  # the latter from Python 3.13 on
            found = members.get(declared)
            if isinstance(found, (dict, tuple)):
                yield from found
        init = members.get("__init__")
        if isinstance(init, types.FunctionType):
            code, names = init.__code__.co_code, init.__code__.co_names
            yield from (names[code[at + 1]] for at in range(0, len(code), 2) if _sets_one_of(names, code, at))


def _sets_one_of(names: tuple[str, ...], code: bytes, at: int) -> bool:
    return code[at] == _STORE_ATTR and code[at + 1] < len(names)


_STORE_ATTR: Final = opcode.opmap["STORE_ATTR"]


def _generate(cls: type, wake: Callable[[Any], None]) -> type:
    members: dict[str, object] = {
        **{name: _Shadow(cls, name) for name in _known_attributes(cls)},
        **{name: own(cls, name) for name in ("__module__", "__qualname__")},
        "__slots__": (),
        "__doc__": namespace(cls).get("__doc__"),
        _WAKE: staticmethod(wake),
        **_attribute_access(cls, wake),
        **_special_methods(cls),
    }
    hashing = find(cls, "__hash__")  # a class that defines __eq__ must say it, or loses it
    members["__hash__"] = hashing if hashing is None or hashing is _object_hash else _forward("__hash__")
    if find(cls, "__del__") is not MISSING:
        members["__del__"] = _no_finalizer
    # Called by its base, `type`, so that a metaclass of the user's doesn't run.
    generated: type = type.__new__(_meta_with_barrier(type(cls)), own(cls, "__name__"), (cls,), members)
    return generated


_metaclasses: dict[int, type] = {}  # by the id of a metaclass, which is a base of what is entered


def _meta_with_barrier(meta: type) -> type:
    """Return a subclass of a metaclass whose classes have `Barrier` right behind themselves in their `__mro__`.

    Such a class gives itself out for the one that it stands for, where something asks `type(obj)`.
    """
    if id(meta) not in _metaclasses:

        def mro(cls: type) -> list[type]:
            first, *rest = type.mro(cls)
            return [first, Barrier, *rest]

        members = {
            **{name: own(meta, name) for name in ("__module__", "__qualname__")},
            "__slots__": (),
            "mro": mro,
            "__call__": lambda cls, *args, **kwargs: _standing_for(cls)(*args, **kwargs),
            "__instancecheck__": lambda cls, obj: isinstance(obj, _standing_for(cls)),
            "__subclasscheck__": lambda cls, other: issubclass(other, _standing_for(cls)),
            "__eq__": lambda cls, other: _standing_for(cls) == _standing_for(other),
            "__hash__": lambda cls: hash(_standing_for(cls)),
        }
        kind = type(meta)
        if find(meta, "__init_subclass__") is not object.__dict__["__init_subclass__"]:
            kind = _meta_with_barrier(kind)
        _metaclasses[id(meta)] = type.__new__(kind, own(meta, "__name__"), (meta,), members)
    return _metaclasses[id(meta)]


def _standing_for(cls: Any) -> Any:
    """Return the class that a generated one stands for; anything else as it is."""
    return own(cls, "__bases__")[0] if isinstance(cls, type) and issubclass(cls, Barrier) else cls


def _touch(obj: object) -> None:
    """Wake an object if it is asleep, whichever session it is of."""
    if issubclass(type(obj), Barrier):
        wake = find(type(obj), _WAKE)
        if wake is not MISSING:  # no stand-in
            wake.__func__(obj)


class _Shadow:
    """Stands for an attribute in a generated class, so that `object.__setattr__` and `object.__getattribute__` meet it.

    Args:
        cls: The class that the generated one stands for.
        name: The attribute.
    """

    __slots__ = ("_cls", "_name")

    def __init__(self, cls: type, name: str) -> None:
        self._cls = cls
        self._name = name

    def __get__(self, obj: object, owner: object = None) -> object:
        if obj is None:
            return getattr(self._cls, self._name)
        _touch(obj)
        return object.__getattribute__(obj, self._name)

    def __set__(self, obj: object, value: object) -> None:
        _touch(obj)
        object.__setattr__(obj, self._name, value)

    def __delete__(self, obj: object) -> None:
        _touch(obj)
        object.__delattr__(obj, self._name)


def _known_attributes(cls: type) -> set[str]:
    """Return the names of a class's attributes, as far as it tells them: slots, annotations, the code of its methods.

    What else it names in its code is among them and does no harm.
    """
    names = {name for name, _ in _slots(cls)}
    for base in bases(cls):
        annotations = namespace(base).get("__annotations__")
        if isinstance(annotations, dict):
            names.update(annotations)
        for member in namespace(base).values():
            code = getattr(getattr(member, "fget", member), "__code__", None) if type(member) in _HAVE_CODE else None
            if code is not None:
                names.update(code.co_names, code.co_consts)
    return {name for name in names if type(name) is str and name.isidentifier() and not name.startswith("__")}


def _attribute_access(cls: type, wake: Callable[[Any], None]) -> dict[str, object]:
    # A class may tell its objects for those of another one; only it knows how.
    honest = find(cls, "__class__") is object.__dict__["__class__"]

    def get(self: object, name: str) -> object:
        if name == "__class__" and honest:
            return cls
        if issubclass(type(self), Barrier):
            wake(self)
        return getattr(self, name)

    def wake_only(self: object, name: str) -> object:
        if name == "__class__" and honest:
            return cls
        _touch(self)
        raise AttributeError(name)

    def get_awake(self: object, name: str) -> object:
        _touch(self)  # raises again what kept it from waking, if that was an AttributeError
        return getattr(self, name)

    def set_(self: object, name: str, value: object) -> None:
        _touch(self)
        setattr(self, name, value)

    def delete(self: object, name: str) -> None:
        _touch(self)
        delattr(self, name)

    changing = {"__setattr__": set_, "__delattr__": delete}
    if find(cls, "__getattr__") is not MISSING:
        # Where both are defined, the interpreter calls __getattr__ after __getattribute__ has raised AttributeError.
        # C's own __getattr__ must run once only, so the access is repeated there.
        return {"__getattribute__": wake_only, "__getattr__": get_awake, **changing}
    return {"__getattribute__": get, **changing}


def _special_methods(cls: type) -> dict[str, object]:
    """Return a forwarder for each special method of a class."""
    names: set[str] = set(_ALWAYS_FORWARDED)
    for base in bases(cls):
        if base is not object:
            names.update(name for name in namespace(base) if name.startswith("__") and name.endswith("__"))
    found = {name: find(cls, name) for name in names - _NOT_FORWARDED}
    methods: dict[str, object] = {
        name: _forward(name) for name, value in found.items() if callable(value) or isinstance(value, _BECOME_METHODS)
    }
    for comparisons in (_ORDERINGS, _EQUALITIES):
        if not methods.keys().isdisjoint(comparisons):
            methods.update({name: _compare(name, repeat) for name, repeat in comparisons.items()})
    for name, repeat in _OPERATORS.items():
        if not methods.keys().isdisjoint((f"__{name}__", f"__r{name}__")):
            methods.update(_operate(name, repeat))
        if f"__i{name}__" in methods:
            methods[f"__i{name}__"] = _forward(f"__i{name}__", operand=True)
    return methods


def _forward(name: str, *, operand: bool = False) -> Callable[..., object]:
    """Return a special method that wakes its object and calls that of its class.

    Args:
        name: The method's name.
        operand: Whether its argument is an operand, of which the class may ask the type.
    """

    def method(self: object, *args: object, **kwargs: object) -> object:
        # What fetches several methods at once, as a `with` does, calls them on an object that is awake by then.
        _touch(self)
        if operand:
            _touch(args[0])
        return bound(self, name)(*args, **kwargs)

    method.__name__ = name
    return method


def _compare(name: str, repeat: Callable[[object, object], object]) -> Callable[[object, object], object]:
    def method(self: object, other: object) -> object:
        _touch(self)
        _touch(other)
        if _is_subclass_of(other, self):
            return repeat(self, other)  # its method goes first
        return bound(self, name)(other)

    method.__name__ = name
    return method


def _operate(name: str, repeat: Callable[..., object]) -> dict[str, Callable[..., object]]:
    """Return a binary operator's method and the reflected one.

    Which of them the interpreter calls first depends on which operand's class is a subclass of the other's, and a
    generated class is a subclass of its own. So where that mattered the operation is done again.
    """
    direct, reflected = f"__{name}__", f"__r{name}__"

    def method(self: object, other: object, *modulo: object) -> object:
        _touch(self)
        _touch(other)
        if _is_subclass_of(other, self):
            return repeat(self, other, *modulo)
        return NotImplemented if find(type(self), direct) is MISSING else bound(self, direct)(other, *modulo)

    def swapped(self: object, other: object, *modulo: object) -> object:
        _touch(self)
        _touch(other)
        if type(other) is type(self):
            return NotImplemented if find(type(self), direct) is MISSING else bound(other, direct)(self, *modulo)
        return NotImplemented if find(type(self), reflected) is MISSING else repeat(other, self, *modulo)

    return {direct: method, reflected: swapped}


def _is_subclass_of(one: object, other: object) -> bool:
    """Return whether the class of one object is a subclass of that of another, and not the same."""
    return type(one) is not type(other) and any(base is type(other) for base in bases(type(one)))


def _no_finalizer(self: object) -> None:
    """Don't finalise what was never awake, or is still in the store."""
