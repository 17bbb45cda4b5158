"""Every interval of every family, held to known truths on few samples; `bench/coverage.py` takes many."""

import numpy as np
import pytest

from realign.measures.table import MEASURES


@pytest.mark.slow
def test_every_interval_covers_about_as_often_as_it_says(benchmark):
    found = benchmark("coverage").simulate(samples=40, texts=60, each=6, width=8)
    covered = {name: share for name, (share, _) in found.items()}
    made = {what.split(" ")[0] for what, _ in covered}
    declared = {f"{m.name}.{s}" for m in MEASURES.values() for s, d in m.statistics.items() if d.has_interval}
    assert made >= declared  # no interval is left out
    assert min(covered.values()) >= 0.8, covered  # 40 samples: 0.95 within four standard errors
    assert 0.92 <= np.mean(list(covered.values())) <= 0.985
