// What a guest that has taken its host process over would try.

import CLinux

/// A system call by its name in the test, with everything that it needs.
struct Attempt: Sendable {
  var name: String
  /// The call's result, or a negative error number.
  var make: @Sendable (Targets) -> Int
}

/// What there is to be reached, which the sandbox is to be between.
struct Targets: Sendable {
  var ownDisk: String
  var ownLog: String
  var otherDisk: String
  var otherFolder: String
  /// The process that started this one, and runs outside.
  var parent: Int32
  /// An open pseudo-terminal.
  var terminal: Int32
}

private func call(_ number: Int32, _ arguments: UInt...) -> Int {
  var words = arguments + [0, 0, 0, 0, 0, 0]
  words.removeLast(words.count - 6)
  return words.withUnsafeBufferPointer { linux_system_call(Int(number), $0.baseAddress) }
}

private func call(_ number: Int32, path: String, _ arguments: UInt...) -> Int {
  path.withCString { text in
    var words = [UInt(bitPattern: text)] + arguments + [0, 0, 0, 0, 0]
    words.removeLast(words.count - 6)
    return words.withUnsafeBufferPointer { linux_system_call(Int(number), $0.baseAddress) }
  }
}

private func open(_ path: String, _ flags: Int32) -> Int {
  path.withCString { text in
    let folder = UInt(bitPattern: Int(AT_FDCWD))
    let words: [UInt] = [folder, UInt(bitPattern: text), UInt(flags), 0o600, 0, 0]
    return words.withUnsafeBufferPointer {
      linux_system_call(Int(SYS_openat), $0.baseAddress)
    }
  }
}

private func socket(_ family: Int32, _ kind: Int32) -> Int {
  call(SYS_socket, UInt(family), UInt(kind), 0)
}

enum Attempts {
  /// Those that may fail quietly; one process makes all of them.
  static let refused: [Attempt] = [
    // What must go on working: without these the rest would prove nothing.
    Attempt(name: "open own disk") { open($0.ownDisk, O_RDWR) },
    Attempt(name: "append to own log") { open($0.ownLog, O_WRONLY | O_CREAT | O_APPEND) },
    Attempt(name: "read time") { _ in
      var time = timespec()
      return withUnsafeMutablePointer(to: &time) {
        call(SYS_clock_gettime, UInt(CLOCK_MONOTONIC), UInt(bitPattern: $0))
      }
    },
    Attempt(name: "map memory") { _ in
      let result = call(
        SYS_mmap, 0, 4096, UInt(PROT_READ | PROT_WRITE), UInt(MAP_PRIVATE | MAP_ANONYMOUS),
        UInt.max, 0)
      return min(result, 1)
    },
    // Files of others.
    Attempt(name: "open /etc/passwd") { _ in open("/etc/passwd", O_RDONLY) },
    Attempt(name: "open /etc/shadow") { _ in open("/etc/shadow", O_RDONLY) },
    Attempt(name: "open other disk") { open($0.otherDisk, O_RDONLY) },
    Attempt(name: "list other machine") { open($0.otherFolder, O_RDONLY | O_DIRECTORY) },
    Attempt(name: "list /") { _ in open("/", O_RDONLY | O_DIRECTORY) },
    Attempt(name: "list /proc") { _ in open("/proc", O_RDONLY | O_DIRECTORY) },
    Attempt(name: "make a file in /tmp") { _ in
      open("/tmp/sandbox-probe-\(getpid())", O_WRONLY | O_CREAT)
    },
    Attempt(name: "open /dev/full") { _ in open("/dev/full", O_RDWR) },
    Attempt(name: "open /dev/kvm") { _ in open("/dev/kvm", O_RDWR) },
    Attempt(name: "read memory of parent") { open("/proc/\($0.parent)/mem", O_RDWR) },
    Attempt(name: "read environment of parent") { open("/proc/\($0.parent)/environ", O_RDONLY) },
    Attempt(name: "write sysctl") { _ in open("/proc/sys/kernel/core_pattern", O_WRONLY) },
    Attempt(name: "remove other disk") { targets in
      targets.otherDisk.withCString { text in
        call(SYS_unlinkat, UInt(bitPattern: Int(AT_FDCWD)), UInt(bitPattern: text), 0)
      }
    },
    // Networks.
    Attempt(name: "socket inet") { _ in socket(AF_INET, 1) },
    Attempt(name: "socket inet6") { _ in socket(AF_INET6, 2) },
    Attempt(name: "socket unix") { _ in socket(AF_UNIX, 1) },
    Attempt(name: "socket netlink") { _ in socket(16, 3) },
    Attempt(name: "socket packet") { _ in socket(17, 3) },
    Attempt(name: "socket vsock") { _ in socket(40, 1) },
    Attempt(name: "connect") { _ in call(SYS_connect, 0, 0, 0) },
    // Processes.
    Attempt(name: "fork") { _ in call(SYS_clone, UInt(SIGCHLD)) },
    Attempt(name: "vfork") { _ in call(SYS_vfork) },
    Attempt(name: "fork by clone3") { _ in call(435, 0, 0) },
    Attempt(name: "kill parent") { call(SYS_kill, UInt($0.parent), 0) },
    Attempt(name: "tgkill parent") { call(SYS_tgkill, UInt($0.parent), UInt($0.parent), 0) },
    Attempt(name: "pidfd of parent") { call(434, UInt($0.parent), 0) },
    Attempt(name: "link of parent's program") { targets in
      "/proc/\(targets.parent)/exe".withCString { text in
        var room = [CChar](repeating: 0, count: 64)
        return room.withUnsafeMutableBufferPointer {
          call(
            SYS_readlink, UInt(bitPattern: text), UInt(bitPattern: $0.baseAddress), 64)
        }
      }
    },
    // The process itself.
    Attempt(name: "map executable memory") { _ in
      call(
        SYS_mmap, 0, 4096, UInt(PROT_READ | PROT_WRITE | PROT_EXEC),
        UInt(MAP_PRIVATE | MAP_ANONYMOUS), UInt.max, 0)
    },
    Attempt(name: "make memory executable") { _ in
      call(SYS_mprotect, 0x1000, 4096, UInt(PROT_READ | PROT_EXEC))
    },
    Attempt(name: "handle SIGSYS") { _ in call(SYS_rt_sigaction, UInt(SIGSYS), 0, 0, 8) },
    Attempt(name: "become dumpable") { _ in call(SYS_prctl, 4, 1) },
    Attempt(name: "allow core files") { _ in
      var limit = rlimit(rlim_cur: 1 << 20, rlim_max: 1 << 20)
      return withUnsafeMutablePointer(to: &limit) {
        call(SYS_prlimit64, 0, 4, UInt(bitPattern: $0), 0)
      }
    },
    Attempt(name: "io_uring") { _ in call(SYS_io_uring_setup, 8, 0) },
    // Devices.
    Attempt(name: "TIOCSTI") { call(SYS_ioctl, UInt($0.terminal), 0x5412, 0) },
    Attempt(name: "TIOCLINUX") { call(SYS_ioctl, UInt($0.terminal), 0x541C, 0) },
    Attempt(name: "TIOCSCTTY") { call(SYS_ioctl, UInt($0.terminal), 0x540E, 1) },
    Attempt(name: "ioctl of another number") { call(SYS_ioctl, UInt($0.terminal), 0xDEAD, 0) },
    // A request whose upper half the kernel does not look at is the same request.
    Attempt(name: "TIOCSTI in 64 bits") {
      call(SYS_ioctl, UInt($0.terminal), 0xFFFF_FFFF_0000_5412, 0)
    },
    // Shared things of the host.
    Attempt(name: "shmget") { _ in call(SYS_shmget, 1, 4096, 0o1600) },
    Attempt(name: "msgget") { _ in call(SYS_msgget, 1, 0o1600) },
    Attempt(name: "mq_open") { call(SYS_mq_open, path: $0.ownDisk, UInt(O_CREAT), 0o600, 0) },
    Attempt(name: "sethostname") { _ in call(SYS_sethostname, 0, 0) },
    Attempt(name: "syslog") { _ in call(SYS_syslog, 3, 0, 0) },
    Attempt(name: "mlockall") { _ in call(SYS_mlockall, 3) },
    Attempt(name: "inotify") { _ in call(SYS_inotify_init1, 0) },
    Attempt(name: "set own priority") { _ in call(SYS_setpriority, 0, 0, UInt(bitPattern: -20)) },
    Attempt(name: "unknown call") { _ in call(999) },
  ]

  /// Those that end the process.
  static let lethal: [Attempt] = [
    Attempt(name: "execve") { _ in call(SYS_execve, path: "/bin/true", 0, 0) },
    Attempt(name: "execveat") { _ in call(SYS_execveat, 0, 0, 0, 0, 0) },
    Attempt(name: "ptrace parent") { call(SYS_ptrace, 16, UInt($0.parent), 0, 0) },
    Attempt(name: "process_vm_readv") {
      call(SYS_process_vm_readv, UInt($0.parent), 0, 0, 0, 0, 0)
    },
    Attempt(name: "mount") { _ in call(SYS_mount, 0, 0, 0, 0, 0) },
    Attempt(name: "unshare user") { _ in call(SYS_unshare, 0x1000_0000) },
    Attempt(name: "setns") { _ in call(SYS_setns, 0, 0) },
    Attempt(name: "chroot") { _ in call(SYS_chroot, path: "/") },
    Attempt(name: "pivot_root") { _ in call(SYS_pivot_root, 0, 0) },
    Attempt(name: "bpf") { _ in call(SYS_bpf, 0, 0, 0) },
    Attempt(name: "perf_event_open") { _ in call(SYS_perf_event_open, 0, 0, 0, 0, 0) },
    Attempt(name: "userfaultfd") { _ in call(SYS_userfaultfd, 0) },
    Attempt(name: "keyctl") { _ in call(SYS_keyctl, 0, 0, 0, 0, 0) },
    Attempt(name: "add_key") { _ in call(SYS_add_key, 0, 0, 0, 0, 0) },
    Attempt(name: "init_module") { _ in call(SYS_init_module, 0, 0, 0) },
    Attempt(name: "kexec_load") { _ in call(SYS_kexec_load, 0, 0, 0, 0) },
    Attempt(name: "open_by_handle_at") { _ in call(SYS_open_by_handle_at, 0, 0, 0) },
    Attempt(name: "mknod") { _ in call(SYS_mknod, path: "/tmp/x", 0o20600, 0) },
    Attempt(name: "setuid") { _ in call(SYS_setuid, 0) },
    Attempt(name: "capset") { _ in call(SYS_capset, 0, 0) },
    Attempt(name: "modify_ldt") { _ in call(SYS_modify_ldt, 0, 0, 0) },
    Attempt(name: "personality") { _ in call(SYS_personality, 0) },
    Attempt(name: "pidfd_getfd") { _ in call(438, 0, 0, 0) },
    Attempt(name: "number of x32") { _ in call(0x4000_0000 | SYS_write, 1, 0, 0) },
  ]
}
