"""Draw the pictures that the image tests compare with: python tests/drawing/rebase.py

Look at every one of them before committing.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from realign.artifacts.store import WorkStore
from realign.plates.catalogue import FIGURES
from realign.tools.figures import draw_plate, read_description
from small_study import small_description
from synthetic_results import fill

BASELINE = Path(__file__).parent / "baseline"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        fill(small_description(), results)
        told = read_description(results)
        BASELINE.mkdir(exist_ok=True)
        for name in FIGURES:
            draw_plate(results, told, name, results, WorkStore(results / ".work"))
            (BASELINE / f"{name}.png").write_bytes((results / f"figures/{name}.png").read_bytes())
