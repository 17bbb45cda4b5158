"""A model as mteb wants to see it, with our prompts, our order of texts, and vectors that are kept.

mteb asks for vectors of a data loader's texts. Here they are taken column by column, each distinct
text is looked up or encoded once, and every prompt that was really prefixed is noted.
"""

from typing import Any

import numpy as np
from mteb.models.model_meta import ModelMeta, ScoringFunction

from realign.artifacts.command import UserError
from realign.evaluation.models import Model
from realign.evaluation.prompts import PromptPlan
from realign.vectors.store import VectorStore, text_keys


class Encoder:
    """What mteb calls: `encode` and the similarities, for one task's evaluation."""

    def __init__(self, model: Model, revision: str, plan: PromptPlan, store: VectorStore | None = None):
        self.model, self.plan, self.store = model, plan, store
        self.prefixed: dict[str, str] = {}
        self.encoded = self.asked = 0
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": f"realign/{model.name}",
                "revision": revision,
                "similarity_fn_name": ScoringFunction.from_str(model.similarity_name),
                "max_tokens": model.max_length,
                "framework": ["PyTorch"],
                "use_instructions": bool(plan.template),
            }
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **_: Any,
    ) -> np.ndarray:
        """The vectors of a data loader's texts."""
        role = prompt_type.value if prompt_type else "text"
        prompt = self.plan.prompt(task_metadata, prompt_type)
        self.prefixed[role] = prompt
        return self.vectors(texts_of(inputs), prompt, f"{task_metadata.name} {hf_split} {hf_subset}".strip())

    def vectors(self, texts: list[str], prompt: str, what: str = "encode") -> np.ndarray:
        """The texts' vectors, each distinct text encoded at most once."""
        places: dict[str, int] = {}
        index = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
        distinct = list(places)
        self.asked += len(texts)
        store, keys = self.store, text_keys(distinct, prompt)
        kept = list(store.find(keys)) if store is not None else []
        absent = np.ones(len(distinct), bool)
        for found, _ in kept:
            absent[found] = False
        missing = np.flatnonzero(absent)

        def keep(part: slice, vectors: np.ndarray) -> None:
            self._check(vectors, [distinct[i] for i in missing[part]], what)
            if store is not None:
                store.add(keys[missing[part]], store.round(vectors))

        made = self.model.encode([distinct[i] for i in missing], prompt, what, keep)
        self.encoded += len(missing)
        if store is not None:
            made = store.round(made)
        if not kept:
            return made[index] if len(index) else made
        whole = np.empty((len(distinct), kept[0][1].shape[1]), np.float32)
        for found, vectors in [*kept, (missing, made.reshape(len(missing), whole.shape[1]))]:
            whole[found] = vectors
        return whole[index]

    def _check(self, vectors: np.ndarray, texts: list[str], what: str) -> None:
        """Refuse NaN and infinities: a search would rank such a passage before all others."""
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            raise UserError(
                f"{what}: {len(broken)} of {len(texts)} vectors of {self.model.name} hold NaN or infinities, "
                f"that of {texts[broken[0]][:80]!r} first; is the model damaged, or the dtype too narrow?"
            )

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """All similarities between two sets of vectors."""
        return self.model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The similarity of each pair of vectors."""
        return self.model.similarity_pairwise(embeddings1, embeddings2)


def texts_of(inputs: Any) -> list[str]:
    """The texts of a data loader: its dataset's column where it has one, else batch by batch."""
    dataset = inputs.dataset
    if "text" in getattr(dataset, "column_names", ()):
        return list(dataset["text"])
    return [text for batch in inputs for text in batch["text"]]
