// Sums over memory, at the speed of the memory: CRC-32C (RFC 3720, appendix B.4) and the search for what is not zero.
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/// CRC-32C of `count` bytes, going on from the sum of what stands before them; 0 to begin.
uint32_t checksum_crc32c(uint32_t sum, const void *bytes, size_t count);

/// 1 where all of `count` bytes are zero. `count` is a multiple of 64.
int checksum_is_zero(const void *bytes, size_t count);

#endif
