// What the host's processors are known to leak (Linux Documentation/admin-guide/hw-vuln), and what of it concerns guests.

import Inventory

/// One of the kernel's files in /sys/devices/system/cpu/vulnerabilities.
package struct HostWeakness: Sendable, Equatable {
  package var name: String
  /// The kernel's own words.
  package var text: String

  package enum State: String, Sendable {
    case unaffected, mitigated, vulnerable
  }

  package var state: State {
    if text.hasPrefix("Not affected") { return .unaffected }
    // "Mitigation: ...; SMT vulnerable" is half a mitigation.
    if text.hasPrefix("Mitigation"), !text.lowercased().contains("vulnerable") { return .mitigated }
    return .vulnerable
  }

  /// What it means where guests are strangers; nil where it does not concern them.
  package var meaning: String? { Self.meanings[name] }

  private static let meanings = [
    "l1tf":
      "a guest reads what lies in the first-level cache, of the host and of other guests; with hyperthreads also what the sibling works on",
    "mds": "a guest samples buffers of the core, also those its hyperthread sibling fills",
    "tsx_async_abort": "as mds, by transactions",
    "mmio_stale_data": "a guest samples stale data of device accesses on its core",
    "reg_file_data_sampling": "a guest samples registers that others used on its core",
    "meltdown":
      "a guest's programs read their own kernel's memory; guests are apart from each other",
    "spectre_v1": "concerns what the host's kernel computes for a guest at its exits",
    "spectre_v2": "a guest steers speculation of the host or of another guest on the same core",
    "spec_store_bypass": "programs within one guest against each other",
    "retbleed": "a guest steers returns of the host's kernel and reads by them",
    "spec_rstack_overflow": "a guest steers returns of the host's kernel and reads by them",
    "gather_data_sampling": "a guest samples vector registers that others used on its core",
    "srbds": "a guest samples random numbers that other cores were given",
    "itlb_multihit": "a guest stops the whole host with a machine check",
    "ghostwrite": "a guest writes physical memory",
    "indirect_target_selection": "a guest steers speculation of the host's kernel",
    "tsa": "a guest infers data of the host or of other guests on its core",
    "vmscape": "a guest steers speculation of its own host process and reads that process's memory",
    "old_microcode": "the microcode is older than the kernel knows to be safe",
  ]

  /// All of this host.
  package static func all(
    in folder: String = "/sys/devices/system/cpu/vulnerabilities"
  ) -> [HostWeakness] {
    ((try? FileReading.entries(of: folder)) ?? []).sorted().compactMap { name in
      guard let text = try? FileReading.text("\(folder)/\(name)") else { return nil }
      let line = text.split(separator: "\n").first.map(String.init) ?? ""
      return HostWeakness(name: printable(name), text: printable(line))
    }
  }

  /// Whether two hyperthreads may run on a core; nil where the host does not say.
  package static var hasHyperthreads: Bool? {
    (try? FileReading.text("/sys/devices/system/cpu/smt/active"))
      .flatMap { $0.hasPrefix("1") ? true : $0.hasPrefix("0") ? false : nil }
  }
}
