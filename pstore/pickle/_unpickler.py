"""The reference unpickler: what each opcode does.

A method ``load_x`` for each opcode X of the table, looked up by that name, so that a subclass may override any of them.
It must never know how streams are written.

A stream may hold anything. What no pickler writes ends in a subclass of UnpicklingError (`Malformed`), and memory is
used only in proportion to the bytes that are there. The handlers fall in two kinds: most do nothing but read and build
values of builtin types, and whatever exception comes up in them is the stream's fault (`explain` tells which); those in
`CALLING` run somebody's code, whose exceptions pass through, so they check the stream themselves.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from io import BytesIO
from struct import Struct
from typing import Any, ClassVar, NoReturn

from . import opcodes as op
from ._errors import (
    Malformed,
    MalformedValue,
    Truncated,
    UnpicklingError,
)
from ._names import from_python2, resolve
from ._reading import (
    BUSY,
    CALLING,
    CUT,
    FEW_BUFFERS,
    GLOBAL_EMPTY,
    GLOBAL_NOT_TEXT,
    HASH_WORK,
    HASH_WORK_PER_BYTE,
    HIGHEST_PROTOCOL,
    ID_NOT_PLAIN,
    ID_TOO_LONG,
    ID_WORK,
    ID_WORK_PER_BYTE,
    KEY_DEPTH,
    MEMO_NEGATIVE,
    MEMO_TYPE,
    NEGATIVE,
    NO_BUFFERS,
    NO_FILE,
    NO_INPUT,
    NO_LOADER,
    NO_MARK,
    NO_MEMO,
    NO_STREAM,
    ODD,
    OPAQUE,
    PUT_NEGATIVE,
    SNIFFING,
    UNDERFLOW,
    UNKNOWN,
    UNSET,
    Opaque,
    add_items,
    append_item,
    check_call,
    explain,
    extend_with,
    extension,
    id_of_line,
    instantiate,
    method_of,
    new_object,
    not_initialised,
    opcode_name,
    python2_text,
    readonly_view,
    refused,
    set_items,
    text_of,
    too_deep_to_hash,
    too_long_to_hash,
    unhashable,
    unquoted,
    wrong_protocol,
)
from ._source import FileSource, Readable
from .reduction import apply_state, refuse_named

__all__ = ["HIGHEST_PROTOCOL", "OPAQUE", "Unpickler"]

_unpack_u2 = Struct("<H").unpack
_unpack_u4 = Struct("<I").unpack
_unpack_i4 = Struct("<i").unpack
_unpack_u8 = Struct("<Q").unpack
_unpack_double = Struct(">d").unpack

# Types whose values are hashed at once. (A frozenset's elements were hashed when it was made.)
_FLAT = frozenset({str, int, float, complex, bool, bytes, type(None), frozenset, Opaque})
_TUPLE_HASH: Any = tuple.__hash__  # namedtuples have it too
_WALKED = (tuple, list, set, frozenset, dict)

_Handler = Callable[[Any], None]


class Unpickler:
    """Reads objects from pickle streams.

    One unpickler may load several streams, one after another; its memo is kept between them, as the pickler's was when
    it wrote them.

    Hooks are methods to override, attributes to set on an instance, or keyword arguments. In the reference engine
    (`pstore.pickle._python`) every method ``load_x`` may be overridden too; it uses `read`, `readline`, `stack` and
    `append`. The native engine refuses a subclass that has such a method.

    Args:
        file: What the streams are read from; needs the methods ``read(size)`` and ``readline()``. None for one that is
            given its input by `feed`.
        fix_imports: Find what Python 3 has renamed under its old names, in streams of protocols 0 to 2.
        encoding: Encoding of Python 2's str; ``"bytes"`` to get them as bytes.
        errors: What is done about bytes that aren't text in that encoding, as in `bytes.decode`.
        buffers: The buffers that the pickler gave to its ``buffer_callback``, in that order.
        persistent_load: Called with each persistent id for the object it stands for; or a list, to which the ids are
            appended, each then standing for itself (as in cPickle).
        find_global: Called as ``find_global(module, name)`` for each class or function, in place of `find_class` and
            with the names as they stand in the stream; None refuses every one. Who gives it decides what a stream may
            name; so the stream can't change what it names either: a state for a class, function or module is refused.
        persistent_objects: Mapping from persistent ids to objects, looked at before `persistent_load` is called; only for
            ids that are exact int or str.

    Raises:
        AttributeError: `file` lacks one of the methods.
    """

    find_global: Callable[[str, str], Any] | None  # absent unless the user sets it

    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    append: Callable[[Any], None]
    stack: list[Any]

    _busy = False
    _guarded = False
    _handlers: ClassVar[dict[bytes, _Handler]] = {}
    _noload_handlers: ClassVar[dict[bytes, _Handler]] = {}
    _calling: ClassVar[frozenset[bytes]] = CALLING

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._bind()

    @classmethod
    def _bind(cls) -> None:
        """Find the handler of each opcode by its name."""
        unknown: _Handler = cls._load_unknown
        cls._handlers = {bytes([code]): unknown for code in range(256)} | {b"": cls._load_end}
        cls._noload_handlers = dict(cls._handlers)
        calling = set(CALLING)
        for opcode in op.OPCODES:
            name = "load_" + opcode.name.lower()
            handler: _Handler = getattr(cls, name)
            cls._handlers[opcode.code] = handler
            if handler is not getattr(Unpickler, name):
                calling.add(opcode.code)
            cls._noload_handlers[opcode.code] = getattr(cls, "no" + name, handler)
        cls._calling = frozenset(calling)

    def __init__(
        self,
        file: Readable | None = None,
        *,
        fix_imports: bool = True,
        encoding: str = "ASCII",
        errors: str = "strict",
        buffers: Iterable[Any] | None = None,
        persistent_load: Callable[[Any], Any] | list[Any] | None = None,
        find_global: Callable[[str, str], Any] | None = UNSET,
        persistent_objects: Mapping[Any, Any] | None = None,
    ) -> None:
        self._check_idle()
        self._file: FileSource | None = None
        self._memory: BytesIO | None = None
        if type(file) is BytesIO:
            self._memory = file  # reading from memory needs no care
        elif file is not None:
            try:
                self._file = FileSource(file)
            except AttributeError:
                raise AttributeError(NO_FILE) from None
        self.fix_imports = fix_imports
        self.encoding = encoding
        self.errors = errors
        self.proto = 0
        self.persistent_objects = persistent_objects
        if persistent_load is not None:
            self.persistent_load = persistent_load  # type: ignore[method-assign,assignment]
        if find_global is not UNSET:
            self.find_global = find_global
        self._buffers = None if buffers is None else iter(buffers)
        self._memo: dict[int, Any] = {}
        self._hash_work = 0  # see _check_keys
        self._id_work = 0  # see _check_id
        self._reset()

    # ------------------------------------------------------------------------------------------------------- interface

    def load(self) -> Any:
        """Read one stream and return its object.

        Raises:
            EOFError: There is no further stream, or it is cut short.
            UnpicklingError: The stream is malformed, or names what `find_global` refuses.
            RuntimeError: Called by a hook while this unpickler is loading.
            TypeError: There is nothing to read from.
            Exception: Whatever hooks, imports, the file, and the code of the classes that the stream names raise.
        """
        return self._load(self._handlers)

    def load_state(self, inst: Any) -> None:
        """Read one stream, whose object is a state, and put it into an instance as the opcode BUILD would.

        Args:
            inst: The instance; nothing is done with it where the state is None, or the stream can't be read.

        Raises:
            EOFError: As `load`.
            UnpicklingError: As `load`; or the instance can't take the state.
            RuntimeError: As `load`.
            TypeError: As `load`.
            Exception: As `load`; and whatever a ``__setstate__`` of the instance raises.
        """
        state = self._load(self._handlers)
        if state is not None:
            apply_state(inst, state)

    def noload(self) -> None:
        """Run one stream without importing or building anything but atoms and builtin containers.

        `persistent_load` is given exactly the ids that `load` would give it, in the same order.

        Raises:
            EOFError: As `load`.
            UnpicklingError: As `load`; or an id contains what can't be told without building it.
            RuntimeError: As `load`.
            TypeError: As `load`.
            Exception: Whatever `persistent_load` or the file raises.
        """
        self._load(self._noload_handlers)

    def feed(self, data: Any, buffers: Iterable[Any] | None = None) -> None:
        """Give new input, and forget what was read before.

        Args:
            data: A bytes-like object that holds one stream, or several behind one another.
            buffers: As for the class.

        Raises:
            RuntimeError: Called by a hook while this unpickler is loading.
            TypeError: `data` isn't bytes-like.
        """
        self._check_idle()
        self._memory = BytesIO(data if type(data) is bytes else memoryview(data).tobytes())
        self._file = None
        self._buffers = None if buffers is None else iter(buffers)
        self._memo.clear()

    def clear_memo(self) -> None:
        """Forget what was read.

        Raises:
            RuntimeError: Called by a hook while this unpickler is loading.
        """
        self._check_idle()
        self._memo.clear()

    @property
    def memo(self) -> dict[int, Any]:
        """What was read: ``{index: object}``. May be replaced, but not while the unpickler is loading."""
        return self._memo

    @memo.setter
    def memo(self, value: Mapping[int, Any]) -> None:
        self._check_idle()
        if not isinstance(value, Mapping) or not all(isinstance(index, int) for index in value):
            raise TypeError(MEMO_TYPE)
        if any(index < 0 for index in value):
            raise ValueError(MEMO_NEGATIVE)
        self._memo = {int(index): obj for index, obj in value.items()}

    def persistent_load(self, pid: Any) -> Any:
        """Return the object that a persistent id stands for. To be overridden, or set to a list.

        Raises:
            UnpicklingError: Always, unless it is overridden.
        """
        del pid
        raise Malformed(NO_LOADER)

    def find_class(self, module: str, name: str) -> Any:
        """Return what a module holds under a name. To be overridden.

        Args:
            module: Name of the module as it stands in the stream.
            name: Name in it; from protocol 4 on it may be a dotted path.

        Raises:
            ImportError: There is no such module; and whatever its code raises.
            AttributeError: It has no such name.
        """
        sys.audit("pickle.find_class", module, name)
        if self.fix_imports and self.proto < 3:
            module, name = from_python2(module, name)
        return resolve(module, name, dotted=self.proto >= 4)

    # -------------------------------------------------------------------------------------------------------- the work

    def _check_idle(self) -> None:
        if self._busy:
            raise RuntimeError(BUSY)

    def _reset(self) -> None:
        self.stack = []
        self.metastack: list[list[Any]] = []
        self.append = self.stack.append
        # By id, the containers that `noload` has found to hold nothing which wasn't built, since one was last filled.
        self._walked: dict[int, Any] = {}
        # Set while loading only: bound methods are references to ourselves.
        self._find: Callable[[str, str], Any] = UNSET
        self._ask: Callable[[Any], Any] = UNSET

    def _load(self, handlers: dict[bytes, _Handler]) -> Any:
        if not hasattr(self, "_memo"):
            raise UnpicklingError(not_initialised(type(self)))
        self._check_idle()
        memory, file = self._memory, self._file
        start = 0
        read_opcode: Callable[[], bytes]
        if memory is not None:
            start = memory.tell()
            self.read = memory.read
            self.readline = memory.readline
            read_opcode = partial(memory.read, 1)
        elif file is not None:
            file.begin()
            self.read = file.read
            self.readline = file.readline
            read_opcode = file.read_opcode
        else:
            raise TypeError(NO_INPUT)
        self._busy = True
        opcode = b""
        try:
            opcode = read_opcode()
            if not opcode:
                raise EOFError(NO_STREAM)
            self._prepare()
            while opcode != op.STOP:
                handlers[opcode](self)
                opcode = read_opcode()
            return self.stack.pop()
        except Malformed as error:
            if error.offset is None:
                error.offset, error.opcode = self._position(start, opcode)
            raise
        except (IndexError, TypeError, ValueError, OverflowError, struct.error) as error:
            calling = SNIFFING if handlers is self._noload_handlers else self._calling
            if opcode in calling or (file is not None and file.failed):
                raise
            malformed = explain(error, opcode)
            malformed.offset, malformed.opcode = self._position(start, opcode)
            raise malformed from error
        finally:
            try:
                if file is not None:
                    file.end()
            finally:
                self._busy = False
                self._reset()

    def _prepare(self) -> None:
        self.proto = 0
        self._hash_work = 0
        self._id_work = 0
        find = getattr(self, "find_global", UNSET)
        self._guarded = find is not UNSET
        if find is None:
            self._find = self._refuse
        else:
            self._find = self.find_class if find is UNSET else find
        ask = self.persistent_load
        self._ask = _appender(ask) if isinstance(ask, list) else ask

    def _reached(self) -> int:
        """Return how many bytes of the stream are read, and perhaps of those before it."""
        if self._memory is not None:
            return self._memory.tell()
        return 0 if self._file is None else self._file.tell()

    def _position(self, start: int, opcode: bytes) -> tuple[int, str | None]:
        """Return offset and name of the opcode that is being run."""
        name = opcode_name(opcode)
        data, base, reached = b"", 0, 0
        if self._memory is not None:
            data, base, reached = self._memory.getvalue(), start, self._memory.tell()
        elif self._file is not None:
            if self._file.opcode_at is not None:
                return self._file.opcode_at, name
            data, start, base = self._file.window, 0, -self._file.window_at
            reached = self._file.tell_window()
        if not opcode:  # the end, where there should be one
            return reached - base, name
        at = start
        for offset, _, _, end in op.scan(data, start):
            if end >= reached:
                return offset - base, name
            at = end  # where the walk ends, the next opcode is the one: it is unknown, or its argument is cut
        return at - base, name

    def _refuse(self, module: str, name: str) -> NoReturn:
        raise refused(module, name)

    def pop_mark(self) -> list[Any]:
        """Return what lies above the topmost mark, and take it and the mark from the stack."""
        items = self.stack
        if not self.metastack:
            raise Malformed(NO_MARK)
        self.stack = self.metastack.pop()
        self.append = self.stack.append
        return items

    def _pop(self) -> Any:
        if not self.stack:
            raise Malformed(UNDERFLOW)
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack:
            raise Malformed(UNDERFLOW)
        return self.stack[-1]

    def _line(self) -> bytes:
        """Read a line; return it without its newline."""
        line = self.readline()
        if line[-1:] != b"\n":
            raise Truncated(CUT)
        return line[:-1]

    def _counted(self, size: int) -> bytes:
        """Read as many bytes as were announced."""
        if size > sys.maxsize:
            raise Truncated(CUT)
        data = self.read(size)
        if len(data) != size:
            raise Truncated(CUT)
        return data

    def _load_end(self) -> NoReturn:
        raise Truncated(CUT)

    def _load_unknown(self) -> NoReturn:
        raise Malformed(UNKNOWN)

    # --------------------------------------------------------------------------------------------- the stream and stack

    def load_proto(self) -> None:
        proto = ord(self.read(1))
        if proto > HIGHEST_PROTOCOL:
            raise wrong_protocol(proto)
        self.proto = proto

    def load_frame(self) -> None:
        (size,) = _unpack_u8(self.read(8))
        memory = self._memory
        if memory is not None:
            begin = memory.tell()
            there = memory.seek(0, 2) - begin >= size
            memory.seek(begin)
        else:
            there = self._file is not None and self._file.fetch(size)
        if not there:
            raise Truncated(CUT)

    def load_stop(self) -> None:
        """Never called: the loop ends here."""

    def load_mark(self) -> None:
        self.metastack.append(self.stack)
        self.stack = []
        self.append = self.stack.append

    def load_pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def load_pop_mark(self) -> None:
        self.pop_mark()

    def load_dup(self) -> None:
        self.append(self.stack[-1])

    # ------------------------------------------------------------------------------------------------------------ memo

    def load_memoize(self) -> None:
        memo = self._memo
        memo[len(memo)] = self.stack[-1]

    def load_put(self) -> None:
        index = int(self._line())
        if index < 0:
            raise MalformedValue(PUT_NEGATIVE)
        self._memo[index] = self.stack[-1]

    def load_binput(self) -> None:
        self._memo[ord(self.read(1))] = self.stack[-1]

    def load_long_binput(self) -> None:
        (index,) = _unpack_u4(self.read(4))
        self._memo[index] = self.stack[-1]

    def load_get(self) -> None:
        self._get(int(self._line()))

    def load_binget(self) -> None:
        index = ord(self.read(1))
        try:
            self.append(self._memo[index])
        except KeyError:
            raise Malformed(NO_MEMO % index) from None

    def load_long_binget(self) -> None:
        self._get(*_unpack_u4(self.read(4)))

    def _get(self, index: int) -> None:
        try:
            self.append(self._memo[index])
        except KeyError:
            raise Malformed(NO_MEMO % index) from None

    # ----------------------------------------------------------------------------------------------------------- atoms

    def load_none(self) -> None:
        self.append(None)

    def load_newtrue(self) -> None:
        self.append(True)

    def load_newfalse(self) -> None:
        self.append(False)

    def load_int(self) -> None:
        line = self._line()
        if line == b"00":
            self.append(False)
        elif line == b"01":
            self.append(True)
        else:
            self.append(int(line, 0))

    def load_binint(self) -> None:
        self.append(_unpack_i4(self.read(4))[0])

    def load_binint1(self) -> None:
        self.append(ord(self.read(1)))

    def load_binint2(self) -> None:
        self.append(_unpack_u2(self.read(2))[0])

    def load_long(self) -> None:
        self.append(int(self._line().removesuffix(b"L"), 0))

    def load_long1(self) -> None:
        self.append(int.from_bytes(self._counted(ord(self.read(1))), "little", signed=True))

    def load_long4(self) -> None:
        self.append(int.from_bytes(self._counted(self._signed_length()), "little", signed=True))

    def load_float(self) -> None:
        self.append(float(self._line()))

    def load_binfloat(self) -> None:
        self.append(_unpack_double(self.read(8))[0])

    def load_unicode(self) -> None:
        self.append(str(self._line(), "raw-unicode-escape"))

    def load_short_binunicode(self) -> None:
        size = ord(self.read(1))
        data = self.read(size)
        if len(data) != size:
            raise Truncated(CUT)
        self.append(str(data, "utf-8", "surrogatepass"))

    def load_binunicode(self) -> None:
        self.append(str(self._counted(*_unpack_u4(self.read(4))), "utf-8", "surrogatepass"))

    def load_binunicode8(self) -> None:
        self.append(str(self._counted(*_unpack_u8(self.read(8))), "utf-8", "surrogatepass"))

    def load_short_binbytes(self) -> None:
        self.append(self._counted(ord(self.read(1))))

    def load_binbytes(self) -> None:
        self.append(self._counted(*_unpack_u4(self.read(4))))

    def load_binbytes8(self) -> None:
        self.append(self._counted(*_unpack_u8(self.read(8))))

    def load_bytearray8(self) -> None:
        (size,) = _unpack_u8(self.read(8))
        if self._memory is not None or self._file is None:
            self.append(bytearray(self._counted(size)))
            return
        data = self._file.read_bytearray(size) if size <= sys.maxsize else bytearray()
        if len(data) != size:
            raise Truncated(CUT)
        self.append(data)

    # Python 2's str: text or bytes, as the user says.

    def load_string(self) -> None:
        self._append_string(unquoted(self._line()))

    def load_binstring(self) -> None:
        self._append_string(self._counted(self._signed_length()))

    def load_short_binstring(self) -> None:
        self._append_string(self._counted(self._length1()))

    def _append_string(self, data: bytes) -> None:
        self.append(python2_text(data, self.encoding, self.errors))

    def _length1(self) -> int:
        data = self.read(1)
        if not data:
            raise Truncated(CUT)
        return ord(data)

    def _signed_length(self) -> int:
        data = self.read(4)
        if len(data) != 4:
            raise Truncated(CUT)
        size: int = _unpack_i4(data)[0]
        if size < 0:
            raise Malformed(NEGATIVE)
        return size

    # ------------------------------------------------------------------------------------------------------ containers

    def load_empty_tuple(self) -> None:
        self.append(())

    def load_tuple1(self) -> None:
        stack = self.stack
        stack[-1] = (stack[-1],)

    def load_tuple2(self) -> None:
        stack = self.stack
        second = stack.pop()
        stack[-1] = (stack[-1], second)

    def load_tuple3(self) -> None:
        stack = self.stack
        third = stack.pop()
        second = stack.pop()
        stack[-1] = (stack[-1], second, third)

    def load_tuple(self) -> None:
        items = self.pop_mark()
        self.append(tuple(items))

    def load_empty_list(self) -> None:
        self.append([])

    def load_list(self) -> None:
        items = self.pop_mark()
        self.append(items)

    def load_append(self) -> None:
        item = self._pop()
        target = self._top()
        if type(target) is list:
            target.append(item)
        else:
            append_item(target, item)

    def load_appends(self) -> None:
        items = self.pop_mark()
        target = self._top()
        if type(target) is list:
            target.extend(items)
        else:
            extend_with(target, items)

    def load_empty_dict(self) -> None:
        self.append({})

    def load_dict(self) -> None:
        items = self.pop_mark()
        target: dict[Any, Any] = {}
        self._set_items(target, items)
        self.append(target)

    def load_setitem(self) -> None:
        value = self._pop()
        key = self._pop()
        self._set_items(self._top(), [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set_items(self._top(), items)

    def load_empty_set(self) -> None:
        self.append(set())

    def load_additems(self) -> None:
        items = self.pop_mark()
        target = self._top()
        self._check_keys(items)
        if isinstance(target, set):
            target.update(items)
        else:
            add_items(target, items)

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self._check_keys(items)
        self.append(frozenset(items))

    def _set_items(self, target: Any, items: list[Any]) -> None:
        """Put keys and values, one behind the other, into a mapping."""
        if len(items) % 2:
            raise Malformed(ODD)
        keys = items[::2]
        self._check_keys(keys)
        if type(target) is dict:
            target.update(zip(keys, items[1::2], strict=True))
            return
        set_items(target, items)

    def _check_keys(self, keys: Iterable[Any]) -> None:
        """Make sure that keys can be hashed: that they have a hash, and that finding it ends.

        The interpreter hashes a tuple by recursion, with no check of its depth, and once for each way that leads to it:
        a deep one crashes it, and a hundred bytes can make one of which the hash takes years.
        """
        if _FLAT.issuperset(map(type, keys)):
            return
        for key in keys:
            kind = type(key)
            if kind in _FLAT:
                continue
            if kind.__hash__ is _TUPLE_HASH:
                self._check_tuple(key)
            elif kind.__hash__ is None:
                raise unhashable(kind)

    def _check_tuple(self, key: tuple[Any, ...]) -> None:
        open_tuples = [tuple.__iter__(key)]
        work = self._hash_work
        while open_tuples:
            for item in open_tuples[-1]:
                work += 1
                kind = type(item)
                if kind in _FLAT:
                    continue
                if kind.__hash__ is _TUPLE_HASH:
                    open_tuples.append(tuple.__iter__(item))
                    break
                if kind.__hash__ is None:
                    raise unhashable(kind)
            else:
                open_tuples.pop()
            if len(open_tuples) > KEY_DEPTH:
                raise too_deep_to_hash()
            if work > HASH_WORK and work > HASH_WORK + HASH_WORK_PER_BYTE * self._reached():
                raise too_long_to_hash()
        self._hash_work = work

    # --------------------------------------------------------------------------------------------- out-of-band buffers

    def load_next_buffer(self) -> None:
        if self._buffers is None:
            raise Malformed(NO_BUFFERS)
        buffer = next(self._buffers, UNSET)
        if buffer is UNSET:
            raise Malformed(FEW_BUFFERS)
        self.append(buffer)

    def load_readonly_buffer(self) -> None:
        self.stack[-1] = readonly_view(self._top())

    # -------------------------------------------------------------------------------------------------- persistent ids

    def load_persid(self) -> None:
        self.append(self._persistent(self._persid()))

    def load_binpersid(self) -> None:
        self.append(self._persistent(self._pop()))

    def _persid(self) -> str:
        return id_of_line(self._line())

    def _persistent(self, pid: Any) -> Any:
        if self.persistent_objects is not None and type(pid) in (int, str):
            obj = self.persistent_objects.get(pid, UNSET)
            if obj is not UNSET:
                return obj
        return self._ask(pid)

    # -------------------------------------------------------------------------------------------- classes and functions

    def load_global(self) -> None:
        module = self._text_line("utf-8")
        name = self._text_line("utf-8")
        if not module or not name:
            raise Malformed(GLOBAL_EMPTY)
        self.append(self._find(module, name))

    def load_stack_global(self) -> None:
        name = self._pop()
        module = self._pop()
        if type(name) is not str or type(module) is not str:
            raise Malformed(GLOBAL_NOT_TEXT)
        self.append(self._find(module, name))

    def load_ext1(self) -> None:
        self.append(self._find(*extension(self._length1())))

    def load_ext2(self) -> None:
        self.append(self._find(*extension(int.from_bytes(self._counted(2), "little"))))

    def load_ext4(self) -> None:
        self.append(self._find(*extension(int.from_bytes(self._counted(4), "little", signed=True))))

    def _text_line(self, encoding: str) -> str:
        return text_of(self._line(), encoding)

    # ------------------------------------------------------------------------------------------------------- instances

    def load_inst(self) -> None:
        module = self._text_line("ascii")
        name = self._text_line("ascii")
        arguments = self.pop_mark()
        self.append(instantiate(self._find(module, name), arguments))

    def load_obj(self) -> None:
        arguments = self.pop_mark()
        if not arguments:
            raise Malformed(UNDERFLOW)
        self.append(instantiate(arguments[0], arguments[1:]))

    def load_reduce(self) -> None:
        arguments = self._pop()
        function = self._top()
        check_call(function, arguments)
        if (function is set or function is frozenset) and len(arguments) == 1 and type(arguments[0]) is list:
            self._check_keys(arguments[0])  # as protocols 0 to 3 write sets
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        arguments = self._pop()
        self.append(new_object(self._pop(), arguments, {}))

    def load_newobj_ex(self) -> None:
        keywords = self._pop()
        arguments = self._pop()
        self.append(new_object(self._pop(), arguments, keywords))

    def load_build(self) -> None:
        state = self._pop()
        inst = self._top()
        if self._guarded:
            refuse_named(inst)
        apply_state(inst, state)

    # --------------------------------------------------------------------------- noload: the same with nothing built
    #
    # What would be imported, called or handed in is OPAQUE. Builtin containers are built: an id may be one.

    def _saw_global(self, module: str, name: str) -> None:
        """Called by `noload` with each name of a class or function."""

    def noload_global(self) -> None:
        self._saw_global(self._text_line("utf-8"), self._text_line("utf-8"))
        self.append(OPAQUE)

    def noload_stack_global(self) -> None:
        name = self._pop()
        module = self._pop()
        if type(name) is not str or type(module) is not str:
            raise Malformed(GLOBAL_NOT_TEXT)
        self._saw_global(module, name)
        self.append(OPAQUE)

    def noload_ext1(self) -> None:
        self._saw_global(*extension(self._length1()))
        self.append(OPAQUE)

    def noload_ext2(self) -> None:
        self._saw_global(*extension(int.from_bytes(self._counted(2), "little")))
        self.append(OPAQUE)

    def noload_ext4(self) -> None:
        self._saw_global(*extension(int.from_bytes(self._counted(4), "little", signed=True)))
        self.append(OPAQUE)

    def noload_inst(self) -> None:
        self._saw_global(self._text_line("ascii"), self._text_line("ascii"))
        self.pop_mark()
        self.append(OPAQUE)

    def noload_obj(self) -> None:
        if not self.pop_mark():
            raise Malformed(UNDERFLOW)
        self.append(OPAQUE)

    def noload_reduce(self) -> None:
        self._pop()
        self._pop()
        self.append(OPAQUE)

    noload_newobj = noload_reduce

    def noload_newobj_ex(self) -> None:
        self._pop()
        self.noload_reduce()

    def noload_build(self) -> None:
        self._pop()
        self._top()

    def noload_next_buffer(self) -> None:
        self.append(OPAQUE)

    def noload_readonly_buffer(self) -> None:
        self._top()

    def noload_persid(self) -> None:
        self._sniff(self._persid())

    def noload_binpersid(self) -> None:
        pid = self._pop()
        self._check_id(pid)
        self._sniff(pid)

    def _check_id(self, pid: Any) -> None:
        """Make sure that an id holds nothing, however deep, that wasn't built."""
        if pid is OPAQUE:
            raise Malformed(ID_NOT_PLAIN)
        if type(pid) not in _WALKED or id(pid) in self._walked:
            return
        pending = [pid]
        seen = self._walked
        while pending:
            obj = pending.pop()
            if obj is OPAQUE:
                raise Malformed(ID_NOT_PLAIN)
            if type(obj) in _WALKED and id(obj) not in seen:
                seen[id(obj)] = obj
                pending.extend(obj)
                if type(obj) is dict:
                    pending.extend(obj.values())
                self._id_work += len(obj)
                if self._id_work > ID_WORK and self._id_work > ID_WORK + ID_WORK_PER_BYTE * self._reached():
                    raise Malformed(ID_TOO_LONG)

    def _sniff(self, pid: Any) -> None:
        obj = self._persistent(pid)
        # In a list an id stands for itself, so it may be a part of another one.
        self.append(obj if obj is pid else OPAQUE)

    def noload_append(self) -> None:
        item = self._pop()
        target = self._top()
        if target is not OPAQUE:
            self._walked.clear()
            method_of(target, "append")(item)

    def noload_appends(self) -> None:
        items = self.pop_mark()
        target = self._top()
        if target is not OPAQUE:
            self._walked.clear()
            method_of(target, "extend")(items)

    def noload_setitem(self) -> None:
        value = self._pop()
        key = self._pop()
        target = self._top()
        if target is not OPAQUE:
            self._walked.clear()
            self._set_items(target, [key, value])

    def noload_setitems(self) -> None:
        items = self.pop_mark()
        target = self._top()
        if target is not OPAQUE:
            self._walked.clear()
            self._set_items(target, items)

    def noload_additems(self) -> None:
        items = self.pop_mark()
        target = self._top()
        if target is not OPAQUE:
            self._walked.clear()
            self._check_keys(items)
            method_of(target, "update")(items)


def _appender(ids: list[Any]) -> Callable[[Any], Any]:
    def append(pid: Any) -> Any:
        ids.append(pid)
        return pid

    return append


Unpickler._bind()  # what __init_subclass__ does for subclasses
