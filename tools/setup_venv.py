"""Make (or reuse) a virtual environment with Auricle in it; needs nothing but Python 3.11+.

    python tools/setup_venv.py .venv demo       # what the demonstration needs
    python tools/setup_venv.py .venv dev        # and the tests
    python tools/setup_venv.py .venv-parity parity
    python tools/setup_venv.py .venv-latest dev --latest

Versions and hashes are those of locks/NAME.txt, and PyTorch is its build without CUDA, by
locks/torch.txt; a PyTorch of that version that the environment has already stays. With --latest
everything but PyTorch is the newest that pyproject.toml allows. The set-up fails if CUDA packages
arrive on a machine without a GPU, because that is several gigabytes which nobody asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
# What each environment holds: extras of pyproject.toml, and its dependency groups.
ENVIRONMENTS = {
    "demo": ("offline", "build"),
    "dev": ("offline,vad,finetune,datasets,lhotse,curate,ray", "build,dev,bench"),
    "parity": ("offline,finetune", "build,dev,parity"),
}
HOLDS_TOO = {"dev": ["demo"]}
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"  # of PyTorch for Linux, which PyPI lacks
FROM_SOURCES = {"parity"}  # some of what NeMo needs has no wheels


def main() -> int:
    """Set the environment up unless it is up to date already."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=ENVIRONMENTS)
    parser.add_argument("--latest", action="store_true", help="newest versions, not the locked")
    args = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - a newcomer may well have an older one
        print(
            f"setup: Python 3.11 or newer is needed, this is {sys.version.split()[0]}",
            file=sys.stderr,
        )
        return 2
    stamp = args.folder / "auricle-setup.stamp"
    done = stamp.read_text().splitlines() if stamp.exists() else []
    if not args.latest and _fingerprint(args.name) in done:
        return 0
    if not _python(args.folder).exists():
        venv.create(args.folder, with_pip=True, symlinks=os.name != "nt")
    _install_torch(args.folder)
    if args.latest:
        extras, groups = ENVIRONMENTS[args.name]
        torch = f"torch=={_installed(args.folder)['torch']}"
        newest = ["--upgrade", "--upgrade-strategy", "eager", torch, *_requirements(groups)]
        _pip(args.folder, *newest, "-e", f"{ROOT}[{extras}]")
    else:
        wheels = [] if args.name in FROM_SOURCES else ["--only-binary", ":all:"]
        lock = str(LOCKS / f"{args.name}.txt")
        _pip(args.folder, "--no-deps", "--require-hashes", *wheels, "-r", lock)
        _pip(args.folder, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    stray = sorted(name for name in _installed(args.folder) if name.startswith("nvidia-"))
    if stray and not _has_gpu():
        print(
            f"setup: {', '.join(stray)} arrived on a machine without a GPU; remove {args.folder}, "
            "install the CPU build of PyTorch into it first (see pytorch.org/get-started), then "
            "run again",
            file=sys.stderr,
        )
        return 1
    if not args.latest:
        names = [args.name, *HOLDS_TOO.get(args.name, [])]
        stamp.write_text("\n".join(_fingerprint(name) for name in names) + "\n")
    return 0


def _install_torch(folder: Path) -> None:
    """The build without CUDA: from where pip is told to look, else from PyTorch's own index."""
    lock = LOCKS / "torch.txt"
    wanted = re.search(r"^torch==([^ +]+)", lock.read_text(), re.MULTILINE)
    assert wanted
    if _installed(folder).get("torch", "").partition("+")[0] == wanted[1]:
        return
    install = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
    if sys.platform != "linux":
        _pip(folder, *install)
        return
    try:
        _pip(folder, *install, stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        _pip(folder, *install, "--index-url", CPU_BUILDS)


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _pip(folder: Path, *words: str, stderr: int | None = None) -> None:
    command = [str(_python(folder)), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", *words]
    subprocess.run(command, check=True, stderr=stderr)


def _requirements(groups: str) -> list[str]:
    import tomllib  # not there before Python 3.11

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return [requirement for group in groups.split(",") for requirement in declared[group]]


def _installed(folder: Path) -> dict[str, str]:
    """The version of every package there."""
    command = [str(_python(folder)), "-m", "pip", "list", "--format=freeze"]
    listing = subprocess.run(
        [*command, "--disable-pip-version-check"], check=True, capture_output=True, text=True
    ).stdout
    return {name: version for name, _, version in (r.partition("==") for r in listing.split("\n"))}


def _has_gpu() -> bool:
    return any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"))


def _fingerprint(name: str) -> str:
    """What an environment was made of: Python, the locks, and this project's own description."""
    files = (ROOT / "pyproject.toml", LOCKS / "torch.txt", LOCKS / f"{name}.txt")
    made_of = b"".join(file.read_bytes() for file in files)
    return f"{name} {hashlib.sha256(sys.version.encode() + made_of).hexdigest()}"


if __name__ == "__main__":
    sys.exit(main())
