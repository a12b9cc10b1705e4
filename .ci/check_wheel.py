"""A built wheel holds what it must, claims one import name and is small: ``python .ci/check_wheel.py WHEEL``."""

import sys
import zipfile
from pathlib import Path

LIMIT_MB = 12
REQUIRED = (
    "autocomp/py.typed",
    "autocomp/results/report.css",
    "autocomp/results/report.html",
    "autocomp/results/report.js",
    "autocomp/quickstart/NOTICE",
    "autocomp/quickstart/fashion_mnist.npz",
    "autocomp/quickstart/weights.npz",
)


def faults(wheel: Path) -> list[str]:
    found = []
    size_mb = wheel.stat().st_size / 1e6
    if size_mb > LIMIT_MB:
        found.append(f"a wheel has at most {LIMIT_MB} MB, but this one has {size_mb:.1f} MB")
    names = zipfile.ZipFile(wheel).namelist()
    found += [f"the wheel must hold {name}" for name in REQUIRED if name not in names]
    devices = {Path(path).name for path in names if path.startswith("autocomp/hardware_models/")}
    here = {path.name for path in Path("autocomp/hardware_models").rglob("*.toml")}
    found += [f"the wheel lacks the device file {name}" for name in sorted(here - devices)]
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    if tops != {"autocomp"}:
        found.append(f"the wheel must install autocomp alone, but installs {', '.join(sorted(tops))}")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        found.append("the wheel must hold the licence")
    return found


if __name__ == "__main__":
    wheel = Path(sys.argv[1])
    found = faults(wheel)
    for fault in found:
        print(f"{wheel.name}: {fault}", file=sys.stderr)
    if not found:
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, complete")
    sys.exit(bool(found))
