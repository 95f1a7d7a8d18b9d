"""How a journal is laid out: its header, its frames, and the changes in them, as bytes and back.

Layout, all integers big-endian::

    0      header, one of two copies: each is written in turn, the newer one that is whole is in force
    512    header, the other copy
    1024   how far the journal is known to have reached the disk ("acknowledged"); written after that, and not waited for
    4096   frames, one a commit

    header        magic 8s, sequence Q, generation Q, switching B, length of kind B, number of files B,
                  kind, (length of suffix B, suffix, size Q, crc I) a file, crc I of all before
    acknowledged  generation Q, end Q, crc I of both
    frame         magic 4s, flags B, generation Q, number Q, length Q, crc I of the body, crc I of all before, body
    body          (length of key I, length of row q, key, row) a change; a row of length -1 is a removal

The checksums are CRC-32. This module knows bytes; which of them count is in `pstore.backends.journal`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAGIC: Final = b"pstorejl"
FRAME_MAGIC: Final = b"\xabJf\n"
SLOTS: Final = (0, 512)
SLOT_SIZE: Final = 512
ACKNOWLEDGED_AT: Final = 1024
FRAMES_AT: Final = 4096

_HEADER: Final = struct.Struct(">8sQQ?BB")
_FILE: Final = struct.Struct(">QI")
_CRC: Final = struct.Struct(">I")
_ACKNOWLEDGED: Final = struct.Struct(">QQ")
_FRAME: Final = struct.Struct(">4sBQQQI")
_CHANGE: Final = struct.Struct(">Iq")

DURABLE: Final = 1  # in a frame's flags: all frames before it are on the disk
ACKNOWLEDGED_SIZE: Final = _ACKNOWLEDGED.size + _CRC.size
FRAME_SIZE: Final = _FRAME.size + _CRC.size  # without the body


@dataclass(frozen=True)
class FileState:
    """What a file was when the journal's generation began.

    Attributes:
        suffix: What its name has behind the store's path.
        size: Its length in bytes.
        crc: The CRC-32 of its content.
    """

    suffix: str
    size: int
    crc: int


@dataclass(frozen=True)
class Header:
    """The facts that the journal keeps.

    Attributes:
        kind: What the journal belongs to.
        generation: How often it was emptied.
        files: The files of this generation.
        switching: Whether the files of this generation may still stand under their names as new ones.
        sequence: How often the header was written.
    """

    kind: str
    generation: int = 0
    files: tuple[FileState, ...] = ()
    switching: bool = False
    sequence: int = 0


class Frame(NamedTuple):
    """What stands before the body of a frame.

    Attributes:
        flags: DURABLE or 0.
        generation: The journal's generation when it was written.
        number: Its number in that, from 0 on.
        length: The bytes of the body.
        crc: The CRC-32 of the body.
    """

    flags: int
    generation: int
    number: int
    length: int
    crc: int


def pack_header(header: Header) -> bytes:
    """Return a header as it is written."""
    kind = header.kind.encode()
    packed = _HEADER.pack(MAGIC, header.sequence, header.generation, header.switching, len(kind), len(header.files))
    packed += kind
    for file in header.files:
        suffix = file.suffix.encode()
        packed += bytes([len(suffix)]) + suffix + _FILE.pack(file.size, file.crc)
    return _sealed(packed)


def unpack_header(slot: bytes) -> Header | None:
    """Return the header that stands in a slot, None where none stands whole."""
    if slot[: len(MAGIC)] != MAGIC or len(slot) < _HEADER.size:
        return None
    _, sequence, generation, switching, kind_length, count = _HEADER.unpack_from(slot)
    at = _HEADER.size
    try:
        kind, at = slot[at : at + kind_length].decode(), at + kind_length
        files = []
        for _ in range(count):
            length = slot[at]
            suffix = slot[at + 1 : at + 1 + length].decode()
            files.append(FileState(suffix, *_FILE.unpack_from(slot, at + 1 + length)))
            at += 1 + length + _FILE.size
        if _CRC.unpack_from(slot, at)[0] != zlib.crc32(slot[:at]):
            return None
    except (IndexError, UnicodeDecodeError, struct.error):
        return None
    return Header(kind, generation, tuple(files), switching, sequence)


def pack_acknowledged(generation: int, end: int) -> bytes:
    """Return how far a generation has reached the disk, as it is written."""
    return _sealed(_ACKNOWLEDGED.pack(generation, end))


def unpack_acknowledged(packed: bytes) -> tuple[int, int] | None:
    """Return generation and end, None where they aren't what was written."""
    start = _unsealed(packed)
    return None if start is None else _ACKNOWLEDGED.unpack(start)


def pack_frame(flags: int, generation: int, number: int, body: bytes) -> bytes:
    """Return a frame as it is written."""
    return _sealed(_FRAME.pack(FRAME_MAGIC, flags, generation, number, len(body), zlib.crc32(body))) + body


def unpack_frame(packed: bytes) -> Frame | None:
    """Return what stands before a body, None where that isn't the beginning of a frame."""
    start = _unsealed(packed) if len(packed) == FRAME_SIZE else None
    if start is None or not start.startswith(FRAME_MAGIC):
        return None
    return Frame(*_FRAME.unpack(start)[1:])


def pack_changes(changes: Iterable[Mapping[bytes, bytes | None]]) -> Iterator[bytes]:
    """Yield the parts of a body."""
    for part in changes:
        for key, row in part.items():
            yield _CHANGE.pack(len(key), -1 if row is None else len(row))
            yield key
            if row is not None:
                yield row


def unpack_changes(body: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield key and row of each change, None for a row that is removed."""
    at = 0
    while at < len(body):
        key_length, row_length = _CHANGE.unpack_from(body, at)
        at += _CHANGE.size
        key = body[at : at + key_length]
        at += key_length
        yield key, None if row_length < 0 else body[at : at + row_length]
        at += max(row_length, 0)


def _sealed(packed: bytes) -> bytes:
    return packed + _CRC.pack(zlib.crc32(packed))


def _unsealed(packed: bytes) -> bytes | None:
    """Return what stands before a checksum, None where that isn't its."""
    start = packed[: -_CRC.size]
    return start if packed == _sealed(start) else None
