"""The figures of two runs side by side on one self-contained page, where they differ."""

from pathlib import Path

from realign.plates.catalogue import FIGURES, PLATES
from realign.report.templates import write_page


def side_by_side(left: Path, right: Path, titles: tuple[str, str], place: Path) -> list[str]:
    """Write the page; returns the figures on it: those that both runs drew, and drew differently."""
    shown = {}
    for name in FIGURES:
        a, b = (side / f"figures/{name}.svg" for side in (left, right))
        if a.is_file() and b.is_file() and a.read_bytes() != b.read_bytes():
            shown[name] = {"a": a, "b": b}
    plates = [(PLATES[name], pictures) for name, pictures in shown.items()]
    write_page(place, "beside.html", titles=titles, plates=plates)
    return list(shown)
