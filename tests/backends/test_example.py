"""The backend that docs/backends.md gives as an example keeps the contract, and is found by its URL."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pstore
from pstore.testing import BackendSuite

if TYPE_CHECKING:
    from pathlib import Path

    from pstore.backends import Backend


@pytest.fixture
def installed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example as a distribution that is installed, for this process and those that it starts; its module."""
    site = tmp_path / "site"
    install(site, "json-file", "jsonfile = json_file:open_url")
    (site / "json_file.py").write_bytes((root / "docs" / "examples" / "json_file.py").read_bytes())
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    yield importlib.import_module("json_file")
    sys.modules.pop("json_file")


def install(site: Path, name: str, entry: str) -> None:
    """Make a distribution that has one entry point."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[pstore.backends]\n{entry}\n", "utf-8")


class TestExample(BackendSuite):
    """A store in a file of JSON."""

    @pytest.fixture(autouse=True)
    def module(self, installed: Any) -> None:
        """Have the example installed."""
        self.example = installed

    def open_backend(self, directory: Path, flag: str = "c", *, durable: bool = True, timeout: float = 5.0) -> Backend:
        return self.example.JsonFile(directory / "store.json", flag, durable=durable, timeout=timeout)

    def url(self, directory: Path) -> str:
        return f"jsonfile:///{directory / 'store.json'}"


def test_the_example_is_short(root: Path) -> None:
    """The example has fewer than 100 lines of code."""
    lines = (root / "docs" / "examples" / "json_file.py").read_text("utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) < 100


def test_it_is_opened_by_url_and_as_a_backend(installed: Any, tmp_path: Path) -> None:
    """`pstore.open` takes the URL of a backend that another distribution has registered, and a backend that is open."""
    with pstore.open(f"jsonfile:///{tmp_path}/a%20store.json") as db:
        db["a"] = shared = ["list"]
        db["b"] = shared
    backend = installed.JsonFile(tmp_path / "a store.json", "w")
    with pstore.open(backend) as db:
        assert db["a"] is db["b"]
        assert db["a"] == ["list"]
    backend.begin().rollback()  # it stays open
    backend.close()
    (tmp_path / "other.json").write_text('{"some": "JSON"}', "utf-8")
    with pytest.raises(pstore.FormatError, match="isn't a store"):
        pstore.open(f"jsonfile:///{tmp_path}/other.json")


@pytest.mark.parametrize(
    "entry, told",
    [
        ("broken = no_such_module:open_url", "No module named 'no_such_module'"),
        ("broken = json:no_such_function", "no_such_function"),
        ("broken = json:__version__x", "__version__x"),
        ("broken = json:__name__", "isn't a function"),
        ("broken = returning:nothing", "returned no backend, but None"),
    ],
)
def test_a_broken_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, told: str) -> None:
    """Where a registered backend can't be loaded, the error says of which package it is, and what failed."""
    install(tmp_path, "sad-package", entry)
    (tmp_path / "returning.py").write_text("def nothing(url, flag, *, durable): return None", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(pstore.StorageError, match=f"'broken' of the package sad-package 1.0 .*{told}") as caught:
        pstore.open("broken:anything")
    assert "reinstall" in str(caught.value)


def test_two_packages_with_one_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two packages register the same scheme, neither is taken, and both are named."""
    install(tmp_path, "one", "same = json:loads")
    install(tmp_path, "two", "same = json:dumps")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"same.*one 1.0.*two 1.0"):
        pstore.open("same:anything")


def test_an_unknown_scheme(installed: Any) -> None:
    """A scheme that nobody knows is told with those that are known, registered ones too."""
    with pytest.raises(ValueError, match=r"'unheard'.*jsonfile.*memory.*sqlite"):
        pstore.open("unheard:///store")
