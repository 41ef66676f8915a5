/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * CRC-32C (Castagnoli, as in iSCSI, RFC 3720 appendix B.4), by ISA-L: the checksum of every lane record,
 * window slot and checkpoint file.
 */

#include <stddef.h>
#include <stdint.h>

/* Checksum of @n bytes; @n at most INT_MAX. "123456789" gives 0xe3069283. */
uint32_t crc32c(const void *bytes, size_t n);
