"""The reference engine: pure Python, and the definition of what any other engine does.

Each engine is one module with these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._identity import IdentityTable
from ._layout import clear_attributes, has_held_dict, new_instance, set_class, share_layout
from ._pickler import Hook, Pickler, Writable
from ._reading import UNSET
from ._unpickler import Unpickler
from .tools import globals, references  # noqa: A004  # the public name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pickle import PickleBuffer

    from ._source import Readable

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


def dump(
    obj: Any,
    file: Writable,
    protocol: int | None = None,
    *,
    fix_imports: bool = True,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
    persistent_id: Hook | None = None,
    inst_persistent_id: Hook | None = None,
    global_persistent_id: Hook | None = None,
    persistent_ids: Mapping[int, Any] | None = None,
    canonical: bool = False,
) -> None:
    """Write an object to a file as one stream; arguments and exceptions as for `Pickler` and `Pickler.dump`."""
    Pickler(
        file,
        protocol,
        fix_imports,
        buffer_callback,
        persistent_id=persistent_id,
        inst_persistent_id=inst_persistent_id,
        global_persistent_id=global_persistent_id,
        persistent_ids=persistent_ids,
        canonical=canonical,
    ).dump(obj)


def dumps(
    obj: Any,
    protocol: int | None = None,
    *,
    fix_imports: bool = True,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
    persistent_id: Hook | None = None,
    inst_persistent_id: Hook | None = None,
    global_persistent_id: Hook | None = None,
    persistent_ids: Mapping[int, Any] | None = None,
    canonical: bool = False,
) -> bytes:
    """Return an object as one stream; arguments and exceptions as for `Pickler` and `Pickler.dumps`."""
    return Pickler(
        None,
        protocol,
        fix_imports,
        buffer_callback,
        persistent_id=persistent_id,
        inst_persistent_id=inst_persistent_id,
        global_persistent_id=global_persistent_id,
        persistent_ids=persistent_ids,
        canonical=canonical,
    ).dumps(obj)


def load(
    file: Readable,
    *,
    fix_imports: bool = True,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
    persistent_load: Callable[[Any], Any] | list[Any] | None = None,
    find_global: Callable[[str, str], Any] | None = UNSET,
    persistent_objects: Mapping[Any, Any] | None = None,
) -> Any:
    """Read one stream from a file and return its object; arguments and exceptions as for `Unpickler`."""
    return Unpickler(
        file,
        fix_imports=fix_imports,
        encoding=encoding,
        errors=errors,
        buffers=buffers,
        persistent_load=persistent_load,
        find_global=find_global,
        persistent_objects=persistent_objects,
    ).load()


def loads(
    data: Any,
    /,
    *,
    fix_imports: bool = True,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
    persistent_load: Callable[[Any], Any] | list[Any] | None = None,
    find_global: Callable[[str, str], Any] | None = UNSET,
    persistent_objects: Mapping[Any, Any] | None = None,
) -> Any:
    """Return the object of the stream with which bytes begin; arguments and exceptions as for `Unpickler`.

    Raises:
        TypeError: `data` isn't a bytes-like object.
    """
    unpickler = Unpickler(
        fix_imports=fix_imports,
        encoding=encoding,
        errors=errors,
        persistent_load=persistent_load,
        find_global=find_global,
        persistent_objects=persistent_objects,
    )
    unpickler.feed(data, buffers)
    return unpickler.load()
