import CLinux
import DiskImage
import Inventory
import Platform
import Testing

let hasQemuImg = access("/usr/bin/qemu-img", X_OK) == 0

/// The same trees with real qcow2 files; QEMU's own tool checks every layer.
@Suite struct ImageTests {
  let scratch = Scratch()
  let inventory: Inventory
  let name: MachineName

  init() throws {
    inventory = Inventory(location: scratch.location, images: DiskImageStore())
    name = try MachineName("a")
    var definition = MachineDefinition()
    definition.disks = [.init(name: "disk0"), .init(name: "disk1")]
    try inventory.create(
      name, definition, sources: ["disk0": .empty(size: 8 << 20), "disk1": .empty(size: 1 << 20)])
  }

  private func open(_ disk: ResolvedDisk, _ mode: AccessMode) throws -> any BlockDevice {
    // Other tests fork meanwhile, and a child would hold our locks until it runs its program.
    var options = OpenOptions()
    options.lock = false
    return try DiskImage.open(
      disk.path, format: .qcow2, mode: mode, backing: .allowExplicit(disk.backing),
      options: options)
  }

  private func put(_ byte: UInt8, _ machine: MachineName? = nil, at offset: UInt64 = 0) throws {
    for disk in try inventory.resolvedDisks(machine ?? name) {
      let device = try open(disk, .readWrite)
      let bytes = [UInt8](repeating: byte, count: 4096)
      try bytes.withUnsafeBytes { try device.write(from: $0, at: offset) }
      try device.flush()
      try device.close()
    }
  }

  private func seen(_ machine: MachineName? = nil, at offset: UInt64 = 0) throws -> [UInt8] {
    try inventory.resolvedDisks(machine ?? name).map { disk in
      let device = try open(disk, .readOnly)
      var bytes = [UInt8](repeating: 0, count: 4096)
      try bytes.withUnsafeMutableBytes { try device.read(into: $0, at: offset) }
      try device.close()
      return bytes[4095]
    }
  }

  private func checkAll() throws {
    guard hasQemuImg else { return }
    for machine in try inventory.names() {
      for disk in ["disk0", "disk1"] {
        let folder = "\(inventory.location.disks(machine))/\(disk)"
        for entry in try FileReading.entries(of: folder) {
          let result = try ChildProcess.run(["/usr/bin/qemu-img", "check", "\(folder)/\(entry)"])
          #expect(result.status == 0, "\(entry): \(result.output)")
        }
        let current = try #require(try inventory.resolvedDisks(machine).first { $0.name == disk })
        let chain = try ChildProcess.run([
          "/usr/bin/qemu-img", "info", "--backing-chain", current.path,
        ])
        #expect(chain.status == 0, "\(chain.output)")
      }
    }
  }

  @Test func snapshotsOfRealImages() throws {
    try put(1)
    try inventory.takeSnapshot(name, title: "one")
    try put(2)
    #expect(try seen() == [2, 2])
    try inventory.rollBack(name, to: "one")
    #expect(try seen() == [1, 1])
    try inventory.rollForward(name)
    #expect(try seen() == [2, 2])
    try inventory.rollBack(name, to: "one")
    #expect(try inventory.snapshots(name).snapshots.count == 2, "an untouched layer is no state")
    try put(3, at: 65536)
    let kept = try inventory.rollForward(name).kept
    #expect(kept != nil)
    #expect(try seen(at: 65536) == [0, 0])
    try checkAll()
    try inventory.rollBack(name, to: try #require(kept).identifier)
    #expect(try seen(at: 65536) == [3, 3])
    #expect(try seen() == [1, 1])
    try checkAll()
  }

  @Test func clonesOfRealImages() throws {
    try put(7)
    let clone = try MachineName("clone")
    let started = MonotonicClock.now
    try inventory.clone(name, as: clone)
    let time = (MonotonicClock.now - started) / 1_000_000
    print("a clone of two disks took \(time) ms")
    #expect(try seen(clone) == [7, 7])
    try put(8, clone)
    #expect(try seen() == [7, 7])
    let second = try MachineName("second")
    try inventory.takeSnapshot(clone, title: "s")
    try inventory.clone(clone, as: second)
    #expect(try seen(second) == [8, 8])
    let chain = try inventory.resolvedDisks(second)[0].backing
    #expect(chain.count == 3, "two layers of the clone, one of the first: \(chain)")
    // The original starts again: the layer that the clones rest on is not written.
    let lock = try inventory.lock(name, .host)
    _ = try inventory.prepareStart(name, lock: lock)
    _ = consume lock
    try put(9)
    #expect(try seen(clone) == [8, 8])
    #expect(try seen(second) == [8, 8])
    #expect(try seen() == [9, 9])
    try checkAll()
    // The whole home may move: nothing in it is absolute.
    let moved = scratch.path + "/moved"
    #expect(rename(inventory.location.home, moved) == 0)
    let other = Inventory(
      location: InventoryLocation(home: moved, runtime: scratch.path + "/run"),
      images: DiskImageStore())
    let disk = try other.resolvedDisks(second)[0]
    let device = try open(disk, .readOnly)
    try device.close()
  }

  @Test func importsAndBases() throws {
    let raw = scratch.path + "/x.img"
    let store = DiskImageStore()
    try store.createRaw(raw, size: 3 << 20)
    let file = fopen(raw, "r+")
    fseek(file, 2 << 20, SEEK_SET)
    fputs("hello", file)
    fclose(file)
    let imported = try MachineName("imported")
    var definition = MachineDefinition()
    definition.disks = [.init(name: "disk0"), .init(name: "disk1")]
    try inventory.create(
      imported, definition,
      sources: [
        "disk0": .copy(path: raw, format: .raw), "disk1": .overlay(path: raw, format: .raw),
      ])
    for disk in try inventory.resolvedDisks(imported) {
      let device = try open(disk, .readOnly)
      var bytes = [UInt8](repeating: 0, count: 5)
      try bytes.withUnsafeMutableBytes { try device.read(into: $0, at: 2 << 20) }
      #expect(String(decoding: bytes, as: UTF8.self) == "hello")
      try device.close()
    }
    #expect(try inventory.resolvedDisks(imported)[1].backing == [raw])
    try checkAll()
    let back = scratch.path + "/back.img"
    try store.copyToRaw(try inventory.resolvedDisks(imported)[0].path, format: .qcow2, to: back)
    let same = try ChildProcess.run(["/usr/bin/cmp", raw, back])
    #expect(same.status == 0, "\(same.output)")
  }

  @Test func brokenImagesAreNamed() throws {
    let path = try inventory.resolvedDisks(name)[0].path
    truncate(path, 1000)
    #expect(
      refusal { _ = try inventory.images.size(path, format: .qcow2) }
        .contains("is truncated: its tables reach beyond the file's 1000 bytes"))
    truncate(path, 100)
    let lock = try inventory.lock(name, .host)
    let line = refusal { _ = try inventory.prepareStart(name, lock: lock) }
    #expect(line.hasPrefix(path), "\(line)")
    unlink(path)
    #expect(refusal { _ = try inventory.prepareStart(name, lock: lock) }.hasPrefix(path))
    _ = consume lock
    let b = try MachineName("b")
    var definition = MachineDefinition()
    definition.disks = [.init(name: "disk0")]
    #expect(
      refusal {
        try inventory.create(
          b, definition, sources: ["disk0": .copy(path: "/nowhere.img", format: .raw)])
      }.contains("/nowhere.img"))
    #expect(try inventory.names() == [name])
    #expect(try FileReading.entries(of: inventory.location.machines) == ["a"])
  }
}
