// What a virtio device is to its transport (Virtual I/O Device 1.2, chapter 2).

import GuestMemory
import Platform

/// Feature bits. Those below 24 and above 40 belong to the kind of device.
public struct VirtioFeatures: OptionSet, Sendable, Codable, Hashable {
  public var rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  /// Bit `number` of a device's own.
  public init(bit number: UInt64) { rawValue = 1 << (number & 63) }

  /// Legacy: descriptors may be cut anywhere.
  public static let anyLayout = VirtioFeatures(bit: 27)
  public static let indirectDescriptors = VirtioFeatures(bit: 28)
  public static let eventIndex = VirtioFeatures(bit: 29)
  /// Not a legacy device.
  public static let version1 = VirtioFeatures(bit: 32)
}

/// Device types (chapter 5) and how a PCI function shows them.
public enum VirtioDeviceType: UInt16, Sendable, Codable {
  case network = 1
  case block = 2
  case console = 3
  case entropy = 4
  case balloon = 5
  case scsi = 8
  case fileSharing = 9
  case socket = 19

  /// The device number of a transitional function (4.1.2.1).
  var transitionalDevice: UInt16 {
    switch self {
    case .network: 0x1000
    case .block: 0x1001
    case .balloon: 0x1002
    case .console: 0x1003
    case .scsi: 0x1004
    case .entropy: 0x1005
    case .fileSharing: 0x1009
    // There is no transitional one: Linux knows this number all the same.
    case .socket: 0x1012
    }
  }

  var modernDevice: UInt16 { 0x1040 + rawValue }

  var classCode: UInt32 {
    switch self {
    case .network: 0x020000
    case .block, .scsi: 0x010000
    case .console, .socket: 0x078000
    case .entropy, .balloon: 0x00FF00
    case .fileSharing: 0x018000
    }
  }
}

/// A device without its bus. The transport calls everything but the configuration space with a lock held; a device
/// calls back only through its `VirtioLink`.
///
/// A device works on threads of its own: a kick signals the notifier that `doorbell` names, or is served at once.
public protocol VirtioDevice: AnyObject, Sendable {
  var type: VirtioDeviceType { get }
  /// What it offers, without `version1` and what concerns rings, which the transport adds.
  var features: VirtioFeatures { get }
  /// The largest size of each queue; a power of two.
  var queueSizes: [UInt16] { get }
  /// Called once, when the transport is made.
  func attach(_ link: VirtioLink)
  /// Device configuration; beyond its end zeroes. `offset` is anything the guest likes.
  func readConfiguration(at offset: UInt64, width: AccessWidth) -> UInt64
  func writeConfiguration(at offset: UInt64, width: AccessWidth, value: UInt64)
  /// What to signal when the driver kicks a queue.
  func doorbell(forQueue index: Int) -> EventNotifier
  /// A kick that came to this process: serves the queue on the thread that kicked, if that takes hardly longer than to
  /// wake another. Called without a lock, at any time.
  ///
  /// - Returns: false when nothing was done; the doorbell is signalled then.
  func serveAtOnce(queue index: Int) -> Bool
  /// The driver is ready. Queues that it did not set up are nil. Begins with looking at every queue.
  func activate(features: VirtioFeatures, queues: [VirtioQueue?])
  /// Back to the state before activation. When it returns, nothing touches guest memory any more.
  func deactivate()
  /// Finishes what is being done and does no more until `resume`, also when activated meanwhile. Both may be called
  /// again without effect.
  func pause()
  func resume()
  /// Where each queue has got. Only while paused.
  var queuePositions: [VirtioQueuePosition?] { get }
}

extension VirtioDevice {
  public func serveAtOnce(queue index: Int) -> Bool { false }
  public func writeConfiguration(at offset: UInt64, width: AccessWidth, value: UInt64) {}
}

/// Reads little-endian fields out of a small structure in bytes; zero beyond its end.
func virtioConfiguration(_ bytes: [UInt8], at offset: UInt64, width: AccessWidth) -> UInt64 {
  var value: UInt64 = 0
  for index in 0..<UInt64(width.rawValue) {
    let (position, overflow) = offset.addingReportingOverflow(index)
    guard !overflow, position < UInt64(bytes.count) else { break }
    value |= UInt64(bytes[Int(position)]) << (8 * index)
  }
  return value
}

/// Appends little-endian fields.
extension [UInt8] {
  mutating func append<Value: FixedWidthInteger>(littleEndian value: Value) {
    for index in 0..<MemoryLayout<Value>.size {
      append(UInt8(truncatingIfNeeded: value >> Value(8 * index)))
    }
  }
}
