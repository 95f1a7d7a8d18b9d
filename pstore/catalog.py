"""The catalog: the classes of a store and their codes.

A class is a record too, with serial number 0: its module, its qualified name and its version. So a record never
repeats a class's name, and whether a class is allowed is asked once. This module knows classes and names; it knows
neither objects nor where rows are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from pstore import rows
from pstore.errors import ClassNotAllowed, CorruptRecord
from pstore.keys import MAX_CODE, code_of, make_key, serial_of
from pstore.pickle.policy import Refused
from pstore.rows import ClassName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pstore.backends.base import Row
    from pstore.pickle.policy import Policy


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

    Args:
        policy: What may be named.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._names: dict[int, ClassName] = {}
        self._codes: dict[tuple[str, str], int] = {}
        self._classes: dict[int, type] = {}
        #: By the id of a class, which is entered with its code: a metaclass may say that two classes are equal.
        self._code_of_class: dict[int, tuple[int, type]] = {}
        #: Codes that were given in a commit that isn't done yet.
        self._pending: dict[int, ClassName] = {}

    def __len__(self) -> int:
        return len(self._names)

    def names(self) -> dict[int, ClassName]:
        """Return the name of every class by its code."""
        return dict(self._names)

    def read(self, found: Iterable[tuple[int, Row | None]]) -> None:
        """Take in the records of classes.

        Args:
            found: (code, row); None for a row that is missing.

        Raises:
            CorruptRecord: A row is damaged or missing.
        """
        for code, row in found:
            key = make_key(code, 0)
            try:
                if row is None:
                    _damaged("it is missing")
                name = rows.unpack_class(rows.unseal(rows.record_place(key), row).body)
            except ValueError as error:
                raise rows.unreadable(error, f"the record of class {code}", key=key) from error
            self._enter(code, name)

    def resolve(self, code: int) -> type:
        """Return the class of a code.

        Raises:
            ClassNotAllowed: The policy refuses it; nothing was imported.
            CorruptRecord: No class has this code, or its name is not that of a class.
            ImportError: The class's module is allowed but can't be imported.
        """
        try:
            return self._classes[code]
        except KeyError:
            pass
        name = self._names.get(code)
        if name is None:
            message = f"no class in this store has the code {code}"
            raise CorruptRecord(message, key=make_key(code, 0) if 0 < code <= MAX_CODE else None)
        try:
            found = self._policy.find(name.module, name.qualname)
        except Refused as error:
            raise refusal(error.module, error.qualname, reason=error.reason) from None
        if not isinstance(found, type):
            message = f"{name} was stored as a class but is {found!r}"
            raise CorruptRecord(message, key=make_key(code, 0))
        self._classes[code] = found
        self._code_of_class[id(found)] = code, found
        return found

    def code_of(self, cls: type, next_code: int) -> int:
        """Return the code of a class; a class that has none takes `next_code`, pending until `settle`.

        Raises:
            ClassNotAllowed: The policy refuses the class.
        """
        try:
            return self._code_of_class[id(cls)][0]
        except KeyError:
            pass
        if not self._policy.permits(cls):
            raise refusal(cls.__module__, cls.__qualname__, reason=self._policy.why_not(cls))
        name = ClassName(cls.__module__, cls.__qualname__)
        code = self._codes.get((name.module, name.qualname))
        if code is None:
            if next_code > MAX_CODE:
                message = f"a store holds at most {MAX_CODE} classes"
                raise OverflowError(message)
            code = next_code
            self._pending[code] = name
            self._enter(code, name)
        self._classes[code] = cls
        self._code_of_class[id(cls)] = code, cls
        return code

    def knows(self, cls: type) -> bool:
        """Return whether `code_of` would answer without taking a new code."""
        return id(cls) in self._code_of_class or (cls.__module__, cls.__qualname__) in self._codes

    def pending(self) -> dict[int, bytes]:
        """Return the bodies of the records of the classes that are pending, by key."""
        return {make_key(code, 0): rows.pack_class(name) for code, name in self._pending.items()}

    def settle(self) -> None:
        """The commit is done: what was pending stays."""
        self._pending.clear()

    def withdraw(self) -> None:
        """The commit has failed: what was pending is forgotten."""
        for code, name in self._pending.items():
            del self._names[code], self._codes[name.module, name.qualname]
            cls = self._classes.pop(code, None)
            if cls is not None:
                del self._code_of_class[id(cls)]
        self._pending.clear()

    def permits(self, found: object) -> bool:
        """Return whether a function or class may be written by its name."""
        return self._policy.permits(found)

    def why_not(self, found: object) -> str:
        """Return why a class or function that isn't permitted couldn't be found again, as a clause; "" where it could."""
        return self._policy.why_not(found)

    def find(self, module: str, qualname: str) -> object:
        """Return what a stream names, for an unpickler.

        Raises:
            ClassNotAllowed: The policy refuses it.
        """
        try:
            return self._policy.find(module, qualname)
        except Refused as error:
            raise refusal(error.module, error.qualname, reason=error.reason) from None

    def label(self, key: int) -> str:
        """Return a key as a person reads it: `Person#12`, or `class shop.Person`."""
        code, serial = code_of(key), serial_of(key)
        name = self._names.get(code)
        if serial == 0:
            return f"class {name or f'?{code}'}"
        return f"{name.qualname if name else f'?{code}'}#{serial}"

    def _enter(self, code: int, name: ClassName) -> None:
        self._names[code] = name
        self._codes[name.module, name.qualname] = code


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


def _damaged(what: str) -> NoReturn:
    raise ValueError(what)
