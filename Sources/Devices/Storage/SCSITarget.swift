// What a SCSI target is to the host adapter that it hangs on (SPC-4).

import CLinux

/// Why a command failed: sense key and additional sense code with qualifier (SPC-4, 4.5).
public struct SCSISense: Equatable, Sendable, Codable {
  public var key: UInt8
  public var code: UInt8
  public var qualifier: UInt8

  public init(_ key: UInt8, _ code: UInt8, _ qualifier: UInt8 = 0) {
    self.key = key
    self.code = code
    self.qualifier = qualifier
  }

  static let none = SCSISense(0, 0)
  static let mediumNotPresent = SCSISense(2, 0x3A, 1)
  static let mediumNotPresentTrayOpen = SCSISense(2, 0x3A, 2)
  static let unrecoveredReadError = SCSISense(3, 0x11)
  static let invalidOperation = SCSISense(5, 0x20)
  static let addressOutOfRange = SCSISense(5, 0x21)
  static let invalidField = SCSISense(5, 0x24)
  static let unitNotSupported = SCSISense(5, 0x25)
  static let savingNotSupported = SCSISense(5, 0x39)
  static let removalPrevented = SCSISense(5, 0x53, 2)
  static let mediumChanged = SCSISense(6, 0x28)
  static let deviceReset = SCSISense(6, 0x29)

  /// Fixed format, current error (4.5.3).
  var bytes: [UInt8] {
    [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0]
  }
}

/// A command descriptor block, copied out of guest memory: fields are big-endian, and zero beyond its end.
public struct SCSICommand: Sendable {
  private var bytes: InlineArray<32, UInt8>

  public init(_ source: UnsafeRawBufferPointer) {
    bytes = InlineArray(repeating: 0)
    for index in 0..<min(source.count, 32) { bytes[index] = source[index] }
  }

  subscript(index: Int) -> UInt8 { index >= 0 && index < 32 ? bytes[index] : 0 }

  var operation: UInt8 { bytes[0] }
  func word(_ offset: Int) -> UInt32 { UInt32(self[offset]) << 8 | UInt32(self[offset + 1]) }
  func triple(_ offset: Int) -> UInt32 { UInt32(self[offset]) << 16 | word(offset + 1) }
  func double(_ offset: Int) -> UInt32 { word(offset) << 16 | word(offset + 2) }
  func quad(_ offset: Int) -> UInt64 { UInt64(double(offset)) << 32 | UInt64(double(offset + 4)) }
}

/// What became of a command.
public enum SCSIOutcome: Sendable {
  /// GOOD, without data or with data that the target has put in the buffers already: so many bytes.
  case done(UInt64)
  /// GOOD; the adapter copies these bytes, as far as there is room.
  case data([UInt8])
  /// CHECK CONDITION.
  case failed(SCSISense)
}

/// A target with one logical unit, number 0.
public protocol SCSITarget: AnyObject, Sendable {
  /// Executes a command. Called by one thread at a time.
  ///
  /// - Parameters:
  ///   - unit: the logical unit number; only REPORT LUNS, INQUIRY and REQUEST SENSE mean anything to others than 0.
  ///   - buffers: where the initiator wants data; large transfers go there directly.
  func execute(_ command: SCSICommand, unit: UInt16, buffers: any SCSIBuffers) -> SCSIOutcome
  /// LOGICAL UNIT RESET and the adapter's own reset.
  func reset()
}

/// Where a command's data goes to: pieces of guest memory.
public protocol SCSIBuffers: AnyObject {
  /// Bytes.
  var room: UInt64 { get }
  /// The first `count` bytes of them; `count` must not be more than `room`.
  func prefix(_ count: UInt64) -> UnsafeBufferPointer<iovec>
}
