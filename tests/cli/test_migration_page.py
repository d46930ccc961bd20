"""docs/migrating-from-nemo.md maps all of NeMo's transcription flags, to options that exist."""

from __future__ import annotations

import re

from tests.cli.conftest import Run
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "migrating-from-nemo.md").read_text(encoding="utf-8")
NEMO_FLAGS = re.findall(
    r"\w+",
    """
model_path pretrained_name audio_dir dataset_manifest channel_selector audio_key presort_manifest
output_filename batch_size num_workers append_pred pred_name_postfix random_seed timestamps
return_hypotheses compute_langs cuda allow_mps amp amp_dtype compute_dtype matmul_precision
audio_type overwrite_transcripts ctc_decoding rnnt_decoding prompt decoder_type source_lang
calculate_wer extract_nbest calculate_rtfx warmup_steps run_steps
""",
)


def test_every_flag_is_mapped() -> None:
    assert [flag for flag in NEMO_FLAGS if not re.search(rf"\b{flag}\b", PAGE)] == []


def test_every_option_exists(run: Run) -> None:
    _, usage, _ = run("transcribe", "--help")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert len(named) == 10
    assert [option for option in sorted(named) if option not in usage] == []
