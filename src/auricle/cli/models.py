"""`auricle models`: what is published, what is here, and how to fetch it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auricle.cli.options import BARE, Quiet, Revision, model_names
from auricle.errors import ConfigError

if TYPE_CHECKING:
    from auricle.hub.catalogue import CatalogueEntry

app = typer.Typer(help="List, show and fetch models.", rich_markup_mode=None, **BARE)

Json = Annotated[
    bool,
    typer.Option("--json", help="As JSON: download and size in bytes, latencies in milliseconds."),
]
_COLUMNS = (
    "name",
    "family",
    "heads",
    "languages",
    "parameters",
    "download",
    "streaming",
    "licence",
    "cached",
)
# A narrow terminal leaves out the first of these first.
_DISPENSABLE = ("licence", "family", "heads", "streaming", "cached", "download", "parameters")
_SIZES = ("parameters", "download")
_NAME_WIDTH = 48  # a longer name has a line of its own
_EMBEDDED_IS = "Systran/faster-whisper-tiny.en"


@app.command("list")
def list_models(
    family: Annotated[
        str | None, typer.Option(help="fastconformer, conformer, citrinet, ..., whisper.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="The language: by name or code, as german, de or de-AT.")
    ] = None,
    streaming: Annotated[bool, typer.Option("--streaming", help="Streaming models only.")] = False,
    cached: Annotated[bool, typer.Option("--cached", help="Models that are here.")] = False,
    as_json: Json = False,
) -> int:
    """List the published models that Auricle runs.

    The exit code is 1 if there is none.
    """
    from auricle.cli import EXIT_PARTIAL, say_error
    from auricle.engines.whisper_facts import LANGUAGES
    from auricle.hub import catalogue

    code, known = _code(language), _family_known(family)
    rows = [
        {**_facts(entry), "cached": _is_here(entry)}
        for entry in (*catalogue.models(), _embedded())
        if (known is None or entry.family == known)
        and (code is None or code in entry.languages or (code in LANGUAGES and entry.speaks(code)))
        and (entry.streaming or not streaming)
        and (_is_here(entry) or not cached)
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif sys.stdout.isatty():
        typer.echo(_table([_cells(row) for row in rows], shutil.get_terminal_size().columns))
    else:
        for cells in (_COLUMNS, *map(_cells, rows)):
            typer.echo("\t".join(cells))
    if rows:
        return 0
    asked = {
        "--family": family,
        "--language": language,
        "--streaming": streaming,
        "--cached": cached,
    }
    words = [
        f"{name} {'' if value is True else value}".strip() for name, value in asked.items() if value
    ]
    say_error(f"no model fits {' '.join(words)}; see: auricle models list")
    return EXIT_PARTIAL


@app.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A model's name, or a checkpoint on this disk.", autocompletion=model_names
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show what a model can do, where it comes from, and its licence."""
    from auricle import hub
    from auricle.checkpoints import embedded
    from auricle.hub import catalogue
    from auricle.hub.cache import cached
    from auricle.recognizer import EMBEDDED

    if name == EMBEDDED:
        facts = {**_facts(_embedded()), **_local_facts(embedded.folder()), "cached": True}
        del facts["download"]  # its size is known
    elif path := hub.on_disk(name):
        facts = _local_facts(path)
    elif entry := catalogue.find(name):
        facts = _facts(entry)
        copy = cached(entry.name) if entry.on_hub else None
        facts["cached"] = str(copy) if copy else False
        if not entry.on_hub:
            facts["how_to_get"] = entry.by_hand
    else:
        repository = hub.repository_of(name)
        copy = hub.resolve(repository, local_only=True)
        facts = {"name": repository, **_local_facts(copy), "cached": str(copy)}
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        if value not in ("", (), []) and (value is not None or key in _SIZES):
            typer.echo(f"{key:<{width}}  {_cell(key, value)}")


@app.command("pull")
def pull(
    names: Annotated[
        list[str],
        typer.Argument(help="Catalogue names or hub ids.", autocompletion=model_names),
    ],
    revision: Revision = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare sums, and see that the model can be read.")
    ] = False,
    quiet: Quiet = False,
    check: Annotated[bool, typer.Option("--check", hidden=True)] = False,
) -> int:
    """Fetch models into the local cache.

    With several names, one that fails does not stop the others; the exit code is then 1.
    """
    from auricle import hub
    from auricle.cli import EXIT_PARTIAL, say_error
    from auricle.cli.reporting import Report, warnings_to
    from auricle.errors import AuricleError

    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    failed = 0
    with warnings_to(Report(1, quiet=True), quiet=quiet):
        for name in names:
            try:
                pulled = hub.pull(name, revision=revision)
                typer.echo(f"{pulled.path}\t{_bytes(pulled.size)}\tlicence: {pulled.licence}")
                if verify or check:
                    typer.echo(f"{pulled.path}\t{_verify(pulled.path)}")
            except AuricleError as error:
                if len(names) == 1:
                    raise
                failed += 1
                say_error(str(error))
    return EXIT_PARTIAL if failed else 0


def _verify(path: Path) -> str:
    """Read everything once; what was found good."""
    from auricle import checkpoints, hub
    from auricle.checkpoints import whisper

    summed = hub.check(path)
    if path.is_file() or whisper.folder_kind(path) is None:
        checkpoints.load(path)
    return f"good: it can be read, and {len(summed)} file(s) have the hub's sums"


def _facts(entry: CatalogueEntry) -> dict[str, Any]:
    """The catalogue's, as counts and bytes; None where no page gives a size."""
    from auricle.hub import catalogue
    from auricle.recognizer import EMBEDDED

    original = catalogue.find(_EMBEDDED_IS) if entry.name == EMBEDDED else None
    facts = {**asdict(entry), "page": (original or entry).page}
    for key in _SIZES:
        facts[key] = facts[key] and facts[key] * 1_000_000
    return facts


def _embedded() -> CatalogueEntry:
    """The model of the extra `offline`, by the name that `load` takes."""
    from auricle.hub import catalogue
    from auricle.recognizer import EMBEDDED

    entry = catalogue.find(_EMBEDDED_IS)
    assert entry is not None, "the catalogue has it"
    return replace(entry, name=EMBEDDED, aliases=(), note=f"{entry.name}, in the extra offline")


def _is_here(entry: CatalogueEntry) -> bool:
    from auricle import hub
    from auricle.checkpoints import embedded
    from auricle.recognizer import EMBEDDED

    return embedded.installed() if entry.name == EMBEDDED else hub.is_cached(entry.name)


def _code(language: str | None) -> str | None:
    """The code of a language as people write it.

    Raises:
        ConfigError: No language that a model here speaks.
    """
    from auricle.config import nearest
    from auricle.text import LANGUAGES, language_code

    if language is None:
        return None
    code = language_code(language)
    if code is None:
        names = {name.lower(): name for name in LANGUAGES.values()}
        near = nearest(language.lower(), names)
        hint = f"did you mean {names[near[0]]}?" if near else "give a name or an ISO 639 code"
        raise ConfigError(f"no model here speaks {language[:80]!r}; {hint}")
    return code


def _family_known(family: str | None) -> str | None:
    from auricle.hub import catalogue

    families = dict.fromkeys(entry.family for entry in catalogue.models())
    if family is not None and family.lower() not in families:
        raise ConfigError(f"unknown family {family[:80]!r}: choose of {', '.join(families)}")
    return family and family.lower()


def _local_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint on this disk says; its weights are mapped, not read."""
    from auricle import checkpoints
    from auricle.checkpoints import whisper

    files = [path] if path.is_file() else [p for p in path.iterdir() if p.is_file()]
    size = sum(file.stat().st_size for file in files)
    if path.is_dir() and (kind := whisper.folder_kind(path)):
        return {"path": str(path), "family": "whisper", "format": kind, "size": size}
    checkpoint = checkpoints.load(path)
    config = checkpoint.config
    prompted = tuple(config.prompt.languages) if config.prompt else ()
    tensors = checkpoint.tensors.values()
    return {
        "path": str(path),
        "size": size,
        "family": _family(config.encoder),
        "heads": config.heads,
        "languages": prompted or checkpoint.tokenizer.languages,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "types": sorted({str(t.dtype).removeprefix("torch.") for t in tensors}),
        "vocabulary": config.vocab_size,
        "sample_rate": config.features.sample_rate,
        "contexts": [list(c) for c in getattr(config.encoder, "att_context_size", ())],
    }


def _family(encoder: Any) -> str:
    """What NVIDIA calls this encoder: the names differ by a number or an option."""
    blocks = getattr(encoder, "blocks", None)
    if blocks is None:
        return "fastconformer" if encoder.subsampling_factor == 8 else "conformer"
    if any(block.se for block in blocks):
        return "citrinet"
    return "quartznet" if any(block.separable for block in blocks) else "jasper"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from auricle.recognizer import EMBEDDED

    latencies = "/".join(map(str, row["latencies"]))
    streams = (f"{latencies} ms" if latencies else "yes") if row["streaming"] else ""
    languages = row["languages"]
    spoken = ",".join(languages) if len(languages) < 6 else f"{len(languages)} languages"
    by_hand = "extra offline" if row["name"] == EMBEDDED else "by hand"
    elsewhere = "" if "/" in row["name"] else by_hand
    return (
        row["name"],
        row["family"],
        ",".join(row["heads"]),
        spoken,
        _millions(row["parameters"]),
        _bytes(row["download"]),
        streams,
        row["licence"],
        "yes" if row["cached"] else elsewhere,
    )


def _table(rows: Sequence[tuple[str, ...]], width: int) -> str:
    """Columns that fit `width`; the least needed are left out, and a last line says which."""
    columns = [*zip(*(_COLUMNS, *rows), strict=True)]
    widths = {c[0]: max(map(len, c)) for c in columns}
    left_out: list[str] = []
    for name in ("", *_DISPENSABLE):
        left_out += [name] if name else []
        shown = [c for c in columns if c[0] not in left_out]
        facts = sum(widths[c[0]] + 2 for c in shown[1:])
        named = min(widths["name"], max(_NAME_WIDTH, width - facts))
        if named + facts <= width:
            break
    named = max(len("name"), min(named, width - facts))
    lines = []
    for cells in zip(*shown, strict=True):
        line = "  ".join(
            f"{cell:<{widths[c[0]]}}" for cell, c in zip(cells[1:], shown[1:], strict=True)
        )
        if len(cells[0]) > named and line.strip():
            lines.append(cells[0])
        opening = "" if len(cells[0]) > named else cells[0]
        lines.append(f"{opening:<{named}}  {line}".rstrip())
    if left_out:
        order = ", ".join(name for name in _COLUMNS if name in left_out)
        note = f"{order}: on a wider terminal, or by auricle models show NAME"
        lines += ["", *textwrap.wrap(note, max(width, 20))]
    return "\n".join(lines)


def _bytes(size: int | None) -> str:
    if size is None:
        return ""
    return (
        f"{size / 1e9:.2f} GB"
        if size >= 1e9
        else f"{size / 1e6:.0f} MB"
        if size >= 1e6
        else f"{size / 1e3:.0f} kB"
    )


def _millions(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.0f} M" if count >= 1e7 else f"{count / 1e6:.1f} M"


def _cell(key: str, value: Any) -> str:
    """A fact with its unit."""
    if value is None:
        return "unknown"
    match key:
        case "parameters":
            return _millions(value)
        case "download" | "size":
            return _bytes(value)
        case "sample_rate":
            return f"{value} Hz"
        case "latencies":
            return f"{', '.join(map(str, value))} ms"
        case "vocabulary":
            return f"{value} pieces"
        case "contexts":
            return f"{', '.join(map(str, value))} (encoder steps before and after)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
