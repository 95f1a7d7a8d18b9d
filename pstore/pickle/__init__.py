"""A drop-in for the standard `pickle`, with persistent ids as a first-class thing and no recursion limit.

It may be used alone: it imports nothing from the rest of pstore. `engine` tells which implementation is at work; the
environment variable ``PSTORE_ENGINE`` asks for one.
"""

from __future__ import annotations

import os
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
from ._errors import Malformed, Truncated, Unpicklable
from ._pickler import HIGHEST_PROTOCOL
from .opcodes import *  # noqa: F403  # the names of the opcodes, as in the standard module
from .reduction import Reduction, apply_state, reduce_value

_wanted = os.environ.get("PSTORE_ENGINE")
if _wanted in {None, "", "python"}:
    from ._python import (
        Pickler,
        Unpickler,
        dump,
        dumps,
        globals,  # noqa: A004  # the public name
        load,
        loads,
        references,
    )

    #: Name of the engine that is at work.
    engine = "python"
elif _wanted == "native":
    _message = "PSTORE_ENGINE=native: this version of pstore has no native engine; unset it, or say 'python'"
    raise ImportError(_message)
else:
    _message = f"PSTORE_ENGINE={_wanted}: there is no such engine; it is 'python' or 'native'"
    raise ImportError(_message)

__all__ = [
    "DEFAULT_PROTOCOL",
    "FALSE",  # noqa: F405
    "HIGHEST_PROTOCOL",
    "TRUE",  # noqa: F405
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
    "compatible_formats",
    "dump",
    "dumps",
    "engine",
    "format_version",
    "globals",
    "load",
    "loads",
    "reduce_value",
    "references",
]
__all__ += [opcode.name for opcode in _opcodes.OPCODES]
