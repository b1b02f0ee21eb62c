// What a Solo5 unikernel says of itself in its notes (Solo5's elf_abi.h and mft_abi.h): for which monitor it was built,
// and which devices it wants. The file is not trusted.

/// The devices of a unikernel, in the order of their handles.
package struct UnikernelManifest: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    case block, network
    /// Something that this version of the manifest has no device for, such as its first entry.
    case other
  }

  package struct Entry: Sendable, Equatable {
    /// What the unikernel calls it; what cannot be printed in ASCII is "?".
    package var name: String
    package var kind: Kind
  }

  private static let owner = "Solo5"
  private static let abiNote: UInt32 = 0x3149_4241  // "ABI1"
  private static let manifestNote: UInt32 = 0x3154_464D  // "MFT1"
  private static let hvtTarget: UInt32 = 1
  private static let abiVersion: UInt32 = 2
  private static let version: UInt32 = 1
  /// A set of handles is a word of 64 bits.
  private static let entryLimit = 64
  /// The note's content begins four bytes before the structure, which is aligned to eight.
  private static let padding = 4
  private static let headerSize = 8

  /// `struct mft_entry`: name, type, properties, the monitor's own word, whether it is attached.
  enum Field {
    static let nameSize = 68
    static let kind = 68
    /// A disk's bytes, or an adapter's address.
    static let capacity = 72
    static let blockSize = 80
    static let address = 72
    /// An adapter's largest packet.
    static let transmissionUnit = 78
    static let isAttached = 96
    static let size = 104
  }

  package let entries: [Entry]
  /// The structure as the unikernel has it.
  private let bytes: [UInt8]

  /// nil for a file that is no unikernel.
  ///
  /// - Throws: `FirmwareError` for one that was built for another monitor, or whose manifest makes no sense.
  init?(_ executable: ELFFile, _ file: BootFile) throws(FirmwareError) {
    guard let abi = try executable.note(owner: Self.owner, kind: Self.abiNote) else { return nil }
    guard let target: UInt32 = abi.load(at: 0), let version: UInt32 = abi.load(at: 4) else {
      throw FirmwareError(file.name, "a Solo5 note of \(abi.count) bytes instead of 16")
    }
    guard target == Self.hvtTarget else {
      throw FirmwareError(
        file.name, "a Solo5 unikernel for target \(target), not for hvt (target 1)")
    }
    guard version == Self.abiVersion else {
      throw FirmwareError(
        file.name, "a Solo5 unikernel for hvt's ABI version \(version); this is \(Self.abiVersion)")
    }
    guard let note = try executable.note(owner: Self.owner, kind: Self.manifestNote) else {
      throw FirmwareError(file.name, "a Solo5 unikernel without a manifest")
    }
    let bytes = Array(note.dropFirst(Self.padding))
    guard bytes.load(UInt32.self, at: 0) == Self.version, let count: UInt32 = bytes.load(at: 4),
      count <= UInt32(Self.entryLimit),
      bytes.count >= Self.headerSize + Int(count) * Field.size
    else { throw FirmwareError(file.name, "a Solo5 manifest that makes no sense") }
    self.bytes = Array(bytes.prefix(Self.headerSize + Int(count) * Field.size))
    entries = (0..<Int(count)).map { index in
      let start = Self.headerSize + index * Field.size
      let name = bytes[start..<(start + Field.nameSize)].prefix { $0 != 0 }
        .map { (0x20..<0x7F).contains($0) ? $0 : UInt8(ascii: "?") }
      let kind: Kind =
        switch bytes.load(UInt32.self, at: start + Field.kind) {
        case 1: .block
        case 2: .network
        default: .other
        }
      return Entry(name: String(decoding: name, as: UTF8.self), kind: kind)
    }
  }

  /// Reads the manifest of a kernel; nil where it is no unikernel, or cannot be read.
  package init?(kernel path: String) {
    guard let file = try? BootFile(path: path), ELFFile.isELF(file),
      let executable = try? ELFFile(file), let manifest = try? Self(executable, file)
    else { return nil }
    self = manifest
  }

  /// What a device is like that the machine has for an entry.
  package enum Attachment: Sendable, Equatable {
    /// Sizes in bytes.
    case block(capacity: UInt64, blockSize: UInt16)
    /// Six bytes in the order of the wire; the largest packet.
    case network(address: [UInt8], transmissionUnit: UInt16)
  }

  /// The structure for the guest: what it declared, with what it got.
  ///
  /// - Parameter attachments: one for each entry.
  package func content(_ attachments: [Attachment?]) -> [UInt8] {
    var result = bytes
    for (index, attachment) in attachments.prefix(entries.count).enumerated() {
      let start = Self.headerSize + index * Field.size
      switch attachment {
      case .block(let capacity, let blockSize):
        result.store(little: capacity, at: start + Field.capacity)
        result.store(little: blockSize, at: start + Field.blockSize)
      case .network(let address, let unit):
        for (place, byte) in address.prefix(6).enumerated() {
          result[start + Field.address + place] = byte
        }
        result.store(little: unit, at: start + Field.transmissionUnit)
      case nil: continue
      }
      result[start + Field.isAttached] = 1
    }
    return result
  }

  /// Bytes of `content`.
  var size: Int { bytes.count }
}
