// The system calls of a machine's host, by what its threads do. Each list says who needs it; what is in none is refused.

import CLinux
import Platform

/// Makes the filters.
enum SandboxCalls {
  /// Everything, on all threads.
  static func process(_ needs: SandboxNeeds) -> SystemCallFilter {
    var filter = SystemCallFilter()
    addRequests(SandboxRequests.process(needs), to: &filter)
    addMemory(needs, to: &filter)
    filter.allow(common + transfers + waiting + files + sockets)
    addThreads(to: &filter)
    // What no host ever does, and nobody by mistake.
    filter.set(.end, impossible)
    if needs.hasProgram {
      filter.allow([SYS_wait4])
      for signal in [SIGTERM, SIGKILL] { filter.allow(SYS_kill, where: .wordIs(1, UInt32(signal))) }
    }
    // SIGSYS stays ours: a handler of another kind could hide what is refused.
    filter.allow(SYS_rt_sigaction, where: .wordIsNot(0, UInt32(SIGSYS)))
    addSockets(needs, to: &filter)
    if needs.usesSwitches { filter.allow([SYS_inotify_add_watch, SYS_inotify_rm_watch]) }
    if needs.sharesFolders { filter.allow(sharing) }
    // What a library asks for and does without.
    filter.set(.fail(ENOSYS), [clone3, SYS_io_uring_setup])
    filter.set(.fail(EPERM), [SYS_sched_setaffinity, SYS_sched_setscheduler, SYS_setpriority])
    return filter
  }

  /// A virtual processor's thread: the guest's exits, and the registers of devices. A frame that the guest sends it brings
  /// out of the machine itself where it can, and then it does what a device's thread does.
  static func processor(_ needs: SandboxNeeds) -> SystemCallFilter {
    let sends =
      needs.usesInternet || needs.usesLocalSockets || needs.usesSwitches || needs.usesTaps
      || needs.hasProgram
    var filter = sends ? device(needs) : SystemCallFilter()
    addRequests(SandboxRequests.processor(needs), to: &filter)
    addMemory(needs, to: &filter)
    filter.allow(common + transfers + waiting)
    addEnds(to: &filter)
    // Under KVM a processor in software that helps out is made when it is first needed, with its timers.
    filter.allow([SYS_eventfd2, SYS_timerfd_create, SYS_ftruncate, SYS_memfd_create, SYS_close])
    filter.set(.end, impossible)
    return filter
  }

  /// A device's thread: data of disks and networks.
  static func device(_ needs: SandboxNeeds) -> SystemCallFilter {
    var filter = SystemCallFilter()
    addRequests(SandboxRequests.device(needs), to: &filter)
    addMemory(needs, to: &filter)
    filter.allow(common + transfers + waiting + sockets)
    filter.allow([SYS_eventfd2, SYS_ftruncate, SYS_fstat, SYS_newfstatat, SYS_close])
    addEnds(to: &filter)
    if needs.hasProgram {
      filter.allow([SYS_wait4])
      for signal in [SIGTERM, SIGKILL] { filter.allow(SYS_kill, where: .wordIs(1, UInt32(signal))) }
    }
    addSockets(needs, to: &filter)
    if needs.resolvesNames || needs.usesSwitches || needs.usesLocalSockets {
      // resolv.conf, files that are served to the guest, folders of sockets.
      filter.allow([
        SYS_openat, SYS_open, SYS_stat, SYS_lstat, SYS_getdents64, SYS_unlink, SYS_unlinkat,
        SYS_access, SYS_readlink,
      ])
    }
    if needs.usesSwitches {
      filter.allow([
        SYS_inotify_add_watch, SYS_inotify_rm_watch, SYS_flock, SYS_rename, SYS_renameat2,
        SYS_mkdir, SYS_chmod,
      ])
    }
    if needs.sharesFolders { filter.allow(sharing) }
    filter.set(.end, impossible)
    return filter
  }

  // MARK: Lists

  private static let clone3: Int32 = 435
  private static let rseq: Int32 = 334
  private static let closeRange: Int32 = 436
  private static let epollWait2: Int32 = 441

  /// The C library and the language's runtime, anywhere.
  private static let common: [Int32] = [
    SYS_futex, SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_sched_yield, SYS_getrandom,
    SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday, SYS_time, SYS_clock_nanosleep,
    SYS_nanosleep, SYS_getpid, SYS_gettid, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sigaltstack, SYS_restart_syscall, SYS_exit, SYS_exit_group, SYS_sched_getaffinity,
    SYS_set_robust_list, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
    SYS_rt_sigpending, SYS_rt_sigtimedwait, rseq,
  ]

  /// Bytes of what is open already.
  private static let transfers: [Int32] = [
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev,
    SYS_preadv2, SYS_pwritev2, SYS_fsync, SYS_fdatasync, SYS_sync_file_range, SYS_fallocate,
    SYS_lseek, SYS_io_uring_enter, SYS_fcntl,
  ]

  private static let waiting: [Int32] = [
    SYS_poll, SYS_ppoll, SYS_epoll_wait, SYS_epoll_pwait, epollWait2, SYS_epoll_ctl,
    SYS_timerfd_settime, SYS_timerfd_gettime,
  ]

  /// Names in folders, by which Landlock decides: snapshots, logs, the state of the machine.
  private static let files: [Int32] = [
    SYS_open, SYS_openat, SYS_creat, SYS_close, closeRange, SYS_stat, SYS_fstat, SYS_lstat,
    SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_access, SYS_faccessat,
    SYS_readlink, SYS_readlinkat, SYS_getdents64, SYS_getcwd, SYS_rename, SYS_renameat,
    SYS_renameat2, SYS_mkdir, SYS_mkdirat, SYS_rmdir, SYS_unlink, SYS_unlinkat, SYS_link,
    SYS_linkat, SYS_symlink, SYS_symlinkat, SYS_chmod, SYS_fchmod, SYS_truncate, SYS_ftruncate,
    SYS_flock, SYS_utimensat, SYS_copy_file_range, SYS_msync, SYS_mincore, SYS_dup, SYS_dup2,
    SYS_dup3, SYS_pipe2, SYS_eventfd2, SYS_epoll_create1, SYS_timerfd_create, SYS_signalfd4,
    SYS_memfd_create, SYS_getrusage, SYS_uname, SYS_sysinfo, SYS_umask, SYS_fadvise64,
  ]

  /// What a guest does in a folder of the host: names beneath a descriptor (openat2), and fchmodat2.
  private static let sharing: [Int32] = [
    437, 452, SYS_close, SYS_fstat, SYS_newfstatat, SYS_fstatfs, SYS_readlinkat, SYS_getdents64,
    SYS_mkdirat, SYS_symlinkat, SYS_linkat, SYS_unlinkat, SYS_renameat2, SYS_fchmod, SYS_fchownat,
    SYS_utimensat, SYS_ftruncate, SYS_prlimit64,
  ]

  /// On sockets that are there: consoles, the control socket, networks.
  private static let sockets: [Int32] = [
    // libslirp takes connections with accept.
    SYS_accept, SYS_accept4, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg,
    SYS_recvmmsg,
    SYS_shutdown, SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername,
  ]

  /// The end of whoever asks for these.
  private static let impossible: [Int32] = [
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_mount,
    SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, SYS_init_module,
    SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load, SYS_reboot,
    SYS_swapon, SYS_swapoff, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl,
    SYS_add_key, SYS_request_key, SYS_open_by_handle_at, SYS_iopl, SYS_ioperm, SYS_modify_ldt,
    SYS_personality, SYS_acct, SYS_quotactl, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
    SYS_io_uring_register, SYS_mknod, SYS_mknodat, SYS_setuid, SYS_setgid, SYS_setresuid,
    SYS_setresgid, SYS_setgroups, SYS_capset, SYS_vmsplice, SYS_move_pages, SYS_migrate_pages,
    SYS_kcmp,
    // open_tree, move_mount, fsopen, fsconfig, fsmount, fspick; pidfd_getfd, process_madvise, mount_setattr.
    428, 429, 430, 431, 432, 433, 438, 440, 442,
  ]

  // MARK: Calls whose arguments count

  private static func addRequests(_ requests: [UInt32], to filter: inout SystemCallFilter) {
    for request in requests { filter.allow(SYS_ioctl, where: .wordIs(1, request)) }
  }

  /// Memory is for data. Only who translates may execute what it has written, and never by the address it wrote it at.
  private static func addMemory(_ needs: SandboxNeeds, to filter: inout SystemCallFilter) {
    let executable = UInt32(PROT_EXEC)
    filter.allow(SYS_mmap, where: .wordHasNone(2, executable))
    if needs.translates {
      filter.allow(
        SYS_mmap, where: .wordIs(2, UInt32(PROT_READ) | executable),
        .wordMasked(3, UInt32(MAP_SHARED | MAP_PRIVATE), equals: UInt32(MAP_SHARED)))
    }
    filter.allow(SYS_mprotect, where: .wordHasNone(2, executable))
  }

  /// New threads of this process, as the C library makes them, and no processes.
  private static func addThreads(to filter: inout SystemCallFilter) {
    // CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | SETTLS | PARENT_SETTID | CHILD_CLEARTID
    filter.allow(SYS_clone, where: .wordIs(0, 0x3D_0F00))
    filter.allow([SYS_prlimit64])
    addEnds(to: &filter)
    filter.allow([SYS_seccomp])
  }

  /// Signals to threads of this process; names; the sharing of cores.
  private static func addEnds(to filter: inout SystemCallFilter) {
    filter.allow(SYS_tgkill, where: .wordIs(0, UInt32(getpid())))
    // PR_SET_NAME, PR_GET_NAME, PR_SCHED_CORE.
    for option in [15, 16, 62] as [UInt32] { filter.allow(SYS_prctl, where: .wordIs(0, option)) }
  }

  private static func addSockets(_ needs: SandboxNeeds, to filter: inout SystemCallFilter) {
    filter.allow(SYS_socketpair, where: .wordIs(0, UInt32(AF_UNIX)))
    var families: [Int32] = []
    if needs.usesLocalSockets || needs.usesInternet { families.append(AF_UNIX) }
    if needs.usesInternet { families += [AF_INET, AF_INET6] }
    for family in families {
      filter.allow(SYS_socket, where: .wordIs(0, UInt32(family)), .wordMasked(1, 0xF, equals: 1))
      filter.allow(SYS_socket, where: .wordIs(0, UInt32(family)), .wordMasked(1, 0xF, equals: 2))
    }
    if needs.usesSwitches {
      // SOCK_SEQPACKET
      filter.allow(SYS_socket, where: .wordIs(0, UInt32(AF_UNIX)), .wordMasked(1, 0xF, equals: 5))
    }
    if !families.isEmpty { filter.allow([SYS_connect, SYS_bind, SYS_listen]) }
  }
}
