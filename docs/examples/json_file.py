"""A backend for small stores: the rows are in memory, and each commit rewrites a file of JSON. It runs on Unix."""

import fcntl
import json
import os
from pathlib import Path
from threading import Lock
from urllib.parse import unquote, urlsplit

import pstore
from pstore.backends.base import TABLES, Backend, Capabilities, Transaction


class JsonFile(Backend):
    """A store in one file; whoever has it open has it alone."""

    scheme, capabilities = "jsonfile", Capabilities(shared=False)

    def __init__(self, path, flag="c", *, durable=True, timeout=5.0):
        self.path, self.readonly, self.durable, self.timeout = Path(path).absolute(), flag == "r", durable, timeout
        self.writing, self.process, self.tables = Lock(), os.getpid(), {table: {} for table in TABLES}
        if not self.path.exists() and (flag in "rw" or not self.path.parent.is_dir()):
            raise pstore.StoreNotFound(f"there is no store at {self.path}; make one with flag 'c', in a directory")
        self.lock = open(f"{self.path}.lock", "ab")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if flag == "n" or not self.path.exists():
                self.save(self.tables)
            for table, rows in json.loads(self.path.read_text("utf-8")).items():
                self.tables[table].update((key, row.encode("latin-1")) for key, row in rows)
        except BaseException as error:
            self.lock.close()
            if isinstance(error, BlockingIOError):
                raise pstore.StoreLocked(f"{self.path} is open elsewhere; close it there first") from error
            if isinstance(error, (AttributeError, LookupError, TypeError, ValueError)):
                raise pstore.FormatError(f"{self.path} isn't a store, or is damaged: {error}") from error
            raise

    def __str__(self):
        return str(self.path)

    def check(self):
        if self.lock.closed or self.process != os.getpid():
            raise pstore.StoreClosed(f"{self.path} was closed, or opened before this process was forked")

    def begin(self, *, write=False):
        self.check()
        if write and self.readonly:
            raise pstore.ReadOnlyError(f"{self.path} was opened for reading; open it with flag 'w'")
        if write and not self.writing.acquire(timeout=self.timeout):
            raise pstore.StoreLocked(f"another writer has held {self.path} for {self.timeout} s; try again later")
        return JsonTransaction(self, self.tables, write)

    def save(self, tables):  # whole: the new file replaces the old one when the disk has it, and then its name lasts
        rows = {table: [(k, row.decode("latin-1")) for k, row in tables[table].items()] for table in TABLES}
        new = self.path.with_name(self.path.name + ".new")
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            with new.open("w", encoding="utf-8") as file:
                print(json.dumps(rows), file=file, flush=True)
                os.fsync(file.fileno()) if self.durable else None
            os.replace(new, self.path)
            os.fsync(directory) if self.durable else None
        except OSError as error:
            raise pstore.StorageError(f"{self.path} can't be written: {error.strerror}") from error
        finally:
            os.close(directory)

    def close(self):
        if not self.lock.closed and self.process == os.getpid():
            fcntl.flock(self.lock, fcntl.LOCK_UN)  # a forked child may hold the file, too
        self.lock.close()


class JsonTransaction(Transaction):
    """A writer changes a copy of the tables, which its commit puts in place of those that the readers have."""

    def __init__(self, backend, tables, write):
        self.backend, self.writes, self.ended = backend, write, False
        self.tables = {table: dict(rows) for table, rows in tables.items()} if write else tables

    def rows(self, table, *, change=False):
        self.backend.check()
        if self.ended:
            raise pstore.StoreClosed("the transaction has ended; begin another")
        if change and not self.writes:
            raise pstore.ReadOnlyError("a read transaction can't change anything; begin it with write=True")
        return self.tables[table]

    def get_many(self, table, keys):
        return list(map(self.rows(table).get, keys))

    def scan(self, table, start=None, stop=None):
        for key, row in sorted(self.rows(table).items()):
            self.rows(table)  # refused when the transaction has ended meanwhile
            if (start is None or key >= start) and (stop is None or key < stop):
                yield key, row

    def put_many(self, table, items):
        self.rows(table, change=True).update(items)

    def delete_many(self, table, keys):
        for key in keys:
            self.rows(table, change=True).pop(key, None)

    def commit(self):
        self.rows("meta")
        try:
            if self.writes:
                self.backend.save(self.tables)
                self.backend.tables = self.tables
        finally:
            self.rollback()

    def rollback(self):
        if self.writes and not self.ended:
            self.backend.writing.release()
        self.ended = True


def open_url(url, flag, *, durable):  # jsonfile:///relative/path or jsonfile:////absolute/path
    return JsonFile(unquote(urlsplit(url).path.removeprefix("/")), flag, durable=durable)
