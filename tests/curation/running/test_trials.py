from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auricle.curation.engines import TIMEOUT
from auricle.curation.running.trials import DIED, ROUNDS, Members, Trial

DEATH = "signal 9"


def play(trial: Trial, bad: dict[int, str], shared: int = 0) -> list[Members]:
    """Let a trial run; `bad` are items that kill, hang or raise, and the first `shared` batches of
    several items die whatever is in them. Gives what was tried."""
    tried: list[Members] = []
    todo = trial.start()
    while todo:
        members = todo.pop(0)
        tried.append(members)
        kinds = [bad[i] for i in members if i in bad]
        if len(members) > 1 and shared > 0:
            shared -= 1
            kinds = [DEATH]
        if not kinds:
            todo += trial.done(members, members)
        elif kinds[0] == "raises":
            todo += trial.failed(members, "ValueError", "no", 1)
        else:
            todo += trial.died(members, kinds[0], 2)
    assert trial.finished
    return tried


def notes(size: int, known: list[Any]) -> Trial:
    return Trial(size, known.append, list(known))


def test_a_good_batch_is_worked_on_once() -> None:
    trial = notes(3, [])
    assert play(trial, {}) == [(0, 1, 2)]
    assert trial.parts == [((0, 1, 2), (0, 1, 2))] and not trial.guilty


def test_an_item_that_kills_is_charged_alone_and_the_others_are_a_batch() -> None:
    trial = notes(3, [])
    tried = play(trial, {1: DEATH})
    assert tried == [(0, 1, 2), (0,), (1,), (2,), (1,), (0, 2)]
    assert trial.parts == [((0, 2), (0, 2))]
    assert trial.guilty[1].reason == DIED and trial.guilty[1].step == 2


def test_an_item_that_raises_is_guilty_at_once() -> None:
    trial = notes(2, [])
    assert play(trial, {0: "raises"}) == [(0, 1), (0,), (1,), (1,)]
    assert trial.guilty[0].reason == "ValueError" and trial.guilty[0].step == 1


def test_a_batch_of_one_needs_two_deaths() -> None:
    trial = notes(1, [])
    assert play(trial, {0: TIMEOUT}) == [(0,), (0,)]
    assert trial.guilty[0].reason == TIMEOUT and trial.parts == []


def test_a_kill_from_outside_charges_nobody() -> None:
    trial = notes(2, [])
    assert play(trial, {}, shared=1) == [(0, 1), (0,), (1,), (0, 1)]
    assert trial.parts == [((0, 1), (0, 1))] and not trial.guilty


def test_a_batch_that_never_passes_is_taken_item_by_item_in_the_end() -> None:
    trial = notes(2, [])
    tried = play(trial, {}, shared=10**6)
    assert tried.count((0, 1)) == ROUNDS
    assert trial.parts == [((0,), (0,)), ((1,), (1,))] and not trial.guilty


def test_a_hang_is_told_even_if_one_death_came_from_outside() -> None:
    trial = notes(1, [])
    trial.start()
    assert trial.died((0,), TIMEOUT, 3) == [(0,)]
    assert trial.died((0,), DEATH, 0) == []
    assert (trial.guilty[0].reason, trial.guilty[0].step) == (TIMEOUT, 3)


@given(
    size=st.integers(1, 6),
    bad=st.dictionaries(st.integers(0, 5), st.sampled_from([DEATH, TIMEOUT, "raises"])),
    outside=st.integers(0, ROUNDS - 1),
    seed=st.integers(0, 10**6),
)
def test_the_end_is_the_same_whatever_is_killed(
    size: int, bad: dict[int, str], outside: int, seed: int
) -> None:
    """Drivers end at random moments, workers with several items too, tasks in any order."""
    bad = {i: kind for i, kind in bad.items() if i < size}
    quiet = notes(size, [])
    play(quiet, bad)
    luck, known = random.Random(seed), list[Any]()
    trial, drivers = notes(size, known), 12
    todo = trial.start()
    while todo:
        if drivers and luck.random() < 0.2:
            drivers -= 1
            trial = notes(size, known)
            todo = trial.start()
            continue
        members = todo.pop(luck.randrange(len(todo)))
        kinds = [bad[i] for i in members if i in bad]
        if not kinds and len(members) > 1 and outside and luck.random() < 0.5:
            outside -= 1
            kinds = [DEATH]
        if not kinds:
            todo += trial.done(members, members)
        elif kinds[0] == "raises":
            todo += trial.failed(members, "ValueError", "no", 1)
        else:
            todo += trial.died(members, kinds[0], 2)
    assert trial.finished
    assert trial.guilty == quiet.guilty
    assert trial.parts == quiet.parts


@pytest.mark.parametrize("broken_off", range(9))
def test_it_goes_on_from_any_note(broken_off: int) -> None:
    whole: list[Any] = []
    quiet = notes(3, whole)
    play(quiet, {0: DEATH, 2: TIMEOUT})
    again = notes(3, whole[:broken_off])
    play(again, {0: DEATH, 2: TIMEOUT})
    assert again.guilty == quiet.guilty and again.parts == quiet.parts
