"""A decoder-only language model as an embedding model: load, tokenize, forward, encode.

The model is transformers' own, with its own switch for bidirectional attention; no head for
logits is loaded. `Embedder` is a torch module, so training can wrap it, and its `forward` gives
vectors with a graph; `encode` gives vectors of texts as numpy, in the order of the texts.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from realign.artifacts.command import UserError
from realign.embedder.attention import assert_attention, choose_implementation, set_attention
from realign.embedder.pooling import NAMES_ELSEWHERE, pool, pool_pack
from realign.embedder.tokens import Batch, Pack, Rows, by_token_budget, collate, pack, tokenize
from realign.engine.progress import Progress
from realign.study.embedder import EmbedderSettings

log = logging.getLogger(__name__)

# Texts are tokenized and sorted by length this many at a time, so that memory stays bounded.
WINDOW = 16384


class Embedder(nn.Module):
    """A language model, its tokenizer, and how its token states become one vector a text."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        settings: EmbedderSettings,
        prompts: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self.model: Any = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.prompts: dict[str, str] = dict(prompts or {})

    @classmethod
    def load(
        cls,
        path: Path | str,
        settings: EmbedderSettings | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        check: bool = True,
    ) -> "Embedder":
        """An embedder from a backbone's directory or from an exported embedder's.

        Without `settings`, an exported embedder is what it was exported as, and a backbone takes the
        defaults. `dtype` is float32 on a CPU and bfloat16 on a GPU unless given. The attention mode
        and the padding mask are proven by a small forward pass unless `check` is off.
        """
        path = Path(path)
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        described = read_description(path)
        settings = settings or described.settings
        model = load_model(path, settings.attention, settings.attn_implementation, device, dtype)
        if check:
            assert_attention(model, settings.attention, path, settings.attn_implementation == "packed")
        return cls(model, load_tokenizer(path, model), settings, described.prompts)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def width(self) -> int:
        """The length of a vector."""
        return int(self.model.config.hidden_size)

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch; attention never sees it."""
        return int(self.tokenizer.pad_token_id)

    def tokenize(
        self,
        texts: Sequence[str],
        instructions: Sequence[str] | str | None = None,
        max_length: int | None = None,
    ) -> Rows:
        """Rows of token ids, cut to the maximal length, each with the length of its instruction."""
        return tokenize(self.tokenizer, texts, instructions, max_length or self.settings.max_length)

    @property
    def packed(self) -> bool:
        """Whether texts go through the model one after the other, without padding."""
        return self.settings.attn_implementation == "packed"

    def batch(self, rows: Rows) -> Batch:
        """Rows as a batch on the model's device, padded or packed as the attention kernel has it."""
        return (pack(self._filled(rows)) if self.packed else collate(rows, self.pad_id)).to(self.device)

    def _filled(self, rows: Rows) -> Rows:
        """A text without a token as one that fills up and is not pooled: a pack has no room for nothing."""
        if all(rows.ids):
            return rows
        prompts = [n if row else 1 for row, n in zip(rows.ids, rows.prompt_lengths, strict=True)]
        return Rows([row or [self.pad_id] for row in rows.ids], prompts)

    def forward(self, batch: Batch) -> Tensor:
        """The vectors of a batch in float32, with a graph when gradients are on."""
        prompts, how = batch.prompt_lengths, self.settings.pooling
        if self.settings.pool_instruction:
            prompts = torch.zeros_like(prompts)
        if isinstance(batch, Pack):
            states = self.model(**batch.inputs()).last_hidden_state
            vectors = pool_pack(states[0], batch.bounds, prompts, how)
        else:
            given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            states = self.model(**given).last_hidden_state
            vectors = pool(states, batch.attention_mask, prompts, how)
        return functional.normalize(vectors, dim=-1) if self.settings.normalize else vectors

    def encode(
        self,
        texts: Sequence[str],
        instructions: Sequence[str] | str | None = None,
        *,
        token_budget: int = 16384,
        what: str = "encode",
        progress: bool = True,
        on_batch: Callable[[Sequence[int], np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """Vectors of texts, float32, in the order of the texts.

        Texts are sorted by length and batched so that texts × longest stays within `token_budget`.
        With `on_batch`, each batch's indices and vectors go there and an empty array is returned:
        for collections whose vectors are not to be held in memory.
        """
        vectors = np.empty((0 if on_batch else len(texts), self.width), dtype=np.float32)
        was_training = self.training
        self.eval()
        try:
            with Progress(what, len(texts), "texts") if progress else nullcontext() as told:
                for places, made in self._batches(texts, instructions, token_budget):
                    if on_batch:
                        on_batch(places, made)
                    else:
                        vectors[places] = made
                    if told:
                        told.advance(len(places))
        finally:
            self.train(was_training)
        return vectors

    def _batches(
        self, texts: Sequence[str], instructions: Sequence[str] | str | None, token_budget: int
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """The vectors batch by batch, with the places of their texts."""
        for start in range(0, len(texts), WINDOW):
            part = slice(start, start + WINDOW)
            one = instructions is None or isinstance(instructions, str)
            rows = self.tokenize(texts[part], instructions if one else instructions[part])  # type: ignore[index]
            for indices in by_token_budget(rows.lengths, token_budget, self.packed):
                yield [start + i for i in indices], self._vectors(rows.take(indices))

    @torch.inference_mode()
    def _vectors(self, rows: Rows) -> np.ndarray:
        return self(self.batch(rows)).float().cpu().numpy()


class Description:
    """What a directory says of itself as an embedder: settings and named prompts."""

    def __init__(self, settings: EmbedderSettings, prompts: Mapping[str, str]):
        self.settings, self.prompts = settings, dict(prompts)


def read_description(path: Path) -> Description:
    """The settings that an exported embedder was saved with; a backbone's are the defaults."""
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: no model directory (it has no config.json)")
    if not (path / "modules.json").is_file():
        return Description(EmbedderSettings(), {})
    causal = _read(path / "config.json").get("is_causal", True)
    found: dict[str, Any] = {"attention": "causal" if causal else "bidirectional", "normalize": False}
    for module in _read(path / "modules.json"):
        kind, folder = module["type"].rsplit(".", 1)[-1], path / module["path"]
        if kind == "Pooling":
            found |= _pooling_of(_read(folder / "config.json"), folder / "config.json")
        elif kind == "Normalize":
            found["normalize"] = True
        elif kind != "Transformer":
            raise UserError(f"{path}/modules.json: a {kind} module, which this package does not compute")
    about = _read(path / "sentence_bert_config.json") | _read(path / "tokenizer_config.json")
    length = about.get("max_seq_length") or about.get("model_max_length") or 512
    limit = _read(path / "config.json").get("max_position_embeddings") or length
    prompts = _read(path / "config_sentence_transformers.json").get("prompts") or {}
    return Description(EmbedderSettings(**found, max_length=int(min(length, limit))), prompts)


def _pooling_of(config: Mapping[str, Any], source: Path) -> dict[str, Any]:
    mode = config.get("pooling_mode")
    if mode is None:  # as sentence-transformers wrote it before version 6
        old = {"mean_tokens": "mean", "lasttoken": "lasttoken", "cls_token": "cls",
               "weightedmean_tokens": "weightedmean"}  # fmt: skip
        asked = [k.removeprefix("pooling_mode_") for k, v in config.items() if v is True]
        modes = [old.get(k, k) for k in asked if k != "include_prompt"]
        mode = modes[0] if len(modes) == 1 else modes
    known = {theirs: ours for ours, theirs in NAMES_ELSEWHERE.items()}
    if not isinstance(mode, str) or mode not in known:
        raise UserError(f"{source}: pooling {mode!r} is not among {', '.join(known)}")
    return {"pooling": known[mode], "pool_instruction": config.get("include_prompt", True)}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def load_model(
    path: Path, attention: str, implementation: str, device: torch.device, dtype: torch.dtype
) -> Any:
    """The language model without its head, attending as asked; every weight must be in the files."""
    from transformers import AutoConfig, AutoModel

    path = Path(path)
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: no model directory (it has no config.json)")
    config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    set_attention(config, attention)
    with _quiet():
        model, loaded = AutoModel.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            attn_implementation=choose_implementation(implementation, dtype, device),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    if unused := sorted(k for k in loaded["unexpected_keys"] if not k.startswith("lm_head")):
        log.warning("%s: %d weights have no place in this model (%s, …)", path, len(unused), unused[0])
    if missing := sorted(loaded["missing_keys"]):
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(f"{path}: {len(missing)} weights are not in its files ({shown})")
    return model.to(device).eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """The library's own report and bars held back: what matters in it is checked here."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()


def load_tokenizer(path: Path, model: Any | None = None) -> Any:
    """A directory's tokenizer, padding on the right; it must exist and fit the model's vocabulary."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    if len(tokenizer) == 0 or not any((Path(path) / f).is_file() for f in _TOKENIZER_FILES):
        raise UserError(f"{path}: the directory holds no tokenizer")
    rows = model.get_input_embeddings().num_embeddings if model is not None else None
    if rows is not None and max(tokenizer.get_vocab().values()) >= rows:
        raise UserError(f"{path}: the tokenizer has ids beyond the model's {rows} embeddings")
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
