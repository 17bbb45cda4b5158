"""Probes: what they predict and from whom, splits by class, scores, and intervals on the same texts."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score, r2_score
from sklearn.preprocessing import StandardScaler

from realign.artifacts.command import UserError
from realign.hrsa import compare, probe
from realign.hrsa.groups import Groups
from realign.hrsa.labels import as_target
from realign.hrsa.reading import haar_rotation
from realign.study.hrsa import ProbeJob


@pytest.fixture
def texts(random):
    labels = random.integers(0, 3, 240)
    centres = 1.5 * random.standard_normal((3, 8))
    return centres[labels] + random.standard_normal((240, 8)), [f"class {n}" for n in labels]


def table(left, right, labels, **settings):
    d = compare(left, right, labels=labels, families=["probe"], **settings)
    return d[d.measure == "probe"]


def value(d, direction, statistic="accuracy", split="test"):
    of = d[(d.direction == direction) & (d.statistic == statistic) & (d.split == split)]
    return of.value.item()


def test_published_settings_equal_scikit_learn(texts):
    x, labels = texts
    target = as_target(labels)
    settings = ProbeJob(c=(1.0,), seeds=1)
    parts = probe.split_texts(target, settings, 0)
    scaler = StandardScaler().fit(x[parts["train"]])
    theirs = LogisticRegression(max_iter=1000).fit(
        scaler.transform(x[parts["train"]]), target.values[parts["train"]]
    )
    ours = probe.fit_probe(x, target, parts, settings)
    np.testing.assert_array_equal(ours(x), theirs.predict(scaler.transform(x)))
    tally = probe.Tally(Groups(np.arange(240), 20), target)
    tally.add(ours(x), parts["test"])
    true, said = target.values[parts["test"]], ours(x)[parts["test"]]
    scores = tally.scores()
    assert scores["accuracy"][0] == pytest.approx(accuracy_score(true, said))
    assert scores["macro_f1"][0] == pytest.approx(f1_score(true, said, average="macro"))


def test_the_best_penalty_on_dev_is_taken(texts, monkeypatch):
    x, labels = texts
    target, settings = as_target(labels), ProbeJob(c=(1e-6, 1.0))
    parts = probe.split_texts(target, settings, 0)
    strong = probe.fit_probe(x, target, parts, ProbeJob(c=(1e-6,)))
    chosen = probe.fit_probe(x, target, parts, settings)
    dev = parts["dev"]
    assert (chosen(x)[dev] == target.values[dev]).mean() > (strong(x)[dev] == target.values[dev]).mean()


def test_a_probe_holds_for_the_same_basis_and_breaks_in_another(texts):
    x, labels = texts
    same = table(x, x, labels, seeds=2)
    assert value(same, "left") == value(same, "right") == value(same, "native") > 0.8
    assert value(same, "right", "accuracy_change") == 0
    turned = table(x, x @ haar_rotation(8, 3), labels, seeds=2, procrustes=True)
    assert value(turned, "native") > 0.8
    assert value(turned, "right") < 0.65
    assert value(turned, "back") < 0.65
    assert value(turned, "right_mapped") == pytest.approx(value(turned, "left"), abs=0.05)


def test_the_change_is_paired_and_its_interval_narrower_than_its_parts(texts, random):
    x, labels = texts
    d = table(x, x + 0.2 * random.standard_normal(x.shape), labels, seeds=1)
    row = d[(d.direction == "right") & (d.statistic == "accuracy_change") & (d.split == "test")].iloc[0]
    assert row.value == pytest.approx(value(d, "right") - value(d, "left"), abs=1e-12)
    plain = d[(d.direction == "right") & (d.statistic == "accuracy") & (d.split == "test")].iloc[0]
    assert row.ci_high - row.ci_low < plain.ci_high - plain.ci_low


def test_splits_are_disjoint_whole_stratified_and_seeded(texts):
    target = as_target(texts[1])
    settings = ProbeJob()
    first, again, other = (probe.split_texts(target, settings, n) for n in (0, 0, 1))
    together = np.concatenate(list(first.values()))
    assert sorted(together) == list(range(240))
    for c in range(3):
        of_class = [(target.values[first[s]] == c).sum() for s in ("train", "dev", "test")]
        assert of_class[2] == round(0.1 * sum(of_class))
    np.testing.assert_array_equal(first["test"], again["test"])
    assert not np.array_equal(first["test"], other["test"])


def test_quantities_are_predicted_by_ridge(random):
    x = random.standard_normal((200, 5))
    y = x @ [1.0, -2, 0, 0, 3] + 0.3 * random.standard_normal(200)
    d = table(x, x, [f"{v:.6f}" for v in y], seeds=1, c=(1.0,), normalize=False)
    target = as_target([f"{v:.6f}" for v in y])
    parts = probe.split_texts(target, ProbeJob(c=(1.0,)), 0)
    scaler = StandardScaler().fit(x[parts["train"]])
    ridge = Ridge(alpha=1).fit(scaler.transform(x[parts["train"]]), target.values[parts["train"]])
    test = parts["test"]
    expected = r2_score(target.values[test], ridge.predict(scaler.transform(x[test])))
    assert value(d, "left", "r2") == pytest.approx(expected, abs=1e-10)


def test_labels_that_are_numbers_are_classes_when_few():
    assert as_target(["1", "2", "2"]).classes == ("1", "2")
    assert as_target([str(n) for n in range(30)]).is_quantity
    assert not as_target([f"t{n}" for n in range(30)]).is_quantity


def test_ids_of_many_classes_are_classes_when_the_study_says_so(random, caplog):
    ids = np.repeat(np.arange(25), 12)
    x = 4 * random.standard_normal((25, 16))[ids] + random.standard_normal((len(ids), 16))
    settings = {"seeds": 1, "c": (1.0,), "normalize": False}
    with caplog.at_level("INFO", "realign.hrsa"):
        guessed = table(x, x, ids, **settings)
        assert "as quantity: all are numbers and more than 20 differ" in caplog.text
        caplog.clear()
        named = table(x, x, ids, task="classes", **settings)
        assert caplog.text == ""  # nothing was guessed
    assert set(guessed.statistic) == {"r2", "r2_change"}
    assert value(named, "left") > 0.9


def test_a_scale_of_few_values_is_a_quantity_when_the_study_says_so(random, caplog):
    ratings = random.integers(1, 6, 200)
    x = random.standard_normal((200, 6))
    x[:, 0] += 2 * ratings
    settings = {"seeds": 1, "c": (1.0,), "normalize": False}
    with caplog.at_level("INFO", "realign.hrsa"):
        assert "accuracy" in set(table(x, x, ratings, **settings).statistic)
    assert "as classes: all are numbers, but no more than 20 differ" in caplog.text
    assert value(table(x, x, ratings, task="quantity", **settings), "left", "r2") > 0.8
    with pytest.raises(UserError, match="row 0 is 'good', which is no number"):
        table(x, x, ["good"] * 200, task="quantity")
    with pytest.raises(UserError, match="all labels are equal: nothing to probe for"):
        table(x, x, ["1"] * 200, task="quantity")


def test_a_label_that_is_no_finite_number_is_named(texts):
    for strange in ("nan", "inf"):
        labels = [str(n) for n in range(30)] + [strange]
        with pytest.raises(UserError, match=f"row 30 is '{strange}'"):
            as_target(labels)


def test_a_quantity_of_few_texts_still_has_two_to_choose_and_to_test_on(random):
    x = random.standard_normal((24, 3))
    d = table(x, x, [f"{v:.6f}" for v in x[:, 0]], dev=0.02, test=0.02, seeds=1)
    assert np.isfinite(value(d, "left", "r2", "dev"))
    assert np.isfinite(value(d, "left", "r2", "test"))


def test_small_classes_are_left_out_and_one_class_is_an_error(texts):
    x, labels = texts
    labels = ["rare"] * 3 + labels[3:]
    target = as_target(labels)
    assert not (target.values[probe.choose_texts(target, ProbeJob())] == target.classes.index("rare")).any()
    with pytest.raises(UserError, match="fewer than two classes"):
        table(x, x, ["one"] * 240)
    with pytest.raises(UserError, match="there are none"):
        compare(x, x, families=["probe"])


def test_layers_can_be_chosen(texts):
    x, labels = texts
    states = np.stack([x, x, x])
    assert set(table(states, states, labels, seeds=1, layers=(0, 2)).layer_left) == {0, 2}
    assert set(table(states, states, labels, seeds=1, layers="final").layer_left) == {2}
    with pytest.raises(UserError, match="layers: 5 is asked for"):
        table(states, states, labels, layers=(5,))


def test_tokens_of_texts_are_refused_since_they_would_tell_on_each_other(random):
    texts = np.repeat(np.arange(40), 20)
    x = random.standard_normal((800, 8))
    with pytest.raises(UserError, match="one row a text, and these are 800 rows of 40 texts"):
        compare(x, x, texts, labels=["ab"[t % 2] for t in texts], families=["probe"])


def test_texts_that_cannot_be_divided_are_an_error_in_words(random):
    x = random.standard_normal((2000, 4))
    rare = ["rare" if i < 5 else "usual" for i in range(2000)]
    with pytest.raises(UserError, match=r"max_texts: of 100 texts fewer than two classes"):
        table(x, x, rare, max_texts=100, least=5)
    with pytest.raises(UserError, match="8 texts are too few to divide"):
        table(x[:8], x[:8], list("aaaabbbb"), dev=0.4, test=0.4, least=4)
    with pytest.raises(UserError, match="4 texts are too few to divide"):
        table(x[:4], x[:4], [0.1, 0.2, 0.3, 0.4], task="quantity")


def test_layers_of_models_of_other_depth_do_not_correspond(random):
    x, y = random.standard_normal((3, 60, 4)), random.standard_normal((2, 60, 4))
    labels = ["ab"[i % 2] for i in range(60)]
    assert set(table(x, y, labels)["layer_left"]) == {2}
    with pytest.raises(UserError, match="only the final ones correspond"):
        table(x, y, labels, layers=(0, 1))
    near = compare(x, y, k=(5,), families="neighbours")
    assert set(near.loc[near.measure == "knn_overlap", "statistic"]) == {"mean"}
