"""The identity of the code behind a command: every module of the package that it can reach.

Imports are followed over the syntax tree, wherever in a file they stand, and so are the dotted
names of modules in strings (workers are launched by name). Comments, docstrings, annotations of
functions and layout are no part of it. Neither are rooms that carry settings and bytes but compute
nothing (`EXEMPT`): what they hand over is hashed as settings and inputs, and their formats carry
version constants. `tests/house/test_left_out.py` holds stages to that.
"""

import ast
import contextlib
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from realign.artifacts.files import write_text_whole

PACKAGE = "realign"
ROOT = Path(__file__).resolve().parents[1]
_MODULE_NAME = re.compile(rf"^{PACKAGE}(?:\.\w+)+(?=$|:)")  # also as in `module:function`
KEPT = 2000  # entries, a few times what a checkout has; those that were used least recently go first
PAGES = (".html", ".css", ".js")  # files of a package that decide what its code writes
EXEMPT = (
    "realign.cli",
    "realign.commands",
    "realign.artifacts",
    "realign.study",
    "realign.plan",
    "realign.runs",
    "realign.tools",
    "realign.engine.logs",
    "realign.engine.progress",
    "realign.engine.zygote",
)


class Memo:
    """What was found out once about some bytes, kept in the user's cache folder.

    An entry's key is a hash of everything that what was found follows from, and the file is named by the
    Python and the code that found it, so nothing here is ever out of date; no time stamp is trusted.
    A file that is damaged, or can't be read or written, merely means finding out anew.
    """

    def __init__(self, name: str, code: bytes):
        maker = hashlib.sha256(f"{sys.version}\0".encode() + code).hexdigest()[:16]
        self._name = f"{name}-{maker}.json"
        self._kept: dict[str, Any] | None = None
        self._used: dict[str, Any] = {}
        self._is_new = False

    @property
    def path(self) -> Path:
        """Where the entries lie."""
        folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (never raises)
        return Path(folder, "realign", self._name)

    def of(self, key: str, find: Callable[[], Any]) -> Any:
        """A JSON value that was found out before, or is now."""
        if self._kept is None:
            self._kept = self._read()
        if key not in self._used:
            self._is_new |= key not in self._kept
            self._used[key] = self._kept[key] if key in self._kept else find()
        return self._used[key]

    def save(self) -> None:
        """Keep what is new; of processes that save at once, one is heard."""
        if not self._is_new:
            return
        entries = {k: v for k, v in (self._kept or {}).items() if k not in self._used} | self._used
        text = json.dumps(dict(list(entries.items())[-KEPT:]))
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text_whole(self.path, f"{_hash(text)}\n{text}")
        self._is_new = False

    def _read(self) -> dict[str, Any]:
        try:
            seal, _, text = self.path.read_text(encoding="utf-8").partition("\n")
            return json.loads(text) if seal == _hash(text) else {}
        except (OSError, ValueError):
            return {}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_MEMO = Memo("syntax", Path(__file__).read_bytes())  # parsing all modules takes longer than planning


def is_exempt(module: str) -> bool:
    """Whether a module is left out of every fingerprint."""
    return f"{module}.".startswith(tuple(f"{name}." for name in EXEMPT))


@functools.cache
def _files(root: Path) -> dict[str, Path]:
    """Every module's file: one look at the folder, since thousands of names are asked for."""
    files = {}
    for path in sorted(root.rglob("*.py"), key=lambda p: p.name != "__init__.py"):  # a module hides a package
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join([PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return files


def _file_of(module: str, root: Path) -> Path | None:
    return _files(root).get(module)


def _without_words(tree: ast.Module) -> ast.Module:
    """The tree without what only people and type checkers read: docstrings, annotations of functions.

    A class's annotations stay, since they make the fields of dataclasses; a string says what it spells.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Constant):
            node.annotation = _unquoted(node.annotation)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def _unquoted(annotation: ast.Constant) -> ast.expr:
    try:
        return ast.parse(str(annotation.value), mode="eval").body
    except SyntaxError:
        return annotation


def _canonical(tree: ast.AST) -> str:
    """A syntax tree as text that is the same in every Python version: empty fields say nothing."""
    parts: list[str] = []
    _spell(tree, parts.append)
    return "".join(parts)


def _spell(node: Any, say: Callable[[str], None]) -> None:
    """Not a generator: a plan reads every module, and each value would pass through all levels above."""
    if isinstance(node, ast.AST):
        say(f"({type(node).__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != []:
                say(f" {name}=")
                _spell(value, say)
        say(")")
    elif isinstance(node, list):
        say("[")
        for item in node:
            _spell(item, say)
        say("]")
    else:
        say(repr(node))


def _named_modules(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    parts = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                kept = len(parts) - node.level + is_package
                base = ".".join([*parts[:kept], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _MODULE_NAME.findall(node.value)


@functools.cache
def _read(module: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """A module's hash and the modules of the package that it names."""
    source, is_package = path.read_bytes(), path.name == "__init__.py"
    key = hashlib.sha256(f"{module}\0{is_package}\0".encode() + source).hexdigest()
    digest, names = _MEMO.of(key, lambda: _parse(module, source, is_package))
    return digest, tuple(names)


def _parse(module: str, source: bytes, is_package: bool) -> tuple[str, list[str]]:
    tree = _without_words(ast.parse(source))
    digest = hashlib.sha256(_canonical(tree).encode()).hexdigest()
    names = _named_modules(tree, module, is_package)
    return digest, sorted({n for n in names if n.split(".")[0] == PACKAGE})


@functools.cache
def _pages(package: Path) -> dict[str, str]:
    """The templates, styles and scripts that lie in a package's folder, with their hashes."""
    found = sorted(path for path in package.iterdir() if path.suffix in PAGES)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def forget() -> None:
    """Read code anew from now on: this process has outlived what it read."""
    _files.cache_clear()
    _read.cache_clear()
    _pages.cache_clear()


def reachable(module: str, root: Path = ROOT) -> dict[str, str]:
    """Every module that `module` can reach, itself included, and their pages, with the hash of each."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or is_exempt(name):
            continue
        path = _file_of(name, root)
        if path is None:
            continue
        found[name], named = _read(name, path)
        if path.name == "__init__.py":
            found |= {f"{name}/{page}": sha for page, sha in _pages(path.parent).items()}
        parents = [name.rsplit(".", 1)[0]] if "." in name else []
        waiting.extend([*named, *parents])
    _MEMO.save()
    return dict(sorted(found.items()))


def fingerprint(module: str, root: Path = ROOT) -> str:
    """One hash for the code that a command's module can reach; short, since it stands in plans."""
    lines = "".join(f"{name} {sha}\n" for name, sha in reachable(module, root).items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def foreign_imports(module: str, root: Path = ROOT) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the code that `module` can reach imports from other packages, with the names it takes."""
    for name in reachable(module, root):
        path = _file_of(name, root)
        yield from _foreign(path) if path else ()


@functools.cache
def _foreign(path: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: set[tuple[str, tuple[str, ...]]] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, ()) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add((node.module, tuple(alias.name for alias in node.names)))
    own = {PACKAGE, *sys.stdlib_module_names}
    return tuple(sorted(entry for entry in found if entry[0].split(".")[0] not in own))
