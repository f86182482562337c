# Everything runs from a private uv and the committed uv.lock: nothing is installed outside this folder.
# An activated environment does not matter: uv always uses .venv here.
PYTHON ?= python3
UV := .uv/bin/uv
RUN := $(UV) run --locked --quiet
ARGS ?=
export NO_ALBUMENTATIONS_UPDATE = 1
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help setup train test check lint types lowest wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: setup ## set up and run the main job; options: make train ARGS="dataset=camvid"
	@$(RUN) python -m danet_lightning.train $(ARGS)

test: setup ## set up and pass the tests; options: make test ARGS="-k attention"
	@$(RUN) pytest $(ARGS)

check: lint types test ## lint, types and tests: what continuous integration runs

lint: setup ## ruff, lint and format
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

types: setup ## mypy --strict on src and scripts
	@$(RUN) mypy

lowest: $(UV) ## train two steps on the lowest versions that pyproject.toml allows, in .venv-lowest
	@$(UV) venv --quiet --clear --python .uv/bin/python .venv-lowest
	@$(UV) pip compile --quiet --resolution lowest-direct --python .uv/bin/python pyproject.toml -o .venv-lowest/requirements.txt
	@$(UV) pip install --quiet --python .venv-lowest/bin/python -r .venv-lowest/requirements.txt
	@PYTHONPATH=src WANDB_MODE=offline .venv-lowest/bin/python -m danet_lightning.train trainer=cpu trainer.max_epochs=-1 \
		+trainer.max_steps=2 dataset.train_images=12 dataset.val_images=2 run_dir=.venv-lowest/run ckpt_path=null

setup: .venv/.ready ## private uv and the locked environment

.venv/.ready: uv.lock pyproject.toml $(UV)
	@echo "Setting up .venv from uv.lock (once; about 6.5 GB on disk, CUDA wheels included) ..."
	@$(UV) sync --locked --compile-bytecode
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else f"danet_lightning needs Python 3.11, 3.12 or 3.13, and {sys.executable} is {sys.version.split()[0]}. Try: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.8

wheel: setup ## build the wheel into dist/
	@$(UV) build --wheel --quiet

clean: ## remove the environment and the caches; runs/ and data/ stay
	rm -rf .venv .venv-lowest .uv dist .mypy_cache .pytest_cache .ruff_cache
