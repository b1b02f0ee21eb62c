import CLinux
import Hosting
import Platform
import TestGuests
import Testing

private let missing: String? = {
  if let reason = NetworkedMachine.missing ?? TestGuest.missingTool { return reason }
  if case .failure(let error) = NetworkedMachine.serviceGuest { return "\(error)" }
  return nil
}()

/// A Linux guest with a socket device and a seed, on the software processor.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct GuestServiceTests {
  private static let size = 8 << 20

  private func md5(_ path: String) throws -> String {
    String(try TestProcess.run(["/usr/bin/md5sum", path]).output.prefix(32))
  }

  private func vsock(_ machine: NetworkedMachine) throws -> JSONValue {
    let text = try machine.uj.run("rpc", machine.name, "status")
    return try #require(try JSONValue(parsing: text)["vsock"])
  }

  @Test("sockets in both directions, the seed's content, and what a suspension leaves of both")
  func services() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let userData = "\(uj.folder)/user-data"
    let network = "\(uj.folder)/network"
    try writeFile(userData, "#cloud-config\npackages: [nginx]\n")
    try writeFile(network, "version: 2\nethernets: {}\n")
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake me"
    let machine = try NetworkedMachine(
      uj, "serv_1", networks: [], options: ["--vsock", "auto,cid=42"],
      settings: [
        "cloud-init.user=alice", "cloud-init.ssh-authorized-keys=\(key)",
        "cloud-init.user-data=\(userData)", "cloud-init.network-config=\(network)",
      ], guest: NetworkedMachine.serviceGuest)
    try readSeed(machine, key)
    let original = "\(uj.folder)/original"
    _ = try TestProcess.run([
      "/usr/bin/dd", "if=/dev/urandom", "of=\(original)", "bs=1M", "count=\(Self.size >> 20)",
    ])
    let path = try #require(try vsock(machine)["path"]?.string)
    #expect(try vsock(machine)["cid"]?.integer == 42)
    #expect(try uj.run("show", "serv_1").contains("# vsock: CID 42, \(path)"))
    try connectFromHost(machine, path, original)
    try connectFromGuest(machine, path, original)

    // The guest's program hears of the end of its connection, and new ones work.
    let server = try HostSocket(listening: "\(path)_81")
    try machine.line.type("vsock connect 81 < /dev/null > /dev/null; echo EN\"\"DED")
    let connection = try server.accept()
    try uj.run("suspend", "serv_1")
    let end = try connection.readAll(into: nil)
    #expect(end == 0)
    try uj.run("start", "serv_1")
    let line = try GuestLine(uj, "serv_1")
    try line.wait(for: "ENDED", seconds: 60)
    let later = try HostSocket(connected: path, port: 90)
    #expect(try later.readLine() == "")
    try line.type("vsock listen 91 < /dev/null | md5sum; echo EN\"\"D")
    try line.wait(for: "listening", seconds: 60)
    let again = try HostSocket(connected: path, port: 91)
    #expect(try again.readLine().hasPrefix("OK "))
    try again.send(file: original)
    #expect(try line.wait(for: "END", seconds: 60).contains(md5(original)))
  }

  private func readSeed(_ machine: NetworkedMachine, _ key: String) throws {
    // The volume identifier of the primary descriptor.
    #expect(
      try machine.run("dd if=/dev/vda bs=1 skip=32808 count=7 2>/dev/null").contains("cidata "))
    #expect(try machine.run("cat /sys/block/vda/ro").contains("1"))
    for options in ["ro", "ro,norock"] {
      // With Rock Ridge, and with Joliet alone.
      let names = try machine.run(
        "mount -t iso9660 -o \(options) /dev/vda /mnt && ls -l /mnt; cat /mnt/*; umount /mnt")
      for name in ["meta-data", "user-data", "network-config"] {
        #expect(names.contains(" \(name)"), "\(options): \(names)")
      }
      #expect(names.contains("local-hostname: \"serv-1\""), "\(names)")
      #expect(names.contains("instance-id: \""), "\(names)")
      #expect(names.contains("name: \"alice\""), "\(names)")
      #expect(names.contains(key), "\(names)")
      #expect(names.contains("packages: [nginx]"), "\(names)")
      #expect(names.contains("ethernets: {}"), "\(names)")
    }
  }

  private func connectFromHost(
    _ machine: NetworkedMachine, _ path: String, _ original: String
  ) throws {
    try machine.line.type("vsock listen 1234 < /etc/passwd | md5sum; echo EN\"\"D")
    try machine.line.wait(for: "listening", seconds: 60)
    let client = try HostSocket(connected: path, port: 1234)
    #expect(try client.readLine().hasPrefix("OK "))
    let begin = MonotonicClock.now
    try client.send(file: original)
    let sum = try machine.line.wait(for: "END", seconds: 60)
    print("\(Self.size >> 20) MB by vsock: \(NetworkedMachine.seconds(since: begin)) s")
    #expect(sum.contains(try md5(original)), "\(sum)")
    let answer = "\(machine.uj.folder)/answer"
    #expect(try client.readAll(into: answer) > 0)
    #expect(try machine.run("md5sum /etc/passwd").contains(md5(answer)))
    #expect(try vsock(machine)["bytesToGuest"]?.integer == Int64(Self.size))
  }

  /// Both ways in one connection: what the host sent comes back.
  private func connectFromGuest(
    _ machine: NetworkedMachine, _ path: String, _ original: String
  ) throws {
    #expect(try machine.run("vsock connect 80 < /dev/null").contains("connect: "))
    let server = try HostSocket(listening: "\(path)_80")
    _ = try machine.run("mkfifo /fifo")
    try machine.line.type("vsock connect 80 < /fifo | tee /tmp/seen > /fifo; echo EN\"\"D")
    let connection = try server.accept()
    let copy = "\(machine.uj.folder)/copy"
    let begin = MonotonicClock.now
    let sender = try PosixThread(name: "sender") { try? connection.send(file: original) }
    let count = try connection.readAll(into: copy, limit: Self.size)
    sender.join()
    print("\(Self.size >> 20) MB there and back: \(NetworkedMachine.seconds(since: begin)) s")
    #expect(count == Self.size)
    #expect(try md5(copy) == md5(original))
    connection.close()
    try machine.line.wait(for: "END", seconds: 60)
    #expect(try machine.run("md5sum /tmp/seen").contains(md5(original)))
    let state = try vsock(machine)
    #expect(state["refused"]?.integer == 1)
    #expect(state["malformed"]?.integer == 0)
  }
}

/// A Unix socket of the host; every wait has a limit.
final class HostSocket: Sendable {
  private let number: Int32

  private init(_ number: Int32) throws {
    guard number >= 0 else { throw TestGuestError("no socket") }
    self.number = number
  }

  deinit { CLinux.close(number) }

  /// Until it can be read or written.
  private func wait(_ events: Int32) throws {
    var entry = pollfd(fd: number, events: Int16(events), revents: 0)
    guard poll(&entry, 1, 60_000) > 0 else {
      throw TestGuestError("nothing came from the guest, or was taken by it, in a minute")
    }
  }

  convenience init(listening path: String) throws {
    try self.init(linux_unix_socket())
    guard linux_unix_bind(number, path) == 0, listen(number, 4) == 0 else {
      throw TestGuestError("\(path): cannot listen")
    }
  }

  /// Asks for a port of the guest.
  convenience init(connected path: String, port: Int) throws {
    try self.init(linux_unix_socket())
    guard linux_unix_connect(number, path) == 0 else {
      throw TestGuestError("\(path): cannot connect")
    }
    _ = Array("CONNECT \(port)\n".utf8).withUnsafeBytes {
      CLinux.write(number, $0.baseAddress, $0.count)
    }
  }

  func accept() throws -> HostSocket {
    try wait(POLLIN)
    return try HostSocket(linux_accept4(number, O_NONBLOCK))
  }

  /// Without the end of the line; what came before the end of the stream.
  func readLine() throws -> String {
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while true {
      try wait(POLLIN)
      guard CLinux.read(number, &byte, 1) == 1, byte != UInt8(ascii: "\n") else {
        return String(decoding: line, as: UTF8.self)
      }
      line.append(byte)
    }
  }

  /// Sends a file and ends this side.
  func send(file path: String) throws {
    let file = try FileDescriptor.open(path, O_RDONLY)
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
      if count == 0 { break }
      var done = 0
      while done < count {
        let sent = buffer.withUnsafeBytes {
          CLinux.write(number, $0.baseAddress.map { $0 + done }, count - done)
        }
        if sent > 0 {
          done += sent
        } else {
          guard linux_error_number() == EAGAIN else {
            throw TestGuestError("the guest does not take what is sent")
          }
          try wait(POLLOUT)
        }
      }
    }
    shutdown(number, Int32(SHUT_WR))
  }

  /// Up to the end, or so many bytes; how many came.
  @discardableResult
  func readAll(into path: String?, limit: Int = .max) throws -> Int {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < limit {
      let count = CLinux.read(number, &buffer, min(buffer.count, limit - bytes.count))
      if count < 0, linux_error_number() == EAGAIN {
        try wait(POLLIN)
        continue
      }
      if count <= 0 { break }
      bytes += buffer[..<count]
    }
    if let path { try writeBytes(path, bytes) }
    return bytes.count
  }

  func close() { shutdown(number, Int32(SHUT_RDWR)) }
}
