"""Reading a stream without building what it holds: the ids and the names in it.

Nothing here may import what a stream names, or call it.
"""

from __future__ import annotations

from typing import Any

from ._reading import OPAQUE
from ._unpickler import Unpickler

__all__ = ["globals", "references"]


# Of Python 2's str: one that gives a character to every byte, as what isn't an id or a name doesn't matter here.
_ENCODING = "latin-1"


def references(data: Any) -> list[Any]:
    """Return the persistent ids in a stream, in the order in which loading it would ask for them.

    Where Python 2 wrote an id as a str, each of its bytes is a character.

    Args:
        data: A bytes-like object that begins with the stream.

    Raises:
        EOFError: The stream is cut short.
        UnpicklingError: The stream is malformed; or an id contains what can't be told without building it.
    """
    ids: list[Any] = []
    unpickler = Unpickler(persistent_load=ids, encoding=_ENCODING)
    unpickler.feed(data)
    unpickler.noload()
    return ids


def globals(data: Any) -> list[tuple[str, str]]:  # noqa: A001  # the public name
    """Return what a stream imports, as (module, name), in order and as often as it occurs.

    The names are those in the stream: what Python 3 has renamed stands under its old name in a stream of Python 2. Codes
    of the extension registry are looked up there.

    Args:
        data: A bytes-like object that begins with the stream.

    Raises:
        EOFError: The stream is cut short.
        UnpicklingError: The stream is malformed; or an extension code isn't registered.
    """
    unpickler = _Names()
    unpickler.feed(data)
    unpickler.noload()
    return unpickler.names


class _Names(Unpickler):
    """Collects the names that a stream holds."""

    def __init__(self) -> None:
        super().__init__(persistent_load=lambda _: None, encoding=_ENCODING)
        self.names: list[tuple[str, str]] = []

    def noload_binpersid(self) -> None:  # whatever the id is
        self._top()
        self.stack[-1] = OPAQUE

    def _saw_global(self, module: str, name: str) -> None:
        self.names.append((module, name))
