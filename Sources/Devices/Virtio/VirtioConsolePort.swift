// One port of a virtio console: bytes that wait for the guest, and what the two sides still have to be told.

import Synchronization

/// Messages on the control queues (Virtual I/O Device 1.2, 5.3.6.2).
enum VirtioConsoleEvent {
  static let deviceReady: UInt16 = 0
  static let deviceAdd: UInt16 = 1
  static let portReady: UInt16 = 3
  static let consolePort: UInt16 = 4
  static let resize: UInt16 = 5
  static let portOpen: UInt16 = 6
  static let portName: UInt16 = 7
}

/// The host's handle of a port.
public final class VirtioConsolePort: CharacterDevice, @unchecked Sendable {
  // @unchecked: `wake` is set once before the device is used; the rest is guarded.
  /// Most bytes that wait for the guest.
  public static let inputLimit = 4096

  /// Messages that the guest has to get. A set and not a queue: a guest that asks without end makes nothing grow.
  struct Announcements: OptionSet, Codable, Sendable {
    var rawValue: UInt16
    static let add = Announcements(rawValue: 1 << 0)
    static let console = Announcements(rawValue: 1 << 1)
    static let name = Announcements(rawValue: 1 << 2)
    static let open = Announcements(rawValue: 1 << 3)
    static let resize = Announcements(rawValue: 1 << 4)
  }

  private struct Guarded {
    var input = BoundedQueue<UInt8>(capacity: inputLimit)
    var refused = false
    var guestIsOpen = false
    var announcements: Announcements = []
  }

  public let number: Int
  let name: [UInt8]
  let isTerminal: Bool
  let backend: any CharacterBackend
  var wake: @Sendable () -> Void = {}
  private let guarded = Mutex(Guarded())

  init(number: Int, options: VirtioConsole.PortOptions) {
    self.number = number
    name = Array(options.name.utf8.prefix(64))
    isTerminal = options.isTerminal
    backend = options.backend
  }

  /// A program in the guest has the port open.
  public var isGuestOpen: Bool { guarded.withLock { $0.guestIsOpen } }

  // MARK: CharacterDevice

  public func offer(_ bytes: UnsafeRawBufferPointer) -> Int {
    let taken = guarded.withLock { state in
      let count = min(bytes.count, state.input.space)
      for index in 0..<count { state.input.append(bytes[index]) }
      state.refused = count < bytes.count
      return count
    }
    if taken > 0 { wake() }
    return taken
  }

  /// A virtio console has no line that could break.
  public func sendBreak() {}

  // MARK: The engine's side

  var hasInput: Bool { guarded.withLock { !$0.input.isEmpty } }

  /// Moves input into `target`. Returns how much.
  func takeInput(_ target: UnsafeMutableRawBufferPointer) -> Int {
    guarded.withLock { state in
      var count = 0
      while count < target.count, let byte = state.input.popFirst() {
        target[count] = byte
        count &+= 1
      }
      return count
    }
  }

  /// Tells the backend once that there is room again.
  func reportRoom() {
    let wasRefused = guarded.withLock { state in
      guard state.refused, state.input.space >= Self.inputLimit / 2 else { return false }
      state.refused = false
      return true
    }
    if wasRefused { backend.guestCanReceive() }
  }

  func announce(_ announcements: Announcements) {
    guarded.withLock { $0.announcements.formUnion(announcements) }
  }

  /// The next message for the guest, in the order in which a driver expects them.
  func nextAnnouncement() -> Announcements? {
    guarded.withLock { state in
      for one in [Announcements.add, .console, .name, .open, .resize]
      where state.announcements.contains(one) {
        return one
      }
      return nil
    }
  }

  func didAnnounce(_ announcement: Announcements) {
    guarded.withLock { _ = $0.announcements.remove(announcement) }
  }

  func setGuestOpen(_ open: Bool) { guarded.withLock { $0.guestIsOpen = open } }

  /// The driver went away. Input waits for the next one.
  func reset() {
    guarded.withLock { state in
      state.guestIsOpen = false
      state.announcements = []
    }
  }
}

extension VirtioConsolePort: Snapshottable {
  public struct State: Codable, Sendable {
    var input: BoundedQueue<UInt8>
    var guestIsOpen: Bool
    var announcements: Announcements
  }

  public static let stateVersion = 1

  public func saveState() -> State {
    guarded.withLock { state in
      State(
        input: state.input, guestIsOpen: state.guestIsOpen, announcements: state.announcements)
    }
  }

  public func check(_ saved: State) throws(DeviceStateError) {
    try DeviceStateError.require(
      saved.input.count <= Self.inputLimit, "a port has \(saved.input.count) bytes of input")
  }

  public func restoreState(_ saved: State) {
    guarded.withLock { state in
      state.input = BoundedQueue(capacity: Self.inputLimit)
      for index in 0..<saved.input.count { state.input.append(saved.input[index]) }
      state.guestIsOpen = saved.guestIsOpen
      state.announcements = saved.announcements
    }
  }
}
