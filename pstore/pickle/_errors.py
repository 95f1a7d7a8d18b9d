"""What goes wrong, and how it is said: the exceptions of both engines and every message that they share.

Two families, each rooted in the standard module's own class, so that ``except`` clauses written for it hold:

    PicklingError                      UnpicklingError
      Unpicklable                        Malformed
        UnpicklableType  (TypeError)       MalformedValue  (ValueError)
        UnpicklableValue (ValueError)      MalformedType   (TypeError)
        UnpicklableState (RuntimeError)    MalformedAttribute (AttributeError)
        WrongProtocol                      MalformedText   (UnicodeDecodeError)
          UnpicklableOverflow              Truncated       (EOFError)
            (OverflowError)

Nothing here may know how a stream is written or read.
"""

from __future__ import annotations

from pickle import PickleError, PicklingError, UnpicklingError  # ours *are* the standard's classes

__all__ = [
    "Malformed",
    "MalformedAttribute",
    "MalformedText",
    "MalformedType",
    "MalformedValue",
    "PickleError",
    "PicklingError",
    "Truncated",
    "Unpicklable",
    "UnpicklableOverflow",
    "UnpicklableState",
    "UnpicklableType",
    "UnpicklableValue",
    "UnpicklingError",
    "WrongProtocol",
]


class Unpicklable(PicklingError):
    """An object can't be written.

    Attributes:
        reason: What is wrong with the object, without saying where it is.
        path: Where it is, from the root of the dump (``root.accounts[3].callback``), or None where that isn't known.
    """

    def __init__(self, reason: str, path: str | None = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"

    def locate(self, path: str) -> None:
        """Say where the object is."""
        self.path = path


class WrongProtocol(Unpicklable):
    """An object can't be written with this protocol. Of a dump's root it says no more, as the standard module does."""

    def locate(self, path: str) -> None:
        if path != "root":
            super().locate(path)


class UnpicklableType(Unpicklable, TypeError):
    """What the standard module raises as TypeError."""


class UnpicklableValue(Unpicklable, ValueError):
    """What the standard module raises as ValueError."""


class UnpicklableState(Unpicklable, RuntimeError):
    """What the standard module raises as RuntimeError."""


class UnpicklableOverflow(WrongProtocol, OverflowError):
    """What the standard module raises as OverflowError."""


class Malformed(UnpicklingError):
    """A stream says something that no pickler writes, or that this unpickler was told to refuse.

    Attributes:
        reason: What is wrong.
        offset: Offset of the opcode in the stream, the stream's first byte being 0; None where it isn't known.
        opcode: Name of the opcode; of an unknown one, the repr of its byte; None where there is none.
    """

    def __init__(self, reason: str, offset: int | None = None, opcode: str | None = None) -> None:
        super().__init__(reason, offset, opcode)
        self.reason = reason
        self.offset = offset
        self.opcode = opcode

    def __str__(self) -> str:
        return _placed(self.reason, self.offset, self.opcode)


class MalformedValue(Malformed, ValueError):
    """What the standard module raises as ValueError."""


class MalformedType(Malformed, TypeError):
    """What the standard module raises as TypeError."""


class MalformedAttribute(Malformed, AttributeError):
    """What the standard module raises as AttributeError."""


class Truncated(Malformed, EOFError):
    """The data ends before the stream does."""


class MalformedText(Malformed, UnicodeDecodeError):
    """Bytes that aren't text in the encoding that they should be in."""

    def __init__(self, reason: str, error: UnicodeDecodeError) -> None:
        UnicodeDecodeError.__init__(self, error.encoding, error.object, error.start, error.end, error.reason)
        self.detail = reason
        self.offset = None
        self.opcode = None

    def __reduce__(self) -> tuple[object, ...]:
        plain = UnicodeDecodeError(self.encoding, self.object, self.start, self.end, self.reason)
        return type(self), (self.detail, plain), {"offset": self.offset, "opcode": self.opcode}

    def __str__(self) -> str:
        return _placed(self.detail, self.offset, self.opcode)


def _placed(reason: str, offset: int | None, opcode: str | None) -> str:
    if offset is None:
        return reason
    return f"{reason} (at byte {offset})" if opcode is None else f"{reason} (at byte {offset}, opcode {opcode})"
