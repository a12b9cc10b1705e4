"""The result of a search: the non-dominated evaluated plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from rich.table import Table

from autocomp.hardware_models import LatencyErrors
from autocomp.problem.arguments import RULES, check
from autocomp.problem.budget import ACCURACY, Budget, objectives
from autocomp.problem.metrics import METRICS
from autocomp.problem.pareto import hypervolume, knee, on_front
from autocomp.problem.record import Record
from autocomp.rules import checked
from autocomp.search_spaces import RESOLUTION, Plan

from . import front_table
from .details import FrontDetails
from .estimates import estimated_on_part, expected, least_accuracy, not_shown
from .front_table import LINES, render
from .html_table import table_html
from .layers import LayerTables
from .point import Deployer, ExportReport, Point
from .prediction import Prediction, Resolver, StoredResolver
from .stored import read, save, write_text
from .timed import Timed
from .wording import short

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["Deployer", "ExportReport", "ParetoSet", "Point", "Prediction", "Resolver", "short"]


class ParetoSet(Sequence[Point]):
    """The feasible plans that are non-dominated in accuracy and the objectives, the most expensive first.

    A point's accuracy is what other samples of the same kind are expected to give: the observed change against the
    float network, shrunk towards that of plans whose outputs differ as much (:mod:`autocomp.results.shrinkage`), since
    of many plans those that are chosen looked better than they are. ``point.observed`` is the accuracy on the samples
    themselves.

    With many samples these are plans that were measured on all of them; plans that were measured only on a part are in
    ``evaluated``. Where no plan meets the budget it has up to ten that come nearest to it, and ``notes`` says so.

    float_point: the float network, evaluated like every plan; it need not be on the front.
    evaluated: every evaluated plan, in order, without fine-tuning.
    tuned: points whose networks were fine-tuned, one for each plan; they can be on the front like others.
    joined: points at lower resolutions, found by searches of their own.
    reference: the reference point of ``hypervolume``, as (error, costs as shares of the float network's).
    settings: the settings of the search, shown in the report.
    resolver: solves for other budgets.
    chance: the accuracy without any knowledge of the inputs. Where the budget bounds no accuracy, points are shown that
        keep nine tenths of what the float network has above it, or half of its fidelity; a bound, if only
        ``accuracy>0%``, shows all. The others are in ``evaluated``.
    remarks: notes of the search; together with the front's own notes they are ``notes``.
    errors: of the device's predicted latencies, for bounds such as ``latency<5ms@90%``.
    details: see :class:`autocomp.results.details.FrontDetails`.
    layers: each point operator by operator; None where the network is not at hand and was not when the front was saved.
    timed: milliseconds that were measured of points; in the budget they count in place of the predicted ones.
    """

    def __init__(
        self,
        records: Iterable[Record],
        deployer: Deployer | None = None,
        *,
        device: str,
        budget: Budget | str | None = None,
        objectives: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        notes: Iterable[str] = (),
        errors: LatencyErrors | None = None,
        resolver: Resolver | None = None,
        chance: float | None = None,
        tuned: Iterable[tuple[Record, Deployer | None]] = (),
        joined: Iterable[tuple[Record, Deployer | None]] = (),
        layers: LayerTables | None = None,
        details: FrontDetails | None = None,
        timed: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.deployer, self.resolver, self.chance = deployer, resolver, chance
        self.device = device
        self.errors = errors
        self.settings = dict(settings or {})
        records = [record for record in records if math.isfinite(record.measurement.accuracy)]
        of_float = next((record for record in records if not record.plan), None)
        if of_float is None:
            raise ValueError(f"a front needs the float network's record, but none of {len(records)} has an empty plan")
        self.float_point = Point.of(of_float, deployer=deployer)
        self.budget, self.timed = self._bounds(budget), Timed(timed)
        self.objectives = _objectives(self.budget, objectives)
        self.reference = (1.0,) * (1 + len(self.objectives))
        self._observed = tuple(
            self.float_point if record is of_float else Point.of(record, self.float_point, deployer)
            for record in records
        )
        self._joined = tuple(Point.of(record, self.float_point, deployer) for record, deployer in joined)
        self.evaluated, self.joined = self._expected()
        self.tuned = tuple(
            replace(Point.of(record, self.float_point, deployer), tuned=True) for record, deployer in tuned
        )
        self.remarks = tuple(notes)
        self._layers, self._details = layers, details
        self._points = self._find()

    def _bounds(self, text: str | Budget | None) -> Budget:
        """As they are read for this front's device and metric."""
        own = self.float_point
        lower = own.metric if own.scale else ""
        return Budget.parse(text, lower).on(self.errors, self.device).scaled(own.scale)

    def _expected(self) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
        observed, count = (*self._observed, *self._joined), len(self._observed)
        found = expected(observed, self.float_point, lambda point: self._constraint_violation(self.budget, point))
        return found[:count], found[count:]

    def _find(self) -> tuple[Point, ...]:
        points = self._comparable
        kept = on_front(self._matrix(points), np.array([point.violation for point in points]))
        best = [point for point, keep in zip(points, kept, strict=True) if keep]
        self._nondominated = tuple(sorted(best, key=lambda point: (-point.value(self.objectives[0]), -point.accuracy)))
        shown = tuple(point for point in self._nondominated if point.accuracy >= self.min_accuracy)
        return self._nondominated if all(point.is_float for point in shown) else shown

    @cached_property
    def min_accuracy(self) -> float:
        """Of points that are shown, where the budget bounds no accuracy; where none of them keeps it, all are shown."""
        return 0.0 if self.budget.bounds_accuracy else least_accuracy(self.float_point, self.chance)

    @property
    def _comparable(self) -> Sequence[Point]:
        """The points that were measured on all samples.

        All points, where only the float network was measured on all samples, or where only plans that were measured on
        a part seem to meet the budget.
        """
        count = self.float_point.samples
        whole = [point for point in self._every if point.samples == count]
        found = [point for point in whole if not point.is_float]
        seems = any(point.feasible for point in self._every if point.samples != count)
        keeps = any(point.feasible for point in found)
        return whole if keeps or (found and not seems) else self._every

    @property
    def _every(self) -> tuple[Point, ...]:
        return (*self.evaluated, *self.tuned, *self.joined)

    def _matrix(self, points: Sequence[Point]) -> np.ndarray:
        """(n, 1 + objectives): error, and costs as shares of the float network's; all to be minimised."""
        rows = [[1 - point.accuracy, *(point.ratio(name) for name in self.objectives)] for point in points]
        return np.array(rows, np.float64).reshape(len(points), 1 + len(self.objectives))

    @overload
    def __getitem__(self, i: int) -> Point: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[Point, ...]: ...
    def __getitem__(self, i: int | slice) -> Point | tuple[Point, ...]:
        return self._points[i]

    def __len__(self) -> int:
        return len(self._points)

    @property
    def feasible(self) -> bool:
        """Whether the points meet the budget; either all do or none does."""
        return bool(self._points) and self._points[0].feasible

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the reader of the table."""
        remarks = (*estimated_on_part(self), *not_shown(self, self._nondominated), *self.remarks)
        if self.feasible:
            return remarks
        advice = self._advice(self.budget)
        return (f"no evaluated plan meets the budget {self.budget}: these come nearest{advice}", *remarks)

    def short_of_accuracy(self, bounds: Budget | None = None) -> list[Point]:
        """Evaluated plans that miss only the bound on the accuracy, by default of the budget.

        The most accurate comes first; none of them is fine-tuned: training may win the accuracy back.
        """
        bounds = self.budget if bounds is None else bounds
        costs = Budget(tuple(bound for bound in bounds.bounds if bound.metric != ACCURACY))
        missing = [
            point
            for point in self.evaluated
            if not point.is_float
            and self._constraint_violation(costs, point) <= 0 < self._constraint_violation(bounds, point)
        ]
        return sorted(missing, key=lambda point: -point.accuracy)

    def _advice(self, bounds: Budget) -> str:
        """For bounds that no plan meets: whether training may help."""
        missing = self.short_of_accuracy(bounds)
        if not missing or self.tuned:
            return ""
        lacks = f"{100 * self._constraint_violation(bounds, missing[0]):.2g} points"
        return (
            f"; the most accurate plan within the bounds on costs lacks {lacks} of accuracy, which fine-tuning may win "
            "back: point.fine_tune(train), or a search whose data have train"
        )

    @cached_property
    def limits(self) -> Budget:
        """The budget with absolute bounds only."""
        return self.budget.resolve(self.float_point.cost, self.float_point.accuracy)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The costs to show: the objectives, and always latency and size."""
        return tuple(dict.fromkeys((*self.objectives, "latency", "size")))

    @checked(RULES["hypervolume"])
    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """The share, 0 to 1, that the front dominates of the box from ``reference`` to no error and no cost.

        Points that are not shown for their accuracy count, too. 0 where no plan meets the budget.
        """
        counted = self._nondominated if self.feasible else ()
        return hypervolume(self._matrix(counted), np.array(reference or self.reference, np.float64))

    def pick(self, expression: str | Budget | None = None) -> Point:
        """The best point under bounds such as ``"accuracy>-1%"``; without bounds the knee of the front.

        With a bound on the accuracy it is the cheapest in the first objective, of equals the most accurate. With bounds
        on costs alone it is the most accurate, of equals the cheapest. Evaluated plans that are not on the front are
        used where no point of the front meets the bounds; that can happen with bounds on other costs than the
        objectives. ValueError where no plan meets them; it names the nearest.
        """
        check("pick", expression=expression)
        bounds = self._bounds(expression)
        if not bounds:
            return self.knee
        others = [point for point in self._every if point.feasible or not self.feasible]
        # Of a plan that is better in the estimate the error may be larger: with a confidence none dominates another.
        confident = any(bound.metric == ACCURACY and bound.confidence for bound in bounds.bounds)
        for candidates in (others,) if confident else (self._points, others):
            fitting = [point for point in candidates if self._constraint_violation(bounds, point) <= 0]
            if fitting:
                return min(fitting, key=lambda point: self._preference(bounds, point))
        nearest = min(others, key=lambda point: self._constraint_violation(bounds, point))
        metrics = tuple(dict.fromkeys((*bounds.metrics, *self.metrics)))
        among = f" within the budget {self.budget}" if self.budget and self.feasible else ""
        raise ValueError(
            f"no evaluated plan{among} meets {bounds}; the nearest is {nearest.summary(metrics)}{self._advice(bounds)}"
        )

    @cached_property
    def knee(self) -> Point:
        """The point farthest from the chord between the ends of the front (see ``pareto.knee``).

        Where no plan meets the budget it is the one nearest to it.
        """
        if not self.feasible:
            return min(self._points, key=lambda point: self._constraint_violation(self.budget, point))
        return self._points[knee(self._matrix(self._points))]

    def _constraint_violation(self, bounds: Budget, point: Point) -> float:
        cost, of_float = self.timed.costs(point, self.float_point)
        return float(bounds.violation(cost, point.accuracy, of_float, self.float_point.accuracy, point.errors)[0])

    def _preference(self, bounds: Budget, point: Point) -> tuple[float, ...]:
        costs = [point.value(name) for name in self.objectives]
        if bounds.bounds_accuracy:
            return (costs[0], -point.accuracy, *costs[1:])
        return (-point.accuracy, *costs)

    @overload
    def resolve(self, budget: str | Budget, evaluate: Literal[False] = False) -> Prediction: ...
    @overload
    def resolve(self, budget: str | Budget, evaluate: Literal[True]) -> Point: ...
    def resolve(self, budget: str | Budget, evaluate: bool = False) -> Prediction | Point:
        """The best predicted plan for another budget, from the search's scores and evaluations.

        With a bound on the accuracy it is the cheapest in the first objective, else the most accurate, as with
        :meth:`pick`, which chooses only among evaluated plans. This is a prediction: ``evaluate=True`` evaluates it and
        returns a point, see :meth:`evaluate`.

        ValueError without bounds, or where the front was loaded without its network or saved without scores.
        BudgetError where no plan is predicted to meet the budget; it names the nearest.
        """
        check("resolve", budget=budget, evaluate=evaluate)
        bounds = self._bounds(budget)
        if not bounds:
            raise ValueError("resolve needs a budget with at least one bound, as in 'latency<3ms'")
        found = self._resolver().solve(bounds, self.objectives[0], self.evaluated)
        return self.evaluate(found.plan) if evaluate else found

    def evaluate(self, plan: Plan | Prediction) -> Point:
        """Evaluate a plan on all samples of the search. It is in ``evaluated`` afterwards, and on the front if no point
        there dominates it."""
        check("evaluate", plan=plan)
        wanted = plan.plan if isinstance(plan, Prediction) else plan
        for point in (*self.evaluated, *self.joined):
            if point.plan == wanted and point.samples == self.float_point.samples:
                return point
        if RESOLUTION in wanted:
            raise ValueError(f"evaluate takes plans at the network's own resolution, or of joined, but got {wanted}")
        point = Point.of(self._resolver().evaluate(wanted), self.float_point, self.deployer)
        point = replace(point, violation=self._constraint_violation(self.budget, point))
        self._observed = (*(other for other in self._observed if other.plan != wanted), point)
        self.evaluated, self.joined = self._expected()
        self._renew()
        return next(point for point in self.evaluated if point.plan == wanted)

    def add(self, point: Point) -> None:
        """Add a fine-tuned point (:meth:`Point.fine_tune`); it is on the front if no point there dominates it.

        It replaces another point of the same plan. ValueError for a point that was not fine-tuned, or was measured with
        another metric or on other samples than the front's.
        """
        check("add", point=point)
        if not point.tuned:
            raise ValueError(f"add takes a fine-tuned point, evaluate(plan) any plan, but got {point.summary()}")
        own = self.float_point
        if (point.metric, point.samples) != (own.metric, own.samples):
            raise ValueError(
                f"a point of this front has {own.metric} on {own.samples} samples, "
                f"but got {point.metric} on {point.samples}"
            )
        added = replace(point, reference=own, violation=self._constraint_violation(self.budget, point))
        self.tuned = (*(other for other in self.tuned if other.plan != point.plan), added)
        self._renew()

    def join(self, records: Iterable[tuple[Record, Deployer]]) -> None:
        """Add plans at lower resolutions, measured on the front's samples and compared with its float network."""
        self._joined += tuple(self._judged(Point.of(record, self.float_point, one) for record, one in records))
        self.evaluated, self.joined = self._expected()
        self._renew()

    def take_latency(self, measured: Point, own_ms: float, float_ms: float) -> None:
        """Milliseconds of a point's file and of the float network's, which ran in turns on the device: from now on
        they, and not the predicted ones, say whether points meet the budget."""
        self.timed.add(measured, own_ms, float_ms)
        self.float_point.measured["latency_ms"] = self.timed.float_ms
        for point in self._every:
            if point.plan == measured.plan:
                point.measured["latency_ms"] = own_ms
        self._observed, self._joined, self.tuned = map(self._judged, (self._observed, self._joined, self.tuned))
        self.evaluated, self.joined = self._expected()
        self._renew()

    def _judged(self, points: Iterable[Point]) -> tuple[Point, ...]:
        return tuple(replace(point, violation=self._constraint_violation(self.budget, point)) for point in points)

    def _renew(self) -> None:
        self._points = self._find()
        self.__dict__.pop("knee", None)

    def _resolver(self) -> Resolver:
        if self.resolver is None:
            raise ValueError("another budget needs the scores of the search, but this front has none")
        return self.resolver

    @checked(RULES["table"])
    def table(self, rows: int | None = None) -> Table:
        """A rich Table: the float network, then ``rows`` points (by default at most 20); a line says how many are not
        shown."""
        return front_table.table(self, LINES if rows is None else rows)

    def __str__(self) -> str:
        return render(self.table())

    def __repr__(self) -> str:
        return f"<ParetoSet of {len(self)} points from {len(self.evaluated)} evaluations on {self.device}>"

    @property
    def layers(self) -> LayerTables | None:
        plans = [one.plan for one in (self.float_point, *self, *self.tuned) if RESOLUTION not in one.plan]
        known = self._layers is not None and all(plan in self._layers for plan in plans)
        if self.deployer is not None and not known:
            self._layers = self.deployer.layers(plans) or self._layers
        return self._layers

    @property
    def details(self) -> FrontDetails | None:
        """Uniform plans, which are evaluated for it, tensors, and where the knee loses its accuracy; None where neither
        the network is at hand nor was when the front was saved."""
        shown = self.float_point if RESOLUTION in self.knee.plan else self.knee
        if self.deployer is not None and not (self._details and self._details.fits(shown)):
            scores = None if self.resolver is None else self.resolver.stored().get("scores")
            found = self.deployer.details(scores, self.evaluated, shown)
            self._details = self._details if found is None else found.completed(self._details)
        return self._details

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        return table_html(self)

    def plot(self) -> Figure:
        """A plotly Figure: accuracy over each objective."""
        from .plots import figure  # loads plotly

        return figure(self)

    @checked(RULES["report"])
    def report(self, path: str | Path) -> Path:
        """Write one HTML file that needs no other file."""
        from .report import html  # loads plotly

        return write_text(Path(path), html(self))

    def save(self, folder: str | Path) -> Path:
        """Write ``front.json`` and what stands beside it for :meth:`load`, the deployer's files and ``report.html``."""
        check("save", folder=folder)
        save(self, Path(folder))
        self.report(Path(folder) / "report.html")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, deployer: Deployer | None = None, resolver: Resolver | None = None) -> ParetoSet:
        """Read a front that :meth:`save` wrote; points need a deployer for ``net`` and ``export`` only."""
        check("save", folder=folder)
        saved = read(Path(folder))
        if resolver is None and saved.resolver is not None:
            resolver = StoredResolver(saved.resolver)
        front = cls(
            saved.records,
            deployer,
            device=saved.device,
            budget=saved.budget,
            objectives=saved.objectives,
            settings=saved.settings,
            notes=saved.notes,
            errors=saved.errors,
            resolver=resolver,
            chance=saved.chance,
            tuned=[(record, deployer and deployer.restored(Path(folder), record.plan)) for record in saved.tuned],
            joined=[(record, deployer and deployer.of(record.plan)) for record in saved.joined],
            timed=saved.timed,
            layers=LayerTables.read(Path(folder)),
            details=FrontDetails.read(Path(folder)),
        )
        saved.tell(front)
        return front


def _objectives(budget: Budget, given: Sequence[str] | None) -> tuple[str, ...]:
    chosen = tuple(objectives(budget) if given is None else given)
    if not chosen or not set(chosen) <= set(METRICS):
        raise ValueError(f"objectives must be at least one of {', '.join(METRICS)}, but got {given}")
    return chosen
