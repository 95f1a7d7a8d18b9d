"""The table of kinds in docs/architecture.md: each cell is what a store really does.

python tests/store/kinds_table.py            prints the table
python tests/store/kinds_table.py --write    puts it into the document; on Python 3.12 or newer, where all kinds are
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import kinds
from kinds import Kind

import pstore
from pstore import declare
from pstore.backends import MemoryBackend

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"
BEGIN, END = "<!-- the table of kinds begins -->", "<!-- the table of kinds ends -->"
#: Below this some kinds are left out.
ALL_KINDS = (3, 12)


class Tried:
    """A store with an object of a kind, alone and in other records, opened again.

    Args:
        kind: The kind.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.backend = MemoryBackend()
        with self.open() as db:
            db["x"] = kind.make()
            db["holder"] = kinds.Named("holder", db["x"])
            db["inline"] = kinds.Named("inline", [kind.make()])

    def open(self) -> pstore.Store:
        """Open the store; nothing is committed but by name."""
        return pstore.open(self.backend, allow=["kinds"])


def reference(tried: Tried) -> str:
    """Whether the name is followed without the record being read."""
    db = tried.open()
    _ = db["x"]
    return "loaded" if db.stats()["loads"] else "ghost"


def identity(tried: Tried) -> str:
    """Whether two ways lead to one object, asleep and awake."""
    db = tried.open()
    obj = db["x"]
    asleep = db["holder"].tags is obj
    state(obj)
    return "kept" if asleep and db["holder"].tags is obj is db["x"] else "lost"


def change(tried: Tried) -> str:
    """Whether reading writes nothing, and a change, of the record and of what stands in another's, is written."""
    db = tried.open()
    found = []
    for name, obj in (("x", db["x"]), ("inline", db["inline"].tags[0])):
        state(obj)
        quiet = db.commit().keys == ()
        tried.kind.change(obj)
        found.append(quiet and db.commit().keys == (db.key_of(db[name]),))
    db.close()
    db = tried.open()
    wanted = tried.kind.make()
    tried.kind.change(wanted)
    found += [state(db["x"]) == state(wanted), state(db["inline"].tags[0]) == state(wanted)]
    return "found" if all(found) else "lost"


def rollback(tried: Tried) -> str:
    """Whether the object in memory is what the store says again, or another one takes its place."""
    db = tried.open()
    obj = db["x"]
    before = state(obj)
    tried.kind.change(obj)
    db.rollback()
    if state(db["x"]) != before or db["holder"].tags is not db["x"]:
        return "lost"
    return "in place" if db["x"] is obj else "made anew"


def migration(tried: Tried) -> str:
    """By what a newer version of the class can take the state that an older one has stored."""
    return ", ".join(name for name, migrates in MIGRATIONS.items() if migrates(tried)) or "-"


def by_setstate(tried: Tried) -> bool:
    """Whether a `__setstate__` that the class has got since is given the old state."""
    cls = type(tried.kind.make())
    given: list[Any] = []
    default = next((vars(base)["__setstate__"] for base in type.mro(cls) if "__setstate__" in vars(base)), None)

    def setstate(obj: Any, old: Any) -> None:
        given.append(old)
        if default is not None:
            default(obj, old)
            return
        for part in old if isinstance(old, tuple) else (old,):
            for name, value in (part or {}).items():
                object.__setattr__(obj, name, value)

    own = vars(cls).get("__setstate__")
    try:
        type.__setattr__(cls, "__setstate__", setstate)
    except TypeError:  # a builtin type
        return False
    try:
        db = tried.open()
        return state(db["x"]) == state(tried.kind.make()) and any(given)
    finally:
        if own is None:
            type.__delattr__(cls, "__setstate__")
        else:
            type.__setattr__(cls, "__setstate__", own)


def by_migrate(tried: Tried) -> bool:
    """Whether the function that a newer version is declared with is given the old state, and what it returns is taken."""
    cls = type(tried.kind.make())
    if cls.__module__ == "builtins":
        return False  # it isn't for an application to declare
    tried = Tried(tried.kind)  # a store of its own, as what it holds is of a newer version then
    given: list[Any] = []

    def migrate(old: Any, version: int) -> Any:
        given.append(version)
        return old

    declared = declare.declaration(cls)
    try:
        pstore.persistent(cls, version=2, migrate=migrate)
        db = tried.open()
        if state(db["x"]) != state(tried.kind.make()) or given != [1] or db.commit().keys:
            return False
        tried.kind.change(db["x"])
        written = db.commit().keys == (db.key_of(db["x"]),)
        db.close()
        db = tried.open()
        again = state(db["x"])
        changed = tried.kind.make()
        tried.kind.change(changed)
        return written and given == [1] and again == state(changed)
    finally:
        declare.withdraw(cls)
        if declared is not None:
            pstore.persistent(cls, version=declared.version, migrate=declared.migrate)


#: What the column says -> whether it is so.
MIGRATIONS: dict[str, Callable[[Tried], bool]] = {"`migrate=`": by_migrate, "`__setstate__`": by_setstate}
COLUMNS: dict[str, Callable[[Tried], str]] = {
    "a reference is": reference,
    "identity": identity,
    "a change is": change,
    "rollback": rollback,
    "migration": migration,
}


def state(obj: Any) -> bytes:
    """All of an object, comparable."""
    return pstore.pickle.dumps(obj, canonical=True)


def rows() -> Iterator[tuple[str, str]]:
    """Yield each kind's name, and its line of the table."""
    for kind in (*kinds.KINDS.values(), *kinds.BUILTIN.values()):
        # Each in a store of its own, as they change it.
        cells = [column(Tried(kind)) for column in COLUMNS.values()]
        yield kind.name, f"| {' | '.join([kind.name, *cells])} |"


def table() -> str:
    """Return the table, in Markdown."""
    head = f"| {' | '.join(['kind', *COLUMNS])} |"
    return "\n".join([head, "|---" * (len(COLUMNS) + 1) + "|", *(row for _, row in rows())])


def written() -> str:
    """Return the table that the document has."""
    return DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def write(new: str) -> None:
    """Put a table into the document."""
    before, begin, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"{DOCUMENT} has no {BEGIN} and {END}"
        raise ValueError(message)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{new}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        if sys.version_info < ALL_KINDS:
            sys.exit("write it on Python 3.12 or newer: here some kinds are left out")
        write(table())
    else:
        print(table())
