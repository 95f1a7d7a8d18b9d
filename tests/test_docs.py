"""Every code block in README.md and docs/ is run, in order, and each document in a directory of its own.

- `python` and `pycon` blocks of a document share one process and one namespace.
- `console` blocks hold commands that begin with `$ python` or `$ pstore`; each must succeed.
- `text`, `json` and other blocks that aren't code are left alone; `sh` blocks and others that can't run need a reason.

A comment before a block says what is special about it:

    <!-- new process -->      a fresh process in the same directory, as after a restart
    <!-- file: people.py -->  the block is a file, saved for the others to import
    <!-- not run: REASON -->  for a `console` or `sh` block that can't be run here
    <!-- command: NAME -->    one of README's commands, which .ci/run runs
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

CODE = {"python", "pycon", "console", "sh"}
NOT_CODE = {"text", "json", "toml", "ini", "mermaid"}
PROGRAMS = {"python", "pstore"}
SECONDS = 100.0


@dataclass(frozen=True)
class Block:
    """A fenced block, with the comments that stand before it."""

    language: str
    source: str
    path: str
    line: int  # of the first line inside the fence, from 1
    notes: tuple[tuple[str, str], ...]  # ("not run", REASON), ...

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"

    def note(self, name: str) -> str | None:
        """What the comment of this name says; the empty string where it says no more than its name."""
        return dict(self.notes).get(name)


def blocks(text: str, path: str) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    lines = text.splitlines()
    notes: list[tuple[str, str]] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if comment := re.fullmatch(r"\s*<!--\s*(.*?)\s*-->\s*", line):
            name, _, value = comment[1].partition(":")
            notes.append((name.strip(), value.strip()))
        elif fence := re.fullmatch(r"(\s*)(`{3,}|~{3,})\s*(\S*).*", line):
            indent, mark, language = fence.groups()
            first = number
            while number < len(lines) and lines[number].strip() != mark:
                number += 1
            if number == len(lines):
                pytest.fail(f"{path}:{first}: the block isn't closed")
            source = "".join(f"{inner.removeprefix(indent)}\n" for inner in lines[first:number])
            yield Block(language, source, path, first + 1, tuple(notes))
            number += 1
            notes = []
        elif line.strip():
            notes = []


def check(block: Block) -> None:
    """Fail for a block that this module wouldn't know how to treat, lest it be left out in silence."""
    if block.language not in CODE | NOT_CODE:
        pytest.fail(
            f"{block}: say what the block is: one of {', '.join(sorted(CODE | NOT_CODE))}, not {block.language!r}"
        )
    known = {
        "new process": "python pycon",
        "file": "python text json toml ini",
        "not run": "console sh",
        "command": "sh",
    }
    for name, value in block.notes:
        if block.language not in known.get(name, "").split():
            pytest.fail(f"{block}: <!-- {name} --> isn't known before a block of {block.language}")
        if bool(value) == (name == "new process"):
            pytest.fail(f"{block}: <!-- {name} --> takes {'nothing' if value else 'a text'} after its name")
    if block.language == "sh" and block.note("not run") is None and block.note("command") is None:
        pytest.fail(f"{block}: sh blocks aren't run: say why (not run: REASON), or make it a console block")


def commands(block: Block) -> Iterator[str]:
    """The commands of a console block: what follows `$ `, with the lines that continue it after `> `."""
    command: list[str] = []
    for line in [*block.source.splitlines(), "$ "]:
        if line.startswith("$ "):
            if command:
                yield "\n".join(command)
            command = [line[2:]]
        elif line.startswith("> ") and command:
            command.append(line[2:])


def environment() -> dict[str, str]:
    """The environment of what documents run: `python` and `pstore` are those of this environment."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


class Process:
    """A Python process that runs blocks in one namespace, until it is closed."""

    def __init__(self, folder: Path) -> None:
        self.output = folder.with_name("output")
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", str(ROOT / "tests" / "docs_process.py")],
                cwd=folder,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                encoding="utf-8",
            )

    def run(self, block: Block) -> None:
        """Run a block here; fail if it does."""
        job = {"language": block.language, "source": block.source, "path": block.path, "line": block.line}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if failure := json.loads(answer) if answer else "the process ended":
            pytest.fail(f"{block}\n{failure}\n{self.printed()}", pytrace=False)

    def printed(self) -> str:
        """What the blocks have printed."""
        return self.output.read_text("utf-8", "replace")

    def close(self) -> int:
        """End the process as a script ends, and return its exit code."""
        self.process.stdin.close()
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.process.stdout.close()


def run(document: Path, folder: Path) -> None:
    """Run a document's blocks in this directory, which is made; fail at the first that does."""
    folder.mkdir()
    process: Process | None = None

    def end() -> None:
        nonlocal process
        ending, process = process, None
        if ending and (ending.close() or "Exception ignored" in ending.printed()):
            pytest.fail(f"{document}: the process didn't end well\n{ending.printed()}", pytrace=False)

    try:
        for block in blocks(document.read_text("utf-8"), str(document)):
            check(block)
            if name := block.note("file"):
                (folder / name).write_text(block.source, "utf-8")
            elif block.language in {"python", "pycon"}:
                if block.note("new process") is not None:
                    end()
                process = process or Process(folder)
                process.run(block)
            elif block.language == "console" and block.note("not run") is None:
                run_commands(block, folder)
        end()
    finally:
        if process:
            process.process.kill()
            process.close()


def run_commands(block: Block, folder: Path) -> None:
    """Run the commands of a console block; fail for one that does, and for a block that holds none."""
    found = list(commands(block))
    if not found or not block.source.startswith("$ "):
        pytest.fail(f"{block}: a console block begins with a command: '$ python ...' or '$ pstore ...'")
    for command in found:
        if command.split()[0] not in PROGRAMS:
            pytest.fail(f"{block}: {command!r} is neither python nor pstore: say why it can't run (not run: REASON)")
        done = subprocess.run(
            ["sh", "-euc", command],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"{block}\n$ {command}\nexit code {done.returncode}\n{done.stdout}", pytrace=False)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_document(document: Path, tmp_path: Path) -> None:
    """The document's code does what the document says."""
    run(document, tmp_path / "here")


def test_readme_gives_two_commands() -> None:
    """README has exactly two commands: one installs and runs the main job, one runs the tests."""
    found = [block for block in blocks((ROOT / "README.md").read_text("utf-8"), "README.md") if block.language == "sh"]
    assert [(block.note("command"), len(block.source.splitlines())) for block in found] == [("demo", 1), ("test", 1)]


GOOD = """
<!-- file: people.py -->
```python
class Person: pass
```

```python
import pickle, sys
from people import Person
class Here: pass
with open("here", "wb") as file:
    pickle.dump([Here(), Person()], file)
assert sys.stdin.read() == ""
print("not an answer")
```
and, sharing the names,

```pycon
>>> Here.__module__, len(sys.argv)
('__main__', 1)
>>> value = 2
```

1. indented:

   ```python
   assert value == 2
   ```

```console
$ python -c "import people;
> print(people)"
<module 'people' ...>
$ python -c 1
```

<!-- new process -->
```python
class Here: pass
assert "value" not in globals()
import pickle
with open("here", "rb") as file:
    assert type(pickle.load(file)[0]) is Here
```

<!-- not run: there is no such program -->
```console
$ frobnicate
```

```text
nothing
```
"""


def test_what_documents_can_do(tmp_path: Path) -> None:
    """Blocks share names and files, pickle what they define, print and read without harm, and start new processes."""
    document = tmp_path / "good.md"
    document.write_text(GOOD, "utf-8")
    run(document, tmp_path / "here")


@pytest.mark.parametrize(
    "text, told",
    [
        ("text\n\n```python\nvalue = 1\nvalue / 0\n```", r"(?s)bad.md:4.*line 5.*value / 0.*ZeroDivisionError"),
        ("```python\nimport os; os._exit(0)\n```", r"bad.md:2\nthe process ended"),
        ("```python\nimport atexit, os; atexit.register(os._exit, 3)\n```", "didn't end well"),
        ("```python\nclass C:\n    def __del__(self): 1 / 0\nC()\n```", "(?s)didn't end well.*ZeroDivisionError"),
        ("```python\nraise SystemExit\n```", "SystemExit"),
        ("```python\nimport warnings; warnings.warn('old', DeprecationWarning)\n```", "DeprecationWarning: old"),
        ("```pycon\n>>> 1 + 1\n3\n```", r"(?s)bad.md:2.*Expected:\s+3\s+Got:\s+2"),
        ("```pycon\n1 + 1\n```", "without a prompt"),
        ("```console\n$ python -c 'raise SystemExit(4)'\n```", r"(?s)bad.md:2.*exit code 4"),
        ("```console\n$ python -c 1\n$ python -c 'print(1 / 0)'\n```", "ZeroDivisionError"),
        ("```console\n$ ls\n```", "neither python nor pstore"),
        ("```console\nfive\n```", "begins with a command"),
        ("```\ntext\n```", "say what the block is"),
        ("```rust\n1\n```", "say what the block is"),
        ("```sh\nls\n```", "sh blocks aren't run"),
        ("<!-- not run: too hard -->\n```python\n1\n```", "isn't known before a block of python"),
        ("<!-- not run -->\n```console\n$ ls\n```", "takes a text"),
        ("<!-- new proces -->\n```python\n1\n```", "isn't known"),
        ("```python\n1", "isn't closed"),
    ],
)
def test_what_documents_can_do_wrong(tmp_path: Path, text: str, told: str) -> None:
    """A block that fails, and one that would be left out in silence, fail with their place in the document."""
    document = tmp_path / "bad.md"
    document.write_text(text, "utf-8")
    with pytest.raises(pytest.fail.Exception, match=told):
        run(document, tmp_path / "here")
