"""Neighbourhood overlap layer by layer, a panel for each pair and corpus, a line for each k."""

from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from realign.drawing.panels import Drawing, band, blocks_by_corpus, layer_ticks, publishing, shade, stack
from realign.drawing.style import FAINT, role_colour
from realign.plates.plate import NEAR, Plate, measures_of, named
from realign.results.controls import chance_overlap, random_weights, two_seeds
from realign.results.tidy import Tidy, by_layer, pick, readings, usual_k
from realign.study.drawing import DrawPlate

PLATES = (
    Plate(
        "figure_10",
        "Neighbourhood overlap of all backbone pairs",
        "Mean overlap (Jaccard) of the k nearest neighbours of each token, layer by layer; E is the "
        "embedding output. Grey lines are floors: random weights beside the base, and what chance gives. "
        "SFT pairs are shaded.",
        category="Representations",
        needs=(measures_of("backbone", families=NEAR, controls=True),),
        stage="backbone",
    ),
    Plate(
        "figure_11",
        "Neighbourhood overlap of all embedding pairs",
        "Mean overlap (Jaccard) of the k nearest neighbours of each token, layer by layer; E is the "
        "embedding output. Grey lines are floors: two contrastive seeds of one backbone (their "
        "batches differ, those of a pair do not), and what chance gives. SFT pairs are shaded.",
        category="Representations",
        needs=(measures_of("embedder", families=NEAR, controls=True),),
        stage="embedder",
    ),
)

Dash = Literal["-", "--", ":", "-."]
LINES: tuple[Dash, ...] = ("-", "--", ":", "-.")
FLOORS = {"backbone": "random weights", "embedder": "two seeds of one backbone"}
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def draw(asked: DrawPlate, tidy: Tidy, _: list[Path]) -> Drawing:
    """One block of panels for each corpus, one panel for each pair; floors in grey."""
    plate = named(PLATES, asked.plate)
    overlap = readings(tidy.measures, "knn_overlap", asked.view.preset, stage=plate.stage)
    figure, blocks = blocks_by_corpus(
        asked, overlap, plate.stage == "embedder", above=8, panel=38, sharey=True
    )
    measured = sorted({int(k) for k in overlap["k"].dropna()})
    sizes = [k for k in asked.view.neighbours if k in measured] or measured
    near = usual_k(tidy.measures, asked.view.neighbours)
    tokens = pick(tidy.measures, measure="sample", statistic="tokens")["value"].min()
    named_floor = FLOORS[plate.stage]
    drawn, floors = [], False
    for block in blocks:
        for axes, pair, rows in block.panels:
            shade(axes, pair, asked)
            about = {"pair": pair.name, "kind": pair.kind, "corpus": block.corpus, "stage": plate.stage}
            for index, k in enumerate(sizes):
                layers = by_layer(rows[rows["k"] == k])
                colour = role_colour(asked.style, pair.kind)
                band(axes, layers["layer"], layers["ci_low"], layers["ci_high"], colour)
                axes.plot(
                    layers["layer"], layers["value"], LINES[index % len(LINES)], color=colour,
                    marker=MARKS[index % len(MARKS)], markevery=max(1, len(layers) // 8), markersize=2.5,
                )  # fmt: skip
                drawn.append(layers.assign(**about, k=k))
            if plate.stage == "backbone":
                floor = random_weights(overlap, pair, asked.untrained)
            else:
                floor = two_seeds(overlap, pair)
            floor = by_layer(pick(floor, corpus=block.corpus, k=near))
            axes.plot(floor["layer"], floor["value"], color=FAINT, linewidth=0.9)
            floors |= len(floor) > 0
            drawn.append(floor.assign(**about | {"kind": "floor"}, k=near))
            if tokens == tokens:
                axes.axhline(chance_overlap(near, tokens), color=FAINT, linewidth=0.9, linestyle=":")
            axes.set_ylim(-0.02, 1.02)
            axes.set_xticks(*layer_ticks(int(rows["layer_left"].max()) + 1))
        block.part.supxlabel("Layer (E: embedding output)", fontsize="small")
        block.part.supylabel("Mean overlap", fontsize="small")
    grey: dict[str, Dash] = {f"{named_floor}, k = {near}": "-"} if floors else {}
    grey |= {f"chance, k = {near}": ":"} if blocks and tokens == tokens else {}
    _legend(figure, sizes, asked, grey)
    return Drawing(figure, stack(drawn))


def _legend(figure: Figure, sizes: list[int], asked: DrawPlate, grey: dict[str, Dash]) -> None:
    handles = [
        Line2D(
            [], [], linestyle=LINES[i % len(LINES)], marker=MARKS[i % len(MARKS)],
            color=asked.style.palette.base, label=f"k = {k}",
        )
        for i, k in enumerate(sizes)
    ]  # fmt: skip
    handles += [
        Line2D([], [], linewidth=4, color=role_colour(asked.style, k), label=asked.kinds[k].label)
        for k in dict.fromkeys(p.kind for p in asked.pairs)
    ]
    handles += [
        Line2D([], [], linewidth=0.9, color=FAINT, linestyle=line, label=label)
        for label, line in grey.items()
    ]
    if handles:
        figure.legend(
            handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1, fontsize="small"
        )


run = publishing(draw)
