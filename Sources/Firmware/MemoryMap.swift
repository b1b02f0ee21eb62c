// The memory map as firmware and kernels are told it: "E820", ACPI 6.5 section 15.
import GuestMemory

/// Which guest-physical addresses are RAM and which are spoken for. Sorted, without overlaps.
package struct MemoryMap: Sendable, Equatable {
  package enum Kind: UInt32, Sendable {
    case ram = 1
    case reserved = 2
    case acpiTables = 3
    case acpiStorage = 4
  }

  package struct Entry: Sendable, Equatable {
    package var base: UInt64
    package var size: UInt64
    package var kind: Kind
    package var end: UInt64 { base &+ size }

    package init(base: UInt64, size: UInt64, kind: Kind) {
      self.base = base
      self.size = size
      self.kind = kind
    }
  }

  package private(set) var entries: [Entry] = []

  package init() {}

  /// What a kernel without firmware under it finds: the usual holes of a PC below 1 MiB are reserved.
  ///
  /// - Parameters:
  ///   - memorySize: bytes of RAM, laid out as `GuestMemory` does.
  ///   - reserved: further ranges that are not to be used, such as the pages that KVM needs.
  package static func direct(memorySize: UInt64, reserved: [Range<UInt64>]) -> MemoryMap {
    var map = ram(memorySize: memorySize)
    map.mark(PCMemory.extendedBIOSData..<PCMemory.highStart, .reserved)
    for range in reserved { map.mark(range, .reserved) }
    return map
  }

  /// All RAM, nothing reserved.
  package static func ram(memorySize: UInt64) -> MemoryMap {
    var map = MemoryMap()
    let low = min(memorySize, GuestMemory.lowMemoryLimit)
    map.mark(0..<low, .ram)
    if memorySize > low {
      let high = GuestMemory.highMemoryBase
      map.mark(high..<(high &+ (memorySize - low)), .ram)
    }
    return map
  }

  /// Makes a range be of a kind, whatever parts of it were before.
  package mutating func mark(_ range: Range<UInt64>, _ kind: Kind) {
    guard !range.isEmpty else { return }
    var result: [Entry] = []
    for entry in entries {
      guard entry.base < range.upperBound && entry.end > range.lowerBound else {
        result.append(entry)
        continue
      }
      if entry.base < range.lowerBound {
        result.append(
          Entry(base: entry.base, size: range.lowerBound - entry.base, kind: entry.kind))
      }
      if entry.end > range.upperBound {
        result.append(
          Entry(base: range.upperBound, size: entry.end - range.upperBound, kind: entry.kind))
      }
    }
    result.append(
      Entry(base: range.lowerBound, size: range.upperBound - range.lowerBound, kind: kind))
    entries = result.sorted { $0.base < $1.base }
  }

  /// True if every byte of the range is RAM.
  package func isRAM(_ range: Range<UInt64>) -> Bool {
    entries.contains {
      $0.kind == .ram && $0.base <= range.lowerBound && range.upperBound <= $0.end
    }
  }

  /// 20-byte entries: base (64 bits), size (64), kind (32).
  package var bytes: [UInt8] {
    var result: [UInt8] = []
    for entry in entries {
      result.append(little: entry.base)
      result.append(little: entry.size)
      result.append(little: entry.kind.rawValue)
    }
    return result
  }
}

/// Addresses below 1 MiB that every PC has.
package enum PCMemory {
  /// The extended BIOS data area takes the last KiB of conventional memory.
  package static let extendedBIOSData: UInt64 = 0x9_FC00
  package static let videoStart: UInt64 = 0xA_0000
  /// Where firmware's last 128 KiB are seen, and where tables are looked for.
  package static let firmwareShadow: UInt64 = 0xE_0000
  package static let highStart: UInt64 = 0x10_0000
  /// The PCI hole ends where the I/O APIC begins.
  package static let deviceMemoryEnd: UInt64 = 0xFEC0_0000
  package static let localAPIC: UInt32 = 0xFEE0_0000
  package static let ioAPIC: UInt32 = 0xFEC0_0000
  package static let eventTimer: UInt32 = 0xFED0_0000
}
