/* CRC-32 (IEEE 802.3, reflected). */
#ifndef CX_FW_CRC32_H
#define CX_FW_CRC32_H

#include <stdint.h>

#define CRC32_START 0xffffffffu

/* Fills the table; once at boot. */
void crc32_init(void);
/* Continues from `crc` (CRC32_START at first); the result is the complement of the last value. */
uint32_t crc32_update(uint32_t crc, const void *data, uint32_t bytes);

#endif
