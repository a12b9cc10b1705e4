"""How far a search is, as it writes it beside its evaluations while it runs, and as others read it there."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from autocomp.process.optuna_logging import quiet

from .failures import bare_reason
from .lease import KEY as DRIVER
from .lease import holder_of, lives
from .storages import opened

if TYPE_CHECKING:
    import optuna

KEY = "status"  # the study's attribute
EVERY_S = 2.0  # seconds between two writings
RECENT_S = 300.0  # seconds over which the rate is measured
MOST_REASONS = 5
SHOWN = ("trials", "done", "failed", "hypervolume", "rate")  # as Ray's metrics
PREFIX = "autocomp-"  # of the studies' names


@dataclass(frozen=True)
class Snapshot:
    """A search at one moment. rate: evaluations a minute, over the last minutes. left_s: seconds until its trials or
    its time limit are over. started, written: seconds since 1970. stopped: why it has ended, None while it runs."""

    trials: int
    done: int
    reused: int
    failed: int
    hypervolume: float
    best: str
    rate: float | None
    left_s: float | None
    batch: int
    started: float
    written: float
    stopped: str | None = None

    @classmethod
    def from_json(cls, text: str) -> Snapshot | None:
        try:
            found = json.loads(text)
            return cls(**{one.name: found[one.name] for one in fields(cls)})
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Rate:
    """Evaluations a minute, over the last five minutes."""

    def __init__(self) -> None:
        self._ends = deque([time.monotonic()])

    def add(self) -> None:
        now = time.monotonic()
        self._ends.append(now)
        while now - self._ends[0] > RECENT_S:
            self._ends.popleft()

    @property
    def per_minute(self) -> float | None:
        spent = time.monotonic() - self._ends[0]
        return 60 * (len(self._ends) - 1) / spent if len(self._ends) > 1 and spent > 0 else None


@dataclass(frozen=True)
class SearchStatus:
    """A stored search. state: running, ended, or stopped where its driver has gone without an end. driver: where it
    runs. stored, failed: evaluations in the storage. reasons: of failures, the most frequent first."""

    name: str
    state: str
    driver: str | None
    sign_of_life_s: float | None
    stored: int
    failed: int
    reasons: dict[str, int] = field(default_factory=dict)
    progress: Snapshot | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return "\n  ".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.name
        since = "" if self.sign_of_life_s is None else f", last sign of life {self.sign_of_life_s:.0f} s ago"
        yield f"{self.state}{f' in {self.driver}{since}' if self.driver else ''}"
        if (found := self.progress) is not None:
            rate = "" if found.rate is None else f", {found.rate:.1f} a minute"
            left = "" if found.left_s is None or found.stopped else f", {_duration(found.left_s)} left"
            yield f"{found.done} of {found.trials} evaluations ({found.reused} of them from the storage){rate}{left}"
            yield f"hypervolume {found.hypervolume:.4f}, {found.best}"
            if found.stopped:
                yield f"ended by {found.stopped}"
        yield f"{self.stored} evaluations stored, {self.failed} failed"
        for reason, number in self.reasons.items():
            yield f"failed {number} times: {reason}"


def searches(storage: str) -> list[SearchStatus]:
    """The searches in a storage, the latest first. OSError where it is none."""
    import optuna

    with quiet(), opened(storage, create=False) as backend:
        names = [name for name in optuna.get_all_study_names(backend) if name.startswith(PREFIX)]
        found = [_status(optuna.load_study(study_name=name, storage=backend)) for name in names]
    return sorted(found, key=lambda one: -(one.progress.written if one.progress else 0.0))


def _status(study: optuna.Study) -> SearchStatus:
    import optuna

    attributes = study.user_attrs
    progress, holder = Snapshot.from_json(str(attributes.get(KEY))), holder_of(attributes.get(DRIVER))
    trials = study.get_trials(deepcopy=False)
    failed = [trial for trial in trials if trial.state == optuna.trial.TrialState.FAIL]
    reasons = Counter(bare_reason(str(one.user_attrs.get("error")), str(one.user_attrs.get("plan"))) for one in failed)
    running = bool(holder) and lives(holder)
    return SearchStatus(
        name=study.study_name,
        state="running" if running else "ended" if progress and progress.stopped else "stopped",
        driver=f"process {holder['pid']} on {holder['host'].split()[0]}" if holder else None,
        sign_of_life_s=time.time() - holder["beat"] if holder else None,
        stored=sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials),
        failed=len(failed),
        reasons=dict(reasons.most_common(MOST_REASONS)),
        progress=progress,
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
