"""The PostgreSQL backend: a schema of a database, for several machines on one store.

A read transaction is PostgreSQL's snapshot (`REPEATABLE READ`). Writers follow one another through a row lock, and see the
newest state after they have it (`READ COMMITTED`). Every method is one round trip to the server or none, but for scans: one for each few
megabytes. The SQL is plain enough for the distributed databases that speak PostgreSQL's protocol.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, ClassVar, Final

from pstore.backends._postgresql_address import Address
from pstore.backends._postgresql_pool import Pool
from pstore.backends._postgresql_transaction import (
    COMMIT,
    LARGEST_ROW,
    LONGEST_NAME,
    PostgresqlTransaction,
)
from pstore.backends.base import INT_TABLES, TABLES, Backend, Capabilities
from pstore.errors import ConnectionLost, FormatError, ReadOnlyError, StorageError, StoreNotFound

if TYPE_CHECKING:
    from pstore.backends._postgresql_pool import Connection

#: The layout of the tables, in the one row of the table `pstore`, which writers lock.
LAYOUT: Final = 1

CREATE_SCHEMA: Final = "CREATE SCHEMA {schema}"
CREATE: Final = (
    "CREATE TABLE {schema}.records (key bigint PRIMARY KEY, value bytea NOT NULL)",
    "CREATE TABLE {schema}.names (key bytea PRIMARY KEY, value bytea NOT NULL)",
    "CREATE TABLE {schema}.log (key bigint PRIMARY KEY, value bytea NOT NULL)",
    "CREATE TABLE {schema}.meta (key bytea PRIMARY KEY, value bytea NOT NULL)",
    "CREATE TABLE {schema}.pstore (id smallint PRIMARY KEY, layout integer NOT NULL)",
    f"INSERT INTO {{schema}}.pstore VALUES (1, {LAYOUT})",  # noqa: S608  # a number of ours
)
LIST_TABLES: Final = (
    "SELECT t.tablename FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_tables t ON t.schemaname = n.nspname"
    " WHERE n.nspname = %b"
)
GET_LAYOUT: Final = "SELECT layout FROM {schema}.pstore"

BEGIN: Final = "BEGIN"
BEGIN_READING: Final = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT 1 FROM {schema}.pstore"
BEGIN_WRITING: Final = (
    "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {milliseconds}; {durability};"
    " SELECT layout FROM {schema}.pstore WHERE id = 1 FOR UPDATE"
)
#: What the administrator has set stays, such as waiting for replicas, unless it is not to wait at all.
DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)
NOT_DURABLE: Final = "SET LOCAL synchronous_commit = off"

VACUUM: Final = "VACUUM {schema}.{table}"
SIZES: Final = (
    "SELECT current_setting('server_version'), sum(pg_total_relation_size(c.oid))::bigint FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %b AND c.relkind = 'r'"
)


class PostgresqlBackend(Backend):
    """A store in a schema of a PostgreSQL database.

    Args:
        url: As libpq takes it: `postgresql://user@host:port/database?sslmode=...`; what it doesn't say comes from libpq's
            environment (`PGHOST`, `PGPASSWORD`, `PGSERVICE`, `~/.pgpass`, ...). Of the query, these are ours: `schema` (by
            default `pstore`), `timeout` (seconds, 5) and `pool` (connections, 20).
        flag: "r" opens for reading, "w" for reading and writing, "c" also makes a missing store, "n" starts empty.
        durable: Whether a commit waits until the server's disk has it. Without, a crash of the server may lose the last
            commits, never half of one.
        timeout: How long a writer waits for another, a transaction for a free connection, and for a server that is away, in
            seconds; in place of the URL's.

    Raises:
        StoreNotFound: The schema has no store and the flag says not to make one.
        FormatError: The schema holds something else, or a store of another layout.
        ConnectionLost: The server can't be reached, or refuses the credentials.
        StorageError: The driver is missing, or the server refuses.
        ValueError: The URL is wrong.
    """

    scheme: ClassVar[str] = "postgresql"
    capabilities: ClassVar[Capabilities] = Capabilities(remote=True, longest_name=LONGEST_NAME, largest_row=LARGEST_ROW)

    def __init__(self, url: str, flag: str = "c", *, durable: bool = True, timeout: float | None = None) -> None:
        self.readonly = flag == "r"
        self._address = Address.of(url, timeout=timeout)
        self.pool = Pool(self._address)
        self._durability = DURABLE if durable else NOT_DURABLE
        _backends.add(self)
        try:
            self.pool.retry(lambda: self._open(flag))
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.pool)

    def begin(self, *, write: bool = False) -> PostgresqlTransaction:
        """Begin a transaction; see `Backend.begin`."""
        if write and self.readonly:
            message = f"{self} was opened for reading only; open it with flag 'w' to change it"
            raise ReadOnlyError(message)
        return self.pool.retry(lambda: self._begin(write=write))

    def close(self) -> None:
        """Close every connection; the server rolls back what is open."""
        self.pool.close()

    def compact(self) -> None:
        """Let the server use the space of deleted rows again, without keeping anyone out (`VACUUM`)."""
        connection = self.pool.lease()
        try:
            for table in TABLES:  # a statement of its own each, as it can't be in a transaction
                self.pool.ask(connection, self.sql(VACUUM, table))
        finally:
            self.pool.give_back(connection)

    def stats(self) -> dict[str, int | str]:
        """Return where it is, the server's version, the bytes of the tables, and how many round trips were made so far."""
        connection = self.pool.lease()
        try:
            ((version, size),) = self.pool.ask(connection, SIZES.encode(), self._address.schema)
        finally:
            self.pool.give_back(connection)
        return {
            "backend": self.scheme,
            "url": str(self),
            "server": version,
            "bytes": size or 0,
            "round_trips": self.pool.round_trips,
        }

    def sql(self, statement: str, table: str = "", **more: object) -> bytes:
        """Return a statement for a table of this store."""
        schema = '"' + self._address.schema.replace('"', '""').replace("%", "%%") + '"'
        kind = "bigint" if table in INT_TABLES else "bytea"
        return statement.format(schema=schema, table=table, type=kind, **more).encode()

    def _begin(self, *, write: bool) -> PostgresqlTransaction:
        connection = self.pool.lease()
        try:
            if write:
                milliseconds = max(1, int(self._address.timeout * 1000))  # 0 would be no bound
                statement = self.sql(BEGIN_WRITING, milliseconds=milliseconds, durability=self._durability)
            else:
                statement = self.sql(BEGIN_READING)
            if not self.pool.ask(connection, statement, one=False):
                message = f"{self}: the row that says the layout is gone; restore a backup"
                raise FormatError(message)
        except BaseException:
            self.pool.give_back(connection)
            raise
        return PostgresqlTransaction(self, connection, write=write)

    # ----------------------------------------------------------------- opening

    def _open(self, flag: str) -> None:
        """Find the store's tables, or make them; of two that make the same store at once, one finds the other's."""
        for last in (False, False, True):
            connection = self.pool.lease()
            try:
                if self._find(connection, create=flag in "cn"):
                    break
            except (ConnectionLost, FormatError):
                raise
            except StorageError:  # such as a schema that has come to be since it was looked for
                if last:
                    raise
            finally:
                self.pool.give_back(connection)
        else:
            message = f"there is no store at {self}; check the URL, or make one with pstore.open(url, 'c')"
            raise StoreNotFound(message)
        if flag == "n":
            writer = self._begin(write=True)
            try:
                for table in TABLES:
                    writer.empty(table)
                writer.commit()
            finally:
                writer.rollback()

    def _find(self, connection: Connection, *, create: bool) -> bool:
        """Return whether the schema holds a store, or does now; refuse one that holds something else."""
        schema = self._address.schema
        found = [table for (table,) in self.pool.ask(connection, LIST_TABLES.encode(), schema)]
        tables = {table for table in found if table is not None}
        if not tables:
            if create:
                statements = [BEGIN, *([] if found else [CREATE_SCHEMA]), *CREATE, COMMIT]
                self.pool.tell(connection, [(self.sql(statement), ()) for statement in statements], commit=True)
            return create
        rows = self.pool.ask(connection, self.sql(GET_LAYOUT)) if tables >= {*TABLES, "pstore"} else []
        if not rows:
            message = (
                f"the schema {schema!r} holds tables that are no pstore store ({', '.join(sorted(tables))});"
                " choose another with ?schema=... in the URL"
            )
            raise FormatError(message)
        if rows != [(LAYOUT,)]:
            message = f"{self} has layout {rows[0][0]}; this version of pstore reads layout {LAYOUT}: use a newer one"
            raise FormatError(message)
        return True


_backends: Final[weakref.WeakSet[PostgresqlBackend]] = weakref.WeakSet()


def _after_fork() -> None:
    for backend in list(_backends):
        backend.pool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
