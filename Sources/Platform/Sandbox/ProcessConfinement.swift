// What a process gives up for good, on all of its threads: privileges, capabilities, namespaces of others, files. Threads
// that run already are made to do it themselves, by a signal, as the C library does for setuid(2).

import CLinux

/// How a process confines itself, step by step; each part says whether it holds.
public struct ProcessConfinement: Sendable {
  /// Kinds of namespaces (namespaces(7)).
  public enum Namespace: String, Sendable, CaseIterable {
    case ipc
    case names = "uts"
    case network = "net"

    fileprivate var flag: Int32 {
      switch self {
      case .ipc: linux_namespace_flag_ipc()
      case .names: linux_namespace_flag_names()
      case .network: linux_namespace_flag_network()
      }
    }
  }

  /// Which namespaces of its own the process wants. Without the right to make them it keeps those that it has.
  public var namespaces: Set<Namespace> = []
  /// Most descriptors; nil leaves that as it is.
  public var descriptorLimit: UInt64?

  public init() {}

  /// Which of the wanted namespaces the process has now.
  public struct Outcome: Sendable {
    public var namespaces: Set<Namespace> = []
  }

  /// Of the calling thread and all others.
  ///
  /// - Parameter landlock: nil where the host has none.
  /// - Throws: `PlatformError`; then the process must not go on, for a part of it may be confined and another not.
  public func enter(_ landlock: LandlockRules?) throws(PlatformError) -> Outcome {
    try limit()
    // Before Landlock hides it.
    let tasks = try FileDescriptor.open("/proc/self/task", O_RDONLY | O_DIRECTORY)
    var outcome = Outcome()
    var own: [Namespace: FileDescriptorNumber] = [:]
    for namespace in Namespace.allCases where namespaces.contains(namespace) {
      guard linux_unshare(namespace.flag) == 0 else { continue }
      let file = try FileDescriptor.open("/proc/thread-self/ns/\(namespace.rawValue)", O_RDONLY)
      own[namespace] = FileDescriptorNumber(file.release())
      outcome.namespaces.insert(namespace)
    }
    let ruleset = landlock?.descriptor.rawValue ?? -1
    var wanted = linux_confinement(
      ipc: own[.ipc]?.rawValue ?? -1, names: own[.names]?.rawValue ?? -1,
      network: own[.network]?.rawValue ?? -1, ruleset: ruleset)
    // The kernel no longer shows its memory to other processes of the user, nor writes it into files.
    try systemCall("prctl") { linux_set_dumpable(0) }
    var ourselves = wanted
    // It is in its namespaces already.
    ourselves.ipc = -1
    ourselves.names = -1
    ourselves.network = -1
    try check(linux_confine_thread(&ourselves), "confine")
    try confineOthers(tasks.rawValue, &wanted)
    return outcome
  }

  private func check(_ code: Int32, _ operation: String) throws(PlatformError) {
    if code != 0 { throw PlatformError(operation: operation, code: code) }
  }

  private func limit() throws(PlatformError) {
    var none = rlimit(rlim_cur: 0, rlim_max: 0)
    try systemCall("setrlimit") { linux_limit_core_files(&none) }
    if let descriptorLimit {
      var limit = rlimit()
      try systemCall("getrlimit") { linux_get_descriptor_limit(&limit) }
      limit.rlim_max = min(limit.rlim_max, rlim_t(descriptorLimit))
      limit.rlim_cur = limit.rlim_max
      try systemCall("setrlimit") { linux_set_descriptor_limit(&limit) }
    }
  }

  /// Until a look at the list of threads finds none that is not confined. A thread that a confined one makes is.
  private func confineOthers(
    _ folder: Int32, _ wanted: inout linux_confinement
  ) throws(PlatformError) {
    var done: Set<Int32> = [linux_gettid()]
    while true {
      let waiting = try threads(folder).filter { !done.contains($0) }
      if waiting.isEmpty { return }
      for thread in waiting {
        let code = linux_confine_other_thread(thread, &wanted)
        if code != ESRCH { try check(code, "confine thread \(thread)") }
        done.insert(thread)
      }
    }
  }

  private func threads(_ folder: Int32) throws(PlatformError) -> [Int32] {
    lseek(folder, 0, SEEK_SET)
    var threads: [Int32] = []
    // struct linux_dirent64 (getdents(2)): length at 16, name from 19.
    var buffer = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = try systemCall("getdents64") {
        buffer.withUnsafeMutableBytes {
          linux_list_folder(folder, $0.baseAddress, UInt32($0.count))
        }
      }
      if count == 0 { return threads }
      var place = 0
      while place + 19 < count {
        let length = Int(buffer[place + 16]) | Int(buffer[place + 17]) << 8
        guard length > 19, place + length <= count else { break }
        let name = buffer[place + 19..<place + length].prefix { $0 != 0 }
        if let number = Int32(String(decoding: name, as: UTF8.self)) { threads.append(number) }
        place += length
      }
    }
  }
}

/// A number to be closed with its last owner, for dictionaries, which take no values that cannot be copied.
private final class FileDescriptorNumber {
  let rawValue: Int32
  init(_ rawValue: Int32) { self.rawValue = rawValue }
  deinit { close(rawValue) }
}

/// System calls that a filter has refused to this process.
public enum RefusedCalls {
  /// From here on each is a line on standard error.
  public static func report() throws(PlatformError) {
    try systemCall("sigaction") { linux_install_refusal_handler() }
  }

  public static var count: Int { Int(linux_refusals()) }
}
