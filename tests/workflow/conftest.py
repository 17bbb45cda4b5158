"""A made-up run of a real workflow: every declared file appears, nothing is computed.

What the workflow plans depends on files, time stamps and recorded parameters, never on what the
files hold. So a stand-in `realign` that only makes the files lets a test ask what a change makes
stale, for the whole embedded study, in seconds.
"""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Whatever path below results/ an option names and is not there is an output: make it, as a folder
# if its name has no suffix, and a manifest beside it.
STAND_IN = """#!/usr/bin/env bash
set -eu
for word in "$@"; do
    case "$word" in results/*) ;; *) continue ;; esac
    case "$word" in */logs/*) continue ;; esac
    [ -e "$word" ] && continue
    mkdir -p "$(dirname "$word")"
    case "$(basename "$word")" in
        *.*) echo made > "$word" ;;
        *) mkdir "$word"; echo made > "$word/file" ;;
    esac
    echo manifest > "$word.manifest.json"
done
"""


# A study of two backbones from a hub: what the embedded study, which is made here, has none of.
FETCHED = """
study: {name: fetched, seeds: [0]}
backbones:
  base: {hub: org/base, revision: "1111111111111111111111111111111111111111"}
  tuned: {hub: org/tuned, revision: "2222222222222222222222222222222222222222"}
pairs: [{left: base, right: tuned, kind: rlvr}]
data: {datasets: {summaries: {embedded: summary-description}, code: {embedded: description-code}}}
mining: {lexical: {}}
recipes: {full: {}}
hrsa: {corpora: [docs], backbone_attention: [bidirectional]}
evaluation: {backbones: false, tasks: {DocsSTS: {type: sts, embedded: DocsSTS, benchmark: Docs}}}
"""

# A base and a tune with two checkpoints on the way.
PATH = """
study: {name: path}
backbones:
  base: {pretrain: {}}
  tuned: {sft: {from: base, checkpoints: [10, 20]}}
pairs: [{left: base, right: tuned, kind: sft}]
hrsa: {corpora: [docs], backbone_attention: [bidirectional]}
"""


def make_up(folder: Path, study: str) -> Path:
    """A working folder in which a study has been 'run' by the stand-in."""
    # The workflow itself finds the commands of its environment first.
    first = f'\nimport os\nos.environ["PATH"] = "{folder}/bin:" + os.environ["PATH"]\n'
    (folder / "Snakefile").write_text((ROOT / "Snakefile").read_text() + first)
    (folder / "config.yaml").write_text(study)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    stand_in = folder / "bin" / "realign"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN)
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    environment = {k: v for k, v in os.environ.items() if k != "REALIGN_RUN"}
    words = [sys.executable, "-m", "snakemake", "--cores", "8", "--quiet", "all"]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="session")
def made_up_run(tmp_path_factory):
    """The embedded study, 'run'."""
    return make_up(tmp_path_factory.mktemp("study"), (ROOT / "config.yaml").read_text())


@pytest.fixture(scope="session")
def fetched_run(tmp_path_factory):
    """A study with backbones from a hub, 'run'."""
    return make_up(tmp_path_factory.mktemp("fetched"), FETCHED)


@pytest.fixture(scope="session")
def path_run(tmp_path_factory):
    """A study with checkpoints of a backbone's own run, 'run'."""
    return make_up(tmp_path_factory.mktemp("path"), PATH)
