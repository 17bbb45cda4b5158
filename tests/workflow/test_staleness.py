"""The promise: this change → exactly these rules, and nothing else."""

import shutil

import pytest

from realign.artifacts import fingerprint
from realign.runs.dag import planned_jobs


@pytest.fixture
def study(made_up_run, monkeypatch):
    monkeypatch.chdir(made_up_run)
    monkeypatch.delenv("REALIGN_RUN", raising=False)

    def stale(config=None, **options):
        jobs = planned_jobs(made_up_run / "Snakefile", made_up_run, config=config, **options)
        return {job.rule for job in jobs if not job.follows}, {job.rule for job in jobs}

    return stale


@pytest.fixture
def edited(monkeypatch):
    """Pretend that a module's code was edited."""
    read = fingerprint._read

    def edit(module):
        assert fingerprint._file_of(module, fingerprint.ROOT), module

        def edited_read(name, path):
            digest, named = read(name, path)
            return ("edited" if name == module else digest), named

        monkeypatch.setattr(fingerprint, "_read", edited_read)

    return edit


def test_a_finished_study_has_nothing_to_do(study):
    assert study() == (set(), set())


def test_resources_make_nothing_stale(study):
    changed = {"resources": {"rules": {"train": {"threads": 1, "memory_gb": 9, "hours": 2, "gpus": 1}}}}
    assert study(changed) == (set(), set())
