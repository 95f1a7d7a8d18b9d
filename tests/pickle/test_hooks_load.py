"""The hooks of an unpickler, `noload`, `references` and `globals`."""

from __future__ import annotations

import builtins
import collections
import copyreg
import io
import pickle
import pickletools
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from .engines import PROTOCOLS, Engine
from .processes import run
from .zoo import (
    Dict,
    Int,
    Key,
    List,
    NewArgs,
    NewArgsEx,
    Old,
    Plain,
    Reduce5,
    Reduced,
    Set,
    Slotted,
    State,
    Str,
    Tuple,
    function,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BINARY = PROTOCOLS[1:]
FORMS = [
    "keyword", "attribute", "attribute of a subclass's instance", "keyword to a subclass",
    "method", "class method", "static method",
]  # fmt: skip


def with_hook(engine: Engine, form: str, name: str, hook: Callable[..., Any], data: bytes) -> Any:
    """An unpickler of the data that has the hook in this form."""
    wrong = type("Unpickler", (engine.Unpickler,), {name: lambda self, *args: "wrong"})
    if form == "keyword":
        return engine.unpickler(data, **{name: hook})
    if form == "keyword to a subclass":
        return wrong(io.BytesIO(data), **{name: hook})
    if form in ("attribute", "attribute of a subclass's instance"):
        unpickler = engine.unpickler(data) if form == "attribute" else wrong(io.BytesIO(data))
        setattr(unpickler, name, hook)
        return unpickler
    method = {
        "method": lambda self, *args: hook(*args),
        "class method": classmethod(lambda cls, *args: hook(*args)),
        "static method": staticmethod(hook),
    }[form]
    base = type("Base", (engine.Unpickler,), {name: method})
    return type("Derived", (base,), {})(io.BytesIO(data))


def ids_for(*objects: Any) -> Any:
    """A `persistent_id` that gives these objects, by identity, the ids "0", "1" and so on."""
    table = {id(obj): str(number) for number, obj in enumerate(objects)}
    return lambda obj: table.get(id(obj))


class TestPersistentLoad:
    @pytest.mark.parametrize("form", FORMS)
    def test_forms(self, engine: Engine, form: str) -> None:
        """`persistent_load` is a method of any sort, an attribute or a keyword."""
        one = Plain()
        for protocol in PROTOCOLS:
            data = engine.dumps([one, one], protocol, persistent_id=ids_for(one))
            asked: list[Any] = []
            unpickler = with_hook(
                engine, form, "persistent_load", lambda pid, asked=asked: (asked.append(pid), one)[1], data
            )
            assert unpickler.load() == [one, one]
            assert asked == ["0", "0"]

    def test_order(self, engine: Engine) -> None:
        """Ids are asked for in the order of the stream, each at each occurrence."""
        objects = [Plain() for _ in range(5)]
        value = [objects[1], {"k": objects[0]}, (objects[4], [objects[2], objects[1]]), objects[3]]
        for protocol in PROTOCOLS:
            data = engine.dumps(value, protocol, persistent_id=ids_for(*objects))
            asked: list[str] = []
            engine.loads(data, persistent_load=asked.append)
            assert asked == ["1", "0", "4", "2", "1", "3"]

    def test_what_it_returns_stands_for_the_object(self, engine: Engine) -> None:
        """Any result is taken, None too, and isn't touched."""
        one = Plain()
        data = engine.dumps({"k": (one, one)}, 4, persistent_id=ids_for(one))
        for result in None, [], one, Plain:
            loaded = engine.loads(data, persistent_load=lambda pid, result=result: result)
            assert loaded["k"][0] is loaded["k"][1] is result

    @pytest.mark.parametrize("form", ["keyword", "attribute"])
    def test_list(self, engine: Engine, form: str) -> None:
        """A list as `persistent_load` gets the ids, and each id stands for itself in what is loaded."""
        one, two = Plain(), Plain()
        for protocol in PROTOCOLS:
            data = engine.dumps([one, two, one], protocol, persistent_id=ids_for(one, two))
            ids: list[Any] = ["before"]
            unpickler = engine.unpickler(data, **({"persistent_load": ids} if form == "keyword" else {}))
            if form == "attribute":
                unpickler.persistent_load = ids
            assert unpickler.load() == ["0", "1", "0"]
            assert ids == ["before", "0", "1", "0"]

    def test_missing(self, engine: Engine) -> None:
        """Without `persistent_load` a stream with an id is an UnpicklingError; one without is loaded."""
        for protocol in PROTOCOLS:
            data = engine.dumps([Plain()], protocol, inst_persistent_id=lambda obj: "id")
            with pytest.raises(pickle.UnpicklingError, match="persistent"):
                engine.loads(data)
            assert engine.loads(engine.dumps([1], protocol)) == [1]

    def test_text_in_protocol_0(self, engine: Engine) -> None:
        """The line of text that is an id in protocol 0 must be ASCII."""
        for pid in b"\xff", "\u2205".encode():
            for call in engine.loads, lambda data: engine.loads(data, persistent_load=[]), engine.references:
                with pytest.raises(
                    pickle.UnpicklingError, match=r"^persistent IDs in protocol 0 must be ASCII strings"
                ):
                    call(b"P" + pid + b"\n.")

    def test_exceptions_pass_through(self, engine: Engine) -> None:
        """What the hook raises comes out as it is, and the unpickler reads on with the next stream."""
        for error in (
            KeyError("k"),
            pickle.UnpicklingError("mine"),
            EOFError("mine"),
            KeyboardInterrupt(),
            IndexError("i"),
        ):

            def hook(pid: Any, error: BaseException = error) -> None:
                raise error

            for protocol in PROTOCOLS:
                unpickler = engine.Unpickler(persistent_load=hook)
                unpickler.feed(engine.dumps([1, Plain()], protocol, inst_persistent_id=lambda obj: "id"))
                with pytest.raises(type(error)) as caught:
                    unpickler.load()
                assert caught.value is error
                unpickler.feed(engine.dumps([2], protocol))
                assert unpickler.load() == [2]

    def test_that_empties_the_stack(self, engine: Engine) -> None:
        """What a hook does to the objects loaded so far is no harm: it has none of them but by its own ids."""
        shared: list[Any] = []
        data = engine.dumps([["a"], Plain(), "b"], 4, inst_persistent_id=lambda obj: "id")
        assert engine.loads(data, persistent_load=lambda pid: shared) == [["a"], shared, "b"]


class TestPersistentObjects:
    def test_hit(self, engine: Engine) -> None:
        """What the table holds is taken, without a call; what it lacks is asked for."""
        known = {1: Plain(name="int"), "text": Plain(name="text"), 2**70: Plain(name="large"), -1: None}
        objects = {pid: Plain() for pid in [*known, "other", 7]}
        by_identity = {id(obj): pid for pid, obj in objects.items()}
        for protocol in BINARY:
            data = engine.dumps(list(objects.values()), protocol, persistent_ids=by_identity)
            asked: list[Any] = []
            loaded = engine.loads(data, persistent_objects=known, persistent_load=asked.append)
            assert asked == ["other", 7]
            assert [a is b for a, b in zip(loaded, known.values(), strict=False)] == [True] * 4

    def test_hit_in_protocol_0(self, engine: Engine) -> None:
        """Protocol 0's ids, which are text, are looked up as well."""
        one = Plain()
        data = engine.dumps([one], 0, persistent_ids={id(one): "id"})
        assert engine.loads(data, persistent_objects={"id": one}) == [one]

    def test_miss_without_persistent_load(self, engine: Engine) -> None:
        """A miss that nobody can be asked about is an UnpicklingError."""
        one = Plain()
        data = engine.dumps([one], 4, persistent_ids={id(one): "id"})
        with pytest.raises(pickle.UnpicklingError, match="persistent"):
            engine.loads(data, persistent_objects={"other": one})

    @pytest.mark.parametrize(
        "pid", [True, 1.0, Int(1), Str("1"), (1,), [1], {}, None.__class__, b"1", frozenset([1])], ids=repr
    )
    def test_only_for_exact_int_and_str(self, engine: Engine, pid: Any) -> None:
        """Other ids, equal or unhashable as they may be, go to `persistent_load`."""
        table = {1: "wrong", "1": "wrong", (1,): "wrong", type(None): "wrong", b"1": "wrong", frozenset([1]): "wrong"}
        for protocol in BINARY:
            data = engine.dumps([Plain()], protocol, inst_persistent_id=lambda obj: pid)
            asked: list[Any] = []
            loaded = engine.loads(data, persistent_objects=table, persistent_load=asked.append)
            assert loaded == [None]
            assert asked == [pid]
            assert type(asked[0]) is type(pid)

    def test_any_mapping(self, engine: Engine) -> None:
        """The table may be any mapping, grow while a stream is loaded, and be replaced between streams."""
        made: list[Any] = []
        table: Any = collections.ChainMap({}, {1: "one"})

        def persistent_load(pid: Any) -> Any:
            made.append(pid)
            table[pid] = [pid]
            return table[pid]

        one, two = Plain(), Plain()
        data = engine.dumps([one, two, two], 4, persistent_ids={id(one): 1, id(two): 2})
        unpickler = engine.Unpickler(persistent_objects=table, persistent_load=persistent_load)
        unpickler.feed(data)
        loaded = unpickler.load()
        assert loaded == ["one", [2], [2]]
        assert loaded[1] is loaded[2]
        assert made == [2]
        unpickler.persistent_objects = {1: 1, 2: 2}
        unpickler.feed(data)
        assert unpickler.load() == [1, 2, 2]


@pytest.fixture
def extension() -> Iterator[int]:
    """An extension code for `Plain`."""
    copyreg.add_extension(Plain.__module__, "Plain", 0x4321)
    yield 0x4321
    copyreg.remove_extension(Plain.__module__, "Plain", 0x4321)


#: A stream for each way to name a class: opcode -> bytes that load as `Plain`.
NAMED = {
    "GLOBAL": b"ctests.pickle.zoo\nPlain\n.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x10tests.pickle.zoo\x8c\x05Plain\x93.",
    "INST": b"(itests.pickle.zoo\nPlain\n.",
    "EXT2": b"\x80\x02\x83\x21\x43.",
}


class TestFindGlobal:
    @pytest.mark.parametrize("form", ["keyword", "attribute"])
    @pytest.mark.parametrize("opcode", NAMED)
    def test_function(self, engine: Engine, extension: int, opcode: str, form: str) -> None:
        """`find_global` is asked by whichever opcode a class is named, and its answer is used, or called."""
        asked = []

        def find_global(module: str, name: str) -> Any:
            asked.append((module, name))
            return Reduced

        unpickler = with_hook(engine, form, "find_global", find_global, NAMED[opcode])
        loaded = unpickler.load()
        assert asked == [("tests.pickle.zoo", "Plain")]
        assert (type(loaded) if opcode == "INST" else loaded) is Reduced

    @pytest.mark.parametrize("form", ["keyword", "attribute"])
    @pytest.mark.parametrize("opcode", NAMED)
    def test_none_refuses(self, engine: Engine, extension: int, opcode: str, form: str) -> None:
        """With None every name is an UnpicklingError that tells it, also one that a load has found before."""
        data = NAMED[opcode]
        assert engine.loads(data) is not None  # now an extension code's class is cached by copyreg
        with pytest.raises(pickle.UnpicklingError, match=r"tests\.pickle\.zoo.Plain"):
            with_hook(engine, form, "find_global", None, data).load()

    @pytest.mark.parametrize("hook", ["find_global", "find_class"])
    def test_asked_though_cached(self, engine: Engine, extension: int, hook: str) -> None:
        """A cached extension code doesn't get round a hook that may refuse."""
        data = NAMED["EXT2"]
        engine.loads(data)

        def refuse(module: str, name: str) -> Any:
            raise pickle.UnpicklingError(f"no {name}")

        with pytest.raises(pickle.UnpicklingError, match=r"^no Plain$"):
            with_hook(engine, "attribute", hook, refuse, data).load()

    def test_answer_is_not_cached_for_others(self, engine: Engine, extension: int) -> None:
        """What one unpickler's hook gives for an extension code isn't what another one finds."""
        data = NAMED["EXT2"]
        copyreg.clear_extension_cache()
        assert engine.loads(data, find_global=lambda module, name: Reduced) is Reduced
        assert engine.loads(data) is Plain

    def test_none_imports_nothing(self, engine: Engine) -> None:
        """A refused module isn't imported."""
        sys.modules.pop("this", None)
        for data in b"cthis\nd\n.", b"\x80\x04\x8c\x04this\x8c\x01d\x93.", b"(ithis\nd\n.":
            with pytest.raises(pickle.UnpicklingError, match=r"this.d\b"):
                engine.loads(data, find_global=None)
        assert "this" not in sys.modules

    def test_none_refuses_a_hostile_stream(self, engine: Engine) -> None:
        """What would be called is refused before it is called."""
        ran: list[Any] = []
        module = types.ModuleType("hostile_module")
        module.run = lambda *args: ran.append(args)
        sys.modules["hostile_module"] = module
        try:
            for data in (
                b"chostile_module\nrun\n)R.",
                b"(S'x'\nihostile_module\nrun\n.",
                b"(chostile_module\nrun\no.",
                b"\x80\x04\x8c\x0ehostile_module\x8c\x03run\x93)R.",
            ):
                with pytest.raises(pickle.UnpicklingError):
                    engine.loads(data, find_global=None)
                engine.unpickler(data).noload()
        finally:
            del sys.modules["hostile_module"]
        assert ran == []

    @pytest.mark.parametrize("named", [Plain, len, types, pickletools.dis])
    def test_state_for_what_is_named(self, engine: Engine, named: Any) -> None:
        """A stream can't change what it names: a state for a class, function or module is refused."""
        for state in b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x01\x00\x00\x00aK\x01s\x86":
            data = b"\x80\x04cmodule\nname\n" + state + b"b."
            with pytest.raises(pickle.UnpicklingError, match="the stream has a state for the"):
                engine.loads(data, find_global=lambda module, name: named)
        assert not hasattr(named, "a")

    def test_plain_data_with_none(self, engine: Engine) -> None:
        """What names nothing loads with every name refused."""
        value = [None, True, 1, 2**70, 1.5, "text", (), (1, [2]), {"k": [3]}]
        for protocol in PROTOCOLS:
            assert engine.loads(engine.dumps(value, protocol), find_global=None) == value
        for protocol in 4, 5:
            value = [b"bytes", {1, 2}, frozenset([3])]
            assert engine.loads(engine.dumps(value, protocol), find_global=None) == value

    def test_names_as_in_the_stream(self, engine: Engine) -> None:
        """`find_global` and `find_class` are asked with the names that stand in the stream, Python 2's in old ones."""
        data = engine.dumps(range(3), 2)
        for hook in "find_global", "find_class":
            asked: list[Any] = []

            def find(module: str, name: str, asked: Any = asked) -> Any:
                asked.append((module, name))
                return range

            assert with_hook(engine, "attribute", hook, find, data).load() == range(3)
            assert asked == [("__builtin__", "xrange")]

    def test_before_find_class(self, engine: Engine) -> None:
        """Where both are there `find_global` is asked."""

        class Unpickler(engine.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                raise AssertionError(name)

        unpickler = Unpickler(io.BytesIO(NAMED["GLOBAL"]), find_global=lambda module, name: name)
        assert unpickler.load() == "Plain"

    def test_deleted(self, engine: Engine) -> None:
        """Deleting the attribute makes the unpickler ask `find_class` again."""
        unpickler = engine.unpickler(NAMED["GLOBAL"] * 2)
        unpickler.find_global = lambda module, name: "found"
        assert unpickler.load() == "found"
        del unpickler.find_global
        assert unpickler.load() is Plain

    def test_find_class_of_the_base(self, engine: Engine) -> None:
        """An override may call the base class's `find_class`, which imports."""

        class Unpickler(engine.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                if module == "builtins" and name in ("eval", "exec"):
                    raise pickle.UnpicklingError("refused")
                return super().find_class(module, name)

        assert Unpickler(io.BytesIO(NAMED["STACK_GLOBAL"])).load() is Plain
        for data in b"cbuiltins\neval\n.", b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", b"(ibuiltins\neval\n.":
            with pytest.raises(pickle.UnpicklingError, match=r"^refused$"):
                Unpickler(io.BytesIO(data)).load()

    def test_audit(self, engine: Engine) -> None:
        """Finding a class raises the standard's audit event, so that a watching process sees ours too."""
        program = f"""
import importlib, sys
engine = importlib.import_module({engine.module_name!r})
sys.addaudithook(lambda event, args: event == "pickle.find_class" and print(*args))
engine.loads({b"cmath" + bytes([10]) + b"sin" + bytes([10]) + b"."!r})
"""
        assert run("-c", program).stdout == "math sin\n"

    def test_errors_of_an_import_pass_through(self, engine: Engine) -> None:
        """A module or name that isn't there is what Python says about it; a subclass of UnpicklingError isn't made of it."""
        with pytest.raises(ModuleNotFoundError):
            engine.loads(b"cno_such_module\nname\n.")
        with pytest.raises(AttributeError):
            engine.loads(b"cbuiltins\nno_such_name\n.")
        with pytest.raises(AttributeError):
            engine.loads(b"\x80\x04\x8c\x08builtins\x8c\x0clist.no.such\x93.")


class TestNames:
    def test_dotted_names_from_protocol_4_on(self, engine: Engine) -> None:
        """A dotted name is a path from protocol 4 on, and before it a name with a dot in it, as in the standard."""
        data = b"\x8c\x11tests.pickle.zoo\x8c\x0bOuter.Inner\x93.".replace(b"\x11", b"\x10")
        assert engine.loads(b"\x80\x04" + data).__qualname__ == "Outer.Inner"
        with pytest.raises(AttributeError):
            engine.loads(b"\x80\x03" + data)

    def test_proto_is_of_the_stream(self, engine: Engine) -> None:
        """What one stream said of its protocol isn't held against the next."""
        unpickler = engine.unpickler(b"\x80\x04N." + b"c__builtin__\nxrange\n.")
        assert unpickler.load() is None
        assert unpickler.load() is range


# ------------------------------------------------------------------------------------------------------------- noload


def scattered(protocol: int) -> tuple[Any, list[Any]]:
    """A value with persistent objects in every sort of place, and these objects."""
    places = [Plain(name=number) for number in range(40)]
    take = iter(places)
    value = [
        next(take),
        (next(take), (next(take),)),
        {"key": next(take), next(take): "value", (1, next(take)): next(take)},
        Plain(a=next(take), b=[next(take)]),
        State(next(take)),
        NewArgs(next(take), 2),
        List([next(take), next(take)]),
        Dict(k=next(take)),
        Tuple([next(take)]),
        Key(next(take)),
        Old(next(take), (next(take),)),
        collections.OrderedDict([(next(take), next(take))]),
        collections.deque([next(take)]),
        {next(take)},
        frozenset([next(take)]),
        Set([next(take)]),
        next(take),
    ]
    if protocol >= 2:
        value += [Slotted(next(take), next(take)), NewArgsEx(next(take), keyword=next(take))]
    value += [places[0], value[1]]
    return value, places


class TestNoload:
    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_ids_are_those_of_a_load(self, engine: Engine, protocol: int) -> None:
        """`noload` and `references` find exactly what a load asks for, in its order, wherever the ids stand."""
        value, places = scattered(protocol)
        ids = {id(obj): f"id {obj.name}" if protocol == 0 else ("id", obj.name) for obj in places}
        data = engine.dumps(value, protocol, persistent_ids=ids)
        asked: list[Any] = []
        engine.loads(data, persistent_load=lambda pid: (asked.append(pid), Plain(name=pid))[1])
        assert len(asked) >= 25
        assert engine.noload(data) == asked
        assert engine.references(data) == asked
        called: list[Any] = []
        engine.unpickler(data, persistent_load=called.append).noload()
        assert called == asked

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_builds_and_imports_nothing(self, engine: Engine, protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """No class is found, no function called, no state applied: neither hooks nor `import` are asked."""
        value, places = scattered(protocol)
        value.append(Reduce5())
        data = engine.dumps(value, protocol, persistent_ids={id(places[0]): "id"})

        def forbidden(*args: Any, **keywords: Any) -> Any:
            raise AssertionError(args)

        class Unpickler(engine.Unpickler):
            find_class = forbidden

        for kind in Plain, State, NewArgs, List, Key, Old, Reduced, Reduce5:
            monkeypatch.setattr(kind, "__init__", forbidden)
            monkeypatch.setattr(kind, "__setstate__", forbidden, raising=False)
        unpickler = Unpickler(io.BytesIO(data), find_global=forbidden)
        ids: list[Any] = []
        unpickler.persistent_load = ids
        monkeypatch.setattr(builtins, "__import__", forbidden)
        try:
            result = unpickler.noload()
        finally:
            monkeypatch.undo()
        assert result is None
        assert ids == ["id", "id"]

    def test_find_global_none(self, engine: Engine) -> None:
        """A stream whose names are all refused can be read for its ids."""
        value, places = scattered(4)
        data = engine.dumps(value, 4, persistent_ids={id(places[0]): 0})
        ids: list[Any] = []
        engine.unpickler(data, find_global=None, persistent_load=ids).noload()
        assert ids == [0, 0]

    @pytest.mark.parametrize("data", [b"cno_such_module\nname\n.", b"(S'x'\nino_such_module\nname\n.", b"cmath\n\n)R."])
    def test_names_that_do_not_exist(self, engine: Engine, data: bytes) -> None:
        """Whether a name exists isn't looked at."""
        engine.unpickler(data).noload()
        assert engine.references(data) == []
        assert len(engine.globals(data)) == 1

    @pytest.mark.parametrize(
        "pid",
        [
            7,
            "t",
            1.5,
            True,
            2**80,
            ("a", (1, None)),
            [1, [2]],
            {"k": (1,)},
            {1, 2},
            frozenset([3]),
            b"b",
            bytearray(b"x"),
        ],
        ids=repr,
    )
    def test_ids_of_builtin_types(self, engine: Engine, pid: Any) -> None:
        """Ids made of atoms and builtin containers are told as they are."""
        data = engine.dumps([Plain(), Plain()], 5, inst_persistent_id=lambda obj: pid)
        assert engine.noload(data) == [pid, pid]
        assert [type(found) for found in engine.references(data)] == [type(pid)] * 2

    @pytest.mark.parametrize(
        "pid",
        [Plain(), ("oid", Plain), [1, {"k": Plain()}], Int(1), (1j,), {Plain}, range(2)],
        ids=type,
    )
    def test_ids_that_need_an_import(self, engine: Engine, pid: Any) -> None:
        """An id that holds a class or an instance can't be told without building: an UnpicklingError."""
        one = Slotted(1)
        for protocol in BINARY:
            data = engine.dumps([one], protocol, inst_persistent_id=lambda obj: pid if obj is one else None)
            with pytest.raises(pickle.UnpicklingError, match="id"):
                engine.noload(data)
            with pytest.raises(pickle.UnpicklingError, match="id"):
                engine.references(data)

    def test_ids_that_stand_elsewhere_too(self, engine: Engine) -> None:
        """An id that is itself an object of the stream, filled before or after, is told as a load would see it."""
        items: list[Any] = [1, (2, "x")]
        table: dict[Any, Any] = {"items": items}
        data = engine.dumps(
            [items, table, Plain(name="a"), Plain(name="b"), items],
            4,
            inst_persistent_id=lambda obj: {"a": items, "b": (table, items[1])}[obj.name],
        )
        assert engine.noload(data) == [items, (table, items[1])]

    def test_ids_in_ids(self, engine: Engine) -> None:
        """An object in an id may have an id of its own; with a list, that stands for itself, as in a load."""
        inner, outer = Plain(), Plain()
        data = engine.dumps(
            outer, 4, persistent_id=lambda obj: {id(inner): "inner", id(outer): ("outer", inner)}.get(id(obj))
        )
        loaded: list[Any] = []
        assert engine.unpickler(data, persistent_load=loaded).load() == ("outer", "inner")
        assert loaded == ["inner", ("outer", "inner")]
        assert engine.noload(data) == loaded

    def test_unhashable_keys_are_no_matter(self, engine: Engine) -> None:
        """A key or member that is hashable only once it is built is none of `noload`'s business."""
        value = {Key((1, 2)): 1, Tuple([3]): 2, (Plain(), 1): 3, frozenset([Plain()]): {Plain(), Key(4)}}
        for protocol in PROTOCOLS:
            assert engine.noload(engine.dumps(value, protocol)) == []

    def test_several_streams(self, engine: Engine) -> None:
        """`noload` and `load` may take turns on one file, whose later streams refer to the earlier."""
        one, items = Plain(), [1]
        for protocol in PROTOCOLS:
            pickler, file = engine.pickler(protocol, persistent_ids={id(one): "one"})
            for value in [one, items], [items, one], (items, one):
                pickler.dump(value)
            ids: list[Any] = []
            unpickler = engine.unpickler(file.getvalue(), persistent_load=ids)
            unpickler.noload()
            unpickler.noload()
            assert unpickler.load() == ([1], "one")
            assert ids == ["one"] * 3
            with pytest.raises(EOFError):
                unpickler.noload()

    def test_out_of_band_buffers_are_not_needed(self, engine: Engine) -> None:
        """`noload` takes no buffers."""
        data = engine.dumps([pickle.PickleBuffer(b"x"), Plain()], 5, buffer_callback=[].append, persistent_id=ids_for())
        assert engine.noload(data) == []

    def test_no_hook(self, engine: Engine) -> None:
        """Without anybody to tell the ids to, a stream that has some is an error, as in a load."""
        data = engine.dumps(Plain(), 4, inst_persistent_id=lambda obj: 1)
        with pytest.raises(pickle.UnpicklingError, match="persistent"):
            engine.unpickler(data).noload()


class TestTools:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_bytes_like(self, engine: Engine, kind: type) -> None:
        """`references` and `globals` take any bytes-like object, and look at its first stream."""
        data = engine.dumps([Plain(), function], 4, persistent_ids={id(function): 7})
        assert engine.references(kind(data + data + b"rest")) == [7]
        assert engine.globals(kind(data + b"rest")) == [("tests.pickle.zoo", "Plain")]

    def test_globals_in_order(self, engine: Engine, extension: int) -> None:
        """Names by GLOBAL, INST, STACK_GLOBAL and extension code, as often as they occur, in order."""
        data = b"(cmath\nsin\n(ino_such.module\nName\n\x8c\x01m\x94\x8c\x03a.b\x94\x93h\x00h\x01\x93\x83\x21\x43cmath\nsin\nt."
        memoised = data.replace(b"\x94", b"q\x00", 1).replace(b"\x94", b"q\x01", 1)
        expected = [("math", "sin"), ("no_such.module", "Name"), ("m", "a.b"), ("m", "a.b")]
        expected += [("tests.pickle.zoo", "Plain"), ("math", "sin")]
        assert engine.globals(memoised) == expected
        assert "no_such" not in sys.modules

    def test_globals_beside_ids(self, engine: Engine) -> None:
        """`globals` lists the names in ids too, and doesn't mind ids that can't be told."""
        one = State(1)
        data = engine.dumps([one, Slotted(2)], 4, persistent_id=lambda obj: ("oid", Plain) if obj is one else None)
        assert engine.globals(data)[0] == ("tests.pickle.zoo", "Plain")
        assert ("tests.pickle.zoo", "Slotted") in engine.globals(data)

    @pytest.mark.parametrize("tool", ["references", "globals"])
    def test_errors(self, engine: Engine, tool: str) -> None:
        """Cut and malformed streams are the errors that a load makes of them; what isn't bytes-like is a TypeError."""
        call = getattr(engine, tool)
        data = engine.dumps([1, Plain(), "text"], 4, inst_persistent_id=lambda obj: 1)
        for end in range(len(data)):
            with pytest.raises((EOFError, pickle.UnpicklingError)):
                call(data[:end])
        for bad in b"\xff.", b"a.", b"(\x93.", b"NN\x93.":
            with pytest.raises(pickle.UnpicklingError):
                call(bad)
        with pytest.raises(TypeError):
            call("text")
        with pytest.raises(TypeError):
            call(None)


class TestOverriding:
    """Of the reference engine alone: opcode methods may be overridden."""

    @pytest.fixture(autouse=True)
    def _only_where_possible(self, engine: Engine) -> None:
        if not engine.overridable:
            pytest.skip("this engine's opcode methods can't be overridden, as documented")

    def test_load_global(self, engine: Engine) -> None:
        """`load_global` reads its two lines and pushes; only its own opcode comes by it."""

        class Unpickler(engine.Unpickler):
            def load_global(self) -> None:
                self.append((self.readline(), self.readline()))

        for wrap in io.BytesIO, lambda data: io.BufferedReader(io.BytesIO(data)):
            unpickler = Unpickler(wrap(b"(cmath\nsin\nNt."))
            assert unpickler.load() == ((b"math\n", b"sin\n"), None)
        unpickler = Unpickler()
        unpickler.feed(b"cmath\nsin\n.")
        assert unpickler.load() == (b"math\n", b"sin\n")

    def test_any_opcode(self, engine: Engine) -> None:
        """Any `load_x` may be replaced or extended, by a subclass of a subclass too, and has the stack."""

        class Doubling(engine.Unpickler):
            def load_binint1(self) -> None:
                super().load_binint1()
                self.stack[-1] *= 2

        class Counting(Doubling):
            tuples = 0

            def load_tuple2(self) -> None:
                type(self).tuples += 1
                super().load_tuple2()

            def load_short_binunicode(self) -> None:
                self.append(self.read(self.read(1)[0]).decode().upper())

        data = engine.dumps([(1, "a"), (2, "b")], 4)
        assert Counting(io.BytesIO(data)).load() == [(2, "A"), (4, "B")]
        assert Counting.tuples == 2
        assert engine.loads(data) == [(1, "a"), (2, "b")]

    def test_what_an_override_raises(self, engine: Engine) -> None:
        """An exception of somebody's own method passes through as it is."""

        class Unpickler(engine.Unpickler):
            def load_none(self) -> None:
                raise IndexError("mine")

        with pytest.raises(IndexError, match=r"^mine$"):
            Unpickler(io.BytesIO(b"N.")).load()


class TestOverridingRefused:
    """Of the other engines: what would never be called can't be defined."""

    @pytest.mark.parametrize("name", ["load_global", "load_binint1", "noload_build", "pop_mark"])
    def test_opcodes(self, engine: Engine, name: str) -> None:
        """A class that overrides an opcode, or inherits that from elsewhere, is refused, and told what to do instead."""
        if engine.overridable:
            pytest.skip("this engine's opcode methods can be overridden")

        class Mixin:
            pass

        setattr(Mixin, name, lambda self: None)
        for bases, namespace in ((engine.Unpickler,), vars(Mixin)), ((Mixin, engine.Unpickler), {}):
            with pytest.raises(TypeError, match=rf"^Derived\.{name} would never be called: .*find_class.*_python"):
                type("Derived", bases, {key: value for key, value in namespace.items() if key == name})

    def test_all_else(self, engine: Engine) -> None:
        """Whatever else a subclass defines is its own affair, and arguments of its class statement reach the bases."""

        class Base:
            def __init_subclass__(cls, *, marked: bool = False, **keywords: Any) -> None:
                super().__init_subclass__(**keywords)
                cls.marked = marked

        class Unpickler(engine.Unpickler, Base, marked=True):
            load_nothing_known = append_all = None

        assert Unpickler.marked
        assert Unpickler(io.BytesIO(b"N.")).load() is None
