// What the local interrupt controller and the clocks need of C: atomic access to the register page, which other
// processors and devices' threads deliver into, the host's time stamp counter, and waiting for events.
#pragma once

#include <stdint.h>

#include "soft_processor.h"

#pragma clang assume_nonnull begin

/// The register at a byte offset (a multiple of 16) of a local APIC's page.
static inline uint32_t soft_apic_load(const uint8_t *page, uint32_t offset) {
  return __atomic_load_n((const uint32_t *)(const void *)(page + offset), __ATOMIC_SEQ_CST);
}
static inline void soft_apic_store(uint8_t *page, uint32_t offset, uint32_t value) {
  __atomic_store_n((uint32_t *)(void *)(page + offset), value, __ATOMIC_SEQ_CST);
}
/// Sets bits and gives the value before.
static inline uint32_t soft_apic_set(uint8_t *page, uint32_t offset, uint32_t bits) {
  return __atomic_fetch_or((uint32_t *)(void *)(page + offset), bits, __ATOMIC_SEQ_CST);
}
/// Clears bits and gives the value before.
static inline uint32_t soft_apic_clear(uint8_t *page, uint32_t offset, uint32_t bits) {
  return __atomic_fetch_and((uint32_t *)(void *)(page + offset), ~bits, __ATOMIC_SEQ_CST);
}

/// The fields of a soft_cpu that a timer's or another processor's thread writes.
static inline void soft_set_tsc_deadline(soft_cpu *cpu, uint64_t value) {
  __atomic_store_n(&cpu->tsc_deadline, value, __ATOMIC_SEQ_CST);
}
static inline uint64_t soft_get_tsc_deadline(const soft_cpu *cpu) {
  return __atomic_load_n(&cpu->tsc_deadline, __ATOMIC_SEQ_CST);
}
static inline void soft_set_startup_vector(soft_cpu *cpu, uint32_t value) {
  __atomic_store_n(&cpu->startup_vector, value, __ATOMIC_SEQ_CST);
}

/// Says that a page's code may have changed: blocks that were decoded before are stale.
static inline void soft_page_changed(soft_page *page) {
  if (__atomic_load_n(&page->code_lines, __ATOMIC_SEQ_CST) != 0)
    __atomic_fetch_add(&page->generation, 1, __ATOMIC_SEQ_CST);
}

/// Makes a new region visible after all of its fields.
static inline void soft_publish_regions(soft_board *board, uint32_t count) {
  __atomic_store_n(&board->region_count, count, __ATOMIC_RELEASE);
}

/// Makes a region match no address.
static inline void soft_empty_region(soft_region *region) {
  __atomic_store_n(&region->end, region->start, __ATOMIC_SEQ_CST);
}

/// Makes an emptied region match its addresses again.
static inline void soft_show_region(soft_region *region, uint64_t size) {
  __atomic_store_n(&region->end, region->start + size, __ATOMIC_SEQ_CST);
}

static inline uint64_t soft_host_tsc(void) { return soft_cycles(); }

/// CPUID of the host.
void soft_host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[_Nonnull 4]);

/// A store that other processors see after all stores before it.
static inline void soft_store_release32(void *address, uint32_t value) {
  __atomic_store_n((uint32_t *)address, value, __ATOMIC_RELEASE);
}
static inline void soft_full_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

#pragma clang assume_nonnull end
