"""What an engine does again and again, run as a program that tells what each round leaves behind.

    python -m tests.pickle.leak_cases ENGINE_MODULE ROUNDS

prints a line of JSON: for each case how much a round leaves, in each of several spans of so many rounds. What is looked at:
blocks of the interpreter's allocator, or bytes that the C library has handed out (all there are with ``PYTHONMALLOC=malloc``,
and exactly with what `ENVIRONMENT` says), objects that the cyclic garbage collector knows, references to things that live for
ever, and all references where the interpreter counts them (a debug build).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import importlib
import io
import json
import pickle
import sys
import warnings
from typing import TYPE_CHECKING, Any

from . import zoo
from .streams import STREAMS, find
from .zoo import ZOO, Key, Plain, Slotted, State

if TYPE_CHECKING:
    from collections.abc import Callable


SPANS = 5

#: Variables under which what is freed isn't kept aside by Python or the C library, and counted as handed out.
ENVIRONMENT = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"}


class _Mallinfo2(ctypes.Structure):
    """As in ``malloc.h``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _malloc_report() -> Callable[[], int]:
    """A function that tells how many bytes the C library has handed out; always 0 where it can't tell."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return lambda: 0
    mallinfo.restype = _Mallinfo2

    def handed_out() -> int:
        info = mallinfo()
        return info.uordblks + info.hblkhd

    return handed_out


handed_out = _malloc_report()


class Refused(Exception):
    """Raised by hooks."""


class SetsState:
    def __setstate__(self, state: Any) -> None:
        raise Refused


class Hashes:
    def __init__(self, value: Any = 0) -> None:
        self.value = value

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return False


PID = ("persistent", "id")
#: What lives for ever: references to it must not become more.
IMMORTAL: list[Any] = [
    None, True, False, (), "", b"", 0, 1, 255, ..., NotImplemented, int, str, dict, list, tuple, set, type, object, Plain, Slotted,
    State, Key, zoo, PID, find, Refused, len, pickle.PickleBuffer, "a text that is kept", frozenset(), 1.5,
]  # fmt: skip


def ignoring(call: Callable[[], Any]) -> None:
    """Do what raises."""
    with contextlib.suppress(Exception):
        call()


def cases(engine: Any) -> dict[str, Callable[[], None]]:
    """The cases by name."""
    names = [name for name in ZOO if name not in LARGE]
    values = [ZOO[name]() for name in names]
    graph = [Plain(a=[1], b={"k": (2.5, "text", b"bytes")}), Slotted([1], {}), State({1, 2}), Key("k"), frozenset("ab")]
    graph += [graph[0], Plain, len, 2**70, PID, "a text that is kept"]
    graph[0].itself = graph
    streams = [pickle.dumps(graph, protocol) for protocol in range(2, 6)]
    with_ids = engine.dumps(graph, 4, persistent_id=lambda obj: PID if type(obj) is Slotted else None)
    reused = engine.Pickler(None, 5)
    file = io.BytesIO()
    filed = engine.Pickler(file, 4)
    unpickler = engine.Unpickler()
    table = getattr(engine, "IdentityTable", dict)()
    found: dict[str, Callable[[], None]] = {}

    def case(function: Callable[[], None]) -> Callable[[], None]:
        found[function.__name__] = function
        return function

    @case
    def dump_zoo() -> None:
        for value in values:
            for protocol in 0, 2, 5:
                ignoring(lambda v=value, p=protocol: engine.dumps(v, p))

    @case
    def dump_canonical() -> None:
        for value in values:
            ignoring(lambda v=value: engine.dumps(v, 4, canonical=True))

    @case
    def load_zoo() -> None:
        for data in zoo_streams:
            ignoring(lambda d=data: engine.loads(d))

    @case
    def skim_zoo() -> None:
        for data in zoo_streams:
            ignoring(lambda d=data: engine.references(d))
            ignoring(lambda d=data: engine.globals(d))

    @case
    def dump_reused() -> None:
        for _ in range(5):
            reused.dumps(graph)
            reused.clear_memo()

    @case
    def dump_with_a_kept_memo() -> None:
        reused.dumps(graph)
        reused.dumps([graph, "a text that is kept"])
        reused.memo = reused.memo
        reused.memoized()
        reused.clear_memo()
        reused.memo = {id(graph): (0, graph)}
        reused.dumps([graph, Plain()])
        reused.clear_memo()

    @case
    def dump_to_a_file() -> None:
        filed.dump(graph)
        filed.clear_memo()
        file.seek(0)
        file.truncate()

    @case
    def load_reused() -> None:
        for data in streams:
            unpickler.feed(data)
            unpickler.load()
            unpickler.feed(data)
            unpickler.noload()
        unpickler.clear_memo()

    @case
    def load_from_files() -> None:
        for data in streams:
            for file in io.BytesIO(data), io.BufferedReader(io.BytesIO(data)), Minimal(data):
                engine.load(file)

    @case
    def picklers_with_hooks() -> None:
        for hook in (lambda obj: None), (lambda obj: PID if type(obj) is Slotted else None):
            for name in "persistent_id", "inst_persistent_id", "global_persistent_id":
                engine.dumps(graph, 4, **{name: hook})
        pickler = engine.Pickler(None, 4)
        pickler.persistent_id = lambda obj: None
        pickler.reducer_override = lambda obj: NotImplemented
        pickler.dispatch_table = {Plain: lambda obj: (list, ())}
        pickler.dumps(graph)
        del pickler.persistent_id

    @case
    def identity_tables() -> None:
        for obj in graph:
            table[id(obj)] = PID
        engine.dumps(graph, 4, persistent_ids=table)
        for obj in graph[:3]:
            del table[id(obj)]
            table.get(id(obj))
        table.update({id(graph): "id"})
        engine.dumps(graph, 4, persistent_ids=table)
        for key in list(table):
            table[key] = [1]
        table.clear()
        new = type(table)({id(obj): object() for obj in graph})
        new[id(graph)] = new

    @case
    def unpicklers_with_hooks() -> None:
        engine.loads(with_ids, persistent_load=lambda pid: [pid])
        engine.loads(with_ids, persistent_load=[])
        engine.loads(with_ids, persistent_load=lambda pid: pid, persistent_objects={PID: 5, "a": 1})
        engine.loads(streams[-1], find_global=lambda module, name: vars(zoo).get(name, len))
        one = engine.Unpickler(io.BytesIO(with_ids))
        one.persistent_load = lambda pid: pid
        one.load()
        one.memo = dict(one.memo)

    @case
    def buffers() -> None:
        got: list[Any] = []
        value = [pickle.PickleBuffer(b"x" * 100), pickle.PickleBuffer(bytearray(100))]
        data = engine.dumps(value, 5, buffer_callback=got.append)
        engine.loads(data, buffers=got)
        engine.loads(engine.dumps(value, 5))
        ignoring(lambda: engine.loads(data, buffers=got[:1]))
        ignoring(lambda: engine.loads(data))
        ignoring(lambda: engine.dumps(value, 5, buffer_callback=raises))

    @case
    def states() -> None:
        fresh = Plain(a=1, b="text", c=2.5)
        for value in [fresh, *graph[:4], Plain(a=[fresh], b=fresh), Slotted([1], {}), Hashes(), 5]:
            for one in engine.Pickler(None, 5), engine.Pickler(None, 5, canonical=True, persistent_ids={}), reused:
                data = one.dumps_state(value)
                one.memoized({str})
                one.dumps_state(value)
                one.clear_memo()
                if data is not None:
                    unpickler.feed(data)
                    unpickler.load_state(type(value).__new__(type(value)))
        for bad in Plain(a=1, b=(lambda: None)), Plain(a=[lambda: None], b=5):
            ignoring(lambda v=bad: reused.dumps_state(v))
        unpickler.feed(pickle.dumps({"a": 1, "b": 2}, 5)[:-1] + b"X")
        ignoring(lambda: unpickler.load_state(Plain()))
        unpickler.feed(pickle.dumps([1], 5))
        ignoring(lambda: unpickler.load_state(Plain()))
        unpickler.feed(pickle.dumps({"a": graph, "b": [1]}, 5))
        unpickler.load_state(Plain(a=1))
        unpickler.clear_memo()

    @case
    def layouts() -> None:
        derived = type("Derived", (Hashes,), {"__slots__": ()})
        engine.share_layout(derived, Hashes)
        engine.share_layout(type("Derived", (Hashes,), {}), Hashes)
        for obj in Hashes([1]), object.__new__(derived):
            engine.set_class(obj, derived)
            obj.value = [2]
            engine.set_class(obj, Hashes)
            engine.has_held_dict(obj)
            obj.more = vars(obj)
            engine.set_class(obj, derived)
            obj.more = None
        ignoring(lambda: engine.set_class(Hashes(), Slotted))
        del derived, obj
        gc.collect()

    @case
    def unpicklable() -> None:
        def local() -> None:
            pass

        for bad in (
            (lambda: None),
            local,
            io.StringIO(),
            Odd(5),
            Odd((list,)),
            Odd("no such name"),
            Odd((list, (), None, 5)),
        ):
            for value in bad, [graph, bad], {"k": (bad,)}, Plain(a=bad), {1: [Plain(a={"k": bad})]}, State([bad]):
                for protocol in 0, 2, 4:
                    ignoring(lambda v=value, p=protocol: engine.dumps(v, p))
                ignoring(lambda v=value: reused.dumps(v))
        reused.clear_memo()

    @case
    def raising_hooks() -> None:
        for name in "persistent_id", "inst_persistent_id", "global_persistent_id":
            for count in range(8):
                ignoring(lambda n=name, c=count: engine.dumps(graph, 4, **{n: Later(c)}))
        ignoring(lambda: engine.Pickler(Raising(), 4).dump(graph))
        ignoring(lambda: engine.dumps(["x" * 70_000, graph], 4, persistent_ids=Raising()))
        for count in range(3):
            ignoring(lambda c=count: engine.loads(with_ids, persistent_load=Later(c)))
            ignoring(lambda c=count: engine.loads(streams[2], find_global=Later(c)))
        ignoring(lambda: engine.load(Raising()))

    @case
    def mutating_hooks() -> None:
        for count in range(6):
            items: list[Any] = [Plain(a=[1]), {"k": Plain()}, Plain(), {1, 2}, Plain()]
            engine.dumps(items, 4, inst_persistent_id=Later(count, items.clear))
            attributes = {f"key {number}": Plain() for number in range(5)}
            ignoring(lambda c=count, a=attributes: engine.dumps(a, 4, inst_persistent_id=Later(c, a.clear)))

    @case
    def calls_back() -> None:
        one = engine.Pickler(None, 4)
        one.persistent_id = lambda obj: ignoring(lambda: one.dumps(1)) or ignoring(one.clear_memo)
        one.dumps(graph)
        other = engine.Unpickler()
        other.persistent_load = lambda pid: ignoring(other.load) or ignoring(lambda: other.feed(b"N.")) or pid
        other.feed(with_ids)
        other.load()

    @case
    def malformed() -> None:
        for data in bad_streams:
            ignoring(lambda d=data: engine.loads(d, find_global=find, encoding="latin-1", persistent_load=[]))
            ignoring(lambda d=data: engine.references(d))
            unpickler.feed(data)
            ignoring(unpickler.noload)
            ignoring(lambda d=data: engine.load(Minimal(d), find_global=find))
        unpickler.clear_memo()

    @case
    def objects_that_refuse() -> None:
        for data in (
            b"\x80\x04c" + __name__.encode() + b"\nSetsState\n)\x81}\x8c\x01aK\x01sb.",
            b"c" + __name__.encode() + b"\nHashes\n)\x81}(h\x00K\x01u.",
            b"}(c" + __name__.encode() + b"\nHashes\n)\x81K\x01c" + __name__.encode() + b"\nHashes\n)\x81K\x02u.",
            b"clist\nlist\n.", b"cno_such_module\nname\n.", b"cbuiltins\nint\n(Vx\ntR.", b"cbuiltins\nlist\n(K\x01tR.",
        ):  # fmt: skip
            ignoring(lambda d=data: engine.loads(d))

    @case
    def classes_that_go() -> None:
        for number in range(3):
            cls = type("Going", (Plain,), {"__module__": __name__, "__slots__": ("slot",) if number else ()})
            globals()["Going"] = cls
            one = cls(a=1)
            engine.loads(engine.dumps([one, one, cls], 4))
            engine.dumps([one, cls], 2)
            cls.__getstate__ = lambda self: {"b": 2}
            engine.loads(engine.dumps([one, cls], 4))
            del globals()["Going"], cls, one

    @case
    def cycles() -> None:
        one = engine.Pickler(Holder(), 4)
        one.itself = one
        one.persistent_id = lambda obj, one=one: None
        one.dumps([one.__class__, graph])
        one.memo = {id(one): (0, one)}
        holder = Holder()
        holder.pickler = engine.Pickler(
            holder, 4, persistent_id=holder.hook, inst_persistent_id=holder.hook, buffer_callback=None
        )
        holder.pickler.persistent_ids = {1: holder}
        other = engine.Unpickler(
            holder, persistent_load=holder.hook, find_global=holder.find, persistent_objects={1: holder}
        )
        other.itself = other
        other.memo = {0: other}
        found_table = getattr(engine, "IdentityTable", dict)()
        found_table[id(holder)] = found_table
        sub = type("Sub", (engine.Pickler,), {"hook": holder})(None)
        sub.me = sub
        sub_load = type("Sub", (engine.Unpickler,), {})(io.BytesIO(b"N."))
        sub_load.me = [sub_load]

    @case
    def wrong_arguments() -> None:
        for arguments in (5,), (None, "x"), (None, 9), (None, 0, True, len):
            ignoring(lambda a=arguments: engine.Pickler(*a))
        ignoring(lambda: engine.Pickler(None, 4, nonsense=1))
        ignoring(lambda: engine.Unpickler(5))
        ignoring(lambda: engine.loads("text"))
        ignoring(lambda: unpickler.feed(5))
        ignoring(lambda: setattr(unpickler, "memo", {"a": 1}))
        ignoring(lambda: setattr(reused, "memo", {1: 1}))
        ignoring(lambda: table.__setitem__("x", 1))
        ignoring(lambda: table[5])
        bare = engine.Pickler.__new__(engine.Pickler)
        ignoring(lambda: bare.dumps(1))
        ignoring(engine.Unpickler.__new__(engine.Unpickler).load)

    zoo_streams: list[bytes] = []
    for value in values:
        for protocol in 0, 2, 4, 5:
            with contextlib.suppress(Exception):
                zoo_streams.append(pickle.dumps(value, protocol))
    bad_streams: list[bytes] = []
    for data in list(STREAMS.values())[::5]:
        bad_streams += [data[:end] for end in range(0, len(data), 7)]
        bad_streams += [data[:at] + b"s" + data[at:] for at in range(0, len(data), 11)]
        bad_streams += [data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] for at in range(0, len(data), 13)]
    return found


class Odd:
    """Is reduced to what it was given."""

    def __init__(self, reduction: Any) -> None:
        self.reduction = reduction

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.reduction


class Later:
    """A hook that does something at its so many-th call: raises, if nothing else."""

    def __init__(self, count: int, do: Callable[[], Any] | None = None) -> None:
        self.count, self.do = count, do

    def __call__(self, *arguments: Any) -> Any:
        self.count -= 1
        if self.count < 0:
            if self.do is None:
                raise Refused
            self.do()
        return Plain if len(arguments) == 2 else None


class Minimal:
    """A file with the two methods."""

    def __init__(self, data: bytes) -> None:
        file = io.BytesIO(data)
        self.read, self.readline = file.read, file.readline


class Raising:
    """A file and table that raises."""

    def refuse(self, *arguments: Any) -> Any:
        raise Refused

    read = readline = write = get = __getitem__ = refuse


def raises(*arguments: Any) -> Any:
    """A hook that raises."""
    raise Refused


class Holder:
    """Has everything that a pickler or unpickler takes, and holds it."""

    pickler: Any = None

    def write(self, data: Any) -> None:
        """Take it."""

    def read(self, size: int) -> bytes:
        """Nothing is there."""
        return b""

    def readline(self) -> bytes:
        """Nothing is there."""
        return b""

    def hook(self, obj: Any) -> Any:
        """No id."""

    def find(self, module: str, name: str) -> Any:
        """Nothing is found."""


#: What takes long and shows no more.
LARGE = {
    "many_small", "large_between_small", "list of 1000", "list of 1001", "list of 2000", "list of 2001", "dict of 1000", "dict of 1001",
    "dict of 2000", "dict of 2001", "set of 1000", "set of 1001", "bytes of 65536", "str of 70000", "random_state",
}  # fmt: skip


#: What is looked at.
WHAT = ["blocks", "bytes", "objects", "references to what lives for ever"]
WHAT += ["references"] if hasattr(sys, "gettotalrefcount") else []


def measure(into: array.array[int], at: int) -> None:
    """Enter what there is now; makes nothing that stays."""
    # The interpreter remembers names that were looked up, some thousands of them, whoever has made them.
    getattr(sys, "_clear_internal_caches", getattr(sys, "_clear_type_cache", bool))()
    gc.collect()
    into[at] = sys.getallocatedblocks()
    into[at + 1] = handed_out()
    into[at + 2] = len(gc.get_objects())
    into[at + 3] = sum(map(sys.getrefcount, IMMORTAL))
    if hasattr(sys, "gettotalrefcount"):
        into[at + 4] = sys.gettotalrefcount()


def main(engine_name: str, rounds: str) -> None:
    """Run all cases, so often in each span, and print what they leave."""
    count = int(rounds)
    warnings.simplefilter("ignore")
    engine = importlib.import_module(engine_name)
    left: dict[str, dict[str, list[float]]] = {}
    for name, run in cases(engine).items():
        # What is made once is made; what is remembered of so many types at the most is full.
        for _ in range(1000 if name == "classes_that_go" else 5):
            run()
        counts = array.array("q", [0] * len(WHAT) * (SPANS + 1))
        measure(counts, 0)
        for span in range(SPANS):
            for _ in range(count):
                run()
            measure(counts, len(WHAT) * (span + 1))
        left[name] = {}
        for number, what in enumerate(WHAT):
            now = counts[number :: len(WHAT)]
            left[name][what] = [(now[span + 1] - now[span]) / count for span in range(SPANS)]
    print(json.dumps(left))


if __name__ == "__main__":
    # Under its own name: that is what the streams say.
    importlib.import_module(__spec__.name).main(*sys.argv[1:])
