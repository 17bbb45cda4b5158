"""Documented functions and classes: what they say of themselves, section by section, and their code.

Docstrings in the numpy and in the Google style are cut into their sections, and the prose is freed
of markup, so that what is left reads as a person would write it.
"""

import ast
import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from realign.text.sources import Source

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_UNDERLINE = re.compile(r"^\s*(-{3,}|={3,}|~{3,}|\*{3,})\s*$")
_GOOGLE = re.compile(
    r"^(Args|Arguments|Parameters|Params|Returns?|Yields?|Raises|Examples?|Notes?|Attributes|References"
    r"|See Also|Methods|Warnings?|Explanation|Other Parameters|Keyword Args|Usage|Todo)\s*:\s*$"
)
_FIELD = re.compile(r"^\s*:(param|type|return|returns|rtype|raises?|arg|keyword|ivar|cvar)\b")
_TEMPLATE = re.compile(r"%\([A-Za-z_.:]+\)s|(?<!\{)\{[A-Za-z_]+\}(?!\})|\$\{?[A-Z_]{3,}")
_SAID_BESIDE = re.compile(r"^(\w+)(?: ?\([^)]*\))?:\s+(\S+(?: \S+){2,})$")  # as Google writes a parameter
_CALL = re.compile(r"^[\w.]+\([^()]*\)$")  # a signature where a sentence is expected
_DIRECTIVE = re.compile(r"^\s*\.\. ")


@dataclass(frozen=True)
class Parameter:
    """A documented parameter: its name and what is said of it."""

    name: str
    text: str


@dataclass(frozen=True)
class Entry:
    """One documented function, method or class of a package."""

    package: str
    module: str
    name: str
    kind: str
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    see_also: tuple[str, ...]
    example: str
    code: str

    @property
    def id(self) -> str:
        """The dotted name, which no other entry has."""
        return f"{self.module}.{self.name}"

    @property
    def topic(self) -> str:
        """What the entry is about, as its package files it."""
        return topic_of(self.module)

    @property
    def text(self) -> str:
        """Summary and description together."""
        return f"{self.summary}\n\n{self.description}" if self.description else self.summary


_GENERIC_FOLDERS = {"algorithms", "core", "lib", "src", "base", "utils", "util"}


def topic_of(module: str) -> str:
    """The first telling part of a module's name below its package: `sklearn.cluster._dbscan` → cluster."""
    package, *parts = module.split(".")
    telling = [p.strip("_") for p in parts if p.strip("_") not in _GENERIC_FOLDERS]
    return telling[0] if telling else package


def read_entries(source: Source) -> Iterator[Entry]:
    """The public documented functions and classes of a module, in the order of the file."""
    yield from _entries(source, source.tree, "")


def _entries(source: Source, node: ast.AST, prefix: str) -> Iterator[Entry]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try):
            yield from _entries(source, child, prefix)
        if not isinstance(child, Documented) or child.name.startswith("_"):
            continue
        if _is_overload(child):
            continue
        name = f"{prefix}{child.name}"
        if docstring := ast.get_docstring(child):
            yield _entry(source, child, name, docstring, "method" if prefix else _kind(child))
        if isinstance(child, ast.ClassDef):
            yield from _entries(source, child, f"{name}.")


def _kind(node: Documented) -> str:
    return "class" if isinstance(node, ast.ClassDef) else "function"


def _is_overload(node: Documented) -> bool:
    """Whether a definition only repeats another one's documentation: a typed overload or a setter."""
    names = {getattr(d, "attr", getattr(d, "id", "")) for d in node.decorator_list}
    return bool(names & {"overload", "setter"})


def _entry(source: Source, node: Documented, name: str, docstring: str, kind: str) -> Entry:
    sections = split_sections(docstring)
    summary, description = _prose(sections[""])
    notes = "\n\n".join(prose_of(sections[key]) for key in ("Explanation", "Notes") if key in sections)
    return Entry(
        package=source.package,
        module=source.module,
        name=name,
        kind=kind,
        summary=summary,
        description="\n\n".join(x for x in (description, notes) if x),
        parameters=tuple(_parameters(sections.get("Parameters", []))),
        see_also=tuple(_see_also(sections.get("See Also", []))),
        example="\n".join(_doctest(sections.get("Examples", sections.get("Example", [])))),
        code=code_of(source, node) if kind != "class" else "",
    )


def split_sections(docstring: str) -> dict[str, list[str]]:
    """A docstring's lines by section; what stands before the first section is under ''."""
    lines = docstring.expandtabs().splitlines()
    sections: dict[str, list[str]] = {"": []}
    current = sections[""]
    skip = False
    for i, line in enumerate(lines):
        if skip:
            skip = False
            continue
        following = lines[i + 1] if i + 1 < len(lines) else ""
        google = _GOOGLE.match(line.strip())
        if line.strip() and _UNDERLINE.match(following) and len(line.strip()) < 40:
            if not any(text.strip() for text in sections[""]):  # a title above the text
                skip = True
                continue
            current = sections.setdefault(_section_name(line), [])
            skip = True
        elif google or _FIELD.match(line):
            current = sections.setdefault(_section_name(google[1]) if google else "Fields", [])
        else:
            current.append(line)
    return sections


def _section_name(line: str) -> str:
    name = line.strip().rstrip(":")
    return {"Args": "Parameters", "Arguments": "Parameters", "Params": "Parameters", "Note": "Notes"}.get(
        name, name
    )


def _prose(lines: list[str]) -> tuple[str, str]:
    """Summary and description: the first paragraph of the prose, and the rest of it."""
    first, *rest = list(_blocks(lines)) or [""]
    summary = clean_markup(" ".join(first.split()))
    return (summary if _is_prose(summary) else ""), _joined(rest)


def prose_of(lines: list[str]) -> str:
    """The paragraphs of prose in a section, one line each; code, formulas, tables and lists of names go."""
    return _joined(_blocks(lines))


def _joined(blocks: Iterable[str], whole: bool = True) -> str:
    cleaned = (clean_markup(" ".join(block.split())) for block in blocks)
    if whole:
        cleaned = (_whole_sentences(block) for block in cleaned)
    return "\n\n".join(block for block in cleaned if _is_prose(block))


_FRAGMENT = re.compile(r"^(where|with|and|or|for|so|then|i\.e\.|is)\b")
_LAST_END = re.compile(r"^.*(?<!i\.e)(?<!e\.g)[.!?][)\"']?(?=\s|$)", re.DOTALL)


def _whole_sentences(block: str) -> str:
    """A paragraph without what only led to a formula or to code that is gone."""
    whole = _LAST_END.match(block)
    return "" if whole is None or _FRAGMENT.match(block) else whole[0]


def _blocks(lines: list[str]) -> Iterator[str]:
    """Paragraphs outside directives and literal blocks."""
    paragraph: list[str] = []
    hidden_from: int | None = None  # lines indented deeper than this belong to a directive
    goes_on = False  # what follows a formula in small letters goes on with its sentence
    for line in [*textwrap.dedent("\n".join(lines)).splitlines(), ""]:
        indent = len(line) - len(line.lstrip())
        if hidden_from is not None:
            if not line.strip() or indent > hidden_from:
                continue
            hidden_from, goes_on = None, True
        if _DIRECTIVE.match(line) or line.rstrip().endswith("::"):
            hidden_from = indent
            if line.rstrip().endswith("::") and not _DIRECTIVE.match(line):
                paragraph.append(line.rstrip().rstrip(":"))
            line = ""
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            if not (goes_on and paragraph[0].strip()[:1].islower()):
                yield "\n".join(paragraph)
            paragraph, goes_on = [], False


_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"\(?(?:Read|See) more (?:in|about)[^`.]*:\w+:`[^`]*`[^.`]*\.?\)?"),
        "",
    ),  # read more in the guide
    (  # citations, and the words that lead to them
        re.compile(r"(?:[\s,]*\b(?:see|See|in|Refs?\.|reference|from|and|by))*[\s,]*\[[\w.+-]{1,30}\]_"),
        "",
    ),
    (re.compile(r":(?:[a-z]+:)?[a-z]+:`~?\.?([^`<]*?)\s*<[^`>]*>`"), r"\1"),  # :ref:`title <target>`
    (re.compile(r":(?:[a-z]+:)?[a-z]+:`[~!]?([^`]*)`"), r"\1"),  # :func:`name`
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{1,2}"), r"\1"),  # `text <url>`_
    (re.compile(r"``([^`]*)``"), r"\1"),
    (re.compile(r"`[~!]?\.?([^`]*)`_?"), r"\1"),
    (re.compile(r"\*\*([^*\s][^*]*)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"\1"),
    (re.compile(r"\|([A-Za-z][\w. ]*)\|"), r"\1"),
    (re.compile(r"\\([*_`|])"), r"\1"),
)


def clean_markup(text: str) -> str:
    """Prose without reStructuredText roles, links, emphasis and citations."""
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _is_prose(block: str) -> bool:
    """Whether a paragraph is sentences rather than code, a table, a list of names or a template."""
    if block.startswith((">>>", "|", "+--", "..", "[", "#", ":", "===")) or _TEMPLATE.search(block):
        return False
    if _CALL.match(block):
        return False
    words = re.findall(r"[A-Za-z]{2,}", block)
    letters = sum(map(len, words))
    return len(words) >= 3 and letters >= 0.55 * len(block.replace(" ", ""))


def _parameters(lines: list[str]) -> Iterator[Parameter]:
    """The parameters of a section and what is said of them: `name : type` and a block, or `name: text`."""
    body = textwrap.dedent("\n".join(lines)).splitlines()
    starts = [i for i, line in enumerate(body) if line.strip() and not line.startswith(" ")]
    for start, end in itertools.pairwise([*starts, len(body)]):
        said = _SAID_BESIDE.match(body[start])
        name = said[1] if said else body[start].split(" :")[0].split(":")[0].strip().strip("*`")
        below = body[start + 1 : end]
        text = _joined(_blocks([said[2], *map(str.strip, below)] if said else below), whole=False)
        if text and re.fullmatch(r"\w+(\s*,\s*\w+)*", name):
            yield Parameter(name, text.replace("\n\n", " "))


def _see_also(lines: list[str]) -> Iterator[str]:
    for line in textwrap.dedent("\n".join(lines)).splitlines():
        if line and not line.startswith(" "):
            for name in clean_markup(line.split(" : ")[0].split(": ")[0]).split(","):
                if re.fullmatch(r"[A-Za-z_][\w.]*", name.strip()):
                    yield name.strip()


def _doctest(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line.strip().startswith((">>> ", "... ")):
            yield line.strip()[4:].split("  # doctest:")[0]


def code_of(source: Source, node: Documented) -> str:
    """A function's code without its docstring and decorators."""
    first = node.body[0]
    below = source.lines[first.end_lineno : node.end_lineno]
    above = source.lines[node.lineno - 1 : first.lineno - 1]
    if len(node.body) < 2 or first.lineno == node.lineno:
        return ""
    return textwrap.dedent("\n".join([*above, *below])).strip()
