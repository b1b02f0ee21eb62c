import CChecksum
import CLinux
import DiskImage
import GuestMemory
import Platform
import StateFile

/// One move of a machine: disks and memory are sent while the guest runs, then in rounds what was written meanwhile, and
/// the rest while it stands still.
final class MovingRound: @unchecked Sendable {
  // @unchecked: used by the thread that moves, and by the supervisor while that one waits.

  /// What was written since it was sent.
  private struct Written {
    var memory: [Range<UInt64>] = []
    var disks: [Int: [Range<UInt64>]] = [:]

    var bytes: UInt64 {
      (memory + disks.values.flatMap { $0 }).reduce(0) { $0 &+ UInt64($1.count) }
    }

    static func + (left: Written, right: Written) -> Written {
      Written(
        memory: left.memory + right.memory,
        disks: left.disks.merging(right.disks) { $0 + $1 })
    }
  }

  /// Copies of what was written since the one before, at most.
  private static let roundLimit = 100
  /// Bytes that are looked at at once.
  private static let chunk = 256 << 10
  private static let pageSize = Int(GuestMemory.pageSize)
  /// Milliseconds that requests under way to a disk may take.
  private static let drainMilliseconds = 2000
  /// Nanoseconds beyond the guest's stand-still after which it goes on here, whatever is under way.
  private static let patience: UInt64 = 5_000_000_000
  /// Bytes a nanosecond, before anything was measured.
  private static let assumedRate = 0.1

  private let machine: Machine
  private let options: MovingOptions
  private let target: any MovingTarget
  private let progress: MovingProgress
  private let buffer: UnsafeMutableRawBufferPointer
  /// Notes what is written; nil where nobody can tell.
  private var tracked: Board?
  /// Pages that were sent and are not zeros there.
  private var isSent: [Bool]
  private var pending = Written()
  private var sentBytes: UInt64 = 0
  private var rate = MovingRound.assumedRate
  private var outcome: HandOver?
  /// Why the guest stands still although it was not given away.
  private var failure: (any Error)?

  init(
    _ machine: Machine, to target: any MovingTarget, _ options: MovingOptions,
    _ progress: MovingProgress
  ) {
    self.machine = machine
    self.target = target
    self.options = options
    self.progress = progress
    buffer = .allocate(byteCount: Self.chunk, alignment: 4096)
    isSent = Array(repeating: false, count: Int(machine.parts.memory.size) / Self.pageSize)
  }

  deinit { buffer.deallocate() }

  private var memory: GuestMemory { machine.parts.memory }
  private func image(_ disk: Int) -> ExchangeableDisk { machine.parts.disks[disk].image }

  // MARK: The whole way

  func run() throws -> HandOver {
    defer { stopTracking() }
    try begin()
    // Takes its time, in which the guest writes on.
    try target.prepareHandOver()
    let throttle = GuestThrottle(machine)
    defer { throttle.stop() }
    var least = UInt64.max
    var stalled = 0
    for round in 1...Self.roundLimit {
      let written = try takeWritten(isStopped: false)
      let left = (pending + written).bytes
      progress.update {
        $0.phase = .rounds
        $0.round = round
        $0.left = left
        $0.rate = UInt64(rate * 1e9)
        $0.throttle = throttle.share
      }
      if isShort(left) {
        // What comes meanwhile is the rest.
        try measure { try send(takePending() + written) }
        throttle.setShare(0)
        if let outcome = try handOver() { return outcome }
        guard tracked != nil else { throw cannotTell(memory.touchedRanges()) }
        throttle.setShare(progress.state.throttle)
      } else {
        try measure { try send(takePending() + written) }
      }
      stalled = left > least - least / 8 ? stalled + 1 : 0
      least = min(least, left)
      if stalled >= 2 {
        guard throttle.raise() else { break }
        (stalled, least) = (0, .max)
      }
    }
    let speed = UInt64(rate * 1e9) >> 20
    throw MachineError(
      "\(machine.configuration.name): the guest writes faster than \(speed) MiB/s, which is what "
        + "the connection takes; let it stand still for longer (--downtime), or send it when it rests"
    )
  }

  /// Everything once.
  private func begin() throws {
    // Whatever was noted for the next saved state is taken by this one.
    machine.lastSaved.update { last -> SavingRound.Last? in
      defer { last = nil }
      return last
    }?.board.stopTracking()
    let disks = options.copiedDisks.sorted()
    let size = disks.reduce(memory.size) { $0 &+ image($1).size }
    progress.update {
      $0.phase = .disks
      $0.total = size
    }
    for disk in disks where !image(disk).isReadOnly {
      guard image(disk).startTracking(milliseconds: Self.drainMilliseconds) else {
        throw MachineError("\(image(disk).path): requests do not end; try again")
      }
    }
    for disk in disks {
      try measure { try send(disk, [0..<image(disk).size], isFirst: true) }
    }
    progress.update { $0.phase = .memory }
    _ = try machine.whilePaused { [self] board in
      if try board.startTracking() { tracked = board }
      return .resumes
    }
    let touched = memory.touchedRanges()
    let untouched = memory.size - touched.reduce(0) { $0 + UInt64($1.count) }
    progress.update { $0.done += untouched }
    if tracked == nil {
      // Nobody can tell what the guest writes: all of it while it stands still, or not at all.
      guard isShort(Written(memory: touched).bytes) else { throw cannotTell(touched) }
    } else {
      try measure { for range in touched { try send(range, counts: true) } }
    }
  }

  private func cannotTell(_ touched: [Range<UInt64>]) -> MachineError {
    let seconds = UInt64(Double(Written(memory: touched).bytes) / rate / 1e9) + 1
    return MachineError(
      "\(machine.configuration.name): this accelerator does not tell what the guest writes, so it "
        + "would stand still for \(2 * seconds) s; allow that with --downtime, or suspend it")
  }

  /// A third of the time is for sending; the others are for what the guest writes until it stands still, for the devices'
  /// state and for the start there.
  private func isShort(_ bytes: UInt64) -> Bool {
    Double(bytes) / rate <= Double(options.standstillLimit) / 3
  }

  private func takePending() -> Written {
    defer { pending = Written() }
    return pending
  }

  private func measure(_ body: () throws -> Void) throws {
    let (begin, before) = (MonotonicClock.now, sentBytes)
    try body()
    try target.synchronize()
    let bytes = sentBytes - before
    // Little says more of the way there and back than of how much goes through.
    guard bytes >= 1 << 20 else { return }
    rate = max(Double(bytes) / Double(max(MonotonicClock.now - begin, 1)), 1e-6)
  }

  // MARK: What was written

  private func takeWritten(isStopped: Bool) throws -> Written {
    var written = Written()
    if let tracked {
      guard tracked === machine.board else {
        throw MachineError("\(machine.configuration.name): the guest was reset; send it again")
      }
      written.memory = try tracked.takeWritten(isStopped: isStopped)
    } else if isStopped {
      written.memory = memory.touchedRanges()
    }
    for disk in options.copiedDisks where !image(disk).isReadOnly {
      guard let ranges = image(disk).takeWritten(milliseconds: Self.drainMilliseconds) else {
        throw MachineError("\(image(disk).path): requests do not end; try again")
      }
      if !ranges.isEmpty { written.disks[disk] = ranges }
    }
    return written
  }

  private func stopTracking() {
    // A board that was given away is being taken apart.
    if outcome != .done { tracked?.stopTracking() }
    for disk in options.copiedDisks { image(disk).stopTracking() }
  }

  // MARK: Sending

  private func send(_ written: Written) throws {
    for (disk, ranges) in written.disks.sorted(by: { $0.key < $1.key }) {
      try send(disk, ranges, isFirst: false)
    }
    for range in written.memory { try send(range, counts: false) }
  }

  /// - Parameter counts: is part of the first copy.
  private func send(_ range: Range<UInt64>, counts: Bool) throws {
    var offset = range.lowerBound
    let end = min(range.upperBound, memory.size)
    while offset < end {
      let count = Int(min(UInt64(Self.chunk), end - offset))
      // Looked at once: the guest may be writing there.
      buffer.copyMemory(
        from: UnsafeRawBufferPointer(start: memory.contents + Int(offset), count: count))
      try sendPages(count / Self.pageSize, at: offset)
      offset += UInt64(count)
      if counts { note(UInt64(count)) }
    }
  }

  private func note(_ bytes: UInt64) {
    let sent = sentBytes
    progress.update {
      $0.done += bytes
      $0.sent = sent
    }
  }

  private enum Content { case data, zeros, nothing }

  /// The buffer's pages, runs at a time; zeros only where something else was sent before.
  private func sendPages(_ count: Int, at offset: UInt64) throws {
    guard let base = buffer.baseAddress else { return }
    let first = Int(offset) / Self.pageSize
    var (start, content) = (0, Content.nothing)
    for page in 0...count {
      var next = Content.nothing
      if page < count {
        let isZero = checksum_is_zero(base + page * Self.pageSize, Self.pageSize) != 0
        next = !isZero ? .data : isSent[first + page] ? .zeros : .nothing
        isSent[first + page] = !isZero
        if next == content { continue }
      }
      let place = offset + UInt64(start * Self.pageSize)
      let bytes = (page - start) * Self.pageSize
      switch content {
      case .data:
        try target.sendMemory(
          UnsafeRawBufferPointer(start: base + start * Self.pageSize, count: bytes), at: place)
        sentBytes += UInt64(bytes)
      case .zeros: try target.sendMemoryZeros(count: UInt64(bytes), at: place)
      case .nothing: break
      }
      (start, content) = (page, next)
    }
  }

  /// - Parameter isFirst: what is zeros need not be said.
  private func send(_ disk: Int, _ ranges: [Range<UInt64>], isFirst: Bool) throws {
    let image = image(disk)
    for range in ranges {
      var offset = range.lowerBound
      while offset < range.upperBound {
        let extent = try image.extent(at: offset, limit: range.upperBound - offset)
        var count = max(1, min(extent.count, range.upperBound - offset))
        if extent.isZero {
          if !isFirst { try target.sendDiskZeros(disk, count: count, at: offset) }
        } else {
          count = min(count, UInt64(Self.chunk))
          try sendStretch(disk, image, Int(count), at: offset, isFirst: isFirst)
        }
        offset += count
        if isFirst { note(count) }
      }
    }
  }

  private func sendStretch(
    _ disk: Int, _ image: ExchangeableDisk, _ count: Int, at offset: UInt64, isFirst: Bool
  ) throws {
    let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
    try image.read(into: part, at: offset)
    if count % 64 == 0, checksum_is_zero(part.baseAddress, count) != 0 {
      if !isFirst { try target.sendDiskZeros(disk, count: UInt64(count), at: offset) }
      return
    }
    try target.sendDisk(disk, UnsafeRawBufferPointer(part), at: offset)
    sentBytes += UInt64(count)
  }

  // MARK: The stand-still

  /// - Returns: nil where more was written at last than can be sent in the time: the guest runs on.
  private func handOver() throws -> HandOver? {
    outcome = nil
    for disk in options.sharedDisks where !image(disk).isReadOnly { try image(disk).flush() }
    let began = MonotonicClock.now
    let held = try machine.whilePaused { [self] board in
      progress.update { $0.phase = .standstill }
      let begin = MonotonicClock.now
      // What the processors were in the middle of is done before anybody looks at memory.
      let sections = try board.saveState()
      let rest = try takeWritten(isStopped: true)
      pending = pending + rest
      guard isShort(pending.bytes) else { return .resumes }
      try target.beginStandstill(
        until: begin &+ options.standstillLimit &* 4 &+ Self.patience)
      try send(takePending())
      let manifest = StateManifest(
        created: Int64(time(nil)), facts: machine.parts.facts, sections: sections)
      return try giveAway(manifest)
    }
    progress.update {
      $0.standstill = target.executionTime.map { $0 > began ? min(held, $0 - began) : held } ?? held
    }
    if let failure { throw failure }
    return outcome
  }

  private func giveAway(_ manifest: StateManifest) throws -> PausedWork.After {
    let shared = options.sharedDisks.sorted().map { machine.parts.disks[$0] }
    do {
      for disk in shared { try disk.letGo() }
      let outcome = try target.handOver(manifest)
      self.outcome = outcome
      return outcome == .done ? .ends(.moved) : .stays
    } catch {
      do {
        for disk in shared { try disk.takeBack() }
      } catch let second {
        // A guest without its disks would do more harm than one that stands still.
        failure = MachineError("\(error); and \(second); it is paused here")
        return .stays
      }
      throw error
    }
  }
}
