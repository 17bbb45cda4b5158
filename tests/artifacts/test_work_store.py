"""The work store: publishing again, continuing after a kill, and never passing half for whole."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from unittest.mock import Mock

import pytest

from realign.artifacts import command as commands
from realign.artifacts.command import Command, Input, Interrupted, Job, Output, UserError, execute
from realign.artifacts.manifest import (
    ManifestError,
    content_hash,
    make_manifest,
    manifest_path,
    provenance_path,
    read_manifest,
    record_beside,
)
from realign.artifacts.provenance import read_provenance
from realign.artifacts.store import Work, WorkStore
from realign.runs import tools
from realign.study.base import Section, setting

RUNS = []


class Settings(Section):
    factor: int = setting(2, "How many times.")


def run(job: Job[Settings]) -> None:
    RUNS.append(job.settings.factor)
    text = job.input("source").read_text() * job.settings.factor
    (job.output("model")).mkdir()
    (job.output("model") / "weights").write_text(text)
    job.output("report").write_text(json.dumps({"length": len(text)}))
    job.note(origin="a test")


COMMAND = Command(
    name="toy",
    help="A toy.",
    run=f"{__name__}:run",
    settings=Settings,
    inputs={"source": Input("Text.")},
    outputs={"model": Output("A directory.", manifest=True), "report": Output("Counts.")},
)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    RUNS.clear()
    monkeypatch.setattr(commands, "_function", lambda reference: run)
    monkeypatch.setattr(Command, "code", "c0de")
    source = tmp_path / "source.txt"
    source.write_text("words")
    outputs = {"model": tmp_path / "made/model", "report": tmp_path / "made/report.json"}

    def go(factor=2, **more):
        execute(
            COMMAND,
            Settings(factor=factor),
            {"source": source},
            outputs,
            WorkStore(tmp_path / ".work"),
            **more,
        )
        return outputs

    go.source, go.outputs, go.root = source, outputs, tmp_path
    return go


def test_outputs_manifest_and_provenance_are_published(toy):
    made = toy()
    assert (made["model"] / "weights").read_text() == "wordswords"
    manifest = read_manifest(made["model"])
    assert manifest == make_manifest(made["model"])
    assert content_hash(made["model"]) == manifest.hash
    assert not manifest_path(made["report"]).exists()
    record = json.loads(provenance_path(made["report"]).read_text())
    assert record["settings"] == {"factor": 2}
    assert record["origin"] == "a test"
    assert record["inputs"]["source"][0]["hash"] == content_hash(toy.source)


def test_a_folder_of_tidy_results_holds_tables_alone(toy):
    toy.outputs["report"] = table = toy.root / "tiny/tidy/measures/a--vs--b/report.parquet"
    table.parent.mkdir(parents=True)
    record_beside(table).write_text("{}")  # of an older version
    toy()
    assert [p.name for p in (toy.root / "tiny/tidy").rglob("*") if p.is_file()] == ["report.parquet"]
    record = toy.root / "tiny/provenance/measures/a--vs--b/report.parquet.provenance.json"
    assert read_provenance(table) == json.loads(record.read_text())
    record.unlink()
    record_beside(table).write_text('{"command": "older"}')
    assert read_provenance(table) == {"command": "older"}


def test_equal_work_is_published_again_without_being_done(toy):
    made = toy()
    first = manifest_path(made["model"]).read_bytes()
    (made["model"] / "weights").unlink()
    made["report"].unlink()
    toy()
    assert len(RUNS) == 1
    assert (made["model"] / "weights").read_text() == "wordswords"
    assert manifest_path(made["model"]).read_bytes() == first


def test_an_input_rewritten_with_the_same_bytes_costs_nothing(toy):
    toy()
    toy.source.write_text("words")
    toy()
    assert len(RUNS) == 1


@pytest.mark.parametrize("change", ["input", "settings", "code"])
def test_changed_input_settings_or_code_is_other_work(toy, change, monkeypatch):
    toy()
    if change == "input":
        toy.source.write_text("other")
    if change == "code":
        monkeypatch.setattr(Command, "code", "0ther")
    toy(factor=3 if change == "settings" else 2)
    assert len(RUNS) == 2


def test_force_does_the_work_again(toy):
    toy()
    toy(force=True)
    assert len(RUNS) == 2


def test_damaged_sealed_work_is_done_again(toy):
    toy()
    sealed = next((toy.root / ".work").glob("toy-*/out/model/weights"))
    sealed.unlink()
    toy()
    assert len(RUNS) == 2


def test_weights_that_do_not_fit_their_manifest_are_refused(toy):
    made = toy()
    (made["model"] / "weights").write_text("cut")
    with pytest.raises(ManifestError, match="delete it and run its rule again"):
        content_hash(made["model"])


def edit_in_place(path, later):
    """Change a file without changing its size, some seconds after it was published."""
    path.write_bytes(b"W" + path.read_bytes()[1:])
    moment = time.time() + later
    os.utime(path, (moment, moment))


def test_an_edit_in_place_that_keeps_the_size_is_noticed(toy, monkeypatch):
    monkeypatch.setattr("realign.artifacts.store.LINK_FROM_BYTES", 1)  # so that it reaches the store too
    made = toy()
    assert content_hash(made["model"]) == read_manifest(made["model"]).hash
    edit_in_place(made["model"] / "weights", later=5)
    with pytest.raises(ManifestError, match="weights was changed after it was made"):
        content_hash(made["model"])
    toy()
    assert len(RUNS) == 2  # what was sealed is the same file, so it is made anew
    assert (made["model"] / "weights").read_text() == "wordswords"
    assert content_hash(made["model"]) == read_manifest(made["model"]).hash


def test_a_file_that_was_only_touched_is_still_what_it_was(toy, monkeypatch):
    monkeypatch.setattr("realign.artifacts.store.LINK_FROM_BYTES", 1)
    made = toy()
    moment = time.time() + 5
    os.utime(made["model"] / "weights", (moment, moment))
    assert content_hash(made["model"]) == read_manifest(made["model"]).hash
    toy()
    assert len(RUNS) == 1


def test_the_workflows_mark_in_a_folder_is_no_content(toy, capsys):
    made = toy()
    (made["model"] / ".snakemake_timestamp").touch()
    assert tools.show([str(made["model"]), "--verify"]) == 0
    assert "1 files" in capsys.readouterr().out
    (made["model"] / "more").touch()
    with pytest.raises(UserError, match="not what its manifest says"):
        tools.show([str(made["model"]), "--verify"])


def test_show_tells_each_place_once_and_what_was_accepted(tmp_path, capsys):
    entry = {"path": str(tmp_path / "raw"), "hash": "0"}
    (tmp_path / "raw").touch()
    change = {
        "made_with_code": "c0de",
        "when": "today",
        "changed_modules": ["realign.a"],
        "reason": "a rename",
    }
    for name, inputs in (
        ("model", [entry]),
        ("score", [{"path": str(tmp_path / "model"), "hash": "1"}, entry]),
    ):
        (tmp_path / name).touch()
        record = {
            "command": "toy", "made": "then", "code": "new", "settings": {}, "libraries": {}, "host": {},
            "threads": 1, "seconds": 2, "inputs": {"all": inputs}, "accepted": [change],
        }  # fmt: skip
        provenance_path(tmp_path / name).write_text(json.dumps(record))
    assert tools.show([str(tmp_path / "score")]) == 0
    said = capsys.readouterr().out
    assert said.count(f"{tmp_path / 'raw'}  (given, not made here)") == 1
    assert (
        "made with code c0de; accepted for other code on today\n  changed: realign.a\n  reason: a rename"
        in said
    )


def test_the_store_of_single_commands_is_listed_too(toy, capsys):
    toy()
    (toy.root / "tiny").mkdir()
    shutil.copytree(toy.root / ".work", toy.root / "tiny/.work")
    assert tools.store(["--results", str(toy.root)]) == 0
    said = capsys.readouterr().out
    assert f"{toy.root}/.work: 1 entries" in said
    assert f"{toy.root}/tiny/.work: 1 entries" in said


def test_finished_work_can_stand_under_another_key(toy):
    made = toy()
    store = WorkStore(toy.root / ".work")
    (entry,) = store.entries()
    old, heir = Work(entry.folder), store.work("toy", "other")
    assert old.hand_over(heir, {"reason": "said so"})
    assert heir.sealed().outputs == old.sealed().outputs
    assert heir.sealed().provenance == {"reason": "said so"}
    assert (heir.out / "model/weights").read_text() == (made["model"] / "weights").read_text()
    assert not store.work("toy", "absent").hand_over(store.work("toy", "third"), {})
    assert not store.work("toy", "third").folder.exists()


def test_a_missing_output_is_an_error_and_nothing_is_published(toy, monkeypatch):
    monkeypatch.setattr(commands, "_function", lambda reference: lambda job: job.output("model").mkdir())
    with pytest.raises(FileNotFoundError, match="report"):
        toy()
    assert not toy.outputs["model"].exists()
    assert not manifest_path(toy.outputs["model"]).exists()


def test_scratch_survives_a_failure_and_goes_with_success(toy, monkeypatch):
    def fails(job):
        (job.scratch / "shard").write_text("done")
        raise RuntimeError("killed")

    monkeypatch.setattr(commands, "_function", lambda reference: fails)
    with pytest.raises(RuntimeError):
        toy()

    def continues(job):
        assert (job.scratch / "shard").read_text() == "done"
        run(job)

    monkeypatch.setattr(commands, "_function", lambda reference: continues)
    toy()
    assert not list((toy.root / ".work").glob("*/scratch"))


def test_the_cost_of_work_is_that_of_all_its_attempts(toy, monkeypatch):
    clock = iter([100, 130, 200, 270, 300, 305, 400, 401])  # attempts of 30, 70, 5 and 1 seconds
    monkeypatch.setattr("realign.artifacts.store.time", Mock(monotonic=lambda: next(clock)))
    for end in (Interrupted("saved"), KeyboardInterrupt()):
        monkeypatch.setattr(commands, "_function", lambda reference, end=end: Mock(side_effect=end))
        with pytest.raises(type(end)):
            toy()
    monkeypatch.setattr(commands, "_function", lambda reference: run)
    assert json.loads(provenance_path(toy()["model"]).read_text())["seconds"] == 105
    toy(force=True)  # done anew: what the first time took is no part of it
    assert json.loads(provenance_path(toy.outputs["model"]).read_text())["seconds"] == 1


def test_work_says_what_it_used_of_processors_and_memory_in_all_its_processes(toy, monkeypatch, capsys):
    busy = "import time\nkept = bytes(range(256)) * 800_000\nwhile time.process_time() < 0.4: pass"  # 200 MB

    def works(job):
        subprocess.run([sys.executable, "-c", busy], check=True)
        run(job)

    monkeypatch.setattr(commands, "_function", lambda reference: works)
    made = toy()["model"]
    used = json.loads(provenance_path(made).read_text())
    assert 0.4 <= used["cpu_seconds"] < 5
    assert 200 < used["peak_memory_mb"] < 100_000
    tools.show([str(made)])
    assert f"{used['cpu_seconds']} s of CPU, " in capsys.readouterr().out


def test_prune_takes_old_work_and_leaves_what_is_published(toy):
    made = toy()
    store = WorkStore(toy.root / ".work")
    assert store.prune(older_than_days=1) == []
    assert [e.command for e in store.prune(older_than_days=-1)] == ["toy"]
    assert store.entries() == []
    assert (made["model"] / "weights").read_text() == "wordswords"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"version": 1, "outputs": {"model": {}}}'])
def test_a_damaged_seal_means_that_the_work_is_done_again(toy, text):
    toy()
    next((toy.root / ".work").glob("toy-*/sealed.json")).write_text(text)
    made = toy()
    assert len(RUNS) == 2
    assert (made["model"] / "weights").read_text() == "wordswords"


def test_work_in_progress_is_never_pruned(toy):
    toy()
    store = WorkStore(toy.root / ".work")
    holder = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from realign.artifacts.store import Work
        with Work(Path(sys.argv[1])).locked():
            print("held", flush=True)
            sys.stdin.read()
        """
    )
    folder = store.entries()[0].folder
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    assert store.prune(older_than_days=-1) == []
    process.communicate()
    assert [e.folder for e in store.prune(older_than_days=-1)] == [folder]


def test_a_neighbour_of_a_users_own_is_left_alone(toy):
    made = toy()
    own = made["model"].with_name(".model.backup")
    own.write_text("mine")
    toy()
    assert own.read_text() == "mine"


def test_large_files_are_linked_not_copied(toy, monkeypatch):
    monkeypatch.setattr("realign.artifacts.store.LINK_FROM_BYTES", 1)
    made = toy()
    sealed = next((toy.root / ".work").glob("toy-*/out/model/weights"))
    assert sealed.stat().st_ino == (made["model"] / "weights").stat().st_ino


PUBLISHER = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from realign.artifacts.store import Work, WorkStore
    root, place, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    done = 0

    def count(event, _):
        # every change to the file system that sealing and publishing make passes here
        global done
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.utime", "shutil.rmtree"):
            done += 1
            if done == last:
                os.kill(os.getpid(), signal.SIGKILL)

    work = WorkStore(root).work("kill", "key")
    with work.locked():
        sys.addaudithook(count)
        seal = work.sealed()
        if seal is None:
            work.begin()
            model = work.out / "model"
            model.mkdir()
            for i in range(12):
                (model / f"part{i}").write_bytes(bytes([i]) * (2 << 20 if i % 3 else 2000))
            seal = work.seal({"model": model}, {})
        sealed = done
        work.publish(seal, {"model": place}, frozenset({"model"}))
    print(sealed, done)
    """
)


def test_a_killed_publish_never_passes_for_finished(tmp_path):
    """SIGKILL at random file operations of sealing and publishing: a manifest is there only with all it lists."""
    chooser = random.Random(7)
    place = tmp_path / "made/model"

    def publish(last=0):
        words = [sys.executable, "-c", PUBLISHER, str(tmp_path / ".work"), str(place), str(last)]
        return subprocess.run(words, capture_output=True, text=True)

    first = publish()
    assert first.returncode == 0, first.stderr
    sealed, done = map(int, first.stdout.split())
    again = int(publish().stdout.split()[1])  # from work that is sealed already, over what is published
    reference = make_manifest(place)
    deaths = [*chooser.sample(range(1, sealed), 3), *chooser.sample(range(sealed + 1, done), 4)]
    for fresh, last in [
        *((True, n) for n in deaths),
        *((False, n) for n in chooser.sample(range(1, again), 4)),
    ]:
        if fresh:
            shutil.rmtree(tmp_path / ".work", ignore_errors=True)
            shutil.rmtree(tmp_path / "made", ignore_errors=True)
        else:
            assert publish().returncode == 0
        assert publish(last).returncode == -signal.SIGKILL
        manifest = read_manifest(place)
        if manifest is not None:
            assert manifest == reference == make_manifest(place)
    assert publish().returncode == 0
    assert make_manifest(place) == read_manifest(place) == reference
    left = {"model", "model.manifest.json", "model.provenance.json"}
    assert {path.name for path in place.parent.iterdir()} == left


def test_others_may_read_results_as_far_as_the_umask_says(tmp_path):
    """safetensors, for one, writes files for their owner alone."""
    work = WorkStore(tmp_path).work("train", "abc")
    for mask, mode in ((0o022, 0o644), (0o027, 0o640), (0o077, 0o600)):
        work.begin()
        weights = work.out / "model" / "model.safetensors"
        weights.parent.mkdir()
        weights.write_bytes(b"w")
        weights.chmod(0o600)
        before = os.umask(mask)
        try:
            work.seal({"model": weights.parent}, {})
        finally:
            os.umask(before)
        assert weights.stat().st_mode & 0o777 == mode


def test_weights_that_were_linked_from_the_works_own_scratch_are_for_others_to_read(tmp_path):
    """As a training's are, whose model a kill must not lose on its way."""
    work = WorkStore(tmp_path).work("train", "abc")
    work.begin()
    (work.scratch / "weights").write_bytes(b"w")
    (work.scratch / "weights").chmod(0o600)
    (work.out / "model").hardlink_to(work.scratch / "weights")
    before = os.umask(0o027)
    try:
        work.seal({"model": work.out / "model"}, {})
    finally:
        os.umask(before)
    assert (work.out / "model").stat().st_mode & 0o777 == 0o640


def test_a_file_that_was_linked_in_keeps_its_rights(tmp_path):
    mine = tmp_path / "mine"
    mine.write_bytes(b"w")
    mine.chmod(0o600)
    work = WorkStore(tmp_path / "store").work("import_path", "abc")
    work.begin()
    (work.out / "model").hardlink_to(mine)
    work.seal({"model": work.out / "model"}, {})
    assert mine.stat().st_mode & 0o777 == 0o600
