"""The plan: what would run and why, read from Snakemake's own objects."""

import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from realign.artifacts.command import UserError
from realign.artifacts.store import WorkStore, work_key
from realign.runs import plan
from realign.runs.cost import Cost, cost_of, measured_hours, total
from realign.runs.dag import PlannedJob, planned_jobs
from realign.runs.flow import read_config
from realign.runs.kept import kept_jobs
from realign.runs.plan import RunPlan, Step
from realign.study.resources import Resources

SNAKEFILE = """
    import json
    SETTINGS = json.load(open("settings.json"))
    def job(name):
        return json.dumps(dict(settings=SETTINGS[name], code=SETTINGS["code"], store="s"))
    rule all:
        input: "results/toy/figure.txt", "results/toy/model"
    rule train:
        output: model=directory("results/toy/model"), manifest="results/toy/model.manifest.json"
        params: job=lambda wc: job("train")
        benchmark: "results/toy/benchmarks/train/one.tsv"
        resources: gpu=4
        shell: "mkdir {output.model}; echo w > {output.model}/weights; echo same > {output.manifest}"
    rule figure:
        input: manifest="results/toy/model.manifest.json", data=ancient("results/toy/model")
        output: "results/toy/figure.txt"
        params: job=lambda wc: job("figure")
        shell: "echo done > {output}"
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(textwrap.dedent(SNAKEFILE))
    (tmp_path / "config.yaml").write_text("study: {name: toy}\nbackbones: {}\n")
    settings = {"train": {"temperature": 0.02, "nested": {"k": [1, 2]}}, "figure": {"dpi": 200}, "code": "c0"}

    def change(**sections):
        for name, value in sections.items():
            settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
        (tmp_path / "settings.json").write_text(json.dumps(settings))

    def run():
        words = [
            sys.executable,
            "-m",
            "snakemake",
            "-c1",
            "-q",
            "all",
            "--rerun-triggers",
            "mtime",
            "input",
            "params",
        ]
        subprocess.run(words, check=True, capture_output=True)

    def whys():
        return {step.rule: step.why for step in plan.make_plan(tmp_path / "Snakefile").steps}

    change()
    toy.change, toy.run, toy.whys = change, run, whys
    return toy


def test_what_is_not_made_is_planned_then_nothing_is(toy):
    assert toy.whys() == {"train": "not made yet", "figure": "not made yet; follows train"}
    toy.run()
    assert toy.whys() == {}
    assert plan.render(plan.RunPlan((), (), Resources())) == "Nothing to be done."


def test_a_changed_setting_is_named_and_only_its_rule_is_stale(toy):
    toy.run()
    toy.change(figure={"dpi": 300})
    assert toy.whys() == {"figure": "settings: dpi 200 → 300"}


def test_a_setting_upstream_reaches_what_follows(toy):
    toy.run()
    toy.change(train={"nested": {"k": [1, 3]}})
    assert toy.whys() == {
        "train": "settings: nested.k[1] 2 → 3",
        "figure": "follows train",
    }


def test_changed_code_is_said(toy):
    toy.run()
    toy.change(code="c1")
    # Snakemake itself compares no parameters of a job that follows another; the plan does
    assert toy.whys() == {
        "train": "code: changed since its last run",
        "figure": "code: changed since its last run; follows train",
    }


def test_of_long_values_the_part_that_differs_is_shown(toy):
    long = "the same beginning of a long instruction, then "
    toy.change(figure={"text": long + "one"})
    toy.run()
    toy.change(figure={"text": long + "another"})
    assert toy.whys()["figure"] == 'settings: text …ion, then one" → …ion, then another"'


def test_no_more_than_three_settings_are_spelt_out(toy):
    toy.run()
    toy.change(figure={"dpi": "x" * 99, "a": 1, "b": 2, "c": 3, "d": 4})
    why = toy.whys()["figure"]
    assert why == "settings: a null → 1, b null → 2, c null → 3 and 2 more"


def test_config_is_read_as_a_run_reads_it():
    assert read_config(["recipes={full: {loss: {temperature: 0.05}}}", "accept_cost=3"]) == {
        "recipes": {"full": {"loss": {"temperature": "0.05"}}},
        "accept_cost": 3,
    }
    with pytest.raises(UserError, match=r"takes no dots in a key; write 'a=\{b: \{c: 1\}\}'"):
        read_config(["a.b.c=1"])
    with pytest.raises(UserError, match="name=value"):
        read_config(["a"])


def test_deleted_weights_behind_an_intact_manifest_are_noticed(toy, tmp_path):
    toy.run()
    shutil.rmtree(tmp_path / "results/toy/model")
    assert toy.whys()["train"] == "what it made was deleted"


def test_a_manifest_rewritten_with_equal_bytes_makes_nothing_stale(toy, tmp_path):
    toy.run()
    manifest = tmp_path / "results/toy/model.manifest.json"
    manifest.write_bytes(manifest.read_bytes())
    assert toy.whys() == {}


def test_a_file_that_a_run_takes_away_meanwhile_is_looked_at_again(toy, tmp_path, monkeypatch):
    from realign.runs import dag

    real, looks = dag._planned_jobs, []

    def planned(*words):
        looks.append(words)
        if len(looks) < 3:
            raise UserError("the workflow can't be planned: Unable to obtain modification time of file a.txt")
        return real(*words)

    monkeypatch.setattr(dag, "_planned_jobs", planned)
    monkeypatch.setattr(dag.time, "sleep", lambda seconds: None)
    assert toy.whys()["train"] == "not made yet"
    assert len(looks) == 3


def sealed(store, command, inputs, settings, outputs):
    """Finished work as a run leaves it; the hashes of what it made, and its provenance."""
    hashes = {name: [sha for _, sha in given] for name, given in inputs.items()}
    key = work_key(command, hashes, settings, "c0")
    work = store.work(command, key)
    work.begin()
    for name, text in outputs.items():
        (work.out / name).write_text(text)
    given = {n: [{"path": path, "hash": sha} for path, sha in entries] for n, entries in inputs.items()}
    record = {"command": command, "key": key, "inputs": given, "settings": settings, "code": "c0"}
    seal = work.seal({name: work.out / name for name in outputs}, record)
    return {name: manifest.hash for name, manifest in seal.outputs.items()}, record


def test_going_back_to_settings_whose_work_is_sealed_costs_seconds_all_the_way_down(tmp_path, monkeypatch):
    """train and what follows it were made with x=1, then with x=2; x=1 comes back."""
    monkeypatch.chdir(tmp_path)
    store = WorkStore(tmp_path / "store")
    records = {}
    for x in (1, 2):
        made, records["train"] = sealed(store, "train", {}, {"x": x}, {"model": f"weights {x}"})
        _, records["mine"] = sealed(
            store, "mine", {"model": [("m", made["model"])]}, {}, {"rows": f"rows {x}"}
        )
    for name, place in (("train", "m"), ("mine", "r")):
        (tmp_path / f"{place}.provenance.json").write_text(json.dumps(records[name]))

    def planned(x):
        now = {"settings": {"x": x}, "code": "c0", "store": str(store.root)}
        train = PlannedJob("train", {}, ("m",), {"model": "m"}, before={"settings": {}}, now=now)
        now = now | {"settings": {}}
        mine = PlannedJob("mine", {}, ("r",), {"rows": "r"}, before=now, now=now, after=("train",))
        return [train, mine]

    assert kept_jobs(planned(1)) == {"train", "mine"}
    assert kept_jobs(planned(3)) == set()
    unnamed = [replace(planned(1)[0], outputs=("m", "s"), named_outputs={"other": "m"}), planned(1)[1]]
    assert kept_jobs(unnamed) == {"train"}


@pytest.mark.parametrize(
    ("hours", "said"),
    [(1e-7, "under 1 s"), (0.01, "36 s"), (99.7 / 3600, "1.7 min"), (0.5, "30 min"), (2, "2 h")],
)
def test_times_are_said_as_people_say_them(hours, said):
    assert plan.span(hours) == said


def test_a_study_is_told_from_a_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "results/toy/report.html"
    made.parent.mkdir(parents=True)
    for file in (tmp_path / "mine", made):
        file.touch()
    words = ["mine", "gone.yaml", "train", "results/toy/report.html"]
    assert [plan._is_study(word) for word in words] == [True, True, False, False]


def test_costs_come_from_measurements_then_the_study_then_a_guess(toy, tmp_path):
    for key, seconds in (("a", 30), ("b", 36), ("c", 90)):
        work = tmp_path / f"results/toy/.work/train-{key}"
        work.mkdir(parents=True)
        (work / "sealed.json").write_text(
            json.dumps({"provenance": {"command": "train", "seconds": seconds}})
        )
    (work.parent / "train-d").mkdir()
    (work.parent / "train-d/sealed.json").write_text("{")
    (work.parent / "mine-e").mkdir()
    (work.parent / "mine-e/sealed.json").write_text('{"provenance": {"command": "mine", "seconds": null}}')
    measured = measured_hours(tmp_path / "results/toy/.work")
    assert measured == {"train": 0.01}
    job = PlannedJob("train", {"backbone": "large"}, resources={"gpu": 4})
    study = Resources.model_validate({"rules": {"train": {"hours": 3}}})
    assert cost_of(job, measured, study) == Cost(0.01, 0.04, "measured")
    assert cost_of(job, {}, study) == Cost(3, 12, "study")
    usual = Resources.model_validate({"rules": {"train": {"hours": 3, "usual_hours": 2}}})
    assert cost_of(job, {}, usual) == Cost(2, 8, "study")
    large = Resources.model_validate({"backbones": {"large": {"train": {"hours": 7}}}})
    assert cost_of(job, measured, large) == Cost(7, 28, "study")  # what others took says little of it
    assert cost_of(job, {}, Resources()).source == "guess"
    assert cost_of(job, measured, study, kept=True) == Cost(0, 0, "kept")
    publishes = PlannedJob("publish_scores", {"model": "m", "task": "t"}, resources={"gpu": 1})
    assert cost_of(publishes, {"publish_scores": 5.0}, study).gpu_hours == 0  # evaluate_warm's count already
    (tmp_path / "model.provenance.json").write_text(json.dumps({"seconds": 7200}))
    own = PlannedJob("train", {"backbone": "large"}, ("model",), resources={"gpu": 4})
    assert cost_of(own, measured, large) == Cost(2, 8, "measured")
    assert total([Cost(1, 2, "measured"), Cost(1, 0, "guess")]) == Cost(2, 2, "guess")


def step(rule, why, minutes, source="guess", jobs=1):
    made = tuple(PlannedJob(rule, {"n": str(n)}) for n in range(jobs))
    return Step(rule, why, made, Cost(minutes / 60, 0, source))


STEPS = (
    step("problems", "settings: train 10 → 20", 0.1),
    step("train", "not made yet; follows mine", 90, "study", jobs=3),
    step("train", "it has other inputs than before", 10, "measured"),
    *(step(f"figure_{n}", f"not made yet; follows rule_{n}", 0.12) for n in range(30)),
    step("claims", "not made yet", 0.12),
    step("report", "follows claims", 0),
)


def rendered(*steps, **how):
    return [
        " ".join(line.split()) for line in plan.render(RunPlan(steps, (), Resources()), **how).splitlines()
    ]


def test_what_costs_next_to_nothing_shares_a_line_with_what_made_it_stale():
    assert rendered(*STEPS) == [
        "rule jobs cost why",
        "problems 1 6 s (guessed) settings: train 10 → 20",
        "train 3 1.5 h (stated) not made yet",
        "train 1 10 min it has other inputs than before",
        "report 1 under 1 s (guessed) follows claims",
        "small ones 31 3.7 min (guessed) not made yet: 30 figures and tables, claims",
        "all 37 1.73 h of jobs, one after the other (87 % stated, 4 % guessed)",
        "(realign plan --all: a line for each rule)",
    ]


def test_a_rule_has_one_line_for_a_cause_whatever_its_jobs_follow():
    steps = (
        step("extract", "not made yet; follows check_pair, import_path", 30, jobs=2),
        step("extract", "not made yet; follows check_pair, train", 30, jobs=3),
        step("hrsa_linear", "follows extract", 30),
        step("hrsa_linear", "follows import_path", 30),
        step("claims", "follows hrsa_linear", 30),
    )
    assert rendered(*steps)[1:] == [
        "extract 5 1 h (guessed) not made yet",
        "hrsa_linear 2 1 h (guessed) follows what runs before it",
        "claims 1 30 min (guessed) follows hrsa_linear",
        "all 8 2.5 h of jobs, one after the other (100 % guessed)",
        "(realign plan --all: a line for each rule)",
    ]
    assert rendered(*steps, each_rule=True)[2].endswith("not made yet; follows check_pair, train")


def test_each_rule_has_its_line_where_that_is_asked_for():
    assert len(rendered(*STEPS, each_rule=True)) == 1 + len(STEPS) + 1
    assert "figure_7(n=0)" in rendered(*STEPS, each_job=True)


def test_what_is_redrawn_alone_says_why_once():
    steps = [step(f"table_{n}", "settings: dpi 200 → 300; follows claims", 0.12) for n in range(9)]
    assert rendered(*steps)[1:] == [
        "small ones 9 65 s (guessed) settings: dpi 200 → 300: 9 figures and tables",
        "all 9 65 s of jobs, one after the other (100 % guessed)",
        "(realign plan --all: a line for each rule)",
    ]


def test_what_is_kept_is_never_counted_among_what_is_made():
    kept = step("mine", "what it made was deleted", 0, "kept"), step("pairs", "not made yet", 0, "kept")
    assert rendered(*kept, step("claims", "not made yet", 0.1, "measured"))[1:] == [
        "mine 1 kept: seconds what it made was deleted",
        "pairs 1 kept: seconds not made yet",
        "claims 1 6 s not made yet",
        "all 3 6 s of jobs, one after the other",
    ]
    assert rendered(*kept)[-1] == "all 2 kept: seconds"


def test_a_gpu_rule_is_small_only_beside_the_gpu_hours_of_all():
    costs = (("train", 100.0), ("checkpoint", 0.5), ("collect_scores", 0.0))
    steps = [
        Step(rule, "not made yet", (PlannedJob(rule),), Cost(0.001, gpu, "study")) for rule, gpu in costs
    ]
    assert [line.split()[0] for line in rendered(*steps)] == ["rule", "train", "small", "all", "(realign"]


def test_a_workflow_that_cannot_be_planned_is_a_clear_error(toy, tmp_path):
    (tmp_path / "Snakefile").write_text("rule all:\n    input: 'nowhere.txt'\n")
    with pytest.raises(UserError, match="can't be planned"):
        planned_jobs(tmp_path / "Snakefile", tmp_path)


def test_a_misspelt_target_is_told_with_the_rule_that_is_near(toy, tmp_path):
    with pytest.raises(UserError, match=r"'trian' is no rule and .*did you mean 'train'"):
        planned_jobs(tmp_path / "Snakefile", tmp_path, targets=["trian"])


def test_a_folder_is_no_study(toy, tmp_path):
    (tmp_path / "studies").mkdir()
    with pytest.raises(UserError, match=r"'studies' is no rule .* name the study's file"):
        plan.main(["studies", "--snakefile", "Snakefile"])


def test_a_rule_is_planned_also_where_a_folder_has_its_name(toy, tmp_path, capsys):
    (tmp_path / "figure").mkdir()
    assert plan.main(["figure", "--snakefile", "Snakefile"]) == 0
    assert "not made yet" in capsys.readouterr().out


def test_the_study_can_be_named_as_a_run_names_it(toy, tmp_path, capsys):
    (tmp_path / "config.yaml").rename(tmp_path / "mine.yaml")
    assert plan.main(["mine.yaml", "train", "--all", "--snakefile", "Snakefile"]) == 0
    said = capsys.readouterr().out
    assert "not made yet" in said
    assert "figure" not in said
