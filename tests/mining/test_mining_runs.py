"""Whole runs: what comes out, what is kept of a killed run, and that a text is encoded once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from mining_driver import TableTeacher, dataset, read_rows, write_rows

from realign.artifacts.command import execute
from realign.artifacts.near import NearDisk
from realign.artifacts.store import WorkStore
from realign.mining import cache, mine, pool
from realign.mining.cache import VectorCache
from realign.mining.commands import MINE
from realign.study.mining import Lexical, MineJob

OUTPUTS = ("pairs", "candidates", "margins", "report", "tidy")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(cache, "SHARD_TEXTS", 25)
    monkeypatch.setattr(pool, "SHARD_QUERIES", 20)


def mine_here(folder: Path, raw: Path, settings: MineJob, teacher, monkeypatch, **inputs):
    """Run the command in a folder of its own; returns the outputs' places."""
    if teacher is not None:
        monkeypatch.setattr(mine, "teacher_of", lambda job, texts: teacher)
    places = {name: folder / f"{name}.out" for name in OUTPUTS}
    execute(MINE, settings, {"raw": raw, **inputs}, places, WorkStore(folder / "store"))
    return places


def test_what_comes_out(tmp_path, monkeypatch):
    rows, vectors = dataset(0, 40)
    raw = write_rows(tmp_path / "raw.jsonl", rows)
    settings = MineJob(range_max=20, study="here", dataset="toy")
    made = mine_here(tmp_path, raw, settings, TableTeacher(vectors), monkeypatch)

    mined = read_rows(made["pairs"])
    assert 0 < len(mined) <= len(rows)
    texts = {p for _, positives, _ in rows for p in positives}
    for row in mined:
        assert row["query"][0] == "Instruct: t\nQuery: "
        assert len(row["neg"]) == 3
        assert set(row["neg"]) <= texts - set(row["pos"])

    table = pq.read_table(made["candidates"]).to_pandas()
    kept = table[table.reason == "kept"]
    assert len(kept) == 3 * len(mined)
    assert (kept.score <= 0.95 * kept.positive_score + 1e-6).all()
    refused = table[table.reason == "relative_margin"]
    assert (refused.score > 0.95 * refused.positive_score - 1e-6).all()
    assert set(table[table["rank"] == 0].row) == set(range(len(rows)))

    tidy = pq.read_table(made["tidy"]).to_pandas()
    assert tidy.columns.tolist() == ["study", "dataset", "statistic", "value"]
    values = tidy.set_index("statistic").value
    assert (values["pairs_in"], values["pairs_out"]) == (len(rows), len(mined))
    assert values["kept"] == 3 * len(mined)
    assert values["candidates"] == len(table)
    histogram = values[values.index.str.startswith("histogram_kept@")]
    assert histogram.sum() == values["kept"]
    assert set(tidy.study) == {"here"}


def test_the_figures_table_holds_what_was_refused_as_a_copy_or_for_want_of_a_vector(tmp_path, monkeypatch):
    rows, vectors = dataset(6, 40)
    vectors["query 6 0"] = np.zeros(12, np.float32)
    rows.append(("one more", ["PASSAGE 6 1"], []))
    vectors |= {"one more": vectors["query 6 1"], "PASSAGE 6 1": vectors["passage 6 1"]}
    raw = write_rows(tmp_path / "raw.jsonl", rows)
    settings = MineJob(range_max=40, relative_margin=None)
    made = mine_here(tmp_path, raw, settings, TableTeacher(vectors), monkeypatch)
    values = pq.read_table(made["tidy"]).to_pandas().set_index("statistic").value
    assert values["refused_no_vector"] == len(rows)  # all candidates of one query
    assert values["refused_repeated"] == len(rows) - 3  # of the others but for the two rows that own the text


def test_block_sizes_do_not_change_a_byte(tmp_path, monkeypatch):
    rows, vectors = dataset(1, 60)
    raw = write_rows(tmp_path / "raw.jsonl", rows)
    settings = MineJob(range_max=20, choose="random", seed=3)
    reference = mine_here(tmp_path / "a", raw, settings, TableTeacher(vectors), monkeypatch)
    monkeypatch.setattr(cache, "SHARD_TEXTS", 7)
    monkeypatch.setattr(pool, "SHARD_QUERIES", 11)
    other = mine_here(tmp_path / "b", raw, settings, TableTeacher(vectors), monkeypatch)
    for name in OUTPUTS:
        if name != "candidates":  # whose bytes hold its row groups
            assert reference[name].read_bytes() == other[name].read_bytes()
    assert pq.read_table(reference["candidates"]).equals(pq.read_table(other["candidates"]))


def test_vectors_that_a_search_reads_again_lie_on_the_nodes_own_disk(tmp_path, monkeypatch):
    rows, vectors = dataset(1, 40)
    raw = write_rows(tmp_path / "raw.jsonl", rows)
    settings, disk = MineJob(range_max=20, study="here", dataset="toy"), tmp_path / "disk"
    disk.mkdir()
    brought, bring = [], NearDisk.bring
    monkeypatch.setattr(NearDisk, "bring", lambda *given: brought.append(bring(*given)) or brought[-1])
    far = mine_here(tmp_path / "far", raw, settings, TableTeacher(vectors), monkeypatch)
    monkeypatch.setenv("REALIGN_LOCAL_DATA", str(disk))
    near = mine_here(tmp_path / "near", raw, settings, TableTeacher(vectors), monkeypatch)
    assert [path.is_relative_to(disk) for path in brought] == [False, False, True, True]
    assert list(disk.iterdir()) == []
    for name in ("pairs", "candidates", "margins"):
        assert near[name].read_bytes() == far[name].read_bytes()


def test_random_negatives_depend_on_the_seed_alone(tmp_path, monkeypatch):
    rows, vectors = dataset(2, 50)
    raw = write_rows(tmp_path / "raw.jsonl", rows)

    def negatives(folder, seed):
        settings = MineJob(range_max=30, choose="random", seed=seed)
        made = mine_here(tmp_path / folder, raw, settings, TableTeacher(vectors), monkeypatch)
        return made["pairs"].read_bytes()

    assert negatives("a", 1) == negatives("b", 1) != negatives("c", 2)


class Stop(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("moment", range(0, 9, 2))
def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch, small_shards, moment):
    rows, vectors = dataset(3, 60)
    raw = write_rows(tmp_path / "raw.jsonl", rows)
    settings = MineJob(range_max=20)
    reference = mine_here(tmp_path / "whole", raw, settings, TableTeacher(vectors), monkeypatch)

    teacher, steps = TableTeacher(vectors), iter(range(1000))
    encode, write = teacher.encode, pool._write

    def stop_or(do):
        def step(*given):
            if next(steps) == moment:
                raise Stop
            return do(*given)

        return step

    monkeypatch.setattr(teacher, "encode", stop_or(encode))
    monkeypatch.setattr(pool, "_write", stop_or(write))
    with pytest.raises(Stop):
        mine_here(tmp_path / "cut", raw, settings, teacher, monkeypatch)
    assert not (tmp_path / "cut" / "pairs.out").exists()
    before = teacher.asked.copy()
    made = mine_here(tmp_path / "cut", raw, settings, teacher, monkeypatch)
    for name in OUTPUTS:
        assert made[name].read_bytes() == reference[name].read_bytes()
    assert max(teacher.asked.values()) == 1  # nothing was encoded twice
    assert sum(before.values()) == [0, 25, 50, 60, 85, 110, 120][min(moment, 6)]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_a_random_moment(tmp_path, seed):
    """A real process, really killed, twice; then run to its end."""
    driver = Path(__file__).with_name("mining_driver.py")

    def start(folder):
        command = [sys.executable, str(driver), str(tmp_path / folder), str(seed)]
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})

    whole = start("whole")
    rng, log = random.Random(seed), tmp_path / "cut" / "encoded.log"
    done = 0
    for _ in range(2):
        victim = start("cut")
        wanted = done + rng.randint(1, 3)
        while victim.poll() is None and (log.stat().st_size if log.exists() else 0) < wanted:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.1)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        assert not (tmp_path / "cut" / "pairs.out").exists()
        done = log.stat().st_size
    assert start("cut").wait() == 0
    assert whole.wait() == 0
    for name in OUTPUTS:
        assert (tmp_path / "cut" / f"{name}.out").read_bytes() == (
            tmp_path / "whole" / f"{name}.out"
        ).read_bytes()
    # a byte is logged before each shard is encoded: at most one shard a kill was begun twice
    assert log.stat().st_size <= (tmp_path / "whole" / "encoded.log").stat().st_size + 2


def test_datasets_share_what_was_encoded(tmp_path, monkeypatch, small_shards):
    rows, vectors = dataset(4, 60)
    teacher = TableTeacher(vectors)
    for name, part in (("a", rows[:40]), ("b", rows[20:])):
        raw = write_rows(tmp_path / f"{name}.jsonl", part)
        settings = MineJob(range_max=10, dataset=name)
        places = {"pairs": tmp_path / f"{name}.out"}
        monkeypatch.setattr(mine, "teacher_of", lambda job, texts: teacher)
        execute(MINE, settings, {"raw": raw}, places, WorkStore(tmp_path / "store"))
    assert set(teacher.asked.values()) == {1}


def test_two_jobs_at_once_share_the_work(tmp_path):
    """While one job encodes, another leaves its texts alone, and waits for them."""
    driver = Path(__file__).with_name("mining_driver.py")
    running = [
        subprocess.Popen([sys.executable, str(driver), str(tmp_path / "both"), "7", part])
        for part in ("first", "second")
    ]
    assert [process.wait() for process in running] == [0, 0]
    counts = (tmp_path / "both" / "texts.log").read_text(encoding="utf-8").splitlines()
    assert len(counts) == len(set(counts)) > 0


def test_vectors_come_back_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_TEXTS", 3)
    rng = np.random.default_rng(0)
    texts = [f"text {i}" for i in range(10)]
    vectors = dict(zip(texts, rng.standard_normal((10, 4)).astype(np.float32), strict=True))
    held = VectorCache(tmp_path, TableTeacher(vectors), "query")
    asked = ["text 3", "text 9", "text 3", *texts]
    assert held.fill(asked, "job") == 10
    assert held.fill(texts, "job") == 0
    found = held.gather(asked, tmp_path / "found.npy")
    np.testing.assert_array_equal(found, np.stack([vectors[t] for t in asked]))


def test_a_damaged_vector_is_encoded_again(tmp_path):
    texts = ["one", "two"]
    vectors = dict(zip(texts, np.eye(2, dtype=np.float32), strict=True))
    held = VectorCache(tmp_path, TableTeacher(vectors), "query")
    held.fill(texts, "job")
    (file,) = held.folder.glob("*.vectors.npy")
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    again = VectorCache(tmp_path, TableTeacher(vectors), "query")
    assert again.fill(texts, "job") == 2
    np.testing.assert_array_equal(again.gather(texts, tmp_path / "found.npy"), np.eye(2))


def test_another_teacher_prompt_or_code_is_another_cache(tmp_path):
    one = VectorCache(tmp_path, TableTeacher({}, "one"), "query").folder
    assert one == VectorCache(tmp_path, TableTeacher({}, "one"), "query").folder
    assert one != VectorCache(tmp_path, TableTeacher({}, "two"), "query").folder


def test_a_teacher_without_a_model(tmp_path, monkeypatch):
    """Shared rare words make texts near; the same run gives the same bytes."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(200)]
    rows = []
    for _ in range(80):
        topic = rng.choice(words, 4, replace=False)
        rows.append((" ".join(topic[:2]), [" ".join([*topic[1:], *rng.choice(words, 3)])], []))
    raw = write_rows(tmp_path / "raw.jsonl", rows)
    settings = MineJob(range_max=20, lexical=Lexical(dimensions=256), too_few="keep")
    made = [mine_here(tmp_path / name, raw, settings, None, monkeypatch) for name in ("a", "b")]
    assert made[0]["pairs"].read_bytes() == made[1]["pairs"].read_bytes()
    shares = [
        len(set(row["query"][1].split()) & set(negative.split()))
        for row in read_rows(made[0]["pairs"])
        for negative in row["neg"][:1]
    ]
    assert np.mean(shares) > 0.5  # a random negative shares a word in 1 of 20
