"""The update of the weights layer by layer, a row of panels for each main pair, a line for each kind."""

from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from realign.drawing.panels import Drawing, empty, layer_ticks, pair_label, publishing, shade, sheet, stack
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import Plate, measures_of
from realign.results.tidy import Tidy, by_layer, pick
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_weights",
        "The update of the weights, by layer and kind",
        "How far the weights of the main pairs' backbones moved, by layer and kind of tensor: relative norm; "
        "share of weights whose bits in bfloat16 stay; effective rank as a share of the smaller side; mean "
        "angle between the principal directions before and after. E is the embedding. Norm vectors have no "
        "rank and no angle.",
        category="Weights",
        needs=(measures_of("backbone", families=("weights",)),),
        pairs="main",
    ),
)

PANELS = (
    ("update_norm", "norm", "Relative norm"),
    ("update_sparsity", "bf16", "Unchanged in bf16"),
    ("update_rank", "share", "Effective rank (share)"),
    ("subspace_angles", "mean", "Angle (radians)"),
)
LOOKS: dict[str, tuple[Literal["-", "--", ":", ""], str]] = {  # line and mark of each kind
    "attention": ("-", "o"), "mlp": ("--", "s"), "norm": (":", "^"), "embedding": ("", "D"),
}  # fmt: skip
NAMES = {"mlp": "MLP"}


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """A row for each pair, a panel for each measure, a line for each kind."""
    of_kinds = pick(tidy.measures, stage="backbone", part=tuple(LOOKS))
    pairs = [pair for pair in asked.pairs if pair.name in set(of_kinds["pair"])]
    figure = sheet(asked.style, 16 + 36 * max(len(pairs), 1))
    if not pairs:
        empty(figure.subplots(), "the weights of any pair")
        return Drawing(figure, stack([]))
    grid = figure.subplots(len(pairs), len(PANELS), squeeze=False, sharey="col")
    drawn = []
    for row, pair in zip(grid, pairs, strict=True):
        for axes, (measure, statistic, title) in zip(row, PANELS, strict=True):
            shade(axes, pair, asked)
            own = pick(of_kinds, pair=pair.name, measure=measure, statistic=statistic)
            for kind, (line, mark) in LOOKS.items():
                layers = by_layer(own[own["part"] == kind])
                axes.plot(
                    layers["layer"], layers["value"], linestyle=line, marker=mark, markersize=3,
                    markevery=max(1, len(layers) // 8), color=role_colour(asked.style, pair.kind),
                )  # fmt: skip
                drawn.append(layers.assign(pair=pair.name, measure=measure, statistic=statistic, part=kind))
            axes.set_xticks(*layer_ticks(int(of_kinds["layer_left"].max()) + 1, most=5))
            axes.set_title(title, fontsize="small", pad=3)
        row[0].set_ylabel(pair_label(pair, asked), fontsize="x-small")
    for axes in grid[0]:
        axes.set_ylim(bottom=0)  # once all rows have drawn, since a column shares its axis
    figure.supxlabel("Layer (E: embedding)", fontsize="small")
    _legend(figure)
    return Drawing(figure, stack(drawn))


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], linestyle=line, marker=mark, color=FAINT, label=NAMES.get(kind, kind))
        for kind, (line, mark) in LOOKS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize="small")


run = publishing(draw)
