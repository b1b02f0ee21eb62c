import KVM
import Platform
import TestGuests
import Testing

/// Debian's stock kernel, from `uj run --kernel` to a shell that answers and to its own power-off.
@Suite(.serialized, .enabled(if: LinuxGuest.missing == nil, "\(LinuxGuest.missing ?? "")"))
struct LinuxTests {
  private func boot(_ options: String, processors: Int) throws {
    let files = try LinuxGuest.prepared.get()
    let uj = try Underjack()
    defer { uj.close() }
    let session = try TerminalSession("/bin/sh", environment: uj.environment)
    defer { session.close() }
    try session.type(
      "\(Underjack.program) run \(options) --cpus \(processors) -m 256M --kernel \(files.kernel) "
        + "--initrd \(files.initrd) --append 'console=ttyS0 quiet'; echo status $?")
    try session.press("Enter")
    try session.wait(for: "/ #", seconds: 120)
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
    // The same sum of the same bytes, through the guest's own floating point and integer code.
    try session.type("clear; md5sum /bin/busybox; poweroff -f")
    try session.press("Enter")
    try session.wait(for: "status 0", seconds: 30)
  }

  @Test("the software processor boots it to a shell")
  func softwareProcessor() throws {
    try boot("--accel soft", processors: 1)
  }

  @Test("four software processors boot it to a shell")
  func softwareProcessors() throws {
    try boot("--accel soft", processors: 4)
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
