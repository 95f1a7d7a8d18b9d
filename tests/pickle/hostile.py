"""Objects, hooks and files whose code does what it shouldn't in the middle of a dump or a load. Knows no engine.

Whatever of this is called tells the current `World` of it, an *event*. The world counts the events, and at some of them
does a *deed*: it raises, changes a container that is being written or filled, calls back into the pickler or unpickler, and
so on. With the same plan the same happens again, whichever engine is at work.
"""

# ruff: noqa: D103 - deeds and names that streams use: what they do is their content

from __future__ import annotations

import collections
import copyreg
import gc
import pickle
from typing import TYPE_CHECKING, Any

from .pictures import picture, picture_of_error

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator


class Deed(Exception):
    """Raised by a deed."""


ERRORS: list[type[BaseException]] = [
    Deed, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, StopIteration, RuntimeError,
    RecursionError, KeyboardInterrupt, pickle.PicklingError, pickle.UnpicklingError, EOFError, UnicodeError, BufferError,
    ImportError, MemoryError,
]  # fmt: skip


class World:
    """What happens in one dump or load, or several in a row.

    Args:
        plan: What to do at which event: number of the event -> name of a deed and a number that it chooses by.
        always: What to do each time that one of the methods is called of which the number of calls is nobody's promise
            (hashing, comparing, looking up an attribute): name of the method -> the same.
    """

    def __init__(
        self, plan: dict[int, tuple[str, int]] | None = None, always: dict[str, tuple[str, int]] | None = None
    ) -> None:
        self.plan = plan or {}
        self.always = always or {}
        self.log: list[str] = []
        self.events = 0
        self.containers: list[Any] = []
        self.alive: list[Any] = []
        self.calls: list[Callable[[], Any]] = []
        self.worker: Any = None
        #: Whether anything is counted and done: not while the objects are made.
        self.awake = False
        self._in_deed = False

    def event(self, name: str, obj: Any = None) -> None:
        """Count an event, write it down, and do what is planned for it."""
        if not self.awake or self._in_deed:
            return
        number = self.events
        self.events += 1
        if len(self.log) < 20_000:
            self.log.append(f"{name} {type(obj).__name__}")
        deed = self.plan.get(number)
        if deed is not None:
            self._do(*deed)

    def quiet(self, name: str) -> None:
        """Do what is planned for each call of a method that isn't counted."""
        deed = self.always.get(name)
        if deed is not None and self.awake and not self._in_deed:
            told = len(self.log)
            try:
                self._do(*deed)
            finally:
                del self.log[told:]  # how often it is done is nobody's promise

    def _do(self, name: str, choice: int) -> None:
        self._in_deed = True  # what a deed itself calls is part of it
        try:
            DEEDS[name](self, choice)
        finally:
            self._in_deed = False


now = World()


def enter(world: World) -> World:
    """Make this the world that the objects here tell of what happens to them."""
    global now
    now = world
    return world


def event(name: str, obj: Any = None) -> None:
    now.event(name, obj)


# --------------------------------------------------------------------------------------------------------------- deeds


def do_raise(world: World, choice: int) -> None:
    raise ERRORS[choice % len(ERRORS)](f"deed {choice}")


def chosen(world: World, choice: int) -> Any:
    return world.containers[choice % len(world.containers)] if world.containers else []


def do_clear(world: World, choice: int) -> None:
    getattr(chosen(world, choice), "clear", bool)()


def do_grow(world: World, choice: int) -> None:
    obj = chosen(world, choice)
    new = [f"grown {choice}", ["grown"], choice][: 1 + choice % 3]
    if isinstance(obj, (list, collections.deque)):
        obj.extend(new)
    elif isinstance(obj, dict):
        dict.update(obj, {f"key {choice} {number}": value for number, value in enumerate(new)})
    elif isinstance(obj, set):
        set.update(obj, range(choice, choice + 1 + choice % 40))
    elif isinstance(obj, bytearray):
        obj.extend(b"grown")
    elif hasattr(obj, "__dict__"):
        obj.__dict__.update(grown=new)


def do_shrink(world: World, choice: int) -> None:
    obj = chosen(world, choice)
    if isinstance(obj, (list, collections.deque, bytearray)) and len(obj):
        del obj[choice % len(obj)]
    elif isinstance(obj, dict) and len(obj):
        dict.__delitem__(obj, list(dict.keys(obj))[choice % len(obj)])
    elif isinstance(obj, set) and len(obj):
        set.pop(obj)


def do_swap(world: World, choice: int) -> None:
    """As many items as before, but others."""
    obj = chosen(world, choice)
    if isinstance(obj, (list, collections.deque, bytearray)) and len(obj):
        obj.reverse()
        obj[choice % len(obj)] = choice % 256
    elif isinstance(obj, dict) and len(obj):
        do_shrink(world, choice)
        dict.__setitem__(obj, f"swapped {choice}", ["swapped"])
    elif isinstance(obj, set) and len(obj):
        set.pop(obj)
        set.add(obj, choice)


def do_reset(world: World, choice: int) -> None:
    """Other values under the same keys, so that the old ones may be freed."""
    obj = chosen(world, choice)
    if isinstance(obj, (list, collections.deque)):
        for index in range(len(obj)):
            obj[index] = ["reset", index]
    elif isinstance(obj, dict):
        for key in list(dict.keys(obj)):
            dict.__setitem__(obj, key, ["reset"])


def do_call(world: World, choice: int) -> None:
    """Call back, and perhaps let through what that raises."""
    if not world.calls:
        return
    call = world.calls[choice % len(world.calls)]
    try:
        result = call()
    except BaseException as error:
        world.log.append(picture_of_error(error))
        if choice & 64:
            raise
    else:
        world.log.append(picture(result))


def do_collect(world: World, choice: int) -> None:
    gc.collect(choice % 2)  # a whole collection each time would take too long


def do_forget(world: World, choice: int) -> None:
    """Let go of all containers, after emptying them: what only they hold is freed."""
    for obj in world.containers:
        getattr(obj, "clear", bool)()
    world.containers.clear()


def do_reclass(world: World, choice: int) -> None:
    """Make the instances instances of something else."""
    for obj in world.containers:
        if type(obj) is Plain:
            obj.__class__ = Other
        elif type(obj) is Other:
            obj.__class__ = Plain


def do_strip(world: World, choice: int) -> None:
    """Delete attributes of instances."""
    for obj in world.containers:
        if type(obj) in (Plain, Other, Slots) and choice % 2:
            for name in ("a", "b", "left"):
                if hasattr(obj, name):
                    delattr(obj, name)
        elif type(obj) in (Plain, Other):
            obj.__dict__ = {"new": choice}


def do_patch(world: World, choice: int) -> None:
    """Change the classes; `restore` undoes it."""
    name, value = [
        ("__getstate__", lambda self: {"patched": 1}),
        ("__setstate__", lambda self, state: vars(self).update(patched=state)),
        ("__reduce_ex__", lambda self, protocol: (list, ())),
        ("__getnewargs__", lambda self: ()),
        ("a", property(lambda self: "shadow", lambda self, value: None)),
        ("__getattr__", lambda self, name: _missing(name)),
        ("__setattr__", lambda self, name, value: object.__setattr__(self, name, ("set", value))),
        ("__getinitargs__", lambda self: (1,)),
        ("__module__", "nowhere"),
        ("__qualname__", "Nobody"),
    ][choice % 10]
    setattr(Plain, name, value)


def _missing(name: str) -> Any:
    raise AttributeError(name)


def do_hook(world: World, choice: int) -> None:
    """Give the worker another hook: from the next dump or load on."""
    if getattr(world.worker, "canonical", False):
        return  # the keys of a set are made with the hooks of the moment
    name = ["persistent_id", "inst_persistent_id", "persistent_load", "reducer_override", "find_global"][choice % 5]
    setattr(world.worker, name, lambda *arguments: NotImplemented if name == "reducer_override" else None)


DEEDS: dict[str, Callable[[World, int], None]] = {
    name.removeprefix("do_"): function for name, function in list(globals().items()) if name.startswith("do_")
}


# ------------------------------------------------------------------------------------------------------------- classes


class Plain:
    """State in `__dict__`; what `do_patch` changes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Other(Plain):
    pass


class Slots:
    __slots__ = ("__weakref__", "left", "right")


class SlotsAndDict(Slots):
    pass


class Getstate:
    """Has the state that it was given."""

    def __init__(self, state: Any = None) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        event("__getstate__", self)
        return self.state

    def __setstate__(self, state: Any) -> None:
        event("__setstate__", state)
        self.state = state


class Reduces:
    """Is reduced to what it was given, a function of no arguments."""

    def __init__(self, reduction: Any = None) -> None:
        self.reduction = reduction

    def __reduce_ex__(self, protocol: Any) -> Any:
        event("__reduce_ex__", self)
        return self.reduction() if callable(self.reduction) else self.reduction


class OldReduces(Reduces):
    __reduce_ex__ = object.__reduce_ex__

    def __reduce__(self) -> Any:
        event("__reduce__", self)
        return self.reduction() if callable(self.reduction) else self.reduction


class NewArguments:
    def __new__(cls, *arguments: Any, **keywords: Any) -> NewArguments:  # noqa: PYI034 - newer than Python 3.10
        event("__new__", arguments)
        self = super().__new__(cls)
        self.arguments = arguments
        return self

    def __getnewargs__(self) -> Any:
        event("__getnewargs__", self)
        return self.arguments


class NewKeywords(NewArguments):
    def __getnewargs_ex__(self) -> Any:
        event("__getnewargs_ex__", self)
        return self.arguments, {"keyword": self.arguments}


class OldStyle:
    """As of Python 2."""

    def __init__(self, *arguments: Any) -> None:
        event("__init__", arguments)
        self.arguments = arguments

    def __getinitargs__(self) -> Any:
        event("__getinitargs__", self)
        return self.arguments


class Attributes:
    """Is asked for what it doesn't have."""

    def __getattr__(self, name: str) -> Any:
        now.quiet("__getattr__")
        raise AttributeError(name)


class EveryAttribute:
    """Is asked for each attribute."""

    def __init__(self, **attributes: Any) -> None:
        object.__getattribute__(self, "__dict__").update(attributes)

    def __getattribute__(self, name: str) -> Any:
        now.quiet("__getattribute__")
        return object.__getattribute__(self, name)


class Sets:
    """Is told of each attribute."""

    def __setattr__(self, name: str, value: Any) -> None:
        event("__setattr__", value)
        object.__setattr__(self, name, value)


class Pretends:
    """Says that it is of another class."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        now.quiet("__class__")
        return Plain


class Meta(type):
    def __hash__(cls) -> int:
        now.quiet("hash of class")
        return type.__hash__(cls)

    def __eq__(cls, other: object) -> bool:
        now.quiet("== of class")
        return cls is other

    def __getattribute__(cls, name: str) -> Any:
        now.quiet("attribute of class")
        return type.__getattribute__(cls, name)

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        event("class called", arguments)
        return type.__call__(cls, *arguments, **keywords)


class Metaed(metaclass=Meta):
    pass


class Hashed:
    """A key that is compared with others; all have one hash."""

    def __init__(self, value: Any = 0) -> None:
        self.value = value

    def __hash__(self) -> int:
        now.quiet("__hash__")
        return 1

    def __eq__(self, other: object) -> bool:
        now.quiet("__eq__")
        return self is other


class List(list):
    def __iter__(self) -> Iterator[Any]:
        event("__iter__", self)
        return super().__iter__()

    def append(self, item: Any) -> None:
        event("append", item)
        super().append(item)

    def extend(self, items: Any) -> None:
        event("extend", items)
        super().extend(items)


class Appended(list):
    """Has no `extend`."""

    extend = None  # type: ignore[assignment]

    def append(self, item: Any) -> None:
        event("append", item)
        super().append(item)


class Dict(dict):
    def items(self) -> Any:
        event("items", self)
        for item in super().items():
            event("item", item)
            yield item

    def __setitem__(self, key: Any, value: Any) -> None:
        event("__setitem__", key)
        super().__setitem__(key, value)


class Set(set):
    def __iter__(self) -> Iterator[Any]:
        event("__iter__", self)
        return super().__iter__()

    def update(self, *others: Any) -> None:
        event("update", others)
        super().update(*others)


class Added:
    """Takes elements one by one."""

    def __init__(self) -> None:
        self.elements: list[Any] = []

    def add(self, element: Any) -> None:
        event("add", element)
        self.elements.append(element)


class Int(int):
    def __reduce_ex__(self, protocol: Any) -> Any:
        event("__reduce_ex__", self)
        return super().__reduce_ex__(protocol)


class Str(str):
    __slots__ = ()

    def __getnewargs__(self) -> Any:
        event("__getnewargs__", self)
        return (str.__str__(self),)


class Bytes(bytes):
    pass


class Tuple(tuple):  # noqa: SLOT001 - with a `__dict__`
    pass


class Frozen(frozenset):
    pass


class Error(Exception):
    pass


class Registered:
    def __init__(self, value: Any = None) -> None:
        self.value = value


def reduce_registered(obj: Registered) -> Any:
    event("registered", obj)
    return Registered, (obj.value,)


copyreg.pickle(Registered, reduce_registered)


def function(*arguments: Any, **keywords: Any) -> Any:
    event("function", arguments)
    return arguments


def setter(obj: Any, state: Any) -> None:
    event("setter", state)


class Outer:
    class Inner(Plain):
        pass

    def method(self) -> Any:
        event("method", self)
        return self

    @classmethod
    def of_class(cls) -> Any:
        return cls

    @staticmethod
    def static(*arguments: Any) -> Any:
        event("static", arguments)
        return list(arguments)


def local() -> type:
    class Local:
        pass

    return Local


Local = local()
GLOBAL = Reduces("GLOBAL")


class Owner:
    """Its buffer can't be seen as one piece, or is gone."""

    strided = memoryview(bytearray(range(20)))[::2]


class Given:
    """A mapping that a pickler or unpickler is given, and that tells when it is asked."""

    def __init__(self, items: dict[Any, Any]) -> None:
        self.dict = items

    def get(self, key: Any, default: Any = None) -> Any:
        now.quiet("get")
        return self.dict.get(key, default)

    def __contains__(self, key: Any) -> bool:
        return key in self.dict

    def __getitem__(self, key: Any) -> Any:
        now.quiet("getitem")
        return self.dict[key]


class Sink:
    """A file that writes down each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: Any) -> Any:
        self.writes.append(bytes(data))
        event("write", None)
        return len(data)


class Source:
    """A file over memory that tells of nothing, and has the two methods."""

    def __init__(self, data: bytes, step: int = 1 << 30, deeds: bool = False) -> None:
        self.data, self.at, self.step, self.deeds = data, 0, step, deeds

    def read(self, size: int) -> bytes:
        if self.deeds:
            event("read", None)
        part = self.data[self.at : self.at + min(size, self.step)]
        self.at += len(part)
        return part

    def readline(self) -> bytes:
        if self.deeds:
            event("readline", None)
        end = self.data.find(b"\n", self.at) + 1 or len(self.data)
        part = self.data[self.at : end]
        self.at = end
        return part

    def tell(self) -> int:
        return self.at


class FillingSource(Source):
    """Also fills a buffer."""

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class PeekingSource(Source):
    """Also shows what comes, more or less of it."""

    def peek(self, size: int) -> bytes:
        if self.deeds:
            event("peek", None)
        return self.data[self.at : self.at + self.step % 100]


# -------------------------------------------------------------------------------------------------------------- graphs

TEXTS = [
    "",
    "a",
    "text",
    "name",
    "h\xe4",
    "\u20ac\u0101",
    "\U0001f600",
    "\udc80",
    "two\nlines",
    "back\\slash\0\x1a\r",
    "a" * 256,
]
NUMBERS = [
    0,
    1,
    -1,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    -(2**31),
    -(2**31) - 1,
    -128,
    -32768,
    2**63,
    2**200,
    -(2**2040),
]
NAMED: list[Any] = [
    Plain, Other, Slots, Outer, Outer.Inner, Metaed, Meta, int, type, object, type(None), type(...), len, function, Outer.static,
    Outer().method, Outer.of_class, "text".upper, dict.fromkeys, list, str.join, collections.OrderedDict, print, Exception,
    range, Local, lambda: None, getattr,
]  # fmt: skip


class Maker:
    """Makes a graph of objects at random; with the same random numbers the same graph again.

    Sets hold only what is hashed by value, so that their order is the same, too.

    Args:
        random: Where chance comes from.
        world: What is told which containers there are.
        large: Whether some texts and containers are larger than a frame or a batch.
    """

    def __init__(self, random: random.Random, world: World, large: bool = False) -> None:
        self.random, self.world, self.large = random, world, large
        self.nodes: list[Any] = []

    def graph(self, count: int) -> Any:
        """An object that reaches many of so many nodes."""
        for _ in range(count):
            self.nodes.append(self.node())
        for node in list(self.nodes):
            self.connect(node)
        self.world.alive += self.nodes
        return self.nodes if self.random.random() < 0.7 else self.random.choice(self.nodes)

    def atom(self) -> Any:
        choose = self.random.random()
        if choose < 0.3:
            return self.random.choice(TEXTS)
        if choose < 0.6:
            return self.random.choice(NUMBERS)
        if choose < 0.7:
            return self.random.choice(
                [None, True, False, 1.5, float("nan"), -0.0, float("inf"), ..., NotImplemented, 1j]
            )
        if choose < 0.8:
            return self.random.choice([b"", b"bytes", bytes(range(256)), b"\xff" * 300])
        if choose < 0.85 and self.large:
            return self.random.choice(["x" * 70_000, b"y" * 66_000, "\u20ac" * 30_000, 1 << 600_000])
        return self.random.choice(NAMED)

    def any(self) -> Any:
        if self.nodes and self.random.random() < 0.6:
            return self.random.choice(self.nodes)
        return self.atom()

    def several(self, most: int = 4) -> list[Any]:
        return [self.any() for _ in range(self.random.randrange(most + 1))]

    def container(self, obj: Any) -> Any:
        self.world.containers.append(obj)
        return obj

    def node(self) -> Any:
        random = self.random
        kinds: list[Callable[[], Any]] = [
            lambda: self.container([]),
            lambda: self.container([]),
            lambda: self.container({}),
            lambda: self.container({}),
            lambda: self.container({random.choice([*NUMBERS, *TEXTS]) for _ in range(random.randrange(6))}),
            lambda: self.container(bytearray(random.choice([b"", b"array", b"z" * (70_000 if self.large else 70)]))),
            lambda: self.container(Plain()),
            lambda: self.container(Plain()),
            lambda: self.container(Other()),
            lambda: self.container(Slots()),
            lambda: self.container(SlotsAndDict()),
            lambda: self.container(Sets()),
            lambda: self.container(Metaed()),
            lambda: self.container(Attributes()),
            lambda: self.container(EveryAttribute()),
            lambda: self.container(Pretends()),
            lambda: self.container(List()),
            lambda: self.container(Dict()),
            lambda: self.container(Set(random.choice(NUMBERS) for _ in range(random.randrange(4)))),
            lambda: self.container(collections.deque()),
            lambda: self.container(collections.OrderedDict()),
            lambda: tuple(self.several()),
            lambda: tuple(self.several()),
            lambda: Tuple(self.several()),
            lambda: frozenset(random.choice([*NUMBERS, *TEXTS]) for _ in range(random.randrange(6))),
            lambda: Frozen(random.choice(NUMBERS) for _ in range(random.randrange(4))),
            lambda: Getstate(self.state()),
            lambda: Reduces(self.reduction()),
            lambda: OldReduces(self.reduction()),
            lambda: NewArguments(*self.several()),
            lambda: NewKeywords(*self.several()),
            lambda: OldStyle(*self.several()),
            lambda: Hashed(self.any()),
            lambda: Registered(self.any()),
            lambda: Int(random.choice(NUMBERS[:9])),
            lambda: Str(random.choice(TEXTS)),
            lambda: Bytes(b"bytes"),
            lambda: Error(*self.several()),
            lambda: GLOBAL,
            lambda: pickle.PickleBuffer(
                random.choice(
                    [b"buffer", b"", b"b" * (70_000 if self.large else 70), bytearray(b"array"), Owner.strided]
                )
            ),
            lambda: iter(self.several()),
            lambda: str(b"atext", "ascii"),  # equal to others, and not the same
        ]
        return random.choice(kinds)()

    def state(self) -> Any:
        return self.random.choice(
            [
                lambda: None,
                lambda: self.container({"a": self.any(), "b": self.any()}),
                lambda: (None, {"left": self.any()}),
                lambda: ({"a": self.any()}, {"left": self.any()}),
                lambda: self.container(self.several()),
                self.any,
                lambda: {1: self.any()},
                lambda: 0,
            ]
        )()

    def reduction(self) -> Any:
        random = self.random
        items, pairs, arguments, state = self.several(), self.several(), tuple(self.several(2)), self.state()
        self.container(items)

        def each() -> Iterator[Any]:
            for item in items:
                event("next item", item)
                yield item

        def both() -> Iterator[Any]:
            for number, item in enumerate(pairs):
                event("next pair", item)
                yield (f"key {number}", item) if number != 3 else random_pair

        random_pair = random.choice([("k", "v"), ["k", "v"], ("k",), 5, None])
        obj = random.choice([list, dict, function, Plain, Outer.static, Reduces, Added, Appended])
        plain = self.any()
        return random.choice(
            [
                lambda: "GLOBAL",
                lambda: "Nowhere",
                lambda: (obj, arguments),
                lambda: (obj, arguments, state),
                lambda: (obj, arguments, None, each()),
                lambda: (obj, (), state, iter(items), both()),
                lambda: (obj, (), None, None, both()),
                lambda: (obj, (), state, each(), None, setter),
                lambda: (obj, (), None, None, None, setter),
                lambda: (copyreg.__newobj__, (Reduces,), state),
                lambda: (copyreg.__newobj__, (Plain, *arguments), state),
                lambda: (copyreg.__newobj__, ()),
                lambda: (copyreg.__newobj__, (Reduces, *arguments), state, each()),
                lambda: (copyreg.__newobj_ex__, (Reduces, arguments, {"k": plain}), state),
                lambda: (
                    copyreg.__newobj_ex__,
                    random.choice([(Reduces, [], {}), (Reduces,), (5, (), {}), (Reduces, (), [])]),
                ),
                lambda: plain,
                lambda: (plain, plain),
                lambda: (obj,),
                lambda: (obj, arguments, state, None, None, None, None),
                lambda: (obj, arguments, state, items),
                lambda: (obj, arguments, state, None, items, None),
                lambda: (obj, arguments, state, None, None, 5),
                lambda: (_Named(), arguments),
            ]
            if random.random() < 0.3
            else [
                lambda: (obj, arguments, state),
                lambda: (obj, (), state, each(), both()),
                lambda: (copyreg.__newobj__, (Reduces,), state, each()),
                lambda: (obj, (plain,), None, each(), None, setter),
            ]
        )

    def connect(self, node: Any) -> None:
        """Let a mutable node refer to others."""
        kind, random = type(node), self.random
        targets = self.several(5)
        if kind in (list, List, collections.deque):
            if self.large and random.random() < 0.1:
                targets = [number % 300 for number in range(random.choice([999, 1000, 1001, 2000]))] + targets
            for target in targets:
                kind.append(node, target) if kind is not List else list.append(node, target)
        elif kind in (dict, Dict, collections.OrderedDict):
            if self.large and random.random() < 0.1:
                dict.update(node, {number: number % 7 for number in range(random.choice([999, 1000, 1001, 2000]))})
            for target in targets:
                key = random.choice([random.choice(TEXTS), random.choice(NUMBERS), (1, "k"), Hashed(target), 1.5])
                (dict if kind is Dict else kind).__setitem__(node, key, target)
        elif kind in (Plain, Other, Sets, SlotsAndDict, Metaed, Attributes, Pretends, Tuple, Error, Frozen, Bytes):
            for name, target in zip("abc", targets, strict=False):
                node.__dict__[name] = target
            if random.random() < 0.1 and kind in (Plain, Other):
                name = random.choice(
                    ["__reduce_ex__", "__getstate__", "__setstate__", "__class__", "__dict__", "__reduce__"]
                )
                node.__dict__[name] = random.choice(
                    [None, 5, lambda *arguments: {"own": 1}, lambda *arguments: (list, ())]
                )
            elif random.random() < 0.05 and kind in (Plain, Other):
                node.__dict__[random.choice([1, (1, 2), Str("name")])] = "odd"
        if kind in (Slots, SlotsAndDict) and targets:
            node.left = targets[0]


class _Named:
    """A function of which the name is asked for."""

    @property
    def __name__(self) -> str:
        event("__name__", self)
        return "__newobj__"

    def __call__(self, *arguments: Any) -> Any:
        return list(arguments)


# -------------------------------------------------------------------------------------------------- what streams name

#: What the streams of the fuzzer may name.
NAMES: dict[str, Any] = {
    one.__qualname__: one
    for one in [
        Plain, Other, Slots, SlotsAndDict, Getstate, Reduces, NewArguments, NewKeywords, OldStyle, Attributes, EveryAttribute,
        Sets, Pretends, Metaed, Hashed, List, Appended, Dict, Set, Added, Int, Str, Bytes, Tuple, Frozen, Error,
        Registered, function, setter, Outer, Outer.Inner, Outer.static, list, dict, set, frozenset, tuple, bytearray, str,
        collections.OrderedDict, collections.deque, object, copyreg.__newobj__, len,
    ]
} | {"GLOBAL": GLOBAL, "encode": lambda text, encoding="latin1": text.encode("latin1"), "an instance": Added()}  # fmt: skip

_CHANGEABLE = [one for one in {id(one): one for one in [*NAMES.values(), Meta]}.values() if hasattr(one, "__dict__")]
_UNCHANGED = [(one, dict(vars(one))) for one in _CHANGEABLE if not isinstance(one, type) or one.__flags__ & 1 << 9]


def restore() -> None:
    """Undo what deeds and streams have done to the classes and functions."""
    for one, attributes in _UNCHANGED:
        now_there = vars(one)
        for name in set(now_there) - set(attributes) - {"__slotnames__"}:
            delattr(one, name)
        for name, value in attributes.items():
            if now_there.get(name) is not value:
                setattr(one, name, value)
    NAMES["an instance"].elements.clear()


def find(module: str, name: str) -> Any:
    """What a stream names: by the name alone."""
    event("find", None)
    if name in NAMES:
        return NAMES[name]
    raise pickle.UnpicklingError(f"not for a test: {module}.{name}")
