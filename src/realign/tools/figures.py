"""`realign figures`: draw figures, tables and claims again from tidy results alone.

It needs no models, no torch and no workflow: a folder with `tidy/study.json`, or an archive of one.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from realign.artifacts.command import Command, UserError, execute
from realign.artifacts.store import WorkStore
from realign.claims.commands import CLAIMS
from realign.drawing.commands import PLATE_COMMANDS
from realign.engine.logs import start_logging
from realign.engine.progress import follow
from realign.plan.plates import (
    claims_parts,
    claims_settings,
    filled,
    plate_parts,
    plate_settings,
    report_settings,
)
from realign.plates.catalogue import PLATES
from realign.report.commands import REPORT
from realign.results.published import reference_files
from realign.study.description import Description, Part
from realign.tools.archive import opened

log = logging.getLogger(__name__)


def read_description(results: Path) -> Description:
    """The description of a folder of results."""
    path = results / "tidy/study.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder that holds tidy/, or an archive of it")
    try:
        return Description.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise UserError(f"{path}: not a description of a study ({error.error_count()} problems)") from None


def present(results: Path, parts: Sequence[Part]) -> list[Path]:
    """The parts that are there; those that are not leave an empty panel that says so."""
    return [p for p in (results / "tidy" / part.path for part in parts) if p.is_file()]


def draw_plate(results: Path, description: Description, name: str, out: Path, store: WorkStore) -> None:
    """Draw one figure or table."""
    command: Command[Any] = PLATE_COMMANDS[name]
    folder = out / ("tables" if PLATES[name].is_table else "figures")
    inputs: dict[str, Any] = {
        "tidy": present(results, plate_parts(description, name)),
        "reference": reference_files(PLATES[name].references),
    }
    outputs = {form: folder / f"{name}.{form}" for form in command.outputs}
    execute(
        command, plate_settings(description, name), {k: v for k, v in inputs.items() if v}, outputs, store
    )


def judge(results: Path, description: Description, out: Path, store: WorkStore) -> None:
    """Judge the claims."""
    outputs = {
        "verdicts": out / "tidy/claims.parquet",
        "json": out / "claims/claims.json",
        "md": out / "claims/claims.md",
    }
    tidy = present(results, claims_parts(description))
    execute(CLAIMS, claims_settings(description), {"tidy": tidy} if tidy else {}, outputs, store)


def write_report(results: Path, description: Description, out: Path, store: WorkStore) -> None:
    """Write the report over what has been drawn below `out`."""
    inputs: dict[str, Any] = {
        "study": results / "tidy/study.json",
        "claims": out / "tidy/claims.parquet",
        "figures": sorted((out / "figures").glob("figure_*.svg")),
        "tables": sorted((out / "tables").glob("table_*.csv")),
        "notes": sorted((out / "tables").glob("table_*.md")),
    }
    inputs = {k: v for k, v in inputs.items() if v and (isinstance(v, list) or v.is_file())}
    execute(REPORT, report_settings(description), inputs, {"html": out / "report.html"}, store)


def main(words: Sequence[str]) -> int:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(
        "realign figures", description=__doc__.split("\n")[0] if __doc__ else "", allow_abbrev=False
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--results", type=Path, help="folder of results, or an archive of one")
    what.add_argument("--list", action="store_true", help="list the figures and tables by name")
    parser.add_argument("--out", type=Path, help="where to draw (default: in the folder of results)")
    parser.add_argument(
        "--only", nargs="*", choices=[*PLATES, "claims", "report"], help="these and no others"
    )
    given = parser.parse_args(list(words))
    if given.list:
        width = max(map(len, PLATES)) + 2
        print("\n".join(f"{name:<{width}}{plate.title}." for name, plate in PLATES.items()))
        return 0
    start_logging()
    with opened(given.results) as results:
        out = given.out or results
        if results != given.results and given.out is None:
            raise UserError("an archive is not drawn into; say where with --out")
        description = read_description(results)
        wanted = given.only or [*filled(description), "claims", "report"]
        store = WorkStore(out / ".work")
        for name in follow([n for n in wanted if n in PLATES], "drawing", unit="plates"):
            draw_plate(results, description, name, out, store)
        if "claims" in wanted:
            judge(results, description, out, store)
        if "report" in wanted:
            write_report(results, description, out, store)
    log.info("drawn below %s", out)
    return 0
