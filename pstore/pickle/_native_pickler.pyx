# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic
# cython: boundscheck=False, wraparound=False, initializedcheck=False, nonecheck=False, cdivision=True
"""The native pickler: the bytes, errors and messages of the reference pickler in `_pickler.py`, sooner.

It must never know how a stream is read, and it decides nothing on its own: where this module and the reference differ,
this one is wrong.

What makes it fast:

- An object is dispatched on its exact type in C, and written into one buffer that grows.
- The memo is an open-addressing table from addresses to indices. It is emptied in the time that filling it took, so one
  pickler serves many small streams.
- What an ordinary instance is reduced to is known from its type: no reduction is asked for, no tuple is made. What is known
  of a type is checked by its version tag, which the interpreter renews with each change of the class or its bases.
- An `IdentityTable` is asked in C.

What keeps it safe: an object that is being written is owned by a frame on our own stack (`Frame`), which also makes it
independent of the C stack. Between two parts of a container a *loop* (`list_loop`, ...) writes what can't run
anybody's code: atoms and references to the memo. All else goes through a frame, which owns each part while it is
written and looks at its container anew after each. So nothing is borrowed while a hook, a reduction or a file runs.
"""

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from ._native_opcodes cimport *
from ._native_shared cimport *

import codecs
import copyreg
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView
from functools import partial
from sys import intern, version_info

from . import _canonical, _path
from ._errors import Unpicklable, UnpicklableOverflow, UnpicklableType, UnpicklableValue, WrongProtocol
from ._names import _CODES, extension_code, locate
from ._pickler import Pickler as ReferencePickler
from ._writing import (
    BUSY,
    NO_FILE,
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
from .reduction import check_reduction, is_interpreters, old_style_arguments, old_style_state

__all__ = ["IdentityTable", "Pickler", "dump", "dumps"]

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/mman.h>
    #endif

    /* The value of an int of one digit. */
    static inline int pstore_digit(PyObject *number, long long *value)
    {
    #if PY_VERSION_HEX >= 0x030C0000
        if (PyUnstable_Long_IsCompact((PyLongObject *)number)) {
            *value = PyUnstable_Long_CompactValue((PyLongObject *)number);
            return 1;
        }
    #else
        Py_ssize_t size = Py_SIZE(number);
        if (size >= -1 && size <= 1) {
            *value = size ? size * (long long)((PyLongObject *)number)->ob_digit[0] : 0;
            return 1;
        }
    #endif
        return 0;
    }

    /* The value of an int that fits into 64 bits. */
    static inline int pstore_int64(PyObject *number, long long *value)
    {
        if (pstore_digit(number, value))
            return 1;
        int overflow;
        *value = PyLong_AsLongLongAndOverflow(number, &overflow);
        return !overflow;
    }

    static inline char *pstore_put4(char *out, unsigned long long value)
    {
        out[0] = (char)value;
        out[1] = (char)(value >> 8);
        out[2] = (char)(value >> 16);
        out[3] = (char)(value >> 24);
        return out + 4;
    }

    static inline char *pstore_put8(char *out, unsigned long long value)
    {
        return pstore_put4(pstore_put4(out, value), value >> 32);
    }

    /* The text of a compact ASCII str. */
    static inline const char *pstore_ascii(PyObject *text) { return (const char *)((PyASCIIObject *)text + 1); }

    /* Copies data that is most often short. */
    static inline void pstore_copy(char *out, const char *data, Py_ssize_t size)
    {
        if (size > 32)
            memcpy(out, data, size);
        else if (size >= 16) {
            memcpy(out, data, 16);
            memcpy(out + size - 16, data + size - 16, 16);
        }
        else if (size >= 8) {
            memcpy(out, data, 8);
            memcpy(out + size - 8, data + size - 8, 8);
        }
        else if (size >= 4) {
            memcpy(out, data, 4);
            memcpy(out + size - 4, data + size - 4, 4);
        }
        else
            for (Py_ssize_t i = 0; i < size; i++)
                out[i] = data[i];
    }

    /* The opcode BINFLOAT's argument: IEEE 754, highest byte first. */
    static inline void pstore_put_double(char *out, double value)
    {
        unsigned long long bits;
        memcpy(&bits, &value, 8);
        for (int i = 7; i >= 0; i--, bits >>= 8)
            out[i] = (char)bits;
    }

    /* Two's complement in as few bytes as hold the number and its sign; returns how many. */
    static inline int pstore_put_long(char *out, long long value)
    {
        pstore_put8(out, (unsigned long long)value);
        int size = 8;
        while (size > 1) {
            unsigned char top = (unsigned char)out[size - 1], next = (unsigned char)out[size - 2];
            if (!((top == 0 && next < 0x80) || (top == 0xFF && next >= 0x80)))
                break;
            size--;
        }
        return size;
    }

    /* UTF-8 of a str that isn't ASCII, surrogates included, without leaving a copy in the str as the interpreter would. */
    #define PSTORE_EACH(TYPE, DO)                                       \
        { const TYPE *data = (const TYPE *)PyUnicode_DATA(text);        \
          for (Py_ssize_t i = 0; i < length; i++) { Py_UCS4 c = data[i]; DO } }
    #define PSTORE_EACH_KIND(DO)                                        \
        switch (PyUnicode_KIND(text)) {                                 \
        case PyUnicode_1BYTE_KIND: PSTORE_EACH(Py_UCS1, DO) break;      \
        case PyUnicode_2BYTE_KIND: PSTORE_EACH(Py_UCS2, DO) break;      \
        default: PSTORE_EACH(Py_UCS4, DO) }

    static Py_ssize_t pstore_utf8_size(PyObject *text)
    {
        Py_ssize_t length = PyUnicode_GET_LENGTH(text), size = 0;
        PSTORE_EACH_KIND(size += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;)
        return size;
    }

    static void pstore_put_utf8(char *out, PyObject *text)
    {
        Py_ssize_t length = PyUnicode_GET_LENGTH(text);
        PSTORE_EACH_KIND(
            if (c < 0x80)
                *out++ = (char)c;
            else {
                if (c < 0x800)
                    *out++ = (char)(0xC0 | c >> 6);
                else {
                    if (c < 0x10000)
                        *out++ = (char)(0xE0 | c >> 12);
                    else {
                        *out++ = (char)(0xF0 | c >> 18);
                        *out++ = (char)(0x80 | (c >> 12 & 0x3F));
                    }
                    *out++ = (char)(0x80 | (c >> 6 & 0x3F));
                }
                *out++ = (char)(0x80 | (c & 0x3F));
            })
    }

    /* 1 where a str can be looked into (from Python 3.12 on, any). */
    static inline int pstore_ready(PyObject *text)
    {
    #if PY_VERSION_HEX >= 0x030C0000
        (void)text;
        return 1;
    #else
        return PyUnicode_READY(text) == 0;
    #endif
    }

    static inline PyObject *pstore_qualname(PyTypeObject *type)
    {
        return PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) ? ((PyHeapTypeObject *)type)->ht_qualname : NULL;
    }

    static inline int pstore_is_next(PyObject *obj)
    {
        return Py_TYPE(obj)->tp_iternext != NULL;
    }

    /* Zeroed memory, to be freed by free(). A large table is visited all over, so that most of what it costs are the page
       faults, unless its pages are large ones. */
    static void *pstore_zeroed(size_t size)
    {
    #ifdef MADV_HUGEPAGE
        enum { LARGE_PAGE = 2 * 1024 * 1024 };
        if (size >= LARGE_PAGE) {
            void *memory;
            if (posix_memalign(&memory, LARGE_PAGE, size))
                return NULL;
            madvise(memory, size, MADV_HUGEPAGE);
            return memset(memory, 0, size);
        }
    #endif
        return calloc(1, size);
    }

    #ifdef __GNUC__
    #define pstore_prefetch(address) __builtin_prefetch(address)
    #else
    #define pstore_prefetch(address) ((void)(address))
    #endif

    /* For "try": the exception that a function of the interpreter has set. */
    static inline int pstore_failed(void) { return -1; }

    /* Whether the instances of a class have nothing that a compiled base but `object` gives them: all there is in one are
       its attributes. That is what `object.__reduce_ex__` looks at, too (`object_getstate_default` in `typeobject.c`). */
    static int pstore_is_not_compiled(PyTypeObject *type, Py_ssize_t slots)
    {
        Py_ssize_t size = PyBaseObject_Type.tp_basicsize + slots * (Py_ssize_t)sizeof(PyObject *);
        if (type->tp_weaklistoffset > 0)
            size += sizeof(PyObject *);
    #ifdef Py_TPFLAGS_MANAGED_DICT
        if (type->tp_dictoffset && !PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT))
    #else
        if (type->tp_dictoffset)
    #endif
            size += sizeof(PyObject *);
        if (type->tp_itemsize || type->tp_basicsize > size)
            return 0;
        for (; type != &PyBaseObject_Type; type = type->tp_base)
            if (!type || !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE))
                return 0;
        return 1;
    }

    /* Of a list that only we change: its room is kept when it is emptied, and used again. */
    static inline void pstore_set_list_size(PyObject *list, Py_ssize_t size) { Py_SET_SIZE((PyVarObject *)list, size); }

    """
    bint pstore_digit(PyObject*, long long*) noexcept
    bint pstore_int64(PyObject*, long long*) noexcept
    char* pstore_put4(char*, unsigned long long) noexcept
    char* pstore_put8(char*, unsigned long long) noexcept
    const char* pstore_ascii(PyObject*) noexcept
    void pstore_copy(char*, const char*, Py_ssize_t) noexcept
    void pstore_put_double(char*, double) noexcept
    int pstore_put_long(char*, long long) noexcept
    Py_ssize_t pstore_utf8_size(PyObject*) noexcept
    void pstore_put_utf8(char*, PyObject*) noexcept
    bint pstore_ready(PyObject*) noexcept
    PyObject* pstore_qualname(PyTypeObject*) noexcept
    bint pstore_is_next(PyObject*) noexcept
    void* pstore_zeroed(size_t) noexcept
    void pstore_prefetch(void*) noexcept
    int pstore_failed() except -1
    bint pstore_is_not_compiled(PyTypeObject*, Py_ssize_t) noexcept
    void pstore_set_list_size(PyObject*, Py_ssize_t) noexcept

cdef extern from "Python.h":
    PyTypeObject* Py_TYPE(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_DECREF(PyObject*)
    void Py_XDECREF(PyObject*)
    PyObject* Py_None
    PyObject* Py_True
    PyObject* Py_False
    PyTypeObject PyLong_Type
    PyTypeObject PyFloat_Type
    PyTypeObject PyUnicode_Type
    PyTypeObject PyBytes_Type
    PyTypeObject PyByteArray_Type
    PyTypeObject PyBool_Type
    PyTypeObject PyList_Type
    PyTypeObject PyTuple_Type
    PyTypeObject PyDict_Type
    PyTypeObject PySet_Type
    PyTypeObject PyFrozenSet_Type
    PyTypeObject PyType_Type
    PyTypeObject PyFunction_Type
    PyTypeObject PyCFunction_Type
    PyTypeObject PyPickleBuffer_Type
    PyTypeObject PyModule_Type
    bint PyType_HasFeature(PyTypeObject*, unsigned long)
    unsigned long Py_TPFLAGS_TYPE_SUBCLASS
    unsigned long Py_TPFLAGS_HEAPTYPE
    bint PyCallable_Check(PyObject*)
    Py_ssize_t PyList_GET_SIZE(PyObject*)
    PyObject* PyList_GET_ITEM(PyObject*, Py_ssize_t)
    Py_ssize_t PyTuple_GET_SIZE(PyObject*)
    PyObject* PyTuple_GET_ITEM(PyObject*, Py_ssize_t)
    Py_ssize_t PyDict_GET_SIZE(PyObject*)
    bint PyDict_CheckExact(PyObject*)
    bint PyTuple_CheckExact(PyObject*)
    bint PyDict_Next(PyObject*, Py_ssize_t*, PyObject**, PyObject**)
    PyObject* PyDict_GetItemWithError(PyObject*, PyObject*)
    Py_ssize_t PySet_GET_SIZE(PyObject*)
    double PyFloat_AS_DOUBLE(PyObject*)
    bint PyUnicode_IS_COMPACT_ASCII(PyObject*)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject*)
    void* PyUnicode_DATA(PyObject*)
    unsigned int PyUnicode_KIND(PyObject*)
    Py_hash_t PyObject_Hash(PyObject*)
    PyObject* PyIter_Next(PyObject*)
    char* PyBytes_AS_STRING(PyObject*)
    Py_ssize_t PyBytes_GET_SIZE(PyObject*)
    PyObject* PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    int _PyBytes_Resize(PyObject**, Py_ssize_t) except -1
    char* PyByteArray_AS_STRING(PyObject*)
    Py_ssize_t PyByteArray_GET_SIZE(PyObject*)
    PyObject* PyObject_GetIter(PyObject*)
    PyObject* PyObject_GenericGetDict(PyObject*, void*)
    PyObject* PyObject_GetAttr(PyObject*, PyObject*)
    PyObject* PyImport_GetModuleDict()
    PyObject* PyModule_GetDict(PyObject*)
    PyObject* _PyType_Lookup(PyTypeObject*, PyObject*)
    PyObject* PyErr_Occurred()
    bint PyErr_ExceptionMatches(PyObject*)
    void PyErr_Clear()
    PyObject* PyExc_AttributeError
    void* PyLong_AsVoidPtr(object) except? NULL
    object PyLong_FromVoidPtr(void*)

ctypedef unsigned char byte

# The same as in `_writing.py`, as constants of C.
cdef enum:
    BATCH = 1000
    FRAME_TARGET = 64 * 1024
    FRAME_LEAST = 4
    FRAME_HEADER = 9
    MOST_OPEN = 1000
    IDS_IN_IDS = 1000
    IDS_OF_IDS = 100

cdef enum:
    SMALL = 256 * 1024  # an output buffer or memo of more bytes than this isn't kept for the next stream
    SLACK = 64             # in a frame that isn't full there is always room for so many bytes
    LONG_TEXT = 16 * 1024  # a str of fewer characters can't reach FRAME_TARGET bytes

# What a `save_x` has done with an object: written all of it, or written what comes before its parts and pushed a frame.
cdef enum:
    DONE = 0
    OPENED = 1

# What a frame is: an object that is begun and not finished. After the kind, how the reference engine writes the parts:
# by a plain iterator, or by a generator. That matters for the path in an error message: what a generator itself
# raises is the object's fault and not that of the part which was written last.
cdef enum:
    IN_LIST         # plain: the items of a list of up to BATCH
    IN_ONE          # plain: the only item of a list, or the state of an instance; then the opcode `code`
    IN_DICT         # plain: keys and values of a dict of less than BATCH; then `code`
    IN_ELEMENTS     # plain: what an iterator gives; then `code`
    IN_TUPLE        # plain
    GENERATORS      # those behind here are generators
    IN_LIST_BATCHES
    IN_DICT_BATCHES
    IN_SET_BATCHES
    IN_CALL         # function (or class) and arguments; then `code`
    IN_FILLING      # items, pairs and state of what a call has made
    IN_SCRIPT       # parts with bytes between them, for what is rare
    IN_ID           # the persistent id of an object, which has a frame of its own on top of this one

# Where a frame IN_FILLING stands.
cdef enum:
    ITEMS           # the next part is the first item of a batch
    LAST_ITEM       # ... behind the only item of a batch
    SECOND_ITEM     # ... the second item
    MORE_ITEMS      # ... a further one
    PAIRS           # the key of the first pair of a batch
    VALUE           # the value of the pair
    NEXT_PAIR       # the key of a further pair
    STATE           # the state
    SETTER          # what is called with the object and its state

# In place of a number of pairs.
cdef enum:
    NOT_BEGUN = -1  # between two batches
    SINGLE = -2     # a pair that has no batch

cdef struct Frame:
    int kind
    int code            # opcode behind the parts; IN_SCRIPT: how it ends
    int phase           # where a frame with several kinds of parts stands
    bint hidden         # a persistent id: no step of the path in an error message
    bint ended          # the iterator has given all it has
    Py_ssize_t at       # index or position of the next part
    Py_ssize_t count    # items of a batch that are written; of a dict: pairs that are still expected
    Py_ssize_t size     # of a dict when it was begun
    Py_ssize_t batch    # pairs or elements of a batch that are written; or NOT_BEGUN or SINGLE
    Py_ssize_t batches  # how many are still to begin
    PyObject* obj       # owned, as all that follow: the object
    PyObject* part      # the part that is being written
    PyObject* second    # the one behind it: the value of a dict's item, the second item of a batch
    PyObject* pair      # the item of a mapping that is being written
    PyObject* source    # what the parts come from, where that isn't the object
    PyObject* filling   # of a call: (state, items, pairs, setter) or NULL

# A slot of the tables of the memo. Small, as a large dump visits far more slots than a processor's cache holds.
cdef struct Slot:
    uint32_t tag        # part of the address, or of the hash: what differs in it isn't the one that is looked for
    uint32_t place      # ... in `kept`, counted from 1; 0 where the slot is free


cdef inline size_t hash_of(size_t address) noexcept:
    """Spread addresses over a table, so that objects which were allocated together stay close to each other."""
    return address >> 4 ^ address >> 8


# ------------------------------------------------------------------------------------------------- what types are known

# What is known of a type. The type is borrowed, and compared together with its version: it is followed only where it is at
# hand anyway.
cdef struct Plan:
    PyTypeObject* type
    unsigned int version
    int plain           # 1: instances are reduced to (copyreg.__newobj__, (type,), state); -1: they aren't; 0: not known
    bint has_dict
    PyObject* slots     # owned list of the names of slots, or NULL
    PyObject* module    # owned; where the type itself was found, or NULL
    PyObject* package   # owned: the top package of the module
    PyObject* name      # owned

cdef enum:
    PLANS = 1024

cdef Plan plans[PLANS]
memset(plans, 0, sizeof(plans))


cdef Plan* plan_of(PyTypeObject* type) noexcept:
    """Return what is known of a type, or NULL where nothing can be."""
    cdef size_t address = <size_t> type
    cdef Plan* plan = &plans[(address >> 4 ^ address >> 14) % PLANS]
    cdef unsigned int version = pstore_version(type)
    if plan.type == type and plan.version == version and version:
        return plan
    if not version:
        _PyType_Lookup(type, _reduce_ex)  # gives it one
        version = pstore_version(type)
        if not version:
            return NULL
    Py_XDECREF(plan.slots)
    Py_XDECREF(plan.module)
    Py_XDECREF(plan.package)
    Py_XDECREF(plan.name)
    memset(plan, 0, sizeof(Plan))
    plan.type = type
    plan.version = version
    return plan


cdef bint looks_plain(PyTypeObject* type) noexcept:
    """Tell whether nothing but `object` itself has a say in how instances of a type are reduced."""
    return (
        PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
        and pstore_is_generic(type)
        and _PyType_Lookup(type, _reduce_ex) == _object_reduce_ex
        and _PyType_Lookup(type, _reduce) == _object_reduce
        and _PyType_Lookup(type, _class) == _object_class
        and _PyType_Lookup(type, _getstate) == _object_getstate
        and _PyType_Lookup(type, _getnewargs) == NULL
        and _PyType_Lookup(type, _getnewargs_ex) == NULL
    )


cdef int learn(PyTypeObject* type) except -1:
    """Find out whether instances of a type, one of which was reduced to a class and a state, are all reduced so."""
    cdef Plan* plan
    cdef PyObject* found
    slots = _slotnames(<object> type)  # keeps its answer in the class, which renews the version
    plan = plan_of(type)
    if plan == NULL or plan.plain:
        return 0
    plan.plain = -1
    if not looks_plain(type):
        return 0
    found = _PyType_Lookup(type, _dict)
    if found != NULL and Py_TYPE(found) != _getset_type:
        return 0
    plan.has_dict = found != NULL
    for slot in slots:
        # What stands before a slot may be anybody's code.
        found = _PyType_Lookup(type, <PyObject*> slot)
        if found == NULL or Py_TYPE(found) != _member_type:
            return 0
    if slots:
        slots = list(slots)  # theirs is anybody's
        plan.slots = own(<PyObject*> slots)
    plan.plain = 1
    return 0


cdef bint find_type(PyTypeObject* type, PyObject** module, PyObject** name) except -1:
    """Look for a class at the top of its module; borrowed names, or False where the slow way is to be taken."""
    cdef Plan* plan = plan_of(type)
    cdef PyObject* qualname = pstore_qualname(type)
    cdef PyObject* modules
    cdef PyObject* found
    if plan == NULL or qualname == NULL or Py_TYPE(qualname) != &PyUnicode_Type:
        return False
    if Py_TYPE(<PyObject*> type) != &PyType_Type:  # another metaclass may answer otherwise
        found = _PyType_Lookup(Py_TYPE(<PyObject*> type), _module)
        if (
            not pstore_is_plain_metaclass(Py_TYPE(<PyObject*> type))
            or _PyType_Lookup(Py_TYPE(<PyObject*> type), _qualname) != _type_qualname
            or (found != _type_module and Py_TYPE(found) != &PyUnicode_Type)
        ):
            return False
    if plan.name != qualname:
        where = (<object> type).__module__
        text = <str> qualname
        if plan.type != type or pstore_version(type) != plan.version:
            return False
        if Py_TYPE(<PyObject*> where) != &PyUnicode_Type or "." in text or text.endswith(("<lambda>", "<locals>")):
            return False
        package = (<str> where).partition(".")[0] if "." in <str> where else where  # an import begins with it
        Py_XDECREF(plan.module)
        Py_XDECREF(plan.package)
        Py_XDECREF(plan.name)
        plan.module = own(<PyObject*> where)
        plan.package = own(<PyObject*> package)
        plan.name = own(qualname)
    modules = PyImport_GetModuleDict()
    if modules == NULL or not PyDict_CheckExact(modules):
        return False
    found = PyDict_GetItemWithError(modules, plan.package)
    if found != NULL and plan.package != plan.module:
        found = PyDict_GetItemWithError(modules, plan.module)
    if found != NULL and Py_TYPE(found) == &PyModule_Type:
        found = PyDict_GetItemWithError(PyModule_GetDict(found), plan.name)
    if found != <PyObject*> type:
        PyErr_Clear()  # whatever it is, the slow way comes upon it
        return False
    module[0] = plan.module
    name[0] = plan.name
    return True


cdef list names = []  # they live as long as this module


cdef PyObject* kept_name(str name) except NULL:
    """Return a string for C, as the interpreter's own are kept."""
    name = intern(name)
    names.append(name)
    return <PyObject*> name


cdef PyObject* _reduce_ex = kept_name("__reduce_ex__")
cdef PyObject* _reduce = kept_name("__reduce__")
cdef PyObject* _class = kept_name("__class__")
cdef PyObject* _getstate = kept_name("__getstate__")
cdef PyObject* _getnewargs = kept_name("__getnewargs__")
cdef PyObject* _getnewargs_ex = kept_name("__getnewargs_ex__")
cdef PyObject* _dict = kept_name("__dict__")
cdef PyObject* _qualname = kept_name("__qualname__")
cdef PyObject* _module = kept_name("__module__")
cdef PyObject* _type_module = _PyType_Lookup(&PyType_Type, _module)
cdef PyObject* _type_qualname = _PyType_Lookup(&PyType_Type, _qualname)
cdef PyTypeObject* _object_type = <PyTypeObject*> object
cdef PyObject* _object_reduce_ex = _PyType_Lookup(_object_type, _reduce_ex)
cdef PyObject* _object_reduce = _PyType_Lookup(_object_type, _reduce)
cdef PyObject* _object_class = _PyType_Lookup(_object_type, _class)
cdef PyObject* _object_getstate = _PyType_Lookup(_object_type, _getstate)  # NULL before Python 3.11


class _Probe:
    pass


class _SlotProbe:
    __slots__ = ("slot",)


cdef PyTypeObject* _member_type = Py_TYPE(_PyType_Lookup(<PyTypeObject*> _SlotProbe, <PyObject*> "slot"))
cdef PyTypeObject* _getset_type = Py_TYPE(_PyType_Lookup(<PyTypeObject*> _Probe, _dict))
# Whether an instance without attributes has a state, an empty one: up to Python 3.10.
cdef bint EMPTY_STATE = _Probe().__reduce_ex__(2)[2] is not None
cdef bint OLD_NESTING = version_info < (3, 13)  # see `_pickler._OLD_NESTING`

cdef object _newobj = copyreg.__newobj__
cdef dict registry = copyreg.__dict__
cdef dict codes = _CODES
cdef object _slotnames = copyreg._slotnames
cdef object MISSING = object()


class _Cut(Exception):
    """The key of an element is long enough."""


# ------------------------------------------------------------------------------------------------------ identity tables

cdef struct Identity:
    size_t key
    Py_ssize_t at  # place of the id in `ids`; or one of the two below

cdef enum:
    FREE = -1
    DELETED = -2


cdef class IdentityTable:
    """The persistent ids of objects: a mutable mapping from ``id(obj)`` to the persistent id.

    A pickler to which it is given as ``persistent_ids`` asks it without a Python call. Like any such table it doesn't keep
    the objects alive.

    Args:
        items: A mapping, or pairs, to begin with.
    """

    cdef Identity* slots
    cdef Py_ssize_t mask
    cdef byte* hints        # eight bits a slot, set where a key hashes to: small enough to stay in a processor's cache,
                            # they spare nearly all objects without an id the look at the slots
    cdef Py_ssize_t filled  # slots that aren't free
    cdef Py_ssize_t used    # ... of these, those that aren't deleted
    cdef list ids           # where the cyclic garbage collector sees them
    cdef list vacant        # places in `ids`
    cdef object __weakref__

    def __cinit__(self, *args, **keywords):
        self.slots = NULL
        self.hints = NULL
        self.ids = []
        self.vacant = []
        self.reset(8)

    def __init__(self, items=()):
        self.update(items)

    def __dealloc__(self):
        free(self.slots)
        free(self.hints)

    cdef int reset(self, Py_ssize_t size) except -1:
        """Begin anew with this number of slots, a power of two."""
        cdef Identity* slots = <Identity*> malloc(size * sizeof(Identity))
        cdef byte* hints = <byte*> calloc(size, 1)
        cdef Py_ssize_t i
        if slots == NULL or hints == NULL:
            free(slots)
            free(hints)
            raise MemoryError
        for i in range(size):
            slots[i].at = FREE
        free(self.slots)
        free(self.hints)
        self.slots = slots
        self.hints = hints
        self.mask = size - 1
        self.filled = self.used = 0
        return 0

    cdef inline Identity* find(self, size_t key) noexcept:
        """Return the slot of a key, or the free one where its search ends."""
        cdef size_t i = hash_of(key) & self.mask
        cdef size_t step = 1
        cdef Identity* slot = &self.slots[i]
        while slot.at != FREE and (slot.key != key or slot.at == DELETED):
            i = (i + step) & self.mask
            step += 1
            slot = &self.slots[i]
        return slot

    cdef inline PyObject* get_c(self, void* obj) noexcept:
        """Return the id of an object, borrowed, or NULL."""
        cdef Identity* slot
        cdef size_t hash = hash_of(<size_t> obj)
        if not self.hints[hash >> 3 & self.mask] >> (hash & 7) & 1:
            return NULL
        slot = self.find(<size_t> obj)
        return NULL if slot.at < 0 else PyList_GET_ITEM(<PyObject*> self.ids, slot.at)

    cdef int grow(self) except -1:
        cdef Identity* old = self.slots
        cdef Py_ssize_t i, count = self.mask + 1, size = 8
        cdef Identity* slot
        while size < self.used * 4:
            size *= 2
        self.slots = NULL
        try:
            self.reset(size)
        except MemoryError:
            self.slots = old
            raise
        for i in range(count):
            if old[i].at >= 0:
                self.fill(self.find(old[i].key), old[i].key, old[i].at)
        free(old)
        return 0

    cdef int fill(self, Identity* slot, size_t key, Py_ssize_t at) noexcept:
        """Enter a key into a free slot."""
        cdef size_t hash = hash_of(key)
        self.hints[hash >> 3 & self.mask] |= 1 << (hash & 7)
        slot.key = key
        slot.at = at
        self.filled += 1
        self.used += 1
        return 0

    cdef size_t address(self, key) except? 0:
        if type(key) is not int:
            raise TypeError(f"the keys of an IdentityTable are id(obj), not {type(key).__name__}")
        return <size_t> PyLong_AsVoidPtr(key)

    cdef Identity* slot_of(self, key) except NULL:
        """Return the slot of a key that is there.

        Raises:
            KeyError: It isn't.
        """
        cdef Identity* slot
        if type(key) is int:
            try:
                slot = self.find(<size_t> PyLong_AsVoidPtr(key))
            except OverflowError:
                raise KeyError(key) from None
            if slot.at >= 0:
                return slot
        raise KeyError(key)

    def __len__(self):
        return self.used

    def __contains__(self, key):
        try:
            self.slot_of(key)
        except KeyError:
            return False
        return True

    def __getitem__(self, key):
        return self.ids[self.slot_of(key).at]

    def get(self, key, default=None):
        """Return the persistent id for this ``id(obj)``, or the default."""
        cdef Identity* slot
        try:
            slot = self.slot_of(key)
        except KeyError:
            return default
        return self.ids[slot.at]

    def __setitem__(self, key, value):
        cdef size_t address = self.address(key)
        cdef Identity* slot = self.find(address)
        if slot.at >= 0:
            self.ids[slot.at] = value
            return
        if self.filled * 2 > self.mask:
            self.grow()
            slot = self.find(address)
        if self.vacant:
            at = self.vacant.pop()
            self.ids[at] = value
        else:
            at = len(self.ids)
            self.ids.append(value)
        self.fill(slot, address, at)

    def __delitem__(self, key):
        cdef Identity* slot = self.slot_of(key)
        cdef Py_ssize_t at = slot.at
        self.vacant.append(at)
        slot.at = DELETED
        self.used -= 1
        self.ids[at] = None

    def __iter__(self):
        return iter([self.slots[i].key for i in range(self.mask + 1) if self.slots[i].at >= 0])

    def clear(self):
        """Forget every object."""
        self.reset(8)
        self.vacant.clear()
        self.ids.clear()

    def pop(self, key, *default):
        """Take an object out, and return its persistent id; the default where it isn't there."""
        try:
            value = self[key]
        except KeyError:
            if not default:
                raise
            (value,) = default
        else:
            del self[key]
        return value

    def setdefault(self, key, default=None):
        """Return the persistent id for this ``id(obj)``; where there is none, enter the default."""
        try:
            return self[key]
        except KeyError:
            self[key] = default
        return default

    def update(self, items=(), **keywords):
        """Enter the items of a mapping, or pairs."""
        MutableMapping.update(self, items, **keywords)

    def popitem(self):
        """Take some object out, and return ``(id(obj), persistent id)``."""
        return MutableMapping.popitem(self)

    def keys(self):
        """Return the ``id(obj)`` of all objects."""
        return KeysView(self)

    def items(self):
        """Return the pairs ``(id(obj), persistent id)``."""
        return ItemsView(self)

    def values(self):
        """Return the persistent ids."""
        return ValuesView(self)

    def __eq__(self, other):
        return Mapping.__eq__(self, other)

    __hash__ = None
    __reversed__ = None

    def __repr__(self):
        return f"{type(self).__name__}({dict(self.items())!r})"


MutableMapping.register(IdentityTable)


# -------------------------------------------------------------------------------------------------------------- pickler


cdef class Pickler:
    cdef dict __dict__  # the hooks that are set on an instance, and whatever else its user keeps there
    cdef object __weakref__

    cdef public int proto
    cdef public bint bin
    cdef public bint fast
    cdef public bint fix_imports
    cdef public object persistent_ids
    cdef readonly bint canonical

    cdef bint ready     # __init__ was called
    cdef bint busy
    cdef object file_write
    cdef object buffer_callback

    # The memo. `kept` has the objects, each at the place that is its index, and is what the cyclic garbage collector sees.
    # The tables are emptied backwards along it (`empty_backwards`), so that no search is broken off by a slot that was freed.
    cdef list kept
    cdef list spare     # an empty one, with room
    cdef bint doubled   # one object may be in `kept` twice: it was written through its own name, or set so by the user
    cdef list given     # the indices of the first objects, where the user has set the memo; else None
    cdef list private   # objects in it that are ours alone: copies of states; or None
    cdef dict rest      # an empty one, for `save_attributes`; or None
    cdef Slot* objects  # by identity
    cdef size_t objects_mask
    cdef Py_ssize_t objects_used
    cdef Slot* texts    # canonical: strings by value, which then aren't in the other table
    cdef size_t texts_mask
    cdef Py_ssize_t texts_used

    # The output: what isn't handed over yet.
    cdef PyObject* buffer  # owned bytes, or NULL
    cdef char* out         # their content
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef Py_ssize_t frame_at  # where the content of the current frame begins, behind the room for its header
    cdef Py_ssize_t flush_at  # from this size on it is closed before the next object
    cdef Py_ssize_t limit
    cdef bint framing
    cdef bint to_file

    # What is looked up when a dump begins.
    cdef bint hooked        # there may be some
    cdef object ask_all     # the three hooks, or None
    cdef object ask_inst
    cdef object ask_global
    cdef object override    # reducer_override, or MISSING
    cdef object table       # of reduction functions
    cdef IdentityTable identities  # persistent_ids, where it is one of ours
    cdef object other_ids          # ... where it is another mapping
    cdef bint pure          # nobody is asked about atoms

    cdef Frame* frames
    cdef Py_ssize_t depth
    cdef Py_ssize_t room
    cdef Py_ssize_t watched  # more open objects than this are looked through for one that leads to itself
    cdef Py_ssize_t hidden
    cdef Py_ssize_t open_ids
    cdef Py_ssize_t nested_ids
    cdef bint saving        # a part is being written, and not what a frame itself adds

    # Only where it makes the keys of a set's elements: see `_canonical`.
    cdef Pickler asker      # whose hooks these are; None where it is an ordinary pickler
    cdef int level
    cdef list work
    cdef dict lower
    cdef bint whole

    def __cinit__(self, *args, **keywords):
        self.kept = []

    def __init__(
        self,
        file=None,
        protocol=None,
        fix_imports=True,
        buffer_callback=None,
        *,
        persistent_id=None,
        inst_persistent_id=None,
        global_persistent_id=None,
        persistent_ids=None,
        canonical=False,
    ):
        check_idle(self)
        self.proto = protocol_number(protocol, buffers=buffer_callback is not None, canonical=canonical)
        self.file_write = write_method(file)
        self.bin = self.proto >= 1
        self.fast = False
        self.fix_imports = bool(fix_imports) and self.proto < 3
        self.persistent_ids = persistent_ids
        if persistent_id is not None:
            setattr(self, "persistent_id", persistent_id)
        if inst_persistent_id is not None:
            setattr(self, "inst_persistent_id", inst_persistent_id)
        if global_persistent_id is not None:
            setattr(self, "global_persistent_id", global_persistent_id)
        self.buffer_callback = buffer_callback
        forget(self, 0)
        self.canonical = canonical
        self.override = MISSING
        self.limit = FRAME_TARGET
        self.ready = True

    def __dealloc__(self):
        free(self.objects)
        free(self.texts)
        free(self.frames)
        Py_XDECREF(self.buffer)

    def dump(self, obj):
        """Write an object to the file, as one stream.

        Args:
            obj: The object.

        Raises:
            PicklingError: The object, or something that it reaches, can't be pickled; the message tells which.
            RuntimeError: Called by a hook while this pickler is writing.
            TypeError: The pickler has no file.
            Exception: Whatever hooks, the objects' own code or the file raise.
        """
        check_ready(self)
        if self.file_write is None:
            raise TypeError(NO_FILE)
        dump_stream(self, obj, True)

    def dumps(self, obj):
        """Return an object as one stream. Nothing is written to the file; the memo is the same as that of `dump`.

        Raises:
            PicklingError: As `dump`.
            RuntimeError: As `dump`.
            Exception: As `dump`.
        """
        check_ready(self)
        return dump_stream(self, obj, False)

    def dumps_state(self, obj):
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
        check_ready(self)
        return dump_state(self, obj)

    def clear_memo(self):
        """Forget what was written, so that the next stream stands alone.

        Raises:
            RuntimeError: Called by a hook while this pickler is writing.
        """
        check_idle(self)
        forget(self, 0)

    @property
    def memo(self):
        """What was written: ``{id(obj): (index, obj)}``, a copy. May be set, but not while the pickler is writing."""
        check_made(self)
        return {
            id(obj): (index_of(self, place), obj)
            for place, obj in enumerate(self.kept)
            if not is_private(self, <PyObject*> obj)
        }

    @memo.setter
    def memo(self, value):
        check_ready(self)
        entries = memo_entries(value)
        forget(self, 0)
        for _, obj in entries:
            enter(self, <PyObject*> obj)
        self.given = [index for index, _ in entries]

    def memoized(self, without=()):
        """Return the objects in the memo, in the order of their indices.

        Args:
            without: Types; an object of exactly one of these is left out.
        """
        cdef PyTypeObject* left_out = NULL  # the last one that was
        cdef PyObject* obj
        cdef Py_ssize_t i
        cdef list found = []
        check_made(self)
        if not isinstance(without, (set, frozenset)):
            without = frozenset(without)
        for i in range(PyList_GET_SIZE(<PyObject*> self.kept)):
            obj = PyList_GET_ITEM(<PyObject*> self.kept, i)
            if Py_TYPE(obj) == left_out or is_private(self, obj):
                continue
            if is_among(<object> Py_TYPE(obj), without):
                left_out = Py_TYPE(obj)
            else:
                found.append(<object> obj)
        return found

    def persistent_id(self, obj):
        """Return the persistent id under which an object is stored elsewhere, or None. To be overridden."""

    def inst_persistent_id(self, obj):
        """Like `persistent_id`, but asked only for what the pickler has no built-in handling for. To be overridden."""

    def global_persistent_id(self, obj):
        """Return an id for a class or function that would be written by its name, or None. To be overridden."""


# The documentation is the reference's; an interpreter reads the signature of a compiled class from its first line.
cdef bytes documentation = (
    "Pickler(file=None, protocol=None, fix_imports=True, buffer_callback=None, *, persistent_id=None, "
    "inst_persistent_id=None, global_persistent_id=None, persistent_ids=None, canonical=False)\n--\n\n"
    + ReferencePickler.__doc__
).encode()
pstore_set_doc(<PyTypeObject*> Pickler, documentation)

cdef PyObject* _persistent_id = kept_name("persistent_id")
cdef PyObject* _inst_persistent_id = kept_name("inst_persistent_id")
cdef PyObject* _global_persistent_id = kept_name("global_persistent_id")
cdef PyTypeObject* _pickler_type = <PyTypeObject*> Pickler


cdef inline int check_idle(Pickler self) except -1:
    if self.busy:
        raise RuntimeError(BUSY)
    return 0


cdef inline int check_made(Pickler self) except -1:
    if not self.ready:
        raise not_initialised(self)
    return 0


cdef inline int check_ready(Pickler self) except -1:
    check_made(self)
    return check_idle(self)


cdef object hook(Pickler self, PyObject* name):
    """Return a hook, or None where the user has given none."""
    cdef PyObject* found = _PyType_Lookup(Py_TYPE(<PyObject*> self), name)
    if found == _PyType_Lookup(_pickler_type, name) and pstore_is_generic(Py_TYPE(<PyObject*> self)):
        found = pstore_attributes(<PyObject*> self)
        if found == NULL or not has_name(found, name):
            return None
        return <object> PyDict_GetItemWithError(found, name)
    return getattr(self, <str> name)


cdef int find_ids(Pickler self) except -1:
    """Look up who is asked for the id of anything whatever."""
    cdef PyObject* attributes = pstore_attributes(<PyObject*> self)
    ids = self.persistent_ids
    self.hooked = Py_TYPE(<PyObject*> self) != _pickler_type or (attributes != NULL and PyDict_GET_SIZE(attributes) != 0)
    if self.hooked:
        self.ask_all = hook(self, _persistent_id)
    if type(ids) is IdentityTable:
        self.identities = <IdentityTable> ids
    else:
        self.other_ids = ids
    self.pure = self.ask_all is None
    return 0


cdef int find_hooks(Pickler self) except -1:
    """Look up all others, which nobody needs who writes atoms only."""
    self.table = registry.get("dispatch_table")
    if self.hooked:
        self.ask_inst = hook(self, _inst_persistent_id)
        self.ask_global = hook(self, _global_persistent_id)
        self.override = getattr(self, "reducer_override", MISSING)
        self.table = getattr(self, "dispatch_table", self.table)
    return 0


cdef object dump_stream(Pickler self, object obj, bint to_file, Plan* plan=NULL):
    """Write one stream: of an object, or of the state of an instance of which `plan` tells."""
    cdef Py_ssize_t known = len(self.kept)
    self.busy = True
    self.to_file = to_file
    self.framing = False
    self.size = 0
    try:
        open_frame(self)
        if self.proto >= 2:
            put2(self, PROTO, self.proto)
            if self.proto >= 4:
                close_frame(self)
                self.framing = True
                open_frame(self)
        find_ids(self)
        if plan != NULL and self.ask_all is None and plan.has_dict and plan.slots == NULL:
            save_all(self, <PyObject*> obj, True)
        elif plan == NULL:
            find_hooks(self)
            save_all(self, <PyObject*> obj, False)
        else:
            find_hooks(self)
            state = copied_state(self, <PyObject*> obj, plan)
            save_all(self, <PyObject*> state, False)
        put1(self, STOP)
        close_frame(self)
        return None if to_file else take_output(self)
    except BaseException:
        forget(self, known)  # what was begun in a stream that doesn't end can't be referred to
        raise
    finally:
        if self.hooked:
            self.ask_all = self.ask_inst = self.ask_global = None  # bound methods: references to ourselves
            self.override = MISSING
        self.identities = None
        self.other_ids = None
        self.table = None
        self.busy = False
        if self.capacity > SMALL:
            Py_XDECREF(self.buffer)
            self.buffer = NULL
            self.capacity = 0


# --------------------------------------------------------------------------------------------------------------- output


cdef int grow(Pickler self, Py_ssize_t more) except -1:
    cdef Py_ssize_t wanted = self.size + more
    if self.buffer == NULL:
        wanted += 1024
    else:
        wanted += wanted if wanted < 1024 * 1024 else wanted >> 1
    if self.size + more < 0 or wanted < 0:
        raise MemoryError
    if self.buffer == NULL:
        self.buffer = PyBytes_FromStringAndSize(NULL, wanted)
        if self.buffer == NULL:
            pstore_failed()
    else:
        try:
            _PyBytes_Resize(&self.buffer, wanted)
        except BaseException:
            self.capacity = 0
            raise
    self.out = PyBytes_AS_STRING(self.buffer)
    self.capacity = wanted
    return 0


cdef inline int reserve(Pickler self, Py_ssize_t more) except -1:
    """Make room for so many bytes."""
    if more > self.capacity - self.size:
        grow(self, more)
    return 0


cdef inline int put1(Pickler self, int code) except -1:
    reserve(self, 1)
    self.out[self.size] = <char> code
    self.size += 1
    return 0


cdef inline int put2(Pickler self, int code, int argument) except -1:
    reserve(self, 2)
    self.out[self.size] = <char> code
    self.out[self.size + 1] = <char> argument
    self.size += 2
    return 0


cdef inline int put5(Pickler self, int code, unsigned long long argument) except -1:
    """Write an opcode and an argument of four bytes."""
    reserve(self, 5)
    self.out[self.size] = <char> code
    pstore_put4(self.out + self.size + 1, argument)
    self.size += 5
    return 0


cdef inline int put(Pickler self, const char* data, Py_ssize_t size) except -1:
    reserve(self, size)
    pstore_copy(self.out + self.size, data, size)
    self.size += size
    return 0


cdef int put_bytes(Pickler self, bytes data) except -1:
    return put(self, PyBytes_AS_STRING(<PyObject*> data), PyBytes_GET_SIZE(<PyObject*> data))


cdef int open_frame(Pickler self) except -1:
    reserve(self, FRAME_HEADER + self.limit + SLACK)
    if self.framing:
        self.size += FRAME_HEADER
    self.frame_at = self.size
    self.flush_at = self.size + self.limit
    return 0


cdef int close_frame(Pickler self) except -1:
    """End the current frame, and hand it over where there is a file; behind it no frame is open."""
    cdef Py_ssize_t size = self.size - self.frame_at
    if self.framing:
        if size >= FRAME_LEAST:
            self.out[self.frame_at - FRAME_HEADER] = <char> FRAME
            pstore_put8(self.out + self.frame_at - FRAME_HEADER + 1, size)
        else:
            memmove(self.out + self.frame_at - FRAME_HEADER, self.out + self.frame_at, size)
            self.size -= FRAME_HEADER
    if self.to_file and self.size:
        piece = self.out[:self.size]
        self.size = 0
        self.file_write(piece)
    return 0


cdef object take_output(Pickler self):
    """Return the whole output of a dump that has no file."""
    cdef PyObject* result
    if self.size <= FRAME_TARGET:
        return self.out[:self.size]
    self.capacity = 0
    _PyBytes_Resize(&self.buffer, self.size)
    result = self.buffer
    self.buffer = NULL
    whole = <object> result
    Py_DECREF(result)
    return whole


cdef int flush(Pickler self) except -1:
    """Begin a new frame: the current one is long enough. Runs the file's code."""
    if self.asker is not None:
        raise _Cut
    close_frame(self)
    return open_frame(self)


cdef int watch(Pickler self) except -1:
    """Look for an object that leads to itself without end; once in 64 KiB is often enough."""
    cdef Py_ssize_t i
    if self.depth - self.hidden > self.watched:
        unfinished = [<object> self.frames[i].obj for i in range(self.depth) if not self.frames[i].hidden]
        check_endless(unfinished[:len(unfinished) - 1], fast=self.fast)
        self.watched = 2 * (self.depth - self.hidden)
    return 0


cdef int put_large(
    Pickler self, const char* header, Py_ssize_t header_size, const char* data, Py_ssize_t size, object owner
) except -1:
    """Write counted data; large data goes between two frames, straight to the file.

    `owner` is the bytes object that the data is of, or None. The caller sees to it that the data stays alive.
    """
    if self.asker is not None:
        put(self, header, header_size)
        put(self, data, min(size, self.limit))
        if size > self.limit:
            raise _Cut
        return 0
    if size < FRAME_TARGET:
        put(self, header, header_size)
        return put(self, data, size)
    close_frame(self)
    if self.to_file:
        self.file_write(header[:header_size])
        self.file_write(data[:size] if owner is None else owner)
    else:
        reserve(self, header_size + size + FRAME_HEADER)
        put(self, header, header_size)
        put(self, data, size)
    return open_frame(self)


# ----------------------------------------------------------------------------------------------------------------- memo


cdef inline Slot* find(Pickler self, PyObject* obj) noexcept:
    """Return the slot of an object, or the free one where its search ends. There must be a table."""
    cdef uint32_t tag = <uint32_t> (<size_t> obj >> 4)
    cdef size_t i = hash_of(<size_t> obj) & self.objects_mask
    cdef size_t step = 1
    cdef Slot* slot = &self.objects[i]
    while slot.place and (slot.tag != tag or PyList_GET_ITEM(<PyObject*> self.kept, slot.place - 1) != obj):
        i = (i + step) & self.objects_mask
        step += 1
        slot = &self.objects[i]
    return slot


cdef inline Slot* find_text(Pickler self, PyObject* text) noexcept:
    """Return the slot of an equal string, or the free one where its search ends. There must be a table."""
    cdef size_t hash = <size_t> PyObject_Hash(text)
    cdef size_t i = hash & self.texts_mask
    cdef size_t step = 1
    cdef PyObject* found
    cdef Slot* slot = &self.texts[i]
    while slot.place:
        if slot.tag == <uint32_t> hash:
            found = PyList_GET_ITEM(<PyObject*> self.kept, slot.place - 1)
            if found == text or pstore_same_text(found, text):
                return slot
        i = (i + step) & self.texts_mask
        step += 1
        slot = &self.texts[i]
    return slot


cdef inline int occupy(Pickler self, Slot* slot, PyObject* obj) except -1:
    """Keep an object, and give it the slot in which its search has ended."""
    pstore_append(<PyObject*> self.kept, obj)
    if slot.place:
        self.doubled = True
    elif is_text(self, obj):
        slot.tag = <uint32_t> <size_t> PyObject_Hash(obj)
        self.texts_used += 1
    else:
        slot.tag = <uint32_t> (<size_t> obj >> 4)
        self.objects_used += 1
    slot.place = <uint32_t> PyList_GET_SIZE(<PyObject*> self.kept)
    return 0


cdef inline bint is_text(Pickler self, PyObject* obj) noexcept:
    """Tell whether an object is kept by its value."""
    return self.canonical and Py_TYPE(obj) == &PyUnicode_Type


cdef inline void prefetch(Pickler self, PyObject* obj) noexcept:
    """Have the processor fetch an object, and the slot where the memo would have it, that will be asked for soon."""
    pstore_prefetch(obj)
    if self.objects != NULL:
        pstore_prefetch(&self.objects[hash_of(<size_t> obj) & self.objects_mask])


cdef inline Py_ssize_t recall(Pickler self, PyObject* obj) noexcept:
    """Return the place of an object in the memo, or -1."""
    return <Py_ssize_t> find(self, obj).place - 1 if self.objects_used else -1


cdef Slot* larger(Slot* old, size_t* mask) except NULL:
    """Return a new table in place of one that is to be freed, and set its mask."""
    cdef size_t size = 64 if old == NULL else (mask[0] + 1) * (4 if mask[0] < 65536 else 2)
    cdef Slot* new = NULL if size > 0xFFFFFFFF else <Slot*> pstore_zeroed(size * sizeof(Slot))
    if new == NULL:
        raise MemoryError
    free(old)
    mask[0] = size - 1
    return new


cdef int grow_objects(Pickler self) except -1:
    cdef PyObject* obj
    cdef Slot* slot
    cdef Py_ssize_t i
    self.objects = larger(self.objects, &self.objects_mask)
    for i in range(PyList_GET_SIZE(<PyObject*> self.kept)):
        obj = PyList_GET_ITEM(<PyObject*> self.kept, i)
        if not is_text(self, obj):
            slot = find(self, obj)
            slot.tag = <uint32_t> (<size_t> obj >> 4)
            slot.place = <uint32_t> i + 1
    return 0


cdef int grow_texts(Pickler self) except -1:
    cdef PyObject* text
    cdef Slot* slot
    cdef Py_ssize_t i
    self.texts = larger(self.texts, &self.texts_mask)
    for i in range(PyList_GET_SIZE(<PyObject*> self.kept)):
        text = PyList_GET_ITEM(<PyObject*> self.kept, i)
        if is_text(self, text):
            slot = find_text(self, text)
            slot.tag = <uint32_t> <size_t> PyObject_Hash(text)
            slot.place = <uint32_t> i + 1
    return 0


cdef inline int room_for_object(Pickler self) except -1:
    if <size_t> self.objects_used * 2 >= self.objects_mask:
        grow_objects(self)
    return 0


cdef inline int room_for_text(Pickler self) except -1:
    if <size_t> self.texts_used * 2 >= self.texts_mask:
        grow_texts(self)
    return 0


cdef inline int enter(Pickler self, PyObject* obj) except -1:
    """Put an object into the memo; what is in it already gets a new place."""
    cdef Slot* slot
    if is_text(self, obj):
        room_for_text(self)
        slot = find_text(self, obj)
    else:
        room_for_object(self)
        slot = find(self, obj)
    return occupy(self, slot, obj)


cdef int forget(Pickler self, Py_ssize_t known) except -1:
    """Leave no more than so many objects in the memo."""
    cdef list kept = self.kept
    cdef bint huge = PyList_GET_SIZE(<PyObject*> kept) * sizeof(Slot) > SMALL
    if not known:
        self.given = None
        self.private = None
    if PyList_GET_SIZE(<PyObject*> kept) <= known:
        return 0
    if huge and not known:
        free(self.objects)
        free(self.texts)
        self.objects = self.texts = NULL
        self.objects_mask = self.texts_mask = 0
        self.objects_used = self.texts_used = 0
        self.doubled = False
    elif self.doubled:
        rebuild(self, known)
    else:
        empty_backwards(self, known)
    # From here on all is in order: letting an object go may run anybody's code, and that may use this pickler.
    if known:
        release(kept, known)  # ... but not now: it is in the middle of a dump
        return 0
    self.kept = [] if self.spare is None else self.spare
    self.spare = None
    release(kept, 0)
    if not huge:
        self.spare = kept
    return 0


cdef int empty_backwards(Pickler self, Py_ssize_t known) except -1:
    """Free the slots of all objects but the first ones, the last one first."""
    cdef Py_ssize_t place = PyList_GET_SIZE(<PyObject*> self.kept)
    cdef PyObject* obj
    while place > known:
        obj = PyList_GET_ITEM(<PyObject*> self.kept, place - 1)
        if is_text(self, obj):
            find_text(self, obj).place = 0
            self.texts_used -= 1
        else:
            find(self, obj).place = 0
            self.objects_used -= 1
        place -= 1
    return 0


cdef int rebuild(Pickler self, Py_ssize_t known) except -1:
    """Fill the tables anew with the first objects."""
    cdef Py_ssize_t i
    cdef PyObject* obj
    cdef Slot* slot
    self.objects_used = self.texts_used = 0
    if self.objects != NULL:
        memset(self.objects, 0, (self.objects_mask + 1) * sizeof(Slot))
    if self.texts != NULL:
        memset(self.texts, 0, (self.texts_mask + 1) * sizeof(Slot))
    for i in range(known):
        obj = PyList_GET_ITEM(<PyObject*> self.kept, i)
        if is_text(self, obj):
            slot = find_text(self, obj)
            self.texts_used += slot.place == 0
            slot.tag = <uint32_t> <size_t> PyObject_Hash(obj)
        else:
            slot = find(self, obj)
            self.objects_used += slot.place == 0
            slot.tag = <uint32_t> (<size_t> obj >> 4)
        slot.place = <uint32_t> i + 1
    self.doubled = known > 0
    return 0


cdef int release(list kept, Py_ssize_t known) except -1:
    """Let go of all objects in a list but the first ones; the list keeps its room."""
    cdef PyObject* obj
    cdef Py_ssize_t last = PyList_GET_SIZE(<PyObject*> kept) - 1
    while last >= known:
        obj = PyList_GET_ITEM(<PyObject*> kept, last)
        pstore_set_list_size(<PyObject*> kept, last)
        Py_DECREF(obj)
        last -= 1
    return 0


cdef inline Py_ssize_t index_of(Pickler self, Py_ssize_t place) except -1:
    """Return the index that a stream has for what is at a place of the memo."""
    if self.given is not None and place < PyList_GET_SIZE(<PyObject*> self.given):
        return self.given[place]
    return place


cdef inline int memoize(Pickler self, PyObject* obj) except -1:
    if self.fast:
        return 0
    put_memoize(self, PyList_GET_SIZE(<PyObject*> self.kept))
    return enter(self, obj)


cdef inline int put_memoize(Pickler self, Py_ssize_t index) except -1:
    if self.proto >= 4:
        return put1(self, MEMOIZE)
    if not self.bin:
        put1(self, PUT)
        return put_bytes(self, b"%d\n" % index)
    if index < 256:
        return put2(self, BINPUT, <int> index)
    return put5(self, LONG_BINPUT, index)


cdef inline int put_get(Pickler self, Py_ssize_t place) except -1:
    """Refer to what is at a place of the memo."""
    cdef Py_ssize_t index = index_of(self, place)
    if not self.bin:
        put1(self, GET)
        return put_bytes(self, b"%d\n" % index)
    if 0 <= index < 256:
        return put2(self, BINGET, <int> index)
    return put5(self, LONG_BINGET, index)


# ---------------------------------------------------------------------------------------------------------------- atoms


cdef inline int put_small_int(Pickler self, long long value) except -1:
    """Write an int of 32 bits for protocol 1 and higher. There must be room for five bytes."""
    cdef char* out = self.out + self.size
    if 0 <= value <= 0xFF:
        out[0] = <char> BININT1
        out[1] = <char> value
        self.size += 2
    elif 0 <= value <= 0xFFFF:
        out[0] = <char> BININT2
        out[1] = <char> value
        out[2] = <char> (value >> 8)
        self.size += 3
    else:
        out[0] = <char> BININT
        pstore_put4(out + 1, <unsigned long long> value)
        self.size += 5
    return 0


cdef int save_int(Pickler self, PyObject* obj) except -1:
    cdef long long value
    cdef bint short = pstore_int64(obj, &value)
    cdef int size
    cdef char header[5]
    if short and -0x80000000LL <= value <= 0x7FFFFFFFLL:
        if self.bin:
            reserve(self, 5)
            return put_small_int(self, value)
        if self.proto < 2:
            put1(self, INT)
            return put_bytes(self, b"%d\n" % value)
    if self.proto < 2:
        put1(self, LONG)
        put_bytes(self, repr(<object> obj).encode("ascii"))
        return put(self, b"L\n", 2)
    if short:
        reserve(self, 10)
        size = pstore_put_long(self.out + self.size + 2, value)
        self.out[self.size] = <char> LONG1
        self.out[self.size + 1] = <char> size
        self.size += 2 + size
        return 0
    data = bytes_of_int(<object> obj)
    if len(data) < 256:
        put2(self, LONG1, len(data))
        return put_bytes(self, data)
    header[0] = <char> LONG4
    pstore_put4(header + 1, len(data))
    return put_large(self, header, 5, PyBytes_AS_STRING(<PyObject*> data), len(data), data)


cdef inline int save_float(Pickler self, PyObject* obj) except -1:
    if not self.bin:
        put1(self, FLOAT)
        return put_bytes(self, repr(<object> obj).encode("ascii") + b"\n")
    reserve(self, 9)
    self.out[self.size] = <char> BINFLOAT
    pstore_put_double(self.out + self.size + 1, PyFloat_AS_DOUBLE(obj))
    self.size += 9
    return 0


cdef inline int save_str(Pickler self, PyObject* obj) except -1:
    cdef Slot* slot
    if self.canonical:
        room_for_text(self)
        slot = find_text(self, obj)
    else:
        room_for_object(self)
        slot = find(self, obj)
    if slot.place:
        return put_get(self, slot.place - 1)
    put_str(self, obj)
    if self.fast:
        return 0
    put_memoize(self, PyList_GET_SIZE(<PyObject*> self.kept))
    return occupy(self, slot, obj)  # it is still free: what has run since doesn't come to the memo


cdef inline int put_str(Pickler self, PyObject* obj) except -1:
    cdef Py_ssize_t length
    if self.bin and pstore_ready(obj) and PyUnicode_IS_COMPACT_ASCII(obj):
        length = PyUnicode_GET_LENGTH(obj)
        if length <= 0xFF and self.proto >= 4:
            reserve(self, 3 + length)
            self.out[self.size] = <char> SHORT_BINUNICODE
            self.out[self.size + 1] = <char> length
            pstore_copy(self.out + self.size + 2, pstore_ascii(obj), length)
            self.size += 2 + length
            return 0
    return put_long_str(self, obj)


cdef int put_long_str(Pickler self, PyObject* obj) except -1:
    cdef char header[9]
    cdef Py_ssize_t size
    cdef int header_size = 5
    cdef bint ascii_
    if not self.bin:
        put1(self, UNICODE)
        put_bytes(self, line_of(<object> obj))
        return put1(self, 10)
    if not pstore_ready(obj):
        pstore_failed()
    ascii_ = PyUnicode_IS_COMPACT_ASCII(obj)
    size = PyUnicode_GET_LENGTH(obj) if ascii_ else pstore_utf8_size(obj)
    if size <= 0xFF and self.proto >= 4:
        reserve(self, 2 + size)
        self.out[self.size] = <char> SHORT_BINUNICODE
        self.out[self.size + 1] = <char> size
        pstore_put_utf8(self.out + self.size + 2, obj)
        self.size += 2 + size
        return 0
    if size <= 0xFFFFFFFFLL:
        header[0] = <char> BINUNICODE
        pstore_put4(header + 1, size)
    elif self.proto >= 4:
        header[0] = <char> BINUNICODE8
        pstore_put8(header + 1, size)
        header_size = 9
    else:
        raise UnpicklableOverflow("a string of more than 4 GiB needs protocol 4 or higher")
    if ascii_:
        return put_large(self, header, header_size, pstore_ascii(obj), size, None)
    if size < FRAME_TARGET and self.asker is None:
        put(self, header, header_size)
        reserve(self, size)
        pstore_put_utf8(self.out + self.size, obj)
        self.size += size
        return 0
    data = (<str> obj).encode("utf-8", "surrogatepass")
    return put_large(self, header, header_size, PyBytes_AS_STRING(<PyObject*> data), size, data)


cdef int put_counted_bytes(Pickler self, const char* data, Py_ssize_t size, object owner) except -1:
    cdef char header[9]
    if size <= 0xFF:
        put2(self, SHORT_BINBYTES, <int> size)
        return put(self, data, size)
    if size <= 0xFFFFFFFFLL:
        header[0] = <char> BINBYTES
        pstore_put4(header + 1, size)
        return put_large(self, header, 5, data, size, owner)
    if self.proto >= 4:
        header[0] = <char> BINBYTES8
        pstore_put8(header + 1, size)
        return put_large(self, header, 9, data, size, owner)
    raise UnpicklableOverflow("bytes of more than 4 GiB need protocol 4 or higher")


cdef int put_bytearray(Pickler self, const char* data, Py_ssize_t size) except -1:
    cdef char header[9]
    header[0] = <char> BYTEARRAY8
    pstore_put8(header + 1, size)
    return put_large(self, header, 9, data, size, None)


cdef int save_bytes(Pickler self, PyObject* obj) except -1:
    cdef Py_ssize_t place = recall(self, obj)
    if place >= 0:
        return put_get(self, place)
    if self.proto >= 3:
        put_counted_bytes(self, PyBytes_AS_STRING(obj), PyBytes_GET_SIZE(obj), <object> obj)
        return memoize(self, obj)
    if not PyBytes_GET_SIZE(obj):
        return save_call(self, obj, (bytes, ()))
    # Python 2 reads this as a str of these bytes, Python 3 as bytes.
    return save_call(self, obj, (codecs.encode, ((<bytes> obj).decode("latin-1"), "latin1")))


cdef int save_bytearray(Pickler self, PyObject* obj) except -1:
    if self.proto < 5:
        return save_call(self, obj, (bytearray, (bytes(<object> obj),) if PyByteArray_GET_SIZE(obj) else ()))
    if self.to_file and PyByteArray_GET_SIZE(obj) >= FRAME_TARGET:
        data = bytes(<object> obj)  # the file's code may change the original
        put_bytearray(self, PyBytes_AS_STRING(<PyObject*> data), PyBytes_GET_SIZE(<PyObject*> data))
    else:
        put_bytearray(self, PyByteArray_AS_STRING(obj), PyByteArray_GET_SIZE(obj))
    return memoize(self, obj)


cdef int save_picklebuffer(Pickler self, object obj) except -1:
    cdef const byte[::1] content
    cdef Py_ssize_t size
    cdef const char* data
    if self.proto < 5:
        raise WrongProtocol("PickleBuffer can only be pickled with protocol >= 5")
    try:
        view = obj.raw()
    except BufferError as error:
        raise Unpicklable("PickleBuffer can not be pickled when pointing to a non-contiguous buffer") from error
    with view:
        if self.buffer_callback is not None and not self.buffer_callback(obj):
            put1(self, NEXT_BUFFER)
            if view.readonly:
                put1(self, READONLY_BUFFER)
            return DONE
        try:
            # The file's code may change the original.
            content = view.tobytes() if self.to_file and view.nbytes >= FRAME_TARGET else view
            size = content.shape[0]
            data = <const char*> &content[0] if size else NULL
            if view.readonly:
                put_counted_bytes(self, data, size, None)
            else:
                put_bytearray(self, data, size)
        finally:
            content = None  # else the view couldn't be given back
    return memoize(self, <PyObject*> obj)


# ----------------------------------------------------------------------------------------------------- any kind of part


cdef inline bint save_pure(Pickler self, PyObject* part) except -1:
    """Write a part if that can run nobody's code; tell whether it was. Never where the frame is full (`is_full`)."""
    cdef long long value
    if Py_TYPE(part) == &PyLong_Type and self.bin and pstore_digit(part, &value):
        put_small_int(self, value)
        return True
    return save_pure_part(self, part)


cdef bint save_pure_part(Pickler self, PyObject* part) except -1:
    cdef PyTypeObject* type = Py_TYPE(part)
    cdef long long value
    cdef Py_ssize_t place
    if type == &PyUnicode_Type:
        if PyUnicode_GET_LENGTH(part) >= LONG_TEXT:
            return False
        save_str(self, part)
    elif type == &PyLong_Type:
        if not pstore_int64(part, &value):
            return False
        if self.bin and -0x80000000LL <= value <= 0x7FFFFFFFLL:
            put_small_int(self, value)
        else:
            save_int(self, part)
    elif part == Py_None:
        put1(self, NONE)
    elif type == &PyFloat_Type:
        save_float(self, part)
    elif type == &PyBool_Type:
        save_bool(self, part)
    elif type == &PyBytes_Type:
        if self.proto < 3 or PyBytes_GET_SIZE(part) >= FRAME_TARGET:
            return False
        save_bytes(self, part)
    else:
        if self.other_ids is not None or (self.identities is not None and self.identities.get_c(part) != NULL):
            return False
        place = recall(self, part)
        if place < 0:
            return False
        put_get(self, place)
    return True


cdef inline int save_bool(Pickler self, PyObject* obj) except -1:
    if self.proto >= 2:
        return put1(self, NEWTRUE if obj == Py_True else NEWFALSE)
    return put(self, b"I01\n" if obj == Py_True else b"I00\n", 4)


cdef inline bint is_full(Pickler self) noexcept:
    """Tell whether the current frame is to be closed before the next part, or every part is asked about."""
    return self.size >= self.flush_at or not self.pure


cdef int save(Pickler self, PyObject* part) except -1:
    """Write an object, or what comes before its parts. The caller owns it."""
    cdef PyObject* found
    if self.size >= self.flush_at:
        flush(self)
        watch(self)
    if self.ask_all is not None:
        pid = self.ask_all(<object> part)
        if pid is not None:
            return save_id(self, part, pid)
    if is_atom(Py_TYPE(part)):
        return save_atom(self, part)
    if self.identities is not None:
        found = self.identities.get_c(part)
        if found != NULL and found != Py_None:
            return save_id(self, part, <object> found)
    elif self.other_ids is not None:
        pid = other_id(self, part)
        if pid is not None:
            return save_id(self, part, pid)
    return save_known(self, part, True)


cdef inline object other_id(Pickler self, PyObject* obj):
    """Return the id that a table which isn't ours has for an object, or None."""
    cdef PyObject* found
    key = PyLong_FromVoidPtr(obj)
    if not PyDict_CheckExact(<PyObject*> self.other_ids):
        return self.other_ids.get(key)
    found = PyDict_GetItemWithError(<PyObject*> self.other_ids, <PyObject*> key)
    if found != NULL:
        return <object> found
    if PyErr_Occurred():
        pstore_failed()
    return None


cdef int save_known(Pickler self, PyObject* obj, bint ask) except -1:
    """Write what has no id: a reference to the memo, a container, or anything else."""
    cdef PyTypeObject* type = Py_TYPE(obj)
    cdef Py_ssize_t place = recall(self, obj)
    if place >= 0:
        put_get(self, place)
        return DONE
    if type == &PyDict_Type:
        return save_dict(self, obj)
    if type == &PyList_Type:
        return save_list(self, obj)
    if type == &PyTuple_Type:
        return save_tuple(self, obj)
    if type == &PySet_Type:
        return save_set(self, obj)
    if type == &PyFrozenSet_Type:
        return save_frozenset(self, obj)
    if type == &PyByteArray_Type:
        return save_bytearray(self, obj)
    if type == &PyPickleBuffer_Type:
        return save_picklebuffer(self, <object> obj)
    return save_other(self, obj, ask)


cdef inline bint is_atom(PyTypeObject* type) noexcept:
    return (
        type == &PyUnicode_Type
        or type == &PyLong_Type
        or type == &PyFloat_Type
        or type == &PyBytes_Type
        or type == &PyBool_Type
        or type == Py_TYPE(Py_None)
    )


cdef int save_atom(Pickler self, PyObject* obj) except -1:
    cdef PyTypeObject* type = Py_TYPE(obj)
    if type == &PyUnicode_Type:
        return save_str(self, obj)
    if type == &PyLong_Type:
        return save_int(self, obj)
    if type == &PyFloat_Type:
        return save_float(self, obj)
    if type == &PyBytes_Type:
        return save_bytes(self, obj)
    if type == &PyBool_Type:
        return save_bool(self, obj)
    return put1(self, NONE)


cdef int save_id(Pickler self, PyObject* obj, object pid) except -1:
    """Write a persistent id in place of an object."""
    cdef Frame* frame
    cdef Py_ssize_t depth = self.depth
    cdef int done
    if not self.bin:
        line = line_of_id(pid)
        put1(self, PERSID)
        put_bytes(self, line)
        return put1(self, 10)
    # The only recursion: an id that is a class may have an id itself.
    self.nested_ids += 1
    if self.nested_ids > IDS_OF_IDS:
        raise too_many_ids(IDS_OF_IDS)
    if is_atom(Py_TYPE(<PyObject*> pid)):
        done = save_atom(self, <PyObject*> pid)
    else:
        done = save_known(self, <PyObject*> pid, False)
    self.nested_ids -= 1
    if done == DONE:
        return put1(self, BINPERSID)
    # Below the id, whose frame is now on the stack, comes the one that says whose id it is.
    frame = push_below(self, depth, IN_ID, obj) + 1
    frame.hidden = True
    self.hidden += 1
    self.open_ids += 1
    if self.open_ids > IDS_IN_IDS:
        while self.depth > depth:
            pop(self)
        raise too_many_ids(IDS_IN_IDS)
    return OPENED


# ------------------------------------------------------------------------------------------------------------- frames


cdef Frame* push(Pickler self, int kind, PyObject* obj) except NULL:
    cdef Frame* frames
    cdef Frame* frame
    cdef Py_ssize_t room
    if self.depth == self.room:
        room = self.room * 2 if self.room else 16
        frames = <Frame*> realloc(self.frames, room * sizeof(Frame))
        if frames == NULL:
            raise MemoryError
        self.frames = frames
        self.room = room
    frame = &self.frames[self.depth]
    memset(frame, 0, sizeof(Frame))
    frame.kind = kind
    frame.obj = obj
    Py_INCREF(obj)
    self.depth += 1
    return frame


cdef Frame* push_below(Pickler self, Py_ssize_t depth, int kind, PyObject* obj) except NULL:
    """Push a frame below those that have come since the stack had this depth."""
    cdef Frame pushed = push(self, kind, obj)[0]
    cdef Frame* frame = &self.frames[depth]
    memmove(frame + 1, frame, (self.depth - 1 - depth) * sizeof(Frame))
    frame[0] = pushed
    return frame


cdef int pop(Pickler self) except -1:
    cdef Frame* frame = &self.frames[self.depth - 1]
    cdef PyObject* obj = frame.obj
    cdef PyObject* part = frame.part
    cdef PyObject* second = frame.second
    cdef PyObject* pair = frame.pair
    cdef PyObject* source = frame.source
    cdef PyObject* filling = frame.filling
    self.hidden -= frame.hidden
    self.depth -= 1
    Py_DECREF(obj)
    Py_XDECREF(part)
    Py_XDECREF(second)
    Py_XDECREF(pair)
    Py_XDECREF(source)
    Py_XDECREF(filling)
    return 0


cdef inline Frame* top(Pickler self) noexcept:
    return &self.frames[self.depth - 1]


cdef inline PyObject* set_part(Frame* frame, PyObject* part) noexcept:
    """Make a part, which is handed over, the one that is being written."""
    cdef PyObject* old = frame.part
    frame.part = part
    Py_XDECREF(old)
    return part


cdef inline PyObject* own(PyObject* obj) noexcept:
    Py_INCREF(obj)
    return obj


cdef int save_all(Pickler self, PyObject* root, bint state) except -1:
    """Write an object, or the attributes of an instance, and all that it reaches."""
    cdef Py_ssize_t i
    self.watched = MOST_OPEN
    self.open_ids = 0
    self.nested_ids = 0
    self.hidden = 0
    self.saving = True
    try:
        if (save_attributes(self, root) if state else save(self, root)) == OPENED:
            while self.depth:
                self.saving = False
                step(self)
        return 0
    except BaseException as error:
        if self.asker is None:
            tell(self, error, root)
        raise
    finally:
        while self.depth:
            pop(self)
        if self.room * sizeof(Frame) > SMALL:
            free(self.frames)
            self.frames = NULL
            self.room = 0


cdef int tell(Pickler self, error, PyObject* root) except -1:
    """Tell in an exception where in the object it came up."""
    if isinstance(error, Unpicklable):
        if error.path is None:
            error.locate(where(self, root))
    elif isinstance(error, Exception) and hasattr(error, "add_note"):  # Python 3.11
        error.add_note(f"while pickling {where(self, root)}")
    return 0


cdef object where(Pickler self, PyObject* root):
    """Return the path to what was being written when an exception came."""
    cdef Py_ssize_t i, depth = self.depth
    cdef Frame* frame
    part = <object> root
    if depth:
        frame = top(self)
        part = <object> (frame.obj if frame.part == NULL else frame.part)
        if not self.saving and (frame.kind > GENERATORS or frame.hidden):
            # The parts are written, or can't be told: it is the object itself that can't be.
            while self.frames[depth - 1].hidden:
                depth -= 1
            part = <object> self.frames[depth - 1].obj
            depth -= 1
    places = []
    for i in range(depth):
        if not self.frames[i].hidden:
            places.append(_path.Open(<object> self.frames[i].obj, step_of(&self.frames[i])))
    return _path.describe(places, part)


cdef object step_of(Frame* frame):
    """Return how the part that is being written is reached from its object, as `_path` wants it told."""
    if frame.kind == IN_ONE and frame.code == BUILD:
        return _path.STATE
    if frame.kind == IN_ID:
        return ".<persistent id>"
    if frame.kind == IN_SCRIPT:
        return (<list> frame.source)[frame.at - 1][2] if frame.at else None
    if frame.kind == IN_FILLING:
        if frame.phase < STATE:
            return _path.ITEM
        return _path.STATE if frame.phase == STATE else ".__reduce__()[5]"
    if frame.kind == IN_CALL:
        if frame.code == NEWOBJ:
            return ".__reduce__()[1]" if frame.at > 1 else ".__class__"
        if frame.code == NEWOBJ_EX:
            return f".__reduce__()[1][{frame.at - 1}]" if frame.at > 1 else ".__class__"
        return ".__reduce__()[1]" if frame.at > 1 or frame.phase else ".__reduce__()[0]"
    return None


cdef int step(Pickler self) except -1:
    """Go on with the frame on top, until it pushes another one or is done."""
    cdef int kind = top(self).kind
    if kind == IN_DICT:
        return step_dict(self)
    if kind == IN_ONE:
        return step_one(self)
    if kind == IN_LIST:
        return step_list(self)
    if kind == IN_TUPLE:
        return step_tuple(self)
    if kind == IN_CALL:
        return step_call(self)
    if kind == IN_ELEMENTS:
        return step_elements(self)
    if kind == IN_FILLING:
        return step_filling(self)
    if kind == IN_LIST_BATCHES:
        return step_list_batches(self)
    if kind == IN_DICT_BATCHES:
        return step_dict_batches(self)
    if kind == IN_SET_BATCHES:
        return step_set_batches(self)
    if kind == IN_SCRIPT:
        return step_script(self)
    put1(self, BINPERSID)  # IN_ID: the id is written
    self.open_ids -= 1
    return pop(self)


cdef inline int save_part(Pickler self, PyObject* part) except -1:
    """Write a part of the object on top, which owns the part."""
    cdef int done
    self.saving = True
    done = save(self, part)
    self.saving = False
    return done


cdef int step_one(Pickler self) except -1:
    cdef Frame* frame = top(self)
    if not frame.at:
        frame.at = 1
        if save_part(self, frame.part) == OPENED:
            return 0
        frame = top(self)
    put1(self, frame.code)
    return pop(self)


# ---------------------------------------------------------------------------------------------------------------- lists


cdef inline bint list_loop(Pickler self, PyObject* obj, Py_ssize_t* at, Py_ssize_t end) except -1:
    """Write items up to the first that needs a frame; tell whether they are all written."""
    while at[0] < PyList_GET_SIZE(obj) and at[0] < end:
        if is_full(self) or not save_pure(self, PyList_GET_ITEM(obj, at[0])):
            return False
        at[0] += 1
    return True


cdef int save_list(Pickler self, PyObject* obj) except -1:
    cdef Py_ssize_t at = 0, size = PyList_GET_SIZE(obj)
    cdef Frame* frame
    if self.bin:
        put1(self, EMPTY_LIST)
    else:
        put2(self, MARK, LIST)
    memoize(self, obj)
    if not size:
        return DONE
    if size > BATCH or not self.bin:
        push(self, IN_LIST_BATCHES, obj)
        return OPENED
    if size == 1:
        if not is_full(self) and save_pure(self, PyList_GET_ITEM(obj, 0)):
            put1(self, APPEND)
            return DONE
        frame = push(self, IN_ONE, obj)
        frame.part = own(PyList_GET_ITEM(obj, 0))
        frame.code = APPEND
        return OPENED
    put1(self, MARK)
    if list_loop(self, obj, &at, size):
        put1(self, APPENDS)
        return DONE
    frame = push(self, IN_LIST, obj)
    frame.at = at
    return OPENED


cdef int step_list(Pickler self) except -1:
    cdef Frame* frame = top(self)
    cdef PyObject* obj = frame.obj
    while frame.at < PyList_GET_SIZE(obj):
        frame.at += 1
        if frame.at + 1 < PyList_GET_SIZE(obj):
            prefetch(self, PyList_GET_ITEM(obj, frame.at + 1))
        if save_part(self, set_part(frame, own(PyList_GET_ITEM(obj, frame.at - 1)))) == OPENED:
            return 0
        frame = top(self)
        list_loop(self, obj, &frame.at, PyList_GET_SIZE(obj))
    put1(self, APPENDS)
    return pop(self)


cdef int step_list_batches(Pickler self) except -1:
    cdef Frame* frame = top(self)
    cdef PyObject* obj = frame.obj
    while True:
        # `at` is the next item, `count` how many of this batch are written, in protocol 0: of the item before.
        if not self.bin:
            if frame.count:
                put1(self, APPEND)
                frame.count = 0
            if frame.at >= PyList_GET_SIZE(obj):
                return pop(self)
        elif not frame.phase:
            put1(self, MARK)
            frame.phase = 1
            frame.count = 0
        elif frame.count == BATCH or frame.at >= PyList_GET_SIZE(obj):
            # A list that has given its end once is at its end, whatever is appended to it afterwards.
            frame.ended |= frame.count < BATCH
            put1(self, APPENDS)
            frame.phase = 0
            if frame.ended or frame.at >= PyList_GET_SIZE(obj):
                return pop(self)
            continue
        if frame.at < PyList_GET_SIZE(obj):
            frame.at += 1
            frame.count += 1
            if frame.at + 1 < PyList_GET_SIZE(obj):
                prefetch(self, PyList_GET_ITEM(obj, frame.at + 1))
            if save_part(self, set_part(frame, own(PyList_GET_ITEM(obj, frame.at - 1)))) == OPENED:
                return 0
            frame = top(self)
            if self.bin:
                batch_loop(self, frame)


cdef int batch_loop(Pickler self, Frame* frame) except -1:
    """Write further items of a batch of a list, up to the first that needs a frame."""
    cdef Py_ssize_t at = frame.at
    list_loop(self, frame.obj, &at, at + BATCH - frame.count)
    frame.count += at - frame.at
    frame.at = at
    return 0


# ---------------------------------------------------------------------------------------------------------------- dicts

# What `dict_loop` has come to.
cdef enum:
    AT_END
    AT_PAIR     # nothing of the next pair is written, if there is one
    AT_VALUE    # its key is


cdef inline int dict_loop(Pickler self, Frame* frame, Py_ssize_t most, PyObject** value) except -1:
    """Write pairs of a dict up to the first with a key or value that needs a frame.

    Args:
        frame: A frame for the dict, on the stack or to be put there.
        most: How many pairs may be written.
        value: Set to a value whose key is written, borrowed.
    """
    cdef PyObject* key
    cdef Py_ssize_t next
    while most and PyDict_GET_SIZE(frame.obj) == frame.size:
        if is_full(self):
            return AT_PAIR
        next = frame.at
        if not PyDict_Next(frame.obj, &next, &key, value):
            return AT_END
        if not frame.count or not save_pure(self, key):
            return AT_PAIR
        frame.at = next
        frame.count -= 1
        if is_full(self) or not save_pure(self, value[0]):
            return AT_VALUE
        most -= 1
    return AT_PAIR


cdef int save_dict(Pickler self, PyObject* obj) except -1:
    cdef Frame begun
    cdef Frame* frame
    cdef PyObject* value = NULL
    cdef int reached
    if self.bin:
        put1(self, EMPTY_DICT)
    else:
        put2(self, MARK, DICT)
    memoize(self, obj)
    memset(&begun, 0, sizeof(Frame))
    begun.obj = obj
    begun.size = begun.count = PyDict_GET_SIZE(obj)
    if not begun.size:
        return DONE
    if begun.size >= BATCH or not self.bin:
        frame = push(self, IN_DICT_BATCHES, obj)
        frame.size = frame.count = begun.size
        frame.batches = begun.size // BATCH + 1  # behind a last batch that is full stands an empty one
        frame.batch = NOT_BEGUN
        return OPENED
    if begun.size == 1:
        begun.code = SETITEM
    else:
        put1(self, MARK)
        begun.code = SETITEMS
    reached = dict_loop(self, &begun, BATCH, &value)
    if reached == AT_END:
        put1(self, begun.code)
        return DONE
    frame = push(self, IN_DICT, obj)
    begun.kind = IN_DICT
    frame[0] = begun
    if reached == AT_VALUE:
        frame.second = own(value)
    return OPENED


cdef int next_pair(Frame* frame) except -1:
    """Take the next pair of a dict as `part` and `second`; tell whether there is one. As the interpreter's iterator does."""
    cdef PyObject* key
    cdef PyObject* value
    if frame.ended:
        return False
    if PyDict_GET_SIZE(frame.obj) != frame.size:
        raise RuntimeError("dictionary changed size during iteration")
    if not PyDict_Next(frame.obj, &frame.at, &key, &value):
        frame.ended = True
        return False
    if not frame.count:
        raise RuntimeError("dictionary keys changed during iteration")
    frame.count -= 1
    frame.second = own(value)
    set_part(frame, own(key))
    return True


cdef inline PyObject* take_second(Frame* frame) noexcept:
    """Make the value that waits in `second` the part that is being written."""
    cdef PyObject* value = frame.second
    frame.second = NULL
    return set_part(frame, value)


cdef int step_dict(Pickler self) except -1:
    cdef Frame* frame = top(self)
    cdef PyObject* value = NULL
    cdef int reached
    while True:
        if frame.second == NULL:
            if not next_pair(frame):
                break
            if save_part(self, frame.part) == OPENED:
                return 0
            frame = top(self)
        if save_part(self, take_second(frame)) == OPENED:
            return 0
        frame = top(self)
        reached = dict_loop(self, frame, BATCH, &value)
        if reached == AT_END:
            break
        if reached == AT_VALUE:
            frame.second = own(value)
    put1(self, frame.code)
    return pop(self)


cdef int step_dict_batches(Pickler self) except -1:
    cdef Frame* frame = top(self)
    cdef PyObject* value = NULL
    cdef Py_ssize_t before
    cdef int reached
    while True:
        if frame.second != NULL:
            frame.phase = 1  # a pair will be written
            if save_part(self, take_second(frame)) == OPENED:
                return 0
            frame = top(self)
        if frame.phase:
            frame.phase = 0
            if not self.bin:
                put1(self, SETITEM)
            else:
                frame.batch += 1
                before = frame.count
                reached = dict_loop(self, frame, BATCH - frame.batch, &value)
                frame.batch += before - frame.count
                if reached == AT_VALUE:
                    frame.batch -= 1
                    frame.second = own(value)
                    continue
        if self.bin and frame.batch == NOT_BEGUN:
            if not frame.batches:
                return pop(self)
            frame.batches -= 1
            frame.batch = 0
            put1(self, MARK)
        if (self.bin and frame.batch == BATCH) or not next_pair(frame):
            if not self.bin:
                return pop(self)
            frame.batch = NOT_BEGUN
            put1(self, SETITEMS)
            continue
        if save_part(self, frame.part) == OPENED:
            return 0
        frame = top(self)


# ------------------------------------------------------------------------------------------------------ sets and tuples


cdef int save_set(Pickler self, PyObject* obj) except -1:
    cdef Frame* frame
    if self.proto < 4:
        return save_call(self, obj, (set, (elements(self, <object> obj),)))
    put1(self, EMPTY_SET)
    memoize(self, obj)
    if not PySet_GET_SIZE(obj):
        return DONE
    if PySet_GET_SIZE(obj) < BATCH:
        put1(self, MARK)
        return save_elements(self, obj, ADDITEMS)
    source = iter(elements(self, <object> obj) if self.canonical else <object> obj)
    frame = push(self, IN_SET_BATCHES, obj)
    frame.source = own(<PyObject*> source)
    frame.batches = PySet_GET_SIZE(obj) // BATCH + 1  # as in save_dict
    frame.batch = NOT_BEGUN
    return OPENED


cdef int save_frozenset(Pickler self, PyObject* obj) except -1:
    if self.proto < 4:
        return save_call(self, obj, (frozenset, (elements(self, <object> obj),)))
    put1(self, MARK)
    return save_elements(self, obj, FROZENSET)


cdef int save_elements(Pickler self, PyObject* obj, int code) except -1:
    """Write the elements of a set or frozenset, and the opcode behind them."""
    cdef Frame* frame
    cdef PyObject* item = NULL
    source = iter(elements(self, <object> obj) if self.canonical else <object> obj)
    while not is_full(self):
        item = next_item(<PyObject*> source)
        if item == NULL:
            close_elements(self, obj, code)
            return DONE
        if not save_pure(self, item):
            break
        Py_DECREF(item)
        item = NULL
    frame = push(self, IN_ELEMENTS, obj)
    frame.code = code
    frame.source = own(<PyObject*> source)
    frame.second = item
    return OPENED


cdef PyObject* next_item(PyObject* iterator) except? NULL:
    """Return what an iterator gives next, owned; NULL at its end."""
    cdef PyObject* item = PyIter_Next(iterator)
    if item == NULL and PyErr_Occurred():
        pstore_failed()
    return item


cdef int close_elements(Pickler self, PyObject* obj, int code) except -1:
    cdef Py_ssize_t place
    if code == ADDITEMS:
        return put1(self, ADDITEMS)
    place = recall(self, obj)
    if place < 0:
        put1(self, FROZENSET)
        return memoize(self, obj)
    # It was written as a part of itself: it has been built by now, so the parts on the stack are dropped.
    put1(self, POP_MARK)
    return put_get(self, place)


cdef int step_elements(Pickler self) except -1:
    cdef Frame* frame = top(self)
    while True:
        if frame.second == NULL:
            frame.second = next_item(frame.source)
            if frame.second == NULL:
                close_elements(self, frame.obj, frame.code)
                return pop(self)
        if save_part(self, take_second(frame)) == OPENED:
            return 0
        frame = top(self)


cdef int step_set_batches(Pickler self) except -1:
    cdef Frame* frame = top(self)
    cdef PyObject* item
    while True:
        if frame.batch == NOT_BEGUN:
            if not frame.batches:
                return pop(self)
            frame.batches -= 1
            frame.batch = 0
            put1(self, MARK)
        item = NULL if frame.batch == BATCH or frame.ended else next_item(frame.source)
        if item == NULL:
            frame.ended = frame.batch < BATCH
            frame.batch = NOT_BEGUN
            put1(self, ADDITEMS)
            continue
        frame.batch += 1
        if save_part(self, set_part(frame, item)) == OPENED:
            return 0
        frame = top(self)


cdef list elements(Pickler self, object obj):
    """Return the elements of a set in the order in which they are written."""
    items = list(obj)
    if not self.canonical:
        return items
    if len(items) < 2:
        return items
    kind = type(items[0])
    if kind is str or kind is int or kind is bytes:
        for item in items:
            if type(item) is not kind:
                break
        else:
            items.sort()
            return items
    return order(self if self.asker is not None else keys_of(self, _canonical.LEVELS, [1000 + 16 * len(items)]), obj)


cdef inline bint tuple_loop(Pickler self, PyObject* obj, Py_ssize_t* at) except -1:
    """Write items up to the first that needs a frame; tell whether they are all written."""
    while at[0] < PyTuple_GET_SIZE(obj):
        if is_full(self) or not save_pure(self, PyTuple_GET_ITEM(obj, at[0])):
            return False
        at[0] += 1
    return True


cdef int save_tuple(Pickler self, PyObject* obj) except -1:
    cdef Py_ssize_t at = 0, size = PyTuple_GET_SIZE(obj)
    cdef Frame* frame
    if not size:
        if self.bin:
            put1(self, EMPTY_TUPLE)
        else:
            put2(self, MARK, TUPLE)
        return DONE
    if size > 3 or self.proto < 2:
        put1(self, MARK)
    if tuple_loop(self, obj, &at):
        close_tuple(self, obj)
        return DONE
    frame = push(self, IN_TUPLE, obj)
    frame.at = at
    return OPENED


cdef int step_tuple(Pickler self) except -1:
    cdef Frame* frame = top(self)
    cdef PyObject* obj = frame.obj
    while frame.at < PyTuple_GET_SIZE(obj):
        frame.at += 1
        if save_part(self, set_part(frame, own(PyTuple_GET_ITEM(obj, frame.at - 1)))) == OPENED:
            return 0
        frame = top(self)
        tuple_loop(self, obj, &frame.at)
    close_tuple(self, obj)
    return pop(self)


cdef int close_tuple(Pickler self, PyObject* obj) except -1:
    cdef Py_ssize_t size = PyTuple_GET_SIZE(obj)
    cdef Py_ssize_t place = recall(self, obj)
    cdef bint short = size <= 3 and self.proto >= 2
    if place < 0:
        put1(self, <int> (TUPLE1 + size - 1) if short else TUPLE)
        return memoize(self, obj)
    # As in close_elements.
    if not short and self.bin:
        put1(self, POP_MARK)
    else:
        for _ in range(size if short else size + 1):
            put1(self, POP)
    return put_get(self, place)


# ---------------------------------------------------------------------------------------------------------- set elements
#
# The keys by which a canonical pickler orders the elements of a set are made by picklers of their own, with the hooks of
# the one that wants to know. They go no further than a limit, and through so many sets within sets.


cdef Pickler keys_of(Pickler asker, int level, list work):
    cdef Pickler self = Pickler.__new__(Pickler)
    self.asker = asker
    self.level = level
    self.work = work
    self.lower = {}
    self.proto = asker.proto
    self.bin = asker.bin
    self.fix_imports = asker.fix_imports
    self.canonical = True
    self.limit = 256 << 4 * level
    self.ask_all = asker.ask_all
    self.ask_inst = asker.ask_inst
    self.ask_global = asker.ask_global
    self.override = asker.override
    self.table = asker.table
    self.identities = asker.identities
    self.other_ids = asker.other_ids
    self.pure = asker.pure
    return self


cdef list order(Pickler self, object obj):
    """Return the elements of a set in canonical order; where this level can't tell, something of the set."""
    items = _canonical.ordered(obj, partial(_key_of, self), self.level)
    if items is None:
        self.whole = False
        return [len(obj)]
    return items


def _key_of(Pickler self, element, level):
    """Return the key of an element of a set that `self` orders, and whether it holds all of the element."""
    cdef Pickler keys
    self.work[0] -= 1
    if self.work[0] < 0:
        raise _canonical.Enough
    keys = self.lower.get(level)
    if keys is None:
        keys = self.lower[level] = keys_of(self.asker, level, self.work)
    forget(keys, 0)
    keys.size = 0
    keys.whole = True
    open_frame(keys)
    try:
        save_all(keys, <PyObject*> element, False)
    except _Cut:
        keys.whole = False
    except Unpicklable:
        pass  # the pickler itself will come to it, and tell where it is
    return keys.out[:keys.size] if keys.size else b"", keys.whole


# --------------------------------------------------------------------------------------- classes, functions and instances


cdef int save_other(Pickler self, PyObject* obj, bint ask) except -1:
    """Write what has no exact type of its own: classes, functions and instances."""
    cdef PyTypeObject* type = Py_TYPE(obj)
    cdef bint by_name = type == &PyType_Type or type == &PyFunction_Type
    cdef bint is_class = PyType_HasFeature(type, Py_TPFLAGS_TYPE_SUBCLASS)
    cdef Plan* plan
    if ask and self.ask_inst is not None and not is_class and not by_name and type != &PyCFunction_Type:
        pid = self.ask_inst(<object> obj)
        if pid is not None:
            return save_id(self, obj, pid)
    if self.override is not MISSING:
        value = self.override(<object> obj)
        if value is not NotImplemented:
            return save_reduction(self, obj, check_reduction(value))
    type = Py_TYPE(obj)  # who was asked may have given the object another class
    if type == &PyType_Type:
        return save_type(self, obj)
    if by_name:
        return save_global(self, obj, None)
    reduce = registered(self, type)
    if reduce is MISSING:
        if is_class:
            return save_global(self, obj, None)
        if self.proto < 2:
            if hasattr(<object> type, "__getinitargs__"):
                arguments = old_style_arguments(<object> obj)
                if arguments is not None:
                    return save_old_style(self, obj, arguments)
        else:
            plan = plan_of(type)
            if plan != NULL and plan.plain > 0 and is_plain_class(type):
                return save_plain(self, obj, plan)
            value = checked(reduce_object(self, obj, MISSING))
            if plan != NULL and not plan.plain and is_plain(value):
                learn(type)
            return save_reduction(self, obj, value)
    return save_reduction(self, obj, checked(reduce_object(self, obj, reduce)))


cdef object registered(Pickler self, PyTypeObject* type):
    """Return the reduction function for a class, or MISSING. The table need do no more than give items."""
    cdef PyObject* found
    if PyDict_CheckExact(<PyObject*> self.table):
        found = PyDict_GetItemWithError(<PyObject*> self.table, <PyObject*> type)
        if found == NULL:
            if PyErr_Occurred():
                pstore_failed()
            return MISSING
        return <object> found
    try:
        return self.table[<object> type]
    except KeyError:
        return MISSING


cdef object reduce_object(Pickler self, PyObject* obj, object reduce):
    """Return what an object is reduced to, unchecked; see `reduction.reduce_plainly`."""
    try:
        if reduce is not MISSING:
            return reduce(<object> obj)
        reduce = getattr(<object> obj, "__reduce_ex__", MISSING)
        if reduce is not MISSING:
            return reduce(self.proto)
        reduce = getattr(<object> obj, "__reduce__", MISSING)
        if reduce is not MISSING:
            return reduce()
    except TypeError as error:
        if is_interpreters(error):
            raise UnpicklableType(str(error)) from error
        raise
    except ValueError as error:
        if is_interpreters(error):
            raise UnpicklableValue(str(error)) from error
        raise
    raise UnpicklableType(f"cannot pickle {(<object> Py_TYPE(obj)).__name__!r} object: it has no __reduce_ex__")


cdef object checked(object value):
    """Return a reduction if it is what the protocol asks for; see `reduction.check_reduction`."""
    cdef Py_ssize_t size
    if type(value) is tuple:
        size = len(<tuple> value)
        if (
            2 <= size <= 6
            and PyCallable_Check(PyTuple_GET_ITEM(<PyObject*> value, 0))
            and isinstance((<tuple> value)[1], tuple)
            and (size < 4 or is_iterator_or_none(PyTuple_GET_ITEM(<PyObject*> value, 3)))
            and (size < 5 or is_iterator_or_none(PyTuple_GET_ITEM(<PyObject*> value, 4)))
            and (
                size < 6
                or PyTuple_GET_ITEM(<PyObject*> value, 5) == Py_None
                or PyCallable_Check(PyTuple_GET_ITEM(<PyObject*> value, 5))
            )
        ):
            return value
    return check_reduction(value)


cdef inline bint is_plain_class(PyTypeObject* type) noexcept:
    """Tell whether the class of a class, which its version doesn't speak of, leaves the reduction alone."""
    cdef PyTypeObject* metaclass = Py_TYPE(<PyObject*> type)
    return metaclass == &PyType_Type or (
        pstore_is_plain_metaclass(metaclass) and _PyType_Lookup(metaclass, _reduce) == _object_reduce
    )


cdef bint is_iterator_or_none(PyObject* obj) noexcept:
    return obj == Py_None or pstore_is_next(obj)


cdef bint is_plain(object value):
    """Tell whether a reduction is no more than a class and a state."""
    cdef Py_ssize_t size
    if type(value) is not tuple or (<tuple> value)[0] is not _newobj or len((<tuple> value)[1]) != 1:
        return False
    for part in (<tuple> value)[3:]:
        if part is not None:
            return False
    return True


cdef int save_reduction(Pickler self, PyObject* obj, object reduced) except -1:
    """Write what an object is reduced to, which has been checked."""
    cdef Frame* frame
    cdef int code = REDUCE
    cdef bint called = False
    if isinstance(reduced, str):
        return save_global(self, obj, reduced)
    size = len(<tuple> reduced)
    function = (<tuple> reduced)[0]
    arguments = (<tuple> reduced)[1]
    state = (<tuple> reduced)[2] if size > 2 else None
    items = (<tuple> reduced)[3] if size > 3 else None
    pairs = (<tuple> reduced)[4] if size > 4 else None
    setter = (<tuple> reduced)[5] if size > 5 else None
    if self.canonical and isinstance(<object> obj, (set, frozenset)) and is_reduced_as_set(type(<object> obj)):
        arguments = (elements(self, <object> obj),)
    bare = items is None and pairs is None and setter is None
    if function is _newobj and len(arguments) == 1 and self.proto >= 2 and bare:
        cls = class_of_newobj(<object> obj, arguments)
        return save_instance(self, obj, <PyObject*> cls, state)
    if self.proto >= 2:
        name = getattr(function, "__name__", None)
        if name == "__newobj__":
            parts = (class_of_newobj(<object> obj, arguments), arguments[1:])
            code = NEWOBJ
            called = True
        elif name == "__newobj_ex__":
            parts = parts_of_newobj_ex(<object> obj, arguments)
            called = True
            if self.proto >= 4:
                code = NEWOBJ_EX
            else:
                cls, positional, keywords = parts
                parts = (partial(cls.__new__, cls, *positional, **keywords), ())
    if not called:
        parts = (function, arguments)
    frame = push(self, IN_CALL, obj)
    frame.source = own(<PyObject*> parts)
    frame.code = code
    frame.phase = called
    if state is not None or not bare:
        filling = (state, items, pairs, setter)
        frame.filling = own(<PyObject*> filling)
    return OPENED


cdef int save_call(Pickler self, PyObject* obj, tuple call) except -1:
    """Write an object as the result of a call: a function and a tuple of arguments."""
    cdef Frame* frame = push(self, IN_CALL, obj)
    frame.source = own(<PyObject*> call)
    frame.code = REDUCE
    return OPENED


cdef int step_call(Pickler self) except -1:
    cdef Frame* frame = top(self)
    while frame.at < PyTuple_GET_SIZE(frame.source):
        frame.at += 1
        if save_part(self, set_part(frame, own(PyTuple_GET_ITEM(frame.source, frame.at - 1)))) == OPENED:
            return 0
        frame = top(self)
    put1(self, frame.code)
    return close_call(self)


cdef int close_call(Pickler self) except -1:
    """Go on with the frame on top, whose object is made: memoise it, and fill it."""
    cdef Frame* frame = top(self)
    cdef PyObject* filling = frame.filling
    cdef Py_ssize_t place = recall(self, frame.obj)
    if place >= 0:
        # It was reached again through the arguments of the call, so it is made and filled by now.
        put1(self, POP)
        put_get(self, place)
        return pop(self)
    memoize(self, frame.obj)
    if filling == NULL:
        return pop(self)
    frame.at = 0
    if (
        PyTuple_GET_ITEM(filling, 1) != Py_None
        or PyTuple_GET_ITEM(filling, 2) != Py_None
        or PyTuple_GET_ITEM(filling, 3) != Py_None
    ):
        frame.kind = IN_FILLING
        frame.phase = ITEMS
        set_source(frame, NULL)
        return 0
    if PyTuple_GET_ITEM(filling, 0) == Py_None:
        return pop(self)
    frame.kind = IN_ONE
    frame.code = BUILD
    set_part(frame, own(PyTuple_GET_ITEM(filling, 0)))
    return 0


cdef inline int set_source(Frame* frame, PyObject* source) noexcept:
    cdef PyObject* old = frame.source
    frame.source = source
    Py_XDECREF(old)
    return 0


cdef int iterate(Frame* frame, PyObject* items) except -1:
    """Ask for an iterator, as a `for` loop does."""
    cdef PyObject* iterator = PyObject_GetIter(items)
    if iterator == NULL:
        pstore_failed()
    return set_source(frame, iterator)


cdef int step_filling(Pickler self) except -1:
    """Write items, pairs and state behind a call.

    An iterator is asked for two items before the first is written: one alone gets no batch.
    """
    cdef Frame* frame = top(self)
    cdef PyObject* items
    cdef PyObject* item
    while True:
        items = PyTuple_GET_ITEM(frame.filling, 1 if frame.phase < PAIRS else 2)
        if frame.phase == ITEMS:
            if items == Py_None:
                frame.phase = PAIRS
                continue
            if self.bin or frame.source == NULL:
                iterate(frame, items)
            item = next_item(frame.source)
            if item == NULL:
                set_source(frame, NULL)
                frame.phase = PAIRS
                continue
            set_part(frame, item)
            frame.phase = LAST_ITEM
            if self.bin:
                frame.second = next_item(frame.source)
                if frame.second != NULL:
                    put1(self, MARK)
                    frame.phase = SECOND_ITEM
        elif frame.phase == LAST_ITEM:
            put1(self, APPEND)
            frame.phase = ITEMS
            if self.bin:
                set_source(frame, NULL)
                frame.phase = PAIRS
            continue
        elif frame.phase == SECOND_ITEM:
            take_second(frame)
            frame.count = 2
            frame.phase = MORE_ITEMS
        elif frame.phase == MORE_ITEMS:
            if frame.count == 2:
                iterate(frame, items)
            item = NULL if frame.count == BATCH else next_item(frame.source)
            if item == NULL:
                put1(self, APPENDS)
                if frame.count == BATCH:
                    frame.phase = ITEMS
                else:
                    set_source(frame, NULL)
                    frame.phase = PAIRS
                continue
            set_part(frame, item)
            frame.count += 1
        elif frame.phase == PAIRS:
            if items == Py_None:
                frame.phase = STATE
                continue
            if self.bin or frame.source == NULL:
                iterate(frame, items)
            item = next_item(frame.source)
            if item == NULL:
                set_source(frame, NULL)
                frame.phase = STATE
                continue
            frame.batch = SINGLE
            if self.bin:
                set_pair(frame, item)
                frame.second = next_item(frame.source)
                if frame.second != NULL:
                    frame.batch = 0
                    put1(self, MARK)
                    iterate(frame, items)
                item = own(frame.pair)
            take_pair(frame, item)
        elif frame.phase == VALUE:
            set_part(frame, own(PyTuple_GET_ITEM(frame.pair, 1)))
            frame.phase = NEXT_PAIR
        elif frame.phase == NEXT_PAIR:
            if frame.batch == SINGLE:
                put1(self, SETITEM)
                frame.phase = PAIRS
                if self.bin:
                    set_source(frame, NULL)
                    frame.phase = STATE
                continue
            frame.batch += 1
            item = frame.second
            frame.second = NULL
            if item == NULL and frame.batch < BATCH:
                item = next_item(frame.source)
            if item == NULL:
                put1(self, SETITEMS)
                if frame.batch == BATCH:
                    frame.phase = PAIRS
                else:
                    set_source(frame, NULL)
                    frame.phase = STATE
                continue
            take_pair(frame, item)
        elif not step_state(self, frame):
            return 0
        if save_part(self, frame.part) == OPENED:
            return 0
        frame = top(self)


cdef inline int set_pair(Frame* frame, PyObject* pair) noexcept:
    cdef PyObject* old = frame.pair
    frame.pair = pair
    Py_XDECREF(old)
    return 0


cdef int take_pair(Frame* frame, PyObject* item) except -1:
    """Make an item of a mapping, which is handed over, the one that is being written, beginning with its key."""
    if not PyTuple_CheckExact(item) or PyTuple_GET_SIZE(item) != 2:
        try:
            pair = checked_pair(<object> item)
        finally:
            Py_DECREF(item)
        item = own(<PyObject*> pair)
    set_pair(frame, item)
    set_part(frame, own(PyTuple_GET_ITEM(item, 0)))
    frame.phase = VALUE
    return 0


cdef bint step_state(Pickler self, Frame* frame) except -1:
    """Write the state behind items and pairs, part by part; False when all is written, and the frame is gone."""
    cdef PyObject* state = PyTuple_GET_ITEM(frame.filling, 0)
    cdef PyObject* setter = PyTuple_GET_ITEM(frame.filling, 3)
    frame.at += 1
    if state == Py_None:
        pop(self)
        return False
    if setter == Py_None:
        if frame.at == 2:
            put1(self, BUILD)
            pop(self)
            return False
        set_part(frame, own(state))
        return True
    if frame.at == 4:
        put2(self, TUPLE2, REDUCE)
        put1(self, POP)
        pop(self)
        return False
    frame.phase = STATE if frame.at == 3 else SETTER
    set_part(frame, own(setter if frame.at == 1 else frame.obj if frame.at == 2 else state))
    return True


cdef int save_plain(Pickler self, PyObject* obj, Plan* plan) except -1:
    """Write an instance of which it is known that it is reduced to its class and a state."""
    cdef object cls = <object> plan.type
    cdef PyObject* attributes = NULL
    state = None
    slots = None if plan.slots == NULL else <object> plan.slots
    if plan.has_dict:
        attributes = PyObject_GenericGetDict(obj, NULL)
        if attributes == NULL:
            pstore_failed()
        state = <object> attributes
        Py_DECREF(attributes)
        if not PyDict_CheckExact(attributes) or (
            PyDict_GET_SIZE(attributes)
            and (has_name(attributes, _reduce_ex) or has_name(attributes, _getstate))
        ):  # an attribute of the instance itself is what is asked
            return save_reduction(self, obj, checked(reduce_object(self, obj, MISSING)))
        if not EMPTY_STATE and not PyDict_GET_SIZE(attributes):
            state = None
    if slots is not None:
        values = slots_of(obj, slots)
        if values:
            state = (state, values)
    return save_instance(self, obj, <PyObject*> cls, state)


cdef dict slots_of(PyObject* obj, list slots):
    """Return the attributes of an instance that are set and stand in slots."""
    cdef PyObject* value
    cdef PyObject* name
    cdef Py_ssize_t i
    cdef dict values = {}
    for i in range(PyList_GET_SIZE(<PyObject*> slots)):
        name = PyList_GET_ITEM(<PyObject*> slots, i)
        value = PyObject_GetAttr(obj, name)
        if value == NULL:
            if not PyErr_ExceptionMatches(PyExc_AttributeError):
                pstore_failed()
            PyErr_Clear()
            continue
        filled = <object> value
        Py_DECREF(value)
        values[<object> name] = filled
    return values


# --------------------------------------------------------------------------------------------------------------- states

cdef object UNSEEN = object()  # in the memo: a state that nobody has


cdef bint is_among(object cls, object types) except -1:
    """Tell whether a class is in a set of classes, without asking a metaclass whether they are equal."""
    if Py_TYPE(<PyObject*> cls) == &PyType_Type:
        return cls in types
    for one in types:
        if one is cls:
            return True
    return False


cdef inline bint is_private(Pickler self, PyObject* obj) noexcept:
    """Tell whether something in the memo is a state that only this pickler has seen."""
    cdef Py_ssize_t i
    if obj == <PyObject*> UNSEEN:
        return True
    if self.private is not None:
        for i in range(PyList_GET_SIZE(<PyObject*> self.private)):
            if PyList_GET_ITEM(<PyObject*> self.private, i) == obj:
                return True
    return False


cdef object dump_state(Pickler self, object obj):
    """Return the stream of the state of an instance, or None; see `Pickler.dumps_state`."""
    cdef PyTypeObject* type = Py_TYPE(<PyObject*> obj)
    cdef Plan* plan = plan_of(type)
    if self.proto < 2 or plan == NULL or not is_plain_class(type):
        return None
    if not plan.plain and looks_plain(type):
        learn(type)
        plan = plan_of(type)
        if plan != NULL and plan.plain > 0:
            if not pstore_is_not_compiled(type, 0 if plan.slots == NULL else PyList_GET_SIZE(plan.slots)):
                plan.plain = -1
                Py_XDECREF(plan.slots)
                plan.slots = NULL
    if plan == NULL or plan.plain <= 0 or (plan.has_dict and has_own_reduction(<PyObject*> obj)):
        return None
    return dump_stream(self, obj, False, plan)


cdef bint has_own_reduction(PyObject* obj) except -1:
    """Tell whether an attribute of an instance itself is asked instead of a method of its class, or may be."""
    cdef PyObject* attributes
    cdef PyObject* name = NULL
    cdef PyObject* value = NULL
    cdef int i
    if pstore_has_values(obj):
        for i in range(pstore_attribute_count(obj)):
            pstore_attribute(obj, i, &name, &value)
            if pstore_same_text(name, _reduce_ex) or pstore_same_text(name, _getstate):
                return True
        return False
    attributes = pstore_made_dict(obj)
    if attributes == NULL or (PyDict_CheckExact(attributes) and not PyDict_GET_SIZE(attributes)):
        return False
    return not PyDict_CheckExact(attributes) or has_name(attributes, _reduce_ex) or has_name(attributes, _getstate)


cdef object copied_state(Pickler self, PyObject* obj, Plan* plan):
    """Return a state of one's own, which the memo is to keep to itself."""
    cdef PyObject* attributes
    cdef PyObject* name = NULL
    cdef PyObject* value = NULL
    cdef int i
    state = None
    if plan.has_dict:
        state = {}
        if pstore_has_values(obj):
            for i in range(pstore_attribute_count(obj)):
                pstore_attribute(obj, i, &name, &value)
                (<dict> state)[<object> name] = <object> value
        else:
            attributes = pstore_made_dict(obj)
            if attributes != NULL:
                state = (<dict> attributes).copy()
        if not EMPTY_STATE and not state:
            state = None
    private = [] if state is None else [state]
    if plan.slots != NULL:
        values = slots_of(obj, <list> plan.slots)
        if values:
            state = (state, values)
            private += [values, state]
    keep_private(self, private)
    return state


cdef int save_attributes(Pickler self, PyObject* obj) except -1:
    """Write the attributes of an instance as `save_dict` writes a copy of its dict."""
    cdef Frame* frame
    cdef PyObject* name = NULL
    cdef PyObject* value = NULL
    cdef PyObject* attributes
    cdef dict rest
    cdef bint written = False  # the name of the attribute where we are is
    cdef int at = 0, size
    if self.rest is None:
        self.rest = {}
    if not pstore_has_values(obj):
        attributes = pstore_made_dict(obj)
        if attributes == NULL or not PyDict_GET_SIZE(attributes):
            return save_no_attributes(self)
        rest = (<dict> attributes).copy()
        keep_private(self, [rest])
        find_hooks(self)
        return save_dict(self, <PyObject*> rest)
    size = pstore_attribute_count(obj)
    if not size:
        return save_no_attributes(self)
    put1(self, EMPTY_DICT)
    memoize(self, <PyObject*> UNSEEN)
    if size > 1:
        put1(self, MARK)
    # Nothing can change before anybody's code runs, and that isn't here: not even an object is made that the cyclic
    # garbage collector would run for.
    while at < size:
        pstore_attribute(obj, at, &name, &value)
        if is_full(self) or not save_pure(self, name):
            break
        if is_full(self) or not save_pure(self, value):
            written = True
            break
        at += 1
    if at == size:
        put1(self, SETITEMS if size > 1 else SETITEM)
        return DONE
    rest = self.rest
    self.rest = None
    for i in range(at, size):
        pstore_attribute(obj, i, &name, &value)
        rest[<object> name] = <object> value
    frame = push(self, IN_DICT, <PyObject*> rest)
    frame.size = frame.count = PyDict_GET_SIZE(<PyObject*> rest)
    frame.code = SETITEMS if size > 1 else SETITEM
    if written:
        PyDict_Next(<PyObject*> rest, &frame.at, &name, &value)
        frame.count -= 1
        frame.second = own(value)
    find_hooks(self)
    return OPENED


cdef int save_no_attributes(Pickler self) except -1:
    if not EMPTY_STATE:
        return put1(self, NONE)
    put1(self, EMPTY_DICT)
    return memoize(self, <PyObject*> UNSEEN)


cdef int keep_private(Pickler self, list objects) except -1:
    """Have the memo keep objects to itself."""
    if self.private is None:
        self.private = objects
    else:
        self.private += objects
    return 0


cdef inline bint has_name(PyObject* attributes, PyObject* name) except -1:
    if PyDict_GetItemWithError(attributes, name) != NULL:
        return True
    if PyErr_Occurred():
        pstore_failed()
    return False


cdef int save_instance(Pickler self, PyObject* obj, PyObject* cls, object state) except -1:
    """Write an instance that its class makes without arguments, for protocol 2 or higher."""
    cdef Frame* frame
    cdef Py_ssize_t place, depth = self.depth
    if self.ask_all is None and not has_id(self, cls):
        place = recall(self, cls)
        if place >= 0 or save_class_at_once(self, cls):
            if place >= 0:
                put_get(self, place)
            if self.size >= self.flush_at:
                flush(self)
            put2(self, EMPTY_TUPLE, NEWOBJ)
            memoize(self, obj)
            if state is None:
                return DONE
            if type(state) is dict and not is_full(self) and not has_id(self, <PyObject*> state):
                # Most often a few atoms: try without a frame.
                if save_known(self, <PyObject*> state, True) == DONE:
                    put1(self, BUILD)
                    return DONE
                frame = push_below(self, depth, IN_ONE, obj)
                frame.at = 1
            else:
                frame = push(self, IN_ONE, obj)
            set_part(frame, own(<PyObject*> state))
            frame.code = BUILD
            return OPENED
    parts = (<object> cls, ())
    frame = push(self, IN_CALL, obj)
    frame.source = own(<PyObject*> parts)
    frame.code = NEWOBJ
    if state is not None:
        filling = (state, None, None, None)
        frame.filling = own(<PyObject*> filling)
    return OPENED


cdef bint has_id(Pickler self, PyObject* obj) except -1:
    """Tell whether the table of persistent ids may have one for an object."""
    if self.identities is not None:
        return self.identities.get_c(obj) != NULL
    return self.other_ids is not None and other_id(self, obj) is not None


cdef bint save_class_at_once(Pickler self, PyObject* cls) except -1:
    """Write a class that nobody is to be asked about, without a frame; tell whether that could be done."""
    if Py_TYPE(cls) != &PyType_Type or self.ask_global is not None or self.override is not MISSING or self.proto < 4:
        return False
    return put_found_type(self, cls)


cdef inline bint has_no_code(Pickler self) noexcept:
    """Tell whether no class can have an extension code; canonical bytes know none."""
    return self.canonical or not PyDict_GET_SIZE(<PyObject*> codes)


cdef bint put_found_type(Pickler self, PyObject* cls) except -1:
    """Write a class of the top of a module, without a frame; tell whether that could be done."""
    cdef PyObject* module = NULL
    cdef PyObject* name = NULL
    if not has_no_code(self) or not find_type(<PyTypeObject*> cls, &module, &name):
        return False
    # Where the frame is full there has to be a frame of ours, for the path in what the file raises.
    if self.size + 8 * (PyUnicode_GET_LENGTH(module) + PyUnicode_GET_LENGTH(name)) + 64 > self.flush_at:
        return False
    save_str(self, module)
    save_str(self, name)
    put1(self, STACK_GLOBAL)
    memoize(self, cls)
    return True


cdef int save_type(Pickler self, PyObject* obj) except -1:
    cls = <object> obj
    if cls is type(None):
        return save_call(self, obj, (type, (None,)))
    if cls is type(NotImplemented):
        return save_call(self, obj, (type, (NotImplemented,)))
    if cls is type(...):
        return save_call(self, obj, (type, (...,)))
    return save_global(self, obj, None)


cdef int save_global(Pickler self, PyObject* obj, object name) except -1:
    """Write an object by the name under which its module holds it."""
    cdef PyObject* module = NULL
    cdef PyObject* found = NULL
    if self.ask_global is not None:
        pid = self.ask_global(<object> obj)
        if pid is not None:
            return save_id(self, obj, pid)
    if name is None and self.proto >= 4 and PyType_HasFeature(Py_TYPE(obj), Py_TPFLAGS_TYPE_SUBCLASS):
        if self.ask_all is None:
            if put_found_type(self, obj):
                return DONE
        elif has_no_code(self) and find_type(<PyTypeObject*> obj, &module, &found):
            parts = [(PART, <object> module, None), (PART, <object> found, None), (BYTES, b"\x93", None)]
            return save_script(self, obj, parts, MEMOIZED)
    place = locate(<object> obj, name)
    # The extension registry belongs to a process, so canonical bytes can't depend on it.
    if self.proto >= 2 and not self.canonical:
        code = extension_code(place.module, place.name)
        if code is not None:
            if code <= 0xFF:
                return put2(self, EXT1, code)
            if code <= 0xFFFF:
                put2(self, EXT2, code & 0xFF)
                return put1(self, code >> 8)
            return put5(self, EXT4, code)
    last = place.name.rpartition(".")[2]
    if self.proto >= 4:
        parts = [(PART, place.module, None), (PART, last if place.top_level else place.name, None)]
        return save_script(self, obj, [*parts, (BYTES, b"\x93", None)], MEMOIZED)
    if not place.top_level:
        if OLD_NESTING and getattr(place.parent, "__qualname__", None) == place.name.rpartition(".")[0]:
            parts = [(PART, getattr, None), (PART, (place.parent, last), None), (BYTES, b"R", None)]
            return save_script(self, obj, parts, MEMOIZED)
        return save_path(self, obj, place)
    put_global(self, GLOBAL, place.module, last)
    memoize(self, obj)
    return DONE


cdef int save_path(Pickler self, PyObject* obj, place) except -1:
    first, *rest = place.name.split(".")
    parts = []
    for _ in rest:
        parts.append((PART, getattr, None))
        if self.proto < 2:
            parts.append((BYTES, b"(", None))
    parts.append((NAME, (place.module, first), None))
    for name in rest:
        parts.append((PART, name, None))
        parts.append((BYTES, b"\x86R" if self.proto >= 2 else b"tR", None))
    return save_script(self, obj, parts, MEMOIZED)


cdef int put_global(Pickler self, int code, module, name) except -1:
    put1(self, code)
    return put_bytes(self, lines_of_global(module, name, self.proto, fix_imports=self.fix_imports))


cdef int save_old_style(Pickler self, PyObject* obj, object arguments) except -1:
    """Write an instance as Python 2 wrote one of an old-style class, up to its state."""
    cls = type(<object> obj)
    pid = None if self.ask_global is None else self.ask_global(cls)
    place = locate(cls) if pid is None else None
    by_name = not self.bin and place is not None and place.top_level
    parts = [(BYTES, b"(", None)]
    if not by_name:
        parts.append((PART, cls, ".__class__"))
    parts += [(PART, argument, ".__getinitargs__()[...]") for argument in arguments]
    parts.append((INSTANCE, (place.module, place.name), None) if by_name else (BYTES, b"o", None))
    return save_script(self, obj, parts, OLD_STYLE)


# Entries of a script: what is to be written, and what that needs. The third element is the step of a path to it.
cdef enum:
    PART
    BYTES
    NAME        # (module, name), as two lines behind GLOBAL
    INSTANCE    # ... behind INST

# What comes at the end of one.
cdef enum:
    MEMOIZED    # the object gets its place in the memo
    OLD_STYLE   # ... and its state


cdef int save_script(Pickler self, PyObject* obj, list entries, int ending) except -1:
    cdef Frame* frame = push(self, IN_SCRIPT, obj)
    frame.source = own(<PyObject*> entries)
    frame.code = ending
    return OPENED


cdef int step_script(Pickler self) except -1:
    cdef Frame* frame = top(self)
    while frame.at < PyList_GET_SIZE(frame.source):
        kind, what, _ = <tuple> (<list> frame.source)[frame.at]
        frame.at += 1
        if kind == PART:
            if save_part(self, set_part(frame, own(<PyObject*> what))) == OPENED:
                return 0
            frame = top(self)
        elif kind == BYTES:
            put_bytes(self, what)
        else:
            module, name = what
            put_global(self, GLOBAL if kind == NAME else INST, module, name)
    if frame.code == MEMOIZED:
        memoize(self, frame.obj)
        return pop(self)
    filling = (old_style_state(<object> frame.obj), None, None, None)
    frame.filling = own(<PyObject*> filling)
    return close_call(self)


# ----------------------------------------------------------------------------------------------------------- functions


def dump(
    obj,
    file,
    protocol=None,
    *,
    fix_imports=True,
    buffer_callback=None,
    persistent_id=None,
    inst_persistent_id=None,
    global_persistent_id=None,
    persistent_ids=None,
    canonical=False,
):
    """Write an object to a file as one stream; arguments and exceptions as for `Pickler` and `Pickler.dump`."""
    Pickler(
        file,
        protocol,
        fix_imports,
        buffer_callback,
        persistent_id=persistent_id,
        inst_persistent_id=inst_persistent_id,
        global_persistent_id=global_persistent_id,
        persistent_ids=persistent_ids,
        canonical=canonical,
    ).dump(obj)


def dumps(
    obj,
    protocol=None,
    *,
    fix_imports=True,
    buffer_callback=None,
    persistent_id=None,
    inst_persistent_id=None,
    global_persistent_id=None,
    persistent_ids=None,
    canonical=False,
):
    """Return an object as one stream; arguments and exceptions as for `Pickler` and `Pickler.dumps`."""
    return Pickler(
        None,
        protocol,
        fix_imports,
        buffer_callback,
        persistent_id=persistent_id,
        inst_persistent_id=inst_persistent_id,
        global_persistent_id=global_persistent_id,
        persistent_ids=persistent_ids,
        canonical=canonical,
    ).dumps(obj)
