"""AutoModel's data sets and loaders as `data` of a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping

from auricle.config import hint, shown
from auricle.errors import ConfigError
from auricle.training.automodel.model import Model
from auricle.training.automodel.targets import target_of
from auricle.training.automodel.values import Section, Values, needed

# AutoModel bounds no clip's length, and a batch must be bounded: in seconds.
_LONGEST = {"seq2seq": 30.0}
_LONGEST_OTHERS = 40.0


def sources_of(file: Section, model: Model) -> Values:
    """`data.train` and `data.validation`, and what their makers say about all of the data."""
    data: Values = {}
    for key, part in (("dataset", "train"), ("validation_dataset", "validation")):
        section = needed(file, key) if part == "train" else file.section(key)
        if section is not None:
            maker = target_of(section, "dataset")
            data[part] = _MAKERS[maker](section, model, data)
            section.end()
    return data


def _entry(section: Section, text_column: str = "text") -> Values:
    """What all makers take. `limit` 0 is none, as there."""
    dataset = section.text("path_or_dataset")
    if dataset is None:
        raise ConfigError(f"{section.key('path_or_dataset')} is missing; name a data set")
    limit = section.whole("limit_dataset_samples", above=-1)
    entry: Values = {"dataset": dataset, "split": section.text("split") or "train"}
    entry |= {"streaming": True} if section.flag("streaming") else {}
    entry |= {"text_column": text_column} if text_column != "text" else {}
    return entry | ({"limit": limit} if limit else {})


def _librispeech(section: Section, model: Model, data: Values) -> list[Values]:
    entry = _entry(section)
    said = section.text("split") or "train.100"
    entry["subset"], entry["split"] = _libri_split(said, section.key("split"))
    data["text"] = "lower"
    section.note(
        "data.text=lower: LibriSpeech is written in capitals, which AutoModel trains on as they "
        "stand; data.text=as_is does too"
    )
    return [entry | _language(model, "en")]


_LIBRI = re.compile(r"(train|validation|test)(?:\.(clean|other))?(?:\.(100|360|500))?(\[.*\])?")
_LIBRI_SPLITS = (
    *("train.100", "train.360", "train.500", "validation", "test", "validation.clean"),
    *("validation.other", "test.clean", "test.other"),
    *("train.clean.100", "train.clean.360", "train.other.500"),
)


def _libri_split(said: str, where: str) -> tuple[str, str]:
    """The subset that has a split, and the split's name there: `train.other.500` is other's."""
    subsets, short, full = set(), [], []
    for part in said.split("+"):
        match = _LIBRI.fullmatch(part.strip())
        stem, subset, hours, cut = match.groups() if match else (None, None, None, None)
        right = {"100": "clean", "360": "clean", "500": "other"}.get(hours or "", subset)
        wrong = (stem == "train") != (hours is not None) or (subset or right) != right
        if match is None or wrong:
            known = hint(part, _LIBRI_SPLITS)
            raise ConfigError(f"{where} is {shown(said)}, no split of LibriSpeech; {known}")
        subset = right or "clean"  # which is AutoModel's only subset
        subsets.add(subset)
        short.append(".".join(filter(None, (stem, hours))) + (cut or ""))
        full.append(".".join(filter(None, (stem, subset, hours))) + (cut or ""))
    if len(subsets) == 1:
        return subsets.pop(), "+".join(short)
    return "all", "+".join(full)


def _common_voice(section: Section, model: Model, data: Values) -> list[Values]:
    language = section.text("language") or section.text("language_code") or "en"
    section.ignore([k for k in ["language_code"] if "language" in section.values], "see language")
    entry = _entry(section, "sentence")
    if entry["dataset"].startswith("mozilla-foundation/"):
        section.note(
            f"{section.key('path_or_dataset')}: Common Voice is not on the hub any more; download "
            "it from datacollective.mozillafoundation.org and name its folder"
        )
    return [entry | {"subset": language} | _language(model, language)]


def _custom(section: Section, model: Model, data: Values) -> list[Values]:
    columns = {key: section.text(key) for key in ("audio_column", "text_column")}
    return [_entry(section) | {key: said for key, said in columns.items() if said}]


def _hf_audio(section: Section, model: Model, data: Values) -> list[Values]:
    entry = _custom(section, model, data)[0]
    subset = section.text("name")
    section.ignore(["sampling_rate"], "sound is resampled to what the model takes")
    section.ignore(["system_prompt", "user_prompt"], "the models of Auricle take no prompt")
    section.ignore(["drop_empty_text"], "what becomes of empty texts data.invalid says")
    _bounds(section, data)
    return [entry | ({"subset": subset} if subset else {})]


def _bounds(section: Section, data: Values) -> None:
    """Shortest and longest clip, which here hold for all of the data: the wider ones win."""
    for key, ours, widest in (
        ("min_audio_duration_seconds", "min_seconds", min),
        ("max_audio_duration_seconds", "max_seconds", max),
    ):
        seconds = section.number(key)
        if seconds is not None:
            data[ours] = widest(seconds, data.get(ours, seconds))


def _multi_en(section: Section, model: Model, data: Values) -> list[Values]:
    said = section.get("sources")
    if not isinstance(said, list) or not all(isinstance(s, Mapping) for s in said) or not said:
        raise ConfigError(f"{section.key('sources')} must list the data sets, a mapping each")
    entries = []
    for i, values in enumerate(said):
        source = Section(f"{section.key('sources')}.{i}", values, section.notes)
        dataset, subset = source.text("repo"), source.text("config")
        if dataset is None:
            raise ConfigError(f"{source.key('repo')} is missing; name a data set")
        entry: Values = {"dataset": dataset, "split": source.text("split") or "train"}
        given = {"subset": subset, "text_column": source.text("text_col")}
        entries.append(entry | {key: value for key, value in given.items() if value})
        limit = source.whole("limit", above=-1)
        entries[-1] |= {"limit": limit} if limit else {}
        source.ignore(["trust_remote_code"], "no code of a data set's repository is ever run")
        source.ignore(["name"], "a source goes by its data set")
        source.end()
    section.ignore(["shuffle_seed"], "train.seed decides the order")
    section.ignore(["path_or_dataset"], "the sources say it")
    section.ignore(["sampling_rate"], "sound is resampled to what the model takes")
    section.ignore(["system_prompt", "user_prompt"], "the models of Auricle take no prompt")
    _bounds(section, data)
    return entries


_MAKERS = {
    "librispeech": _librispeech,
    "common_voice": _common_voice,
    "custom_asr": _custom,
    "hf_audio": _hf_audio,
    "multi_en": _multi_en,
}


def _language(model: Model, language: str) -> Values:
    """Multilingual Whisper is told the language."""
    multilingual = model.kind == "seq2seq" and not model.name.endswith(".en")
    return {"language": language} if multilingual else {}


def batches_of(file: Section, model: Model, local: int, sources: Values) -> Values:
    """The batches: as many clips as AutoModel's, which their seconds never bound."""
    workers, longest = 0, sources.get("max_seconds")
    for key in ("dataloader", "validation_dataloader"):
        section = file.section(key)
        if section is None:
            continue
        target_of(section, "dataloader", "torch")
        said = section.whole("num_workers", above=-1) or 0
        if key == "dataloader":
            workers = said
        elif said != workers:
            section.note(f"{section.key('num_workers')}: data.workers={workers} reads both")
        seconds = _collate(section, model)
        longest = longest if seconds is None or key != "dataloader" else seconds
        section.ignore(["batch_size"], "step_scheduler.local_batch_size says it")
        section.ignore(["shuffle", "drop_last", "group_by_length"], "Auricle orders the batches")
        section.ignore(
            ("pin_memory", "persistent_workers", "prefetch_factor", "timeout", "in_order"),
            "has no meaning here",
        )
        section.ignore(("multiprocessing_context", "snapshot_every_n_steps"), "has no meaning here")
        section.end()
    if longest is None:
        longest = _LONGEST.get(model.kind, _LONGEST_OTHERS)
        file.note(
            f"data.max_seconds={longest:g}: AutoModel hears clips of any length, Auricle leaves "
            "longer ones out"
        )
    return {
        "max_seconds": longest,
        "max_batch": local,
        "batch_seconds": local * longest,
        "workers": workers,
    }


def _collate(section: Section, model: Model) -> float | None:
    """The longest clip in seconds, if the collate function bounds it."""
    collate = section.section("collate_fn")
    if collate is None:
        return None
    kind = target_of(collate, "collate_fn")
    section.ignore(["collate_fn"], "batches are put together as the model needs it")
    if kind == "parakeet":
        seconds = collate.number("max_length", above=0)
        collate.end()
        return seconds
    collate.ignore(["max_length"], "texts longer than the model can write are left out, not cut")
    collate.end()
    return None
