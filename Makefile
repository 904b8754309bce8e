# Every target creates the environment that it needs in .venv. Only Python 3.11 or later, git and a package index are required.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo run test test-frameworks test-languages check lint gen fmt bench proto-lint proto-baseline soak fuzz release-check clean

demo: .venv/up ## Run the main job on real files, from start to end: make demo [DIR=folder]
	$(BIN)/python demo/run.py $(if $(DIR),"$$DIR")

run: .venv/up ## Run PostgreSQL, S3 and the server on this machine, until Ctrl-C
	$(BIN)/datas3t up

test: .venv/dev ## Run all tests, in four processes: many tests wait more than they compute. Only tests marked `timing` run again when they fail, and each repetition is printed
	$(BIN)/python -m pytest -q -n 4 --dist worksteal -r R $(ARGS)

test-frameworks: .venv-frameworks/ready ## Run the tests with PyTorch, Grain, Hugging Face and Ray, in an environment of their own (5 GB), so that no other test needs it
	.venv-frameworks/bin/python -m pytest -q -n 2 --dist worksteal -r Rs tests/frameworks $(ARGS)

test-languages: .venv/dev ## Compile and run the clients in Go, TypeScript, Java and Rust, where these are installed
	$(BIN)/python -m pytest -q -n 0 -m languages -r s tests/languages $(ARGS)

check: lint test ## Run everything that must pass at every commit

lint: .venv/dev proto-lint ## Check format, lint, types, import rules and protos
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

gen: .venv/dev ## Generate gen/ from proto/, and docs/api.md, docs/cli.md and docs/errors.md
	$(BIN)/python proto/generate.py
	$(BIN)/python docs/generate.py

fmt: .venv/dev ## Format, and fix what ruff can fix
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

bench: .venv/bench ## Run the measurements, on a quiet machine. They compare, and assert nothing
	PYTHONPATH=. $(BIN)/python bench/indexer.py
	PYTHONPATH=. $(BIN)/python bench/engine.py
	PYTHONPATH=. $(BIN)/python bench/transfer.py
	PYTHONPATH=. $(BIN)/python bench/start.py
	PYTHONPATH=. $(BIN)/python bench/reading.py --write

proto-lint: .venv/dev ## Check the style of the protos, and that they do not break the released contract
	$(BIN)/python proto/lint.py

proto-baseline: .venv/dev ## At a release, record the current protos as the contract that may not break
	$(BIN)/python proto/lint.py --release

soak: .venv/dev ## Kill clients, servers, database and S3 at random, then check everything: make soak [SECONDS=600] [SEED=1] [WORKERS=2]
	$(BIN)/python -m tests.faults.soak --seconds $(or $(SECONDS),600) --workers $(or $(WORKERS),1) $(if $(SEED),--seed $(SEED))

fuzz: .venv/dev ## Try random inputs, and print the seed of what is found: make fuzz [SECONDS=60] [SEED=1]
	$(BIN)/python -m tests.fuzz.loop --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

release-check: .venv/python ## Build the distributions, and install the wheel with each extra in a bare environment
	$(BIN)/python .ci/release_check.py

clean: ## Remove the environment and everything that was built
	rm -rf .venv .venv-frameworks .demo dist build

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/up: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[up,tables]'
	touch $@

.venv/dev: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ .venv/up

.venv/bench: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@ .venv/up .venv/dev

.venv-frameworks/ready: pyproject.toml
	$(PYTHON) -m venv .venv-frameworks
	.venv-frameworks/bin/pip install --quiet --disable-pip-version-check --editable '.[frameworks]'
	touch $@
