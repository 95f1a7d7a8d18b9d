"""CPython's own suite, `test.pickletester` of the interpreter that runs, bound to each engine.

Left out as a whole: `BigmemPickleTests`, which runs only when told that gigabytes of memory may be used.
"""

from __future__ import annotations

import collections
import copyreg
import gc
import io
import os
import pickle
import types
import unittest
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .engines import PROTOCOLS, Engine, each_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Some distributions leave `test` out of the interpreter; nothing else excuses a skip.
pickletester = pytest.importorskip(
    "test.pickletester", reason="this interpreter was installed without CPython's `test` package", exc_type=ImportError
)

# What our engines do otherwise on purpose: test -> (why, and where that promise is tested instead).
EXCEPTIONS = {
    "test_protocol0_is_ascii_only": (
        "compares whole messages, and ours go on to tell the place; test_hooks_dump tests the refusal when dumping, and"
        " test_hooks_load when loading"
    ),
}


@pytest.fixture(autouse=True, scope="module")
def scratch_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run in a directory of its own: the suite writes files where it stands.

    One for all of it: modules are imported from there by a relative path, which the import system remembers.
    """
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("pickletester"))
    yield
    os.chdir(before)


def bind(name: str, engine: Engine, *suites: type[Any], **attributes: Any) -> type[unittest.TestCase]:
    """One test case from `suites` for `engine`, without the listed exceptions."""
    excepted = {test: unittest.skip(EXCEPTIONS[test])(lambda self: None) for test in EXCEPTIONS}
    present = {test: skipped for test, skipped in excepted.items() if any(hasattr(suite, test) for suite in suites)}
    return type(name, (*suites, unittest.TestCase), {"engine": engine, "__module__": __name__, **present, **attributes})


class ThroughFiles:
    """`dumps` and `loads` by way of a pickler and an unpickler on a file."""

    pickler: type[Any]
    unpickler: type[Any]

    def dumps(self, arg: object, proto: int | None = None, **keywords: Any) -> bytes:
        file = io.BytesIO()
        self.pickler(file, proto, **keywords).dump(arg)
        return file.getvalue()

    def loads(self, data: bytes, **keywords: Any) -> Any:
        return self.unpickler(io.BytesIO(data), **keywords).load()


class InMemory:
    """`dumps` and `loads` of the module."""

    engine: Engine

    def dumps(self, arg: object, proto: int | None = None, **keywords: Any) -> bytes:
        return self.engine.dumps(arg, proto, **keywords)

    def loads(self, data: bytes, **keywords: Any) -> Any:
        return self.engine.loads(data, **keywords)

    # Need classes, not functions; the bindings through files run them.
    test_framed_write_sizes_with_delayed_writer = None
    test_find_class = None
    test_custom_find_class = None


class Reused:
    """`dumps` and `loads` of one pickler and one unpickler without files, which all streams of a test go through."""

    engine: Engine

    def setUp(self) -> None:
        self.picklers: dict[int | None, Any] = {}
        self.reader = self.engine.Unpickler()

    def dumps(self, arg: object, proto: int | None = None, **keywords: Any) -> bytes:
        if keywords:
            return self.engine.Pickler(None, proto, **keywords).dumps(arg)
        pickler = self.picklers.setdefault(proto, self.engine.Pickler(None, proto))
        pickler.clear_memo()
        return pickler.dumps(arg)

    def loads(self, data: bytes, *, buffers: Any = None, **keywords: Any) -> Any:
        reader = self.engine.Unpickler(**keywords) if keywords else self.reader
        reader.feed(data, buffers)
        return reader.load()

    test_framed_write_sizes_with_delayed_writer = None
    test_find_class = None
    test_custom_find_class = None


class HooksOverridden:
    """Persistent ids by methods of a subclass."""

    engine: Engine
    persistent_id: Callable[[object], Any]
    persistent_load: Callable[[Any], object]

    def dumps(self, arg: object, proto: int | None = None) -> bytes:
        ask = self.persistent_id

        class Pickler(self.engine.Pickler):
            def persistent_id(self, obj: object) -> Any:
                return ask(obj)

        file = io.BytesIO()
        Pickler(file, proto).dump(arg)
        return file.getvalue()

    def loads(self, data: bytes, **keywords: Any) -> Any:
        fetch = self.persistent_load

        class Unpickler(self.engine.Unpickler):
            def persistent_load(self, pid: Any) -> object:
                return fetch(pid)

        return Unpickler(io.BytesIO(data), **keywords).load()


class HooksAssigned(HooksOverridden):
    """Persistent ids by attributes of instances."""

    def dumps(self, arg: object, proto: int | None = None) -> bytes:
        pickler, file = self.engine.pickler(proto)
        pickler.persistent_id = self.persistent_id
        pickler.dump(arg)
        return file.getvalue()

    def loads(self, data: bytes, **keywords: Any) -> Any:
        unpickler = self.engine.unpickler(data, **keywords)
        unpickler.persistent_load = self.persistent_load
        return unpickler.load()


class HooksGiven(HooksOverridden):
    """Persistent ids by keywords of the constructors."""

    def dumps(self, arg: object, proto: int | None = None) -> bytes:
        pickler, file = self.engine.pickler(proto, persistent_id=self.persistent_id)
        pickler.dump(arg)
        return file.getvalue()

    def loads(self, data: bytes, **keywords: Any) -> Any:
        return self.engine.unpickler(data, persistent_load=self.persistent_load, **keywords).load()


class HookLifetime:
    """What CPython's `test_pickle` asks of the classes with hooks, beside the abstract suites."""

    engine: Engine

    def test_hooks_make_no_reference_cycle(self) -> None:
        """A pickler or unpickler with hooks in any form of method is freed without the cyclic collector."""

        def plain(self: object, obj: object) -> object:
            return obj

        def of_class(cls: type, obj: object) -> object:
            return obj

        def static(obj: object) -> object:
            return obj

        gc.disable()
        try:
            for method in plain, classmethod(of_class), staticmethod(static):
                for proto in PROTOCOLS:
                    file = io.BytesIO()
                    pickler = type("Pickler", (self.engine.Pickler,), {"persistent_id": method})(file, proto)
                    pickler.dump("abc")
                    freed = weakref.ref(pickler)
                    del pickler
                    self.assertIsNone(freed())
                    file.seek(0)
                    unpickler = type("Unpickler", (self.engine.Unpickler,), {"persistent_load": method})(file)
                    self.assertEqual(unpickler.load(), "abc")
                    freed = weakref.ref(unpickler)
                    del unpickler
                    self.assertIsNone(freed())
        finally:
            gc.enable()

    def test_assigned_hooks_are_freed(self) -> None:
        """A bound method set as hook on the object that it is a method of leaves nothing behind after a collection."""

        class Owner(self.engine.Pickler):
            def own(self, obj: object) -> None:
                return None

        owner = Owner(io.BytesIO())
        owner.persistent_id = owner.own
        owner.dump([1])
        freed = weakref.ref(owner)
        del owner
        gc.collect()
        self.assertIsNone(freed())

    def test_dispatch_table_set_before_init(self) -> None:
        """A table set before the base class's `__init__` counts, and is freed with its pickler."""

        class Table:
            pass

        class Pickler(self.engine.Pickler):
            def __init__(self, table: Any, *args: Any) -> None:
                self.dispatch_table = table
                super().__init__(*args)

        table = Table()
        pickler = Pickler(table, io.BytesIO())
        self.assertIs(pickler.dispatch_table, table)
        freed = weakref.ref(table)
        del pickler, table
        gc.collect()
        self.assertIsNone(freed())

    def test_super(self) -> None:
        """An override may ask the base class: no id there, and nothing to load."""
        case = self

        class Pickler(self.engine.Pickler):
            def persistent_id(self, obj: object) -> Any:
                case.assertIsNone(super().persistent_id(obj))
                return obj

        class Unpickler(self.engine.Unpickler):
            def persistent_load(self, pid: Any) -> object:
                with case.assertRaises(pickle.UnpicklingError):
                    super().persistent_load(pid)
                return pid

        for proto in PROTOCOLS:
            file = io.BytesIO()
            Pickler(file, proto).dump("abc")
            file.seek(0)
            self.assertEqual(Unpickler(file).load(), "abc")


class Memo:
    def test_memo_is_checked(self) -> None:
        """A memo that is no mapping of indices is refused when it is set."""
        unpickler = self.unpickler_class(io.BytesIO())
        with self.assertRaises(TypeError):
            unpickler.memo = object
        with self.assertRaises(ValueError):
            unpickler.memo = {-1: None}
        unpickler.memo = {1: None}


class OwnStandard:
    """The suite names `pickle.loads` here and there; with this it means the engine's."""

    engine: Engine

    def setUp(self) -> None:
        super().setUp()
        names = {**vars(pickle), **{name: getattr(self.engine, name) for name in ("dump", "dumps", "load", "loads")}}
        standard = pickletester.pickle
        pickletester.pickle = types.SimpleNamespace(**names)
        self.addCleanup(setattr, pickletester, "pickle", standard)


def cases(engine: Engine) -> Iterator[type[unittest.TestCase]]:
    """All suites of the running interpreter's `pickletester`, bound to one engine."""
    errors = {"bad_stack_errors": (pickle.UnpicklingError,), "truncated_errors": (pickle.UnpicklingError, EOFError)}
    ours: dict[str, Any] = {"pickler": engine.Pickler, "unpickler": engine.Unpickler}
    objects = {"pickler_class": engine.Pickler, "unpickler_class": engine.Unpickler}

    yield bind("Unpickle", engine, ThroughFiles, pickletester.AbstractUnpickleTests, **errors, **ours)
    yield bind("Pickle", engine, ThroughFiles, pickletester.AbstractPickleTests, **ours)
    yield bind(
        "DumpStandardLoad",
        engine,
        ThroughFiles,
        pickletester.AbstractPickleTests,
        pickler=engine.Pickler,
        unpickler=pickle.Unpickler,
    )
    yield bind(
        "StandardDumpLoad",
        engine,
        ThroughFiles,
        pickletester.AbstractPickleTests,
        pickler=pickle.Pickler,
        unpickler=engine.Unpickler,
    )
    for shape in InMemory, Reused:
        suites = pickletester.AbstractPickleTests, pickletester.AbstractUnpickleTests
        yield bind(shape.__name__, engine, shape, OwnStandard, *suites, **errors)
    # Since 3.13; before it, these tests were part of AbstractPickleTests.
    if hasattr(pickletester, "AbstractPicklingErrorTests"):
        yield bind("PicklingError", engine, ThroughFiles, pickletester.AbstractPicklingErrorTests, **ours)
    functions = {name: staticmethod(getattr(engine, name)) for name in ("dump", "dumps", "load", "loads")}
    yield bind(
        "Module",
        engine,
        pickletester.AbstractPickleModuleTests,
        Pickler=engine.Pickler,
        Unpickler=engine.Unpickler,
        **functions,
    )
    for shape in HooksOverridden, HooksAssigned, HooksGiven:
        yield bind(f"Persistent{shape.__name__}", engine, shape, pickletester.AbstractPersistentPicklerTests)
        yield bind(
            f"IdentityPersistent{shape.__name__}", engine, shape, pickletester.AbstractIdentityPersistentPicklerTests
        )
    yield bind("HookLifetime", engine, HookLifetime)
    yield bind("Objects", engine, Memo, pickletester.AbstractPicklerUnpicklerObjectTests, **objects)
    tables: dict[str, Callable[[], Any]] = {
        "DispatchTable": copyreg.dispatch_table.copy,
        "ChainDispatchTable": lambda: collections.ChainMap({}, copyreg.dispatch_table),
    }
    for name, table in tables.items():
        yield bind(
            name,
            engine,
            pickletester.AbstractDispatchTableTests,
            pickler_class=engine.Pickler,
            get_dispatch_table=lambda self, table=table: table(),
        )
    custom = type("CustomPickler", (engine.Pickler, pickletester.AbstractCustomPicklerClass), {})
    yield bind("Hook", engine, OwnStandard, pickletester.AbstractHookTests, pickler_class=custom)


globals().update(each_engine(cases))


def test_every_suite_is_bound() -> None:
    """No abstract suite of this interpreter's `pickletester` is forgotten, in particular one that a release adds."""
    bound: Iterable[type] = [obj for obj in list(globals().values()) if isinstance(obj, type)]
    used = {suite for case in bound for suite in case.__mro__} | {pickletester.AbstractCustomPicklerClass}
    suites = {obj for name, obj in vars(pickletester).items() if name.startswith("Abstract") and isinstance(obj, type)}
    assert suites <= used
    assert len(suites) >= 9


def test_exceptions_are_few_and_reasoned() -> None:
    """An exception gives its reason, and there are few."""
    assert len(EXCEPTIONS) <= 5
    assert all(len(reason) > 20 for reason in EXCEPTIONS.values())
