import CLinux
import Platform

/// The images of `uj-bench disk` and the operations on them.
struct Images {
  var folder: String
  var uj: String
  var qemuImage: String
  /// GiB.
  var size: Int
  var snapshotSize: Int

  private func path(_ name: String) -> String { "\(folder)/\(name)" }

  func rows(requests: Int, direct: Bool) -> [DiskRow] {
    conversions + creation + snapshots
      + Content.allCases.flatMap { content in
        [false, true].flatMap { writes in
          [(4096, "4k random"), (65536, "64k sequential")].flatMap { bytes, name in
            [1, 16, 64].map { depth in
              transfer(
                name, bytes: bytes, depth: depth, writes: writes, content: content,
                requests: bytes == 4096 ? requests : requests / 5, direct: direct)
            }
          }
        }
      }
  }

  // MARK: Conversion

  private var conversions: [DiskRow] {
    let raw = path("half.raw")
    let makeRaw = { try once(raw) { try makeHalfFull($0, gigabytes: size) } }
    func source(_ name: String, _ options: [String]) -> () throws -> Void {
      {
        try makeRaw()
        try once(path(name)) {
          _ = try MeasuredChild.run(
            [qemuImage, "convert", "-W", "-O", "qcow2"] + options + [raw, $0])
        }
        remove(path("out"))
      }
    }
    let intoQcow2: () throws -> Void = {
      try makeRaw()
      remove(path("out"))
    }
    var rows = [
      DiskRow(
        name: "convert raw to qcow2", prepare: intoQcow2,
        ours: [uj, "disk", "convert", raw, "qcow2:" + path("out")],
        theirs: [qemuImage, "convert", "-f", "raw", "-O", "qcow2", raw, path("out")]),
      DiskRow(
        name: "convert qcow2 to raw", prepare: source("plain.qcow2", []),
        ours: [uj, "disk", "convert", path("plain.qcow2"), "raw:" + path("out")],
        theirs: [
          qemuImage, "convert", "-f", "qcow2", "-O", "raw", path("plain.qcow2"), path("out"),
        ]),
    ]
    for method in ["zlib", "zstd"] {
      let option = "compression_type=\(method)"
      let ours = [
        uj, "disk", "convert", "-c", "--compression", method, raw, "qcow2:" + path("out"),
      ]
      let theirs = [
        qemuImage, "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", option, raw, path("out"),
      ]
      rows += [
        DiskRow(name: "compress with \(method)", prepare: intoQcow2, ours: ours, theirs: theirs),
        DiskRow(
          name: "compress with \(method) (qemu-img -W)", prepare: intoQcow2, ours: ours,
          theirs: theirs + ["-W"]),
        DiskRow(
          name: "decompress \(method)",
          prepare: source("\(method).qcow2", ["-c", "-o", option]),
          ours: [uj, "disk", "convert", path("\(method).qcow2"), "raw:" + path("out")],
          theirs: [
            qemuImage, "convert", "-f", "qcow2", "-O", "raw", path("\(method).qcow2"), path("out"),
          ]),
      ]
    }
    return rows
  }

  private var creation: [DiskRow] {
    [
      DiskRow(
        name: "create 1T", prepare: { remove(path("new.qcow2")) },
        ours: [uj, "disk", "create", path("new.qcow2"), "1t"],
        theirs: [qemuImage, "create", "-q", "-f", "qcow2", path("new.qcow2"), "1T"])
    ]
  }

  // MARK: Snapshots and check

  private var snapshots: [DiskRow] {
    let full = path("full.qcow2")
    let makeFull = {
      try once(full) {
        _ = try MeasuredChild.run(
          [
            qemuImage, "create", "-q", "-f", "qcow2", "-o", "preallocation=falloc", $0,
            "\(snapshotSize)G",
          ])
      }
    }
    func run(_ arguments: [String]) throws { _ = try MeasuredChild.run([qemuImage] + arguments) }
    // Whatever is there is taken away first, so that each run meets the same image.
    func with(_ names: [String]) -> () throws -> Void {
      {
        try makeFull()
        for name in ["a", "b"] { try? run(["snapshot", "-d", name, full]) }
        for name in names { try run(["snapshot", "-c", name, full]) }
      }
    }
    func row(_ name: String, _ names: [String], _ option: String) -> DiskRow {
      DiskRow(
        name: "snapshot \(name), \(snapshotSize) GiB full", prepare: with(names),
        ours: [uj, "disk", "snapshot", full, option, "a"],
        theirs: [qemuImage, "snapshot", option, "a", full])
    }
    return [
      row("create", [], "-c"), row("apply", ["a"], "-a"), row("delete", ["a"], "-d"),
      DiskRow(
        name: "check, \(snapshotSize) GiB full", prepare: with([]),
        ours: [uj, "disk", "check", full], theirs: [qemuImage, "check", "-q", full]),
    ]
  }

  // MARK: Reads and writes

  enum Content: String, CaseIterable {
    case allocated, unallocated
    case chain = "chain of 3"
  }

  private func transfer(
    _ name: String, bytes: Int, depth: Int, writes: Bool, content: Content, requests: Int,
    direct: Bool
  ) -> DiskRow {
    let image = path("io-\(content.rawValue.prefix(5)).qcow2")
    // A prime number of requests apart: every request in another place, and each place met once.
    let stride = bytes == 4096 ? 4096 * 12_289 : bytes
    var ours = [
      uj, "disk", "bench", "--trust", "-d", "\(depth)", "-s", "\(bytes)", "-c", "\(requests)", "-S",
      "\(stride)", image,
    ]
    var theirs = [
      qemuImage, "bench", "-f", "qcow2", "-d", "\(depth)", "-s", "\(bytes)", "-c", "\(requests)",
      "-S", "\(stride)", image,
    ]
    if writes {
      ours.append("-w")
      theirs.append("-w")
    }
    if direct {
      ours.append("--direct")
      theirs += ["-t", "none", "-n"]
    }
    return DiskRow(
      name: "\(name) \(writes ? "write" : "read"), depth \(depth), \(content.rawValue)",
      prepare: { try prepare(image, content, isFresh: writes) }, ours: ours, theirs: theirs)
  }

  private func prepare(_ image: String, _ content: Content, isFresh: Bool) throws {
    func qemu(_ arguments: [String]) throws { _ = try MeasuredChild.run([qemuImage] + arguments) }
    switch content {
    case .allocated:
      try once(image) {
        try qemu(["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", $0, "\(size)G"])
        try qemu(["bench", "-f", "qcow2", "-w", "-s", "1M", "-c", "\(size * 1024)", $0])
      }
    case .unallocated:
      if isFresh { remove(image) }
      try once(image) { try qemu(["create", "-q", "-f", "qcow2", $0, "\(size)G"]) }
    case .chain:
      let layers = [path("chain-0.qcow2"), path("chain-1.qcow2")]
      try once(layers[0]) {
        try qemu(["create", "-q", "-f", "qcow2", $0, "\(size)G"])
        try qemu(["bench", "-f", "qcow2", "-w", "-s", "1M", "-c", "\(size * 512)", $0])
      }
      try once(layers[1]) {
        try qemu(["create", "-q", "-f", "qcow2", "-b", layers[0], "-F", "qcow2", $0])
        try qemu([
          "bench", "-f", "qcow2", "-w", "-s", "64k", "-S", "256k", "-c", "\(size * 4096)", $0,
        ])
      }
      if isFresh { remove(image) }
      try once(image) {
        try qemu(["create", "-q", "-f", "qcow2", "-b", layers[1], "-F", "qcow2", $0])
      }
    }
  }

  // MARK: Files

  private func once(_ path: String, _ make: (String) throws -> Void) throws {
    if access(path, F_OK) != 0 { try make(path) }
  }

  private func remove(_ path: String) { unlink(path) }

  /// Every second MiB holds data: half random, half text-like, as file systems have it.
  private func makeHalfFull(_ path: String, gigabytes: Int) throws {
    let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
    let number = file.rawValue
    var piece = [UInt64](repeating: 0, count: (1 << 20) / 8)
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    for mebibyte in stride(from: 0, to: gigabytes * 1024, by: 2) {
      for index in piece.indices {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        piece[index] =
          index / 64 % 2 == 0 ? state : state & 0x0303_0303_0303_0303 | 0x6161_6161_6161_6161
      }
      try piece.withUnsafeBytes { bytes in
        guard pwrite(number, bytes.baseAddress, bytes.count, off_t(mebibyte) << 20) == bytes.count
        else { throw BenchmarkError("\(path): cannot be written") }
      }
    }
    try systemCall("ftruncate") { ftruncate(number, off_t(gigabytes) << 30) }
  }

  static func clear(_ folder: String) throws {
    _ = try ChildProcess.run(["/bin/rm", "-r", "-f", folder])
  }
}
