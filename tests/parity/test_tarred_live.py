"""Tars that curation writes, read by NeMo's own reader of tarred data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auricle.curation.writers import Tar
from tests.curation.writers.speech import EXPECTED, items

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
