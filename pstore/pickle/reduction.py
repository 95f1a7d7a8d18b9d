"""What an object is reduced to, and how a state is put back: the two halves of Python's reduction protocol.

Both engines and the record layer above them call these functions, so that an object is taken apart and put together in
one way. Nothing here may know opcodes, streams or persistent ids.

Source: the documentation of ``copyreg`` and of ``object.__reduce_ex__``, PEP 307, and the section on old-style
instances in Python 2's documentation of ``pickle``.
"""

from __future__ import annotations

import copyreg
import functools
import operator
import sys
import typing
from types import (
    BuiltinFunctionType,
    FunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    UnionType,
)
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias

from ._errors import Malformed, MalformedAttribute, MalformedType, Unpicklable, UnpicklableType, UnpicklableValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "GENERIC_ALIAS",
    "UNION",
    "Reduction",
    "apply_state",
    "check_reduction",
    "old_style_arguments",
    "old_style_state",
    "parametrized",
    "plain_state",
    "reduce_value",
    "refuse_named",
    "union",
]

_T = typing.TypeVar("_T")

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not compiled in
MISSING: Any = object()
_flags = type.__dict__["__flags__"].__get__
_base = type.__dict__["__base__"].__get__
_newobj = copyreg.__newobj__  # type: ignore[attr-defined]  # missing in the stubs
# The modules that call what objects define for their reduction.
_CALLERS = frozenset({__name__, "copyreg", *(f"{__package__}._native_{name}" for name in ("pickler", "unpickler"))})
# What is pickled by its name, or is a way to it; it belongs to the program, not to a stream.
_NAMED = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)


class Reduction(NamedTuple):
    """What an object is rebuilt from; fields as in the documentation of ``object.__reduce__``."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    state: Any = None
    items: Iterator[Any] | None = None
    pairs: Iterator[tuple[Any, Any]] | None = None
    setter: Callable[[Any, Any], Any] | None = None


#: A `Reduction` as a plain tuple, or the name of something that stands in a module.
Reduced: TypeAlias = (
    "str | tuple[Callable[..., Any], tuple[Any, ...], Any, Iterator[Any] | None, Iterator[Any] | None, Any]"
)


def reduce_value(
    obj: Any, protocol: int, dispatch_table: Mapping[type, Callable[[Any], Any]] | None = None
) -> str | Reduction:
    """Reduce an object to what it is rebuilt from.

    Asked in this order: the table of reduction functions, ``obj.__reduce_ex__(protocol)``, ``obj.__reduce__()``.

    Args:
        obj: An object that the pickler has no built-in handling for.
        protocol: The protocol that the result is for.
        dispatch_table: Reduction functions by class; None for those registered with ``copyreg.pickle``.

    Returns:
        The name under which the object's module holds it, or a `Reduction`.

    Raises:
        Unpicklable: The object can't be reduced, or its reduction isn't what the protocol asks for. It is a TypeError
            too where the standard module raises one.
        Exception: Whatever the object's own code raises.
    """
    value = reduce_plainly(obj, protocol, copyreg.dispatch_table if dispatch_table is None else dispatch_table)
    return value if isinstance(value, str) else Reduction(*value)


def reduce_plainly(obj: Any, protocol: int, table: Mapping[type, Callable[[Any], Any]]) -> Reduced:
    """Do what `reduce_value` does, with a plain tuple of the six elements: the engines unpack it at once."""
    reduce: Any = registered(table, type(obj))
    try:
        if reduce is not MISSING:
            value = reduce(obj)
        elif (reduce := getattr(obj, "__reduce_ex__", MISSING)) is not MISSING:
            value = reduce(protocol)
        elif (reduce := getattr(obj, "__reduce__", MISSING)) is not MISSING:
            value = reduce()
        else:
            raise UnpicklableType(f"cannot pickle {type(obj).__name__!r} object: it has no __reduce_ex__")
    except TypeError as error:
        if is_interpreters(error):
            raise UnpicklableType(str(error)) from error
        raise
    except ValueError as error:
        if is_interpreters(error):
            raise UnpicklableValue(str(error)) from error
        raise
    return check_reduction(value)


def registered(table: Mapping[type, Callable[[Any], Any]], cls: type) -> Any:
    """Return the reduction function for a class, or MISSING. The table need do no more than give items."""
    if type(table) is dict:
        return table.get(cls, MISSING)
    try:
        return table[cls]
    except KeyError:
        return MISSING


def is_interpreters(error: Exception) -> bool:
    """Tell whether the interpreter itself raised an exception in what was called here, and not somebody's Python code."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _CALLERS


def check_reduction(value: Any) -> Reduced:
    """Check what a reduction function returned.

    Raises:
        Unpicklable: It is neither a string nor a tuple of two to six elements with the types that the protocol asks for.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, tuple):
        raise Unpicklable(f"__reduce__ must return a string or tuple, not {type(value).__name__}")
    if not 2 <= len(value) <= 6:
        raise Unpicklable(f"the tuple returned by __reduce__ must have 2 to 6 elements, not {len(value)}")
    function, arguments, state, items, pairs, setter = (*value, None, None, None, None)[:6]
    if not callable(function):
        raise Unpicklable(_wrong_element("first", "callable", function))
    if not isinstance(arguments, tuple):
        raise Unpicklable(_wrong_element("second", "a tuple", arguments))
    if items is not None and not hasattr(type(items), "__next__"):
        raise Unpicklable(_wrong_element("fourth", "an iterator", items))
    if pairs is not None and not hasattr(type(pairs), "__next__"):
        raise Unpicklable(_wrong_element("fifth", "an iterator", pairs))
    if setter is not None and not callable(setter):
        raise Unpicklable(_wrong_element("sixth", "a function", setter))
    return function, arguments, state, items, pairs, setter


def _wrong_element(which: str, wanted: str, found: object) -> str:
    return f"the {which} element of the tuple returned by __reduce__ must be {wanted}, not {type(found).__name__}"


def old_style_arguments(obj: Any) -> tuple[Any, ...] | None:
    """Return the arguments that an object's class wants to be called with, as an old-style class told them.

    Returns:
        The result of ``obj.__getinitargs__()`` for an instance of a class that defines it and leaves reduction alone;
        None for any other object.

    Raises:
        Unpicklable: It returned something else than a tuple.
    """
    cls = type(obj)
    if not hasattr(cls, "__getinitargs__"):
        return None
    reduces: list[Any] = [cls.__reduce__, cls.__reduce_ex__]
    if reduces != [object.__reduce__, object.__reduce_ex__]:
        return None
    # What a compiled base class holds (the items of a list, say) is no argument and no state: only the standard
    # reduction knows how to keep it.
    if any(not base.__flags__ & _HEAP_TYPE for base in cls.__mro__ if base is not object):
        return None
    arguments = obj.__getinitargs__()
    if not isinstance(arguments, tuple):
        raise UnpicklableType(f"__getinitargs__ must return a tuple, not {type(arguments).__name__}")
    return arguments


def old_style_state(obj: Any) -> Any:
    """Return the state that is written behind the arguments of an old-style instance, or None where there is none."""
    cls = type(obj)
    getstate = getattr(cls, "__getstate__", None)
    if getstate is not None and getstate is not getattr(object, "__getstate__", None):
        return obj.__getstate__()
    state = getattr(obj, "__dict__", None)
    slots = {name: getattr(obj, name) for name in copyreg._slotnames(cls) if hasattr(obj, name)}  # type: ignore[attr-defined]
    return (state, slots) if slots else state


def plain_state(obj: Any, protocol: int) -> tuple[Any] | None:
    """Return a copy of an instance's state, alone in a tuple, if it is reduced to its class and that state.

    Returns:
        None where anything else than `object` itself has a say in the reduction or in the instance's attributes, or the
        instance is more than a class and a state. Then no code of the instance's has run.
    """
    cls = type(obj)
    if protocol < 2 or not (_is_plain_class(type(cls)) and _is_reduced_plainly(cls) and _is_not_compiled(cls)):
        return None
    attributes: Any = {}
    found = lookup(cls, "__dict__")
    if found is not MISSING:
        if type(found) is not GetSetDescriptorType:
            return None
        attributes = object.__getattribute__(obj, "__dict__")
        if type(attributes) is not dict or "__reduce_ex__" in attributes or "__getstate__" in attributes:
            return None
    if any(type(lookup(cls, name)) is not MemberDescriptorType for name in copyreg._slotnames(cls)):  # type: ignore[attr-defined]
        return None
    try:
        value: Any = object.__reduce_ex__(obj, protocol)
    except TypeError:
        return None
    function, arguments, state, *rest = value
    if function is not _newobj or len(arguments) != 1 or any(part is not None for part in rest):
        return None
    if isinstance(state, tuple):
        state, slots = state
        return ((None if state is None else state.copy(), slots),)
    return (None if state is None else state.copy(),)


def lookup(cls: type, name: str) -> Any:
    """Return what a class or one of its bases has under a name, asking neither metaclass nor descriptor; or MISSING."""
    for base in type.__dict__["__mro__"].__get__(cls):
        if name in (namespace := type.__dict__["__dict__"].__get__(base)):
            return namespace[name]
    return MISSING


def _is_reduced_plainly(cls: type) -> bool:
    return (
        lookup(cls, "__getattr__") is MISSING
        and all(
            lookup(cls, name) is vars(object).get(name, MISSING)
            for name in ("__getattribute__", "__reduce_ex__", "__reduce__", "__class__", "__getstate__")
        )
        and lookup(cls, "__getnewargs__") is MISSING
        and lookup(cls, "__getnewargs_ex__") is MISSING
    )


def _is_not_compiled(cls: type) -> bool:
    """Return whether the instances of a class have nothing that a compiled base but `object` gives them."""
    base: type | None = cls
    while base is not None and _flags(base) & _HEAP_TYPE:
        base = _base(base)
    return base is object is not cls


def _is_plain_class(meta: type) -> bool:
    """Return whether a metaclass leaves it to its classes how their instances are reduced."""
    return meta is type or (
        lookup(meta, "__getattr__") is MISSING
        and lookup(meta, "__getattribute__") is vars(type)["__getattribute__"]
        and lookup(meta, "__reduce__") is vars(object)["__reduce__"]
    )


def apply_state(inst: Any, state: Any) -> None:
    """Put a state back into an instance, as the opcode BUILD does.

    ``inst.__setstate__(state)`` where there is one; else the items of a dict become attributes, and so do those of the
    second element of a pair (dict or None, dict or None), which holds the slots. Names in ``__dict__`` are interned.

    Args:
        inst: The instance.
        state: What its ``__getstate__`` returned.

    Raises:
        Malformed: The state is neither, or the instance can't hold it (then an AttributeError too).
        Exception: Whatever the instance's own code raises.
    """
    setstate = getattr(inst, "__setstate__", MISSING)
    if setstate is not MISSING:
        setstate(state)
        return
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state is not None:
        set_attributes(inst, state)
    if slots is not None:
        set_slots(inst, slots)


def set_attributes(inst: Any, state: Any) -> None:
    """Put the items of a state into an instance's ``__dict__``; exceptions as for `apply_state`."""
    if not isinstance(state, dict):
        raise Malformed(f"the state of a {type(inst).__name__!r} object is a {type(state).__name__}, not a dict")
    attributes = getattr(inst, "__dict__", None)
    if attributes is None:
        raise MalformedAttribute(f"a {type(inst).__name__!r} object has no __dict__ for its state")
    if isinstance(attributes, MappingProxyType):
        raise MalformedType(f"a state can't be put into the {type(inst).__name__} {inst.__name__}")
    intern = sys.intern
    for name, value in state.items():
        attributes[intern(name) if type(name) is str else name] = value


def set_slots(inst: Any, slots: Any) -> None:
    """Set the attributes that are an instance's slots; exceptions as for `apply_state`."""
    if not isinstance(slots, dict):
        raise Malformed(f"the slots of a {type(inst).__name__!r} object are a {type(slots).__name__}, not a dict")
    for name, value in slots.items():
        if not isinstance(name, str):
            raise MalformedType(f"the slots of a {type(inst).__name__!r} object have the name {name!r}")
        try:
            setattr(inst, name, value)
        except AttributeError as error:
            if is_interpreters(error):
                raise MalformedAttribute(str(error)) from error
            raise


def refuse_named(inst: Any) -> None:
    """Refuse a state for what a stream can only have named: a class, a function or a module.

    Raises:
        Malformed: It is one (a TypeError too).
    """
    if isinstance(inst, _NAMED):
        kind = "class" if isinstance(inst, type) else type(inst).__name__
        raise MalformedType(f"the stream has a state for the {kind} {getattr(inst, '__qualname__', inst.__name__)!r}")


def parametrized(origin: Any, arguments: tuple[Any, ...]) -> Any:
    """Return ``origin[arguments]`` for a class that is generic by `typing.Generic`.

    This is what a policy can allow in place of the `operator.getitem` that the standard library reduces it to.

    Raises:
        Malformed: It is no such class, or has a ``__class_getitem__`` of its own (a TypeError too).
    """
    order = type.mro(origin) if isinstance(origin, type) and origin is not type else []
    getitem = next((vars(base)["__class_getitem__"] for base in order if "__class_getitem__" in vars(base)), None)
    if getitem is not vars(Generic)["__class_getitem__"]:
        raise MalformedType(f"only a class that is generic by typing.Generic can have parameters, not {origin!r}")
    return origin[arguments]


def union(members: tuple[Any, ...], new: bool = False) -> Any:
    """Return the union of types, either ``typing.Union[X, Y]`` or ``X | Y`` (new).

    Raises:
        Malformed: One of them is no type (a TypeError too).
    """
    for member in members:
        if not isinstance(member, (type, type(None), GenericAlias, GENERIC_ALIAS, UNION, UnionType)):
            raise MalformedType(f"a union is one of types, not of {type(member).__name__!r} objects")
    return functools.reduce(operator.or_, members) if new else typing.Union[members]  # noqa: UP007  # made, not written


class _Generic(Generic[_T]):
    """For the types of what such a class is written with."""


#: The type of ``X[int]``, where X is generic by `typing.Generic`, and that of ``typing.Optional[X]``.
GENERIC_ALIAS: type = type(_Generic[int])
UNION: type = type(typing.Optional[_Generic])  # noqa: UP045  # in Python 3.10 another type than that of `X | None`
