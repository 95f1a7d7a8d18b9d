"""The hooks of a pickler: who is asked, for what, in which order, and what an id may be."""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
from typing import Any

import pytest

from .engines import PROTOCOLS, Engine, standard_dumps
from .zoo import (
    OLD_STYLE,
    ZOO,
    Dict,
    Error,
    Int,
    List,
    NewArgsEx,
    Old,
    Outer,
    Plain,
    Reduce2,
    Set,
    Slotted,
    State,
    Str,
    Tuple,
    WithMeta,
    assert_alike,
    function,
)

BINARY = PROTOCOLS[1:]
ATOMIC = "atom", "int", "float", "str ", "bytes", "complex"
HOOKS = "persistent_id", "inst_persistent_id", "global_persistent_id"


def with_hook(engine: Engine, form: str, name: str, hook: Any, protocol: int) -> Any:
    """A pickler without a file that has the hook in this form."""
    if form == "keyword":
        return engine.Pickler(None, protocol, **{name: hook})
    if form == "attribute":
        pickler = engine.Pickler(None, protocol)
        setattr(pickler, name, hook)
        return pickler
    if form == "attribute of a subclass's instance":
        pickler = type("Pickler", (engine.Pickler,), {name: lambda self, obj: "overridden"})(None, protocol)
        setattr(pickler, name, hook)
        return pickler
    if form == "keyword to a subclass":
        return type("Pickler", (engine.Pickler,), {name: lambda self, obj: "wrong"})(None, protocol, **{name: hook})
    method = {
        "method": lambda self, obj: hook(obj),
        "class method": classmethod(lambda cls, obj: hook(obj)),
        "static method": staticmethod(hook),
    }[form]
    base = type("Base", (engine.Pickler,), {name: method})
    return type("Derived", (base,), {})(None, protocol)


FORMS = [
    "keyword", "attribute", "attribute of a subclass's instance", "keyword to a subclass",
    "method", "class method", "static method",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HOOKS)
def test_forms_of_a_hook(engine: Engine, name: str, form: str) -> None:
    """A hook is a method of any sort, an attribute or a keyword: each is asked the same, and counts the same."""
    one = Plain(name="one")
    wanted = Plain if name == "global_persistent_id" else one
    for protocol in PROTOCOLS:
        asked: list[Any] = []

        def hook(obj: Any, asked: list[Any] = asked) -> str | None:
            asked.append(obj)
            return "the id" if obj is wanted else None

        data = with_hook(engine, form, name, hook, protocol).dumps([one, 5, one])
        reference: list[Any] = asked.copy()
        asked.clear()
        assert engine.dumps([one, 5, one], protocol, **{name: hook}) == data
        assert [type(obj) for obj in asked] == [type(obj) for obj in reference]
        # A class that has an id is asked for at each instance; no instance is memoised that has one.
        assert engine.references(data) == ["the id"] * (1 if wanted is Plain else 2)
        assert b"overridden" not in data
        loaded = engine.loads(data, persistent_load={"the id": wanted}.__getitem__)
        assert_alike([one, 5, one], loaded)


@pytest.mark.parametrize("name", HOOKS)
def test_hook_set_and_deleted_between_dumps(engine: Engine, name: str) -> None:
    """An attribute counts from the next dump on, and no more once it is deleted."""
    one = Plain()
    plain = engine.dumps(one, 4)
    pickler = engine.Pickler(None, 4)
    assert pickler.dumps(one) == plain
    setattr(pickler, name, lambda obj: "id" if obj in (one, Plain) else None)
    pickler.clear_memo()
    assert engine.references(pickler.dumps(one)) == ["id"]
    delattr(pickler, name)
    pickler.clear_memo()
    assert pickler.dumps(one) == plain


@pytest.mark.parametrize("name", HOOKS)
def test_base_class_gives_no_id(engine: Engine, name: str) -> None:
    """An override may call the hook of the base class, which has no id for anything."""
    assert getattr(engine.Pickler(None), name)(object()) is None


class TestPersistentId:
    @pytest.mark.parametrize("name", [name for name in ZOO if name not in OLD_STYLE and not name.startswith(ATOMIC)])
    def test_asked_for_everything(self, engine: Engine, name: str) -> None:
        """`persistent_id` is asked for every object, part of a reduction or not, in the order of the standard's."""
        obj = ZOO[name]()

        def asker(asked: list[str]) -> Any:
            def persistent_id(obj: Any) -> None:
                asked.append(type(obj).__name__)

            return persistent_id

        for protocol in PROTOCOLS:
            expected: list[str] = []
            standard = type("Pickler", (pickle.Pickler,), {"persistent_id": staticmethod(asker(expected))})
            file = io.BytesIO()
            try:
                standard(file, protocol).dump(obj)
            except TypeError:
                continue
            asked: list[str] = []
            data = engine.dumps(obj, protocol, persistent_id=asker(asked))
            assert asked == expected, protocol
            assert data == file.getvalue(), protocol

    def test_atoms_by_id(self, engine: Engine) -> None:
        """Any object at all may be replaced by an id, atoms and keys too."""
        value = [None, True, 1, 1.5, "s", b"b", (), {"key": "value"}, len, int]
        for protocol in BINARY:
            for chosen in [*value[:6], "key", "value", len, int]:
                hook = lambda obj, chosen=chosen: ("id",) if obj is chosen else None  # noqa: E731
                data = engine.dumps(value, protocol, persistent_id=hook)
                assert data == self.standard(value, protocol, hook)
                assert engine.references(data) == [("id",)] * len(engine.references(data))
                assert engine.loads(data, persistent_load=lambda pid, chosen=chosen: chosen) == value

    @staticmethod
    def standard(obj: Any, protocol: int, hook: Any) -> bytes:
        """What the standard C pickler writes with this hook."""
        file = io.BytesIO()
        type("Pickler", (pickle.Pickler,), {"persistent_id": staticmethod(hook)})(file, protocol).dump(obj)
        return file.getvalue()

    @pytest.mark.parametrize("kind", [list, dict, tuple, set, Plain, str, type])
    def test_bytes_with_ids(self, engine: Engine, kind: type) -> None:
        """With ids for all objects of one kind the bytes are still the standard's."""
        for name in "shared_containers", "instance_in_itself", "subclasses", "reductions", "enums", "dataclasses":
            obj = ZOO[name]()
            for protocol in BINARY:
                hook = lambda obj: f"id {kind.__name__}" if type(obj) is kind else None  # noqa: E731
                expected = self.standard(obj, protocol, hook)
                assert engine.dumps(obj, protocol, persistent_id=hook) == expected

    def test_asked_before_the_memo(self, engine: Engine) -> None:
        """An object is asked for at each occurrence, also when the pickler has written it before."""
        items: list[int] = []
        answers = iter([None, None, "id", None])
        data = engine.dumps([items, items, items], 2, persistent_id=lambda obj: next(answers))
        loaded = engine.loads(data, persistent_load=lambda pid: "loaded")
        assert loaded == [[], "loaded", []]
        assert loaded[0] is loaded[2]

    @pytest.mark.parametrize("pid", ["", 0, False, (), 0.0, b"", []], ids=repr)
    def test_false_ids_are_ids(self, engine: Engine, pid: Any) -> None:
        """Only None says that there is no id."""
        for protocol in BINARY:
            data = engine.dumps([1], protocol, persistent_id=lambda obj: pid if obj == 1 else None)
            if pid != b"" or protocol >= 3:  # before, bytes were what a function returns
                assert engine.references(data) == [pid]
            assert engine.loads(data, persistent_load=lambda got: ("got", got)) == [("got", pid)]


IDS = [
    "text", "h\xe4\n", "", 7, -1, 2**70, 1.5, b"bytes", None.__class__, True, ("oid", 7), ("nested", (1, [2])), [1, 2],
    {"k": 1}, {1, 2}, frozenset([3]), bytearray(b"ba"), Plain(name="id"), 1j, Int(3), Str("sub"), Outer.Inner,
]  # fmt: skip


class TestIds:
    @pytest.mark.parametrize("pid", IDS, ids=lambda pid: f"{type(pid).__name__} {pid!s:.10}")
    def test_any_object_from_protocol_1_on(self, engine: Engine, pid: Any) -> None:
        """An id is any object but None, and reaches `persistent_load` as a copy of itself."""
        one = Slotted(1)

        def hook(obj: Any) -> Any:
            return pid if obj is one else None

        for protocol in BINARY:
            data = engine.dumps([one, "between", one], protocol, inst_persistent_id=hook)
            assert data == TestPersistentId.standard([one, "between", one], protocol, hook)
            got = []
            assert engine.loads(data, persistent_load=lambda pid, got=got: got.append(pid)) == [None, "between", None]
            assert_alike([pid, pid], got)

    def test_ids_are_memoised(self, engine: Engine) -> None:
        """One object as the id of many is written once, and one object when loaded."""
        pid = ("oid", 7)
        items = [Plain() for _ in range(5)]
        for protocol in BINARY:
            data = engine.dumps(items, protocol, inst_persistent_id=lambda obj: pid)
            assert data.count(b"oid") == 1
            got = engine.references(data)
            assert got == [pid] * 5
            assert len(set(map(id, got))) == 1

    def test_parts_of_an_id_are_asked_for(self, engine: Engine) -> None:
        """An id is never asked for an id of itself; what it is made of is asked for, as the standard does."""
        one, two = Plain(name="one"), Plain(name="two")
        outer = ("outer", two)
        asked = []

        def hook(obj: Any) -> Any:
            asked.append(obj)
            return {id(one): outer, id(two): "inner"}.get(id(obj))

        for protocol in BINARY:
            asked.clear()
            data = engine.dumps(one, protocol, persistent_id=hook)
            assert [obj for obj in asked if obj is outer] == []
            assert asked == [one, "outer", two]
            assert data == TestPersistentId.standard(one, protocol, hook)
            got = []
            engine.loads(data, persistent_load=lambda pid, got=got: (got.append(pid), f"for {pid}")[1])
            assert got == ["inner", ("outer", "for inner")]

    def test_ids_without_end(self, engine: Engine) -> None:
        """An id that contains what has an id, and so on for ever, is an error and doesn't fill the memory."""
        calls = [0]

        def hook(obj: Any) -> Any:
            calls[0] += 1
            assert calls[0] < 100_000, "asked for ever"
            return ("id of a str", len(obj)) if type(obj) is str else None

        for protocol in BINARY:
            with pytest.raises((RecursionError, pickle.PicklingError)):
                engine.dumps("text", protocol, persistent_id=hook)

    def test_id_that_is_the_object(self, engine: Engine) -> None:
        """An object may be its own id: it is written once, and handed to `persistent_load`."""
        for protocol in BINARY:
            for obj in "text", ("t", 1), [1], Plain(name="x"), len:
                hook = lambda asked, obj=obj: obj if asked is obj else None  # noqa: E731
                data = engine.dumps(obj, protocol, persistent_id=hook)
                assert data == TestPersistentId.standard(obj, protocol, hook)
                assert_alike(obj, engine.loads(data, persistent_load=lambda pid: pid))

    @pytest.mark.parametrize("pid", ["plain", "", " spaces ", "~!\"'\\x", "1", "a" * 1000])
    def test_printable_text_in_protocol_0(self, engine: Engine, pid: str) -> None:
        """Protocol 0 takes printable ASCII text, and gives it back as it was."""
        for hook in HOOKS[:2]:
            data = engine.dumps([Plain()], 0, **{hook: lambda obj: pid if type(obj) is Plain else None})
            assert data.isascii()
            assert engine.references(data) == [pid]
            assert engine.loads(data, persistent_load=lambda got: got) == [pid]

    @pytest.mark.parametrize(
        "pid", [7, b"bytes", ("t",), 1.5, True, "h\xe4", "two\nlines", "a\rb", "\0", "\x7f", "\t", "\udc80"], ids=repr
    )
    def test_other_ids_are_refused_in_protocol_0(self, engine: Engine, pid: Any) -> None:
        """Protocol 0 has a line of text for an id: what doesn't fit is an error that says so, from each kind of hook."""
        one = Plain()
        table = {"persistent_ids": {id(one): pid}}
        hooks = [{hook: lambda obj: pid if obj is one else None} for hook in HOOKS[:2]]
        for keywords in *hooks, table:
            with pytest.raises(pickle.PicklingError, match=r"protocol 0.*ASCII|ASCII.*protocol 0"):
                engine.dumps([1, one], 0, **keywords)


class TestInstPersistentId:
    def test_not_asked_for_what_is_built_in(self, engine: Engine) -> None:
        """Asked for nothing that the pickler knows by itself: atoms, containers, functions, classes of any metaclass."""
        known: list[Any] = [
            *(
                None,
                True,
                False,
                1,
                2**70,
                1.5,
                "s",
                b"b",
                bytearray(b"ba"),
                (),
                (1,),
                (1, 2, 3, 4),
                [],
                [[1]],
                {},
                {1: 2},
            ),
            *(
                set(),
                {1},
                frozenset(),
                frozenset([1]),
                function,
                len,
                Plain,
                int,
                WithMeta,
                Outer.Inner,
                type,
                type(None),
            ),
        ]

        def hook(obj: Any) -> Any:
            raise AssertionError(obj)

        for protocol in PROTOCOLS:
            data = engine.dumps(known, protocol, inst_persistent_id=hook)
            assert data == standard_dumps(known, protocol)
        buffered = engine.dumps(pickle.PickleBuffer(b"x"), 5, inst_persistent_id=hook)
        assert engine.loads(buffered) == b"x"

    def test_asked_for_everything_else(self, engine: Engine) -> None:
        """Asked for instances of any class, subclasses of builtins among them, and whatever else needs a reduction."""
        others: list[Any] = [
            Plain(),
            Slotted(1),
            State(1),
            Int(1),
            Str("s"),
            List(),
            Dict(),
            Tuple(),
            Set(),
            Error("m", 1),
        ]
        others += [1j, range(3), Outer().method, collections.deque(), object(), Reduce2(), Old(1, 2)]
        for protocol in BINARY:
            asked: list[Any] = []

            def hook(obj: Any, asked: list[Any] = asked) -> Any:
                asked.append(obj)
                return len(asked)

            data = engine.dumps([*others, [1]], protocol, inst_persistent_id=hook)
            assert list(map(id, asked)) == list(map(id, others))
            assert engine.references(data) == list(range(1, len(others) + 1))

    def test_asked_once_for_what_is_memoised(self, engine: Engine) -> None:
        """Where there is no id the object is written, and a second occurrence refers to it without asking."""
        one, two = Plain(), Plain()
        asked: list[Any] = []

        def hook(obj: Any) -> Any:
            asked.append(obj)
            return "two" if obj is two else None

        data = engine.dumps([one, two, one, two], 2, inst_persistent_id=hook)
        assert asked == [one, two, two]
        assert engine.references(data) == ["two", "two"]

    def test_asked_for_parts_of_reductions(self, engine: Engine) -> None:
        """Instances in states, arguments and items are asked for, however deep; the states themselves aren't."""
        inner = [Plain(name=i) for i in range(6)]
        new_args = NewArgsEx(inner[0], keyword=inner[1])
        value = [Plain(a=inner[2]), State(inner[3]), List([inner[4]]), Dict(k=inner[5]), new_args]
        for protocol in range(2, 6):
            data = engine.dumps(value, protocol, inst_persistent_id=lambda obj: obj.name if obj in inner else None)
            assert set(engine.references(data)) == {*range(6)}
            loaded = engine.loads(data, persistent_load=inner.__getitem__)
            assert loaded[0].a is inner[2]
            assert (loaded[4].positional, loaded[4].keyword) == (inner[0], inner[1])


class TestGlobalPersistentId:
    def test_asked_for_what_is_written_by_name(self, engine: Engine) -> None:
        """Asked for classes and functions wherever they stand, and for nothing else."""
        value = [Plain, function, len, Outer.Inner, 1, "s", [], WithMeta]
        asked: list[Any] = []
        for protocol in PROTOCOLS:
            asked.clear()
            data = engine.dumps(value, protocol, global_persistent_id=asked.append)
            assert asked == [Plain, function, len, Outer.Inner, WithMeta] or protocol < 4
            assert [obj for obj in asked if obj in (1, "s", [])] == []
            assert data == standard_dumps(value, protocol)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_class_of_an_instance(self, engine: Engine, protocol: int) -> None:
        """The class that an instance is written with may be an id: no name of it is left in the stream."""
        known = {kind.__name__: kind for kind in (Plain, Slotted, State, NewArgsEx, Old, List, Reduce2, Error)}
        values = [Plain(a=1), State(2), Old(1, 2), List([3]), Error("m", 4)]
        if protocol >= 2:
            values.append(Slotted(1))
        if protocol >= 4:  # before, `__new__` is found by its way through a module, of which the class is but a step
            values.append(NewArgsEx(1, keyword=2))

        def hook(obj: Any) -> str | None:
            return obj.__name__ if obj in known.values() else None

        data = engine.dumps(values, protocol, global_persistent_id=hook)
        named = {(module, name) for module, name in engine.globals(data)}
        assert not {module for module, _ in named} & {Plain.__module__}
        assert set(engine.references(data)) == {type(value).__name__ for value in values}
        assert_alike(values, engine.loads(data, persistent_load=known.__getitem__))

    def test_asked_at_each_occurrence_that_has_an_id(self, engine: Engine) -> None:
        """Where there is an id it is written each time; a class written by name is in the memo, and not asked for again."""
        asked: list[Any] = []

        def hook(obj: Any) -> Any:
            asked.append(obj)
            return "plain" if obj is Plain else None

        data = engine.dumps([Plain(), Plain(), Slotted(1), Slotted(2), Plain], 2, global_persistent_id=hook)
        assert asked == [Plain, Plain, Slotted, Plain]
        assert engine.references(data) == ["plain"] * 3


class TestPersistentIds:
    def test_any_object_but_atoms(self, engine: Engine) -> None:
        """The identity table counts for containers, tuples, functions, classes and instances: all but plain atoms."""
        kinds: list[Any] = [
            [1],
            {1: 2},
            (1, 2),
            {3},
            frozenset([4]),
            bytearray(b"x"),
            function,
            len,
            Plain,
            Plain(),
            1j,
            List(),
        ]
        for protocol in BINARY:
            for number, obj in enumerate(kinds):
                data = engine.dumps([kinds], protocol, persistent_ids={id(obj): number})
                assert engine.references(data) == [number] * len(engine.references(data)) != []
                loaded = engine.loads(data, persistent_load=kinds.__getitem__)
                assert loaded[0][number] is obj

    def test_not_consulted_for_atoms(self, engine: Engine) -> None:
        """None, bools, numbers, text and bytes have no identity that counts."""
        atoms = [None, True, False, 5, 2**70, 1.5, "text", b"bytes"]
        table = {id(atom): "wrong" for atom in atoms}
        for protocol in PROTOCOLS:
            assert engine.dumps(atoms, protocol, persistent_ids=table) == engine.dumps(atoms, protocol)

    def test_root(self, engine: Engine) -> None:
        """The object that is dumped may be in the table, and the stream then is nothing but its id."""
        one = Plain()
        for protocol in PROTOCOLS:
            data = engine.dumps(one, protocol, persistent_ids={id(one): "id"})
            assert engine.references(data) == ["id"]
            assert engine.globals(data) == []

    def test_every_occurrence(self, engine: Engine) -> None:
        """An object in the table is never memoised, and whatever is only reached through it isn't written."""
        hidden = Plain(secret="hidden")
        one = Plain(hidden=hidden)
        data = engine.dumps([one, {"k": (one, one)}], 4, persistent_ids={id(one): 1})
        assert engine.references(data) == [1, 1, 1]
        assert b"hidden" not in data

    def test_any_mapping(self, engine: Engine) -> None:
        """The table may be any mapping, filled while the pickler is in use, and replaced between dumps."""
        one, two = Plain(), Plain()
        table = collections.ChainMap({}, {id(one): 1})
        pickler = engine.Pickler(None, 4, persistent_ids=table)
        assert engine.references(pickler.dumps([one, two])) == [1]
        table[id(two)] = 2
        pickler.clear_memo()
        assert engine.references(pickler.dumps([one, two])) == [1, 2]
        pickler.persistent_ids = {id(two): 3}
        pickler.clear_memo()
        assert engine.references(pickler.dumps([one, two])) == [3]
        pickler.persistent_ids = None
        pickler.clear_memo()
        assert engine.references(pickler.dumps([one, two])) == []

    def test_filled_by_a_hook(self, engine: Engine) -> None:
        """An entry that another hook makes in the middle of a dump counts from there on."""
        one, two = Plain(), Plain()
        table: dict[int, Any] = {}

        def hook(obj: Any) -> None:
            if obj is one:
                table[id(two)] = "two"

        data = engine.dumps([two, one, two], 4, inst_persistent_id=hook, persistent_ids=table)
        assert engine.references(data) == ["two"]

    def test_bytes_are_those_of_the_method(self, engine: Engine) -> None:
        """The table writes what a `persistent_id` that gives the same ids writes."""
        for name in "shared_containers", "instance_in_itself", "plains", "nested_instances":
            obj = ZOO[name]()
            chosen = obj[0] if isinstance(obj, list) else obj.items
            for pid in 7, "text", ("t", 1), Plain(of="id"):
                for protocol in BINARY:
                    data = engine.dumps(obj, protocol, persistent_ids={id(chosen): pid})
                    hook = lambda obj, chosen=chosen, pid=pid: pid if obj is chosen else None  # noqa: E731
                    assert data == TestPersistentId.standard(obj, protocol, hook)


class TestOrder:
    def test_persistent_id_first(self, engine: Engine) -> None:
        """`persistent_id` comes before the table, the table before `inst_persistent_id` and `global_persistent_id`."""
        one, two, three, four = (Plain(name=i) for i in range(4))
        data = engine.dumps(
            [one, two, three, four, Slotted],
            4,
            persistent_id=lambda obj: "first" if obj is one else None,
            persistent_ids={id(one): "wrong", id(two): "second", id(Slotted): "third"},
            inst_persistent_id=lambda obj: {one: "wrong", two: "wrong", three: "third", four: None}[obj],
            global_persistent_id=lambda obj: "wrong" if obj is Slotted else None,
        )
        assert engine.references(data) == ["first", "second", "third", "third"]

    def test_ids_before_reductions(self, engine: Engine) -> None:
        """What has an id isn't taken apart: neither `reducer_override` nor `__reduce__` is called for it."""
        called = []

        class Loud(Plain):
            def __reduce_ex__(self, protocol: Any) -> Any:
                called.append(self)
                return Plain, ()

        class Pickler(engine.Pickler):
            def reducer_override(self, obj: Any) -> Any:
                called.append(obj)
                return NotImplemented

        one = Loud()
        for hook in HOOKS[:2]:
            Pickler(None, 4, **{hook: lambda obj: "id" if obj is one else None}).dumps([one])
        Pickler(None, 4, persistent_ids={id(one): "id"}).dumps([one])
        assert called == []
        Pickler(None, 4, inst_persistent_id=lambda obj: None).dumps([one])
        assert called == [one, one, Plain]

    def test_all_hooks_at_once(self, engine: Engine) -> None:
        """Each hook is asked in its turn, and only when the ones before it had no id."""
        log: list[Any] = []
        one = Plain()

        class Table(dict):
            def get(self, key: int, default: Any = None) -> Any:
                log.append(("table", key == id(one)))
                return default

            __getitem__ = __contains__ = None

        def hook(name: str) -> Any:
            return lambda obj: log.append((name, obj is one))

        engine.dumps(
            one,
            2,
            persistent_id=hook("persistent"),
            persistent_ids=collections.ChainMap({}),
            inst_persistent_id=hook("inst"),
            global_persistent_id=hook("global"),
        )
        assert [entry for entry in log if entry[1]] == [("persistent", True), ("inst", True)]
        assert ("global", False) in log
        assert log.count(("inst", False)) == 0


class TestFailingHooks:
    @pytest.mark.parametrize("name", HOOKS)
    def test_exceptions_pass_through(self, engine: Engine, name: str) -> None:
        """What a hook raises comes out as it is, even a KeyboardInterrupt, and the pickler is as good as new."""
        for error in (
            ValueError("mine"),
            KeyError("k"),
            pickle.PicklingError("own"),
            KeyboardInterrupt(),
            StopIteration(),
        ):

            def hook(obj: Any, error: BaseException = error) -> None:
                if obj is Plain or isinstance(obj, Plain):
                    raise error

            pickler, file = engine.pickler(4)
            setattr(pickler, name, hook)
            with pytest.raises(type(error)) as caught:
                pickler.dump(["before", Plain()])
            assert caught.value is error
            delattr(pickler, name)
            pickler.clear_memo()
            assert pickler.dumps(["after"]) == engine.dumps(["after"], 4)
            file.seek(0)
            file.truncate()
            pickler.clear_memo()
            pickler.dump(["after"])
            assert file.getvalue() == engine.dumps(["after"], 4)

    def test_error_in_an_id(self, engine: Engine) -> None:
        """An id that can't be pickled is an error, with the way to the object that has it."""
        with pytest.raises(pickle.PicklingError, match=r"^root\[1\]"):
            engine.dumps([1, Plain()], 2, inst_persistent_id=lambda obj: lambda: None)


CHANGES = [
    lambda items: items.clear(),
    lambda items: items.popitem() if isinstance(items, dict) else items.pop(),
    lambda items: items.update({7: 7}),
]


class TestMutatingHooks:
    def test_list(self, engine: Engine) -> None:
        """A list that a hook cuts or lengthens while it is written gives a stream that can be loaded."""
        for protocol in PROTOCOLS:
            for change in (list.clear, list.pop, list.reverse, lambda items: items.extend([7] * 10)):
                items: list[Any] = [1, 2, 3, "change", 4, 5, 6]
                done: list[Any] = []

                def hook(obj: Any, items: Any = items, done: Any = done, change: Any = change) -> None:
                    if obj == "change" and not done:
                        done.append(change(items))

                data = engine.dumps([items], protocol, persistent_id=hook)
                (loaded,) = pickle.loads(data)
                assert loaded[:3] == [1, 2, 3]
                pickletools.dis(data, io.StringIO())

    def test_dict_and_set(self, engine: Engine) -> None:
        """A dict or set that changes size while it is written is a RuntimeError, or else the stream can be loaded."""
        for protocol in PROTOCOLS:
            for make in dict.fromkeys, set, Dict.fromkeys, Set:
                for change in CHANGES:
                    items = make(["a", "b", "change", "c"])
                    done: list[Any] = []

                    def hook(obj: Any, items: Any = items, done: Any = done, change: Any = change) -> None:
                        if obj == "change" and not done:
                            done.append(1)
                            change(items)

                    try:
                        data = engine.dumps([items], protocol, persistent_id=hook)
                    except RuntimeError as error:
                        assert "changed size" in str(error) or "during iteration" in str(error)  # noqa: PT017
                    else:
                        (loaded,) = pickle.loads(data)
                        assert type(loaded) is type(items)

    def test_instance(self, engine: Engine) -> None:
        """A hook may change the instance that it is asked for: its state is taken afterwards."""
        one = Plain(a=1)
        data = engine.dumps(one, 4, inst_persistent_id=lambda obj: setattr(obj, "b", 2))
        assert vars(engine.loads(data)) == {"a": 1, "b": 2}

    def test_objects_made_by_a_reduction_are_kept(self, engine: Engine) -> None:
        """Temporaries that live only while they are written don't lend their address to another's memo entry."""

        class Fresh:
            def __reduce__(self) -> Any:
                return list, ([object.__new__(Plain)],), None, iter([[i] for i in range(5)])

        for protocol in PROTOCOLS:
            loaded = engine.loads(engine.dumps([Fresh() for _ in range(50)], protocol))
            inner = [item for one in loaded for item in one]
            assert len(set(map(id, inner))) == len(inner) == 50 * 6
            assert all(one[1:] == [[i] for i in range(5)] for one in loaded)
