"""The promise: this change → exactly these rules, and nothing else."""

import pytest
import yaml

from realign.artifacts import fingerprint
from realign.commands import STAGES, load_command
from realign.runs.dag import planned_jobs

HRSA = {"hrsa_linear", "hrsa_neighbours", "hrsa_probe", "hrsa_extra"}


@pytest.fixture
def study(made_up_run, monkeypatch):
    monkeypatch.chdir(made_up_run)
    monkeypatch.delenv("REALIGN_RUN", raising=False)

    def stale(config=None):
        """The rules that a change makes stale by itself, and all rules that would run with them."""
        jobs = planned_jobs(made_up_run / "Snakefile", made_up_run, config=config)
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


# A change of the study → the rules that it makes stale by itself.
SETTINGS = [
    # a study describes its recipes, and two tables and the figure of costs print them
    (
        "recipes.full.loss.temperature",
        0.05,
        {"train", "describe_study", "table_5", "table_6", "figure_cost"},
    ),
    ("recipes.full.hardware.token_budget", 4096, set()),
    ("mining.relative_margin", 0.1, {"mine"}),
    ("evaluation.max_length", 48, {"evaluate_warm", "publish_scores"}),
    ("evaluation.prompts", {"DocsSTS": "Compare"}, {"evaluate_warm", "publish_scores"}),
    (
        "hrsa.probe.seeds",  # which captions tell, too
        4,
        {"hrsa_probe", "describe_study", "figure_4", "figure_12", "figure_13", "table_2"},
    ),
    ("hrsa.neighbours.k", [5], {"hrsa_neighbours"}),
    ("states.tokens.count", 2000, {"extract"}),
    ("text.problems.heldout", 200, {"problems"}),
    ("figures.style.dpi", 300, "figures"),
]


def nested(setting, value):
    """A setting's dotted path and its value, as sections in one another."""
    for key in reversed(setting.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize(("setting", "value", "expected"), SETTINGS, ids=[s for s, *_ in SETTINGS])
def test_a_setting_makes_exactly_its_rules_stale(study, setting, value, expected):
    own, _ = study(nested(setting, value))
    if expected == "figures":
        figures = {name for name in STAGES if name.startswith("figure_")}
        figures -= {
            "figure_paths",
            "figure_dose",
            "figure_audit",
        }  # the study has no series and audits nothing
        assert own == {"describe_study", *figures}
    else:
        assert own == expected


def test_the_temperature_reaches_what_embedders_feed_and_no_backbone(study):
    _, all_rules = study(nested("recipes.full.loss.temperature", 0.05))
    assert {"train", "extract", "publish_scores", "hrsa_linear", "claims", "report"} <= all_rules
    assert not all_rules & {"mine", "pretrain", "rlvr", "sft", "score_backbone", "corpora", "problems"}


# An edited module → the rules that it makes stale by themselves.
MODULES = [
    ("realign.training.loss", {"train"}),
    ("realign.hrsa.cka", {"hrsa_linear"}),
    ("realign.mining.mine", {"mine"}),
    ("realign.evaluation.encoder", {"evaluate_warm", "publish_scores"}),
    ("realign.study.recipe", set()),
    ("realign.runs.plan", set()),
    ("realign.engine.progress", set()),
]


@pytest.mark.parametrize(("module", "expected"), MODULES, ids=[m for m, _ in MODULES])
def test_edited_code_makes_exactly_its_rules_stale(study, edited, module, expected):
    edited(module)
    own, _ = study()
    assert own == expected


def test_every_rule_that_computes_has_a_fingerprint(made_up_run):
    study = yaml.safe_load((made_up_run / "config.yaml").read_text())
    assert study["study"]["name"] == "tiny"
    assert len({load_command(name).code for name in STAGES}) > len(STAGES) / 2


def test_a_pair_of_ones_own_runs_its_own_jobs_and_no_others(made_up_run, monkeypatch):
    """Four lines more in the study: one backbone, one pair (docs/tutorial.md, step 4)."""
    monkeypatch.chdir(made_up_run)
    monkeypatch.delenv("REALIGN_RUN", raising=False)
    pairs = yaml.safe_load((made_up_run / "config.yaml").read_text(encoding="utf-8"))["pairs"]
    more = {
        "backbones": {"longer": {"rlvr": {"from": "base", "optimisation": {"steps": 120}}}},
        "pairs": [*pairs, {"left": "base", "right": "longer", "kind": "rlvr"}],
    }
    jobs = planned_jobs(made_up_run / "Snakefile", made_up_run, config=more)
    own = {job.rule for job in jobs if any("longer" in value for value in job.wildcards.values())}
    others = {job.rule for job in jobs if not any("longer" in value for value in job.wildcards.values())}
    assert {"rlvr", "check_pair", "score_backbone", "train", "checkpoint", "extract"} <= own
    assert {"evaluate_warm", "publish_scores"} | HRSA <= own
    plates = {name for name in STAGES if name.startswith(("figure_", "table_"))}
    assert others <= {"describe_study", "batch_orders", "claims", "report", *plates}
    assert not any("untrained" in output or "sft" in output for job in jobs for output in job.outputs)
