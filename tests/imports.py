"""Which module of autocomp imports which, read from the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Import:
    """One import statement's target.

    deferred: the statement stands in a function and runs when the function is called.
    """

    importer: str
    imported: str
    deferred: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}{' in a function' if self.deferred else ''}"


def modules_of(package: Path) -> dict[str, Path]:
    """File of each module, by its dotted name; a package bears the name of its folder."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(package: Path) -> list[Import]:
    """Every import of one module of the package by another, without those for type checkers alone."""
    modules = modules_of(package)
    return [one for name, path in modules.items() for one in _imports(name, path, modules)]


def _imports(importer: str, path: Path, modules: Mapping[str, Path]) -> Iterator[Import]:
    folder = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node, deferred in _statements(ast.parse(path.read_text()), False):
        for name in _targets(node, folder, modules):
            if name in modules and name != importer:
                yield Import(importer, name, deferred)


def _statements(node: ast.AST, deferred: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, deferred
    of_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    children = node.orelse if isinstance(node, ast.If) and of_types else ast.iter_child_nodes(node)
    for child in children:
        yield from _statements(child, deferred or isinstance(node, FUNCTIONS))


def _targets(node: ast.Import | ast.ImportFrom, folder: str, modules: Mapping[str, Path]) -> Iterator[str]:
    """The modules that the statement names; ``from package import name`` means the module ``package.name``, if any."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    above = ".".join(folder.split(".")[: len(folder.split(".")) - node.level + 1]) if node.level else ""
    source = ".".join(part for part in (above, node.module or "") if part)
    for alias in node.names:
        yield f"{source}.{alias.name}" if f"{source}.{alias.name}" in modules else source


def graph_of(imports: list[Import]) -> dict[str, set[str]]:
    """For each module those that it imports."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        graph.setdefault(one.importer, set()).add(one.imported)
    return graph


def layers_of(pyproject: Path) -> list[tuple[str, list[set[str]]]]:
    """Container and layers, highest first, of each contract of import-linter that orders layers."""
    contracts: list[dict[str, Any]] = tomllib.loads(pyproject.read_text())["tool"]["importlinter"]["contracts"]
    return [
        (container, [set(layer.replace(" ", "").replace(":", "|").split("|")) for layer in contract["layers"]])
        for contract in contracts
        if contract["type"] == "layers"
        for container in contract["containers"]
    ]


def crosses(one: Import, container: str, layers: list[set[str]]) -> bool:
    """Whether the import leads from a layer to one above it or to another one beside it."""
    prefix = f"{container}."
    if not (one.importer.startswith(prefix) and one.imported.startswith(prefix)):
        return False
    importer, imported = (name.removeprefix(prefix).split(".")[0] for name in (one.importer, one.imported))
    height = {name: -i for i, layer in enumerate(layers) for name in layer}
    return importer != imported and height[importer] <= height[imported]
