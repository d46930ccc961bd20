"""docs/migrating-from-nemo.md maps all flags of NeMo's scripts, to options that exist."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Run
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "migrating-from-nemo.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FLAGS = {
    "transcribe_speech.py": """
model_path pretrained_name audio_dir dataset_manifest channel_selector audio_key presort_manifest
output_filename batch_size num_workers append_pred pred_name_postfix random_seed timestamps
return_hypotheses compute_langs cuda allow_mps amp amp_dtype compute_dtype matmul_precision
audio_type overwrite_transcripts ctc_decoding rnnt_decoding prompt decoder_type source_lang
calculate_wer extract_nbest calculate_rtfx warmup_steps run_steps
""",
    "speech_to_text_cache_aware_streaming_infer.py": """
model_path pretrained_name audio_dir audio_type audio_file dataset_manifest output_path batch_size
random_seed chunk_size shift_size left_chunks online_normalization pad_and_drop_preencoded
att_context_size compare_vs_offline cuda allow_mps amp amp_dtype compute_dtype matmul_precision
use_cuda_graphs ctc_decoding rnnt_decoding decoder_type debug_mode target_lang strip_lang_tags
lang_tag_pattern
""",
    "Chunked and buffered inference": """
model_path pretrained_name audio_dir audio_type dataset_manifest output_filename batch_size
num_workers append_pred pred_name_postfix random_seed compute_langs overwrite_transcripts amp
allow_mps lcs_alignment_dir compute_timestamps chunk_secs left_context_secs right_context_secs
model_stride chunk_len_in_secs total_buffer_in_secs cuda decoding calculate_wer
clean_groundtruth_text langid use_cer merge_algo max_steps_per_timestep stateful_decoding
""",
}
COMMANDS = {
    "transcribe_speech.py": ("transcribe", 10),
    "speech_to_text_cache_aware_streaming_infer.py": ("stream", 10),
    "Chunked and buffered inference": ("stream", 3),
}


@pytest.mark.parametrize("section", FLAGS)
def test_every_flag_is_mapped(section: str) -> None:
    text = SECTIONS[section]
    missing = [f for f in FLAGS[section].split() if not re.search(rf"\b{f}\b", text)]
    assert missing == []


@pytest.mark.parametrize("section", COMMANDS)
def test_every_option_exists(run: Run, section: str) -> None:
    command, count = COMMANDS[section]
    _, usage, _ = run(command, "--help")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", SECTIONS[section]))
    assert len(named) == count
    assert [option for option in sorted(named) if option not in usage] == []
