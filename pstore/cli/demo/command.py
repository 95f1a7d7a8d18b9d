"""`pstore demo`: runs the parts of the demonstration, each later one in a process of its own, and tells what happens."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from time import perf_counter

import click

import pstore
from pstore.cli.demo.keep import begin_reading, count_promoted, keep, prepare
from pstore.cli.demo.library import Library, source_files
from pstore.cli.demo.names import Linker
from pstore.cli.demo.questions import classes, functions, packages_in
from pstore.cli.screen import Screen, duration


def names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Return the names in an option's value, which has commas between them."""
    del context, parameter
    return [name.strip() for name in value.split(",") if name.strip()]


@click.command(epilog="Example:  pstore demo library.pstore --packages json,email")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--packages",
    callback=names,
    default="",
    metavar="NAME,NAME,...",
    help="Read only these top-level packages and modules of the library (and json, where something is changed).",
)
@click.pass_context
def demo(context: click.Context, path: Path | None, packages: list[str]) -> None:
    """Show what pstore does, on the source of Python's standard library.

    The packages, modules, classes and functions of the library, and how they are linked, go into a store as a graph of
    plain objects. Another process opens the store, finds every reference intact, asks a few questions, and changes
    something deep in the graph. A third one goes on reading a file where the first one stopped.

    PATH is where to put the store: a new file, or a store that this command has made before. Without it, the store is
    put into a new directory for temporary files.
    """
    directory = Path(sysconfig.get_path("stdlib"))
    files = files_of(directory, packages)
    path = path or Path(tempfile.mkdtemp(prefix="pstore-demo-")) / "library.pstore"
    began = perf_counter()
    prepare(path)
    screen = Screen()
    screen.line(
        f"pstore {pstore.__version__}, {pstore.pickle.engine} pickle engine, Python {platform.python_version()}"
    )
    library, linker = read(directory, files, screen)
    store(path, library, linker, screen)
    run("pstore.cli.demo.reopen", path)
    start_reader(path, directory, screen)
    run("pstore.cli.demo.resume", path)
    screen.heading(f"Done in {duration(perf_counter() - began)}")
    screen.line(f"The store stays at {path}")
    screen.line("To see what it is:")
    screen.line(f"  {context.find_root().command_path} info {shlex.quote(str(path))}")


def files_of(directory: Path, packages: list[str]) -> list[Path]:
    """Return the source files to read.

    Raises:
        click.ClickException: There are none.
        click.BadParameter: A package isn't there.
    """
    files = source_files(directory, {*packages, "json"} if packages else ())
    if not files:
        message = f"there is no source of the standard library in {directory}"
        raise click.ClickException(message)
    found = {file.relative_to(directory).with_suffix("").parts[0] for file in files}
    for name in packages:
        if name not in found:
            message = f"no package or module of the standard library has its source in {directory / name}"
            raise click.BadParameter(message, param_hint="--packages")
    return files


def read(directory: Path, files: list[Path], screen: Screen) -> tuple[Library, Linker]:
    """Read the library."""
    screen.heading(f"1. Read the standard library in {directory}")
    began = perf_counter()
    library = Library(directory)
    for file in screen.track(files, "reading"):
        library.read(file)
    linker = Linker(library.sources)
    for source in library.sources.values():
        linker.link(source)
    took = perf_counter() - began
    screen.line(f"{len(files):,} files in {duration(took)}; {len(library.skipped):,} skipped, not readable as Python.")
    modules = [source.module for source in library.sources.values()]
    screen.facts(
        {
            "packages": len(list(packages_in(library.package))),
            "modules": len(modules),
            "lines": sum(module.lines for module in modules),
            "classes": sum(len(list(classes(module))) for module in modules),
            "functions": sum(len(list(functions(module))) for module in modules),
            "links": linker.links,
        }
    )
    screen.line(f"Names that can't be told without running the code: {linker.unknown:,}")
    return library, linker


def store(path: Path, library: Library, linker: Linker, screen: Screen) -> None:
    """Put the graph into the store."""
    screen.heading(f"2. Store it (process {os.getpid()})")
    began = perf_counter()
    with screen.wait("committing"):
        done = keep(path, library, linker.outside)
    took = perf_counter() - began
    screen.line(
        f"{len(done.keys):,} records under {len(done.names)} names, {path.stat().st_size:,} bytes, in {duration(took)}."
    )
    screen.line(f"{count_promoted(path):,} functions, which nobody declared, are records because two records")
    screen.line("refer to them. The others stand in the record of their class or module.")


def start_reader(path: Path, directory: Path, screen: Screen) -> None:
    """Store a reader in the middle of a file."""
    text = directory / "pickle.py"
    screen.heading(f"4. Store a TextReader in the middle of a file (process {os.getpid()})")
    lines = begin_reading(path, str(text), 3)
    screen.line(f"It has read {len(lines)} lines of {text}:")
    for number, line in enumerate(lines, 1):
        screen.line(f"  {number:3}  {line}")


def run(module: str, path: Path) -> None:
    """Run a part of the demonstration in a new process; where that fails, fail with its exit status."""
    done = subprocess.run([sys.executable, "-m", module, str(path)], check=False)  # noqa: S603  # our own module
    if done.returncode:
        sys.exit(done.returncode)
