"""The job of `curation_curator.py` in Auricle, run by `curation.py`.

python benchmarks/curation_auricle.py JOB.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import auricle
from auricle.curation import Pipeline, run
from auricle.curation.pipeline import load_steps
from auricle.curation.readers import Manifest
from auricle.curation.steps.filter import Filter
from auricle.curation.steps.wer import Wer

STEPS = Path(__file__).with_name("curation_steps.py")


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    no_model = load_steps(STEPS)["nomodel"]
    assert isinstance(no_model, type)
    hear = no_model(calls=job["calls"], rows=job["batch"], wait=job["wait"])
    steps = [hear, Wer(), Filter({"wer": {"le": job["limit"] / 100}})]
    pipeline = Pipeline("job", [Manifest(tuple(job["manifests"]))], steps, step_files=[STEPS])
    run(pipeline, Path(job["folder"]) / "out", workers=job["workers"])
    print(json.dumps({"done": time.time(), "version": auricle.__version__}))


if __name__ == "__main__":
    main()
