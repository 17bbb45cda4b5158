"""Fingerprints leave out the rooms of settings, so nothing in them may decide a result but by its slice."""

import ast
import inspect
import typing
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from types import FunctionType

from realign.artifacts.fingerprint import ROOT, _files, reachable
from realign.commands import STAGES, load_command
from realign.study.base import Section, setting

SETTINGS = ("realign.study.", "realign.plan.", "realign.runs.", "realign.tools.")
# Names that stages take from those rooms although they are no settings, with the reason why that is sound.
COMPUTED = (FunctionType, property, cached_property, classmethod, staticmethod)
DECLARED = "names declared files: another name is another output or input of the rule"
SOUND = {
    "realign.study.errors.nearest": "words of an error, and a job that fails publishes nothing",
    "realign.study.evaluation.SUFFIXES": DECLARED,
    "realign.study.evaluation.TASK_FILES": DECLARED,
    "realign.study.evaluation.WARM_DONE": "a word for the next plan, which reads it and is not fingerprinted",
    "realign.study.hrsa.FEWEST_GROUPS": "words of a log",
    "realign.study.text.SHAPES": DECLARED,
    "realign.study.text.SPLITS": DECLARED,
    "realign.study.text.TASKS": DECLARED,
    "realign.study.text.output_of": DECLARED,
    "realign.study.description.Description.parts": DECLARED,
}


def computing_modules() -> dict[str, ast.Module]:
    """Every module that a stage's fingerprint counts."""
    names = {m for name in STAGES for m in reachable(load_command(name).run.split(":")[0])}
    files = _files(ROOT)  # without the templates that pages are made from
    return {name: ast.parse(files[name].read_bytes()) for name in sorted(names & set(files))}


def imported(tree: ast.Module) -> Iterator[tuple[str, object]]:
    """What a module takes from rooms of settings: full names and objects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(SETTINGS):
            for alias in node.names:
                yield f"{node.module}.{alias.name}", getattr(import_module(str(node.module)), alias.name)


def sections_in(annotation: object) -> set[type[Section]]:
    """The sections that a value of this type can hold, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        inside = (sections_in(field.annotation) for field in annotation.model_fields.values())
        return {annotation}.union(*inside)
    return set().union(*map(sections_in, typing.get_args(annotation)))


def computed(section: type[Section]) -> dict[str, str]:
    """What a section computes beyond what its slice holds resolved: full names by attribute."""
    resolved = inspect.getsource(section.as_slice)
    return {
        name: f"{owner.__module__}.{owner.__name__}.{name}"
        for owner in section.__mro__[: section.__mro__.index(Section)]
        for name, member in vars(owner).items()
        if isinstance(member, COMPUTED) and not name.startswith(("_", "model_"))
        if name != "as_slice" and f"self.{name}" not in resolved
    }


def left_out_code(tree: ast.Module) -> Iterator[str]:
    """The names of code and constants in rooms of settings that a module's results follow from."""
    sections: set[type[Section]] = set()
    for name, taken in imported(tree):
        if inside := sections_in(taken):
            sections |= inside
        elif typing.get_origin(taken) is None:  # no type either, such as a choice of words
            yield name
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    read -= {field for section in sections for field in section.model_fields}  # values, as far as names tell
    for section in sections:
        yield from (full for name, full in computed(section).items() if name in read)


def test_no_code_that_fingerprints_leave_out_decides_results():
    found = {
        module: sorted(set(left_out_code(tree)) - set(SOUND)) for module, tree in computing_modules().items()
    }
    assert {module: names for module, names in found.items() if names} == {}


def test_every_exception_is_still_needed():
    used = {name for tree in computing_modules().values() for name in left_out_code(tree)}
    assert set(SOUND) <= used


def test_a_setting_is_left_out_of_slices_by_its_declaration_alone():
    class Made(Section):
        batch: int = setting(8, "A size.", stales=False)
        rate: float = setting(0.1, "A rate.")

    assert Made(batch=1).as_slice() == Made(batch=2).as_slice() == {"rate": 0.1}
    settings = {load_command(name).settings for name in STAGES}
    of_their_own = {s.__name__ for s in settings if "as_slice" in vars(s)}
    assert of_their_own == {"Train", "Description"}  # one resolves lengths, one leaves out defaults
