"""The 64-bit key of a record: a class code and a serial number.

    key = code << 44 | serial        code: 20 bits, serial: 44 bits, unsigned

The code says of which class the record is, so a reference can be answered with an object of the right class before
anything is read, and all records of a class are one range of keys. The serial is unique in its store. Serial 0 is the
class itself. This module knows numbers only, never what a code stands for.
"""

from __future__ import annotations

from typing import Final

SERIAL_BITS: Final = 44
MAX_SERIAL: Final = (1 << SERIAL_BITS) - 1
MAX_CODE: Final = (1 << 20) - 1
MAX_KEY: Final = (1 << 64) - 1


def make_key(code: int, serial: int) -> int:
    """Return the key of the record with this class code (1 to 2**20 - 1) and serial number (0 to 2**44 - 1).

    Raises:
        ValueError: One of the two is out of its range.
    """
    if not (0 < code <= MAX_CODE and 0 <= serial <= MAX_SERIAL):
        message = (
            f"a key takes a class code of 1 to {MAX_CODE} and a serial number of 0 to {MAX_SERIAL}: {code}, {serial}"
        )
        raise ValueError(message)
    return code << SERIAL_BITS | serial


def code_of(key: int) -> int:
    """Return the class code of a key."""
    return key >> SERIAL_BITS


def serial_of(key: int) -> int:
    """Return the serial number of a key; 0 says that the key is a class."""
    return key & MAX_SERIAL


def is_key(value: object) -> bool:
    """Return whether the value can be a key at all: an int (no bool) in range with a class code."""
    return type(value) is int and (1 << SERIAL_BITS) <= value <= MAX_KEY


def key_range(code: int) -> tuple[int, int]:
    """Return the keys of all instances of a class as a half-open range, the class's own key left out."""
    return make_key(code, 1), (code + 1) << SERIAL_BITS
