import Glibc
import Hosting
import Platform
import TestGuests
import Testing

private let missing: String? = {
  if let reason = NetworkedMachine.missing { return reason }
  return access("/usr/bin/gdb", X_OK) == 0 ? nil : "needs /usr/bin/gdb"
}()

/// Debian's gdb with a Linux guest on two software processors.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct GDBTests {
  /// Runs gdb on the machine with these commands; what it says.
  private func debug(_ machine: NetworkedMachine, _ commands: [String]) throws -> String {
    let result = try TestProcess.run(
      [Underjack.program, "gdb", machine.name, "--", "-nx", "-q", "-batch"]
        + commands.flatMap { ["-ex", $0] },
      environment: machine.uj.environment.merging(["HOME": machine.uj.folder]) { $1 },
      seconds: 120)
    return result.output
  }

  @Test("it breaks in a function of the kernel, steps, watches, and lets the guest go on")
  func linux() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(
      uj, "gdb_1", networks: [], append: "nokaslr nodhcp", processors: 2)
    let symbols = try machine.run("grep -w -e __x64_sys_openat -e jiffies /proc/kallsyms")
    func address(_ name: String) throws -> String {
      let line = symbols.split(whereSeparator: \.isNewline).first { $0.hasSuffix(" \(name)") }
      return try #require(line?.split(separator: " ").first.map { "0x" + $0 })
    }
    let function = try address("__x64_sys_openat")
    let jiffies = try address("jiffies")
    try machine.line.type("while :; do cat /proc/version > /dev/null; done")

    let text = try debug(
      machine,
      [
        "info threads", "break *\(function)", "continue", "printf \"AT %lx\\n\", $rip",
        "x/i $rip", "stepi", "printf \"THEN %lx\\n\", $rip", "p/x $cr0", "p $cs & 3",
        "p $eflags", "continue", "printf \"AGAIN %lx\\n\", $rip", "delete",
        "watch *(long *)\(jiffies)",
        "continue", "monitor dump", "detach",
      ])
    print(text)
    #expect(text.contains("Breakpoint 1, \(function)") || text.contains("Breakpoint 1, 0x"))
    let digits = function.dropFirst(2)
    #expect(text.contains("AT \(digits)"))
    #expect(text.contains("AGAIN \(digits)"))
    #expect(text.contains("THEN "))
    #expect(!text.contains("THEN \(digits)"))
    // Protection and paging; kernel mode.
    #expect(text.contains("= 0x8005003") || text.contains("= 0x80050"))
    #expect(text.contains("= 0\n"))
    #expect(text.contains("Old value = "))
    #expect(text.contains("RFLAGS="))
    #expect(text.contains("processor 1: "))
    #expect(text.contains("detached"))

    // The guest never heard of it.
    try machine.line.type("\u{3}")
    #expect(try machine.run("echo alive $((6*7))").contains("alive 42"))
    let status = try JSONValue(parsing: uj.run("rpc", machine.name, "status"))
    #expect(status["state"]?.string == "running")
  }

  @Test("a debugger that is killed leaves a guest that runs; a second one is turned away")
  func killed() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let machine = try NetworkedMachine(uj, "gdb_2", networks: [], append: "nodhcp")
    let program = Underjack.program
    let name = machine.name
    let command = """
      \(program) gdb \(name) -- -nx -q -batch -ex 'shell sleep 6' & pid=$!
      sleep 2; \(program) status \(name); \(program) rpc \(name) debugger.attach; kill -9 $pid
      for i in 1 2 3 4 5 6 7 8 9 10; do
        \(program) status \(name) | grep running && break
        sleep 1
      done
      """
    let text = try TestProcess.run(
      ["/bin/sh", "-c", command], environment: uj.environment, seconds: 60
    ).output
    #expect(text.contains("a debugger is attached already"), "\(text)")
    #expect(text.contains("paused"), "\(text)")
    #expect(text.contains("running"), "\(text)")
    #expect(try machine.run("echo alive $((6*7))").contains("alive 42"))
  }
}
