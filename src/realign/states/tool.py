"""`realign states`: look at files of hidden states."""

import argparse
from collections.abc import Sequence

import numpy as np

from realign.states.reader import StatesFile


def main(words: Sequence[str]) -> int:
    """Show a file."""
    parser = argparse.ArgumentParser("realign states", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="what", required=True)
    shown = commands.add_parser("show", help="what a file holds, and the size of its states in each layer")
    shown.add_argument("file")
    with StatesFile(parser.parse_args(list(words)).file) as states:
        print(describe(states))
    return 0


def describe(states: StatesFile, sample: int = 2048) -> str:
    """A file in words: what it is of, and the norms of a sample of its rows, layer by layer."""
    skip = ("format", "version", "layer_names")
    lines = [f"{states.path}: {states.attributes['format']} version {states.attributes['version']}"]
    lines += [f"  {name:<15}{value}" for name, value in sorted(states.attributes.items()) if name not in skip]
    kind = "texts" if states.pooled else "tokens"
    lines.append(f"  {'shape':<15}{states.layers} layers × {states.rows} {kind} × {states.width} wide")
    lines.append(
        f"  {'texts':<15}{len(states.text_tokens)}, of {int(states.text_tokens.sum())} tokens in all"
    )
    if labels := states.labels:
        lines.append(f"  {'labels':<15}{len(set(labels))} different")
    if states.rows:
        lines.append(f"  norms of the first {min(sample, states.rows)} rows, median and largest:")
        for layer, name in enumerate(states.layer_names):
            norms = np.linalg.norm(states.read(layer, 0, sample).astype(np.float64), axis=1)
            lost = int((~np.isfinite(norms)).sum())
            told = f"  {lost} of these rows are not finite" if lost else ""
            lines.append(f"    {layer:>3}  {name:<26}{np.median(norms):>10.3f}{norms.max():>12.3f}{told}")
    return "\n".join(lines)
