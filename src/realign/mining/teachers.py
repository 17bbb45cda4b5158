"""Teachers: whatever turns texts into vectors of length one.

A folder with `modules.json` is a sentence-transformers model and is run by that library; any other
model folder is a backbone, read through the package's own embedder. Which teacher it was, with
everything that decides its vectors, is its `identity`, the key under which vectors are kept.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from realign.artifacts.command import UserError
from realign.artifacts.fingerprint import fingerprint
from realign.artifacts.manifest import content_hash
from realign.embedder.tokens import by_token_budget, tokenize
from realign.study.mining import Teaching

log = logging.getLogger(__name__)
CPU_TOKENS = 1024  # a CPU is fastest while a batch fits its caches

Side = Literal["query", "passage"]
Vectors = np.ndarray  # float32, a row a text, of length one


def of_length_one(vectors: np.ndarray) -> Vectors:
    """Vectors over their lengths, computed in float64; a vector of zeros stays one."""
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


class Teacher(Protocol):
    """Encodes texts; equal identities give equal vectors."""

    def identity(self, side: Side) -> dict[str, Any]:
        """All that decides a text's vector on one side."""
        ...

    def encode(self, texts: Sequence[str], side: Side) -> Vectors:
        """The vectors of texts, in their order."""
        ...


def load_teacher(path: Path, settings: Teaching, token_budget: int = 16384) -> Teacher:
    """The teacher in a folder; nothing large is loaded before its first text."""
    if not path.is_dir():
        raise UserError(f"{path}: the teacher is no folder")
    if (path / "modules.json").is_file():
        return SentenceTransformersTeacher(path, settings, token_budget)
    if (path / "config.json").is_file():
        return EmbedderTeacher(path, settings, token_budget)
    raise UserError(f"{path}: no teacher; expected modules.json (sentence-transformers) or config.json")


class _FolderTeacher:
    """What teachers that are loaded from a folder share."""

    kind = ""

    def __init__(self, path: Path, settings: Teaching, token_budget: int):
        self.path, self.settings, self.token_budget = path, settings, token_budget
        self._content = content_hash(path)
        self._loaded: Any = None

    def identity(self, side: Side) -> dict[str, Any]:
        """The model's content, the prompt, and how texts are cut and pooled."""
        return {
            "kind": self.kind,
            "teacher": self._content,
            "prompt": self._given_prompt(side),
            "max_length": self.settings.max_length,
            "dtype": self.settings.dtype,
            "code": fingerprint(__name__),
        }

    def _given_prompt(self, side: Side) -> str | None:
        return self.settings.query_prompt if side == "query" else self.settings.passage_prompt

    def encode(self, texts: Sequence[str], side: Side) -> Vectors:
        """The vectors of texts, in their order; a vector that is not finite is an error."""
        vectors = self._encode(texts, side)
        if len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise UserError(f"{self.path}: the teacher gave vectors that are not finite numbers")
        # A model in bfloat16 normalises in bfloat16: its lengths are off by up to 0.4 %, each text's
        # by its own, and inner products would prefer the longer ones.
        return of_length_one(vectors)

    def _encode(self, texts: Sequence[str], side: Side) -> np.ndarray:
        raise NotImplementedError


class SentenceTransformersTeacher(_FolderTeacher):
    """Any sentence-transformers model, with its own prompts, pooling and limits."""

    kind = "sentence-transformers"

    def identity(self, side: Side) -> dict[str, Any]:
        """The same, and the side: the model has a prompt, or even a way, of its own for each."""
        return super().identity(side) | {"side": side}

    def _encode(self, texts: Sequence[str], side: Side) -> np.ndarray:
        model = self._model()
        encode = model.encode_query if side == "query" else model.encode_document
        vectors: list[np.ndarray] = [np.empty(0)] * len(texts)
        for batch in self._batches(model, texts, side):
            made = encode(
                [texts[i] for i in batch],
                prompt=self._given_prompt(side),
                batch_size=len(batch),
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
            for i, vector in zip(batch, made, strict=True):
                vectors[i] = vector
        return np.stack(vectors)

    def _batches(self, model: Any, texts: Sequence[str], side: Side) -> Iterable[Sequence[int]]:
        """Places of texts in batches by the tokens they have, which may be far fewer than a model could read.

        Texts whose tokens we can't count go through it in the library's own number.
        """
        limit, tokenizer = model.max_seq_length, getattr(model, "tokenizer", None)
        if not limit or not callable(tokenizer):
            return (range(i, min(i + 32, len(texts))) for i in range(0, len(texts), 32))
        given = self._given_prompt(side)
        prompt = model.prompts.get("query" if side == "query" else "document") if given is None else given
        budget = self.token_budget if model.device.type == "cuda" else min(self.token_budget, CPU_TOKENS)
        lengths = tokenize(tokenizer, texts, prompt, limit).lengths
        return map(sorted, by_token_budget(lengths, budget))

    def _model(self) -> Any:
        if self._loaded is None:
            from sentence_transformers import SentenceTransformer

            self._loaded = SentenceTransformer(
                str(self.path),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": getattr(torch, self.settings.dtype)},
            )
            if self.settings.max_length is not None:
                self._loaded.max_seq_length = self.settings.max_length
            log.info("teacher %s on %s", self.path, self._loaded.device)
        return self._loaded


class EmbedderTeacher(_FolderTeacher):
    """A plain backbone, pooled as the study says."""

    kind = "backbone"

    def identity(self, side: Side) -> dict[str, Any]:
        """The same, and how the backbone is pooled."""
        return super().identity(side) | {"pooling": self._pooling().model_dump(mode="json")}

    def _pooling(self) -> Any:
        changes: dict[str, Any] = {"normalize": True}
        if self.settings.max_length is not None:
            changes["max_length"] = self.settings.max_length
        return self.settings.pooling.model_copy(update=changes)

    def _encode(self, texts: Sequence[str], side: Side) -> np.ndarray:
        if self._loaded is None:
            from realign.embedder.model import Embedder

            self._loaded = Embedder.load(
                self.path, self._pooling(), dtype=getattr(torch, self.settings.dtype)
            )
            log.info("teacher %s on %s", self.path, self._loaded.device)
        prompt = self._given_prompt(side) or None
        return self._loaded.encode(
            texts, prompt, token_budget=self.token_budget, what="teacher", progress=False
        )
