"""The version, in the one place that the package, its metadata and the command read it from."""

from __future__ import annotations

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"
