"""Giving the classes of a store other names, and finding out that another session has done so.

A record says by a number of which class it is, so a rename is written into the row of the class, or into one row for each
version that its states were written with. The log tells of it by the key of the class, which is in it for nothing else. A
session that finds one there reads the row anew; the objects that it has of that class become objects of the new one.
This module knows rows, keys and what is in memory; it makes no objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pstore import rows
from pstore.catalog import refusal, stored_name, unpack_row, version_of
from pstore.declare import dotted, is_dotted
from pstore.errors import NewerVersion
from pstore.keys import code_of, make_key, serial_of
from pstore.records import named_in
from pstore.transactions import put_classes, put_head, put_log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pstore.backends.base import Transaction
    from pstore.catalog import Catalog
    from pstore.identity import IdentityMap
    from pstore.loader import Loader
    from pstore.restoring import Restorer
    from pstore.rows import ClassName, Head
    from pstore.states import States


class Renamed(NamedTuple):
    """What a rename has written, and not committed yet.

    Attributes:
        keys: The keys of the classes.
        log_row: Its row in the log.
        head: The counters that it leaves.
    """

    keys: tuple[int, ...]
    log_row: bytes
    head: Head


def write(writer: Transaction, catalog: Catalog, head: Head, old: object, new: object) -> Renamed:
    """Write that a class has another name.

    Args:
        writer: A transaction that has written nothing yet.
        catalog: Finds the class of the new name.
        head: The store's counters in that transaction.
        old: The class's dotted name in the store, or the class.
        new: The dotted name of the class that it is to be, or that class.

    Raises:
        ClassNotAllowed: The new class isn't allowed.
        ClassNotFound: There is no class of the new name.
        NewerVersion: The store has states of a newer version than the new class.
        TypeError: One of the two is neither a name nor a class, or is a builtin type.
        ValueError: The store has no class of the old name, or both are one name.
    """
    codes = list(range(1, head.next_code))
    found = writer.get_many("records", [make_key(code, 0) for code in codes])
    # As they are now: another session may have renamed some since this one has read them.
    names = {code: unpack_row(code, row) for code, row in zip(codes, found, strict=True)}
    old_name = _old_name(old, names)
    cls = _new_class(catalog, new)
    name = stored_name(cls)
    if str(name) == old_name:
        message = f"objects of {old_name} are stored under that name already"
        raise ValueError(message)
    renamed = {code: found for code, found in names.items() if str(found) == old_name}
    newest = max(found.version for found in renamed.values())
    if newest > version_of(cls):
        message = (
            f"the store has objects of {old_name} of version {newest}, and {name} is declared with version"
            f" {version_of(cls)}: declare it with @pstore.persistent(version={newest}, ...) first"
        )
        raise NewerVersion(message, module=name.module, qualname=name.qualname, stored=newest, declared=version_of(cls))
    # Where the module's name ends can't be seen in a dotted name: as the class's other rows have it.
    name = next((found for found in names.values() if str(found) == str(name)), name)
    revision = head.revision + 1
    keys = tuple(make_key(code, 0) for code in renamed)
    bodies = [rows.pack_class(name._replace(version=found.version)) for found in renamed.values()]
    put_classes(writer, dict(zip(keys, bodies, strict=True)), revision)
    log_row = put_log(writer, revision, rows.new_log_entry(f"rename_class: {old_name} is now {name}", keys, ()))
    head = head._replace(revision=revision)
    put_head(writer, head)
    return Renamed(keys, log_row, head)


def _old_name(old: object, names: dict[int, ClassName]) -> str:
    known = dict.fromkeys(map(str, names.values()))
    if isinstance(old, type):
        own = dotted(old.__module__, old.__qualname__)
        old = next((name for name in (str(stored_name(old)), own) if name in known), own)
    if not isinstance(old, str):
        message = f"a class is renamed by its name in the store, or by the class, not by {old!r}"
        raise TypeError(message)
    if old not in known:
        message = f"no class in this store has the name {old!r}; `classes` lists them: {', '.join(known) or 'none yet'}"
        raise ValueError(message)
    if old.startswith("builtins."):
        message = f"{old} is a builtin type: it keeps its name"
        raise TypeError(message)
    return old


def _new_class(catalog: Catalog, new: object) -> type:
    if isinstance(new, str) and is_dotted(new):
        cls = catalog.find_class(new)
    elif isinstance(new, type):
        cls = new
    else:
        message = f"a class is given the dotted name of a class, or the class, not {new!r}"
        raise TypeError(message)
    if cls.__module__ == "builtins":
        message = f"objects of another class can't be made into objects of the builtin type {cls.__qualname__}"
        raise TypeError(message)
    if not catalog.permits(cls):
        raise refusal(cls.__module__, cls.__qualname__, reason=catalog.why_not(cls))
    return cls


class Renames:
    """What a session does when it finds that classes were renamed.

    Args:
        identity: The session's identity map.
        states: Which states are in memory.
        catalog: The store's classes.
        loader: Knows which objects stand in for others.
        restorer: Makes the objects those of the new classes.
    """

    def __init__(
        self, identity: IdentityMap, states: States, catalog: Catalog, loader: Loader, restorer: Restorer
    ) -> None:
        self._identity = identity
        self._states = states
        self._catalog = catalog
        self._loader = loader
        self._restorer = restorer

    def affected(self, codes: set[int]) -> set[int]:
        """Return the keys of the objects in memory that the rename of these class codes makes others.

        Those of the classes, awake or not; those that have such objects in their records; and what stands in for others,
        which may be had now.
        """
        found = {
            key
            for key, obj in self._identity.objects.items()
            if serial_of(key) and (code_of(key) in codes or self._loader.is_stand_in(obj))
        }
        for key, baseline in self._states.baselines.items():
            named = (named for named in named_in(baseline.body, baseline.flags) if not serial_of(named))
            if baseline.code in codes or any(code_of(key) in codes for key in named):
                found.add(key)
        return found

    def take_in(self, reader: Transaction, codes: set[int], affected: Iterable[int]) -> None:
        """Read the rows of renamed classes, and restore the objects in memory that are affected."""
        listed = sorted(codes)
        found = reader.get_many("records", [make_key(code, 0) for code in listed])
        self._catalog.read(zip(listed, found, strict=True))
        self._loader.rename(listed)
        self._restorer.replace([key for key in affected if not self._restorer.try_to_restore(key, anew=True)])
