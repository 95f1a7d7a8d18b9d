"""Which engine `pstore.pickle` uses, and why. It is chosen once, when the package is first imported."""

from __future__ import annotations

import os

_wanted = os.environ.get("PSTORE_ENGINE", "")

#: Name of the engine that is at work: "native" or "python".
engine = "python"
#: Why that isn't the native one; the empty string where it is.
engine_reason = ""

if _wanted == "python":
    engine_reason = "PSTORE_ENGINE=python asks for this one"
elif _wanted in {"", "native"}:
    try:
        from . import _native  # noqa: F401  # asked whether it can be had

        engine = "native"
    except Exception as _error:
        # What an extension module of another version raises can be anything. It mustn't keep the reference engine from
        # working; but who asked for the native one gets that or nothing.
        engine_reason = str(_error) if isinstance(_error, ImportError) else f"{type(_error).__name__}: {_error}"
        if _wanted == "native":
            raise ImportError(f"PSTORE_ENGINE=native: {engine_reason}") from _error
else:
    raise ImportError(f"PSTORE_ENGINE={_wanted}: there is no such engine; it is 'native' or 'python'")
