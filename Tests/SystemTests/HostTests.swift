import CLinux
import KVM
import Platform
import TestGuests
import Testing

/// What these tests need and this host lacks.
private let missingForHosts: String? = {
  guard access(Underjack.program, X_OK) == 0 else { return "uj is not built" }
  do {
    _ = try KVMSystem()
    return nil
  } catch {
    return "\(error)"
  }
}()

/// Machines in host processes of their own, by the command line, as scripts use it.
@Suite(.serialized, .enabled(if: missingForHosts == nil, "\(missingForHosts ?? "")"))
struct HostTests {

  private func process(_ uj: Underjack, _ name: String) throws -> Int32 {
    let row = try uj.run("status", name).split(separator: "\n").last ?? ""
    return Int32(row.split(separator: " ").first ?? "") ?? 0
  }

  private func wait(_ uj: Underjack, _ name: String, for state: String) throws -> Bool {
    let deadline = MonotonicClock.now + 10_000_000_000
    while MonotonicClock.now < deadline {
      if try uj.run("status", name).contains(state) { return true }
      usleep(50_000)
    }
    return false
  }

  @Test func lifeOfAMachine() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("new", "t", "--disk", "16M", "--memory", "32M", "--template")
    let begin = MonotonicClock.now
    try uj.run("start", "-t", "t", "a")
    #expect(MonotonicClock.now - begin < 3_000_000_000)
    #expect(try wait(uj, "a", for: "running"))
    let again = try uj("start", "a")
    let host = try process(uj, "a")
    #expect(again.status == 1)
    #expect(again.output == "uj: a: is running already (host process \(host))\n")
    #expect(try uj("delete", "-y", "a").output.hasPrefix("uj: a: is running"))
    #expect(try uj("delete", "-y", "t").output.contains("the disks of a rest on its own"))
    try uj.run("pause", "a")
    #expect(try wait(uj, "a", for: "paused"))
    try uj.run("unpause", "a")
    #expect(try uj.run("rpc", "a", "status").contains("\"state\": \"running\""))

    // A host that is killed is a crash, harms nothing, and starts again at once.
    kill(host, SIGKILL)
    #expect(try wait(uj, "a", for: "crashed"))
    #expect(try uj.run("status", "a").contains("host process \(host) was killed"))
    try uj.run("start", "a")
    #expect(try wait(uj, "a", for: "running"))
    #expect(try process(uj, "a") != host)
    try uj.run("stop", "-f", "a")
    #expect(try uj.run("status", "a").contains("stopped"))

    let id = try uj.run("snapshot", "take", "a", "before").prefix { $0 != " " }
    #expect(try uj.run("snapshot", "list", "a").contains("* \(id)"))
    try uj.run("snapshot", "rollback", "a", "before")
    try uj.run("delete", "-y", "a", "t")
    #expect(try uj.run("status").split(separator: "\n").count == 1)
  }

  @Test func termEndsAHostCleanly() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("new", "a", "--memory", "32M")
    try uj.run("start", "a")
    kill(try process(uj, "a"), SIGTERM)
    try uj.run("wait", "a")
    #expect(try uj.run("status", "a").contains("stopped"))
  }

  @Test func badInputIsOneLine() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("new", "a", "--disk", "16M", "--memory", "32M")
    let folder = "\(uj.folder)/home/machines/a"
    func refused(_ arguments: String..., status: Int32 = 1) throws -> String {
      let result = try TestProcess.run(
        [Underjack.program] + arguments, environment: uj.environment)
      #expect(result.status == status, "\(arguments): \(result.output)")
      if status == 1 {
        #expect(result.output.hasPrefix("uj: "), "\(result.output)")
        #expect(result.output.split(separator: "\n").count == 1, "\(result.output)")
      }
      return result.output
    }
    #expect(try refused("new", "x/y").contains("letters, digits"))
    #expect(try refused("start", "nobody").contains("no such machine"))
    #expect(try refused("new", "a").contains("already"))
    #expect(try refused("console", "a").contains("is not running"))
    #expect(try refused("stop", "a").contains("is not running"))
    #expect(try refused("new", "k", "--kernel", "/nowhere").contains("/nowhere: no such file"))
    #expect(try refused("new", "d", "--disk", "/nowhere.qcow2").contains("/nowhere.qcow2"))
    #expect(try refused("set", "a", "memroy=1G").contains("did you mean memory?"))
    #expect(try refused("run", "--disk", "/nowhere.img").contains("/nowhere.img: no such file"))
    #expect(try refused("run", "--kernel", "/dev/null").contains("/dev/null"))
    #expect(try refused("frobnicate", status: 64).contains("no such verb"))
    #expect(try refused("st", status: 64).contains("start, stats, status, stop"))
    #expect(try refused("new", "m", "--memory", "12Q", status: 64).contains("12Q"))

    let definition = "\(folder)/machine.toml"
    let file = fopen(definition, "a")
    fputs("frobnicate = 1\n", file)
    fclose(file)
    #expect(try refused("start", "a").contains("\(definition):"))
    #expect(try uj.run("status").contains("broken"))
    try uj.run("new", "b", "--disk", "16M", "--memory", "32M")
    let disk =
      try uj.run("show", "b").split { " \n,".contains($0) }.first { $0.hasSuffix(".qcow2") } ?? ""
    truncate(String(disk), 1000)
    #expect(try refused("start", "b").contains(disk))
    #expect(try uj.run("status", "b").contains("stopped"))
  }
}
