# Every verb of the template; bare `make` lists them. Each does its own set-up, once.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps --only-binary :all:
# What stands on make's command line, as NAME='value', but for what make itself takes. The same names in the environment do not count:
# there, USER and HOST mean others.
OWN := PYTHON BIN METAFLOW_% GX_ANALYTICS_ENABLED DBT_SEND_ANONYMOUS_USAGE_STATS PGCONNECT_TIMEOUT
GIVEN = $(foreach name,$(filter-out $(OWN),$(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(name)='$(subst ','\'',$(value $(name)))'))
POSTGRESQL := command -v initdb > /dev/null || ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1
BROWSER := { command -v chromium && command -v chromedriver; } > /dev/null
PYTEST := $(BIN)/python -m pytest --junit-xml data/test-results.xml
LOCK := uvx uv pip compile --quiet --universal --generate-hashes --only-binary :all: --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade

# On a shared store (store.root = "s3://...") every verb works in the user's own branch of it; PRODUCTION=1 means production.
# Runs are kept in data/; no tool phones home; a database answers within seconds; a name for the runs where the machine has no user (containers, root).
export METAFLOW_DATASTORE_SYSROOT_LOCAL := $(CURDIR)/data/metaflow
export METAFLOW_CARD_LOCALROOT := $(CURDIR)/data/metaflow/cards
export METAFLOW_DEFAULT_DATASTORE ?= local
export METAFLOW_DEFAULT_METADATA ?= local
export METAFLOW_USER ?= $(or $(filter-out root,$(USER) $(shell id -un)),local)
export GX_ANALYTICS_ENABLED := false
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export PGCONNECT_TIMEOUT ?= 10

VERBS := run audit recommend monitor tune resume step card \
	releases verify report diff explain score rollback canary promote pin gc reproduce \
	check-data quarantine export exposures add-case expect \
	serve cron deploy undeploy trigger cloud-status cost doctor schema fork

.DEFAULT_GOAL := help
.PHONY: $(VERBS) help rehearse bench bench-serve test test-all lint lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "make %-12s %s\n", $$1, $$2}'

# `python flows/cli <verb> --help` explains a verb and its variables.
$(VERBS):
	@exec $(BIN)/python flows/cli $@ $(GIVEN)

run: .venv/.run ## train on raw events, check, and publish a release  [DATASET= AS_OF=YYYY-MM-DD SAMPLE=0.01 CANARY=0.05 ON=batch RAW= EVENTS= ITEMS= USERS= PRODUCTION=1]
audit: .venv/.run ## the same with the costly checks: other seeds, bad days, leaks, behaviour  [as run]
recommend: .venv/.run ## publish new lists by the live model, as of today  [DATASET= AS_OF= SAMPLE= RAW= EVENTS= ITEMS= USERS= PRODUCTION=1]
monitor: .venv/.run ## score recently served lists against later purchases  [as recommend]
tune: .venv/.run ## try one change at a time against config.toml, into tuning.md  [RECOMMENDER=two_stage DATASET= AS_OF= SAMPLE=]
resume: .venv/.run ## go on with the last run where it failed  [FLOW=TrainFlow PRODUCTION=1]
step: .venv/.run ## run one step again on the last run's artifacts: STEP=recommend  [PRODUCTION=1]
card: .venv/.run ## write the last run's card to data/card.html

releases: .venv/.run ## list the releases that are kept, newest first, with their roles  [DATASET=]
verify: .venv/.run ## check that a release can be served: files, structure, validation report, answers  [RELEASE= DATASET=]
report: .venv/.run ## write a page about a release to data/report.html  [DATASET= RELEASE=]
diff: .venv/.run ## show what changed from release A to release B  [A= B= DATASET=]
explain: .venv/.run ## explain why a user has this list: USER=id  [ITEM= NOVEL=1 RELEASE= DATASET=]
score: .venv/.run ## print the ML Test Score of the live release  [DATASET=]
rollback: .venv/.run ## make the release live that was live before, or another  [RELEASE= DATASET= PRODUCTION=1]
canary: .venv/.run ## serve a release to some users beside the live one: RELEASE=id SHARE=0.05, or OFF=1  [DATASET= PRODUCTION=1]
promote: .venv/.run ## make the canary live  [DATASET= PRODUCTION=1]
pin: .venv/.run ## keep a release, whatever gc deletes: RELEASE=id  [OFF=1 DATASET= PRODUCTION=1]
gc: .venv/.run ## list unreferenced snapshots; YES=1 deletes them  [KEEP=3 GRACE_HOURS=24 DATASET= PRODUCTION=1]
reproduce: .venv/.run ## make a release again from its raw snapshot alone: is it the same?  [RELEASE= DATASET=]

check-data: .venv/.run ## describe an export, propose its section of config.toml, and say whether a run will work: EVENTS=path  [ITEMS= USERS= DATASET=]
quarantine: .venv/.run ## write the events that the last run rejected, with their reasons, to a file  [DATASET= TO=data/quarantine.csv ESCAPE=1]
export: .venv/.run ## write lists to a .parquet or .csv file: TO=path  [NOVEL=1 DATASET= RELEASE= ESCAPE=1]
exposures: .venv/.run ## write what the service showed on a day: DAY=YYYY-MM-DD TO=path.parquet  [DATASET=]
add-case: .venv/.run ## hold every later release against a case: USER=id EXPECT=item,item NOT=item WHY="..."  [SEVERITY=warn DATASET=]
expect: .venv/.run ## note days on which the data may differ, so that checks only warn: FROM= TO= KIND=volume|catalogue|closed|price BECAUSE="..."; alone it lists them  [OFF=1 DATASET= PRODUCTION=1]

serve: .venv/.serve ## answer requests from the live release, with a page to try it  [DATASET= HOST= PORT=8000 PRODUCTION=1]
cron: .venv/.run ## print lines for crontab that run the three flows on their schedules, or systemd units: SYSTEMD=1
deploy: .venv/.argo ## deploy the scheduled flows to AWS Step Functions and Batch, by [cloud] of config.toml  [TO=argo-workflows FLOW= PRODUCTION=1 BRANCH= AUTHORIZE=]
undeploy: .venv/.argo ## remove deployed flows and their schedules; releases stay  [as deploy]
trigger: .venv/.argo ## start a deployed flow now: FLOW=TrainFlow  [as deploy]
cloud-status: .venv/.argo ## list the executions of deployed flows, and how they ended  [as deploy]
cost: .venv/.run ## estimate what a month in the cloud costs, at every size in bench.json
doctor: .venv/.run ## print resolved settings, versions, disk space, and what is missing  [DATASET=]
schema: .venv/.run ## write config.schema.json, by which editors check config.toml
fork: .venv/.run ## make this repository your own: NAME=acme-recs WITHOUT="shop cloud"; docs/fork.md

rehearse: .venv/.test ## deploy to an AWS on loopback and run what was deployed
	@$(BIN)/python -m pytest tests/cloud

bench: .venv/.bench ## measure what every step costs, beside implicit, into bench.json and docs/benchmarks.md  [SIZES="1e5 1e6 1e6_wide dense 1e7"]
	@PYTHONPATH=flows $(BIN)/python benchmarks/bench.py $(GIVEN)

bench-serve: .venv/.serve ## measure what a request costs, beside a bare FastAPI and a bare uvicorn  [DATASET=]
	@PYTHONPATH=flows $(BIN)/python benchmarks/bench_serve.py $(GIVEN)

test: .venv/.test ## the quick tests
	@$(PYTEST) -m "not slow" -n 2 --dist loadfile

test-all: .venv/.test .venv/.bench .venv/.browser .venv/.postgresql ## those and the slow ones
	@$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.test ## ruff, mypy, and the layers of packages
	@$(BIN)/ruff check flows benchmarks tests
	@$(BIN)/ruff format --check flows benchmarks tests
	@$(BIN)/mypy flows benchmarks tests
	@PYTHONPATH=flows $(BIN)/lint-imports --no-cache

lock: ## pin the newest versions that pyproject.toml allows; needs uv
	@command -v uvx > /dev/null || { echo "error: uvx is not on the PATH, and make lock needs it; install uv (pip install uv) and run again" >&2; exit 1; }
	@$(LOCK) pyproject.toml -o requirements/run.lock
	@$(LOCK) --extra serve -c requirements/run.lock pyproject.toml -o requirements/serve.lock
	@$(LOCK) --extra argo -c requirements/run.lock pyproject.toml -o requirements/argo.lock
	@$(LOCK) --extra lightgbm -c requirements/run.lock pyproject.toml -o requirements/lightgbm.lock
	@$(LOCK) --extra argo --extra serve --extra lightgbm --extra test -c requirements/run.lock pyproject.toml -o requirements/test.lock
	@$(LOCK) --extra bench -c requirements/run.lock pyproject.toml -o requirements/bench.lock

clean: ## remove the virtual environment, caches and run history; the store stays
	@rm -rf .venv data/metaflow data/card.html data/report.html data/docs .pytest_cache .ruff_cache .mypy_cache .metaflow*
	@find flows benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "python %d.%d is here, 3.11 to 3.13 is needed: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: requirements/run.lock | .venv/.python
	@echo "setting up .venv from $<, once; a minute or so"
	@$(INSTALL) -r requirements/run.lock
	@touch $@

.venv/.test .venv/.serve .venv/.bench .venv/.argo .venv/.lightgbm: .venv/.%: requirements/%.lock .venv/.run
	@echo "setting up .venv from $<, once; a minute or so"
	@$(INSTALL) -r $<
	@touch $@

.venv/.browser: | .venv/.python
	@$(BROWSER) || if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing chromium and chromium-driver, once"; apt-get -qq update && apt-get -qq install -y chromium chromium-driver > /dev/null; \
	else echo "the demo page's test needs chromium and chromedriver; install them (Debian: apt-get install chromium chromium-driver)"; fi
	@! $(BROWSER) || touch $@

.venv/.postgresql: | .venv/.python
	@{ $(POSTGRESQL); } || if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing postgresql, once"; apt-get -qq update && apt-get -qq install -y postgresql > /dev/null; \
	else echo "the database's test needs a PostgreSQL server; install it (Debian: apt-get install postgresql)"; fi
	@! { $(POSTGRESQL); } || touch $@
