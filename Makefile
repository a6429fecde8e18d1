# Each target sets up what it needs: a virtual environment in .venv, by uv where it
# is on the path, else by pip. Only Python 3.11 or newer is assumed.
VENV ?= .venv
PY := $(VENV)/bin/python
CONFIG := requirements.txt setup.cfg pyproject.toml

.PHONY: demo test test-slow drills lint format benchmark clean

demo: $(VENV)/.run
	$(PY) experiments/demo.py

# Compiling is most of the work: two workers, and programs hardly optimized.
test: $(VENV)/.test
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PY) -m pytest -n 2 --dist loadfile \
	  -m "not slow and not drill"

test-slow: $(VENV)/.test
	$(PY) -m pytest -n 2 --dist load -m slow

drills: $(VENV)/.test
	$(PY) -m pytest -m drill

lint: $(VENV)/.test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.test
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

benchmark: $(VENV)/.run
	$(PY) experiments/benchmark.py unroll

clean:
	rm -rf $(VENV) .cache runs

$(VENV)/.run: $(CONFIG)
	@./experiments/setup.sh $(VENV) .
	@touch $@

$(VENV)/.test: $(CONFIG)
	@./experiments/setup.sh $(VENV) '.[test]'
	@touch $@ $(VENV)/.run
