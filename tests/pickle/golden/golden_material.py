# ruff: noqa: UP, FBT, RUF005 - runs on Python 2.7 and on Python 3 alike
"""The classes and values of the golden streams, and the text that describes a value the same in Python 2 and 3.

Imported by `make.py` under Python 2.7, and by the tests; the streams name its classes, so a name here never changes.
"""

import collections
import datetime
import sys

PYTHON_2 = sys.version_info[0] == 2
if not PYTHON_2:
    long, unicode, xrange = int, str, range
    from collections import UserDict
    from functools import reduce
else:
    from UserDict import UserDict


# ---------------------------------------------------------------------------------------- classes, old-style in Python 2


class Old:
    """No state but attributes."""


class OldInit:
    """Is called with arguments when it is loaded."""

    def __init__(self, first, second):
        self.first = first
        self.second = second
        self.calls = 1

    def __getinitargs__(self):
        return (self.first, self.second)

    def __getstate__(self):
        return {"touched": True}


class OldInitEmpty:
    """Is called without arguments, because it says so."""

    def __init__(self):
        self.called = True

    def __getinitargs__(self):
        return ()

    def __getstate__(self):
        return {}


class OldNotCalled:
    """Has an `__init__` that loading must not call."""

    def __init__(self, needed):
        self.needed = needed


class OldState:
    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        return ("state", self.value)

    def __setstate__(self, state):
        self.value = state[1]


class OldFalseState(OldState):
    def __getstate__(self):
        return 0

    def __setstate__(self, state):
        self.value = ("set", state)


# ------------------------------------------------------------------------------------------------------ new-style classes


class New(object):
    """No state but attributes."""


class NewSlots(object):
    __slots__ = ("left", "right")


class NewSlotsDict(NewSlots):
    pass


class NewArgs(object):
    def __new__(cls, *args):
        self = object.__new__(cls)
        self.args = args
        return self

    def __getnewargs__(self):
        return self.args


class NewState(object):
    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        return ["state", self.value]

    def __setstate__(self, state):
        self.value = state[1]


class NewReduce(object):
    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return NewReduce, ("reduced",), {"state": 1}


class NewReduceItems(list):
    def __reduce__(self):
        return NewReduceItems, (), None, iter(["a", "b"])


class List(list):
    pass


class Dict(dict):
    pass


class Int(int):
    pass


class Str(str):
    pass


class Tuple(tuple):
    pass


class Extended1(object):
    pass


class Extended2(object):
    pass


class Extended4(object):
    pass


class Registered(object):
    """Reduced by what `copy_reg.pickle` is told of it."""

    def __init__(self, value):
        self.value = value


def reduce_registered(obj):
    """Reduction of Registered."""
    return Registered, (obj.value,)


def function():
    """A function, to be written by its name."""


EXTENSIONS = [("Extended1", 0xF0), ("Extended2", 0xF0F0), ("Extended4", 0x0F0F0F0F)]


def attributes(obj, **values):
    """The object with attributes set."""
    for name, value in sorted(values.items()):
        setattr(obj, name, value)
    return obj


class Persistent(object):
    """Written as the id that it was given."""

    def __init__(self, pid):
        self.pid = pid


# ---------------------------------------------------------------------------------------------------------------- values


def atoms():
    return [None, True, False, 0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**62, -(2**63)]


def longs():
    values = [long(value) for value in (0, 5, -5, 255, -256, 2**63, -(2**63), 2**100, -(2**100))]
    return values + [long(1) << 3000, -(long(1) << 2031), long(1) << 2039]


def floats():
    return [0.0, -0.0, 1.5, -1e300, 5e-324, float("inf"), -float("inf"), float("nan"), complex(1, -2.5)]


def strings():
    return ["", "ascii", "'", '"', "'\"", "a\nb\\n\t\r", "\x00\x7f\x80\xff\x1a", "x" * 255, "x" * 256, "\\", "a'b"]


def unicodes():
    texts = [b"", b"ascii", b"\\xe4\\xff", b"\\u20ac", b"\\U0001f40d", b"\\\\u0041", b"a\\nb\\\\", b"\\x1a\\x00\\r"]
    return [text.decode("unicode-escape") for text in texts] + [b"x".decode("ascii") * 300]


def containers():
    tuples = [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]
    return [tuples, [], {}, {"k": [1, {2: (3,)}]}, set(), set([1, 2]), frozenset(), frozenset(["a"]), [[[[]]]]]


def batches():
    return [[None] * 1001, dict((i, None) for i in range(1001)), [None] * 1000, dict.fromkeys(range(2))]


def shared():
    items, table, pair = [1], {"k": 2}, (3, "x")
    old = attributes(Old(), items=items)
    return [items, table, pair, old, [items, table, pair, old], {"old": old}, [], []]


def recursive_list():
    items = [1]
    items.extend([items, (items, items)])
    return items


def recursive_dict():
    table = {}
    table["me"] = table
    table["pair"] = (table, [table])
    return table


def recursive_tuple():
    items = []
    pair = (items, 1)
    items.append(pair)
    return pair


def recursive_long_tuple():
    table = {}
    whole = (1, 2, 3, 4, table)
    table["whole"] = whole
    return whole


def recursive_old():
    one, two = Old(), Old()
    return attributes(one, me=one, other=attributes(two, other=one, pair=(one, two)))


def recursive_new():
    one, two = New(), New()
    return attributes(one, me=one, other=attributes(two, other=one, pair=(one, two)))


def old_instances():
    return [attributes(Old(), a=1, b=["x"]), Old(), attributes(OldNotCalled(1), extra=2), OldState([5]), OldFalseState(1)]


def old_initargs():
    return [OldInit(1, ["two"]), OldInitEmpty(), OldInit(None, None)]


def new_instances():
    return [attributes(New(), a=1, b=["x"]), New(), NewState([5]), NewReduce(1), NewReduceItems(["c"])]


def new_arguments():
    return [NewArgs(), attributes(NewArgs(1, "two"), extra=3)]


def slots():
    both = attributes(NewSlotsDict(), left=1, free=[2])
    return [attributes(NewSlots(), left=1, right="r"), attributes(NewSlots(), right=2), NewSlots(), both]


def subclasses():
    values = [List([1]), Dict(a=1), Int(5), Str("text"), Tuple([1, 2])]
    return [attributes(value, extra="e") for value in values]


def globals_():
    return [Old, New, function, len, int, object, list]


def renamed():
    return [xrange(1, 7, 2), reduce, UserDict({"a": 1}), ValueError("message"), OSError(999, "none"), object, unicode]


def library():
    tree = collections.defaultdict(list, {"a": [1]})
    values = [collections.deque([1, 2]), tree, collections.OrderedDict([("z", 1), ("a", 2)])]
    day = datetime.date(2001, 2, 3)
    return values + [day, datetime.datetime(2001, 2, 3, 4, 5, 6, 7), datetime.timedelta(1, 2, 3)]


def registered():
    return [Registered(1), Registered(["r"])]


def extensions():
    return [Extended1, attributes(Extended1(), a=1), Extended2(), attributes(Extended4(), a=2), Extended4]


def persistent_texts():
    same = Persistent("same")
    return [Persistent("1"), {"k": Persistent("a name with spaces")}, same, (same, Persistent("end"))]


def persistent_numbers():
    return [Persistent(1), Persistent(2**40), Persistent(-1), [Persistent(1)], attributes(New(), to=Persistent(2.5))]


def persistent_tuples():
    pair = ("oid", 7)
    return [Persistent(pair), (Persistent(pair), Persistent(("oid", (1, "x")))), attributes(Old(), to=Persistent(pair))]


def persistent_texts_in_instances():
    old = attributes(OldInit(Persistent("arg"), 2), ignored=1)
    new = attributes(New(), to=Persistent("attribute"), more=[Persistent("item"), {"k": Persistent("value")}])
    return [old, new, NewArgs(Persistent("new argument")), set([Persistent("member")]), NewState(Persistent("state"))]


def inst_persistent():
    return [Persistent("first"), Persistent("second"), {"k": Persistent("third")}, List([1])]


def several():
    """Dumped by one pickler to one file, item after item, so that the later streams refer to the earlier."""
    items, old = [1, 2], attributes(Old(), a=1)
    return [items, [items, old], (old, items), old]


CASES = [
    atoms, longs, floats, strings, unicodes, containers, batches, shared, recursive_list, recursive_dict, recursive_tuple,
    recursive_long_tuple, recursive_old, recursive_new, old_instances, old_initargs, new_instances, new_arguments, slots,
    subclasses, globals_, renamed, library, registered, extensions, persistent_texts, persistent_numbers,
    persistent_tuples, persistent_texts_in_instances, inst_persistent, several,
]  # fmt: skip

# Which (module, protocol) can't write a case, and why it isn't asked to.
ONLY = {
    "slots": lambda module, protocol: protocol == 2,  # refused before
    "extensions": lambda module, protocol: protocol == 2,  # written by name before
    "persistent_numbers": lambda module, protocol: protocol > 0,  # lines of text there
    "persistent_tuples": lambda module, protocol: protocol > 0,
    "inst_persistent": lambda module, protocol: module == "cPickle",  # who alone has it
}


# ---------------------------------------------------------------------------------------------------------- description


def describe(obj):
    """The value as text: types by the names they have in Python 3, each container and instance with a number, so that
    one which occurs twice is seen to be the same.
    """
    return "".join(_describe(obj, {}))


def _describe(obj, seen):
    if obj is None or isinstance(obj, bool) or obj is Ellipsis:
        return [repr(obj)]
    kind = type(obj)
    if kind in (int, long):
        return ["int ", "%d" % obj]
    if kind in (float, complex):
        return [kind.__name__, " ", repr(obj)]
    if kind in (str, unicode):
        return ["str ", _text(obj)]
    if kind is bytes:
        return ["bytes ", _text(obj.decode("latin-1"))]
    if kind is tuple and not obj:
        return ["()"]
    if isinstance(obj, (type, type(Old), type(function), type(len))):
        return ["global ", _name(obj)]
    if id(obj) in seen:
        return ["#%d" % seen[id(obj)][0]]
    seen[id(obj)] = len(seen), obj  # keeps what was made on the way alive: its address must not be used again
    out = [_name(obj.__class__), "#%d" % seen[id(obj)][0]]
    if isinstance(obj, (list, tuple, collections.deque)):
        out += ["["] + _joined(obj, seen) + ["]"]
    elif isinstance(obj, dict):
        keys = list(obj) if isinstance(obj, collections.OrderedDict) else sorted(obj, key=_rank)
        out.append("{")
        for key in keys:
            out += _describe(key, seen) + [": "] + _describe(obj[key], seen) + [", "]
        out.append("}")
    elif isinstance(obj, (set, frozenset)):
        out += ["{"] + _joined(sorted(obj, key=_rank), seen) + ["}"]
    elif isinstance(obj, (datetime.date, datetime.timedelta)):
        # The repr of a timedelta changed.
        out.append(str(obj))
    elif isinstance(obj, (int, str)):
        out.append(("(%d)" % obj) if isinstance(obj, int) else "(%s)" % _text(obj))
    elif isinstance(obj, xrange):
        out.append(repr(list(obj)))
    elif isinstance(obj, BaseException):
        out += _describe(obj.args, seen)
    state = dict(getattr(obj, "__dict__", {}))
    for name in ("left", "right"):
        if hasattr(obj.__class__, "__slots__") and hasattr(obj, name):
            state[name] = getattr(obj, name)
    if state and kind is not collections.OrderedDict:
        for name in sorted(state):
            out += [" .", str(name), "="] + _describe(state[name], seen)
        out.append(";")
    return out


def _joined(items, seen):
    out = []
    for item in items:
        out += _describe(item, seen) + [", "]
    return out


def _rank(key):
    return "".join(_describe(key, {}))


def _text(text):
    if not isinstance(text, unicode):
        text = text.decode("latin-1")
    out = text.encode("unicode-escape").decode("ascii").replace("'", "\\'")
    return "'%s'" % out


_RENAMED = {
    ("__builtin__", "xrange"): "range",
    ("__builtin__", "unicode"): "str",
    ("__builtin__", "reduce"): "functools.reduce",
    ("_functools", "reduce"): "functools.reduce",
    ("UserDict", "UserDict"): "collections.UserDict",
    ("exceptions", "OSError"): "OSError",
}


def _name(obj):
    module, name = obj.__module__, obj.__name__
    if (module, name) in _RENAMED:
        return _RENAMED[module, name]
    return name if module in ("__builtin__", "builtins", "exceptions") else module + "." + name
