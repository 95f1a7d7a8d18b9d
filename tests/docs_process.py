"""The process in which tests/test_docs.py runs the Python of one document, block after block.

Jobs come as lines of JSON on standard input, and answers go as lines of JSON to standard output. The blocks themselves
get an empty input, and their output goes to standard error. They run in a `__main__` of their own, so that what they
define is pickled by name as in any script.
"""

from __future__ import annotations

import doctest
import json
import os
import sys
import traceback
import types
from pathlib import Path

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run_python(source: str, path: str, line: int, namespace: dict[str, object]) -> str:
    """Run a block; the empty string, or the traceback of what it raised."""
    # Empty lines before the block make the line numbers, and the lines that a traceback shows, those of the document.
    padded = "\n" * (line - 1) + source
    try:
        exec(compile(padded, path, "exec", dont_inherit=True), namespace)
    except BaseException as error:  # noqa: BLE001  # a block's SystemExit, too, is to be told, not obeyed
        return "".join(traceback.format_exception(error))
    return ""


def run_pycon(source: str, path: str, line: int, namespace: dict[str, object]) -> str:
    """Run a block of prompts and answers; the empty string, or the report of what differs."""
    test = doctest.DocTestParser().get_doctest(source, {}, f"{path}:{line}", path, line - 1)
    if not test.examples:
        return "a pycon block without a prompt (>>>)"
    test.globs = namespace
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
    return "".join(report)


def main() -> None:
    """Serve until the input ends."""
    with os.fdopen(os.dup(0), encoding="utf-8") as jobs, os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.path.insert(0, str(Path.cwd()))

        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        runners = {"python": run_python, "pycon": run_pycon}
        for job in map(json.loads, jobs):
            failure = runners[job["language"]](job["source"], job["path"], job["line"], vars(module))
            sys.stdout.flush()
            print(json.dumps(failure), file=answers, flush=True)


if __name__ == "__main__":
    main()
