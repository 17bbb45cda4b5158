"""The models that can be evaluated, behind one way of turning texts into vectors.

A backbone's directory is read as an untrained, mean-pooled embedder; an embedder of ours through
the package's own code; any other directory through sentence-transformers. All of them encode the
same way: a window of texts is tokenized once, sorted by length and batched by a budget of tokens,
over as many devices as there are.
"""

import contextlib
import copy
import functools
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from realign.artifacts.command import Interrupted, UserError
from realign.embedder.model import Embedder, read_description
from realign.embedder.tokens import Rows, by_token_budget, collate, tokenize
from realign.engine.progress import Progress
from realign.engine.signals import Leaving

log = logging.getLogger(__name__)

WINDOW = 16384  # texts tokenized and sorted together
# Tokens in a batch, padding included. A CPU is fastest while a batch fits its caches.
BUDGETS = {"cpu": 1024, "cuda": 65536}
PROBES = ("a", "Two words of a text, and a few more of them.", "word " * 700)


@dataclass
class Tower:
    """One device's copy of a model: tokens in, vectors out."""

    module: nn.Module
    forward: Callable[[nn.Module, Rows, str], np.ndarray]


@dataclass
class Model:
    """A model that turns texts into vectors, wherever its directory comes from."""

    name: str
    tokenizer: Any
    max_length: int
    towers: list[Tower]
    prompts: dict[str, str]
    similarity_name: str = "cosine"
    fallback: Callable[[list[str], str], np.ndarray] | None = None
    leaving: Leaving = field(default_factory=Leaving)
    budget: int = 0
    default_prompt: str = ""  # before texts that are neither queries nor documents

    def encode(
        self,
        texts: Sequence[str],
        prompt: str = "",
        what: str = "encode",
        on_window: Callable[[slice, np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """The texts' vectors in float32, in their order, each text behind the prompt.

        `on_window` is told each window's vectors as soon as they are made.
        """
        if not texts:
            return np.zeros((0, 0), np.float32)
        blocks = []
        parts = [slice(start, start + WINDOW) for start in range(0, len(texts), WINDOW)]
        # The next window's texts are tokenized while this one's go through the model.
        with Progress(what, len(texts), "texts") as told, ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._rows, texts[parts[0]], prompt)
            for number, part in enumerate(parts, 1):
                rows = coming.result()
                if number < len(parts):
                    coming = ahead.submit(self._rows, texts[parts[number]], prompt)
                blocks.append(self._window(texts[part], rows, prompt, told))
                if on_window:
                    on_window(part, blocks[-1])
        return np.concatenate(blocks)

    def _rows(self, texts: Sequence[str], prompt: str) -> Rows:
        if self.fallback is not None:  # which tokenizes by itself
            return Rows([], [])
        return tokenize(self.tokenizer, texts, prompt, self.max_length)

    def _window(self, texts: Sequence[str], rows: Rows, prompt: str, told: Progress) -> np.ndarray:
        if self.fallback is not None:
            return np.asarray(self.fallback(list(texts), prompt), dtype=np.float32)
        batches = list(by_token_budget(rows.lengths, self.budget))
        vectors: list[np.ndarray] = [np.empty(0)] * len(texts)

        def work(share: int) -> None:
            for batch in batches[share :: len(self.towers)]:
                if self.leaving.asked:
                    raise Interrupted(f"asked to leave ({self.leaving.received}) while encoding")
                for index, vector in zip(
                    batch, self._batch(self.towers[share], rows.take(batch), prompt), strict=True
                ):
                    vectors[index] = vector
                told.advance(len(batch))

        if len(self.towers) == 1:
            work(0)
        else:
            with ThreadPoolExecutor(len(self.towers)) as pool:
                list(pool.map(work, range(len(self.towers))))
        return np.stack(vectors)

    def _batch(self, tower: Tower, rows: Rows, prompt: str) -> np.ndarray:
        """A batch's vectors; a batch that does not fit a GPU's memory is halved until it does."""
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            return tower.forward(tower.module, rows, prompt)
        # Tried again out here: an error that is being handled keeps its frames, and so their tensors, alive.
        if len(rows) == 1:
            raise UserError(
                f"{self.name}: a single text of {rows.lengths[0]} tokens does not fit the GPU; "
                "lower max_length or use a smaller dtype"
            )
        torch.cuda.empty_cache()
        half = len(rows) // 2
        log.warning("a batch of %d texts does not fit the GPU; halving it", len(rows))
        parts = (range(half), range(half, len(rows)))
        return np.concatenate([self._batch(tower, rows.take(list(p)), prompt) for p in parts])

    def similarity(self, a: Any, b: Any) -> torch.Tensor:
        """All similarities between two sets of vectors, computed where the model is."""
        measure, place = _similarity(self.similarity_name, pairwise=False), self._place()
        left, right = _tensor(a), _tensor(b)
        if place.type == "cpu":
            return measure(left, right)
        return similarity_there(measure, left, right, place)

    def _place(self) -> torch.device:
        first = next(self.towers[0].module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def similarity_pairwise(self, a: Any, b: Any) -> torch.Tensor:
        """The similarity of each pair of vectors."""
        return _similarity(self.similarity_name, pairwise=True)(_tensor(a), _tensor(b))


def similarity_there(
    measure: Callable[..., torch.Tensor],
    left: torch.Tensor,
    right: torch.Tensor,
    place: torch.device,
    elements: int = 1 << 28,
) -> torch.Tensor:
    """All similarities, a block of rows at a time on another device; mteb wants them on the CPU."""
    right = right.to(place)
    rows = max(1, elements // max(1, len(right)))
    return torch.cat([measure(part.to(place), right).cpu() for part in torch.atleast_2d(left).split(rows)])


def _tensor(x: Any) -> torch.Tensor:
    return torch.as_tensor(x, dtype=torch.float32)


@functools.cache
def _similarity(name: str, pairwise: bool) -> Callable[..., torch.Tensor]:
    from sentence_transformers import SimilarityFunction

    pick = SimilarityFunction.to_similarity_pairwise_fn if pairwise else SimilarityFunction.to_similarity_fn
    return pick(name)


def devices() -> list[torch.device]:
    """The devices that share the work: every GPU that this process may use, else the CPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.device("cuda", i) for i in range(count)] or [torch.device("cpu")]


def load(
    path: Path, name: str, max_length: int = 0, dtype: str = "float32", over: Sequence[Any] = ()
) -> Model:
    """The model in a directory; `max_length` 0 keeps its own limit, `over` names its devices."""
    if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
        raise UserError(f"{path}: no model directory (neither config.json nor modules.json is in it)")
    places = [torch.device(d) for d in over] or devices()
    kind = getattr(torch, dtype)
    model = (_ours if _is_ours(path) else _foreign)(path, name, max_length, kind, places)
    if max_length > model.max_length > 0:
        log.warning(
            "%s: texts are cut to %d tokens, the model's own limit, not to %d",
            path,
            model.max_length,
            max_length,
        )
    model.budget = BUDGETS["cuda" if places[0].type == "cuda" else "cpu"]
    return model


def _is_ours(path: Path) -> bool:
    """A backbone, or an embedder that says in its configuration how it attends."""
    if not (path / "modules.json").is_file():
        return True
    if not (path / "config.json").is_file():
        return False
    return "is_causal" in json.loads((path / "config.json").read_text(encoding="utf-8"))


def _ours(path: Path, name: str, max_length: int, dtype: torch.dtype, places: list[torch.device]) -> Model:
    described = read_description(path)
    settings = described.settings
    if max_length:
        settings = settings.model_copy(update={"max_length": min(max_length, _positions(path, max_length))})
    embedder = Embedder.load(path, settings, device=places[0], dtype=dtype)

    @torch.inference_mode()
    def forward(module: nn.Module, rows: Rows, _: str) -> np.ndarray:
        assert isinstance(module, Embedder)
        return module(module.batch(rows)).float().cpu().numpy()

    towers = [Tower(embedder, forward)] + [Tower(copy.deepcopy(embedder).to(p), forward) for p in places[1:]]
    return Model(
        name,
        embedder.tokenizer,
        settings.max_length,
        towers,
        described.prompts,
        default_prompt=_default_prompt(path, described.prompts),
    )


def _default_prompt(path: Path, prompts: dict[str, str]) -> str:
    """The prompt that a directory names as the one for texts of no kind."""
    about = path / "config_sentence_transformers.json"
    if not about.is_file():
        return ""
    return prompts.get(json.loads(about.read_text(encoding="utf-8")).get("default_prompt_name") or "") or ""


def _positions(path: Path, otherwise: int) -> int:
    """The longest text that a model's configuration allows."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return int(config.get("max_position_embeddings") or otherwise)


def _foreign(path: Path, name: str, max_length: int, dtype: torch.dtype, places: list[torch.device]) -> Model:
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(
        str(path),
        device=str(places[0]),
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"dtype": dtype},
    )
    loaded.eval()
    own_limit = getattr(loaded, "max_seq_length", None)
    if max_length and own_limit:
        loaded.max_seq_length = min(max_length, own_limit)
    towers = [Tower(loaded, _forward_foreign)]
    towers += [Tower(copy.deepcopy(loaded).to(p), _forward_foreign) for p in places[1:]]
    model = Model(
        name,
        getattr(loaded, "tokenizer", None),
        getattr(loaded, "max_seq_length", None) or 0,
        towers,
        {name: words or "" for name, words in loaded.prompts.items()},
        str(loaded.similarity_fn_name or "cosine"),
        budget=BUDGETS["cpu"],
        default_prompt=loaded.prompts.get(loaded.default_prompt_name or "") or "",
    )
    if not _agrees(model, loaded):
        log.info("%s: its texts are prepared in a way of its own; sentence-transformers encodes them", path)
        model.fallback = functools.partial(_encode_foreign, loaded)
    return model


@torch.inference_mode()
def _forward_foreign(module: nn.Module, rows: Rows, prompt: str) -> np.ndarray:
    loaded: Any = module
    batch = collate(rows, loaded.tokenizer.pad_token_id).to(loaded.device)
    features: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "modality": "text",
    }
    if prompt:
        features["prompt_length"] = rows.prompt_lengths[0]
    return loaded(features)["sentence_embedding"].float().cpu().numpy()


def _encode_foreign(loaded: Any, texts: list[str], prompt: str) -> np.ndarray:
    return loaded.encode(texts, prompt=prompt, batch_size=32, show_progress_bar=False)


def _agrees(model: Model, loaded: Any) -> bool:
    """Whether our batches give sentence-transformers' own vectors, with and without a prompt."""
    if not callable(model.tokenizer) or model.max_length == 0 or "text" not in loaded.modalities:
        return False
    for prompt in ("", "Find it: "):
        own = _encode_foreign(loaded, list(PROBES), prompt)
        try:
            ours = model.encode(PROBES, prompt)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            log.info("batches of tokens do not suit this model: %s", error)
            return False
        scale = float(np.abs(own).max())
        if ours.shape != own.shape or np.abs(ours - own).max() > _tolerance(loaded) * scale:
            return False
    return True


def _tolerance(loaded: Any) -> float:
    return 1e-5 if next(loaded.parameters()).dtype == torch.float32 else 3e-2
