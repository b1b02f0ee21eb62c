// What a check found.

/// How much a check may change.
public enum RepairMode: String, Sendable, CaseIterable {
  /// Only look.
  case none
  /// Give back clusters that nothing refers to.
  case leaks
  /// Make everything consistent.
  case all
}

/// The result of checking one image.
public struct CheckReport: Sendable, Equatable {
  /// What the check says with its exit status, as qemu-img does.
  public enum Status: Int32, Sendable {
    case clean = 0
    case failed = 1
    case corrupt = 2
    case leaking = 3
    case unsupported = 63
  }

  /// Contradictions that can lose data: counts too low, wrong flags, broken entries.
  public var corruptions = 0
  /// Clusters that take space for nothing.
  public var leaks = 0
  public var repairedCorruptions = 0
  public var repairedLeaks = 0
  /// The first findings in words.
  public var findings: [String] = []
  /// Guest clusters that have a place in the file.
  public var allocatedClusters: UInt64 = 0
  public var compressedClusters: UInt64 = 0
  /// Allocated clusters that do not follow the one before.
  public var fragmentedClusters: UInt64 = 0
  /// Guest clusters of the disk.
  public var totalClusters: UInt64 = 0
  /// End of the last cluster in use, in bytes.
  public var imageEnd: UInt64 = 0
  /// The image was marked as not closed or as corrupt.
  public var wasDirty = false
  public var wasCorrupt = false

  public init() {}

  /// Counts what is left after repairs.
  public var status: Status {
    if corruptions > repairedCorruptions { return .corrupt }
    return leaks > repairedLeaks ? .leaking : .clean
  }

  static let maximumFindings = 100

  mutating func corruption(_ text: @autoclosure () -> String) {
    corruptions += 1
    if findings.count < Self.maximumFindings { findings.append(text()) }
  }

  mutating func leak(_ text: @autoclosure () -> String) {
    leaks += 1
    if findings.count < Self.maximumFindings { findings.append(text()) }
  }
}
