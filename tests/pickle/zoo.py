"""Objects of every kind that pickles hold, by name, and the classes of those that need one.

Each entry is a function that makes the object anew. Nothing here may know an engine.
"""

from __future__ import annotations

import array
import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import functools
import ipaddress
import math
import operator
import os
import pathlib
import random
import re
import time
import types
import typing
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# --------------------------------------------------------------------------------------------------------- the classes


class Plain:
    """State in `__dict__` and nothing else."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Old(Plain):
    """Calls for `__init__`'s arguments, as an old-style class did."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__(first=first, second=second)

    def __getinitargs__(self) -> tuple[Any, Any]:
        return self.first, self.second


class Slotted:
    __slots__ = ("__private", "left", "right")

    def __init__(self, left: Any, right: Any = None) -> None:
        self.left = left
        self.__private = 1
        if right is not None:
            self.right = right


class SlottedWithDict(Slotted):
    """Slots from its base and a `__dict__` of its own."""


class State:
    """Chooses its state itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getstate__(self) -> Any:
        return ["state", self.value]

    def __setstate__(self, state: Any) -> None:
        _, self.value = state


class FalseState(State):
    """Its state is false: the standard leaves out only None, so `__setstate__` isn't called for one."""

    def __getstate__(self) -> Any:
        return self.value

    def __setstate__(self, state: Any) -> None:
        self.value = "set", state


class NewArgs:
    def __new__(cls, *values: Any) -> NewArgs:
        self = super().__new__(cls)
        self.values = values
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.values


class NewArgsEx:
    def __new__(cls, positional: Any, *, keyword: Any) -> NewArgsEx:
        self = super().__new__(cls)
        self.positional, self.keyword = positional, keyword
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.positional,), {"keyword": self.keyword}


class Reduced:
    """Reduces itself to the tuple that it was given; `built` is what loading one has done."""

    def __init__(self, *built: Any) -> None:
        self.built: list[Any] = ["init", *built]

    def append(self, item: Any) -> None:
        self.built.append(("append", item))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.built.append(("setitem", key, value))

    def __setstate__(self, state: Any) -> None:
        self.built.append(("setstate", state))


def set_state(obj: Reduced, state: Any) -> None:
    """State setter of a reduction of six."""
    obj.built.append(("set_state", state))


class Reduce2(Reduced):
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, ("two",)


class Reduce3(Reduced):
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, ("three",), {"state": 3}


class Reduce4(Reduced):
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (), None, iter(["a", "b"])


class Reduce5(Reduced):
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (), "state", iter(["a"]), iter([("k", "v"), ("l", "w")])


class Reduce6(Reduced):
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (), "state", None, None, set_state


class ReduceEx(Reduced):
    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Reduced, (protocol,)


class ReduceGlobal:
    """Reduces itself to the name under which this module has it."""

    def __reduce__(self) -> str:
        return "GLOBAL"


GLOBAL = ReduceGlobal()


class Key:
    """Hashable by value and rebuilt by its arguments; may stand in a cycle all the same."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return Key, (self.value,)


class Int(int):
    pass


class Str(str):
    __slots__ = ()


class Bytes(bytes):
    __slots__ = ()


class Float(float):
    pass


class Tuple(tuple):  # noqa: SLOT001 - the one with a `__dict__` is meant
    pass


class List(list):
    pass


class Dict(dict):
    pass


class Set(set):
    pass


class Frozen(frozenset):
    pass


class SlottedList(list):
    __slots__ = ("extra",)


class Outer:
    class Inner(Plain):
        class Innermost(Plain):
            pass

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> type:
        return cls

    def method(self) -> str:
        return "method"


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


class Registered:
    """Reduced by what `copyreg.pickle` was told."""

    def __init__(self, value: Any) -> None:
        self.value = value


def reduce_registered(obj: Registered) -> tuple[Any, ...]:
    """What `copyreg` is told of `Registered`."""
    return Registered, (obj.value,)


copyreg.pickle(Registered, reduce_registered)


class Error(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.extra = "extra"


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Flags(enum.IntFlag):
    A = 1
    B = 2


@dataclass
class Data:
    name: str
    tags: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class FrozenData:
    name: str
    number: int = 0


class FrozenSlots:
    """A frozen slotted class in the way that `dataclasses` makes one."""

    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "b", b)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)

    def __getstate__(self) -> list[Any]:
        return [self.a, self.b]

    def __setstate__(self, state: list[Any]) -> None:
        for name, value in zip(self.__slots__, state, strict=True):
            object.__setattr__(self, name, value)


Point = collections.namedtuple("Point", "x y")


class NamedPoint(typing.NamedTuple):
    x: int
    y: int = 0


def function(argument: Any) -> Any:
    """Give back the argument."""
    return argument


T = typing.TypeVar("T")


# --------------------------------------------------------------------------------------------------------- the objects

ZOO: dict[str, Callable[[], Any]] = {}

#: What comes back as something else on purpose, so that only the standard's result tells what is right.
TRANSFORMED = {"reductions", "iterators", "states"}

#: What our engines write otherwise than the standard in protocols 0 and 1: as Python 2 wrote old-style instances.
OLD_STYLE = {"old"}


def entry(make: Callable[[], Any]) -> Callable[[], Any]:
    """Add what the function makes, under its name."""
    ZOO[make.__name__] = make
    return make


def _entries(prefix: str, values: Any) -> None:
    for name, value in values:
        ZOO[f"{prefix} {name}"] = lambda value=value: value


_entries("atom", ((repr(value), value) for value in (None, True, False, ..., NotImplemented)))

_EDGES = [0, 1, 10, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64]
_entries("int", ((str(value), value) for edge in _EDGES for value in {edge, -edge, -edge - 1}))
# LONG1 holds up to 255 bytes, LONG4 the rest.
_entries(
    "int", ((f"of {bits} bits", sign << bits) for bits in (2031, 2032, 2039, 2040, 2048, 5000) for sign in (1, -1))
)

_FLOATS = [0.0, -0.0, 1.5, -1e300, 5e-324, math.inf, -math.inf, math.nan, math.pi]
_entries("float", ((repr(value), value) for value in _FLOATS))
_entries("complex", ((repr(value), value) for value in (1j, complex(1.5, -0.0))))

_TEXTS = {
    "empty": "",
    "ascii": "hello",
    "latin": "h\xe4\xdf\xff",
    "wide": "\u03c0\u20ac\u0100",
    "astral": "\U0001f40d\U00010000",
    "lone surrogate": "<\udc80>",
    "reversed surrogates": "\udc00\ud800",
    "escapes": "a\\b\\u0041\nc\r\0\x1a'\"\t\x7f\x85\u2028",
    "backslashes": "\\\\",
    **{f"of {size}": "x" * size for size in (255, 256, 65535, 65536, 70000)},
    **{f"of {size} wide": "\u20ac" * size for size in (85, 86, 21845, 21846)},
}
_entries("str", _TEXTS.items())
_BYTES = {
    "empty": b"",
    "ascii": b"hello",
    "all": bytes(range(256)),
    "high": b"\xff\x80",
    **{f"of {size}": b"x" * size for size in (255, 256, 65535, 65536, 70000)},
}
_entries("bytes", _BYTES.items())
_entries("bytearray", ((name, bytearray(value)) for name, value in _BYTES.items()))

_SIZES = [0, 1, 2, 3, 4, 5, 999, 1000, 1001, 1999, 2000, 2001]
_entries("list of", ((str(size), list(range(size))) for size in _SIZES))
_entries("tuple of", ((str(size), tuple(range(size))) for size in _SIZES))
_entries("dict of", ((str(size), {str(i): i for i in range(size)}) for size in _SIZES))
_entries("set of", ((str(size), set(range(size))) for size in _SIZES))
_entries("frozenset of", ((str(size), frozenset(range(size))) for size in _SIZES))


@entry
def same_strings() -> Any:
    word = "".join(list("sharedword"))
    return [word, {word: word}, (word,), "".join(list("sharedword"))]


@entry
def shared_containers() -> Any:
    one, two, three = [1], {"k": 2}, {3}
    pair = (one, two)
    return [one, two, three, pair, {"again": [one, two, three, pair]}, frozenset([4]), pair]


@entry
def equal_but_not_shared() -> Any:
    return [[], [], {}, {}, set(), set(), bytearray(), bytearray(), Plain(), Plain()]


@entry
def list_in_itself() -> Any:
    items: list[Any] = [1]
    items.extend([items, (items,), {"items": items}])
    return items


@entry
def dict_in_itself() -> Any:
    table: dict[Any, Any] = {}
    table.update(me=table, pair=(table, table), items=[table])
    return table


@entry
def tuple_in_itself() -> Any:
    items: list[Any] = []
    pair = (items, "tail")
    items.append(pair)
    return pair


@entry
def long_tuple_in_itself() -> Any:
    table: dict[Any, Any] = {}
    whole = (1, 2, 3, 4, table)
    table["whole"] = whole
    return whole


@entry
def set_in_itself() -> Any:
    owner = Plain(name="owner")
    owner.members = {owner}
    return owner.members


@entry
def frozenset_in_itself() -> Any:
    owner = Plain(name="owner")
    owner.members = frozenset([owner])
    return owner.members


@entry
def instance_in_itself() -> Any:
    one = Plain(name="one")
    one.me, one.bound, one.items = one, (one, [one]), {"one": one}
    return one


@entry
def key_in_its_dict() -> Any:
    table: dict[Any, Any] = {}
    table[Key(table)] = 1
    return table


@entry
def rebuilt_in_a_cycle() -> Any:
    items: list[Any] = []
    items.append(Key(items))
    return items


@entry
def nested() -> Any:
    value: Any = "core"
    for level in range(50):
        value = [level, {"down": (value, level)}]
    return value


@entry
def many_small() -> Any:
    return [(i, str(i), {"i": [i]}) for i in range(1100)]


@entry
def large_between_small() -> Any:
    return ["a", b"x" * 65536, "b", "y" * 65537, ["c", bytearray(b"z" * 100_000)], b"w" * 65535, "d"]


@entry
def memo_over_256() -> Any:
    words = [f"word {i}" for i in range(300)]
    return [words, list(words), [(word,) for word in words]]


@entry
def plain() -> Any:
    return Plain(name="Ada", tags=["x"], parent=None)


@entry
def plain_without_state() -> Any:
    return Plain()


@entry
def plains() -> Any:
    return [Plain(number=i, name="same") for i in range(20)]


@entry
def odd_attribute_names() -> Any:
    one = Plain()
    vars(one).update({"not an identifier": 1, "h\xe4": 2, Str("sub"): 3})
    return one


@entry
def old() -> Any:
    return [Old(1, ["two"]), Old(None, None)]


@entry
def slotted() -> Any:
    return [Slotted(1, [2]), Slotted("only")]


@entry
def slotted_with_dict() -> Any:
    one = SlottedWithDict(1, 2)
    one.free = [3]
    return [one, SlottedWithDict(4)]


@entry
def frozen_slots() -> Any:
    return FrozenSlots(1, [2])


@entry
def states() -> Any:
    return [State(1), State([2]), State(None), *(FalseState(value) for value in (0, "", [], {}, False))]


@entry
def new_args() -> Any:
    return [NewArgs(), NewArgs(1, "two"), NewArgsEx(1, keyword=[2])]


@entry
def reductions() -> Any:
    return [Reduce2(), Reduce3(), Reduce4(), Reduce5(), Reduce6(), ReduceEx(), GLOBAL, Registered(1), Key("k")]


@entry
def subclasses() -> Any:
    values: list[Any] = [Int(5), Str("text"), Bytes(b"raw"), Float(1.5), Tuple([1]), List([1, 2]), Dict(a=1), Set([1])]
    values.append(Frozen([1]))
    for value in values:
        if hasattr(value, "__dict__"):
            value.extra = ["extra"]
    return values


@entry
def slotted_list() -> Any:
    items = SlottedList([1, 2])
    items.extra = "extra"
    return items


@entry
def classes() -> Any:
    return [Plain, int, Outer, Outer.Inner, Outer.Inner.Innermost, WithMeta, Meta, type, object, type(None), type(...)]


@entry
def functions() -> Any:
    return [function, len, math.sin, Outer.static, str.join, Outer.method, "text".upper, dict.fromkeys, Outer.of_class]


@entry
def bound_method() -> Any:
    return Outer().method


@entry
def nested_instances() -> Any:
    return [Outer.Inner(a=1), Outer.Inner.Innermost(b=2), WithMeta()]


@entry
def renamed_since_python_2() -> Any:
    return [
        range(3),
        collections.UserDict,
        functools.reduce,
        Exception("e"),
        OSError,
        zip,
        KeyError("k"),
        map,
        object(),
    ]


@entry
def exceptions() -> Any:
    error = ValueError("message", 2)
    error.extra = 1
    return [error, Error("m", 3), OSError(2, "No such file", "name"), UnicodeDecodeError("ascii", b"\xff", 0, 1, "bad")]


@entry
def enums() -> Any:
    return [Colour.RED, Colour.BLUE, Colour.RED, Flags.A | Flags.B, Colour]


@entry
def dataclasses() -> Any:
    return [Data("a", [1]), FrozenData("b", 2), {FrozenData("c"): 1}]


@entry
def named_tuples() -> Any:
    return [Point(1, [2]), NamedPoint(1), Point(None, None)]


@entry
def standard_collections() -> Any:
    tree: Any = collections.defaultdict(list, a=[1])
    chain = collections.ChainMap({"a": 1}, {"b": 2})
    ordered = collections.OrderedDict([("z", 1), ("a", 2)])
    return [tree, chain, ordered, collections.Counter("hello"), collections.deque([1, 2], maxlen=5)]


@entry
def deque_in_itself() -> Any:
    items: Any = collections.deque()
    items.append(items)
    return [items]


@entry
def user_collections() -> Any:
    return [collections.UserDict(a=1), collections.UserList([1]), collections.UserString("s")]


@entry
def dates() -> Any:
    zone = datetime.timezone(datetime.timedelta(hours=2), "here")
    moment = datetime.datetime(2024, 2, 29, 12, 30, 15, 999, tzinfo=zone)
    return [moment, moment.date(), moment.time(), datetime.timedelta(days=-1, microseconds=5), datetime.timezone.utc]


@entry
def exact_numbers() -> Any:
    return [decimal.Decimal("1.10"), fractions.Fraction(1, 3), decimal.Decimal("NaN").is_nan()]


@entry
def library_values() -> Any:
    network = ipaddress.ip_network("10.0.0.0/8")
    return [
        uuid.UUID(int=5),
        pathlib.PurePosixPath("/a/b"),
        network,
        re.compile("a+", re.IGNORECASE),
        slice(1, None, 2),
    ]


@entry
def arrays() -> Any:
    return [array.array("d", [1.5, 2.5]), array.array("B", b"bytes"), array.array("i")]


@entry
def callables() -> Any:
    return [functools.partial(function, 1, key=2).args, operator.itemgetter(1, 2)((0, 1, 2)), operator.attrgetter("a")]


@entry
def partial() -> Any:
    return functools.partial(function, [1])


@entry
def namespaces() -> Any:
    return types.SimpleNamespace(a=1, b=[2])


@entry
def iterators() -> Any:
    items = iter([1, 2, 3])
    next(items)
    return [
        items,
        iter((1, 2)),
        iter("ab"),
        reversed([1, 2]),
        enumerate(["a"]),
        zip([1], [2], strict=False),
        iter({"k": 1}),
    ]


@entry
def structure_sequences() -> Any:
    return [time.gmtime(0), os.stat_result(range(10))]


@entry
def generics() -> Any:
    return [list[int], dict[str, list[int]], int | str, typing.Optional["int"], typing.Any, T]


@entry
def random_state() -> Any:
    return random.Random(5)


# -------------------------------------------------------------------------------------------------------- likeness

ATOMS = (type(None), bool, int, type(...), type(NotImplemented), type, types.FunctionType)
_ITERATORS = (*(type(iter(kind())) for kind in (list, tuple, str, dict)), type(reversed([])), enumerate, zip)


class Difference(AssertionError):
    """Two objects that should be alike aren't."""


def assert_alike(one: Any, two: Any, where: str = "root") -> None:
    """Assert that `two` is a faithful copy of `one`: types, contents, and which objects are the same object.

    Whatever is one object in `one` is one object in `two`; and mutable objects that are two there are two here. Not
    recursive, so that deep objects may be compared.

    Raises:
        Difference: with the path to the first one that is found.
    """
    todo = [(one, two, where)]
    images: dict[int, tuple[Any, Any]] = {}
    origins: dict[int, Any] = {}
    kept = []  # state made here, which must not be freed: its address stands for it
    while todo:
        a, b, path = todo.pop()
        if type(a) is not type(b):
            raise Difference(f"{path}: {type(a)} became {type(b)}")
        if isinstance(a, ATOMS) and not isinstance(a, (Int, enum.Enum)):
            if a is not b and (isinstance(a, (type, types.FunctionType)) or a != b):
                raise Difference(f"{path}: {a!r} became {b!r}")
            continue
        if type(a) in (float, complex):
            if repr(a) != repr(b):
                raise Difference(f"{path}: {a!r} became {b!r}")
            continue
        if id(a) in images:
            if images[id(a)][1] is not b:
                raise Difference(f"{path}: one {type(a).__name__} became two")
            continue
        images[id(a)] = a, b
        if type(a) not in (str, bytes, tuple, frozenset) and origins.setdefault(id(b), a) is not a:
            raise Difference(f"{path}: two of {type(a).__name__} became one")
        if type(a) in (str, bytes):
            if a != b:
                raise Difference(f"{path}: {a!r:.50} became {b!r:.50}")
            continue
        parts = list(_parts(a))
        others = list(_parts(b))
        if [step for step, _ in parts] != [step for step, _ in others]:
            raise Difference(f"{path}: {[s for s, _ in parts]} became {[s for s, _ in others]}"[:1000])
        kept += [parts, others]
        todo += [(x, y, f"{path}{step}") for (step, x), (_, y) in zip(parts, others, strict=True)]
        if not parts and a is not b and not _is_empty(a) and a != b:
            raise Difference(f"{path}: {a!r} became {b!r}")


def _is_empty(obj: Any) -> bool:
    """Whether an object without parts has no value either, so that there is nothing to compare but its type."""
    return type(obj).__eq__ is object.__eq__ or isinstance(obj, (list, dict, set, frozenset, tuple))


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """What an object is made of, each with the step that leads there."""
    if isinstance(obj, _ITERATORS):
        reduced = obj.__reduce__()
        yield from ((f".__reduce__()[{i}]", part) for i, part in enumerate(reduced) if not callable(part))
        return
    if isinstance(obj, enum.Enum):
        yield ".name", obj.name
        return
    if isinstance(obj, (types.MethodType, types.BuiltinMethodType)):
        yield f".__name__={obj.__name__}", None
        if not isinstance(obj.__self__, types.ModuleType):
            yield ".__self__", obj.__self__
        return
    if isinstance(obj, pathlib.PurePath):
        yield f".parts={obj.parts}", None  # what else it holds is remembered answers
        return
    if isinstance(obj, random.Random):
        yield ".getstate()", obj.getstate()
        return
    if isinstance(obj, functools.partial):
        yield from [(".func", obj.func), (".args", obj.args), (".keywords", obj.keywords)]
    for kind in (int, float, str, bytes, bytearray):
        if isinstance(obj, kind):
            yield f"={kind(obj)!r:.200}", None
    if isinstance(obj, (list, tuple, collections.deque, array.array)):
        yield from ((f"[{i}]", item) for i, item in enumerate(obj))
    if isinstance(obj, dict):
        yield f".len={len(obj)}", None
        for i, (key, value) in enumerate(dict.items(obj)):
            yield f".keys[{i}]", key
            yield f".values[{i}]", value
    if isinstance(obj, (set, frozenset)):
        yield from ((f"{{{i}}}", item) for i, item in enumerate(sorted(obj, key=rank)))
    if isinstance(obj, BaseException):
        yield ".args", obj.args
    yield from ((f".{name}", value) for name, value in vars(obj).items()) if hasattr(obj, "__dict__") else ()
    for name in copyreg._slotnames(type(obj)):
        if hasattr(obj, name):
            yield f".{name}", getattr(obj, name)


def rank(obj: Any) -> tuple[str, str]:
    """An order for the elements of a set that doesn't depend on their hashes; instances by their `name`."""
    if isinstance(obj, (tuple, frozenset)):
        inner = map(rank, obj) if isinstance(obj, tuple) else sorted(map(rank, obj))
        return type(obj).__name__, repr(list(inner))
    if isinstance(obj, Key):
        return "Key", repr(rank(obj.value))
    return type(obj).__name__, repr(getattr(obj, "name", obj))
