"""The report of a run: its figures, that rows cannot break it, and how a browser shows it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle import audio
from auricle.curation.report import charts, players, write_report
from auricle.curation.report.advice import advise
from auricle.curation.report.charts import Fall, Flow, text
from auricle.curation.report.figures import Spread, gather, number
from auricle.curation.wording import percent
from auricle.errors import ConfigError
from tests.curation.browser import Page, browser
from tests.curation.synthetic import NASTY, finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = finished_run(tmp_path_factory.mktemp("run"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def small(folder: Path, **changes: Any) -> Path:
    """The folder of a run without any rows."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"name": "small", "read": 0, "made": 0, "cut": 0, "kept": 0, "filtered": 0}
    summary |= {"quarantined": 0, "seconds": {}, "steps": [], **changes}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


class Tags(HTMLParser):
    """The elements of a page, and what it tells people."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


# Figures


def test_figures_are_those_of_the_rows(run: Path) -> None:
    figures = gather(run)
    judged = [r for name in ("manifest", "filtered") for r in rows(run, name) if "wer" in r]
    wers = np.array([r["wer"] for r in judged if r["wer"] is not None])
    assert len(figures.wer) == len(wers)
    assert figures.unjudged == len(judged) - len(wers) > 0
    spread = Spread.of(figures.wer.all)
    assert spread is not None
    assert spread.mean == pytest.approx(wers.mean())
    assert spread.median == pytest.approx(np.median(wers))
    assert spread.deviation == pytest.approx(wers.std(ddof=1))
    kept = [r["wer"] for r in rows(run, "manifest")]
    assert figures.classes["poor"][0] == sum(w > 0.5 for w in kept)
    assert figures.classes["excellent"][0] == sum(w <= 0.1 for w in kept)
    assert sum(map(sum, figures.classes.values())) == len(wers)


def test_the_edges_of_classes_belong_to_the_better_one(tmp_path: Path) -> None:
    run = small(tmp_path)
    wers = (0.1, 0.1001, 0.25, 0.2501, 0.5, 0.5001, 3.0)
    (run / "manifest.jsonl").write_text("".join(f'{{"wer": {wer}}}\n' for wer in wers))
    classes = gather(run).classes
    assert {name: kept for name, (kept, _) in classes.items()} == {
        "excellent": 1,
        "good": 2,
        "fair": 2,
        "poor": 2,
    }


def test_speed_is_that_of_each_model_and_step(run: Path) -> None:
    figures = gather(run)
    work = [
        took
        for record in rows(run, "metrics")
        for step, took in record.get("steps", {}).items()
        if step.endswith("transcribe")
    ]
    assert set(figures.models) == {"nvidia/parakeet-ctc-0.6b", "nvidia/parakeet-tdt-1.1b"}
    for name, found in figures.models.items():
        own = [took for took in work if took["model"] == name]
        audio_seconds = sum(took["audio_seconds"] for took in own)
        seconds = sum(took["seconds"] for took in own)
        assert found.rtfx == pytest.approx(audio_seconds / seconds)
        assert found.pace == pytest.approx(16 * len(own) / seconds)
    assert figures.steps["1-probe"].items == 20 * 16


def test_memory_of_workers_is_added_and_that_of_gpus_is_not(tmp_path: Path) -> None:
    run = small(tmp_path)
    points = [(0, 0, 100, 1000), (1, 1, 200, 1000), (10, 0, 150, 1500), (11, 1, 250, 1500)]
    (run / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"time": t, "host": "h", "worker": w, "device": "cuda:0", "items": 1})[:-1]
            + f', "rss_mb": {rss}, "gpu_mb": {gpu}}}\n'
            for t, w, rss, gpu in points
        )
    )
    memory = gather(run).memory
    assert memory is not None
    assert (
        memory.hosts == {"h": [300.0, 300.0, 300.0, 400.0]}
        or max(v for v in memory.hosts["h"] if v is not None) == 400.0
    )
    assert set(memory.gpus) == {"h cuda:0"}
    assert max(v for v in memory.gpus["h cuda:0"] if v is not None) == 1500.0


def test_a_clock_that_was_set_back_gives_no_negative_time(tmp_path: Path) -> None:
    run = small(tmp_path, read=2, seconds={"read": 60.0})
    times = [1000.0, 1010.0, 500.0, 520.0]
    events = [{"event": "start", "time": times[0]}, {"items": 1, "time": times[1], "seconds": 1}]
    events += [{"event": "start", "time": times[2]}, {"items": 1, "time": times[3], "seconds": 1}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    figures = gather(run)
    assert figures.elapsed == 30.0
    assert write_report(run, sound=False).exists()


def test_drops_in_branches_are_told_once(tmp_path: Path) -> None:
    """By the end of the branches."""
    drop = {"in": 9, "out": 8, "filtered": {"no wer": 1}, "quarantined": {}}
    labels = ("read", "2.10-filter", "3.fast.1-filter", "3.a-b.2-wer", "3-branches")
    run = small(tmp_path, read=9, steps=[{"step": label, **drop} for label in labels])
    figures = gather(run)
    assert [step["step"] for step in figures.trunk] == ["read", "2.10-filter", "3-branches"]


def test_what_is_no_number_is_counted_as_none() -> None:
    assert [number(v) for v in (1, 0.5, True, "1", None, float("nan"), 10**400, 1e308)] == [
        1.0,
        0.5,
        *[None] * 6,
    ]


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no summary\.json"):
        write_report(tmp_path)


# Advice


def test_advice_says_the_figures_that_it_rests_on(run: Path) -> None:
    figures = gather(run)
    found = {advice.title: advice for advice in advise(figures)}
    long = sum(r["duration"] > 40 for r in rows(run, "filtered"))
    segment = found["Segment long recordings before filtering by duration"]
    assert segment.kind == "act"
    assert f"({long})" in segment.because
    assert "duration > 40" in segment.because
    poor = sum(figures.classes["poor"])
    assert f"({poor})" in found["Some transcripts do not belong to their sound"].because
    assert f"{figures.unjudged} of" in found["Rows without a reference were not judged"].because
    assert found["Workers died"].because.startswith("1 time (signal 9 1).")
    kinds = [advice.kind for advice in advise(figures)]
    assert kinds == sorted(kinds, key=("act", "look", "good").index)


def test_a_clean_run_gets_no_reproach(tmp_path: Path) -> None:
    steps = [{"step": "1-probe", "in": 50, "out": 50, "filtered": {}, "quarantined": {}}]
    run = small(tmp_path, read=50, kept=50, steps=steps)
    (run / "manifest.jsonl").write_text('{"wer": 0.02, "duration": 3.0}\n' * 50)
    assert [advice.kind for advice in advise(gather(run))] == ["good"]


def test_a_model_that_does_not_fit_is_told_from_texts_that_do_not(tmp_path: Path) -> None:
    run = small(tmp_path, read=50, kept=50)
    (run / "manifest.jsonl").write_text('{"wer": 0.9}\n' * 50)
    assert [a.title for a in advise(gather(run))] == ["Model and texts do not fit each other"]


@pytest.mark.parametrize(
    ("wers", "titles"),
    [
        ([0.0] * 80 + [0.97] * 20, ["Items differ widely"]),
        ([0.1] * 60 + [0.9] * 60 + [0.0] * 60, ["Items differ widely"]),
        ([0.2] * 99 + [0.6], ["A few texts may not belong"]),
        ([0.01] * 199 + [0.6], ["A few texts may not belong"]),
    ],
)
def test_no_spread_of_word_errors_goes_without_a_word(
    tmp_path: Path, wers: list[float], titles: list[str]
) -> None:
    run = small(tmp_path, read=len(wers), kept=len(wers))
    (run / "manifest.jsonl").write_text("".join(f'{{"wer": {wer}}}\n' for wer in wers))
    found = [advice.title for advice in advise(gather(run))]
    assert all(any(title in one for one in found) for title in titles), found


def test_what_lies_beyond_the_axis_is_labelled(tmp_path: Path) -> None:
    run = small(tmp_path, read=51, kept=51)
    rows = '{"wer": 0.1, "duration": 3.0}\n{"wer": 0.1, "duration": 4.0}\n' * 25
    (run / "manifest.jsonl").write_text(rows + '{"wer": 3.0, "duration": 500.0}\n')
    page = write_report(run).read_text(encoding="utf-8")
    assert "over 100 %</text>" in page
    assert re.search(r">over [\d.]+ s</text>", page)


# The page


def test_the_page_asks_for_nothing_and_runs_nothing(page: str) -> None:
    tags = Tags(page).tags
    assert {tag for tag, _ in tags} & {
        "script",
        "iframe",
        "object",
        "embed",
        "img",
        "form",
    } == set()
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    policy = next(a["content"] for t, a in tags if "Content-Security-Policy" in a.values())
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_key_figures_are_on_the_page(run: Path, page: str) -> None:
    said = " ".join(" ".join(Tags(page).said).split())
    summary = json.loads((run / "summary.json").read_text())
    for figure, what in (
        (f"{summary['read']:,}", "items read"),
        (f"{summary['kept']:,}", f"kept, {percent(summary['kept'] / summary['read'])}"),
        (f"{summary['filtered']:,}", "filtered"),
        (f"{summary['quarantined']:,}", "quarantined"),
    ):
        assert f"{figure} {what}" in said
    for part in ("duration > 40", "standard deviation", "nvidia/parakeet-ctc-0.6b", "excellent"):
        assert part in said
    for step in summary["steps"]:
        assert step["step"] in said


def test_texts_of_rows_are_only_texts(page: str) -> None:
    """Planted in transcripts, details of quarantine, and the pipeline."""
    assert "<script" not in page.lower()
    assert "<img" not in page.lower()
    assert page.count("&lt;script&gt;") >= 3


@pytest.mark.parametrize(
    "planted",
    [
        NASTY,
        "'><svg onload=alert(1)>",
        "</style></title><b>",
        "$body ${title} $$",
        "\u202egnp.exe \u2066x",
        "\x00\x1b[31m\ud800",
        "&lt;b&gt; &amp;",
        "x" * 100_000,
    ],
)
def test_no_key_of_a_row_can_break_the_page(tmp_path: Path, planted: str) -> None:
    row = dict.fromkeys(("audio_filepath", "text", "pred_text", "speaker", "lang"), planted)
    row |= {"item_id": planted, "tier": planted, "wer": 1.5, "duration": 2.0, "confidence": planted}
    fate = {"step": planted, "reason": planted, "detail": planted}
    step = {"step": planted, "in": 3, "out": 1, "filtered": {planted: 1}}
    run = small(
        tmp_path, name=planted, read=3, kept=1, steps=[{**step, "quarantined": {planted: 1}}]
    )
    for name, more in (
        ("manifest", {}),
        ("filtered", {"filtered": fate}),
        ("quarantined", {"quarantined": fate}),
    ):
        (run / f"{name}.jsonl").write_text(json.dumps({**row, **more}) + "\n")
    (run / "curation.json").write_text(json.dumps({planted: planted}))
    record = {"time": 1.0, "host": planted, "worker": planted, "device": planted, "rss_mb": 5.0}
    record["steps"] = {planted: {"items": 1, "seconds": 1.0, "model": planted}}
    events = [record, {"event": "death", "time": 2.0, "detail": planted, planted: planted}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    page = write_report(run).read_text(encoding="utf-8")
    harmless = write_report(small(tmp_path / "other")).read_text(encoding="utf-8")
    known = {tag for tag, _ in Tags(harmless).tags}
    known |= {"svg", "g", "rect", "path", "text", "polyline", "i", "table", "tr", "td", "th"}
    known |= {"details", "summary", "dl", "dt", "dd", "del", "ins", "br", "b", "code", "ul", "li"}
    found = Tags(page)
    assert {tag for tag, _ in found.tags} <= known | {"h3", "div", "span", "audio"}
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    assert len(page) < 200_000


@pytest.mark.parametrize("value", [None, True, [], {}, "x", -1, 1e308, [[1]], {"a": 1}])
def test_values_of_any_kind_make_a_page(tmp_path: Path, value: Any) -> None:
    run = small(tmp_path, read=3, kept=3)
    row = dict.fromkeys(("audio_filepath", "text", "pred_text", "duration", "offset", "wer"), value)
    row |= {"tier": value, "lang": value, "confidence": value, "quarantined": value}
    lines = [json.dumps(row), "[1, 2]", "no json", json.dumps({**row, "wer": 0.5})]
    for name in ("manifest", "filtered", "quarantined"):
        (run / f"{name}.jsonl").write_text("\n".join(lines))
    steps = {"1-probe": dict.fromkeys(("items", "audio_seconds", "seconds", "model"), value)}
    record = dict.fromkeys(("time", "host", "worker", "device", "rss_mb", "gpu_mb"), value)
    (run / "metrics.jsonl").write_text(
        json.dumps({**record, "steps": steps}) + "\n" + json.dumps({"steps": value}) + "\n"
    )
    assert "</html>" in write_report(run, sound=False).read_text()


def test_a_run_that_read_nothing_has_a_report(tmp_path: Path) -> None:
    page = write_report(small(tmp_path)).read_text()
    assert "Nothing stands out." in page
    assert "No item was quarantined" in page


def test_texts_are_escaped_in_attributes_too() -> None:
    assert text("a\"b'c<d>&e") == "a&quot;b&#x27;c&lt;d&gt;&amp;e"
    assert text("12345678", limit=5) == "1234…"


def test_a_share_is_never_rounded_to_none_or_all() -> None:
    assert [percent(s) for s in (0, 1e-6, 0.5, 0.9999, 1)] == [
        "0 %",
        "< 0.1 %",
        "50.0 %",
        "> 99.9 %",
        "100 %",
    ]


def test_the_flow_is_drawn_to_scale() -> None:
    steps = [Flow("1-a", 1000, 750, [Fall("filtered", "why", 250)]), Flow("2-b", 750, 750, [])]
    drawn = charts.flow(steps, "read", "kept")
    (bar,) = re.findall(r'<rect class="filtered"[^>]* width="([\d.]+)"', drawn)
    edges = re.findall(r'class="kept" d="M170 [\d.]+H([\d.]+)', drawn)
    widths = [float(edge) - 170 for edge in edges]
    assert widths[1] == pytest.approx(0.75 * widths[0], abs=0.1)
    assert float(bar) == pytest.approx(0.25 * widths[0], abs=0.1)


# Players


def test_worst_items_can_be_heard(page: str, tmp_path: Path) -> None:
    sounds = [a["src"] for tag, a in Tags(page).tags if tag == "audio"]
    assert len(sounds) >= 4
    kind, _, content = (sounds[0] or "").partition(",")
    assert kind == "data:audio/mpeg;base64"
    samples = audio.read(base64.b64decode(content))
    assert len(samples) / 16000 == pytest.approx(1.5, abs=0.05)
    assert np.abs(samples).max() == pytest.approx(0.2, rel=0.2)


def test_sounds_that_are_long_damaged_or_gone_have_no_player(run: Path, tmp_path: Path) -> None:
    good = {"audio_filepath": str(run / "tone.wav"), "duration": 1.5}
    (tmp_path / "bad.wav").write_bytes(b"RIFF of nothing")
    items = [
        {**good, "duration": 31.0},
        {**good, "audio_filepath": "bad.wav"},
        {**good, "audio_filepath": "gone.wav"},
        {**good, "audio_filepath": 7},
        {"duration": 1.0},
        good,
    ]
    found = players.data_uris(items, tmp_path)
    assert [clip is not None for clip in found] == [False] * 5 + [True]


def test_players_together_have_a_limit(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"audio_filepath": str(run / "tone.wav"), "duration": 1.5}
    size = len(players.data_uris([good], run)[0] or "")
    monkeypatch.setattr(players, "TOTAL_BYTES", 2 * size + 10)
    found = players.data_uris([good] * 4, run)
    assert [clip is not None for clip in found] == [True, True, False, False]


def test_a_sound_that_hangs_or_kills_costs_only_players(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"audio_filepath": str(run / "tone.wav"), "duration": 1.5}
    real = subprocess.run

    def hangs(command: list[str], **options: Any) -> Any:
        assert options["timeout"] == players.PATIENCE
        done = real(command, **options)
        raise subprocess.TimeoutExpired(command, players.PATIENCE, output=done.stdout)

    monkeypatch.setattr(subprocess, "run", hangs)
    (clip,) = players.data_uris([good], run)
    assert clip is not None

    def dies(command: list[str], **options: Any) -> Any:
        program = command[2].replace(
            "; answer()", "; print('[0,', end='', flush=True); import os; os.abort()"
        )
        return real([*command[:2], program], **options)

    monkeypatch.setattr(subprocess, "run", dies)
    assert players.data_uris([good], run) == [None]


# In a browser


@pytest.fixture(scope="module")
def shown(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.open(run / "report.html")
        yield page


def test_a_browser_shows_the_figures_and_complains_of_nothing(run: Path, shown: Page) -> None:
    said = " ".join(shown.ask("document.body.innerText").split())
    summary = json.loads((run / "summary.json").read_text())
    assert f"{summary['kept']} kept, {percent(summary['kept'] / summary['read'])}" in said
    assert "duration > 40" in said
    assert shown.complaints() == []
    assert [url[:5] for url in shown.requests() if not url.startswith("data:")] == ["file:"]


def test_what_was_planted_in_rows_does_nothing_in_a_browser(shown: Page) -> None:
    assert shown.ask("document.title") == "clean: curation"
    assert shown.ask("document.querySelectorAll('script, img').length") == 0
    assert "<script>document.title" in shown.ask("document.body.innerText")


def test_a_browser_plays_the_worst_items(shown: Page) -> None:
    heard = shown.ask(
        "new Promise(done => {"
        "  const sound = document.querySelector('audio');"
        "  sound.onended = () => done([sound.duration, sound.error]);"
        "  sound.onerror = () => done([0, sound.error.message]);"
        "  sound.play().catch(error => done([0, String(error)]));"
        "})"
    )
    assert heard[1] is None
    assert heard[0] == pytest.approx(1.5, abs=0.2)


def test_the_page_fits_wide_and_narrow_screens(shown: Page, tmp_path: Path) -> None:
    for width in (1200, 400):
        shown.picture(tmp_path / "page.png", dark=False, width=width)
        assert shown.ask("document.documentElement.scrollWidth") <= width


def test_pictures_are_neither_blank_nor_the_same_in_light_and_dark(
    shown: Page, tmp_path: Path
) -> None:
    light, dark = (
        pixels(shown.picture(tmp_path / f"{dark}.png", dark=dark)) for dark in (False, True)
    )
    for picture in (light, dark):
        height, width, _ = picture.shape
        assert (height > 2000, width) == (True, 1200)
        colours = np.unique(picture[::7, ::7].reshape(-1, 3), axis=0)
        assert len(colours) > 30
        rows_with_content = (picture != picture[:, :1]).any(axis=(1, 2)).mean()
        assert rows_with_content > 0.8
    assert light.mean() > 200
    assert dark.mean() < 70
    # The bands of what is kept and of each class of quality are there in their colours.
    for colour in ((0x2F, 0x7D, 0x7A), (0xD3, 0x9A, 0x35), (0x2C, 0x8A, 0x5F), (0xC9, 0x50, 0x3F)):
        assert (np.abs(light.astype(int) - colour).max(axis=2) <= 2).sum() > 200


def pixels(path: Path) -> np.ndarray[Any, Any]:
    import av

    with av.open(str(path)) as picture:
        return next(picture.decode(video=0)).to_ndarray(format="rgb24")
