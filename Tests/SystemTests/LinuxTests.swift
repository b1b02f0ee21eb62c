import Glibc
import KVM
import Platform
import TestGuests
import Testing

private let emulatesKernelMode =
  if case .emulatesSupervisorMode = KVMSystem.probe() { true } else { false }

/// Debian's stock kernel, from `uj run --kernel` to a shell that answers and to its own power-off.
@Suite(.serialized, .enabled(if: LinuxGuest.missing == nil, "\(LinuxGuest.missing ?? "")"))
struct LinuxTests {
  private func boot(_ options: String, processors: Int, isIdleMeasured: Bool = false) throws {
    let files = try LinuxGuest.prepared.get()
    let uj = try Underjack()
    defer { uj.close() }
    let session = try TerminalSession("/bin/sh", environment: uj.environment)
    defer { session.close() }
    try session.type(
      "\(Underjack.program) run \(options) --cpus \(processors) -m 256M --kernel \(files.kernel) "
        + "--initrd \(files.initrd) --append 'console=ttyS0 quiet'; echo status $?")
    try session.press("Enter")
    try session.wait(for: "/ #", seconds: 300)
    try session.type(
      "clear; echo $((6*7))-$(grep -c ^processor /proc/cpuinfo)-; cat /proc/interrupts")
    try session.press("Enter")
    // The processors' own timers tick on all of them.
    let columns = (0..<processors).map { "CPU\($0)" }.joined(separator: "       ")
    let screen = try session.wait("answers", seconds: 30) {
      $0.contains("42-\(processors)-") && $0.contains(columns) && $0.contains("LOC:")
    }
    let timer = screen.split(separator: "\n").first { $0.contains("LOC:") }
    let counts = timer?.split(separator: " ").dropFirst().prefix(processors) ?? []
    #expect(counts.count == processors && counts.allSatisfy { Int($0) ?? 0 > 0 }, "\(screen)")
    if isIdleMeasured {
      let share = try idleShare(of: session)
      #expect(share < 0.01, "a guest at its prompt costs \(share * 100) % of a core")
    }
    // The same sum of the same bytes, through the guest's own floating point and integer code.
    try session.type("clear; md5sum /bin/busybox; poweroff -f")
    try session.press("Enter")
    try session.wait(for: "status 0", seconds: 30)
  }

  /// CPU time per time of the `uj` that runs in a terminal: the least of a few whiles, because a guest that has just
  /// started has work of its own.
  private func idleShare(of session: TerminalSession) throws -> Double {
    let children = try TestProcess.run(
      ["/usr/bin/pgrep", "-P", "\(session.processIdentifier())", "-x", "uj"])
    let process = try #require(pid_t(children.output.filter(\.isNumber)))
    var least = Double.infinity
    for _ in 0..<4 where least >= 0.01 {
      let start = try processorTime(of: process)
      usleep(4_000_000)
      least = min(least, (Double(try processorTime(of: process)) - Double(start)) / 4e9)
    }
    return least
  }

  /// Nanoseconds of all threads (Linux Documentation/scheduler/sched-stats.rst).
  private func processorTime(of process: pid_t) throws -> UInt64 {
    let files = try TestProcess.run(["/bin/sh", "-c", "cat /proc/\(process)/task/*/schedstat"])
    return files.output.split(separator: "\n").reduce(0) { sum, line in
      sum + (line.split(separator: " ").first.flatMap { UInt64($0) } ?? 0)
    }
  }

  @Test("the software processor boots it to a shell, where it sleeps soundly")
  func softwareProcessor() throws {
    try boot("--accel soft", processors: 1, isIdleMeasured: true)
  }

  @Test("four software processors boot it to a shell")
  func softwareProcessors() throws {
    try boot("--accel soft", processors: 4)
  }

  /// The kernel's emulator alone would take an hour, and stop for good at instructions that it lacks.
  @Test(
    "KVM that emulates kernel mode gets it to a shell, with software's help",
    .enabled(if: emulatesKernelMode, "this host's KVM is missing, or executes kernel mode itself"))
  func emulatedKernelMode() throws {
    try boot("--accel kvm", processors: 1)
  }

  @Test(
    "KVM boots it to a shell",
    .enabled(
      if: KVMSystem.probe() == .full,
      "KVM here is missing, or emulates the guest's kernel mode, where this takes too long"),
    arguments: [1, 4])
  func kernel(_ processors: Int) throws {
    try boot("--accel kvm", processors: processors)
  }
}
