# One command a wish; `make` alone lists them. Everything lands in .venv, nothing is installed globally.

PYTHON ?= python3
VENV ?= .venv
TEXT ?= Hello there. This sentence was written piece by piece, and you are hearing it as it was made.
OUT ?= speech.wav
VOICE ?=
PORT ?= 8765
# Other people's programs live apart: their versions need not agree with ours.
CLIENTS_VENV ?= .venv-clients
HASS ?= hass
ARGS ?=
PREFIX ?= /opt/chatterboxd
DESTDIR ?= /

# The user's words must reach the program as they are: `value` keeps make from reading a "$" in them, and the
# environment keeps the shell from reading anything.
override TEXT := $(value TEXT)
override OUT := $(value OUT)
override VOICE := $(value VOICE)
export TEXT OUT VOICE VENV

RUN := $(VENV)/bin/python
# Small tensors: a second thread of torch costs more than it brings, much more on a busy machine.
TEST_ENVIRONMENT := PYTHONASYNCIODEBUG=1 OMP_NUM_THREADS=1
# A test that hangs ends its worker, and is named; the slow ones of `test-long` may take longer.
HANGS := -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true
# Tests over sockets wait more than they work. Parity at full size takes 4 GB in a worker.
WORKERS ?= 4
# Text for training: Debian's package, unpacked here if it is not installed.
WORDNET := $(if $(wildcard /usr/share/wordnet/data.noun),,build/wordnet)/usr/share/wordnet
UV_LOCK = $(VENV)/bin/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-annotate --no-emit-index-url --custom-compile-command "make lock" $(ARGS)
UV_COMPILE = $(UV_LOCK) pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help speak serve test check format test-long test-compat test-home-assistant record-compat bench-compat bench gpu-check train-tiny eval-voice check-official lock clean \
	install uninstall audit \
	runtime compat watermark dev train compat-test

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

speak: runtime ## Say TEXT into OUT (a WAV file) through a daemon of its own, and play it; VOICE=, ARGS=
	@$(RUN) -m chatterboxd_client.speak --text="$$TEXT" --out="$$OUT" $${VOICE:+--voice="$$VOICE"} $(ARGS)

serve: runtime ## Run the daemon in the foreground on PORT; ARGS="--help" shows every option
	@exec $(RUN) -m daemon --port $(PORT) $(ARGS)

test: dev ## Run the tests: unit, model, end to end
	$(TEST_ENVIRONMENT) $(RUN) -m pytest -n $(WORKERS) --dist worksteal $(HANGS) -m "not gpu and not slow" $(ARGS)

check: dev ## What CI runs: format, lint, types, import contracts, audit, then the tests
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(RUN) tools/audit.py
	@$(MAKE) --no-print-directory test

format: dev ## Rewrite the source in the project's format
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

test-long: dev ## Run the tests with the slow ones among them
	$(TEST_ENVIRONMENT) $(RUN) -m pytest -m "not gpu" $(ARGS)

bench: dev ## Run every benchmark; each ends with one JSON line
	@set -e; for file in tests/bench/*.py; do echo "== $$file"; PYTHONPATH=. $(RUN) $$file; done

gpu-check: dev ## Prove and measure the engine on a GPU, or say that there is none; ARGS=--small
	PYTHONPATH=. $(RUN) tools/gpu_check.py $(ARGS)

test-compat: train compat-test ## Let other people's clients speak through the daemon (OpenAI, Pipecat, LiveKit, Home Assistant …)
	$(TEST_ENVIRONMENT) CLIENTS_PYTHON=$(CLIENTS_VENV)/bin/python $(RUN) -m pytest tests/compat $(ARGS)

test-home-assistant: train ## Let a Home Assistant that you have speak through the daemon: HASS=its program
	$(TEST_ENVIRONMENT) HASS="$(HASS)" $(RUN) -m pytest tests/compat/test_home_assistant.py $(ARGS)

record-compat: dev compat-test ## Record what those clients send, for the tests of machines that do not have them
	$(TEST_ENVIRONMENT) CLIENTS_PYTHON=$(CLIENTS_VENV)/bin/python COMPAT_RECORD=1 COMPAT_ENGINE=sine \
		$(RUN) -m pytest tests/compat -k "not recorded" $(ARGS)

bench-compat: train compat-test ## Compare with wyoming-piper in one run of wyoming-bench, draw docs/beside_piper.png
	PYTHONPATH=. CLIENTS_PYTHON=$(CLIENTS_VENV)/bin/python $(RUN) tests/bench/beside_piper.py $(ARGS)

train-tiny: train $(WORDNET)/data.noun ## Train the bundled voice from nothing (hours on a CPU; resumable); ARGS=
	$(RUN) -m chatterbox.training all --wordnet $(WORDNET) $(ARGS)

build/wordnet/usr/share/wordnet/data.noun:
	@mkdir -p build/wordnet
	@cd build/wordnet && apt-get download wordnet-base && dpkg-deb --extract wordnet-base_*.deb . || \
		{ echo "WordNet is missing: install Debian's wordnet-base, or run apt-get update first"; exit 1; }

eval-voice: train ## Judge the bundled voice beside its teacher, draw docs/voice.png; ARGS="--gate" fails at a missed bar
	$(RUN) -m chatterbox.training.evaluate --first-audio --plot docs/voice.png $(ARGS)

check-official: train ## Compare streaming with the whole utterance on official weights: MODEL=DIR; ARGS=
	$(RUN) tools/check_official.py $(if $(MODEL),--model "$(MODEL)") $(ARGS)

lock: dev ## Write requirements/*.txt anew from pyproject.toml; ARGS=--upgrade takes newer versions
	$(UV_COMPILE) --output-file requirements/runtime.txt
	$(UV_COMPILE) --extra compat --constraint requirements/runtime.txt --output-file requirements/compat.txt
	$(UV_COMPILE) --extra compat --extra watermark --constraint requirements/compat.txt \
		--output-file requirements/watermark.txt
	$(UV_COMPILE) --extra compat --extra watermark --extra dev --constraint requirements/watermark.txt \
		--output-file requirements/dev.txt
	$(UV_COMPILE) --extra compat --extra watermark --extra dev --extra train --constraint requirements/dev.txt \
		--output-file requirements/train.txt
	$(UV_LOCK) --group compat-test --output-file requirements/compat-test.txt

compat: ## Install what MP3, AAC, FLAC, another speed and discovery by Home Assistant need
	@$(PYTHON) tools/setup_venv.py $@

watermark: ## Install what marks speech as synthetic (and what `compat` installs)
	@$(PYTHON) tools/setup_venv.py $@

runtime dev train:
	@$(PYTHON) tools/setup_venv.py $@

compat-test:
	@VENV=$(CLIENTS_VENV) $(PYTHON) tools/setup_venv.py $@

install: ## As root: the daemon in PREFIX, its units, settings in /etc/chatterboxd
	$(PYTHON) tools/install.py install --prefix $(PREFIX) --destdir $(DESTDIR)
	@if test "$(DESTDIR)" = /; then \
		VENV=.venv $(PYTHON) $(PREFIX)/tools/setup_venv.py runtime && chmod -R a+rX $(PREFIX); \
		if test -d /run/systemd/system; then systemctl daemon-reload; fi; \
		echo "now: systemctl enable --now chatterboxd"; fi

uninstall: ## As root: take it back; settings and state stay
	@if test "$(DESTDIR)" = / -a -d /run/systemd/system; then \
		systemctl disable --now chatterboxd.service chatterboxd.socket 'chatterboxd@*' || true; fi
	$(PYTHON) tools/install.py uninstall --prefix $(PREFIX) --destdir $(DESTDIR)
	@if test "$(DESTDIR)" = / -a -d /run/systemd/system; then systemctl daemon-reload; fi

audit: dev ## Look every locked package up among the known vulnerabilities (needs a network)
	$(RUN) tools/audit.py

clean: ## Remove the environment, caches and outputs
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis speech.wav
	find . -name __pycache__ -prune -exec rm -rf {} +
