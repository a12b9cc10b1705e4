"""Plans at a lower resolution: of the network behind scaled images, and as they are told of the network itself."""

from __future__ import annotations

from dataclasses import dataclass

from autocomp.rules import is_number
from autocomp.search_spaces import RESOLUTION, Plan, lower_resolution

KIND = RESOLUTION.partition("/")[0]
CELL = "network."  # the user's network in that behind scaled images, see autocomp.primitives.Resolution


@dataclass(frozen=True)
class LowerResolution:
    """ratio: share of the height and width of the images.

    >>> lower = LowerResolution(0.75)
    >>> lower.told(Plan({"format/network.conv1": "w8a8"}))
    Plan({'format/conv1': 'w8a8', 'resolution/images': 0.75})
    >>> lower.own(lower.told(Plan({"format/network.conv1": "w8a8"})))
    Plan({'format/network.conv1': 'w8a8'})
    """

    ratio: float

    @classmethod
    def of(cls, plan: Plan) -> LowerResolution | None:
        """That of a plan; None where it has the network's own. ValueError for a ratio that is none."""
        ratio = lower_resolution(plan)
        if ratio is None:
            return None
        if not is_number(ratio) or not 0 < float(ratio) < 1:
            raise ValueError(f"the plan's {RESOLUTION} must be a share above 0 and below 1, but got {ratio!r}")
        return cls(float(ratio))

    @property
    def folder(self) -> str:
        """In the folder of a front, or behind the name of a storage."""
        return f"{KIND}-{self.ratio:g}"

    def told(self, plan: Plan) -> Plan:
        """A plan of the network behind scaled images, with the names that the network itself has."""
        return Plan({_renamed(name, "", CELL): value for name, value in plan.items()} | {RESOLUTION: self.ratio})

    def own(self, plan: Plan) -> Plan:
        """A told plan with the names of the network behind scaled images."""
        return Plan({_renamed(name, CELL, ""): value for name, value in plan.items() if name != RESOLUTION})


def _renamed(name: str, put: str, cut: str) -> str:
    kind, _, place = name.partition("/")
    return f"{kind}/{put}{place.removeprefix(cut)}"
