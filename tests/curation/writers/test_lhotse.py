"""Written Lhotse manifests: read back by Lhotse, and by training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auricle.curation.writers import Lhotse
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sources import open_sources
from tests.curation.writers.speech import EXPECTED, Failing, content, items

lhotse = pytest.importorskip("lhotse")


def test_lhotse_reads_it(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Lhotse("cuts").write([*given, {**given[1], "item_id": "more", "offset": 2.0}], job)
    folder = job / "cuts"
    cuts = list(lhotse.CutSet.from_file(folder / "cuts.jsonl.gz"))
    lhotse.validate(lhotse.CutSet.from_cuts(cuts), read_data=True)
    recordings = lhotse.RecordingSet.from_file(folder / "recordings.jsonl.gz")
    supervisions = lhotse.SupervisionSet.from_file(folder / "supervisions.jsonl.gz")
    lhotse.validate(recordings)
    lhotse.validate(supervisions)
    assert len(list(recordings)) == 5 and len(cuts) == len(list(supervisions)) == 6
    for item, cut, expected in zip(given, cuts, EXPECTED, strict=False):
        assert (cut.id, cut.duration) == (item["item_id"], len(expected) / 16_000)
        (said,) = cut.supervisions
        assert (said.text, said.speaker, said.language) == (
            item["text"],
            item.get("speaker"),
            item.get("lang"),
        )
        assert cut.custom["n"] == item["n"]
        sound = cut.load_audio().mean(axis=0)
        np.testing.assert_allclose(sound, expected / 32768, atol=1 / 32768)
    assert cuts[1].recording.id == cuts[5].recording.id
    second = lhotse.CutSet.from_manifests(
        recordings=recordings, supervisions=supervisions
    )  # a cut for each recording, with its supervisions where they stand in it
    starts = sorted(s.start for cut in second for s in cut.supervisions)
    assert starts == [0.0, 0.0, 0.0, 0.0, 1.25, 2.0]


def test_ids_do_not_depend_on_where_a_job_lies(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Lhotse("cuts").write(given, job)
    other = tmp_path / "elsewhere"
    job.rename(other)
    Lhotse("again").write(given, other)
    ids = [
        [
            recording.id
            for recording in lhotse.RecordingSet.from_file(folder / "recordings.jsonl.gz")
        ]
        for folder in (other / "cuts", other / "again")
    ]
    # The third is unpacked from a tar into the writer's folder, the fourth is the job's own.
    assert ids[0][3] == ids[1][3] and ids[0][2] != ids[1][2] and len(set(ids[0])) == 5


def test_training_reads_it(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Lhotse("{split}").write(given, job)
    (source,) = open_sources([SourceRecipe(cuts=str(job / "dev/cuts.jsonl.gz"))], DataRecipe())
    found = list(source.items())
    assert [item.text for item in found] == ["say 2", "say 4"]
    np.testing.assert_allclose(found[0].sound.read(16_000), EXPECTED[2] / 32768, atol=1e-6)


def test_one_channel_of_several(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Lhotse("cuts").write([{**given[4], "channel": 1}], job)
    (cut,) = lhotse.CutSet.from_file(job / "cuts/cuts.jsonl.gz")
    lhotse.validate(cut)
    assert cut.channel == 1 and cut.load_audio().shape == (1, 12_000)


def test_done_again_it_is_the_same_and_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    given, job = items(tmp_path)
    Lhotse("cuts").write(given, job)
    before = content(tmp_path)
    assert any(name.startswith("job/cuts/audio/") for name in before)  # the tar's member
    Lhotse("cuts").write(given, job)
    assert content(tmp_path) == before
    with pytest.raises(OSError, match="No space"):
        Lhotse("cuts").write(Failing(given, 1), job)
    assert content(tmp_path) == before
