// The device that cu(1), screen(1) and minicom(1) open: a pseudo-terminal behind a symbolic link whose name does not
// change. The master stays open for the machine's life; whether somebody has the slave open is told by inotify(7), so
// that an unused device costs nothing.

import CLinux
import Platform

/// A pseudo-terminal that behaves like a serial line.
final class PseudoTerminal {
  let master: FileDescriptor
  /// The slave's name, such as /dev/pts/7.
  let path: String
  private let link: String?
  /// Readable when the slave was opened.
  let openings: FileDescriptor

  /// - Parameter link: A symbolic link to the slave is made there; an older link is replaced, another file is not. nil: no link.
  init(link: String?) throws(PlatformError) {
    self.link = link
    master = FileDescriptor(
      owning: try systemCall("open", "/dev/ptmx") { linux_open_terminal_master() })
    let number = master.rawValue
    try systemCall("TIOCSPTLCK") { linux_unlock_terminal(number) }
    path = "/dev/pts/\(try systemCall("TIOCGPTN") { linux_terminal_number(number) })"
    // Opened and closed once, so that the master reports from now on that nobody has it.
    let slave = FileDescriptor(
      owning: try systemCall("TIOCGPTPEER", path) { linux_open_terminal_slave(number) })
    let slaveNumber = slave.rawValue
    try systemCall("tcsetattr", path) { linux_make_terminal_raw(slaveNumber) }
    openings = FileDescriptor(
      owning: try systemCall("inotify_init") {
        inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
      })
    let watcher = openings.rawValue
    let name = path
    try systemCall("inotify_add_watch", path) {
      inotify_add_watch(watcher, name, UInt32(IN_OPEN))
    }
    if let link { try makeLink(link) }
  }

  private func makeLink(_ link: String) throws(PlatformError) {
    var status = stat()
    if lstat(link, &status) == 0, status.st_mode & mode_t(S_IFMT) != mode_t(S_IFLNK) {
      throw PlatformError(operation: "symlink", code: EEXIST, subject: link)
    }
    let temporary = "\(link).\(getpid())"
    unlink(temporary)
    try systemCall("symlink", link) { symlink(path, temporary) }
    do {
      try systemCall("rename", link) { linux_renameat2(AT_FDCWD, temporary, AT_FDCWD, link, 0) }
    } catch {
      unlink(temporary)
      throw error
    }
  }

  /// Takes the link away, unless it has become another's.
  func removeLink() {
    guard let link else { return }
    var target = [CChar](repeating: 0, count: 64)
    let length = readlink(link, &target, target.count - 1)
    guard length > 0, target.prefix(length).map(UInt8.init(bitPattern:)) == Array(path.utf8) else {
      return
    }
    unlink(link)
  }

  /// Whether anybody has the slave open, or left bytes that were not read.
  var isInUse: Bool {
    var poll = pollfd(fd: master.rawValue, events: Int16(POLLIN), revents: 0)
    guard CLinux.poll(&poll, 1, 0) > 0 else { return true }
    return poll.revents & Int16(POLLHUP) == 0 || poll.revents & Int16(POLLIN) != 0
  }

  /// Forgets the notes about openings.
  func drainOpenings() {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while CLinux.read(openings.rawValue, &buffer, buffer.count) > 0 {}
  }

  /// The settings of a serial line again, whatever the last user left.
  func makeRaw() { _ = linux_make_terminal_raw(master.rawValue) }
}
