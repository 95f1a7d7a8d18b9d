"""Connections to one PostgreSQL server: a bounded pool, made anew after the server was away; and its round trips.

Who leases a connection has it alone until it is given back. This module knows the states of a connection; it knows no table
and no statement but ROLLBACK.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pstore.backends._postgresql_address import driver
from pstore.backends._postgresql_errors import AGAIN, translate
from pstore.errors import ConnectionLost, StoreClosed, StoreLocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from pstore.backends._postgresql_address import Address

    Connection = psycopg.Connection[Any]
    #: With its parameters.
    Statement = tuple[bytes, tuple[object, ...]]

T = TypeVar("T")

ROLLBACK: Final = b"ROLLBACK"


class Pool:
    """The connections to one server.

    Args:
        address: Where it is.

    Attributes:
        forked: Whether this is a copy, in a process that was forked from the pool's own.
        round_trips: How often an answer of the server was waited for.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.forked = False
        self.round_trips = 0
        self._psycopg = driver()
        #: Behind a connection that has timed out, asking again would only take as long; old drivers have no name for it.
        self._slow: Any = getattr(self._psycopg.errors, "ConnectionTimeout", ())
        self._guard = threading.Lock()
        self._free = threading.Semaphore(address.pool)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._closed = self._connected = False

    # ------------------------------------------------------------- connections

    def lease(self) -> Connection:
        """Return a connection that nobody else has: an idle one, or a new one.

        Raises:
            StoreLocked: All are in use, and none was given back in time.
            ConnectionLost: None can be made.
            StoreClosed: The pool was closed.
        """
        self.check()
        if not self._free.acquire(timeout=self.address.timeout):
            message = (
                f"{self}: all {self.address.pool} connections were in use for {self.address.timeout} s; end transactions"
                " (commit, rollback or close), or allow more connections with ?pool=... in the URL"
            )
            raise StoreLocked(message)
        try:
            return self._idle_one() or self._connect()
        except BaseException:
            self._free.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """Take back a connection; what it hasn't committed is rolled back."""
        if self.forked:
            return
        try:
            self._clean(connection)
            with self._guard:
                if connection.closed or self._closed:
                    self._open.discard(connection)
                    connection.close()
                else:
                    self._idle.append(connection)
        finally:
            self._free.release()

    def forget_idle(self) -> None:
        """One connection was lost, and so, most likely, were the idle ones: don't try each."""
        with self._guard:
            idle, self._idle = self._idle, []
            self._open.difference_update(idle)
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close every connection. Calling it again does nothing."""
        with self._guard:
            self._closed = True
            connections, self._open, self._idle = list(self._open), set(), []
        for connection in connections:
            connection.close()

    def check(self) -> None:
        """Raise StoreClosed where the pool was closed, or belongs to the process that this one was forked from."""
        if self.forked:
            message = f"{self} was opened before this process was forked; open it again in this process"
            raise StoreClosed(message)
        if self._closed:
            message = f"{self} is closed"
            raise StoreClosed(message)

    def abandon(self) -> None:
        """Leave the connections to the process that this one was forked from: closing one would end it there, too."""
        self.forked = True
        self._guard = threading.Lock()  # which another thread may have held
        _abandoned.extend(self._open)
        self._open, self._idle = set(), []

    def __str__(self) -> str:
        return self.address.shown

    def _idle_one(self) -> Connection | None:
        with self._guard:
            return self._idle.pop() if self._idle else None

    def _connect(self) -> Connection:
        options = self.address.options()
        try:
            connection: Connection = self._psycopg.Connection.connect(**options)
        except self._psycopg.Error as error:
            message = f"{self} can't be reached: {str(error).strip()}"
            raise ConnectionLost(message) from error
        finally:
            self._count()
        with self._guard:
            self._connected = True
            if not self._closed:
                self._open.add(connection)
                return connection
        connection.close()
        self.check()
        raise AssertionError  # it is closed

    def _runs(self) -> bool:
        """Whether the server takes connections, though it may refuse ours. The interpreter's lock is held meanwhile."""
        options = {**self.address.conninfo, "connect_timeout": 2}
        pq = self._psycopg.pq
        conninfo = self._psycopg.conninfo.make_conninfo(**options)
        return bool(pq.PGconn.ping(conninfo.encode()) == pq.Ping.OK)

    def _clean(self, connection: Connection) -> None:
        status, pq = connection.info.transaction_status, self._psycopg.pq
        if connection.closed or status == pq.TransactionStatus.IDLE:
            return
        clean = False
        try:
            # What was interrupted in the middle of a statement, or of a pipeline, isn't used again.
            if status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR) and (
                connection.info.pipeline_status == pq.PipelineStatus.OFF
            ):
                self._count()
                connection.execute(ROLLBACK)
                clean = True
        except self._psycopg.Error:
            pass  # it is closed, and the server rolls back
        finally:
            if not clean:
                connection.close()

    # -------------------------------------------------------------- round trips

    def ask(self, connection: Connection, statement: bytes, *parameters: object, one: bool = True) -> list[Any]:
        """Have a statement executed, in one round trip, and return its rows.

        Args:
            connection: Where.
            statement: The statement.
            parameters: Its parameters.
            one: Whether it is one statement; else it has no parameters, and the rows are those of the last one.
        """
        self._count()
        with self._translated(connection):
            cursor = connection.execute(statement, parameters, binary=one)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def tell(self, connection: Connection, statements: list[Statement], *, commit: bool) -> None:
        """Have statements executed, in one round trip. After one that has failed, none is.

        Args:
            connection: Where.
            statements: Each with its parameters.
            commit: Whether the last one ends the transaction, so that it isn't known what came of it when the connection is
                lost.
        """
        self._count()
        with self._translated(connection, commit=commit):
            failed = None
            try:
                with connection.pipeline():
                    try:
                        for statement, parameters in statements:
                            connection.execute(statement, parameters)
                    except BaseException as error:  # noqa: BLE001  # the driver would log what fails behind it; it's raised below
                        failed = error
            except self._psycopg.Error:
                if failed is None:
                    raise
            if failed is not None:
                raise failed

    def retry(self, function: Callable[[], T]) -> T:
        """Call what may be done again until it passes or the time is over, and return what it returns.

        It is done again, after a wait, where a connection was lost or couldn't be made, and where the server asks for it. Before
        the first connection it isn't where the server runs and refuses it: a name or a password is wrong.
        """
        deadline, wait, refused = time.monotonic() + self.address.timeout, 0.01, 0
        while True:
            try:
                return function()
            except (ConnectionLost, StoreLocked) as error:
                if isinstance(error, ConnectionLost):
                    self.forget_idle()
                    refused += not self._connected and not isinstance(error.__cause__, self._slow) and self._runs()
                    if refused == 2:  # once it may have come up since
                        raise
                elif getattr(error.__cause__, "sqlstate", None) not in AGAIN:
                    raise
                if time.monotonic() + wait > deadline:
                    raise
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  # no secret: so that clients don't all come at once
            wait = min(1.0, 2 * wait)

    def _count(self) -> None:
        with self._guard:
            self.round_trips += 1

    @contextlib.contextmanager
    def _translated(self, connection: Connection, *, commit: bool = False) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except self._psycopg.Error as error:
            if self._closed:
                message = f"{self} is closed"
                raise StoreClosed(message) from error
            raise translate(error, self.address, lost=bool(connection.closed), commit=commit) from error


_abandoned: Final[list[Connection]] = []
