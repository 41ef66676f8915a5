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

/*
 * CRC-64 (ECMA-182, reflected: "123456789" gives 0x995dc9bbdf1939fa), by ISA-L: a name for a file's content.
 * @before: of the bytes before these; 0: there are none
 */
uint64_t crc64(uint64_t before, const void *bytes, size_t n);
