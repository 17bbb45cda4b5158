"""The workflow's side of a study: which file it is, and what the Snakefile needs to know of it."""

import functools
import itertools
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from realign.artifacts.command import UserError
from realign.artifacts.hashing import canonical_json
from realign.commands import load_command
from realign.plan.evaluations import with_prompts
from realign.runs.attempts import enough_time, time_records
from realign.runs.frozen import name_run, read_frozen
from realign.runs.supervisor import enough_memory, memory_records
from realign.study.base import Section
from realign.study.errors import StudyError
from realign.study.load import load_study, parse_study
from realign.study.resources import RuleResources
from realign.study.sources import SOURCES
from realign.study.study import Study

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
EMBEDDER = rf"{NAME}\+{NAME}\+s\d+(?:\+step\d+)?"

DEFAULT_STUDY = Path("config.yaml")  # in the working directory, for every command and for a run
ACCEPTED = "accept_cost"  # the one word of --config that is no part of the study

# Resources that Snakemake's SLURM executor knows → what a study calls them.
SITE_RESOURCES = {
    "slurm_partition": "partition",
    "slurm_account": "account",
    "qos": "qos",
    "constraint": "constraint",
}

# Rules whose jobs go on from what an earlier attempt saved; a longer limit would only make them wait longer.
RESUMING = {
    *("train", "extract", "mine", "evaluate", "evaluate_warm", "traces"),
    *(name for name, source in SOURCES.items() if source.trains),
}

# One meaning for each wildcard, in every rule.
WILDCARDS = {
    "backbone": NAME,
    "dataset": NAME,
    "recipe": NAME,
    "seed": r"\d+",
    "step": r"\d+",
    "round": r"\d+",
    "corpus": NAME,
    "task": NAME,
    "attention": "causal|bidirectional",
    "embedder": EMBEDDER,
    "model": rf"{NAME}|{EMBEDDER}",
    "left": rf"{NAME}|{EMBEDDER}",
    "right": rf"{NAME}|{EMBEDDER}",
}


def workflow_folder() -> Path:
    """The folder that holds workflow/, studies/ and the embedded study's config.yaml.

    A wheel carries them inside the package. In a clone, they lie at its top.
    """
    package = Path(__file__).resolve().parents[1]
    carried = package / "_workflow"
    return carried if carried.is_dir() else package.parents[1]


def find_snakefile() -> Path:
    """The workflow's entry, which belongs to the code that is running."""
    return workflow_folder() / "workflow" / "Snakefile"


def choose_study(files: Sequence[str | Path]) -> Path:
    """The study file of a run: the one given with --configfile, else the working directory's config.yaml."""
    if len(files) > 1:
        names = ", ".join(str(f) for f in files)
        raise StudyError(names, ["studies are never merged: give one --configfile"])
    return Path(files[0]) if files else DEFAULT_STUDY


def read_config(words: Sequence[str]) -> dict[str, Any]:
    """What `--config` says, read as a run reads it, so that the same words fit both."""
    from snakemake.cli import parse_config

    for word in words:
        path, _, value = word.partition("=")
        if "." in path:
            *sections, last = path.split(".")
            nested = f"{{{last}: {value}}}"
            for section in reversed(sections[1:]):
                nested = f"{{{section}: {nested}}}"
            raise UserError(f"--config takes no dots in a key; write '{sections[0]}={nested}'")
    try:
        return parse_config(list(words))
    except ValueError as error:
        raise UserError(f"--config: {error}") from None


def changes_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `--config key=value` lays over a study, its values read as a study's would be."""
    return {key: _read_again(value, key) for key, value in config.items() if key != ACCEPTED}


def _read_again(value: Any, key: str) -> Any:
    """Snakemake leaves all within a section as text: `{k: null}` comes as the word."""
    if isinstance(value, Mapping):
        return {name: _read_again(below, f"{key}.{name}") for name, below in value.items()}
    if isinstance(value, list):
        return [_read_again(item, key) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError as error:
        raise StudyError("--config", [f"{key}: not a YAML value ({error})"]) from None


def accepted_cost(config: Mapping[str, Any]) -> float:
    """The GPU-hours that a run may redo because of code alone, by its user's word: `accept_cost`."""
    given = config.get(ACCEPTED, 0)
    if isinstance(given, int | float) and given >= 0:
        return float(given)
    raise StudyError("--config", [f"{ACCEPTED}: GPU-hours are a number, 0 or more (got {given!r})"])


def open_study(files: Sequence[str | Path], config: Mapping[str, Any]) -> Study:
    """The study of a run, checked; raises `StudyError` with everything that is wrong with it.

    A job of a run that is under way (on a cluster each job reads the workflow anew) gets the study
    as the run froze it at its start, whatever has become of the file since.
    """
    if frozen := read_frozen():
        return parse_study(frozen["study"], "the study as this run began with it")
    return with_prompts(load_study(choose_study(files), changes_of(config)))


def module_study(module: str, config: Mapping[str, Any]) -> Study:
    """The study that another workflow gives to this one, which it uses as a module."""
    source = f"the config of module {module}"
    if not config:
        raise StudyError(source, ["it is empty: give the module a study, `config: config` for example"])
    return with_prompts(parse_study(changes_of(config), source))


LogOf = Callable[[str, Mapping[str, str]], Path]  # where a rule's job with these wildcards logs


class Flow:
    """What the rules share: the study, the root of its results, and how a rule calls its command."""

    def __init__(
        self,
        study: Study,
        log_of: LogOf | None = None,
        defaults: Mapping[str, Any] | None = None,
        placed: Callable[[str], str] = str,
    ):
        self.study = study
        self._defaults = {
            name: str(raw).strip("'")
            for name, value in (defaults or {}).items()
            if (raw := getattr(value, "raw", None)) is not None
        }
        self.results = f"results/{study.study.name}"  # as rules name it
        self.root = Path(placed(self.results))  # where it is: a module's results may have another place
        self._log_of = log_of
        self._code: dict[str, str] = {}

    def job(self, command: str, section: Section) -> str:
        """A rule's one parameter: its command's settings, the code behind it, and where it may work."""
        if command not in self._code:
            self._code[command] = load_command(command).code
        return canonical_json(
            {
                "settings": section.as_slice(),
                "code": self._code[command],
                "store": f"{self.root}/.work",
            }
        )

    def limits(
        self, rule: str, *, memory_gb: float, hours: float = 1.0, gpus: int | None = None
    ) -> dict[str, Any]:
        """A rule's `resources:`, its own defaults unless the study says otherwise for its backbone.

        A rule whose work knows no GPUs leaves `gpus` out; the others pass `gpus_given` on to their command.
        Memory grows only where a job was recorded to have had too little; a time limit only where a job
        met it that can't go on in the next one.
        """
        own = RuleResources(memory_gb=memory_gb, hours=hours, gpus=gpus or 0, nodes=1)
        stated = self._asked(rule, lambda asked: round((asked.over(own).memory_gb or 0) * 1000))

        def memory(wildcards: Any, attempt: int) -> int:
            mb = stated(wildcards) if callable(stated) else stated
            if not self._log_of or (attempt == 1 and not self._lacked):
                return mb
            return enough_memory(self._log_of(rule, wildcards), mb)

        asked = self._asked(rule, lambda asked: _minutes(asked.over(own)))

        def minutes(wildcards: Any, attempt: int) -> int:
            limit = asked(wildcards) if callable(asked) else asked
            if not self._log_of or (attempt == 1 and not self._lacked):
                return limit
            return enough_time(self._log_of(rule, wildcards), limit)

        limits: dict[str, Any] = {
            # a function of the attempt, so that it is asked anew for each; a plan has no attempts
            "mem_mb": memory if self._log_of else stated,
            "runtime": minutes if self._log_of and rule not in RESUMING else asked,
        }
        named = self.study.resources.named(rule)
        if gpus is not None:
            # for the job, which makes sure of them; a number, since a group's jobs may differ
            limits["gpus_given"] = self._asked(rule, lambda asked: asked.over(own).gpus)
        if gpus or any(r.gpus for r in named):
            limits["gpu"] = self._asked(rule, lambda asked: _on_one_node(asked.over(own)).gpus or 0)
            limits["gpu_model"] = self._asked(rule, lambda asked: _gpu_model(asked.over(own)))
        several = any((r.nodes or 1) > 1 for r in named)
        if "gpu" in limits or several:
            # GPUs of one job may be given on several nodes where this is left open
            limits["nodes"] = self._asked(rule, lambda asked: asked.over(own).nodes)
        if several:
            limits["gres"] = self._asked(rule, lambda asked: _gpus_of_each_node(asked.over(own)))
            limits["tasks"] = self._asked(rule, lambda asked: _tasks(asked.over(own)))
        for resource, name in SITE_RESOURCES.items():
            if any(getattr(r, name) for r in named):
                limits[resource] = self._asked(rule, self._site_value(resource, name))
        if any(_flags(r) for r in named):
            # beside the profile's own flags, of which one is the warning before a time limit
            limits["slurm_extra"] = self._asked(
                rule, lambda asked: " ".join(filter(None, (self._defaults.get("slurm_extra"), _flags(asked))))
            )
        return limits

    def warning(self, rule: str, backbone: str) -> str:
        """Words that tell a training how long before its limit it is warned; none where no cluster warns."""
        flags = f"{self._defaults.get('slurm_extra', '')} {_flags(self.study.resources.of(rule, backbone))}"
        seconds = re.findall(r"--signal=\S*@(\d+)", flags)
        return f" --warning-seconds {seconds[-1]}" if seconds else ""

    def _site_value(self, resource: str, name: str) -> Callable[[RuleResources], str]:
        # A rule's own word replaces the profile's also where it is empty, so it must repeat it.
        return lambda asked: getattr(asked, name) or self._defaults.get(resource, "")

    def _asked(self, rule: str, value: Callable[[RuleResources], Any]) -> Any:
        """What the study asks of a rule's jobs: a function only where backbones differ.

        Snakemake takes longer to call a function than to do all else for a resource.
        """
        resources = self.study.resources
        if not resources.differ(rule):
            return value(resources.of(rule))
        return lambda wildcards: value(resources.of(rule, backbone_in(wildcards)))

    @functools.cached_property
    def _lacked(self) -> bool:
        """Whether a job of an earlier run had too little memory or time; most studies never see one."""
        logs = self.root / "logs"
        return any(itertools.chain(memory_records(logs), time_records(logs)))

    def threads(self, rule: str, default: int) -> Any:
        """A rule's `threads:`, its own default unless the study says otherwise for its backbone."""
        return self._asked(rule, lambda asked: asked.threads or default)

    def record(self) -> Path:
        """Where this run's study and code are frozen when it starts; its jobs are told by environment."""
        return name_run(self.root / ".runs")


def _flags(asked: RuleResources) -> str:
    """What the cluster is asked by flags of its own."""
    flags = {
        "--reservation": asked.reservation,
        "--exclude": asked.exclude,
        "--licenses": asked.licences,
        "--mail-type=END,FAIL --mail-user": asked.mail,
    }
    words = [f"{flag}={shlex.quote(value)}" for flag, value in flags.items() if value]
    if asked.exclusive:
        words.append("--exclusive")
    if asked.flags:
        words.append(asked.flags)
    if asked.warning_seconds:  # after the profile's own, over which it goes
        words.append(f"--signal=USR1@{asked.warning_seconds}")
    return " ".join(words)


def _minutes(asked: RuleResources) -> int:
    """A time limit as SLURM takes it; 0 would be none."""
    return max(1, math.ceil((asked.hours or 0) * 60 - 1e-6))


def _gpu_model(asked: RuleResources) -> str:
    """The kind of GPU where one is asked for at all."""
    asked = _on_one_node(asked)
    return (asked.gpu_model or "") if asked.gpus else ""


def _on_one_node(asked: RuleResources) -> RuleResources:
    """These resources if they are of one node: `gpu` counts a job's, so several nodes say it otherwise."""
    return asked if asked.nodes == 1 else RuleResources()


def _gpus_of_each_node(asked: RuleResources) -> str:
    """The GPUs of a job of several nodes, which are counted by node."""
    if asked.nodes == 1 or not asked.gpus:
        return ""
    return ":".join(str(part) for part in ("gpu", asked.gpu_model, asked.gpus) if part)


def _tasks(asked: RuleResources) -> int:
    """One task a node, without which no second node is given; a job with GPUs needs no word of it."""
    nodes = asked.nodes or 1
    return nodes if nodes > 1 and not asked.gpus else 0


def own_file(rules: Iterable[Any], setting: str, path: str) -> str:
    """A user's own file or folder as a rule's input; a missing one is an error that names its setting.

    Another rule may make it. Snakemake takes a job for finished whose input is missing and whose output is
    there, so without this check the results of another file would stand under the new file's name.
    """
    if not Path(path).exists() and not any(rule.is_producer(path) for rule in rules):
        raise StudyError(setting, [f"no file or folder '{Path.cwd() / path}', and no rule that makes it"])
    if setting.startswith("backbones.") and setting.endswith(".path") and Path(path).is_file():
        raise StudyError(setting, [f"'{path}' is a file; give the folder that holds the model"])
    return path


def with_manifest(path: str) -> list[str]:
    """A large artifact as targets: its data and its manifest."""
    return [path, f"{path}.manifest.json"]


def backbone_in(wildcards: Any) -> str | None:
    """The backbone that a job works on, whichever of its wildcards says so; of a comparison, the left one.

    Wildcards are a mapping, or Snakemake's own, which look up a name by `get` and a value by `in`.
    """
    for name in ("backbone", "embedder", "model", "left", "comparison"):
        if found := wildcards.get(name):
            return str(found).split("--vs--", 1)[0].split("+", 1)[0]
    return None


def have_a_cache() -> None:
    """Let libraries that can't do without folders of their own keep them here where the home is read-only.

    Those are Snakemake, matplotlib, and mteb, which makes its folder when it is imported.
    """
    given = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (never raises)
    try:
        Path(given, "snakemake").mkdir(parents=True, exist_ok=True)
        usable = os.access(Path(given, "snakemake"), os.W_OK)
    except OSError:
        usable = False
    if not usable:
        cache = Path(".snakemake", "cache").absolute()
        os.environ["XDG_CACHE_HOME"] = str(cache)
        for variable, library in (("MPLCONFIGDIR", "matplotlib"), ("MTEB_CACHE", "mteb")):
            os.environ.setdefault(variable, str(cache / library))


def find_commands() -> None:
    """Let jobs find the commands beside this Python, whichever environment is activated."""
    beside = Path(sys.executable).parent
    if (beside / "realign").is_file() and shutil.which("realign") != str(beside / "realign"):
        os.environ["PATH"] = os.pathsep.join([str(beside), os.environ.get("PATH", "")])
