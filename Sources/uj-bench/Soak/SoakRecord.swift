import CLinux
import Glibc
import Platform

/// What a machine of the soak must be: the count that its guest may print next, followed along its serial log.
struct SoakRecord {
  /// A snapshot, with the counts of which one was on the disk when it was taken.
  struct Snapshot {
    var name: String
    var counts: ClosedRange<Int>
    var hasMemory: Bool
  }

  var isRunning = false
  /// The last count that the log showed.
  var last = 0
  /// After a start: of which one is on the disk.
  var expected: ClosedRange<Int>? = 0...0
  /// What the last roll back has left, to which `forward` returns.
  var left: ClosedRange<Int>?
  var snapshots: [Snapshot] = []
  var nextSnapshot = 1
  /// The host's disk was full: its log may lack lines.
  var mayHaveGaps = false
  /// When the guest has shown last that it lives, by `MonotonicClock`.
  var lastSign: UInt64 = 0
  private(set) var faults: [String] = []
  /// The verbs that were last used on it.
  private(set) var history: [String] = []
  private(set) var signs = 0

  private var file: SharedDescriptor?
  private var inode: UInt64 = 0
  private var rest: [UInt8] = []

  /// The counts of which one is on the disk now.
  var present: ClosedRange<Int> { expected ?? last...(last + 1) }

  mutating func remember(_ verb: String) {
    history.append(verb)
    if history.count > 16 { history.removeFirst() }
  }

  mutating func fault(_ text: String) { faults.append(text) }

  /// Reads what has been written to the log since the last call, through its rotation.
  mutating func follow(_ path: String) {
    if file == nil { open(path) }
    read()
    var information = stat()
    if stat(path, &information) == 0, UInt64(information.st_ino) != inode {
      read()
      open(path)
      read()
    }
  }

  private mutating func open(_ path: String) {
    guard let file = try? FileDescriptor.open(path, O_RDONLY) else { return }
    var information = stat()
    guard fstat(file.rawValue, &information) == 0 else { return }
    inode = UInt64(information.st_ino)
    self.file = SharedDescriptor(owning: dup(file.rawValue))
  }

  private mutating func read() {
    guard let file else { return }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = buffer.withUnsafeMutableBytes { (try? file.descriptor.read(into: $0)) ?? 0 }
      if count == 0 { return }
      for byte in buffer[..<count] {
        if byte == UInt8(ascii: "\n") {
          line(String(decoding: rest, as: UTF8.self))
          rest.removeAll(keepingCapacity: true)
        } else if byte != UInt8(ascii: "\r"), rest.count < 4096 {
          rest.append(byte)
        }
      }
    }
  }

  /// A line ends in a dot, or it was cut off by the machine's end.
  private mutating func line(_ text: String) {
    let words = text.split(separator: " ")
    guard words.count >= 2, let end = words.last, end.hasSuffix(".") else { return }
    // The end of a line that was cut off may stand before the word.
    let word = words[words.count - 2]
    if text.contains("BAD place") {
      fault(text)
    } else if let number = Int(end.dropLast()) {
      if word.hasSuffix("BOOT") { booted(number) }
      if word.hasSuffix("COUNT") { counted(number) }
      if word.hasSuffix("REFUSED") { sign() }
    }
  }

  private mutating func sign() {
    signs += 1
    lastSign = MonotonicClock.now
  }

  private mutating func booted(_ number: Int) {
    sign()
    if let expected {
      if !expected.contains(number) { fault("started with \(number), not with \(expected)") }
    } else {
      fault("started by itself after \(last)")
    }
    expected = nil
    last = number
  }

  private mutating func counted(_ number: Int) {
    sign()
    if let expected {
      // Its memory was restored: it goes on without a start.
      let isLate = mayHaveGaps && number > expected.upperBound
      if number < expected.lowerBound || number > expected.upperBound + 1, !isLate {
        fault("went on with \(number), not with \(expected)")
      }
    } else if number != last + 1, !(mayHaveGaps && number > last) {
      fault("counted \(number) after \(last)")
    }
    expected = nil
    mayHaveGaps = false
    last = number
  }
}
