// The same image through our code and QEMU's: what one writes the other reads.
import CLinux
import DiskImage
import Testing

@Suite(.enabled(if: Requirement.hasQemu, "qemu-img and qemu-io are not installed"))
struct InteroperationTests {
  let folder = TemporaryFolder()

  @Test(arguments: [9, 12, 16, 21])
  func weWriteQemuReads(clusterBits: Int) throws {
    let path = folder.file("a.qcow2")
    try Qcow2.create(path, size: 64 << 20, options: qcow2(clusterBits))
    expectClean(path)
    let disk = try DiskImage.open(path, format: .qcow2)
    try disk.fill(0x11, 4096, at: 0)
    try disk.fill(0x22, 100_000, at: 1_000_000)
    try disk.fill(0x33, 1, at: (64 << 20) - 1)
    try disk.fill(0x44, 5 << 20, at: 32 << 20)
    try disk.discard(at: 34 << 20, count: 2 << 20)
    try disk.flush()
    try disk.close()
    expectClean(path)
    let commands = [
      "read -P 0x11 0 4096", "read -P 0 4096 995904", "read -P 0x22 1000000 100000",
      "read -P 0x33 67108863 1", "read -P 0x44 32M 2M", "read -P 0 34M 2M", "read -P 0x44 36M 1M",
    ]
    for command in commands {
      let result = shell("qemu-io -f qcow2 -c '\(command)' '\(path)'")
      #expect(result.status == 0 && !result.output.contains("fail"), "\(command): \(result.output)")
    }
  }

  @Test(arguments: [
    "cluster_size=512", "cluster_size=4k,refcount_bits=1", "cluster_size=64k,refcount_bits=64",
    "cluster_size=2M,refcount_bits=8", "compat=0.10", "extended_l2=on,cluster_size=64k",
    "extended_l2=on,cluster_size=16k,refcount_bits=2", "lazy_refcounts=on",
    "preallocation=metadata,cluster_size=32k", "compression_type=zstd", "data_file=d.raw",
    "data_file=e.raw,data_file_raw=on",
  ])
  func qemuCreatesBothWrite(options: String) throws {
    let path = folder.file("b.qcow2")
    let made = shell("cd '\(folder.path)' && qemu-img create -f qcow2 -o \(options) b.qcow2 20M")
    #expect(made.status == 0, "\(made.output)")
    shell(
      "cd '\(folder.path)' && qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 5M 300k' -c 'write -z 100k 64k' '\(path)'"
    )
    let disk = try DiskImage.open(path, format: .qcow2, backing: .allow(within: folder.path))
    #expect(try disk.bytes(4096, at: 0) == [UInt8](repeating: 1, count: 4096))
    #expect(try disk.bytes(65536, at: 100 << 10) == [UInt8](repeating: 0, count: 65536))
    #expect(try disk.bytes(1000, at: (5 << 20) + 300 * 1024 - 1000).allSatisfy { $0 == 2 })
    try disk.fill(7, 50_000, at: 5_242_880 + 1000)
    try disk.fill(8, 70_000, at: 10 << 20)
    try disk.writeZeroes(at: 1000, count: 20_000)
    try disk.close()
    expectClean(path)
    let result = shell(
      """
      cd '\(folder.path)' && qemu-io -f qcow2 -c 'read -P 7 5243880 50000' -c 'read -P 2 5242880 1000' -c 'read -P 2 5293880 1000' \
        -c 'read -P 8 10M 70000' -c 'read -P 0 1000 20000' -c 'read -P 1 0 1000' -c 'write -P 9 9M 3M' '\(path)'
      """)
    #expect(result.status == 0 && !result.output.contains("fail"), "\(result.output)")
    expectClean(path)
    let again = try DiskImage.open(
      path, format: .qcow2, mode: .readOnly, backing: .allow(within: folder.path))
    #expect(try again.bytes(3 << 20, at: 9 << 20).allSatisfy { $0 == 9 })
    try again.close()
  }

  /// Places all over a large disk: many L2 tables, many refcount blocks.
  @Test(arguments: [(12, false), (16, false), (16, true), (21, false)])
  func largeSparseDisks(clusterBits: Int, subclusters: Bool) throws {
    let path = folder.file("large.qcow2")
    try Qcow2.create(
      path, size: 40 << 30, options: qcow2(clusterBits) { $0.subclusters = subclusters })
    let disk = try DiskImage.openQcow2(path)
    for place in 0..<200 { try disk.fill(UInt8(place + 1), 9000, at: UInt64(place) * 201_326_592) }
    try disk.createSnapshot("all")
    for place in 0..<100 { try disk.fill(0xee, 500, at: UInt64(place) * 402_653_184 + 8000) }
    try disk.close()
    expectClean(path)
    let again = try DiskImage.openQcow2(path)
    for place in 0..<200 {
      let found = try again.bytes(9000, at: UInt64(place) * 201_326_592)
      #expect(found.prefix(8000).allSatisfy { $0 == UInt8(place + 1) })
      #expect(found[8400] == (place % 2 == 0 ? 0xee : UInt8(place + 1)))
    }
    try again.close()
  }

  @Test(arguments: ["metadata", "falloc", "full"], [12, 16])
  func preallocates(mode: String, clusterBits: Int) throws {
    let path = folder.file("p.qcow2")
    let size: UInt64 = mode == "full" ? 40 << 20 : clusterBits == 12 ? 1 << 30 : 3 << 30
    try Qcow2.create(
      path, size: size,
      options: qcow2(clusterBits) { $0.preallocation = Qcow2.Preallocation(rawValue: mode) ?? .off }
    )
    expectClean(path)
    let map = shell("qemu-img map --output=json '\(path)'").output
    #expect(!map.contains("\"present\": false"))
    let taken = try ImageInformation.read(path).allocatedSize
    #expect(mode == "metadata" ? taken < 4 << 20 : taken >= size)
  }

  @Test(arguments: ["zlib", "zstd"])
  func readsCompressed(method: String) throws {
    let raw = folder.file("r.raw")
    shell("head -c 3000000 /dev/urandom | base64 > '\(raw)'; truncate -s 8M '\(raw)'")
    let path = folder.file("c.qcow2")
    shell("qemu-img convert -c -f raw -O qcow2 -o compression_type=\(method) '\(raw)' '\(path)'")
    let image = try DiskImage.open(path, format: .qcow2)
    let plain = try DiskImage.open(raw, format: .raw, mode: .readOnly)
    #expect(try image.bytes(8 << 20, at: 0) == plain.bytes(8 << 20, at: 0))
    #expect(try image.bytes(777, at: 65000) == plain.bytes(777, at: 65000))
    // Rewriting part of a compressed cluster stores it plain.
    try image.fill(5, 100, at: 70_000)
    try image.close()
    expectClean(path)
    let again = try DiskImage.open(path, format: .qcow2, mode: .readOnly)
    #expect(try again.bytes(70_000, at: 0) == plain.bytes(70_000, at: 0))
    #expect(try again.bytes(100, at: 70_000) == [UInt8](repeating: 5, count: 100))
    #expect(try again.bytes(5000, at: 70_100) == plain.bytes(5000, at: 70_100))
    try again.close()
  }

  @Test(arguments: [
    "", "-o compat=0.10", "-o extended_l2=on", "-o refcount_bits=4,cluster_size=4k",
  ])
  func snapshotsBothWays(options: String) throws {
    let path = folder.file("s.qcow2")
    shell(
      "qemu-img create -f qcow2 \(options) '\(path)' 8M && qemu-io -c 'write -P 1 0 2M' '\(path)'")
    shell("qemu-img snapshot -c theirs '\(path)' && qemu-io -c 'write -P 2 1M 2M' '\(path)'")
    let image = try DiskImage.openQcow2(path)
    #expect(try image.snapshots().map(\.name) == ["theirs"])
    try image.createSnapshot("ours")
    try image.fill(3, 1 << 20, at: 0)
    #expect(try image.readSnapshot("theirs").bytes(2 << 20, at: 0).allSatisfy { $0 == 1 })
    try image.applySnapshot("theirs")
    #expect(try image.bytes(2 << 20, at: 0).allSatisfy { $0 == 1 })
    try image.fill(4, 512, at: 0)
    try image.close()
    expectClean(path)
    let list = shell("qemu-img snapshot -l '\(path)'").output
    #expect(list.contains("theirs") && list.contains("ours"))
    shell("qemu-img snapshot -a ours '\(path)'")
    expectClean(path)
    let read = shell("qemu-io -c 'read -P 1 0 1M' -c 'read -P 2 1M 2M' '\(path)'")
    #expect(read.status == 0 && !read.output.contains("fail"), "\(read.output)")
    let again = try DiskImage.openQcow2(path)
    try again.deleteSnapshot("theirs")
    try again.deleteSnapshot("ours")
    #expect(try again.bytes(2 << 20, at: 1 << 20).allSatisfy { $0 == 2 })
    try again.close()
    expectClean(path)
  }

  @Test func locksAreQemus() throws {
    let path = folder.file("l.qcow2")
    try Qcow2.create(path, size: 1 << 20)
    let disk = try DiskImage.open(path, format: .qcow2)
    #expect(shell("qemu-io -f qcow2 -c 'read 0 512' '\(path)'").output.contains("lock"))
    #expect(throws: DiskImageError.self) { try DiskImage.open(path, format: .qcow2) }
    #expect(throws: DiskImageError.self) {
      try DiskImage.open(path, format: .qcow2, mode: .readOnly)
    }
    #expect(try ImageInformation.read(path).virtualSize == 1 << 20)
    try disk.close()
    let one = try DiskImage.open(path, format: .qcow2, mode: .readOnly)
    let two = try DiskImage.open(path, format: .qcow2, mode: .readOnly)
    #expect(shell("qemu-io -r -f qcow2 -c 'read 0 512' '\(path)'").status == 0)
    #expect(shell("qemu-io -f qcow2 -c 'write 0 512' '\(path)'").output.contains("lock"))
    #expect(throws: DiskImageError.self) { try DiskImage.open(path, format: .qcow2) }
    try one.close()
    try two.close()
  }
}
