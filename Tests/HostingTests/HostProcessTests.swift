import CLinux
import Hosting
import Inventory
import Platform
import Testing

/// Children are shells here; `uj host` itself is tried by the system tests.
@Suite struct HostProcessTests {
  private func spawn(_ script: String, timeout: Double = 5) throws -> (String, TestFolder) {
    let folder = TestFolder()
    let inventory = Inventory(location: folder.location, images: NoImages())
    let name = try MachineName("m")
    try inventory.create(name, MachineDefinition())
    let line = refusal {
      try HostProcess.spawn(
        name, inventory, program: "/bin/sh", arguments: { _ in ["sh", "-c", script] },
        timeout: timeout)
    }
    return (line, folder)
  }

  @Test func childIsDetached() throws {
    // Not closed on exec, and out of the way of the shell's own.
    let leak = dup2(2, 200)
    defer { close(leak) }
    let script = """
      readlink /proc/$$/fd/0; test -e /proc/$$/fd/200 && echo leaked || echo closed
      cut -d' ' -f5,6 /proc/$$/stat; echo $$; pwd; echo $UNDERJACK_HOME; echo ok >&3
      """
    let (line, folder) = try spawn(script)
    #expect(line == "nothing was refused")
    let log = try #require(
      try FileReading.text(folder.location.hostLog(try MachineName("m"))))
    let rows = log.split(separator: "\n").map(String.init)
    #expect(rows.count == 6, "\(log)")
    #expect(rows[0] == "/dev/null")
    #expect(rows[1] == "closed")
    let session = rows[2].split(separator: " ")
    #expect(session.last != "\(getsid(0))")
    #expect(rows[4] == "/")
    #expect(rows[5] == folder.location.home)
  }

  @Test func errorComesBack() throws {
    let (line, _) = try spawn("echo 'error disk.qcow2: is truncated' >&3")
    #expect(line == "disk.qcow2: is truncated")
  }

  @Test func deathIsReportedWithTheLastLine() throws {
    let (line, _) = try spawn("echo first; echo 'Fatal error: boom'; kill -9 $$")
    #expect(line == "m: its host process died at the start: Fatal error: boom")
  }

  @Test func silenceTimesOut() throws {
    let (line, _) = try spawn("sleep 2", timeout: 0.2)
    #expect(line.contains("did not start in 0 s; see "))
  }

  @Test func missingProgram() throws {
    let folder = TestFolder()
    let inventory = Inventory(location: folder.location, images: NoImages())
    let name = try MachineName("m")
    #expect(refusal { try HostProcess.spawn(name, inventory) }.contains("no such machine"))
    try inventory.create(name, MachineDefinition())
    #expect(
      refusal { try HostProcess.spawn(name, inventory, program: "/nowhere") }
        .contains("died at the start"))
    let lock = try inventory.lock(name, .host)
    #expect(
      refusal { try HostProcess.spawn(name, inventory, program: "/nowhere") }
        == "m: is running already (host process \(getpid()))")
    _ = consume lock
  }
}

final class TestFolder: Sendable {
  let path: String
  init() {
    var template = Array("/tmp/uj-hosting-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
  }
  deinit { try? FileChanges().removeTree(path) }
  var location: InventoryLocation {
    InventoryLocation(home: path + "/home", runtime: path + "/run")
  }
}
