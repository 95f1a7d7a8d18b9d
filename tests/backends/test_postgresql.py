"""The PostgreSQL backend: servers that go away, connections that break, and what else its contract doesn't cover."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import postgres_server
import pytest
from hypothesis import settings
from places import postgresql_url
from proxy import Proxy

import pstore
from pstore.backends import Backend, PostgresqlBackend, open_backend
from pstore.testing import BackendSuite

pytestmark = pytest.mark.skipif(bool(postgres_server.missing()), reason=postgres_server.missing())

ROOT = Path(__file__).resolve().parent.parent.parent


class TestPostgresql(BackendSuite):
    """The contract, each directory being a schema."""

    #: Fewer than others, as each step is a round trip.
    machine_settings = settings(BackendSuite.machine_settings, max_examples=15)
    readers = 60  # each has a connection, and the server a process

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        return PostgresqlBackend(self.url(directory), flag, durable=durable, timeout=timeout)

    def url(self, directory: Path) -> str:
        return postgresql_url(directory) + "&pool=80"


@pytest.fixture
def server() -> postgres_server.Server:
    """The server of the tests."""
    return postgres_server.server()


@pytest.fixture
def schema() -> str:
    """A schema that nobody has used."""
    return f"t{uuid.uuid4().hex[:20]}"


@pytest.fixture
def proxy(server: postgres_server.Server) -> Iterator[Proxy]:
    """A proxy before the server."""
    made = Proxy(server.port)
    yield made
    made.close()


@pytest.fixture
def db(server: postgres_server.Server, proxy: Proxy, schema: str) -> Iterator[pstore.Store]:
    """A store through the proxy, that gives up after a second; it holds a list and an atom."""
    store = pstore.open(server.url(schema, port=proxy.port, timeout=1))
    store["list"], store["atom"] = [0], 0
    store.commit()
    store.rollback()
    yield store
    store._close()


def stored(server: postgres_server.Server, schema: str, name: str = "list") -> Any:
    """What stands under a name, for another one who looks."""
    with pstore.open(server.url(schema), "r") as other:
        return list(other[name]) if name == "list" else other[name]


def count(server: postgres_server.Server, schema: str) -> int:
    """The number of commits in the log."""
    backend = open_backend(server.url(schema), "r")
    reader = backend.begin()
    found = len(list(reader.scan("log")))
    reader.rollback()
    backend.close()
    return found


# ---------------------------------------------------------------------------------------------- commits that are cut


def test_a_commit_that_was_made_and_not_answered(db: pstore.Store, proxy: Proxy, server: Any, schema: str) -> None:
    """It is found in the store, and returns as if nothing had happened; it isn't made twice."""
    db["list"].append(1)
    db["atom"] = 1
    proxy.cut = "after"
    done = db.commit()
    assert (done.names, len(done.keys)) == (("atom",), 1)
    assert proxy.cut == ""
    assert stored(server, schema) == [0, 1]
    assert count(server, schema) == 2
    db["list"].append(2)
    assert db.commit().revision == 3
    assert stored(server, schema) == [0, 1, 2]


def test_a_commit_that_never_got_there(db: pstore.Store, proxy: Proxy, server: Any, schema: str) -> None:
    """Nothing is stored, the error says so, and the work is still there to be committed once."""
    db["list"].append(1)
    db["atom"] = 1
    proxy.cut = "before"
    with pytest.raises(pstore.ConnectionLost, match="nothing of the commit is stored") as caught:
        db.commit()
    assert not isinstance(caught.value, pstore.CommitUncertain)
    assert stored(server, schema) == [0]
    assert db.commit().revision == 2
    assert (stored(server, schema), stored(server, schema, "atom"), count(server, schema)) == ([0, 1], 1, 2)


@pytest.mark.parametrize("moment, then", list(itertools.product(["before", "after"], ["commit", "rollback", "read"])))
def test_a_commit_that_cant_be_looked_up(db: pstore.Store, proxy: Proxy, schema: str, moment: str, then: str) -> None:
    """The application is told; the next thing that is asked finds out. What was changed in between isn't lost either."""
    server, numbers = postgres_server.server(), db["list"]
    numbers.append(1)
    db["new"] = {"key": [5]}
    proxy.cut, proxy.down_after_cut = moment, True
    with pytest.raises(pstore.CommitUncertain, match="finds out"):
        db.commit()
    with pytest.raises(pstore.CommitUncertain):
        db["atom"]
    numbers.append(2)
    db["later"] = 1
    proxy.down = False
    made = moment == "after"
    if then == "rollback":
        db.rollback()
        assert numbers == ([0, 1] if made else [0])
        assert ("new" in db, "later" in db) == (made, False)
        assert stored(server, schema) == list(numbers)
        numbers.append(3)
        db.commit()
        assert stored(server, schema) == list(numbers)
        return
    if then == "read":
        assert db["atom"] == 0
    db.commit()
    assert stored(server, schema) == [0, 1, 2]
    assert count(server, schema) == 2 + made
    with pstore.open(server.url(schema), "r") as other:
        assert (other["new"], other["later"]) == ({"key": [5]}, 1)
        assert len(other) == 4


def test_a_commit_that_is_looked_up_with_nothing_more_to_write(db: pstore.Store, proxy: Proxy) -> None:
    """Calling commit until it returns tells what the commit has written."""
    db["atom"] = 1
    proxy.cut, proxy.down_after_cut = "after", True
    with pytest.raises(pstore.CommitUncertain):
        db.commit()
    proxy.down = False
    assert db.commit() == pstore.Commit(2, (), ("atom",))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_run_survives(db: pstore.Store, proxy: Proxy, server: Any, schema: str, moment: str) -> None:
    """It tries again where nothing was stored, and doesn't where it was."""
    proxy.cut = moment
    db.run(lambda db: db["list"].append(1))
    assert stored(server, schema) == [0, 1]


def test_others_come_in_between(db: pstore.Store, proxy: Proxy, server: Any, schema: str) -> None:
    """A snapshot that was lost isn't replaced by a newer one unseen: the commit is refused until the session rolls back."""
    db["atom"] = db["atom"] + 1
    proxy.cut_all()
    with pstore.open(server.url(schema)) as other:
        other["atom"] = 10
    with pytest.raises(pstore.ConnectionLost):
        db.commit()
    with pytest.raises(pstore.ConnectionLost, match="roll back"):
        db.commit()
    db.rollback()
    db["atom"] = db["atom"] + 1
    db.commit()
    assert stored(server, schema, "atom") == 11


def test_a_lost_snapshot(db: pstore.Store, proxy: Proxy, server: Any, schema: str) -> None:
    """Reads say that the connection is lost; after a rollback all works again. What was changed can be committed as well."""
    db["list"].append(1)
    proxy.cut_all()
    with pytest.raises(pstore.ConnectionLost, match="roll back"):
        db["atom"]
    db.commit()
    assert stored(server, schema) == [0, 1]
    db["atom"]
    proxy.cut_all()
    with pytest.raises(pstore.ConnectionLost):
        "x" in db  # noqa: B015
    db.rollback()
    assert db["atom"] == 0


def test_a_savepoint_that_is_cut(db: pstore.Store, proxy: Proxy, server: Any, schema: str) -> None:
    """A savepoint takes numbers in a commit of its own; whatever comes of that, it isn't made, and can be made again."""
    for moment in ("before", "after"):
        db[moment] = [[number] for number in range(300)]
        for number in db[moment]:
            db[f"{moment}{number[0]}"] = number
        proxy.cut = moment
        with pytest.raises(pstore.ConnectionLost):
            db.savepoint()
        db.savepoint()
        db.commit()
    with pstore.open(server.url(schema), "r") as other:
        assert other["after"] == other["before"] == [[number] for number in range(300)]


@pytest.mark.parametrize("moment, looked_up", list(itertools.product(["before", "after"], [True, False])))
def test_a_rename_that_is_cut(
    proxy: Proxy, schema: str, moment: str, looked_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up as any other commit is: it was made and returns, or wasn't and can be made; or the next call finds out."""
    staff: Any = ModuleType("staff_of_two")
    staff.Old, staff.New = (type(name, (), {"__module__": "staff_of_two"}) for name in ("Old", "New"))
    monkeypatch.setitem(sys.modules, "staff_of_two", staff)
    server, old, new = postgres_server.server(), "staff_of_two.Old", "staff_of_two.New"
    with pstore.open(server.url(schema, port=proxy.port, timeout=1), allow=["staff_of_two"]) as db:
        person = db["person"] = staff.Old()
        db.commit()
        proxy.cut, proxy.down_after_cut, made = moment, not looked_up, moment == "after"
        if looked_up and made:
            done = db.rename_class(old, new)
            assert (done.revision, len(done.keys)) == (2, 1)
        else:
            with pytest.raises(pstore.ConnectionLost) as caught:
                db.rename_class(old, new)
            assert isinstance(caught.value, pstore.CommitUncertain) == (not looked_up)
            proxy.down = False
            assert db.revision == 1 + made
        if not made:
            assert type(person).__name__ == "Old"
            assert db.rename_class(old, new).revision == 2
        assert isinstance(person, staff.New)
        person.age = 5
        db.commit()
    assert count(server, schema) == 3


# ------------------------------------------------------------------------------------------------- servers that go away


def test_opening_waits_for_the_server(proxy: Proxy, server: Any, schema: str) -> None:
    """Where it is away, or goes in the middle, opening and making a store try again within the timeout."""
    proxy.down = True
    up = threading.Timer(0.3, setattr, [proxy, "down", False])
    up.start()
    with pstore.open(server.url(schema, port=proxy.port, timeout=20)) as db:
        db["atom"] = 1
    up.join()
    assert stored(server, schema, "atom") == 1
    for number, moment in enumerate(["before", "after"] * 2):
        proxy.cut, proxy.skip = moment, number // 2  # the COMMIT of the tables, or that of the counters
        with pstore.open(server.url(f"{schema}_{number}", port=proxy.port)) as db:
            assert proxy.cut == ""
            db["atom"] = number
        assert stored(server, f"{schema}_{number}", "atom") == number


def test_opening_doesnt_wait_for_ever(proxy: Proxy, server: Any, schema: str) -> None:
    """Behind the timeout it says which server is away; one that runs and refuses is not tried again and again."""
    proxy.down = True
    with pytest.raises(pstore.ConnectionLost, match=f"{proxy.port}.* can't be reached"):
        pstore.open(server.url(schema, port=proxy.port, timeout=0.3))
    with pytest.raises(
        pstore.ConnectionLost, match="no_database"
    ):  # not after the ten minutes: the test has no such time
        pstore.open(server.url(schema, timeout=600).replace("/pstore?", "/no_database?"))


def test_a_broken_connection_logs_nothing(
    db: pstore.Store, proxy: Proxy, server: Any, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it means is raised; the driver's log has nothing to add."""
    for moment in ("before", "after"):
        db["list"].append(1)
        proxy.cut = moment
        with contextlib.suppress(pstore.ConnectionLost):
            db.commit()
        db.commit()
        db["list"].append(2)
        proxy.cut_all()
        with contextlib.suppress(pstore.ConnectionLost):
            db.commit()
        db.commit()
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tester'")
        db.rollback()
    backend = open_backend(server.url(schema))
    writer = backend.begin(write=True)
    writer.put_many("names", [("x", b"x")])
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tester'")
    with pytest.raises(pstore.CommitUncertain):
        writer.commit()
    backend.close()
    assert caplog.records == []
    assert stored(server, schema) == [0, 1, 2, 1, 2]


def test_the_server_process_is_terminated(db: pstore.Store, server: Any, schema: str) -> None:
    """An administrator ends all connections: the next transaction has a new one, without an error."""
    for _ in range(3):
        db.rollback()
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tester'")
        db["list"].append(1)
        db.commit()
    assert stored(server, schema) == [0, 1, 1, 1]


def test_the_server_doesnt_come_back(db: pstore.Store, proxy: Proxy) -> None:
    """The wait for it is bounded, and the error names the server and the cause; it pickles."""
    db.rollback()
    proxy.down = True
    proxy.cut_all()
    with pytest.raises(pstore.ConnectionLost, match=f"tester@127.0.0.1:{proxy.port}") as caught:
        db["atom"]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    proxy.down = False
    assert db["atom"] == 0


def test_restarts() -> None:
    """The server is stopped as by a crash and started again while processes commit: what it acknowledged is there, once."""
    program = ROOT / "tests" / "faults" / "postgresql_restarts.py"
    command = [sys.executable, str(program), "--restarts", "3", "--processes", "2", "--threads", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 restarts" in done.stdout
    assert "0 lost, 0 half, 0 twice" in done.stdout


# -------------------------------------------------------------------------------------------------------------- waiting


def test_the_pool_is_exhausted(server: Any, schema: str) -> None:
    """A transaction waits for a free connection, not for ever, and the error names the remedy."""
    backend = PostgresqlBackend(server.url(schema, pool=2), timeout=0.1)
    first, second = backend.begin(), backend.begin()
    with pytest.raises(pstore.StoreLocked, match=r"all 2 connections.*\?pool="):
        backend.begin()
    first.rollback()
    backend.begin().rollback()
    second.rollback()
    backend.close()


def test_many_sessions_few_connections(server: Any, schema: str) -> None:
    """A session has a connection only while its transaction lasts."""
    store = pstore.open(server.url(schema, pool=3))
    store["atom"] = 0
    store.commit()
    sessions = [store.session() for _ in range(200)]
    for session in sessions:
        session["atom"] += 1
        session.commit()
    assert store["atom"] == 200
    for session in [*sessions, store]:
        session.close()


def test_the_server_asks_to_try_again(server: Any, schema: str) -> None:
    """A transaction that can't be served beside others (40001) is begun again; a commit says so and may be repeated."""
    url = server.url(schema, timeout=5)
    backend = open_backend(url)
    with server.connect() as admin:
        admin.execute(f"CREATE SEQUENCE {schema}.calls; GRANT ALL ON SEQUENCE {schema}.calls TO tester")
        admin.execute(
            f"CREATE FUNCTION {schema}.flaky() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('{schema}.calls') % 3 <> 0 THEN RAISE 'flaky' USING ERRCODE = '40001'; END IF; RETURN true; END $$"
        )
        admin.execute(
            f"ALTER TABLE {schema}.pstore ENABLE ROW LEVEL SECURITY; ALTER TABLE {schema}.pstore FORCE ROW LEVEL SECURITY;"
            f" CREATE POLICY p ON {schema}.pstore USING ({schema}.flaky())"
        )
        for _ in range(3):
            backend.begin(write=True).rollback()
        assert admin.execute(f"SELECT last_value FROM {schema}.calls").fetchone()[0] >= 9
        admin.execute(f"DROP POLICY p ON {schema}.pstore; ALTER TABLE {schema}.pstore DISABLE ROW LEVEL SECURITY")

        store = pstore.open(backend)
        store["atom"] = 1
        store.commit()
        # A deadlock: an outsider holds a record's row and waits for the lock that writers have.
        with server.connect() as outsider:
            outsider.execute("SET deadlock_timeout = '1min'")
            outsider.execute("BEGIN")
            outsider.execute(f"UPDATE {schema}.meta SET value = value")
            writer = backend.begin(write=True)
            writer.put_many("meta", [("head", b"x")])
            waiting = threading.Thread(
                target=outsider.execute, args=(f"SELECT * FROM {schema}.pstore WHERE id = 1 FOR UPDATE",)
            )
            waiting.start()
            with pytest.raises(pstore.StoreLocked, match="try again"):
                writer.commit()
            waiting.join()
            outsider.execute("ROLLBACK")
        store.rollback()
        assert store["atom"] == 1
        store.close()
    backend.close()


# -------------------------------------------------------------------------------------------------------------- opening


def test_flags(server: Any, schema: str) -> None:
    """As for every backend: a missing store is made by "c" and "n" alone, "n" empties one, "r" refuses to write."""
    for flag in "rw":
        with pytest.raises(pstore.StoreNotFound, match=schema):
            open_backend(server.url(schema), flag)
    with pstore.open(server.url(schema)) as db:
        db["atom"] = 1
    with pstore.open(server.url(schema), "r") as db:
        assert db["atom"] == 1
        with pytest.raises(pstore.ReadOnlyError):
            db["atom"] = 2
    with pstore.open(server.url(schema).replace("postgresql:", "postgres:"), "n") as db:
        assert list(db) == []


def test_openers_race(server: Any, schema: str) -> None:
    """Whoever makes the same store at the same moment opens the same one."""
    barrier, failed = threading.Barrier(6), []

    def open_it() -> None:
        barrier.wait()
        try:
            with pstore.open(server.url(schema)) as db:
                db.run(lambda db: db.__setitem__("count", db.get("count", 0) + 1))
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert stored(server, schema, "count") == 6


def test_what_is_no_store(server: Any, schema: str) -> None:
    """A schema with tables of others is refused and left alone; so is a layout of another version."""
    server.execute(
        f"CREATE SCHEMA {schema}; GRANT ALL ON SCHEMA {schema} TO tester; CREATE TABLE {schema}.people (id int)"
    )
    with pytest.raises(pstore.FormatError, match="people"):
        open_backend(server.url(schema))
    server.execute(f"DROP TABLE {schema}.people")
    open_backend(server.url(schema)).close()
    server.execute(f"UPDATE {schema}.pstore SET layout = 99")
    with pytest.raises(pstore.FormatError, match="layout 99"):
        open_backend(server.url(schema))


def test_no_password_is_shown(server: Any, schema: str) -> None:
    """Neither by the store, nor by its facts, nor by an error; a wrong one is refused at once."""
    server.execute(f"CREATE SCHEMA {schema} AUTHORIZATION keeper")
    secret = postgres_server.PASSWORD.replace(" ", "%20")
    url = server.url(schema).replace("tester@", f"keeper:{secret}@")
    with pstore.open(url) as db:
        shown = f"{db!r} {db.stats()}"
        assert f"keeper@127.0.0.1:{server.port}/pstore?schema={schema}" in shown
        assert db.stats()["round_trips"] > 0
    with pytest.raises(pstore.ConnectionLost, match="authentication failed") as caught:
        pstore.open(url.replace("open", "shut"))
    with pytest.raises(ValueError, match="isn't shown") as wrong:
        pstore.open(url.replace("open", "%zz"))
    for text in (shown, str(caught.value), str(wrong.value)):
        assert "sesame" not in text


@pytest.mark.skipif(postgres_server.program("openssl") is None, reason="needs the program openssl: apt install openssl")
def test_tls(server: Any, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters and environment of libpq ask for it: it encrypts, and a server with another certificate is refused."""
    other = tmp_path / "other.crt"

    def open_it(**parameters: object) -> None:
        with pstore.open(server.url(schema, application_name=schema, **parameters)) as db, server.connect() as admin:
            db["atom"] = 1
            found = admin.execute(
                "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = %s",
                [schema],
            )
            assert found.fetchall() == [(True,)]

    with server.tls() as first:
        other.write_bytes(first.read_bytes())
    with pytest.raises(pstore.ConnectionLost, match="SSL"):
        open_it(sslmode="require", timeout=0.1)  # the server takes none any more
    with server.tls() as certificate:
        open_it(sslmode="require")
        open_it(sslmode="verify-full", sslrootcert=certificate)
        with pytest.raises(pstore.ConnectionLost, match="certificate"):
            open_it(sslmode="verify-full", sslrootcert=other, timeout=0.1)
        with monkeypatch.context() as environment:
            environment.setenv("PGSSLMODE", "verify-full")
            environment.setenv("PGSSLROOTCERT", str(certificate))
            open_it()
            environment.setenv("PGSSLROOTCERT", str(other))
            with pytest.raises(pstore.ConnectionLost, match="certificate"):
                open_it(timeout=0.1)


@pytest.mark.parametrize("query", ["timeout=soon", "timeout=-1", "pool=0", "pool=x", "schema=", "nonsense=1"])
def test_wrong_urls(query: str) -> None:
    """What a URL says and can't be is a ValueError that names it."""
    with pytest.raises(ValueError, match=query.partition("=")[0]):
        open_backend(f"postgresql://localhost/x?{query}")


def test_odd_schemas(server: Any) -> None:
    """A schema may have any name: nothing in it is taken for SQL."""
    for name in ('semi;"quoted" %s', "ä", "%b {table}"):
        url = server.url("x").replace("schema=x", "schema=" + "".join(f"%{byte:02x}" for byte in name.encode()))
        server.execute("GRANT CREATE ON DATABASE pstore TO tester")
        with pstore.open(url, "n") as db:
            db["atom"] = 1
        with pstore.open(url, "r") as db:
            assert db["atom"] == 1


def test_longest_name(server: Any, schema: str) -> None:
    """A name of the greatest length is stored whatever it is made of; a longer one is refused by its beginning."""
    longest = PostgresqlBackend.capabilities.longest_name
    assert longest is not None
    name = os.urandom(longest).hex()[:longest]
    with pstore.open(server.url(schema)) as db:
        db[name] = 1
        db.commit()
        db["x" * (longest + 1)] = 1
        with pytest.raises(pstore.StorageError, match="shorter name"):
            db.commit()
        db.rollback()
        assert list(db) == [name]


# ------------------------------------------------------------------------------------------------------------ statements


def test_round_trips(server: Any, schema: str) -> None:
    """Each method is one round trip; puts and deletes are none, as they go with the commit."""
    backend = PostgresqlBackend(server.url(schema))

    def trips(function: Any) -> int:
        before = backend.pool.round_trips
        function()
        return backend.pool.round_trips - before

    writer = backend.begin(write=True)
    assert trips(lambda: writer.put_many("records", ((key, b"x") for key in range(10_000)))) == 0
    assert trips(lambda: writer.delete_many("records", [1])) == 0
    assert trips(lambda: writer.get_many("records", [1, 2])) == 0  # they are here
    assert trips(writer.commit) == 1
    reader = backend.begin()
    assert trips(lambda: reader.get_many("records", range(10_000))) == 1
    assert trips(lambda: reader.get_many("records", [])) == 0
    assert trips(lambda: list(reader.scan("records", 0, 1000))) == 1
    assert trips(reader.rollback) == 1
    assert trips(lambda: backend.begin(write=True).rollback()) == 2
    backend.close()


def test_scans_are_bounded(server: Any, schema: str) -> None:
    """Large rows come in pages of a few megabytes, two scans may take turns, and other reads come in between."""
    backend = PostgresqlBackend(server.url(schema))
    rows = {key: bytes([key % 256]) * (1_000_000 if key % 2 else 100) for key in range(30)}
    writer = backend.begin(write=True)
    writer.put_many("records", rows.items())  # 15 MB
    writer.commit()
    reader = backend.begin()
    before = backend.pool.round_trips
    for (one, row), (two, _) in zip(reader.scan("records"), reader.scan("records", 0, 30), strict=True):
        assert (one, row) == (two, rows[int(one)])
        assert reader.get_many("records", [one]) == [row]
    assert backend.pool.round_trips - before - 30 >= 2 * 3
    reader.rollback()
    backend.close()
