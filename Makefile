# Each target sets up what it needs: a virtual environment in .venv, by uv where it
# is on the path, else by pip. Only Python 3.11 or newer is assumed.
VENV ?= .venv
PY := $(VENV)/bin/python
CONFIG := requirements.txt setup.cfg pyproject.toml

# Python's own compiling is done once, also where the environment turns that off.
export PYTHONDONTWRITEBYTECODE =

# Compiling is most of the tests' work: programs are hardly optimized.
TEST = JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PY) -m pytest -n 2 --dist loadscope
# Costly files first, as tests/conftest.py sorts them.
SORTED = -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: demo test costs test-slow drills slow-and-drills lint format benchmark clean

demo: $(VENV)/.run
	$(PY) experiments/demo.py

test: $(VENV)/.test
	$(TEST) -m "not slow and not drill"

# What tests cost: all, or as OF="tests/methods_test.py -k kde".
costs: $(VENV)/.test
	$(TEST) -m "not slow and not drill" --costs $(OF)

# Of what trains for long programs are optimized; all else is compiling, as above.
LONG = $(addprefix tests/, launch_test.py own_data_test.py reproduce_test.py \
  notebook_test.py ledger_variational_test.py)
test-slow: $(VENV)/.test
	$(TEST) -m slow $(LONG:%=--ignore=%)
	$(PY) -m pytest $(SORTED) -m slow $(LONG)

drills: $(VENV)/.test
	$(TEST) -m drill

# Both, in fewer sessions, of which none ends with a worker that waits for long.
slow-and-drills: $(VENV)/.test
	$(TEST) --no-loadscope-reorder -m "slow or drill" $(LONG:%=--ignore=%)
	$(PY) -m pytest $(SORTED) -m "slow or drill" $(LONG)

lint: $(VENV)/.test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) tests/vocabulary.py

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
