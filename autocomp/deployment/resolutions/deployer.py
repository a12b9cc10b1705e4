"""Applies plans to the network behind images that it scales down."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from autocomp.deployment.checkpoints.tensor_names import Names
from autocomp.deployment.deploy import NetworkDeployer, TunedDeployer, export_weights
from autocomp.deployment.weights_file import holds_weights
from autocomp.evaluators import Measurement, PlanEvaluator
from autocomp.evaluators.fine_tuning import FineTuning, Progress, outputs_of
from autocomp.results.details import FrontDetails
from autocomp.results.front import Deployer, ExportReport, Point
from autocomp.results.layers import LayerTables
from autocomp.search_spaces import Plan

from .plans import LowerResolution


class ScaledDeployer:
    """A :class:`autocomp.results.front.Deployer` of plans at one resolution, which are measured as those of the network
    itself are.

    inner: of the network behind scaled images. whole: of the network itself.
    """

    def __init__(self, lower: LowerResolution, inner: NetworkDeployer | TunedDeployer, whole: NetworkDeployer) -> None:
        self.lower, self.inner, self.whole = lower, inner, whole

    def net(self, plan: Plan) -> Any:
        return self.inner.net(self.lower.own(plan))

    def export(
        self,
        plan: Plan,
        path: str | os.PathLike[str],
        form: str | None = None,
        check_accuracy: bool = True,
        names: Names | None = None,
    ) -> ExportReport:
        own = self.lower.own(plan)
        if form is None and holds_weights(path):
            kept, whole = None, dict[str, str]()
            if isinstance(self.inner, NetworkDeployer):
                evaluator = self.inner.evaluator
                kept, whole = evaluator.compress(own).kept, dict(evaluator.space.graph.whole)
            given = self.whole.float_net, (plan, kept), self.whole.samples
            return export_weights(self.inner.net(own), *given, path, whole)
        return self.inner.export(own, path, form, check_accuracy, names)

    def fine_tune(
        self, plan: Plan, train: Any, settings: FineTuning, progress: Progress | None = None
    ) -> tuple[Deployer, Measurement]:
        tuned, found = self.inner.fine_tune(self.lower.own(plan), train, settings, progress)
        assert isinstance(tuned, TunedDeployer)
        trained = ScaledDeployer(self.lower, tuned, self.whole)
        return trained, trained.measured(plan, self.whole.evaluator, found)

    def measure(self, plan: Plan, data: Any) -> tuple[Measurement, Measurement]:
        evaluator = self.whole.on(data)
        return self.measured(plan, evaluator), evaluator.evaluate(Plan())

    def measured(self, plan: Plan, evaluator: PlanEvaluator, known: Measurement | None = None) -> Measurement:
        """The plan's network on the evaluator's samples, compared with the float network at its own resolution.

        known: its measurement beside the float network at this resolution, which says how it was trained.
        """
        started = time.perf_counter()
        if isinstance(self.inner, TunedDeployer):
            outputs = outputs_of(self.inner.tuned, evaluator)
        else:
            own = self.inner.evaluator
            run = partial(own.engine.outputs, own.compress(self.lower.own(plan)))
            outputs = evaluator.reduced(run, evaluator.inputs)
        found = evaluator.measurement(outputs, started)
        return found if known is None else replace(found, fidelity=known.fidelity, seed=known.seed)

    def layers(self, plans: Iterable[Plan]) -> LayerTables | None:
        return None  # its operators are not those of the front's network

    def cache_bits(self, plan: Plan) -> tuple[int | None, ...]:
        return self.inner.cache_bits(self.lower.own(plan))

    def details(self, scores: str | None, evaluated: Sequence[Point], shown: Point) -> FrontDetails | None:
        return None

    def store(self, folder: Path, plans: Iterable[Plan]) -> None:
        """Of a trained plan its weights; the network itself is stored with the front."""
        if isinstance(self.inner, TunedDeployer):
            self.inner.store(folder / self.lower.folder, [self.lower.own(plan) for plan in plans])

    def of(self, plan: Plan) -> Deployer:
        return self

    def restored(self, folder: Path, plan: Plan) -> Deployer:
        """Of a plan that was trained at this resolution."""
        own = self.lower.own(plan)
        assert isinstance(self.inner, NetworkDeployer)
        trained = self.inner.restored(folder / self.lower.folder, own)
        return ScaledDeployer(self.lower, trained, self.whole)  # type: ignore[arg-type]
