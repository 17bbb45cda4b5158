import numpy as np
import pandas as pd
import pytest

from realign.results.columns import COLUMNS
from realign.results.estimates import of_whole


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
