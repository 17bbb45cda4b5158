"""Training data in the forms that other tools write, read as rows of the pairs format.

- FlagEmbedding: the pairs format, and a `prompt` before the query.
- sentence-transformers: `anchor` (or `query`, `question`), `positive`, `negative` or `negative_1` ….
- ms-swift: `messages`, `positive_messages`, `negative_messages`; or `query`, `response`, `rejected_response`.
- tevatron: `query`, `positive_passages`, `negative_passages`.
- BEIR: a folder with `corpus.jsonl`, `queries.jsonl` and `qrels/train.tsv`.
- MS MARCO: lines `query<TAB>positive<TAB>negative`.

The form is told by the first row, so all rows of a source are of one form.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from realign.artifacts.command import UserError
from realign.text.records import Record, read_records
from realign.text.streams import MAX_LINE_BYTES, PARQUET, LineError, first_bytes, read_lines, read_objects

log = logging.getLogger(__name__)
Row = dict[str, Any]
ANCHORS = ("anchor", "query", "question")


def form_of(source: Path) -> str:
    """The name of the form that a source has; `pairs` where it is none of the others, which then says why."""
    if source.is_dir() and (source / "qrels").is_dir():
        return "BEIR"
    if source.is_file() and first_bytes(source) != PARQUET:
        first_line = next((line for _, line in read_lines(source)), "")
        if isinstance(first_line, str) and not first_line.startswith("{") and first_line.count("\t") == 2:
            return "MS MARCO"
    first = next((row for _, row in read_records(source)), None)
    if not isinstance(first, dict):
        return "pairs"
    if "pos" in first:  # whatever other columns a row of the pairs format has
        return "FlagEmbedding" if _has_prompt(first) else "pairs"
    return next((name for name, (has, _) in _FORMS.items() if has(first)), "pairs")


def read_rows(source: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Record]:
    """The rows of a source in the spelling of the pairs format, each with its number or its error."""
    form = form_of(source)
    if form != "pairs":
        log.info("%s: read as %s data", source, form)
    if form == "BEIR":
        yield from _read_beir(source, max_line_bytes)
    elif form == "MS MARCO":
        yield from _read_triples(source, max_line_bytes)
    else:
        _, convert = _FORMS.get(form, (None, dict))
        for number, row in read_records(source, None, max_line_bytes):
            if isinstance(row, LineError):
                yield number, row
                continue
            try:
                made = convert(row)
            except KeyError as error:
                reason = f"{error.args[0]} is missing"
            except TypeError:
                reason = "a field holds no text and no list of texts"
            except ValueError as error:
                reason = str(error)
            else:
                yield number, made
                continue
            yield number, LineError(source, number, f"{reason} (as {form} has it)")


def _has_prompt(row: Row) -> bool:
    return "pos" in row and isinstance(row.get("prompt"), str) and isinstance(row.get("query"), str)


def _from_flag_embedding(row: Row) -> Row:
    return {**row, "query": [row.get("prompt") or "", row.get("query")]}


def _has_columns(row: Row) -> bool:
    return "positive" in row and any(anchor in row for anchor in ANCHORS)


def _from_columns(row: Row) -> Row:
    anchor = next((name for name in ANCHORS if name in row), None)
    if anchor is None:
        raise ValueError(f"none of {', '.join(ANCHORS)} is there")
    numbered = [name for name in row if name.startswith("negative_") and name[9:].isdigit()]
    names = [*(["negative"] if "negative" in row else []), *sorted(numbered, key=lambda name: int(name[9:]))]
    negatives = [text for name in names for text in _listed(row[name])]
    positives = _listed(row["positive"])
    made = {"query": row[anchor], "pos": positives, "neg": negatives, "weight": row.get("weight")}
    scores = next((row[name] for name in ("scores", "score", "labels", "label") if name in row), None)
    if isinstance(scores, list):
        if len(scores) != len(positives) + len(negatives):
            raise ValueError(f"{len(scores)} scores for {len(positives) + len(negatives)} passages")
        made |= {"pos_scores": scores[: len(positives)], "neg_scores": scores[len(positives) :]}
    return made


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _from_messages(row: Row) -> Row:
    instruction, query = _said(row["messages"])
    sides = {"pos": row["positive_messages"], "neg": row.get("negative_messages") or []}
    passages = {key: [" ".join(filter(None, _said(each))) for each in side] for key, side in sides.items()}
    # The template puts a space between a system message and the text.
    return {"query": [f"{instruction} " if instruction else "", query], **passages}


def _said(messages: Any) -> tuple[str, str]:
    """What system and user say in a list of messages."""
    try:
        said = [(message["role"], message["content"]) for message in messages]
        return tuple("\n".join(text for who, text in said if who == role) for role in ("system", "user"))  # type: ignore[return-value]
    except (TypeError, KeyError):
        raise ValueError("messages are no list of {role, content}") from None


def _from_responses(row: Row) -> Row:
    return {
        "query": row["query"],
        "pos": _listed(row["response"]),
        "neg": _listed(row.get("rejected_response")),
    }


def _from_passages(row: Row) -> Row:
    sides = {"pos": row["positive_passages"], "neg": row.get("negative_passages") or []}
    try:
        passages = {key: [_titled(each) for each in side] for key, side in sides.items()}
    except (TypeError, AttributeError):
        raise ValueError("passages are no list of {title, text}") from None
    return {"query": row.get("query"), **passages}


def _titled(document: Row) -> str:
    """Title and text with a space between them, as BEIR and tevatron join them."""
    return f"{document.get('title') or ''} {document.get('text') or ''}".strip()


# By name: whether a row has the form, and the row in the spelling of the pairs format.
_FORMS: dict[str, tuple[Callable[[Row], bool], Callable[[Row], Row]]] = {
    "FlagEmbedding": (_has_prompt, _from_flag_embedding),
    "sentence-transformers": (_has_columns, _from_columns),
    "ms-swift": (lambda row: "messages" in row and "positive_messages" in row, _from_messages),
    "older ms-swift": (lambda row: "query" in row and "response" in row, _from_responses),
    "tevatron": (lambda row: "query" in row and "positive_passages" in row, _from_passages),
}


def _read_triples(path: Path, max_line_bytes: int) -> Iterator[Record]:
    for number, line in read_lines(path, max_line_bytes):
        fields = line if isinstance(line, LineError) else line.rstrip("\r\n").split("\t")
        if isinstance(fields, LineError):
            yield number, fields
        elif len(fields) != 3:
            yield (
                number,
                LineError(path, number, f"{len(fields)} fields between tabs, not three"),
            )
        elif all(field.isdigit() for field in fields):
            raise UserError(f"{path}, line {number}: a triple of numbers; give the triples with their texts")
        else:
            yield number, {"query": fields[0], "pos": [fields[1]], "neg": [fields[2]]}


def _read_beir(folder: Path, max_line_bytes: int) -> Iterator[Record]:
    """A row for each judged query with an answer; documents that are judged 0 are its negatives."""
    judged = _judgements(_split_of(folder))
    wanted = {document for by_document in judged.values() for document in by_document}
    documents = _texts_of(folder / "corpus.jsonl", wanted, max_line_bytes)
    queries = _texts_of(folder / "queries.jsonl", set(judged), max_line_bytes)
    for number, (query, by_document) in enumerate(judged.items(), 1):
        positives = [documents[name] for name, score in by_document.items() if score > 0]
        negatives = [documents[name] for name, score in by_document.items() if score <= 0]
        if positives:
            yield number, {"query": queries[query], "pos": positives, "neg": negatives}


def _split_of(folder: Path) -> Path:
    splits = sorted((folder / "qrels").glob("*.tsv"))
    training = folder / "qrels" / "train.tsv"
    if training in splits:
        return training
    if len(splits) == 1:
        return splits[0]
    names = ", ".join(split.name for split in splits) or "nothing"
    raise UserError(f"{folder}/qrels: no train.tsv, and not one file alone to take for it ({names})")


def _judgements(path: Path) -> dict[str, dict[str, float]]:
    """The scores of each query's documents, in the order of the file."""
    judged: dict[str, dict[str, float]] = {}
    for number, line in read_lines(path):
        if isinstance(line, LineError):
            raise line
        fields = line.rstrip("\r\n").split("\t")
        if number == 1 and not _is_number(fields[-1]):
            continue  # the header
        if len(fields) != 3 or not _is_number(fields[2]):
            raise LineError(path, number, "no query, document and score between tabs")
        judged.setdefault(fields[0], {})[fields[1]] = float(fields[2])
    return judged


def _is_number(text: str) -> bool:
    return text.strip().lstrip("-").replace(".", "", 1).isdigit()


def _texts_of(path: Path, wanted: set[str], max_line_bytes: int) -> dict[str, str]:
    """The texts of the documents that are wanted; all of them must be there."""
    found: dict[str, str] = {}
    for _, row in read_objects(path, max_line_bytes):
        if isinstance(row, LineError):
            raise row
        if (name := str(row.get("_id"))) in wanted:
            found[name] = _titled(row)
    if missing := sorted(wanted - set(found)):
        raise UserError(f"{path}: {len(missing)} texts that qrels name are not there ({missing[0]}, …)")
    return found
