"""One evaluated plan: its accuracy, its costs, and the way to its network."""

from __future__ import annotations

import html as markup
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from autocomp.evaluators import Measurement
from autocomp.evaluators.fine_tuning import FineTuning, Progress
from autocomp.hardware_models import Cost
from autocomp.problem.arguments import RULES, check
from autocomp.problem.budget import Errors
from autocomp.problem.metrics import METRICS, shown, shown_change, shown_width
from autocomp.problem.record import Record
from autocomp.process.training_bar import training_bar
from autocomp.rules import checked
from autocomp.search_spaces import Format, Plan, Value, split_value

from .details import FrontDetails
from .layers import LayerTables
from .wording import share, short

log = logging.getLogger("autocomp")

DEPLOYABLE = "deployable"
CHECKPOINTS = ("compressed-tensors", "ascend-v1")  # forms that are folders
FILE_ACCURACY = 0.002  # most that a file's accuracy may differ from the reported one: two right runtimes round apart
INTERVAL = 1.96  # standard errors on each side of a 95 % interval
NO_SAMPLES = "evaluating a plan needs the data of the search: use autocomp.load(folder, net, data)"


@dataclass(frozen=True)
class ExportReport:
    """A file that was written, loaded again and compared.

    format: ``"mindir"``, ``"onnx"`` or ``"safetensors"``.
    size_mb: of the file.
    max_relative_error: of the outputs of the loaded file, compared with those of the network in memory.
    latency_ms: measured on the device, where the device is present.
    predicted_mb: the size predicted for a file of this form, where the device is known.
    of_cost: whether ``point.cost`` is predicted for files of this form.
    form: "deployable", which the device's runtime takes; "qat", which ``amct_onnx.convert_qat_model`` converts;
        "simulated", with rounding in operators that every computer runs, and no integer kernel; empty where no layer is
        in integers; "compressed-tensors" or "ascend-v1" for a checkpoint folder, of which the weights are compared.
    commands: what to run in a shell to bring the file onto the device.
    accuracy: of the file, 0 to 1, on ``samples`` samples with labels; None where it was not measured.
    scale: as in :class:`Point`.
    """

    path: Path
    format: str
    size_mb: float
    max_relative_error: float
    latency_ms: float | None = None
    predicted_mb: float | None = None
    of_cost: bool = True
    form: str = ""
    commands: tuple[str, ...] = ()
    accuracy: float | None = None
    samples: int = 0
    scale: float = 0.0

    @property
    def kind(self) -> str:
        """The name of the file among those of a point: its format, and its form where that is not the runtime's."""
        return (
            self.format if self.form in ("", DEPLOYABLE) or self.format == "mindir" else f"{self.format}, {self.form}"
        )

    def __str__(self) -> str:
        latency = "" if self.latency_ms is None else f", {METRICS['latency'].format(self.latency_ms)} measured"
        size = METRICS["size"].format(self.size_mb)
        if self.predicted_mb is not None:
            size += f" ({METRICS['size'].format(self.predicted_mb)} predicted)"
        latency += "" if self.accuracy is None else f", accuracy {shown(self.accuracy, self.scale)} measured"
        form = f" ({self.form})" * bool(self.form)
        text = f"{self.path}: {self.format}{form}, {size}{latency}, outputs agree to {self.max_relative_error:.1e}"
        return "\n".join([text, *(f"  {line}" for line in self.commands)])


class Deployer(Protocol):
    """Applies a plan to the network.

    >>> deployer.net(plan)                       # a Cell: pruned channels removed, weights in int8
    >>> deployer.export(plan, "net.onnx")        # converts, writes, loads again, compares
    ExportReport(path=PosixPath('net.onnx'), format='onnx', size_mb=0.31, max_relative_error=2e-07, latency_ms=None)
    """

    def net(self, plan: Plan) -> Any: ...

    def export(
        self,
        plan: Plan,
        path: str | Path,
        form: str | None = None,
        check_accuracy: bool = True,
        names: Mapping[str, str] | Callable[[str], str] | None = None,
    ) -> ExportReport:
        """form, names: see :meth:`Point.export`. check_accuracy: whether the file's accuracy is measured, where there
        are samples with labels."""
        ...

    def fine_tune(
        self, plan: Plan, train: Any, settings: FineTuning, progress: Progress | None = None
    ) -> tuple[Deployer, Measurement]:
        """Train the plan's network; returns the trained network's deployer and its measurement."""
        ...

    def measure(self, plan: Plan, data: Any) -> tuple[Measurement, Measurement]:
        """The plan's network and the float network on other data."""
        ...

    def layers(self, plans: Iterable[Plan]) -> LayerTables | None:
        """The plans operator by operator; None where the device is not known."""
        ...

    def cache_bits(self, plan: Plan) -> tuple[int | None, ...]:
        """See :attr:`Point.cache_bits`."""
        ...

    def details(self, scores: str | None, evaluated: Sequence[Point], shown: Point) -> FrontDetails | None:
        """What a report shows beside the front. scores: as JSON. evaluated: points known. shown: whose losses are."""
        ...

    def store(self, folder: Path, plans: Iterable[Plan]) -> None:
        """Write into the folder what is needed to apply these plans later."""
        ...

    def of(self, plan: Plan) -> Deployer:
        """Who applies this plan: another deployer, where it is one at a lower resolution."""
        ...

    def restored(self, folder: Path, plan: Plan) -> Deployer:
        """The deployer of a fine-tuned plan, from the files that its deployer stored in the folder."""
        ...


@dataclass(frozen=True)
class Point:
    """A plan that was evaluated.

    accuracy: 0 to 1, of the metric ``accuracy``, or of ``fidelity`` to the float network where there were no labels.
        On a front it is what other samples of the same kind are expected to give, see :class:`ParetoSet`.
    observed: the accuracy on the samples of the search themselves.
    change_error, accuracy_error: standard errors of ``accuracy_change`` and of ``accuracy`` for other samples; None
        where they are not known.
    divergence: of the network's outputs from the float network's, see Measurement.
    samples, fidelity: the samples it was measured on, as a number and in words; seconds: duration of the measurement.
    cost: predicted.
    measured: measured costs, by their names in ``cost``; filled by :meth:`export` from files of the form that the costs
        are predicted for. ``accuracy`` is that of an ONNX file, which onnxruntime ran.
    files: what was written last in each form, by ``"mindir"``, ``"onnx"`` and ``"onnx, qat"``, with the size predicted
        for that form and the commands that bring the file onto the device.
    violation: of the budget, 0 or less where it holds.
    tuned: whether the network was fine-tuned.
    scale: of a metric where lower is better, the accuracy is 1 - score / scale; else 0.
    reference: the float network's point; None for itself.
    """

    plan: Plan
    accuracy: float
    metric: str
    cost: Cost = field(hash=False)
    violation: float = 0.0
    vector: tuple[int, ...] = ()
    samples: int = 0
    fidelity: str = ""
    seed: int = 0
    tuned: bool = False
    scale: float = 0.0
    observed: float | None = field(default=None, compare=False)
    change_error: float | None = field(default=None, compare=False)
    accuracy_error: float | None = field(default=None, compare=False)
    divergence: float | None = field(default=None, compare=False)
    seconds: float = field(default=0.0, compare=False)
    measured: dict[str, float] = field(default_factory=dict, compare=False)
    files: dict[str, ExportReport] = field(default_factory=dict, compare=False, repr=False)
    reference: Point | None = field(default=None, compare=False, repr=False)
    deployer: Deployer | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, record: Record, reference: Point | None = None, deployer: Deployer | None = None) -> Point:
        found = record.measurement
        return cls(
            plan=record.plan,
            cost=record.cost,
            violation=float(record.violation),
            vector=tuple(int(choice) for choice in record.vector),
            reference=reference,
            deployer=deployer,
            **_measured(found, record.plan),
        )

    @property
    def feasible(self) -> bool:
        return self.violation <= 0

    @property
    def is_float(self) -> bool:
        return not self.plan

    @property
    def name(self) -> str:
        """The plan in short, see :func:`short`, and whether it was fine-tuned."""
        return short(self.plan) + ", fine-tuned" * self.tuned

    @property
    def primitives(self) -> tuple[str, ...]:
        """Names of the primitives that carry out the plan, each once.

        >>> Point(Plan({"format/a": "w8a8", "format/b": "w4@lsq", "keep/a": "0.5@scop"}), ...).primitives
        ('rtn', 'lsq', 'scop')
        """
        return tuple(dict.fromkeys(carried_out_by_default(name, value) for name, value in self.plan.items()))

    @property
    def accuracy_change(self) -> float:
        """The difference to the float network's accuracy; -0.01 is one percentage point lost."""
        return 0.0 if self.reference is None else self.accuracy - self.reference.accuracy

    @property
    def change_interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of :attr:`accuracy_change`, paired over the samples; None where its error is not
        known."""
        if self.change_error is None:
            return None
        change, half = self.accuracy_change, INTERVAL * self.change_error
        return change - half, change + half

    @property
    def change(self) -> str:
        """:attr:`accuracy_change` in points, or in the metric's unit, with half its 95 % interval.

        >>> point.change
        '-0.4 ±0.3'
        """
        half = "" if not self.change_error else f" ±{shown_width(INTERVAL * self.change_error, self.scale)}"
        return shown_change(self.accuracy_change, self.scale) + half

    @property
    def errors(self) -> Errors:
        """For bounds on the accuracy with a confidence."""
        return Errors.of(self.change_error, self.accuracy_error)

    @property
    def score(self) -> float:
        """The metric's own value: the accuracy, or, where lower is better, what the user's function gave."""
        return self.scale * (1 - self.accuracy) if self.scale else self.accuracy

    @checked(RULES["value"])
    def value(self, metric: str) -> float:
        """The predicted cost in the unit of Cost; ``metric`` is its name in budgets."""
        return float(getattr(self.cost, METRICS[metric].attribute))

    @checked(RULES["value"])
    def ratio(self, metric: str) -> float:
        """The predicted cost as a share of the float network's; 1 where the float network's is 0."""
        whole = self.value(metric) if self.reference is None else self.reference.value(metric)
        return self.value(metric) / whole if whole > 0 else 1.0

    @cached_property
    def net(self) -> Any:
        """The network as a Cell of its own: pruned channels are removed, weights are integers."""
        return self.applied_by.net(self.plan)

    @property
    def cache_bits(self) -> tuple[int | None, ...]:
        """Of a language model: 8, 4 or None, floats, for the keys and for the values of each attention that is left,
        as the plan chooses them; empty where no token attends to earlier ones.

        >>> autocomp.export(IntegerCache(Decoder(point.net, context), point.cache_bits), "step.onnx", inputs)
        """
        return self.applied_by.cache_bits(self.plan)

    def export(
        self,
        path: str | Path,
        form: str | None = None,
        check_accuracy: bool = True,
        names: Mapping[str, str] | Callable[[str], str] | None = None,
    ) -> ExportReport:
        """Write the network to ``path`` (.mindir or .onnx), or its weights (.safetensors, which ``autocomp.rebuild``
        reads), load the file again and compare; ``files`` gets the report.

        form: None: the one that the device's runtime takes, where there is one for this ending. "qat": for
            ``amct_onnx.convert_qat_model``, on a device under atc. "simulated": with operators that any computer runs.
            "compressed-tensors" (vLLM) or "ascend-v1" (msModelSlim, vLLM Ascend): the path is a folder; dense layers in
            integers and the rest in float, under the network's own names.
        check_accuracy: whether onnxruntime also runs an ONNX file on all samples of the search, where these have
            labels; a difference of more than 0.2 points to the reported accuracy is a warning.
        names: of the tensors of a checkpoint folder, as a server's model expects them: regular expressions with their
            replacements, applied in order to the names of parameters, or a function of such a name.
        """
        check("export", path=path, form=form, check_accuracy=check_accuracy, names=names)
        if names is not None and form not in CHECKPOINTS:
            raise ValueError(f"names are of a checkpoint's tensors: give form='{CHECKPOINTS[0]}' or '{CHECKPOINTS[1]}'")
        given = () if names is None else (names,)
        report = self.applied_by.export(self.plan, path, form, check_accuracy, *given)
        self._take_accuracy(report)
        self.files[report.kind] = report
        if report.of_cost:
            self.measured["size_mb"] = report.size_mb
        if report.latency_ms is not None:
            self.measured["latency_ms"] = report.latency_ms
        return report

    def _take_accuracy(self, report: ExportReport) -> None:
        if report.accuracy is None:
            return
        self.measured["accuracy"] = report.accuracy
        observed = self.accuracy if self.observed is None else self.observed  # on the same samples, not as expected
        if report.samples == self.samples and abs(report.accuracy - observed) > FILE_ACCURACY:
            log.warning(
                "%s has the %s %s, but the plan was measured with %s on the same %d samples",
                *(report.path, self.metric, shown(report.accuracy, self.scale), shown(observed, self.scale)),
                self.samples,
            )

    def fine_tune(
        self,
        train: Any,
        epochs: int = 2,
        *,
        batch: int = 128,
        rate: float = 0.01,
        algorithm: str = "lsq",
        teacher: float = 0.7,
        seed: int = 0,
        progress: bool | None = None,
    ) -> Point:
        """The same plan with a network that was trained while rounded, and with the accuracy after training.

        The costs stay the same. The returned point can be exported; it is on no front until ``front.add``.

        Args:
            train: (x, y) arrays, y (n,) classes; or x alone: then the float network is the only teacher, as it also is
                for networks whose output is not scores of classes, or that have several outputs; or a batched
                ``mindspore.dataset.Dataset`` of both, which can augment.
            epochs: passes over ``train``. batch: samples in a step, for arrays. rate: learning rate at the start;
                Nesterov momentum 0.9; it falls to 0 along a cosine.
            algorithm: "lsq", "simqat" or "pact". teacher: share of the float network's outputs in the loss, 0 to 1.
            progress: whether a bar is shown; None shows it where standard error is a terminal.
        """
        check(
            "fine_tune", epochs=epochs, batch=batch, rate=rate, algorithm=algorithm, teacher=teacher, seed=seed,
            progress=progress,
        )  # fmt: skip
        settings = FineTuning(epochs, batch, rate, algorithm, teacher, seed)
        with training_bar(progress) as report:
            tuned = self.trained(*self.applied_by.fine_tune(self.plan, train, settings, report))
        if tuned.accuracy < self.accuracy:
            change = shown_change(tuned.accuracy - self.accuracy, self.scale)
            log.warning(
                "fine-tuning changed the %s by %s on %s: give it more samples, or a rate below %g",
                *(tuned.metric, change, tuned.fidelity, rate),
            )
        return tuned

    def trained(self, deployer: Deployer, found: Measurement) -> Point:
        """The same plan with a trained network: its deployer and its measurement."""
        return replace(self, tuned=True, measured={}, files={}, deployer=deployer, **_measured(found, self.plan))

    def evaluate(self, data: Any) -> Point:
        """The same network measured on other data, without an export.

        Its change is to the float network on these data, which is ``reference`` of the point that is returned. That
        point is on no front.

        Args:
            data: as for :func:`autocomp.search`; its evaluation samples are used. Without a metric and labels of its
                own the networks are compared as in the search.
        """
        found, of_float = self.applied_by.measure(self.plan, data)
        float_point = self if self.reference is None else self.reference
        reference = replace(float_point, reference=None, **_measured(of_float, Plan()))
        return reference if self.is_float else replace(self, reference=reference, **_measured(found, self.plan))

    def _repr_html_(self) -> str:
        """For a notebook."""
        return f"<p>{markup.escape(self.summary())}</p>"

    @checked(RULES["summary"])
    def summary(self, metrics: Sequence[str] = ("latency", "size")) -> str:
        """One line, and in it the cuts of channels that make it no faster on the device.

        >>> point.summary()
        'w8a8 x12, keep 0.5 x4: accuracy 91.2 % (-0.4 ±0.3), latency 2.31 ms (46 %); no faster for: keep 0.5 of head'"""
        accuracy = f"{self.metric} {shown(self.accuracy, self.scale)}"
        if self.reference is not None:
            accuracy += f" ({self.change})"
        costs = [f"{name} {METRICS[name].format(self.value(name))}{self._share(name)}" for name in metrics]
        unpaid = f"; no faster for: {', '.join(self.unpaid_cuts)}" if self.unpaid_cuts else ""
        return f"{self.name}: {', '.join([accuracy, *costs])}{unpaid}"

    @cached_property
    def unpaid_cuts(self) -> tuple[str, ...]:
        """Cuts of channels that make it no faster, ``"keep 0.9 of layer4"``; none where the network is not at hand."""
        known = self.deployer if any(name.startswith("keep/") for name in self.plan) else None
        tables = None if known is None else known.layers((self.plan,))
        return () if tables is None else tables.unpaid.get(self.plan.key, ())

    def _share(self, metric: str) -> str:
        return "" if self.reference is None else f" ({share(self.ratio(metric))})"

    @property
    def applied_by(self) -> Deployer:
        """The deployer; ValueError where there is none, as in a front that was loaded without its network."""
        if self.deployer is None:
            raise ValueError("a point needs its network to be applied: use autocomp.load(folder, net)")
        return self.deployer


def _measured(found: Measurement, plan: Plan) -> dict[str, Any]:
    """The fields of a point that a measurement gives; the float network's change is exactly 0."""
    return {
        "accuracy": float(found.accuracy),
        "observed": float(found.accuracy),
        "metric": found.metric,
        "samples": found.samples,
        "fidelity": found.fidelity,
        "seed": found.seed,
        "scale": getattr(found, "scale", 0.0),
        "change_error": getattr(found, "change_error", None) if plan else 0.0,
        "accuracy_error": getattr(found, "accuracy_error", None),
        "divergence": getattr(found, "divergence", None),
        "seconds": found.seconds,
    }


def carried_out_by_default(name: str, value: Value) -> str:
    """The primitive that a value names, or else the usual one of its knob's kind."""
    kind, (chosen, named) = name.partition("/")[0], split_value(value)
    if named or kind not in ("format", "keep"):
        return named or ("cache-quantization" if kind == "cache" else kind)
    if kind == "keep":
        return "channel-pruning"
    return "adaround" if Format.parse(str(chosen)).weight_bits < 8 else "rtn"
