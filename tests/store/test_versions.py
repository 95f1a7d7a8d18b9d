"""Classes that change: states of older versions, what is migrated and when, and that reading them is no change."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pstore
from pstore import declare, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from conftest import Place

    Program = Callable[..., ModuleType]

PERSON_1 = """
import pstore

@pstore.persistent
class Person:
    def __init__(self, name, mail):
        self.name, self.mail = name, mail
"""
PERSON_2 = """
import pstore

CALLS = []

def migrate(state, version):
    CALLS.append((dict(state), version))
    return {"name": state["name"], "mails": [state["mail"]]}

@pstore.persistent(version=2, migrate=migrate)
class Person:
    def __init__(self, name, mails):
        self.name, self.mails = name, mails
"""


def codes(place: Place) -> dict[int, tuple[str, int]]:
    """Return the name and version of each class code."""
    found = {key: row for key, row in place.records().items() if not key & (1 << 44) - 1}
    names = {key: rows.unpack_class(rows.unseal(rows.record_place(key), row).body) for key, row in found.items()}
    return {key >> 44: (str(name), name.version) for key, name in names.items()}


def stored_version(place: Place, key: int) -> int:
    """Return the version that a record says its state to have."""
    return codes(place)[rows.unseal(rows.record_place(key), place.records()[key]).code][1]


# ------------------------------------------------------------------------------------------------------ __setstate__


def test_setstate_takes_older_states(place: Place, program: Program) -> None:
    """A class that gained, lost and renamed attributes loads old states by its `__setstate__`, beside new ones."""
    old = program("""
        import pstore
        @pstore.persistent
        class Point:
            def __init__(self, x, y): self.x, self.y, self.color = x, y, "red"
    """)
    with place.open() as db:
        db["old"] = old.Point(1, 2)
        db["both"] = [db["old"]]
    new = program("""
        import pstore
        @pstore.persistent
        class Point:
            def __init__(self, x, y): self.at, self.weight = (x, y), 1
            def __setstate__(self, state):
                if "at" not in state:
                    state = {"at": (state["x"], state["y"]), "weight": 0}
                vars(self).update(state)
    """)
    with place.open() as db:
        db["new"] = new.Point(3, 4)
        db["both"].append(db["new"])
    with place.open() as db:
        assert [vars(point) for point in db["both"]] == [{"at": (1, 2), "weight": 0}, {"at": (3, 4), "weight": 1}]
        assert db["both"][0] is db["old"]
        assert db.changed() == []
        assert db.commit().keys == ()
        db["old"].weight = 5
        assert [db.label(key) for key in db.commit().keys] == ["Point#2"]
    with place.open() as db:
        assert vars(db["old"]) == {"at": (1, 2), "weight": 5}


# ---------------------------------------------------------------------------------------------------------- migrate


def test_migration(place: Place, program: Program) -> None:
    """A state of an older version is migrated at load, written in the new version when the object changes, and not before."""
    old = program(PERSON_1)
    with place.open() as db:
        db["ann"], db["bob"] = old.Person("Ann", "a@x"), old.Person("Bob", "b@x")
        db.commit()
        key = db.key_of(db["ann"])
    before = place.records()
    new = program(PERSON_2)
    with place.open() as db:
        assert vars(db["ann"]) == {"name": "Ann", "mails": ["a@x"]}
        assert new.CALLS == [({"name": "Ann", "mail": "a@x"}, 1)]
        assert db.changed() == []
        assert db.commit().keys == ()
        assert db["ann"].mails == ["a@x"]
        assert len(new.CALLS) == 1
        assert place.records() == before
        db["ann"].mails.append("c@x")
        assert db.changed() == [db["ann"]]
        assert db.commit().keys == (key,)
        assert (stored_version(place, key), len(new.CALLS)) == (2, 1)
    with place.open() as db:
        assert db["ann"].mails == ["a@x", "c@x"]
        assert len(new.CALLS) == 1
        assert db["bob"].mails == ["b@x"]
        assert new.CALLS[1:] == [({"name": "Bob", "mail": "b@x"}, 1)]


def test_migration_is_told_the_version(place: Place, program: Program) -> None:
    """Old, older and new records stand side by side, each migrated from the version that it was written with."""
    source = """
        import pstore
        @pstore.persistent(version={0}, migrate=lambda state, version: {{**state, "was": version}})
        class Thing: pass
    """
    for version in 1, 2, 7:
        module = program(source.format(version))
        with place.open() as db:
            thing = db[f"v{version}"] = module.Thing()
            thing.made = version
    with place.open() as db:
        assert [(db[name].made, vars(db[name]).get("was")) for name in db] == [(1, 1), (2, 2), (7, None)]
        assert db.changed() == []
    assert [version for name, version in codes(place).values() if name == "models.Thing"] == [1, 2, 7]


STATES: dict[str, tuple[str, str, Any]] = {
    "dict": ("pass", "obj.x = 1", {"x": 1}),
    "none": ("pass", "pass", None),
    "slots": ("__slots__ = ('x',)", "obj.x = 1", (None, {"x": 1})),
    "both": ("__slots__ = ('x', '__dict__')", "obj.x = 1; obj.y = 2", ({"y": 2}, {"x": 1})),
    "own": ("__getstate__ = lambda self: 'text'\n    __setstate__ = lambda self, state: None", "pass", "text"),
}


@pytest.mark.parametrize("body, fill, stored", STATES.values(), ids=STATES)
def test_migration_gets_what_was_stored(body: str, fill: str, stored: Any, place: Place, program: Program) -> None:
    """The state is a dict, None, a pair with the attributes in slots, or whatever `__getstate__` returned."""
    source = f"import pstore\nclass Thing:\n    {body}\ndef make():\n    obj = Thing(); {fill}; return obj\n"
    old = program(source + "pstore.persistent(Thing)\n")
    with place.open() as db:
        db["a"] = old.make()
    new = program("""
        import pstore
        SEEN = []
        class Thing: pass
        def migrate(state, version):
            SEEN.append(state)
            return {"seen": repr(state)}
        pstore.persistent(Thing, version=2, migrate=migrate)
    """)
    with place.open() as db:
        assert db["a"].seen == repr(stored)
        assert [stored] == new.SEEN


def test_migration_to_slots_and_setstate(place: Place, program: Program) -> None:
    """What it returns goes where any state goes: to `__setstate__`, or to attributes and slots."""
    old = program(PERSON_1)
    with place.open() as db:
        db["a"] = old.Person("Ann", "a@x")
    program("""
        import pstore
        @pstore.persistent(version=2, migrate=lambda state, version: (None, {"name": state["name"]}))
        class Person:
            __slots__ = ("name",)
    """)
    with place.open() as db:
        assert db["a"].name == "Ann"
        assert db.changed() == []
    program("""
        import pstore
        @pstore.persistent(version=3, migrate=lambda state, version: [state["name"], version])
        class Person:
            def __getstate__(self): return self.parts
            def __setstate__(self, state): self.parts = state
    """)
    with place.open() as db:
        assert db["a"].parts == ["Ann", 1]
        assert db.changed() == []


def test_without_migrate(place: Place, program: Program) -> None:
    """The old state goes to the class as it is; the record is of the new version when it has changed."""
    old = program(PERSON_1)
    with place.open() as db:
        db["a"] = old.Person("Ann", "a@x")
        db.commit()
        key = db.key_of(db["a"])
    program("import pstore\n@pstore.persistent(version=3)\nclass Person: pass")
    with place.open() as db:
        assert db["a"].mail == "a@x"
        assert db.commit().keys == ()
        assert stored_version(place, key) == 1
        db["a"].mail = "b@x"
        db.commit()
        assert stored_version(place, key) == 3


def test_migration_that_forgets_to_return(place: Place, program: Program) -> None:
    """A migration that returns None for attributes would lose them all: that is an error, and the record stays."""
    old = program(PERSON_1)
    with place.open() as db:
        db["a"] = old.Person("Ann", "a@x")
    program("""
        import pstore
        @pstore.persistent(version=2, migrate=lambda state, version: state.update(mails=[]))
        class Person: pass
    """)
    with place.open() as db, pytest.raises(TypeError, match=r"returned None for a state of version 1.*\{\} for one"):
        _ = db["a"].mails
    program("import pstore\n@pstore.persistent(version=2, migrate=lambda state, version: {})\nclass Person: pass")
    with place.open() as db:
        assert vars(db["a"]) == {}


def test_migration_that_fails(place: Place, program: Program) -> None:
    """Its error comes through, with a note of which record it was; the next touch tries again."""
    old = program(PERSON_1)
    with place.open() as db:
        db["a"] = old.Person("Ann", "a@x")
    new = program("""
        import pstore
        FAIL = [True]
        def migrate(state, version):
            if FAIL: raise LookupError("mine")
            return state
        @pstore.persistent(version=2, migrate=migrate)
        class Person: pass
    """)
    with place.open() as db:
        with pytest.raises(LookupError, match="mine") as caught:
            _ = db["a"].name
        if sys.version_info >= (3, 11):
            assert "Person#1" in str(caught.value.__notes__)
        new.FAIL.clear()
        assert db["a"].name == "Ann"


def test_migration_may_look_around(place: Place, program: Program) -> None:
    """A migration may touch what its state refers to, of older versions too."""
    source = """
        import pstore
        @pstore.persistent{0}
        class Node: pass
    """
    old = program(source.format(""))
    with place.open() as db:
        last = None
        for number in range(5):
            node = old.Node()
            node.number, node.following = number, last
            last = node
        db["first"] = last
    new = program(
        "def migrate(state, version):\n"
        "    following = state['following']\n"
        "    return {**state, 'length': 1 + (following.length if following else 0)}\n"
        + source.replace("    ", "").format("(version=2, migrate=migrate)")
    )
    with place.open() as db:
        assert db["first"].length == 5
        assert [node.length for node in db.instances(new.Node)] == [5, 4, 3, 2, 1]
        assert db.changed() == []


CONSTRUCTED = {
    "list": ("class Thing(list): pass", "Thing([1, [2]])", "[list(obj), obj.x]", [[1, [2]], "new"]),
    "dict": ("class Thing(dict): pass", "Thing(a=1)", "[dict(obj), obj.x]", [{"a": 1}, "new"]),
    "reduce": (
        (
            "class Thing:\n    def __init__(self, *args): self.args = args\n"
            "    def __reduce__(self): return Thing, self.args, vars(self)"
        ),
        "Thing(1, 2)",
        "[obj.args, obj.x]",
        [(1, 2), "new"],
    ),
    "new": (
        "class Thing:\n    def __new__(cls, a): return super().__new__(cls)\n    def __getnewargs__(self): return (1,)",
        "Thing(1)",
        "[obj.x]",
        ["new"],
    ),
}


@pytest.mark.parametrize("case", CONSTRUCTED)
def test_migration_of_constructed_objects(case: str, place: Place, program: Program) -> None:
    """What a constructor has made gets a migrated state; its arguments and its items are as they were stored."""
    body, make, shown, expected = CONSTRUCTED[case]
    old = program(f"import pstore\n{body}\npstore.persistent(Thing)\nmade = {make}\nmade.x = 'old'\n")
    with place.open() as db:
        db["a"] = old.made
        db["in"] = [old.made]
    new = program(
        f"import pstore\n{body}\nCALLS = []\n"
        "def migrate(state, version):\n    CALLS.append(version)\n    return {**state, 'x': 'new'}\n"
        "pstore.persistent(Thing, version=2, migrate=migrate)\n"
        f"def show(obj): return {shown}\n"
    )
    with place.open() as db:
        assert new.show(db["in"][0]) == expected
        assert db["in"][0] is db["a"]
        assert new.CALLS == [1]
        assert db.changed() == []
        assert db.commit().keys == ()
        db["a"].x = "changed"
        db.rollback()
        assert new.show(db["a"]) == expected
        db["a"].x = "changed"
        assert len(db.commit().keys) == 1
    with place.open() as db:
        assert db["a"].x == "changed"


def test_migration_of_a_class_that_has_got_no_state_yet(place: Place, program: Program) -> None:
    """A constructed object that had no state gets the one that the migration gives."""
    old = program("import pstore\n@pstore.persistent\nclass Thing(list): pass\n")
    with place.open() as db:
        db["a"] = old.Thing([1])
    program("""
        import pstore
        @pstore.persistent(version=2, migrate=lambda state, version: {**(state or {}), "x": version})
        class Thing(list): pass
    """)
    with place.open() as db:
        assert (db["a"], db["a"].x) == ([1], 1)
        assert db.changed() == []


@pytest.mark.parametrize("gains", [True, False])
def test_class_that_gains_or_loses_a_constructor(gains: bool, place: Place, program: Program) -> None:
    """Its records are of the other kind then; they load, are migrated, and aren't changed by that."""
    plain, made = "", "def __new__(cls, *args): return super().__new__(cls)"
    before, after = (plain, made) if gains else (made, plain)
    source = "import pstore\nclass Thing:\n    x = 0\n    {0}\npstore.persistent(Thing{1})\n"
    old = program(source.format(before, ""))
    with place.open() as db:
        db["a"] = old.Thing()
        db["a"].x = 1
        db["in"] = [db["a"]]
    migrate = ", version=2, migrate=lambda state, version: {'x': state['x'] + 1}"
    program(source.format(after, migrate))
    with place.open() as db:
        assert db["in"][0].x == 2
        assert db["in"][0] is db["a"]
        assert db.changed() == []
        assert db.commit().keys == ()
        db["a"].x += 1
    with place.open() as db:
        assert db["a"].x == 3


def test_rollback_of_a_migrated_object(place: Place, program: Program) -> None:
    """It is what it was when it was loaded."""
    old = program(PERSON_1)
    with place.open() as db:
        db["ann"] = old.Person("Ann", "a@x")
    program(PERSON_2)
    with place.open() as db:
        ann = db["ann"]
        ann.mails.append("b@x")
        db.rollback()
        assert ann.mails == ["a@x"]
        assert db.commit().keys == ()


def test_reading_older_states_writes_nothing(path: Any, program: Program) -> None:
    """A store that is only read holds no write lock, gets no class code, and can be opened with flag "r"."""
    old = program(PERSON_1)
    with pstore.open(path) as db:
        db["ann"] = old.Person("Ann", "a@x")
        db["all"] = [db["ann"], old.Person]
    new = program(PERSON_2)
    with pstore.open(path, "r") as db:
        assert db["ann"].mails == ["a@x"]
        assert db["all"] == [db["ann"], new.Person]
        assert db.commit().keys == ()
        assert db.changed() == []
    before = path.read_bytes()
    with pstore.open(path) as db:
        assert db["ann"].mails == ["a@x"]
        db.commit()
        assert db.classes() == ["builtins.list", "models.Person"]
    assert path.read_bytes() == before


def test_instances_of_all_versions(place: Place, program: Program) -> None:
    """`instances` yields the objects in the order in which they got their records, whatever version they were made with."""
    expected = []
    for version in 1, 2, 1, 3:
        module = program(f"import pstore\n@pstore.persistent(version={version})\nclass Thing: pass\n")
        with place.open() as db:
            for number in range(3):
                thing = module.Thing()
                thing.number = len(expected)
                expected.append(thing.number)
                db[f"{version} {number} {thing.number}"] = thing
    with place.open() as db:
        assert [thing.number for thing in db.instances(module.Thing)] == expected
        assert all(type(thing) is module.Thing for thing in db.instances(module.Thing))
        assert db.classes() == ["models.Thing"]


def test_a_class_in_a_state_is_the_same_in_every_version(place: Place, program: Program) -> None:
    """A reference to the class itself isn't changed by a new version of it."""
    old = program(PERSON_1)
    with place.open() as db:
        db["kinds"] = [old.Person]
        db["kind"] = old.Person
        db["ann"] = old.Person("Ann", "a@x")
    new = program(PERSON_2)
    with place.open() as db:
        db["new"] = new.Person("Eve", [])
        db.commit()
        db["kinds"].append(db["new"])
        db.commit()
    with place.open() as db:
        assert db["kinds"][0] is db["kind"] is new.Person
        db["more"] = [new.Person]
        db.commit()
        assert db.changed() == []
    program(PERSON_1)
    with place.open() as db:
        assert db["kinds"][0] is db["more"][0]


# ----------------------------------------------------------------------------------------------------- newer states


@pytest.mark.parametrize("base", ["object", "list"])
def test_newer_state(base: str, place: Place, program: Program) -> None:
    """It isn't given to an older class: the object says so when touched, its neighbours load, and it stays as it is."""
    source = "import pstore\n@pstore.persistent(version={0})\nclass Thing({1}):\n    x = 0\n"
    old = program(source.format(1, base))
    with place.open() as db:
        db["changed"], db["same"] = old.Thing(), old.Thing()
        db["list"] = [db["changed"], db["same"]]
    new = program(source.format(2, base))
    with place.open() as db:
        db["changed"].x = 1
        db["made"] = new.Thing()
        db["made"].x = 2
        db["list"].append(db["made"])
    before = place.records()
    old = program(source.format(1, base))
    with place.open() as db:
        changed, same, made = db["list"]
        same.x = 5
        for thing in changed, made:
            with pytest.raises(pstore.NewerVersion, match=r"version 2.*version 1 here") as caught:
                _ = thing.x
            assert (caught.value.stored, caught.value.declared) == (2, 1)
            assert (caught.value.module, caught.value.qualname) == ("models", "Thing")
        for name in "changed", "made":
            with pytest.raises(pstore.NewerVersion):
                _ = db[name].x
        assert len(list(db.instances(old.Thing))) == 3
        db["list"].append("more")
        keys = db.commit().keys
        assert len(keys) == 2
        db.rollback()
        with pytest.raises(pstore.NewerVersion):
            _ = db["list"][0].x
    assert {key: row for key, row in place.records().items() if key not in keys} == {
        key: row for key, row in before.items() if key not in keys
    }
    program(source.format(2, base))
    with place.open() as db:
        assert [getattr(thing, "x", None) for thing in db["list"]] == [1, 5, 2, None]


def test_class_that_is_not_declared_any_more(place: Place, program: Program) -> None:
    """It counts as version 1, so states of a later version are refused with the line to write."""
    new = program(PERSON_2)
    with place.open() as db:
        db["ann"] = new.Person("Ann", [])
    program("class Person: pass")
    with (
        place.open(allow=["models"]) as db,
        pytest.raises(pstore.NewerVersion, match=r"@pstore.persistent\(version=2"),
    ):
        _ = db["ann"]


# ----------------------------------------------------------------------------------------------------- declarations


def test_forms_of_the_declaration() -> None:
    """A decorator with and without arguments, and a call; each returns the class itself."""

    class A: ...

    A.__qualname__ = "A"
    try:
        assert pstore.persistent(A) is A
        assert pstore.persistent()(A) is A
        assert pstore.persistent(version=2)(A) is A
        assert pstore.persistent(A, version=3, name="a.b.C", migrate=lambda state, version: state) is A
    finally:
        declare.withdraw(A)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"version": 0}, ValueError, "from 1 to 4294967295, not 0"),
        ({"version": -1}, ValueError, "from 1"),
        ({"version": 1 << 32}, ValueError, "4294967295, not 4294967296"),
        ({"version": True}, TypeError, "whole number, not True"),
        ({"version": 1.0}, TypeError, "whole number"),
        ({"version": "2"}, TypeError, "whole number"),
        ({"version": None}, TypeError, "whole number"),
        ({"migrate": 5}, TypeError, "migrate is a function that takes a state and its version, not 5"),
        ({"name": 5}, TypeError, "name is the dotted name"),
        ({"name": ""}, ValueError, "path of identifiers"),
        ({"name": "a..b"}, ValueError, "path of identifiers"),
        ({"name": "a b"}, ValueError, "path of identifiers"),
        ({"name": "1.b"}, ValueError, "path of identifiers"),
        ({"name": "builtins.list"}, TypeError, "taken by a type of Python's own"),
        ({"name": "collections.deque"}, TypeError, "taken by a type of Python's own"),
    ],
)
@pytest.mark.parametrize("as_call", [True, False])
def test_arguments_that_are_refused(
    arguments: dict[str, Any], error: type[Exception], text: str, as_call: bool, program: Program
) -> None:
    """They are told at the declaration; the class isn't declared."""
    cls = program("class Thing: pass").Thing
    with pytest.raises(error, match=text):
        pstore.persistent(cls, **arguments) if as_call else pstore.persistent(**arguments)(cls)
    assert not declare.is_declared(cls)


def test_greatest_version(place: Place, program: Program) -> None:
    """A version may be any number that the record of a class has room for."""
    program(PERSON_1)
    module = program(f"import pstore\n@pstore.persistent(version={2**32 - 1})\nclass Thing: pass\n")
    with place.open() as db:
        db["a"] = module.Thing()
    with place.open() as db:
        assert type(db["a"]).__name__ == "Thing"
    assert ("models.Thing", 2**32 - 1) in codes(place).values()


def test_declared_anew(program: Program) -> None:
    """A class that is defined anew takes the place of the old one, which isn't declared any more; nor is what follows it."""
    old = program(PERSON_1).Person
    new = program(PERSON_1).Person
    assert declare.is_declared(new)
    assert not declare.is_declared(old)
    pstore.persistent(new, version=2)
    assert declare.is_declared(new)
    del old, new
    gc.collect()
    for _ in range(100):
        cls = type("Other", (), {"__module__": "models"})
        assert not declare.is_declared(cls)


# ------------------------------------------------------------------------------------- what is read isn't changed


def test_defaults_of_a_setstate(place: Place, program: Program) -> None:
    """What a `__setstate__` adds is no change by itself, in a record of its own or inside another; a change to it is one."""
    source = """
        import pstore
        class Plain:
            def __init__(self): self.x = 1
        @pstore.persistent
        class Record(Plain): pass
    """
    old = program(source)
    with place.open(allow=["models"]) as db:
        db["record"], db["plain"], db["in"] = old.Record(), old.Plain(), [old.Plain(), old.Plain()]
        db["deep"] = {"a": [old.Plain()]}
    setstate = "def __setstate__(self, state): vars(self).update({'tags': [], **state})"
    new = program(source.replace("def __init__(self): self.x = 1", setstate))
    with place.open(allow=["models"]) as db:
        every = [db["record"], db["plain"], *db["in"], *db["deep"]["a"]]
        assert [thing.tags for thing in every] == [[]] * 5
        assert type(every[0]) is new.Record
        assert db.changed() == []
        assert db.commit().keys == ()
        db["in"][1].tags.append(1)
        db["record"].tags.append(2)
        assert len(db.changed()) == 2
        assert len(db.commit().keys) == 2
    with place.open(allow=["models"]) as db:
        assert [thing.tags for thing in db["in"]] == [[], [1]]
        assert db["record"].tags == [2]
        assert db.changed() == []


def test_code_of_a_class_runs_once_a_load(place: Place, program: Program) -> None:
    """A `__setstate__` or a migration isn't run again to find out whether its object has changed."""
    source = """
        import pstore
        CALLS = []
        class Base:
            def __init__(self): self.x = 1
            def __setstate__(self, state):
                CALLS.append(type(self).__name__)
                vars(self).update({{"added": [], **state}})
        @pstore.persistent{0}
        class Record(Base): pass
        class Plain(Base): pass
    """
    old = program(source.format(""))
    with place.open(allow=["models"]) as db:
        db["a"], db["b"] = old.Record(), old.Plain()
        db["all"] = [db["a"], db["b"]]
    migrate = "(version=2, migrate=lambda state, version: [CALLS.append('migrated'), state][1])"
    new = program(source.format(migrate))
    with place.open(allow=["models"]) as db:
        assert db["a"].added == db["b"].added == []
        assert db.changed() == []
        db["a"].x = db["b"].x = 2
        assert len(db.changed()) == 2
        assert len(db.commit().keys) == 2
        assert new.CALLS == ["migrated", "Record", "Plain"]


def test_change_before_the_first_comparison(place: Place, program: Program) -> None:
    """Such an object that was changed right away is changed; undoing the change by hand makes it as it was."""
    source = "import pstore\n@pstore.persistent\nclass Thing:\n    pass\n"
    old = program(source)
    with place.open() as db:
        db["a"] = old.Thing()
        db["a"].x = 1
    program(source + "    def __setstate__(self, state): vars(self).update({**state, 'y': []})\n")
    with place.open() as db:
        db["a"].x = 2
        assert db.changed() == [db["a"]]
        db["a"].x = 1
        assert db.changed() == []
        db["a"].y.append(1)
        assert len(db.commit().keys) == 1


def test_reduce_that_normalises(place: Place, program: Program) -> None:
    """An object whose `__reduce__` gives other arguments than it was made with isn't changed by being loaded."""
    source = """
        import pstore
        @pstore.persistent
        class Path:
            def __init__(self, *parts): self.parts = parts
            def __reduce__(self): return Path, {0}
    """
    old = program(source.format("('/'.join(self.parts),)"))
    with place.open() as db:
        db["a"] = old.Path("a", "b")
        db["in"] = [db["a"]]
    program(source.format("tuple('/'.join(self.parts).split('/'))"))
    with place.open() as db:
        assert db["in"][0].parts == ("a/b",)
        assert db.changed() == []
        assert db.commit().keys == ()
        db["a"].parts = ("c",)
        assert len(db.commit().keys) == 1


def test_setstate_that_shares_what_the_module_has(place: Place, program: Program) -> None:
    """A change of what a `__setstate__` hands out to all isn't taken for what loading has made: nothing is lost."""
    source = "import pstore\n@pstore.persistent\nclass Thing:\n    def __init__(self): self.x = 1\n"
    old = program(source)
    with place.open() as db:
        db["a"], db["b"] = old.Thing(), old.Thing()
    new = source + "    def __setstate__(self, state): vars(self).update({'tags': COMMON, **state})\nCOMMON = []\n"
    program(new)
    with place.open() as db:
        db["a"].tags.append("changed")
    program(new)
    with place.open() as db:
        assert db["a"].tags == ["changed"]
        assert db["b"].tags == []
        db["b"].tags.append("b")
        assert db["a"].tags == ["changed"]
    program(new)
    with place.open() as db:
        _ = db["a"].tags, db["b"].tags
        assert db["b"].tags == ["b"]


def test_one_object_for_many_loads(place: Place, program: Program) -> None:
    """Where a class answers with one object always, comparing doesn't undo what was changed in it."""
    source = """
        import pstore
        @pstore.persistent
        class One:
            only = None
            def __new__(cls):
                if cls.only is None:
                    cls.only = super().__new__(cls)
                return cls.only
    """
    module = program(source)
    with place.open() as db:
        db["one"] = module.One()
        db["one"].x = 1
    module = program(source)
    with place.open() as db:
        db["one"].x = 2
        assert db.changed() == [db["one"]]
        assert db["one"].x == 2
        assert len(db.commit().keys) == 1
    program(source)
    with place.open() as db:
        assert db["one"].x == 2


def test_attributes_in_common(place: Place, program: Program) -> None:
    """The same for a class whose `__new__` gives all its objects one `__dict__`."""
    source = """
        import pstore
        @pstore.persistent
        class Borg:
            state = {}
            def __new__(cls):
                made = super().__new__(cls)
                made.__dict__ = cls.state
                return made
    """
    module = program(source)
    with place.open() as db:
        db["one"] = module.Borg()
        db["one"].x = 1
    program(source)
    with place.open() as db:
        db["one"].x = 2
        assert len(db.changed()) == 1
        assert db["one"].x == 2
    program(source)
    with place.open() as db:
        assert db["one"].x == 2


def test_self_references(place: Place, program: Program) -> None:
    """An object that refers to itself, or is referred to by its own parts, is no other after a migration."""
    source = "import pstore\nclass Part: pass\n@pstore.persistent{0}\nclass Thing: pass\n"
    old = program(source.format(""))
    with place.open(allow=["models"]) as db:
        thing = db["a"] = old.Thing()
        thing.me, thing.part = thing, old.Part()
        thing.part.owner = thing
    program(source.format("(version=2, migrate=lambda state, version: {**state, 'also': state['me'], 'n': []})"))
    with place.open(allow=["models"]) as db:
        thing = db["a"]
        assert thing.me is thing.also is thing.part.owner is thing
        assert db.changed() == []
        thing.n.append(thing)
        assert len(db.commit().keys) == 1


def test_conflicting_sessions_and_versions(place: Place, program: Program) -> None:
    """Two sessions that write the first state of a new version, or one that did it before, agree on the class's code."""
    old = program(PERSON_1)
    with place.open() as db:
        db["ann"], db["bob"] = old.Person("Ann", "a@x"), old.Person("Bob", "b@x")
    program(PERSON_2)
    one, two = place.open(), place.open()
    one["ann"].mails.append("1")
    two["bob"].mails.append("2")
    one.commit()
    two.commit()
    assert one.changed() == two.changed() == []
    one.rollback()
    assert one["bob"].mails == ["b@x", "2"]
    assert [value for value in codes(place).values() if value[0] == "models.Person"] == [
        ("models.Person", 1),
        ("models.Person", 2),
    ]


def test_savepoint_of_a_migrated_object(place: Place, program: Program) -> None:
    """Savepoints keep what was changed in a migrated object, and going back makes it what it was at that moment."""
    old = program(PERSON_1)
    with place.open() as db:
        db["ann"], db["bob"] = old.Person("Ann", "a@x"), old.Person("Bob", "b@x")
    program(PERSON_2)
    with place.open() as db:
        assert db["bob"].mails == ["b@x"]
        before = db.savepoint()
        db["ann"].mails.append("1")
        first = db.savepoint()
        db["ann"].mails.append("2")
        db.savepoint()
        first.rollback()
        assert db["ann"].mails == ["a@x", "1"]
        before.rollback()
        assert db["ann"].mails == ["a@x"]
        db["ann"].mails.append("3")
        db.savepoint()
        assert len(db.commit().keys) == 1
        assert db.changed() == []
    with place.open() as db:
        assert (db["ann"].mails, db["bob"].mails) == (["a@x", "3"], ["b@x"])


def test_merge_of_versions(place: Place, program: Program) -> None:
    """`__merge__` gets objects of the class as it is now, of whatever version the records are."""
    source = """
        import pstore
        @pstore.persistent{0}
        class Counter:
            def __merge__(self, theirs, mine): mine.{1} = theirs.{1} + mine.{1} - self.{1}
    """
    old = program(source.format("", "n"))
    with place.open() as db:
        db["a"] = old.Counter()
        db["a"].n = 1
    program(source.format("(version=2, migrate=lambda state, version: {'count': state['n']})", "count"))
    one, two = place.open(), place.open()
    one["a"].count += 1
    two["a"].count += 10
    one.commit()
    two.commit()
    assert two["a"].count == 12
    one.rollback()
    assert one["a"].count == 12


@pytest.mark.parametrize("first", [True, False], ids=["first of its class", "first of its version"])
def test_listing_instances_and_new_codes(first: bool, place: Place, program: Program) -> None:
    """A serializable transaction that has listed a class conflicts with an object that gets a code of its own."""
    source = "import pstore\n@pstore.persistent{0}\nclass Thing: pass\n"
    module = program(source.format(""))
    with place.open() as db:
        db["n"] = 0
        if not first:
            db["old"] = module.Thing()
    module = program(source.format("(version=2)"))
    one, two = place.open(isolation="serializable"), place.open()
    one["n"] = 1 + len(list(one.instances(module.Thing)))
    two["new"] = module.Thing()
    two.commit()
    with pytest.raises(pstore.ConflictError, match="Thing#"):
        one.commit()


def test_failed_commit_of_a_new_version(place: Place, program: Program) -> None:
    """What it took for the new version is given back, and the next commit does it all."""
    old = program(PERSON_1)
    with place.open() as db:
        db["ann"] = old.Person("Ann", "a@x")
    program(PERSON_2)
    with place.open() as db:
        db["ann"].mails.append("1")
        db["bad"] = [lambda: 0]
        with pytest.raises(pstore.pickle.PicklingError):
            db.commit()
        del db["bad"]
        assert len(codes(place)) == 1
        db.commit()
    with place.open() as db:
        assert db["ann"].mails == ["a@x", "1"]
