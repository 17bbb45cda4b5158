"""How a backbone becomes an embedder: batches, loss, optimiser, and what a run may use.

Everything but `hardware` decides the result and is part of a training's identity. `hardware` says
how the same result is computed, up to rounding, and makes nothing stale.
"""

import json
import shlex
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

from pydantic import model_validator

from realign.study.base import Name, Section, Seeds, setting
from realign.study.embedder import EmbedderSettings
from realign.study.errors import nearest, undeclared
from realign.study.loss import Loss
from realign.study.mining import Teacher

Schedule = Literal["cosine", "linear", "constant"]


class Batches(Section):
    """Which samples make a batch, and what is taken of each sample."""

    size: int = setting(2048, "Queries in a global batch, over all processes.", unit="queries", ge=2)
    negatives: int = setting(3, "Hard negatives drawn for each query.", unit="passages", ge=0)
    mixed_leftovers: bool = setting(
        True,
        "Fill batches from what remains of several datasets; off drops what fills no batch of its own.",
    )
    weights: dict[Name, float] = setting(
        {},
        "How often datasets come, beside others of their size: 2 is twice as often, 0 leaves one out. With "
        "weights, or a sampling temperature, no batch is mixed and samples may repeat.",
    )
    sampling_temperature: float = setting(
        1.0,
        "A dataset's share of the batches is its size to the power of 1 over this: 1 is proportional, more "
        "favours small datasets.",
        gt=0,
    )
    query_tokens: int | None = setting(
        None,
        "Longest query, instruction included; the rest is cut. Nothing means `embedder.max_length`.",
        unit="tokens",
        ge=2,
    )
    passage_tokens: int | None = setting(
        None,
        "Longest passage; the rest is cut. Nothing means `embedder.max_length`.",
        unit="tokens",
        ge=1,
    )
    characters_per_token: int = setting(
        10,
        "Texts are cut at this many characters per allowed token before they are tokenised.",
        unit="characters",
        ge=1,
    )
    epochs: int = setting(1, "Passes over the data; each draws positives and negatives anew.", ge=1)
    steps: int | None = setting(
        None,
        "Stop after this many steps, the schedule being laid over them; nothing means all epochs.",
        unit="steps",
        ge=1,
    )


class Optimizer(Section):
    """AdamW and its schedule."""

    learning_rate: float = setting(2e-5, "The highest learning rate.", gt=0)
    schedule: Schedule = setting("cosine", "How it falls after the warm-up.")
    warmup: float = setting(0.03, "Share of the steps in which it rises, rounded up.", ge=0, lt=1)
    weight_decay: float = setting(0.05, "On matrices; never on norms and biases.", ge=0)
    betas: tuple[float, float] = setting((0.9, 0.999), "AdamW's two averaging factors.")
    epsilon: float = setting(1e-8, "AdamW's epsilon.", gt=0)
    clip: float = setting(1.0, "Norm at which the gradient of the global batch is clipped; 0 is off.", ge=0)
    gradient_scale: float = setting(
        1.0,
        "Multiplies the gradient before clipping; 1/GPUs gives the published code's clipping.",
        gt=0,
    )


class Lora(Section):
    """Low-rank adapters in place of full fine-tuning; merged into the weights at the end."""

    rank: int = setting(16, "Rank of the adapters.", ge=1)
    alpha: int = setting(32, "Scale of the adapters.", gt=0)
    dropout: float = setting(0.1, "Dropout before the adapters.", ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"] = setting(
        "all-linear", "Names of the modules that get adapters."
    )


class Validation(Section):
    """A small held-out set, scored during training."""

    samples: int = setting(
        0, "Samples held out of the training data, shared over the datasets.", unit="samples", ge=0
    )
    every: int = setting(50, "Score them every so many steps, and at the end.", unit="steps", ge=1)


class Safety(Section):
    """When a training stops by itself."""

    collapse_cosine: float = setting(
        0.995, "Stop when queries of a batch have a mean pairwise cosine above this, after the warm-up."
    )
    collapse_patience: int = setting(5, "For so many steps on end.", unit="steps", ge=1)
    compare_every: int = setting(
        50, "Compare the parameters of all processes every so many steps.", unit="steps", ge=1
    )


class Hardware(Section):
    """How the same result is computed; makes nothing stale."""

    processes: int | None = setting(
        None, "Processes on each machine; nothing means one for each GPU, or one on CPUs.", ge=1
    )
    nodes: int = setting(1, "Machines; more than one needs a SLURM allocation.", ge=1)
    token_budget: int = setting(
        16384,
        "Tokens in one chunk of a batch, padding included; a batch of more goes through the gradient cache. "
        "Halved by itself when memory runs out.",
        unit="tokens",
        ge=1,
    )
    zero_stage: Literal[0, 1, 2, 3] = setting(2, "DeepSpeed's ZeRO stage; bf16 needs 1 or more.")
    reduce_once: bool | Literal["auto"] = setting(
        "auto",
        "At ZeRO 2 and 3, reduce gradients once a step rather than once a chunk; holds a whole gradient in "
        "fp32 on each process. auto does so with several processes, where a GPU has four times that memory "
        "free, and until memory runs out.",
    )
    kept_tokens: int = setting(
        0,
        "Tokens of chunks, padding included, whose activations wait for the backward pass and are not "
        "computed twice; one chunk's always do. 0 once memory runs out.",
        unit="tokens",
        ge=0,
    )
    activation_checkpointing: bool = setting(
        False, "Recompute activations in the backward pass to save memory."
    )
    save_every: int = setting(
        100, "Save a checkpoint to resume from every so many steps.", unit="steps", ge=1
    )
    save_minutes: float = setting(
        30.0, "Save one also where the last is older than this.", unit="minutes", gt=0
    )
    local_data: str | None = setting(
        None,
        "A folder of each node's own, to which training pairs are copied before they are read ($TMPDIR); "
        "unset is the site's, if it names one (REALIGN_LOCAL_DATA).",
    )
    wandb_project: str | None = setting(None, "Also log to this Weights & Biases project.")

    def flags(self, **more: object) -> str:
        """These settings as words of the train command, `more` going before them."""
        given = {**self.model_dump(mode="json"), **more}
        return " ".join(
            f"--recipe.hardware.{name.replace('_', '-')} {shlex.quote(json.dumps(value))}"
            for name, value in given.items()
            if value is not None
        )


class Recipe(Section):
    """One way to train an embedder; a study may have several."""

    seeds: Seeds = setting(
        (),
        "Train with these seeds only; nothing means those of the study. Makes nothing stale.",
        stales=False,
    )
    backbones: tuple[Name, ...] = setting(
        (),
        "Train these backbones only, of those in pairs with `embed`; nothing means all. Makes nothing stale.",
        stales=False,
    )
    datasets: tuple[Name, ...] = setting((), "The mined datasets to train on; nothing means all.")
    batches: Batches = setting(Batches(), "Which samples make a batch.")
    loss: Loss = setting(Loss(), "The contrastive loss.")
    dataset_losses: dict[Name, Loss] = setting(
        {}, "Losses of single datasets: what each has otherwise than `loss`. Unlike datasets are never mixed."
    )
    guide_model: Teacher = setting(
        Teacher(), "The model that `loss.guide` and `loss.distillation` may ask: a backbone or a folder."
    )
    optimizer: Optimizer = setting(Optimizer(), "AdamW and its schedule.")
    lora: Lora | None = setting(None, "Low-rank adapters; nothing means full fine-tuning.")
    precision: Literal["auto", "bf16", "fp32"] = setting(
        "auto", "bf16 keeps fp32 master weights; auto is bf16 on GPUs and fp32 on CPUs."
    )
    checkpoints: tuple[int, ...] = setting(
        (), "Steps after which the embedder is kept as one of its own.", unit="steps"
    )
    validation: Validation = setting(Validation(), "Scores during training.")
    safety: Safety = setting(Safety(), "When a training stops by itself.")
    deepspeed: str | None = setting(
        None, "A DeepSpeed configuration of your own (JSON file); what it says goes before ours."
    )
    hardware: Hardware = setting(Hardware(), "How it is computed; makes nothing stale.", stales=False)

    @model_validator(mode="before")
    @classmethod
    def _complete_losses(cls, given: Any) -> Any:
        """A dataset's loss is the recipe's, but for what it says itself."""
        if not isinstance(given, dict) or not isinstance(given.get("dataset_losses"), dict):
            return given
        base = given.get("loss", {})
        base = base.model_dump() if isinstance(base, Loss) else base
        if not isinstance(base, dict):
            return given
        complete = {
            name: base | own if isinstance(own, dict) else own
            for name, own in given["dataset_losses"].items()
        }
        return {**given, "dataset_losses": complete}

    @model_validator(mode="after")
    def _usable_batches(self) -> "Recipe":
        for name, loss in (
            ("loss", self.loss),
            *((f"dataset_losses.{n}", x) for n, x in self.dataset_losses.items()),
        ):
            if loss.needs_negatives and not self.batches.negatives:
                raise ValueError(
                    f"{name} compares a query's own passages alone, so batches.negatives is at least 1"
                )
        if any(weight < 0 for weight in self.batches.weights.values()):
            raise ValueError("batches.weights: a weight is at least 0")
        return self

    def trained_on(self, given: Iterable[str]) -> set[str]:
        """Those of the given datasets that it trains on."""
        return {
            n for n in given if (not self.datasets or n in self.datasets) and self.batches.weights.get(n, 1)
        }

    def needs_guide(self, datasets: Collection[str]) -> str:
        """The setting that needs a guide model for one of these datasets, or nothing."""
        if self.loss.needs_guide:
            return "loss"
        own = (n for n, loss in sorted(self.dataset_losses.items()) if n in datasets and loss.needs_guide)
        return next((f"dataset_losses.{name}" for name in own), "")

    @model_validator(mode="after")
    def _checkpoints_in_order(self) -> "Recipe":
        steps = self.checkpoints
        if list(steps) != sorted(set(steps)) or any(step < 1 for step in steps):
            raise ValueError("checkpoints are distinct steps in rising order, the first at least 1")
        if self.batches.steps is not None and steps and steps[-1] > self.batches.steps:
            raise ValueError(f"checkpoint {steps[-1]} lies beyond the last step, {self.batches.steps}")
        return self


class Train(Section):
    """One contrastive training: which backbone, by which recipe, with which seed."""

    study: Name = setting("study", "The study's name, for the tidy results.")
    backbone_name: Name = setting("backbone", "The backbone's name, for the tidy results.")
    recipe_name: Name = setting("recipe", "The recipe's name, for the tidy results.")
    seed: int = setting(0, "The training's seed.", ge=0)
    study_seed: int = setting(0, "The study's seed.", ge=0)
    embedder: EmbedderSettings = setting(
        EmbedderSettings(), "How the backbone is read as an embedding model."
    )
    recipe: Recipe = setting(Recipe(), "How to train.")

    @property
    def query_tokens(self) -> int:
        """The longest query, instruction included."""
        return self.recipe.batches.query_tokens or self.embedder.max_length

    @property
    def passage_tokens(self) -> int:
        """The longest passage."""
        return self.recipe.batches.passage_tokens or self.embedder.max_length

    def as_slice(self) -> dict[str, Any]:
        """All that decides the result: the hardware does not.

        Lengths stand there as they are resolved, since fingerprints leave out the code that resolves them.
        """
        recipe = self.recipe.as_slice()
        recipe["batches"] |= {"query_tokens": self.query_tokens, "passage_tokens": self.passage_tokens}
        return {**super().as_slice(), "recipe": recipe}


class BatchOrders(Section):
    """The comparison of batch orders has nothing to set."""


class PublishCheckpoint(Section):
    """Which declared checkpoint of a training becomes an embedder of its own."""

    step: int = setting(1, "The step.", unit="steps", ge=1)


def recipe_problems(
    recipes: dict[str, Recipe],
    datasets: Collection[str],
    embedded: Collection[str],
    backbones: Collection[str],
    made_here: Collection[str],
) -> Iterator[str]:
    """Datasets and backbones that a recipe names and the study does not have; a guide model it lacks."""
    for name, recipe in recipes.items():
        trained = recipe.datasets or datasets
        named = [("datasets", recipe.datasets, datasets)]
        named += [("batches.weights", tuple(recipe.batches.weights), trained)]
        named += [("dataset_losses", tuple(recipe.dataset_losses), trained)]
        for where, wanted, known in named:
            for dataset in wanted:
                if dataset not in known:
                    yield f"recipes.{name}.{where}: no dataset '{dataset}'{nearest(dataset, known)}"
        used = recipe.trained_on(trained)
        if trained and not used:
            yield f"recipes.{name}.batches.weights: every dataset has weight 0; leave at least one in"
        guide = recipe.guide_model
        if (needing := recipe.needs_guide(used)) and not (guide.backbone or guide.path):
            yield f"recipes.{name}.{needing} needs a guide model; name it as recipes.{name}.guide_model"
        elif not needing and (guide.backbone or guide.path):
            yield f"recipes.{name}.guide_model: no loss of the recipe uses it"
        if guide.backbone is not None and guide.backbone not in backbones:
            yield f"recipes.{name}.guide_model.backbone: {undeclared(guide.backbone, backbones)}"
        elif guide.backbone in made_here:
            yield (
                f"recipes.{name}.guide_model.backbone: '{guide.backbone}' is made here and is no "
                "sentence-transformers model; name a hub's that is one, or a folder as guide_model.path"
            )
        for backbone in recipe.backbones:
            if backbone not in embedded:
                yield (
                    f"recipes.{name}.backbones: '{backbone}' is in no pair with `embed`"
                    f"{nearest(backbone, embedded)}"
                )
