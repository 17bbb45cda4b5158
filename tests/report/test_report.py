import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from realign.artifacts import fingerprint
from realign.artifacts.command import execute
from realign.artifacts.store import WorkStore
from realign.plan.plates import report_settings
from realign.plates.catalogue import FIGURES, PLATES
from realign.report.commands import REPORT
from realign.report.facts import read_run
from realign.report.grids import from_markdown, leading_number
from realign.report.verdicts import answer, cards, gain_warnings, numbers, sink_warnings
from realign.results.tidy import read_table
from realign.results.verdicts import ALL
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
    assert len(outline.images) == len(FIGURES)
    assert all(i["alt"] for i in outline.images)


def test_what_a_study_says_is_escaped_and_made_up_results_are_marked(page):
    assert "Is it &lt;alike&gt; &amp; well?" in page
    assert "Synthetic results: nothing on this page was measured." in page


def test_without_scripts_everything_is_on_the_page(page, drawn):
    """Verdicts, tables and pictures stand in the HTML itself; the script only sorts."""
    bare = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    claims = read_table("claims", [drawn / "tidy/claims.parquet"])
    assert all(f">{c} · " in bare for c in claims["claim"].unique())
    assert bare.count("<figure") == len(FIGURES)
    assert bare.count("<table") >= 13 + claims["claim"].nunique()


def test_a_folded_claim_shows_its_value_interval_and_threshold(page, drawn):
    claims = read_table("claims", [drawn / "tidy/claims.parquet"])
    test = claims[claims["value"].notna()].iloc[0]
    summaries = re.findall(r"<summary>.*?</summary>", page, re.DOTALL)
    value = f"{test['value']:+.2f} [{test['ci_low']:+.2f}, {test['ci_high']:+.2f}]".replace("-", "−")
    assert any(f"{value}, within ± {test['threshold']:g}" in text for text in summaries)


def claim(name, *tests):
    """Rows of the table of claims: the verdict, then (pair, statistic, value, verdict) of each test."""
    about = {"study": "s", "claim": name, "threshold": 1.0}
    nothing = {"value": np.nan, "ci_low": np.nan, "ci_high": np.nan}
    whole = {
        "pair": ALL,
        "statistic": "verdict",
        "verdict": tests[0][3],
        "evidence": json.dumps({"says": name}),
    }
    rows = [about | nothing | whole]
    for pair, statistic, value, verdict in tests:
        evidence = {
            "rule": "equivalent",
            "p": 0.5,
            "p_opposite_holm": 0.5,
            "files": ["a"] if value == value else [],
        }
        rows.append(
            about
            | {
                "pair": pair,
                "statistic": statistic,
                "value": value,
                "ci_low": value - 1,
                "ci_high": value + 1,
            }
            | {"verdict": verdict, "evidence": json.dumps(evidence)}
        )
    return rows


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        ("holds", "Benchmark scores are equivalent: each gain lies within the margin of ± 1. Of 1 claim: 1 holds."),
        ("fails", "Benchmark scores differ by more than the margin of ± 1: higher for a vs b on Code, "
                  "+2.50 [+1.50, +3.50]. Of 1 claim: 1 fails."),
        ("undecided", "Whether benchmark scores differ is undecided: intervals reach beyond the margin of ± 1. "
                      "Of 1 claim: 1 undecided."),
    ],
)  # fmt: skip
def test_the_answer_follows_the_verdict(verdict, says):
    rows = claim("null_effect", ("a--vs--b", "gain, Code (other tasks like these)", 2.5, verdict))
    assert answer(cards(pd.DataFrame(rows))) == says


def with_evidence(rows, **facts):
    """The same rows, with further facts on every test."""
    test = [row for row in rows if row["pair"] != ALL]
    for row in test:
        row["evidence"] = json.dumps(json.loads(row["evidence"]) | facts)
    return cards(pd.DataFrame(rows))


def test_an_undecided_answer_says_what_this_design_could_have_decided():
    rows = claim("null_effect", ("a--vs--b", "gain, Code (other tasks like these)", 0.5, "undecided"))
    found = with_evidence(rows, least_margin=1.24, fails_from=2.4)
    assert "within a margin of ± 1.24 if there is no gain, and finds gains from ± 2.40." in answer(found)
    shown = found[0].grid.rows[0]
    assert "confirms margins from ± 1.24 and finds differences from ± 2.40" in " ".join(c.text for c in shown)


def test_a_gain_below_random_weights_or_on_one_task_is_warned_about():
    rows = claim("null_effect", ("a--vs--b", "gain, Code (other tasks like these)", 2.5, "fails"))
    facts = {"mean_scores": [20.0, 22.5], "task_that_moves_it_most": "Apps", "gain_without_it": 0.1}
    low = gain_warnings(with_evidence(rows, **facts, score_of_random_weights=23.0))
    assert [w.split(": ", 1)[1] for w in low] == [
        "both sides score no higher than random weights (20.0 and 22.5, 23.0), so the gain says nothing.",
        "+2.50 [+1.50, +3.50] rests on one task. Without Apps the gain is +0.10.",
    ]
    facts |= {"gain_without_it": 2.1}
    assert gain_warnings(with_evidence(rows, **facts, score_of_random_weights=12.0)) == []


def test_the_main_numbers_are_gains_and_levels_by_pair():
    rows = [
        *claim("kept", ("a--vs--b", "Linear CKA, backbones, bidirectional", 0.9, "holds"),
               ("a--vs--b", "Linear CKA, backbones, causal", 0.8, "holds"),
               ("a--vs--c", "Linear CKA, embedders minus backbones, causal", 0.1, "holds")),
        *claim("null_effect", ("a--vs--c", "gain, Docs (these tasks, other seeds)", -0.25, "holds")),
    ]  # fmt: skip
    table = numbers(cards(pd.DataFrame(rows)))
    assert list(table.heads) == ["", "a vs b", "a vs c"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["Gain on Docs, points", "–", "−0.25 [−1.25, +0.75]"],
        ["Linear CKA, backbones", "0.900 [−0.100, 1.900]", "–"],
    ]
    assert numbers([]) is None


def test_readouts_say_whose_probe_and_which_way():
    ways = ("right minus left, probe of the left", "left minus right, probe of the right")
    tests = [("a--vs--b", f"probe accuracy, {way}, backbones, causal", 0.1, "holds") for way in ways]
    table = numbers(cards(pd.DataFrame(claim("read", *tests))))
    assert [row[0].text for row in table.rows] == [
        "Probe accuracy, post-trained minus base, probe of the base, backbones",
        "Probe accuracy, base minus post-trained, probe of the post-trained, backbones",
    ]


def test_a_similarity_that_sinks_make_is_a_warning_on_the_first_screen(tmp_path, description):
    statistic = "Linear CKA, debiased, backbones, causal"
    rows = claim("kept", ("a--vs--b", statistic, 0.05, "fails"), ("a--vs--c", statistic, 0.98, "holds"))
    for row, gap in zip(rows[1:], (0.94, 0.01), strict=True):
        row["evidence"] = json.dumps(json.loads(row["evidence"]) | {"with_sinks": 0.99, "sinks_add": gap})
    told = pd.DataFrame(rows)
    (warning,) = sink_warnings(cards(told))
    assert warning.startswith(f"a vs b, {statistic}: 0.05 without attention sinks, 0.99 with them.")
    page = written(tmp_path, description, told)
    assert page.index(warning) < page.index("What this study can and cannot show")


def test_claims_that_nothing_was_measured_for_are_neither_counted_nor_missing(tmp_path, description):
    claims = pd.DataFrame([
        *claim("asked", ("a--vs--b", "Linear CKA, backbones, causal", 0.9, "holds")),
        *claim("not_asked", ("none", "gain", np.nan, "undecided")),
    ])  # fmt: skip
    text = written(tmp_path, description.model_copy(update={"compared": ()}), claims)
    assert "Of 1 claim: 1 holds." in text
    assert ">asked · 1 holds · " in text
    assert "The results hold nothing to test 1 further claim on." in text
    assert ">undecided<" not in text
    missing = text.partition('id="missing"')[2]
    assert "not_asked" not in missing


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
    grid = from_markdown("**T** C\n\n| a | b |\n| --- | ---: |\n| x \\| y | –0 |\n\nNote.\n")
    assert grid.heads == ["a", "b"]
    assert [[cell.text for cell in row] for row in grid.rows] == [["x | y", "–0"]]
    assert grid.remarks == ["Note."]


@pytest.mark.parametrize(
    ("cell", "value"),
    [("+1.20 [0.1, 2]", 1.2), ("−0.30 [−1, 2]", -0.3), ("1,234", 1234.0), ("< 0.001", 0.0), ("abc", None)],
)
def test_cells_sort_by_their_number(cell, value):
    assert leading_number(cell) == value


def written(folder, description, claims=None, plates=(), tables=()):
    """A page over results that hold nothing but claims and tables."""
    (folder / "tidy").mkdir()
    (folder / "tidy/study.json").write_text(description.model_dump_json())
    inputs = {"study": folder / "tidy/study.json"}
    if claims is not None:
        inputs["claims"] = folder / "tidy/claims.parquet"
        claims.to_parquet(inputs["claims"])
    if tables:
        inputs["tables"] = list(tables)
    place = folder / "report.html"
    execute(REPORT, WriteReport(plates=plates), inputs, {"html": place}, WorkStore(folder / ".work"))
    return place.read_text()


def test_a_plate_that_was_not_made_is_told_once_and_not_shown(tmp_path, description):
    words = PlateText(
        name="figure_3", heading="Figure 3. Its title.", title="Its title", caption="Its caption."
    )
    text = written(tmp_path, description, plates=(words,))
    assert text.count("“Its title” was not made.") == 1
    assert 'id="figure_3"' not in text


def test_every_word_of_a_table_is_escaped(tmp_path, description):
    (tmp_path / "table_x.csv").write_text("<b>,y\n<script>alert(1)</script>,2\n")
    text = written(tmp_path, description, tables=[tmp_path / "table_x.csv"])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>" not in text


def test_a_wide_table_can_be_scrolled_by_keyboard_and_shows_where_it_goes_on(page):
    assert page.count('<div class="scroll" role="region" tabindex="0" aria-label="') == page.count("<table")
    assert "no-repeat local" in page  # the shadow at an edge, which needs no script
    assert "scroll it sideways" in page


@pytest.mark.parametrize("name", ["page.html", "page.css", "page.js", "grid.html", "base.html"])
def test_an_edited_template_makes_the_report_stale(name, tmp_path):
    root = tmp_path / "realign"
    shutil.copytree(fingerprint.ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    module = REPORT.run.partition(":")[0]
    before = fingerprint.fingerprint(module, root)
    with (root / "report" / name).open("a") as file:
        file.write("\n")
    fingerprint.forget()
    assert fingerprint.fingerprint(module, root) != before


def test_plates_of_our_own_have_no_number_to_stumble_over():
    assert PLATES["figure_gains"].heading == f"{PLATES['figure_gains'].title}."
    assert PLATES["table_12"].heading == f"Table 12. {PLATES['table_12'].title}."


def test_drawings_without_data_come_last(description):
    names = [plate.name for plate in report_settings(description).plates]
    assert {*names[-2:]} == {"figure_1", "figure_2"}
