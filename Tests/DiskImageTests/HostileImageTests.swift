// Images made to harm their reader: one test for each lesson that other programs had to learn.
import CLinux
import DiskImage
import Glibc
import Testing

@Suite struct HostileImageTests {
  static func patched(_ bytes: [UInt8], _ offset: Int, _ value: [UInt8]) -> [UInt8] {
    var copy = bytes
    copy.replaceSubrange(offset..<offset + value.count, with: value)
    return copy
  }

  /// Header fields that are refused at once, with an error that names what is wrong.
  @Test(
    arguments: [
      (20, SampleImage.big(0, 4), "cluster bits"), (20, SampleImage.big(8, 4), "cluster bits"),
      (20, SampleImage.big(22, 4), "cluster bits"),
      (20, SampleImage.big(63, 4), "cluster bits"), (4, SampleImage.big(1, 4), "version"),
      (4, SampleImage.big(4, 4), "version"),
      (24, SampleImage.big(1 << 63), "size"), (24, SampleImage.big(1 << 62), "L1 table"),
      (36, SampleImage.big(0, 4), "L1 table"),
      (36, SampleImage.big(0xffff_ffff, 4), "L1 table"), (40, SampleImage.big(513), "L1 table"),
      (40, SampleImage.big(0), "L1 table"),
      (40, SampleImage.big(0xffff_ffff_ffff_f000), "L1 table"),
      (48, SampleImage.big(1), "refcount table"),
      (48, SampleImage.big(0), "refcount table"),
      (56, SampleImage.big(0, 4), "refcount table"),
      (56, SampleImage.big(0xffff_ffff, 4), "refcount table"),
      (60, SampleImage.big(0xffff_ffff, 4), "snapshots"),
      (64, SampleImage.big(7), "snapshot table"),
      (32, SampleImage.big(1, 4), "encrypted"),
      (32, SampleImage.big(2, 4), "encrypted"), (32, SampleImage.big(9, 4), "encryption"),
      (72, SampleImage.big(1 << 40), "bit 40"),
      (72, SampleImage.big(1 << 3), "compresses"), (96, SampleImage.big(7, 4), "refcounts"),
      (96, SampleImage.big(0xffff_ffff, 4), "refcounts"),
      (100, SampleImage.big(103, 4), "header length"),
      (100, SampleImage.big(1 << 20, 4), "header length"),
      (104, [2], "method 2"),
      (8, SampleImage.big(50_000), "backing file's name"),
      (8, SampleImage.big(0x7fff_ffff_ffff_fff0), "backing file's name"),
      (112, SampleImage.big(0x6803_f857_ffff_ffff), "extension"),
    ] as [(Int, [UInt8], String)])
  func headerIsRefused(_ offset: Int, _ value: [UInt8], _ words: String) throws {
    var bytes = Self.patched(try SampleImage.make(), offset, value)
    if offset == 8 { bytes = Self.patched(bytes, 16, SampleImage.big(100, 4)) }
    let storage = MemoryStorage(bytes)
    let error = #expect(throws: DiskImageError.self) {
      try Qcow2Image.open(storage, mode: .readOnly)
    }
    #expect(error?.description.contains(words) == true, "\(error.map { "\($0)" } ?? "opened")")
    #expect(error?.description.contains("\n") == false)
  }

  /// A guest write into a cluster that a table entry aims at a table: refused, and the image marked.
  @Test(arguments: ["header", "L1", "refcount table", "refcount block", "L2"])
  func dataNeverLandsOnTables(_ target: String) throws {
    let bytes = try SampleImage.make()
    let l1 = Int(SampleImage.word(bytes, 40))
    let l2 = Int(SampleImage.word(bytes, l1) & 0x00ff_ffff_ffff_fe00)
    let table = Int(SampleImage.word(bytes, 48))
    let place: UInt64
    switch target {
    case "header": place = 0
    case "L1": place = UInt64(l1)
    case "refcount table": place = UInt64(table)
    case "refcount block": place = SampleImage.word(bytes, table)
    default: place = UInt64(l2)
    }
    // With an offset of 0 the entry says "unallocated"; a zero cluster with a place cannot be at 0 either.
    let entry = (1 << 63) | place
    let storage = MemoryStorage(Self.patched(bytes, l2 + 8 * 100, SampleImage.big(entry)))
    let image = try Qcow2Image.open(storage)
    if place == 0 {
      try image.fill(9, 4096, at: 100 * 4096)
      #expect(storage.bytes.prefix(4) == [0x51, 0x46, 0x49, 0xfb])
    } else {
      #expect(throws: DiskImageError.self) { try image.fill(9, 4096, at: 100 * 4096) }
      #expect(throws: DiskImageError.self) { try image.fill(9, 4096, at: 0) }
      #expect(storage.bytes[79] & 2 == 2, "corrupt bit")
      #expect(throws: DiskImageError.self) { try image.fill(1, 512, at: 2 << 20) }
    }
    try? image.close()
  }

  @Test func overlappingTablesAreNotWritten() throws {
    let bytes = try SampleImage.make()
    let l1 = Int(SampleImage.word(bytes, 40))
    for place in [
      UInt64(l1), SampleImage.word(bytes, 48),
      SampleImage.word(bytes, Int(SampleImage.word(bytes, 48))),
    ] {
      let hostile = Self.patched(bytes, l1, SampleImage.big(1 << 63 | place))
      #expect(throws: DiskImageError.self) { try Qcow2Image.open(MemoryStorage(hostile)) }
    }
    // Refcounts that call a table free: the allocator does not hand it out.
    let block = Int(SampleImage.word(bytes, Int(SampleImage.word(bytes, 48))))
    let storage = MemoryStorage(Self.patched(bytes, block, [UInt8](repeating: 0, count: 64)))
    let image = try Qcow2Image.open(storage)
    #expect(throws: DiskImageError.self) { try image.fill(1, 4096, at: 1 << 20) }
    try? image.close()
  }

  @Test func brokenEntriesAreErrorsNotData() throws {
    let bytes = try SampleImage.make()
    let l1 = Int(SampleImage.word(bytes, 40))
    let l2 = Int(SampleImage.word(bytes, l1) & 0x00ff_ffff_ffff_fe00)
    let misaligned = try Qcow2Image.open(
      MemoryStorage(Self.patched(bytes, l2, SampleImage.big(1 << 63 | 0x1200))))
    #expect(throws: DiskImageError.self) { try misaligned.bytes(512, at: 0) }
    #expect(throws: DiskImageError.self) { try misaligned.fill(1, 512, at: 0) }
    // Behind the end of the file there are zeros, not an error and not rubbish.
    let behind = try Qcow2Image.open(
      MemoryStorage(Self.patched(bytes, l2, SampleImage.big(1 << 63 | 1 << 40))), mode: .readOnly)
    #expect(try behind.bytes(4096, at: 0) == [UInt8](repeating: 0, count: 4096))
    // A compressed cluster that claims the largest length, of garbage.
    let garbage = try Qcow2Image.open(
      MemoryStorage(Self.patched(bytes, l2, SampleImage.big(1 << 62 | 0x3fff << 48 | 4096))),
      mode: .readOnly)
    #expect(throws: DiskImageError.self) { try garbage.bytes(512, at: 0) }
  }

  @Test func refcountsOutOfRangeAreErrors() throws {
    let bytes = try SampleImage.make()
    let block = Int(SampleImage.word(bytes, Int(SampleImage.word(bytes, 48))))
    for value: UInt8 in [0, 0xff] {
      var hostile = bytes
      // All but the clusters up to the first L2 table.
      for index in block + 14..<block + 400 { hostile[index] = value }
      let image = try Qcow2Image.open(MemoryStorage(hostile))
      #expect(throws: DiskImageError.self) { try image.createSnapshot("two") }
      _ = try? image.discard(at: 0, count: 4 << 20)
      _ = try? image.flush()
      _ = try? image.close()
    }
  }

  @Test func namesAreNotFollowed() throws {
    let folder = TemporaryFolder()
    let secret = folder.file("secret")
    shell(
      "mkdir '\(folder.file("images"))' && printf secret > '\(secret)' && truncate -s 4096 '\(secret)'"
    )
    let path = folder.file("images/a.qcow2")
    for name in [secret, "../secret", "link"] {
      try Qcow2.create(
        folder.file("images/base"), size: 4096, options: qcow2(16) { $0.replacing = true })
      shell("ln -sf '\(secret)' '\(folder.file("images/link"))'")
      try Qcow2.create(
        path, size: 4096,
        options: qcow2(16) {
          $0.backing = (name, .raw)
          $0.replacing = true
        })
      #expect(throws: DiskImageError.self) { try DiskImage.open(path, format: .qcow2) }
      #expect(throws: DiskImageError.self) {
        try DiskImage.open(path, format: .qcow2, backing: .allow(within: folder.file("images")))
      }
      // Showing opens nothing else.
      #expect(try ImageInformation.read(path).qcow2?.backingName == name)
      let allowed = try DiskImage.open(path, format: .qcow2, backing: .allowExplicit([secret]))
      #expect(try allowed.bytes(6, at: 0) == Array("secret".utf8))
      try allowed.close()
    }
  }

  @Test(arguments: [
    "json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "nbd:localhost:1", "fat:/etc",
  ])
  func onlyPlainPathsAreFollowed(name: String) throws {
    let folder = TemporaryFolder()
    let path = folder.file("a.qcow2")
    let storage = MemoryStorage()
    try Qcow2.format(storage, size: 4096, options: qcow2(12), path: "memory")
    var bytes = storage.bytes
    bytes.replaceSubrange(2048..<2048 + name.utf8.count, with: Array(name.utf8))
    bytes = Self.patched(
      Self.patched(bytes, 8, SampleImage.big(2048)), 16, SampleImage.big(UInt64(name.utf8.count), 4)
    )
    writeFile(bytes, path)
    let error = #expect(throws: DiskImageError.self) {
      try DiskImage.open(path, format: .qcow2, backing: .allowAny)
    }
    #expect(error?.code == .refused)
  }

  @Test func loopsAndUnstatedFormatsAreRefused() throws {
    let folder = TemporaryFolder()
    let (a, b) = (folder.file("a"), folder.file("b"))
    try Qcow2.create(a, size: 4096)
    try Qcow2.create(b, size: 4096, options: qcow2(16) { $0.backing = ("a", .qcow2) })
    try DiskLayers.rebase(a, onto: ("b", .qcow2), backing: .refuse, isUnsafe: true)
    #expect(throws: DiskImageError.self) {
      try DiskImage.open(a, format: .qcow2, mode: .readOnly, backing: .allowAny)
    }
    // The extension that states the format comes first; under another kind it says nothing.
    try Qcow2.create(a, size: 4096, options: qcow2(16) { $0.replacing = true })
    shell("printf '\\021' | dd of='\(b)' bs=1 seek=112 conv=notrunc")
    let error = #expect(throws: DiskImageError.self) {
      try DiskImage.open(b, format: .qcow2, mode: .readOnly, backing: .allowAny)
    }
    #expect(error?.code == .refused)
  }

  /// A guest writes a qcow2 header into its raw disk: the disk stays raw.
  @Test func rawStaysRaw() throws {
    let folder = TemporaryFolder()
    let path = folder.file("disk")
    shell("truncate -s 1M '\(path)'")
    let disk = try DiskImage.open(path, format: .raw)
    try disk.put(Array(try SampleImage.make().prefix(512)), at: 0)
    try disk.close()
    let again = try DiskImage.open(path, format: .raw, backing: .allowAny)
    #expect(again.size == 1 << 20)
    #expect(again is RawImage)
  }

  /// A frame that never ends gives an error, after one cluster's worth of work.
  @Test func endlessStreamsEnd() throws {
    let bytes = try SampleImage.make(12) { $0.compression = .zstd }
    let l1 = Int(SampleImage.word(bytes, 40))
    let l2 = Int(SampleImage.word(bytes, l1) & 0x00ff_ffff_ffff_fe00)
    // Skippable and empty frames, again and again: no output at all.
    var hostile = Self.patched(bytes, l2, SampleImage.big(1 << 62 | 3 << 58 | UInt64(bytes.count)))
    for _ in 0..<300 { hostile += [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0] }
    let image = try Qcow2Image.open(MemoryStorage(hostile), mode: .readOnly)
    #expect(throws: DiskImageError.self) { try image.bytes(512, at: 0) }
  }

  func writeFile(_ bytes: [UInt8], _ path: String) {
    let file = fopen(path, "w")!
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
  }
}
