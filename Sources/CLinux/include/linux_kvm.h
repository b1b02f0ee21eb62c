// The KVM interface of the kernel (Documentation/virt/kvm/api.rst): ioctl numbers as functions, because macros with
// arguments are not imported by Swift, and the fields of kvm_run that other threads or the kernel write.
#pragma once
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINUX_KVM_REQUEST(name, value) \
  static inline unsigned long name(void) { return (unsigned long)(value); }

// Of /dev/kvm.
LINUX_KVM_REQUEST(kvm_request_get_api_version, KVM_GET_API_VERSION)
LINUX_KVM_REQUEST(kvm_request_create_vm, KVM_CREATE_VM)
LINUX_KVM_REQUEST(kvm_request_check_extension, KVM_CHECK_EXTENSION)
LINUX_KVM_REQUEST(kvm_request_get_vcpu_mmap_size, KVM_GET_VCPU_MMAP_SIZE)
LINUX_KVM_REQUEST(kvm_request_get_supported_cpuid, KVM_GET_SUPPORTED_CPUID)
LINUX_KVM_REQUEST(kvm_request_get_msr_index_list, KVM_GET_MSR_INDEX_LIST)
LINUX_KVM_REQUEST(kvm_request_get_msr_feature_index_list, KVM_GET_MSR_FEATURE_INDEX_LIST)

// Of a virtual machine.
LINUX_KVM_REQUEST(kvm_request_enable_cap, KVM_ENABLE_CAP)
LINUX_KVM_REQUEST(kvm_request_set_user_memory_region, KVM_SET_USER_MEMORY_REGION)
LINUX_KVM_REQUEST(kvm_request_get_dirty_log, KVM_GET_DIRTY_LOG)
LINUX_KVM_REQUEST(kvm_request_set_tss_addr, KVM_SET_TSS_ADDR)
LINUX_KVM_REQUEST(kvm_request_set_identity_map_addr, KVM_SET_IDENTITY_MAP_ADDR)
LINUX_KVM_REQUEST(kvm_request_create_vcpu, KVM_CREATE_VCPU)
LINUX_KVM_REQUEST(kvm_request_create_irqchip, KVM_CREATE_IRQCHIP)
LINUX_KVM_REQUEST(kvm_request_create_pit2, KVM_CREATE_PIT2)
LINUX_KVM_REQUEST(kvm_request_irq_line, KVM_IRQ_LINE)
LINUX_KVM_REQUEST(kvm_request_signal_msi, KVM_SIGNAL_MSI)
LINUX_KVM_REQUEST(kvm_request_set_gsi_routing, KVM_SET_GSI_ROUTING)
LINUX_KVM_REQUEST(kvm_request_irqfd, KVM_IRQFD)
LINUX_KVM_REQUEST(kvm_request_ioeventfd, KVM_IOEVENTFD)
LINUX_KVM_REQUEST(kvm_request_get_clock, KVM_GET_CLOCK)
LINUX_KVM_REQUEST(kvm_request_set_clock, KVM_SET_CLOCK)
LINUX_KVM_REQUEST(kvm_request_get_irqchip, KVM_GET_IRQCHIP)
LINUX_KVM_REQUEST(kvm_request_set_irqchip, KVM_SET_IRQCHIP)
LINUX_KVM_REQUEST(kvm_request_get_pit2, KVM_GET_PIT2)
LINUX_KVM_REQUEST(kvm_request_set_pit2, KVM_SET_PIT2)
LINUX_KVM_REQUEST(kvm_request_set_msr_filter, KVM_X86_SET_MSR_FILTER)

// Of a virtual processor.
LINUX_KVM_REQUEST(kvm_request_run, KVM_RUN)
LINUX_KVM_REQUEST(kvm_request_get_regs, KVM_GET_REGS)
LINUX_KVM_REQUEST(kvm_request_set_regs, KVM_SET_REGS)
LINUX_KVM_REQUEST(kvm_request_get_sregs, KVM_GET_SREGS)
LINUX_KVM_REQUEST(kvm_request_set_sregs, KVM_SET_SREGS)
LINUX_KVM_REQUEST(kvm_request_get_sregs2, KVM_GET_SREGS2)
LINUX_KVM_REQUEST(kvm_request_set_sregs2, KVM_SET_SREGS2)
LINUX_KVM_REQUEST(kvm_request_translate, KVM_TRANSLATE)
LINUX_KVM_REQUEST(kvm_request_interrupt, KVM_INTERRUPT)
LINUX_KVM_REQUEST(kvm_request_nmi, KVM_NMI)
LINUX_KVM_REQUEST(kvm_request_get_msrs, KVM_GET_MSRS)
LINUX_KVM_REQUEST(kvm_request_set_msrs, KVM_SET_MSRS)
LINUX_KVM_REQUEST(kvm_request_set_cpuid2, KVM_SET_CPUID2)
LINUX_KVM_REQUEST(kvm_request_get_cpuid2, KVM_GET_CPUID2)
LINUX_KVM_REQUEST(kvm_request_get_lapic, KVM_GET_LAPIC)
LINUX_KVM_REQUEST(kvm_request_set_lapic, KVM_SET_LAPIC)
LINUX_KVM_REQUEST(kvm_request_get_mp_state, KVM_GET_MP_STATE)
LINUX_KVM_REQUEST(kvm_request_set_mp_state, KVM_SET_MP_STATE)
LINUX_KVM_REQUEST(kvm_request_get_vcpu_events, KVM_GET_VCPU_EVENTS)
LINUX_KVM_REQUEST(kvm_request_set_vcpu_events, KVM_SET_VCPU_EVENTS)
LINUX_KVM_REQUEST(kvm_request_get_debugregs, KVM_GET_DEBUGREGS)
LINUX_KVM_REQUEST(kvm_request_set_debugregs, KVM_SET_DEBUGREGS)
LINUX_KVM_REQUEST(kvm_request_set_guest_debug, KVM_SET_GUEST_DEBUG)
LINUX_KVM_REQUEST(kvm_request_get_xsave, KVM_GET_XSAVE)
LINUX_KVM_REQUEST(kvm_request_get_xsave2, KVM_GET_XSAVE2)
LINUX_KVM_REQUEST(kvm_request_set_xsave, KVM_SET_XSAVE)
LINUX_KVM_REQUEST(kvm_request_get_xcrs, KVM_GET_XCRS)
LINUX_KVM_REQUEST(kvm_request_set_xcrs, KVM_SET_XCRS)
LINUX_KVM_REQUEST(kvm_request_get_tsc_khz, KVM_GET_TSC_KHZ)
LINUX_KVM_REQUEST(kvm_request_set_tsc_khz, KVM_SET_TSC_KHZ)
LINUX_KVM_REQUEST(kvm_request_kvmclock_ctrl, KVM_KVMCLOCK_CTRL)
LINUX_KVM_REQUEST(kvm_request_get_nested_state, KVM_GET_NESTED_STATE)
LINUX_KVM_REQUEST(kvm_request_set_nested_state, KVM_SET_NESTED_STATE)
#undef LINUX_KVM_REQUEST

// Not in the headers of Linux 6.1.
enum { LINUX_KVM_EXIT_MEMORY_FAULT = 39 };

// KVM_RUN. 0, or the negative error number.
static inline int linux_kvm_run(int vcpu) { return ioctl(vcpu, KVM_RUN, 0) == 0 ? 0 : -errno; }

// immediate_exit is written by threads that kick and read by the kernel; the fence is part of the kick's protocol.
static inline void linux_kvm_set_immediate_exit(struct kvm_run *run, uint8_t value) {
  __atomic_store_n(&run->immediate_exit, value, __ATOMIC_SEQ_CST);
}
static inline void linux_kvm_set_interrupt_window(struct kvm_run *run, uint8_t value) {
  run->request_interrupt_window = value;
}

// Fields of the union, without copying the structure.
static inline uint8_t linux_kvm_io_direction(const struct kvm_run *run) { return run->io.direction; }
static inline uint8_t linux_kvm_io_size(const struct kvm_run *run) { return run->io.size; }
static inline uint16_t linux_kvm_io_port(const struct kvm_run *run) { return run->io.port; }
static inline uint32_t linux_kvm_io_count(const struct kvm_run *run) { return run->io.count; }
static inline uint64_t linux_kvm_io_offset(const struct kvm_run *run) { return run->io.data_offset; }
static inline uint64_t linux_kvm_mmio_address(const struct kvm_run *run) { return run->mmio.phys_addr; }
static inline uint32_t linux_kvm_mmio_length(const struct kvm_run *run) { return run->mmio.len; }
static inline uint8_t linux_kvm_mmio_is_write(const struct kvm_run *run) { return run->mmio.is_write; }
static inline uint8_t *linux_kvm_mmio_data(struct kvm_run *run) { return run->mmio.data; }
static inline uint64_t linux_kvm_entry_failure(const struct kvm_run *run) {
  return run->fail_entry.hardware_entry_failure_reason;
}
static inline uint32_t linux_kvm_internal_suberror(const struct kvm_run *run) { return run->internal.suberror; }
static inline uint32_t linux_kvm_internal_count(const struct kvm_run *run) { return run->internal.ndata; }
static inline uint64_t linux_kvm_emulation_flags(const struct kvm_run *run) { return run->emulation_failure.flags; }
static inline uint8_t linux_kvm_emulation_size(const struct kvm_run *run) { return run->emulation_failure.insn_size; }
static inline const uint8_t *linux_kvm_emulation_bytes(const struct kvm_run *run) {
  return run->emulation_failure.insn_bytes;
}
static inline uint32_t linux_kvm_system_event(const struct kvm_run *run) { return run->system_event.type; }
static inline uint64_t linux_kvm_debug_address(const struct kvm_run *run) { return run->debug.arch.pc; }
static inline uint64_t linux_kvm_debug_status(const struct kvm_run *run) { return run->debug.arch.dr6; }
static inline uint8_t linux_kvm_eoi_vector(const struct kvm_run *run) { return run->eoi.vector; }
static inline uint32_t linux_kvm_msr_index(const struct kvm_run *run) { return run->msr.index; }
static inline uint64_t *linux_kvm_msr_data(struct kvm_run *run) { return (uint64_t *)&run->msr.data; }
static inline uint8_t *linux_kvm_msr_error(struct kvm_run *run) { return &run->msr.error; }

static inline void linux_kvm_route_chip(struct kvm_irq_routing_entry *entry, uint32_t chip, uint32_t pin) {
  entry->type = KVM_IRQ_ROUTING_IRQCHIP;
  entry->u.irqchip.irqchip = chip;
  entry->u.irqchip.pin = pin;
}
static inline void linux_kvm_route_message(struct kvm_irq_routing_entry *entry, uint64_t address, uint32_t data) {
  entry->type = KVM_IRQ_ROUTING_MSI;
  entry->u.msi.address_lo = (uint32_t)address;
  entry->u.msi.address_hi = (uint32_t)(address >> 32);
  entry->u.msi.data = data;
}

// Makes the calling thread one that `signal` can interrupt, and returns its number. The work is done once a thread:
// threads of a dispatch pool, and those started by them, have all signals blocked, and a blocked signal would not end
// KVM_RUN.
static inline int linux_interruptible_thread(int signal) {
  static _Thread_local int number;
  if (__builtin_expect(number == 0, 0)) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    number = (int)syscall(SYS_gettid);
  }
  return number;
}
static inline int linux_signal_thread(int thread, int signal) {
  return (int)syscall(SYS_tgkill, getpid(), thread, signal);
}

// Macros whose shifts Swift does not import.
enum {
  LINUX_KVM_MEMORY_LOG_DIRTY = 1 << 0,
  LINUX_KVM_MEMORY_READ_ONLY = 1 << 1,
};
enum {
  LINUX_KVM_DEBUG_ENABLE = KVM_GUESTDBG_ENABLE,
  LINUX_KVM_DEBUG_SINGLE_STEP = KVM_GUESTDBG_SINGLESTEP,
};
enum {
  LINUX_KVM_IRQFD_DEASSIGN = 1 << 0,
  LINUX_KVM_IRQFD_RESAMPLE = 1 << 1,
};
enum {
  LINUX_KVM_IOEVENTFD_MATCH = 1 << kvm_ioeventfd_flag_nr_datamatch,
  LINUX_KVM_IOEVENTFD_PORT = 1 << kvm_ioeventfd_flag_nr_pio,
  LINUX_KVM_IOEVENTFD_DEASSIGN = 1 << kvm_ioeventfd_flag_nr_deassign,
};
