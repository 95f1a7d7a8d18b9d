"""The contract of `pstore.backends.base` as tests, for whoever writes a backend; `docs/backends.md` shows how to use them.

`BackendSuite` is a class of pytest tests: a subclass says how its backend is opened, and has all of them.
`BackendMachine` lets Hypothesis try any order of operations; the suite runs it, too. The package sees rows of bytes, never an object.
It needs pytest and Hypothesis, which the library itself doesn't: the extra `testing`.
"""

from __future__ import annotations

try:
    import hypothesis  # noqa: F401  # only to say what is missing before a module of this package fails for it
    import pytest
except ModuleNotFoundError as error:
    message = f"pstore.testing needs {error.name}: python -m pip install 'pstore-db[testing]'"
    raise ModuleNotFoundError(message, name=error.name) from error

# A failing assertion of the suite shows the values, as one in a test module does.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("binding", "concurrency", "lifetime", "rows", "stateful", "transactions"))
)

from pstore.testing.binding import Binding, content, look, put  # noqa: E402
from pstore.testing.concurrency import ConcurrencyCases  # noqa: E402
from pstore.testing.lifetime import LifetimeCases  # noqa: E402
from pstore.testing.rows import RowCases  # noqa: E402
from pstore.testing.stateful import BackendMachine, StatefulCases  # noqa: E402
from pstore.testing.transactions import TransactionCases  # noqa: E402

__all__ = ["BackendMachine", "BackendSuite", "Binding", "content", "look", "put"]


class BackendSuite(RowCases, TransactionCases, LifetimeCases, ConcurrencyCases, StatefulCases):
    """Everything that a backend promises, as tests. A subclass whose name begins with `Test` supplies `open_backend`.

    What the backend's capabilities don't claim is skipped, and says so. `Binding` has what a subclass may supply.
    """
