"""One job of NeMo Curator's own audio stages, run by the reference Python for `curation.py`.

    CURATOR_PYTHON benchmarks/curation_curator.py JOB.json      # runs the job
    CURATOR_PYTHON benchmarks/curation_curator.py cluster       # a Ray cluster until input ends

The stages are `ManifestReader`, a stage that stands for speech recognition and only copies a key,
`GetPairwiseWerStage`, `PreserveByValueStage` and `ManifestWriterStage`, each with the batch size
that it has by default but for the stand-in, which takes as many rows as Auricle's.

What is not as in a production run, and why:

- `RayDataExecutor` runs the job. The default, Xenna, is made for nodes with GPUs.
- Where nemo-toolkit is not installed, the one function that `GetPairwiseWerStage` takes from it,
  `word_error_rate_detail`, is a stand-in of the published formula, and `nemo_text_processing`,
  which that stage imports and does not use, an empty one. Both make Curator faster and smaller.
- Ray is told of four CPUs whatever there are: with two, a resumed job waits for ever.
- The dashboard and the usage statistics stay off. A job that may be resumed needs a cluster that
  outlives it (`checkpoint_path` refuses without), which is what `cluster` is for.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

CPUS = 4
RAY_SETTINGS = {
    "RAY_AUTH_MODE": "disabled",  # else it writes a token into the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "LOGURU_LEVEL": "WARNING",
}
STAND_INS = {
    "nemo/collections/asr/metrics/wer.py": '''
def word_error_rate_detail(hypotheses, references, use_cer=False):
    """(Word errors over words, words, and the rates of insertions, deletions, substitutions)."""
    errors = words = 0
    for hypothesis, reference in zip(hypotheses, references):
        said, meant = hypothesis.split(), reference.split()
        words += len(meant)
        row = list(range(len(said) + 1))
        for i, word in enumerate(meant, 1):
            diagonal, row[0] = row[0], i
            for j, other in enumerate(said, 1):
                diagonal, row[j] = row[j], min(
                    row[j] + 1, row[j - 1] + 1, diagonal + (word != other)
                )
        errors += row[-1]
    return errors / words if words else float("inf"), words, 0.0, 0.0, 0.0
''',
    "nemo_text_processing/text_normalization/__init__.py": "class Normalizer: ...\n",
}


def main() -> None:
    stand_in(Path(tempfile.gettempdir()) / "curation_stand_ins")
    os.environ.update(RAY_SETTINGS)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    if sys.argv[1] == "cluster":
        with client():
            print(json.dumps({"address": os.environ["RAY_ADDRESS"]}), file=answers, flush=True)
            sys.stdin.read()
        return
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["address"]:
        os.environ["RAY_ADDRESS"] = job["address"]
    with nullcontext() if job["address"] else client():
        run(job)
        done = time.time()  # before the cluster is stopped, which takes seconds more
    import nemo_curator
    import ray

    version = f"{nemo_curator.__version__}, Ray {ray.__version__}"
    print(json.dumps({"done": done, "version": version}), file=answers, flush=True)


def stand_in(folder: Path) -> None:
    """Write the stand-ins for what is not installed, where Ray's workers find them too."""
    for path, source in STAND_INS.items():
        package = path.split("/", maxsplit=1)[0]
        if importlib.util.find_spec(package) is not None:
            continue
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        parent = file.parent
        while parent != folder:  # a package at every level
            (parent / "__init__.py").touch()
            parent = parent.parent
    if folder.exists():
        sys.path.insert(0, str(folder))
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(folder) + (f"{os.pathsep}{before}" if before else "")


def client() -> Any:
    """Curator's own way to a Ray cluster on one node."""
    from nemo_curator.core.client import RayClient

    folder = tempfile.gettempdir() + "/curation_ray"  # short: sockets' paths are limited
    return RayClient(num_cpus=CPUS, include_dashboard=False, ray_temp_dir=folder)


def run(job: dict[str, Any]) -> None:
    """Read, "transcribe", measure, filter, write."""
    from nemo_curator.backends.ray_data import RayDataExecutor
    from nemo_curator.pipeline import Pipeline
    from nemo_curator.stages.audio.common import (
        ManifestReader,
        ManifestWriterStage,
        PreserveByValueStage,
    )
    from nemo_curator.stages.audio.metrics.wer import GetPairwiseWerStage

    stages = [
        ManifestReader(manifest_path=job["manifests"]),
        no_model(job),
        GetPairwiseWerStage(),
        PreserveByValueStage("wer_pct", job["limit"], "le"),
        ManifestWriterStage(output_path=f"{job['folder']}/out.jsonl"),
    ]
    pipeline = Pipeline(name="curation", stages=stages)
    pipeline.run(RayDataExecutor(), checkpoint_path=job["checkpoint"])


def no_model(job: dict[str, Any]) -> Any:
    """A stage that takes the place of `ASRStage` and has nothing to hear."""
    from nemo_curator.stages.base import ProcessingStage
    from nemo_curator.stages.resources import Resources
    from nemo_curator.tasks import AudioTask

    class NoModel(ProcessingStage[AudioTask, AudioTask]):  # type: ignore[misc]
        name = "no_model"
        resources = Resources(cpus=1.0)
        batch_size = job["batch"]

        def inputs(self) -> tuple[list[str], list[str]]:
            return [], ["said"]

        def outputs(self) -> tuple[list[str], list[str]]:
            return [], ["pred_text"]

        def setup(self, _worker_metadata: Any = None) -> None:
            """One process that stays, as a model would: an actor."""

        def num_workers(self) -> int:
            return 1

        def process(self, task: Any) -> Any:
            return self.process_batch([task])[0]

        def process_batch(self, tasks: list[Any]) -> list[Any]:
            time.sleep(job["wait"] * len(tasks))
            for task in tasks:
                task.data["pred_text"] = task.data["said"]
            with Path(job["calls"]).open("a") as file:  # one write: whole lines
                file.write(f"{time.time()} {len(tasks)}\n")
            return tasks

    return NoModel()


if __name__ == "__main__":
    main()
