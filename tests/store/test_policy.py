"""What `allow` allows, and every way around it that was thought of."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shop

import pstore
from pstore.pickle.policy import ANYTHING, Policy, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Place


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package on the path: classes and functions, modules that import others, and a `__main__`."""
    root = tmp_path / "vouched"
    (root / "sub").mkdir(parents=True)
    (root / "__init__.py").write_text("from vouched.models import Model\n")
    (root / "__main__.py").write_text("raise SystemExit('__main__ was run')\n")
    (root / "models.py").write_text(
        "import os, subprocess\nfrom os import system\nfrom subprocess import Popen\n"
        "class Model:\n    class Inner: pass\ndef helper(): pass\n"
    )
    (root / "sub" / "__init__.py").write_text("")
    (root / "sub" / "deep.py").write_text("class Deep: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "vouched"
    for name in [name for name in sys.modules if name.partition(".")[0] == "vouched"]:
        del sys.modules[name]


FINE = ["models.Model", "models.Model.Inner", "sub.deep.Deep"]
BYPASSES = [
    ("vouched.models", "os.system"),
    ("vouched.models", "subprocess.Popen"),
    ("vouched.models", "system"),
    ("vouched.models", "Popen"),
    ("vouched.models", "helper.__globals__"),
    ("vouched.models", "Model.__init__.__globals__"),
    ("vouched.models", "Model.__class__"),
    ("vouched.models", "Model.__subclasses__"),
    ("vouched.models", "__builtins__"),
    ("vouched.models", "helper"),
    ("vouched.__main__", "x"),
    ("vouched.__init__", "Model"),
    ("vouched..models", "Model"),
    ("vouched.models ", "Model"),
    ("vouchedx", "Model"),
    ("os", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
]


@pytest.mark.parametrize("name", FINE)
def test_wildcard_imports_what_it_names(name: str, package: str) -> None:
    """`package.*` is enough in a process that has imported nothing of the package yet."""
    module, _, qualname = name.partition(".M") if ".M" in name else name.rpartition(".")
    qualname = "M" + qualname if ".M" in name else qualname
    policy = Policy([f"{package}.*"])
    assert isinstance(policy.find(f"{package}.{module}", qualname), type)


@pytest.mark.parametrize("module, qualname", BYPASSES)
@pytest.mark.parametrize("allow", [["vouched.*"], ["vouched", "vouched.models"], ["vouched.models.Model"]], ids=str)
def test_no_way_around(module: str, qualname: str, allow: list[str], package: str) -> None:
    """A name leads to what is defined where it says, and to nothing that a module has imported or a class holds."""
    with pytest.raises((Refused, ImportError)):
        Policy(allow).find(module, qualname)


def test_nothing_is_imported_that_was_not_named(package: str) -> None:
    """Asking for what isn't allowed imports no module."""
    for allow in [], [f"{package}.models.Model"], [f"{package}.models"]:
        with pytest.raises(Refused):
            Policy(allow).find(f"{package}.sub.deep", "Deep")
    assert f"{package}.sub" not in sys.modules


@pytest.mark.parametrize("allow", [5, "shop.Plain", shop, shop.Plain, None, b"shop"])
def test_allow_takes_a_list(allow: Any, path: Path) -> None:
    """Anything else is refused, with the line to write."""
    with pytest.raises(TypeError, match=r"allow=\["):
        pstore.open(path, allow=allow)
    assert not path.exists()


@pytest.mark.parametrize("entry", [5, None, b"shop", "", "shop..Plain", "shop.Pl ain", "*", "shop.*.x", lambda: 1])
def test_entries_of_allow(entry: Any, path: Path) -> None:
    """An entry that can't name anything is refused at the opening, not when it is missed."""
    if callable(entry):
        pstore.open(path, allow=[entry]).close()  # a function like others, though it can't be found by its name
        return
    with pytest.raises(TypeError, match="allow takes classes"):
        pstore.open(path, allow=[entry])
    assert not path.exists()


@pytest.mark.parametrize("allow", [["shop"], ["test_policy"], ANYTHING], ids=["module", "own", "anything"])
def test_what_no_other_process_could_find(allow: Any, place: Place) -> None:
    """A class that is defined within a function can't be stored, whatever is allowed: nobody could read it again."""

    class Local:
        pass

    Local.__module__ = "shop"
    with place.open(allow=allow) as db:
        db["a"] = Local()
        with pytest.raises(pstore.ClassNotAllowed, match=r"within a function|isn't allowed"):
            db.commit()
        db["a"] = [Local()]
        with pytest.raises((pstore.ClassNotAllowed, pstore.pickle.PicklingError)):
            db.commit()
        del db["a"]


def test_class_that_was_defined_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object of the old one is refused for what it is: its name leads to another class now."""
    old = shop.Plain(x=1)
    monkeypatch.setattr(shop, "Plain", type("Plain", (), {"__module__": "shop", "__qualname__": "Plain"}))
    with place.open() as db:
        db["a"] = old
        with pytest.raises(pstore.ClassNotAllowed, match="another object has this name"):
            db.commit()
        del db["a"]


READ = """
import os, sys, pstore
os.chdir(os.path.dirname(sys.argv[1]))
if not os.getuid():
    os.setuid(65534)  # the rights of root aren't asked for
with pstore.open("store.db", "r") as db:
    print(db["a"])
"""


def test_readable_by_a_process_that_may_not_write() -> None:
    """Flag "r" reads a store in a directory where SQLite can't make the file that it shares its log by."""
    folder = Path(tempfile.mkdtemp())  # not under pytest's own, where no other user gets in
    try:
        with pstore.open(folder / "store.db") as db:
            db["a"] = [1, 2]
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ, str(folder / "store.db")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "[1, 2]\n", done.stderr
        assert [file.name for file in folder.iterdir()] == ["store.db"]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize("target", ["", ":memory:", "sqlite:///", "sqlite://host/x", "memory:x"])
def test_targets_that_name_nothing(target: str) -> None:
    """They are refused with what to write instead."""
    with pytest.raises(ValueError, match=r"memory:|sqlite:///relative"):
        pstore.open(target)
