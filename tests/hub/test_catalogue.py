"""The catalogue says only what it can show, and answers names that people mistype."""

from __future__ import annotations

import re

import pytest

from auricle.hub import catalogue

ENTRIES = catalogue.models()
FAMILIES = {"fastconformer", "conformer", "citrinet", "quartznet", "jasper", "whisper"}


def test_names_and_aliases_are_unique() -> None:
    names = [n.lower() for e in ENTRIES for n in (e.name, *e.aliases)]
    assert len(names) == len(set(names))
    assert len(ENTRIES) > 100


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_an_entry_is_complete(entry: catalogue.CatalogueEntry) -> None:
    assert re.fullmatch(r"([\w.-]+/)?[\w.-]+", entry.name)
    assert entry.family in FAMILIES
    assert set(entry.heads) <= {"ctc", "rnnt", "tdt", "whisper"} and entry.heads
    assert all(re.fullmatch(r"[a-z]{2,3}|multi", code) for code in entry.languages)
    assert entry.languages and entry.licence
    assert entry.source.startswith("https://") and entry.page.startswith("https://")
    assert entry.streaming or not entry.latencies
    assert all(ms % 80 == 0 for ms in entry.latencies)
    assert entry.on_hub or "/" not in entry.name
    if entry.parameters and entry.download:  # float32 or float16, and the archive's own overhead
        assert 1.5 * entry.parameters < entry.download < 4.6 * entry.parameters


def test_what_the_name_says_agrees_with_the_entry() -> None:
    for entry in ENTRIES:
        bare = entry.name.rpartition("/")[2]
        if match := re.match(r"stt_([a-z]{2,3})_", bare):
            code = {"ua": "uk", "enes": "en"}.get(match[1], match[1])
            assert code in entry.languages, entry.name
        heads = {"ctc": "_ctc_|-ctc-|_citrinet_|quartznet", "rnnt": "_transducer_|-rnnt-"}
        for head, pattern in {**heads, "tdt": "-tdt|_tdt_"}.items():
            if re.search(pattern, bare):
                assert head in entry.heads, entry.name
        assert entry.streaming or "streaming" not in bare, entry.name


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("nvidia/parakeet-tdt-0.6b-v2", "nvidia/parakeet-tdt-0.6b-v2"),
        ("parakeet-tdt-0.6b-v2", "nvidia/parakeet-tdt-0.6b-v2"),
        ("NVIDIA/Parakeet-TDT-0.6B-v2", "nvidia/parakeet-tdt-0.6b-v2"),
        ("large-v3", "Systran/faster-whisper-large-v3"),
        ("QuartzNet15x5Base-En", "stt_en_quartznet15x5"),
        ("nvidia/stt_en_citrinet_256", "stt_en_citrinet_256"),
    ],
)
def test_find(asked: str, found: str) -> None:
    entry = catalogue.find(asked)
    assert entry is not None and entry.name == found


def test_another_organisation_s_copy_is_not_ours() -> None:
    assert catalogue.find("somebody/parakeet-ctc-0.6b") is None


def test_invented_names_answer_with_the_nearest_real_one() -> None:
    """Names of a published page that were never published as models."""
    real = {entry.name for entry in ENTRIES}
    expected = {
        "nvidia/stt_en_fastconformer_hybrid_small_pc": "stt_en_fastconformer_hybrid_large_pc",
        "nvidia/stt_en_fastconformer_hybrid_medium_pc": "stt_en_fastconformer_hybrid_large_pc",
        "nvidia/stt_en_fastconformer_streaming_large": (
            "stt_en_fastconformer_hybrid_large_streaming_multi"
        ),
    }
    for invented, nearest in expected.items():
        assert catalogue.never_published(invented)
        assert catalogue.find(invented) is None
        assert catalogue.nearest(invented) == (f"nvidia/{nearest}",)
    for names in map(catalogue.nearest, ("stt_en_fastconformer_telephony_large",)):
        assert set(names) <= real


def test_nearest_mends_a_slip() -> None:
    assert catalogue.nearest("nvidia/parakeet-tdt-0.6-v2")[0] == "nvidia/parakeet-tdt-0.6b-v2"
    assert "openai/whisper-tiny" in catalogue.nearest("whisper-tinny")
    assert catalogue.nearest("qqqqqqqqqq") == ()


def test_foreign_families_are_known_by_name() -> None:
    assert catalogue.foreign("nvidia/canary-1b-v2") == "an attention encoder-decoder"
    assert catalogue.foreign("nvidia/parakeet-ctc-0.6b") is None


def test_by_hand_names_the_file_where_its_version_is_known() -> None:
    jasper = catalogue.find("stt_en_jasper10x5dr")
    assert jasper is not None
    assert "versions/1.0.0rc1/files/stt_en_jasper10x5dr.nemo" in jasper.by_hand
    quartznet = catalogue.find("stt_de_quartznet15x5")
    assert quartznet is not None and quartznet.page in quartznet.by_hand


def test_speaks() -> None:
    v3, whisper = catalogue.find("parakeet-v3"), catalogue.find("openai/whisper-tiny")
    assert v3 is not None and v3.speaks("de") and not v3.speaks("zh")
    assert whisper is not None and whisper.speaks("zh")
