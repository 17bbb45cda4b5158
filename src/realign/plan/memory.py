"""How much GPU memory a contrastive training needs, from its backbone's config.json and its recipe alone.

Per GPU, in bytes, with P parameters of the model, T of them trained, N processes, and w bytes a number
(2 in bf16, 4 in fp32):

    weights       w·P, at ZeRO 3 divided by N
    optimizer     12·T/N: master weights and AdamW's two averages in fp32; 12·T without ZeRO
    gradients     4·T/N in fp32 at ZeRO 2 and 3, 4·T at 0 and 1; besides, 4·T where they are reduced once a
                  step, else the largest matrix in w
    buckets       three of DeepSpeed's, in fp32
    activations   tokens at once × layers × bytes a token and layer (`layer_bytes`); with checkpointing
                  one layer's, and the input of each
    guide         w·G for a guide model of G parameters, whole on each GPU

The kernels' own space, the context of CUDA and gaps of the allocator come on top: `CONTEXT_GB`, and
`MARGIN` of the whole. A training halves its token budget by itself where this was too little.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from realign.study.recipe import Recipe

CONTEXT_GB = 1.5
MARGIN = 0.15
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # a mixture's, as configurations name them
HEAD_NORMS = {"qwen3"}  # model types that normalise the queries and keys of each head
BUCKET = 50_000_000  # the numbers in one of DeepSpeed's buckets, at most


@dataclass(frozen=True)
class Shape:
    """What a decoder-only model's memory follows from."""

    width: int
    layers: int
    feed_forward: int
    query_width: int  # of all heads
    key_width: int  # of all heads of keys, which are those of values
    heads: int
    vocabulary: int
    head_norms: bool = False  # whether queries and keys are normalised

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """The shape in a model's config.json; a KeyError or TypeError where it is no decoder of this kind."""
        if any(config.get(name) for name in EXPERTS):
            raise KeyError("a mixture of experts")
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        head = int(config.get("head_dim") or width // heads)
        return cls(
            width,
            int(config["num_hidden_layers"]),
            int(config["intermediate_size"]),
            heads * head,
            int(config.get("num_key_value_heads") or heads) * head,
            heads,
            int(config["vocab_size"]),
            config.get("model_type") in HEAD_NORMS,
        )

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Inputs and outputs of a layer's linear maps: queries, keys, values, output, gate, up, down."""
        h, q, k, i = self.width, self.query_width, self.key_width, self.feed_forward
        return [(h, q), (h, k), (h, k), (q, h), (h, i), (h, i), (i, h)]

    @property
    def parameters(self) -> int:
        """Parameters without a head for logits; biases and norms, which are few, are left out."""
        return self.vocabulary * self.width + self.layers * sum(a * b for a, b in self.matrices)

    def layer_bytes(self, bytes_each: int) -> int:
        """What a token leaves in one layer for the backward pass.

        Each of two norms keeps its input in fp32, and its result before and after the weight. Attention keeps
        queries, keys and values (repeated for each query head where texts are padded), its result as the
        kernel has it and as the output map reads it, and a sum in fp32 a head. The gated feed-forward part
        keeps four vectors.
        """
        norms = 2 * (4 + 2 * bytes_each) * self.width
        if self.head_norms:
            norms += (4 + bytes_each) * (self.query_width + self.key_width)
        attention = 5 * bytes_each * self.query_width + 4 * self.heads
        return norms + attention + 4 * bytes_each * self.feed_forward


@dataclass(frozen=True)
class Need:
    """What one GPU has to hold, in GB, part by part."""

    weights: float
    optimizer: float
    gradients: float
    buckets: float
    activations: float
    guide: float

    @property
    def total(self) -> float:
        """All of it, with what the kernels and the allocator take."""
        return (1 + MARGIN) * sum(asdict(self).values()) + CONTEXT_GB


def training_need(shape: Shape, recipe: Recipe, processes: int, guide: int = 0) -> Need:
    """What each of so many GPUs holds at the peak of a training; `guide` is a guide model's parameters."""
    hardware, whole, bytes_each = recipe.hardware, shape.parameters, 4 if recipe.precision == "fp32" else 2
    trained, largest = whole, shape.vocabulary * shape.width
    if recipe.lora is not None:
        trained = recipe.lora.rank * shape.layers * sum(a + b for a, b in shape.matrices)
        largest = 0
    stage, shards = hardware.zero_stage, processes if hardware.zero_stage else 1
    once = stage > 1 and (processes > 1 if hardware.reduce_once == "auto" else hardware.reduce_once)
    gradients = 4 * trained / (shards if stage > 1 else 1)
    gradients += 4 * trained if once else bytes_each * largest
    tokens, layer = max(hardware.token_budget, hardware.kept_tokens), shape.layer_bytes(bytes_each)
    if hardware.activation_checkpointing:
        activations = tokens * shape.layers * bytes_each * shape.width + hardware.token_budget * layer
    else:
        activations = tokens * shape.layers * layer
    parts = (
        bytes_each * whole / (shards if stage == 3 else 1),
        12 * trained / shards,
        gradients,
        3 * 4 * min(BUCKET, trained) if stage else 0,
        activations,
        bytes_each * guide,
    )
    return Need(*(part / 1e9 for part in parts))


def ways_out(shape: Shape, recipe: Recipe, processes: int, room_gb: float, guide: int = 0) -> list[str]:
    """Changes of the hardware settings, the cheapest first, each of which alone makes a training fit."""
    hardware = recipe.hardware
    changes: list[dict[str, Any]] = [
        *({"kept_tokens": 0} for _ in range(bool(hardware.kept_tokens))),
        *({"token_budget": hardware.token_budget // part} for part in (2, 4, 8)),
        {"reduce_once": False},
        {"activation_checkpointing": True},
        *({"zero_stage": stage} for stage in (2, 3) if stage > hardware.zero_stage),
        {"activation_checkpointing": True, "zero_stage": 3, "reduce_once": False},
    ]
    return _fitting(changes, shape, recipe, processes, room_gb, guide)[:2]


def faster_ways(shape: Shape, recipe: Recipe, processes: int, room_gb: float, guide: int = 0) -> list[str]:
    """Changes that use memory which is left, so that less is computed twice.

    With checkpointed activations a chunk costs as much as five forward passes: two, one that recomputes
    activations, and a backward pass, which costs two. Without, or where its graph is kept, it costs four.
    """
    hardware = recipe.hardware
    if not hardware.activation_checkpointing:
        return []
    changes: list[dict[str, Any]] = [
        *({"activation_checkpointing": False, "token_budget": hardware.token_budget // n} for n in (1, 2, 4)),
        *(
            {"kept_tokens": kept}
            for n in (16, 8, 4, 2)
            if (kept := n * hardware.token_budget) > hardware.kept_tokens
        ),
    ]
    return _fitting(changes, shape, recipe, processes, room_gb, guide)


def _fitting(
    changes: list[dict[str, Any]], shape: Shape, recipe: Recipe, processes: int, room_gb: float, guide: int
) -> list[str]:
    """The changes with which a training fits, as YAML; of several of the same settings, the first."""
    found: dict[tuple[str, ...], str] = {}
    for change in changes:
        changed = recipe.model_copy(update={"hardware": recipe.hardware.model_copy(update=change)})
        if training_need(shape, changed, processes, guide).total <= room_gb:
            words = ", ".join(f"{name}: {str(value).lower()}" for name, value in change.items())
            found.setdefault(tuple(change), words)
    return list(found.values())
