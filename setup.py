"""The packages of a build, from the folders themselves: the links in quatrain/ may be lost."""

from pathlib import Path

from setuptools import find_packages, setup

# Where pyproject.toml says nothing of packages, this file does.
FOLDERS = ("compiler", "passes", "runtime", "targets", "tools")
TOP = Path(__file__).parent

setup(
    packages=[
        "quatrain",
        *(f"quatrain.{folder}" for folder in FOLDERS),
        *(f"quatrain.{f}.{inner}" for f in FOLDERS for inner in find_packages(str(TOP / f))),
    ],
    package_dir={f"quatrain.{folder}": folder for folder in FOLDERS},
)
