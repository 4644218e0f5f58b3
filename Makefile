# Every verb of the template; bare `make` lists them. Each does its own set-up, once.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps --only-binary :all:
# What stands on make's command line, as NAME='value'. The same names in the environment do not count: there, USER and HOST mean others.
GIVEN = $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)='$(subst ','\'',$(value $(name)))'))
RUN = exec $(BIN)/python flows/commands.py $(GIVEN)
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

.DEFAULT_GOAL := help
.PHONY: help run audit recommend monitor cron resume tune step card releases verify rollback pin canary promote gc check-data quarantine report export exposures explain add-case expect reproduce diff score doctor schema serve bench bench-serve test test-all lint lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "make %-10s %s\n", $$1, $$2}'

run: .venv/.run ## raw events to a published release  [DATASET= AS_OF=YYYY-MM-DD SAMPLE=0.01 CANARY=0.05 ON=batch RAW= EVENTS= ITEMS= USERS= PRODUCTION=1]
	@$(RUN) run

audit: .venv/.run ## the same with the costly checks: other seeds, bad days, leaks, behaviour  [as run]
	@$(RUN) audit

recommend: .venv/.run ## new lists by the live model, as of today  [DATASET= AS_OF= SAMPLE= RAW= EVENTS= ITEMS= USERS= PRODUCTION=1]
	@$(RUN) recommend

monitor: .venv/.run ## how did what was live do against what then happened?  [as recommend]
	@$(RUN) monitor

cron: .venv/.run ## lines for crontab that run the three flows on their schedules, or systemd units: SYSTEMD=1
	@$(RUN) cron

resume: .venv/.run ## go on with the last run where it failed  [FLOW=TrainFlow PRODUCTION=1]
	@$(RUN) resume

step: .venv/.run ## run one step again on the last run's artifacts: STEP=recommend  [PRODUCTION=1]
	@$(RUN) step

tune: .venv/.run ## try one change at a time against config.toml, into tuning.md  [RECOMMENDER=two_stage DATASET= AS_OF= SAMPLE=]
	@$(RUN) tune

card: .venv/.run ## write the last run's card to data/card.html
	@$(RUN) card

releases: .venv/.run ## every release that is kept, newest first, and who points at it  [DATASET=]
	@$(RUN) releases

verify: .venv/.run ## could a release be served? bytes, structure, evidence, answers  [RELEASE= DATASET=]
	@$(RUN) verify

rollback: .venv/.run ## back to the release that was live before, or to another  [RELEASE= DATASET= PRODUCTION=1]
	@$(RUN) rollback

pin: .venv/.run ## keep a release from being freed: RELEASE=id  [OFF=1 DATASET= PRODUCTION=1]
	@$(RUN) pin

canary: .venv/.run ## try a release beside the live one: RELEASE=id SHARE=0.05, or OFF=1  [DATASET= PRODUCTION=1]
	@$(RUN) canary

promote: .venv/.run ## make the canary live  [DATASET= PRODUCTION=1]
	@$(RUN) promote

gc: .venv/.run ## what nobody needs any more; YES=1 frees it  [KEEP=3 GRACE_HOURS=24 DATASET= PRODUCTION=1]
	@$(RUN) gc

serve: .venv/.serve ## answer requests from the live release, with a page to try it  [DATASET= HOST= PORT=8000 PRODUCTION=1]
	@exec $(BIN)/python flows/serve.py $(GIVEN)

bench-serve: .venv/.serve ## what a request costs, beside a bare FastAPI and a bare uvicorn
	@$(BIN)/python flows/bench_serve.py $(GIVEN)

check-data: .venv/.run ## what an export holds, the section of config.toml for it, and whether a run will work: EVENTS=path  [ITEMS= USERS= DATASET=]
	@$(RUN) check_data

quarantine: .venv/.run ## write the events that the last run rejected, with their reasons, to a file  [DATASET= TO=data/quarantine.csv ESCAPE=1]
	@$(RUN) quarantine

report: .venv/.run ## one page about a release, in data/report.html  [DATASET= RELEASE=]
	@$(RUN) report

export: .venv/.run ## lists to a .parquet or .csv file: TO=path  [NOVEL=1 DATASET= RELEASE= ESCAPE=1]
	@$(RUN) export

explain: .venv/.run ## why a user has this list: USER=id  [ITEM= NOVEL=1 RELEASE= DATASET=]
	@$(RUN) explain

exposures: .venv/.run ## what the service showed on a day: DAY=YYYY-MM-DD TO=path.parquet  [DATASET=]
	@$(RUN) exposures

reproduce: .venv/.run ## make a release again from its raw snapshot alone: is it the same?  [RELEASE= DATASET=]
	@$(RUN) reproduce

diff: .venv/.run ## what changed between two releases, from A to B  [A= B= DATASET=]
	@$(RUN) diff

score: .venv/.run ## the ML Test Score, by evidence found in the live release and the last tests  [DATASET=]
	@$(RUN) score

add-case: .venv/.run ## hold every later release against a case: USER=id EXPECT=item,item NOT=item WHY="..."  [SEVERITY=warn DATASET=]
	@$(RUN) add_case

expect: .venv/.run ## days on which the data may differ, so that checks only warn: FROM= TO= KIND=volume|catalogue|closed|price BECAUSE="..."; alone it lists them  [OFF=1 DATASET= PRODUCTION=1]
	@$(RUN) expect

doctor: .venv/.run ## resolved settings, versions, disk, and what is missing  [DATASET=]
	@$(RUN) doctor

schema: .venv/.run ## write config.schema.json, by which editors check config.toml
	@$(RUN) schema

deploy: .venv/.argo ## the scheduled flows to AWS Step Functions and Batch, by [cloud] of config.toml  [TO=argo-workflows FLOW= PRODUCTION=1 BRANCH= AUTHORIZE=]
	@$(RUN) deploy

undeploy: .venv/.argo ## flows and schedules away again; releases stay  [as deploy]
	@$(RUN) undeploy

trigger: .venv/.argo ## start a deployed flow now: FLOW=TrainFlow  [as deploy]
	@$(RUN) trigger

cloud-status: .venv/.argo ## what became of the executions  [as deploy]
	@$(RUN) cloud_status

cost: .venv/.run ## what a month in the cloud costs, at every size in bench.json
	@$(RUN) cost

rehearse: .venv/.test ## deploy to an AWS on loopback and run what was deployed
	@$(BIN)/python -m pytest tests/cloud

bench: .venv/.bench ## what every step costs, beside implicit, into bench.json and README.md  [SIZES="1e5 1e6 1e6_wide 1e7"]
	@$(BIN)/python flows/bench.py $(GIVEN)

test: .venv/.test ## the quick tests
	@$(PYTEST) -m "not slow" -n 2 --dist loadfile

test-all: .venv/.test .venv/.bench .venv/.browser .venv/.postgresql ## those and the slow ones
	@$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.test ## ruff and mypy
	@$(BIN)/ruff check flows tests
	@$(BIN)/ruff format --check flows tests
	@$(BIN)/mypy flows tests

lock: ## pin the newest versions that pyproject.toml allows; needs uv
	@command -v uvx > /dev/null || { echo "error: uvx is not on the PATH, and make lock needs it; install uv (pip install uv) and run again" >&2; exit 1; }
	@$(LOCK) pyproject.toml -o requirements.lock
	@$(LOCK) --extra serve -c requirements.lock pyproject.toml -o requirements-serve.lock
	@$(LOCK) --extra argo -c requirements.lock pyproject.toml -o requirements-argo.lock
	@$(LOCK) --extra lightgbm -c requirements.lock pyproject.toml -o requirements-lightgbm.lock
	@$(LOCK) --extra argo --extra serve --extra lightgbm --extra test -c requirements.lock pyproject.toml -o requirements-test.lock
	@$(LOCK) --extra bench -c requirements.lock pyproject.toml -o requirements-bench.lock

clean: ## remove the virtual environment, caches and run history; the store stays
	@rm -rf .venv data/metaflow data/card.html data/report.html data/docs .pytest_cache .ruff_cache .mypy_cache .metaflow*
	@find flows tests -name __pycache__ -prune -exec rm -rf {} +

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "python %d.%d is here, 3.11 to 3.13 is needed: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: requirements.lock | .venv/.python
	@echo "setting up .venv from $<, once; a minute or so"
	@$(INSTALL) -r requirements.lock
	@touch $@

.venv/.test .venv/.serve .venv/.bench .venv/.argo .venv/.lightgbm: .venv/.%: requirements-%.lock .venv/.run
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
