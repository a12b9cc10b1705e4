"""Networks on which export once failed, each a script of its own: what they print today.

    python benchmarks/cases.py ../shared/cases                 # all scripts that export
    python benchmarks/cases.py ../shared/cases --only 1,4

Each script runs in a process and a folder of its own. A line of it that says FAIL, or a script that ends with an error,
is a case that does not hold. The last line says how many scripts hold.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def exporting(folder: Path, only: set[str]) -> list[Path]:
    """The scripts that export a file, by number."""
    found = [path for path in folder.glob("case_*.py") if ".export(" in path.read_text()]
    chosen = [path for path in found if not only or path.stem.split("_")[1] in only]
    return sorted(chosen, key=lambda path: int(path.stem.split("_")[1]))


def holds(script: Path, seconds: float) -> bool:
    with tempfile.TemporaryDirectory() as place:
        settings = {**os.environ, "PYTHONPATH": str(ROOT)}
        try:
            ran = subprocess.run(
                [sys.executable, str(script)], cwd=place, env=settings, text=True, capture_output=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            print(f"{script.stem}: not finished after {seconds:g} s", flush=True)
            return False
    failed = [line for line in ran.stdout.splitlines() if "FAIL" in line]
    said = sum("OK" in line for line in ran.stdout.splitlines())
    print(f"{script.stem}: exit code {ran.returncode}, {said} lines say OK, {len(failed)} say FAIL", flush=True)
    print(*(f"  {line}" for line in failed), *([ran.stderr[-500:]] if ran.returncode else []), sep="\n", flush=True)
    return ran.returncode == 0 and not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="numbers of scripts")
    parser.add_argument("--seconds", type=float, default=1800, help="for each script")
    options = parser.parse_args()
    scripts = exporting(options.folder, set(filter(None, options.only.split(","))))
    if not scripts:
        parser.error(f"there is no script that exports in {options.folder}")
    found = [holds(script, options.seconds) for script in scripts]
    print(f"scripts that hold: {sum(found)} of {len(found)}")


if __name__ == "__main__":
    main()
