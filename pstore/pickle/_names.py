"""Finding a class or function by the name it goes by, in both directions, and the names that Python 2 had for it.

This module knows modules and attributes. It must never know opcodes or streams.
"""

from __future__ import annotations

import _compat_pickle
import copyreg
import sys
from typing import Any, NamedTuple

from ._errors import Unpicklable, UnpicklableOverflow, UnpicklableState, UnpicklableType

__all__ = [
    "Place",
    "extension_code",
    "extension_name",
    "from_python2",
    "locate",
    "resolve",
    "to_python2",
    "whichmodule",
]

# The registry that `copyreg.add_extension` fills: the standard pickle module reads these two dicts as well.
_CODES: dict[tuple[str, str], int] = copyreg._extension_registry  # type: ignore[attr-defined]
_NAMES: dict[int, tuple[str, str]] = copyreg._inverted_registry  # type: ignore[attr-defined]

# No object is looked for in these: `__main__` is what remains where no other module has it, and `__mp_main__` is its
# other name in a process that `multiprocessing` started.
_MAIN = ("__main__", "__mp_main__")


class Place(NamedTuple):
    """Where an object is found.

    Attributes:
        module: Name of the module.
        name: Dotted path from the module to the object.
        parent: The object that holds it: the module itself, or a class.
        top_level: Whether `parent` is the module.
    """

    module: str
    name: str
    parent: object
    top_level: bool


def whichmodule(obj: object, name: str) -> str:
    """Return the name of the module that an object comes from.

    Args:
        obj: A class, function or any other object.
        name: Its dotted path in its module.

    Returns:
        Its ``__module__``; where it has none, the first loaded module that holds it under that name; else ``__main__``.
    """
    module_name = getattr(obj, "__module__", None)
    if module_name is not None:
        return module_name  # type: ignore[no-any-return]
    for module_name, module in sys.modules.copy().items():  # a copy: getattr may import
        if module_name in _MAIN or module is None:
            continue
        try:
            if _walk(module, name)[0] is obj:
                return module_name
        except AttributeError:
            pass
    return "__main__"


def resolve(module_name: str, name: str, *, dotted: bool) -> Any:
    """Import a module and return what it holds under a name.

    Args:
        module_name: Name of the module.
        name: The name there.
        dotted: Whether the name may be a path through attributes (``Class.method``).

    Raises:
        ImportError: There is no such module; and whatever its code raises.
        AttributeError: The module has no such name.
        ValueError: The module's name is empty.
    """
    __import__(module_name, level=0)
    module = sys.modules[module_name]
    return _walk(module, name)[0] if dotted else getattr(module, name)


def locate(obj: Any, name: str | None = None) -> Place:
    """Find the module and the name under which an object can be found again.

    Args:
        obj: A class, function or other object that stands in a module.
        name: Its dotted path there; None for its own ``__qualname__`` or ``__name__``.

    Raises:
        Unpicklable: Looking there finds nothing, or something else.
    """
    if name is None:
        name = getattr(obj, "__qualname__", None)
        if name is None:
            name = obj.__name__
    module_name = whichmodule(obj, name)
    if name.endswith("<lambda>"):
        reason = f"cannot pickle a lambda (written in module {module_name}): it has no name to find it by"
        raise Unpicklable(reason)
    what = f"{_kind(obj)} {module_name}.{name}"
    if "<locals>" in name.split("."):
        raise Unpicklable(f"cannot pickle the local {what}: it can't be reached from outside of the function it is in")
    try:
        __import__(module_name, level=0)
        module = sys.modules[module_name]
    except (ImportError, KeyError, TypeError, ValueError) as error:
        raise Unpicklable(f"cannot pickle {what}: its module can't be imported ({error})") from error
    try:
        found, parent = _walk(module, name)
    except AttributeError as error:
        raise Unpicklable(f"cannot pickle {what}: its module has no such name") from error
    if found is not obj:
        raise Unpicklable(f"cannot pickle {what}: under that name its module holds another object")
    return Place(module_name, name, parent, parent is module)


def extension_code(module_name: str, name: str) -> int | None:
    """Return the code under which ``copyreg.add_extension`` registered a name, or None.

    Raises:
        UnpicklableType: The registry holds something else than an int for it.
        UnpicklableState: The code isn't positive.
        UnpicklableOverflow: It takes more than four bytes.
    """
    code = _CODES.get((module_name, name))
    if code is None and (module_name, name) not in _CODES:
        return None
    if not isinstance(code, int):
        raise UnpicklableType(f"the extension code of {module_name}.{name} is a {type(code).__name__}, not an int")
    if not -0x80000000 <= code <= 0x7FFFFFFF:
        raise UnpicklableOverflow(f"the extension code of {module_name}.{name} doesn't fit into four bytes")
    if code <= 0:
        raise UnpicklableState(f"the extension code of {module_name}.{name} is not positive")
    return code


def extension_name(code: int) -> tuple[str, str] | None:
    """Return (module, name) registered for an extension code, or None.

    Raises:
        ValueError: The registry holds something else than two strings for it.
    """
    key = _NAMES.get(code)
    if not key:
        return None
    module_name, name = key
    if not isinstance(module_name, str) or not isinstance(name, str):
        message = f"extension code {code} is registered for {key!r}, not for two strings"
        raise ValueError(message)  # noqa: TRY004 - the registry's content is at fault, not an argument's type
    return module_name, name


def to_python2(module_name: str, name: str) -> tuple[str, str]:
    """Return the module and name that Python 2 had for a name of Python 3."""
    names = _compat_pickle.REVERSE_NAME_MAPPING
    if (module_name, name) in names:
        return names[module_name, name]
    return _compat_pickle.REVERSE_IMPORT_MAPPING.get(module_name, module_name), name


def from_python2(module_name: str, name: str) -> tuple[str, str]:
    """Return the module and name that Python 3 has for a name of Python 2."""
    names = _compat_pickle.NAME_MAPPING
    if (module_name, name) in names:
        return names[module_name, name]
    return _compat_pickle.IMPORT_MAPPING.get(module_name, module_name), name


def _walk(obj: Any, dotted: str) -> tuple[Any, Any]:
    """Follow a dotted path of attributes; return what stands at its end, and what holds that."""
    parent = None
    for step in dotted.split("."):
        if step == "<locals>":
            message = f"local names can't be reached: {dotted}"
            raise AttributeError(message)
        parent, obj = obj, getattr(obj, step)
    return obj, parent


def _kind(obj: object) -> str:
    if isinstance(obj, type):
        return "class"
    if callable(obj):
        return "function"
    return f"{type(obj).__name__} object"
