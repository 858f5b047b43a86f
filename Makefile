# SPDX-License-Identifier: GPL-2.0
#
# All targets of the project.  "make help" lists those that people call.

BIN := build/bin
CFLAGS := -O2 -g -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	  -D_GNU_SOURCE -Iinclude/uapi -Itools/lib -Isamples/hmm_p2p
LIB := $(wildcard tools/lib/*.c)
LIB_H := $(wildcard tools/lib/*.h) include/uapi/linux/hmm_dummy.h samples/hmm_p2p/hmm_p2p_sample.h

TOOLS := $(patsubst tools/hmm-run/%.c,$(BIN)/%,$(wildcard tools/hmm-run/*.c)) $(BIN)/rdma-odp $(BIN)/hmm-place
# What tools/lib needs.
LIBS := -libverbs -lmnl
TESTS := $(patsubst selftests/%.c,$(BIN)/selftests/%,$(wildcard selftests/*.c)) $(BIN)/selftests/hmm-tests
TESTS += $(BIN)/hmm-bench $(BIN)/bench-stats

.PHONY: help
help:
	@echo "make run      demonstration: RDMA on GPU-resident memory, in place and as in stock Linux"
	@echo "make check    run the tests; T=PATTERN runs a part (T=list names them)"
	@echo "make build    build kernels and programs"
	@echo "make tools tests  build the programs only, before a direct call of a script"
	@echo "make lint     static checkers"
	@echo "make series   everything as patches for a clean kernel tree, in DIR=build/series"
	@echo "make series-check  git am takes the patches, and each builds; P=PART runs a part"
	@echo "make mutants  plant small defects: tests must catch each; T=PATTERN tries a part"
	@echo "make soak     random operations for MINUTES=20; SEED=n repeats them"
	@echo "make fuzz     random calls for MINUTES=5; SEED=n repeats them"
	@echo "make kcsan    look for data races; T=PATTERN runs a part"
	@echo "make bench    speed against stock Linux and the machine's limit: build/bench/report.html"
	@echo "make bench-quick  instructions of ten hot paths, against the accepted ones"
	@echo "make bench-accept  accept the instructions of the ten hot paths as they are now"
	@echo "make coverage lines of the kernel parts that the tests reach; T=PATTERN as for check"
	@echo "make vm       a shell in the project's kernel, with two dummy GPUs and rxe"
	@echo "make clean    remove build/; the cache stays ($${HMM_P2P_CACHE:-$${XDG_CACHE_HOME:-~/.cache}/hmm_p2p})"

.PHONY: packages
packages:
	@scripts/packages

.PHONY: tools
tools: packages
	@$(MAKE) --no-print-directory $(TOOLS)

.PHONY: tests
tests: packages
	@kernel=$$(scripts/tree source) && \
	 $(MAKE) --no-print-directory KERNEL="$$kernel" $(TESTS)

$(BIN)/%: tools/hmm-run/%.c $(LIB) $(LIB_H)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $< $(LIB) $(LIBS)

$(BIN)/hmm-place: $(wildcard tools/hmm-place/*.[ch]) tools/lib/gpu.c tools/lib/gpu.h include/uapi/linux/hmm_dummy.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $(filter %.c,$^) -ljansson

$(BIN)/rdma-odp: tools/rdma-odp/rdma-odp.c tools/lib/rdma_nl.c tools/lib/rdma_nl.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $(filter %.c,$^) -lmnl -ljansson

# test_hmm's uapi comes from the kernel tree.
$(BIN)/hmm-bench: $(wildcard tools/hmm-bench/*.[ch]) $(LIB) $(LIB_H)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -I$(KERNEL)/lib -o $@ $(filter %.c,$^) $(LIBS) -luring -ljansson -lpthread -lm

$(BIN)/bench-stats: $(wildcard tools/hmm-bench/tests/*.[ch] tools/hmm-bench/stats.[ch] tools/hmm-bench/judge.[ch])
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Itools/hmm-bench -o $@ $(filter %.c,$^) -lm

# The kernel's own harness; its headers come from the kernel tree.
$(BIN)/selftests/%: selftests/%.c $(wildcard selftests/*.h) $(LIB) $(LIB_H)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -I$(KERNEL)/tools/testing/selftests -I$(KERNEL)/lib -o $@ $< $(LIB) $(LIBS) -luring -lpthread

# The kernel's own tests of HMM, as they are, with headers of the same kernel.
HMM_TESTS = $(addprefix $(KERNEL)/tools/testing/selftests/mm/,hmm-tests.c vm_util.c hugepage_settings.c)
$(BIN)/selftests/hmm-tests: $(HMM_TESTS) build/tests-kernel
	@mkdir -p $(@D)
	$(CC) -O2 -g -D_GNU_SOURCE -isystem $(KERNEL)/tools/include/uapi -I$(KERNEL) \
		-I$(KERNEL)/tools/testing/selftests -o $@ $(HMM_TESTS) -lpthread

# Rebuild for another kernel.  Its files may be older than the program, so its folder is compared.
build/tests-kernel: FORCE
	@mkdir -p $(@D)
	@echo "$(KERNEL)" | cmp -s - $@ || echo "$(KERNEL)" > $@

.PHONY: FORCE
FORCE:

.PHONY: build
build: tools tests
	@scripts/tree build release > /dev/null
	@scripts/tree build debug > /dev/null

.PHONY: run
run: tools
	@scripts/run

.PHONY: check
check: tools tests
	@scripts/check "$(T)"

.PHONY: lint
lint: packages
	@scripts/packages packages-lint.txt
	@scripts/lint $(L)

.PHONY: series series-check
series: DIR := build/series
series: packages
	@scripts/series "$(DIR)"

series-check: packages
	@scripts/series-check $(P)

.PHONY: mutants
mutants: tools tests
	@scripts/mutants "$(T)"

# The suites of "make check", for longer and with a new seed.
LONG = HMM_P2P_SECONDS=$$(($(MINUTES) * 60)) HMM_P2P_SEED=$(SEED) \
       scripts/check --seconds $$(($(MINUTES) * 60 + 600)) --suites $@

.PHONY: soak fuzz
soak: MINUTES := 20
fuzz: MINUTES := 5
soak fuzz: SEED := $(shell date +%s)
soak fuzz: tools tests
	@case "$(MINUTES),$(SEED)" in \
	 *[!0-9,]* | ,* | *, | *,*,*) \
		echo "$@: MINUTES and SEED are numbers, not \"$(MINUTES)\" and \"$(SEED)\"" >&2; \
		exit 2 ;; \
	 esac
	@$(LONG)

.PHONY: bench bench-quick bench-accept
bench: tools tests
	@scripts/bench

bench-quick: tools tests
	@scripts/bench --quick

bench-accept: tools tests
	@scripts/bench --quick --accept

.PHONY: kcsan
kcsan: tools tests
	@scripts/kcsan "$(T)"

.PHONY: coverage
coverage: tools tests
	@scripts/coverage "$(T)"

.PHONY: vm
vm: tools tests
	@scripts/vm --rxe --gpus 2 --share "$(CURDIR)/build"

.PHONY: clean
clean:
	rm -rf build
