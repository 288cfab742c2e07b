# SPDX-License-Identifier: MIT
# test-labels: noasan
# The layers hold in the source; the scripts that check layers and sizes notice a breach; the lists of mutants can be read.
# (Sizes of the source itself are checked by ./run lint.)
set -eu
cd "$FATHOM_SOURCE_DIR"
python3 scripts/check_layers.py --self-test
python3 scripts/check_sizes.py --self-test
python3 scripts/check_layers.py
