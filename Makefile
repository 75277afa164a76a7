# Everything needed is set up on the way: a virtual environment with locked dependencies, made once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
LIBRARIES := .venv-libraries
FINDINGS := .venv-findings
# What others' environments meet: serving, faults, the plugin, the kit. Schemathesis and the browser need newer versions.
OLDEST_TESTS := $(patsubst %,tests/%.py,admin/test_api http/test_connections contract/test_contract http/test_double \
	http/test_faults http/test_files images/test_draw http/test_origins test_pytest_plugin server/test_mock_server \
	scenarios/test_scenarios cli/test_serve http/test_sse http/test_wait http/test_webhooks http/test_wire \
	contract/test_yaml cli/test_check check/test_drive check/test_hunt check/test_rules)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, each of the many processes that the tests start compiles the package anew: twice the time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# Every target with a line of help makes no file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/serve.stamp ## run the double on http://127.0.0.1:3589 (flags: make serve ARGS="--port 0 --strict")
	@exec $(BIN)/mockserver serve $(ARGS)

# Six workers on two cores: many of the slow tests wait for a client.
test: $(VENV)/docs.stamp $(VENV)/node.stamp lint ## lint, type-check and test
	$(BIN)/python -m pytest -n 6 --dist worksteal -m "not thorough" $(ARGS)

test-thorough: $(VENV)/test.stamp $(VENV)/node.stamp ## more of the same: other scenarios, clients, gateways
	$(BIN)/python -m pytest -n 6 --dist worksteal -m thorough $(ARGS)

test-fast: $(VENV)/test.stamp ## the quick tests alone, for the inner loop
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow and not thorough" $(ARGS)

test-wire: $(VENV)/test.stamp ## every fault on every operation, in every way in which requests come
	WIRE=all $(BIN)/python -m pytest -n 3 --dist worksteal tests/http/test_wire.py $(ARGS)

fuzz: $(VENV)/test.stamp ## whatever clients may do, for SECONDS=60; prints its seed
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(ARGS)

test-oldest: $(OLDEST)/stamp $(VENV)/node.stamp ## test on the oldest versions of the dependencies that are allowed
	$(OLDEST)/bin/python -m pytest -n 4 --dist worksteal -p no:cacheprovider $(OLDEST_TESTS) $(ARGS)

# Tests that measure the processor's time are left out: counting takes as much again.
coverage: $(VENV)/docs.stamp $(VENV)/node.stamp ## test with branches counted; fails under the floor in pyproject.toml
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 5 --dist worksteal --ignore tests/http/test_fairness.py --ignore tests/http/test_patterns.py $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/docs.stamp $(VENV)/contracts.stamp ## lint and type-check only
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo >$(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	$(BIN)/mypy

format: $(VENV)/test.stamp ## format the code, and mend what the linter can
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

bench: $(VENV)/test.stamp bench/node_modules ## measure the double beside its peers (needs wrk, Node and Java)
	$(BIN)/python bench/run.py $(ARGS)
	$(BIN)/python bench/proxy.py

bench-growth: $(VENV)/test.stamp ## measure what a create costs as things grow (needs wrk)
	$(BIN)/python bench/growth.py $(ARGS)

bench-shards: $(VENV)/test.stamp ## measure doubles behind HAProxy (needs wrk and HAProxy)
	$(BIN)/python bench/shards.py $(ARGS)

bench-check: $(VENV)/test.stamp $(VENV)/node.stamp $(LIBRARIES)/stamp ## prove the kit on planted bugs and legal clients (ARGS="--seeds 20")
	$(BIN)/python -m tests.check.bench $(ARGS)
	$(BIN)/python -m tests.check.side_by_side

findings: $(VENV)/test.stamp $(VENV)/node.stamp $(FINDINGS)/stamp ## play every case of docs/findings.md, in all its clients
	FINDINGS=all $(BIN)/python -m pytest -n 2 tests/check/test_findings.py $(ARGS)

docs: $(VENV)/docs.stamp ## build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench-verify: $(VENV)/test.stamp ## prove `mockserver verify` on gateways that depart and gateways that do not
	$(BIN)/python -m tests.conformance.bench $(ARGS)

pictures: $(VENV)/test.stamp ## draw the pictures of the documentation (needs Chromium and Node)
	$(BIN)/python docs/make_pictures.py

rules: $(VENV)/test.stamp ## write the sections of docs/rules.md: each rule, and what is shown of one who breaks it (ARGS=--all)
	$(BIN)/python -m tests.check.rules_page $(ARGS)

types: $(VENV)/test.stamp $(VENV)/node.stamp ## write the types of the Node package from contracts/admin.yaml
	$(BIN)/python clients/node/generate_types.py

lock: $(VENV)/test.stamp ## resolve dependencies anew into requirements/
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet --upgrade pyproject.toml --extra tls --extra check --extra verify --output-file requirements/serve.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet --upgrade pyproject.toml --extra tls --extra check --extra verify --extra http2 --extra cjk --group test --constraint requirements/serve.txt \
		--output-file requirements/test.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet --upgrade --group docs --constraint requirements/test.txt --output-file requirements/docs.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet --upgrade tests/check/libraries/requirements.in --output-file tests/check/libraries/requirements.txt
	for set in requirements beta; do $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --quiet --upgrade tests/check/findings/$$set.in \
		--output-file tests/check/findings/$$set.txt; done
	$(BIN)/uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet --upgrade --resolution lowest-direct pyproject.toml --extra tls --extra check --extra verify --group oldest \
		--output-file requirements/oldest.txt

dist: $(VENV)/test.stamp ## build the wheel and the source archive into dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

clean: ## remove the virtual environments and everything built
	rm -rf $(VENV) $(OLDEST) $(LIBRARIES) $(FINDINGS) tests/clients/node_modules tests/check/*/node_modules contracts/lint/node_modules clients/node/node_modules bench/node_modules dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: requirements/serve.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --require-hashes -r requirements/serve.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

bench/node_modules: bench/package-lock.json
	cd bench && npm ci --silent
	@touch $@

# The npm clients are tested where Node is; elsewhere their tests say that they are skipped.
$(VENV)/node.stamp: tests/clients/package-lock.json clients/node/package-lock.json | $(VENV)/bin/python
	@if command -v npm >/dev/null; then (cd tests/clients && npm ci --silent) && cd clients/node && npm ci --silent --ignore-scripts; else echo "no npm here: the npm clients are not tested"; fi
	@touch $@

# Neither of the two asks a host while it lints.
$(VENV)/contracts.stamp: export REDOCLY_TELEMETRY := off
$(VENV)/contracts.stamp: export REDOCLY_SUPPRESS_UPDATE_NOTICE := true
$(VENV)/contracts.stamp: $(wildcard contracts/*.yaml contracts/lint/*.yaml contracts/lint/.*.yaml) contracts/lint/package-lock.json | $(VENV)/bin/python
	@if command -v npm >/dev/null; then cd contracts/lint && npm ci --silent --ignore-scripts \
		&& npx --no-install spectral lint --quiet --fail-severity hint --ruleset spectral.yaml ../openapi.yaml ../admin.yaml \
		&& npx --no-install redocly lint --config redocly.yaml ../openapi.yaml ../admin.yaml; \
		else echo "no npm here: Spectral and Redocly do not look at the contracts"; fi
	@touch $@

$(OLDEST)/stamp: requirements/oldest.txt pyproject.toml | $(VENV)/bin/python
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --require-hashes -r requirements/oldest.txt
	$(OLDEST)/bin/pip install --quiet --no-deps --editable .
	@touch $@

# The clients of docs/findings.md. Two of them are versions of one package.
$(FINDINGS)/stamp: tests/check/findings/requirements.txt tests/check/findings/beta.txt tests/check/findings/package-lock.json | $(VENV)/bin/python
	$(PYTHON) -m venv $(FINDINGS) && $(PYTHON) -m venv $(FINDINGS)/beta
	$(FINDINGS)/bin/pip install --quiet --require-hashes -r tests/check/findings/requirements.txt
	$(FINDINGS)/beta/bin/pip install --quiet --require-hashes -r tests/check/findings/beta.txt
	@if command -v npm >/dev/null; then cd tests/check/findings && npm ci --silent; fi
	@touch $@

# Clients on libraries that the double itself has no use for, which the kit must leave in peace.
$(LIBRARIES)/stamp: tests/check/libraries/requirements.txt tests/check/libraries/package-lock.json | $(VENV)/bin/python
	$(PYTHON) -m venv $(LIBRARIES)
	$(LIBRARIES)/bin/pip install --quiet --require-hashes -r tests/check/libraries/requirements.txt
	@if command -v npm >/dev/null; then cd tests/check/libraries && npm ci --silent; fi
	@touch $@

$(VENV)/test.stamp: requirements/test.txt $(VENV)/serve.stamp
	$(BIN)/pip install --quiet --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/docs.stamp: requirements/docs.txt $(VENV)/test.stamp
	$(BIN)/pip install --quiet --require-hashes -r requirements/docs.txt
	@touch $@
