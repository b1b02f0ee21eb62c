import CLinux
import Platform
import Processor

/// What this host's KVM is worth.
public enum KVMCapability: Sendable, Equatable {
  /// Guest code of every mode runs on the processor itself.
  case full
  /// Guest user mode runs on the processor, but supervisor mode goes through the kernel's instruction emulator
  /// (nested KVM without hardware support, such as PVM): slow, and with instructions missing.
  case emulatesSupervisorMode(reason: String)
  case unavailable(reason: String)
}

extension KVMSystem {
  /// Looks at the host by running a few instructions in a machine made for the purpose; a few milliseconds.
  ///
  /// That /dev/kvm opens says little: some hosts only emulate what a kernel does.
  public static func probe(path: String = KVMSystem.defaultPath) -> KVMCapability {
    do {
      return try CapabilityProbe(try KVMSystem(path: path)).judge()
    } catch {
      return .unavailable(reason: error.description)
    }
  }
}

/// The probe's steps: time a loop at CPL 0, then try instructions that only a real processor executes there.
struct CapabilityProbe {
  private let guest: MeasuringGuest

  /// One instruction of the loop takes about 1 ns on a processor and 300 to 1500 in an emulator.
  private static let slowInstruction: UInt64 = 100
  private static let iterations: UInt32 = 1000

  init(_ system: KVMSystem) throws(KVMError) {
    guest = try MeasuringGuest(system)
  }

  func judge() throws(KVMError) -> KVMCapability {
    for (name, bytes) in [("FWAIT", [0x9B] as [UInt8]), ("PXOR", [0x66, 0x0F, 0xEF, 0xC0])] {
      // The instruction, then out 0x80, al.
      try guest.load(bytes + [0xE6, 0x80])
      let exit = try guest.timedRun().exit
      switch exit {
      case .portWrite: continue
      case .failure(let failure) where failure.reason == .emulation:
        return .emulatesSupervisorMode(
          reason: "its kernel emulates supervisor mode and cannot execute \(name)")
      default: return .unavailable(reason: "KVM on this host does not run a guest: \(exit)")
      }
    }
    let perInstruction = try nanosecondsPerInstruction()
    guard perInstruction < Self.slowInstruction else {
      return .emulatesSupervisorMode(
        reason: "its kernel emulates supervisor mode: \(perInstruction) ns an instruction")
    }
    return .full
  }

  /// The best of three, because the thread may lose the processor; entry and exit are subtracted.
  private func nanosecondsPerInstruction() throws(KVMError) -> UInt64 {
    var best = UInt64.max
    for _ in 0..<3 {
      let empty = try time(iterations: 1)
      let loop = try time(iterations: Self.iterations)
      best = min(best, (loop > empty ? loop - empty : 0) / UInt64(2 * Self.iterations))
      if best < Self.slowInstruction { break }
    }
    return best
  }

  private func time(iterations: UInt32) throws(KVMError) -> UInt64 {
    let count = withUnsafeBytes(of: iterations.littleEndian) { [UInt8]($0) }
    try guest.load(
      [0xB9] + count  // mov ecx, iterations
        + [
          0xFF, 0xC9,  // dec ecx
          0x75, 0xFC,  // jnz back to dec
          0xE6, 0x80,  // out 0x80, al
        ])
    return try guest.timedRun().nanoseconds
  }
}
