"""The figures of two runs side by side on one self-contained page, where they differ."""

import base64
import html
from pathlib import Path

from realign.report.assets import STYLE
from realign.results.catalogue import FIGURES, PLATES

PAIR = ".beside { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; } main { max-width: 110rem; }"


def differing(left: Path, right: Path) -> list[str]:
    """The figures that both runs drew, and drew differently."""
    places = {name: [side / f"figures/{name}.svg" for side in (left, right)] for name in FIGURES}
    both = {name: pair for name, pair in places.items() if all(p.is_file() for p in pair)}
    return [name for name, (a, b) in both.items() if a.read_bytes() != b.read_bytes()]


def side_by_side(left: Path, right: Path, titles: tuple[str, str], place: Path) -> list[str]:
    """Write the page; returns the figures on it."""
    names = differing(left, right)
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Two runs side by side</title><style>{STYLE}{PAIR}</style></head><body>",
        f"<main><h1>{html.escape(titles[0])} (a) beside {html.escape(titles[1])} (b)</h1>",
        "" if names else "<p>No figure that both runs drew differs.</p>",
    ]
    for name in names:
        parts.append(f"<h2>{html.escape(PLATES[name].label)}. {html.escape(PLATES[name].title)}</h2>")
        pictures = "".join(
            _picture(side / f"figures/{name}.svg", run) for side, run in ((left, "a"), (right, "b"))
        )
        parts.append(f'<div class="beside">{pictures}</div>')
    place.write_text("\n".join([*parts, "</main></body></html>\n"]), encoding="utf-8")
    return names


def _picture(path: Path, run: str) -> str:
    source = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/svg+xml;base64,{source}" alt="{path.stem}, run {run}">'
        f"<figcaption>{run}</figcaption></figure>"
    )
