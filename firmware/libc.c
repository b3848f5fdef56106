/* The functions that the compiler calls by itself. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
  uint8_t *out = to;
  const uint8_t *in = from;
  if ((((uintptr_t)out | (uintptr_t)in) & 3) == 0) {
    for (; bytes >= 4; bytes -= 4, out += 4, in += 4) *(uint32_t *)out = *(const uint32_t *)in;
  }
  while (bytes--) *out++ = *in++;
  return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
  uint8_t *out = to;
  const uint8_t *in = from;
  if (out <= in) return memcpy(to, from, bytes);
  while (bytes--) out[bytes] = in[bytes];
  return to;
}

void *memset(void *to, int value, size_t bytes) {
  uint8_t *out = to;
  const uint32_t word = (uint8_t)value * 0x01010101u;
  if (((uintptr_t)out & 3) == 0) {
    for (; bytes >= 4; bytes -= 4, out += 4) *(uint32_t *)out = word;
  }
  while (bytes--) *out++ = (uint8_t)value;
  return to;
}

int memcmp(const void *left, const void *right, size_t bytes) {
  const uint8_t *a = left;
  const uint8_t *b = right;
  for (; bytes--; ++a, ++b) {
    if (*a != *b) return *a - *b;
  }
  return 0;
}
