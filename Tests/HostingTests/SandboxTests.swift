import Glibc
import Hosting
import Inventory
import Platform
import Testing

/// A malicious host process: `sandbox-probe` makes chosen system calls in the sandbox of a machine, from a thread of each
/// role (Tests/SandboxProbe).
@Suite struct SandboxTests {
  /// Beside the test program.
  static let probe: String? = {
    let program = HostProcess.runningProgram()
    let folder = program.lastIndex(of: "/").map { String(program[..<$0]) } ?? "."
    return [folder, ".build/release", ".build/debug"].map { "\($0)/sandbox-probe" }
      .first { access($0, X_OK) == 0 }
  }()

  enum Outcome: Equatable, CustomStringConvertible {
    case done
    case failed(Int32)
    var description: String {
      switch self {
      case .done: "done"
      case .failed(let code): String(cString: strerror(code))
      }
    }
  }

  /// What a guest's captor must get for each attempt: from the file system's rules, or from the filters.
  private static let onControl: [String: Outcome] = {
    var expected: [String: Outcome] = [
      "open own disk": .done, "append to own log": .done, "read time": .done,
      "map memory": .done,
    ]
    for name in [
      "open /etc/passwd", "open /etc/shadow", "open other disk", "list other machine", "list /",
      "list /proc", "make a file in /tmp", "open /dev/full", "open /dev/kvm",
      "read memory of parent", "read environment of parent", "write sysctl",
      "remove other disk", "link of parent's program",
    ] { expected[name] = .failed(EACCES) }
    for name in ["fork by clone3", "io_uring"] { expected[name] = .failed(ENOSYS) }
    return expected
  }()

  private struct Machines {
    let folder = TestFolder()
    let inventory: Inventory

    init() throws {
      inventory = Inventory(location: folder.location, images: DiskImageStore())
      for name in ["good", "other"] {
        var definition = MachineDefinition()
        definition.disks = [.init(name: "disk0")]
        try inventory.create(
          try MachineName(name), definition, sources: ["disk0": .empty(size: 1 << 20)])
      }
    }

    func run(_ role: String, _ attempt: String) throws -> ChildProcess.Result {
      try ChildProcess.run(
        [
          try #require(SandboxTests.probe), folder.location.home, "good", "other", role, attempt,
        ], seconds: 30)
    }
  }

  @Test(arguments: ["control", "processor", "device"])
  func evilCallsAreRefused(_ role: String) throws {
    let machines = try Machines()
    let result = try machines.run(role, "refused")
    #expect(result.status == 0, "\(result.output)")
    var outcomes: [String: Outcome] = [:]
    for line in result.output.split(separator: "\n") {
      let words = line.split(separator: "\t")
      guard words.count == 2, let code = Int32(words[1]) else { continue }
      outcomes[String(words[0])] = code == 0 ? .done : .failed(code)
    }
    #expect(outcomes.count > 45)
    for (name, outcome) in outcomes {
      // Threads of the other roles have no business with names of files at all.
      let isOpening =
        name.hasPrefix("open ") || name.hasPrefix("list ") || name.hasPrefix("append")
        || name.hasPrefix("make a file") || name.hasPrefix("re")
      let expected =
        role != "control"
          && (isOpening || name == "write sysctl" || name == "link of parent's program")
          && name != "read time"
        ? .failed(EPERM)
        : role != "control" && ["fork by clone3", "io_uring"].contains(name)
          ? .failed(EPERM) : Self.onControl[name] ?? .failed(EPERM)
      #expect(outcome == expected, "\(role): \(name)")
    }
    // Who was refused by a filter is told of, with the call's name.
    #expect(result.output.contains("sandbox: thread "))
    #expect(result.output.contains(": refused system call kill (62)"))
  }

  @Test func impossibleCallsEndTheProcess() throws {
    let machines = try Machines()
    let names = try machines.run("control", "names").output.split(separator: "\n").map(String.init)
    #expect(names.count > 20)
    for name in names {
      let result = try machines.run("control", name)
      #expect(result.status == 159, "\(name): \(result.output)")
      #expect(result.output.contains("refused system call"), "\(name): \(result.output)")
      #expect(!result.output.contains("\t"), "\(name): came back")
    }
    for name in ["execve", "ptrace parent", "bpf"] {
      let result = try machines.run("processor", name)
      #expect(result.status == 159, "\(name): \(result.output)")
    }
  }
}
