// A Linux guest with a network, out of Debian's packages: a kernel and a first root file system with BusyBox, the
// drivers of the adapters, a DHCP client, and programs of this host with their libraries.

import CLinux
import Hosting
import Platform

/// Files that a machine boots with `--kernel` and `--initrd`. On the console it prints `NETWORK-READY` and is a shell.
///
/// Words of the kernel's command line: `nodhcp` leaves the adapters without addresses.
package struct NetworkGuest: Sendable {
  package var kernel: String
  package var initrd: String

  /// Which of Debian's kernels.
  package enum Kernel: Sendable {
    /// For virtual machines: virtio only.
    case cloud
    /// For real machines: all drivers.
    case full

    fileprivate var package: String {
      self == .cloud ? "linux-image-cloud-amd64" : "linux-image-amd64"
    }
  }

  /// Modules in the order in which they are loaded; those that a kernel has built in are missing.
  private static let modules = [
    "drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci", "net/core/failover",
    "drivers/net/net_failover", "drivers/net/virtio_net",
    "drivers/net/ethernet/intel/e1000/e1000",
  ]

  /// Makes the files in `folder`.
  ///
  /// - Parameters:
  ///   - modules: more of the kernel's, in the order in which they are loaded, without the ending.
  ///   - programs: absolute paths of this host's programs that the guest gets; those that are missing here are left out.
  ///   - script: what the guest's shell does at once, before it is there for others.
  package init(
    _ which: Kernel = .cloud, modules: [String] = [], programs: [String] = [], script: String = "",
    in folder: String
  ) throws {
    let cache = PackageCache(folder: PackageCache.standardFolder()) { _ in }
    let name = try cache.dependency(of: which.package, prefix: "linux-image-")
    let release = name.dropFirst("linux-image-".count)
    let files = try cache.unpacked(name)
    kernel = "\(files)/boot/vmlinuz-\(release)"
    initrd = "\(folder)/network-initrd-\(which)"
    var archive = InitramfsArchive()
    for folder in [
      "bin", "proc", "sys", "dev", "tmp", "etc", "modules", "root", "var", "run", "mnt",
    ] {
      archive.addFolder(folder)
    }
    archive.addFile(
      "bin/busybox", mode: 0o755,
      content: try Self.read(try cache.unpacked("busybox-static") + "/bin/busybox"))
    archive.addLink("bin/sh", to: "busybox")
    archive.addFile("etc/passwd", content: Array("root::0:0:root:/root:/bin/sh\n".utf8))
    var loads = ""
    for module in Self.modules + modules {
      guard let content = try? Self.read("\(files)/lib/modules/\(release)/kernel/\(module).ko")
      else { continue }
      let file = module.split(separator: "/").last ?? ""
      archive.addFile("modules/\(file).ko", content: content)
      loads += "insmod /modules/\(file).ko\n"
    }
    try Self.add(programs.filter { access($0, X_OK) == 0 }, to: &archive)
    archive.addFile("script", mode: 0o755, content: Array("#!/bin/busybox sh\n\(script)\n".utf8))
    archive.addFile("init", mode: 0o755, content: Array(Self.start(loads).utf8))
    archive.addFile("lease", mode: 0o755, content: Array(Self.lease.utf8))
    archive.finish()
    try Self.write(initrd, archive.bytes)
  }

  private static func start(_ loads: String) -> String {
    """
    #!/bin/busybox sh
    /bin/busybox --install -s /bin
    export PATH=/bin HOME=/root PS1='# '
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    mkdir -p /dev/pts
    mount -t devpts devpts /dev/pts
    mount -t tmpfs -o size=90% tmp /tmp
    \(loads)dmesg -n 1
    ip link set lo up
    for card in /sys/class/net/eth*; do
      ip link set ${card##*/} up
      grep -q nodhcp /proc/cmdline || udhcpc -i ${card##*/} -q -n -t 5 -T 2 -s /lease
    done
    /script
    echo NETWORK-READY
    exec setsid cttyhack sh

    """
  }

  private static let lease = """
    #!/bin/busybox sh
    case "$1" in
    bound|renew)
      ip addr add $ip/$mask dev $interface
      [ -n "$router" ] && ip route add default via $router
      [ -n "$dns" ] && echo "nameserver $dns" > /etc/resolv.conf
      echo "LEASE $interface $ip $router $dns"
      ;;
    esac

    """

  /// Programs and, as the dynamic linker lists them, their libraries at their own places.
  private static func add(_ programs: [String], to archive: inout InitramfsArchive) throws {
    var folders: Set<String> = ["bin"]
    var files: Set<String> = []
    func add(_ path: String, as target: String) throws {
      guard files.insert(target).inserted else { return }
      let parts = target.split(separator: "/").dropLast()
      for count in 0..<parts.count {
        let folder = parts.prefix(count + 1).joined(separator: "/")
        if folders.insert(folder).inserted { archive.addFolder(folder) }
      }
      archive.addFile(target, mode: 0o755, content: try read(path))
    }
    for program in programs {
      try add(program, as: "bin/" + (program.split(separator: "/").last ?? ""))
      let list = try ChildProcess.run(["/usr/bin/ldd", program])
      for word in list.output.split(whereSeparator: \.isWhitespace) where word.hasPrefix("/") {
        try add(String(word), as: String(word.dropFirst()))
      }
    }
  }

  private static func read(_ path: String) throws -> [UInt8] {
    let file = try FileDescriptor.open(path, O_RDONLY)
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
      if count == 0 { return bytes }
      bytes += buffer[..<count]
    }
  }

  private static func write(_ path: String, _ bytes: [UInt8]) throws {
    let file = try FileDescriptor.open(path, O_CREAT | O_TRUNC | O_WRONLY, mode: 0o644)
    var rest = bytes[...]
    while !rest.isEmpty {
      rest = rest.dropFirst(try rest.withUnsafeBytes { try file.write($0) })
    }
  }
}
