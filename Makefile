# The front door. `make demo` and `make check` need nothing but Debian 12 and make.
BUILD  ?= build
PREFIX ?= /usr/local
MESON   = /usr/bin/meson
NINJA   = ninja -C $(BUILD)

.PHONY: all build deps deps-check demo check check-editors check-fullsize check-system packages bench storm fleet figures install \
	install-user screenshots clean

all: build

deps:
	@packaging/deps/install.sh build

deps-check:
	@packaging/deps/install.sh build check editors

$(BUILD)/build.ninja: | deps
	$(MESON) setup $(BUILD) --prefix=$(PREFIX)

build: deps $(BUILD)/build.ninja
	@$(NINJA)

demo: build
	@packaging/deps/install.sh demo
	@tests/demo/demo.sh $(BUILD) demo

check: deps-check
	@/usr/bin/python3 tests/check.py

# the plug-ins in the real GIMP and Krita; a part of `make check`
check-editors: deps-check
	@/usr/bin/python3 tests/check.py editors

# the units in a booted Debian, and the packages in clean ones; a part of `make check`; needs root
check-system: deps-check
	@/usr/bin/python3 tests/check.py system

# .deb files into build-packages/
packages:
	@packaging/deps/install.sh build packages
	@packaging/make-packages.sh build-packages

# the U-Net of Stable Diffusion 1.5 at real size: some minutes, 6 GB of memory, 2 GB in $TMPDIR or /var/tmp
check-fullsize: deps-check build
	@$(MESON) test -C $(BUILD) --no-rebuild --suite slow --timeout-multiplier 0 --verbose

# speed and memory at real size, beside diffusers when SDD_BENCH_PYTHON names a Python that has it
bench: deps-check build
	@tests/bench/run.py $(BUILD) $(BENCH)

# the full count of random cancels and worker kills; `make check` runs a short one
storm: build
	@$(MESON) test -C $(BUILD) --no-rebuild --suite storm --timeout-multiplier 0 --verbose

# 32 clients of all classes for ten minutes on the model that ships; `make check` runs some steps with a tiny one
fleet: build
	@$(MESON) test -C $(BUILD) --no-rebuild --suite fleet --timeout-multiplier 0 --verbose

# what a daemon of many clients costs and how it orders them: the tests that assert it, and what they print
figures: build
	@bash -o pipefail -c "$(MESON) test -C $(BUILD) --no-rebuild --verbose --timeout-multiplier 3 integration-session \
		integration-promises integration-scheduling integration-interrupted fleet-short | grep -Ev '^(<|$$|>>>|\[|―|ninja|Full log)|RUNNING'"

install: build
	$(MESON) install -C $(BUILD) --no-rebuild

# for this user alone: daemon and libraries below ~/.local, plug-ins where the user's GIMP and Krita look
BUILD_USER   = build-user
USER_OPTIONS =
install-user: deps
	[ -f $(BUILD_USER)/build.ninja ] || $(MESON) setup $(BUILD_USER) --prefix=$(HOME)/.local -Dtests=false $(USER_OPTIONS) \
		-Dgimp2_plugins=$(HOME)/.config/GIMP/2.10/plug-ins -Dgimp3_plugins=$(HOME)/.config/GIMP/3.0/plug-ins
	ninja -C $(BUILD_USER)
	$(MESON) install -C $(BUILD_USER) --no-rebuild

# the pictures of README, from the real programs
screenshots: deps-check build
	@mkdir -p docs/pictures
	@$(MESON) test -C $(BUILD) --no-rebuild --suite editors --test-args $(CURDIR)/docs/pictures --timeout-multiplier 0 \
		gimp2-dialog gimp3-dialog krita-docker

clean:
	rm -rf build build-* demo
