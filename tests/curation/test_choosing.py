"""Models are chosen from the catalogue, and for a reason."""

from __future__ import annotations

import itertools

import pytest

from auricle.curation.choosing import Facts, Wanted, choose_model
from auricle.errors import ConfigError
from auricle.hub.catalogue import find

HOUR = 3600.0


def _chosen(spoken: dict[str, float], hours: float = 1.0, **wanted: object) -> str:
    device = wanted.pop("device", "cuda")
    facts = Facts(hours * HOUR, spoken, device)  # type: ignore[arg-type]
    return choose_model(facts, Wanted(**wanted)).name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("languages", "wanted", "name"),
    [
        ({"en": 1.0}, {}, "nvidia/parakeet-tdt-0.6b-v2"),
        ({"en": 1.0}, {"quality": "fast"}, "nvidia/parakeet-tdt_ctc-110m"),
        ({"de": 1.0}, {}, "nvidia/parakeet-tdt-0.6b-v3"),
        ({"de": 1.0}, {"quality": "fast"}, "nvidia/stt_de_fastconformer_hybrid_large_pc"),
        ({"de": 1.0, "fr": 1.0}, {"quality": "best"}, "nvidia/parakeet-tdt-0.6b-v3"),
        ({"ja": 1.0}, {}, "nvidia/parakeet-tdt_ctc-0.6b-ja"),
        ({"en": 1.0, "ja": 1.0}, {}, "openai/whisper-large-v3-turbo"),
        ({"zh": 1.0}, {"quality": "best"}, "openai/whisper-large-v3"),
        ({"zh": 1.0}, {"quality": "fast"}, "nvidia/stt_zh_conformer_transducer_large"),
        ({}, {}, "openai/whisper-large-v3-turbo"),
        ({}, {"languages": ("en-US",)}, "nvidia/parakeet-tdt-0.6b-v2"),
        ({"en": 1.0}, {"head": "ctc"}, "nvidia/parakeet-ctc-0.6b"),
        ({"en": 1.0}, {"memory_gb": 1.5}, "nvidia/parakeet-tdt_ctc-110m"),
        ({"en": 1.0}, {"quality": "fast", "domain": "noisy"}, "nvidia/parakeet-tdt-0.6b-v2"),
        ({"de": 1.0}, {"domain": "streaming"}, "nvidia/nemotron-3.5-asr-streaming-0.6b"),
    ],
)
def test_what_suits(languages: dict[str, float], wanted: dict[str, object], name: str) -> None:
    assert _chosen(languages, **wanted) == name


def test_many_hours_take_a_small_model() -> None:
    assert _chosen({"en": 1.0}, hours=99, device="cpu") == "nvidia/parakeet-tdt-0.6b-v2"
    assert _chosen({"en": 1.0}, hours=101, device="cpu") == "nvidia/parakeet-tdt_ctc-110m"
    assert _chosen({"en": 1.0}, hours=101, device="cuda") == "nvidia/parakeet-tdt-0.6b-v2"
    best = _chosen({"en": 1.0}, hours=101, device="cpu", quality="best")
    assert best == "nvidia/parakeet-tdt-0.6b-v2"


def test_only_models_of_the_catalogue_that_speak_the_languages() -> None:
    for language, quality, domain, commercial in itertools.product(
        ("en", "es", "pt", "ru", "hi", "ka", "vi", "eo", "sw"),
        ("fast", "balanced", "best"),
        ("general", "telephone", "streaming"),
        (True, False),
    ):
        wanted = {"quality": quality, "domain": domain, "commercial": commercial}
        entry = find(_chosen({language: 1.0}, **wanted))
        assert entry is not None and entry.on_hub
        assert entry.speaks(language)
        assert entry.streaming == (domain == "streaming")
        assert not (commercial and "NC" in entry.licence)


def test_the_reason_says_what_it_rests_on() -> None:
    languages = {"de": 0.6 * HOUR, "fr": 0.39 * HOUR, "ja": 0.01 * HOUR}
    choice = choose_model(Facts(HOUR, languages, "cuda"), Wanted(domain="telephone"))
    assert choice.name == "nvidia/parakeet-tdt-0.6b-v3"
    for said in (
        choice.name,
        "600 million parameters",
        "1.0 h of de, fr on cuda",
        "domain 'telephone'",
        "too rare to decide: ja",
        "no published model is made for telephone speech",
    ):
        assert said in choice.reason


def test_nothing_suits() -> None:
    with pytest.raises(ConfigError, match=r"no model in the catalogue for 1\.0 h of sw on cuda"):
        _chosen({"sw": 1.0}, head="ctc")
    with pytest.raises(ConfigError, match="unknown quality 'good'; use fast, balanced, best"):
        Wanted(quality="good")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown domain"):
        Wanted(domain="music")  # type: ignore[arg-type]


def test_facts_of_rows() -> None:
    rows = [
        {"duration": 10.0, "lang": "de-DE"},
        {"duration": 5, "lang": "de"},
        {"duration": None, "lang": "fr"},
        {"duration": -1.0},
        {"duration": 2.0, "lang": ""},
    ]
    facts = Facts.of(rows, ["cpu", "cuda:0"])
    assert facts == Facts(17.0, {"de": 15.0, "fr": 0.0}, "cuda")
    assert Facts.of([], ["cpu"]).device == "cpu"
