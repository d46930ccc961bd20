"""Make (or reuse) a virtual environment with Auricle in it; needs nothing but Python 3.11+.

    python tools/setup_venv.py .venv --extras offline --groups dev

Every pip call uses constraints.txt. The set-up fails if a CUDA build of PyTorch arrives on a
machine without a GPU, because that is several gigabytes which nobody asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Set the environment up unless it is up to date already."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--extras", default="", help="comma-separated extras of pyproject.toml")
    parser.add_argument("--groups", default="", help="comma-separated dependency groups")
    args = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - a newcomer may well have an older one
        print(
            f"setup: Python 3.11 or newer is needed, this is {sys.version.split()[0]}",
            file=sys.stderr,
        )
        return 2
    stamp = args.folder / "auricle-setup.stamp"
    wanted = {*_names(args.extras), *(f"group:{name}" for name in _names(args.groups))}
    present = set(stamp.read_text().split()) if stamp.exists() else set()
    if {*wanted, _fingerprint()} <= present:
        return 0
    if not _python(args.folder).exists():
        venv.create(args.folder, with_pip=True, symlinks=os.name != "nt")
    extras = f"[{args.extras}]" if args.extras else ""
    _pip(args.folder, "torch")  # first, so that nothing else resolves it differently
    _pip(args.folder, "-e", f"{ROOT}{extras}", *_group_requirements(args.groups))
    stray = _cuda_packages(args.folder)
    if stray and not _has_gpu():
        print(
            f"setup: {', '.join(stray)} arrived on a machine without a GPU; install the CPU build "
            f"of PyTorch into {args.folder} first (see pytorch.org/get-started), then run again",
            file=sys.stderr,
        )
        return 1
    stamp.write_text("\n".join(sorted({*wanted, _fingerprint()})))
    return 0


def _names(listing: str) -> list[str]:
    return [name for name in listing.split(",") if name]


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _pip(folder: Path, *requirements: str) -> None:
    command = [
        str(_python(folder)),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), *requirements], check=True)


def _group_requirements(groups: str) -> list[str]:
    import tomllib  # not there before Python 3.11

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return [requirement for group in _names(groups) for requirement in declared[group]]


def _cuda_packages(folder: Path) -> list[str]:
    listing = subprocess.run(
        [str(_python(folder)), "-m", "pip", "list", "--format=freeze"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted(
        line.split("==")[0] for line in listing.splitlines() if line.startswith("nvidia-")
    )


def _has_gpu() -> bool:
    return any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"))


def _fingerprint() -> str:
    pinned = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    return hashlib.sha256(sys.version.encode() + pinned).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
