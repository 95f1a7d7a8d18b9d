"""Classes that are renamed or moved: by a name in their declaration, and in the store itself."""

from __future__ import annotations

import contextlib
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pstore
from pstore import declare, rows
from pstore.errors import StoreBusy
from pstore.pickle.policy import ANYTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from conftest import Place

    Program = Callable[..., ModuleType]

OLD = """
import pstore
@pstore.persistent{0}
class Person:
    def __init__(self, name): self.name = name
"""
NEW = """
import pstore
@pstore.persistent{0}
class Customer:
    def __init__(self, name): self.name = name
    def greet(self): return "Hello " + self.name
"""


def fill(place: Place, module: ModuleType) -> dict[str, int]:
    """Store persons in every way that there is; return the keys by name."""
    with place.open() as db:
        db["ann"], db["bob"] = module.Person("Ann"), module.Person("Bob")
        db["ann"].friend, db["bob"].friend = db["bob"], db["ann"]
        db["all"] = [db["ann"], {"b": db["bob"]}, (db["ann"],)]
        db["kinds"] = [module.Person]
        db.commit()
        return {name: db.key_of(db[name]) for name in db}


def check(db: pstore.Store, cls: type) -> None:
    """All of that is there, of this class."""
    assert db["ann"].greet() == "Hello Ann"
    assert db["ann"].friend is db["bob"]
    assert db["all"] == [db["ann"], {"b": db["bob"]}, (db["ann"],)]
    assert type(db["bob"].friend.friend.__class__) is type
    assert db["bob"].__class__ is cls
    assert db["kinds"] == [cls]
    assert list(db.instances(cls)) == [db["ann"], db["bob"]]
    assert db.changed() == []
    assert db.commit().keys == ()


# -------------------------------------------------------------------------------------------------- name="..."


def test_stored_name(place: Place, program: Program) -> None:
    """Records of the stored name load as the class that declares it, and its own are written under that name."""
    fill(place, program(OLD.format(""), "staff"))
    before = place.records()
    program("", "staff")
    new = program(NEW.format("(name='staff.Person')"), "crm")
    with place.open() as db:
        check(db, new.Customer)
        assert place.records() == before
        db["eve"] = new.Customer("Eve")
        db["eve"].also = [db["ann"], new.Customer]
        db.commit()
        assert "crm.Customer" not in db.classes()
        assert db.label(db.key_of(db["eve"])).startswith("Person#")
    program("", "crm")
    back = program(OLD.format(""), "staff")
    with place.open() as db:
        assert db["eve"].also == [db["ann"], back.Person]
        assert db["eve"].__class__ is back.Person


@pytest.mark.parametrize("name", ["Person", "a.b.c.d.Person", "staff.Outer.Person"])
def test_any_path_is_a_stored_name(name: str, place: Place, program: Program) -> None:
    """A stored name needn't lead anywhere."""
    module = program(OLD.format(f"(name={name!r})"))
    with place.open() as db:
        db["a"] = module.Person("Ann")
        assert db.commit().keys
        assert db.classes() == [name]
        assert db.label(db.key_of(db["a"])) == "Person#1"
    with place.open() as db:
        assert db["a"].name == "Ann"


def test_nested_class(place: Place, program: Program) -> None:
    """Where the module ends in a name isn't said, and doesn't matter."""
    old = program("""
        import pstore
        class Outer:
            @pstore.persistent
            class Inner: x = 1
    """)
    with place.open() as db:
        db["a"] = old.Outer.Inner()
        db["a"].y = 1
    new = program("""
        import pstore
        @pstore.persistent(name="models.Outer.Inner", version=2)
        class Flat: x = 2
    """)
    with place.open() as db:
        assert type(db["a"].__class__) is type
        assert (db["a"].x, db["a"].y) == (2, 1)
        db["b"] = new.Flat()
        db.commit()
        assert db.classes() == ["models.Outer.Inner"]
        assert db.label(db.key_of(db["b"])).startswith("Outer.Inner#")


def test_renamed_and_migrated(place: Place, program: Program) -> None:
    """Name and version go together."""
    fill(place, program(OLD.format("(version=3)"), "staff"))
    program("", "staff")
    new = program(
        NEW.format("(name='staff.Person', version=4, migrate=lambda s, v: {**s, 'name': s['name'].upper()})"), "crm"
    )
    with place.open() as db:
        assert [person.name for person in db.instances(new.Customer)] == ["ANN", "BOB"]
        assert db.changed() == []


def test_stored_under_both_names(place: Place, program: Program) -> None:
    """Objects that were stored under the class's own name, before another was declared, load as well."""
    new = program(NEW.format(""), "crm")
    with place.open() as db:
        db["own"] = new.Customer("Own")
        db["list"] = [db["own"], new.Customer]
    with place.open() as db:
        old = program(OLD.format(""), "staff")
        db["old"] = old.Person("Old")
    program("", "staff")
    new = program(NEW.format("(name='staff.Person')"), "crm")
    with place.open() as db:
        assert [person.greet() for person in db.instances(new.Customer)] == ["Hello Own", "Hello Old"]
        assert db["list"] == [db["own"], new.Customer]
        assert db.changed() == []
        assert db.commit().keys == ()
        db["own"].name = "New"
        db.commit()
    with place.open() as db:
        assert db["own"].name == "New"


def test_two_classes_and_one_name(program: Program) -> None:
    """The second class that claims a stored name is refused; the same class defined anew takes it."""
    first = program(OLD.format(""), "staff")
    with pytest.raises(
        TypeError, match=r"crm\.Customer can't be stored as staff\.Person: staff\.Person is declared under"
    ):
        program(NEW.format("(name='staff.Person')"), "crm")
    assert declare.declared("staff", "Person") is first.Person
    program("", "staff")
    second = program(NEW.format("(name='staff.Person')"), "crm")
    with pytest.raises(TypeError, match=r"staff\.Person can't be stored as staff\.Person: crm\.Customer is declared"):
        program(OLD.format(""), "staff")
    exec(NEW.format("(name='staff.Person')"), vars(second))
    assert declare.declared("staff", "Person") is second.Customer
    exec(NEW.format("(name='staff.Other')"), vars(second))
    assert declare.declared("staff", "Person") is None
    assert declare.declared("staff", "Other") is second.Customer


def test_undeclared_class_whose_name_is_taken(place: Place, program: Program) -> None:
    """Its objects can't be stored under its own name any more, and the error says why."""
    old = program("class Person: pass", "staff")
    program(NEW.format("(name='staff.Person')"), "crm")
    with place.open(allow=["staff"]) as db:
        for value in old.Person(), [old.Person()]:
            db["a"] = value
            with pytest.raises(pstore.ClassNotAllowed, match=r"crm\.Customer is declared to be stored under that name"):
                db.commit()
        del db["a"]


# ------------------------------------------------------------------------------------------------- rename_class


def test_rename_when_the_old_class_is_gone(place: Place, program: Program) -> None:
    """One row is written; all objects load as the new class, and the old name is gone."""
    fill(place, program(OLD.format(""), "staff"))
    program("", "staff")
    new = program(NEW.format(""), "crm")
    before = place.records()
    with place.open() as db:
        revision = db.revision
        done = db.rename_class("staff.Person", "crm.Customer")
        assert (done.revision, done.names) == (revision + 1, ())
        assert [db.label(key) for key in done.keys] == ["class crm.Customer"]
        check(db, new.Customer)
        assert db.classes() == ["builtins.list", "crm.Customer"]
        changed = {key for key, row in place.records().items() if before.get(key) != row}
        assert changed == set(done.keys)
    with place.open() as db:
        check(db, new.Customer)
        db["ann"].name = "Anna"
        assert len(db.commit().keys) == 1
    reader = place.backend.begin()
    (row,) = reader.get_many("log", [done.revision])
    reader.rollback()
    entry = rows.unpack_log(rows.unseal(rows.log_place(done.revision), row).body)
    assert (entry.keys, entry.note) == (done.keys, "rename_class: staff.Person is now crm.Customer")


@pytest.mark.parametrize("given", ["names", "classes"])
@pytest.mark.parametrize("touched", [True, False])
def test_rename_of_objects_in_memory(given: str, touched: bool, place: Place, program: Program) -> None:
    """Objects in memory become objects of the new class, being the same objects."""
    fill(place, old := program(OLD.format(""), "staff"))
    new = program(NEW.format(""), "crm")
    with place.open() as db:
        ann, everybody, friend = db["ann"], db["all"], db["ann"].friend
        if touched:
            assert (ann.name, friend.name) == ("Ann", "Bob")
        old_and_new = ("staff.Person", "crm.Customer") if given == "names" else (old.Person, new.Customer)
        db.rename_class(*old_and_new)
        assert isinstance(ann, new.Customer)
        assert not isinstance(friend, old.Person)
        assert friend.greet() == "Hello Bob"
        assert db["ann"] is ann
        assert db["all"] is everybody
        assert everybody[0] is ann
        check(db, new.Customer)


def test_rename_of_another_layout(place: Place, program: Program) -> None:
    """Objects that can't become objects of the new class are replaced, wherever the store refers to them."""
    fill(place, program(OLD.format(""), "staff"))
    new = program(
        """
        import pstore
        @pstore.persistent
        class Customer:
            __slots__ = ("name", "friend")
            def __setstate__(self, state): self.name, self.friend = state["name"], state["friend"]
            def greet(self): return "Hello " + self.name
        """,
        "crm",
    )
    with place.open() as db:
        ann = db["ann"]
        assert ann.friend.name == "Bob"
        everybody = db["all"]
        db.rename_class("staff.Person", "crm.Customer")
        check(db, new.Customer)
        assert db["ann"] is not ann
        assert db["all"] is everybody
        assert ann.name == "Ann"


def test_object_that_was_asleep_when_it_was_replaced(place: Place, program: Program) -> None:
    """It can't wake any more, and says so."""
    fill(place, program(OLD.format(""), "staff"))
    program("class Customer(list): pass", "crm")
    with place.open(allow=["crm"]) as db:
        ann, bob = db["ann"], db["bob"]
        assert ann.name == "Ann"
        db.commit()
        db.rename_class("staff.Person", "crm.Customer")
        for old in (ann, bob):
            with pytest.raises(pstore.MissingRecord, match=r"of Person was made anew .*; get it from the store again"):
                _ = old.name
        assert type(db["ann"]).__name__ == "Customer"


def test_rename_with_stand_ins_in_memory(place: Place, program: Program) -> None:
    """What was met while the class was missing is replaced by the objects that it stood for."""
    fill(place, program(OLD.format(""), "staff"))
    program("", "staff")
    new = program(NEW.format(""), "crm")
    with place.open(allow=["staff"]) as db:
        everybody = db["all"]
        with pytest.raises(pstore.ClassNotFound):
            _ = everybody[0].name
        with pytest.raises(pstore.ClassNotFound):
            _ = db["ann"]
        with pytest.raises(pstore.ClassNotFound):
            _ = db["kinds"]
        db.rename_class("staff.Person", new.Customer)
        assert everybody[0].greet() == "Hello Ann"
        check(db, new.Customer)


def test_rename_of_objects_inside_records(place: Place, program: Program) -> None:
    """Objects without records of their own are of the new class too, and nothing is written for it."""
    old = program("class Part:\n    def __init__(self, x): self.x = x\nclass Whole(Part): pass\n", "staff")
    with place.open(allow=["staff"]) as db:
        db["list"], db["whole"] = [old.Part(1), {"p": old.Part(2)}], old.Whole(old.Part(3))
    new = program("class Part2: pass\n", "crm")
    with place.open(allow=["staff", "crm"]) as db:
        parts, whole = db["list"], db["whole"]
        assert type(whole.x) is old.Part
        db.rename_class("staff.Part", "crm.Part2")
        found = [parts[0], parts[1]["p"], whole.x]
        assert [type(part) for part in found] == [new.Part2] * 3
        assert [part.x for part in found] == [1, 2, 3]
        assert db.changed() == []
        assert db.commit().keys == ()


def test_rename_to_a_name_with_records(place: Place, program: Program) -> None:
    """A class may get the objects of another one beside its own; it then has several codes."""
    old, new = program(OLD.format(""), "staff"), program(NEW.format(""), "crm")
    with place.open() as db:
        db["old"], db["new"] = old.Person("Old"), new.Customer("New")
        db["kinds"] = [new.Customer, old.Person]
    with place.open() as db:
        assert db["kinds"] == [new.Customer, old.Person]
        db.rename_class("staff.Person", "crm.Customer")
        assert db["kinds"] == [new.Customer, new.Customer]
        assert [thing.greet() for thing in db.instances(new.Customer)] == ["Hello New", "Hello Old"]
        db["more"] = new.Customer("More")
    for _ in range(2):
        with place.open() as db:
            names = sorted(thing.name for thing in db.instances(new.Customer))
            assert names == ["More", "New", "Old"]
            assert db["kinds"] == [new.Customer, new.Customer]
            assert db.changed() == []
            assert db.commit().keys == ()
            db["old"].name, db["new"].name = db["new"].name, db["old"].name
            assert len(db.commit().keys) == 2


def test_rename_of_all_versions(place: Place, program: Program) -> None:
    """Every version's row is rewritten, each keeping its version; the migration gets the versions that were stored."""
    for version in 1, 2, 3:
        old = program(OLD.format(f"(version={version})"), "staff")
        with place.open() as db:
            db[f"v{version}"] = old.Person(f"of {version}")
    program("", "staff")
    new = program(
        NEW.format("(version=3, migrate=lambda s, v: {**s, 'was': v})"),
        "crm",
    )
    with place.open() as db:
        assert len(db.rename_class("staff.Person", "crm.Customer").keys) == 3
        assert [(db[name].name, vars(db[name]).get("was")) for name in db] == [
            ("of 1", 1),
            ("of 2", 2),
            ("of 3", None),
        ]
        assert len(list(db.instances(new.Customer))) == 3
        assert db.classes() == ["crm.Customer"]


def test_other_sessions_learn_of_a_rename(place: Place, program: Program) -> None:
    """They see it when their next transaction begins, with ghosts, awake objects, stand-ins and nothing in memory."""
    fill(place, old := program(OLD.format(""), "staff"))
    new = program(NEW.format(""), "crm")
    sessions = [place.open() for _ in range(4)]
    ghost = sessions[0]["ann"]
    awake = sessions[1]["ann"]
    assert awake.name == "Ann"
    assert isinstance(awake, old.Person)
    assert len(sessions[2]) == 4
    with place.open() as db:
        db.rename_class("staff.Person", "crm.Customer")
    assert isinstance(awake, old.Person)
    for session in sessions:
        session.rollback()
        check(session, new.Customer)
    assert sessions[0]["ann"] is ghost
    assert sessions[1]["ann"] is awake
    assert isinstance(awake, new.Customer)


def test_stand_ins_of_other_sessions(place: Place, program: Program) -> None:
    """So do sessions that had met the objects while their class was missing."""
    fill(place, program(OLD.format(""), "staff"))
    program("", "staff")
    new = program(NEW.format(""), "crm")
    other = place.open(allow=["staff"])
    everybody = other["all"]
    with pytest.raises(pstore.ClassNotFound):
        _ = everybody[0].name
    with place.open() as db:
        db.rename_class("staff.Person", "crm.Customer")
    other.commit()
    assert other["all"] is everybody
    check(other, new.Customer)


def test_session_that_has_changed_an_object_of_the_class(place: Place, program: Program) -> None:
    """Its commit goes through, and what it has written is of the new class."""
    fill(place, program(OLD.format(""), "staff"))
    new = program(NEW.format(""), "crm")
    other = place.open()
    other["ann"].name = "Anna"
    with place.open() as db:
        db.rename_class("staff.Person", "crm.Customer")
    assert len(other.commit().keys) == 1
    assert other["ann"].greet() == "Hello Anna"
    with place.open() as db:
        assert db["ann"].greet() == "Hello Anna"
        assert db["ann"].__class__ is new.Customer


def test_change_between_transactions_and_a_rename(place: Place, program: Program) -> None:
    """What was changed when no transaction ran, and then renamed by another session, conflicts: nothing is lost unseen."""
    old = program(OLD.format(""), "staff")
    with place.open() as db:
        db["ann"] = old.Person("Ann")
        db["ann"].tags = []
    new = program(NEW.format(""), "crm")
    other = place.open()
    tags = other["ann"].tags
    other.commit()
    tags.append("changed")
    with place.open() as db:
        db.rename_class("staff.Person", "crm.Customer")
    with pytest.raises(pstore.ConflictError, match="Customer#1"):
        other.commit()
    assert tags == ["changed"]
    other.rollback()
    assert other["ann"].__class__ is new.Customer
    assert other["ann"].tags == []
    other["ann"].tags.append("again")
    assert len(other.commit().keys) == 1


def test_session_where_the_new_class_is_not_allowed(place: Place, program: Program) -> None:
    """It loses the objects of the class to stand-ins, and nothing else."""
    old = program("class Person: pass", "staff")
    program("class Customer: pass", "crm")
    with place.open(allow=["staff"]) as db:
        db["a"] = old.Person()
        db["a"].x = 1
        db["holder"] = [db["a"], "else"]
        db["inline"] = {"in": old.Person()}
        db["uses inline"] = [db["inline"], "else"]
    before = place.records()
    other = place.open(allow=["staff"])
    assert other["a"].x == 1
    assert other["holder"][0] is other["a"]
    assert type(other["uses inline"][0]["in"]) is old.Person
    with place.open(allow=["crm"]) as db:
        keys = db.rename_class("staff.Person", "crm.Customer").keys
    other.rollback()
    assert other["holder"][1] == other["uses inline"][1] == "else"
    for use in (
        lambda: other["a"].x,
        lambda: other["holder"][0].x,
        lambda: other["inline"],
        lambda: other["uses inline"][0]["in"],
    ):
        with pytest.raises(pstore.ClassNotAllowed, match=r"crm\.Customer"):
            use()
    assert other.changed() == []
    assert other.commit().keys == ()
    other["holder"].append(1)
    other.commit()
    after = place.records()
    assert {key for key in before if before[key] != after[key]} == {*keys, other.key_of(other["holder"])}


def test_rename_there_and_back(place: Place, program: Program) -> None:
    """A rename can be undone by another."""
    fill(place, old := program(OLD.format("") + "    def greet(self): return 'Hello ' + self.name\n", "staff"))
    new = program(NEW.format(""), "crm")
    with place.open() as db:
        ann = db["ann"]
        for _ in range(3):
            db.rename_class("staff.Person", new.Customer)
            check(db, new.Customer)
            db.rename_class("crm.Customer", "staff.Person")
            check(db, old.Person)
        assert db["ann"] is ann


def test_rename_to_a_class_with_a_stored_name(place: Place, program: Program) -> None:
    """The store gets the name under which the class's objects are stored."""
    fill(place, program(OLD.format(""), "staff"))
    program("", "staff")
    new = program(NEW.format("(name='people.Human')"), "crm")
    with place.open() as db:
        db.rename_class("staff.Person", "crm.Customer")
        assert "people.Human" in db.classes()
        check(db, new.Customer)


@pytest.mark.parametrize("allow", [["crm"], ["crm.*"], ["crm.Customer"], ANYTHING], ids=str)
def test_rename_to_what_allow_allows(allow: Any, place: Place, program: Program) -> None:
    """The new class may be declared, or allowed in whatever way."""
    fill(place, program(OLD.format(""), "staff"))
    program("", "staff")
    new = program("class Customer:\n    def greet(self): return 'Hello ' + self.name\n", "crm")
    with place.open(allow=allow) as db:
        db.rename_class("staff.Person", "crm.Customer")
        check(db, new.Customer)


@pytest.mark.parametrize("base", ["object", "list"])
def test_rename_of_migrated_objects_in_memory(base: str, place: Place, program: Program) -> None:
    """Objects that were migrated when they were loaded are migrated again, for the new class, from what is stored."""
    source = "import pstore\n@pstore.persistent{1}\nclass {2}({0}): pass\n"
    old = program(source.format(base, "", "Old"), "staff")
    with place.open() as db:
        db["a"] = old.Old()
        db["a"].was = []
    migrate = "(version=2, migrate=lambda state, version: {{'was': [*state['was'], '{0}']}})"
    old = program(source.format(base, migrate.format("old"), "Old"), "staff")
    new = program(source.format(base, migrate.format("new"), "New"), "crm")
    with place.open() as db:
        thing = db["a"]
        assert thing.was == ["old"]
        assert db.changed() == []
        db.rename_class(old.Old, new.New)
        assert db["a"].was == ["new"]
        assert type(db["a"]) is new.New
        assert db.changed() == []
        db["a"].was.append(1)
        db.rollback()
        assert db["a"].was == ["new"]


def test_class_that_was_declared_and_has_moved(place: Place, program: Program) -> None:
    """Nothing tells that the old name was a declared class's, so it isn't allowed; the error has the remedies for a move."""
    fill(place, program(OLD.format(""), "staff"))
    program("", "staff")
    with place.open() as db:
        with pytest.raises(pstore.ClassNotAllowed) as caught:
            _ = db["ann"]
        for remedy in (
            "allow=['staff.Person']",
            "persistent(name='staff.Person')",
            "rename_class('staff.Person', new)",
        ):
            assert remedy in str(caught.value)
    program("class Person: pass", "staff")
    with place.open() as db, pytest.raises(pstore.ClassNotAllowed, match=r"allow=\['staff\.Person'\]$"):
        _ = db["ann"]


# --------------------------------------------------------------------------------------------------- its refusals


def test_rename_with_uncommitted_changes(place: Place, program: Program) -> None:
    """A rename is a commit of its own, and takes nothing else with it."""
    fill(place, program(OLD.format(""), "staff"))
    program(NEW.format(""), "crm")
    with place.open() as db:
        for change in (lambda: db.update(x=1), lambda: setattr(db["ann"], "name", "x"), lambda: db["all"].append(1)):
            change()
            with pytest.raises(pstore.Uncommitted, match="commit or roll back first"):
                db.rename_class("staff.Person", "crm.Customer")
            db.rollback()
        assert "staff.Person" in db.classes()
        db.rename_class("staff.Person", "crm.Customer")


REFUSED: list[tuple[Any, Any, type[Exception], str]] = [
    ("staff.Nobody", "crm.Customer", ValueError, r"no class in this store has the name 'staff\.Nobody'.*staff\.Person"),
    ("Person", "crm.Customer", ValueError, "no class in this store"),
    (int, "crm.Customer", ValueError, r"builtins\.int"),
    (5, "crm.Customer", TypeError, "not by 5"),
    ("builtins.list", "crm.Customer", TypeError, "keeps its name"),
    ("staff.Person", "crm.Nobody", pstore.ClassNotAllowed, r"crm\.Nobody isn't allowed"),
    ("staff.Person", "allowed.Nobody", pstore.ClassNotFound, "class Nobody of the module allowed can't be found"),
    ("staff.Person", "nowhere.Nobody", pstore.ClassNotFound, "No module named 'nowhere'"),
    ("staff.Person", "os.system", pstore.ClassNotAllowed, r"os\.system"),
    ("staff.Person", "allowed.function", pstore.ClassNotAllowed, r"allowed\.function"),
    ("staff.Person", "builtins.list", TypeError, "builtin type list"),
    ("staff.Person", dict, TypeError, "builtin type dict"),
    ("staff.Person", "", TypeError, "dotted name"),
    ("staff.Person", "a b", TypeError, "dotted name"),
    ("staff.Person", None, TypeError, "dotted name"),
    ("staff.Person", "staff.Person", ValueError, "that name already"),
    ("staff.Person", "crm.Behind", pstore.NewerVersion, r"of version 2, and crm\.Behind is declared with version 1"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]} {case[1]}")
def test_renames_that_are_refused(case: tuple[Any, Any, type[Exception], str], place: Place, program: Program) -> None:
    """Nothing is written then, and the store goes on."""
    old, new, error, text = case
    fill(place, program(OLD.format("(version=2)"), "staff"))
    program(
        "import pstore\n@pstore.persistent(version=2)\nclass Customer: pass\npstore.persistent(Behind := type('Behind', (), {'__module__': 'crm'}))",
        "crm",
    )
    program("def function(): pass", "allowed")
    before = place.records()
    with place.open(allow=["allowed", "nowhere"]) as db:
        revision = db.revision
        with pytest.raises(error, match=text):
            db.rename_class(old, new)
        assert db.revision == revision
        assert db["ann"].name == "Ann"
        db["ann"].name = "Anna"
        db.commit()
    assert len([key for key, row in place.records().items() if before.get(key) != row]) == 1


def test_rename_of_an_undeclared_class_object(place: Place, program: Program) -> None:
    """A class object that isn't allowed isn't taken as the new one."""
    fill(place, program(OLD.format(""), "staff"))
    other = program("class Customer: pass", "crm")
    with place.open(allow=[]) as db, pytest.raises(pstore.ClassNotAllowed, match=r"allow=\['crm.Customer'\]"):
        db.rename_class("staff.Person", other.Customer)


def test_rename_in_a_store_for_reading(path: Path, program: Program) -> None:
    """It is refused as any change."""
    old = program(OLD.format(""), "staff")
    with pstore.open(path) as db:
        db["a"] = old.Person("Ann")
    with pstore.open(path, "r") as db, pytest.raises(pstore.ReadOnlyError, match="to rename a class"):
        db.rename_class("staff.Person", "crm.Customer")
    with pytest.raises(pstore.StoreClosed):
        db.rename_class("staff.Person", "crm.Customer")


def test_rename_called_by_an_object(place: Place, program: Program) -> None:
    """Code that runs in the middle of a commit can't rename classes."""
    module = program("""
        import pstore
        DO = []
        @pstore.persistent
        class Person:
            def __getstate__(self):
                for do in DO: do()
                return {}
    """)
    with place.open() as db:
        db["a"] = module.Person()
        module.DO.append(lambda: db.rename_class("models.Person", "crm.Customer"))
        with pytest.raises(StoreBusy):
            db.commit()
        module.DO.clear()


# ----------------------------------------------------------------------------------------------- other processes


OLD_PROGRAM = """
import people
db["ann"] = people.Person("Ann")
db["all"] = [db["ann"], people.Person]
db.close()
"""
RENAME = """
print(db.rename_class("people.Person", "customers.Customer").revision)
print(db["ann"].greet(), db["all"][0] is db["ann"], db["all"][1].__name__)
db.close()
"""
DECLARED = """
import customers
print(db["ann"].greet(), db["all"][0] is db["ann"], db["all"][1].__name__, db.changed(), db.classes())
db.close()
"""


@pytest.mark.parametrize("how", ["renamed", "declared"])
def test_programs_that_differ(how: str, path: Path, elsewhere: Callable[..., str], tmp_path: Path) -> None:
    """A class that has moved to another module in a later version of a program, as processes see it."""
    (tmp_path / "people.py").write_text(OLD.format(""))
    elsewhere(OLD_PROGRAM)
    (tmp_path / "people.py").unlink()
    name = "(name='people.Person')" if how == "declared" else ""
    (tmp_path / "customers.py").write_text(NEW.format(name))
    if how == "renamed":
        assert elsewhere(RENAME, allow="['customers']") == "2\nHello Ann True Customer\n"
        assert elsewhere(DECLARED).split("[")[0] == "Hello Ann True Customer "
    else:
        expected = "Hello Ann True Customer [] ['people.Person', 'builtins.list']\n"
        assert (
            elsewhere(DECLARED).replace("['builtins.list', 'people.Person']", "['people.Person', 'builtins.list']")
            == expected
        )
    assert "people" not in sys.modules


# --------------------------------------------------------------------------------------------------- whole histories

CLASS = """
import pstore
def migrate(state, version):
    state = dict(state)
    for older in range(version, {version}):
        state[f"n{{older + 1}}"] = state.pop(f"n{{older}}")
    return state
class {name}({base}):
    {setstate}
pstore.persistent({name}, version={version}, migrate=migrate, name={stored!r})
"""
PART = "class Part:\n    {0}\n"
DEFAULTS = "def __setstate__(self, state): vars(self).update({'added': [], **state})"


class History:
    """A store that versions of a program read and change, each with its class somewhere else, next to what it should hold."""

    def __init__(self, place: Place, program: Program, chance: random.Random) -> None:
        self.place = place
        self.program = program
        self.chance = chance
        self.base = chance.choice(["object", "list"])
        self.stored = ""
        self.version = 1
        self.model: dict[str, tuple[int, str]] = {}  # name -> number, name of the friend
        self.cls: Any = None
        self.part: Any = None

    def next_program(self) -> None:
        """Another version of the program is run, in two sessions at once; reading is no change for it."""
        self.version += self.chance.random() < 0.4
        module, name = self.chance.choice([("one", "A"), ("other", "B")])
        own = f"{module}.{name}"
        renames = bool(self.model) and own != self.stored and self.chance.random() < 0.5
        self.stored = self.stored or own
        setstate = self.chance.choice(["pass", DEFAULTS])
        for empty in "one", "other":
            self.program("", empty)
        source = CLASS.format(
            name=name,
            base=self.base,
            setstate=setstate,
            version=self.version,
            stored=own if renames else self.stored,
        )
        self.cls = getattr(self.program(source, module), name)
        self.part = self.program(PART.format(setstate), "parts").Part
        sessions = [self.place.open(allow=["parts"], cache_size=self.chance.choice([1, 100])) for _ in range(2)]
        if renames:
            for session in sessions:
                with contextlib.suppress(pstore.Error):
                    _ = session["all"]
            sessions[0].rename_class(self.stored, self.chance.choice([own, self.cls]))
            self.stored = own
            sessions[1].rollback()
        before = self.place.records()
        for session in sessions:
            self.check(session)
            assert session.changed() == []
            assert session.commit().keys == ()
            session.rollback()
            self.check(session)
        assert self.place.records() == before
        for session in sessions:
            self.change(session)
            session.commit()
            self.check(session)
            for each in sessions:
                each.rollback()
                self.check(each)
        for session in sessions:
            session.close()

    def check(self, db: pstore.Store) -> None:
        """A session has what it should have."""
        for name, (number, friend) in self.model.items():
            thing = db[name]
            assert thing.__class__ is self.cls
            assert getattr(thing, f"n{self.version}") == thing.part.number == number
            assert thing.numbers == list(range(number + 1))
            assert thing.friend is db[friend]
            assert db["all"][name] is thing
        assert {id(thing) for thing in db.instances(self.cls)} == {id(db[name]) for name in self.model}

    def change(self, db: pstore.Store) -> None:
        """Make some things, and change others."""
        for _ in range(self.chance.randrange(4)):
            if not self.model or self.chance.random() < 0.4:
                name, number = f"thing {len(self.model)}", 0
                friend = self.chance.choice([*self.model, name])
                db[name] = self.cls()
                db[name].part, db[name].numbers = self.part(), []
                db[name].friend = db[friend]
                db.setdefault("all", {})[name] = db[name]
            else:
                name = self.chance.choice(list(self.model))
                number, friend = self.model[name]
                number += 1
            self.model[name] = number, friend
            setattr(db[name], f"n{self.version}", number)
            db[name].part.number = number
            db[name].numbers.append(number)
            if self.chance.random() < 0.3:
                db.savepoint()


@pytest.mark.parametrize("seed", range(15))
def test_histories(seed: int, place: Place, program: Program) -> None:
    """Whatever versions of a program have written, the next one reads it all, in each session, and writes only its changes."""
    history = History(place, program, random.Random(seed))
    for _ in range(8):
        history.next_program()
