# SPDX-License-Identifier: MIT
#
# One makefile, no recursion into folders.  Objects live in build/$(VARIANT)/, so sanitizer builds never mix with
# the release build.
#
#     make V=1             show the commands
#     make CFLAGS=...      yours: ours are added to them, never replace them
#     make TORCH=/path     an unpacked libtorch (1.13 or later, CPU or CUDA) instead of Debian's; CXXSTD=c++20 if its
#                          headers want that, CXXFLAGS=-D_GLIBCXX_USE_CXX11_ABI=0 for one built with the old ABI
#
# A folder is a library or a process: everything under common/ is linked into libcommon.a, worker/ (without the mains)
# into libworker.a and so on; a main.c is a program.

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
SBINDIR    ?= $(PREFIX)/sbin
LIBEXECDIR ?= $(PREFIX)/libexec/azpar
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/azpar
UNITDIR    ?= $(PREFIX)/lib/systemd/system
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
# For uninstall: the folders that install had to make. Empty: not written down.
MADE_FOLDERS ?= $(LIBEXECDIR)/made-folders
DESTDIR    ?=

CC       := $(if $(filter default,$(origin CC)),gcc,$(CC))
CXX      := $(if $(filter default,$(origin CXX)),g++,$(CXX))
AR       := $(if $(filter default,$(origin AR)),ar,$(AR))
CFLAGS   ?= -O2 -g
CXXFLAGS ?= -O2 -g
INSTALL  ?= install
TORCH    ?=
CXXSTD   ?= c++17
VARIANT  ?= release
B        := build/$(VARIANT)
Q        := $(if $(filter 1,$(V)),,@)
say       = $(if $(filter 1,$(V)),,@echo "  $(1)")

# Debian packages: to build and run, and what the tests need on top.
packages_build := build-essential $(if $(TORCH),,libtorch-dev libopenblas0-serial) libdnnl-dev liburing-dev libseccomp-dev \
	libmsgpack-dev libsystemd-dev libcjson-dev libinih-dev libisal-dev jq
packages_check := libcmocka-dev mandoc nlohmann-json3-dev libsimdjson-dev rapidjson-dev locales spin e2fsprogs xfsprogs btrfs-progs \
	systemd systemd-container dbus man-db socat lintian python3 python3-msgpack
packages_deb   := debhelper dpkg-dev fakeroot
packages_fuzz  := clang libclang-rt-14-dev

# Ours: needed for a correct build whatever the caller sets.
az_warn     := -Wall -Wextra -Wshadow -Wundef -Wvla -Wformat=2 -Wmissing-format-attribute -Wwrite-strings
az_cppflags := -D_GNU_SOURCE -I. -DAZPAR_LIBEXECDIR='"$(LIBEXECDIR)"' \
	$(if $(filter pause,$(VARIANT)),-DAZPAR_PAUSE_POINTS)
az_cflags    = -std=gnu17 -fvisibility=hidden $(az_warn) -Wstrict-prototypes -Wmissing-prototypes \
	$(if $(findstring gcc,$(CC)),-Werror=jump-misses-init) $(az_werror)
az_cxxflags  = -std=$(CXXSTD) -fvisibility=hidden $(az_warn) $(az_werror)
az_werror   := $(if $(WERROR),-Werror)
az_san_asan := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
az_san_tsan := -fsanitize=thread -fno-omit-frame-pointer
az_san_fuzz := -fsanitize=fuzzer-no-link $(az_san_asan)
az_san      := $(az_san_$(VARIANT))

# libtorch's headers are foreign: -isystem, so that our warnings do not apply to them.  (-isystem /usr/include would hide
# stdlib.h from libstdc++'s #include_next.)
torch_inc   := $(or $(TORCH),/usr)/include
torch_flags := $(if $(TORCH),-isystem $(torch_inc)) -isystem $(torch_inc)/torch/csrc/api/include
torch_libs   = $(if $(TORCH),-L$(TORCH)/lib -Wl$(,)-rpath$(,)$(TORCH)/lib) -Wl,--no-as-needed -ltorch -ltorch_cpu \
	$(if $(wildcard $(TORCH)/lib/libtorch_cuda.so),-ltorch_cuda) -Wl,--as-needed -lc10
, := ,

libs_common := -lmsgpackc -lcjson -linih -lisal -luring -lseccomp -lm
libs_worker := -ldnnl -lgomp
libs_daemon := -lsystemd

# What is linked into what.
lib_sources = $(filter-out %/main.c,$(wildcard $(1)))
common_src  := $(call lib_sources,common/*/*.c)
worker_src  := $(call lib_sources,worker/*.c worker/match/*.c)
daemon_src  := $(call lib_sources,daemon/*.c)
ctl_src     := $(call lib_sources,daemon/ctl/*.c)
trainer_src := $(call lib_sources,daemon/trainer/*.c)
torch_src   := daemon/trainer/torch.cc
obj          = $(addprefix $(B)/,$(addsuffix .o,$(basename $(1))))

programs    := azpard azpar-trainer azpar-worker azpar-match azparctl
unit_tests  := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test-*.c))
# These stand on libtorch as well: they compare our numbers with its.
torch_tests := $(patsubst tests/unit/%.c,%,$(shell grep -ls 'daemon/trainer/torch.h' tests/unit/test-*.c))
fuzz_targets := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz-*.c))
e2e_helpers := $(patsubst tests/e2e/%.c,$(B)/tests/e2e/%,$(wildcard tests/e2e/*.c))
e2e_tests   := $(sort $(patsubst tests/e2e/%.sh,%,$(wildcard tests/e2e/[0-9]*.sh)))
fault_tests := $(addprefix $(B)/tests/fault/,scenarios child inject.so)
# The manual against what runs; man-NAME is tests/man/NAME.sh.
man_tests   := $(patsubst tests/man/%.sh,man-%,$(wildcard tests/man/*.sh))
# What else `make check` runs; sanitizers have nothing to find there.
more_tests  := $(if $(filter release,$(VARIANT)),model $(man_tests) package boot)
benches     := $(basename $(notdir $(wildcard tests/bench/bench-*.c tests/bench/bench-*.cc)))
headers     := $(wildcard common/*/*.h worker/*.h worker/*/*.h daemon/*.h daemon/*/*.h)

## all: build the programs (default)
.PHONY: all
all: $(addprefix $(B)/,$(programs))

$(B)/libcommon.a: $(call obj,$(common_src))
$(B)/libworker.a: $(call obj,$(worker_src))
$(B)/libdaemon.a: $(call obj,$(daemon_src))
$(B)/libctl.a: $(call obj,$(ctl_src))
$(B)/libtrainer.a: $(call obj,$(trainer_src))
$(B)/lib%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

link_c   = $(Q)$(CC) $(CFLAGS) $(az_san) $(LDFLAGS) -Wl,--as-needed -o $@ $(filter %.o %.a,$^)
link_cxx = $(Q)$(CXX) $(CXXFLAGS) $(az_san) $(LDFLAGS) -Wl,--as-needed -o $@ $(filter %.o %.a,$^)

$(B)/azpard: $(B)/daemon/main.o $(B)/libdaemon.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_daemon) $(libs_common) $(LDLIBS)
$(B)/azparctl: $(B)/daemon/ctl/main.o $(B)/libctl.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) $(LDLIBS)
$(B)/azpar-worker: $(B)/worker/main.o $(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_worker) $(libs_common) $(LDLIBS)
$(B)/azpar-match: $(B)/worker/match/main.o $(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_worker) $(libs_common) $(LDLIBS)
$(B)/azpar-trainer: $(B)/daemon/trainer/main.o $(B)/libtrainer.a $(call obj,$(torch_src)) $(B)/libcommon.a
	$(call say,link $@)
	$(link_cxx) $(torch_libs) $(libs_common) $(LDLIBS)

$(addprefix $(B)/tests/unit/,$(torch_tests)): $(B)/tests/unit/%: $(B)/tests/unit/%.o $(B)/libtrainer.a \
		$(call obj,$(torch_src)) $(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_cxx) $(torch_libs) $(libs_worker) $(libs_common) -lcmocka -pthread $(LDLIBS)
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(B)/libctl.a $(B)/libdaemon.a $(B)/libtrainer.a $(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_daemon) $(libs_worker) $(libs_common) -lcmocka -pthread $(LDLIBS)
$(B)/tests/bench/bench-baseline: $(B)/tests/bench/bench-baseline.o $(B)/libcommon.a
	$(call say,link $@)
	$(link_cxx) $(torch_libs) $(libs_common) $(LDLIBS)
$(B)/tests/bench/bench-train: $(B)/tests/bench/bench-train.o $(B)/tests/bench/plain-torch.o $(B)/libtrainer.a \
		$(call obj,$(torch_src)) $(B)/libcommon.a
	$(call say,link $@)
	$(link_cxx) $(torch_libs) $(libs_common) $(LDLIBS)
$(B)/tests/bench/bench-exchange: $(B)/tests/bench/bench-exchange.o $(B)/tests/bench/json-files.o $(B)/libcommon.a
	$(call say,link $@)
	$(link_cxx) $(libs_common) $(LDLIBS)
# Against the best that simdjson can do: part of it is inlined and takes what instructions the compiler may use.
$(B)/tests/bench/bench-json.o: az_cxxflags += -O3 -march=native
$(B)/tests/bench/bench-json: $(B)/tests/bench/bench-json.o $(B)/tests/bench/json-azpar.o $(B)/libcommon.a
	$(call say,link $@)
	$(link_cxx) -lsimdjson $(libs_common) $(LDLIBS)
$(B)/tests/bench/%: $(B)/tests/bench/%.o $(B)/libdaemon.a $(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_daemon) $(libs_worker) $(libs_common) -pthread $(LDLIBS)

# A fuzz target is driven by libFuzzer in the variant that is made for it, in all others by a replay of its corpus.
fuzz_driver := $(if $(filter fuzz,$(VARIANT)),,$(B)/tests/fuzz/replay.o)
$(B)/tests/fuzz/fuzz-%: $(B)/tests/fuzz/fuzz-%.o $(fuzz_driver) $(B)/libdaemon.a $(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(if $(fuzz_driver),,-fsanitize=fuzzer) $(libs_daemon) $(libs_worker) $(libs_common) -pthread $(LDLIBS)
$(B)/tests/fuzz/seeds: $(B)/tests/fuzz/seeds.o $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) $(LDLIBS)

$(B)/tests/e2e/%: $(B)/tests/e2e/%.o $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) $(LDLIBS)

$(B)/tests/boot/ledger: $(B)/tests/boot/ledger.o $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) $(LDLIBS)

# The kill test's own programs, of VARIANT=pause; numbered-worker also on lanes that a broken build could have.
kill_workers := numbered-worker $(patsubst tests/kill/lane-%.c,numbered-worker-%,$(wildcard tests/kill/lane-*.c))
kill_tests   := kill-test power-cut
$(addprefix $(B)/tests/kill/,$(kill_tests)): $(B)/tests/kill/%: $(B)/tests/kill/%.o $(B)/tests/kill/audit.o \
		$(B)/tests/kill/fleet.o $(B)/tests/kill/numbered.o $(B)/libctl.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) $(LDLIBS)
$(B)/tests/kill/busy-trainer: $(B)/tests/kill/busy-trainer.o $(B)/tests/kill/numbered.o $(B)/libtrainer.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) -pthread $(LDLIBS)
$(B)/tests/kill/numbered-worker: $(B)/tests/kill/numbered-worker.o $(B)/tests/kill/numbered.o $(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) $(LDLIBS)
$(B)/tests/kill/numbered-worker-%: $(B)/tests/kill/numbered-worker.o $(B)/tests/kill/numbered.o $(B)/tests/kill/lane-%.o \
		$(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) $(LDLIBS)

# Sanitizers have their own tests to slow down: this one is about moments.
kill_forms := $(if $(filter release,$(VARIANT)),kills real power-cut control weak late stale)
.PHONY: kill-built kill-programs
kill-built:
	$(if $(kill_forms),$(Q)$(MAKE) VARIANT=pause kill-programs)
kill-programs: $(B)/azpard $(addprefix $(B)/tests/kill/,$(kill_tests) busy-trainer $(kill_workers))

fault_forms := start-empty start-killed stop stop-asked drain spill import publish checkpoint control reload children ticks controls clocks
# inject.so stands in front of a sanitizer's functions, so there is none in it.
fault_libs := $(libs_common) -lcmocka $(LDLIBS)
$(B)/tests/fault/scenarios: $(patsubst %,$(B)/tests/fault/%.o,scenarios runs checks rig proof) $(B)/libctl.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(fault_libs)
$(B)/tests/fault/child: $(B)/tests/fault/child.o $(B)/libworker.a $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(fault_libs)
$(B)/tests/fault/inject.so: tests/fault/inject.c tests/fault/fault.h
	@mkdir -p $(@D)
	$(call say,link $@)
	$(Q)$(CC) $(CPPFLAGS) $(az_cppflags) $(CFLAGS) $(az_cflags) -fPIC -shared $(LDFLAGS) -o $@ $<

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,cc   $<)
	$(Q)$(CC) $(CPPFLAGS) $(az_cppflags) $(CFLAGS) $(az_cflags) $(az_san) -MMD -MP -c -o $@ $<
$(B)/%.o: %.cc
	@mkdir -p $(@D)
	$(call say,c++  $<)
	$(Q)$(CXX) $(CPPFLAGS) $(az_cppflags) $(torch_flags) $(CXXFLAGS) $(az_cxxflags) $(az_san) -MMD -MP -c -o $@ $<

## deps: install the Debian packages that building and testing need (as root or through sudo)
.PHONY: deps deps-check
deps:
	@$(call install_packages,$(packages_build))
deps-check:
	@$(call install_packages,$(packages_build) $(packages_check) $(packages_deb))
define install_packages
missing=""; for p in $(1); do \
	dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
if [ -n "$$missing" ]; then \
	echo "  installing$$missing"; \
	if [ "$$(id -u)" = 0 ]; then run=; else run=sudo; fi; \
	$$run apt-get update -q && $$run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
fi
endef

## check: install what is missing, build with warnings as errors, run all tests
.PHONY: check
check: deps-check
	$(Q)$(MAKE) WERROR=1 check-built

.PHONY: check-built
check-built: all $(addprefix $(B)/tests/unit/,$(unit_tests)) $(addprefix $(B)/tests/fuzz/,$(fuzz_targets)) $(e2e_helpers) $(fault_tests) check-headers check-includes check-events check-man kill-built deb-built
	@tests/run-all $(B) $(unit_tests) $(fuzz_targets) $(e2e_tests) $(addprefix kill-,$(kill_forms)) $(more_tests) $(addprefix fault-,$(fault_forms))

## check-long: the same with the long forms of the tests that have one, which takes hours
.PHONY: check-long
check-long:
	$(Q)AZPAR_LONG=1 AZPAR_TEST_TIMEOUT=14400 $(MAKE) check

## soak: train for an hour (SOAK_SECONDS) while children and azpard are killed; fails if memory, descriptors or counters drift
SOAK_SECONDS ?= 3600
.PHONY: soak
soak: deps-check
	$(Q)$(MAKE) all $(B)/tests/e2e/audit
	@tests/kill/soak.sh $(B) $(SOAK_SECONDS)

# Each header must compile alone; the boundary to libtorch also as C++.
.PHONY: check-headers
check-headers:
	@for h in $(headers); do \
		$(CC) $(az_cppflags) $(az_cflags) -fsyntax-only -Werror -x c -include $$h /dev/null || exit 1; \
	done
	@$(CXX) $(az_cppflags) $(az_cxxflags) -fsyntax-only -Werror -x c++ -include daemon/trainer/torch.h /dev/null
	@echo "ok   check-headers: $(words $(headers)) headers compile alone"

# The floor plan: arrows run down only, libtorch stays in one file, oneDNN in what inference is made of.
.PHONY: check-includes
check-includes:
	@tests/check-includes
# Events: the table, the calls, the catalog and the manual agree.
.PHONY: check-events
check-events:
	@tests/check-events
# The manual against programs and sources; what has to run for it is in man_tests.
.PHONY: check-man
check-man: all $(B)/tests/man/facts
	@tests/man/check $(B)

# What the manual's tables must say: all fields of the structs that are drawn there.
man_headers := $(addprefix common/exchange/,lane.h segment.h window.h)
$(B)/tests/man/fields.inc: tests/man/fields.awk $(man_headers)
	@mkdir -p $(@D)
	$(Q)cat $(man_headers) | awk -f tests/man/fields.awk >$@
$(B)/tests/man/facts.o: $(B)/tests/man/fields.inc
$(B)/tests/man/facts.o: az_cppflags += -I$(B)
$(B)/tests/man/facts: $(B)/tests/man/facts.o $(B)/libcommon.a
	$(call say,link $@)
	$(link_c) $(libs_common) $(LDLIBS)

## asan: unit and end-to-end tests under AddressSanitizer and UBSan
## tsan: the lane's and the window's tests under ThreadSanitizer
.PHONY: asan tsan
asan:
	$(Q)$(MAKE) VARIANT=asan CFLAGS="-O1 -g" CXXFLAGS="-O1 -g" WERROR=1 check-built
tsan_tests := test-lane test-window test-segment
tsan:
	$(Q)$(MAKE) VARIANT=tsan CFLAGS="-O1 -g" CXXFLAGS="-O1 -g" WERROR=1 check-tsan
.PHONY: check-tsan
check-tsan: $(addprefix $(B)/tests/unit/,$(tsan_tests))
	@tests/run-all $(B) $(tsan_tests)

## fuzz: fuzz all that reads foreign bytes, FUZZ_RUNS=100000 times each; FUZZ=lane picks one
FUZZ_RUNS ?= 100000
fuzz_picked := $(if $(FUZZ),$(addprefix fuzz-,$(FUZZ)),$(fuzz_targets))
.PHONY: fuzz deps-fuzz fuzz-built fuzz-seeds
deps-fuzz:
	@$(call install_packages,$(packages_build) $(packages_fuzz))
fuzz: deps-fuzz
	$(Q)$(MAKE) VARIANT=fuzz CC=clang CFLAGS="-O1 -g" WERROR=1 fuzz-built
fuzz-built: $(addprefix $(B)/tests/fuzz/,$(fuzz_picked))
	@tests/fuzz/run $(B) $(FUZZ_RUNS) $(fuzz_picked)
# Write again what the corpora in the tree began with.
fuzz-seeds: $(B)/tests/fuzz/seeds
	@$(B)/tests/fuzz/seeds tests/fuzz/corpus

## bench: ratios against the baseline, measured in the same run
.PHONY: bench
bench: deps-check
	$(Q)$(MAKE) bench-built
.PHONY: bench-built
bench-built: all $(addprefix $(B)/tests/bench/,$(benches))
	@tests/bench/run $(B)

## demo: install what is missing, train Connect Four for about five minutes and show it learning
.PHONY: demo
demo: deps
	$(Q)$(MAKE) all
	@tests/demo/demo.sh $(B)

## demo-short: the same for one minute; fails unless the network got stronger
.PHONY: demo-short
demo-short: deps
	$(Q)$(MAKE) all
	@tests/demo/check.sh $(B)

# Units, and where azpard looks for its children, hold paths: made again when those change.
units := $(addprefix $(B)/unit-files/,azpar.service azpar@.service azpar.socket azpar@.socket)
.PHONY: FORCE
$(B)/paths: FORCE
	@mkdir -p $(@D)
	@echo '$(SBINDIR) $(BINDIR) $(LIBEXECDIR)' | cmp -s - $@ || echo '$(SBINDIR) $(BINDIR) $(LIBEXECDIR)' >$@
$(B)/daemon/children.o: $(B)/paths
make_unit = @mkdir -p $(@D); sed -e 's,@SBINDIR@,$(SBINDIR),; s,@BINDIR@,$(BINDIR),; s,@INSTANCE@,$(1),; s,@UNIT@,$(2),' $< >$@
$(B)/unit-files/azpar@.%: unit-files/azpar.%.in $(B)/paths
	$(call make_unit,%i,azpar@%i)
$(B)/unit-files/azpar.%: unit-files/azpar.%.in $(B)/paths
	$(call make_unit,default,azpar)

# What is installed, as rows SOURCE=TARGET; install and uninstall both go by them.
pages     := $(wildcard man/*.[1-8])
installed  = $(B)/azpard=$(SBINDIR)/azpard \
	$(foreach p,azparctl azpar-match,$(B)/$(p)=$(BINDIR)/$(p)) \
	$(foreach p,azpar-worker azpar-trainer,$(B)/$(p)=$(LIBEXECDIR)/$(p)) \
	$(foreach p,$(pages),$(p)=$(MANDIR)/man$(subst .,,$(suffix $(p)))/$(notdir $(p))) \
	$(foreach u,$(units) unit-files/azpar.slice,$(u)=$(UNITDIR)/$(notdir $(u))) \
	unit-files/azpar.sysusers=$(SYSUSERSDIR)/azpar.conf \
	$(foreach c,$(wildcard unit-files/*.catalog),$(c)=$(CATALOGDIR)/$(notdir $(c))) \
	$(foreach c,$(wildcard daemon/ctl/azparctl.bash),$(c)=$(COMPLETIONDIR)/azparctl) \
	$(foreach e,azpar.conf gpu.conf,unit-files/$(e)=$(DOCDIR)/examples/$(e))

## install: copy programs, units and manual to PREFIX (/usr/local), under DESTDIR if that is given
## uninstall: remove all of that again
.PHONY: install uninstall
install: all $(units)
	$(Q)INSTALL='$(INSTALL)' unit-files/place install '$(DESTDIR)' '$(MADE_FOLDERS)' $(installed)
uninstall:
	$(Q)unit-files/place remove '$(DESTDIR)' '$(MADE_FOLDERS)' $(installed)

# The package is built from a copy, so that it disturbs no other build; the copy's objects are kept for the next time.
version     := $(shell sed -n 's/^.define AZPAR_VERSION "\(.*\)"/\1/p' common/base/version.h)
deb_parts   := Makefile README.md LICENSE common daemon debian man unit-files worker
deb_sources := $(shell find $(deb_parts) -type f)
deb_file    := build/deb/azpar_$(version)_$(shell dpkg --print-architecture 2>/dev/null).deb
deb_tree    := build/deb/azpar
## deb: install what is missing, build the Debian package in build/deb
.PHONY: deb deb-built
deb:
	@$(call install_packages,$(packages_build) $(packages_deb))
	$(Q)$(MAKE) $(deb_file)
$(deb_file): $(deb_sources)
	@mkdir -p $(deb_tree)
	$(call say,dpkg-buildpackage $@)
	@rm -rf build/deb/*.*deb build/deb/*.changes build/deb/*.buildinfo
	@find $(deb_tree) -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
	@tar -c $(deb_parts) | tar -x -C $(deb_tree)
	$(Q)cd $(deb_tree) && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u CFLAGS -u CXXFLAGS -u VARIANT -u WERROR \
		dpkg-buildpackage --build=binary --no-sign --no-pre-clean >../log 2>&1 || { tail -n 40 ../log; false; }
	@test -e $@ && echo "  $@"
# For the tests.
deb-built: $(if $(filter boot,$(more_tests)),$(B)/tests/boot/ledger $(deb_file))


## clean: remove build/
.PHONY: clean
clean:
	rm -rf build

## help: list the targets
.PHONY: help
help:
	@sed -n 's/^## \([a-z-]*\): /\1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "  %-10s %s\n", $$1, $$2 }'

-include $(wildcard $(B)/*/*.d $(B)/*/*/*.d)
