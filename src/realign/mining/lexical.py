"""A teacher without a model: what two texts share in rare words, projected to short vectors.

Words and pieces of words are hashed, weighted by how rare they are in the dataset, and projected at
random, which keeps inner products. It needs seconds, no weights and no GPU, and finds sensible hard
negatives, which is what a study without a teacher model needs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import FeatureUnion
from sklearn.random_projection import SparseRandomProjection

from realign.artifacts.fingerprint import fingerprint
from realign.artifacts.hashing import hash_json
from realign.mining.teachers import Side, Vectors, of_length_one
from realign.study.mining import Lexical

# The share of the projection's entries that are not zero.
DENSITY = 1 / 64


class LexicalTeacher:
    """TF-IDF of hashed n-grams, made dense by a seeded sparse projection."""

    def __init__(self, settings: Lexical, texts: Sequence[str], seed: int):
        self.settings, self.seed = settings, seed
        self._texts = texts
        self._fitted: tuple[TfidfTransformer, np.ndarray, SparseRandomProjection] | None = None

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
        """The vectors of texts, in their order; a text that shares nothing with any is all zeros."""
        rarity, shared, projection = self._fit()
        weighted = rarity.transform(self._count(texts)[:, shared])
        return of_length_one(projection.transform(weighted))

    def _fit(self) -> tuple[TfidfTransformer, np.ndarray, SparseRandomProjection]:
        if self._fitted is None:
            counts = self._count(self._texts)
            found_in = np.bincount(counts.indices, minlength=counts.shape[1])
            # A feature of one text says nothing about what texts share; one of most texts, little.
            shared = np.flatnonzero((found_in >= 2) & (found_in <= max(2, counts.shape[0] // 2)))
            shared = shared if len(shared) else np.arange(1)
            rarity = TfidfTransformer(sublinear_tf=True)
            weighted = rarity.fit_transform(counts[:, shared])
            projection = SparseRandomProjection(
                self.settings.dimensions,
                density=DENSITY,
                random_state=self.seed % (1 << 32),
                dense_output=True,
            )
            self._fitted = rarity, shared, projection.fit(weighted)
        return self._fitted

    def _count(self, texts: Sequence[str]) -> sparse.csr_matrix:
        counts = sparse.csr_matrix(self._features().transform(texts))
        counts.sum_duplicates()
        return counts

    def _features(self) -> FeatureUnion:
        common = {"n_features": self.settings.features, "alternate_sign": False, "norm": None}
        kinds = [("words", HashingVectorizer(ngram_range=(1, self.settings.words), **common))]
        if self.settings.characters:
            span = (min(3, self.settings.characters), self.settings.characters)
            kinds.append(("pieces", HashingVectorizer(analyzer="char_wb", ngram_range=span, **common)))
        return FeatureUnion(kinds)
