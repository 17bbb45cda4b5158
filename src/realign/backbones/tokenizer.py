"""A byte-level BPE tokenizer made from a corpus; each digit stays a token of its own.

Single digits let a small model learn arithmetic by columns instead of by heart. Any text round-trips,
since all 256 bytes are in the vocabulary.
"""

from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from realign.study.backbones import TokenizerRecipe

END, PAD = "<|endoftext|>", "<|pad|>"
# One digit; a word with the space before it; a run of signs; line ends; other space.
_PIECES = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(texts: Iterable[str], recipe: TokenizerRecipe, positions: int) -> Any:
    """A fast transformers tokenizer trained on the texts; the same texts give the same tokenizer."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        min_frequency=recipe.min_frequency,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=positions,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
