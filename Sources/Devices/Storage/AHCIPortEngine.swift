// What a port does with the commands of its list (Serial ATA AHCI 1.3.1, chapter 5): fetches them, has the device and
// its disk carry them out, many queued ones at a time, and reports what became of them.

import CLinux
import GuestMemory

/// Used by one thread at a time: the port's own, or one that holds it.
final class AHCIPortEngine: @unchecked Sendable {
  // @unchecked: see above; what the processors' threads touch is in the adapter's registers.
  typealias Interrupt = AHCIPortRegisters.Interrupt
  static let slotCount = 32

  /// A command in flight on the disk.
  private struct Slot {
    var header: AHCICommandHeader
    var transfer: ATATransfer
    /// The data is written; its flush is not done yet.
    var isFlushing = false
  }

  private enum Next {
    case nothing
    case restart(lifetime: UInt32, resetsDevice: Bool)
    case begin(slot: UInt32, list: UInt64)
  }

  let index: Int
  let device: any ATADevice
  /// The owner, which stops the thread before it goes.
  private unowned(unsafe) var controller: AHCIController?
  private var transfers: (any BlockTransferQueue)?
  private var slots = [Slot?](repeating: nil, count: slotCount)
  /// Made when they are needed.
  private var lists = [ScatterList?](repeating: nil, count: slotCount)
  /// Slots in flight, and those of them that are queued.
  private var busy: UInt32 = 0
  private var queued: UInt32 = 0
  /// Queued commands that are done and not reported yet.
  var doneTags: UInt32 = 0
  /// Of the commands in flight: another one in the registers means that they are void.
  var lifetime: UInt32 = 0
  /// Filled and emptied at each collection.
  private var answers: [(token: Int, error: BlockBackendError?)] = []

  init(_ index: Int, _ device: any ATADevice) {
    self.index = index
    self.device = device
    answers.reserveCapacity(Self.slotCount)
  }

  func attach(_ controller: AHCIController) {
    self.controller = controller
    transfers = device.backend?.makeTransferQueue(depth: Self.slotCount)
  }

  /// Readable when something in flight is done; -1 with nothing in flight.
  var descriptor: Int32 {
    guard let transfers, transfers.inFlight > 0 else { return -1 }
    return transfers.descriptor
  }

  // MARK: Steps

  /// Takes answers and new commands.
  ///
  /// - Returns: whether there may be more.
  func step() -> Bool {
    guard let controller else { return false }
    collectAll(controller)
    var mayBeMore = true
    for _ in 0..<Self.slotCount where mayBeMore {
      switch next(controller) {
      case .nothing: mayBeMore = false
      case .restart(let lifetime, let resetsDevice):
        restart(controller, lifetime, resetsDevice: resetsDevice)
      case .begin(let slot, let list):
        // Otherwise it waits for those that are queued.
        mayBeMore = begin(controller, slot, list: list)
      }
    }
    transfers?.commit()
    collectAll(controller)
    return mayBeMore
  }

  /// What is done may have a second part, which may be done as soon as it is asked for.
  private func collectAll(_ controller: AHCIController) {
    while collect(controller, waits: false) { transfers?.commit() }
  }

  /// Waits until nothing is in flight, and reports it.
  func settle() {
    guard let controller else { return }
    while let transfers, transfers.inFlight > 0 {
      transfers.commit()
      collect(controller, waits: true)
    }
  }

  private func next(_ controller: AHCIController) -> Next {
    controller.withPort(index) { registers, isMaster in
      if registers.lifetime != lifetime || registers.owesReset {
        return .restart(lifetime: registers.lifetime, resetsDevice: registers.owesReset)
      }
      guard isMaster else { return .nothing }
      if registers.owesSignature && registers.receives { sign(&registers, controller.memory) }
      guard registers.isStarted, !registers.isHalted, busy == queued else { return .nothing }
      if registers.issue & queued != 0 {
        // A tag that is in use already ends the whole queue (ACS-2, 4.16.1).
        failQueue(&registers, .aborted, controller.memory)
        return .nothing
      }
      guard registers.issue != 0 else { return .nothing }
      // In turn, from the slot after the last.
      let later = registers.issue & ~(UInt32.max >> (31 &- registers.currentSlot))
      let slot = UInt32((later != 0 ? later : registers.issue).trailingZeroBitCount)
      registers.currentSlot = slot
      return .begin(slot: slot, list: registers.commandList)
    }
  }

  /// Lets go of memory after a stop or a reset; nothing of what was in flight is reported.
  private func restart(
    _ controller: AHCIController, _ newLifetime: UInt32, resetsDevice: Bool
  ) {
    settle()
    if resetsDevice { device.reset(isHard: true) }
    lifetime = newLifetime
    controller.withPort(index) { registers, _ in
      guard registers.lifetime == newLifetime else { return }
      if resetsDevice {
        registers.owesReset = false
        registers.owesSignature = true
        registers.isInSoftReset = false
      }
      if !registers.isStarted { registers.isRunning = false }
    }
    controller.didReset(index, lifetime: newLifetime)
  }

  // MARK: Beginning

  /// - Returns: false when the command must wait.
  private func begin(_ controller: AHCIController, _ number: UInt32, list: UInt64) -> Bool {
    let memory = controller.memory
    do throws(AHCICommandHeader.Failure) {
      let header = try AHCICommandHeader(slot: number, list: list, memory: memory)
      let command = header.command
      if command.isQueued {
        guard UInt32(command.count >> 3 & 0x1F) == number else {
          report(controller) { self.failQueue(&$0, .aborted, memory) }
          return true
        }
      } else {
        guard queued == 0 else { return false }
        guard command.isCommand else {
          control(controller, header, number)
          return true
        }
        report(controller) { $0.taskFile |= UInt32(ATAAnswer.Status.busy) }
      }
      try carryOut(controller, header, number)
    } catch {
      let cause =
        switch error {
        case .address: Interrupt.hostFatal
        case .frame: Interrupt.interfaceFatal
        case .dataAddress: Interrupt.hostDataFatal
        }
      fail(controller, cause)
    }
    return true
  }

  private func carryOut(
    _ controller: AHCIController, _ header: AHCICommandHeader, _ number: UInt32
  ) throws(AHCICommandHeader.Failure) {
    var header = header
    let memory = controller.memory
    let list = list(number)
    switch device.begin(header.command) {
    case .done(let answer): finish(controller, header, number, answer)
    case .queuedFailure(let answer): report(controller) { self.failQueue(&$0, answer, memory) }
    case .send(let bytes, let transport):
      try header.read(into: list, limit: UInt64(bytes.count), memory: memory)
      let count = list.put(bytes)
      list.markWritten(UInt64(count), in: memory)
      header.setTransferred(UInt64(count), memory: memory)
      guard count == bytes.count else { return fail(controller, Interrupt.overflow) }
      finish(controller, header, number, .good, transport, sent: UInt64(count))
    case .receive(let count, let transport):
      try header.read(into: list, limit: UInt64(count), memory: memory)
      guard list.byteCount == UInt64(count) else { return fail(controller, Interrupt.overflow) }
      let answer = device.receive(header.command, list.take(count))
      header.setTransferred(UInt64(count), memory: memory)
      finish(controller, header, number, answer, transport)
    case .packet(let transport):
      try header.read(into: list, limit: ATAPacketDrive.transferLimit, memory: memory)
      let (answer, count) = device.execute(header.packet, list)
      list.markWritten(count, in: memory)
      header.setTransferred(count, memory: memory)
      finish(controller, header, number, answer, transport, packetData: count)
    case .transfer(let transfer):
      list.removeAll()
      if transfer.kind != .flush {
        try header.read(into: list, limit: transfer.count, memory: memory)
        guard list.byteCount == transfer.count else {
          return fail(controller, Interrupt.overflow)
        }
      }
      start(controller, transfer, header, number)
    }
  }

  private func list(_ number: UInt32) -> ScatterList {
    if let list = lists[Int(number)] { return list }
    let list = ScatterList()
    lists[Int(number)] = list
    return list
  }

  /// Software reset: set, then cleared again by another frame (10.4.1).
  private func control(
    _ controller: AHCIController, _ header: AHCICommandHeader, _ number: UInt32
  ) {
    let endsReset = controller.withPort(index) { registers, _ in
      guard registers.lifetime == lifetime else { return false }
      registers.issue &= ~(1 << number)
      if header.command.resets {
        registers.isInSoftReset = true
        if !header.clearsBusy { registers.taskFile |= UInt32(ATAAnswer.Status.busy) }
        return false
      }
      defer { registers.isInSoftReset = false }
      return registers.isInSoftReset
    }
    guard endsReset else { return }
    device.reset(isHard: false)
    report(controller) { self.sign(&$0, controller.memory) }
  }

  // MARK: Transfers

  private func start(
    _ controller: AHCIController, _ transfer: ATATransfer, _ header: AHCICommandHeader,
    _ number: UInt32
  ) {
    let bit: UInt32 = 1 << number
    slots[Int(number)] = Slot(header: header, transfer: transfer)
    busy |= bit
    if transfer.transport == .queued {
      queued |= bit
      report(controller) { registers in
        // The device takes it and is free for the next.
        registers.issue &= ~bit
        registers.setTaskFile(.good)
        if !AHCIFrame.storeRegisters(
          .good, interrupts: false, at: registers.receiveArea, memory: controller.memory)
        {
          registers.fail(Interrupt.hostFatal)
        }
      }
    }
    submit(controller, Int(number), transfer.kind, at: transfer.offset)
  }

  /// Gives a part of a command to the disk; does it at once where the disk takes none.
  private func submit(
    _ controller: AHCIController, _ number: Int, _ kind: BlockTransfer, at offset: UInt64
  ) {
    guard let list = lists[number] else { return }
    if let transfers, kind == .flush || list.count <= ScatterList.vectorLimit,
      transfers.submit(kind, list.pieces, at: offset, token: number)
    {
      return
    }
    var failure: BlockBackendError?
    do throws(BlockBackendError) {
      try perform(kind, list, at: offset)
    } catch {
      failure = error
    }
    advance(controller, number, failure)
    reportDone(controller)
  }

  private func perform(
    _ kind: BlockTransfer, _ list: ScatterList, at offset: UInt64
  ) throws(BlockBackendError) {
    guard let disk = device.backend else { throw .unsupported }
    switch kind {
    case .flush: try disk.flush()
    case .read:
      try list.forEachRun { (run, done) throws(BlockBackendError) in
        try disk.read(into: run, at: offset &+ done)
      }
    case .write:
      try list.forEachRun { (run, done) throws(BlockBackendError) in
        try disk.write(from: run, at: offset &+ done)
      }
    }
  }

  /// Reports what the disk has done.
  ///
  /// - Returns: whether there was anything.
  @discardableResult
  private func collect(_ controller: AHCIController, waits: Bool) -> Bool {
    guard let transfers, transfers.inFlight > 0 else { return false }
    // A command may go on to its flush, which must not happen inside the reaping.
    transfers.reap(waits: waits) { token, error in answers.append((token, error)) }
    guard !answers.isEmpty else { return false }
    for answer in answers { advance(controller, answer.token, answer.error) }
    answers.removeAll(keepingCapacity: true)
    reportDone(controller)
    return true
  }

  /// A part of a command is done.
  private func advance(
    _ controller: AHCIController, _ number: Int, _ error: BlockBackendError?
  ) {
    guard slots.indices.contains(number), let slot = slots[number] else { return }
    if error == nil && slot.transfer.flushes && !slot.isFlushing {
      slots[number]?.isFlushing = true
      return submit(controller, number, .flush, at: 0)
    }
    slots[number] = nil
    let bit: UInt32 = 1 << UInt32(number)
    let wasQueued = queued & bit != 0
    busy &= ~bit
    queued &= ~bit
    let answer = device.finish(slot.transfer, slot.header.command, error)
    let memory = controller.memory
    if slot.transfer.kind == .read {
      lists[number]?.markWritten(slot.transfer.count, in: memory)
    }
    lists[number]?.removeAll()
    guard controller.withPort(index, { registers, _ in registers.lifetime == lifetime }) else {
      return
    }
    slot.header.setTransferred(answer.isError ? 0 : slot.transfer.count, memory: memory)
    if !wasQueued {
      let sent =
        slot.transfer.kind == .read && slot.transfer.transport == .programmed
        ? slot.transfer.count : 0
      finish(
        controller, slot.header, UInt32(number), answer, slot.transfer.transport, sent: sent)
    } else if answer.isError {
      reportDone(controller)
      report(controller) { self.failQueue(&$0, answer, memory) }
    } else {
      if slot.header.signalsDescriptors {
        report(controller) { $0.interruptStatus |= Interrupt.descriptorDone }
      }
      doneTags |= bit
    }
  }
}
