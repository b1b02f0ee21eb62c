import CLinux
import Inventory
import Machine
import Platform
import StateFile

/// The sending end of a machine's stream.
final class MoveSender: MovingTarget, @unchecked Sendable {
  // @unchecked: one thread at a time, see `MovingTarget`.
  private let channel: MoveChannel
  /// What is written down of who has the machine.
  enum Mark {
    /// It will be given away: lasts when the call comes back, and waits for a disk.
    case soon
    /// It may run elsewhere. Waits for no disk.
    case gone
    /// It does not.
    case here
  }
  private let mark: (Mark) throws -> Void
  private(set) var executionTime: UInt64?
  private var number: UInt64 = 0

  /// Nanoseconds in which the other side starts the machine.
  private static let startPatience: UInt64 = 90_000_000_000
  /// Nanoseconds for a side that is gone to have said why.
  private static let lastWordsPatience: UInt64 = 3_000_000_000
  private static let chunk = 256 << 10

  init(_ channel: MoveChannel, mark: @escaping (Mark) throws -> Void) {
    self.channel = channel
    self.mark = mark
  }

  // MARK: Before memory and disks

  /// Says what comes, and waits until the other side wants it.
  func open(_ machine: MovingMachine) throws(MoveError) {
    try guarded { () throws(MoveError) in
      try channel.greet()
      let description = machine.encoded
      guard description.count <= MoveFrame.contentLimit else {
        throw MoveError.damaged("the machine's description is too large")
      }
      try channel.send(.machine, description)
    }
    if channel.hasAnswers { _ = try expect(.accepted) }
  }

  /// - Parameter size: as was said before; the file has no other by now.
  func send(_ file: MovingFile, _ path: String, size: UInt64) throws {
    let source = try FileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
    var chunk = [UInt8](repeating: 0, count: Self.chunk)
    var done: UInt64 = 0
    while done < size {
      let wanted = Int(min(UInt64(Self.chunk), size - done))
      let count = try chunk.withUnsafeMutableBytes { bytes in
        try source.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<wanted]))
      }
      guard count > 0 else {
        throw HostingError(.io, "\(path): has become shorter while it was sent")
      }
      try chunk.withUnsafeBytes { bytes in
        try guarded { () throws(MoveError) in
          try channel.send(
            .file, part: file.rawValue, place: done,
            UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        }
      }
      done += UInt64(count)
    }
  }

  /// Tells the other side that nothing comes of it.
  func withdraw(_ reason: String) {
    channel.deadline = MonotonicClock.now &+ Self.lastWordsPatience
    try? channel.send(.withdrawn, line: reason)
  }

  // MARK: MovingTarget

  func sendMemory(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
    try guarded { () throws(MoveError) in try channel.send(.memory, place: offset, bytes) }
  }

  func sendMemoryZeros(count: UInt64, at offset: UInt64) throws {
    try guarded { () throws(MoveError) in
      try channel.send(.memoryZeros, place: offset, number: count)
    }
  }

  func sendDisk(_ disk: Int, _ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
    try guarded { () throws(MoveError) in
      try channel.send(.disk, part: UInt8(clamping: disk), place: offset, bytes)
    }
  }

  func sendDiskZeros(_ disk: Int, count: UInt64, at offset: UInt64) throws {
    try guarded { () throws(MoveError) in
      try channel.send(.diskZeros, part: UInt8(clamping: disk), place: offset, number: count)
    }
  }

  func synchronize() throws {
    guard channel.hasAnswers else { return }
    number += 1
    try guarded { () throws(MoveError) in try channel.send(.synchronize, place: number) }
    guard try expect(.synchronized).place == number else {
      throw MoveError.damaged("an answer is to another question")
    }
  }

  func prepareHandOver() throws { try mark(.soon) }

  func beginStandstill(until deadline: UInt64) { channel.deadline = deadline }

  func handOver(_ manifest: StateManifest) throws -> HandOver {
    let bytes = manifest.encoded
    var place = 0
    while place < bytes.count {
      let end = min(place + Self.chunk, bytes.count)
      let part = Array(bytes[place..<end])
      try guarded { () throws(MoveError) in
        try channel.send(.manifest, place: UInt64(place), part)
      }
      place = end
    }
    try guarded { () throws(MoveError) in
      try channel.send(.complete, place: UInt64(bytes.count))
    }
    // First of all this machine must never be started here again by itself, whatever happens to this process; and after a
    // power cut not either, which `prepareHandOver` has seen to.
    try mark(.gone)
    do throws(MoveError) {
      if channel.hasAnswers { _ = try expect(.ready) }
      try channel.send(.handOver)
    } catch {
      // Not all of that frame went out: nobody can have understood it.
      try mark(.here)
      throw error
    }
    guard channel.hasAnswers else { return .uncertain }
    channel.deadline = MonotonicClock.now &+ Self.startPatience
    do throws(MoveError) {
      if try expect(.executes, or: .runs).kind == .executes {
        executionTime = MonotonicClock.now
        _ = try expect(.runs)
      }
      return .done
    } catch {
      guard case .refused = error else { return .uncertain }
      try mark(.here)
      throw error
    }
  }

  // MARK: Answers

  private func expect(
    _ kind: MoveFrame.Kind, or other: MoveFrame.Kind? = nil
  ) throws(MoveError) -> MoveFrame {
    let frame = try channel.receive()
    if frame.kind == .failed { throw .refused(channel.line(of: frame)) }
    guard frame.kind == kind || frame.kind == other else {
      throw .damaged("an answer came that was not asked for")
    }
    return frame
  }

  /// Where the other side has given up meanwhile, its reason is what counts.
  private func guarded(_ body: () throws(MoveError) -> Void) throws(MoveError) {
    if channel.isReadable { try hearLastWords() }
    do throws(MoveError) {
      try body()
    } catch {
      if error == .ended, channel.hasAnswers {
        channel.deadline = MonotonicClock.now &+ Self.lastWordsPatience
        try hearLastWords()
      }
      throw error
    }
  }

  /// The one thing that the other side says without being asked.
  private func hearLastWords() throws(MoveError) {
    let frame = try channel.receive()
    guard frame.kind == .failed else { throw .damaged("an answer came that was not asked for") }
    throw .refused(channel.line(of: frame))
  }
}
