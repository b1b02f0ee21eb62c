import Glibc
import Platform

/// Temporary folders of a test run, removed when the process ends.
package enum TestFolder {
  /// A new empty folder.
  package static func make(_ purpose: String) throws -> String {
    var template = Array("/tmp/uj-test-\(purpose)-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw TestGuestError("mkdtemp: \(String(cString: strerror(errno)))")
    }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    Removal.atExit(path)
    return path
  }
}

private enum Removal {
  nonisolated(unsafe) private static var paths: [String] = []
  nonisolated(unsafe) private static var lock = pthread_mutex_t()

  private static let registered: Void = {
    pthread_mutex_init(&lock, nil)
    atexit {
      for path in Removal.paths {
        _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", path])
      }
    }
  }()

  static func atExit(_ path: String) {
    _ = registered
    pthread_mutex_lock(&lock)
    paths.append(path)
    pthread_mutex_unlock(&lock)
  }
}
