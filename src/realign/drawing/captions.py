"""The captions of Snakemake's own report, written from the catalogue so that both say the same.

Run `python -m realign.drawing.captions workflow/report` after changing the catalogue; a test holds.
"""

import sys
from pathlib import Path

from realign.results.plates import PLATES

CLAIMS = (
    "The study's claims: each test's statistic, its interval, the rule, the p-value after Holm's correction "
    "within the claim, and the verdict: holds, fails, or undecided at this sample size.\n"
)


def captions() -> dict[str, str]:
    """File name to text."""
    texts = {
        f"{name}.rst": f"**{plate.label}. {plate.title}.** {plate.caption.replace('*', chr(92) + '*')}\n"
        for name, plate in PLATES.items()
    }
    return texts | {"claims.rst": CLAIMS}


def write(folder: Path) -> None:
    """Write all captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in captions().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
