# Everything here sets itself up in .venv and needs nothing but Python (3.10 or newer; 3.11 in CI), pip and make.
PYTHON ?= python3
BIN := .venv/bin
PEERS := .venv-comparison/bin
EXAMPLES := docs/examples

.PHONY: help test docs operators torture coverage browser mutants elsewhere torches pytests watching-overhead lint actionlint dist format demo demo-baseline report-schema hardware-page laws-page explain-page inversion-page comparison zoo zoo-page bench bench-page bench-baselines clean

help:
	@echo "make test       run the test suite"
	@echo "make operators  count every sample of PyTorch's operator database on shapes and for real (minutes)"
	@echo "make torture    kill, fill, fuzz and merge: the tests of baseline files for longer, as root (10 minutes)"
	@echo "make coverage   which branches the test suite runs, subprocesses included"
	@echo "make browser    the HTML page and the documentation site in Chromium: clicks, keyboard, accessibility (5 minutes)"
	@echo "make mutants    change quantities/ and results/ line by line, and list the changes that no test notices (15 minutes)"
	@echo "make elsewhere  watch the tests of five other libraries, from the package index (10 minutes)"
	@echo "make torches    the suite, the examples and a sweep under every supported PyTorch, into docs/compatibility.md (hours, gigabytes)"
	@echo "make pytests    the tests that depend on pytest under other versions of pytest, and beside 15 plugins (an hour)"
	@echo "make watching-overhead  how much longer models run while they are watched"
	@echo "make lint       linter, formatter check, type checker, and zizmor for the workflows"
	@echo "make actionlint another linter for the workflows, whose installation needs the network"
	@echo "make dist       wheel, sdist and SBOM of the newest commit in dist/, built twice, checked and tried (2 minutes)"
	@echo "make format     let the linter and the formatter fix what they can"
	@echo "make docs       the documentation as a site, into docs/_build/html"
	@echo "make demo       budgets on ResNet-50, ViT, BERT, GPT-2 and Llama 3.1, and what a pull request that breaks one shows"
	@echo "make comparison today's FLOP counters beside this one, into docs/comparison.md (10 minutes)"
	@echo "make zoo        count the models of seven libraries, into docs/zoo.md (hours; goes on where it was interrupted)"
	@echo "make bench      how long they take, beside running the model, into docs/performance.md (25 minutes)"
	@echo "make bench-baselines  how long a baseline of 10,000 entries takes, into docs/baselines.md"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint,demo]'
	touch $@

# Two processes, as CI has two cores; each takes under 4 GB, and PyTorch in it one thread, since the tests' models are small.
# Many tests start pytest in a process of its own. If the environment forbids Python to write compiled files, each process
# compiles the plugins of pytest again, which takes 1.6 seconds.
test: .venv/installed
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

operators: .venv/installed
	FLOPSBUDGET_ALL_SAMPLES=1 $(BIN)/python -m pytest -q tests/counting/test_operator_database.py

torture: .venv/installed
	FLOPSBUDGET_TORTURE=1 $(BIN)/python -m pytest -q tests/storage/test_baseline_kills.py tests/torture_small_disk.py tests/storage/test_baseline_git.py tests/storage/test_fuzz_files.py tests/commands/test_fuzz.py

# Outside CI: tracing every line makes the suite several times as slow.
coverage: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[coverage]'
	$(BIN)/python -m coverage erase
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -n 2 --dist worksteal $(ARGS); $(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report --show-missing

# Changes quantities/ and results/ line by line; a change that no test notices is a survivor. Outside CI.
mutants: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[mutants]'
	$(BIN)/python -m mutmut run
	$(BIN)/python -m mutmut results

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/zizmor --offline --quiet action.yml action .github/workflows

# Outside make lint: the installation downloads a program, which not every machine can.
actionlint: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[actionlint]'
	$(BIN)/actionlint

# Outside CI: only a release needs it.
dist: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dist]'
	$(BIN)/python scripts/dist.py

format: .venv/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

demo: .venv/installed
	@echo "== 1. The models as they are: within their limits, and equal to the baseline in $(EXAMPLES)/__flops__"
	cd $(EXAMPLES) && ../../$(BIN)/python -m pytest test_models.py
	@echo
	@echo "== 2. A pull request widens one convolution of ResNet-50: the run below has to fail, and names it"
	cd $(EXAMPLES) && ../../$(BIN)/python -m pytest test_pull_request.py; test $$? -eq 1
	@echo
	@echo "== As it should: the first run passed, the second failed."

# Only when the examples themselves change: the baselines are part of them.
demo-baseline: .venv/installed
	cd $(EXAMPLES) && ../../$(BIN)/python -m pytest -q test_models.py --flops-budget-update
	cd $(EXAMPLES) && BEFORE_THE_PULL_REQUEST=1 ../../$(BIN)/python -m pytest -q test_pull_request.py --flops-budget-update

# Outside CI: needs Chromium on the machine.
browser: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browser,docs]'
	$(BIN)/python -m pytest -q tests/browser

# Outside CI: the site needs Sphinx. Tests check the links and run the blocks of the pages.
docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "open docs/_build/html/index.html"

elsewhere: .venv/installed
	$(BIN)/python docs/elsewhere.py

# One environment at a time, each in a temporary folder. Both go on where they were interrupted.
torches: .venv/installed
	cd docs && ../$(BIN)/python -m compatibility torch

pytests: .venv/installed
	cd docs && ../$(BIN)/python -m compatibility pytest

watching-overhead: .venv/installed
	$(BIN)/python docs/watching_overhead.py

# When the result model changes; a test holds the file against the types.
report-schema: .venv/installed
	cd docs && ../$(BIN)/python -m report_schema

# When a profile changes; a test holds the page against the profiles.
hardware-page: .venv/installed
	cd docs && ../$(BIN)/python -m hardware_table

# When the table of known laws changes; a test holds it.
laws-page: .venv/installed
	cd docs && ../$(BIN)/python -m laws_table

# When the page about a measurement changes; a test holds it.
explain-page: .venv/installed
	cd docs && ../$(BIN)/python -m explain_page

# When the page on what FLOPs leave out changes, or how its blocks are counted; a test holds it.
inversion-page: .venv/installed
	cd docs && ../$(BIN)/python -m inversion

# An environment of its own: nothing else here needs these counters.
.venv-comparison/installed: docs/comparison/requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-comparison
	$(PEERS)/python -m pip install --quiet --constraint constraints.txt --editable . --requirement docs/comparison/requirements.txt
	touch $@

comparison: .venv-comparison/installed
	cd docs && ../$(PEERS)/python -m comparison

# An environment of its own: these libraries bring much that nothing else here needs.
.venv-zoo/installed: docs/model_zoo/requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-zoo
	.venv-zoo/bin/python -m pip install --quiet --constraint constraints.txt --editable . --requirement docs/model_zoo/requirements.txt
	touch $@

zoo: .venv-zoo/installed
	cd docs && OMP_NUM_THREADS=1 ../.venv-zoo/bin/python -m model_zoo

# The page once more, from what was found last.
zoo-page: .venv/installed
	cd docs && ../$(BIN)/python -m model_zoo --page

# On a machine that does nothing else.
bench: .venv-comparison/installed
	cd docs && ../$(PEERS)/python -m performance

# The tables and the chart once more, from what was measured last.
bench-page: .venv-comparison/installed
	cd docs && ../$(PEERS)/python -m performance --page

# A baseline of 10,000 entries: how long it takes, into docs/baselines.md.
bench-baselines: .venv/installed
	cd docs && ../$(BIN)/python -m performance.many_entries

clean:
	rm -rf .venv .venv-comparison .venv-zoo docs/_build docs/reference .pytest_cache .mypy_cache .ruff_cache .hypothesis
