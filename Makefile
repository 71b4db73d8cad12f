# mau: who is active on this chat server?
#
# `make demo`, `make test` and `make bench` install what they miss, PostgreSQL included, so this file has to
# work before there is a pg_config. `make help` lists what can be asked for.

all: # the default goal; PGXS says what it is

SUPPORTED = 18 17 16 15

# --- Which PostgreSQL ------------------------------------------------------------------------------------------
# PG_CONFIG=... chooses. Otherwise the newest of Debian's versions that can be both built against and started,
# else the pg_config in PATH if it can. (Debian's /usr/bin/pg_config may know no server at all, and pgxs.mk comes with
# the client, so that it does not tell whether postgres.h is there.)

pgxs_of = $(and $(wildcard $(shell $(1) --includedir-server 2>/dev/null)/postgres.h),\
	$(wildcard $(shell $(1) --pgxs 2>/dev/null)))
has_server = $(wildcard $(shell $(1) --bindir 2>/dev/null)/postgres)
usable = $(if $(and $(call pgxs_of,$(1)),$(call has_server,$(1))),$(1))
debian = $(wildcard $(SUPPORTED:%=/usr/lib/postgresql/%/bin/pg_config))

ifeq ($(PG_CONFIG),)
PG_CONFIG := $(firstword $(foreach c,$(debian) $(shell command -v pg_config),$(call usable,$(c))))
endif
PGXS := $(if $(PG_CONFIG),$(call pgxs_of,$(PG_CONFIG)))

# --- What is built ---------------------------------------------------------------------------------------------

MODULE_big = mau
EXTENSION = mau
DATA = $(wildcard sql/mau--*.sql)
MONITORING = $(wildcard share/monitoring/*)
SOURCES := $(filter-out src/client/%,$(wildcard src/*.cpp src/*/*.cpp))
OBJS = $(SOURCES:.cpp=.o)
BITCODE = $(SOURCES:.cpp=.bc)

# A module whose header includes "pure.hpp" declares itself pure: it is compiled without PostgreSQL's include paths
# here too, and is what the unit tests and fuzzers link.
PURE_HEADERS := $(shell grep -ls '^ *\# *include "base/pure.hpp"' src/*.hpp src/*/*.hpp)
PURE := $(filter $(PURE_HEADERS:.hpp=.cpp),$(SOURCES))
PURE_CLIENT := $(filter $(PURE_HEADERS:.hpp=.cpp),$(wildcard src/client/*.cpp))

# Each header also compiles alone: one that lacks an include would build or not build by its place among the others.
# (compat.hpp is the end of the prelude.)
OUR_HEADERS := $(filter-out src/pg/compat.hpp src/client/%,$(wildcard src/*.hpp src/*/*.hpp))
alone = $(OUR_HEADERS:src/%=build/alone/%.o)
alone_pure = $(patsubst src/%,build/alone/%.o,$(PURE_HEADERS) src/base/pure.hpp)

ifneq ($(CI),)
WERROR ?= 1
endif
STRICT = -std=c++17 -Wall -Wextra $(if $(filter 1,$(WERROR)),-Werror)
# src/cohort/cohort.o notes the headers it read in build/dep/src-cohort-cohort.o.d.
NOTE_HEADERS = -MMD -MP -MF build/dep/$(subst /,-,$@).d
# Writes its argument into the target unless it is there already, so that the target is new only when that changes.
note = mkdir -p $(@D) && { echo '$(1)' | cmp -s - $@ || echo '$(1)' >$@; }

# PostgreSQL's headers are system headers to us: the strict warnings are for our own code.
PG_CPPFLAGS = -Isrc -isystem$(includedir_server) -isystem$(includedir_internal)
# PostgreSQL 15 still says `register`; the PG_MODULE_MAGIC of 18 leaves fields out.
PG_CXXFLAGS = $(STRICT) -fno-semantic-interposition -Wno-register -Wno-missing-field-initializers
SHLIB_LINK += -lstdc++ -Wl,-Bsymbolic

REGRESS = $(filter-out %_preload %_plain,$(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test
EXTRA_CLEAN = build

ifneq ($(PGXS),)

# A server packaged without its clang still builds; only inlining by JIT is lost. NO_BITCODE=1 spares its time.
ifneq ($(NO_BITCODE),)
override with_llvm = no
endif
ifeq ($(wildcard $(shell sed -n 's/^CLANG = *//p' $(dir $(PGXS))../Makefile.global)),)
override with_llvm = no
endif

# A server with assertions gets those of the standard library, too.
ifneq ($(findstring --enable-cassert,$(shell $(PG_CONFIG) --configure)),)
PG_CXXFLAGS += -D_GLIBCXX_ASSERTIONS
endif

include $(PGXS)

# Before 16, PGXS passes PG_CXXFLAGS to the compiler but not to clang; saying it twice does no harm.
override BITCODE_CXXFLAGS += $(PG_CXXFLAGS)

# PGXS knows one folder for data, in which these files would stand among those of others.
install: install-monitoring install-warehouse
uninstall: uninstall-monitoring uninstall-warehouse

install-monitoring:
	$(MKDIR_P) '$(DESTDIR)$(datadir)/mau/monitoring'
	$(INSTALL_DATA) $(MONITORING) '$(DESTDIR)$(datadir)/mau/monitoring/'

install-warehouse:
	$(MKDIR_P) '$(DESTDIR)$(datadir)/mau/warehouse'
	$(INSTALL_DATA) share/warehouse/warehouse.sql '$(DESTDIR)$(datadir)/mau/warehouse/'
	$(INSTALL_SCRIPT) share/warehouse/copy '$(DESTDIR)$(datadir)/mau/warehouse/'

uninstall-warehouse:
	rm -f '$(DESTDIR)$(datadir)/mau/warehouse/warehouse.sql' '$(DESTDIR)$(datadir)/mau/warehouse/copy'

uninstall-monitoring:
	rm -f $(addprefix '$(DESTDIR)$(datadir)/mau/monitoring'/,$(notdir $(MONITORING)))

$(PURE:.cpp=.o) $(PURE:.cpp=.bc): override CPPFLAGS := -Isrc $(filter-out -I% -isystem%,$(CPPFLAGS))

$(OBJS): %.o: %.cpp build/flags | build/dep
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) $(NOTE_HEADERS) -c -o $@ $<

$(BITCODE): %.bc: %.cpp build/flags | build/dep
	$(COMPILE.cxx.bc) $(NOTE_HEADERS) -o $@ $<

# Another PostgreSQL, compiler or set of flags makes the objects stale; this file changes when they do.
build/flags: FORCE
	@$(call note,$(PG_CONFIG) $(VERSION) $(CXX) $(CXXFLAGS) $(CPPFLAGS) $(CLANG) $(BITCODE_CXXFLAGS))

# A header without "pure.hpp" may need PostgreSQL's headers: it gets the flags of the extension.
$(filter-out $(alone_pure),$(alone)): build/alone/%.o: src/% build/flags | build/dep
	@mkdir -p $(@D)
	@echo '#include "$*"' | $(CXX) $(CXXFLAGS) $(CPPFLAGS) $(NOTE_HEADERS) -c -x c++ -o $@ -

# A module of functions that fail, to prove the boundary; test/t/030_boundary.pl loads it.
test-modules: build/test/boundary.so

build/test/boundary.o: test/boundary/boundary.cpp build/flags | build/dep
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) $(NOTE_HEADERS) -c -o $@ $<

bench-build: build/test/bench_client build/test/history_bench build/test/bench_module.so

build/test/bench_module.so: test/bench/bench_module.cpp src/pg/prelude.hpp build/flags
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -shared -o $@ $< $(LDFLAGS) -lstdc++

# Symbolic: with its own copy of the boundary, also where mau.so is loaded.
build/test/boundary.so: build/test/boundary.o src/pg/boundary.o
	$(CXX) $(CXXFLAGS) -shared -Wl,-Bsymbolic -o $@ $^ $(LDFLAGS) -lstdc++

else # no PGXS: only what can do without, or installs it

all install installcheck:
	@echo "mau: $(if $(PG_CONFIG),PG_CONFIG=$(PG_CONFIG) has no PGXS or no server headers,no PostgreSQL to build against)." >&2
	@echo "Run test/setup (it installs one from Debian's packages; make test and make demo do so too)," >&2
	@echo "or say which: make PG_CONFIG=/path/to/pg_config" >&2
	@exit 1

clean distclean:
	rm -rf $(EXTRA_CLEAN) $(OBJS) $(BITCODE) mau.so results regression.diffs regression.out

endif

# --- The pure modules, without a server --------------------------------------------------------------------------
# UBSan by default; not ASan, which does not start on kernels with vm.mmap_rnd_bits = 32 before GCC 14.

SANITIZE ?= undefined
UNIT_FLAGS = $(STRICT) -O1 -g -Isrc -D_GLIBCXX_ASSERTIONS \
	$(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all)
UNIT_HEADERS = $(if $(PGXS),$(alone),$(alone_pure))
UNIT_TESTS := $(patsubst test/unit/%.cpp,build/unit/%,$(wildcard test/unit/*_test.cpp))
UNIT_SHARED := $(filter-out %_test.cpp,$(wildcard test/unit/*.cpp))

unit: unit-build
	@for t in $(UNIT_TESTS); do $$t --gtest_brief=1 || exit 1; done

unit-build: $(UNIT_TESTS) $(UNIT_HEADERS)

$(alone_pure): build/alone/%.o: src/% build/unit-flags | build/dep
	@mkdir -p $(@D)
	@echo '#include "$*"' | $(CXX) $(UNIT_FLAGS) $(NOTE_HEADERS) -c -x c++ -o $@ -

$(UNIT_TESTS): build/unit/%: build/pure/test/unit/%.o $(patsubst %.cpp,build/pure/%.o,$(UNIT_SHARED) $(PURE) $(PURE_CLIENT))
	@mkdir -p $(@D)
	$(CXX) $(UNIT_FLAGS) -o $@ $^ -lgtest_main -lgtest -pthread

build/pure/%.o: %.cpp build/unit-flags | build/dep
	@mkdir -p $(@D)
	$(CXX) $(UNIT_FLAGS) $(NOTE_HEADERS) -c -o $@ $<

build/unit-flags: FORCE
	@$(call note,$(CXX) $(UNIT_FLAGS))

build/dep:
	@mkdir -p $@

-include $(wildcard build/dep/*.d)

# test/fuzz/x_fuzz.cpp starts from test/fuzz/corpus/x_fuzz where there is one; what it finds stays in build.
FUZZ_SECONDS ?= 30
FUZZ_CXX ?= clang++
FUZZERS := $(patsubst test/fuzz/%.cpp,%,$(wildcard test/fuzz/*_fuzz.cpp))

fuzz:
	test/setup fuzz
	@$(MAKE) --no-print-directory fuzz-run

fuzz-run: $(FUZZERS:%=build/fuzz/%)
	@for f in $(FUZZERS); do \
	    echo "== $$f, $(FUZZ_SECONDS) s"; mkdir -p build/fuzz/corpus/$$f; \
	    build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/$$f- -verbosity=0 \
	        build/fuzz/corpus/$$f $$(ls -d test/fuzz/corpus/$$f 2>/dev/null) || exit 1; \
	done

build/fuzz/%: test/fuzz/%.cpp $(PURE) $(wildcard src/*.hpp src/*/*.hpp)
	@mkdir -p $(@D)
	$(FUZZ_CXX) $(STRICT) -O1 -g -Isrc -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    -o $@ $(filter %.cpp,$^)

# --- The program mau: libpq and libraries of its own, no PostgreSQL server headers ------------------------------

CLIENT_SOURCES := $(wildcard src/client/*.cpp) src/report/exposition.cpp
CLIENT_HEADERS := $(filter-out $(PURE_HEADERS),$(wildcard src/client/*.hpp))
CLIENT_OBJECTS = $(CLIENT_SOURCES:%.cpp=build/%.o)
# Debian's libcpp-httplib has compiled parts, which take its own flags; elsewhere it is a header alone.
HTTPLIB_CFLAGS := $(shell pkg-config --cflags cpp-httplib 2>/dev/null)
HTTPLIB_LIBS := $(shell pkg-config --libs cpp-httplib 2>/dev/null) $(if $(findstring OPENSSL,$(HTTPLIB_CFLAGS)),-lssl -lcrypto)
# Chart.js for a browser: of version 3 it is chart.min.js, of version 4 chart.umd.js.
CHART_JS ?= $(firstword $(wildcard $(addprefix /usr/share/javascript/chart.js/,chart.umd.min.js chart.umd.js chart.min.js)))
CLIENT_CXXFLAGS = -O2
CLIENT_FLAGS = $(STRICT) $(CLIENT_CXXFLAGS) -Isrc -isystem$(or $(shell $(PG_CONFIG) --includedir 2>/dev/null),/usr/include/postgresql) \
	-DMAU_VERSION='"$(shell sed -n "s/^default_version = '\(.*\)'/\1/p" mau.control)"'
CLIENT_LIBS = $(addprefix -L,$(shell $(PG_CONFIG) --libdir 2>/dev/null)) -lpq -lyaml-cpp -lfmt $(HTTPLIB_LIBS) -pthread
prefix ?= /usr/local

client: build/client/mau $(CLIENT_HEADERS:%=build/alone/%.o)

build/client/mau: $(CLIENT_OBJECTS) build/client/embedded.o
	@mkdir -p $(@D)
	$(CXX) $(CLIENT_FLAGS) $(CLIENT_LDFLAGS) -o $@ $^ $(CLIENT_LIBS)

$(CLIENT_OBJECTS): build/%.o: %.cpp build/client-flags | build/dep
	@mkdir -p $(@D)
	$(CXX) $(CLIENT_FLAGS) $(NOTE_HEADERS) -c -o $@ $<

build/src/client/serve.o: override CLIENT_FLAGS += $(HTTPLIB_CFLAGS)

# The page's files as constants.
PAGE_FILES = kPageHtml:src/client/page.html kPageCss:src/client/page.css kPageDatabaseJs:src/client/page_database.js \
	kPageFleetJs:src/client/page_fleet.js kPageJs:src/client/page.js kChartJs:$(CHART_JS)
build/client/embedded.o: $(wildcard src/client/page*.html src/client/page*.css src/client/page*.js) $(CHART_JS) build/client-flags
	@mkdir -p $(@D)
	@test -n '$(CHART_JS)' || { echo "mau: no Chart.js: run test/setup client, or make CHART_JS=/path/to/chart.umd.js" >&2; exit 1; }
	@{ echo 'namespace mau::client {'; for f in $(PAGE_FILES); do \
	    echo "extern const char* const $${f%%:*} = R\"mau-page("; cat "$${f#*:}"; echo ')mau-page";'; \
	done; echo '}'; } >build/client/embedded.cpp
	$(CXX) $(CLIENT_FLAGS) -c -o $@ build/client/embedded.cpp

$(CLIENT_HEADERS:%=build/alone/%.o): build/alone/%.o: % build/client-flags | build/dep
	@mkdir -p $(@D)
	@echo '#include "$(<:src/%=%)"' | $(CXX) $(CLIENT_FLAGS) $(NOTE_HEADERS) -fsyntax-only -x c++ - && touch $@

build/client-flags: FORCE
	@$(call note,$(CXX) $(CLIENT_FLAGS))

install-client: client
	install -D -m 755 build/client/mau '$(DESTDIR)$(prefix)/bin/mau'
	install -D -m 644 doc/mau.1 '$(DESTDIR)$(prefix)/share/man/man1/mau.1'
	install -D -m 644 share/bash-completion/mau '$(DESTDIR)$(prefix)/share/bash-completion/completions/mau'

uninstall-client:
	rm -f '$(DESTDIR)$(prefix)/bin/mau' '$(DESTDIR)$(prefix)/share/man/man1/mau.1' \
	    '$(DESTDIR)$(prefix)/share/bash-completion/completions/mau'

# --- Programs that load a server: libpq, no PostgreSQL server headers ------------------------------------------

LIBPQ = -isystem$(shell $(PG_CONFIG) --includedir 2>/dev/null) -L$(shell $(PG_CONFIG) --libdir 2>/dev/null) -lpq
test-clients: build/test/cap_client

build/test/cap_client: test/load/cap_client.cpp
build/test/bench_client: test/bench/bench_client.cpp test/bench/figures.hpp
build/test/cap_client build/test/bench_client: test/load/pq.hpp
	@mkdir -p $(@D)
	$(CXX) $(STRICT) -O2 -o $@ $(filter %.cpp,$^) $(LIBPQ) -pthread

build/test/history_bench: test/bench/history_bench.cpp test/bench/figures.hpp $(filter src/bitmap/%,$(PURE)) test/load/pq.hpp $(wildcard src/bitmap/*)
	@mkdir -p $(@D)
	$(CXX) $(STRICT) -O2 -Isrc -o $@ $(filter %.cpp,$^) $(LIBPQ) -pthread

# The clock of test/run --clock.
build/test/clock.so: test/clock.c
	@mkdir -p $(@D)
	$(CC) -Wall -Wextra -O2 -fPIC -shared -o $@ $<

# --- What people type ------------------------------------------------------------------------------------------

demo: # make demo DUMP=file.sql takes a real homeserver's dump
	@DUMP='$(DUMP)' test/demo

test:
	@WERROR='$(WERROR)' test/run

test-matrix: # make test-matrix ON="trixie sid" takes some of the systems
	@test/matrix $(ON)

test-assert: # on a PostgreSQL with assertions, which is built once
	@test/matrix assert

bench:
	@test/bench/run

OURS = $(wildcard src/*.[ch]pp src/*/*.[ch]pp test/boundary/*.[ch]pp test/unit/*.[ch]pp test/fuzz/*.[ch]pp test/bench/*.[ch]pp)
SCRIPTS_OF_OURS = test/setup test/run test/suite test/matrix test/layers test/demo test/packages test/bench/run share/docker/build share/warehouse/copy share/bash-completion/mau test/lib.sh .ci/run

format:
	clang-format -i $(OURS)

lint:
	test/setup lint
	@$(MAKE) --no-print-directory lint-run

# With the tools that are there.
lint-run:
	! command -v clang-format >/dev/null || clang-format --dry-run --Werror $(OURS)
	! command -v shellcheck >/dev/null || shellcheck -x $(SCRIPTS_OF_OURS)
	test/layers
	! perl -MJSON::PP -e 1 2>/dev/null || perl -MJSON::PP -0777 -ne 'decode_json($$_)' META.json share/monitoring/*.json
	! command -v promtool >/dev/null || promtool check rules share/monitoring/alerts.yml
	! command -v promtool >/dev/null || promtool check config --syntax-only share/monitoring/prometheus.yml
	! python3 -c 'import yaml' 2>/dev/null || python3 -c 'import sys, yaml; [yaml.safe_load(open(f)) for f in sys.argv[1:]]' $(filter %.yml %.yaml,$(MONITORING))

# A PGXN release of what is committed.
RELEASE = mau-$(shell sed -n '1,/"version"/s/.*"version": *"\([^"]*\)".*/\1/p' META.json)
dist:
	git archive --format=zip --prefix=$(RELEASE)/ -o $(RELEASE).zip HEAD

help:
	@echo "make demo               see it work, on a throw-away server (DUMP=file.sql: on your homeserver's dump)"
	@echo "make test               every test, on throw-away servers (test/run --help: some of them)"
	@echo "make test-matrix        make demo and make test in fresh Debian systems (ON=\"trixie sid\", SHORT=1; root or sudo)"
	@echo "make test-assert        regress and isolation tests on a PostgreSQL 17 with assertions (root or sudo)"
	@echo "make bench              measure"
	@echo "make; make install      build; install into $(or $(PG_CONFIG),the PostgreSQL of PG_CONFIG=...)"
	@echo "make client             build the program mau; make install-client installs it below $(prefix)"
	@echo "make unit, make fuzz    the pure modules alone, without a server (FUZZ_SECONDS=$(FUZZ_SECONDS))"
	@echo "make format, make lint  clang-format; clang-format --dry-run and shellcheck"
	@echo "make dist               a zip for PGXN"
	@echo "PG_CONFIG=... chooses the PostgreSQL, WERROR=1 makes warnings errors"

print-%: # what the scripts in test/ ask this file
	@echo '$($*)'

FORCE:
.SECONDARY:
.PHONY: client install-client uninstall-client all install install-monitoring uninstall-monitoring install-warehouse uninstall-warehouse installcheck clean distclean unit unit-build test-modules test-clients bench-build fuzz fuzz-run demo test test-matrix test-assert bench format lint lint-run dist help FORCE
