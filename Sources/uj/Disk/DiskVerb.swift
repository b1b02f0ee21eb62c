import ArgumentParser
import CLinux
import DiskImage
import Inventory

/// `uj disk`: everything about image files that needs no machine.
struct DiskVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "disk",
    abstract: "Make, convert, check and change disk images.",
    discussion: """
      An image's format is its extension's (.qcow2, else raw) or that of a prefix: qcow2:FILE, raw:FILE. It is never \
      guessed from the content, which a guest can forge. Backing files are opened only in the image's own folder or \
      below, unless --trust is given.

      EXIT STATUS
        0 done, or equal; 1 failed, or different; check: 2 corrupt, 3 leaking, 63 nothing to check
      """,
    subcommands: [
      DiskCreateVerb.self, DiskConvertVerb.self, DiskInfoVerb.self, DiskCheckVerb.self,
      DiskResizeVerb.self, DiskSnapshotVerb.self, DiskCommitVerb.self, DiskStreamVerb.self,
      DiskRebaseVerb.self, DiskMapVerb.self, DiskMeasureVerb.self, DiskCompareVerb.self,
      DiskBenchVerb.self,
    ])
}

/// An image as it is named on the command line: `[raw:|qcow2:]FILE`.
struct ImageArgument: ExpressibleByArgument {
  var path: String
  var format: DiskFormat

  init?(argument: String) {
    let (path, format) = DiskArgument.pathAndFormat(argument)
    guard !path.isEmpty else { return nil }
    self.path = path
    self.format = format == .raw ? .raw : .qcow2
  }

  /// What the image may refer to.
  func policy(trust: Bool) -> BackingPolicy {
    guard !trust else { return .allowAny }
    let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    return .allow(within: folder.isEmpty ? "/" : folder)
  }

  func open(_ mode: AccessMode, trust: Bool, _ options: OpenOptions = OpenOptions()) throws
    -> any BlockDevice
  {
    try DiskImage.open(
      path, format: format, mode: mode, backing: policy(trust: trust), options: options)
  }

  /// The image when it must be qcow2.
  func openQcow2(_ mode: AccessMode, trust: Bool) throws -> Qcow2Image {
    guard format == .qcow2 else {
      throw UsageFailure("\(path): is a raw image; this needs qcow2 (say qcow2:FILE)")
    }
    return try DiskImage.openQcow2(path, mode: mode, backing: policy(trust: trust))
  }
}

/// Options that most disk verbs share.
struct DiskOptions: ParsableArguments {
  @Flag(help: "Print JSON.")
  var json = false
  @Flag(help: "Open whatever backing and data files the image names.")
  var trust = false
}
