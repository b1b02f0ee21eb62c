// `uj disk create` and `uj disk convert`: new images.
import ArgumentParser
import CLinux
import DiskImage

/// Properties of a new qcow2 image.
struct NewImageOptions: ParsableArguments {
  @Option(help: "Cluster size, 512 to 2M.")
  var clusterSize: SizeArgument?
  @Option(help: "Width of a refcount: 1, 2, 4, ... 64 bits.")
  var refcountBits: Int?
  @Option(help: "Version of qcow2, 2 or 3.")
  var version: Int?
  @Option(help: "How clusters are compressed: zlib or zstd.")
  var compression: String?
  @Flag(help: "32 subclusters per cluster.")
  var subclusters = false
  @Flag(help: "Let other programs put off refcount updates.")
  var lazyRefcounts = false
  @Option(help: "Space taken at once: off, metadata, falloc or full.")
  var preallocation: String?
  @Option(help: "Keep the data in this file, the tables in the image.")
  var dataFile: String?
  @Flag(help: "The data file is a valid raw image at all times.")
  var dataFileRaw = false

  func options() throws -> Qcow2.Options {
    var options = Qcow2.Options()
    if let clusterSize {
      guard clusterSize.bytes > 0, clusterSize.bytes.nonzeroBitCount == 1 else {
        throw UsageFailure("--cluster-size: must be a power of two")
      }
      options.clusterBits = clusterSize.bytes.trailingZeroBitCount
    }
    if let refcountBits { options.refcountBits = refcountBits }
    if let version { options.version = version }
    if let compression {
      guard let method = Qcow2Compression.allCases.first(where: { $0.name == compression }) else {
        throw UsageFailure("--compression: zlib or zstd")
      }
      options.compression = method
    }
    if let preallocation {
      guard let mode = Qcow2.Preallocation(rawValue: preallocation) else {
        throw UsageFailure("--preallocation: off, metadata, falloc or full")
      }
      options.preallocation = mode
    }
    options.subclusters = subclusters
    options.lazyRefcounts = lazyRefcounts
    options.dataFile = dataFile
    options.dataFileIsRaw = dataFileRaw
    return options
  }
}

struct DiskCreateVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create", abstract: "Make an empty image, or an overlay of another.")
  @Argument(help: "The file to make.")
  var image: ImageArgument
  @Argument(help: "Size, such as 10g; an overlay has its base's if none is given.")
  var size: SizeArgument?
  @Option(name: [.customShort("b"), .customLong("backing")], help: "Grow from this image.")
  var backing: ImageArgument?
  @Flag(help: "Replace an existing file.")
  var replace = false
  @OptionGroup var properties: NewImageOptions
  @OptionGroup var common: DiskOptions

  func run() throws {
    if image.format == .qcow2 { try makeQcow2() } else { try makeRaw() }
    try DiskInfoVerb.report(image.path, image.format, json: common.json)
  }

  private func makeRaw() throws {
    guard let size, backing == nil else {
      throw UsageFailure("\(image.path): a raw image needs a size and has no backing file")
    }
    try RawImage.create(image.path, size: size.bytes, replacing: replace)
  }

  private func makeQcow2() throws {
    var options = try properties.options()
    options.replacing = replace
    options.backing = backing.map { ($0.path, $0.format) }
    guard size != nil || backing != nil else { throw UsageFailure("\(image.path): needs a size") }
    guard options.preallocation != .off else {
      return try Qcow2.create(image.path, size: size?.bytes, options: options)
    }
    try DiskProgressBar.run("create") { progress in
      try Qcow2.create(image.path, size: size?.bytes, options: options, progress: progress)
    }
  }
}

struct DiskConvertVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Copy an image into a new one of any format.",
    discussion: "The new file appears when it is complete; an interrupted conversion leaves none.")
  @Argument(help: "The image to read.")
  var source: ImageArgument
  @Argument(help: "The file to make.")
  var target: ImageArgument
  @Flag(name: [.customShort("c"), .long], help: "Compress.")
  var compress = false
  @Option(help: "Read this internal snapshot of the source.")
  var snapshot: String?
  @Option(
    name: [.customShort("b"), .customLong("backing")],
    help: "Make the new image an overlay of this one, storing only what differs.")
  var backing: ImageArgument?
  @Option(help: "Threads; as many as processors by default.")
  var threads = 0
  @Flag(help: "Replace an existing file.")
  var replace = false
  @Flag(help: "Wait until the new image is on the disk.")
  var durable = false
  @OptionGroup var properties: NewImageOptions
  @OptionGroup var common: DiskOptions

  func run() throws {
    var options = DiskConversion.Options()
    options.format = target.format
    options.qcow2 = try properties.options()
    options.qcow2.backing = backing.map { ($0.path, $0.format) }
    options.compresses = compress
    options.threads = threads
    options.replacing = replace
    options.isDurable = durable
    var image = try source.open(.readOnly, trust: common.trust)
    if let snapshot {
      guard let whole = image as? Qcow2Image else {
        throw UsageFailure("\(source.path): raw images have no snapshots")
      }
      image = try whole.readSnapshot(snapshot)
    }
    let parent = try backing?.open(.readOnly, trust: common.trust)
    try DiskProgressBar.run("convert") { progress in
      try DiskConversion.run(
        image, to: target.path, options: options, backing: parent, progress: progress)
    }
    try DiskInfoVerb.report(target.path, target.format, json: common.json)
  }
}
