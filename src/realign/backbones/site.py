"""Where one process of a derivation works: its settings, its inputs, its place among all processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from realign.artifacts.command import UserError
from realign.engine.distributed import World
from realign.engine.signals import Leaving
from realign.study.backbones import Derivation, TuningHardware

S = TypeVar("S", bound=Derivation)


@dataclass
class Site(Generic[S]):
    """Where one process of a derivation works: settings, inputs, its place among all processes."""

    settings: S
    inputs: Mapping[str, Path]
    out: Path
    scratch: Path
    world: World
    leaving: Leaving
    trail: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def hardware(self) -> TuningHardware:
        """How it is to be computed."""
        return self.settings.hardware

    def split(self, count: int, what: str) -> slice:
        """This process's part of a step; parts are equal, so that all processes go in step."""
        if count % self.world.size:
            raise UserError(f"{what}: {count} is not divisible among {self.world.size} processes")
        return self.world.share(count)

    def once(self, name: str, write: Callable[[Path], None]) -> Path:
        """A folder in scratch that the main process fills and all processes then read."""
        place = self.scratch / name
        if self.world.is_main and not place.exists():
            beside = self.scratch / f".{name}"
            write(beside)
            beside.rename(place)
        self.world.wait()
        return place
