# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic
# cython: boundscheck=False, wraparound=False, initializedcheck=False, nonecheck=False, cdivision=True
"""The native unpickler: the results, errors and messages of the reference unpickler in `_unpickler.py`, sooner.

It must never know how streams are written, and it decides nothing on its own: where this module and the reference differ,
this one is wrong. The one thing that it can't do is to let a subclass override what an opcode does.

What makes it fast:

- The opcodes that most of a stream is made of are run in one switch (`run`), on the bytes where they lie.
- The stack is an array of C, from which lists, tuples and dicts are filled without anything in between. It, the marks and
  the memo are kept from stream to stream, and emptied in the time that filling them took.
- An instance's attributes are set straight into it; the dict that is its state in the stream isn't even made (`fold`). What
  is known of its class for that is checked by the class's version tag, which the interpreter renews with each change of
  the class or its bases.
- Hooks are looked up once a stream, and not at all where there can't be any. A class is found without a Python call where
  its module is loaded.
- The cyclic garbage collector rests while no code but ours runs: next to nothing that a stream has built is garbage yet.

What keeps it safe: what an opcode works on stays on the stack, which owns it, until the opcode is done; and while a stream
is read nobody else can touch stack, marks or memo (`check_idle`). Every length is compared with the bytes that are there
before anything is made of that size. The bytes themselves are those of a `bytes` object, which nobody can change: so a
BytesIO is looked at when a stream begins, and told where it ended when it has.
"""

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memset

from ._native_opcodes cimport *
from ._native_shared cimport *

import builtins
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from io import BytesIO
from itertools import islice
from operator import itemgetter
from pickle import UnpicklingError
from struct import error as StructError
from sys import intern

from . import opcodes as op
from ._errors import Malformed, MalformedValue, Truncated
from ._names import from_python2, resolve
from ._reading import (
    BUSY,
    CALLING,
    CUT,
    FEW_BUFFERS,
    GLOBAL_EMPTY,
    GLOBAL_NOT_TEXT,
    ID_NOT_PLAIN,
    ID_TOO_LONG,
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
from ._source import FileSource
from ._unpickler import Unpickler as ReferenceUnpickler
from .reduction import apply_state, refuse_named, set_attributes, set_slots

__all__ = ["Unpickler", "globals", "load", "loads", "references"]

ctypedef unsigned char byte
ctypedef const byte* Bytes

cdef extern from *:
    """
    #include <structmember.h>

    static inline uint32_t pstore_u2(const unsigned char *in) { return in[0] | (uint32_t)in[1] << 8; }

    static inline uint32_t pstore_u4(const unsigned char *in)
    {
        return pstore_u2(in) | pstore_u2(in + 2) << 16;
    }

    static inline uint64_t pstore_u8(const unsigned char *in)
    {
        return pstore_u4(in) | (uint64_t)pstore_u4(in + 4) << 32;
    }

    /* The opcode BINFLOAT's argument: IEEE 754, highest byte first. */
    static inline double pstore_double(const unsigned char *in)
    {
        uint64_t bits = 0;
        double value;
        for (int i = 0; i < 8; i++)
            bits = bits << 8 | in[i];
        memcpy(&value, &bits, 8);
        return value;
    }

    /* An int in two's complement, lowest byte first. */
    static inline PyObject *pstore_long(const unsigned char *in, Py_ssize_t size)
    {
        if (size <= 8) {
            uint64_t bits = size && in[size - 1] & 0x80 ? ~(uint64_t)0 : 0;
            for (Py_ssize_t i = size - 1; i >= 0; i--)
                bits = bits << 8 | in[i];
            return PyLong_FromLongLong((int64_t)bits);
        }
        return _PyLong_FromByteArray(in, (size_t)size, 1, 1);
    }

    /* 1 where a line is an int in its usual decimal form, small enough. */
    static int pstore_decimal(const unsigned char *in, Py_ssize_t size, int64_t *value)
    {
        int negative = size && in[0] == '-';
        in += negative;
        size -= negative;
        if (size < 1 || size > 18 || (in[0] == '0' && size > 1))
            return 0;
        int64_t number = 0;
        for (Py_ssize_t i = 0; i < size; i++) {
            if (in[i] < '0' || in[i] > '9')
                return 0;
            number = number * 10 + (in[i] - '0');
        }
        *value = negative ? -number : number;
        return 1;
    }

    #define PSTORE_HIGH 0x8080808080808080ULL

    static inline int pstore_is_ascii(const unsigned char *in, Py_ssize_t size)
    {
        uint64_t seen = 0, word;
        if (size >= 8) {
            Py_ssize_t at = 0;
            for (; at < size - 8; at += 8) {
                memcpy(&word, in + at, 8);
                seen |= word;
            }
            memcpy(&word, in + size - 8, 8);
            return !((seen | word) & PSTORE_HIGH);
        }
        for (Py_ssize_t at = 0; at < size; at++)
            seen |= in[at];
        return !(seen & 0x80);
    }

    /* Text of UTF-8, surrogates included. */
    static inline PyObject *pstore_text(const unsigned char *in, Py_ssize_t size)
    {
        /* The interpreter has texts of one character ready; long ones it looks through as fast. */
        if (size > 1 && size <= 256 && pstore_is_ascii(in, size)) {
            PyObject *text = PyUnicode_New(size, 127);
            if (text)
                memcpy(PyUnicode_1BYTE_DATA(text), in, (size_t)size);
            return text;
        }
        return PyUnicode_DecodeUTF8((const char *)in, size, "surrogatepass");
    }

    /* 1 where a str can be looked into (from Python 3.12 on, any). */
    static inline int pstore_ready(PyObject *text)
    {
    #if PY_VERSION_HEX >= 0x030C0000
        (void)text;
        return 1;
    #else
        return PyUnicode_IS_READY(text);
    #endif
    }

    /* Have a list take over references, behind its own items. */
    static int pstore_extend(PyObject *list, PyObject **items, Py_ssize_t count)
    {
    #ifndef Py_GIL_DISABLED
        PyListObject *self = (PyListObject *)list;
        Py_ssize_t size = Py_SIZE(self);
        if (!count)
            return 0;
        if (count > self->allocated - size) {
            size_t room = (size_t)size + (size_t)count;
            if (size)
                room += room >> 3; /* more are likely to come */
            if (room > PY_SSIZE_T_MAX / sizeof(PyObject *)) {
                PyErr_NoMemory();
                return -1;
            }
            PyObject **larger = PyMem_Realloc(self->ob_item, room * sizeof(PyObject *));
            if (!larger) {
                PyErr_NoMemory();
                return -1;
            }
            self->ob_item = larger;
            self->allocated = (Py_ssize_t)room;
        }
        memcpy(self->ob_item + size, items, (size_t)count * sizeof(PyObject *));
        Py_SET_SIZE((PyVarObject *)self, size + count);
    #else
        for (Py_ssize_t i = 0; i < count; i++)
            if (PyList_Append(list, items[i]) < 0)
                return -1;
        for (Py_ssize_t i = 0; i < count; i++)
            Py_DECREF(items[i]);
    #endif
        return 0;
    }

    static inline PyObject **pstore_tuple_items(PyObject *tuple) { return ((PyTupleObject *)tuple)->ob_item; }

    /* Take the last item from a list, which keeps its room. */
    static inline PyObject *pstore_take_last(PyObject *list)
    {
        Py_ssize_t last = PyList_GET_SIZE(list) - 1;
        PyObject *item = PyList_GET_ITEM(list, last);
        Py_SET_SIZE((PyVarObject *)list, last);
        return item;
    }

    static inline Py_ssize_t pstore_room(PyObject *list) { return ((PyListObject *)list)->allocated; }

    static inline PyObject *pstore_type_dict(PyTypeObject *type) { return type->tp_dict; }

    static inline int pstore_sets_generically(PyTypeObject *type)
    {
        return type->tp_setattro == PyObject_GenericSetAttr;
    }

    static inline int pstore_is_data_descriptor(PyObject *obj) { return Py_TYPE(obj)->tp_descr_set != NULL; }

    /* Whether instances are made by object.__new__ itself. */
    static inline int pstore_is_made_plainly(PyTypeObject *type) { return type->tp_new == PyBaseObject_Type.tp_new; }

    static inline PyObject *pstore_new(PyTypeObject *type, PyObject *arguments)
    {
        return type->tp_new(type, arguments, NULL);
    }

    static inline int pstore_hashes_as_tuple(PyTypeObject *type) { return type->tp_hash == PyTuple_Type.tp_hash; }

    static inline int pstore_has_no_hash(PyTypeObject *type) { return type->tp_hash == PyObject_HashNotImplemented; }

    /* Whether a getset descriptor gives what `other` gives, or simply the __dict__ of an instance. */
    static inline int pstore_gives_dict(PyObject *descriptor, PyObject *other)
    {
        getter get = ((PyGetSetDescrObject *)descriptor)->d_getset->get;
        return get == PyObject_GenericGetDict || get == ((PyGetSetDescrObject *)other)->d_getset->get;
    }

    /* Where in an instance a slot lies; 0 for what is no plain slot of its. */
    static inline Py_ssize_t pstore_slot(PyTypeObject *type, PyObject *descriptor)
    {
        if (!Py_IS_TYPE(descriptor, &PyMemberDescr_Type))
            return 0;
        PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
        if (member->type != T_OBJECT_EX || member->flags || !PyType_IsSubtype(type, PyDescr_TYPE(descriptor)))
            return 0;
        return member->offset;
    }

    /* Release a view; 1 where nobody can reach its memory any longer. */
    static int pstore_close_view(PyObject *view)
    {
        _PyManagedBufferObject *buffer = ((PyMemoryViewObject *)view)->mbuf;
        PyObject *type, *value, *traceback;
        Py_INCREF(buffer);
        PyErr_Fetch(&type, &value, &traceback);
        PyObject *released = PyObject_CallMethod(view, "release", NULL);
        if (!released)
            PyErr_Clear();
        Py_XDECREF(released);
        PyErr_Restore(type, value, traceback);
        int closed = released && !buffer->exports;
        Py_DECREF(buffer);
        return closed;
    }

    static inline void pstore_set_slot(PyObject *obj, Py_ssize_t offset, PyObject *value)
    {
        PyObject **at = (PyObject **)((char *)obj + offset);
        PyObject *before = *at;
        Py_INCREF(value);
        *at = value;
        Py_XDECREF(before);
    }

    /* From Python 3.12 on the collector runs between the steps of Python code only, so it rests by itself. */
    static inline int pstore_rest_collector(void)
    {
    #if PY_VERSION_HEX < 0x030C0000
        return PyGC_Disable();
    #else
        return 0;
    #endif
    }

    /* Make an object that the collector counts: where it is time, it runs. */
    static inline void pstore_offer_collection(void)
    {
    #if PY_VERSION_HEX < 0x030C0000
        PyObject *counted = PyCell_New(NULL);
        if (!counted)
            PyErr_Clear();
        Py_XDECREF(counted);
    #endif
    }

    static inline void pstore_wake_collector(void)
    {
    #if PY_VERSION_HEX < 0x030C0000
        PyGC_Enable();
    #endif
    }
    """
    uint32_t pstore_u2(Bytes) noexcept
    uint32_t pstore_u4(Bytes) noexcept
    uint64_t pstore_u8(Bytes) noexcept
    double pstore_double(Bytes) noexcept
    PyObject* pstore_long(Bytes, Py_ssize_t) noexcept
    bint pstore_decimal(Bytes, Py_ssize_t, int64_t*) noexcept
    bint pstore_is_ascii(Bytes, Py_ssize_t) noexcept
    PyObject* pstore_text(Bytes, Py_ssize_t) noexcept
    bint pstore_ready(PyObject*) noexcept
    int pstore_extend(PyObject*, PyObject**, Py_ssize_t) except -1
    PyObject** pstore_tuple_items(PyObject*) noexcept
    PyObject* pstore_take_last(PyObject*) noexcept
    Py_ssize_t pstore_room(PyObject*) noexcept
    PyObject* pstore_type_dict(PyTypeObject*) noexcept
    bint pstore_sets_generically(PyTypeObject*) noexcept
    bint pstore_is_data_descriptor(PyObject*) noexcept
    bint pstore_is_made_plainly(PyTypeObject*) noexcept
    PyObject* pstore_new(PyTypeObject*, PyObject*) except NULL
    bint pstore_hashes_as_tuple(PyTypeObject*) noexcept
    bint pstore_has_no_hash(PyTypeObject*) noexcept
    bint pstore_gives_dict(PyObject*, PyObject*) noexcept
    Py_ssize_t pstore_slot(PyTypeObject*, PyObject*) noexcept
    void pstore_set_slot(PyObject*, Py_ssize_t, PyObject*) noexcept
    bint pstore_close_view(PyObject*) noexcept
    bint pstore_rest_collector() noexcept
    void pstore_offer_collection() noexcept
    void pstore_wake_collector() noexcept

cdef extern from "Python.h":
    PyTypeObject* Py_TYPE(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_DECREF(PyObject*)
    void Py_XDECREF(PyObject*)
    Py_ssize_t Py_REFCNT(PyObject*)
    PyObject* Py_None
    PyObject* Py_True
    PyObject* Py_False
    PyTypeObject PyLong_Type
    PyTypeObject PyFloat_Type
    PyTypeObject PyComplex_Type
    PyTypeObject PyUnicode_Type
    PyTypeObject PyBytes_Type
    PyTypeObject PyBool_Type
    PyTypeObject PyFrozenSet_Type
    PyTypeObject PyType_Type
    PyTypeObject PyModule_Type
    PyTypeObject PyGetSetDescr_Type
    Py_ssize_t PY_SSIZE_T_MAX
    void PyType_Modified(PyTypeObject*)
    bint PyType_HasFeature(PyTypeObject*, unsigned long)
    unsigned long Py_TPFLAGS_HEAPTYPE
    bint PyType_Check(PyObject*)
    bint PyCallable_Check(PyObject*)
    bint PyList_CheckExact(PyObject*)
    PyObject* PyList_New(Py_ssize_t) except NULL
    Py_ssize_t PyList_GET_SIZE(PyObject*)
    PyObject* PyList_GET_ITEM(PyObject*, Py_ssize_t)
    void PyList_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)
    bint PyTuple_CheckExact(PyObject*)
    PyObject* PyTuple_New(Py_ssize_t) except NULL
    Py_ssize_t PyTuple_GET_SIZE(PyObject*)
    PyObject* PyTuple_GET_ITEM(PyObject*, Py_ssize_t)
    void PyTuple_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)
    bint PyDict_CheckExact(PyObject*)
    PyObject* PyDict_New() except NULL
    Py_ssize_t PyDict_GET_SIZE(PyObject*)
    bint PyDict_Next(PyObject*, Py_ssize_t*, PyObject**, PyObject**)
    PyObject* PyDict_GetItemWithError(PyObject*, PyObject*) except? NULL
    int PyDict_SetItem(PyObject*, PyObject*, PyObject*) except -1
    PyObject* PySet_New(PyObject*) except NULL
    bint PySet_CheckExact(PyObject*)
    int PySet_Add(PyObject*, PyObject*) except -1
    bint PyUnicode_CheckExact(PyObject*)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject*)
    object PyUnicode_FromStringAndSize(const char*, Py_ssize_t)
    PyObject* PyUnicode_DecodeASCII(const char*, Py_ssize_t, const char*) except NULL
    PyObject* PyUnicode_DecodeRawUnicodeEscape(const char*, Py_ssize_t, const char*) except NULL
    Py_ssize_t PyUnicode_FindChar(PyObject*, Py_UCS4, Py_ssize_t, Py_ssize_t, int)
    Py_UCS4 PyUnicode_READ_CHAR(PyObject*, Py_ssize_t)
    void PyUnicode_InternInPlace(PyObject**)
    bint PyBytes_CheckExact(PyObject*)
    char* PyBytes_AS_STRING(PyObject*)
    Py_ssize_t PyBytes_GET_SIZE(PyObject*)
    PyObject* PyBytes_FromStringAndSize(const char*, Py_ssize_t) except NULL
    int _PyBytes_Resize(PyObject**, Py_ssize_t) except -1
    object PyMemoryView_FromMemory(char*, Py_ssize_t, int)
    int PyBUF_WRITE
    PyObject* PyByteArray_FromStringAndSize(const char*, Py_ssize_t) except NULL
    PyObject* PyLong_FromLong(long) except NULL
    PyObject* PyFloat_FromDouble(double) except NULL
    PyObject* PyObject_Call(PyObject*, PyObject*, PyObject*) except NULL
    PyObject* PyObject_GenericGetDict(PyObject*, void*) except NULL
    int PyObject_GenericSetAttr(PyObject*, PyObject*, PyObject*) except -1
    PyObject* PyImport_GetModuleDict()
    PyObject* PyModule_GetDict(PyObject*)
    PyObject* _PyType_Lookup(PyTypeObject*, PyObject*)
    int PySys_Audit(const char*, const char*, ...) except -1
    Py_buffer* PyMemoryView_GET_BUFFER(PyObject*)
    bint PyBuffer_IsContiguous(const Py_buffer*, char)

# In place of an opcode.
cdef enum:
    END = -1    # there are no further bytes
    AHEAD = -2  # it is still to be read

# The same as in `_reading.py`, as constants of C.
cdef enum:
    HIGHEST_PROTOCOL = 5
    KEY_DEPTH = 500
    HASH_WORK = 1_000_000
    HASH_WORK_PER_BYTE = 100
    ID_WORK = 1_000_000
    ID_WORK_PER_BYTE = 100

cdef enum:
    ROOM = 64        # objects that the stack has room for at first
    LARGE = 1 << 20  # bytes that are read into a bytes object from the file itself, without a copy
    KEPT = 16 * 1024 # a stack or memo with room for more objects than this isn't kept for the next stream
    UNSEEN = 4096
    GAP = 8          # a memo index may be so far behind the last one to get a place in the list



# ----------------------------------------------------------------------------------------------- what never changes

cdef list kept_names = []  # they live as long as this module


cdef PyObject* kept_name(str name) except NULL:
    """Return a string for C, as the interpreter's own are kept."""
    name = intern(name)
    kept_names.append(name)
    return <PyObject*> name


cdef PyObject* small_ints[256]


cdef int make_small_ints() except -1:
    cdef int number
    for number in range(256):
        small_ints[number] = PyLong_FromLong(number)
    return 0


class _Probe:
    """Has the descriptors that a class statement makes."""


make_small_ints()
cdef PyObject* empty_tuple = PyTuple_New(0)
cdef PyObject* opaque = <PyObject*> OPAQUE
cdef PyTypeObject* opaque_type = <PyTypeObject*> Opaque
cdef PyTypeObject* module_spec_type = <PyTypeObject*> ModuleSpec
cdef PyTypeObject* none_type = Py_TYPE(Py_None)
cdef PyTypeObject* object_type = <PyTypeObject*> object
cdef PyTypeObject* set_type = <PyTypeObject*> set
cdef PyTypeObject* frozenset_type = <PyTypeObject*> frozenset
cdef PyObject* _new = kept_name("__new__")
cdef PyObject* _dict = kept_name("__dict__")
cdef PyObject* _class = kept_name("__class__")
cdef PyObject* _spec = kept_name("__spec__")
cdef PyObject* _import = kept_name("__import__")
cdef PyObject* _setstate = kept_name("__setstate__")
cdef PyObject* object_new = _PyType_Lookup(object_type, _new)
cdef PyObject* object_class = _PyType_Lookup(object_type, _class)
cdef PyObject* probe_dict = _PyType_Lookup(<PyTypeObject*> _Probe, _dict)
cdef object py_isinstance = builtins.isinstance  # which believes __class__
cdef object original_import = builtins.__import__
cdef dict builtins_names = builtins.__dict__
cdef object HOLE = object()  # in the memo: there is nothing at this index

# Encodings in which ASCII is ASCII, and text that is ASCII can't be wrong: as they are usually spelt.
cdef frozenset ASCII_LIKE = frozenset(["ASCII", "latin-1", "utf-8"])
# Of Python 2's str, where the text doesn't matter: one that gives a character to every byte.
cdef str ANY_BYTES = "latin-1"

# --------------------------------------------------------------------------------------------------- what types are known

cdef enum:
    PLANS = 512
    KNOWN_NAMES = 16

# What is known of a type. Borrowed: it is never followed, only compared, together with the version that goes with it.
cdef struct Plan:
    PyTypeObject* type
    unsigned int version
    int making              # how NEWOBJ makes an instance
    int state               # how BUILD puts a state into one
    bint has_dict
    int count               # how many attributes are known, in the order in which the last states had them
    PyObject* names[KNOWN_NAMES]   # owned, interned
    Py_ssize_t slots[KNOWN_NAMES]  # where the slot of that name lies in an instance; 0 of what is in the __dict__

# Ways to make an instance, and to put a state into it.
cdef enum:
    NOT_KNOWN = 0
    DIRECTLY = 1
    AS_THE_REFERENCE = 2

cdef Plan plans[PLANS]
memset(plans, 0, sizeof(plans))


cdef Plan* plan_of(PyTypeObject* type) noexcept:
    """Return what is known of a type, or NULL where nothing can be."""
    cdef size_t address = <size_t> type
    cdef Plan* plan = &plans[(address >> 4 ^ address >> 13) % PLANS]
    cdef unsigned int version = pstore_version(type)
    if plan.type == type and plan.version == version and version:
        return plan
    return new_plan(plan, type)


cdef Plan* new_plan(Plan* plan, PyTypeObject* type) noexcept:
    cdef int i
    _PyType_Lookup(type, _setstate)  # gives it a version
    if not pstore_version(type):
        return NULL
    for i in range(plan.count):
        Py_DECREF(plan.names[i])
    memset(plan, 0, sizeof(Plan))
    plan.type = type
    plan.version = pstore_version(type)
    return plan


cdef int learn_making(Plan* plan, PyTypeObject* type) noexcept:
    """Find out whether ``cls.__new__(cls)`` is no more than ``object.__new__(cls)``."""
    if pstore_is_made_plainly(type) and _PyType_Lookup(type, _new) == object_new:
        plan.making = DIRECTLY
    else:
        plan.making = AS_THE_REFERENCE
    return plan.making


cdef int learn_state(Plan* plan, PyTypeObject* type) noexcept:
    """Find out whether a state is put into the ``__dict__`` or the slots of an instance, with nobody's code run."""
    cdef PyObject* found = _PyType_Lookup(type, _dict)
    plan.state = AS_THE_REFERENCE
    if not PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) or not pstore_is_generic(type):
        return plan.state
    if _PyType_Lookup(type, _setstate) != NULL or _PyType_Lookup(type, _class) != object_class:
        return plan.state
    if found != NULL and (Py_TYPE(found) != &PyGetSetDescr_Type or not pstore_gives_dict(found, probe_dict)):
        return plan.state
    plan.has_dict = found != NULL
    plan.state = DIRECTLY
    return plan.state


cdef inline bint is_known(Plan* plan, int at, PyObject* name) noexcept:
    """Whether this is the name that was expected here."""
    if at >= plan.count:
        return False
    if plan.names[at] == name:
        return True
    return PyUnicode_CheckExact(name) and pstore_ready(name) and pstore_same_text(plan.names[at], name)


cdef void learn_name(Plan* plan, int at, PyObject* name, Py_ssize_t slot) noexcept:
    """Expect a name at this place of a state."""
    if at >= KNOWN_NAMES or at > plan.count:
        return
    Py_INCREF(name)
    if at < plan.count:
        Py_DECREF(plan.names[at])  # a str: this runs nobody's code
    else:
        plan.count += 1
    plan.names[at] = name
    plan.slots[at] = slot


# ------------------------------------------------------------------------------------------------------------ the class

# Where the bytes come from.
cdef enum:
    NOWHERE
    FED     # what was given to `feed`
    MEMORY  # an exact BytesIO
    FILE    # any other file, by way of a FileSource

# What of the reference's methods a subclass may not override here, for nobody would ask it.
cdef list FIXED = [
    *(f"{kind}load_{opcode.name.lower()}" for opcode in op.OPCODES for kind in ("", "no")),
    *("pop_mark", "_saw_global"),
]


cdef struct Mark:
    Py_ssize_t fence     # the one before, from the bottom
    Py_ssize_t memoised  # how long the memo's list was


cdef class Unpickler:
    cdef dict __dict__  # the hooks that are set on an instance, and whatever else its user keeps there
    cdef object __weakref__

    cdef public object fix_imports
    cdef public object encoding
    cdef public object errors
    cdef public int proto
    cdef public object persistent_objects

    # The bytes: those of `held`, or, in the file, what is ahead of a window.
    cdef int input
    cdef Bytes at            # what is read next
    cdef Bytes end
    cdef Bytes base          # the first byte of all that is in memory
    cdef Bytes start         # ... of this stream
    cdef Bytes opcode_at     # ... of the opcode that is being run
    cdef int code            # that opcode
    cdef object held
    cdef object memory       # BytesIO
    cdef object source       # FileSource
    cdef object scratch      # what an argument's bytes lie in that aren't in the window

    # The stack. A mark divides it; `fence` is the first place behind the topmost.
    cdef PyObject** bottom
    cdef PyObject** fence
    cdef PyObject** top      # the first free place
    cdef PyObject** limit
    cdef Mark* marks
    cdef Py_ssize_t mark_count
    cdef Py_ssize_t mark_room

    # The memo. In a list, where the collector sees it; indices that leave too great a gap are in a dict.
    cdef list memoised       # None as long as __init__ wasn't called
    cdef dict scattered      # or None
    cdef bint loose          # there are, or were, holes or scattered entries
    cdef Py_ssize_t entries  # how many there are; counted only when loose
    cdef byte* folded        # a bit for each place in the list: see `fold`
    cdef Py_ssize_t folded_room
    cdef bint folding        # some bits are set

    cdef PyObject* target    # the instance of `load_state`, or NULL
    cdef bint filled         # it has got the state
    cdef bint busy
    cdef bint resting        # we have put the cyclic collector to rest
    cdef Py_ssize_t unseen   # bytes that were read since it last had an occasion to run, more or less
    cdef bint tool           # made by `references` or `globals`, which set its hooks
    cdef bint guarded        # find_global was given
    cdef bint refuses        # ... as None
    cdef object find         # what finds classes, UNSET where it is our own find_class
    cdef object ask          # persistent_load, UNSET where it is our own
    cdef list ids            # ... where it is a list
    cdef list found_names    # what `globals` collects, or None
    cdef object buffers      # iterator
    cdef dict walked         # see check_id
    cdef Py_ssize_t hash_work
    cdef Py_ssize_t id_work

    def __dealloc__(self):
        clear_stack(self)
        free(self.bottom)
        free(self.marks)
        free(self.folded)

    def __init__(
        self,
        file=None,
        *,
        fix_imports=True,
        encoding="ASCII",
        errors="strict",
        buffers=None,
        persistent_load=None,
        find_global=...,
        persistent_objects=None,
    ):
        check_idle(self)
        self.input = NOWHERE
        self.held = self.memory = self.source = None
        self.at = self.end = self.base = NULL
        if type(file) is BytesIO:
            self.memory = file
            self.input = MEMORY
        elif file is not None:
            try:
                self.source = FileSource(file)
            except AttributeError:
                raise AttributeError(NO_FILE) from None
            self.input = FILE
        self.fix_imports = fix_imports
        self.encoding = encoding
        self.errors = errors
        self.proto = 0
        self.persistent_objects = persistent_objects
        if persistent_load is not None:
            self.persistent_load = persistent_load
        if find_global is not ...:
            self.find_global = find_global
        self.buffers = None if buffers is None else iter(buffers)
        self.memoised = []
        clear_memo(self)

    def load(self):
        """Read one stream and return its object.

        Raises:
            EOFError: There is no further stream, or it is cut short.
            UnpicklingError: The stream is malformed, or names what `find_global` refuses.
            RuntimeError: Called by a hook while this unpickler is loading.
            TypeError: There is nothing to read from.
            Exception: Whatever hooks, imports, the file, and the code of the classes that the stream names raise.
        """
        return read_stream(self, True)

    def load_state(self, inst):
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
        check_made(self)
        check_idle(self)
        self.target = <PyObject*> inst
        self.filled = False
        try:
            state = read_stream(self, True)
        finally:
            self.target = NULL
        if self.filled or state is None:
            return
        try:
            if not put_state(self, <PyObject*> inst, <PyObject*> state):
                leave(self)
                apply_state(inst, state)
        finally:
            leave(self)

    def noload(self):
        """Run one stream without importing or building anything but atoms and builtin containers.

        `persistent_load` is given exactly the ids that `load` would give it, in the same order.

        Raises:
            EOFError: As `load`.
            UnpicklingError: As `load`; or an id contains what can't be told without building it.
            RuntimeError: As `load`.
            TypeError: As `load`.
            Exception: Whatever `persistent_load` or the file raises.
        """
        read_stream(self, False)

    def feed(self, data, buffers=None):
        """Give new input, and forget what was read before.

        Args:
            data: A bytes-like object that holds one stream, or several behind one another.
            buffers: As for the class.

        Raises:
            RuntimeError: Called by a hook while this unpickler is loading.
            TypeError: `data` isn't bytes-like.
        """
        feed(self, data, buffers)

    def clear_memo(self):
        """Forget what was read.

        Raises:
            RuntimeError: Called by a hook while this unpickler is loading.
        """
        check_made(self)
        check_idle(self)
        clear_memo(self)

    @property
    def memo(self):
        """What was read: ``{index: object}``; a copy. May be replaced, but not while the unpickler is loading."""
        check_made(self)
        unfold_all(self)
        memo = {index: obj for index, obj in enumerate(self.memoised) if obj is not HOLE}
        if self.scattered is not None:
            memo.update(self.scattered)
        return memo

    @memo.setter
    def memo(self, value):
        check_made(self)
        check_idle(self)
        if not isinstance(value, Mapping) or not all(isinstance(index, int) for index in value):
            raise TypeError(MEMO_TYPE)
        if any(index < 0 for index in value):
            raise ValueError(MEMO_NEGATIVE)
        entries = [(int.__index__(index), obj) for index, obj in dict(value).items()]
        clear_memo(self)
        for index, obj in sorted(entries, key=itemgetter(0)):
            if index >= 0:  # which an odd int may have lied about
                memo_put(self, index, <PyObject*> obj)

    def persistent_load(self, pid):
        """Return the object that a persistent id stands for. To be overridden, or set to a list.

        Raises:
            UnpicklingError: Always, unless it is overridden.
        """
        raise Malformed(NO_LOADER)

    def find_class(self, module, name):
        """Return what a module holds under a name. To be overridden.

        Args:
            module: Name of the module as it stands in the stream.
            name: Name in it; from protocol 4 on it may be a dotted path.

        Raises:
            ImportError: There is no such module; and whatever its code raises.
            AttributeError: It has no such name.
        """
        return find_plainly(self, module, name)


def _init_subclass(cls, **keywords):
    """Refuse what would silently have no effect."""
    super(Unpickler, cls).__init_subclass__(**keywords)
    for name in FIXED:
        if hasattr(cls, name):
            message = (
                f"{cls.__name__}.{name} would never be called: in the native engine nothing can override what an opcode "
                "does; override find_class, give find_global, or derive from pstore.pickle._python.Unpickler"
            )
            raise TypeError(message)


# The documentation is the reference's; an interpreter reads the signature of a compiled class from its first line.
cdef bytes documentation = (
    "Unpickler(file=None, *, fix_imports=True, encoding='ASCII', errors='strict', buffers=None, persistent_load=None, "
    "find_global=..., persistent_objects=None)\n--\n\n"
    + ReferenceUnpickler.__doc__
).encode()
pstore_set_doc(<PyTypeObject*> Unpickler, documentation)

# Cython has no syntax for this method of an extension type.
(<dict> pstore_type_dict(<PyTypeObject*> Unpickler))["__init_subclass__"] = classmethod(_init_subclass)
PyType_Modified(<PyTypeObject*> Unpickler)
del _init_subclass

cdef PyObject* _find_class = kept_name("find_class")
cdef PyObject* _persistent_load = kept_name("persistent_load")
cdef PyObject* own_find_class = _PyType_Lookup(<PyTypeObject*> Unpickler, _find_class)
cdef PyObject* own_persistent_load = _PyType_Lookup(<PyTypeObject*> Unpickler, _persistent_load)


cdef int check_idle(Unpickler self) except -1:
    if self.busy:
        raise RuntimeError(BUSY)
    return 0


cdef int check_made(Unpickler self) except -1:
    if self.memoised is None:
        raise UnpicklingError(not_initialised(type(self)))
    return 0


cdef int feed(Unpickler self, data, buffers) except -1:
    cdef Py_buffer* view
    check_made(self)
    check_idle(self)
    if PyBytes_CheckExact(<PyObject*> data):
        self.base = <Bytes> PyBytes_AS_STRING(<PyObject*> data)
        self.end = self.base + PyBytes_GET_SIZE(<PyObject*> data)
    else:
        window = memoryview(data)
        view = PyMemoryView_GET_BUFFER(<PyObject*> window)
        if <PyObject*> view.obj != NULL and PyBytes_CheckExact(<PyObject*> view.obj) and PyBuffer_IsContiguous(view, b"C"):
            data = <object> view.obj  # a view of bytes: they stay as they are, whatever becomes of it
            self.base = <Bytes> view.buf
            self.end = self.base + view.len
        else:
            data = window.tobytes()  # anybody may change it or give it back
            self.base = <Bytes> PyBytes_AS_STRING(<PyObject*> data)
            self.end = self.base + PyBytes_GET_SIZE(<PyObject*> data)
    self.at = self.base
    self.held = data
    self.input = FED
    self.memory = self.source = None
    self.buffers = None if buffers is None else iter(buffers)
    clear_memo(self)
    return 0


# ------------------------------------------------------------------------------------------------------------- one stream


cdef object read_stream(Unpickler self, bint building):
    cdef int first = AHEAD
    begin(self)
    self.busy = True
    self.code = END
    try:
        if self.at == self.end:
            first = further(self)
            if first == END:
                raise EOFError(NO_STREAM)
            leave(self)
        if not self.tool:
            prepare(self)
        come_back(self)
        run(self, building, first)
        if building:
            return take_top(self)
        return None
    except Malformed as error:
        leave(self)
        if error.offset is None:
            error.offset, error.opcode = position(self)
        raise
    except (IndexError, TypeError, ValueError, OverflowError, StructError) as error:
        leave(self)
        opcode = opcode_bytes(self)
        if opcode in (CALLING if building else SNIFFING) or (self.input == FILE and self.source.failed):
            raise
        malformed = explain(error, opcode)
        malformed.offset, malformed.opcode = position(self)
        raise malformed from error
    finally:
        finish(self)


cdef int begin(Unpickler self) except -1:
    """Find out where the bytes are."""
    check_made(self)
    check_idle(self)
    if self.unseen >= UNSEEN:
        self.unseen = 0
        pstore_offer_collection()
    if self.input == MEMORY:
        at = self.memory.tell()
        self.held = self.memory.getvalue()
        self.base = <Bytes> PyBytes_AS_STRING(<PyObject*> self.held)
        self.end = self.base + PyBytes_GET_SIZE(<PyObject*> self.held)
        self.at = self.base + <Py_ssize_t> min(at, len(self.held))
    elif self.input == FILE:
        self.source.begin()
        adopt(self)
    elif self.input == NOWHERE:
        raise TypeError(NO_INPUT)
    self.start = self.at
    return 0


cdef int finish(Unpickler self) except -1:
    """Leave file and stack as they are to be between two streams."""
    leave(self)
    self.unseen += UNSEEN if self.input == FILE else self.at - self.start
    try:
        if self.input == FILE:
            settle(self)
            self.source.end()
        elif self.input == MEMORY and self.at != self.start:
            self.memory.seek(self.at - self.base)
    finally:
        clear_stack(self)
        self.find = self.ask = UNSET
        self.walked = None
        if not self.tool:
            self.ids = None
        if self.input != FED:
            self.held = self.scratch = None
            self.at = self.end = self.base = NULL
        self.busy = False
    return 0


cdef int prepare(Unpickler self) except -1:
    """Look the hooks up. They are held while loading only: bound methods are references to ourselves."""
    cdef PyTypeObject* type = Py_TYPE(<PyObject*> self)
    cdef PyObject* attributes = pstore_attributes(<PyObject*> self)
    cdef bint plain = pstore_is_generic(type)
    self.proto = 0
    self.hash_work = 0
    self.id_work = 0
    self.guarded = self.refuses = False
    self.find = self.ask = UNSET
    if attributes != NULL and not PyDict_GET_SIZE(attributes):
        attributes = NULL
    if type == <PyTypeObject*> Unpickler and attributes == NULL:
        return 0
    find = getattr(self, "find_global", UNSET)
    self.guarded = find is not UNSET
    if self.guarded:
        self.find = find
        self.refuses = find is None
    elif not plain or has(attributes, _find_class) or _PyType_Lookup(type, _find_class) != own_find_class:
        self.find = self.find_class
    if plain and not has(attributes, _persistent_load):
        if _PyType_Lookup(type, _persistent_load) == own_persistent_load:
            return 0
    ask = self.persistent_load
    if not py_isinstance(ask, list):
        self.ask = ask
    elif PyList_CheckExact(<PyObject*> ask):
        self.ids = ask
    else:
        self.ask = appender(ask)
    return 0


cdef bint has(PyObject* attributes, PyObject* name) except -1:
    return attributes != NULL and PyDict_GetItemWithError(attributes, name) != NULL


cdef object appender(ids):
    def append(pid):
        ids.append(pid)
        return pid

    return append


cdef bytes opcode_bytes(Unpickler self):
    return b"" if self.code < 0 else bytes([self.code])


cdef tuple position(Unpickler self):
    """Return offset and name of the opcode that is being run."""
    name = opcode_name(opcode_bytes(self))
    if self.input != FILE:
        return self.opcode_at - self.start, name
    offset = self.source.opcode_at
    if offset is None:
        offset = self.opcode_at - self.base + self.source.window_at
    return offset, name


cdef Py_ssize_t reached(Unpickler self) except -1:
    """Return how many bytes of the stream are read, and perhaps of those before it."""
    if self.input == FILE:
        return self.source.tell()
    return self.at - self.base


cdef inline void leave(Unpickler self) noexcept:
    """Have the collector as its user wants it: other code than ours is to run."""
    if self.resting:
        self.resting = False
        pstore_wake_collector()


cdef inline void come_back(Unpickler self) noexcept:
    """Let the collector rest, now that nobody else is at work. After an exception there is nothing to come back to."""
    if not self.resting:
        self.resting = pstore_rest_collector()


# -------------------------------------------------------------------------------------------------------------- the bytes


cdef int adopt(Unpickler self) except -1:
    """Read on where the file's window is."""
    self.held = self.source.window
    self.base = <Bytes> PyBytes_AS_STRING(<PyObject*> self.held)
    self.end = self.base + PyBytes_GET_SIZE(<PyObject*> self.held)
    self.at = self.base + <Py_ssize_t> self.source.tell_window()
    return 0


cdef int settle(Unpickler self) except -1:
    """Tell the file how far its window is read."""
    self.source.seek_window(self.at - self.base)
    return 0


cdef object ask_source(Unpickler self, method, tuple arguments):
    """Have the file give something."""
    settle(self)
    leave(self)
    try:
        result = method(*arguments)
    finally:
        adopt(self)
    come_back(self)
    return result


cdef int further(Unpickler self) except -3:
    """Read an opcode where there is none left in memory."""
    self.code = END
    self.opcode_at = self.at
    if self.input != FILE:
        return END
    cdef bytes opcode = ask_source(self, self.source.read_opcode, ())
    if not opcode:
        return END
    self.opcode_at = self.at - 1
    return (<Bytes> PyBytes_AS_STRING(<PyObject*> opcode))[0]


cdef inline Bytes take(Unpickler self, Py_ssize_t size) except NULL:
    """Read so many bytes; they are there until the next are read."""
    cdef Bytes at = self.at
    if self.end - at >= size:
        self.at = at + size
        return at
    return take_slowly(self, size)


cdef Bytes take_slowly(Unpickler self, Py_ssize_t size) except NULL:
    if self.input != FILE:
        self.at = self.end
        raise Truncated(CUT)
    cdef bytes data = ask_source(self, self.source.read, (size,))
    if len(data) != size:
        raise Truncated(CUT)
    self.scratch = data
    return <Bytes> PyBytes_AS_STRING(<PyObject*> data)


cdef PyObject* take_bytes(Unpickler self, Py_ssize_t size) except NULL:
    """Read so many bytes into a new object."""
    cdef PyObject* data
    cdef Bytes at = self.at
    if self.end - at >= size:
        self.at = at + size
        return PyBytes_FromStringAndSize(<const char*> at, size)
    if self.input == FILE and self.end - at < size - LARGE and self.source.fills:
        return read_large(self, size)
    take_slowly(self, size)
    data = <PyObject*> self.scratch
    Py_INCREF(data)
    self.scratch = None
    return data


cdef PyObject* read_large(Unpickler self, Py_ssize_t size) except NULL:
    """Have the file fill a new bytes object, which grows as the bytes arrive."""
    cdef bytes begin = ask_source(self, self.source.read_window, ())
    cdef Py_ssize_t count = len(begin)
    cdef Py_ssize_t room = count + LARGE
    cdef Py_ssize_t step = 1
    cdef PyObject* data = PyBytes_FromStringAndSize(NULL, room)
    memcpy(PyBytes_AS_STRING(data), PyBytes_AS_STRING(<PyObject*> begin), count)
    try:
        while step and count < size:
            if count == room:
                room = size if room > size >> 1 else 2 * room
                _PyBytes_Resize(&data, room)
            step = fill_from_source(self, &data, count, room - count)
            count += step
        if count < size:
            raise Truncated(CUT)
    except BaseException:
        Py_XDECREF(data)
        raise
    return data


cdef Py_ssize_t fill_from_source(Unpickler self, PyObject** data, Py_ssize_t begin, Py_ssize_t room) except -1:
    """Have the file fill a part of a bytes object that nobody else knows."""
    cdef PyObject* copy
    view = PyMemoryView_FromMemory(PyBytes_AS_STRING(data[0]) + begin, room, PyBUF_WRITE)
    try:
        return ask_source(self, self.source.read_into, (view,))
    finally:
        if not pstore_close_view(<PyObject*> view):
            # The file has kept a part of what it was lent. It gets what was filled, for ever, and we take a copy.
            copy = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data[0]), PyBytes_GET_SIZE(data[0]))
            data[0] = copy


cdef Bytes take_line(Unpickler self, Py_ssize_t* size) except NULL:
    """Read a line, whose size is without its newline; it is there until the next bytes are read."""
    cdef Bytes at = self.at
    cdef Bytes newline = <Bytes> memchr(at, 10, self.end - at)
    if newline != NULL:
        self.at = newline + 1
        size[0] = newline - at
        return at
    if self.input != FILE:
        self.at = self.end
        raise Truncated(CUT)
    cdef bytes line = ask_source(self, self.source.readline, ())
    if not line.endswith(b"\n"):
        raise Truncated(CUT)
    self.scratch = line
    size[0] = len(line) - 1
    return <Bytes> PyBytes_AS_STRING(<PyObject*> line)


cdef bytes take_line_bytes(Unpickler self):
    cdef Py_ssize_t size
    cdef Bytes line = take_line(self, &size)
    return line[:size]


cdef Py_ssize_t take_length1(Unpickler self) except -1:
    return take(self, 1)[0]


cdef Py_ssize_t take_length4(Unpickler self) except -1:
    return checked_length(pstore_u4(take(self, 4)))


cdef Py_ssize_t take_length8(Unpickler self) except -1:
    return checked_length(pstore_u8(take(self, 8)))


cdef Py_ssize_t take_signed_length(Unpickler self) except -1:
    cdef int32_t size = <int32_t> pstore_u4(take(self, 4))
    if size < 0:
        raise Malformed(NEGATIVE)
    return size


cdef Py_ssize_t checked_length(uint64_t size) except -1:
    if size > <uint64_t> PY_SSIZE_T_MAX:
        raise Truncated(CUT)
    return <Py_ssize_t> size


# -------------------------------------------------------------------------------------------------------------- the stack


cdef int underflow() except -1:
    raise Malformed(UNDERFLOW)


cdef int make_room_for(Unpickler self, PyObject* obj) except -1:
    """Enlarge the stack for what is to be put on it; owned, and given up where that can't be done."""
    cdef Py_ssize_t count = self.top - self.bottom
    cdef Py_ssize_t fence = self.fence - self.bottom
    cdef size_t room = <size_t> count * 2 if count else ROOM
    cdef PyObject** larger = <PyObject**> realloc(self.bottom, room * sizeof(PyObject*))
    if larger == NULL:
        Py_DECREF(obj)
        raise MemoryError
    self.bottom = larger
    self.fence = larger + fence
    self.top = larger + count
    self.limit = larger + room
    return 0


cdef inline int push(Unpickler self, PyObject* obj) except -1:
    """Put on the stack what is owned; the stack owns it then."""
    if self.top == self.limit:
        make_room_for(self, obj)
    self.top[0] = obj
    self.top += 1
    return 0


cdef inline int push_new(Unpickler self, PyObject* obj) except -1:
    """Put something on the stack that is somebody else's too."""
    Py_INCREF(obj)
    return push(self, obj)


cdef inline int need(Unpickler self, Py_ssize_t count) except -1:
    """Make sure that so many things lie on the stack."""
    if self.top - self.fence < count:
        underflow()
    return 0


cdef inline PyObject* peek(Unpickler self, Py_ssize_t depth) noexcept:
    """Return the topmost thing (depth 1), or one below it; the stack's."""
    return (self.top - depth)[0]


cdef inline void drop(Unpickler self) noexcept:
    """Take away the topmost thing."""
    self.top -= 1
    Py_DECREF(self.top[0])


cdef inline void replace_top(Unpickler self, PyObject* obj) noexcept:
    """Put what is owned in the place of the topmost thing."""
    cdef PyObject* before = peek(self, 1)
    (self.top - 1)[0] = obj
    Py_DECREF(before)


cdef object take_top(Unpickler self):
    result = <object> peek(self, 1)
    drop(self)
    return result


cdef void clear_stack(Unpickler self) noexcept:
    """Empty the stack; what was needed for a large stream only is given back."""
    while self.top > self.bottom:
        drop(self)
    self.fence = self.bottom
    self.mark_count = 0
    if self.limit - self.bottom > KEPT:
        free(self.bottom)
        self.bottom = self.fence = self.top = self.limit = NULL
    if self.mark_room > KEPT:
        free(self.marks)
        self.marks = NULL
        self.mark_room = 0


cdef int load_mark(Unpickler self) except -1:
    cdef Mark* larger
    cdef Py_ssize_t room
    if self.mark_count == self.mark_room:
        room = self.mark_room * 2 if self.mark_room else ROOM
        larger = <Mark*> realloc(self.marks, <size_t> room * sizeof(Mark))
        if larger == NULL:
            raise MemoryError
        self.marks = larger
        self.mark_room = room
    self.marks[self.mark_count].fence = self.fence - self.bottom
    self.marks[self.mark_count].memoised = PyList_GET_SIZE(<PyObject*> self.memoised)
    self.mark_count += 1
    self.fence = self.top
    return 0


cdef inline int need_mark(Unpickler self) except -1:
    """Make sure that there is a mark; what lies above it is between `fence` and `top`."""
    if not self.mark_count:
        raise Malformed(NO_MARK)
    return 0


cdef inline void drop_mark(Unpickler self) noexcept:
    self.mark_count -= 1
    self.fence = self.bottom + self.marks[self.mark_count].fence


cdef inline Py_ssize_t count_below_mark(Unpickler self) noexcept:
    """Return how many things lie below the topmost mark and above the one before it."""
    return self.fence - self.bottom - self.marks[self.mark_count - 1].fence


cdef inline PyObject* below_mark(Unpickler self) except NULL:
    """Return what lies below the topmost mark; the stack's."""
    need_mark(self)
    if not count_below_mark(self):
        underflow()
    return (self.fence - 1)[0]


cdef void drop_items(Unpickler self) noexcept:
    """Take away what lies above the topmost mark, and the mark."""
    while self.top > self.fence:
        drop(self)
    drop_mark(self)


cdef PyObject* pop_items(Unpickler self) except NULL:
    """Move what lies above the topmost mark into a list, and take away the mark."""
    need_mark(self)
    cdef PyObject* items = PyList_New(0)
    try:
        pstore_extend(items, self.fence, self.top - self.fence)
    except MemoryError:
        Py_DECREF(items)
        raise
    self.top = self.fence
    drop_mark(self)
    return items


cdef list pop_list(Unpickler self):
    cdef PyObject* items = pop_items(self)
    result = <list> items
    Py_DECREF(items)
    return result


cdef int load_pop(Unpickler self) except -1:
    if self.top > self.fence:
        drop(self)
    else:
        need_mark(self)
        drop_mark(self)
    return 0


cdef int load_pop_mark(Unpickler self) except -1:
    need_mark(self)
    drop_items(self)
    return 0


cdef int load_dup(Unpickler self) except -1:
    need(self, 1)
    return push_new(self, peek(self, 1))


# --------------------------------------------------------------------------------------------------------------- the memo


cdef int clear_memo(Unpickler self) except -1:
    if self.folding:
        memset(self.folded, 0, self.folded_room)
        self.folding = False
        if self.folded_room > KEPT:
            free(self.folded)
            self.folded = NULL
            self.folded_room = 0
    if pstore_room(<PyObject*> self.memoised) > KEPT:
        self.memoised = []
    while PyList_GET_SIZE(<PyObject*> self.memoised):
        Py_DECREF(pstore_take_last(<PyObject*> self.memoised))
    self.scattered = None
    self.loose = False
    return 0


cdef inline int load_memoize(Unpickler self) except -1:
    need(self, 1)
    if self.loose:
        return memo_put_at(self, self.entries, peek(self, 1))
    return pstore_append(<PyObject*> self.memoised, peek(self, 1))


cdef int memo_put(Unpickler self, index, PyObject* obj) except -1:
    """Put something into the memo at any index."""
    if index <= PY_SSIZE_T_MAX:
        return memo_put_at(self, index, obj)
    loosen(self)
    if index not in self.scattered:
        self.entries += 1
    self.scattered[index] = <object> obj
    return 0


cdef int memo_put_at(Unpickler self, Py_ssize_t index, PyObject* obj) except -1:
    cdef PyObject* memo = <PyObject*> self.memoised
    cdef Py_ssize_t size = PyList_GET_SIZE(memo)
    cdef PyObject* before
    if index < size:
        before = PyList_GET_ITEM(memo, index)
        Py_INCREF(obj)
        PyList_SET_ITEM(memo, index, obj)
        if before == <PyObject*> HOLE:
            self.entries += 1
        if self.folding and index >> 3 < self.folded_room:
            self.folded[index >> 3] &= ~(1 << (index & 7))
        Py_DECREF(before)
        return 0
    if index == size and not self.loose:
        return pstore_append(memo, obj)
    loosen(self)
    if index - size > GAP:
        if index not in self.scattered:
            self.entries += 1
        self.scattered[index] = <object> obj
        return 0
    while size < index:  # what stands in the list stands there only
        self.memoised.append(self.scattered.pop(size, HOLE))
        size += 1
    replaced = self.scattered.pop(index, HOLE)
    if replaced is HOLE:
        self.entries += 1
    return pstore_append(memo, obj)


cdef int loosen(Unpickler self) except -1:
    """Count the entries from now on."""
    if not self.loose:
        self.scattered = {}
        self.entries = PyList_GET_SIZE(<PyObject*> self.memoised)
        self.loose = True
    return 0


cdef inline int memo_get_at(Unpickler self, Py_ssize_t index) except -1:
    """Put on the stack what is in the memo at an index."""
    cdef PyObject* found
    if index < PyList_GET_SIZE(<PyObject*> self.memoised):
        found = PyList_GET_ITEM(<PyObject*> self.memoised, index)
        if self.folding and PyTuple_CheckExact(found):
            found = unfold(self, index)
        if found != <PyObject*> HOLE:
            return push_new(self, found)
    return memo_get(self, index)


cdef int memo_get(Unpickler self, index) except -1:
    """Put on the stack what is in the memo at an index that isn't in the list."""
    found = HOLE
    if 0 <= index < len(self.memoised):
        found = self.memoised[index]
    elif self.scattered is not None:
        found = self.scattered.get(index, HOLE)
    if found is HOLE:
        raise Malformed(NO_MEMO % index)
    return push_new(self, <PyObject*> found)


# The state of an instance is mostly a dict that nobody will ever see: it is made, memoised, filled, put into the instance
# and never referred to again. So it isn't made: in the memo a tuple of keys and values stands for it, *folded*, until
# somebody does ask for it.


cdef bint fold(Unpickler self, PyObject* state, Py_ssize_t at) except -1:
    """Put what lies above the topmost mark into a tuple in the memo, in the place of an empty dict at the index `at`."""
    cdef Py_ssize_t count = self.top - self.fence
    cdef Py_ssize_t i
    cdef PyObject* items
    if at >> 3 >= self.folded_room:
        make_room_for_bit(self, at)
    items = PyTuple_New(count)
    for i in range(count):
        PyTuple_SET_ITEM(items, i, self.fence[i])
    self.top = self.fence
    PyList_SET_ITEM(<PyObject*> self.memoised, at, items)
    Py_DECREF(state)
    self.folded[at >> 3] |= 1 << (at & 7)
    self.folding = True
    return True


cdef int make_room_for_bit(Unpickler self, Py_ssize_t at) except -1:
    cdef Py_ssize_t room = max(2 * self.folded_room, 2 * (at >> 3), ROOM)
    cdef byte* larger = <byte*> realloc(self.folded, room)
    if larger == NULL:
        raise MemoryError
    memset(larger + self.folded_room, 0, room - self.folded_room)
    self.folded = larger
    self.folded_room = room
    return 0


cdef PyObject* unfold(Unpickler self, Py_ssize_t at) except NULL:
    """Return a tuple of the memo, or the dict that it stands for; the memo's."""
    cdef PyObject* items = PyList_GET_ITEM(<PyObject*> self.memoised, at)
    cdef PyObject* unfolded
    cdef Py_ssize_t i
    if at >> 3 >= self.folded_room or not self.folded[at >> 3] & 1 << (at & 7):
        return items
    unfolded = PyDict_New()
    try:
        for i in range(0, PyTuple_GET_SIZE(items), 2):  # the keys are plain str: this runs nobody's code
            PyDict_SetItem(unfolded, PyTuple_GET_ITEM(items, i), PyTuple_GET_ITEM(items, i + 1))
    except MemoryError:
        Py_DECREF(unfolded)
        raise
    PyList_SET_ITEM(<PyObject*> self.memoised, at, unfolded)
    self.folded[at >> 3] &= ~(1 << (at & 7))
    Py_DECREF(items)
    return unfolded


cdef int unfold_all(Unpickler self) except -1:
    cdef Py_ssize_t at
    if self.folding:
        for at in range(PyList_GET_SIZE(<PyObject*> self.memoised)):
            unfold(self, at)
    return 0


cdef int load_put(Unpickler self) except -1:
    cdef Py_ssize_t size
    cdef int64_t value
    cdef Bytes line = take_line(self, &size)
    if pstore_decimal(line, size, &value) and 0 <= value < PY_SSIZE_T_MAX:
        need(self, 1)
        return memo_put_at(self, <Py_ssize_t> value, peek(self, 1))
    index = int(line[:size])
    if index < 0:
        raise MalformedValue(PUT_NEGATIVE)
    need(self, 1)
    return memo_put(self, index, peek(self, 1))


cdef int load_binput(Unpickler self) except -1:
    need(self, 1)
    return memo_put_at(self, take(self, 1)[0], peek(self, 1))


cdef int load_long_binput(Unpickler self) except -1:
    cdef Py_ssize_t index = take_length4(self)
    need(self, 1)
    return memo_put_at(self, index, peek(self, 1))


cdef int load_get(Unpickler self) except -1:
    cdef Py_ssize_t size
    cdef int64_t value
    cdef Bytes line = take_line(self, &size)
    if pstore_decimal(line, size, &value) and 0 <= value < PY_SSIZE_T_MAX:
        return memo_get_at(self, <Py_ssize_t> value)
    return memo_get(self, int(line[:size]))


cdef int load_binget(Unpickler self) except -1:
    return memo_get_at(self, take(self, 1)[0])


cdef int load_long_binget(Unpickler self) except -1:
    return memo_get_at(self, take_length4(self))


# ------------------------------------------------------------------------------------------------------------------ atoms


cdef int load_proto(Unpickler self) except -1:
    cdef int proto = take(self, 1)[0]
    if proto > HIGHEST_PROTOCOL:
        raise wrong_protocol(proto)
    self.proto = proto
    return 0


cdef int load_frame(Unpickler self) except -1:
    cdef uint64_t size = pstore_u8(take(self, 8))
    if self.input != FILE:
        there = size <= <uint64_t> (self.end - self.at)
    else:
        there = ask_source(self, self.source.fetch, (size,))
    if not there:
        raise Truncated(CUT)
    return 0


cdef int load_int(Unpickler self) except -1:
    cdef Py_ssize_t size
    cdef int64_t value
    cdef Bytes line = take_line(self, &size)
    if size == 2 and line[0] == c"0" and (line[1] == c"0" or line[1] == c"1"):
        return push_new(self, Py_False if line[1] == c"0" else Py_True)
    return push_decimal(self, line, size)


cdef int load_long(Unpickler self) except -1:
    cdef Py_ssize_t size
    cdef Bytes line = take_line(self, &size)
    if size and line[size - 1] == c"L":
        size -= 1
    return push_decimal(self, line, size)


cdef int push_decimal(Unpickler self, Bytes line, Py_ssize_t size) except -1:
    cdef int64_t value
    if pstore_decimal(line, size, &value):
        number = value
    else:
        number = int(line[:size], 0)
    return push_new(self, <PyObject*> number)


cdef int push_long(Unpickler self, Py_ssize_t size) except -1:
    cdef PyObject* number = pstore_long(take(self, size), size)
    if number == NULL:
        return -1
    return push(self, number)


cdef int load_float(Unpickler self) except -1:
    cdef double number = float(take_line_bytes(self))
    return push(self, PyFloat_FromDouble(number))


cdef int load_unicode(Unpickler self) except -1:
    cdef Py_ssize_t size
    cdef Bytes line = take_line(self, &size)
    return push(self, PyUnicode_DecodeRawUnicodeEscape(<const char*> line, size, NULL))


cdef inline int push_text(Unpickler self, Py_ssize_t size) except -1:
    cdef PyObject* text = pstore_text(take(self, size), size)
    if text == NULL:
        return -1
    return push(self, text)


cdef int load_bytearray8(Unpickler self) except -1:
    cdef Py_ssize_t size = take_length8(self)
    if self.input != FILE or self.end - self.at >= size:
        return push(self, PyByteArray_FromStringAndSize(<const char*> take(self, size), size))
    data = ask_source(self, self.source.read_bytearray, (size,))
    if len(data) != size:
        raise Truncated(CUT)
    return push_new(self, <PyObject*> data)


# Python 2's str: text or bytes, as the user says.


cdef int load_string(Unpickler self) except -1:
    data = unquoted(take_line_bytes(self))
    text = python2_text(data, self.encoding, self.errors)
    return push_new(self, <PyObject*> text)


cdef int push_string(Unpickler self, Py_ssize_t size) except -1:
    cdef Bytes data = take(self, size)
    if self.encoding in ASCII_LIKE and type(self.errors) is str and pstore_is_ascii(data, size):
        return push(self, PyUnicode_DecodeASCII(<const char*> data, size, NULL))
    text = python2_text(data[:size], self.encoding, self.errors)
    return push_new(self, <PyObject*> text)


# ------------------------------------------------------------------------------------------------------------- containers


cdef int load_tuple(Unpickler self) except -1:
    need_mark(self)
    cdef Py_ssize_t size = self.top - self.fence
    cdef Py_ssize_t i
    cdef PyObject* items = PyTuple_New(size)
    for i in range(size):
        PyTuple_SET_ITEM(items, i, self.fence[i])
    self.top = self.fence
    drop_mark(self)
    return push(self, items)


cdef inline int push_tuple(Unpickler self, Py_ssize_t size) except -1:
    """Put the topmost things into a tuple."""
    need(self, size)
    cdef Py_ssize_t i
    cdef PyObject* items = PyTuple_New(size)
    self.top -= size
    for i in range(size):
        PyTuple_SET_ITEM(items, i, self.top[i])
    self.top[0] = items
    self.top += 1
    return 0


cdef int load_list(Unpickler self) except -1:
    return push(self, pop_items(self))


cdef int load_append(Unpickler self) except -1:
    need(self, 2)
    cdef PyObject* target = peek(self, 2)
    if PyList_CheckExact(target):
        pstore_append(target, peek(self, 1))
    else:
        leave(self)
        append_item(<object> target, <object> peek(self, 1))
        come_back(self)
    drop(self)
    return 0


cdef int load_appends(Unpickler self) except -1:
    cdef PyObject* target = below_mark(self)
    if PyList_CheckExact(target):
        pstore_extend(target, self.fence, self.top - self.fence)
        self.top = self.fence
        drop_mark(self)
        return 0
    items = pop_list(self)
    leave(self)
    extend_with(<object> target, items)
    come_back(self)
    return 0


cdef int load_dict(Unpickler self) except -1:
    need_mark(self)
    cdef PyObject* target = PyDict_New()
    try:
        fill_dict(self, target)
    except BaseException:
        Py_DECREF(target)
        raise
    drop_items(self)
    return push(self, target)


cdef int fill_dict(Unpickler self, PyObject* target) except -1:
    """Put what lies above the topmost mark into a dict."""
    cdef Py_ssize_t count = self.top - self.fence
    cdef Py_ssize_t i
    if count % 2:
        raise Malformed(ODD)
    cdef bint plain = check_keys(self, self.fence, count, 2)
    if not plain:
        leave(self)
    for i in range(0, count, 2):
        PyDict_SetItem(target, self.fence[i], self.fence[i + 1])
    if not plain:
        come_back(self)
    return 0


cdef inline bint is_state(Unpickler self, PyObject* target, PyObject** keys, Py_ssize_t count) noexcept:
    """Whether keys and values are to be a dict's that is the state of an instance, put into that at once."""
    if self.at == self.end or self.at[0] != BUILD or PyDict_GET_SIZE(target):
        return False
    return are_names(keys, count)


cdef inline bint are_names(PyObject** keys, Py_ssize_t count) noexcept:
    """Whether keys and values are pairs, the keys plain text."""
    cdef Py_ssize_t i
    if count % 2:
        return False
    for i in range(0, count, 2):
        if not PyUnicode_CheckExact(keys[i]):
            return False
    return True


cdef Py_ssize_t place_of(Unpickler self, PyObject* target, Py_ssize_t at) except -3:
    """Return where in the memo a dict lies that nobody has but it and the stack, `at` being a guess.

    Returns:
        The index; -1 where it isn't in the memo; -2 where that isn't known, or others may have it.
    """
    cdef Py_ssize_t references = Py_REFCNT(target)
    if references == 1:
        return -1
    if references == 2 and 0 <= at < PyList_GET_SIZE(<PyObject*> self.memoised):
        if PyList_GET_ITEM(<PyObject*> self.memoised, at) == target:
            return at
    return -2


cdef int load_setitem(Unpickler self) except -1:
    need(self, 3)
    cdef PyObject* target = peek(self, 3)
    check_keys(self, self.top - 2, 1, 1)
    leave(self)
    if PyDict_CheckExact(target):
        PyDict_SetItem(target, peek(self, 2), peek(self, 1))
    else:
        set_items(<object> target, [<object> peek(self, 2), <object> peek(self, 1)])
    come_back(self)
    drop(self)
    drop(self)
    return 0


cdef int load_setitems(Unpickler self, bint building) except -1:
    cdef PyObject* target = below_mark(self)
    if PyDict_CheckExact(target):
        if building and is_state(self, target, self.fence, self.top - self.fence) and build_at_once(self, target):
            return 0
        if building and is_whole(self, target) and fill_target(self, target):
            return 0
        fill_dict(self, target)
        drop_items(self)
        return 0
    if (self.top - self.fence) % 2:
        raise Malformed(ODD)
    check_keys(self, self.fence, self.top - self.fence, 2)
    items = pop_list(self)
    leave(self)
    set_items(<object> target, items)
    come_back(self)
    return 0


cdef int load_additems(Unpickler self) except -1:
    cdef PyObject* target = below_mark(self)
    cdef Py_ssize_t i
    cdef bint plain = check_keys(self, self.fence, self.top - self.fence, 1)
    if PySet_CheckExact(target):
        if not plain:
            leave(self)
        for i in range(self.top - self.fence):
            PySet_Add(target, self.fence[i])
        if not plain:
            come_back(self)
        drop_items(self)
        return 0
    items = pop_list(self)
    leave(self)
    if py_isinstance(<object> target, set):
        (<object> target).update(items)
    else:
        add_items(<object> target, items)
    come_back(self)
    return 0


cdef int load_frozenset(Unpickler self) except -1:
    need_mark(self)
    check_keys(self, self.fence, self.top - self.fence, 1)
    items = pop_list(self)
    leave(self)
    elements = frozenset(items)
    come_back(self)
    return push_new(self, <PyObject*> elements)


# Keys: see `_check_keys` in the reference for why they are looked at before they are hashed.


cdef inline bint is_flat(PyTypeObject* kind) noexcept:
    return (
        kind == &PyUnicode_Type or kind == &PyLong_Type or kind == &PyFloat_Type or kind == &PyComplex_Type
        or kind == &PyBool_Type or kind == &PyBytes_Type or kind == none_type or kind == &PyFrozenSet_Type
        or kind == opaque_type
    )


cdef int check_keys(Unpickler self, PyObject** keys, Py_ssize_t count, Py_ssize_t step) except -1:
    """Make sure that keys can be hashed, and tell whether that runs nobody's code."""
    cdef Py_ssize_t i
    cdef PyTypeObject* kind
    cdef bint plain = True
    for i from 0 <= i < count by step:
        kind = Py_TYPE(keys[i])
        if is_flat(kind):
            continue
        plain = False
        if pstore_hashes_as_tuple(kind):
            check_tuple(self, keys[i])
        elif pstore_has_no_hash(kind):
            raise unhashable(<object> kind)
    return plain


cdef struct OpenTuple:
    PyObject* items
    Py_ssize_t at


cdef int check_tuple(Unpickler self, PyObject* key) except -1:
    cdef OpenTuple open_tuples[KEY_DEPTH + 1]
    cdef OpenTuple* one
    cdef PyObject* item
    cdef PyTypeObject* kind
    cdef Py_ssize_t work = self.hash_work
    cdef int depth = 1
    open_tuples[0].items = key
    open_tuples[0].at = 0
    while depth:
        one = &open_tuples[depth - 1]
        if one.at < PyTuple_GET_SIZE(one.items):
            item = PyTuple_GET_ITEM(one.items, one.at)
            one.at += 1
            work += 1
            kind = Py_TYPE(item)
            if is_flat(kind):
                continue
            if pstore_hashes_as_tuple(kind):
                if depth == KEY_DEPTH:
                    raise too_deep_to_hash()
                open_tuples[depth].items = item
                open_tuples[depth].at = 0
                depth += 1
            elif pstore_has_no_hash(kind):
                raise unhashable(<object> kind)
            else:
                continue
        else:
            depth -= 1
        if work > HASH_WORK and work > HASH_WORK + HASH_WORK_PER_BYTE * reached(self):
            raise too_long_to_hash()
    self.hash_work = work
    return 0


# --------------------------------------------------------------------------------------------------- out-of-band buffers


cdef int load_next_buffer(Unpickler self) except -1:
    if self.buffers is None:
        raise Malformed(NO_BUFFERS)
    leave(self)
    buffer = next(self.buffers, UNSET)
    come_back(self)
    if buffer is UNSET:
        raise Malformed(FEW_BUFFERS)
    return push_new(self, <PyObject*> buffer)


cdef int load_readonly_buffer(Unpickler self) except -1:
    need(self, 1)
    leave(self)
    view = readonly_view(<object> peek(self, 1))
    come_back(self)
    Py_INCREF(<PyObject*> view)
    replace_top(self, <PyObject*> view)
    return 0


# -------------------------------------------------------------------------------------------------------- persistent ids


cdef int load_persid(Unpickler self) except -1:
    pid = take_id_line(self)
    return push(self, persistent(self, <PyObject*> pid))


cdef object take_id_line(Unpickler self):
    cdef Py_ssize_t size
    cdef Bytes line = take_line(self, &size)
    if pstore_is_ascii(line, size):
        return PyUnicode_FromStringAndSize(<const char*> line, size)
    return id_of_line(line[:size])


cdef int load_binpersid(Unpickler self) except -1:
    need(self, 1)
    replace_top(self, persistent(self, peek(self, 1)))
    return 0


cdef PyObject* persistent(Unpickler self, PyObject* pid) except NULL:
    """Return the object that an id stands for; owned."""
    cdef PyObject* found
    objects = self.persistent_objects
    if objects is not None and (Py_TYPE(pid) == &PyLong_Type or Py_TYPE(pid) == &PyUnicode_Type):
        if PyDict_CheckExact(<PyObject*> objects):
            found = PyDict_GetItemWithError(<PyObject*> objects, pid)
            if found != NULL:
                Py_INCREF(found)
                return found
        else:
            leave(self)
            obj = objects.get(<object> pid, UNSET)
            come_back(self)
            if obj is not UNSET:
                Py_INCREF(<PyObject*> obj)
                return <PyObject*> obj
    if self.ids is not None:
        pstore_append(<PyObject*> self.ids, pid)
        Py_INCREF(pid)
        return pid
    if self.ask is UNSET:
        raise Malformed(NO_LOADER)
    leave(self)
    obj = self.ask(<object> pid)
    come_back(self)
    Py_INCREF(<PyObject*> obj)
    return <PyObject*> obj


# --------------------------------------------------------------------------------------------------- classes and functions


cdef int load_global(Unpickler self) except -1:
    module = take_text_line(self, "utf-8")
    name = take_text_line(self, "utf-8")
    if not module or not name:
        raise Malformed(GLOBAL_EMPTY)
    found = find(self, module, name)
    return push_new(self, <PyObject*> found)


cdef int load_stack_global(Unpickler self) except -1:
    need(self, 2)
    if not PyUnicode_CheckExact(peek(self, 1)) or not PyUnicode_CheckExact(peek(self, 2)):
        raise Malformed(GLOBAL_NOT_TEXT)
    found = find(self, <object> peek(self, 2), <object> peek(self, 1))
    Py_INCREF(<PyObject*> found)
    drop(self)
    replace_top(self, <PyObject*> found)
    return 0


cdef int load_extension(Unpickler self, int size) except -1:
    module, name = extension(take_code(self, size))
    found = find(self, module, name)
    return push_new(self, <PyObject*> found)


cdef long take_code(Unpickler self, int size) except? -1:
    """Read an extension code."""
    cdef Bytes code = take(self, size)
    if size == 1:
        return code[0]
    if size == 2:
        return pstore_u2(code)
    return <int32_t> pstore_u4(code)


cdef object take_text_line(Unpickler self, str encoding):
    """Read a line of text, in ASCII or what extends it."""
    cdef Py_ssize_t size
    cdef Bytes line = take_line(self, &size)
    if pstore_is_ascii(line, size):
        return PyUnicode_FromStringAndSize(<const char*> line, size)
    return text_of(line[:size], encoding)


cdef object find(Unpickler self, module, name):
    """Find a class or function, as the user says."""
    if self.refuses:
        raise refused(module, name)
    leave(self)
    if self.find is UNSET:
        found = find_plainly(self, module, name)
    else:
        found = self.find(module, name)
    come_back(self)
    return found


cdef object find_plainly(Unpickler self, module, name):
    PySys_Audit("pickle.find_class", "OO", <PyObject*> module, <PyObject*> name)
    if self.proto < 3 and self.fix_imports:
        module, name = from_python2(module, name)
    found = find_loaded(module, name)
    return resolve(module, name, dotted=self.proto >= 4) if found is UNSET else found


cdef object find_loaded(module, name):
    """Return what a module holds under a plain name; UNSET where it isn't as simple as that."""
    cdef PyObject* modules = PyImport_GetModuleDict()
    cdef PyObject* found
    if not is_simple(<PyObject*> name) or not PyUnicode_CheckExact(<PyObject*> module) or not PyDict_CheckExact(modules):
        return UNSET
    if PyDict_GetItemWithError(<PyObject*> builtins_names, _import) != <PyObject*> original_import:
        return UNSET
    found = PyDict_GetItemWithError(modules, <PyObject*> module)
    if found == NULL or Py_TYPE(found) != &PyModule_Type or PyModule_GetDict(found) == NULL:
        return UNSET
    holder = <object> found
    found = PyDict_GetItemWithError(PyModule_GetDict(<PyObject*> holder), _spec)
    if found != NULL and found != Py_None:
        # While another thread imports the module, the import statement waits for it.
        if Py_TYPE(found) != module_spec_type or is_initializing(<object> found):
            return UNSET
    found = PyDict_GetItemWithError(PyModule_GetDict(<PyObject*> holder), <PyObject*> name)
    return UNSET if found == NULL else <object> found


cdef bint is_initializing(spec) except -1:
    return getattr(spec, "_initializing", False) is not False


cdef bint is_simple(PyObject* name) noexcept:
    """Whether a name is neither a path nor one that modules themselves, or paths, have a meaning for."""
    if not PyUnicode_CheckExact(name) or not pstore_ready(name):
        return False
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(name)
    if not size or PyUnicode_FindChar(name, c".", 0, size, 1) >= 0:
        return False
    cdef Py_UCS4 first = PyUnicode_READ_CHAR(name, 0)
    return first != c"<" and not (first == c"_" and size > 1 and PyUnicode_READ_CHAR(name, 1) == c"_")


# -------------------------------------------------------------------------------------------------------------- instances


cdef int load_inst(Unpickler self) except -1:
    module = take_text_line(self, "ascii")
    name = take_text_line(self, "ascii")
    arguments = pop_list(self)
    cls = find(self, module, name)
    leave(self)
    instance = instantiate(cls, arguments)
    come_back(self)
    return push_new(self, <PyObject*> instance)


cdef int load_obj(Unpickler self) except -1:
    arguments = pop_list(self)
    if not arguments:
        underflow()
    leave(self)
    instance = instantiate(arguments[0], arguments[1:])
    come_back(self)
    return push_new(self, <PyObject*> instance)


cdef int load_reduce(Unpickler self) except -1:
    need(self, 2)
    cdef PyObject* function = peek(self, 2)
    cdef PyObject* arguments = peek(self, 1)
    cdef PyObject* result
    if not PyTuple_CheckExact(arguments) or not PyCallable_Check(function):
        return load_reduce_slowly(self)
    if function == <PyObject*> set_type or function == <PyObject*> frozenset_type:
        if PyTuple_GET_SIZE(arguments) == 1 and PyList_CheckExact(PyTuple_GET_ITEM(arguments, 0)):
            check_list(self, <list> PyTuple_GET_ITEM(arguments, 0))  # as protocols 0 to 3 write sets
    leave(self)
    result = PyObject_Call(function, arguments, NULL)
    come_back(self)
    drop(self)
    replace_top(self, result)
    return 0


cdef int load_reduce_slowly(Unpickler self) except -1:
    function, arguments = <object> peek(self, 2), <object> peek(self, 1)
    leave(self)
    check_call(function, arguments)
    if (function is set or function is frozenset) and len(arguments) == 1 and type(arguments[0]) is list:
        check_list(self, arguments[0])
    result = function(*arguments)
    come_back(self)
    Py_INCREF(<PyObject*> result)
    drop(self)
    replace_top(self, <PyObject*> result)
    return 0


cdef int check_list(Unpickler self, list keys) except -1:
    cdef PyObject* key
    cdef Py_ssize_t i
    for i in range(len(keys)):
        key = PyList_GET_ITEM(<PyObject*> keys, i)
        check_keys(self, &key, 1, 1)
    return 0


cdef int load_newobj(Unpickler self) except -1:
    need(self, 2)
    cdef PyObject* cls = peek(self, 2)
    cdef PyObject* arguments = peek(self, 1)
    if not is_made_directly(cls, arguments):
        return load_newobj_slowly(self)
    cdef PyObject* instance = pstore_new(<PyTypeObject*> cls, arguments)
    drop(self)
    replace_top(self, instance)
    return 0


cdef int load_newobj_slowly(Unpickler self) except -1:
    leave(self)
    instance = new_object(<object> peek(self, 2), <object> peek(self, 1), {})
    come_back(self)
    Py_INCREF(<PyObject*> instance)
    drop(self)
    replace_top(self, <PyObject*> instance)
    return 0


cdef inline bint is_made_directly(PyObject* cls, PyObject* arguments) noexcept:
    """Whether ``cls.__new__(cls, *arguments)`` is ``object.__new__(cls)``."""
    cdef Plan* plan
    cdef PyObject* found
    if arguments != empty_tuple or not PyType_Check(cls) or not pstore_is_plain_metaclass(Py_TYPE(cls)):
        return False
    if Py_TYPE(cls) != &PyType_Type:
        found = _PyType_Lookup(Py_TYPE(cls), _new)
        if found != NULL and pstore_is_data_descriptor(found):
            return False
    plan = plan_of(<PyTypeObject*> cls)
    if plan == NULL:
        return False
    return (plan.making or learn_making(plan, <PyTypeObject*> cls)) == DIRECTLY


cdef int load_newobj_ex(Unpickler self) except -1:
    need(self, 3)
    leave(self)
    instance = new_object(<object> peek(self, 3), <object> peek(self, 2), <object> peek(self, 1))
    come_back(self)
    Py_INCREF(<PyObject*> instance)
    drop(self)
    drop(self)
    replace_top(self, <PyObject*> instance)
    return 0


cdef int load_build(Unpickler self) except -1:
    need(self, 2)
    cdef PyObject* instance = peek(self, 2)
    cdef PyObject* state = peek(self, 1)
    if not put_state(self, instance, state):
        leave(self)
        if self.guarded:
            refuse_named(<object> instance)
        apply_state(<object> instance, <object> state)
        come_back(self)
    drop(self)
    return 0


cdef bint put_state(Unpickler self, PyObject* instance, PyObject* state) except -1:
    """Do what `apply_state` does, where it is simple enough; tell whether it was."""
    cdef PyTypeObject* type = Py_TYPE(instance)
    cdef Plan* plan = plan_of(type)
    cdef PyObject* attributes = state
    cdef PyObject* slots = Py_None
    if plan == NULL or (plan.state or learn_state(plan, type)) != DIRECTLY:
        return False
    if PyTuple_CheckExact(state) and PyTuple_GET_SIZE(state) == 2:
        attributes = PyTuple_GET_ITEM(state, 0)
        slots = PyTuple_GET_ITEM(state, 1)
    if attributes != Py_None and not (plan.has_dict and PyDict_CheckExact(attributes)):
        return False
    if slots != Py_None and not (PyDict_CheckExact(slots) and pstore_sets_generically(type)):
        return False
    if plan.has_dict and getattr(<object> instance, "__setstate__", None) is not None:
        return False  # the class has none, but the instance has
    cdef int known = 0
    if attributes != Py_None:
        known = put_attributes(self, plan, instance, attributes)
    if slots != Py_None:
        put_slots(self, plan, instance, slots, known)
    return True


cdef bint build_at_once(Unpickler self, PyObject* state) except -1:
    """Run SETITEMS and the BUILD behind it in one, where nobody else sees the dict; tell whether that was done."""
    cdef Py_ssize_t count = self.top - self.fence
    cdef Py_ssize_t place = place_of(self, state, self.marks[self.mark_count - 1].memoised - 1)
    cdef PyObject* instance
    cdef PyTypeObject* type
    cdef Plan* plan
    if place == -2 or count_below_mark(self) < 2:
        return False
    instance = (self.fence - 2)[0]
    type = Py_TYPE(instance)
    plan = plan_of(type)
    if plan == NULL or (plan.state or learn_state(plan, type)) != DIRECTLY or not plan.has_dict:
        return False
    if getattr(<object> instance, "__setstate__", None) is not None:
        return False
    take_build(self)
    if place < 0:
        put_items(self, plan, instance, self.fence, count)
        drop_items(self)
        drop(self)
        return True
    fold(self, state, place)
    drop_mark(self)
    drop(self)
    pairs = <object> PyList_GET_ITEM(<PyObject*> self.memoised, place)
    put_items(self, plan, instance, pstore_tuple_items(<PyObject*> pairs), count)
    return True


cdef inline bint is_whole(Unpickler self, PyObject* target) noexcept:
    """Whether a dict, which is about to be filled, will be all there is to a stream that `load_state` reads."""
    if self.target == NULL or self.at == self.end or self.at[0] != STOP or self.mark_count != 1:
        return False
    return count_below_mark(self) == 1 and PyDict_CheckExact(target)


cdef bint fill_target(Unpickler self, PyObject* state) except -1:
    """Put keys and values into the instance that is to have the dict as its state; tell whether that was done.

    An instance that has attributes already is left alone: the code of what is replaced may use this unpickler.
    """
    cdef Py_ssize_t count = self.top - self.fence
    cdef Py_ssize_t place = place_of(self, state, self.marks[self.mark_count - 1].memoised - 1)
    cdef PyObject* instance = self.target
    cdef PyTypeObject* type = Py_TYPE(instance)
    cdef Plan* plan = plan_of(type)
    cdef PyObject* attributes
    if place < 0 or PyDict_GET_SIZE(state) or not are_names(self.fence, count):
        return False
    if plan == NULL or (plan.state or learn_state(plan, type)) != DIRECTLY or not plan.has_dict:
        return False
    if pstore_has_values(instance):
        if pstore_attribute_count(instance):
            return False
    else:
        attributes = pstore_made_dict(instance)
        if attributes != NULL and (not PyDict_CheckExact(attributes) or PyDict_GET_SIZE(attributes)):
            return False
    fold(self, state, place)
    drop_mark(self)
    drop(self)
    pairs = <object> PyList_GET_ITEM(<PyObject*> self.memoised, place)
    put_items(self, plan, instance, pstore_tuple_items(<PyObject*> pairs), count)
    push_new(self, Py_None)
    self.filled = True
    return True


cdef inline void take_build(Unpickler self) noexcept:
    """Read the opcode that was seen to be next."""
    self.opcode_at = self.at
    self.at += 1
    self.code = BUILD


cdef int put_items(Unpickler self, Plan* plan, PyObject* instance, PyObject** items, Py_ssize_t count) except -1:
    """Put keys and values into the ``__dict__`` of an instance."""
    cdef unsigned int version = plan.version
    cdef Py_ssize_t i = 0
    cdef int done = 0
    while i < count and is_valid(plan, version, instance):
        if is_known(plan, done, items[i]) and not plan.slots[done]:
            PyObject_GenericSetAttr(instance, plan.names[done], items[i + 1])
        else:
            put_attribute(plan, instance, items[i], items[i + 1], done)
        i += 2
        done += 1
    if i < count:
        rest = {<object> items[at]: <object> items[at + 1] for at in range(i, count, 2)}
        leave(self)
        set_attributes(<object> instance, rest)
        come_back(self)
    return 0


cdef inline bint is_valid(Plan* plan, unsigned int version, PyObject* instance) noexcept:
    """Whether a plan is still that of an instance's class, and the class as it was.

    An attribute that is replaced may run code as it goes.
    """
    return plan.type == Py_TYPE(instance) and plan.version == version and pstore_version(plan.type) == version


cdef int put_attributes(Unpickler self, Plan* plan, PyObject* instance, PyObject* state) except -1:
    """Put a dict's items into the ``__dict__`` of an instance, which needn't exist for that; return how many."""
    cdef unsigned int version = plan.version
    cdef Py_ssize_t size = PyDict_GET_SIZE(state)
    cdef Py_ssize_t at = 0
    cdef int done = 0
    cdef PyObject* name
    cdef PyObject* value
    while is_valid(plan, version, instance) and PyDict_Next(state, &at, &name, &value):
        if is_known(plan, done, name) and not plan.slots[done]:
            PyObject_GenericSetAttr(instance, plan.names[done], value)
        else:
            put_attribute(plan, instance, name, value, done)
        done += 1
        if PyDict_GET_SIZE(state) != size:
            raise RuntimeError("dictionary changed size during iteration")
    if done < size:
        leave(self)
        set_attributes(<object> instance, dict(islice((<dict> state).items(), done, None)))
        come_back(self)
    return done


cdef int put_attribute(Plan* plan, PyObject* instance, PyObject* name, PyObject* value, int at) except -1:
    cdef PyObject* found = NULL
    cdef bint plain = PyUnicode_CheckExact(name)
    Py_INCREF(name)
    Py_INCREF(value)
    if plain:
        PyUnicode_InternInPlace(&name)
        found = _PyType_Lookup(Py_TYPE(instance), name)
        if found == NULL or not PyType_HasFeature(Py_TYPE(found), Py_TPFLAGS_HEAPTYPE):
            if found == NULL or not pstore_is_data_descriptor(found):
                learn_name(plan, at, name, 0)
        plain = found == NULL or not pstore_is_data_descriptor(found)
    try:
        if plain:
            PyObject_GenericSetAttr(instance, name, value)
        else:  # a descriptor of the class isn't asked
            put_in_dict(instance, name, value)
    finally:
        Py_DECREF(name)
        Py_DECREF(value)
    return 0


cdef int put_in_dict(PyObject* instance, PyObject* name, PyObject* value) except -1:
    cdef PyObject* attributes = PyObject_GenericGetDict(instance, NULL)
    try:
        PyDict_SetItem(attributes, name, value)
    finally:
        Py_DECREF(attributes)
    return 0


cdef int put_slots(Unpickler self, Plan* plan, PyObject* instance, PyObject* slots, int known) except -1:
    """Set the attributes that are slots; `known` is how many names of the plan come before them."""
    cdef unsigned int version = plan.version
    cdef Py_ssize_t size = PyDict_GET_SIZE(slots)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t slot
    cdef int done = 0
    cdef PyObject* name
    cdef PyObject* value
    while is_valid(plan, version, instance) and PyDict_Next(slots, &at, &name, &value):
        if is_known(plan, known + done, name) and plan.slots[known + done]:
            slot = plan.slots[known + done]
        else:
            slot = find_slot(plan, name, known + done)
            if not slot:
                break
        pstore_set_slot(instance, slot, value)
        done += 1
        if PyDict_GET_SIZE(slots) != size:
            raise RuntimeError("dictionary changed size during iteration")
    if done < size:
        leave(self)
        set_slots(<object> instance, dict(islice((<dict> slots).items(), done, None)))
        come_back(self)
    return 0


cdef Py_ssize_t find_slot(Plan* plan, PyObject* name, int at) noexcept:
    """Return where a slot lies in the instances of a class; 0 where it is no plain slot."""
    cdef PyObject* found
    cdef Py_ssize_t slot
    if not PyUnicode_CheckExact(name):
        return 0
    Py_INCREF(name)
    PyUnicode_InternInPlace(&name)
    found = _PyType_Lookup(plan.type, name)
    slot = 0 if found == NULL else pstore_slot(plan.type, found)
    if slot:
        learn_name(plan, at, name, slot)
    Py_DECREF(name)
    return slot


# ---------------------------------------------------------------------------------- noload: the same with nothing built
#
# What would be imported, called or handed in is OPAQUE. Builtin containers are built: an id may be one.


cdef int saw_global(Unpickler self, module, name) except -1:
    if self.found_names is not None:
        self.found_names.append((module, name))
    return push_new(self, opaque)


cdef int noload_global(Unpickler self, str encoding) except -1:
    module = take_text_line(self, encoding)
    name = take_text_line(self, encoding)
    return saw_global(self, module, name)


cdef int noload_stack_global(Unpickler self) except -1:
    need(self, 2)
    if not PyUnicode_CheckExact(peek(self, 1)) or not PyUnicode_CheckExact(peek(self, 2)):
        raise Malformed(GLOBAL_NOT_TEXT)
    if self.found_names is not None:
        self.found_names.append((<object> peek(self, 2), <object> peek(self, 1)))
    drop(self)
    replace_top_by_opaque(self)
    return 0


cdef inline void replace_top_by_opaque(Unpickler self) noexcept:
    Py_INCREF(opaque)
    replace_top(self, opaque)


cdef int noload_extension(Unpickler self, int size) except -1:
    module, name = extension(take_code(self, size))
    return saw_global(self, module, name)


cdef int noload_inst(Unpickler self) except -1:
    module = take_text_line(self, "ascii")
    name = take_text_line(self, "ascii")
    if self.found_names is not None:
        self.found_names.append((module, name))
    load_pop_mark(self)
    return push_new(self, opaque)


cdef int noload_obj(Unpickler self) except -1:
    need_mark(self)
    need(self, 1)
    drop_items(self)
    return push_new(self, opaque)


cdef int noload_call(Unpickler self, Py_ssize_t count) except -1:
    """Take so many things from the stack, and put one there that isn't built."""
    need(self, count)
    while count > 1:
        drop(self)
        count -= 1
    replace_top_by_opaque(self)
    return 0


cdef int noload_build(Unpickler self) except -1:
    need(self, 2)
    drop(self)
    return 0


cdef int noload_persid(Unpickler self) except -1:
    pid = take_id_line(self)
    if self.found_names is not None:
        return push_new(self, opaque)
    push_new(self, <PyObject*> pid)
    return sniff(self)


cdef int noload_binpersid(Unpickler self) except -1:
    need(self, 1)
    if self.found_names is not None:  # whatever the id is
        replace_top_by_opaque(self)
        return 0
    check_id(self, peek(self, 1))
    return sniff(self)


cdef int sniff(Unpickler self) except -1:
    """Have the id on top of the stack told."""
    cdef PyObject* obj = persistent(self, peek(self, 1))
    # In a list an id stands for itself, so it may be a part of another one.
    if obj != peek(self, 1):
        replace_top_by_opaque(self)
    Py_DECREF(obj)
    return 0


cdef inline bint is_walked(PyTypeObject* kind) noexcept:
    return (
        kind == <PyTypeObject*> tuple or kind == <PyTypeObject*> list or kind == set_type or kind == frozenset_type
        or kind == <PyTypeObject*> dict
    )


cdef int check_id(Unpickler self, PyObject* pid) except -1:
    """Make sure that an id holds nothing, however deep, that wasn't built."""
    if pid == opaque:
        raise Malformed(ID_NOT_PLAIN)
    if not is_walked(Py_TYPE(pid)):
        return 0
    if self.walked is None:
        self.walked = {}
    cdef dict seen = self.walked
    if id(<object> pid) in seen:
        return 0
    cdef list pending = [<object> pid]
    while pending:
        obj = pending.pop()
        if obj is OPAQUE:
            raise Malformed(ID_NOT_PLAIN)
        if is_walked(Py_TYPE(<PyObject*> obj)) and id(obj) not in seen:
            seen[id(obj)] = obj
            pending.extend(obj)
            if type(obj) is dict:
                pending.extend(obj.values())
            self.id_work += len(obj)
            if self.id_work > ID_WORK and self.id_work > ID_WORK + ID_WORK_PER_BYTE * reached(self):
                raise Malformed(ID_TOO_LONG)
    return 0


cdef int noload_append(Unpickler self) except -1:
    need(self, 2)
    cdef PyObject* target = peek(self, 2)
    if target != opaque:
        self.walked = None
        if PyList_CheckExact(target):
            pstore_append(target, peek(self, 1))
        else:
            method_of(<object> target, "append")(<object> peek(self, 1))
    drop(self)
    return 0


cdef int noload_appends(Unpickler self) except -1:
    cdef PyObject* target = below_mark(self)
    if target == opaque:
        drop_items(self)
        return 0
    self.walked = None
    if PyList_CheckExact(target):
        return load_appends(self)
    items = pop_list(self)
    method_of(<object> target, "extend")(items)
    return 0


cdef int noload_setitem(Unpickler self) except -1:
    need(self, 3)
    if peek(self, 3) == opaque:
        drop(self)
        drop(self)
        return 0
    self.walked = None
    return load_setitem(self)


cdef int noload_setitems(Unpickler self) except -1:
    cdef PyObject* target = below_mark(self)
    if target == opaque:
        drop_items(self)
        return 0
    self.walked = None
    if PyDict_CheckExact(target) and is_state(self, target, self.fence, self.top - self.fence):
        if noload_state(self, target):
            return 0
    return load_setitems(self, False)


cdef bint noload_state(Unpickler self, PyObject* state) except -1:
    """Do as `build_at_once` does, without an instance."""
    cdef Py_ssize_t place = place_of(self, state, self.marks[self.mark_count - 1].memoised - 1)
    if place == -2 or count_below_mark(self) < 2:
        return False
    take_build(self)
    if place >= 0:
        fold(self, state, place)
    drop_items(self)
    drop(self)
    return True


cdef int noload_additems(Unpickler self) except -1:
    cdef PyObject* target = below_mark(self)
    if target == opaque:
        drop_items(self)
        return 0
    self.walked = None
    if PySet_CheckExact(target):
        return load_additems(self)
    check_keys(self, self.fence, self.top - self.fence, 1)
    items = pop_list(self)
    method_of(<object> target, "update")(items)
    return 0


# --------------------------------------------------------------------------------------------------------------- the loop


cdef int run(Unpickler self, bint building, int code) except -1:
    """Run a stream up to and including STOP, which leaves its object on the stack."""
    while True:
        if code == AHEAD:
            if self.at < self.end:
                self.opcode_at = self.at
                code = self.at[0]
                self.at += 1
            else:
                code = further(self)
        self.code = code
        if code == SHORT_BINUNICODE:
            push_text(self, take_length1(self))
        elif code == MEMOIZE:
            load_memoize(self)
        elif code == BINGET:
            load_binget(self)
        elif code == LONG_BINGET:
            load_long_binget(self)
        elif code == BINPUT:
            load_binput(self)
        elif code == LONG_BINPUT:
            load_long_binput(self)
        elif code == BININT1:
            push_new(self, small_ints[take(self, 1)[0]])
        elif code == BININT2:
            push(self, PyLong_FromLong(pstore_u2(take(self, 2))))
        elif code == BININT:
            push(self, PyLong_FromLong(<int32_t> pstore_u4(take(self, 4))))
        elif code == LONG1:
            push_long(self, take_length1(self))
        elif code == BINFLOAT:
            push(self, PyFloat_FromDouble(pstore_double(take(self, 8))))
        elif code == NONE:
            push_new(self, Py_None)
        elif code == NEWTRUE:
            push_new(self, Py_True)
        elif code == NEWFALSE:
            push_new(self, Py_False)
        elif code == EMPTY_TUPLE:
            push_new(self, empty_tuple)
        elif code == EMPTY_LIST:
            push(self, PyList_New(0))
        elif code == EMPTY_DICT:
            push(self, PyDict_New())
        elif code == EMPTY_SET:
            push(self, PySet_New(NULL))
        elif code == MARK:
            load_mark(self)
        elif code == TUPLE1:
            push_tuple(self, 1)
        elif code == TUPLE2:
            push_tuple(self, 2)
        elif code == TUPLE3:
            push_tuple(self, 3)
        elif code == TUPLE:
            load_tuple(self)
        elif code == APPENDS:
            load_appends(self) if building else noload_appends(self)
        elif code == SETITEMS:
            load_setitems(self, True) if building else noload_setitems(self)
        elif code == APPEND:
            load_append(self) if building else noload_append(self)
        elif code == SETITEM:
            load_setitem(self) if building else noload_setitem(self)
        elif code == NEWOBJ:
            load_newobj(self) if building else noload_call(self, 2)
        elif code == BUILD:
            load_build(self) if building else noload_build(self)
        elif code == REDUCE:
            load_reduce(self) if building else noload_call(self, 2)
        elif code == STACK_GLOBAL:
            load_stack_global(self) if building else noload_stack_global(self)
        elif code == BINPERSID:
            load_binpersid(self) if building else noload_binpersid(self)
        elif code == BINUNICODE:
            push_text(self, take_length4(self))
        elif code == BINUNICODE8:
            push_text(self, take_length8(self))
        elif code == SHORT_BINBYTES:
            push(self, take_bytes(self, take_length1(self)))
        elif code == BINBYTES:
            push(self, take_bytes(self, take_length4(self)))
        elif code == BINBYTES8:
            push(self, take_bytes(self, take_length8(self)))
        elif code == PROTO:
            load_proto(self)
        elif code == FRAME:
            load_frame(self)
        elif code == STOP:
            return need(self, 1)
        elif code == POP:
            load_pop(self)
        elif code == POP_MARK:
            load_pop_mark(self)
        elif code == DUP:
            load_dup(self)
        elif code == PUT:
            load_put(self)
        elif code == GET:
            load_get(self)
        elif code == INT:
            load_int(self)
        elif code == LONG:
            load_long(self)
        elif code == LONG4:
            push_long(self, take_signed_length(self))
        elif code == FLOAT:
            load_float(self)
        elif code == UNICODE:
            load_unicode(self)
        elif code == BYTEARRAY8:
            load_bytearray8(self)
        elif code == STRING:
            load_string(self)
        elif code == BINSTRING:
            push_string(self, take_signed_length(self))
        elif code == SHORT_BINSTRING:
            push_string(self, take_length1(self))
        elif code == LIST:
            load_list(self)
        elif code == DICT:
            load_dict(self)
        elif code == ADDITEMS:
            load_additems(self) if building else noload_additems(self)
        elif code == FROZENSET:
            load_frozenset(self)
        elif code == NEXT_BUFFER:
            load_next_buffer(self) if building else push_new(self, opaque)
        elif code == READONLY_BUFFER:
            load_readonly_buffer(self) if building else need(self, 1)
        elif code == PERSID:
            load_persid(self) if building else noload_persid(self)
        elif code == GLOBAL:
            load_global(self) if building else noload_global(self, "utf-8")
        elif code == EXT1:
            load_extension(self, 1) if building else noload_extension(self, 1)
        elif code == EXT2:
            load_extension(self, 2) if building else noload_extension(self, 2)
        elif code == EXT4:
            load_extension(self, 4) if building else noload_extension(self, 4)
        elif code == INST:
            load_inst(self) if building else noload_inst(self)
        elif code == OBJ:
            load_obj(self) if building else noload_obj(self)
        elif code == NEWOBJ_EX:
            load_newobj_ex(self) if building else noload_call(self, 3)
        elif code == END:
            raise Truncated(CUT)
        else:
            raise Malformed(UNKNOWN)
        code = AHEAD


# -------------------------------------------------------------------------------------------------------------- functions


def load(
    file,
    *,
    fix_imports=True,
    encoding="ASCII",
    errors="strict",
    buffers=None,
    persistent_load=None,
    find_global=...,
    persistent_objects=None,
):
    """Read one stream from a file and return its object; arguments and exceptions as for `Unpickler`."""
    return Unpickler(
        file,
        fix_imports=fix_imports,
        encoding=encoding,
        errors=errors,
        buffers=buffers,
        persistent_load=persistent_load,
        find_global=find_global,
        persistent_objects=persistent_objects,
    ).load()


def loads(
    data,
    /,
    *,
    fix_imports=True,
    encoding="ASCII",
    errors="strict",
    buffers=None,
    persistent_load=None,
    find_global=...,
    persistent_objects=None,
):
    """Return the object of the stream with which bytes begin; arguments and exceptions as for `Unpickler`.

    Raises:
        TypeError: `data` isn't a bytes-like object.
    """
    cdef Unpickler unpickler = Unpickler.__new__(Unpickler)
    unpickler.memoised = []
    unpickler.fix_imports = fix_imports
    unpickler.encoding = encoding
    unpickler.errors = errors
    unpickler.persistent_objects = persistent_objects
    if persistent_load is not None:
        unpickler.persistent_load = persistent_load
    if find_global is not ...:
        unpickler.find_global = find_global
    feed(unpickler, data, buffers)
    return read_stream(unpickler, True)


def references(data):
    """Return the persistent ids in a stream, in the order in which loading it would ask for them.

    Where Python 2 wrote an id as a str, each of its bytes is a character.

    Args:
        data: A bytes-like object that begins with the stream.

    Raises:
        EOFError: The stream is cut short.
        UnpicklingError: The stream is malformed; or an id contains what can't be told without building it.
    """
    cdef Unpickler unpickler = new_tool()
    ids = []
    unpickler.ids = ids
    feed(unpickler, data, None)
    read_stream(unpickler, False)
    return ids


def globals(data):
    """Return what a stream imports, as (module, name), in order and as often as it occurs.

    The names are those in the stream: what Python 3 has renamed stands under its old name in a stream of Python 2. Codes
    of the extension registry are looked up there.

    Args:
        data: A bytes-like object that begins with the stream.

    Raises:
        EOFError: The stream is cut short.
        UnpicklingError: The stream is malformed; or an extension code isn't registered.
    """
    cdef Unpickler unpickler = new_tool()
    unpickler.found_names = found_names = []
    feed(unpickler, data, None)
    read_stream(unpickler, False)
    return found_names


cdef Unpickler new_tool():
    """Make an unpickler that reads without building."""
    cdef Unpickler unpickler = Unpickler.__new__(Unpickler)
    unpickler.memoised = []
    unpickler.tool = True
    unpickler.encoding = ANY_BYTES
    unpickler.errors = "strict"
    return unpickler
