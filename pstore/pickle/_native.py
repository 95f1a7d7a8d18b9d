"""The native engine: three extension modules in Cython that do what the reference engine does, faster.

Importing this where they aren't built, or can't be used, is an ImportError that tells why, and what to do.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def _explain(error: ImportError) -> str:
    """Tell why the extension modules couldn't be imported, and what to do."""
    built = sorted(file.name for file in Path(__file__).parent.glob("_native_*") if file.suffix in {".so", ".pyd"})
    if not built:
        why = "its extension modules aren't built"
    elif not any(name.endswith(EXTENSION_SUFFIXES[0]) for name in built):
        why = f"its extension modules are built for another Python: {', '.join(built)}; not *{EXTENSION_SUFFIXES[0]}"
    else:
        why = "its extension modules are there, but can't be used; they may be of another version of pstore"
    # pip would keep what is installed, or take the wheel that it has made when there was no compiler.
    return (
        f"the native engine can't be imported: {why} ({error}). Install pstore again where there is a C compiler (pip needs"
        " --force-reinstall --no-cache-dir); with PSTORE_REQUIRE_NATIVE=1 in the environment that fails, and tells what went"
        " wrong, instead of doing without"
    )


try:
    from ._native_layout import clear_attributes, has_held_dict, new_instance, set_class, share_layout
    from ._native_pickler import IdentityTable, Pickler, dump, dumps
    from ._native_unpickler import Unpickler, globals, load, loads, references  # noqa: A004  # the public name
except ImportError as _error:
    raise ImportError(_explain(_error)) from _error

__all__ = [
    "IdentityTable",
    "Pickler",
    "Unpickler",
    "clear_attributes",
    "dump",
    "dumps",
    "globals",
    "has_held_dict",
    "load",
    "loads",
    "new_instance",
    "references",
    "set_class",
    "share_layout",
]
