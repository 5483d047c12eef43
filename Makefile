# make demo | make lint | make test | make test-fast. PYTHON chooses the interpreter (3.10 to 3.13) that the environment is made with.
PYTHON ?= python3
VENV ?= .venv
READY = $(VENV)/.ready

.PHONY: demo lint test test-fast clean

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e '.[test]'
	$(VENV)/bin/lift doctor --compile
	touch $@

demo: $(READY)
	$(VENV)/bin/lift run experiment=demo

lint: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

test: $(READY)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

test-fast: $(READY)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

clean:
	rm -rf $(VENV) build *.egg-info
