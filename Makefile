# Every target sets up what it needs in .venv by itself: only Python 3.11 or later, git and a package index are required.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo run test check lint gen fmt bench proto-lint proto-baseline soak release-check clean

demo: .venv/up ## The main job on real files, start to end: make demo [DIR=folder]
	$(BIN)/python demo/run.py $(if $(DIR),"$$DIR")

run: .venv/up ## PostgreSQL, S3 and the server on this machine, until Ctrl-C
	$(BIN)/datas3t up

test: .venv/dev ## All tests, in two processes. Only tests marked `timing` run again when they fail, and each repetition is printed
	$(BIN)/python -m pytest -q -n 2 -r R $(ARGS)

check: lint test ## Format, lint, types, proto, docs and tests: green at every commit

lint: .venv/dev proto-lint
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

gen: .venv/dev ## Makes gen/ from proto/, and the pages of docs/ that are generated
	$(BIN)/python proto/generate.py
	$(BIN)/python docs/generate.py

fmt: .venv/dev
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

bench: .venv/bench ## Measurements, by hand: they compare, and assert nothing
	PYTHONPATH=. $(BIN)/python bench/indexer.py
	PYTHONPATH=. $(BIN)/python bench/engine.py
	PYTHONPATH=. $(BIN)/python bench/transfer.py
	PYTHONPATH=. $(BIN)/python bench/reading.py --write

proto-lint: .venv/dev ## Style of the protos, and no break with the released contract; offline, on descriptor sets
	$(BIN)/python proto/lint.py

proto-baseline: .venv/dev ## At a release: the protos as they are become the contract that may not break
	$(BIN)/python proto/lint.py --release

soak: .venv/dev ## Clients, servers, database and S3 killed at random, then everything checked: make soak [SECONDS=600] [SEED=1]
	$(BIN)/python -m tests.faults.soak --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

release-check: .venv/python ## Build the distributions, and install the wheel with each extra in a bare environment
	$(BIN)/python .ci/release_check.py

clean:
	rm -rf .venv .demo dist build

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/up: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[up]'
	touch $@

.venv/dev: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ .venv/up

.venv/bench: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@ .venv/up .venv/dev
