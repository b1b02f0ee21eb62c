import ArgumentParser
import CLinux
import DeviceFuzzing
import Glibc
import Hosting
import Platform
import Synchronization

/// `uj-bench soak`: many machines, and everything done to them at random for a long time.
struct SoakBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "soak",
    abstract: "Many machines and random actions for a long time; nothing may be lost or left over.",
    discussion: """
      Guests count, and keep their count on their disks and in their memory, so that whatever is done to a machine \
      can be seen in what its guest goes on with. Done at random, with the seed: start, stop, kill -9 of hosts, \
      suspend, snapshots with and without memory, roll back, forward, delete, branches, consoles that read, stop or \
      die, a full disk, a host short of memory. At the end every image must check clean, and no process, lock, \
      socket, file or mount may be left over.

      Needs Debian's package archive once, and root for the small file system that runs full.
      """)

  @Option(help: "Machines.") var machines = 20
  @Option(help: "How long, in minutes.") var minutes = 60.0
  @Option(help: "Seed of everything random.") var seed: UInt64 = 1
  @Option(help: "Actions at the same time.") var workers = 3
  @Option(help: "Size in MiB of the file system that runs full.") var size = 6000
  @Option(help: "Path of uj; by default the one beside this program.") var uj = besideThisProgram(
    "uj")

  func run() throws {
    let folder = try temporaryFolder("soak")
    defer { _ = try? ChildProcess.run(["/bin/rm", "-rf", "--", folder]) }
    let hasMount = (try? mount(folder)) ?? false
    defer { if hasMount { _ = try? ChildProcess.run(["/bin/umount", "-l", folder]) } }
    if !hasMount { say("no file system of our own could be mounted: the disk will not run full") }
    let soak = Soak(uj: uj, folder: folder, seed: seed)
    try makeMachines(soak)
    say("soak: \(machines) machines, \(decimal(minutes, 1)) minutes, seed \(seed)")

    let end = MonotonicClock.now + UInt64(minutes * 60e9)
    var threads: [PosixThread] = []
    for number in 0..<workers {
      threads.append(
        try PosixThread(name: "worker \(number)") {
          while MonotonicClock.now < end {
            guard let name = soak.take() else {
              usleep(100_000)
              continue
            }
            soak.act(on: name)
            soak.release(name)
          }
        })
    }
    threads.append(
      try PosixThread(name: "trouble") {
        var turn = 0
        while MonotonicClock.now + 30_000_000_000 < end {
          usleep(UInt32(soak.random(20...60)) * 1_000_000)
          if turn % 2 == 0, hasMount { soak.fillDisk() } else { soak.pressMemory() }
          turn += 1
        }
      })
    var last = MonotonicClock.now
    while MonotonicClock.now < end {
      usleep(1_000_000)
      if MonotonicClock.now - last > 60_000_000_000 {
        last = MonotonicClock.now
        report(soak, "so far")
      }
    }
    for thread in threads { thread.join() }
    soak.finish()
    report(soak, "done")
    let faults = soak.shared.withLock { $0.faults }
    guard faults.isEmpty else {
      for text in faults { say("FAULT \(text)") }
      throw BenchmarkError("\(faults.count) faults with seed \(seed)")
    }
    say("no fault: \(machines) machines, \(decimal(minutes, 1)) minutes, seed \(seed)")
  }

  private func mount(_ folder: String) throws -> Bool {
    try ChildProcess.run([
      "/bin/mount", "-t", "tmpfs", "-o", "size=\(size)m,mode=0700", "uj-soak", folder,
    ]).status == 0
  }

  private func makeMachines(_ soak: Soak) throws {
    func command(_ arguments: String...) throws {
      let result = try ChildProcess.run([uj] + arguments, environment: soak.environment)
      guard result.status == 0 else { throw BenchmarkError(result.output) }
    }
    try command("demo", "--no-console")
    try command("stop", "-f", "-w", "demo1")
    try command("delete", "--yes", "demo1")
    let images = "\(soak.folder)/home/images"
    let initrd = "\(soak.folder)/initrd"
    let tail = "\(soak.folder)/tail"
    try writeBytes(SoakGuest.archive, to: tail)
    _ = try ChildProcess.run([
      "/bin/sh", "-c", "cat '\(images)/demo-initrd' '\(tail)' > '\(initrd)'",
    ])
    try command(
      "new", "soaked", "--template", "--memory", "96M", "--accel", "soft", "--kernel",
      "\(images)/demo-vmlinuz", "--initrd", initrd, "--append", "console=ttyS0 quiet", "--disk",
      "64M")
    for number in 1...machines {
      try command("clone", "soaked", "m\(number)")
      soak.record("m\(number)") { $0.expected = 0...0 }
    }
  }

  private func report(_ soak: Soak, _ title: String) {
    let (done, faults, counts) = soak.shared.withLock { shared in
      (shared.done, shared.faults.count, shared.records.values.reduce(0) { $0 + $1.signs })
    }
    let list = done.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
    say("\(title): \(faults) faults, \(counts) signs of guests; \(list.joined(separator: ", "))")
  }
}
