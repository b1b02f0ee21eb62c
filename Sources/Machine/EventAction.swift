// What becomes of a machine whose guest hangs or has crashed.

/// What is done.
public enum EventAction: String, Sendable, Codable, CaseIterable {
  /// A person is told.
  case none
  case pause, reset
  case powerOff = "poweroff"
}

extension BoardContext {
  /// Tells a person, and does it. On any thread.
  func act(_ action: EventAction, because reason: String) {
    switch action {
    case .none: parts.notices.send(reason)
    case .pause:
      parts.notices.send("\(reason): paused")
      signals.send(.pause)
    case .reset:
      parts.notices.send("\(reason): reset")
      signals.send(.reset)
    case .powerOff:
      parts.notices.send("\(reason): switched off")
      signals.send(.powerOff)
    }
  }
}

/// A folder of the host that the guest can mount.
public struct ShareConfiguration: Sendable, Codable, Equatable {
  public var path: String
  /// At most 32 bytes.
  public var tag: String
  public var isWritable: Bool

  public init(path: String, tag: String, isWritable: Bool) {
    self.path = path
    self.tag = tag
    self.isWritable = isWritable
  }
}
