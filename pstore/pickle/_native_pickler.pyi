# The native pickler: its interface is the reference engine's.

from ._identity import IdentityTable as IdentityTable
from ._pickler import Pickler as Pickler
from ._python import dump as dump
from ._python import dumps as dumps
