"""What both modules of the native engine ask of the interpreter's own structures."""

from cpython.object cimport PyObject, PyTypeObject


cdef extern from *:
    """
    /* Append to a list that only we change: it may have been emptied, and its room kept. */
    static inline int pstore_append(PyObject *list, PyObject *item)
    {
    #ifndef Py_GIL_DISABLED
        Py_ssize_t size = PyList_GET_SIZE(list);
        if (size < ((PyListObject *)list)->allocated) {
            Py_INCREF(item);
            PyList_SET_ITEM(list, size, item);
            Py_SET_SIZE((PyVarObject *)list, size + 1);
            return 0;
        }
    #endif
        return PyList_Append(list, item);
    }

    static inline int pstore_same_text(PyObject *one, PyObject *other)
    {
        Py_ssize_t length = PyUnicode_GET_LENGTH(one);
        int kind = PyUnicode_KIND(one);
        return PyUnicode_GET_LENGTH(other) == length && (int)PyUnicode_KIND(other) == kind
            && !memcmp(PyUnicode_DATA(one), PyUnicode_DATA(other), (size_t)length * kind);
    }

    /* The version tag of a type, 0 where it has none. No other type gets the same, nor the same type after a change. */
    static inline unsigned int pstore_version(PyTypeObject *type)
    {
    #if PY_VERSION_HEX < 0x030D0000
        if (!PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG))
            return 0;
    #endif
        return type->tp_version_tag;
    }

    static inline int pstore_is_generic(PyTypeObject *type)
    {
        return type->tp_getattro == PyObject_GenericGetAttr;
    }

    static inline int pstore_is_plain_metaclass(PyTypeObject *type)
    {
        return type->tp_getattro == PyType_Type.tp_getattro;
    }

    /* The attributes of one of our own instances; borrowed, NULL where there are none yet. */
    static inline PyObject *pstore_attributes(PyObject *obj)
    {
        PyObject **at = _PyObject_GetDictPtr(obj);
        return at ? *at : NULL;
    }

    static inline void pstore_set_doc(PyTypeObject *type, const char *text) { type->tp_doc = text; }

    /* Instances without a `__dict__`.

       From CPython 3.11 on the attributes of an ordinary instance stand in an array, its *values*; which name has which
       place is told by *keys* that are the class's (`ht_cached_keys`), and only grow. A dict is made when somebody asks
       for it. Source: `Objects/dictobject.c`, `Include/internal/pycore_dict.h` and `pycore_object.h` of 3.11.2, 3.11.7,
       3.12.1, 3.13.0 and 3.13.5. Elsewhere nothing is taken to be known. */
    #if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED) && !defined(Py_REF_DEBUG) \
        && !defined(PYPY_VERSION)
    #define PSTORE_VALUES 1

    struct pstore_keys {
        Py_ssize_t references;
        uint8_t log2_size;
        uint8_t log2_index_bytes;
        uint8_t kind;
        uint32_t version;
        Py_ssize_t usable;
        Py_ssize_t count;
        char indices[];
    };

    enum { PSTORE_SPLIT = 2, PSTORE_MOST_SHARED = 30 };  /* kind of the keys of a class; how many names of its they hold */

    static inline struct pstore_keys *pstore_keys_of(PyTypeObject *type)
    {
        return (struct pstore_keys *)((PyHeapTypeObject *)type)->ht_cached_keys;
    }

    /* The name at a place; behind the indices are pairs of a name and, in other tables, its value. */
    static inline PyObject *pstore_name_at(struct pstore_keys *keys, int at)
    {
        return ((PyObject **)(keys->indices + ((size_t)1 << keys->log2_index_bytes)))[2 * at];
    }

    /* The values of an instance that has no dict; NULL where it has one, or never has values. */
    static inline PyObject **pstore_values_of(PyObject *obj)
    {
        PyTypeObject *type = Py_TYPE(obj);
        if (!PyType_HasFeature(type, Py_TPFLAGS_MANAGED_DICT))
            return NULL;
    #if PY_VERSION_HEX < 0x030C0000
        return ((PyObject ***)obj)[-4];
    #elif PY_VERSION_HEX < 0x030D0000
        char *tagged = ((char **)obj)[-3];
        return (uintptr_t)tagged & 1 ? (PyObject **)(tagged + 1) : NULL;
    #else
        unsigned char *head = (unsigned char *)obj + sizeof(PyObject);  /* capacity, size, whether embedded, whether valid */
        if (!PyType_HasFeature(type, Py_TPFLAGS_INLINE_VALUES) || ((PyObject **)obj)[-3] || !head[3])
            return NULL;
        return (PyObject **)(head + sizeof(PyObject *));
    #endif
    }

    /* How many attributes the values have. */
    static inline int pstore_count_of(PyObject **values)
    {
    #if PY_VERSION_HEX < 0x030D0000
        return ((unsigned char *)values)[-2];
    #else
        return ((unsigned char *)(values - 1))[1];
    #endif
    }

    /* The place of the attribute that was set as the n-th of them. */
    static inline int pstore_place_of(PyObject **values, int n)
    {
    #if PY_VERSION_HEX < 0x030D0000
        return ((unsigned char *)values)[-3 - n];
    #else
        return ((unsigned char *)(values + ((unsigned char *)(values - 1))[0]))[n];
    #endif
    }
    #endif

    /* Whether `pstore_attribute` is to be asked for the attributes of an instance: it has no dict. */
    static inline int pstore_has_values(PyObject *obj)
    {
    #ifdef PSTORE_VALUES
        struct pstore_keys *keys;
        if (!pstore_values_of(obj))
            return 0;
        keys = pstore_keys_of(Py_TYPE(obj));
        return keys && keys->kind == PSTORE_SPLIT;
    #else
        (void)obj;
        return 0;
    #endif
    }

    /* How many attributes an instance has that has values. */
    static inline int pstore_attribute_count(PyObject *obj)
    {
    #ifdef PSTORE_VALUES
        PyObject **values = pstore_values_of(obj);
        return values ? pstore_count_of(values) : 0;
    #else
        (void)obj;
        return 0;
    #endif
    }

    /* Its n-th attribute, borrowed. */
    static inline void pstore_attribute(PyObject *obj, int n, PyObject **name, PyObject **value)
    {
    #ifdef PSTORE_VALUES
        PyObject **values = pstore_values_of(obj);
        int place = pstore_place_of(values, n);
        *name = pstore_name_at(pstore_keys_of(Py_TYPE(obj)), place);
        *value = values[place];
    #else
        (void)obj, (void)n;
        *name = *value = NULL;
    #endif
    }

    /* The dict of an instance that has one already; borrowed, or NULL. Its class must have no other `__dict__`. */
    static inline PyObject *pstore_made_dict(PyObject *obj)
    {
    #ifdef PSTORE_VALUES
        if (PyType_HasFeature(Py_TYPE(obj), Py_TPFLAGS_MANAGED_DICT)) {
    #if PY_VERSION_HEX < 0x030C0000
            return ((PyObject **)obj)[-3];
    #elif PY_VERSION_HEX < 0x030D0000
            char *tagged = ((char **)obj)[-3];
            return (uintptr_t)tagged & 1 ? NULL : (PyObject *)tagged;
    #else
            return ((PyObject **)obj)[-3];
    #endif
        }
    #endif
        PyObject **at = _PyObject_GetDictPtr(obj);
        return at ? *at : NULL;
    }
    """
    bint pstore_has_values(PyObject*) noexcept
    int pstore_attribute_count(PyObject*) noexcept
    void pstore_attribute(PyObject*, int, PyObject**, PyObject**) noexcept
    PyObject* pstore_made_dict(PyObject*) noexcept
    int pstore_append(PyObject*, PyObject*) except -1
    bint pstore_same_text(PyObject*, PyObject*) noexcept
    unsigned int pstore_version(PyTypeObject*) noexcept
    bint pstore_is_generic(PyTypeObject*) noexcept
    bint pstore_is_plain_metaclass(PyTypeObject*) noexcept
    PyObject* pstore_attributes(PyObject*) noexcept
    void pstore_set_doc(PyTypeObject*, const char*) noexcept
