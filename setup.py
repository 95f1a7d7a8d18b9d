"""What pyproject.toml can't say: the packages, found instead of listed, with backends/ mapped to `pstore.backends`."""

from setuptools import find_packages, setup

HERE = ["pstore", "pstore.*"]
MAPPED = ["backends", "backends.*"]  # the directory is mapped by `package-dir` in pyproject.toml

setup(packages=[*find_packages(include=HERE), *(f"pstore.{name}" for name in find_packages(include=MAPPED))])
