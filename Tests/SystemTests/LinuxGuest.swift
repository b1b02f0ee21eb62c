import Glibc
import Hosting
import Platform
import TestGuests

/// Debian's stock cloud kernel with a BusyBox initramfs, out of Debian's packages, fetched once into the user's cache.
enum LinuxGuest {
  struct Files: Sendable {
    var kernel: String
    var initrd: String
  }

  /// The guest, or why there is none.
  static let prepared: Result<Files, TestGuestError> = {
    do {
      return .success(try make())
    } catch {
      return .failure(TestGuestError("\(error)"))
    }
  }()

  static var missing: String? {
    if let tool = TerminalSession.missingTool { return tool }
    if case .failure(let error) = prepared { return "no Linux guest: \(error)" }
    return nil
  }

  private static func make() throws -> Files {
    let cache = PackageCache(folder: PackageCache.standardFolder()) { _ in }
    let name = try cache.dependency(of: "linux-image-cloud-amd64", prefix: "linux-image-")
    let version = name.dropFirst("linux-image-".count)
    let kernel = try cache.unpacked(name) + "/boot/vmlinuz-\(version)"
    let busybox = try cache.unpacked("busybox-static") + "/bin/busybox"
    let initrd = try TestFolder.make("linux") + "/initrd"
    var archive = Archive()
    for folder in ["bin", "proc", "sys", "dev"] { archive.add(folder, mode: 0o040755) }
    archive.add("bin/busybox", mode: 0o100755, try readBytes(busybox))
    for applet in [
      "sh", "mount", "cat", "grep", "poweroff", "reboot", "setsid", "cttyhack", "md5sum",
    ] {
      archive.add("bin/\(applet)", mode: 0o120777, Array("busybox".utf8))
    }
    archive.add(
      "init", mode: 0o100755,
      Array(
        """
        #!/bin/sh
        mount -t proc proc /proc
        mount -t sysfs sys /sys
        mount -t devtmpfs dev /dev
        exec setsid cttyhack sh

        """.utf8))
    archive.add("TRAILER!!!", mode: 0)
    try writeBytes(initrd, archive.bytes)
    return Files(kernel: kernel, initrd: initrd)
  }

  /// A cpio archive as the kernel reads it (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
  private struct Archive {
    var bytes: [UInt8] = []
    private var number = 1

    mutating func add(_ name: String, mode: Int, _ data: [UInt8] = []) {
      let fields = [number, mode, 0, 0, 1, 0, data.count, 0, 0, 0, 0, name.utf8.count + 1, 0]
      number += 1
      bytes += Array("070701".utf8)
      for field in fields {
        let digits = String(field, radix: 16)
        bytes += Array((String(repeating: "0", count: 8 - digits.count) + digits).utf8)
      }
      bytes += Array(name.utf8) + [0]
      pad()
      bytes += data
      pad()
    }

    private mutating func pad() { while bytes.count % 4 != 0 { bytes.append(0) } }
  }
}
