# ffwd — `make help` lists the targets.
#
#   build/ffwd          the engine: command line and worker (no HTTP, no database)
#   build/ffwd-server   the HTTP service (no oneDNN, no CUDA)
#
# SAN=address,undefined or SAN=thread builds the same things with sanitizers under build/san-*/.
# WERROR=0 keeps warnings from being errors; V=1 shows the commands.

CC ?= gcc
SAN ?=
WERROR ?= 1
V ?= 0
comma := ,
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf "  %-4s %s\n" $(1) $@)

B := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
OBJ := $(B)/obj

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla \
        -Wformat=2 $(if $(filter 1,$(WERROR)),-Werror)
CPPFLAGS := -I. -D_GNU_SOURCE
CFLAGS := -std=c11 -g -O2 -fstack-protector-strong -fno-omit-frame-pointer -pthread $(WARN) \
          $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
LDFLAGS := -pthread $(if $(SAN),-fsanitize=$(SAN))
# Kernels: vector code with fused multiply-add; NaN and infinity keep their meaning.
KERNEL_CFLAGS := -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math

BASE_LIBS := -ljansson -lsodium
ENGINE_LIBS := -ldnnl -lgomp -lpcre2-8 -lutf8proc -ldl -lm
SERVER_LIBS := -lmicrohttpd -luv -lsqlite3 -lm

base_src := $(wildcard base/*.c)
engine_src := $(filter-out engine/main.c,$(wildcard engine/*.c engine/model/*.c engine/text/*.c \
              engine/train/*.c engine/cli/*.c engine/ops/*.c engine/ops/cpu/*.c))
storage_src := $(wildcard storage/*.c)
api_src := $(wildcard api/*.c)
server_src := $(filter-out server/main.c,$(wildcard server/*.c))
objects = $(patsubst %.c,$(OBJ)/%.o,$(1))

lib_base := $(B)/libbase.a
lib_engine := $(B)/libengine.a
lib_storage := $(B)/libstorage.a
lib_api := $(B)/libapi.a
lib_server := $(B)/libserver.a

unit_base := $(wildcard tests/unit/base/*.c)
unit_engine := $(wildcard tests/unit/engine/*/*.c tests/unit/engine/*.c tests/ops/test_*.c \
               tests/reference/test_*.c)
unit_server := $(wildcard tests/unit/storage/*.c tests/unit/api/*.c tests/unit/server/*.c)
test_bins := $(patsubst tests/%.c,$(B)/tests/%,$(unit_base) $(unit_engine) $(unit_server))
# Code shared by the tests of one group: tests/GROUP/support/*.c
support_engine := $(call objects,$(wildcard tests/ops/support/*.c tests/reference/support/*.c))

.PHONY: all programs deps help demo test test-bins test-clients lint format bench bench-cpu clean
.DELETE_ON_ERROR:
.SECONDARY:

all: deps
	@$(MAKE) --no-print-directory programs

programs: $(B)/ffwd $(B)/ffwd-server

deps: ## install the Debian packages that are missing (or name them)
	@docker/install-packages.sh

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

# ---- programs -------------------------------------------------------------------------------

$(B)/ffwd: $(OBJ)/engine/main.o $(lib_engine) $(lib_base)
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -rdynamic -o $@ $^ $(ENGINE_LIBS) $(BASE_LIBS)

$(B)/ffwd-server: $(OBJ)/server/main.o $(lib_server) $(lib_api) $(lib_storage) $(lib_base)
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(SERVER_LIBS) $(BASE_LIBS)

$(lib_base): $(call objects,$(base_src))
$(lib_engine): $(call objects,$(engine_src))
$(lib_storage): $(call objects,$(storage_src))
$(lib_api): $(call objects,$(api_src))
$(lib_server): $(call objects,$(server_src))
$(B)/lib%.a:
	@rm -f $@
	$(Q)ar rcs $@ $^

$(OBJ)/engine/ops/%.o: CFLAGS += $(KERNEL_CFLAGS)
$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- tests ----------------------------------------------------------------------------------

$(B)/tests/unit/base/%: tests/unit/base/%.c $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d -o $@ $< $(lib_base) -lcriterion $(BASE_LIBS) -lm

engine_bins := $(patsubst tests/%.c,$(B)/tests/%,$(unit_engine))
$(engine_bins): $(B)/tests/%: tests/%.c $(support_engine) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d -o $@ $< $(support_engine) $(lib_engine) $(lib_base) \
	    -lcriterion $(ENGINE_LIBS) $(BASE_LIBS)

server_bins := $(patsubst tests/%.c,$(B)/tests/%,$(unit_server))
$(server_bins): $(B)/tests/%: tests/%.c $(lib_server) $(lib_api) $(lib_storage) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d -o $@ $< $(lib_server) $(lib_api) $(lib_storage) $(lib_base) \
	    -lcriterion $(SERVER_LIBS) $(BASE_LIBS)

# Criterion's separate processes do not run under ThreadSanitizer; tests/ops brings a stand-in.
ifeq ($(SAN),thread)
$(B)/tests/ops/% $(OBJ)/tests/ops/%: CPPFLAGS += -Itests/ops/thread
endif

test-bins: programs $(test_bins)

test: deps ## every test that needs no GPU and no package index
	@$(MAKE) --no-print-directory test-bins
	@tests/run.sh $(B)

test-clients: deps ## the real clients: openai SDK, PEFT, schemathesis (in a virtual environment)
	@$(MAKE) --no-print-directory programs
	@tests/clients/run.sh $(B)

demo: all ## upload, train with Fast Forward, download the adapter
	@tests/demo/demo.sh $(B)

$(B)/tests/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $<

bench: all $(B)/tests/bench/sse_readers ## CPU benchmarks as JSON
	@tests/bench/run.sh $(B)

bench-cpu: all ## ffwd and PEFT side by side on this CPU (installs PEFT into a virtual environment)
	@tests/bench/cpu.sh $(B) $(BENCH)

lint: ## format, include table, links, ceilings, banned functions
	@tests/lint/lint.sh $(B)

format: ## rewrite the sources in the project's format
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean: ## remove build/
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
