import CLinux
import ConsoleUI
import Glibc
import Inventory
import Platform

/// Facts about the host for its view: what Linux tells in /proc and /sys, and what this user may use.
struct HostInspection {
  let accelerator: String
  let home: String

  func report() -> HostReport {
    HostReport([
      HostReport.Section("Accelerator", acceleratorFacts),
      HostReport.Section("Processors", processorFacts),
      HostReport.Section("Memory", memoryFacts),
      HostReport.Section("Limits and folders", limitFacts),
      HostReport.Section("Weaknesses of the processors", vulnerabilityFacts),
    ])
  }

  private typealias Fact = HostReport.Fact

  // MARK: Accelerator

  private var acceleratorFacts: [HostReport.Fact] {
    let isNone = accelerator.hasPrefix("none")
    var facts = [Fact("Machines run with", accelerator, isNone ? .bad : .plain)]
    let device = "/dev/kvm"
    if access(device, F_OK) != 0 {
      facts.append(Fact(device, "is not there: no virtualization, or module kvm is missing", .bad))
    } else if access(device, R_OK | W_OK) != 0 {
      facts.append(Fact(device, "may not be opened by you; join group kvm", .bad))
    } else {
      facts.append(Fact(device, "may be opened by you", .good))
    }
    for module in ["kvm_intel", "kvm_amd"] {
      if let nested = line("/sys/module/\(module)/parameters/nested") {
        let isOn = ["1", "Y"].contains(nested)
        facts.append(Fact("Nested guests", isOn ? "possible (\(module))" : "off (\(module))"))
      }
    }
    return facts
  }

  // MARK: Processors

  private var processorFacts: [HostReport.Fact] {
    let information = lines("/proc/cpuinfo", limit: 1 << 16)
    func value(_ key: String) -> String? {
      information.first { $0.hasPrefix(key) }.flatMap { line in
        line.firstIndex(of: ":").map {
          printable(line[line.index(after: $0)...].drop { $0 == " " })
        }
      }
    }
    var facts: [HostReport.Fact] = []
    if let model = value("model name") { facts.append(Fact("Model", model)) }
    facts.append(Fact("Cores online", "\(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))"))
    if let flags = value("flags") {
      let words = Set(flags.split(separator: " "))
      let extensions = [("vmx", "Intel VT-x"), ("svm", "AMD-V")].filter {
        words.contains($0.0[...])
      }
      facts.append(
        Fact(
          "Virtualization", extensions.first?.1 ?? "not offered to this system",
          extensions.isEmpty ? .bad : .good))
      if words.contains("hypervisor") {
        facts.append(Fact("Is a guest itself", "yes: machines here are nested"))
      }
    }
    if let load = line("/proc/loadavg") {
      facts.append(Fact("Load", load.split(separator: " ").prefix(3).joined(separator: "  ")))
    }
    if let kernel = line("/proc/sys/kernel/osrelease") { facts.append(Fact("Kernel", kernel)) }
    return facts
  }

  // MARK: Memory

  private var memoryFacts: [HostReport.Fact] {
    var values: [Substring: UInt64] = [:]
    for line in lines("/proc/meminfo") {
      let words = line.split(separator: " ")
      if words.count >= 2, let number = UInt64(words[1]) { values[words[0].dropLast()] = number }
    }
    func size(_ key: Substring) -> String? {
      values[key].map { Quantity.short($0 &* 1024) }
    }
    var facts: [HostReport.Fact] = []
    if let total = size("MemTotal") { facts.append(Fact("Installed", total)) }
    if let free = size("MemAvailable") { facts.append(Fact("Available", free)) }
    if let swap = size("SwapTotal"), let free = size("SwapFree") {
      facts.append(Fact("Swap", values["SwapTotal"] == 0 ? "none" : "\(swap), \(free) free"))
    }
    if let pages = values["HugePages_Total"] {
      facts.append(Fact("Huge pages", pages == 0 ? "none reserved" : "\(pages) reserved"))
    }
    if let mode = line("/sys/kernel/mm/transparent_hugepage/enabled") {
      let word = mode.split(separator: "[").last.map { String($0.prefix { $0 != "]" }) } ?? mode
      facts.append(Fact("Transparent huge pages", word))
    }
    if let same = line("/sys/kernel/mm/ksm/run") {
      facts.append(Fact("Same-page merging", same == "1" ? "on" : "off"))
    }
    return facts
  }

  // MARK: Limits

  private var limitFacts: [HostReport.Fact] {
    var facts: [HostReport.Fact] = []
    // "Max open files            1024                 1048576              files" (proc(5)).
    for (name, label, wanted) in [
      ("Max open files", "Open files", UInt64(1024)), ("Max locked memory", "Locked memory", 0),
      ("Max processes", "Processes", 256),
    ] {
      guard let line = lines("/proc/self/limits").first(where: { $0.hasPrefix(name) }),
        let word = line.dropFirst(name.count).split(separator: " ").first
      else { continue }
      let value = UInt64(word)
      let isShort = value.map { $0 < wanted } ?? false
      let text = name.hasSuffix("memory") ? value.map { Quantity.short($0) } : nil
      facts.append(Fact(label, text ?? String(word), isShort ? .bad : .plain))
    }
    guard !home.isEmpty else { return facts }
    facts.append(Fact("Machines live in", home))
    var file = statvfs()
    var folder = home
    while statvfs(folder, &file) != 0, let slash = folder.lastIndex(of: "/"), folder.count > 1 {
      folder = slash == folder.startIndex ? "/" : String(folder[..<slash])
    }
    let free = UInt64(file.f_bavail) &* UInt64(file.f_frsize)
    let all = UInt64(file.f_blocks) &* UInt64(file.f_frsize)
    if all > 0 {
      facts.append(
        Fact(
          "Free there", "\(Quantity.short(free)) of \(Quantity.short(all))",
          free < 1 << 30 ? .bad : .plain))
    }
    return facts
  }

  // MARK: Vulnerabilities

  private var vulnerabilityFacts: [HostReport.Fact] {
    let folder = "/sys/devices/system/cpu/vulnerabilities"
    let names = ((try? FileReading.entries(of: folder)) ?? []).sorted()
    guard !names.isEmpty else { return [Fact("Linux", "tells of none here")] }
    return names.compactMap { name in
      guard let text = line("\(folder)/\(name)") else { return nil }
      let mood: Fact.Mood =
        text.hasPrefix("Vulnerable") || text.hasPrefix("Unknown")
        ? .bad : text.hasPrefix("Not affected") ? .good : .plain
      return Fact(printable(name).replacingUnderscores, printable(text), mood)
    }
  }

  // MARK: Files

  private func lines(_ path: String, limit: Int = 8192) -> [Substring] {
    String(decoding: LogTail.head(path, limit: limit), as: UTF8.self).split(separator: "\n")
  }

  private func line(_ path: String) -> String? {
    lines(path, limit: 4096).first.map(String.init)
  }
}

extension String {
  fileprivate var replacingUnderscores: String { String(map { $0 == "_" ? " " : $0 }) }
}
