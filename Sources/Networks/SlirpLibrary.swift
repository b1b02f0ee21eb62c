// libslirp, loaded with the first user network of the process.

import CSlirp

/// libslirp's entry points.
enum SlirpLibrary {
  /// Loaded once. A host process opens its networks before it is confined, so the files are still in reach then.
  static let loaded: Result<slirp_library, NetworkError> = {
    var library = slirp_library()
    if let problem = slirp_library_load(&library) {
      return .failure(
        NetworkError("the user network needs libslirp (libslirp0): \(String(cString: problem))"))
    }
    return .success(library)
  }()
}
