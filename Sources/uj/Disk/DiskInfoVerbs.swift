// `uj disk info`, `map`, `measure`, `compare`: looking without changing.
import ArgumentParser
import CLinux
import DiskImage

struct DiskInfoVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info", abstract: "What an image says about itself. Opens no other file.")
  @Argument(help: "The image; its format is looked up in the file if it has no prefix.")
  var image: String
  @OptionGroup var common: DiskOptions

  func run() throws {
    var format: DiskFormat?
    var path = image
    for known in DiskFormat.allCases where image.hasPrefix("\(known.rawValue):") {
      format = known
      path = String(image.dropFirst(known.rawValue.count + 1))
    }
    let information = try ImageInformation.read(path, format: format)
    print(common.json ? Self.json(information).encoded : Self.text(information))
  }

  static func json(_ information: ImageInformation) -> DiskJSON {
    var fields: [(String, DiskJSON)] = [
      ("filename", .text(information.path)), ("format", .text(information.format.rawValue)),
      ("virtual-size", .number(information.virtualSize)),
      ("file-length", .number(information.fileLength)),
      ("actual-size", .number(information.allocatedSize)),
    ]
    if let image = information.qcow2 {
      fields += [
        ("version", .number(UInt64(image.version))), ("cluster-size", .number(image.clusterSize)),
        ("refcount-bits", .number(UInt64(image.refcountBits))),
        ("compression", .text(image.compression.name)),
        ("lazy-refcounts", .boolean(image.hasLazyRefcounts)),
        ("subclusters", .boolean(image.hasSubclusters)), ("dirty", .boolean(image.isDirty)),
        ("corrupt", .boolean(image.isCorrupt)),
        ("backing-filename", .optional(image.backingName)),
        ("backing-format", .optional(image.backingFormat)),
        ("data-file", .optional(image.dataFile)),
        ("snapshots", .array(image.snapshots.map(DiskSnapshotVerb.json))),
      ]
    }
    return .object(fields)
  }

  /// What a verb that made or changed an image says under --json: what the image is now.
  static func report(_ path: String, _ format: DiskFormat, json: Bool) throws {
    if json { print(Self.json(try ImageInformation.read(path, format: format)).encoded) }
  }

  static func text(_ information: ImageInformation) -> String {
    var lines = [
      "image:        \(information.path)", "format:       \(information.format.rawValue)",
      "virtual size: \(readableSize(information.virtualSize)) (\(information.virtualSize) bytes)",
      "on disk:      \(readableSize(information.allocatedSize))",
    ]
    guard let image = information.qcow2 else { return lines.joined(separator: "\n") }
    lines.append("version:      \(image.version), clusters of \(readableSize(image.clusterSize))")
    lines.append(
      "refcounts:    \(image.refcountBits) bits\(image.hasLazyRefcounts ? ", lazy" : "")")
    lines.append("compression:  \(image.compression.name)")
    if image.hasSubclusters { lines.append("subclusters:  yes") }
    if image.isDirty { lines.append("state:        was not closed") }
    if image.isCorrupt {
      lines.append("state:        marked corrupt; run uj disk check --repair all")
    }
    if let name = image.backingName {
      lines.append("backing file: \(name) (\(image.backingFormat ?? "format not stated"))")
    }
    if let name = image.dataFile { lines.append("data file:    \(name)") }
    for snapshot in image.snapshots {
      lines.append("snapshot:     \(DiskSnapshotVerb.text(snapshot))")
    }
    return lines.joined(separator: "\n")
  }
}

struct DiskMapVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "map", abstract: "Which stretches of a disk are stored where.")
  @Argument(help: "The image.")
  var image: ImageArgument
  @OptionGroup var common: DiskOptions

  func run() throws {
    let disk = try image.open(.readOnly, trust: common.trust)
    var lines: [String] = []
    try DiskMap.walk(disk) { (entry) throws(DiskImageError) in
      if common.json {
        var fields: [(String, DiskJSON)] = [
          ("start", .number(entry.start)), ("length", .number(entry.length)),
          ("depth", .number(UInt64(entry.depth))), ("present", .boolean(entry.isAllocated)),
          ("zero", .boolean(entry.isZero)), ("data", .boolean(!entry.isZero)),
          ("compressed", .boolean(entry.isCompressed)),
        ]
        if let offset = entry.hostOffset { fields.append(("offset", .number(offset))) }
        lines.append(DiskJSON.object(fields).encoded)
      } else if !entry.isZero {
        let place = entry.hostOffset.map { "at \($0)" } ?? (entry.isCompressed ? "compressed" : "")
        lines.append("\(entry.start)\t\(entry.length)\tlayer \(entry.depth)\t\(place)")
      }
    }
    print(common.json ? "[" + lines.joined(separator: ",\n") + "]" : lines.joined(separator: "\n"))
  }
}

struct DiskMeasureVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "measure", abstract: "How large a converted image would be.")
  @Argument(help: "The image, or a size.")
  var source: String
  @Option(name: [.customShort("O"), .customLong("to")], help: "Format of the new image.")
  var format = "qcow2"
  @OptionGroup var properties: NewImageOptions
  @OptionGroup var common: DiskOptions

  func run() throws {
    guard let target = DiskFormat(rawValue: format) else {
      throw UsageFailure("--to: raw or qcow2")
    }
    let options = try properties.options()
    let result: DiskMap.Measurement
    if let size = SizeArgument(argument: source) {
      result = try DiskMap.measure(nil, size: size.bytes, format: target, options: options)
    } else {
      guard let image = ImageArgument(argument: source) else { throw UsageFailure("no image") }
      let disk = try image.open(.readOnly, trust: common.trust)
      result = try DiskMap.measure(disk, format: target, options: options)
    }
    if common.json {
      print(
        DiskJSON.object([
          ("required", .number(result.required)),
          ("fully-allocated", .number(result.fullyAllocated)),
        ]).encoded)
    } else {
      print("required size: \(result.required)\nfully allocated size: \(result.fullyAllocated)")
    }
  }
}

struct DiskCompareVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare", abstract: "Whether two images hold the same.",
    discussion: "Exit status: 0 the same, 1 different, 2 the comparison failed.")
  @Argument(help: "An image.")
  var first: ImageArgument
  @Argument(help: "Another.")
  var second: ImageArgument
  @Flag(help: "Different sizes are a difference, too.")
  var strict = false
  @OptionGroup var common: DiskOptions

  func run() throws {
    var difference: UInt64?
    do {
      let one = try first.open(.readOnly, trust: common.trust)
      let two = try second.open(.readOnly, trust: common.trust)
      try DiskProgressBar.run("compare") { progress in
        difference = try DiskDifference.first(one, two, strict: strict, progress: progress)
      }
    } catch let error as DiskImageError {
      // Status 1 says that they differ.
      Failure.print(error)
      throw ExitStatus(status: 2)
    }
    if common.json {
      print(
        DiskJSON.object([
          ("identical", .boolean(difference == nil)),
          ("offset", difference.map { .number($0) } ?? .null),
        ]).encoded)
    } else {
      print(difference.map { "The images differ at byte \($0)." } ?? "The images are identical.")
    }
    if difference != nil { throw ExitStatus(status: 1) }
  }
}
