import Platform

/// Why a machine's stream cannot go on: one line.
package enum MoveError: Error, Equatable, CustomStringConvertible {
  case system(PlatformError)
  /// The other side is gone.
  case ended
  /// The other side takes or says nothing.
  case late(seconds: Int)
  /// What came is not what was sent.
  case damaged(String)
  /// At the other end is another program; the first that it said.
  case stranger(String)
  case otherVersion(UInt32)
  /// The other side cannot, and says why.
  case refused(String)

  package var description: String {
    switch self {
    case .system(let error): "\(error)"
    case .ended: "the connection has ended"
    case .late(let seconds): "the other side was silent for \(seconds) s"
    case .damaged(let reason): "the stream is damaged: \(reason)"
    case .stranger(""): "the other side is no uj"
    case .stranger(let text): "the other side is no uj, but says: \(text)"
    case .otherVersion(let version):
      "the other uj moves machines by version \(version), this one by \(MoveFrame.version); "
        + "use the same version on both hosts"
    case .refused(let reason): reason
    }
  }
}
