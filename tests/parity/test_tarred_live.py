"""Tars that curation writes, read by NeMo's own reader of tarred data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auricle.curation.writers import Tar
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sources import open_sources
from tests.curation.writers.speech import EXPECTED, items
from tests.training.speech import RATE, tone, wav, write_rows
from tests.training.test_tar import write_tar

adapters = pytest.importorskip(
    "nemo.collections.common.data.lhotse.nemo_adapters",
    reason="needs nemo-toolkit, see `make parity`",
)

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    "manifest", ["sharded_manifests/manifest__OP_0..2_CL_.json", "tarred_audio_manifest.json"]
)
def test_nemo_reads_what_is_written(tmp_path: Path, manifest: str) -> None:
    given, job = items(tmp_path)
    Tar("out", items=2).write(given, job)
    cuts = adapters.LazyNeMoTarredIterator(
        manifest_path=str(job / "out" / manifest),
        tar_paths=str(job / "out/audio__OP_0..2_CL_.tar"),
    )
    for cut, item, expected in zip(cuts, given, EXPECTED, strict=True):
        assert cut.supervisions[0].text == item["text"]
        assert cut.duration == len(expected) / 16_000
        np.testing.assert_allclose(
            cut.load_audio().mean(axis=0), expected / 32768, atol=0.6 / 32768
        )


@pytest.mark.parametrize("manifest", ["manifest__OP_0..1_CL_.json", "all.json"])
def test_a_text_meets_the_sound_that_it_meets_in_nemo(tmp_path: Path, manifest: str) -> None:
    """Names as NeMo's script makes them, second stretches, and rows without sound."""
    everything = []
    for shard in (0, 1):
        names = [f"data_spk{shard}_{i}.wav" for i in range(3)]
        files = {n: wav(tone(2.0, 300 + 100 * i + 50 * shard)) for i, n in enumerate(names)}
        write_tar(tmp_path / f"audio_{shard}.tar", files)
        rows = [{"audio_filepath": n, "duration": 2.0, "text": n} for n in names]
        sub = {"audio_filepath": f"data_spk{shard}_1-sub1.wav", "offset": 1.0, "duration": 1.0}
        rows += [{**sub, "text": f"sub {shard}"}]
        rows += [{"audio_filepath": "gone.wav", "duration": 1.0, "text": "gone"}]
        rows = [{**row, "shard_id": shard} for row in rows]
        write_rows(tmp_path / f"manifest_{shard}.json", rows)
        everything += rows
    write_rows(tmp_path / "all.json", everything)
    tars = "audio__OP_0..1_CL_.tar"
    theirs = adapters.LazyNeMoTarredIterator(
        manifest_path=str(tmp_path / manifest), tar_paths=str(tmp_path / tars)
    )
    source = SourceRecipe(manifest=manifest, tar=tars)
    (ours,) = open_sources([source], DataRecipe(), folder=tmp_path)
    heard = {item.text: item.sound.read(RATE) for item in ours.items()}
    found = {cut.supervisions[0].text: cut.load_audio()[0] for cut in theirs}
    assert len(found) == 8 and found.keys() == heard.keys()
    for text, samples in found.items():
        np.testing.assert_allclose(heard[text], samples, atol=1e-6)
