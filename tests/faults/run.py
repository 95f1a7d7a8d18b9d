"""Faults, and how often what came of them: `python tests/faults/run.py --backend sqlite --kills 200 --flips 500 --faults`.

It knows kinds of backends by their names in `tests/places.py`, and nothing else of them.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import damage  # noqa: E402  # the path is made above
import failing  # noqa: E402
import kills  # noqa: E402
from places import KINDS  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return 1 where something was lost, wrong or unclear."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--backend", action="append", choices=list(KINDS), help="a kind; all that are kept in files where none is named"
    )
    parser.add_argument("--kills", type=int, default=0, metavar="COUNT", help="kill -9 in the middle, so many times")
    parser.add_argument("--flips", type=int, default=0, metavar="COUNT", help="damage the files, so many times")
    parser.add_argument("--faults", action="store_true", help="let each call that writes fail")
    parser.add_argument("--stride", type=int, default=1, help="with --faults: only each so-manieth call")
    parser.add_argument("--seed", type=int, default=None, help="repeats what was printed with this seed")
    parser.add_argument("--directory", type=Path, default=None, help="where to make the stores")
    parser.add_argument("--go-on", action="store_true", help="with --flips: print and count what is wrong, and go on")
    options = parser.parse_args(arguments)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(dir=options.directory) as temporary:
        if options.faults and "PSTORE_FAULTS_LOADED" not in os.environ:
            library, why = failing.compile_library(Path(temporary))
            if library is None:
                print(why, file=sys.stderr)
                return 2
            environment = {**os.environ, "LD_PRELOAD": str(library), "PSTORE_FAULTS_LOADED": "1"}
            command = [sys.executable, *sys.orig_argv[1:]]
            return os.spawnve(os.P_WAIT, sys.executable, command, environment)
        failed = False
        for name in options.backend or [n for n, kind in KINDS.items() if kind.url and kind.files and not kind.missing]:
            directory = Path(temporary, name)
            directory.mkdir()
            parts = {
                f"{options.kills} kills": options.kills
                and (lambda d, k=KINDS[name]: kills.run(k, d, options.kills, seed)),
                "failing calls": options.faults
                and (lambda d, k=KINDS[name]: failing.run(k, d, stride=options.stride, offset=seed)),
                f"{options.flips} damaged files": options.flips
                and (lambda d, k=KINDS[name]: damage.run(k, d, options.flips, seed, stop=not options.go_on)),
            }
            for title, part in parts.items():
                if part:
                    failed |= not _report(f"{name}: {title} (seed {seed})", part, directory)
    return int(failed)


def _report(title: str, part: object, directory: Path) -> bool:
    began = time.monotonic()
    try:
        outcome = part(directory)  # type: ignore[operator]
    except AssertionError as error:
        print(f"{title}\n  FAILED: {error}", flush=True)
        return False
    print(f"{title}, {time.monotonic() - began:.0f} s")
    for what, count in sorted(outcome.items()):
        print(f"  {count:6}  {what}")
    sys.stdout.flush()
    return not any(what.startswith("WRONG") or what.isupper() for what in outcome)


if __name__ == "__main__":
    sys.exit(main())
