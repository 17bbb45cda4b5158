import json
import re
from collections import Counter
from pathlib import Path

import pytest

from realign.artifacts.command import UserError
from realign.study.text import SHAPES, TASKS, CorporaJob, Text, corpora_job, output_of
from realign.text.build import read_packages
from realign.text.docstrings import Entry
from realign.text.pairs import read_pairs
from realign.text.prompts import instruct
from realign.text.shapes import INSTRUCTIONS
from realign.text.tasks import linked

# few and small packages, so that a build takes seconds
SMALL = Text.model_validate(
    {
        "train_packages": ["numpy"],
        "heldout_packages": ["networkx", "pyparsing"],
        "pretrain_mb": 0.3,
        "pairs": 150,
        "queries": 40,
        "corpus": 80,
        "items": 60,
        "topics": 4,
    }
)
SETTINGS = json.dumps(corpora_job(SMALL, 0).as_slice())
FILES = ("pretrain", "docs", "stats", *map(output_of, SHAPES))

BUILD = """
import sys
from realign.cli import main
folder, settings, *names = sys.argv[1:]
places = [x for n in names for x in ('--' + n.replace('_', '-'), f'{folder}/{n}')]
sys.exit(main(['corpora', '--settings', settings, '--store', folder + '/.work', *places]))
"""


@pytest.fixture(scope="module")
def builds(tmp_path_factory, fresh_python):
    folders = [tmp_path_factory.mktemp("corpora") for _ in range(2)]
    for i, folder in enumerate(folders):
        fresh_python(BUILD, str(folder), SETTINGS, *FILES, *TASKS, PYTHONHASHSEED=str(i), LC_ALL="C")
    return folders


@pytest.fixture(scope="module")
def built(builds) -> Path:
    return builds[0]


@pytest.fixture(scope="module")
def heldout() -> list[Entry]:
    return read_packages(corpora_job(SMALL, 0).heldout_packages)


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def training_texts(folder: Path) -> list[str]:
    texts = [row["text"] for row in rows_of(folder / "pretrain")]
    for shape in SHAPES:
        for row in read_pairs(folder / output_of(shape)):
            texts += [row.query, *row.positives]
    return texts


def evaluation_texts(folder: Path) -> list[str]:
    values = [row for task in TASKS for file in (folder / task).glob("*.jsonl") for row in rows_of(file)]
    fields = ("text", "sentence1", "sentence2", "query", "positive", "negative")
    texts = [row[f] for row in values for f in fields if f in row]
    return [t for value in texts for t in (value if isinstance(value, list) else [value])]


def test_two_builds_are_identical_to_the_byte(builds):
    first, second = (
        {p.relative_to(folder): p.read_bytes() for name in (*FILES, *TASKS) for p in contents(folder / name)}
        for folder in builds
    )
    assert first == second
    assert len(first) > len(FILES) + 2 * len(TASKS)


def contents(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.iterdir())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def test_nothing_of_the_held_out_package_is_in_training(built, heldout):
    held: set[tuple[str, ...]] = set()
    for text in evaluation_texts(built):
        held |= runs(text, 13)
    for entry in heldout:
        for text in (entry.text, entry.code, entry.example):
            held |= runs(text, 13)
    assert len(held) > 100_000
    training = training_texts(built)
    assert len(training) > 1000
    assert not [text for text in training if runs(text, 13) & held]
    short = {t.strip().lower() for t in evaluation_texts(built) if len(t.split()) >= 5}
    assert not [text for text in training if text.strip().lower() in short]


def test_training_pairs_fit_their_shape(built):
    for shape in SHAPES:
        rows = list(read_pairs(built / output_of(shape)))
        assert len(rows) == 150, shape
        assert len({r.query for r in rows}) == 150
        assert all(r.instruction == instruct(INSTRUCTIONS[shape]) and not r.negatives for r in rows)
        assert all(len(t) <= SMALL.max_characters for r in rows for t in r.positives)


def test_pretraining_text_has_the_size_and_the_mix_that_was_asked_for(built):
    rows = rows_of(built / "pretrain")
    size = sum(len(r["text"].encode()) for r in rows)
    code = sum(len(r["text"].encode()) for r in rows if r["id"].endswith(":code"))
    assert size == pytest.approx(0.3e6, rel=0.05)
    assert code / size == pytest.approx(SMALL.pretrain_code_share, abs=0.05)
    assert len({r["id"] for r in rows}) == len(rows)


def test_retrieval_sets_are_whole(built):
    for task in ("DocsRetrieval", "CodeRetrieval"):
        corpus, queries, qrels = (
            rows_of(built / task / f"{n}.jsonl") for n in ("corpus", "queries", "qrels")
        )
        ids = {row["id"] for row in corpus}
        assert len(ids) == len({row["text"] for row in corpus}) == len(corpus) == 80
        assert len({row["text"] for row in queries}) == len(queries) == 40
        assert {row["doc"] for row in qrels} <= ids
        assert {row["query"] for row in qrels} == {row["id"] for row in queries}


def test_evaluation_sets_have_their_rows_and_say_what_they_are(built):
    about = {task: json.loads((built / task / "task.json").read_text()) for task in TASKS}
    assert {task: a["kind"] for task, a in about.items()} == TASKS
    assert all(a["instruction"] and a["about"] for a in about.values())
    pairs = rows_of(built / "DocsPairClassification" / "test.jsonl")
    assert Counter(row["label"] for row in pairs) == {0: 30, 1: 30}
    topics = Counter(row["label"] for row in rows_of(built / "TopicClustering" / "test.jsonl"))
    assert set(topics.values()) == {15}
    train, test = (rows_of(built / "TopicClassification" / f"{n}.jsonl") for n in ("train", "test"))
    assert not {r["text"] for r in train} & {r["text"] for r in test}
    assert {r["label"] for r in train} == {r["label"] for r in test}
    for row in rows_of(built / "DocsReranking" / "test.jsonl"):
        assert len(row["negative"]) == 9
        assert not set(row["positive"]) & set(row["negative"])


def test_similarity_grades_follow_from_how_entries_are_related():
    settings = json.loads(SETTINGS) | {"train_packages": {}, "heldout_packages": {}}
    job = CorporaJob.model_validate(settings)
    entries = [made_entry(p, m, i) for p in ("one", "two") for m in ("a", "b") for i in range(40)]
    from realign.text.tasks import similarity

    by_summary = {e.summary: e for e in entries}
    rows = similarity(entries, job)["test"]
    assert Counter(r["score"] for r in rows) == dict.fromkeys(range(5), 12)
    links = {frozenset((a.id, b.id)) for a, b in linked(entries)}
    for row in rows:
        left, right = by_summary[row["sentence1"]], by_summary.get(row["sentence2"])
        if row["score"] == 4:
            assert left.description.startswith(row["sentence2"])
            continue
        assert right is not None
        together = frozenset((left.id, right.id)) in links
        grade = (
            0 if left.package != right.package else 1 if left.topic != right.topic else 3 if together else 2
        )
        assert row["score"] == grade


def made_entry(package: str, module: str, number: int) -> Entry:
    name = f"f{number}"
    other = f"f{number + 1}" if number % 2 == 0 else ""
    summary = f"Summary of {name} in {package} {module}."
    description = f"A description that is long enough to be one, of {name} in {package} and {module}."
    return Entry(package, f"{package}.{module}", name, "function", summary, description, (), (other,), "", "")


def test_asking_for_more_than_there_is_names_the_setting(run_stage):
    small = Text(train_packages=("pyparsing",), heldout_packages=("tqdm", "packaging"))
    asked = corpora_job(small, 0).as_slice()
    with pytest.raises(UserError, match=r"text\.pretrain_mb asks for 500"):
        run_stage("corpora", asked | {"pretrain_mb": 500})
    with pytest.raises(UserError, match=r"text\.corpus asks for 600"):
        run_stage("corpora", asked | {"pretrain_mb": 0.01})


def package(site: Path, name: str, **modules: str) -> None:
    (site / name).mkdir(parents=True, exist_ok=True)
    record = []
    for module, text in modules.items():
        path = site / name / f"{module.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        record.append(f"{path.relative_to(site)},,")
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{line}\n" for line in record))


def documented(name: str, summary: str, description: str) -> str:
    body = "    y = x\n    z = y\n    return z\n"
    return f'def {name}(x):\n    """{summary}\n\n    {description}\n    """\n{body}'


OWN = "It is about things that nobody else has written about in this way so far, as it seems to us."
SHARED = (
    "These are exactly the words that stand in both of the packages because one of them copied the other."
)


def test_copies_of_held_out_text_vendored_code_and_tests_are_left_out(tmp_path: Path, monkeypatch):
    package(
        tmp_path,
        "alpha",
        own=documented("own", "Do what only this does.", OWN),
        copied=documented("copied", "Do what the other does.", f"First some new words. {SHARED}"),
        _vendor__beta=documented("vendored", "Do what is vendored here.", OWN + " Vendored."),
        tests__test_own=documented("tested", "Do what a test does.", OWN + " Tested."),
        template="def broken(:\n",
    )
    package(tmp_path, "beta", mod=documented("original", "Do the original of it.", SHARED))
    monkeypatch.syspath_prepend(str(tmp_path))
    from realign.text.build import without_overlap

    dropped: Counter[str] = Counter()
    training = without_overlap(read_packages({"alpha": "1.0"}), read_packages({"beta": "1.0"}), dropped)
    assert [e.id for e in training] == ["alpha.own.own"]
    assert dropped == {"alpha": 1}


def test_a_package_that_is_missing_or_another_version_is_an_error():
    with pytest.raises(UserError, match="'no-such-package', which is not installed"):
        read_packages({"no-such-package": ""})
    with pytest.raises(UserError, match=r"this run was planned with 0\.1"):
        read_packages({"numpy": "0.1"})


def test_an_installation_that_lists_no_source_is_an_error(tmp_path: Path, monkeypatch):
    package(tmp_path, "gamma")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"gamma 1\.0: its installation lists no source file"):
        read_packages({"gamma": "1.0"})


def test_versions_are_part_of_the_rules_settings():
    import numpy

    assert corpora_job(SMALL, 0).train_packages == {"numpy": numpy.__version__}
    absent = SMALL.model_copy(update={"train_packages": ("no-such-package",)})
    assert corpora_job(absent, 0).train_packages == {"no-such-package": ""}
