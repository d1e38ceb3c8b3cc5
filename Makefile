# Commands for people; the build itself is CMake, with its presets. `make help` lists them.

PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
ARGS ?=
SECONDS ?= 60

.DEFAULT_GOAL := build
.PHONY: build windows load run test asan tsan sim fuzz bench install clean help soak mutants coverage

## make                 installs what is missing, builds libraries and programs into build/release
build:
	@tools/bootstrap build
	@cmake --preset release >/dev/null
	@cmake --build build/release --target iocp_product --parallel $(JOBS)

## make windows         builds DLL, library and programs for Windows (MinGW-w64) into build/windows
windows:
	@tools/bootstrap windows
	@cmake --preset windows >/dev/null
	@cmake --build build/windows --target iocp_product --parallel $(JOBS)

## make load            the same as make, and iocp-load, with a library that it fetches
load:
	@tools/bootstrap load
	@cmake --preset release >/dev/null
	@cmake --build build/release --target iocp_product --parallel $(JOBS)

## make run ARGS="..."  builds and starts the chat server; ARGS=--help shows its options
run: build
	@exec build/release/bin/iocp-chat $(ARGS)

## make test            runs all tests: on Linux, with address and with thread sanitizer, under Wine
test:
	@tools/bootstrap test
	@exec tools/run-tests

## make asan            runs the tests with AddressSanitizer and UndefinedBehaviorSanitizer
## make tsan            runs the tests with ThreadSanitizer
asan tsan:
	@tools/bootstrap test
	@exec tools/run-tests $@

## make sim SEEDS=n     runs n seeds of each scenario of the simulation (tests/sim)
SEEDS ?= 1000
sim:
	@tools/bootstrap test
	@exec tools/sim --seeds $(SEEDS) -j $(JOBS) $(ARGS)

## make fuzz SECONDS=60 runs each fuzz target for so long, with sanitizers
fuzz:
	@tools/bootstrap test
	@cmake --preset asan >/dev/null
	@cmake --build build/asan --target fuzz --parallel $(JOBS)
	@exec tests/fuzz/run --seconds $(SECONDS) build/asan/tests/fuzz

## make mutants         plants known bugs, one at a time, and shows which test catches each; ONLY="NAME..."
ONLY ?=
mutants:
	@tools/bootstrap test
	@exec tests/mutants/run --jobs $(JOBS) $(ONLY)

## make coverage        counts the branches of src/core and src/net that the tests take
coverage:
	@tools/bootstrap test
	@exec tools/coverage $(ARGS)

## make soak MINUTES=n  runs both servers on both backends under a storm of clients (tools/soak)
MINUTES ?= 1
PRESET ?= $(if $(TEST_LAUNCHER),windows,release)
soak:
	@tools/bootstrap test
	@exec tools/soak --minutes $(MINUTES) --preset $(PRESET) $(ARGS)

## make bench           measures beside the peers (bench/README.md), about 13 minutes; QUICK=1: one
bench:
	@tools/bootstrap bench
	@cmake --preset release >/dev/null
	@cmake --build build/release --target iocp_product iocp_bench --parallel $(JOBS)
	@exec bench/run $(if $(QUICK),--quick) $(ARGS)

## make install         installs into PREFIX (/usr/local), below DESTDIR when it is set
install: build
	@DESTDIR='$(DESTDIR)' cmake --install build/release --prefix "$$(realpath -m -- '$(PREFIX)')"
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then ldconfig; fi

## make clean           removes build/
clean:
	@rm -rf build

help:
	@sed -n 's/^## //p' Makefile
