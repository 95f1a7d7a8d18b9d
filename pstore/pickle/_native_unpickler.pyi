# The native unpickler: its interface is the reference engine's.

from ._python import load as load
from ._python import loads as loads
from ._unpickler import Unpickler as Unpickler
from .tools import globals as globals  # noqa: A004  # the public name
from .tools import references as references
