// What an IDE channel does with commands: has the drive and its disk carry them out, and moves data between the disk and
// the data register or, by the bus master, guest memory.

import CLinux
import GuestMemory

/// Used by one thread at a time: the channel's own, or one that holds it.
final class IDEEngine: @unchecked Sendable {
  // @unchecked: see above.
  private typealias Registers = IDEChannelRegisters
  /// Bytes that are read from the disk ahead of the driver.
  private static let chunkSize: UInt64 = 64 << 10
  /// Entries of the descriptor table that are looked at: 64 KiB of table.
  private static let descriptorLimit = 8192
  private static let packetSize = 12

  /// The owner, which stops the thread before it goes.
  private unowned(unsafe) var channel: IDEChannel?
  private let list = ScatterList()

  func attach(_ channel: IDEChannel) { self.channel = channel }

  /// - Returns: whether there may be more.
  func step() -> Bool {
    guard let channel else { return false }
    typealias Task = (phase: Registers.Phase, job: Registers.Job, buffer: [UInt8])
    let task = channel.withRegisters { registers, isMaster -> Task? in
      guard registers.hasWork(isMaster: isMaster) else { return nil }
      defer { registers.phase = .busy }
      return (registers.phase, registers.job, registers.buffer)
    }
    guard let task, let device = channel.drives[task.job.drive] else { return false }
    switch task.phase {
    case .begins: begin(channel, device, task.job)
    case .waitsForMaster: transferDirectly(channel, device, task.job, task.buffer)
    default: proceed(channel, device, task.job, task.buffer)
    }
    return true
  }

  private func finish(_ channel: IDEChannel, _ answer: ATAAnswer, interrupts: Bool = true) {
    channel.withRegisters { registers, _ in registers.finish(answer, interrupts: interrupts) }
  }

  // MARK: Beginning

  private func begin(_ channel: IDEChannel, _ device: any ATADevice, _ job: Registers.Job) {
    guard !job.command.isQueued else { return finish(channel, .aborted) }
    var job = job
    switch device.begin(job.command) {
    case .done(let answer):
      // DEVICE RESET ends without an interrupt (ATA/ATAPI-6, 9.10).
      finish(channel, answer, interrupts: job.command.code != ATACommand.deviceReset)
    case .queuedFailure(let answer): finish(channel, answer)
    case .send(let bytes, let transport):
      let data = job.command.isIdentification ? ATAIdentification.parallel(bytes) : bytes
      show(channel, job, data, isDirect: transport == .direct)
    case .receive(let count, _):
      job.expected = count
      show(channel, job, [], isDirect: true)
    case .packet(let transport):
      job.isPacket = true
      let limit = Int(job.command.block >> 8 & 0xFFFF)
      // Blocks have an even number of bytes.
      job.blockLimit = limit < 2 ? 0xFFFE : limit & ~1
      job.command.features = transport == .direct ? 1 : 0
      channel.withRegisters { registers, _ in
        registers.job = job
        // A command, to the device.
        registers.files[job.drive].set(block: job.command.block & 0xFF_FFFF, count: 1)
        registers.beginBlockFromHost(Self.packetSize, interrupts: false)
      }
    case .transfer(let transfer): begin(channel, device, job, transfer)
    }
  }

  private func begin(
    _ channel: IDEChannel, _ device: any ATADevice, _ job: Registers.Job, _ transfer: ATATransfer
  ) {
    var job = job
    job.transfer = transfer
    job.blockLimit = job.command.movesMultiple ? max(device.multipleSize, 512) : 512
    if transfer.kind == .flush {
      let error = attempt { () throws(BlockBackendError) in try device.backend?.flush() }
      return finish(channel, device.finish(transfer, job.command, error))
    }
    guard transfer.transport == .programmed else { return show(channel, job, [], isDirect: true) }
    if transfer.kind == .read { return readAhead(channel, device, job) }
    ask(channel, job, interrupts: false)
  }

  /// Data for the driver, or a wait for the bus master.
  private func show(
    _ channel: IDEChannel, _ job: Registers.Job, _ bytes: [UInt8], isDirect: Bool
  ) {
    channel.withRegisters { registers, _ in
      registers.job = job
      registers.buffer = bytes
      registers.position = 0
      if isDirect {
        registers.phase = .waitsForMaster
      } else {
        registers.beginBlockToHost()
      }
    }
  }

  // MARK: Programmed transfers

  private func proceed(
    _ channel: IDEChannel, _ device: any ATADevice, _ job: Registers.Job, _ buffer: [UInt8]
  ) {
    if job.isPacket { return proceedWithPacket(channel, device, job, buffer) }
    guard let transfer = job.transfer else { return finish(channel, .aborted) }
    if transfer.kind == .read { return readAhead(channel, device, job) }
    var job = job
    var error = attempt { () throws(BlockBackendError) in
      guard let disk = device.backend else { throw .unsupported }
      var failure: BlockBackendError?
      buffer.withUnsafeBytes { bytes in
        failure = attempt { () throws(BlockBackendError) in
          try disk.write(from: bytes, at: transfer.offset &+ job.done)
        }
      }
      if let failure { throw failure }
    }
    job.done &+= UInt64(buffer.count)
    if error == nil && job.done < transfer.count { return ask(channel, job, interrupts: true) }
    if error == nil && transfer.flushes {
      error = attempt { () throws(BlockBackendError) in try device.backend?.flush() }
    }
    finish(channel, device.finish(transfer, job.command, error))
  }

  /// Asks the driver for the next block.
  private func ask(_ channel: IDEChannel, _ job: Registers.Job, interrupts: Bool) {
    let rest = (job.transfer?.count ?? 0) &- job.done
    channel.withRegisters { registers, _ in
      registers.job = job
      registers.beginBlockFromHost(
        Int(min(UInt64(job.blockLimit), rest)), interrupts: interrupts)
    }
  }

  private func readAhead(_ channel: IDEChannel, _ device: any ATADevice, _ job: Registers.Job) {
    guard let transfer = job.transfer, let disk = device.backend else {
      return finish(channel, .aborted)
    }
    let count = Int(min(Self.chunkSize, transfer.count &- job.done))
    var bytes = [UInt8](repeating: 0, count: count)
    var error: BlockBackendError?
    bytes.withUnsafeMutableBytes { target in
      error = attempt { () throws(BlockBackendError) in
        try disk.read(into: target, at: transfer.offset &+ job.done)
      }
    }
    if let error { return finish(channel, device.finish(transfer, job.command, error)) }
    var job = job
    job.done &+= UInt64(count)
    if job.done == transfer.count { _ = device.finish(transfer, job.command, nil) }
    show(channel, job, bytes, isDirect: false)
  }

  // MARK: Packets

  /// The packet is here, or what it brought was read.
  private func proceedWithPacket(
    _ channel: IDEChannel, _ device: any ATADevice, _ job: Registers.Job, _ buffer: [UInt8]
  ) {
    var job = job
    if job.packet.isEmpty {
      job.packet = buffer
      if job.command.features & 1 != 0 { return show(channel, job, [], isDirect: true) }
    } else if job.expected == 0 {
      return finish(channel, ATAAnswer(count: 3))
    }
    // Large reads come in parts; the rest is asked for when these were read.
    let part = PacketPart(job.packet, after: job.done)
    var bytes = [UInt8](repeating: 0, count: Int(Self.chunkSize))
    let (answer, count) = bytes.withUnsafeMutableBytes { target -> (ATAAnswer, UInt64) in
      guard let start = target.baseAddress else { return (.aborted, 0) }
      list.removeAll()
      list.append(start, count: target.count)
      defer { list.removeAll() }
      return part.bytes.withUnsafeBytes { device.execute(SCSICommand($0), list) }
    }
    guard !answer.isError, count > 0 else { return finish(channel, answer) }
    job.done &+= part.blocks
    job.expected = part.isLast ? 0 : 1
    show(channel, job, Array(bytes.prefix(Int(count))), isDirect: false)
  }

  // MARK: Bus master

  private func transferDirectly(
    _ channel: IDEChannel, _ device: any ATADevice, _ job: Registers.Job, _ buffer: [UInt8]
  ) {
    let table = channel.withRegisters { registers, _ in registers.descriptors }
    let wanted: UInt64 =
      job.isPacket
      ? ATAPacketDrive.transferLimit
      : job.transfer?.count ?? UInt64(buffer.isEmpty ? job.expected : buffer.count)
    defer { list.removeAll() }
    guard collect(table, limit: wanted, channel.memory) else {
      return end(channel, .aborted, failed: true)
    }
    guard job.isPacket || list.byteCount == wanted else {
      return end(channel, .aborted, failed: true)
    }
    let memory = channel.memory
    if job.isPacket {
      let (answer, count) = job.packet.withUnsafeBytes { device.execute(SCSICommand($0), list) }
      list.markWritten(count, in: memory)
      end(channel, answer)
    } else if let transfer = job.transfer {
      var error = attempt { () throws(BlockBackendError) in
        try perform(transfer, device.backend)
      }
      if transfer.kind == .read { list.markWritten(transfer.count, in: memory) }
      if error == nil && transfer.flushes {
        error = attempt { () throws(BlockBackendError) in try device.backend?.flush() }
      }
      end(channel, device.finish(transfer, job.command, error))
    } else if job.expected > 0 {
      end(channel, device.receive(job.command, list.take(job.expected)))
    } else {
      list.markWritten(UInt64(list.put(buffer)), in: memory)
      end(channel, .good)
    }
  }

  private func end(_ channel: IDEChannel, _ answer: ATAAnswer, failed: Bool = false) {
    channel.withRegisters { registers, _ in
      registers.masterStatus &= ~Registers.Master.active
      if failed { registers.masterStatus |= Registers.Master.error }
      registers.finish(answer)
    }
  }

  /// Entries of address and length; a length of 0 is 64 KiB, and bit 31 ends the table (2.6.1).
  private func collect(_ table: UInt32, limit: UInt64, _ memory: GuestMemory) -> Bool {
    list.removeAll()
    for index in 0..<Self.descriptorLimit {
      let place = GuestAddress(UInt64(table) &+ 8 &* UInt64(index))
      guard let entry = memory.pointer(at: place, count: 8) else { return false }
      let word = UInt64(littleEndian: linux_load_once_64(entry))
      let length = word >> 32 & 0xFFFE
      let count = length == 0 ? 0x1_0000 : length
      guard let pointer = memory.pointer(at: GuestAddress(word & 0xFFFF_FFFE), count: count) else {
        return false
      }
      list.append(pointer, count: Int(count))
      if word >> 63 != 0 || list.byteCount >= limit { break }
    }
    list.limit(to: limit)
    return true
  }

  private func perform(
    _ transfer: ATATransfer, _ disk: (any BlockBackend)?
  ) throws(BlockBackendError) {
    guard let disk else { throw .unsupported }
    try list.forEachRun { (run, done) throws(BlockBackendError) in
      if transfer.kind == .read {
        try disk.read(into: run, at: transfer.offset &+ done)
      } else {
        try disk.write(from: run, at: transfer.offset &+ done)
      }
    }
  }
}

private func attempt(_ body: () throws(BlockBackendError) -> Void) -> BlockBackendError? {
  do throws(BlockBackendError) {
    try body()
    return nil
  } catch {
    return error
  }
}

/// A packet, or so much of a large read as fits the buffer.
private struct PacketPart {
  var bytes: [UInt8]
  /// Blocks of the part.
  var blocks: UInt64 = 0
  var isLast = true

  private static let blockLimit: UInt64 = 32

  /// - Parameter done: blocks that were read.
  init(_ packet: [UInt8], after done: UInt64) {
    bytes = packet
    func field(_ start: Int, _ count: Int) -> UInt64 {
      packet[start..<start + count].reduce(0) { $0 << 8 | UInt64($1) }
    }
    // READ (10), READ (12) and READ CD: where the count is, and how long.
    let count: Range<Int>
    switch packet.first {
    case 0x28 where packet.count == 12: count = 7..<9
    case 0xA8 where packet.count == 12: count = 6..<10
    case 0xBE where packet.count == 12: count = 6..<9
    default: return
    }
    let total = field(count.lowerBound, count.count)
    guard total > done else { return }
    blocks = min(total &- done, Self.blockLimit)
    isLast = done &+ blocks == total
    store(field(2, 4) &+ done, at: 2..<6)
    store(blocks, at: count)
  }

  private mutating func store(_ value: UInt64, at range: Range<Int>) {
    for (offset, index) in range.reversed().enumerated() {
      bytes[index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * offset))
    }
  }
}
