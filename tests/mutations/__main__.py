"""Many cases by command: prints what is not allowed, then counts and the slowest."""

from __future__ import annotations

import argparse
import collections
import sys

from tests.mutations.running import Outcome, run

SLOW = 5.0  # seconds of processor time


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kind", action="append", default=[], help="only this kind; repeatable")
    parser.add_argument("--case", type=int, action="append", help="only this number; repeatable")
    parser.add_argument("-v", action="store_true", help="every outcome")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    faults = 0
    for outcome in run(
        options.count,
        options.seed,
        workers=options.workers,
        only=options.kind,
        numbers=options.case,
    ):
        outcomes.append(outcome)
        fault = outcome.fault or ("slow" if outcome.seconds > SLOW else "")
        faults += bool(fault)
        if fault or options.v:
            print(
                f"{outcome.kind} {outcome.number} [{outcome.what}] {outcome.seconds:.1f} s "
                f"{outcome.megabytes:.0f} MB: {fault or 'allowed'}; {outcome.ended}",
                flush=True,
            )
    counts = collections.Counter(o.fault or o.ended.partition(":")[0] for o in outcomes)
    slowest = max(outcomes, key=lambda o: o.seconds)
    largest = max(outcomes, key=lambda o: o.megabytes)
    print(f"{len(outcomes)} cases, {faults} not allowed: {dict(counts.most_common(40))}")
    print(f"slowest: {slowest.kind} {slowest.number}, {slowest.seconds:.1f} s of processor time")
    print(f"largest: {largest.kind} {largest.number}, {largest.megabytes:.0f} MB above the start")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
