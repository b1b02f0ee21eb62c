import CLinux
import Inventory
import Platform

/// The program's own version.
package enum UnderjackVersion {
  package static let text = "0.1.0"
}

/// A file in the machine's log folder that says how a guest or a host process has died: what, which version, with which
/// configuration, the registers of all virtual processors and what they did last. Nothing of the guest's memory.
enum CrashReport {
  /// Read before the process is confined: afterwards it cannot.
  static let kernelRelease: String = {
    let text = try? FileReading.text("/proc/sys/kernel/osrelease")
    return text.map { String($0.prefix { $0 != "\n" }) } ?? "of some kind"
  }()

  static func text(
    _ name: String, _ reason: String, accelerator: String, configuration: String?
  ) -> String {
    var lines = [
      "UNDERJACK CRASH REPORT", "machine      \(name)", "time         \(MachineCrash.stamp())",
      "version      uj \(UnderjackVersion.text)",
      "host         Linux \(kernelRelease), process \(getpid())",
      "accelerator  \(accelerator)", "", reason,
    ]
    if let configuration { lines += ["", "CONFIGURATION", configuration] }
    return lines.joined(separator: "\n") + "\n"
  }
}

extension MachineHost {
  /// Reports that a run writes at most: a guest that dies again and again must not fill the disk.
  private static let reportLimit = 4

  /// The guest has died, of itself or with its processor.
  func reportFault(_ report: String) {
    let line = report.prefix { $0 != "\n" }
    guard crashReports.count < Self.reportLimit, let path = writeReport(report) else {
      noteMessage("\(line)")
      return
    }
    crashReports.append(path)
    noteMessage("\(line); the report is \(path)")
  }

  /// From here on a signal that ends this process leaves a report. Once a process, which is this machine's host and
  /// nothing else.
  package func reportsCrashes() throws(HostingError) {
    guard plan.claim != nil else { return }
    try platform { () throws(PlatformError) in
      _ = try PosixThread(name: "crash report") { [weak self] in
        linux_await_crash()
        self?.reportCrash()
        linux_crash_reported()
      }
      _ = try systemCall("sigaction") { linux_install_crash_handler() }
    }
  }

  /// The process is about to end, and one of its threads stands where it has crashed.
  private func reportCrash() {
    let crash = linux_crash_found()
    let thread = String(cString: linux_crash_thread_name())
    let name = strsignal(crash.signal).map { String(cString: $0) } ?? "unknown"
    func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
    var head =
      "the host process died of signal \(crash.signal) (\(name)), thread \(crash.thread) (\(thread))"
    // SI_USER, SI_TKILL: somebody has sent it, and there is no address.
    head +=
      crash.code <= 0
      ? "\nsent by a process" : "\naddress \(hex(crash.address))"
    head +=
      "\ninstruction \(hex(crash.instruction)), \(hex(crash.instruction &- crash.program)) of the program"
    head += "; stack \(hex(crash.stack))"
    // What is certain goes first: the rest may never come, where the thread that has died holds a lock.
    guard let path = writeReport(head) else { return }
    replaceReport(path, machine.emergencyReport(head))
  }

  private func writeReport(_ reason: String) -> String? {
    guard let claim = plan.claim else { return nil }
    let path = claim.inventory.newCrashReport(claim.name)
    return replaceReport(path, reason) ? path : nil
  }

  @discardableResult
  private func replaceReport(_ path: String, _ reason: String) -> Bool {
    guard let claim = plan.claim else { return false }
    let text = CrashReport.text(
      name, reason, accelerator: machine.acceleratorDescription,
      configuration: plan.definition?.text(name: claim.name))
    return (try? claim.inventory.writeCrashReport(text, to: path)) != nil
  }
}
