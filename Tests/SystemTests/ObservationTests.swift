import CLinux
import Glibc
import Hosting
import KVM
import Platform
import TestGuests
import Testing

private let missing: String? = {
  if let tool = TestGuest.missingTool { return tool }
  return access(Underjack.program, X_OK) != 0 ? "uj is not built" : nil
}()

private let accelerators: [String] = (try? KVMSystem()) == nil ? ["soft"] : ["soft", "kvm"]

/// What is told of a machine that runs or has died, compared with what its guest is known to have done: it writes one
/// sector and flushes, reads it back, and prints. In its sandbox, by the command line.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct ObservationTests {
  private func json(_ text: String) throws -> JSONValue { try JSONValue(parsing: text) }

  /// Exits of a kind at a place since the run's first trace.
  private func exits(_ uj: Underjack, _ kind: String, _ place: Int64) throws -> Int64 {
    let rows = try json(uj.run("rpc", "a", "trace.read")).array ?? []
    let row = rows.first { $0["kind"]?.string == kind && $0["place"]?.integer == place }
    return row?["count"]?.integer ?? 0
  }

  private func printed(_ uj: Underjack) throws -> Int64 {
    let stats = try json(uj.run("stats", "a", "--json"))
    return stats["consoles"]?.array?.first?["output"]?.integer ?? -1
  }

  @Test(
    "counters, metrics, exits, and reports of a guest and a host that die", arguments: accelerators)
  func observed(accelerator: String) throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run(
      "new", "a", "--memory", "32M", "--accel", accelerator, "--disk", "16M", "--kernel",
      TestGuest.multiboot32.path())
    try uj.run("new", "off", "--memory", "32M")
    try uj.run("start", "a")
    let line = try GuestLine(uj, "a")
    // Its port is set up: nothing that is typed gets lost.
    for _ in 0..<200 where !(try uj.run("log", "a").contains("> ")) { usleep(50_000) }
    try line.type("z")
    try line.wait(for: "d debug exit\r\n")
    try trace(uj, line, accelerator)
    try line.type("wA")
    try line.wait(for: "wrote A status 0")
    try line.type("r")
    try line.wait(for: "read A status 0")
    let stats = try json(uj.run("stats", "a", "--json"))
    checkDisk(try #require(stats["disks"]?.array?.first))
    #expect((stats["instructions"]?.integer ?? 0 > 10_000) == (accelerator == "soft"))
    #expect(stats["processorTimes"]?.array?.first?.integer ?? 0 > 100_000)
    #expect(stats["hostTime"]?.integer ?? 0 > 100_000)
    let page = try uj.run("stats", "a")
    #expect(page.contains("disk disk0") && page.contains("512B written in 1 requests"), "\(page)")
    #expect(try uj("stats", "off").output == "uj: off: is not running\n")
    try metrics(uj)
    try tripleFault(uj, line)
    try hostDies(uj, accelerator)
  }

  /// Each byte that the guest prints is one write to the port.
  private func trace(_ uj: Underjack, _ line: GuestLine, _ accelerator: String) throws {
    _ = try exits(uj, "port write", 0x3F8)
    // The answer to the end of the line that was typed before.
    try line.wait(for: "d debug exit\r\n")
    try line.wait(for: "> ")
    let before = (try exits(uj, "port write", 0x3F8), try printed(uj))
    try line.type("z")
    try line.wait(for: "d debug exit\r\n")
    // The answers to the letter and to the end of the line.
    try line.wait(for: "d debug exit\r\n")
    try line.wait(for: "> ")
    let after = (try exits(uj, "port write", 0x3F8), try printed(uj))
    #expect(after.0 - before.0 == after.1 - before.1)
    #expect(after.1 - before.1 > 150)
    let rows = try json(uj.run("trace", "a", "--duration", "0.3", "--json")).array ?? []
    // It waits for a letter, and asks for that again and again.
    let status = try #require(
      rows.first { $0["kind"]?.string == "port read" && $0["place"]?.integer == 0x3FD })
    #expect(status["device"]?.string == "serial port")
    let count = try #require(status["count"]?.integer)
    #expect(count > 10)
    let buckets = status["buckets"]?.array?.compactMap(\.integer).reduce(0, +) ?? 0
    // The guest goes on while the row is read: its count first, then its buckets.
    #expect((-2...count / 10 + 10).contains(buckets - count))
    #expect(status["nanoseconds"]?.integer ?? 0 > count)
    let table = try uj.run("trace", "a", "--duration", "0.2")
    #expect(table.contains("0x3fd") && table.contains("serial port"), "\(table)")
  }

  private func checkDisk(_ disk: JSONValue) {
    #expect(disk["name"]?.string == "disk0")
    for (key, count, bytes) in [
      ("reads", 1, 512), ("writes", 1, 512), ("flushes", 1, 0), ("discards", 0, 0),
    ] as [(String, Int64, Int64)] {
      #expect(disk[key]?["count"]?.integer == count, "\(key)")
      #expect(disk[key]?["bytes"]?.integer == bytes, "\(key)")
      #expect(disk[key]?["errors"]?.integer == 0)
      #expect((disk[key]?["nanoseconds"]?.integer ?? -1 > 0) == (count > 0), "\(key)")
    }
  }

  private func metrics(_ uj: Underjack) throws {
    let file = "\(uj.folder)/underjack.prom"
    try writeFile(file, "old")
    try uj.run("stats", "--prometheus", "--output", file)
    let samples = try PrometheusSamples(String(decoding: readBytes(file), as: UTF8.self))
    #expect(samples.value("underjack_machine_up", ["machine": "a"]) == 1)
    #expect(samples.value("underjack_machine_up", ["machine": "off"]) == 0)
    #expect(
      samples.value("underjack_machine_state", ["machine": "off", "state": "stopped"]) == 1)
    #expect(
      samples.value("underjack_machine_state", ["machine": "a", "state": "running"]) == 1)
    let disk = ["machine": "a", "disk": "disk0"]
    #expect(samples.value("underjack_disk_written_bytes_total", disk) == 512)
    #expect(samples.value("underjack_disk_read_bytes_total", disk) == 512)
    for (operation, count) in [("read", 1.0), ("write", 1), ("flush", 1), ("discard", 0)] {
      let labels = disk.merging(["operation": operation]) { $1 }
      #expect(samples.value("underjack_disk_request_duration_seconds_count", labels) == count)
    }
    #expect(samples.value("underjack_console_output_bytes_total", ["machine": "a"]) ?? 0 > 300)
    #expect(samples.value("underjack_memory_resident_bytes", ["machine": "off"]) == nil)

    let socket = "\(uj.folder)/metrics.sock"
    #expect(try uj("stats", "--prometheus", "--listen", file).output.contains("is no socket"))
    let shell = try ChildProcessShell(
      "exec \(Underjack.program) stats --prometheus --listen \(socket) 2>/dev/null",
      environment: uj.environment)
    defer { shell.end() }
    for _ in 0..<200 where access(socket, F_OK) != 0 { usleep(20_000) }
    let answer = try HTTPExchange.text(socket, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.0 200 OK\r\n"), "\(answer)")
    let body = answer.firstRange(of: "\r\n\r\n").map { String(answer[$0.upperBound...]) }
    #expect(
      try PrometheusSamples(body ?? "").value("underjack_machine_up", ["machine": "a"]) == 1)
    #expect(try HTTPExchange.text(socket, "GET /etc/passwd HTTP/1.0\r\n\r\n").contains(" 404 "))
    #expect(try HTTPExchange.text(socket, "nonsense\r\n\r\n").contains(" 400 "))
    shell.end()
    #expect(access(socket, F_OK) != 0)
  }

  /// The guest goes on with a reset, and what it has died of is kept.
  private func tripleFault(_ uj: Underjack, _ line: GuestLine) throws {
    try line.type("f")
    try line.wait(for: "underjack test guest")
    let path = try #require(try json(uj.run("rpc", "a", "status"))["crashReport"]?.string)
    #expect(try uj.run("status", "a").contains("(crash report: \(path))"))
    let report = String(decoding: try readBytes(path), as: UTF8.self)
    for part in [
      "machine      a\n", "version      uj ", "processor 0: triple fault", "PROCESSOR 0\nRAX=",
      "IDT base 0000000000000000 limit 0000", "CONFIGURATION\n", "memory = \"32M\"",
      // The end of what it printed last: "f\r\n".
      "port write 0x3f8 (serial port), 1 byte, value 0xa",
    ] { #expect(report.contains(part), "\(part) is missing in\n\(report)") }
  }

  private func hostDies(_ uj: Underjack, _ accelerator: String) throws {
    let status = try json(uj.run("rpc", "a", "status"))
    let host = Int32(try #require(status["process"]?.integer))
    let before = status["crashReport"]?.string
    kill(host, SIGSEGV)
    var text = ""
    for _ in 0..<200 where !text.contains("crashed") {
      usleep(50_000)
      text = try uj.run("status", "a")
    }
    #expect(text.contains("host process \(host) died: signal 11 in thread "), "\(text)")
    let entry = try json(uj.run("status", "--json", "a")).array?.first
    let path = try #require(entry?["crashReport"]?.string)
    #expect(path != before && text.contains("the report is \(path)"), "\(text)")
    let report = String(decoding: try readBytes(path), as: UTF8.self)
    for part in [
      "the host process died of signal 11 (Segmentation fault)", "sent by a process",
      "PROCESSOR 0\nRAX=", "CONFIGURATION\n", "port read 0x3fd (serial port)",
    ] { #expect(report.contains(part), "\(part) is missing in\n\(report)") }
    #expect(!(try uj.run("log", "--host", "a").contains("refused system call")))
    // It starts again as if nothing had been.
    try uj.run("start", "a")
    #expect(try uj.run("status", "a").contains("running"))
    #expect(!(try uj.run("status", "a").contains("crash report")))
  }

  @Test("label values are escaped, and a metric's samples stay together")
  func text() throws {
    var output = PrometheusText()
    let odd = "a\\b\"c\nd{},= é"
    output.add("x_total", .counter, "Help\\ with\nlines.", [("odd", odd)], UInt64(7))
    output.addHistogram(
      "t_seconds", "Times.", [], bounds: [0.00005, 1], buckets: [1, 2, 3], sum: 12.5)
    output.add("x_total", .counter, "Help.", [("odd", "")], UInt64(8))
    let samples = try PrometheusSamples(output.text)
    #expect(samples.value("x_total", ["odd": odd]) == 7)
    #expect(samples.value("t_seconds_bucket", ["le": "5e-05"]) == 1)
    #expect(samples.value("t_seconds_bucket", ["le": "1.0"]) == 3)
    #expect(samples.value("t_seconds_count") == 6)
  }
}

/// A shell's program in the background.
private final class ChildProcessShell {
  private var process: pid_t = 0

  init(_ command: String, environment: [String: String]) throws {
    var variables = environment.map { "\($0.key)=\($0.value)" }
    variables.append("PATH=/usr/bin:/bin")
    let words: [String] = ["/bin/sh", "-c", command]
    var arguments: [UnsafeMutablePointer<CChar>?] = []
    for word in words { arguments.append(strdup(word)) }
    arguments.append(nil)
    var entries: [UnsafeMutablePointer<CChar>?] = []
    for variable in variables { entries.append(strdup(variable)) }
    entries.append(nil)
    defer { for pointer in arguments + entries { free(pointer) } }
    let code = posix_spawn(&process, "/bin/sh", nil, nil, arguments, entries)
    guard code == 0 else { throw TestGuestError("/bin/sh: error \(code)") }
  }

  /// By SIGTERM, and waits for it.
  func end() {
    guard process > 0 else { return }
    kill(process, SIGTERM)
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, linux_error_number() == EINTR {}
    process = 0
  }
}

/// One request on a Unix socket.
private enum HTTPExchange {
  static func text(_ path: String, _ request: String) throws -> String {
    let socket = FileDescriptor(owning: try systemCall("socket", path) { linux_unix_socket() })
    let number = socket.rawValue
    _ = try systemCall("connect", path) { linux_unix_connect(number, path) }
    let bytes = Array(request.utf8)
    _ = try systemCall("write", path) { write(number, bytes, bytes.count) }
    var answer: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      var wanted = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
      guard poll(&wanted, 1, 10_000) > 0 else { throw TestGuestError("\(path): no answer") }
      let count = read(number, &chunk, chunk.count)
      guard count > 0 else { return String(decoding: answer, as: UTF8.self) }
      answer += chunk[..<count]
    }
  }
}
