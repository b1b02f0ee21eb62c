// The parts of a machine that have a notation of their own, the same in `machine.toml`, in `uj set` and on the command
// line.

import Networks
import Processor

extension MachineDefinition {
  /// A CD-ROM drive and what is in it.
  package enum OpticalDrive: Sendable, Equatable {
    case empty
    /// A disc image, read-only.
    case disc(String)

    /// `empty`, or a file; one of that very name is `./empty`.
    package init(
      _ text: String, _ resolve: (String) -> String = { InventoryLocation.absolute($0) }
    ) {
      self = text == Self.emptyWord ? .empty : .disc(resolve(text))
    }

    package var text: String {
      switch self {
      case .empty: Self.emptyWord
      case .disc(let path): path == Self.emptyWord ? "./" + path : path
      }
    }

    package var path: String? { if case .disc(let path) = self { path } else { nil } }

    private static let emptyWord = "empty"
  }

  /// Where a serial port goes.
  package enum SerialTarget: Sendable, Equatable {
    /// To consoles (`uj console`), the log, and a pseudo-terminal for programs such as cu(1).
    case console
    /// To consoles and a pseudo-terminal, without a log: for lines that carry data.
    case pty
    /// To the end of a file; nothing comes from there.
    case file(String)
    /// Nowhere. The guest has the port all the same.
    case none

    /// For messages.
    package static let words = "\"console\", \"pty\", \"file:PATH\", \"none\""

    package init?(
      _ text: String, _ resolve: (String) -> String = { InventoryLocation.absolute($0) }
    ) {
      switch text {
      case "console": self = .console
      case "pty": self = .pty
      case "none": self = .none
      default:
        guard text.hasPrefix("file:"), text.utf8.count > 5, text.utf8.count < 4096 else {
          return nil
        }
        self = .file(resolve(String(text.dropFirst(5))))
      }
    }

    package var text: String {
      switch self {
      case .console: "console"
      case .pty: "pty"
      case .file(let path): "file:\(path)"
      case .none: "none"
      }
    }

    /// Consoles may be attached.
    package var takesClients: Bool { self == .console || self == .pty }
  }

  /// Refuses a board on which the firmware would look in vain by what the definition says, not by what the disks hold.
  package func checkBoot(_ name: MachineName) throws(InventoryError) {
    guard kernel == nil, !bootOrder.isEmpty else { return }
    let isPossible = bootOrder.contains { device in
      switch device {
      case .disk: true
      case .cdrom: opticalDrive != nil
      case .net: !networks.isEmpty
      }
    }
    guard !isPossible else { return }
    let reason =
      bootOrder.contains(.cdrom)
      ? "it has no CD-ROM drive; --cdrom FILE or 'uj set \(name) cdrom=FILE' gives it one"
      : "it has no network adapter; --net user or 'uj set \(name) networks=user' gives it one"
    throw InventoryError(
      .refused,
      "\(name): cannot boot from \(bootOrder.map(\.rawValue).joined(separator: ",")): \(reason)"
    )
  }
}

extension ProcessorTopology {
  /// `4`, or any of `sockets=2,cores=2,threads=1`; what is left out is 1.
  ///
  /// nil when it is neither, or more than a machine may have.
  package init?(text: String) {
    let limit = 1...MachineDefinition.processorLimit
    if let count = Int(text) {
      guard limit.contains(count) else { return nil }
      self.init(processorCount: count)
      return
    }
    var parts: [Substring: Int] = [:]
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let pair = part.split(separator: "=", omittingEmptySubsequences: false)
      guard pair.count == 2, ["sockets", "cores", "threads"].contains(pair[0]),
        parts[pair[0]] == nil, let value = Int(pair[1]), limit.contains(value)
      else { return nil }
      parts[pair[0]] = value
    }
    self.init(
      sockets: parts["sockets"] ?? 1, cores: parts["cores"] ?? 1, threads: parts["threads"] ?? 1)
    guard limit.contains(processorCount) else { return nil }
  }
}
