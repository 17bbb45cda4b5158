"""One small change each, as people make them: exactly its jobs are planned, wildcards included."""

import pytest

from realign.artifacts import fingerprint
from realign.commands import STAGES
from realign.runs.dag import planned_jobs

ROOT = fingerprint.ROOT
SHOWING = ("describe_study", "claims", "report", "figures", "tables", "paper", "all")


@pytest.fixture
def planned(fetched_run, monkeypatch):
    monkeypatch.chdir(fetched_run)
    monkeypatch.delenv("REALIGN_RUN", raising=False)

    def plan(config=None):
        """The jobs that a change makes stale by itself, and the rules of all that would run."""
        jobs = planned_jobs(fetched_run / "Snakefile", fetched_run, config=config)
        own = {(job.rule, *job.wildcards.values()) for job in jobs if not job.follows}
        return own, {job.rule for job in jobs}

    return plan


@pytest.fixture
def rewritten(monkeypatch, tmp_path):
    """Let a module's file be an edited one."""
    find = fingerprint._file_of

    def rewrite(module, edit):
        path = tmp_path / "edited.py"
        path.write_text(edit(find(module, ROOT).read_text(encoding="utf-8")), encoding="utf-8")
        monkeypatch.setattr(
            fingerprint, "_file_of", lambda name, root: path if name == module else find(name, root)
        )

    return rewrite


def test_nothing_is_stale_after_a_run(planned):
    assert planned() == (set(), set())


def computing(names):
    """The rules among these that draw, print or describe nothing."""
    return {n for n in names if n not in SHOWING and not n.startswith(("figure_", "table_"))}


def test_a_figures_setting_draws_and_computes_nothing(planned):
    own, rules = planned({"figures": {"style": {"dpi": 300}}})
    figures = {name for name in STAGES if name.startswith("figure_")}
    # This study scores no backbones, so it doesn't know their sizes, and reads none with causal attention.
    # It has no series and audits nothing.
    figures -= {"figure_cost", "figure_behaviour", "figure_paths", "figure_dose", "figure_audit"}
    assert figures <= {name for name, *_ in own}
    assert computing(rules) == set()


def test_a_probes_setting_fits_the_probes_again(planned):
    own, rules = planned({"hrsa": {"probe": {"seeds": 4}}})
    assert computing(name for name, *_ in own) == {"hrsa_probe"}
    assert not rules & {"extract", "train", "evaluate", "mine", "hrsa_linear", "hrsa_neighbours"}


def test_the_temperature_trains_both_embedders_and_mines_nothing(planned):
    own, rules = planned({"recipes": {"full": {"loss": {"temperature": 0.05}}}})
    assert {job for job in own if job[0] == "train"} == {("train", b, "full", "0") for b in ("base", "tuned")}
    assert computing(name for name, *_ in own) == {"train"}
    assert not rules & {"mine", "pairs", "corpora", "fetch_hub"}


def test_a_dataset_is_mined_again_alone(planned):
    own, rules = planned({"data": {"datasets": {"code": {"limit": 100}}}})
    assert {job for job in own if job[0] == "pairs"} == {("pairs", "code")}
    assert computing(name for name, *_ in own) == {"pairs"}
    assert {"mine", "train", "evaluate"} <= rules
    assert not rules & {"corpora", "probe_corpus", "fetch_hub"}


def test_a_backbones_revision_fetches_that_backbone_alone(planned):
    own, rules = planned({"backbones": {"tuned": {"revision": "c" * 40}}})
    assert {job for job in own if job[0] == "fetch_hub"} == {("fetch_hub", "tuned")}
    assert computing(name for name, *_ in own) == {"fetch_hub"}
    assert {"train", "extract", "hrsa_linear"} <= rules
    assert not rules & {"mine", "pairs", "corpora", "probe_corpus"}


def test_a_comment_makes_nothing_stale(planned, rewritten):
    rewritten("realign.training.loss", lambda text: f"# first\n{text}\n# last\n")
    assert planned() == (set(), set())


def test_a_line_of_the_loss_trains_again(planned, rewritten):
    rewritten("realign.training.loss", lambda text: f"{text}\nONE_MORE = 1\n")
    own, rules = planned()
    assert own == {("train", b, "full", "0") for b in ("base", "tuned")}
    assert not rules & {"mine", "pairs", "corpora", "fetch_hub"}


def test_one_more_checkpoint_of_a_backbone_makes_and_measures_it_alone(path_run, monkeypatch):
    monkeypatch.chdir(path_run)
    monkeypatch.delenv("REALIGN_RUN", raising=False)
    more = {"backbones": {"tuned": {"sft": {"checkpoints": [10, 15, 20]}}}}
    jobs = planned_jobs(path_run / "Snakefile", path_run, config=more)
    computed = [job for job in jobs if computing([job.rule])]
    assert {job.rule for job in computed} >= {"sft", "score_backbone", "check_pair", "extract", "hrsa_linear"}
    assert not [job for job in computed if not any("tuned-step15" in v for v in job.wildcards.values())]
    assert [job.wildcards for job in computed if job.rule == "sft"] == [{"backbone": "tuned-step15"}]
