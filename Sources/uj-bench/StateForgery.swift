import ArgumentParser
import CLinux
import DeviceFuzzing
import Devices
import Glibc
import GuestMemory
import Machine
import Networks
import Platform
import StateFile

/// `uj-bench forge`: saved states whose values were altered, with checksums that are right, restored into machines.
///
/// A value that cannot be is to be refused with a line; whatever is taken must not bring this process down.
struct StateForgery: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "forge", abstract: "Restores forged states; what is wrong ends this program.")

  @Option(help: "How many.") var count = 10_000
  @Option(help: "Where the random numbers begin.") var seed: UInt64 = 1
  @Option(help: "Milliseconds for which a machine runs on a forged state.") var milliseconds:
    UInt32 = 2
  @Flag(help: "Say before each what is altered.") var verbose = false

  func run() throws {
    let folder = try temporaryFolder("forge")
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    var configuration = try Self.configuration(in: folder)
    let path = "\(folder)/true.state"
    let machine = try Self.machine(configuration)
    try machine.start()
    usleep(300_000)
    _ = try machine.saveState(to: path, SaveOptions(ends: true)) {}
    machine.stop()
    let reader = try StateFileReader(path: path)
    let memory = try reader.makeMemory(hugePages: .system)
    var random = SeededGenerator(seed: seed)
    var refused = 0
    var reasons: [String: Int] = [:]
    let start = MonotonicClock.now
    configuration.savedState = "\(folder)/forged.state"
    for number in 0..<count {
      var manifest = reader.manifest
      var what: [String] = []
      for _ in 0...Int(random.next() % 3) {
        let index = Int(random.next() % UInt64(manifest.sections.count))
        let place = StateForge.alter(&manifest.sections[index].state, &random)
        what.append("\(manifest.sections[index].name)\(place)")
      }
      if verbose {
        FileHandle.writeError("\(number): \(what.joined(separator: "; "))\n")
      }
      let writer = try StateFileWriter(
        path: "\(folder)/forged.state", memorySize: reader.memorySize)
      try writer.write(memory)
      try writer.finish(manifest)
      try writer.commit()
      do {
        let forged = try Self.machine(configuration)
        defer { forged.stop() }
        try forged.start()
        usleep(milliseconds * 1000)
      } catch {
        refused += 1
        let text = "\(error)"
        guard !text.contains("\n") else { throw BenchmarkError("several lines: \(text)") }
        reasons[String(text.drop { $0 != ":" }.prefix(60)), default: 0] += 1
      }
    }
    let seconds = Double(MonotonicClock.now - start) / 1e9
    print(
      "\(count) forged states in \(decimal(seconds, 1)) s: \(refused) refused, none brought us down"
    )
    for (reason, number) in reasons.sorted(by: { $0.value > $1.value }).prefix(verbose ? 100 : 8) {
      print("  \(column("\(number)", 6)) \(reason)")
    }
  }

  /// A machine with one of each device.
  private static func configuration(in folder: String) throws -> MachineConfiguration {
    var configuration = MachineConfiguration(name: "forged")
    configuration.accelerator = .soft
    configuration.memorySize = 8 << 20
    configuration.processorCount = 2
    configuration.display = .vga
    configuration.hasEntropyDevice = true
    configuration.consolePorts = 1
    configuration.opticalDrive = .init(path: nil)
    for (index, bus) in [StorageBus.virtio, .ahci].enumerated() {
      let path = "\(folder)/disk\(index)"
      try writeBytes([UInt8](repeating: 1, count: 1 << 20), to: path)
      var disk = DiskConfiguration(path: path, format: .raw)
      disk.bus = bus
      configuration.disks.append(disk)
    }
    for text in ["user", "user,model=e1000"] {
      configuration.networks.append(try .init(text: text) { $0 })
    }
    configuration.boot = .firmware(path: nil)
    // Network addresses come from it.
    configuration.uuid = [UInt8](repeating: 7, count: 16)
    return configuration
  }

  private static func machine(_ configuration: MachineConfiguration) throws -> Machine {
    try Machine(
      configuration, serialBackends: [NullBackend()], consoleBackends: [NullBackend()]
    ) { _ in }
  }
}

/// Takes everything and says nothing.
private final class NullBackend: CharacterBackend {
  func guestDidSend(_ bytes: UnsafeRawBufferPointer) {}
  func guestCanReceive() {}
}

private enum FileHandle {
  static func writeError(_ text: String) {
    var bytes = Array(text.utf8)
    _ = Glibc.write(2, &bytes, bytes.count)
  }
}
