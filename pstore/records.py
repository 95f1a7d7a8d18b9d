"""From an object to the body of its record, and which objects have records.

A record holds up to two pickle streams that share one memo. The first *makes* the object and is left out where its
class is enough (plain instances and the builtin containers); the second is its *state*. So every object exists before
its state is read, and cycles between records need nothing special. References to other records are persistent ids: their
keys. This module knows how to take objects apart; it knows nothing of sessions or of what changed.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import gc
import ipaddress
import pathlib
import re
import struct
import sys
import types
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pstore.classes import MISSING, find, remembered
from pstore.pickle import PickleBuffer, Pickler, Unpickler, apply_state, reduce_value
from pstore.pickle.reduction import GENERIC_ALIAS, UNION, parametrized, refuse_named, set_attributes, set_slots, union
from pstore.rows import BUFFERS, CONSTRUCTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PROTOCOL: Final = 5
#: Buffers of at least this many bytes stand beside the streams, where a reader can have them without a copy.
OUT_OF_BAND: Final = 64 * 1024

#: Types whose objects never change; they are never shared between records, a copy being as good.
_IMMUTABLE: Final = (
    *(bool, bytes, complex, float, frozenset, int, range, str, tuple, type(None), type(Ellipsis), type(NotImplemented)),
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, enum.Enum),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal, fractions.Fraction),
    *(pathlib.PurePath, re.Pattern, uuid.UUID, zoneinfo.ZoneInfo),
    *(pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath),
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network),
    *(ipaddress.IPv4Interface, ipaddress.IPv6Interface, types.GenericAlias, types.UnionType, GENERIC_ALIAS, UNION),
)
#: Those of them of which a subclass, too, holds nothing that changes, though its objects have a `__dict__`.
_IMMUTABLE_WITH_DICT: Final = (type, types.FunctionType, types.ModuleType, enum.Enum)
#: Those of them of which an object of the very type refers to nothing that could change.
_ATOMIC: Final = frozenset(_IMMUTABLE) - {frozenset, tuple}
#: Builtin containers: made empty by their type, filled by their state.
_CONTAINERS: Final = frozenset({list, dict, set, bytearray})


@remembered
def is_immutable_type(cls: type) -> bool:
    """Return whether an object of this very class never changes (what a tuple holds may)."""
    if cls in _IMMUTABLE or issubclass(cls, _IMMUTABLE_WITH_DICT):
        return True
    # A subclass without a `__dict__` or slots (a named tuple) has nowhere to keep what could change.
    return issubclass(cls, _IMMUTABLE) and not cls.__dictoffset__ and not copyreg._slotnames(cls)  # type: ignore[attr-defined]


def is_atom(obj: object) -> bool:
    """Return whether an object needs no record: it never changes, nor does anything in it."""
    waiting: list[object] = [obj]
    seen: set[int] = set()
    while waiting:
        obj = waiting.pop()
        if not is_immutable_type(type(obj)):
            return False
        if issubclass(type(obj), (tuple, frozenset)) and id(obj) not in seen:
            seen.add(id(obj))
            waiting.extend(obj)  # type: ignore[arg-type]
    return True


def is_made_by_class(cls: type) -> bool:
    """Return whether an empty object of the class can be made from the class alone, so that a reference reads nothing."""
    return cls in _CONTAINERS or is_plain(cls)


_object: Final[Any] = object  # a class's methods are compared with it, whatever their types
_OBJECTS_OWN: Final = {name: object.__dict__[name] for name in ("__new__", "__reduce_ex__", "__reduce__")}


def is_plain(cls: type) -> bool:
    """Return whether the class makes and pickles its instances as `object` does."""
    if type(cls) is type:
        return (
            cls.__new__ is _object.__new__
            and cls.__reduce_ex__ is _object.__reduce_ex__
            and cls.__reduce__ is _object.__reduce__
            and cls not in copyreg.dispatch_table
            and not hasattr(cls, "__getnewargs__")
            and not hasattr(cls, "__getnewargs_ex__")
        )
    return (  # the same, asking no metaclass
        all(find(cls, name) is default for name, default in _OBJECTS_OWN.items())
        and cls not in copyreg.dispatch_table
        and find(cls, "__getnewargs__") is find(cls, "__getnewargs_ex__") is MISSING
    )


#: Types of the standard library that give their own parts when they are pickled.
_GIVE_THEIR_OWN: Final = frozenset(
    {collections.OrderedDict, collections.defaultdict, collections.deque, collections.Counter, *_CONTAINERS}
)


_DATACLASS_GETSTATE: Final = getattr(dataclasses, "_dataclass_getstate", MISSING)
_OBJECTS_GETSTATE: Final = find(object, "__getstate__")  # from Python 3.11 on


def _is_transparent(cls: type) -> bool:
    """Return whether an object of the class gives its own parts when it is pickled, never copies of them."""
    return cls in _GIVE_THEIR_OWN or (is_plain(cls) and _gives_own_parts(cls, _getstate(cls)))


def _getstate(cls: type) -> Any:
    return getattr(cls, "__getstate__", MISSING) if type(cls) is type else find(cls, "__getstate__")


def _gives_own_parts(cls: type, getstate: Any) -> bool:
    if getstate is _OBJECTS_GETSTATE or getstate is _DATACLASS_GETSTATE:
        return True
    code = getattr(getstate, "__code__", None)  # those that a library has made
    name = (getattr(getstate, "__module__", None), getattr(code, "co_name", None))
    return name == ("attr._make", "slots_getstate") or (
        name == ("pydantic.main", "__getstate__") and not find(cls, "__private_attributes__")
    )


@remembered
def loads_as_written(cls: type) -> bool:
    """Return whether an object of the class is loaded as what was written, with no code of its own that could change it."""
    own = not is_plain(cls) and cls not in _GIVE_THEIR_OWN and cls is not tuple and cls is not frozenset
    return not own and find(cls, "__setstate__") is MISSING


class Encoded(NamedTuple):
    """The body of a record and what went into it.

    Attributes:
        flags: The flags of the row.
        body: The body of the row.
        inline: The objects that stand in this record and can change; an object that stands in two is shared, but not the
            `__dict__` of the record's own object.
        holders: What holds such objects without being able to change itself: tuples and frozensets.
        transparent: Whether these are the record's own objects, and no copies that a `__getstate__` made.
    """

    flags: int
    body: bytes
    inline: list[object]
    holders: list[object]
    transparent: bool


# Measured, because how many references a call itself adds depends on the interpreter.
_alone: Final[list[object]] = [[]]
_UNHELD: Final = sys.getrefcount(_alone[0])


def _has_temporary_state(cls: type) -> bool:
    """Return whether the state of an object of the class, or what it is made of, is a copy that is made when it is asked for."""
    if is_immutable_type(cls):
        return issubclass(cls, tuple) and cls is not tuple
    return bool(copyreg._slotnames(cls)) or _getstate(cls) is not _OBJECTS_GETSTATE  # type: ignore[attr-defined]


def _held(memoized: list[object]) -> list[object]:
    """Leave out what only the pickler has held: the tuples, lists and dicts that were made for the states of objects.

    No object leads to them, and while they are there, what they hold seems to be held by somebody else.

    Args:
        memoized: All that was pickled, held by nobody but its owners and this list, which is changed.
    """
    candidates = [
        index
        for index, kind in enumerate(map(type, memoized))
        if kind is tuple or kind is dict or kind is list  # not `in`, which would ask a metaclass
    ]
    while candidates:
        held = []
        for index in reversed(candidates):
            if sys.getrefcount(memoized[index]) == _UNHELD:
                memoized[index] = None
            else:
                held.append(index)
        if len(held) == len(candidates):
            break
        candidates = held[::-1]
    return memoized


#: Whether an object may have a `__dict__` that the garbage collector isn't told of, as its values are.
_DICT_IS_HIDDEN: Final = sys.version_info >= (3, 13)


def _empty_dicts(objects: list[object]) -> list[object]:
    """Return those dicts of attributes that are there and empty: no pickler meets them, and they may be held and filled.

    Args:
        objects: All objects in a record that can change.
    """
    found: dict[int, object] = {}
    for obj in objects:
        if type(obj).__dictoffset__:
            # Asking for `__dict__` would make one where there is none yet.
            parts = gc.get_referents(obj)
            if _DICT_IS_HIDDEN and len(parts) == 1:  # its class, so it has no attributes
                parts.append(object.__getattribute__(obj, "__dict__"))
            found.update({id(part): part for part in parts if type(part) is dict and not part})
            del parts
    if found:
        for obj in objects:  # empty dicts that are the values of attributes
            found.pop(id(obj), None)
    return [*found.values()]


class Encoder:
    """Takes objects apart and pickles them.

    Args:
        keys: id(object) -> key, of every object that has a record.
        instance: Asked for the key of each instance that isn't in `keys`; None leaves it inline.
        named: Asked for the key of each class and function that is to be written; None writes its name.

    Attributes:
        busy: Whether it is at work.
    """

    def __init__(
        self,
        keys: dict[int, int],
        instance: Callable[[object], int | None],
        named: Callable[[object], int | None],
    ) -> None:
        self._keys = keys
        self._buffers: list[PickleBuffer] = []
        self._instance = instance
        self.busy = False
        self._pickler = Pickler(
            protocol=PROTOCOL,
            buffer_callback=self._take_buffer,
            inst_persistent_id=self._ask_instance,
            global_persistent_id=named,
            persistent_ids=keys,
            canonical=True,
        )
        self._pickler.dispatch_table = _dispatch_table()

    def encode(self, obj: object) -> Encoded:
        """Return the body of an object's record.

        Raises:
            PicklingError: Something in it can't be pickled; the message has the path to it.
        """
        self.busy = True
        try:
            return self._encode(obj)
        finally:
            self.busy = False
            self._pickler.clear_memo()
            self._buffers.clear()

    def encode_changed(self, obj: object, body: bytes) -> Encoded | None:
        """Return what `encode` does; None where it would have this body and no flags, and nothing that can change.

        Not looked at is the object's own `__dict__`.

        Args:
            obj: An object of a class that `is_plain`.
            body: The body of its record as it was.

        Raises:
            PicklingError: As `encode`.
        """
        pickler = self._pickler
        self.busy = True
        try:
            stream = pickler.dumps_state(obj)
            if stream is None:
                return self._encode(obj)
            parts = pickler.memoized(_ATOMIC)
            if stream == body and not parts and not self._buffers:
                return None
            pickler.clear_memo()
            return self._encoded(type(obj), 0, [stream], parts)
        finally:
            self.busy = False
            pickler.clear_memo()
            if self._buffers:
                self._buffers.clear()

    def encode_value(self, obj: object) -> bytes:
        """Return the stream of an atom, for the row of its name."""
        self.busy = True
        try:
            return self._pickler.dumps(obj)
        finally:
            self.busy = False
            self._pickler.clear_memo()

    def _encode(self, obj: object) -> Encoded:
        cls = type(obj)
        flags = 0
        stream = self._pickler.dumps_state(obj) if is_plain(cls) else None
        if stream is not None:
            streams = [stream]
        elif cls in _CONTAINERS:
            streams = [self._pickler.dumps(cls(obj) if cls is not bytearray else bytes(obj))]  # type: ignore[call-overload, call-arg]
        elif cls is tuple or cls is frozenset:
            flags, streams = CONSTRUCTED, [self._whole(obj), self._pickler.dumps(None)]
        else:
            reduced = reduce_value(obj, PROTOCOL)
            if isinstance(reduced, str):
                flags, streams = CONSTRUCTED, [self._whole(obj), self._pickler.dumps(None)]
            elif is_plain(cls) and reduced[0] is copyreg.__newobj__ and len(reduced[1]) == 1:  # type: ignore[attr-defined]
                streams = [self._pickler.dumps(reduced[2] if len(reduced) > 2 else None)]
            else:
                flags = CONSTRUCTED
                streams = [self._pickler.dumps(_Constructor(*reduced[:2])), self._pickler.dumps(_filling(reduced[2:]))]
            del reduced
        root = () if stream is not None else (obj,)
        return self._encoded(cls, flags, streams, self._take_memoized(), root)

    def _encoded(
        self, cls: type, flags: int, streams: list[bytes], parts: list[object], root: tuple[object, ...] = ()
    ) -> Encoded:
        """Put together what was pickled.

        Args:
            cls: The object's class.
            flags: Those of the record that are known.
            streams: The streams.
            parts: What the memo has held that isn't atomic, as `_held` wants it.
            root: The object, if its own `__dict__` is to be looked at, too.
        """
        # There are few classes among many objects; by id, as a metaclass may say that two are equal.
        classes = {id(kind): kind for kind in map(type, parts)}
        if _has_temporary_state(cls) or any(map(_has_temporary_state, classes.values())):
            parts = _held(parts)
        changing = {
            number for number, kind in classes.items() if not is_immutable_type(kind) and kind is not _Constructor
        }
        inline = [item for item in parts if id(type(item)) in changing]
        holders: list[object] = [
            item for item in parts if issubclass(type(item), (tuple, frozenset)) and not is_atom(item)
        ]
        inline += _empty_dicts([*root, *inline])
        transparent = _is_transparent(cls) and all(_is_transparent(classes[number]) for number in changing)
        body = b"".join(streams)
        if self._buffers:
            flags |= BUFFERS
            body = _pack_buffers(self._buffers) + body
        return Encoded(flags, body, inline, holders, transparent)

    def _take_memoized(self) -> list[object]:
        memoized = self._pickler.memoized(_ATOMIC)
        self._pickler.clear_memo()
        return memoized

    def _whole(self, obj: object) -> bytes:
        """Pickle an object itself, where it would be its own reference."""
        key = self._keys.pop(id(obj), None)
        try:
            return self._pickler.dumps(obj)
        finally:
            if key is not None:
                self._keys[id(obj)] = key

    def _ask_instance(self, obj: object) -> int | None:
        return None if type(obj) is _Constructor else self._instance(obj)

    def _take_buffer(self, buffer: PickleBuffer) -> bool:
        with buffer.raw() as raw:
            if raw.nbytes < OUT_OF_BAND:
                return True
        self._buffers.append(buffer)
        return False


class _Constructor:
    """Pickled, it is the call that makes an object; so the stream's value is the object, without its state."""

    def __init__(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        self.function = function
        self.args = args

    @property  # type: ignore[misc]  # one that can't be set
    def __class__(self) -> Any:  # asked by the pickler, which checks it against the class to make
        return self.args[0] if self.function in _NEWOBJ else _Constructor

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.args


_NEWOBJ: Final = (copyreg.__newobj__, copyreg.__newobj_ex__)  # type: ignore[attr-defined]  # missing in the stubs


def _filling(rest: Sequence[Any]) -> tuple[object, ...] | None:
    """Return what fills an object that its constructor made: (state, list items, dict items[, setter]); None if nothing."""
    state, list_items, dict_items, setter = (*rest, None, None, None, None)[:4]
    parts = (state, _listed(list_items), _listed(dict_items))
    if setter is not None:
        return *parts, setter
    return parts if any(part is not None for part in parts) else None


def _listed(items: Iterable[object] | None) -> list[object] | None:
    return None if items is None else list(items)


def make_empty(cls: type) -> object:
    """Make an object of a class that `is_made_by_class`, without its state."""
    return cls() if cls in _CONTAINERS else object.__new__(cls)


def fill(obj: Any, state: Any, *, constructed: bool) -> None:
    """Give an object the state that its record holds.

    Args:
        obj: The object, empty.
        state: The value of the record's stream of the state.
        constructed: Whether the record has a constructor; the state then has the form that such a record gives it.
    """
    cls = type(obj)
    if constructed:
        _fill_constructed(obj, state)
    elif cls is list:
        obj.extend(state)
    elif cls is dict or cls is set:
        obj.update(state)
    elif cls is bytearray:
        obj[:] = state
    elif state is not None:
        _apply(obj, state)


def _apply(obj: object, state: Any) -> None:
    if find(type(obj), "__setstate__") is MISSING and find(type(obj), "__getattr__") is not MISSING:
        # Isn't asked for a `__setstate__`, for it may look for that in an attribute that isn't there yet.
        attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        if attributes is not None:
            set_attributes(obj, attributes)
        if slots is not None:
            set_slots(obj, slots)
    else:
        apply_state(obj, state)


def _fill_constructed(obj: Any, filling: Any) -> None:
    if filling is None:
        return
    refuse_named(obj)
    state, list_items, dict_items, *setter = filling
    if list_items is not None:
        if hasattr(obj, "extend"):
            obj.extend(list_items)
        else:
            for item in list_items:
                obj.append(item)
    if dict_items is not None:
        for key, value in dict_items:
            obj[key] = value
    if setter:
        setter[0](obj, state)
    elif state is not None:
        apply_state(obj, state)


class Streams(NamedTuple):
    """The parts of a record's body.

    Attributes:
        data: The streams, one behind the other.
        buffers: The buffers out of band; those that were writable are copies that are, too.
    """

    data: memoryview
    buffers: list[bytearray | memoryview] | None


def split_body(body: memoryview, flags: int) -> Streams:
    """Take a record's body apart.

    Raises:
        ValueError: It ends too early.
    """
    if not flags & BUFFERS:
        return Streams(body, None)
    try:
        (count,) = _COUNT.unpack_from(body)
        sizes = struct.unpack_from(f"<{count}Q", body, _COUNT.size)
    except struct.error as error:
        raise ValueError(str(error)) from None
    at = _COUNT.size + 8 * count
    buffers: list[bytearray | memoryview] = []
    for size in sizes:
        part = body[at : at + (size & _SIZE)]
        if len(part) != size & _SIZE:
            message = "a buffer runs past the end"
            raise ValueError(message)
        buffers.append(part if size & _READONLY else bytearray(part))
        at += len(part)
    return Streams(body[at:], buffers)


def references(streams: Streams, count: int) -> list[list[object]]:
    """Return the persistent ids in each of the first `count` streams, building nothing."""
    found: list[object] = []
    unpickler = Unpickler(persistent_load=found)
    unpickler.feed(streams.data, buffers=streams.buffers)
    result = []
    for _ in range(count):
        unpickler.noload()
        result.append(found.copy())
        found.clear()
    return result


def named_in(body: bytes, flags: int) -> Iterator[int]:
    """Yield the keys that the body of a record refers to, those of classes too, in order."""
    for found in references(split_body(memoryview(body), flags), 2 if flags & CONSTRUCTED else 1):
        yield from (key for key in found if isinstance(key, int))


_COUNT: Final = struct.Struct("<I")
_READONLY: Final = 1 << 63
_SIZE: Final = _READONLY - 1


def _pack_buffers(buffers: list[PickleBuffer]) -> bytes:
    views = [buffer.raw() for buffer in buffers]
    sizes = [view.nbytes | (_READONLY if view.readonly else 0) for view in views]
    return b"".join((_COUNT.pack(len(views)), struct.pack(f"<{len(sizes)}Q", *sizes), *views))


def _reduce_zone(zone: zoneinfo.ZoneInfo) -> tuple[type[zoneinfo.ZoneInfo], tuple[str]]:
    # Its own reduction goes through getattr, which no safe policy can allow.
    if zone.key is None:
        message = "a ZoneInfo that was read from a file has no key to be found by again"
        raise TypeError(message)
    return zoneinfo.ZoneInfo, (zone.key,)


def _reduce_enum(member: enum.Enum) -> tuple[type[enum.Enum], tuple[object]]:
    # Which of several reductions the standard library uses depends on its version; one of them goes through getattr.
    return type(member), (member._value_,)


def _reduce_alias(alias: Any) -> Any:
    # Its own reduction goes through operator.getitem, which would reach into anything.
    if alias._name is not None:  # typing.List[int], which is written by the name
        return alias.__reduce__()
    return parametrized, (alias.__origin__, _written(alias.__args__))


def _reduce_union(alias: Any) -> Any:
    return union, (_written(alias.__args__), isinstance(alias, types.UnionType))


def _written(arguments: tuple[object, ...]) -> tuple[object, ...]:
    """Return the arguments of an alias with None as it is written there; its type has no name to be found by."""
    return tuple(None if argument is type(None) else argument for argument in arguments)


class _Dispatch(dict[type, Any]):
    """Our own reductions, then those of `copyreg`, as they are at the moment of the question."""

    def __missing__(self, cls: type) -> Any:
        if issubclass(cls, enum.Enum) and getattr(find(cls, "__reduce_ex__"), "__module__", None) == "enum":
            return _reduce_enum
        return copyreg.dispatch_table[cls]

    def get(self, cls: type, default: Any = None) -> Any:
        try:
            return self[cls]
        except KeyError:
            return default


def _dispatch_table() -> Mapping[type, Any]:
    return _Dispatch(
        {
            zoneinfo.ZoneInfo: _reduce_zone,
            GENERIC_ALIAS: _reduce_alias,
            UNION: _reduce_union,
            types.UnionType: _reduce_union,
        }
    )
