import ArgumentParser
import CLinux
import Glibc
import Platform

/// `uj-bench state`: whole machines saved while they run and restored, beside QEMU in the same run.
///
/// Both have the same guest (see `StateGuest`): most of its memory is written, so that nothing is saved by leaving zeros
/// out. The first dot after a restore is the sign that the guest executes. Times are whole commands', with the start of
/// the processes, and for QEMU without what its monitor takes to be reached. All three ways are done in turn in each round,
/// so that a busy host is busy for all; all end with the state on the disk. Figures of the issue are judged under each
/// guest's rows.
struct StateBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "state",
    abstract:
      "Saving and restoring machines with memory, beside QEMU's savevm, loadvm and migration to a file."
  )

  @Option(help: "Memory of the guests, separated by commas: 256M,1G; a number alone is MiB.")
  var sizes = "256M,1G,4G"
  @Option(help: "Who runs our guest: soft or kvm; QEMU's has TCG or kvm.") var accel = "soft"
  @Option(help: "Rounds; medians count.") var rounds = 3
  @Option(help: "Instances restored from one snapshot.") var instances = 10
  @Option(help: "Moves of a dirtying guest from one inventory to another and back; 0: none.")
  var moves = 20
  @Option(help: "Milliseconds for which it may stand still.") var downtime = 100
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")

  func validate() throws {
    guard rounds > 0, instances >= 0, !sizeList.isEmpty else {
      throw ValidationError("give sizes such as 256M,1G and at least one round")
    }
  }

  private var sizeList: [UInt64] {
    sizes.split(separator: ",").compactMap { (text) -> UInt64? in
      let number = text.last?.isLetter == true ? text.dropLast() : text
      guard let value = UInt64(number), value < 1 << 20 else { return nil }
      switch text.last?.uppercased() {
      case "G": return value * 1024
      case "M", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9": return value
      default: return nil
      }
    }.filter { $0 >= 96 }
  }

  func run() throws {
    print("saved states, \(accel), median of \(rounds); times in ms, sizes in MiB")
    print(
      "  memory guest    by                  pause    total  restore  on disk  increment: total  on disk"
    )
    for size in sizeList {
      for isDirtying in [false, true] {
        let folder = try temporaryFolder("state")
        defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
        let kernel = "\(folder)/kernel"
        try writeBytes(
          StateGuest.kernel(memory: size << 20, isDirtying: isDirtying), to: kernel)
        let label =
          "  \(column("\(size)M", 6)) \(column(isDirtying ? "dirtying" : "idle", 8, right: false))"
        var ours = StateFigures()
        // A number and an origin for each page.
        ours.overhead = (size << 20) / 4096 * 5
        var theirs: [QEMUState.Way: StateFigures] = [:]
        for _ in 0..<rounds {
          let machine = OwnState(uj, folder: folder, kernel: kernel, accel: accel, mebibytes: size)
          try machine.measure(&ours)
          guard access(QEMUState.program, X_OK) == 0 else { continue }
          for way in QEMUState.Way.allCases {
            let peer = QEMUState(
              folder: folder, kernel: kernel, accel: accel == "kvm" ? "kvm" : "tcg",
              mebibytes: size)
            try peer.measure(way, &theirs[way, default: StateFigures()])
          }
        }
        show(label, ours, theirs, isDirtying: isDirtying)
      }
      if instances > 0 { try measureInstances(size) }
      if moves > 0 { try measureMoves(size) }
    }
  }

  private func show(
    _ label: String, _ ours: StateFigures, _ theirs: [QEMUState.Way: StateFigures],
    isDirtying: Bool
  ) {
    print("\(label)  \(ours.row("uj"))")
    for way in QEMUState.Way.allCases {
      guard let figures = theirs[way] else {
        print("\(label)  qemu not installed (qemu-system-x86)")
        continue
      }
      print("\(label)  \(figures.row("qemu \(way.rawValue)"))")
      print("\(label)  \(ours.ratios(to: figures))")
      if !figures.unflushed.values.isEmpty {
        print("\(label)    (total without its flush \(decimal(figures.unflushed.median, 1)))")
      }
    }
    var goals = [
      Self.goal("pause < 50 ms", ours.pause.median < 50),
      Self.goal("restore < 30 ms", ours.restore.median < 30),
    ]
    for (way, figures) in theirs.sorted(by: { $0.key.rawValue > $1.key.rawValue }) {
      goals += [
        Self.goal("pause < 1/5 \(way.rawValue)", ours.pause.median < figures.pause.median / 5),
        Self.goal("total <= \(way.rawValue)", ours.total.median <= figures.total.median),
      ]
    }
    // An idle guest writes a few pages; the other one all of its window.
    let written = isDirtying ? Double(StateGuest.window >> 20) : 0
    let limit = written * 1.1 + Double(ours.overhead) / Double(1 << 20) + 1
    goals.append(
      Self.goal(
        "increment <= \(decimal(limit, 0)) MiB for \(decimal(written, 0)) written",
        ours.incrementSize.median <= limit))
    print("\(label)  goals: \(goals.joined(separator: ", "))")
    fflush(nil)
  }

  private static func goal(_ text: String, _ isMet: Bool) -> String {
    "\(text) \(isMet ? "yes" : "NO")"
  }

  private func measureMoves(_ size: UInt64) throws {
    let folder = try temporaryFolder("state")
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    let kernel = "\(folder)/kernel"
    try writeBytes(StateGuest.kernel(memory: size << 20, isDirtying: true), to: kernel)
    let (pause, total) = try OwnMoves(
      uj, folder: folder, kernel: kernel, accel: accel, mebibytes: size
    ).measure(moves, bound: downtime)
    print(
      "  \(column("\(size)M", 6)) \(moves) moves of a dirtying guest: stood still for "
        + "\(decimal(pause.median, 1)) ms, at most \(decimal(pause.values.max() ?? 0, 1)), "
        + "\(decimal(total.median, 0)) ms in all; "
        + Self.goal("always < 100 ms", (pause.values.max() ?? .infinity) < 100))
    fflush(nil)
  }

  /// The memory of several machines that go on from one snapshot, all reading all of their memory.
  private func measureInstances(_ size: UInt64) throws {
    let folder = try temporaryFolder("state")
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    let kernel = "\(folder)/kernel"
    try writeBytes(StateGuest.kernel(memory: size << 20, isDirtying: false), to: kernel)
    let machine = OwnState(uj, folder: folder, kernel: kernel, accel: accel, mebibytes: size)
    let (one, all) = try machine.instances(instances)
    let mebibyte = Double(1 << 20)
    print(
      "  \(column("\(size)M", 6)) \(instances) instances of one snapshot: \(decimal(all / mebibyte, 1)) MiB (Pss), "
        + "one alone \(decimal(one / mebibyte, 1)) MiB, ratio \(decimal(all / one)), "
        + Self.goal("< 1.5", all < 1.5 * one))
    fflush(nil)
  }
}

/// What was measured of one way of saving.
struct StateFigures {
  var pause = Measurement(name: "pause")
  var total = Measurement(name: "total")
  var restore = Measurement(name: "restore")
  var size = Measurement(name: "size")
  /// As `total`, of a peer that does not flush by itself.
  var unflushed = Measurement(name: "unflushed")
  /// Bytes that an increment says of pages, whichever have changed.
  var overhead: UInt64 = 0
  var incrementTotal = Measurement(name: "increment")
  var incrementSize = Measurement(name: "increment's size")

  func row(_ name: String) -> String {
    var text = column(name, 15, right: false)
    for value in [pause, total, restore, size] { text += column(decimal(value.median, 1), 9) }
    if !incrementTotal.values.isEmpty {
      text += column(decimal(incrementTotal.median, 1), 18)
      text += column(decimal(incrementSize.median, 1), 9)
    }
    return text
  }

  func ratios(to other: StateFigures) -> String {
    var text = column("  ratio", 15, right: false)
    for (mine, theirs) in [
      (pause, other.pause), (total, other.total), (restore, other.restore), (size, other.size),
    ] {
      text += column(decimal(mine.median / theirs.median, 3), 9)
    }
    return text
  }
}

/// Waits until `isDone` says so.
func waitUntil(seconds: UInt64, _ what: String, _ isDone: () throws -> Bool) throws {
  let limit = MonotonicClock.now + seconds * 1_000_000_000
  while try !isDone() {
    guard MonotonicClock.now < limit else { throw BenchmarkError("\(what): not in \(seconds) s") }
    usleep(200)
  }
}

/// Bytes that a file takes on the disk; 0 where it is not there.
func allocatedBytes(_ path: String) -> UInt64 {
  var information = stat()
  return stat(path, &information) == 0 ? UInt64(clamping: information.st_blocks) * 512 : 0
}

/// Bytes that a file has.
func fileSize(_ path: String) -> Int64 {
  var information = stat()
  return stat(path, &information) == 0 ? Int64(information.st_size) : 0
}
