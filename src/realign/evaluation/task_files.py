"""The files of a task of one's own, as people have them: JSONL, CSV, TSV or Parquet, BEIR's names included.

Every value is checked where it is read, so that an error can name the file, the line and what to do.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.study.errors import nearest
from realign.study.evaluation import SUFFIXES, Columns
from realign.text.records import read_records
from realign.text.streams import LineError

# BEIR's columns in each of its files, where ours are not there.
BEIR = {
    "corpus": {"id": "_id"}, "queries": {"id": "_id"}, "qrels": {"query": "query-id", "doc": "corpus-id"},
}  # fmt: skip
ONE_ROW_A_PAIR = 'qrels have one row a pair, such as {"query": "q1", "doc": "d1", "score": 1}'


@dataclass(frozen=True)
class TaskFile:
    """One file of a task: the part that it plays, and how its rows are written."""

    task: str
    role: str
    path: Path
    columns: Columns
    quotes: bool = True

    def error(self, line: int, reason: str) -> LineError:
        """What is wrong with a row."""
        return LineError(self.path, line, reason)

    def rows(
        self, wanted: Mapping[str, Any], optional: Sequence[str] = (), may_be_empty: Sequence[str] = ()
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row's line and its columns: those wanted are of the right type, and their texts not empty."""
        empty = True
        absent = {name for name in optional if name in self.columns}
        for line, row in self._lines():
            empty = False
            clean = {}
            for name in optional:
                column = self._column(name, row)
                clean[name] = "" if row.get(column) is None else self._text(line, column, row[column])
                absent -= {name} if column in row else set()
            for name, kind in wanted.items():
                column = self._column(name, row)
                if column not in row:
                    raise self.error(line, self._no_column(name, column, row))
                clean[name] = value = self._value(line, column, row[column], kind)
                if isinstance(value, str) and not value.strip() and name not in may_be_empty:
                    raise self.error(line, f"'{column}' is empty; fill it or leave the row out")
            yield line, clean
        if empty:
            raise UserError(f"{self.path}: the file holds no rows")
        for name in sorted(absent):
            raise UserError(
                f"{self.path}: no row has the column '{self.columns[name]}'; correct {self._key(name)}"
            )

    def _column(self, name: str, row: Mapping[Any, Any]) -> Any:
        """The column of a row that holds what the task calls `name`."""
        if name in self.columns:
            return self.columns[name]
        other = BEIR.get(self.role, {}).get(name)
        return other if other in row and name not in row else name

    def _key(self, name: str) -> str:
        return f"columns.{self.role}.{name} of the task '{self.task}'"

    def _no_column(self, name: str, column: Any, row: Mapping[Any, Any]) -> str:
        reason = f"no column '{column}'{nearest(str(column), map(str, row))}"
        if self.role == "qrels" and any(isinstance(value, dict | list) for value in row.values()):
            return f"{reason}; {ONE_ROW_A_PAIR}"
        columns = ", ".join(map(str, row))
        return f"{reason}; set {self._key(name)} to the column that holds it (there are: {columns})"

    def _value(self, line: int, column: Any, value: Any, kind: Any) -> Any:
        if kind is float:
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise self._other(line, column, value, "a number") from None
            if not math.isfinite(number):
                raise self._other(line, column, value, "a finite number")
            return number
        if kind is str:
            return self._text(line, column, value)
        if not isinstance(value, kind):
            raise self._other(
                line, column, value, "a list of texts" if kind is list else "a text or a whole number"
            )
        if kind is list and not all(self._text(line, column, text).strip() for text in value):
            raise self.error(line, f"'{column}' holds an empty text; take it out")
        return value

    def _text(self, line: int, column: Any, value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self._other(line, column, value, "a text")
        return value

    def _other(self, line: int, column: Any, value: Any, expected: str) -> LineError:
        """An error about a value that is of another kind than expected."""
        remedy = "fill it or leave the row out" if value is None else ""
        if self.role == "qrels" and isinstance(value, dict | list):
            remedy = ONE_ROW_A_PAIR
        if expected.startswith("a list") and self._is_table:
            remedy = "a cell of CSV and TSV can't hold a list, so give the file as JSONL or Parquet"
        found = "empty" if value is None else repr(value)[:80]
        return self.error(line, f"'{column}' is {found}, not {expected}" + (f"; {remedy}" if remedy else ""))

    @property
    def _is_table(self) -> bool:
        return self.path.name.endswith((".csv", ".tsv"))

    @property
    def _numbered(self) -> bool:
        """Whether columns go by number, since the file has no header."""
        return any(isinstance(column, int) for column in self.columns.values())

    def _lines(self) -> Iterator[tuple[int, Mapping[Any, Any]]]:
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file")
        if self._is_table:
            yield from self._table_lines()
            return
        if not self.path.name.endswith(SUFFIXES):
            raise UserError(f"{self.path}: not a format that is read here ({', '.join(SUFFIXES)})")
        if self._numbered:
            raise UserError(
                f"{self.path}: columns go by number in CSV and TSV files only; "
                f"give columns.{self.role} of the task '{self.task}' as names"
            )
        for number, row in read_records(self.path):
            if isinstance(row, LineError):
                raise row
            yield number, row

    def _table_lines(self) -> Iterator[tuple[int, Mapping[Any, Any]]]:
        """A row of another length than the first has a stray delimiter or quote, and its cells slip."""
        csv.field_size_limit(2**31 - 1)  # a document may be longer than the library's 131,072 characters
        names: Sequence[Any] = []
        line = 1  # where a row begins; one that is in quotes may go on for many lines
        with self.path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(
                stream,
                delimiter="\t" if self.path.suffix == ".tsv" else ",",
                quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE,
                strict=True,
            )
            try:
                for row in reader:
                    if row and not names:
                        names = range(1, len(row) + 1) if self._numbered else row
                        row = row if self._numbered else []
                    if row and len(row) != len(names):
                        raise self.error(
                            line, f"{len(row)} cells where the first line has {len(names)}; {self._quoting}"
                        )
                    if row:
                        yield line, dict(zip(names, row, strict=True))
                    line = reader.line_num + 1
            except csv.Error as error:
                raise self.error(line, f"{error}: is a quote left open? {self._quoting}") from None
            except UnicodeDecodeError as error:
                raise UserError(f"{self.path}, after line {line - 1}: not UTF-8 ({error})") from None

    @property
    def _quoting(self) -> str:
        if not self.quotes:
            return f"the task '{self.task}' has quotes: false, so no cell may hold the delimiter"
        return (
            "put a cell that holds the delimiter or a quote in quotes, or set quotes: false in the task "
            f"'{self.task}' if \" is a character like any other"
        )
