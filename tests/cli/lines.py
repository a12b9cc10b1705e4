"""Command lines in this process, and what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from autocomp.cli.commands import main

DOCS = Path(__file__).parents[2] / "docs"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(*arguments) == 0
    return capsys.readouterr().out


def valid(name: str, text: str) -> Any:
    """What a command printed, as the schema in the documentation describes it."""
    schema = json.loads((DOCS / "reference" / "output.schema.json").read_text())
    found = json.loads(text)
    jsonschema.validate(found, {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]})
    return found
