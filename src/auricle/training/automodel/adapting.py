"""AutoModel's `peft` and `freeze_config` as `adapt` of a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from auricle.errors import ConfigError
from auricle.training.automodel.model import Model
from auricle.training.automodel.targets import target_of
from auricle.training.automodel.values import Section, Values


def adapt_of(file: Section, model: Model) -> Values:
    """What trains of the model; empty if all of it does."""
    adapt: Values = {}
    peft = file.section("peft")
    if peft is not None:
        adapt["lora"] = _lora(peft, model)
    frozen = _frozen(file, model)
    if frozen and "lora" in adapt:
        file.note("freeze_config: with peft the base model does not move anyway")
    elif frozen:
        adapt["freeze"] = frozen
    rates = _rates(file)
    return adapt | ({"lr": rates} if rates else {})


_PLAIN_NAME = re.compile(r"[\w.]+")


def _rates(file: Section) -> dict[str, float]:
    """Factors of the learning rate, by globs; AutoModel searches names for regular expressions."""
    optimizer = file.section("optimizer")
    groups = (optimizer.get("param_group_overrides") if optimizer else None) or []
    if optimizer is not None and not isinstance(groups, list):
        raise optimizer.wrong("param_group_overrides", "a list of mappings")
    rates = {}
    for i, group in enumerate(groups):
        where = f"optimizer.param_group_overrides.{i}"
        if not isinstance(group, Mapping):
            raise ConfigError(f"{where} is {group!r}; it must be a mapping")
        section = Section(where, group, file.notes)
        pattern, factor = section.text("pattern"), section.number("lr_mult", above=0)
        if section.number("wd_mult") not in (None, 1.0):
            section.note(f"{where}.wd_mult: all that is decayed is decayed alike")
        section.end()
        if pattern is None or not _PLAIN_NAME.fullmatch(pattern):
            raise ConfigError(f"{where}.pattern is {pattern!r}; only a part of a name is taken")
        if factor is not None and factor != 1:
            rates[f"*{pattern}*"] = factor
    return rates


def _lora(section: Section, model: Model) -> Values:
    target_of(section, "peft", "lora")
    targets, exclude = section.texts("target_modules"), section.texts("exclude_modules")
    everything = section.flag("match_all_linear")
    if bool(targets) + bool(exclude) + bool(everything) > 1:
        raise ConfigError(
            "peft takes one of target_modules, exclude_modules and match_all_linear, not several"
        )
    if everything or exclude:
        targets = ["*"]
    dropout = section.number("dropout") or 0.0
    post = section.text("dropout_position") or "post"
    if dropout and post == "post":
        section.note("peft.dropout: is applied before the adapter here, AutoModel's behind it")
    rank, alpha = section.whole("dim"), section.number("alpha")
    made = {
        "targets": _globs(section, "target_modules", targets or ["*_proj"], model),
        "exclude": _globs(section, "exclude_modules", exclude, model),
        "rank": 8 if rank is None else rank,
        "alpha": _short(32 if alpha is None else alpha),
        "dropout": dropout,
        "dora": bool(section.flag("use_dora")),
    }
    section.ignore(["lora_A_init"], "adapters begin as peft's do")
    section.ignore(["lora_dtype"], "adapters are trained in float32")
    section.ignore(["use_triton", "use_memory_efficient_lora"], "there is one kind of LoRA layer")
    section.ignore(["moe_rank_scaling"], "the models have no experts")
    section.end()
    return made


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def _globs(section: Section, key: str, patterns: Sequence[str], model: Model) -> list[str]:
    """Globs of names, whose dots are dots.

    AutoModel makes a regular expression of a pattern: `.*` in it is any text, so that
    `*.feed_forward.*` reaches `feed_forward1`. A pattern without a star is a module's last name.
    """
    made = []
    for pattern in patterns:
        glob = pattern.replace(".*", "*") if "*" in pattern else f"*.{pattern}"
        if model.kind == "seq2seq":
            glob = re.sub(r"(?<![A-Za-z0-9_])o_proj$", "out_proj", glob)
        if glob != pattern:
            section.note(f"{section.key(key)}: {pattern} is {glob} here")
        made.append(glob)
    return made


def _frozen(file: Section, model: Model) -> list[str]:
    """Globs of what does not train, in Hugging Face's names; the defaults are AutoModel's."""
    section = file.section("freeze_config")
    if section is None:
        return []
    inside = "model." if model.kind == "seq2seq" else ""
    frozen = []
    if section.flag("freeze_audio_tower"):
        frozen.append(f"{inside}encoder.*")
    if section.flag("freeze_language_model"):
        frozen += _decoder(section, model)
    if section.flag("freeze_embeddings") in (None, True) and model.kind != "ctc":
        frozen.append("*.embed_tokens" if model.kind == "seq2seq" else "decoder.embedding")
    elif section.flag("freeze_embeddings"):
        section.note("freeze_config.freeze_embeddings: a CTC model has none")
    section.ignore(["freeze_vision_tower"], "the models hear only")
    section.end()
    return frozen


def _decoder(section: Section, model: Model) -> list[str]:
    if model.kind == "ctc":
        section.note("freeze_config.freeze_language_model: a CTC model has none")
        return []
    return ["model.decoder.*" if model.kind == "seq2seq" else "decoder.*"]
