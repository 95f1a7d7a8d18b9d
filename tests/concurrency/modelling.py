"""A model of a store with several sessions, over plain objects in memory: what the state machines hold a store to.

It knows the rules and none of the ways: what stands under a name or is of a declared class is a record, and so is a list
that two records reach; a transaction sees the commits up to its beginning; of two that write the same record or name the
first to commit wins. A record is told as nested tuples, in which other records are named by numbers of the model's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pstore


@pstore.persistent
class Node:
    """What the stores hold, beside lists and numbers: a number, and a list of any of these."""

    def __init__(self, atom: int) -> None:
        self.atom = atom
        self.items: list[Any] = []


class Model:
    """An object of a session, as the model has it. Compared by identity."""

    key: int | None = None


class ModelNode(Model):
    """Of a `Node`."""

    def __init__(self, atom: int = 0) -> None:
        self.atom = atom
        self.items: Any = ModelList()


class ModelList(Model):
    """Of a list."""

    def __init__(self, values: Any = ()) -> None:
        self.values: list[Any] = list(values)


REMOVED = object()
Told = tuple[Any, ...]


@dataclass
class History:
    """What was committed, by whomever.

    Attributes:
        revision: The newest one.
        records: The versions of each record: (revision, what it was).
        names: Those of each name, None where it was removed.
    """

    revision: int = 0
    records: dict[int, list[tuple[int, Told]]] = field(default_factory=dict)
    names: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    next_key: int = 1

    def record(self, key: int, revision: int) -> tuple[int, Told | None]:
        """Return a record as it was at a revision, and the revision that wrote it; 0 and None where there was none."""
        return next((version for version in reversed(self.records.get(key, [])) if version[0] <= revision), (0, None))

    def name(self, name: str, revision: int) -> tuple[int, Any]:
        """Return the same of a name: a number, ("ref", key) or None."""
        return next((version for version in reversed(self.names.get(name, [])) if version[0] <= revision), (0, None))

    def names_at(self, revision: int) -> set[str]:
        """Return the names that there were at a revision."""
        return {name for name in self.names if self.name(name, revision)[1] is not None}


@dataclass
class Savepoint:
    """A savepoint: what was pending, and what all records were."""

    mark: int
    pending: dict[str, Any]
    base: dict[int, Told]


@dataclass
class Outcome:
    """What a commit does.

    Attributes:
        keys: The records that it writes, or has to.
        names: The same of names.
        conflicts: Those of the two that others have written; when there are any, nothing is written.
        must: Whether a serializable transaction has certainly read what others have written.
        newer: Everything that others have written and this session doesn't have.
    """

    keys: set[int]
    names: set[str]
    conflicts: set[Any] = field(default_factory=set)
    must: bool = False
    newer: set[Any] = field(default_factory=set)


class ModelSession:
    """A session of the model."""

    def __init__(self, history: History, *, serializable: bool = False) -> None:
        self.history = history
        self.serializable = serializable
        self.snapshot: int | None = None
        self.objects: dict[int, Model] = {}
        self.base: dict[int, Told] = {}  # what each record was, or was put aside as
        self.revisions: dict[int, int] = {}  # the revision that each object was made of
        self.pending: dict[str, Any] = {}
        self.overtaken: set[int] = set()
        self.refused: Outcome | None = None
        self.aside: dict[int, set[int]] = {}
        self.savepoints: dict[int, Savepoint] = {}
        self.marks = 0
        self.forget_reads()

    def forget_reads(self) -> None:
        """A transaction has ended."""
        self.read: set[Any] = set()
        self.counted = self.listed = False

    # -------------------------------------------------------------- the mapping

    def begin(self) -> None:
        """Begin a transaction, unless one has begun."""
        if self.snapshot is not None:
            return
        self.snapshot = self.history.revision
        for key, obj in list(self.objects.items()):
            if self.history.record(key, self.snapshot)[0] > self.revisions[key]:
                if self.tell(obj) != self.base[key]:
                    self.overtaken.add(key)
                else:
                    self.overtaken.discard(key)
                    self.refill(key)

    def get(self, name: str) -> Any:
        """Return what stands under a name."""
        if name in self.pending:
            return self.pending[name]
        self.read.add(name)
        _, content = self.history.name(name, self.snapshot)
        return self.object_of(content[1]) if isinstance(content, tuple) else content

    def names(self) -> list[str]:
        """Return all names, in order."""
        stored = self.history.names_at(self.snapshot)
        added = {name for name, value in self.pending.items() if value is not REMOVED}
        return sorted((stored | added) - {name for name, value in self.pending.items() if value is REMOVED})

    def containers(self) -> list[str]:
        """Return the names under which something else than a number stands."""
        found = []
        for name in self.names():
            value = self.pending[name] if name in self.pending else self.history.name(name, self.snapshot)[1]
            if not isinstance(value, int):
                found.append(name)
        return found

    def instances(self) -> set[int]:
        """Return the keys of all nodes of the snapshot."""
        records = {key: self.history.record(key, self.snapshot)[1] for key in self.history.records}
        return {key for key, told in records.items() if told is not None and told[0] == "node"}

    # ------------------------------------------------------------------ objects

    def object_of(self, key: int) -> Model:
        """Return the object of a key, made when it is first asked for; what it refers to is made too."""
        waiting = [] if key in self.objects else [key]
        while waiting:
            at = waiting.pop()
            if at in self.objects:
                continue
            revision, told = self.history.record(at, self.snapshot)
            assert told is not None
            self.objects[at] = ModelNode() if told[0] == "node" else ModelList()
            self.objects[at].key = at
            self.base[at], self.revisions[at] = told, revision
            waiting += referred(told)
        for made in [made for made in self.objects if self.objects[made].__dict__.get("filled") is None]:
            self.fill(made, self.base[made])
        return self.objects[key]

    def fill(self, key: int, told: Told) -> None:
        """Give an object a state; the lists in it are new ones."""
        inner: dict[int, Any] = {}

        def build(part: Any, obj: Any = None) -> Any:
            if not isinstance(part, tuple):
                return part
            if part[0] == "ref":
                return self.object_of(part[1])
            if part[0] == "again":
                return inner[part[1]]
            if obj is None:
                obj = ModelNode() if part[0] == "node" else ModelList()
            inner[part[1]] = obj
            if part[0] == "node":
                obj.atom, obj.items = part[2], build(part[3])
            else:
                obj.values[:] = []
                obj.values.extend(build(value) for value in part[2])
            return obj

        obj = self.objects[key]
        obj.filled = True
        build(told, obj)

    def refill(self, key: int) -> None:
        """Make an object what the snapshot has."""
        self.revisions[key], self.base[key] = self.history.record(key, self.snapshot)
        self.fill(key, self.base[key])

    def tell(self, root: Model) -> Told:
        """Tell what a record is: with what stands in it alone, and the numbers of other records."""
        seen: dict[int, int] = {}

        def tell(value: Any) -> Any:
            if isinstance(value, int):
                return value
            if value.key is not None and value is not root:
                return ("ref", value.key)
            if id(value) in seen:
                return ("again", seen[id(value)])
            number = seen[id(value)] = len(seen)
            if isinstance(value, ModelNode):
                return ("node", number, value.atom, tell(value.items))
            return ("list", number, tuple([tell(inner) for inner in value.values]))

        return tell(root)

    # ------------------------------------------------------------- transactions

    def gather(self) -> list[Model]:
        """Give keys to what becomes a record now, and return it."""
        new: list[Model] = []
        for value in self.pending.values():
            if isinstance(value, Model) and value.key is None:
                self.give_key(value, new)
        while True:
            owners: dict[int, set[int]] = {}
            parts: dict[int, Model] = {}
            for key in list(self.objects):
                for part in inside(self.objects[key]):
                    if isinstance(part, ModelNode):
                        self.give_key(part, new)
                        break
                    owners.setdefault(id(part), set()).add(key)
                    parts[id(part)] = part
                else:
                    continue
                break
            else:
                shared = {part for part, by in owners.items() if len(by) > 1}
                if not shared:
                    return new
                outermost = {
                    id(part): part
                    for key in list(self.objects)
                    for part in inside(self.objects[key], stop_at=shared)
                    if id(part) in shared
                }
                for part in outermost.values():
                    self.give_key(part, new)

    def give_key(self, obj: Model, new: list[Model]) -> None:
        """Make an object a record."""
        obj.key = self.history.next_key
        self.history.next_key += 1
        self.objects[obj.key] = obj
        obj.filled = True
        self.revisions[obj.key] = 0
        new.append(obj)

    def take_key(self, obj: Model) -> None:
        """An object is no record any more."""
        key, obj.key = obj.key, None
        del self.objects[key], self.revisions[key]
        self.base.pop(key, None)

    def changed(self) -> dict[int, Told]:
        """Return what differs from what is known of it."""
        told = {key: self.tell(obj) for key, obj in self.objects.items()}
        return {key: now for key, now in told.items() if now != self.base.get(key)}

    def put_aside(self) -> set[int]:
        """Return the keys of all that was put aside."""
        return set().union(*self.aside.values())

    def changed_keys(self) -> set[int]:
        """Return the keys of what the snapshot has and a commit would write."""
        found = {key for key in self.changed().keys() | self.put_aside() if self.history.record(key, self.snapshot)[1]}
        return found | (self.overtaken & self.changed().keys())

    def commit(self) -> Outcome:
        """Commit, or tell the conflicts."""
        self.begin()
        if self.refused is not None:
            return self.refused
        new = self.gather()
        changed = self.changed()
        done = Outcome(changed.keys() | self.put_aside(), set())
        contents: dict[str, Any] = {}
        for name, value in self.pending.items():
            content = None if value is REMOVED else value if isinstance(value, int) else ("ref", value.key)
            if content != self.history.name(name, self.snapshot)[1]:
                contents[name] = content
        done.names = set(contents)
        if not done.keys and not done.names:
            self.end()
            return done
        history, since = self.history, self.snapshot
        done.newer = {key for key in history.records if history.record(key, history.revision)[0] > since}
        done.newer |= {name for name in history.names if history.name(name, history.revision)[0] > since}
        done.newer |= self.overtaken
        done.conflicts = {what for what in done.keys | done.names if what in done.newer}
        done.must = self.serializable and self.was_read(done.newer - self.overtaken)
        self.prepared = (changed, contents, new)
        if done.conflicts:
            self.refuse(done)
        return done

    def was_read(self, newer: set[Any]) -> bool:
        """Return whether this transaction has certainly read what others have written since."""
        history = self.history
        come_or_gone = history.names_at(self.snapshot) ^ history.names_at(history.revision)
        nodes = {key for key, versions in history.records.items() if versions[-1][1][0] == "node"}
        return bool(newer & self.read or (self.counted and newer & come_or_gone) or (self.listed and newer & nodes))

    def refuse(self, done: Outcome) -> None:
        """A commit has conflicted: all is as it was, and no other one is tried before a rollback."""
        for obj in self.prepared[2]:
            self.take_key(obj)
        self.refused = done

    def publish(self) -> None:
        """A commit has succeeded."""
        changed, contents, _ = self.prepared
        history = self.history
        history.revision += 1
        for key in changed.keys() | self.put_aside():
            told = changed.get(key, self.base.get(key))
            history.records.setdefault(key, []).append((history.revision, told))
            self.base[key], self.revisions[key] = told, history.revision
        for name, content in contents.items():
            history.names.setdefault(name, []).append((history.revision, content))
        self.pending.clear()
        self.end()

    def end(self) -> None:
        """A transaction is over."""
        self.pending.clear()
        self.snapshot = None
        self.aside.clear()
        self.savepoints.clear()
        self.forget_reads()

    def savepoint(self) -> int:
        """Make a savepoint; return its number."""
        self.begin()
        self.gather()
        changed = self.changed()
        self.base.update(changed)
        self.marks += 1
        self.aside[self.marks] = set(changed)
        self.savepoints[self.marks] = Savepoint(self.marks, dict(self.pending), dict(self.base))
        return self.marks

    def back_to(self, mark: int) -> None:
        """Go back to a savepoint."""
        saved = self.savepoints[mark]
        self.restore(mark, {**self.stored(), **saved.base})
        self.pending = dict(saved.pending)
        self.savepoints = {known: savepoint for known, savepoint in self.savepoints.items() if known <= mark}

    def rollback(self) -> None:
        """Go back to the beginning."""
        self.restore(0, self.stored())
        self.end()
        self.refused = None
        if self.overtaken:
            self.begin()
            for key in self.overtaken & self.objects.keys():
                self.refill(key)
            self.overtaken.clear()

    def stored(self) -> dict[int, Told]:
        """Return what the objects were when they came from the store."""
        found = {key: self.history.record(key, revision)[1] for key, revision in self.revisions.items()}
        return {key: told for key, told in found.items() if told is not None}

    def restore(self, mark: int, base: dict[int, Told]) -> None:
        """Undo what was changed since a savepoint."""
        undone = set().union(*(keys for known, keys in self.aside.items() if known > mark))
        self.aside = {known: keys for known, keys in self.aside.items() if known <= mark}
        back = undone | self.changed().keys()
        for key in back - base.keys():
            self.take_key(self.objects[key])
        for key in back & base.keys():
            self.base[key] = base[key]
            self.fill(key, base[key])


def referred(told: Any) -> list[int]:
    """Return the keys that a record refers to."""
    if not isinstance(told, tuple):
        return []
    if told[0] == "ref":
        return [told[1]]
    if told[0] == "again":
        return []
    parts = [told[3]] if told[0] == "node" else told[2]
    return [key for part in parts for key in referred(part)]


def inside(root: Model, stop_at: set[int] = frozenset()) -> list[Model]:
    """Return what stands in a record without being one; what stands in those of `stop_at` isn't looked at."""
    found: dict[int, Model] = {}
    waiting: list[Any] = [root]
    while waiting:
        obj = waiting.pop()
        for part in [obj.items] if isinstance(obj, ModelNode) else obj.values:
            if isinstance(part, Model) and part.key is None and id(part) not in found:
                found[id(part)] = part
                if id(part) not in stop_at:
                    waiting.append(part)
    return list(found.values())
