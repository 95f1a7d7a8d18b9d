"""The path from the root of a dump to an object, for error messages: ``root.accounts[3].callback``.

It is worked out when an error has occurred, from the objects that were being written at that moment. Nothing here may
know how objects are written, and nothing here may run the code of the objects that it looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .reduction import Reduction

__all__ = ["Open", "describe"]

_ENDS = 12  # steps shown at either end of a long path
_TEXT = 40  # characters shown of a dict key
_PLAIN = (str, bytes, int, float, bool, complex, type(None))


class Open(NamedTuple):
    """An object whose writing has begun and not ended.

    Attributes:
        obj: The object.
        reduction: What it was reduced to; None for one that was written as it is.
        step: Fixed text for whatever is reached through it, where no search would find that.
    """

    obj: Any
    reduction: Reduction | None = None
    step: str | None = None


def describe(chain: Sequence[Open], leaf: Any) -> str:
    """Return the path to an object.

    Args:
        chain: The objects being written, the root first.
        leaf: What the last of them was about to write.

    Returns:
        The path; the middle of a long one is left out.
    """
    if not chain:
        return "root"
    if len(chain) <= 2 * _ENDS:
        return "root" + _steps(chain, leaf)
    left_out = len(chain) - 2 * _ENDS
    begin = _steps(chain[:_ENDS], chain[_ENDS].obj)
    return f"root{begin} ... ({left_out:,} more) ... {_steps(chain[-_ENDS:], leaf)}"


def _steps(chain: Sequence[Open], leaf: Any) -> str:
    text = ""
    owner: Open | None = None  # the instance whose state the next element of the chain is
    for index, place in enumerate(chain):
        child = chain[index + 1].obj if index + 1 < len(chain) else leaf
        if place.step is not None:
            text += place.step
            owner = None
        elif owner is not None and type(place.obj) is dict:
            text += _attribute(place.obj, child)
            owner = None
        elif owner is not None and type(place.obj) is tuple and type(child) is dict:
            pass  # the pair (dict, slots): the step follows from the dict
        elif place.reduction is None:
            text += _item(place.obj, child)
        elif child is place.reduction.state and type(child) in (dict, tuple):
            owner = place
        else:
            text += _part(place.obj, place.reduction, child)
    return text


def _attribute(state: dict[Any, Any], child: Any) -> str:
    for name, value in state.items():
        if value is child:
            return f".{name}" if type(name) is str else f"[{_short(name)}]"
    return ".__dict__" + _item(state, child)


def _item(obj: Any, child: Any) -> str:
    """Return the step from a builtin container to something in it."""
    if isinstance(obj, (list, tuple)):
        return f"[{_index(tuple.__iter__(obj) if isinstance(obj, tuple) else list.__iter__(obj), child)}]"
    if isinstance(obj, dict):
        for key, value in dict.items(obj):
            if value is child:
                return f"[{_short(key)}]"
        return f".keys()[{_index(dict.keys(obj), child)}]"
    if isinstance(obj, (set, frozenset)):
        return "{...}"
    return ".<...>"


def _part(obj: Any, reduction: Reduction, child: Any) -> str:
    """Return the step from an instance to a part of its reduction."""
    if child is reduction.function:
        return ".__reduce__()[0]"
    if child is reduction.arguments:
        return ".__reduce__()[1]"
    if child is reduction.state:
        return ".__getstate__()"
    if child is reduction.setter:
        return ".__reduce__()[5]"
    if reduction.items is not None and isinstance(obj, list) and any(child is item for item in list.__iter__(obj)):
        return _item(obj, child)
    if reduction.pairs is not None and isinstance(obj, dict):
        return _item(obj, child)
    if reduction.items is not None or reduction.pairs is not None:
        return "[...]"
    return ".__reduce__()[1]"  # a class and its arguments, written apart


def _index(items: Iterable[Any], child: Any) -> str:
    for index, item in enumerate(items):
        if item is child:
            return str(index)
    return "..."


def _short(key: Any) -> str:
    """Return the repr of a dict key, cut where it is long; of one whose repr is somebody's code, its type."""
    if type(key) not in _PLAIN:
        return f"<{type(key).__name__}>"
    if type(key) in (str, bytes) and len(key) > _TEXT:
        return repr(key[: _TEXT - 3]) + "..."
    if type(key) is int and key.bit_length() > 128:
        return "<int>"  # its digits may be too many for a repr
    return repr(key)
