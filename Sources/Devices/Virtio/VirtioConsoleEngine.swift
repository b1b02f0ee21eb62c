// The work of a virtio console: moves bytes between ports and queues, and answers control messages.

import CLinux
import Synchronization

/// Used by the console's thread, or while that is held.
final class VirtioConsoleEngine: @unchecked Sendable {
  // @unchecked: see above; `link` and `resize` have locks of their own.
  let link = Mutex<VirtioLink?>(nil)
  private(set) var queues: [VirtioQueue?] = []
  private var hasControl = false
  private let ports: [VirtioConsolePort]
  private let chain = VirtioChain()
  /// What the host has said; nil: nothing yet.
  private let resize = Mutex<(columns: UInt16, rows: UInt16)?>(nil)
  /// Guest bytes are copied here, so that a backend does not see them change.
  private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)

  init(ports: [VirtioConsolePort]) { self.ports = ports }

  deinit { scratch.deallocate() }

  func activate(_ queues: [VirtioQueue?], hasControl: Bool) {
    self.queues = queues
    self.hasControl = hasControl
    // Without control messages nobody ever says that port 0 is open.
    if !hasControl { ports[0].setGuestOpen(true) }
  }

  func deactivate() {
    queues = []
    for port in ports { port.reset() }
  }

  func requestResize(columns: UInt16, rows: UInt16) {
    resize.withLock { $0 = (columns, rows) }
    ports[0].announce(.resize)
  }

  private static func inputQueue(_ port: Int) -> Int { port == 0 ? 0 : 2 * port + 2 }
  private static func outputQueue(_ port: Int) -> Int { inputQueue(port) + 1 }

  private func queue(_ index: Int) -> VirtioQueue? { index < queues.count ? queues[index] : nil }

  /// One chain of every queue that has work.
  func step() -> Bool {
    guard !queues.isEmpty else { return false }
    do throws(VirtioViolation) {
      var didWork = false
      if hasControl {
        didWork = try receiveControl() || didWork
        didWork = try sendControl() || didWork
      }
      for port in ports {
        if port.number > 0 && !hasControl { break }
        didWork = try receive(port) || didWork
        didWork = try send(port) || didWork
      }
      return didWork || sleepWouldMiss()
    } catch {
      queues = []
      link.withLock { $0 }?.fail(error)
      return false
    }
  }

  private func finish(_ queue: VirtioQueue, written: Int) {
    queue.give(chain, written: UInt32(clamping: written))
    if queue.wantsInterrupt() { link.withLock { $0 }?.signal(queue: queue.index) }
  }

  /// Asks for kicks again; true when something came in between.
  private func sleepWouldMiss() -> Bool {
    var missed = false
    func check(_ index: Int, matters: Bool) {
      guard let queue = queue(index) else { return }
      if matters {
        missed = queue.allowNotifications() || missed
      } else {
        // Empty buffers are of no interest until there is something to put in.
        queue.suppressNotifications()
      }
    }
    if hasControl {
      check(VirtioConsole.controlOutput, matters: true)
      check(
        VirtioConsole.controlInput, matters: ports.contains { $0.nextAnnouncement() != nil })
    }
    for port in ports {
      if port.number > 0 && !hasControl { break }
      check(Self.outputQueue(port.number), matters: true)
      check(Self.inputQueue(port.number), matters: port.hasInput)
    }
    return missed
  }

  // MARK: Bytes

  private func receive(_ port: VirtioConsolePort) throws(VirtioViolation) -> Bool {
    guard let queue = queue(Self.outputQueue(port.number)), try queue.take(into: chain) else {
      return false
    }
    queue.suppressNotifications()
    var left = chain.readableBytes
    while left > 0 {
      let count = Int(min(left, UInt64(scratch.count)))
      let part = UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(count))
      guard chain.takeFront(part) else { break }
      port.backend.guestDidSend(UnsafeRawBufferPointer(part))
      left -= UInt64(count)
    }
    finish(queue, written: 0)
    return true
  }

  private func send(_ port: VirtioConsolePort) throws(VirtioViolation) -> Bool {
    guard port.hasInput, let queue = queue(Self.inputQueue(port.number)),
      try queue.take(into: chain)
    else { return false }
    let room = Int(min(chain.writableBytes, UInt64(scratch.count)))
    let count = port.takeInput(UnsafeMutableRawBufferPointer(rebasing: scratch.prefix(room)))
    chain.putFront(UnsafeRawBufferPointer(rebasing: scratch.prefix(count)))
    finish(queue, written: count)
    port.reportRoom()
    return true
  }

  // MARK: Control messages

  private func receiveControl() throws(VirtioViolation) -> Bool {
    guard let queue = queue(VirtioConsole.controlOutput), try queue.take(into: chain) else {
      return false
    }
    var message: UInt64 = 0
    guard withUnsafeMutableBytes(of: &message, { chain.takeFront($0) }) else { throw .request }
    finish(queue, written: 0)
    let value = UInt64(littleEndian: message)
    answer(
      port: UInt32(truncatingIfNeeded: value), event: UInt16(truncatingIfNeeded: value >> 32),
      value: UInt16(truncatingIfNeeded: value >> 48))
    return true
  }

  private func answer(port number: UInt32, event: UInt16, value: UInt16) {
    if event == VirtioConsoleEvent.deviceReady {
      if value == 1 { for port in ports { port.announce(.add) } }
      return
    }
    guard number < UInt32(ports.count) else { return }
    let port = ports[Int(number)]
    switch event {
    case VirtioConsoleEvent.portReady where value == 1:
      var announcements: VirtioConsolePort.Announcements = [.open]
      if port.isTerminal { announcements.insert(.console) }
      if !port.name.isEmpty { announcements.insert(.name) }
      if port.number == 0 && hasSize { announcements.insert(.resize) }
      port.announce(announcements)
    case VirtioConsoleEvent.portOpen: port.setGuestOpen(value != 0)
    default: break
    }
  }

  private var hasSize: Bool { resize.withLock { $0 != nil } }

  private func sendControl() throws(VirtioViolation) -> Bool {
    for port in ports {
      guard let announcement = port.nextAnnouncement() else { continue }
      guard let queue = queue(VirtioConsole.controlInput), try queue.take(into: chain) else {
        return false
      }
      let bytes = message(announcement, of: port)
      let count = bytes.withUnsafeBytes { chain.putFront($0) }
      port.didAnnounce(announcement)
      finish(queue, written: count)
      return true
    }
    return false
  }

  private func message(
    _ announcement: VirtioConsolePort.Announcements, of port: VirtioConsolePort
  ) -> [UInt8] {
    func header(_ event: UInt16, _ value: UInt16) -> [UInt8] {
      var bytes: [UInt8] = []
      bytes.append(littleEndian: UInt32(port.number))
      bytes.append(littleEndian: event)
      bytes.append(littleEndian: value)
      return bytes
    }
    switch announcement {
    case .add: return header(VirtioConsoleEvent.deviceAdd, 1)
    case .console: return header(VirtioConsoleEvent.consolePort, 1)
    case .name: return header(VirtioConsoleEvent.portName, 1) + port.name + [0]
    case .open: return header(VirtioConsoleEvent.portOpen, 1)
    default:
      // As the specification and Linux from 6.15 have it. Older Linux reads the two the wrong way round.
      let (columns, rows) = resize.withLock { $0 } ?? (80, 25)
      var bytes = header(VirtioConsoleEvent.resize, 0)
      bytes.append(littleEndian: columns)
      bytes.append(littleEndian: rows)
      return bytes
    }
  }
}
