"""Seeds for random choices: from the study's seed and a name, never from global state."""

import hashlib


def derive_seed(seed: int, *names: object, bits: int = 63) -> int:
    """A seed that depends on the study's seed and on what the choice is for, and on nothing else."""
    text = "\0".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - bits)
