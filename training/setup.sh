#!/bin/sh
# Installs what training needs into training/.venv, from the package index that pip is configured for, and Debian's emoji font unless
# the state folder has the glyphs already (world/art.py). Needs Python 3.11 or newer with venv, and some 8 GB of disk. Can be run again.
set -eu
cd "$(dirname "$0")"
[ -d "${SDD_TRAIN_STATE:-work}/art" ] || ../packaging/deps/install.sh training
python3 -m venv .venv
.venv/bin/pip install --quiet -r requirements.txt
.venv/bin/python -c "import diffusers, torch; print('torch', torch.__version__, 'and diffusers', diffusers.__version__, 'in training/.venv')"
