"""A PostgreSQL server for the tests: a cluster of its own in a temporary directory, on loopback, at a free port.

It is started when it is first asked for and ends with the process that asked, even if that is killed: a shell waits for the
end of a pipe that only this process holds, stops the server and removes the directory.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the tests connect as: no superuser, as an application should.
USER = "tester"
#: A role that needs a password.
KEEPER, PASSWORD = "keeper", "open sesame"
PROGRAMS = ("initdb", "pg_ctl", "postgres")
CONFIGURATION = """
listen_addresses = '127.0.0.1'
max_connections = 300
shared_buffers = 64MB
fsync = off  # that the system itself crashes isn't tested here, and what a killed server has written is there
full_page_writes = off
log_min_messages = error
deadlock_timeout = 200ms
autovacuum_naptime = 5min
"""
WATCH = 'cat >/dev/null; "$1" stop -D "$2/data" -m immediate -s; rm -rf "$2"'


def directories() -> list[Path]:
    """Where the server's programs may be."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int("0" + path.parent.name), reverse=True
    )
    if shutil.which("pg_config"):
        done = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False)
        found += [Path(done.stdout.strip())] if done.returncode == 0 else []
    return [*found, *map(Path, os.get_exec_path())]


@functools.cache
def program(name: str) -> str | None:
    """The path of one of the server's programs; None where it isn't found."""
    return next((str(path / name) for path in directories() if os.access(path / name, os.X_OK)), None)


def missing() -> str:
    """What the machine lacks, and how to get it; empty where it has everything."""
    if importlib.util.find_spec("psycopg") is None:
        return "needs the driver: pip install 'pstore-db[postgresql]'"
    absent = [name for name in PROGRAMS if program(name) is None]
    return f"needs PostgreSQL's programs ({', '.join(absent)} not found): apt install postgresql" if absent else ""


class Server:
    """A running server.

    Attributes:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="pstore-postgresql-"))
        self._data = self._directory / "data"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("nobody")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._directory, user.pw_uid, user.pw_gid)
        self._watch = subprocess.Popen(
            ["sh", "-c", WATCH, "watch", str(program("pg_ctl")), str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # an interruption of the tests isn't for it
            **self._as,
        )
        self._run("initdb", "-D", self._data, "-U", "admin", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        own = f"port = {self.port}\nunix_socket_directories = '{self._directory}'\n"
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION + own)
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {KEEPER} 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        self.start()
        self.execute(f"CREATE ROLE {USER} LOGIN")
        self.execute(f"CREATE ROLE {KEEPER} LOGIN PASSWORD '{PASSWORD}'")
        self.execute(f"CREATE DATABASE pstore OWNER {USER}")

    def url(self, schema: str, *, port: int | None = None, **parameters: object) -> str:
        """The URL of the store in a schema."""
        query = "&".join(f"{name}={value}" for name, value in {"schema": schema, **parameters}.items())
        return f"postgresql://{USER}@127.0.0.1:{port or self.port}/pstore?{query}"

    def connect(self, database: str = "pstore") -> Any:
        """A connection as superuser, each of whose statements is a transaction."""
        import psycopg

        return psycopg.connect(host="127.0.0.1", port=self.port, user="admin", dbname=database, autocommit=True)

    def execute(self, statement: str, database: str = "pstore") -> None:
        """Execute a statement as superuser; those of a whole server in its own database."""
        with self.connect("postgres" if " ROLE " in statement or " DATABASE " in statement else database) as connection:
            connection.execute(statement)

    @contextlib.contextmanager
    def tls(self) -> Iterator[Path]:
        """Let it take TLS, too, as long as this lasts; yields its certificate, which it has signed itself, for 127.0.0.1."""
        key, certificate = self._data / "server.key", self._directory / "server.crt"
        self._run(
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", "/CN=pstore", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        )
        self.execute(f"ALTER SYSTEM SET ssl_cert_file = '{certificate}'")
        self._set_tls("on")
        try:
            yield certificate
        finally:
            self._set_tls("off")

    def _set_tls(self, value: str) -> None:
        self.execute(f"ALTER SYSTEM SET ssl = {value}")
        self.execute("SELECT pg_reload_conf()")
        while True:  # until new connections have it
            with self.connect() as connection:
                if connection.execute("SHOW ssl").fetchone() == (value,):
                    return
            time.sleep(0.01)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._run("pg_ctl", "start", "-D", self._data, "-w", "-s", "-l", self._directory / "log")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `immediate` is as if it had crashed."""
        self._run("pg_ctl", "stop", "-D", self._data, "-m", mode, "-w", "-s")

    def close(self) -> None:
        """Stop it for good, and remove its directory."""
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait()

    def _run(self, name: str, *arguments: object) -> None:
        # Into a file: the server would hold a pipe open for as long as it runs.
        with tempfile.TemporaryFile() as output:
            command = [str(program(name)), *map(str, arguments)]
            done = subprocess.run(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, **self._as
            )
            if done.returncode:
                output.seek(0)
                log = self._directory / "log"
                told = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                raise RuntimeError(f"{' '.join(command)}: {output.read().decode(errors='replace')}{told}")


@functools.cache
def server() -> Server:
    """The server of this process, started when this is first called."""
    made = Server()
    atexit.register(made.close)
    return made


if __name__ == "__main__":
    started = time.monotonic()
    print(server().url("pstore"), f"started in {time.monotonic() - started:.2f} s; ends with Enter")
    input()
