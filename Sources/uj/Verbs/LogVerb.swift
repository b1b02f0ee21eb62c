import ArgumentParser
import CLinux
import Glibc
import Hosting
import Inventory

struct LogVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "log",
    abstract: "Show what a machine's serial port printed.")

  @Argument(help: "The machine.")
  var name: NameArgument
  @Flag(name: [.customShort("f"), .long], help: "Go on as it grows.")
  var follow = false
  @Flag(help: "The host process's own log instead.")
  var host = false
  @Option(help: "Serial port, from 0.")
  var port = 0

  func run() throws {
    let inventory = try openInventory()
    let name = try name.name()
    guard inventory.exists(name) else {
      throw InventoryError(.notFound, "\(name): no such machine; 'uj status' lists them")
    }
    let path =
      host ? inventory.location.hostLog(name) : inventory.location.serialLog(name, port: port)
    var file = linux_open(path, O_RDONLY | O_CLOEXEC, 0)
    guard file >= 0 || follow else {
      throw InventoryError(.notFound, "\(name): nothing was logged yet (\(path))")
    }
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      while file >= 0 {
        let count = buffer.withUnsafeMutableBytes { read(file, $0.baseAddress, $0.count) }
        guard count > 0 else { break }
        write(String(decoding: buffer[..<count], as: UTF8.self))
      }
      guard follow else { return }
      usleep(200_000)
      if file < 0 || isReplaced(file, path) {
        if file >= 0 { close(file) }
        file = linux_open(path, O_RDONLY | O_CLOEXEC, 0)
      }
    }
  }

  /// The log was rotated.
  private func isReplaced(_ file: Int32, _ path: String) -> Bool {
    var ours = stat()
    var named = stat()
    return fstat(file, &ours) == 0 && stat(path, &named) == 0 && ours.st_ino != named.st_ino
  }
}
