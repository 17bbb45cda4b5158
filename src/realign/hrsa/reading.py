"""States as the measures see them: layers × tokens × width, read a few rows of one layer at a time.

`StateFile` reads the HDF5 format that extraction writes; `ArrayStates` puts arrays in its place for
people who hold their states in memory. `shuffled` and `Rotated` are the floors that are made from
one model's states alone. Nothing here holds more than what is asked of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import h5py
import numpy as np

from realign.artifacts.command import UserError

FORMAT = "realign-states"
VERSION = 1
GAP_BYTES = 16 << 10  # what is read faster than another call of the library takes
WINDOW_BYTES = 8 << 20  # read at a time of rows with gaps
PICKED_BYTES = 2 << 20  # read at a time of rows that are put into another order: they stay in the cache
Array = np.ndarray[Any, np.dtype[Any]]


class States(Protocol):
    """One model's hidden states over a sample of tokens."""

    name: str
    layers: int
    tokens: int
    width: int
    text_index: Array

    def read(self, layer: int, rows: Sequence[slice]) -> Array:
        """Those rows of one layer, in the order given."""
        ...


def widen(stored: Array) -> Array:
    """Stored states as floats: bfloat16 is kept as its 16 bits, the upper half of a float32."""
    if stored.dtype != np.uint16:
        return stored
    return (stored.astype(np.uint32) << 16).view(np.float32)


def before_norm(attributes: Mapping[str, Any]) -> int | None:
    """The layer that is the last block's output before the final norm, if a file's attributes name one."""
    names = [str(name) for name in attributes.get("layer_names", ())]
    return next((i for i, name in enumerate(names) if name.endswith("before the norm")), None)


class StateFile:
    """The states in one HDF5 file, opened for reading."""

    def __init__(self, path: Path):
        self.path = path
        self.name = str(path)
        try:
            self._file = h5py.File(path, "r")
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except OSError as error:
            raise UserError(f"{path}: not an HDF5 file ({error})") from None
        self.attributes = dict(self._file.attrs)
        found, version = self.attributes.get("format"), self.attributes.get("version")
        if found != FORMAT:
            raise UserError(f"{path}: its format is {found!r}, and only {FORMAT!r} can be compared")
        if version != VERSION:
            raise UserError(f"{path}: format version {version}, and this release reads {VERSION}")
        self._states = self._file["states"]
        self.layers, self.tokens, self.width = self._states.shape
        self.text_index = self._file["text_index"][:]
        self.token_ids, self.position, self.offsets, self.text_tokens = (
            self._file[name][:] if name in self._file else None
            for name in ("token_ids", "position", "offsets", "text_tokens")
        )
        if not self.tokens:
            raise UserError(f"{path}: no rows were kept; extract with tokens, or compare pooled states")

    @property
    def level(self) -> str:
        """What a row is: a `token`, or a whole `text`."""
        return str(self.attributes.get("level", "token"))

    @property
    def before_norm(self) -> int | None:
        """The layer that is the last block's output before the final norm, if it was kept."""
        return before_norm(self.attributes)

    @property
    def text_ids(self) -> list[str]:
        """The texts' names in their corpus; none where the file does not say them."""
        return [str(name) for name in self._file["text_ids"].asstr()[:]] if "text_ids" in self._file else []

    def text_name(self, text: int) -> str:
        """A text's number, and its name in the corpus."""
        names = self.text_ids
        return f"{text}, '{names[text]}'" if text < len(names) else str(text)

    def labels(self) -> list[str]:
        """Each row's label, by its text."""
        if "labels" not in self._file:
            raise UserError(f"{self.path}: the corpus has no labels, so there is nothing to probe for")
        labels = self._file["labels"].asstr()[:]
        return [str(labels[text]) for text in self.text_index]

    def read(self, layer: int, rows: Sequence[slice]) -> Array:
        """Those rows of one layer, in the order given."""
        row_bytes = self.width * self._states.dtype.itemsize
        parts = []
        for covered, wanted in windows(rows, GAP_BYTES // row_bytes, WINDOW_BYTES // row_bytes):
            held = self._states[layer, covered]
            parts += [held[p.start - covered.start : p.stop - covered.start] for p in wanted]
        return widen(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def __enter__(self) -> "StateFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self._file.close()


class ArrayStates:
    """States that are already in memory: (layers, tokens, width), or (tokens, width) for one layer."""

    def __init__(self, values: Array, text_index: Sequence[int] | Array | None = None, name: str = "array"):
        values = np.asarray(values)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or 0 in values.shape:
            shape = " × ".join(map(str, values.shape))
            raise UserError(
                f"{name}: states have 3 axes (layer, token, width), none of them empty, not {shape}"
            )
        if not (np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)):
            raise UserError(f"{name}: states are real numbers, not {values.dtype}")
        self.name, self._values = name, values
        self.layers, self.tokens, self.width = values.shape
        # Without word of the texts each row stands for itself.
        self.text_index = np.arange(self.tokens) if text_index is None else np.asarray(text_index)
        if len(self.text_index) != self.tokens:
            raise UserError(f"{name}: {len(self.text_index)} text indexes for {self.tokens} tokens")

    def read(self, layer: int, rows: Sequence[slice]) -> Array:
        """Those rows of one layer, in the order given."""
        return np.concatenate([self._values[layer, part] for part in rows])


class Picked:
    """Some rows of other states, in an order of one's own."""

    def __init__(self, states: States, rows: Array, name: str | None = None, keep_texts: bool = False):
        self.name = name or states.name
        self._states, self._rows = states, np.asarray(rows)
        self.layers, self.tokens, self.width = states.layers, len(self._rows), states.width
        self.text_index = states.text_index if keep_texts else states.text_index[self._rows]

    def read(self, layer: int, rows: Sequence[slice]) -> Array:
        """Those rows of one layer, in the order given."""
        wanted = np.concatenate([self._rows[part] for part in rows])
        order = np.argsort(wanted, kind="stable")
        result = np.empty((0, self.width))
        for some in np.array_split(order, -(-len(order) * self.width * 4 // PICKED_BYTES)):
            found = self._states.read(layer, runs(wanted[some]))
            if not len(result):
                result = np.empty((len(wanted), self.width), found.dtype)
            result[some] = found
        return result


class OneLayer:
    """A single layer of other states."""

    def __init__(self, states: States, layer: int):
        self.name, self.layers, self.tokens, self.width = states.name, 1, states.tokens, states.width
        self.text_index = states.text_index
        self._states, self._layer = states, layer

    def read(self, _: int, rows: Sequence[slice]) -> Array:
        """Those rows of the layer, in the order given."""
        return self._states.read(self._layer, rows)


def shuffled(states: States, seed: int, in_texts: bool = False) -> Picked:
    """The floor of no correspondence: the same states, each token standing for another one.

    Within texts, each stands for another one of its own text: models that share nothing but their texts.
    """
    order = np.random.default_rng(seed).permutation(states.tokens)
    if in_texts:
        texts = np.asarray(states.text_index)
        by_text = np.empty_like(order)
        by_text[np.argsort(texts, kind="stable")] = order[np.argsort(texts[order], kind="stable")]
        order = by_text
    name = f"{states.name} (tokens shuffled{' within texts' if in_texts else ''})"
    return Picked(states, order, name, keep_texts=True)


def haar_rotation(width: int, seed: int) -> Array:
    """A rotation drawn evenly from all of them: QR of a Gaussian, with the signs of R taken out."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    return q * np.sign(np.diag(r))


class Rotated:
    """The floor of a lost basis: the same geometry in random coordinates."""

    def __init__(self, states: States, seed: int):
        self.name = f"{states.name} (rotated)"
        self._states, self._rotation = states, haar_rotation(states.width, seed)
        self.layers, self.tokens, self.width = states.layers, states.tokens, states.width
        self.text_index = states.text_index

    def read(self, layer: int, rows: Sequence[slice]) -> Array:
        """Those rows of one layer, in the order given."""
        return self._states.read(layer, rows).astype(np.float64) @ self._rotation


def windows(rows: Sequence[slice], gap: int, most: int) -> Iterator[tuple[slice, list[slice]]]:
    """Slices that are read together, and what covers them: small gaps, and no more than so many rows."""
    together: list[slice] = []
    for part in rows:
        if together and not (
            0 <= part.start - together[-1].stop <= gap and part.stop - together[0].start <= most
        ):
            yield slice(together[0].start, together[-1].stop), together
            together = []
        together.append(part)
    if together:
        yield slice(together[0].start, together[-1].stop), together


def runs(rows: Array) -> list[slice]:
    """Ascending row numbers as slices of neighbours; a row asked for twice starts a new slice."""
    if not len(rows):
        return []
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    starts, ends = np.r_[0, cuts], np.r_[cuts, len(rows)]
    return [slice(int(rows[a]), int(rows[b - 1]) + 1) for a, b in zip(starts, ends, strict=True)]


def read_all(states: States, layer: int) -> Array:
    """One whole layer; what is not finite in it is an error that names the layer."""
    values = states.read(layer, [slice(0, states.tokens)])
    if not np.isfinite(values).all():
        raise UserError(f"{states.name}: layer {layer} holds values that are not finite")
    return values
