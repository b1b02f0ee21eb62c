import Platform

/// Why a state file cannot be written or used: one line that names the file.
package enum StateFileError: Error, Equatable, CustomStringConvertible {
  case system(PlatformError)
  /// Truncated, altered, or nothing of ours.
  case damaged(path: String, reason: String)
  /// Written by a later version of this program.
  case newer(path: String, version: UInt32)
  /// What was saved does not go together with what is there now.
  case mismatch(path: String, reason: String)

  package var description: String {
    switch self {
    case .system(let error): "\(error)"
    case .damaged(let path, let reason): "\(path): is damaged: \(reason)"
    case .newer(let path, let version):
      "\(path): is of version \(version), which this uj does not know; use a newer one"
    case .mismatch(let path, let reason): "\(path): \(reason)"
    }
  }
}
