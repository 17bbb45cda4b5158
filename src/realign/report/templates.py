"""Pages are made from the templates, styles and scripts that lie beside this file.

Everything that a template prints is escaped. A page is one file that needs nothing from elsewhere.
"""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_page(place: Path, template: str, **given: Any) -> None:
    """Fill in a template."""
    place.write_text(PAGES.get_template(template).render(given), encoding="utf-8")


def picture(path: Path) -> str:
    """An SVG picture as the address of itself."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def count(number: int, one: str, many: str = "") -> str:
    """`1 task`, `2 tasks`, `2 corpora`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def plain(value: Any) -> str:
    """A value of any kind in a few letters."""
    if isinstance(value, list):
        return " to ".join(map(plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def signed(value: float, spec: str) -> str:
    """A number with a minus sign in place of the hyphen; a dash where there is none."""
    return f"{value:{spec}}".replace("-", "−") if value == value else "–"


def span(seconds: float) -> str:
    """A duration in the unit that suits it."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


PAGES.filters |= {"picture": picture, "count": count}
