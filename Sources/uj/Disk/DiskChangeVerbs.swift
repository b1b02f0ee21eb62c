// `uj disk check`, `resize`, `snapshot`, `commit`, `stream`, `rebase`: changing images.
import ArgumentParser
import CLinux
import DiskImage

struct DiskCheckVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Look for damage in a qcow2 image, and repair it.",
    discussion: "Exit status: 0 clean, 1 the check failed, 2 corrupt, 3 leaking, 63 raw image.")
  @Argument(help: "The image.")
  var image: ImageArgument
  @Option(name: [.customShort("r"), .long], help: "none, leaks (give unused space back) or all.")
  var repair = "none"
  @OptionGroup var common: DiskOptions

  func run() throws {
    guard let mode = RepairMode(rawValue: repair) else {
      throw UsageFailure("--repair: none, leaks or all")
    }
    guard image.format == .qcow2 else {
      Failure.print(UsageFailure("\(image.path): is a raw image: there is nothing to check in it"))
      throw ExitStatus(status: CheckReport.Status.unsupported.rawValue)
    }
    var report = CheckReport()
    try DiskProgressBar.run("check") { progress in
      report = try DiskImage.check(
        image.path, format: image.format, repair: mode, progress: progress)
    }
    print(common.json ? Self.json(report).encoded : Self.text(report))
    if report.status != .clean { throw ExitStatus(status: report.status.rawValue) }
  }

  private static func json(_ report: CheckReport) -> DiskJSON {
    .object([
      ("corruptions", .number(UInt64(report.corruptions))),
      ("leaks", .number(UInt64(report.leaks))),
      ("corruptions-fixed", .number(UInt64(report.repairedCorruptions))),
      ("leaks-fixed", .number(UInt64(report.repairedLeaks))),
      ("allocated-clusters", .number(report.allocatedClusters)),
      ("compressed-clusters", .number(report.compressedClusters)),
      ("fragmented-clusters", .number(report.fragmentedClusters)),
      ("total-clusters", .number(report.totalClusters)),
      ("image-end-offset", .number(report.imageEnd)),
      ("findings", .array(report.findings.map { .text($0) })),
    ])
  }

  private static func text(_ report: CheckReport) -> String {
    var lines = report.findings
    switch report.status {
    case .clean where report.corruptions + report.leaks > 0:
      lines.append(
        "Repaired \(report.repairedCorruptions) errors and \(report.repairedLeaks) leaked clusters."
      )
    case .clean: lines.append("No errors.")
    case .leaking:
      lines.append(
        "\(report.leaks - report.repairedLeaks) clusters take space for nothing; no data is in danger "
          + "(--repair leaks gives it back).")
    default:
      lines.append(
        "\(report.corruptions - report.repairedCorruptions) errors; copy the file, then --repair all."
      )
    }
    lines.append("\(report.allocatedClusters)/\(report.totalClusters) clusters allocated")
    return lines.joined(separator: "\n")
  }
}

struct DiskResizeVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resize", abstract: "Give a disk another size.")
  @Argument(help: "The image.")
  var image: ImageArgument
  @Argument(help: "The new size, such as 20g, or +5g.")
  var size: String
  @Flag(help: "Allow to drop what is beyond a smaller size.")
  var shrink = false
  @OptionGroup var common: DiskOptions

  func run() throws {
    let disk = try image.open(.readWrite, trust: common.trust)
    let isRelative = size.hasPrefix("+")
    guard let given = SizeArgument(argument: isRelative ? String(size.dropFirst()) : size) else {
      throw UsageFailure("\(size): is no size")
    }
    let (sum, overflow) = disk.size.addingReportingOverflow(given.bytes)
    let wanted = isRelative ? sum : given.bytes
    if isRelative && overflow { throw UsageFailure("\(size): is too large") }
    guard wanted >= disk.size || shrink else {
      throw UsageFailure(
        "\(image.path): is \(disk.size) bytes now; --shrink drops what is beyond \(wanted)")
    }
    try disk.resize(to: wanted)
    try disk.close()
    try DiskInfoVerb.report(image.path, image.format, json: common.json)
  }
}

struct DiskSnapshotVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot",
    abstract: "Snapshots inside a qcow2 image; without an action, list them."
  )
  @Argument(help: "The image.")
  var image: ImageArgument
  @Option(name: [.customShort("c"), .long], help: "Keep the disk as it is now.")
  var create: String?
  @Option(name: [.customShort("a"), .long], help: "Make the disk what it was then.")
  var apply: String?
  @Option(name: [.customShort("d"), .long], help: "Forget a snapshot.")
  var delete: String?
  @OptionGroup var common: DiskOptions

  func validate() throws {
    guard [create, apply, delete].compactMap({ $0 }).count <= 1 else {
      throw ValidationError("Give one of --create, --apply and --delete.")
    }
  }

  func run() throws {
    let changes = create != nil || apply != nil || delete != nil
    let disk = try image.openQcow2(changes ? .readWrite : .readOnly, trust: common.trust)
    if changes {
      try DiskProgressBar.run("snapshot") { progress in
        if let create { try disk.createSnapshot(create, progress: progress) }
        if let apply { try disk.applySnapshot(apply, progress: progress) }
        if let delete { try disk.deleteSnapshot(delete, progress: progress) }
      }
    }
    if !changes || common.json {
      let all = try disk.snapshots()
      if common.json {
        print(DiskJSON.array(all.map(Self.json)).encoded)
      } else {
        for snapshot in all { print(Self.text(snapshot)) }
      }
    }
    try disk.close()
  }

  static func json(_ snapshot: Qcow2Snapshot) -> DiskJSON {
    .object([
      ("id", .text(snapshot.identifier)), ("name", .text(snapshot.name)),
      ("date-sec", .number(UInt64(snapshot.seconds))),
      ("disk-size", .number(snapshot.diskSize)),
      ("vm-state-size", .number(snapshot.machineStateSize)),
    ])
  }

  static func text(_ snapshot: Qcow2Snapshot) -> String {
    var time = time_t(snapshot.seconds)
    var parts = tm()
    localtime_r(&time, &parts)
    var buffer = [CChar](repeating: 0, count: 64)
    strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M:%S", &parts)
    let date = String(
      decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return "\(snapshot.identifier)\t\(snapshot.name)\t\(date)\t\(readableSize(snapshot.diskSize))"
  }
}

struct DiskCommitVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "commit", abstract: "Merge an overlay down into its backing file.")
  @Argument(help: "The overlay.")
  var image: ImageArgument
  @Flag(name: [.customShort("d"), .customLong("keep")], help: "Leave the overlay's own data, too.")
  var keep = false
  @OptionGroup var common: DiskOptions

  func run() throws {
    try DiskProgressBar.run("commit") { progress in
      try DiskLayers.commit(
        image.path, backing: image.policy(trust: common.trust), keepsData: keep, progress: progress)
    }
    try DiskInfoVerb.report(image.path, image.format, json: common.json)
  }
}

struct DiskStreamVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stream", abstract: "Pull the data of backing files up into an overlay.")
  @Argument(help: "The overlay.")
  var image: ImageArgument
  @Option(help: "Stop above this file of the chain; without it the overlay stands alone.")
  var base: ImageArgument?
  @OptionGroup var common: DiskOptions

  func run() throws {
    try DiskProgressBar.run("stream") { progress in
      try DiskLayers.stream(
        image.path, backing: image.policy(trust: common.trust),
        base: base.map { ($0.path, $0.format) }, progress: progress)
    }
    try DiskInfoVerb.report(image.path, image.format, json: common.json)
  }
}

struct DiskRebaseVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rebase", abstract: "Give an overlay another backing file, or none.")
  @Argument(help: "The overlay.")
  var image: ImageArgument
  @Option(
    name: [.customShort("b"), .customLong("backing")],
    help: "The new backing file, seen from the overlay's folder; none if absent.")
  var backing: ImageArgument?
  @Flag(
    name: [.customShort("u"), .customLong("unsafe")],
    help: "Only change the name: the new file holds the same as the old.")
  var isUnsafe = false
  @OptionGroup var common: DiskOptions

  func run() throws {
    try DiskProgressBar.run("rebase") { progress in
      try DiskLayers.rebase(
        image.path, onto: backing.map { ($0.path, $0.format) },
        backing: image.policy(trust: common.trust), isUnsafe: isUnsafe, progress: progress)
    }
    try DiskInfoVerb.report(image.path, image.format, json: common.json)
  }
}
