"""The style sheet: fonts that travel with the file, one palette by role, the same bytes each time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pandas as pd

from realign.study.figures import Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MM = 1 / 25.4
SHADE = "#FBE9DC"  # behind the panels of pairs whose kind is shaded, such as SFT
INK = "#1A1A1A"
FAINT = "#767676"


@contextlib.contextmanager
def styled(style: Style) -> Iterator[None]:
    """Draw inside this, so that no setting of the machine leaks in."""
    size = style.font_size
    sheet: dict[str, Any] = {
        "figure.dpi": style.dpi,  # laid out at the resolution it is written in
        "savefig.dpi": style.dpi,
        "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
        "font.size": size,
        "axes.titlesize": size,
        "axes.labelsize": size,
        "xtick.labelsize": size * 0.85,
        "ytick.labelsize": size * 0.85,
        "legend.fontsize": size * 0.9,
        "legend.frameon": False,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "lines.linewidth": 1.3,
        "lines.markersize": 3.5,
        "hatch.linewidth": 0.5,
        "pdf.fonttype": 42,  # TrueType, embedded
        "svg.fonttype": "path",
        "svg.hashsalt": "realign",
        "axes.axisbelow": True,
        "image.interpolation": "nearest",
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(sheet)  # type: ignore[arg-type]
        yield


def minus(text: str) -> str:
    """A number as text, with a minus sign in place of the hyphen."""
    return text.replace("-", "−")


def role_colour(style: Style, kind: str) -> str:
    """The colour of a kind of pair, or of `base`."""
    return getattr(style.palette, kind)


def save(figure: "Figure", data: pd.DataFrame, places: dict[str, Path]) -> None:
    """Write a figure as PDF, PNG and SVG, without dates, and the CSV of what is drawn."""
    figure.savefig(places["pdf"], format="pdf", metadata={"CreationDate": None})
    figure.savefig(places["svg"], format="svg", metadata={"Date": None})
    figure.savefig(places["png"], format="png", metadata={"Software": None})
    data.to_csv(places["csv"], index=False, float_format="%.6g")
