"""The reference pickler: what each object is written as. The bytes that it gives are the definition for both engines.

It must never know how a stream is read. Not recursive: a `save_x` writes an object that has no parts, and returns None;
for one that has parts it writes what comes before them, and returns an iterator over the parts and what is to be done
after them (bytes to write, or a function to call). Where something stands between the parts, the iterator is a generator
that writes it. `Pickler._save` keeps what isn't finished on a list.

The bytes are those of the standard library's C pickler, which differs from its Python one where a list, dict or set
has more than 1000 items, or exactly that many; and of a PickleBuffer written in band, and of an object that is reached
again through its own arguments, for which the Python one writes a faulty stream.
"""

from __future__ import annotations

import codecs
import copyreg
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice, repeat
from operator import length_hint
from pickle import PickleBuffer
from struct import Struct
from types import BuiltinFunctionType, FunctionType, GeneratorType
from typing import Any, ClassVar, TypeAlias

from . import _canonical, _path
from . import opcodes as op
from ._errors import Unpicklable, UnpicklableOverflow, WrongProtocol
from ._names import Place, extension_code, locate
from ._writing import (
    BATCH,
    BUSY,
    FRAME_LEAST,
    FRAME_TARGET,
    HIGHEST_PROTOCOL,
    IDS_IN_IDS,
    IDS_OF_IDS,
    MOST_OPEN,
    NO_FILE,
    Writable,
    bytes_of_int,
    check_endless,
    checked_pair,
    class_of_newobj,
    is_reduced_as_set,
    line_of,
    line_of_id,
    lines_of_global,
    memo_entries,
    not_initialised,
    parts_of_newobj_ex,
    protocol_number,
    too_many_ids,
    write_method,
)
from .reduction import (
    MISSING,
    Reduced,
    check_reduction,
    old_style_arguments,
    old_style_state,
    plain_state,
    reduce_plainly,
    registered,
)

__all__ = ["HIGHEST_PROTOCOL", "Pickler", "Writable"]

#: The parts of an object, in the order in which they are to be written.
Parts: TypeAlias = Iterator[Any]
#: What comes after them: bytes to write, or a function of the pickler and the object, which may open further parts.
Closing: TypeAlias = "bytes | Callable[[Pickler, Any], Opened | None]"
Opened: TypeAlias = "tuple[Parts, Closing]"
#: State, items, pairs and setter of a reduction: what an object is filled with once it is made.
Filling: TypeAlias = "tuple[Any, Iterator[Any] | None, Iterator[Any] | None, Callable[[Any, Any], Any] | None]"
Hook: TypeAlias = Callable[[Any], Any]

# How protocols 0 to 3 write a name in a class: from Python 3.13 on the standard module writes the whole path at once,
# before that it writes the class that holds the name as an object of its own (which never ends if that is the object).
_OLD_NESTING = sys.version_info < (3, 13)


_pack_u1 = Struct("<B").pack
_pack_u2 = Struct("<H").pack
_pack_u4 = Struct("<I").pack
_pack_i4 = Struct("<i").pack
_pack_u8 = Struct("<Q").pack
_pack_double = Struct(">d").pack

_SMALL_INTS = [op.BININT1 + _pack_u1(value) for value in range(256)]
_SMALL_GETS = [op.BINGET + _pack_u1(index) for index in range(256)]
_SMALL_PUTS = [op.BINPUT + _pack_u1(index) for index in range(256)]
_NEW = op.EMPTY_TUPLE + op.NEWOBJ
_TUPLES = (b"", op.TUPLE1, op.TUPLE2, op.TUPLE3)
_NO_FILLING: Filling = (None, None, None, None)
_newobj = copyreg.__newobj__  # type: ignore[attr-defined]  # missing in the stubs


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

    The hooks are methods to override, attributes to set on an instance, or keyword arguments; which there are is looked up
    when a dump begins. An id is any object but None; protocol 0 needs a str of printable ASCII characters.

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
            Or `protocol` isn't an int.
        ValueError: There is no such protocol, or it can't do what is asked for.
    """

    # Overridden or set by users; absent unless they do.
    dispatch_table: Mapping[type, Callable[[Any], Any]]
    reducer_override: Callable[[Any], Any]

    _busy = False
    _limit = FRAME_TARGET

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
        self.proto = protocol_number(protocol, buffers=buffer_callback is not None, canonical=canonical)
        self._file_write = write_method(file)
        self.bin = self.proto >= 1
        self.fast = False
        self.fix_imports = fix_imports and self.proto < 3
        self.persistent_ids = persistent_ids
        self._canonical = canonical
        if persistent_id is not None:
            self.persistent_id = persistent_id  # type: ignore[method-assign, assignment]
        if inst_persistent_id is not None:
            self.inst_persistent_id = inst_persistent_id  # type: ignore[method-assign, assignment]
        if global_persistent_id is not None:
            self.global_persistent_id = global_persistent_id  # type: ignore[method-assign, assignment]
        self._buffer_callback = buffer_callback
        self._memo: dict[int, int] = {}
        self._kept: list[Any] = []  # the objects in the memo: their ids must stay theirs
        self._strings: dict[str, int] = {}  # canonical only: the memo by value
        self._private: dict[int, Any] = {}  # by id: what is in the memo and ours alone, copies of states
        self._out = bytearray()  # what isn't handed to the file yet: the current frame
        self._framing = False
        self._sink: Callable[[bytes], object] = _nowhere
        self._open_ids = 0
        self._nested_ids = 0
        self._ask_inst: Hook | None = None
        self._ask_global: Hook | None = None
        self._override: Hook = MISSING
        self._table: Mapping[type, Callable[[Any], Any]] = MISSING
        self._hookless = True  # nobody is asked for the id of every object

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
            raise TypeError(NO_FILE)
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

    def dumps_state(self, obj: Any) -> bytes | None:
        """Return the state of an instance as one stream, without what the instance is made by.

        It is what `dumps` makes of a copy of that state; the copy is nobody's, so `memo` and `memoized` leave it out.

        Args:
            obj: The instance. What is registered for the reduction of its class isn't asked, nor is `reducer_override`.

        Returns:
            The stream; None where anything else than `object` itself has a say in the reduction or in the instance's
            attributes, or the instance is more than its class and a state, or the protocol is below 2. Then no code of
            the instance's has run.

        Raises:
            PicklingError: As `dump`.
            RuntimeError: As `dump`.
            Exception: As `dump`.
        """
        self._check_ready()
        found = plain_state(obj, self.proto)
        if found is None:
            return None
        (state,) = found
        parts = state if type(state) is tuple else ()
        self._private.update({id(part): part for part in (state, *parts) if part is not None})
        return self.dumps(state)

    def clear_memo(self) -> None:
        """Forget what was written, so that the next stream stands alone.

        Raises:
            RuntimeError: Called by a hook while this pickler is writing.
        """
        self._check_idle()
        self._memo.clear()
        self._kept.clear()
        self._strings.clear()
        self._private.clear()

    @property
    def memo(self) -> dict[int, tuple[int, Any]]:
        """What was written: ``{id(obj): (index, obj)}``, a copy. May be set, but not while the pickler is writing."""
        self._check_made()
        return {id(obj): (self._memo[id(obj)], obj) for obj in self._kept if id(obj) not in self._private}

    @memo.setter
    def memo(self, value: Mapping[int, tuple[int, Any]]) -> None:
        self._check_ready()
        entries = memo_entries(value)
        self._memo = {id(obj): index for index, obj in entries}
        self._kept = [obj for _, obj in entries]
        self._strings = {obj: index for index, obj in entries if type(obj) is str} if self._canonical else {}
        self._private.clear()

    def memoized(self, without: Iterable[type] = ()) -> list[Any]:
        """Return the objects in the memo, in the order of their indices.

        Args:
            without: Types; an object of exactly one of these is left out.
        """
        self._check_made()
        left_out = without if isinstance(without, (set, frozenset)) else frozenset(without)
        ids = set(map(id, left_out))  # a metaclass may say that other classes are equal
        return [obj for obj in self._kept if id(type(obj)) not in ids and id(obj) not in self._private]

    def persistent_id(self, obj: Any) -> Any:
        """Return the persistent id under which an object is stored elsewhere, or None. To be overridden."""
        del obj

    def inst_persistent_id(self, obj: Any) -> Any:
        """Like `persistent_id`, but asked only for what the pickler has no built-in handling for. To be overridden."""
        del obj

    def global_persistent_id(self, obj: Any) -> Any:
        """Return an id for a class or function that would be written by its name, or None. To be overridden."""
        del obj

    @property
    def canonical(self) -> bool:
        """Whether the bytes depend on nothing but the value."""
        return self._canonical

    # -------------------------------------------------------------------------------------------------------- the work

    def _check_made(self) -> None:
        if not hasattr(self, "_memo"):
            raise not_initialised(self)

    def _check_ready(self) -> None:
        self._check_made()
        self._check_idle()

    def _check_idle(self) -> None:
        if self._busy:
            raise RuntimeError(BUSY)

    def _hook(self, name: str) -> Hook | None:
        """Return a hook, or None where the user has given none."""
        hook: Hook = getattr(self, name)
        return None if getattr(hook, "__func__", None) is getattr(Pickler, name) else hook

    def _dump(self, obj: Any, sink: Callable[[bytes], object]) -> None:
        self._busy = True
        self._sink = sink
        out = self._out
        known = len(self._kept)
        try:
            if self.proto >= 2:
                out += op.PROTO + _pack_u1(self.proto)
                if self.proto >= 4:
                    self._flush()
                    self._framing = True
            self._open_ids = 0
            self._ask_inst = self._hook("inst_persistent_id")
            self._ask_global = self._hook("global_persistent_id")
            self._override = getattr(self, "reducer_override", MISSING)
            self._table = getattr(self, "dispatch_table", copyreg.dispatch_table)
            self._hookless = self._hook("persistent_id") is None
            self._save(obj)
            out += op.STOP
            self._flush()
        except BaseException:
            self._forget(known)  # what was begun in a stream that doesn't end can't be referred to
            raise
        finally:
            self._framing = False
            self._sink = _nowhere
            self._override = self._table = MISSING
            self._ask_inst = self._ask_global = None  # bound methods: references to ourselves
            self._busy = False
            out.clear()

    def _forget(self, known: int) -> None:
        """Leave no more than so many objects in the memo."""
        for obj in self._kept[known:]:
            self._memo.pop(id(obj), None)  # one that was written through its own name stands in the list twice
            if type(obj) is str:
                self._strings.pop(obj, None)
        del self._kept[known:]

    def _flush(self) -> None:
        """Hand over what was written, as one frame where the protocol has frames."""
        out = self._out
        if self._framing and len(out) >= FRAME_LEAST:
            self._sink(op.FRAME + _pack_u8(len(out)) + out)
        elif out:
            self._sink(bytes(out))
        out.clear()

    def _write_large(self, header: bytes, data: bytes) -> None:
        """Write counted data; large data goes between two frames, straight to the file."""
        if len(data) < FRAME_TARGET:
            self._out += header + data
            return
        self._flush()
        self._sink(header)
        self._sink(data)

    def _save(self, root: Any) -> None:
        """Write an object and all that it reaches."""
        self._nested_ids = 0
        out = self._out
        limit = self._limit
        memo = self._memo
        atoms = self.canonical_atoms if self._canonical else self.atoms
        containers = self.containers
        ask = self._hook("persistent_id")
        table = self.persistent_ids
        # Three entries for each object that is begun and not finished: itself, its iterator, what comes after that.
        unfinished: list[Any] = []
        watched = 3 * MOST_OPEN
        owner: Any = None
        parts: Parts = iter((root,))
        closing: Closing = b""
        part: Any = None
        try:
            while True:
                for part in parts:
                    if len(out) >= limit:
                        self._flush()
                        if len(unfinished) > watched:  # once in 64 KiB is often enough
                            check_endless(unfinished[3::3], fast=self.fast)
                            watched = 2 * len(unfinished)
                    opened: Opened | None
                    if ask is not None and (pid := ask(part)) is not None:
                        opened = self.save_pers(pid)
                    elif (save := atoms.get(type(part))) is not None:
                        opened = save(self, part)
                    elif table is not None and (pid := table.get(id(part))) is not None:
                        opened = self.save_pers(pid)
                    elif (index := memo.get(id(part))) is not None:
                        self._get(index)
                        continue
                    elif (save := containers.get(type(part))) is not None:
                        opened = save(self, part)
                    else:
                        opened = self.save_other(part)
                    if opened is not None:
                        unfinished += (owner, parts, closing)
                        owner = part
                        parts, closing = opened
                        break
                else:
                    if isinstance(closing, bytes):
                        out += closing
                    elif (opened := closing(self, owner)) is not None:
                        parts, closing = opened
                        continue
                    if not unfinished:
                        return
                    closing = unfinished.pop()
                    parts = unfinished.pop()
                    owner = unfinished.pop()
        except BaseException as error:
            unfinished += (owner, parts, closing)
            self._tell(error, unfinished[3:], part)
            raise

    def _tell(self, error: BaseException, unfinished: list[Any], part: Any) -> None:
        """Tell in an exception where in the object it came up."""
        if isinstance(error, Unpicklable):
            if error.path is None:
                error.locate(_where(unfinished, part))
        elif isinstance(error, Exception) and hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"while pickling {_where(unfinished, part)}")

    def _open(self, obj: Any) -> Opened | None:
        """Write an object without asking any hook for an id for it."""
        save = (self.canonical_atoms if self._canonical else self.atoms).get(type(obj))
        if save is not None:
            return save(self, obj)
        index = self._memo.get(id(obj))
        if index is not None:
            self._get(index)
            return None
        save = self.containers.get(type(obj))
        if save is not None:
            return save(self, obj)
        return self.save_other(obj, ask=False)

    # ------------------------------------------------------------------------------------------------------------ memo

    def _memoize(self, obj: Any) -> None:
        if self.fast:
            return
        index = len(self._kept)  # and not of the memo: what is written through its own name has a place more
        self._memo[id(obj)] = index
        self._kept.append(obj)
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

    def save_pers(self, pid: Any) -> Opened | None:
        """Write a persistent id in place of an object."""
        if not self.bin:
            self._out += b"%b%b\n" % (op.PERSID, line_of_id(pid))
            return None
        self._nested_ids += 1
        if self._nested_ids > IDS_OF_IDS:
            raise too_many_ids(IDS_OF_IDS)
        opened = self._open(pid)
        self._nested_ids -= 1
        if opened is None:
            self._out += op.BINPERSID
            return None
        self._open_ids += 1
        if self._open_ids > IDS_IN_IDS:
            raise too_many_ids(IDS_IN_IDS)
        return self._id_parts(pid, *opened), op.BINPERSID

    def _id_parts(self, pid: Any, parts: Parts, closing: Closing) -> Parts:
        step = ".<persistent id>"  # noqa: F841  # read by _where
        while True:
            yield from parts
            if isinstance(closing, bytes):
                self._out += closing
                break
            opened = closing(self, pid)
            if opened is None:
                break
            parts, closing = opened
        self._open_ids -= 1

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
            data = bytes_of_int(obj)
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
        index = self._memo.get(id(obj))
        if index is not None:
            self._get(index)
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
            self._strings[obj] = len(self._kept)
            self._memoize(obj)

    def _write_str(self, obj: str) -> None:
        if not self.bin:
            self._out += op.UNICODE + line_of(obj) + b"\n"
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

    def save_bytes(self, obj: bytes) -> Opened | None:
        index = self._memo.get(id(obj))
        if index is not None:
            self._get(index)
            return None
        if self.proto >= 3:
            self._write_bytes(obj)
            self._memoize(obj)
            return None
        if not obj:
            return self._save_call(obj, bytes)
        # Python 2 reads this as a str of these bytes, Python 3 as bytes.
        return self._save_call(obj, codecs.encode, obj.decode("latin-1"), "latin1")

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

    def save_bytearray(self, obj: bytearray) -> Opened | None:
        if self.proto < 5:
            return self._save_call(obj, bytearray, *((bytes(obj),) if obj else ()))
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

    def save_tuple(self, obj: tuple[Any, ...]) -> Opened | None:
        if not obj:
            self._out += op.EMPTY_TUPLE if self.bin else op.MARK + op.TUPLE
            return None
        if len(obj) > 3 or self.proto < 2:
            self._out += op.MARK
        return iter(obj), _close_tuple

    def save_list(self, obj: list[Any]) -> Opened | None:
        self._out += op.EMPTY_LIST if self.bin else op.MARK + op.LIST
        self._memoize(obj)
        if not obj:
            return None
        if len(obj) == 1 and self.bin:
            return repeat(obj[0], 1), op.APPEND
        if len(obj) <= BATCH and self.bin:
            self._out += op.MARK
            return iter(obj), op.APPENDS
        return self._list_parts(obj), b""

    def _list_parts(self, obj: list[Any]) -> Parts:
        out = self._out
        if not self.bin:
            for item in obj:
                yield item
                out += op.APPEND
            return
        items = iter(obj)
        while True:
            out += op.MARK
            yield from islice(items, BATCH)
            out += op.APPENDS
            if not length_hint(items):
                return

    def save_dict(self, obj: dict[Any, Any]) -> Opened | None:
        self._out += op.EMPTY_DICT if self.bin else op.MARK + op.DICT
        self._memoize(obj)
        if not obj:
            return None
        if len(obj) >= BATCH or not self.bin:
            return self._dict_parts(obj), b""
        if len(obj) == 1:
            return chain.from_iterable(obj.items()), op.SETITEM
        self._out += op.MARK
        return chain.from_iterable(obj.items()), op.SETITEMS

    def _dict_parts(self, obj: dict[Any, Any]) -> Parts:
        out = self._out
        if not self.bin:
            for pair in obj.items():
                yield from pair
                out += op.SETITEM
            return
        pairs = iter(obj.items())
        for _ in range(len(obj) // BATCH + 1):  # behind a last batch that is full stands an empty one
            out += op.MARK
            for pair in islice(pairs, BATCH):
                yield from pair
            out += op.SETITEMS

    def save_set(self, obj: set[Any]) -> Opened | None:
        if self.proto < 4:
            return self._save_call(obj, set, self._elements(obj))
        self._out += op.EMPTY_SET
        self._memoize(obj)
        if not obj:
            return None
        if len(obj) >= BATCH:
            return self._set_parts(obj), b""
        self._out += op.MARK
        return iter(self._elements(obj) if self._canonical else obj), op.ADDITEMS

    def _set_parts(self, obj: set[Any]) -> Parts:
        out = self._out
        elements = iter(self._elements(obj) if self._canonical else obj)
        for _ in range(len(obj) // BATCH + 1):  # as in _dict_parts
            out += op.MARK
            yield from islice(elements, BATCH)
            out += op.ADDITEMS

    def save_frozenset(self, obj: frozenset[Any]) -> Opened | None:
        if self.proto < 4:
            return self._save_call(obj, frozenset, self._elements(obj))
        self._out += op.MARK
        return iter(self._elements(obj) if self._canonical else obj), _close_frozenset

    def _elements(self, obj: set[Any] | frozenset[Any]) -> list[Any]:
        if not self._canonical:
            return list(obj)
        keys = _Keys(self, _canonical.LEVELS, [1000 + 16 * len(obj)])
        return keys._elements(obj)

    # --------------------------------------------------------------------------------- classes, functions and instances

    def save_other(self, obj: Any, *, ask: bool = True) -> Opened | None:
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
                return self._save_reduced(obj, check_reduction(value))
        if by_name:
            return self.save_type(obj) if cls is type else self.save_global(obj)
        table = self._table
        if issubclass(cls, type) and registered(table, cls) is MISSING:
            return self.save_global(obj)
        if self.proto < 2 and hasattr(cls, "__getinitargs__") and registered(table, cls) is MISSING:
            arguments = old_style_arguments(obj)
            if arguments is not None:
                return self._old_style_parts(obj, arguments), _close_old_style
        return self._save_reduced(obj, reduce_plainly(obj, self.proto, table))

    def _save_call(self, obj: Any, function: Callable[..., Any], *arguments: Any) -> Opened:
        """Write an object as the result of a call."""
        return self._call_parts(obj, function, arguments), partial(_close_call, _NO_FILLING)

    def _save_reduced(self, obj: Any, reduced: Reduced) -> Opened | None:
        if isinstance(reduced, str):
            return self.save_global(obj, reduced)
        function, arguments, state, items, pairs, setter = reduced
        if self._canonical and isinstance(obj, (set, frozenset)) and is_reduced_as_set(type(obj)):
            arguments = (self._elements(obj),)
        bare = items is None and pairs is None and setter is None
        if function is not _newobj or len(arguments) != 1 or self.proto < 2 or not bare:
            return self._call_parts(obj, function, arguments), partial(_close_call, (state, items, pairs, setter))
        # Most objects: no arguments but the class, nothing behind them but a state. A class that has been written
        # already, and that no hook is asked for, needs no generator.
        cls = class_of_newobj(obj, arguments)
        index = self._memo.get(id(cls))
        if (
            index is None
            or not self._hookless
            or (self.persistent_ids is not None and self.persistent_ids.get(id(cls)) is not None)
        ):
            return self._call_parts(obj, function, arguments), partial(_close_call, (state, items, pairs, setter))
        self._get(index)
        if len(self._out) >= self._limit:
            self._flush()
        self._out += _NEW
        self._memoize(obj)
        return None if state is None else (repeat(state, 1), op.BUILD)

    def save_type(self, obj: type) -> Opened | None:
        if obj is type(None):
            return self._save_call(obj, type, None)
        if obj is type(NotImplemented):
            return self._save_call(obj, type, NotImplemented)
        if obj is type(...):
            return self._save_call(obj, type, ...)
        return self.save_global(obj)

    def save_global(self, obj: Any, name: str | None = None) -> Opened | None:
        """Write an object by the name under which its module holds it."""
        if self._ask_global is not None and (pid := self._ask_global(obj)) is not None:
            return self.save_pers(pid)
        place = locate(obj, name)
        # The extension registry belongs to a process, so canonical bytes can't depend on it.
        if self.proto >= 2 and not self._canonical and (code := extension_code(place.module, place.name)) is not None:
            if code <= 0xFF:
                self._out += op.EXT1 + _pack_u1(code)
            elif code <= 0xFFFF:
                self._out += op.EXT2 + _pack_u2(code)
            else:
                self._out += op.EXT4 + _pack_i4(code)
            return None
        last = place.name.rpartition(".")[2]
        if self.proto >= 4:
            return self._global_parts(obj, place.module, last if place.top_level else place.name), b""
        if not place.top_level:
            if _OLD_NESTING and getattr(place.parent, "__qualname__", None) == place.name.rpartition(".")[0]:
                return self._attribute_parts(obj, place.parent, last), b""
            return self._path_parts(obj, place), b""
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
        self._out += op.GLOBAL + lines_of_global(module, name, self.proto, fix_imports=self.fix_imports)

    def _call_parts(self, obj: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Parts:
        """Write the call that makes an object. `_where` reads the local variable `step`."""
        out = self._out
        name = getattr(function, "__name__", None) if self.proto >= 2 else None
        step = ".__class__"
        if name == "__newobj__":
            yield class_of_newobj(obj, arguments)
            step = ".__reduce__()[1]"
            yield arguments[1:]
            out += op.NEWOBJ
        elif name == "__newobj_ex__":
            cls, positional, keywords = parts_of_newobj_ex(obj, arguments)
            if self.proto >= 4:
                yield cls
                step = ".__reduce__()[1][1]"
                yield positional
                step = ".__reduce__()[1][2]"
                yield keywords
                out += op.NEWOBJ_EX
            else:
                step = ".__reduce__()[1]"
                yield partial(cls.__new__, cls, *positional, **keywords)
                yield ()
                out += op.REDUCE
        else:
            step = ".__reduce__()[0]"
            yield function
            step = ".__reduce__()[1]"  # noqa: F841
            yield arguments
            out += op.REDUCE

    def _filling_parts(
        self,
        obj: Any,
        state: Any,
        items: Iterator[Any] | None,
        pairs: Iterator[Any] | None,
        setter: Callable[[Any, Any], Any] | None,
    ) -> Parts:
        """Write what an object is filled with once it is made. `_where` reads the local variable `step`."""
        out = self._out
        step = _path.ITEM
        if items is not None:
            yield from self._batches(items)
        if pairs is not None:
            yield from self._pair_batches(pairs)
        if state is None:
            return
        if setter is None:
            step = _path.STATE
            yield state
            out += op.BUILD
        else:
            step = ".__reduce__()[5]"
            yield setter
            yield obj
            step = _path.STATE  # noqa: F841
            yield state
            out += op.TUPLE2 + op.REDUCE + op.POP

    def _batches(self, items: Iterator[Any]) -> Parts:
        """Write items that come from an iterator; it is asked for the next two when all before them are written."""
        out = self._out
        if not self.bin:
            for item in items:
                yield item
                out += op.APPEND
            return
        while True:
            first = list(islice(items, 2))
            if len(first) < 2:
                for item in first:
                    yield item
                    out += op.APPEND
                return
            out += op.MARK
            yield from first
            count = 2
            for item in islice(items, BATCH - 2):
                yield item
                count += 1
            out += op.APPENDS
            if count < BATCH:
                return

    def _pair_batches(self, pairs: Iterator[tuple[Any, Any]]) -> Parts:
        out = self._out
        if not self.bin:
            for pair in pairs:
                yield from checked_pair(pair)
                out += op.SETITEM
            return
        while True:
            first = list(islice(pairs, 2))
            if len(first) < 2:
                for pair in first:
                    yield from checked_pair(pair)
                    out += op.SETITEM
                return
            out += op.MARK
            count = 2
            for pair in chain(first, islice(pairs, BATCH - 2)):
                yield from checked_pair(pair)
                count += 1
            out += op.SETITEMS
            if count < BATCH + 2:
                return

    def _old_style_parts(self, obj: Any, arguments: tuple[Any, ...]) -> Parts:
        """Write an instance as Python 2 wrote one of an old-style class, up to its state."""
        out = self._out
        cls = type(obj)
        pid = None if self._ask_global is None else self._ask_global(cls)
        place = locate(cls) if pid is None else None
        by_name = not self.bin and place is not None and place.top_level
        out += op.MARK
        step = ".__class__"
        if not by_name:
            yield cls
        step = ".__getinitargs__()[...]"  # noqa: F841
        yield from arguments
        if by_name and place is not None:
            begin = len(out)
            self._write_global(place.module, place.name)
            out[begin : begin + 1] = op.INST
        else:
            out += op.OBJ

    atoms: ClassVar[dict[type, Callable[[Any, Any], Opened | None]]] = {
        type(None): save_none,
        bool: save_bool,
        int: save_int,
        float: save_float,
        str: save_str,
        bytes: save_bytes,
    }
    canonical_atoms: ClassVar[dict[type, Callable[[Any, Any], Opened | None]]] = {**atoms, str: save_canonical_str}
    containers: ClassVar[dict[type, Callable[[Any, Any], Opened | None]]] = {
        tuple: save_tuple,
        list: save_list,
        dict: save_dict,
        set: save_set,
        frozenset: save_frozenset,
        bytearray: save_bytearray,
        PickleBuffer: save_picklebuffer,
    }


def _close_tuple(pickler: Pickler, obj: tuple[Any, ...]) -> None:
    size = len(obj)
    short = size <= 3 and pickler.proto >= 2
    index = pickler._memo.get(id(obj))
    if index is None:
        pickler._out += _TUPLES[size] if short else op.TUPLE
        pickler._memoize(obj)
        return
    # The tuple was written as a part of itself: it has been built by now, so the parts on the stack are dropped.
    if short:
        pickler._out += op.POP * size
    elif pickler.bin:
        pickler._out += op.POP_MARK
    else:
        pickler._out += op.POP * (size + 1)
    pickler._get(index)


def _close_frozenset(pickler: Pickler, obj: frozenset[Any]) -> None:
    index = pickler._memo.get(id(obj))
    if index is None:
        pickler._out += op.FROZENSET
        pickler._memoize(obj)
    else:  # as in _close_tuple
        pickler._out += op.POP_MARK
        pickler._get(index)


def _close_call(filling: Filling, pickler: Pickler, obj: Any) -> Opened | None:
    index = pickler._memo.get(id(obj))
    if index is not None:
        # It was reached again through the arguments of the call, so it is made and filled by now.
        pickler._out += op.POP
        pickler._get(index)
        return None
    pickler._memoize(obj)
    if filling is _NO_FILLING:
        return None
    state, items, pairs, setter = filling
    if items is not None or pairs is not None or setter is not None:
        return pickler._filling_parts(obj, state, items, pairs, setter), b""
    return None if state is None else (repeat(state, 1), op.BUILD)


def _close_old_style(pickler: Pickler, obj: Any) -> Opened | None:
    return _close_call((old_style_state(obj), None, None, None), pickler, obj)


def _nowhere(_: bytes) -> None:
    """Where a pickler that isn't dumping would write to."""


def _where(unfinished: list[Any], part: Any) -> str:
    """Return the path to what was being written when an exception came."""
    places = []
    for obj, parts, closing in zip(unfinished[::3], unfinished[1::3], unfinished[2::3], strict=True):
        step = _path.STATE if closing == op.BUILD else None
        frame = getattr(parts, "gi_frame", None)
        if frame is not None:
            step = frame.f_locals.get("step")
        places.append(_path.Open(obj, step))
    if unfinished and _is_over(unfinished[-2]):
        part = places.pop().obj  # its parts are written: it is the object itself that can't be
    return _path.describe(places, part)


def _is_over(parts: Parts) -> bool:
    return isinstance(parts, GeneratorType) and parts.gi_frame is None


class _Keys(Pickler):
    """Pickles elements of a set, each alone, into the keys by which they are ordered.

    With the hooks of a pickler, but no further than a limit, and through so many sets within sets.

    Args:
        pickler: The pickler that wants to know.
        level: How far to go. At level 0 a set within an element goes in by its size alone, unless it sorts by itself.
        work: How many keys may still be made, in a list.
    """

    def __init__(self, pickler: Pickler, level: int, work: list[int]) -> None:
        super().__init__(
            None, pickler.proto, pickler.fix_imports, canonical=True, persistent_ids=pickler.persistent_ids
        )
        self._pickler = pickler
        self._level = level
        self._work = work
        self._limit = 256 << 4 * level
        self._whole = True
        self._lower: dict[int, _Keys] = {}
        if (ask := pickler._hook("persistent_id")) is not None:
            self.persistent_id = ask  # type: ignore[method-assign, assignment]
            self._hookless = False
        self._ask_inst = pickler._ask_inst
        self._ask_global = pickler._ask_global
        self._override = pickler._override
        self._table = pickler._table

    def key(self, element: Any) -> tuple[bytes, bool]:
        """Return the key of an element, and whether it holds all of it."""
        self.clear_memo()
        self._out.clear()
        self._whole = True
        try:
            self._save(element)
        except _Cut:
            self._whole = False
        except Unpicklable:
            pass  # the pickler itself will come to it, and tell where it is
        return bytes(self._out), self._whole

    def _key_of(self, element: Any, level: int) -> tuple[bytes, bool]:
        self._work[0] -= 1
        if self._work[0] < 0:
            raise _canonical.Enough
        keys = self._lower.get(level)
        if keys is None:
            keys = self._lower[level] = _Keys(self._pickler, level, self._work)
        return keys.key(element)

    def _elements(self, obj: set[Any] | frozenset[Any]) -> list[Any]:
        items = _canonical.ordered(obj, self._key_of, self._level)
        if items is None:
            self._whole = False
            return [len(obj)]
        return items

    def _flush(self) -> None:
        raise _Cut

    def _write_large(self, header: bytes, data: bytes) -> None:
        self._out += header + data[: self._limit]
        if len(data) > self._limit:
            raise _Cut

    def _tell(self, error: BaseException, unfinished: list[Any], part: Any) -> None:
        """Say nothing: the way from the element on isn't the way from the root."""


class _Cut(Exception):  # not an error: it ends a key that is long enough
    """The key is long enough."""
