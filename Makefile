# Darkroom. `make help` lists the targets; the default is `all`.

VARIANT ?= release
BUILD    = build/$(VARIANT)
PYTHON   = /usr/bin/python3
# empty: MobileNetV2, or EfficientNet-Lite0 where that is not to be had
MODEL_NAME ?=
MODEL_PRECISION ?= int8
INSTALL  = bash infra/setup/install.sh
PARALLEL = $(MAKE) --no-print-directory -s -j$(shell nproc)

CC      ?= gcc
PKGS     = libmicrohttpd libnghttp2 libprotobuf-c jansson libjpeg lcms2 libcurl openssl sqlite3 expat zlib libseccomp libsodium librabbitmq
VERSION  = 0.1.0

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
           -Wmissing-prototypes -Wformat=2 -Wvla -Wundef -Wcast-qual -Wwrite-strings \
           -Wswitch-enum
# Indirect jumps only to marked places, where the machine can see to that: x86's name, or arm's.
BRANCHES := $(firstword $(foreach flag,-fcf-protection -mbranch-protection=standard,$(shell \
              $(CC) $(flag) -x c -S -o /dev/null /dev/null 2>/dev/null && echo $(flag))))
HARDENING = -fstack-protector-strong -fstack-clash-protection -fPIE $(BRANCHES)
# Third-party headers by -isystem: our warnings are about our code.
PKG_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(PKGS) vips cairo 2>/dev/null))
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
# The services load libvips when they need it (common/image/read/vips_api.h); tests are linked to it.
VIPS_LIBS  := $(shell pkg-config --libs vips 2>/dev/null)
# common/db/postgres.c loads libpq when a PostgreSQL is opened.
PQ_CFLAGS   := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags libpq 2>/dev/null))
# Only common/model/model.c uses ONNX Runtime, and loads it when a model is opened; the bench's floor is linked to it.
ONNX_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags libonnxruntime 2>/dev/null))
ONNX_LIBS   := $(shell pkg-config --libs libonnxruntime 2>/dev/null)
# What is linked runs with that release and no other: a new one is a reason to link again.
ONNX_FILE   := $(wildcard $(shell pkg-config --variable=libdir libonnxruntime 2>/dev/null)/libonnxruntime.so)

CPPFLAGS_ALL = -D_GNU_SOURCE -DDARKROOM_VERSION='"$(VERSION)"' -Icommon -isystem build/proto $(CPPFLAGS)
CFLAGS_ALL   = -std=c17 -pthread -g $(WARNINGS) $(HARDENING) $(PKG_CFLAGS) $(CFLAGS)
LDFLAGS_ALL  = -pthread -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed $(LDFLAGS)
# At start each of 14,000 names is looked for in the libraries in this order: those with most of them come first.
LIBS         = -lcrypto -lc -lsqlite3 $(PKG_LIBS) -lm

ifeq ($(VARIANT),release)
CFLAGS_ALL  += -O2 -D_FORTIFY_SOURCE=3
else ifeq ($(VARIANT),asan)
CFLAGS_ALL  += -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS_ALL += -fsanitize=address,undefined
else ifeq ($(VARIANT),tsan)
CFLAGS_ALL  += -O1 -fsanitize=thread -fno-omit-frame-pointer
LDFLAGS_ALL += -fsanitize=thread
else ifeq ($(VARIANT),coverage)
CFLAGS_ALL  += -O0 --coverage
LDFLAGS_ALL += --coverage
else ifeq ($(VARIANT),fuzz)
CC           = clang
CFLAGS_ALL  += -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined \
               -fno-omit-frame-pointer -Wno-everything -Werror=int-conversion \
               -Werror=incompatible-pointer-types -Werror=implicit-function-declaration
LDFLAGS_ALL += -fsanitize=fuzzer-no-link,address,undefined
else
$(error VARIANT is release, asan, tsan, coverage or fuzz)
endif
ifdef WERROR
CFLAGS_ALL  += -Werror
endif

# The messages of gRPC: C that protobuf-c makes of their descriptions. It does not follow our warnings.
PROTO_DIR      = common/grpc/proto
PROTO          := $(patsubst $(PROTO_DIR)/%.proto,%,$(wildcard $(PROTO_DIR)/*.proto $(PROTO_DIR)/*/*/*.proto))
PROTO_SRC      := $(patsubst %,build/proto/%.pb-c.c,$(PROTO))
COMMON_SRC     := $(wildcard common/*/*.c common/*/*/*.c) $(PROTO_SRC)
PREPROCESS_SRC := $(wildcard preprocess_service/*.c preprocess_service/*/*.c)
CLASSIFY_SRC   := $(wildcard classify_service/*.c)
UNIT_SRC       := $(wildcard tests/unit/test_*.c tests/unit/*/test_*.c)
PROBE_SRC      := tests/programs/store_probe.c tests/programs/image_probe.c tests/programs/test_service.c
BENCH_SRC      := $(wildcard tests/bench/*.c)
FUZZ_SRC       := $(wildcard tests/fuzz/*.c)
HOSTILE_SRC    := tests/programs/hostile_decoder.c
ALL_SRC        := $(COMMON_SRC) $(PREPROCESS_SRC) $(CLASSIFY_SRC) $(UNIT_SRC) $(PROBE_SRC) $(BENCH_SRC) \
                  $(FUZZ_SRC) $(HOSTILE_SRC)

comma := ,
object = $(patsubst %.c,$(BUILD)/%.o,$(1))
COMMON_LIB    = $(BUILD)/libcommon.a $(BUILD)/libs3.a
# the services' modules without their main(), for unit tests
SERVICES_LIB  = $(BUILD)/libservices.a
UNIT_BIN      = $(patsubst %.c,$(BUILD)/unit/%,$(notdir $(UNIT_SRC))) \
                $(patsubst %,$(BUILD)/unit/test_fuzz_%,$(FUZZ_TARGETS))
# tests/fuzz/X.c is the target X: fuzzed by clang's libFuzzer. The unit tests replay what it begins with.
FUZZ_TARGETS ?= $(filter-out replay,$(patsubst tests/fuzz/%.c,%,$(FUZZ_SRC)))
FUZZ_BIN      = $(patsubst %,$(BUILD)/bin/%,$(FUZZ_TARGETS))

.PHONY: all
all: $(BUILD)/preprocess-service $(BUILD)/classify-service ## build both services
ifeq ($(VARIANT),release)
	@ln -sf release/preprocess-service build/preprocess-service
	@ln -sf release/classify-service build/classify-service
endif

$(BUILD)/preprocess-service: $(call object,$(PREPROCESS_SRC)) $(COMMON_LIB)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# ONNX Runtime, loaded later, finds C++'s names the sooner.
$(BUILD)/classify-service: LIBS := -Wl,--no-as-needed -l:libstdc++.so.6 -Wl,--as-needed $(LIBS)
$(BUILD)/classify-service: $(call object,$(CLASSIFY_SRC)) $(COMMON_LIB)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# the services with a decoder that images can take over (tests/programs/hostile_decoder.c), for test_sandbox.py
HOSTILE_BIN = $(BUILD)/hostile/preprocess-service $(BUILD)/hostile/classify-service
$(BUILD)/hostile/preprocess-service: $(call object,$(PREPROCESS_SRC) $(HOSTILE_SRC)) $(COMMON_LIB)
$(BUILD)/hostile/classify-service: $(call object,$(CLASSIFY_SRC) $(HOSTILE_SRC)) $(COMMON_LIB)
$(HOSTILE_BIN):
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -Wl,--wrap=image_transform -Wl,--wrap=image_to_pixels -o $@ $^ $(LIBS)

$(BUILD)/common/db/postgres.o: CFLAGS_ALL += $(PQ_CFLAGS)
$(BUILD)/common/model/%.o: CFLAGS_ALL += $(ONNX_CFLAGS)
# callbacks of tests ignore much
$(BUILD)/tests/%.o: CFLAGS_ALL += -Wno-unused-parameter
$(BUILD)/tests/bench/floor_model.o: $(ONNX_FILE)

# Some 80 programs are linked with gold where it is there: it takes a third of the time.
UNIT_LDFLAGS = $(LDFLAGS_ALL) $(if $(shell command -v ld.gold),-fuse-ld=gold)

# Tests are most of what is compiled, which is done thrice as fast unoptimised; those of pictures compute.
ifeq ($(VARIANT),release)
$(call object,$(filter-out tests/unit/image/%,$(UNIT_SRC)) $(FUZZ_SRC)): CFLAGS_ALL += -O0 -U_FORTIFY_SOURCE
endif

# embedded by .incbin, which -MMD does not see
$(BUILD)/preprocess_service/main.o: preprocess_service/openapi.json
$(BUILD)/preprocess_service/handle_page.o: $(addprefix preprocess_service/page/page.,html css js svg \
    gallery.html gallery.css gallery.js)
$(BUILD)/classify_service/main.o: classify_service/openapi.json
$(BUILD)/common/catalogue/catalogue.o: $(wildcard common/catalogue/migrations/*.sql)
$(BUILD)/common/users/users.o: $(wildcard common/users/migrations/*.sql)

$(BUILD)/libcommon.a: $(call object,$(COMMON_SRC))
	@rm -f $@
	ar rcs $@ $^

# libs3 with four of its calls led to common/store/bucket/libs3_transfer.c, which says why
$(BUILD)/libs3.a: Makefile
	@mkdir -p $(@D)
	objcopy --redefine-sym curl_multi_add_handle=libs3_add_handle \
		--redefine-sym curl_multi_info_read=libs3_info_read --redefine-sym gmtime=libs3_gmtime \
		--redefine-sym urlEncode=libs3_url_encode --weaken-symbol=libs3_url_encode \
		"$$($(CC) -print-file-name=libs3.a)" $@

$(SERVICES_LIB): $(call object,$(filter-out %/main.c,$(PREPROCESS_SRC) $(CLASSIFY_SRC)))
	@rm -f $@
	ar rcs $@ $^

# tests/unit/ROOM/test_X.c is the program unit/test_X
$(foreach source,$(UNIT_SRC),$(eval $(BUILD)/unit/$(notdir $(source:.c=)): $(call object,$(source))))
$(foreach target,$(FUZZ_TARGETS),$(eval $(BUILD)/unit/test_fuzz_$(target): $(call object,tests/fuzz/$(target).c tests/fuzz/replay.c)))
$(patsubst %,$(BUILD)/unit/test_fuzz_%,$(FUZZ_TARGETS)): | seeds
$(UNIT_BIN): $(SERVICES_LIB) $(COMMON_LIB)
	@mkdir -p $(@D)
	$(CC) $(UNIT_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS) $(VIPS_LIBS) -lcmocka

$(BUILD)/bin/%: $(BUILD)/tests/fuzz/%.o $(SERVICES_LIB) $(COMMON_LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS) $(VIPS_LIBS)

# phony, or .SECONDARY would leave out what is missing behind a program that is there
.PHONY: seeds
seeds: $(BUILD)/seeds/made $(BUILD)/seeds/drawn

$(BUILD)/seeds/made: tests/fuzz/make_corpus.py
	@$(PYTHON) -B $< $(@D) && touch $@

# tried again by each build until Pillow and vips are installed
$(BUILD)/seeds/drawn: tests/fuzz/draw_seeds.py
	@$(PYTHON) -B $< $(@D)

# memory that runs out (tests/unit/alloc_faults.h): our calls for memory go through the test
$(BUILD)/unit/test_alloc_%: LDFLAGS_ALL += $(patsubst %,-Wl$(comma)--wrap=%,malloc calloc \
	realloc reallocarray aligned_alloc xmalloc xcalloc xreallocarray xstrdup xasprintf free strdup \
	realpath getline __getdelim fopen opendir fdopendir pthread_create)
# calls to the kernel that fail (tests/unit/test_io_faults.c)
$(BUILD)/unit/test_io_faults: LDFLAGS_ALL += $(patsubst %,-Wl$(comma)--wrap=%,open openat mkdirat \
	pread write fsync renameat linkat)

# a store on stdin and stdout, for the conformance tests
PROBES = $(BUILD)/store-probe $(BUILD)/image-probe $(BUILD)/test-service
$(BUILD)/store-probe: $(call object,tests/programs/store_probe.c) $(COMMON_LIB)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# a decoder on stdin and stdout, for the comparison with others (test_oracle.py)
$(BUILD)/image-probe: $(call object,tests/programs/image_probe.c) $(COMMON_LIB)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# the server that gRPC's interop clients ask for (test_grpc_streams.py)
$(BUILD)/test-service: $(call object,tests/programs/test_service.c build/proto/testing.pb-c.c) $(COMMON_LIB)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# the bench's programs (tests/bench/README.md); a floor is meant to be as fast as its code can be
BENCH_PROGRAMS = $(addprefix $(BUILD)/bench/,load sink cold-start floor floor-vips floor-front operations catalogue sealed)
bench_object = $(patsubst %,$(BUILD)/tests/bench/%.o,$(1))
$(BUILD)/bench/load: $(call bench_object,load load_options load_body load_stats exchange photo results)
$(BUILD)/bench/sink: $(call bench_object,sink)
$(BUILD)/bench/cold-start: $(call bench_object,cold_start)
$(BUILD)/bench/floor: $(call bench_object,floor floor_codec floor_decode floor_durable floor_model floor_loop)
$(BUILD)/bench/floor-vips: $(call bench_object,floor_vips floor_loop)
$(BUILD)/bench/floor-front: $(call bench_object,floor_front)
$(BUILD)/bench/operations: $(call bench_object,operations floor_loop)
$(BUILD)/bench/catalogue: $(call bench_object,catalogue)
$(BUILD)/bench/sealed: $(call bench_object,sealed)
$(BUILD)/bench/floor: BENCH_LIBS = $(VIPS_LIBS) -ljpeg $(ONNX_LIBS)
$(BUILD)/bench/floor-vips: BENCH_LIBS = $(VIPS_LIBS) -ljpeg
$(BUILD)/tests/bench/floor_model.o: CFLAGS_ALL += $(ONNX_CFLAGS)
$(BUILD)/tests/bench/floor_%.o: CFLAGS_ALL += -O3
$(BENCH_PROGRAMS): $(call bench_object,program) $(COMMON_LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(BENCH_LIBS) $(LIBS)

# objects of tests are kept, so that a test is linked again without being compiled again
.SECONDARY:

build/proto/%.pb-c.c build/proto/%.pb-c.h: $(PROTO_DIR)/%.proto
	@mkdir -p build/proto
	protoc --proto_path=$(PROTO_DIR) --c_out=build/proto $<

# for reflection, without comments
build/proto/descriptors.pb: $(patsubst %,$(PROTO_DIR)/%.proto,$(PROTO))
	@mkdir -p build/proto
	protoc --proto_path=$(PROTO_DIR) --include_imports --descriptor_set_out=$@ $^
$(BUILD)/common/grpc/reflection.o: build/proto/descriptors.pb

build/proto/testing.pb-c.c build/proto/testing.pb-c.h: tests/programs/testing.proto
	@mkdir -p build/proto
	protoc --proto_path=$(<D) --c_out=build/proto $<
$(BUILD)/tests/programs/test_service.o: build/proto/testing.pb-c.h

$(BUILD)/build/proto/%.o: CFLAGS_ALL += -w

$(BUILD)/%.o: %.c | libraries $(PROTO_SRC)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

-include $(patsubst %.o,%.d,$(call object,$(ALL_SRC)))

.PHONY: libraries
libraries:
	@bash infra/setup/check_libraries.sh $(CC)

.PHONY: deps
deps: ## install what the build needs (as root)
	@$(INSTALL) run

.PHONY: run
run: ## install, build, get the model, start both services and label a first image (PHOTO=path)
	@bash infra/run.sh --check-ports
	@$(INSTALL) run
	@$(PARALLEL) all model
	@bash infra/run.sh

.PHONY: model background-model
model: background-model ## get and convert the models (MODEL_NAME=mobilenet_v2|efficientnet_lite0, MODEL_PRECISION=int8|fp32) into build/models
	@$(PYTHON) -B classify_service/models/make_model.py --out build/models --name '$(MODEL_NAME)' --precision '$(MODEL_PRECISION)'

# Whoever cannot get it can have all the rest.
background-model:
	@$(PYTHON) -B classify_service/models/make_model.py --out build/models --manifest preprocess_service/models/u2netp.json || \
		echo 'make model: without this model remove_background=1 is answered with 501; all else works' >&2

.PHONY: check one
check: ## build and the fast tests, under a minute; no root, no network
	@$(INSTALL) check
	@$(PARALLEL) all $(UNIT_BIN)
	@bash tests/run.sh check

one: ## build and run one unit test (t=test_router)
	$(if $(t),,$(error name the test: make one t=test_router))
	@$(PARALLEL) $(BUILD)/unit/$(t)
	@$(BUILD)/unit/$(t)

.PHONY: hooks
hooks: ## from now on, git runs `make check` before a commit
	git config core.hooksPath .githooks

.PHONY: test
test: ## install, build, run every test; ends with a summary (TESTS=... for pytest)
	@$(INSTALL) test
	@$(PARALLEL) all unit-binaries model
	@bash tests/run.sh

.PHONY: unit-binaries
unit-binaries: $(UNIT_BIN) $(PROBES) $(BUILD)/bench/load $(BUILD)/bench/floor $(HOSTILE_BIN)

.PHONY: unit
unit: unit-binaries model ## run the unit tests
	@bash tests/run.sh unit

.PHONY: integration
integration: all $(PROBES) $(BUILD)/bench/load $(HOSTILE_BIN) model ## run the integration tests
	@bash tests/run.sh integration

.PHONY: bench-programs bench bench-quick
bench-programs: $(BENCH_PROGRAMS)

bench: ## measure floors and services side by side, about 4 minutes (tests/bench/README.md)
	@$(INSTALL) test
	@$(PARALLEL) VARIANT=release all bench-programs model
	@$(PYTHON) tests/bench/request_cost.py
	@timeout -k 10 360 $(PYTHON) tests/bench/bench.py

.PHONY: overload
overload: ## ten times what the service can do, about 90 s (tests/bench/README.md, "Overload")
	@$(INSTALL) test
	@$(PARALLEL) VARIANT=release all $(BUILD)/bench/load
	@timeout -k 10 180 $(PYTHON) tests/bench/overload.py

bench-quick: ## the same in 40 s: whether it runs, not how fast
	@$(INSTALL) test
	@$(PARALLEL) VARIANT=release all bench-programs model
	@$(PYTHON) tests/bench/request_cost.py
	@timeout -k 10 150 $(PYTHON) tests/bench/bench.py --quick

.PHONY: faults
faults: ## kill, cut, fill and damage everything: 50 rounds of 1,000 uploads, and every fault (SEED=n repeats)
	@$(INSTALL) test
	@$(PARALLEL) all $(BUILD)/store-probe model
	@FAULT_ROUNDS=$${FAULT_ROUNDS:-50} SEED=$(SEED) TESTS="-m faults tests/integration" bash tests/run.sh integration

.PHONY: asan tsan
asan: ## unit tests and those on foreign bytes under AddressSanitizer and UBSan (EVERYTHING=1: all)
	@$(INSTALL) test
	@$(PARALLEL) VARIANT=asan all unit-binaries model
	@DARKROOM_BUILD=build/asan DARKROOM_SLOW=4 bash tests/run.sh

tsan: ## unit tests and those with much at a time under ThreadSanitizer (EVERYTHING=1: all)
	@$(INSTALL) test
	@$(PARALLEL) VARIANT=tsan all unit-binaries model
	@DARKROOM_BUILD=build/tsan DARKROOM_SLOW=6 bash tests/run.sh

.PHONY: fuzz fuzz-binaries
fuzz: ## fuzz for some 6 minutes, with clang (FUZZ_SECONDS=n a target, FUZZ_TARGETS="uri jwt")
	@$(INSTALL) fuzz
	@$(PARALLEL) VARIANT=fuzz fuzz-binaries
	@bash tests/fuzz/run.sh $(FUZZ_TARGETS)

fuzz-binaries: $(FUZZ_BIN) seeds

.PHONY: valgrind
valgrind: ## memcheck over the unit tests and some requests to both services, about 20 minutes
	@$(INSTALL) lint
	@$(PARALLEL) all unit-binaries model
	@bash tests/valgrind.sh

.PHONY: lint
lint: ## warnings as errors, clang-format, clang-tidy, cppcheck, gcc -fanalyzer, shellcheck, buf
	@$(INSTALL) lint
	@bash tests/lint.sh

.PHONY: show-hardening
show-hardening:
	@echo '-O2 -D_FORTIFY_SOURCE=3 $(HARDENING) $(LDFLAGS_ALL)'

.PHONY: format
format: ## clang-format all C files
	clang-format -i $(wildcard common/*/*.[ch] common/*/*/*.[ch] *_service/*.[ch] *_service/*/*.[ch] tests/*/*.[ch] tests/unit/*/*.[ch])

compile_commands.json: Makefile ## for clangd and its like: how each file is compiled
	@$(MAKE) --no-print-directory -nB $(call object,$(ALL_SRC)) | grep -e ' -c -o ' | \
		jq -nR '[inputs | {directory: "$(CURDIR)", file: (split(" ") | last), command: .}]' >$@

.PHONY: settings-table
settings-table: all ## rewrite infra/SETTINGS.md from --help
	@$(PYTHON) infra/settings_table.py build infra/SETTINGS.md

.PHONY: coverage
coverage: ## line coverage of the unit and integration tests
	@$(PARALLEL) VARIANT=coverage all unit-binaries model
	@DARKROOM_BUILD=build/coverage DARKROOM_SLOW=2 bash tests/run.sh || true
	@cd build/coverage && find . -name '*.gcda' -path '*common*' -o -name '*.gcda' -path '*_service*' | \
		xargs gcov -n -o . 2>/dev/null | awk '/^File .*(common|_service)\/.*\.c/ {f=$$2; getline; print $$0, f}' | sort -u

.PHONY: image
image: model ## build the container images darkroom-preprocess and darkroom-classify
	@for service in preprocess classify; do \
		docker build -f $${service}_service/Dockerfile -t darkroom-$$service --build-arg VERSION=$(VERSION) \
			--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
			--build-arg MODEL_NAME='$(MODEL_NAME)' . || exit 1; \
	done

.PHONY: compose-test
compose-test: ## build the images and drive minio-compose.yml on a real Docker engine
	@$(INSTALL) test
	@$(PARALLEL) model
	@bash tests/compose/run.sh

.PHONY: clean
clean: ## remove build products (data/ stays)
	rm -rf build

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z_. -]+:.*## / {printf "%-21s %s\n", $$1, $$2}' Makefile
