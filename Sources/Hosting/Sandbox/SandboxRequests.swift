// The ioctl(2) requests of a machine's host.

import CLinux

/// By what threads do. The most frequent one comes first: it is found first.
enum SandboxRequests {
  static func process(_ needs: SandboxNeeds) -> [UInt32] {
    processor(needs)
      + numbers([
        // A reset makes another virtual machine, on the same open device.
        kvm_request_get_api_version(), kvm_request_create_vm(),
        kvm_request_get_vcpu_mmap_size(), kvm_request_get_supported_cpuid(),
        kvm_request_get_msr_index_list(), kvm_request_get_msr_feature_index_list(),
        kvm_request_enable_cap(), kvm_request_set_tss_addr(), kvm_request_set_identity_map_addr(),
        kvm_request_create_vcpu(), kvm_request_create_irqchip(), kvm_request_create_pit2(),
        kvm_request_set_msr_filter(), kvm_request_get_dirty_log(),
      ]) + terminal
  }

  static func processor(_ needs: SandboxNeeds) -> [UInt32] {
    numbers([
      kvm_request_run(), kvm_request_irq_line(), kvm_request_signal_msi(),
      kvm_request_interrupt(), kvm_request_get_regs(), kvm_request_set_regs(),
      kvm_request_get_sregs(), kvm_request_set_sregs(), kvm_request_get_sregs2(),
      kvm_request_set_sregs2(), kvm_request_translate(), kvm_request_nmi(),
      kvm_request_get_msrs(), kvm_request_set_msrs(), kvm_request_set_cpuid2(),
      kvm_request_get_cpuid2(), kvm_request_get_lapic(), kvm_request_set_lapic(),
      kvm_request_get_mp_state(), kvm_request_set_mp_state(), kvm_request_get_vcpu_events(),
      kvm_request_set_vcpu_events(), kvm_request_get_debugregs(), kvm_request_set_debugregs(),
      kvm_request_set_guest_debug(), kvm_request_get_xsave(), kvm_request_get_xsave2(),
      kvm_request_set_xsave(), kvm_request_get_xcrs(), kvm_request_set_xcrs(),
      kvm_request_get_tsc_khz(), kvm_request_set_tsc_khz(), kvm_request_kvmclock_ctrl(),
      kvm_request_get_nested_state(), kvm_request_set_nested_state(),
      kvm_request_set_user_memory_region(), kvm_request_set_gsi_routing(), kvm_request_irqfd(),
      kvm_request_ioeventfd(), kvm_request_get_clock(), kvm_request_set_clock(),
      kvm_request_get_irqchip(), kvm_request_set_irqchip(), kvm_request_get_pit2(),
      kvm_request_set_pit2(), kvm_request_check_extension(),
    ]) + sharing + tap(needs)
  }

  /// KVM_SET_SIGNAL_MASK and KVM_GET_DEVICE_ATTR, for a processor whose instructions software executes (api.rst).
  private static let sharing: [UInt32] = [0x4004_AE8B, 0x4018_AEE2]

  static func device(_ needs: SandboxNeeds) -> [UInt32] {
    numbers([
      kvm_request_signal_msi(), kvm_request_irq_line(), kvm_request_irqfd(),
      kvm_request_set_gsi_routing(),
    ]) + tap(needs) + (needs.usesInternet ? [0x541B, 0x5421] : [])  // FIONREAD, FIONBIO
  }

  private static func tap(_ needs: SandboxNeeds) -> [UInt32] {
    // TUNSETOFFLOAD, TUNSETQUEUE, TUNSETVNETHDRSZ (linux/if_tun.h).
    needs.usesTaps ? [0x4004_54D0, 0x4004_54D9, 0x4004_54D8] : []
  }

  /// The person's own terminal, and pseudo-terminals of serial ports: TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ,
  /// TIOCSWINSZ, TCSBRK, TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER, FIONREAD, FIONBIO, TIOCINQ's kin. Not TIOCSTI, TIOCLINUX or
  /// TIOCSCTTY.
  private static let terminal: [UInt32] = [
    0x5401, 0x5402, 0x5403, 0x5404, 0x5413, 0x5414, 0x5409, 0x8004_5430, 0x4004_5431, 0x5441,
    0x541B, 0x5421, 0x540B,
  ]

  private static func numbers(_ requests: [UInt]) -> [UInt32] {
    requests.map { UInt32(truncatingIfNeeded: $0) }
  }
}
