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
    """
    int pstore_append(PyObject*, PyObject*) except -1
    bint pstore_same_text(PyObject*, PyObject*) noexcept
    unsigned int pstore_version(PyTypeObject*) noexcept
    bint pstore_is_generic(PyTypeObject*) noexcept
    bint pstore_is_plain_metaclass(PyTypeObject*) noexcept
    PyObject* pstore_attributes(PyObject*) noexcept
    void pstore_set_doc(PyTypeObject*, const char*) noexcept
