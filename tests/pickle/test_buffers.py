"""PickleBuffer: in band, out of band, and what neither may do."""

from __future__ import annotations

import io
import pickle
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import pytest

from .engines import standard_dumps

if TYPE_CHECKING:
    from .engines import Engine

KINDS = {
    "bytes": b"data",
    "bytearray": bytearray(b"data"),
    "memoryview": memoryview(b"data"),
    "writable view": memoryview(bytearray(b"data")),
    "slice": memoryview(b"--data--")[2:6],
    "two dimensions": memoryview(b"datadata").cast("B", [2, 4]),
    "empty": b"",
    "large": b"x" * 100_000,
    "ints": memoryview(bytearray(8)).cast("i"),
}


class Array:
    """Data that goes out of band where it can."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: int) -> Any:
        if protocol >= 5:
            return Array, (PickleBuffer(self.data),)
        return Array, (bytes(self.data),)


@pytest.mark.parametrize("name", KINDS)
class TestEach:
    def test_in_band(self, engine: Engine, name: str) -> None:
        """In band a buffer is bytes or a bytearray, in the standard's bytes."""
        data = KINDS[name]
        value = [PickleBuffer(data), "between", PickleBuffer(data)]
        stream = engine.dumps(value, 5)
        assert stream == standard_dumps(value, 5)
        assert stream == engine.dumps(value, 5, buffer_callback=lambda buffer: True)
        loaded = engine.loads(stream)
        readonly = memoryview(data).readonly
        assert [type(item) for item in loaded] == [
            bytes if readonly else bytearray,
            str,
            bytes if readonly else bytearray,
        ]
        assert loaded[0] == memoryview(data).tobytes() == loaded[2]

    def test_out_of_band(self, engine: Engine, name: str) -> None:
        """Out of band the stream holds no data, and what is loaded is the buffer that is handed in, not a copy."""
        data = KINDS[name]
        buffers: list[Any] = []
        stream = engine.dumps([PickleBuffer(data), Array(data)], 5, buffer_callback=buffers.append)
        expected: list[Any] = []
        assert stream == standard_dumps([PickleBuffer(data), Array(data)], 5, buffer_callback=expected.append)
        assert len(buffers) == len(expected) == 2
        assert all(type(buffer) is PickleBuffer for buffer in buffers)
        assert len(stream) < 200
        for given in [data, data], iter([data, data]), (item for item in [data, data]):
            first, array = engine.loads(stream, buffers=given)
            for got in first, array.data:
                view = memoryview(got)
                assert view.readonly == memoryview(data).readonly
                assert view.tobytes() == memoryview(data).tobytes()
                assert got is data


def test_choice_by_the_callback(engine: Engine) -> None:
    """A buffer for which the callback returns something true stays in the stream, the others leave it."""
    kept: list[Any] = []

    def callback(buffer: PickleBuffer) -> bool:
        if len(buffer.raw()) < 10:
            return True
        kept.append(buffer)
        return False

    stream = engine.dumps([Array(b"small"), Array(b"l" * 10), Array(b"tiny")], 5, buffer_callback=callback)
    assert b"small" in stream
    assert b"llll" not in stream
    assert [item.data for item in engine.loads(stream, buffers=kept)][::2] == [b"small", b"tiny"]


def test_write_through(engine: Engine) -> None:
    """A writable buffer handed in is the loaded object: writing to one is writing to the other."""
    data = bytearray(b"data")
    stream = engine.dumps(Array(data), 5, buffer_callback=lambda buffer: None)
    loaded = engine.loads(stream, buffers=[data])
    loaded.data[0] = 0
    assert data[0] == 0


def test_readonly_stays_readonly(engine: Engine) -> None:
    """A read-only buffer is read-only when loaded, though a writable one is handed in."""
    stream = engine.dumps(PickleBuffer(b"data"), 5, buffer_callback=lambda buffer: None)
    loaded = engine.loads(stream, buffers=[bytearray(b"data")])
    assert memoryview(loaded).readonly
    assert bytes(loaded) == b"data"


def test_feed_takes_buffers(engine: Engine) -> None:
    """`feed` takes the buffers of its input, and forgets those of earlier input."""
    stream = engine.dumps(PickleBuffer(b"data"), 5, buffer_callback=lambda buffer: None)
    unpickler = engine.Unpickler(buffers=[b"old"])
    unpickler.feed(stream, [b"new"])
    assert unpickler.load() == b"new"
    unpickler.feed(stream)
    with pytest.raises(pickle.UnpicklingError):
        unpickler.load()


def test_several_streams_share_the_buffers(engine: Engine) -> None:
    """Streams read one after another take the buffers one after another."""
    stream = engine.dumps(PickleBuffer(b"x"), 5, buffer_callback=lambda buffer: None)
    unpickler = engine.Unpickler(io.BytesIO(stream * 2), buffers=[b"first", b"second"])
    assert [unpickler.load(), unpickler.load()] == [b"first", b"second"]


def test_too_few_buffers(engine: Engine) -> None:
    """A stream that asks for more than it is given is an UnpicklingError; so is one that is given none."""
    stream = engine.dumps([PickleBuffer(b"x"), PickleBuffer(b"y")], 5, buffer_callback=lambda buffer: None)
    for buffers in [], [b"x"], None, iter(()):
        with pytest.raises(pickle.UnpicklingError, match="buffer"):
            engine.loads(stream, buffers=buffers)
    with pytest.raises(TypeError):
        engine.loads(stream, buffers=5)


def test_what_is_no_buffer(engine: Engine) -> None:
    """Something else in the place of a buffer is an error where the stream says that it must be read-only."""
    stream = engine.dumps(PickleBuffer(b"x"), 5, buffer_callback=lambda buffer: None)
    with pytest.raises((TypeError, pickle.UnpicklingError)):
        engine.loads(stream, buffers=["text"])


@pytest.mark.parametrize("protocol", range(5))
def test_old_protocols(engine: Engine, protocol: int) -> None:
    """Before protocol 5 there are no buffers: neither as objects nor as a callback."""
    with pytest.raises(pickle.PicklingError, match="protocol"):
        engine.dumps([PickleBuffer(b"x")], protocol)
    with pytest.raises(ValueError, match=r"protocol|buffer_callback"):
        engine.dumps([], protocol, buffer_callback=lambda buffer: None)


def test_not_contiguous(engine: Engine) -> None:
    """What doesn't lie in one piece can't be pickled: a PicklingError with the way there, also out of band."""
    view = memoryview(b"abcdef")[::2]
    with pytest.raises(pickle.PicklingError, match=r"^root\[0\]: .*contiguous"):
        engine.dumps([PickleBuffer(view)], 5)


def test_released(engine: Engine) -> None:
    """A buffer that was released is an error, not a crash."""
    buffer = PickleBuffer(b"x")
    buffer.release()
    with pytest.raises((ValueError, pickle.PicklingError)):
        engine.dumps([buffer], 5)


def test_temporaries_are_not_memoised(engine: Engine) -> None:
    """Buffers in band, whose bytes are made for the moment, don't come back in the place of other objects."""
    value = [
        PickleBuffer(bytearray(b"")),
        b"",
        PickleBuffer(b""),
        bytearray(),
        b"",
        PickleBuffer(bytearray(b"x")),
        b"x",
    ]
    loaded = engine.loads(engine.dumps(value, 5))
    assert [type(item) for item in loaded] == [bytearray, bytes, bytes, bytearray, bytes, bytearray, bytes]
    many = [item for i in range(300) for item in (PickleBuffer(bytearray([i % 256])), [i])]
    loaded = engine.loads(engine.dumps(many, 5))
    assert loaded == [item for i in range(300) for item in (bytearray([i % 256]), [i])]
    assert len(set(map(id, loaded))) == 600


def test_one_buffer_twice(engine: Engine) -> None:
    """One PickleBuffer that occurs twice in band is written as by the standard."""
    buffer = PickleBuffer(bytearray(b"data"))
    assert engine.dumps([buffer, buffer], 5) == standard_dumps([buffer, buffer], 5)
    data = b"data"
    same = [PickleBuffer(data), PickleBuffer(data), data]
    assert engine.dumps(same, 5) == standard_dumps(same, 5)


def test_callback_that_raises(engine: Engine) -> None:
    """What the callback raises comes out as it is."""

    def callback(buffer: PickleBuffer) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        engine.dumps([PickleBuffer(b"x")], 5, buffer_callback=callback)


def test_file_that_fails_in_a_buffer(engine: Engine) -> None:
    """What the file raises while a large buffer is written is what comes out."""

    class File:
        def write(self, data: Any) -> None:
            if len(data) > 1000:
                raise OSError("full")

    for content in bytes(100_000), bytearray(100_000):
        with pytest.raises(OSError, match="full"):
            engine.Pickler(File(), 5).dump(["x", pickle.PickleBuffer(content)])
