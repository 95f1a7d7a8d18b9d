"""A drop-in for the standard `pickle`, with persistent ids as a first-class thing and no recursion limit.

It may be used alone: it imports nothing from the rest of pstore.

Two engines give the same results. The native one is compiled, and is used where it is built; the reference engine, in pure
Python, is there always. `engine` names the one at work, "native" or "python", and `engine_reason` tells why it isn't the
native one. The environment variable ``PSTORE_ENGINE`` asks for one by its name: it is used, or the import fails and
tells why.
"""

from __future__ import annotations

from pickle import (  # type: ignore[attr-defined]  # the stubs lack the last two
    DEFAULT_PROTOCOL,
    PickleBuffer,
    PickleError,
    PicklingError,
    UnpicklingError,
    compatible_formats,
    format_version,
)

from . import opcodes as _opcodes
from ._choice import engine, engine_reason
from ._errors import Malformed, Truncated, Unpicklable
from ._pickler import HIGHEST_PROTOCOL
from .opcodes import *  # noqa: F403  # the names of the opcodes, as in the standard module
from .reduction import Reduction, apply_state, reduce_value

if engine == "native":
    from ._native import (
        IdentityTable,
        Pickler,
        Unpickler,
        clear_attributes,
        dump,
        dumps,
        globals,  # noqa: A004  # the public name
        has_held_dict,
        load,
        loads,
        new_instance,
        references,
        set_class,
        share_layout,
    )
else:
    from ._python import (
        IdentityTable,
        Pickler,
        Unpickler,
        clear_attributes,
        dump,
        dumps,
        globals,  # noqa: A004  # the public name
        has_held_dict,
        load,
        loads,
        new_instance,
        references,
        set_class,
        share_layout,
    )

__all__ = [
    "DEFAULT_PROTOCOL",
    "FALSE",  # noqa: F405
    "HIGHEST_PROTOCOL",
    "TRUE",  # noqa: F405
    "IdentityTable",
    "Malformed",
    "PickleBuffer",
    "PickleError",
    "Pickler",
    "PicklingError",
    "Reduction",
    "Truncated",
    "Unpicklable",
    "Unpickler",
    "UnpicklingError",
    "apply_state",
    "clear_attributes",
    "compatible_formats",
    "dump",
    "dumps",
    "engine",
    "engine_reason",
    "format_version",
    "globals",
    "has_held_dict",
    "load",
    "loads",
    "new_instance",
    "reduce_value",
    "references",
    "set_class",
    "share_layout",
]
__all__ += [opcode.name for opcode in _opcodes.OPCODES]
