"""The suite notices faults, and says what it needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import capabilities_table

MUTANTS = Path(__file__).with_name("mutants.py")
NAMES = re.findall(r"^class (\w+)\(VersionedTransaction\)", MUTANTS.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_noticed(root: Path, name: str) -> None:
    """Both the cases and the state machine find each of these faults, and fail by an assertion."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += ["-k", "any_order or rollback or scan or delete or snapshot", f"{MUTANTS}::Test{name}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=100)
    failed = set(re.findall(r"^FAILED .*::(test_\w+)", done.stdout, re.MULTILINE))
    assert done.returncode == 1, done.stdout
    assert "test_any_order_of_operations" in failed, done.stdout
    assert len(failed) > 1
    assert "AssertionError" in done.stdout
    assert not re.search(r"^ERROR ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("missing", ["pytest", "hypothesis"])
def test_what_it_needs(missing: str) -> None:
    """Without pytest or Hypothesis, importing the suite says how to get it."""
    program = f"import sys; sys.modules[{missing!r}] = None; import pstore.testing"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last == f"ModuleNotFoundError: pstore.testing needs {missing}: python -m pip install 'pstore-db[testing]'"


def test_the_table_of_capabilities() -> None:
    """docs/backends.md tells of each backend what its class tells."""
    assert capabilities_table.written() == capabilities_table.table(), (
        "the table isn't what the classes tell: python tests/backends/capabilities_table.py --write"
    )
