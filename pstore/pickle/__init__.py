"""A drop-in for the standard `pickle`, with persistent ids as a first-class thing and no recursion limit.

It may be used alone: it imports nothing from the rest of pstore. `engine` tells which implementation is at work; the
environment variable ``PSTORE_ENGINE`` asks for one.
"""

from __future__ import annotations

import os
from pickle import DEFAULT_PROTOCOL, PickleBuffer, PickleError, PicklingError, UnpicklingError
from pickle import compatible_formats, format_version

from . import opcodes as _opcodes
from ._pickler import HIGHEST_PROTOCOL
from .opcodes import *
from ._errors import Unpicklable
from .reduction import apply_state, reduce_value

_wanted = os.environ.get("PSTORE_ENGINE")
if _wanted in (None, "", "python"):
    from ._python import Pickler, Unpickler, dump, dumps, globals, load, loads, references

    engine = "python"
elif _wanted == "native":
    _message = "PSTORE_ENGINE=native: this version of pstore has no native engine"
    raise ImportError(_message)
else:
    _message = f"PSTORE_ENGINE={_wanted}: there is no such engine; it is 'python' or 'native'"
    raise ImportError(_message)
