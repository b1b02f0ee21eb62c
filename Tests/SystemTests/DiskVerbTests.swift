import Glibc
import Platform
import TestGuests
import Testing

/// `uj disk` as a program: exit statuses that are qemu-img's, JSON, progress, and what SIGINT leaves behind.
@Suite(
  .enabled(if: access(Underjack.program, X_OK) == 0, "uj is not built"),
  .enabled(
    if: access("/usr/bin/qemu-img", X_OK) == 0 && access("/usr/bin/python3", X_OK) == 0,
    "qemu-img or python3 is not installed"))
struct DiskVerbTests {
  /// Runs a line of a shell in the inventory's folder, with `$UJ`.
  @discardableResult
  private func script(_ uj: Underjack, _ line: String) throws -> ChildProcess.Result {
    var variables = uj.environment
    variables["UJ"] = Underjack.program
    return try TestProcess.run(
      ["/bin/bash", "-c", line], environment: variables, folder: uj.folder)
  }

  /// Images of every state: `clean`, `leak`, `corrupt`, `both` (.qcow2), `garbage.qcow2`, `a.raw`, `b.raw`, `longer.raw`.
  private func makeImages(_ uj: Underjack) throws {
    let made = try script(
      uj,
      """
      set -e
      qemu-img create -q -f qcow2 clean.qcow2 64M
      qemu-io -f qcow2 -c 'write -P 7 0 2M' clean.qcow2 > /dev/null
      truncate -s 8M clean.qcow2
      for name in leak corrupt both; do cp clean.qcow2 $name.qcow2; done
      # Refcount block at 128 KiB, 16 bits each: cluster 100 gets a count, cluster 6 loses its.
      for name in leak both; do
        printf '\\000\\001' | dd of=$name.qcow2 bs=1 seek=$((131072 + 200)) conv=notrunc status=none
      done
      for name in corrupt both; do
        printf '\\000\\000' | dd of=$name.qcow2 bs=1 seek=$((131072 + 12)) conv=notrunc status=none
      done
      head -c 70000 /dev/urandom > garbage.qcow2
      head -c 100000 /dev/urandom > a.raw
      cp a.raw b.raw; printf x >> b.raw; truncate -s 100352 a.raw b.raw
      cp a.raw longer.raw; truncate -s 200704 longer.raw
      """)
    #expect(made.status == 0, "\(made.output)")
  }

  @Test func exitStatusesAreQemus() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try makeImages(uj)
    func same(_ ours: String, _ theirs: String, _ status: Int32) throws {
      let our = try script(uj, "$UJ disk \(ours) > out 2>&1")
      let their = try script(uj, "qemu-img \(theirs) > out 2>&1")
      #expect(our.status == status && their.status == status, "\(ours): \(our), \(their)")
    }
    for (name, status) in [
      ("clean", Int32(0)), ("leak", 3), ("corrupt", 2), ("both", 2), ("garbage", 1), ("none", 1),
    ] {
      try same("check \(name).qcow2", "check -f qcow2 \(name).qcow2", status)
      try same("check --json \(name).qcow2", "check --output json -f qcow2 \(name).qcow2", status)
    }
    try same("check a.raw", "check -f raw a.raw", 63)
    for (mode, name, status) in [
      ("leaks", "leak", Int32(0)), ("all", "both", 0), ("all", "corrupt", 0),
    ] {
      try script(uj, "cp \(name).qcow2 1.qcow2; cp \(name).qcow2 2.qcow2")
      try same("check --repair \(mode) 1.qcow2", "check -f qcow2 -r \(mode) 2.qcow2", status)
    }
    try same("compare a.raw a.raw", "compare -f raw -F raw a.raw a.raw", 0)
    try same("compare a.raw b.raw", "compare -f raw -F raw a.raw b.raw", 1)
    try same("compare a.raw longer.raw", "compare -f raw -F raw a.raw longer.raw", 0)
    try same("compare --strict a.raw longer.raw", "compare -s -f raw -F raw a.raw longer.raw", 1)
    try same("compare a.raw none.raw", "compare -f raw -F raw a.raw none.raw", 2)
    try same("resize clean.qcow2 1m", "resize -f qcow2 clean.qcow2 1M", 1)
    try same("snapshot -a none clean.qcow2", "snapshot -a none clean.qcow2", 1)
    try same("convert none.raw qcow2:x", "convert -f raw -O qcow2 none.raw x", 1)
  }

  @Test func everyVerbSpeaksJSON() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try makeImages(uj)
    for line in [
      "create new.qcow2 16m", "create raw:new.raw 1m", "convert clean.qcow2 qcow2:copy",
      "info copy", "check clean.qcow2", "resize new.qcow2 32m", "snapshot -c one clean.qcow2",
      "snapshot clean.qcow2", "snapshot -d one clean.qcow2", "create -b clean.qcow2 top.qcow2",
      "rebase top.qcow2 -b clean.qcow2", "commit top.qcow2", "stream top.qcow2", "map clean.qcow2",
      "measure clean.qcow2", "compare clean.qcow2 top.qcow2", "bench -c 100 new.qcow2",
    ] {
      let result = try script(
        uj, "set -o pipefail; $UJ disk \(line) --json | python3 -m json.tool > /dev/null")
      #expect(result.status == 0, "\(line): \(result.output)")
    }
  }

  /// A conversion that takes seconds: a bar on the terminal, and after SIGINT neither a target nor anything temporary.
  @Test(
    .enabled(if: TerminalSession.missingTool == nil, "\(TerminalSession.missingTool ?? "")"),
    arguments: [
      "convert -c --threads 1 big.raw qcow2:target", "create --preallocation full target.qcow2 40g",
    ])
  func progressAndInterruption(_ line: String) throws {
    let uj = try Underjack()
    defer { uj.close() }
    try script(uj, "openssl rand 400000000 | base64 > big.raw || exit 1")
    let before = try script(uj, "ls -A . | grep -v x; cksum big.raw").output
    let session = try TerminalSession(
      "sh -c 'trap : INT; cd \(uj.folder) && \(Underjack.program) disk \(line); echo status $?'",
      environment: uj.environment)
    defer { session.close() }
    try session.wait("shows progress") { $0.contains("%") && $0.contains("/s") }
    try session.press("C-c")
    try session.wait(for: "status 130")
    #expect(try script(uj, "ls -A . | grep -v x; cksum big.raw").output == before)
  }
}
