// Folders of the host that the guest may use, and what a guest's hang or crash leads to.

extension MachineDefinition {
  /// `shares = ["/srv/data,tag=data,write"]`.
  package struct Share: Sendable, Equatable {
    package var path: String
    /// What the guest mounts; nil: `share0`, `share1`, ... by position.
    package var tag: String?
    package var isWritable = false

    /// A path, then words with commas before them. A comma in the path that none of the words follows belongs to it.
    package init?(_ text: String, resolve: (String) -> String = { InventoryLocation.absolute($0) })
    {
      var rest = text[...]
      while let comma = rest.lastIndex(of: ",") {
        let word = rest[rest.index(after: comma)...]
        if word == "write" {
          isWritable = true
        } else if word == "read-only" {
          isWritable = false
        } else if word.hasPrefix("tag=") {
          tag = String(word.dropFirst(4))
        } else {
          break
        }
        rest = rest[..<comma]
      }
      guard !rest.isEmpty, rest.utf8.count < 4096, !rest.utf8.contains(0) else { return nil }
      if let tag {
        let isPlain = tag.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: ",") }
        guard !tag.isEmpty, tag.utf8.count <= Self.tagLimit, isPlain else { return nil }
      }
      path = resolve(String(rest))
    }

    /// Bytes, as the device has them.
    package static let tagLimit = 32

    package static let words =
      "a folder, with ,tag=NAME (at most 32 plain characters) and ,write behind it or not"

    /// As it is read.
    package var text: String {
      path + (tag.map { ",tag=\($0)" } ?? "") + (isWritable ? ",write" : "")
    }
  }

  /// What is done when the guest has let its watchdog run out, or says that it has crashed.
  package enum EventAction: String, Sendable, CaseIterable {
    /// Only a line in the log.
    case none
    case pause, reset, poweroff
  }

  package static let shareLimit = 4

  mutating func readShares(
    _ root: TableReader, _ resolve: (String) -> String
  ) throws(InventoryError) {
    let texts = try root.strings("shares") ?? []
    guard texts.count <= Self.shareLimit else {
      throw root.error("shares", "a machine has at most \(Self.shareLimit) shares")
    }
    for text in texts {
      guard let share = Share(text, resolve: resolve) else {
        throw root.error(
          "shares", "shares must be a list of \(Share.words), not \"\(printable(text.prefix(60)))\""
        )
      }
      shares.append(share)
    }
    if let tag = Self.repeatedTag(shares) {
      throw root.error("shares", "two shares have the tag \(printable(tag))")
    }
  }

  /// A tag that two shares would have; nil: none.
  package static func repeatedTag(_ shares: [Share]) -> String? {
    var seen: Set<String> = []
    for (index, share) in shares.enumerated() {
      let tag = share.tag ?? "share\(index)"
      if !seen.insert(tag).inserted { return tag }
    }
    return nil
  }
}
