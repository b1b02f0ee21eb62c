// `[vsock]` of a machine's definition: stream sockets between guest and host.

extension MachineDefinition {
  /// A virtio socket device.
  package struct SocketDevice: Sendable, Equatable {
    /// The guest's context identifier; nil makes one of the machine's `uuid`.
    package var contextIdentifier: UInt32?
    /// Where the host's Unix socket is; nil: `vsock.sock` in the machine's runtime folder.
    package var path: String?

    package init(contextIdentifier: UInt32? = nil, path: String? = nil) {
      self.contextIdentifier = contextIdentifier
      self.path = path
    }

    /// 0 to 2 are the hypervisor, the guest itself and the host; the highest means any.
    package static let identifiers: ClosedRange<UInt32> = 3...UInt32.max - 1

    /// `auto`, or a path, with `,cid=N` behind or nothing.
    ///
    /// nil: neither.
    package init?(
      _ text: String, _ resolve: (String) -> String = { InventoryLocation.absolute($0) }
    ) {
      var place = Substring(text)
      if let comma = text.lastIndex(of: ","), text[comma...].hasPrefix(",cid=") {
        guard let number = UInt32(text[comma...].dropFirst(5)), Self.identifiers.contains(number)
        else { return nil }
        contextIdentifier = number
        place = text[..<comma]
      }
      guard Self.isPath(String(place)) else { return nil }
      if place != "auto" { path = resolve(String(place)) }
    }

    /// As `init` reads it.
    package var text: String {
      (path ?? "auto") + (contextIdentifier.map { ",cid=\($0)" } ?? "")
    }

    private static func isPath(_ text: String) -> Bool {
      !text.isEmpty && text.utf8.count < 3968 && !text.utf8.contains(0) && !text.hasSuffix("/")
    }

    /// - Throws: `InventoryError` with file, line and what was expected.
    init(_ table: TableReader, _ resolve: (String) -> String) throws(InventoryError) {
      let range = Int(Self.identifiers.lowerBound)...Int(Self.identifiers.upperBound)
      // A word is there to be written where an empty table would say nothing.
      if (try? table.string("cid")) != "auto" {
        contextIdentifier = try table.integer("cid", in: range).map { UInt32(clamping: $0) }
      }
      if let text = try table.string("path") {
        guard Self.isPath(text) else {
          throw table.error("path", "vsock.path must be the path of a socket")
        }
        path = resolve(text)
      }
      try table.finish()
    }

    /// The table as `machine.toml` has it.
    var lines: [String] {
      var lines = ["[vsock]"]
      lines.append("cid = \(contextIdentifier.map(String.init) ?? "\"auto\"")")
      if let path { lines.append("path = \(TOMLText.quote(path))") }
      return lines
    }
  }
}
