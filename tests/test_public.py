"""Every public name is documented and can be imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from types import ModuleType

import pytest

import pstore
import pstore.backends


def public_modules() -> list[str]:
    """Every module of pstore whose dotted name has no part with a leading underscore."""
    # backends/ isn't under pstore's own directory in a source tree, so it is walked by itself.
    packages = [(pstore.__path__, "pstore."), (pstore.backends.__path__, "pstore.backends.")]
    names = {info.name for path, prefix in packages for info in pkgutil.walk_packages(path, prefix)}
    names |= {"pstore", "pstore.backends"}
    return sorted(name for name in names if not any(part.startswith("_") for part in name.split(".")))


def public_names(module: ModuleType) -> list[str]:
    """What the module's `__all__` lists; without one, what it defines under a name with no leading underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


#: The engines' methods for one opcode or type each. They are named after what `pstore/pickle/opcodes.py` documents in one
#: table; a hundred docstrings would say it a second time.
HANDLER = re.compile(r"(load|noload|save)_")


def undocumented(module: ModuleType) -> list[str]:
    """The public functions, classes, methods and properties of the module that `help()` has nothing to say of."""
    found = [] if module.__doc__ else [module.__name__]
    for name in public_names(module):
        value = getattr(module, name)
        ours = str(getattr(value, "__module__", "")).split(".")[0] == module.__name__.split(".")[0]
        if not ours or not (inspect.isclass(value) or callable(value)):
            continue  # a constant, or a name of the standard library handed on
        # A class must say what it is itself; a method may keep the promise that a base class documents.
        if not (value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)):
            found.append(f"{module.__name__}.{name}")
        if inspect.isclass(value):
            found += [
                f"{module.__name__}.{name}.{member}"
                for member, attribute in vars(value).items()
                if not member.startswith("_")
                and not (module.__name__ == "pstore.pickle" and HANDLER.match(member))
                and documentable(attribute)
                and not any(vars(base)[member].__doc__ for base in value.__mro__ if member in vars(base))
            ]
    return found


def documentable(attribute: object) -> bool:
    """Whether a class attribute is something that takes a docstring: a method of any kind or a property."""
    return inspect.isroutine(attribute) or isinstance(attribute, property | classmethod | staticmethod)


def test_the_walk_finds_the_packages() -> None:
    """The tests below look at the mapped directory too, not only at pstore/."""
    assert {"pstore", "pstore.backends", "pstore.backends.base", "pstore.errors", "pstore.pickle"} <= {
        *public_modules()
    }


@pytest.mark.parametrize("name", public_modules())
def test_public_names_exist(name: str) -> None:
    """Each name in a public module's `__all__` is there, once."""
    module = importlib.import_module(name)
    names = public_names(module)
    assert [n for n in names if not hasattr(module, n)] == []
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", public_modules())
def test_public_names_are_documented(name: str) -> None:
    """Each public module, function, class, method and property has a docstring."""
    assert undocumented(importlib.import_module(name)) == []


def test_a_missing_docstring_is_found() -> None:
    """A class, method, property or function without a docstring is reported; one that inherits its method's isn't."""
    module = ModuleType("sample")
    source = '''
class Base:
    """Documented."""
    def kept(self):
        """Documented."""
    def bare(self): ...
    @property
    def naked(self): ...
    @classmethod
    def plain(cls): ...
    def _private(self): ...
    attribute = 1

class Derived(Base):
    def kept(self): ...

class Good(Base):
    """Documented."""
    def kept(self): ...

def function(): ...
number = 1
'''
    exec(source, vars(module))
    bare = ["Base.bare", "Base.naked", "Base.plain", "Derived", "function"]
    assert undocumented(module) == ["sample", *(f"sample.{name}" for name in bare)]


def test_version() -> None:
    """`pstore.__version__` is the version of the installed distribution."""
    assert pstore.__version__ == importlib.metadata.version("pstore-db")
