import CLinux
import Inventory
import Synchronization
import Testing

/// A folder of its own that goes with the test.
final class Scratch: Sendable {
  let path: String
  init() {
    var template = Array("/tmp/uj-inventory-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
  }
  deinit { try? FileChanges().removeTree(path) }

  var location: InventoryLocation {
    InventoryLocation(home: path + "/home", runtime: path + "/run")
  }
}

/// Images as small texts: what backs what, and what was written.
struct FakeImages: ImageStore {
  var changes = FileChanges()
  /// A merge moves data until it is told to end.
  var neverEnds = false

  private func move(_ progress: LayerProgress) throws(InventoryError) {
    guard neverEnds else { return }
    // A minute is for ever to whoever waits for the lock; a test that fails ends.
    for _ in 0..<60_000 where !progress.isCancelled { usleep(1000) }
    throw InventoryError(.invalid, "cancelled")
  }

  func create(_ path: String, size: UInt64) throws(InventoryError) {
    try changes.write("size=\(size)\n", to: path)
  }
  func createOverlay(
    _ path: String, backing: String, format: MachineDefinition.DiskFormat
  ) throws(InventoryError) {
    try changes.write("backing=\(backing)\n", to: path)
  }
  func copy(
    _ source: String, format: MachineDefinition.DiskFormat, to path: String
  ) throws(InventoryError) {
    try changes.write(try FileReading.text(source) ?? "", to: path)
  }
  func size(_ path: String, format: MachineDefinition.DiskFormat) throws(InventoryError) -> UInt64 {
    guard try FileReading.text(path) != nil else {
      throw InventoryError(.notFound, "\(path): no such image")
    }
    return 1 << 20
  }
  func backing(of path: String) throws(InventoryError) -> [String] {
    let rows = (try FileReading.text(path) ?? "").split(separator: "\n")
    guard let below = rows.first(where: { $0.hasPrefix("backing=") })?.dropFirst(8) else {
      return []
    }
    return [below.hasPrefix("/") ? String(below) : "\(path[..<path.lastIndex(of: "/")!])/\(below)"]
  }
  func isPristine(_ path: String) throws(InventoryError) -> Bool {
    let text = try FileReading.text(path) ?? ""
    return text.hasPrefix("backing=") && !text.contains("data=")
  }

  func stream(
    _ path: String, base: String?, baseFormat: MachineDefinition.DiskFormat, allowed: [String],
    progress: LayerProgress
  ) throws(InventoryError) {
    try move(progress)
    // All data of the layers between, below those of the image itself.
    var lines = ""
    var next: String? = path
    let folder = String(path[..<path.lastIndex(of: "/")!])
    while let file = next {
      guard let content = try FileReading.text(file) else {
        throw InventoryError(.notFound, "\(file): no such image")
      }
      next = nil
      let rows = content.split(separator: "\n")
      let data = Self.data(rows)
      if !data.hasSuffix(lines) { lines = data + lines } else { lines = data }
      guard let below = rows.first(where: { $0.hasPrefix("backing=") })?.dropFirst(8),
        below != base ?? ""
      else { break }
      next = below.hasPrefix("/") ? String(below) : "\(folder)/\(below)"
    }
    try changes.write((base.map { "backing=\($0)\n" } ?? "") + lines, to: path)
  }

  private static func data(_ rows: [Substring]) -> String {
    rows.filter { $0.hasPrefix("data=") }.map { $0 + "\n" }.joined()
  }

  func commit(
    _ path: String, allowed: [String], progress: LayerProgress
  ) throws(InventoryError) {
    try move(progress)
    let rows = (try FileReading.text(path) ?? "").split(separator: "\n")
    let below = rows.first { $0.hasPrefix("backing=") }?.dropFirst(8) ?? ""
    let file = "\(path[..<path.lastIndex(of: "/")!])/\(below)"
    // As bytes of a disk the same data again change nothing.
    let text = try FileReading.text(file) ?? ""
    let data = Self.data(rows)
    if !text.hasSuffix(data) { try changes.write(text + data, to: file) }
  }
  func setBacking(
    of path: String, to backing: String, format: MachineDefinition.DiskFormat
  ) throws(InventoryError) {
    let rows = (try FileReading.text(path) ?? "").split(separator: "\n")
    let rest = rows.filter { !$0.hasPrefix("backing=") }.map { $0 + "\n" }.joined()
    try changes.write("backing=\(backing)\n" + rest, to: path)
  }
  func allocatedSize(_ path: String) -> UInt64 {
    UInt64((try? FileReading.text(path))?.utf8.count ?? 0)
  }
  func difference(
    _ one: ResolvedDisk, _ other: ResolvedDisk, progress: LayerProgress
  ) throws(InventoryError) -> [Range<UInt64>] {
    let left = try? Self.content(one.path)
    return left == (try? Self.content(other.path)) ? [] : [0..<65536]
  }

  /// What a guest would read: all data of the chain, lowest first.
  static func content(_ path: String) throws -> String {
    guard let text = try FileReading.text(path) else { return "MISSING \(path)" }
    var result = ""
    var own = ""
    for line in text.split(separator: "\n") {
      if line.hasPrefix("backing=") {
        let backing = String(line.dropFirst(8))
        let folder = path[..<path.lastIndex(of: "/")!]
        result = try content(backing.hasPrefix("/") ? backing : "\(folder)/\(backing)") + result
      } else if line.hasPrefix("data=") {
        own += line.dropFirst(5)
      }
    }
    // What was committed below is there, too, and is the same.
    return result.hasSuffix(own) ? result : result + own
  }

  static func append(_ data: String, to path: String) throws {
    let text = try FileReading.text(path) ?? ""
    try FileChanges().write(text + "data=\(data)\n", to: path)
  }
}

/// A machine with one managed disk, and what its guest sees.
struct World {
  let scratch = Scratch()
  let inventory: Inventory
  let name: MachineName

  init(gate: FileChanges.Gate? = nil, machine: String = "a") throws {
    let changes = FileChanges(gate: gate)
    inventory = Inventory(
      location: scratch.location, images: FakeImages(changes: changes), changes: changes)
    name = try MachineName(machine)
    var definition = MachineDefinition()
    definition.disks = [.init(name: "disk0")]
    try inventory.create(name, definition, sources: ["disk0": .empty(size: 1 << 20)])
  }

  func guestWrites(_ data: String, _ machine: MachineName? = nil) throws {
    let disk = try inventory.resolvedDisks(machine ?? name)[0]
    try FakeImages.append(data, to: disk.path)
  }
  func guestSees(_ machine: MachineName? = nil) throws -> String {
    try FakeImages.content(try inventory.resolvedDisks(machine ?? name)[0].path)
  }
  func brokenInvariant() throws -> String? {
    for machine in try inventory.names() {
      let broken = try inventory.state(machine).brokenInvariant { disk, layer in
        FileReading.exists(inventory.layerPath(machine, disk, layer))
      }
      if let broken { return "\(machine): \(broken)" }
    }
    return nil
  }
  func layerFiles(_ machine: MachineName? = nil) throws -> Int {
    try FileReading.entries(
      of: inventory.location.disks(machine ?? name) + "/disk0"
    ).count
  }
}

func refusal(_ body: () throws -> Void) -> String {
  do {
    try body()
    return "nothing was refused"
  } catch {
    return "\(error)"
  }
}

@Suite struct NameTests {
  @Test(arguments: ["a", "web-1", "A.b_c", "0", String(repeating: "x", count: 63)])
  func accepts(_ text: String) throws {
    #expect(try MachineName(text).description == text)
  }

  @Test(arguments: [
    "", "a/b", "../a", ".a", "-f", "a b", "a\n", "ä", "a\0b", String(repeating: "x", count: 64),
  ])
  func refuses(_ text: String) {
    let line = refusal { _ = try MachineName(text) }
    #expect(line.contains("name"))
    #expect(!line.contains("\n"))
  }

  @Test func sizes() {
    #expect(ByteSize.parse("256M") == 256 << 20)
    #expect(ByteSize.parse("10g") == 10 << 30)
    #expect(ByteSize.parse("2GiB") == 2 << 30)
    #expect(ByteSize.parse("77") == 77)
    for bad in ["", "M", "-1", "1.5G", "9999999999999T", "8388608T", "1 G", "0x10"] {
      #expect(ByteSize.parse(bad) == nil, "\(bad)")
    }
    #expect(ByteSize.format(256 << 20) == "256M")
    #expect(ByteSize.format(1025) == "1025")
    #expect(ByteSize.formatRounded(3 << 29) == "1.5G")
  }
}

@Suite struct LocationTests {
  @Test func environmentDecides() throws {
    let values = ["HOME": "/h", "XDG_RUNTIME_DIR": "/r"]
    let standard = try InventoryLocation(environment: { values[$0] })
    #expect(standard.home == "/h/.local/share/underjack")
    #expect(standard.runtime == "/r/underjack")
    let data = try InventoryLocation(environment: {
      ["XDG_DATA_HOME": "/d/", "HOME": "/h", "XDG_RUNTIME_DIR": "/r"][$0]
    })
    #expect(data.home == "/d/underjack")
    let own = try InventoryLocation(environment: {
      ["UNDERJACK_HOME": "/x", "HOME": "/h", "XDG_RUNTIME_DIR": "/r"][$0]
    })
    #expect(own.home == "/x")
    // Two homes must not share sockets.
    #expect(own.runtime.hasPrefix("/r/underjack/@"))
  }

  @Test func runtimeFolderOfOthersIsRefused() throws {
    let scratch = Scratch()
    let name = try MachineName("a")
    let location = InventoryLocation(home: scratch.path, runtime: scratch.path + "/underjack")
    #expect(try location.prepareRuntimeFolder(name) == scratch.path + "/underjack/a")
    chmod(scratch.path + "/underjack", 0o775)
    #expect(
      refusal { _ = try location.prepareRuntimeFolder(name) }.contains("must be a folder of yours"))
    rmdir(scratch.path + "/underjack/a")
    rmdir(scratch.path + "/underjack")
    symlink("/tmp", scratch.path + "/underjack")
    #expect(
      refusal { _ = try location.prepareRuntimeFolder(name) }.contains("must be a folder of yours"))
  }
}
