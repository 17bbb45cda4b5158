"""Series: backbones on a path of post-training, for which one entry of a study stands.

A series has a start, such as the base that a run began from, and places on an axis: steps, or the alpha of a
merge. Its backbones are added to those of the study, and so are its pairs: its start with each of them, and
neighbours along the path.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from realign.study.backbones import Merge
from realign.study.base import Section, setting
from realign.study.kinds import Kind, is_control
from realign.study.pairs import Difference, Pair
from realign.study.sources import SOURCES, Backbone

MAX_NAME = 48  # characters, as of all names


class SeriesEntry(Section):
    """A series as figures need it."""

    name: str = setting(..., "The backbone that stands for it.")
    axis: Literal["step", "alpha"] = setting(..., "What its places are.")
    kind: Kind = setting(..., "What lies between its start and the others.")
    start: str = setting(..., "The backbone that the others are compared with.")
    places: tuple[tuple[str, float], ...] = setting((), "Its backbones and their places, in their order.")


@dataclass(frozen=True)
class Series:
    """A series as the study states it."""

    name: str
    backbone: Backbone
    others: dict[str, Backbone]
    start: str
    kind: Kind
    allow: tuple[Difference, ...]
    places: tuple[tuple[str, float], ...]

    @property
    def entry(self) -> SeriesEntry:
        """What figures need of it."""
        axis = _axis(self.backbone)
        return SeriesEntry(name=self.name, axis=axis, kind=self.kind, start=self.start, places=self.places)

    def pairs(self, there: Sequence[Pair]) -> Iterator[Pair]:
        """The pairs along the path that the study does not list, in either order."""
        known = {frozenset((pair.left, pair.right)) for pair in there}
        names = [name for name, _ in self.places]
        if max(map(len, names)) > MAX_NAME:
            return  # which is a problem of the study, and no pair could name such a backbone
        embedded = {"none": [], "ends": [self.name], "all": names}[self.backbone.embed]
        along = [
            *((self.start, name, "start") for name in names if name != self.start),
            *((left, right, "step") for left, right in pairwise(names)),
        ]
        for left, right, path in along:
            if frozenset((left, right)) not in known:
                known.add(frozenset((left, right)))
                embed = path == "start" and right in embedded
                yield Pair(left=left, right=right, kind=self.kind, allow=self.allow, embed=embed, path=path)  # type: ignore[arg-type]  # one of the words above


def series_of(backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> list[Series]:
    """Every series of a study, whether or not its backbones and pairs have been added already."""
    found = []
    for name, backbone in backbones.items():
        if not (others := backbone.others):
            continue
        named = {_member(name, backbone, place): (place, other) for place, other in others.items()}
        places = [(other, float(place)) for other, (place, _) in named.items()]
        places.append((name, float(backbone.place or 0)))
        own = [p for p in pairs if p.right == name and not p.path and not is_control(p.kind)]
        starts = [s for s in (*(pair.left for pair in own), *backbone.parents) if s not in {*named, name}]
        if isinstance(backbone.given, Merge):  # on the axis stand only its own ends
            ends = backbone.parents[: 1 if backbone.given.method == "arithmetic" else 2]
            starts = [start for start in starts if start in ends]
            places += [(start, float(ends.index(start))) for start in starts[:1]]
        else:
            places += [(start, 0.0) for start in starts[:1]]
        places.sort(key=lambda at: at[1])
        kind = own[0].kind if own else SOURCES[backbone.source].kind or "other"
        found.append(
            Series(
                name=name,
                backbone=backbone,
                others={n: other for n, (_, other) in named.items()},
                start=starts[0] if starts else places[0][0],
                kind=kind,
                allow=own[0].allow if own else (),
                places=tuple(places),
            )
        )
    return found


def _member(name: str, backbone: Backbone, place: float) -> str:
    """What a backbone of a series is called: a step in full, an alpha to six digits."""
    return f"{name}-{_axis(backbone)}{place if isinstance(place, int) else format(place, 'g')}"


def _axis(backbone: Backbone) -> Literal["step", "alpha"]:
    return "alpha" if isinstance(backbone.given, Merge) else "step"


def series_problems(backbones: Mapping[str, Backbone], pairs: Sequence[Pair]) -> Iterator[str]:
    """Names that a series needs for its backbones and cannot have."""
    for series in series_of(backbones, pairs):
        if len(series.others) < len(series.backbone.others):
            yield f"backbones.{series.name}: two of its alphas are equal to six digits; leave one of them out"
        for name, backbone in series.others.items():
            if len(name) > MAX_NAME:
                yield (
                    f"backbones.{series.name}: the name '{name}' on its path has more than {MAX_NAME} "
                    "characters; give the backbone a shorter name"
                )
            if backbones.get(name, backbone) != backbone:
                yield (
                    f"backbones.{name}: '{series.name}' has a backbone of this name on its path; give one of "
                    "them another name"
                )
