/// A disk image on the host.
package struct ImageStatus: Hashable, Sendable {
  package var path: String
  /// `raw` or `qcow2`; empty where it can not be read.
  package var format: String
  /// What a guest sees, in bytes.
  package var virtualSize: UInt64
  /// What it takes on the host, in bytes.
  package var allocatedSize: UInt64
  /// The image that it rests on.
  package var backing: String?
  /// Machines whose disks it is or lies below.
  package var users: [String]
  /// A machine that uses it runs: nothing may be changed.
  package var isBusy = false
  /// It belongs to a machine; its layers are changed by way of the machine only.
  package var isLayer = false
  /// Why it can not be read.
  package var problem: String?

  package init(
    path: String, format: String = "", virtualSize: UInt64 = 0, allocatedSize: UInt64 = 0,
    backing: String? = nil, users: [String] = []
  ) {
    self.path = path
    self.format = format
    self.virtualSize = virtualSize
    self.allocatedSize = allocatedSize
    self.backing = backing
    self.users = users
  }

  package var name: String { MachineRequest.file(path) }

  /// The name in the list: of a layer the machine and its disk.
  package var title: String {
    guard isLayer, let user = users.first else { return name }
    let parts = path.split(separator: "/")
    return parts.count > 1 ? "\(user): \(parts[parts.count - 2])" : name
  }
}

/// The view of disk images.
package struct ImagePage: Sendable {
  package private(set) var images: [ImageStatus] = []
  package private(set) var isLoaded = false
  package private(set) var selection: String?
  package var top = 0

  package init() {}

  package var selected: ImageStatus? { images.first { $0.path == selection } }
  package var selectedRow: Int? { images.firstIndex { $0.path == selection } }

  package mutating func replace(_ new: [ImageStatus]) {
    let row = selectedRow ?? 0
    images = new
    isLoaded = true
    if selectedRow == nil { select(row: row) }
  }

  package mutating func select(row: Int) {
    selection = images.isEmpty ? nil : images[min(images.count - 1, max(0, row))].path
  }

  package mutating func scroll(toShow rows: Int) {
    let row = selectedRow ?? 0
    top = min(top, max(0, images.count - rows))
    if row < top { top = row }
    if row >= top + rows { top = row - rows + 1 }
    top = max(0, top)
  }
}

/// Facts about the host that seldom change, in sections.
package struct HostReport: Hashable, Sendable {
  package struct Fact: Hashable, Sendable {
    package enum Mood: Sendable { case plain, good, bad }
    package var label: String
    package var text: String
    package var mood: Mood

    package init(_ label: String, _ text: String, _ mood: Mood = .plain) {
      self.label = label
      self.text = text
      self.mood = mood
    }
  }

  package struct Section: Hashable, Sendable {
    package var title: String
    package var facts: [Fact]

    package init(_ title: String, _ facts: [Fact]) {
      self.title = title
      self.facts = facts
    }
  }

  package var sections: [Section]

  package init(_ sections: [Section]) {
    self.sections = sections
  }
}

/// The view of settings: rows that change what `config.toml` holds.
package struct SettingsPage: Equatable, Sendable {
  package enum Row: Hashable, Sendable {
    case theme, ascii, mouse, prefix, secondPrefix, refresh, grouping, detail
    case column(MachineList.Column)
    case question(Configuration.Question)
  }

  package struct Section: Sendable {
    package var title: String
    package var rows: [Row]
  }

  package static let sections: [Section] = [
    Section(title: "Looks", rows: [.theme, .ascii, .detail, .grouping, .refresh]),
    Section(title: "Keys", rows: [.prefix, .secondPrefix, .mouse]),
    Section(
      title: "Columns of the list", rows: MachineList.Column.allCases.map { .column($0) }),
    Section(title: "Questions", rows: Configuration.Question.allCases.map { .question($0) }),
  ]

  package static let rows: [Row] = sections.flatMap(\.rows)

  package var selection = 0
  package var top = 0

  package init() {}

  package var selected: Row { Self.rows[min(Self.rows.count - 1, max(0, selection))] }
}
