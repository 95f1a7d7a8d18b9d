"""The table of objects and their persistent ids that a pickler asks, as the reference engine has it."""

from __future__ import annotations

from typing import Any

__all__ = ["IdentityTable"]


class IdentityTable(dict[int, Any]):
    """The persistent ids of objects: a mutable mapping from ``id(obj)`` to the persistent id.

    It is what a pickler takes as `persistent_ids`. The native engine has one of its own, which its picklers ask without any
    Python call. Any other mapping gives the same streams there, and costs a look-up in it for each object.

    Like any such table it doesn't keep the objects alive: whoever enters an object sees to it that the id goes when it does.
    """
