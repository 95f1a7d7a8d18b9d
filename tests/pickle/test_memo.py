"""The memo over several streams, `dumps` and `feed` of reused objects, and what a failed dump leaves."""

from __future__ import annotations

import gc
import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .engines import PROTOCOLS
from .zoo import List, Plain, assert_alike

if TYPE_CHECKING:
    from .engines import Engine


def standard_streams(values: list[Any], protocol: int) -> list[bytes]:
    """What one standard pickler writes for each value in turn."""
    streams = []
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol)
    for value in values:
        start = file.tell()
        pickler.dump(value)
        streams.append(file.getvalue()[start:])
    return streams


def related() -> list[Any]:
    """Values that share objects with each other."""
    one, items, text = Plain(name="one"), [1, 2], "".join(list("text"))
    return [[one, items], {"k": items, text: one}, (one, text), items, one, [text, "new"]]


class TestPickler:
    def test_several_dumps_share_a_memo(self, engine: Engine) -> None:
        """What was written once is referred to in later streams, in the standard's bytes."""
        for protocol in PROTOCOLS:
            values = related()
            pickler, file = engine.pickler(protocol)
            for value in values:
                pickler.dump(value)
            assert file.getvalue() == b"".join(standard_streams(values, protocol))

    def test_dumps_and_dump_share_a_memo(self, engine: Engine) -> None:
        """`dumps` gives the next stream and writes nothing to the file; `dump` may go on after it."""
        for protocol in PROTOCOLS:
            values = related()
            expected = standard_streams(values, protocol)
            pickler, file = engine.pickler(protocol)
            streams = []
            for number, value in enumerate(values):
                if number % 2:
                    streams.append(pickler.dumps(value))
                else:
                    before = file.tell()
                    pickler.dump(value)
                    streams.append(file.getvalue()[before:])
            assert streams == expected
            assert file.getvalue() == b"".join(expected[::2])

    def test_without_a_file(self, engine: Engine) -> None:
        """A pickler without a file has `dumps` alone."""
        for pickler in engine.Pickler(), engine.Pickler(None, 2), engine.Pickler(protocol=-1):
            assert engine.loads(pickler.dumps([1])) == [1]
            with pytest.raises(TypeError, match="file"):
                pickler.dump([1])
            pickler.clear_memo()
            assert engine.loads(pickler.dumps([2])) == [2]

    def test_clear_memo(self, engine: Engine) -> None:
        """After `clear_memo` the next stream stands alone."""
        for protocol in PROTOCOLS:
            pickler = engine.Pickler(None, protocol)
            value = related()
            first = pickler.dumps(value)
            assert pickler.dumps(value) != first
            pickler.clear_memo()
            assert pickler.dumps(value) == first

    def test_memo_of_a_large_stream_then_small_ones(self, engine: Engine) -> None:
        """A cleared memo is as good as a new one, after a large stream and for many small ones."""
        pickler = engine.Pickler(None, 4)
        pickler.dumps([[i] for i in range(10_000)])
        for i in range(2000):
            pickler.clear_memo()
            assert pickler.dumps([i, [i]]) == pickle.dumps([i, [i]], 4)

    def test_memo_attribute(self, engine: Engine) -> None:
        """`memo` maps `id(obj)` to index and object, and can be carried over to another pickler."""
        items, one = [1], Plain()
        pickler = engine.Pickler(None, 2)
        pickler.dumps([items, one])
        assert pickler.memo[id(items)] == (1, items)
        assert pickler.memo[id(items)][1] is items
        other = engine.Pickler(None, 2)
        other.memo = pickler.memo
        assert other.dumps(items) == b"\x80\x02h\x01."
        assert other.dumps([items, []]) == pickler.dumps([items, []])
        # Carried over, not shared: the two go on apart.
        third: list[int] = []
        pickler.dumps(third)
        assert id(third) not in other.memo

    @pytest.mark.parametrize("bad", [None, 5, [], {1: 2}, {1: (2,)}, {1: ("x", [])}, {1: (1, 2, 3)}], ids=repr)
    def test_bad_memo(self, engine: Engine, bad: Any) -> None:
        """What is no memo is refused when it is set, and changes nothing."""
        pickler = engine.Pickler(None, 2)
        items: list[int] = []
        pickler.dumps(items)
        with pytest.raises(TypeError):
            pickler.memo = bad
        assert pickler.dumps(items) == b"\x80\x02h\x00."

    def test_memoized(self, engine: Engine) -> None:
        """`memoized` lists the objects that later streams refer to, in the order of the memo."""
        items, pair, one = [1], (1, "text"), Plain(items=[2])
        pickler = engine.Pickler(None, 4)
        assert pickler.memoized() == []
        pickler.dumps([items, pair, one])
        memoised = pickler.memoized()
        assert [obj for obj in memoised if obj is items or obj is pair or obj is one] == [items, pair, one]
        assert len(memoised) == len(pickler.memo)
        for index, obj in enumerate(memoised):
            assert pickler.memo[id(obj)] == (index, obj)
        pickler.clear_memo()
        assert pickler.memoized() == []

    def test_memo_keeps_objects_alive(self, engine: Engine) -> None:
        """An object whose address the memo holds isn't freed, so that another can't come to be taken for it."""
        pickler = engine.Pickler(None, 4)
        expected = []
        streams = []
        for i in range(500):
            streams.append(pickler.dumps([i, [i]]))
            expected.append([i, [i]])
            gc.collect(0)
        unpickler = engine.unpickler(b"".join(streams))
        assert [unpickler.load() for _ in range(500)] == expected

    def test_fast(self, engine: Engine) -> None:
        """`fast` memoises nothing: what occurs twice is written twice, and a cycle is an error."""
        pickler = engine.Pickler(None, 4)
        pickler.fast = True
        items: list[Any] = [1]
        loaded = engine.loads(pickler.dumps([items, items]))
        assert loaded == [[1], [1]]
        assert loaded[0] is not loaded[1]
        assert pickler.memo == {}
        items.append(items)
        with pytest.raises((ValueError, RecursionError, pickle.PicklingError)):
            pickler.dumps(items)

    def test_attributes(self, engine: Engine) -> None:
        """`bin` and `proto` tell of the protocol, as on the standard's picklers."""
        for protocol in PROTOCOLS:
            pickler = engine.Pickler(None, protocol)
            assert bool(pickler.bin) == (protocol > 0)
            assert pickler.fast in (0, False)
            assert pickler.proto == protocol

    def test_after_a_failed_dump(self, engine: Engine) -> None:
        """A dump that fails leaves nothing of its bytes for the next, which stands alone once the memo is cleared."""
        for protocol in PROTOCOLS:
            pickler, file = engine.pickler(protocol)
            for bad in [1, lambda: 0], [["x" * 70_000], lambda: 0], {"k": [Plain(a=(lambda: 0))]}, lambda: 0:
                with pytest.raises(pickle.PicklingError):
                    pickler.dump(bad)
                start = file.tell()
                pickler.clear_memo()
                pickler.dump(related())
                data = file.getvalue()[start:]
                assert data == pickle.dumps(related(), protocol)
                pickler.clear_memo()
                assert pickler.dumps(related()) == data


class TestUnpickler:
    def test_several_loads_share_a_memo(self, engine: Engine) -> None:
        """Later streams refer to what earlier ones built, from a file and from memory."""
        for protocol in PROTOCOLS:
            values = related()
            data = b"".join(standard_streams(values, protocol))
            fed = engine.Unpickler()
            fed.feed(data)
            for unpickler in engine.unpickler(data), engine.Unpickler(io.BufferedReader(io.BytesIO(data))), fed:
                loaded = [unpickler.load() for _ in values]
                assert_alike(values, loaded)
                assert loaded[4] is loaded[0][0]
                assert loaded[3] is loaded[1]["k"]
                for _ in range(2):
                    with pytest.raises(EOFError):
                        unpickler.load()

    def test_feed_clears_the_memo(self, engine: Engine) -> None:
        """Fed input is apart from what was read before."""
        first, second = standard_streams([(items := [1]), items], 2)
        unpickler = engine.Unpickler()
        unpickler.feed(first)
        assert unpickler.load() == [1]
        unpickler.feed(second)
        with pytest.raises(pickle.UnpicklingError, match="memo"):
            unpickler.load()

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(b"--" + data)[2:]])
    def test_feed_takes_bytes_like(self, engine: Engine, kind: Any) -> None:
        """Any bytes-like object may be fed, and be changed or freed afterwards."""
        unpickler = engine.Unpickler()
        for protocol in PROTOCOLS:
            data = pickle.dumps([["text"], b"bytes"], protocol)
            fed = kind(data + data)
            unpickler.feed(fed)
            if isinstance(fed, bytearray):
                fed[:] = b"\xff" * 3
            del fed
            assert unpickler.load() == [["text"], b"bytes"]
            assert unpickler.load() == [["text"], b"bytes"]

    def test_feed_takes_nothing_else(self, engine: Engine) -> None:
        """Text and the like are a TypeError."""
        for bad in "text", None, 5, [1]:
            with pytest.raises(TypeError):
                engine.Unpickler().feed(bad)
            with pytest.raises(TypeError):
                engine.loads(bad)

    def test_feed_in_place_of_a_file(self, engine: Engine) -> None:
        """An unpickler with a file may be fed; it reads what it was fed."""
        unpickler = engine.unpickler(pickle.dumps("file"))
        unpickler.feed(pickle.dumps("fed"))
        assert unpickler.load() == "fed"

    def test_without_input(self, engine: Engine) -> None:
        """One that has neither file nor input says so; one fed nothing is at the end."""
        with pytest.raises(TypeError, match=r"feed|file|input"):
            engine.Unpickler().load()
        unpickler = engine.Unpickler()
        unpickler.feed(b"")
        with pytest.raises(EOFError):
            unpickler.load()

    def test_many_small_streams(self, engine: Engine) -> None:
        """One unpickler reads thousands of small streams, after a large one too."""
        unpickler = engine.Unpickler()
        unpickler.feed(pickle.dumps([[i] for i in range(10_000)]))
        unpickler.load()
        for i in range(2000):
            unpickler.feed(pickle.dumps(Plain(i=i, text=str(i))))
            assert vars(unpickler.load()) == {"i": i, "text": str(i)}

    def test_memo_attribute(self, engine: Engine) -> None:
        """`memo` maps index to object, may be primed before a load, and emptied with `clear_memo`."""
        unpickler = engine.unpickler(b"\x80\x02h\x07." + b"\x80\x02]q\x03." + b"\x80\x02h\x07.")
        primed = Plain()
        unpickler.memo = {7: primed}
        assert unpickler.load() is primed
        items = unpickler.load()
        assert unpickler.memo[3] is items
        assert unpickler.memo[7] is primed
        unpickler.clear_memo()
        assert len(unpickler.memo) == 0
        with pytest.raises(pickle.UnpicklingError):
            unpickler.load()

    def test_empty_memo_before_a_load(self, engine: Engine) -> None:
        """An empty memo may be set before a load that memoises (the standard's C engine crashes on it)."""
        unpickler = engine.unpickler(pickle.dumps([[1], [2]]))
        unpickler.memo = {}
        assert unpickler.load() == [[1], [2]]

    @pytest.mark.parametrize("index", [0, 255, 256, 2**31, 2**32 - 1])
    def test_any_index(self, engine: Engine, index: int) -> None:
        """A memo index may be anything up to 2**32 - 1, without room being made for those below."""
        four = index.to_bytes(4, "little")
        for put, get in (b"r" + four, b"j" + four), (b"p%d\n" % index, b"g%d\n" % index):
            items, same = engine.loads(b"(]" + put + get + b"t.")
            assert items is same == []

    def test_large_text_index(self, engine: Engine) -> None:
        """An index of many digits is one like any other, or is refused: no room is made for it."""
        for digits in 20, 100, 5000:
            index = b"9" * digits
            try:
                items, same = engine.loads(b"(]p" + index + b"\ng" + index + b"\nt.")
            except pickle.UnpicklingError:
                continue
            assert items is same

    def test_memoize_counts_the_memo(self, engine: Engine) -> None:
        """MEMOIZE takes the number of entries as its index, over streams, as the standard's does."""
        for data in b"\x80\x04(]\x94h\x00t.", b"\x80\x04(]q\x05}\x94h\x01h\x05t.":
            assert engine.loads(data) == pickle.loads(data)
        unpickler = engine.unpickler(b"\x80\x04]\x94." + b"\x80\x04(}\x94h\x00h\x01t.")
        assert unpickler.load() == []
        assert unpickler.load() == ({}, [], {})

    def test_after_a_failed_load(self, engine: Engine) -> None:
        """A load that fails leaves no stack or mark to the next."""
        unpickler = engine.Unpickler()
        for bad in b"((((((", b"(K\x01K\x02\xff", b"((K\x01tR.", b"K\x01K\x02a.":
            unpickler.feed(bad)
            with pytest.raises((pickle.UnpicklingError, EOFError)):
                unpickler.load()
            unpickler.feed(b"(K\x07t.")
            assert unpickler.load() == (7,)
            unpickler.feed(b"t.")
            with pytest.raises(pickle.UnpicklingError):
                unpickler.load()

    def test_nothing_is_kept(self, engine: Engine) -> None:
        """A pickler and an unpickler that are done hold no object but those of their memo."""
        one = Plain(items=List([1]))
        count = sys.getrefcount(one)
        pickler = engine.Pickler(None, 4)
        data = pickler.dumps([one])
        pickler.clear_memo()
        assert sys.getrefcount(one) == count
        unpickler = engine.Unpickler()
        unpickler.feed(data)
        (loaded,) = unpickler.load()
        unpickler.clear_memo()
        assert sys.getrefcount(loaded) == count


class Finalized:
    """Calls a function when it is let go; written as something else, so that only the memo holds it."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return int, ()

    def __del__(self) -> None:
        self.call()


@pytest.mark.parametrize("size", [10, 100_000])
def test_finalizers_in_clear_memo(engine: Engine, size: int) -> None:
    """What `clear_memo` lets go may dump and clear with the same pickler: it finds an empty memo, and leaves its own."""
    kept: list[Any] = []
    for call in (
        lambda pickler: pickler.clear_memo(),
        lambda pickler: kept.append(pickler.dumps([1, 2])),
        lambda pickler: setattr(pickler, "memo", {}),
    ):
        pickler = engine.Pickler(None, 4)
        pickler.dumps([[i] for i in range(size)])
        pickler.dumps(Finalized(lambda call=call, pickler=pickler: call(pickler)))
        pickler.clear_memo()
        known = len(pickler.memoized())
        assert pickler.dumps(["after"]) == engine.dumps(["after"], 4)
        assert len(pickler.memoized()) == known + 2
    assert kept == [engine.dumps([1, 2], 4)]


@pytest.mark.parametrize("seed", range(12))
def test_objects_that_are_memoised_twice(engine: Engine, seed: int) -> None:
    """A memo that has objects under two keys is forgotten like any other, and what is written next stands alone."""
    objects = [[i] for i in range(25 + 40 * seed)]
    pickler = engine.Pickler(None, 2)
    for _ in range(3):
        entries = [(i, obj) for i, obj in enumerate([*objects, *objects[seed : seed + 8]])]
        pickler.memo = dict(enumerate(entries))
        pickler.clear_memo()
        assert pickler.memoized() == []
        for obj in [objects, objects[::-1]]:
            assert pickler.dumps(obj) == engine.dumps(obj, 2)
            pickler.clear_memo()


def test_class_that_is_written_through_its_own_name(engine: Engine) -> None:
    """A class whose name has an id that contains the class has two places in the memo, and the streams load."""
    given: list[Any] = []

    def persistent_id(obj: Any) -> Any:
        if obj == "Finalized" and not given:
            given.append([Finalized, *([i] for i in range(3000))])
            return given[0]
        return None

    pickler = engine.Pickler(None, 4, persistent_id=persistent_id)
    later = [1, 2]
    data = pickler.dumps([Finalized, later, later, Finalized])
    loaded = engine.loads(data, persistent_load=lambda pid: "Finalized")
    assert loaded == [Finalized, later, later, Finalized]
    assert loaded[1] is loaded[2]
    pickler.clear_memo()
    assert pickler.dumps([later]) == engine.dumps([later], 4)


def test_memo_without_init(engine: Engine) -> None:
    """A pickler whose `__init__` wasn't called has no memo, and says so."""
    pickler = engine.Pickler.__new__(engine.Pickler)
    for use in (
        lambda: pickler.memo,
        pickler.memoized,
        lambda: setattr(pickler, "memo", {1: (0, "a")}),
        lambda: pickler.dumps(1),
    ):
        with pytest.raises(pickle.PicklingError, match="__init__"):
            use()
