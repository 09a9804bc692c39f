# ffwd — `make help` lists the targets.
#
#   build/ffwd          the engine: command line and worker (no HTTP, no database)
#   build/ffwd-server   the HTTP service (no oneDNN, no CUDA)
#   build/libffwd-cuda.so   the CUDA device, where nvcc is; ffwd loads it when a device asks for it
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
SERVER_LIBS := -lmicrohttpd -luv -lsqlite3 -lcurl -lm

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

.PHONY: all programs cuda deps help demo test test-bins test-clients lint format bench bench-cpu bench-server bench-ff \
        gpu-build gpu-check gpu-bench gpu-plans gpu-sanitize clean
.DELETE_ON_ERROR:
.SECONDARY:

all: deps
	@$(MAKE) --no-print-directory programs cuda

programs: $(B)/ffwd $(B)/ffwd-server

deps: ## install the Debian packages that are missing (or name them)
	@docker/install-packages.sh
	@$(if $(NVCC),docker/fetch-cudnn-frontend.sh,:)

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

# ---- the CUDA device ------------------------------------------------------------------------
# Host code by the C compiler, kernels by nvcc. ffwd exports what the library uses of base and
# engine/ops; the CUDA runtime is linked statically, cuBLASLt is found at load time. cuDNN is looked
# for when a device is opened; where its headers and its frontend's are not at hand, the library is
# built without it.

NVCC ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ROOT := $(patsubst %/bin/nvcc,%,$(NVCC))
NVCCFLAGS := -std=c++17 -O3 -lineinfo --compiler-options -fPIC,-Wall,-Wextra \
             $(if $(filter 1,$(WERROR)),-Werror all-warnings) \
             -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90a,code=sm_90a
CUDNN_FRONTEND := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ffwd/cudnn-frontend-1.32.0/include
CUDNN_INCLUDE := $(patsubst %/,%,$(dir $(firstword $(wildcard \
    $(addsuffix /cudnn.h,$(CUDA_ROOT)/include /usr/local/cudnn/include /usr/include /usr/include/*-linux-gnu)))))
cudnn := $(and $(wildcard $(CUDNN_FRONTEND)/cudnn_frontend.h),$(CUDNN_INCLUDE))
absent_cudnn := engine/ops/cuda/attention_cudnn_absent.c
cuda_c := $(filter-out $(absent_cudnn),$(wildcard engine/ops/cuda/*.c))
cuda_cu := $(wildcard engine/ops/cuda/*.cu)
cuda_objects := $(cuda_c:%.c=build/cuda/%.o) $(cuda_cu:%.cu=build/cuda/%.cu.o) \
    build/cuda/$(if $(cudnn),engine/ops/cuda/attention_cudnn.cc.o,$(absent_cudnn:.c=.o))

ifneq ($(NVCC),)
cuda: build/libffwd-cuda.so ## the CUDA device, where nvcc is
	@$(if $(cudnn),:,echo "no headers of cuDNN or of its frontend here: attention by our own kernels alone")
else
cuda:
	@echo "SKIP: no nvcc here, so no CUDA device is built"
endif

build/libffwd-cuda.so: $(cuda_objects)
	$(call say,LINK)
	$(Q)$(NVCC) -shared -cudart static -o $@ $^ -L$(CUDA_ROOT)/lib64 -lcublasLt \
	    -Xlinker -rpath=$(CUDA_ROOT)/lib64

build/cuda/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(call say,NVCC)
	$(Q)$(NVCC) $(CPPFLAGS) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
build/cuda/%.cc.o: %.cc
	@mkdir -p $(@D)
	$(call say,CXX)
	$(Q)$(CXX) $(CPPFLAGS) -isystem $(CUDNN_FRONTEND) -isystem $(CUDA_ROOT)/include -idirafter $(CUDNN_INCLUDE) \
	    -std=c++17 -g1 -O1 -fPIC -Wall -Wextra -Wshadow -Wconversion $(if $(filter 1,$(WERROR)),-Werror) \
	    -MMD -MP -c -o $@ $<
build/cuda/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) -isystem $(CUDA_ROOT)/include $(filter-out -fsanitize%,$(CFLAGS)) -fPIC \
	    -fno-sanitize=all -MMD -MP -c -o $@ $<

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

# ---- the AMX kernels on any AVX512-BF16 ------------------------------------------------------
# tests/ops and the golden models once more, with the tile instructions in C (tests/ops/tiles).

T := $(B)/tiles
tiles_objects := $(patsubst %,$(T)/%.o,engine/ops/cpu/kernels_amx engine/ops/cpu/kernels_amx_tiles tests/ops/tiles/processor)
tiles_sources := $(wildcard tests/ops/test_*.c) $(patsubst %,tests/reference/test_%.c,model gradients training recompute)
tiles_bins := $(patsubst tests/%.c,$(B)/tests/tiles/%,$(tiles_sources))
ifeq ($(SAN),)
test_bins += $(tiles_bins)
endif

$(T)/%.o: CFLAGS += $(KERNEL_CFLAGS)
$(T)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,EMU)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -include tests/ops/tiles/tiles.h -MMD -MP -c -o $@ $<
$(tiles_bins): $(B)/tests/tiles/%: tests/%.c $(tiles_objects) $(support_engine) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d -o $@ $< $(tiles_objects) $(support_engine) $(lib_engine) \
	    $(lib_base) -lcriterion $(ENGINE_LIBS) $(BASE_LIBS)

# ---- the CUDA sources on the host -----------------------------------------------------------
# engine/ops/cuda once more, by the host's compilers against tests/cuda/emulation/include, always
# under AddressSanitizer and UndefinedBehaviorSanitizer; the cases of tests/ops and tests/reference
# run on it, those with attention a second time as with cuDNN. build/emulation/ffwd finds the emulated
# device as it would find the real one.

E := $(B)/emulation
CXX ?= g++
EMULATED := -fsanitize=address,undefined
EMULATION_FLAGS := -g -O1 -fPIC -fno-omit-frame-pointer -fno-strict-aliasing $(EMULATED) \
    -fno-sanitize-recover=all -Itests/cuda/emulation/include $(CPPFLAGS)
EMULATION_CXXFLAGS := -std=c++17 -Wall -Wextra -Wno-unknown-pragmas $(if $(filter 1,$(WERROR)),-Werror)
emulated := $(patsubst %,$(E)/obj/%.o,$(filter-out %/clock.c,$(cuda_c)) $(cuda_cu) $(wildcard tests/cuda/emulation/*.c) \
    tests/cuda/emulation/fibers.cc)
emulated_support := $(filter-out %/ops/support/devices.o %/reference/support/device.o,$(support_engine)) \
    $(patsubst %,$(E)/obj/tests/cuda/support/%.c.o,devices shell)
emulated_sources := $(patsubst %,tests/ops/test_%.c,rows linear dora head adapter attention) \
    $(patsubst %,tests/reference/test_%.c,model gradients recompute ahead training)
emulated_bins := $(patsubst tests/%.c,$(B)/tests/cuda/%,$(emulated_sources)) \
    $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/cuda/test_*.c))
emulated_cudnn_bins := $(patsubst %,$(B)/tests/cuda/cudnn/%,ops/test_attention reference/test_model \
    reference/test_gradients reference/test_recompute reference/test_training cuda/test_host)
$(emulated_bins) $(emulated_cudnn_bins): CPPFLAGS += -Itests/cuda/emulation/include

# ThreadSanitizer and AddressSanitizer exclude each other.
ifneq ($(SAN),thread)
test_bins += $(emulated_bins) $(emulated_cudnn_bins) $(E)/ffwd $(E)/libffwd-cuda.so
endif

$(E)/obj/%.c.o: %.c
	@mkdir -p $(@D)
	$(call say,EMU)
	$(Q)$(CC) -std=c11 $(WARN) $(EMULATION_FLAGS) -MMD -MP -c -o $@ $<
$(E)/obj/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(call say,EMU)
	$(Q)$(CXX) -x c++ $(EMULATION_CXXFLAGS) $(EMULATION_FLAGS) -MMD -MP -c -o $@ $<
$(E)/obj/%.cc.o: %.cc
	@mkdir -p $(@D)
	$(call say,EMU)
	$(Q)$(CXX) $(EMULATION_CXXFLAGS) $(EMULATION_FLAGS) -MMD -MP -c -o $@ $<
$(patsubst %,$(E)/obj/tests/cuda/emulation/%.c.o,cublaslt cudnn): EMULATION_FLAGS += -O3
# The scheduler is no subject of the tests, and most of their time.
$(E)/obj/tests/cuda/emulation/fibers.cc.o: EMULATION_FLAGS += -O2 -fno-sanitize=undefined \
    $(patsubst %,--param asan-%=0,instrument-reads instrument-writes stack globals)

emulated_link = $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(EMULATED) -MMD -MP -MF $@.d -o $@ $< $(with_cudnn) \
    $(emulated) $(emulated_support) $(lib_engine) $(lib_base) -lcriterion $(ENGINE_LIBS) $(BASE_LIBS) -lstdc++
$(B)/tests/cuda/ops/%: tests/ops/%.c $(emulated) $(emulated_support) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(emulated_link)
$(B)/tests/cuda/reference/%: tests/reference/%.c $(emulated) $(emulated_support) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(emulated_link)
$(B)/tests/cuda/test_%: tests/cuda/test_%.c $(emulated) $(emulated_support) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(emulated_link)

$(emulated_cudnn_bins): with_cudnn := $(E)/obj/tests/cuda/support/cudnn.c.o
$(emulated_cudnn_bins): $(B)/tests/cuda/cudnn/%: tests/%.c $(E)/obj/tests/cuda/support/cudnn.c.o $(emulated) \
    $(emulated_support) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(emulated_link)

$(E)/ffwd: $(OBJ)/engine/main.o $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) $(EMULATED) -rdynamic -o $@ $^ $(ENGINE_LIBS) $(BASE_LIBS)
$(E)/libffwd-cuda.so: $(emulated)
	$(call say,LINK)
	$(Q)$(CXX) -shared $(EMULATED) -o $@ $^

# ---- a machine with a GPU -------------------------------------------------------------------
# build/gpu holds all that gpu-check and gpu-bench run, libraries included: it may be made on one
# machine and carried to another that has a GPU and no compiler.

G := build/gpu
gpu_bins := $(patsubst tests/ops/%.c,$(G)/ops_%,$(filter tests/ops/%,$(emulated_sources))) \
    $(patsubst tests/reference/%.c,$(G)/reference_%,$(filter tests/reference/%,$(emulated_sources))) \
    $(G)/test_run
gpu_support := $(filter-out %/ops/support/devices.o %/reference/support/device.o,$(support_engine)) \
    $(OBJ)/tests/gpu/support/devices.o
gpu_link = $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -rdynamic -Wl,-S -MMD -MP -MF $(OBJ)/gpu_$(@F).d -o $@ $< $(gpu_support) \
    $(lib_engine) $(lib_base) -lcriterion $(ENGINE_LIBS) $(BASE_LIBS)

gpu-build: programs cuda $(gpu_bins) ## what gpu-check and gpu-bench run, in build/gpu
	@for f in ffwd ffwd-server libffwd-cuda.so; do strip --strip-debug -o $(G)/$$f build/$$f; done
	@tests/gpu/pack.sh $(G)

gpu-check: ## on a machine with a GPU: operations, golden models, whole jobs, speed; under 8 minutes
	@if command -v $(CC) >/dev/null && [ -n "$(NVCC)" ]; then $(MAKE) --no-print-directory gpu-build; fi
	@python3 tests/gpu/check.py $(G)

gpu-bench: ## on a machine with a GPU: the named shapes, PEFT beside them where it is installed
	@if command -v $(CC) >/dev/null && [ -n "$(NVCC)" ]; then $(MAKE) --no-print-directory gpu-build; fi
	@LD_LIBRARY_PATH=$(G)/lib:$$LD_LIBRARY_PATH python3 tests/gpu/bench.py $(G)

# cuDNN makes plans without a device, if it finds a driver to hand their code to: one that is none.
ifneq ($(NVCC),)
gpu-plans: programs cuda $(G)/plans $(G)/driver/libcuda.so.1 ## attention's plans for a Hopper, without a GPU
	@LD_LIBRARY_PATH=$(G)/driver:$$LD_LIBRARY_PATH $(G)/plans
else
gpu-plans:
	@echo "SKIP: no nvcc here, so no plans are made"
endif

gpu-sanitize: ## compute-sanitizer over every operation, on a machine with a GPU (after gpu-build)
	@for tool in memcheck racecheck synccheck; do for t in rows linear dora head adapter attention; do \
	    LD_LIBRARY_PATH=$(G)/lib:$$LD_LIBRARY_PATH compute-sanitizer --tool $$tool --error-exitcode 1 \
	        --target-processes all $(G)/ops_test_$$t -j1 || exit 1; done; done

$(G)/ops_%: tests/ops/%.c $(gpu_support) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(gpu_link)
$(G)/reference_%: tests/reference/%.c $(gpu_support) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(gpu_link)
$(G)/test_run: tests/cuda/test_run.c $(gpu_support) $(lib_engine) $(lib_base)
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(gpu_link)

$(G)/plans: tests/gpu/plans/plans.c $(lib_engine) $(lib_base) build/libffwd-cuda.so
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(CC) $(CPPFLAGS) -isystem $(CUDA_ROOT)/include $(CFLAGS) $(LDFLAGS) -rdynamic -MMD -MP -MF $(OBJ)/gpu_plans.d \
	    -o $@ $< build/libffwd-cuda.so -Wl,-rpath,$(abspath build) $(lib_engine) $(lib_base) $(ENGINE_LIBS) $(BASE_LIBS)
$(G)/driver/libcuda.so.1: tests/gpu/plans/driver.c
	@mkdir -p $(@D)
	$(call say,TEST)
	$(Q)$(CC) $(CFLAGS) -fPIC -shared -Wl,-soname,libcuda.so.1 -o $@ $<

bench_server := $(B)/tests/bench/server/bare $(B)/tests/bench/server/load
$(bench_server): $(B)/tests/%: tests/%.c
	@mkdir -p $(@D)
	$(call say,BENCH)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d -o $@ $< -lmicrohttpd -luv

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

bench: all $(B)/tests/bench/sse_readers $(bench_server) ## CPU benchmarks as JSON
	@tests/bench/run.sh $(B)

ifdef GROWTH
bench-cpu: all
	@python3 tests/bench/growth.py $(B) --json $(B)/bench-growth.json $(BENCH)
else
bench-cpu: all ## ffwd and PEFT side by side on this CPU (installs PEFT); GROWTH=1: how a step grows
	@tests/bench/cpu.sh $(B) $(BENCH)
endif

bench-server: all $(bench_server) ## the HTTP service beside a bare libmicrohttpd on libuv, as JSON
	@tests/bench/run.sh $(B) server

bench-ff: all ## what Fast Forward saves (SUITE=long, OUT=FILE.json, BENCH="--model DIR --train FILE")
	@python3 tests/bench/fast_forward/bench.py $(B) --suite $(or $(SUITE),short) $(if $(OUT),--out $(OUT)) $(BENCH)

lint: ## format, include table, links, ceilings, banned functions
	@tests/lint/lint.sh $(B)

format: ## rewrite the sources in the project's format
	@git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format -i

clean: ## remove build/
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
