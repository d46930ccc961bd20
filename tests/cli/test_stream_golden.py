"""`auricle stream` as a program, on checkpoints that NeMo wrote: every way to the same words."""

from __future__ import annotations

import json
import subprocess
import wave
from pathlib import Path

import pytest

import auricle
from auricle import audio
from tests.cli.conftest import Run, start
from tests.conftest import GOLDEN
from tests.patience import PATIENCE

MODEL = GOLDEN / "nemo" / "streaming_hybrid.nemo"
CLIPS = [GOLDEN / "wav" / f"{name}.wav" for name in ("syllable", "phrase", "talk")]


@pytest.fixture(scope="module")
def streamed() -> dict[Path, auricle.Transcript]:
    """Each clip in one push."""
    asr = auricle.load(MODEL)
    transcripts = {}
    for clip in CLIPS:
        stream = asr.stream(lookahead=1)
        stream.push(audio.read(clip))
        transcripts[clip] = stream.finish()
    assert len({t.text for t in transcripts.values()}) == 3
    return transcripts


def program(*words: str | Path, data: bytes | None = None) -> tuple[int, str, str]:
    run = start(*words, stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL)
    if data is not None:
        assert run.stdin is not None
        run.stdin.buffer.write(data)
        run.stdin.close()
        run.stdin = None
    out, err = run.communicate(timeout=PATIENCE)
    return run.returncode, out, err


def test_a_file_by_a_process(streamed: dict, tmp_path: Path) -> None:
    out = tmp_path / "talk.json"
    words = ("stream", CLIPS[2], "-m", MODEL, "--latency-ms", "160", "--fast", "-o", out)
    code, shown, err = program(*words)
    expected = streamed[CLIPS[2]]
    assert (code, err) == (0, "")
    assert shown.splitlines() == [segment.text for segment in expected.segments]
    written = auricle.Transcript.from_dict(json.loads(out.read_text()))
    assert written.text == expected.text
    assert [w.text for w in written.words] == [w.text for w in expected.words]
    assert [w.start for w in written.words] == pytest.approx([w.start for w in expected.words])


def test_raw_samples_by_a_process(streamed: dict) -> None:
    with wave.open(str(CLIPS[2])) as file:
        data = file.readframes(file.getnframes())
    code, shown, err = program("stream", "-", "-m", MODEL, "--lookahead", "1", "-q", data=data)
    assert (code, err) == (0, "")
    assert shown.splitlines() == [segment.text for segment in streamed[CLIPS[2]].segments]


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_rows_do_not_hear_each_other(run: Run, streamed: dict, tmp_path: Path, batch: int) -> None:
    clips = [CLIPS[2], CLIPS[0], CLIPS[1], CLIPS[0], CLIPS[2]]
    rows = [
        {"audio_filepath": str(c), "text": streamed[c].text, "n": n} for n, c in enumerate(clips)
    ]
    manifest, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--fast", "--batch", str(batch), "--lookahead", "1", "-m", MODEL, "-o", out)
    code, _, err = run("stream", manifest, *words)
    assert code == 0 and err.startswith("auricle: WER 0.00 % ")
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["n"], row["pred_text"]) for row in written] == [
        (n, streamed[clip].text) for n, clip in enumerate(clips)
    ]
    # A chunk is 160 ms, the features need 12.5 ms more, and a block is 20 ms.
    heard = [row["latency"]["shown_audio"]["median"] for row in written if row["latency"]]
    assert heard and max(heard) <= 160 + 12.5 + 20


def test_a_model_that_was_not_trained_to_stream(run: Run, tmp_path: Path) -> None:
    words = ("-m", GOLDEN / "nemo" / "parakeet_tdt.nemo", "--fast", "--report")
    code, out, err = run("stream", CLIPS[2], *words, "--latency-ms", "2000")
    assert code == 0 and out.strip() and "latency of" in err
    code, out, err = run("stream", CLIPS[2], *words, "--latency-ms", "10")
    assert (code, out) == (2, "") and "needs at least" in err and err.count("\n") == 1


def test_latencies_that_are_not_there_are_listed(run: Run) -> None:
    for words in (("--latency-ms", "70"), ("--lookahead", "5")):
        code, out, err = run("stream", CLIPS[0], "-m", MODEL, "--fast", *words)
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert "320, 160, 80" in err and "3, 1, 0" in err
    assert (
        run("stream", CLIPS[0], "-m", MODEL, "--fast", "--latency-ms", "240", "--untrained")[0] == 0
    )
