"""What pyproject.toml can't say: the packages, found instead of listed, and the native pickle engine, compiled where it can be.

The environment has a say in the compiling:

- ``PSTORE_REQUIRE_NATIVE=1``: where the engine can't be compiled the build fails. Without it, it warns and goes on: the
  package is whole with the reference engine.
- ``CFLAGS``: replaces the options for the compiler that stand here.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = ["pstore", "pstore.*"]
MAPPED = ["backends", "backends.*"]  # the directory is mapped by `package-dir` in pyproject.toml

# Each of these becomes an extension module beside it. Directives for Cython stand in the files themselves.
SOURCES = sorted(path.as_posix() for path in Path("pstore/pickle").glob("_native_*.pyx"))
# For compilers that are called as Unix's are; Microsoft's goes by its own defaults.
OPTIONS = ["-O3"]

WARNING = """\
{line}
pstore is built WITHOUT its native pickle engine, as that couldn't be compiled:

    {error}

The package is whole without it, and slower: it has the reference engine, in pure Python.
`pstore info` and `pstore.pickle.engine_reason` tell so, too.

The native engine needs a C compiler, the headers of this Python, and Cython (which pip gets by itself).
With PSTORE_REQUIRE_NATIVE=1 in the environment the build fails instead of doing without.
{line}"""


class BuildNative(build_ext):
    """Compiles the native engine: all of its modules, or none and a warning."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or True  # as many compilers at once as there are processors

    @property
    def required(self) -> bool:
        """Whether there is to be no package without it: it was asked for in the environment, or by this command's name."""
        return (
            os.environ.get("PSTORE_REQUIRE_NATIVE", "0") not in {"", "0"} or "build_ext" in self.distribution.commands
        )

    def run(self) -> None:
        inplace = self.inplace
        try:
            super().run()
        except Exception as error:  # whatever it is that this machine lacks
            # Neither one module without the other, nor those of an earlier build, which would pass for what failed.
            for self.inplace in {False, bool(inplace)}:
                for extension in self.extensions:
                    Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            if self.required:
                raise
            text = f"{type(error).__name__}: {error}".strip().replace("\n", "\n    ")
            print(WARNING.format(line="*" * 110, error=text), file=sys.stderr)  # noqa: T201  # pip shows it with -v
            self.leave_out()

    def leave_out(self) -> None:
        """Make what is built a distribution with no extension modules, whose wheel is good for every platform."""
        self.extensions = self.distribution.ext_modules = []
        wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
        if wheel:
            wheel.root_is_pure = True

    def build_extensions(self) -> None:
        from Cython.Build import cythonize  # where it is missing this fails as a missing compiler does

        # Before the C compilers run in parallel, which Cython can't; and not into the source.
        translated = cythonize(self.extensions, build_dir=self.build_temp, force=self.force)
        for extension, c in zip(self.extensions, translated, strict=True):
            extension.sources, extension.depends = c.sources, c.depends
            if self.compiler.compiler_type != "msvc" and "CFLAGS" not in os.environ:
                extension.extra_compile_args = OPTIONS
        super().build_extensions()


setup(
    packages=[*find_packages(include=HERE), *(f"pstore.{name}" for name in find_packages(include=MAPPED))],
    ext_modules=[Extension(source.removesuffix(".pyx").replace("/", "."), [source]) for source in SOURCES],
    cmdclass={"build_ext": BuildNative},
)
