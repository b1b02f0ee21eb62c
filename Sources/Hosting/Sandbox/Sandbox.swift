// What a machine's host gives up before the guest's first instruction. Guests are strangers; so is, from then on, the
// process that runs one (Documentation/Security.md).

import CLinux
import Machine
import Platform

/// The sandbox of this process.
package enum Sandbox {
  /// What holds, for the log and for status.
  package struct Report: Sendable, Equatable {
    package var filters = false
    /// The version of Landlock's interface; 0 without.
    package var landlock = 0
    /// Namespaces of its own.
    package var namespaces: [String] = []

    /// One line.
    package var text: String {
      var parts = ["no new privileges, no capabilities"]
      if filters { parts.append("system calls filtered by role") }
      parts.append(landlock > 0 ? "files by Landlock \(landlock)" : "no Landlock on this host")
      if !namespaces.isEmpty {
        parts.append("own namespaces \(namespaces.joined(separator: ", "))")
      }
      return parts.joined(separator: "; ")
    }
  }

  /// Descriptors that a host needs at most: consoles, forwards, layers of disks.
  private static let descriptorLimit: UInt64 = 8192

  /// Confines the whole process. All that the machine needs is open; no guest has run.
  ///
  /// - Throws: when a part that the host offers cannot be had; the machine must not run then.
  package static func enter(_ plan: HostPlan, translates: Bool) throws(HostingError) -> Report {
    do {
      return try enter(
        SandboxFiles(plan), SandboxNeeds(plan.configuration, translates: translates))
    } catch {
      throw HostingError(
        .machine,
        "\(plan.configuration.name): the sandbox cannot be had: \(error); --no-sandbox does without"
      )
    }
  }

  static func enter(
    _ files: SandboxFiles, _ needs: SandboxNeeds
  ) throws(PlatformError) -> Report {
    var report = Report()
    // The C library looks for the time zone once.
    tzset()
    try RefusedCalls.report()
    var confinement = ProcessConfinement()
    confinement.descriptorLimit = descriptorLimit
    confinement.namespaces = [.ipc, .names]
    if !needs.usesInternet { confinement.namespaces.insert(.network) }
    let process = SystemCallFilter.Compiled(SandboxCalls.process(needs))
    let roles: [ThreadRole: SystemCallFilter.Compiled] = [
      .processor: SystemCallFilter.Compiled(SandboxCalls.processor(needs)),
      .device: SystemCallFilter.Compiled(SandboxCalls.device(needs)),
    ]
    try ThreadRole.prepare()
    let outcome: ProcessConfinement.Outcome
    if LandlockRules.version > 0 {
      let landlock = try LandlockRules(
        allowsNetwork: needs.usesInternet, allowsSignals: needs.hasProgram)
      for rule in files.rules { try landlock.allow(rule.path, rule.rights) }
      outcome = try confinement.enter(landlock)
      report.landlock = LandlockRules.version
    } else {
      outcome = try confinement.enter(nil)
    }
    report.namespaces = outcome.namespaces.map(\.rawValue).sorted()
    try process.install(everywhere: true)
    ThreadRole.confine(roles)
    report.filters = true
    return report
  }
}
