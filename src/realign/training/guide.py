"""A guide model: a finished embedder whose cosines say which negatives are none, or teach by themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


class Guide:
    """A sentence-transformers model with its own prompts, whole on each process; nothing of it is trained."""

    def __init__(self, folder: Path, device: torch.device, precision: Literal["bf16", "fp32"]):
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(
            str(folder),
            device=str(device),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": torch.bfloat16 if precision == "bf16" else torch.float32},
        )

    def vectors(self, queries: Sequence[str], passages: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The vectors of queries and passages, of length one."""
        # A process without a text of a small batch still needs the width of the vectors that it lacks.
        asked, answers = list(queries) or [""], list(passages) or [""]
        model = self._model
        of_queries = model.encode_query(asked, convert_to_tensor=True, show_progress_bar=False)
        of_passages = model.encode_document(answers, convert_to_tensor=True, show_progress_bar=False)
        return _of_length_one(of_queries[: len(queries)]), _of_length_one(of_passages[: len(passages)])


def _of_length_one(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors.float(), dim=-1)
