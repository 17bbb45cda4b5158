"""`realign init`: a study to start from; `realign demo`: the embedded study, run in this folder."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from realign.artifacts.command import UserError
from realign.runs.flow import DEFAULT_STUDY, workflow_folder
from realign.runs.run import main as run
from realign.study.base import NAME_PATTERN
from realign.study.errors import StudyError
from realign.study.load import load_study
from realign.study.starter import starter

PROFILE = Path("profiles/slurm/config.yaml")  # where Snakemake looks for `--workflow-profile slurm`


def main(words: Sequence[str]) -> int:
    """Write a commented study and check that it reads back."""
    shipped = shipped_studies()
    parser = argparse.ArgumentParser("realign init", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("file", type=Path, help="the study file to write")
    parser.add_argument("--name", help="the study's name (default: the file's)")
    parser.add_argument("--like", choices=shipped, help="start from a study that comes with Realign")
    parser.add_argument(
        "--slurm", action="store_true", help=f"also write {PROFILE}, to edit for your cluster"
    )
    arguments = parser.parse_args(words)
    file: Path = arguments.file
    name = arguments.name or file.stem
    if not re.match(NAME_PATTERN, name):
        raise StudyError(file, [f"'{name}' is no usable name: letters, digits, '.', '_' and '-'"])
    for path in (file, *([PROFILE] if arguments.slurm else [])):
        if path.exists():
            raise StudyError(path, ["exists already; choose another name or delete it first"])
    if arguments.like:
        text = shipped[arguments.like].read_text(encoding="utf-8")
        text = re.sub(r"(?m)^  name: .*$", f'  name: "{name}"', text, count=1)
    else:
        text = starter(file.as_posix(), name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    try:
        load_study(file)
    except StudyError:
        file.unlink()
        raise
    if arguments.slurm:
        PROFILE.parent.mkdir(parents=True, exist_ok=True)
        PROFILE.write_bytes((workflow_folder() / "workflow" / PROFILE).read_bytes())
        print(f"{PROFILE} written: set your account and partition there, then add --workflow-profile slurm")
    print(f"{file} written; next: realign plan {file}")
    return 0


def shipped_studies() -> dict[str, Path]:
    """The studies that come with Realign, by name."""
    studies = sorted((workflow_folder() / "studies").glob("*.yaml"))
    return {"tiny": workflow_folder() / "config.yaml", **{path.stem: path for path in studies}}


def demo(words: Sequence[str]) -> int:
    """Run the embedded study here; its file is written first where there is none."""
    if words[:1] and words[0] in ("-h", "--help"):
        print("usage: realign demo [SNAKEMAKE'S OPTIONS]\n\n" + (demo.__doc__ or ""))
        return 0
    embedded = shipped_studies()["tiny"].read_bytes()
    if not DEFAULT_STUDY.exists():
        DEFAULT_STUDY.write_bytes(embedded)
    elif DEFAULT_STUDY.read_bytes() != embedded:
        raise UserError(
            f"{DEFAULT_STUDY} here is not the embedded study: run the demo in an empty folder, or your study "
            f"with realign run {DEFAULT_STUDY}"
        )
    return run(words)
