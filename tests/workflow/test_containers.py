"""Jobs in a container, as far as that shows without one: what the workflow asks Apptainer to run."""

import copy
import random

import pytest

from micro_study import LOCAL, STUDY, TOPICS, Place, sentence, write_lines

pytestmark = pytest.mark.slow

# Stands in for Apptainer: notes its words and runs the command, its last word, on this machine.
APPTAINER = """#!/usr/bin/env bash
[ "$1" = exec ] || { echo "apptainer version 1.3.0"; exit; }
printf '%s\\n' "$@" > called.txt
exec bash -c "${@: -1}"
"""


def test_a_job_runs_in_the_image_with_the_words_that_a_user_gives(tmp_path, monkeypatch):
    place = Place(tmp_path / "there", copy.deepcopy(STUDY))
    draw = random.Random(0)
    texts = [{"text": sentence(draw, topic), "label": topic} for topic in TOPICS for _ in range(20)]
    write_lines(place.folder / "given" / "texts.jsonl", texts)
    (place.folder / "realign.sif").touch()
    (tmp_path / "apptainer").write_text(APPTAINER)
    (tmp_path / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    made = "results/micro/text/probes/words.jsonl"
    place.run(*LOCAL, "--sdm", "apptainer", "--apptainer-args=--nv", "--", made)
    assert (place.folder / made).is_file()
    words = (place.folder / "called.txt").read_text().splitlines()
    assert words[words.index("--home") + 1] == str(place.folder)
    assert words.index("--nv") < words.index("realign.sif") < words.index("bash")
    assert "realign probe_corpus --job" in words[-1]
