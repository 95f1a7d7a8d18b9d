"""What a serializable transaction has read: every way of reading counts, and nothing else does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from counting import Counter, Doctor

import pstore

if TYPE_CHECKING:
    from pstore.backends import Backend

Step = "Callable[[pstore.Store], Any]"


@pstore.persistent
class Team:
    """Has members, and a list of its own."""

    def __init__(self, *members: object) -> None:
        self.members = members
        self.notes: list[str] = []


def set_attribute(name: str, attribute: str, value: Any) -> Step:
    """Return what changes an attribute."""
    return lambda db: setattr(db[name], attribute, value)


def put(name: str, value: Any) -> Step:
    """Return what sets a name."""
    return lambda db: db.__setitem__(name, value)


def remove(name: str) -> Step:
    """Return what removes a name."""
    return lambda db: db.__delitem__(name)


def miss(db: pstore.Store) -> None:
    """Look for a name that isn't there."""
    with pytest.raises(KeyError):
        db["new"]


change_ann = set_attribute("ann", "on_call", False)


def note(db: pstore.Store) -> None:
    """Change a list within an object."""
    db["team"].notes.append("x")


def hire(db: pstore.Store) -> None:
    """One more doctor, and no more names."""
    db["other"].value = Doctor("new")


# What the one reads, and what another session changes: the first can't commit.
SEEN: dict[str, tuple[Step, Step]] = {
    "attribute": (lambda db: db["ann"].on_call, change_ann),
    "attribute through another object": (lambda db: db["team"].members[0].on_call, change_ann),
    "attribute that another session adds": (lambda db: hasattr(db["ann"], "age"), set_attribute("ann", "age", 3)),
    "container inside": (lambda db: list(db["team"].notes), note),
    "object that isn't looked into": (lambda db: db["team"].members, note),
    "slot of a list": (lambda db: db["list"][0], lambda db: db["list"].append(2)),
    "list that isn't looked into": (lambda db: db["list"], lambda db: db["list"].append(2)),
    "atom": (lambda db: db["atom"], put("atom", 2)),
    "atom by get": (lambda db: db.get("atom"), remove("atom")),
    "atom, replaced by an object": (lambda db: db["atom"], lambda db: db.update(atom=[])),
    "what a name leads to": (lambda db: db["ann"], lambda db: db.update(ann=Doctor("new"))),
    "that there is a name": (lambda db: "ann" in db, remove("ann")),
    "that there is no name": (lambda db: "new" in db, put("new", 1)),
    "that there is no name, by get": (lambda db: db.get("new"), put("new", 1)),
    "that there is no name, by an error": (miss, put("new", 1)),
    "all names, one more": (list, put("new", 1)),
    "all names, one less": (list, remove("atom")),
    "all names, by keys": (lambda db: list(db.keys()), put("new", 1)),
    "all values": (lambda db: list(db.values()), put("atom", 2)),
    "all items": (lambda db: list(db.items()), put("new", 1)),
    "number of names": (len, put("new", 1)),
    "number of names, one less": (len, remove("atom")),
    "instances, one more": (lambda db: list(db.instances(Doctor)), hire),
    "instances, one changed": (lambda db: [d.on_call for d in db.instances(Doctor)], change_ann),
    "instances of which there are none": (
        lambda db: list(db.instances(Team)),
        lambda db: setattr(db["other"], "value", Team()),
    ),
    "object by key": (lambda db: db.object_at(KEYS["ann"]).on_call, change_ann),
    "that nothing has changed": (lambda db: [vars(d) for d in (db["ann"], db["bob"])], change_ann),
    "copy": (lambda db: __import__("copy").deepcopy(db["team"]), note),
    "before a savepoint's rollback": (
        lambda db: [mark := db.savepoint(), db["ann"].on_call, mark.rollback()],
        change_ann,
    ),
    "before an eviction": (lambda db: [db["ann"].on_call, db.evict()], change_ann),
    "what is written, too": (lambda db: setattr(db["ann"], "name", "Ann"), change_ann),
    "names, before one is set": (lambda db: ["new" in db, put("new", 1)(db)], put("new", 2)),
}
ONLY_READ = [what for what in SEEN if "written" not in what and "set" not in what]
# The same, where there is nothing in the way.
UNSEEN: dict[str, tuple[Step, Step]] = {
    "another object": (lambda db: db["bob"].on_call, change_ann),
    "another name": (lambda db: db["atom"], put("new", 1)),
    "a name, and not what it leads to": (lambda db: "ann" in db, change_ann),
    "all names, and not what they lead to": (list, change_ann),
    "number of names, and one is replaced": (len, put("atom", 2)),
    "instances, and other ones come": (
        lambda db: list(db.instances(Counter)),
        lambda db: setattr(db["ann"], "friend", Doctor("new")),
    ),
    "an object that is found through one that changes": (lambda db: db.object_at(KEYS["ann"]).on_call, note),
    "what was read before a rollback": (lambda db: [db["ann"].on_call, db.rollback()], change_ann),
    "what was read before a commit": (lambda db: [db["ann"].on_call, put("mine", 1)(db), db.commit()], change_ann),
    "what was read before a commit of nothing": (lambda db: [db["ann"].on_call, db.commit()], change_ann),
    "nothing": (lambda db: None, change_ann),
}
KEYS: dict[str, int] = {}


@pytest.fixture
def db(backend: Backend) -> Any:
    """A store with doctors."""
    db = pstore.open(backend, isolation="serializable")
    ann, bob = Doctor("ann"), Doctor("bob")
    db["ann"], db["bob"], db["list"], db["atom"], db["other"] = ann, bob, [1], 1, Counter()
    db.commit()
    KEYS["ann"] = db.key_of(ann)
    yield db
    db.rollback()
    db.close()


def with_team(db: pstore.Store, what: str) -> None:
    """Add a team, unless there has to be none."""
    if "none" not in what:
        db["team"] = Team(db["ann"], db["bob"])
        db.commit()


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("what", SEEN)
def test_what_was_read_is_validated(db: pstore.Store, what: str, warm: bool) -> None:
    """A commit is refused when another session has changed what this one has read, freshly loaded or not."""
    with_team(db, what)
    read, change = SEEN[what]
    with db.session() as one, db.session() as two:
        if warm:
            read(one)
            one.rollback()
        read(one)
        change(two)
        two.commit()
        one["result"] = 1
        with pytest.raises(pstore.ConflictError) as raised:
            one.commit()
        assert raised.value.conflicts
        one.rollback()
        assert "result" not in one
        one["result"] = 1
        one.commit()  # nothing of before the rollback counts


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("what", UNSEEN)
def test_what_was_not_read_is_not_validated(db: pstore.Store, what: str, warm: bool) -> None:
    """A commit succeeds when another session has changed only what this one hasn't read in its transaction."""
    with_team(db, what)
    read, change = UNSEEN[what]
    with db.session() as one, db.session() as two:
        if warm:
            assert [vars(one[name]) for name in ("ann", "bob", "team")]
            one.rollback()
        read(one)
        change(two)
        two.commit()
        one["result"] = 1
        one.commit()


@pytest.mark.parametrize("what", ONLY_READ)
def test_reading_alone_always_succeeds(db: pstore.Store, what: str) -> None:
    """A transaction that writes nothing isn't refused, whatever others do."""
    with_team(db, what)
    read, change = SEEN[what]
    with db.session() as one, db.session() as two:
        read(one)
        change(two)
        two.commit()
        assert one.commit().keys == ()


@pytest.mark.parametrize("what", ONLY_READ)
def test_snapshots_do_not_validate_reads(db: pstore.Store, what: str) -> None:
    """With isolation "snapshot" only what is written counts."""
    with_team(db, what)
    read, change = SEEN[what]
    with db.session(isolation="snapshot") as one, db.session() as two:
        read(one)
        change(two)
        two.commit()
        one["result"] = 1
        one.commit()
