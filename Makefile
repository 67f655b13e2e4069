# Needs Python 3.11 or newer and make; everything else is fetched, each file checked against a hash.
#   make run     the gateway            make test    every check            make help    the rest

PYTHON ?= python3
RUN    := .venv
TEST   := .venv-test
BENCH  := .venv-bench
CACHE  := .cache
UV     := uv==0.13.9

PYTEST_ARGS ?=
TEST_WORKERS ?= auto
SERVE_ARGS  ?=
BENCH_ARGS  ?=
LOCK_ARGS   ?=

PIP := -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: run demo test torture bench lint types clis ollama clients lock lock-clis lock-clients clean help python

run: $(RUN)/.installed ## start the gateway (SERVE_ARGS="..." goes to `llmux serve`)
	@exec $(RUN)/bin/llmux serve $(SERVE_ARGS)

demo: $(RUN)/.installed ## show the gateway at work without any login
	@exec $(RUN)/bin/llmux demo

# As many files of tests at a time as there are processors; the tests of one file share what they have started, so they stay
# together. pytest comes last and has the last word: who reads the output finds its summary in the closing line.
test: lint types $(CACHE)/clis.stamp $(CACHE)/ollama.stamp $(CACHE)/clients.stamp ## every check (PYTEST_ARGS="-k name" goes to pytest)
	@exec $(TEST)/bin/python -m pytest --numprocesses $(TEST_WORKERS) --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

# What `make test` does to the log and to the command-line tools in a minute, at length and with another seed each time; the
# seed is printed, to try it again.
TORTURE = LLMUX_TEST_KILLS=1000 LLMUX_TEST_FLIPS=1000 LLMUX_TEST_CUTS=1000 LLMUX_TEST_HISTORIES=10000 LLMUX_TEST_ROOMS=200 \
	LLMUX_TEST_ROUNDS=20 LLMUX_TEST_ALL_FAULTS=1 LLMUX_TEST_ATTEMPTS=1000 LLMUX_TEST_HOSTILE_PROMPTS=1000 LLMUX_TEST_EXAMPLES=150
TORTURED = tests/crash tests/http/test_openapi_promises.py $(wildcard tests/real/test_*_hostile.py tests/*/test_*_life.py tests/*/test_*_lifecycle.py)

torture: $(TEST)/.installed $(CACHE)/clis.stamp ## crashes, damage, faults, hostile prompts, at length (LLMUX_TEST_SEED=... repeats one)
	@seed=$${LLMUX_TEST_SEED:-$$(date +%s)}; echo "LLMUX_TEST_SEED=$$seed"; \
	exec env $(TORTURE) LLMUX_TEST_SEED=$$seed $(TEST)/bin/python -m pytest $(TORTURED) --timeout 1800 $(PYTEST_ARGS)

bench: $(BENCH)/.installed ## how fast it is beside the limits of this machine (BENCH_ARGS="--events 1000000")
	@exec $(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)

lint: $(TEST)/.installed ## style and likely mistakes
	@$(TEST)/bin/ruff check --quiet .
	@$(TEST)/bin/ruff format --quiet --check . || { echo "Some files are not formatted: $(TEST)/bin/ruff format ."; exit 1; }

types: $(TEST)/.installed ## mypy, strict
	@$(TEST)/bin/mypy

# An environment each, so that running pulls in no test package and testing leaves a running gateway alone. The package itself
# is installed as a link to this folder, by a build back end that is locked too.
define install
	@echo "Installing $(1) into $(@D) ..."
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP) install --require-hashes -r $(1) -r requirements-build.lock
	@$(@D)/bin/python $(PIP) install --no-deps --no-index --no-build-isolation --editable .
	@touch $@
endef

$(RUN)/.installed: requirements.lock requirements-build.lock pyproject.toml | python
	$(call install,requirements.lock)

$(TEST)/.installed: requirements-test.lock requirements-build.lock pyproject.toml | python
	$(call install,requirements-test.lock)

$(BENCH)/.installed: requirements-bench.lock requirements-build.lock pyproject.toml | python
	$(call install,requirements-bench.lock)

python:
	@command -v $(PYTHON) >/dev/null || { echo "LLMux needs Python 3.11 or newer, and there is no $(PYTHON) here. Name yours: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "LLMux needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12"; exit 1; }

clis: $(CACHE)/clis.stamp ## the real command-line tools for tests, into .cache/clis
ollama: $(CACHE)/ollama.stamp ## a real Ollama for tests, into .cache/ollama
clients: $(CACHE)/clients.stamp ## the client programs of others for tests, into .cache/clients

# These programs look for themselves whether anything has changed; the stamps only spare their start.
$(CACHE)/clis.stamp: deploy/clis/package.json deploy/clis/package-lock.json deploy/clis/.npmrc tests/clis.py tests/npm.py $(TEST)/.installed
	@$(TEST)/bin/python -m tests.clis
	@touch $@

$(CACHE)/clients.stamp: tests/clients/requirements.lock $(wildcard tests/clients/node/*.json) tests/clients/node/.npmrc tests/clients/install.py $(TEST)/.installed
	@$(TEST)/bin/python -m tests.clients.install
	@touch $@

$(CACHE)/ollama.stamp: $(wildcard tests/upstreams/*ollama*.py tests/upstreams/tiny_model.py) tests/upstreams/ollama-wheels.lock $(TEST)/.installed
	@$(TEST)/bin/python -m tests.upstreams.real_ollama --prepare
	@touch $@

# uv resolves for all platforms and Python versions at once, which pip cannot. It stays in an environment of its own, and
# what this machine has set about indexes must not reach the locks.
COMPILE = env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
	$(CACHE)/venv-lock/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" --annotation-style line $(LOCK_ARGS)

lock: $(CACHE)/venv-lock/.installed ## write the Python lock files anew (LOCK_ARGS=--upgrade for newer versions)
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra test --constraint requirements.lock --output-file requirements-test.lock
	$(COMPILE) pyproject.toml --group bench --constraint requirements-test.lock --output-file requirements-bench.lock
	$(COMPILE) --group build --constraint requirements-test.lock --output-file requirements-build.lock
	$(COMPILE) --group clients --output-file tests/clients/requirements.lock
	$(COMPILE) --group node --constraint requirements-test.lock --output-file deploy/clis/node.lock
	$(COMPILE) --group ollama --no-deps --output-file tests/upstreams/ollama-wheels.lock

$(CACHE)/venv-lock/.installed: Makefile | python
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP) install $(UV)
	@touch $@

lock-clis: $(TEST)/.installed ## write deploy/clis/package-lock.json anew, after a change of package.json
	@$(TEST)/bin/python -m tests.clis lock

lock-clients: $(TEST)/.installed ## write tests/clients/node/package-lock.json anew, after a change of package.json
	@$(TEST)/bin/python -m tests.clients.install lock

clean: ## remove everything that make has installed or built
	rm -rf $(RUN) $(TEST) $(BENCH) $(CACHE) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22
