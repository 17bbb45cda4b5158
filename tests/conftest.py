"""What every test may rely on."""

import pytest


@pytest.fixture(autouse=True)
def hub_as_it_comes(monkeypatch):
    """Evaluation switches the hub off for its whole process; the next test starts as a user does."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "REALIGN_RUN"):
        monkeypatch.delenv(name, raising=False)
