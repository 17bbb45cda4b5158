"""What every section of a study shares: strictness, safe names, and a sentence for each value.

A section holds settings and the checks on them, never computation: the package's own code
fingerprints leave this room out, because what a setting *is* reaches a job by its value.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

# A name becomes a folder, a wildcard and a shell word, so it is kept to letters, digits and ._-
# The longest folder is two checkpoints' comparison, with two backbones' and two recipes' names, and file
# systems allow 255 bytes.
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=48)]
FORMS: dict[str, str] = {}  # what a text is that has the form of a pattern, for people


def formed(pattern: str, what: str) -> StringConstraints:
    """A text of a certain form, and the words for it in an error."""
    FORMS[pattern] = what
    return StringConstraints(pattern=pattern)


STALES = "x-stales"  # in the schema: whether a change of the setting makes work stale
MAX_SEED = 999_999_999  # for the same reason
MAX_SEEDS = 100  # each is a training of every backbone


def _sound_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(seeds) > MAX_SEEDS:
        raise ValueError(f"more than {MAX_SEEDS} seeds are listed ({len(seeds):,})")
    if len(set(seeds)) != len(seeds):
        raise ValueError("a seed is listed twice")
    if any(seed < 0 for seed in seeds):
        raise ValueError("a seed is negative")
    if any(seed > MAX_SEED for seed in seeds):
        raise ValueError(f"a seed is above {MAX_SEED:,}")
    return seeds


Seeds = Annotated[tuple[int, ...], AfterValidator(_sound_seeds)]


class Section(BaseModel):
    """A part of a study: unknown keys are refused, values never change after they are read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, defer_build=True
    )

    def as_slice(self) -> dict[str, Any]:
        """The settings that decide the result, as plain JSON values: all that can make work stale.

        It is how a rule hands them to its command; the others reach it as flags.
        """
        return self.model_dump(mode="json", exclude=_undecisive(type(self)))


def _undecisive(section: type[Section]) -> set[str]:
    extras = {name: field.json_schema_extra for name, field in section.model_fields.items()}
    return {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get(STALES) is False}


def setting(default: Any, sentence: str, unit: str = "", stales: bool = True, **limits: Any) -> Any:
    """A setting with its default, its sentence and its unit; all three reach the documentation.

    `stales=False` marks what changes only how the same result is made, and so makes nothing stale.

    `setting(..., "The learning rate.")` (a literal Ellipsis) makes it required. A mutable default
    is copied for each section, as pydantic does.
    """
    extra: dict[str, Any] = ({"unit": unit} if unit else {}) | ({} if stales else {STALES: False})
    return Field(default, description=sentence, json_schema_extra=extra or None, **limits)
