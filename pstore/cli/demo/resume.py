"""The third process, `python -m pstore.cli.demo.resume PATH`: the text reader comes out of the store and reads on."""

from __future__ import annotations

import os
from pathlib import Path

import pstore
from pstore.cli.demo.model import ALLOWED
from pstore.cli.failure import run_script
from pstore.cli.screen import Screen

#: How many lines to read on.
LINES = 3


def main(path: Path) -> None:
    """Do the third part of the demonstration."""
    screen = Screen()
    screen.heading(f"5. Go on in a third process ({os.getpid()})")
    with pstore.open(path, allow=ALLOWED) as db:
        decode = db["library"].packages["json"].modules["decoder"].classes["JSONDecoder"].functions["decode"]
        screen.line(f"The change is there: decode({', '.join(decode.arguments)}).")
        reader = db["reader"]
        screen.line(f"The reader stands behind line {reader.line} of {Path(reader.path).name} and reads on:")
        for _ in range(LINES):
            text = reader.readline()
            screen.line(f"  {reader.line:3}  {text}")
        reader.close()
        done = db.commit("read on")
        written = ", ".join(map(db.label, done.keys))
        screen.line(f"Committed: {len(done.keys)} record written, {written}; {db.stats()['loads']} records loaded.")


if __name__ == "__main__":
    run_script(main)
