import numpy as np
import pandas as pd
import pytest
from scipy import stats

from realign.drawing.tables.before import make
from realign.drawing.tables.benchmark import paper_p
from realign.drawing.tabulate import Column, Table
from realign.plan.plates import plate_settings
from realign.plates.catalogue import PLATES, TABLES
from realign.results.columns import COLUMNS
from realign.results.gains import largest_whole
from realign.results.published import published_value, read_reference, reference_files, same_model
from realign.results.tidy import Tidy
from realign.study.description import PairEntry


def reference(name: str) -> pd.DataFrame:
    table = read_reference(reference_files([name]), name)
    assert table is not None
    return table


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_filled_in_all_forms(name, drawn):
    assert len(pd.read_csv(drawn / f"tables/{name}.csv")) > 0
    md = (drawn / f"tables/{name}.md").read_text()
    tex = (drawn / f"tables/{name}.tex").read_text()
    assert "SYNTHETIC" in md
    assert "SYNTHETIC" in tex
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == 1


@pytest.mark.parametrize("name", TABLES)
def test_latex_rows_have_as_many_cells_as_columns(name, drawn):
    tex = (drawn / f"tables/{name}.tex").read_text()
    columns = len(tex.split(r"\begin{tabular}{")[1].split("}")[0])
    body = tex.split(r"\toprule")[1].split(r"\bottomrule")[0]
    for line in body.splitlines():
        if line.endswith(r"\\"):
            assert line.replace(r"\&", "").count("&") == columns - 1


def test_special_characters_are_written_for_latex_and_markdown():
    table = Table([Column("a", "50 % & more")], [{"a": "x_1 | {y} ~ \\ †"}])
    tex, md = table.latex("table_1", "T", "C"), table.markdown("T", "C")
    assert r"50 \% \& more" in tex
    assert r"x\_1 | \{y\} \textasciitilde{} \textbackslash{} $\dagger$" in tex
    assert r"x_1 \| {y}" in md


def test_sft_rows_are_marked_and_intervals_shown():
    table = Table(
        [Column("a", "A"), Column("v", "V", ".2f", "l", "h")],
        [{"kind": "sft", "a": "x", "v": 1.0, "l": 0.5, "h": 1.5}, {"kind": "rlvr", "a": "y", "v": np.nan}],
    )
    assert list(table.cells()) == [["x †", "1.00 [0.50, 1.50]"], ["y", "–"]]
    assert table.all_notes() == ["† SFT pair."]
    assert list(table.frame()) == ["a", "v", "l", "h", "kind"]


def test_backbones_as_they_are_stand_beside_their_embedders_and_random_weights(description, tmp_path):
    scores = {"base": 0.1, "random": 0.2, "base+full+s0": 0.3, "base+full+s1": 0.5, "base+lora+s0": 0.9}
    for model, value in scores.items():
        backbone, recipe, seed = [*model.split("+"), None, None][:3]
        told = {"embedder": model, "backbone": backbone, "recipe": recipe, "metric": "main_score"}
        told |= {"seed": int(seed[1:]) if seed else None, "benchmark": "B", "task": "T", "preset": ""}
        row = dict.fromkeys(COLUMNS["scores"]) | told | {"task_type": "STS", "value": value}
        path = tmp_path / f"tidy/scores/{model}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([row]).to_parquet(path)
    asked = plate_settings(description, "table_before")
    table = make(asked, Tidy(sorted(tmp_path.rglob("*.parquet"))), [])
    found = {row["backbone"]: (row["before"], row["after"]) for row in table.rows}
    assert found == {"base": pytest.approx((10, 40)), "random": pytest.approx((20, np.nan), nan_ok=True)}


def test_a_small_p_value_is_not_told_as_zero():
    column = Column("p", "p", "p")
    assert column.show({"p": 1e-9}) == "< 0.001"
    assert column.show({"p": 0.0312}) == "0.031"


def test_gains_are_the_difference_of_what_is_beside_them(drawn):
    table = pd.read_csv(drawn / "tables/table_1.csv")
    assert np.allclose(table["post_score"] - table["base_score"], table["gain"], atol=1e-3)
    assert (table["low_90"] <= table["gain"]).all()
    assert (table["gain"] <= table["high_90"]).all()
    assert table["sd"].notna().all()


def test_published_numbers_agree_with_one_another():
    """Differences, sums and repeated values inside the published tables."""
    scores = reference("benchmarks")
    assert np.allclose((scores["post"] - scores["base"]).round(2), scores["gain"], atol=0.011)
    assert reference("datasets")["value"].sum() == 1_603_172
    rotation = reference("rotation")
    printed = {n: rotation[rotation["table"] == n] for n in (3, 12, 13)}
    assert [len(rows) for rows in printed.values()] == [4, 16, 12]
    keys = ["left", "right", "stage", "corpus"]
    twice = printed[3].merge(pd.concat([printed[12], printed[13]]), on=keys)
    assert len(twice) == 4
    assert np.allclose(twice["value_x"], twice["value_y"], atol=0.001)
    corpora = reference("corpora")
    assert corpora.loc[corpora["corpus"] != "all", ["total", "valid"]].sum().tolist() == [1197, 1021]
    assert len(reference("backbones")) == 8
    assert len(reference("embedders")) == 6


def test_published_values_are_found_by_hub_id_and_by_label():
    pair = PairEntry(name="a--vs--b", left="a", right="b", kind="rlvr")
    known = {"a": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "b": "Nemotron-Research-Reasoning-Qwen-1.5B"}
    table = reference("overlap")
    assert published_value(table, pair, known, "value", stage="backbone", k=50) == 0.577
    assert np.isnan(published_value(table, pair, {}, "value", stage="backbone", k=50))
    assert same_model("hkust-nlp/Qwen-2.5-0.5B-SimpleRL-Zoo", "qwen-2.5-0.5b-simplerl-zoo", {})
    assert not same_model("Qwen/Qwen3-4B", "Qwen3-4B", {"Qwen3-4B": "someone-else/Qwen3-4B"})


def test_pass_rates_are_compared_problem_by_problem(drawn):
    """Table 9 shows the paired gain over the pair's own base, with its interval."""
    table = pd.read_csv(drawn / "tables/table_9.csv").set_index("post")
    assert table.loc["reasoned", ["gain", "gain_low", "gain_high"]].tolist() == [0.25, 0.21, 0.29]
    assert "+0.250 [+0.210, +0.290]" in (drawn / "tables/table_9.md").read_text()


def test_gaps_cost_as_few_scores_as_can_be():
    whole = pd.DataFrame(np.zeros((4, 3)))
    one_seed_short, one_task_short = whole.copy(), whole.copy()
    one_seed_short.iloc[:2, 2] = np.nan
    one_task_short.iloc[3, :2] = np.nan
    assert largest_whole(whole).shape == (4, 3)
    assert largest_whole(one_seed_short).shape == (4, 2)
    assert largest_whole(one_task_short).shape == (3, 3)


def test_columns_without_values_are_left_out_where_they_may_be():
    columns = [Column("a", "A"), Column("b", "B", optional=True), Column("c", "C", optional=True)]
    table = Table(columns, [{"a": "x", "b": np.nan, "c": 1}])
    assert [c.key for c in table.columns] == ["a", "c"]


def test_the_papers_own_p_value_is_scipys():
    told = stats.ttest_ind_from_stats(0.45, 0.02, 3, 0, 1e-12, 10**9, equal_var=False).pvalue
    assert paper_p(0.45, 0.02, 3) == pytest.approx(told, rel=1e-6)
    assert np.isnan(paper_p(np.nan, 0.02, 3))


def test_published_values_stand_beside_this_studys(description, results, tmp_path):
    """The same pair under the published hub ids: table 12 shows both and their difference."""
    from realign.artifacts.store import WorkStore
    from realign.tools.figures import draw_plate

    backbones = {n: dict(b) for n, b in description.backbones.items()}
    backbones["base"]["hub"] = "Qwen/Qwen2.5-0.5B"
    backbones["reasoned"]["hub"] = "hkust-nlp/Qwen-2.5-0.5B-SimpleRL-Zoo"
    draw_plate(results, description.model_copy(update={"backbones": backbones}), "table_12", tmp_path,
               WorkStore(tmp_path / ".work"))  # fmt: skip
    table = pd.read_csv(tmp_path / "tables/table_12.csv")
    row = table[(table["post"] == "reasoned") & (table["corpus"] == "hard")].iloc[0]
    assert row["paper"] == pytest.approx(0.9923)
    assert row["difference"] == pytest.approx(row["value"] - 0.9923, abs=1e-5)
    assert table[table["post"] == "tuned"]["paper"].isna().all()


def test_every_plate_of_the_paper_is_there():
    for kind in ("figure", "table"):
        assert all(f"{kind}_{n}" in PLATES for n in range(1, 14))
