"""Read NAME.txt aloud into NAME.flac for each name; needs `pip install hibari-tts==0.2.1`."""

import sys
from pathlib import Path

import av
import numpy as np
from hibari import Hibari

from auricle import audio

HERE = Path(__file__).parent
VOICE_RATE = 24_000

voice = Hibari()
for name in sys.argv[1:]:
    speech = voice((HERE / f"{name}.txt").read_text(encoding="utf-8").strip(), seed=0)
    samples = audio.resample(speech, VOICE_RATE, audio.SAMPLE_RATE)
    pcm = np.round(samples * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
    frame.sample_rate = audio.SAMPLE_RATE
    with av.open(str(HERE / f"{name}.flac"), "w") as file:
        stream = file.add_stream("flac", rate=audio.SAMPLE_RATE, layout="mono")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
