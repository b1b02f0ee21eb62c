import CLinux
import ConsoleUI
import Inventory
import Platform

/// How busy each virtual processor of a machine is, from the processor time of its host's threads `cpu0`, `cpu1`, ...
/// (/proc/PID/task/TID/stat, proc(5)).
struct ProcessorSampler {
  private struct Thread {
    var identifier: String
    var index: Int
    var ticks: UInt64 = 0
  }

  private let process: Int32
  private var threads: [Thread] = []
  private var lastTime: UInt64 = 0
  private(set) var shares: [Double] = []

  init(process: Int32) {
    self.process = process
  }

  func isOf(_ process: Int32) -> Bool { self.process == process }

  /// Measures the time since the last call.
  mutating func sample() {
    let now = MonotonicClock.now
    if threads.isEmpty { findThreads() }
    guard !threads.isEmpty else { return }
    let seconds = Double(now &- lastTime) / 1e9
    let hertz = Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
    var new = [Double](repeating: 0, count: (threads.map(\.index).max() ?? 0) + 1)
    for place in threads.indices {
      guard let ticks = Self.ticks("/proc/\(process)/task/\(threads[place].identifier)/stat") else {
        threads = []
        shares = []
        return
      }
      let used = Double(ticks &- threads[place].ticks) / hertz
      new[threads[place].index] =
        ticks < threads[place].ticks ? 0 : min(1, used / max(0.01, seconds))
      threads[place].ticks = ticks
    }
    if lastTime > 0 { shares = new }
    lastTime = now
  }

  private mutating func findThreads() {
    let folder = "/proc/\(process)/task"
    for name in (try? FileReading.entries(of: folder)) ?? [] {
      let text = String(decoding: LogTail.head("\(folder)/\(name)/comm", limit: 32), as: UTF8.self)
      let word = text.prefix { $0 != "\n" }
      guard word.hasPrefix("cpu"), let index = Int(word.dropFirst(3)), (0..<64).contains(index)
      else {
        continue
      }
      let ticks = Self.ticks("\(folder)/\(name)/stat") ?? 0
      threads.append(Thread(identifier: name, index: index, ticks: ticks))
    }
    lastTime = 0
  }

  /// User and system time: fields 14 and 15, counted from the parenthesis that ends the name.
  private static func ticks(_ path: String) -> UInt64? {
    let text = String(decoding: LogTail.head(path, limit: 1024), as: UTF8.self)
    guard let end = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count > 12, let user = UInt64(fields[11]), let system = UInt64(fields[12]) else {
      return nil
    }
    return user &+ system
  }
}
