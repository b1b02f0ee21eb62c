// The registers of a virtio PCI function as a value, for both faces that it shows (Virtual I/O Device 1.2, 4.1).

/// Device status bits (2.1).
enum VirtioStatus {
  static let acknowledge: UInt8 = 1
  static let driver: UInt8 = 2
  static let driverReady: UInt8 = 4
  static let featuresReady: UInt8 = 8
  static let needsReset: UInt8 = 0x40
  static let failed: UInt8 = 0x80
}

/// What the driver wrote about one queue.
struct VirtioQueueRegisters: Codable, Sendable {
  var size: UInt16
  var isEnabled = false
  var descriptors: UInt64 = 0
  var available: UInt64 = 0
  var used: UInt64 = 0
  /// Legacy: number of the page where everything begins.
  var page: UInt32 = 0

  init(size: UInt16) { self.size = size }

  var layout: VirtioQueueLayout {
    page != 0
      ? VirtioQueueLayout(size: size, legacyPage: page)
      : VirtioQueueLayout(
        size: size, descriptors: descriptors, available: available, used: used)
  }
}

struct VirtioPCIRegisters: Codable, Sendable {
  var status: UInt8 = 0
  var deviceFeatureSelect: UInt32 = 0
  var driverFeatureSelect: UInt32 = 0
  var driverFeatures = VirtioFeatures()
  var queueSelect: UInt16 = 0
  var queues: [VirtioQueueRegisters]
  /// The device works on its queues.
  var isActive = false

  init(queueSizes: [UInt16]) {
    queues = queueSizes.map { VirtioQueueRegisters(size: $0) }
  }

  /// Queues and features may be changed: not after DRIVER_OK, until reset.
  var isOpen: Bool { status & VirtioStatus.driverReady == 0 }

  var selected: Int? { Int(queueSelect) < queues.count ? Int(queueSelect) : nil }
}

/// Offsets in the legacy I/O BAR (4.1.4.10).
enum VirtioLegacyRegister {
  static let deviceFeatures: UInt64 = 0x00
  static let driverFeatures: UInt64 = 0x04
  static let queuePage: UInt64 = 0x08
  static let queueSize: UInt64 = 0x0C
  static let queueSelect: UInt64 = 0x0E
  static let queueNotify: UInt64 = 0x10
  static let status: UInt64 = 0x12
  static let interruptStatus: UInt64 = 0x13
  static let configurationVector: UInt64 = 0x14
  static let queueVector: UInt64 = 0x16
  /// Device configuration: here with MSI-X on, else where the vectors would stand.
  static let configuration: UInt64 = 0x18
}

/// Offsets in the common configuration structure (4.1.4.3).
enum VirtioCommonRegister {
  static let deviceFeatureSelect: UInt64 = 0x00
  static let deviceFeatures: UInt64 = 0x04
  static let driverFeatureSelect: UInt64 = 0x08
  static let driverFeatures: UInt64 = 0x0C
  static let configurationVector: UInt64 = 0x10
  static let queueCount: UInt64 = 0x12
  static let status: UInt64 = 0x14
  static let generation: UInt64 = 0x15
  static let queueSelect: UInt64 = 0x16
  static let queueSize: UInt64 = 0x18
  static let queueVector: UInt64 = 0x1A
  static let queueEnable: UInt64 = 0x1C
  static let queueNotifyOffset: UInt64 = 0x1E
  static let queueDescriptors: UInt64 = 0x20
  static let queueAvailable: UInt64 = 0x28
  static let queueUsed: UInt64 = 0x30
  static let size: UInt64 = 0x38
}

/// Where the structures stand in the modern memory BAR.
enum VirtioModernLayout {
  static let common: UInt64 = 0x0000
  static let interruptStatus: UInt64 = 0x1000
  static let configuration: UInt64 = 0x2000
  static let notify: UInt64 = 0x3000
  static let structureSize: UInt64 = 0x1000
  static let size: UInt64 = 0x4000
  /// Bytes between the doorbells of neighbouring queues.
  static let notifyMultiplier: UInt64 = 4
}
