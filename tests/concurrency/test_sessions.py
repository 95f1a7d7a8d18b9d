"""Several sessions of a store against a model of them: whatever they do, each sees and stores what it has to."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from modelling import REMOVED, History, Model, ModelList, ModelNode, ModelSession, Node
from teams import SCALE

import pstore
from pstore.backends import MemoryBackend, SqliteBackend

NAMES = st.sampled_from("abcd")
WHICH = st.integers(0, 2)
ATOMS = st.integers(0, 9)
KINDS = st.sampled_from(["node", "list", "atom"])
PATHS = st.lists(st.integers(0, 7), min_size=1, max_size=5)
CHOICES = st.integers(0, 9)
#: The second session is serializable, the third keeps next to nothing in memory.
OPTIONS: list[dict[str, Any]] = [{}, {"isolation": "serializable"}, {"cache_size": 1}]


@dataclass
class Pair:
    """A session, and its model.

    Attributes:
        held: Objects that are held from one step to the next: (the object, its model).
        savepoints: Those that weren't gone behind: (the savepoint, its number in the model).
        dropped: Whether states may have been dropped since the transaction began.
    """

    number: int
    db: pstore.Store
    model: ModelSession
    held: list[tuple[Any, Any]] = field(default_factory=list)
    savepoints: list[tuple[pstore.Savepoint, int]] = field(default_factory=list)
    dropped: bool = False

    def begin(self, *, settle: bool = True) -> None:
        """Begin a transaction in both, unless one has begun.

        What was changed between two transactions, and back, after others have changed it too, may be the old or the new
        one until the transaction ends: it ends here, unless `settle` is false.
        """
        self.model.begin()
        assert self.db.revision == self.model.snapshot
        if settle and self.model.overtaken - self.model.changed().keys():
            self.rollback()
            self.model.begin()

    def rollback(self) -> None:
        """Roll both back."""
        self.db.rollback()
        self.model.rollback()
        if self.model.snapshot is not None:  # to have what others have changed, the next transaction may have begun
            self.begin()
        self.end(undone=True)

    def end(self, *, undone: bool) -> None:
        """A transaction is over; objects whose states may be gone aren't held any more."""
        self.savepoints.clear()
        self.forget_lost(undone=undone)
        self.dropped = self.number == 2

    def forget_lost(self, *, undone: bool) -> None:
        """What was put aside, dropped, and rolled back, says that it is gone; nobody looks at it any more."""
        if undone and self.dropped:
            self.held = [(real, model) for real, model in self.held if model.key is not None]


#: What is done in a session within a transaction: the name of a method, and its arguments.
ACTIONS = st.one_of(
    *(
        st.tuples(st.just(name), st.fixed_dictionaries(arguments))
        for name, arguments in {
            "look": {},
            "look_up": {"name": NAMES},
            "list_names": {},
            "list_instances": {},
            "list_changed": {},
            "look_by_key": {"path": PATHS},
            "put_new": {"name": NAMES, "kind": KINDS, "atom": ATOMS},
            "put_known": {"name": NAMES, "path": PATHS},
            "remove": {"choice": CHOICES},
            "link": {"owner": PATHS, "child": PATHS, "at": st.integers(0, 3)},
            "link_new": {"owner": PATHS, "at": st.integers(0, 3), "kind": KINDS, "atom": ATOMS},
            "unlink": {"owner": PATHS, "at": CHOICES},
            "set_atom": {"path": PATHS, "atom": ATOMS},
            "replace_list": {"path": PATHS},
            "hold": {"path": PATHS},
            "let_go": {},
            "change_held_list": {"choice": CHOICES, "atom": ATOMS, "take": st.booleans()},
            "link_held": {"choice": CHOICES, "path": PATHS},
            "make_savepoint": {},
            "go_back": {"choice": CHOICES},
            "evict": {},
            "evict_one": {"path": PATHS},
        }.items()
    )
)
WORK = st.lists(ACTIONS, min_size=1, max_size=6)


class Sessions(RuleBasedStateMachine):
    """Does the same in sessions and in their model."""

    def make_backend(self) -> Any:
        """Return an empty backend."""
        return MemoryBackend()

    @initialize()
    def open(self) -> None:
        self.backend = self.make_backend()
        self.history = History()
        self.keys: dict[int, int] = {}  # key of the store -> key of the model
        self.pairs: list[Pair] = []
        for number in range(3):
            self.pairs.append(self.new_pair(number))
        first = self.pairs[0]
        for name, kind in (("a", "node"), ("b", "node"), ("c", "list")):
            self.put_new(first, name, kind, 1)
        self.link(first, [0, 0], [2], 0)
        self.link_new(first, [2], 0, "list", 2)
        self.link_new(first, [1, 0], 0, "node", 3)
        self.commit_pair(first)

    def new_pair(self, number: int) -> Pair:
        """Open a session."""
        options = OPTIONS[number]
        others = [pair for pair in self.pairs if not pair.db.closed]
        if others and "cache_size" not in options:
            db = others[0].db.session(isolation=options.get("isolation", "snapshot"))
        else:
            db = pstore.open(self.backend, **options)
        model = ModelSession(self.history, serializable="isolation" in options)
        return Pair(number, db, model, dropped=number == 2)

    # ---------------------------------------------------------------- comparing

    def same(self, pair: Pair, real: Any, model: Any) -> None:
        """Assert that two values are of the same kind; numbers are equal, and objects have keys of the same record."""
        if isinstance(model, int):
            assert real == model
            return
        assert isinstance(real, Node if isinstance(model, ModelNode) else list)
        key = pair.db.key_of(real)
        assert (key is None) == (model.key is None), f"{real!r} has key {key}, and the model {model.key}"
        if key is not None:
            assert self.keys.setdefault(key, model.key) == model.key

    def content(self, pair: Pair, real: Any, model: Any) -> list[tuple[Any, Any]]:
        """Compare one object; return what it holds."""
        if isinstance(model, ModelNode):
            if model.key is not None:
                pair.model.read.add(model.key)
            assert real.atom == model.atom
            inner = [(real.items, model.items)]
        else:
            assert len(real) == len(model.values)
            inner = list(zip(real, model.values, strict=True))
        for one, other in inner:
            self.same(pair, one, other)
        return [(one, other) for one, other in inner if not isinstance(other, int)]

    def compare(self, pair: Pair) -> None:
        """Compare all that a session can reach, identities included."""
        pair.begin()
        db, model = pair.db, pair.model
        assert list(db) == model.names()
        assert len(db) == len(model.names())
        model.counted = True
        seen: dict[int, tuple[Any, Any]] = {}  # the object too, as the session forgets what nobody holds
        waiting = [*pair.held]
        for name in model.names():
            value = model.get(name)
            self.same(pair, db[name], value)
            if isinstance(value, Model):
                waiting.append((db[name], value))
        while waiting:
            real, modelled = waiting.pop()
            if id(real) in seen:
                assert seen[id(real)][1] is modelled
                continue
            seen[id(real)] = real, modelled
            waiting += self.content(pair, real, modelled)
        assert len({id(modelled) for _, modelled in seen.values()}) == len(seen)

    def find(self, pair: Pair, path: list[int]) -> tuple[Any, Any] | None:
        """Return the same object of both, or None; nothing else than the way to it is looked at."""
        pair.begin()
        names = pair.model.containers()
        if not names:
            return None
        name = names[path[0] % len(names) if path else 0]
        real, model = pair.db[name], pair.model.get(name)
        self.same(pair, real, model)
        for step in path[1:]:
            inner = self.content(pair, real, model)
            if not inner:
                break
            real, model = inner[step % len(inner)]
        return real, model

    # ------------------------------------------------------------------- reading

    def look(self, pair: Pair) -> None:
        self.compare(pair)

    def look_up(self, pair: Pair, name: str) -> None:
        pair.begin()
        assert (name in pair.db) == (name in pair.model.names())
        pair.model.read.add(name) if name not in pair.model.pending else None
        if name not in pair.model.names():
            with pytest.raises(KeyError):
                pair.db[name]
            with pytest.raises(KeyError):
                del pair.db[name]

    def list_names(self, pair: Pair) -> None:
        pair.begin()
        assert list(pair.db) == pair.model.names()
        pair.model.counted = True

    def list_instances(self, pair: Pair) -> None:
        pair.begin()
        keys = [pair.db.key_of(node) for node in pair.db.instances(Node)]
        assert keys == sorted(keys)
        expected = pair.model.instances()
        assert len(keys) == len(expected)
        assert {self.keys[key] for key in keys if key in self.keys} <= expected
        pair.model.listed = True

    def list_changed(self, pair: Pair) -> None:
        pair.begin()
        changed = pair.db.changed()
        expected = pair.model.changed_keys()
        assert len(changed) == len(expected)
        assert {self.keys.get(key := pair.db.key_of(obj), key) for obj in changed} & set(self.keys.values()) <= expected

    def look_by_key(self, pair: Pair, path: list[int]) -> None:
        if (found := self.find(pair, path)) and (key := pair.db.key_of(found[0])) is not None:
            assert pair.db.object_at(key) is found[0]

    # ------------------------------------------------------------------ changing

    def put_new(self, pair: Pair, name: str, kind: str, atom: int) -> None:
        pair.begin()
        real, model = make(kind, atom)
        pair.db[name], pair.model.pending[name] = real, model

    def put_known(self, pair: Pair, name: str, path: list[int]) -> None:
        if found := self.find(pair, path):
            pair.db[name], pair.model.pending[name] = found

    def remove(self, pair: Pair, choice: int) -> None:
        pair.begin()
        if names := pair.model.names():
            name = names[choice % len(names)]
            del pair.db[name]
            pair.model.read.add(name) if name not in pair.model.pending else None
            pair.model.pending[name] = REMOVED

    def link(self, pair: Pair, owner: list[int], child: list[int], at: int) -> None:
        one, other = self.find(pair, owner), self.find(pair, child)
        if one and other:
            self.insert(pair, one, at, other)

    def link_new(self, pair: Pair, owner: list[int], at: int, kind: str, atom: int) -> None:
        if found := self.find(pair, owner):
            self.insert(pair, found, at, make(kind, atom))

    def unlink(self, pair: Pair, owner: list[int], at: int) -> None:
        if found := self.find(pair, owner):
            real, model = self.list_of(pair, found)
            if model.values:
                del real[at % len(model.values)], model.values[at % len(model.values)]

    def set_atom(self, pair: Pair, path: list[int], atom: int) -> None:
        if (found := self.find(pair, path)) and isinstance(found[1], ModelNode):
            self.content(pair, *found)
            found[0].atom = found[1].atom = atom

    def replace_list(self, pair: Pair, path: list[int]) -> None:
        """Give a node another list; the old one may be held, and linked again."""
        if (found := self.find(pair, path)) and isinstance(found[1], ModelNode):
            self.content(pair, *found)
            found[0].items, found[1].items = make("list", 1)

    def list_of(self, pair: Pair, found: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return a list to change: that of a node, or the list itself."""
        return self.content(pair, *found)[0] if isinstance(found[1], ModelNode) else found

    def insert(self, pair: Pair, owner: tuple[Any, Any], at: int, child: tuple[Any, Any]) -> None:
        """Put something into a list."""
        real, model = self.list_of(pair, owner)
        real.insert(at, child[0])
        model.values.insert(at, child[1])

    # ------------------------------------------------------- what is held in memory

    def hold(self, pair: Pair, path: list[int]) -> None:
        if found := self.find(pair, path):
            pair.held.append(found)

    def let_go(self, pair: Pair) -> None:
        pair.held.clear()

    def change_held_list(self, pair: Pair, choice: int, atom: int, take: bool) -> None:
        """Also between two transactions, as a list can't tell the store."""
        lists = [(real, model) for real, model in pair.held if isinstance(model, ModelList)]
        if lists:
            real, model = lists[choice % len(lists)]
            assert len(real) == len(model.values)
            if take and real:
                del real[-1], model.values[-1]
            else:
                real.append(atom)
                model.values.append(atom)

    def link_held(self, pair: Pair, choice: int, path: list[int]) -> None:
        if (found := self.find(pair, path)) and pair.held:
            self.insert(pair, found, 0, pair.held[choice % len(pair.held)])

    # ----------------------------------------------------------------- transactions

    def do(self, pair: Pair, work: list[tuple[str, dict[str, Any]]]) -> None:
        """Do some work in a session."""
        for name, arguments in work:
            getattr(self, name)(pair, **arguments)

    @rule(which=WHICH, work=WORK)
    def work(self, which: int, work: Any) -> None:
        self.do(self.pairs[which], work)

    @rule(which=WHICH, work=WORK)
    def work_and_commit(self, which: int, work: Any) -> None:
        self.do(self.pairs[which], work)
        self.commit_pair(self.pairs[which])

    @rule(which=WHICH, other=st.integers(1, 2), work=WORK, works=WORK)
    def race(self, which: int, other: int, work: Any, works: Any) -> None:
        """Two work at once; the one that began first is the last to commit."""
        one, two = self.pairs[which], self.pairs[(which + other) % 3]
        one.begin()
        self.do(two, work)
        self.commit_pair(two)
        self.do(one, works)
        if not self.commit_pair(one):
            self.rollback_pair(one)

    @rule(other=st.sampled_from([0, 2]), path=PATHS, atom=ATOMS, work=WORK, mark=st.booleans())
    def skew(self, *, other: int, path: list[int], atom: int, work: Any, mark: bool) -> None:
        """The serializable session reads what another one changes, and writes something else."""
        one, two = self.pairs[1], self.pairs[other]
        self.rollback_pair(one)
        if found := self.find(one, path):
            self.content(one, *found)
        if mark:
            self.make_savepoint(one)
            self.evict(one)
        self.do(two, [*work, ("set_atom", {"path": path, "atom": atom})])
        self.commit_pair(two)
        self.put_new(one, "d", "atom", atom)
        if not self.commit_pair(one):
            self.rollback_pair(one)

    @rule(which=WHICH, other=st.integers(1, 2), path=PATHS, atom=ATOMS, between=WORK, work=WORK)
    def overtake(self, *, which: int, other: int, path: list[int], atom: int, between: Any, work: Any) -> None:
        """A list is changed in memory between two transactions, and perhaps back; another session may change it too."""
        one, two = self.pairs[which], self.pairs[(which + other) % 3]
        self.hold(one, path)
        if not self.commit_pair(one):
            self.rollback_pair(one)
        self.do(two, [*between, ("link_new", {"owner": path, "at": 0, "kind": "atom", "atom": atom})])
        self.commit_pair(two)
        change = {"choice": len(one.held) - 1, "atom": atom}
        self.change_held_list(one, **change, take=False)
        one.begin()
        if atom % 2:
            self.change_held_list(one, **change, take=True)
        else:
            self.do(one, work)
        self.commit_pair(one)

    @rule(which=WHICH)
    def commit(self, which: int) -> None:
        self.commit_pair(self.pairs[which])

    def commit_pair(self, pair: Pair) -> bool:
        """Commit in both; return whether it was done."""
        pair.begin(settle=False)
        refused_before = pair.model.refused is not None
        expected = pair.model.commit()
        try:
            done = pair.db.commit()
        except pstore.ConflictError as error:
            written = [conflict for conflict in error.conflicts if not conflict.read]
            names = {conflict.name for conflict in written if conflict.key is None}
            assert names == {what for what in expected.conflicts if isinstance(what, str)}
            assert len(written) == len(expected.conflicts)
            for conflict in error.conflicts:
                assert conflict.ours < conflict.theirs <= self.history.revision
                if conflict.read:
                    what = conflict.name if conflict.key is None else self.keys.get(conflict.key)
                    assert what is None or what in expected.newer
            assert expected.conflicts or pair.model.serializable
            assert expected.newer or expected.conflicts
            if not refused_before and not expected.conflicts:
                pair.model.refuse(expected)
            return False
        assert not expected.conflicts
        assert not expected.must, "what was read has changed"
        if expected.keys or expected.names:
            pair.model.publish()
            assert done.revision == self.history.revision
        assert len(done.keys) == len(expected.keys)
        assert {self.keys[key] for key in done.keys if key in self.keys} <= expected.keys
        assert set(done.names) == expected.names
        pair.end(undone=False)
        return True

    @rule(which=WHICH)
    def rollback(self, which: int) -> None:
        self.rollback_pair(self.pairs[which])

    def rollback_pair(self, pair: Pair) -> None:
        """Roll both back."""
        pair.rollback()

    def make_savepoint(self, pair: Pair) -> None:
        pair.begin()
        pair.savepoints.append((pair.db.savepoint(), pair.model.savepoint()))

    def go_back(self, pair: Pair, choice: int) -> None:
        if pair.savepoints:
            at = choice % len(pair.savepoints)
            savepoint, mark = pair.savepoints[at]
            savepoint.rollback()
            pair.model.back_to(mark)
            for later, _ in pair.savepoints[at + 1 :]:
                with pytest.raises(pstore.SavepointEnded):
                    later.rollback()
            del pair.savepoints[at + 1 :]
            pair.forget_lost(undone=True)

    def evict(self, pair: Pair) -> None:
        pair.begin()
        pair.db.evict()
        pair.dropped = True

    def evict_one(self, pair: Pair, path: list[int]) -> None:
        if found := self.find(pair, path):
            pair.db.evict([found[0]])
            pair.dropped = True

    @rule(which=WHICH, commit=st.booleans())
    def reopen(self, which: int, commit: bool) -> None:
        pair = self.pairs[which]
        if not commit or not self.commit_pair(pair):
            self.rollback_pair(pair)
        pair.db.close()
        self.pairs[which] = self.new_pair(which)

    @rule()
    def compare_with_a_new_session(self) -> None:
        with self.pairs[0].db.session() as db:
            pair = Pair(9, db, ModelSession(self.history))
            self.compare(pair)
            db.rollback()

    def teardown(self) -> None:
        if hasattr(self, "backend"):
            for pair in self.pairs:
                pair.db.rollback()
                pair.db.close()
            self.backend.close()


class WatchedSessions(Sessions):
    """The same, and all is looked at after each step."""

    @invariant()
    def all_the_same(self) -> None:
        if hasattr(self, "pairs"):
            for pair in self.pairs:
                self.compare(pair)


class SqliteSessions(Sessions):
    """On a file."""

    def make_backend(self) -> Any:
        self.directory = tempfile.TemporaryDirectory()
        return SqliteBackend(Path(self.directory.name) / "store.db", durable=False)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "directory"):
            self.directory.cleanup()


def make(kind: str, atom: int) -> tuple[Any, Any]:
    """A new object, and its model."""
    if kind == "node":
        return Node(atom), ModelNode(atom)
    return ([atom], ModelList([atom])) if kind == "list" else (atom, atom)


TestSessions = Sessions.TestCase
TestWatchedSessions = WatchedSessions.TestCase
TestSqliteSessions = SqliteSessions.TestCase
TestSessions.settings = settings(max_examples=int(100 * SCALE), stateful_step_count=50)
TestWatchedSessions.settings = settings(max_examples=int(50 * SCALE), stateful_step_count=40)
TestSqliteSessions.settings = settings(max_examples=int(50 * SCALE), stateful_step_count=50)
