"""Lines in and out of files, whatever they are packed with.

What a file is packed with is read from its first bytes, since published files often carry no
suffix; what is written follows the suffix and holds no time stamp, so equal rows give equal bytes.
"""

import codecs
import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from realign.artifacts.command import UserError

MAX_LINE_BYTES = 16 << 20
PACKED_BYTES = 8 << 10  # read at a time: unpacked, they can be a thousand times as many

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"


class LineError(UserError):
    """One line of a file that cannot be used: the file, the line's number and the reason."""

    def __init__(self, path: Path | str, line: int, reason: str, advice: str = ""):
        self.line, self.reason = line, reason
        super().__init__(f"{path}, line {line}: {reason}" + (f"; {advice}" if advice else ""))


def first_bytes(path: Path, count: int = 4) -> bytes:
    """The first bytes of a file, by which its packing is told."""
    with path.open("rb") as stream:
        return stream.read(count)


@contextlib.contextmanager
def open_packed(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a plain, gzip or zstd file, told apart by their first bytes."""
    if path.is_dir():
        raise UserError(f"{path}: this is a folder, and one file is read here; name a file in it")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    magic = first_bytes(path)
    if magic == PARQUET:
        raise UserError(f"{path} is a Parquet file where lines of text are expected; name its columns")
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(path.open("rb"))
        if magic[:2] == GZIP:
            raw = stack.enter_context(gzip.open(raw))
        elif magic == ZSTD:
            raw = _ZstdFrames(raw)
        yield stack.enter_context(io.BufferedReader(raw, 1 << 18))


class _ZstdFrames(io.RawIOBase):
    """The content of zstd frames one after the other; a frame that ends early is an error.

    The library's own reader takes a file that was cut off for one that ended.
    """

    def __init__(self, packed: BinaryIO):
        import zstandard

        self._packed, self._new = packed, zstandard.ZstdDecompressor().decompressobj
        self._frame = self._new()
        self._ready, self._left, self._begun = memoryview(b""), b"", False

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with unpacked bytes; 0 at the end of the last frame."""
        while not self._ready:
            chunk = self._left or self._packed.read(PACKED_BYTES)
            if not chunk:
                if self._begun:
                    raise EOFError("it ends in the middle")
                return 0
            self._unpack(chunk)
        count = min(len(self._ready), len(buffer))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _unpack(self, chunk: bytes) -> None:
        import zstandard

        try:
            self._ready = memoryview(self._frame.decompress(chunk))
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from None
        self._begun, self._left = True, b""
        if self._frame.eof:
            self._left, self._frame, self._begun = self._frame.unused_data, self._new(), False


def read_lines(path: Path, max_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str | LineError]]:
    """Every line that holds something, with its number; a line that is no text comes as its error.

    A line longer than `max_bytes` is skipped without being held in memory.
    """
    with open_packed(path) as stream:
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline(max_bytes + 1)
                if len(line) > max_bytes and not line.endswith(b"\n"):
                    _skip_line(stream, max_bytes)
                    yield number, LineError(path, number, f"longer than {max_bytes} bytes")
                    continue
            except (EOFError, OSError, zlib.error) as error:
                raise LineError(path, number, f"the packed data is damaged ({error})") from None
            if not line:
                return
            if line.isspace():
                continue
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield number, not_utf8(path, number, error)


def not_utf8(path: Path, number: int, error: UnicodeDecodeError) -> LineError:
    """The error of a line in another encoding, such as Latin-1."""
    reason = f"not UTF-8 at byte {error.start} of the line"
    is_utf16 = number == 1 and error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    code = "utf-16" if is_utf16 else "latin1"
    return LineError(path, number, reason, f"convert the file, for example with iconv -f {code} -t utf-8")


def _skip_line(stream: BinaryIO, step: int) -> None:
    while (rest := stream.readline(step)) and not rest.endswith(b"\n"):
        pass


def read_objects(
    path: Path, max_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, dict[str, Any] | LineError]]:
    """Every JSON object of a JSONL file with its line; what is none comes as its error."""
    for number, line in read_lines(path, max_bytes):
        if isinstance(line, LineError):
            yield number, line
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield number, LineError(path, number, f"not JSON ({error})")
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            yield (
                number,
                LineError(path, number, f"a JSON {type(value).__name__} where an object is expected"),
            )


@contextlib.contextmanager
def open_for_lines(path: Path) -> Iterator[BinaryIO]:
    """A file to write bytes into, packed as its suffix says (`.gz`, `.zst`, else plain)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(path.open("wb"))
        if path.suffix == ".gz":
            raw = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
        elif path.suffix == ".zst":
            import zstandard

            raw = stack.enter_context(zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False))
        yield raw


_ENCODER = json.JSONEncoder(ensure_ascii=False)  # json.dumps makes one for each value


def dump_line(value: Any) -> bytes:
    """One JSON value as the bytes of a line; keys keep their order."""
    return (_ENCODER.encode(value) + "\n").encode()


def write_objects(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows as JSONL; returns how many there were."""
    count = 0
    with open_for_lines(path) as stream:
        for row in rows:
            stream.write(dump_line(row))
            count += 1
    return count


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file for people and programs, keys in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
