"""The source files of installed packages, read as text and never imported.

A package is found through its installed metadata, so the files are the ones that its version
ships. Tests, vendored copies of other projects and generated files are left out.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from realign.artifacts.command import UserError

# Folders whose text is a test's, another project's or nobody's.
_LEFT_OUT = re.compile(
    r"(^|/)(_?tests?|testing|_testing|conftest\.py|test_[^/]*|externals?|_?vendor(ed)?|third_?party"
    r"|_?array_api(_compat|_extra)?|benchmarks?|_build_utils|setup\.py|cobyqa|_uarray|pyprima|_highspy)(/|$)"
)


@dataclass(frozen=True)
class Source:
    """One module of a package: its dotted name, its text and its syntax tree."""

    package: str
    module: str
    lines: tuple[str, ...]
    tree: ast.Module


def read_sources(package: str, version: str) -> Iterator[Source]:
    """The modules of an installed package in the order of their names."""
    for name, file in _files(package, version):
        text = file.read_text(encoding="utf-8", errors="replace")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            try:
                tree = ast.parse(text)
            except SyntaxError:
                continue  # a template or a file for another Python: it holds no module of this one
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        yield Source(package, module, tuple(text.splitlines()), tree)


def _files(package: str, version: str) -> list[tuple[str, Path]]:
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"the embedded corpora need the package '{package}', which is not installed; "
            "install the locked set (make setup), or take it out of text.train_packages or "
            "text.heldout_packages"
        ) from None
    if distribution.version != version:
        raise UserError(
            f"{package} {distribution.version} is installed, and this run was planned with {version}"
        )
    listed = [(f.as_posix(), Path(str(f.locate()))) for f in distribution.files or () if f.suffix == ".py"]
    files = sorted((name, file) for name, file in listed if not _LEFT_OUT.search(name) and file.is_file())
    if not files:
        raise UserError(f"{package} {version}: its installation lists no source file; install it with pip")
    return files
