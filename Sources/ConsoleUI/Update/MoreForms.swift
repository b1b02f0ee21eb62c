// Forms that change what is there: a definition, the CD drive, images.

extension Model {
  /// - Parameter known: What the definition says, by the keys that `uj set` takes.
  func editForm(_ machine: String, _ known: [String: String]) -> Form {
    // What a definition does not say has a value all the same.
    let values = known.merging([
      "cpu": "host", "accelerator": "auto", "boot.order": "disk", "autostart.enabled": "false",
    ]) { known, _ in known }
    func text(_ key: String) -> Form.Content { .text(TextField(values[key] ?? "")) }
    func choice(_ key: String, _ words: [String]) -> Form.Content {
      let value = values[key] ?? words[0]
      let all = words.contains(value) ? words : words + [value]
      return .choice(all, all.firstIndex(of: value) ?? 0)
    }
    let isAlive = list.machine(machine)?.state.isAlive ?? false
    return Form(
      .edit(machine, values), title: "Edit \(machine)", verb: "Save",
      lines: isAlive ? ["It is running: changes count from its next start."] : [],
      fields: [
        .init(.memory, "Memory", text("memory"), hint: "such as 2G"),
        .init(.processors, "CPUs", text("processors"), hint: "1 to 64, or sockets=2,cores=2"),
        .init(
          .processorModel, "CPU model",
          choice("cpu", ["host", "x86-64-v1", "x86-64-v2", "x86-64-v3"])),
        .init(.accelerator, "Accelerator", choice("accelerator", ["auto", "kvm", "soft"])),
        .init(
          .bootOrder, "Boot from",
          choice("boot.order", ["disk", "cdrom,disk", "disk,cdrom", "cdrom", "net"])),
        .init(
          .disc, "CD", text("cdrom"), hint: "path, or empty for an empty drive", isPath: true),
        .init(.kernel, "Kernel", text("boot.kernel"), hint: "path", isPath: true),
        .init(.initrd, "Initrd", text("boot.initrd"), hint: "path", isPath: true),
        .init(.commandLine, "Arguments", text("boot.append"), hint: "of the kernel"),
        .init(
          .serial, "Serial ports", text("serial"), hint: "console, pty, none; with commas"),
        .init(.tags, "Tags", text("tags"), hint: "with commas"),
        .init(.notes, "Notes", text("notes")),
        .init(.autostart, "Autostart", .toggle(values["autostart.enabled"] == "true")),
      ])
  }

  private static let editKeys: [(Form.FieldName, String)] = [
    (.memory, "memory"), (.processors, "processors"), (.processorModel, "cpu"),
    (.accelerator, "accelerator"), (.bootOrder, "boot.order"), (.disc, "cdrom"),
    (.kernel, "boot.kernel"), (.initrd, "boot.initrd"), (.commandLine, "boot.append"),
    (.serial, "serial"), (.tags, "tags"), (.notes, "notes"),
  ]

  /// What was changed in the form. The definition's own reader has the last word on it.
  func changes(
    _ form: Form, _ machine: String, _ before: [String: String]
  ) -> Result<MachineRequest, FormProblem> {
    if Quantity.bytes(form.text(.memory)) == nil {
      return .failure(.init(.memory, "a size such as 512M or 2G"))
    }
    let processors = form.text(.processors)
    if let count = Int(processors), !(1...64).contains(count) {
      return .failure(.init(.processors, "a number from 1 to 64"))
    }
    var changes: [SettingChange] = []
    for (field, key) in Self.editKeys {
      let value = form.text(field)
      if value != before[key] ?? "" { changes.append(SettingChange(key, value)) }
    }
    let starts = form.isOn(.autostart)
    if starts != (before["autostart.enabled"] == "true") {
      changes.append(SettingChange("autostart.enabled", starts ? "true" : "false"))
    }
    guard !changes.isEmpty else { return .failure(.init(.memory, "nothing was changed")) }
    return .success(.change(machine, changes))
  }

  func discForm(_ machine: MachineSummary) -> Form {
    var fields: [Form.Field] = [
      .init(.disc, "Disc image", .text(TextField()), hint: "path; Tab completes", isPath: true)
    ]
    if machine.state.isAlive {
      fields.append(.init(.force, "By force", .toggle(false), hint: "also when it is locked"))
    }
    return Form(
      .insertDisc(machine.name), title: "Insert a disc into \(machine.name)", verb: "Insert",
      lines: machine.state.isAlive
        ? [] : ["The definition is changed: the disc is in the drive at the next start."],
      fields: fields)
  }

  func path(_ form: Form, _ field: Form.FieldName) -> Result<String, FormProblem> {
    let path = form.text(field)
    if path.isEmpty { return .failure(.init(field, "the path of a file is needed")) }
    return .success(path)
  }

  // MARK: Images

  func newImageForm() -> Form {
    let folder = host.map { $0.home.isEmpty ? "" : $0.home + "/images/" } ?? ""
    return Form(
      .newImage, title: "New image", verb: "Make",
      lines: ["The ending says the format: .qcow2 grows as it is filled, others are raw."],
      fields: [
        .init(.path, "File", .text(TextField(folder + "disk.qcow2")), isPath: true),
        .init(.size, "Size", .text(TextField("8G", proposal: true)), hint: "such as 8G"),
      ])
  }

  func convertImageForm(_ image: ImageStatus) -> Form {
    let isRaw = image.format == "raw"
    let stem = image.path.lastIndex(of: ".").map { String(image.path[..<$0]) } ?? image.path
    return Form(
      .convertImage(image.path), title: "Convert \(image.name)", verb: "Convert",
      lines: [
        "Its content goes into a new image; the old one stays as it is.",
        "The ending says the format: .qcow2, or raw.",
      ],
      fields: [
        .init(.target, "To", .text(TextField(stem + (isRaw ? ".qcow2" : ".raw"))), isPath: true),
        .init(.compress, "Compress", .toggle(false), hint: "qcow2 only"),
      ])
  }

  func resizeImageForm(_ image: ImageStatus) -> Form {
    Form(
      .resizeImage(image), title: "Size of \(image.name)", verb: "Resize",
      lines: [
        "It is \(Quantity.short(image.virtualSize)) now. The guest has to grow its file system."
      ],
      fields: [
        .init(.size, "New size", .text(TextField()), hint: "such as 20G, or +5G"),
        .init(.force, "May shrink", .toggle(false), hint: "what is beyond the end is lost"),
      ])
  }

  func imageAnswer(to form: Form) -> Result<MachineRequest, FormProblem> {
    switch form.purpose {
    case .newImage:
      guard let size = Quantity.bytes(form.text(.size)) else {
        return .failure(.init(.size, "a size such as 8G"))
      }
      return path(form, .path).map { .createImage(path: $0, size: size) }
    case .convertImage(let source):
      return path(form, .target).flatMap { target in
        if target == source { return .failure(.init(.target, "that is the image itself")) }
        if form.isOn(.compress), !target.hasSuffix(".qcow2") {
          return .failure(.init(.compress, "a raw image can not be compressed"))
        }
        return .success(.convertImage(source, to: target, compress: form.isOn(.compress)))
      }
    case .resizeImage(let image):
      let text = form.text(.size)
      let isMore = text.hasPrefix("+")
      guard let given = Quantity.bytes(isMore ? String(text.dropFirst()) : text) else {
        return .failure(.init(.size, "a size such as 20G, or +5G"))
      }
      let (sum, overflow) = image.virtualSize.addingReportingOverflow(given)
      if isMore, overflow { return .failure(.init(.size, "too large")) }
      let size = isMore ? sum : given
      if size < image.virtualSize, !form.isOn(.force) {
        return .failure(.init(.size, "smaller than it is; allow that below"))
      }
      return .success(.resizeImage(image.path, size: size, shrink: form.isOn(.force)))
    default: return .failure(.init(.path, "this form is of another kind"))
    }
  }
}
