"""Reading a file of hidden states: any layer, any range of rows, as numpy or torch.

For people who only want the states: `with StatesFile(path) as states: states.read(layer=-1)`.
Nothing is read that is not asked for; `blocks` walks a layer in pieces of bounded size.
"""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from realign.artifacts.command import UserError
from realign.states.format import FORMAT, VERSION


class StatesFile:
    """One file of hidden states, opened for reading."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise UserError(f"{path}: not an HDF5 file, or a damaged one ({error})") from None
        self.attributes: dict[str, Any] = dict(self._file.attrs)
        if (found := self.attributes.get("format")) != FORMAT:
            raise UserError(f"{path}: its format is {found!r}, not {FORMAT!r}")
        if (version := self.attributes.get("version")) != VERSION:
            raise UserError(f"{path}: format version {version}, and this release reads {VERSION}")
        self._states = self._file["states"]
        self.layers, self.rows, self.width = (int(n) for n in self._states.shape)

    @property
    def layer_names(self) -> list[str]:
        """What each layer is; layer 0 is the embedding output and no block."""
        return [str(name) for name in self.attributes["layer_names"]]

    @property
    def pooled(self) -> bool:
        """Whether a row is a text rather than a token."""
        return self.attributes["level"] == "text"

    @property
    def token_ids(self) -> np.ndarray:
        """Each row's token; in a pooled file a checksum of the text's tokens."""
        return self._file["token_ids"][:]

    @property
    def text_index(self) -> np.ndarray:
        """Each row's text, counted from 0 in the order of the corpus."""
        return self._file["text_index"][:]

    @property
    def position(self) -> np.ndarray:
        """Each row's place in its text; in a pooled file the text's number of tokens."""
        return self._file["position"][:]

    @property
    def offsets(self) -> np.ndarray | None:
        """Each token's first character and the one after its last; none in a pooled file."""
        return self._file["offsets"][:] if "offsets" in self._file else None

    @property
    def text_offsets(self) -> np.ndarray:
        """Where each text's rows begin, and where the last one's end."""
        return self._file["text_offsets"][:]

    @property
    def text_tokens(self) -> np.ndarray:
        """How many tokens each text has, kept or not; of a text that was cut (`max_tokens`), up to there."""
        return self._file["text_tokens"][:]

    @property
    def text_ids(self) -> list[str]:
        """The texts' names in their corpus."""
        return [str(name) for name in self._file["text_ids"].asstr()[:]]

    @property
    def labels(self) -> list[str] | None:
        """The texts' labels, where the corpus has them."""
        return [str(x) for x in self._file["labels"].asstr()[:]] if "labels" in self._file else None

    def rows_of(self, text: int) -> slice:
        """The rows of one text."""
        if not 0 <= text < len(self.text_tokens):
            raise IndexError(f"{self.path}: text {text} of {len(self.text_tokens)}")
        start, stop = self._file["text_offsets"][text : text + 2]
        return slice(int(start), int(stop))

    def read(self, layer: int, start: int = 0, stop: int | None = None, torch: bool = False) -> Any:
        """Rows `start` to `stop` of a layer (negative layers count from the end).

        Numpy gets float32 for stored bfloat16 and the stored precision otherwise; with `torch`, a
        tensor in the stored precision, bfloat16 included.
        """
        if not -self.layers <= layer < self.layers:
            raise IndexError(f"{self.path}: layer {layer} of {self.layers}")
        stored = self._states[layer % self.layers, start : self.rows if stop is None else stop]
        if torch:
            return _tensor(stored)
        return (stored.astype(np.uint32) << 16).view(np.float32) if stored.dtype == np.uint16 else stored

    def blocks(self, layer: int, size: int = 8192, torch: bool = False) -> Iterator[Any]:
        """A layer's rows in blocks of at most `size`."""
        if size < 1:
            raise ValueError(f"size: blocks hold one row at least, not {size}")
        for start in range(0, self.rows, size):
            yield self.read(layer, start, min(start + size, self.rows), torch)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "StatesFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self.close()


def _tensor(stored: np.ndarray) -> Any:
    import torch

    if stored.dtype == np.uint16:
        return torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(stored)
