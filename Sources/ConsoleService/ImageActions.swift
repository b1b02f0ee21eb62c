import CLinux
import ConsoleUI
import DiskImage
import Inventory
import Platform
import Synchronization

/// What the view of images shows and does.
struct ImageActions: Sendable {
  let inventory: Inventory

  /// Images of the inventory's folder, and every disk of a machine that is a file of its own.
  func list() -> [ImageStatus] {
    var images: [String: ImageStatus] = [:]
    let folder = inventory.location.images
    for name in (try? FileReading.entries(of: folder)) ?? [] where !name.hasPrefix(".") {
      let path = "\(folder)/\(name)"
      images[path] = Self.status(path, isLayer: false)
    }
    for name in (try? inventory.names()) ?? [] {
      let isBusy = inventory.holder(name)?.role == .host
      for disk in (try? inventory.resolvedDisks(name)) ?? [] {
        let isLayer = disk.path.hasPrefix(inventory.location.machines + "/")
        add(disk.path, isLayer: isLayer, name, isBusy, to: &images)
        // Bases outside of the machines' folders are images of their own.
        for base in disk.backing where !base.hasPrefix("../") {
          let path = base.hasPrefix("/") ? base : Self.folder(of: disk.path) + "/" + base
          let isOurs = path.hasPrefix(inventory.location.machines + "/")
          if !isOurs { add(path, isLayer: false, name, isBusy, to: &images) }
        }
      }
    }
    return images.values.sorted {
      ($0.isLayer ? 1 : 0, $0.title, $0.path) < ($1.isLayer ? 1 : 0, $1.title, $1.path)
    }
  }

  private static func folder(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
  }

  private func add(
    _ path: String, isLayer: Bool, _ machine: MachineName, _ isBusy: Bool,
    to images: inout [String: ImageStatus]
  ) {
    var image = images[path] ?? Self.status(path, isLayer: isLayer)
    if !image.users.contains(machine.description) { image.users.append(machine.description) }
    image.isBusy = image.isBusy || isBusy
    images[path] = image
  }

  private static func status(_ path: String, isLayer: Bool) -> ImageStatus {
    var status = ImageStatus(path: path)
    status.isLayer = isLayer
    do throws(DiskImageError) {
      let information = try ImageInformation.read(path, format: format(of: path))
      status.format = information.format.rawValue
      status.virtualSize = information.virtualSize
      status.allocatedSize = information.allocatedSize
      status.backing = information.qcow2?.backingName.map { printable($0) }
    } catch {
      status.problem = printable(error.description)
    }
    return status
  }

  /// By the ending, never by the content: a guest can make a raw disk look like anything.
  private static func format(of path: String) -> DiskFormat {
    path.lowercased().hasSuffix(".qcow2") ? .qcow2 : .raw
  }

  // MARK: Actions

  func carryOut(
    _ request: MachineRequest, _ progress: @escaping @Sendable (String, Double?) -> Void
  ) throws -> Outcome {
    switch request {
    case .describeImage(let path): return try describe(path)
    case .checkImage(let path): return try check(absolute(path))
    case .createImage(let path, let size):
      let path = absolute(path)
      switch Self.format(of: path) {
      case .raw: try RawImage.create(path, size: size)
      default: try Qcow2.create(path, size: size)
      }
      return Outcome("\(MachineRequest.file(path)) made")
    case .convertImage(let source, let target, let compress):
      return try convert(absolute(source), absolute(target), compress, progress)
    case .resizeImage(let path, let size, let shrink):
      let image = try DiskImage.open(path, format: Self.format(of: path), backing: .allowAny)
      guard size >= image.size || shrink else {
        throw InventoryError(.refused, "\(printable(path)): is larger by now; look again")
      }
      try image.resize(to: size)
      try image.close()
      return Outcome("\(MachineRequest.file(path)) is \(Quantity.short(size)) now")
    case .deleteImage(let path):
      guard
        list().first(where: { $0.path == path }).map({ $0.users.isEmpty && !$0.isLayer }) ?? false
      else { throw InventoryError(.refused, "\(printable(path)): a machine uses it") }
      guard unlink(path) == 0 else {
        throw InventoryError(
          .refused, "\(printable(path)): \(String(cString: strerror(linux_error_number())))")
      }
      return Outcome("\(MachineRequest.file(path)) is deleted")
    default: throw InventoryError(.refused, "this is nothing to do with images")
    }
  }

  private func absolute(_ path: String) -> String {
    InventoryLocation.absolute(MachineActions(inventory: inventory, program: nil).expanded(path))
  }

  private func describe(_ path: String) throws -> Outcome {
    let information = try ImageInformation.read(path, format: Self.format(of: path))
    var outcome = Outcome("\(MachineRequest.file(path))")
    var lines = [
      "File         \(printable(path))",
      "Format       \(information.format.rawValue)",
      "Size         \(Quantity.short(information.virtualSize)) (\(information.virtualSize) bytes)",
      "On disk      \(Quantity.short(information.allocatedSize))",
    ]
    if let image = information.qcow2 {
      lines.append(
        "Version      \(image.version), clusters of \(Quantity.short(image.clusterSize))")
      lines.append("Compression  \(image.compression.name)")
      if let backing = image.backingName { lines.append("Rests on     \(printable(backing))") }
      if let data = image.dataFile { lines.append("Data file    \(printable(data))") }
      if image.isDirty { lines.append("State        was not closed, or is in use") }
      if image.isCorrupt { lines.append("State        marked corrupt; uj disk check --repair all") }
      if !image.snapshots.isEmpty {
        lines.append("Snapshots    \(image.snapshots.count) inside of the image")
      }
    }
    let users = list().first { $0.path == path }?.users ?? []
    lines.append("Used by      \(users.isEmpty ? "nothing" : users.joined(separator: ", "))")
    outcome.details = lines
    return outcome
  }

  private func check(_ path: String) throws -> Outcome {
    let report = try DiskImage.check(path, format: Self.format(of: path), repair: .none)
    let file = MachineRequest.file(path)
    var outcome = Outcome("\(file) is clean")
    if report.corruptions > 0 {
      outcome.text = "\(file) has \(report.corruptions) errors"
      outcome.details = ["Copy the file, then: uj disk check --repair all \(printable(path))", ""]
    } else if report.leaks > 0 {
      outcome.text = "\(file) has \(report.leaks) clusters that take space for nothing"
      outcome.details = ["No data is in danger. uj disk check --repair leaks gives it back.", ""]
    }
    outcome.details += report.findings.prefix(200).map { printable($0) }
    return outcome
  }

  private func convert(
    _ source: String, _ target: String, _ compress: Bool,
    _ progress: @escaping @Sendable (String, Double?) -> Void
  ) throws -> Outcome {
    var options = DiskConversion.Options()
    options.format = Self.format(of: target)
    options.compresses = compress
    let image = try DiskImage.open(
      source, format: Self.format(of: source), mode: .readOnly, backing: .allowAny)
    let text = "converting \(MachineRequest.file(source))"
    let state = OperationProgress()
    let end = EndFlag()
    let watcher = try PosixThread(name: "progress") {
      while !end.isSet {
        usleep(100_000)
        if state.total > 0 { progress(text, Double(state.done) / Double(state.total)) }
      }
    }
    defer {
      end.set()
      watcher.join()
    }
    try DiskConversion.run(image, to: target, options: options, backing: nil, progress: state)
    return Outcome("\(MachineRequest.file(target)) made from \(MachineRequest.file(source))")
  }
}

/// Tells a thread that its work is over.
private final class EndFlag: Sendable {
  private let value = Atomic<Bool>(false)
  var isSet: Bool { value.load(ordering: .relaxed) }
  func set() { value.store(true, ordering: .relaxed) }
}
