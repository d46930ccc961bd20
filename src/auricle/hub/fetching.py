"""From a model's name to its files on this disk: a path, a catalogue name, or a hub id.

Offline first: a complete copy in the local cache is used without asking the network. Of a
repository only one model's files are fetched, the weights last, so that a copy with weights is a
complete one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.errors import AuricleError, CheckpointError, ModelNotFound, first_line, one_line
from auricle.hub import catalogue
from auricle.hub.cache import WEIGHTS, archive_among, cache_folder, cached

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

log = logging.getLogger("auricle")
SHIPPED = Path(__file__).parent / "digits"  # the model that comes along
# The hub's own rules, https://huggingface.co/docs/hub/repositories-settings.
_HUB_ID = re.compile(r"(?!.*(?:--|\.\.))\w[\w.-]*/\w[\w.-]*(?<=\w)", re.ASCII)
_LONGEST_ID = 96
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_SMALL_FILE = re.compile(
    r"(config|generation_config|preprocessor_config|processor_config|tokenizer|tokenizer_config"
    r"|special_tokens_map|added_tokens|normalizer|vocab|vocabulary)\.json"
    r"|(merges|vocab|vocabulary)\.txt|tokenizer\.(model|vocab)"
)


class _Unreachable(Exception):
    """The hub did not answer; becomes a ModelNotFound where no copy is here."""


@dataclass(frozen=True)
class Pulled:
    """A model that was fetched: where it lies, and what the hub says of it; size in bytes."""

    path: Path
    licence: str
    size: int


def resolve(name: str | Path, *, revision: str | None = None, local_only: bool = False) -> Path:
    """The file or folder that holds the model called `name`, downloaded if need be.

    Args:
        name: An existing path, a name or alias of the catalogue, or a hub id ("org/name").
        revision: A branch, tag or commit of the hub repository; None is its main branch.
        local_only: Never use the network.

    Raises:
        ModelNotFound: Nothing is called so, or it cannot be fetched now.
        CheckpointError: The repository holds no model, or a file came in damaged.
        OSError: The disk is full.
    """
    path = on_disk(name)
    if path is not None:
        return path
    repository = repository_of(str(name))
    copy = cached(repository, revision=revision)
    if copy is not None:
        return copy
    if local_only or _offline():
        reason = "the network was not asked" if local_only else "HF_HUB_OFFLINE is set"
        raise ModelNotFound(
            f"{_called(repository, revision)} is not in the local cache ({cache_folder()}), and "
            f"{reason}; fetch it once with: auricle models pull {repository}{_doubt(repository)}"
        )
    return pull(repository, revision=revision).path


def on_disk(name: str | Path) -> Path | None:
    """The file or folder at the path `name`, `~` expanded, else the model in this package.

    None if neither is called so.

    Raises:
        OSError: A folder on the way may not be searched.
    """
    try:
        path = Path(name).expanduser()
        if str(name).strip() and path.exists():
            return path
    except (ValueError, RuntimeError):  # a zero byte; a user that is not here
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise
    return SHIPPED if name == SHIPPED.name else None


def repository_of(name: str) -> str:
    """The hub id that `name` stands for.

    Raises:
        ModelNotFound: No such name, or the model is not on the hub; the message says what to do.
    """
    entry = catalogue.find(name)
    if entry is not None:
        if not entry.on_hub:
            raise ModelNotFound(f"{entry.name} is not on the hub; {entry.by_hand}")
        return entry.name
    if catalogue.never_published(name):
        raise ModelNotFound(f"{name} was never published{_suggestion(name)}")
    if kind := catalogue.foreign(name):
        raise ModelNotFound(f"{name} is {kind}, which Auricle does not run{_suggestion(name)}")
    if name.endswith(".nemo") or len(name) > _LONGEST_ID or not _HUB_ID.fullmatch(name):
        raise ModelNotFound(
            f"{_cut(name)} is neither a file or folder here nor a known model{_suggestion(name)}"
        )
    return name


def is_cached(name: str, *, revision: str | None = None) -> bool:
    """Whether the hub model `name` can be loaded without the network."""
    try:
        return cached(repository_of(name), revision=revision) is not None
    except ModelNotFound:
        return False


def pull(name: str, *, revision: str | None = None) -> Pulled:
    """Fetch what is missing of a hub model, with a progress bar on a terminal.

    Raises:
        ModelNotFound: Nothing is called so, or the hub cannot be reached.
        CheckpointError: The repository holds no model, or a file came in damaged.
        OSError: The disk is full.
    """
    repository = repository_of(name)
    copy = cached(repository, revision=revision)
    if _offline():
        if copy is None:
            raise ModelNotFound(f"{repository} cannot be fetched: HF_HUB_OFFLINE is set")
        return Pulled(copy, _known_licence(repository), _size(copy))
    try:
        with _one_line_errors(repository, revision), _quietly():
            return _pull(repository, revision)
    except _Unreachable as unreachable:
        if copy is None:
            raise ModelNotFound(str(unreachable)) from unreachable.__cause__
    log.warning("auricle: the hub cannot be reached: %s is the copy fetched before", repository)
    return Pulled(copy, _known_licence(repository), _size(copy))


def _pull(repository: str, revision: str | None) -> Pulled:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    wanted = _wanted(list(sizes), repository)
    total = sum(sizes[name] for name in wanted)
    if cached(repository, revision=revision) is None:
        _check_room(total, repository)
    for name in wanted:
        file = Path(hf_hub_download(repository, name, revision=revision, cache_dir=cache_folder()))
        if sizes[name] and file.stat().st_size != sizes[name]:
            raise CheckpointError(
                f"{file} has {file.stat().st_size} bytes where the hub has {sizes[name]}; "
                "delete it and pull again"
            )
    path = cached(repository, revision=revision)
    if path is None:
        raise CheckpointError(f"{repository} was fetched, but its copy in the cache is incomplete")
    return Pulled(path, _licence(repository, info), total)


def _wanted(names: Sequence[str], repository: str) -> list[str]:
    """The files of one model, the weights last: a `.nemo`, else a Hugging Face folder's."""
    if archive := archive_among(names, repository):
        return [archive]
    weights = next((name for name in WEIGHTS if name in names), None)
    if weights is None or "config.json" not in names:
        raise CheckpointError(
            f"{repository} holds neither one .nemo file nor config.json with weights, so it is no "
            f"model that Auricle can read; see https://huggingface.co/{repository}"
        )
    small = sorted(name for name in names if _SMALL_FILE.fullmatch(name))
    shards = sorted(name for name in names if _SHARD.fullmatch(name))
    return [*small, *(shards if weights.endswith(".index.json") else []), weights]


def _licence(repository: str, info: ModelInfo) -> str:
    card: Any = info.card_data
    said = card and (card.get("license_name") or card.get("license"))
    return str(said or _known_licence(repository))


def _known_licence(repository: str) -> str:
    entry = catalogue.find(repository)
    return entry.licence if entry else catalogue.UNKNOWN_LICENCE


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.iterdir()
    return sum(file.stat().st_size for file in files)


def _check_room(needed: int, repository: str) -> None:
    """Refuse before a long download begins, not at its end."""
    folder = cache_folder()
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"{repository} takes {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are left; "
            "make room, or set HF_HUB_CACHE to a folder on another disk",
            str(folder),
        )


@contextlib.contextmanager
def _one_line_errors(repository: str, revision: str | None) -> Iterator[None]:
    """Turn the hub library's many errors into ours, each with its cure."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repository}"
    try:
        yield
    except AuricleError:
        raise
    except errors.GatedRepoError:
        message = f"{repository} asks for consent: accept its terms at {page}, then: hf auth login"
        raise ModelNotFound(message) from None
    except errors.RevisionNotFoundError:
        message = f"{repository} has no revision {_cut(str(revision))!r}; see {page}/commits/main"
        raise ModelNotFound(message) from None
    except errors.RepositoryNotFoundError:
        message = (
            f"the hub has no model {repository} (or it is private: set HF_TOKEN)"
            f"{_suggestion(repository)}"
        )
        raise ModelNotFound(message) from None
    except errors.HFValidationError:
        raise ModelNotFound(f"{repository} is no valid hub id{_suggestion(repository)}") from None
    except Exception as error:
        if not _is_transport(error):
            raise  # the disk's errors among them
        raise _Unreachable(
            f"{_called(repository, revision)} is not in the local cache and could not be fetched: "
            f"{first_line(error)}; check the network, then try again{_doubt(repository)}"
        ) from error


def _is_transport(error: Exception) -> bool:
    """Whether the network is to blame; which HTTP library raises depends on the hub's version."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(roots & {"httpx", "httpx2", "httpcore", "requests", "urllib3", "huggingface_hub"})


def _called(repository: str, revision: str | None) -> str:
    return f"{repository} at revision {_cut(revision)!r}" if revision else repository


def _cut(name: str) -> str:
    """What a message shows of a name."""
    return one_line(name, 2 * _LONGEST_ID) if name.strip() else repr(name)


def _doubt(repository: str) -> str:
    """A suggestion, where the hub could not be asked and the catalogue does not know the name."""
    unknown = catalogue.find(repository) is None and catalogue.nearest(repository)
    return _suggestion(repository) if unknown else ""


def _suggestion(name: str) -> str:
    names = catalogue.nearest(name[: 2 * _LONGEST_ID])
    return f"; did you mean {' or '.join(names)}?" if names else "; see: auricle models list"


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """No progress bars in a pipe, and never a warning of the hub library's own before ours."""
    bars: Any = import_module("huggingface_hub.utils")
    theirs = logging.getLogger("huggingface_hub")
    level, shown = theirs.level, not bars.are_progress_bars_disabled()
    theirs.setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        bars.disable_progress_bars()
    try:
        yield
    finally:
        theirs.setLevel(level)
        if shown:
            bars.enable_progress_bars()


def _offline() -> bool:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(n, "").upper() in {"1", "ON", "YES", "TRUE"} for n in names)
