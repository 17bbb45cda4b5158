"""Which hidden states are kept of each model and corpus, and in what precision."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from realign.study.base import Name, Section, setting
from realign.study.embedder import Attention, Kernel, Pooling
from realign.study.errors import nearest


class TokenSelection(Section):
    """Which tokens of a corpus are kept; chosen before extraction, and the same for every model."""

    count: int | None = setting(
        20_000,
        "Tokens kept of a corpus, drawn by seed, as many from each text as far as it has them; nothing "
        "keeps all, 0 none (pooled states alone).",
        unit="tokens",
        ge=0,
    )
    skip_first: int = setting(
        0,
        "Leave out so many first tokens of each text: attention sinks, whose states are like no other's.",
        unit="tokens",
        ge=0,
    )


class CorpusStates(Section):
    """What differs for one corpus."""

    tokens: TokenSelection | None = setting(None, "Which of its tokens are kept.")
    max_tokens: int | None = setting(None, "Its texts are cut after this many.", unit="tokens", ge=1)


class StatesHardware(Section):
    """How the same states are computed, up to rounding; makes nothing stale."""

    processes: int | None = setting(
        None, "Processes that share the texts; nothing means one for each GPU, or one on CPUs.", ge=1
    )
    token_budget: int = setting(
        16384, "Tokens in one forward pass, padding included; a longer text has one of its own.",
        unit="tokens", ge=1,
    )  # fmt: skip


class Kept(Section):
    """How states are computed and stored, whatever the corpus."""

    pooling: Pooling = setting("mean", "How a text's token states become its pooled state, in each layer.")
    before_norm: bool = setting(
        False, "Also keep the last block's output before the final norm, as a layer of its own."
    )
    special_tokens: bool = setting(False, "Whether the tokenizer adds its special tokens to each text.")
    compute: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "Precision of the forward pass; auto is bfloat16 on a GPU and float32 on a CPU."
    )
    storage: Literal["float32", "float16", "bfloat16"] = setting(
        "float32", "Precision of token states in the file; pooled states are always float32."
    )
    attn_implementation: Kernel = setting(
        "auto", "The attention kernel; auto takes flash-attention 2 where it fits, else PyTorch's own."
    )


class States(Kept):
    """Hidden states of all layers, extracted once for each model, corpus and attention mode."""

    tokens: TokenSelection = Field(TokenSelection(), description="Which tokens are kept.")
    max_tokens: int = setting(131_072, "Texts are cut after this many tokens.", unit="tokens", ge=1)
    corpora: dict[Name, CorpusStates] = Field({}, description="What differs for a probe corpus, by name.")
    hardware: StatesHardware = setting(StatesHardware(), "How it is computed.", stales=False)

    def selection(self, corpus: str) -> TokenSelection:
        """Which tokens of a corpus are kept."""
        return self.corpora.get(corpus, CorpusStates()).tokens or self.tokens

    def extract(self, model: str, corpus: str, attention: str, seed: int) -> "Extract":
        """The settings slice of one extraction."""
        own = self.corpora.get(corpus, CorpusStates())
        return Extract(
            model_name=model,
            corpus_name=corpus,
            attention=attention,  # type: ignore[arg-type]  # a wildcard, checked by the section
            seed=seed,
            tokens=self.selection(corpus),
            max_tokens=own.max_tokens or self.max_tokens,
            hardware=self.hardware,
            **{name: getattr(self, name) for name in Kept.model_fields},
        )

    def problems_in(self, study: Any) -> Iterator[str]:
        """Corpora that the study does not have."""
        for name in self.corpora:
            if name not in study.text.probes:
                yield f"states.corpora.{name}: no probe corpus '{name}'{nearest(name, study.text.probes)}"


class Extract(Kept):
    """One extraction: one model, one corpus, one attention mode."""

    model_name: str = setting("model", "The model's name, written into the file.")
    corpus_name: str = setting(
        "corpus", "The corpus's name, written into the file; it also seeds the selection."
    )
    attention: Attention = setting("bidirectional", "Whether a token sees those after it.")
    seed: int = setting(0, "The seed by which tokens are drawn.", ge=0)
    tokens: TokenSelection = Field(TokenSelection(), description="Which tokens are kept.")
    max_tokens: int = setting(131_072, "Texts are cut after this many tokens.", unit="tokens", ge=1)
    hardware: StatesHardware = setting(StatesHardware(), "How it is computed.", stales=False)
