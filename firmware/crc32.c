#include "firmware/crc32.h"

static uint32_t table[256];

void crc32_init(void) {
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (0xedb88320u & -(value & 1));
    table[i] = value;
  }
}

uint32_t crc32_update(uint32_t crc, const void *data, uint32_t bytes) {
  const uint8_t *in = data;
  while (bytes--) crc = (crc >> 8) ^ table[(crc ^ *in++) & 0xff];
  return crc;
}
