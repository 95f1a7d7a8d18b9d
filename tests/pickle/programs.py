"""Streams made up at random, opcode by opcode, most of which mean something; and streams with something changed.

Knows no engine: the table of opcodes is the standard library's.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

CODES = {opcode.name: opcode.code.encode("latin-1") for opcode in pickletools.opcodes}

_TEXTS = [
    b"",
    b"a",
    b"b",
    b"name",
    b"text",
    b"left",
    "h\xe4".encode(),
    "\u20ac".encode(),
    b"\xed\xb2\x80",
    b"state",
    b"x" * 300,
]
_LINES = [b"a", b"text", b"left", b"\\u20ac", b"\\x41", b"h\xe4", b""]
_LENGTHS = [0, 1, 255, 256, 65536, 2**31 - 1, 2**31, 2**32 - 1]
_LONG_LENGTHS = [*_LENGTHS, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
_BUILDS = ["list", "dict", "set"]


class Program:
    """Writes a stream, and keeps account of what would lie on the stack, so that most opcodes find what they need.

    What lies there is told by a letter or word: ``mark``, ``list``, ``dict``, ``set``, ``tuple``, ``str``, ``class`` (or
    another thing to call), ``instance``, ``frozen`` for what can be hashed, ``any``.

    Args:
        random: Where chance comes from.
        names: What may be named.
    """

    def __init__(self, random: random.Random, names: list[str]) -> None:
        self.random, self.names = random, names
        self.out = bytearray()
        self.stack: list[str] = []
        self.memo: dict[int, str] = {}

    def stream(self, length: int) -> bytes:
        """A stream of about so many opcodes."""
        if self.random.random() < 0.8:
            self.out += b"\x80" + bytes([self.random.choice([0, 1, 2, 3, 4, 4, 5, 5])])
        for _ in range(length):
            self.step()
        while len(self.stack) > 1 and self.random.random() < 0.99:
            self.fold()
        self.out += b"."
        return bytes(self.out)

    def emit(self, name: str, argument: bytes = b"") -> None:
        self.out += CODES[name] + argument

    def push(self, what: str) -> None:
        self.stack.append(what)

    def above_mark(self) -> int | None:
        """How many things lie above the topmost mark."""
        for count, what in enumerate(reversed(self.stack)):
            if what == "mark":
                return count
        return None

    def take(self, count: int) -> None:
        del self.stack[len(self.stack) - count :]

    def step(self) -> None:
        random = self.random
        if random.random() < 0.02:  # any opcode, whatever lies there
            name = random.choice(sorted(CODES))
            self.emit(name, bytes(random.randrange(256) for _ in range(random.choice([0, 0, 1, 4]))))
            return
        choice = random.random()
        if choice < 0.35 or not self.stack:
            self.atom()
        elif choice < 0.5:
            self.memoise()
        elif choice < 0.62:
            self.name()
        elif choice < 0.68:
            self.emit("MARK")
            self.push("mark")
        else:
            self.fold()

    def atom(self) -> None:
        random = self.random
        text = random.choice(_TEXTS)
        size1, size4, size8 = (len(text).to_bytes(size, "little") for size in (2, 4, 8))
        line = random.choice(_LINES)
        if random.random() < 0.01:
            size4 = random.choice(_LENGTHS).to_bytes(4, "little")
            size8 = random.choice(_LONG_LENGTHS).to_bytes(8, "little")
        four = random.choice([0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1, random.randrange(2**32)]).to_bytes(4, "little")
        number = random.choice(
            [b"0", b"1", b"00", b"01", b"-5", b"0x10", b"9" * 30, b"1_0", b" 7 ", b"", b"x", b"9" * 5000]
        )
        short = text[:255]
        name, argument, what = random.choice(
            [
                ("NONE", b"", "frozen"),
                ("NEWTRUE", b"", "frozen"),
                ("NEWFALSE", b"", "frozen"),
                ("INT", number + b"\n", "frozen"),
                ("LONG", number + random.choice([b"L", b""]) + b"\n", "frozen"),
                ("BININT", four, "frozen"),
                ("BININT1", four[:1], "frozen"),
                ("BININT1", four[:1], "frozen"),
                ("BININT2", four[:2], "frozen"),
                ("LONG1", bytes([len(short)]) + short, "frozen"),
                ("LONG4", size4 + text, "frozen"),
                (
                    "FLOAT",
                    random.choice([b"1.5", b"inf", b"nan", b"1e400", b"x", b"", b"1_0.5", b" 2 "]) + b"\n",
                    "frozen",
                ),
                ("BINFLOAT", four + four, "frozen"),
                ("STRING", random.choice([b"'", b'"']) + line + random.choice([b"'", b'"']) + b"\n", "str"),
                ("BINSTRING", size4 + text, "str"),
                ("SHORT_BINSTRING", bytes([len(short)]) + short, "str"),
                ("UNICODE", line + b"\n", "str"),
                ("BINUNICODE", size4 + text, "str"),
                ("SHORT_BINUNICODE", bytes([len(short)]) + short, "str"),
                ("SHORT_BINUNICODE", bytes([len(short)]) + short, "str"),
                ("BINUNICODE8", size8 + text, "str"),
                ("BINBYTES", size4 + text, "frozen"),
                ("SHORT_BINBYTES", bytes([len(short)]) + short, "frozen"),
                ("BINBYTES8", size8 + text, "frozen"),
                ("BYTEARRAY8", size8 + text, "any"),
                ("EMPTY_LIST", b"", "list"),
                ("EMPTY_LIST", b"", "list"),
                ("EMPTY_DICT", b"", "dict"),
                ("EMPTY_DICT", b"", "dict"),
                ("EMPTY_SET", b"", "set"),
                ("EMPTY_TUPLE", b"", "tuple"),
                ("PERSID", line + b"\n", "any"),
                ("NEXT_BUFFER", b"", "any"),
            ]
        )
        if name in ("LONG1", "SHORT_BINSTRING", "SHORT_BINBYTES", "SHORT_BINUNICODE") and random.random() < 0.01:
            argument = size1[:1] + argument
        if random.random() < 0.03:
            inner = CODES[name] + argument
            size = max(0, len(inner) + random.choice([0, 0, 0, 1, -1, 5]))
            self.emit("FRAME", random.choice([size, size, size, *_LONG_LENGTHS]).to_bytes(8, "little"))
        self.emit(name, argument)
        self.push(what)

    def memoise(self) -> None:
        random = self.random
        if self.stack[-1] == "mark" and random.random() < 0.95:
            return
        if random.random() < 0.5 and self.memo:
            index = (
                random.choice(list(self.memo))
                if random.random() < 0.97
                else random.choice([*range(5), 255, 256, 2**31])
            )
            name, argument = random.choice(
                [
                    ("BINGET", bytes([index & 255])),
                    ("LONG_BINGET", (index & 0xFFFFFFFF).to_bytes(4, "little")),
                    ("GET", b"%d\n" % index),
                ]
            )
            self.emit(name, argument)
            self.push(self.memo.get(index, "any"))
            return
        choice = random.random()
        index = (
            len(self.memo) if random.random() < 0.9 else random.choice([0, 1, 7, 255, 256, 70_000, 2**31, 2**32 - 1])
        )
        if choice < 0.6:
            self.emit("MEMOIZE")
            index = len(self.memo)
        elif choice < 0.8 and index < 256:
            self.emit("BINPUT", bytes([index]))
        elif choice < 0.9:
            self.emit("LONG_BINPUT", index.to_bytes(4, "little"))
        else:
            self.emit("PUT", b"%d\n" % index)
        self.memo[index] = self.stack[-1]

    def name(self) -> None:
        random = self.random
        name = random.choice(self.names).encode()
        choice = random.random()
        if choice < 0.6:
            self.emit("GLOBAL", b"hostile\n" + name + b"\n")
        elif choice < 0.9:
            self.emit("SHORT_BINUNICODE", b"\x07hostile")
            self.emit("SHORT_BINUNICODE", bytes([len(name)]) + name)
            self.emit("STACK_GLOBAL")
        else:
            code = random.choice([0, 1, 0xE0, 0xE1, 0xE2])
            option, size = random.choice([("EXT1", 1), ("EXT2", 2), ("EXT4", 4)])
            self.emit(option, code.to_bytes(size, "little"))
        self.push("class")
        if random.random() < 0.7:
            if random.random() < 0.5:
                self.emit("EMPTY_TUPLE")
            else:
                self.emit("NONE")
                self.emit("TUPLE1")
            self.emit(random.choice(["NEWOBJ", "NEWOBJ", "REDUCE"]))
            self.stack[-1] = "instance"

    def fold(self) -> None:
        """Make fewer of what lies on the stack."""
        random = self.random
        above = self.above_mark()
        top = self.stack[-1:]
        under = self.stack[-2:-1]
        options: list[tuple[str, int, str | None]] = []
        if above is not None:
            options += [("TUPLE", above + 1, "tuple"), ("LIST", above + 1, "list"), ("FROZENSET", above + 1, "frozen")]
            if above % 2 == 0:
                options.append(("DICT", above + 1, "dict"))
            base = self.stack[-above - 2 : -above - 1]
            if base in (["list"], ["instance"]):
                options += [("APPENDS", above + 1, None)] * 4
            if base in (["dict"], ["instance"]) and above % 2 == 0:
                options += [("SETITEMS", above + 1, None)] * 4
            if base in (["set"], ["instance"]):
                options += [("ADDITEMS", above + 1, None)] * 4
            if above and self.stack[-above] == "class":
                options += [("OBJ", above + 1, "instance")] * 4
            options += [("INST", above + 1, "instance"), ("POP_MARK", above + 1, None)]
        if above != 0:
            options += [("TUPLE1", 1, "tuple"), ("POP", 1, None), ("DUP", 0, top[0] if top else "any")]
            options += [("BINPERSID", 1, "any"), ("READONLY_BUFFER", 0, None)]
        if above is None or above >= 2:
            options += [("TUPLE2", 2, "tuple")]
            if under == ["list"]:
                options += [("APPEND", 1, None)] * 3
            if under == ["class"] and top == ["tuple"]:
                options += [("REDUCE", 2, "instance"), ("NEWOBJ", 2, "instance")] * 4
            if under == ["instance"]:
                options += [("BUILD", 1, None)] * 5
            if under in (["str"], ["class"]):
                options.append(("STACK_GLOBAL", 2, "class"))
        if above is None or above >= 3:
            options.append(("TUPLE3", 3, "tuple"))
            third = self.stack[-3:-2]
            if third in (["dict"], ["instance"]):
                options += [("SETITEM", 2, None)] * 4
            if third == ["class"]:
                options += [("NEWOBJ_EX", 3, "instance")] * 2
        if not options:
            options = [("POP", 1, None)]
        name, count, left = random.choice(options)
        argument = b""
        if name == "INST":
            argument = b"hostile\n" + random.choice(self.names).encode() + b"\n"
        self.emit(name, argument)
        if count:
            self.take(count)
        if left is not None:
            self.push(left)


def mutated(random: random.Random, data: bytes, other: bytes) -> bytes:
    """The stream with a few bytes changed, taken out, put in, doubled, or with the end of another one."""
    changed = bytearray(data)
    codes = list(CODES.values())
    for _ in range(random.choice([1, 1, 1, 2, 3, 6])):
        at = random.randrange(len(changed) + 1)
        kind = random.randrange(9)
        if kind == 0:
            changed[at : at + 1] = bytes([random.randrange(256)])
        elif kind == 1:
            del changed[at : at + random.randrange(1, 5)]
        elif kind == 2:
            changed[at:at] = bytes(random.randrange(256) for _ in range(random.randrange(1, 4)))
        elif kind == 3:
            changed[at:at] = changed[at : at + random.randrange(1, 30)]
        elif kind == 4:
            changed[at : at + 1] = random.choice(codes)
        elif kind == 5:
            changed[at:at] = random.choice(codes)
        elif kind == 6:
            changed[at:] = other[random.randrange(len(other) + 1) :]
        elif kind == 7:
            del changed[at:]
        elif changed:
            at = min(at, len(changed) - 1)
            changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)
