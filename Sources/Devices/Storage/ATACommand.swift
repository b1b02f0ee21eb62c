// What passes between a SATA port and the device on it (ATA/ATAPI Command Set 2; Serial ATA 2.6, 10.3).

/// A command or control block, out of a Register FIS from host to device.
struct ATACommand: Codable, Sendable, Equatable {
  /// The command register was written; otherwise the control register.
  var isCommand = true
  var code: UInt8 = 0
  var features: UInt16 = 0
  /// 48 bits.
  var block: UInt64 = 0
  var count: UInt16 = 0
  var device: UInt8 = 0
  var control: UInt8 = 0

  private static let type: UInt8 = 0x27

  init() {}

  /// - Returns: nil for any other kind of FIS.
  init?(low: UInt64, high: UInt64) {
    func byte(_ index: UInt64) -> UInt8 {
      UInt8(truncatingIfNeeded: (index < 8 ? low : high) >> ((index & 7) * 8))
    }
    guard byte(0) == Self.type else { return nil }
    isCommand = byte(1) & 0x80 != 0
    code = byte(2)
    features = UInt16(byte(3)) | UInt16(byte(11)) << 8
    block = low >> 32 & 0xFF_FFFF | (high & 0xFF_FFFF) << 24
    device = byte(7)
    count = UInt16(byte(12)) | UInt16(byte(13)) << 8
    control = byte(15)
  }

  /// One of a queue: READ and WRITE FPDMA QUEUED.
  var isQueued: Bool { isCommand && (code == 0x60 || code == 0x61) }

  static let deviceReset: UInt8 = 0x08
  static let diagnose: UInt8 = 0x90

  /// READ and WRITE MULTIPLE in all their forms: several sectors between two interrupts.
  var movesMultiple: Bool { [0x29, 0x39, 0xC4, 0xC5, 0xCE].contains(code) }

  /// Of the 48-bit command set.
  var isExtended: Bool {
    [
      0x06, 0x24, 0x25, 0x27, 0x29, 0x2F, 0x34, 0x35, 0x39, 0x3D, 0x42, 0x47, 0x60, 0x61, 0xCE,
      0xEA,
    ].contains(code)
  }

  /// IDENTIFY DEVICE or IDENTIFY PACKET DEVICE.
  var isIdentification: Bool { code == 0xEC || code == 0xA1 }

  /// Software reset.
  var resets: Bool { control & 4 != 0 }
}

/// What a device's registers say when a command is over.
struct ATAAnswer: Equatable, Sendable, Codable {
  enum Status {
    static let error: UInt8 = 0x01
    static let dataRequest: UInt8 = 0x08
    static let seekComplete: UInt8 = 0x10
    static let ready: UInt8 = 0x40
    static let busy: UInt8 = 0x80
  }

  enum ErrorBit {
    static let aborted: UInt8 = 0x04
    static let notFound: UInt8 = 0x10
    static let uncorrectable: UInt8 = 0x40
  }

  var status: UInt8 = Status.ready | Status.seekComplete
  var error: UInt8 = 0
  var block: UInt64 = 0
  var count: UInt16 = 0
  var device: UInt8 = 0

  static let good = ATAAnswer()
  static let aborted = failed(ErrorBit.aborted)

  static func failed(_ error: UInt8, block: UInt64 = 0) -> ATAAnswer {
    ATAAnswer(
      status: Status.ready | Status.seekComplete | Status.error, error: error, block: block)
  }

  var isError: Bool { status & Status.error != 0 }

  /// As PxSIG shows it.
  var signature: UInt32 {
    UInt32(truncatingIfNeeded: block & 0xFF_FFFF) << 8 | UInt32(count & 0xFF)
  }
}

/// How data goes over the link; only the frames around it differ.
enum ATAProtocol: String, Codable, Sendable {
  case programmed, direct, queued
}

/// What a command wants done.
enum ATAWork {
  case done(ATAAnswer)
  /// The tag of a queued command that failed before it began.
  case queuedFailure(ATAAnswer)
  case send([UInt8], ATAProtocol)
  /// So many bytes from the host, for `receive`.
  case receive(Int, ATAProtocol)
  case transfer(ATATransfer)
  case packet(ATAProtocol)
}

/// Sectors to move, or a cache to flush.
struct ATATransfer: Codable, Sendable, Equatable {
  var kind: BlockTransfer
  var transport: ATAProtocol
  /// Bytes on the disk.
  var offset: UInt64 = 0
  var count: UInt64 = 0
  /// The write must be on the disk before the answer.
  var flushes = false
}

/// What hangs on a SATA port. Everything but `saveState` and `restoreState` is called by the thread of the port.
protocol ATADevice: AnyObject, Sendable {
  /// The disk that transfers go to; nil for packet devices.
  var backend: (any BlockBackend)? { get }
  /// What the registers say after a reset.
  var signature: ATAAnswer { get }
  /// Bytes of a block of READ and WRITE MULTIPLE.
  var multipleSize: Int { get }
  func begin(_ command: ATACommand) -> ATAWork
  /// Data of a command that wanted to receive.
  func receive(_ command: ATACommand, _ bytes: [UInt8]) -> ATAAnswer
  /// Ends a transfer: counts it, or turns its error into what the driver is told.
  func finish(
    _ transfer: ATATransfer, _ command: ATACommand, _ error: BlockBackendError?
  ) -> ATAAnswer
  /// A packet command, whose data go to or come from `buffers`; and how many bytes were written there.
  func execute(_ packet: SCSICommand, _ buffers: ScatterList) -> (ATAAnswer, UInt64)
  /// - Parameter isHard: by the link, not by the control register.
  func reset(isHard: Bool)
  func saveState() -> ATADeviceState
  func restoreState(_ state: ATADeviceState)
}

extension ATADevice {
  /// A state is of the same kind of device.
  func check(_ state: ATADeviceState) throws(DeviceStateError) {
    switch (state, saveState()) {
    case (.disk, .disk), (.packet, .packet): return
    default: throw DeviceStateError("a port has another kind of drive")
    }
  }
}

/// What a device on a port remembers.
enum ATADeviceState: Codable, Sendable {
  case disk(ATADisk.State)
  case packet(ATAPacketDrive.State)
}
