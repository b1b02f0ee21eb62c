#include "checksum.h"

#include <string.h>

// The polynomial of Castagnoli, 0x1EDC6F41, bits reversed.
#define POLYNOMIAL 0x82F63B78u

static uint32_t table_sum(uint32_t sum, const uint8_t *bytes, size_t count) {
  static uint32_t table[256];
  static int is_ready;
  if (!__atomic_load_n(&is_ready, __ATOMIC_ACQUIRE)) {
    // Threads that come together write the same values.
    for (uint32_t number = 0; number < 256; number++) {
      uint32_t value = number;
      for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ POLYNOMIAL : value >> 1;
      __atomic_store_n(&table[number], value, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&is_ready, 1, __ATOMIC_RELEASE);
  }
  while (count--) sum = sum >> 8 ^ table[(sum ^ *bytes++) & 0xFF];
  return sum;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t hardware_sum(
    uint32_t sum, const uint8_t *bytes, size_t count) {
  uint64_t value = sum;
  while (count >= 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    value = __builtin_ia32_crc32di(value, word);
    bytes += 8;
    count -= 8;
  }
  sum = (uint32_t)value;
  while (count--) sum = __builtin_ia32_crc32qi(sum, *bytes++);
  return sum;
}
#endif

uint32_t checksum_crc32c(uint32_t sum, const void *bytes, size_t count) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return ~hardware_sum(~sum, bytes, count);
#endif
  return ~table_sum(~sum, bytes, count);
}

int checksum_is_zero(const void *bytes, size_t count) {
  const uint8_t *place = bytes;
  for (size_t offset = 0; offset < count; offset += 64) {
    uint64_t words[8];
    memcpy(words, place + offset, 64);
    if (words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7])
      return 0;
  }
  return 1;
}
