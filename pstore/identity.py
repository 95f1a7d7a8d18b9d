"""The identity map: in one session a key is one object.

Both directions are plain dicts, which the pickle engine is handed as they are: `keys` is what its `persistent_ids`
asks, `objects` what its `persistent_objects` asks. The map holds its objects; an id is so never reused while it is in.
"""

from __future__ import annotations


class IdentityMap:
    """Which key is which object.

    Attributes:
        objects: key -> object; for the key of a class, the class.
        keys: id(object) -> key.
    """

    def __init__(self) -> None:
        self.objects: dict[int, object] = {}
        self.keys: dict[int, int] = {}

    def add(self, key: int, obj: object) -> None:
        """Enter an object that is in the map under no key yet."""
        self.objects[key] = obj
        self.keys[id(obj)] = key

    def remove(self, key: int) -> None:
        """Forget an object; a key that isn't in the map is passed over."""
        obj = self.objects.pop(key, None)
        if obj is not None:
            del self.keys[id(obj)]

    def key_of(self, obj: object) -> int | None:
        """Return the key of an object, or None."""
        return self.keys.get(id(obj))

    def clear(self) -> None:
        """Forget everything."""
        self.objects.clear()
        self.keys.clear()
