// The work of an 82540EM: takes frames out of the transmit ring and puts frames into the receive ring (Intel 317453,
// chapter 3).

import GuestMemory
import Platform
import Synchronization

/// The rings belong to whoever holds `guarded`; scratch space to the adapter's thread.
final class E1000Engine: NetworkReceiver, DeviceWorkSource, @unchecked Sendable {
  // @unchecked: see above.
  /// A tag before the largest IP packet, and room for odd drivers.
  static let frameLimit = VirtioNetworkEngine.frameLimit
  private static let shortestFrame = 14
  /// What the wire pads to, without its checksum.
  private static let wireMinimum = 60
  private static let checksumSize = 4
  /// Frames of the guest between two looks at the host's side.
  private static let burst = 64
  /// Descriptors looked at while holding the registers.
  private static let descriptorLimit = 4096
  /// What the thread that rang sends itself: a frame in parts, or two.
  private static let lightCount: UInt32 = 4

  struct Guarded {
    var registers: E1000Registers
    /// The driver has let the adapter use memory.
    var isMaster = false
    var transmitter = E1000Transmitter()
    let pending = FrameQueue()
  }

  let guarded: Mutex<Guarded>
  let memory: GuestMemory
  let statistics: NetworkStatistics
  let neighbors: GuestNeighbors
  let taps = NetworkTaps()
  private let backend: any NetworkBackend
  private let assigned: HardwareAddress
  private let isLocked: Bool
  private let setPin: @Sendable (Bool) -> Void
  private let frame = UnsafeMutableRawBufferPointer.allocate(
    byteCount: frameLimit, alignment: 16)
  /// The answer to a frame may come while that is still being sent.
  private let scratch = UnsafeMutableRawBufferPointer.allocate(
    byteCount: frameLimit, alignment: 16)
  /// Set before the thread runs.
  var notifier: EventNotifier?

  init(
    backend: any NetworkBackend, address: HardwareAddress, isUp: Bool, isLocked: Bool,
    memory: GuestMemory, statistics: NetworkStatistics, neighbors: GuestNeighbors,
    setPin: @escaping @Sendable (Bool) -> Void
  ) {
    self.backend = backend
    self.memory = memory
    self.statistics = statistics
    self.neighbors = neighbors
    self.isLocked = isLocked
    self.setPin = setPin
    assigned = address
    guarded = Mutex(Guarded(registers: E1000Registers(address: address, isUp: isUp)))
  }

  deinit {
    frame.deallocate()
    scratch.deallocate()
  }

  /// Changes registers; the pin follows.
  func change<Result>(_ body: (inout Guarded) -> Result) -> Result {
    guarded.withLock { state in
      let result = body(&state)
      setPin(state.registers.isInterrupting)
      return result
    }
  }

  /// Frames go to this adapter from now on.
  func connect() { backend.connect(self) }

  // MARK: NetworkReceiver

  /// Checksums that are left to us are finished before the guest sees them.
  var accepts: NetworkOffloads { .checksum }

  func wake() { notifier?.signal() }

  func deliver(_ bytes: UnsafeRawBufferPointer, _ header: NetworkHeader) {
    guard bytes.count >= Self.shortestFrame, bytes.count <= Self.frameLimit,
      header.segmentation == .none
    else { return statistics.didDrop() }
    taps.show(bytes, fromGuest: false)
    neighbors.observe(bytes, fromGuest: false)
    change { state in
      guard state.registers.isUp, state.isMaster, state.registers.receives else {
        return statistics.didDrop()
      }
      guard state.registers.accepts(bytes) else { return }
      // Behind those that wait already.
      if !state.pending.isEmpty || !place(bytes, header, &state) {
        if !state.pending.append(bytes, header) {
          state.registers.count(E1000Registers.Count.missed)
          state.registers.raise(.overrun)
          statistics.didDrop()
        }
      }
    }
  }

  // MARK: DeviceWorkSource

  func prepare(_ set: PollSet) { backend.prepare(set, for: self) }
  func serve(_ set: PollSet) { backend.serve(set, for: self) }

  func setMuted(_ muted: Bool) { backend.setMuted(muted, for: self) }

  func isLight() -> Bool {
    guard !taps.isUsed else { return false }
    return guarded.withLock { state in
      guard state.pending.isEmpty,
        let ring = E1000Ring(state.registers, at: E1000Registers.Offset.transmitRing)
      else { return false }
      return ring.available <= Self.lightCount
    }
  }

  func step() -> Bool {
    let moved = drainPending()
    return send() || moved
  }

  // MARK: From the guest

  private func send() -> Bool {
    var count = 0
    while count < Self.burst {
      let result = change { state in
        guard state.isMaster else { return E1000Transmitter.Result.idle }
        return state.transmitter.take(
          &state.registers, memory, into: frame, limit: Self.descriptorLimit)
      }
      switch result {
      case .idle: return count > 0
      case .refused: statistics.didRefuse()
      case .more: break
      case .frame(let size, let header): transmit(size, header)
      }
      count &+= 1
    }
    return true
  }

  private func transmit(_ size: Int, _ header: NetworkHeader) {
    let bytes = UnsafeMutableRawBufferPointer(rebasing: frame.prefix(size))
    var header = header
    if header.needsChecksum, header.segmentation == .none, !backend.takes.contains(.checksum) {
      InternetChecksum.complete(
        bytes, start: header.checksumStart, offset: header.checksumOffset)
      header = NetworkHeader()
    }
    guard size >= Self.shortestFrame, guarded.withLock({ $0.registers.isUp }),
      header.fits(size, backend.takes), !isLocked || hasOwnSource(bytes)
    else { return statistics.didRefuse() }
    statistics.didSend(size)
    taps.show(UnsafeRawBufferPointer(bytes), fromGuest: true)
    neighbors.observe(UnsafeRawBufferPointer(bytes), fromGuest: true)
    backend.transmit(bytes, header, from: self)
  }

  private func hasOwnSource(_ frame: UnsafeMutableRawBufferPointer) -> Bool {
    guard let base = frame.baseAddress else { return false }
    return HardwareAddress((base + 6).assumingMemoryBound(to: UInt8.self)) == assigned
  }

  // MARK: To the guest

  private func drainPending() -> Bool {
    change { state in
      guard !state.pending.isEmpty else { return false }
      guard state.isMaster, state.registers.receives else { return false }
      var moved = false
      while let (size, header) = state.pending.copyFirst(into: frame) {
        let bytes = UnsafeRawBufferPointer(rebasing: frame.prefix(size))
        guard place(bytes, header, &state) else { break }
        state.pending.removeFirst()
        moved = true
      }
      return moved
    }
  }

  /// Puts a frame into the driver's buffers; false when there are not enough yet.
  private func place(
    _ bytes: UnsafeRawBufferPointer, _ header: NetworkHeader, _ state: inout Guarded
  ) -> Bool {
    typealias Offset = E1000Registers.Offset
    guard var ring = E1000Ring(state.registers, at: Offset.receiveRing) else { return false }
    let content = makeWireFrame(bytes, header, state.registers)
    let size = state.registers.bufferSize
    let needed = (content.bytes.count + size - 1) / size
    guard needed <= Int(ring.available) else { return false }
    var done = 0
    while done < content.bytes.count {
      guard let (place, address, _) = ring.load(memory) else { return true }
      let count = min(size, content.bytes.count - done)
      let isLast = done + count == content.bytes.count
      if let target = memory.pointer(at: GuestAddress(address), count: UInt64(count)),
        let source = content.bytes.baseAddress
      {
        target.copyMemory(from: source + done, byteCount: count)
        memory.markDirty(host: target, count: count)
      }
      // Length, no checksum of the packet, status, no errors, tag.
      let status: UInt64 = 1 | (isLast ? 2 | content.status : 0)
      memory.store(
        UInt64(count) | status << 32 | UInt64(content.tag) << 48, at: GuestAddress(place &+ 8))
      ring.advance()
      done += count
    }
    state.registers[Offset.receiveRing + E1000Registers.Ring.head] = ring.head
    didReceive(content.bytes.count, ring, &state.registers)
    return true
  }

  private func didReceive(_ count: Int, _ ring: E1000Ring, _ registers: inout E1000Registers) {
    typealias Count = E1000Registers.Count
    registers.raise(.received)
    if ring.available <= ring.count >> (1 + registers.lowThreshold) {
      registers.raise(.receiveLow)
    }
    registers.count(Count.received)
    registers.count(Count.totalReceived)
    registers.count(Count.octetsReceived, UInt32(count), isWide: true)
    registers.count(Count.totalOctetsReceived, UInt32(count), isWide: true)
    statistics.didReceive(count)
  }

  private struct WireFrame {
    var bytes: UnsafeRawBufferPointer
    var status: UInt64
    var tag: UInt16
  }

  /// The frame as it would come off the wire: padded, with a checksum unless that is stripped, without its tag if tags
  /// are told apart.
  private func makeWireFrame(
    _ bytes: UnsafeRawBufferPointer, _ header: NetworkHeader, _ registers: E1000Registers
  ) -> WireFrame {
    var (status, tag): (UInt64, UInt16) = (0, 0)
    var skipped = 0
    let copy = scratch
    if registers.separatesTags, bytes.count >= 18,
      UInt16(bytes[12]) << 8 | UInt16(bytes[13]) == registers.tagType
    {
      tag = UInt16(bytes[14]) << 8 | UInt16(bytes[15])
      status = 0x08
      skipped = 4
    }
    UnsafeMutableRawBufferPointer(rebasing: copy.prefix(12)).copyMemory(
      from: UnsafeRawBufferPointer(rebasing: bytes.prefix(12)))
    UnsafeMutableRawBufferPointer(rebasing: copy[12..<bytes.count - skipped]).copyMemory(
      from: UnsafeRawBufferPointer(rebasing: bytes[(12 + skipped)...]))
    var count = bytes.count - skipped
    if header.needsChecksum, Int(header.checksumStart) >= 12 + skipped {
      InternetChecksum.complete(
        UnsafeMutableRawBufferPointer(rebasing: copy.prefix(count)),
        start: header.checksumStart - UInt16(skipped), offset: header.checksumOffset)
    }
    status |= registers.checksumStatus(header, isPlain: copy[12] == 8 && copy[13] == 0)
    // Room is left by `frameLimit`.
    var wanted = max(count, Self.wireMinimum)
    if !registers.stripsChecksum { wanted += Self.checksumSize }
    wanted = min(wanted, copy.count)
    while count < wanted {
      copy[count] = 0
      count += 1
    }
    return WireFrame(
      bytes: UnsafeRawBufferPointer(rebasing: copy.prefix(count)), status: status, tag: tag)
  }
}
