"""The study's own name, its seeds, and the words that its reports open with."""

from pydantic import field_validator

from realign.study.base import Name, Section, Seeds, setting


class Project(Section):
    """Which study this is and which random seeds it repeats its trainings with."""

    name: Name = setting(..., "The study's name; everything it makes lies under results/<name>/.")
    title: str = setting("", "A title for the report; the name stands in for an empty one.")
    question: str = setting("", "The question this study asks, printed at the top of its report.")
    scope: str = setting(
        "", "What this study's results can show and what they cannot, printed under its report's answer."
    )
    seed: int = setting(0, "The seed from which every random choice is derived, together with a name.", ge=0)
    seeds: Seeds = setting((0,), "One contrastive training of each backbone is made for each of these seeds.")

    @field_validator("seeds")
    @classmethod
    def _some(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("at least one seed is needed")
        return seeds
