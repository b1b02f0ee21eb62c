// Ordered accesses to memory that a guest shares with us (virtio rings), where no Swift `Atomic` can live.
#pragma once
#include <stdint.h>

static inline uint16_t linux_load_acquire_16(const void *address) {
  return __atomic_load_n((const uint16_t *)address, __ATOMIC_ACQUIRE);
}
static inline uint16_t linux_load_relaxed_16(const void *address) {
  return __atomic_load_n((const uint16_t *)address, __ATOMIC_RELAXED);
}
// One load that the compiler neither repeats nor drops, at any alignment.
static inline uint64_t linux_load_once_64(const void *address) {
  typedef uint64_t __attribute__((aligned(1), may_alias)) unaligned;
  return *(const volatile unaligned *)address;
}
static inline void linux_store_release_16(void *address, uint16_t value) {
  __atomic_store_n((uint16_t *)address, value, __ATOMIC_RELEASE);
}
static inline void linux_store_relaxed_16(void *address, uint16_t value) {
  __atomic_store_n((uint16_t *)address, value, __ATOMIC_RELAXED);
}
static inline void linux_store_relaxed_32(void *address, uint32_t value) {
  __atomic_store_n((uint32_t *)address, value, __ATOMIC_RELAXED);
}
static inline void linux_full_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
