from __future__ import annotations

import cmath
import math
from dataclasses import replace

import pytest
import torch

from auricle.errors import ConfigError
from auricle.features import LogMel, LogMelConfig, mel_filterbank

TINY = LogMelConfig(
    sample_rate=400, n_mels=4, n_fft=16, win_length=12, hop_length=4, normalize=None
)


def noise(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(len(lengths), max(lengths), generator=generator) * 0.1
    return samples, torch.tensor(lengths)


def slowly(config: LogMelConfig, samples: list[float]) -> list[list[float]]:
    """Log-mel by its definition, frame by frame: [T][M]."""
    a = config.preemphasis or 0.0
    x = [samples[0]] + [samples[i] - a * samples[i - 1] for i in range(1, len(samples))]
    n, w = config.n_fft, config.win_length
    lead = (n - w) // 2
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / (w - 1)) for i in range(w)]
    bank = mel_filterbank(config).tolist()
    frames = []
    for t in range(len(samples) // config.hop_length):
        start = t * config.hop_length - n // 2
        power = []
        for f in range(n // 2 + 1):
            total = 0j
            for i in range(w):
                at = start + lead + i
                if 0 <= at < len(x):
                    total += x[at] * hann[i] * cmath.exp(-2j * math.pi * f * (lead + i) / n)
            power.append(abs(total) ** 2)
        frames.append(
            [
                math.log(sum(b * p for b, p in zip(row, power, strict=True)) + config.log_guard)
                for row in bank
            ]
        )
    return frames


def test_equals_the_definition():
    samples, lengths = noise(83)
    features, frames = LogMel(TINY).eval()(samples, lengths)
    expected = torch.tensor(slowly(TINY, samples[0].tolist()))  # [T, M]
    assert frames.tolist() == [20]
    assert torch.allclose(features[0, :, :20].T, expected, atol=1e-4)
    assert not features[0, :, 20:].any()


@pytest.mark.parametrize("normalize", ["per_feature", "all_features", None])
@pytest.mark.parametrize("exact", [False, True])
def test_padding_changes_nothing(normalize, exact):
    net = LogMel(LogMelConfig(normalize=normalize, exact_pad=exact)).eval()
    samples, lengths = noise(9000, 16000, 700)
    together, frames = net(samples, lengths)
    for i, (n, t) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone, count = net(samples[i : i + 1, :n], lengths[i : i + 1])
        assert count.tolist() == [t]
        # Where padding follows, the last window hears none of it.
        assert torch.allclose(together[i, :, :t], alone[0, :, :t], atol=1e-4)
        assert not together[i, :, t:].any()


def test_normalisation_has_no_mean_and_unit_deviation():
    samples, lengths = noise(16000, 8000)
    each, frames = LogMel(LogMelConfig()).eval()(samples, lengths)
    both, _ = LogMel(LogMelConfig(normalize="all_features")).eval()(samples, lengths)
    for a, b, t in zip(each, both, frames.tolist(), strict=True):
        assert torch.allclose(a[:, :t].mean(1), torch.zeros(80), atol=1e-4)
        assert torch.allclose(a[:, :t].std(1), torch.ones(80), atol=1e-3)
        assert float(b[:, :t].mean()) == pytest.approx(0, abs=1e-4)
        assert float(b[:, :t].std()) == pytest.approx(1, abs=1e-3)


def test_fixed_normalisation():
    plain = replace(TINY, n_mels=2)
    fixed = replace(plain, normalize=((1.0, 2.0), (0.5, 4.0)))
    samples, lengths = noise(83)
    bare, _ = LogMel(plain).eval()(samples, lengths)
    got, _ = LogMel(fixed).eval()(samples, lengths)
    expected = (bare - torch.tensor([[1.0], [2.0]])) / torch.tensor([[0.5], [4.0]])
    assert torch.allclose(got[:, :, :20], expected[:, :, :20], atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 159, 160, 161, 319, 320])
def test_hardly_any_sound_is_finite(length):
    samples = torch.ones(1, max(1, length))
    features, frames = LogMel(LogMelConfig()).eval()(samples, torch.tensor([length]))
    assert frames.tolist() == [length // 160]
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("samples", [1600, 16000, 1599])
def test_pads_to_a_multiple(samples):
    net = LogMel(LogMelConfig(pad_to=16, pad_value=-1.0)).eval()
    features, frames = net(*noise(samples))
    assert features.shape[2] % 16 == 0
    assert features.shape[2] - int(frames[0]) <= 16
    assert (features[:, :, int(frames[0]) :] == -1.0).all()


def test_dither_in_training_alone():
    net = LogMel(LogMelConfig(dither=0.01))
    clip = noise(1600)
    assert torch.equal(net.eval()(*clip)[0], net(*clip)[0])
    assert not torch.equal(net.train()(*clip)[0], net(*clip)[0])


def test_guard_and_power():
    silence = torch.zeros(1, 1600), torch.tensor([1600])
    added, _ = LogMel(LogMelConfig(normalize=None)).eval()(*silence)
    assert float(added[0, 0, 0]) == pytest.approx(math.log(2**-24), abs=1e-5)
    clamped = LogMelConfig(normalize=None, log_guard_type="clamp", log_guard=0.25)
    assert float(LogMel(clamped).eval()(*silence)[0][0, 0, 0]) == pytest.approx(math.log(0.25))
    clip = noise(83)
    power, _ = LogMel(replace(TINY, log=False)).eval()(*clip)
    magnitude, _ = LogMel(replace(TINY, log=False, mag_power=1.0)).eval()(*clip)
    flat = replace(TINY, log=False, mag_power=4.0)
    assert (power > 0).any()
    assert not torch.allclose(power, magnitude)
    assert float(LogMel(flat).eval()(*clip)[0].sum()) != float(power.sum())


def test_filters_are_slaneys():
    bank = mel_filterbank(LogMelConfig())
    assert bank.shape == (80, 257)
    peaks = bank.argmax(1) * 16000 / 512
    assert (peaks.diff() >= 0).all()
    # The scale is linear up to 1 kHz, so that the first peaks lie evenly.
    assert float(peaks[20] - peaks[0]) == pytest.approx(20 * 37.2, rel=0.05)
    # With areas normed, each triangle's integral over Hz is one, as far as bins can tell.
    areas = bank.sum(1) * 16000 / 512
    assert torch.allclose(areas[60:], torch.ones(20), atol=0.01)
    tall = mel_filterbank(LogMelConfig(mel_norm=None, n_mels=20))
    assert float(tall.max()) == pytest.approx(1.0, abs=0.05)
    narrow = mel_filterbank(LogMelConfig(fmin=300.0, fmax=3400.0))
    assert not narrow[:, :9].any()
    assert not narrow[:, 110:].any()


def test_stays_in_full_precision():
    net = LogMel(LogMelConfig()).eval()
    window = net.window.clone()
    net.to(torch.bfloat16)
    net.half()
    assert torch.equal(net.window, window)
    assert net(*noise(1600))[0].dtype == torch.float32
    assert net.to("meta").window.device.type == "meta"


def test_frame_splicing_repeats_as_nemo_does():
    features, _ = LogMel(replace(TINY, frame_splicing=3)).eval()(*noise(83))
    assert features.shape[1] == 12
    assert torch.equal(features[:, :4], features[:, 8:])


@pytest.mark.parametrize("window", ["hann", "hamming", "blackman", "bartlett", "none"])
def test_windows_are_symmetric(window):
    values = LogMel(LogMelConfig(window=window)).window
    assert torch.allclose(values, values.flip(0), atol=1e-6)
    assert float(values.max()) == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "kaiser"}, "window 'kaiser'"),
        ({"win_length": 600}, "longer than n_fft 512"),
        ({"log_guard_type": "max"}, "log_guard_type 'max'"),
        ({"normalize": "NA"}, "normalize 'NA'"),
        ({"mel_norm": "l1"}, "mel_norm 'l1'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ConfigError, match=message):
        LogMelConfig(**options)


def in_pieces(mel: LogMel, samples: torch.Tensor, hops: list[int]) -> torch.Tensor:
    """Features of one stream [1, S], so many hops at a time, beginning `ahead` before frame 0."""
    hop, total = mel.config.hop_length, samples.shape[1]
    at = mel.ahead - hop
    before = torch.zeros(1, mel.overlap)
    lead = torch.nn.functional.pad(samples, (max(0, -at), sum(hops) * hop))
    offset = max(0, -at)
    before = torch.cat([before, lead[:, : at + offset]], dim=1)[:, -mel.overlap :]
    pieces = []
    for count in hops:
        window = lead[:, at + offset : at + offset + count * hop]
        stops = torch.tensor([total - at])
        piece, before = mel.step(window, before, stops)
        pieces.append(piece)
        at += count * hop
    return torch.cat(pieces, dim=2)


@pytest.mark.parametrize("preemphasis", [0.97, None])
@pytest.mark.parametrize("normalize", [None, ((0.5,) * 80, (2.0,) * 80)])
@pytest.mark.parametrize("hops", [[1] * 60, [60], [7, 1, 30, 22], [59, 1]])
def test_steps_are_the_whole(preemphasis, normalize, hops):
    mel = LogMel(LogMelConfig(preemphasis=preemphasis, normalize=normalize)).eval()
    for length in (160 * 50 + 37, 160 * 20, 161, 160 * 60):
        samples, lengths = noise(length)
        whole, frames = mel(samples, lengths)
        n = int(frames[0])
        stepped = in_pieces(mel, samples, hops)
        assert (stepped[:, :, :n] - whole[:, :, :n]).abs().max() <= 1e-6


def test_steps_of_another_geometry():
    mel = LogMel(replace(TINY, n_fft=15, win_length=11)).eval()
    samples, lengths = noise(400)
    whole, frames = mel(samples, lengths)
    stepped = in_pieces(mel, samples, [1] * int(frames[0]))
    assert (stepped - whole[:, :, : int(frames[0])]).abs().max() <= 1e-5


@pytest.mark.parametrize("options", [{"normalize": "per_feature"}, {"exact_pad": True}])
def test_steps_need_frames_of_their_own(options):
    mel = LogMel(replace(LogMelConfig(normalize=None), **options))
    assert not mel.can_step
    with pytest.raises(ConfigError, match="whole recording"):
        mel.step(torch.zeros(1, 160), torch.zeros(1, mel.overlap))


@pytest.mark.parametrize("normalize", ["per_feature", "all_features"])
def test_digital_silence_is_the_same_whatever_the_padding(normalize):
    mel = LogMel(LogMelConfig(normalize=normalize)).eval()
    samples = torch.zeros(2, 16000 * 30)
    alone, _ = mel(samples[:1, :16000], torch.tensor([16000]))
    padded, _ = mel(samples, torch.tensor([16000, 16000 * 30]))
    assert (padded[0, :, : alone.shape[2]] - alone[0]).abs().max() <= 0.02
