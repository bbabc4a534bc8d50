# Two commands for a newcomer: `make demo` and `make test`. Each does all its own set-up.
# Needs: Python 3.11+ and a package index. Everything is installed into .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin

.PHONY: demo test test-servers lint check bench clean

demo: .venv/installed  ## start a server on a temporary store, submit the samples, find and retrieve them
	$(BIN)/toimik demo

test: .venv/installed-dev  ## all tests, on all cores
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# What the environment names or the PATH has is not built. See tests/servers/README.md.
test-servers: $(if $(TOIMIK_TEST_MONGODB_URL)$(shell command -v mongod),,.test-servers/toimik-mongodb-stand-in)
test-servers: $(if $(TOIMIK_TEST_S3_URL)$(shell command -v minio),,.test-servers/minio)
test-servers:  ## MongoDB and S3 stand-ins for the tests (needs Go 1.24+)

.test-servers/toimik-mongodb-stand-in: $(wildcard tests/servers/mongodb/*)
	tests/servers/mongodb/build.sh

.test-servers/minio: $(wildcard tests/servers/s3/*)
	CGO_ENABLED=0 go build -C tests/servers/s3 -mod=readonly -trimpath -buildvcs=false -ldflags="-s -w" \
		-o $(CURDIR)/$@ github.com/minio/minio

lint: .venv/installed-dev  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: .venv/installed  ## what this machine does, as ratios to bare references
	$(BIN)/toimik bench

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Toimik needs Python 3.11 or newer on the PATH."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-dev: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

clean:
	rm -rf .venv .test-servers toimik-data
