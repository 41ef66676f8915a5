#!/bin/bash
# SPDX-License-Identifier: MIT
# btrfs copies on write, so a full disk can refuse what overwrites old data, too; the window must not meet that.
. tests/e2e/disk.sh

make_disk btrfs 120
becomes_full
