"""Sound in and out: any file, bytes, stream or array to mono float32 at one rate; FLAC and WAV.

Reading is streamed, safe against files that name other files, and timed from the container's
start. Knows nothing of features, models or manifests; PyAV is imported where it is first needed.
"""

from auricle.audio.containers import AUDIO_SUFFIXES, AudioInfo
from auricle.audio.cutting import cut_at_silence
from auricle.audio.reading import (
    SAMPLE_RATE,
    blocks,
    from_array,
    length,
    libsndfile_reads,
    opened_blocks,
    probe,
    read,
)
from auricle.audio.resampling import (
    Resampler,
    ResumableResampler,
    Samples,
    check_rate,
    resample,
)
from auricle.audio.sources import FilePart
from auricle.audio.writing import AUDIO_FORMATS, AudioFormat, write

__all__ = [
    "AUDIO_FORMATS",
    "AUDIO_SUFFIXES",
    "SAMPLE_RATE",
    "AudioFormat",
    "AudioInfo",
    "FilePart",
    "Resampler",
    "ResumableResampler",
    "Samples",
    "blocks",
    "check_rate",
    "cut_at_silence",
    "from_array",
    "length",
    "libsndfile_reads",
    "opened_blocks",
    "probe",
    "read",
    "resample",
    "write",
]
