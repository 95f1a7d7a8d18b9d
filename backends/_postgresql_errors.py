"""The errors of a PostgreSQL server as ours, by SQLSTATE (PostgreSQL's documentation, appendix A)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pstore.errors import (
    CommitUncertain,
    ConnectionLost,
    CorruptRecord,
    Error,
    FormatError,
    ReadOnlyError,
    StorageError,
    StoreLocked,
)

if TYPE_CHECKING:
    import psycopg

    from pstore.backends._postgresql_address import Address

#: SQLSTATE: connection exceptions; the server shuts down, has crashed or starts; the session was ended for being idle.
LOST: Final = frozenset(
    {"08000", "08001", "08003", "08004", "08006", "08007", "08P01", "57P01", "57P02", "57P03", "57P05", "25P03"}
)
#: It couldn't serve two transactions side by side: not in one order, or for a deadlock.
AGAIN: Final = frozenset({"40001", "40P01"})


def translate(error: psycopg.Error, address: Address, *, lost: bool, commit: bool) -> Error:
    """Return our error for one of the driver's.

    Args:
        error: The driver's.
        address: Where it came from.
        lost: Whether the connection is gone.
        commit: Whether it came from the end of a transaction, so that it isn't known what became of that when the
            connection is gone.
    """
    state, text = error.sqlstate or "", str(error).strip()
    if commit and (lost or state in LOST or state == "40003"):
        return CommitUncertain(f"{address}: the connection was lost in the middle of a commit: {text}")
    if lost or state in LOST:
        return ConnectionLost(
            f"{address}: the connection was lost: {text}; nothing of the transaction is stored: roll back and begin anew"
        )
    if state == "55P03":
        return StoreLocked(
            f"{address}: another writer held the store for more than {address.timeout} s; try again later"
        )
    if state in AGAIN:
        return StoreLocked(f"{address}: the server asks to try again: {text}; nothing of the transaction is stored")
    if state == "25006":
        return ReadOnlyError(f"{address} can't be written, as this server only reads: {text}; connect to the primary")
    if state in ("42P01", "3F000", "42703"):
        return FormatError(f"{address}: tables of the store are missing: {text}; open it again, or restore a backup")
    if state.startswith("XX00") or state == "22021":
        return CorruptRecord(f"{address} is damaged: {text}; restore it from a backup")
    if state in ("54000", "22001"):
        return StorageError(f"{address}: a key or row is larger than the server takes: {text}; keep it in parts")
    return StorageError(f"{address}: the server says: {text} ({state or type(error).__name__})")
