"""Sound in and out: any file, bytes, stream or array to mono float32 at one rate; FLAC and WAV.

Reading is streamed, safe against files that name other files, and timed from the container's
start. Knows nothing of features, models or manifests; PyAV is imported where it is first needed.
"""

from auricle.audio.containers import AUDIO_SUFFIXES, AudioInfo
from auricle.audio.cutting import cut_at_silence
from auricle.audio.reading import (
    SAMPLE_RATE,
    Recording,
    as_array,
    blocks,
    from_array,
    length,
    libsndfile_reads,
    opened_blocks,
    probe,
    read,
    record,
)
from auricle.audio.resampling import (
    Resampler,
    ResumableResampler,
    Samples,
    check_rate,
    resample,
)
from auricle.audio.sources import FilePart, is_address, no_such_file
from auricle.audio.timeline import ReadReport
from auricle.audio.writing import AUDIO_FORMATS, AudioFormat, write

__all__ = [
    "AUDIO_FORMATS",
    "AUDIO_SUFFIXES",
    "SAMPLE_RATE",
    "AudioFormat",
    "AudioInfo",
    "FilePart",
    "ReadReport",
    "Recording",
    "Resampler",
    "ResumableResampler",
    "Samples",
    "as_array",
    "blocks",
    "check_rate",
    "cut_at_silence",
    "from_array",
    "is_address",
    "length",
    "libsndfile_reads",
    "no_such_file",
    "opened_blocks",
    "probe",
    "read",
    "record",
    "resample",
    "write",
]
