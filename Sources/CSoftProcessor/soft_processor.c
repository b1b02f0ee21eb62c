// The little that is not worth an inline function: LOCK where the host has no one access for it, PAUSE, CRC.
#include "soft_processor.h"

#include <sched.h>

_Static_assert(sizeof(soft_operation) == 32, "a decoded instruction is half a cache line");
_Static_assert(offsetof(soft_cpu, registers) == 0, "the register file comes first");
_Static_assert(offsetof(soft_cpu, rip) == 18 * 8, "rip can be named as register 18");

static uint32_t bus_lock;

void soft_lock_bus(void) {
  for (uint32_t turns = 1; __atomic_exchange_n(&bus_lock, 1, __ATOMIC_ACQUIRE) != 0; turns++) {
    __builtin_ia32_pause();
    if (turns % 64 == 0) sched_yield();
  }
}
void soft_unlock_bus(void) { __atomic_store_n(&bus_lock, 0, __ATOMIC_RELEASE); }

void soft_pause(void) {
  static _Thread_local uint32_t turns;
  __builtin_ia32_pause();
  // A guest's spin loop is short where its lock is held by a processor that runs. One that lasts waits for a processor
  // that has lost its place on the host.
  if (++turns % 32 == 0) sched_yield();
}

uint32_t soft_crc32c(uint32_t crc, uint64_t value, uint32_t size) {
  for (uint32_t bit = 0; bit < size * 8; bit++) {
    uint32_t low = (crc ^ (uint32_t)(value >> bit)) & 1;
    crc = crc >> 1 ^ (low ? 0x82F63B78u : 0);
  }
  return crc;
}
