// The hypercalls of hvt, the monitor of Solo5's unikernels (Solo5's hvt_abi.h): a 32-bit write to a port of its own for
// each, with the address of a structure in guest memory that holds its arguments and takes its results.

import CLinux
import GuestMemory
import Platform
import Synchronization

/// What a unikernel has instead of a PC's devices.
public final class UnikernelPort: BusDevice {
  public static let portCount = 16

  /// What a handle of the guest stands for.
  public enum Device: Sendable {
    case block(any BlockBackend, sectorSize: UInt16)
    case network(UnikernelNetwork)
  }

  private enum Call: UInt64 {
    case wallTime = 1
    case write, poll, blockWrite, blockRead, networkWrite, networkRead, halt
  }

  /// `solo5_result_t`.
  private enum Result: UInt32 {
    case done = 0
    case again, invalid, failed
  }

  /// What is printed before the processor looks whether it is wanted, bytes.
  private static let printPiece = 64 << 10
  private static let wholeSecond: UInt64 = 1_000_000_000

  private let memory: GuestMemory
  private let devices: [Device?]
  private let console: any CharacterBackend
  private let halt: @Sendable (Int32) -> Void
  private let turn = Mutex(Turn())
  /// Whether a frame has come that nobody has looked for yet.
  private let arrival = Monitor(false)

  /// - Parameters:
  ///   - devices: by handle; nil where the manifest has an entry that is no device.
  ///   - console: gets what the guest prints, on the processor's thread.
  ///   - halt: gets the status with which the guest ends.
  public init(
    memory: GuestMemory, devices: [Device?], console: any CharacterBackend,
    halt: @escaping @Sendable (Int32) -> Void
  ) {
    self.memory = memory
    self.devices = devices
    self.console = console
    self.halt = halt
    for case .network(let network) in devices {
      network.setArrival { [arrival] in arrival.update { $0 = true } }
    }
  }

  /// How a processor that is here for long gives way.
  public struct Turn: Sendable {
    /// Whether it is wanted elsewhere.
    let isWanted: @Sendable () -> Bool
    /// Waits until the guest may run again; false when that is over.
    let rest: @Sendable () -> Bool

    public init(
      isWanted: @escaping @Sendable () -> Bool = { false },
      rest: @escaping @Sendable () -> Bool = { true }
    ) {
      self.isWanted = isWanted
      self.rest = rest
    }
  }

  public func setTurn(_ turn: Turn) { self.turn.withLock { $0 = turn } }

  /// A processor that waits here may be wanted: it looks, and ends its wait then as if the time were over.
  public func interrupt() { arrival.update { _ in } }

  // MARK: BusDevice

  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 { width.mask }

  public func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    guard width == .doubleword, let call = Call(rawValue: offset) else { return }
    let place = GuestAddress(value)
    switch call {
    case .wallTime: memory.store(Self.wallTime, at: place)
    case .write: print(place)
    case .poll: poll(place)
    case .blockWrite: store(.init(memory, place, hasOffset: true)) { self.write($0) }
    case .blockRead: store(.init(memory, place, hasOffset: true)) { self.read($0) }
    case .networkWrite: store(.init(memory, place, hasOffset: false)) { self.send($0) }
    case .networkRead: receive(place)
    case .halt: halt(memory.load(Int32.self, at: place &+ 8) ?? -1)
    }
  }

  private static var wallTime: UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return UInt64(clamping: now.tv_sec) &* wholeSecond &+ UInt64(clamping: now.tv_nsec)
  }

  /// However much it is: a pause comes between two pieces.
  private func print(_ place: GuestAddress) {
    guard let address: UInt64 = memory.load(at: place),
      let count: UInt64 = memory.load(at: place &+ 8),
      let bytes = memory.pointer(at: GuestAddress(address), count: count)
    else { return }
    let turn = turn.withLock { $0 }
    var rest = UnsafeRawBufferPointer(start: bytes, count: Int(count))
    while !rest.isEmpty {
      let piece = rest.prefix(Self.printPiece)
      console.guestDidSend(UnsafeRawBufferPointer(rebasing: piece))
      rest = UnsafeRawBufferPointer(rebasing: rest[piece.endIndex...])
      if !rest.isEmpty, turn.isWanted(), !turn.rest() { return }
    }
  }

  // MARK: Waiting

  private func poll(_ place: GuestAddress) {
    let timeout: UInt64 = memory.load(at: place) ?? 0
    let (end, overflow) = MonotonicClock.now.addingReportingOverflow(timeout)
    // A time that pthread_cond_timedwait(3) takes.
    let deadline = overflow ? UInt64(Int64.max) : min(end, UInt64(Int64.max))
    let isWanted = turn.withLock { $0.isWanted }
    var ready = readySet
    while ready == 0 {
      let isOver = arrival.wait(until: deadline) { hasArrival -> Bool? in
        if isWanted() { return true }
        guard hasArrival else { return nil }
        hasArrival = false
        return false
      }
      ready = readySet
      if isOver ?? true { break }
    }
    memory.store(ready, at: place &+ 8)
    memory.store(UInt32(ready.nonzeroBitCount), at: place &+ 16)
  }

  private var readySet: UInt64 {
    var set: UInt64 = 0
    for (index, device) in devices.enumerated() {
      if case .network(let network) = device, network.hasFrame { set |= 1 << UInt64(index) }
    }
    return set
  }

  // MARK: Transfers

  /// The arguments, read once: handle, offset for disks, address and size of the data. The result is behind them.
  private struct Transfer {
    var handle: UInt64
    var offset: UInt64 = 0
    var data: UnsafeMutableRawBufferPointer?
    var sizePlace: GuestAddress
    var result: GuestAddress

    init(_ memory: GuestMemory, _ place: GuestAddress, hasOffset: Bool) {
      var next = place
      func word() -> UInt64 {
        defer { next = next &+ 8 }
        return memory.load(at: next) ?? .max
      }
      handle = word()
      if hasOffset { offset = word() }
      let address = word()
      sizePlace = next
      let size = word()
      data = memory.pointer(at: GuestAddress(address), count: size).map {
        UnsafeMutableRawBufferPointer(start: $0, count: Int(size))
      }
      result = next
    }
  }

  private func store(_ transfer: Transfer, _ body: (Transfer) -> Result) {
    memory.store(body(transfer).rawValue, at: transfer.result)
  }

  private func device(_ handle: UInt64) -> Device? {
    handle < UInt64(devices.count) ? devices[Int(handle)] : nil
  }

  private func disk(_ transfer: Transfer) -> (any BlockBackend, UnsafeMutableRawBufferPointer)? {
    guard case .block(let disk, let sector) = device(transfer.handle), let data = transfer.data,
      transfer.offset % UInt64(sector) == 0, data.count % Int(sector) == 0,
      transfer.offset <= disk.size, UInt64(data.count) <= disk.size - transfer.offset
    else { return nil }
    return (disk, data)
  }

  private func write(_ transfer: Transfer) -> Result {
    guard let (disk, data) = disk(transfer) else { return .invalid }
    do throws(BlockBackendError) {
      try disk.write(from: UnsafeRawBufferPointer(data), at: transfer.offset)
      return .done
    } catch {
      return .failed
    }
  }

  private func read(_ transfer: Transfer) -> Result {
    guard let (disk, data) = disk(transfer) else { return .invalid }
    do throws(BlockBackendError) {
      try disk.read(into: data, at: transfer.offset)
      if let base = data.baseAddress { memory.markDirty(host: base, count: data.count) }
      return .done
    } catch {
      return .failed
    }
  }

  private func send(_ transfer: Transfer) -> Result {
    guard case .network(let network) = device(transfer.handle), let data = transfer.data,
      data.count <= UnikernelNetworkEngine.frameLimit
    else { return .invalid }
    network.write(UnsafeRawBufferPointer(data))
    return .done
  }

  private func receive(_ place: GuestAddress) {
    store(.init(memory, place, hasOffset: false)) { transfer in
      guard case .network(let network) = device(transfer.handle), let data = transfer.data else {
        return .invalid
      }
      guard let count = network.read(into: data) else { return .again }
      if let base = data.baseAddress { memory.markDirty(host: base, count: count) }
      memory.store(UInt64(count), at: transfer.sizePlace)
      return .done
    }
  }
}
