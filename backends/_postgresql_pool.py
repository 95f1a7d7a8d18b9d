"""Connections to one PostgreSQL server: a bounded pool, made anew after the server was away; and the driver's errors as ours.

Who leases a connection has it alone until it is given back. This module knows the driver and the states of a connection;
it knows no table and no statement but ROLLBACK.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote

from pstore.errors import (
    CommitUncertain,
    ConnectionLost,
    CorruptRecord,
    Error,
    FormatError,
    ReadOnlyError,
    StorageError,
    StoreClosed,
    StoreLocked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import psycopg
    from typing_extensions import Self

    Connection = psycopg.Connection[Any]
    #: With its parameters.
    Statement = tuple[bytes, tuple[object, ...]]

T = TypeVar("T")

ROLLBACK: Final = b"ROLLBACK"

#: What libpq is asked for where neither the URL nor its environment says otherwise: a machine that has vanished is
#: noticed within half a minute, not after the hours that the system's own settings take.
_KEEPALIVE: Final = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}


def driver() -> ModuleType:
    """Return psycopg.

    Raises:
        StorageError: It isn't installed, or can't be imported.
    """
    try:
        import psycopg
    except ImportError as error:
        message = f"a PostgreSQL store needs the driver psycopg 3 ({error}): pip install 'pstore-db[postgresql]'"
        raise StorageError(message) from error
    return psycopg


class Address(NamedTuple):
    """Where a store is, as its URL says it.

    Attributes:
        conninfo: libpq's own parameters.
        schema: The schema that has the store's tables.
        timeout: How long to wait for another writer, for a connection, and for a server that is away, in seconds.
        pool: How many connections there may be.
        shown: The URL, without what is secret.
    """

    conninfo: dict[str, Any]
    schema: str
    timeout: float
    pool: int
    shown: str

    @classmethod
    def of(cls, url: str, *, timeout: float | None = None) -> Self:
        """Take a URL apart.

        Args:
            url: As libpq takes it; `schema`, `timeout` and `pool` in its query are ours.
            timeout: In place of the URL's.

        Raises:
            ValueError: It isn't one that libpq takes, or one of our parameters is wrong.
        """
        psycopg = driver()
        base, _, query = url.partition("?")
        ours = {"schema": "pstore", "timeout": "5", "pool": "20"}
        theirs = []
        for part in filter(None, query.split("&")):
            name, _, value = part.partition("=")
            if name in ours:
                ours[name] = unquote(value)
            else:
                theirs.append(part)
        try:
            conninfo: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(
                "?".join([base, *filter(None, ["&".join(theirs)])])
            )
        except psycopg.Error as error:
            # What libpq says may quote a password.
            reason = "it has a secret, so it isn't shown" if "@" in base or "password" in query else f"{url!r}: {error}"
            message = f"libpq can't read the URL ({reason}); it is postgresql://user@host:port/database?schema=name"
            raise ValueError(message) from None
        try:
            seconds, pool = float(ours["timeout"]) if timeout is None else timeout, int(ours["pool"])
        except ValueError:
            seconds, pool = -1.0, 0
        if not 0 <= seconds < 10**6 or pool < 1:
            message = (
                f"timeout is a number of seconds and pool a number of connections, at least 1,"
                f" not {ours['timeout']!r} and {ours['pool']!r}"
            )
            raise ValueError(message)
        schema = ours["schema"]
        if not schema or "\0" in schema or len(schema.encode()) > 63:
            message = f"a schema's name has 1 to 63 bytes, and {schema!r} hasn't"
            raise ValueError(message)
        user, host, port = (conninfo.get(part, "") for part in ("user", "host", "port"))
        place = f"{user and user + '@'}{host}{port and f':{port}'}"
        return cls(
            conninfo, schema, seconds, pool, f"postgresql://{place}/{conninfo.get('dbname', '')}?schema={schema}"
        )

    def options(self) -> dict[str, Any]:
        """Return what the driver is to connect with."""
        defaults: dict[str, Any] = {"fallback_application_name": "pstore", **_KEEPALIVE}
        if "PGCONNECT_TIMEOUT" not in os.environ:
            defaults["connect_timeout"] = max(2, int(self.timeout))
        # Statements aren't prepared: each is one round trip from its first use on, and a pooler such as PgBouncer, which
        # may hand every transaction to another server process, can stand in between.
        return {**defaults, **self.conninfo, "autocommit": True, "prepare_threshold": None}


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
        self._guard = threading.Lock()
        self._free = threading.Semaphore(address.pool)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._closed = False

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
            if not self._closed:
                self._open.add(connection)
                return connection
        connection.close()
        self.check()
        raise AssertionError  # it is closed

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
        with self.translated(connection):
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
        with self.translated(connection, commit=commit), connection.pipeline():
            for statement, parameters in statements:
                connection.execute(statement, parameters)

    def retry(self, function: Callable[[], T]) -> T:
        """Call what may be done again until it passes or the time is over, and return what it returns.

        It is done again, after a wait, where a connection was lost or couldn't be made, and where the server asks for it.
        """
        deadline, wait = time.monotonic() + self.address.timeout, 0.01
        while True:
            try:
                return function()
            except (ConnectionLost, StoreLocked) as error:
                if isinstance(error, ConnectionLost):
                    self.forget_idle()
                elif getattr(error.__cause__, "sqlstate", None) not in _AGAIN:
                    raise
                if time.monotonic() + wait > deadline:
                    raise
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  # no secret: so that clients don't all come at once
            wait = min(1.0, 2 * wait)

    def _count(self) -> None:
        with self._guard:
            self.round_trips += 1

    # ------------------------------------------------------------------- errors

    @contextlib.contextmanager
    def translated(self, connection: Connection, *, commit: bool = False) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except self._psycopg.Error as error:
            raise self._translate(error, connection, commit=commit) from error

    def _translate(self, error: psycopg.Error, connection: Connection, *, commit: bool) -> Error:
        state, text = error.sqlstate or "", str(error).strip()
        if self._closed:
            return StoreClosed(f"{self} is closed")
        if commit and (connection.closed or state in _LOST or state == "40003"):
            return CommitUncertain(f"{self}: the connection was lost in the middle of a commit: {text}")
        if connection.closed or state in _LOST:
            return ConnectionLost(
                f"{self}: the connection was lost: {text}; nothing of the transaction is stored: roll back and begin anew"
            )
        if state == "55P03":
            return StoreLocked(
                f"{self}: another writer held the store for more than {self.address.timeout} s; try again later"
            )
        if state in _AGAIN:
            return StoreLocked(f"{self}: the server asks to try again: {text}; nothing of the transaction is stored")
        if state == "25006":
            return ReadOnlyError(f"{self} can't be written, as this server only reads: {text}; connect to the primary")
        if state in ("42P01", "3F000", "42703"):
            return FormatError(f"{self}: tables of the store are missing: {text}; open it again, or restore a backup")
        if state.startswith("XX00") or state == "22021":
            return CorruptRecord(f"{self} is damaged: {text}; restore it from a backup")
        if state in ("54000", "22001"):
            return StorageError(f"{self}: a key or row is larger than the server takes: {text}; keep it in parts")
        return StorageError(f"{self}: the server says: {text} ({state or type(error).__name__})")


#: SQLSTATE: connection exceptions; the server shuts down, has crashed or starts; the session was ended for being idle.
_LOST: Final = frozenset(
    {"08000", "08001", "08003", "08004", "08006", "08007", "08P01", "57P01", "57P02", "57P03", "57P05", "25P03"}
)
#: It couldn't serve two transactions side by side: not in one order, or for a deadlock.
_AGAIN: Final = frozenset({"40001", "40P01"})
_abandoned: Final[list[Connection]] = []
