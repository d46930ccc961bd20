"""Inputs of our own making: speech-like sound and small tokenizers. Equal bytes on every run."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import sentencepiece

SAMPLE_RATE = 16000
CLIPS = {"syllable": 0.83, "phrase": 2.41, "talk": 4.57}  # seconds; one is below transcribe()'s 1 s

ENGLISH = """The tide went out before noon, and the boats lay on the sand.
Where did you leave the blue umbrella? I think it is by the door.
Nobody answered! The train was late, so we walked home in the rain.
She reads two books a week; most of them are about the sea.
Bring bread, cheese and apples. The others will bring the tea.
It's a long road, but the view from the ridge is worth it.
A quiet engine, a warm cabin, and then the slow climb began.
How many stars can you count tonight? More than I did last year.
The baker opens at six; his bread is gone by eight.
We didn't hear the thunder, yet we saw the light over the hills.
Turn left at the mill, then follow the river to the bridge.
They sang until the lamps burned low and the children slept.
Winter came early, with snow on the roofs and ice on the lake.
Please write the number down. Five, seven, nine and three.
He mends clocks, and the clocks in this town are never wrong.
What a strange question! Still, it deserves a careful answer."""

SPANISH = """El barco salió antes del alba y nadie lo vio volver.
¿Dónde está la llave de la casa? La dejé sobre la mesa.
Mañana iremos al mercado, compraremos pan, queso y naranjas.
La lluvia cae despacio sobre los tejados del pueblo.
¡Qué noche tan clara! Se ven todas las estrellas.
El niño pregunta mucho, y su abuela responde con calma."""

LANGUAGE_TAGS = ("<en-US>", "<es-ES>")


def speech_like(seconds: float, seed: int) -> np.ndarray:
    """Voiced stretches with a moving pitch and two formants, hisses, and pauses. Gives [S]."""
    rng = np.random.default_rng(seed)
    count = int(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6)) + 8 * np.sin(9 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    low = 500 + 250 * np.sin(2 * np.pi * 1.9 * time + rng.uniform(0, 6))
    high = 1700 + 600 * np.sin(2 * np.pi * 1.3 * time + rng.uniform(0, 6))
    voiced = np.zeros(count)
    for harmonic in range(1, 30):
        hertz = harmonic * pitch
        level = np.exp(-(((hertz - low) / 180) ** 2)) + 0.5 * np.exp(-(((hertz - high) / 300) ** 2))
        voiced += (level + 0.02) * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.1 * time + rng.uniform(0, 6)) + 0.4, 0, 1)
    hiss = np.convolve(rng.standard_normal(count), [1, -0.9], mode="same")
    bursts = np.clip(np.sin(2 * np.pi * 1.7 * time + rng.uniform(0, 6)) - 0.7, 0, 1)
    sound = voiced * syllables + hiss * bursts + 0.003 * rng.standard_normal(count)
    return (0.4 * sound / np.abs(sound).max()).astype(np.float32)


def write_clips(folder: Path) -> dict[str, np.ndarray]:
    """Write each clip as 16-bit WAV and return what a reader of the file gets: [S] samples."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = {}
    for seed, (name, seconds) in enumerate(CLIPS.items()):
        pcm = np.round(speech_like(seconds, seed) * 32767).astype("<i2")
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(pcm.tobytes())
        clips[name] = pcm.astype(np.float32) / 32768
    return clips


def sentencepiece_folder(
    folder: Path,
    text: str,
    size: int,
    *,
    kind: str = "bpe",
    tags: tuple[str, ...] = (),
    pad: bool = False,
) -> Path:
    """Train a tokenizer and lay it out as NeMo wants it: model, vocab and vocab.txt.

    With `pad`, piece 2 is `<pad>`, as in the tokenizers of published transducers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.splitlines()),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=size,
        model_type=kind,
        character_coverage=1.0,
        bos_id=-1,
        pad_id=2 if pad else -1,
        eos_id=-1,
        normalization_rule_name="identity",  # the default rule table alone takes 240 kB
        user_defined_symbols=list(tags),
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    shown = [p[1:] if p.startswith("\u2581") else f"##{p}" for p in pieces if p != "<unk>"]
    (folder / "vocab.txt").write_text("\n".join(s for s in shown if s) + "\n", encoding="utf-8")
    return folder


def wordpiece_folder(folder: Path) -> Path:
    """A BERT-style vocabulary: specials, letters, continuations, and a few whole words.

    NeMo asks the hub for `bert-base-cased` whatever the vocabulary; a folder of that name in the
    working directory answers instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(set(ENGLISH.lower()) - set(" \n"))
    words = ["the", "and", "to", "in", "tea", "sea", "road", "light", "##ing", "##er", "##ed"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    pieces += [f"##{c}" for c in letters if c.isalpha()] + words
    stand_in = Path("bert-base-cased")
    stand_in.mkdir(exist_ok=True)
    (stand_in / "config.json").write_text('{"model_type": "bert"}')
    (stand_in / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    for place in (folder, stand_in):
        (place / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return folder
