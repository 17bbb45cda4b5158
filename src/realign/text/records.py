"""Rows of any table-like file: JSONL (plain or packed), Parquet, or a folder of a saved dataset.

Rows come one at a time with the place they stand at, so that whoever finds fault with one can name
it. The kind of file is told by its content, not by its name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.study.errors import nearest
from realign.text.streams import MAX_LINE_BYTES, PARQUET, LineError, first_bytes, read_objects

Record = tuple[int, dict[str, Any] | LineError]


def read_records(
    source: Path, columns: Sequence[str] | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Record]:
    """The rows of a source with their numbers; for Parquet and Arrow only the named columns."""
    if source.is_dir():
        yield from _read_folder(source, columns, max_line_bytes)
    elif not source.is_file():
        raise UserError(f"{source} does not exist")
    elif first_bytes(source) == PARQUET:
        yield from _read_parquet(source, columns)
    else:
        yield from read_objects(source, max_line_bytes)


def _read_folder(folder: Path, columns: Sequence[str] | None, max_line_bytes: int) -> Iterator[Record]:
    if (folder / "state.json").is_file():
        yield from _read_saved(folder, columns)
        return
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(p.name for p in folder.iterdir() if (p / "state.json").is_file())
        raise UserError(f"{folder} holds several splits ({', '.join(splits)}): name one, as {folder}/<split>")
    suffixes = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
    files = sorted(p for p in folder.iterdir() if p.name.endswith(suffixes))
    if not files:
        raise UserError(f"{folder} holds no JSONL, no Parquet and no saved dataset")
    for file in files:
        yield from read_records(file, columns, max_line_bytes)


def _read_saved(folder: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    import datasets

    table = datasets.load_from_disk(str(folder))
    _check_columns(folder, columns, table.column_names)
    if columns:
        table = table.select_columns(list(columns))
    yield from enumerate(table, 1)


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, columns, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(columns=list(columns) if columns else None, batch_size=2048):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no readable Parquet file ({error})") from None


def _check_columns(path: Path, asked: Sequence[str] | None, known: Sequence[str]) -> None:
    for column in asked or ():
        if column not in known:
            hint = nearest(column, known)
            raise UserError(f"{path} has no column '{column}'{hint}; it has {', '.join(known)}")
