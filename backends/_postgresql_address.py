"""Where a PostgreSQL store is: its URL, taken apart into what is libpq's and what is ours, and the driver that reads it.

This module connects to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from pstore.errors import StorageError

if TYPE_CHECKING:
    from types import ModuleType

    from typing_extensions import Self

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

    def __repr__(self) -> str:
        return self.shown

    def options(self) -> dict[str, Any]:
        """Return what the driver is to connect with."""
        defaults: dict[str, Any] = {"fallback_application_name": "pstore", **_KEEPALIVE}
        if "PGCONNECT_TIMEOUT" not in os.environ:
            defaults["connect_timeout"] = max(2, int(self.timeout))
        # Statements aren't prepared: each is one round trip from its first use on, and a pooler such as PgBouncer, which
        # may hand every transaction to another server process, can stand in between.
        return {**defaults, **self.conninfo, "autocommit": True, "prepare_threshold": None}
