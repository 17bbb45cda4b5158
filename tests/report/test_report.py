import re
from html.parser import HTMLParser

import pytest

from realign.report.facts import RunFacts, read_run
from realign.report.page import ALL, _leading_number, _markdown, answer, build
from realign.results.catalogue import PLATES
from realign.results.tidy import read_table
from realign.study.drawing import PlateText, WriteReport

VOID = {"meta", "img", "br", "hr", "link"}


class Outline(HTMLParser):
    """Checks that tags are closed in order; gathers ids, links and tables."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.tables, self.text = [], [], [], [], 0, []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in told:
            self.ids.append(told["id"])
        if tag == "a":
            self.links.append(told["href"])
        if tag == "img":
            self.images.append(told)
        self.tables += tag == "table"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(drawn) -> str:
    return (drawn / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(page) -> Outline:
    parser = Outline()
    parser.feed(page)
    assert not parser.open
    return parser


def test_the_page_needs_nothing_from_elsewhere(page, outline):
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert "@import" not in page
    assert not re.search(r"url\((?!data:)", page)
    assert all(i["src"].startswith("data:image/svg+xml;base64,") for i in outline.images)


def test_links_lead_somewhere_and_ids_are_unique(outline):
    assert len(outline.ids) == len(set(outline.ids))
    assert {link[1:] for link in outline.links} <= set(outline.ids)


def test_every_plate_is_there_and_every_picture_has_words(outline):
    assert set(PLATES) <= set(outline.ids)
    assert len(outline.images) == 18
    assert all(i["alt"] for i in outline.images)


def test_what_a_study_says_is_escaped_and_made_up_results_are_marked(page):
    assert "Is it &lt;alike&gt; &amp; well?" in page
    assert "Synthetic results: nothing on this page was measured." in page


def test_without_scripts_everything_is_on_the_page(page, drawn):
    """Verdicts, tables and pictures stand in the HTML itself; the script only sorts."""
    bare = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    claims = read_table("claims", [drawn / "tidy/claims.parquet"])
    assert all(f">{c} · " in bare for c in claims["claim"].unique())
    assert bare.count("<figure") == 18
    assert bare.count("<table") >= 13 + claims["claim"].nunique()


def test_a_folded_claim_shows_its_value_interval_and_threshold(page, drawn):
    claims = read_table("claims", [drawn / "tidy/claims.parquet"])
    test = claims[claims["pair"] != ALL].iloc[0]
    summaries = re.findall(r"<summary>.*?</summary>", page, re.DOTALL)
    value = f"{test['value']:.3f}".replace("-", "−")
    assert any(f"{test['pair']}: {value}" in text for text in summaries)


def test_the_answer_follows_the_verdict(drawn):
    claims = read_table("claims", [drawn / "tidy/claims.parquet"])
    for verdict, word in (
        ("holds", "No: "),
        ("fails", "Scores differ by more than the margin: "),
        ("undecided", "Undecided at this sample"),
    ):
        told = claims.copy()
        told.loc[told["claim"] == "null_effect", "verdict"] = verdict
        assert answer(told).startswith(word)
    assert answer(claims.iloc[:0]) == "No claim has been judged yet."
    whole = claims[(claims["claim"] == "null_effect") & (claims["pair"] == ALL)]
    assert answer(whole.assign(verdict="undecided")).startswith("Not asked here: ")


def test_what_a_study_can_show_is_said_in_its_own_words_with_its_sizes(page):
    assert "A made-up study shows nothing." in page
    assert "3 pairs of backbones (1 SFT, 2 RLVR), at most 4,000,000 parameters, 2 contrastive seeds, " in page


def test_what_was_run_is_read_from_provenance_each_work_once(drawn, tmp_path):
    facts = read_run(drawn)
    assert facts.counts["figures"] == len(list((drawn / "figures").glob("*.svg")))
    assert facts.counts["claims"] == 1
    assert facts.seconds["figures"] > 0
    assert facts.libraries["matplotlib"]
    assert read_run(tmp_path).jobs == 0


def test_markdown_tables_are_read_back():
    heads, rows, notes = _markdown("**T** C\n\n| a | b |\n| --- | ---: |\n| x \\| y | –0 |\n\nNote.\n")
    assert (heads, rows, notes) == (["a", "b"], [["x | y", "–0"]], ["Note."])


@pytest.mark.parametrize(
    ("cell", "value"),
    [("+1.20 [0.1, 2]", 1.2), ("−0.30 [−1, 2]", -0.3), ("1,234", 1234.0), ("< 0.001", 0.0), ("abc", None)],
)
def test_cells_sort_by_their_number(cell, value):
    assert _leading_number(cell) == value


def test_plates_that_the_study_makes_nothing_for_are_told_once_and_not_shown(description):
    shown = PlateText(name="figure_3", label="Figure 3", title="Its title", caption="Its caption.")
    words = WriteReport(plates=(shown,), left_out=("Figure 1", "Figure 2"))
    text = build(description, read_table("claims", []), {}, {}, {}, RunFacts(), words)
    assert "Figure 3 was not made." in text
    assert text.count("The study makes nothing to show in Figure 1, ") == 1
    assert 'id="figure_3"' in text
    assert 'id="figure_4"' not in text
