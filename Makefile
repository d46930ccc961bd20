# Needs Python 3.11+ and nothing else: no system ffmpeg, no compiler.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test check setup bench bench-streaming parity wer clean

demo:  ## transcribe the shipped speech with the embedded model
	@$(PYTHON) tools/setup_venv.py $(VENV) demo
	@$(BIN)/auricle transcribe examples/speech/shell.flac

setup:
	@$(PYTHON) tools/setup_venv.py $(VENV) dev

test: setup check  ## lint, types, then every test
	$(BIN)/python -m pytest -n 2

.PHONY: test-latest
test-latest:  ## the tests with the newest versions that pyproject.toml allows (docs/dependencies.md)
	@$(PYTHON) tools/setup_venv.py .venv-latest dev --latest
	.venv-latest/bin/python -m pip list --format=freeze
	.venv-latest/bin/python -m pytest -n 2

.PHONY: lock
lock: setup  ## the locks anew, with the newest versions of today
	$(BIN)/python tools/lock.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

parity: parity-env  ## live comparison with NeMo and transformers (2 GB of packages into .venv-parity)
	.venv-parity/bin/python -m pytest -m parity tests

bench: setup parity-env  ## speed, memory and start-up beside NeMo and transformers
	$(BIN)/python benchmarks/speed.py --reference-python .venv-parity/bin/python

bench-streaming: setup parity-env  ## streams that one core carries, beside NeMo
	$(BIN)/python benchmarks/streaming.py --reference-python .venv-parity/bin/python

.PHONY: parity-env
parity-env:
	@$(PYTHON) tools/setup_venv.py .venv-parity parity

wer: setup  ## make wer MANIFEST=rows.jsonl: the embedded model's WER beside faster-whisper's
	$(BIN)/python benchmarks/wer_embedded.py $(MANIFEST)

.PHONY: kill-test
kill-test: setup  ## kill a curation 100 times, and compare what comes of it (ENGINE=local KILLS=100 SEED=0)
	$(BIN)/python -m tests.curation.killing --engine $(or $(ENGINE),local) --kills $(or $(KILLS),100) --seed $(or $(SEED),0)

.PHONY: mutate
mutate: setup  ## damage valid inputs, and see that each ends in a result or one line (COUNT=2000 SEED=0)
	$(BIN)/python -m tests.mutations --count $(or $(COUNT),2000) --seed $(or $(SEED),0)

clean:
	rm -rf $(VENV) .venv-parity .venv-latest build dist
