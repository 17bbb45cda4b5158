"""A teacher without a model: what two texts share in rare words, squeezed into short vectors.

Words, runs of words and pieces of words are hashed, weighted by how rare they are in the dataset,
and decomposed into a few hundred dimensions. It needs seconds, no weights and no GPU, and finds
sensible hard negatives, which is what a study without a teacher model needs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import FeatureUnion

from realign.artifacts.fingerprint import fingerprint
from realign.artifacts.hashing import hash_json
from realign.mining.teachers import Side, Vectors
from realign.study.mining import Lexical

# Rows that the decomposition is fitted on at most; it changes little beyond.
FIT_ROWS = 50_000


class LexicalTeacher:
    """TF-IDF of hashed n-grams, made dense by a seeded truncated decomposition."""

    def __init__(self, settings: Lexical, texts: Sequence[str], seed: int):
        self.settings, self.seed = settings, seed
        self._texts = texts
        self._fitted: tuple[Any, TfidfTransformer, TruncatedSVD] | None = None

    def identity(self, side: Side) -> dict[str, Any]:
        """The settings, and the texts that decide what is rare."""
        return {
            "kind": "lexical",
            "settings": self.settings.model_dump(mode="json"),
            "texts": hash_json(list(self._texts)),
            "seed": self.seed,
            "code": fingerprint(__name__),
        }

    def encode(self, texts: Sequence[str], side: Side) -> Vectors:
        """The vectors of texts, in their order; a text without any known feature is all zeros."""
        features, rarity, decomposition = self._fit()
        dense = decomposition.transform(rarity.transform(features.transform(texts)))
        lengths = np.linalg.norm(dense, axis=1, keepdims=True)
        return (dense / np.where(lengths > 1e-9, lengths, 1.0)).astype(np.float32)

    def _fit(self) -> tuple[Any, TfidfTransformer, TruncatedSVD]:
        if self._fitted is None:
            features = self._features()
            rarity = TfidfTransformer(sublinear_tf=True)
            weighted = sparse.csr_matrix(rarity.fit_transform(features.transform(self._texts)))
            rows = np.random.default_rng(self.seed).permutation(weighted.shape[0])[:FIT_ROWS]
            # no more dimensions than there are texts to tell apart
            size = max(1, min(self.settings.dimensions, len(rows) - 1, self.settings.features - 1))
            decomposition = TruncatedSVD(
                size, n_iter=self.settings.iterations, random_state=self.seed % (1 << 32)
            )
            decomposition.fit(weighted[np.sort(rows)])
            self._fitted = features, rarity, decomposition
        return self._fitted

    def _features(self) -> Any:
        common = {
            "n_features": self.settings.features,
            "alternate_sign": False,
            "norm": None,
            "dtype": np.float64,
        }
        kinds = [("words", HashingVectorizer(ngram_range=(1, self.settings.words), **common))]
        if self.settings.characters:
            span = (min(3, self.settings.characters), self.settings.characters)
            kinds.append(("pieces", HashingVectorizer(analyzer="char_wb", ngram_range=span, **common)))
        return FeatureUnion(kinds)
