"""Choosing and freezing a study for a run."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from realign.artifacts.command import RUN_VARIABLE, UserError
from realign.names import EmbedderId
from realign.plan.evaluations import EvaluationPlan
from realign.runs import frozen
from realign.runs.flow import (
    EMBEDDER,
    Flow,
    accepted_cost,
    backbone_in,
    changes_of,
    choose_study,
    find_commands,
    have_a_cache,
    open_study,
)
from realign.runs.frozen import freeze, hand_on
from realign.runs.supervisor import memory_record
from realign.study.errors import StudyError
from realign.study.load import parse_study

STUDY = {"study": {"name": "mine"}, "backbones": {}}


@pytest.fixture(autouse=True)
def no_run(monkeypatch):
    monkeypatch.delenv(RUN_VARIABLE, raising=False)


def write(path, **changes):
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return path


def test_a_given_study_replaces_the_default_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "config.yaml", study={"name": "tiny", "seeds": [5, 6]})
    assert open_study([], {}).study.name == "tiny"
    given = write(tmp_path / "mine.yaml")
    study = open_study([given], {})
    assert study.study.name == "mine"
    assert study.study.seeds == (0,)  # nothing of the default study shines through


def test_two_studies_are_refused():
    with pytest.raises(StudyError, match="never merged"):
        choose_study(["a.yaml", "b.yaml"])


def test_config_lays_changes_over_the_study(tmp_path):
    path = write(tmp_path / "mine.yaml")
    study = open_study([path], {"study": {"seeds": ["3", "4"]}})
    assert study.study.seeds == (3, 4)
    assert study.study.name == "mine"
    # Snakemake leaves what lies within a section as text
    assert changes_of({"a": {"b": "null", "c": ["1", "x"]}, "d": 2}) == {
        "a": {"b": None, "c": [1, "x"]},
        "d": 2,
    }


def test_what_a_run_may_cost_is_no_part_of_the_study(tmp_path):
    path = write(tmp_path / "mine.yaml")
    assert open_study([path], {"accept_cost": 40}) == open_study([path], {})
    assert accepted_cost({"accept_cost": 40}) == 40
    assert accepted_cost({}) == 0
    with pytest.raises(StudyError, match=r"accept_cost: GPU-hours are a number, 0 or more \(got 'much'\)"):
        accepted_cost({"accept_cost": "much"})


def test_a_running_job_keeps_the_study_its_run_began_with(tmp_path, monkeypatch):
    path = write(tmp_path / "mine.yaml")
    study = open_study([path], {})
    record = frozen.name_run(tmp_path / ".runs")
    assert not record.exists()  # naming a run writes nothing
    frozen.freeze(record, study.model_dump(mode="json"))
    write(tmp_path / "mine.yaml", study={"name": "mine", "seeds": [8]})
    assert open_study([path], {}).study.seeds == (0,)
    monkeypatch.delenv(RUN_VARIABLE)
    assert open_study([path], {}).study.seeds == (8,)


class Stage:
    name, run, code = "toy", "realign.seeds:derive_seed", "new"


def test_a_job_whose_code_changed_stops_and_names_the_module(tmp_path):
    record = frozen.name_run(tmp_path / ".runs")
    record.parent.mkdir()
    content = {"code": {"toy": "old"}, "modules": {"toy": {"realign.seeds": "other"}}, "study": STUDY}
    record.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"code changed after this run was planned \(.*realign\.seeds"):
        frozen.check_frozen(Stage, None)
    record.write_text(json.dumps(content | {"code": {"toy": "new"}}))
    frozen.check_frozen(Stage, "old")  # the record of the run decides


def test_outside_a_run_the_rules_own_word_decides():
    frozen.check_frozen(Stage, None)
    frozen.check_frozen(Stage, "new")
    with pytest.raises(UserError, match="start the workflow again"):
        frozen.check_frozen(Stage, "old")


def test_a_rules_parameter_is_canonical(tmp_path, monkeypatch):
    import realign.runs.flow as module

    flow = Flow(open_study([write(tmp_path / "mine.yaml")], {}))
    monkeypatch.setattr(module, "load_command", lambda name: Stage)
    text = flow.job("toy", flow.study.study)
    assert json.loads(text) == {
        "code": "new",
        "settings": flow.study.study.as_slice(),
        "store": "results/mine/.work",
    }
    assert text == flow.job("toy", flow.study.study)


def resources_of(tmp_path, rule, log_of=None, attempt=1, **wildcards):
    """A job's resources as Snakemake works them out, from its own kind of wildcards."""
    from snakemake.iocontainers import Wildcards

    given = {
        "backbones": {"big": {"path": "x"}, "small": {"path": "x"}},
        "resources": {
            "rules": {"train": {"gpus": 1, "memory_gb": 8, "hours": 2}},
            "backbones": {"big": {"train": {"gpus": 4, "gpu_model": "h100", "nodes": 2, "memory_gb": 64}}},
        },
    }
    flow = Flow(open_study([write(tmp_path / "mine.yaml", **given)], {}), log_of)
    limits = flow.limits(rule, memory_gb=4, gpus=0 if rule == "train" else None)
    of = Wildcards(fromdict=wildcards)
    grows = {"mem_mb"} if log_of else set()
    return {k: (v(of, attempt) if k in grows else v(of)) if callable(v) else v for k, v in limits.items()}


def test_resources_are_those_of_the_jobs_own_backbone(tmp_path):
    small = resources_of(tmp_path, "train", backbone="small")
    assert (small["gpu"], small["nodes"], small["mem_mb"], small["runtime"]) == (1, 1, 8000, 120)
    assert small["gres"] == ""
    big = resources_of(tmp_path, "train", backbone="big")
    assert (big["gres"], big["nodes"], big["mem_mb"]) == ("gpu:h100:4", 2, 64000)
    assert (small["gpus_given"], big["gpus_given"]) == (1, 4)  # those that a process finds
    assert big["gpu"] == 0  # a number of GPUs for the whole job would not say where they are
    other = resources_of(tmp_path, "evaluate", model="big+full+s0")
    assert other["mem_mb"] == 4000
    assert not {"gpu", "gpus_given", "nodes"} & set(other)


@pytest.mark.parametrize(
    "wildcards",
    [{"backbone": "big"}, {"model": "big+full+s0+step4"}, {"comparison": "big+full+s0--vs--small+full+s0"}],
)
def test_a_jobs_backbone_is_found_in_its_wildcards(wildcards):
    from snakemake.iocontainers import Wildcards

    assert backbone_in(Wildcards(fromdict=wildcards)) == "big"
    assert backbone_in(wildcards) == "big"


def test_memory_grows_only_where_a_lack_of_it_was_recorded(tmp_path):
    log = tmp_path / "train.log"

    def ask(attempt):
        return resources_of(tmp_path, "train", lambda *_: log, attempt, backbone="small")["mem_mb"]

    assert ask(1) == ask(5) == 8000
    memory_record(log).write_text('{"too_little_mb": 8000}')
    assert ask(2) == 12000


def test_where_one_backbone_has_a_partition_the_others_keep_the_profiles(tmp_path):
    from snakemake.resources import Resources

    given = {
        "backbones": {"big": {"path": "x"}, "small": {"path": "x"}},
        "resources": {
            "rules": {"train": {"gpus": 1, "gpu_model": "h100", "hours": 0.001}},
            "backbones": {"big": {"train": {"partition": "long", "gpus": 0}}},
        },
    }
    study = open_study([write(tmp_path / "mine.yaml", **given)], {})
    for defaults, expected in (
        (Resources.parse(["slurm_partition=gpu"], allow_expressions=True), "gpu"),
        (None, ""),
    ):
        limits = Flow(study, None, defaults).limits("train", memory_gb=4)
        assert limits["slurm_partition"]({"backbone": "big"}) == "long"
        assert limits["slurm_partition"]({"backbone": "small"}) == expected
    # no kind of GPU for a job without one, and no time limit of 0, which would be none
    assert [limits["gpu_model"]({"backbone": b}) for b in ("big", "small")] == ["", "h100"]
    assert limits["runtime"]({"backbone": "small"}) == 1


@pytest.mark.parametrize("name", ["base+full+s0", "Qwen2.5-0.5B+lora_r16+s12+step200"])
def test_embedder_names_read_back(name):
    import re

    assert str(EmbedderId.parse(name)) == name
    assert re.fullmatch(EMBEDDER, name)


@pytest.mark.parametrize("name", ["base", "base+full", "base+full+0", "a+b+s1+step", "a+b+c+s1"])
def test_other_names_are_no_embedders(name):
    with pytest.raises(ValueError, match="names no embedder"):
        EmbedderId.parse(name)


def test_a_run_takes_the_instructions_of_a_file_with_it(tmp_path, monkeypatch):
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"default": "Find it", "STS17": "Compare"}')
    evaluation = {"mteb_tasks": ["STS17"], "prompts_file": str(prompts), "prompts": {"STS17": "Match"}}
    study = open_study([write(tmp_path / "mine.yaml", backbones={}, evaluation=evaluation)], {})
    record = tmp_path / "run.json"
    freeze(record, study.model_dump(mode="json"))
    prompts.write_text("half sav")
    monkeypatch.setenv("REALIGN_RUN", str(record))
    told = EvaluationPlan(open_study([tmp_path / "mine.yaml"], {}), "R")
    assert told.settings("m", "STS17").instruction.query == "Match"
    assert study.evaluation.prompts["default"].query == "Find it"


def test_a_clusters_jobs_are_given_the_record_as_their_study(tmp_path):
    from snakemake.settings.types import ConfigSettings, SharedFSUsage, StorageSettings

    study, record = write(tmp_path / "mine.yaml", backbones={}), tmp_path / "run.json"
    config = ConfigSettings(configfiles=[study])
    workflow = SimpleNamespace(config_settings=config, storage_settings=StorageSettings())
    hand_on(record, workflow)
    assert config.configfiles == [record]
    # Sources that are carried to the jobs do not hold the record; a study that was not named is not read.
    elsewhere = StorageSettings(shared_fs_usage=frozenset(SharedFSUsage.all() - {SharedFSUsage.SOURCES}))
    for given, storage in (([study], elsewhere), ([], StorageSettings())):
        workflow = SimpleNamespace(
            config_settings=ConfigSettings(configfiles=given), storage_settings=storage
        )
        hand_on(record, workflow)
        assert workflow.config_settings.configfiles == given


def test_jobs_of_different_rules_may_share_a_group(tmp_path):
    """Snakemake adds up numbers over a group's jobs; a text that one has and another lacks ends the run."""
    flow = Flow(open_study([write(tmp_path / "mine.yaml", backbones={"b": {"path": "x"}})], {}))
    for gpus in (0, None):
        assert all(
            isinstance(value, int) for value in flow.limits("hrsa_linear", memory_gb=4, gpus=gpus).values()
        )


def test_jobs_call_the_commands_of_the_environment_that_runs(tmp_path, monkeypatch):
    other, own = tmp_path / "other", tmp_path / "own"
    for folder in (other, own):
        folder.mkdir()
        (folder / "realign").write_text("#!/bin/sh\n")
        (folder / "realign").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    monkeypatch.setattr(sys, "executable", str(own / "python"))
    find_commands()
    assert shutil.which("realign") == str(own / "realign")


def test_the_workflow_catalogue_finds_what_it_reads():
    root = Path(__file__).resolve().parents[2]
    usage = yaml.safe_load((root / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert "default_target: True" in (root / "workflow/Snakefile").read_text()
    assert "realign init" in (root / "config/README.md").read_text()
    assert not [f for f in ("envs/cpu.yaml", "envs/gpu.yaml", "envs/Dockerfile") if not (root / f).is_file()]


def test_a_longer_warning_goes_over_that_of_the_profile():
    """SLURM takes the last of two equal options."""
    study = parse_study(
        {**STUDY, "resources": {"rules": {"train": {"warning_seconds": 900, "exclusive": True}}}}, "test"
    )
    profile = {"slurm_extra": SimpleNamespace(raw="'--signal=USR1@300'")}
    extra = Flow(study, defaults=profile).limits("train", memory_gb=4, gpus=0)["slurm_extra"]
    assert extra == "--signal=USR1@300 --exclusive --signal=USR1@900"


def test_a_home_that_nobody_can_write_to_is_no_hindrance(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_CACHE_HOME", "MTEB_CACHE", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, "")  # so that what the function sets is taken back
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    have_a_cache()
    assert "XDG_CACHE_HOME" not in os.environ
    monkeypatch.setenv("HOME", "/proc")  # where root can't make a folder either
    have_a_cache()
    cache = tmp_path / ".snakemake" / "cache"
    assert os.environ["XDG_CACHE_HOME"] == str(cache)
    assert os.environ["MTEB_CACHE"] == str(cache / "mteb")
    assert os.environ["MPLCONFIGDIR"] == str(cache / "matplotlib")


def test_a_sites_words_stand_beside_the_profiles_flags():
    words = {
        "account": "mine", "qos": "long", "constraint": "a100|h100", "partition": "gpu", "reservation": "course",
        "exclude": "n[7-9]", "licences": "matlab:1", "mail": "ann@example.org", "exclusive": True,
        "flags": "--nice=100 --requeue",
    }  # fmt: skip
    study = parse_study({**STUDY, "resources": {"rules": {"train": words}}}, "test")
    profile = {"slurm_extra": SimpleNamespace(raw="'--signal=USR1@300'")}
    asked = Flow(study, defaults=profile).limits("train", memory_gb=4, gpus=0)
    assert {name: asked[name] for name in ("slurm_account", "qos", "constraint", "slurm_partition")} == {
        "slurm_account": "mine", "qos": "long", "constraint": "a100|h100", "slurm_partition": "gpu",
    }  # fmt: skip
    assert shlex.split(asked["slurm_extra"]) == [
        "--signal=USR1@300", "--reservation=course", "--exclude=n[7-9]", "--licenses=matlab:1",
        "--mail-type=END,FAIL", "--mail-user=ann@example.org", "--exclusive", "--nice=100", "--requeue",
    ]  # fmt: skip


def test_flags_do_not_take_the_warning_before_a_time_limit_away():
    flags = {"flags": "--signal=TERM@60"}
    with pytest.raises(StudyError, match="use warning_seconds in place of --signal"):
        parse_study({**STUDY, "resources": {"rules": {"train": flags}}}, "test")


def test_a_training_hears_how_early_the_cluster_warns_it():
    long = parse_study({**STUDY, "resources": {"rules": {"train": {"warning_seconds": 900}}}}, "test")
    profile = {"slurm_extra": SimpleNamespace(raw="'--signal=B:USR1@300'")}
    assert Flow(long, defaults=profile).warning("train", "b") == " --warning-seconds 900"
    assert Flow(long, defaults=profile).warning("sft", "b") == " --warning-seconds 300"
    assert Flow(parse_study(STUDY, "test")).warning("train", "b") == ""
