# `make` lists the targets. People and CI run the same ones.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
PORT ?= 5000

# Tools whose dependencies must not mix have an environment each, recreated when its hashed requirements change.
VENV := .venv
BIN := $(VENV)/bin
MINISTACK := .venv-ministack
SCANNERS := .venv-scanners
BENCH := .venv-bench
COSMIC_RAY := .venv-cosmic-ray
OPENAPI := .venv-openapi
AWS_CLI := .venv-aws-cli

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: run
run: $(VENV)/.run $(MINISTACK)/.ready ## Run the API on 127.0.0.1:5000 (PORT= changes the port) with an embedded S3
	@exec $(BIN)/python services/run_local.py --port $(PORT)

# More flags for `docker build`: make image DOCKER_BUILD_FLAGS='--network host'
DOCKER_BUILD_FLAGS ?=
IMAGE ?= s3api:local
COMPOSE := docker compose -f docker/compose.yaml

.PHONY: image
image: ## Build the container image (IMAGE= names it)
	DOCKER_BUILDKIT=1 docker build -f docker/Dockerfile -t $(IMAGE) $(DOCKER_BUILD_FLAGS) \
		--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' services/s3api/__init__.py)" \
		$(if $(BASE_IMAGE),--build-arg BASE_IMAGE="$(BASE_IMAGE)") .
	@[ -n "$(BASE_IMAGE)" ] || grep -q '^ARG BASE_IMAGE=.*@sha256:' docker/Dockerfile || \
		echo "The base image is not pinned by a digest: make base-image pins it" >&2

# BASE_IMAGE=debian:trixie-slim replaces the base image of the Dockerfiles, for a machine that reaches no registry.
.PHONY: base-image
base-image: $(VENV)/.test ## Pin the base image of the Dockerfiles to its registry's current digest
	@$(BIN)/python -m deploy.base_image

SBOM := dist/s3api.cdx.json
.PHONY: sbom
sbom: image $(SCANNERS)/.ready ## List the contents of the image, as CycloneDX, in dist
	@mkdir -p $(dir $(SBOM))
	@$(SCANNERS)/bin/trivy image --quiet --image-src docker --format cyclonedx --skip-version-check \
		--disable-telemetry --output $(SBOM) $(IMAGE)
	@$(BIN)/python -c 'import json; \
		print(len(json.load(open("$(SBOM)"))["components"]), "components of $(IMAGE): $(SBOM)")'

.PHONY: up free-ports
free-ports:
	@$(PYTHON) services/taken_ports.py up S3API_PORT=$${S3API_PORT:-5000} S3_PORT=$${S3_PORT:-4566}

up: free-ports image ## Run the image with LocalStack; PROFILE=persistent keeps the files
	S3API_IMAGE=$(IMAGE) $(COMPOSE) $(PROFILE:%=--profile %) up --detach --wait
	@install -d -m 700 .data
	@$(COMPOSE) --progress quiet cp --index 1 api:/run/secrets/credentials .data/compose_credentials
	@echo "The file API answers at http://127.0.0.1:$${S3API_PORT:-5000}; make down stops it"
	@echo "S3 itself, with the keys of this installation:"
	@echo "  AWS_SHARED_CREDENTIALS_FILE=.data/compose_credentials aws s3 --endpoint-url http://127.0.0.1:$${S3_PORT:-4566} ls s3://day02-local"

.PHONY: down
down: ## Stop the containers of `make up`; their volumes, with keys and files, stay
	S3API_IMAGE=$(IMAGE) $(COMPOSE) --profile localstack --profile persistent down

# The tests in parts, each one pytest process, four at a time: two rows of parts that use containers and wait for much
# of their time, next to parts that compute. `stack` and `deploy` lose requests when they run together on two cores,
# and `emulated` and `deploy` use the same emulated AWS.
ROW_1 := emulated stack deploy
ROW_2 := images rehearsal
COMPUTING := service page clients logic plans
PARTS := page-localstack $(ROW_1) $(ROW_2) $(COMPUTING)
OF_THE_STACK := tests/deploy/test_course.py tests/deploy/test_runbook.py tests/deploy/test_stack.py
OF_EMULATED := $(patsubst %,tests/deploy/test_%.py,attacks authorization bucket_move decisions emulated_services emulator instances leftovers restrictions)
TESTS_OF_stack := $(OF_THE_STACK)
TESTS_OF_emulated := $(OF_EMULATED)
TESTS_OF_rehearsal := tests/deploy/test_rehearsal.py
TESTS_OF_deploy := tests/deploy $(patsubst %,--ignore=%,$(OF_THE_STACK) $(OF_EMULATED) $(TESTS_OF_rehearsal))
TESTS_OF_images := tests/container
TESTS_OF_service := tests/service -m service
TESTS_OF_logic := tests/service -m "not service"
TESTS_OF_plans := tests/infra
TESTS_OF_page := tests/ui -m "not docker"
TESTS_OF_page-localstack := tests/ui -m docker
TESTS_OF_clients := tests $(patsubst %,--ignore=tests/%,container deploy infra service ui)

# Chromium aborts requests when a network interface of the machine comes or goes, as Docker's do. On Linux, root can
# give `page` a network of its own. Elsewhere it runs after the parts that use Docker.
OWN_NETWORK := $(shell unshare --net ip link set lo up 2>/dev/null && echo yes)
IN_page := $(if $(OWN_NETWORK),unshare --net sh -c 'ip link set lo up && exec "$$@"' page)

# Less work for processes that run for seconds: Python reads the bytecode of the last start, and the programs in Go
# (Terraform, its provider, SeaweedFS) collect garbage less often.
PYTEST := PYTHONDONTWRITEBYTECODE= GOGC=400 $(BIN)/pytest

# The parts that compute use the time that the others leave. Those decide how long the run takes, or measure time.
IN_TURN = $(if $(filter $*,$(COMPUTING)),nice -n 10)

# make 3.81, which macOS has, cannot print the output of one target after the other.
SIDE_BY_SIDE = $(MAKE) --no-print-directory $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: test
test: ## Run every check and every test
	@rm -rf .test && mkdir .test
	@$(SIDE_BY_SIDE) -j5 environments check test-page-localstack
	@echo "running the tests; .test/*.log show how far they are"
	@$(SIDE_BY_SIDE) -j4 test-row-1 test-row-2 $(COMPUTING:%=test-%)
	@grep -hE '^(FAILED|ERROR) ' .test/*.log || true
	@for part in $(PARTS); do echo "$$part: $$(grep . .test/$$part.log | tail -n 1)"; done
	@! grep -qv '^0$$' .test/*.status

# A part that fails does not keep the next from running: `test` reads the exit status at the end.
.PHONY: $(PARTS:%=test-%)
$(PARTS:%=test-%): test-%:
	@$(IN_TURN) $(IN_$*) env $(PYTEST) --durations=10 $(TESTS_OF_$*) >.test/$*.log 2>&1; echo $$? >.test/$*.status; cat .test/$*.log

# In one recipe: as prerequisites, make would begin the next one long after the last has ended.
.PHONY: test-row-1 test-row-2
test-row-1 test-row-2: test-row-%:
	@for part in $(ROW_$*); do $(MAKE) --no-print-directory test-$$part; done

# Before the parts that make networks: its Chromium is in the network of the machine, where LocalStack is.
test-page-localstack: $(VENV)/.test $(MINISTACK)/.ready
$(if $(OWN_NETWORK),,test-page: test-row-1 test-row-2)

.PHONY: environments
environments: $(VENV)/.test $(MINISTACK)/.ready $(SCANNERS)/.ready $(BENCH)/.ready $(OPENAPI)/.ready $(AWS_CLI)/.ready node-clients

QUICK := $(PYTEST) -q --hypothesis-profile=quick
QUICK_TESTS := not docker and not browser and not terraform and not service

.PHONY: quick
quick: $(VENV)/.test $(MINISTACK)/.ready ## Run every check, and the tests that need no container, browser, Terraform or service
	@$(SIDE_BY_SIDE) -j5 quick-store quick-service quick-s3 check quick-others

# Four processes. The two with S3 servers wait for much of their time.
.PHONY: quick-store quick-service quick-s3 quick-others
quick-store:
	@$(QUICK) tests/service/test_store.py -m "$(QUICK_TESTS) and s3"

quick-service:
	@$(QUICK) tests/service -m "$(QUICK_TESTS) and not s3"

quick-s3:
	@$(QUICK) tests/service --ignore=tests/service/test_store.py -m "$(QUICK_TESTS) and s3"

quick-others:
	@$(QUICK) tests --ignore=tests/service -m "$(QUICK_TESTS)"

# The tests that can detect a change of a module. For each mutant, those that call the changed function run, the fastest
# first. TESTS= names others:
# make mutants MODULE=auth TESTS=tests
SERVICE_TESTS = $(patsubst %,tests/service/test_%.py,$(1))
# This test fails if an argument of `documented` changes.
DOCUMENT := tests/service/test_fuzz.py::test_committed_document_is_the_generated_one
# These fail if a view with a JSON body takes another media type, or a body of any size.
JSON_BODIES := $(addprefix tests/service/test_http.py::,test_json_only_as_json test_a_json_body_has_a_limit)
NOTICED_archive := $(call SERVICE_TESTS,archive)
NOTICED_auth := $(call SERVICE_TESTS,edges http)
NOTICED_bodies := $(call SERVICE_TESTS,edges use_cases http store)
NOTICED_copy_routes := $(DOCUMENT) $(JSON_BODIES) $(call SERVICE_TESTS,copying)
NOTICED_copying := $(call SERVICE_TESTS,copying)
NOTICED_errors := tests/service/test_documentation.py::test_every_code_is_explained $(call SERVICE_TESTS,edges http)
NOTICED_file_store := $(call SERVICE_TESTS,use_cases edges http)
NOTICED_files := $(call SERVICE_TESTS,use_cases edges reading http properties)
NOTICED_headers := $(call SERVICE_TESTS,headers reading http)
NOTICED_health := $(call SERVICE_TESTS,operations edges http)
NOTICED_jwt_tokens := $(call SERVICE_TESTS,jwt_tokens)
NOTICED_names := $(call SERVICE_TESTS,edges reading http properties)
NOTICED_reloading := $(call SERVICE_TESTS,jwt_tokens)
NOTICED_resumable := $(call SERVICE_TESTS,tus)
NOTICED_routes := $(DOCUMENT) $(call SERVICE_TESTS,edges http reading archive searching)
NOTICED_s3_answers := $(call SERVICE_TESTS,s3_answers edges s3_http store)
NOTICED_s3_copying := $(call SERVICE_TESTS,copying)
NOTICED_s3_errors := $(call SERVICE_TESTS,use_cases s3_http s3_answers store)
NOTICED_s3_http := $(call SERVICE_TESTS,edges s3_signing s3_http s3_answers store)
NOTICED_s3_multipart := $(call SERVICE_TESTS,edges s3_answers store)
NOTICED_s3_restore := $(NOTICED_s3_multipart)
NOTICED_s3_signing := $(NOTICED_s3_http)
NOTICED_s3_store := $(NOTICED_s3_http)
NOTICED_s3_values := $(NOTICED_s3_answers)
NOTICED_s3_versions := $(call SERVICE_TESTS,versions)
NOTICED_searching := $(call SERVICE_TESTS,searching)
NOTICED_signed_values := $(call SERVICE_TESTS,edges http properties tus upload_links)
NOTICED_staging := $(call SERVICE_TESTS,staging edges http)
NOTICED_tus := $(DOCUMENT) $(call SERVICE_TESTS,tus)
NOTICED_upload_link_routes := $(DOCUMENT) $(JSON_BODIES) $(call SERVICE_TESTS,upload_links)
NOTICED_upload_links := $(call SERVICE_TESTS,upload_links)
NOTICED_version_routes := $(DOCUMENT) $(JSON_BODIES) $(call SERVICE_TESTS,versions)
NOTICED_versions := $(call SERVICE_TESTS,versions)
NOTICED_write_headers := $(call SERVICE_TESTS,edges http http_details) \
	tests/service/test_write_fuzz.py::test_an_empty_value_is_refused_too
TESTS ?= $(or $(NOTICED_$(MODULE)),$(call SERVICE_TESTS,edges use_cases views http properties operations))
# A random sample of the mutants, the same for the same SEED: make mutants MODULE=auth SAMPLE=40
SAMPLE ?=
SEED ?= 1

HAS_MODULE = [ -f services/s3api/$(MODULE).py ] || { echo "Name a module: make $@ MODULE=auth"; exit 1; }

.PHONY: tests-of
tests-of: $(VENV)/.test $(MINISTACK)/.ready ## Run the tests of MODULE, for example make tests-of MODULE=auth
	@$(HAS_MODULE)
	$(PYTEST) -q -m 'not docker and not browser' $(TESTS)

.PHONY: mutants
mutants: $(VENV)/.test $(MINISTACK)/.ready $(COSMIC_RAY)/.ready ## Change MODULE in one place at a time, in a copy; print the changes that no test notices, and the score
	@$(HAS_MODULE)
	@rm -rf .mutants && mkdir .mutants
	@git ls-files --cached --others --exclude-standard | tar -cf - -T - | tar -xf - -C .mutants
	@ln -s ../$(VENV) ../$(MINISTACK) .mutants
	@cd .mutants && PYTHONPATH="$(CURDIR)/.mutants/services" \
		../$(COSMIC_RAY)/bin/python tests/mutants.py services/s3api/$(MODULE).py '$(SAMPLE)' $(SEED) \
		$(VENV)/bin/python tests/mutant_tests.py services/s3api/$(MODULE).py \
		-m 'not docker and not browser and not service' -k 'not tls and not seaweedfs' $(TESTS)

# ENV=day02 and ENV=prod are AWS. ENV=local is the root of day02 on emulated AWS, on this machine.
ENV ?= local
DEPLOY := $(BIN)/python -m deploy

.PHONY: deploy plan status refresh bucket url logs unlock destroy rehearse
deploy: $(VENV)/.test ## Deploy the whole stack: ENV=local (the default), day02 or prod
	@$(DEPLOY) deploy --env $(ENV)

plan: $(VENV)/.test ## Print what a deployment would change in the settings of ENV
	@$(DEPLOY) plan --env $(ENV)

status: $(VENV)/.test ## Print what runs in ENV: image, rollout, health, events, cost, drift
	@$(DEPLOY) status --env $(ENV)

refresh: $(VENV)/.test ## Replace the instances of ENV by ones of the newest launch template
	@$(DEPLOY) refresh --env $(ENV)

bucket: $(VENV)/.test ## Create the buckets of ENV, which Terraform does not manage
	@$(DEPLOY) bucket --env $(ENV)

url: $(VENV)/.test ## Print the URL of ENV
	@$(DEPLOY) url --env $(ENV)

logs: $(VENV)/.test ## Print the last minutes of the logs of ENV
	@$(DEPLOY) logs --env $(ENV)

unlock: $(VENV)/.test ## Release the lock LOCK that an interrupted deployment of ENV left
	@$(DEPLOY) unlock --env $(ENV)

destroy: $(VENV)/.test ## Remove the stack of ENV; the bucket and its files stay
	@$(DEPLOY) destroy --env $(ENV)

rehearse: $(VENV)/.test ## Deploy the root of ENV=prod or day02 to emulated AWS, check it, and remove everything
	@$(DEPLOY) rehearse --env $(if $(filter local,$(ENV)),prod,$(ENV))

.PHONY: purge
purge: $(VENV)/.test ## Remove what destroy and down keep, for good: buckets, parameters, volumes; asks for the name
	@$(DEPLOY) purge --env $(ENV)

.PHONY: bench
bench: $(VENV)/.test $(BENCH)/.ready node-opponents ## Measure everything, into docs (QUICK=1: small sizes, ONLY=1a,2: these works; into .bench)
	PYTHONPATH=tests $(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)')

# Node is optional: without it the page says which opponents are missing.
.PHONY: node-opponents
node-opponents:
	@if command -v npm >/dev/null; then $(MAKE) --silent tests/bench/node_modules/.ready; fi

# Node is optional: without it, the tests that need it are skipped. In CI they fail.
.PHONY: node-clients
node-clients:
	@if command -v npm >/dev/null; then $(MAKE) --silent tests/service/node/node_modules/.ready tests/ui/uppy/node_modules/.ready; fi

.PHONY: check
check: $(VENV)/.test ## Lint, types, import directions, shell scripts, workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/shellcheck .ci/run .ci/tour
	$(BIN)/actionlint -shellcheck $(BIN)/shellcheck
	$(BIN)/zizmor --offline --quiet --persona pedantic .github
	$(BIN)/pre-commit validate-config

.PHONY: format
format: $(VENV)/.test ## Format the Python code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: docs
docs: $(VENV)/.test ## Generate the API document, and the tables, diagrams and figures of the documentation
	$(BIN)/python -m s3api openapi > services/s3api/static/openapi.json.new
	mv services/s3api/static/openapi.json.new services/s3api/static/openapi.json
	PYTHONPATH=tests $(BIN)/python -m cli.docs > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md
	PYTHONPATH=tests $(BIN)/python -m service.generated
	PYTHONPATH=tests $(BIN)/python -m bench --render
	@command -v terraform >/dev/null || { echo "The tables of the Terraform modules need Terraform: all else is written" >&2; exit 1; }
	PYTHONPATH=tests $(BIN)/python -m infra.terraform_docs --write

.PHONY: pictures
pictures: $(VENV)/.test $(MINISTACK)/.ready ## Take new pictures of the page for the documentation
	S3API_PICTURES=1 $(BIN)/pytest tests/ui -k picture

COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: lock
lock: $(VENV)/.test ## Update the hashed requirement files to the newest versions
	$(COMPILE) --upgrade pyproject.toml -o services/requirements.txt
	$(COMPILE) --upgrade pyproject.toml --group test -c services/requirements.txt -o tests/requirements.txt
	$(COMPILE) --upgrade docker/ministack/requirements.in -o docker/ministack/requirements.txt
	$(COMPILE) --upgrade docker/aws/requirements.in -c docker/ministack/requirements.txt -o docker/aws/requirements.txt
	$(COMPILE) --upgrade tests/infra/requirements.in -o tests/infra/requirements.txt
	$(COMPILE) --upgrade tests/bench/requirements.in -c services/requirements.txt -o tests/bench/requirements.txt
	echo openapi-python-client | $(COMPILE) --upgrade - -o tests/openapi-python-client.txt
	echo awscli | $(COMPILE) --upgrade - -o tests/aws-cli.txt
	echo cosmic-ray | $(COMPILE) --upgrade - -o tests/cosmic-ray.txt
	echo uv | $(COMPILE) --upgrade - -o services/uv.txt

.PHONY: clean
clean: ## Remove the environments and caches, not the data of `make run`
	rm -rf .venv .venv-ministack .venv-scanners .venv-bench .venv-cosmic-ray .venv-openapi .venv-aws-cli .mutants .test tests/bench/node_modules tests/service/node/node_modules tests/ui/uppy/node_modules tests/ui/uppy/6/node_modules .bench .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# uv checks every hash and installs in seconds. pip installs uv itself, from its own hashed requirements.
# Tests use little of the other environments: Python compiles that on first use.
COMPILED = $(if $(filter $(VENV) $(MINISTACK),$(@D)),--compile-bytecode)
INSTALL = @$(BIN)/uv pip install --quiet $(COMPILED) --require-hashes --python $(@D)/bin/python -r $<

$(VENV)/.uv: services/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@[ -e $(VENV)/pyvenv.cfg ] || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python has no venv module: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $<
	@touch $@

$(VENV)/.run: services/requirements.txt $(VENV)/.uv
	@echo "installing the service's dependencies into $(VENV)"
	$(INSTALL)
	@$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "s3api.pth").write_text(str(pathlib.Path("services").resolve()))'
	@printf '#!/bin/sh\nexec "%s" -m s3api "$$@"\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/s3api
	@chmod +x $(BIN)/s3api
	@touch $@

$(VENV)/.test: tests/requirements.txt $(VENV)/.run
	@echo "installing what the tests need into $(VENV)"
	$(INSTALL)
	@touch $@

$(MINISTACK)/.ready: docker/ministack/requirements.txt $(VENV)/.uv
	@echo "installing the embedded S3 into $(MINISTACK)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(MINISTACK)
	$(INSTALL)
	@touch $@

$(SCANNERS)/.ready: tests/infra/requirements.txt $(VENV)/.uv
	@echo "installing the infrastructure's scanners into $(SCANNERS)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SCANNERS)
	$(INSTALL)
	@touch $@

$(BENCH)/.ready: tests/bench/requirements.txt $(VENV)/.uv
	@echo "installing the opponents of the benchmarks into $(BENCH)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(BENCH)
	$(INSTALL)
	@touch $@

$(COSMIC_RAY)/.ready: tests/cosmic-ray.txt $(VENV)/.uv
	@echo "installing cosmic-ray into $(COSMIC_RAY)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(COSMIC_RAY)
	$(INSTALL)
	@touch $@

$(OPENAPI)/.ready: tests/openapi-python-client.txt $(VENV)/.uv
	@echo "installing the generator of Python clients into $(OPENAPI)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(OPENAPI)
	$(INSTALL)
	@touch $@

$(AWS_CLI)/.ready: tests/aws-cli.txt $(VENV)/.uv
	@echo "installing the AWS command line into $(AWS_CLI)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(AWS_CLI)
	$(INSTALL)
	@touch $@

tests/service/node/node_modules/.ready: tests/service/node/package-lock.json
	@echo "installing the linter and the generator of TypeScript clients into $(@D)"
	@npm ci --prefix $(<D) --silent --ignore-scripts
	@touch $@

tests/ui/uppy/node_modules/.ready: tests/ui/uppy/package-lock.json
	@echo "installing two versions of Uppy into $(@D)"
	@npm ci --prefix $(<D) --silent --ignore-scripts
	@touch $@

tests/bench/node_modules/.ready: tests/bench/package-lock.json
	@echo "installing the opponents that are Node's into $(@D)"
	@npm ci --prefix $(<D) --silent --ignore-scripts
	@touch $@
