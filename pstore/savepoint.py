"""A savepoint: a moment of a transaction to which it can come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from pstore.session import Session


class Savepoint:
    """A moment of a transaction; made by `Store.savepoint`.

    It can be come back to until the transaction ends, or until an earlier savepoint is gone back to. As a context manager
    it goes back when an exception leaves the block.
    """

    def __init__(self, session: Session, mark: int) -> None:
        self._session = session
        self._mark = mark

    def rollback(self) -> None:
        """Make names and objects what they were at this moment. The transaction goes on; later savepoints end.

        Objects that the store didn't have yet are the application's own again. Where the state of one of them was put aside
        by a later savepoint and dropped from memory, it is gone, and touching the object raises `MissingRecord`.

        Raises:
            SavepointEnded: It can't be gone back to any more.
        """
        self._session.back_to(self._mark)

    def __enter__(self) -> Self:
        """Return the savepoint itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Go back where there is an exception."""
        if kind is not None and not self._session.guard.closed:
            self._session.back_to(self._mark)
