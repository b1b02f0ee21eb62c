import Networks
import Processor

extension MachineDefinition {
  /// The text of a new `machine.toml`; what has its default value is left out, except what people look for.
  package func text(name: MachineName) -> String {
    var lines = [
      "# Machine \(name). Yours to edit; uj changes it only by 'uj set' and 'uj edit'.",
      "processors = \(TOMLText.processors(topology))",
      "memory = \(TOMLText.quote(ByteSize.format(memory)))",
      "accelerator = \(TOMLText.quote(accelerator.rawValue))",
    ]
    if processorModel != .host { lines.append("cpu = \(TOMLText.quote(processorModel.rawValue))") }
    if hasBalloon { lines.append("balloon = true") }
    if let target = memoryTarget {
      lines.append("memory-target = \(TOMLText.quote(ByteSize.format(target)))")
    }
    if !prefersHugePages { lines.append("huge-pages = false") }
    if allowsNesting { lines.append("nested = true") }
    if interruptChip != .kernel {
      lines.append("irqchip = \(TOMLText.quote(interruptChip.rawValue))")
    }
    if display != .none { lines.append("display = \(TOMLText.quote(display.rawValue))") }
    if serialPorts != [.console] {
      lines.append("serial = \(TOMLText.list(serialPorts.map(\.text)))")
    }
    if let opticalDrive { lines.append("cdrom = \(TOMLText.quote(opticalDrive.text))") }
    if !networks.isEmpty { lines.append("networks = \(TOMLText.list(networks.map(\.text)))") }
    if !shares.isEmpty { lines.append("shares = \(TOMLText.list(shares.map(\.text)))") }
    if let watchdog { lines.append("watchdog = \(TOMLText.quote(watchdog.rawValue))") }
    if let panicAction { lines.append("on-panic = \(TOMLText.quote(panicAction.rawValue))") }
    if opticalDriveBus != .virtio {
      lines.append("cdrom-bus = \(TOMLText.quote(opticalDriveBus.rawValue))")
    }
    if isTemplate { lines.append("template = true") }
    if let parent { lines.append("parent = \(TOMLText.quote(parent))") }
    if let uuid { lines.append("uuid = \(TOMLText.quote(uuid.description))") }
    if !notes.isEmpty { lines.append("notes = \(TOMLText.quote(notes))") }
    if !tags.isEmpty { lines.append("tags = \(TOMLText.list(tags))") }
    if let autosnap { lines.append("autosnap = \(TOMLText.quote(autosnap.text))") }
    if let owner { lines.append("owner = \(TOMLText.quote(owner))") }
    if let group { lines.append("group = \(TOMLText.quote(group))") }
    if let allowed = allowedInstanceSettings {
      lines.append("allow-instance = \(TOMLText.list(allowed.map(\.rawValue)))")
    }
    lines += ["", "[boot]", "order = \(TOMLText.list(bootOrder.map(\.rawValue)))"]
    if let firmware { lines.append("firmware = \(TOMLText.quote(firmware))") }
    if let kernel { lines.append("kernel = \(TOMLText.quote(kernel))") }
    if let initrd { lines.append("initrd = \(TOMLText.quote(initrd))") }
    if !commandLine.isEmpty { lines.append("append = \(TOMLText.quote(commandLine))") }
    if autostart != Autostart() {
      lines += [
        "", "[autostart]", "enabled = \(autostart.isEnabled)", "order = \(autostart.order)",
        "delay = \(autostart.delay)",
      ]
    }
    if let cloudInit { lines += [""] + cloudInit.lines }
    if let socketDevice { lines += [""] + socketDevice.lines }
    if let retention { lines += ["", "[keep]"] + retention.lines }
    for disk in disks {
      lines += ["", "[[disk]]", "name = \(TOMLText.quote(disk.name))"]
      if let path = disk.path { lines.append("path = \(TOMLText.quote(path))") }
      lines.append("format = \(TOMLText.quote(disk.format.rawValue))")
      if disk.isReadOnly { lines.append("read-only = true") }
      if !disk.backing.isEmpty { lines.append("backing = \(TOMLText.list(disk.backing))") }
      if disk.bus != .virtio { lines.append("bus = \(TOMLText.quote(disk.bus.rawValue))") }
      if !disk.serial.isEmpty { lines.append("serial = \(TOMLText.quote(disk.serial))") }
    }
    return lines.joined(separator: "\n") + "\n"
  }
}

/// Values as TOML writes them.
enum TOMLText {
  static func processors(_ topology: ProcessorTopology) -> String {
    if topology.sockets == 1, topology.threads == 1 { return "\(topology.cores)" }
    return "{ sockets = \(topology.sockets), cores = \(topology.cores), "
      + "threads = \(topology.threads) }"
  }

  static func quote(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      default:
        if scalar.value < 0x20 || scalar.value == 0x7F {
          let digits = String(scalar.value, radix: 16, uppercase: true)
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }

  static func list(_ values: [String]) -> String {
    "[" + values.map(quote).joined(separator: ", ") + "]"
  }
}
