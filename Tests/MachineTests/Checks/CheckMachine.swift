import Devices
import GuestMemory
import Machine
import Platform
import TestGuests

/// A machine that runs the check guest, and the host's part of the talk with it.
final class CheckMachine: Sendable {
  private struct Seen {
    var output: [UInt8] = []
    var end: MachineEnd?
  }

  private final class Recorder: CharacterBackend {
    let seen = Monitor(Seen())
    func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
      seen.update { $0.output += bytes }
    }
    func guestCanReceive() {}
  }

  /// One way to run the guest.
  struct Setup: Sendable, CustomStringConvertible {
    var entry: CheckGuest
    var processors = 1
    var chip = InterruptChip.kernel
    var accelerator = Accelerator.kvm
    var description: String {
      accelerator == .soft
        ? "\(entry.rawValue), \(processors) vCPU, software processor"
        : "\(entry.rawValue), \(processors) vCPU, \(chip.rawValue) chips"
    }
  }

  static let commandLine = "one two=3"
  private static let diskSectors: UInt32 = 2048
  private static let discBlocks: UInt32 = 64

  let setup: Setup
  let diskPath: String
  /// The disk on the SATA adapter.
  let serialDiskPath: String
  private let machine: Machine
  private let recorder: Recorder

  init(_ setup: Setup) throws {
    self.setup = setup
    let folder = try TestFolder.make("check")
    diskPath = "\(folder)/disk.raw"
    try Self.write(
      to: diskPath,
      Self.numbered(Self.diskSectors, size: 512, text: "sector") { $0[511] = UInt8($1 & 0xFF) })
    serialDiskPath = "\(folder)/serial.raw"
    try Self.write(
      to: serialDiskPath,
      Self.numbered(Self.diskSectors, size: 512, text: "ata") { $0[511] = UInt8($1 & 0xFF) })
    try Self.write(
      to: "\(folder)/disc.iso", Self.numbered(Self.discBlocks, size: 2048, text: "cd") { _, _ in })
    var configuration = MachineConfiguration(name: "check")
    configuration.accelerator = setup.accelerator
    configuration.memorySize = 64 << 20
    configuration.processorCount = setup.processors
    configuration.interruptChip = setup.chip
    configuration.hasDebugExit = true
    configuration.disks = [DiskConfiguration(path: diskPath, format: .raw, serial: "CHECKDISK")]
    var serialDisk = DiskConfiguration(path: serialDiskPath, format: .raw, serial: "CHECKDISK")
    serialDisk.bus = .ahci
    configuration.disks.append(serialDisk)
    configuration.opticalDrive = OpticalDriveConfiguration(path: "\(folder)/disc.iso")
    let image = try setup.entry.path()
    configuration.boot =
      setup.entry == .firmware
      ? .firmware(path: image)
      : .kernel(path: image, initrd: nil, commandLine: Self.commandLine)
    let recorder = Recorder()
    self.recorder = recorder
    machine = try Machine(configuration, serialBackends: [recorder]) { event in
      if case .ended(let end) = event { recorder.seen.update { $0.end = end } }
    }
    try machine.start()
  }

  deinit { machine.stop() }

  /// Runs the checks of one boot to their end, or to the machine's.
  ///
  /// - Parameter words: what the guest may execute.
  func check(_ words: [String], seconds: UInt64 = 30) throws -> CheckReport {
    var report = CheckReport()
    let deadline = MonotonicClock.now + seconds * 1_000_000_000
    var asked: UInt64 = 0
    while true {
      guard let line = nextLine(until: deadline) else {
        report.brokeOff = "\(recorder.seen.read { $0.end.map { "\($0)" } ?? "no answer" })"
        return report
      }
      if line.hasPrefix("check guest") && !report.greeting.isEmpty {
        report.brokeOff = "reset by the guest or a triple fault"
        return report
      }
      report.add(line, asked: asked, now: MonotonicClock.now)
      switch line.utf8.first {
      case _ where line == "end": return report
      case _ where line == "options?":
        send(
          (words + (setup.entry == .linux64 ? [] : ["long"]) + ["cpus=\(setup.processors)"])
            .joined(separator: " ") + "\n")
      case UInt8(ascii: "?"):
        asked = MonotonicClock.now
        send(String(line.dropFirst().prefix(1)))
      case _ where line == "press power": machine.pressPowerButton()
      default: break
      }
    }
  }

  /// Types to the guest.
  func send(_ text: String) {
    var bytes = Array(text.utf8)
    let deadline = MonotonicClock.now + 5_000_000_000
    while !bytes.isEmpty && MonotonicClock.now < deadline {
      bytes.removeFirst(bytes.withUnsafeBytes { machine.serialDevices.first?.offer($0) ?? 0 })
    }
  }

  /// Waits until the run has ended, and says how; nil if it does not end.
  func end(seconds: UInt64 = 10) -> MachineEnd? {
    recorder.seen.wait(until: MonotonicClock.now + seconds * 1_000_000_000) { $0.end }
  }

  /// nil when the machine has ended, or time has run out.
  private func nextLine(until deadline: UInt64) -> String? {
    recorder.seen.wait(until: deadline) { seen -> String?? in
      if let newline = seen.output.firstIndex(of: UInt8(ascii: "\n")) {
        let line = String(decoding: seen.output[..<newline], as: UTF8.self)
        seen.output.removeFirst(newline + 1)
        return .some(line)
      }
      return seen.end == nil ? nil : .some(nil)
    } ?? nil
  }

  /// Blocks that begin with their number and a text.
  private static func numbered(
    _ count: UInt32, size: Int, text: String, _ finish: (inout [UInt8], UInt32) -> Void
  ) -> [UInt8] {
    (0..<count).flatMap { number in
      var block = [UInt8](repeating: UInt8(ascii: "."), count: size)
      for byte in 0..<4 { block[byte] = UInt8(number >> (8 * UInt32(byte)) & 0xFF) }
      block.replaceSubrange(4..<(4 + text.utf8.count), with: Array(text.utf8))
      finish(&block, number)
      return block
    }
  }

  private static func write(to path: String, _ bytes: [UInt8]) throws {
    guard TestFile.write(bytes, to: path) else { throw TestGuestError("cannot write \(path)") }
  }
}
