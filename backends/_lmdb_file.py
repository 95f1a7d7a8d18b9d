"""LMDB's data file as bytes: is it one, does it belong to LMDB's format 0.9, and is it whole?

LMDB maps its file into memory and trusts what it finds there: its pages have no checksums, and a damaged pointer can end
the process. So a file is looked at before it is mapped. The two header ("meta") pages are always checked; the pages of
the trees where the file is small, looks too short, or when asked. The format is that of LMDB's own `mdb.c` (MDB_meta,
MDB_db, MDB_page); the trees are walked by the `lmdb` package's `lmdb.verify`, where it has one.

This module never maps a file, and knows nothing of what is stored.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pstore.errors import CorruptRecord, FormatError, StorageError

if TYPE_CHECKING:
    from io import RawIOBase
    from pathlib import Path

#: What every LMDB file has at `MAGIC_AT`, in the byte order of the machine.
MAGIC: Final = struct.pack("=I", 0xBEEFC0DE)
MAGIC_AT: Final = 16
#: Up to this size a file's trees are walked whenever it is opened (about a second for the largest).
WALKED_BYTES: Final = 8 << 20

_VERSION: Final = 1  # of the data format; LMDB 1.0 has another, with the magic at 24
_META_PAGE: Final = 0x08
_PAGE: Final = struct.Struct("=QHHHH")  # number, pad, flags, lower, upper
_TREE: Final = struct.Struct("=IHHQQQQQ")  # page size (in the first), flags, depth, pages of 3 kinds, entries, root
_META: Final = struct.Struct("=IIQQ")  # magic, version, address, size of the map
_END: Final = struct.Struct("=QQ")  # last page, transaction
_META_SIZE: Final = MAGIC_AT + _META.size + 2 * _TREE.size + _END.size
_FREE_FLAGS: Final = 0x08  # integers as keys; of the lower bits no other may be set, nor any in the tree of names
_FLAGS_OF_TREES: Final = 0x7F
_LARGEST_MAP: Final = 1 << 47
_TRIES: Final = 3


class Meta(NamedTuple):
    """What a header page says.

    Attributes:
        number: Its own page number.
        kind: The flags of the page.
        version: Of the format.
        map_size: The size that the map had at this commit, in bytes.
        page_size: In bytes.
        flags: Those of the tree of free pages and of the tree of tables.
        last_page: The number of the last page that is in use or was.
        transaction: The number of the commit that wrote it.
    """

    number: int
    kind: int
    version: int
    map_size: int
    page_size: int
    flags: tuple[int, int]
    last_page: int
    transaction: int

    @property
    def bytes(self) -> int:
        """The size of the file up to its last page."""
        return (self.last_page + 1) * self.page_size


def check_file(path: Path, *, walk: bool | None = None) -> Meta | None:
    """Look whether a file can be given to LMDB.

    Args:
        path: The data file.
        walk: Whether to walk its trees; None does so up to `WALKED_BYTES`, and where the file is shorter than it should be.

    Returns:
        The newer header; None where the file is empty or missing, or LMDB was interrupted when it began it.

    Raises:
        FormatError: It isn't LMDB's, or of another version or kind of machine.
        CorruptRecord: It is damaged.
        StorageError: It can't be read.
    """
    newer = None
    for _ in range(_TRIES):
        try:
            metas = _read_metas(path)
            if metas is None:
                return None
            newer = _newer(path, metas)
            size = path.stat().st_size
            short = size < newer.bytes  # only pages that are free may be missing
            wanted = size <= WALKED_BYTES if walk is None else walk
            problem = _walk(path, short=short) if short or wanted else ""
        except OSError as error:
            message = f"{path} can't be read: {error.strerror}"
            raise StorageError(message) from error
        if not problem:
            return newer
        if _read_metas(path) == metas:  # nobody has written meanwhile
            raise damaged(path, problem)
    return newer  # it is being written all the time: whoever writes has looked at it before


def damaged(path: Path, problem: str) -> CorruptRecord:
    """Return the error to raise for a file that is damaged."""
    return CorruptRecord(f"{path} is damaged: {problem}; restore it from a backup")


def _read_metas(path: Path) -> tuple[Meta, Meta] | None:
    if not path.exists():
        return None
    with path.open("rb", buffering=0) as file:
        while True:
            start = _read_at(file, 0)
            if not start:
                return None
            if start[MAGIC_AT : MAGIC_AT + 4] != MAGIC:
                other = start[24:28] == MAGIC or start[MAGIC_AT : MAGIC_AT + 4] == MAGIC[::-1]
                why = "of another version of LMDB, or of another kind of machine" if other else "not an LMDB file"
                message = f"{path} is {why}; choose another path"
                raise FormatError(message)
            first = _read_meta(path, start)
            if first.page_size not in {1 << power for power in range(9, 16)}:
                raise damaged(path, f"its first header tells of pages of {first.page_size} bytes")
            rest = _read_at(file, first.page_size)
            # Commits write the two in turn: if the first is still the same, then the second was next to it.
            if _read_at(file, 0) == start:
                break
        if len(rest) < _META_SIZE and not first.transaction:
            # LMDB writes both headers at once, and here it didn't come to an end: nothing was ever committed.
            return None
        return first, _read_meta(path, rest)


def _read_at(file: RawIOBase, at: int) -> bytes:
    file.seek(at)
    return file.read(_META_SIZE) or b""


def _read_meta(path: Path, data: bytes) -> Meta:
    if len(data) < _META_SIZE:
        raise damaged(path, "it ends within its headers")
    number, _, kind, _, _ = _PAGE.unpack_from(data)
    magic, version, _, map_size = _META.unpack_from(data, MAGIC_AT)
    at = MAGIC_AT + _META.size
    page_size, free_flags, *_ = _TREE.unpack_from(data, at)
    _, main_flags, *_ = _TREE.unpack_from(data, at + _TREE.size)
    last_page, transaction = _END.unpack_from(data, at + 2 * _TREE.size)
    if magic != int.from_bytes(MAGIC, "little" if MAGIC[0] == 0xDE else "big"):
        raise damaged(path, "a header has lost its magic number")
    return Meta(number, kind, version, map_size, page_size, (free_flags, main_flags), last_page, transaction)


def _newer(path: Path, metas: tuple[Meta, Meta]) -> Meta:
    """Return the header of the last commit, having checked both as far as they can be on their own."""
    for index, meta in enumerate(metas):
        if meta.version != _VERSION:
            message = f"{path} has version {meta.version} of LMDB's data format; this reads version {_VERSION}"
            raise FormatError(message)
        if meta.number != index or meta.kind != _META_PAGE or meta.page_size != metas[0].page_size:
            raise damaged(path, f"header {index} isn't one")
        free_flags, main_flags = (flags & _FLAGS_OF_TREES for flags in meta.flags)
        if free_flags != _FREE_FLAGS or main_flags:
            raise damaged(path, f"header {index} tells of trees of another kind")
        if meta.last_page < 1 or meta.map_size > _LARGEST_MAP or meta.bytes > _LARGEST_MAP:
            raise damaged(path, f"header {index} tells of an impossible size")
    even, odd = (meta.transaction for meta in metas)
    # Commits write the two in turn; a new file has 0 in both.
    if even % 2 or (odd % 2 == 0 and odd) or (abs(even - odd) != 1 and (even or odd)):
        raise damaged(path, f"its headers don't belong together (commits {even} and {odd})")
    return max(metas, key=lambda meta: meta.transaction)


def _walk(path: Path, *, short: bool) -> str:
    """Return what is wrong with the file's trees, or "".

    Args:
        path: The file.
        short: Whether it ends before the last page that its header tells of.
    """
    size = path.stat().st_size
    try:
        from lmdb import verify as untyped

        verify: Any = untyped
        if short:
            # What is in use of a large row may reach past the end, and only the verifier itself knows what is in use.
            with path.open("rb") as file:
                verifier = verify._Verifier(file, size)
                problems: list[str] = verifier.verify()
                if any(verifier.live[size // verifier.psize :]):
                    return f"it ends after {size} bytes, within what is in use"
        else:
            problems = verify.verify(str(path), subdir=False)
    except (ImportError, AttributeError, TypeError):  # before 3.0, or a later one that has another verifier
        return f"it has {size} bytes, fewer than its header tells of" if short else ""
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever the verifier trips over, or says of its own
        return f"its trees can't be followed: {error}"
    # A page that is neither in use nor free is wasted, and no harm.
    return next((problem for problem in problems if "a leak" not in problem), "")
