"""The memory backend keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pstore.backends import MemoryBackend
from pstore.testing import BackendSuite

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends import Backend


class TestMemory(BackendSuite):
    """In this process's memory."""

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        return MemoryBackend(timeout=timeout)
