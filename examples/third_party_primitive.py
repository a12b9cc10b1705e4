"""A primitive of one's own: channels are cut by the magnitude of the weights that make them.

A primitive says which knobs the search has. Knobs of kind ``keep`` cut channels, and autocomp knows how.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import autocomp
from autocomp.errors import NoEffectError
from autocomp.primitives import register
from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.quickstart import load_network, load_samples
from autocomp.search_spaces import ChannelGroup, Format, Knob, NetworkGraph, kept_units

Parameters = Mapping[str, np.ndarray]
RATIOS = (1.0, 0.75, 0.5, 0.25)  # the first leaves the network as it is


class L1Pruning:
    name = "l1-pruning"
    automatic = False  # its knobs stand in the place of channel-pruning's

    def knobs(
        self, graph: NetworkGraph, parameters: Parameters, formats: Sequence[Format], channel_divisor: int, moments: Any
    ) -> tuple[Knob, ...]:
        sums = magnitudes(graph, parameters)
        found = [self._knob(group, sums[group.start : group.stop], channel_divisor) for group in graph.channel_groups]
        if all(len(knob.values) == 1 for knob in found):
            raise NoEffectError(f"{self.name} found no channel group with more than {channel_divisor} channels")
        return tuple(knob for knob in found if len(knob.values) > 1)

    def _knob(self, group: ChannelGroup, sums: np.ndarray, divisor: int) -> Knob:
        """The shares of the group's units that are kept, and its units from the largest to the smallest."""
        counts = dict.fromkeys(kept_units(group.units, ratio, divisor) for ratio in RATIOS)
        values, order = tuple(count / group.units for count in counts), np.argsort(-sums, kind="stable")
        return Knob(f"keep/{group.name}", self.name, group.layers, values, group, order, divisor)


def magnitudes(graph: NetworkGraph, parameters: Parameters) -> np.ndarray:
    """(units,): of each unit the sum of the absolute weights that make its channels."""
    total = np.zeros(graph.unit_count)
    for node in (graph.nodes[position] for position in graph.layers.values()):
        weight, inside = np.abs(weight_of(node, parameters)), node.units >= 0
        np.add.at(total, node.units[inside], weight.reshape(len(weight), -1).sum(1)[inside])
    return total


def main(trials: int = 24, samples: int = 500) -> autocomp.ParetoSet:
    register(L1Pruning(), automatic=L1Pruning.automatic)
    data = autocomp.Data(load_samples("calibrate").take(128), load_samples("evaluate").take(samples))
    settings: dict[str, Any] = {
        "primitives": ("l1-pruning", "post-training"),
        "trials": trials,
        "inputs": (256, 1, 28, 28),
    }
    return autocomp.search(load_network(), "latency<75%", "ascend-310p3", data, **settings)


if __name__ == "__main__":
    print(main())
