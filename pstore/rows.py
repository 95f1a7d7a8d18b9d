"""Every row of a store: a header with a checksum, and a body. `docs/format.md` specifies each byte.

A row is sealed together with the place where it stands (table and key), so that a row that was changed, cut, or moved
to another place is found. This module knows bytes only.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from pstore.errors import CorruptRecord, Error, FormatError
from pstore.keys import MAX_CODE, MAX_SERIAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pstore.backends.base import Row

#: The format of rows that this version writes.
FORMAT: Final = 1

#: Flags of a row.
CONSTRUCTED: Final = 1  # record: a stream that makes the object stands before the stream of its state
BUFFERS: Final = 2  # record: large buffers stand before the streams
REFERENCE: Final = 4  # name: the body is the key of a record
_KNOWN_FLAGS: Final = CONSTRUCTED | BUFFERS | REFERENCE

_HEAD: Final = struct.Struct("<BBIQ")  # format, flags, class code, revision
_CHECKSUM: Final = struct.Struct("<I")
HEADER_SIZE: Final = _HEAD.size + _CHECKSUM.size
_RECORD: Final = struct.Struct("<BBIQI")  # both
_KEY: Final = struct.Struct("<Q")
_RECORD_PLACE: Final = struct.Struct("<cQ")


class Sealed(NamedTuple):
    """What a row holds.

    Attributes:
        flags: The row's flags.
        code: The class code of a record, 0 elsewhere.
        revision: The number of the commit that wrote the row.
        body: The rest.
    """

    flags: int
    code: int
    revision: int
    body: memoryview


def record_place(key: int) -> bytes:
    """Return the place of a record, for `seal` and `unseal`."""
    return b"r" + _KEY.pack(key)


def name_place(name: str) -> bytes:
    """Return the place of a name's row."""
    return b"n" + name.encode()


def log_place(revision: int) -> bytes:
    """Return the place of a log row."""
    return b"l" + _KEY.pack(revision)


def meta_place(name: str) -> bytes:
    """Return the place of one of the store's own rows."""
    return b"m" + name.encode()


def seal(place: bytes, body: bytes, *, flags: int = 0, code: int = 0, revision: int = 0) -> bytes:
    """Return the row: header, checksum over place, header and body, and the body."""
    head = _HEAD.pack(FORMAT, flags, code, revision)
    return b"".join((head, _CHECKSUM.pack(crc32(body, crc32(head, crc32(place)))), body))


def unseal(place: bytes, row: Row) -> Sealed:
    """Return what a row holds.

    Raises:
        ValueError: The row is damaged, or stands in another place than it was written to; `FormatError`, which is one, where
            it is of a newer format.
    """
    view = memoryview(row)
    if len(view) < HEADER_SIZE:
        message = f"its {len(view)} bytes are less than a header"
        raise ValueError(message)
    head, body = view[: _HEAD.size], view[HEADER_SIZE:]
    (checksum,) = _CHECKSUM.unpack_from(view, _HEAD.size)
    if crc32(body, crc32(head, crc32(place))) != checksum:
        message = "its checksum is wrong: the bytes aren't those that were written here"
        raise ValueError(message)
    version, flags, code, revision = _HEAD.unpack(head)
    if version != FORMAT or flags & ~_KNOWN_FLAGS:
        message = f"it has format {version} and flags {flags:#x}, which a newer version of pstore wrote; update pstore"
        raise FormatError(message)
    return Sealed(flags, code, revision, body)


def is_whole(place: bytes, row: Row) -> bool:
    """Return whether a row is what was written to its place; a third of the time of `unseal`, which tells why not."""
    data = row if type(row) is bytes else bytes(row)
    checksum = int.from_bytes(data[_HEAD.size : HEADER_SIZE], "little")
    return len(data) >= HEADER_SIZE and crc32(data[HEADER_SIZE:], crc32(place + data[: _HEAD.size])) == checksum


def unseal_record(key: int, row: Row) -> tuple[int, int, int, bytes] | None:
    """Return flags, class code, revision and body of a record; None where `unseal` would raise, which then tells why.

    For small records this takes a third of its time.
    """
    if len(row) < HEADER_SIZE:
        return None
    version, flags, code, revision, checksum = _RECORD.unpack_from(row)
    body = bytes(row[HEADER_SIZE:])  # the one copy: it is kept, and the row may be gone when the transaction ends
    if crc32(body, crc32(_RECORD_PLACE.pack(b"r", key) + bytes(row[: _HEAD.size]))) != checksum:
        return None
    return None if version != FORMAT or flags & ~_KNOWN_FLAGS else (flags, code, revision, body)


def unreadable(error: ValueError, what: str, *, key: int | None = None, name: str | None = None) -> Error:
    """Return the error to raise for a row that `unseal`, or what reads its body, has refused.

    Args:
        error: What they raised.
        what: What the row is, to begin a sentence with.
        key: The key of the record, where it is one.
        name: The name of the row, or one that leads to it.
    """
    if isinstance(error, FormatError):
        return FormatError(f"{what} can't be read: {error}")
    return CorruptRecord(f"{what} is damaged: {error}", key=key, name=name)


class Head(NamedTuple):
    """The store's counters: the meta row `head`.

    Attributes:
        revision: The number of the last commit.
        next_serial: The first serial number that nobody has leased.
        next_code: The first class code that isn't taken.
        names: How many names there are.
    """

    revision: int = 0
    next_serial: int = 1
    next_code: int = 1
    names: int = 0


_HEAD_BODY: Final = struct.Struct("<QQQQ")


def pack_head(head: Head) -> bytes:
    """Return the body of the meta row `head`."""
    return _HEAD_BODY.pack(*head)


def unpack_head(body: memoryview) -> Head:
    """Return the counters.

    Raises:
        ValueError: The body has another length, or a counter has run past what a key can hold.
    """
    try:
        head = Head(*_HEAD_BODY.unpack(body))
    except struct.error as error:
        raise ValueError(str(error)) from None
    if not (1 <= head.next_serial <= MAX_SERIAL + 1 and 1 <= head.next_code <= MAX_CODE + 1):
        message = f"its counters are out of range: {head}"
        raise ValueError(message)
    return head


#: The meta row of a target that a store is being copied to. Until the copy is whole there is this row, and no `head`.
COPY: Final = "copy"


def read_head(row: Row) -> Head:
    """Return the counters from their row.

    Raises:
        CorruptRecord: It is damaged.
        FormatError: It is of a newer format.
    """
    try:
        return unpack_head(unseal(meta_place("head"), row).body)
    except ValueError as error:
        raise unreadable(error, "the row of the store's counters (meta row 'head')", name="head") from error


def pack_key(key: int) -> bytes:
    """Return the body of a name's row that refers to a record."""
    return _KEY.pack(key)


def unpack_key(body: memoryview) -> int:
    """Return the key that a name's row refers to.

    Raises:
        ValueError: The body has another length.
    """
    try:
        (key,) = _KEY.unpack(body)
    except struct.error as error:
        raise ValueError(str(error)) from None
    return int(key)


class ClassName(NamedTuple):
    """What a class's record holds. Each version of a class has a record, and so a code, of its own.

    Attributes:
        module: Its module; may be empty where a name was declared for the class.
        qualname: Its qualified name there.
        version: The version of the states that are written with this code.
    """

    module: str
    qualname: str
    version: int = 1

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}" if self.module else self.qualname


def pack_class(name: ClassName) -> bytes:
    """Return the body of a class's record."""
    return struct.pack("<I", name.version) + _pack_text(name.module) + _pack_text(name.qualname)


def unpack_class(body: memoryview) -> ClassName:
    """Return what a class's record says.

    Raises:
        ValueError: The body ends too early.
    """
    try:
        (version,) = struct.unpack_from("<I", body)
        module, at = _unpack_text(body, 4)
        qualname, _ = _unpack_text(body, at)
    except struct.error as error:
        raise ValueError(str(error)) from None
    return ClassName(module, qualname, version)


class LogEntry(NamedTuple):
    """What one commit changed: the body of a log row.

    Attributes:
        time: When, in microseconds since 1970, UTC.
        note: What `commit` was told to note, or "".
        keys: The keys of the records that were written.
        names: The names that were written or removed.
    """

    time: int
    note: str
    keys: tuple[int, ...]
    names: tuple[str, ...]


def new_log_entry(note: str, keys: Iterable[int], names: Iterable[str]) -> LogEntry:
    """Return an entry of this moment."""
    return LogEntry(time.time_ns() // 1000, note, tuple(keys), tuple(names))


def pack_log(entry: LogEntry) -> bytes:
    """Return the body of a log row."""
    parts = [struct.pack("<Q", entry.time), _pack_text(entry.note)]
    parts.append(struct.pack(f"<I{len(entry.keys)}Q", len(entry.keys), *entry.keys))
    parts.append(struct.pack("<I", len(entry.names)))
    parts += map(_pack_text, entry.names)
    return b"".join(parts)


def unpack_log(body: memoryview) -> LogEntry:
    """Return what a log row says.

    Raises:
        ValueError: The body ends too early.
    """
    try:
        (moment,) = struct.unpack_from("<Q", body)
        note, at = _unpack_text(body, 8)
        (count,) = struct.unpack_from("<I", body, at)
        keys = struct.unpack_from(f"<{count}Q", body, at + 4)
        at += 4 + 8 * count
        (count,) = struct.unpack_from("<I", body, at)
        at += 4
        names = []
        for _ in range(count):
            name, at = _unpack_text(body, at)
            names.append(name)
    except struct.error as error:
        raise ValueError(str(error)) from None
    return LogEntry(moment, note, keys, tuple(names))


def _pack_text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _unpack_text(body: memoryview, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<I", body, at)
    at += 4
    if at + size > len(body):
        message = "a text runs past the end"
        raise ValueError(message)
    return str(body[at : at + size], "utf-8"), at + size
