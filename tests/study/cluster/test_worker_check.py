"""What workers cannot do is said before anything is prepared; what they can is let through."""

from __future__ import annotations

import socket
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.errors import EvaluationError
from autocomp.study.cluster import worker_check
from autocomp.study.cluster.worker_check import check_workers_load
from tests.networks import Residual, images, randomised
from tests.odd_networks import BesselFunction


def metric(outputs: np.ndarray, labels: Any) -> float:
    return float(np.mean(outputs.argmax(1) == labels))


def locked() -> Callable[..., float]:
    lock = threading.Lock()

    def guarded(outputs: np.ndarray, labels: Any) -> float:
        with lock:
            return metric(outputs, labels)

    return guarded


def in_memory(name: str, source: str, path: Path | None = None) -> types.ModuleType:
    """A module that no file holds, as a notebook's or a plug-in loader's; path: of the file that seems to hold it."""
    module = types.ModuleType(name)
    if path is not None:
        module.__file__ = str(path)
    sys.modules[name] = module
    exec(source, module.__dict__)
    return module


def of_a_script(path: Path) -> Callable[..., float]:
    """From a module without a guard, which its own process had imported before it searched."""
    path.write_text("import autocomp\nautocomp.search(None)\ndef score(outputs, labels):\n    return 0.5\n")
    module = in_memory(path.stem, "def score(outputs, labels):\n    return 0.5\n", path)
    found: Callable[..., float] = module.score
    return found


@pytest.fixture
def forgotten() -> Any:
    """Takes test modules away again."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("worker_subject"):
            del sys.modules[name]


@pytest.mark.usefixtures("forgotten")
class TestRefused:
    def test_a_metric_that_holds_a_lock(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"^workers=3 needs a metric that can be pickled, but it cannot: metric\.lock \(a lock\): .*; use",
        ):
            check_workers_load(3, {"a metric": locked()})

    def test_a_script_that_searches_when_it_is_imported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        score = of_a_script(tmp_path / "worker_subject_script.py")
        with pytest.raises(ValueError, match=r"RuntimeError: a module that workers import must not search .*__main__"):
            check_workers_load(2, {"a metric": score})

    def test_a_module_that_ends_the_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "worker_subject_end.py").write_text("import os\nos._exit(7)\n")
        path = tmp_path / "worker_subject_end.py"
        module = in_memory(path.stem, "def score(outputs, labels):\n    return 0.5\n", path)
        with pytest.raises(ValueError, match="it cannot: the process ended with code 7"):
            check_workers_load(2, {"a metric": module.score})

    def test_a_module_that_never_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(worker_check, "SECONDS", 4.0)
        (tmp_path / "worker_subject_slow.py").write_text("import time\ntime.sleep(1000)\n")
        path = tmp_path / "worker_subject_slow.py"
        module = in_memory(path.stem, "def score(outputs, labels):\n    return 0.5\n", path)
        with pytest.raises(ValueError, match=r"takes more than 4 s; use workers=None, or if its module does work when"):
            check_workers_load(2, {"a metric": module.score})

    @pytest.mark.parametrize("place", ["ray://127.0.0.1:9", "ray://nowhere.invalid:10001", "ray://", "ray://127.0.0.1"])
    def test_a_cluster_that_does_not_answer(self, place: str) -> None:
        with pytest.raises(ConnectionError, match=rf"^no Ray cluster answers at workers='{place}': "):
            check_workers_load(place, {})


class TestTaken:
    @pytest.mark.parametrize("value", [metric, lambda outputs, labels: 0.5, np.mean])
    def test_what_a_fresh_process_loads(self, value: Any) -> None:
        check_workers_load(2, {"a metric": value})

    def test_a_closure_and_the_metric_as_the_search_sends_it(self) -> None:
        data = autocomp.Data(evaluate=(images(4), [0, 1, 2, 3]), metric=lambda outputs, labels: metric(outputs, labels))
        check_workers_load(1, {"a metric": data.measure})

    @pytest.mark.usefixtures("forgotten")
    def test_a_metric_and_labels_of_a_module_that_only_this_process_has(self) -> None:
        source = "share = 0.1\ndef wer(outputs, labels):\n    return share\nclass Box:\n    pass\n"
        module = in_memory("worker_subject_memory", source)
        labels = np.array([module.Box(), module.Box()], object)
        check_workers_load(2, {"a metric": module.wer, "labels": labels})

    def test_in_this_process_nothing_is_tried(self) -> None:
        check_workers_load(None, {"a metric": locked()})

    def test_without_the_client_a_cluster_elsewhere_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(ImportError, match=r"^workers='ray://a:1' needs Ray's client: pip install 'ray\[client\]'"):
            check_workers_load("ray://a:1", {})

    def test_a_cluster_that_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            check_workers_load(f"ray://127.0.0.1:{server.getsockname()[1]}", {})


@pytest.fixture
def nothing_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be prepared")

    monkeypatch.setattr("autocomp.problem.jobs.trace", fail)


@pytest.mark.usefixtures("nothing_is_prepared", "forgotten")
def test_a_search_says_it_before_the_network_is_traced() -> None:
    data = autocomp.Data(evaluate=(images(4), [0, 1, 2, 3]), metric=locked())
    with pytest.raises(ValueError, match=r"^workers=2 needs a metric \(guarded\) that"):
        autocomp.search(Residual(), None, "ascend-310p3", data, workers=2, progress=False)
    with pytest.raises(ConnectionError, match="no Ray cluster answers"):
        autocomp.search(Residual(), None, "ascend-310p3", images(4), workers="ray://127.0.0.1:9", progress=False)


def test_a_network_without_onnx_form_is_refused_before_channels_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("no channels are to be tried")

    monkeypatch.setattr("autocomp.problem.jobs.verify_channel_groups", fail)
    with pytest.raises(EvaluationError, match="cannot be sent to workers: use workers=None"):
        autocomp.search(randomised(BesselFunction()), None, "cpu", images(4), workers=2, progress=False)
