// The registers of one IDE channel with up to two drives as a value (ATA/ATAPI-6, chapters 7 and 9; PIIX3 data sheet,
// 2.6: bus master). Disks and guest memory are the engine's.

/// One channel.
struct IDEChannelRegisters: Codable, Sendable, Equatable {
  /// Offsets as the controller's ports are registered: the command block, then the control block.
  enum Register {
    static let data: UInt64 = 0
    static let features: UInt64 = 1
    static let count: UInt64 = 2
    static let device: UInt64 = 6
    static let command: UInt64 = 7
    static let control: UInt64 = 8
  }

  enum Control {
    static let interruptDisable: UInt8 = 1 << 1
    static let reset: UInt8 = 1 << 2
    /// Reads show what was written before (48-bit addresses).
    static let highOrder: UInt8 = 1 << 7
  }

  enum Device {
    static let second: UInt8 = 1 << 4
    /// Always one in old drives, and read so.
    static let alwaysOn: UInt8 = 0xA0
  }

  enum Master {
    static let start: UInt8 = 1 << 0
    static let active: UInt8 = 1 << 0
    static let error: UInt8 = 1 << 1
    static let interrupt: UInt8 = 1 << 2
    /// Software's notes on which drives can be used.
    static let capable: UInt8 = 3 << 5
  }

  /// What the channel is about.
  enum Phase: UInt8, Codable, Sendable {
    case idle
    /// A command was written.
    case begins
    /// The driver reads the data register.
    case toHost
    /// The driver writes the data register.
    case fromHost
    /// There is more to do for the engine: `buffer` is full, or used up.
    case continues
    /// Until the bus master is started.
    case waitsForMaster
    /// The engine is at it.
    case busy
  }

  /// A drive's registers. Each of the five is two deep.
  struct TaskFile: Codable, Sendable, Equatable {
    /// Features, count, and the three of the address; now, and before.
    var now: [UInt8] = [0, 1, 1, 0, 0]
    var before: [UInt8] = [0, 0, 0, 0, 0]
    var device: UInt8 = 0
    var status: UInt8 = 0
    var error: UInt8 = 1

    mutating func push(_ value: UInt8, at index: Int) {
      before[index] = now[index]
      now[index] = value
    }

    /// What is asked for by writing `code` now. What was written before counts for 48-bit commands only.
    func command(_ code: UInt8) -> ATACommand {
      var command = ATACommand()
      command.code = code
      command.device = device
      command.features = UInt16(now[0])
      command.count = UInt16(now[1])
      command.block = UInt64(now[2]) | UInt64(now[3]) << 8 | UInt64(now[4]) << 16
      if command.isExtended {
        command.features |= UInt16(before[0]) << 8
        command.count |= UInt16(before[1]) << 8
        command.block |=
          UInt64(before[2]) << 24 | UInt64(before[3]) << 32 | UInt64(before[4]) << 40
      }
      return command
    }

    mutating func set(block: UInt64, count: UInt16) {
      for index in 0..<3 {
        now[2 + index] = UInt8(truncatingIfNeeded: block >> UInt64(8 * index))
        before[2 + index] = UInt8(truncatingIfNeeded: block >> UInt64(24 + 8 * index))
      }
      now[1] = UInt8(truncatingIfNeeded: count)
      before[1] = UInt8(truncatingIfNeeded: count >> 8)
    }

    var isSound: Bool { now.count == 5 && before.count == 5 }
  }

  /// What the engine remembers of the command in hand.
  struct Job: Codable, Sendable, Equatable {
    var drive = 0
    var command = ATACommand()
    var isPacket = false
    var packet: [UInt8] = []
    /// Most bytes between two interrupts.
    var blockLimit = 512
    /// Sectors to move; nil for data that is there as a whole.
    var transfer: ATATransfer?
    /// Bytes of the transfer that were moved.
    var done: UInt64 = 0
    /// Bytes that the driver is to send.
    var expected = 0
  }

  var files = [TaskFile(), TaskFile()]
  var selected = 0
  var control: UInt8 = 0
  var interrupts = false
  var masterCommand: UInt8 = 0
  var masterStatus: UInt8 = 0
  var descriptors: UInt32 = 0
  var phase = Phase.idle
  var job = Job()
  var buffer: [UInt8] = []
  var position = 0
  /// Where the block that is being moved ends in `buffer`.
  var blockEnd = 0

  var level: Bool { interrupts && control & Control.interruptDisable == 0 }

  var isBusy: Bool {
    control & Control.reset != 0
      || [.begins, .continues, .waitsForMaster, .busy].contains(phase)
  }

  /// Whether the engine has something to do.
  func hasWork(isMaster: Bool) -> Bool {
    switch phase {
    case .begins, .continues: true
    case .waitsForMaster: isMaster && masterStatus & Master.active != 0
    default: false
    }
  }

  // MARK: Data

  /// Bytes between here and the end of the block that the driver may read.
  mutating func readData(_ count: Int) -> UInt64 {
    guard phase == .toHost else { return .max }
    var value: UInt64 = 0
    for index in 0..<count {
      let byte = position < blockEnd ? buffer[position] : 0
      value |= UInt64(byte) << UInt64(8 * index)
      position = min(position &+ 1, blockEnd)
    }
    if position == blockEnd { endBlockToHost() }
    return value
  }

  /// Shows the next block of what is in the buffer.
  mutating func beginBlockToHost() {
    phase = .toHost
    let rest = buffer.count - position
    let length = min(rest, max(job.blockLimit, 2))
    blockEnd = position + length
    files[job.drive].status = ATAAnswer.good.status | ATAAnswer.Status.dataRequest
    if job.isPacket {
      // Data, to the host; and how much.
      files[job.drive].set(block: UInt64(length) << 8, count: 2)
    }
    raise()
  }

  private mutating func endBlockToHost() {
    if position < buffer.count { return beginBlockToHost() }
    if let transfer = job.transfer, job.done < transfer.count {
      phase = .continues
    } else if job.isPacket {
      phase = .continues
    } else {
      finish(.good, interrupts: false)
    }
  }

  mutating func writeData(_ count: Int, _ value: UInt64) {
    guard phase == .fromHost else { return }
    for index in 0..<count where buffer.count < blockEnd {
      buffer.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index)))
    }
    if buffer.count >= blockEnd { phase = .continues }
  }

  /// Asks for `count` bytes, in blocks.
  mutating func beginBlockFromHost(_ count: Int, interrupts: Bool) {
    phase = .fromHost
    buffer.removeAll(keepingCapacity: true)
    position = 0
    blockEnd = count
    files[job.drive].status = ATAAnswer.good.status | ATAAnswer.Status.dataRequest
    if interrupts { raise() }
  }

  // MARK: The end of a command

  mutating func raise() {
    interrupts = true
    masterStatus |= Master.interrupt
  }

  mutating func finish(_ answer: ATAAnswer, interrupts: Bool = true) {
    show(answer, on: job.drive)
    phase = .idle
    buffer = []
    position = 0
    blockEnd = 0
    job = Job()
    if interrupts { raise() }
  }

  mutating func show(_ answer: ATAAnswer, on drive: Int) {
    files[drive].status = answer.status
    files[drive].error = answer.error
    files[drive].set(block: answer.block, count: answer.count)
  }

  /// After a reset: as if nothing had been written.
  mutating func clear() {
    phase = .idle
    buffer = []
    position = 0
    blockEnd = 0
    job = Job()
    selected = 0
    interrupts = false
    files = [TaskFile(), TaskFile()]
  }

  // MARK: State

  /// Whether a restored value keeps what the methods rely on.
  var isSound: Bool {
    files.count == 2 && files.allSatisfy(\.isSound) && (0...1).contains(selected)
      && (0...1).contains(job.drive) && position >= 0 && position <= buffer.count
      && blockEnd >= position && (phase != .toHost || blockEnd <= buffer.count)
      && blockEnd <= 1 << 20 && job.blockLimit > 0 && job.blockLimit <= 1 << 16
      && job.packet.count <= 16 && job.expected >= 0 && job.expected <= 1 << 20
      && (job.transfer.map { job.done <= $0.count } ?? true) && phase != .busy
  }
}
