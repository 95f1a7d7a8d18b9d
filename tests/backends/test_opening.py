"""What can't be opened is told by errors of ours, which name it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import pstore
from pstore.backends import open_backend

if TYPE_CHECKING:
    from pathlib import Path

FILED = ["", "sqlite:///", "dbm:///", "dbm.dumb:///", "dbm.sqlite3:///", "sqlitedict:///"]


@pytest.mark.parametrize("scheme", FILED)
def test_a_name_that_the_system_refuses(scheme: str, tmp_path: Path) -> None:
    """A path that is too long is a StorageError with the path."""
    path = str(tmp_path / ("x" * 300))
    with pytest.raises(pstore.StorageError, match="x" * 300):
        open_backend(scheme + path)


@pytest.mark.parametrize("scheme", FILED)
def test_a_name_with_a_nul(scheme: str, tmp_path: Path) -> None:
    """NUL is refused, and what it stands in is named."""
    with pytest.raises(ValueError, match=r"has a NUL in it, as '.*a(%00|\\x00)b' has"):
        open_backend(f"{scheme}{tmp_path}/a{'%00' if scheme else chr(0)}b")


def test_a_percent_sign_in_a_path_is_one(tmp_path: Path) -> None:
    """Only URLs are unquoted."""
    open_backend(tmp_path / "a%00b").close()
    assert (tmp_path / "a%00b").exists()


def test_a_url_that_is_none() -> None:
    """What the standard library can't take apart is named."""
    with pytest.raises(ValueError, match=r"not 'sqlite://\[bad'"):
        open_backend("sqlite://[bad")


def test_a_base_of_a_wrong_type() -> None:
    """A base that is no path, URL or backend is a TypeError that says so, without what it holds."""
    with pytest.raises(TypeError, match="by a path or URL, not by a dict"):
        pstore.open("memory:", base={b"x": b"y"})  # type: ignore[arg-type]


def test_a_file_that_may_not_be_read_is_said_to_be_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that it is something else, as nobody has seen what it is."""
    path = tmp_path / "store"
    path.write_bytes(b"x" * 100)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(pstore.StorageError, match="can't be read"):
        open_backend(f"dbm.sqlite3:///{path}")


def test_the_longest_wait(tmp_path: Path) -> None:
    """A timeout beyond what the system counts is as long as it can be."""
    backend = open_backend(f"dbm.dumb:///{tmp_path / 'store'}?timeout=1e300")
    assert backend.timeout == threading.TIMEOUT_MAX  # type: ignore[attr-defined]
    backend.begin(write=True).rollback()
    backend.close()
