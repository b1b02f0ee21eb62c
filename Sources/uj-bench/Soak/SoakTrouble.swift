import CLinux
import DiskImage
import Glibc
import Platform
import Synchronization

/// What the soak does to the host, and how it ends.
extension Soak {
  /// Takes all space of the file system for a while.
  func fillDisk() {
    count("full disk")
    isFull.store(true, ordering: .releasing)
    expectGaps()
    let path = "\(folder)/filler"
    if let file = try? FileDescriptor.open(path, O_CREAT | O_TRUNC | O_WRONLY, mode: 0o600) {
      var information = statvfs()
      var taken: off_t = 0
      for _ in 0..<5 where statvfs(folder, &information) == 0 {
        let free = off_t(information.f_bavail) * off_t(information.f_frsize)
        guard free > 0 else { break }
        if posix_fallocate(file.rawValue, taken, free) == 0 { taken += free }
      }
      usleep(UInt32(random(3...12)) * 1_000_000)
    }
    unlink(path)
    // Guests that were refused try again; verbs that were refused have said so by then.
    usleep(15_000_000)
    expectGaps()
    isFull.store(false, ordering: .releasing)
  }

  /// Logs on a full disk lack lines.
  private func expectGaps() {
    shared.withLock { shared in
      for name in shared.records.keys { shared.records[name]?.mayHaveGaps = true }
    }
  }

  /// Takes most of what memory is free for a moment.
  func pressMemory() {
    count("short memory")
    let size = available() / 10 * 7
    guard size > 0,
      let memory = mmap(
        nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      memory != MAP_FAILED
    else { return }
    var offset = 0
    while offset < size {
      memory.storeBytes(of: 1, toByteOffset: offset, as: UInt8.self)
      offset += 4096
    }
    usleep(2_000_000)
    munmap(memory, size)
  }

  private func available() -> Int {
    let text = (try? ChildProcess.run(["/bin/cat", "/proc/meminfo"]).output) ?? ""
    for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
      return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) << 10
    }
    return 0
  }

  /// Every machine once more, then nothing may run, be locked or be left over.
  func finish() {
    reap(limit: 0)
    let names = shared.withLock { $0.records.keys.sorted() }
    for name in names {
      follow(name)
      if !record(name, { $0.isRunning }) {
        record(name) { $0.expected = $0.present }
        if verb("start", name).succeeded { record(name) { $0.isRunning = true } }
      }
      waitForSign(name)
    }
    verb("stop", "-a", "-f", "-w")
    for name in names { follow(name) }
    checkImages()
    checkLeftovers()
    for name in names { verb("delete", "--yes", name) }
    verb("delete", "--yes", "soaked", "demo")
    let left = find("\(folder)/home/machines", ["-mindepth", "1"])
    if !left.isEmpty { fault("left over when all machines are deleted: \(left)") }
  }

  private func find(_ path: String, _ arguments: [String]) -> [String] {
    let output = (try? ChildProcess.run(["/usr/bin/find", path] + arguments).output) ?? ""
    return output.split(separator: "\n").map(String.init)
  }

  private func checkImages() {
    let images = find("\(folder)/home/machines", ["-name", "*.qcow2"])
    let peer = "/usr/bin/qemu-img"
    for image in images {
      // A host that was killed may leave clusters that take space for nothing; that is all it may leave.
      verb("disk", "check", "--repair", "leaks", image)
      verb("disk", "check", image)
      guard access(peer, X_OK) == 0 else { continue }
      let result = try? ChildProcess.run([peer, "check", "-q", image])
      if result?.status != 0 { fault("qemu-img check \(image): \(result?.output ?? "")") }
    }
    say("\(images.count) images checked")
  }

  private func checkLeftovers() {
    // A process of ours carries the folder in its environment or its arguments.
    for entry in find("/proc", ["-maxdepth", "1", "-regex", "/proc/[0-9]+"]) {
      guard let number = Int(entry.dropFirst(6)), number != Int(getpid()) else { continue }
      let text =
        (try? ChildProcess.run(["/bin/cat", "\(entry)/environ", "\(entry)/cmdline"]).output) ?? ""
      if text.contains(folder), text.contains("uj"),
        let name = try? ChildProcess.run(["/bin/cat", "\(entry)/comm"]).output,
        !name.hasPrefix("cat")
      {
        fault("process \(number) is left over: \(name)")
      }
    }
    let sockets = find("\(folder)/run", ["(", "-type", "s", "-o", "-type", "l", ")"])
    if !sockets.isEmpty { fault("left over in the runtime folder: \(sockets)") }
    let temporary = find("\(folder)/home/machines", ["-name", ".*", "-type", "f"])
    if !temporary.isEmpty { fault("temporary files are left over: \(temporary)") }
    let status = verb("status").output
    for word in ["running", "crashed", "paused"] where status.contains(word) {
      fault("after stop -a: \(status)")
    }
  }
}
