// Sleeping until a processor has an event (futex(2) on the event word), and the host's CPUID.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "soft_local_apic.h"

void soft_wake(soft_cpu *cpu) {
  syscall(SYS_futex, &cpu->events, FUTEX_WAKE_PRIVATE, 1, (void *)0, (void *)0, 0);
}

void soft_wait(soft_cpu *cpu) {
  // The flag first, then a look at the events: soft_post does it the other way round, so one of the two sees the other.
  __atomic_store_n(&cpu->waiting, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST) == 0)
    syscall(SYS_futex, &cpu->events, FUTEX_WAIT_PRIVATE, 0, (void *)0, (void *)0, 0);
  __atomic_store_n(&cpu->waiting, 0, __ATOMIC_SEQ_CST);
}

void soft_host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]) {
  __asm__ volatile("cpuid"
                   : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3])
                   : "a"(leaf), "c"(subleaf));
}
