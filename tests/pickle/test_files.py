"""Reading from and writing to files: how far a load reads, what a file must have, and streams in a row."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import socket
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import pytest

from .engines import PROTOCOLS
from .zoo import ZOO, Plain, assert_alike

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .engines import Engine


class Minimal:
    """The two methods that an unpickler must have, and nothing else; it counts what was asked for."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self.file.read(size)

    def readline(self) -> bytes:
        return self.file.readline()


class Raw(io.RawIOBase):
    """Gives a byte or two at a time, as a slow pipe does."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self.data[self.at : self.at + min(len(buffer), 1 + self.at % 2)]
        buffer[: len(chunk)] = chunk
        self.at += len(chunk)
        return len(chunk)


class Unpeekable(io.BytesIO):
    """Has a `peek` that it can't do, as wrappers have."""

    def peek(self, *args: Any) -> Any:
        raise NotImplementedError


def temporary(data: bytes) -> Any:
    """A file of the system, opened with buffering."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by its finaliser; the tests read it to its end
    file.write(data)
    file.seek(0)
    return file


FILES: dict[str, Callable[[bytes], Any]] = {
    "BytesIO": io.BytesIO,
    "buffered": lambda data: io.BufferedReader(io.BytesIO(data), buffer_size=7),
    "minimal": Minimal,
    "slow": lambda data: io.BufferedReader(Raw(data), buffer_size=3),
    "without peek": Unpeekable,
    "temporary": temporary,
}


def rest_of(file: Any) -> bytes:
    """What is left to read."""
    return file.file.read() if isinstance(file, Minimal) else file.read()


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
class TestReading:
    def test_not_a_byte_further(self, engine: Engine, make: Any) -> None:
        """`load` takes its stream from the file and leaves everything behind it."""
        names = "many_small", "large_between_small", "same_strings", "shared_containers", "old", "list of 5", "plain"
        for name in [*names, "bytes of 65536", "str of 70000", "float 1.5", "atom None", "int 0"]:
            obj = ZOO[name]()
            for protocol in PROTOCOLS:
                data = engine.dumps(obj, protocol)
                file = make(data + b"rest of it")
                try:
                    assert_alike(obj, engine.load(file), f"{name}, protocol {protocol}")
                    assert rest_of(file) == b"rest of it"
                finally:
                    getattr(file, "close", bool)()

    def test_streams_in_a_row(self, engine: Engine, make: Any) -> None:
        """Streams behind one another are loaded one by one, by one unpickler or several, with other data between."""
        for protocol in PROTOCOLS:
            data = engine.dumps([1, "text", 2.5], protocol)
            file = make(data + data + b"between\n" + data)
            try:
                unpickler = engine.Unpickler(file)
                assert unpickler.load() == [1, "text", 2.5]
                assert engine.load(file) == [1, "text", 2.5]
                assert file.readline() == b"between\n"
                assert unpickler.load() == [1, "text", 2.5]
                with pytest.raises(EOFError):
                    unpickler.load()
            finally:
                getattr(file, "close", bool)()

    def test_truncated(self, engine: Engine, make: Any) -> None:
        """A file that ends too early is an EOFError or an UnpicklingError wherever it ends."""
        for protocol in PROTOCOLS:
            data = engine.dumps([1, "text" * 5, b"bytes" * 60, 2**100, {"k": 1.5}], protocol)
            for end in range(0, len(data), 1 if make is io.BytesIO else 7):
                file = make(data[:end])
                try:
                    with pytest.raises((EOFError, pickle.UnpicklingError)):
                        engine.load(file)
                finally:
                    getattr(file, "close", bool)()


def test_trailing_bytes(engine: Engine) -> None:
    """`loads` looks at the first stream and ignores what follows, whatever it is."""
    for protocol in PROTOCOLS:
        data = engine.dumps(["x"], protocol)
        for rest in b"\xff\xff", data, b"\x95\xff\xff\xff\xff\xff\xff\xff\xff", b"\0" * 1000:
            assert engine.loads(data + rest) == ["x"]


def test_frames_are_read_whole(engine: Engine) -> None:
    """A file isn't asked for each opcode's bytes within a frame: a frame is one read, or a few."""

    class Counting(Minimal):
        calls = 0

        def read(self, size: int) -> bytes:
            self.calls += 1
            return super().read(size)

    file = Counting(pickle.dumps([[i] for i in range(5000)], 4))
    engine.load(file)
    assert file.calls < 50


@pytest.mark.skipif(not hasattr(socket, "socketpair"), reason="needs a pair of sockets")
def test_interactive(engine: Engine) -> None:
    """A load ends when its stream does, without waiting for more: over a socket each side answers the other."""
    near, far = socket.socketpair()
    near.settimeout(20)
    far.settimeout(20)
    with near, far, near.makefile("rb") as reader, far.makefile("wb") as writer:
        for protocol in PROTOCOLS:
            for value in ["small", ["x" * 100_000, 1], Plain(a=1)]:
                data = engine.dumps(value, protocol)
                chunks = [data[i : i + 30_000] for i in range(0, len(data), 30_000)]
                for chunk in chunks[:1]:
                    writer.write(chunk)
                if len(chunks) > 1:
                    # What a socket holds is bounded; the rest goes out while the other side reads.
                    thread = threading.Thread(
                        target=lambda rest=chunks[1:]: (writer.write(b"".join(rest)), writer.flush())
                    )
                    thread.start()
                    assert_alike(value, engine.load(reader))
                    thread.join(20)
                else:
                    writer.flush()
                    assert_alike(value, engine.load(reader))


class TestWriting:
    def test_only_write_is_needed(self, engine: Engine) -> None:
        """A file is anything with `write`; all that was written makes up the stream."""

        class File:
            def __init__(self) -> None:
                self.chunks: list[Any] = []

            def write(self, data: Any) -> None:
                self.chunks.append(data)

        for protocol in PROTOCOLS:
            file = File()
            value = ["a", b"x" * 200_000, "b", bytearray(b"y" * 70_000), ["z" * 66_000]]
            engine.dump(value, file, protocol)
            assert b"".join(bytes(chunk) for chunk in file.chunks) == pickle.dumps(value, protocol)

    def test_large_bytes_are_not_copied(self, engine: Engine) -> None:
        """A large bytes object goes to the file as it is, from protocol 4 on."""
        large = b"x" * 1_000_000
        for protocol in 4, 5:
            chunks: list[Any] = []
            file = type("File", (), {"write": lambda self, data, chunks=chunks: chunks.append(data)})()
            engine.dump([1, large, 2], file, protocol)
            assert any(chunk is large or getattr(chunk, "obj", None) is large for chunk in chunks)

    def test_errors_of_the_file_pass_through(self, engine: Engine) -> None:
        """What the file raises comes out as it is."""

        class Full:
            def write(self, data: Any) -> None:
                raise OSError(28, "No space left")

        with pytest.raises(OSError, match="No space left"):
            engine.dump([1], Full())
        with pytest.raises(TypeError):
            engine.dump([1], io.StringIO())

        class Broken(Minimal):
            def read(self, size: int) -> bytes:
                raise OSError(5, "I/O error")

            readline = read

        for protocol in PROTOCOLS:
            with pytest.raises(OSError, match="I/O error"):
                engine.load(Broken(pickle.dumps([1], protocol)))

    @pytest.mark.parametrize("bad", [None, 5, object(), "name"], ids=repr)
    def test_no_file(self, engine: Engine, bad: Any) -> None:
        """What has no `write` or no `read` is refused at once."""
        with pytest.raises(TypeError):
            engine.dump(1, bad)
        with pytest.raises((TypeError, AttributeError)):
            engine.load(bad)

    @pytest.mark.parametrize("result", ["text", None, 5, bytearray(b"N."), b"toolong" * 10])
    def test_a_file_that_returns_nonsense(self, engine: Engine, result: Any) -> None:
        """A `read` that returns what it must not is an error, or is made the best of; nothing crashes or hangs."""

        class File(Minimal):
            def read(self, size: int) -> Any:
                return result

            def readline(self) -> Any:
                return result

        for _ in range(2):
            with contextlib.suppress(TypeError, ValueError, AttributeError, EOFError, pickle.UnpicklingError):
                engine.load(File(b""))

    def test_pipes(self, engine: Engine) -> None:
        """Ends of a pipe serve as files."""
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb") as writer:
            for protocol in PROTOCOLS:
                engine.dump(["through", protocol], writer, protocol)
                engine.dump("a pipe", writer, protocol)
            writer.close()
            for protocol in PROTOCOLS:
                assert engine.load(reader) == ["through", protocol]
                assert engine.load(reader) == "a pipe"
            with pytest.raises(EOFError):
                engine.load(reader)


def test_text_mode(engine: Engine, tmp_path: Path) -> None:
    """Protocol 0 is lines of text that survive a file in text mode, whatever its newlines, DOS's end of file included."""
    path = tmp_path / "text"
    for name in (
        "same_strings",
        "shared_containers",
        "plain",
        "str escapes",
        "str wide",
        "str astral",
        "str latin",
        "nested",
    ):
        obj = ZOO[name]()
        data = engine.dumps(obj, 0)
        assert not set(data) & {*b"\0\r\x1a"}, name
        with path.open("w", encoding="latin-1", newline="\r\n") as file:
            file.write(data.decode("latin-1"))
        assert_alike(obj, engine.loads(path.read_text(encoding="latin-1").encode("latin-1")))
