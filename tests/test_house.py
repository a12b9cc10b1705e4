"""The house keeps its rules: what loads what, under which names, and what may import what."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from inspect import isfunction
from pathlib import Path

import pytest

import autocomp
from tests.imports import crosses, graph_of, imports_of, layers_of, modules_of

ROOT = Path(__file__).resolve().parent.parent
LINKS = ("evaluators", "hardware_models", "primitives", "search_spaces")
PACKAGE = Path(autocomp.__file__).parent
MOST_FILES, MOST_LINES = 20, 450
HEAVY = ("mindspore", "ray", "optuna")


def python(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run in a fresh interpreter that finds this autocomp."""
    path = os.pathsep.join([str(Path(autocomp.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def loaded_by(module: str) -> set[str]:
    run = python(f"import {module}, sys; print(*(name for name in {HEAVY} if name in sys.modules))")
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_primitives_set_mindspore_up_before_they_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    run = python("from autocomp.primitives import LowRank; import os; print(os.environ['ONEDNN_MAX_CPU_ISA'])")
    assert run.stdout.split() == ["AVX2"] and "mindspore was imported before autocomp" not in run.stderr


def test_importing_autocomp_first_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    load = "from autocomp.primitives.tracing.platform import load_mindspore; load_mindspore()"
    said = "mindspore was imported before autocomp"
    assert said not in python(f"import autocomp; import mindspore; {load}").stderr
    assert said in python(f"import mindspore; import autocomp; {load}").stderr


@pytest.mark.parametrize("module", ["autocomp", "autocomp.search_spaces", "autocomp.hardware_models", "autocomp.cli"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    assert loaded_by(module) == set()


def test_heavy_modules_are_seen_where_they_load() -> None:
    assert loaded_by("autocomp.quickstart.network") >= {"mindspore"}


def test_every_public_name_is_there() -> None:
    assert set(autocomp.__all__) == set(autocomp._MODULES)
    for name in autocomp.__all__:
        assert getattr(autocomp, name).__module__.startswith("autocomp."), name
    assert set(autocomp.__all__) <= set(dir(autocomp))


def test_type_checkers_see_the_same_names_as_users() -> None:
    source = Path(autocomp.__file__).read_text()
    block = source.partition("if TYPE_CHECKING:\n")[2].partition("\n\n")[0]
    found = {
        name: module
        for module, names in re.findall(r"from (\S+) import (.+)", block)
        for name in re.split(r",\s*", names)
    }
    assert found == autocomp._MODULES


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = autocomp.serach


def test_functions_stay_functions_after_their_modules_were_imported() -> None:
    for module in pkgutil.iter_modules(autocomp.__path__):
        if module.name != "__main__":
            importlib.import_module(f"autocomp.{module.name}")
    assert callable(autocomp.search) and callable(autocomp.load) and callable(autocomp.estimate)


@pytest.mark.parametrize("name", LINKS)
def test_bare_name_names_the_right_import(name: str) -> None:
    run = python(f"import {name}", folder=Path(autocomp.__file__).parent)
    assert run.returncode == 1
    assert run.stderr.strip().endswith(f"ImportError: import autocomp.{name}, not {name}")


@pytest.mark.parametrize("name", LINKS)
def test_links_at_the_top_lead_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert os.readlink(link) == f"autocomp/{name}"
    assert (link / "__init__.py").is_file()


def test_imports_run_one_way() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-logo",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def test_version_is_the_changelogs() -> None:
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert autocomp.__version__ == newest[1]


def test_no_module_imports_itself_through_others() -> None:
    """Imports in functions count, those for type checkers do not."""
    graph = graph_of(imports_of(PACKAGE))
    assert len(graph) > 100  # there is something to see
    list(TopologicalSorter(graph).static_order())


def test_imports_in_functions_keep_to_the_layers() -> None:
    deferred = [one for one in imports_of(PACKAGE) if one.deferred]
    layers = layers_of(ROOT / "pyproject.toml")
    assert deferred and layers
    found = [str(one) for one in deferred for container, rows in layers if crosses(one, container, rows)]
    assert not found


def test_circles_and_crossings_are_seen(tmp_path: Path) -> None:
    package = tmp_path / "autocomp"
    (package / "low").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "low" / "__init__.py").write_text("from .one import x\n")
    (package / "low" / "one.py").write_text("def f():\n    from ..high import x\n    from . import other\n")
    (package / "low" / "other.py").write_text("if TYPE_CHECKING:\n    from . import one\n")
    (package / "high.py").write_text("import autocomp.low.one\n")
    found = imports_of(package)
    assert list(map(str, found)) == [
        "autocomp.high imports autocomp.low.one",
        "autocomp.low imports autocomp.low.one",
        "autocomp.low.one imports autocomp.high in a function",
        "autocomp.low.one imports autocomp.low.other in a function",
    ]
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph_of(found)).static_order())
    upwards, inside = found[2:]
    assert crosses(upwards, "autocomp", [{"high"}, {"low"}]) and crosses(upwards, "autocomp", [{"high", "low"}])
    assert not crosses(upwards, "autocomp", [{"low"}, {"high"}])
    assert not crosses(inside, "autocomp", [{"high"}, {"low"}])


@pytest.mark.parametrize("room", ["autocomp", "tests"])
def test_no_folder_holds_more_than_twenty_python_files(room: str) -> None:
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in (ROOT / room).rglob("*.py"))
    assert len(counts) > 10
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("room", ["autocomp", "tests", "benchmarks", "examples"])
def test_no_file_is_longer_than_four_hundred_and_fifty_lines(room: str) -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / room).rglob("*.py")}
    assert lines
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_every_package_says_what_lives_in_it() -> None:
    packages = [path for path in PACKAGE.rglob("__init__.py") if "devices" not in path.parts]
    assert len(packages) > 10
    assert [str(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_no_module_bears_the_name_of_a_public_function() -> None:
    """Importing it would put the module in the function's place, there or for whoever reads the name.

    ``primitives/export`` is a room beside other rooms; ``autocomp.export`` is what its user calls.
    """
    modules = modules_of(PACKAGE)
    packages = [importlib.import_module(name) for name, path in modules.items() if path.name == "__init__.py"]
    functions = {
        name for package in packages for name in getattr(package, "__all__", ()) if isfunction(getattr(package, name))
    }
    assert functions >= {"search", "load", "trace", "devices"}
    named = {name for name in modules if name.rpartition(".")[2] in functions}
    assert named == {"autocomp.primitives.export"}


def test_no_two_public_classes_have_one_name() -> None:
    found: dict[str, list[str]] = {}
    for module, path in modules_of(PACKAGE).items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    assert len(found) > 100
    assert {name: where for name, where in found.items() if len(where) > 1} == {}
