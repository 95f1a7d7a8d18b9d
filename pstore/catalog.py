"""The catalog: the classes of a store and their codes.

A class is a record too, with serial number 0: its module, its qualified name and its version; so each version of a class
has a code of its own. A record never repeats a class's name, and whether a class is allowed is asked once. This module knows classes and names; it knows
neither objects nor where rows are kept.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Final, NoReturn

from pstore import rows
from pstore.declare import claimed, declaration, dotted, is_declared
from pstore.errors import ClassNotAllowed, ClassNotFound, CorruptRecord, Error, NewerVersion
from pstore.keys import MAX_CODE, code_of, make_key, serial_of
from pstore.pickle.policy import Refused
from pstore.rows import ClassName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pstore.backends.base import Row
    from pstore.declare import Migration
    from pstore.pickle.policy import Policy

#: What is raised for a class that can't be had: the objects of it stay as they are, and all others can be loaded.
UNAVAILABLE: Final = (ClassNotAllowed, ClassNotFound, NewerVersion)

#: Packages that run code or commands, load libraries, or reach whatever is asked of them by name: allowing what is in
#: them is never the remedy.
_MACHINERY: Final = frozenset(
    {
        *("_ctypes", "_functools", "_imp", "_interpreters", "_operator", "_osx_support", "_pickle", "_posixshmem"),
        *(
            "_posixsubprocess",
            "_socket",
            "_ssl",
            "_thread",
            "_winapi",
            "_xxsubinterpreters",
            "asyncio",
            "atexit",
            "bdb",
        ),
        *("builtins", "cProfile", "code", "codecs", "codeop", "concurrent", "copyreg", "ctypes", "distutils"),
        *(
            "ensurepip",
            "fileinput",
            "ftplib",
            "functools",
            "gc",
            "glob",
            "http",
            "imp",
            "importlib",
            "inspect",
            "logging",
        ),
        *("marshal", "mmap", "msvcrt", "multiprocessing", "nt", "ntpath", "operator", "os", "pdb", "pickle", "pip"),
        *("pkgutil", "platform", "posix", "posixpath", "profile", "pstore", "pty", "pydoc", "readline", "runpy"),
        *("setuptools", "shelve", "shutil", "signal", "site", "smtplib", "socket", "socketserver", "ssl", "subprocess"),
        *("sys", "sysconfig", "tempfile", "threading", "timeit", "trace", "types", "unittest", "urllib", "venv"),
        *("webbrowser", "winreg", "xmlrpc", "zipimport"),
    }
)
#: The same, in modules of which the rest is harmless.
_MACHINES: Final = frozenset({*("_io.FileIO", "_io.open", "_io.open_code", "io.FileIO", "io.open", "io.open_code")})


class Catalog:
    """The classes of one store, as one session knows them.

    A class may have several codes: one for each version that states were written with, and more where classes were given
    one name. A code is the key's, with which an object was made, or the one in a record's header, with which its state was
    written; all codes of a class lead to it.

    Args:
        policy: What may be named.

    Attributes:
        simple: For the loader: the class of a code, where it has found that loading its objects takes nothing special. It
            holds as long as what `resolve` has found, and is emptied with that.
        unavailable: Codes that `resolve` or `class_of` has raised an error for, other than CorruptRecord.
    """

    def __init__(self, policy: Policy) -> None:
        self.unavailable: set[int] = set()
        self._policy = policy
        self._names: dict[int, ClassName] = {}
        #: The first code of each (dotted name, version), and of each dotted name whatever the version.
        self._codes: dict[tuple[str, int], int] = {}
        self._first_codes: dict[str, int] = {}
        self._classes: dict[int, type] = {}  # code -> class, whatever the versions
        self.simple: dict[int, type] = {}
        self._resolved: dict[int, type] = {}  # the same, where the class can read what the code has written
        self._migrations: dict[int, tuple[Migration, int]] = {}  # for states that were written with the code
        #: By the id of a class, which is entered with it: a metaclass may say that two classes are equal.
        self._code_of_class: dict[int, tuple[int, type]] = {}
        #: By the id of a class in `_classes`: the first code that has led to it under another name than its own.
        self._aliases: dict[int, int] = {}
        self._permitted: dict[int, type] = {}  # by their ids
        #: Codes that were given in a commit that isn't done yet.
        self._pending: dict[int, ClassName] = {}
        #: By the id of a class in `_classes`: a negative number that stands for the code that it would get.
        self._expected: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def names(self) -> dict[int, ClassName]:
        """Return the name of every class by its code."""
        return dict(self._names)

    def read(self, found: Iterable[tuple[int, Row | None]]) -> None:
        """Take in the records of classes, in place of what was known of their codes.

        Args:
            found: (code, row); None for a row that is missing.

        Raises:
            CorruptRecord: A row is damaged or missing.
        """
        for code, row in found:
            name = unpack_row(code, row)
            known = self._names.get(code)
            self._enter(code, name)
            if known not in (None, name):
                self._forget_classes()

    def resolve(self, code: int) -> type:
        """Return the class of a code, for a state that was written with it.

        Raises:
            ClassNotAllowed: The policy refuses it; nothing was imported.
            ClassNotFound: It is allowed, but can't be imported or isn't a class.
            CorruptRecord: No class has this code.
            NewerVersion: The state is of a newer version than the class here.
        """
        try:
            return self._resolved[code]
        except KeyError:
            pass
        cls = self.class_of(code)
        name, version = self._names[code], version_of(cls)
        if name.version > version:
            self.unavailable.add(code)
            message = (
                f"{name} was stored with version {name.version}, and the class is declared with version {version} here:"
                " update the program that has the class, or declare it with"
                f" @pstore.persistent(version={name.version}, ...)"
            )
            raise NewerVersion(
                message, module=name.module, qualname=name.qualname, stored=name.version, declared=version
            )
        self._resolved[code] = cls
        found = declaration(cls)
        if found is not None and found.migrate is not None and name.version < version:
            self._migrations[code] = found.migrate, name.version
        return cls

    def class_of(self, code: int) -> type:
        """Return the class of a code, whatever the version. Raises as `resolve` does, but for NewerVersion."""
        try:
            return self._classes[code]
        except KeyError:
            pass
        name = self._names.get(code)
        if name is None:
            message = f"no class in this store has the code {code}"
            raise CorruptRecord(message, key=make_key(code, 0) if 0 < code <= MAX_CODE else None)
        try:
            found = self._look_up(name)
        except UNAVAILABLE:
            self.unavailable.add(code)
            raise
        self._classes[code] = found
        if str(name) != str(stored_name(found)):
            self._aliases.setdefault(id(found), code)
        return found

    def _look_up(self, name: ClassName) -> type:
        try:
            found = self._policy.find(name.module, name.qualname)
        except Refused as error:
            refused = refusal(error.module, error.qualname, reason=error.reason)
            if not _is_at_hand(name):
                message = (
                    f"{refused}\nIf the class was renamed or moved, declare the one that it is now with"
                    f" @pstore.persistent(name={str(name)!r}), or call db.rename_class({str(name)!r}, new)."
                )
                refused.args = (message,)
            raise refused from None
        except Exception as error:
            raise missing(name, _cause(error)) from error
        if not isinstance(found, type):
            raise missing(name, f"it isn't a class any more but {found!r}")
        return found

    def migration(self, code: int) -> tuple[Migration, int] | None:
        """Return what makes a state of today from one that was written with a code, and that state's version.

        None where the state is of today, or its class takes it as it is.
        """
        return self._migrations.get(code)

    def code_of(self, cls: type, next_code: int) -> int:
        """Return the code of a class in its version; a class that has none takes `next_code`, pending until `settle`.

        Raises:
            ClassNotAllowed: The policy refuses the class.
        """
        code = self._known_code(cls)
        if code is not None:
            return code
        self._check_permitted(cls)
        name = stored_name(cls)
        code = self._codes.get((str(name), name.version))
        if code is None:
            if next_code > MAX_CODE:
                message = f"a store holds at most {MAX_CODE} classes"
                raise OverflowError(message)
            code = next_code
            # As other versions have it: where the module's name ends is not to be seen in a dotted one.
            earlier = self._names.get(self._first_codes.get(str(name), 0), name)
            name = earlier._replace(version=name.version)
            self._pending[code] = name
            self._enter(code, name)
        self._classes[code] = self._resolved[code] = cls
        self.simple.pop(code, None)
        self._code_of_class[id(cls)] = code, cls
        return code

    def expected_code(self, cls: type) -> int:
        """Return the code of a class, as `code_of` does; for one that has none yet, a negative number in its place.

        That number serves to compare, and to resolve; it isn't stored.

        Raises:
            ClassNotAllowed: The policy refuses the class.
        """
        if self.knows(cls):
            return self.code_of(cls, 0)
        if id(cls) not in self._expected:
            self._check_permitted(cls)
            code = self._expected[id(cls)] = -1 - len(self._expected)
            self._resolved[code] = self._classes[code] = cls
        return self._expected[id(cls)]

    def reference_code(self, cls: type) -> int | None:
        """Return the code by which records refer to a class itself, None where it has none; whether it is allowed isn't asked.

        That is its first, whatever the version, so that such a reference never changes.
        """
        return self._first_codes.get(str(stored_name(cls)), self._aliases.get(id(cls)))

    def knows(self, cls: type) -> bool:
        """Return whether `code_of` would answer without taking a new code."""
        if self._known_code(cls) is not None:
            return True
        name = stored_name(cls)
        return (str(name), name.version) in self._codes

    @property
    def has_other_names(self) -> bool:
        """Whether a class may be referred to by another code than the one that is written now."""
        return bool(self._aliases) or len(self._codes) < len(self._names)

    def codes_of(self, cls: type) -> list[int]:
        """Return all codes of a class, of whatever version or name. This imports what is allowed and in the store.

        Raises:
            ClassNotAllowed: The policy refuses the class, and there are objects of that name.
        """
        if str(stored_name(cls)) in self._first_codes:
            self._check_permitted(cls)
        return [code for code in list(self._names) if self._class_or_none(code) is cls]

    def _class_or_none(self, code: int) -> type | None:
        try:
            return self.class_of(code)
        except UNAVAILABLE:
            return None

    def find_class(self, name: str) -> type:
        """Return the class that has this dotted name, or that records under it belong to.

        Raises:
            ClassNotAllowed: The policy refuses it.
            ClassNotFound: It is allowed, but isn't there.
        """
        parts = name.split(".")
        # Where the module's name ends isn't said.
        names = [ClassName(".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(len(parts) - 1, -1, -1)]
        results = [self._class_or_error(found) for found in names]
        for wanted in (type, ClassNotFound, ClassNotAllowed):
            for result in results:
                if isinstance(result, type) and wanted is type:
                    return result
                if isinstance(result, Error) and isinstance(result, wanted):
                    raise result
        message = f"{name!r} can't be the name of a class"
        raise ValueError(message)

    def _class_or_error(self, name: ClassName) -> type | Error:
        try:
            return self._look_up(name)
        except (ClassNotAllowed, ClassNotFound) as error:
            return error

    def pending(self) -> dict[int, bytes]:
        """Return the bodies of the records of the classes that are pending, by key."""
        return {make_key(code, 0): rows.pack_class(name) for code, name in self._pending.items()}

    def settle(self) -> None:
        """The commit is done: what was pending stays."""
        self._pending.clear()

    def withdraw(self) -> None:
        """The commit has failed: what was pending is forgotten."""
        if self._pending:
            self.forget(min(self._pending))

    def forget(self, start: int) -> None:
        """Forget the codes from this one on: they were never given."""
        self._names = {code: name for code, name in self._names.items() if code < start}
        self._pending.clear()
        self._forget_classes()

    def permits(self, found: object) -> bool:
        """Return whether a function or class may be written by its name."""
        if not isinstance(found, type):
            return self._policy.permits(found)
        if id(found) not in self._permitted:
            if not is_declared(found):
                permitted = self._policy.permits(found)
            else:
                name = stored_name(found)
                permitted = self._policy.find(name.module, name.qualname) is found  # not refused: it was declared
            if not permitted:
                return False
            self._permitted[id(found)] = found
        return True

    def why_not(self, found: object) -> str:
        """Return why a class or function that isn't permitted couldn't be found again, as a clause; "" where it could."""
        if isinstance(found, type) and not is_declared(found):
            other = claimed(str(stored_name(found)))
            if other is not None and (other.cls.__module__, other.cls.__qualname__) != (
                found.__module__,
                found.__qualname__,
            ):
                return (
                    f"{dotted(other.cls.__module__, other.cls.__qualname__)} is declared to be stored under that name"
                )
        return self._policy.why_not(found)

    def find(self, module: str, qualname: str) -> object:
        """Return what a stream names, for an unpickler.

        Raises:
            ClassNotAllowed: The policy refuses it.
            ClassNotFound: It is allowed, but can't be imported.
        """
        try:
            return self._policy.find(module, qualname)
        except Refused as error:
            raise refusal(error.module, error.qualname, reason=error.reason) from None
        except Exception as error:
            raise missing(ClassName(module, qualname), _cause(error)) from error

    def label(self, key: int) -> str:
        """Return a key as a person reads it: `Person#12`, or `class shop.Person`."""
        code, serial = code_of(key), serial_of(key)
        name = self._names.get(code)
        if serial == 0:
            return f"class {name or f'?{code}'}"
        return f"{name.qualname if name else f'?{code}'}#{serial}"

    def _known_code(self, cls: type) -> int | None:
        known = self._code_of_class.get(id(cls))
        if known is not None:
            return known[0]
        if id(cls) in self._aliases and not is_declared(cls):
            # Found under another name than its own, such as one that its module has moved it away from.
            alias = self._aliases[id(cls)]
            return self._codes.get((str(stored_name(cls)), 1), alias if self._names[alias].version == 1 else None)
        return None

    def _check_permitted(self, cls: type) -> None:
        if not self.permits(cls):
            raise refusal(cls.__module__, cls.__qualname__, reason=self.why_not(cls))

    def _enter(self, code: int, name: ClassName) -> None:
        self._names[code] = name
        self._codes.setdefault((str(name), name.version), code)
        self._first_codes.setdefault(str(name), code)

    def _forget_classes(self) -> None:
        """Names have changed: find out anew which class has which codes."""
        known, self._names = sorted(self._names.items()), {}
        for table in (self._codes, self._first_codes, self._code_of_class, self._aliases, self._migrations):
            table.clear()
        self.simple.clear()
        for classes in (self._classes, self._resolved):
            for code in [code for code in classes if code > 0]:
                del classes[code]
        self.unavailable.clear()
        for code, name in known:
            self._enter(code, name)


def unpack_row(code: int, row: Row | None) -> ClassName:
    """Return what the row of a class says.

    Raises:
        CorruptRecord: It is damaged or missing.
    """
    key = make_key(code, 0)
    try:
        if row is None:
            _damaged("it is missing")
        return rows.unpack_class(rows.unseal(rows.record_place(key), row).body)
    except ValueError as error:
        raise rows.unreadable(error, f"the record of class {code}", key=key) from error


def stored_name(cls: type) -> ClassName:
    """Return the name and version with which objects of a class are stored."""
    found = declaration(cls)
    if found is None:
        return ClassName(cls.__module__, cls.__qualname__)
    return ClassName(found.module, found.qualname, found.version)


def version_of(cls: type) -> int:
    """Return the version of the states that objects of a class have; that of a class that isn't declared is 1."""
    found = declaration(cls)
    return 1 if found is None else found.version


def missing(name: ClassName, cause: str) -> ClassNotFound:
    """Return the error for a class that isn't where it was."""
    message = (
        f"the class {name.qualname} of the module {name.module or '(none)'} can't be found: {cause}. Restore it; or"
        f" declare the class that has taken its place with @pstore.persistent(name={str(name)!r}); or say once and for all"
        f" which class that is, with db.rename_class({str(name)!r}, new)"
    )
    return ClassNotFound(message, module=name.module, qualname=name.qualname)


def refusal(module: str, qualname: str, *, where: str | None = None, reason: str = "") -> ClassNotAllowed:
    """Return the error for a class or function that may not be named, with the line to paste where there is one.

    Args:
        module: Its module.
        qualname: Its qualified name.
        where: The path to what needs it, where there is one.
        reason: Why allowing it wouldn't help, as a clause; empty where it might.
    """
    name = f"{module}.{qualname}"
    prefix = f"{where}: " if where else ""
    if not reason and "<locals>" in qualname:
        reason = (
            "it is defined within a function, so another process couldn't find it: move it to the top level of its"
            " module"
        )
    if reason:
        message = f"{prefix}{name} can't be named in this store: {reason}"
    elif module.partition(".")[0] in _MACHINERY or name in _MACHINES:
        message = (
            f"{prefix}{name} isn't allowed in this store. It could make a store run anything. Leave what needs it out of"
            " the state (`__getstate__`)."
        )
    else:
        message = (
            f"{prefix}{name} isn't allowed in this store. If you trust it, declare the class with @pstore.persistent, or"
            f" open the store with\n    allow=[{name!r}]"
        )
    return ClassNotAllowed(message, module=module, qualname=qualname, reason=reason)


def _is_at_hand(name: ClassName) -> bool:
    """Return whether something stands under the name; nothing is imported."""
    found: object = sys.modules.get(name.module)
    for part in name.qualname.split("."):
        if not isinstance(found, (ModuleType, type)) or part not in vars(found):
            return False
        found = vars(found)[part]
    return True


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, ImportError) else f"importing it raised {type(error).__name__}: {error}"


def _damaged(what: str) -> NoReturn:
    raise ValueError(what)
