// Convert, compare, measure, map, commit, stream and rebase, against qemu-img.
import CLinux
import DiskImage
import Testing

@Suite(.enabled(if: Requirement.hasQemu, "qemu-img and qemu-io are not installed"))
struct OperationTests {
  let folder = TemporaryFolder()

  /// 9 MiB of text, randomness and holes, not a whole number of clusters.
  func makeRaw() -> String {
    let path = folder.file("source.raw")
    shell(
      """
      head -c 1500000 /dev/urandom | base64 > '\(path)'; truncate -s 5M '\(path)'
      head -c 1000000 /dev/urandom >> '\(path)'; truncate -s 9437696 '\(path)'
      """)
    return path
  }

  struct Target: Sendable, CustomTestStringConvertible {
    var clusterBits = 16
    var compresses = false
    var method = Qcow2Compression.deflate
    var subclusters = false
    var refcountBits = 16
    var testDescription: String {
      "2^\(clusterBits) \(compresses ? method.name : "plain") \(subclusters) \(refcountBits)"
    }
  }

  @Test(arguments: [
    Target(), Target(clusterBits: 9), Target(clusterBits: 21), Target(subclusters: true),
    Target(compresses: true), Target(compresses: true, method: .zstd),
    Target(clusterBits: 12, compresses: true),
    Target(clusterBits: 12, compresses: true, method: .zstd, refcountBits: 1),
    Target(clusterBits: 9, compresses: true, refcountBits: 2),
    Target(clusterBits: 21, compresses: true),
    Target(clusterBits: 14, compresses: true, subclusters: true),
  ])
  func convertsBothWays(_ target: Target) throws {
    let raw = makeRaw()
    let path = folder.file("converted.qcow2")
    var options = DiskConversion.Options()
    options.qcow2 = qcow2(target.clusterBits) {
      $0.compression = target.method
      $0.subclusters = target.subclusters
      $0.refcountBits = target.refcountBits
    }
    options.compresses = target.compresses
    options.threads = 4
    let source = try DiskImage.open(raw, format: .raw, mode: .readOnly)
    try DiskConversion.run(source, to: path, options: options)
    expectClean(path)
    let compared = shell("qemu-img compare -f raw -F qcow2 '\(raw)' '\(path)'")
    #expect(compared.status == 0, "\(compared.output)")
    let information = try ImageInformation.read(path)
    #expect(
      information.allocatedSize
        < (target.compresses && target.clusterBits > 9 ? 4_200_000 : 9_000_000))
    let back = folder.file("back.raw")
    let image = try DiskImage.open(path, format: .qcow2, mode: .readOnly)
    var toRaw = DiskConversion.Options()
    toRaw.format = .raw
    try DiskConversion.run(image, to: back, options: toRaw)
    #expect(shell("cmp '\(raw)' '\(back)'").status == 0)
    #expect(try ImageInformation.read(back).allocatedSize < 4_000_000)
    let twin = try DiskImage.open(back, format: .raw, mode: .readOnly)
    #expect(try DiskDifference.first(image, twin) == nil)
    try image.close()
    try source.close()
    try twin.close()
    // Nothing temporary stays.
    #expect(shell("ls -A '\(folder.path)' | wc -l").output.contains("3"))
  }

  @Test func failedConversionLeavesNothing() throws {
    let source = try DiskImage.open(makeRaw(), format: .raw, mode: .readOnly)
    let progress = OperationProgress()
    progress.cancel()
    #expect(throws: DiskImageError.self) {
      try DiskConversion.run(source, to: folder.file("x.qcow2"), progress: progress)
    }
    #expect(shell("ls -A '\(folder.path)'").output == "source.raw\n")
  }

  @Test func comparesLikeQemu() throws {
    let raw = makeRaw()
    shell(
      "cp '\(raw)' '\(folder.file("b.raw"))' && printf x | dd of='\(folder.file("b.raw"))' bs=1 seek=7000000 conv=notrunc"
    )
    let one = try DiskImage.open(raw, format: .raw, mode: .readOnly)
    let two = try DiskImage.open(folder.file("b.raw"), format: .raw, mode: .readOnly)
    let first = try DiskDifference.first(one, two)
    #expect(first == 7_000_000)
    #expect(try DiskDifference.first(one, one) == nil)
  }

  @Test(arguments: [9, 12, 16, 21])
  func measuresLikeQemu(clusterBits: Int) throws {
    let raw = makeRaw()
    let source = try DiskImage.open(raw, format: .raw, mode: .readOnly)
    let ours = try DiskMap.measure(source, format: .qcow2, options: qcow2(clusterBits))
    let theirs = shell(
      "qemu-img measure -f raw -O qcow2 -o cluster_size=\(1 << clusterBits) '\(raw)'"
    ).output
    #expect(theirs.contains("required size: \(ours.required)\n"), "\(ours) \(theirs)")
    #expect(theirs.contains("fully allocated size: \(ours.fullyAllocated)\n"), "\(ours) \(theirs)")
  }

  /// A chain of eight layers with different cluster sizes; every layer rewrites some places.
  func makeChain() throws -> (paths: [String], content: [UInt8]) {
    var content = [UInt8](repeating: 0, count: 6 << 20)
    var paths = [folder.file("layer0")]
    shell("truncate -s 4M '\(paths[0])'")
    var random = SeededGenerator(7)
    for layer in 0..<8 {
      if layer > 0 {
        paths.append(folder.file("layer\(layer)"))
        let bits = [16, 9, 12, 21, 10, 14, 16][layer - 1]
        try Qcow2.create(
          paths[layer], size: layer == 1 ? 5 << 20 : 6 << 20,
          options: qcow2(bits) { $0.backing = ("layer\(layer - 1)", layer == 1 ? .raw : .qcow2) })
        expectClean(paths[layer])
      }
      let disk = try DiskImage.open(
        paths[layer], format: layer == 0 ? .raw : .qcow2, backing: .allow(within: folder.path))
      for _ in 0..<6 {
        let count = Int.random(in: 1...200_000, using: &random)
        let place = Int.random(in: 0...(Int(disk.size) - count), using: &random)
        let value = UInt8.random(in: 0...200, using: &random)
        try disk.fill(value, count, at: UInt64(place))
        content.replaceSubrange(place..<place + count, with: repeatElement(value, count: count))
      }
      try disk.close()
    }
    return (paths, content)
  }

  func content(_ path: String) throws -> [UInt8] {
    let disk = try DiskImage.open(
      path, format: .qcow2, mode: .readOnly, backing: .allow(within: folder.path))
    defer { try? disk.close() }
    return try disk.bytes(Int(disk.size), at: 0)
  }

  @Test func chainsAreQemusToo() throws {
    let (paths, content) = try makeChain()
    #expect(try self.content(paths[7]) == content)
    let flat = folder.file("flat.raw")
    shell("qemu-img convert -f qcow2 -O raw '\(paths[7])' '\(flat)'")
    let raw = try DiskImage.open(flat, format: .raw, mode: .readOnly)
    #expect(try raw.bytes(content.count, at: 0) == content)
    let map = shell("qemu-img map --output=json '\(paths[7])'")
    var entries = 0
    let disk = try DiskImage.open(
      paths[7], format: .qcow2, mode: .readOnly, backing: .allow(within: folder.path))
    var end: UInt64 = 0
    try DiskMap.walk(disk) { entry in
      #expect(entry.start == end)
      end = entry.start + entry.length
      entries += 1
    }
    #expect(end == disk.size)
    #expect(entries > 10 && map.status == 0)
    // Nothing is opened that the caller did not allow.
    #expect(throws: DiskImageError.self) {
      try DiskImage.open(paths[7], format: .qcow2, mode: .readOnly)
    }
    #expect(throws: DiskImageError.self) {
      try DiskImage.open(paths[7], format: .qcow2, mode: .readOnly, backing: .allow(within: "/usr"))
    }
  }

  @Test func commitMergesDown() throws {
    let (paths, content) = try makeChain()
    let policy = BackingPolicy.allow(within: folder.path)
    try DiskLayers.commit(paths[7], backing: policy)
    #expect(try self.content(paths[7]) == content)
    #expect(try self.content(paths[6]) == content)
    try DiskLayers.commit(paths[6], backing: policy)
    #expect(try self.content(paths[5]) == content)
    for path in paths.dropFirst() { expectClean(path) }
    // Qemu agrees, and commits onto what we left.
    #expect(shell("qemu-img commit '\(paths[5])'").status == 0)
    #expect(try self.content(paths[4]) == content)
  }

  @Test func streamPullsUp() throws {
    let (paths, content) = try makeChain()
    let policy = BackingPolicy.allow(within: folder.path)
    try DiskLayers.stream(paths[7], backing: policy, base: ("layer3", .qcow2))
    #expect(try self.content(paths[7]) == content)
    #expect(try ImageInformation.read(paths[7]).qcow2?.backingName == "layer3")
    try DiskLayers.stream(paths[7], backing: policy)
    #expect(try ImageInformation.read(paths[7]).qcow2?.backingName == nil)
    for path in paths.dropLast() { shell("rm '\(path)'") }
    #expect(try self.content(paths[7]) == content)
    expectClean(paths[7])
  }

  @Test func rebaseKeepsContent() throws {
    let (paths, content) = try makeChain()
    let policy = BackingPolicy.allow(within: folder.path)
    try DiskLayers.rebase(paths[7], onto: ("layer4", .qcow2), backing: policy)
    #expect(try self.content(paths[7]) == content)
    let information = shell("qemu-img info '\(paths[7])'").output
    #expect(
      information.contains("backing file: layer4")
        && information.contains("backing file format: qcow2"))
    try DiskLayers.rebase(paths[7], onto: nil, backing: policy)
    #expect(try self.content(paths[7]) == content)
    expectClean(paths[7])
    shell("cp '\(paths[2])' '\(folder.file("a longer name for the second layer"))'")
    try DiskLayers.rebase(
      paths[3], onto: ("a longer name for the second layer", .qcow2), backing: policy,
      isUnsafe: true)
    #expect(shell("qemu-img compare '\(paths[3])' '\(paths[3])'").status == 0)
    expectClean(paths[3])
  }
}
