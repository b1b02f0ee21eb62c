// A host process of a machine that does evil: it takes the machine's lock, enters the sandbox as `uj host` does, and then
// makes system calls from a thread of a chosen role. One line for each: its name, a tab, and what came of it.
//
// Only tests have it. usage: sandbox-probe HOME MACHINE OTHER ROLE ATTEMPT|refused

import CLinux
import Glibc
import Hosting
import Inventory
import Platform

func fail(_ text: String) -> Never {
  print("sandbox-probe: \(text)")
  exit(64)
}

let words = CommandLine.arguments
guard words.count == 6 else { fail("HOME MACHINE OTHER ROLE ATTEMPT") }
guard
  let role = ["control": ThreadRole.control, "processor": .processor, "device": .device][words[4]]
else { fail("no role \(words[4])") }
let attempts =
  words[5] == "refused" ? Attempts.refused : Attempts.lethal.filter { $0.name == words[5] }
if words[5] == "names" {
  for attempt in Attempts.lethal { print(attempt.name) }
  exit(0)
}
guard !attempts.isEmpty else { fail("no attempt \(words[5])") }

do {
  let location = InventoryLocation(home: words[1], runtime: words[1] + "/runtime")
  let inventory = Inventory(location: location, images: DiskImageStore())
  let (name, other) = (try MachineName(words[2]), try MachineName(words[3]))
  guard let disk = try inventory.resolvedDisks(name).first?.path,
    let otherDisk = try inventory.resolvedDisks(other).first?.path
  else { fail("the machines want a disk each") }
  let plan = try HostPlan(name, inventory)
  // A thread that is there already is confined too.
  let isWaiting = Monitor(true)
  let early = try PosixThread(name: "early") { _ = isWaiting.wait { $0 ? nil : true } }
  let targets = Targets(
    ownDisk: disk, ownLog: location.serialLog(name, port: 0), otherDisk: otherDisk,
    otherFolder: location.machine(other), parent: getppid(),
    terminal: linux_open("/dev/ptmx", O_RDWR | O_NOCTTY, 0))
  _ = try Sandbox.enter(plan, translates: false)
  let list = attempts
  let work: @Sendable () -> Void = {
    for attempt in list {
      let result = attempt.make(targets)
      let text = attempt.name + "\t" + (result < 0 ? "\(-result)" : "0") + "\n"
      _ = text.utf8CString.withUnsafeBytes { write(1, $0.baseAddress, $0.count - 1) }
    }
  }
  if role == .control {
    work()
  } else {
    try PosixThread(name: "evil", role: role, work).join()
  }
  isWaiting.update { $0 = false }
  early.join()
} catch {
  fail("\(error)")
}
