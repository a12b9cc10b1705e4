"""Wrong command lines of every subcommand: exit code 2, one sentence, no traceback."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.cli.commands import app, main
from tests import fronts

NETWORK = """
from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()


def build():
    return ms.nn.SequentialCell(ms.nn.Dense(4, 8), ms.nn.ReLU(), ms.nn.Dense(8, 2))


def fails():
    raise RuntimeError("no such checkpoint")


def wants(size):
    return build()


def ends():
    raise SystemExit(3)


nothing = None
text = "images"
"""
BROKEN = {
    "lines_syntax": b"def build(:\n",
    "lines_raises": b"raise RuntimeError('two\\nlines')\n",
    "lines_imports": b"import a_module_that_is_not_there\n",
    "lines_ends": b"import sys\nsys.exit('usage: mine')\n",
    "lines_latin": b"name = '\xe9'\n",
    "lines_zeros": b"\0" * 100,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a network, broken modules, half-written fronts, tables and files of every wrong kind."""
    folder = tmp_path_factory.mktemp("lines")
    path, modules = list(sys.path), set(sys.modules)
    (folder / "lines_subject.py").write_text(NETWORK)
    for name, source in BROKEN.items():
        (folder / f"{name}.py").write_bytes(source)
    for name in ("half", "list", "deep", "latin", "keys", "empty"):
        (folder / name).mkdir()
    whole = fronts.front([(0.88, 0.5, 0.3)]).save(folder / "whole") / "front.json"
    text = whole.read_text()
    (folder / "half" / "front.json").write_text(text[: len(text) // 2])
    (folder / "list" / "front.json").write_text("[]")
    (folder / "deep" / "front.json").write_text("[" * 100_000)
    (folder / "latin" / "front.json").write_bytes(b"\xff\xfe\x00")
    lacking = {name: value for name, value in json.loads(text).items() if name != "records"}
    (folder / "keys" / "front.json").write_text(json.dumps(lacking))
    (folder / "broken.toml").write_text("name = ")
    (folder / "lacking.toml").write_text('name = "mine"\n')
    (folder / "latin.toml").write_bytes(b'name = "\xff"\n')
    (folder / "broken.csv").write_text("not,a,table\n1,2,3\n")
    (folder / "latin.csv").write_bytes(b"\xff\xfe\n")
    (folder / "damaged.npz").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    (folder / "damaged.ckpt").write_bytes(b"\x08\xff" * 30)
    np.savez(folder / "other.npz", weight=np.zeros(3))
    (folder / "file").write_text("")
    (folder / "file.onnx").write_text("no model")
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("lines_"):
            del sys.modules[name]


NET = "--net {p}/lines_subject.py:build"
SEARCH = f"search {NET} --budget size<60% --device ascend --inputs 1,4 --out {{p}}/out"
RESOLVE = f"--budget size<60% {NET}"
ESTIMATE = f"estimate {NET} --inputs 1,4"
COMPARE = f"compare {NET} --inputs 1,4"
PROFILE = "profile --device ascend"

LINES: tuple[tuple[str, str], ...] = (
    ("serach", "No such command"),
    ("--verbose", "No such option"),
    ("search", "Missing option"),
    (f"{SEARCH} --trials many", "Invalid value for '--trials'"),
    (f"{SEARCH} --trials 0", "Invalid value for '--trials'"),
    (f"{SEARCH} --trials 2.5", "Invalid value for '--trials'"),
    (f"{SEARCH} --time-limit 0", "Invalid value for '--time-limit'"),
    (f"{SEARCH} --time-limit nan", "Invalid value for '--time-limit'"),
    (f"{SEARCH} --patience -1", "Invalid value for '--patience'"),
    (f"{SEARCH} --seed -1", "seed must be an integer from 0 to 4294967295, but got seed=-1"),
    (f"{SEARCH} --seed one", "Invalid value for '--seed'"),
    (f"{SEARCH} --fine-tune -2", "Invalid value for '--fine-tune'"),
    (f"{SEARCH} --workers two", "workers must be None, a number, 'auto' or 'ray://host:port', but got workers='two'"),
    (f"{SEARCH} --workers 0", "workers must be at least 1, but got workers=0"),
    (f"{SEARCH} --workers ray://127.0.0.1:9", "no Ray cluster answers at workers='ray://127.0.0.1:9'"),
    (f"{SEARCH} --sampler oracle", "unknown sampler 'oracle'"),
    (f"{SEARCH} --primitives rtm", "unknown primitive 'rtm'; known: .*; did you mean 'rtn'"),
    (f"{SEARCH} --storage /proc/none/a.db", "storage '/proc/none/a.db' cannot be opened or written"),
    (f"{SEARCH} --storage {{p}}/lines_subject.py", "cannot be opened or written: it is no SQLite file"),
    (f"{SEARCH} --storage {{p}}", "cannot be opened or written: Is a directory"),
    (f"{SEARCH} --budget size<95% --storage nosql://a", "storage 'nosql://a' cannot be opened or written"),
    (f"{SEARCH} --out {{p}}/file", "--out must be a folder, but .* is a file"),
    (f"{SEARCH} --out /proc/none", "cannot write to the folder /proc/none"),
    (f"{SEARCH} --inputs 1,four", "a shape is whole numbers from 1, .* but got '1,four'"),
    (f"{SEARCH} --inputs 0,4", "a shape is whole numbers from 1, .* but got '0,4'"),
    (f"{SEARCH} --device {{p}}/none.toml", "there is no device file"),
    (f"{SEARCH} --device {{p}}/broken.toml", "broken.toml"),
    (f"{SEARCH} --device {{p}}/lacking.toml", "a device file must have the entry"),
    (f"{SEARCH} --device {{p}}/latin.toml", "must be text in UTF-8"),
    (f"{SEARCH} --device {{p}}/file", "unknown device"),
    (f"{SEARCH} --budget size<", "the budget must have"),
    (f"{SEARCH} --data {{p}}/lines_subject.py:text", "an array of numbers, or the path of .* no file 'images'"),
    (f"{SEARCH} --data {{p}}/lines_subject.py:nothing", "--data must give samples, but .*:nothing gave none"),
    (f"{SEARCH} --weights {{p}}", "there is no file"),
    (f"{SEARCH} --weights /dev/zero", "there is no file /dev/zero"),
    (f"{SEARCH} --weights {{p}}/damaged.npz", "must be a whole file of arrays"),
    (f"{SEARCH} --weights {{p}}/other.npz", "must hold every parameter of the network, but lacks"),
    (f"{SEARCH} --weights {{p}}/damaged.ckpt", "damaged.ckpt"),
    (f"{SEARCH} --weights {{p}}/file", "weights are a .ckpt or an .npz file, but got file"),
    (f"resolve {{p}}/none {RESOLVE}", "a saved front is a folder with front.json, but .*none has none"),
    (f"resolve {{p}}/file {RESOLVE}", "a saved front is a folder with front.json"),
    (f"resolve /dev/zero {RESOLVE}", "a saved front is a folder with front.json"),
    (f"resolve {{p}}/half {RESOLVE}", "must be a front as ParetoSet.save writes it, but it cannot be read"),
    (f"resolve {{p}}/list {RESOLVE}", "must be a front as ParetoSet.save writes it, but it cannot be read"),
    (f"resolve {{p}}/deep {RESOLVE}", "nested too deep"),
    (f"resolve {{p}}/latin {RESOLVE}", "must be text in UTF-8"),
    (f"resolve {{p}}/keys {RESOLVE}", "must be what ParetoSet.save writes, but it lacks 'records'"),
    (f"resolve {{p}}/whole {RESOLVE}", "the front was saved without its network"),
    (f"resolve {{p}}/whole {RESOLVE} --export net.air", r"must end in \.mindir, .* but got 'net.air'"),
    ("resolve", "Missing argument"),
    ("status", "Missing argument"),
    ("status {p}/none", "storage '.*none' cannot be opened or written: there is no such file"),
    ("status {p}/whole", "status needs a folder with a search's storage, but .*whole has no search.db: give the path"),
    ("status {p}/lines_subject.py", "cannot be opened or written: it is no SQLite file"),
    ("status nosql://a", "storage 'nosql://a' cannot be opened or read"),
    ("status journal:///none/search.log", "cannot be opened or written: there is no such file"),
    ("show {p}/none", "a saved front is a folder with front.json"),
    ("show {p}/half", "must be a front as ParetoSet.save writes it"),
    ("show {p}/whole 7", "a point's number must be from 0 to 1, but got 7"),
    ("show {p}/whole size<1%", "no evaluated plan meets size<1%; the nearest is"),
    ("show {p}/whole small", "the budget must have"),
    (f"export {{p}}/whole {{p}}/net.air {NET}", r"must end in \.mindir, .* but got"),
    (f"export {{p}}/whole {{p}}/net.onnx {NET}", "holds no network.npz: the front was saved without its network"),
    (f"export {{p}}/whole {{p}}/net.onnx {NET} --point 9", "a point's number must be from 0 to 1, but got 9"),
    ("profile-network", "Missing option"),
    (f"profile-network {NET} --plan size", "a saved front is a folder with front.json"),
    (f"profile-network {NET} --inputs 1,4 --plan {{p}}/whole:9", "a point's number must be from 0 to 1, but got 9"),
    (f"profile-network {NET} --samples 0", "Invalid value for '--samples'"),
    ("profile-network --net {p}/none.onnx", "there is no file .*none.onnx"),
    ("profile-network --net {p}/file.onnx", "must be a whole ONNX file, but it cannot be read"),
    ("profile-network --net {p}/file.onnx --weights {p}/file", "an .onnx file holds its weights, but got .*"),
    ("compare", "compare takes two saved fronts, or one network with --net, but got 0 folders"),
    ("compare {p}/whole", "but got 1 folders"),
    ("compare {p}/whole {p}/none", "a saved front is a folder with front.json"),
    (f"compare {{p}}/whole {NET}", "compare takes two saved fronts or --net, but got both"),
    ("quickstart --trials none", "Invalid value for '--trials'"),
    ("quickstart --out {p}/file", "--out must be a folder"),
    ("quickstart --out {p}/quick --workers -1", "workers must be .*, but got workers='-1'"),
    ("quickstart --out {p}/quick --seed -5", "seed must be an integer from 0"),
    (f"{ESTIMATE} --device abacus", "unknown device 'abacus'"),
    (f"{ESTIMATE} --device ascend --precision w99", "w99"),
    (f"{ESTIMATE} --device ascend --precision w3", "precision must be one of float, w8"),
    (f"{ESTIMATE} --device cpu:0", "cpu:0"),
    ("estimate --device ascend --net {p}/lines_subject.py", "a reference is 'package.module:name'"),
    ("estimate --device ascend --net {p}/lines_subject.py:built", "has no 'built'"),
    ("estimate --device ascend --net {p}/lines_subject.py:text", "--net must give a mindspore.nn.Cell, but .* str"),
    ("estimate --device ascend --net {p}/lines_subject.py:fails", "fails failed: RuntimeError: no such checkpoint"),
    ("estimate --device ascend --net {p}/lines_subject.py:wants", "wants failed: TypeError: .*size"),
    ("estimate --device ascend --net {p}/lines_subject.py:ends", "ends failed: SystemExit: 3"),
    ("estimate --device ascend --net {p}/none.py:build", "there is no file"),
    ("estimate --device ascend --net {p}:build", "there is no module|there is no file"),
    ("estimate --device ascend --net lines.none:build", "there is no module 'lines.none'"),
    ("estimate --device ascend --net ..:build", r"there is no module '\.\.'"),
    ("estimate --device ascend --net {p}/lines_syntax.py:build", "lines_syntax.py cannot be imported: SyntaxError"),
    ("estimate --device ascend --net {p}/lines_raises.py:build", "cannot be imported: RuntimeError: two lines"),
    ("estimate --device ascend --net {p}/lines_imports.py:build", "ModuleNotFoundError: No module named 'a_modul"),
    ("estimate --device ascend --net {p}/lines_ends.py:build", "cannot be imported: SystemExit: usage: mine"),
    ("estimate --device ascend --net {p}/lines_latin.py:build", "cannot be imported: SyntaxError"),
    ("estimate --device ascend --net {p}/lines_zeros.py:build", "cannot be imported: (SyntaxError|ValueError)"),
    (f"{COMPARE} --device abacus", "unknown device 'abacus'"),
    (f"{COMPARE} --device ascend --precision w99", "w99"),
    (f"{COMPARE} --device ascend --inputs 1,x", "a shape is whole numbers from 1"),
    (f"{PROFILE} --out {{p}}/table.txt", "a table's path must end in .csv, but got"),
    (f"{PROFILE} --out {{p}}/broken.csv", "broken.csv"),
    (f"{PROFILE} --out {{p}}/latin.csv", "UTF-8"),
    (f"{PROFILE} --out /proc/none/t.csv", "/proc/none.* must be writable"),
    (f"{PROFILE} --out {{p}}/t.csv --threads 0", "Invalid value for '--threads'"),
    (f"{PROFILE} --out {{p}}/t.csv --models {{p}}/file", "file cannot be used: File exists"),
    (f"{PROFILE} --out {{p}}/t.csv --results {{p}}/none.json", "there is no file"),
    (f"{PROFILE} --out {{p}}/t.csv --results /dev/zero", "must be a regular file"),
    (f"{PROFILE} --out {{p}}/t.csv --results {{p}}/empty", "a folder of results must hold .json, .*empty holds none"),
    (f"{PROFILE} --out {{p}}/t.csv --fit {{p}}/mine.txt", "a device file's path must end in .toml, but got"),
    (f"{PROFILE} --out {{p}}/t.csv --network {{p}}/whole=2ms", "--network is part of a fit and needs --fit, but got"),
    *(
        (f"{PROFILE} --out {{p}}/t.csv --fit {{p}}/mine.toml --network {given}", said)
        for given, said in (
            ("net.onnx", "a network is a file and its latency, as in resnet50.onnx=2.31ms, but got 'net.onnx'"),
            ("net.onnx=2", "as in resnet50.onnx=2.31ms, but got 'net.onnx=2'"),
            ("net.onnx=-2ms", "as in resnet50.onnx=2.31ms"),
            ("net.onnx=0ms", "latency_ms must be above 0, but got latency_ms=0.0"),
            ("net.onnx@0=2ms", "batch must be at least 1, but got batch=0"),
            ("{p}/missing.onnx=2ms", "there is no file .*missing.onnx"),
            ("{p}/file=2ms", "a network must compute an output from its input, but .*file does not"),
        )
    ),
    ("profile --device abacus --out {p}/t.csv", "unknown device 'abacus'"),
    ("calibrate --threads none", "Invalid value for '--threads'"),
    ("calibrate --threads 100", "Invalid value for '--threads'"),
    ("devices --all", "No such option"),
)  # fmt: skip


@pytest.mark.parametrize("line", [pytest.param(line, id=line[0]) for line in LINES])
def test_a_wrong_line_gets_one_sentence(
    line: tuple[str, str], place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text, sentence = line
    with pytest.raises(SystemExit) as ended:
        main([part.format(p=place) for part in text.split()])
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert re.search(sentence, said), said
    assert "Traceback" not in said and "object at 0x" not in said
    last = said.rpartition("autocomp: ")[2] if "Usage:" not in said else said.rpartition("Error")[2]
    assert len(last.strip().splitlines()) <= 3 or "^" in last


def test_every_subcommand_has_wrong_lines() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    counts = {name: sum(text.split()[0] == name for text, _ in LINES) for name in names}
    assert len(LINES) >= 40 and min(counts.values()) >= 1, counts


def test_with_debug_the_error_of_the_users_module_is_raised(place: Path) -> None:
    with pytest.raises(ValueError, match="cannot be imported") as caught:
        main(["--debug", "estimate", "--device", "ascend", "--net", f"{place}/lines_imports.py:build"])
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_version_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and autocomp.__version__ in capsys.readouterr().out
