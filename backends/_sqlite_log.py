"""Whether SQLite's write-ahead log still has every commit, after a process has died with a store open.

SQLite takes a log for what it finds: from the first frame on that isn't whole it drops the rest, without a word. So it must,
as that is how a commit looks that was under way when the process died. But a log that was cut or changed since looks the
same, and the commits that are dropped then were acknowledged.

The index beside the log (`-shm`) tells the two apart. It is written when a commit is done, and lasts as a file when a process
dies, until the next one opens the store; SQLite never looks at it then. Where it is there and whole, it says how many frames
the log must have, and their checksum. Both formats are specified in https://www.sqlite.org/walformat.html.

Behind a crash of the machine the index may be missing, old or torn, and then says nothing. Nobody may have the store open.
"""

from __future__ import annotations

import struct
import sys
from operator import mul
from typing import TYPE_CHECKING, Final, NamedTuple

from pstore.errors import CorruptRecord

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: a file that a process has open there can't be looked at like this
    fcntl = None  # type: ignore[assignment]

#: The index's header, which stands there twice: version, -, change, is it valid, order, page size, frames, pages, their
#: checksum, salts, checksum of the header. Behind both: how many frames the file has already.
_INDEX: Final = struct.Struct("=IIIBBHII2I8s2I")
_IN_FILE: Final = struct.Struct("=I")
_VERSION: Final = 3007000
#: Magic (the last bit: whether checksums are of big-endian words), version, page size, -, salts, checksum.
_LOG: Final = struct.Struct(">III4x8s2I")
_MAGIC: Final = 0x377F0682
#: Page, size of the database behind a commit, salts, checksum.
_FRAME: Final = struct.Struct(">II8s2I")
#: The byte of the index on which each process that has it open holds a lock.
_LOCK: Final = 128
_WORD: Final = 0xFFFFFFFF


class Index(NamedTuple):
    """What the index says of the log.

    Attributes:
        frames: How many there are.
        in_file: How many of them are in the file already.
        checksum: That of the last one.
        salts: What tells this log from an older one in the same file.
    """

    frames: int
    in_file: int
    checksum: tuple[int, int]
    salts: bytes


def check(path: Path) -> None:
    """Look whether the log beside a store has all that its index says; does nothing where that can't be told.

    Raises:
        CorruptRecord: It hasn't. Nothing was changed.
    """
    index = _index_of(path)
    if index is None or index.frames <= index.in_file:
        return
    whole = _count_whole(path, index)
    if whole >= index.frames or _index_of(path) != index:  # else another process has opened the store meanwhile
        return
    name = f"{path}-wal"
    message = (
        f"{name} is damaged: {whole} of {index.frames} parts of the log are whole, so the last commits would be lost. Restore"
        f" the store from a backup; or, to go on with what is left, keep copies of {path} and {name}, remove {path}-shm, and"
        " open it again"
    )
    raise CorruptRecord(message)


def _index_of(path: Path) -> Index | None:
    """Return what the index says; None where there is none that is whole, or a process has the store open."""
    if fcntl is None:
        return None
    try:
        with path.with_name(path.name + "-shm").open("rb+") as file:
            data = file.read(2 * _INDEX.size + _IN_FILE.size)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCK)
            except OSError:
                return None  # a process has it
    except OSError:
        return None
    first, second = data[: _INDEX.size], data[_INDEX.size : 2 * _INDEX.size]
    if len(data) < 2 * _INDEX.size + _IN_FILE.size or first != second:
        return None
    version, _, _, valid, _, _, frames, _, one, two, salts, *own = _INDEX.unpack(first)
    if version != _VERSION or not valid or _Checksum(_INDEX.size - 8, sys.byteorder)(first[:-8], (0, 0)) != tuple(own):
        return None
    (in_file,) = _IN_FILE.unpack_from(data, 2 * _INDEX.size)
    return Index(frames, in_file, (one, two), salts)


def _count_whole(path: Path, index: Index) -> int:
    """Return how many frames of the log SQLite will take, up to those that the index knows."""
    try:
        with path.with_name(path.name + "-wal").open("rb") as file:
            return _count(file, index)
    except OSError:
        return 0


def _count(file: BinaryIO, index: Index) -> int:
    start = file.read(_LOG.size)
    if len(start) < _LOG.size:
        return 0
    magic, _, page_size, salts, *checksum = _LOG.unpack(start)
    if magic & ~1 != _MAGIC or salts != index.salts or not 512 <= page_size <= 65536:
        return 0
    order = "big" if magic & 1 else "little"
    last = tuple(checksum)
    if _Checksum(_LOG.size - 8, order)(start[:-8], (0, 0)) != last:
        return 0
    sum_of = _Checksum(8 + page_size, order)
    for number in range(index.frames):
        head, page = file.read(_FRAME.size), file.read(page_size)
        if len(page) < page_size:
            return number
        _, _, salts, *checksum = _FRAME.unpack(head)
        last = sum_of(head[:8] + page, last)
        if salts != index.salts or last != tuple(checksum):
            return number
    return index.frames if last == index.checksum else 0


class _Checksum:
    """SQLite's checksum of so many bytes, on top of another.

    For each pair of words: `a += word + b; b += other + a`, modulo 2**32. That is linear in all of them; the factors, which
    are Fibonacci numbers, are the same for each block of a size, and two sums of products take far less time than the loop.
    """

    def __init__(self, size: int, order: str) -> None:
        self._words = struct.Struct(f"{'>' if order == 'big' else '<'}{size // 4}I")
        # How much of `a` and of `b` as they are now will be in either at the end; from the end backwards.
        a_in_a, b_in_a, a_in_b, b_in_b = 1, 0, 0, 1
        in_a, in_b = [], []
        for _ in range(size // 8):
            in_a.append(b_in_a)
            in_b.append(b_in_b)
            a_in_a, a_in_b = (a_in_a + b_in_a) & _WORD, (a_in_b + b_in_b) & _WORD
            in_a.append(a_in_a)
            in_b.append(a_in_b)
            b_in_a, b_in_b = (b_in_a + a_in_a) & _WORD, (b_in_b + a_in_b) & _WORD
        self._in_a, self._in_b = in_a[::-1], in_b[::-1]
        self._start = a_in_a, b_in_a, a_in_b, b_in_b

    def __call__(self, data: bytes, before: tuple[int, ...]) -> tuple[int, int]:
        words = self._words.unpack(data)
        a, b = before
        a_in_a, b_in_a, a_in_b, b_in_b = self._start
        return (
            (a * a_in_a + b * b_in_a + sum(map(mul, self._in_a, words))) & _WORD,
            (a * a_in_b + b * b_in_b + sum(map(mul, self._in_b, words))) & _WORD,
        )
