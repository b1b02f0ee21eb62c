import CLinux
import Hosting
import Platform
import TestGuests
import Testing

private let missing = HardwareGuest.missing

/// Linux with i6300esb and pvpanic, on the software processor.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct WatchdogTests {
  private func state(_ machine: NetworkedMachine) throws -> String {
    try JSONValue(parsing: machine.uj.run("rpc", machine.name, "status"))["state"]?.string ?? ""
  }

  private func waitForState(_ wanted: String, _ machine: NetworkedMachine) throws {
    var now = ""
    for _ in 0..<40 where now != wanted {
      usleep(500_000)
      now = (try? state(machine)) ?? "stopped"
    }
    #expect(now == wanted)
  }

  @Test("a guest that stops feeding its watchdog is reset, and learns why")
  func reset() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(
      uj, "watchdog_1", networks: [], options: ["--watchdog", "reset"],
      guest: HardwareGuest.guest)
    #expect(try machine.run("cat /sys/class/watchdog/watchdog0/identity").contains("i6300ESB"))
    #expect(try !machine.run("cat /sys/class/watchdog/watchdog0/bootstatus").contains("32"))
    // Fed once a second, it lets the guest live.
    _ = try machine.run("watchdog -T 4 -t 1 /dev/watchdog0; sleep 7")
    #expect(try state(machine) == "running")
    try machine.line.type("killall -9 watchdog")
    try machine.line.wait(for: "NETWORK-READY", seconds: 120)
    #expect(
      try machine.uj.run("log", machine.name, "--host").contains("let its watchdog run out"))
    // WDIOF_CARDRESET.
    #expect(try machine.run("cat /sys/class/watchdog/watchdog0/bootstatus").contains("32"))
  }

  @Test("a guest whose kernel panics is paused")
  func panics() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(
      uj, "panic_1", networks: [], options: ["--on-panic", "pause"], guest: HardwareGuest.guest)
    try machine.line.type("echo c > /proc/sysrq-trigger")
    try waitForState("paused", machine)
    #expect(try machine.uj.run("log", machine.name, "--host").contains("kernel has panicked"))
  }
}
