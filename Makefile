# The whole interface: make install | demo | demo-localization | demo-learning | up | test | check | bench | simulate
# | chaos | fuzz | test-monitoring | test-browser | test-servers
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(VENV)/.torch

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: install demo demo-localization demo-learning up test check bench simulate chaos fuzz test-monitoring test-browser
.PHONY: test-servers clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	-$(BIN)/python -m uqueue_worker.models.fused
	@touch $@

demo: install
	$(BIN)/uqueue demo

demo-localization: install
	$(BIN)/uqueue demo-localization

demo-learning: install
	$(BIN)/uqueue learn demo

up: install
	$(BIN)/uqueue up

# What a change must pass: style, types, borders between the packages, and every test but the long chaos runs. Tests wait
# more than they compute, hence three files at a time. PyTorch is large and nothing else needs it, so it comes here.
test: check $(TORCH)
	$(BIN)/python -m pytest tests --durations=10 -n 3 --dist loadfile

$(TORCH): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,torch]"
	@touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python benchmarks/run.py

# A real Prometheus scrapes a running service; needs `apt-get install prometheus`, which also has promtool.
test-monitoring: install
	MONITORING=1 $(BIN)/python -m pytest tests/monitoring -s

# The gateway's page and a report of learning in a real browser, with an accessibility checker; needs `apt-get install
# chromium`, or CHROMIUM=path. PICTURES=folder keeps what they looked like.
test-browser: install
	@test -n "$$CHROMIUM" || command -v chromium chromium-browser google-chrome >/dev/null || \
	{ echo "There is no Chromium: apt-get install chromium, or CHROMIUM=/path/to/chromium make test-browser." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,browser]"
	$(BIN)/python -m pytest tests/browser/check_page.py tests/browser/check_learning_report.py

# The dialects of the REST interface against MLServer, KServe's server and NVIDIA's Triton themselves. Each gets a virtual
# environment in a temporary folder (1.4 GB in all from PyPI), or below SERVERS_VENVS, where they stay for the next time.
test-servers: install
	$(BIN)/python -m pytest tests/servers/check_model_servers.py --durations=5

# Random interleavings of ledger, lane and sweeper under a fake clock, a crash at any step; prints the seed that fails.
simulate: install
	SIMULATE_RUNS=$${SIMULATE_RUNS:-20000} $(BIN)/python -m pytest tests/simulation -s

chaos: install
	CHAOS_SEEDS=1,2,3 CHAOS_LANES=on,off CHAOS_JOBS=10000 CHAOS_FAULTS=100 CHAOS_KILLS=200 CHAOS_CUTS=300 CHAOS_RESTARTS=50 \
	CHAOS_OUTAGE_SECONDS=60 CHAOS_LEARNING_FAULTS=all $(BIN)/python -m pytest tests/chaos -m chaos -s

# At least 20,000 requests made from the gateway's OpenAPI document, good ones and bad ones, to a gateway that runs.
fuzz: install
	FUZZ_REQUESTS=$${FUZZ_REQUESTS:-20000} $(BIN)/python -m pytest tests/acceptance/test_gateway_openapi.py -s

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
