"""Every example of README, CONTRIBUTING and docs runs, those of a page in order, with small networks and few trials."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import autocomp
from autocomp import quickstart
from autocomp.cli.commands import app
from autocomp.deployment import tuning
from autocomp.primitives import registry

from .documented import PAGES, blocks_of, commands, promised, samples, searched, trained, write_files

CHEAP = ("devices", "estimate", "compare", "resolve", "show")  # commands that are run, not only read
CLUSTER = ["it needs a cluster"]
LANGUAGE = [
    f"needs a language model; tests/{test}"
    for test in (
        "primitives/quantization/test_rotation.py runs it",
        "kinds/test_language_models.py runs it",
        "kinds/test_language_models.py runs it",
        "kinds/test_cache_plans.py runs such searches",
        "deployment/checkpoints tests it on small networks",
        "deployment/checkpoints tests it on small networks",
        "hardware_models/test_generation.py runs it",
    )
]
LEFT_OUT = {"docs/guide/resume.md": CLUSTER, "docs/guide/cluster.md": CLUSTER, "docs/guide/language.md": LANGUAGE}
WITH_CODE = [page for page in PAGES if any(block.language == "python" for block in blocks_of(page))]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder, and searches and networks that take seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(autocomp, "search", searched(autocomp.search))
    monkeypatch.setattr(quickstart, "load_network", lambda: trained()[0])
    monkeypatch.setattr(quickstart, "load_samples", samples)
    monkeypatch.setattr(tuning, "FINALISTS", 1)
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    yield
    sys.modules.pop("resnet", None)  # of a page's files


@pytest.mark.parametrize("page", WITH_CODE)
def test_examples_run(page: str, small: None, tmp_path: Path) -> None:
    names = {"__name__": "__main__", **promised(page)}
    write_files(tmp_path, page)
    for i, block in enumerate(blocks_of(page)):
        if block.language == "python" and not block.reason:
            file = tmp_path / f"example{i}.py"  # MindSpore reads the source of cells
            file.write_text(block.code)
            exec(compile(block.code, file, "exec"), names)
        elif block.language == "bash":
            for call in (call for call in commands(block.code) if call[0] in CHEAP):
                result = CliRunner().invoke(app, call)
                assert result.exit_code == 0, f"{result.output}{result.exception}"


def test_few_examples_are_left_out() -> None:
    reasons = {page: [block.reason for block in blocks_of(page) if block.reason] for page in PAGES}
    assert {page: found for page, found in reasons.items() if found} == LEFT_OUT


def test_no_code_hides_as_text() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            if block.language == "text":
                with pytest.raises(SyntaxError):
                    ast.parse(block.code)


def calls() -> list[list[str]]:
    """All calls of the command line, in the documentation and in its own help."""
    pages = "\n".join(block.code for page in PAGES for block in blocks_of(page) if block.language == "bash")
    helps = (command.epilog or "" for command in get_command(app).commands.values())  # type: ignore[attr-defined]
    return [*commands(pages), *commands("\n".join(text.removeprefix("Example: ") for text in helps))]


@pytest.mark.parametrize("call", calls(), ids=" ".join)
def test_calls_of_the_command_line_are_read(call: list[str]) -> None:
    group: Any = get_command(app)
    name, command, rest = group.resolve_command(group.make_context("autocomp", call[:1], resilient_parsing=True), call)
    command.make_context(name, rest).close()
