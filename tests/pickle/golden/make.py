# ruff: noqa: UP, S403, INP001 - runs on Python 2.7
"""Makes the golden streams with Python 2.7: `cd tests/pickle/golden && python2.7 make.py`.

For each case of `golden_material`, module and protocol: the stream (`CASE/MODULE-PROTOCOL.pickle`), its disassembly
beside it (`.dis`), and, where it holds persistent ids, what cPickle finds of them (`.ids`): the calls of
`persistent_load`, what a list as `persistent_load` holds after `load`, and after `noload`. `CASE/expected.txt` describes
the value that both modules of Python 2.7 load from each of them.
"""

import copy_reg
import cPickle
import cStringIO
import json
import os
import pickle
import pickletools
import sys

import golden_material as material

assert sys.version_info[:2] == (2, 7)


def persistent_id(obj):
    """The id of what has one."""
    return obj.pid if isinstance(obj, material.Persistent) else None


def dump(case, module, protocol):
    """The stream, or for `several` the streams."""
    value = case()
    out = cStringIO.StringIO()
    pickler = module.Pickler(out, protocol)
    if case.__name__ == "inst_persistent":
        pickler.inst_persistent_id = persistent_id
    elif case.__name__.startswith("persistent"):
        pickler.persistent_id = persistent_id
    for part in value if case is material.several else [value]:
        pickler.dump(part)
    return out.getvalue()


def disassemble(data):
    """The text of all streams in the data, one memo for all."""
    source, out, memo = cStringIO.StringIO(data), cStringIO.StringIO(), {}
    while source.tell() < len(data):
        pickletools.dis(source, out, memo)
    return out.getvalue()


def unpickler(data, persistent_load):
    """cPickle's, with the hook."""
    reader = cPickle.Unpickler(cStringIO.StringIO(data))
    reader.persistent_load = persistent_load
    return reader


def ids(data):
    """What cPickle finds in the stream, described."""
    called, listed, skimmed = [], [], []
    unpickler(data, lambda pid: called.append(pid) or material.Persistent(pid)).load()
    unpickler(data, listed).load()
    unpickler(data, skimmed).noload()
    return {
        "called": [material.describe(pid) for pid in called],
        "load": [material.describe(pid) for pid in listed],
        "noload": [material.describe(pid) for pid in skimmed],
    }


def load(data, module):
    """What Python 2.7 itself makes of the stream, or of the several."""
    source = cStringIO.StringIO(data)
    reader = module.Unpickler(source)
    reader.persistent_load = material.Persistent
    values = []
    while source.tell() < len(data):
        values.append(reader.load())
    return values if len(values) > 1 else values[0]


def write(path, text):
    """Write, the same on every system."""
    with open(path, "wb") as file:
        file.write(text)


def main():
    """Make all of them anew."""
    copy_reg.pickle(material.Registered, material.reduce_registered)
    for name, code in material.EXTENSIONS:
        copy_reg.add_extension("golden_material", name, code)
    for case in material.CASES:
        directory = case.__name__.rstrip("_")
        if not os.path.isdir(directory):
            os.mkdir(directory)
        results = set()
        for module in pickle, cPickle:
            for protocol in 0, 1, 2:
                if not material.ONLY.get(directory, lambda *_: True)(module.__name__, protocol):
                    continue
                data = dump(case, module, protocol)
                path = os.path.join(directory, "%s-%d" % (module.__name__, protocol))
                results.update(material.describe(load(data, reader)) for reader in (pickle, cPickle))
                write(path + ".pickle", data)
                write(path + ".dis", disassemble(data))
                if "persistent" in directory:
                    write(path + ".ids", json.dumps(ids(data), indent=1, sort_keys=True) + "\n")
        (expected,) = results  # whoever wrote and whoever read, the value is the same
        write(os.path.join(directory, "expected.txt"), expected + "\n")


if __name__ == "__main__":
    main()
