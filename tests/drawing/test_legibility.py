"""Every figure at the size of the paper's study: no text over another, none cut off, none too small."""

import importlib
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from realign.drawing.panels import settle, stamp
from realign.drawing.style import styled
from realign.plan.plates import plate_parts, plate_settings
from realign.plates.catalogue import FIGURES, PLATES
from realign.results.published import reference_files
from realign.results.tidy import Tidy
from realign.tools.figures import present, read_description
from synthetic_results import fill, paper_shaped

SMALLEST = 5.0  # points, at the width of a page


@pytest.fixture(scope="module")
def paper_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine pairs, two corpora, up to 36 layers; made up."""
    folder = tmp_path_factory.mktemp("paper")
    fill(paper_shaped(), folder)
    return folder


def texts_of(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Text, Bbox]]:
    """Every text that is really drawn, with the box that it fills."""
    found = []
    draw = Text.draw

    def record(self, renderer):
        draw(self, renderer)
        if self.get_visible() and self.get_text().strip():
            found.append((self, self.get_window_extent(renderer)))

    monkeypatch.setattr(Text, "draw", record)
    FigureCanvasAgg(figure).draw()
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FIGURES)
def test_texts_can_be_read(name, paper_results, monkeypatch):
    description = read_description(paper_results)
    asked = plate_settings(description, name)
    tidy = Tidy(present(paper_results, plate_parts(description, name)))
    module = importlib.import_module(f"realign.drawing.figures.{PLATES[name].module}")
    with styled(asked.style):
        figure = module.draw(asked, tidy, reference_files(PLATES[name].references)).figure
        stamp(figure)
        settle(figure)
        texts = texts_of(figure, monkeypatch)
    for text, box in texts:
        assert text.get_fontsize() >= SMALLEST, text.get_text()
        assert figure.bbox.padded(1).contains(*box.min), text.get_text()
        assert figure.bbox.padded(1).contains(*box.max), text.get_text()
    for (first, a), (second, b) in combinations(texts, 2):
        assert not a.padded(-1).overlaps(b.padded(-1)), (first.get_text(), second.get_text())
