/* SPDX-License-Identifier: MIT */
#pragma once

/* azpar's version, as every program's --version and the status give it. */
#define AZPAR_VERSION "0.1.0"
