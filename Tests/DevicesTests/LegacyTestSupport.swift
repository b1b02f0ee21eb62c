import DeviceFuzzing
import Devices
import Foundation
import Processor
import Synchronization
import Testing

/// Machine time that a test moves by hand; timers fire in the order of their deadlines.
final class HandClock: MachineClock, @unchecked Sendable {
  private final class Timer: MachineTimer, @unchecked Sendable {
    let body: @Sendable () -> Void
    var deadline: MachineTime?
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    func set(deadline: MachineTime?) { self.deadline = deadline }
  }

  private(set) var now = MachineTime(rawValue: 0)
  private var timers: [Timer] = []
  private(set) var fired = 0

  func makeTimer(_ body: @escaping @Sendable () -> Void) -> any MachineTimer {
    let timer = Timer(body)
    timers.append(timer)
    return timer
  }

  func advance(nanoseconds: UInt64) {
    let end = now.advanced(nanoseconds: nanoseconds)
    while let next = timers.filter({ $0.deadline.map { $0 <= end } ?? false })
      .min(by: { $0.deadline! < $1.deadline! })
    {
      now = max(now, next.deadline!)
      next.deadline = nil
      fired += 1
      next.body()
    }
    now = end
  }

  /// Time passes and no timer fires: a host that was busy.
  func jump(nanoseconds: UInt64) { now = now.advanced(nanoseconds: nanoseconds) }

  var hasDeadline: Bool { timers.contains { $0.deadline != nil } }
}

/// Levels and rising edges of every line.
final class LineRecorder: InterruptSink, @unchecked Sendable {
  private(set) var levels: [UInt32: Bool] = [:]
  private(set) var rises: [UInt32: Int] = [:]
  private(set) var messages: [MessageInterrupt] = []
  func setLine(_ number: UInt32, asserted: Bool) {
    if asserted && levels[number] != true { rises[number, default: 0] += 1 }
    levels[number] = asserted
  }
  func deliver(_ message: MessageInterrupt) { messages.append(message) }
  func level(_ number: UInt32) -> Bool { levels[number] ?? false }
  func rises(_ number: UInt32) -> Int { rises[number] ?? 0 }
}

/// What a guest sent; answers to `guestCanReceive` are counted.
final class ByteRecorder: CharacterBackend, @unchecked Sendable {
  private(set) var bytes: [UInt8] = []
  private(set) var batches = 0
  private(set) var invitations = 0
  var onBatch: (() -> Void)?
  func guestDidSend(_ sent: UnsafeRawBufferPointer) {
    bytes.append(contentsOf: sent)
    batches += 1
    onBatch?()
  }
  func guestCanReceive() { invitations += 1 }
}

extension CharacterDevice {
  func offer(_ bytes: [UInt8]) -> Int { bytes.withUnsafeBytes { offer($0) } }
}

extension BusDevice {
  func read8(_ offset: UInt64) -> UInt8 {
    UInt8(truncatingIfNeeded: read(at: offset, width: .byte))
  }
  func write8(_ offset: UInt64, _ value: UInt8) {
    write(at: offset, width: .byte, value: UInt64(value))
  }
}

extension Chip {
  mutating func read8(_ offset: UInt64, _ now: MachineTime = MachineTime(rawValue: 0)) -> UInt8 {
    advance(to: now)
    return UInt8(truncatingIfNeeded: read(at: offset, width: .byte, now: now))
  }
  mutating func write8(
    _ offset: UInt64, _ value: UInt8, _ now: MachineTime = MachineTime(rawValue: 0)
  ) {
    advance(to: now)
    write(at: offset, width: .byte, value: UInt64(value), now: now)
  }
}

/// Drives a chip with random accesses of every width at every offset and random steps of time. Now and then the chip
/// is saved, encoded, decoded and restored into a fresh one, which must from then on behave the same.
func fuzz<Model: Chip & Snapshottable>(
  _ fresh: Model, offsets: ClosedRange<UInt64>, seed: UInt64, accesses: Int = 100_000,
  input: (inout Model, inout SeededGenerator, MachineTime) -> Void = { _, _, _ in },
  invariant: (Model) -> Bool = { _ in true }
) throws where Model.State: Equatable {
  var random = SeededGenerator(seed: seed)
  var chip = fresh
  var twin: Model?
  var now = MachineTime(rawValue: 1)
  for index in 0..<accesses {
    if index % (accesses / 8) == accesses / 16 {
      let data = try JSONEncoder().encode(chip.saveState())
      var copy = fresh
      copy.restoreState(try JSONDecoder().decode(Model.State.self, from: data))
      twin = copy
    }
    let step =
      switch random.next() % 16 {
      case 0: random.next() % 3_000_000_000
      case 1...4: random.next() % 1_000_000
      default: random.next() % 1000
      }
    now = now.advanced(nanoseconds: step)
    let offset =
      random.next() % 64 == 0 ? random.next() : UInt64.random(in: offsets, using: &random)
    let width = AccessWidth.allCases.randomElement(using: &random)!
    let value = random.next() & width.mask
    let action = random.next() % 8
    let inputSeed = random.next()
    func act(_ model: inout Model) -> (UInt64, UInt32, UInt32, BoardRequests, MachineTime?) {
      model.advance(to: now)
      var result: UInt64 = 0
      switch action {
      case 0:
        var own = SeededGenerator(seed: inputSeed)
        input(&model, &own, now)
      case 1...3: result = model.read(at: offset, width: width, now: now)
      default: model.write(at: offset, width: width, value: value, now: now)
      }
      var pulses: UInt32 = 0
      var rounds = 0
      while case let more = model.takePulses(), more != 0 {
        pulses |= more
        rounds += 1
        if rounds > 10_000 { break }
      }
      if rounds > 10_000 { Issue.record("pulses without end at access \(index)") }
      return (result, model.outputs, pulses, model.takeRequests(), model.deadline)
    }
    let first = act(&chip)
    if var copy = twin {
      let second = act(&copy)
      if first != second {
        Issue.record("the restored chip differs at access \(index): \(first) and \(second)")
        return
      }
      twin = copy
    }
    if !invariant(chip) {
      Issue.record("invariant broken at access \(index)")
      return
    }
  }
  if let twin { #expect(twin.saveState() == chip.saveState()) }
  try restoreDamaged(chip, fresh: fresh, offsets: offsets, now: now, random: &random)
}

/// Restores snapshots in which numbers were replaced by others: nothing that decodes may trap or hang.
private func restoreDamaged<Model: Chip & Snapshottable>(
  _ chip: Model, fresh: Model, offsets: ClosedRange<UInt64>, now: MachineTime,
  random: inout SeededGenerator
) throws {
  let text = String(decoding: try JSONEncoder().encode(chip.saveState()), as: UTF8.self)
  let numbers = text.matches(of: /[:,\[](-?[0-9]+)/).map { $0.output.1 }
  let odd = [
    "0", "1", "7", "255", "65535", "4294967295", "9223372036854775807", "18446744073709551615",
    "-1", "-9223372036854775808",
  ]
  var decoded = 0
  for _ in 0..<400 {
    var damaged = text
    let count = Int(random.next() % 3) + 1
    var chosen = Array(numbers.shuffled(using: &random).prefix(count))
    chosen.sort { $0.startIndex > $1.startIndex }
    for number in chosen {
      damaged.replaceSubrange(
        number.startIndex..<number.endIndex, with: odd.randomElement(using: &random)!)
    }
    guard let state = try? JSONDecoder().decode(Model.State.self, from: Data(damaged.utf8)) else {
      continue
    }
    decoded += 1
    var victim = fresh
    victim.restoreState(state)
    var time = now
    for _ in 0..<40 {
      time = time.advanced(nanoseconds: random.next() % 100_000_000)
      victim.advance(to: time)
      let offset = UInt64.random(in: offsets, using: &random)
      let width = AccessWidth.allCases.randomElement(using: &random)!
      if random.next() & 1 == 0 {
        _ = victim.read(at: offset, width: width, now: time)
      } else {
        victim.write(at: offset, width: width, value: random.next() & width.mask, now: time)
      }
      _ = (victim.outputs, victim.takeRequests(), victim.deadline)
      var rounds = 0
      while victim.takePulses() != 0, rounds < 10_000 { rounds += 1 }
      #expect(rounds < 10_000)
    }
  }
  #expect(decoded > 50)
}
