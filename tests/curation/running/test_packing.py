from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auricle.curation.running.packing import SPARE, packed
from auricle.errors import ConfigError


def test_what_fits_is_everywhere() -> None:
    places = packed({"a": 4.0, "b": 3.0}, {"cuda:0": 24.0, "cuda:1": 24.0})
    assert places == {"a": ("cuda:0", "cuda:1"), "b": ("cuda:0", "cuda:1")}


def test_large_models_share_out_the_devices() -> None:
    places = packed({"a": 14.0, "b": 12.0, "c": 5.0}, {"cuda:0": 24.0, "cuda:1": 24.0})
    assert places == {"a": ("cuda:0",), "b": ("cuda:1",), "c": ("cuda:0", "cuda:1")}


def test_what_fits_nowhere_is_refused_with_the_figures() -> None:
    with pytest.raises(ConfigError, match=r"big needs 30.0 GB, and there is cuda:0 with 24.0 GB"):
        packed({"big": 30.0, "a": 1.0}, {"cuda:0": 24.0})
    with pytest.raises(ConfigError, match=r"the models need 24.0 GB together"):
        packed({"a": 12.0, "b": 12.0}, {"cuda:0": 24.0})


@given(
    needs=st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 30), min_size=1),
    sizes=st.lists(st.floats(1, 40), min_size=1, max_size=4),
)
def test_no_device_is_overfull(needs: dict[str, float], sizes: list[float]) -> None:
    capacity = {f"cuda:{i}": size for i, size in enumerate(sizes)}
    try:
        places = packed(needs, capacity)
    except ConfigError:
        assert sum(needs.values()) > max(sizes) * (1 - SPARE)
        return
    assert set(places) == set(needs) and all(places.values())
    for device, size in capacity.items():
        on_it = sum(need for stage, need in needs.items() if device in places[stage])
        assert on_it <= size * (1 - SPARE) + 1e-9
