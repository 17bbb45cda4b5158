"""A micro-study through every kind of stage, models of a few thousand parameters, and a SLURM to run it on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "tests" / "slurm" / "cluster.sh"
PROFILE = ROOT / "workflow" / "profiles" / "slurm"

TOPICS = {
    "sea": ["wave", "tide", "shore", "harbour", "sail", "anchor", "gull", "salt", "deep", "current"],
    "wood": ["oak", "pine", "bark", "root", "leaf", "moss", "branch", "forest", "timber", "shade"],
    "sky": ["cloud", "star", "moon", "wind", "storm", "dawn", "dusk", "comet", "rain", "light"],
}

STUDY = {
    "study": {"name": "micro", "seed": 0, "seeds": [0]},
    "backbones": {"base": {"path": "given/base"}, "tuned": {"path": "given/tuned"}},
    "pairs": [{"left": "base", "right": "tuned", "kind": "rlvr"}],
    "data": {"datasets": {"topics": {"file": "given/pairs.jsonl"}}},
    "mining": {"lexical": {}},
    "recipes": {
        "full": {
            "batches": {"size": 8, "negatives": 1, "query_tokens": 80, "passage_tokens": 40, "steps": 6},
            "optimizer": {"learning_rate": 1e-3},
            "hardware": {"processes": 1},
        }
    },
    "text": {"probes": {"words": {"file": "given/texts.jsonl", "limit": 60}}},
    "states": {"tokens": {"count": 400}},
    "hrsa": {
        "families": ["linear"],
        "backbone_attention": ["bidirectional"],
        "floors": [],
    },
    "evaluation": {
        "backbones": False,
        "checkpoints": False,
        "max_length": 32,
        "tasks": {"Topics": {"type": "retrieval", "path": "given/topics", "benchmark": "Words"}},
    },
}
WIDTH = 32  # of the models that the study is given
TARGETS = ["all_train", "all_scores", "all_measures", "results/micro/figures/figure_3.svg"]


def sentence(draw: random.Random, topic: str) -> str:
    return " ".join(draw.choice(TOPICS[topic]) for _ in range(draw.randint(5, 12)))


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_given(folder: Path) -> None:
    """What the micro-study is given: two backbones, pairs, texts with labels, a retrieval task."""
    draw = random.Random(0)
    for seed, name in enumerate(("base", "tuned")):
        save_backbone(folder / name, seed)
    topics = [draw.choice(list(TOPICS)) for _ in range(120)]
    pairs = [
        {"query": ["Instruct: Find the topic\nQuery: ", f"{sentence(draw, t)} {i}"], "pos": [f"{sentence(draw, t)} {i}"], "neg": []}
        for i, t in enumerate(topics)
    ]  # fmt: skip
    write_lines(folder / "pairs.jsonl", pairs)
    write_lines(folder / "texts.jsonl", [{"text": sentence(draw, t), "label": t} for t in topics])
    corpus = [{"id": f"d{i}", "text": sentence(draw, t)} for i, t in enumerate(topics[:40])]
    queries = [{"id": f"q{i}", "text": sentence(draw, t)} for i, t in enumerate(topics[:10])]
    answers = [{"query": f"q{i}", "doc": f"d{i}", "score": 1} for i in range(10)]
    for name, rows in (("corpus", corpus), ("queries", queries), ("qrels", answers)):
        write_lines(folder / "topics" / f"{name}.jsonl", rows)


def save_backbone(folder: Path, seed: int) -> None:
    """A Qwen3 of a few thousand parameters with random weights and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<eos>": 1} | {letter: i + 2 for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        initializer_range=0.2,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


class Place:
    """A folder with a study in it, and the workflow run there: on this machine or through SLURM."""

    def __init__(self, folder: Path, study: dict):
        self.folder, self.name = folder, study["study"]["name"]
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("Snakefile", "workflow"):
            (folder / name).symlink_to(ROOT / name)
        self.write(study)

    def write(self, study: dict) -> None:
        self.study = study
        (self.folder / "config.yaml").write_text(yaml.safe_dump(study))

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.name

    def start(self, *words: str) -> subprocess.Popen:
        environment = {k: v for k, v in os.environ.items() if k not in ("REALIGN_RUN", "PYTEST_CURRENT_TEST")}
        with (self.folder / "said.txt").open("a") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "snakemake", *words],
                cwd=self.folder, env=environment, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(self, *words: str, well: bool = True) -> str:
        """Run Snakemake to its end and return what it said; it must end well unless told otherwise."""
        before = len(self.said())
        code = self.start(*words).wait()
        told = self.said()[before:]
        assert (code == 0) == well, told[-6000:]
        return told

    def status(self) -> str:
        """What `realign status` says of the study's latest run."""
        words = [sys.executable, "-m", "realign.cli", "status"]
        told = subprocess.run(words, cwd=self.folder, capture_output=True, text=True)
        assert told.returncode in (0, 1), told.stderr  # 1: jobs have failed
        assert "Traceback" not in told.stderr, told.stderr
        return told.stdout

    def said(self) -> str:
        path = self.folder / "said.txt"
        return path.read_text() if path.exists() else ""

    def submitted(self) -> int:
        """How many jobs all runs here have submitted; Snakemake's own logs tell, its output for people doesn't."""
        logs = (self.folder / ".snakemake" / "log").glob("*.snakemake.log")
        return sum(log.read_text().count("has been submitted with SLURM jobid") for log in logs)

    def logs_since(self, moment: float) -> set[str]:
        """The rules whose jobs have written to their logs since then."""
        logs = self.results / "logs"
        paths = [p for p in logs.rglob("*.log") if p.stat().st_mtime > moment]
        return {p.relative_to(logs).parts[0].removesuffix(".log") for p in paths}


LOCAL = ("--cores", "2", "--rerun-triggers", "mtime", "input", "params")
# The profile as it is, but quicker to look for what has changed: jobs here take seconds.
THROUGH_SLURM = (
    *("--workflow-profile", str(PROFILE), "--jobs", "6"),
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"),
)


def until(fact, what: str, seconds: float = 180.0):
    """Wait for a fact and return it; fail when it does not come true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := fact():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


class Cluster:
    """The SLURM of this machine, as a test asks and troubles it."""

    def ask(self, *words: str) -> list[str]:
        """The lines that a command of SLURM answers with."""
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.split("\n")[:-1]

    def jobs(self, state: str = "") -> dict[str, str]:
        """The queue's jobs by number, each with the rule and wildcards it was submitted for."""
        states = [f"--states={state}"] if state else []
        return dict(line.split("|", 1) for line in self.ask("squeue", "-h", "-o", "%i|%k", *states))

    def running(self, what: str) -> str:
        """The number of the running job whose name says `what`; empty if there is none."""
        return next((n for n, said in self.jobs("RUNNING").items() if what in said), "")

    def node_of(self, job: str) -> str:
        return self.ask("squeue", "-h", "-j", job, "-o", "%N")[0]

    def hold_still(self) -> list[str]:
        """Suspend the running jobs, so that a test can look around for as long as it likes; their numbers."""
        running = list(self.jobs("RUNNING"))
        for number in running:
            self.ask("scontrol", "suspend", number)
        return running

    def let_go(self, jobs: list[str]) -> None:
        for number in jobs:
            self.ask("scontrol", "resume", number)

    def wait_until_empty(self, seconds: float = 240.0) -> None:
        until(lambda: not self.jobs(), "an empty queue", seconds)

    def cancel_all(self) -> None:
        self.ask("scancel", "--user=root")
        self.wait_until_empty()

    def limit_jobs(self, count: int) -> None:
        """How many jobs a user may have submitted at a time; -1 for any number. Needs accounting."""
        self.ask("sacctmgr", "-i", "modify", "user", "root", "set", f"MaxSubmitJobs={count}")

    def take_away_controller(self) -> None:
        os.kill(int(Path("/run/slurmctld.pid").read_text()), signal.SIGKILL)

    def bring_back_controller(self) -> None:
        Path("/run/slurmctld.pid").unlink(missing_ok=True)
        subprocess.run(["slurmctld"], check=True)

    def kill_node(self, node: str) -> None:
        os.kill(int(Path(f"/run/slurmd-{node}.pid").read_text()), signal.SIGKILL)

    def restart_node(self, node: str) -> None:
        Path(f"/run/slurmd-{node}.pid").unlink(missing_ok=True)
        subprocess.run(["slurmd", "-N", node], check=True)
        until(lambda: self.answers(node), f"an answer of {node}, which is {self.state(node)}")

    def state(self, node: str) -> str:
        return self.ask("sinfo", "-h", "-n", node, "-o", "%t")[0]

    def answers(self, node: str) -> bool:
        """Whether a node takes part; a star marks one that does not answer."""
        return self.state(node) in ("idle", "mix", "alloc", "comp")
