from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from realign.artifacts.store import WorkStore
from realign.drawing.figures import neighbours
from realign.drawing.figures.cost import costs
from realign.drawing.panels import columns_for, layer_ticks, pair_label, shorten
from realign.drawing.style import styled
from realign.names import EmbedderId
from realign.plan.plates import plate_parts, plate_settings
from realign.plates.catalogue import FIGURES, PLATES
from realign.results.columns import COLUMNS
from realign.results.probe import probe_accuracy, probed, saturated
from realign.results.tidy import Tidy
from realign.study.description import PairEntry
from realign.study.drawing import DrawPlate
from realign.study.figures import Palette
from realign.tools.figures import draw_plate
from realign.training.record import write_tidy

BASELINE = Path(__file__).parent / "baseline"
DATA = [name for name in FIGURES if PLATES[name].needs]


def picture(path: Path) -> np.ndarray:
    return matplotlib.image.imread(path)[..., :3].astype(float)


def unlike(first: np.ndarray, second: np.ndarray) -> float:
    """The share of pixels that differ visibly, after blurring away a pixel's shift of thin lines."""
    if first.shape != second.shape:
        return 1.0

    def blurred(image: np.ndarray) -> np.ndarray:
        shifts = [np.roll(image, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        return np.mean(shifts, axis=0)

    return float((np.abs(blurred(first) - blurred(second)).max(-1) > 0.12).mean())


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_it_did(name, drawn):
    """After a wanted change: python tests/drawing/rebase.py, and look at the pictures."""
    assert unlike(picture(drawn / f"figures/{name}.png"), picture(BASELINE / f"{name}.png")) < 0.004


def test_the_comparison_of_pictures_sees_a_change():
    first = picture(BASELINE / "figure_4.png")
    changed = first.copy()
    changed[50:60, 40:80] = 0.5
    assert unlike(first, changed) > 0.004
    assert unlike(first, picture(BASELINE / "figure_12.png")) > 0.05


@pytest.mark.parametrize("name", DATA)
def test_every_data_figure_has_a_filled_panel(name, drawn):
    assert len(pd.read_csv(drawn / f"figures/{name}.csv")) > 0


def test_all_is_drawn_where_no_library_of_models_can_be_imported(drawn):
    """The fixture draws with the imports of torch and its like refused."""
    for name, plate in PLATES.items():
        folder = "tables" if plate.is_table else "figures"
        assert (drawn / f"{folder}/{name}.csv").is_file(), name
    assert (drawn / "tidy/claims.parquet").is_file()
    assert (drawn / "report.html").is_file()


@pytest.mark.parametrize("name", FIGURES)
def test_every_form_is_written_whole(name, drawn):
    starts = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}
    for form, start in starts.items():
        assert (drawn / f"figures/{name}.{form}").read_bytes().startswith(start)


def test_the_cost_of_an_embedder_is_read_from_what_its_training_wrote(tmp_path):
    for seed, steps in ((0, 3), (1, 5)):
        log = [{"step": step, "loss": 1.0, "tokens": 100.0} for step in range(1, steps + 1)]
        name = EmbedderId("rlvr", "full", seed)
        write_tidy(tmp_path / f"tidy/training/{name}.parquet", log, "study", name)
    size = dict.fromkeys(COLUMNS["backbones"]) | {"backbone": "rlvr", "metric": "parameters", "value": 1e6}
    (tmp_path / "tidy/backbones").mkdir()
    pd.DataFrame([size]).to_parquet(tmp_path / "tidy/backbones/rlvr.parquet")
    found = costs(Tidy(sorted(tmp_path.rglob("*.parquet"))))
    assert found.to_dict() == {("rlvr", "full"): pytest.approx(6 * 1e6 * 400)}  # the mean of both seeds


def test_fonts_are_embedded_and_no_type_3_is_used(drawn):
    content = (drawn / "figures/figure_4.pdf").read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


def test_the_same_results_give_the_same_bytes(results, description, drawn, tmp_path):
    marked = description.model_copy(update={"synthetic": True})
    draw_plate(results, marked, "figure_10", tmp_path, WorkStore(tmp_path / ".work"))
    for form in ("pdf", "png", "svg", "csv"):
        again = (tmp_path / f"figures/figure_10.{form}").read_bytes()
        assert again == (drawn / f"figures/figure_10.{form}").read_bytes()


@pytest.mark.parametrize("name", DATA)
def test_nothing_measured_gives_a_page_that_says_so(name, description, tmp_path):
    """No file at all: the figure is still drawn, with empty panels and an empty table of data."""
    (tmp_path / "tidy").mkdir()
    draw_plate(tmp_path, description, name, tmp_path, WorkStore(tmp_path / ".work"))
    told = (tmp_path / f"figures/{name}.csv").read_text()
    assert len(told.splitlines()) <= 1
    assert (tmp_path / f"figures/{name}.png").is_file()


def test_what_is_drawn_is_what_was_measured(drawn, results):
    """The heatmap's CSV against the Parquet it came from, read here without the room's own reader."""
    data = pd.read_csv(drawn / "figures/figure_8.csv")
    own = data[(data["pair"] == "base--vs--tuned") & (data["corpus"] == "hard")]
    rows = pd.read_parquet(results / "tidy/measures/base--vs--tuned/hard+bidirectional.linear.parquet")
    rows = rows[(rows["measure"] == "cka") & (rows["statistic"] == "value")]
    both = own.merge(rows, on=["layer_left", "layer_right"], suffixes=("_drawn", ""))
    assert len(both) == len(rows) == 25
    assert np.allclose(both["value_drawn"], both["value"], rtol=1e-5)


def test_embedders_are_averaged_over_seeds(drawn, results):
    data = pd.read_csv(drawn / "figures/figure_11.csv")
    data = data[data["kind"] != "floor"]
    own = data[(data["pair"] == "base--vs--tuned") & (data["corpus"] == "hard") & (data["k"] == 10)]
    values = []
    for seed in (0, 1):
        name = f"base+full+s{seed}--vs--tuned+full+s{seed}"
        rows = pd.read_parquet(results / f"tidy/measures/{name}/hard+bidirectional.neighbours.parquet")
        values.append(
            rows[(rows["measure"] == "knn_overlap") & (rows["k"] == 10)].set_index("layer_left")["value"]
        )
    assert np.allclose(
        own.sort_values("layer")["value"], np.mean([v.sort_index() for v in values], 0), rtol=1e-5
    )


def test_dynamics_begin_with_the_backbones_and_end_with_the_embedders(drawn):
    data = pd.read_csv(drawn / "figures/figure_5.csv")
    own = data[(data["pair"] == "base--vs--reasoned") & (data["measure"] == "cka")]
    assert own["stage"].tolist() == ["backbone", "checkpoint", "embedder"]
    assert own["step"].tolist()[:2] == [0.0, 20.0]


@pytest.mark.parametrize("layers", [2, 5, 7, 13, 25, 29, 37, 81])
def test_layer_ticks_are_true_and_uncrowded(layers):
    ticks, labels = layer_ticks(layers)
    assert ticks[0] == 0
    assert labels[0] == "E"
    assert ticks[-1] == layers - 1
    assert [str(t) for t in ticks[1:]] == labels[1:]
    assert len(ticks) <= 9
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(("count", "columns"), [(0, 1), (1, 1), (4, 4), (5, 3), (6, 3), (8, 4), (9, 3)])
def test_panels_fill_their_rows(count, columns):
    assert columns_for(count) == columns


def test_labels_fit():
    pair = PairEntry(name="a--vs--b", left="a" * 60, right="b" * 60, kind="sft")
    assert all(len(line) <= 28 for line in pair_label(pair, DrawPlate(plate="figure_10")).splitlines())
    assert shorten("abcdefghij", 5) == "ab…ij"


def test_roles_survive_greyscale_and_colour_blindness():
    """Any two roles differ in lightness; under red or green blindness they differ as well."""
    palette = Palette()
    colours = {
        n: np.array([int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for n, c in palette.as_slice().items()
    }
    weights = np.array([0.2126, 0.7152, 0.0722])
    # Viénot's reduction of linear RGB for protanopia and deuteranopia
    blind = [
        np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    ]
    names = list(colours)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            a, b = colours[first] ** 2.2, colours[second] ** 2.2
            light = [116 * np.cbrt(c @ weights) - 16 for c in (a, b)]
            assert abs(light[0] - light[1]) > 6, (first, second)
            for matrix in blind:
                assert (
                    np.abs((matrix @ a).clip(0) ** (1 / 2.2) - (matrix @ b).clip(0) ** (1 / 2.2)).max() > 0.15
                )


def test_parts_of_a_figure_are_its_own(description):
    paths = [p.path for p in plate_parts(description, "figure_8")]
    assert paths
    assert all(".linear." in p and "+bidirectional" in p and "+s0" not in p for p in paths)


def test_a_probe_that_is_right_of_both_models_tells_nothing(description, results):
    bars = probe_accuracy(Tidy(sorted(results.rglob("*.probe.parquet"))).measures, description.figures.view,
                          "base--vs--tuned", "backbone")  # fmt: skip
    assert not saturated(bars)
    tested = bars["split"] == "test"
    assert saturated(bars.assign(value=bars["value"].mask(tested, 0.995)))
    assert not saturated(bars.assign(value=bars["value"].mask(tested & (bars["side"] == "base"), 0.995)))
    facts = plate_settings(description, "figure_12").facts
    assert probed(bars, facts) == [
        "Probed: hard, 7600 texts labelled by subject; about 760 are for testing (splits: 3)."
    ]


def test_every_neighbourhood_size_that_was_measured_is_shown(description, results):
    tidy = Tidy([results / "tidy" / p.path for p in plate_parts(description, "figure_10")])
    tidy.measures["k"] = tidy.measures["k"].replace(50, 20)
    measured = set(tidy.measures["k"].dropna())
    assert 20 in measured
    with styled(description.figures.style):
        drawing = neighbours.draw(plate_settings(description, "figure_10"), tidy, [])
    assert set(drawing.data["k"]) == measured
