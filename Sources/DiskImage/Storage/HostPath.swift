// Paths on the host: resolving names that images contain, and replacing files whole.
import CLinux

package enum HostPath {
  /// The absolute path without symbolic links; nil when the file does not exist.
  package static func resolved(_ path: String) -> String? {
    guard let text = realpath(path, nil) else { return nil }
    defer { free(text) }
    return String(cString: text)
  }

  /// The part before the last slash.
  package static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The part behind the last slash.
  package static func name(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
  }

  /// A name in an image, seen from the image's folder.
  static func combined(_ name: String, relativeTo image: String) -> String {
    if name.hasPrefix("/") { return name }
    let folder = folder(of: HostPath.resolved(image) ?? image)
    return folder == "/" ? "/\(name)" : "\(folder)/\(name)"
  }

  /// The file that an image names, if the policy allows it.
  ///
  /// Names are plain paths. `json:` and `protocol:` descriptions, which QEMU takes too, are refused: they can ask for
  /// anything.
  static func referenced(
    _ name: String, by image: String, _ policy: BackingPolicy, what: String
  ) throws(DiskImageError) -> String {
    var plain = name
    if plain.hasPrefix("file:") && !plain.hasPrefix("file://") { plain.removeFirst(5) }
    if let colon = plain.firstIndex(of: ":"), !plain[..<colon].contains("/") {
      throw DiskImageError(
        .refused, image, "has '\(name)' as \(what), which is not a plain path; rebase it to one")
    }
    let wanted = combined(plain, relativeTo: image)
    guard let resolved = resolved(wanted) else {
      throw DiskImageError(.notFound, image, "needs the \(what) '\(wanted)', which is not there")
    }
    guard policy.permits(resolved) else {
      throw DiskImageError(
        .refused, image,
        "refers to the \(what) '\(resolved)', which was not allowed; allow it "
          + "explicitly if you trust this image")
    }
    return resolved
  }
}

/// A new file under a temporary name, which takes its place under the real name all at once.
package struct NewFile: ~Copyable {
  package let storage: FileStorage
  private let path: String
  private let temporary: String
  private var isDone = false

  private init(storage: FileStorage, path: String, temporary: String) {
    self.storage = storage
    self.path = path
    self.temporary = temporary
  }

  /// Creates the temporary file in the folder of `path`.
  package static func create(_ path: String, replacing: Bool) throws(DiskImageError) -> NewFile {
    if !replacing && access(path, F_OK) == 0 {
      throw DiskImageError(
        .exists, path, "exists already; choose another name or allow overwriting")
    }
    var generator = SystemRandomNumberGenerator()
    let suffix = String(generator.next() as UInt64, radix: 36)
    let folder = HostPath.folder(of: path)
    let name = "\(folder)/.\(HostPath.name(of: path).prefix(180)).\(suffix)"
    let descriptor = try FileStorage.perform(path, "cannot be created") {
      linux_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    }
    return NewFile(
      storage: FileStorage(owning: descriptor, path: name), path: path, temporary: name)
  }

  /// Where the bytes are until `commit`.
  package var temporaryPath: String { temporary }

  /// Makes the content durable, then gives the file its name.
  package consuming func commit(replacing: Bool, durable: Bool = true) throws(DiskImageError) {
    if durable { try storage.flush() }
    let from = temporary
    let to = path
    if replacing {
      try FileStorage.perform(to, "cannot be named") {
        linux_renameat2(AT_FDCWD, from, AT_FDCWD, to, 0)
      }
    } else {
      // link(2) fails if somebody else made the name meanwhile, on file systems without RENAME_NOREPLACE too.
      if linux_renameat2(AT_FDCWD, from, AT_FDCWD, to, 1) != 0 {
        let number = linux_error_number()
        guard number == EINVAL || number == ENOSYS else {
          throw FileStorage.error(to, "cannot be created", number)
        }
        try FileStorage.perform(to, "cannot be created") { link(from, to) }
        unlink(from)
      }
    }
    isDone = true
    if durable { try Self.flushFolder(of: to) }
  }

  deinit {
    if !isDone { unlink(temporary) }
    storage.close()
  }

  /// Makes a new or removed name durable.
  static func flushFolder(of path: String) throws(DiskImageError) {
    let folder = HostPath.folder(of: path)
    let descriptor = try FileStorage.perform(folder, "cannot be opened") {
      linux_open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
    }
    defer { close(descriptor) }
    try FileStorage.perform(folder, "cannot be flushed") { fsync(descriptor) }
  }
}
