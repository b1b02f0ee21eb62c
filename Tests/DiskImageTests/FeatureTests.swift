// One test for each feature of the format that the other tests do not meet: made by QEMU's tools and used by us, made by
// us and used by them.
import CLinux
import DiskImage
import Glibc
import Testing

@Suite(.enabled(if: Requirement.hasQemu, "qemu-img and qemu-io are not installed"))
struct FeatureTests {
  let folder = TemporaryFolder()

  /// Runs a command line in the folder; it must succeed.
  @discardableResult
  func qemu(_ line: String, sourceLocation: SourceLocation = #_sourceLocation) -> String {
    let result = shell("cd '\(folder.path)' && \(line)")
    #expect(
      result.status == 0 && !result.output.contains("verification failed"),
      "\(line): \(result.output)", sourceLocation: sourceLocation)
    return result.output
  }

  func isAll(_ value: UInt8, _ disk: any BlockDevice, _ count: Int, at offset: UInt64) throws
    -> Bool
  {
    try disk.bytes(count, at: offset).allSatisfy { $0 == value }
  }

  func open(_ name: String, _ mode: AccessMode = .readWrite) throws -> Qcow2Image {
    try DiskImage.openQcow2(
      folder.file(name), mode: mode, backing: .allow(within: folder.path))
  }

  @Test(arguments: [1, 2, 4, 8, 16, 32, 64], [true, false])
  func refcountWidths(bits: Int, madeByQemu: Bool) throws {
    let path = folder.file("w.qcow2")
    if madeByQemu {
      qemu("qemu-img create -f qcow2 -o refcount_bits=\(bits),cluster_size=4k w.qcow2 40M")
    } else {
      try Qcow2.create(path, size: 40 << 20, options: qcow2(12) { $0.refcountBits = bits })
    }
    qemu("qemu-io -f qcow2 -c 'write -P 1 0 9M' w.qcow2")
    var disk = try open("w.qcow2")
    try disk.fill(2, 9 << 20, at: 8 << 20)
    if bits > 1 { try disk.createSnapshot("one") }
    try disk.fill(3, 1 << 20, at: 4 << 20)
    try disk.close()
    expectClean(path)
    if bits > 1 { qemu("qemu-img snapshot -c two w.qcow2") }
    qemu("qemu-io -f qcow2 -c 'write -P 4 20M 3M' -c 'discard 0 1M' w.qcow2")
    expectClean(path)
    disk = try open("w.qcow2")
    #expect(try isAll(0, disk, 1 << 20, at: 0) && isAll(1, disk, 3 << 20, at: 1 << 20))
    #expect(try isAll(3, disk, 1 << 20, at: 4 << 20) && isAll(2, disk, 9 << 20, at: 8 << 20))
    #expect(try isAll(4, disk, 3 << 20, at: 20 << 20))
    if bits > 1 {
      // Eight snapshots are more than 3, which two bits can count.
      if bits == 2 {
        #expect(throws: DiskImageError.self) { for n in 0..<3 { try disk.createSnapshot("x\(n)") } }
      }
      try disk.applySnapshot("one")
      #expect(try isAll(1, disk, 8 << 20, at: 0))
      try disk.deleteSnapshot("two")
    }
    try disk.close()
    expectClean(path)
  }

  @Test(arguments: [false, true], [false, true])
  func externalDataFile(isRaw: Bool, preallocates: Bool) throws {
    let path = folder.file("x.qcow2")
    try Qcow2.create(
      path, size: 8 << 20,
      options: qcow2(16) {
        $0.dataFile = "x.data"
        $0.dataFileIsRaw = isRaw
        $0.preallocation = preallocates ? .metadata : .off
      })
    expectClean(path)
    // Not without the caller's permission.
    #expect(throws: DiskImageError.self) { try DiskImage.open(path, format: .qcow2) }
    var disk = try open("x.qcow2")
    try disk.fill(1, 300_000, at: 100_000)
    #expect(throws: DiskImageError.self) { try disk.createSnapshot("no") }
    try disk.writeZeroes(at: 200_000, count: 100_000)
    try disk.close()
    expectClean(path)
    qemu("qemu-io -f qcow2 -c 'read -P 1 100000 100000' -c 'read -P 0 200000 100000' x.qcow2")
    qemu("qemu-io -f qcow2 -c 'read -P 1 300000 100000' -c 'write -P 2 4M 1M' x.qcow2")
    if isRaw {
      qemu("qemu-io -f raw -c 'read -P 1 100000 100000' -c 'read -P 0 200000 100000' x.data")
    }
    disk = try open("x.qcow2")
    #expect(try isAll(2, disk, 1 << 20, at: 4 << 20) && isAll(1, disk, 1000, at: 100_000))
    try disk.discard(at: 4 << 20, count: 1 << 20)
    try disk.resize(to: 10 << 20)
    try disk.close()
    expectClean(path)
    qemu("qemu-io -f qcow2 -c 'read -P 0 4M 1M' -c 'write -P 3 9M 1M' x.qcow2")
  }

  /// A bitmap that records says afterwards that it cannot be believed; one that is switched off stays as it was; neither
  /// leaks.
  @Test func bitmaps() throws {
    qemu("qemu-img create -f qcow2 b.qcow2 64M && qemu-io -f qcow2 -c 'write 0 1M' b.qcow2")
    qemu("qemu-img bitmap --add b.qcow2 on && qemu-img bitmap --add --disable b.qcow2 off")
    let path = folder.file("b.qcow2")
    let reader = try open("b.qcow2", .readOnly)
    try reader.close()
    func flags(_ name: String) -> String {
      let text = qemu("qemu-img info --output=json b.qcow2")
      guard let place = text.range(of: "\"name\": \"\(name)\"") else { return "none" }
      return text[..<place.lowerBound].components(of: "flags").last ?? ""
    }
    #expect(flags("on").contains("auto") && !flags("on").contains("in-use"))
    var disk = try open("b.qcow2")
    try disk.fill(1, 100_000, at: 5 << 20)
    try disk.createSnapshot("one")
    try disk.fill(2, 100_000, at: 5 << 20)
    try disk.close()
    expectClean(path)
    #expect(flags("on").contains("in-use") && !flags("off").contains("in-use"))
    disk = try open("b.qcow2")
    try disk.resize(to: 6 << 30)
    try disk.close()
    expectClean(path)
    #expect(flags("off").contains("in-use"))
    qemu("qemu-io -f qcow2 -c 'read -P 2 5M 100000' -c 'write 5G 1M' b.qcow2")
    qemu("qemu-img bitmap --remove b.qcow2 on && qemu-img bitmap --remove b.qcow2 off")
    expectClean(path)
  }

  /// LUKS inside of qcow2 differs in the header's method; QEMU cannot make one where processor time is not accounted well.
  @Test(arguments: ["AES", "LUKS"])
  func encryptedImagesAreRefused(kind: String) throws {
    qemu(
      "qemu-img create -f qcow2 --object secret,id=s,data=abc "
        + "-o encrypt.format=aes,encrypt.key-secret=s e.qcow2 1M")
    let path = folder.file("e.qcow2")
    if kind == "LUKS" { shell("printf '\\002' | dd of='\(path)' bs=1 seek=35 conv=notrunc") }
    for mode in [AccessMode.readOnly, .readWrite] {
      let error = #expect(throws: DiskImageError.self) { try open("e.qcow2", mode) }
      #expect(error?.code == .unsupported)
      #expect(error?.description.contains("is encrypted (\(kind)); convert it") == true)
    }
    let error = #expect(throws: DiskImageError.self) { try DiskImage.check(path) }
    #expect(error?.code == .unsupported)
  }

  /// A program that puts off refcounts was killed: whoever opens the image for writing next repairs it.
  @Test func dirtyImagesAreRepaired() throws {
    qemu("qemu-img create -f qcow2 -o lazy_refcounts=on d.qcow2 16M")
    shell("cd '\(folder.path)' && qemu-io -f qcow2 -c 'write -P 5 0 3M' -c 'abort' d.qcow2")
    let path = folder.file("d.qcow2")
    #expect(try ImageInformation.read(path).qcow2?.isDirty == true)
    let reader = try open("d.qcow2", .readOnly)
    #expect(try isAll(5, reader, 3 << 20, at: 0))
    try reader.close()
    let disk = try open("d.qcow2")
    #expect(try isAll(5, disk, 3 << 20, at: 0))
    try disk.fill(6, 3 << 20, at: 2 << 20)
    try disk.close()
    expectClean(path)
    #expect(try ImageInformation.read(path).qcow2?.isDirty == false)
    qemu("qemu-io -f qcow2 -c 'read -P 5 0 2M' -c 'read -P 6 2M 3M' d.qcow2")
  }

  /// An extension that nobody knows stays, an autoclear bit that nobody knows goes, with the first opening for writing;
  /// the corrupt bit keeps writers out until a repair.
  @Test func unknownThings() throws {
    let path = folder.file("u.qcow2")
    try Qcow2.create(folder.file("base.qcow2"), size: 1 << 20)
    try Qcow2.create(path, size: 1 << 20, options: qcow2(16))
    // The end mark behind the feature names becomes an extension of 5 bytes; the autoclear field gets bit 40.
    let place = 112 + 8 + 384
    shell(
      """
      printf '\\336\\255\\276\\357\\000\\000\\000\\005hello\\000\\000\\000' | dd of='\(path)' bs=1 seek=\(place) conv=notrunc
      printf '\\001' | dd of='\(path)' bs=1 seek=\(88 + 2) conv=notrunc
      """)
    func bytes(_ offset: Int, _ count: Int) throws -> [UInt8] {
      let file = try DiskImage.open(path, format: .raw, mode: .readOnly)
      defer { try? file.close() }
      return try file.bytes(count, at: UInt64(offset))
    }
    try open("u.qcow2", .readOnly).close()
    #expect(try bytes(90, 1) == [1])
    try DiskLayers.rebase(
      path, onto: ("base.qcow2", .qcow2), backing: .allow(within: folder.path), isUnsafe: true)
    let header = try bytes(0, 1024)
    #expect(header[90] == 0)
    let hello = Array("hello".utf8)
    #expect((0..<1000).contains { Array(header[$0..<$0 + 5]) == hello })
    qemu("qemu-img info u.qcow2")
    expectClean(path)
    shell("printf '\\002' | dd of='\(path)' bs=1 seek=79 conv=notrunc")
    #expect(throws: DiskImageError.self) { try open("u.qcow2") }
    try open("u.qcow2", .readOnly).close()
    #expect(try DiskImage.check(path, repair: .all).status == .clean)
    try open("u.qcow2").close()
    expectClean(path)
  }

  /// Zero clusters with and without a place in the file, made by both.
  @Test(arguments: ["", "-o extended_l2=on", "-o compat=0.10"])
  func zeroClusters(options: String) throws {
    qemu("qemu-img create -f qcow2 \(options) z.qcow2 16M")
    qemu(
      "qemu-io -f qcow2 -c 'write -P 1 0 16M' -c 'write -z 1M 1M' -c 'write -z -u 3M 1M' z.qcow2")
    let disk = try open("z.qcow2")
    #expect(try isAll(0, disk, 1 << 20, at: 1 << 20) && isAll(0, disk, 1 << 20, at: 3 << 20))
    try disk.writeZeroes(at: 5 << 20, count: 1 << 20, mayUnmap: false)
    try disk.writeZeroes(at: 7 << 20, count: 1 << 20, mayUnmap: true)
    try disk.fill(2, 70_000, at: (5 << 20) + 1000)
    try disk.fill(3, 70_000, at: (1 << 20) + 1000)
    try disk.close()
    expectClean(folder.file("z.qcow2"))
    qemu(
      "qemu-io -f qcow2 -c 'read -P 0 5M 1000' -c 'read -P 2 5243880 70000' -c 'read -P 0 5314k 500k' "
        + "-c 'read -P 0 7M 1M' -c 'read -P 3 1049576 70000' -c 'read -P 0 1m 1000' -c 'read -P 1 8M 8M' z.qcow2"
    )
  }

  @Test(arguments: ["", "-o cluster_size=512", "-o extended_l2=on"])
  func sizesChange(options: String) throws {
    qemu("qemu-img create -f qcow2 \(options) r.qcow2 10M")
    qemu("qemu-io -f qcow2 -c 'write -P 1 0 10M' r.qcow2")
    let disk = try open("r.qcow2")
    try disk.resize(to: 300 << 20)
    try disk.fill(2, 1 << 20, at: 299 << 20)
    try disk.resize(to: 4_196_352)
    try disk.resize(to: 8 << 20)
    try disk.close()
    expectClean(folder.file("r.qcow2"))
    qemu("qemu-io -f qcow2 -c 'read -P 1 0 4196352' -c 'read -P 0 4196352 4192256' r.qcow2")
    qemu("qemu-img resize -f qcow2 r.qcow2 20M && qemu-img resize -f qcow2 --shrink r.qcow2 3M")
    let again = try open("r.qcow2")
    #expect(again.size == 3 << 20)
    #expect(try isAll(1, again, 3 << 20, at: 0))
    try again.close()
  }

  /// Eight layers that QEMU made, each of another kind; we write to the last one, QEMU merges it down.
  @Test func chainMadeByQemu() throws {
    qemu("qemu-img create -f raw l0 7M && qemu-io -f raw -c 'write -P 10 0 7M' l0")
    let kinds = [
      "cluster_size=512", "cluster_size=2M", "extended_l2=on,cluster_size=128k",
      "compat=0.10,cluster_size=4k", "cluster_size=64k,compression_type=zstd",
      "refcount_bits=64,cluster_size=16k", "lazy_refcounts=on,cluster_size=32k",
    ]
    for (index, kind) in kinds.enumerated() {
      let size = index < 3 ? "7M" : "9M"
      qemu(
        "qemu-img create -f qcow2 -o \(kind) -b l\(index) -F \(index == 0 ? "raw" : "qcow2") l\(index + 1) \(size)"
      )
      let place = index * 600_000
      qemu(
        "qemu-io -f qcow2 -c 'write -P \(index + 11) \(place) 900000' -c 'write -z 6500k 20k' l\(index + 1)"
      )
    }
    func content() throws -> [UInt8] {
      let disk = try open("l7", .readOnly)
      defer { try? disk.close() }
      return try disk.bytes(9 << 20, at: 0)
    }
    var model = [UInt8](repeating: 10, count: 7 << 20) + [UInt8](repeating: 0, count: 2 << 20)
    for index in 0..<7 {
      model.replaceSubrange(
        index * 600_000..<index * 600_000 + 900_000,
        with: repeatElement(UInt8(index + 11), count: 900_000))
    }
    model.replaceSubrange(
      6500 << 10..<6520 << 10, with: repeatElement(0, count: 20 << 10))
    let first = try content()
    #expect(first == model)
    let disk = try open("l7")
    try disk.fill(99, 1_000_001, at: 3_333_333)
    try disk.writeZeroes(at: 1_000_003, count: 500_000)
    try disk.close()
    model.replaceSubrange(3_333_333..<4_333_334, with: repeatElement(99, count: 1_000_001))
    model.replaceSubrange(1_000_003..<1_500_003, with: repeatElement(0, count: 500_000))
    for index in 1...7 { expectClean(folder.file("l\(index)")) }
    let second = try content()
    #expect(second == model)
    qemu("qemu-io -f qcow2 -c 'read -P 99 3333333 1000001' -c 'read -P 0 1000003 500000' l7")
    qemu("qemu-img commit l7 && qemu-img commit l6")
    let third = try content()
    #expect(third == model)
  }

  /// A chain that is thousands of files deep ends in an error, not in the depth of the stack.
  @Test func chainsHaveAnEnd() throws {
    try Qcow2.create(folder.file("c0"), size: 4096, options: qcow2(9))
    for index in 1...300 {
      try Qcow2.create(
        folder.file("c\(index)"), size: 4096,
        options: qcow2(9) { $0.backing = ("c\(index - 1)", .qcow2) })
    }
    let error = #expect(throws: DiskImageError.self) { try open("c300", .readOnly) }
    #expect(error?.code == .unsupported)
    let fine = try open("c200", .readOnly)
    #expect(try isAll(0, fine, 4096, at: 0))
    try fine.close()
  }
}

extension Substring {
  /// The parts between occurrences of a word.
  fileprivate func components(of word: String) -> [String] {
    var parts: [String] = []
    var rest = self
    while let place = rest.range(of: word) {
      parts.append(String(rest[..<place.lowerBound]))
      rest = rest[place.upperBound...]
    }
    return parts + [String(rest)]
  }

  /// The first occurrence of a word.
  fileprivate func range(of word: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(word) {
        return start..<(index(start, offsetBy: word.count, limitedBy: endIndex) ?? endIndex)
      }
      start = index(after: start)
    }
    return nil
  }
}

extension String {
  fileprivate func range(of word: String) -> Range<Index>? { self[...].range(of: word) }
}
