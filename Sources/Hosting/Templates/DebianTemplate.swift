import CLinux
import Inventory
import Networks
import Platform

/// `uj template build debian`: a bootable Debian made of its archive's packages, without root.
///
/// mmdebstrap(1) unpacks and configures the packages in a user namespace; mke2fs(8) makes the file system of that
/// folder, in a user namespace too; the disk around it (partition table, GRUB, file system) is put together here.
/// What mmdebstrap made is kept in the cache, by a fingerprint of what was asked for.
package struct DebianTemplate: Sendable {
  /// What to build.
  package struct Options: Sendable, Equatable {
    package var suite = "bookworm"
    package var mirror = "http://deb.debian.org/debian"
    /// More packages.
    package var packages: [String] = []
    /// Bytes of the disk.
    package var size: UInt64 = 8 << 30
    /// Public keys that may log in as root by ssh, lines of authorized_keys(5).
    package var sshKeys = ""
    /// Build again what is in the cache.
    package var isFresh = false
    package init() {}
  }

  private let inventory: Inventory
  private let options: Options
  private let report: @Sendable (String) -> Void

  /// - Parameter report: one line about what is being done.
  package init(
    inventory: Inventory, options: Options, report: @escaping @Sendable (String) -> Void
  ) {
    self.inventory = inventory
    self.options = options
    self.report = report
  }

  private static let programs = [
    ("/usr/bin/mmdebstrap", "mmdebstrap"), ("/usr/sbin/mke2fs", "e2fsprogs"),
    ("/usr/bin/unshare", "util-linux"), ("/usr/bin/tar", "tar"),
  ]

  /// Builds the disk and makes the template.
  ///
  /// - Throws: one line that says what to do.
  package func build(_ name: MachineName) throws {
    guard !inventory.exists(name) else {
      throw DemonstrationError(
        "\(name): there is a machine of that name already; 'uj delete \(name)', or build under "
          + "another --name")
    }
    for (program, package) in Self.programs where access(program, X_OK) != 0 {
      throw DemonstrationError("\(program) is missing; install it: apt-get install \(package)")
    }
    guard options.size >= 2 << 30, options.size <= 16 << 40, options.size % (1 << 20) == 0 else {
      throw DemonstrationError("the disk must have 2G to 16T, in whole MiB")
    }
    let work = "\(cacheFolder)/build.\(getpid())"
    try makeFolders(work)
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", work]) }
    let archive = try rootArchive(work)
    let disk = try DebianDisk(
      archive: archive, work: work, size: options.size, sshKeys: options.sshKeys, report: report
    ).build()
    report("making the template \(name)")
    var definition = MachineDefinition()
    definition.memory = 512 << 20
    definition.networks = [NetworkConfiguration()]
    definition.isTemplate = true
    definition.tags = ["debian", options.suite]
    definition.uuid = .random()
    definition.notes =
      "Debian \(options.suite): root logs in on the serial console without a password"
      + (options.sshKeys.isEmpty ? "" : ", and by ssh with the keys that were given")
    definition.disks = [.init(name: "disk0")]
    try inventory.create(name, definition, sources: ["disk0": .adopted(path: disk)])
  }

  private var cacheFolder: String {
    let packages = PackageCache.standardFolder()
    let parent = packages.lastIndex(of: "/").map { String(packages[..<$0]) } ?? packages
    return parent + "/templates"
  }

  // MARK: The packages

  static let standardPackages = [
    "systemd-sysv", "udev", "dbus", "libpam-systemd", "linux-image-cloud-amd64", "initramfs-tools",
    "zstd", "grub-pc-bin", "grub-common", "openssh-server", "iproute2", "less", "ca-certificates",
  ]

  /// A tar file of the whole system, made or found.
  private func rootArchive(_ work: String) throws -> String {
    let script = Self.customization
    // Before bookworm the resolver was part of systemd's own package.
    let resolver = options.suite == "bullseye" ? [] : ["systemd-resolved"]
    let all = (Self.standardPackages + resolver + options.packages).joined(separator: ",")
    let kept = Self.keptPaths.joined(separator: "|")
    let mark = Self.fingerprint("\(options.suite)|\(options.mirror)|\(all)|\(script)|\(kept)")
    let target = "\(cacheFolder)/debian-\(options.suite)-\(mark).tar"
    if !options.isFresh, access(target, R_OK) == 0 {
      report("using what was built before: \(target)")
      return target
    }
    let hook = "\(work)/customize"
    try writeFile(hook, Array(script.utf8))
    guard chmod(hook, 0o755) == 0 else { throw DemonstrationError("\(hook): chmod failed") }
    let partial = "\(work)/root.tar"
    report("building Debian \(options.suite) with mmdebstrap; this takes a few minutes")
    let arguments =
      [
        "/usr/bin/mmdebstrap", getuid() == 0 ? "--mode=root" : "--mode=unshare",
        "--variant=minbase", "--format=tar", "--include=\(all)",
        "--aptopt=APT::Install-Recommends \"false\"",
      ]
      + ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*"].map {
        "--dpkgopt=path-exclude=\($0)"
      }
      + Self.keptPaths.map { "--dpkgopt=path-include=\($0)" }
      + [
        "--essential-hook=\(Self.initramfsHook)", "--customize-hook=\(hook) \"$1\"",
        options.suite, partial, options.mirror,
      ]
    try run(arguments, failure: "mmdebstrap failed")
    try makeFolders(cacheFolder)
    guard rename(partial, target) == 0 else {
      throw DemonstrationError("\(target): cannot be made; is the disk full?")
    }
    return target
  }

  /// Of what is left out otherwise. Without the list of other names locale-gen(8) complains.
  private static let keptPaths = [
    "/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias",
  ]

  /// Only what a machine here has: the smaller the file, the sooner it is read through the BIOS.
  private static let initramfsHook =
    "mkdir -p \"$1/etc/initramfs-tools/conf.d\"; "
    + "printf 'MODULES=list\\nCOMPRESS=zstd\\n' > \"$1/etc/initramfs-tools/conf.d/underjack\"; "
    + "printf 'virtio_pci\\nvirtio_blk\\nvirtio_net\\next4\\n' > \"$1/etc/initramfs-tools/modules\""

  /// The label that the boot loader and fstab know the file system by.
  static let label = "underjack-root"

  /// Runs with the new system's folder as its argument, as (namespaced) root.
  private static let customization = """
    #!/bin/sh
    set -e
    root="$1"
    echo debian > "$root/etc/hostname"
    printf '127.0.0.1\\tlocalhost\\n::1\\tlocalhost ip6-localhost\\n' > "$root/etc/hosts"
    echo 'LABEL=\(label) / ext4 errors=remount-ro,noatime 0 1' > "$root/etc/fstab"
    # As an installed Debian has one: without it cloud-init wants en_US.UTF-8, which is not generated, and fails.
    echo 'LANG=C.UTF-8' > "$root/etc/default/locale"
    chroot "$root" passwd -d root
    # The machine's name is its host name; keys are made at the first start, so that no two machines share them.
    cat > "$root/etc/systemd/system/underjack-identity.service" <<'UNIT'
    [Unit]
    Description=Host name and ssh keys of this machine
    DefaultDependencies=no
    After=local-fs.target
    Before=network-pre.target ssh.service systemd-logind.service getty-pre.target
    Wants=getty-pre.target
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/bin/sh -c 'name=$(cat /sys/class/dmi/id/product_serial 2>/dev/null); [ -z "$name" ] || { echo "$name" > /etc/hostname; hostname "$name"; }'
    ExecStart=/usr/bin/ssh-keygen -A
    [Install]
    WantedBy=sysinit.target
    UNIT
    # A software processor on a busy host is slow, and that is no failure: systemd's own patience is 90 seconds.
    mkdir -p "$root/etc/systemd/system.conf.d" "$root/etc/systemd/system/dev-ttyS0.device.d"
    printf '[Manager]\\nDefaultTimeoutStartSec=30min\\nDefaultDeviceTimeoutSec=30min\\n' \\
      > "$root/etc/systemd/system.conf.d/underjack.conf"
    printf '[Unit]\\nJobTimeoutSec=infinity\\nJobRunningTimeoutSec=infinity\\n' \\
      > "$root/etc/systemd/system/dev-ttyS0.device.d/patience.conf"
    chroot "$root" systemctl enable underjack-identity.service systemd-networkd.service
    chroot "$root" systemctl disable apt-daily.timer apt-daily-upgrade.timer || true
    printf '[Match]\\nName=en* eth*\\n[Network]\\nDHCP=yes\\n' > "$root/etc/systemd/network/80-dhcp.network"
    mkdir -p "$root/etc/systemd/system/systemd-networkd-wait-online.service.d"
    rm -f "$root"/etc/ssh/ssh_host_*
    mkdir -p -m 700 "$root/root/.ssh"
    # Names are looked up where DHCP says; what stands here is of the computer that builds.
    chroot "$root" systemctl enable systemd-resolved.service
    ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
    # GRUB's two parts are put on the disk from outside; its modules are read from the file system.
    mkdir -p "$root/boot/grub/i386-pc"
    cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
    chroot "$root" grub-mkimage -O i386-pc -o /boot/grub/i386-pc/core.img -p '(hd0,msdos1)/boot/grub' \\
      biosdisk part_msdos ext2 normal linux serial terminal
    cp "$root/usr/lib/grub/i386-pc/boot.img" "$root/boot/grub/i386-pc/boot.img"
    cat > "$root/boot/grub/grub.cfg" <<'GRUB'
    serial --unit=0 --speed=115200
    terminal_input serial console
    terminal_output serial console
    set timeout=1
    set default=0
    menuentry 'Debian' {
      linux /vmlinuz root=LABEL=\(label) ro console=tty0 console=ttyS0,115200 quiet
      initrd /initrd.img
    }
    menuentry 'Debian (the kernel before)' {
      linux /vmlinuz.old root=LABEL=\(label) ro console=tty0 console=ttyS0,115200
      initrd /initrd.img.old
    }
    GRUB
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
    : > "$root/etc/machine-id"

    """

  /// FNV-1a, as for folders: names a cached file; not a secret.
  private static func fingerprint(_ text: String) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return String(hash, radix: 16)
  }

  private func run(_ arguments: [String], failure: String) throws {
    let result = try ChildProcess.run(arguments) { text in
      for line in text.split(separator: "\n") where line.hasPrefix("I: ") {
        report(printable(line.dropFirst(3)))
      }
    }
    guard result.status == 0 else {
      let lines = result.output.split(separator: "\n")
      let last = lines.last { $0.hasPrefix("E: ") } ?? lines.last ?? ""
      throw DemonstrationError("\(failure): \(printable(last))")
    }
  }
}

/// Makes a folder and those above it.
func makeFolders(_ path: String, mode: UInt32 = 0o755) throws {
  var made = ""
  for part in path.split(separator: "/") {
    made += "/" + part
    if mkdir(made, mode) != 0 && linux_error_number() != EEXIST {
      throw DemonstrationError("\(made): \(String(cString: strerror(linux_error_number())))")
    }
  }
}
