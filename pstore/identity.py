"""The identity map: in one session a key is one object.

Both directions are tables that the pickle engine is handed as they are, and asks without a call of Python code: `keys` is
its `persistent_ids`, `objects` its `persistent_objects`. The map holds its objects; an id is so never reused while it is in.
"""

from __future__ import annotations

import weakref
from typing import Final

from pstore.pickle import IdentityTable


def is_elsewhere(obj: object, here: IdentityMap) -> bool:
    """Return whether another open session of this process holds an object."""
    if len(_open) == 1:
        return False
    # A list is made in one step, whatever other threads open and close meanwhile.
    others = (reference() for reference in list(_open.values()))
    return any(other is not None and other is not here and id(obj) in other.keys for other in others)


class IdentityMap:
    """Which key is which object.

    Attributes:
        objects: key -> object; for the key of a class, the class.
        keys: id(object) -> key.
    """

    def __init__(self) -> None:
        self.objects: dict[int, object] = {}
        self.keys = IdentityTable()
        number = id(self)
        _open[number] = weakref.ref(self, lambda _: _open.pop(number, None))

    def close(self) -> None:
        """The session is closed: its objects are anybody's."""
        _open.pop(id(self), None)

    def add(self, key: int, obj: object) -> None:
        """Enter an object under a key that is free.

        An object may have several keys, where a constructor answers with one that is there already, such as a
        singleton that two sessions have stored; `keys` then has the first of them.
        """
        self.objects[key] = obj
        self.keys.setdefault(id(obj), key)

    def remove(self, key: int) -> None:
        """Forget an object; a key that isn't in the map is passed over."""
        obj = self.objects.get(key)
        if obj is not None and self.keys.get(id(obj)) == key:
            del self.keys[id(obj)]  # first: an id must not stay when its object has gone
        self.objects.pop(key, None)

    def key_of(self, obj: object) -> int | None:
        """Return the key of an object, or None."""
        return self.keys.get(id(obj))


#: The maps of all sessions that are open in this process, by their ids.
_open: Final[dict[int, weakref.ref[IdentityMap]]] = {}
