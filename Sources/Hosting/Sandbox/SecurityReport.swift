// What holds for a running machine's host process, as the kernel tells it of any process (proc(5)), and not as the process
// says itself.

import CLinux
import Inventory
import Platform

/// A look at one process.
package struct SecurityReport: Sendable, Equatable {
  /// One thread of it.
  package struct Thread: Sendable, Equatable {
    package var identifier: Int32
    package var name: String
    package var hasNoNewPrivileges: Bool
    /// seccomp(2) filters; a call must pass all of them.
    package var filters: Int
    /// Permitted, effective, inheritable and ambient sets, together.
    package var capabilities: UInt64
    /// What a program that it started could get at most, but for the lack of new privileges. Only root can empty it.
    package var boundingSet: UInt64
  }

  package struct Namespace: Sendable, Equatable {
    package var kind: String
    /// Not that of the process that asks; nil where the kernel does not say.
    package var isOwn: Bool?
  }

  package var process: Int32
  package var user: UInt32
  package var threads: [Thread] = []
  package var namespaces: [Namespace] = []
  /// Bytes of a core file; nil: unlimited.
  package var coreLimit: UInt64?
  package var descriptorLimit: UInt64?
  /// What is open, by descriptor; nil where the kernel does not say.
  package var descriptors: [String]?
  package var controlGroup = ""
  /// Whether each processor thread shares its core with no others while it runs; nil: the kernel has no core scheduling.
  package var sharesNoCore: Bool?

  package var areAllConfined: Bool {
    !threads.isEmpty && threads.allSatisfy { $0.hasNoNewPrivileges && $0.filters > 0 }
  }
  package var haveNoCapabilities: Bool { threads.allSatisfy { $0.capabilities == 0 } }

  /// - Throws: when there is no such process, or not any more.
  package init(process: Int32) throws(InventoryError) {
    self.process = process
    let folder = "/proc/\(process)"
    let status = Self.fields(try Self.text("\(folder)/status"))
    user = status["Uid"]?.split(whereSeparator: \.isWhitespace).first.flatMap { UInt32($0) } ?? 0
    for name in try FileReading.entries(of: "\(folder)/task") {
      // One may have ended meanwhile.
      guard let number = Int32(name), let text = try? Self.text("\(folder)/task/\(name)/status")
      else { continue }
      threads.append(Self.thread(number, Self.fields(text)))
    }
    threads.sort { $0.identifier < $1.identifier }
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
      guard let ours = Self.link("/proc/self/ns/\(kind)") else { continue }
      namespaces.append(
        Namespace(kind: kind, isOwn: Self.link("\(folder)/ns/\(kind)").map { $0 != ours }))
    }
    let limits = try Self.text("\(folder)/limits").split(separator: "\n")
    coreLimit = Self.limit("Max core file size", limits)
    descriptorLimit = Self.limit("Max open files", limits)
    if let numbers = try? FileReading.entries(of: "\(folder)/fd") {
      descriptors = numbers.compactMap { Int($0) }.sorted().compactMap {
        Self.link("\(folder)/fd/\($0)")
      }
    }
    controlGroup =
      (try? Self.text("\(folder)/cgroup"))?.split(separator: "\n")
      .first { $0.hasPrefix("0::") }.map { String($0.dropFirst(3)) } ?? ""
    sharesNoCore = Self.coreCookies(threads.filter { $0.name.hasPrefix("cpu") })
  }

  private static func thread(_ number: Int32, _ fields: [Substring: Substring]) -> Thread {
    var capabilities: UInt64 = 0
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
      capabilities |= fields[Substring(set)].flatMap { UInt64($0, radix: 16) } ?? 0
    }
    let isFiltered = fields["Seccomp"] == "2"
    return Thread(
      identifier: number, name: fields["Name"].map { printable($0) } ?? "?",
      hasNoNewPrivileges: fields["NoNewPrivs"] == "1",
      filters: isFiltered ? fields["Seccomp_filters"].flatMap { Int($0) } ?? 1 : 0,
      capabilities: capabilities,
      boundingSet: fields["CapBnd"].flatMap { UInt64($0, radix: 16) } ?? 0)
  }

  private static func text(_ path: String) throws(InventoryError) -> String {
    guard let text = try FileReading.text(path) else {
      throw InventoryError(.notFound, "\(path): the process is not there any more")
    }
    return text
  }

  private static func fields(_ text: String) -> [Substring: Substring] {
    var fields: [Substring: Substring] = [:]
    for line in text.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      fields[line[..<colon]] = line[line.index(after: colon)...].drop { $0 == "\t" || $0 == " " }
    }
    return fields
  }

  private static func limit(_ name: String, _ lines: [Substring]) -> UInt64? {
    lines.first { $0.hasPrefix(name) }.flatMap { line in
      line.dropFirst(name.count).split(separator: " ").first.flatMap { UInt64($0) }
    }
  }

  private static func link(_ path: String) -> String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    guard readlink(path, &buffer, Int(PATH_MAX)) > 0 else { return nil }
    return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  private static func coreCookies(_ threads: [Thread]) -> Bool? {
    var all = !threads.isEmpty
    for thread in threads {
      var cookie: UInt64 = 0
      guard linux_get_scheduling_cookie(thread.identifier, &cookie) == 0 else { return nil }
      all = all && cookie != 0
    }
    return threads.isEmpty ? nil : all
  }

  package var json: JSONValue {
    [
      "process": .unsigned(process), "user": .unsigned(user),
      "confined": .bool(areAllConfined), "noCapabilities": .bool(haveNoCapabilities),
      "threads": .array(
        threads.map { thread in
          [
            "id": .unsigned(thread.identifier), "name": .string(thread.name),
            "noNewPrivileges": .bool(thread.hasNoNewPrivileges),
            "filters": .unsigned(thread.filters),
            "capabilities": .string(String(thread.capabilities, radix: 16)),
            "boundingSet": .string(String(thread.boundingSet, radix: 16)),
          ]
        }),
      "namespaces": .object(
        Dictionary(
          uniqueKeysWithValues: namespaces.map {
            ($0.kind, $0.isOwn.map { .string($0 ? "own" : "shared") } ?? .null)
          })),
      "coreLimit": .optional(coreLimit, JSONValue.unsigned),
      "descriptorLimit": .optional(descriptorLimit, JSONValue.unsigned),
      "descriptors": .optional(descriptors) { .array($0.map { .string(printable($0)) }) },
      "controlGroup": .string(controlGroup),
      "coreScheduling": .optional(sharesNoCore, JSONValue.bool),
    ]
  }
}
