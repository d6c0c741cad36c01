# Two commands do all the set-up: `make demo` and `make test`. Both say what they do and work twice.
.RECIPEPREFIX = >
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# uv resolves and installs in seconds what takes pip minutes; it reads no pip settings, so a local folder of
# wheels (PIP_FIND_LINKS, e.g. a CPU build of torch) is handed on.
UV_INSTALL = UV_FIND_LINKS="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-}}" $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt
DEMO_OUT ?= demo-out
NBVAL = $(BIN)/python -m pytest -p no:cacheprovider --nbval-current-env --nbval-sanitize-with notebooks/nbval.cfg
# No model and no clock in their outputs: every figure has to come out as committed.
STRICT := notebooks/02_chunkers.ipynb notebooks/07_report.ipynb

.PHONY: help demo test check lint unit notebooks rerun docs coverage lock tagger encoder comparator lab bench clean

help:  ## list the targets
> @grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/uv:
> @echo "== making $(VENV) with $$($(PYTHON) --version)"
> @$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "smartmem needs Python 3.11 or newer: make PYTHON=python3.11 …")'
> @$(PYTHON) -m venv $(VENV)
> @$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/uv
> @echo "== installing what the demo needs (no torch, no server)"
> @$(UV_INSTALL) -e '.[demo]'
> @touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(BIN)/uv
> @echo "== installing everything"
> @$(UV_INSTALL) -e '.[all]'
> @touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## install the embedded default and run the main job on data/tiny; ends by naming the report
> @echo "== fetching the models (checked by hash, kept in the user's cache)"
> @$(BIN)/smartmem models get bge-small-en colbert-small-en reranker-en multilingual-e5-small
> @$(BIN)/smartmem demo --out $(DEMO_OUT)

test: $(VENV)/.all  ## install the rest and run everything that CI runs
> @echo "== servers and models for the tests"
> @bash tests/support/system-packages.sh
> @$(BIN)/smartmem models get bge-small-en colbert-small-en reranker-en multilingual-e5-small
> @$(MAKE) --no-print-directory check

check: lint docs unit notebooks  ## what CI runs, in an environment that `make test` made

lint:  ## format, lint, types, floors
> $(BIN)/ruff format --check smartmem tests benchmarks docs/_site.py
> $(BIN)/ruff check smartmem tests benchmarks docs/_site.py
> $(BIN)/mypy
> $(BIN)/lint-imports

unit:  ## all tests but the notebooks
> $(BIN)/python -m pytest tests -n 2 --dist loadfile

notebooks:  ## run every notebook; two of them strictly against their committed outputs
> SMARTMEM_PROFILE=ci $(NBVAL) --nbval-lax $(filter-out $(STRICT),$(wildcard notebooks/*.ipynb))
> SMARTMEM_PROFILE=ci $(NBVAL) --nbval $(STRICT)

BOOKS ?= $(wildcard notebooks/*.ipynb)
rerun:  ## run the notebooks (BOOKS=…) anew in place, for what is committed is what they showed; on a quiet machine
> for book in $(BOOKS); do SMARTMEM_PROFILE=ci $(BIN)/jupyter nbconvert --to notebook --execute --inplace \
>   --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False $$book; done
> $(BIN)/python -m pytest -q tests/notebooks/test_guard.py

docs:  ## build the documentation's site in site/; a warning or a link that leads nowhere is an error
> $(BIN)/mkdocs build --strict --quiet

coverage:  ## all tests but the notebooks, with the lines and branches of smartmem/ that none of them reaches
> $(BIN)/python -m pytest tests -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered --cov-report=html:coverage-html

lock:  ## write constraints.txt anew from pyproject.toml; what need not change stays, unless UPGRADE=1
> @grep -v '^torch==' constraints.txt > constraints.txt.new  # the pin names no build: it would rule out the CPU one
> @UV_FIND_LINKS="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-}}" $(BIN)/uv pip compile --quiet --extra all --python-version 3.11 \
>   $(if $(UPGRADE),--upgrade) --no-annotate --no-header --output-file constraints.txt.new pyproject.toml
> @(printf '%s\n' '# Every version that CI ran with; written by `make lock` (uv pip compile of pyproject.toml, all extras).' \
>   '# torch stays pinned: a plain torch brings several GB of CUDA packages.'; \
>   sed 's/+cpu$$//' constraints.txt.new) > constraints.txt
> @rm constraints.txt.new

tagger: $(VENV)/.all  ## train the package's tagger on data/labelled anew, after cross-validation; some twenty minutes
> $(BIN)/smartmem tagger train data/labelled/*.txt --into smartmem/memory/extract/taggers

encoder: $(VENV)/.all  ## tune the package's encoder on data/labelled anew; some half an hour
> $(BIN)/smartmem models get multilingual-e5-small
> $(BIN)/smartmem tagger tune data/labelled/*.txt --into smartmem/memory/extract/taggers/encoder.safetensors

comparator: $(VENV)/.all  ## tune the package's comparator on data/changes anew; some twenty minutes
> $(BIN)/smartmem models get multilingual-e5-small
> $(BIN)/smartmem comparator tune data/changes/*.txt --into smartmem/memory/tuned/comparator.safetensors

lab: $(VENV)/.all  ## open the notebooks in JupyterLab
> @$(BIN)/smartmem models get bge-small-en colbert-small-en reranker-en multilingual-e5-small
> $(BIN)/jupyter lab --notebook-dir=notebooks

bench: $(VENV)/.all  ## the quick form of every benchmark; ratios against peers in the same run
> for script in $(filter-out %_peers.py benchmarks/statements.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script --quick; done

clean:  ## remove what the targets made here
> rm -rf $(VENV) $(DEMO_OUT) site coverage-html build dist *.egg-info
