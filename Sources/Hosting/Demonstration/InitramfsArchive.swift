/// Writes a cpio archive in the "newc" form that Linux unpacks as its first root file system
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
package struct InitramfsArchive {
  private(set) package var bytes: [UInt8] = []
  private var nextInode = 1

  package init() {}

  package mutating func addFolder(_ path: String) { add(path, mode: 0o040755, content: []) }

  package mutating func addFile(_ path: String, mode: Int = 0o644, content: [UInt8]) {
    add(path, mode: 0o100000 | mode, content: content)
  }

  package mutating func addLink(_ path: String, to target: String) {
    add(path, mode: 0o120777, content: Array(target.utf8))
  }

  package mutating func addCharacterDevice(_ path: String, major: Int, minor: Int) {
    add(path, mode: 0o020600, content: [], major: major, minor: minor)
  }

  /// Closes the archive. Nothing is added afterwards.
  package mutating func finish() {
    add("TRAILER!!!", mode: 0, content: [])
    while bytes.count % 512 != 0 { bytes.append(0) }
  }

  private mutating func add(
    _ path: String, mode: Int, content: [UInt8], major: Int = 0, minor: Int = 0
  ) {
    let name = Array(path.utf8) + [0]
    let fields = [
      nextInode, mode, 0, 0, 1, 0, content.count, 0, 0, major, minor, name.count, 0,
    ]
    nextInode += 1
    bytes += Array("070701".utf8)
    for field in fields {
      let digits = String(field, radix: 16, uppercase: true)
      bytes += Array((String(repeating: "0", count: 8 - digits.count) + digits).utf8)
    }
    bytes += name
    pad()
    bytes += content
    pad()
  }

  private mutating func pad() {
    while bytes.count % 4 != 0 { bytes.append(0) }
  }
}
