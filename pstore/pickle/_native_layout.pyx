# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic
# cython: boundscheck=False, wraparound=False, initializedcheck=False, nonecheck=False, cdivision=True
"""The native side of `_layout.py`: classes that share the layout of their instances.

The interpreter keeps, with each class, *keys*: the names of its instances' attributes and the place of each (see "Instances
without a `__dict__`" in `_native_shared.pxd`). All that it asks an instance's class for, when it reads, sets, traverses
or frees attributes without a dict, are those keys, and flags and sizes. So classes that agree in all of these may be
exchanged under an instance; setting ``__class__`` makes a dict because "the implicit dict keys" change
(``object_set_class`` in CPython's `Objects/typeobject.c`), and here they don't. The keys count those who have them, and a
class gives back its reference when it is freed, so two classes may have the same.

What must hold, and is checked: the class has keys of its own that no instance was ever laid out by (the room in them
goes down with each instance), and the ordinary assignment works both ways. Whoever has the same keys has been checked, as
nobody else shares any.
"""

from cpython.object cimport PyObject, PyTypeObject

from ._native_shared cimport *

from sys import intern

from ._layout import clear_attributes as clear_attributes_plainly
from ._layout import set_class as set_class_plainly

__all__ = ["clear_attributes", "has_held_dict", "new_instance", "set_class", "share_layout"]

cdef extern from *:
    """
    #ifdef PSTORE_VALUES
    static int pstore_is_fresh(PyTypeObject *type)
    {
        struct pstore_keys *keys = pstore_keys_of(type);
        return keys && keys->references == 1 && keys->kind == PSTORE_SPLIT && !keys->count
            && keys->usable == PSTORE_MOST_SHARED;
    }

    static int pstore_are_alike(PyTypeObject *type, PyTypeObject *base)
    {
        unsigned long flags = Py_TPFLAGS_HEAPTYPE | Py_TPFLAGS_MANAGED_DICT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
    #if PY_VERSION_HEX >= 0x030C0000
            | Py_TPFLAGS_MANAGED_WEAKREF | Py_TPFLAGS_ITEMS_AT_END
    #endif
    #if PY_VERSION_HEX >= 0x030D0000
            | Py_TPFLAGS_INLINE_VALUES
    #endif
            ;
        return type->tp_base == base && (type->tp_flags & flags) == (base->tp_flags & flags)
            && (type->tp_flags & Py_TPFLAGS_HEAPTYPE) && (type->tp_flags & Py_TPFLAGS_MANAGED_DICT)
            && !(type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE)
            && type->tp_basicsize == base->tp_basicsize && type->tp_itemsize == base->tp_itemsize
            && type->tp_dictoffset == base->tp_dictoffset && type->tp_weaklistoffset == base->tp_weaklistoffset
            && !type->tp_itemsize && !Py_SIZE(type)
            && type->tp_dealloc == base->tp_dealloc && type->tp_free == base->tp_free && type->tp_alloc == base->tp_alloc
            && type->tp_traverse == base->tp_traverse && type->tp_clear == base->tp_clear
            && pstore_keys_of(base) && pstore_keys_of(base)->kind == PSTORE_SPLIT;
    }

    /* Whether two classes, other than which no classes do, share keys. */
    static inline int pstore_shares(PyTypeObject *one, PyTypeObject *other)
    {
        return PyType_HasFeature(one, Py_TPFLAGS_HEAPTYPE) && PyType_HasFeature(other, Py_TPFLAGS_HEAPTYPE)
            && pstore_keys_of(one) && pstore_keys_of(one) == pstore_keys_of(other);
    }

    /* Give a class the keys of its base in place of its own. A dict that has these, too, will free them: the interpreter
       has no function for that. */
    static int pstore_share(PyTypeObject *type, PyTypeObject *base, PyObject *dict)
    {
        struct pstore_keys *keys = pstore_keys_of(type);
        if (!PyDict_CheckExact(dict) || (struct pstore_keys *)((PyDictObject *)dict)->ma_keys != keys
            || keys->references != 2)
            return 0;
        pstore_keys_of(base)->references++;
        ((PyHeapTypeObject *)type)->ht_cached_keys = ((PyHeapTypeObject *)base)->ht_cached_keys;
        keys->references--;
        return 1;
    }

    static inline Py_ssize_t pstore_known_names(PyTypeObject *type) { return pstore_keys_of(type)->count; }

    static inline Py_ssize_t pstore_room_for_names(PyTypeObject *type) { return pstore_keys_of(type)->usable; }

    /* The interpreter takes away, with each instance, from the room that later ones get for names which none has had; so
       instances that are made before any has attributes would leave none. From here on they keep this much. */
    enum { PSTORE_ROOM = 8 };

    /* Before one is made: have what is about to be taken there beforehand. Returns what is to be there afterwards. */
    static Py_ssize_t pstore_hold_room(PyTypeObject *type)
    {
        struct pstore_keys *keys;
        if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) || !PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT))
            return -1;
        keys = pstore_keys_of(type);
        if (!keys || keys->kind != PSTORE_SPLIT || keys->count || keys->usable > PSTORE_ROOM || keys->usable < 1)
            return -1;
        return keys->usable++;
    }

    /* Whoever was made between has room for as much, or for one more. */
    static void pstore_give_room(PyTypeObject *type, Py_ssize_t room)
    {
        if (room >= 0 && pstore_keys_of(type)->usable > room)
            pstore_keys_of(type)->usable = room;
    }
    #else
    static inline Py_ssize_t pstore_known_names(PyTypeObject *type) { (void)type; return 1; }
    static inline Py_ssize_t pstore_room_for_names(PyTypeObject *type) { (void)type; return 0; }
    static inline Py_ssize_t pstore_hold_room(PyTypeObject *type) { (void)type; return -1; }
    static inline void pstore_give_room(PyTypeObject *type, Py_ssize_t room) { (void)type, (void)room; }
    static inline int pstore_is_fresh(PyTypeObject *type) { (void)type; return 0; }
    static inline int pstore_are_alike(PyTypeObject *type, PyTypeObject *base) { (void)type, (void)base; return 0; }
    static inline int pstore_shares(PyTypeObject *one, PyTypeObject *other) { (void)one, (void)other; return 0; }
    static inline int pstore_share(PyTypeObject *type, PyTypeObject *base, PyObject *dict)
    {
        (void)type, (void)base, (void)dict;
        return 0;
    }
    #endif

    /* The base with which a class shares keys, or the class. */
    static inline PyTypeObject *pstore_shared_base(PyTypeObject *type)
    {
        return type->tp_base && pstore_shares(type, type->tp_base) ? type->tp_base : type;
    }

    /* As setting `__class__` does it, once it has found the classes to agree. */
    static inline void pstore_set_type(PyObject *obj, PyTypeObject *type)
    {
        PyTypeObject *before = Py_TYPE(obj);
        Py_INCREF(type);
        Py_SET_TYPE(obj, type);
        Py_DECREF(before);
    }

    static inline int pstore_is_data_descriptor(PyObject *obj) { return Py_TYPE(obj)->tp_descr_set != NULL; }

    /* Whether what a class has as `__dict__` is the interpreter's own. */
    static inline int pstore_is_dict_getter(PyObject *descriptor)
    {
        return descriptor && Py_IS_TYPE(descriptor, &PyGetSetDescr_Type);
    }
    """
    bint pstore_is_fresh(PyTypeObject*) noexcept
    Py_ssize_t pstore_known_names(PyTypeObject*) noexcept
    Py_ssize_t pstore_room_for_names(PyTypeObject*) noexcept
    Py_ssize_t pstore_hold_room(PyTypeObject*) noexcept
    void pstore_give_room(PyTypeObject*, Py_ssize_t) noexcept
    bint pstore_are_alike(PyTypeObject*, PyTypeObject*) noexcept
    bint pstore_shares(PyTypeObject*, PyTypeObject*) noexcept
    bint pstore_share(PyTypeObject*, PyTypeObject*, PyObject*) noexcept
    void pstore_set_type(PyObject*, PyTypeObject*) noexcept
    PyTypeObject* pstore_shared_base(PyTypeObject*) noexcept
    bint pstore_is_data_descriptor(PyObject*) noexcept
    bint pstore_is_dict_getter(PyObject*) noexcept

cdef extern from "Python.h":
    PyTypeObject* Py_TYPE(PyObject*)
    Py_ssize_t Py_REFCNT(PyObject*)
    void Py_DECREF(PyObject*)
    bint PyType_Check(object)
    PyObject* PyObject_GenericGetDict(PyObject*, void*) except NULL
    PyObject* _PyType_Lookup(PyTypeObject*, PyObject*)
    int PyObject_GenericSetAttr(PyObject*, PyObject*, PyObject*) except -1


def set_class(obj, cls):
    """Set the class of an object, past anything that its class or the new one defines.

    Raises:
        TypeError: The two classes have their instances' attributes in different places.
    """
    if PyType_Check(cls) and pstore_shares(Py_TYPE(<PyObject*> obj), <PyTypeObject*> cls):
        pstore_set_type(<PyObject*> obj, <PyTypeObject*> cls)
    else:
        set_class_plainly(obj, cls)


def share_layout(cls, base, names=()):
    """Let a class share the layout of its base's instances, so that `set_class` between them changes nothing else.

    Args:
        cls: A class that was just made, by no more than a ``class`` statement with ``__slots__ = ()``, and of which
            there has been no instance.
        base: Its base.
        names: The attributes that instances are likely to have, in order. The interpreter learns them from the first
            instances, and gives later ones room for no more; they are told where it has learned none yet.

    Returns:
        Whether it does; the reference engine, and Pythons whose layout isn't known, share none. `set_class` works all
        the same.
    """
    cdef PyTypeObject* type
    cdef PyTypeObject* from_
    cdef PyObject* attributes
    if not PyType_Check(cls) or not PyType_Check(base):
        return False
    type = <PyTypeObject*> cls
    from_ = <PyTypeObject*> base
    if pstore_shares(type, from_):
        return True
    if not pstore_are_alike(type, from_) or not pstore_is_fresh(type):
        return False
    try:
        trial = object.__new__(cls)
        attributes = PyObject_GenericGetDict(<PyObject*> trial, NULL)
        held = <object> attributes
        Py_DECREF(attributes)
        set_class_plainly(trial, base)
        set_class_plainly(trial, cls)  # again, so that no `__del__` of the base's runs
    except TypeError:
        return False
    trial = None  # nothing is laid out by the keys that go
    if not pstore_share(type, from_, <PyObject*> held):
        return False
    if not pstore_known_names(type):
        tell(cls, base, names)
    return True


cdef int tell(cls, base, names) except -1:
    """Have a class know names of attributes, by an instance that has them."""
    cdef PyObject* found
    trial = object.__new__(cls)
    # The class itself may have descriptors before its base's attributes.
    pstore_set_type(<PyObject*> trial, <PyTypeObject*> base)
    try:
        for name in names:
            if type(name) is str and pstore_has_values(<PyObject*> trial):
                name = intern(name)
                found = _PyType_Lookup(<PyTypeObject*> base, <PyObject*> name)
                if found == NULL or not pstore_is_data_descriptor(found):
                    if pstore_room_for_names(<PyTypeObject*> base):
                        PyObject_GenericSetAttr(<PyObject*> trial, <PyObject*> name, <PyObject*> None)
    finally:
        pstore_set_type(<PyObject*> trial, <PyTypeObject*> cls)  # again, so that no `__del__` of the base's runs
    return 0


def new_instance(cls):
    """Make an instance of a class that shares a layout, without attributes; as ``object.__new__`` does.

    Many such may be made before the first one gets its attributes, so it isn't taken for one that has none.

    Raises:
        TypeError: `object` can't make it.
    """
    cdef PyTypeObject* type
    cdef Py_ssize_t room
    if not PyType_Check(cls):
        return object.__new__(cls)
    type = <PyTypeObject*> cls
    room = pstore_hold_room(type)
    try:
        return object.__new__(cls)
    finally:
        pstore_give_room(type, room)


def has_held_dict(obj):
    """Return whether anything but the object itself refers to its ``__dict__``, so that it may change unseen.

    Of an object with no ``__dict__``, or with one that its own class gives it, that can't be said: False.
    """
    cdef PyObject* attributes
    if not pstore_is_dict_getter(_PyType_Lookup(Py_TYPE(<PyObject*> obj), <PyObject*> DICT)):
        return False
    attributes = pstore_made_dict(<PyObject*> obj)
    return attributes != NULL and Py_REFCNT(attributes) > 1


def clear_attributes(obj):
    """Remove every attribute that is in the ``__dict__`` of an object, running no code of its class's.

    A ``__dict__`` that anything but the object refers to is left as it is, and the object gets another one.

    Args:
        obj: The object; one that has no ``__dict__`` is passed over.
    """
    cdef PyObject* one = <PyObject*> obj
    cdef PyObject* name = NULL
    cdef PyObject* value = NULL
    cdef PyObject* found
    cdef PyTypeObject* type
    cdef PyTypeObject* base
    cdef int count
    while pstore_has_values(one):
        count = pstore_attribute_count(one)
        if not count:
            return
        pstore_attribute(one, count - 1, &name, &value)
        # A class that shares a layout may have descriptors before its base's attributes.
        type = Py_TYPE(one)
        base = pstore_shared_base(type)
        found = _PyType_Lookup(base, name)
        if found != NULL and pstore_is_data_descriptor(found):
            break
        # What goes may run anybody's code, when its attribute is gone; then it is looked anew.
        kept = <object> value
        pstore_set_type(one, base)
        try:
            PyObject_GenericSetAttr(one, name, NULL)
        finally:
            pstore_set_type(one, type)
        kept = None
    clear_attributes_plainly(obj)


cdef str DICT = "__dict__"
