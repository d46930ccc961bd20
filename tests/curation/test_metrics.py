"""`metrics.jsonl` is whole lines, whatever a kill left; memory is measured."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from auricle.curation.metrics import MetricsLog, gpu_mb, read_metrics, rss_mb


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.append({"event": "start", "text": "zwölf\n"})
        log.append({"items": 3})
    with MetricsLog(path) as log:
        log.append({"event": "end"})
    assert list(read_metrics(path)) == [
        {"event": "start", "text": "zwölf\n"},
        {"items": 3},
        {"event": "end"},
    ]


def test_a_line_that_a_kill_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"items":1}\n{"items":2,"sec')
    with MetricsLog(path) as log:
        log.append({"items": 3})
    assert list(read_metrics(path)) == [{"items": 1}, {"items": 3}]


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'[1]\n\xff\xfe\n\n{"items":1}\n7\n')
    assert list(read_metrics(path)) == [{"items": 1}]
    assert list(read_metrics(tmp_path / "none.jsonl")) == []


def test_two_writers_mix_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"

    def write(number: int) -> None:
        with MetricsLog(path) as log:
            for i in range(200):
                log.append({"writer": number, "i": i, "filling": "x" * 500})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = list(read_metrics(path))
    for number in range(4):
        assert [r["i"] for r in records if r["writer"] == number] == list(range(200))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the most so far, or nothing")
def test_memory_grows_by_what_is_taken() -> None:
    before = rss_mb()
    held = bytearray(b"x" * 50_000_000)
    after = rss_mb()
    assert before is not None
    assert after is not None
    assert 40 < after - before < 90
    assert len(held) == 50_000_000


def test_a_cpu_has_no_gpu_memory() -> None:
    assert gpu_mb("cpu") is None


def test_a_gpus_memory_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6 * 10**9, 24 * 10**9))
    assert gpu_mb("cuda:0") == 18_000.0
