"""Parts that several figures share: sheets of panels, heatmaps with true layer axes, empty panels."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from realign.artifacts.command import Job
from realign.drawing.style import FAINT, INK, MM, SHADE, minus, save, styled
from realign.results.tidy import Tidy
from realign.study.description import PairEntry
from realign.study.drawing import DrawPlate
from realign.study.figures import Style


@dataclass
class Drawing:
    """A finished figure and the table of exactly what it draws."""

    figure: Figure
    data: pd.DataFrame


def publishing(draw: Callable[[DrawPlate, Tidy, list[Path]], Drawing]) -> Callable[[Job[DrawPlate]], None]:
    """The work of a figure's command: draw it from a job's tidy results, and write all its forms."""

    def run(job: Job[DrawPlate]) -> None:
        asked = job.settings
        with styled(asked.style):
            drawing = draw(asked, Tidy(job.inputs_of("tidy")), job.inputs_of("reference"))
            if asked.synthetic:
                stamp(drawing.figure)
            settle(drawing.figure)
            forms = ("pdf", "png", "svg", "csv")
            save(drawing.figure, drawing.data, {form: job.output(form) for form in forms})
        job.note(rows=len(drawing.data))

    return run


def sheet(style: Style, height: float, **more: Any) -> Figure:
    """An empty page of the style's width; the height is in millimetres."""
    return Figure(figsize=(style.width * MM, height * MM), layout="constrained", **more)


@dataclass
class Block:
    """A corpus's part of a page: a panel for each pair that was measured on it."""

    part: Any
    corpus: str
    panels: list[tuple[Axes, PairEntry, pd.DataFrame]]

    @property
    def axes(self) -> list[Axes]:
        """The panels alone."""
        return [axes for axes, _, _ in self.panels]


def blocks_by_corpus(
    asked: DrawPlate, found: pd.DataFrame, emb: bool, above: float, panel: float, **more: Any
) -> tuple[Figure, list[Block]]:
    """A page of one block for each corpus, with titled panels of the pairs that it has numbers of.

    `above` is what a block needs beside its rows of panels, `panel` the height of such a row.
    Without any number the page has one empty panel and no block.
    """
    there = set(zip(found["corpus"], found["pair"], strict=True))
    measured = {c: [p for p in asked.pairs if (c, p.name) in there] for c in asked.view.corpora}
    measured = {corpus: pairs for corpus, pairs in measured.items() if pairs}
    rows = [-(-len(pairs) // columns_for(len(pairs))) for pairs in measured.values()] or [1]
    heights = [above + panel * count for count in rows]
    figure = sheet(asked.style, 13 + sum(heights))
    if not measured:
        empty(figure.subplots(), "any pair on any corpus")
        return figure, []
    parts = figure.subfigures(len(measured), 1, squeeze=False, height_ratios=heights)[:, 0]
    blocks = []
    for part, (corpus, pairs) in zip(parts, measured.items(), strict=True):
        part.suptitle(asked.labels.get(corpus, corpus), fontweight="bold", fontsize="medium")
        block = Block(part, corpus, [])
        for axes, pair in zip(panel_grid(part, len(pairs), **more), pairs, strict=True):
            axes.set_title(pair_label(pair, asked, emb), fontsize="small", pad=3)
            own = found[(found["pair"] == pair.name) & (found["corpus"] == corpus)]
            block.panels.append((axes, pair, own))
        blocks.append(block)
    return figure, blocks


def panel_grid(part: Any, count: int, **more: Any) -> list[Axes]:
    """So many panels in few and even rows; places without a panel stay blank."""
    columns = columns_for(count)
    grid = part.subplots(-(-count // columns), columns, squeeze=False, **more).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    return list(grid[:count])


def stamp(figure: Figure) -> None:
    """Say on the page that the numbers are made up."""
    figure.text(
        0.995, 0.5, "SYNTHETIC RESULTS", rotation=90, ha="right", va="center", fontsize=7, color="#B00020"
    )
    engine = figure.get_layout_engine()
    if engine is not None and hasattr(engine, "set"):
        engine.set(rect=(0, 0, 0.975, 1))  # type: ignore[call-arg]


def empty(axes: Axes, missing: str) -> None:
    """An empty panel that says what is missing."""
    axes.tick_params(
        left=False, bottom=False, labelleft=False, labelbottom=False
    )  # others may share the ticks
    for spine in axes.spines.values():
        spine.set(visible=True, linestyle=(0, (4, 3)), color=FAINT)
    lines = "\n".join(textwrap.wrap("not measured: " + missing, 22))
    axes.text(
        0.5, 0.5, lines, ha="center", va="center", color=FAINT, fontsize="small", transform=axes.transAxes
    )


def shade(axes: Axes, pair: PairEntry, asked: DrawPlate) -> None:
    """Give the panel of a pair a background where its kind has one; its title says the same in words."""
    if asked.kinds[pair.kind].shaded:
        axes.set_facecolor(SHADE)


def pair_label(pair: PairEntry, asked: DrawPlate, emb: bool = False, width: int = 26) -> str:
    """`left vs right` on as many lines as it needs, with the kind where its panels are shaded."""
    suffix = "-Emb" if emb else ""
    kind = asked.kinds[pair.kind]
    mark = f" ({kind.label})" if kind.shaded else ""
    width -= max(len(mark) - 1, 0)
    left, right = (asked.labels.get(n, n) + suffix for n in (pair.left, pair.right))
    whole = f"{left} vs {right}"
    lines = [whole] if len(whole) <= width else [shorten(left, width), "vs " + shorten(right, width - 3)]
    lines[-1] += mark
    return "\n".join(lines)


def shorten(text: str, width: int) -> str:
    """A name that fits, its middle left out where it must be."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def columns_for(count: int, most: int = 4) -> int:
    """How many panels stand side by side, so that rows are few and even."""
    rows = -(-max(count, 1) // most)
    return -(-max(count, 1) // rows)


def layer_ticks(count: int, most: int = 7) -> tuple[list[int], list[str]]:
    """Ticks of a layer axis: E for the embedding output, then true layer numbers, the last one too."""
    last = count - 1
    step = next(s for s in (1, 2, 4, 5, 6, 8, 10, 12, 20, 40, 10**6) if last / s <= most - 1)
    ticks = [0, *range(step, last + 1, step)]
    if last > 0 and ticks[-1] != last:
        if last - ticks[-1] < 0.6 * step and len(ticks) > 2:
            ticks.pop()
        ticks.append(last)
    return ticks, ["E" if t == 0 else str(t) for t in ticks]


STRETCH = 3.0  # similarity is read between 0.9 and 1, so more than a quarter of all colours lie there
SCALE_TICKS = (-1.0, -0.5, 0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
FEW_LAYERS = 9  # cells of so few layers have room for their numbers


def heatmap(axes: Axes, values: np.ndarray, style: Style, low: float, most: int = 7) -> Any:
    """A heatmap of base layers (rows) by post-trained layers (columns), layer 0 set apart by a line."""
    rows, columns = values.shape
    colours = mpl.colormaps[style.heat].with_extremes(under="#000000", bad="#E8E8E8")
    norm = PowerNorm(STRETCH, vmin=low, vmax=1)
    image = axes.imshow(values, cmap=colours, norm=norm, origin="lower", aspect="auto")
    if max(rows, columns) <= FEW_LAYERS:
        for (row, column), value in np.ndenumerate(values):
            ink = "black" if float(norm(value)) > 0.55 else "white"
            if np.isfinite(value):
                axes.text(
                    column,
                    row,
                    minus(f"{value:.2f}"),
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize="xx-small",
                )
    axes.set_xticks(*layer_ticks(columns, most))
    axes.set_yticks(*layer_ticks(rows, most))
    for line in (axes.axhline, axes.axvline):
        line(0.5, color="white", linewidth=0.7)
    for spine in axes.spines.values():
        spine.set_visible(True)
    return image


def heat_scale(image: Any, part: Any, axes: Sequence[Axes], **more: Any) -> Any:
    """The colour bar of heatmaps, with ticks where the stretched scale needs them."""
    ticks = [tick for tick in SCALE_TICKS if tick >= image.norm.vmin]
    bar = part.colorbar(image, ax=list(axes), extend="min", ticks=ticks, **more)
    bar.ax.set_yticklabels([minus(f"{tick:g}") for tick in ticks])
    return bar


MAT = "mat"  # the mark of axes that get one


def mat(axes: Axes) -> None:
    """Ask for a coloured mat behind a heatmap and its labels, since its own background is hidden."""
    axes.set_gid(MAT)


def settle(figure: Figure) -> None:
    """Lay the figure out once for all its forms, and put the mats under their panels."""
    figure.draw_without_rendering()
    for axes in figure.get_axes():
        box = axes.get_tightbbox() if axes.get_gid() == MAT else None
        if box is None:
            continue
        (left, low), (right, high) = figure.transFigure.inverted().transform(box.padded(3).get_points())
        figure.add_artist(
            Rectangle((left, low), right - left, high - low, facecolor=SHADE, edgecolor="none", zorder=-10)
        )
    figure.set_layout_engine(None)  # else each form is laid out again


def long_matrix(values: np.ndarray, **facts: Any) -> pd.DataFrame:
    """A drawn matrix as rows of (layer_left, layer_right, value), with what it shows beside."""
    rows, columns = np.indices(values.shape)
    return pd.DataFrame(
        {**facts, "layer_left": rows.ravel(), "layer_right": columns.ravel(), "value": values.ravel()}
    )


def stack(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Drawn tables under one another; an empty one where nothing was drawn."""
    return (
        pd.concat([f for f in frames if len(f)], ignore_index=True)
        if any(len(f) for f in frames)
        else (pd.DataFrame(columns=["missing"]))
    )


# How a published number is drawn beside this study's, in every figure.
PUBLISHED: dict[str, Any] = {
    "marker": "D", "markersize": 4.5, "fillstyle": "none", "color": INK, "markeredgewidth": 0.8,
    "linestyle": "", "zorder": 3,
}  # fmt: skip


def published_mark() -> Line2D:
    """The published number's entry in a legend."""
    return Line2D([], [], **PUBLISHED, label="published")


def band(axes: Axes, x: Any, low: Any, high: Any, colour: str) -> None:
    """A shaded interval, where there is one."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
