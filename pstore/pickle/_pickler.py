"""The reference pickler: what each object is written as. The bytes that it gives are the definition for both engines.

It must never know how a stream is read. Not recursive: a `save_x` writes an object that has no parts, and returns None;
for one that has parts it returns an iterator (most are generators) that yields each part at the moment when it is to be
written. `Pickler._save` keeps the iterators that aren't finished on a list.

The bytes are those of the standard library's C pickler, which differs from its Python one where a list, dict or set
has more than 1000 items, or exactly that many; and of a PickleBuffer written in band, and of an object that is reached
again through its own arguments, for which the Python one writes a faulty stream.
"""

from __future__ import annotations

import codecs
import copyreg
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pickle import DEFAULT_PROTOCOL, PickleBuffer
from struct import Struct
from types import BuiltinFunctionType, FunctionType
from typing import Any, ClassVar, Protocol, TypeAlias

from . import _canonical, _path
from . import opcodes as op
from ._errors import PicklingError, Unpicklable, UnpicklableOverflow, UnpicklableType, UnpicklableValue, WrongProtocol
from ._names import Place, extension_code, locate, to_python2
from .reduction import (
    MISSING,
    Reduction,
    check_reduction,
    old_style_arguments,
    old_style_state,
    reduce_value,
    registered,
)

__all__ = ["HIGHEST_PROTOCOL", "Pickler", "Writable"]

HIGHEST_PROTOCOL = 5

#: The parts of an object, in the order in which they are to be written.
Parts: TypeAlias = Iterator[Any]
Hook: TypeAlias = Callable[[Any], Any]

# How protocols 0 to 3 write a name in a class: from Python 3.13 on the standard module writes the whole path at once,
# before that it writes the class that holds the name as an object of its own (which never ends if that is the object).
_OLD_NESTING = sys.version_info < (3, 13)

_BATCH = 1000  # items between two APPENDS, SETITEMS or ADDITEMS
_FRAME_TARGET = 64 * 1024  # a frame is closed before the first object that begins behind so many bytes
_FRAME_LEAST = 4  # fewer bytes than this aren't worth a frame

_pack_u1 = Struct("<B").pack
_pack_u2 = Struct("<H").pack
_pack_u4 = Struct("<I").pack
_pack_i4 = Struct("<i").pack
_pack_u8 = Struct("<Q").pack
_pack_double = Struct(">d").pack

_SMALL_INTS = [op.BININT1 + _pack_u1(value) for value in range(256)]
_SMALL_GETS = [op.BINGET + _pack_u1(index) for index in range(256)]
_SMALL_PUTS = [op.BINPUT + _pack_u1(index) for index in range(256)]
_TUPLES = (b"", op.TUPLE1, op.TUPLE2, op.TUPLE3)
# What the codec "raw-unicode-escape" leaves alone and a line of text can't hold (the last is the end of a file on DOS).
_UNSAFE = re.compile("[\\\\\0\n\r\x1a]")


class Writable(Protocol):
    """What a pickler needs of a file."""

    def write(self, data: bytes, /) -> object:
        """Write all of `data`."""


class Pickler:
    """Writes objects as pickle streams.

    One pickler may dump several times; what it has written once it then refers to, until `clear_memo` is called.

    Each object is looked at in this order:

    1. `persistent_id`, asked for every object without exception;
    2. None and exact bool, int, float, str, bytes are written;
    3. the table `persistent_ids`;
    4. the memo: what this pickler has written already is referred to;
    5. exact list, tuple, dict, set, frozenset, bytearray and PickleBuffer are written;
    6. `inst_persistent_id`, for what is neither class nor function (an id says that the object isn't in this stream, so it
       is asked for before anything that takes the object apart, as cPickle did);
    7. `reducer_override`, where the pickler has it;
    8. classes and functions are written by their name, unless `global_persistent_id` gives an id for them;
    9. `dispatch_table` (an attribute of the pickler) or else what `copyreg.pickle` registered, ``__reduce_ex__``,
       ``__reduce__``. Protocols 0 and 1 write an instance whose class defines ``__getinitargs__``, and leaves reduction
       alone, as Python 2 wrote old-style instances.

    The hooks are methods to override, attributes to set on an instance, or keyword arguments. An id is any object but
    None; protocol 0 needs a str of printable ASCII characters.

    Args:
        file: What the streams are written to; needs a method ``write(bytes)``. None for one that only does `dumps`.
        protocol: 0 to 5, or negative for the highest; None for the default.
        fix_imports: Write the names of Python 2 for what was renamed, in protocols 0 to 2.
        buffer_callback: Called with each PickleBuffer (protocol 5); one for which it returns a false value is left out of
            the stream, and has to be handed to the unpickler.
        persistent_id: See above.
        inst_persistent_id: See above.
        global_persistent_id: See above; asked for the class of an instance, too.
        persistent_ids: Mapping from ``id(obj)`` to the persistent id of the object. The objects must be alive.
        canonical: Make the bytes depend on nothing but the value: equal strings are memoised as one, and sets are
            written in an order that depends neither on the hash seed nor on their history. Needs protocol 1 or higher.
            Equal elements in the sense of `_canonical` keep the order in which the set has them.

    Raises:
        TypeError: `file` has no method ``write``.
        ValueError: There is no such protocol, or it can't do what is asked for.
    """

    # Overridden or set by users; absent unless they do.
    dispatch_table: Mapping[type, Callable[[Any], Any]]
    reducer_override: Callable[[Any], Any]

    _busy = False

    def __init__(
        self,
        file: Writable | None = None,
        protocol: int | None = None,
        fix_imports: bool = True,
        buffer_callback: Callable[[PickleBuffer], Any] | None = None,
        *,
        persistent_id: Hook | None = None,
        inst_persistent_id: Hook | None = None,
        global_persistent_id: Hook | None = None,
        persistent_ids: Mapping[int, Any] | None = None,
        canonical: bool = False,
    ) -> None:
        self._check_idle()
        if protocol is None:
            protocol = DEFAULT_PROTOCOL
        if protocol < 0:
            protocol = HIGHEST_PROTOCOL
        elif protocol > HIGHEST_PROTOCOL:
            message = f"pickle protocol must be <= {HIGHEST_PROTOCOL}"
            raise ValueError(message)
        if buffer_callback is not None and protocol < 5:
            message = "buffer_callback needs protocol >= 5"
            raise ValueError(message)
        if canonical and protocol < 1:
            message = "canonical needs protocol >= 1"
            raise ValueError(message)
        self._file_write: Callable[[bytes], object] | None = None
        if file is not None:
            try:
                self._file_write = file.write
            except AttributeError:
                message = "file must have a 'write' attribute"
                raise TypeError(message) from None
        self.proto = int(protocol)
        self.bin = self.proto >= 1
        self.fast = False
        self.fix_imports = fix_imports and self.proto < 3
        self.persistent_ids = persistent_ids
        self.canonical = canonical
        if persistent_id is not None:
            self.persistent_id = persistent_id  # type: ignore[method-assign]
        if inst_persistent_id is not None:
            self.inst_persistent_id = inst_persistent_id  # type: ignore[method-assign]
        if global_persistent_id is not None:
            self.global_persistent_id = global_persistent_id  # type: ignore[method-assign]
        self._buffer_callback = buffer_callback
        self._memo: dict[int, tuple[int, Any]] = {}
        self._strings: dict[str, int] = {}  # canonical only: the memo by value
        self._out = bytearray()  # what isn't handed to the file yet: the current frame
        self._framing = False
        self._sink: Callable[[bytes], object] = _nowhere
        self._ask_inst: Hook | None = None
        self._ask_global: Hook | None = None
        self._override: Hook = MISSING

    # ------------------------------------------------------------------------------------------------------- interface

    def dump(self, obj: Any) -> None:
        """Write an object to the file, as one stream.

        Args:
            obj: The object.

        Raises:
            PicklingError: The object, or something that it reaches, can't be pickled; the message tells which.
            RuntimeError: Called by a hook while this pickler is writing.
            TypeError: The pickler has no file.
            Exception: Whatever hooks, the objects' own code or the file raise.
        """
        self._check_ready()
        if self._file_write is None:
            message = "this pickler has no file: call dumps(), or make it with a file"
            raise TypeError(message)
        self._dump(obj, self._file_write)

    def dumps(self, obj: Any) -> bytes:
        """Return an object as one stream. Nothing is written to the file; the memo is the same as that of `dump`.

        Raises:
            PicklingError: As `dump`.
            RuntimeError: As `dump`.
            Exception: As `dump`.
        """
        self._check_ready()
        pieces: list[bytes] = []
        self._dump(obj, pieces.append)
        return b"".join(pieces)

    def clear_memo(self) -> None:
        """Forget what was written, so that the next stream stands alone.

        Raises:
            RuntimeError: Called by a hook while this pickler is writing.
        """
        self._check_idle()
        self._memo.clear()
        self._strings.clear()

    @property
    def memo(self) -> dict[int, tuple[int, Any]]:
        """What was written: ``{id(obj): (index, obj)}``. May be replaced, but not while the pickler is writing."""
        return self._memo

    @memo.setter
    def memo(self, value: Mapping[int, tuple[int, Any]]) -> None:
        self._check_idle()
        if not isinstance(value, Mapping):
            message = f"memo must be a mapping, not {type(value).__name__}"
            raise TypeError(message)
        memo = {}
        for key, entry in value.items():
            if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], int):
                message = "memo must map id(obj) to (index, obj)"
                raise TypeError(message)
            memo[key] = entry
        self._memo = memo
        self._strings = {obj: index for index, obj in memo.values() if type(obj) is str} if self.canonical else {}

    def memoized(self) -> list[Any]:
        """Return the objects in the memo, in the order of their indices."""
        return [obj for _, obj in sorted(self._memo.values(), key=lambda entry: entry[0])]

    def persistent_id(self, obj: Any) -> Any:
        """Return the persistent id under which an object is stored elsewhere, or None. To be overridden."""
        del obj

    def inst_persistent_id(self, obj: Any) -> Any:
        """Like `persistent_id`, but asked only for what the pickler has no built-in handling for. To be overridden."""
        del obj

    def global_persistent_id(self, obj: Any) -> Any:
        """Return an id for a class or function that would be written by its name, or None. To be overridden."""
        del obj

    # -------------------------------------------------------------------------------------------------------- the work

    def _check_ready(self) -> None:
        if not hasattr(self, "_memo"):
            message = f"Pickler.__init__() was not called by {type(self).__name__}.__init__()"
            raise PicklingError(message)
        self._check_idle()

    def _check_idle(self) -> None:
        if self._busy:
            message = "this pickler is in the middle of a dump"
            raise RuntimeError(message)

    def _hook(self, name: str) -> Hook | None:
        """Return a hook, or None where the user has given none."""
        hook: Hook = getattr(self, name)
        return None if getattr(hook, "__func__", None) is getattr(Pickler, name) else hook

    def _dump(self, obj: Any, sink: Callable[[bytes], object]) -> None:
        self._busy = True
        self._sink = sink
        out = self._out
        try:
            if self.proto >= 2:
                out += op.PROTO + _pack_u1(self.proto)
                if self.proto >= 4:
                    self._flush()
                    self._framing = True
            self._ask_inst = self._hook("inst_persistent_id")
            self._ask_global = self._hook("global_persistent_id")
            self._override = getattr(self, "reducer_override", MISSING)
            self._save(obj)
            out += op.STOP
            self._flush()
        finally:
            self._framing = False
            self._sink = _nowhere
            self._override = MISSING
            self._ask_inst = self._ask_global = None  # bound methods: references to ourselves
            self._busy = False
            out.clear()

    def _flush(self) -> None:
        """Hand over what was written, as one frame where the protocol has frames."""
        out = self._out
        if self._framing and len(out) >= _FRAME_LEAST:
            self._sink(op.FRAME + _pack_u8(len(out)) + out)
        elif out:
            self._sink(bytes(out))
        out.clear()

    def _write_large(self, header: bytes, data: bytes) -> None:
        """Write counted data; large data goes between two frames, straight to the file."""
        if len(data) < _FRAME_TARGET:
            self._out += header + data
            return
        self._flush()
        self._sink(header)
        self._sink(data)

    def _save(self, root: Any) -> None:
        """Write an object and all that it reaches."""
        out = self._out
        memo = self._memo
        atoms = self.canonical_atoms if self.canonical else self.atoms
        containers = self.containers
        ask = self._hook("persistent_id")
        table = self.persistent_ids
        unfinished: list[tuple[Any, Parts]] = []
        owner: Any = None
        parts: Parts = iter((root,))
        part: Any = None
        try:
            while True:
                for part in parts:
                    if len(out) >= _FRAME_TARGET:
                        self._flush()
                    if ask is not None and (pid := ask(part)) is not None:
                        opened = self.save_pers(pid)
                        if opened is None:
                            continue
                        unfinished.append((owner, parts))
                        owner, parts = _path.Open(part, step=".<persistent id>"), opened
                        break
                    save = atoms.get(type(part))
                    if save is None:
                        key = id(part)
                        if table is not None and (pid := table.get(key)) is not None:
                            opened = self.save_pers(pid)
                            if opened is None:
                                continue
                            unfinished.append((owner, parts))
                            owner, parts = _path.Open(part, step=".<persistent id>"), opened
                            break
                        if key in memo:
                            self._get(memo[key][0])
                            continue
                        save = containers.get(type(part))
                        if save is None:
                            opened = self.save_other(part)
                        else:
                            opened = save(self, part)
                    else:
                        opened = save(self, part)
                    if opened is not None:
                        unfinished.append((owner, parts))
                        owner, parts = part, opened
                        if self.fast:
                            _check_cycle(unfinished, owner)
                        break
                else:
                    if not unfinished:
                        return
                    owner, parts = unfinished.pop()
        except Unpicklable as error:
            if error.path is None:
                error.locate(_where(unfinished, owner, parts, part))
            raise
        except Exception as error:
            if hasattr(error, "add_note"):  # Python 3.11
                error.add_note(f"while pickling {_where(unfinished, owner, parts, part)}")
            raise

    def _open(self, obj: Any) -> Parts | None:
        """Write an object without asking any hook for an id for it."""
        save = (self.canonical_atoms if self.canonical else self.atoms).get(type(obj))
        if save is not None:
            return save(self, obj)
        entry = self._memo.get(id(obj))
        if entry is not None:
            self._get(entry[0])
            return None
        save = self.containers.get(type(obj))
        if save is not None:
            return save(self, obj)
        return self.save_other(obj, ask=False)

    # ------------------------------------------------------------------------------------------------------------ memo

    def _memoize(self, obj: Any) -> None:
        if self.fast:
            return
        memo = self._memo
        index = len(memo)
        memo[id(obj)] = index, obj
        if self.proto >= 4:
            self._out += op.MEMOIZE
        elif not self.bin:
            self._out += b"%b%d\n" % (op.PUT, index)
        elif index < 256:
            self._out += _SMALL_PUTS[index]
        else:
            self._out += op.LONG_BINPUT + _pack_u4(index)

    def _get(self, index: int) -> None:
        if not self.bin:
            self._out += b"%b%d\n" % (op.GET, index)
        elif index < 256:
            self._out += _SMALL_GETS[index]
        else:
            self._out += op.LONG_BINGET + _pack_u4(index)

    # -------------------------------------------------------------------------------------------------- persistent ids

    def save_pers(self, pid: Any) -> Parts | None:
        """Write a persistent id in place of an object."""
        if not self.bin:
            if type(pid) is not str or not pid.isascii() or not pid.isprintable():
                # The standard's words; it writes the str() of any other object here, which doesn't come back.
                raise WrongProtocol("persistent IDs in protocol 0 must be ASCII strings")
            self._out += b"%b%b\n" % (op.PERSID, pid.encode("ascii"))
            return None
        opened = self._open(pid)
        if opened is None:
            self._out += op.BINPERSID
            return None
        return self._then(opened, op.BINPERSID)

    def _then(self, parts: Parts, opcode: bytes) -> Parts:
        yield from parts
        self._out += opcode

    # ----------------------------------------------------------------------------------------------------------- atoms

    def save_none(self, _: None) -> None:
        self._out += op.NONE

    def save_bool(self, obj: bool) -> None:
        if self.proto >= 2:
            self._out += op.NEWTRUE if obj else op.NEWFALSE
        else:
            self._out += op.TRUE if obj else op.FALSE

    def save_int(self, obj: int) -> None:
        if self.bin:
            if 0 <= obj <= 0xFF:
                self._out += _SMALL_INTS[obj]
                return
            if 0 <= obj <= 0xFFFF:
                self._out += op.BININT2 + _pack_u2(obj)
                return
            if -0x80000000 <= obj <= 0x7FFFFFFF:
                self._out += op.BININT + _pack_i4(obj)
                return
        if self.proto >= 2:
            data = obj.to_bytes((obj.bit_length() >> 3) + 1, "little", signed=True)
            if obj < 0 and len(data) > 1 and data[-1] == 0xFF and data[-2] & 0x80:
                data = data[:-1]  # -128, -32768, ...: the last byte tells nothing that the one before doesn't
            if len(data) < 256:
                self._out += op.LONG1 + _pack_u1(len(data)) + data
            else:
                self._write_large(op.LONG4 + _pack_i4(len(data)), data)
        elif -0x80000000 <= obj <= 0x7FFFFFFF:
            self._out += b"%b%d\n" % (op.INT, obj)
        else:
            self._out += op.LONG + repr(obj).encode("ascii") + b"L\n"

    def save_float(self, obj: float) -> None:
        if self.bin:
            self._out += op.BINFLOAT + _pack_double(obj)
        else:
            self._out += op.FLOAT + repr(obj).encode("ascii") + b"\n"

    def save_str(self, obj: str) -> None:
        entry = self._memo.get(id(obj))
        if entry is not None:
            self._get(entry[0])
            return
        self._write_str(obj)
        self._memoize(obj)

    def save_canonical_str(self, obj: str) -> None:
        index = self._strings.get(obj)
        if index is not None:
            self._get(index)
            return
        self._write_str(obj)
        if not self.fast:
            self._strings[obj] = len(self._memo)
            self._memoize(obj)

    def _write_str(self, obj: str) -> None:
        if not self.bin:
            escaped = _UNSAFE.sub(_escape, obj) if _UNSAFE.search(obj) else obj
            self._out += op.UNICODE + escaped.encode("raw-unicode-escape") + b"\n"
            return
        data = obj.encode("utf-8", "surrogatepass")
        size = len(data)
        if size <= 0xFF and self.proto >= 4:
            self._out += op.SHORT_BINUNICODE + _pack_u1(size) + data
        elif size <= 0xFFFFFFFF:
            self._write_large(op.BINUNICODE + _pack_u4(size), data)
        elif self.proto >= 4:
            self._write_large(op.BINUNICODE8 + _pack_u8(size), data)
        else:
            raise UnpicklableOverflow("a string of more than 4 GiB needs protocol 4 or higher")

    def save_bytes(self, obj: bytes) -> Parts | None:
        entry = self._memo.get(id(obj))
        if entry is not None:
            self._get(entry[0])
            return None
        if self.proto >= 3:
            self._write_bytes(obj)
            self._memoize(obj)
            return None
        if not obj:
            return self._save_reduced(obj, Reduction(bytes, ()))
        # Python 2 reads this as a str of these bytes, Python 3 as bytes.
        return self._save_reduced(obj, Reduction(codecs.encode, (obj.decode("latin-1"), "latin1")))

    def _write_bytes(self, obj: bytes) -> None:
        size = len(obj)
        if size <= 0xFF:
            self._out += op.SHORT_BINBYTES + _pack_u1(size) + obj
        elif size <= 0xFFFFFFFF:
            self._write_large(op.BINBYTES + _pack_u4(size), obj)
        elif self.proto >= 4:
            self._write_large(op.BINBYTES8 + _pack_u8(size), obj)
        else:
            raise UnpicklableOverflow("bytes of more than 4 GiB need protocol 4 or higher")

    def save_bytearray(self, obj: bytearray) -> Parts | None:
        if self.proto < 5:
            return self._save_reduced(obj, Reduction(bytearray, (bytes(obj),) if obj else ()))
        self._write_large(op.BYTEARRAY8 + _pack_u8(len(obj)), bytes(obj))
        self._memoize(obj)
        return None

    def save_picklebuffer(self, obj: PickleBuffer) -> None:
        if self.proto < 5:
            raise WrongProtocol("PickleBuffer can only be pickled with protocol >= 5")
        try:
            view = obj.raw()
        except BufferError as error:
            raise Unpicklable("PickleBuffer can not be pickled when pointing to a non-contiguous buffer") from error
        with view:
            if self._buffer_callback is not None and not self._buffer_callback(obj):
                self._out += op.NEXT_BUFFER + (op.READONLY_BUFFER if view.readonly else b"")
                return
            if view.readonly:
                self._write_bytes(view.tobytes())
            else:
                self._write_large(op.BYTEARRAY8 + _pack_u8(view.nbytes), view.tobytes())
        self._memoize(obj)

    # ------------------------------------------------------------------------------------------------------ containers

    def save_tuple(self, obj: tuple[Any, ...]) -> Parts | None:
        if obj:
            return self._tuple_parts(obj)
        self._out += op.EMPTY_TUPLE if self.bin else op.MARK + op.TUPLE
        return None

    def _tuple_parts(self, obj: tuple[Any, ...]) -> Parts:
        size = len(obj)
        short = size <= 3 and self.proto >= 2
        if not short:
            self._out += op.MARK
        yield from obj
        entry = self._memo.get(id(obj))
        if entry is None:
            self._out += _TUPLES[size] if short else op.TUPLE
            self._memoize(obj)
            return
        # The tuple was written as a part of itself: it has been built by now, so the parts on the stack are dropped.
        if short:
            self._out += op.POP * size
        elif self.bin:
            self._out += op.POP_MARK
        else:
            self._out += op.POP * (size + 1)
        self._get(entry[0])

    def save_list(self, obj: list[Any]) -> Parts | None:
        self._out += op.EMPTY_LIST if self.bin else op.MARK + op.LIST
        self._memoize(obj)
        return self._list_parts(obj) if obj else None

    def _list_parts(self, obj: list[Any]) -> Parts:
        out = self._out
        if not self.bin:
            for item in obj:
                yield item
                out += op.APPEND
            return
        if len(obj) == 1:
            yield obj[0]
            out += op.APPEND
            return
        items = iter(obj)
        while True:
            out += op.MARK
            yield from islice(items, _BATCH)
            out += op.APPENDS
            if not items.__length_hint__():
                return

    def save_dict(self, obj: dict[Any, Any]) -> Parts | None:
        self._out += op.EMPTY_DICT if self.bin else op.MARK + op.DICT
        self._memoize(obj)
        return self._dict_parts(obj) if obj else None

    def _dict_parts(self, obj: dict[Any, Any]) -> Parts:
        out = self._out
        if not self.bin or len(obj) == 1:
            for key, value in obj.items():
                yield key
                yield value
                out += op.SETITEM
            return
        pairs = iter(obj.items())
        for _ in range(len(obj) // _BATCH + 1):  # behind a last batch that is full stands an empty one
            out += op.MARK
            for key, value in islice(pairs, _BATCH):
                yield key
                yield value
            out += op.SETITEMS

    def save_set(self, obj: set[Any]) -> Parts | None:
        if self.proto < 4:
            return self._save_reduced(obj, Reduction(set, (self._elements(obj),)))
        self._out += op.EMPTY_SET
        self._memoize(obj)
        return self._set_parts(obj) if obj else None

    def _set_parts(self, obj: set[Any]) -> Parts:
        out = self._out
        elements = iter(self._elements(obj) if self.canonical else obj)
        for _ in range(len(obj) // _BATCH + 1):  # as in _dict_parts
            out += op.MARK
            yield from islice(elements, _BATCH)
            out += op.ADDITEMS

    def save_frozenset(self, obj: frozenset[Any]) -> Parts:
        if self.proto < 4:
            return self._save_reduced(obj, Reduction(frozenset, (self._elements(obj),)))
        return self._frozenset_parts(obj)

    def _frozenset_parts(self, obj: frozenset[Any]) -> Parts:
        self._out += op.MARK
        yield from self._elements(obj) if self.canonical else obj
        entry = self._memo.get(id(obj))
        if entry is None:
            self._out += op.FROZENSET
            self._memoize(obj)
        else:  # as in _tuple_parts
            self._out += op.POP_MARK
            self._get(entry[0])

    def _elements(self, obj: set[Any] | frozenset[Any]) -> list[Any]:
        return _canonical.ordered(obj, self) if self.canonical else list(obj)

    # --------------------------------------------------------------------------------- classes, functions and instances

    def save_other(self, obj: Any, ask: bool = True) -> Parts | None:
        """Write what has no exact type of its own: classes, functions and instances."""
        cls = type(obj)
        by_name = cls is type or cls is FunctionType
        if (
            ask
            and self._ask_inst is not None
            and not by_name
            and cls is not BuiltinFunctionType
            and not issubclass(cls, type)
            and (pid := self._ask_inst(obj)) is not None
        ):
            return self.save_pers(pid)
        if self._override is not MISSING:
            value = self._override(obj)
            if value is not NotImplemented:
                return self._save_value(obj, check_reduction(value))
        if by_name:
            return self.save_type(obj) if cls is type else self.save_global(obj)
        table = getattr(self, "dispatch_table", copyreg.dispatch_table)
        if issubclass(cls, type) and registered(table, cls) is MISSING:
            return self.save_global(obj)
        if self.proto < 2 and hasattr(cls, "__getinitargs__") and registered(table, cls) is MISSING:
            arguments = old_style_arguments(obj)
            if arguments is not None:
                return self._save_old_style(obj, arguments)
        return self._save_value(obj, reduce_value(obj, self.proto, table))

    def _save_value(self, obj: Any, value: str | Reduction) -> Parts | None:
        if isinstance(value, str):
            return self.save_global(obj, value)
        return self._save_reduced(obj, value)

    def save_type(self, obj: type) -> Parts | None:
        if obj is type(None):
            return self._save_reduced(obj, Reduction(type, (None,)))
        if obj is type(NotImplemented):
            return self._save_reduced(obj, Reduction(type, (NotImplemented,)))
        if obj is type(...):
            return self._save_reduced(obj, Reduction(type, (...,)))
        return self.save_global(obj)

    def save_global(self, obj: Any, name: str | None = None) -> Parts | None:
        """Write an object by the name under which its module holds it."""
        if self._ask_global is not None and (pid := self._ask_global(obj)) is not None:
            return self.save_pers(pid)
        place = locate(obj, name)
        if self.proto >= 2 and (code := extension_code(place.module, place.name)) is not None:
            if code <= 0xFF:
                self._out += op.EXT1 + _pack_u1(code)
            elif code <= 0xFFFF:
                self._out += op.EXT2 + _pack_u2(code)
            else:
                self._out += op.EXT4 + _pack_i4(code)
            return None
        last = place.name.rpartition(".")[2]
        if self.proto >= 4:
            return self._global_parts(obj, place.module, last if place.top_level else place.name)
        if not place.top_level:
            if _OLD_NESTING and getattr(place.parent, "__qualname__", None) == place.name.rpartition(".")[0]:
                return self._attribute_parts(obj, place.parent, last)
            return self._path_parts(obj, place)
        self._write_global(place.module, last)
        self._memoize(obj)
        return None

    def _global_parts(self, obj: Any, module: str, name: str) -> Parts:
        yield module
        yield name
        self._out += op.STACK_GLOBAL
        self._memoize(obj)

    def _attribute_parts(self, obj: Any, parent: Any, name: str) -> Parts:
        yield getattr
        yield (parent, name)
        self._out += op.REDUCE
        self._memoize(obj)

    def _path_parts(self, obj: Any, place: Place) -> Parts:
        out = self._out
        first, *rest = place.name.split(".")
        for _ in rest:
            yield getattr
            if self.proto < 2:
                out += op.MARK
        self._write_global(place.module, first)
        for name in rest:
            yield name
            out += (op.TUPLE2 if self.proto >= 2 else op.TUPLE) + op.REDUCE
        self._memoize(obj)

    def _write_global(self, module: str, name: str) -> None:
        encoding = "utf-8" if self.proto >= 3 else "ascii"
        if self.fix_imports:
            module, name = to_python2(module, name)
        try:
            self._out += b"%b%b\n%b\n" % (op.GLOBAL, module.encode(encoding), name.encode(encoding))
        except UnicodeEncodeError as error:
            raise WrongProtocol(
                f"can't pickle global identifier '{module}.{name}' using pickle protocol {self.proto}"
            ) from error

    def _save_reduced(self, obj: Any, reduction: Reduction) -> Parts:
        """Write a reduction. A generator; `_where` reads its local variables."""
        out = self._out
        function, arguments, state, items, pairs, setter = reduction
        name = getattr(function, "__name__", None) if self.proto >= 2 else None
        if name == "__newobj__":
            cls = _class_of_newobj(obj, arguments)
            yield cls
            yield arguments[1:]
            out += op.NEWOBJ
        elif name == "__newobj_ex__":
            cls, positional, keywords = _parts_of_newobj_ex(obj, arguments)
            if self.proto >= 4:
                yield cls
                yield positional
                yield keywords
                out += op.NEWOBJ_EX
            else:
                yield functools.partial(cls.__new__, cls, *positional, **keywords)
                yield ()
                out += op.REDUCE
        else:
            yield function
            yield arguments
            out += op.REDUCE
        entry = self._memo.get(id(obj))
        if entry is not None:
            # It was reached again through its own arguments, so it is built and filled by now.
            out += op.POP
            self._get(entry[0])
            return
        self._memoize(obj)
        if items is not None:
            yield from self._batches(items, op.APPEND, op.APPENDS)
        if pairs is not None:
            yield from self._pair_batches(pairs)
        if state is None:
            return
        if setter is None:
            yield state
            out += op.BUILD
        else:
            yield setter
            yield obj
            yield state
            out += op.TUPLE2 + op.REDUCE + op.POP

    def _batches(self, items: Iterable[Any], one: bytes, many: bytes) -> Parts:
        """Write items that come from an iterator: it is asked for the next only when the last but one is written."""
        out = self._out
        if not self.bin:
            for item in items:
                yield item
                out += one
            return
        end = object()
        more = True
        while more:
            first = next(items, end)  # type: ignore[call-overload]
            if first is end:
                return
            second = next(items, end)  # type: ignore[call-overload]
            if second is end:
                yield first
                out += one
                return
            out += op.MARK
            yield first
            yield second
            count = 2
            for item in islice(items, _BATCH - 2):
                yield item
                count += 1
            out += many
            more = count == _BATCH

    def _pair_batches(self, pairs: Iterable[tuple[Any, Any]]) -> Parts:
        out = self._out
        if not self.bin:
            for pair in pairs:
                yield from _pair(pair)
                out += op.SETITEM
            return
        end = object()
        more = True
        while more:
            first = next(pairs, end)  # type: ignore[call-overload]
            if first is end:
                return
            second = next(pairs, end)  # type: ignore[call-overload]
            if second is end:
                yield from _pair(first)
                out += op.SETITEM
                return
            out += op.MARK
            yield from _pair(first)
            yield from _pair(second)
            count = 2
            for pair in islice(pairs, _BATCH - 2):
                yield from _pair(pair)
                count += 1
            out += op.SETITEMS
            more = count == _BATCH

    def _save_old_style(self, obj: Any, arguments: tuple[Any, ...]) -> Parts:
        """Write an instance as Python 2 wrote one of an old-style class."""
        out = self._out
        cls = type(obj)
        pid = None if self._ask_global is None else self._ask_global(cls)
        place = locate(cls) if pid is None else None
        by_name = not self.bin and place is not None and place.top_level
        out += op.MARK
        if not by_name:
            yield cls
        yield from arguments
        if by_name and place is not None:
            begin = len(out)
            self._write_global(place.module, place.name)
            out[begin : begin + 1] = op.INST
        else:
            out += op.OBJ
        entry = self._memo.get(id(obj))
        if entry is not None:  # as in _save_reduced
            out += op.POP
            self._get(entry[0])
            return
        self._memoize(obj)
        state = old_style_state(obj)
        if state is not None:
            yield state
            out += op.BUILD

    atoms: ClassVar[dict[type, Callable[[Any, Any], Parts | None]]] = {
        type(None): save_none,
        bool: save_bool,
        int: save_int,
        float: save_float,
        str: save_str,
        bytes: save_bytes,
    }
    canonical_atoms: ClassVar[dict[type, Callable[[Any, Any], Parts | None]]] = {**atoms, str: save_canonical_str}
    containers: ClassVar[dict[type, Callable[[Any, Any], Parts | None]]] = {
        tuple: save_tuple,
        list: save_list,
        dict: save_dict,
        set: save_set,
        frozenset: save_frozenset,
        bytearray: save_bytearray,
        PickleBuffer: save_picklebuffer,
    }


def _nowhere(_: bytes) -> None:
    """Where a pickler that isn't dumping would write to."""


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _pair(pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise UnpicklableType("dict items iterator must return 2-tuples")
    return pair


def _class_of_newobj(obj: Any, arguments: tuple[Any, ...]) -> type:
    if not arguments:
        raise Unpicklable("__newobj__ arglist is empty")
    cls = arguments[0]
    if not isinstance(cls, type):
        raise Unpicklable(f"args[0] from __newobj__ args is a {type(cls).__name__}, not a class")
    if cls is not obj.__class__:
        raise Unpicklable("args[0] from __newobj__ args has the wrong class")
    return cls


def _parts_of_newobj_ex(obj: Any, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    if len(arguments) != 3:
        raise Unpicklable(f"__newobj_ex__ needs 3 arguments, not {len(arguments)}")
    cls, positional, keywords = arguments
    if not isinstance(cls, type):
        raise Unpicklable(f"args[0] from __newobj_ex__ args is a {type(cls).__name__}, not a class")
    if cls is not obj.__class__:
        raise Unpicklable("args[0] from __newobj_ex__ args has the wrong class")
    if not isinstance(positional, tuple):
        raise Unpicklable(f"args[1] from __newobj_ex__ args is a {type(positional).__name__}, not a tuple")
    if not isinstance(keywords, dict):
        raise Unpicklable(f"args[2] from __newobj_ex__ args is a {type(keywords).__name__}, not a dict")
    return cls, positional, keywords


def _check_cycle(unfinished: list[tuple[Any, Parts]], owner: Any) -> None:
    """Refuse an object that is a part of itself, where there is no memo to find it in.

    Looked for whenever the depth has doubled: so the cost is in proportion to the depth.
    """
    depth = len(unfinished)
    if depth < 64 or depth & (depth - 1):
        return
    seen = {id(owner)}
    for obj, _ in unfinished[1:]:
        if id(obj) in seen:
            raise UnpicklableValue(f"fast mode: can't pickle cyclic objects including object type {type(obj).__name__}")
        seen.add(id(obj))


def _where(unfinished: list[tuple[Any, Parts]], owner: Any, parts: Parts, part: Any) -> str:
    """Return the path to what was being written when an exception came."""
    chain = []
    for obj, iterator in [*unfinished, (owner, parts)][1:]:
        if isinstance(obj, _path.Open):
            chain.append(obj)
            continue
        frame = getattr(iterator, "gi_frame", None)
        chain.append(_path.Open(obj, frame.f_locals.get("reduction") if frame is not None else None))
    if unfinished and hasattr(parts, "gi_frame") and parts.gi_frame is None:
        # The iterator itself failed: its object is at fault, not the part that it gave last.
        part = chain.pop().obj
    return _path.describe(chain, part)
