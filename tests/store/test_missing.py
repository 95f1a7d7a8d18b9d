"""Classes that can't be had, and records that are gone: what raises, what it says, and what goes on all the same."""

from __future__ import annotations

import copy
import pickle
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import pstore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from conftest import Place

    Program = Callable[..., ModuleType]

CLASSES = """
class Kept:
    def __init__(self, **attributes): vars(self).update(attributes)
class Gone(Kept): pass
def function(): pass
"""
KEPT = CLASSES.split("class Gone(", maxsplit=1)[0]
ALLOW = ["models"]

MISSING: dict[str, tuple[str | None, list[str], type[pstore.Error], str]] = {
    "attribute": (KEPT, ["models"], pstore.ClassNotFound, "there is no Gone in models"),
    "module": (None, ["gone", "models"], pstore.ClassNotFound, "No module named 'gone'"),
    "not allowed": (KEPT, ["models.Kept"], pstore.ClassNotAllowed, r"allow=\['models\.Gone'\]"),
    "no class": (KEPT + "Gone = 5\n", ["models.Gone", "models.Kept"], pstore.ClassNotFound, "but of type int"),
    "function": (
        KEPT + "def Gone(): pass\n",
        ["models.Gone", "models.Kept"],
        pstore.ClassNotFound,
        "isn't a class any more",
    ),
}


@pytest.fixture(params=["attribute", "not allowed", "no class", "function"])
def missing(request: pytest.FixtureRequest) -> tuple[str | None, list[str], type[pstore.Error], str]:
    """The program without the class, what it allows, and what is to be raised, with which text."""
    return MISSING[request.param]


def raises(error: type[pstore.Error], text: str) -> Any:
    """Expect the error."""
    return pytest.raises(error, match=f"(?s){text}")


def test_object_of_a_missing_class(missing: Any, place: Place, program: Program) -> None:
    """Its neighbours load; it raises an error that names module, class and remedy, by whatever way it is reached."""
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        gone = db["gone"] = module.Gone(x=1)
        db["kept"] = module.Kept(gone=gone, name="kept")
        db["list"] = [gone, db["kept"]]
        db["made"] = module.Kept(parts=({"in": gone},), tuple=(gone, 1))
    source, allow, error, text = missing
    program(source)
    with place.open(allow=allow) as db:
        assert db["kept"].name == "kept"
        assert db["list"][1] is db["kept"]
        assert db["made"].tuple[1] == 1
        stand_in = db["kept"].gone
        assert stand_in is db["list"][0] is db["made"].parts[0]["in"]
        for use in (
            lambda: stand_in.x,
            lambda: db["gone"],
            lambda: setattr(stand_in, "x", 2),
            lambda: db.object_at(db.key_of(stand_in)),
        ):
            with raises(error, text) as caught:
                use()
            assert (caught.value.module, caught.value.qualname) == ("models", "Gone")
        if error is pstore.ClassNotFound:
            for remedy in ("class Gone of the module models", "name='models.Gone'", "rename_class('models.Gone', new)"):
                assert remedy in str(caught.value)
            assert isinstance(caught.value, ImportError)
        assert db.changed() == []
        assert db.commit().keys == ()


def test_missing_module(place: Place, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is gone, can't be compiled, or fails when it is imported: each is told as what it is."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module = program("class Thing: pass", "going")
    with place.open(allow=["going"]) as db:
        db["a"], db["ok"] = [module.Thing()], 1
        db["b"] = module.Thing()
        db["b"].x = 1
    for source, text in (
        (None, "No module named 'going'"),
        ("class Thing: pa ss", "importing it raised SyntaxError"),
        ("raise LookupError('mine')", "importing it raised LookupError: mine"),
        ("import going_too", "No module named 'going_too'"),
    ):
        del sys.modules["going"]
        if source is not None:
            (tmp_path / "going.py").write_text(source)
        with place.open(allow=["going"]) as db:
            assert db["ok"] == 1
            for name in "a", "b":
                with raises(pstore.ClassNotFound, text) as caught:
                    _ = db[name]
                assert (caught.value.module, caught.value.qualname) == ("going", "Thing")
        sys.modules["going"] = module


def test_object_inside_a_record(missing: Any, place: Place, program: Program) -> None:
    """The record that holds the object raises the error, which names both; whatever refers to that record loads."""
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        db["list"] = [module.Gone(x=1)]
        db["dict"] = {"a": [({"b": module.Gone()},)]}
        db["object"] = module.Kept(part=module.Gone(x=2))
        db["all"] = [db["list"], db["dict"], db["object"], "and"]
        db["user"] = module.Kept(list=db["list"], name="user")
        db.commit()
        labels = {name: db.label(db.key_of(db[name])) for name in ("list", "dict", "object")}
        keys = {name: db.key_of(db[name]) for name in labels}
    before = place.records()
    source, allow, error, _ = missing
    program(source)
    with place.open(allow=allow) as db:
        assert db["user"].name == "user"
        assert db["all"][3] == "and"
        for name, position in ("list", 0), ("dict", 1), ("object", 2):
            for use in (lambda name=name: db[name].part, lambda position=position: db["all"][position].part):
                with raises(error, f"^{labels[name]} can't be loaded: .*Gone") as caught:
                    use()
                assert caught.value.key == keys[name]
        assert db.changed() == []
        db["all"].append(1)
        db["user"].name = "other"
        assert len(db.commit().keys) == 2
    after = place.records()
    assert all(before[key] == after[key] for key in keys.values())
    program(CLASSES)
    with place.open(allow=ALLOW) as db:
        assert db["all"][0] is db["list"] is db["user"].list
        assert db["list"][0].x == 1
        assert db["all"][4] == 1


def test_many_records_with_missing_parts(place: Place, program: Program) -> None:
    """A record that refers to thousands of such ones loads, in time in proportion to them."""
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        db["parts"] = parts = [[module.Gone()] if number % 2 else [number] for number in range(3000)]
        db["again"] = list(parts)
    program(KEPT)
    with place.open(allow=ALLOW) as db:
        again = db["again"]
        assert again[2] == [2]
        assert again[2] is db["parts"][2]
        with raises(pstore.ClassNotFound, "list#"):
            again[1].append(1)
        assert db.stats()["loads"] < 10_000


def test_circles_of_loose_objects(place: Place, program: Program) -> None:
    """Where a record with a missing part is in a circle with others, those load."""
    module = program(CLASSES + "class Stack(list): pass\n")
    with place.open(allow=ALLOW) as db:
        one, two, three = [], {}, module.Stack()
        one.extend([two, three])
        two.update(one=one, three=three, gone=module.Gone())
        three.extend([one, two])
        db["one"], db["two"], db["three"] = one, two, three
    program(KEPT + "class Stack(list): pass\n")
    for first in "one", "three":
        with place.open(allow=ALLOW) as db:
            _ = db[first]
            assert db["one"][1] is db["three"]
            assert db["three"][0] is db["one"]
            assert db["one"][0] is db["three"][1]
            with raises(pstore.ClassNotFound, "dict#"):
                _ = db["one"][0]["one"]
            with raises(pstore.ClassNotFound, "dict#"):
                _ = db["two"]
            assert db.changed() == []


@pytest.mark.parametrize("value", ["Gone", "[Gone][0]", "Colour.RED"])
def test_missing_class_in_a_name(value: str, place: Place, program: Program) -> None:
    """An atom that needs the class raises the error, with its name."""
    source = "import enum\n" + CLASSES
    module = program(source + "class Colour(enum.Enum): RED = 1\n")
    with place.open(allow=ALLOW) as db:
        db["kind"], db["other"] = eval(value, vars(module)), 1
    program(KEPT)
    with place.open(allow=ALLOW) as db:
        assert db["other"] == 1
        with raises(
            pstore.ClassNotFound, r"the value under 'kind' can't be loaded: the class (Gone|Colour) of the module"
        ):
            _ = db["kind"]


def test_missing_function(place: Place, program: Program) -> None:
    """A function that is gone is an error of ours too, of the record that names it."""
    module = program(CLASSES)
    allow = ["models", module.function]
    with place.open(allow=allow) as db:
        db["a"], db["b"] = [module.function], module.Kept(name="b")
    program(KEPT)
    with place.open(allow=["models", "models.function"]) as db:
        assert db["b"].name == "b"
        with raises(pstore.ClassNotFound, "list#1 can't be loaded: .*function"):
            _ = db["a"]


# -------------------------------------------------------------------------------------------------- stand-ins


def stand_ins(place: Place, program: Program, allow: list[str] | None = None) -> tuple[pstore.Store, Any, Any]:
    """Return an open store, and two stand-ins of objects in it."""
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        gone = [module.Gone(x=1), module.Gone(x=2)]
        db["a"], db["b"] = gone
        db["list"] = list(gone)
        db["kept"] = module.Kept(gone=gone[0], name="kept")
    program(KEPT)
    db = place.open(allow=allow or ALLOW)
    return db, *db["list"]


def test_what_a_stand_in_can(place: Place, program: Program) -> None:
    """It is compared, hashed, shown, and asked for its class without an error; nothing else."""
    db, one, two = stand_ins(place, program)
    assert one == one  # noqa: PLR0124
    assert one != two
    assert one != 5
    assert {one: 1, two: 2}[one] == 1
    assert one in [two, one]
    assert repr(one) == str(one) == f"{one}" == "<unavailable Gone#1>"
    assert not isinstance(one, (str, int, dict))
    assert weakref.ref(one)() is one
    assert type(one) is type(two)
    assert one is db["kept"].gone
    assert db.label(db.key_of(one)) == "Gone#1"


@pytest.mark.parametrize(
    "use",
    [
        lambda obj: obj.x,
        lambda obj: setattr(obj, "x", 1),
        lambda obj: delattr(obj, "x"),
        vars,
        dir,
        len,
        bool,
        iter,
        list,
        lambda obj: obj[0],
        lambda obj: 1 in obj,
        lambda obj: obj < 1,
        lambda obj: obj + 1,
        copy.copy,
        copy.deepcopy,
        pickle.dumps,
        pstore.pickle.dumps,
        lambda obj: hasattr(obj, "__len__") and obj.x,
        lambda obj: obj.__enter__(),
    ],
)
def test_what_a_stand_in_cannot(use: Callable[[Any], Any], place: Place, program: Program) -> None:
    """All that would need the object raises the error, each time, as one that can be sent elsewhere."""
    _, one, _ = stand_ins(place, program)
    seen = []
    for _ in range(2):
        with raises(
            pstore.ClassNotFound, r"class Gone of the module models.*rename_class\('models\.Gone', new\)"
        ) as caught:
            use(one)
        seen.append(caught.value)
    assert seen[0] is not seen[1]
    again = pickle.loads(pickle.dumps(seen[0]))
    assert (type(again), str(again)) == (pstore.ClassNotFound, str(seen[0]))
    assert (again.module, again.qualname, again.key) == ("models", "Gone", None)


def test_stand_in_through_commits(place: Place, program: Program) -> None:
    """Its record stays as it is when its neighbours are written, promoted, rolled back, and named anew."""
    db, one, two = stand_ins(place, program)
    before = place.records()
    keys = {db.key_of(one), db.key_of(two)}
    db["kept"].name = "changed"
    db["list"].append({"again": one})
    db.commit()
    db["new"] = {"shared": (shared := [one, two])}
    db["list"].append(shared)
    db["named"] = one
    db.commit()
    assert db.key_of(shared) is not None
    db["kept"].name = "lost"
    savepoint = db.savepoint()
    db["list"].clear()
    db.savepoint()
    savepoint.rollback()
    assert db["list"][:2] == [one, two]
    db["list"].clear()
    db.rollback()
    assert db["kept"].name == "changed"
    assert db["list"][:2] == [one, two]
    del db["a"]
    db["kept"].gone = two
    db.commit()
    after = place.records()
    assert {key: after[key] for key in keys} == {key: before[key] for key in keys}
    db.close()
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        assert isinstance(db["named"], module.Gone)
        assert db["named"] is db["list"][0] is db["list"][2]["again"] is db["new"]["shared"][0]
        assert db["list"][3] is db["new"]["shared"]
        assert db["kept"].gone is db["b"]
        assert (db["named"].x, db["b"].x) == (1, 2)


def test_stand_in_in_a_new_object(place: Place, program: Program) -> None:
    """It may be held by objects that are new; they are written with a reference to it."""
    db, one, _ = stand_ins(place, program)
    module = sys.modules["models"]
    db["new"] = module.Kept(holds=one)
    db["set"] = {one, 1}
    db.close()
    program(CLASSES)
    with place.open(allow=ALLOW) as db:
        assert db["new"].holds is db["a"]
        assert db["set"] == {db["a"], 1}


def test_instances_of_what_is_not_allowed(place: Place, program: Program) -> None:
    """Asking for the objects of a class that isn't allowed is refused, not answered with none."""
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        db["a"] = module.Gone()
    with place.open(allow=[]) as db:
        with pytest.raises(pstore.ClassNotAllowed):
            list(db.instances(module.Gone))
        assert list(db.instances(module.Kept)) == []


# -------------------------------------------------------------------------------------------- records that are gone


def remove(place: Place, *keys: int) -> None:
    """Delete records behind the store's back."""
    writer = place.backend.begin(write=True)
    writer.delete_many("records", list(keys))
    writer.commit()


def test_missing_record_tells_who_refers_to_it(place: Place, program: Program) -> None:
    """The error has the key, and the names and the objects in memory that lead there, as a person reads them."""
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        lost = module.Kept(x=1)
        db["b"] = db["a"] = lost
        db["holder"] = module.Kept(lost=lost)
        db["list"] = [lost]
        db["unloaded"] = module.Kept(lost=lost)
        db.commit()
        key, holder, listed = (db.key_of(db[name]) for name in ("a", "holder", "list"))
    remove(place, key)
    with place.open(allow=ALLOW) as db:
        ghost = db["holder"].lost
        assert db["list"] == [ghost]
        with pytest.raises(pstore.MissingRecord) as caught:
            _ = ghost.x
        labels = [db.label(found) for found in sorted([holder, listed])]
        assert caught.value.key == key
        assert caught.value.referrers == ("db['a']", "db['b']", *labels)
        assert (
            str(caught.value)
            == f"{db.label(key)} isn't in the store, though {', '.join(caught.value.referrers)} refer to it"
        )
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.key, again.referrers) == (key, caught.value.referrers)
        db.rollback()
    with place.open(allow=ALLOW) as db:
        with pytest.raises(pstore.MissingRecord, match="db\\['a'\\], db\\['b'\\] refer to it") as caught:
            _ = db["a"].x
        with pytest.raises(pstore.MissingRecord) as caught:
            db.object_at(key + 1000)
        assert caught.value.referrers == ()
        assert str(caught.value) == f"{db.label(key + 1000)} isn't in the store"


def test_missing_container_tells_what_is_being_loaded(place: Place, program: Program) -> None:
    """A list that is gone is missed when what refers to it is loaded, which the error names."""
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        lost = [1]
        db["holder"], db["other"] = module.Kept(lost=lost), {"lost": lost}
        db.commit()
        key, holder = db.key_of(lost), db.key_of(db["holder"])
    remove(place, key)
    with place.open(allow=ALLOW) as db:
        with pytest.raises(
            pstore.MissingRecord, match=r"^list#\d+ isn't in the store, though Kept#\d+ refers to it$"
        ) as caught:
            _ = db["holder"].lost
        assert caught.value.referrers == (db.label(holder),)


def test_many_referrers(place: Place, program: Program) -> None:
    """The message stays short; the attribute has them all."""
    module = program(CLASSES)
    with place.open(allow=ALLOW) as db:
        lost = module.Kept(x=1)
        for number in range(50):
            db[f"name {number:02}"] = lost
        db.commit()
        key = db.key_of(lost)
    remove(place, key)
    with place.open(allow=ALLOW) as db:
        with pytest.raises(pstore.MissingRecord, match=r"db\['name 09'\], \.\.\. refer to it") as caught:
            _ = db["name 07"].x
        assert len(caught.value.referrers) == 50


# ------------------------------------------------------------------------------------------------ other processes

WRITE = """
import going
db["gone"] = going.Gone()
db["gone"].x = 1
db["all"] = [db["gone"], shop.Person(name="Ann")]
db.close()
"""
READ = """
print(db["all"][1].name)
try:
    db["all"][0].x
except ImportError as error:
    print(type(error).__name__, error.module, error.qualname)
db["all"].append(1)
db.close()
"""


def test_program_without_the_module(path: Path, elsewhere: Callable[..., str], tmp_path: Path) -> None:
    """A module that is gone for a while, as processes see it: all else is read and written, and nothing is lost."""
    (tmp_path / "going.py").write_text("class Gone: pass\n")
    allow = "['shop', 'going']"
    elsewhere(WRITE, allow=allow)
    (tmp_path / "going.py").rename(tmp_path / "away")
    assert elsewhere(READ, allow=allow) == "Ann\nClassNotFound going Gone\n"
    (tmp_path / "away").rename(tmp_path / "going.py")
    assert elsewhere("print(db['all'][0].x, db['all'][2])", allow=allow) == "1 1\n"
