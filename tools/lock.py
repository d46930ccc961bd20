"""Write locks/*.txt: the exact versions and hashes that every make target installs.

    make lock

The locks hold for Python 3.11 to 3.13 on Linux, macOS and Windows. PyTorch has a file of its own,
because its builds without CUDA for Linux are not on PyPI: its hashes are kept by hand (see
docs/dependencies.md).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setup_venv import ENVIRONMENTS, LOCKS, ROOT

LIKE = {"demo": "dev"}  # locks that take the versions of another
HEADER = "# Made by `make lock`. Without PyTorch, which locks/torch.txt pins.\n"
# PyPI's build for Linux needs CUDA packages; this is what the one for CPUs needs.
TORCH = """
[[dependency-metadata]]
name = "torch"
version = "{version}"
requires-dist = ["filelock", "typing-extensions>=4.10.0", "sympy>=1.13.3", "networkx", "jinja2",
                 "fsspec>=0.8.5", "setuptools>=77.0.3"]
"""


def main() -> int:
    """Resolve every environment anew; with names, those."""
    names = sys.argv[1:] or sorted(ENVIRONMENTS, key=lambda name: name in LIKE)
    for name in names:
        lock(name)
    return 0


def lock(name: str) -> None:
    """Resolve one environment to the newest versions, or to those of another lock."""
    extras, groups = ENVIRONMENTS[name]
    like = LIKE.get(name)
    pin = f"torch=={torch_version()}"
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "uv.toml")
        settings.write_text(TORCH.format(version=torch_version()), encoding="utf-8")
        pins = Path(folder, "pins.txt")
        known = (LOCKS / f"{like}.txt").read_text(encoding="utf-8") if like else ""
        versions = re.findall(r"^[a-zA-Z0-9].*?==[^\\\n]*", known, re.MULTILINE)
        pins.write_text("\n".join([pin, *versions]), encoding="utf-8")
        out = LOCKS / f"{name}.txt"
        command = [str(Path(sysconfig.get_path("scripts"), "uv")), "pip", "compile", "--quiet"]
        command += ["--config-file", str(settings), "--universal", "--python-version", "3.11"]
        command += ["--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
        command += ["--no-emit-package", "torch", "--constraints", str(pins)]
        command += [word for extra in extras.split(",") for word in ("--extra", extra)]
        command += [word for group in groups.split(",") for word in ("--group", group)]
        subprocess.run(
            [*command, "pyproject.toml", "-o", str(Path(folder, "lock.txt"))],
            check=True,
            cwd=ROOT,
            env={**os.environ, "UV_PYTHON": sys.executable},
        )
        made = Path(folder, "lock.txt").read_text(encoding="utf-8")
        out.write_text(HEADER + made, encoding="utf-8")


def torch_version() -> str:
    """The version that locks/torch.txt pins."""
    found = re.search(r"^torch==([^ +]+)", (LOCKS / "torch.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
