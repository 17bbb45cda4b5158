import numpy as np
import pandas as pd
import pytest

from realign.results.columns import COLUMNS
from realign.results.estimates import of_whole
from realign.results.tidy import counterparts


@pytest.mark.parametrize(("se", "ends"), [(np.nan, (np.nan, np.nan)), (0.01, (0.5804, 0.6196))])
def test_a_whole_models_interval_is_missing_where_the_error_is_unknown(se, ends):
    row = {
        "measure": "survival",
        "statistic": "explained",
        "value": 0.6,
        "se": se,
        "df": np.inf,
        "preset": "",
    }
    found = of_whole(pd.DataFrame([row], columns=COLUMNS["measures"]), "survival", "explained")
    assert found["value"] == 0.6
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(ends, nan_ok=True, abs=1e-4)


def test_a_layers_counterpart_in_a_model_of_another_depth_is_known_for_the_last_alone():
    grid = [(left, right) for left in range(3) for right in range(5)]
    frame = pd.DataFrame(
        [("other depth", left, right) for left, right in grid]
        + [("same depth", left, right) for left, right in grid if right < 3]
        + [("whole", None, None)],
        columns=["pair", "layer_left", "layer_right"],
    )
    kept = counterparts(frame)
    assert [tuple(row) for row in kept.to_numpy()] == [
        ("other depth", 2, 4), ("same depth", 0, 0), ("same depth", 1, 1), ("same depth", 2, 2),
    ]  # fmt: skip
