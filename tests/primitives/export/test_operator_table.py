"""docs/reference/operators.md says which operators the writer knows."""

from __future__ import annotations

from pathlib import Path

import onnx

from autocomp.primitives.export.onnx_operators import OPERATORS

from .operator_table import form_of, table

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "operators.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == table()


def test_every_form_names_operators_that_onnx_has() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    for name in OPERATORS:
        assert form_of(name), name
        if " " not in form_of(name):
            assert form_of(name) in known, name
