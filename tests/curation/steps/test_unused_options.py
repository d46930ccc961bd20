"""Options that would have no effect are refused: nobody should believe that they had."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from auricle.curation.choosing import Wanted
from auricle.curation.steps.align import Align
from auricle.curation.steps.cascade import Cascade
from auricle.curation.steps.charset import Charset
from auricle.curation.steps.ensemble import Ensemble
from auricle.curation.steps.segment import Segment
from auricle.curation.steps.select import Select
from auricle.curation.steps.transcribe import Transcribe
from auricle.errors import ConfigError

A, B = Transcribe("a"), Transcribe("b")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Transcribe("tiny", wanted=Wanted()), "wanted is for model: auto, not for tiny"),
        (lambda: Align("tiny", wanted=Wanted()), "wanted is for model: auto, not for tiny"),
        (lambda: Cascade((A, B), confidence=0.5, reference="said"), "reference .* without wer"),
        (lambda: Cascade((A, Transcribe("b", into="x")), confidence=0.5), "into has no effect"),
        (lambda: Cascade((A, Transcribe("b", tier=7)), confidence=0.5), "tier has no effect"),
        (lambda: Ensemble({"a": A, "b": B}, reference="said"), "reference has no effect by vote"),
        (lambda: Ensemble({"a": A, "b": Transcribe("b", into="x")}), "into has no effect"),
        (lambda: Select(("a", "b"), reference="said"), "reference has no effect by confidence"),
        (lambda: Segment(vad="energy", threshold=0.7), "threshold has no effect with vad: energy"),
        (lambda: Segment(vad="energy", format="wav"), "format has no effect without write"),
        (lambda: Charset(scripts=["latin"], lang="code"), "lang has no effect with scripts"),
        (lambda: Charset(most=0.5), "most has no effect without drop"),
    ],
)
def test_an_option_without_effect_is_refused(made: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made()


def test_what_has_an_effect_is_taken() -> None:
    assert Align("auto", wanted=Wanted()).unsettled and Transcribe("auto", wanted=Wanted()).wanted
    assert Cascade((A, B), wer=0.5, reference="said").nodes()
    assert Charset(most=0.5, drop=True) and Segment(vad="energy", write=True, format="wav")
