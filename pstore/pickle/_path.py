"""The path from the root of a dump to an object, for error messages: ``root.accounts[3].callback``.

It is worked out when an error has occurred, from the objects that were being written at that moment. Nothing here may
know how objects are written, and nothing here may run the code of the objects that it looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ITEM", "STATE", "Open", "describe"]

_ENDS = 12  # steps shown at either end of a long path
_TEXT = 40  # characters shown of a dict key
_PLAIN = (str, bytes, int, float, bool, complex, type(None))


#: Steps that are looked for in the object: to an attribute, its state being a dict; to an item of a list or a value of a
#: dict that is rebuilt by a call.
STATE = "state"
ITEM = "item"


class Open(NamedTuple):
    """An object whose writing has begun and not ended.

    Attributes:
        obj: The object.
        step: How its part that is being written is reached: `STATE`, `ITEM`, or the text itself; None to look for the
            part in a builtin container.
    """

    obj: Any
    step: str | None = None


def describe(chain: Sequence[Open], leaf: Any) -> str:
    """Return the path to an object.

    Args:
        chain: The objects being written, the root first.
        leaf: What the last of them was about to write.

    Returns:
        The path; the middle of a long one is left out.
    """
    if len(chain) <= 2 * _ENDS:
        return "root" + _steps(chain, leaf)
    left_out = len(chain) - 2 * _ENDS
    begin = _steps(chain[:_ENDS], chain[_ENDS].obj)
    return f"root{begin} ... ({left_out:,} more) ... {_steps(chain[-_ENDS:], leaf)}"


def _steps(chain: Sequence[Open], leaf: Any) -> str:
    text = ""
    in_state = False  # is the next object of the chain a state?
    skip = 0
    for index, (obj, step) in enumerate(chain):
        if skip:
            skip -= 1
            continue
        child = chain[index + 1].obj if index + 1 < len(chain) else leaf
        if step is not None and type(obj) in {set, frozenset}:
            text += "{...}"
            in_state = False
            skip = 2  # before protocol 4 a set is a call with a tuple that holds a list of its elements
        elif step == STATE:
            in_state = type(child) in (dict, tuple)
            if not in_state:
                text += ".__getstate__()"
        elif in_state and type(obj) is tuple and type(child) is dict:
            pass  # the pair (dict, slots): the step follows from the dict
        elif in_state and type(obj) is dict:
            text += _attribute(obj, child)
            in_state = False
        else:
            in_state = False
            text += _item(obj, child) if step is None or step == ITEM else step
    return text


def _attribute(state: dict[Any, Any], child: Any) -> str:
    for name, value in state.items():
        if value is child:
            return f".{name}" if type(name) is str else f"[{_short(name)}]"
    return ".__dict__" + _item(state, child)


def _item(obj: Any, child: Any) -> str:
    """Return the step from a container to something in it."""
    if isinstance(obj, list):
        return f"[{_index(list.__iter__(obj), child)}]"
    if isinstance(obj, tuple):
        return f"[{_index(tuple.__iter__(obj), child)}]"
    if isinstance(obj, dict):
        for key, value in dict.items(obj):
            if value is child:
                return f"[{_short(key)}]"
        return f".keys()[{_index(dict.keys(obj), child)}]"
    if isinstance(obj, (set, frozenset)):
        return "{...}"
    return "[...]"


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
