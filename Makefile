# The front door. `make demo` and `make check` need nothing but Debian 12 and make.
BUILD  ?= build
PREFIX ?= /usr/local
MESON   = /usr/bin/meson
NINJA   = ninja -C $(BUILD)

.PHONY: all build deps deps-check demo check check-editors check-fullsize bench storm install clean

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
	@tests/demo/demo.sh $(BUILD) demo

check: deps-check
	@/usr/bin/python3 tests/check.py

# the plug-ins in the real GIMP and Krita; a part of `make check`
check-editors: deps-check
	@/usr/bin/python3 tests/check.py editors

# the U-Net of Stable Diffusion 1.5 at real size: some minutes, 6 GB of memory, 2 GB in $TMPDIR or /var/tmp
check-fullsize: deps-check build
	@$(MESON) test -C $(BUILD) --no-rebuild --suite slow --timeout-multiplier 0 --verbose

# speed and memory at real size, beside diffusers when SDD_BENCH_PYTHON names a Python that has it
bench: deps-check build
	@tests/bench/run.py $(BUILD) $(BENCH)

# the full count of random cancels and worker kills; `make check` runs a short one
storm: build
	@$(MESON) test -C $(BUILD) --no-rebuild --suite storm --timeout-multiplier 0 --verbose

install: build
	$(MESON) install -C $(BUILD) --no-rebuild

clean:
	rm -rf build build-* demo
