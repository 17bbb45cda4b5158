"""Every command that the README and docs/ tell people to type works here.

Tools run as they stand. What would run for long is tried as far as it can be in seconds: `make -n`,
`snakemake --dry-run`, and stage commands up to the moment at which they would begin to work, their
settings, inputs and outputs checked. The slow tests run stage commands for real.
"""

import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from micro_study import save_backbone
from realign.artifacts.arguments import build_parser, read_request
from realign.artifacts.command import Command, Output, execute
from realign.artifacts.store import WorkStore
from realign.cli import main
from realign.commands import STAGES, TOOLS, load_command
from realign.study.base import Section
from realign.study.description import Comparison, Description, PairEntry
from realign.tools.compare import parser as compare_parser
from realign.tools.compare import write_study
from synthetic_results import fill

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "results" / "README.md",
    *(ROOT / "docs").glob("*.md"),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
PROGRAMS = ("realign", "snakemake", "make", "python", "pip", "git", "bash", "source")


@dataclass(frozen=True, order=True)
class Typed:
    """A command as a page has it, its words, and the pages that have it."""

    text: str
    pages: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """Its words, without variables before it and without the path to the environment."""
        words = shlex.split(re.sub(r"^([A-Z_]+=\S+\s+)+", "", self.text))
        return [words[0].removeprefix(".venv/bin/"), *words[1:]]


def lines(body: str) -> list[str]:
    """The commands of a fenced block: continued lines joined, comments gone."""
    joined = re.sub(r"\\\n\s*", "", body)
    stripped = (re.sub(r"\s+#\s.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def typed() -> list[Typed]:
    """Every command, once, with the pages that have it."""
    found: dict[str, set[str]] = {}
    for page in sorted(PAGES):
        for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
            for line in lines(body) if language == "sh" else ():
                found.setdefault(line, set()).add(page.relative_to(ROOT).as_posix())
    return [Typed(text, tuple(sorted(pages))) for text, pages in sorted(found.items())]


def unmarked() -> list[str]:
    """Lines that look like commands and stand in a block that is not marked `sh`."""
    return [
        f"{page.relative_to(ROOT)}: {line}"
        for page in sorted(PAGES)
        for language, body in FENCE.findall(page.read_text(encoding="utf-8"))
        if language in ("", "bash", "shell", "console", "text")
        for line in lines(body)
        if re.match(rf"^(\$ )?(\.venv/bin/)?({'|'.join(PROGRAMS)}) ", line)
    ]


COMMANDS = typed()
BIN = Path(sys.executable).parent


def slow(command):
    """A command that takes more than a second or two even as a dry-run: it plans a study, or draws it all."""
    planned = command.words[0] == "snakemake" or command.words[:2] == ["realign", "plan"]
    return (planned and command.text != "realign plan") or command.words[:2] == ["realign", "figures"]


def parameters(commands):
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(c, id=c.text[:70], marks=marks[slow(c)]) for c in commands]


def test_no_command_hides_in_a_block_of_another_kind():
    assert unmarked() == []
    assert len(COMMANDS) > 40


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A working folder as a user has it after the embedded study, with made-up results and a few files."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("Snakefile", "Makefile", "config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("workflow", "studies", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "profiles").symlink_to("workflow/profiles")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(BIN)
    (folder / ".venv" / "ready").touch()
    pairs = [
        {"query": ["", f"question number {i}"], "pos": [f"answer number {i}"], "neg": []} for i in range(60)
    ]
    texts = [
        {"id": str(i), "text": f"some words about {i} and {i * i}", "label": f"c{i % 2}"} for i in range(40)
    ]
    for name, rows in (("pairs", pairs), ("texts", texts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_results(folder)
    return folder


def make_results(folder):
    """Made-up tidy results, drawn in part, and one artifact with manifest and provenance."""
    pair = PairEntry(name="base--vs--rlvr", left="base", right="rlvr", kind="rlvr", tags=("prolonged",))
    compared = Comparison(left="base", right="rlvr", stage="backbone", pair=pair.name, kind="rlvr",
                        files=("reasoning+bidirectional.linear",))  # fmt: skip
    description = Description(
        name="tiny", backbones={"base": {"source": "made up"}, "rlvr": {"source": "made up"}}, pairs=(pair,),
        corpora={"reasoning": {"source": "made up"}}, compared=(compared,), synthetic=True,
    )  # fmt: skip
    results = folder / "results" / "tiny"
    fill(description, results)
    (results / "report.html").write_text("<p>made up</p>")
    source = folder / "words.txt"
    source.write_text("words")
    copy = Command(
        "import_path", "", "realign.backbones.imports:run", Section, {}, {"model": Output("", manifest=True)}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "realign.artifacts.command._function", lambda _: lambda job: job.output("model").write_text("m")
        )
        model = results / "embedders" / "base+full+s0" / "model"
        execute(copy, Section(), {}, {"model": model}, WorkStore(results / ".work"))
    shutil.copytree(results, folder / "other", ignore=shutil.ignore_patterns(".work"))


@pytest.fixture
def here(sandbox, monkeypatch):
    """In the sandbox, with the environment's programs on the path."""
    monkeypatch.chdir(sandbox)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    return sandbox


@pytest.mark.parametrize("command", parameters(COMMANDS))
def test_a_command_of_the_manual_works(command, here):
    program, *words = command.words
    if program == "realign":
        try_realign(words, here)
    else:
        tries = {
            "make": try_make,
            "snakemake": try_snakemake,
            "source": try_source,
        }
        tries[program](words, here)


def run(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def try_make(words, here):
    assert run(["make", "-n", *words], here)


def try_source(words, _):
    assert words == [".venv/bin/activate"]
    assert "venv" in (ROOT / "Makefile").read_text()  # what makes it


def try_snakemake(words, here):
    make_own_study(words, here)
    last = [] if "--unlock" in words else ["--dry-run", "--quiet", "all"]
    run(
        [sys.executable, "-m", "snakemake", *words, *last, *([] if "--cores" in words else ["--cores", "1"])],
        here,
    )


def make_own_study(words, here):
    """The study of a user's own that a command names."""
    named = [word for option, word in itertools.pairwise(words) if option == "--configfile"]
    for study in named:
        if not (here / study).exists():
            assert main(["init", study]) == 0


def try_realign(words, here):
    name, *rest = words
    if name in STAGES and not (name == "evaluate" and "--list" in rest):
        return check_stage(name, rest)
    assert name in TOOLS or name in ("--help", "--version", "evaluate")
    if name == "init":
        (here / "my-study.yaml").unlink(missing_ok=True)
    else:
        make_own_study(rest, here)
    if {"tiny.zip", "archive.zip", "other.zip"} & set(rest) and name != "archive":
        for archive in {"tiny.zip", "archive.zip", "other.zip"} & set(rest):
            assert main(["archive", "--results", "results/tiny", "--out", archive]) == 0
    if name == "states":
        return check_states(rest)
    if name == "compare":  # up to its run, which tests/tools/test_compare.py has
        for model in rest[:2]:
            (here / model).mkdir(parents=True, exist_ok=True)
            (here / model / "config.json").write_text("{}")
        return write_study(compare_parser().parse_args(rest))
    if name == "rank":
        make_board(here / "path" / "to" / "results")
    assert main(words) == 0
    return None


def make_board(place):
    """Results of two models on a few tasks of MTEB(eng, v2), as mteb writes them."""
    for model, least in (("org__good", 0.7), ("org__bad", 0.5)):
        folder = place / model / "0123456789abcdef"
        folder.mkdir(parents=True, exist_ok=True)
        for number, task in enumerate(("STS12", "BIOSSES", "SICK-R", "ArguAna", "SCIDOCS")):
            scores = {"test": [{"main_score": least + number / 100, "hf_subset": "default"}]}
            text = json.dumps({"task_name": task, "scores": scores})
            (folder / f"{task}.json").write_text(text)


def check_stage(name, words):
    """A stage command up to its work: flags known, settings usable, required paths given."""
    command = load_command(name)
    if command.front and "--job" not in words:
        front = importlib.import_module(command.front.split(":")[0])
        return front.parser().parse_args(words)
    return read_request(command, build_parser(command).parse_args(words))


def check_states(words):
    """The tool for state files knows these words; the slow test opens files with it."""
    assert words[0] == "show"
    assert all(word.endswith(".h5") for word in words[1:])


# --- For real -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(sandbox, benchmark):
    """A small model at every place where the manual's commands look for one."""
    place = sandbox / "path" / "to"
    place.mkdir(parents=True, exist_ok=True)
    benchmark("training").make_backbone(place / "model", layers=2, width=32, longest=128)
    return sandbox


@pytest.mark.slow
def test_stage_commands_of_the_manual_run(models, here):
    """Extraction first, then what reads its files, then the rest, as the pages have them."""
    wanted = [c.words[1:] for c in COMMANDS if c.words[0] == "realign"]
    extracting = [w for w in wanted if w[0] == "extract"]
    for words in extracting:
        assert main(words) == 0
    for name in ("b", "A", "B", "other"):
        shutil.copy("a.h5", f"{name}.h5")
        shutil.copy("a.pooled.h5", f"{name}.pooled.h5")
    reading = [w for w in wanted if w[0].startswith("hrsa_") or w[0] == "states"]
    mining = [w for w in wanted if w[0] == "mine" and "--lexical" in w]
    folders = {word for words in reading for word in words if word.startswith("path/to/")}
    for folder in folders:  # of models: the families of weights
        shutil.copytree("path/to/model", folder, dirs_exist_ok=True)
    for seed, name in enumerate(("base", "tuned")):  # with a head, for the behaviour
        save_backbone(Path(f"path/to/{name}"), seed)
        files = ["--corpus", "texts.jsonl", "--states", f"{name}.h5", "--pooled", f"{name}.pooled.h5"]
        assert main(["extract", "--model", f"path/to/{name}", *files, "--attention", "causal"]) == 0
    assert len(extracting) >= 2
    assert len(reading) >= 6
    assert mining
    for words in [*reading, *mining]:
        assert main(words) == 0, words
