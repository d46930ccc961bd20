"""`auricle models`: what is published, what is here, and how to fetch it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from auricle.hub.catalogue import CatalogueEntry

app = typer.Typer(help="List, show and fetch models.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
_COLUMNS = ("name", "family", "heads", "languages", "size", "streaming", "licence", "cached")


@app.command("list")
def list_models(
    family: Annotated[
        str | None, typer.Option(help="fastconformer, conformer, citrinet, ..., whisper.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639 code: en, de, ...")] = None,
    streaming: Annotated[bool, typer.Option("--streaming", help="Streaming models only.")] = False,
    cached: Annotated[bool, typer.Option("--cached", help="Models that are here.")] = False,
    as_json: Json = False,
) -> None:
    """List the published models that Auricle runs."""
    from auricle import hub
    from auricle.errors import ConfigError
    from auricle.hub import catalogue

    families = dict.fromkeys(entry.family for entry in catalogue.models())
    if family is not None and family not in families:
        raise ConfigError(f"unknown family {family!r}: choose of {', '.join(families)}")
    rows = [
        {**_facts(entry), "cached": hub.is_cached(entry.name)}
        for entry in catalogue.models()
        if (family is None or entry.family == family)
        and (language is None or entry.speaks(language))
        and (entry.streaming or not streaming)
    ]
    rows = [row for row in rows if row["cached"] or not cached]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif sys.stdout.isatty():
        _print_table([_cells(row) for row in rows])
    else:
        for cells in (_COLUMNS, *map(_cells, rows)):
            typer.echo("\t".join(cells))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A model's name, or a checkpoint on this disk.")],
    as_json: Json = False,
) -> None:
    """Show what a model can do, where it comes from, and its licence."""
    from auricle import hub
    from auricle.checkpoints import embedded
    from auricle.hub import catalogue
    from auricle.hub.cache import cached
    from auricle.recognizer import EMBEDDED

    path = embedded.folder() if name == EMBEDDED else Path(name).expanduser()
    if path.exists():
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
        if value not in (None, "", (), []):
            typer.echo(f"{key:<{width}}  {_cell(value)}")


@app.command("pull")
def pull(
    names: Annotated[list[str], typer.Argument(help="Catalogue names or hub ids.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Verify sums, and that the model can be read.")
    ] = False,
) -> int:
    """Fetch models into the local cache.

    With several names, one that fails does not stop the others; the exit code is then 1.
    """
    from auricle import hub
    from auricle.cli import EXIT_PARTIAL, say_error
    from auricle.errors import AuricleError

    failed = 0
    for name in names:
        try:
            pulled = hub.pull(name, revision=revision)
            typer.echo(f"{pulled.path}\t{_megabytes(pulled.size / 1e6)}\tlicence: {pulled.licence}")
            if check:
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
    return {**asdict(entry), "page": entry.page}


def _local_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint on this disk says; its weights are mapped, not read."""
    from auricle import checkpoints
    from auricle.checkpoints import whisper

    if path.is_dir() and (kind := whisper.folder_kind(path)):
        return {"path": str(path), "family": "whisper", "format": kind}
    checkpoint = checkpoints.load(path)
    config = checkpoint.config
    prompted = tuple(config.prompt.languages) if config.prompt else ()
    tensors = checkpoint.tensors.values()
    return {
        "path": str(path),
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
    size = f"{row['parameters']}M" if row["parameters"] else ""
    if row["download"]:
        size = f"{size} {_megabytes(row['download'])}".strip()
    latencies = "/".join(map(str, row["latencies"]))
    streams = (f"{latencies} ms" if latencies else "yes") if row["streaming"] else ""
    languages = row["languages"]
    spoken = ",".join(languages) if len(languages) < 6 else f"{len(languages)} languages"
    heads = ",".join(row["heads"])
    here = "yes" if row["cached"] else ("" if "/" in row["name"] else "by hand")
    return (row["name"], row["family"], heads, spoken, size, streams, row["licence"], here)


def _print_table(rows: Sequence[Iterable[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    for cells in rows:
        table.add_row(*cells)
    Console(markup=False).print(table)


def _megabytes(size: float) -> str:
    return f"{size / 1000:.2f} GB" if size >= 1000 else f"{size:.0f} MB"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
