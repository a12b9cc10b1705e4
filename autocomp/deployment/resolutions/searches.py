"""Searches at lower resolutions, joined to the front of the network's own; stored with it and read again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autocomp.deployment.deploy import NetworkDeployer, TunedDeployer
from autocomp.deployment.tuned_files import TrainedWeights
from autocomp.deployment.tuning import Tuner
from autocomp.errors import AutocompError
from autocomp.primitives.tracing.mindir import first_line
from autocomp.problem.budget import ACCURACY
from autocomp.problem.metrics import shown
from autocomp.problem.record import Record
from autocomp.process.deadline import Deadline
from autocomp.results.front import ParetoSet, Point
from autocomp.search_spaces import Plan
from autocomp.study.study import INTERRUPTED

from .deployer import ScaledDeployer
from .networks import ScaledNetwork, scaled_network, with_weights
from .plans import KIND, LowerResolution

log = logging.getLogger("autocomp")

WEIGHTS = "scaled.npz"
Searched = Callable[[ScaledNetwork, Deadline], ParetoSet]


@dataclass(frozen=True)
class ResolutionSearch:
    """What was found at one resolution.

    front: of the network behind scaled images, which knows nothing of the network's own resolution. whole: the
    deployer of the network itself.
    """

    scaled: ScaledNetwork
    front: ParetoSet
    whole: NetworkDeployer

    @property
    def deployer(self) -> ScaledDeployer:
        assert isinstance(self.front.deployer, NetworkDeployer)
        return ScaledDeployer(self.scaled.lower, self.front.deployer, self.whole)

    def takes(self, plan: Plan) -> bool:
        return LowerResolution.of(plan) == self.scaled.lower

    def write(self, folder: Path) -> None:
        own = folder / self.scaled.lower.folder
        self.front.save(own)
        self.scaled.weights.write(own / WEIGHTS)

    def join(self, front: ParetoSet) -> None:
        """Add the points to the front of the network itself: measured anew, beside the float network."""
        untrained: list[tuple[Record, ScaledDeployer]] = []
        for point in dict.fromkeys((*self.front, *self.front.tuned)):
            inner = point.deployer if isinstance(point.deployer, TunedDeployer) else self.front.deployer
            assert isinstance(inner, (NetworkDeployer, TunedDeployer))
            deployer = ScaledDeployer(self.scaled.lower, inner, self.whole)
            plan = self.scaled.lower.told(point.plan)
            found = deployer.measured(plan, self.whole.evaluator)
            if point.tuned:
                found = replace(found, fidelity=point.fidelity, seed=point.seed)
                added = Point.of(Record(plan, (), found, point.cost, 0.0), front.float_point, deployer)
                front.add(replace(added, tuned=True))
            else:
                untrained.append((Record(plan, (), found, point.cost, 0.0), deployer))
        front.join(untrained)


def add_resolutions(
    front: ParetoSet,
    whole: NetworkDeployer,
    ratios: Sequence[float],
    searched: Searched,
    tuner: Tuner | None,
    folder: Path | None,
    deadline: Deadline,
) -> None:
    """:func:`add_resolution` for each ratio, in an equal part of the time that is left. Ctrl-C ends it."""
    for i, ratio in enumerate(ratios):
        own = deadline.part(1 / (len(ratios) - i))
        if own.passed:
            front.remarks += (f"resolution {ratio:g} was not searched: the time limit was reached",)
            continue
        try:
            found = add_resolution(front, whole, ratio, searched, tuner, folder, own)
        except KeyboardInterrupt:
            front.remarks += (f"resolution {ratio:g} was not searched: interrupted",)
            return
        if found is not None and found.front.settings["stopped"] == INTERRUPTED:
            return


def add_resolution(
    front: ParetoSet,
    whole: NetworkDeployer,
    ratio: float,
    searched: Searched,
    tuner: Tuner | None = None,
    folder: Path | None = None,
    deadline: Deadline | None = None,
) -> ResolutionSearch | None:
    """Search at a share of the images' sides, and add what is found to the front, which says so in a remark; None where
    there is nothing to find. What fails there loses nothing that the front has.

    searched: searches the network that it gets, within the front's budget. tuner: trains the network before; None: it
    is not trained. folder: see :func:`scaled_network`.
    """
    deadline = deadline or Deadline()
    try:
        scaled = scaled_network(whole, ratio, tuner, folder, deadline)
        sides = f"{scaled.sides[0]} x {scaled.sides[1]} pixels"
        known, least = scaled.measurement, _least_accuracy(front)
        reached = f"the float network has {known.metric} {shown(known.accuracy, known.scale)} at {sides}"
        if known.accuracy < least:
            needed = shown(least, known.scale)
            front.remarks += (f"resolution {ratio:g} was not searched: {reached}, and {needed} is needed",)
            return None
        log.info("searching at %s: %s", sides, reached)
        found = ResolutionSearch(scaled, searched(scaled, deadline), whole)
        whole.lower.append(found)  # before its points: where joining is interrupted, those there are can be loaded
        found.join(front)
    except Exception as error:  # of the user's data or of MindSpore: it must not lose the search's results
        said = first_line(error)
        log.warning("at a lower resolution: %s", said, exc_info=not isinstance(error, AutocompError))
        front.remarks += (f"resolution {ratio:g} was not searched: {said}",)
        return None
    count = sum(found.takes(point.plan) for point in front)
    front.remarks += (f"resolution {ratio:g}: {reached}; {count} of the {len(front)} points are at this resolution",)
    return found


def _least_accuracy(front: ParetoSet) -> float:
    """What points of the front have at least."""
    bounds = [bound for bound in front.limits.bounds if bound.metric == ACCURACY]
    return max((front.min_accuracy, *(bound.value for bound in bounds)))


def restored(folder: Path, whole: NetworkDeployer, load: Callable[[Any, Path], ParetoSet]) -> list[ResolutionSearch]:
    """What :meth:`ResolutionSearch.write` wrote into the folder of a front.

    load: reads the front in a folder for a network.
    """
    found = []
    for path in sorted(folder.glob(f"{KIND}-*/{WEIGHTS}")):
        scaled = with_weights(whole.float_net, whole.samples, TrainedWeights.read(path))
        found.append(ResolutionSearch(scaled, load(scaled.net, path.parent), whole))
    return found
