// The forms: what they ask, what they propose, and what their answers are turned into.

extension Model {
  func newMachineForm() -> Form {
    Form(
      .newMachine, title: "New machine", verb: "Create",
      fields: [
        .init(
          .name, "Name", .text(TextField(freeName(like: "machine"), proposal: true)),
          hint: "letters, digits, - _ and ."),
        .init(.memory, "Memory", .text(TextField("512M", proposal: true)), hint: "such as 2G"),
        .init(.processors, "CPUs", .text(TextField("1", proposal: true)), hint: "1 to 64"),
        .init(
          .disk, "Disk", .text(TextField("8G", proposal: true)),
          hint: "a size for a new one, or the path of an image", isPath: true),
        .init(
          .disc, "CD", .text(TextField()), hint: "path of a disc image to boot first",
          isPath: true),
        .init(
          .kernel, "Kernel", .text(TextField()), hint: "path, instead of booting the disk",
          isPath: true),
        .init(.initrd, "Initrd", .text(TextField()), hint: "path, for the kernel", isPath: true),
        .init(.commandLine, "Arguments", .text(TextField()), hint: "of the kernel"),
      ])
  }

  func templateForm(_ template: String) -> Form {
    Form(
      .newFromTemplate, title: "New machine from \(template)", verb: "Make",
      lines: ["Its disks grow from the template's: nothing is copied."],
      fields: [
        .init(
          .name, "Name", .text(TextField(freeName(like: template), proposal: true)),
          hint: "letters, digits, - _ and ."),
        .init(
          .template, "Template",
          .choice(list.templates, list.templates.firstIndex(of: template) ?? 0)),
        .init(.start, "Start it", .toggle(false)),
      ])
  }

  func renameForm(_ machine: MachineSummary) -> Form {
    Form(
      .rename(machine.name), title: "Rename \(machine.name)", verb: "Rename",
      fields: [.init(.name, "Name", .text(TextField(machine.name, proposal: true)))])
  }

  func deleteForm(_ machine: MachineSummary) -> Form {
    var lines = ["This is lost for good:"]
    for disk in machine.disks {
      lines.append(
        "  \(glyphs.bullet) disk \(disk.name), \(Quantity.short(disk.allocatedSize)) in"
          + " \(disk.layers) layer\(disk.layers == 1 ? "" : "s")")
    }
    if machine.snapshotCount > 0 {
      lines.append("  \(glyphs.bullet) \(machine.snapshotCount) snapshots")
    }
    lines.append("  \(glyphs.bullet) its definition and its logs")
    if let parent = machine.parent { lines.append("The template \(parent) stays as it is.") }
    let typesName = configuration.questions.contains(.typeName)
    if typesName { lines += ["", "Type the machine's name to delete it."] }
    var form = Form(
      .delete(machine.name), title: "Delete \(machine.name)?", verb: "Delete", lines: lines,
      fields: typesName
        ? [.init(.confirmation, "Name", .text(TextField()))]
        : [.init(.confirmation, "Delete it", .toggle(false))])
    form.isDangerous = true
    return form
  }

  func snapshotForm(_ machine: MachineSummary) -> Form {
    var fields: [Form.Field] = [
      .init(
        .title, "Title",
        .text(TextField("snapshot-\(machine.snapshotCount + 1)", proposal: true)))
    ]
    if capabilities.contains(.memorySnapshots),
      machine.state == .running || machine.state == .paused
    {
      fields.append(.init(.withMemory, "Memory too", .toggle(false), hint: "RAM and devices"))
    }
    return Form(
      .takeSnapshot(machine.name), title: "Take a snapshot of \(machine.name)", verb: "Take",
      fields: fields)
  }

  func branchForm(_ machine: MachineSummary, _ snapshot: SnapshotStatus) -> Form {
    Form(
      .branch(machine: machine.name, snapshot: snapshot.identifier),
      title: "New machine from '\(snapshot.title)'", verb: "Make",
      lines: ["Its disks grow from the snapshot: nothing is copied."],
      fields: [
        .init(.name, "Name", .text(TextField(freeName(like: machine.name), proposal: true)))
      ])
  }

  func renameSnapshotForm(_ machine: MachineSummary, _ snapshot: SnapshotStatus) -> Form {
    Form(
      .renameSnapshot(machine: machine.name, snapshot: snapshot.identifier),
      title: "Rename snapshot", verb: "Rename",
      fields: [.init(.title, "Title", .text(TextField(snapshot.title, proposal: true)))])
  }

  /// `base-1`, or the first number after it that no machine has.
  func freeName(like base: String) -> String {
    let names = Set(list.machines.map(\.name))
    var number = 1
    while names.contains("\(base)-\(number)"), number < 100_000 { number += 1 }
    return "\(base)-\(number)"
  }

  // MARK: Answers

  /// The request that a form stands for, or what is wrong with which field.
  func answer(to form: Form) -> Result<MachineRequest, FormProblem> {
    switch form.purpose {
    case .newMachine: return newMachine(form)
    case .newFromTemplate:
      return newName(form).map {
        .createFromTemplate(
          template: form.text(.template), name: $0, start: form.isOn(.start))
      }
    case .rename(let old):
      if form.text(.name) == old { return .failure(.init(.name, "that is its name")) }
      return newName(form).map { .rename(old, to: $0) }
    case .branch(let machine, let snapshot):
      return newName(form).map { .branch(machine, snapshot: snapshot, name: $0) }
    case .takeSnapshot(let machine):
      // What was only proposed may be taken already: the service makes up a title then.
      if form.isProposal(.title) {
        return .success(.takeSnapshot(machine, title: "", memory: form.isOn(.withMemory)))
      }
      return title(form).map {
        .takeSnapshot(machine, title: $0, memory: form.isOn(.withMemory))
      }
    case .renameSnapshot(let machine, let snapshot):
      return title(form).map { .renameSnapshot(machine, snapshot: snapshot, title: $0) }
    case .delete(let machine):
      if configuration.questions.contains(.typeName) {
        guard form.text(.confirmation) == machine else {
          return .failure(.init(.confirmation, "type: \(machine)"))
        }
      } else if !form.isOn(.confirmation) {
        return .failure(.init(.confirmation, "Space says yes"))
      }
      return .success(.delete(machine))
    case .edit(let machine, let before): return changes(form, machine, before)
    case .insertDisc(let machine):
      return path(form, .disc).map {
        .insertDisc(machine, path: $0, force: form.isOn(.force))
      }
    case .newImage, .convertImage, .resizeImage: return imageAnswer(to: form)
    }
  }

  private func newMachine(_ form: Form) -> Result<MachineRequest, FormProblem> {
    let name: String
    switch newName(form) {
    case .success(let text): name = text
    case .failure(let problem): return .failure(problem)
    }
    guard let memory = Quantity.bytes(form.text(.memory)), memory >= 1 << 20 else {
      return .failure(.init(.memory, "a size such as 512M or 2G"))
    }
    guard let processors = Int(form.text(.processors)), (1...64).contains(processors) else {
      return .failure(.init(.processors, "a number from 1 to 64"))
    }
    var specification = MachineSpecification(
      name: name, processors: processors, memory: memory)
    let disk = form.text(.disk)
    if disk.contains("/") {
      specification.image = disk
    } else if !disk.isEmpty {
      guard let size = Quantity.bytes(disk) else {
        return .failure(.init(.disk, "a size such as 8G, or a path with a slash"))
      }
      specification.newDiskSize = size
    }
    let kernel = form.text(.kernel)
    let commandLine = form.text(.commandLine)
    let (initrd, disc) = (form.text(.initrd), form.text(.disc))
    if kernel.isEmpty, !commandLine.isEmpty || !initrd.isEmpty {
      return .failure(.init(.kernel, "arguments and initrd need a kernel"))
    }
    if kernel.isEmpty, disk.isEmpty, disc.isEmpty {
      return .failure(.init(.disk, "a disk, a CD or a kernel is needed"))
    }
    specification.disc = disc.isEmpty ? nil : disc
    specification.initrd = initrd.isEmpty ? nil : initrd
    specification.kernel = kernel.isEmpty ? nil : kernel
    specification.commandLine = commandLine.isEmpty ? nil : commandLine
    return .success(.create(specification))
  }

  func newName(_ form: Form) -> Result<String, FormProblem> {
    let name = form.text(.name)
    guard let first = name.unicodeScalars.first else {
      return .failure(.init(.name, "a name is needed"))
    }
    let isPlain = name.utf8.allSatisfy { byte in
      (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
        || (0x61...0x7A).contains(byte) || [0x2D, 0x2E, 0x5F].contains(byte)
    }
    guard isPlain else { return .failure(.init(.name, "only letters, digits, - _ and .")) }
    guard first != "-", first != "." else {
      return .failure(.init(.name, "begins with a letter or digit"))
    }
    guard name.utf8.count <= 63 else { return .failure(.init(.name, "at most 63 characters")) }
    guard list.machine(name) == nil else { return .failure(.init(.name, "exists already")) }
    return .success(name)
  }

  private func title(_ form: Form) -> Result<String, FormProblem> {
    let title = form.text(.title)
    if title.allSatisfy({ $0 == " " }) { return .failure(.init(.title, "a title is needed")) }
    return .success(title)
  }
}

/// What is wrong with a field of a form.
struct FormProblem: Error {
  var field: Form.FieldName
  var text: String
  init(_ field: Form.FieldName, _ text: String) {
    self.field = field
    self.text = text
  }
}
