"""Cascades and ensembles: what they stand for, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auricle.curation.choosing import Wanted
from auricle.curation.conditions import compiled
from auricle.curation.graph import Branches, When
from auricle.curation.items import Item
from auricle.curation.pipeline import Pipeline, load_pipeline
from auricle.curation.plan import planned
from auricle.curation.running.settling import settle
from auricle.curation.step import Step
from auricle.curation.steps.cascade import Cascade
from auricle.curation.steps.ensemble import Ensemble
from auricle.curation.steps.select import Select
from auricle.curation.steps.transcribe import Transcribe
from auricle.curation.steps.vote import Vote
from auricle.curation.steps.wer import Wer
from auricle.errors import ConfigError
from tests.conftest import GOLDEN, ROOT
from tests.curation.steps.hearing import work

FAST, GOOD = Transcribe("fast"), Transcribe("good")
TALK = {"item_id": "0", "audio_filepath": str(GOLDEN / "wav" / "talk.wav")}


def _run(nodes: Any, items: list[Item], folder: Path) -> list[Item]:
    """Nodes by hand, in order; rows that drop out fail the test."""
    for node in nodes:
        if isinstance(node, Branches):
            ways = [_run(way, items, folder) for way in node.ways.values()]
            items = [
                {k: v for row in rows for k, v in row.items()} for rows in zip(*ways, strict=True)
            ]
            continue
        step: Step = node.step if isinstance(node, When) else node
        check = compiled(node.conditions, where="test") if isinstance(node, When) else None
        rows = []
        for item in items:
            found: Any = item if check and check(item) else work(step, [item], folder)[0]
            assert isinstance(found, dict), found
            rows.append(found)
        items = rows
    return items


def test_a_cascade_by_confidence() -> None:
    assert Cascade((FAST, GOOD), confidence=0.8).nodes() == [
        replace(FAST, tier=1),
        When(replace(GOOD, tier=2), {"confidence": {"lt": 0.8}}),
    ]


def test_a_cascade_by_wer_or_confidence() -> None:
    nodes = Cascade((FAST, GOOD), confidence=0.8, wer=0.2, reference="said", into="heard").nodes()
    score = Wer(reference="said", hypothesis="heard", prefix="heard_")
    hard = {"any_of": [{"heard_confidence": {"lt": 0.8}}, {"heard_wer": {"gt": 0.2}}]}
    assert nodes == [
        replace(FAST, into="heard", tier=1),
        score,
        When(replace(GOOD, into="heard", tier=2), hard),
        score,
    ]


def test_the_hard_rows_go_on(tmp_path: Path) -> None:
    """The trained digits are easy for the first tier, which knows nothing else."""
    speech = ROOT / "examples" / "speech"
    digits = Transcribe(str(ROOT / "examples" / "digits"), precision="fp32")
    other = Transcribe(str(GOLDEN / "nemo" / "fastconformer_ctc.nemo"), precision="fp32")
    text = (speech / "digits.txt").read_text(encoding="utf-8")
    items: list[Item] = [
        {"item_id": "0", "audio_filepath": str(speech / "digits.flac"), "text": text},
        {"item_id": "1", "audio_filepath": str(speech / "shell.flac"), "text": "the shell"},
        {"item_id": "2", "audio_filepath": str(speech / "shell.flac")},
    ]
    rows = _run(Cascade((digits, other), wer=0.5).nodes(), items, tmp_path)
    assert [row["tier"] for row in rows] == [1, 2, 1]  # without a reference nothing is known
    assert [row["wer_status"] for row in rows] == ["ok", "ok", "no_reference"]
    assert rows[0]["wer"] == 0.0
    both = _run(Cascade((digits, other), wer=0.5, confidence=2.0).nodes(), items, tmp_path)
    assert [row["tier"] for row in both] == [2, 2, 2]


def test_an_ensemble() -> None:
    models = {"a": FAST, "b": GOOD}
    branches, vote = Ensemble(models).nodes()
    assert branches == Branches(
        {
            "a": [replace(FAST, into="pred_a", timestamps=True)],
            "b": [replace(GOOD, into="pred_b", timestamps=True)],
        }
    )
    assert vote == Vote(("pred_a", "pred_b"))
    branches, select = Ensemble(models, by="wer", reference="said", into="best").nodes()
    assert isinstance(branches, Branches)
    assert branches.ways["a"] == [replace(FAST, into="pred_a")]
    assert select == Select(("pred_a", "pred_b"), by="wer", into="best", reference="said")


def test_an_ensemble_votes(tmp_path: Path) -> None:
    path = GOLDEN / "nemo" / "hybrid_rnnt_ctc.nemo"
    heads = {head: Transcribe(str(path), head=head, precision="fp32") for head in ("ctc", "rnnt")}
    same = Transcribe(str(path), head="ctc", precision="fp32", batch_seconds=30.0)
    (row,) = _run(Ensemble({**heads, "again": same}).nodes(), [dict(TALK)], tmp_path)
    assert row["pred_ctc"] == row["pred_again"] != row["pred_rnnt"]
    assert not {key for key in row if key.endswith("_words")}
    (votes,) = _run([Vote(("pred_ctc", "pred_rnnt", "pred_again"), alpha=1.0)], [row], tmp_path)
    assert votes["pred_text"].split() == row["pred_ctc"].split()
    assert 0 <= row["agreement"] < 1


def test_from_yaml_to_stages(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("")
    (tmp_path / "tiny.nemo").write_bytes(b"")
    path = tmp_path / "job.yaml"
    path.write_text(
        """
read: {manifest: {path: in.jsonl}}
steps:
  - cascade:
      tiers: [{model: a}, {model: ./b.nemo, batch_seconds: 30}, {model: tiny.nemo}]
      confidence: 0.9
  - ensemble:
      models: {x: {model: c, head: ctc}, y: {model: d}}
      by: agreement
      into: best
""",
        encoding="utf-8",
    )
    pipeline = load_pipeline(path)
    cascade, ensemble = pipeline.steps
    assert isinstance(cascade, Cascade) and isinstance(ensemble, Ensemble)
    assert [tier.batch_seconds for tier in cascade.tiers] == ["auto", 30.0, "auto"]
    assert [Path(tier.model).is_absolute() for tier in cascade.tiers] == [False, True, True]
    labels = [each.label for stage in planned(pipeline).stages for each in stage.steps]
    assert labels == [
        "1.1-transcribe",
        "1.2-transcribe",
        "1.3-transcribe",
        "2.1.x.1-transcribe",
        "2.1.y.1-transcribe",
        "2.2-select",
    ]


def test_models_are_settled_everywhere() -> None:
    auto = Transcribe("auto", wanted=Wanted(quality="fast"))
    steps = (
        Branches({"a": [auto], "b": [When(replace(auto, into="b"), {"lang": "en"})]}),
        Cascade((auto, Transcribe("auto")), confidence=0.5),
        Ensemble({"a": auto, "b": GOOD}),
        Vote(("a", "b")),
    )
    pipeline = Pipeline("p", (), steps)
    read: list[int] = []

    def rows() -> list[Item]:
        read.append(1)
        return [{"duration": 3600.0, "lang": "en"}]

    found, reasons = settle(pipeline, rows, ["cpu"])
    small, middle = "nvidia/parakeet-tdt_ctc-110m", "nvidia/parakeet-tdt-0.6b-v2"
    ways, cascade, ensemble, vote = found.steps
    assert isinstance(ways, Branches) and isinstance(cascade, Cascade)
    assert ways.ways["a"] == (Transcribe(small),)
    assert ways.ways["b"] == (When(Transcribe(small, into="b"), {"lang": "en"}),)
    assert [tier.model for tier in cascade.tiers] == [small, middle]
    assert ensemble == Ensemble({"a": Transcribe(small), "b": GOOD})
    assert vote == steps[-1]
    assert read == [1]
    assert [reason.partition(":")[0] for reason in reasons] == [
        "transcribe",
        "transcribe",
        "cascade",
        "ensemble",
    ]
    assert f"tier 2: {middle}" in reasons[2]
    assert settle(found, rows, ["cpu"]) == (found, ())
    assert read == [1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cascade((FAST,), confidence=0.5), "two models or more, not 1"),
        (lambda: Cascade((FAST, GOOD)), "say when an item goes on"),
        (lambda: Cascade((FAST, FAST), confidence=0.5), "two tiers in a row are the same: fast"),
        (lambda: Ensemble({"a": FAST}), "two or more, not 1"),
        (lambda: Ensemble({"a": FAST, "b": GOOD}, by="luck"), "by is 'luck'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
