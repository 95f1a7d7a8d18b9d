"""Every kind of class that users write: as a record, as a ghost, changed, rolled back, and in use while asleep."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import gc
import inspect
import json
import operator
import os
import pickle
import re
import sys
import weakref
from typing import TYPE_CHECKING, Any

import attrs
import kinds
import kinds_table
import pytest
from kinds import KINDS, OPERATORS, RAN, Kind

import pstore
from pstore.backends import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Place

#: Kinds whose objects come loaded.
LOADED = {
    "own `__new__`",
    "`__getnewargs__`",
    "`__reduce__`",
    "function registered in `copyreg`",
    "subclass of `list`",
    "subclass of `dict`",
    "subclass of `set`",
    "subclass of `str`, `int`, ... with attributes",
    "exception",
    "named tuple with a container",
}


def picture(obj: Any) -> tuple[type, bytes]:
    """The class of an object and its whole state, equal for equal objects."""
    stream = pstore.pickle.dumps(obj, canonical=True)
    return type(obj), stream


@pytest.fixture
def place(memory: Place) -> Place:
    """One backend: it has the same bytes to keep, whatever they are of."""
    return memory


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """Each kind."""
    RAN.clear()
    yield KINDS[request.param]
    RAN.clear()


def opened(place: Place) -> pstore.Store:
    """The store, with all kinds allowed."""
    return place.open(allow=["kinds", "shop"])


@pytest.mark.parametrize("declared", [False, True], ids=["undeclared", "declared"])
def test_stored_whole(kind: Kind, declared: bool, place: Place, declaring: Any) -> None:
    """An object under a name, in a list and in another object comes back whole, one object wherever it is met."""
    if declared:
        cls = type(kind.make())
        declaring(cls)
    with opened(place) as db:
        db["named"], db["list"], db["holder"] = kind.make(), [kind.make()], kinds.Named("holder", kind.make())
        shared = kind.make()
        db["first"], db["second"] = [shared], kinds.Named("second", [shared])
        assert len(db.commit().keys) == 6 + 2 * declared
    with opened(place) as db:
        wanted = picture(kind.make())
        assert picture(db["named"]) == wanted
        assert picture(db["list"][0]) == wanted
        assert picture(db["holder"].tags) == wanted
        assert db["first"][0] is db["second"].tags[0] or kind.name in UNSHARED
        assert picture(db["first"][0]) == wanted
        assert (db.key_of(db["list"][0]) is not None) == declared
        assert db.commit().keys == ()


#: What can't change itself isn't shared, but its content.
UNSHARED = {"named tuple with a container"}


def test_reference_is_a_ghost_and_made_by_no_code(kind: Kind, place: Place) -> None:
    """A reference reads nothing and runs no code of the class or its metaclass; some kinds come loaded instead."""
    with opened(place) as db:
        db["x"] = kind.make()
    db = opened(place)
    cls = type(kind.make())
    gc.collect()  # what a `__del__` tells isn't of this
    RAN.clear()
    obj = db["x"]
    loaded = db.stats()["loads"]
    # The policy asks the class for its name, and `copyreg.dispatch_table` for a class is a dict.
    ran = [told for told in RAN if not re.search("__(hash|module|qualname)__$", told)]
    assert loaded == (kind.name in LOADED)
    assert loaded or not ran
    assert isinstance(obj, cls)
    assert obj.__class__ is cls
    assert db.stats()["loads"] == loaded or "metaclass" in kind.name
    assert picture(obj)[0] is cls


def test_change_is_found(kind: Kind, place: Place) -> None:
    """Reading writes nothing. A change in place is found: of a record, and of what stands in another's."""
    with opened(place) as db:
        db["x"], db["inline"] = kind.make(), kinds.Named("holder", [kind.make()])
    with opened(place) as db:
        before = picture(db["x"]), picture(db["inline"].tags[0])
        assert db.changed() == []
        assert db.commit().keys == ()
        kind.change(db["x"])
        assert db.commit().keys == (db.key_of(db["x"]),)
        held = db["inline"].tags[0]
        db.commit()
        kind.change(held)
        assert db.commit().keys == (db.key_of(db["inline"]),)
        assert db.commit().keys == ()
        wanted = kind.make()
        kind.change(wanted)
        assert picture(wanted) != before[0]
        assert before[0] == before[1]
    with opened(place) as db:
        changed = kind.make()
        kind.change(changed)
        assert picture(db["x"]) == picture(changed)


def test_only_what_was_touched_is_compared(kind: Kind, place: Place) -> None:
    """After a commit a ghost that was read is behind the barrier again, with its state; so is what holds such an object."""
    with opened(place) as db:
        db["x"], db["inline"] = kind.make(), kinds.Named("holder", [kind.make()])
    with opened(place) as db:
        wanted = picture(kind.make())
        assert picture(db["x"]) == picture(db["inline"].tags[0]) == wanted
        loads = db.stats()["loads"]
        db.commit()
        assert not db._session._states.touched
        assert picture(db["x"]) == picture(db["inline"].tags[0]) == wanted
        assert db.stats()["loads"] == loads
        kind.change(db["x"])
        assert db.commit().keys == (db.key_of(db["x"]),)


def test_rollback(kind: Kind, place: Place) -> None:
    """After a rollback an object is what the store says, whoever refers to it: the same object, if it can be a ghost."""
    with opened(place) as db:
        db["x"] = kind.make()
        db["holder"] = kinds.Named("holder", db["x"])
        db.commit()
        obj = db["x"]
        wanted = picture(obj)
        kind.change(obj)
        assert picture(obj) != wanted
        db.rollback()
        assert db["x"] is obj or kind.name in LOADED
        assert db["holder"].tags is db["x"]
        assert picture(db["x"]) == wanted
        assert db.commit().keys == ()
        kind.change(db["x"])
        assert db.commit().keys == (db.key_of(db["x"]),)


def test_changed_by_another_session(kind: Kind, place: Place) -> None:
    """What another session commits is seen by the same object after the next commit, if it can be a ghost."""
    with opened(place) as db:
        db["x"] = kind.make()
    one, other = opened(place), opened(place)
    obj = one["x"]
    picture(obj)
    one.commit()
    kind.change(other["x"])
    other.commit()
    one.commit()
    wanted = kind.make()
    kind.change(wanted)
    assert picture(one["x"]) == picture(wanted)
    assert one["x"] is obj or kind.name in LOADED


# ------------------------------------------------------------------------------------------------------ in use, asleep


def attempt(use: Callable[..., Any], *objects: Any) -> Any:
    """What a use of an object gives, comparable: a value, or the error that it raises."""
    try:
        value = use(*objects)
        for number, obj in enumerate(objects):
            if value is obj:
                return number, picture(obj)
        if type(value) is objects[0].__class__:
            return picture(value)
    except Exception as error:  # noqa: BLE001
        # From Python 3.13 on, object.__setattr__ tells more where the class leaves it at that.
        told = str(error).removesuffix(" and no __dict__ for setting new attributes")
        return type(error), re.sub("0x[0-9a-f]+", "0x", told)
    if isinstance(value, set):
        value = sorted(value, key=repr)  # the order of a set is chance
    return type(value), re.sub("0x[0-9a-f]+", "0x", repr(value))


def run(awaitable: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A use of an object by a coroutine."""
    return lambda obj: asyncio.run(awaitable(obj))


async def _enter(obj: Any) -> Any:
    async with obj as entered:
        return entered is obj, list(obj.tags)


async def _walk(obj: Any) -> Any:
    return [item async for item in obj]


async def _wait(obj: Any) -> Any:
    return await obj


def _with(obj: Any) -> Any:
    with obj as entered:
        message = "passed over by __exit__"
        raise ValueError(message)
    return entered is obj, obj.tags


def _match(obj: Any) -> Any:
    match obj:
        case kinds.Matched(name, [*tags]):
            return "matched", name, tags
        case [*items]:
            return "sequence", items
        case {**items}:
            return "mapping", items
    return "nothing"


@functools.singledispatch
def _dispatch(obj: Any) -> str:
    return "any"


@_dispatch.register
def _(obj: kinds.Named) -> str:
    return f"named {obj.name}"


def _set_and_delete(obj: Any) -> Any:
    obj.name = "new"
    first = obj.name
    del obj.name
    return first, hasattr(obj, "name")


def _by_object(obj: Any) -> Any:
    object.__setattr__(obj, "name", "new")
    return obj


def _raise(obj: Any) -> None:
    raise obj


def _named_by_key(obj: Any) -> Any:
    return {obj: 1}[obj], obj in {obj, 1}, obj in frozenset([obj, 1]), len({obj, *[obj]})


USES: dict[str, Callable[[Any], Any]] = {
    "name": lambda obj: obj.name,
    "no such attribute": lambda obj: obj.nothing,
    "hasattr": lambda obj: (hasattr(obj, "tags"), hasattr(obj, "__len__"), hasattr(obj, "nothing")),
    "setattr, delattr": _set_and_delete,
    "object.__setattr__": _by_object,
    "object.__getattribute__": lambda obj: object.__getattribute__(obj, "tags"),
    "vars": vars,
    "__dict__": lambda obj: obj.__dict__,
    "dir": lambda obj: sorted(dir(obj)),
    "getmembers": lambda obj: sorted(name for name, _ in inspect.getmembers(obj)),
    "inspect.signature": inspect.signature,
    "repr": repr,
    "str": str,
    "format": lambda obj: f"{obj:>5}",
    "bytes": bytes,
    "fspath": os.fspath,
    "bool": bool,
    "not": lambda obj: not obj,
    "len": len,
    "list": list,
    "tuple": lambda obj: (*obj,),
    "dict": dict,
    "** ": lambda obj: dict(**obj),
    "set": lambda obj: sorted(set(obj)),
    "iter": lambda obj: next(iter(obj)),
    "next": next,
    "reversed": lambda obj: [*reversed(obj)],
    "length hint": operator.length_hint,
    "in": lambda obj: ("t" in obj, "x" in obj),
    "item": lambda obj: obj[0],
    "set item": lambda obj: operator.setitem(obj, 0, "new") or obj,
    "delete item": lambda obj: operator.delitem(obj, 0) or obj,
    "index": operator.index,
    "as an index": lambda obj: [10, 20][obj],
    "range": lambda obj: list(range(obj)),
    "int": int,
    "float": float,
    "complex": complex,
    "round": lambda obj: round(obj, 1),
    "negative": operator.neg,
    "positive": operator.pos,
    "invert": operator.inv,
    "abs": abs,
    "call": lambda obj: obj(1, two=2),
    "callable": callable,
    "with": _with,
    "async with": run(_enter),
    "async for": run(_walk),
    "await": run(_wait),
    "isawaitable": inspect.isawaitable,
    "coroutine method": lambda obj: inspect.iscoroutinefunction(obj.method),
    "match": _match,
    "hash": lambda obj: type(obj).__hash__ is object.__hash__ or hash(obj),
    "as a key": _named_by_key,
    "weakref": lambda obj: weakref.ref(obj)() is obj,
    "weak proxy": lambda obj: weakref.proxy(obj).tags,
    "getsizeof": lambda obj: sys.getsizeof(obj) > 1000,
    "memoryview": lambda obj: bytes(memoryview(obj)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda obj: pickle.loads(pickle.dumps(obj)),
    "pickle, protocol 2": lambda obj: pickle.loads(pickle.dumps(obj, protocol=2)),
    "pickle in Python": lambda obj: pickle._loads(pickle._dumps(obj)),  # type: ignore[attr-defined]
    "pstore.pickle": lambda obj: pstore.pickle.loads(pstore.pickle.dumps(obj)),
    "__reduce__": lambda obj: obj.__reduce__()[0],
    "fields": lambda obj: [field.name for field in dataclasses.fields(obj)],
    "asdict": dataclasses.asdict,
    "astuple": dataclasses.astuple,
    "replace": lambda obj: dataclasses.replace(obj, name="new"),
    "is_dataclass": dataclasses.is_dataclass,
    "attrs.asdict": attrs.asdict,
    "attrs.evolve": lambda obj: attrs.evolve(obj, name="new"),
    "attrs.has": lambda obj: attrs.has(obj.__class__),
    "attrs.validate": attrs.validate,
    "model_dump": lambda obj: obj.model_dump(),
    "model_copy": lambda obj: obj.model_copy(update={"name": "new"}),
    "model_fields_set": lambda obj: obj.model_fields_set,
    "model in a model": lambda obj: kinds.pydantic.TypeAdapter(obj.__class__).validate_python(obj) is obj,
    "dump of a model in a model": lambda obj: kinds.Outer(inner=obj).model_dump_json(),
    "json default": lambda obj: json.dumps([obj], default=lambda obj: obj.tags),
    "singledispatch": _dispatch,
    "isinstance": lambda obj: (isinstance(obj, kinds.Named), isinstance(obj, kinds.Slots), isinstance(obj, int)),
    "issubclass": lambda obj: issubclass(obj.__class__, kinds.Named),
    "super": lambda obj: super(kinds.Named, obj).__setattr__("name", "new") or obj,
    "changed by a function": kinds.rename,
    "calling its type": lambda obj: type(obj)("other", ["x"]),
    "the name of its type": lambda obj: (type(obj).__name__, type(obj).__qualname__, type(obj).__module__),
    "equal to its type": lambda obj: (operator.eq(type(obj), obj.__class__), {obj.__class__: 1}[type(obj)]),
    "instance of its type": lambda obj: isinstance(obj.__class__.__new__(obj.__class__), type(obj)),
    "first": lambda obj: obj.first,
    "set first": lambda obj: setattr(obj, "first", "new") or obj,
    "delete first": lambda obj: delattr(obj, "first") or obj,
    "count": lambda obj: obj.count,
    "title": lambda obj: obj.title,
    "code": lambda obj: (obj.code, obj.area()),
    "private": lambda obj: obj.other,
    "__class_getitem__": lambda obj: obj.__class__[int],
    "__orig_class__": lambda obj: obj.__orig_class__,
    "other class": lambda obj: setattr(obj, "__class__", kinds.Plain) or obj,
    "other __dict__": lambda obj: setattr(obj, "__dict__", {"name": "new"}) or obj,
    "raise": _raise,
}
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    **{name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne", "contains", "concat", "iconcat")},
    **{symbol: getattr(operator, f"__{name}__") for symbol, name in OPERATORS.items()},
    **{f"{symbol}=": getattr(operator, f"__i{name}__") for symbol, name in OPERATORS.items()},
    "divmod": divmod,
    "sorted": lambda one, other: [obj is one for obj in sorted([one, other])],
    "sort": lambda one, other: [obj is one for obj in sorted([one, other, one, other], reverse=True)],
    "min": lambda one, other: min(one, other) is one,
    "in a list": lambda one, other: one in [other, 0],
    "sum": lambda one, other: sum([one, other], start=0),
    "sets": lambda one, other: (len({one, other}), {one} == {other}, {one} <= {other}, len({one} | {other})),
    "as keys": lambda one, other: {one: 1}.get(other),
    "in a tuple": lambda one, other: (1, one) == (1, other),
}


def same_as_awake(kind: Kind, uses: dict[str, Callable[..., Any]], make: Callable[[Any, int], list[Any]]) -> list[str]:
    """The uses in which ghosts don't do what objects do that were never stored."""
    backend = MemoryBackend()
    with pstore.open(backend, allow=["kinds"]) as db:
        for number in range(2 * len(uses)):
            db[f"{number}"] = kind.make()
    db = pstore.open(backend, allow=["kinds"])
    different = []
    for number, (name, use) in enumerate(uses.items()):
        wanted = attempt(use, *make(lambda _: kind.make(), number))
        got = attempt(use, *make(lambda name: db[name], number))
        if got != wanted:
            different.append(f"{name}: {got} instead of {wanted}")
    db._close()
    return different


def test_used_while_asleep(kind: Kind) -> None:
    """Whatever is done with a ghost, it does what the object does; so does one that came loaded."""
    assert same_as_awake(kind, USES, lambda at, number: [at(f"{number}")]) == []


@pytest.mark.parametrize(
    "sides", ["ghosts", "ghost and object", "object and ghost", "ghost and number", "number and ghost"]
)
def test_operand_while_asleep(kind: Kind, sides: str) -> None:
    """An operator gives the same whichever of its operands is asleep."""

    def make(at: Callable[[str], Any], number: int) -> list[Any]:
        ghosts = [at(f"{2 * number}"), at(f"{2 * number + 1}")]
        one, other = sides.split(" and ") if " and " in sides else ("ghost", "ghost")
        return [
            {"ghost": ghost, "object": kind.make(), "number": 1}[side]
            for ghost, side in zip(ghosts, (one, other), strict=True)
        ]

    assert same_as_awake(kind, PAIRS, make) == []


# ------------------------------------------------------------------------------------------------- the document's table


def test_table_in_the_document() -> None:
    """docs/architecture.md tells of each kind what a store really does with it."""
    told = kinds_table.written().splitlines()
    rows = dict(kinds_table.rows())
    assert [row for row in rows.values() if row not in told] == [], (
        "the table of kinds isn't what a store does: python tests/store/kinds_table.py --write"
    )
    if sys.version_info >= kinds_table.ALL_KINDS:
        assert told == kinds_table.table().splitlines()
    assert "lost" not in "".join(told)
