/* SPDX-License-Identifier: GPL-2.0 */
/* CRC-32C, to check what the dummy GPU computes. */
#ifndef HMM_P2P_CRC32C_H
#define HMM_P2P_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Compute what HMM_DUMMY_OP_CRC32C finds for the same data. */
static inline uint32_t crc32c(const char *p, size_t length)
{
	static uint32_t table[256];
	uint32_t crc = ~0U;

	for (uint32_t i = 0; i < 256 && !table[255]; i++) {
		table[i] = i;
		for (int k = 0; k < 8; k++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78 : 0);
	}
	while (length--)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
	return ~crc;
}

#endif
