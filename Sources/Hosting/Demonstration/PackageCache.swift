import CLinux
import Platform

/// Files out of Debian packages, fetched with `apt-get download` and kept in the user's cache. Needs no root.
///
/// Where the system has no package lists (a fresh container before `apt-get update`), lists of our own are fetched into
/// the cache.
package struct PackageCache: Sendable {
  /// `$XDG_CACHE_HOME/underjack/packages`.
  package let folder: String
  private let report: @Sendable (String) -> Void

  /// - Parameter report: one line about what is being done, for a person who waits.
  package init(folder: String, report: @escaping @Sendable (String) -> Void) {
    self.folder = folder
    self.report = report
  }

  /// The user's cache by the XDG rules.
  package static func standardFolder() -> String {
    if let cache = getenv("XDG_CACHE_HOME"), cache[0] == UInt8(ascii: "/") {
      return String(cString: cache) + "/underjack/packages"
    }
    let home = getenv("HOME").map { String(cString: $0) } ?? "/tmp"
    return home + "/.cache/underjack/packages"
  }

  /// The folder with the unpacked content of a package, fetched when it is not there yet.
  ///
  /// - Throws: `DemonstrationError`, one line that says what to do.
  package func unpacked(_ package: String) throws(DemonstrationError) -> String {
    let target = "\(folder)/\(package)"
    if access("\(target)/.complete", F_OK) == 0 { return target }
    try makeFolders(folder)
    report("fetching \(package) from Debian's archive")
    let file = try download(package)
    let staging = "\(target).\(getpid())"
    _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", staging])
    try run(
      ["/usr/bin/dpkg-deb", "--extract", "\(folder)/\(file)", staging],
      failure: "cannot unpack \(file)")
    try markComplete(staging)
    _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", target])
    if rename(staging, target) != 0 && access("\(target)/.complete", F_OK) != 0 {
      throw DemonstrationError("\(target): cannot be made; is the disk full?")
    }
    unlink("\(folder)/\(file)")
    return target
  }

  /// The package that a meta-package stands for, such as the newest kernel of `linux-image-cloud-amd64`.
  package func dependency(of package: String, prefix: String) throws(DemonstrationError) -> String {
    for isOwn in [false, true] {
      let options = isOwn ? try ownLists() : []
      let result = try? ChildProcess.run(
        ["/usr/bin/apt-cache"] + options + ["depends", package])
      for line in result?.output.split(separator: "\n") ?? [] {
        let words = line.split(separator: " ")
        if words.count == 2, words[0] == "Depends:", words[1].hasPrefix(prefix) {
          return String(words[1])
        }
      }
    }
    throw DemonstrationError(
      "\(package): the package lists name no \(prefix)...; try apt-get update")
  }

  /// Downloads into `folder` and returns the file's name.
  private func download(_ package: String) throws(DemonstrationError) -> String {
    guard access("/usr/bin/apt-get", X_OK) == 0 else {
      throw DemonstrationError(
        "apt-get is missing: `uj demo` fetches its guest from Debian's archive")
    }
    if let file = try attempt(package, options: []) { return file }
    if let file = try attempt(package, options: try ownLists()) { return file }
    throw DemonstrationError(
      "\(package) cannot be fetched with apt-get download: check the network and /etc/apt/sources.list"
    )
  }

  private func attempt(_ package: String, options: [String]) throws(DemonstrationError) -> String? {
    let arguments =
      ["/usr/bin/apt-get", "-q", "-o", "APT::Sandbox::User=root"] + options
      + ["download", package]
    let result: ChildProcess.Result
    do {
      result = try ChildProcess.run(arguments, folder: folder) { text in
        for line in text.split(separator: "\n") where line.hasPrefix("Get:") {
          report(String(line))
        }
      }
    } catch {
      throw DemonstrationError("\(error)")
    }
    guard result.status == 0 else { return nil }
    return newestFile(of: package)
  }

  /// Options for apt that point at package lists of our own, fetched on first use.
  private func ownLists() throws(DemonstrationError) -> [String] {
    let apt = "\(folder)/apt"
    try makeFolders("\(apt)/lists/partial")
    try makeFolders("\(apt)/cache/archives/partial")
    let options = [
      "-o", "Dir::State::lists=\(apt)/lists", "-o", "Dir::Cache=\(apt)/cache", "-o",
      "APT::Sandbox::User=root",
    ]
    if access("\(apt)/.complete", F_OK) != 0 {
      report("fetching Debian's package lists")
      try run(
        ["/usr/bin/apt-get", "-q"] + options + ["update"],
        failure: "cannot fetch Debian's package lists")
      try markComplete(apt)
    }
    return options
  }

  private func newestFile(of package: String) -> String? {
    guard let directory = opendir(folder) else { return nil }
    defer { closedir(directory) }
    var found: String?
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasPrefix(package + "_") && name.hasSuffix(".deb") { found = name }
    }
    return found
  }

  /// What was unpacked without this mark was cut off in the middle.
  private func markComplete(_ folder: String) throws(DemonstrationError) {
    do {
      _ = try FileDescriptor.open("\(folder)/.complete", O_CREAT | O_WRONLY, mode: 0o644)
    } catch {
      throw DemonstrationError("\(error)")
    }
  }

  private func makeFolders(_ path: String) throws(DemonstrationError) {
    var made = ""
    for part in path.split(separator: "/") {
      made += "/" + part
      if mkdir(made, 0o755) != 0 && linux_error_number() != EEXIST {
        let reason = String(cString: strerror(linux_error_number()))
        throw DemonstrationError("\(made): \(reason)")
      }
    }
  }

  private func run(_ arguments: [String], failure: String) throws(DemonstrationError) {
    let result: ChildProcess.Result
    do { result = try ChildProcess.run(arguments) } catch { throw DemonstrationError("\(error)") }
    guard result.status == 0 else {
      let last = result.output.split(separator: "\n").last.map(String.init) ?? ""
      throw DemonstrationError("\(failure): \(last)")
    }
  }
}

/// Why the demonstration could not be made, in one line.
package struct DemonstrationError: Error, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}
