# raystorage: one command per job, from a bare clone. The work is done by scripts/; each says in its head what it does.
#
#   make demo      train, kill, resume, predict: the main job on a real model and data set (STORAGE=... for another place)
#   make test      every test that this machine can run                  make test-long   the fault matrices in full
#   make lib       build/libraystorage.so                                make wheel       dist/raystorage-*.whl
#   make install PREFIX=...   library, header and pkg-config file        make bench       benchmarks beside the peers
#   make lint      formats, layers, types                                make clean       removes what was built

SHELL := /bin/bash
PREFIX ?= /usr/local
STORAGE ?=
# More arguments for pytest, for example PYTEST="-k retention".
PYTEST ?=
# More arguments for the benchmarks, for example BENCH="--only restore --save".
BENCH ?=

.PHONY: help demo test test-long test-swift test-python lib wheel install bench lint clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '3,7p'

lib:
	@scripts/install-dependencies.sh build
	@scripts/build-library.sh

demo: lib
	@scripts/install-dependencies.sh demo
	@scripts/demo.sh "$(STORAGE)"

test: test-swift test-python

test-swift:
	@scripts/install-dependencies.sh build s3 python
	@scripts/test-swift.sh

test-python: lib
	@scripts/install-dependencies.sh test s3 python
	@scripts/test-python.sh $(PYTEST)

test-long: lib
	@scripts/install-dependencies.sh test s3 python
	@scripts/test-python.sh --long $(PYTEST)

wheel:
	@scripts/install-dependencies.sh build wheel
	@scripts/build-wheel.sh

install: lib
	@scripts/install.sh "$(PREFIX)"

bench: lib
	@scripts/install-dependencies.sh s3 python bench
	@.venv/bin/python benchmarks/run.py $(BENCH)

lint:
	@scripts/install-dependencies.sh build python
	@scripts/lint.sh

clean:
	rm -rf build dist .build
